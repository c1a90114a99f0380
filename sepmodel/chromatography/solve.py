"""A column case as the result of its first-level model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sepmodel.chromatography import constant_pattern as pattern
from sepmodel.chromatography import stages
from sepmodel.chromatography.binding import pair_law
from sepmodel.chromatography.inputs import ColumnCase, PoolSpec, Step
from sepmodel.chromatography.zones import Operation, ligand_constants, retention
from sepmodel.chromatography.zones import operation as displacement_operation
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError, InputError, Problem
from sepmodel.result import Outlet, Profile, Result, Warned, amount
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
        return _equilibrium_stages(case, book)
    return _constant_pattern(case, book)


def _elements(case: ColumnCase) -> tuple[str, ...]:
    return tuple(dict.fromkeys(e for step in case.step for e in step.composition))


def _bed_volumes(step: Step, bed: float) -> float:
    """Bed volumes of a step."""
    if step.bed_volumes is not None:
        return step.bed_volumes
    return float(step.flow * (step.duration or 0.0) / bed)


def _conc(step: Step, names: Sequence[str]) -> Array:
    return np.array([step.composition.get(n, 0.0) for n in names])


def _equilibrium_stages(case: ColumnCase, book: Book) -> Result:
    """March the cells of a lanmodulin column through its steps."""
    names = _elements(case)
    protein = case.model.set.removeprefix("proteins/")
    bound = tuple(n for n in names if f"{case.model.set}:K-ratio-{n}" in book)
    if not bound:
        raise InputError(
            Problem(message=f"{protein} binds none of the metals fed", value=", ".join(names))
        )
    unknown = [n for n in names if n in RARE_EARTHS and n not in bound]
    if unknown:
        raise InputError(
            Problem(message=f"{protein} has no pair constant for", value=", ".join(unknown))
        )
    law = pair_law(bound, book, protein)
    if case.column.capacity is not None:
        law = replace(law, capacity=case.column.capacity)
    run = stages.operation(book, case.column.plates)
    length = case.column.length or run.bed_length
    if case.column.plates is None:
        height = book["proteins/lanmodulin-column:plate-height"]
        run = replace(run, plates=max(1, round(length / height)))
    if case.column.porosity is not None:
        run = replace(run, liquid=case.column.porosity)
    bed = math.pi / 4 * case.column.diameter**2 * length
    volumes = [_bed_volumes(step, bed) for step in case.step]
    programme = stages.Programme(
        conc=np.array([_conc(step, names) for step in case.step]),
        pH=np.array([step.pH for step in case.step], dtype=float),
        bed_volumes=np.array(volumes),
    )
    solved = stages.follow(programme, names, law, run)
    fed = (programme.conc * programme.bed_volumes[:, None]).sum(axis=0)
    held = solved.held.sum(axis=0)
    out = solved.collected.sum(axis=0)
    closure = np.abs(fed - held - out) / np.where(fed > 0, fed, 1.0)
    duration = sum(v * bed / s.flow for v, s in zip(volumes, case.step, strict=True))
    streams = {
        "feed": _outlet(
            fed,
            float(programme.bed_volumes @ (programme.conc.sum(axis=1) > 0)),
            names,
            fed,
            bed,
            duration,
            None,
        ),
    }
    warnings = [
        Warned(
            code="pH-imposed",
            message="the pH of a step holds in the whole bed; released protons are not modelled",
        )
    ]
    index = {step.name: k for k, step in enumerate(case.step)}
    rest = out.copy()
    for pool in case.pool:
        rows = [index[name] for name in pool.steps]
        moles = solved.collected[rows].sum(axis=0)
        rest -= moles
        pH = case.step[rows[-1]].pH
        volume = float(programme.bed_volumes[rows].sum())
        streams[pool.product] = _outlet(moles, volume, names, fed, bed, duration, pH)
        warnings += _purity_warning(pool, streams[pool.product])
    # What no pool collected, and what the bed still holds at the end.
    left = np.maximum(rest, 0.0) + held
    outside = [k for k, s in enumerate(case.step) if all(s.name not in p.steps for p in case.pool)]
    volume = float(programme.bed_volumes[outside].sum())
    streams["remainder"] = _outlet(left, volume, names, fed, bed, duration, None)
    thin = max(1, math.ceil(len(solved.volumes) / _POINTS_MOST))
    marks = {s.name: float(v) for s, v in zip(case.step, np.cumsum(volumes) - volumes, strict=True)}
    return Result(
        kind=case.kind,
        name=case.name,
        model={
            "equilibrium": case.model.binding,
            "set": case.model.set,
            "activity": "ideal",
            "level": f"equilibrium stages, {run.plates} plates",
        },
        solver={"iterations": len(solved.volumes), "residual": float(closure.max())},
        streams=streams,
        profiles={
            "chromatogram": Profile(
                unit="mol/m^3",
                axes={"bed_volume": solved.volumes[::thin].tolist(), "component": names},
                values=solved.outlet[::thin],
                marks=marks,
            ),
            "held": Profile(
                unit="mol/m^3",
                axes={"cell": range(1, run.plates + 1), "component": names},
                values=solved.held * run.plates,
            ),
        },
        quantities={
            "bed_volume": amount(bed, "L"),
            "cycle_time": amount(duration, "h"),
            "plates": amount(float(run.plates), "1"),
            "capacity": amount(law.capacity, "mmol/L"),
        },
        balance={
            "components": dict(zip(names, closure.tolist(), strict=True)),
            "max": float(closure.max()),
        },
        warnings=warnings,
        used=book.used,
    )


def _outlet(
    moles: Array,
    volume: float,
    names: Sequence[str],
    fed: Array,
    bed: float,
    duration: float,
    pH: float | None,
) -> Outlet:
    """A pool of ``moles`` [mol/m3 bed] in ``volume`` bed volumes, averaged over the cycle."""
    total = sum(n for e, n in zip(names, moles.tolist(), strict=True) if e in RARE_EARTHS)
    return Outlet(
        phase="aqueous",
        flow=amount(volume * bed / duration, "L/h"),
        conc={
            e: amount(n / volume if volume > 0 else 0.0, "mmol/L")
            for e, n in zip(names, moles.tolist(), strict=True)
        },
        pH=pH,
        purity={
            e: n / total if total > 0 else 0.0
            for e, n in zip(names, moles.tolist(), strict=True)
            if e in RARE_EARTHS
        },
        recovery={
            e: n / f for e, n, f in zip(names, moles.tolist(), fed.tolist(), strict=True) if f > 0
        },
    )


def _purity_warning(pool: PoolSpec, outlet: Outlet) -> list[Warned]:
    """A warning when a pool's main element, or its named elements, miss the purity asked for."""
    if pool.purity is None or not outlet.purity:
        return []
    wanted = pool.elements or (max(outlet.purity, key=lambda e: outlet.purity[e]),)
    reached = sum(outlet.purity.get(e, 0.0) for e in wanted)
    if reached >= pool.purity:
        return []
    return [
        Warned(
            code="purity-missed",
            message=f"{'+'.join(wanted)} at {reached:.4f} of {pool.purity:.4f} (mole fraction)",
            where=pool.product,
        )
    ]


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
    names = _elements(case)
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
        n: sum(_bed_volumes(s, bed) * s.composition.get(n, 0.0) for s in case.step) for n in names
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
    return _train_result(case, run, book, fed, order, groups, alphas, mixing, load, margin, area)


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
    speed = pattern.train_velocity(run.velocity, run.ligand_conc, run.capacity)
    duration = (1 + load) * run.length / speed
    bed = area * run.length
    names = tuple(order)
    total = np.array([fed[e] for e in names])
    everything = {**pooled, "mixed": {e: max(n, 0.0) for e, n in left.items()}}
    streams = {
        name: _outlet(
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
        "displacement_time": amount(duration, "h"),
        "ligand_per_cycle": amount((1 + load) * run.capacity * bed, "mol"),
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
        solver={"iterations": 1, "residual": float(closure.max())},
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
