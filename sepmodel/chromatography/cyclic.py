"""Columns that repeat a programme: the cyclic steady state, and a life with fading capacity.

One cycle maps what a column holds at its beginning to what it holds at its end, x -> G(x). The
cyclic steady state is x = G(x). Marching takes as many cycles as the slowest remainder needs to
wash out; here the last differences are combined so that their residuals cancel (Anderson's
extrapolation, a secant Newton method in the span of the last cycles), with plain cycles wherever
that promises nothing.

A capacity that fades over hundreds of cycles is slow beside one cycle: the steady cycle is solved
at a few capacities and what it yields is interpolated between them for every cycle of the life.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel.chromatography.column import Bed, ColumnResult, Section, State, simulate
from sepmodel.chromatography.isotherms import Isotherm
from sepmodel.chromatography.transport import Scheme
from sepmodel.errors import ConvergenceError, InputError, Problem, Trace

Array = NDArray[np.float64]

TOLERANCE = 1e-6
"""Change of the contents over a cycle, relative to the largest of their kind."""
MOST_CYCLES = 64
_DEPTH = 6
_FLOOR = 1e-1
_WORSE = 2.0
_PROMISE = 3 / 10
_SINGULAR = 1e-10
_NODES = 5


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class FixedPoint:
    """x = G(x): ``value`` the last x, ``image`` G of it, ``residuals`` of every cycle run."""

    value: Array
    image: Array
    residuals: tuple[float, ...]


def fixed_point(
    cycle: Callable[[Array], Array],
    start: Array,
    scale: ArrayLike = 1.0,
    *,
    tolerance: float = TOLERANCE,
    most: int = MOST_CYCLES,
) -> FixedPoint:
    """x with G(x) = x to ``tolerance``, by Anderson's extrapolation of the cycles run so far.

    Parameters
    ----------
    cycle: G. start: the first x (n,).
    scale: what a change is measured by, one number or (n,).
    most: cycles before giving up.

    Raises
    ------
    ConvergenceError
        when the residual is not below the tolerance after ``most`` cycles.

    >>> slow = lambda x: np.array([0.99, 0.5]) * x + 1.0
    >>> found = fixed_point(slow, np.zeros(2))
    >>> found.value.round(6).tolist(), len(found.residuals) < 6
    ([100.0, 2.0], True)
    """
    weight = 1 / np.broadcast_to(np.asarray(scale, dtype=float), start.shape)
    x = np.array(start, dtype=float)
    points: list[Array] = []
    images: list[Array] = []
    residuals: list[float] = []
    for _ in range(most):
        image = cycle(x)
        size = float(np.max(np.abs(image - x) * weight, initial=0.0))
        residuals.append(size)
        if size <= tolerance:
            return FixedPoint(value=x, image=image, residuals=tuple(residuals))
        if len(residuals) > 1 and size > _WORSE * residuals[-2]:
            # The extrapolation led away: on from here by plain cycles.
            points, images = [], []
        points, images = [*points[-_DEPTH:], x], [*images[-_DEPTH:], image]
        x = _extrapolated(points, images, weight)
    raise ConvergenceError(
        f"no cyclic steady state after {most} cycles",
        trace=Trace(
            equation="contents at the end of a cycle minus those at its beginning",
            history=tuple(residuals),
            advice="a longer regeneration, or a start nearer to the steady state",
        ),
    )


def _extrapolated(points: Sequence[Array], images: Sequence[Array], weight: Array) -> Array:
    """The combination of images whose combined residual is least; never far below what was seen."""
    last = images[-1]
    if len(points) == 1:
        return last
    gaps = [(g - x) * weight for x, g in zip(points, images, strict=True)]
    change = np.column_stack([gaps[-1] - gap for gap in gaps[:-1]])
    share = np.linalg.lstsq(change, gaps[-1], rcond=_SINGULAR)[0]
    if np.linalg.norm(gaps[-1] - change @ share) > _PROMISE * np.linalg.norm(gaps[-1]):
        # What moves through the column is new in every cycle; combining old ones cannot tell it.
        return last
    moved = last - np.column_stack([last - image for image in images[:-1]]) @ share
    lowest = np.min(images, axis=0)
    return np.asarray(np.maximum(moved, np.where(lowest > 0, _FLOOR * lowest, lowest)))


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Cycle:
    """A column in its cyclic steady state: ``result`` is the cycle, ``residuals`` of all run."""

    result: ColumnResult
    residuals: tuple[float, ...]

    @property
    def cycles(self) -> int:
        """Cycles run to find it."""
        return len(self.residuals)


def steady_cycle(
    bed: Bed,
    isotherm: Isotherm,
    programme: Sequence[Section],
    *,
    initial: Array | State,
    rate: Array | None = None,
    scheme: Scheme | None = None,
    cycle_tolerance: float = TOLERANCE,
    most: int = MOST_CYCLES,
    **settings: Any,
) -> Cycle:
    """The programme run again and again on one column until a cycle changes nothing.

    Parameters
    ----------
    initial: contents at the beginning of the first cycle, as in ``column.simulate``.
    cycle_tolerance: change of any content over a cycle, over the largest of its kind.
    settings: further arguments of ``column.simulate``.

    Raises
    ------
    ConvergenceError
        when there is none within ``most`` cycles.

    >>> from sepmodel.chromatography.isotherms import Linear
    >>> bed = Bed(length=0.1, velocity=1e-4, void=0.4, dispersion=1e-8)
    >>> steps = [Section(duration=800.0, conc=np.array([c])) for c in (1.0, 0.0)]
    >>> law = Linear(coefficient=np.array([2.0]))
    >>> found = steady_cycle(bed, law, steps, initial=np.zeros(1))
    >>> bool(abs(found.result.left[0] / found.result.fed[0] - 1) < 1e-5)
    True
    """
    settings.setdefault("estimate", False)
    first = simulate(
        bed, isotherm, programme, initial=initial, rate=rate, scheme=scheme, **settings
    )
    held = [first]
    lagging = rate is not None
    begin = _vector(first.state, lagging)
    parts = first.state
    scale = np.concatenate(
        [np.broadcast_to(_largest(a, first), a.shape).ravel() for a in _parts(parts, lagging)]
    )

    def cycle(x: Array) -> Array:
        state = _state(x, parts, isotherm, lagging)
        held[0] = simulate(
            bed, isotherm, programme, initial=state, rate=rate, scheme=scheme, **settings
        )
        return _vector(held[0].state, lagging)

    found = fixed_point(cycle, begin, scale, tolerance=cycle_tolerance, most=most)
    return Cycle(result=held[0], residuals=found.residuals)


def _parts(state: State, lagging: bool) -> list[Array]:
    """The contents that are free: what is bound at equilibrium follows."""
    return [state.conc, state.pores, state.bound] if lagging else [state.conc, state.pores]


def _vector(state: State, lagging: bool) -> Array:
    return np.concatenate([a.ravel() for a in _parts(state, lagging)])


def _state(x: Array, like: State, isotherm: Isotherm, lagging: bool) -> State:
    edge = like.conc.size
    conc = x[:edge].reshape(like.conc.shape)
    pores = x[edge : edge + like.pores.size].reshape(like.pores.shape)
    if lagging:
        bound = x[edge + like.pores.size :].reshape(like.bound.shape)
    else:
        bound = isotherm.loading(pores if pores.size else conc[:, None])
    return State(conc=conc, pores=pores, bound=bound)


def _largest(values: Array, result: ColumnResult) -> Array:
    """Largest content of each component, of its kind, over the run; never zero."""
    if values.size == 0:
        return np.ones(values.shape[-1])
    seen = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)
    seen = np.maximum(seen, np.abs(result.outlet).max(axis=0))
    top = seen.max()
    return np.asarray(np.maximum(seen, top * TOLERANCE) if top > 0 else np.ones_like(seen))


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Faded:
    """An isotherm of which a ``share`` of the sites is left: q = share q*(c).

    >>> from sepmodel.chromatography.isotherms import Linear
    >>> Faded(law=Linear(coefficient=np.array([2.0])), share=0.5).loading(np.array([3.0])).tolist()
    [3.0]
    """

    law: Isotherm
    share: float

    def loading(self, conc: Array) -> Array:
        """See ``Isotherm``."""
        return self.share * self.law.loading(conc)

    def slopes(self, conc: Array) -> Array:
        """See ``Isotherm``."""
        return self.share * self.law.slopes(conc)


def faded(isotherm: Isotherm, share: float) -> Isotherm:
    """The isotherm with a share of its capacity left: its ``capacity`` scaled, else all of q.

    >>> from sepmodel.chromatography.isotherms import ConstantSelectivity
    >>> law = ConstantSelectivity(selectivity=np.ones(2), capacity=100.0)
    >>> faded(law, 0.9).capacity
    90.0
    """
    if not 0 < share <= 1:
        raise InputError(Problem(message="not a share of the capacity", value=share))
    if is_dataclass(isotherm) and hasattr(isotherm, "capacity"):
        return replace(isotherm, capacity=share * isotherm.capacity)
    return Faded(law=isotherm, share=share)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Life:
    """What a column yields over its working life.

    ``shares`` (N,) of the capacity left and ``values`` (N, V) in every cycle, ``total`` (V,) their
    sum; ``nodes`` the shares at which the steady cycle was solved, ``error`` (V,) of ``values``.
    """

    shares: Array
    values: Array
    total: Array
    nodes: Array
    error: Array


def working_life(
    cycle: Callable[[float], ArrayLike],
    fade: Callable[[Array], ArrayLike],
    cycles: int,
    *,
    nodes: int = _NODES,
) -> Life:
    """Values of every cycle of a life from steady cycles at a few capacities.

    The steady cycle is solved at Chebyshev points between the first and the last capacity and
    interpolated; the error is the largest distance to the interpolation by every other point.

    Parameters
    ----------
    cycle: what a steady cycle yields (V,) with a share of the capacity left.
    fade: share of the capacity left after a number of cycles, for an array of them.
    cycles: of the life. nodes: odd.

    >>> life = working_life(lambda s: [s, s**2], lambda n: 1 - n / 1000, 501)
    >>> [round(float(v), 6) for v in life.total], life.nodes.size
    ([375.75, 292.29175], 5)
    """
    if nodes < 3 or nodes % 2 == 0 or cycles < 1:
        raise InputError(
            Problem(
                message="a life needs cycles and an odd number of nodes",
                value=(cycles, nodes),
                expected="1 or more, and 3, 5, 7 ...",
            )
        )
    shares = np.asarray(fade(np.arange(cycles, dtype=float)), dtype=float)
    if np.any(shares <= 0) or np.any(shares > 1) or np.any(np.diff(shares) > 0):
        raise InputError(
            Problem(
                message="the share of the capacity left falls from 1 and stays above 0",
                value=(float(shares.max()), float(shares.min())),
            )
        )
    high, low = float(shares[0]), float(shares[-1])
    if high - low <= TOLERANCE:
        once = np.atleast_1d(np.asarray(cycle(high), dtype=float))
        values = np.broadcast_to(once, (cycles, once.size)).copy()
        return Life(
            shares=shares,
            values=values,
            total=values.sum(axis=0),
            nodes=np.array([high]),
            error=np.zeros(once.size),
        )
    points = 0.5 * (high + low) + 0.5 * (high - low) * np.cos(
        np.pi * np.arange(nodes) / (nodes - 1)
    )
    found = np.array([np.atleast_1d(np.asarray(cycle(float(p)), dtype=float)) for p in points])
    values = _interpolated(points, found, shares)
    rough = _interpolated(points[::2], found[::2], shares)
    return Life(
        shares=shares,
        values=values,
        total=values.sum(axis=0),
        nodes=points,
        error=np.abs(values - rough).max(axis=0),
    )


def _interpolated(points: Array, values: Array, at: Array) -> Array:
    """The polynomial through points of Chebyshev, by the barycentric formula."""
    weight = (-1.0) ** np.arange(points.size)
    weight[[0, -1]] *= 0.5
    gap = at[:, None] - points
    exact = np.abs(gap) < np.finfo(float).eps
    kernel = weight / np.where(exact, 1.0, gap)
    hit = exact.any(axis=1)
    kernel[hit] = exact[hit]
    return np.asarray((kernel @ values) / kernel.sum(axis=1, keepdims=True))
