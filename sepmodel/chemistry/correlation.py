"""Distribution from a fitted correlation in pH and extractant dosage, sulfate medium."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry.cation_exchange import C_STANDARD
from sepmodel.chemistry.equilibrium import Spot

Array = NDArray[np.float64]

LN10 = float(np.log(10.0))


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Correlation:
    """log10 D = (m0 + m1 s) pH + B0 + B1 log10 s with s the local dosage of free extractant.

    ``m0, m1, b0, b1`` (C,); a constant D has only b0. ``charge`` protons released and ``monomers``
    extractant consumed per ion (C,). ``dosage`` is s per mol/m3 of free extractant (monomer),
    ``ka2`` [mol/L] the dissociation of HSO4-. pH is -log10 of the proton concentration.

    Totals of a spot: extractant (monomer, free and bound) [mol/m3 organic]; protons, HSO4- and
    metal equivalents together [mol/m3 aqueous]; sulfate in all [mol/m3 aqueous]. Unknowns: ln s and
    ln h [mol/L].
    """

    m0: Array
    m1: Array
    b0: Array
    b1: Array
    charge: Array
    monomers: Array
    dosage: float
    ka2: float

    @property
    def unknowns(self) -> int:
        """ln dosage and ln h."""
        return 2

    @property
    def dimers(self) -> Array:
        """Extractant units (monomers) an ion takes, shape (C,)."""
        return self.monomers

    def shifted(self, by: Array) -> Correlation:
        """The same correlation with ``by`` (..., C) added to ln D."""
        return replace(self, b0=self.b0 + by / LN10)

    def rows(self, at: NDArray[np.intp]) -> Correlation:
        """The model of some contacts of a batch, where ``b0`` has one row for each."""
        return replace(self, b0=self.b0[at]) if self.b0.ndim > 1 else self

    def free(self, u: Array, totals: Array, conc_aq: Array, conc_org: Array) -> tuple[Array, Array]:
        """Free extractant and protons [mol/m3] at a solved spot."""
        return np.exp(u[..., 0]) / self.dosage, C_STANDARD * np.exp(u[..., 1])

    def guess(self, moles: Array, aqueous: Array, organic: Array, totals: Array) -> Array:
        """All extractant free, all metals in the water."""
        acid = totals[..., 1] - (moles / aqueous[..., None]) @ self.charge
        acid = np.maximum(acid, np.finfo(float).eps * totals[..., 1]) / C_STANDARD
        sulfate = totals[..., 2] / C_STANDARD
        # h + sulfate h / (h + ka) = acid
        half = 0.5 * (sulfate + self.ka2 - acid)
        root = np.sqrt(half * half + acid * self.ka2)
        # The root of a quadratic without cancellation, on either side.
        h = np.where(half > 0, acid * self.ka2 / (root + np.abs(half)), root - half)
        return np.stack([np.log(totals[..., 0] * self.dosage), np.log(h)], axis=-1)

    def spot(
        self,
        u: Array,
        totals: Array,
        conc_aq: Array | None = None,
        conc_org: Array | None = None,
    ) -> Spot:
        """ln D and the closures of extractant and protons.

        >>> import numpy as np
        >>> one = np.array([1.0])
        >>> model = Correlation(m0=0.5 * one, m1=0 * one, b0=-one, b1=0 * one, charge=3 * one,
        ...                     monomers=3 * one, dosage=0.05, ka2=0.01)
        >>> spot = model.spot(np.log([[5.0, 0.01]]), np.array([[100.0, 20.0, 5.0]]))
        >>> float((spot.log_d[0, 0] / np.log(10)).round(12))
        0.0
        """
        s, log_h = np.exp(u[..., :1]), u[..., 1:]
        log_d = -(self.m0 + self.m1 * s) * log_h + LN10 * self.b0 + self.b1 * u[..., :1]
        slope = np.stack([-self.m1 * s * log_h + self.b1, -(self.m0 + self.m1 * s)], axis=-1)
        if conc_aq is None or conc_org is None:
            return Spot(log_d=log_d, slope=slope)
        free, h = s[..., 0] / self.dosage, C_STANDARD * np.exp(log_h[..., 0])
        ka = C_STANDARD * self.ka2
        bisulfate = totals[..., 2] * h / (h + ka)
        sums = np.stack(
            [free + conc_org @ self.monomers, h + bisulfate + conc_aq @ self.charge], axis=-1
        )
        change = np.stack([free, h + bisulfate * ka / (h + ka)], axis=-1)
        by_aq = np.zeros((*sums.shape, self.charge.size))
        by_aq[..., 1, :] = self.charge / sums[..., 1:]
        by_org = np.zeros_like(by_aq)
        by_org[..., 0, :] = self.monomers / sums[..., :1]
        return Spot(
            log_d=log_d,
            slope=slope,
            residual=np.log(sums / totals[..., :2]),
            by_u=(change / sums)[..., None] * np.eye(2),
            by_aq=by_aq,
            by_org=by_org,
            free=np.stack([free, h], axis=-1),
        )
