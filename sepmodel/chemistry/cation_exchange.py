"""Cation exchange by an acidic extractant, one form for every exchangeable cation.

M^z+ + n (HA)2 = M A_z (HA)_(2n-z) + z H+:  D = K d^n / h^z with d free dimer and h protons on the
molar scale. Rare earths, impurities and the counter-ion of a soap (Na+, NH4+) differ only in z, n
and K.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry.equilibrium import Spot

Array = NDArray[np.float64]

# mol/m3 of the molar standard state
C_STANDARD = 1000.0
# Bounds of ln(d/h) in the one-stage guess, divided so many times into so many parts.
WIDEST = 128.0
DIVISIONS = 4
PARTS = 16


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class CationExchange:
    """Constants of the exchange, per component.

    ``log_k`` ln K, shape (C,) or (..., N, C), molar, ideal unless ``log_gamma`` (same shape, the
    ln of the ratio of activity coefficients) is given; ``charge`` z (C,); ``dimers`` n (C,).

    Totals of a spot: dimer [mol/m3 organic] free and bound, and charge [mol/m3 aqueous], the
    anions that protons and metals balance.

    Where n = z for every component the distribution depends on d/h alone: one unknown per spot,
    ln(d/h), and one closure, e^u (charge - sum z x) = dimer - sum n y. Otherwise the unknowns are
    ln d and ln h [mol/L], with both closures.
    """

    log_k: Array
    charge: Array
    dimers: Array
    log_gamma: Array | None = None
    _unknowns: int = field(init=False, repr=False)
    _constant: Array = field(init=False, repr=False)
    _slope: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        unknowns = 2 - np.array_equal(self.charge, self.dimers)
        slope = np.stack([self.dimers, -self.charge], axis=-1)[:, :unknowns]
        constant = self.log_k if self.log_gamma is None else self.log_k + self.log_gamma
        object.__setattr__(self, "_unknowns", unknowns)
        object.__setattr__(self, "_constant", np.asarray(constant))
        object.__setattr__(self, "_slope", slope)

    @property
    def unknowns(self) -> int:
        """One where every n = z, else two."""
        return self._unknowns

    def shifted(self, by: Array) -> CationExchange:
        """The same constants with ``by`` (..., C) added to ln D."""
        return replace(self, log_k=self.log_k + by)

    def rows(self, at: NDArray[np.intp]) -> CationExchange:
        """The model of some contacts of a batch, where ``log_k`` has one row for each."""
        return replace(self, log_k=self.log_k[at]) if self.log_k.ndim > 1 else self

    def simpler(self) -> CationExchange | None:
        """The nearest model with one unknown, n = z for every component; None if it is one."""
        return None if self.unknowns == 1 else replace(self, dimers=self.charge.copy())

    def lift(self, dimer: Array, proton: Array) -> Array:
        """Unknowns of this model (two) at free dimer and protons [mol/m3]."""
        lifted: Array = np.log(np.stack([dimer, proton], axis=-1) / C_STANDARD)
        return lifted

    def guess(self, moles: Array, aqueous: Array, organic: Array, totals: Array) -> Array:
        """Equilibrium of one stage by search on ln(d/h), protons from the charge balance."""
        constant = self._constant
        if constant.ndim > 1:
            constant = constant.mean(axis=-2)
        return self.search(constant, moles, aqueous, organic, totals)

    def search(
        self, constant: Array, moles: Array, aqueous: Array, organic: Array, totals: Array
    ) -> Array:
        """As ``guess``, with the ln K of each spot itself, ``constant`` (C,) or (..., C)."""
        dimer, charge = totals[..., 0, None], totals[..., 1, None]
        constant = constant + np.log(organic / aqueous)[..., None]
        parts = np.arange(1, PARTS) / PARTS
        low, width = np.full(dimer.shape, -WIDEST), 2.0 * WIDEST
        # Flows beyond all measure overflow here; it is a guess, and Newton judges what it leads to.
        with np.errstate(over="ignore", invalid="ignore"):
            whole_aq, whole_org = moles / aqueous[..., None], moles / organic[..., None]
            for _ in range(DIVISIONS):
                middle = low + width * parts
                power = constant[..., None, :] + self.charge * middle[..., None]
                share = 0.5 + 0.5 * np.tanh(0.5 * power)
                d = dimer - (whole_org[..., None, :] * share) @ self.dimers
                h = charge - (whole_aq[..., None, :] * (1.0 - share)) @ self.charge
                width /= PARTS
                low = low + width * np.sum(np.exp(middle) * h < d, axis=-1, keepdims=True)
        u: Array = low + 0.5 * width
        if self.unknowns == 1:
            return u
        nearest = np.argmin(np.abs(middle - u), axis=-1)[..., None]
        d, h = (
            np.take_along_axis(d, nearest, -1)[..., 0],
            np.take_along_axis(h, nearest, -1)[..., 0],
        )
        h = np.maximum(np.where(d > 0, d * np.exp(-u[..., 0]), h), np.exp(-WIDEST))
        proton = np.log(h / C_STANDARD)[..., None]
        return np.concatenate([u + proton, proton], axis=-1)

    def spot(
        self,
        u: Array,
        totals: Array,
        conc_aq: Array | None = None,
        conc_org: Array | None = None,
    ) -> Spot:
        """ln D = ln K + n ln d - z ln h; ln of dimer and charge found over those there are.

        >>> import numpy as np
        >>> model = CationExchange(
        ...     log_k=np.log([0.02]), charge=np.array([3.0]), dimers=np.array([3.0])
        ... )
        >>> spot = model.spot(np.log([[10.0]]), np.array([[1500.0, 100.0]]))
        >>> float(np.exp(spot.log_d[0, 0]).round(9))
        20.0
        """
        log_d = self._constant + self.dimers * u[..., :1]
        if self.unknowns == 2:
            log_d = log_d - self.charge * u[..., 1:]
        slope = np.broadcast_to(self._slope, (*log_d.shape, self.unknowns))
        if conc_aq is None or conc_org is None:
            return Spot(log_d=log_d, slope=slope)
        if self.unknowns == 1:
            return self._condensed(log_d, slope, u, totals, conc_aq, conc_org)
        amount = C_STANDARD * np.exp(u)
        bound = np.stack([conc_org @ self.dimers, conc_aq @ self.charge], axis=-1)
        sums = amount + bound
        by_u = (amount / sums)[..., None] * np.eye(2)
        by_aq = np.zeros((*sums.shape, self.charge.size))
        by_aq[..., 1, :] = self.charge / sums[..., 1:]
        by_org = np.zeros_like(by_aq)
        by_org[..., 0, :] = self.dimers / sums[..., :1]
        by_totals = np.zeros((*sums.shape, totals.shape[-1]))
        by_totals[..., 0, 0] = -1.0 / totals[..., 0]
        by_totals[..., 1, 1] = -1.0 / totals[..., 1]
        return Spot(
            log_d=log_d,
            slope=slope,
            residual=np.log(sums / totals[..., :2]),
            by_u=by_u,
            by_aq=by_aq,
            by_org=by_org,
            by_totals=by_totals,
            free=amount,
        )

    def _condensed(
        self,
        log_d: Array,
        slope: Array,
        u: Array,
        totals: Array,
        conc_aq: Array,
        conc_org: Array,
    ) -> Spot:
        """Both closures in one, h = charge - sum z x put into d = e^u h = dimer - sum n y.

        Brought to a form whose two sides are positive it has a root for any metal inventory.
        """
        dimer, charge = totals[..., 0], totals[..., 1]
        ratio = np.exp(u[..., 0])
        bound_aq, bound_org = conc_aq @ self.charge, conc_org @ self.dimers
        left = ratio * charge + bound_org
        right = dimer + ratio * bound_aq
        by_u = ratio * charge / left - ratio * bound_aq / right
        d, h = self.free(u, totals, conc_aq, conc_org)
        by_totals = np.zeros((*totals.shape[:-1], 1, totals.shape[-1]))
        by_totals[..., 0, 0] = -1.0 / right
        by_totals[..., 0, 1] = ratio / left
        return Spot(
            log_d=log_d,
            slope=slope,
            residual=np.log(left / right)[..., None],
            by_u=by_u[..., None, None],
            by_aq=-(ratio / right)[..., None, None] * self.charge,
            by_org=self.dimers / left[..., None, None],
            by_totals=by_totals,
            free=np.stack([d, h], axis=-1),
        )

    def free(self, u: Array, totals: Array, conc_aq: Array, conc_org: Array) -> tuple[Array, Array]:
        """Free dimer and protons [mol/m3] at a solved spot.

        Each comes from its own balance or, through d/h, from the other one: whichever loses fewer
        digits to the subtraction.
        """
        if self.unknowns == 2:
            amount = C_STANDARD * np.exp(u)
            return amount[..., 0], amount[..., 1]
        dimer, charge, ratio = totals[..., 0], totals[..., 1], np.exp(u[..., 0])
        d = dimer - conc_org @ self.dimers
        h = charge - conc_aq @ self.charge
        by_dimer = d * charge >= h * dimer
        return np.where(by_dimer, d, h * ratio), np.where(by_dimer, d / ratio, h)
