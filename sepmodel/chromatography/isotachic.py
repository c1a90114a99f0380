"""A displacement train by simulation: bands, boundaries, and what can be pooled at the outlet.

A bed in the form of a presaturant takes a load of metals, all held by one ligand at C_T, and is
displaced by the ligand's own cation. Selectivities are constant and binding lags with a linear
driving force; the theory beside it is ``constant_pattern``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sepmodel.chromatography import constant_pattern as pattern
from sepmodel.chromatography.column import Bed, ColumnResult, Section, simulate
from sepmodel.chromatography.isotherms import ConstantSelectivity
from sepmodel.chromatography.transport import Limited
from sepmodel.errors import InfeasibleError, InputError, Problem

Array = NDArray[np.float64]

LEAST_CELLS = 10
"""Cells a boundary must span before a purity is computed from it."""
_TOLERANCE = 1e-3
_FLOOR = 1e-1
_ALONE = 1e-6
_FOOT = 1e-8
_AFTER = 1 / 10
_POINTS = 16
_PROFILES = 64
_EDGE = 1 / 2 / 10


@dataclass(frozen=True, kw_only=True, slots=True)
class Boundary:
    """Where two bands meet: ``length`` [m] from 5 to 95 % inside the column, NaN if undeveloped.

    ``cells`` is that length over the grid's cell, ``theory`` [m] that of the constant pattern.
    """

    slow: str
    fast: str
    length: float
    cells: float
    theory: float


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Pooled:
    """The largest contiguous fraction of the effluent at a purity: nothing where there is none.

    ``start`` and ``end`` [s], ``recovery`` of the metal loaded, ``purity`` reached, by mole among
    the metals of the load.
    """

    start: float
    end: float
    recovery: float
    purity: float


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Train:
    """A simulated displacement: ``names`` in the order they leave, presaturant to displacer."""

    names: tuple[str, ...]
    loaded: Array
    velocity: float
    bed: Bed
    result: ColumnResult
    boundaries: tuple[Boundary, ...]

    def pool(self, name: str, purity: float) -> Pooled:
        """The largest pool of a metal at a mole purity among the metals.

        Raises
        ------
        InfeasibleError
            when a boundary spans fewer than ten cells: the purity would be the grid's.
        """
        metals = self.names[1:-1]
        if name not in metals:
            raise InputError(
                Problem(message="not a metal of the load", value=name, expected=", ".join(metals))
            )
        developed = [b for b in self.boundaries if np.isfinite(b.cells)]
        thin = min(developed, key=lambda b: b.cells, default=None)
        if thin is None or thin.cells < LEAST_CELLS:
            raise self._refused(thin)
        out = self.result.outlet[:, 1:-1]
        index = metals.index(name)
        start, end, share, pure = best_fraction(self.result.times, out, index, purity)
        moles = share * self.bed.velocity
        return Pooled(start=start, end=end, recovery=moles / float(self.loaded[index]), purity=pure)

    def _refused(self, thin: Boundary | None) -> InfeasibleError:
        limit = {"cells a boundary": LEAST_CELLS}
        if thin is None:
            return InfeasibleError("no boundary has developed: no purity", limit=limit)
        needed = np.ceil(self.result.position.size * LEAST_CELLS / thin.cells)
        return InfeasibleError(
            f"{thin.fast}|{thin.slow} spans {thin.cells:.1f} cells: no purity from this grid",
            limit=limit,
            nearest={"cells": int(needed)},
        )


def best_fraction(
    times: Array, conc: Array, index: int, purity: float
) -> tuple[float, float, float, float]:
    """Start, end, amount over flow and purity of the largest fraction of one component.

    With A the amount of the component and E = A - purity x total, both cumulated, a fraction (i, j)
    qualifies when E_j >= E_i; for every start the last such end is best because A only rises.

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
    excess = mine - purity * total
    # Largest later excess never rises with the index: the last end is found by bisection.
    later = np.maximum.accumulate(excess[::-1])
    last = len(times) - 1 - np.searchsorted(later, excess, side="left")
    last = np.maximum(last, np.arange(len(times)))
    start = int(np.argmax(mine[last] - mine))
    end = int(last[start])
    got, everything = mine[end] - mine[start], total[end] - total[start]
    pure = float(got / everything) if everything > 0 else float("nan")
    return float(times[start]), float(times[end]), float(got), pure


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
    cells: int,
    tolerance: float = _TOLERANCE,
) -> Train:
    """Load a presaturated bed, displace the load, and measure every boundary at the outlet.

    Parameters
    ----------
    bed: without beads; ``void`` is all the liquid.
    selectivity: of the resin at the ligand's concentration, on any scale, from the presaturant (the
        lowest) over the metals to the displacer (the highest), in that order.
    load: mole shares of the metals.
    capacity: of the resin [mol/m3 solid]. ligand_conc: C_T [mol/m3].
    band: metal loaded, as a share of what the bed holds.
    rate: linear driving force [1/s].
    cells: of the limited scheme, equal.

    Raises
    ------
    InputError
        when selectivities do not rise or the load is not among them.

    >>> train = displace(
    ...     Bed(length=0.1, velocity=1e-4, void=0.4, dispersion=1e-7),
    ...     {"Cu": 1.0, "Nd": 3.0, "Na": 9.0}, {"Nd": 1.0},
    ...     capacity=600.0, ligand_conc=90.0, band=0.5, rate=0.01, cells=50,
    ... )
    >>> bool(train.result.closure < 1e-9)
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
    shares = np.array([load[m] for m in metals]) / sum(load.values())
    resin = (1 - bed.void) * capacity
    cap = pattern.bed_capacity(bed.void, ligand_conc, resin)
    speed = pattern.train_velocity(bed.velocity, ligand_conc, cap)
    feed, start, push = np.zeros(len(names)), np.zeros(len(names)), np.zeros(len(names))
    feed[1:-1], start[0], push[-1] = ligand_conc * shares, ligand_conc, ligand_conc
    loading = band * bed.length / speed
    rest = (1 + _AFTER) * bed.length / speed
    times = np.linspace(0.0, loading + rest, _POINTS * cells + 1)
    result = simulate(
        bed,
        ConstantSelectivity(selectivity=a, capacity=capacity),
        [Section(duration=loading, conc=feed), Section(duration=rest, conc=push)],
        scheme=Limited(cells=cells),
        rate=np.full(len(names), rate),
        initial=start,
        times=times,
        profile_times=np.linspace(0.0, loading + rest, _PROFILES + 1),
        tolerance=tolerance,
        floor=_FLOOR,
        estimate=False,
    )
    spread = bed.void * bed.dispersion * ligand_conc / (speed * resin)
    boundaries = []
    for i, (fast, slow) in enumerate(pairwise(names)):
        length = _width(result.position, result.profiles, i, ligand_conc)
        boundaries.append(
            Boundary(
                slow=slow,
                fast=fast,
                length=length,
                cells=length / (bed.length / cells),
                theory=zone_length(float(a[i + 1] / a[i]), spread, speed / rate),
            )
        )
    return Train(
        names=names,
        loaded=band * cap * bed.length * shares,
        velocity=speed,
        bed=bed,
        result=result,
        boundaries=tuple(boundaries),
    )


def _width(position: Array, profiles: Array, pair: int, total: float) -> float:
    """Length from 95 to 5 % of the faster of two touching bands in the last profile that has all of
    it, its own length away from the outlet, whose closed end sharpens it; NaN where none has [m].
    """
    for profile in profiles[::-1]:
        fast, slow = profile[:, pair], profile[:, pair + 1]
        here = fast + slow > 0.5 * total
        if not here.any():
            continue
        z = position[here]
        share = np.maximum.accumulate((fast / np.where(here, fast + slow, 1.0))[here])
        if share[0] > _EDGE or share[-1] < 1 - _EDGE:
            continue
        low, high = np.interp([_EDGE, 1 - _EDGE], share, z)
        if high + (high - low) < position[-1]:
            return float(high - low)
    return float("nan")
