"""Measured breakthrough and elution curves: CSV in the laboratory's units, arrays in SI."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sepmodel import units
from sepmodel.data import roots
from sepmodel.errors import InputError, Problem
from sepmodel.species import CHARGES, molar_mass

Array = NDArray[np.float64]

AXES = {"time": "s", "volume": "m^3", "bed_volumes": "1"}
_HEADER = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9_+-]*)\s*(?:\[(.+)\])?\s*\Z")
_LARGEST = 10_000_000
# No outlet exceeds its feed this many times; percent do.
_SHARE_MOST = 10.0


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Curve:
    """What left a column: ``at`` (N,) [s, m3 or bed volumes by ``axis``], ``conc`` (N, C).

    ``conc`` is in mol/m3, or over the feed for the ``relative`` components (a column without a
    unit, or in percent: ``Nd [%]``); NaN where not measured.
    """

    name: str
    axis: str
    at: Array
    components: tuple[str, ...]
    relative: tuple[bool, ...]
    conc: Array


def find(name: str, beside: Path | None = None) -> Path:
    """The file of a curve: beside the fit's file, as a path, or under ``models/curves``.

    >>> find("hermassi2022-s950").name
    'hermassi2022-s950.csv'
    """
    stem = name if name.endswith(".csv") else f"{name}.csv"
    tried = [Path(name), *([beside / stem] if beside else [])]
    if not Path(name).is_absolute() and ".." not in Path(name).parts:
        tried += [root / "curves" / stem for root in roots()]
    for path in tried:
        if path.is_file():
            return path
    return tried[0]


def read(path: Path) -> Curve:
    """The curve in a CSV file; lines that begin with ``#`` are comments.

    Raises
    ------
    InputError
        with everything wrong with it at once.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError(f"larger than {_LARGEST} bytes")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise InputError(
            Problem(message=f"cannot be read: {error}", file=str(path), expected="a CSV file")
        ) from None
    return parse(text, name=path.stem, file=str(path))


def parse(text: str, *, name: str = "curve", file: str = "") -> Curve:
    """The curve in CSV text, its points in the order of the axis.

    >>> curve = parse("time [h],Nd [g/L],Dy\\n1,0.0,\\n2,1.44242,0.5")
    >>> curve.at.tolist(), curve.relative, round(float(curve.conc[1, 0]), 6)
    ([3600.0, 7200.0], (False, True), 10.0)
    >>> parse("time [h],Nd [%]\\n1,50").conc.tolist()
    [[0.5]]
    """
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    rows = list(csv.reader(io.StringIO("\n".join(lines))))
    if len(rows) < 2:
        raise InputError(
            Problem(message="no rows", file=file, expected="a header and at least one point")
        )
    axis, columns, problems = _columns(rows[0], file)
    values: list[list[float]] = []
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
        else:
            values.append(_numbers(row, rows[0], number, file, problems))
    table = np.array(values) if not problems else np.zeros((0, len(rows[0])))
    for (name, factor, share), column in zip(columns, table[:, 1:].T, strict=False):
        most = float(np.nanmax(column, initial=0.0)) * factor
        if share and most > _SHARE_MOST:
            problems.append(
                Problem(
                    message="a column without a unit is a share of the feed",
                    file=file,
                    key=name,
                    value=most,
                    expected=f"{name} [%] for percent of the feed, or a unit such as {name} [mg/L]",
                )
            )
    if problems:
        raise InputError(problems)
    table = table[np.argsort(table[:, 0], kind="stable")]
    kept = np.isfinite(table[:, 1:]).any(axis=1)
    if not kept.any():
        raise InputError(Problem(message="nothing was measured", file=file))
    table = table[kept]
    return Curve(
        name=name,
        axis=axis[0],
        at=table[:, 0] * axis[1],
        components=tuple(name for name, _, _ in columns),
        relative=tuple(share for _, _, share in columns),
        conc=table[:, 1:] * np.array([factor for _, factor, _ in columns]),
    )


def _columns(
    header: Sequence[str], file: str
) -> tuple[tuple[str, float], list[tuple[str, float, bool]], list[Problem]]:
    """Axis and its SI factor; components, theirs, and whether they are over the feed."""
    problems: list[Problem] = []
    axis: tuple[str, float] = ("", 1.0)
    columns: list[tuple[str, float, bool]] = []
    for place, cell in enumerate(header):
        match = _HEADER.match(cell)
        name, unit = (match[1], match[2]) if match else (cell, None)
        try:
            if match is None:
                raise ValueError("not a column")
            if place == 0:
                if name not in AXES:
                    raise ValueError("the first column says where the points are")
                if (unit is None) != (AXES[name] == "1"):
                    raise ValueError("no unit belongs here" if unit else "the unit is missing")
                axis = (name, 1.0 if unit is None else units.factor(unit, AXES[name]))
            else:
                columns.append((name, *_factor(unit, name)))
        except ValueError as error:
            expected = "time [h], volume [mL] or bed_volumes" if place == 0 else "La [mg/L] or La"
            problems.append(
                Problem(message=str(error), file=file, key="header", value=cell, expected=expected)
            )
    names = [name for name, _, _ in columns]
    if len(set(names)) < len(names) or not names:
        problems.append(
            Problem(
                message="a component twice" if names else "no component",
                file=file,
                key="header",
                expected="one column for each component measured",
            )
        )
    return axis, columns, problems


def _factor(unit: str | None, name: str) -> tuple[float, bool]:
    """The SI factor of a column, and whether it is over the feed."""
    if unit is None or unit.strip() in ("1", "%"):
        return 1e-2 if unit is not None and unit.strip() == "%" else 1.0, True
    try:
        return units.factor(unit, "mol/m^3"), False
    except ValueError:
        if name not in CHARGES:
            raise
    return units.factor(unit, "kg/m^3") / molar_mass(name), False


def _numbers(
    row: Sequence[str], header: Sequence[str], number: int, file: str, problems: list[Problem]
) -> list[float]:
    """A row; NaN for a component that was not measured there."""
    found = []
    for place, cell in enumerate(row):
        if place and not cell.strip():
            found.append(float("nan"))
            continue
        try:
            value = float(cell)
            if not np.isfinite(value) or (place == 0 and value < 0):
                raise ValueError
        except ValueError:
            value = float("nan")
            problems.append(
                Problem(
                    message="not a number that can stand here",
                    file=file,
                    key=f"row {number}, {header[place].strip()}",
                    value=cell,
                    expected="a finite number"
                    + (", zero or more" if place == 0 else ", or nothing"),
                )
            )
        found.append(value)
    return found
