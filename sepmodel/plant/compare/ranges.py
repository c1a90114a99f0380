"""The ranges of a route's figures from the ranges of the constants they rest on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from sepmodel.data import Book, Constant
from sepmodel.plant.compare.evaluation import (
    Case,
    End,
    State,
    end_figures,
    evaluate_study,
    solved_circuits,
)
from sepmodel.plant.flowsheet import NotKeptError


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Range:
    """A figure with 5 % and 95 % of its members (``low, high``), their mean and median (SI)."""

    value: float
    low: float
    high: float
    mean: float
    median: float


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Swing:
    """How one constant moves a figure: its value at the low and at the high end of the constant."""

    key: str
    low: float
    high: float


def moved(
    case: Case,
    book: Book,
    base: State,
    ranged: Mapping[str, Constant],
    workers: int,
    progress: Callable[[str, int, int], None] | None,
) -> dict[str, tuple[End, End]]:
    """The study at the low and at the high end of every constant, one at a time."""
    keys = list(ranged)
    found: dict[str, tuple[End, End]] = {}

    def take(part: Mapping[str, tuple[End, End]]) -> None:
        found.update(part)
        if progress:
            progress("moving every constant through its range", len(found), len(keys))

    clean = replace(book, used={})
    case = replace(case, solved=solved_circuits(base))
    # What the ends of most constants are compared with: designed once, for all processes.
    near = evaluate_study(replace(case, exact=False), clean, None, frozenset()) if keys else base
    work = partial(_at_ends, case, clean, base, near)
    parts = 8 * max(workers, 2)
    chunks = [chunk for chunk in (tuple(keys[k::parts]) for k in range(parts)) if chunk]
    if workers <= 1 or len(chunks) < parts:
        for part in map(work, chunks):
            take(part)
    else:
        from concurrent.futures import ProcessPoolExecutor

        with ProcessPoolExecutor(max_workers=workers) as pool:
            for part in pool.map(work, chunks):
                take(part)
    return {key: found[key] for key in keys}


def _at_ends(
    case: Case, book: Book, base: State, near: State, keys: Sequence[str]
) -> dict[str, tuple[End, End]]:
    """Figures of all routes with each of ``keys`` at its low and at its high end.

    An end that asks for a train of extraction circuits not designed yet is reckoned from trains
    designed by marching alone, as those of ``near``: the base times what marching says the constant
    does to it.
    """
    kept = replace(case, memo=case.memo.limited_to_kept("train"))
    marched = replace(case, exact=False)
    found: dict[str, tuple[End, End]] = {}
    for key in keys:
        ends: list[End] = []
        for value in book.constant(key).si_range:
            at = book.with_values({key: value})
            changed = frozenset((key,))
            try:
                ends.append(end_figures(evaluate_study(kept, at, base, changed)))
            except NotKeptError:
                end = end_figures(evaluate_study(marched, at, near, changed))
                ends.append(_carried(end, end_figures(near), end_figures(base)))
        found[key] = (ends[0], ends[1])
    return found


def _carried(end: End, near: End, base: End) -> End:
    """What ``end`` is to ``near``, applied to ``base``: by ratio, by difference where near is 0."""
    found: dict[str, Mapping[str, float] | None] = {}
    for name, figures_ in end.items():
        beside, own = near.get(name), base.get(name)
        if figures_ is None or beside is None or own is None:
            found[name] = None
            continue
        found[name] = {
            k: own[k] * (value / beside[k]) if beside[k] > 0 else own[k] + value - beside[k]
            for k, value in figures_.items()
        }
    return found
