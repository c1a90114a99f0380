"""Activity coefficients of ions in water: ideal, Davies, SIT and Pitzer, one method each.

A model is made for a fixed list of ions (``activity.build``) and answers one question: the natural
logarithms of the molal activity coefficients at given molalities, ``ln_gamma(molality)`` with ions
on the last axis. The name of the model is the *basis* of every constant fitted with it; a constant
of one basis says nothing in another (between ideal and Pitzer a PC88A constant moves by 0.9 to 1.4
decades).

Molalities follow from concentrations by the mass of water alone, m = c / rho_water: the volume the
salt takes up is neglected (below 3 % in the molality up to 2 mol/L).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.species import CHARGES, RARE_EARTHS

Array = NDArray[np.float64]
SETS = {
    "davies": "activity/davies-25C",
    "sit": "activity/sit-25C",
    "pitzer": "activity/pitzer-25C",
}
WATER = "activity/water-25C:density"
_TINY = 1e-30
_COMPLEX_STEP = 1e-30
# Chebyshev interpolation of ln J over ln x: ends of the interval and degree.
_J_RANGE = (1e-8, 1e5)
_J_DEGREE = 64
# Pieces of that interval, and the degree in each, that reproduce it to rounding.
_J_PIECES, _J_PIECE_DEGREE = 256, 6


class ActivityModel(Protocol):
    """What the equilibrium kernels ask of an activity model."""

    @property
    def name(self) -> str:
        """The activity basis: ideal, davies, sit or pitzer."""
        ...

    @property
    def ions(self) -> tuple[str, ...]:
        """Order of the ions on the last axis."""
        ...

    @property
    def water(self) -> float:
        """Density of the water [kg/m3] that turns concentrations into molalities."""
        ...

    @property
    def limit(self) -> float:
        """Highest ionic strength [mol/kg] the model answers for."""
        ...

    def ln_gamma(self, molality: Array) -> Array:
        """ln of the molal activity coefficients, shape (..., S), at molalities [mol/kg]."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Ideal:
    """Every activity coefficient is one: activities are concentrations over 1 mol/L."""

    ions: tuple[str, ...]
    water: float
    limit: float = np.inf
    name: str = "ideal"

    def ln_gamma(self, molality: Array) -> Array:
        """Zero, of the shape of ``molality``."""
        return np.zeros_like(molality)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Davies:
    """Davies' equation; refuses ionic strengths beyond ``limit``.

    ln gamma_i = -a z_i^2 [sqrt(I) / (1 + sqrt(I)) - slope I]
    """

    ions: tuple[str, ...]
    charges: Array
    a: float
    slope: float
    water: float
    limit: float
    name: str = "davies"

    def ln_gamma(self, molality: Array) -> Array:
        """ln gamma, shape (..., S); InputError beyond ``limit``."""
        strength = _checked_strength(self, molality)
        root = np.sqrt(strength)
        result: Array = -self.a * self.charges**2 * (root / (1 + root) - self.slope * strength)
        return result


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Sit:
    """Specific ion interaction theory (Bronsted, Guggenheim, Scatchard).

    ln gamma_i = -a z_i^2 sqrt(I) / (1 + ba sqrt(I)) + sum_j epsilon_ij m_j; epsilon in ln units.
    """

    ions: tuple[str, ...]
    charges: Array
    a: float
    ba: float
    epsilon: Array
    water: float
    limit: float
    name: str = "sit"

    def ln_gamma(self, molality: Array) -> Array:
        """ln gamma, shape (..., S); InputError beyond ``limit``."""
        root = np.sqrt(_checked_strength(self, molality))
        result: Array = -self.a * self.charges**2 * root / (1 + self.ba * root)
        return result + molality @ self.epsilon


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Pitzer:
    """Pitzer's equations with the higher-order electrostatic terms of unlike charges.

    Matrices are symmetric over all ions: ``beta0, beta1, c`` [kg/mol, kg/mol, kg2/mol2] are nonzero
    for a cation with an anion (c = Cphi / (2 sqrt|z z'|)), ``theta`` for ions of like sign, ``psi``
    for triples that hold both signs.
    """

    ions: tuple[str, ...]
    charges: Array
    a_phi: float
    b: float
    alpha: float
    beta0: Array
    beta1: Array
    c: Array
    theta: Array
    psi: Array
    water: float
    limit: float
    electrostatic: bool = True
    name: str = "pitzer"

    def ln_gamma(self, molality: Array) -> Array:
        """ln gamma, shape (..., S); InputError beyond ``limit``."""
        return pitzer_ln_gamma(self, molality, _checked_strength(self, molality))


def ionic_strength(molality: Array, charges: Array) -> Array:
    """Ionic strength sum(m z^2) / 2 [mol/kg], shape (..., 1).

    >>> float(ionic_strength(np.array([0.1, 0.3]), np.array([3.0, -1.0]))[0])
    0.6
    """
    strength: Array = molality @ (charges**2 / 2)[:, None]
    return strength


def _checked_strength(model: Any, molality: Array) -> Array:
    """The ionic strength, never exactly zero; InputError beyond the model's limit."""
    strength = ionic_strength(molality, model.charges)
    worst = float(np.max(strength.real, initial=0.0))
    if not worst <= model.limit:
        raise InputError(
            Problem(
                message=f"the {model.name} activity model does not reach this ionic strength",
                value=f"{worst:.3g} mol/kg",
                expected=f"at most {model.limit:.3g} mol/kg",
            )
        )
    return strength + _TINY


def pitzer_ln_gamma(p: Pitzer, molality: Array, strength: Array) -> Array:
    """Pitzer's ln gamma of every ion, shape (..., S); analytic, so complex arguments differentiate.

    ln gamma_i = z_i^2 F + sum_j m_j (2 B_ij + Z C_ij + 2 Phi_ij) + sum_jk m_j m_k psi_ijk / 2
                 + |z_i| sum_jk m_j m_k C_jk / 2,   Z = sum_j m_j |z_j|
    F = -a_phi [sqrt(I) / (1 + b sqrt(I)) + 2/b ln(1 + b sqrt(I))]
        + sum_jk m_j m_k (B'_jk + Phi'_jk) / 2
    """
    root = np.sqrt(strength)
    x = p.alpha * root
    decay = np.exp(-x)
    g = 2 * (1 - (1 + x) * decay) / x**2
    g_slope = -2 * (1 - (1 + x + x**2 / 2) * decay) / x**2
    size = np.abs(p.charges)
    m_beta1 = molality @ p.beta1
    total_charge = molality @ size[:, None]
    m_c = molality @ p.c
    f = -p.a_phi * (root / (1 + p.b * root) + 2 / p.b * np.log(1 + p.b * root))
    f = f + g_slope / strength * _sum(m_beta1, molality) / 2
    result: Array = 2 * (molality @ (p.beta0 + p.theta) + g * m_beta1) + total_charge * m_c
    result = result + size * _sum(m_c, molality) / 2
    if np.any(p.psi):
        # Every pair once; a triple holds three different ions.
        j, k = _pairs(len(p.ions))
        result = result + (molality[..., j] * molality[..., k]) @ p.psi[j, k]
    if p.electrostatic:
        value, slope = _electrostatic(p, molality, strength)
        result = result + 2 * value
        f = f + _sum(molality, slope) / 2
    total: Array = result + p.charges**2 * f
    return total


@lru_cache(maxsize=16)
def _pairs(count: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Both members of every pair of so many."""
    return np.triu_indices(count, 1)


def _sum(a: Array, b: Array) -> Array:
    """sum_i a_i b_i, shape (..., 1)."""
    out: Array = np.einsum("...i,...i->...", a, b)[..., None]
    return out


def _electrostatic(p: Pitzer, molality: Array, strength: Array) -> tuple[Array, Array]:
    """sum_j m_j E-theta_ij and sum_j m_j dE-theta_ij/dI, shape (..., S).

    E-theta_ij = z_i z_j / (4 I) [J(x_ij) - J(x_ii)/2 - J(x_jj)/2], x_ij = 6 z_i z_j a_phi sqrt(I);
    zero for equal or opposite charges.
    """
    value, slope = np.zeros_like(molality), np.zeros_like(molality)
    signed = sorted(set(p.charges.tolist()))
    pairs = [(a, b) for a in signed for b in signed if a * b > 0 and a < b]
    if not pairs:
        return value, slope
    products = sorted({v for a, b in pairs for v in (a * b, a * a, b * b)})
    j, x_slope = mixing_integral(6 * p.a_phi * np.sqrt(strength) * np.array(products))
    weights = np.array([1.0, -0.5, -0.5])
    for a, b in pairs:
        at = [products.index(a * b), products.index(a * a), products.index(b * b)]
        e_theta = a * b * (j[..., at] @ weights)[..., None] / (4 * strength)
        e_slope = a * b * (x_slope[..., at] @ weights)[..., None] / (8 * strength**2)
        one, other = p.charges == a, p.charges == b
        partner = molality @ (np.outer(one, other) | np.outer(other, one)).astype(float)
        value = value + e_theta * partner
        slope = slope + (e_slope - e_theta / strength) * partner
    return value, slope


def mixing_integral(x: Array) -> tuple[Array, Array]:
    """Pitzer's J(x) and x dJ/dx for the mixing of ions of unlike charge.

    J(x) = x/4 - 1 + (1/x) int_0^inf [1 - exp(-q)] y^2 dy,  q = (x/y) exp(-y)

    Evaluated from polynomials in pieces of ln x, made once from a Chebyshev interpolant of ln J
    that rests on the integral.

    >>> j, _ = mixing_integral(np.array([1.0]))
    >>> round(float(j[0]), 6)
    0.116437
    """
    table = _pieces()
    low, high = np.log(_J_RANGE[0]), np.log(_J_RANGE[1])
    s = np.log(x)
    inside = np.where(s.real < low, low, np.where(s.real > high, high, s))
    at = (inside - low) * (_J_PIECES / (high - low))
    piece = np.minimum(at.real.astype(int), _J_PIECES - 1)
    t = (2.0 * (at - piece) - 1.0)[..., None]
    own = table[piece]
    both = own[..., -1, :]
    for k in range(own.shape[-2] - 2, -1, -1):
        both = both * t + own[..., k, :]
    j: Array = np.exp(both[..., 0])
    slope: Array = j * both[..., 1]
    return j, slope


def mixing_quadrature(x: Array) -> Array:
    """J(x) by the trapezoidal rule in ln y, which converges geometrically for this integrand.

    Written as -(1/x) int [exp(-q) - 1 + q - q^2/2] y^2 dy (the subtracted terms integrate to
    1 - x/4), so that nothing cancels at small x.
    """
    u = np.linspace(-64.0, np.log(100.0), 4096)
    y = np.exp(u)
    q = np.asarray(x)[..., None] * np.exp(-y) / y
    small, large = np.minimum(q, 0.5), np.maximum(q, 0.5)
    series = sum((-1) ** n * small**n / math.factorial(n) for n in range(16, 2, -1))
    integrand = np.where(q < 0.5, series, np.expm1(-large) + large - large**2 / 2) * y**3
    total: Array = -integrand.sum(axis=-1) * (u[1] - u[0]) / x
    return total


@lru_cache(maxsize=1)
def _pieces() -> Array:
    """Coefficients of ln J and its derivative by ln x, (pieces, powers, 2), in pieces of ln x."""
    cheb: Any = np.polynomial.chebyshev
    nodes = cheb.chebpts1(_J_PIECE_DEGREE + 1)
    middle = (np.arange(_J_PIECES) + 0.5) / _J_PIECES
    t = 2.0 * (middle[:, None] + 0.5 * nodes / _J_PIECES) - 1.0
    low, high = np.log(_J_RANGE[0]), np.log(_J_RANGE[1])
    coefficients, derivative = _interpolant()
    values = np.stack(
        [cheb.chebval(t, coefficients), cheb.chebval(t, derivative) * (2.0 / (high - low))],
        axis=-1,
    )
    powers = np.linalg.inv(np.vander(nodes, increasing=True))
    table: Array = powers @ values
    return table


@lru_cache(maxsize=1)
def _interpolant() -> tuple[Array, Array]:
    """Chebyshev coefficients of ln J over ln x on ``_J_RANGE``, and of their derivative."""
    cheb = np.polynomial.chebyshev
    nodes = cheb.chebpts1(_J_DEGREE + 1)
    low, high = np.log(_J_RANGE[0]), np.log(_J_RANGE[1])
    values = np.log(mixing_quadrature(np.exp((nodes * (high - low) + low + high) / 2)))
    coefficients: Any = cheb.chebfit(nodes, values, _J_DEGREE)
    derivative: Any = cheb.chebder(coefficients)
    return coefficients, derivative


def slopes(model: ActivityModel, molality: Array) -> Array:
    """d ln gamma_i / d m_j [kg/mol], shape (..., i, j), exact to rounding (complex step)."""
    molality = np.asarray(molality, dtype=float)
    if isinstance(model, Pitzer):
        return _pitzer_slopes(model, molality)
    columns = []
    for j in range(molality.shape[-1]):
        shifted: Any = molality.astype(complex)
        shifted[..., j] += 1j * _COMPLEX_STEP
        columns.append(model.ln_gamma(shifted).imag / _COMPLEX_STEP)
    return np.stack(columns, axis=-1)


def _pitzer_slopes(p: Pitzer, molality: Array) -> Array:
    """As ``slopes``: at constant ionic strength from the equations, by it with one complex step.

    d ln gamma_i = 2 (B_ij + Phi_ij) + Z C_ij + |z_j| sum_k m_k C_ik + |z_i| sum_k m_k C_jk
                   + sum_k m_k psi_ijk + z_i^2 sum_k m_k (B'_jk + Phi'_jk) at constant I
    """
    strength = _checked_strength(p, molality)
    moved: Any = strength + 1j * _COMPLEX_STEP
    held: Any = molality + 0j
    by_strength = pitzer_ln_gamma(p, held, moved).imag / _COMPLEX_STEP
    root = np.sqrt(strength)
    x = p.alpha * root
    decay = np.exp(-x)
    g = 2 * (1 - (1 + x) * decay) / x**2
    g_slope = -2 * (1 - (1 + x + x**2 / 2) * decay) / x**2
    size = np.abs(p.charges)
    total_charge = (molality @ size)[..., None, None]
    m_c = molality @ p.c
    out: Array = 2 * (p.beta0 + p.theta + g[..., None] * p.beta1) + total_charge * p.c
    out = out + m_c[..., :, None] * size + size[:, None] * m_c[..., None, :]
    by_f = g_slope / strength * (molality @ p.beta1)
    if np.any(p.psi):
        out = out + (molality @ p.psi.reshape(len(p.ions), -1)).reshape(out.shape)
    if p.electrostatic:
        # Both are linear in the molalities: what one mole of each ion does.
        each = np.broadcast_to(np.eye(len(p.ions)), out.shape)
        value, slope = _electrostatic(p, each, strength[..., None])
        out = out + 2 * value.swapaxes(-1, -2)
        by_f = by_f + (slope @ molality[..., None])[..., 0]
    out = out + (p.charges**2)[:, None] * by_f[..., None, :]
    return out + by_strength[..., None] * (p.charges**2 / 2)


def unlimited(model: Any) -> Any:
    """The same model without its refusal, for the iterates of a solver whose answer is checked."""
    return replace(model, limit=np.inf)


def require_range(model: ActivityModel, molality: Array) -> None:
    """InputError when ``molality`` has an ionic strength beyond the model's range."""
    if np.isfinite(model.limit):
        model.ln_gamma(np.asarray(molality, dtype=float))


def build(name: str, ions: Sequence[str], book: Book) -> ActivityModel:
    """The activity model ``name`` (ideal, davies, sit, pitzer) for ``ions``, constants from a book.

    >>> model = build("pitzer", ("H", "Cl"), Book())
    >>> round(float(np.exp(model.ln_gamma(np.array([1.0, 1.0]))[0])), 2)
    0.81
    """
    problems = [
        Problem(message="unknown ion", value=ion, expected=f"one of {', '.join(CHARGES)}")
        for ion in ions
        if ion not in CHARGES
    ]
    if name not in _BUILDERS:
        problems.append(
            Problem(message="unknown activity model", value=name, expected=", ".join(_BUILDERS))
        )
    if problems:
        raise InputError(problems)
    return _BUILDERS[name](tuple(ions), book)


def _charges(ions: Sequence[str]) -> Array:
    return np.array([CHARGES[ion] for ion in ions], dtype=float)


def _ideal(ions: tuple[str, ...], book: Book) -> ActivityModel:
    return Ideal(ions=ions, water=book[WATER])


def _davies(ions: tuple[str, ...], book: Book) -> ActivityModel:
    at = SETS["davies"]
    return Davies(
        ions=ions,
        charges=_charges(ions),
        a=book[f"{at}:debye_huckel_log10"] * math.log(10),
        slope=book[f"{at}:slope"],
        water=book[WATER],
        limit=book[f"{at}:highest_ionic_strength"],
    )


def _sit(ions: tuple[str, ...], book: Book) -> ActivityModel:
    at = SETS["sit"]
    return Sit(
        ions=ions,
        charges=_charges(ions),
        a=book[f"{at}:debye_huckel_log10"] * math.log(10),
        ba=book[f"{at}:ba"],
        epsilon=_pair_table(ions, book, at, "epsilon") * math.log(10),
        water=book[WATER],
        limit=book[f"{at}:highest_ionic_strength"],
    )


def _pitzer(ions: tuple[str, ...], book: Book) -> ActivityModel:
    at = SETS["pitzer"]
    z = _charges(ions)
    psi = np.zeros((len(ions),) * 3)
    for triple in itertools.combinations(range(len(ions)), 3):
        members = z[list(triple)]
        if abs(members.sum()) < np.abs(members).sum():
            value = _look_up(book, at, "psi", tuple(ions[i] for i in triple))
            for order in itertools.permutations(triple):
                psi[order] = value or 0.0
    return Pitzer(
        ions=ions,
        charges=z,
        a_phi=book[f"{at}:a_phi"],
        b=book[f"{at}:b"],
        alpha=book[f"{at}:alpha"],
        beta0=_pair_table(ions, book, at, "beta0"),
        beta1=_pair_table(ions, book, at, "beta1"),
        c=_pair_table(ions, book, at, "cphi") / (2 * np.sqrt(np.abs(np.outer(z, z)))),
        theta=_pair_table(ions, book, at, "theta", mixing=True),
        psi=psi,
        water=book[WATER],
        limit=book[f"{at}:highest_ionic_strength"],
    )


def _pair_table(
    ions: Sequence[str], book: Book, at: str, kind: str, *, mixing: bool = False
) -> Array:
    """Symmetric matrix of a pair parameter: of ions of like sign (mixing) or of opposite sign.

    A mixing parameter that the set does not list is zero, the convention of Pitzer's model; a
    missing parameter of a cation with an anion is an InputError.
    """
    z = _charges(ions)
    table = np.zeros((len(ions), len(ions)))
    problems = []
    for i, j in itertools.combinations(range(len(ions)), 2):
        if (z[i] * z[j] > 0) == mixing:
            value = _look_up(book, at, kind, (ions[i], ions[j]))
            if value is None and not mixing:
                problems.append(
                    Problem(
                        message=f"{at} has no {kind} for the pair",
                        value=f"{ions[i]}-{ions[j]}",
                        expected="another activity model, or the number with its source",
                    )
                )
            table[i, j] = table[j, i] = value or 0.0
    if problems:
        raise InputError(problems)
    return table


def _look_up(book: Book, at: str, kind: str, members: tuple[str, ...]) -> float | None:
    """A parameter by the names of its ions in any order; ``Ln`` stands for any rare earth."""
    general = tuple("Ln" if ion in RARE_EARTHS else ion for ion in members)
    for names in (members, general):
        for order in itertools.permutations(names):
            key = f"{at}:{kind}_{'_'.join(order)}"
            if key in book:
                return book[key]
    return None


_BUILDERS: dict[str, Callable[[tuple[str, ...], Book], ActivityModel]] = {
    "ideal": _ideal,
    "davies": _davies,
    "sit": _sit,
    "pitzer": _pitzer,
}
