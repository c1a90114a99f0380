"""How lanmodulin on a resin binds rare earths: two co-operative sites, homo and hetero pairs.

With a_i the free concentration over 1 mol/L, P the protein per volume of bed and h = [H+]:

    f(H) = (1 + h/Ka)^-N                       protons that compete, the same for every rare earth
    Z    = 1 + f sum_{i<=j} K_ij a_i a_j       empty protein and every pair of metals on it
    q_i  = (P/Z) f (2 K_ii a_i^2 + sum_{j!=i} K_ij a_i a_j)

The separation factor of a pair depends on composition; a single-site Langmuir law with a constant
factor is structurally another thing (Seidel 2024).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel.data import Book
from sepmodel.errors import ConvergenceError, InputError, Problem, Trace

Array = NDArray[np.float64]

C_STANDARD = 1000.0
"""mol/m3 at which published equilibrium constants are unity-referenced (1 mol/L)."""

_LIGHT = ("La", "Ce", "Pr", "Nd", "Sm", "Eu")
_TOLERANCE = 1e-8
_ITERATIONS = 100
_LONGEST_STEP = 8.0
_TRACE = 1e-20


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class PairLaw:
    """The constants of the two-site law for some rare earths.

    ``log_k`` are natural logarithms of K_ii (C,), ``kappa`` is K_ij/sqrt(K_ii K_jj) (C, C) with 2
    on the diagonal, ``capacity`` [mol/m3 bed] is twice the protein, ``exponent`` N and ``pKa``
    describe the protons.
    """

    names: tuple[str, ...]
    log_k: Array
    kappa: Array
    capacity: float
    exponent: float
    pKa: float


def pair_law(names: Sequence[str], book: Book, protein: str = "lanmodulin-mex") -> PairLaw:
    """The law of ``protein`` (a data set under proteins/) for the rare earths ``names``.

    >>> law = pair_law(("Nd", "Dy"), Book())
    >>> round(float(law.kappa[0, 1]), 2)
    2.22
    """
    key = f"proteins/{protein}:"
    missing = [n for n in names if key + "K-ratio-" + n not in book]
    if missing:
        raise InputError(
            Problem(message=f"{protein} has no pair constant for", value=", ".join(missing))
        )
    ratios = np.array([book[f"{key}K-ratio-{n}"] for n in names])
    kappa = np.full((len(names), len(names)), 2.0)
    for i, first in enumerate(names):
        for j, second in enumerate(names[:i]):
            kappa[i, j] = kappa[j, i] = _kappa(first, second, book, key)
    return PairLaw(
        names=tuple(names),
        log_k=_reference_log_k(book, key) - np.log(ratios),
        kappa=kappa,
        capacity=book[key + "capacity"],
        exponent=book[key + "proton-exponent"],
        pKa=book[key + "proton-pKa"],
    )


def _reference_log_k(book: Book, key: str) -> float:
    """ln K_NdNd: half loading of a single metal is f K a^2 = 1 at its pH and concentration."""
    log_f = log_proton_factor(
        book[key + "half-loading-pH"], book[key + "proton-exponent"], book[key + "proton-pKa"]
    )
    return float(-log_f - 2 * np.log(book[key + "half-loading-conc"] / C_STANDARD))


def _kappa(first: str, second: str, book: Book, key: str) -> float:
    """K_ij/sqrt(K_ii K_jj): from R_mix = K_ij/K_jj where published, else the group's estimate."""
    for a, b in ((first, second), (second, first)):
        if f"{key}R-mix-{a}-{b}" in book:
            ratio = book[f"{key}K-ratio-{b}"] / book[f"{key}K-ratio-{a}"]
            return float(book[f"{key}R-mix-{a}-{b}"] / np.sqrt(ratio))
    across = (first in _LIGHT) != (second in _LIGHT)
    return book[key + ("kappa-light-heavy" if across else "kappa")]


def separation_factor(ratio: ArrayLike, r_b: ArrayLike, r_mix: ArrayLike) -> Array:
    """Separation factor A over B at the free ratio x = [A]/[B].

    SF = (2 R_B x + R_mix) / (2 + R_mix x), with R_B = K_AA/K_BB and R_mix = K_AB/K_BB.

    Source: seidel2024 (algebra).

    >>> float(separation_factor(1e9, 31.7, 12.5).round(2))
    5.07
    """
    x, b, m = (np.asarray(v, dtype=float) for v in (ratio, r_b, r_mix))
    return np.asarray((2 * b * x + m) / (2 + m * x))


def pair_selectivity(
    protein: str, first: str, second: str, ratio: float, book: Book | None = None
) -> float:
    """Separation factor of two metals on a protein of the shelf at the free ratio first/second.

    >>> round(pair_selectivity("lanmodulin-mex", "Nd", "Gd", 1.0), 2)
    2.13
    """
    book = book or Book()
    key = f"proteins/{protein}:K-ratio-"
    r_b = book[key + second] / book[key + first]
    r_mix = _kappa(first, second, book, f"proteins/{protein}:") * np.sqrt(r_b)
    return float(separation_factor(ratio, r_b, r_mix))


def loading(
    element: str, conc: float, pH: float, protein: str = "lanmodulin-mex", book: Book | None = None
) -> float:
    """Share of the capacity one metal fills at free ``conc`` [mol/m3] and ``pH``.

    >>> round(loading("Nd", 0.2, 1.7), 3)
    0.003
    """
    law = pair_law((element,), book or Book(), protein)
    return float(bound(np.array([conc]), pH, law)[0] / law.capacity)


def log_proton_factor(pH: ArrayLike, exponent: float, pKa: float) -> Array:
    """ln f of the proton competition f = (1 + h/Ka)^-N, finite at any pH.

    >>> float(log_proton_factor(14.0, 5, 5.25).round(6)) == 0.0
    True
    """
    return np.asarray(-exponent * np.logaddexp(0.0, np.log(10.0) * (pKa - np.asarray(pH))))


def bound(conc: ArrayLike, pH: ArrayLike, law: PairLaw) -> Array:
    """Bound rare earths q [mol/m3 bed], shape (..., C), at free ``conc`` [mol/m3] and ``pH`` (...).

    Computed in logarithms: pair weights differ by tens of orders of magnitude.

    >>> law = pair_law(("Nd",), Book())
    >>> round(float(bound([0.2], 2.2, law)[0]) / law.capacity, 2)
    0.44
    """
    c = np.asarray(conc, dtype=float)
    with np.errstate(divide="ignore"):
        log_u = np.log(c / C_STANDARD) + 0.5 * (law.log_k + _log_f(pH, law)[..., None])
    largest = np.maximum(log_u.max(axis=-1, keepdims=True), 0.0)
    u = np.exp(log_u - largest)
    weight = u @ law.kappa
    total = np.exp(-2 * largest) + 0.5 * (u * weight).sum(axis=-1, keepdims=True)
    return np.asarray(0.5 * law.capacity * u * weight / total)


def _log_f(pH: ArrayLike, law: PairLaw) -> Array:
    return log_proton_factor(pH, law.exponent, law.pKa)


def half_loading_pH(name: str, conc: float, law: PairLaw) -> float:
    """pH at which a single metal at free ``conc`` [mol/m3] half fills the protein: f K a^2 = 1.

    >>> law = pair_law(("Nd",), Book())
    >>> round(half_loading_pH("Nd", 0.2, law), 2)
    2.22
    """
    log_ka2 = law.log_k[law.names.index(name)] + 2 * np.log(conc / C_STANDARD)
    if log_ka2 <= 0:
        return float("inf")
    return float(law.pKa - np.log(np.expm1(log_ka2 / law.exponent)) / np.log(10.0))


def equilibrate(
    total: Array,
    pH: ArrayLike,
    law: PairLaw,
    liquid: float,
    sites: Array | None = None,
    tolerance: float = _TOLERANCE,
) -> tuple[Array, Array]:
    """Free concentrations [mol/m3 liquid] of cells that hold ``total`` [mol/m3 bed], (..., C).

    total_i = liquid c_i + q_i(c): with u_i = sqrt(f K_ii) a_i, S = sum u, one scalar equation in S
    per cell, solved by Newton's method in ln S while the composition of the pairs follows.

    Parameters
    ----------
    liquid
        liquid volume per bed volume [1]
    sites
        first guess of u, as returned by an earlier call
    tolerance
        largest change of ln S and of the pair composition in the last iteration [1]

    Returns
    -------
    conc, sites
        both of the shape of ``total``

    Raises
    ------
    ConvergenceError
        when a cell does not settle.

    >>> law = pair_law(("Nd", "Dy"), Book())
    >>> held = np.array([2.0, 1.0])
    >>> c, _ = equilibrate(held, 2.3, law, 0.94)
    >>> bool(np.allclose(0.94 * c + bound(c, 2.3, law), held))
    True
    """
    strength = np.broadcast_to(site_strength(pH, law), total.shape)
    return settle(total, strength, law, liquid, sites, tolerance)


def site_strength(pH: ArrayLike, law: PairLaw) -> Array:
    """sqrt(f K_ii) per concentration [m3/mol], shape (..., C) at ``pH`` (...)."""
    return np.asarray(np.exp(0.5 * (law.log_k + _log_f(pH, law)[..., None])) / C_STANDARD)


def settle(
    total: Array,
    strength: Array,
    law: PairLaw,
    liquid: float,
    sites: Array | None = None,
    tolerance: float = _TOLERANCE,
) -> tuple[Array, Array]:
    """``equilibrate`` at known ``site_strength`` (same shape as ``total``), for marching cells."""
    shape = total.shape
    columns = shape[-1]
    ones = np.ones(columns)
    held = np.maximum(total, law.capacity * _TRACE).reshape(-1, columns)
    strength = strength.reshape(-1, columns)
    free, protein = liquid / strength, 0.5 * law.capacity
    if sites is None:
        share = held / (held @ ones)[:, None]
        log_s = np.zeros(len(held))
    else:
        u = sites.reshape(-1, columns)
        amount = u @ ones
        share = u / amount[:, None]
        log_s = np.log(amount)
    change = np.inf
    # Sums over the short last axis run as products with ones, which are several times faster.
    for _ in range(_ITERATIONS):
        s = np.exp(log_s)
        mean = share @ law.kappa
        empty = 1 / (1 + 0.5 * ((share * mean) @ ones) * s * s)
        pairs = mean * (protein * s * s * empty)[:, None]
        held_at = free * s[:, None] + pairs
        per_site = held / held_at
        q = per_site @ ones
        slope = 1 - ((per_site * pairs / held_at) @ ones) * (1 - 2 * empty) / q
        step = np.log(q) / np.maximum(slope, _TRACE)
        step = np.minimum(np.maximum(step, -_LONGEST_STEP), _LONGEST_STEP)
        share_new = per_site / q[:, None]
        change = max(float(np.abs(step).max()), float(np.abs(share_new - share).max()))
        log_s, share = log_s + step, share_new
        if change < tolerance:
            u = share * np.exp(log_s)[:, None]
            return (u / strength).reshape(shape), u.reshape(shape)
    raise ConvergenceError(
        "the binding equilibrium of a column cell did not settle",
        trace=Trace(
            equation="two-site pair law",
            history=(change,),
            advice="check the pair constants: hetero pairs far from statistical settle slowly",
        ),
    )
