"""Lanmodulin columns from case files: equilibrium stages, or transport with protons that move."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry import speciation
from sepmodel.chromatography import column_pools, held, protein, speciated, stages
from sepmodel.chromatography.binding import C_STANDARD, PairLaw, pair_law
from sepmodel.chromatography.column import Bed, ColumnResult, Section, State, simulate
from sepmodel.chromatography.inputs import ColumnCase, Numerics
from sepmodel.chromatography.results import resolution_warning
from sepmodel.chromatography.transport import Galerkin, Limited
from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.result import Outlet, Profile, Result, Warned, amount
from sepmodel.species import RARE_EARTHS

Array = NDArray[np.float64]

# Most points of a chromatogram; finer ones are thinned for the profile, not for the pools.
_POINTS_MOST = 1024
_NODES = 200
# Tolerance of binding that lags, whose unknowns are concentrations.
_TOLERANCE = 1e-4
# pH above which hydroxide would count.
_BASIC = 8.0
# Tolerance of the solution that tells the error, over that of the result.
_ROUGHER = 10.0
# [H+] in a chromatogram that rounding made zero or less.
_LEAST = 1e-14


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Ready:
    """A lanmodulin case in the terms of its models: ``volumes`` bed volumes of each step."""

    names: tuple[str, ...]
    law: PairLaw
    run: stages.Operation
    length: float
    bed: float
    volumes: tuple[float, ...]
    duration: float

    def programme(self, case: ColumnCase) -> stages.Programme:
        """The steps for the cells in series."""
        return stages.Programme(
            conc=np.array([column_pools.composition(step, self.names) for step in case.step]),
            pH=np.array([step.pH for step in case.step], dtype=float),
            bed_volumes=np.array(self.volumes),
        )


def _ready(case: ColumnCase, book: Book) -> _Ready:
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
    return _Ready(
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


def _quantities(ready: _Ready) -> dict[str, Mapping[str, float]]:
    return {
        "bed_volume": amount(ready.bed, "L"),
        "cycle_time": amount(ready.duration, "h"),
        "plates": amount(float(ready.run.plates), "1"),
        "capacity": amount(ready.law.capacity, "mmol/L"),
    }


def _pools(
    case: ColumnCase, ready: _Ready, fed: Array, collected: Array, held: Array
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
        streams[pool.product] = column_pools.outlet(
            moles, float(volumes[rows].sum()), names, fed, bed, duration, case.step[rows[-1]].pH
        )
        warnings += column_pools.purity_warnings(pool, streams[pool.product])
    # What no pool collected, and what the bed still holds at the end.
    left = np.maximum(rest, 0.0) + held
    outside = [k for k, s in enumerate(case.step) if all(s.name not in p.steps for p in case.pool)]
    streams["remainder"] = column_pools.outlet(
        left, float(volumes[outside].sum()), names, fed, bed, duration, None
    )
    return streams, warnings


def _iron(ready: _Ready, fed: Array) -> list[Warned]:
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
    march = _lagging if case.column.rate is not None else _settled
    scheme, tolerance = _scheme(case)
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
        quantities={**_quantities(ready), **_beside_stages(case, ready, streams)},
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


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Run:
    """A transport run in the terms of a result; amounts [mol/m3 bed], ``volumes`` (T,)."""

    volumes: Array
    outlet: Array
    left: Array
    pH: Array
    ligands: tuple[str, ...]
    ligand: Array
    fed: Array
    collected: Array
    held: Array
    closure: dict[str, float]
    level: str
    scheme: str
    steps: int
    warnings: list[Warned]


def _scheme(case: ColumnCase) -> tuple[Galerkin | Limited, float]:
    """The scheme and the tolerance of a case."""
    given = case.numerics or Numerics(scheme="limited")
    tolerance = given.tolerance or held.TOLERANCE
    if given.scheme == "galerkin":
        degree = given.degree or Galerkin().degree
        nodes = given.elements or _NODES // (degree + 1)
        return Galerkin(degree=degree, elements=nodes), tolerance
    return Limited(cells=given.cells or _NODES), tolerance


def _spread(case: ColumnCase, ready: _Ready, velocity: float, book: Book) -> float:
    """Axial dispersion [m2/s] of the liquid: the case's, that of its plates, or the calibrated."""
    if case.column.dispersion is not None:
        return case.column.dispersion
    height = book["proteins/lanmodulin-column:dispersion-height"]
    if case.column.plates is not None:
        height = ready.length / case.column.plates
    return velocity / ready.run.liquid * height / 2


def _settled(
    case: ColumnCase, ready: _Ready, book: Book, scheme: Galerkin | Limited, tolerance: float
) -> _Run:
    """The column at local equilibrium of metals, protons, ligands and protein."""
    metals, count = ready.names, len(ready.names)
    ligands = tuple(dict.fromkeys(n for s in case.step for n, c in s.ligands.items() if c > 0))
    if basic := [step.name for step in case.step if (step.pH or 0.0) > _BASIC]:
        raise InputError(
            Problem(
                message="the column knows no hydroxide",
                key=f"step {basic[0]}",
                expected=f"a pH of at most {_BASIC:g}",
            )
        )
    of, tableau = speciated.chemistry(ready.law, metals, ligands, ready.run.liquid, book)
    programme, velocities = [], []
    for step, amount_passed in zip(case.step, ready.volumes, strict=True):
        totals = np.append(
            column_pools.composition(step, metals), [step.ligands.get(n, 0.0) for n in ligands]
        )
        solved = speciation.solve(tableau, totals, float(step.pH or 0.0))
        velocities.append(step.flow * ready.length / ready.bed)
        programme.append(
            Section(
                duration=amount_passed * ready.bed / step.flow,
                conc=np.append(totals, solved.total("H")),
            )
        )
    empty = np.zeros(count + len(ligands))
    amount_held, free = speciated.amounts_at(
        of, empty, float(protein.proton_concentration(case.step[0].pH or 0.0))
    )
    solved_run = held.follow(
        of,
        programme,
        held.uniform(scheme, amount_held, free),
        scheme=scheme,
        length=ready.length,
        velocities=velocities,
        dispersions=[_spread(case, ready, v, book) for v in velocities],
        tolerance=tolerance,
    )
    per = 1 / ready.length
    begins = np.cumsum(ready.volumes) - np.array(ready.volumes)
    share = np.linspace(0.0, 1.0, held.INSTANTS)
    volumes = np.concatenate([b + v * share for b, v in zip(begins, ready.volumes, strict=True)])
    warnings = [
        Warned(code="second-constant-missing", message=f"{n}: only its 1:1 complexes are known")
        for n in ligands
        if n == "citrate"
    ]
    return _Run(
        volumes=volumes,
        outlet=solved_run.outlet[:, :count],
        left=solved_run.left[:, :count] * per,
        pH=-np.log10(np.maximum(solved_run.free[:, -1], _LEAST) / C_STANDARD),
        ligands=ligands,
        ligand=solved_run.outlet[:, count:-1],
        fed=solved_run.fed.sum(axis=0)[:count] * per,
        collected=solved_run.collected[:, :count] * per,
        held=solved_run.after[:count] * per,
        closure=dict(zip(of.names, solved_run.closure.tolist(), strict=True)),
        level=f"transport with protons{' and ligands' if ligands else ''} at local equilibrium, "
        f"{solved_run.scheme}",
        scheme=solved_run.scheme,
        steps=solved_run.steps,
        warnings=warnings,
    )


def _lagging(
    case: ColumnCase, ready: _Ready, book: Book, scheme: Galerkin | Limited, tolerance: float
) -> _Run:
    """The column with protons, its binding behind equilibrium by the case's rate."""
    names, count = ready.names, len(ready.names)
    law = protein.proton_pair_law(ready.law, names, liquid=ready.run.liquid)
    area = ready.bed / ready.length
    state: Array | State = np.array(
        [0.0] * count + [float(protein.proton_concentration(case.step[0].pH or 0.0))]
    )
    runs: list[ColumnResult] = []
    for step, passed in zip(case.step, ready.volumes, strict=True):
        velocity = step.flow / area
        duration = passed * ready.length / velocity
        inlet = np.append(
            column_pools.composition(step, names),
            float(protein.proton_concentration(step.pH or 0.0)),
        )
        runs.append(
            simulate(
                Bed(
                    length=ready.length,
                    velocity=velocity,
                    void=ready.run.liquid,
                    dispersion=_spread(case, ready, velocity, book),
                ),
                law,
                [Section(duration=duration, conc=inlet)],
                scheme=scheme,
                rate=np.full(count + 1, case.column.rate),
                initial=state,
                times=np.linspace(0.0, duration, held.INSTANTS),
                tolerance=min(tolerance, _TOLERANCE),
                estimate=False,
            )
        )
        state = runs[-1].state
    fed = sum((r.fed for r in runs), np.zeros(count + 1)) / ready.length
    collected = np.array([r.left for r in runs]) / ready.length
    before, after = runs[0].held_before / ready.length, runs[-1].held / ready.length
    turned = fed + before
    closure = np.abs(turned - collected.sum(axis=0) - after) / np.where(turned > 0, turned, 1.0)
    begins = np.cumsum(ready.volumes) - np.array(ready.volumes)
    share = np.linspace(0.0, 1.0, held.INSTANTS)
    volumes = np.concatenate([b + v * share for b, v in zip(begins, ready.volumes, strict=True)])
    outlet = np.concatenate([r.outlet for r in runs])
    conc = outlet[:, :-1]
    steps = np.diff(volumes, prepend=0.0)[:, None]
    left = np.cumsum(0.5 * (conc + np.vstack([conc[:1], conc[:-1]])) * steps, axis=0)
    acid = np.maximum(outlet[:, -1], _LEAST) / C_STANDARD
    return _Run(
        volumes=volumes,
        outlet=conc,
        left=left,
        pH=-np.log10(acid),
        ligands=(),
        ligand=np.zeros((len(volumes), 0)),
        fed=fed[:-1],
        collected=collected[:, :-1],
        held=after[:-1],
        closure=dict(zip((*names, "H"), closure.tolist(), strict=True)),
        level=f"{runs[-1].model} transport with protons, {runs[-1].scheme}",
        scheme=runs[-1].scheme,
        steps=sum(r.steps for r in runs),
        warnings=[],
    )


def _beside_stages(
    case: ColumnCase, ready: _Ready, streams: Mapping[str, Outlet]
) -> dict[str, Mapping[str, float]]:
    """By how much each pool's main element differs from the shortcut, the equilibrium stages."""
    if any(step.ligands for step in case.step):
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
