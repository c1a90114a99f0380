"""A circuit case (mass action or correlation) as a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sepmodel import data, units
from sepmodel.chemistry import activity as activities
from sepmodel.chemistry import exchange_set, mixed_acids
from sepmodel.chemistry.cation_exchange import C_STANDARD, CationExchange
from sepmodel.chemistry.complex_exchange import ComplexExchange
from sepmodel.chemistry.correlation import Correlation
from sepmodel.chemistry.equilibrium import Equilibrium
from sepmodel.chemistry.soap_exchange import SoapExchange
from sepmodel.data import Book
from sepmodel.errors import ConvergenceError, InputError, Problem
from sepmodel.extraction import (
    circuit,
    circuit_activity,
    circuit_approach,
    circuit_limits,
    circuit_streams,
    factors,
)
from sepmodel.extraction.circuit_inputs import CircuitCase
from sepmodel.extraction.circuit_limits import LN10, REGRESSION
from sepmodel.result import Result, Warned, amount
from sepmodel.species import CHARGES, RARE_EARTHS, molar_mass

Array = NDArray[np.float64]

LEVEL = "stage to stage, mass action, closed charge and extractant balances"
GAS_CONSTANT = "physics:gas_constant"
REFERENCE_TEMPERATURE = "physics:reference_temperature"
WATER = "speciation/inorganic-25C:log-kw"
# Share of the extractant that a guess leaves free of soap.
ROUGHLY_NONE = 1e-3
# An enthalpy that somebody measured, or that follows from what somebody measured.
MEASURED = ("measured", "reference", "derived")


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Assembled:
    """A case in the kernel's terms: ``inputs``; ``dimers`` extractant units per ion (C,); what is
    known to be doubtful before anything is solved."""

    inputs: circuit.CircuitInputs
    dimers: Array
    warnings: tuple[Warned, ...]


def solve_case(case: CircuitCase, book: Book) -> Result:
    """Steady state of a circuit case: outlets, profiles, reagents, balances, warnings.

    Raises
    ------
    InputError, ConvergenceError
        as ``circuit.solve`` and ``circuit_activity.solve``; constants that are not trustworthy for
        the purpose are refused.
    """
    made = assemble(case, book)
    try:
        return _solved_case(case, book, made)
    except ConvergenceError as error:
        inlet = error.trace.extra.get("inlet")
        raise error.placed(key=f"inlet.{inlet}.acid" if inlet else "") from None


def _solved_case(case: CircuitCase, book: Book, made: Assembled) -> Result:
    if case.model.activity == "ideal":
        solved, approach = _solve(made)
        found = result(case, book, made, solved)
        return replace(found, solver={**found.solver, "approach": approach}) if approach else found
    ions = ("H", *made.inputs.components, "Cl")
    settled = circuit_activity.solve(made.inputs, activities.build(case.model.activity, ions, book))
    return result(case, book, made, settled.solved, settled)


def assemble(case: CircuitCase, book: Book, told: list[Problem] | None = None) -> Assembled:
    """The kernel's inputs of a case, its constants read from the book.

    With a list ``told`` what is wrong is put there, and inputs are made that stand in for it: what
    refers to them can be looked at all the same.

    Raises
    ------
    InputError
        for constants and liquors that cannot be, all at once.
    """
    wrong: list[Problem] = []
    names = case.components
    ions = names if case.model.counter_ion is None else (*names, case.model.counter_ion)
    charge = np.array([float(CHARGES.get(name, 3)) for name in ions])
    warnings: list[Warned] = []
    try:
        model, dimers, per_extractant = _model(case, book, ions, charge)
        warnings = circuit_limits.order_of_constants(case, model, ions)
    except InputError as error:
        wrong += error.problems
        model = CationExchange(log_k=np.zeros(len(ions)), charge=charge, dimers=charge)
        dimers, per_extractant = charge, 0.5
    # Elsewhere base meets more acid and salt than it is: the water stays acid, hydroxide nothing.
    if isinstance(model, CationExchange) and case.section[-1].name == "saponify":
        kw = 10 ** book[WATER] * units.factor("mol/L") ** 2
        model = SoapExchange(
            log_k=model.log_k, charge=model.charge, dimers=model.dimers, kw=float(kw)
        )
    inputs = _inputs(case, book, ions, charge, model, dimers, per_extractant, wrong)
    if case.purpose != REGRESSION:
        try:
            circuit_limits.require_possible_inlets(case, book, inputs)
        except InputError as error:
            wrong += [p for p in error.problems if p not in wrong]
    if wrong:
        if told is None:
            raise InputError(wrong)
        told += wrong
        return Assembled(inputs=inputs, dimers=dimers, warnings=())
    shifts, unknown = _temperatures(case, book, ions)
    warnings += unknown
    warnings += _borrowed_factors(case)
    sections = tuple(
        replace(section, log_k_shift=shift)
        for section, shift in zip(inputs.sections, shifts, strict=True)
    )
    return Assembled(
        inputs=replace(inputs, sections=sections), dimers=dimers, warnings=tuple(warnings)
    )


def _solve(made: Assembled) -> tuple[circuit.CircuitResult, str]:
    """The solved circuit and how it was approached ("" when directly).

    A circuit with a saponify section starts from the same circuit without it.

    The organic is first given all the base that enters as soap. Where the base enters, sodium in
    the water stands against hydroxide alone; the stages before it are near neutral.
    """
    inputs, model = made.inputs, made.inputs.model
    if not isinstance(model, SoapExchange) or inputs.sections[-1].name != "saponify":
        return circuit_approach.solve(inputs)
    last = inputs.sections[-1]
    based = [i for i in inputs.inlets if i.section == last.name]
    soap = sum(float(np.asarray(i.flow) * np.asarray(i.conc)[-1]) for i in based)
    soap /= float(np.asarray(inputs.organic_flow))
    conc = np.zeros(len(inputs.components))
    conc[-1] = soap
    short = replace(
        inputs,
        sections=tuple(inputs.sections[:-1]),
        organic_conc=conc,
        inlets=tuple(i for i in inputs.inlets if i.section != last.name),
        reset=(inputs.components[-1],),
    )
    found, approach = circuit_approach.solve(short)
    root = np.sqrt(model.kw)
    dimer = float(np.asarray(inputs.dimer))
    bound = min(soap * made.dimers[-1] / dimer, 1.0 - ROUGHLY_NONE)
    alkaline = np.exp(0.5 * model.log_k[-1]) * np.sqrt((1.0 - bound) / bound * model.kw)
    # Base beyond what the organic can take stays in the water.
    over = (soap - dimer / made.dimers[-1]) * float(np.asarray(inputs.organic_flow))
    if over > 0:
        water = sum(float(np.asarray(i.flow)) for i in based)
        alkaline = min(alkaline, model.kw * water / over)
    ends = np.array([[dimer * (1.0 - bound), alkaline]])
    before = np.repeat(np.array([[dimer, root]]), last.stages - 1, axis=0)
    start = np.log(np.concatenate([found.free[..., :2], before, ends]) / C_STANDARD)
    solved = circuit.solve(inputs, guess=start)
    return replace(solved, iterations=solved.iterations + found.iterations), approach


def result(
    case: CircuitCase,
    book: Book,
    made: Assembled,
    solved: circuit.CircuitResult,
    settled: circuit_activity.Settled | None = None,
) -> Result:
    """A solved circuit as the result of its case."""
    inputs = made.inputs
    warnings = [
        *made.warnings,
        *circuit_limits.limits_left(case, book, inputs, solved),
        *circuit_limits.for_comparison(case),
    ]
    closures = dict(
        zip(inputs.components, np.atleast_1d(solved.closure["component"]).tolist(), strict=True)
    )
    local, closing = float(solved.closure["local"]), float(solved.closure["closures"])
    solver: dict[str, object] = {
        "iterations": int(solved.iterations),
        "residual": float(solved.residual),
        "fallbacks": int(solved.fallbacks),
    }
    quantities = circuit_streams.quantities(case, book, inputs, solved, made.dimers)
    if settled is not None:
        solver |= {
            "iterations": settled.iterations,
            "activity_rounds": settled.rounds,
            "activity_residual": settled.moved,
        }
        quantities["ionic_strength_highest"] = amount(float(np.max(settled.strength)), "mol/kg")
    return Result(
        kind=case.kind,
        name=case.name,
        model={
            "equilibrium": case.model.equilibrium,
            "set": case.model.set,
            "activity": case.model.activity,
            "level": LEVEL,
        },
        solver=solver,
        streams=circuit_streams.streams(case, inputs, solved),
        profiles=circuit_streams.profiles(case, inputs, solved, made.dimers),
        quantities=quantities,
        balance={
            "components": closures,
            "stage": local,
            "charge": closing,
            "dimer": closing,
            "max": max([*closures.values(), local, closing]),
        },
        warnings=warnings,
        used=book.used,
    )


def _temperatures(
    case: CircuitCase, book: Book, ions: tuple[str, ...]
) -> tuple[list[Array], list[Warned]]:
    """Shift of ln K of every ion in each section by its temperature, where an enthalpy is measured.

    ln K(T) - ln K(T0) = -(dH / R) (1/T - 1/T0), dH from ``<set>:enthalpy-<M>`` [J/mol] and T0 from
    ``<set>:temperature``, 25 C where the set has none.
    """
    shifts, warnings = [], []
    at = str(case.model.set)
    for section in case.section:
        shift = np.zeros(len(ions))
        if section.temperature is not None:
            base = book.get(f"{at}:temperature", book[REFERENCE_TEMPERATURE])
            slope = (1 / section.temperature - 1 / base) / book[GAS_CONSTANT]
            unknown = []
            for i, name in enumerate(ions):
                key = f"{at}:enthalpy-{name}"
                if key in book and book.constant(key).provenance in MEASURED:
                    shift[i] = -book[key] * slope
                else:
                    unknown.append(name)
            if unknown and section.temperature != base:
                warnings.append(
                    Warned(
                        code="temperature-unused",
                        message=f"no enthalpy of extraction is measured for {', '.join(unknown)}: "
                        f"their constants hold for {base:.2f} K, not for "
                        f"{section.temperature:.2f} K",
                        where=section.name,
                    )
                )
        shifts.append(shift)
    return shifts, warnings


def _borrowed_factors(case: CircuitCase) -> list[Warned]:
    """Separation factors are ratios of distribution ratios: of no activity basis in particular."""
    if case.model.separation_factors is None or case.model.activity == "ideal":
        return []
    return [
        Warned(
            code="factors-basis",
            message="separation factors measured as ratios of D are taken as ratios of K: the "
            f"{case.model.activity} activity coefficients of the elements come on top",
            where="model.separation_factors",
        )
    ]


def _model(
    case: CircuitCase, book: Book, ions: tuple[str, ...], charge: Array
) -> tuple[Equilibrium, Array, float]:
    """The equilibrium, extractant units bound per ion, and those units per mole of extractant."""
    if case.model.equilibrium == "correlation":
        return _correlation(case, book, ions, charge)
    log_k = []
    own = case.model.log_k
    relative: dict[str, float] = {}
    if case.model.separation_factors is not None:
        if case.model.level is None or case.model.set is None:
            raise InputError(
                Problem(
                    message="separation factors need the log K of one element as their level",
                    key="model.level",
                    expected="an element of model.set",
                )
            )
        rare = [name for name in ions if name in RARE_EARTHS]
        values = factors.extractabilities(book, case.model.separation_factors, rare)
        relative = dict(zip(rare, np.log10(values).tolist(), strict=True))
    if case.model.set is not None:
        _require_basis(case, case.model.set, "model.set")
    dimers = charge.copy()
    for i, name in enumerate(ions):
        if name in own:
            log_k.append(own[name])
        elif name == case.model.counter_ion:
            _require_basis(case, case.model.soap, "model.soap", f"or model.log_k.{name}")
            log_k.append(book[f"{case.model.soap}:log-K-{name}"])
        elif name in relative:
            level = str(case.model.level)
            base = own[level] if level in own else _log_k(book, str(case.model.set), level)
            log_k.append(base + relative[name] - relative[level])
        elif case.model.set is not None:
            value, dimers[i] = _constant(book, case.model.set, name)
            log_k.append(value)
        else:
            raise InputError(
                Problem(
                    message=f"no log K of {name}",
                    key="model",
                    expected="model.set, model.separation_factors or model.log_k",
                )
            )
    if case.model.counter_ion is not None:
        dimers[-1] = book[f"{case.model.soap}:dimers-{case.model.counter_ion}"]
    one = CationExchange(log_k=LN10 * np.array(log_k), charge=charge, dimers=dimers)
    if case.model.second is None or case.model.share is None:
        return one, dimers, 0.5
    return _with_second(case, book, ions, one, case.model.second, case.model.share), dimers, 0.5


def _with_second(
    case: CircuitCase,
    book: Book,
    ions: tuple[str, ...],
    one: CationExchange,
    second: str,
    share: float,
) -> ComplexExchange:
    """Two acids in one solvent; the soap of both has the constant of the soap's set."""
    _require_basis(case, second, "model.second")
    metals = [name for name in ions if name != case.model.counter_ion]
    found = [_constant(book, second, name) for name in metals]
    log_k, dimers = one.log_k.copy(), one.dimers.copy()
    log_k[: len(metals)] = LN10 * np.array([value for value, _ in found])
    dimers[: len(metals)] = [count for _, count in found]
    return mixed_acids.combine(
        one,
        CationExchange(log_k=log_k, charge=one.charge, dimers=dimers),
        share,
        mixed_complexes=book[f"{mixed_acids.MIXING}:mixed-complexes"],
        mixed_dimer=book[f"{mixed_acids.MIXING}:mixed-dimer"],
    )


def _constant(book: Book, set_id: str, name: str) -> tuple[float, float]:
    """log10 K and dimers of a component: of the set, or of the set it names for impurities."""
    if f"{set_id}:{name}" in book:
        count = book.get(f"{set_id}:dimers-{name}", float(CHARGES.get(name, 3)))
        return _log_k(book, set_id, name), count
    log_k, dimers = exchange_set.constants_of(set_id, [name], book)
    return log_k[name], dimers[name]


def _require_basis(case: CircuitCase, set_id: str, key: str, otherwise: str = "") -> None:
    """InputError when a set's constants hold for another activity basis than the case's."""
    basis = data.set_meta(set_id).get("activity", case.model.activity)
    if basis != case.model.activity:
        raise InputError(
            Problem(
                message="constants of another activity basis than the circuit's",
                key=key,
                value=f"{set_id} ({basis})",
                expected=f"a set of {case.model.activity} activities {otherwise}".rstrip(),
            )
        )


def _log_k(book: Book, set_id: str, name: str) -> float:
    """log10 K of a component from a set, which has to be a set of such constants."""
    value = book[f"{set_id}:{name}"]
    constant = book.used[f"{set_id}:{name}"]
    if constant.unit != "1" or "log10 K" not in constant.basis:
        raise InputError(
            Problem(
                message=f"not an extraction constant: {constant.basis} [{constant.unit}]",
                key="model.set",
                value=f"{set_id}:{name}",
                expected="a set of log10 K, such as those under extractants/",
            )
        )
    return value


def _correlation(
    case: CircuitCase, book: Book, ions: tuple[str, ...], charge: Array
) -> tuple[Equilibrium, Array, float]:
    """log D = f(pH, dosage) as the set gives it, constant ratios where it gives one."""
    rows: list[list[float]] = []
    for name in ions:
        if f"{case.model.set}:{name}_D" in book:
            rows.append([0.0, 0.0, float(np.log10(book[f"{case.model.set}:{name}_D"])), 0.0])
        else:
            rows.append(
                [book[f"{case.model.set}:{name}_{part}"] for part in ("m0", "m1", "B0", "B1")]
            )
    m0, m1, b0, b1 = np.array(rows).T
    mass = book[f"{case.model.set}:molar_mass"]
    density = book[f"{case.model.set}:density"]
    trivalent = book[f"{case.model.set}:metal_protons"]
    monomers = np.where(charge == 2, book[f"{case.model.set}:calcium_protons"], trivalent)
    model = Correlation(
        m0=m0,
        m1=m1,
        b0=b0,
        b1=b1,
        charge=charge,
        monomers=monomers,
        dosage=100 * mass / density,
        ka2=10 ** -book[f"{case.model.set}:HSO4_pKa"],
    )
    return model, monomers, 1.0


def _moles_per_volume(
    case: CircuitCase, table: Mapping[str, str], where: str, wrong: list[Problem]
) -> dict[str, float]:
    """Concentrations [mol/m3] given by amount or by mass; one stands in for what is ``wrong``."""
    out = {}
    for name, text in table.items():
        key = f"{where}.composition.{name}"
        try:
            out[name] = units.si(text, "mol/m^3", key=key)
        except InputError as error:
            try:
                mass = units.si(text, "kg/m^3", key=key)
                own = case.molar_mass.get(name)
                out[name] = mass / (molar_mass(name) if own is None else own)
            except InputError:
                wrong += error.problems
                out[name] = 1.0
        if not out[name] >= 0:
            wrong.append(Problem(message="a concentration is negative", key=key, value=text))
            out[name] = 1.0
    return out


def _inputs(
    case: CircuitCase,
    book: Book,
    ions: tuple[str, ...],
    charge: Array,
    model: Equilibrium,
    dimers: Array,
    per_extractant: float,
    wrong: list[Problem],
) -> circuit.CircuitInputs:
    """The case in the kernel's terms; what is ``wrong`` is noted."""
    soap = case.organic.saponification
    ion = case.model.counter_ion
    # Dimers an equivalent of soap takes.
    taken = 0.0 if ion is None else float(dimers[-1] / charge[-1])
    if soap * taken > per_extractant * (1.0 - np.finfo(float).eps):
        wrong.append(
            Problem(
                message=f"the organic cannot hold so much {ion}: each takes {dimers[-1]:g} dimer",
                key="organic.saponification",
                value=soap,
                expected=f"below {per_extractant / taken:g}",
            )
        )

    def conc(table: Mapping[str, str], where: str) -> Array:
        given = _moles_per_volume(case, table, where, wrong)
        return np.array([given.get(name, 0.0) for name in ions])

    organic = conc(case.organic.composition, "organic")
    if ion is not None:
        organic[-1] += soap * case.organic.extractant / charge[-1]
    total = per_extractant * case.organic.extractant
    if case.model.equilibrium == "correlation":
        # The extractant is stated as what is free when the organic enters.
        total += float(organic @ dimers)
    counts = {section.name: section.stages for section in case.section}
    # What a mole of hydroxide brings beside the hydroxide.
    based = np.zeros(len(ions))
    if ion is not None:
        based[-1] = 1.0 / charge[-1]
    return circuit.CircuitInputs(
        components=ions,
        model=model,
        charge=charge,
        sections=tuple(
            circuit.Section(
                name=section.name,
                stages=section.stages,
                efficiency=section.efficiency
                if isinstance(section.efficiency, float)
                else np.array([section.efficiency.get(name, 1.0) for name in ions]),
                carry_aq=section.entrainment_aq,
                carry_org=section.entrainment_org,
                aqueous_to="out" if section.name in ("strip", "saponify") else "below",
            )
            for section in case.section
        ),
        organic_flow=case.organic.flow,
        dimer=total,
        organic_conc=organic,
        inlets=tuple(
            circuit.Inlet(
                name=inlet.name,
                section=inlet.section,
                stage=counts[inlet.section] if inlet.stage is None else inlet.stage,
                flow=inlet.flow,
                conc=conc(inlet.composition, f"inlet.{inlet.name}") + based * inlet.base,
                acid=inlet.acid - inlet.base,
                sulfate=inlet.sulfate,
            )
            for inlet in case.inlet
        ),
        draws=tuple(
            circuit.Draw(
                name=draw.name,
                phase=draw.phase,
                section=draw.section,
                stage=draw.stage,
                flow=draw.flow,
            )
            for draw in case.draw
        ),
        closed=case.recycle.organic,
        reset=() if ion is None or not case.recycle.organic or "saponify" in counts else (ion,),
        reflux=(("strip", "scrub", case.recycle.strip_reflux),)
        if case.recycle.strip_reflux
        else (),
    )
