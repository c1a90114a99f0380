"""Separation factors from a data set as relative extractabilities of a list of elements."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from sepmodel.data import Book
from sepmodel.errors import InputError, Problem

# Pairs that close a ring agree within rounding of what people write into a file.
_AGREE = 1e-3


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
    pairs = [name for name in book.names(set_id) if name.count("/") == 1]
    return _along(pairs, names, lambda pair: _factor(book, set_id, pair), set_id)


def chained(pairs: Mapping[str, float], names: Sequence[str]) -> NDArray[np.float64]:
    """The same from pairs ``"Nd/Pr" = D(Nd)/D(Pr)`` given outright; they must agree.

    >>> chained({"Gd/Eu": 1.4, "Eu/Sm": 2.0}, ["Gd", "Eu", "Sm"]).tolist()
    [2.8, 2.0, 1.0]
    """
    found = _along(list(pairs), names, pairs.__getitem__, "the case")
    place = {name: i for i, name in enumerate(names)}
    for pair, given in pairs.items():
        heavy, _, light = pair.partition("/")
        if heavy not in place or light not in place:
            continue
        implied = float(found[place[heavy]] / found[place[light]])
        if not math.isclose(implied, given, rel_tol=_AGREE):
            raise InputError(
                Problem(
                    message="the separation factors of the case contradict one another",
                    key=f"separation_factors.{pair}",
                    value=given,
                    expected=f"{implied:.6g}, which the other pairs say, or one of them less",
                )
            )
    return found


def _along(
    pairs: Sequence[str], names: Sequence[str], value: Callable[[str], float], where: str
) -> NDArray[np.float64]:
    """Extractabilities along the chains of pairs that join all of ``names`` to the first."""
    first = names[0]
    route = _chains(tuple(pairs), first)
    unknown = [name for name in names if name not in route]
    if unknown:
        raise InputError(
            Problem(
                message=f"the separation factors of {where} do not join {first} and "
                + ", ".join(unknown),
                key="separation_factors",
                value=", ".join(pairs),
                expected=f"pairs that join all of {', '.join(names)}",
            )
        )
    logs = {name: sum(sign * math.log(value(pair)) for pair, sign in route[name]) for name in names}
    least = min(logs.values())
    # Fifteen digits: a chain of logarithms must not turn 1.4 into 1.4000000000000001.
    return np.array([float(f"{math.exp(logs[name] - least):.15g}") for name in names])


@lru_cache(maxsize=64)
def _chains(pairs: tuple[str, ...], first: str) -> Mapping[str, tuple[tuple[str, int], ...]]:
    """By name, the pairs that lead to it from the first, each up or down; the shortest chain."""
    route: dict[str, tuple[tuple[str, int], ...]] = {first: ()}
    waiting = [first]
    while waiting:
        here = waiting.pop(0)
        for pair in pairs:
            heavy, _, light = pair.partition("/")
            for start, end, sign in ((heavy, light, -1), (light, heavy, 1)):
                if start == here and end not in route:
                    route[end] = (*route[here], (pair, sign))
                    waiting.append(end)
    return MappingProxyType(route)


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
