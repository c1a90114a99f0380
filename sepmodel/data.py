"""The only reader of ``models/data``: constants, each with its provenance.

A *set* is one TOML or CSV file under ``models/data``; its id is its path there without the suffix
(``extractants/pc88a-mixtures``). A constant's key is ``<set id>:<name>``. Sets that were fitted
together stay together in one file.

TOML: ``schema = 1``, ``title``, ``notes``, optional ``[defaults]`` (fields shared by the set's
constants) and ``[constants]``, a table of ``name = { value = ..., ... }``. CSV: one row a constant,
columns ``name`` and the field names; lines that begin with ``#`` are comments.

Fields of a constant: ``value, unit, basis, source, locator, conditions, class``, and its
uncertainty: ``low, high, distribution`` (triangular, uniform, lognormal: low and high are the ends
or, for lognormal, the 5 % and 95 % points), or ``sd`` (normal), or ``distribution = "exact"``
(definitions, counts, stoichiometry) or ``"not stated"`` (the source gives none). Class
``estimated`` always carries a range. ``secondary = true``: read in a secondary source.
"""

from __future__ import annotations

import csv
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from sepmodel import units
from sepmodel.errors import InputError, Problem

CLASSES = ("measured", "reference", "derived", "estimated")
DISTRIBUTIONS = ("exact", "not stated", "normal", "triangular", "uniform", "lognormal")
_FIELDS = {
    "value",
    "unit",
    "basis",
    "source",
    "locator",
    "conditions",
    "class",
    "low",
    "high",
    "sd",
    "distribution",
    "secondary",
    "note",
}
# Half-width of a normal distribution's 5-95 % interval, in standard deviations.
_NORMAL_95 = 1.6448536269514722


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """A publication or other origin of numbers, as listed in ``models/sources.toml``."""

    key: str
    citation: str
    doi: str = ""
    licence: str = ""
    notice: str = ""
    read: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Constant:
    """One number somebody could argue about, with everything needed to argue.

    ``value``, ``low`` and ``high`` are in ``unit`` as published; ``si`` and ``si_range`` are in
    strict SI. ``low`` and ``high`` are the ends of the stated range, or the 5 % and 95 % points.
    """

    key: str
    value: float
    unit: str
    basis: str
    source: str
    locator: str
    conditions: str
    provenance: str
    distribution: str
    low: float | None = None
    high: float | None = None
    secondary: bool = False
    note: str = ""

    @property
    def si(self) -> float:
        """The value in strict SI."""
        return _to_si(self.value, self.unit)

    @property
    def si_range(self) -> tuple[float, float]:
        """Low and high in strict SI; both the value itself where no range is stated."""
        if self.low is None or self.high is None:
            return self.si, self.si
        return _to_si(self.low, self.unit), _to_si(self.high, self.unit)

    @property
    def name(self) -> str:
        """The name inside its set."""
        return self.key.partition(":")[2]


def _to_si(value: float, unit: str) -> float:
    if unit == "degC":
        return value + 273.15
    return float(f"{value * units.factor(unit):.15g}")


@lru_cache(maxsize=1)
def models_dir() -> Path:
    """Folder of the shipped ``models/``: inside the installed package, else in the checkout."""
    here = Path(__file__).resolve().parent
    for candidate in (here / "models", here.parent / "models"):
        if (candidate / "sources.toml").is_file():
            return candidate
    raise InputError(
        Problem(message="the shipped models folder is missing", expected=f"{here / 'models'}")
    )


def roots() -> tuple[Path, ...]:
    """Where models are looked up: the user's ``./models`` first, then the shipped ones."""
    own = Path.cwd() / "models"
    shipped = models_dir()
    return (own, shipped) if own.is_dir() and own.resolve() != shipped.resolve() else (shipped,)


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as a dictionary; InputError (never a traceback) when it cannot be read."""
    limit = 2_000_000
    try:
        if path.stat().st_size > limit:
            raise ValueError(f"larger than {limit} bytes")
        text = path.read_text(encoding="utf-8")
        return tomllib.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise InputError(
            Problem(message=f"cannot be read: {reason}", file=str(path), expected="a TOML file")
        ) from None


@lru_cache(maxsize=4)
def _sources(path: Path) -> dict[str, Source]:
    entries = read_toml(path)
    return {
        key: Source(key=key, **{name: str(text) for name, text in entry.items()})
        for key, entry in entries.items()
    }


def sources() -> dict[str, Source]:
    """Every source by key; the user's ``./models/sources.toml`` extends the shipped file."""
    merged: dict[str, Source] = {}
    for root in reversed(roots()):
        if (root / "sources.toml").is_file():
            merged.update(_sources(root / "sources.toml"))
    return merged


def set_ids() -> tuple[str, ...]:
    """Ids of all data sets found, sorted."""
    found = set()
    for root in roots():
        for path in (root / "data").rglob("*"):
            if path.suffix in (".toml", ".csv"):
                found.add(path.relative_to(root / "data").with_suffix("").as_posix())
    return tuple(sorted(found))


def set_path(set_id: str) -> Path:
    """File of a data set; InputError with the nearest ids when there is none."""
    for root in roots():
        for suffix in (".toml", ".csv"):
            path = root / "data" / (set_id + suffix)
            if path.is_file():
                return path
    import difflib

    near = difflib.get_close_matches(set_id, set_ids(), n=3)
    raise InputError(
        Problem(
            message="no such data set",
            value=set_id,
            expected=f"one of {', '.join(near)}" if near else "an id listed by `sepmodel sources`",
        )
    )


@lru_cache(maxsize=256)
def _load(path: Path, set_id: str) -> tuple[dict[str, Constant], dict[str, Any]]:
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(line for line in stream if not line.startswith("#")))
        raw = {row["name"]: {k: v for k, v in row.items() if k != "name" and v} for row in rows}
        meta: dict[str, Any] = {}
        if len(raw) != len(rows):
            raise InputError(Problem(message="a name occurs twice", file=str(path)))
    else:
        document = read_toml(path)
        defaults = document.get("defaults", {})
        raw = {name: {**defaults, **entry} for name, entry in document.get("constants", {}).items()}
        meta = {k: v for k, v in document.items() if k not in ("constants", "defaults")}
    constants, problems = {}, []
    for name, fields in raw.items():
        try:
            constants[name] = _constant(f"{set_id}:{name}", fields)
        except ValueError as error:
            problems.append(Problem(message=str(error), file=str(path), key=name))
    if problems:
        raise InputError(problems)
    return constants, meta


def _constant(key: str, fields: Mapping[str, Any]) -> Constant:
    """A checked constant from the fields of its file; ValueError says what is wrong."""
    if unknown := set(fields) - _FIELDS:
        raise ValueError(f"unknown field {sorted(unknown)[0]!r}; expected one of {sorted(_FIELDS)}")
    missing = [
        n
        for n in ("value", "unit", "basis", "source", "locator", "conditions", "class")
        if fields.get(n) in (None, "")
    ]
    if missing:
        raise ValueError(f"missing {', '.join(missing)}")
    numbers = {n: float(fields[n]) for n in ("value", "low", "high", "sd") if n in fields}
    if not all(map(math.isfinite, numbers.values())):
        raise ValueError("a number is not finite")
    provenance, value = str(fields["class"]), numbers["value"]
    low, high = numbers.get("low"), numbers.get("high")
    distribution = str(fields.get("distribution", "normal" if "sd" in numbers else ""))
    if "sd" in numbers:
        low, high = value - _NORMAL_95 * numbers["sd"], value + _NORMAL_95 * numbers["sd"]
    if provenance not in CLASSES:
        raise ValueError(f"class {provenance!r} is not one of {CLASSES}")
    if distribution not in DISTRIBUTIONS:
        raise ValueError(f"distribution {distribution!r} is not one of {DISTRIBUTIONS}")
    if (distribution in ("exact", "not stated")) != (low is None and high is None):
        raise ValueError("a range goes with a distribution, and a distribution with low and high")
    if low is not None and high is not None and not low <= value <= high:
        raise ValueError(f"value {value} lies outside its range {low} to {high}")
    if provenance == "estimated" and low is None:
        raise ValueError("an estimated number needs a range")
    units.factor(str(fields["unit"])) if fields["unit"] != "degC" else None
    secondary = fields.get("secondary", False)
    return Constant(
        key=key,
        value=value,
        unit=str(fields["unit"]),
        basis=str(fields["basis"]),
        source=str(fields["source"]),
        locator=str(fields["locator"]),
        conditions=str(fields["conditions"]),
        provenance=provenance,
        distribution=distribution,
        low=low,
        high=high,
        secondary=secondary is True or str(secondary).lower() == "true",
        note=str(fields.get("note", "")),
    )


def load_set(set_id: str) -> dict[str, Constant]:
    """All constants of a set by name (a fresh dictionary)."""
    return dict(_load(set_path(set_id), set_id)[0])


def set_meta(set_id: str) -> dict[str, Any]:
    """What a TOML set says of itself beside its constants: title, notes, licence, kind ..."""
    return dict(_load(set_path(set_id), set_id)[1])


@dataclass(eq=False, slots=True)
class Book:
    """The constants a computation may read, and a record of those it did read.

    ``book["prices/ex-china-2026:Dy2O3"]`` is the strict-SI value. ``overrides`` replace values (in
    strict SI) without touching any file: sensitivity studies and tests use them. The record
    (``used``) is the evidence a result carries.

    >>> book = Book()
    >>> round(book["elements:Nd"] * 1000, 3)
    144.242
    >>> list(book.used)
    ['elements:Nd']
    """

    overrides: Mapping[str, float] = field(default_factory=dict)
    used: dict[str, Constant] = field(default_factory=dict)

    def constant(self, key: str) -> Constant:
        """The constant behind ``key``; InputError names the nearest when there is none."""
        set_id, _, name = key.partition(":")
        constants = _load(set_path(set_id), set_id)[0]
        if name not in constants:
            import difflib

            near = difflib.get_close_matches(name, constants, n=3)
            raise InputError(
                Problem(
                    message=f"the data set {set_id} has no such constant",
                    value=name,
                    expected=f"one of {', '.join(near or list(constants)[:12])}",
                )
            )
        found = constants[name]
        self.used[key] = found
        return found

    def __getitem__(self, key: str) -> float:
        constant = self.constant(key)
        return self.overrides.get(key, constant.si)

    def get(self, key: str, default: float) -> float:
        """The value if the set has it, else ``default`` (a choice of form, never a constant)."""
        if key not in self:
            return default
        return self[key]

    def __contains__(self, key: str) -> bool:
        set_id, _, name = key.partition(":")
        return name in _load(set_path(set_id), set_id)[0]

    def names(self, set_id: str) -> tuple[str, ...]:
        """Names of the constants in a set (reading names is not using numbers)."""
        return tuple(_load(set_path(set_id), set_id)[0])

    def __iter__(self) -> Iterator[Constant]:
        return iter(self.used.values())

    def with_values(self, values: Mapping[str, float]) -> Book:
        """A book with further overrides (strict SI) and an empty record."""
        return replace(self, overrides={**self.overrides, **values}, used={})


def evidence(used: Mapping[str, Constant]) -> list[dict[str, Any]]:
    """The record of a book as the ``sources`` list of a result: one entry per source and class."""
    grouped: dict[tuple[str, str], list[Constant]] = {}
    for constant in used.values():
        grouped.setdefault((constant.source, constant.provenance), []).append(constant)
    return [
        {
            "key": source,
            "class": provenance,
            "locator": "; ".join(dict.fromkeys(c.locator for c in members)),
            "numbers": [c.key for c in members],
        }
        for (source, provenance), members in sorted(grouped.items())
    ]
