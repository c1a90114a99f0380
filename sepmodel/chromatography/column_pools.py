"""What every column case needs: elements fed, volumes of steps, pools as outlets of a result."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sepmodel.chromatography.inputs import ColumnCase, PoolSpec, Step
from sepmodel.result import Outlet, Profile, Warned, amount
from sepmodel.species import RARE_EARTHS

Array = NDArray[np.float64]

PURITIES = (0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
"""Mole purities at which yields are told."""
_NOTHING = 1e-6


def elements(case: ColumnCase) -> tuple[str, ...]:
    """What is fed, in the order of the case."""
    return tuple(dict.fromkeys(e for step in case.step for e in step.composition))


def bed_volumes(step: Step, bed: float) -> float:
    """Bed volumes of a step."""
    if step.bed_volumes is not None:
        return step.bed_volumes
    return float(step.flow * (step.duration or 0.0) / bed)


def composition(step: Step, names: Sequence[str]) -> Array:
    """Concentrations of a step [mol/m3]."""
    return np.array([step.composition.get(n, 0.0) for n in names])


def outlet(
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


def purity_warnings(pool: PoolSpec, collected: Outlet) -> list[Warned]:
    """A warning when a pool's main element, or its named elements, miss the purity asked for."""
    if pool.purity is None or not collected.purity:
        return []
    wanted = pool.elements or (max(collected.purity, key=lambda e: collected.purity[e]),)
    reached = sum(collected.purity.get(e, 0.0) for e in wanted)
    if reached >= pool.purity:
        return []
    return [
        Warned(
            code="purity-missed",
            message=f"{'+'.join(wanted)} at {reached:.4f} of {pool.purity:.4f} (mole fraction)",
            where=pool.product,
        )
    ]


def spans(case: ColumnCase, volumes: Sequence[float]) -> Profile:
    """Where each pool begins and ends [bed volumes]; ``volumes`` are those of the steps."""
    ends = np.cumsum(volumes)
    place = {step.name: k for k, step in enumerate(case.step)}
    rows = [[place[name] for name in pool.steps] for pool in case.pool]
    return Profile(
        unit="1",
        axes={
            "product": [pool.product for pool in case.pool],
            "what": ("from_bed_volume", "to_bed_volume"),
        },
        values=np.array([[ends[min(r)] - volumes[min(r)], ends[max(r)]] for r in rows]),
    )


def yields(left: Array, volumes: Array, names: Sequence[str], fed: Array) -> Profile:
    """Most of each rare earth that one uninterrupted pool can hold at a mole purity.

    ``left`` (T, C) is what had left [mol/m3 bed] after ``volumes`` (T,). The pool between every two
    times has a yield and a purity; the best at each purity asked for is kept, with the bed volumes
    where it begins and ends.
    """
    rare = np.array([n in RARE_EARTHS for n in names])
    index = np.flatnonzero(rare).tolist()
    found = np.zeros((len(PURITIES), len(index), 3))
    pools = left[None, :, :] - left[:, None, :]  # from row to column
    total = np.maximum(pools[:, :, rare].sum(axis=-1), np.finfo(float).tiny)
    for place, k in enumerate(index):
        own = np.where(total > _NOTHING * fed.sum(), pools[:, :, k], 0.0)
        share = own / total
        for row, purity in enumerate(PURITIES):
            good = np.where(share >= purity, own, 0.0)
            i, j = np.unravel_index(int(np.argmax(good)), good.shape)
            if good[i, j] > 0:
                found[row, place] = good[i, j] / fed[k], volumes[i], volumes[j]
    return Profile(
        unit="1",
        axes={
            "purity": PURITIES,
            "component": [names[k] for k in index],
            "what": ("yield", "from_bed_volume", "to_bed_volume"),
        },
        values=found,
    )
