"""Separation factors from a data set as relative extractabilities of a list of elements."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sepmodel.data import Book
from sepmodel.errors import InputError, Problem


def extractabilities(book: Book, set_id: str, names: Sequence[str]) -> NDArray[np.float64]:
    """Relative extractability a of each element, the least of them 1, shape (C,).

    A set of separation factors holds pairs ``"Nd/Pr"`` = D(Nd)/D(Pr); a pair that is not in the
    set is the product along the chain of pairs that joins it. Only the pairs on those chains are
    read. One data set is one activity basis and one extractant: sets are never combined here.

    Raises
    ------
    InputError
        when the set does not join all of the elements.

    >>> extractabilities(Book(), "separation_factors/pc88a-hcl", ["Pr", "Nd"])
    array([1. , 1.4])
    """
    pairs = [tuple(name.split("/")) for name in book.names(set_id) if name.count("/") == 1]
    first = names[0]
    route: dict[str, tuple[tuple[str, int], ...]] = {first: ()}
    waiting = [first]
    while waiting:
        here = waiting.pop(0)
        for heavy, light in pairs:
            for start, end, sign in ((heavy, light, -1), (light, heavy, 1)):
                if start == here and end not in route:
                    route[end] = (*route[here], (f"{heavy}/{light}", sign))
                    waiting.append(end)
    unknown = [name for name in names if name not in route]
    if unknown:
        raise InputError(
            Problem(
                message=f"the separation factors of {set_id} do not join {first} and "
                + ", ".join(unknown),
                key="set",
                value=set_id,
                expected=f"pairs that join all of {', '.join(names)}",
            )
        )
    logs = {
        name: sum(sign * math.log(_factor(book, set_id, pair)) for pair, sign in route[name])
        for name in names
    }
    least = min(logs.values())
    # Fifteen digits: a chain of logarithms must not turn 1.4 into 1.4000000000000001.
    return np.array([float(f"{math.exp(logs[name] - least):.15g}") for name in names])


def _factor(book: Book, set_id: str, pair: str) -> float:
    """One separation factor, which must be positive."""
    value = book[f"{set_id}:{pair}"]
    if not value > 0:
        raise InputError(
            Problem(
                message="a separation factor is not positive",
                key=f"{set_id}:{pair}",
                value=value,
                expected="a number above 0",
            )
        )
    return value
