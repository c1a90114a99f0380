"""One point of a study: what it is, and what becomes of it in a worker."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from sepmodel.data import Constant
from sepmodel.errors import ConvergenceError, InfeasibleError, InputError, SepmodelError
from sepmodel.plant.compare import Comparison
from sepmodel.result import Result
from sepmodel.run import LoadedCase, changed, compare, design, load, routes_of, run, run_many

if TYPE_CHECKING:
    from sepmodel.extraction.design_result import Design
from sepmodel.study import answers, cache, store
from sepmodel.study.answers import Answer
from sepmodel.study.executor import TimeLimitError
from sepmodel.study.store import Outcome


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Job:
    """Settings and constants (strict SI) that replace those of the case; the id is their hash."""

    id: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, float] = field(default_factory=dict)

    @property
    def inputs(self) -> dict[str, Any]:
        """Both as one table."""
        return {**self.settings, **self.constants}


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Task:
    """What all jobs of a sweep share: the case, the answers to keep, the content it rests on.

    ``limit`` [s] is kept by an alarm inside the worker where its executor cannot stop a call.
    """

    document: Mapping[str, Any]
    path: str | None
    answers: tuple[Answer, ...]
    content: str
    limit: float | None = None

    def job(
        self,
        settings: Mapping[str, Any] | None = None,
        constants: Mapping[str, float] | None = None,
    ) -> Job:
        """A job with the id of its content."""
        own = {"content": self.content, "set": settings or {}, "constants": constants or {}}
        return Job(id=cache.hashed(own), settings=settings or {}, constants=constants or {})


def task(loaded: LoadedCase, wanted: Sequence[Answer]) -> Task:
    """The task of a case; its content covers the case, what it may read, and the code."""
    asked = [[a.name, a.path] for a in wanted]
    return Task(
        document=dict(loaded.document),
        path=str(loaded.path) if loaded.path else None,
        answers=tuple(wanted),
        content=cache.key({**content(loaded), "answers": asked}),
    )


def content(loaded: LoadedCase) -> dict[str, Any]:
    """A case in SI, and the routes it compares: what an answer depends on beside data and code."""
    routes = routes_of(loaded) if loaded.kind == "study" else []
    return {"case": loaded.canonical(), "routes": [route.canonical() for route in routes]}


# Kinds whose single solution takes seconds.
SLOW = ("study", "design")


def solve(loaded: LoadedCase, constants: Mapping[str, float]) -> Result | Comparison:
    """A case of any kind: run it, design it, or compare its routes."""
    if loaded.kind == "study":
        return compare(loaded, constants=constants, ranges=False)
    if loaded.kind == "design":
        return cast("Design", design(loaded, constants=constants)).result
    return run(loaded, constants=constants)


def used(found: Result | Comparison) -> dict[str, Constant]:
    """The constants a result rests on."""
    if isinstance(found, Result):
        return dict(found.used)
    return {key: constant for route in found.routes for key, constant in route.used.items()}


def seconds(found: Result | Comparison) -> float | None:
    """How long a result took to solve."""
    return found.solver.get("seconds") if isinstance(found, Result) else found.seconds


def solve_jobs(task: Task, jobs: Sequence[Job]) -> list[Outcome]:
    """What becomes of each job; nothing that goes wrong with one of them touches the others."""
    base = load(task.document)
    if task.path is not None:
        base = replace(base, path=Path(task.path))
    loaded: dict[str, LoadedCase | SepmodelError] = {}
    for job in jobs:
        name = repr(job.settings)
        if name not in loaded:
            try:
                loaded[name] = changed(base, job.settings) if job.settings else base
            except SepmodelError as error:
                loaded[name] = error
    cases = [loaded[repr(job.settings)] for job in jobs]
    good = [i for i, case in enumerate(cases) if isinstance(case, LoadedCase)]
    found: dict[int, Outcome] = {
        i: _failed(jobs[i], case) for i, case in enumerate(cases) if isinstance(case, SepmodelError)
    }
    if base.kind not in ("study", "design") and task.limit is None and len(good) > 1:
        started = time.perf_counter()
        own = [case for case in cases if isinstance(case, LoadedCase)]
        try:
            many = run_many(own, [jobs[i].constants for i in good])
        except Exception:  # a defect in one member: alone, it is told from the others
            many = []
        seconds = (time.perf_counter() - started) / len(good)
        for i, answer in zip(good, many, strict=False):
            found[i] = (
                _failed(jobs[i], answer, seconds)
                if isinstance(answer, SepmodelError)
                else _solved(task, jobs[i], answer, seconds)
            )
    for i in good:
        if i not in found:
            case = cases[i]
            assert isinstance(case, LoadedCase)
            found[i] = _alone(task, jobs[i], case)
    return [found[i] for i in range(len(jobs))]


def _alone(task: Task, job: Job, case: LoadedCase) -> Outcome:
    started = time.perf_counter()
    try:
        with _alarm(task.limit):
            answer = solve(case, job.constants)
        return _solved(task, job, answer, time.perf_counter() - started)
    except Exception as error:  # a defect is an outcome too: the other points go on
        return _failed(job, error, time.perf_counter() - started)


def _solved(task: Task, job: Job, found: Result | Comparison, seconds: float) -> Outcome:
    return Outcome(
        id=job.id,
        status=store.SOLVED,
        inputs=job.inputs,
        answers=answers.numbers(found, task.answers),
        closure=answers.closure(found),
        seconds=seconds,
    )


def _failed(job: Job, error: Exception, seconds: float | None = None) -> Outcome:
    status = store.DEFECT
    for kind, name in (
        (TimeLimitError, store.TIMED_OUT),
        (InputError, store.REFUSED),
        (InfeasibleError, store.INFEASIBLE),
        (ConvergenceError, store.UNSOLVED),
        (SepmodelError, store.UNSOLVED),
    ):
        if isinstance(error, kind):
            status = name
            break
    reason = str(error) if status != store.DEFECT else f"{type(error).__name__}: {error}"
    return Outcome(id=job.id, status=status, reason=reason, inputs=job.inputs, seconds=seconds)


def failed(job: Job, status: str, reason: str) -> Outcome:
    """The outcome of a job whose worker cannot say it."""
    return Outcome(id=job.id, status=status, reason=reason, inputs=job.inputs)


@contextmanager
def _alarm(seconds: float | None) -> Iterator[None]:
    """TimeLimitError after so many seconds, where the system and the thread allow an alarm."""
    possible = (
        seconds is not None
        and hasattr(signal, "setitimer")
        and threading.current_thread() is threading.main_thread()
    )
    if not possible:
        yield
        return
    assert seconds is not None

    def ring(*_: object) -> None:
        raise TimeLimitError(f"stopped after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)
