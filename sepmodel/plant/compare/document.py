"""The comparison as rows, as one JSON object and as a table."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from sepmodel import files, units
from sepmodel.data import Book, Constant, evidence
from sepmodel.plant.circuits import Solved
from sepmodel.plant.compare.cautions import beyond_practice
from sepmodel.plant.compare.metrics import ALLOCATIONS, METRICS, SLATE
from sepmodel.plant.compare.ranges import Range
from sepmodel.plant.compare.results import Comparison, RouteResult, drivers, estimated, ranking

BOUNDARY = (
    "from the leach liquor, the same for every route, to calcined oxide at the gate; leaching and "
    "what comes before it are outside, and so are packing and transport; iron removal, dilution, "
    "pH correction, regeneration, make-up of ligand, solvent, protein and bead, precipitation, "
    "calcination and the treatment of every spent liquor to the study's limit are inside; rare "
    "earths outside the slate leave as mixed carbonate that carries no burden and earns no credit"
)
UNIT_OF_COMPARISON = {
    "separated-oxide": "1 kg of separated oxide, all products of the slate together"
}
RANGES = (
    "every draw takes all constants at once from their distributions, those of one laboratory "
    "together, and its plant is computed with them: cuts, stages and columns in series are those "
    "of the base, extraction circuits that no flows make do are lengthened, and every flow, load, "
    "volume, reagent and vessel is set anew so that the products meet their specifications; low "
    "and high are 5 % and 95 % of the draws whose plant does so, and their share is told; what "
    "the models leave out is in no range"
)


def quantity(value: float, metric: str, span: Range | None = None) -> dict[str, Any]:
    """A figure as a quantity of the result, with the ends of its range."""
    unit = METRICS[metric].unit
    document: dict[str, Any] = {"value": units.to(value, unit), "unit": unit}
    if span is not None:
        told = ("low", "high", "mean", "median")
        document |= {name: units.to(getattr(span, name), unit) for name in told}
        document["mean_error"] = units.to(span.error, unit)
    return document


def rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One row per route and product, and one per route for the slate as a whole.

    A product's cost and carbon are those by separation duty; ``low`` and ``high`` of their
    ``allocation`` are the least and most of the three ways to share the route's burden.
    """
    found = []
    for result in comparison.routes:
        common = {
            "route": result.route.name,
            "status": result.status,
            "reasons": list(result.reasons),
            "model_level": result.route.level,
            "draws_that_meet": result.met,
            "draws_that_meet_between": result.met_between,
            "estimated": estimated(result),
        }
        booked = result.account
        found.append(
            {
                **common,
                "product": SLATE,
                "meets_spec": result.status == "meets",
                "purity": None,
                "recovery": None,
                "metrics": {
                    metric: quantity(booked.metrics[metric], metric, result.ranges.get(metric))
                    for metric in METRICS
                }
                if booked
                else {},
            }
        )
        for product in comparison.study.product:
            entry = booked.products[product.name] if booked else None
            found.append(
                {
                    **common,
                    "product": product.name,
                    "meets_spec": entry is not None and not entry["missed"],
                    "purity": entry["purity"] if entry else None,
                    "recovery": entry["recovery"] if entry else None,
                    "metrics": _product_metrics(result, product.name) if entry else {},
                }
            )
    return found


def _product_metrics(result: RouteResult, product: str) -> dict[str, Any]:
    assert result.account is not None
    entry = result.account.products[product]
    found = {}
    for metric in ("cost", "carbon"):
        if f"{metric} by duty" not in entry:
            continue
        ways = [entry[f"{metric} by {basis}"] for basis in ALLOCATIONS]
        name = f"{product}/{metric} by duty"
        found[metric] = {
            **quantity(entry[f"{metric} by duty"], metric, result.ranges.get(name)),
            "allocation": {
                basis: units.to(value, METRICS[metric].unit)
                for basis, value in zip(ALLOCATIONS, ways, strict=True)
            },
        }
    return found


def to_dict(comparison: Comparison) -> dict[str, Any]:
    """The comparison as one JSON object, without NaN or Infinity."""
    study = comparison.study
    used: dict[str, Constant] = {}
    for result in comparison.routes:
        used.update(result.used)
    document: dict[str, Any] = files.plain(
        {
            "schema": 1,
            "study": study.name,
            "title": study.title,
            "status": "computed",
            "inputs_hash": comparison.inputs_hash,
            "seconds": comparison.seconds,
            "functional_unit": UNIT_OF_COMPARISON[study.functional_unit],
            "boundary": BOUNDARY,
            "basis": {
                "feed": study.feed,
                "feed_confidence": comparison.feed_confidence,
                "rate": {"value": units.to(study.rate, "t_REO/year"), "unit": "t_REO/year"},
                "train": {"value": units.to(study.train_size, "t_REO/year"), "unit": "t_REO/year"},
                "trains": comparison.trains,
                "market": study.market,
                "reagents": study.reagents,
                "grid": study.grid,
                "effluent": study.effluent,
                "ranges": RANGES,
                "members": comparison.members,
                "seed": comparison.seed if comparison.with_ranges else None,
                "as_built": comparison.as_built,
            },
            "rows": rows(comparison),
            "rankings": [ranking(comparison, m) for m, c in METRICS.items() if c.ranked],
            "warnings": beyond_practice(comparison),
            "routes": [
                {**_route_dict(result), **_engine_dict(comparison, result)}
                for result in comparison.routes
            ],
            "sources": evidence(used),
        }
    )
    return document


def _route_dict(result: RouteResult) -> dict[str, Any]:
    """A route's units, balances, contributions, drivers and warnings."""
    document: dict[str, Any] = {
        "name": result.route.name,
        "title": result.route.title,
        "status": result.status,
        "reasons": result.reasons,
        "polish": result.route.polish.model_dump() if result.route.polish else None,
        "draws": draws(result),
    }
    if result.sheet is None or result.account is None:
        return document
    return document | {
        "balance": {"components": result.sheet.closure, "max": max(result.sheet.closure.values())},
        "units": {
            name: {
                "facts": {
                    fact: {"value": units.to(value, unit), "unit": unit}
                    for fact, (value, unit) in unit_.result.facts.items()
                },
                "duties": unit_.result.duties,
                **(
                    {"circuits": [circuit_dict(c) for c in unit_.result.circuits]}
                    if unit_.result.circuits
                    else {}
                ),
            }
            for name, unit_ in result.sheet.units.items()
        },
        "contributions": [
            {
                "operation": c.unit,
                "line": c.line,
                "item": c.item,
                "metric": c.metric,
                **quantity(c.value, c.metric),
            }
            for c in result.account.contributions
        ],
        "drivers": {
            metric: [
                {
                    "key": s.key,
                    "low": units.to(s.low, column.unit),
                    "high": units.to(s.high, column.unit),
                    "class": result.used[s.key].provenance,
                    "share_of_spread": s.share,
                }
                for s in drivers(result, metric)
            ]
            for metric, column in METRICS.items()
            if column.ranked
        },
        "warnings": result.sheet.warnings,
    }


def draws(result: RouteResult) -> dict[str, Any] | None:
    """How many of a route's draws meet every specification, and why the others do not."""
    if result.met is None or result.told is None:
        return None
    return {
        "of": len(result.told.status),
        "meet": result.met,
        "meet_between": result.met_between,
        "meet_with_the_stages_of_the_base": result.as_built,
        "miss": [{"reason": s.reason, "share": s.share} for s in result.misses],
        "low_or_high_in_those_that_miss": [
            {"key": key, "side": side} for key, side in result.fragile
        ],
        "largest_closure": result.told.closure,
    }


def _engine_dict(comparison: Comparison, result: RouteResult) -> dict[str, Any]:
    """What the transport engine answered about a route's columns; nothing where it has none."""
    if result.sheet is None or not any(u.result.checks for u in result.sheet.units.values()):
        return {}
    answers = [a for a in comparison.engine.get(result.route.name, ()) if a is not None]
    return {
        "engine": [
            {**asdict(a), "difference": None if a.failure else a.difference, "meets": a.meets}
            for a in answers
        ]
        or "not run"
    }


def circuit_dict(c: Solved) -> dict[str, Any]:
    """A solved extraction circuit: flows, acid and base beside 3 S, pH, loading, strip liquor."""
    estimate = 3 * c.solvent_3s

    def told(value: float, unit: str) -> dict[str, Any]:
        return {"value": units.to(value, unit), "unit": unit}

    known = not math.isnan(c.ph[0])
    return {
        "name": c.name,
        "stages": dict(zip(("extraction", "scrub", "strip"), c.stages, strict=True)),
        "flows": {
            "feed": told(c.flow_feed, "m^3/hour"),
            "organic": told(c.flow_org, "m^3/hour"),
            "scrub": told(c.flow_scrub, "m^3/hour"),
            "strip": told(c.flow_strip, "m^3/hour"),
        },
        "acid": told(c.acid, "mol/s"),
        "base": told(c.base, "mol/s"),
        "estimate_3S": told(estimate, "mol/s"),
        "acid_over_3S": c.acid / estimate,
        "base_over_3S": c.base / estimate,
        "organic_to_aqueous": dict(c.ratios),
        "pH": {"low": c.ph[0], "high": c.ph[1]} if known else None,
        "loading": c.loading if known else None,
        "strip_liquor": told(sum(c.product.values()) / c.flow_strip, "mol/L"),
        "strip_liquor_acid": told(c.product_acid / c.flow_strip, "mol/L"),
        "recycle_largest": {"element": c.recycle[0], "over_feed": c.recycle[1]} if known else None,
        "strayed_over_allowed": {"raffinate": c.missed[0], "product": c.missed[1]},
    }


# What a table's columns are called, after the figure they belong to, and in the document.
_TOLD = {
    "": "value",
    "low ": "low",
    "high ": "high",
    "mean ": "mean",
    "error of the mean ": "mean_error",
    "median ": "median",
}


def csv_text(comparison: Comparison) -> str:
    """The rows as a table with the unit of every column in its header."""
    header = ["route", "product", "status", "meets_spec", "purity [1]", "recovery [1]"]
    for column in METRICS.values():
        header += [f"{column.label} {end}[{column.unit}]" for end in _TOLD]
    lines = []
    for row in rows(comparison):
        line = [row[k] for k in ("route", "product", "status", "meets_spec", "purity", "recovery")]
        for metric in METRICS:
            entry = row["metrics"].get(metric, {})
            line += [entry.get(name) for name in _TOLD.values()]
        lines.append(line)
    return files.csv_text(header, lines)


def draws_csv(comparison: Comparison) -> str:
    """Every draw: what becomes of each route's plant, its ranked figures, and the constants that
    carry any of these or lie low or high in draws that miss, in strict SI."""
    drawn = comparison.drawn
    assert drawn is not None
    routes = [r for r in comparison.routes if r.told is not None]
    shown = {m: column for m, column in METRICS.items() if column.ranked}
    matter = {d.key for r in routes for found in r.drivers.values() for d in found}
    matter |= {key for r in routes for key, _ in r.fragile}
    keys = [(k, key) for k, key in enumerate(drawn.keys) if key in matter or not matter]
    header = ["seed", "draw"]
    for r in routes:
        name = r.route.name
        header += [f"{name}: plant", f"{name}: why it misses"]
        header += [f"{name}: {column.label} [{column.unit}]" for column in shown.values()]
    header += [f"{key} [SI]" for _, key in keys]
    lines = []
    for i, values in enumerate(drawn.values.tolist()):
        line: list[Any] = [comparison.seed, i]
        for r in routes:
            assert r.told is not None
            there = i < len(r.told.status)
            line += [r.told.status[i], r.told.reasons[i]] if there else ["not computed", ""]
            for metric, column in shown.items():
                figure = r.told.figures.get(metric)
                value = math.nan if figure is None or not there else float(figure[i])
                line.append(None if math.isnan(value) else units.to(value, column.unit))
        lines.append([*line, *(values[k] for k, _ in keys)])
    return files.csv_text(header, lines)


def constants_csv(comparison: Comparison) -> str:
    """The constants that plants are run at as built, beside the stated ones, in strict SI."""
    book = Book()
    lines = []
    for key, value in comparison.as_built.items():
        stated = book.constant(key)
        lines.append([key, value, stated.si, stated.unit])
    return files.csv_text(["constant", "value [SI]", "stated value [SI]", "stated in"], lines)
