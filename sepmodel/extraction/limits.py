"""Named warnings about the state of a solvent: what was never measured, what is feared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sepmodel.data import Book
from sepmodel.errors import Problem
from sepmodel.extraction.shake import Solvent
from sepmodel.result import Warned
from sepmodel.units import to

Array = NDArray[np.float64]
_LIMITS = "extractants/pc88a"
_IMPURITIES = "extractants/impurities-pc88a"
_DEFAULTS = "extractants/circuit-defaults"
_STRONGEST = {
    "rare earths": "saturated_rare_earth",
    "acid": "strongest_acid",
    "base": "strongest_base",
    "sodium": "saturated_sodium",
}


class _Curve(Protocol):
    @property
    def components(self) -> tuple[str, ...]: ...
    @property
    def loading(self) -> Array: ...
    @property
    def conc_org(self) -> Array: ...
    @property
    def pH(self) -> Array: ...


def impossible(
    amounts: Iterable[tuple[str, str, float]], book: Book, extractant: str = ""
) -> list[Problem]:
    """One problem for each concentration that no liquor and no solvent can have.

    Parameters
    ----------
    amounts
        kind ("rare earths", "acid", "base", "sodium" or "extractant"), key in the file and
        concentration [mol/m3]; a liquor holds no more than water dissolves or commerce sells, a
        solvent no more extractant than the pure liquid.
    extractant
        data set with its density and molar mass; PC88A where none is named: other extractants of
        its family are about as dense and as heavy.

    >>> (one,) = impossible([("acid", "feed.acid", 30e3), ("acid", "scrub.acid", 6e3)], Book())
    >>> one.key, one.value, one.expected
    ('feed.acid', '30 mol/L', 'at most 12.1 mol/L')
    """
    problems = []
    chosen = extractant or _LIMITS
    for kind, key, value in amounts:
        if not value > 0:
            continue
        if kind == "extractant":
            if f"{chosen}:density" not in book:
                chosen = _LIMITS
            most = book[f"{chosen}:density"] / book[f"{chosen}:molar_mass"]
            message = "more extractant than the pure liquid holds"
        else:
            most = book[f"{_DEFAULTS}:{_STRONGEST[kind]}"]
            message = f"no liquor holds so much of {kind}"
        if value > most:
            problems.append(
                Problem(
                    message=f"impossible-concentration: {message}",
                    key=key,
                    value=f"{to(value, 'mol/L'):.4g} mol/L",
                    expected=f"at most {to(most, 'mol/L'):.3g} mol/L",
                )
            )
    return problems


def state_warnings(
    curve: _Curve, solvent: Solvent, book: Book, *, phase_ratio: float = 1.0
) -> list[Warned]:
    """Warnings about a curve: loading, polymers, third phase, gel, phase ratio, iron, aluminium.

    Limits and their sources are in ``extractants/pc88a`` and ``extractants/circuit-defaults``; they
    were collected for PC88A and are applied to the other acids for want of better.
    """
    found = [*loading_warnings(float(np.max(curve.loading)), solvent, book)]
    low = book["extractants/circuit-defaults:phase_ratio_low"]
    high = book["extractants/circuit-defaults:phase_ratio_high"]
    if not low <= phase_ratio <= high:
        found.append(
            Warned(
                code="phase-ratio", message=f"O/A {phase_ratio:g} is outside {low:g} to {high:g}"
            )
        )
    held = {n: float(np.max(curve.conc_org[..., i])) for i, n in enumerate(curve.components)}
    return found + impurity_warnings(held, float(np.max(curve.pH)), book)


def loading_warnings(highest: float, solvent: Solvent, book: Book) -> list[Warned]:
    """Warnings about a loading [mol metal per mol extractant] and a degree of saponification."""
    limit, seen = book[f"{_LIMITS}:loading_limit"], book[f"{_LIMITS}:loading_highest_seen"]
    third, gel = book[f"{_LIMITS}:third_phase"], book[f"{_LIMITS}:soap_limit"]
    found = []
    if highest > seen:
        found.append(
            Warned(
                code="loading",
                message=f"loading {highest:.3f} mol/mol is above the highest measured "
                f"({seen:.3f}); polymers, gel or a third phase may form on the way to {limit:.3f}",
            )
        )
    if highest > third:
        found.append(
            Warned(
                code="third-phase",
                message=f"loading {highest:.3f} mol/mol: without modifier a gel or a third phase "
                f"is to be feared above {third:.3f} (an estimate: no limit was measured)",
            )
        )
    if highest > limit:
        found.append(
            Warned(
                code="polymers",
                message=f"loading {highest:.3f} mol/mol passes one metal per six monomers: "
                "only chains of MA3 hold so much, and their constant is an estimate",
            )
        )
    if solvent.saponification > gel:
        found.append(
            Warned(
                code="gel",
                message=f"saponification {solvent.saponification:.2f} mol/mol is above {gel:.2f}, "
                "where soaps gel without modifier (an estimate; one published plant runs 0.7)",
            )
        )
    return found


def impurity_warnings(held: Mapping[str, float], highest_pH: float, book: Book) -> list[Warned]:
    """What equilibrium does not tell of iron and aluminium that the organic holds."""
    found = []
    if held.get("Fe", 0.0) > 0:
        acid = book[f"{_IMPURITIES}:strip-acid-Fe"] / 1000
        found.append(
            Warned(
                code="iron-stripping",
                message="Fe(III) strips slowly and only into strong acid (practice: about "
                f"{acid:g} mol/L): equilibrium overstates stripping, iron builds up in the solvent",
            )
        )
    if held.get("Al", 0.0) > 0:
        found.append(
            Warned(
                code="aluminium-slow",
                message="aluminium reaches equilibrium in minutes to hours: a mixer extracts less "
                "than told here",
            )
        )
    if (held.get("Fe", 0.0) > 0 or held.get("Al", 0.0) > 0) and highest_pH > 2:
        found.append(
            Warned(
                code="hydrolysis",
                message="Fe(III) and Al hydrolyse and precipitate above pH 2 to 3, which is not "
                "counted here",
            )
        )
    return found
