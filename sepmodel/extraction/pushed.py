"""Parameters pushed forward through the closures of a circuit whose fluxes are eliminated.

Each door (``by_inputs.Doors``) is opened once: the balances' answer to it is known or one solve of
the components' chains, and every parameter is a sum of doors. One solve a parameter is left, of
the small dense matrix of the closures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sepmodel.extraction.by_inputs import Doors, Point, Taken
from sepmodel.extraction.by_streams import Stream
from sepmodel.extraction.reduced import TINY, Reduced

Array = NDArray[np.float64]


class Pushed:
    """Answers of a circuit to P parameters.

    ``own`` of the stages' unknowns, with the sign of J^-1 F_p (P, N m); those of ln l at fixed
    unknowns are ``weights`` (P, d C) of ``changes`` (d, C, N) of single components, and
    ``weights_all`` (P, K) of ``changes_all`` (K, C, N).
    """

    def __init__(self, point: Point, closed: Reduced, doors: Doors) -> None:
        self.closed = closed
        size, count = doors.ratio.shape
        moved = [point.streams[key] for key in doors.keys]
        solved = _changes(point, closed, moved)
        stages = [stage for _, stage in doors.entering]
        moles = np.array([doors.ratio, *doors.entering.values()])
        largest = np.abs(moles).max(axis=1)
        entered = largest[1:] * -closed.chains.back[:, stages].T
        self.changes = np.empty((len(moles), *closed.chains.back.shape))
        self.changes[0] = solved[0]
        self.changes[1:] = closed.fed(closed.chains.reached(stages, entered))
        moles /= np.maximum(largest, TINY)[:, None]
        self.weights = np.moveaxis(moles, 0, 1).reshape(size, -1)
        self.weights_all, self.changes_all = doors.streams, solved[1:]
        answers = -closed.closing * self.changes[..., None]
        answers[0] += closed.by_org
        closures = self.weights @ answers.reshape(len(moles) * count, -1)
        fresh = point.by_totals[..., 0].ravel() * np.asarray(point.inputs.dimer)
        closures += doors.dimer[:, None] * fresh
        if moved:
            water = np.array([s.water for s in moved])[..., None]
            totals = np.array([s.totals for s in moved])[:, :, None]
            answer = (point.by_aq + point.by_org) * -water
            for t in range(totals.shape[-1]):
                answer += point.by_totals[..., 1 + t] * totals[..., t]
            answer -= (closed.closing * self.changes_all[..., None]).sum(axis=1)
            closures += doors.streams @ answer.reshape(len(moved), -1)
        self.own = closed.own(closures)

    def outputs(self, point: Point, taken: Taken) -> Array:
        """What outputs change by through the unknowns and the fluxes, to be subtracted, (O, P)."""
        at, (stages, m) = list(taken.stages), self.closed.slope.shape[1:]
        by_flux = np.swapaxes(taken.flows[0] + taken.flows[1], 1, 2)
        size = by_flux.shape[0]
        flat = by_flux.reshape(size, -1)  # (O, C E)
        by_own = -flat @ np.swapaxes(self.closed.ends(at), 0, 1).reshape(flat.shape[1], -1)
        by_own.reshape(size, stages, m)[:, at] += point.by_own(taken)
        out: Array = by_own @ self.own.T
        out += (flat @ self.changes_all[..., at].reshape(-1, flat.shape[1]).T) @ self.weights_all.T
        alone = (by_flux[:, None] * self.changes[..., at]).sum(axis=-1)
        out += alone.reshape(size, -1) @ self.weights.T
        return out


def _changes(point: Point, closed: Reduced, moved: Sequence[Stream]) -> Array:
    """Changes of ln l with ln A of all stages, and with each stream, (1 + K, C, N)."""
    shifts = np.array([np.ones(point.stages), *(s.solvent - s.water for s in moved)])
    out = np.zeros((1 + len(moved), *closed.chains.back.shape))
    # More solvent everywhere acts as ln K does; what only brings anions leaves the balances alone.
    alike = (shifts == 1.0).all(axis=1)
    moving = shifts.any(axis=1) & ~alike
    moving[1:] |= np.array([bool(s.moles) for s in moved], dtype=bool)
    moving[0] = True
    which = np.flatnonzero(moving)
    balances = closed.moved(shifts[which, None])
    for row, k in zip(balances, which.tolist(), strict=True):
        for _, stage, moles in moved[k - 1].moles if k else ():
            with np.errstate(invalid="ignore", over="ignore"):
                row[:, stage] -= np.nan_to_num(moles * closed.chains.back[:, stage])
    out[which] = closed.fed(closed.chains.solve(balances))
    out[alike & ~moving] = out[0]
    return out
