"""The ranges of all constants together, propagated to every figure by members drawn from them.

Each constant was moved alone to both ends and the plant designed anew. A member takes all constants
at once from their distributions; its figures follow from those answers: with t the way of a
constant from its value to an end (in logarithms for a lognormal one) and m the figure,

    ln m = ln m_base + sum over constants of t ln(m_end / m_base),

each end on its own side; figures that are not positive by differences. What constants do to one
another is not in it. Constants that hang together are drawn together (``sepmodel.sampling``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel import sampling, statistics
from sepmodel.data import Constant

Array = NDArray[np.float64]
# Members of a comparison unless the caller says otherwise, and their seed.
MEMBERS = 1024
SEED = 1


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Members:
    """Members drawn from the constants: ``keys`` in order, what each took, and its way to an end.

    ``values`` (n, K) strict SI; ``up, down`` (n, K) the way to the high and to the low end, 1 at
    the end.
    """

    keys: tuple[str, ...]
    values: Array
    up: Array
    down: Array


def draw(constants: Mapping[str, Constant], count: int, seed: int = SEED) -> Members:
    """``count`` members of the constants that have a range."""
    drawn = sampling.members(constants, count, seed=seed)
    keys = tuple(key for key in constants if key in drawn)
    values = np.array([drawn[key] for key in keys]).T.reshape(count, len(keys))
    up, down = np.zeros_like(values), np.zeros_like(values)
    for k, key in enumerate(keys):
        constant, here = constants[key], values[:, k]
        base, (low, high) = constant.si, constant.si_range
        if constant.distribution == "lognormal" and low > 0:
            base, low, high, here = np.log(base), np.log(low), np.log(high), np.log(here)
        if high > base:
            up[:, k] = np.maximum(here - base, 0.0) / (high - base)
        if low < base:
            down[:, k] = np.maximum(base - here, 0.0) / (base - low)
    return Members(keys=keys, values=values, up=up, down=down)


def respond(members: Members, base: float, ends: Mapping[str, tuple[float, float]]) -> Array:
    """A figure of every member (n,) from its base and its values at both ends of constants.

    >>> import numpy as np
    >>> one = Members(keys=("k",), values=np.array([[2.0]]), up=np.array([[0.5]]),
    ...               down=np.array([[0.0]]))
    >>> float(respond(one, 1.0, {"k": (1.0, 4.0)})[0])
    2.0
    """
    pairs = np.array([ends.get(key, (base, base)) for key in members.keys]).reshape(-1, 2)
    if base > 0 and np.all(pairs > 0):
        logs = np.log(pairs / base)
        out: Array = base * np.exp(members.up @ logs[:, 1] + members.down @ logs[:, 0])
        return out
    least = 0.0 if base >= 0 and np.all(pairs >= 0) else -np.inf
    moved = members.up @ (pairs[:, 1] - base) + members.down @ (pairs[:, 0] - base)
    return np.maximum(base + moved, least)


def shares(members: Members, figure: Array, keys: Sequence[str]) -> dict[str, float]:
    """Squared rank correlations of ``keys`` with a figure (n,), as shares of their sum."""
    chosen = [k for k, key in enumerate(members.keys) if key in keys]
    if not chosen:
        return {}
    found = statistics.shares(members.values[:, chosen], figure)
    return {members.keys[k]: float(s) for k, s in zip(chosen, found, strict=True) if s > 0}
