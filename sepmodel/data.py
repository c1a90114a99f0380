"""The only reader of ``models/data`` and ``models/feeds``: constants, each with its provenance.

A *set* is one TOML or CSV file under ``models/data``; its id is its path there without the suffix
(``extractants/pc88a-mixtures``). A feed is a set too (``feeds/<name>``, from ``models/feeds``), and
so is any file given by its path. A constant's key is ``<set id>:<name>``. Sets that were fitted
together stay together in one file.

TOML: ``schema = 1``, ``title``, ``notes``, optional ``[defaults]`` (fields shared by the set's
constants) and ``[constants]``, a table of ``name = { value = ..., ... }`` or, where the defaults
say the rest, ``name = number``. CSV: one row a constant, columns ``name`` and the field names;
lines that begin with ``#`` are the set's notes, ``# title: ...`` its title.

Fields of a constant: ``value, unit, basis, source, locator, conditions, class``, and its
uncertainty: ``low, high, distribution`` (triangular, uniform, lognormal: low and high are the ends
or, for lognormal, the 5 % and 95 % points), or ``sd`` (normal), or ``distribution = "exact"``
(definitions, counts, stoichiometry) or ``"not stated"`` (the source gives none). Class
``estimated`` always carries a range. ``secondary = true``: read in a secondary source.
"""

from __future__ import annotations

import csv
import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
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
_SUFFIXES = (".toml", ".csv")
_REQUIRED = ("value", "unit", "basis", "source", "locator", "conditions", "class")
# Half-width of a normal distribution's 5-95 % interval, in standard deviations.
_NORMAL_95 = 1.6448536269514722
_KEY_PART = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')"""
_LONG_KEY = re.compile(rf"(?<![A-Za-z0-9_-]){_KEY_PART}(?:[ \t]*+\.[ \t]*+{_KEY_PART}){{30}}")


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
        return split_key(self.key)[1]


@lru_cache(maxsize=4096)
def split_key(key: str) -> tuple[str, str]:
    """Set id and name of a key; a set given by its path may hold a drive's colon before it."""
    before, suffix, _ = key.partition(".toml:")
    set_id = before + ".toml" if suffix else key.partition(":")[0]
    return set_id, key[len(set_id) + 1 :]


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
    limit = 300_000
    try:
        if not path.is_file():  # a pipe or a device could be read for ever
            raise ValueError("no such file" if not path.exists() else "not a regular file")
        if path.stat().st_size > limit:
            raise ValueError(f"larger than {limit} bytes")
        text = path.read_bytes().decode("utf-8-sig")
        if _LONG_KEY.search(text):  # the parser's time and memory grow with its square
            raise RecursionError
        return tomllib.loads(text)
    except UnicodeDecodeError as error:
        reason = f"not UTF-8 text (byte {error.start})"
    except RecursionError:
        reason = "nested too deeply"
    except OSError as error:
        reason = error.strerror or str(error)
    except ValueError as error:
        reason = str(error)
    raise InputError(
        Problem(message=f"cannot be read: {reason}", file=str(path), expected="a TOML file")
    )


@lru_cache(maxsize=4)
def _sources(path: Path) -> dict[str, Source]:
    known = [f.name for f in fields(Source) if f.name != "key"]
    found, problems = {}, []
    for key, entry in read_toml(path).items():
        if not isinstance(entry, dict) or not entry.get("citation") or set(entry) - set(known):
            problems.append(
                Problem(
                    message="not a source",
                    file=str(path),
                    key=key,
                    expected=f"a table with a citation; its keys are {', '.join(known)}",
                )
            )
        else:
            found[key] = Source(key=key, **{name: str(text) for name, text in entry.items()})
    if problems:
        raise InputError(problems)
    return found


def sources() -> dict[str, Source]:
    """Every source by key; the user's ``./models/sources.toml`` extends the shipped file."""
    merged: dict[str, Source] = {}
    for root in reversed(roots()):
        if (root / "sources.toml").is_file():
            merged.update(_sources(root / "sources.toml"))
    return merged


def _base(root: Path, set_id: str) -> Path:
    """The folder below which a set's id is its path: feeds have their own."""
    return root if set_id.startswith("feeds/") else root / "data"


def _sets(root: Path) -> dict[str, Path]:
    """Every set below one models folder."""
    found = {}
    for folder, base in ((root / "data", root / "data"), (root / "feeds", root)):
        for path in sorted(folder.rglob("*")):
            if path.suffix in _SUFFIXES:
                found[path.relative_to(base).with_suffix("").as_posix()] = path
    return found


def set_ids() -> tuple[str, ...]:
    """Ids of all data sets and feeds found, sorted."""
    return tuple(sorted({name for root in roots() for name in _sets(root)}))


def set_path(set_id: str) -> Path:
    """File of a data set; InputError with the nearest ids when there is none."""
    if set_id.endswith(_SUFFIXES) and Path(set_id).is_file():
        return Path(set_id)
    for root in roots():
        for suffix in _SUFFIXES:
            path = _base(root, set_id) / (set_id + suffix)
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
    raw, meta = _read_csv(path) if path.suffix == ".csv" else _read_set(path)
    constants, problems = {}, []
    known = sources()
    for name, entry in raw.items():
        try:
            constants[name] = _constant(f"{set_id}:{name}", entry)
            if constants[name].source not in known:
                raise ValueError(f"no entry in sources.toml for {constants[name].source!r}")
        except (ValueError, TypeError) as error:
            problems.append(Problem(message=str(error), file=str(path), key=name))
    if problems:
        raise InputError(problems)
    return constants, meta


def _read_csv(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Fields of each constant of a CSV set, by name."""
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            lines = stream.readlines()
        rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(Problem(message=f"cannot be read: {error}", file=str(path))) from None
    if any(not row.get("name") or None in row for row in rows):
        raise InputError(
            Problem(
                message="a row without a name, or longer than the header",
                file=str(path),
                expected="columns name and the fields of a constant",
            )
        )
    raw = {row["name"]: {k: v for k, v in row.items() if k != "name" and v} for row in rows}
    if len(raw) != len(rows):
        raise InputError(Problem(message="a name occurs twice", file=str(path)))
    comments = [line[1:].strip() for line in lines if line.startswith("#")]
    titles = [c.removeprefix("title:").strip() for c in comments if c.startswith("title:")]
    notes = "\n".join(c for c in comments if not c.startswith("title:"))
    return raw, {"title": titles[0] if titles else "", "notes": notes}


def _read_set(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
    """Fields of each constant of a TOML set by name, and what the set says of itself."""
    document = read_toml(path)
    defaults, constants = document.pop("defaults", {}), document.pop("constants", {})
    if document.get("schema") != 1 or not document.get("title"):
        raise InputError(
            Problem(message="not a data set", file=str(path), expected="schema = 1 and a title")
        )
    raw = {}
    for name, entry in constants.items() if isinstance(constants, dict) else ():
        own = entry if isinstance(entry, dict) else {"value": entry}
        given = {**defaults, **own}
        if "sd" in own and "distribution" not in own:
            given.pop("distribution", None)
        raw[name] = given
    if not raw:
        raise InputError(
            Problem(message="a data set without [constants]", file=str(path), key="constants")
        )
    return raw, document


def _number(name: str, value: Any) -> float:
    """A finite number from a field; ValueError otherwise."""
    if isinstance(value, bool | list | dict):
        raise ValueError(f"{name} is not a number")
    try:
        number = float(value)
    except ValueError:
        raise ValueError(f"{name} is not a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{name} is not finite")
    return number


def _constant(key: str, entry: Mapping[str, Any]) -> Constant:
    """A checked constant from the fields of its file; ValueError says what is wrong."""
    if unknown := set(entry) - _FIELDS:
        raise ValueError(f"unknown field {sorted(unknown)[0]!r}; expected one of {sorted(_FIELDS)}")
    missing = [n for n in _REQUIRED if entry.get(n) in (None, "")]
    if missing:
        raise ValueError(f"missing {', '.join(missing)}")
    numbers = {n: _number(n, entry[n]) for n in ("value", "low", "high", "sd") if n in entry}
    provenance, value = str(entry["class"]), numbers["value"]
    low, high = numbers.get("low"), numbers.get("high")
    distribution = str(entry.get("distribution", "normal" if "sd" in numbers else ""))
    if "sd" in numbers:
        low, high = value - _NORMAL_95 * numbers["sd"], value + _NORMAL_95 * numbers["sd"]
    if provenance not in CLASSES:
        raise ValueError(f"class {provenance!r} is not one of {CLASSES}")
    if distribution not in DISTRIBUTIONS:
        raise ValueError(f"distribution {distribution!r} is not one of {DISTRIBUTIONS}")
    if (low is None) != (high is None):
        raise ValueError("low and high go together")
    if (distribution in ("exact", "not stated")) != (low is None):
        raise ValueError("a range goes with a distribution, and a distribution with low and high")
    if low is not None and high is not None and not low <= value <= high:
        raise ValueError(f"value {value} lies outside its range {low} to {high}")
    if provenance == "estimated" and (low is None or low == high):
        raise ValueError("an estimated number needs a range")
    if distribution == "lognormal" and numbers.get("low", value) <= 0:
        raise ValueError("a lognormal range lies above zero")
    unit = str(entry["unit"])
    if unit != "degC":
        units.factor(unit)
    secondary = entry.get("secondary", False)
    return Constant(
        key=key,
        value=value,
        unit=unit,
        basis=str(entry["basis"]),
        source=str(entry["source"]),
        locator=str(entry["locator"]),
        conditions=str(entry["conditions"]),
        provenance=provenance,
        distribution=distribution,
        low=low,
        high=high,
        secondary=secondary is True or str(secondary).lower() == "true",
        note=str(entry.get("note", "")),
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

    ``book["prices/ex-china-2025:Dy2O3"]`` is the strict-SI value. ``overrides`` replace values (in
    strict SI) without touching any file: sensitivity studies and tests use them. The record
    (``used``) is the evidence a result carries. A book looks for each set once, so that all of one
    computation, and of the books made from it, rests on the same files.

    >>> book = Book()
    >>> round(book["elements:Nd"] * 1000, 3)
    144.242
    >>> list(book.used)
    ['elements:Nd']
    """

    overrides: Mapping[str, float] = field(default_factory=dict)
    used: dict[str, Constant] = field(default_factory=dict)
    _sets: dict[str, dict[str, Constant]] = field(default_factory=dict, repr=False)
    _read: dict[str, tuple[Constant, float]] = field(default_factory=dict, repr=False)
    _positive: dict[str, bool] = field(default_factory=dict, repr=False)
    _checked: Mapping[str, float] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        # Copies with the same overrides, of which a study makes many, are not checked again.
        if self._checked is self.overrides:
            return
        self._checked = self.overrides
        for key, value in self.overrides.items():
            positive = self._positive.get(key)
            if positive is None:
                constant = self._find(key)
                # A pure number may be a logarithm: its range's sign binds only where its kind does.
                kind = constant.distribution == "lognormal" or constant.unit != "1"
                positive = self._positive[key] = kind and min(constant.si_range) > 0
            if not math.isfinite(value) or (positive and not value > 0):
                raise InputError(
                    Problem(
                        message="not a value this constant can have",
                        key=key,
                        value=value,
                        expected="a finite number" + (" above 0" if positive else ""),
                    )
                )

    def _set(self, set_id: str) -> dict[str, Constant]:
        if set_id not in self._sets:
            self._sets[set_id] = _load(set_path(set_id), set_id)[0]
        return self._sets[set_id]

    def _find(self, key: str) -> Constant:
        set_id, name = split_key(key)
        constants = self._set(set_id)
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
        return constants[name]

    def constant(self, key: str) -> Constant:
        """The constant behind ``key``; InputError names the nearest when there is none."""
        found = self._find(key)
        self.used[key] = found
        return found

    def __getitem__(self, key: str) -> float:
        # Read by the hundred thousand in a sensitivity study: one look-up each.
        known = self._read.get(key)
        if known is None:
            found = self._find(key)
            known = self._read[key] = (found, found.si)
        self.used[key] = known[0]
        return self.overrides.get(key, known[1])

    def get(self, key: str, default: float) -> float:
        """The value if the set has it, else ``default`` (a choice of form, never a constant)."""
        if key not in self:
            return default
        return self[key]

    def __contains__(self, key: str) -> bool:
        set_id, name = split_key(key)
        return name in self._set(set_id)

    def names(self, set_id: str) -> tuple[str, ...]:
        """Names of the constants in a set (reading names is not using numbers)."""
        return tuple(self._set(set_id))

    def __iter__(self) -> Iterator[Constant]:
        return iter(self.used.values())

    def with_values(self, values: Mapping[str, float]) -> Book:
        """A book with further overrides (strict SI) and an empty record."""
        return replace(self, overrides={**self.overrides, **values}, used={})


def _is_share(constant: Constant) -> bool:
    """Whether a constant is a share of something, as its basis and its range say."""
    words = constant.basis.split()
    first = words[0].rstrip(",;") if words else ""
    within = constant.unit == "1" and all(0 <= end <= 1 for end in constant.si_range)
    return within and first in ("share", "fraction", "part")


def replacement(key: str, text: str) -> float:
    """The strict-SI value of a constant's replacement: a bare number in SI, or text with a unit.

    Raises
    ------
    InputError
        for a constant that is not there, and for text that is no quantity of its kind.

    >>> replacement("elements:Nd", "144.24 g/mol")
    0.14424
    """
    constant = Book()._find(key)
    try:
        value = float(text)
    except ValueError:
        expected = f'a bare number in strict SI, or text with a unit such as "1 {constant.unit}"'
        try:
            value = units.si(text, constant.unit)
        except InputError as error:
            raise InputError(
                [replace(p, key=key, value=text, expected=expected) for p in error.problems]
            ) from None
    if _is_share(constant) and not 0 <= value <= 1:
        message = f"not a value this constant can have: {constant.basis}"
        raise InputError(Problem(message=message, key=key, value=text, expected="from 0 to 1"))
    return value


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
