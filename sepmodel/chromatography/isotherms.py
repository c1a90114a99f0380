"""How much a resin holds at equilibrium with the liquid beside it: q(c) and its slopes.

Every law is a frozen dataclass with ``loading(conc)``, q [mol per m3 of solid] of shape (..., C),
and ``slopes(conc)``, dq_i/dc_j of shape (..., C, C). Leading axes are points, beds or batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sepmodel.errors import ConvergenceError, Trace

Array = NDArray[np.float64]

_TOLERANCE = 1e-14
_ITERATIONS = 100


class Isotherm(Protocol):
    """A law of binding."""

    def loading(self, conc: Array) -> Array:
        """q (..., C) at ``conc`` (..., C) [mol/m3]."""
        ...

    def slopes(self, conc: Array) -> Array:
        """dq_i/dc_j (..., C, C) at ``conc``."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Linear:
    """q_i = K_i c_i with ``coefficient`` K (C,) [m3 liquid per m3 solid].

    >>> Linear(coefficient=np.array([2.5])).loading(np.array([2.0])).tolist()
    [5.0]
    """

    coefficient: Array

    def loading(self, conc: Array) -> Array:
        """See ``Isotherm``."""
        return conc * self.coefficient

    def slopes(self, conc: Array) -> Array:
        """See ``Isotherm``."""
        return np.broadcast_to(np.diag(self.coefficient), (*conc.shape, conc.shape[-1]))


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Langmuir:
    """q_i = Q_i K_i c_i / (1 + sum_j K_j c_j).

    ``constant`` K (C,) [m3/mol], ``capacity`` Q (C,) [mol/m3 solid].

    >>> law = Langmuir(constant=np.array([0.1]), capacity=np.array([400.0]))
    >>> law.loading(np.array([10.0])).tolist()
    [200.0]
    """

    constant: Array
    capacity: Array

    def loading(self, conc: Array) -> Array:
        """See ``Isotherm``."""
        return conc * (self.constant * self.capacity) / (1 + conc @ self.constant)[..., None]

    def slopes(self, conc: Array) -> Array:
        """See ``Isotherm``."""
        free = self.constant / (1 + conc @ self.constant)[..., None]
        each = self.capacity * free
        return _diagonal(-(each * conc)[..., :, None] * free[..., None, :], each)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ModulatorLangmuir:
    """Langmuir's law whose constants follow an unbound modulator, component 0.

    K_i = K_i0 exp(gamma_i c_0) c_0^(-beta_i), q_0 = 0; ``constant`` K_i0 [m3/mol at 1 mol/m3],
    ``capacity`` [mol/m3 solid], ``gamma`` [m3/mol] and ``beta``, shape (C,), entry 0 unused.

    >>> law = ModulatorLangmuir(
    ...     constant=np.array([0.0, 4.0]), capacity=np.array([0.0, 10.0]),
    ...     gamma=np.zeros(2), beta=np.array([0.0, 2.0]),
    ... )
    >>> law.loading(np.array([2.0, 1.0])).tolist()
    [0.0, 5.0]
    """

    constant: Array
    capacity: Array
    gamma: Array
    beta: Array

    def _free(self, conc: Array) -> Array:
        """K_i / (1 + sum K_j c_j)."""
        modulator = conc[..., :1]
        with np.errstate(invalid="ignore", divide="ignore"):
            strength = np.exp(self.gamma * modulator - self.beta * np.log(modulator))
        k = np.concatenate([np.zeros_like(modulator), (self.constant * strength)[..., 1:]], -1)
        return np.asarray(k / (1 + (k * conc).sum(axis=-1, keepdims=True)))

    def loading(self, conc: Array) -> Array:
        """See ``Isotherm``; NaN where the modulator is zero or less."""
        return self.capacity * conc * self._free(conc)

    def slopes(self, conc: Array) -> Array:
        """See ``Isotherm``."""
        free = self._free(conc)
        q = self.capacity * conc * free
        slope = _diagonal(-q[..., :, None] * free[..., None, :], self.capacity * free)
        log_slope = self.gamma - self.beta / conc[..., :1]
        log_slope[..., 0] = 0.0
        shift = (conc * free * log_slope).sum(axis=-1, keepdims=True)
        slope[..., :, 0] = q * (log_slope - shift)
        slope[..., 0, :] = 0.0
        return slope


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class StericMassAction:
    """Ion exchange with steric hindrance: component 0 is the salt ion that is always displaced.

    q_i (c_0/s)^nu_i = K_i c_i,  s = Q - sum_j (nu_j + sigma_j) q_j,  q_0 = Q - sum_j nu_j q_j

    ``constant`` K, ``charge`` nu, ``shield`` sigma (C,), entry 0 unused; ``capacity`` Q
    [mol/m3 solid]. With sigma = 0 this is stoichiometric ion exchange with an electroneutral resin.

    >>> law = StericMassAction(
    ...     constant=np.array([0.0, 1.0]), charge=np.array([1.0, 1.0]),
    ...     shield=np.zeros(2), capacity=100.0,
    ... )
    >>> law.loading(np.array([30.0, 10.0])).round(9).tolist()
    [75.0, 25.0]
    """

    constant: Array
    charge: Array
    shield: Array
    capacity: float

    def _bound(self, conc: Array) -> tuple[Array, Array]:
        """Free sites s (..., 1) and q of the exchanged ions (..., C - 1)."""
        salt, nu = conc[..., :1], self.charge[1:]
        big = nu + self.shield[1:]
        with np.errstate(invalid="ignore", divide="ignore"):
            weight = self.constant[1:] * conc[..., 1:] * np.exp(-nu * np.log(salt))
        s = np.full(salt.shape, self.capacity)
        step = np.full(salt.shape, np.inf)
        for _ in range(_ITERATIONS if np.all(np.isfinite(weight)) else 0):
            q = weight * s**nu
            value = s + (big * q).sum(axis=-1, keepdims=True) - self.capacity
            step = value * s / (s + (big * nu * q).sum(axis=-1, keepdims=True))
            s = np.maximum(s - step, s / 10)
            if np.all(np.abs(step) <= _TOLERANCE * s):
                return s, weight * s**nu
        raise ConvergenceError(
            "steric mass action did not settle",
            trace=Trace(
                equation="free sites",
                history=(float(np.abs(step).max()),),
                advice="the salt must stay above zero everywhere in the column",
            ),
        )

    def loading(self, conc: Array) -> Array:
        """See ``Isotherm``; one increasing equation per point, by Newton's method from above.

        Raises
        ------
        ConvergenceError
            when a point does not settle (a salt of zero or less).
        """
        _, q = self._bound(conc)
        held = self.capacity - (self.charge[1:] * q).sum(axis=-1, keepdims=True)
        return np.concatenate([held, q], axis=-1)

    def slopes(self, conc: Array) -> Array:
        """See ``Isotherm``.

        d ln s = -sum (nu + sigma)_j q_j (d ln c_j - nu_j d ln c_0) / (s + sum (nu + sigma) nu q).
        """
        s, q = self._bound(conc)
        salt, nu = conc[..., :1], self.charge[1:]
        big = nu + self.shield[1:]
        bottom = s + (big * nu * q).sum(axis=-1, keepdims=True)
        each = self.constant[1:] * (s / salt) ** nu
        by_salt = (big * nu * q).sum(axis=-1, keepdims=True) / salt
        log_s = np.concatenate([by_salt, -big * each], axis=-1) / bottom
        slope = np.zeros((*conc.shape, conc.shape[-1]))
        slope[..., 1:, :] = (nu * q)[..., :, None] * log_s[..., None, :]
        index = np.arange(1, conc.shape[-1])
        slope[..., index, index] += each
        slope[..., 1:, 0] -= nu * q / salt
        slope[..., 0, :] = -np.einsum("j,...jk->...k", nu, slope[..., 1:, :])
        return slope


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ConstantSelectivity:
    """Exchange on a full resin: q_i = Q a_i c_i / sum_j a_j c_j.

    ``selectivity`` a (C,) on any scale, ``capacity`` Q [mol/m3 solid]. The law of ligand-assisted
    displacement where every metal is held by an excess of one strong ligand.

    >>> law = ConstantSelectivity(selectivity=np.array([1.0, 3.0]), capacity=100.0)
    >>> law.loading(np.array([1.0, 1.0])).tolist()
    [25.0, 75.0]
    """

    selectivity: Array
    capacity: float

    def loading(self, conc: Array) -> Array:
        """See ``Isotherm``; the sum of a c must not vanish."""
        total = (conc @ self.selectivity)[..., None]
        return np.asarray(self.capacity * self.selectivity * conc / total)

    def slopes(self, conc: Array) -> Array:
        """See ``Isotherm``."""
        per = self.selectivity / (conc @ self.selectivity)[..., None]
        share = self.capacity * per * conc
        return _diagonal(-share[..., :, None] * per[..., None, :], self.capacity * per)


def _diagonal(matrix: Array, added: Array) -> Array:
    """``matrix`` (..., C, C) with ``added`` (..., C) on its diagonal, in place."""
    index = np.arange(added.shape[-1])
    matrix[..., index, index] += added
    return matrix
