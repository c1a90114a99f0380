"""Why a circuit was not solved: the stage, the element that piles up, and the plain arithmetic."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel import solvers, units
from sepmodel.errors import ConvergenceError, Trace
from sepmodel.extraction import chain as chains
from sepmodel.extraction.circuit_plan import CircuitInputs, Inlet, members
from sepmodel.extraction.stagewise import Plan, evaluate, take

Array = NDArray[np.float64]

# Share by which acid has to exceed the soap it turns back: equilibrium asks for some more.
MARGIN = 0.1


def of(
    inputs: CircuitInputs,
    plan: Plan,
    u: Array,
    norm: Array,
    done: NDArray[np.bool_],
    last: solvers.Solution | None,
) -> ConvergenceError:
    """What went wrong with the worst member, and what to try."""
    bad = np.flatnonzero(~done)
    worst = int(bad[np.argmax(norm[bad])])
    alone = np.array([worst])
    part = take(plan, alone)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        r, (fluxes, spot) = evaluate(part, u[alone])
        inventory = fluxes.organic[0] - chains.log(part.chain.feed.sum(axis=(0, 2)))[0]
    stage = int(np.argmax(np.max(np.abs(np.nan_to_num(r[0], nan=np.inf)), axis=-1)))
    negative = spot.free is not None and bool(np.any(spot.free[0] <= 0))
    if negative:
        stage = int(np.argmin(np.min(spot.free[0], axis=-1)))
    fed = np.isfinite(inventory).any(axis=0)
    component = int(np.argmax(np.where(fed, np.max(inventory, axis=0), -np.inf)))
    factor = float(np.exp(np.minimum(np.max(inventory[:, component]), 100.0)))
    names = [section.name for section in inputs.sections]
    starts = np.cumsum([0] + [section.stages for section in inputs.sections])
    where = int(np.searchsorted(starts, stage, side="right")) - 1
    local = stage - int(starts[where]) + 1
    advice = (
        f"let {inputs.components[component]} leave: more or stronger strip acid, another cut "
        "between solvent and scrub; or begin with less saponified organic and go on from there"
    )
    brought = _Equivalents(inputs, plan, worst)
    verdict, port = brought.verdict()
    if port is not None:
        advice = f"more or stronger strip acid ({port.name}), or less organic or saponification"
    what = "no free extractant or acid is left" if negative else f"closure off by {norm[worst]:.1e}"
    return ConvergenceError(
        f"the circuit was not solved: {verdict}{what} at stage {local} of {names[where]!r}; "
        f"{inputs.components[component]} piles up to {factor:.3g} times its feed; equivalents "
        f"brought in, mol/h: {brought}",
        trace=Trace(
            history=() if last is None else last.history,
            equation="dimer and charge balance",
            stage=stage + 1,
            component=inputs.components[component],
            advice=advice,
            extra={
                "section": names[where],
                "section_stage": local,
                "pile_up": factor,
                "inlet": None if port is None else port.name,
            },
        ),
    )


class _Equivalents:
    """What the organic and every inlet bring, mol/h: soap, acid, metals three times their moles."""

    def __init__(self, inputs: CircuitInputs, plan: Plan, member: int) -> None:
        self.inputs = inputs
        shape = (len(inputs.components),)
        hour = units.factor("mol/h")

        def value(values: ArrayLike) -> float:
            return float(members(values, plan.batch)[member])

        def bound(conc: ArrayLike) -> float:
            return float(members(conc, plan.batch, shape)[member] @ inputs.charge)

        self.soap = value(inputs.organic_flow) * bound(inputs.organic_conc) / hour
        self.acid = {i.name: value(i.flow) * value(i.acid) / hour for i in inputs.inlets}
        self.metals = {i.name: value(i.flow) * bound(i.conc) / hour for i in inputs.inlets}

    def verdict(self) -> tuple[str, Inlet | None]:
        """The plain arithmetic of a closed loop where it already decides, and the inlet to change.

        All acid that enters leaves as acid but for what turns soap back into extractant.
        """
        acid = sum(self.acid.values())
        if not (self.inputs.closed and self.inputs.reset) or acid > (1.0 + MARGIN) * self.soap:
            return "", None
        last = [i for i in self.inputs.inlets if i.section == self.inputs.sections[-1].name]
        less = "less" if acid < self.soap else "hardly more"
        text = (
            f"{less} acid ({acid:.5g} mol/h) than soap ({self.soap:.5g} mol/h), and it has "
            "to turn all of that back into extractant; "
        )
        return text, max(last, key=lambda i: self.acid[i.name], default=None)

    def __str__(self) -> str:
        parts = [f"{'soap' if self.inputs.reset else 'organic'} {self.soap:.5g}"]
        for what, amounts in (("acid", self.acid), ("metals", self.metals)):
            if any(amounts.values()):
                each = ", ".join(f"{name} {value:.5g}" for name, value in amounts.items())
                parts.append(f"{what} ({each})")
        return "; ".join(parts)
