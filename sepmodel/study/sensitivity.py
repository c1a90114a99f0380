"""Which input moves an answer, and whether alone or together with others.

Sobol indices by the sample of Saltelli (2010): two independent points A and B of the unit cube and,
for each input i, A with that input's coordinate taken from B. First-order index after Saltelli,
total index after Jansen; confidence intervals by bootstrap over the base points. Elementary effects
after Morris come from SALib.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel import sampling, statistics
from sepmodel.errors import InputError, Problem

Array = NDArray[np.float64]

# Resamplings of the base points for an interval, and how many are held in memory together.
BOOTSTRAP = 1000
_TOGETHER = 100
_INTERVAL = (0.025, 0.975)
# Levels of the grid that Morris' trajectories walk on.
LEVELS = 4


def saltelli(base: int, dims: int, seed: int) -> Array:
    """Points of a Sobol' analysis, shape (base, dims + 2, dims): A, B, then A with B's i-th value.

    More base points begin with the same ones.

    >>> p = saltelli(8, 3, seed=1)
    >>> bool(np.all(p[:, 3, 1] == p[:, 1, 1]) and np.all(p[:, 3, [0, 2]] == p[:, 0, [0, 2]]))
    True
    """
    points = sampling.unit("sobol", base, 2 * dims, seed)
    a, b = points[:, :dims], points[:, dims:]
    out = np.repeat(a[:, None], dims + 2, axis=1)
    out[:, 1] = b
    for i in range(dims):
        out[:, 2 + i, i] = b[:, i]
    return out


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class SobolIndices:
    """First-order and total indices (d,) with 95 % intervals (d, 2), and the variance they share.

    ``used`` base points of ``count`` had an answer at all of their d + 2 points; the others are
    left out.
    """

    inputs: tuple[str, ...]
    first: Array
    first_interval: Array
    total: Array
    total_interval: Array
    variance: float
    used: int
    count: int

    @property
    def interactions(self) -> float:
        """Share of the variance that no input explains alone."""
        return float(1.0 - self.first.sum())


def sobol_indices(
    answers: Array, inputs: Sequence[str], *, seed: int = 0, bootstrap: int = BOOTSTRAP
) -> SobolIndices:
    """Sobol indices from the answers at :func:`saltelli`'s points, shape (base, dims + 2).

    S_i = E[f_B (f_ABi - f_A)] / V, T_i = E[(f_A - f_ABi)^2] / (2 V).

    Raises
    ------
    InputError
        when fewer than two base points have all their answers.

    >>> u = saltelli(512, 2, seed=3)
    >>> found = sobol_indices(u[..., 0] + 2.0 * u[..., 1], ["a", "b"])
    >>> bool(np.allclose(found.first, [0.2, 0.8], atol=0.01))
    True
    """
    if answers.ndim != 2 or answers.shape[1] != len(inputs) + 2:
        raise InputError(
            Problem(
                message="answers that do not belong to the points",
                value=answers.shape,
                expected=f"(base points, {len(inputs) + 2})",
            )
        )
    whole = np.all(np.isfinite(answers), axis=1)
    f = answers[whole]
    if f.shape[0] < 2:
        raise InputError(
            Problem(
                message="too few points with an answer for Sobol indices",
                value=int(f.shape[0]),
                expected="two base points at least, better a thousand",
            )
        )
    f = f - f[:, :2].mean()
    a, b, moved = f[:, :1], f[:, 1:2], f[:, 2:]
    # Means over the base points of everything the estimators need.
    terms = np.concatenate([a, b, a**2 + b**2, b * (moved - a), (a - moved) ** 2], axis=1)

    def indices(mean: Array) -> tuple[Array, Array, Array]:
        d = len(inputs)
        variance = mean[..., 2:3] / 2.0 - ((mean[..., 0:1] + mean[..., 1:2]) / 2.0) ** 2
        safe = np.where(variance > 0, variance, np.inf)
        return mean[..., 3 : 3 + d] / safe, mean[..., 3 + d :] / (2.0 * safe), variance

    first, total, variance = indices(terms.mean(axis=0))
    generator = np.random.default_rng(seed)
    size = f.shape[0]
    again = []
    for start in range(0, bootstrap, _TOGETHER):
        many = min(_TOGETHER, bootstrap - start)
        counts = generator.multinomial(size, np.full(size, 1.0 / size), size=many)
        again.append(np.concatenate(indices(counts @ terms / size)[:2], axis=-1))
    ends = np.quantile(np.concatenate(again), _INTERVAL, axis=0).T
    return SobolIndices(
        inputs=tuple(inputs),
        first=first,
        first_interval=ends[: len(inputs)],
        total=total,
        total_interval=ends[len(inputs) :],
        variance=float(variance[0]),
        used=size,
        count=answers.shape[0],
    )


def morris_points(trajectories: int, dims: int, seed: int) -> Array:
    """Points of Morris' trajectories in the unit cube, shape (trajectories * (dims + 1), dims).

    Raises
    ------
    InputError
        when SALib is not installed.
    """
    sample, _ = _salib()
    points: Array = sample.sample(_problem(dims), trajectories, num_levels=LEVELS, seed=seed)
    # Distributions without ends: the grid spans their 5 % to 95 % points.
    return statistics.LOW + points * (statistics.HIGH - statistics.LOW)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Effects:
    """Morris' elementary effects on an answer, as changes over an input's 5 % to 95 % points.

    ``absolute`` is the mean of their sizes with its 95 % ``half_width``, ``mean`` their mean and
    ``deviation`` their standard deviation (large beside the mean: not linear, or not alone).
    """

    inputs: tuple[str, ...]
    absolute: Array
    half_width: Array
    mean: Array
    deviation: Array
    used: int
    count: int


def morris_effects(
    points: Array, answers: Array, inputs: Sequence[str], *, seed: int = 0
) -> Effects:
    """Elementary effects from the answers (n,) at :func:`morris_points`; SALib reckons them.

    A trajectory with a missing answer is left out whole.
    """
    _, analyze = _salib()
    steps = len(inputs) + 1
    whole = np.all(np.isfinite(answers.reshape(-1, steps)), axis=1)
    if np.count_nonzero(whole) < 2:
        raise InputError(
            Problem(
                message="too few trajectories with all their answers",
                value=int(np.count_nonzero(whole)),
                expected="two at least, better twenty",
            )
        )
    keep = np.repeat(whole, steps)
    grid = (points[keep] - statistics.LOW) / (statistics.HIGH - statistics.LOW)
    found = analyze.analyze(
        _problem(len(inputs)), grid, answers[keep], num_levels=LEVELS, seed=seed
    )
    return Effects(
        inputs=tuple(inputs),
        absolute=np.asarray(found["mu_star"], dtype=float),
        half_width=np.asarray(found["mu_star_conf"], dtype=float),
        mean=np.asarray(found["mu"], dtype=float),
        deviation=np.asarray(found["sigma"], dtype=float),
        used=int(np.count_nonzero(whole)),
        count=whole.size,
    )


def _salib() -> tuple[Any, Any]:
    try:
        from SALib.analyze import morris as analyze
        from SALib.sample import morris as sample
    except ImportError:
        raise InputError(
            Problem(
                message="Morris' method needs SALib, which is not installed",
                expected="pip install 'sepmodel[uq]'",
            )
        ) from None
    return sample, analyze


def _problem(dims: int) -> dict[str, object]:
    return {"num_vars": dims, "names": [f"x{i}" for i in range(dims)], "bounds": [[0, 1]] * dims}
