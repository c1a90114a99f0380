"""A comparison as text for a terminal and as files; its page is ``report_page``."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sepmodel import __version__, files, report_engine, units
from sepmodel.plant import compare
from sepmodel.plant.compare import METRICS, Comparison, RouteResult
from sepmodel.report_page import COMPUTED, LOW_CONFIDENCE, SHOWN, page
from sepmodel.report_words import (
    OUTSIDE,
    OUTSIDE_MEANS,
    details,
    headlines,
    kept,
    met,
    middle,
    number,
    pretty,
    purity,
    readable,
    spread,
)

__all__ = ["PAGE", "number", "page", "pretty", "purity", "readable", "table", "write"]

WIDTH = 80
PAGE = "report.html"
_LABEL = 24
_ALSO = (
    "investment",
    "precipitant",
    "ligand",
    "protein",
    "solvent",
    "stages",
    "columns",
    "held",
    "people",
    "polishing",
)


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
                f"Below each figure: 5 to 95 % of those of {comparison.members} draws of all "
                "constants whose plant meets every specification."
                if comparison.with_ranges
                else kept(comparison) or "Ranges not computed."
            ),
            width,
        ),
    ]
    if study.confidence == "low" or comparison.feed_confidence == "low":
        lines += _wrapped(f"LOW CONFIDENCE: {LOW_CONFIDENCE}", width)
    shown = [*SHOWN, *_ALSO] if wide else list(SHOWN)
    per_block = max(1, (width - _LABEL) // 18)
    for start in range(0, len(comparison.routes), per_block):
        lines += [
            "",
            *_block(comparison, comparison.routes[start : start + per_block], shown, width),
        ]
    if any(OUTSIDE in spread(r, metric) for r in comparison.routes for metric in shown):
        lines.append(OUTSIDE_MEANS)
    lines += ["", *_bulleted(headlines(comparison), width)]
    if wide:
        lines += ["", *_bulleted(details(comparison), width)]
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
        lines.append(
            line(
                "draws that do, % (95 %)" if any(r.met_between for r in results) else "",
                [met(r) for r in results],
            )
        )
    for product in comparison.study.product:
        cells = []
        for r in results:
            entry = r.account.products[product.name] if r.account else None
            cells.append(
                f"{purity(entry['purity'])} / {100 * entry['recovery']:.1f}" if entry else "-"
            )
        lines.append(line(f"{product.name}: purity/recov., %", cells))
    if any(report_engine.asked(r) for r in results):
        cells = [report_engine.cell(comparison, r) for r in results]
        lines.append(line("columns on the engine", cells))
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
        spans.append(spread(r, metric))
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
        told = [middle(r, metric) or ("", "", "") for r in results]
        found.append(line("  its mean +- error", [" +- ".join(filter(None, m[:2])) for m in told]))
        found.append(line("  its median", [m[2] for m in told]))
    return found


def _bulleted(sentences: Iterable[str], width: int) -> list[str]:
    lines = []
    for sentence in sentences:
        wrapped = _wrapped(sentence, width - 2)
        lines += ["- " + wrapped[0], *("  " + rest for rest in wrapped[1:])]
    return lines


def write(
    comparison: Comparison,
    folder: str | Path,
    *,
    force: bool = False,
    figures: bool = True,
    workers: int = 1,
) -> Path:
    """Write everything a comparison has to say into ``folder``; returns the page.

    comparison.json, comparison.csv, contributions.csv, draws.csv (with ranges), table.txt (wide),
    the figures as SVG and PNG, and report.html, one file that needs nothing beside it; of plants
    that are run as built constants.csv. Files that somebody changed are not replaced unless
    ``force``. So many processes draw.
    """
    from sepmodel import plot_comparison

    drawn = plot_comparison.figures(comparison, workers) if figures else {}
    contents: dict[str, str | bytes] = {
        "comparison.json": files.json_text(compare.to_dict(comparison)),
        "comparison.csv": compare.csv_text(comparison),
        "contributions.csv": contributions_csv(comparison),
        "table.txt": table(comparison, wide=True),
        **({"draws.csv": compare.draws_csv(comparison)} if comparison.drawn else {}),
        **({"constants.csv": compare.constants_csv(comparison)} if comparison.as_built else {}),
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
    """What each unit of each route adds to cost, carbon and energy, by group and item."""
    rows = [
        [
            result.route.name,
            c.unit,
            c.line,
            c.item,
            METRICS[c.metric].label,
            units.to(c.value, METRICS[c.metric].unit),
            METRICS[c.metric].unit,
        ]
        for result in comparison.routes
        if result.account
        for c in result.account.contributions
    ]
    header = ["route", "unit", "group", "item", "figure", "value", "unit of value"]
    return files.csv_text(header, rows)
