"""Cation exchange where the water may be alkaline: an extractant meets base.

As ``cation_exchange``, with hydroxide among the anions: h + sum z x = anions + kw / h. What base
does to the solvent, M+ + OH- + (HA)2 = MHA2 + H2O, is not a reaction of its own but this balance:
the counter-ion that came with hydroxide finds no other anion in the water and goes to the organic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry.cation_exchange import C_STANDARD, WIDEST
from sepmodel.chemistry.equilibrium import Spot

Array = NDArray[np.float64]

# Halvings of ln(d/h) in the one-stage guess.
BISECTIONS = 32


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class SoapExchange:
    """Constants of the exchange, per component, and the ionic product of water.

    ``log_k`` ln K (C,), molar, ideal; ``charge`` z (C,); ``dimers`` n (C,); ``kw`` [mol2/m6].

    Totals of a spot: dimer [mol/m3 organic] free and bound, and charge [mol/m3 aqueous], the
    anions other than hydroxide, which may be none. Unknowns: ln d and ln h [mol/L].
    """

    log_k: Array
    charge: Array
    dimers: Array
    kw: float

    @property
    def unknowns(self) -> int:
        """ln d and ln h."""
        return 2

    def _proton(self, excess: Array) -> Array:
        """h [mol/m3] with h - kw/h = ``excess`` of anions over metals, without cancellation."""
        root = np.sqrt(excess**2 + 4 * self.kw)
        acid: Array = np.where(
            excess > 0, 0.5 * (excess + root), 2 * self.kw / (root - np.minimum(excess, 0.0))
        )
        return acid

    def guess(self, moles: Array, aqueous: Array, organic: Array, totals: Array) -> Array:
        """Equilibrium of one stage by bisection on ln(d/h), protons from the charge balance."""
        dimer, charge = totals[..., 0], totals[..., 1]
        low, high = np.full(dimer.shape, -WIDEST), np.full(dimer.shape, WIDEST)
        d = h = np.ones(dimer.shape)
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            power = self.log_k + self.charge * middle[..., None]
            power = power + np.log(organic / aqueous)[..., None]
            share = 0.5 + 0.5 * np.tanh(0.5 * power)
            y = moles * share / organic[..., None]
            x = moles * (1.0 - share) / aqueous[..., None]
            d = dimer - y @ self.dimers
            h = self._proton(charge - x @ self.charge)
            short = np.exp(middle) * h < d
            low, high = np.where(short, middle, low), np.where(short, high, middle)
        ratio = 0.5 * (low + high)
        d = np.where(d > 0, d, np.exp(np.minimum(ratio, 1.0)) * h)
        return np.stack([np.log(d / C_STANDARD), np.log(h / C_STANDARD)], axis=-1)

    def spot(
        self,
        u: Array,
        totals: Array,
        conc_aq: Array | None = None,
        conc_org: Array | None = None,
    ) -> Spot:
        """ln D = ln K + n ln d - z ln h; ln of dimer and of cations over their opposites.

        Pure water with 1 mol/m3 of sodium and no other anion than hydroxide has a pH of 11:

        >>> model = SoapExchange(log_k=np.array([-50.0]), charge=np.array([1.0]),
        ...                      dimers=np.array([1.0]), kw=1e-8)
        >>> at = np.log([[0.5, 1e-11]])
        >>> spot = model.spot(at, np.array([[500.0, 0.0]]), np.array([[1.0]]), np.array([[0.0]]))
        >>> bool(abs(spot.residual).max() < 1e-7)
        True
        """
        log_d = self.log_k + self.dimers * u[..., :1] - self.charge * u[..., 1:]
        slope = np.broadcast_to(np.stack([self.dimers, -self.charge], axis=-1), (*log_d.shape, 2))
        if conc_aq is None or conc_org is None:
            return Spot(log_d=log_d, slope=slope)
        d, h = C_STANDARD * np.exp(u[..., 0]), C_STANDARD * np.exp(u[..., 1])
        bound, cations = d + conc_org @ self.dimers, h + conc_aq @ self.charge
        hydroxide = self.kw / h
        anions = totals[..., 1] + hydroxide
        by_u = np.zeros((*u.shape[:-1], 2, 2))
        by_u[..., 0, 0] = d / bound
        by_u[..., 1, 1] = h / cations + hydroxide / anions
        by_aq = np.zeros((*u.shape[:-1], 2, self.charge.size))
        by_aq[..., 1, :] = self.charge / cations[..., None]
        by_org = np.zeros_like(by_aq)
        by_org[..., 0, :] = self.dimers / bound[..., None]
        by_totals = np.zeros((*u.shape[:-1], 2, totals.shape[-1]))
        by_totals[..., 0, 0] = -1.0 / totals[..., 0]
        by_totals[..., 1, 1] = -1.0 / anions
        return Spot(
            log_d=log_d,
            slope=slope,
            residual=np.stack([np.log(bound / totals[..., 0]), np.log(cations / anions)], axis=-1),
            by_u=by_u,
            by_aq=by_aq,
            by_org=by_org,
            by_totals=by_totals,
            free=np.stack([d, h], axis=-1),
        )
