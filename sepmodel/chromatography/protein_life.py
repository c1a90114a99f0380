"""A lanmodulin column over its life: what its pools hold while the capacity fades."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from sepmodel.chromatography import cyclic
from sepmodel.chromatography.inputs import ColumnCase, PoolSpec
from sepmodel.chromatography.protein_march import Ready, scheme_of, settled
from sepmodel.data import Book
from sepmodel.result import Profile, Warned, amount
from sepmodel.species import RARE_EARTHS

Array = NDArray[np.float64]

# Most cycles told one by one.
_POINTS_MOST = 128


def life(
    case: ColumnCase, ready: Ready, book: Book
) -> tuple[dict[str, Mapping[str, float]], Profile, list[Warned]]:
    """Purity and recovery of every pool, cycle by cycle, and when a pool first misses its purity.

    The steady cycle is solved at a few capacities (``cyclic.working_life``), moles of every pool
    are interpolated between them. The main metal of a pool is that of the first cycle, or the
    elements the pool names.
    """
    assert case.cycles is not None
    index = {step.name: k for k, step in enumerate(case.step)}
    rows = [[index[name] for name in pool.steps] for pool in case.pool]
    scheme, tolerance = scheme_of(case)
    fed = np.zeros(len(ready.names))

    def pools(share: float) -> Array:
        worn = replace(ready, law=replace(ready.law, capacity=share * ready.law.capacity))
        run = settled(case, worn, book, scheme, tolerance)
        fed[:] = run.fed
        return np.concatenate([run.collected[own].sum(axis=0) for own in rows])

    found = cyclic.working_life(pools, case.cycles.capacity, case.cycles.count)
    moles = np.maximum(found.values, 0.0).reshape(case.cycles.count, len(rows), -1)
    error = found.error.reshape(len(rows), -1)
    rare = np.array([n in RARE_EARTHS for n in ready.names])
    quantities: dict[str, Mapping[str, float]] = {}
    warnings: list[Warned] = []
    columns: dict[str, Array] = {"share of the capacity": found.shares}
    for k, pool in enumerate(case.pool):
        own = _main(pool, ready.names, moles[0, k] * rare)
        name = "+".join(ready.names[i] for i in own)
        total = np.maximum(moles[:, k][:, rare].sum(axis=1), np.finfo(float).tiny)
        held = moles[:, k][:, own].sum(axis=1)
        purity, recovery = held / total, held / fed[own].sum()
        columns[f"purity of {name} in {pool.product}"] = purity
        columns[f"recovery of {name} in {pool.product}"] = recovery
        quantities |= {
            f"purity of {name} in {pool.product} over the life": amount(
                float(held.sum() / total.sum()), "1"
            ),
            f"recovery of {name} in {pool.product} over the life": amount(
                float(recovery.mean()), "1"
            ),
            f"error of the recovery of {name} in {pool.product}": amount(
                float(error[k, own].sum() / fed[own].sum()), "1"
            ),
        }
        if pool.purity is None:
            continue
        missed = np.flatnonzero(purity < pool.purity)
        first = int(missed[0]) if missed.size else case.cycles.count
        quantities[f"cycles until {pool.product} misses its purity"] = amount(float(first), "1")
        if missed.size:
            warnings.append(
                Warned(
                    code="life-ends",
                    message=f"{name} falls below {pool.purity:g} after {first} of "
                    f"{case.cycles.count} cycles, at {found.shares[first]:.2f} of the capacity",
                    where=pool.product,
                )
            )
    told = np.unique(np.linspace(0, case.cycles.count - 1, _POINTS_MOST).round().astype(int))
    profile = Profile(
        unit="1",
        axes={"cycle": (told + 1).tolist(), "what": list(columns)},
        values=np.stack([values[told] for values in columns.values()], axis=1),
    )
    return quantities, profile, warnings


def _main(pool: PoolSpec, names: tuple[str, ...], moles: Array) -> list[int]:
    """Places of the elements a pool is judged by."""
    named = [i for i, n in enumerate(names) if n in pool.elements]
    return named or [int(np.argmax(moles))]
