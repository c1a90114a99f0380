"""What a simulated displacement train is: boundaries, snapshots, what has left, pools of it.

A purity is computed only from boundaries that span ten cells or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel.chromatography.column import Bed
from sepmodel.chromatography.moving import monotone
from sepmodel.errors import InfeasibleError, InputError, Problem

Array = NDArray[np.float64]

LEAST_CELLS = 10
"""Cells a boundary must span before a purity is computed from it."""
_FINE = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Boundary:
    """Where two bands meet: ``length`` [m] from 5 to 95 % inside the column, NaN if undeveloped.

    ``cells`` counts those the grid has there (on the steepest flank of the two metals where they
    never stand alone), ``theory`` [m] is the length of the constant pattern.
    """

    slow: str
    fast: str
    length: float
    cells: float
    theory: float


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Snapshot:
    """The grid at a ``time`` [s]: ``faces`` (N + 1,) [m], ``conc`` and ``bound`` (N, C)."""

    time: float
    faces: Array
    conc: Array
    bound: Array

    @property
    def centres(self) -> Array:
        """Middles of the cells (N,) [m]."""
        return np.asarray(0.5 * (self.faces[1:] + self.faces[:-1]))


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Pooled:
    """The largest contiguous fraction of the effluent at a purity: nothing where there is none.

    ``start`` and ``end`` [s], ``recovery`` of the metal loaded, ``purity`` reached, by mole among
    the metals of the load; ``moles`` (M,) of each of those [mol per m2 of cross-section].
    """

    start: float
    end: float
    recovery: float
    purity: float
    moles: Array


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Train:
    """A simulated displacement: ``names`` in the order they leave, presaturant to displacer.

    ``loaded`` (M,) of each metal and ``effluent`` (T, C), what has left by ``times`` (T,)
    [mol per m2]; ``velocity`` of the train [m/s]; ``closure`` the largest open balance.
    """

    names: tuple[str, ...]
    loaded: Array
    velocity: float
    bed: Bed
    ligand_conc: float
    times: Array
    effluent: Array
    snapshots: tuple[Snapshot, ...]
    boundaries: tuple[Boundary, ...]
    closure: float
    scheme: str
    steps: int

    @property
    def metals(self) -> tuple[str, ...]:
        """The metals of the load, fastest first."""
        return self.names[1:-1]

    @property
    def outlet(self) -> tuple[Array, Array]:
        """Times between those of ``effluent`` (T - 1,) and concentrations there (T - 1, C)."""
        step = np.diff(self.times)
        conc = np.diff(self.effluent, axis=0) / (self.bed.velocity * step)[:, None]
        return 0.5 * (self.times[1:] + self.times[:-1]), conc

    def pool(self, names: str | Sequence[str], purity: float) -> Pooled:
        """The largest pool of a metal, or of some together, at a mole purity among the metals.

        Raises
        ------
        InfeasibleError
            when a boundary spans fewer than ten cells: the purity would be the grid's.
        """
        wanted = (names,) if isinstance(names, str) else tuple(names)
        strange = [n for n in wanted if n not in self.metals]
        if strange or not wanted:
            raise InputError(
                Problem(
                    message="not a metal of the load",
                    value=", ".join(strange),
                    expected=", ".join(self.metals),
                )
            )
        self.check()
        index = [self.metals.index(n) for n in wanted]
        times, out = self.fine
        mine = out[:, index].sum(axis=1)
        i, j = best_cut(mine, out.sum(axis=1), purity)
        moles = np.maximum(out[j] - out[i], 0.0)
        total = float(moles.sum())
        return Pooled(
            start=float(times[i]),
            end=float(times[j]),
            recovery=float(moles[index].sum() / self.loaded[index].sum()),
            purity=float(moles[index].sum() / total) if total > 0 else float("nan"),
            moles=moles,
        )

    @property
    def fine(self) -> tuple[Array, Array]:
        """Times (F,) and metals that have left (F, M), a monotone cubic between the readings."""
        share = np.arange(_FINE) / _FINE
        step = np.diff(self.times)[:, None]
        times = np.append((self.times[:-1, None] + step * share).ravel(), self.times[-1])
        return times, np.asarray(monotone(self.times, self.effluent[:, 1:-1])(times))

    def check(self) -> None:
        """InfeasibleError when a boundary spans fewer than ten cells."""
        thin = self.thinnest
        if thin is None or not thin.cells >= LEAST_CELLS:
            raise self._refused(thin)

    @property
    def thinnest(self) -> Boundary | None:
        """The boundary on the fewest cells."""
        known = [b for b in self.boundaries if np.isfinite(b.cells)]
        return min(known, key=lambda b: b.cells, default=None)

    def _refused(self, thin: Boundary | None) -> InfeasibleError:
        limit = {"cells a boundary": LEAST_CELLS}
        if thin is None:
            return InfeasibleError("no boundary has developed: no purity", limit=limit)
        grid = self.snapshots[-1].conc.shape[0]
        needed = np.ceil(grid * LEAST_CELLS / thin.cells)
        return InfeasibleError(
            f"{thin.fast}|{thin.slow} spans {thin.cells:.1f} cells: no purity from this grid",
            limit=limit,
            nearest={"cells": int(needed)},
        )


def best_cut(mine: Array, total: Array, purity: float) -> tuple[int, int]:
    """First and last index of the largest fraction of a component at a purity.

    With A the component's amount and E = A - purity x total, both cumulated (T,), a fraction (i, j)
    qualifies when E_j >= E_i; for every start the last such end is best because A only rises.

    >>> best_cut(np.array([0.0, 1.0, 2.0, 2.0]), np.array([0.0, 1.0, 2.0, 3.0]), 0.99)
    (0, 2)
    """
    excess = mine - purity * total
    # Largest later excess never rises with the index: the last end is found by bisection.
    later = np.maximum.accumulate(excess[::-1])
    last = len(mine) - 1 - np.searchsorted(later, excess, side="left")
    last = np.maximum(last, np.arange(len(mine)))
    start = int(np.argmax(mine[last] - mine))
    return start, int(last[start])
