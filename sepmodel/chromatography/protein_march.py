"""How the liquid of a lanmodulin case is marched through its bed, at equilibrium or with a rate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry import speciation
from sepmodel.chemistry.speciation import Tableau
from sepmodel.chromatography import column_pools, cyclic, held, protein, speciated, stages
from sepmodel.chromatography.binding import C_STANDARD, PairLaw
from sepmodel.chromatography.column import Bed, ColumnResult, Section, State, simulate
from sepmodel.chromatography.inputs import ColumnCase, Numerics, Step
from sepmodel.chromatography.transport import Galerkin, Limited
from sepmodel.data import Book
from sepmodel.result import Warned

Array = NDArray[np.float64]

_NODES = 200
# Tolerance of binding that lags, whose unknowns are concentrations.
_TOLERANCE = 1e-4
# [H+] in a chromatogram that rounding made zero or less.
_LEAST = 1e-14
# Change of the contents over a cycle, over the most of their kind, below which cycles are alike.
_REPEATED = 1e-3


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Ready:
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


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class March:
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
    cycles: int
    warnings: list[Warned]


def scheme_of(case: ColumnCase) -> tuple[Galerkin | Limited, float]:
    """The scheme and the tolerance of a case."""
    given = case.numerics or Numerics(scheme="limited")
    tolerance = given.tolerance or held.TOLERANCE
    if given.scheme == "galerkin":
        degree = given.degree or Galerkin().degree
        nodes = given.elements or _NODES // (degree + 1)
        return Galerkin(degree=degree, elements=nodes), tolerance
    return Limited(cells=given.cells or _NODES), tolerance


def _spread(case: ColumnCase, ready: Ready, velocity: float, book: Book) -> float:
    """Axial dispersion [m2/s] of the liquid: the case's, that of its plates, or the calibrated."""
    if case.column.dispersion is not None:
        return case.column.dispersion
    height = book["proteins/lanmodulin-column:dispersion-height"]
    if case.column.plates is not None:
        height = ready.length / case.column.plates
    return velocity / ready.run.liquid * height / 2


def _liquor(
    step: Step,
    metals: Sequence[str],
    ligands: Sequence[str],
    tableau: Tableau,
    pH: float | None,
    having: Mapping[str, float],
) -> Array:
    """Dissolved totals of metals, ligands and H of a step's liquor [mol/m3]."""
    totals = np.append(
        column_pools.composition(step, metals), [having.get(n, 0.0) for n in ligands]
    )
    return np.append(totals, speciation.solve(tableau, totals, float(pH or 0.0)).total("H"))


def _repeated(
    once: Callable[[held.Contents], held.HeldRun], first: held.HeldRun, tolerance: float
) -> tuple[held.HeldRun, int]:
    """The cycle that ends as it began, and how many were run to find it."""
    last = [first]
    shape = first.contents.held.shape

    def cycle(x: Array) -> Array:
        begin = held.Contents(held=x.reshape(shape), log_free=last[0].contents.log_free)
        last[0] = once(begin)
        return last[0].contents.held.ravel()

    begin = first.contents.held
    most = np.maximum(begin.max(axis=0), _LEAST + begin.max() * _REPEATED)
    scale = np.broadcast_to(most, shape)
    found = cyclic.fixed_point(
        cycle, begin.ravel(), scale.ravel(), tolerance=max(_REPEATED, tolerance)
    )
    return last[0], 1 + len(found.residuals)


def settled(
    case: ColumnCase, ready: Ready, book: Book, scheme: Galerkin | Limited, tolerance: float
) -> March:
    """The column at local equilibrium of metals, protons, ligands and protein."""
    metals, count = ready.names, len(ready.names)
    both = [(*s.ligands.items(), *(s.ligands_end or {}).items()) for s in case.step]
    ligands = tuple(dict.fromkeys(n for table in both for n, c in table if c > 0))
    of, tableau = speciated.chemistry(ready.law, metals, ligands, ready.run.liquid, book)
    programme, velocities = [], []
    for step, amount_passed in zip(case.step, ready.volumes, strict=True):
        duration = amount_passed * ready.bed / step.flow
        enters = [
            _liquor(step, metals, ligands, tableau, pH, having)
            for pH, having in (
                (step.pH, step.ligands),
                (
                    step.pH_end or step.pH,
                    step.ligands if step.ligands_end is None else step.ligands_end,
                ),
            )
        ]
        velocities.append(step.flow * ready.length / ready.bed)
        programme.append(
            Section(
                duration=duration,
                conc=enters[0],
                slope=(enters[1] - enters[0]) / duration if step.graded else None,
            )
        )
    empty = np.zeros(count + len(ligands))
    amount_held, free = speciated.amounts_at(
        of, empty, float(protein.proton_concentration(case.step[0].pH or 0.0))
    )

    def once(start: held.Contents) -> held.HeldRun:
        return held.follow(
            of,
            programme,
            start,
            scheme=scheme,
            length=ready.length,
            velocities=velocities,
            dispersions=[_spread(case, ready, v, book) for v in velocities],
            tolerance=tolerance,
        )

    fresh = held.uniform(scheme, amount_held, free)
    solved_run, cycles = once(fresh), 1
    if case.cycles is not None:
        solved_run, cycles = _repeated(once, solved_run, tolerance)
    per = 1 / ready.length
    begins = np.cumsum(ready.volumes) - np.array(ready.volumes)
    share = np.linspace(0.0, 1.0, held.INSTANTS)
    volumes = np.concatenate([b + v * share for b, v in zip(begins, ready.volumes, strict=True)])
    warnings = [
        Warned(code="second-constant-missing", message=f"{n}: only its 1:1 complexes are known")
        for n in ligands
        if n == "citrate"
    ]
    return March(
        volumes=volumes,
        outlet=solved_run.outlet[:, :count],
        left=solved_run.left[:, :count] * per,
        pH=-np.log10(np.maximum(solved_run.free[:, -1], _LEAST) / C_STANDARD),
        ligands=ligands,
        ligand=solved_run.outlet[:, count:-1],
        fed=solved_run.fed.sum(axis=0)[:count] * per,
        collected=solved_run.collected[:, :count] * per,
        held=(solved_run.after - solved_run.before)[:count] * per,
        closure=dict(zip(of.names, solved_run.closure.tolist(), strict=True)),
        level=f"transport with protons{' and ligands' if ligands else ''} at local equilibrium, "
        f"{solved_run.scheme}",
        scheme=solved_run.scheme,
        steps=solved_run.steps,
        cycles=cycles,
        warnings=warnings,
    )


def lagging(
    case: ColumnCase, ready: Ready, book: Book, scheme: Galerkin | Limited, tolerance: float
) -> March:
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
        slope = None
        if step.pH_end is not None:
            slope = np.zeros(count + 1)
            end = float(protein.proton_concentration(step.pH_end))
            slope[-1] = (end - inlet[-1]) / duration
        runs.append(
            simulate(
                Bed(
                    length=ready.length,
                    velocity=velocity,
                    void=ready.run.liquid,
                    dispersion=_spread(case, ready, velocity, book),
                ),
                law,
                [Section(duration=duration, conc=inlet, slope=slope)],
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
    return March(
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
        cycles=1,
        warnings=[],
    )
