"""Competition for a prescribed organic loading: separation factors and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry.equilibrium import Spot

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Competition:
    """D_i = a_i tau: the organic carries a prescribed total and the components share it.

    One unknown per spot, u = ln tau; ln a_i is added outside. Totals of a spot: what the organic
    carries in all, and 1 where the spot is inert (u = 0), else 0.
    """

    @property
    def unknowns(self) -> int:
        """ln tau."""
        return 1

    def guess(self, moles: Array, aqueous: Array, organic: Array, totals: Array) -> Array:
        """ln tau that puts the prescribed total into the organic were all components alike."""
        total = totals[..., 0]
        u: Array = np.log(total / np.maximum(moles.sum(axis=-1) - total, total))
        return u[..., None]

    def spot(
        self,
        u: Array,
        totals: Array,
        conc_aq: Array | None = None,
        conc_org: Array | None = None,
    ) -> Spot:
        """ln D = u; closure ln(sum of the organic / prescribed).

        >>> import numpy as np
        >>> spot = Competition().spot(
        ...     np.zeros((1, 1)), np.array([[2.0, 0.0]]), np.ones((1, 2)), np.ones((1, 2))
        ... )
        >>> spot.residual.tolist()
        [[0.0]]
        """
        if conc_aq is None or conc_org is None:
            return Spot(log_d=u, slope=np.ones((*u.shape, 1)))
        inert = totals[..., 1:] > 0
        total = conc_org.sum(axis=-1, keepdims=True)
        # An organic that has run empty far from the solution is refused by the solver, not here.
        with np.errstate(divide="ignore", over="ignore"):
            residual = np.where(inert, u, np.log(total / totals[..., :1]))
            by_org = np.where(inert[..., None], 0.0, 1.0 / total[..., None])
        by_org = np.broadcast_to(by_org, (*residual.shape, conc_org.shape[-1]))
        return Spot(
            log_d=u,
            slope=np.ones((*u.shape, 1)),
            residual=residual,
            by_u=np.where(inert, 1.0, 0.0)[..., None],
            by_aq=np.zeros_like(by_org),
            by_org=by_org,
        )
