"""A displacement train by simulation: bands, boundaries, and what can be pooled at the outlet.

A bed in the form of a presaturant takes a load of metals, all held by one ligand at C_T, and is
displaced by the ligand's own cation. Binding lags with a linear driving force. The grid travels
with the bands (``moving``) and crowds where they meet; the theory is in ``constant_pattern``.

The grid ends at the outlet, which is closed to dispersion; what has left is what the column lacks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sepmodel.chromatography import constant_pattern as pattern
from sepmodel.chromatography.column import Bed
from sepmodel.chromatography.integrate import Work, integrate, read_out
from sepmodel.chromatography.isotherms import ConstantSelectivity, Isotherm
from sepmodel.chromatography.moving import Window, crowding, monotone, remap, spread_faces
from sepmodel.errors import InfeasibleError, InputError, Problem

Array = NDArray[np.float64]

LEAST_CELLS = 10
"""Cells a boundary must span before a purity is computed from it."""
CELLS = 48
"""Cells for each boundary unless a number of cells is given."""
_TOLERANCE = 1e-4
_FLOOR = 1e-1
_ALONE = 1e-6
_FOOT = 1e-8
_EDGE = 1 / 2 / 10
_AHEAD = 40
_BEHIND = 24
_BIRTH = 5
_STRETCH = 3 / 2
_TRAVEL = 1 / 4
_MARGIN = 1 / 4
_CROWDED = 5.0
_SHORTER = 4
_LEVELS = 8
_ABSOLUTE = 10.0
_LEAST_TRACE = 1e-2
_WIDE = 16.0
_READINGS = 64
_FINE = 64
_GONE = 1e-8
_SETTLED = 1e-12
_KEPT = 256


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


def best_fraction(
    times: Array, conc: Array, index: int, purity: float
) -> tuple[float, float, float, float]:
    """Start, end, amount over flow and purity of the largest fraction of one component.

    Parameters
    ----------
    times: (T,) [s]. conc: (T, C) [mol/m3]. index: the component. purity: its least mole share.

    >>> t = np.arange(5.0)
    >>> two = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
    >>> best_fraction(t, two, 0, 0.99)[:2]
    (0.0, 1.0)
    """
    dt = np.diff(times)[:, None]
    amount = np.zeros_like(conc)
    amount[1:] = np.cumsum(0.5 * dt * (conc[1:] + conc[:-1]), axis=0)
    mine, total = amount[:, index], amount.sum(axis=1)
    start, end = best_cut(mine, total, purity)
    got, everything = mine[end] - mine[start], total[end] - total[start]
    pure = float(got / everything) if everything > 0 else float("nan")
    return float(times[start]), float(times[end]), float(got), pure


@lru_cache(maxsize=_KEPT)
def zone_length(alpha: float, spread: float, lag: float, edge: float = _EDGE) -> float:
    """Length of a boundary [m] from mole fraction ``edge`` to 1 - ``edge``, both causes together.

    With ``spread`` = e D C_T/(v Q) and ``lag`` = v/k the slow metal's fraction x obeys

        spread lag x'' = y(x) - x + (spread + lag) x',   y = alpha x/(1 + (alpha - 1) x)

    integrated upstream from its saddle at x = 0. Where one cause is alone this is the closed form
    of ``constant_pattern``, which adds them otherwise and is up to a sixth too long.

    >>> round(zone_length(1.5, 0.01, 1e-9) / float(pattern.zone_length(1.5, 0.01)), 6)
    1.0
    """
    from scipy.integrate import solve_ivp

    both, product = spread + lag, spread * lag
    if product <= _ALONE * both**2:
        return float(pattern.zone_length(alpha, both, edge))
    # decay rate at the foot: product mu^2 + both mu = alpha - 1
    mu = 2 * (alpha - 1) / (both + np.sqrt(both**2 + 4 * product * (alpha - 1)))

    def upstream(_: float, state: Array) -> tuple[float, float]:
        x, slope = state
        excess = alpha * x / (1 + (alpha - 1) * x) - x
        return -slope, -(excess + both * slope) / product

    def top(_: float, state: Array) -> float:
        return float(state[0] - 1 + edge)

    def foot(_: float, state: Array) -> float:
        return float(state[0] - edge)

    top.terminal = True  # type: ignore[attr-defined]
    far = 10 * float(pattern.zone_length(alpha, both, _FOOT))
    solved = solve_ivp(
        upstream,
        (0.0, far),
        (_FOOT, -mu * _FOOT),
        method="Radau",
        events=(top, foot),
        rtol=_FOOT,
        atol=_FOOT**2,
    )
    return float(solved.t_events[0][0] - solved.t_events[1][0])


def displace(
    bed: Bed,
    selectivity: Mapping[str, float],
    load: Mapping[str, float],
    *,
    capacity: float,
    ligand_conc: float,
    band: float,
    rate: float,
    cells: int | None = None,
    tolerance: float = _TOLERANCE,
) -> Train:
    """Load a presaturated bed, displace the load, and measure every boundary on its way.

    Parameters
    ----------
    bed: without beads; ``void`` is all the liquid.
    selectivity: of the resin at the ligand's concentration, on any scale, from the presaturant (the
        lowest) over the metals to the displacer (the highest), in that order.
    load: mole shares of the metals.
    capacity: of the resin [mol/m3 solid]. ligand_conc: C_T [mol/m3].
    band: metal loaded, as a share of what the bed holds.
    rate: linear driving force [1/s].
    cells: of the grid that travels with the train; 48 for each boundary unless given.

    Raises
    ------
    InputError
        when selectivities do not rise or the load is not among them.

    >>> train = displace(
    ...     Bed(length=0.1, velocity=1e-4, void=0.4, dispersion=1e-7),
    ...     {"Cu": 1.0, "Nd": 3.0, "Na": 9.0}, {"Nd": 1.0},
    ...     capacity=600.0, ligand_conc=90.0, band=0.5, rate=0.01, cells=48,
    ... )
    >>> bool(train.closure < 1e-9)
    True
    """
    names, a = tuple(selectivity), np.array(list(selectivity.values()))
    metals = names[1:-1]
    if len(names) < 3 or np.any(np.diff(a) <= 0) or a[0] <= 0:
        raise InputError(
            Problem(
                message="selectivities rise from presaturant to displacer",
                value=dict(selectivity),
                expected="three or more, each above the one before",
            )
        )
    if set(load) != set(metals) or not all(share > 0 for share in load.values()):
        raise InputError(
            Problem(message="the load is of the metals", value=dict(load), expected=str(metals))
        )
    cells = CELLS * (len(names) - 1) if cells is None else cells
    if not 0 < band < 1 or not rate > 0 or cells < LEAST_CELLS:
        raise InputError(
            Problem(
                message="band, rate or cells out of range",
                value=(band, rate, cells),
                expected=f"a band between 0 and 1, a positive rate, {LEAST_CELLS} cells or more",
            )
        )
    shares = np.array([load[m] for m in metals]) / sum(load.values())
    resin = (1 - bed.void) * capacity
    cap = pattern.bed_capacity(bed.void, ligand_conc, resin)
    speed = pattern.train_velocity(bed.velocity, ligand_conc, cap)
    spread = bed.void * bed.dispersion * ligand_conc / (speed * resin)
    mixing = spread + speed / rate
    feed, start, push = np.zeros(len(names)), np.zeros(len(names)), np.zeros(len(names))
    feed[1:-1], start[0], push[-1] = ligand_conc * shares, ligand_conc, ligand_conc
    front, rear = float(a[1] / a[0]), float(a[-1] / a[-2])
    journey = _Journey(
        bed=bed,
        law=ConstantSelectivity(selectivity=a, capacity=capacity),
        rate=np.full(len(names), rate),
        start=start,
        speed=speed,
        cells=cells,
        tolerance=tolerance,
        scale=np.repeat([ligand_conc, capacity], len(names)),
        birth=_BIRTH * mixing,
        ahead=mixing * (_BIRTH + _AHEAD / (front - 1)),
        behind=mixing * (_BIRTH + _BEHIND * rear / (rear - 1)),
        # A trace of what the resin prefers thousandfold counts in its sum, so it must be exact.
        trace=np.append(np.clip(_ABSOLUTE * a[0] / a, _LEAST_TRACE, 1.0), np.ones(len(names))),
        squeeze=min(_TRAVEL * band * bed.length, _WIDE * mixing),
    )
    journey.load(feed, band * bed.length / speed)
    journey.drive(push)
    times, effluent = journey.passed()
    boundaries = []
    for i, (fast, slow) in enumerate(pairwise(names)):
        length, spanned = _span(journey.snapshots, i, ligand_conc, bed.length)
        theory = zone_length(float(a[i + 1] / a[i]), spread, speed / rate)
        boundaries.append(
            Boundary(slow=slow, fast=fast, length=length, cells=spanned, theory=theory)
        )
    return Train(
        names=names,
        loaded=band * cap * bed.length * shares,
        velocity=speed,
        bed=bed,
        ligand_conc=ligand_conc,
        times=times,
        effluent=effluent,
        snapshots=tuple(journey.snapshots),
        boundaries=tuple(boundaries),
        closure=journey.closure(),
        scheme=f"limited finite volumes, {cells} cells that travel with the train",
        steps=journey.work.steps,
    )


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Yields:
    """What one column gives: ``recovery`` and its ``error`` (M, P) of each metal at each purity.

    ``train`` is the finer of two runs; the error is their distance over r^2 - 1, r the ratio of the
    cells, which is what is left to the limit of a second-order scheme.
    """

    train: Train
    purities: tuple[float, ...]
    recovery: Array
    error: Array


def yields(
    bed: Bed,
    selectivity: Mapping[str, float],
    load: Mapping[str, float],
    purities: Sequence[float],
    *,
    capacity: float,
    ligand_conc: float,
    band: float,
    rate: float,
    cells: int | None = None,
    tolerance: float = _TOLERANCE,
) -> Yields:
    """Recoveries of every metal at some purities with the error of the grid; see ``displace``.

    Raises
    ------
    InfeasibleError
        when a boundary spans fewer than ten cells of the coarser grid.
    """
    fine = CELLS * (len(selectivity) - 1) if cells is None else cells
    coarse = fine * 2 // 3
    runs = [
        displace(
            bed,
            selectivity,
            load,
            capacity=capacity,
            ligand_conc=ligand_conc,
            band=band,
            rate=rate,
            cells=n,
            tolerance=tolerance,
        )
        for n in (coarse, fine)
    ]
    rough, good = (
        np.array([[run.pool(m, p).recovery for p in purities] for m in run.metals]) for run in runs
    )
    return Yields(
        train=runs[1],
        purities=tuple(purities),
        recovery=good,
        error=np.abs(good - rough) / ((fine / coarse) ** 2 - 1),
    )


@dataclass(slots=True)
class _Journey:
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


def _span(
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
