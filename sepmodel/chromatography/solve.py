"""A column case as the result of its first-level model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sepmodel.chromatography import column_pools, protein_case
from sepmodel.chromatography import constant_pattern as pattern
from sepmodel.chromatography.displacement_operation import Operation
from sepmodel.chromatography.displacement_operation import operation as displacement_operation
from sepmodel.chromatography.inputs import ColumnCase, PoolSpec
from sepmodel.chromatography.ligands import ligand_constants, retention
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError, InputError, Problem
from sepmodel.result import Profile, Result, Warned, amount
from sepmodel.species import RARE_EARTHS

Array = NDArray[np.float64]

# Most points of a chromatogram; finer ones are thinned for the profile, not for the pools.
_POINTS_MOST = 1024
_EDGE = 1e-6


def solve_case(case: ColumnCase, book: Book) -> Result:
    """Pools, chromatogram and balance of a column case.

    Raises
    ------
    InputError, InfeasibleError
        when a constant is missing, the bed too short, or the presaturant cannot hold the feed.
    """
    if case.model.transport == "equilibrium-stages":
        return protein_case.equilibrium_stages(case, book)
    if case.model.transport == "dispersive":
        return protein_case.dispersive(case, book)
    return _constant_pattern(case, book)


def _displacement_bed(case: ColumnCase, book: Book) -> tuple[Operation, float]:
    """The bed of a displacement case, with its own values in place of the book's, and its area."""
    drive = case.step[-1]
    area = math.pi / 4 * case.column.diameter**2
    velocity = drive.flow / area
    run = displacement_operation(book, length=case.column.length, velocity=velocity)
    run = replace(run, velocity_rated=velocity, ligand_conc=float(drive.ligand or run.ligand_conc))
    if case.column.porosity is not None:
        run = replace(run, void=case.column.porosity)
    if case.column.capacity is not None:
        run = replace(run, resin_eq=case.column.capacity * run.resin_eq / run.resin)
    if case.column.dispersion is not None:
        run = replace(run, dispersion=case.column.dispersion)
    if case.column.rate is not None:
        run = replace(run, rate=case.column.rate)
    return run, area


def _constant_pattern(case: ColumnCase, book: Book) -> Result:
    """Bands, zones and single-pass pools of one displacement column."""
    names = column_pools.elements(case)
    strange = [n for n in names if n not in RARE_EARTHS]
    if strange:
        raise InputError(
            Problem(
                message="a displacement train holds rare earths only",
                value=strange,
                expected="a feed freed from base metals",
            )
        )
    ligand = case.model.set.removeprefix("ligands/")
    log_k = ligand_constants(ligand, names, book)
    run, area = _displacement_bed(case, book)
    margin = retention(ligand, names, book, case.model.presaturant)
    leaking = [e for e, m in margin.items() if m + math.log10(run.preference) <= 0]
    if leaking:
        raise InfeasibleError(
            f"{case.model.presaturant} does not stay ahead of {', '.join(leaking)} with {ligand}",
            limit={"log10 K over the presaturant": math.log10(run.preference)},
            nearest={e: -margin[e] for e in leaking},
        )
    bed = area * run.length
    fed = {
        n: sum(column_pools.bed_volumes(s, bed) * s.composition.get(n, 0.0) for s in case.step)
        for n in names
    }
    fed = {n: v for n, v in fed.items() if v > 0}
    order = sorted(fed, key=lambda e: -log_k[e])
    groups = _groups(order, case.pool)
    alphas = [10.0 ** (log_k[a[-1]] - log_k[b[0]]) for (_, a), (_, b) in pairwise(groups)]
    mixing = run.mixing(run.velocity)
    load = sum(fed.values()) / run.capacity
    longest = 1 / float(max(pattern.minimum_position(alphas))) if alphas else 1.0
    if load > longest:
        raise InfeasibleError(
            f"the bed is too short to resolve its load: {load:.3f} of the bed is loaded",
            limit={"load fraction": longest},
            nearest={"load fraction": longest},
        )
    _check_displaced(case, run, bed)
    return _train_result(case, run, book, fed, order, groups, alphas, mixing, load, margin, area)


def _check_displaced(case: ColumnCase, run: Operation, bed: float) -> None:
    """The last step must drive the whole train out: its rear moves C/cap of a bed a bed volume."""
    drive = case.step[-1]
    needed, given = run.capacity / run.ligand_conc, column_pools.bed_volumes(drive, bed)
    if given >= needed * (1 - _EDGE):
        return
    key, value, least = "bed_volumes", f"{given:g}", f"{needed:.4g}"
    if drive.duration is not None:
        key, value = "duration", f"{drive.duration:g} s"
        least = f"{needed * bed / drive.flow:.4g} s"
    raise InputError(
        Problem(
            message=f"the displacer runs out with the rear of the train at {given / needed:.1%} of "
            "the bed: what is behind the outlet then would stay in the column",
            key=f"step.{drive.name}.{key}",
            value=value,
            expected=f"{least} and more: what the bed holds over what the displacer brings",
        )
    )


def _groups(order: Sequence[str], pools: Sequence[PoolSpec]) -> list[tuple[str, list[str]]]:
    """Pools and single elements nobody collects, in the order of the train."""
    owner = {e: pool.product for pool in pools for e in pool.elements}
    groups: list[tuple[str, list[str]]] = []
    for element in order:
        name = owner.get(element, element)
        if groups and groups[-1][0] == name:
            groups[-1][1].append(element)
        else:
            groups.append((name, [element]))
    names = [name for name, _ in groups]
    torn = [name for name in names if names.count(name) > 1]
    if torn:
        raise InputError(
            Problem(
                message=f"the elements of pool {torn[0]} do not leave one after the other",
                value=", ".join(order),
            )
        )
    return groups


def _train_result(
    case: ColumnCase,
    run: Operation,
    book: Book,
    fed: Mapping[str, float],
    order: Sequence[str],
    groups: Sequence[tuple[str, list[str]]],
    alphas: Sequence[float],
    mixing: float,
    load: float,
    margin: Mapping[str, float],
    area: float,
) -> Result:
    """Pools by the closed forms, the mixed rest, and the train as it stands before it leaves."""
    specs = {pool.product: pool for pool in case.pool}
    per_length = run.capacity / run.length
    sides = list(zip([None, *alphas], [*alphas, None], strict=True))
    left = dict(fed)
    pooled: dict[str, dict[str, float]] = {}
    quantities = {
        "load_fraction": amount(load, "1"),
        "mixing_length": amount(mixing, "mm"),
        "train_velocity": amount(
            pattern.train_velocity(run.velocity, run.ligand_conc, run.capacity), "cm/min"
        ),
    }
    warnings = []
    for k, (name, members) in enumerate(groups):
        band = sum(fed[e] for e in members) / per_length
        quantities[f"band {name}"] = amount(band, "cm")
        front, rear = sides[k]
        short = max((pattern.resolved_band(a, mixing) for a in (front, rear) if a), default=0.0)
        if band < short:
            warnings.append(
                Warned(
                    code="short-band",
                    message=f"{name}: band below 3 alpha Lambda/(alpha - 1), the closed-form yield "
                    "is a conservative estimate",
                    where=name,
                )
            )
        if name not in specs:
            continue
        purity = specs[name].purity or 0.5
        depth = pattern.pool_depth(band, purity, mixing, front, rear)
        pooled[name] = {}
        if depth is None:
            continue
        own, dirt = sum(fed[e] for e in members), (0.0, 0.0)
        if math.isfinite(depth):
            loss_front, dirt_front, loss_rear, dirt_rear = pattern.cuts(depth, front, rear, mixing)
            own, dirt = own - (loss_front + loss_rear) * per_length, (dirt_front, dirt_rear)
        share = own / sum(fed[e] for e in members)
        pooled[name] = {e: fed[e] * share for e in members}
        for amount_astray, neighbour in zip(dirt, (k - 1, k + 1), strict=True):
            if amount_astray > 0:
                element = groups[neighbour][1][-1 if neighbour < k else 0]
                astray = min(amount_astray * per_length, 0.5 * fed[element])
                pooled[name][element] = pooled[name].get(element, 0.0) + astray
    for ((fast, _), (slow, _)), alpha in zip(pairwise(groups), alphas, strict=True):
        quantities[f"alpha {fast}/{slow}"] = amount(alpha, "1")
        zone = float(pattern.zone_length(alpha, mixing))
        quantities[f"zone {fast}/{slow}"] = amount(zone, "cm")
    for pool in pooled.values():
        for e, n in pool.items():
            left[e] -= n
    short_of = {e: n for e, n in left.items() if n < -_EDGE * fed[e]}
    if short_of:
        raise InfeasibleError(
            f"pools overlap: more {', '.join(short_of)} is asked for than was fed",
            limit={"purity": "higher purities keep neighbouring pools apart"},
        )
    weak = [e for e, m in margin.items() if m < 0]
    if weak:
        warnings.append(
            Warned(
                code="presaturant-retention",
                message=f"log K of {case.model.presaturant} is below that of {', '.join(weak)}; "
                "the front holds only by the resin's estimated preference",
                where=case.model.set,
            )
        )
    bed = area * run.length
    displacing = column_pools.bed_volumes(case.step[-1], bed)
    duration = sum(column_pools.bed_volumes(s, bed) * bed / s.flow for s in case.step)
    names = tuple(order)
    total = np.array([fed[e] for e in names])
    everything = {**pooled, "mixed": {e: max(n, 0.0) for e, n in left.items()}}
    streams = {
        name: column_pools.outlet(
            np.array([moles.get(e, 0.0) for e in names]),
            sum(moles.values()) / run.ligand_conc,
            names,
            total,
            bed,
            duration,
            None,
        )
        for name, moles in {"feed": fed, **everything}.items()
    }
    quantities |= {
        "bed_volume": amount(bed, "L"),
        "cycle_time": amount(duration, "h"),
        "displacement_time": amount(displacing * bed / case.step[-1].flow, "h"),
        "displacer": amount(displacing, "1"),
        "displacer_needed": amount(run.capacity / run.ligand_conc, "1"),
        # Every metal brought takes one ligand, and the displacer brings its own.
        "ligand_per_cycle": amount(
            (load * run.capacity + displacing * run.ligand_conc) * bed, "mol"
        ),
    }
    arrived = np.array([sum(p.get(e, 0.0) for p in everything.values()) for e in names])
    closure = np.abs(arrived - total) / total
    return Result(
        kind=case.kind,
        name=case.name,
        model={
            "equilibrium": case.model.binding,
            "set": case.model.set,
            "activity": "ideal",
            "level": "constant pattern, closed form, one column without recycle",
        },
        solver={
            "scheme": "closed forms of the constant pattern",
            "iterations": 1,
            "residual": float(closure.max()),
        },
        streams=streams,
        profiles={"train": _train_profile(groups, fed, alphas, mixing, per_length)},
        quantities=quantities,
        balance={
            "components": dict(zip(names, closure.tolist(), strict=True)),
            "max": float(closure.max()),
        },
        warnings=warnings,
        used=book.used,
    )


def _train_profile(
    groups: Sequence[tuple[str, list[str]]],
    fed: Mapping[str, float],
    alphas: Sequence[float],
    mixing: float,
    per_length: float,
) -> Profile:
    """Mole fraction of each pool's metal along the train, its front at zero.

    At boundary k the ratio of the two metals follows the constant pattern; the fractions of a
    point are the product of these ratios, normalised.
    """
    bands = np.array([sum(fed[e] for e in members) for _, members in groups]) / per_length
    position = np.linspace(0.0, float(bands.sum()), 1 + _POINTS_MOST // 2)
    log_share = [np.zeros_like(position)]
    logit = np.linspace(math.log(_EDGE), -math.log(_EDGE), _POINTS_MOST)
    slow = 1 / (1 + np.exp(-logit))
    for boundary, alpha in zip(np.cumsum(bands)[:-1], alphas, strict=True):
        # Depth grows upstream, where the slow metal is. As much of either metal stands on the wrong
        # side of the sharp boundary when that lies one mixing length upstream of the origin.
        at = boundary - mixing - pattern.boundary_position(slow, alpha, mixing)
        log_share.append(log_share[-1] + np.interp(position, at, logit))
    shares = np.exp(np.stack(log_share, axis=-1) - np.max(log_share, axis=0)[:, None])
    return Profile(
        unit="1",
        axes={"depth": position.tolist(), "component": [name for name, _ in groups]},
        values=shares / shares.sum(axis=-1, keepdims=True),
    )
