"""What a set of members says: location, probability, who moves what, and how settled it is.

Members without a value (NaN: not solved, not feasible) are counted, and left out of everything but
the probability of meeting a specification, where they count as missed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel.distributions import NORMAL_95
from sepmodel.errors import InputError, Problem

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

# 97.5 % point of the standard normal distribution: intervals of 95 %.
NORMAL_975 = 1.959963984540054
TAIL = 0.025
LOW, HIGH = 0.05, 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """The deterministic value beside mean, median, 5 % and 95 % points and standard deviation.

    ``count`` members have a value, ``failed`` have none; ``error`` is the standard error of the
    mean of independent members (an upper bound for a Sobol' or Latin hypercube sample of a smooth
    answer).
    """

    deterministic: float
    mean: float
    median: float
    low: float
    high: float
    deviation: float
    error: float
    count: int
    failed: int


def summary(values: Array, deterministic: float = math.nan) -> Summary:
    """Location and spread of the members (n,) that have a value.

    >>> s = summary(np.array([1.0, 2.0, 3.0, np.nan]), deterministic=2.5)
    >>> s.deterministic, s.mean, s.median, s.count, s.failed
    (2.5, 2.0, 2.0, 3, 1)
    """
    known = values[np.isfinite(values)]
    if known.size:
        low, median, high = np.quantile(known, [LOW, 0.5, HIGH])
        deviation = float(np.std(known, ddof=1)) if known.size > 1 else 0.0
        mean = float(np.mean(known))
    else:
        low = median = high = mean = deviation = math.nan
    return Summary(
        deterministic=deterministic,
        mean=mean,
        median=float(median),
        low=float(low),
        high=float(high),
        deviation=deviation,
        error=deviation / math.sqrt(max(known.size, 1)),
        count=int(known.size),
        failed=int(values.size - known.size),
    )


def probability(hits: int, count: int) -> tuple[float, float, float]:
    """Share of hits with its 95 % interval (Wilson): (p, low, high).

    >>> p, low, high = probability(98, 100)
    >>> round(p, 2), round(low, 3), round(high, 3)
    (0.98, 0.93, 0.994)
    """
    if count < 1 or not 0 <= hits <= count:
        raise InputError(Problem(message="not a share", value=f"{hits} of {count}"))
    p, z2 = hits / count, NORMAL_975**2
    middle = (p + z2 / (2 * count)) / (1 + z2 / count)
    half = NORMAL_975 * math.sqrt(p * (1 - p) / count + z2 / (4 * count**2)) / (1 + z2 / count)
    return p, max(middle - half, 0.0) if hits else 0.0, min(middle + half, 1.0) if p < 1 else 1.0


def ranks(values: Array) -> Array:
    """Ranks along the first axis, ties sharing their mean rank, shape of ``values``.

    >>> ranks(np.array([3.0, 1.0, 1.0])).tolist()
    [3.0, 1.5, 1.5]
    """
    order = np.argsort(values, axis=0, kind="stable")
    ordered = np.take_along_axis(values, order, axis=0)
    count = np.arange(len(values), dtype=float).reshape(-1, *(1,) * (values.ndim - 1))
    # Of every run of equal values in a row: where it starts, and where it ends.
    edge = np.ones_like(ordered[:1], dtype=bool)
    fresh = np.concatenate([edge, ordered[1:] != ordered[:-1]])
    ends = np.concatenate([fresh[1:], edge])
    first = np.maximum.accumulate(np.where(fresh, count, 0.0))
    last = np.minimum.accumulate(np.where(ends, count, len(values))[::-1])[::-1]
    out: Array = np.empty(values.shape)
    np.put_along_axis(out, order, (first + last) / 2 + 1, axis=0)
    return out


def rank_correlation(x: Array, y: Array) -> Array:
    """Spearman correlation of each input, x (n, d), with the answer, y (n,): shape (d,).

    0 where an input or the answer does not vary; members without an answer are left out.

    >>> rank_correlation(np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]]), np.exp([1, 2, 3])).tolist()
    [1.0, -1.0]
    """
    known = np.isfinite(y)
    if np.count_nonzero(known) < 2:
        return np.zeros(x.shape[1])
    a, b = ranks(x[known]), ranks(y[known])
    a, b = a - a.mean(axis=0), b - b.mean()
    size = np.sqrt((a**2).sum(axis=0) * (b**2).sum())
    out: Array = np.divide(b @ a, size, out=np.zeros(x.shape[1]), where=size > 0)
    return np.clip(out, -1.0, 1.0)


def rank_interval(correlation: Array, count: int) -> tuple[Array, Array]:
    """95 % interval of rank correlations (d,) of ``count`` members, by Fisher's transformation.

    The variance is (1 + r^2/2)/(n - 3) (Bonett and Wright 2000).
    """
    half = NORMAL_975 * np.sqrt((1.0 + correlation**2 / 2.0) / max(count - 3, 1))
    bounded = np.clip(correlation, -1.0 + 1e-12, 1.0 - 1e-12)
    return np.tanh(np.arctanh(bounded) - half), np.tanh(np.arctanh(bounded) + half)


def noise(count: int, inputs: int) -> float:
    """The size a rank correlation of nothing stays below for all of so many inputs, 95 of 100.

    |r| <= z(1 - 0.025/d) / sqrt(n - 1) (Bonferroni): with many inputs some correlate by chance.

    >>> round(noise(101, 1), 3), round(noise(101, 100), 3), noise(5, 100)
    (0.196, 0.348, 1.0)
    """
    from scipy.special import ndtri

    tail = ndtri(1.0 - TAIL / max(inputs, 1))
    return float(min(tail / math.sqrt(max(count - 1, 1)), 1.0))


def shares(x: Array, y: Array) -> Array:
    """What each input, x (n, d), explains of the answer's ranks, y (n,): shape (d,).

    The plane through the ranks of those inputs whose rank correlation r is beyond the :func:`noise`
    of the members gives each a slope b (of standardised ranks); its share is b r (Pratt 1987), and
    all shares together are the R^2 of the plane: the rest is what no input explains by itself.
    Among members that were chosen by their answer inputs hang together, and one may correlate with
    what only the others move: an input is left out whose slope is within the noise, or against
    its correlation.

    >>> u = np.random.default_rng(1).random((100, 3))
    >>> shares(u, u[:, 0]).tolist()
    [1.0, 0.0, 0.0]
    """
    known = np.isfinite(y)
    count, inputs = int(np.count_nonzero(known)), x.shape[1]
    found = np.zeros(inputs)
    correlation = rank_correlation(x, y)
    limit = noise(count, inputs)
    chosen = np.flatnonzero(np.abs(correlation) > limit)
    if chosen.size == 0:
        return found
    a, b = _scaled(ranks(x[known][:, chosen])), _scaled(ranks(y[known])[:, None])[:, 0]
    r = correlation[chosen]
    kept = np.ones(chosen.size, dtype=bool)
    while kept.any():
        slopes = np.linalg.lstsq(a[:, kept], b, rcond=None)[0]
        parts = slopes * r[kept]
        left = math.sqrt(max(1.0 - float(parts.sum()), 0.0))
        good = (parts > 0) & (np.abs(slopes) > limit * left)
        if good.all():
            found[chosen[kept]] = parts
            break
        kept[kept] = good
    return np.clip(found, 0.0, 1.0)


def linearity(x: Array, y: Array) -> float:
    """Share of the answer's variance that a plane through the members explains (R^2, adjusted).

    Near 1: the answer is near-linear in the inputs over their ranges. NaN with too few members.

    >>> u = np.random.default_rng(1).random((50, 2))
    >>> round(linearity(u, u @ [1.0, 2.0]), 6)
    1.0
    """
    known = np.isfinite(y)
    a, b = x[known], y[known]
    free = b.size - x.shape[1] - 1
    varies = float(np.var(b)) if b.size else 0.0
    if free < 1 or varies == 0:
        return math.nan
    a, b = _scaled(a), b - b.mean()
    left = b - a @ np.linalg.lstsq(a, b, rcond=None)[0]
    return float(1.0 - (left @ left / free) / (b @ b / (b.size - 1)))


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """An estimate after the first ``count`` members, with its 95 % interval."""

    count: int
    value: float
    low: float
    high: float


def convergence(values: Array, estimate: str = "mean") -> tuple[Step, ...]:
    """The mean, median, 5 % or 95 % point after 16, 32, 64, ... and all members.

    Intervals: normal for the mean, order statistics for the quantiles. ``estimate`` is "mean",
    "median", "low" or "high".

    >>> [s.count for s in convergence(np.arange(100.0))]
    [16, 32, 64, 100]
    """
    points = {"median": 0.5, "low": LOW, "high": HIGH}

    def step(known: Array) -> tuple[float, float, float]:
        if estimate == "mean":
            value = float(known.mean())
            half = NORMAL_975 * float(known.std(ddof=1)) / math.sqrt(known.size)
            return value, value - half, value + half
        p = points[estimate]
        half = NORMAL_975 * math.sqrt(p * (1 - p) / known.size)
        ends = np.quantile(known, [p, max(p - half, 0.0), min(p + half, 1.0)])
        return float(ends[0]), float(ends[1]), float(ends[2])

    if estimate != "mean" and estimate not in points:
        raise InputError(Problem(message="no such estimate", value=estimate, expected="mean"))
    return _steps(values, lambda part: step(part[np.isfinite(part)]))


def convergence_of_probability(hits: Flags) -> tuple[Step, ...]:
    """The probability of a hit after 16, 32, 64, ... and all members, with Wilson intervals.

    >>> convergence_of_probability(np.ones(16, dtype=bool))[-1].value
    1.0
    """
    return _steps(hits, lambda part: probability(int(np.count_nonzero(part)), part.size))


def _steps(
    values: NDArray[np.generic], step: Callable[[NDArray[np.generic]], tuple[float, float, float]]
) -> tuple[Step, ...]:
    counts = []
    count = 16
    while count < values.size:
        counts.append(count)
        count *= 2
    found = []
    for count in [*counts, values.size]:
        part = values[:count]
        if part.dtype != np.bool_ and np.count_nonzero(np.isfinite(part)) < 2:
            continue
        value, low, high = step(part)
        found.append(Step(count=count, value=value, low=low, high=high))
    return tuple(found)


def swing(x: Array, y: Array) -> Array:
    """How far each input (n, d) moves the answer (n,) from its 5 % to its 95 % point: (d,).

    The slopes of the plane through the members times the inputs' 5-95 % widths of a normal
    distribution of the same variance.
    """
    known = np.isfinite(y)
    slopes = np.linalg.lstsq(_scaled(x[known]), y[known] - y[known].mean(), rcond=None)[0]
    out: Array = slopes * 2 * NORMAL_95
    return out


def _scaled(x: Array) -> Array:
    """Columns with mean 0 and standard deviation 1; one that does not vary is 0."""
    x = x - x.mean(axis=0)
    size = x.std(axis=0)
    out: Array = np.divide(x, size, out=np.zeros_like(x), where=size > 0)
    return out
