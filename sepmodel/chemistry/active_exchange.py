"""Cation exchange with the activity coefficients of the spot's own solution.

    ln D = ln K + ln Gamma + n ln d - z ln h,   Gamma = gamma_M / gamma_H^z

The solution follows from the law and the coefficients from the solution. Here ln Gamma of every
component is one more log-unknown of the spot, closed by ln Gamma = F(x), so that a spot in time has
one state like any other. All anions are taken as chloride; protons are what the anions leave,
h = charge - sum z x, so F depends on the metals and the anions alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry import activity as activities
from sepmodel.chemistry.activity import ActivityModel
from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.chemistry.equilibrium import Spot

Array = NDArray[np.float64]

# Rounds of the guess: coefficients of the last answer, and the answer with them.
ROUNDS = 4


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ActiveExchange:
    """``exchange`` with the coefficients of ``activity``, a model of the ions "H", ``components``
    and "Cl" in any order; unknowns are those of the exchange, then ln Gamma of every component."""

    exchange: CationExchange
    activity: ActivityModel
    components: tuple[str, ...]
    _by_metals: Array = field(init=False, repr=False)
    _by_anions: Array = field(init=False, repr=False)
    _ratios: Array = field(init=False, repr=False)
    _free: ActivityModel = field(init=False, repr=False)

    def __post_init__(self) -> None:
        ions, z = self.activity.ions, self.exchange.charge
        metals, proton = [ions.index(name) for name in self.components], ions.index("H")
        own = np.arange(len(metals))
        by_metals, by_anions = np.zeros((len(metals), len(ions))), np.zeros(len(ions))
        by_metals[own, metals] = 1.0
        by_metals[:, proton] = -z
        by_anions[[proton, ions.index("Cl")]] = 1.0
        ratios = np.zeros((len(ions), len(metals)))
        ratios[metals, own] = 1.0
        ratios[proton] = -z
        water = self.activity.water
        object.__setattr__(self, "_by_metals", by_metals / water)
        object.__setattr__(self, "_by_anions", by_anions / water)
        object.__setattr__(self, "_ratios", ratios)
        # The range is enforced on answers, not on the way.
        object.__setattr__(self, "_free", activities.unlimited(self.activity))

    @property
    def unknowns(self) -> int:
        """Those of the exchange, and one for every component."""
        return self.exchange.unknowns + len(self.components)

    def molality(self, conc_aq: Array, charge: Array) -> Array:
        """Molalities [mol/kg] of the ions (..., S) at metals (..., C) and anions (...)."""
        out: Array = conc_aq @ self._by_metals + charge[..., None] * self._by_anions
        return out

    def log_gamma(self, conc_aq: Array, charge: Array) -> Array:
        """ln gamma_M - z ln gamma_H (..., C) at metals (..., C) and anions (...) [mol/m3]."""
        out: Array = self._free.ln_gamma(self.molality(conc_aq, charge)) @ self._ratios
        return out

    def responses(self, conc_aq: Array, charge: Array) -> tuple[Array, Array]:
        """Derivatives of ``log_gamma`` by metals (..., i, j) and by anions (..., i) [m3/mol]."""
        slopes = activities.slopes(self._free, self.molality(conc_aq, charge))
        by_ion = self._ratios.T @ slopes
        return by_ion @ self._by_metals.T, by_ion @ self._by_anions

    def strength(self, conc_aq: Array, charge: Array) -> Array:
        """Ionic strength [mol/kg] (...) at metals (..., C) and anions (...) [mol/m3]."""
        z = self.exchange.charge
        out: Array = charge + 0.5 * (conc_aq @ (z * (z - 1.0)))
        return out / self.activity.water

    def free(self, u: Array, totals: Array, conc_aq: Array, conc_org: Array) -> tuple[Array, Array]:
        """Free dimer and protons [mol/m3] at a solved spot."""
        return self.exchange.free(u[..., : self.exchange.unknowns], totals, conc_aq, conc_org)

    def guess(self, moles: Array, aqueous: Array, organic: Array, totals: Array) -> Array:
        """Equilibrium by search with the coefficients of the last answer, a few times over."""
        base, charge = self.exchange, totals[..., 1]
        gamma = np.zeros(moles.shape)
        for _ in range(ROUNDS):
            u = base.search(base.log_k + gamma, moles, aqueous, organic, totals)
            log_d = base.spot(u[..., None, :], totals[..., None, :]).log_d[..., 0, :] + gamma
            with np.errstate(over="ignore"):
                x = moles / (aqueous[..., None] + organic[..., None] * np.exp(log_d))
            gamma = self.log_gamma(x, charge)
        return np.concatenate([u, gamma], axis=-1)

    def spot(
        self,
        u: Array,
        totals: Array,
        conc_aq: Array | None = None,
        conc_org: Array | None = None,
    ) -> Spot:
        """The spot of the exchange with ln Gamma on top, and its closure ln Gamma - F(x)."""
        m, c = self.exchange.unknowns, len(self.components)
        gamma = u[..., m:]
        bare = self.exchange.spot(u[..., :m], totals, conc_aq, conc_org)
        own = np.broadcast_to(np.eye(c), (*gamma.shape, c))
        log_d, slope = bare.log_d + gamma, np.concatenate([bare.slope, own], axis=-1)
        if conc_aq is None or conc_org is None:
            return Spot(log_d=log_d, slope=slope)
        assert bare.residual is not None
        assert bare.by_u is not None
        assert bare.by_aq is not None
        assert bare.by_org is not None
        charge = totals[..., 1]
        by_metals, _ = self.responses(conc_aq, charge)
        by_u = np.zeros((*u.shape, m + c))
        by_u[..., :m, :m], by_u[..., m:, m:] = bare.by_u, np.eye(c)
        return replace(
            bare,
            log_d=log_d,
            slope=slope,
            residual=np.concatenate(
                [bare.residual, gamma - self.log_gamma(conc_aq, charge)], axis=-1
            ),
            by_u=by_u,
            by_aq=np.concatenate([bare.by_aq, -by_metals], axis=-2),
            by_org=np.concatenate([bare.by_org, np.zeros((*gamma.shape, c))], axis=-2),
            by_totals=None,
        )
