"""Designs that meet their specification with a stated probability, and what that costs in stages.

A plant holds its flows and knows its feed to some accuracy; the separation factor has a range.
Members are drawn from all of these and solved together. The circuit is designed to tighter
specifications until enough members meet the true ones. The product split is corrected by assays
(``accuracy.split`` is what remains): what a wrong split moves from one outlet to the other no stage
can mend, and where that alone is too much the answer says how well it has to be held.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel import data, distributions, products, sampling, statistics
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError
from sepmodel.extraction import cascade, design_curve
from sepmodel.extraction.design import CircuitDesign
from sepmodel.extraction.design_inputs import DesignCase
from sepmodel.extraction.design_spec import Spec

Array = NDArray[np.float64]

# What strays is asked to be this part of what may, one after the other.
TIGHTER = 2.0 ** (-np.arange(0, 10) / 2)
# Rounds of the search between two of them, and of the search for the split that will do.
BISECTIONS = 4
HALVINGS = 10
SEED = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A circuit on the way: what strays relative to what may, its size, its probability."""

    tightened: float
    stages_extraction: int
    stages_scrub: int
    solvent: float
    probability: float

    @property
    def stages(self) -> int:
        """n + m."""
        return self.stages_extraction + self.stages_scrub


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class RobustDesign:
    """The smallest circuit found with the probability asked for.

    ``low`` and ``high``: 95 % interval of the probability from the number of members; ``plain``
    that of the circuit designed to the specification itself. ``steps`` are all circuits tried,
    ``stages_more`` and ``inventory_more`` what certainty costs. ``missed`` counts the members that
    miss each specification.
    """

    circuit: CircuitDesign
    asked: float
    probability: float
    low: float
    high: float
    plain: float
    steps: tuple[Step, ...]
    stages_more: int
    inventory_more: float
    samples: int
    missed: Mapping[str, int]

    def to_dict(self) -> dict[str, Any]:
        """The robust design as the JSON object of a design."""
        return {
            "asked": self.asked,
            "probability": self.probability,
            "interval": [self.low, self.high],
            "plain_probability": self.plain,
            "stages_extraction": self.circuit.stages_extraction,
            "stages_scrub": self.circuit.stages_scrub,
            "solvent": self.circuit.solvent,
            "scrub": self.circuit.scrub,
            "stages_more": self.stages_more,
            "inventory_more": self.inventory_more,
            "samples": self.samples,
            "missed": dict(self.missed),
            "steps": [
                {
                    "tightened": s.tightened,
                    "stages": s.stages,
                    "solvent": s.solvent,
                    "probability": s.probability,
                }
                for s in self.steps
            ],
        }


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Members:
    """What each member draws: factors on solvent (M,) and split (M,), feeds and
    extractabilities (M, C)."""

    solvent: Array
    split: Array
    feed: Array
    extractability: Array


def members(case: DesignCase, spec: Spec, book: Book, size: int, seed: int = SEED) -> Members:
    """Sobol' members of the case's accuracies and, where asked for, of the factors' ranges."""
    names = spec.names
    ranges = _ranges(case, spec, book)
    u = sampling.unit("sobol", size, 2 + len(names) + len(ranges), seed)
    accuracy = case.accuracy

    def around(column: Array, relative: float) -> Array:
        if relative == 0:
            return np.ones_like(column)
        from scipy.special import ndtri

        return np.asarray(np.exp(relative * ndtri(column)))

    feed = np.array([spec.feed[e] for e in names])
    feeds = feed * np.stack(
        [around(u[:, 2 + k], accuracy.feed) for k in range(len(names))], axis=-1
    )
    log_a = np.log([spec.extractability[e] for e in names])[None].repeat(size, axis=0)
    for k, (cut, distribution, value) in enumerate(ranges):
        drawn = distribution.quantile(u[:, 2 + len(names) + k])
        log_a[:, cut:] += np.log(drawn / value)[:, None]
    return Members(
        solvent=around(u[:, 0], accuracy.solvent),
        split=around(u[:, 1], accuracy.split),
        feed=feeds,
        extractability=np.exp(log_a),
    )


def _ranges(
    case: DesignCase, spec: Spec, book: Book
) -> list[tuple[int, distributions.Distribution, float]]:
    """Pairs of neighbours whose factor has a range: where, which, and the value designed with."""
    if case.robust is None or case.robust.factors == "fixed":
        return []
    if case.model.separation_factors is None:
        return []
    constants = data.load_set(case.model.separation_factors)
    out = []
    for cut in range(1, len(spec.names)):
        pair = f"{spec.names[cut]}/{spec.names[cut - 1]}"
        if pair in constants:
            out.append((cut, distributions.of(constants[pair]), constants[pair].si))
    return out


def probability(
    case: DesignCase, spec: Spec, found: CircuitDesign, drawn: Members
) -> tuple[float, dict[str, int], NDArray[np.bool_]]:
    """Share of members that meet every specification, misses by specification, and who meets.

    The split follows the feed: what strays is asked to keep its share, with the member's error.
    """
    names = spec.names
    cut = len(spec.light)
    heavy, light = drawn.feed[:, cut:].sum(axis=1), drawn.feed[:, :cut].sum(axis=1)
    down = sum(found.raffinate[e] for e in spec.heavy) / sum(spec.feed[e] for e in spec.heavy)
    up = sum(found.organic[e] for e in spec.light) / sum(spec.feed[e] for e in spec.light)
    product = (heavy * (1 - down) + light * up) * drawn.split
    solvent = found.solvent * drawn.solvent
    extra = drawn.feed.sum(axis=1) if found.feed_phase == "organic" else 0.0
    solved = cascade.solve(
        cascade.MassFlowInputs(
            components=names,
            extractability=drawn.extractability,
            stages=found.stages,
            solvent=solvent,
            scrub=np.maximum(solvent + extra - product, 0.0),
            inlets=(
                cascade.Inlet(
                    name="feed",
                    phase=found.feed_phase,
                    stage=found.stages_extraction,
                    flows=drawn.feed,
                ),
            ),
            efficiency=case.circuit.efficiency,
        ),
        failures="record",
    )
    weights = np.array([products.amounts({e: 1.0}, spec.basis)[e] for e in names])
    good = np.asarray(solved.converged).copy()
    missed: dict[str, int] = {}
    for outlet, flows in (("raffinate", solved.raffinate), ("organic", solved.loaded_organic)):
        wanted = spec.products[outlet]
        if wanted is None:
            continue
        own = np.array([e in wanted.elements for e in names])
        mass = flows * weights
        total = mass.sum(axis=1)
        fed = (drawn.feed * weights)[:, own].sum(axis=1)
        checks: list[tuple[str, NDArray[np.bool_]]] = []
        with np.errstate(invalid="ignore"):
            if wanted.purity is not None:
                reached = mass[:, own].sum(axis=1) / total
                checks.append((f"purity of {wanted.name}", reached >= wanted.purity))
            if wanted.recovery is not None:
                reached = mass[:, own].sum(axis=1) / fed
                checks.append((f"recovery of {wanted.name}", reached >= wanted.recovery))
            for element, share in wanted.limits.items():
                reached = mass[:, names.index(element)] / total
                checks.append((f"{element} in {wanted.name}", reached <= share))
        for label, met in checks:
            missed[label] = int(np.sum(~met))
            good &= met
    return float(good.mean()), missed, good


def design(case: DesignCase, spec: Spec, book: Book, found: CircuitDesign) -> RobustDesign:
    """The smallest circuit that meets the specification with the case's probability.

    Raises
    ------
    InfeasibleError
        when no tighter design reaches it: the nearest probability, and how well the split would
        have to be held.
    """
    assert case.robust is not None
    asked, size = case.robust.probability, case.robust.samples
    drawn = members(case, spec, book, size)
    steps: list[tuple[Step, CircuitDesign, dict[str, int]]] = []

    def attempt(tightened: float) -> Step | None:
        try:
            circuit = found if tightened == 1 else design_curve.circuit(
                tighter(spec, tightened), case, solvent=case.circuit.solvent,
                weights=design_curve.STARTS[case.objective.minimise],
            )  # fmt: skip
        except InfeasibleError:
            return None
        share, missed, _ = probability(case, spec, circuit, drawn)
        step = Step(
            tightened=tightened,
            stages_extraction=circuit.stages_extraction,
            stages_scrub=circuit.stages_scrub,
            solvent=circuit.solvent,
            probability=share,
        )
        steps.append((step, circuit, missed))
        return step

    last: float | None = None
    reached: float | None = None
    for tightened in TIGHTER.tolist():
        step = attempt(tightened)
        if step is None:
            break
        if step.probability >= asked:
            reached = tightened
            break
        last = tightened
    if reached is None:
        best = max(steps, key=lambda item: item[0].probability)
        needed = _split_needed(case, spec, book, best[1], asked, size)
        raise InfeasibleError(
            f"no circuit meets the specification with probability {asked:g}: the best reaches "
            f"{best[0].probability:.3g} with {best[0].stages} stages; a wrong split moves more "
            "than stages can bring back",
            limit={"probability": best[0].probability},
            nearest=needed,
        )
    low, high = last, reached
    for _ in range(BISECTIONS if low is not None else 0):
        assert low is not None
        middle = float(np.sqrt(low * high))
        step = attempt(middle)
        if step is not None and step.probability >= asked:
            high = middle
        else:
            low = middle
    good = [item for item in steps if item[0].probability >= asked]
    step, circuit, missed = min(good, key=lambda item: (item[1].phi, item[0].stages))
    _, below, above = statistics.probability(round(step.probability * size), size)
    return RobustDesign(
        circuit=circuit,
        asked=asked,
        probability=step.probability,
        low=below,
        high=above,
        plain=steps[0][0].probability,
        steps=tuple(sorted((item[0] for item in steps), key=lambda s: -s.tightened)),
        stages_more=circuit.stages - found.stages,
        inventory_more=circuit.phi / found.phi - 1,
        samples=size,
        missed=missed,
    )


def tighter(spec: Spec, part: float) -> Spec:
    """The same task with ``part`` of what each specification lets stray."""

    def outlet(given: Any) -> Any:
        return replace(
            given,
            purity=None if given.purity is None else 1 - part * (1 - given.purity),
            recovery=None if given.recovery is None else 1 - part * (1 - given.recovery),
            limits={e: part * share for e, share in given.limits.items()},
        )

    return replace(spec, raffinate=outlet(spec.raffinate), organic=outlet(spec.organic))


def _split_needed(
    case: DesignCase,
    spec: Spec,
    book: Book,
    found: CircuitDesign,
    asked: float,
    size: int,
) -> dict[str, float]:
    """How well the split, and with it the feed, has to be known for the probability."""
    accuracy = case.accuracy
    for halving in range(1, HALVINGS):
        part = 0.5**halving
        finer = replace_accuracy(case, split=accuracy.split * part)
        share, _, _ = probability(finer, spec, found, members(finer, spec, book, size))
        if share >= asked:
            return {"accuracy.split": accuracy.split * part, "probability": share}
    return {}


def replace_accuracy(case: DesignCase, **changes: float) -> DesignCase:
    """The case with other accuracies."""
    return case.model_copy(update={"accuracy": case.accuracy.model_copy(update=changes)})
