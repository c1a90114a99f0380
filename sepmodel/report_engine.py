"""What the transport engine says of the column routes of a comparison, beside their shortcut."""

from __future__ import annotations

from typing import Any

from sepmodel.plant.compare import Comparison, RouteResult
from sepmodel.plant.engine_check import Checked

NOT_RUN = "not run"
# Purities below it stand for none asked.
_NO_PURITY = 1e-6
_ORIGINS = {
    "run now": "computed now",
    "kept": "computed earlier, same data and program",
    "shipped": "shipped with the study, same question and constants",
}


def asked(result: RouteResult) -> bool:
    """Whether a route has column units the engine can be asked about."""
    return result.sheet is not None and any(u.result.checks for u in result.sheet.units.values())


def cell(comparison: Comparison, result: RouteResult) -> str:
    """A route in the row of the table: whether the engine confirms its columns."""
    if not asked(result):
        return "-"
    answers = comparison.engine.get(result.route.name, ())
    known = [a for a in answers if a is not None]
    if len(known) < len(answers) or not known:
        return NOT_RUN
    if all(a.meets for a in known):
        return "confirmed"
    short = [p.name for a in known for p in a.products if p.short]
    more = f" +{len(short) - 1}" if len(short) > 1 else ""
    return f"short: {short[0]}{more}" if short else "fails"


def sentences(comparison: Comparison) -> list[str]:
    """What the engine confirms, and what it was not asked; ``shortfalls`` has the rest."""
    said = []
    for result in comparison.routes:
        if not asked(result):
            continue
        answers = comparison.engine.get(result.route.name, ())
        known = [a for a in answers if a is not None]
        if not known:
            said.append(
                f"{result.route.title}: its columns come from a shortcut and were not run on the "
                "transport engine (sepmodel compare --engine does that)."
            )
        said += [f"{result.route.title}: {_answer(a)}" for a in known if a.meets]
    return said


def refuted(comparison: Comparison) -> list[tuple[str, Checked]]:
    """Titles of the routes whose columns miss on the transport engine, with the answers."""
    return [
        (result.route.title, answer)
        for result in comparison.routes
        for answer in comparison.engine.get(result.route.name, ())
        if answer is not None and not answer.meets
    ]


def shortfalls(comparison: Comparison) -> list[str]:
    """The answers that say less than the shortcut promised, for the headlines."""
    return [
        f"{title}: {_answer(answer)} Its figures here are those of a plant that would miss."
        for title, answer in refuted(comparison)
    ]


def _answer(answer: Checked) -> str:
    if answer.failure:
        return f"on the transport engine the columns fail: {answer.failure}."
    figures = ", ".join(
        f"{p.name} {_percent(p.purity_engine)} / {100 * p.recovery_engine:.1f}"
        for p in answer.products
    )
    short = [p.name for p in answer.products if p.short]
    verdict = (
        f"{', '.join(short)} less than asked"
        if short
        else "every product at least what the columns are asked for"
    )
    return (
        f"on the transport engine the columns give {figures} (purity / recovery, %), at most "
        f"{100 * answer.difference:.2g} points from the shortcut; {verdict}."
    )


def _percent(purity: float) -> str:
    """A purity; "-" where none was asked, or none is of interest."""
    return f"{100 * purity:.2f}" if purity > _NO_PURITY else "-"


def rows(comparison: Comparison) -> list[list[str]]:
    """Rows of the page's table: route and product, purities and recoveries, where from."""
    found = []
    for result in comparison.routes:
        for answer in comparison.engine.get(result.route.name, ()):
            if answer is None:
                continue
            origin = _ORIGINS.get(answer.origin, answer.origin)
            if answer.failure:
                found.append([f"{result.route.title}: {answer.failure}", *[""] * 6, origin])
            for p in answer.products:
                found.append(
                    [
                        f"{result.route.title}: {p.name}",
                        _percent(p.purity_asked),
                        _percent(p.purity_design),
                        _percent(p.purity_engine),
                        f"{100 * p.recovery_asked:.2f}",
                        f"{100 * p.recovery_design:.2f}",
                        f"{100 * p.recovery_engine:.2f}",
                        origin,
                    ]
                )
    return found


def page(comparison: Comparison) -> dict[str, Any]:
    """What the page's section asks for: rows, and the routes that were not run."""
    waiting = [
        r.route.title for r in comparison.routes if asked(r) and cell(comparison, r) == NOT_RUN
    ]
    return {"rows": rows(comparison), "waiting": waiting}
