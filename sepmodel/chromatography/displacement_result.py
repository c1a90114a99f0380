"""A displacement case: the plant its products need, and the same plant on the engine."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel.chromatography import displacement
from sepmodel.chromatography.band_train import Snapshot, best_cut
from sepmodel.chromatography.displacement_engine import Confirmation, design_on_engine
from sepmodel.chromatography.displacement_run import CELLS, ColumnRun
from sepmodel.chromatography.inputs import DisplacementCase
from sepmodel.chromatography.results import RESOLVED
from sepmodel.data import Book
from sepmodel.products import Product
from sepmodel.result import Outlet, Profile, Result, Warned, amount
from sepmodel.species import RARE_EARTHS

Array = NDArray[np.float64]

_POINTS = 400
_FIRST = 1e-6
_TIMES = 128
_LEVELS = 16
_BEYOND = 1e-9
_PURITIES = 32
_HIGHEST = 1e-4


def solve_case(case: DisplacementCase, book: Book) -> Result:
    """Design of the plant, its columns on the engine, pools, reagents and cycle.

    Raises
    ------
    InputError, InfeasibleError
        as ``displacement.design``; InfeasibleError where a column gives no pool on the engine.
    """
    wanted = tuple(
        Product(
            name=p.name,
            elements=p.elements,
            purity=p.purity,
            recovery=p.recovery,
            purity_basis=p.purity_basis,
        )
        for p in case.product
    )
    found = None
    if case.confirm:
        found = design_on_engine(
            case.feed,
            wanted,
            book,
            cells=case.cells or CELLS,
            ligands=case.ligands,
            zone_splitting=case.zone_splitting,
            length=case.length,
            velocity=case.velocity,
            ligand_recycle=case.ligand_recycle,
            estimate=case.estimate,
        )
        plant = found.design
    else:
        plant = displacement.design(
            case.feed,
            wanted,
            book,
            ligands=case.ligands,
            zone_splitting=case.zone_splitting,
            length=case.length,
            velocity=case.velocity,
            ligand_recycle=case.ligand_recycle,
        )
    pools: Mapping[str, Mapping[str, float]] = {n: p.moles for n, p in plant.pools.items()}
    if found is not None:
        pools = found.outlets
    fed = dict(case.feed)
    closure = {
        e: abs(sum(p.moles.get(e, 0.0) for p in plant.pools.values()) - n) / n
        for e, n in fed.items()
    }
    runs = found.runs if found is not None else ()
    open_ = max([*closure.values(), *(run.train.closure for run in runs)])
    flows = {name: pool.flow for name, pool in plant.pools.items()}
    return Result(
        kind=case.kind,
        name=case.name,
        model={
            "equilibrium": "constant-selectivity",
            "set": ", ".join(f"ligands/{k}" for k in plant.ligand_circulated),
            "level": "constant-pattern design"
            + (", every column on the transport engine" if found else ""),
        },
        solver={
            "scheme": found.runs[0].train.scheme if found else "closed forms",
            "estimated_error": _error(found),
            "error_of": "a recovery or purity",
            "iterations": sum(r.train.steps for r in found.runs) if found else 1,
            "residual": open_,
        },
        streams={
            "feed": _outlet(fed, 0.0, fed),
            **{
                name: _outlet(moles, flows.get(name, 0.0), fed)
                for name, moles in pools.items()
                if sum(moles.values()) > 0
            },
        },
        profiles=_profiles(found) if found else {},
        quantities=_quantities(plant, found),
        balance={"components": closure, "max": open_},
        warnings=[*plant.warnings, *_warnings(found, wanted), *_coarse(found)],
        used=book.used,
    )


def _outlet(moles: Mapping[str, float], flow: float, fed: Mapping[str, float]) -> Outlet:
    total = sum(n for e, n in moles.items() if e in RARE_EARTHS)
    conc = {e: amount(n / flow, "mol/m^3") for e, n in moles.items()} if flow > 0 else {}
    return Outlet(
        phase="aqueous",
        flow=amount(flow, "m^3/s"),
        conc=conc,
        moles={e: amount(n, "mol/s") for e, n in moles.items()},
        purity={e: n / total for e, n in moles.items() if e in RARE_EARTHS} if total > 0 else {},
        recovery={e: n / fed[e] for e, n in moles.items() if fed.get(e, 0.0) > 0},
    )


def _quantities(
    plant: displacement.DisplacementDesign, found: Confirmation | None
) -> dict[str, Mapping[str, Any]]:
    """Size, cycle and reagents; per product what was designed and what the engine gives."""
    out: dict[str, Mapping[str, Any]] = {
        "column_volume": amount(plant.column_volume, "m^3"),
        "cycle_time": amount(plant.cycle_time, "h"),
        "productivity": amount(plant.productivity, "mol/m^3/s"),
        "ligand_recycled": amount(plant.ligand_recycled, "1"),
        "water": amount(plant.water, "m^3/s"),
        "salt": amount(plant.salt, "mol/s"),
        "presaturant_inventory": amount(plant.presaturant_inventory, "mol"),
    }
    out |= {
        f"ligand circulated {k}": amount(n, "mol/s") for k, n in plant.ligand_circulated.items()
    }
    out |= {f"make-up {k}": amount(n, "mol/s") for k, n in plant.reagents.items()}
    for number, column in enumerate(plant.columns, 1):
        where = f"column {number}"
        out[f"{where} load_fraction"] = amount(column.load_fraction, "1")
        out[f"{where} velocity"] = amount(column.velocity, "cm/min")
        out[f"{where} cycle_time"] = amount(column.cycle_time, "h")
        out |= {f"{where} alpha {pair}": amount(a, "1") for pair, a in column.alpha.items()}
        out |= {f"{where} zone {pair}": amount(z, "cm") for pair, z in column.zone_length.items()}
    for name, (reached, demanded) in plant.one_column.items():
        out[f"designed recovery {name}, one column"] = amount(reached, "1")
        out[f"demanded {name}"] = amount(demanded, "1")
        alone = _one_pass(name, found)
        if alone is not None:
            out[f"engine recovery {name}, one column"] = amount(alone, "1")
    for p in plant.products:
        out[f"designed purity {p.name}"] = amount(plant.purity[p.name], "1")
        out[f"designed recovery {p.name}"] = amount(plant.recovery[p.name], "1")
        if found is not None:
            out[f"engine purity {p.name}"] = amount(found.purity[p.name][0], "1")
            out[f"engine recovery {p.name}"] = amount(found.recovery[p.name][0], "1")
    if found is not None:
        out["difference"] = amount(found.difference, "1")
        out["designs"] = amount(found.rounds, "1")
    return out


def _one_pass(name: str, found: Confirmation | None) -> float | None:
    """Recovery of a product by one pass of the first column on the engine, losses included."""
    if found is None:
        return None
    fed = {e: sum(p.moles.get(e, 0.0) for p in found.design.pools.values()) for e in RARE_EARTHS}
    for cut in found.runs[0].cuts:
        if cut.name == name:
            own = found.runs[0].column.members[name]
            return sum(cut.moles.get(e, 0.0) for e in own) / sum(fed[e] for e in own)
    return None


def _warnings(found: Confirmation | None, wanted: Sequence[Product]) -> list[Warned]:
    """Products that keep their specification in the design but not on the engine."""
    if found is None:
        return []
    short = []
    for p in wanted:
        for what, asked, reached in (
            ("purity", p.purity, found.purity[p.name][0]),
            ("recovery", p.recovery, found.recovery[p.name][0]),
        ):
            if reached < asked:
                short.append(
                    Warned(
                        code="engine-short",
                        message=f"{what} of {p.name}: {reached:.4f} on the engine, {asked:.4f} "
                        "asked for; the closed forms of the design are that much too kind",
                        where=p.name,
                    )
                )
    return short


def _error(found: Confirmation | None) -> float | None:
    """Error of the grid in any recovery or purity of a column, None where it was not estimated."""
    return None if found is None or math.isnan(found.error) else found.error


def _coarse(found: Confirmation | None) -> list[Warned]:
    """A warning when the grid leaves recoveries or purities open by more than ``RESOLVED``."""
    error = _error(found)
    if error is None or error <= RESOLVED:
        return []
    return [
        Warned(
            code="coarse-solution",
            message=f"a recovery or purity of a column is open by {error:.1%} on this grid: more "
            "cells (cells)",
        )
    ]


def _profiles(found: Confirmation) -> dict[str, Profile]:
    """Band pattern, effluent with its pools, time-position map and purity-yield curve by column."""
    out = {}
    for number, run in enumerate(found.runs, 1):
        names = list(run.train.metals)
        out[f"bands {number}"] = _bands(run, names)
        out[f"effluent {number}"] = _effluent(run, names)
        out[f"map {number}"] = _map(run)
        out[f"yield {number}"] = _yields(run, names)
    return out


def _bands(run: ColumnRun, names: list[str]) -> Profile:
    """Mole shares along the column when the train has arrived at the outlet."""
    train = run.train
    inside = [s for s in train.snapshots if s.faces[-1] < train.bed.length]
    shot = inside[-1] if inside else train.snapshots[-1]
    z = np.linspace(0.0, train.bed.length, _POINTS + 1)
    return Profile(
        unit="1",
        axes={"position": z.tolist(), "component": names},
        values=_sampled(shot, z, train.ligand_conc)[:, 1:-1],
    )


def _sampled(shot: Snapshot, z: Array, total: float) -> Array:
    """Shares of every species at positions: what stands at the ends of the grid goes on."""
    share = np.clip(shot.conc / total, 0.0, 1.0)
    return np.stack([np.interp(z, shot.centres, s) for s in share.T], axis=-1)


def _effluent(run: ColumnRun, names: list[str]) -> Profile:
    """Mole shares of the metals at the outlet against time; the pools are its bands."""
    train = run.train
    times, gone = train.fine
    whole = gone[-1].sum()
    left = gone.sum(axis=1)
    first, last = np.searchsorted(left, [_FIRST * whole, (1 - _FIRST) * whole])
    # What left by the ends of even stretches: the difference at single readings is rounding.
    ends = np.linspace(times[max(first - 1, 0)], times[min(last + 1, times.size - 1)], _POINTS + 1)
    amounts = np.stack([np.interp(ends, times, g) for g in gone.T], axis=-1)
    share = np.diff(amounts, axis=0) / (
        train.bed.velocity * train.ligand_conc * (ends[1] - ends[0])
    )
    return Profile(
        unit="1",
        axes={"time": (0.5 * (ends[1:] + ends[:-1])).tolist(), "component": names},
        values=np.clip(share, 0.0, None),
        bands={cut.name: (cut.start, cut.end) for cut in run.cuts if cut.end > cut.start},
    )


def _map(run: ColumnRun) -> Profile:
    """Mean place of a species in the order of the train, over time and position.

    Between two snapshots every level of it moves evenly.
    """
    train = run.train
    z = np.linspace(0.0, train.bed.length, _POINTS // 2 + 1)
    times = np.array([s.time for s in train.snapshots])
    wanted = np.linspace(0.0, times[-1], _TIMES + 1)
    place = np.arange(len(train.names), dtype=float)
    levels = np.linspace(0.0, place[-1], _LEVELS * (place.size - 1) + 1)
    at = []
    for shot in train.snapshots:
        share = np.clip(shot.conc, 0.0, None)
        mean = np.minimum.accumulate(share @ place / share.sum(axis=1))
        # What is not in the column stands just before its inlet or behind the grid's end.
        end = float(shot.faces[-1]) * (1 + _BEYOND)
        at.append(np.interp(-levels, -mean, shot.centres, left=-_BEYOND, right=end))
    edges = np.array(at)
    moving = np.stack([np.interp(wanted, times, edge) for edge in edges.T], axis=-1)
    values = [np.interp(z, np.maximum.accumulate(row[::-1]), levels[::-1]) for row in moving]
    return Profile(
        unit="1",
        axes={"time": wanted.tolist(), "position": z.tolist()},
        values=np.array(values),
    )


def _yields(run: ColumnRun, names: list[str]) -> Profile:
    """Largest pool of every metal in one pass against its purity."""
    purities = 1 - np.geomspace(0.5, _HIGHEST, _PURITIES)
    _, amounts = run.train.fine
    total = amounts.sum(axis=1)
    values = np.zeros((purities.size, len(names)))
    for k in range(len(names)):
        for n, purity in enumerate(purities):
            i, j = best_cut(amounts[:, k], total, float(purity))
            values[n, k] = (amounts[j, k] - amounts[i, k]) / run.train.loaded[k]
    return Profile(unit="1", axes={"purity": purities.tolist(), "component": names}, values=values)
