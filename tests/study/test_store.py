"""The store, the cache and the workers: nothing lost, nothing repeated, nothing damaged."""

import doctest
import os
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest

from sepmodel.errors import InputError
from sepmodel.study import cache, executor
from sepmodel.study.executor import TimeLimitError, WorkerLostError, Workers
from sepmodel.study.store import SOLVED, UNSOLVED, Outcome, Store


@pytest.mark.parametrize("module", [cache, executor], ids=lambda m: m.__name__)
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


def outcome(name, status=SOLVED, **more):
    return Outcome(id=name, status=status, inputs={"a": 0.1}, answers={"x": 1 / 3}, **more)


def test_what_was_kept_is_there_again(tmp_path):
    path = tmp_path / "deep" / "s.sqlite"
    with Store(path) as store:
        store.add([outcome("a", closure=1e-15, seconds=0.25), outcome("b", UNSOLVED, reason="why")])
    with Store(path) as store:
        assert store.statuses() == {"a": SOLVED, "b": UNSOLVED}
        found = store.outcomes(["a", "b", "c"])
    assert found["a"].answers == {"x": 1 / 3}
    assert (found["a"].closure, found["a"].seconds) == (1e-15, 0.25)
    assert found["b"].reason == "why"
    assert "c" not in found
    assert [p.name for p in path.parent.iterdir()] == ["s.sqlite"]


def test_a_later_attempt_stands_before_an_earlier_one_and_both_stay(tmp_path):
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store.add([outcome("a", UNSOLVED)])
        store.add([outcome("a", SOLVED)])
        assert store.statuses() == {"a": SOLVED}
        assert len(store) == 1
    base = sqlite3.connect(path)
    assert base.execute("SELECT attempt, status FROM outcomes ORDER BY 1").fetchall() == [
        (1, UNSOLVED),
        (2, SOLVED),
    ]
    for change in ("UPDATE outcomes SET status = 'x'", "DELETE FROM outcomes"):
        with pytest.raises(sqlite3.IntegrityError, match="only added to"):
            base.execute(change)
    base.close()


def test_outcomes_are_kept_together_or_not_at_all(tmp_path):
    with Store(tmp_path / "s.sqlite") as store:
        with pytest.raises(ValueError, match="JSON"):
            store.add([outcome("a"), outcome("b", closure=1.0, seconds=1.0), bad()])
        assert store.statuses() == {}


def bad():
    return Outcome(id="c", status=SOLVED, answers={"x": float("nan")})


def test_two_drivers_cannot_share_a_store(tmp_path):
    with Store(tmp_path / "s.sqlite"), pytest.raises(InputError, match="another sweep"):
        Store(tmp_path / "s.sqlite")


def test_a_foreign_file_is_left_alone(tmp_path):
    path = tmp_path / "s.sqlite"
    path.write_text("my notes, of more than a hundred bytes, so that they could be a header" * 3)
    before = path.read_bytes()
    with pytest.raises(InputError, match="in the way"):
        Store(path)
    other = tmp_path / "other.sqlite"
    base = sqlite3.connect(other)
    base.execute("CREATE TABLE mine (x)")
    base.commit()
    base.close()
    with pytest.raises(InputError, match="in the way"):
        Store(other)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.sqlite", "s.sqlite"]


def test_a_damaged_store_is_one_error(tmp_path):
    path = tmp_path / "s.sqlite"
    with Store(path) as store:
        store.add([outcome(str(i), reason="x" * 500) for i in range(100)])
    whole = path.read_bytes()
    place = whole.index(b'{"a":0.1}')
    for damaged in (
        whole[:place] + b"}" + whole[place + 1 :],
        whole[:place] + b"\xff" + whole[place + 1 :],
        whole[: len(whole) // 2],
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="is damaged") as caught, Store(path) as store:
            store.outcomes(store.statuses())
        assert len(caught.value.problems) == 1


DYING = """
import os, signal, sys
from pathlib import Path
from sepmodel.study.store import SOLVED, Outcome, Store
store = Store(Path(sys.argv[1]))
def outcomes():
    for i in range(4000):
        yield Outcome(id=str(i), status=SOLVED, reason="x" * 1000)
    os.kill(os.getpid(), signal.SIGKILL)
store.add([Outcome(id="whole", status=SOLVED)])
store.add(outcomes())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9 is POSIX")
def test_half_a_transaction_is_none(tmp_path):
    """The driver dies when much of it is in the file already."""
    path = tmp_path / "s.sqlite"
    done = subprocess.run([sys.executable, "-c", DYING, str(path)], timeout=60)
    assert done.returncode == -9
    assert path.stat().st_size > 1_000_000
    assert (tmp_path / "s.sqlite-journal").stat().st_size > 0
    with Store(path) as store:
        assert store.statuses() == {"whole": SOLVED}
        store.add([outcome("more")])
    assert [p.name for p in tmp_path.iterdir()] == ["s.sqlite"]


FULL = """
import resource, signal, sys
from pathlib import Path
from sepmodel.errors import InputError
from sepmodel.study.store import SOLVED, Outcome, Store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = Store(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
kept = 0
try:
    for i in range(1000):
        store.add([Outcome(id=str(i), status=SOLVED, reason="x" * 1000)])
        kept += 1
except InputError as error:
    assert len(error.problems) == 1, error
    print(kept, error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of the file size are POSIX")
def test_a_full_disk_is_one_error_and_no_damage(tmp_path):
    """A limit on the file's size stands for the disk: writes fail in the middle."""
    path = tmp_path / "s.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, timeout=60
    )
    kept, _, said = done.stdout.partition(" ")
    assert "cannot be written" in said, done.stderr
    with Store(path) as store:
        assert len(store) == int(kept) > 10
        store.add([outcome("more")])  # there is room again
        assert len(store) == int(kept) + 1
    assert [p.name for p in tmp_path.iterdir()] == ["s.sqlite"]


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        Store(tmp_path / "file" / "s.sqlite")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


# --- the cache -------------------------------------------------------------------------------


def test_an_entry_comes_back_and_a_damaged_one_counts_as_missing(tmp_path):
    store, key = cache.Cache(tmp_path), cache.key({"x": 1})
    assert store.get(key) is None
    store.put(key, {"a": 1.5}, {"m": np.eye(2)})
    document, arrays = store.get(key)
    assert document == {"a": 1.5}
    assert np.array_equal(arrays["m"], np.eye(2))
    npz = next(tmp_path.rglob("*.npz"))
    npz.write_bytes(npz.read_bytes()[:-10])
    assert store.get(key) is None
    next(tmp_path.rglob("*.json")).write_text("[")
    assert store.get(key) is None


def test_a_pickle_is_never_read(tmp_path):
    """An npz that holds objects is refused, whatever its hash."""
    import hashlib
    import io
    import json

    store, key = cache.Cache(tmp_path), "0" * 64
    store.put(key, {}, {"m": np.eye(2)})
    stream = io.BytesIO()
    np.savez(stream, m=np.array([{"evil": 1}], dtype=object))
    next(tmp_path.rglob("*.npz")).write_bytes(stream.getvalue())
    entry = {"document": {}, "arrays": hashlib.sha256(stream.getvalue()).hexdigest()}
    next(tmp_path.rglob("*.json")).write_text(json.dumps(entry))
    assert store.get(key) is None


def test_no_cache_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("SEPMODEL_CACHE", "")
    assert cache.folder() is None
    nowhere = cache.Cache(cache.folder())
    nowhere.put("0" * 64, {"a": 1})
    assert nowhere.get("0" * 64) is None
    (tmp_path / "file").write_text("")
    blocked = cache.Cache(tmp_path / "file")
    blocked.put("0" * 64, {"a": 1})
    assert blocked.get("0" * 64) is None


def test_keys_follow_the_data(tmp_path, monkeypatch):
    before = cache.key({"x": 1})
    own = tmp_path / "models" / "data"
    own.mkdir(parents=True)
    (own / "mine.toml").write_text("schema = 1")
    monkeypatch.chdir(tmp_path)
    assert cache.key({"x": 1}) != before


# --- the workers -----------------------------------------------------------------------------


def test_workers_survive_one_another(monkeypatch):
    monkeypatch.setattr(executor, "START", 0.0)
    workers = Workers(2)
    try:
        assert sorted(f.result() for f in [workers.submit(abs, -i) for i in range(5)]) == [
            0, 1, 2, 3, 4,
        ]  # fmt: skip
        assert isinstance(workers.submit(divmod, 1, 0).exception(), ZeroDivisionError)
        assert isinstance(workers.submit(os._exit, 3).exception(), WorkerLostError)
        slow = workers.submit(time.sleep, 60)
        while not slow.running():
            time.sleep(0.01)
        time.sleep(0.1)
        for pid in workers.pids:
            os.kill(pid, 9)
        assert isinstance(slow.exception(), WorkerLostError)
        assert workers.submit(divmod, 7, 2).result() == (3, 1)
        assert isinstance(workers.submit_within(0.2, time.sleep, 60).exception(), TimeLimitError)
        assert workers.submit(os.getenv, "OPENBLAS_NUM_THREADS").result() == "1"
    finally:
        workers.stop()
    assert workers.pids == []


DRIVER = """
import sys, time
from sepmodel.study.executor import Workers
workers = Workers(1)
workers.submit(abs, 1).result()
print(*workers.pids, flush=True)
workers.submit(time.sleep, 60)
time.sleep(60)
"""


def test_workers_end_with_their_driver():
    driver = subprocess.Popen([sys.executable, "-c", DRIVER], stdout=subprocess.PIPE, text=True)
    (pid,) = map(int, driver.stdout.readline().split())
    time.sleep(0.2)
    driver.kill()
    driver.wait()
    driver.stdout.close()
    for _ in range(100):
        if not alive(pid):
            return
        time.sleep(0.1)
    raise AssertionError("the worker outlived its driver")


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = f"/proc/{pid}/status"  # a child nobody has waited for yet is dead all the same
    return not (os.path.exists(status) and "State:\tZ" in open(status).read())
