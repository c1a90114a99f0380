"""A comparison as text for a terminal, as files, and as one self-contained page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sepmodel import __version__, files, units
from sepmodel.data import Constant, evidence, sources
from sepmodel.plant import compare
from sepmodel.plant.compare import METRICS, Comparison, RouteResult

WIDTH = 80
PAGE = "report.html"
LOW_CONFIDENCE = "the composition of this feed is itself a guess."
_LABEL = 24
_SHOWN = (
    "cost",
    "opex",
    "capital",
    "carbon",
    "energy",
    "acid",
    "base",
    "salt",
    "effluent",
    "water",
)
_ALSO = (
    "investment",
    "precipitant",
    "ligand",
    "protein",
    "solvent",
    "stages",
    "columns",
    "held",
    "polishing",
)
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


def purity(share: float) -> str:
    """A purity in percent, with as many digits as it takes not to call it 100.

    >>> purity(0.9952), purity(0.99999), purity(1.0)
    ('99.52', '99.999', '100.00')
    """
    for digits in range(2, 9):
        text = f"{100 * share:.{digits}f}"
        if not text.startswith("100"):
            return text
    return f"{100 * share:.2f}"


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
            + (
                f"Below each figure: 5 to 95 % of those of {comparison.members} draws whose plant "
                "meets every specification."
                if comparison.with_ranges
                else "Ranges not computed."
            ),
            width,
        ),
    ]
    if study.confidence == "low" or comparison.feed_confidence == "low":
        lines += _wrapped(f"LOW CONFIDENCE: {LOW_CONFIDENCE}", width)
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
    if any(r.met is not None for r in results):
        met = ["-" if r.met is None else f"{100 * r.met:.0f}" for r in results]
        lines.append(line("draws that do, %", met))
    for product in comparison.study.product:
        cells = []
        for r in results:
            entry = r.account.products[product.name] if r.account else None
            cells.append(
                f"{purity(entry['purity'])} / {100 * entry['recovery']:.1f}" if entry else "-"
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
    if metric == "cost" and any(r.ranges.get(metric) for r in results):
        beside = []
        for r in results:
            span = r.ranges.get(metric)
            told = (span.mean, span.median) if span else ()
            beside.append(" / ".join(number(units.to(x, meta.unit)) for x in told))
        found.append(line("  its mean / median", beside))
    return found


def pretty(unit: str) -> str:
    """A unit as readers write it.

    >>> pretty("USD2025/kg_REO"), pretty("1")
    ('USD/kg', '')
    """
    if unit == "1":
        return ""
    if unit == "USD2025*year/kg_REO":
        return "USD per kg/year"
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
        *_by_mass_action(comparison),
        *_polishing(comparison),
        *_doubts(comparison),
    ]


def _who_meets(comparison: Comparison) -> list[str]:
    said = []
    met = [r.route.title for r in comparison.routes if r.status == "meets"]
    if len(met) == len(comparison.routes):
        said.append("Every route meets every specification with the base constants.")
    elif met:
        said.append(f"Meets every specification: {', '.join(met)}.")
    for result in comparison.routes:
        if result.status == "infeasible":
            said.append(f"{result.route.title} could not be designed: {result.reasons[0]}.")
        elif result.status == "FAILS":
            said.append(f"{result.route.title} FAILS: {'; '.join(result.reasons)}.")
        if result.met is not None and result.met < 1:
            sides = [f"{readable(key)} {side}" for key, side in result.fragile[:3]]
            common = f"; they have in common: {', '.join(sides)}" if sides else ""
            said.append(
                f"{result.route.title}: {100 * (1 - result.met):.0f} % of draws miss a "
                f"specification{common}."
            )
    return said


def readable(key: str) -> str:
    """The key of a constant as a short label.

    >>> readable("prices/reagents-us-2025:HCl")
    'price of HCl'
    """
    set_id, _, name = key.partition(":")
    folder, _, last = set_id.partition("/")
    name = name.replace("_", " ")
    if folder == "prices":
        return f"price of {name}"
    if set_id == "factors/grid":
        return f"CO2e of grid power, {name}"
    if folder == "factors":
        return f"{'CO2e' if last == 'carbon' else last} of {name}"
    if folder == "separation_factors":
        return f"separation factor {name}"
    if folder == "feeds":
        return f"feed: {name}"
    return f"{(last or folder).replace('-', ' ')}: {name.replace('-', ' ')}"


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
            verdict = "ranges not computed"
        elif undecided:
            verdict = f"undecided between {'; '.join(undecided)}"
        else:
            verdict = _odds(comparison, metric)
        alike.setdefault((order, verdict), []).append(meta.label)
    found = []
    for (order, verdict), labels in alike.items():
        listed = " and ".join(filter(None, (", ".join(labels[:-1]), labels[-1])))
        found.append(f"Least {listed}: {order} ({verdict}).")
    return found


def _odds(comparison: Comparison, metric: str) -> str:
    """How sure a decided ranking is."""
    odds = [max(p.probability, 1 - p.probability) for p in comparison.pairs if p.metric == metric]
    if not odds:
        return "nothing to compare with"
    least = min(odds)
    share = "all" if least == 1 else f"{100 * least:.1f} % or more"
    return f"decided: so in {share} of draws where both work; model errors are not in them"


def _polishing(comparison: Comparison) -> list[str]:
    said = []
    unit = METRICS["cost"].unit
    for result in comparison.routes:
        if not (result.route.polish and result.account):
            continue
        figures = result.account.metrics
        cost = number(units.to(figures["polishing"] * figures["cost"], unit), 2)
        beside = "".join(
            f" ({r.route.title} as a whole: {number(r.account.metrics['stages'])})"
            for r in comparison.routes
            if r.account and not r.route.polish and r.account.metrics["stages"] > 0
        )
        said.append(
            f"{result.route.title}: the polishing takes {number(figures['stages'])} extraction "
            f"stages{beside} and {cost} {pretty(unit)}, because {result.route.polish.why}."
        )
    return said


def _by_mass_action(comparison: Comparison) -> list[str]:
    """What the solved circuits of a train take beside the usual estimate."""
    said = []
    for result in comparison.routes:
        if result.sheet is None or result.route.polish:
            continue
        for unit in result.sheet.units.values():
            circuits = unit.result.circuits
            if not circuits or any(c.ph[0] != c.ph[0] for c in circuits):
                continue
            estimate = 3 * sum(c.solvent_3s for c in circuits)
            acid = sum(c.acid for c in circuits) / estimate
            base = sum(c.base for c in circuits) / estimate
            most = max(circuits, key=lambda c: c.acid / c.solvent_3s)
            said.append(
                f"{result.route.title}: solved as mass-action circuits, the train takes "
                f"{acid:.2f} times the acid and {base:.2f} times the base of the estimate 3 S; "
                f"most acid {most.name}, {most.acid / (3 * most.solvent_3s):.2f} times."
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


def write(
    comparison: Comparison, folder: str | Path, *, force: bool = False, figures: bool = True
) -> Path:
    """Write everything a comparison has to say into ``folder``; returns the page.

    comparison.json, comparison.csv, contributions.csv, table.txt (wide), the figures as SVG and
    PNG, and report.html, one file that needs nothing beside it. Files that somebody changed are
    not replaced unless ``force``.
    """
    from sepmodel import plot_comparison

    drawn = plot_comparison.figures(comparison) if figures else {}
    contents: dict[str, str | bytes] = {
        "comparison.json": files.json_text(compare.to_dict(comparison)),
        "comparison.csv": compare.csv_text(comparison),
        "contributions.csv": contributions_csv(comparison),
        "table.txt": table(comparison, wide=True),
        **drawn,
        PAGE: page(comparison, drawn),
    }
    about = {
        "version": __version__,
        "name": comparison.study.name,
        "inputs_hash": comparison.inputs_hash,
    }
    files.write_folder(Path(folder), contents, about, force=force)
    return Path(folder) / PAGE


def contributions_csv(comparison: Comparison) -> str:
    """What each unit of each route adds to cost and carbon, by group of duties."""
    rows = [
        [
            result.route.name,
            c.unit,
            c.line,
            METRICS[c.metric].label,
            units.to(c.value, METRICS[c.metric].unit),
            METRICS[c.metric].unit,
        ]
        for result in comparison.routes
        if result.account
        for c in result.account.contributions
    ]
    return files.csv_text(["route", "unit", "group", "figure", "value", "unit of value"], rows)


def page(comparison: Comparison, drawn: Mapping[str, bytes]) -> str:
    """The comparison as one self-contained HTML page."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("sepmodel"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("report.html.j2").render(_page(comparison, drawn))


def _page(comparison: Comparison, drawn: Mapping[str, bytes]) -> dict[str, Any]:
    """What the page's template asks for."""
    from sepmodel.plot_comparison import CAPTIONS

    study = comparison.study
    results = comparison.routes
    used = {key: constant for r in results for key, constant in r.used.items()}
    rate = number(units.to(study.rate, "t_REO/year"), 4)
    titles = {r.route.name: r.route.title for r in results}
    low = study.confidence == "low" or comparison.feed_confidence == "low"
    return {
        "title": study.title or study.name,
        "subtitle": f"{len(results)} routes on one boundary; {rate} t of rare-earth oxide a year "
        f"in the feed {study.feed}",
        "computed": COMPUTED,
        "low_confidence": LOW_CONFIDENCE if low else "",
        "verdicts": verdicts(comparison),
        "routes": [_page_route(r) for r in results],
        "products": [_page_product(p, results) for p in study.product],
        "headline": _page_metrics(_SHOWN, results),
        "every": _page_metrics(list(METRICS), results),
        "with_ranges": comparison.with_ranges,
        "functional_unit": compare.UNIT_OF_COMPARISON[study.functional_unit],
        "ranges": compare.RANGES[0].upper() + compare.RANGES[1:],
        "boundary": compare.BOUNDARY[0].upper() + compare.BOUNDARY[1:],
        "basis": [
            ("feed", f"{study.feed} ({comparison.feed_confidence} confidence)"),
            (
                "rate",
                f"{rate} t rare-earth oxide a year, "
                f"{comparison.trains:.3g} train{'' if comparison.trains == 1 else 's'} of "
                f"{number(units.to(study.train_size, 't_REO/year'), 4)} t a year",
            ),
            ("product prices", study.market),
            ("reagent prices", study.reagents),
            ("grid", study.grid),
            ("effluent", study.effluent),
        ],
        "figures": [
            {
                "title": CAPTIONS[name][0],
                "caption": CAPTIONS[name][1],
                "svg": _inline(drawn[f"{name}.svg"]),
            }
            for name in CAPTIONS
            if f"{name}.svg" in drawn
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
            f"{METRICS[metric].label} by {way}, {pretty(METRICS[metric].unit)}"
            for metric in ("cost", "carbon")
            for way in compare.ALLOCATIONS
        ],
        "allocation": [
            row for r in results if r.account for row in _page_allocation(r, study.product)
        ],
        "cost_unit": pretty(METRICS["cost"].unit),
        "source_count": len({c.source for c in used.values()}),
        "constant_count": len(used),
        "sources": _page_sources(used),
        "notices": _notices(used),
        "version": __version__,
        "seconds": f"{comparison.seconds:.0f} s",
        "beside": "comparison.json, comparison.csv, contributions.csv, table.txt, figures as SVG "
        "and PNG",
        "command": f"sepmodel compare {study.name} --set market=china-2025",
    }


def _inline(svg: bytes) -> str:
    """An SVG file as an element of a page."""
    text = svg.decode("utf-8")
    return text[text.index("<svg") :]


def _page_metrics(names: Sequence[str], results: Sequence[RouteResult]) -> list[dict[str, Any]]:
    """Rows of a table of figures; what no route has is left out."""
    rows = []
    for metric in names:
        meta = METRICS[metric]
        cells = []
        for r in results:
            if r.account is None:
                cells.append({"value": "-", "range": ""})
                continue
            span = r.ranges.get(metric)
            spread = span is not None and span.low != span.high
            ends = (
                [number(units.to(x, meta.unit), 2) for x in (span.low, span.high)] if span else []
            )
            cells.append(
                {
                    "value": number(units.to(r.account.metrics[metric], meta.unit)),
                    "range": " to ".join(ends) if spread else "",
                }
            )
        if any(cell["value"] not in ("0", "-") for cell in cells):
            rows.append(
                {"label": meta.label, "unit": pretty(meta.unit), "what": meta.what, "cells": cells}
            )
    return rows


def _page_product(product: Any, results: Sequence[RouteResult]) -> dict[str, Any]:
    """A product's row: what is demanded, what each route reaches."""
    cells = []
    for r in results:
        entry = r.account.products[product.name] if r.account else None
        cells.append(
            f"{purity(entry['purity'])} %, {100 * entry['recovery']:.1f} %" if entry else "-"
        )
    return {
        "name": product.name,
        "wanted": f"at least {100 * product.purity:g} % pure, "
        f"{100 * product.recovery:g} % recovered",
        "cells": cells,
    }


def _page_allocation(result: RouteResult, products: Sequence[Any]) -> list[list[str]]:
    """Rows of the allocation table of one route."""
    assert result.account is not None
    rows = []
    for product in products:
        entry = result.account.products[product.name]
        cells = [
            number(units.to(entry[f"{metric} by {way}"], METRICS[metric].unit))
            if f"{metric} by {way}" in entry
            else "-"
            for metric in ("cost", "carbon")
            for way in compare.ALLOCATIONS
        ]
        rows.append(
            [
                f"{result.route.title}: {product.name}",
                purity(entry["purity"]),
                f"{100 * entry['recovery']:.1f}",
                *cells,
            ]
        )
    return rows


def _page_route(result: RouteResult) -> dict[str, Any]:
    """What the page says of one route."""
    share = compare.estimated(result)
    part = share["share_of_sensitivity"]
    weight = f"; they carry {100 * part:.0f} % of the cost's range" if part else ""
    closure = dict(result.sheet.closure) if result.sheet else {}
    return {
        "title": result.route.title,
        "ok": result.status == "meets",
        "status": "yes" if result.status == "meets" else result.status,
        "level": f"Model: {result.route.level}",
        "estimates": f"{share['count']} of {share['of']} constants are estimates{weight}."
        if result.account
        else "; ".join(result.reasons),
        "drivers": [
            [
                swing.key,
                _range_text(result.used[swing.key]),
                number(units.to(swing.low, METRICS["cost"].unit)),
                number(units.to(swing.high, METRICS["cost"].unit)),
                result.used[swing.key].provenance,
                result.used[swing.key].source,
            ]
            for swing in compare.drivers(result, "cost")
        ],
        "fragile": ", ".join(f"{key} ({side})" for key, side in result.fragile),
        "misses": [(f"{100 * m.share:.0f} %", m.reason) for m in result.misses[:6]],
        "warnings": list(result.sheet.warnings) if result.sheet else [],
        "unit_count": len(result.sheet.units) if result.sheet else 0,
        "worst": f"{max(closure.values(), default=0.0):.0e}",
        "units": [(name, _unit_text(unit.result)) for name, unit in result.sheet.units.items()]
        if result.sheet
        else [],
        "closure": ", ".join(f"{name} {gap:.0e}" for name, gap in closure.items()),
    }


def _range_text(constant: Constant) -> str:
    low, high = constant.low, constant.high
    if low is None or high is None:
        return f"{constant.value:g} {pretty(constant.unit)}".rstrip()
    ends = (f"{float(f'{end:.3g}'):g}" for end in (low, high))
    return f"{' to '.join(ends)} {pretty(constant.unit)}".rstrip()


def _unit_text(result: Any) -> str:
    """The facts of a unit operation in a line."""
    return "; ".join(
        f"{fact} {number(units.to(value, unit))} {pretty(unit)}".rstrip()
        for fact, (value, unit) in result.facts.items()
    )


def _page_sources(used: Mapping[str, Constant]) -> list[dict[str, str]]:
    """Who said the numbers, the source with most of them first."""
    known = sources()
    entries = sorted(evidence(used), key=lambda e: -len(e["numbers"]))
    return [
        {
            "citation": known[e["key"]].citation,
            "doi": known[e["key"]].doi,
            "cls": e["class"],
            "numbers": ", ".join(e["numbers"]),
        }
        for e in entries
    ]


def _notices(used: Mapping[str, Constant]) -> list[str]:
    """Notices that the compilations behind the numbers ask for."""
    known = sources()
    keys = dict.fromkeys(c.source for c in used.values())
    return [known[key].notice for key in keys if known[key].notice]
