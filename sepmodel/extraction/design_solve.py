"""A design file as a design: bounds, curve, circuit, re-calculation, tolerances, words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sepmodel import products
from sepmodel.data import Book
from sepmodel.errors import ConvergenceError, InfeasibleError
from sepmodel.extraction import (
    cascade,
    design_curve,
    design_draw,
    design_flows,
    explain,
    tolerance,
)
from sepmodel.extraction.design import CircuitDesign
from sepmodel.extraction.design_case import mass_flow_document
from sepmodel.extraction.design_inputs import MOST_PRODUCTS, DesignCase
from sepmodel.extraction.design_result import Asked, Design, Held
from sepmodel.extraction.design_spec import Spec, three_outlets, two_outlets
from sepmodel.extraction.inputs import CascadeCase
from sepmodel.extraction.remarch import agree, difference, remarch
from sepmodel.extraction.solve import solve_case
from sepmodel.fields import validate

Array = NDArray[np.float64]
# A specification counts as met within rounding.
ROUNDING = 1e-9
OUTLETS = {"raffinate": "raffinate", "organic": "loaded_organic", "draw": "draw"}


def solve(case: DesignCase, book: Book) -> Design:
    """The circuit of least objective that meets a design file's specifications.

    Raises
    ------
    InputError
        what cannot be used.
    InfeasibleError
        with the limit that is violated, by how much, and the nearest feasible value.
    """
    if len(case.product) == MOST_PRODUCTS:
        return _with_draw(case, book)
    spec = two_outlets(case, book)
    plant = design_flows.plant(case, book)
    first = _first(case, spec)
    members = design_curve.curve(spec, case, plant, first)
    if case.circuit.solvent is None:
        found = design_curve.choose(case, members)
    else:
        found = first
        design_curve.choose(case, [(design_curve.measure(case, plant)(first), first)])
    made = describe(case, book, spec, plant, found, [point for point, _ in members])
    if case.robust is None:
        return made
    from sepmodel.extraction import robust

    sure = robust.design(case, spec, book, found)
    return replace(
        made, robust=sure, statements=(*made.statements, *explain.certainty(sure, case.accuracy))
    )


def _with_draw(case: DesignCase, book: Book) -> Design:
    """Three outlets: the circuit, and its neighbours in solvent as the curve."""
    spec = three_outlets(case, book)
    plant = design_flows.plant(case, book)
    wanted = [
        design_draw.Wanted(
            name=product.name,
            elements=product.elements,
            purity=product.purity,
            recovery=product.recovery,
            limits=dict(product.limits),
        )
        for outlet in ("raffinate", "draw", "organic")
        if (product := spec.products[outlet]) is not None
    ]
    found, members = design_draw.design_draw(
        spec.feed,
        spec.extractability,
        wanted,
        solvent=case.circuit.solvent,
        draw_phase=wanted_phase(spec),
        feed_phase=case.feed.phase,
        basis=case.purity_basis,
        most_stages=case.circuit.most_stages,
        efficiency=case.circuit.efficiency,
        score=lambda member: design_curve.measure(case, plant)(member).objective,
    )
    point = design_curve.measure(case, plant)
    return describe(case, book, spec, plant, found, [point(member) for member in members])


def wanted_phase(spec: Spec) -> str:
    """The phase a middle product is drawn from."""
    product = spec.products["draw"]
    return "aqueous" if product is None else product.phase


def _first(case: DesignCase, spec: Spec) -> CircuitDesign:
    """The circuit the curve is drawn around; a refusal names a circuit that can be built."""
    solvent = case.circuit.solvent
    weights = design_curve.STARTS[case.objective.minimise]
    try:
        return design_curve.circuit(spec, case, solvent=solvent, weights=weights)
    except InfeasibleError as error:
        if solvent is None or "solvent" not in error.limit:
            raise
        least, scrub = float(error.limit["solvent"]), float(error.limit.get("scrub", 0.0))
        for excess in design_curve.EXCESS.tolist():
            try:
                near = design_curve.circuit(spec, case, solvent=least + excess * scrub)
            except (InfeasibleError, ConvergenceError):
                # A hint that is not found never stands in for the refusal.
                continue
            raise InfeasibleError(
                f"a solvent of {solvent:.6g} is {100 * (1 - solvent / least):.3g} % below the "
                f"least, {least:.6g} mol per mol of feed: {spec.cut} pinches at the feed"
                if solvent < least
                else f"a solvent of {solvent:.6g}, {100 * (solvent / least - 1):.2g} % above the "
                f"least, takes more than {case.circuit.most_stages} stages",
                limit=error.limit,
                nearest={
                    "solvent": near.solvent,
                    "stages_extraction": near.stages_extraction,
                    "stages_scrub": near.stages_scrub,
                },
            ) from None
        raise


def describe(
    case: DesignCase,
    book: Book,
    spec: Spec,
    plant: design_flows.Plant,
    found: CircuitDesign,
    points: list[design_curve.Point],
) -> Design:
    """Everything there is to say about a circuit that was found."""
    n, m = found.stages_extraction, found.stages_scrub
    found = replace(found, objective=design_curve.measure(case, plant)(found).objective)
    document = mass_flow_document(
        case.name,
        components=found.components,
        factors=found.extractability,
        feed={e: found.feed[e] for e in found.components},
        feed_phase=case.feed.phase,
        stages=(n, m),
        solvent=found.solvent,
        scrub=found.scrub,
        basis=case.purity_basis,
        efficiency=case.circuit.efficiency,
        draws=_draws(found),
        title=f"{spec.cut} as designed, flows per mole of feed",
    )
    result = solve_case(validate(CascadeCase, document), book)
    inputs = kernel(case, found)
    solved = cascade.solve(inputs)
    recheck = _recheck(case, found, solved)
    flows = plant.flows(found.solvent, found.scrub, sum(found.organic.values()))
    names = {
        outlet: product.name if product is not None else "-".join(spec.sides[outlet])
        for outlet, product in spec.products.items()
    }
    outlets = {"raffinate": found.raffinate, "organic": found.organic}
    if found.draw is not None:
        outlets["draw"] = found.draw.flows
    asked = specifications(case, spec, outlets, names)
    sensitivity = tolerance.mass_flow(inputs, solved.theta, qualities(case, spec, asked))
    response = _response(found, inputs, solved, plant, flows)
    by_factors = sensitivity
    held_up = design_flows.lock_up(plant, flows, found.solvent, found.scrub, n, m)
    confirmation = None
    if case.model.equilibrium == "mass-action":
        from sepmodel.extraction.circuit_inputs import CircuitCase
        from sepmodel.extraction.circuit_solve import solve_case as solve_circuit
        from sepmodel.extraction.confirm import confirm

        confirmation = confirm(case, book, spec, plant, found, sensitivity.qualities)
        document = dict(confirmation.document)
        result = solve_circuit(validate(CircuitCase, document), book)
        sensitivity = confirmation.sensitivity
        ends = confirmation.outlets(spec.names, plant.feed)
        outlets = {"raffinate": ends[0], "organic": ends[1]}
        asked = specifications(case, spec, outlets, names)
        recheck = max(recheck, confirmation.recheck)
    statements = explain.statements(
        found,
        by_factors,
        solved.aqueous,
        plant,
        flows,
        names,
        response,
        case.accuracy.solvent,
        confirmation,
    )
    purities = {p.name: p.purity for p in case.product if p.purity is not None}
    warnings = (
        *result.warnings,
        *design_flows.feed_acid_unused(case, flows),
        *design_flows.beyond_practice(purities, book),
    )
    result = replace(result, warnings=warnings)
    return Design(
        name=case.name,
        status="designed",
        circuit=found,
        plant=plant,
        flows=flows,
        curve=tuple(points),
        asked=tuple(asked),
        statements=tuple(statements),
        sensitivity=sensitivity,
        held=tuple(_held(sensitivity)),
        result=result,
        document=document,
        recheck=recheck,
        hold_up=held_up,
        response=response,
        objective=case.objective.minimise,
        names=names,
        confirmation=confirmation,
        warnings=warnings,
    )


def kernel(case: DesignCase, found: CircuitDesign) -> cascade.MassFlowInputs:
    """A two-outlet circuit in the terms of the cascade."""
    names = found.components
    return cascade.MassFlowInputs(
        components=names,
        extractability=np.array([found.extractability[e] for e in names]),
        stages=found.stages,
        solvent=found.solvent,
        scrub=found.scrub,
        inlets=(
            cascade.Inlet(
                name="feed",
                phase=case.feed.phase,
                stage=found.stages_extraction,
                flows=np.array([found.feed[e] for e in names]),
            ),
        ),
        draws=()
        if found.draw is None
        else (
            cascade.Draw(
                name="draw",
                phase=found.draw.phase,
                stage=found.draw.stage,
                flow=sum(found.draw.flows.values()),
            ),
        ),
        efficiency=case.circuit.efficiency,
    )


def _draws(found: CircuitDesign) -> list[dict[str, object]]:
    """The draw as a case file lists it: the stage inside its section."""
    if found.draw is None:
        return []
    inside = found.draw.stage <= found.stages_extraction
    return [
        {
            "name": "draw",
            "phase": found.draw.phase,
            "section": "extraction" if inside else "scrub",
            "stage": found.draw.stage - (0 if inside else found.stages_extraction),
            "flow": sum(found.draw.flows.values()),
        }
    ]


def specifications(
    case: DesignCase,
    spec: Spec,
    outlets: Mapping[str, Mapping[str, float]],
    names: dict[str, str],
) -> list[Asked]:
    """Each purity, recovery and limit asked for, with what the outlets reach."""
    out = []
    for outlet, product in spec.products.items():
        if product is None:
            continue
        moles = outlets[outlet]
        basis = case.purity_basis
        amounts = products.amounts(moles, basis)
        rows: list[tuple[str, float, float, bool]] = []
        if product.purity is not None:
            value = products.purity(moles, product.elements, basis)
            rows.append(("purity", product.purity, value, value >= product.purity - ROUNDING))
        if product.recovery is not None:
            value = products.recovery(moles, spec.feed, product.elements, basis)
            rows.append(("recovery", product.recovery, value, value >= product.recovery - ROUNDING))
        for element, share in product.limits.items():
            value = amounts[element] / sum(amounts.values())
            rows.append((element, share, value, value <= share * (1 + ROUNDING)))
        out += [
            Asked(
                product=names[outlet],
                outlet=outlet,
                kind=kind,
                asked=wanted,
                reached=value,
                met=met,
            )
            for kind, wanted, value, met in rows
        ]
    return out


def qualities(case: DesignCase, spec: Spec, asked: list[Asked]) -> list[tolerance.Quality]:
    """What the tolerances are of: purity of both outlets, and each recovery asked for."""
    out = []
    for outlet, product in spec.products.items():
        side = spec.sides[outlet]
        elements = product.elements if product is not None else side
        label = product.name if product is not None else "-".join(side)
        wanted = {a.kind: a.asked for a in asked if a.outlet == outlet}
        kinds = ["purity", *(["recovery"] if "recovery" in wanted else [])]
        out += [
            tolerance.Quality(
                name=f"{kind} of {label}",
                outlet=OUTLETS[outlet],
                kind=kind,
                elements=tuple(elements),
                basis=case.purity_basis,
                asked=wanted.get(kind),
            )
            for kind in kinds
        ]
    return out


def _held(sensitivity: tolerance.Sensitivity) -> list[Held]:
    """What each input may do, the most demanding first."""
    out = []
    for k, name in enumerate(sensitivity.parameters):
        low, high = sensitivity.allowed(name)
        worst = int(np.argmax(np.abs(sensitivity.values[:, k])))
        if name in tolerance.FROM_ZERO:
            low = 0.0
        out.append(
            Held(
                name=name,
                low=low,
                high=high,
                doubling=sensitivity.doubling(name),
                product=sensitivity.qualities[worst].name,
            )
        )
    return sorted(out, key=lambda h: h.doubling)


def _recheck(case: DesignCase, found: CircuitDesign, solved: cascade.CascadeResult) -> float:
    """Largest difference of the outlets to those of the circuit simulated again, of any flow.

    Raises
    ------
    ConvergenceError
        when the two calculations contradict one another.
    """
    feed = np.array([found.feed[e] for e in found.components])
    second = remarch(
        np.array([found.extractability[e] for e in found.components]),
        feed,
        found.solvent,
        found.scrub,
        found.stages_extraction,
        found.stages_scrub,
        case.feed.phase,
        case.circuit.efficiency,
        draw=None
        if found.draw is None
        else (found.draw.stage, found.draw.phase, sum(found.draw.flows.values())),
    )
    outlets = {"raffinate": solved.raffinate, "organic": solved.loaded_organic, **solved.draws}
    return agree(difference(second, feed, outlets))


def _response(
    found: CircuitDesign,
    inputs: cascade.MassFlowInputs,
    solved: cascade.CascadeResult,
    plant: design_flows.Plant,
    flows: design_flows.Flows,
) -> float:
    """Time [s] in which the stages' contents answer to a wrong split.

    What the heavier group held in the stages changes by, per unit of solvent, over what leaves more
    of it: the inventory a wrong split has to fill or empty before the outlets have changed.
    """
    step = 1e-6
    moved = cascade.solve(replace(inputs, solvent=found.solvent * (1 - step)), guess=solved.theta)
    heavy = np.array([e in found.heavy for e in found.components])

    def held(result: cascade.CascadeResult) -> float:
        aqueous, organic = (
            result.aqueous[:, heavy].sum(axis=1),
            result.organic[:, heavy].sum(axis=1),
        )
        below = np.arange(found.stages) < flows.below(found.stages_extraction)
        first, second = flows.phases("extraction"), flows.phases("scrub")
        organics, volume = (np.where(below, x, y) for x, y in zip(first, second, strict=True))
        both = organics + volume
        time_aq = plant.residence + 0.5 * plant.settling * both / np.maximum(
            volume, np.finfo(float).tiny
        )
        time_org = plant.residence + 0.5 * plant.settling * both / organics
        at_work = np.where(volume > 0, time_aq, 0.0)
        return float(np.sum(aqueous * at_work + organic * time_org))

    changed = (held(moved) - held(solved)) / (-step * found.solvent)
    return abs(changed)
