"""Trains of extraction circuits as one unit of a route."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from sepmodel.data import Book
from sepmodel.extraction.design import Weights
from sepmodel.plant import auxiliaries, circuit_search, circuits, equipment
from sepmodel.plant import train as trains
from sepmodel.plant.circuits import Liquor, Solved
from sepmodel.plant.flowsheet import (
    Context,
    UnitResult,
    free_acid,
    liquor,
    rare_earths,
    reagent_mass,
)
from sepmodel.plant.inputs import ExtractionTrain
from sepmodel.plant.operations.common import add, asked, composition, pooled, scaled, sizes, sought
from sepmodel.plant.train_trims import MORE_STRICT, TIGHTENINGS, Asked, Running, beside
from sepmodel.products import Product
from sepmodel.stream import Stream, mix

# Significant digits of a feed's composition for the design of stages: a change below them asks
# for no other train, and the circuits are solved for the feed itself.
COARSE = 3
# A recovery asked of the design, in steps of this.
STEP = 1e-5
LIMITS = "extractants/circuit-defaults"


def extraction_train(
    inlets: Mapping[str, Stream], unit: ExtractionTrain, context: Context, book: Book
) -> UnitResult:
    """A train of extraction circuits: stages by ``plant.train``, run by ``plant.circuits``.

    Acid, base, pH and the strength of the strip liquors are those of the solved mass-action
    circuits. With ``model = "mass-flow"`` they are the estimate of 3 S per circuit. A train that is
    built already (``context.trims``) keeps its circuits and their stages; their flows are set anew
    (``plant.train_trims``). Solvent is lost with every aqueous outlet. Outlets: one per product,
    ``lighter`` (rare earths before the first product), ``by-products`` (the other rare earths) and
    ``raffinate`` (the salt the pass made, with what of the rare earths is lost in handling). A
    train whose elements are in no product of the study is not built: its liquor is a by-product.
    """
    stream = mix([inlets[port] for port in sorted(inlets)])
    if unit.elements and not any(set(p.elements) <= set(unit.elements) for p in context.products):
        nothing = liquor({}, 0.0)
        return UnitResult(
            outlets={"by-products": stream, "lighter": nothing, "raffinate": nothing},
            facts={"circuits": (0.0, "1")},
        )
    kept = 1 - book[f"{unit.set}:handling_loss"]
    feed = scaled(rare_earths(stream), kept)
    products = sought(context, unit.elements, feed, unit.downstream_loss, STEP)
    entering = Liquor(moles=feed, flow=stream.flow, acid=free_acid(stream))
    if context.trims is not None and unit.model == "mass-action":
        train = context.trims.built(unit.id)
        asks = Asked(
            liquor=entering,
            products=products,
            chemistry=_chemistry(tuple(feed), unit, book),
            strip=round(book[f"{LIMITS}:stages_strip"]),
        )
        running: Running = context.trims.found(unit.id, asks)
    else:
        train = _designed(feed, products, unit, context, book)
        running = _running(train, entering, products, unit, context, book)
    plant = _Plant(unit=unit, train=train, circuits=running.circuits, products=products)
    pools, volumes, acids = plant.pools(running.outlets)
    reagents = {
        "HCl": reagent_mass("HCl", math.fsum(c.acid for c in running.circuits)),
        "NaOH": reagent_mass(
            "NaOH", math.fsum(c.base for c in running.circuits) * book[f"{unit.set}:base_excess"]
        ),
    }
    water = math.fsum(c.flow_scrub + c.flow_strip for c in running.circuits)
    cells = plant.cells(book)
    sized = [cell for _, _, cell in cells]
    organic = math.fsum(cell.organic_volume for cell in sized)
    area = math.fsum(cell.settler_area for cell in sized)
    return UnitResult(
        outlets=pooled(stream, pools, reagents, water, volumes, "raffinate", acids),
        duties=add(
            reagents,
            auxiliaries.organic_makeup(stream.flow + water, area, book),
            {"water": water, "power": math.fsum(cell.power for cell in sized)},
        ),
        equipment=(
            *(item for cell in sized for item in cell.items),
            *equipment.solvent_fill(organic, book),
        ),
        facts=plant.facts(cells, organic, sum(feed.values())),
        shares=plant.shares(),
        circuits=running.circuits,
        design=train,
        # Each circuit is a section of its own: its solvent goes round in it.
        sections={"fluids": len(running.circuits)},
        warnings=(*plant.warnings(book), *sizes(*sized)),
    )


def _designed(
    feed: Mapping[str, float],
    products: Sequence[Product],
    unit: ExtractionTrain,
    context: Context,
    book: Book,
) -> trains.Train:
    """The train for a feed: designed per mole of a coarsely rounded composition, then scaled."""
    weights = Weights(
        inventory=unit.weights.inventory,
        solvent=unit.weights.solvent,
        stages=unit.weights.stages,
    )
    rounded = composition(feed, COARSE)
    train: trains.Train = context.memo(
        ("train", rounded, asked(products), unit.factors, weights),
        book,
        lambda own: trains.design_train(
            dict(rounded), products, own, factor_set=unit.factors, weights=weights,
        ),
    )  # fmt: skip
    return _scaled_train(train, feed)


def _scaled_train(train: trains.Train, feed: Mapping[str, float]) -> trains.Train:
    """The train for another amount of nearly the same feed: each element in proportion."""
    by = {e: feed[e] / n for e, n in train.feed.items() if n > 0}
    factor = sum(feed.values()) / sum(train.feed.values())

    def each(moles: Mapping[str, float]) -> dict[str, float]:
        return {e: n * by.get(e, factor) for e, n in moles.items()}

    return replace(
        train,
        feed=dict(feed),
        outlets={name: each(moles) for name, moles in train.outlets.items()},
        circuits=tuple(
            replace(
                c,
                design=replace(
                    c.design,
                    solvent=c.design.solvent * factor,
                    scrub=c.design.scrub * factor,
                    feed=each(c.design.feed),
                    raffinate=each(c.design.raffinate),
                    organic=each(c.design.organic),
                ),
                acid=c.acid * factor,
                base=c.base * factor,
                flow_org=c.flow_org * factor,
                flow_feed=c.flow_feed * factor,
                flow_scrub=c.flow_scrub * factor,
                flow_strip=c.flow_strip * factor,
            )
            for c in train.circuits
        ),
    )


def _running(
    train: trains.Train,
    entering: Liquor,
    products: Sequence[Product],
    unit: ExtractionTrain,
    context: Context,
    book: Book,
) -> Running:
    """The train in operation, by mass action or by its estimate."""
    if unit.model == "mass-flow":
        return _estimated(train, entering)
    total = sum(entering.moles.values())
    one = entering.scaled(1 / total)
    stages = tuple(
        (c.name, c.design.stages_extraction, c.design.stages_scrub, c.stages_strip)
        for c in train.circuits
    )
    solved: Running = context.memo(
        ("circuits", unit.id, composition(one.moles), one.rounded, asked(products), stages),
        book,
        lambda own: _solved(_scaled_train(train, one.moles), one, products, unit, context, own),
    )
    return Running(
        circuits=tuple(c.scaled(total) for c in solved.circuits),
        outlets={name: out.scaled(total) for name, out in solved.outlets.items()},
    )


def _solved(
    train: trains.Train,
    entering: Liquor,
    products: Sequence[Product],
    unit: ExtractionTrain,
    context: Context,
    book: Book,
) -> Running:
    """Every circuit by mass action, each fed with what the one before really hands on.

    Where a product misses its specification although every circuit does what the design allows
    (what strays is not quite what the design reckoned), the circuits beside it are asked for more.
    """
    chemistry = _chemistry(tuple(entering.moles), unit, book)
    tight = dict.fromkeys((p.name for p in products), 1.0)
    starts: dict[str, circuits.Start | None] = {}
    for _ in range(TIGHTENINGS):
        running = _once(train, entering, chemistry, tight, starts)
        missed = [p for p in products if running.outlets[p.name].misses(p, entering.moles)]
        if not missed or any(c.missed != (1.0, 1.0) for c in running.circuits):
            break
        tight.update({p.name: tight[p.name] * MORE_STRICT for p in missed})
        starts = {c.name: c.start for c in running.circuits}
    return running


def _chemistry(elements: Sequence[str], unit: ExtractionTrain, book: Book) -> circuits.Chemistry:
    return circuits.chemistry(
        elements,
        book,
        factor_set=unit.factors,
        constants=unit.constants,
        level=unit.level,
        extractant=trains.EXTRACTANT,
        process=unit.set,
    )


def _once(
    train: trains.Train,
    entering: Liquor,
    chemistry: circuits.Chemistry,
    tight: Mapping[str, float],
    starts: Mapping[str, circuits.Start | None],
) -> Running:
    """The circuits in turn; what may stray is scaled by ``tight`` of the product beside the cut."""
    waiting = {train.circuits[0].name: entering}
    done = []
    for c in train.circuits:
        liquor, design = waiting.pop(c.name), c.design
        strict = min((tight[name] for name in beside(train, c.name) if name in tight), default=1.0)
        task = circuits.Task(
            name=c.name,
            light=design.light,
            feed=liquor.moles,
            flow=liquor.flow,
            acid=liquor.acid,
            stages=(design.stages_extraction, design.stages_scrub, c.stages_strip),
            solvent=design.solvent,
            scrub=design.scrub,
            down=strict * sum(n for e, n in design.raffinate.items() if e not in design.light),
            up=strict * sum(n for e, n in design.organic.items() if e in design.light),
        )
        found = replace(
            circuit_search.run(task, chemistry, starts.get(c.name)),
            raffinate_to=c.raffinate_to,
            organic_to=c.organic_to,
        )
        done.append(found)
        waiting[c.raffinate_to] = found.raffinate_liquor
        waiting[c.organic_to] = found.product_liquor
    return Running(circuits=tuple(done), outlets=waiting)


def _estimated(train: trains.Train, entering: Liquor) -> Running:
    """The circuits without solving them: by 3 S."""
    waiting = {train.circuits[0].name: entering}
    done = []
    for c in train.circuits:
        found = circuits.estimate(c, waiting.pop(c.name))
        done.append(found)
        waiting[c.raffinate_to] = found.raffinate_liquor
        waiting[c.organic_to] = found.product_liquor
    return Running(circuits=tuple(done), outlets=waiting)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Plant:
    """A running train as equipment, pools and figures."""

    unit: ExtractionTrain
    train: trains.Train
    circuits: tuple[Solved, ...]
    products: tuple[Product, ...]

    def pools(
        self, outlets: Mapping[str, Liquor]
    ) -> tuple[dict[str, dict[str, float]], dict[str, float], dict[str, float]]:
        """Rare earths [mol/s], volumes [m3/s] and free acid [mol/s] by port."""
        names = [p.name for p in self.products]
        ordered = list(self.train.outlets)
        first = next(k for k, name in enumerate(ordered) if name in names)
        pools: dict[str, dict[str, float]] = {n: {} for n in (*names, "lighter", "by-products")}
        volumes, acids = dict.fromkeys(pools, 0.0), dict.fromkeys(pools, 0.0)
        for k, name in enumerate(ordered):
            port = name if name in names else ("lighter" if k < first else "by-products")
            pools[port] = add(pools[port], outlets[name].moles)
            volumes[port] += outlets[name].flow
            acids[port] += outlets[name].acid
        return pools, volumes, acids

    def cells(self, book: Book) -> list[tuple[Solved, str, equipment.Sized]]:
        """Mixer-settlers by circuit and section, with those that saponify and wash.

        Where the flows of the phases lie too far apart to be mixed, the smaller one is recycled
        inside the stages up to the limit of the ratio.
        """
        low, high = (book[f"{LIMITS}:phase_ratio_{end}"] for end in ("low", "high"))
        beside = {
            "saponification": book[f"{self.unit.set}:stages_saponify"],
            "wash": book[f"{self.unit.set}:stages_wash"],
        }
        found = []
        for c in self.circuits:
            aqueous = {
                "extraction": (c.stages[0], c.flow_feed + c.flow_scrub),
                "scrub": (c.stages[1], c.flow_scrub),
                "strip": (c.stages[2], c.flow_strip),
                **{name: (count, 0.0) for name, count in beside.items() if count > 0},
            }
            for section, (count, flow) in aqueous.items():
                cell = equipment.mixer_settlers(
                    count,
                    max(flow, c.flow_org / high),
                    max(c.flow_org, flow * low),
                    book,
                    cell_class=self.unit.cells,
                    name=f"{self.unit.id} {c.name} {section}",
                )
                found.append((c, section, cell))
        return found

    def facts(
        self,
        cells: Sequence[tuple[Solved, str, equipment.Sized]],
        organic: float,
        fed: float,
    ) -> dict[str, tuple[float, str]]:
        """What is told of the train."""
        sections = ("extraction", "scrub", "strip")
        held = 0.0
        for c, section, cell in cells:
            if section in sections:
                in_organic, in_aqueous = c.held[sections.index(section)]
                whole = sum(item.size * item.count for item in cell.items)
                held += cell.organic_volume * in_organic
                held += (whole - cell.organic_volume) * in_aqueous
        stages = math.fsum(item.count for _, _, cell in cells for item in cell.items)
        estimate = math.fsum(c.solvent_3s for c in self.circuits)
        per_pass = {c: estimate * charge for c, charge in (("acid", 3), ("base", 3))}
        found = {
            "stages": (stages, "1"),
            "circuits": (float(len(self.circuits)), "1"),
            "organic flux over feed": (
                math.fsum(c.solvent for c in self.circuits) / fed, "1"),
            "acid over 3 S": (math.fsum(c.acid for c in self.circuits) / per_pass["acid"], "1"),
            "base over 3 S": (math.fsum(c.base for c in self.circuits) / per_pass["base"], "1"),
            "solvent in the cells": (organic, "m^3"),
            "rare earths held": (held, "mol"),
        }  # fmt: skip
        for c in self.circuits:
            found[f"{c.name} extraction + scrub + strip stages"] = (float(sum(c.stages)), "1")
        return found

    def shares(self) -> dict[str, float]:
        """Share of the products in the organic flux: what leaves with the organic, by its moles.

        What is scrubbed back serves both sides of the cut and goes by the moles fed. What
        by-products carry is borne by the products, in proportion.
        """
        weight = dict.fromkeys((p.name for p in self.products), 0.0)
        for c in self.circuits:
            carried = sum(c.product.values())
            for moles, part in ((c.product, carried), (c.feed, max(c.solvent - carried, 0.0))):
                there = {p.name: sum(moles.get(e, 0.0) for e in p.elements) for p in self.products}
                total = sum(moles.values())
                for name, own in there.items():
                    weight[name] += part * own / total if total > 0 else 0.0
        total = sum(weight.values())
        return {name: w / total for name, w in weight.items()} if total > 0 else {}

    def warnings(self, book: Book) -> Iterator[dict[str, str]]:
        """Where circuits leave what mixers, solvent or data bear out."""
        if self.unit.model == "mass-flow":
            yield from (dict(w) for w in self.train.warnings)
            return
        low, high = (book[f"{LIMITS}:phase_ratio_{end}"] for end in ("low", "high"))
        beyond = [
            f"{c.name} {section} {ratio:.3g}"
            for c in self.circuits
            for section, ratio in c.ratios
            if not low <= ratio <= high
        ]
        if beyond:
            yield {
                "code": "phase-recycled",
                "message": f"organic to aqueous outside {low:g} to {high:g}: {', '.join(beyond)}; "
                "the smaller phase is recycled inside the stages, and the cells are sized for it",
            }
        extractant = trains.EXTRACTANT
        seen = book[f"{extractant}:loading_highest_seen"] / book[f"{extractant}:loading_limit"]
        full = [f"{c.name} {100 * c.loading:.0f} %" for c in self.circuits if c.loading > seen]
        if full:
            yield {
                "code": "loading",
                "message": f"organic loaded beyond {100 * seen:.0f} % of its stoichiometric limit, "
                f"the most in the data behind the constants: {', '.join(full)}; gels or a third "
                "phase are possible",
            }
        for c in self.circuits:
            if c.missed != (1.0, 1.0):
                heavy, light = c.missed
                yield {
                    "code": "split-missed",
                    "message": f"by mass action {heavy:.3g} times the heavier elements that are "
                    f"allowed stray into the raffinate and {light:.3g} times the lighter ones into "
                    "the product, with the stages of the design and as many more as were tried",
                    "where": c.name,
                }
