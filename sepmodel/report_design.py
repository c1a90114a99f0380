"""A design as text: a table that fits 80 columns, and what decides in words."""

from __future__ import annotations

import textwrap

from sepmodel import units
from sepmodel.extraction.design_case import toml_text
from sepmodel.extraction.design_curve import Point
from sepmodel.extraction.design_result import Design
from sepmodel.extraction.robust import RobustDesign
from sepmodel.files import json_text
from sepmodel.report import purity

# What the inputs of the tolerances are called.
INPUTS = {
    "solvent": "solvent alone",
    "scrub": "scrub alone",
    "both": "solvent and scrub alike",
    "inefficiency": "stage efficiency lost",
    "aqueous_carried": "aqueous carried up",
    "organic_carried": "organic carried down",
}


def lines(design: Design, width: int = 80) -> list[str]:
    """The whole design in words and tables, no line longer than ``width``."""
    out = [*_head(design), "", *_circuit(design), ""]
    if design.confirmation is not None:
        out += [*_by_mass_action(design), ""]
    out += [*_specifications(design), ""]
    out += [*_curve(design), "", *_tolerances(design), ""]
    if design.robust is not None:
        out += [*_certainty(design.robust), ""]
    out += words(design, width)
    return out


def explained(design: Design, width: int = 80) -> list[str]:
    """The circuit in one line, the specifications, and what decides."""
    return [*_head(design), "", *_specifications(design), "", *words(design, width)]


def files(design: Design, width: int = 80) -> dict[str, str | bytes]:
    """Names and contents of the files of a design's folder, figures excepted."""
    return {
        "design.json": json_text(design.to_dict()),
        "design.txt": "\n".join([*lines(design, width), *warned(design, width)]) + "\n",
        "circuit.toml": toml_text(design.document),
        **design.result.csv_files(),
    }


def explanation(design: Design) -> list[dict[str, object]]:
    """What decides, as JSON objects."""
    return [statement.to_dict() for statement in design.statements]


def words(design: Design, width: int = 80) -> list[str]:
    """What decides, one sentence a bullet."""
    out = ["What decides"]
    for statement in design.statements:
        out += textwrap.wrap(statement.text, width, initial_indent="- ", subsequent_indent="  ")
    return out


def warned(design: Design, width: int = 80) -> list[str]:
    """The warnings of a design, by name; nothing where there are none."""
    out = [""] if design.warnings else []
    for warning in design.warnings:
        where = f" ({warning.where})" if warning.where else ""
        text = f"warning: {warning.code}: {warning.message}{where}"
        out += textwrap.wrap(text, width, subsequent_indent="  ")
    return out


def _head(design: Design) -> list[str]:
    circuit = design.circuit
    cut = f"{circuit.light[-1]} from {circuit.heavy[0]}"
    beta = circuit.extractability[circuit.heavy[0]] / circuit.extractability[circuit.light[-1]]
    if circuit.draw is not None:
        middle = [e for e in circuit.components if e not in (*circuit.light, *circuit.heavy)]
        return [
            f"{design.name}: {'-'.join(circuit.light)}, {'-'.join(middle)} and "
            f"{'-'.join(circuit.heavy)} from one circuit"
        ]
    return [f"{design.name}: {cut}, separation factor {beta:.4g}"]


def _circuit(design: Design) -> list[str]:
    circuit, flows, plant = design.circuit, design.flows, design.plant
    least = circuit.minimum
    # What mass action makes of the strip is told with it, not what the exchange alone would take.
    by_factors = design.confirmation is None
    rows = [
        ("", "designed", "least"),
        ("extraction stages (feed enters the last)", str(circuit.stages_extraction), ""),
        ("scrub stages", str(circuit.stages_scrub), ""),
        ("stages together", str(circuit.stages), f"{least['stages']:.1f}"),
        ("solvent S, mol/mol feed", f"{circuit.solvent:.4f}", f"{least['solvent']:.4f}"),
        ("scrub W, mol/mol feed", f"{circuit.scrub:.4f}", f"{least['scrub']:.4f}"),
        ("S (n + m)", f"{circuit.phi:.1f}", ""),
    ]
    if circuit.draw is not None:
        draw = circuit.draw
        rows.insert(3, (f"{draw.phase} draw leaving stage (raffinate end 1)", str(draw.stage), ""))
    out = [f"{a:<44}{b:>14}{c:>14}".rstrip() for a, b, c in rows]
    litre = units.factor("mol/L")

    def flow(value: float) -> str:
        return f"{units.significant(units.to(value, 'm^3/h'))} m3/h"

    moles = units.factor("mol/h")
    more = [
        (
            "organic",
            flow(flows.organic),
            f"{plant.extractant / litre:.3g} mol/L, {100 * plant.saponification:.0f} % saponified, "
            f"carries {plant.loading / litre:.3g}",
        ),
        (
            "feed",
            flow(flows.feed),
            f"{plant.feed_conc / litre:.3g} mol/L rare earth"
            + (", organic" if plant.feed_phase == "organic" else ""),
        ),
        ("scrub acid", flow(flows.scrub), f"{plant.scrub_acid / litre:.3g} mol/L"),
        (
            "strip acid",
            flow(flows.strip),
            f"{plant.strip_acid / litre:.3g} mol/L, {plant.strip_stages} "
            f"{'stage' if plant.strip_stages == 1 else 'stages'}, "
            + (
                f"liquor {flows.strip_liquor / litre:.3g} mol/L"
                if by_factors
                else f"{plant.strip_excess:.3g} of the exchange"
            ),
        ),
        (
            "acid, base",
            f"{units.significant(flows.acid / moles)} mol/h",
            f"{units.significant(flows.base / moles)} mol/h of base: one pass of each",
        ),
        (
            "O/A",
            ", ".join(
                f"{flows.ratio(s):.3g} {s}"
                for s in ("extraction", "scrub", "strip")
                if (s != "scrub" or circuit.stages_scrub) and (s != "strip" or by_factors)
            ),
            "",
        ),
        (
            "held in stages",
            f"{units.significant(design.hold_up)} mol",
            "rare earth, extraction and scrub stages",
        ),
    ]
    for name, value, note in more:
        if note:
            out.append(f"{name:<16}{value:>16}  {note}".rstrip()[:80])
        else:
            out.append(f"{name:<16}  {value}")
    return out


def _by_mass_action(design: Design) -> list[str]:
    found = design.confirmation
    assert found is not None
    moles = units.factor("mol/h")

    def flow(value: float) -> str:
        return f"{units.significant(units.to(value, 'm^3/h'))} m3/h"

    rows = [
        ("stages", f"{found.stages_extraction} + {found.stages_scrub}", found.change["stages"]),
        ("organic", flow(found.organic), found.change["organic"]),
        ("scrub acid", flow(found.scrub), found.change["scrub"]),
        ("strip acid", flow(found.strip), found.change["strip"]),
    ]
    out = [f"{'by mass action':<16}{'':>16}  change"]
    out += [f"{name:<16}{value:>16}  {100 * change:+.1f} %" for name, value, change in rows]
    out.append(
        f"{'acid, base':<16}{units.significant(found.acid / moles):>10} mol/h  "
        f"{units.significant(found.base / moles)} mol/h of base"
    )
    ratios = ", ".join(f"{ratio:.3g} {name}" for name, ratio in found.phase_ratio.items())
    out.append(f"{'O/A':<16}  {ratios}")
    liquor = units.to(found.strip_liquor, "mol/L")
    out.append(f"{'strip liquor':<16}{liquor:>9.3g} mol/L")
    out.append(f"{'pH':<16}{found.ph[0]:>7.2f} to {found.ph[1]:.2f}")
    out.append(f"{'loading':<16}{100 * found.loading:>14.0f} %  of the stoichiometric limit")
    return out


def _specifications(design: Design) -> list[str]:
    out = [f"{'product':<14}{'outlet':<12}{'':<12}{'asked, %':>12}{'reached, %':>14}"]
    for asked in design.asked:
        if asked.kind in ("purity", "recovery"):
            wanted, reached = purity(asked.asked), purity(asked.reached)
        else:
            wanted, reached = (f"<{1e6 * asked.asked:.4g} ppm", f"{1e6 * asked.reached:.4g} ppm")
        flag = "" if asked.met else "  missed"
        out.append(
            f"{asked.product:<14}{asked.outlet:<12}{asked.kind:<12}{wanted:>12}{reached:>14}{flag}"
        )
    return out


def _curve(design: Design) -> list[str]:
    plain = design.objective in ("inventory", "reagents", "stages")
    head = "" if plain else f"  {design.objective}"
    out = [f"{'S':>10}{'W':>10}{'n':>6}{'m':>6}{'n + m':>8}{'S (n + m)':>12}{head}"]
    for point in thinned(design):
        value = "" if plain else f"  {units.significant(point.objective)}"
        mark = " <" if point.solvent == design.circuit.solvent else ""
        broken = f"  {point.broken[0]}" if point.broken else ""
        out.append(
            f"{point.solvent:>10.4f}{point.scrub:>10.4f}{point.stages_extraction:>6}"
            f"{point.stages_scrub:>6}{point.stages:>8}{point.phi:>12.1f}"
            f"{value}{mark}{broken}"
        )
    return out


def thinned(design: Design) -> list[Point]:
    """Every other member of the curve, the ends and the one chosen."""
    points = list(design.curve)
    keep = {0, len(points) - 1}
    keep |= {k for k, p in enumerate(points) if p.solvent == design.circuit.solvent}
    keep |= set(range(0, len(points), 2))
    return [points[k] for k in sorted(keep)]


def _tolerances(design: Design) -> list[str]:
    out = [f"{'held input':<31}{'margin, %':>19}{'doubles, %':>11}  suffers first"]
    for held in design.held[:10]:
        margin = f"{_signed(held.low)} to {_signed(held.high)}" if held.low < held.high else "none"
        doubling = f"{units.significant(100 * held.doubling)}" if held.doubling < 1 else "> 100"
        out.append(f"{input_name(held.name):<31}{margin:>19}{doubling:>11}  {held.product}")
    return out


def _signed(share: float) -> str:
    if abs(share) >= 1:
        return "any"
    return f"{100 * share:+.2g}"


def _certainty(found: RobustDesign) -> list[str]:
    out = [f"{'strays, of what may':<22}{'n':>6}{'m':>6}{'n + m':>8}{'S':>10}{'probability':>14}"]
    for step in found.steps:
        mark = " <" if step.probability == found.probability else ""
        out.append(
            f"{step.tightened:<22.3f}{step.stages_extraction:>6}{step.stages_scrub:>6}"
            f"{step.stages:>8}{step.solvent:>10.4f}{step.probability:>14.3f}{mark}"
        )
    return out


def input_name(name: str) -> str:
    """What a parameter of the tolerances is called.

    >>> input_name("feed:Nd"), input_name("factor:Nd/Pr")
    ('Nd in the feed', 'separation factor Nd/Pr')
    """
    kind, _, rest = name.partition(":")
    if kind == "feed":
        return f"{rest} in the feed"
    if kind == "factor":
        return f"separation factor {rest}"
    if kind == "draw":
        return f"flow of the {rest}"
    return INPUTS.get(name, name)
