"""A solved circuit in the terms of its case: streams, stage profiles, reagents."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sepmodel import units
from sepmodel.chemistry.cation_exchange import C_STANDARD
from sepmodel.data import Book
from sepmodel.extraction import circuit
from sepmodel.extraction.circuit_inputs import CircuitCase
from sepmodel.extraction.circuit_limits import hydroxide_constants, hydroxide_margin
from sepmodel.products import amounts
from sepmodel.result import Outlet, Profile, amount
from sepmodel.species import OXIDES, RARE_EARTHS

Array = NDArray[np.float64]

# Concentrations [mol/m3] below are reported as such: no assay reaches them.
BELOW = 1e-30
LIQUORS = {
    "raffinate": "raffinate",
    "scrub": "scrub_liquor",
    "strip": "strip_liquor",
    "saponify": "saponification_liquor",
}
# The organic that leaves a section of a closed loop.
ORGANICS = {"strip": "barren_organic", "saponify": "saponified_organic"}
# Recycle ratios below this are in the profile, not in the table.
WORTH_NAMING = 0.01


def streams(
    case: CircuitCase, inputs: circuit.CircuitInputs, solved: circuit.CircuitResult
) -> dict[str, Outlet]:
    """Every outlet, and the organic where it leaves its sections."""
    fed = sum(
        (np.asarray(i.flow) * np.asarray(i.conc) for i in inputs.inlets),
        start=np.zeros(len(inputs.components)),
    )
    sections = {section.name: section.stages for section in case.section}
    places: dict[str, tuple[str, int]] = {d.name: (d.section, d.stage) for d in case.draw}
    found = {}
    for name, outlet in solved.outlets.items():
        label = LIQUORS.get(name, name)
        if name == "organic":
            label = "barren_organic" if "strip" in sections else "loaded_organic"
            place: tuple[str, int] = (case.section[-1].name, case.section[-1].stages)
        else:
            first = case.section[0].name if name == "raffinate" else name
            place = places.get(name, (first, 1))
        found[label] = _outlet(
            case, inputs, outlet.phase, place, float(outlet.flow), outlet.moles, fed,
            proton=float(outlet.proton) if outlet.phase == "aqueous" else None,
        )  # fmt: skip
    at = 0
    for number, section in enumerate(case.section):
        at += section.stages
        following = case.section[number + 1 :]
        if (following and following[0].name == "strip") or (
            case.recycle.organic and section.name in ORGANICS
        ):
            label = ORGANICS.get(section.name, "loaded_organic")
            found[label] = _outlet(
                case, inputs, "organic", (section.name, section.stages),
                float(solved.flow_org[at - 1]), solved.organic[at - 1], fed,
            )  # fmt: skip
    return found


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


def profiles(
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
    total = float(np.asarray(inputs.dimer))
    for name, values in (
        ("pH", solved.ph),
        ("loading", solved.conc_org @ dimers / total),
        ("rare_earth_loading", solved.conc_org[:, rare] @ dimers[rare] / total),
        ("free_extractant", solved.free[:, 0] / litre),
        ("phase_ratio", solved.flow_org / solved.flow_aq),
    ):
        unit = "mol/L" if name == "free_extractant" else "1"
        out[name] = Profile(unit=unit, axes=stage, values=values, bands=bands, marks=marks)
    if case.recycle.organic:
        out["recycle"] = Profile(
            unit="1",
            axes={"component": tuple(inputs.components[i] for i in rare)},
            values=_assayable(solved.recycle[rare]),
        )
    with np.errstate(invalid="ignore"):  # an element that is nowhere
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


def quantities(
    case: CircuitCase,
    book: Book,
    inputs: circuit.CircuitInputs,
    solved: circuit.CircuitResult,
    dimers: Array,
) -> dict[str, dict[str, object]]:
    """Reagents and what the circuit carries; base and acid beside the 3 S estimate."""
    names = inputs.components
    rare = np.array([name in RARE_EARTHS for name in names])
    # The acid of the feed is not bought here.
    acid = sum(
        inlet.flow * inlet.acid
        for inlet in case.inlet
        if not set(inlet.composition) & set(RARE_EARTHS)
    )
    solvent = float(np.max(solved.organic[:, rare].sum(axis=1)))
    out = {
        "stages": amount(case.stages, "1"),
        "organic_rare_earth": amount(solvent, "mol/h"),
        "acid": amount(acid, "mol/h"),
        "estimate_3S": amount(3 * solvent, "mol/h"),
    }
    out |= _stripping(case, inputs, solved, rare)
    out["loading_largest"] = amount(
        float(np.max(solved.conc_org @ dimers)) / float(np.asarray(inputs.dimer)), "1"
    )
    out["pH_lowest"] = amount(float(np.min(solved.ph)), "1")
    out["pH_highest"] = amount(float(np.max(solved.ph)), "1")
    constants = hydroxide_constants(book, [name for name in names if name in RARE_EARTHS])
    if constants:
        margin = float(np.min(hydroxide_margin(constants, names, solved)))
        if np.isfinite(margin):
            out["pH_to_hydroxide"] = amount(margin, "1")
    if case.model.counter_ion is not None:
        base = _base(case, inputs, solved)
        out["base"] = amount(base, "mol/h")
        out["base_over_3S"] = amount(base / (3 * solvent), "1")
        out["salt"] = amount(min(base, acid), "mol/h")
    return out


def _stripping(
    case: CircuitCase,
    inputs: circuit.CircuitInputs,
    solved: circuit.CircuitResult,
    rare: NDArray[np.bool_],
) -> dict[str, dict[str, object]]:
    """How much of the strip acid reacts, and what the organic brings back, element by element."""
    out: dict[str, dict[str, object]] = {}
    fed = sum(
        float(np.asarray(i.flow) * np.asarray(i.acid))
        for i in inputs.inlets
        if i.section == "strip"
    )
    if "strip" in solved.outlets and fed > 0:
        taken = float(solved.outlets["strip"].moles[rare] @ inputs.charge[rare])
        out["strip_acid_used"] = amount(taken / fed, "1")
    if case.recycle.organic:
        out["recycle_largest"] = amount(
            float(np.max(_assayable(solved.recycle[rare]), initial=0.0)), "1"
        )
        out |= {
            f"recycle_{name}": amount(float(share), "1")
            for name, share in zip(inputs.components, solved.recycle, strict=True)
            if name in RARE_EARTHS and share >= WORTH_NAMING
        }
    return out


def _assayable(share: Array) -> Array:
    """Ratios below what concentrations are reported at are zero."""
    out: Array = np.where(share < BELOW, 0.0, share)
    return out


def _base(case: CircuitCase, inputs: circuit.CircuitInputs, solved: circuit.CircuitResult) -> float:
    """Base bought [mol/s]: what base inlets bring, and what a fixed saponification takes."""
    brought = sum(inlet.flow * inlet.base for inlet in case.inlet)
    if not case.organic.saponification:
        return brought
    ions = solved.supplied[-1]
    if not case.recycle.organic:
        ions = np.asarray(inputs.organic_conc)[-1] * np.asarray(inputs.organic_flow)
    return brought + float(ions * inputs.charge[-1])
