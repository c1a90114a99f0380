"""Stages against solvent: the curve on which a design is chosen, whole stages throughout."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from sepmodel.errors import InfeasibleError
from sepmodel.extraction import design_flows
from sepmodel.extraction.design import CircuitDesign, Weights, design_circuit
from sepmodel.extraction.design_flows import Flows, Plant
from sepmodel.extraction.design_inputs import DesignCase
from sepmodel.extraction.design_spec import Spec

# Scrub above its least, as multiples of the least: where the curve is drawn.
EXCESS = 2.0 ** (np.arange(-10, 5) / 2)
# Weights under which the continuous search starts for each objective.
STARTS: Mapping[str, Weights] = {
    "inventory": Weights(inventory=1.0),
    "lock-up": Weights(inventory=1.0),
    "operating-cost": Weights(inventory=1.0),
    "reagents": Weights(inventory=0.0, solvent=1.0),
    "stages": Weights(inventory=1e-6, stages=1.0),
}
# Objectives that have no least value inside: they are followed to the stage count that is allowed.
_ENDLESS = ("reagents", "stages")
# Reagents are worth what the last stages save: a stage more for less than this share is not taken.
_WORTH = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One circuit of the curve, per mole of feed, with its objective and what it would break.

    ``phi`` = S (n + m). ``broken`` names the limits left; such a circuit is not chosen.
    """

    solvent: float
    scrub: float
    stages_extraction: int
    stages_scrub: int
    phi: float
    objective: float
    lock_up: float
    broken: tuple[str, ...]

    @property
    def stages(self) -> int:
        """n + m."""
        return self.stages_extraction + self.stages_scrub


def circuit(
    spec: Spec, case: DesignCase, *, solvent: float | None = None, weights: Weights | None = None
) -> CircuitDesign:
    """The mass-flow circuit of a specification, at a given or the best solvent."""
    return design_circuit(
        spec.feed,
        spec.extractability,
        spec.light,
        raffinate=spec.raffinate,
        organic=spec.organic,
        feed_phase=case.feed.phase,
        weights=weights,
        solvent=solvent,
        most_stages=case.circuit.most_stages,
        efficiency=case.circuit.efficiency,
    )


def measure(case: DesignCase, plant: Plant) -> Callable[[CircuitDesign], Point]:
    """A function that gives a circuit's point on the curve."""

    # An organic feed that carries less than the solvent takes more room than phi counts.
    thinner = plant.loading / plant.feed_conc - 1 if plant.feed_phase == "organic" else 0.0

    def point(found: CircuitDesign) -> Point:
        flows = plant.flows(found.solvent, found.scrub, sum(found.organic.values()))
        n, m = found.stages_extraction, found.stages_scrub
        held = design_flows.lock_up(plant, flows, found.solvent, found.scrub, n, m)
        value = {
            "inventory": found.phi + thinner * (m + 1),
            "reagents": found.solvent,
            "stages": float(found.stages),
            "lock-up": held,
        }.get(case.objective.minimise)
        if value is None:
            organic = design_flows.inventory(plant, flows, n, m)
            value = design_flows.operating_cost(plant, flows, organic) / plant.feed
        return Point(
            solvent=found.solvent,
            scrub=found.scrub,
            stages_extraction=n,
            stages_scrub=m,
            phi=found.phi,
            objective=value,
            lock_up=held,
            broken=_broken(plant, flows),
        )

    return point


def _broken(plant: Plant, flows: Flows) -> tuple[str, ...]:
    """Limits the case sets that a circuit leaves."""
    out = []
    for section in ("extraction", "scrub"):
        ratio = flows.ratio(section)
        if plant.hard_high is not None and ratio > plant.hard_high:
            out.append(f"O/A in {section} {ratio:.3g}, at most {plant.hard_high:g}")
        if plant.hard_low is not None and ratio < plant.hard_low:
            out.append(f"O/A in {section} {ratio:.3g}, at least {plant.hard_low:g}")
    return tuple(out)


def curve(
    spec: Spec, case: DesignCase, plant: Plant, first: CircuitDesign
) -> list[tuple[Point, CircuitDesign]]:
    """Circuits from just above the least solvent to well beyond the use of more, ascending in S.

    Solvent flows at which no circuit is found within the stages allowed are left out.
    """
    point = measure(case, plant)
    least, scrub = first.minimum["solvent"], first.minimum["scrub"]
    unit = max(scrub, float(EXCESS[0]) * sum(first.organic.values()))
    found = [(point(first), first)]
    for excess in EXCESS.tolist():
        try:
            member = circuit(spec, case, solvent=least + unit * excess)
        except InfeasibleError:
            continue
        found.append((point(member), member))
    return sorted(found, key=lambda pair: pair[0].solvent)


def choose(case: DesignCase, found: list[tuple[Point, CircuitDesign]]) -> CircuitDesign:
    """The member of least objective that leaves no limit.

    Raises
    ------
    InfeasibleError
        when every member leaves a limit: which, by how much, and the nearest.
    """
    good = [pair for pair in found if not pair[0].broken]
    if not good:
        nearest, _ = min(found, key=lambda pair: (len(pair[0].broken), pair[0].objective))
        raise InfeasibleError(
            "no circuit keeps the limits set: " + "; ".join(nearest.broken),
            limit={"limits": "; ".join(nearest.broken)},
            nearest={"solvent": nearest.solvent, "stages": float(nearest.stages)},
        )
    if case.objective.minimise == "stages":
        fewest = min(point.stages for point, _ in good)
        good = [pair for pair in good if pair[0].stages == fewest]
        return min(good, key=lambda pair: pair[0].solvent)[1]
    if case.objective.minimise in _ENDLESS:
        # From the fewest stages on: more are added while each saves its share of the reagents.
        ladder = sorted(good, key=lambda pair: (pair[0].stages, pair[0].objective))
        best = ladder[0]
        for pair in ladder[1:]:
            gained = 1 - pair[0].objective / best[0].objective
            if gained > _WORTH * (pair[0].stages - best[0].stages):
                best = pair
        return best[1]
    return min(good, key=lambda pair: pair[0].objective)[1]
