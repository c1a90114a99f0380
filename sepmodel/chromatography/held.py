"""A bed at exact local equilibrium: the unknowns are what its cells hold, not what is dissolved.

Per bed volume, with c(w) the dissolved totals of cells that hold w,

    dw/dt = e (-v dc/dz + D d2c/dz2)

so a law that is as steep as a step in concentration (a protein that fills at 1e-11 mol/L) is no
harder than any other, and no rate stands in for equilibrium. Newton's matrix is 1 - gamma T dc/dw
with the transport's stencil T and dc/dw cell by cell. What has left is a last row of the same
system: mass closes to rounding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dgbtrf, dgbtrs

from sepmodel.chromatography import transport
from sepmodel.chromatography.cells import Cells
from sepmodel.chromatography.column import Section
from sepmodel.chromatography.integrate import Work, integrate, read_out
from sepmodel.chromatography.speciated import Chemistry
from sepmodel.chromatography.transport import Scheme
from sepmodel.errors import ConvergenceError, Trace

Array = NDArray[np.float64]

TOLERANCE = 1e-3
FLOOR = 1e-2
"""Absolute tolerance over relative tolerance, as a share of the most a cell can hold."""
_LEAST = 1e-6
INSTANTS = 128
"""Points of the chromatogram in each section."""
# An error may be a tolerance times the bend of a profile over this share of the bed: where a front
# is one cell wide, a displacement by a tolerance times the share.
_DISPLACED = 1 / 16
# A bend of what metals fill, over the protein, that makes a front.
_FRONT = 0.5
# Over the most that is dissolved anywhere, in trial contents of a full cell.
_ROOM = 1 + 1 / 8
"""Points of the chromatogram in each section."""


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Contents:
    """What a bed holds: ``held`` (N, C) [mol/m3 bed] and ``log_free`` (N, C)."""

    held: Array
    log_free: Array


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class HeldRun:
    """Outlet and contents over a programme.

    ``times`` (T,) [s], ``outlet`` (T, C) dissolved [mol/m3], ``free`` (T, C) free, ``left`` (T, C)
    what had left until then; ``collected`` (S, C), ``fed`` (S, C) by section, ``before`` and
    ``after`` (C,): amounts [mol per m2 of cross-section]. ``closure`` (C,) is the open balance over
    what went in or was there.
    """

    times: Array
    outlet: Array
    free: Array
    left: Array
    collected: Array
    fed: Array
    before: Array
    after: Array
    closure: Array
    scheme: str
    contents: Contents
    steps: int
    evaluations: int


@dataclass(slots=True)
class _System:
    """See ``integrate.KinkedSystem``; the last C unknowns are what has left [mol/m2 over length].

    ``top`` is the most metal dissolved anywhere [mol/m3]; the inlet is ``inlet`` + ``slope`` times
    the time since ``since``.
    """

    cells: Cells
    op: transport.Operator
    velocity: float
    length: float
    inlet: Array
    slope: Array | None
    since: float
    top: float
    linear: bool = False
    kinked: bool = True
    conc: Array = field(default_factory=lambda: np.zeros(0))
    feed: Array = field(default_factory=lambda: np.zeros(0))
    band: tuple[Array, NDArray[np.int32]] = field(init=False)
    reach: tuple[int, int] = field(init=False)
    lower: int = field(init=False)
    upper: int = field(init=False)
    fixed: Array = field(init=False)

    def __post_init__(self) -> None:
        n, c = self.op.axis.position.size, self.cells.of.mobile
        self.feed = self.inlet
        if isinstance(self.op, transport.LinearOperator):
            self.reach = max(self.op.lower, 1), self.op.upper
        else:
            self.reach = 2, 1
        below, above = self.reach
        self.lower, self.upper = below * c + c - 1, above * c + c - 1
        # By cell j: how the rates of cells j - above to j + below change with its concentrations.
        self.fixed = np.zeros((n, above + 1 + below, c))
        if isinstance(self.op, transport.LinearOperator):
            for k in range(-above, below + 1):
                j = np.arange(max(0, -k), min(n, n - k))
                self.fixed[j, above + k] = self.op.matrix[j + k, j][:, None] * self.cells.of.liquid
        self.fixed[n - 1, above + 1] = self.velocity / self.length

    def evaluate(self, t: float, y: Array) -> tuple[Array, Array]:
        """See ``integrate.System``."""
        c = self.cells.of.mobile
        self.conc = self.cells.settle(y[:-c].reshape(-1, c))
        self.feed = self.inlet
        if self.slope is not None:
            self.feed = self.inlet + self.slope * (t - self.since)
        if isinstance(self.op, transport.LinearOperator):
            moved = self.op.matrix @ self.conc + self.op.inlet[:, None] * self.feed
        else:
            moved = transport.limited_rate(self.op, self.conc, self.feed)
        rate = np.empty_like(y)
        rate[:-c] = (self.cells.of.liquid * moved).ravel()
        rate[-c:] = self.velocity / self.length * self.conc[-1]
        return y.copy(), rate

    def factorise(self, gamma: float) -> None:
        """See ``integrate.System``."""
        n, c = self.op.axis.position.size, self.cells.of.mobile
        below, above = self.reach
        stencil = self.fixed
        if isinstance(self.op, transport.LimitedOperator):
            stencil = stencil.copy()
            each = transport.limited_slopes(self.op, self.conc, self.feed)
            each *= self.cells.of.liquid
            # of cell i by i - 2, i - 1, i, i + 1
            stencil[:-2, 3] += each[0, 2:]
            stencil[:-1, 2] += each[1, 1:]
            stencil[:, 1] += each[2]
            stencil[1:, 0] += each[3, :-1]
        # Block (j, b) of the band: every row that feels component b of cell j, one after the other.
        slopes = self.cells.slopes().transpose(0, 2, 1)[:, :, None, :]
        blocks = (stencil * -gamma)[:, None] * slopes
        wide = 2 * self.lower + self.upper + 1
        store = np.zeros((n + 1, c, wide))
        first = self.lower + self.upper - above * c
        rows = (above + 1 + below) * c
        for b in range(c):
            store[:n, b, first - b : first - b + rows] = blocks[:, b].reshape(n, rows)
        store[:, :, self.lower + self.upper] += 1.0
        band = store.reshape((n + 1) * c, wide)
        lu, pivots, info = dgbtrf(band.T, self.lower, self.upper, overwrite_ab=1)
        if info > 0:
            lu = lu + np.nan
        self.band = (lu, pivots)

    def solve(self, right: Array) -> Array:
        """See ``integrate.System``."""
        lu, pivots = self.band
        return np.asarray(dgbtrs(lu, self.lower, self.upper, right, pivots)[0])

    def size(self, y: Array) -> Array:
        """See ``integrate.KinkedSystem``: a front may be displaced by a share of a cell."""
        c = self.cells.of.mobile
        level: Array = np.abs(y)
        cells = level[:-c].reshape(-1, c)
        bend = _DISPLACED * len(cells) * np.abs(np.diff(y[:-c].reshape(-1, c), n=2, axis=0))
        cells[1:-1] += bend
        cells[:-2] += bend
        cells[2:] += bend
        return level

    def begin(self, ahead: Array, before: Array, change: Array) -> None:
        """See ``integrate.KinkedSystem``: no polynomials across a front."""
        of = self.cells.of
        c = of.mobile
        old = before[:-c].reshape(-1, c)
        metals = old[:, : of.metals].sum(axis=1)
        front = np.flatnonzero(np.abs(np.diff(metals, n=2)) > _FRONT * of.protein) + 1
        if front.size:
            near = np.unique(np.concatenate([front - 1, front, front + 1]))
            moved = old[near] + change[:-c].reshape(-1, c)[near]
            ahead[:-c].reshape(-1, c)[near] = moved
        self.tame(ahead, before)

    def tame(self, y: Array, before: Array) -> None:
        """See ``integrate.KinkedSystem``: nothing below zero, no more than a cell can hold."""
        of = self.cells.of
        c, m = of.mobile, of.metals
        cells = y[:-c].reshape(-1, c)
        np.maximum(cells, np.minimum(before[:-c].reshape(-1, c), 0.0), out=cells)
        total = cells[:, :m].sum(axis=1)
        most = 2 * of.protein + _ROOM * self.top * of.liquid
        over = np.flatnonzero(total > most)
        if over.size:
            cells[over, :m] *= (most / total[over])[:, None]

    def amounts(self, step: Array) -> Array:
        """See ``integrate.System``."""
        return step

    def outflow(self, y: Array) -> Array:
        """What enters, summed as the steps sum it; what leaves is among the unknowns."""
        return self.velocity * self.feed


def uniform(scheme: Scheme, held: Array, log_free: Array) -> Contents:
    """A bed that holds the same everywhere."""
    return Contents(
        held=np.tile(held, (scheme.nodes, 1)), log_free=np.tile(log_free, (scheme.nodes, 1))
    )


def _end(section: Section) -> Array:
    """What enters at the end of a section."""
    return (
        section.conc if section.slope is None else section.conc + section.slope * section.duration
    )


def follow(
    of: Chemistry,
    programme: Sequence[Section],
    start: Contents,
    *,
    scheme: Scheme,
    length: float,
    velocities: Sequence[float],
    dispersions: Sequence[float],
    tolerance: float = TOLERANCE,
) -> HeldRun:
    """What leaves a bed at local equilibrium, and what it holds, over an inlet programme.

    Parameters
    ----------
    programme: sections with dissolved totals (C,) of metals, ligands and H [mol/m3], which may
        change linearly.
    start: contents on the same scheme.
    velocities, dispersions: superficial [m/s] and axial [m2/s], one of each section.
    tolerance: error allowed per time step, relative.

    Raises
    ------
    ConvergenceError
        when a cell does not settle or the integration stalls.
    """
    count = of.mobile
    cells = Cells(of=of, log_free=start.log_free, near=min(tolerance, 1e-3))
    y = np.append(start.held.ravel(), np.zeros(count))
    ends = [_end(s) for s in programme]
    top = np.max([*(s.conc for s in programme), *ends], axis=0) * of.liquid
    most = np.maximum(top, start.held.max(axis=0))
    most[: of.metals] = np.where(most[: of.metals] > 0, 2 * of.protein, of.protein)
    most = np.maximum(most, _LEAST * of.protein)
    work, t = Work(), 0.0
    times: list[Array] = []
    last: list[Array] = []
    guesses: list[Array] = []
    left: list[Array] = []
    collected, fed = np.zeros((len(programme), count)), np.zeros((len(programme), count))
    width = np.zeros(0)
    for k, section in enumerate(programme):
        op = transport.operator(scheme, length, velocities[k] / of.liquid, dispersions[k])
        width = op.axis.width
        top = float(np.maximum(section.conc, ends[k])[: of.metals].sum())
        system = _System(
            cells=cells,
            op=op,
            velocity=velocities[k],
            length=length,
            inlet=section.conc,
            slope=section.slope,
            since=t,
            top=top,
        )
        wanted = t + section.duration * np.linspace(0.0, 1.0, INSTANTS)
        at, free = np.zeros((INSTANTS, 2 * count)), np.zeros((INSTANTS, count))
        at[0], free[0] = y[-2 * count :], cells.now()[-1]

        def watch(before: float, after: float, h: float, differences: Array) -> None:
            dissolved = system.conc[:, : of.metals].sum(axis=1).max()  # noqa: B023
            system.top = max(float(dissolved), top)  # noqa: B023
            low, high = np.searchsorted(wanted, [before, after], side="right")  # noqa: B023
            if high > low:
                at[low:high] = read_out(  # noqa: B023
                    differences[:, -2 * count :],
                    after,
                    h,
                    wanted[low:high],  # noqa: B023
                )
                free[low:high] = cells.now()[-1]  # noqa: B023

        level = np.append(np.tile(most, scheme.nodes), np.full(count, np.inf))
        before = y[-count:].copy()
        y, _, fed[k] = integrate(
            system,
            t,
            t + section.duration,
            y,
            y.copy(),
            tolerance=tolerance,
            floor=tolerance * FLOOR * level,
            first=length * of.liquid / velocities[k] / scheme.nodes,
            work=work,
            watch=watch,
        )
        collected[k] = (y[-count:] - before) * length
        t += section.duration
        times.append(wanted)
        last.append(at[:, :count])
        left.append(at[:, count:] * length)
        guesses.append(free)
    outlet = Cells(of=of, log_free=np.concatenate(guesses))
    conc = outlet.settle(np.concatenate(last))
    if not np.all(np.isfinite(conc)):
        raise ConvergenceError(
            "the equilibrium of a column cell did not settle",
            trace=Trace(
                equation="totals of metals, ligands, protons and protein",
                history=(float(np.isnan(conc).any(axis=1).sum()),),
                advice="concentrations or constants far outside those of any column",
            ),
        )
    held = y[:-count].reshape(-1, count)
    after, origin = width @ held, width @ start.held
    turned = np.maximum(fed.sum(axis=0) + origin, np.finfo(float).tiny)
    return HeldRun(
        times=np.concatenate(times),
        outlet=conc,
        free=outlet.free(),
        left=np.concatenate(left),
        collected=collected,
        fed=fed,
        before=origin,
        after=after,
        closure=np.abs(fed.sum(axis=0) + origin - collected.sum(axis=0) - after) / turned,
        scheme=scheme.name,
        contents=Contents(held=held, log_free=cells.now()),
        steps=work.steps,
        evaluations=work.evaluations,
    )
