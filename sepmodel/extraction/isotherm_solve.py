"""A case of kind isotherm as a result: curves as profiles, what they say as quantities."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sepmodel import data, units
from sepmodel.chemistry import (
    correlation_set,
    exchange_set,
    mixed_acids,
    neutral_set,
    polymers,
)
from sepmodel.chemistry.exchange_set import ExchangeSet
from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.extraction import isotherms
from sepmodel.extraction.isotherm_inputs import IsothermCase
from sepmodel.extraction.isotherms import Isotherm, Solvent
from sepmodel.extraction.limits import impossible, loading_warnings
from sepmodel.extraction.shake import correlated, salting
from sepmodel.result import Profile, Result, Warned, amount
from sepmodel.species import RARE_EARTHS, molar_mass

Array = NDArray[np.float64]
LEVEL = "single contacts, closed balances, pH as an answer"
# A saponified answer that moves by more than this over the range of the soap's constant is unknown.
_MOVED_PH, _MOVED_SHARE = 0.1, 0.01


def solve_case(case: IsothermCase, book: Book) -> Result:
    """The curves of a case: loading, acidity, map, titration, stages, as far as asked for.

    Raises
    ------
    InputError
        for constants that are missing, contradict each other, or are left by a curve.
    """
    constants = _constants(case, book)
    solvent = Solvent(
        extractant=case.organic.extractant, saponification=case.organic.saponification
    )
    feed, metals = _feed(case), _metals(constants)
    if not (salting(constants) or correlated(constants)):
        _require_possible(case, feed, book)
    profiles: dict[str, Profile] = {}
    quantities: dict[str, dict[str, object]] = {}
    warnings: list[Warned] = []
    closures = [0.0]
    curves: list[Isotherm] = []
    if case.loading is not None:
        totals = np.geomspace(case.loading.low, case.loading.high, case.loading.points)
        curve = isotherms.loading_isotherm(
            constants,
            feed,
            totals,
            case.feed.acid,
            solvent,
            phase_ratio=case.phase_ratio,
            salt=case.feed.salt,
            sulfate=case.feed.sulfate,
        )
        profiles |= _loading_profiles(curve, totals, metals)
        highest = float(curve.loading.max())
        quantities["highest loading, mol/mol extractant"] = amount(highest, "1")
        curves.append(curve)
    if case.acidity is not None:
        pH = np.linspace(case.acidity.low, case.acidity.high, case.acidity.points)
        curve = isotherms.at_pH(
            constants,
            feed,
            pH,
            solvent,
            phase_ratio=case.phase_ratio,
            sulfate=case.feed.sulfate,
        )
        share = _extracted(curve, len(metals), case.phase_ratio)
        profiles["extracted"] = Profile(
            unit="1",
            axes={"pH": pH.tolist(), "component": metals},
            values=share,
        )
        profiles["log10_D"] = Profile(
            unit="1",
            axes={"pH": pH.tolist(), "component": metals},
            values=curve.log_d[:, : len(metals)],
        )
        trace = {}
        if not correlated(constants):
            trace = isotherms.half_extraction(constants, solvent.extractant)
        for metal, value in trace.items():
            if metal != constants.counter_ion and np.isfinite(value):
                quantities[f"pH of D = 1, trace {metal}"] = amount(value, "1")
        for i, metal in enumerate(metals):
            value = _half(pH, share[:, i])
            if np.isfinite(value):
                quantities[f"pH of half extraction {metal}"] = amount(value, "1")
        curves.append(curve)
    if case.map is not None:
        profiles |= _map(case, constants, feed, solvent)
    if case.titration is not None:
        profiles |= _titration(case, constants, book)
    if case.stages is not None:
        profiles |= _stages(case, constants, feed, solvent)
        count = len(profiles["steps_aqueous"].values) - 1
        quantities["stages (single solute)"] = amount(float(count), "1")
        warnings.append(
            Warned(
                code="single-solute",
                message="stages are stepped off for one metal alone: competition needs a cascade",
            )
        )
    for curve in curves:
        closures.append(float(curve.closure.max()))
        for warned in isotherms.state_warnings(curve, solvent, book, phase_ratio=case.phase_ratio):
            if warned not in warnings:
                warnings.append(warned)
    if correlated(constants):
        warnings.append(
            Warned(
                code="correlation",
                message="a correlation knows no capacity, no order of the series and no liquor "
                "but its own: for comparison, not for design",
            )
        )
    if not curves:
        warnings += loading_warnings(0.0, solvent, book)
    if case.organic.saponification and case.model.second is None and not case.model.polymers:
        warnings += _soap_warnings(case, constants, feed, solvent, book)
    return Result(
        kind=case.kind,
        name=case.name,
        model={
            "equilibrium": _equilibrium(constants),
            "set": constants.set_id,
            "activity": constants.activity.name,
            "level": LEVEL,
        },
        profiles=profiles,
        quantities=quantities,
        balance={"max": max(closures)},
        warnings=warnings,
        used=book.used,
    )


def _equilibrium(constants: ExchangeSet) -> str:
    """Name of the kind of model."""
    if correlated(constants):
        return "correlation"
    return "neutral" if salting(constants) else "mass-action"


def _constants(case: IsothermCase, book: Book) -> ExchangeSet:
    """The constants a case names."""
    model, ion = case.model, case.model.counter_ion or ""
    meta = data.set_meta(model.set)
    fitted = meta.get("kind") == correlation_set.KIND
    if meta.get("salting") or fitted:
        if model.second or ion or model.polymers or (fitted and model.separation_factors):
            raise InputError(
                Problem(
                    message="no soap, no second acid and no polymers with a neutral extractant or "
                    "a correlation",
                    key="model",
                    value=model.set,
                )
            )
        known = correlation_set if fitted else neutral_set
        found = known.load(model.set, case.components, book)
    elif model.second is not None and model.share is not None:
        found = mixed_acids.load(
            model.set,
            model.second,
            model.share,
            case.components,
            book,
            counter_ion=ion,
            purpose=case.purpose or "design",
        )
    else:
        found = exchange_set.load(
            model.set, case.components, book, counter_ion=ion, purpose=case.purpose or "design"
        )
    if model.separation_factors is not None and model.level is not None:
        found = isotherms.with_factors(found, model.separation_factors, model.level, book)
    return polymers.with_polymers(found, book) if model.polymers else found


def _feed(case: IsothermCase) -> dict[str, float]:
    """Concentrations [mol/m3] of a feed given by amount or by mass of the element."""
    out: dict[str, float] = {}
    problems: list[Problem] = []
    for name, text in case.feed.composition.items():
        key = f"feed.composition.{name}"
        try:
            out[name] = units.si(text, "mol/m^3", key=key)
        except InputError as error:
            try:
                out[name] = units.si(text, "kg/m^3", key=key) / molar_mass(name)
            except InputError:
                problems += error.problems
                continue
        if not out[name] >= 0:
            problems.append(Problem(message="a concentration is negative", key=key, value=text))
    if not problems and not sum(out.values()) > 0:
        problems.append(Problem(message="the feed holds no metal", key="feed.composition"))
    if problems:
        raise InputError(problems)
    return out


def _require_possible(case: IsothermCase, feed: dict[str, float], book: Book) -> None:
    """InputError for chloride liquors and solvents nobody can make, all at once.

    Nitrate and sulfate liquors are not judged: the limits known are those of chlorides.
    """
    rare = sum(value for name, value in feed.items() if name in RARE_EARTHS)
    share = rare / sum(feed.values())
    amounts = [
        ("extractant", "organic.extractant", case.organic.extractant),
        ("rare earths", "feed.composition", rare),
        ("acid", "feed.acid", case.feed.acid),
    ]
    if case.loading is not None:
        amounts.append(("rare earths", "loading.high", case.loading.high * share))
    if case.map is not None:
        amounts.append(("rare earths", "map.high", case.map.high * share))
    extractant = str(data.set_meta(case.model.set).get("extractant", ""))
    # A limit that refuses nothing is no evidence of the answer: a book of its own.
    problems = impossible(amounts, book.with_values({}), extractant)
    if problems:
        raise InputError(problems)


def _metals(constants: ExchangeSet) -> tuple[str, ...]:
    """The components that are fed: all but a soap's counter-ion, which stands last."""
    return constants.components[:-1] if constants.counter_ion else constants.components


def _extracted(curve: Isotherm, metals: int, phase_ratio: float) -> Array:
    """Share of each metal that went into the organic, shape (points, metals)."""
    d = phase_ratio * 10 ** curve.log_d[:, :metals]
    share: Array = d / (1 + d)
    return share


def _half(pH: Array, share: Array) -> float:
    """pH at which half is extracted, by interpolation of the logit; NaN outside the curve."""
    logit = np.log(share / (1 - share))
    at = np.flatnonzero((logit[:-1] < 0) & (logit[1:] >= 0))
    if not len(at):
        return float("nan")
    i = int(at[0])
    return float(pH[i] - logit[i] * (pH[i + 1] - pH[i]) / (logit[i + 1] - logit[i]))


def _loading_profiles(
    curve: Isotherm, totals: Array, metals: tuple[str, ...]
) -> dict[str, Profile]:
    """Both phases, pH, loading and log D over the metal in the feed."""
    feed = {"metal in the feed [mol/L]": (totals / 1000).tolist()}
    by_metal = {**feed, "component": metals}
    count = len(metals)
    return {
        "isotherm_aqueous": Profile(
            unit="mol/L", axes=by_metal, values=curve.conc_aq[:, :count] / 1000
        ),
        "isotherm_organic": Profile(
            unit="mol/L", axes=by_metal, values=curve.conc_org[:, :count] / 1000
        ),
        "isotherm_log10_D": Profile(unit="1", axes=by_metal, values=curve.log_d[:, :count]),
        "isotherm_pH": Profile(unit="1", axes=feed, values=curve.pH),
        "isotherm_loading": Profile(unit="1", axes=feed, values=curve.loading),
    }


def _map(
    case: IsothermCase, constants: ExchangeSet, feed: dict[str, float], solvent: Solvent
) -> dict[str, Profile]:
    """Separation factor and loading over the metal in the feed and the pH."""
    assert case.map is not None
    asked, whole = case.map, sum(feed.values())
    totals = np.geomspace(asked.low, asked.high, asked.points)
    pH = np.linspace(asked.pH_low, asked.pH_high, asked.points)
    grid = np.broadcast_to(pH, (len(totals), len(pH)))
    curve = isotherms.at_pH(
        constants,
        {n: np.repeat(totals[:, None] * v / whole, len(pH), axis=1) for n, v in feed.items()},
        grid,
        solvent,
        phase_ratio=case.phase_ratio,
        sulfate=case.feed.sulfate,
    )
    axes = {"metal in the feed [mol/L]": (totals / 1000).tolist(), "pH": pH.tolist()}
    factor = curve.separation_factor(asked.heavy, asked.light)
    return {
        "separation_factor": Profile(
            unit="1", axes=axes, values=factor, marks={f"{asked.heavy}/{asked.light}": 1}
        ),
        "map_loading": Profile(unit="1", axes=axes, values=curve.loading),
    }


def _titration(case: IsothermCase, constants: ExchangeSet, book: Book) -> dict[str, Profile]:
    """pH against base, with the ends of the range of the soap's constant."""
    assert case.titration is not None
    extractant = case.organic.extractant
    # The ends are left out: without soap the pH is that of the salt, beyond all acid there is none.
    base = np.linspace(0, case.titration.highest, case.titration.points + 1)[1:]
    key, _ = exchange_set.soap_keys(constants.counter_ion, book, constants.activity.name)
    book[key]
    ends = [end - book.used[key].si for end in book.used[key].si_range]
    value = constants.log_k[constants.counter_ion]
    columns = [
        isotherms.titration(
            isotherms.with_constants(constants, {constants.counter_ion: value + by}),
            extractant,
            base * extractant,
            salt=case.titration.salt,
        ).pH
        for by in (0.0, *ends)
    ]
    return {
        "titration": Profile(
            unit="1",
            axes={
                "base [mol/mol extractant]": base.tolist(),
                "log K of the soap": ("as estimated", "low", "high"),
            },
            values=np.stack(columns, axis=1),
        )
    }


def _stages(
    case: IsothermCase, constants: ExchangeSet, feed: dict[str, float], solvent: Solvent
) -> dict[str, Profile]:
    """Concentrations between the stages, from the feed end."""
    assert case.stages is not None
    found = isotherms.steps(
        constants,
        case.stages.metal,
        feed.get(case.stages.metal, 0.0),
        case.feed.acid,
        solvent,
        raffinate=case.stages.raffinate,
        phase_ratio=case.phase_ratio,
        most=case.stages.most,
    )
    axes = {"between stages": range(found.stages + 1)}
    return {
        "steps_aqueous": Profile(unit="mol/L", axes=axes, values=np.array(found.aqueous) / 1000),
        "steps_organic": Profile(unit="mol/L", axes=axes, values=np.array(found.organic) / 1000),
    }


def _soap_warnings(
    case: IsothermCase,
    constants: ExchangeSet,
    feed: dict[str, float],
    solvent: Solvent,
    book: Book,
) -> list[Warned]:
    """Whether the contact of the feed itself moves with the soap's unmeasured constant."""
    cases = isotherms.soap_sensitivity(
        constants, feed, case.feed.acid, solvent, book, phase_ratio=case.phase_ratio
    )
    pH = [one.pH for one in cases]
    moved = {m: [one.extracted[m] for one in cases] for m in cases[0].extracted}
    worst = max(moved, key=lambda m: max(moved[m]) - min(moved[m]))
    span = max(moved[worst]) - min(moved[worst])
    if max(pH) - min(pH) <= _MOVED_PH and span <= _MOVED_SHARE:
        return []
    return [
        Warned(
            code="soap-constant",
            message="over the range of the soap's unmeasured constant and stoichiometry the pH of "
            f"this feed's contact is {min(pH):.1f} to {max(pH):.1f}, and {worst} is extracted to "
            f"{100 * min(moved[worst]):.1f} to {100 * max(moved[worst]):.1f} %",
        )
    ]
