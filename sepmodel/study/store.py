"""What a study has found so far, in one SQLite file that survives its driver.

Only the driver writes, and only ever adds: triggers refuse changes. Every point of a study is a row
named by the content of its job; a row is there whole or not at all, however the driver ended. The
rollback journal is used and not the write-ahead log: one file, no shared memory, safe on network
file systems. A driver holds the file's lock while it lives, so two cannot mix their rows.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sepmodel.errors import InputError, Problem

SCHEMA = 1
SOLVED, INFEASIBLE, UNSOLVED, REFUSED = "solved", "infeasible", "unsolved", "bad input"
TIMED_OUT, DIED, DEFECT = "timed out", "died", "defect"
# What a second attempt could change.
WORTH_RETRYING = (UNSOLVED, TIMED_OUT, DIED, DEFECT)
# Marks the file as ours, for us and for the program `file`: "SEPM".
_APPLICATION = int.from_bytes(b"SEPM", "big")
_TABLES = """
CREATE TABLE IF NOT EXISTS sweeps (
    plan TEXT PRIMARY KEY, document TEXT NOT NULL, units TEXT NOT NULL, version TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS outcomes (
    id TEXT NOT NULL, attempt INTEGER NOT NULL, status TEXT NOT NULL, reason TEXT NOT NULL,
    inputs TEXT NOT NULL, answers TEXT NOT NULL, closure REAL, seconds REAL,
    PRIMARY KEY (id, attempt)) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS outcomes_stay BEFORE UPDATE ON outcomes
    BEGIN SELECT RAISE(ABORT, 'outcomes are only added to'); END;
CREATE TRIGGER IF NOT EXISTS outcomes_are_kept BEFORE DELETE ON outcomes
    BEGIN SELECT RAISE(ABORT, 'outcomes are only added to'); END;
CREATE TRIGGER IF NOT EXISTS sweeps_stay BEFORE UPDATE ON sweeps
    BEGIN SELECT RAISE(ABORT, 'sweeps are only added to'); END;
CREATE TRIGGER IF NOT EXISTS sweeps_are_kept BEFORE DELETE ON sweeps
    BEGIN SELECT RAISE(ABORT, 'sweeps are only added to'); END;
"""


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Outcome:
    """What became of one job: its status, why, the answers by name, and how its balances close.

    ``inputs`` are the settings and constants it was solved with; ``answers`` are in the units of
    the sweep, None where the result holds no number.
    """

    id: str
    status: str
    reason: str = ""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    answers: Mapping[str, float | None] = field(default_factory=dict)
    closure: float | None = None
    seconds: float | None = None


class Store:
    """The outcomes of a folder's studies; ``path`` None keeps them in memory.

    Raises
    ------
    InputError
        when the file cannot be written, is not a store, or belongs to a driver at work.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        made_folder = made_file = False
        try:
            if path is not None:
                made_folder = not path.parent.exists()
                path.parent.mkdir(parents=True, exist_ok=True)
                made_file = not path.exists()
            self._base = sqlite3.connect(
                ":memory:" if path is None else path,
                isolation_level=None,
                timeout=0.5,
                check_same_thread=False,
            )
            self._open()
        except (sqlite3.Error, OSError, InputError) as error:
            base = getattr(self, "_base", None)
            if base is not None:
                base.close()
            if path is not None:
                _tidy(path, made_file, made_folder)
            raise error if isinstance(error, InputError) else self._refused(error) from None

    def _open(self) -> None:
        run = self._base.execute
        run("PRAGMA locking_mode = EXCLUSIVE")
        run("PRAGMA journal_mode = DELETE")
        run("PRAGMA synchronous = FULL")
        run("BEGIN EXCLUSIVE")  # which also rolls back what a killed driver left half done
        mark = run("PRAGMA application_id").fetchone()[0]
        empty = run("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if mark != _APPLICATION and not (empty and mark == 0):
            run("ROLLBACK")
            raise sqlite3.DatabaseError("file is not a database")
        version = run("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA:
            run("ROLLBACK")
            raise InputError(
                Problem(
                    message="was written by a later sepmodel",
                    file=str(self.path),
                    value=version,
                    expected=f"a store of version {SCHEMA}",
                )
            )
        run(f"PRAGMA application_id = {_APPLICATION}")
        run(f"PRAGMA user_version = {SCHEMA}")
        for statement in _statements(_TABLES):
            run(statement)
        run("COMMIT")

    def _refused(self, error: Exception) -> InputError:
        """What SQLite or the system says, as one problem with what to do."""
        text = str(getattr(error, "strerror", None) or error)
        message, expected = f"cannot be written: {text}", "a folder that can be written"
        if isinstance(error, ValueError) or "malformed" in text or "Could not decode" in text:
            message, expected = (
                f"is damaged: {text}",
                "a copy of it, or another --out to begin anew",
            )
        elif "locked" in text:
            message, expected = "another sweep is at work here", "wait for it, or another --out"
        elif "not a database" in text:
            message = "is in the way: not a store that sepmodel wrote"
            expected = "another folder (--out)"
        elif "full" in text:
            expected = "room on the disk; the same command goes on where this one stopped"
        return InputError(
            Problem(message=message, file=str(self.path or "memory"), expected=expected)
        )

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: all of it or nothing."""
        try:
            self._base.execute("BEGIN IMMEDIATE")
            yield self._base
            self._base.execute("COMMIT")
        except sqlite3.Error as error:
            if self._base.in_transaction:
                self._base.execute("ROLLBACK")
            raise self._refused(error) from None
        except BaseException:
            if self._base.in_transaction:
                self._base.execute("ROLLBACK")
            raise

    def add(self, outcomes: Iterable[Outcome]) -> None:
        """Keep outcomes, all of them or none; a later attempt stands before an earlier one."""
        with self._writing() as base:
            for one in outcomes:
                base.execute(
                    "INSERT INTO outcomes SELECT ?, 1 + coalesce(max(attempt), 0), ?, ?, ?, ?, ?, ?"
                    " FROM outcomes WHERE id = ?",
                    (
                        one.id,
                        one.status,
                        one.reason,
                        _text(one.inputs),
                        _text(one.answers),
                        one.closure,
                        one.seconds,
                        one.id,
                    ),
                )

    def describe(self, plan: str, document: Mapping[str, Any], units: Mapping[str, str]) -> None:
        """Keep what a sweep was asked for, by the hash of its plan."""
        from sepmodel import __version__

        with self._writing() as base:
            base.execute(
                "INSERT OR IGNORE INTO sweeps VALUES (?, ?, ?, ?)",
                (plan, _text(document), _text(units), __version__),
            )

    def statuses(self) -> dict[str, str]:
        """The latest status of every job by id."""
        try:
            rows = self._base.execute("SELECT id, status FROM outcomes ORDER BY id, attempt")
            return dict(rows.fetchall())
        except sqlite3.Error as error:
            raise self._refused(error) from None

    def outcomes(self, ids: Iterable[str]) -> dict[str, Outcome]:
        """The latest outcome of each job that has one."""
        wanted = set(ids)
        try:
            rows = self._base.execute("SELECT * FROM outcomes ORDER BY id, attempt").fetchall()
            return {row[0]: _outcome(row) for row in rows if row[0] in wanted}
        except (sqlite3.Error, ValueError) as error:
            raise self._refused(error) from None

    def __len__(self) -> int:
        count: int = self._base.execute("SELECT count(DISTINCT id) FROM outcomes").fetchone()[0]
        return count

    def close(self) -> None:
        """Let go of the file."""
        self._base.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _outcome(row: tuple[Any, ...]) -> Outcome:
    return Outcome(
        id=row[0],
        status=row[2],
        reason=row[3],
        inputs=json.loads(row[4]),
        answers=json.loads(row[5]),
        closure=row[6],
        seconds=row[7],
    )


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def _statements(script: str) -> Iterator[str]:
    """The statements of a script, triggers whole."""
    statement = ""
    for line in script.strip().splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _tidy(path: Path, made_file: bool, made_folder: bool) -> None:
    """Remove what an attempt to open left behind: nothing that was there before."""
    if made_file:
        for leftover in (path, path.with_name(f"{path.name}-journal")):
            leftover.unlink(missing_ok=True)
    if made_folder and path.parent.is_dir() and not any(path.parent.iterdir()):
        path.parent.rmdir()
