"""Constant-pattern theory of displacement: what one boundary of a displacement train does.

The train moves at v = u_s C_T / cap with cap = eps C_T + Q, the metal one bed volume holds (Q on
the resin). At a boundary the slow metal has mole fraction x, the fast one 1 - x, alpha > 1 is the
ratio of their ligand constants. Dispersion and the mass-transfer rate add to one mixing length

    Lambda = eps D C_T / (v Q) + v / k

and shape it as  xi(x) = -Lambda/(alpha - 1) [ln x - alpha ln(1 - x)].  Amounts below are lengths of
full train: moles divided by cap and cross-section.

Source: lad-theory.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel.errors import ConvergenceError, InputError, Problem, Trace

Array = NDArray[np.float64]

_TOLERANCE = 1e-12
_ITERATIONS = 100


def bed_capacity(void: float, ligand_conc: float, resin: float) -> float:
    """Metal held by one bed volume of train [mol/m3]: eps C_T + Q.

    >>> bed_capacity(0.4, 90.0, 360.0)
    396.0
    """
    return void * ligand_conc + resin


def train_velocity(velocity: float, ligand_conc: float, capacity: float) -> float:
    """Speed of the train [m/s]: u_s C_T / cap.

    >>> round(train_velocity(1e-4, 90.0, 396.0), 10)
    2.27273e-05
    """
    return velocity * ligand_conc / capacity


def mixing_length(
    velocity: float,
    ligand_conc: float,
    capacity: float,
    void: float,
    dispersion: float,
    rate: float,
) -> float:
    """Lambda [m] of axial dispersion (interstitial, m2/s) and a linear driving force (1/s).

    >>> round(mixing_length(1e-4, 90.0, 396.0, 0.4, 1e-7, 0.01), 7)
    0.0027127
    """
    speed = train_velocity(velocity, ligand_conc, capacity)
    resin = capacity - void * ligand_conc
    return void * dispersion * ligand_conc / (speed * resin) + speed / rate


def zone_length(alpha: ArrayLike, mixing: ArrayLike, edge: float = 1 / 2 / 10) -> Array:
    """Length of a boundary [m] from mole fraction ``edge`` to 1 - ``edge``.

    L_MTZ = Lambda (alpha + 1)/(alpha - 1) ln((1 - edge)/edge)

    >>> float(zone_length(1.585, 0.0027127).round(4))
    0.0353
    """
    a = _above_one(alpha)
    return np.asarray(mixing) * (a + 1) / (a - 1) * math.log((1 - edge) / edge)


def boundary_length(
    alpha: float,
    velocity: float,
    ligand_conc: float,
    void: float,
    resin: float,
    dispersion: float,
    rate: float,
) -> float:
    """Zone length [m], 5 % to 95 %, from what makes it: ``mixing_length``, then ``zone_length``.

    ``resin`` is the metal on the resin per bed volume [mol/m3].

    >>> round(boundary_length(1.8, 1e-4, 90.0, 0.4, 1080.0, 1e-6, 0.05), 5)
    0.04426
    """
    capacity = bed_capacity(void, ligand_conc, resin)
    mixing = mixing_length(velocity, ligand_conc, capacity, void, dispersion, rate)
    return float(zone_length(alpha, mixing))


def boundary_position(slow_fraction: ArrayLike, alpha: float, mixing: float) -> Array:
    """Where on the boundary [m] the slow metal has this mole fraction, upstream negative."""
    x = np.asarray(slow_fraction, dtype=float)
    a = _above_one(alpha)
    return np.asarray(-mixing / (a - 1) * (np.log(x) - a * np.log1p(-x)))


def minimum_position(alpha: ArrayLike) -> Array:
    """Column length over loaded band length at which a binary is just resolved.

    alpha / (alpha - 1), whatever the composition.

    >>> minimum_position([1.6, 1.8, 2.5, 50.0]).round(2).tolist()
    [2.67, 2.25, 1.67, 1.02]
    """
    a = _above_one(alpha)
    return np.asarray(a / (a - 1))


def minimum_travel(alpha: ArrayLike, fast_fraction: ArrayLike) -> Array:
    """Displacement after loading, in loaded band lengths, until the mixed zone vanishes.

    z + 1/(alpha - 1) with z the mole fraction of the faster metal in the load.

    >>> float(minimum_travel(1.5, 0.25))
    2.25
    """
    return np.asarray(fast_fraction) + 1 / (_above_one(alpha) - 1)


def front_cut(depth: float, alpha: float, mixing: float) -> tuple[float, float]:
    """Loss and contamination [m] of a slow band cut on its front (fast) side.

    The cut stands where the faster metal has mole fraction 1 - exp(-depth). Loss: slow metal beyond
    the cut; contamination: fast metal left behind it.

    >>> loss, contamination = front_cut(0.02, 1.585, 0.0027127)
    >>> round(loss, 4), round(contamination, 6)
    (0.0262, 0.000146)
    """
    scale, impurity = mixing / (alpha - 1), -math.expm1(-depth)
    loss = -alpha * math.log(impurity) - (alpha - 1) * (1 - impurity)
    return scale * loss, scale * (depth + (alpha - 1) * impurity)


def rear_cut(depth: float, alpha: float, mixing: float) -> tuple[float, float]:
    """Loss and contamination [m] of a fast band cut on its rear (slow) side.

    As ``front_cut``: the slower metal has mole fraction 1 - exp(-depth) at the cut.

    >>> rear_cut(0.02, 1.585, 0.0027127)[0] < front_cut(0.02, 1.585, 0.0027127)[0]
    True
    """
    scale, impurity = mixing / (alpha - 1), -math.expm1(-depth)
    loss = -math.log(impurity) + (alpha - 1) * (1 - impurity)
    return scale * loss, scale * (alpha * depth - (alpha - 1) * impurity)


def cuts(
    depth: float, front: float | None, rear: float | None, mixing: float
) -> tuple[float, float, float, float]:
    """Loss and contamination at the front, then at the rear [m]; ``front``, ``rear`` are alphas."""
    ahead = front_cut(depth, front, mixing) if front else (0.0, 0.0)
    behind = rear_cut(depth, rear, mixing) if rear else (0.0, 0.0)
    return *ahead, *behind


def pool_yield(
    band: float,
    purity: float,
    mixing: float,
    front: float | None = None,
    rear: float | None = None,
) -> float:
    """Largest share of a band [m] that can be pooled at a mole purity; 0 when none can.

    Both cuts stand at the same impurity, which is where the pool is largest. Conservative for bands
    shorter than ``resolved_band``: tails are taken as endless, real ones end with the next band.

    Parameters
    ----------
    front, rear
        alpha of the boundary to the faster and to the slower neighbour, None where there is none

    >>> round(pool_yield(0.0414, 0.99, 0.0027127, front=1.585), 3)
    0.384
    """
    return best_pool(band, purity, mixing, front, rear)[1]


def pool_depth(
    band: float,
    purity: float,
    mixing: float,
    front: float | None = None,
    rear: float | None = None,
) -> float | None:
    """-ln(1 - impurity) at the cuts of the largest pool of a purity; None when there is no pool."""
    return best_pool(band, purity, mixing, front, rear)[0]


def best_pool(
    band: float, purity: float, mixing: float, front: float | None, rear: float | None
) -> tuple[float | None, float]:
    """Depth -ln(1 - impurity) of the cuts of the largest pool of a purity, and its yield.

    Contamination = (1 - P)/P (band - loss), with e the impurity at the cuts and t = -ln(1 - e):

        contamination = A t + B e,   loss = -C ln e - B (1 - e)

    A = L_f + alpha_r L_r, C = alpha_f L_f + L_r with L = Lambda/(alpha - 1), and B = Lambda for
    every front less Lambda for every rear. The difference rises from e = 1 - P on, where its slope
    is zero: Newton's method, kept between bounds. (None, 0) when it is positive there already.
    """
    if front is None and rear is None:
        return math.inf, 1.0
    allowed = (1 - purity) / purity
    straight = loss_scale = curved = 0.0
    if front is not None:
        part = mixing / (front - 1)
        straight, loss_scale, curved = part, front * part, mixing
    if rear is not None:
        part = mixing / (rear - 1)
        straight, loss_scale, curved = (
            straight + rear * part,
            loss_scale + part,
            curved - mixing,
        )
    low, high = -math.log(purity), math.inf
    impurity = -math.expm1(-low)
    kept = band + loss_scale * math.log(impurity) + curved * (1 - impurity)
    if straight * low + curved * impurity > allowed * kept:
        return None, 0.0
    # Were nothing lost, the pool would take this much in.
    depth = max(2 * low, allowed * band / (straight + curved))
    for _ in range(_ITERATIONS):
        impurity = -math.expm1(-depth)
        pure = 1 - impurity
        kept = band + loss_scale * math.log(impurity) + curved * pure
        excess = straight * depth + curved * impurity - allowed * kept
        gained = loss_scale * pure / impurity - curved * pure
        slope = straight + curved * pure - allowed * gained
        step = excess / slope if slope > 0 else math.inf
        if abs(step) <= _TOLERANCE * depth:
            return depth, max(0.0, kept / band)
        if excess > 0:
            high = depth
        else:
            low = depth
        depth -= step
        if not low < depth < high:
            depth = 0.5 * (low + high) if high < math.inf else 2 * low
    raise ConvergenceError(
        "the cuts of a displacement pool did not settle",
        trace=Trace(equation="purity of a pool", history=(abs(step),)),
    )


def contamination_depth(
    allowed: float, front: float | None, rear: float | None, mixing: float
) -> float:
    """-ln(1 - impurity) at the cuts that let ``allowed`` [m] of the neighbours into a pool.

    Newton's method on (t + (a-1) e)/(a_f-1) + (a t - (a-1) e)/(a_r-1) with e = 1 - exp(-t).

    >>> depth = contamination_depth(1e-4, 1.5, 2.0, 0.002)
    >>> ahead, behind = front_cut(depth, 1.5, 0.002)[1], rear_cut(depth, 2.0, 0.002)[1]
    >>> round((ahead + behind) / 1e-4, 9)
    1.0
    """
    target = allowed / mixing
    linear, curved = 0.0, 0.0
    if front:
        linear, curved = linear + 1 / (front - 1), curved + 1
    if rear:
        linear, curved = linear + rear / (rear - 1), curved - 1
    depth = target / (linear + curved)
    for _ in range(_ITERATIONS):
        impurity = -math.expm1(-depth)
        value = linear * depth + curved * impurity - target
        step = value / (linear + curved * (1 - impurity))
        depth = max(depth - step, 0.5 * depth)
        if abs(step) <= _TOLERANCE * depth:
            return depth
    raise ConvergenceError(
        "the cut of a displacement pool did not settle",
        trace=Trace(equation="contamination of a pool", history=(abs(step),)),
    )


def resolved_band(alpha: float, mixing: float) -> float:
    """Band length [m] above which the closed-form yields hold: 3 alpha Lambda/(alpha - 1)."""
    return 3 * alpha * mixing / (alpha - 1)


def _above_one(alpha: ArrayLike) -> Array:
    a = np.asarray(alpha, dtype=float)
    if np.any(a <= 1):
        raise InputError(
            Problem(
                message="alpha is the faster over the slower metal",
                value=a.tolist(),
                expected="a number above 1",
            )
        )
    return a
