"""A displacement train by simulation: bands, boundaries, and what can be pooled at the outlet.

A bed in the form of a presaturant takes a load of metals, all held by one ligand at C_T, and is
displaced by the ligand's own cation. Binding lags with a linear driving force. The grid travels
with the bands (``moving``, ``band_journey``) and crowds where they meet; the theory is in
``constant_pattern``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sepmodel.chromatography import constant_pattern as pattern
from sepmodel.chromatography.band_journey import Journey, span
from sepmodel.chromatography.band_train import LEAST_CELLS, Boundary, Train
from sepmodel.chromatography.column import Bed
from sepmodel.chromatography.isotherms import ConstantSelectivity
from sepmodel.errors import InputError, Problem

Array = NDArray[np.float64]

CELLS = 48
"""Cells for each boundary unless a number of cells is given."""
_TOLERANCE = 1e-4
_ALONE = 1e-6
_FOOT = 1e-8
_EDGE = 1 / 2 / 10
_AHEAD = 40
_BEHIND = 24
_BIRTH = 5
_TRAVEL = 1 / 4
_ABSOLUTE = 10.0
_LEAST_TRACE = 1e-2
_WIDE = 16.0
_KEPT = 256


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
    journey = Journey(
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
        length, spanned = span(journey.snapshots, i, ligand_conc, bed.length)
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
