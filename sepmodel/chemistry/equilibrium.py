"""What every equilibrium between an aqueous and an organic phase offers.

A well-mixed spot is described by a few log-unknowns ``u`` of its own (ln of free dimer over proton,
ionic strength, ...) beside the component concentrations. Given ``u``, every distribution ratio is
known; given concentrations too, as many closures (dimer, charge, ...) tell whether ``u`` is right.
Cascades, batches and columns call ``spot`` and know no chemistry; ``guess`` starts them.

Axis order: [..., spot, component]; concentrations in mol/m3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Spot:
    """Distribution and closures at every spot, with their derivatives.

    ``log_d`` ln(organic/aqueous) (..., N, C), ``slope`` d log_d/du (..., N, C, m); where
    concentrations were given: ``residual`` (..., N, m), its derivatives ``by_u`` (..., N, m, m) and
    ``by_aq, by_org`` (..., N, m, C) with respect to concentrations, ``by_totals`` (..., N, m, T)
    with respect to the totals (a model may leave that out); ``free`` (..., N, F) amounts [mol/m3]
    that only a physical solution has all positive (free extractant, protons, ...), the protons
    last.
    """

    log_d: Array
    slope: Array
    residual: Array | None = None
    by_u: Array | None = None
    by_aq: Array | None = None
    by_org: Array | None = None
    free: Array | None = None
    by_totals: Array | None = None


class Equilibrium(Protocol):
    """An equilibrium model: ``unknowns`` log-unknowns per spot, and what follows from them."""

    @property
    def unknowns(self) -> int:
        """Number m of log-unknowns and closures per spot."""
        ...

    def guess(self, moles: Array, aqueous: Array, organic: Array, totals: Array) -> Array:
        """u (..., m) of one spot in which ``moles`` (..., C) share volumes of both phases (...)."""
        ...

    def spot(
        self,
        u: Array,
        totals: Array,
        conc_aq: Array | None = None,
        conc_org: Array | None = None,
    ) -> Spot:
        """Distribution at ``u`` (..., N, m), and closures where concentrations are given.

        ``totals`` (..., N, T): what no exchange between the phases changes (dimer, charge, ...).
        """
        ...
