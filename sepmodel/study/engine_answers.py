"""Answers of the transport engine to what the routes of a comparison rest on.

An answer is looked up by the content of its question (feed, products, options, constants): first
among those of earlier runs, which also depend on code and data, then among those shipped for the
studies of the models folder. What is in neither is computed where that is asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any

from sepmodel import data
from sepmodel.plant.compare import Comparison
from sepmodel.plant.engine_check import Check, Checked, from_dict, run_check
from sepmodel.study import cache

SHIPPED = "engine/answers.json"
"""Where answers to the shipped studies are, under the models folder."""


def checks(comparison: Comparison) -> dict[str, tuple[Check, ...]]:
    """What the column units of every route can be asked on the engine, by route."""
    found = {}
    for result in comparison.routes:
        units = result.sheet.units.values() if result.sheet else ()
        here = tuple(check for unit in units for check in unit.result.checks)
        if here:
            found[result.route.name] = here
    return found


def answered(
    comparison: Comparison,
    *,
    run: bool,
    progress: Callable[[str, int, int], None] | None = None,
) -> Comparison:
    """The comparison with the engine's answers that are known, or, with ``run``, with all.

    ``progress`` is called with a text, the answers so far and all that are to be computed.
    """
    shipped, kept = shipped_answers(), cache.Cache(cache.folder())
    asked = checks(comparison)
    found: dict[str, list[Checked | None]] = {}
    waiting: list[tuple[str, int, Check]] = []
    for route, those in asked.items():
        found[route] = [known(check, kept, shipped) for check in those]
        waiting += [(route, k, c) for k, c in enumerate(those) if found[route][k] is None]
    if run:
        for done, (route, k, check) in enumerate(waiting):
            if progress is not None:
                progress(f"{route}: {check.unit} on the transport engine", done, len(waiting))
            answer = run_check(check)
            found[route][k] = answer
            kept.put(_kept_key(check), asdict(answer))
    return replace(comparison, engine={route: tuple(those) for route, those in found.items()})


def known(check: Check, kept: cache.Cache, shipped: Mapping[str, Any]) -> Checked | None:
    """The answer to a check that somebody computed before; None where nobody did."""
    for entry, origin in (
        ((kept.get(_kept_key(check)) or ({}, {}))[0], "kept"),
        (shipped.get(key(check), {}), "shipped"),
    ):
        try:
            return from_dict(entry, unit=check.unit, origin=origin)
        except (KeyError, TypeError):
            continue
    return None


def key(check: Check) -> str:
    """SHA-256 of a question."""
    return cache.hashed(check.question())


def _kept_key(check: Check) -> str:
    return cache.key({"engine": check.question()})


def shipped_answers() -> dict[str, Any]:
    """The shipped answers by the key of their question; none where the file cannot be read."""
    path = data.models_dir() / SHIPPED
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["answers"]
        return {str(k): v for k, v in entries.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
