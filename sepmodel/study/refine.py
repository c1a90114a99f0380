"""Where a grid deserves more points: between neighbours that differ too much."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from sepmodel.study.plan import Levels, Plan
from sepmodel.study.store import SOLVED, Outcome


def between(plan: Plan, found: Mapping[str, Outcome]) -> list[tuple[Any, ...]]:
    """Points half way between neighbours of the grid that differ.

    Two points are neighbours along an axis when all their other coordinates agree and nothing lies
    between them. They differ when one was solved and the other was not, when a specification is met
    by one of them only, or when an answer (the specified ones, if any) changes by more than
    ``sweep.change`` of its span over the grid. Only grids without a sample are refined.
    """
    if plan.size != 1 or not plan.axes:
        return []
    outcomes = {
        point: found.get(job.id) for point, job in zip(plan.grid, plan.members, strict=True)
    }
    watched = [a for a in plan.answers if a.specified] or list(plan.answers)
    spans = {}
    for answer in watched:
        values = [o.answers.get(answer.name) for o in outcomes.values() if o is not None]
        known = [v for v in values if v is not None]
        spans[answer.name] = max(known) - min(known) if known else 0.0

    def differ(one: Outcome | None, other: Outcome | None) -> bool:
        if one is None or other is None or (one.status == SOLVED) != (other.status == SOLVED):
            return True
        if one.status != SOLVED:
            return False
        for answer in watched:
            a, b = one.answers.get(answer.name), other.answers.get(answer.name)
            if (a is None) != (b is None):
                return True
            if a is None or b is None:
                continue
            if any(
                (a >= limit) != (b >= limit)
                for limit in (answer.at_least, answer.at_most)
                if limit is not None
            ):
                return True
            if not answer.specified and abs(a - b) > plan.sweep.change * spans[answer.name]:
                return True
        return False

    more: dict[tuple[Any, ...], None] = {}
    for place, axis in enumerate(plan.axes):
        lines: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
        for point in plan.grid:
            if not math.isnan(axis.number(point[place])):
                lines.setdefault((*point[:place], *point[place + 1 :]), []).append(point)
        for line in lines.values():
            line.sort(key=lambda point: axis.number(point[place]))
            for left, right in pairwise(line):
                middle = _middle(axis, left[place], right[place])
                if middle is not None and differ(outcomes[left], outcomes[right]):
                    more[(*left[:place], middle, *left[place + 1 :])] = None
    room = plan.sweep.most - len(plan.grid)
    return [point for point in more if point not in outcomes][: max(room, 0)]


def _middle(axis: Levels, left: Any, right: Any) -> Any:
    """A value half way between two of an axis, written as they are; None if there is none."""
    a, b = axis.number(left), axis.number(right)
    if isinstance(left, int) and isinstance(right, int):
        whole = (left + right) // 2
        return whole if whole not in (left, right) else None
    half = float(f"{(a + b) / 2:.15g}")
    if half in (a, b):
        return None
    if isinstance(left, str):
        one, other = left.split(maxsplit=1)[1:], str(right).split(maxsplit=1)[1:]
        return " ".join([f"{half:.15g}", *one]) if one == other else None
    return half
