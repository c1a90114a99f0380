"""Work shared between this process and others."""

from __future__ import annotations

import math
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sepmodel.errors import SepmodelError

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

Asked = TypeVar("Asked")
Found = TypeVar("Found")
# Where a container's share of the processors stands: quota and period, or "max" for all.
_QUOTAS = ("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")


def processors(quotas: Path = Path("/sys/fs/cgroup")) -> int:
    """How many processors this process may use: of the machine, and of its container's share."""
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity else os.cpu_count() or 1
    for names in _QUOTAS:
        try:
            words = " ".join((quotas / name).read_text(encoding="ascii") for name in names).split()
            quota, period = (float(word) for word in words)
        except (OSError, ValueError):
            continue
        if quota > 0 and period > 0:
            count = min(count, math.ceil(quota / period))
    return count


def shared_out(
    work: Callable[[Asked], Found], asked: Sequence[Asked], workers: int, *, quick: bool = False
) -> list[Found]:
    """``[work(one) for one in asked]``, by this process and ``workers`` - 1 others.

    This process begins with the first and takes whatever no other has begun, so that it knows
    afterwards most of what was learnt: files that were read, modules that were imported. ``work``
    and what it is asked and finds have to survive a pipe. ``quick`` work is shared only where a
    process is a copy of this one: it would be done before another had started.
    """
    if quick and multiprocessing.get_start_method() != "fork":
        workers = 1
    if workers < 2 or len(asked) < 2:
        return [work(one) for one in asked]
    with helpers(min(workers, len(asked)) - 1) as pool:
        # Packed now: the executor would do so later, while this process works on the same objects.
        others = [pool.submit(_unpacked, pickle.dumps((work, one))) for one in asked[1:]]
        found = [work(asked[0])]
        for one, other in zip(asked[1:], others, strict=True):
            found.append(work(one) if other.cancel() else other.result())
    return found


def _unpacked(packed: bytes) -> Any:
    work, one = pickle.loads(packed)
    return work(one)


@contextmanager
def helpers(
    count: int, begin: Callable[..., None] | None = None, *arguments: Any
) -> Iterator[ProcessPoolExecutor]:
    """Processes that work for this one, each after ``begin(*arguments)``.

    An interrupt from the keyboard ends them at once, whatever they are at, and so does the end of
    this process, however it ends.

    Raises
    ------
    SepmodelError
        when one of them dies.
    """
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    try:
        with ProcessPoolExecutor(
            count, initializer=_begin, initargs=(begin, arguments)
        ) as executor:
            yield executor
    except BrokenProcessPool:
        raise SepmodelError(
            "a process that worked for this one died; was there memory enough?"
        ) from None


def _begin(begin: Callable[..., None] | None, arguments: Sequence[Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if begin is not None:
        begin(*arguments)


def _end_with_parent() -> None:
    """Wait for the end of the process that is worked for; a queue alone would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
