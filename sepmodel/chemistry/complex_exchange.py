"""Several organic complexes of a metal: mixtures of two extractants, polymers, neutral extractants.

Every complex j of a metal takes nu_jk units of the organic reagents k (dimers of acids, TBP):

  D = sum_j K_j prod_k d_k^nu_jk / h^z        acids, z protons released
  D = sum_j K_j prod_k d_k^nu_jk a^z          neutral extractants, the anions go along (a: NO3-)

with free reagents d_k and protons h (anions a) on the molar scale. One complex of one reagent is
``cation_exchange``. ln D is convex in the logarithms of the reagents, so a contact has one answer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry.cation_exchange import C_STANDARD, CationExchange
from sepmodel.chemistry.equilibrium import Spot
from sepmodel.errors import ConvergenceError

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ComplexExchange:
    """Constants of the complexes, per component.

    ``log_k`` ln K, shape (C, J), -inf where a component has fewer complexes; ``order`` nu, shape
    (C, J, R); ``charge`` z (C,); ``split`` (R,) share of each reagent in the total of all;
    ``mixed`` constant k of the mixed dimer k sqrt(d_0 d_1) of two acids (0: none; 2: random
    pairing); ``salting`` true where anions go along instead of protons being released;
    ``shift`` (..., C) is added to ln D (activities, temperature).

    Totals of a spot: reagent units [mol/m3 organic] free and bound; and [mol/m3 aqueous] the anions
    that protons and metals balance (acids), or those that cations the solvent does not take balance
    (``salting``). Unknowns: ln d_k and ln h (ln a) [mol/L].
    """

    log_k: Array
    order: Array
    charge: Array
    split: Array
    mixed: float = 0.0
    salting: bool = False
    shift: Array | float = 0.0

    @property
    def unknowns(self) -> int:
        """One for each reagent, one for protons or anions."""
        return len(self.split) + 1

    @property
    def dimers(self) -> Array:
        """Fewest reagent units that hold one ion, shape (C,)."""
        used = np.where(np.isfinite(self.log_k), self.order.sum(axis=-1), np.inf)
        fewest: Array = used.min(axis=-1)
        return fewest

    def shifted(self, by: Array) -> ComplexExchange:
        """The same complexes with ``by`` (..., C) added to ln D."""
        return replace(self, shift=self.shift + by)

    def rows(self, at: NDArray[np.intp]) -> ComplexExchange:
        """The model of some contacts of a batch, where ``shift`` has one row for each."""
        shift = np.asarray(self.shift)
        return replace(self, shift=shift[at]) if shift.ndim > 1 else self

    def complexes(self, u: Array) -> tuple[Array, Array, Array]:
        """ln D (..., C), mean order (..., C, R) and its derivative by ln d (..., C, R, R)."""
        organic, last = u[..., None, None, :-1], u[..., -1:]
        terms = self.log_k + (self.order * organic).sum(axis=-1)
        highest = terms.max(axis=-1, keepdims=True)
        weight = np.exp(terms - highest)
        total = weight.sum(axis=-1, keepdims=True)
        sign = 1.0 if self.salting else -1.0
        log_d = (highest + np.log(total))[..., 0] + sign * self.charge * last + self.shift
        weight = weight / total
        mean = (weight[..., None] * self.order).sum(axis=-2)
        centred = self.order - mean[..., None, :]
        spread = np.einsum("...cj,...cja,...cjb->...cab", weight, centred, centred)
        return log_d, mean, spread

    def free(self, u: Array, totals: Array, conc_aq: Array, conc_org: Array) -> tuple[Array, Array]:
        """Free reagents together and protons (anions) [mol/m3] at a solved spot."""
        amount = C_STANDARD * np.exp(u)
        return amount[..., :-1].sum(axis=-1) + self._pairs(u), amount[..., -1]

    def _pairs(self, u: Array) -> Array:
        """Mixed dimer [mol/m3]."""
        if not self.mixed:
            return np.zeros(u.shape[:-1])
        pairs: Array = self.mixed * C_STANDARD * np.exp((u[..., 0] + u[..., 1]) / 2)
        return pairs

    def spot(
        self,
        u: Array,
        totals: Array,
        conc_aq: Array | None = None,
        conc_org: Array | None = None,
    ) -> Spot:
        """ln D; ln of what is found of each reagent and of the anions over what there is.

        >>> import numpy as np
        >>> model = ComplexExchange(
        ...     log_k=np.log([[0.02]]), order=np.full((1, 1, 1), 3.0), charge=np.array([3.0]),
        ...     split=np.array([1.0])
        ... )
        >>> u = np.log([[0.5, 0.05]])
        >>> float(np.exp(model.spot(u, np.array([[500.0, 50.0]])).log_d[0, 0]).round(9))
        20.0
        """
        log_d, mean, spread = self.complexes(u)
        sign = 1.0 if self.salting else -1.0
        proton = np.broadcast_to(sign * self.charge, log_d.shape)[..., None]
        slope = np.concatenate([mean, proton], axis=-1)
        if conc_aq is None or conc_org is None:
            return Spot(log_d=log_d, slope=slope)
        amount = C_STANDARD * np.exp(u)
        reagents = self.unknowns - 1
        half = self._pairs(u)[..., None] / 2
        shared = amount[..., :-1] + half * bool(self.mixed)
        bound = shared + np.einsum("...c,...cr->...r", conc_org, mean)
        by_u = np.zeros((*u.shape, self.unknowns))
        by_u[..., :-1, :-1] = np.einsum("...c,...cab->...ab", conc_org, spread)
        at = np.arange(reagents)
        by_u[..., at, at] += amount[..., :-1]
        if self.mixed:
            by_u[..., :-1, :-1] += half[..., None] / 2
        by_u[..., :-1, :] /= bound[..., None]
        carried = conc_aq @ self.charge
        by_aq = np.zeros((*u.shape, self.charge.size))
        by_org = np.zeros_like(by_aq)
        by_org[..., :-1, :] = np.swapaxes(mean, -1, -2) / bound[..., None]
        if self.salting:
            # Anions balance the cations that stay in the water, those of the salt among them.
            cations = totals[..., 1] + carried
            last = np.log(amount[..., -1] / cations)
            by_u[..., -1, -1] = 1.0
            by_aq[..., -1, :] = -self.charge / cations[..., None]
        else:
            cations = amount[..., -1] + carried
            last = np.log(cations / totals[..., 1])
            by_u[..., -1, -1] = amount[..., -1] / cations
            by_aq[..., -1, :] = self.charge / cations[..., None]
        there = totals[..., :1] * self.split
        return Spot(
            log_d=log_d,
            slope=slope,
            residual=np.concatenate([np.log(bound / there), last[..., None]], axis=-1),
            by_u=by_u,
            by_aq=by_aq,
            by_org=by_org,
            free=amount,
        )

    def simpler(self) -> CationExchange | None:
        """The nearest acid with one complex a metal: its D at one mol/L of the mixture."""
        if self.salting:
            return None
        one = self.lift(np.array(C_STANDARD), np.array(C_STANDARD))
        return CationExchange(
            log_k=np.asarray(self.complexes(one)[0]), charge=self.charge, dimers=self.charge.copy()
        )

    def lift(self, dimer: Array, proton: Array) -> Array:
        """Unknowns of this model where ``dimer`` [mol/m3] is free in all, and the protons."""
        part = self.split**2 if self.mixed else self.split
        free = np.asarray(dimer)[..., None] * part
        amounts = np.concatenate([free, np.asarray(proton)[..., None]], axis=-1)
        lifted: Array = np.log(amounts / C_STANDARD)
        return lifted

    def guess(self, moles: Array, aqueous: Array, organic: Array, totals: Array) -> Array:
        """Equilibrium of one stage that holds ``moles`` (..., C) in volumes of both phases."""
        from sepmodel.chemistry import closing

        shape, size = moles.shape[:-1], moles.shape[-1]
        flat = closing.Charge(
            amounts=np.reshape(moles / np.asarray(aqueous)[..., None], (-1, size)),
            ratio=np.reshape(np.broadcast_to(organic / aqueous, shape), -1),
            dimer=np.reshape(np.broadcast_to(totals[..., 0], shape), -1),
            anions=np.reshape(np.broadcast_to(totals[..., 1], shape), -1),
        )
        shift = np.asarray(self.shift)
        model = replace(self, shift=shift.mean(axis=-2)) if shift.ndim > 1 else self
        try:
            u = closing.solve(model, flat)[0]
        except ConvergenceError:
            # All that a circuit's sections hold in one stage may be more metal than its acid and
            # solvent hold: for a guess the acid is raised to what the metals need.
            enough = np.maximum(flat.anions, flat.amounts @ self.charge)
            u = closing.solve(model, replace(flat, anions=enough))[0]
        return u.reshape(*shape, self.unknowns)
