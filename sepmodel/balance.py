"""Closure of balances, used by every result and every test."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from sepmodel.errors import ConvergenceError, Trace


def closure(entering: NDArray[np.float64], leaving: NDArray[np.float64]) -> NDArray[np.float64]:
    """Relative closure |in - out| / in of each component, shape (..., C).

    A component that neither enters nor leaves closes exactly; one that is no number does not close.

    >>> closure(np.array([1.0, 0.0]), np.array([1.0 - 1e-12, 0.0])).round(13)
    array([1.e-12, 0.e+00])
    """
    with np.errstate(invalid="ignore"):
        gap: NDArray[np.float64] = np.abs(np.asarray(entering) - np.asarray(leaving))
        scale = np.maximum(np.abs(entering), np.abs(leaving))
        relative: NDArray[np.float64] = np.zeros_like(gap)
        return np.divide(gap, scale, out=relative, where=scale != 0)


def molar_closure(
    entering: Sequence[Mapping[str, float]], leaving: Sequence[Mapping[str, float]]
) -> dict[str, float]:
    """Relative closure of every name that occurs in the entering or leaving molar flows."""
    names = dict.fromkeys(n for flows in (*entering, *leaving) for n in flows)
    total_in = np.array([sum(f.get(n, 0.0) for f in entering) for n in names])
    total_out = np.array([sum(f.get(n, 0.0) for f in leaving) for n in names])
    return dict(zip(names, closure(total_in, total_out).tolist(), strict=True))


def require(closures: Mapping[str, float], limit: float, what: str) -> None:
    """Raise ConvergenceError naming the worst component when a balance is open beyond ``limit``."""
    worst = max(closures, key=lambda n: (math.isnan(closures[n]), closures[n]), default=None)
    if worst is not None and not closures[worst] <= limit:
        raise ConvergenceError(
            f"{what}: the balance of {worst} is open by {closures[worst]:.1e} (limit {limit:.0e})",
            trace=Trace(equation="component balance", component=worst),
        )
