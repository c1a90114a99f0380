"""What else is wrong with a case file of which something is known to be wrong.

A file that is no case yet cannot be judged as a whole. So what is wrong is taken out of it, or
something harmless put in its place, and the rest is looked at, as often as that finds more. What
only follows from taking it out is not told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

from sepmodel import fields
from sepmodel.data import Book
from sepmodel.errors import InputError, Problem, SepmodelError
from sepmodel.extraction.dynamics import solve
from sepmodel.extraction.dynamics.inputs import DynamicCircuitCase, DynamicMassFlowCase

# Members of these can be left out: nothing else refers to them.
LISTS = ("event", "disturbance", "outage", "specification", "controller")
# Tables of what happens to a train and not of the train.
OWN = ("holdup", "start", "time", "modes")
# What stands in for a wrong table, and for wrong values that a case must have.
TABLES: dict[str, dict[str, Any]] = {"holdup": {"mixer": "1 h"}, "time": {"end": "1 h"}}
VALUES: dict[str, Any] = {
    "flow": "1 L/h",
    "extractant": "1 mol/L",
    "stages": 64,
    "stage": 1,
    "section": "extraction",
}
ROUNDS = 8
_NUMBERED = re.compile(rf"\b({'|'.join(LISTS)}|start\.profile)\.(\d+)")


@dataclass(slots=True)
class _Rest:
    """A document without what is wrong: its tables, which members of lists it kept, whether its
    train is the file's own, what was taken out of tables, and the tables with an unknown key."""

    document: dict[str, Any]
    kept: dict[str, list[int]]
    sound: bool
    gone: list[str]
    misspelt: list[str]


def further(
    model: type[fields.Case], document: Mapping[str, Any], known: Sequence[Problem]
) -> list[Problem]:
    """Problems of a document beside the ``known`` ones, which keep it from being a case."""
    told = list(known)
    for _ in range(ROUNDS):
        rest = _without(document, told)
        if rest is None:
            break
        seen = [(problem, _named(document, problem.key)) for problem in _looked_at(model, rest)]
        new = [problem for problem, key in seen if _of_its_own(problem, key, rest, told)]
        if not new:
            break
        told += new
    return told[len(known) :]


def _looked_at(model: type[fields.Case], rest: _Rest) -> list[Problem]:
    """What is wrong with the rest, by the numbers that the file counts with."""
    try:
        solve.examine(_timed(fields.validate(model, rest.document)), Book(), sound=rest.sound)
    except InputError as error:
        return [
            replace(p, key=_numbered(p.key, rest), message=_numbered(p.message, rest))
            for p in error.problems
        ]
    except SepmodelError:
        # Infeasible or not solved: said when nothing else is wrong.
        return []
    return []


def _timed(case: fields.Case) -> solve.DynamicCase:
    assert isinstance(case, DynamicMassFlowCase | DynamicCircuitCase)
    return case


def _numbered(text: str, rest: _Rest) -> str:
    """A text with the numbers of the file for those of the rest."""

    def number(found: re.Match[str]) -> str:
        kept = rest.kept.get(found[1])
        return found[0] if kept is None else f"{found[1]}.{kept[int(found[2])]}"

    return _NUMBERED.sub(number, text)


def _of_its_own(problem: Problem, key: str, rest: _Rest, told: Sequence[Problem]) -> bool:
    """Whether a problem is news, and none that only comes of what was taken out; ``key`` by
    names."""
    if any((p.key, p.message) == (problem.key, problem.message) for p in told):
        return False
    # What a table lacks is what the unknown key in it was meant for.
    if (
        problem.value is None
        and rest.misspelt
        and (key in rest.misspelt or key.rpartition(".")[0] in rest.misspelt)
    ):
        return False
    for path in rest.gone:
        if _inside(key, path) or _inside(path, key):
            return False
        if str(problem.value) == path or problem.expected.startswith(f"{path}:"):
            return False
    return True


def _inside(key: str, table: str) -> bool:
    return bool(table) and (key == table or key.startswith(f"{table}."))


def _without(document: Mapping[str, Any], told: Sequence[Problem]) -> _Rest | None:
    """The document without what is wrong; None where what is wrong cannot be missed."""
    rest = _Rest(document=deepcopy(dict(document)), kept={}, sound=True, gone=[], misspelt=[])
    dropped: dict[str, set[int]] = {}
    for problem in told:
        parts = problem.key.split(".")
        listed = _NUMBERED.match(problem.key)
        if listed:
            dropped.setdefault(listed[1], set()).add(int(listed[2]))
        elif problem.message.startswith("unknown key"):
            if _pop(rest.document, parts):
                if len(parts) > 1:
                    rest.misspelt.append(_named(document, ".".join(parts[:-1])))
                # What it was meant for has not its value.
                rest.sound = rest.sound and (len(parts) == 1 or parts[0] in OWN)
        elif not _mended(rest, document, parts):
            return None
    for name in (*LISTS, "start.profile"):
        *above, last = name.split(".")
        owner = rest.document.get(above[0]) if above else rest.document
        members = owner.get(last) if isinstance(owner, dict) else None
        if not (isinstance(owner, dict) and isinstance(members, list)):
            continue
        rest.kept[name] = [i for i in range(len(members)) if i not in dropped.get(name, ())]
        owner[last] = [members[i] for i in rest.kept[name]]
        if name == "specification" and members and not owner[last]:
            # A search for a policy wants one.
            rest.gone.append("start.find")
    return rest


def _mended(rest: _Rest, document: Mapping[str, Any], parts: list[str]) -> bool:
    """Take a wrong value out, or put another in its place; whether that could be done."""
    first, key = parts[0], ".".join(parts)
    if first in LISTS or first == "modes":
        # Not a list or table at all.
        rest.document.pop(first, None)
    elif first == "holdup":
        rest.document[first] = dict(TABLES[first])
        rest.gone.append(first)
    elif first == "time" and len(parts) > 1 and parts[1] != "end":
        rest.gone.append(key)
        return _pop(rest.document, parts)
    elif first in ("start", "time"):
        # A policy ends before the run does, and how it lasts depends on how it is led.
        start = rest.document.get("start")
        start = start if isinstance(start, dict) else {}
        wrong = [name for name in start if name not in ("fill", "profile") or name in parts]
        rest.gone += [f"start.{name}" for name in wrong]
        rest.document["start"] = {n: value for n, value in start.items() if n not in wrong}
        if first == "time":
            rest.document[first] = dict(TABLES[first])
            rest.gone.append(first)
    elif len(parts) == 1:
        return False
    else:
        rest.gone.append(_named(document, key))
        rest.sound = False
        stands = VALUES.get(parts[-1])
        if first == "mass_flow":
            components = document.get("components")
            alike = [str(name) for name in components] if isinstance(components, list) else []
            stands = {"separation_factors": dict.fromkeys(alike, 1.0)}.get(parts[1])
            parts = parts[:2]
        if stands is not None and not (first == "inlet" and "mass_flow" in rest.document):
            return _put(rest.document, parts, stands)
        return _pop(rest.document, parts)
    return True


def _at(document: Any, parts: Sequence[str]) -> Any:
    """What stands at a path, members of lists by number or name; None where nothing does."""
    for part in parts:
        if isinstance(document, list):
            names = [m.get("name") if isinstance(m, dict) else None for m in document]
            number = int(part) if part.isdecimal() else names.index(part) if part in names else -1
            document = document[number] if 0 <= number < len(document) else None
        else:
            document = document.get(part) if isinstance(document, dict) else None
    return document


def _pop(document: dict[str, Any], parts: Sequence[str]) -> bool:
    table = _at(document, parts[:-1])
    if not isinstance(table, dict) or parts[-1] not in table:
        return False
    del table[parts[-1]]
    return True


def _put(document: dict[str, Any], parts: Sequence[str], value: Any) -> bool:
    table = _at(document, parts[:-1])
    if not isinstance(table, dict):
        return False
    table[parts[-1]] = value
    return True


def _named(document: Mapping[str, Any], key: str) -> str:
    """A key with members of lists by their names, as paths of settings have them."""
    parts = key.split(".")
    for i, part in enumerate(parts):
        if part.isdecimal():
            member = _at(document, parts[: i + 1])
            name = member.get("name") if isinstance(member, dict) else None
            parts[i] = name if isinstance(name, str) else part
    return ".".join(parts)
