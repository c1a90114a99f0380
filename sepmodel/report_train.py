"""A train as text: its sequences ranked, its circuits, its products, in 80 columns."""

from __future__ import annotations

import textwrap

from sepmodel import units
from sepmodel.files import csv_text, json_text
from sepmodel.plant.sequences import Figures, Ranked
from sepmodel.plant.train_case import TrainPlan
from sepmodel.report import purity

# Sequences listed one by one; the rest are counted.
_LISTED = 8
_NAMES = {
    "cost": "cost of cells, fills, acid and base",
    "reagents": "acid and base",
    "inventory": "S (n + m)",
    "stages": "stages",
}


def lines(plan: TrainPlan, width: int = 80) -> list[str]:
    """The whole plan in words and tables, no line longer than ``width``."""
    tables = (_head, _sequences, _circuits, _products)
    out = [line for table in tables for line in (*table(plan), "")]
    return out + words(plan, width)


def explained(plan: TrainPlan, width: int = 80) -> list[str]:
    """The train in one line, its products, and what decides."""
    return [*_head(plan), "", *_products(plan), "", *words(plan, width)]


def explanation(plan: TrainPlan) -> list[dict[str, object]]:
    """What decides, as JSON objects."""
    return [{"code": code, "text": text} for code, text in _statements(plan)]


def files(plan: TrainPlan, width: int = 80) -> dict[str, str | bytes]:
    """Names and contents of the files of a plan's folder, figures excepted."""
    return {
        "train.json": json_text(plan.to_dict()),
        "train.txt": "\n".join([*lines(plan, width), *warned(plan, width)]) + "\n",
        "sequences.csv": _table(plan),
    }


def words(plan: TrainPlan, width: int = 80) -> list[str]:
    """What decides, one sentence a bullet."""
    out = ["What decides"]
    for _, text in _statements(plan):
        out += textwrap.wrap(text, width, initial_indent="- ", subsequent_indent="  ")
    return out


def warned(plan: TrainPlan, width: int = 80) -> list[str]:
    """The warnings of a train, by name; nothing where there are none."""
    out = [""] if plan.warnings else []
    for warning in plan.warnings:
        text = f"warning: {warning.code}: {warning.message} ({warning.where})"
        out += textwrap.wrap(text, width, subsequent_indent="  ")
    return out


def _head(plan: TrainPlan) -> list[str]:
    ranking = plan.ranking
    return [
        f"{plan.name}: {len(ranking.sequences)} sequences of {len(ranking.groups) - 1} cuts for "
        f"{', '.join(ranking.groups)}",
        f"ranked by {_NAMES[ranking.objective]}; {ranking.circuits} circuits designed",
    ]


def _per_kg(plan: TrainPlan, rate: float) -> str:
    """A molar rate per kilogram of product oxide."""
    return units.significant(rate / plan.ranking.product_rate / units.factor("mol/kg"))


def _sequences(plan: TrainPlan) -> list[str]:
    head = f"{'':<4}{'USD/kg':>8}{'mol base/kg':>13}{'passes':>8}{'stages':>8}{'S(n+m)':>9}"
    out = [head, f"{'':<6}cuts in running order, > where loaded organic goes on unstripped"]
    listed = plan.ranking.sequences[:_LISTED]
    alike = plan.ranking.alike if plan.ranking.alike > 1 else 0
    for place, ranked in enumerate(listed, start=1):
        figures = ranked.reached or ranked.figures
        marks = f"{'=' if place <= alike else '':<1}{'' if ranked.reached else '~':<1}"
        out.append(
            f"{place:<2}{marks}{figures.cost:>8.3f}{_per_kg(plan, figures.base):>13}"
            f"{plan.passes(figures):>8.2f}{figures.stages:>8}"
            f"{figures.inventory / plan.ranking.feed:>9.1f}"
        )
        out.append(f"      {_order(ranked)}")
    rest = len(plan.ranking.sequences) - len(listed)
    if rest:
        last = plan.ranking.sequences[-1].figures
        out.append(f"{rest} more, up to {last.cost:.3f} USD/kg, are in sequences.csv")
    if any(not s.reached for s in listed):
        out.append("~ for sharp cuts before each circuit; the others with their real streams")
    return out


def _order(ranked: Ranked) -> str:
    return "  ".join(f">{cut}" if cut in ranked.linked else cut for cut in ranked.cuts)


def _circuits(plan: TrainPlan) -> list[str]:
    out = [
        f"{'cut':<8}{'feed':<9}{'n + m + strip':>14}{'S':>9}{'W':>9}{'organic, m3/h':>15}"
        "  raffinate, organic"
    ]
    feed = plan.ranking.feed
    for circuit in plan.train.circuits:
        design = circuit.design
        stages = f"{design.stages_extraction} + {design.stages_scrub} + {circuit.stages_strip}"
        organic = units.significant(units.to(circuit.flow_org + circuit.flow_org_feed, "m^3/h"))
        out.append(
            f"{circuit.name:<8}{design.feed_phase:<9}{stages:>14}{design.solvent / feed:>9.4f}"
            f"{design.scrub / feed:>9.4f}{organic:>15}"
            f"  {circuit.raffinate_to}, {circuit.organic_to}"
        )
    out.append("S and W per mole of rare earth fed to the train")
    return out


def _products(plan: TrainPlan) -> list[str]:
    out = [f"{'product':<12}{'purity, %':>12}{'asked':>10}{'recovery, %':>14}{'asked':>10}"]
    for product in plan.train.products:
        out.append(
            f"{product.name:<12}{purity(plan.train.purity[product.name]):>12}"
            f"{purity(product.purity):>10}{purity(plan.train.recovery[product.name]):>14}"
            f"{purity(product.recovery):>10}"
        )
    return out


def _statements(plan: TrainPlan) -> list[tuple[str, str]]:
    """What decides, as code and sentence."""
    best = plan.ranking.best
    reached = best.reached
    assert reached is not None
    hardest = max(plan.train.circuits, key=lambda c: c.base)
    share = hardest.base / plan.train.base
    ends = (
        "nothing" if reached.base == 0 else f"{100 * share:.0f} % of the acid and base",
        f"{hardest.design.stages} of {plan.train.stages} stages",
    )
    said = [
        (
            "hardest-cut",
            f"{hardest.name} takes {ends[0]} with {ends[1]}: each mole of feed is exchanged "
            f"{plan.passes(reached):.2f} times in the train.",
        )
    ]
    bare = best.unlinked
    if best.linked:
        saved = 1 - best.figures.base / bare.base
        said.append(
            (
                "links",
                f"Loaded organic goes on unstripped to {', '.join(best.linked)}: "
                f"{100 * saved:.1f} % less acid and base than the same sequence without links.",
            )
        )
    worst = plan.ranking.sequences[-1]
    objective = plan.ranking.objective
    ratio = worst.figures.of(objective) / best.figures.of(objective)
    said.append(
        (
            "sequence",
            f"The worst sequence needs {ratio:.2f} times as much ({_NAMES[objective]}): "
            f"{_order(worst)}.",
        )
    )
    if plan.ranking.alike > 1:
        said.append(
            (
                "alike",
                f"The first {plan.ranking.alike} sequences (=) lie within "
                f"{100 * plan.ranking.near:g} % of the best: closer than prices and cells are "
                "known; choose among them by what is easier to run.",
            )
        )
    gap = _gap(best.figures, reached, objective)
    said.append(
        (
            "estimate",
            "The ranking takes the cuts before a circuit as sharp and people as the same for all; "
            f"with real streams the first one moved by {100 * gap:+.1f} %.",
        )
    )
    for name, why in plan.ranking.impossible.items():
        said.append(("impossible", f"{name}: {why}."))
    said += [(str(w["code"]), f"{w['where']}: {w['message']}.") for w in plan.train.warnings]
    return said


def _gap(estimate: Figures, reached: Figures, objective: str) -> float:
    return reached.of(objective) / estimate.of(objective) - 1


def _table(plan: TrainPlan) -> str:
    """Every sequence with its figures."""
    per = 1 / plan.ranking.product_rate
    header = [
        "place",
        "cuts",
        "linked",
        "designed",
        "cost [USD/kg]",
        "acid [mol/kg]",
        "base [mol/kg]",
        "passes",
        "stages",
        "inventory [mol/s]",
        "base without links [mol/kg]",
    ]
    rows = []
    for place, ranked in enumerate(plan.ranking.sequences, start=1):
        figures = ranked.reached or ranked.figures
        rows.append(
            [
                place,
                " ".join(ranked.cuts),
                " ".join(ranked.linked),
                ranked.reached is not None,
                figures.cost,
                figures.acid * per,
                figures.base * per,
                plan.passes(figures),
                figures.stages,
                figures.inventory,
                ranked.unlinked.base * per,
            ]
        )
    return csv_text(header, rows)
