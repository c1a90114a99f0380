"""The errors a caller can meet. Each says what is wrong, where, and what would be right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """One thing wrong with an input: where it stands, the value, and what was expected."""

    message: str
    file: str = ""
    key: str = ""
    value: Any = None
    expected: str = ""

    def __str__(self) -> str:
        where = ": ".join(_cut(part) for part in (str(self.file), self.key) if part)
        value = "" if self.value is None else f" (got {_short(self.value)})"
        expected = f"; expected {self.expected}" if self.expected else ""
        return f"{where + ': ' if where else ''}{self.message}{value}{expected}"

    def to_dict(self) -> dict[str, Any]:
        """The problem as the JSON object of the command line's error output."""
        return {
            "file": self.file,
            "key": self.key,
            "value": None if self.value is None else _short(self.value),
            "expected": self.expected,
            "message": self.message,
        }


def _cut(text: str, limit: int = 1000) -> str:
    return text if len(text) <= limit else text[:limit] + "..."


def _short(value: Any, limit: int = 60) -> str:
    text = value[: limit + 1] if isinstance(value, str) else value
    try:
        text = repr(text)
    except ValueError:  # a whole number of thousands of digits
        text = "a number of thousands of digits"
    return text if len(text) <= limit else text[: limit - 3] + "..."


class SepmodelError(Exception):
    """Root of every error sepmodel raises on purpose; all of them travel between processes."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[SepmodelError], args: tuple[Any, ...], state: dict[str, Any]) -> Any:
    """An error as it was in the process it comes from."""
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class InputError(SepmodelError):
    """The input cannot be used; ``problems`` lists everything found wrong with it at once."""

    def __init__(self, problems: Problem | Iterable[Problem]) -> None:
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))

    def inside(self, where: str) -> InputError:
        """The same problems, their keys after the part of the plant they were found in."""
        return InputError(
            replace(p, key=f"{where}, {p.key}" if p.key else where) for p in self.problems
        )


class InfeasibleError(SepmodelError):
    """No design meets the specification: ``limit`` is the bound, ``nearest`` what is possible."""

    def __init__(
        self, message: str, *, limit: Mapping[str, Any], nearest: Mapping[str, Any] | None = None
    ) -> None:
        self.limit = dict(limit)
        self.nearest = dict(nearest or {})
        super().__init__(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """What a solver did before it gave up: residual history, the worst equation, and advice."""

    history: tuple[float, ...] = ()
    equation: str = ""
    stage: int | None = None
    component: str = ""
    advice: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)


class ConvergenceError(SepmodelError):
    """The equations were not solved; ``trace`` holds the worst equation and the history.

    ``message`` alone; ``file`` and ``key`` where a case is known that asked for them.
    """

    def __init__(self, message: str, *, trace: Trace, file: str = "", key: str = "") -> None:
        self.message, self.trace, self.file, self.key = message, trace, file, key
        super().__init__(str(Problem(message=message, file=file, key=key)))

    def placed(self, *, file: str = "", key: str = "") -> ConvergenceError:
        """The same of a case's file and key, where they are not known yet."""
        return ConvergenceError(
            self.message, trace=self.trace, file=self.file or file, key=self.key or key
        )
