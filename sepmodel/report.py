"""A comparison as text for a terminal, as files, and as one self-contained page."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from sepmodel import units
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
    said = []
    titles = {r.route.name: r.route.title for r in comparison.routes}
    for result in comparison.routes:
        if result.status == "infeasible":
            said.append(f"{result.route.title} could not be designed: {result.reasons[0]}")
        elif result.status == "FAILS":
            said.append(f"{result.route.title} FAILS: {'; '.join(result.reasons)}.")
    for metric, meta in METRICS.items():
        if not meta.ranked:
            continue
        ranks = compare.ranking(comparison, metric)
        if len(ranks["order"]) < 2:
            continue
        order = ", ".join(titles[name] for name in ranks["order"])
        undecided = [f"{titles[a]} and {titles[b]}" for a, b in ranks["undecided"]]
        verdict = f"undecided between {'; '.join(undecided)}" if undecided else "decided"
        said.append(f"{meta.label} from low to high: {order} ({verdict}).")
    for result in comparison.routes:
        if result.route.polish and result.account:
            share = result.account.metrics["polishing"]
            said.append(
                f"{result.route.title}: polishing is {100 * share:.0f} % of the cost, because "
                f"{result.route.polish.why}."
            )
        if result.account:
            share_of = compare.estimated(result)
            part = share_of["share_of_sensitivity"]
            weight = f", which carry {100 * part:.0f} % of the cost's range" if part else ""
            said.append(
                f"{result.route.title}: {share_of['count']} of {share_of['of']} constants are "
                f"estimates{weight}."
            )
    return said
