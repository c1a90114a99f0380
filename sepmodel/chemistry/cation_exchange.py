"""Cation exchange by an acidic extractant, one form for every exchangeable cation.

M^z+ + n (HA)2 = M A_z (HA)_(2n-z) + z H+:  D = K d^n / h^z with d free dimer and h protons on the
molar scale. Rare earths, impurities and the counter-ion of a soap (Na+, NH4+) differ in z, n and K
only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry.equilibrium import Spot

Array = NDArray[np.float64]

# mol/m3 of the molar standard state
C_STANDARD = 1000.0


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class CationExchange:
    """Constants of the exchange, per component.

    ``log_k`` ln K, shape (C,) or (..., N, C), molar, ideal unless ``log_gamma`` (same shape, the
    ln of the ratio of activity coefficients) is given; ``charge`` z (C,); ``dimers`` n (C,).

    Totals of a spot: dimer [mol/m3 organic] free and bound, and charge [mol/m3 aqueous], the
    anions that protons and metals balance.

    Where n = z for every component the distribution depends on d/h alone: one unknown per spot,
    ln(d/h); its closure compares e^u (charge - sum z x) with dimer - sum n y. Otherwise the
    unknowns are ln d and ln h [mol/L].
    """

    log_k: Array
    charge: Array
    dimers: Array
    log_gamma: Array | None = None

    @property
    def unknowns(self) -> int:
        """One where every n = z, else two."""
        return 1 if np.array_equal(self.charge, self.dimers) else 2

    def spot(
        self,
        u: Array,
        totals: Array,
        conc_aq: Array | None = None,
        conc_org: Array | None = None,
    ) -> Spot:
        """ln D = ln K + n ln d - z ln h, dimer and charge closures.

        >>> import numpy as np
        >>> model = CationExchange(
        ...     log_k=np.log([0.02]), charge=np.array([3.0]), dimers=np.array([3.0])
        ... )
        >>> spot = model.spot(np.log([[10.0]]), np.array([[750.0, 100.0]]))
        >>> float(np.exp(spot.log_d[0, 0]).round(9))
        20.0
        """
        if self.unknowns == 1:
            return self._by_ratio(u, totals, conc_aq, conc_org)
        return self._by_both(u, totals, conc_aq, conc_org)

    def _constant(self) -> Array:
        return self.log_k if self.log_gamma is None else self.log_k + self.log_gamma

    def _by_ratio(
        self, u: Array, totals: Array, conc_aq: Array | None, conc_org: Array | None
    ) -> Spot:
        """One unknown, ln(d/h)."""
        log_d = self._constant() + self.charge * u
        slope = np.broadcast_to(self.charge[:, None], (*log_d.shape, 1))
        if conc_aq is None or conc_org is None:
            return Spot(log_d=log_d, slope=slope)
        dimer, charge = totals[..., 0], totals[..., 1]
        ratio = np.exp(u[..., 0])
        # (charge - sum z x) e^u = dimer - sum n y, brought to a form whose sides are positive:
        # it has a root whatever the metal inventory is.
        left = ratio * charge + conc_org @ self.dimers
        right = dimer + ratio * (conc_aq @ self.charge)
        by_u = ratio * charge / left - (right - dimer) / right
        return Spot(
            log_d=log_d,
            slope=slope,
            residual=np.log(left / right)[..., None],
            by_u=by_u[..., None, None],
            by_aq=-(ratio / right)[..., None, None] * self.charge,
            by_org=self.dimers / left[..., None, None],
        )

    def _by_both(
        self, u: Array, totals: Array, conc_aq: Array | None, conc_org: Array | None
    ) -> Spot:
        """Two unknowns, ln d and ln h."""
        free, proton = u[..., :1], u[..., 1:]
        log_d = self._constant() + self.dimers * free - self.charge * proton
        slope = np.broadcast_to(np.stack([self.dimers, -self.charge], axis=-1), (*log_d.shape, 2))
        if conc_aq is None or conc_org is None:
            return Spot(log_d=log_d, slope=slope)
        amount = C_STANDARD * np.exp(u)
        bound = np.stack([conc_org @ self.dimers, conc_aq @ self.charge], axis=-1)
        sums = amount + bound
        nothing = np.zeros_like(conc_org)
        return Spot(
            log_d=log_d,
            slope=slope,
            residual=np.log(sums / totals[..., :2]),
            by_u=(amount / sums)[..., None] * np.eye(2),
            by_aq=np.stack([nothing, self.charge / sums[..., 1:]], axis=-2),
            by_org=np.stack([self.dimers / sums[..., :1], nothing], axis=-2),
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
        by_dimer = d / dimer >= h / charge
        return np.where(by_dimer, d, h * ratio), np.where(by_dimer, d / ratio, h)
