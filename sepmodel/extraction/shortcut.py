"""Closed forms of the mass-flow cascade: balances that are exact, and bounds on any design.

One unit of rare earth enters; ``S`` units travel with the organic, ``W`` return with the scrub.
Heavier means more extractable. Everything here is a balance or a bound: no function gives a stage
count to build. The closed-form counts in circulation (``n = ln b / ln(beta E)``) fall several
stages short of what stage-to-stage calculation needs, so counts come from ``design`` alone.

All functions work on scalars and on arrays that broadcast.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel.errors import InputError, Problem

Array = NDArray[np.float64]
# A root between two poles: relative to their distance, and in how many steps at most.
_CLOSE = 1e-14
_MOST_STEPS = 100


def purification_factors(
    purity_heavy: ArrayLike, purity_light: ArrayLike, feed_heavy: ArrayLike
) -> tuple[Any, Any]:
    """Purification of the heavy product, a, and of the light one, b.

    a = [P_A / (1 - P_A)] / (f_A / f_B) and b = [P_B / (1 - P_B)] / (f_B / f_A): A the heavier.

    Parameters
    ----------
    purity_heavy, purity_light
        mole fraction of A in the organic outlet and of B in the raffinate, between 0 and 1.
    feed_heavy
        mole fraction of A in the feed.

    Source: zzs16.

    >>> a, b = purification_factors(0.999, 0.9999, 0.5)
    >>> round(float(a), 3), round(float(b), 3)
    (999.0, 9999.0)
    """
    p_a, p_b, f = (np.asarray(v, dtype=float) for v in (purity_heavy, purity_light, feed_heavy))
    _fractions(purity_heavy=p_a, purity_light=p_b, feed_heavy=f)
    a = p_a / (1 - p_a) * (1 - f) / f
    b = p_b / (1 - p_b) * f / (1 - f)
    if np.any(a < 1) or np.any(b < 1):
        raise InputError(
            Problem(
                message="a product is asked to be less pure than the feed",
                key="purity",
                value=[np.ravel(p_a)[0].item(), np.ravel(p_b)[0].item()],
                expected="purities above the feed's",
            )
        )
    return a, b


def product_recoveries(
    purity_heavy: ArrayLike, purity_light: ArrayLike, feed_heavy: ArrayLike
) -> tuple[Any, Any]:
    """Recoveries Y_A = a (b - 1)/(a b - 1) and Y_B = b (a - 1)/(a b - 1) that two purities imply.

    >>> y_a, _ = product_recoveries(0.995, 0.995, 0.75)
    >>> round(float(y_a), 5)
    0.99835
    """
    a, b = purification_factors(purity_heavy, purity_light, feed_heavy)
    return a * (b - 1) / (a * b - 1), b * (a - 1) / (a * b - 1)


def product_flows(
    purity_heavy: ArrayLike, purity_light: ArrayLike, feed_heavy: ArrayLike
) -> tuple[Any, Any]:
    """Total flows of the organic product and of the raffinate, f'_A + f'_B = 1.

    f'_A = f_A Y_A / P_A and f'_B = f_B Y_B / P_B.

    >>> f_a, f_b = product_flows(0.999, 0.9999, 0.5)
    >>> round(float(f_a), 7), round(float(f_b), 7)
    (0.5004505, 0.4995495)
    """
    y_a, y_b = product_recoveries(purity_heavy, purity_light, feed_heavy)
    f = np.asarray(feed_heavy, dtype=float)
    return f * y_a / np.asarray(purity_heavy), (1 - f) * y_b / np.asarray(purity_light)


def scrub_flow(solvent: ArrayLike, organic_product: ArrayLike) -> Any:
    """Scrub W = S - f'_A for an aqueous feed, in the units of ``solvent``.

    >>> f_a, _ = product_flows(0.999, 0.9999, 0.5)
    >>> round(float(scrub_flow(1.7086449, f_a)), 7)
    1.2081944
    """
    return np.asarray(solvent, dtype=float) - np.asarray(organic_product, dtype=float)


def fenske(purity_heavy: ArrayLike, purity_light: ArrayLike, separation_factor: ArrayLike) -> Any:
    """Least number of stages, at total reflux: N = ln[P_A/(1-P_A) P_B/(1-P_B)] / ln(beta).

    Infinite for beta = 1. A bound: no circuit with a product needs fewer.

    >>> round(float(fenske(0.995, 0.995, 1.5)), 1), round(float(fenske(0.999, 0.9999, 2.0)), 1)
    (26.1, 23.3)
    """
    p_a, p_b = np.asarray(purity_heavy, dtype=float), np.asarray(purity_light, dtype=float)
    _fractions(purity_heavy=p_a, purity_light=p_b)
    beta = _factor(separation_factor)
    with np.errstate(divide="ignore"):
        return np.log(p_a / (1 - p_a) * p_b / (1 - p_b)) / np.log(beta)


def kremser_fraction(extraction_factor: ArrayLike, stages: ArrayLike) -> Any:
    """Approach to equilibrium left after N stages at constant E = D O/A.

    (x_out - y_in/D) / (x_in - y_in/D) = (E - 1) / (E^(N+1) - 1), and 1/(N + 1) at E = 1. With
    fresh solvent (y_in = 0) it is the fraction not extracted; with a solvent that arrives loaded
    (a recycle) use ``kremser_raffinate``.

    >>> round(1 - float(kremser_fraction(10 / 3, 1)), 2)
    0.77
    >>> float(kremser_fraction(1.0, 4))
    0.2
    """
    e, n = np.asarray(extraction_factor, dtype=float), np.asarray(stages, dtype=float)
    if np.any(e < 0) or np.any(n < 0):
        raise InputError(Problem(message="an extraction factor or stage count is negative"))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        log = np.log(e)
        # Below E = 1 the form with falling powers, above it the one that cannot overflow.
        small = np.expm1(log) / np.expm1((n + 1) * log)
        large = np.exp(-n * log) * np.expm1(-log) / np.expm1(-(n + 1) * log)
        return np.where(log == 0, 1 / (n + 1), np.where(log < 0, small, large))


def kremser_raffinate(
    feed: ArrayLike,
    solvent_in: ArrayLike,
    distribution_ratio: ArrayLike,
    phase_ratio: ArrayLike,
    stages: ArrayLike,
) -> Any:
    """Concentration leaving in the aqueous, both inlets loaded, at constant D.

    x_out = y_in/D + (x_in - y_in/D) (E - 1)/(E^(N+1) - 1), E = D O/A.

    Parameters
    ----------
    feed, solvent_in
        x_in and y_in, any one unit of concentration.
    distribution_ratio, phase_ratio
        D (above 0) and O/A.

    >>> round(float(kremser_raffinate(1.0, 0.5, 2.0, 0.5, 3)), 6)
    0.4375
    """
    x, y = np.asarray(feed, dtype=float), np.asarray(solvent_in, dtype=float)
    d = np.asarray(distribution_ratio, dtype=float)
    rest = y / d
    return rest + (x - rest) * kremser_fraction(d * np.asarray(phase_ratio, dtype=float), stages)


def kremser_stages(extraction_factor: ArrayLike, ratio: ArrayLike) -> Any:
    """Stages that reach x_in/x_out = ``ratio`` with fresh solvent at constant E.

    N = ln[ratio (1 - 1/E) + 1/E] / ln E, and ratio - 1 at E = 1; infinite where no number of
    stages reaches it (ratio above 1/(1 - E), E below 1).

    >>> round(float(kremser_stages(10 / 3, 1000.0)), 1)
    5.4
    >>> float(kremser_stages(1.0, 5.0)), float(kremser_stages(0.5, 3.0))
    (4.0, inf)
    """
    e, r = np.asarray(extraction_factor, dtype=float), np.asarray(ratio, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        argument = r * (1 - 1 / e) + 1 / e
        reached = np.log(np.where(argument > 0, argument, 1)) / np.log(e)
        result = np.where(argument > 0, reached, np.inf)
    return np.where(e == 1, r - 1, result)


def minimum_flows(
    separation_factor: ArrayLike, feed_heavy: ArrayLike, feed_phase: str = "aqueous"
) -> tuple[Any, Any]:
    """Least solvent and scrub (S, W) for a sharp binary split with endless stages.

    Aqueous feed: S = f_A + 1/(beta - 1), W = 1/(beta - 1).
    Organic feed: S = 1/(beta - 1), W = f_B + 1/(beta - 1).

    Sources: cheng2014, zzs16; the aqueous pair was checked stage by stage.

    >>> s, w = minimum_flows(1.5, 0.75)
    >>> float(s), float(w)
    (2.75, 2.0)
    """
    beta, f = _factor(separation_factor), np.asarray(feed_heavy, dtype=float)
    with np.errstate(divide="ignore"):
        reflux = 1 / (beta - 1)
    if _phase(feed_phase) == "aqueous":
        return reflux + f, reflux + np.zeros_like(f)
    return reflux + np.zeros_like(f), reflux + (1 - f)


def minimum_solvent(
    extractability: ArrayLike,
    feed: ArrayLike,
    organic_product: ArrayLike,
    cut: int,
    feed_phase: str = "aqueous",
) -> Any:
    """Least solvent S for any number of components and any product purities, endless stages.

    The cascade at constant S and W is a column of constant molar overflow, so Underwood's
    equations hold exactly: sum a f/(a - theta) = 1 - q with theta between the two elements at the
    cut (q = 1 for an aqueous feed, 0 for an organic one), then S' = sum a d/(a - theta) in the
    scrub section, which is S, or S + 1 when the feed enters with the organic. Exact when only the
    two elements at the cut are found in both products; elsewhere a bound.

    Parameters
    ----------
    extractability
        a, ascending, shape (..., C).
    feed, organic_product
        flows f and d of each component, shape (..., C); S comes in their unit.
    cut
        how many components (the lightest) go to the raffinate, 1 to C - 1.

    >>> round(float(minimum_solvent([1.0, 1.5], [0.25, 0.75], [0.0, 0.75], 1)), 12)
    2.75
    """
    a, f, d = (np.asarray(v, dtype=float) for v in (extractability, feed, organic_product))
    if not 0 < cut < a.shape[-1]:
        raise InputError(
            Problem(message="a cut leaves components on both sides", key="cut", value=cut)
        )
    if np.any(np.diff(a, axis=-1) < 0):
        raise InputError(Problem(message="extractabilities are not in ascending order"))
    total = f.sum(axis=-1)
    share = f / total[..., None]
    vapour = 0.0 if _phase(feed_phase) == "aqueous" else 1.0
    below, above = a[..., cut - 1] + np.zeros_like(total), a[..., cut] + np.zeros_like(total)
    theta = _between(a, share, below, above, vapour)
    with np.errstate(divide="ignore", invalid="ignore"):
        solvent = _weighted(a, d, theta)
    solvent = np.where(a[..., cut] > a[..., cut - 1], solvent, np.inf)
    return solvent - vapour * total


def _between(a: Array, share: Array, below: Array, above: Array, target: float) -> Any:
    """Root theta of sum a f/(a - theta) = target between two neighbouring a.

    Newton on the sum times (theta - below)(above - theta), which has no poles there and is linear
    for two components; bisection whenever a step would leave the bracket.
    """
    low, high = below, above
    theta = 0.5 * (low + high)
    weight = a * share
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(_MOST_STEPS):
            gap = a - theta[..., None]
            term = np.where(share > 0, weight / gap, 0.0)
            value = term.sum(axis=-1) - target
            slope = np.where(share > 0, term / gap, 0.0).sum(axis=-1)
            low, high = np.where(value > 0, low, theta), np.where(value > 0, theta, high)
            room = (theta - below) * (above - theta)
            step = room * value / ((below + above - 2 * theta) * value + room * slope)
            new = theta - step
            new = np.where((new > low) & (new < high), new, 0.5 * (low + high))
            done = np.abs(new - theta) <= _CLOSE * (above - below)
            theta = new
            if np.all(done | (above <= below)):
                break
    return theta


def _weighted(a: Array, flows: Array, theta: Array) -> Any:
    """sum a f/(a - theta) over the components; nothing for a component without flow."""
    gap = a - theta[..., None]
    return np.sum(np.where(flows > 0, a * flows / gap, 0.0), axis=-1)


def fenske_multicomponent(
    extractability: ArrayLike, raffinate: ArrayLike, organic: ArrayLike, cut: int
) -> Any:
    """Least stages between two products of many components, from the two elements at the cut.

    N = ln[(d_h/d_l) (r_l/r_h)] / ln(a_h/a_l), l and h the elements on either side of the cut.

    >>> round(float(fenske_multicomponent([1, 2], [0.9999, 0.0001], [0.001, 0.999], 1)), 1)
    23.3
    """
    a, r, d = (np.asarray(v, dtype=float) for v in (extractability, raffinate, organic))
    light, heavy = cut - 1, cut
    with np.errstate(divide="ignore"):
        return np.log(d[..., heavy] / d[..., light] * r[..., light] / r[..., heavy]) / np.log(
            a[..., heavy] / a[..., light]
        )


def optimum_ratios(separation_factor: ArrayLike, raffinate_flow: ArrayLike) -> tuple[Any, Any, Any]:
    """Mixed extraction ratios E (extraction) and E' (scrub) of the classic rule, aqueous feed.

    Extraction controls where f'_B > sqrt(beta)/(1 + sqrt(beta)): E = 1/sqrt(beta) and
    E' = E f'_A/(E - f'_B). Else scrub controls: E' = sqrt(beta) and E = E' f'_B/(E' - f'_A).
    A rule of thumb for a first choice of S = E' W, W = f'_A/(E' - 1), not an optimum of cost.

    Returns
    -------
    E, E' and whether extraction controls.

    Source: zzs16.

    >>> e, e_scrub, controls = optimum_ratios(2.0, 0.4995495)
    >>> round(float(e), 3), round(float(e_scrub), 3), bool(controls)
    (0.773, 1.414, False)
    """
    root, f_b = np.sqrt(_factor(separation_factor)), np.asarray(raffinate_flow, dtype=float)
    f_a = 1 - f_b
    controls = f_b > root / (1 + root)
    with np.errstate(divide="ignore", invalid="ignore"):
        extraction = np.where(controls, 1 / root, root * f_b / (root - f_a))
        scrub = np.where(controls, f_a / root / (1 / root - f_b), root)
    return extraction, scrub, controls


def optimum_reflux(separation_factor: ArrayLike) -> Any:
    """Reflux 1/(sqrt(beta) - 1) of the classic rule (zzs16).

    >>> round(float(optimum_reflux(1.5)), 2), round(float(optimum_reflux(2.0)), 2)
    (4.45, 2.41)
    """
    with np.errstate(divide="ignore"):
        return 1 / (np.sqrt(_factor(separation_factor)) - 1)


def pinch(
    separation_factor: ArrayLike, solvent: ArrayLike, aqueous: ArrayLike, net: ArrayLike
) -> tuple[Any, Any]:
    """Aqueous compositions x at which a binary section makes no progress, the lower one first.

    Equilibrium y = beta x/(1 + (beta - 1) x) meets the operating line S y = L x - c where
    (beta - 1) L x^2 + [L - c (beta - 1) - S beta] x - c = 0.

    Parameters
    ----------
    solvent, aqueous
        S and L (W + 1 in the extraction section of an aqueous feed, W in the scrub section).
    net
        c, net flow of the heavy element with the aqueous: f'_B (1 - P_B) in the extraction
        section, -f'_A P_A in the scrub section.

    Values outside 0 to 1 mean that the section has no such pinch.

    >>> low, high = pinch(1.5, 2.75, 3.0, 0.0)
    >>> abs(round(float(low), 12)), round(float(high), 12)
    (0.0, 0.75)
    """
    beta, s, flow, c = (
        np.asarray(v, dtype=float) for v in (separation_factor, solvent, aqueous, net)
    )
    square, linear = (beta - 1) * flow, flow - c * (beta - 1) - s * beta
    root = np.sqrt(np.maximum(linear * linear + 4 * square * c, 0.0))
    # The larger root without cancellation, the other from the product of both.
    larger = np.where(linear < 0, (root - linear) / (2 * square), (-linear - root) / (2 * square))
    with np.errstate(divide="ignore", invalid="ignore"):
        other = np.where(larger != 0, -c / square / larger, 0.0)
    return np.minimum(larger, other), np.maximum(larger, other)


def _factor(value: ArrayLike) -> Array:
    beta = np.asarray(value, dtype=float)
    if not np.all(beta >= 1):
        raise InputError(
            Problem(
                message="a separation factor is the heavier to the lighter",
                key="separation_factor",
                value=np.ravel(beta)[0].item(),
                expected="a number of at least 1",
            )
        )
    return beta


def _fractions(**values: Array) -> None:
    problems = [
        Problem(
            message=f"{key} is a fraction",
            key=key,
            value=np.ravel(value)[0].item(),
            expected="a number above 0 and below 1",
        )
        for key, value in values.items()
        if not np.all((value > 0) & (value < 1))
    ]
    if problems:
        raise InputError(problems)


def _phase(name: str) -> str:
    if name not in ("aqueous", "organic"):
        raise InputError(
            Problem(message="unknown phase", value=name, expected="aqueous or organic")
        )
    return name
