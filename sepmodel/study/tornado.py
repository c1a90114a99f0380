"""Which input moves an answer how far: by the gradient, alone from end to end, and in the sample.

Three swings over an input's 5-95 % width. By the gradient at the stated values: cheap, exact for a
small change, blind to curvature. From end to end with all others as stated: sees curvature, not
interaction. In the sample: the slope of the plane through all members. Where they agree the answer
is near-linear in that input; where not, the difference says what kind of not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel import statistics
from sepmodel.study.plan import STEP
from sepmodel.study.sweep_result import SweepResult

Array = NDArray[np.float64]

# Swings that differ by less than this part of the larger are taken to agree.
NEAR = 0.2
# Inputs whose swing is below this part of the largest do not count for agreement.
SMALL = 0.05


@dataclass(frozen=True, kw_only=True, slots=True)
class Bar:
    """One input's swings of an answer; ``low`` and ``high`` are the answers at its two ends.

    ``near_linear`` is None for an input that hardly matters.
    """

    input: str
    gradient: float
    low: float
    high: float
    sampled: float
    near_linear: bool | None

    @property
    def ends(self) -> float:
        """Swing from end to end, all other inputs as stated."""
        return self.high - self.low


@dataclass(frozen=True, kw_only=True, slots=True)
class Tornado:
    """The bars of an answer, largest first, and whether gradient and sample rank them alike.

    ``ranking`` is the rank correlation of the sizes of both swings over the inputs that matter;
    ``same`` whether it is 1. ``how`` says where the gradient comes from.
    """

    answer: str
    unit: str
    how: str
    bars: tuple[Bar, ...]
    ranking: float
    linearity: float

    @property
    def same(self) -> bool:
        """Whether both rank the inputs that matter in the same order."""
        return self.ranking > 1.0 - 1e-9

    @property
    def bent(self) -> tuple[str, ...]:
        """Inputs that matter and in which the answer is not near-linear."""
        return tuple(bar.input for bar in self.bars if bar.near_linear is False)


def tornado(result: SweepResult, name: str) -> Tornado:
    """The tornado of an answer from a study that was asked for one (``sweep.tornado = true``).

    Gradients are those of the adjoint where the case has one, else difference quotients over two
    hundredths of each width.
    """
    answer, inputs = result.answer(name), result.inputs
    ends = np.array([[_value(result, job.id, name) for job in pair] for pair in result.plan.ends])
    if name in result.gradients:
        gradient, how = result.gradients[name], "the adjoint"
    elif not result.plan.steps:
        gradient, how = np.full(len(inputs), math.nan), "nothing: the adjoint covers not all inputs"
    else:
        steps = np.array(
            [[_value(result, job.id, name) for job in pair] for pair in result.plan.steps]
        )
        gradient, how = (steps[:, 1] - steps[:, 0]) / (2 * STEP), "difference quotient"
    sampled = np.full(len(inputs), math.nan)
    if result.sampled and len(result.plan.grid) == 1:
        rows = result.independent
        values, points = result.at(name)[rows], result.plan.points[rows]
        if np.count_nonzero(np.isfinite(values)) > len(inputs) + 1:
            sampled = statistics.swing(result.plan.space.columns(points), values)
    size = np.nan_to_num(np.abs([gradient, ends[:, 1] - ends[:, 0], sampled])).max(axis=0)
    largest = float(size.max())
    bars = [
        Bar(
            input=inputs[i],
            gradient=float(gradient[i]),
            low=float(ends[i, 0]),
            high=float(ends[i, 1]),
            sampled=float(sampled[i]),
            near_linear=_agree((gradient[i], ends[i, 1] - ends[i, 0], sampled[i]))
            if size[i] > SMALL * largest
            else None,
        )
        for i in np.argsort(-size, kind="stable")
    ]
    mattering = [bar for bar in bars if bar.near_linear is not None]
    return Tornado(
        answer=name,
        unit=answer.unit,
        how=how,
        bars=tuple(bars),
        ranking=_alike([b.gradient for b in mattering], [b.sampled for b in mattering]),
        linearity=result.linearity(name) if not np.all(np.isnan(sampled)) else math.nan,
    )


def _value(result: SweepResult, job: str, name: str) -> float:
    outcome = result.outcomes.get(job)
    value = outcome.answers.get(name) if outcome is not None else None
    return math.nan if value is None else value


def _agree(swings: Sequence[float]) -> bool:
    """Whether swings differ by little; one that is missing where a member failed agrees with none.

    >>> _agree([1.0, 1.1, 0.95]), _agree([1.0, 2.0, 1.0])
    (True, False)
    """
    known = np.array(swings, dtype=float)
    if np.any(np.isnan(known[:2])):
        return False
    known = known[np.isfinite(known)]
    return bool(np.ptp(known) <= NEAR * np.abs(known).max())


def _alike(one: Sequence[float], other: Sequence[float]) -> float:
    """Rank correlation of the sizes of two lists of swings; NaN where one of them is missing."""
    a, b = np.abs(np.array(one, dtype=float)), np.abs(np.array(other, dtype=float))
    if a.size < 2:
        return 1.0 if a.size else math.nan
    if np.any(np.isnan(a)) or np.any(np.isnan(b)):
        return math.nan
    return float(statistics.rank_correlation(a[:, None], b)[0])
