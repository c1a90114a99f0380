"""An elution case as the result of the transport engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel.chromatography import column
from sepmodel.chromatography.inputs import ElutionCase, LangmuirLaw, LinearLaw, Stretch
from sepmodel.chromatography.isotherms import (
    ConstantSelectivity,
    Isotherm,
    Langmuir,
    Linear,
)
from sepmodel.chromatography.results import resolution_warning
from sepmodel.chromatography.transport import Galerkin, Limited, Scheme, interpolate
from sepmodel.data import Book
from sepmodel.errors import ConvergenceError
from sepmodel.result import Outlet, Profile, Result, Warned, amount

Array = NDArray[np.float64]

LEVEL = "transport engine"
# Instants and places of the map of a column, less one.
_INSTANTS = 64
_PLACES = 64
# Share of the highest concentration below which an outlet holds nothing.
_TRACE = 1e-6


def solve_case(case: ElutionCase, book: Book) -> Result:
    """Chromatogram, contents and balance of an elution case, per m2 of cross-section.

    Raises
    ------
    InputError, ConvergenceError
        as ``column.simulate``.
    """
    names = case.components
    total = sum(s.duration for s in case.section)
    count = int(np.floor(total / case.every * (1 + np.finfo(float).eps)))
    times: Array = np.asarray(case.every * np.arange(count + 1), dtype=np.float64)
    numerics = case.numerics
    given = {"shells": numerics.shells, "tolerance": numerics.tolerance}
    settings: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    moments = np.linspace(0.0, total, _INSTANTS + 1)
    try:
        solved = column.simulate(
            bed(case),
            isotherm(case),
            [_section(s, names) for s in case.section],
            scheme=scheme(case),
            rate=None if case.rate is None else _array(case.rate, names),
            initial=_array(case.initial, names),
            times=times,
            profile_times=moments,
            estimate=numerics.estimate,
            **settings,
        )
    except ConvergenceError as stuck:
        raise ConvergenceError(f"{stuck}; {_way_out(case)}", trace=stuck.trace) from None
    open_ = np.abs(solved.fed - solved.left - solved.held + solved.held_before)
    turnover = np.maximum(solved.fed, solved.held_before)
    closures = [float(o / t) if t > 0 else 0.0 for o, t in zip(open_, turnover, strict=True)]
    leaving = {n: amount(m, "mol/m^2") for n, m in zip(names, solved.left.tolist(), strict=True)}
    error = None if np.isnan(solved.error) else solved.error
    return Result(
        kind=case.kind,
        name=case.name,
        model={"equilibrium": case.isotherm.law, "level": f"{LEVEL}, {solved.model}"},
        solver={
            "scheme": solved.scheme,
            "estimated_error": error,
            "iterations": solved.evaluations,
            "steps": solved.steps,
        },
        streams={
            "effluent": Outlet(
                phase="aqueous", flow=amount(case.bed.velocity * total, "m"), moles=leaving
            )
        },
        profiles={
            "outlet": Profile(
                unit="mol/m^3",
                axes={"time": times.tolist(), "component": names},
                values=solved.outlet,
            ),
            "inlet": _programme(case),
            "map": _map(case, solved),
            "column": Profile(
                unit="mol/m^3",
                axes={"position": solved.position.tolist(), "component": names},
                values=solved.state.conc,
            ),
        },
        quantities={
            "duration": amount(total, "s"),
            "length": amount(case.bed.length, "m"),
            **_midpoints(case, times, solved.outlet),
        },
        balance={
            "components": dict(zip(names, closures, strict=True)),
            "max": max(closures),
        },
        warnings=_warnings(case, solved, error),
        used=book.used,
    )


def _programme(case: ElutionCase) -> Profile:
    """What enters: concentrations at the beginning and end of every section, straight between."""
    names = case.components
    ends = np.cumsum([s.duration for s in case.section])
    times = np.stack([ends - [s.duration for s in case.section], ends], axis=-1).ravel()
    tables = [t for s in case.section for t in (s.composition, s.final or s.composition)]
    return Profile(
        unit="mol/m^3",
        axes={"time": times.tolist(), "component": names},
        values=np.stack([_array(table, names) for table in tables]),
    )


def _map(case: ElutionCase, solved: column.ColumnResult) -> Profile:
    """Liquid concentrations over time and position."""
    places = np.linspace(0.0, case.bed.length, _PLACES + 1)
    inside = [
        interpolate(scheme(case), profile, case.bed.length, places) for profile in solved.profiles
    ]
    return Profile(
        unit="mol/m^3",
        axes={
            "time": solved.profile_times.tolist(),
            "position": places.tolist(),
            "component": case.components,
        },
        values=np.stack(inside),
    )


def _way_out(case: ElutionCase) -> str:
    """What to change when the time steps of a case become too short."""
    if case.numerics.scheme == "galerkin":
        return 'numerics.scheme = "limited" bears steep fronts; else more numerics.elements'
    return "more numerics.cells, or a rate of binding or a bed.dispersion that widens the fronts"


def _warnings(case: ElutionCase, solved: column.ColumnResult, error: float | None) -> list[Warned]:
    """Nothing that leaves, else an outlet that is not resolved."""
    brought = [case.initial, *(s.composition for s in case.section)]
    brought += [s.final for s in case.section if s.final is not None]
    highest = max((c for table in brought for c in table.values()), default=0.0)
    if np.max(solved.outlet, initial=0.0) > _TRACE * highest:
        return resolution_warning(error)
    return [
        Warned(
            code="nothing-leaves",
            message=f"no more than {_TRACE:g} of any feed leaves before the end: longer sections "
            "(section.duration), or less bed",
            where="effluent",
        )
    ]


def _midpoints(case: ElutionCase, times: Array, outlet: Array) -> dict[str, Mapping[str, float]]:
    """Bed volumes at which a component fed to the end first leaves at half of its feed."""
    found: dict[str, Mapping[str, float]] = {}
    for k, name in enumerate(case.components):
        fed = case.section[-1].composition.get(name, 0.0)
        if not fed > 0 or case.section[-1].final is not None:
            continue
        above = np.flatnonzero(outlet[:, k] >= 0.5 * fed)
        if not len(above) or above[0] == 0:
            continue
        i = int(above[0])
        at = np.interp(0.5 * fed, outlet[i - 1 : i + 1, k], times[i - 1 : i + 1])
        found[f"midpoint of {name}"] = amount(float(at) * case.bed.velocity / case.bed.length, "1")
    return found


def bed(case: ElutionCase) -> column.Bed:
    """The bed of a case."""
    beads = None
    if case.beads is not None:
        diffusion = case.beads.diffusion
        beads = column.Beads(
            radius=case.beads.radius,
            porosity=case.beads.porosity,
            film=_array(case.beads.film, case.components),
            diffusion=None if diffusion is None else _array(diffusion, case.components),
        )
    return column.Bed(
        length=case.bed.length,
        velocity=case.bed.velocity,
        void=case.bed.void,
        dispersion=case.bed.dispersion,
        beads=beads,
    )


def isotherm(case: ElutionCase) -> Isotherm:
    """The isotherm of a case."""
    law, names = case.isotherm, case.components
    if isinstance(law, LinearLaw):
        return Linear(coefficient=_array(law.coefficient, names))
    if isinstance(law, LangmuirLaw):
        return Langmuir(constant=_array(law.constant, names), capacity=_array(law.capacity, names))
    return ConstantSelectivity(selectivity=_array(law.selectivity, names), capacity=law.capacity)


def scheme(case: ElutionCase) -> Scheme:
    """The scheme of a case; what is not given has the engine's default."""
    given = case.numerics
    if given.scheme == "limited":
        return Limited() if given.cells is None else Limited(cells=given.cells)
    chosen = {"degree": given.degree, "elements": given.elements}
    return Galerkin(**{k: v for k, v in chosen.items() if v is not None})


def _section(stretch: Stretch, names: tuple[str, ...]) -> column.Section:
    start = _array(stretch.composition, names)
    if stretch.final is None:
        return column.Section(duration=stretch.duration, conc=start)
    slope = (_array(stretch.final, names) - start) / stretch.duration
    return column.Section(duration=stretch.duration, conc=start, slope=slope)


def _array(values: Mapping[str, float], names: tuple[str, ...]) -> Array:
    return np.array([values.get(n, 0.0) for n in names])
