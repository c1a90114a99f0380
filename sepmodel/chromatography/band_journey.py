"""A moving grid on its way through a displacement column: loading, displacement, measuring.

The grid ends at the outlet, which is closed to dispersion; what has left is what the column lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sepmodel.chromatography.band_train import Snapshot
from sepmodel.chromatography.column import Bed
from sepmodel.chromatography.integrate import Work, integrate, read_out
from sepmodel.chromatography.isotherms import Isotherm
from sepmodel.chromatography.moving import Window, crowding, remap, spread_faces

Array = NDArray[np.float64]

_FLOOR = 1e-1
_EDGE = 1 / 2 / 10
_STRETCH = 3 / 2
_MARGIN = 1 / 4
_CROWDED = 5.0
_SHORTER = 4
_LEVELS = 8
_READINGS = 64
_GONE = 1e-8
_SETTLED = 1e-12


@dataclass(slots=True)
class Journey:
    """A moving grid on its way through the column, and what is kept of it."""

    bed: Bed
    law: Isotherm
    rate: Array
    start: Array
    speed: float
    cells: int
    tolerance: float
    scale: Array
    birth: float
    ahead: float
    behind: float
    squeeze: float
    trace: Array
    time: float = 0.0
    faces: Array = field(init=False)
    values: Array = field(init=False)
    work: Work = field(default_factory=Work)
    snapshots: list[Snapshot] = field(default_factory=list)
    fed: Array = field(init=False)
    given: Array = field(init=False)
    left: Array = field(init=False)
    before: Array = field(init=False)
    before_all: Array = field(init=False)
    read: list[tuple[Array, Array]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ahead = min(self.ahead, self.bed.length)
        self.faces = np.linspace(0.0, self.ahead, self.cells + 1)
        full = np.concatenate([self.start, self.law.loading(self.start)])
        self.values = np.tile(full, (self.cells, 1))
        self.before = self._held()
        self.before_all = self._content(full) * self.bed.length
        self.fed, self.left = np.zeros_like(self.start), np.zeros_like(self.start)
        self.given = np.zeros_like(self.start)
        self._keep()

    def _held(self) -> Array:
        """On the grid, per cross-section (C,)."""
        return np.asarray(np.diff(self.faces) @ self._content(self.values))

    def _content(self, values: Array) -> Array:
        """Per bed volume (..., C)."""
        c, void = self.start.size, self.bed.void
        return np.asarray(void * values[..., :c] + (1 - void) * values[..., c:])

    def closure(self) -> float:
        """The largest open balance of what went in or was there."""
        turnover = np.maximum(self.fed, self.before)
        return float(np.max(np.abs(self.fed + self.before - self.left - self._held()) / turnover))

    def _keep(self) -> None:
        c = self.start.size
        self.snapshots.append(
            Snapshot(
                time=self.time,
                faces=self.faces.copy(),
                conc=self.values[:, :c].copy(),
                bound=self.values[:, c:].copy(),
            )
        )

    def load(self, feed: Array, duration: float) -> None:
        """From the start to the end of the load: fronts leave the inlet like rays."""
        while self.time < duration * (1 - _SETTLED):
            reach = max((_STRETCH - 1) * self.speed * self.time, self.birth)
            rest = self.speed * (duration - self.time)
            if rest < reach * (1 + _MARGIN):
                reach = rest
            origin = self.speed * self.time or self.ahead
            self._section(feed, np.minimum(self.faces / origin, 1.0), reach)

    def drive(self, push: Array) -> None:
        """From the end of the load until the train has left."""
        begin, born, near = self.time, self.birth, self.cells // 4
        loaded, least = self._metals(), self.birth / _SHORTER
        self._regrid(
            np.concatenate(
                [np.linspace(0.0, born, near + 1)[:-1], self._spread(born, self.cells - near)]
            )
        )
        stride = born / 2
        while self._metals() > _GONE * loaded:
            gone = self.speed * (self.time - begin)
            if gone == 0:
                pace = np.minimum(self._tracked(), self.faces / born)
            elif gone < self.behind * (1 - _SETTLED):
                pace = np.minimum(self._tracked(), self.faces / (gone + born))
                stride = min(stride, self.behind - gone)
            else:
                pace = self._tracked()
            crowd = self._section(push, pace, stride)
            # Bands that move within the train leave the cells that were crowded for them.
            if crowd > _CROWDED:
                stride = max(0.5 * stride, least)
            elif crowd < 0.5 * _CROWDED or stride < born:
                stride = min(_STRETCH * stride, self.bed.length)

    def _tracked(self) -> Array:
        """Speeds of the faces over the train's: those of the levels of composition since the last
        section, where a level is a value of the mean place of a species in the order of the train.
        """
        if len(self.snapshots) < 2:
            return np.ones(self.cells + 1)
        old, new = self.snapshots[-2:]
        place = np.arange(self.start.size, dtype=float)
        levels = (np.arange(_LEVELS * (place.size - 1)) + 0.5) / _LEVELS
        at = []
        for shot in (old, new):
            share = shot.conc / shot.conc.sum(axis=1, keepdims=True)
            mean = np.minimum.accumulate(share @ place)
            at.append(np.interp(-levels, -mean, shot.centres))
        moved = (at[1] - at[0]) / (self.speed * (new.time - old.time))
        order = np.argsort(at[1], kind="stable")
        pace = np.interp(self.faces, at[1][order], np.clip(moved[order], 0.0, 1.0))
        for _ in range(_LEVELS):
            pace[1:-1] = (pace[2:] + 2 * pace[1:-1] + pace[:-2]) / 4
        return np.asarray(pace)

    def _metals(self) -> float:
        """Metals on the grid, per cross-section."""
        return float(self._held()[1:-1].sum())

    def _spread(self, low: float, cells: int) -> Array:
        shares = self.values / self.scale
        return spread_faces(self.faces, shares, low, float(self.faces[-1]), cells)

    def _regrid(self, faces: Array) -> None:
        self.values = remap(self.faces, self.values, faces)
        self.faces = faces

    def _section(self, inlet: Array, pace: Array, reach: float) -> float:
        """Integrate while the train goes on by ``reach`` [m] at most; every face moves evenly.
        Returns how crowded the changes have become on the grid by its end.

        ``pace`` is the speed of the faces over the train's; at the outlet the grid ends.
        """
        away = self.bed.length - self.faces
        if away[-1] > 0:
            reach = min(reach, away[-1] / pace[-1])
        else:
            pace = np.minimum(pace, away / self.squeeze)
        closing = -np.diff(pace) / np.diff(self.faces)
        reach = min(reach, 1 / max(2 * float(closing.max()), np.finfo(float).tiny))
        speeds, duration = self.speed * pace, reach / self.speed
        window = Window(
            isotherm=self.law,
            velocity=self.bed.velocity / self.bed.void,
            void=self.bed.void,
            dispersion=self.bed.dispersion,
            rate=self.rate,
            inlet=inlet,
            ahead=self.law.loading(self.start),
            faces=self.faces,
            speeds=speeds,
            begin=self.time,
        )
        when, begin, end = np.zeros(0), self.time, self.time + duration
        if away[-1] <= 0:
            when = np.linspace(begin, end, _READINGS + 1)[1:]
        width, growth = np.diff(self.faces), np.diff(speeds)
        given, first = self.given, self.before_all
        plateau = self._content(np.concatenate([inlet, self.law.loading(inlet)]))

        def watch(before: float, after: float, h: float, differences: Array) -> None:
            low, high = np.searchsorted(when, [before, after], side="right")
            if high > low:
                t = when[low:high]
                values = read_out(differences, after, h, t).reshape(t.size, self.cells, -1)
                wide = width + growth * (t - begin)[:, None]
                held = np.einsum("tn,tnc->tc", wide, self._content(values))
                # Upstream of the grid the column holds nothing but what enters.
                gone = np.maximum(self.faces[0] + speeds[0] * (t - begin), 0.0)
                brought = given + self.bed.velocity * inlet * (t - begin)[:, None]
                self.read.append((t, brought + first - held - gone[:, None] * plateau))

        y = self.values.ravel()
        amount, _ = window.evaluate(begin, y)
        y, _, out = integrate(
            window,
            begin,
            end,
            y,
            amount,
            tolerance=self.tolerance,
            floor=self.tolerance * _FLOOR * np.tile(self.scale * self.trace, self.cells),
            first=duration / _READINGS,
            work=self.work,
            watch=watch,
        )
        self.fed = self.fed + window.inflow() * duration
        self.given = self.given + self.bed.velocity * inlet * duration
        self.left = self.left + out
        self.faces, self.time = window.grid(end), end
        if away[-1] > 0 and self.faces[-1] > self.bed.length * (1 - _SETTLED):
            self.faces[-1] = self.bed.length
        self.values = y.reshape(self.cells, -1)
        self._keep()
        crowd = crowding(self.values / self.scale)
        self._regrid(self._spread(float(self.faces[0]), self.cells))
        return crowd

    def passed(self) -> tuple[Array, Array]:
        """Times and what has left by then."""
        when = np.concatenate([[0.0], *(t for t, _ in self.read)])
        gone = np.concatenate([np.zeros((1, self.start.size)), *(a for _, a in self.read)])
        return when, np.maximum.accumulate(gone, axis=0)


def span(
    snapshots: Sequence[Snapshot], pair: int, total: float, length: float
) -> tuple[float, float]:
    """Length [m] and cells from 95 to 5 % of the faster of two touching bands in the last snapshot
    that has it wholly inside the column; NaN and the cells of a flank where none has."""
    flank = float("nan")
    for shot in snapshots[::-1]:
        z, cell = shot.centres, np.arange(shot.conc.shape[0])
        fast, slow = shot.conc[:, pair], shot.conc[:, pair + 1]
        here = fast + slow > 0.5 * total
        share = np.maximum.accumulate(
            np.where(here, fast / np.where(here, fast + slow, 1), 0)[here]
        )
        inside = here.any() and share[0] <= _EDGE and share[-1] >= 1 - _EDGE
        ends = [_EDGE, 1 - _EDGE]
        low, high = np.interp(ends, share, z[here]) if inside else (length, length)
        # Its own length away from the outlet, whose closed end sharpens it.
        if high + (high - low) < length:
            first, last = np.interp(ends, share, cell[here])
            return float(high - low), float(last - first)
        if np.isnan(flank) and shot.faces[-1] < length:
            flank = min(_flank(fast, cell, rear=True), _flank(slow, cell, rear=False))
    return float("nan"), flank


def _flank(conc: Array, cell: NDArray[np.intp], rear: bool) -> float:
    """Cells from 5 to 95 % of a band's peak on its rear or front; NaN where that is not inside."""
    top = int(np.argmax(conc))
    side, where = (conc[: top + 1], cell[: top + 1]) if rear else (conc[:top:-1], cell[:top:-1])
    if side.size < 2 or not conc[top] > 0:
        return float("nan")
    side = np.maximum.accumulate(np.maximum(side, 0.0)) / conc[top]
    if side[0] > _EDGE or top in (0, conc.size - 1):
        return float("nan")
    low, high = np.interp([_EDGE, 1 - _EDGE], side, np.abs(where - where[0]))
    return float(high - low)
