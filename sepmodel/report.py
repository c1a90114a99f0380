"""A comparison as text for a terminal, as files, and as one self-contained page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sepmodel import __version__, data, files, plot, units
from sepmodel.plant import compare
from sepmodel.plant.compare import METRICS, Comparison, RouteResult

WIDTH = 80
_LABEL = 24
_SHOWN = ("cost", "opex", "capital", "carbon", "energy", "acid", "base", "salt", "water")
_ALSO = ("precipitant", "ligand", "protein", "solvent", "stages", "columns", "held", "polishing")
COMPUTED = (
    "Everything here is computed from published constants and from estimates. No plant of this "
    "kind has been measured for it, and no energy per kilogram has been published for a protein "
    "or a displacement plant."
)


def number(value: float, digits: int = 3) -> str:
    """A figure for a table: three significant digits, no exponent where it can be avoided.

    >>> number(1234.5), number(0.0123), number(0.0)
    ('1230', '0.0123', '0')
    """
    return units.significant(value, digits)


def table(comparison: Comparison, *, wide: bool = False) -> str:
    """The comparison as plain text, within 80 columns or, ``wide``, with every metric."""
    study = comparison.study
    width = 2 * WIDTH if wide else WIDTH
    lines = [
        study.title or study.name,
        *_wrapped(COMPUTED, width),
        "",
        *_wrapped(
            f"Per {compare.UNIT_OF_COMPARISON[study.functional_unit]}; "
            f"{number(units.to(study.rate, 't_REO/year'), 4)} t oxide a year in the feed; "
            f"prices {study.market}, grid {study.grid}, effluent {study.effluent}. "
            "Below each figure: low to high.",
            width,
        ),
    ]
    if study.confidence == "low" or comparison.feed_confidence == "low":
        lines += _wrapped("LOW CONFIDENCE: the composition of this feed is itself a guess.", width)
    shown = [*_SHOWN, *_ALSO] if wide else list(_SHOWN)
    per_block = max(1, (width - _LABEL) // 18)
    for start in range(0, len(comparison.routes), per_block):
        lines += [
            "",
            *_block(comparison, comparison.routes[start : start + per_block], shown, width),
        ]
    lines += ["", *_verdicts(comparison, width)]
    for name in study.see_also:
        lines += _wrapped(f"See also: sepmodel compare {name}", width)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent)


def _block(
    comparison: Comparison, results: Sequence[RouteResult], shown: Sequence[str], width: int
) -> list[str]:
    """The columns of some routes: specification, products, figures."""
    column = (width - _LABEL) // max(len(results), 1)

    def line(label: str, cells: Iterable[str]) -> str:
        return f"{label:<{_LABEL}}" + "".join(f"{cell:>{column}}" for cell in cells)

    titles = [textwrap.wrap(r.route.title, column - 2) or [r.route.name] for r in results]
    height = max(map(len, titles))
    lines = [line("", [t[k] if k < len(t) else "" for t in titles]) for k in range(height)]
    lines.append("-" * width)
    lines.append(line("meets specification", [r.status.replace("meets", "yes") for r in results]))
    for product in comparison.study.product:
        cells = []
        for r in results:
            entry = r.account.products[product.name] if r.account else None
            cells.append(
                f"{100 * entry['purity']:.2f} / {100 * entry['recovery']:.1f}" if entry else "-"
            )
        lines.append(line(f"{product.name}: purity/recov., %", cells))
    lines.append("-" * width)
    for metric in shown:
        lines += _metric_lines(metric, results, line)
    return lines


def _metric_lines(metric: str, results: Sequence[RouteResult], line: Any) -> list[str]:
    """A figure of every route and its range; nothing when no route has any of it."""
    meta = METRICS[metric]
    values, spans = [], []
    for r in results:
        if r.account is None:
            values.append("-")
            spans.append("")
            continue
        values.append(number(units.to(r.account.metrics[metric], meta.unit)))
        span = r.ranges.get(metric)
        if span is None or span.low == span.high:
            spans.append("")
        else:
            ends = (number(units.to(x, meta.unit), 2) for x in (span.low, span.high))
            spans.append(" to ".join(ends))
    if all(v in ("0", "-") for v in values):
        return []
    unit = pretty(meta.unit)
    found = [line(f"{meta.label}, {unit}" if unit else meta.label, values)]
    if len(found[0].split("  ")[0]) >= _LABEL:
        found = [line(meta.label, values)]
        spans_label = f"  {unit}"
    else:
        spans_label = ""
    if any(spans) or spans_label:
        found.append(line(spans_label, spans))
    return found


def pretty(unit: str) -> str:
    """A unit as readers write it.

    >>> pretty("USD2025/kg_REO"), pretty("1")
    ('USD/kg', '')
    """
    if unit == "1":
        return ""
    return unit.replace("USD2025", "USD").replace("_REO", "").replace("percent", "%")


def _verdicts(comparison: Comparison, width: int) -> list[str]:
    """Rankings in words, what fails and why, and how far the figures rest on estimates."""
    lines = []
    for sentence in verdicts(comparison):
        wrapped = _wrapped(sentence, width - 2)
        lines += ["- " + wrapped[0], *("  " + rest for rest in wrapped[1:])]
    return lines


def verdicts(comparison: Comparison) -> list[str]:
    """What the comparison says, in sentences."""
    return [
        *_who_meets(comparison),
        *_who_leads(comparison),
        *_polishing(comparison),
        *_doubts(comparison),
    ]


def _who_meets(comparison: Comparison) -> list[str]:
    said = []
    met = [r.route.title for r in comparison.routes if r.status == "meets"]
    if len(met) == len(comparison.routes):
        said.append("Every route meets every specification.")
    elif met:
        said.append(f"Meets every specification: {', '.join(met)}.")
    for result in comparison.routes:
        if result.status == "infeasible":
            said.append(f"{result.route.title} could not be designed: {result.reasons[0]}.")
        elif result.status == "FAILS":
            said.append(f"{result.route.title} FAILS: {'; '.join(result.reasons)}.")
    return said


def _who_leads(comparison: Comparison) -> list[str]:
    """Rankings in words, those that are alike in one sentence."""
    titles = {r.route.name: r.route.title for r in comparison.routes}
    alike: dict[tuple[str, str], list[str]] = {}
    for metric, meta in METRICS.items():
        if not meta.ranked:
            continue
        ranks = compare.ranking(comparison, metric)
        if len(ranks["order"]) < 2:
            continue
        order = ", then ".join(titles[name] for name in ranks["order"])
        undecided = [f"{titles[a]} and {titles[b]}" for a, b in ranks["undecided"]]
        if not comparison.with_ranges:
            verdict = "ranges were not computed"
        elif undecided:
            verdict = f"undecided between {'; '.join(undecided)}"
        else:
            verdict = "decided"
        alike.setdefault((order, verdict), []).append(meta.label)
    found = []
    for (order, verdict), labels in alike.items():
        listed = " and ".join(filter(None, (", ".join(labels[:-1]), labels[-1])))
        found.append(f"Least {listed}: {order} ({verdict}).")
    return found


def _polishing(comparison: Comparison) -> list[str]:
    said = []
    unit = METRICS["cost"].unit
    plain = [r for r in comparison.routes if r.account and not r.route.polish]
    for result in comparison.routes:
        if not (result.route.polish and result.account):
            continue
        figures = result.account.metrics
        cost = number(units.to(figures["polishing"] * figures["cost"], unit))
        beside = [r for r in plain if r.account and r.account.metrics["stages"] > 0]
        compared = "".join(
            f" ({r.route.title} as a whole: {number(r.account.metrics['stages'])})"
            for r in beside
            if r.account
        )
        said.append(
            f"{result.route.title}: the polishing takes {number(figures['stages'])} extraction "
            f"stages{compared} and {cost} {pretty(unit)}, because {result.route.polish.why}."
        )
    return said


def _doubts(comparison: Comparison) -> list[str]:
    said = []
    for result in comparison.routes:
        if not result.account:
            continue
        share = compare.estimated(result)
        part = share["share_of_sensitivity"]
        weight = f", which carry {100 * part:.0f} % of the range of its cost" if part else ""
        said.append(
            f"{result.route.title}: {share['count']} of {share['of']} constants are "
            f"estimates{weight}."
        )
    return said


# --- files -----------------------------------------------------------------------------------


def folder(comparison: Comparison) -> Path:
    """The folder a comparison goes to when no other is named: ``results/<study>-<hash8>``."""
    return Path("results") / f"{comparison.study.name}-{comparison.inputs_hash[:8]}"


def contents(comparison: Comparison, *, figures: bool = True) -> dict[str, str | bytes]:
    """Names and contents of the files of a comparison: page, JSON, CSV, table, figures."""
    drawn: dict[str, bytes] = {}
    if figures:
        for name, draw in plot.comparison_figures(comparison).items():
            with plot.style():
                figure = draw()
                for form in ("svg", "png"):
                    drawn[f"{name}.{form}"] = plot.rendered(figure, form)
    written: dict[str, str | bytes] = {
        "comparison.json": files.json_text(compare.to_dict(comparison)),
        "comparison.csv": compare.csv_text(comparison),
        "comparison.txt": table(comparison, wide=True),
        **drawn,
    }
    svgs = {n.removesuffix(".svg"): b.decode("utf-8") for n, b in drawn.items() if ".svg" in n}
    written["report.html"] = html(comparison, svgs, beside=sorted(written))
    return written


FIGURES = {
    "cost": (
        "What it costs",
        "Cost per kilogram of separated oxide by what it is spent on. Each route has a scale of "
        "its own; the number is the sum, in brackets the range.",
    ),
    "carbon": (
        "What it emits",
        "Greenhouse gases per kilogram of separated oxide, reagents and power from the cradle.",
    ),
    "ranges": (
        "Base and range of the ranked figures",
        "Dot: base. Bar: low to high. Logarithmic scales. Bars that overlap may still be decided, "
        "because both routes pay the same prices: see the table of rankings.",
    ),
    "elements": (
        "Where each rare earth goes",
        "Percent of what is fed in the leach liquor. Other rare earths leave as mixed carbonate.",
    ),
    "drivers": (
        "What moves the cost most",
        "Each bar runs from the cost at one end of a constant's range to the cost at the other, "
        "the plant designed anew. Colour: how well the constant is known.",
    ),
}


def html(comparison: Comparison, svgs: dict[str, str], *, beside: Sequence[str] = ()) -> str:
    """The comparison as one self-contained page."""
    from importlib.resources import files as package_files

    from jinja2 import Environment

    text = package_files("sepmodel").joinpath("templates/report.html.j2").read_text("utf-8")
    page: str = (
        Environment(autoescape=True).from_string(text).render(**_page(comparison, svgs, beside))
    )
    return page


def _page(comparison: Comparison, svgs: dict[str, str], beside: Sequence[str]) -> dict[str, Any]:
    """What the template of the page is filled with."""
    study = comparison.study
    low = study.confidence == "low" or comparison.feed_confidence == "low"
    used = {key: c for r in comparison.routes for key, c in r.used.items()}
    evidence = data.evidence(used)
    known = data.sources()
    titles = {r.route.name: r.route.title for r in comparison.routes}
    return {
        "title": study.title or study.name,
        "subtitle": "Routes compared on one feed, one boundary, one set of prices. " + study.notes,
        "computed": COMPUTED,
        "low_confidence": "the composition of this feed is itself a guess: take the figures as a "
        "question, not as an answer."
        if low
        else "",
        "verdicts": verdicts(comparison),
        "functional_unit": compare.UNIT_OF_COMPARISON[study.functional_unit],
        "ranges": compare.RANGES[0].upper() + compare.RANGES[1:],
        "boundary": compare.BOUNDARY[0].upper() + compare.BOUNDARY[1:],
        "basis": _basis(comparison),
        "routes": [_route_page(r) for r in comparison.routes],
        "products": _products_page(comparison),
        "headline": _metric_page(comparison, HEADLINE),
        "every": _metric_page(comparison, [m for m in METRICS if m not in HEADLINE]),
        "figures": [
            {"title": FIGURES[n][0], "caption": FIGURES[n][1], "svg": _inline(svgs[n])}
            for n in FIGURES
            if n in svgs
        ],
        "pairs": [
            {
                "metric": METRICS[p.metric].label,
                "first": titles[p.first],
                "second": titles[p.second],
                "ratio": number(p.ratio),
                "range": f"{number(p.low, 2)} to {number(p.high, 2)}",
                "decided": p.decided,
            }
            for p in comparison.pairs
            if comparison.with_ranges
        ],
        "allocation_heads": [
            f"{METRICS[m].label} by {basis}, {pretty(METRICS[m].unit)}"
            for m in ("cost", "carbon")
            for basis in compare.ALLOCATIONS
        ],
        "allocation": _allocation_page(comparison),
        "cost_unit": pretty(METRICS["cost"].unit),
        "sources": [
            {
                "citation": known[e["key"]].citation if e["key"] in known else e["key"],
                "doi": known[e["key"]].doi if e["key"] in known else "",
                "cls": e["class"],
                "numbers": ", ".join(e["numbers"]),
            }
            for e in evidence
        ],
        "notices": sorted({known[e["key"]].notice for e in evidence if e["key"] in known} - {""}),
        "source_count": len({e["key"] for e in evidence}),
        "constant_count": len(used),
        "version": __version__,
        "seconds": f"{comparison.seconds:.1f} s",
        "beside": ", ".join(beside),
        "command": f"sepmodel compare {study.name} --set market=china-2025",
    }


HEADLINE = ("cost", "opex", "capital", "carbon", "energy", "acid", "base", "salt", "water")


def _inline(svg: str) -> str:
    """An SVG file without its XML head, to stand inside a page."""
    return svg[svg.index("<svg") :]


def _basis(comparison: Comparison) -> list[tuple[str, str]]:
    study, stream = comparison.study, comparison.liquor
    conc = {n: c for n, c in zip(stream.names, stream.conc.tolist(), strict=True) if c > 0}
    strongest = sorted(conc.items(), key=lambda item: -item[1])
    shown = ", ".join(f"{n} {number(c)}" for n, c in strongest)
    rate = number(units.to(study.rate, "t_REO/year"), 4)
    train = number(units.to(study.train_size, "t_REO/year"), 4)
    wanted = "; ".join(_wanted(p) for p in study.product)
    return [
        ("feed", f"{study.feed} (confidence in its composition: {comparison.feed_confidence})"),
        ("rate", f"{rate} t rare-earth oxide a year in the feed, in trains of {train} t each"),
        ("leach liquor, mol/m3", shown),
        ("products", wanted),
        (
            "prices of products",
            f"{study.market}: "
            + ", ".join(
                f"{name} {number(price)} USD/kg" for name, price in comparison.prices.items()
            ),
        ),
        ("prices of reagents and utilities", study.reagents),
        ("grid", study.grid),
        ("effluent limit", EFFLUENTS[study.effluent]),
    ]


EFFLUENTS = {
    "zero-liquid": "no liquid leaves: membranes, evaporation, salt to landfill, water used again",
    "discharge": "neutralised and cleaned of metals, let go with its salt",
}


def _wanted(product: Any) -> str:
    windows = "".join(
        f", {pair} {low:g} to {high:g} by mole" for pair, (low, high) in product.window.items()
    )
    basis = "of the rare-earth oxide" if product.purity_basis == "oxide-mass" else "by mole"
    return (
        f"{product.name} at least {100 * product.purity:g} % {basis}, "
        f"recovery at least {100 * product.recovery:g} %{windows}"
    )


def _route_page(result: RouteResult) -> dict[str, Any]:
    share = compare.estimated(result)
    part = share["share_of_sensitivity"]
    weight = f" They carry {100 * part:.0f} % of the cost's range." if part else ""
    unit = METRICS["cost"].unit
    page: dict[str, Any] = {
        "title": result.route.title,
        "ok": result.status == "meets",
        "status": "yes"
        if result.status == "meets"
        else f"{result.status}: " + "; ".join(result.reasons),
        "level": f"Model: {result.route.level}",
        "estimates": f"{share['count']} of {share['of']} constants are estimates.{weight}",
        "fragile": ", ".join(plot.readable(k) for k in result.fragile),
        "drivers": [
            [
                f"{plot.readable(s.key)} ({result.used[s.key].basis})",
                _constant_range(result.used[s.key]),
                number(units.to(s.low, unit)),
                number(units.to(s.high, unit)),
                result.used[s.key].provenance,
                result.used[s.key].source,
            ]
            for s in compare.drivers(result, "cost")
        ],
        "warnings": [],
        "units": [],
        "closure": "",
        "worst": "-",
        "unit_count": len(result.route.unit),
    }
    if result.sheet is not None:
        page["warnings"] = [
            {"code": w.get("code", ""), "where": w.get("where", ""), "message": w["message"]}
            for w in result.sheet.warnings
        ]
        page["units"] = [(n, _unit_page(u)) for n, u in result.sheet.units.items()]
        closure = result.sheet.closure
        page["worst"] = f"{max(closure.values()):.0e}"
        page["closure"] = ", ".join(f"{n} {c:.0e}" for n, c in closure.items())
    return page


def _constant_range(constant: data.Constant) -> str:
    low, high = constant.low, constant.high
    ends = "" if low is None or high is None else f" ({low:g} to {high:g})"
    return f"{constant.value:g}{ends} {'' if constant.unit == '1' else constant.unit}".strip()


def _unit_page(unit: Any) -> str:
    """Facts and duties of a unit in a sentence."""
    facts = [
        f"{name} {number(units.to(value, to))} {pretty(to)}".strip()
        for name, (value, to) in unit.result.facts.items()
    ]
    duties = [
        f"{name} {units.significant(amount, 3)}"
        for name, amount in unit.result.duties.items()
        if amount > 0
    ]
    said = "; ".join(facts)
    return f"{said}{'. ' if said else ''}Duties in SI per second: {', '.join(duties) or 'none'}"


def _products_page(comparison: Comparison) -> list[dict[str, Any]]:
    return [
        {
            "name": p.name,
            "wanted": _wanted(p).removeprefix(f"{p.name} "),
            "cells": [
                "-"
                if r.account is None
                else f"{100 * r.account.products[p.name]['purity']:.2f} %, "
                f"{100 * r.account.products[p.name]['recovery']:.1f} %"
                for r in comparison.routes
            ],
        }
        for p in comparison.study.product
    ]


def _metric_page(comparison: Comparison, shown: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of figures with their ranges; what no route has any of is left out."""
    rows = []
    for metric in shown:
        meta = METRICS[metric]
        cells = []
        for r in comparison.routes:
            if r.account is None:
                cells.append({"value": "-", "range": ""})
                continue
            value = r.account.metrics[metric]
            span = r.ranges.get(metric)
            ends = ""
            if span is not None and span.low < span.high:
                ends = " to ".join(number(units.to(x, meta.unit), 2) for x in (span.low, span.high))
            cells.append({"value": number(units.to(value, meta.unit)), "range": ends})
        if any(c["value"] not in ("0", "-") for c in cells):
            rows.append(
                {"label": meta.label, "unit": pretty(meta.unit), "what": meta.what, "cells": cells}
            )
    return rows


def _allocation_page(comparison: Comparison) -> list[list[str]]:
    rows = []
    for r in comparison.routes:
        for p in comparison.study.product if r.account else ():
            assert r.account is not None
            entry = r.account.products[p.name]
            cells = [
                number(units.to(entry[f"{m} by {basis}"], METRICS[m].unit))
                if f"{m} by {basis}" in entry
                else "-"
                for m in ("cost", "carbon")
                for basis in compare.ALLOCATIONS
            ]
            rows.append(
                [
                    f"{r.route.title}: {p.name}",
                    f"{100 * entry['purity']:.2f}",
                    f"{100 * entry['recovery']:.1f}",
                    *cells,
                ]
            )
    return rows
