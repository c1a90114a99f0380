"""What a fit is worth out of sample: data it has not seen, predicted from the rest.

Two questions: a solvent and liquor of a laboratory nobody fitted (leave one laboratory out), and an
acidity nobody fitted (leave one acidity out, within a laboratory).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry import exchange_set
from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.study import shakeout
from sepmodel.study.fit import Fit, fit
from sepmodel.study.fit_model import Forward, Options, predict
from sepmodel.study.shakeout import ShakeOuts

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """How well the other laboratories predict one: bias and rms of log10 D of an element."""

    laboratory: str
    element: str
    points: int
    bias: float
    rms: float


def leave_one_laboratory_out(
    table: ShakeOuts, options: Options | None = None, *, book: Book | None = None
) -> list[LeftOut]:
    """Predict every laboratory from the others, at the mean level of those others.

    Elements no other laboratory measured are left out of the answer: nothing predicts them.
    """
    book = book or Book()
    options = _settled(options, book)
    result = []
    for name in table.laboratories:
        mine = np.array([lab == name for lab in table.laboratory])
        others = table.rows(~mine & table.used)
        if not len(others):
            continue
        known = fit(others, options, book=book).log_k
        common = np.array([e in known for e in table.elements])
        rows = mine & table.used & np.all((table.feed <= 0) | common, axis=1)
        if not rows.any():
            continue
        target = table.rows(rows)
        error = _errors(target, known, options, book)
        for i, element in enumerate(target.elements):
            some = error[np.isfinite(error[:, i]), i]
            if len(some):
                result.append(
                    LeftOut(
                        laboratory=name,
                        element=element,
                        points=len(some),
                        bias=float(some.mean()),
                        rms=float(np.sqrt((some**2).mean())),
                    )
                )
    return result


def leave_one_acidity_out(
    table: ShakeOuts,
    options: Options | None = None,
    *,
    least_extracted: float = 0.0,
    book: Book | None = None,
) -> dict[str, tuple[int, float]]:
    """Points and rms error of log10 D of each element, every feed acidity predicted from the rest.

    Rows of one metal only, one element at a time; rows in which less than ``least_extracted`` of
    the metal was extracted are predicted but not counted.
    """
    book = book or Book()
    options = _settled(options, book)
    result = {}
    for i, element in enumerate(table.elements):
        single = (table.feed[:, i] > 0) & ((table.feed > 0).sum(axis=1) == 1) & table.used
        own = table.rows(single) if single.any() else None
        if own is None or len(np.unique(own.acid)) < 2:
            continue
        found = []
        for acid in np.unique(own.acid):
            known = fit(own.rows(own.acid != acid), options, book=book).log_k
            target = own.rows(own.acid == acid)
            error = _errors(target, known, options, book)[:, 0]
            counted = np.isfinite(error) & (target.extracted[:, 0] > least_extracted)
            found += error[counted].tolist()
        if found:
            result[element] = (len(found), float(np.sqrt(np.mean(np.square(found)))))
    return result


def _settled(options: Options | None, book: Book) -> Options:
    """Options with the analytical error filled in."""
    options = options or Options()
    if options.relative_error is None:
        return replace(options, relative_error=book["fit/defaults:relative_error"])
    return options


def _errors(target: ShakeOuts, known: Mapping[str, float], options: Options, book: Book) -> Array:
    """log10 D predicted minus measured (N, E) with constants fitted elsewhere, at no level."""
    nameless = replace(target, laboratory=("",) * len(target))
    forward = Forward.build(nameless, options, book)
    predicted = predict(forward, np.array([known[e] for e in target.elements]))["log_d"]
    measured = target.distribution_ratio
    error: Array = predicted - np.log10(np.where(measured > 0, measured, np.nan))
    return error


@lru_cache(maxsize=8)
def _left_out(table: str, activity: str) -> tuple[LeftOut, ...]:
    options = Options(activity=activity, loss="soft_l1")
    return tuple(leave_one_laboratory_out(shakeout.read(table), options))


@lru_cache(maxsize=8)
def _acid_left_out(table: str, activity: str) -> dict[str, tuple[int, float]]:
    options = Options(activity=activity, loss="soft_l1", offsets=False)
    return leave_one_acidity_out(shakeout.read(table), options, least_extracted=0.1)


def left_out_rms(
    laboratory: str, element: str, activity: str = "ideal", table: str = "nd-pr-pc88a"
) -> float:
    """rms error of log10 D of an element of a laboratory, predicted by a fit without it.

    ``laboratory`` "all" with element "all": pooled over every point of every laboratory.
    """
    rows = _left_out(table, activity)
    if (laboratory, element) == ("all", "all"):
        squares = sum(row.points * row.rms**2 for row in rows)
        return float(np.sqrt(squares / sum(row.points for row in rows)))
    for row in rows:
        if (row.laboratory, row.element) == (laboratory, element):
            return row.rms
    raise InputError(
        Problem(message="no such laboratory and element", value=f"{laboratory}, {element}")
    )


def acid_left_out_rms(element: str, activity: str, table: str = "li1987-pc88a") -> float:
    """rms error of log10 D of an element (or "all") where its feed acidity was not fitted.

    Rows with more than 10 % extracted.
    """
    found = _acid_left_out(table, activity)
    if element == "all":
        squares = sum(n * rms**2 for n, rms in found.values())
        return float(np.sqrt(squares / sum(n for n, _ in found.values())))
    if element not in found:
        raise InputError(Problem(message="no such element", value=element))
    return found[element][1]


def soap_shift(found: Fit, *, book: Book | None = None) -> dict[str, tuple[float, float]]:
    """What the range of the soap's unmeasured constant does to each log10 K: lowest, highest shift.

    Empty where no row used is saponified. Refits with the constant at the ends of its range.
    """
    if not np.any(found.table.saponification[found.table.used] > 0):
        return {}
    book = book or Book()
    key, _ = exchange_set.soap_keys(found.options.counter_ion, book, found.options.activity)
    book[key]
    shifts = {element: [0.0] for element in found.table.elements}
    for end in book.used[key].si_range:
        moved = fit(found.table, found.options, book=book.with_values({key: end})).log_k
        for element, value in moved.items():
            shifts[element].append(value - found.log_k[element])
    return {element: (min(values), max(values)) for element, values in shifts.items()}
