"""A cascade case as the result of its equilibrium model."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sepmodel.data import Book
from sepmodel.errors import InfeasibleError
from sepmodel.extraction import cascade, factors
from sepmodel.extraction.inputs import CascadeCase, Draw, Inlet
from sepmodel.products import amounts
from sepmodel.result import Outlet, Profile, Result, Warned, amount

Array = NDArray[np.float64]

LEVEL = "stage to stage, constant separation factors"
# How far inside its limits, as a share of their distance, the nearest feasible flow is named.
_MARGIN = 1e-3


def solve_case(case: CascadeCase, book: Book) -> Result:
    """Steady state of a cascade case: outlets, stage profiles, balances.

    Flows are rare-earth molar flows in the unit of the case's ``mass_flow`` table and therefore
    dimensionless in the result.

    Raises
    ------
    InputError, InfeasibleError, ConvergenceError
        as ``cascade.solve``.
    """
    inputs = kernel_inputs(case, book)
    return result_of(case, inputs, cascade.solve(inputs), book)


def result_of(
    case: CascadeCase, inputs: cascade.MassFlowInputs, solved: cascade.CascadeResult, book: Book
) -> Result:
    """The result of a case from what the kernel found for it."""
    names = case.components
    fed = sum((np.asarray(inlet.flows) for inlet in inputs.inlets), start=np.zeros(len(names)))
    closures = dict(zip(names, solved.closure.tolist(), strict=True))
    return Result(
        kind=case.kind,
        name=case.name,
        model={"equilibrium": "mass-flow", "set": case.model.set, "level": LEVEL},
        solver={"iterations": int(solved.iterations), "residual": float(solved.residual)},
        streams=streams(case, solved, fed),
        profiles=profiles(case, solved),
        quantities={
            "stages": amount(case.stages, "1"),
            "solvent": amount(case.mass_flow.solvent, "1"),
            "scrub": amount(case.mass_flow.scrub, "1"),
            "phi": amount(case.mass_flow.solvent * case.stages, "1"),
        },
        balance={"components": closures, "max": max(closures.values())},
        warnings=_warnings(case),
        used=book.used,
    )


def kernel_inputs(case: CascadeCase, book: Book) -> cascade.MassFlowInputs:
    """The case in the kernel's terms.

    Raises
    ------
    InputError, InfeasibleError
        for factors that are not known and a scrub that leaves an outlet without rare earth.
    """
    _require_outlets(case)
    return cascade.MassFlowInputs(
        components=case.components,
        extractability=_extractability(case, book),
        stages=case.stages,
        solvent=case.mass_flow.solvent,
        scrub=case.mass_flow.scrub,
        inlets=tuple(_inlet(case, i) for i in range(len(case.inlet))),
        draws=tuple(
            cascade.Draw(
                name=draw.name,
                phase=draw.phase,
                stage=case.place(draw.section, draw.stage),
                flow=draw.flow,
            )
            for draw in case.draw
        ),
        efficiency=_efficiency(case),
    )


def _require_outlets(case: CascadeCase) -> None:
    """Refuse a scrub that leaves nothing for the organic outlet or nothing for the raffinate.

    The organic leaves with solvent + organic feeds - organic draws - scrub, the raffinate with the
    rest of the feeds and draws: both flows are fixed by the case, and neither may be negative.
    """
    fed = {"aqueous": 0.0, "organic": 0.0}
    for inlet in case.inlet:
        fed[inlet.phase] += case.mass_flow.feed if inlet.flow is None else inlet.flow
    drawn = {"aqueous": 0.0, "organic": 0.0}
    for draw in case.draw:
        drawn[draw.phase] += draw.flow
    scrub = case.mass_flow.scrub
    most = case.mass_flow.solvent + fed["organic"] - drawn["organic"]
    least = most - (sum(fed.values()) - sum(drawn.values()))
    if least < scrub < most:
        return
    if not most > 0:
        raise InfeasibleError(
            "the draws take all of the organic",
            limit={"organic left for the organic outlet and the scrub": most},
        )
    outlet = "raffinate" if scrub <= least else "organic outlet"
    lowest = max(least, 0.0)  # a scrub is not negative
    inside = _MARGIN * (most - lowest)
    raise InfeasibleError(
        f"with this scrub nothing is left for the {outlet}",
        limit={"scrub above" if least >= 0 else "scrub at least": lowest, "scrub below": most},
        nearest={"scrub": min(max(scrub, lowest + inside), most - inside)} if inside > 0 else {},
    )


def _inlet(case: CascadeCase, index: int) -> cascade.Inlet:
    """An inlet of the kernel: shares normalised, times its flow."""
    inlet = case.inlet[index]
    shares = np.array([inlet.composition.get(name, 0.0) for name in case.components])
    flow = case.mass_flow.feed if inlet.flow is None else inlet.flow
    return cascade.Inlet(
        name=inlet.name,
        phase=inlet.phase,
        stage=case.place(inlet.section, inlet.stage),
        flows=flow * shares / shares.sum(),
    )


def _extractability(case: CascadeCase, book: Book) -> Array:
    own = case.mass_flow.separation_factors
    if own is None:
        return factors.extractabilities(book, str(case.model.set), case.components)
    if not any("/" in name for name in own):
        return np.array([own[name] for name in case.components])
    return factors.chained(own, case.components)


def _efficiency(case: CascadeCase) -> Array:
    """Murphree efficiency of each stage and component, shape (N, C)."""
    rows = []
    for section in case.section:
        given = section.efficiency
        row = [given if isinstance(given, float) else given.get(c, 1.0) for c in case.components]
        rows += [row] * section.stages
    return np.array(rows, dtype=float)


def streams(case: CascadeCase, solved: cascade.CascadeResult, fed: Array) -> dict[str, Outlet]:
    """Every outlet with its purity and recovery; ``fed`` is what enters of each component."""
    phases = {"raffinate": "aqueous", "loaded_organic": "organic"}
    phases.update({draw.name: draw.phase for draw in case.draw})
    places = {"raffinate": (case.section[0].name, 1)}
    places["loaded_organic"] = (case.section[-1].name, case.section[-1].stages)
    places.update({draw.name: (draw.section, draw.stage) for draw in case.draw})
    return {
        name: Outlet(
            phase=phases[name],
            section=places[name][0],
            stage=places[name][1],
            flow=amount(float(flows.sum()), "1"),
            moles={c: amount(n, "1") for c, n in _named(case, flows).items()},
            purity=_purity(case, flows),
            recovery={
                c: n / f
                for (c, n), f in zip(_named(case, flows).items(), fed.tolist(), strict=True)
                if f > 0
            },
        )
        for name, flows in solved.outlets.items()
    }


def _named(case: CascadeCase, flows: Array) -> dict[str, float]:
    return dict(zip(case.components, flows.tolist(), strict=True))


def _purity(case: CascadeCase, flows: Array) -> dict[str, float]:
    """Share of each component in an outlet on the case's basis."""
    weights = amounts(_named(case, flows), case.purity_basis)
    total = sum(weights.values())
    return {c: w / total for c, w in weights.items()} if total > 0 else {}


def profiles(case: CascadeCase, solved: cascade.CascadeResult) -> dict[str, Profile]:
    """Shares and fluxes of both phases along the stages."""
    bands: dict[str, tuple[int, int]] = {}
    first = 1
    for section in case.section:
        bands[section.name] = (first, first + section.stages - 1)
        first += section.stages
    ports: list[Inlet | Draw] = [*case.inlet, *case.draw]
    marks = {port.name: case.place(port.section, port.stage) for port in ports}
    axes = {"stage": range(1, case.stages + 1), "component": case.components}
    found = {}
    for phase, flux in (("aq", solved.aqueous), ("org", solved.organic)):
        total = flux.sum(axis=-1, keepdims=True)
        share = np.divide(flux, total, out=np.full_like(flux, np.nan), where=total > 0)
        for name, values in (("share", share), ("flux", flux)):
            found[f"{name}_{phase}"] = Profile(
                unit="1", axes=axes, values=values, bands=bands, marks=marks
            )
    return found


def _warnings(case: CascadeCase) -> list[Warned]:
    return [
        Warned(
            code="temperature-unused",
            message="the mass-flow model knows no temperature: its factors hold for their own",
            where=section.name,
        )
        for section in case.section
        if section.temperature is not None
    ]
