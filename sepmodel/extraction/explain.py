"""What decides a design, in words: the specification, the pinch, the minor product, the limits."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel.extraction import shortcut
from sepmodel.extraction.confirm import Confirmation
from sepmodel.extraction.design import CircuitDesign
from sepmodel.extraction.design_flows import Flows, Plant
from sepmodel.extraction.design_inputs import Accuracies
from sepmodel.extraction.robust import RobustDesign
from sepmodel.extraction.tolerance import Sensitivity

Array = NDArray[np.float64]

# A stage that separates by less than this part of what it could is called pinched.
PINCHED = 1 / 4
# What counts as no change of a flow.
ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True, slots=True)
class Statement:
    """One sentence about a design, what it is about, where, and the number in it.

    ``kind``: "specification", "bound", "pinch", "minor product", "limit", "tolerance", "effort".
    """

    kind: str
    text: str
    where: str = ""
    value: float | None = None

    def to_dict(self) -> dict[str, object]:
        """The statement as the JSON object of a design."""
        return {"kind": self.kind, "text": self.text, "where": self.where, "value": self.value}


def gain(aqueous: Array, light: int, heavy: int, separation_factor: float) -> Array:
    """What each stage adds to ln(heavy/light) of the aqueous, over the most it could, ln beta.

    Zero is a pinch, one is total reflux. ``aqueous`` (N, C) from the raffinate up; the first
    stage is measured against the second.

    >>> gain(np.array([[1.0, 0.5], [1.0, 1.0], [1.0, 1.5]]), 0, 1, 2.0).round(3).tolist()
    [1.0, 0.585]
    """
    with np.errstate(divide="ignore"):
        level = np.log(aqueous[:, heavy]) - np.log(aqueous[:, light])
    out: Array = np.diff(level) / math.log(separation_factor)
    return out


def statements(
    found: CircuitDesign,
    sensitivity: Sensitivity,
    aqueous: Array,
    plant: Plant,
    flows: Flows,
    names: Mapping[str, str],
    response: float,
    accuracy: float,
    confirmation: Confirmation | None = None,
) -> list[Statement]:
    """Everything worth saying about a two-outlet circuit; ``names`` calls the outlets' products.

    Where mass action has confirmed it, phase ratios and strip liquor are those of that circuit.
    """
    out = [*_specifications(found, names), *_bounds(found)]
    if found.stages > 2:
        out += _pinch(found, aqueous)
    out += _minor(found, sensitivity, names)
    out.append(_assays(sensitivity.doubling("solvent"), response, accuracy))
    if confirmation is None:
        return [*out, *limits(plant, flows, found.stages_scrub), _unchecked_strip(plant)]
    out += limits(plant, confirmation.flows, confirmation.stages_scrub)
    return out + confirmed(confirmation, found)


def _specifications(found: CircuitDesign, names: Mapping[str, str]) -> list[Statement]:
    deciding = list(found.active)
    for outlet, product in names.items():
        deciding = [text.replace(f"the {outlet}", product) for text in deciding]
    if not deciding:
        return [
            Statement(
                kind="specification",
                text="Whole stages leave half of what every specification allows unused.",
            )
        ]
    verb = "decides" if len(deciding) == 1 else "decide"
    return [
        Statement(kind="specification", text=f"{_capital(_listed(deciding))} {verb} the stages.")
    ]


def _bounds(found: CircuitDesign) -> list[Statement]:
    least = found.minimum
    stages = found.stages / least["stages"] if least["stages"] > 0 else math.inf
    out = [
        Statement(
            kind="bound",
            text=f"{found.stages} stages are {stages:.2f} times Fenske's least, "
            f"{least['stages']:.1f} at total reflux.",
            value=stages,
        )
    ]
    if least["scrub"] > 0:
        ratio = found.scrub / least["scrub"]
        out.append(
            Statement(
                kind="bound",
                text=f"The scrub is {ratio:.2f} times its least, {least['scrub']:.4g}: at that "
                "flow the stages at the feed would separate no more, however many.",
                value=ratio,
            )
        )
    return out


def _pinch(found: CircuitDesign, aqueous: Array) -> list[Statement]:
    light, heavy = len(found.light) - 1, len(found.light)
    beta = found.extractability[found.heavy[0]] / found.extractability[found.light[-1]]
    part = gain(aqueous, light, heavy, beta)
    worst = int(np.argmin(part))
    tight = np.flatnonzero(part < PINCHED)
    section = "extraction" if worst < found.stages_extraction else "scrub"
    text = (
        f"Stage {worst + 1} ({section}) adds least: {100 * part[worst]:.0f} % of what a stage can "
        f"do at total reflux"
    )
    if tight.size > 1:
        text += (
            f"; {tight.size} stages between {tight[0] + 1} and {tight[-1] + 1} stay below "
            f"{100 * PINCHED:.0f} %, which more solvent and scrub would relieve"
        )
    return [Statement(kind="pinch", text=f"{text}.", where=section, value=float(part[worst]))]


def _minor(
    found: CircuitDesign, sensitivity: Sensitivity, names: Mapping[str, str]
) -> list[Statement]:
    flows = {"raffinate": sum(found.raffinate.values()), "organic": sum(found.organic.values())}
    if found.draw is not None:
        flows["draw"] = sum(found.draw.flows.values())
    minor = min(flows, key=lambda name: flows[name])
    share = found.solvent / flows[minor]
    doubling = sensitivity.doubling("solvent")
    return [
        Statement(
            kind="minor product",
            text=f"{_capital(names[minor])} is the minor outlet with {flows[minor]:.3g} of "
            f"{sum(flows.values()):.3g}: 1 % of the solvent is {share:.3g} % of it, and has to "
            "come from somewhere.",
            where=minor,
            value=flows[minor],
        ),
        Statement(
            kind="tolerance",
            text=f"{100 * doubling:.2g} % more or less solvent, the scrub kept, doubles what is "
            "foreign or lost at one end.",
            value=doubling,
        ),
    ]


def confirmed(found: Confirmation, designed: CircuitDesign) -> list[Statement]:
    """What mass action adds to a design by separation factors."""
    from sepmodel import units

    change = found.change
    hour = units.factor("m^3/h")
    added = found.stages - designed.stages
    stages = "the same stages" if not added else f"{added} stages more"
    out = [
        Statement(
            kind="mass action",
            text=f"By mass action {stages} meet the specification with "
            f"{found.organic / hour:.4g} m3/h of organic ({100 * change['organic']:+.1f} %) and "
            f"{found.scrub / hour:.4g} m3/h of scrub acid ({100 * change['scrub']:+.1f} %), "
            f"pH {found.ph[0]:.2f} to {found.ph[1]:.2f}, at most {100 * found.loading:.0f} % of "
            "the loading limit.",
            value=change["organic"],
        )
    ]
    if change["strip"] > ROUNDING:
        out.append(
            Statement(
                kind="mass action",
                text=f"The strip takes {100 * change['strip']:.1f} % more acid than designed: "
                f"with {100 * found.acid_known:.0f} % less than that, the organic "
                "returns too much of the product.",
                where="strip",
                value=1 + change["strip"],
            )
        )
    base = found.base / (3 * found.solvent * found.feed)
    out.append(
        Statement(
            kind="mass action",
            text=f"The organic carries at most {found.solvent:.4g} mol per mol of feed; base is "
            f"{100 * base:.0f} % of three per mole carried.",
            value=base,
        )
    )
    return out


def certainty(found: RobustDesign, accuracy: Accuracies) -> list[Statement]:
    """What meeting the specification with a probability costs."""
    held = (
        f"solvent to {100 * accuracy.solvent:.2g} %, split to {100 * accuracy.split:.2g} % and "
        f"feed to {100 * accuracy.feed:.2g} %"
    )
    out = [
        Statement(
            kind="certainty",
            text=f"With {held} the design meets its specification with probability "
            f"{found.plain:.2f}. {found.circuit.stages} stages ({found.stages_more:+d}) and "
            f"{100 * found.inventory_more:+.0f} % of S (n + m) meet it with "
            f"{found.probability:.3f} ({found.low:.3f} to {found.high:.3f}, {found.samples} "
            "members).",
            value=found.probability,
        )
    ]
    worst = max(found.missed, key=lambda name: found.missed[name], default="")
    if worst and found.missed[worst]:
        out.append(
            Statement(
                kind="certainty",
                text=f"{_capital(worst)} is missed most often.",
                where=worst,
                value=found.missed[worst] / found.samples,
            )
        )
    return out


def _assays(doubling: float, response: float, accuracy: float) -> Statement:
    """How long a wrong split may go unseen: what it moves, over how fast it moves."""
    from sepmodel import units

    hour, day = units.factor("hour"), units.factor("day")
    if accuracy <= doubling:
        return Statement(
            kind="tolerance",
            text=f"Solvent held to {100 * accuracy:.2g} % is enough without assays.",
            value=math.inf,
        )
    wait = response * doubling / accuracy
    text = f"{wait / hour:.2g} hours" if wait < 2 * day else f"{wait / day:.2g} days"
    return Statement(
        kind="tolerance",
        text=f"With the solvent {100 * accuracy:.2g} % off, the stages' contents hide it: what is "
        f"foreign at one end doubles after about {text}. Assays of both ends have to come several "
        "times in that time, and correct the split.",
        value=wait,
    )


def limits(plant: Plant, flows: Flows, stages_scrub: int) -> list[Statement]:
    """How near the circuit is to what solvent, liquors and mixers allow."""
    soap = plant.saponification / plant.gel
    held = plant.loading / plant.loading_limit
    out = [
        Statement(
            kind="limit",
            text=f"Loading: {plant.loading / 1e3:.3g} mol/L of rare earth a pass, "
            f"{100 * held:.0f} % of the stoichiometric limit; {100 * plant.saponification:.0f} % "
            f"saponified, gel at {100 * plant.gel:.0f} %.",
            where="loading" if held > soap else "gel",
            value=max(held, soap),
        )
    ]
    wanted = ("extraction", "scrub", "strip") if stages_scrub else ("extraction", "strip")
    for section in wanted:
        ratio = flows.ratio(section)
        if not plant.ratio_low <= ratio <= plant.ratio_high:
            edge = plant.ratio_high if ratio > plant.ratio_high else plant.ratio_low
            out.append(
                Statement(
                    kind="limit",
                    text=f"O/A {ratio:.3g} in {section} is beyond {edge:g}: one phase has to be "
                    "recycled inside the stages.",
                    where=section,
                    value=ratio,
                )
            )
    out.append(
        Statement(
            kind="limit",
            text=f"The strip liquor holds {flows.strip_liquor / 1e3:.3g} mol/L, "
            f"{100 * flows.strip_liquor / plant.strip_limit:.0f} % of what dissolves.",
            where="strip",
            value=flows.strip_liquor / plant.strip_limit,
        )
    )
    return out


def _unchecked_strip(plant: Plant) -> Statement:
    """A mass-flow design knows what stripping exchanges, not what the acid can strip."""
    return Statement(
        kind="limit",
        text=f"Strip acid is {plant.strip_excess:.3g} times what the exchange takes, not checked "
        "by equilibrium: weak acid or few stages take more, which the mass-action model says.",
        where="strip",
        value=plant.strip_excess,
    )


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def pinch_composition(found: CircuitDesign) -> tuple[float, float] | None:
    """Compositions (share of the heavier in the aqueous) between which a binary extraction section
    makes progress at the least solvent; None for more than two elements.
    """
    if len(found.components) != 2:
        return None
    light, heavy = found.components
    beta = found.extractability[heavy] / found.extractability[light]
    solvent, scrub = found.minimum["solvent"], found.minimum["scrub"]
    fed = sum(found.feed.values())
    aqueous = scrub + (fed if found.feed_phase == "aqueous" else 0.0)
    low, high = shortcut.pinch(beta, solvent, aqueous, found.raffinate[heavy])
    return float(low), float(high)
