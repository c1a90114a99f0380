"""Members of an uncertainty study: points of a unit cube, and the numbers they stand for.

The cube's axes are independent inputs. A constant is moved by one of them, or, where the errors of
several constants hang together, by a level they share and a part of its own: with the standard
normal scores z of both, score = sqrt(rho) z_level + sqrt(1 - rho) z_own, and the constant is the
quantile of its own distribution at that score. Every constant keeps its distribution; the ratios of
constants that share a level vary less than the constants. Points depend on the seed only.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel import data, distributions
from sepmodel.data import Book, Constant
from sepmodel.distributions import Distribution
from sepmodel.errors import InputError, Problem

Array = NDArray[np.float64]

DESIGNS = ("sobol", "latin-hypercube", "random")
LOG_K_CORRELATION = "uncertainty/defaults:log-K-correlation"
# Inputs whose pairs a Sobol' sample of the usual sizes keeps apart: of 256 points the worst pair of
# 30 inputs correlates by 0.2, which is no more than chance; of 40 inputs by 0.4.
FEW = 30
_ALONE = " alone"
# Dimensions that scipy has direction numbers for.
_MOST_DIMS = 21201


def unit(design: str, size: int, dims: int, seed: int) -> Array:
    """Points of the open unit cube, shape (size, dims), decided by ``seed`` alone.

    "sobol" (scrambled) and "random" points are nested: the first ``size`` of more points.

    >>> first = unit("sobol", 4, 2, seed=1)
    >>> bool(np.all(first == unit("sobol", 64, 2, seed=1)[:4]))
    True
    """
    if design not in DESIGNS or size < 1 or not 0 < dims <= _MOST_DIMS:
        raise InputError(
            Problem(
                message="no such sample",
                value=f"{design}, {size} points in {dims} dimensions",
                expected=f"one of {', '.join(DESIGNS)}, one point at least",
            )
        )
    if design == "random":
        points = np.random.default_rng(seed).random((size, dims))
    else:
        from scipy.stats import qmc

        generator = np.random.default_rng(seed)
        if design == "latin-hypercube":
            points = qmc.LatinHypercube(dims, seed=generator).random(size)
        else:
            points = qmc.Sobol(dims, scramble=True, seed=generator).random_base2(
                math.ceil(math.log2(size))
            )[:size]
    edge = float(np.finfo(float).eps)
    out: Array = np.clip(points, edge, 1.0 - edge)
    return out


def points(design: str, size: int, names: Sequence[str], seed: int) -> Array:
    """Points of the unit cube (size, names), where each axis has a name.

    Independent ("random") points of an axis depend on its name and the seed alone: another axis
    more or less leaves them as they are. The other designs are those of :func:`unit`.

    >>> one = points("random", 4, ["a", "b"], seed=1)
    >>> bool(np.all(one[:, 1] == points("random", 9, ["b"], seed=1)[:4, 0]))
    True
    """
    if design != "random" or not names:
        return unit(design, size, len(names), seed)
    return np.stack([unit(design, size, 1, _own(seed, name))[:, 0] for name in names], axis=1)


def point(names: Sequence[str], seed: int, place: int) -> Array:
    """The independent point of that place, from 0, without the others (1, names)."""
    return np.array([[unit("random", place + 1, 1, _own(seed, name))[-1, 0] for name in names]])


def _own(seed: int, name: str) -> int:
    """The seed of an axis. The part of a constant that is its own is the constant's."""
    text = f"{seed} {name.removesuffix(_ALONE)}"
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest(), "big")


def suited(dims: int) -> str:
    """The design for so many inputs: "sobol" for few, else "random".

    It does not depend on the number of points: more points keep the first ones.

    >>> suited(3), suited(300)
    ('sobol', 'random')
    """
    return "sobol" if dims <= FEW else "random"


def entangled(points: Array) -> float:
    """The largest correlation, in size, between two inputs of a sample (n, inputs); 0 of one.

    >>> few = unit("sobol", 16, 60, seed=1)
    >>> entangled(few) > 0.9, entangled(unit("sobol", 256, 2, seed=1)) < 0.01
    (True, True)
    """
    if len(points) < 2 or points.shape[1] < 2:
        return 0.0
    with np.errstate(invalid="ignore", divide="ignore"):  # an input that does not vary
        found = np.abs(np.corrcoef(points, rowvar=False))
    np.fill_diagonal(found, 0.0)
    return float(np.nan_to_num(found).max())


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Constants (or other inputs) by key whose errors hang together with ``correlation``."""

    name: str
    keys: tuple[str, ...]
    correlation: float


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Space:
    """Independent inputs, and the numbers they move.

    ``inputs`` name the axes of the unit cube; ``moved`` gives the distribution of every number by
    key; ``weights`` of a key are (axis, weight) of the normal scores that make its own.
    """

    inputs: tuple[str, ...]
    moved: Mapping[str, Distribution]
    weights: Mapping[str, tuple[tuple[int, float], ...]]

    def values(self, u: Array) -> dict[str, Array]:
        """The numbers at points ``u`` (n, inputs) of the cube: key -> (n,)."""
        from scipy.special import ndtr, ndtri

        found = {}
        for key, distribution in self.moved.items():
            parts = self.weights[key]
            if len(parts) == 1:
                p = u[:, parts[0][0]]
            else:
                p = ndtr(sum(weight * ndtri(u[:, axis]) for axis, weight in parts))
            found[key] = distribution.quantile(p)
        return found

    def columns(self, u: Array) -> Array:
        """What each input moves at points ``u``: a number, or else a score, shape (n, inputs)."""
        from scipy.special import ndtri

        out: Array = ndtri(u)
        for key, distribution in self.moved.items():
            parts = self.weights[key]
            if len(parts) == 1 and sum(parts[0] in w for w in self.weights.values()) == 1:
                out[:, parts[0][0]] = distribution.quantile(u[:, parts[0][0]])
        return out

    def member(self, point: Array) -> dict[str, float]:
        """The numbers at one point (inputs,)."""
        return {key: float(v[0]) for key, v in self.values(point[None]).items()}

    @property
    def centre(self) -> dict[str, float]:
        """Every number at its stated value."""
        return {key: d.value for key, d in self.moved.items()}


def space(moved: Mapping[str, Distribution], groups: Sequence[Group] = ()) -> Space:
    """The space of numbers by key; members of a group share a level, all else is independent.

    >>> d = distributions.spread(1.0, 0.1)
    >>> space({"a": d, "b": d}, [Group(name="level", keys=("a", "b"), correlation=0.9)]).inputs
    ('level', 'a alone', 'b alone')
    """
    moved = {key: d for key, d in moved.items() if d.moves}
    inputs: list[str] = []
    weights: dict[str, tuple[tuple[int, float], ...]] = {}
    for group in groups:
        members = [key for key in group.keys if key in moved]
        twice = [key for key in members if key in weights]
        if twice or not 0 <= group.correlation <= 1:
            raise InputError(
                Problem(
                    message="not a group of numbers that hang together",
                    key=group.name,
                    value=twice[0] if twice else group.correlation,
                    expected="numbers of no other group, a correlation from 0 to 1",
                )
            )
        if len(members) < 2 or group.correlation == 0:
            continue
        level = len(inputs)
        inputs.append(group.name)
        for key in members:
            if group.correlation == 1:
                weights[key] = ((level, 1.0),)
                continue
            own = math.sqrt(1.0 - group.correlation)
            weights[key] = ((level, math.sqrt(group.correlation)), (len(inputs), own))
            inputs.append(f"{key}{_ALONE}")
    for key in moved:
        if key not in weights:
            weights[key] = ((len(inputs), 1.0),)
            inputs.append(key)
    return Space(inputs=tuple(inputs), moved=moved, weights=weights)


def laboratories(constants: Mapping[str, Constant], book: Book | None = None) -> list[Group]:
    """Groups of extraction constants, one a data set, whose errors share the laboratory's level.

    >>> numbers = data.load_set("extractants/li1987-pc88a-ideal").values()
    >>> [g.name for g in laboratories({c.key: c for c in numbers})]
    ['level of extractants/li1987-pc88a-ideal']
    """
    sets: dict[str, list[str]] = {}
    for key, constant in constants.items():
        set_id = data.split_key(key)[0]
        if "log10 K" in constant.basis:
            sets.setdefault(set_id, []).append(key)
    chosen = {
        set_id: keys
        for set_id, keys in sets.items()
        if len(keys) > 1 and data.set_meta(set_id).get("kind") == "extraction constants"
    }
    if not chosen:
        return []
    correlation = (book or Book())[LOG_K_CORRELATION]
    return [
        Group(name=f"level of {set_id}", keys=tuple(keys), correlation=correlation)
        for set_id, keys in chosen.items()
    ]


def of_constants(constants: Mapping[str, Constant], book: Book | None = None) -> Space:
    """The space of all constants that have a range, each by its data's own distribution."""
    chosen = {key: constants[key] for key in sorted(constants)}
    return space({k: distributions.of(c) for k, c in chosen.items()}, laboratories(chosen, book))


def members(
    constants: Mapping[str, Constant],
    size: int,
    *,
    seed: int = 0,
    design: str = "sobol",
    book: Book | None = None,
) -> dict[str, Array]:
    """``size`` members of an uncertainty study: constant's key -> strict SI values (size,).

    ``book`` says how far the levels of a laboratory hang together.

    >>> numbers = data.load_set("separation_factors/pc88a-hcl").values()
    >>> drawn = members({c.key: c for c in numbers}, 256)["separation_factors/pc88a-hcl:Nd/Pr"]
    >>> bool(abs(np.mean(drawn) - (1.35 + 1.4 + 1.55) / 3) < 1e-3)
    True
    """
    found = of_constants(constants, book)
    if not found.inputs:
        return {}
    return found.values(points(design, size, found.inputs, seed))
