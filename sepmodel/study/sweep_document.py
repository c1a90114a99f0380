"""A study as one JSON object."""

from __future__ import annotations

from typing import Any

import numpy as np

from sepmodel import __version__, statistics
from sepmodel.study import tornado as tornados
from sepmodel.study.answers import Answer
from sepmodel.study.store import SOLVED
from sepmodel.study.sweep_result import SCHEMA, SweepResult
from sepmodel.study.tornado import Tornado


def document(result: SweepResult) -> dict[str, Any]:
    """The study as plain data: what was asked, what became of it, what it says."""
    plan = result.plan
    return {
        "schema": SCHEMA,
        "version": __version__,
        "kind": "sweep",
        "name": result.name,
        "case": plan.loaded.name,
        "status": "complete" if result.complete else "partial",
        "plan_hash": plan.hash,
        "design": plan.sweep.design if result.sampled else "grid",
        "seed": plan.sweep.seed,
        "members": len(plan.members),
        "statuses": result.counts,
        "closure": result.closure,
        "inputs": [
            {
                "key": key,
                "distribution": moved.kind,
                "value": moved.value,
                "low": moved.low,
                "high": moved.high,
                "unit": plan.settings.get(key) or _unit(result, key),
                "class": plan.used[key].provenance if key in plan.used else "setting",
            }
            for key, moved in plan.space.moved.items()
        ],
        "independent_inputs": list(result.inputs),
        "largest_correlation_of_inputs": result.entangled,
        "axes": [{"key": a.key, "unit": a.unit, "values": list(a.values)} for a in plan.axes],
        "outputs": [_output(result, answer) for answer in result.answers],
        "failed": [
            {"id": job.id, "status": o.status, "reason": o.reason, "inputs": job.inputs}
            for job in plan.members
            if (o := result.outcomes.get(job.id)) is not None and o.status != SOLVED
        ][:100],
        "resumed": result.stored,
        "seconds": result.seconds,
    }


def _unit(result: SweepResult, key: str) -> str:
    constant = result.plan.used.get(key)
    return "1" if constant is None or constant.unit == "1" else f"SI of {constant.unit}"


def _output(result: SweepResult, answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": answer.name,
        "path": answer.path,
        "unit": answer.unit,
        "at_least": answer.at_least,
        "at_most": answer.at_most,
        "deterministic": result.plan.deterministic.get(answer.name),
    }
    if not result.sampled:
        found["values"] = result.column(answer.name)
        return found
    found["grid"] = [_sampled(result, answer, g) for g in range(len(result.plan.grid))]
    return found


def _sampled(result: SweepResult, answer: Answer, grid: int) -> dict[str, Any]:
    """What the sample says of an answer at one point of the grid."""
    keys = [axis.key for axis in result.plan.axes]
    found: dict[str, Any] = {
        "at": dict(zip(keys, result.plan.grid[grid], strict=True)),
    }
    if result.plan.sweep.design == "morris":
        if np.any(np.isfinite(result.at(answer.name, grid))):
            effects = result.effects(answer.name, grid)
            found["morris"] = {
                "inputs": effects.inputs,
                "absolute": effects.absolute,
                "half_width": effects.half_width,
                "mean": effects.mean,
                "deviation": effects.deviation,
                "trajectories": effects.used,
            }
        return found
    said = result.summary(answer.name, grid)
    found |= {
        name: getattr(said, name)
        for name in ("mean", "median", "low", "high", "deviation", "error", "count", "failed")
    }
    if answer.specified:
        met = result.met(answer.name, grid)
        found["meets"] = {
            "probability": met.probability,
            "low": met.low,
            "high": met.high,
            "hits": met.hits,
            "count": met.count,
            "convergence": [[s.count, s.value, s.low, s.high] for s in met.steps],
        }
    rows = result.independent
    values = result.at(answer.name, grid)[rows]
    found["convergence"] = {
        which: [[s.count, s.value, s.low, s.high] for s in statistics.convergence(values, which)]
        for which in ("mean", "low", "high")
    }
    guessed = result.estimates(answer.name, grid)
    found["estimated"] = {
        "count": guessed.count,
        "of": guessed.of,
        "share_of_sensitivity": guessed.share,
    }
    found["linearity"] = result.linearity(answer.name, grid)
    found["drivers"] = [
        {"input": name, "rank_correlation": r, "low": low, "high": high, "share": share}
        for name, r, low, high, share in result.drivers(answer.name, grid)
    ]
    if result.plan.sweep.design == "saltelli" and said.count > said.failed:
        indices = result.sobol(answer.name, grid)
        found["sobol"] = {
            "inputs": indices.inputs,
            "first": indices.first,
            "first_interval": indices.first_interval,
            "total": indices.total,
            "total_interval": indices.total_interval,
            "base_points": indices.used,
        }
    if result.plan.ends and len(result.plan.grid) == 1:
        found["tornado"] = _tornado(tornado(result, answer.name))
    return found


def tornado(result: SweepResult, name: str) -> Tornado:
    """The tornado of an answer."""
    return tornados.tornado(result, name)


def _tornado(found: Tornado) -> dict[str, Any]:
    return {
        "gradient_by": found.how,
        "ranking": found.ranking,
        "same_ranking": found.same,
        "not_near_linear": found.bent,
        "bars": [
            {
                "input": bar.input,
                "gradient": bar.gradient,
                "low": bar.low,
                "high": bar.high,
                "sampled": bar.sampled,
                "near_linear": bar.near_linear,
            }
            for bar in found.bars
        ],
    }
