"""From the tables of a file to the points of a study.

A study is the product of a grid (settings and constants at chosen values) and a sample (settings
and constants by their distributions). Every grid point gets the same sample, so that differences
between grid points are not noise.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sepmodel import case as cases
from sepmodel import distributions, sampling, statistics, units
from sepmodel.data import Book, Constant
from sepmodel.distributions import Distribution
from sepmodel.errors import InputError, Problem, SepmodelError
from sepmodel.run import LoadedCase, changed, load
from sepmodel.sampling import Group, Space
from sepmodel.study import adjoint, answers, cache, jobs, sensitivity
from sepmodel.study.answers import Answer
from sepmodel.study.jobs import Job, Task
from sepmodel.sweep_tables import Axis, Sweep, SweepCase, Uncertain, Uncertainty

Array = NDArray[np.float64]

SAMPLES = {"sobol": 256, "latin-hypercube": 256, "random": 256, "saltelli": 256, "morris": 16}
# Step of a difference quotient, as a part of an input's 5-95 % width.
STEP = 0.01


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Levels:
    """An axis of the grid: the key it moves, the values as a case takes them, and as numbers."""

    key: str
    constant: bool
    values: tuple[Any, ...]
    unit: str

    def number(self, value: Any) -> float:
        """A value as a number in ``unit``; NaN for what is none."""
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            return math.nan
        if not isinstance(value, str):
            return float(value)
        try:
            return units.split(value)[0]
        except ValueError:
            return math.nan


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Plan:
    """All points of a study.

    ``grid`` holds the points of the grid (at least one, empty without axes), ``points`` (n, d) of
    the unit cube the sample of ``space``; job ``g * n + i`` is member i at grid point g. ``base``
    is the case as it stands. ``ends`` holds for each input the jobs at its 5 % and 95 % points
    alone, where a tornado is asked for; ``steps`` those a small step below and above, where no
    adjoint gives the gradients. ``pace`` [s] is what the base took to solve.
    """

    name: str
    loaded: LoadedCase
    task: Task
    sweep: Sweep
    axes: tuple[Levels, ...]
    grid: tuple[tuple[Any, ...], ...]
    space: Space
    settings: Mapping[str, str]
    points: Array
    base: Job
    members: tuple[Job, ...]
    ends: tuple[tuple[Job, Job], ...]
    steps: tuple[tuple[Job, Job], ...]
    deterministic: Mapping[str, float | None]
    used: Mapping[str, Constant]
    pace: float | None = None

    @property
    def answers(self) -> tuple[Answer, ...]:
        """What is kept of every point."""
        return self.task.answers

    @property
    def differentiable(self) -> bool:
        """Whether the gradients of its answers come from the adjoint of the solved case."""
        return adjoint.possible(self.loaded, self.answers)

    @property
    def size(self) -> int:
        """Members at each grid point."""
        return max(len(self.points), 1)

    @property
    def jobs(self) -> tuple[Job, ...]:
        """Every job once, the base first."""
        more = itertools.chain.from_iterable((*self.ends, *self.steps))
        return tuple({job.id: job for job in (self.base, *self.members, *more)}.values())

    @property
    def hash(self) -> str:
        """SHA-256 of all job ids in order."""
        return cache.hashed([job.id for job in self.jobs])

    def member(self, point: Sequence[Any], i: int) -> Job:
        """Member ``i`` of the sample at a point of the grid."""
        drawn = self._drawn(i)
        return _job(self, point, drawn)

    def _drawn(self, i: int) -> dict[str, float]:
        return self.space.member(self.points[i]) if len(self.points) else {}

    def with_grid(self, more: Sequence[tuple[Any, ...]]) -> Plan:
        """The plan with further points of the grid."""
        grown = replace(self, grid=(*self.grid, *more))
        new = tuple(grown.member(point, i) for point in more for i in range(self.size))
        return replace(grown, members=(*self.members, *new))


def case_of(loaded: LoadedCase) -> tuple[LoadedCase, Sweep, Uncertainty | None]:
    """The case that a file moves, and how: a file of kind "sweep" names it, any other is it."""
    from sepmodel.sweep_tables import Sweep as Table

    if loaded.kind != "sweep":
        return loaded, loaded.sweep or Table(), loaded.uncertainty
    sweep = cast("SweepCase", loaded.inputs)
    beside = loaded.path.parent / f"{sweep.case}.toml" if loaded.path else None
    file = str(loaded.path or "")
    try:
        moved = load(beside if beside and beside.is_file() else sweep.case)
    except InputError as error:
        raise InputError(
            [p if p.file else replace(p, file=file, key="case") for p in error.problems]
        ) from None
    try:
        moved = changed(moved, sweep.set)
    except InputError as error:
        raise InputError(
            [
                replace(p, file=file, key=f"set.{p.key}") if p.file == "--set" else p
                for p in error.problems
            ]
        ) from None
    return moved, sweep.sweep, sweep.uncertainty or moved.uncertainty


def plan(loaded: LoadedCase) -> Plan:
    """The points of a study from its file; the case itself is solved once.

    Raises
    ------
    InputError
        with everything wrong with the axes, the inputs and the outputs.
    SepmodelError
        when the case itself cannot be solved and the study needs to know its constants or outputs.
    """
    moved, sweep, uncertainty = case_of(loaded)
    file = str(loaded.path or "")
    if moved.kind in ("sweep", "route"):
        expected = "a case that sepmodel run or sepmodel compare takes"
        raise InputError(Problem(message="not a case to move", value=moved.kind, expected=expected))
    used: dict[str, Constant] = {}
    tables: dict[str, Any] = {}
    pace: float | None = None
    failure: SepmodelError | None = None
    deep = any(output.path.startswith("profiles.") for output in sweep.output)
    try:
        tables, used, pace = _as_stated(moved, deep)
    except InputError:
        raise
    except SepmodelError as error:
        failure = error
    drawing = uncertainty is not None or not sweep.axis or bool(sweep.samples)
    if failure is not None and (drawing or not sweep.output):
        raise failure
    problems: list[Problem] = []
    space = Space(inputs=(), moved={}, weights={})
    settings: dict[str, str] = {}
    axes: list[Levels] = []
    with _gathering(problems):
        axes = _axes(moved, sweep.axis, file)
    if drawing:
        taken = {axis.key for axis in sweep.axis}
        with _gathering(problems):
            space, settings = _space(moved, used, uncertainty or Uncertainty(), taken, file)
    wanted: list[Answer] = []
    with _gathering(problems):
        if failure is None:
            wanted = answers.chosen(tables, sweep.output, file)
        else:
            wanted = [
                Answer(name=o.label, path=o.path, unit="", at_least=o.at_least, at_most=o.at_most)
                for o in sweep.output
            ]
    if problems:
        raise InputError(problems)
    if drawing and sweep.design is None:
        sweep = sweep.model_copy(update={"design": sampling.suited(len(space.inputs))})
    points = _points(sweep, space) if drawing else np.empty((0, 0))
    grid = tuple(itertools.product(*(axis.values for axis in axes)))
    total = len(grid) * max(len(points), 1)
    if total > sweep.most:
        raise InputError(
            Problem(
                message=f"{total} points",
                file=file,
                key="sweep.most",
                value=sweep.most,
                expected="fewer samples or points on the axes, or a larger limit",
            )
        )
    task = jobs.task(moved, wanted)
    made = Plan(
        name=loaded.name,
        loaded=moved,
        task=task,
        sweep=sweep,
        axes=tuple(axes),
        grid=grid,
        space=space,
        settings=settings,
        points=points,
        base=task.job(),
        members=(),
        ends=(),
        steps=(),
        deterministic={a.name: answers.number(tables, a.path) for a in wanted},
        used=used,
        pace=pace,
    )
    return replace(
        made,
        members=tuple(_members(made)),
        ends=tuple(_beside(made, _at_ends)) if sweep.tornado else (),
        steps=small_steps(made) if sweep.tornado and not made.differentiable else (),
    )


def small_steps(plan: Plan) -> tuple[tuple[Job, Job], ...]:
    """For each input, the jobs a small step below and above its stated value."""
    return tuple(_beside(plan, _at_steps))


def _as_stated(
    moved: LoadedCase, deep: bool
) -> tuple[dict[str, Any], dict[str, Constant], float | None]:
    """What the case as it stands gives, which constants it reads, and how long that takes.

    What takes long is kept in the cache: it is needed again whenever a study is resumed.
    """
    shelf = cache.Cache(cache.folder())
    key = cache.key({"as stated": jobs.content(moved), "profiles": deep})
    known = shelf.get(key) if moved.kind in jobs.SLOW else None
    if known is not None:
        document = known[0]
        book = Book()
        used = {name: book.constant(name) for name in document["used"]}
        return document["tables"], used, document["seconds"]
    found = jobs.solve(moved, {})
    tables, used = answers.document(found, profiles=deep), jobs.used(found)
    seconds = jobs.seconds(found)
    if moved.kind in jobs.SLOW:
        shelf.put(key, {"tables": tables, "used": sorted(used), "seconds": seconds})
    return tables, used, seconds


class _gathering:
    """Adds the problems of an InputError to a list instead of raising it."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: object, trace: object) -> bool:
        if isinstance(error, InputError):
            self.problems += error.problems
            return True
        return False


# --- the grid --------------------------------------------------------------------------------


def _axes(moved: LoadedCase, axes: Sequence[Axis], file: str) -> list[Levels]:
    """The axes with their values; a value the case refuses whatever the others are is an error."""
    found: list[Levels] = []
    problems: list[Problem] = []
    for axis in axes:
        where = f"sweep.axis.{axis.key}"
        try:
            levels = _levels(moved, axis)
        except ValueError as error:
            problems.append(
                Problem(message=str(error), file=file, key=where, expected="values of one kind")
            )
            continue
        except InputError as error:
            problems += [replace(p, file=file, key=where) for p in error.problems]
            continue
        found.append(levels)
        if not axis.constant:
            problems += _unusable(moved, levels, file, where)
    if problems:
        raise InputError(problems)
    return found


def _unusable(moved: LoadedCase, levels: Levels, file: str, where: str) -> list[Problem]:
    """Problems of an axis of which the case takes no value at all."""
    first: InputError | None = None
    for value in levels.values:
        try:
            changed(moved, {levels.key: value})
        except InputError as error:
            first = first or error
        else:
            return []
    assert first is not None
    return [replace(p, file=file, key=where) for p in first.problems]


def _levels(moved: LoadedCase, axis: Axis) -> Levels:
    if axis.constant:
        constant = Book().constant(axis.constant)
        values = [_in_si(v, constant) for v in _stretch(axis, constant.unit)]
        return Levels(
            key=axis.constant, constant=True, values=tuple(values), unit=_si_unit(constant)
        )
    assert axis.path is not None
    base = cases.value_at(moved.document, axis.path)
    unit = ""
    if isinstance(base, str):
        try:
            unit = units.split(base)[1]
        except ValueError:  # a name, such as that of a data set
            unit = ""
    given = tuple(_stretch(axis, unit))
    return Levels(key=axis.path, constant=False, values=given, unit=_unit_of(given) or "1")


def _si_unit(constant: Constant) -> str:
    return "SI" if constant.unit != "1" else "1"


def _in_si(value: Any, constant: Constant) -> float:
    """A constant's value in strict SI from a bare number in its own unit, or from a quantity."""
    if isinstance(value, str):
        return units.si(value, "K" if constant.unit == "degC" else constant.unit)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a constant is a number or a quantity")
    return replace(constant, value=float(value)).si


def _unit_of(values: Sequence[Any]) -> str:
    for value in values:
        if isinstance(value, str):
            try:
                return units.split(value)[1]
            except ValueError:
                return ""
    return ""


def _stretch(axis: Axis, unit: str) -> Iterator[Any]:
    """The values of an axis, whole numbers where its ends and steps are whole."""
    if axis.values is not None:
        yield from axis.values
        return
    assert axis.points is not None
    (first, one), (last, other) = _number(axis.start), _number(axis.stop)
    if one != other:
        raise ValueError(f"from is in {one or 'no unit'}, to in {other or 'no unit'}")
    if axis.spacing == "log":
        if not (first > 0 and last > 0):
            raise ValueError("a logarithmic axis lies above zero")
        found = np.geomspace(first, last, axis.points)
    else:
        found = np.linspace(first, last, axis.points)
    found[0], found[-1] = first, last
    whole = isinstance(axis.start, int) and isinstance(axis.stop, int)
    for value in found.tolist():
        if one:
            yield f"{value:.15g} {one}"
        elif whole and value == round(value):
            yield round(value)
        else:
            yield float(f"{value:.15g}")


def _number(value: Any) -> tuple[float, str]:
    if isinstance(value, str):
        return units.split(value)
    return float(value), ""


# --- the sample ------------------------------------------------------------------------------


def _space(
    moved: LoadedCase,
    used: Mapping[str, Constant],
    uncertainty: Uncertainty,
    taken: set[str],
    file: str,
) -> tuple[Space, dict[str, str]]:
    """The space of all uncertain numbers, and the units of the settings among them."""
    problems: list[Problem] = []
    found: dict[str, Distribution] = {}
    for key in sorted(used):
        wanted = any(fnmatchcase(key, pattern) for pattern in uncertainty.constants)
        spared = any(fnmatchcase(key, pattern) for pattern in uncertainty.leave_out)
        if wanted and not spared and key not in taken:
            found[key] = distributions.of(used[key])
    for pattern in uncertainty.constants:
        if not any(fnmatchcase(key, pattern) for key in used):
            problems.append(
                Problem(
                    message="no constant that the case reads is called so",
                    file=file,
                    key="uncertainty.constants",
                    value=pattern,
                    expected=f"patterns such as {min(used, default='set:name')}",
                )
            )
    settings: dict[str, str] = {}
    for one in uncertainty.input:
        where = f"uncertainty.input.{one.key}"
        try:
            if one.key in taken:
                raise ValueError("an axis of the grid moves this too")
            if one.constant:
                found[one.key] = _of_constant(one, Book().constant(one.constant))
            else:
                found[one.key], settings[one.key] = _of_setting(moved, one)
        except ValueError as error:
            problems.append(Problem(message=str(error), file=file, key=where))
        except InputError as error:
            problems += [replace(p, file=file, key=where) for p in error.problems]
    groups, left = [], dict(used)
    for together in uncertainty.together:
        keys = [k for k in found if any(fnmatchcase(k, pattern) for pattern in together.members)]
        if len(keys) < 2:
            problems.append(
                Problem(
                    message="fewer than two uncertain numbers hang together here",
                    file=file,
                    key=f"uncertainty.together.{together.name}",
                    value=", ".join(together.members),
                    expected="keys or patterns of inputs that are uncertain",
                )
            )
        groups.append(Group(name=together.name, keys=tuple(keys), correlation=together.correlation))
        left = {key: constant for key, constant in left.items() if key not in keys}
    if problems:
        raise InputError(problems)
    groups += sampling.laboratories({k: c for k, c in left.items() if k in found})
    space = sampling.space(found, groups)
    if not space.inputs:
        raise InputError(
            Problem(
                message="nothing is uncertain: no constant that the case reads has a range",
                file=file,
                key="uncertainty",
                expected="[[uncertainty.input]], or [[sweep.axis]] for a grid",
            )
        )
    return space, settings


def _of_constant(one: Uncertain, constant: Constant) -> Distribution:
    if one.relative is not None:
        return distributions.spread(constant.si, one.relative, one.distribution)
    low, high = _in_si(one.low, constant), _in_si(one.high, constant)
    return _between(one.distribution, constant.si, low, high)


def _of_setting(moved: LoadedCase, one: Uncertain) -> tuple[Distribution, str]:
    """The distribution of a setting in the unit its value has in the file, and that unit."""
    assert one.path is not None
    base = cases.value_at(moved.document, one.path)
    if isinstance(base, bool) or not isinstance(base, int | float | str):
        raise ValueError("the case states no number at this path")
    value, unit = _number(base)
    if one.relative is not None:
        found = distributions.spread(value, one.relative, one.distribution)
    else:
        ends = []
        for end in (one.low, one.high):
            number, own = _number(end)
            if own != unit and isinstance(end, str):
                number = units.si(end, unit or "1") / units.factor(unit or "1")
            ends.append(number)
        found = _between(one.distribution, value, *ends)
    if value > 0 and found.kind == "normal":
        found = replace(found, least=0.0)
    low, high = found.quantile([1e-3, 1.0 - 1e-3]).tolist()
    for end in (low, high):
        changed(moved, {one.path: setting(end, unit)})
    return found, unit


def _between(kind: str, value: float, low: float, high: float) -> Distribution:
    if not low <= value <= high:
        raise ValueError(f"the value {value:g} does not lie between {low:g} and {high:g}")
    if not low < high:
        raise ValueError("low and high are the same")
    return Distribution(kind=kind, value=value, low=low, high=high)


def setting(number: float, unit: str) -> Any:
    """A drawn number as a case takes it.

    >>> setting(1.5, "L/h"), setting(0.25, "")
    ('1.5 L/h', 0.25)
    """
    return f"{number!r} {unit}" if unit else number


def _points(sweep: Sweep, space: Space) -> Array:
    assert sweep.design is not None
    size = SAMPLES[sweep.design] if sweep.samples is None else sweep.samples
    dims = len(space.inputs)
    if size == 0:
        return np.empty((0, dims))
    if sweep.design == "saltelli":
        return sensitivity.saltelli(size, dims, sweep.seed).reshape(-1, dims)
    if sweep.design == "morris":
        return sensitivity.morris_points(size, dims, sweep.seed)
    return sampling.points(sweep.design, size, space.inputs, sweep.seed)


# --- the jobs --------------------------------------------------------------------------------


def _job(plan: Plan, point: Sequence[Any], drawn: Mapping[str, float]) -> Job:
    settings = {a.key: v for a, v in zip(plan.axes, point, strict=True) if not a.constant}
    constants = {a.key: v for a, v in zip(plan.axes, point, strict=True) if a.constant}
    for key, value in drawn.items():
        if key in plan.settings:
            settings[key] = setting(value, plan.settings[key])
        else:
            constants[key] = value
    return plan.task.job(settings, constants)


def _members(plan: Plan) -> Iterator[Job]:
    drawn = plan.space.values(plan.points) if len(plan.points) else {}
    columns = {key: values.tolist() for key, values in drawn.items()}
    for point in plan.grid:
        for i in range(plan.size):
            yield _job(plan, point, {key: values[i] for key, values in columns.items()})


def _beside(plan: Plan, shift: Any) -> Iterator[tuple[Job, Job]]:
    """For each input, the case with this input alone moved down and up."""
    for axis in range(len(plan.space.inputs)):
        low, high = shift(plan.space, axis)
        yield _job(replace(plan, axes=()), (), low), _job(replace(plan, axes=()), (), high)


def _at_ends(space: Space, axis: int) -> tuple[dict[str, float], dict[str, float]]:
    """The numbers an input moves at its 5 % and at its 95 % point, all others as they stand."""
    point = np.full(len(space.inputs), 0.5)
    keys = [key for key, parts in space.weights.items() if axis in dict(parts)]
    ends = []
    for p in (statistics.LOW, statistics.HIGH):
        point[axis] = p
        here = space.member(point)
        ends.append({key: here[key] for key in keys})
    return ends[0], ends[1]


def _at_steps(space: Space, axis: int) -> tuple[dict[str, float], dict[str, float]]:
    """The numbers an input moves, a small part of their 5-95 % widths below and above."""
    low, high = _at_ends(space, axis)
    centre = space.centre
    return (
        {key: centre[key] - STEP * (high[key] - low[key]) for key in low},
        {key: centre[key] + STEP * (high[key] - low[key]) for key in low},
    )


def default_folder(name: str) -> Path:
    """Where a sweep's store and tables go when no other folder is named."""
    return Path("results") / f"{name}-sweep"
