"""Published data against the models: one folder per publication, one verdict per quantity.

The format of a folder is described in docs/how-to/validation.md. Agreement with the literature
(hit or miss, against a limit with a reason) and agreement with our own accepted results (same or
changed) are told apart.
"""

from __future__ import annotations

import csv
import importlib
import inspect
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from sepmodel import __version__, case, data, fields, files, units
from sepmodel.errors import InputError, Problem, SepmodelError
from sepmodel.result import at
from sepmodel.run import run

REGRESSION = 1e-9
RELATIONS = ("=", ">=", "<=")
_COLUMNS = ("label", "value", "unit", "relation", "check", "path", "item", "note")


class Check(fields.Table):
    """One row of the verdict table."""

    quantity: fields.Text
    role: Literal["fit", "prediction", "code", "closed form"]
    limit: fields.NonNegative
    reason: fields.Text
    computed: fields.Text
    measured: fields.Text = "measured.csv"
    case: fields.Text | None = None
    entry: Annotated[fields.Text, Field(pattern=r"^sepmodel(\.\w+)+:\w+$")] | None = None
    statistic: Literal["worst", "rms", "bias"] = "worst"
    scale: Literal["absolute", "relative", "log10", "logit"] = "absolute"
    regression: fields.Positive = REGRESSION
    known: fields.Text = ""

    @model_validator(mode="after")
    def _one_way(self) -> Check:
        if (self.case is None) == (self.entry is None):
            fields.refuse("a check runs either a case or an entry", "one of case and entry")
        return self


class Folder(fields.Table):
    """The file ``validation.toml`` of a folder."""

    schema_version: Literal[1] = Field(alias="schema")
    publication: fields.Text
    title: fields.Text
    notes: fields.Text = ""
    slow: fields.Flag = False
    check: tuple[Check, ...] = Field(min_length=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One published value, what the model gives for it, and the deviation on the check's scale."""

    label: str
    value: float
    computed: float
    deviation: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One quantity of one publication: how far the model is off, and the verdict."""

    id: str
    publication: str
    quantity: str
    role: str
    limit: float
    statistic: str
    scale: str
    reason: str
    computed: str
    verdict: str
    regression: str
    n: int = 0
    bias: float | None = None
    rms: float | None = None
    worst: float | None = None
    worst_at: str = ""
    message: str = ""
    known: str = ""
    points: tuple[Point, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The row as the JSON object of ``sepmodel validate``."""
        names = [n for n in self.__slots__ if n != "points"]
        points = [{"label": p.label, "value": p.value, "computed": p.computed} for p in self.points]
        document: dict[str, Any] = files.plain({n: getattr(self, n) for n in names})
        return {**document, "points": points}


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """All verdicts, in the order of the folders."""

    root: Path
    rows: tuple[Row, ...] = ()

    @property
    def summary(self) -> dict[str, int]:
        """How many hit, miss, failed, and changed against our own accepted results."""
        counts = {v: sum(r.verdict == v for r in self.rows) for v in ("hit", "miss", "error")}
        return {**counts, "changed": sum(r.regression == "changed" for r in self.rows)}

    @property
    def failed(self) -> bool:
        """Whether anything was not computed, or misses without its folder saying why it stands."""
        return any(
            row.verdict == "error" or (row.verdict == "miss" and not row.known) for row in self.rows
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as the JSON of ``sepmodel validate``."""
        return {
            "schema": 1,
            "version": __version__,
            "cases": [row.to_dict() for row in self.rows],
            "summary": self.summary,
        }


def default_root() -> Path:
    """``./validation`` where there is one, else the checkout's."""
    checkout = data.models_dir().parent / "validation"
    for candidate in (Path("validation"), checkout):
        if any(candidate.glob("*/validation.toml")):
            return candidate
    raise InputError(
        Problem(
            message="no validation cases here (the installed package does not carry them)",
            file=str(Path("validation").absolute()),
            expected="--root DIR, a folder of validation folders",
        )
    )


def folder_ids(root: Path) -> list[str]:
    """Ids of the validation folders below ``root``, sorted."""
    return sorted(path.parent.name for path in root.glob("*/validation.toml"))


def validate(
    ids: Sequence[str] = (),
    *,
    root: str | Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Report:
    """Run the validation folders ``ids`` (all when empty) below ``root``.

    Raises
    ------
    InputError
        when a folder does not exist or its files cannot be used. A computation that fails becomes
        a row with the verdict "error".
    """
    base = default_root() if root is None else Path(root)
    known = folder_ids(base)
    if not known:
        raise InputError(
            Problem(
                message="no validation folders",
                file=str(base),
                expected="folders with a validation.toml",
            )
        )
    if unknown := [i for i in ids if i not in known]:
        raise InputError(
            [
                Problem(
                    message=f"no such validation case{fields.meant(i, known)}",
                    value=i,
                    expected=f"one of {', '.join(known)}",
                )
                for i in unknown
            ]
        )
    chosen = list(dict.fromkeys(ids)) or known
    opened = [(i, _open(base / i)) for i in chosen]
    rows: list[Row] = []
    for position, (folder_id, folder) in enumerate(opened):
        if progress is not None:
            progress(folder_id, position, len(opened))
        rows += _rows(base / folder_id, folder)
    return Report(root=base, rows=tuple(rows))


def accept(report: Report, reason: str) -> list[Path]:
    """Freeze the computed values of a report as the accepted ones, with the reason why.

    Raises
    ------
    InputError
        when no reason is given or something was not computed.
    """
    if not reason.strip():
        raise InputError(Problem(message="accepting results needs a reason", key="--accept"))
    failed = [row for row in report.rows if row.verdict == "error"]
    if failed:
        raise InputError(
            [Problem(message=f"{r.id}: {r.quantity} was not computed: {r.message}") for r in failed]
        )
    written = []
    for folder_id in dict.fromkeys(row.id for row in report.rows):
        path = report.root / folder_id / "accepted.json"
        values = {
            row.quantity: {point.label: point.computed for point in row.points}
            for row in report.rows
            if row.id == folder_id
        }
        document = {"schema": 1, "reason": reason.strip(), "version": __version__, "values": values}
        written.append(files.write_atomic(path, files.json_text(document)))
    return written


def _open(path: Path) -> Folder:
    file = path / "validation.toml"
    folder = fields.validate(Folder, data.read_toml(file), file=str(file))
    if folder.publication not in data.sources():
        raise InputError(
            Problem(
                message="no such source",
                file=str(file),
                key="publication",
                value=folder.publication,
                expected="a key in models/sources.toml",
            )
        )
    return folder


def _rows(path: Path, folder: Folder) -> list[Row]:
    accepted = _accepted(path)
    cache: dict[str, dict[str, Any]] = {}
    rows = []
    for check in folder.check:
        shared: dict[str, Any] = {
            "id": path.name,
            "publication": folder.publication,
            "quantity": check.quantity,
            "role": check.role,
            "limit": check.limit,
            "statistic": check.statistic,
            "scale": check.scale,
            "reason": check.reason,
            "computed": check.computed,
            "known": check.known,
        }
        try:
            points = _points(path, check, cache)
        except InputError as error:
            # Files that cannot be used stop everything; a model that refuses is an answer.
            if any(p.file.startswith(str(path)) for p in error.problems):
                raise
            rows.append(Row(**shared, verdict="error", regression="changed", message=str(error)))
            continue
        except SepmodelError as error:
            rows.append(Row(**shared, verdict="error", regression="changed", message=str(error)))
            continue
        rows.append(_judged(check, points, accepted.get(check.quantity, {}), shared))
    return rows


def _judged(
    check: Check, points: Sequence[Point], accepted: Mapping[str, float], shared: dict[str, Any]
) -> Row:
    deviations = [point.deviation for point in points]
    worst = max(points, key=lambda p: abs(p.deviation))
    statistics: dict[str, float] = {
        "bias": math.fsum(deviations) / len(points),
        "rms": math.sqrt(math.fsum(d * d for d in deviations) / len(points)),
        "worst": abs(worst.deviation),
    }
    same = set(accepted) == {p.label for p in points} and all(
        math.isclose(p.computed, accepted[p.label], rel_tol=check.regression) for p in points
    )
    return Row(
        **shared,
        bias=statistics["bias"],
        rms=statistics["rms"],
        worst=statistics["worst"],
        verdict="hit" if abs(statistics[check.statistic]) <= check.limit else "miss",
        regression="same" if same else "changed",
        n=len(points),
        worst_at=worst.label,
        points=tuple(points),
    )


def _points(path: Path, check: Check, cache: dict[str, dict[str, Any]]) -> list[Point]:
    file = path / check.measured
    points = []
    for row in _table(file, check):
        if check.case is not None:
            computed = _from_case(path / check.case, row, cache)
        else:
            computed = _from_entry(str(check.entry), row, file)
        value = _number(row, "value", file)
        relation = row.get("relation") or "="
        if relation not in RELATIONS:
            raise _bad(file, row, f"unknown relation {relation!r}", " or ".join(RELATIONS))
        deviation = _scaled(computed, check.scale, file, row) - _scaled(
            value, check.scale, file, row
        )
        if check.scale == "relative":
            deviation = computed / value - 1.0
        if (relation == ">=" and deviation > 0) or (relation == "<=" and deviation < 0):
            deviation = 0.0
        if not math.isfinite(deviation):
            raise SepmodelError(f"{row['label']}: the computed value is {computed}")
        points.append(
            Point(label=row["label"], value=value, computed=computed, deviation=deviation)
        )
    return points


def _scaled(value: float, scale: str, file: Path, row: Mapping[str, str]) -> float:
    if scale == "log10":
        if not value > 0:
            raise _bad(file, row, f"{value} has no logarithm", "a positive value")
        return math.log10(value)
    if scale == "logit":
        if not 0 < value < 1:
            raise _bad(file, row, f"{value} has no logit", "a value between 0 and 1")
        return math.log(value / (1 - value))
    return value


def _table(file: Path, check: Check) -> list[dict[str, str]]:
    """The rows of the measured data that belong to a check."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(Problem(message=f"cannot be read: {error}", file=str(file))) from None
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    reader = csv.DictReader(lines)
    header = list(reader.fieldnames or ())
    kind = "set:" if check.case is not None else "arg:"
    wrong = [c for c in header if c not in _COLUMNS and not c.startswith(("set:", "arg:"))]
    missing = [c for c in ("label", "value") if c not in header]
    if wrong or missing:
        expected = f"columns {', '.join(_COLUMNS)} and {kind}<name>"
        problems = [Problem(message=f"unknown column {c!r}", file=str(file)) for c in wrong]
        problems += [
            Problem(message=f"missing column {c!r}", file=str(file), expected=expected)
            for c in missing
        ]
        raise InputError(problems)
    rows = [{k: (v or "").strip() for k, v in row.items() if k is not None} for row in reader]
    rows = [row for row in rows if row.get("check", "") in ("", check.quantity)]
    labels = [row["label"] for row in rows]
    if not rows or len(set(labels)) < len(labels):
        raise InputError(
            Problem(
                message="no rows" if not rows else "a label occurs twice",
                file=str(file),
                key=check.quantity,
                expected="one row a point, each with its own label",
            )
        )
    return rows


def _from_case(file: Path, row: Mapping[str, str], cache: dict[str, dict[str, Any]]) -> float:
    settings = {
        name.removeprefix("set:"): case.toml_value(text)
        for name, text in row.items()
        if name.startswith("set:") and text
    }
    key = json.dumps([str(file), settings], sort_keys=True, default=str)
    if key not in cache:
        try:
            cache[key] = run(file, settings).to_dict()
        except InputError as error:  # an answer of the model, not of this folder's files
            raise SepmodelError(str(error)) from None
    found = at(cache[key], row.get("path", ""))
    unit = row.get("unit") or "1"
    if isinstance(found, Mapping) and {"value", "unit"} <= set(found):
        found, own = found["value"], found["unit"]
        if found is not None and own != unit:
            found = float(found) * units.factor(own) / units.factor(unit, own)
    return math.nan if found is None else float(found)


def _from_entry(entry: str, row: Mapping[str, str], file: Path) -> float:
    module, _, name = entry.partition(":")
    arguments = {
        column.removeprefix("arg:"): case.toml_value(text)
        for column, text in row.items()
        if column.startswith("arg:") and text
    }
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(
            Problem(message=f"no such function: {error}", file=str(file.parent), value=entry)
        ) from None
    # Most functions of sepmodel take their constants from a book; the shipped values unless given.
    if "book" in inspect.signature(function).parameters:
        arguments.setdefault("book", data.Book())
    try:
        inspect.signature(function).bind(**arguments)
    except TypeError as error:
        raise _bad(file, row, f"{entry} cannot be called so: {error}", "its arguments") from None
    found = function(**arguments)
    for part in (row.get("item") or "").split("."):
        if part:
            found = _part(found, part, file, row)
    return float(found) / units.factor(row.get("unit") or "1")


def _part(found: Any, part: str, file: Path, row: Mapping[str, str]) -> Any:
    try:
        if isinstance(found, Mapping):
            return found[part]
        return found[int(part)] if part.isdecimal() else getattr(found, part)
    except (KeyError, IndexError, AttributeError, TypeError) as error:
        raise _bad(file, row, f"no {part!r} in what was returned: {error}", "item") from None


def _number(row: Mapping[str, str], column: str, file: Path) -> float:
    try:
        return float(row[column])
    except ValueError:
        raise _bad(file, row, f"not a number: {row[column]!r}", "a number") from None


def _bad(file: Path, row: Mapping[str, str], message: str, expected: str) -> InputError:
    return InputError(
        Problem(message=message, file=str(file), key=row.get("label", ""), expected=expected)
    )


def _accepted(path: Path) -> dict[str, dict[str, float]]:
    file = path / "accepted.json"
    if not file.is_file():
        return {}
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        return {
            quantity: {str(label): float(v) for label, v in values.items()}
            for quantity, values in document["values"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(Problem(message=f"cannot be read: {error}", file=str(file))) from None
