"""From a case to its result: load, solve, and say what the answer rests on.

``sepmodel`` imports this module to have ``load`` and ``run`` at hand, so whatever is heavy is
imported inside the functions.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from sepmodel.errors import ConvergenceError, InputError, Problem, SepmodelError, Trace

if TYPE_CHECKING:
    from sepmodel.data import Book, Constant
    from sepmodel.extraction.design_inputs import DesignCase
    from sepmodel.extraction.design_pareto import Fronts
    from sepmodel.extraction.design_result import Design
    from sepmodel.fields import Case
    from sepmodel.plant.compare import Comparison
    from sepmodel.plant.inputs import Route, Study
    from sepmodel.plant.train_case import TrainCase, TrainPlan
    from sepmodel.result import Result
    from sepmodel.sweep_tables import Sweep, Uncertainty

    Solver: TypeAlias = Callable[..., Result]
    Further: TypeAlias = Callable[[type[Case], Mapping[str, Any], Sequence[Problem]], list[Problem]]
    ManySolver: TypeAlias = Callable[[Sequence[Any], Sequence[Book]], list[Result | SepmodelError]]

DEFAULT_STUDY = "magnet-scrap"
# A balance open by more than this is a wrong answer, whatever the solver says of itself.
_OPEN = 1e-6


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of case: the model of its file and, unless another command runs it, its solver.

    ``solve_many`` solves many cases of the kind together; a failed member is its error.

    A ``timed`` solver goes through simulated time: it tells how far it is, and goes on from a
    checkpoint after a stop. ``further`` tells what else is wrong with a document that is no case,
    from what is known to be.
    """

    model: type[Case]
    solve: Solver | None
    command: str = "run"
    solve_many: ManySolver | None = None
    timed: bool = False
    further: Further | None = None


def _cascade() -> Kind:
    from sepmodel.extraction.inputs import CascadeCase
    from sepmodel.extraction.many import solve_cascades
    from sepmodel.extraction.solve import solve_case

    return Kind(CascadeCase, solve_case, solve_many=solve_cascades)


def _circuit() -> Kind:
    from sepmodel.extraction.circuit_inputs import CircuitCase
    from sepmodel.extraction.circuit_solve import solve_case
    from sepmodel.extraction.many import solve_circuits

    return Kind(CircuitCase, solve_case, solve_many=solve_circuits)


def _dynamic_cascade() -> Kind:
    from sepmodel.extraction.dynamics.inputs import DynamicMassFlowCase
    from sepmodel.extraction.dynamics.solve import solve_case

    return Kind(DynamicMassFlowCase, solve_case, timed=True, further=_further)


def _dynamic_circuit() -> Kind:
    from sepmodel.extraction.dynamics.inputs import DynamicCircuitCase
    from sepmodel.extraction.dynamics.solve import solve_case

    return Kind(DynamicCircuitCase, solve_case, timed=True, further=_further)


def _further(
    model: type[Case], document: Mapping[str, Any], known: Sequence[Problem]
) -> list[Problem]:
    from sepmodel.extraction.dynamics.further import further

    return further(model, document, known)


def _column() -> Kind:
    from sepmodel.chromatography.inputs import ColumnCase
    from sepmodel.chromatography.solve import solve_case

    return Kind(ColumnCase, solve_case)


def _displacement() -> Kind:
    from sepmodel.chromatography.displacement_result import solve_case
    from sepmodel.chromatography.inputs import DisplacementCase

    return Kind(DisplacementCase, solve_case)


def _elution() -> Kind:
    from sepmodel.chromatography.elution import solve_case
    from sepmodel.chromatography.inputs import ElutionCase

    return Kind(ElutionCase, solve_case)


def _design() -> Kind:
    from sepmodel.extraction.design_inputs import DesignCase

    return Kind(DesignCase, None, "design")


def _isotherm() -> Kind:
    from sepmodel.extraction.isotherm_inputs import IsothermCase
    from sepmodel.extraction.isotherm_solve import solve_case

    return Kind(IsothermCase, solve_case)


def _rating() -> Kind:
    from sepmodel.extraction.rating_case import RatingCase, solve_case

    return Kind(RatingCase, solve_case)


def _route() -> Kind:
    from sepmodel.plant.inputs import Route

    return Kind(Route, None, "compare")


def _study() -> Kind:
    from sepmodel.plant.inputs import Study

    return Kind(Study, None, "compare")


def _train() -> Kind:
    from sepmodel.plant.train_case import TrainCase

    return Kind(TrainCase, None, "design")


def _sweep() -> Kind:
    from sepmodel.sweep_tables import SweepCase

    return Kind(SweepCase, None, "sweep")


def _curve_fit() -> Kind:
    from sepmodel.curve_tables import CurveFitCase

    return Kind(CurveFitCase, None, "fit")


# What a case file can be. Each entry imports its technology only when such a case is loaded.
KINDS: dict[str, Callable[[], Kind]] = {
    "cascade": _cascade,
    "cascade-dynamic": _dynamic_cascade,
    "column": _column,
    "curve-fit": _curve_fit,
    "displacement": _displacement,
    "elution": _elution,
    "isotherm": _isotherm,
    "design": _design,
    "rating": _rating,
    "route": _route,
    "study": _study,
    "sweep": _sweep,
    "train": _train,
}
# Tables that any other kind may carry: how `sepmodel sweep` is to move the case.
CARRIED = ("sweep", "uncertainty")
# Equilibrium models whose cases have another shape: a circuit's pH is an answer.
SHAPES: dict[tuple[str, str], Callable[[], Kind]] = {
    ("cascade", "mass-flow"): _cascade,
    ("cascade", "mass-action"): _circuit,
    ("cascade", "correlation"): _circuit,
    ("cascade-dynamic", "mass-flow"): _dynamic_cascade,
    ("cascade-dynamic", "mass-action"): _dynamic_circuit,
    ("cascade-dynamic", "correlation"): _dynamic_circuit,
}


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class LoadedCase:
    """A checked case: ``inputs`` in SI, and where they come from.

    ``sweep`` and ``uncertainty`` say how ``sepmodel sweep`` moves it, if its file does.
    """

    inputs: Case
    document: Mapping[str, Any]
    path: Path | None = None
    shadows: Path | None = None
    sweep: Sweep | None = None
    uncertainty: Uncertainty | None = None

    @property
    def kind(self) -> str:
        """The kind, such as "cascade"."""
        return self.inputs.kind

    @property
    def name(self) -> str:
        """The name, which is also the beginning of its result folder's name."""
        return self.inputs.name

    def canonical(self) -> dict[str, Any]:
        """The inputs in SI with every default written out; titles and notes do not count."""
        return self.inputs.model_dump(
            mode="json", by_alias=True, exclude={"title": True, "notes": True}
        )


def load(name: str | Path | Mapping[str, Any], set: Mapping[str, Any] | None = None) -> LoadedCase:
    """The case of a file, of a name in the models folders, or of the tables themselves.

    ``set`` replaces values by path: ``{"section.extraction.stages": 30}``.

    Raises
    ------
    InputError
        with everything wrong with the case at once.
    """
    from sepmodel import case

    if isinstance(name, Mapping):
        return changed(LoadedCase(inputs=cast("Case", None), document=dict(name)), set or {})
    located = case.locate(name)
    found = LoadedCase(
        inputs=cast("Case", None),
        document=case.read(located.path),
        path=located.path,
        shadows=located.shadows,
    )
    return changed(found, set or {})


def changed(loaded: LoadedCase, set: Mapping[str, Any]) -> LoadedCase:
    """A case with values replaced by path, checked anew; it keeps the place of its file."""
    from sepmodel import case

    document = case.override(loaded.document, set)
    file = str(loaded.path) if loaded.path else ""
    try:
        return replace(loaded, document=document, **_checked(document, file))
    except InputError as error:
        given = {case.numbered(document, path) for path in set}
        raise InputError(
            [
                replace(
                    p,
                    file="--set" if case.numbered(document, p.key) in given else p.file,
                    key=case.named(document, p.key),
                )
                for p in error.problems
            ]
        ) from None


def _checked(document: Mapping[str, Any], file: str) -> dict[str, Any]:
    """The inputs of a document and the tables it carries; InputError with all problems."""
    from sepmodel import fields

    kind = _kind(document, file)
    carried = CARRIED if kind.command != "sweep" else ()
    problems: list[Problem] = []
    found: dict[str, Any] = {}
    body = {key: value for key, value in document.items() if key not in carried}
    try:
        found["inputs"] = fields.validate(kind.model, body, file=file)
    except InputError as error:
        problems += error.problems
        if kind.further is not None:
            found_too = kind.further(kind.model, body, error.problems)
            problems += [replace(p, file=file) for p in found_too]
    for name in [key for key in carried if key in document]:
        from sepmodel import sweep_tables

        model = sweep_tables.CARRIED[name]
        try:
            if not isinstance(document[name], Mapping):
                raise InputError(Problem(message="wrong type", expected="a table"))
            found[name] = fields.validate(model, document[name], file=file)
        except InputError as error:
            problems += [
                replace(p, file=file, key=f"{name}.{p.key}".rstrip(".")) for p in error.problems
            ]
    if problems:
        raise InputError(problems)
    return found


def _kind(document: Mapping[str, Any], file: str) -> Kind:
    """The kind a document names; InputError with everything wrong with its head otherwise."""
    from sepmodel import fields

    name = document.get("kind")
    if isinstance(name, str) and name in KINDS:
        model = document.get("model")
        equilibrium = model.get("equilibrium") if isinstance(model, Mapping) else None
        shapes = [shape for owner, shape in SHAPES if owner == name]
        if shapes and isinstance(equilibrium, str) and equilibrium not in shapes:
            raise InputError(
                Problem(
                    message=f"unknown choice{fields.meant(equilibrium, shapes)}",
                    file=file,
                    key="model.equilibrium",
                    value=equilibrium,
                    expected=f"one of {', '.join(shapes)}",
                )
            )
        return SHAPES.get((name, str(equilibrium)), KINDS[name])()
    wrong = Problem(
        message="missing key" if name is None else "unknown kind",
        file=file,
        key="kind",
        value=name,
        expected=f"one of {', '.join(KINDS)}",
    )
    head = {k: document[k] for k in ("schema", "kind", "name") if k in document}
    try:
        fields.validate(fields.Case, head, file=file)
    except InputError as error:
        raise InputError([wrong, *(p for p in error.problems if p.key != "kind")]) from None
    raise InputError(wrong)


def run(
    name: LoadedCase | str | Path | Mapping[str, Any],
    set: Mapping[str, Any] | None = None,
    *,
    constants: Mapping[str, float] | None = None,
    progress: Callable[[float, float], None] | None = None,
    scratch: Path | None = None,
) -> Result:
    """The result of a case, given as ``load`` gives it or as ``load`` takes it.

    ``constants`` replace numbers of the data sets (strict SI) by key,
    ``{"elements:Nd": 0.144}``, without touching a file. A case that goes through time tells
    ``progress`` the time reached and its end [s], and keeps a checkpoint in the folder ``scratch``
    while it runs: run again after a stop, it goes on from there to the same result.

    Raises
    ------
    InputError, InfeasibleError, ConvergenceError
        when the case cannot be used, cannot be met, or was not solved.
    """
    from sepmodel.data import Book

    loaded = _loaded(name, set)
    kind = _runnable(loaded)
    assert kind.solve is not None
    book = Book(dict(constants or {}))
    timed = {"progress": progress, "scratch": scratch} if kind.timed else {}
    started = time.perf_counter()
    try:
        solved = kind.solve(loaded.inputs, book, **timed)
    except InputError as error:
        raise _placed(error, loaded) from None
    except ConvergenceError as error:
        raise error.placed(file=str(loaded.path or "")) from None
    return _finished(loaded, solved, book, time.perf_counter() - started)


def _loaded(
    name: LoadedCase | str | Path | Mapping[str, Any], set: Mapping[str, Any] | None
) -> LoadedCase:
    if isinstance(name, LoadedCase):
        return changed(name, set) if set else name
    return load(name, set)


def run_many(
    cases: Sequence[LoadedCase], constants: Sequence[Mapping[str, float]]
) -> list[Result | SepmodelError]:
    """The results of many cases, each with its own constants, together where their kind allows.

    A member that cannot be used, met or solved is its error; the others do not notice. Members
    carry no inputs hash: whoever hands out thousands names them himself.
    """
    from sepmodel.data import Book

    kinds = [_runnable(loaded) for loaded in cases]
    many = kinds[0].solve_many if kinds else None
    if many is None or len(cases) == 1 or any(kind.solve_many is not many for kind in kinds):
        return [_or_error(loaded, given) for loaded, given in zip(cases, constants, strict=True)]
    books: list[Book | SepmodelError] = []
    shelf = Book()  # every member's book looks for its sets once
    for given in constants:
        try:
            books.append(shelf.with_values(given))
        except InputError as error:
            books.append(error)
    good = [i for i, book in enumerate(books) if isinstance(book, Book)]
    own = [book for book in books if isinstance(book, Book)]
    started = time.perf_counter()
    solved = many([cases[i].inputs for i in good], own)
    seconds = (time.perf_counter() - started) / max(len(good), 1)
    found: list[Result | SepmodelError | None] = [
        book if isinstance(book, SepmodelError) else None for book in books
    ]
    for i, book, answer in zip(good, own, solved, strict=True):
        try:
            if isinstance(answer, InputError):
                found[i] = _placed(answer, cases[i])
            elif isinstance(answer, SepmodelError):
                found[i] = answer
            else:
                found[i] = _finished(cases[i], answer, book, seconds, hashed=False)
        except SepmodelError as error:  # a balance that does not close
            found[i] = error
    return [answer for answer in found if answer is not None]


def _or_error(loaded: LoadedCase, constants: Mapping[str, float]) -> Result | SepmodelError:
    try:
        return run(loaded, constants=constants)
    except SepmodelError as error:
        return error


def _placed(error: InputError, *cases: LoadedCase) -> InputError:
    """The error with the case's file and, where the value stands there once, its key: whoever
    solves does not know where a case came from. Of several cases the one that holds the value."""

    def place(problem: Problem) -> Problem:
        if problem.file or (problem.key and len(cases) > 1):
            return problem
        for loaded in cases:
            keys = [] if problem.key else list(_holding(loaded.document, problem.value))
            if len(keys) == 1 or len(cases) == 1:
                key = problem.key or (keys[0] if len(keys) == 1 else "")
                return replace(problem, file=str(loaded.path or ""), key=key)
        return problem

    return InputError([place(p) for p in error.problems])


def _holding(document: Any, value: Any, path: str = "") -> Iterator[str]:
    """Paths at which a document names a data set or another text, with or without its folder."""
    if isinstance(document, Mapping):
        for key, member in document.items():
            yield from _holding(member, value, f"{path}.{key}".lstrip("."))
    elif isinstance(document, list):
        for k, member in enumerate(document):
            name = member.get("name", k) if isinstance(member, Mapping) else k
            yield from _holding(member, value, f"{path}.{name}")
    elif document and document in (value, str(value).rpartition("/")[2]):
        yield path


def _runnable(loaded: LoadedCase) -> Kind:
    """The kind of a case that `run` solves; InputError for one that another command takes."""
    kind = _kind(loaded.document, str(loaded.path or ""))
    if kind.solve is None:
        raise InputError(
            Problem(
                message=f"a case of kind {loaded.kind} is not run by itself",
                file=str(loaded.path or ""),
                key="kind",
                value=loaded.kind,
                expected=f"sepmodel {kind.command}"
                + (" with a study that names the route" if loaded.kind == "route" else ""),
            )
        )
    return kind


def _finished(
    loaded: LoadedCase, solved: Result, book: Book, seconds: float, *, hashed: bool = True
) -> Result:
    """A solver's result with its name, evidence and hash; refused if its balances are open."""
    from sepmodel import __version__

    used = {**solved.used, **book.used}
    result = replace(
        solved,
        kind=loaded.kind,
        name=loaded.name,
        solver={"seconds": seconds, **solved.solver},
        used=used,
        version=__version__,
        inputs_hash=inputs_hash(loaded, used, book.overrides) if hashed else "",
    )
    _require_closed(result)
    return result


def inputs_hash(
    loaded: LoadedCase, used: Mapping[str, Constant], constants: Mapping[str, float] | None = None
) -> str:
    """SHA-256 of the case in SI and of every constant used; order and notes do not matter."""
    from sepmodel import files

    numbers = {
        key: [(constants or {}).get(key, c.si), *c.si_range, c.distribution, c.provenance, c.source]
        for key, c in sorted(used.items())
    }
    text = files.json_text({"case": _sorted(loaded.canonical()), "data": numbers}, indent=None)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(member) for member in value] if isinstance(value, list) else value


def _require_closed(result: Result) -> None:
    """Refuse a result whose books do not close: it would look plausible and be wrong."""
    components: Mapping[str, float] = result.balance.get("components", {})
    worst = max(components, key=lambda name: components[name], default="")
    openness = max(float(result.balance.get("max") or 0.0), components.get(worst, 0.0))
    if not openness <= _OPEN:
        raise ConvergenceError(
            f"{result.name}: a balance is open by {openness:.1e} (limit {_OPEN:.0e})",
            trace=Trace(equation="component balance", component=worst),
        )


def result_files(result: Result, loaded: LoadedCase) -> dict[str, str]:
    """Names and contents of the files of a result's folder, figures excepted."""
    from sepmodel import files

    return {
        "result.json": files.json_text(result.to_dict()),
        "case.json": files.json_text(loaded.document),
        **result.csv_files(),
    }


def result_folder(result: Result) -> Path:
    """The folder a result goes to when no other is named: ``results/<name>-<hash8>``."""
    return Path("results") / f"{result.name}-{result.inputs_hash[:8]}"


def compare(
    study: LoadedCase | str | Path | Mapping[str, Any] = DEFAULT_STUDY,
    set: Mapping[str, Any] | None = None,
    *,
    constants: Mapping[str, float] | None = None,
    ranges: bool | Collection[str] = True,
    members: int = 1000,
    seed: int = 1,
    as_built: Mapping[str, float] | int | None = None,
    workers: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """The routes of a study on one boundary, with ranges and rankings.

    ``set`` replaces values of the study by path, ``constants`` numbers of the data sets (strict SI)
    by key; ``ranges`` False leaves out the ranges, which take most of the time; ``members`` are
    drawn from all constants together for them, as ``seed`` decides; ``workers`` is
    the number of processes that share them (from a script, under ``if __name__ == "__main__"``);
    ``progress`` is called with a text, the steps done and the steps in all.

    ``constants`` design the plants; ``as_built`` are constants at which the plants so designed are
    run as they stand, as every draw's are: ``as_built=found.drawn.of(17)``, or ``as_built=17``,
    gives the figures of draw 17 of ``found``.

    Raises
    ------
    InputError
        a study, route or constant that cannot be used. A route that misses the specification is no
        error: its row says so.
    """
    from sepmodel.plant import compare as plant

    loaded = _loaded(study, set)
    _require_kind(loaded, "study")
    inputs = cast("Study", loaded.inputs)
    routes = routes_of(loaded)
    started = time.perf_counter()
    try:
        found = plant.compare(
            inputs,
            [cast("Route", route.inputs) for route in routes],
            overrides=constants,
            ranges=ranges,
            members=members,
            seed=seed,
            as_built=as_built,
            workers=workers,
            progress=progress,
        )
    except InputError as error:
        raise _placed(error, loaded, *routes) from None
    used = {key: constant for route in found.routes for key, constant in route.used.items()}
    run_at = {**(constants or {}), **found.as_built}
    text = "".join(inputs_hash(case, used, run_at) for case in (loaded, *routes))
    if found.as_built:
        text += inputs_hash(loaded, used, constants)
    return replace(
        found,
        inputs_hash=hashlib.sha256(text.encode("utf-8")).hexdigest(),
        seconds=time.perf_counter() - started,
    )


def routes_of(study: LoadedCase) -> list[LoadedCase]:
    """The routes a study names, in its order."""
    return [_route_called(name, study.path) for name in cast("Study", study.inputs).routes]


def design(
    spec: LoadedCase | str | Path | Mapping[str, Any],
    set: Mapping[str, Any] | None = None,
    *,
    constants: Mapping[str, float] | None = None,
) -> Design | TrainPlan:
    """The circuit that meets the specifications of a design file, given as ``load`` takes it.

    A file of kind "train" gives the ranked sequences of cuts and the train of the best.

    Raises
    ------
    InputError
        a specification that cannot be used.
    InfeasibleError
        which limit is violated, by how much, and the nearest feasible value.
    """
    from sepmodel.data import Book
    from sepmodel.extraction.design_solve import solve

    loaded = _loaded(spec, set)
    if loaded.kind != "train":
        _require_kind(loaded, "design")
    book = Book(dict(constants or {}))
    started = time.process_time()
    try:
        if loaded.kind == "train":
            return _planned(loaded, book, started)
        found = solve(cast("DesignCase", loaded.inputs), book)
    except InputError as error:
        raise _placed(error, loaded) from None
    from sepmodel import __version__

    hashed = inputs_hash(loaded, book.used, book.overrides)
    return replace(
        found,
        result=replace(found.result, used=book.used, version=__version__, inputs_hash=hashed),
        inputs_hash=hashed,
        seconds=time.process_time() - started,
    )


def pareto(
    spec: LoadedCase | str | Path | Mapping[str, Any], set: Mapping[str, Any] | None = None
) -> Fronts:
    """Stages against reagents and purity against lock-up, around a design file's specification.

    Raises
    ------
    InputError, InfeasibleError
        as ``design``.
    """
    from sepmodel.data import Book
    from sepmodel.extraction.design_pareto import fronts

    loaded = _loaded(spec, set)
    _require_kind(loaded, "design")
    try:
        return fronts(cast("DesignCase", loaded.inputs), Book())
    except InputError as error:
        raise _placed(error, loaded) from None


def _planned(loaded: LoadedCase, book: Book, started: float) -> TrainPlan:
    """The plan of a train file."""
    from sepmodel import __version__
    from sepmodel.plant.train_case import solve

    found = solve(cast("TrainCase", loaded.inputs), book)
    return replace(
        found,
        inputs_hash=inputs_hash(loaded, book.used, book.overrides),
        version=__version__,
        seconds=time.process_time() - started,
    )


def _route_called(name: str, study: Path | None) -> LoadedCase:
    """A route of a study: the file of that name beside the study, else one of the models."""
    beside = study.parent / f"{name}.toml" if study is not None else None
    route = load(beside if beside is not None and beside.is_file() else f"routes/{name}.toml")
    _require_kind(route, "route")
    if route.name != name:
        raise InputError(
            Problem(
                message="a route is called as its file",
                file=str(route.path),
                key="name",
                value=route.name,
                expected=name,
            )
        )
    return route


def _require_kind(loaded: LoadedCase, kind: str) -> None:
    if loaded.kind != kind:
        raise InputError(
            Problem(
                message=f"not a {kind}",
                file=str(loaded.path or ""),
                key="kind",
                value=loaded.kind,
                expected=kind,
            )
        )
