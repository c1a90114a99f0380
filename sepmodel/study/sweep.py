"""The driver of a study: it hands out points, keeps what comes back, and goes on where it stopped.

What a point gives depends on its content only, never on who computes it, with whom, or when. The
driver alone writes to the store; a chunk that dies or runs out of time is taken apart until the
point to blame stands alone, so that every other point keeps its answer.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sepmodel.errors import InputError, Problem
from sepmodel.processes import processors
from sepmodel.run import LoadedCase, changed, load
from sepmodel.study import adjoint, jobs, plan, refine
from sepmodel.study.executor import TimeLimitError, WorkerLostError, Workers
from sepmodel.study.jobs import Job
from sepmodel.study.plan import Plan
from sepmodel.study.store import DIED, SOLVED, TIMED_OUT, WORTH_RETRYING, Outcome, Store
from sepmodel.study.sweep_result import SweepResult

FILE = "sweep.sqlite"
# Seconds a chunk of points should take: often enough for a lively count and a store up to date.
CHUNK = 1.0
# The least part of it: the last points are not handed out one by one.
SMALLEST = 0.1
# Points of a chunk at most, and at first where the kind of case is solved many at a time: few, so
# that short tries get on too.
LARGEST = 512
TOGETHER = 8
# How often a point is tried alone before the death of its worker is held against it.
ATTEMPTS = 3
# Seconds of work that pay for the start of another process.
WORTH_STARTING = 2.0
# Chunks handed out for each worker, so that none waits for the driver.
AHEAD = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Progress:
    """How far a study is: points done (of them from the store, and failed), of how many."""

    done: int
    total: int
    stored: int
    failed: int
    seconds: float

    @property
    def rate(self) -> float:
        """Points a second computed in this run."""
        return (self.done - self.stored) / self.seconds if self.seconds > 0 else 0.0

    @property
    def left(self) -> float | None:
        """Seconds to go at this rate; None while there is none."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None


Report = Callable[[Progress], None]


def sweep(
    study: LoadedCase | str | Path | Mapping[str, Any],
    executor: Executor | None = None,
    set: Mapping[str, Any] | None = None,
    *,
    out: str | Path | None = None,
    workers: int | None = None,
    retry: bool = False,
    progress: Report | None = None,
) -> SweepResult:
    """A case at many points: a grid, a sample of its uncertainty, or the product of both.

    Parameters
    ----------
    study
        a file of kind "sweep", or any case that is run or compared; its tables ``[sweep]`` and
        ``[uncertainty]`` say how it is moved. Without them every constant with a range that it
        reads is drawn from its data's distribution.
    executor
        anything with the interface of ``concurrent.futures.Executor`` (for Dask:
        ``client.get_executor()``); by default processes of this machine.
    set
        replaces values of the file by path, ``{"sweep.samples": 1000}``.
    out
        folder of the store; what an earlier run found there is used, and what this one finds is
        added at once. Without it nothing is written.
    workers
        processes, where no executor is given; by default as many as processors, fewer where the
        work is done before they have started.
    retry
        try the points again that an earlier run could not solve.
    progress
        called with a :class:`Progress` now and then.

    Raises
    ------
    InputError
        a file that cannot be used, a folder that cannot be written. Points that fail are no error:
        they are kept with their status and reason.
    """
    if workers is not None and workers < 1:
        raise InputError(
            Problem(message="not a number of workers", value=workers, expected="1 or more")
        )
    if isinstance(study, LoadedCase):
        loaded = changed(study, set) if set else study
    else:
        loaded = load(study, set)
    path = Path(out) / FILE if out is not None else None
    with Store(path) as store:  # first: a folder that cannot be written should cost no time
        planned = plan.plan(loaded)
        _describe(store, planned)
        run = _Run(store, planned, retry, progress)
        try:
            run.compute(planned.jobs, executor, workers)
            for _ in range(planned.sweep.refine):
                more = refine.between(planned, store.outcomes(j.id for j in planned.members))
                if not more:
                    break
                planned = planned.with_grid(more)
                _describe(store, planned)
                run.compute(planned.jobs, executor, workers)
        finally:
            run.close()
        found = store.outcomes(job.id for job in planned.jobs)
    gradients = {}
    if planned.ends and planned.differentiable:
        steps = plan.small_steps(planned)
        gradients = adjoint.swings(planned.loaded, planned.answers, steps, plan.STEP)
    return SweepResult(
        plan=planned,
        outcomes=found,
        gradients=gradients,
        stored=run.stored,
        seconds=run.seconds,
    )


def _describe(store: Store, planned: Plan) -> None:
    store.describe(
        planned.hash,
        {"name": planned.name, "case": planned.loaded.name, "ids": len(planned.jobs)},
        {answer.name: answer.unit for answer in planned.answers},
    )


class _Run:
    """The state of a driver at work."""

    def __init__(self, store: Store, planned: Plan, retry: bool, report: Report | None) -> None:
        self.store, self.retry, self.report = store, retry, report
        self.task, self.limit, self.pace = planned.task, planned.sweep.time_limit, planned.pace
        self.own: Workers | None = None
        self.started = time.perf_counter()
        self.stored = self.done = self.failed = self.total = 0
        self._known: dict[str, str] = store.statuses()
        self._computed: dict[str, str] = {}
        self._attempts: dict[str, int] = {}
        self._pace = 0.0  # seconds a point, a moving mean

    @property
    def seconds(self) -> float:
        """Seconds since the beginning."""
        return time.perf_counter() - self.started

    def compute(
        self, wanted: Sequence[Job], executor: Executor | None, workers: int | None
    ) -> None:
        """Compute whatever the store does not have."""
        todo = [job for job in wanted if self._open(job.id)]
        statuses = [self._computed.get(j.id) or self._known.get(j.id, "") for j in wanted]
        self.total = len(wanted)
        self.done = len(wanted) - len(todo)
        self.stored = self.done - len(self._computed)
        self.failed = sum(1 for s in statuses if s not in ("", SOLVED)) - sum(
            1 for j in todo if self._known.get(j.id)
        )
        self._tell()
        if not todo:
            return
        if executor is None:
            if self.own is None:
                self.own = Workers(_count(workers, len(todo), self.pace))
            self._drive(todo, self.own, self.own.count)
        else:
            self._drive(todo, executor, getattr(executor, "_max_workers", None) or 2)

    def close(self) -> None:
        """Stop the processes that are ours."""
        if self.own is not None:
            self.own.stop()

    def _open(self, job: str) -> bool:
        if job in self._computed:
            return False
        status = self._known.get(job)
        return status is None or (self.retry and status in WORTH_RETRYING)

    def _drive(self, todo: Sequence[Job], executor: Executor, workers: int) -> None:
        waiting = deque(todo)
        alone: deque[Job] = deque()
        under_way: dict[Future[list[Outcome]], tuple[Job, ...]] = {}
        try:
            while waiting or alone or under_way:
                while (waiting or alone) and len(under_way) < AHEAD * workers:
                    if alone:
                        chunk = [alone.popleft()]
                    else:
                        size = min(self._size(len(waiting), workers), len(waiting))
                        chunk = [waiting.popleft() for _ in range(size)]
                    under_way[self._submit(executor, chunk)] = tuple(chunk)
                ready = wait(under_way, timeout=0.5, return_when=FIRST_COMPLETED).done
                self._collect({f: under_way.pop(f) for f in ready}, alone)
                self._tell()
        except BaseException:
            # Interrupted, or the disk is full: what was found meanwhile is still worth keeping.
            for future in under_way:
                future.cancel()
            finished = {f: jobs for f, jobs in under_way.items() if f.done() and not f.cancelled()}
            self._keep(
                [o for f in finished if f.exception() is None for o in f.result()], quietly=True
            )
            raise

    def _submit(self, executor: Executor, chunk: Sequence[Job]) -> Future[list[Outcome]]:
        if isinstance(executor, Workers):
            return executor.submit_within(self.limit, jobs.solve_jobs, self.task, chunk)
        return executor.submit(jobs.solve_jobs, replace(self.task, limit=self.limit), chunk)

    def _size(self, waiting: int, workers: int) -> int:
        """Points of the next chunk: about a second's work, and a share for every worker."""
        share = max(waiting // (AHEAD * workers), 1)
        if self._pace == 0.0:
            return min(TOGETHER if self.limit is None else 1, share)
        seconds = CHUNK if self.limit is None else min(CHUNK, self.limit / 4)
        least = int(SMALLEST * seconds / self._pace)
        return max(1, min(int(seconds / self._pace), max(share, least), LARGEST))

    def _collect(
        self, ready: Mapping[Future[list[Outcome]], tuple[Job, ...]], alone: deque[Job]
    ) -> None:
        """Keep the outcomes of finished chunks; take apart the chunks that did not finish."""
        found: list[Outcome] = []
        for future, chunk in ready.items():
            error = future.exception()
            if error is None:
                outcomes = future.result()
                found += outcomes
                seconds = sum(o.seconds or 0.0 for o in outcomes) / len(outcomes)
                self._pace = seconds if self._pace == 0.0 else (self._pace + seconds) / 2
            elif isinstance(error, TimeLimitError | WorkerLostError):
                if len(chunk) > 1:
                    alone.extend(chunk)
                    continue
                found += self._blamed(chunk[0], error, alone)
            elif isinstance(error, BrokenExecutor):
                raise InputError(
                    Problem(
                        message=f"the executor broke down: {error}",
                        expected="the same command again: it goes on where this one stopped",
                    )
                ) from None
            else:
                raise error
        self._keep(found)

    def _blamed(self, job: Job, error: BaseException, alone: deque[Job]) -> Iterable[Outcome]:
        """A point that ran out of time alone, or whose worker died again and again."""
        if isinstance(error, TimeLimitError):
            return [jobs.failed(job, TIMED_OUT, str(error))]
        self._attempts[job.id] = self._attempts.get(job.id, 0) + 1
        if self._attempts[job.id] < ATTEMPTS:
            alone.append(job)
            return []
        return [jobs.failed(job, DIED, f"{error}, {ATTEMPTS} times")]

    def _keep(self, outcomes: Sequence[Outcome], *, quietly: bool = False) -> None:
        if not outcomes:
            return
        try:
            self.store.add(outcomes)
        except InputError:
            if not quietly:
                raise
            return
        for one in outcomes:
            self._computed[one.id] = one.status
        self.done += len(outcomes)
        self.failed += sum(one.status != SOLVED for one in outcomes)

    def _tell(self) -> None:
        if self.report is not None:
            self.report(
                Progress(
                    done=self.done,
                    total=self.total,
                    stored=self.stored,
                    failed=self.failed,
                    seconds=self.seconds,
                )
            )


def _count(workers: int | None, points: int, pace: float | None) -> int:
    """Processes to start: no more than there are points, by default no more than pay off."""
    paying = points if pace is None else int(points * pace / WORTH_STARTING) + 1
    return max(min(workers or min(processors(), paying), points), 1)
