"""A circuit case (mass action or correlation) as a result."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sepmodel import data, units
from sepmodel.chemistry.cation_exchange import C_STANDARD, CationExchange
from sepmodel.chemistry.correlation import Correlation
from sepmodel.chemistry.equilibrium import Equilibrium
from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.extraction import circuit, factors
from sepmodel.extraction.circuit_inputs import CircuitCase
from sepmodel.products import amounts
from sepmodel.result import Outlet, Profile, Result, Warned, amount
from sepmodel.species import CHARGES, OXIDES, RARE_EARTHS, molar_mass

Array = NDArray[np.float64]

LEVEL = "stage to stage, mass action, closed charge and extractant balances"
# Concentrations [mol/m3] below are reported as such: no assay reaches them.
BELOW = 1e-30
LN10 = float(np.log(10.0))
DEFAULTS = "extractants/circuit-defaults"
LIQUORS = {"raffinate": "raffinate", "scrub": "scrub_liquor", "strip": "strip_liquor"}
REGRESSION = "code regression"


def solve_case(case: CircuitCase, book: Book) -> Result:
    """Steady state of a circuit case: outlets, profiles, reagents, balances, warnings.

    Raises
    ------
    InputError, ConvergenceError
        as ``circuit.solve``; constants that are not trustworthy for the purpose are refused.
    """
    names = case.components
    ions = names if case.model.counter_ion is None else (*names, case.model.counter_ion)
    charge = np.array([float(CHARGES.get(name, 3)) for name in ions])
    model, dimers, per_extractant = _model(case, book, ions, charge)
    warnings = _chemistry_warnings(case, model, ions)
    inputs = _inputs(case, book, ions, charge, model, dimers, per_extractant)
    solved = circuit.solve(inputs)
    warnings += _circuit_warnings(case, book, inputs, solved)
    if case.purpose == REGRESSION:
        warnings.append(
            Warned(
                code="code-regression",
                message="for comparison with another code: no statement about a real circuit",
            )
        )
    closures = dict(zip(ions, np.atleast_1d(solved.closure["component"]).tolist(), strict=True))
    local, closing = float(solved.closure["local"]), float(solved.closure["closures"])
    return Result(
        kind=case.kind,
        name=case.name,
        model={
            "equilibrium": case.model.equilibrium,
            "set": case.model.set,
            "activity": case.model.activity,
            "level": LEVEL,
        },
        solver={
            "iterations": int(solved.iterations),
            "residual": float(solved.residual),
            "fallbacks": int(solved.fallbacks),
        },
        streams=_streams(case, inputs, solved),
        profiles=_profiles(case, inputs, solved, dimers),
        quantities=_quantities(case, inputs, solved, dimers),
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
        basis = data.set_meta(case.model.set).get("activity", case.model.activity)
        if basis != case.model.activity:
            raise InputError(
                Problem(
                    message="constants of another activity basis than the circuit's",
                    key="model.set",
                    value=f"{case.model.set} ({basis})",
                    expected=f"a set fitted with {case.model.activity} activities",
                )
            )
    for name in ions:
        if name in own:
            log_k.append(own[name])
        elif name == case.model.counter_ion:
            log_k.append(book[f"{case.model.soap}:log-K-{name}"])
        elif name in relative:
            level = str(case.model.level)
            base = own[level] if level in own else _log_k(book, str(case.model.set), level)
            log_k.append(base + relative[name] - relative[level])
        elif case.model.set is not None:
            log_k.append(_log_k(book, case.model.set, name))
        else:
            raise InputError(
                Problem(
                    message=f"no log K of {name}",
                    key="model",
                    expected="model.set, model.separation_factors or model.log_k",
                )
            )
    dimers = charge.copy()
    if case.model.counter_ion is not None:
        dimers[-1] = book[f"{case.model.soap}:dimers-{case.model.counter_ion}"]
    return (
        CationExchange(log_k=LN10 * np.array(log_k), charge=charge, dimers=dimers),
        dimers,
        0.5,
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


def _moles_per_volume(case: CircuitCase, table: Mapping[str, str], where: str) -> dict[str, float]:
    """Concentrations [mol/m3] given by amount or by mass."""
    out = {}
    problems: list[Problem] = []
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
                problems += error.problems
        if name in out and not out[name] >= 0:
            problems.append(Problem(message="a concentration is negative", key=key, value=text))
    if problems:
        raise InputError(problems)
    return out


def _inputs(
    case: CircuitCase,
    book: Book,
    ions: tuple[str, ...],
    charge: Array,
    model: Equilibrium,
    dimers: Array,
    per_extractant: float,
) -> circuit.CircuitInputs:
    """The case in the kernel's terms."""
    soap = case.organic.saponification
    ion = case.model.counter_ion
    if ion is not None and soap * dimers[-1] > per_extractant * (1.0 - np.finfo(float).eps):
        raise InputError(
            Problem(
                message=f"the organic cannot hold so much {ion}: each takes {dimers[-1]:g} dimer",
                key="organic.saponification",
                value=soap,
                expected=f"below {per_extractant / dimers[-1]:g}",
            )
        )

    def conc(table: Mapping[str, str], where: str) -> Array:
        given = _moles_per_volume(case, table, where)
        return np.array([given.get(name, 0.0) for name in ions])

    organic = conc(case.organic.composition, "organic")
    if ion is not None:
        organic[-1] += soap * case.organic.extractant
    total = per_extractant * case.organic.extractant
    if case.model.equilibrium == "correlation":
        # The extractant is stated as what is free when the organic enters.
        total += float(organic @ dimers)
    counts = {section.name: section.stages for section in case.section}
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
                aqueous_to="out" if section.name == "strip" else "below",
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
                conc=conc(inlet.composition, f"inlet.{inlet.name}"),
                acid=inlet.acid,
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
        reset=() if ion is None or not case.recycle.organic else (ion,),
        reflux=(("strip", "scrub", case.recycle.strip_reflux),)
        if case.recycle.strip_reflux
        else (),
    )


def _chemistry_warnings(
    case: CircuitCase, model: Equilibrium, ions: tuple[str, ...]
) -> list[Warned]:
    """Constants that contradict what is known of acidic organophosphorus extractants.

    Refused, unless the case says that it compares codes.
    """
    if isinstance(model, CationExchange):
        level = {name: float(v) for name, v in zip(ions, model.log_k, strict=True)}
    else:
        assert isinstance(model, Correlation)
        # At pH 1 and a dosage of 1.
        at = model.spot(np.array([[0.0, -LN10]]), np.ones((1, 3))).log_d[0]
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


def _circuit_warnings(
    case: CircuitCase, book: Book, inputs: circuit.CircuitInputs, solved: circuit.CircuitResult
) -> list[Warned]:
    """Where the solved circuit leaves what a mixer-settler or a solvent does."""
    out = []
    low, high = book[f"{DEFAULTS}:phase_ratio_low"], book[f"{DEFAULTS}:phase_ratio_high"]
    at = 0
    for section in case.section:
        ratio = solved.flow_org[at] / solved.flow_aq[at]
        at += section.stages
        if not low <= ratio <= high:
            out.append(
                Warned(
                    code="phase-ratio",
                    message=f"organic to aqueous {ratio:.3g} lies outside {low:g} to {high:g}",
                    where=section.name,
                )
            )
        if section.temperature is not None:
            out.append(
                Warned(
                    code="temperature-unused",
                    message="no heat of extraction is known: constants hold for their own "
                    "temperature",
                    where=section.name,
                )
            )
    limit = book["extractants/pc88a:soap_limit"] if case.organic.saponification else 1.0
    if case.organic.saponification > limit:
        out.append(
            Warned(
                code="saponification",
                message=f"more than {limit:g} of the extractant as soap may gel",
                where="organic",
            )
        )
    for name, share in zip(inputs.components, np.atleast_1d(solved.recycle), strict=True):
        if share > 1.0 and name != case.model.counter_ion:
            out.append(
                Warned(
                    code="recycle",
                    message=f"the returning organic carries {share:.3g} times the feed of {name}: "
                    "the strip acid hardly removes it",
                    where="strip",
                )
            )
    return out


def _streams(
    case: CircuitCase, inputs: circuit.CircuitInputs, solved: circuit.CircuitResult
) -> dict[str, Outlet]:
    """Every outlet, and the organic where it leaves its sections."""
    fed = sum(
        (np.asarray(i.flow) * np.asarray(i.conc) for i in inputs.inlets),
        start=np.zeros(len(inputs.components)),
    )
    sections = {section.name: section.stages for section in case.section}
    places: dict[str, tuple[str, int]] = {d.name: (d.section, d.stage) for d in case.draw}
    streams = {}
    for name, outlet in solved.outlets.items():
        label = LIQUORS.get(name, name)
        if name == "organic":
            label = "barren_organic" if "strip" in sections else "loaded_organic"
            place: tuple[str, int] = (case.section[-1].name, case.section[-1].stages)
        else:
            first = case.section[0].name if name == "raffinate" else name
            place = places.get(name, (first, 1))
        streams[label] = _outlet(
            case, inputs, outlet.phase, place, float(outlet.flow), outlet.moles, fed,
            proton=float(outlet.proton) if outlet.phase == "aqueous" else None,
        )  # fmt: skip
    at = 0
    for number, section in enumerate(case.section):
        at += section.stages
        following = case.section[number + 1 :]
        if (following and following[0].name == "strip") or (
            case.recycle.organic and section.name == "strip"
        ):
            label = "barren_organic" if section.name == "strip" else "loaded_organic"
            streams[label] = _outlet(
                case, inputs, "organic", (section.name, section.stages),
                float(solved.flow_org[at - 1]), solved.organic[at - 1], fed,
            )  # fmt: skip
    return streams


def _outlet(
    case: CircuitCase,
    inputs: circuit.CircuitInputs,
    phase: str,
    place: tuple[str, int],
    flow: float,
    moles: Array,
    fed: Array,
    proton: float | None = None,
) -> Outlet:
    moles = np.where(moles >= BELOW * flow, moles, 0.0)
    by_name = dict(zip(inputs.components, moles.tolist(), strict=True))
    oxides = {n: v for n, v in by_name.items() if n in OXIDES and n in RARE_EARTHS}
    if case.purity_basis == "mole":
        oxides = {n: v for n, v in by_name.items() if n != case.model.counter_ion}
    weights = amounts(oxides, case.purity_basis)
    total = sum(weights.values())
    conc = {n: v / flow for n, v in by_name.items()}
    return Outlet(
        phase=phase,
        section=place[0],
        stage=place[1],
        flow=amount(flow, "L/h"),
        moles={n: amount(v, "mol/h") for n, v in by_name.items()},
        conc={
            n: amount(v, "mol/L")
            if v > 0
            else {**amount(0.0, "mol/L"), "below": units.to(BELOW, "mol/L")}
            for n, v in conc.items()
        },
        pH=None if proton is None else float(-np.log10(proton / C_STANDARD)),
        purity={n: w / total for n, w in weights.items()} if total > 0 else {},
        recovery={
            n: v / f
            for (n, v), f in zip(by_name.items(), fed.tolist(), strict=True)
            if f > 0 and n != case.model.counter_ion
        },
    )


def _profiles(
    case: CircuitCase,
    inputs: circuit.CircuitInputs,
    solved: circuit.CircuitResult,
    dimers: Array,
) -> dict[str, Profile]:
    """Stage by stage: concentrations, pH, loading, separation factors of neighbours."""
    bands: dict[str, tuple[int, int]] = {}
    first = 1
    for section in case.section:
        bands[section.name] = (first, first + section.stages - 1)
        first += section.stages
    marks = {}
    for inlet in case.inlet:
        start, end = bands[inlet.section]
        marks[inlet.name] = end if inlet.stage is None else start + inlet.stage - 1
    for draw in case.draw:
        marks[draw.name] = bands[draw.section][0] + draw.stage - 1
    stage = {"stage": range(1, case.stages + 1)}
    axes = {**stage, "component": inputs.components}
    litre = units.factor("mol/L")
    out = {
        f"conc_{phase}": Profile(
            unit="mol/L",
            axes=axes,
            values=np.where(values < BELOW, 0.0, values) / litre,
            bands=bands,
            marks=marks,
        )
        for phase, values in (("aq", solved.conc_aq), ("org", solved.conc_org))
    }
    rare = [i for i, name in enumerate(inputs.components) if name in RARE_EARTHS]
    for phase, flux in (("aq", solved.log_aqueous), ("org", solved.log_organic)):
        logs = flux[:, rare] - flux[:, rare].max(axis=1, keepdims=True)
        share = np.exp(logs) / np.exp(logs).sum(axis=1, keepdims=True)
        out[f"share_{phase}"] = Profile(
            unit="1",
            axes={**stage, "component": tuple(inputs.components[i] for i in rare)},
            values=share,
            bands=bands,
            marks=marks,
        )
    loading = solved.conc_org @ dimers / float(np.asarray(inputs.dimer))
    for name, values in (
        ("pH", solved.ph),
        ("loading", loading),
        ("free_extractant", solved.free[:, 0] / litre),
    ):
        unit = "mol/L" if name == "free_extractant" else "1"
        out[name] = Profile(unit=unit, axes=stage, values=values, bands=bands, marks=marks)
    log_d = (solved.log_organic - solved.log_aqueous)[:, rare]
    order = np.argsort(log_d[0], kind="stable")
    if len(rare) > 1:
        pairs = tuple(
            f"{inputs.components[rare[b]]}/{inputs.components[rare[a]]}" for a, b in pairwise(order)
        )
        out["separation_factor"] = Profile(
            unit="1",
            axes={**stage, "pair": pairs},
            values=np.exp(np.diff(log_d[:, order], axis=1)),
            bands=bands,
            marks=marks,
        )
    return out


def _quantities(
    case: CircuitCase,
    inputs: circuit.CircuitInputs,
    solved: circuit.CircuitResult,
    dimers: Array,
) -> dict[str, dict[str, object]]:
    """Reagents and what the circuit carries; base and acid beside the 3 S estimate."""
    rare = np.array([name in RARE_EARTHS for name in inputs.components])
    acid = sum(float(np.asarray(i.flow) * np.asarray(i.acid)) for i in inputs.inlets)
    fed = inputs.inlets[0]
    own = float(np.asarray(fed.flow) * np.asarray(fed.acid))
    solvent = float(np.max(solved.organic[:, rare].sum(axis=1)))
    out = {
        "stages": amount(case.stages, "1"),
        "organic_rare_earth": amount(solvent, "mol/h"),
        "acid": amount(acid - own, "mol/h"),
        "estimate_3S": amount(3 * solvent, "mol/h"),
        "recycle_largest": amount(float(np.max(solved.recycle[rare], initial=0.0)), "1"),
        "loading_largest": amount(
            float(np.max(solved.conc_org @ dimers)) / float(np.asarray(inputs.dimer)), "1"
        ),
        "pH_lowest": amount(float(np.min(solved.ph)), "1"),
        "pH_highest": amount(float(np.max(solved.ph)), "1"),
    }
    if case.model.counter_ion is not None:
        base = float(solved.supplied[-1])
        if not case.recycle.organic:
            base = float(np.asarray(inputs.organic_conc)[-1] * np.asarray(inputs.organic_flow))
        out["base"] = amount(base, "mol/h")
        out["base_over_3S"] = amount(base / (3 * solvent), "1")
        out["salt"] = amount(min(base, acid), "mol/h")
    return out
