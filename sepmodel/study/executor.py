"""Processes that work for one driver, and outlive each other.

``Workers`` has the interface of ``concurrent.futures.Executor``. Each of its processes is a plain
``python`` that reads calls from a pipe (never from a disk), so a script that uses it needs no
``__main__`` guard. A process that dies fails the one call it was working on and is replaced; a call
that takes longer than its limit is killed with its process. Whoever drives the workers decides what
to repeat. Processes end by themselves when their driver does, however it ends.
"""

from __future__ import annotations

import json
import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import IO, Any

from sepmodel.errors import SepmodelError

# Matrices here are small: threads of the linear algebra library only get in each other's way.
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
# A fresh process imports before it computes: seconds its first call may take beyond the limit.
START = 16.0
_HEAD = struct.Struct("<Q")
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from sepmodel.study.executor import serve; serve()"
)


class WorkerLostError(SepmodelError):
    """The process that worked on this call died."""


class TimeLimitError(SepmodelError):
    """This call took longer than it may; its process was stopped."""


class Workers(Executor):
    """``count`` processes; ``submit`` as in ``concurrent.futures``, ``submit_within`` with a limit.

    Functions have to be importable, arguments and results have to survive a pipe.

    >>> with Workers(1) as workers:
    ...     workers.submit(divmod, 7, 2).result()
    (3, 1)
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._tasks: queue.Queue[tuple[Future[Any], float | None, bytes] | None] = queue.Queue()
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        self._lock = threading.Lock()
        self._closed = self._stopped = False
        self._threads = [
            threading.Thread(target=self._drive, args=(place,), daemon=True)
            for place in range(count)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pids(self) -> list[int]:
        """Ids of the processes that live now."""
        with self._lock:
            return [p.pid for p in self._processes.values() if p.poll() is None]

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """The future result of ``fn(*args, **kwargs)`` in one of the processes."""
        return self.submit_within(None, fn, *args, **kwargs)

    def submit_within(
        self, seconds: float | None, fn: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> Future[Any]:
        """The same; TimeLimitError is its exception when it takes longer than ``seconds``."""
        if self._closed:
            raise RuntimeError("the workers have been shut down")
        future: Future[Any] = Future()
        self._tasks.put((future, seconds, pickle.dumps((fn, args, kwargs))))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """No more calls; by default wait for those under way."""
        self._closed = True
        if cancel_futures:
            self._cancel()
        for _ in self._threads:
            self._tasks.put(None)
        if wait:
            for thread in self._threads:
                thread.join()

    def stop(self) -> None:
        """End at once: cancel what waits, kill what runs."""
        self._closed = self._stopped = True
        self._cancel()
        with self._lock:
            for process in self._processes.values():
                process.kill()
        self.shutdown()

    def _cancel(self) -> None:
        while True:
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                return
            if task is not None:
                task[0].cancel()

    def _drive(self, place: int) -> None:
        """Hand tasks to one process, one at a time, and replace it when it is gone."""
        process: subprocess.Popen[bytes] | None = None
        while (task := self._tasks.get()) is not None:
            future, seconds, payload = task
            if not future.set_running_or_notify_cancel():
                continue
            fresh = process is None or process.poll() is not None
            try:
                if fresh:
                    process = self._start(place)
                assert process is not None
                limit = None if seconds is None else seconds + (START if fresh else 0.0)
                answer, ran_out = _call(process, payload, limit)
            except OSError as error:  # no process could be started
                future.set_exception(WorkerLostError("stopped") if self._stopped else error)
                continue
            if answer is None:
                _bury(process)
                future.set_exception(
                    TimeLimitError(f"stopped after {seconds:g} s")
                    if ran_out
                    else WorkerLostError(f"the process died (exit code {process.returncode})")
                )
                continue
            good, value = pickle.loads(answer)
            if good:
                future.set_result(value)
            else:
                future.set_exception(value)
        if process is not None:
            if process.stdin is not None and process.poll() is None:
                _close(process.stdin)  # which ends it
            _bury(process, kill=False)

    def _start(self, place: int) -> subprocess.Popen[bytes]:
        environment = {**dict.fromkeys(THREADS, "1"), **os.environ}
        with self._lock:
            if self._stopped:
                raise OSError("stopped")
            process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, json.dumps(sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )
            self._processes[place] = process
        return process


def _call(
    process: subprocess.Popen[bytes], payload: bytes, limit: float | None
) -> tuple[bytes | None, bool]:
    """The answer to a call, None when the process is gone; and whether time ran out."""
    assert process.stdin is not None
    assert process.stdout is not None
    ran_out = threading.Event()

    def kill() -> None:
        ran_out.set()
        process.kill()

    timer = threading.Timer(limit, kill) if limit is not None else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        process.stdin.write(_HEAD.pack(len(payload)) + payload)
        process.stdin.flush()
        answer = _message(process.stdout)
    except OSError:  # the pipe is broken: nobody reads
        answer = None
    finally:
        if timer is not None:
            timer.cancel()
    return answer, answer is None and ran_out.is_set()


def _message(stream: IO[bytes]) -> bytes | None:
    """One message of a pipe; None when the other side has gone."""
    head = stream.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    (size,) = _HEAD.unpack(head)
    body = stream.read(size)
    return body if len(body) == size else None


def _bury(process: subprocess.Popen[bytes], *, kill: bool = True) -> None:
    """Wait for a process that has ended or is about to, and close its pipes."""
    if kill:
        process.kill()
    process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            _close(stream)


def _close(stream: IO[bytes]) -> None:
    try:
        stream.close()
    except OSError:  # something was left in its buffer, and nobody reads
        return


def serve() -> None:
    """The life of a worker: read a call, compute, answer; end when the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what an interrupt means
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    source = sys.stdin.buffer
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints must not print into the answers

    def listen() -> None:
        while (message := _message(source)) is not None:
            calls.put(message)
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    while True:
        answer = _answer(calls.get())
        answers.write(_HEAD.pack(len(answer)) + answer)
        answers.flush()


def _answer(call: bytes) -> bytes:
    """Result or exception of a call, as the executor interface asks for: whatever it is."""
    try:
        fn, args, kwargs = pickle.loads(call)
        return pickle.dumps((True, fn(*args, **kwargs)))
    except Exception as error:
        try:
            return pickle.dumps((False, error))
        except Exception:
            return pickle.dumps((False, SepmodelError(f"{type(error).__name__}: {error}")))
