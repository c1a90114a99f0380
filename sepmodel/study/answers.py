"""What a sweep keeps of a result: numbers by dotted path, each in a unit that does not change."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sepmodel import result as results
from sepmodel.errors import InputError, Problem
from sepmodel.plant.compare import METRICS, Comparison
from sepmodel.plant.compare import rows as comparison_rows
from sepmodel.result import Outlet, Profile, Result
from sepmodel.sweep_tables import Output

# What is kept of a stream when no output is named.
_OF_STREAMS = ("flow", "pH", "purity", "recovery")


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A number to keep: its name, where it stands, its unit, and the limits it has to keep."""

    name: str
    path: str
    unit: str
    at_least: float | None = None
    at_most: float | None = None

    @property
    def specified(self) -> bool:
        """Whether it has to meet a limit."""
        return self.at_least is not None or self.at_most is not None

    @property
    def limits(self) -> str:
        """Its limits as text.

        >>> Answer(name="x", path="x", unit="1", at_least=0.995).limits
        'at least 0.995'
        """
        said = [] if self.at_least is None else [f"at least {self.at_least:g}"]
        said += [] if self.at_most is None else [f"at most {self.at_most:g}"]
        return " and ".join(said)


def document(found: Result | Comparison, *, profiles: bool = False) -> dict[str, Any]:
    """A result as nested tables of numbers; a comparison as route -> figure or product -> figure.

    Profiles are left out unless asked for: they are most of a result's size.
    """
    if isinstance(found, Result):
        return (found if profiles else replace(found, profiles={})).to_dict()
    tables: dict[str, Any] = {}
    for row in comparison_rows(found):
        route = tables.setdefault(row["route"], {})
        if row["product"] == "slate":
            route["meets"] = float(row["meets_spec"])
            route.update(row["metrics"])
        else:
            figures = {name: row["metrics"][name] for name in row["metrics"]}
            route[row["product"]] = {
                "meets": float(row["meets_spec"]),
                "purity": row["purity"],
                "recovery": row["recovery"],
                **figures,
            }
    return tables


def closure(found: Result | Comparison) -> float | None:
    """The largest relative error of a balance; None where a result states none."""
    if isinstance(found, Result):
        worst = found.balance.get("max")
        return None if worst is None else float(worst)
    closures = [
        float(value)
        for route in found.routes
        if route.sheet is not None
        for value in route.sheet.closure.values()
    ]
    return max(closures) if closures else None


def numbers(found: Result | Comparison, wanted: Sequence[Answer]) -> dict[str, float | None]:
    """The wanted numbers of a result by name, without writing the whole result out."""
    tables = found if isinstance(found, Result) else document(found)
    return {answer.name: number(tables, answer.path) for answer in wanted}


def number(tables: Any, path: str) -> float | None:
    """The number at a path of a result or of its tables; None where there is no number."""
    value = tables
    for part in path.split("."):
        if isinstance(value, Profile):
            value = value.to_dict()
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, Result | Outlet):
            value = getattr(value, part, None)
        elif isinstance(value, Sequence) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        else:
            return None
    if isinstance(value, Mapping):
        value = value.get("value")
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def chosen(tables: Mapping[str, Any], outputs: tuple[Output, ...], file: str) -> list[Answer]:
    """The answers a sweep names, checked against the base result; without names, all of a kind.

    Raises
    ------
    InputError
        for every path at which the result has no number.
    """
    if not outputs:
        return [Answer(name=path, path=path, unit=unit) for path, unit in _all(tables)]
    found, problems = [], []
    for output in outputs:
        try:
            value = results.at(tables, output.path)
        except InputError as error:
            problem = error.problems[0]
            where = f"sweep.output.{output.label}.path"
            problems.append(replace(problem, file=file, key=where, value=output.path))
            continue
        table = isinstance(value, Mapping) and "value" not in value
        if table or isinstance(value, str | list):
            problems.append(
                Problem(
                    message="no number stands there",
                    file=file,
                    key=f"sweep.output.{output.label}.path",
                    value=output.path,
                    expected=", ".join(f"{output.path}.{k}" for k in list(value)[:8])
                    if isinstance(value, Mapping)
                    else "the path of a number",
                )
            )
            continue
        found.append(
            Answer(
                name=output.label,
                path=output.path,
                unit=str(value["unit"]) if isinstance(value, Mapping) else "1",
                at_least=output.at_least,
                at_most=output.at_most,
            )
        )
    if problems:
        raise InputError(problems)
    return found


def _all(tables: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Paths and units of the numbers kept when none is named."""
    if "streams" not in tables:  # a comparison
        for route, figures in tables.items():
            yield from _leaves({k: v for k, v in figures.items() if k in METRICS}, route)
            products = {k: v for k, v in figures.items() if k not in METRICS}
            yield from _leaves(products, route)
        return
    for name, stream in tables["streams"].items():
        yield from _leaves({k: stream[k] for k in _OF_STREAMS if k in stream}, f"streams.{name}")
    yield from _leaves(tables["quantities"], "quantities")


def _leaves(table: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        here = f"{path}.{key}"
        if isinstance(value, Mapping) and {"value", "unit"} <= set(value):
            yield here, str(value["unit"])
        elif isinstance(value, Mapping):
            yield from _leaves(value, here)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield here, "1"
