"""What a study found: the points as columns, and what they say together."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel import __version__, files, sampling, statistics
from sepmodel.errors import InputError, Problem
from sepmodel.statistics import Step, Summary
from sepmodel.study import sensitivity, store
from sepmodel.study.answers import Answer
from sepmodel.study.jobs import Job
from sepmodel.study.plan import Plan
from sepmodel.study.sensitivity import Effects, SobolIndices
from sepmodel.study.store import SOLVED, Outcome

Array = NDArray[np.float64]

SCHEMA = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Met:
    """The probability of meeting a specification, with its 95 % interval, and as it converged."""

    answer: Answer
    probability: float
    low: float
    high: float
    hits: int
    count: int
    steps: tuple[Step, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimates:
    """How far an answer rests on estimates: ``count`` of the ``of`` uncertain constants are, and
    ``share`` of the spread of its ranks comes from them; None where nothing stands out."""

    count: int
    of: int
    share: float | None


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class SweepResult:
    """The points of a study and what became of them.

    ``gradients`` are swings over the inputs' 5-95 % widths by an adjoint, answer -> (inputs,).
    ``stored`` points were there before, ``seconds`` is what this run took. Members are in the
    order of the plan: all members at the first point of the grid, then the next.
    """

    plan: Plan
    outcomes: Mapping[str, Outcome]
    gradients: Mapping[str, Array] = field(default_factory=dict)
    stored: int = 0
    seconds: float = 0.0

    @property
    def name(self) -> str:
        """The name of the study."""
        return self.plan.name

    @property
    def answers(self) -> tuple[Answer, ...]:
        """What was kept of every point."""
        return self.plan.answers

    @property
    def inputs(self) -> tuple[str, ...]:
        """The independent inputs of the sample."""
        return self.plan.space.inputs

    @property
    def statuses(self) -> list[str]:
        """What became of each member."""
        return [self._of(job).status for job in self.plan.members]

    @property
    def counts(self) -> dict[str, int]:
        """How many members of each status."""
        found: dict[str, int] = {}
        for status in self.statuses:
            found[status] = found.get(status, 0) + 1
        return dict(sorted(found.items(), key=lambda pair: -pair[1]))

    @property
    def closure(self) -> float | None:
        """The largest relative error of a balance among the solved members."""
        closures = [o.closure for o in map(self._of, self.plan.members) if o.closure is not None]
        return max(closures) if closures else None

    @property
    def complete(self) -> bool:
        """Whether every member has an outcome."""
        return all(job.id in self.outcomes for job in self.plan.members)

    def _of(self, job: Job) -> Outcome:
        missing = Outcome(id=job.id, status="open", inputs=job.inputs)
        return self.outcomes.get(job.id, missing)

    def column(self, name: str) -> Array:
        """An answer of every member, NaN where it has none, shape (members,).

        Raises
        ------
        InputError
            when no answer has this name.
        """
        self.answer(name)
        values = [self._of(job).answers.get(name) for job in self.plan.members]
        return np.array([math.nan if v is None else v for v in values], dtype=float)

    def answer(self, name: str) -> Answer:
        """The answer of a name."""
        for answer in self.answers:
            if answer.name == name:
                return answer
        raise InputError(
            Problem(
                message="no such answer",
                value=name,
                expected=f"one of {', '.join(a.name for a in self.answers[:20])}",
            )
        )

    def at(self, name: str, grid: int = 0) -> Array:
        """An answer of the sample at one point of the grid, shape (members of the sample,)."""
        size = self.plan.size
        return self.column(name)[grid * size : (grid + 1) * size]

    # --- a sample ------------------------------------------------------------------------------

    @property
    def sampled(self) -> bool:
        """Whether there is a sample (and not a grid alone)."""
        return len(self.plan.points) > 0

    @property
    def independent(self) -> NDArray[np.int64]:
        """Rows of the sample that are independent draws: all, or Saltelli's A and B."""
        size = len(self.plan.points)
        if self.plan.sweep.design == "saltelli":
            step = len(self.inputs) + 2
            rows: NDArray[np.int64] = np.arange(size).reshape(-1, step)[:, :2].ravel()
            return rows
        return np.arange(size if self.plan.sweep.design != "morris" else 0)

    @property
    def entangled(self) -> float:
        """The largest correlation, in size, between two inputs of the sample."""
        return sampling.entangled(self.plan.points[self.independent])

    def summary(self, name: str, grid: int = 0) -> Summary:
        """Deterministic value, mean, median and 5-95 % interval of an answer."""
        base = self.plan.deterministic.get(name) if len(self.plan.grid) == 1 else None
        return statistics.summary(
            self.at(name, grid)[self.independent], math.nan if base is None else base
        )

    def met(self, name: str, grid: int = 0) -> Met:
        """The probability that an answer keeps its limits; a member without an answer does not."""
        answer, values = self.answer(name), self.at(name, grid)[self.independent]
        good = np.isfinite(values)
        if answer.at_least is not None:
            good &= np.nan_to_num(values, nan=-math.inf) >= answer.at_least
        if answer.at_most is not None:
            good &= np.nan_to_num(values, nan=math.inf) <= answer.at_most
        hits = int(np.count_nonzero(good))
        p, low, high = statistics.probability(hits, max(good.size, 1))
        return Met(
            answer=answer,
            probability=p,
            low=low,
            high=high,
            hits=hits,
            count=good.size,
            steps=statistics.convergence_of_probability(good),
        )

    def drivers(self, name: str, grid: int = 0) -> list[tuple[str, float, float, float, float]]:
        """Inputs by what they do to an answer: (input, rank correlation, low, high, share).

        The interval is of 95 %; the share is the part of the spread of the answer's ranks.
        """
        rows = self.independent
        values, points = self.at(name, grid)[rows], self.plan.points[rows]
        correlation = statistics.rank_correlation(points, values)
        low, high = statistics.rank_interval(correlation, int(np.isfinite(values).sum()))
        shares = statistics.shares(points, values)
        order = np.argsort(-np.abs(correlation), kind="stable")
        return [
            (
                self.inputs[i],
                float(correlation[i]),
                float(low[i]),
                float(high[i]),
                float(shares[i]),
            )
            for i in order
        ]

    def estimates(self, name: str, grid: int = 0) -> Estimates:
        """How much of an answer's uncertainty is that of constants which are estimates.

        A level several constants share counts as an estimate when one of them is.
        """
        guessed = {
            key: self.plan.used[key].provenance == "estimated"
            for key in self.plan.space.moved
            if key in self.plan.used
        }
        axes = {
            axis
            for key, parts in self.plan.space.weights.items()
            for axis, _ in parts
            if guessed.get(key)
        }
        names = {self.inputs[axis] for axis in axes}
        shares = {driver: share for driver, *_, share in self.drivers(name, grid)}
        total = sum(shares.values())
        part = sum(share for driver, share in shares.items() if driver in names)
        return Estimates(
            count=sum(guessed.values()), of=len(guessed), share=part if total > 0 else None
        )

    def linearity(self, name: str, grid: int = 0) -> float:
        """Share of an answer's variance that is linear in the inputs."""
        rows = self.independent
        x = self.plan.space.columns(self.plan.points[rows])
        return statistics.linearity(x, self.at(name, grid)[rows])

    def sobol(self, name: str, grid: int = 0) -> SobolIndices:
        """Sobol indices of an answer; the design has to be "saltelli"."""
        self._require("saltelli")
        answers = self.at(name, grid).reshape(-1, len(self.inputs) + 2)
        return sensitivity.sobol_indices(answers, self.inputs, seed=self.plan.sweep.seed)

    def effects(self, name: str, grid: int = 0) -> Effects:
        """Morris' elementary effects on an answer; the design has to be "morris"."""
        self._require("morris")
        return sensitivity.morris_effects(
            self.plan.points, self.at(name, grid), self.inputs, seed=self.plan.sweep.seed
        )

    def _require(self, design: str) -> None:
        if not self.sampled or self.plan.sweep.design != design:
            raise InputError(
                Problem(
                    message="the points of another design",
                    key="sweep.design",
                    value=self.plan.sweep.design,
                    expected=design,
                )
            )

    # --- tables and files ----------------------------------------------------------------------

    def columns(self) -> dict[str, tuple[str, list[Any]]]:
        """Every member as columns: name -> (unit, values); "" is the unit of text."""
        members = self.plan.members
        outcomes = [self._of(job) for job in members]
        found: dict[str, tuple[str, list[Any]]] = {
            "id": ("", [job.id for job in members]),
            "status": ("", [o.status for o in outcomes]),
            "reason": ("", [o.reason for o in outcomes]),
        }
        keys = dict.fromkeys(key for job in members for key in job.inputs)
        for key in keys:
            found[key] = (self._unit(key), [job.inputs.get(key) for job in members])
        for axis in self.plan.axes:
            if not axis.constant:
                found[axis.key] = _numeric(axis, found[axis.key][1])
        for key, unit in self.plan.settings.items():
            if unit:
                drawn = [float(str(v).split()[0]) for v in found[key][1]]
                found[key] = (unit, drawn)
        for answer in self.answers:
            found[answer.name] = (answer.unit, [o.answers.get(answer.name) for o in outcomes])
        found["closure"] = ("1", [o.closure for o in outcomes])
        found["seconds"] = ("s", [o.seconds for o in outcomes])
        return found

    def _unit(self, key: str) -> str:
        constant = self.plan.used.get(key)
        if constant is not None:
            return "1" if constant.unit in ("1", "") else f"SI of {constant.unit}"
        for axis in self.plan.axes:
            if axis.key == key:
                return axis.unit
        return self.plan.settings.get(key) or "1"

    def csv(self) -> str:
        """All members as CSV, the unit in every column's header."""
        columns = self.columns()
        header = [f"{name} [{unit}]" if unit else name for name, (unit, _) in columns.items()]
        rows = zip(*(values for _, values in columns.values()), strict=True)
        return files.csv_text(header, rows)

    def parquet(self) -> bytes:
        """All members as Parquet, the units in the columns' metadata.

        Raises
        ------
        InputError
            when pyarrow is not installed.
        """
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError:
            raise InputError(
                Problem(
                    message="Parquet needs pyarrow, which is not installed",
                    expected="pip install 'sepmodel[tables]'",
                )
            ) from None
        fields, arrays = [], []
        for name, (unit, values) in self.columns().items():
            if unit and all(v is None or isinstance(v, int | float) for v in values):
                array = pyarrow.array(
                    [None if v is None else float(v) for v in values], type=pyarrow.float64()
                )
            else:
                array = pyarrow.array(
                    [None if v is None else str(v) for v in values], type=pyarrow.string()
                )
            fields.append(pyarrow.field(name, array.type, metadata={"unit": unit}))
            arrays.append(array)
        table = pyarrow.Table.from_arrays(
            arrays, schema=pyarrow.schema(fields, metadata={"sepmodel": __version__})
        )
        stream = io.BytesIO()
        parquet.write_table(table, stream)
        return stream.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """The study as one JSON object, without NaN or Infinity."""
        from sepmodel.study.sweep_document import document

        found: dict[str, Any] = files.plain(document(self))
        return found


def _numeric(axis: Any, values: list[Any]) -> tuple[str, list[Any]]:
    """An axis as numbers in its unit where every value is one, else as text."""
    numbers = [axis.number(v) for v in values]
    if any(math.isnan(n) for n in numbers):
        return "", [str(v) for v in values]
    return axis.unit, numbers


def solved(outcome: Outcome) -> bool:
    """Whether a point has an answer."""
    return outcome.status == SOLVED


STATUSES = (
    store.SOLVED,
    store.INFEASIBLE,
    store.UNSOLVED,
    store.REFUSED,
    store.TIMED_OUT,
    store.DIED,
    store.DEFECT,
)
