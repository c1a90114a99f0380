"""What a circuit cannot be, refused; and where a solved one leaves what is known, named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sepmodel import data
from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.chemistry.complex_exchange import ComplexExchange
from sepmodel.chemistry.correlation import Correlation
from sepmodel.chemistry.equilibrium import Equilibrium
from sepmodel.chemistry.soap_exchange import SoapExchange
from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.extraction import circuit, limits
from sepmodel.extraction.circuit_inputs import CircuitCase
from sepmodel.result import Warned
from sepmodel.species import RARE_EARTHS
from sepmodel.units import to

Array = NDArray[np.float64]

LN10 = float(np.log(10.0))
DEFAULTS = "extractants/circuit-defaults"
HYDROXIDES = "solids/hydroxides-llnl"
REGRESSION = "code regression"
# Share of the base above which its loss is named.
NOTABLE = 0.01
# Organic to aqueous (or its reverse) below which a pump has stopped.
STOPPED = 1e-6
# The solid whose constant decides, in this order: what base precipitates first is amorphous.
SOLIDS = ("amorphous", "crystalline")


class Liquors(Protocol):
    """What limits are read from: ``conc_aq, conc_org`` (N, C) [mol/m3] and ``ph`` (N,)."""

    @property
    def conc_aq(self) -> Array: ...

    @property
    def conc_org(self) -> Array: ...

    @property
    def ph(self) -> Array: ...


# Says where a liquor is, from its row.
Place = Callable[[int], str]


def order_of_constants(
    case: CircuitCase, model: Equilibrium, ions: tuple[str, ...]
) -> list[Warned]:
    """Constants that contradict what is known of acidic organophosphorus extractants.

    Refused, unless the case says that it compares codes.
    """
    if isinstance(model, Correlation):
        # At pH 1 and a dosage of 1.
        at = model.spot(np.array([[0.0, -LN10]]), np.ones((1, 3))).log_d[0]
    else:
        assert isinstance(model, CationExchange | ComplexExchange)
        at = model.log_k
        if isinstance(model, ComplexExchange):  # with every free reagent at 1 mol/L
            at = np.logaddexp.reduce(model.log_k, axis=-1)
    level = {name: float(v) for name, v in zip(ions, at, strict=True)}
    series = [name for name in RARE_EARTHS if name in level and name not in ("Y", "Sc")]
    found = [
        Warned(
            code="reversed-series",
            message=f"{heavy} is extracted less than {light}, unlike in any acidic "
            "organophosphorus extractant",
            where="model",
        )
        for light, heavy in pairwise(series)
        if level[heavy] < level[light]
    ]
    if "Y" in level and "Dy" in level and level["Y"] < level["Dy"]:
        found.append(
            Warned(code="y-below-dy", message="Y is extracted less than Dy", where="model")
        )
    if found and case.purpose != REGRESSION:
        raise InputError(
            [
                Problem(
                    message=f"{w.code}: {w.message}",
                    key="model",
                    expected=f'constants in order, or purpose = "{REGRESSION}"',
                )
                for w in found
            ]
        )
    return found


def require_possible_inlets(case: CircuitCase, book: Book, inputs: circuit.CircuitInputs) -> None:
    """InputError for liquors nobody can make: more salt than dissolves, acid beyond commerce."""
    base = [("base", f"inlet.{given.name}.base", given.base) for given in case.inlet]
    if case.model.equilibrium == "mass-action":
        base.append(("extractant", "organic.extractant", case.organic.extractant))
    _require(case, book, [*_liquors(case, inputs), *base])


def require_possible_liquors(case: CircuitCase, book: Book, inputs: circuit.CircuitInputs) -> None:
    """The same of inlets and organic as they are in ``inputs``, whatever the case says of them."""
    amounts = _liquors(case, inputs)
    for given, inlet in zip(case.inlet, inputs.inlets, strict=True):
        base = max(-float(np.asarray(inlet.acid)), 0.0)
        amounts.append(("base", f"inlet.{given.name}.base", base))
    if case.model.equilibrium == "mass-action":
        amounts.append(("extractant", "organic.extractant", 2.0 * float(np.asarray(inputs.dimer))))
    _require(case, book, amounts)


def _liquors(case: CircuitCase, inputs: circuit.CircuitInputs) -> list[tuple[str, str, float]]:
    """Metals, acid and salt of every inlet."""
    amounts: list[tuple[str, str, float]] = []
    rare = [i for i, name in enumerate(inputs.components) if name in RARE_EARTHS]
    for given, inlet in zip(case.inlet, inputs.inlets, strict=True):
        conc, key = np.asarray(inlet.conc), f"inlet.{given.name}"
        amounts.append(("rare earths", f"{key}.composition", float(conc[rare].sum())))
        # What a base brings is less than no acid.
        amounts.append(("acid", f"{key}.acid", max(float(np.asarray(inlet.acid)), 0.0)))
        if case.model.counter_ion == "Na" and not given.base:
            amounts.append(("sodium", f"{key}.composition", float(conc[-1])))
    return amounts


def _require(case: CircuitCase, book: Book, amounts: list[tuple[str, str, float]]) -> None:
    problems = limits.impossible(amounts, book, _extractant(case))
    if problems:
        raise InputError(problems)


def _extractant(case: CircuitCase) -> str:
    """The set of the extractant's properties, as the set of its constants names it."""
    if case.model.equilibrium != "mass-action" or case.model.set is None:
        return ""
    return str(data.set_meta(case.model.set).get("extractant", ""))


def limits_left(
    case: CircuitCase, book: Book, inputs: circuit.CircuitInputs, solved: circuit.CircuitResult
) -> list[Warned]:
    """Every limit of a mixer-settler, a solvent or a liquor that the solved circuit leaves."""
    return [
        *phase_ratios(case, book, solved.flow_aq, solved.flow_org),
        *_soap(case, book, inputs, solved),
        *liquors_left(case, book, inputs, solved, partial(place, case)),
        *_recycled(case, book, inputs, solved),
        *impurities(case, book, inputs, solved),
    ]


def for_comparison(case: CircuitCase) -> list[Warned]:
    """That a case compares codes, if it does."""
    if case.purpose != REGRESSION:
        return []
    return [
        Warned(
            code="code-regression",
            message="for comparison with another code: no statement about a real circuit",
        )
    ]


def liquors_left(
    case: CircuitCase,
    book: Book,
    inputs: circuit.CircuitInputs,
    solved: Liquors,
    where: Place,
    extractant: Array | None = None,
) -> list[Warned]:
    """Those of the liquors themselves: loading, hydroxides, saturation.

    ``extractant`` (N,) [mol/m3] where it is not the case's.
    """
    return [
        *_loading(case, book, inputs, solved, where, extractant),
        *_hydroxides(case, book, inputs, solved, where),
        *_saturated(case, book, inputs, solved, where),
    ]


def place(case: CircuitCase, stage: int) -> str:
    """Where a stage counted from 0 through all sections lies: "strip, stage 3"."""
    for section in case.section:
        if stage < section.stages:
            return f"{section.name}, stage {stage + 1}"
        stage -= section.stages
    raise IndexError(stage)


def phase_ratios(
    case: CircuitCase, book: Book, flow_aq: Array, flow_org: Array, when: str = ""
) -> list[Warned]:
    """Sections whose organic to aqueous no mixer likes, from flows (N,); ``when`` is added."""
    low, high = book[f"{DEFAULTS}:phase_ratio_low"], book[f"{DEFAULTS}:phase_ratio_high"]
    out = []
    at = 0
    for section in case.section:
        ratios = (flow_org / flow_aq)[at : at + section.stages]
        at += section.stages
        worst = float(max(ratios, key=lambda r: abs(np.log(r / np.sqrt(low * high)))))
        if not low <= worst <= high:
            said = f"organic to aqueous {worst:.3g} lies"
            if not STOPPED < worst < 1.0 / STOPPED:
                said = f"{'organic' if worst < 1.0 else 'aqueous'} stands still, a ratio"
            out.append(
                Warned(
                    code="phase-ratio",
                    message=f"{said} outside {low:g} to {high:g}: "
                    "a mixer needs some of the scarcer phase returned to it",
                    where=f"{section.name}{when}",
                )
            )
    return out


def gelling(book: Book, degree: float, where: str) -> list[Warned]:
    """Whether so much of the extractant as soap may gel."""
    limit = book["extractants/pc88a:soap_limit"]
    if not degree > limit:
        return []
    return [
        Warned(
            code="gel",
            message=f"{degree:.3g} of the extractant as soap: beyond {limit:g} it may gel "
            "without a modifier",
            where=where,
        )
    ]


def base_unused(free: float, brought: float, where: str) -> list[Warned]:
    """Whether base [mol/s] that finds no acid in the organic is a notable part of what comes."""
    if not free > NOTABLE * brought:
        return []
    return [
        Warned(
            code="base-unused",
            message=f"{free / brought:.3g} of the base leaves with the saponification "
            "liquor: the organic takes no more",
            where=where,
        )
    ]


def _soap(
    case: CircuitCase, book: Book, inputs: circuit.CircuitInputs, solved: circuit.CircuitResult
) -> list[Warned]:
    """Soap beyond what gels, and base that finds no acid left in the organic."""
    at_end = case.section[-1].name == "saponify"
    degree = case.organic.saponification
    if at_end:
        degree = float(solved.conc_org[-1, -1] * inputs.charge[-1]) / case.organic.extractant
    if not degree:
        return []
    out = gelling(book, degree, "saponify" if at_end else "organic")
    if at_end and isinstance(inputs.model, SoapExchange):
        liquor = solved.outlets["saponify"]
        free = float(liquor.flow * inputs.model.kw / liquor.proton)
        brought = sum(i.flow * i.base for i in case.inlet if i.section == "saponify")
        out += base_unused(free, brought, "saponify")
    return out


def _loading(
    case: CircuitCase,
    book: Book,
    inputs: circuit.CircuitInputs,
    solved: Liquors,
    where: Place,
    held: Array | None,
) -> list[Warned]:
    """Rare earths per extractant against the highest loading that was ever measured."""
    extractant = _extractant(case)
    if not extractant:
        return []
    rare = [i for i, name in enumerate(inputs.components) if name in RARE_EARTHS]
    loaded = solved.conc_org[:, rare].sum(axis=1)
    loaded = loaded / (case.organic.extractant if held is None else held)
    seen, most = book[f"{extractant}:loading_highest_seen"], book[f"{extractant}:loading_limit"]
    stage = int(np.argmax(loaded))
    if not loaded[stage] > seen:
        return []
    return [
        Warned(
            code="loading",
            message=f"{loaded[stage]:.3f} mol of rare earth per mol of extractant: above the "
            f"highest measured, {seen:g} (stoichiometric limit {most:.4g}); the organic grows "
            "viscous and may gel",
            where=where(stage),
        )
    ]


def _recycled(
    case: CircuitCase, book: Book, inputs: circuit.CircuitInputs, solved: circuit.CircuitResult
) -> list[Warned]:
    strongest = max((i.acid for i in case.inlet if i.section == "strip"), default=0.0)
    return [
        warning
        for name, share in zip(inputs.components, np.atleast_1d(solved.recycle), strict=True)
        if name != case.model.counter_ion
        for warning in recycled(book, name, float(share), strongest, "strip")
    ]


def recycled(book: Book, name: str, share: float, strongest: float, where: str) -> list[Warned]:
    """Whether the organic returns with too much of an element; strip acid [mol/m3]."""
    limit = book[f"{DEFAULTS}:recycle_limit"]
    if not share > limit:
        return []
    return [
        Warned(
            code="recycle",
            message=f"the returning organic carries {share:.3g} times the feed of {name} "
            f"(limit {limit:g}): {to(strongest, 'mol/L'):g} mol/L strip acid hardly removes it",
            where=where,
        )
    ]


def hydroxide_constants(book: Book, names: Sequence[str]) -> dict[str, float]:
    """log10 K of M(OH)3(s) + 3 H+ = M3+ + 3 H2O of those elements a constant is known for."""
    found = {}
    for name in names:
        keys = [f"{HYDROXIDES}:{name}_{solid}" for solid in SOLIDS]
        known = [key for key in keys if key in book]
        if known:
            found[name] = book[known[0]]
    return found


def hydroxide_margin(
    constants: Mapping[str, float], components: Sequence[str], solved: Liquors
) -> Array:
    """pH still to go until a hydroxide precipitates, (N, elements); infinite for absent ones.

    (log10 K - log10 [M3+]) / 3 - pH, molar, ideal.
    """
    at = [list(components).index(name) for name in constants]
    molar = to(1.0, "mol/L") * solved.conc_aq[:, at]
    with np.errstate(divide="ignore"):
        lowest = (np.array(list(constants.values())) - np.log10(molar)) / 3
    margin: Array = lowest - solved.ph[:, None]
    return margin


def _hydroxides(
    case: CircuitCase, book: Book, inputs: circuit.CircuitInputs, solved: Liquors, where: Place
) -> list[Warned]:
    constants = hydroxide_constants(
        book, [name for name in inputs.components if name in RARE_EARTHS]
    )
    if not constants:
        return []
    margin = hydroxide_margin(constants, inputs.components, solved)
    names = list(constants)
    out = []
    for i in np.flatnonzero(margin.min(axis=0) < 0):
        stage = int(np.argmin(margin[:, i]))
        out.append(
            Warned(
                code="hydroxide",
                message=f"pH {solved.ph[stage]:.2f} is {-margin[stage, i]:.2f} above the pH at "
                f"which the hydroxide of {names[i]} precipitates",
                where=where(stage),
            )
        )
    return out


def _saturated(
    case: CircuitCase, book: Book, inputs: circuit.CircuitInputs, solved: Liquors, where: Place
) -> list[Warned]:
    """Aqueous stages that hold more salt than water dissolves."""
    rare = [i for i, name in enumerate(inputs.components) if name in RARE_EARTHS]
    sums = [("rare earths", solved.conc_aq[:, rare].sum(axis=1), "saturated_rare_earth")]
    if case.model.counter_ion == "Na":
        sums.append(("sodium", solved.conc_aq[:, -1], "saturated_sodium"))
    out = []
    for label, values, limit in sums:
        stage, most = int(np.argmax(values)), book[f"{DEFAULTS}:{limit}"]
        if values[stage] > most:
            out.append(
                Warned(
                    code="saturated",
                    message=f"{to(values[stage], 'mol/L'):.3g} mol/L of {label} in the aqueous: "
                    f"chlorides dissolve to about {to(most, 'mol/L'):g} mol/L",
                    where=where(stage),
                )
            )
    return out


def impurities(
    case: CircuitCase, book: Book, inputs: circuit.CircuitInputs, solved: Liquors
) -> list[Warned]:
    """What equilibrium does not tell of iron and aluminium in the organic."""
    if case.model.equilibrium != "mass-action":
        return []
    held = dict(zip(inputs.components, solved.conc_org.max(axis=0).tolist(), strict=True))
    return limits.impurity_warnings(held, float(np.max(solved.ph)), book)
