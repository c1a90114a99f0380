"""A comparison as one self-contained page."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from sepmodel import __version__, report_engine, units
from sepmodel.data import Constant, evidence, sources
from sepmodel.plant import compare
from sepmodel.plant.compare import METRICS, Comparison, RouteResult
from sepmodel.report_words import (
    OUTSIDE,
    OUTSIDE_MEANS,
    WORDS,
    details,
    headlines,
    kept,
    met,
    middle,
    number,
    percent,
    pretty,
    purity,
    readable,
    short,
    spread,
)

LOW_CONFIDENCE = "the composition of this feed is itself a guess."
SHOWN = (
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
COMPUTED = (
    "Everything here is computed from published constants and from estimates. No plant of this "
    "kind has been measured for it, and no energy per kilogram has been published for a protein "
    "or a displacement plant."
)


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
    names = short(comparison)
    low = study.confidence == "low" or comparison.feed_confidence == "low"
    return {
        "title": study.title or study.name,
        "subtitle": f"{len(results)} routes on one boundary; {rate} t of rare-earth oxide a year "
        f"in the feed {study.feed}",
        "computed": COMPUTED,
        "low_confidence": LOW_CONFIDENCE if low else "",
        "engine": report_engine.page(comparison),
        "headlines": [linked(s) for s in headlines(comparison)],
        "details": [linked(s) for s in details(comparison)],
        "names": [short(comparison)[r.route.name] for r in results],
        "routes": [_page_route(r) for r in results],
        "products": [_page_product(p, results) for p in study.product],
        "headline": _page_metrics(SHOWN, results),
        "every": _page_metrics(list(METRICS), results),
        "parts": [_page_parts(metric, results) for metric in ("cost", "carbon", "energy")],
        "words": [(_anchor(word), word, text) for word, text in sorted(WORDS.items(), key=_lower)],
        "with_ranges": comparison.with_ranges,
        "outside": OUTSIDE_MEANS
        if any(OUTSIDE in spread(r, metric) for r in results for metric in METRICS)
        else "",
        "kept": kept(comparison),
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
                "first": names[p.first],
                "second": names[p.second],
                "ratio": number(p.ratio),
                "range": f"{number(p.low, 2)} to {number(p.high, 2)}"
                if math.isfinite(p.high)
                else "too few",
                "share": "-" if p.probability is None else f"{100 * p.probability:.1f} %",
                "both": "-" if p.both is None else f"{percent(p.both)} %",
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
            row
            for r in results
            if r.account
            for row in _page_allocation(r, names[r.route.name], study.product)
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


def linked(text: str) -> Markup:
    """A text as HTML, the first use of each word of ``WORDS`` a link to what it means.

    >>> str(linked("5 draws < 6"))
    '5 <a href="#w-draw">draws</a> &lt; 6'
    """
    html = str(escape(text))
    for word in sorted(WORDS, key=len, reverse=True):
        pattern = _PATTERNS.get(word, rf"\b{re.escape(word)}s?\b")
        # Not inside a tag, and not inside a link that stands there already.
        pattern = rf"(?:{pattern})(?![^<]*</a>)(?![^<>]*>)"
        html = re.sub(pattern, rf'<a href="#w-{_anchor(word)}">\g<0></a>', html, count=1)
    return Markup(html)


# Words that mean something else in other company: acid and base, a range's ends.
_PATTERNS = {"base": r"(?<=at the )base\b|(?<=: the )base\b", "train": r"\btrains?\b"}


def _anchor(word: str) -> str:
    return re.sub(r"\W+", "-", word.lower())


def _lower(entry: tuple[str, str]) -> str:
    return entry[0].lower()


def _page_parts(metric: str, results: Sequence[RouteResult]) -> dict[str, Any]:
    """What a figure is made of, group by group, and the sum: the same figures as the bars."""
    unit = METRICS[metric].unit
    there = [r for r in results if r.account]
    parts = {r.route.name: compare.breakdown(r.account, metric) for r in there if r.account}
    lines = list(dict.fromkeys(line for part in parts.values() for line in part))

    def cells(values: Sequence[float | None]) -> list[str]:
        return ["" if v is None else number(units.to(v, unit)) for v in values]

    return {
        "title": f"{METRICS[metric].label}, {pretty(unit)}",
        "rows": [
            (linked(line), cells([parts.get(r.route.name, {}).get(line) for r in results]))
            for line in lines
        ],
        "total": cells([r.account.metrics[metric] if r.account else None for r in results]),
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
                cells.append({"value": "-", "range": "", "middle": []})
                continue
            among = middle(r, metric) if metric == "cost" else ()
            cells.append(
                {
                    "value": number(units.to(r.account.metrics[metric], meta.unit)),
                    "range": spread(r, metric),
                    "middle": [f"mean {among[0]} ± {among[1]}", f"median {among[2]}"]
                    if among
                    else [],
                }
            )
        if any(cell["value"] not in ("0", "-") for cell in cells):
            rows.append(
                {
                    "label": linked(meta.label),
                    "unit": pretty(meta.unit),
                    "what": linked(meta.what),
                    "cells": cells,
                }
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


def _page_allocation(result: RouteResult, name: str, products: Sequence[Any]) -> list[list[str]]:
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
                f"{name}: {product.name}",
                purity(entry["purity"]),
                f"{100 * entry['recovery']:.1f}",
                *cells,
            ]
        )
    return rows


def _page_route(result: RouteResult) -> dict[str, Any]:
    """What the page says of one route."""
    share = compare.estimated(result)
    part, whole = share["share_of_sensitivity"], share["explained"]
    weight = (
        f"; they carry {100 * part:.0f} % of the cost's spread, and {100 * (1 - whole):.0f} % "
        "of it no constant carries by itself"
        if part and whole is not None
        else ""
    )
    closure = dict(result.sheet.closure) if result.sheet else {}
    return {
        "title": result.route.title,
        "ok": result.status == "meets",
        "status": "yes" if result.status == "meets" else result.status,
        "met": met(result, " %"),
        "level": f"Model: {result.route.level}",
        "estimates": f"{share['count']} of {share['of']} constants are estimates{weight}."
        if result.account
        else "; ".join(result.reasons),
        "drivers": [
            [
                readable(swing.key, result.used[swing.key]),
                _range_text(result.used[swing.key]),
                number(units.to(swing.low, METRICS["cost"].unit)),
                number(units.to(swing.high, METRICS["cost"].unit)),
                result.used[swing.key].provenance,
                result.used[swing.key].source,
            ]
            for swing in compare.drivers(result, "cost")
        ],
        "misses": [(f"{percent(m.share)} %", m.reason) for m in result.misses[:6]],
        "fragile": ", ".join(
            f"{readable(key, result.used.get(key))} ({end})" for key, end in result.fragile
        ),
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
