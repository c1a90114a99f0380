"""Shake-out tests as a table: what went in, what came out, in the laboratory's own units.

One row a test. Columns are named with their unit in brackets::

    laboratory, label, feed_acid [mol/L], extractant [mol/L], phase_ratio, saponification,
    feed_Nd [g/L], raffinate_Nd [g/L], feed_Pr [g/L], raffinate_Pr [g/L], pH, use

``extractant`` is the formal (monomer) concentration; ``phase_ratio`` is O/A (1 where the column is
missing); ``saponification`` is mol counter-ion per mol extractant (0 where missing); an empty
raffinate cell was not measured; ``use`` = 0 keeps a row out of the fit but in the report. Metals in
g/L are grams of the element.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepmodel import units
from sepmodel.data import Book, roots
from sepmodel.errors import InputError, Problem
from sepmodel.extraction import limits
from sepmodel.species import CHARGES, RARE_EARTHS, molar_mass

Array = NDArray[np.float64]
_HEADER = re.compile(r"\s*([A-Za-z_0-9]+?)\s*(?:\[(.+)\])?\s*\Z")
_METAL = re.compile(r"(feed|raffinate)_([A-Z][A-Za-z0-9]?)\Z")
_TEXT = ("laboratory", "label")
_PLAIN = ("phase_ratio", "saponification", "pH", "use")
_CONCENTRATION = ("feed_acid", "extractant")
_LARGEST = 10_000_000
_OXIDE = "g_REO"
# Standard errors beyond which a difference is a mistake and no scatter.
_SURE = 5


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ShakeOuts:
    """Shake-out tests in strict SI; arrays of shape (N,) or (N, E), NaN where not measured."""

    elements: tuple[str, ...]
    laboratory: tuple[str, ...]
    label: tuple[str, ...]
    acid: Array
    extractant: Array
    phase_ratio: Array
    saponification: Array
    feed: Array
    raffinate: Array
    pH: Array
    used: NDArray[np.bool_]
    assumed: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.acid)

    @property
    def laboratories(self) -> tuple[str, ...]:
        """Names of the laboratories, in order of first appearance."""
        return tuple(dict.fromkeys(self.laboratory))

    @property
    def distribution_ratio(self) -> Array:
        """Measured D = (feed - raffinate) / raffinate / (O/A), shape (N, E); NaN if unknown."""
        d: Array = (self.feed - self.raffinate) / self.raffinate / self.phase_ratio[:, None]
        return d

    @property
    def extracted(self) -> Array:
        """Share of each metal that left the aqueous phase, shape (N, E)."""
        share: Array = 1 - self.raffinate / np.where(self.feed > 0, self.feed, np.nan)
        return share

    def rows(self, keep: NDArray[np.bool_]) -> ShakeOuts:
        """The rows where ``keep`` is true, and the elements that still occur in them."""
        at = np.flatnonzero(keep)
        columns = [i for i in range(len(self.elements)) if np.any(self.feed[at, i] > 0)]
        return replace(
            self,
            elements=tuple(self.elements[i] for i in columns),
            laboratory=tuple(self.laboratory[i] for i in at),
            label=tuple(self.label[i] for i in at),
            acid=self.acid[at],
            extractant=self.extractant[at],
            phase_ratio=self.phase_ratio[at],
            saponification=self.saponification[at],
            feed=self.feed[at][:, columns],
            raffinate=self.raffinate[at][:, columns],
            pH=self.pH[at],
            used=self.used[at],
        )


def find(table: str | Path) -> Path:
    """The file of a table: a path, or the name of one under ``models/shakeouts``.

    >>> find("nd-pr-pc88a").name
    'nd-pr-pc88a.csv'
    """
    if Path(table).exists() or Path(table).suffix:
        return Path(table)
    for root in roots():
        path = root / "shakeouts" / f"{table}.csv"
        if path.is_file():
            return path
    return Path(table)


def read(table: str | Path) -> ShakeOuts:
    """The shake-outs in a CSV file; InputError lists everything wrong with it at once.

    ``table`` is a path or the name of a shipped table; lines that begin with ``#`` are comments.

    >>> len(read("li1987-pc88a"))
    140
    """
    path = find(table)
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"larger than {_LARGEST} bytes")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(
            Problem(message=f"cannot be read: {error}", file=str(path), expected="a CSV file")
        ) from None
    return parse(text, file=str(path))


def parse(text: str, *, file: str = "") -> ShakeOuts:
    """The shake-outs in CSV text.

    >>> header = "feed_acid [mol/L],extractant [mol/L],feed_Nd [g/L],raffinate_Nd [g/L]"
    >>> table = parse(header + "\\n0.05,1.0,14.42,9.5")
    >>> table.elements, round(float(table.feed[0, 0]), 2)
    (('Nd',), 99.97)
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    rows = list(csv.reader(io.StringIO("\n".join(lines))))
    if len(rows) < 2:
        raise InputError(
            Problem(message="no rows", file=file, expected="a header and at least one test")
        )
    columns, problems = _columns(rows[0], file)
    if problems:
        raise InputError(problems)
    values: dict[str, list[float]] = {name: [] for name in columns if name not in _TEXT}
    texts: dict[str, list[str]] = {name: [] for name in _TEXT}
    for number, row in enumerate(rows[1:], start=1):
        if len(row) != len(rows[0]):
            problems.append(
                Problem(
                    message="a row has another number of cells than the header",
                    file=file,
                    key=f"row {number}",
                    value=len(row),
                    expected=str(len(rows[0])),
                )
            )
            continue
        cells = dict(zip(columns, row, strict=True))
        for name in _TEXT:
            texts[name].append(cells.get(name, "").strip() or ("one" if name in _TEXT[:1] else ""))
        for name, series in values.items():
            series.append(_number(cells[name], columns[name], name, number, file, problems))
    if problems:
        raise InputError(problems)
    return _table({n: np.array(v) for n, v in values.items()}, texts, file)


def _columns(header: list[str], file: str) -> tuple[dict[str, float], list[Problem]]:
    """Name of each column and the factor that brings it to SI."""
    found: dict[str, float] = {}
    problems = []
    known = (*_TEXT, *_CONCENTRATION, *_PLAIN, "feed_<element>", "raffinate_<element>")
    for cell in header:
        match = _HEADER.match(cell)
        name, unit = (match[1], match[2]) if match else (cell, None)
        metal = _METAL.match(name)
        factor = 1.0
        try:
            if match is None or not (metal or name in (*_TEXT, *_CONCENTRATION, *_PLAIN)):
                raise ValueError("unknown column")
            if name in found:
                raise ValueError("a column occurs twice")
            if metal and metal[2] not in CHARGES:
                raise ValueError(f"unknown element {metal[2]!r}")
            if metal or name in _CONCENTRATION:
                if unit is None:
                    raise ValueError("a concentration needs its unit in brackets")
                factor = _factor(unit, metal[2] if metal else "")
            elif unit is not None:
                raise ValueError("takes no unit")
        except ValueError as error:
            problems.append(
                Problem(
                    message=str(error),
                    file=file,
                    key="header",
                    value=cell,
                    expected=f"one of {', '.join(known)}, such as feed_Nd [g/L]",
                )
            )
        found[name] = factor
    metals = {m[2] for name in found if (m := _METAL.match(name))}
    needed = [*_CONCENTRATION, *(f"{side}_{m}" for m in metals for side in ("feed", "raffinate"))]
    problems += [
        Problem(message="a column is missing", file=file, key="header", expected=name)
        for name in needed
        if name not in found
    ]
    if not metals:
        problems.append(
            Problem(message="no metal columns", file=file, expected="feed_Nd [g/L] and so on")
        )
    return found, problems


def _factor(unit: str, metal: str) -> float:
    """SI factor of a molar concentration, or of the mass of a metal per volume."""
    try:
        return units.factor(unit, "mol/m^3")
    except ValueError:
        if not metal or _OXIDE in unit:
            raise
    return units.factor(unit, "kg/m^3") / molar_mass(metal)


def _number(
    cell: str, factor: float, name: str, row: int, file: str, problems: list[Problem]
) -> float:
    """A cell in SI, NaN where a measurement is missing."""
    if not cell.strip():
        if name.startswith("raffinate_") or name == "pH":
            return float("nan")
        if name.startswith("feed_") and name != "feed_acid":
            return 0.0
    try:
        value = float(cell)
        if not np.isfinite(value) or (value < 0 and name != "pH"):
            raise ValueError
    except ValueError:
        problems.append(
            Problem(
                message="not a number that can stand here",
                file=file,
                key=f"row {row}, {name}",
                value=cell,
                expected="a finite number, zero or more",
            )
        )
        return float("nan")
    return value * factor


def _table(values: Mapping[str, Array], texts: Mapping[str, list[str]], file: str) -> ShakeOuts:
    """Arrays checked against each other."""
    elements = tuple(m[2] for name in values if (m := _METAL.match(name)) and m[1] == "feed")
    count = len(values["feed_acid"])
    assumed = []
    for name, default in (("phase_ratio", "1"), ("saponification", "0")):
        if name not in values:
            assumed.append(f"{name} = {default} in every row (no such column)")
    table = ShakeOuts(
        elements=elements,
        laboratory=tuple(texts["laboratory"]),
        label=tuple(texts["label"]),
        acid=values["feed_acid"],
        extractant=values["extractant"],
        phase_ratio=values.get("phase_ratio", np.ones(count)),
        saponification=values.get("saponification", np.zeros(count)),
        feed=np.stack([values[f"feed_{e}"] for e in elements], axis=1),
        raffinate=np.stack([values[f"raffinate_{e}"] for e in elements], axis=1),
        pH=values.get("pH", np.full(count, np.nan)),
        used=values.get("use", np.ones(count)) > 0,
        assumed=tuple(assumed),
    )
    problems = []
    for row in range(count):
        if table.extractant[row] <= 0 or table.phase_ratio[row] <= 0:
            problems.append(
                Problem(
                    message="extractant and phase ratio are positive",
                    file=file,
                    key=f"row {row + 1}",
                )
            )
        if not np.any(table.feed[row] > 0):
            problems.append(
                Problem(message="no metal in the feed", file=file, key=f"row {row + 1}")
            )
        for i, element in enumerate(elements):
            left = table.raffinate[row, i]
            if table.feed[row, i] > 0 and left == 0:
                problems.append(
                    Problem(
                        message="a raffinate of exactly zero has no logarithm",
                        file=file,
                        key=f"row {row + 1}, raffinate_{element}",
                        expected="the measured value, or an empty cell where it was not measured",
                    )
                )
    if problems:
        raise InputError(problems)
    # A metal that is not fed has no measurement.
    raffinate = np.where(table.feed > 0, table.raffinate, np.nan)
    table = replace(table, raffinate=raffinate)
    # Columns of a metal that no row holds say nothing.
    return table.rows(np.ones(count, dtype=bool))


def require_possible(
    table: ShakeOuts,
    relative_error: float,
    book: Book,
    *,
    dimers: Mapping[str, float] | None = None,
    file: str = "",
) -> None:
    """InputError for every row in use that no laboratory can have measured, all at once.

    Refused are concentrations nobody can make, a raffinate above its feed, and more metal gone from
    the aqueous phase than the extractant can hold: sum n (feed - raffinate) / (O/A) <= extractant /
    2, n dimers a metal ion. The last two by five standard errors of the difference,
    ``relative_error`` being that of one analysis.

    >>> header = "feed_acid [mol/L],extractant [mol/L],feed_Nd [g/L],raffinate_Nd [g/L]"
    >>> require_possible(parse(header + "\\n0.05,1.0,14.42,9.5"), 0.03, Book())
    """
    problems: list[Problem] = []
    n = np.array([(dimers or {}).get(e, CHARGES[e]) for e in table.elements], dtype=float)
    rare = np.array([e in RARE_EARTHS for e in table.elements])
    # A limit that refuses nothing is no evidence of the fit: a book of its own.
    book = book.with_values({})
    for i in np.flatnonzero(table.used):
        row = f"row {i + 1}"
        amounts = (
            ("rare earths", f"{row}, feed", float(table.feed[i, rare].sum())),
            ("acid", f"{row}, feed_acid", float(table.acid[i])),
            ("extractant", f"{row}, extractant", float(table.extractant[i])),
        )
        problems += [replace(p, file=file) for p in limits.impossible(amounts, book)]
        feed, left = table.feed[i], table.raffinate[i]
        known = np.isfinite(left)
        gone = np.where(known, feed - left, 0.0)
        error = np.where(known, relative_error * np.hypot(feed, left), 0.0)
        problems += [
            Problem(
                message="more metal in the raffinate than in the feed: units or columns mixed up?",
                file=file,
                key=f"{row}, raffinate_{table.elements[j]}",
                value=f"{units.to(float(left[j]), 'mol/L'):.4g} mol/L",
                expected=f"at most the feed, {units.to(float(feed[j]), 'mol/L'):.4g} mol/L, or "
                "use = 0",
            )
            for j in np.flatnonzero(gone < -_SURE * error)
        ]
        taken = float(gone @ n) / float(table.phase_ratio[i])
        scatter = float(np.linalg.norm(error * n)) / float(table.phase_ratio[i])
        if taken - _SURE * scatter > table.extractant[i] / 2:
            problems.append(
                Problem(
                    message="more metal left the feed than the extractant can hold: units or "
                    "columns mixed up?",
                    file=file,
                    key=row,
                    value=f"{units.to(taken, 'mol/L'):.4g} mol/L of dimer taken",
                    expected=f"at most {units.to(float(table.extractant[i]) / 2, 'mol/L'):.4g} "
                    "mol/L, or use = 0",
                )
            )
    if problems:
        raise InputError(problems)
