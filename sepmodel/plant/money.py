"""Money of one year: which year a price set speaks, and how a cost is carried to it."""

from __future__ import annotations

import os
from functools import lru_cache

from sepmodel import units
from sepmodel.data import Book, load_set
from sepmodel.errors import InputError, Problem

PRICES = "prices/reagents-us-2025"
INDEX = "equipment/cepci"


def money_year(set_id: str = PRICES) -> int:
    """The year of the money in which a price set is written; InputError when it mixes years.

    >>> money_year("prices/china-2025")
    2025
    """
    return _year(set_id, os.getcwd())


@lru_cache(maxsize=64)
def _year(set_id: str, _: str) -> int:
    """Year of a set as it is found from a folder: the user's ./models stand before the shipped."""
    years = {units.money_year(constant.unit) for constant in load_set(set_id).values()}
    if len(years) != 1 or None in years:
        raise InputError(
            Problem(
                message="a price set is written in money of one currency and year",
                key=set_id,
                value=sorted(map(str, years)),
            )
        )
    return next(year for _, year in filter(None, years))


def index_ratio(of: int, to: int, book: Book) -> float:
    """Plant cost index of year ``to`` over that of year ``of``: I(to) / I(of).

    Source: equipment/cepci.

    >>> round(index_ratio(2016, 2022, Book()), 4)
    1.5064
    """
    if of == to:
        return 1.0
    known = book.names(INDEX)
    for year in (of, to):
        if str(year) not in known:
            raise InputError(
                Problem(
                    message="no plant cost index for this year",
                    value=year,
                    expected=f"one of {', '.join(sorted(known))}",
                )
            )
    return book[f"{INDEX}:{to}"] / book[f"{INDEX}:{of}"]


def in_money_of(key: str, year: int, book: Book) -> float:
    """A cost constant in money of ``year``, carried by the plant cost index when it is older."""
    stated = units.money_year(book.constant(key).unit)
    if stated is None:
        raise InputError(Problem(message="this constant is not a cost", value=key))
    return book[key] * index_ratio(stated[1], year, book)
