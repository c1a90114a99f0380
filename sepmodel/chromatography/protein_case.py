"""Lanmodulin columns from case files: equilibrium stages, or transport with protons that move."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sepmodel.chromatography import column_pools, protein_life, stages
from sepmodel.chromatography.binding import pair_law
from sepmodel.chromatography.inputs import ColumnCase
from sepmodel.chromatography.protein_march import Ready, lagging, scheme_of, settled
from sepmodel.chromatography.results import resolution_warning
from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.result import Outlet, Profile, Result, Warned, amount
from sepmodel.species import RARE_EARTHS

Array = NDArray[np.float64]

# Most points of a chromatogram; finer ones are thinned for the profile, not for the pools.
_POINTS_MOST = 1024
# Tolerance of the solution that tells the error, over that of the result.
_ROUGHER = 10.0


def _ready(case: ColumnCase, book: Book) -> Ready:
    """Law, operation and bed of a case; InputError for metals the protein is not known for."""
    names = column_pools.elements(case)
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
    volumes = tuple(column_pools.bed_volumes(step, bed) for step in case.step)
    return Ready(
        names=names,
        law=law,
        run=run,
        length=length,
        bed=bed,
        volumes=volumes,
        duration=sum(v * bed / s.flow for v, s in zip(volumes, case.step, strict=True)),
    )


def equilibrium_stages(case: ColumnCase, book: Book) -> Result:
    """March the cells of a lanmodulin column through its steps."""
    ready = _ready(case, book)
    names, run, volumes = ready.names, ready.run, ready.volumes
    programme = ready.programme(case)
    solved = stages.follow(programme, names, ready.law, run)
    fed = (programme.conc * programme.bed_volumes[:, None]).sum(axis=0)
    held = solved.held.sum(axis=0)
    out = solved.collected.sum(axis=0)
    closure = np.abs(fed - held - out) / np.where(fed > 0, fed, 1.0)
    streams, warned = _pools(case, ready, fed, solved.collected, held)
    warnings = [
        Warned(
            code="pH-imposed",
            message="the pH of a step holds in the whole bed; released protons are not modelled",
        ),
        *warned,
    ]
    thin = max(1, math.ceil(len(solved.volumes) / _POINTS_MOST))
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
                marks=_marks(case, volumes),
            ),
            "pools": column_pools.spans(case, volumes),
            "held": Profile(
                unit="mol/m^3",
                axes={"cell": range(1, run.plates + 1), "component": names},
                values=solved.held * run.plates,
            ),
        },
        quantities=_quantities(ready),
        balance={
            "components": dict(zip(names, closure.tolist(), strict=True)),
            "max": float(closure.max()),
        },
        warnings=warnings,
        used=book.used,
    )


def _marks(case: ColumnCase, volumes: tuple[float, ...]) -> dict[str, float]:
    """Where each step begins, in bed volumes."""
    begins = np.cumsum(volumes) - np.array(volumes)
    return {step.name: float(v) for step, v in zip(case.step, begins, strict=True)}


def _quantities(ready: Ready) -> dict[str, Mapping[str, float]]:
    return {
        "bed_volume": amount(ready.bed, "L"),
        "cycle_time": amount(ready.duration, "h"),
        "plates": amount(float(ready.run.plates), "1"),
        "capacity": amount(ready.law.capacity, "mmol/L"),
    }


def _pools(
    case: ColumnCase, ready: Ready, fed: Array, collected: Array, held: Array
) -> tuple[dict[str, Outlet], list[Warned]]:
    """Feed, pools and remainder from what each step collected (steps, C) [mol/m3 bed]."""
    names, bed, duration = ready.names, ready.bed, ready.duration
    volumes = np.array(ready.volumes)
    loading = [sum(step.composition.values()) > 0 for step in case.step]
    streams = {
        "feed": column_pools.outlet(
            fed, float(volumes @ np.array(loading)), names, fed, bed, duration, None
        )
    }
    warnings = _iron(ready, fed)
    index = {step.name: k for k, step in enumerate(case.step)}
    rest = collected.sum(axis=0)
    for pool in case.pool:
        rows = [index[name] for name in pool.steps]
        moles = collected[rows].sum(axis=0)
        rest = rest - moles
        eluent = case.step[rows[-1]]
        streams[pool.product] = column_pools.outlet(
            moles, float(volumes[rows].sum()), names, fed, bed, duration, eluent.pH_end or eluent.pH
        )
        warnings += column_pools.purity_warnings(pool, streams[pool.product])
    # What no pool collected, and what the bed still holds at the end.
    left = np.maximum(rest, 0.0) + held
    outside = [k for k, s in enumerate(case.step) if all(s.name not in p.steps for p in case.pool)]
    streams["remainder"] = column_pools.outlet(
        left, float(volumes[outside].sum()), names, fed, bed, duration, None
    )
    return streams, warnings


def _iron(ready: Ready, fed: Array) -> list[Warned]:
    """A warning when more iron is fed beside the rare earths than may reach a column."""
    amounts = dict(zip(ready.names, fed.tolist(), strict=True))
    iron, rare = amounts.get("Fe", 0.0), sum(n for e, n in amounts.items() if e in RARE_EARTHS)
    if not iron > ready.run.iron_most * rare:
        return []
    return [
        Warned(
            code="iron-not-removed",
            message=f"{iron / rare:.2g} mol of iron per mol of rare earth, at most "
            f"{ready.run.iron_most:g} may reach the column: it hydrolyses above pH 2.5 and its "
            "colloids stay until the strip dissolves them; here it passes as a dissolved metal",
        )
    ]


def dispersive(case: ColumnCase, book: Book) -> Result:
    """A lanmodulin column by convection, dispersion and binding, with its protons and ligands.

    Dispersion is D = v H / 2 with the calibrated height, or v L / (2 N) of plates the case states.
    Binding, complexes and protons are
    at equilibrium in every cell (``held``), or binding alone lags behind by the case's rate. Every
    step goes on from where the one before ended; what leaves in each is part of the balance.

    Raises
    ------
    InputError, ConvergenceError
        for a ligand without constants, a pH above 8, or an integration that stalls.
    """
    ready = _ready(case, book)
    march = lagging if case.column.rate is not None else settled
    scheme, tolerance = scheme_of(case)
    run = march(case, ready, book, scheme, tolerance)
    streams, warnings = _pools(case, ready, run.fed, run.collected, run.held)
    error: float | None = None
    errors: dict[str, Profile] = {}
    if case.numerics is None or case.numerics.estimate:
        rough = march(case, ready, book, scheme.coarser(), _ROUGHER * tolerance)
        error, errors = _errors(
            case, streams, _pools(case, ready, rough.fed, rough.collected, rough.held)[0]
        )
        warnings += resolution_warning(error, "a purity or recovery", of="")
    marks = _marks(case, ready.volumes)
    passed = run.volumes.tolist()
    names = ready.names
    profiles = {
        "chromatogram": Profile(
            unit="mol/m^3",
            axes={"bed_volume": passed, "component": names},
            values=run.outlet,
            marks=marks,
        ),
        "pH_out": Profile(unit="1", axes={"bed_volume": passed}, values=run.pH, marks=marks),
        "pools": column_pools.spans(case, ready.volumes),
        **errors,
    }
    if run.ligands:
        profiles["ligand_out"] = Profile(
            unit="mol/m^3",
            axes={"bed_volume": passed, "component": run.ligands},
            values=run.ligand,
            marks=marks,
        )
    if len(names) > 1:
        profiles["yield"] = column_pools.yields(run.left, run.volumes, names, run.fed)
    quantities = {**_quantities(ready), **_beside_stages(case, ready, streams)}
    if case.cycles is not None:
        quantities["cycles to the steady one"] = amount(float(run.cycles), "1")
        if case.cycles.count > 1:
            told, profiles["life"], spent = protein_life.life(case, ready, book)
            quantities |= told
            warnings += spent
    return Result(
        kind=case.kind,
        name=case.name,
        model={
            "equilibrium": case.model.binding,
            "set": case.model.set,
            "activity": "ideal",
            "level": run.level,
        },
        solver={
            "scheme": run.scheme,
            "estimated_error": error,
            "error_of": "a purity or recovery",
            "iterations": run.steps,
            "residual": float(max(run.closure.values())),
        },
        streams=streams,
        profiles=profiles,
        quantities=quantities,
        balance={"components": run.closure, "max": max(run.closure.values())},
        warnings=[*warnings, *run.warnings],
        used=book.used,
    )


def _errors(
    case: ColumnCase, fine: Mapping[str, Outlet], rough: Mapping[str, Outlet]
) -> tuple[float, dict[str, Profile]]:
    """Largest distance of a pool's purity or recovery to a coarser solution, and of each purity."""
    names = [pool.product for pool in case.pool]
    gaps = [
        abs(getattr(fine[name], what)[e] - getattr(rough[name], what)[e])
        for name in names
        for what in ("purity", "recovery")
        for e in getattr(fine[name], what)
    ]
    rare = list(fine[names[0]].purity)
    apart = [[abs(fine[n].purity[e] - rough[n].purity[e]) for e in rare] for n in names]
    profile = Profile(unit="1", axes={"product": names, "component": rare}, values=np.array(apart))
    return max(gaps, default=0.0), {"purity_error": profile}


def _beside_stages(
    case: ColumnCase, ready: Ready, streams: Mapping[str, Outlet]
) -> dict[str, Mapping[str, float]]:
    """By how much each pool's main element differs from the shortcut, the equilibrium stages."""
    if any(step.ligands or step.graded for step in case.step) or case.cycles is not None:
        return {}
    solved = stages.follow(ready.programme(case), ready.names, ready.law, ready.run)
    fed = (ready.programme(case).conc * np.array(ready.volumes)[:, None]).sum(axis=0)
    short, _ = _pools(case, ready, fed, solved.collected, solved.held.sum(axis=0))
    found: dict[str, Mapping[str, float]] = {}
    for pool in case.pool:
        purity = streams[pool.product].purity
        if not any(purity.values()):
            continue
        main = max(purity, key=lambda e: purity[e])
        for what in ("purity", "recovery"):
            gap = (
                getattr(streams[pool.product], what)[main]
                - getattr(short[pool.product], what)[main]
            )
            found[f"{what} of {main} in {pool.product} less that of equilibrium stages"] = amount(
                gap, "1"
            )
    return found
