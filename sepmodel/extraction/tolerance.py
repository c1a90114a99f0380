"""How tightly a designed circuit must be run: derivatives of its outlets by everything it is fed.

Mass-flow circuits by implicit differentiation: with the closures r(u, p) = 0 of all stages,
du/dp = -(dr/du)^-1 dr/dp, and outlets follow along (du, dp). What is smooth and explicit is
differentiated by a four-point stencil over all parameters at once, so the closures are not solved
again. Mass-action circuits: ``extraction.derivatives``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sepmodel import products
from sepmodel.errors import InputError, Problem
from sepmodel.extraction import cascade, linearised, stagewise
from sepmodel.extraction import chain as chains

Array = NDArray[np.float64]

# Step of the central stencil in ln p, and of the one-sided one for what cannot be negative.
STEP = 1e-5
CENTRAL = ((-2.0, 1.0), (-1.0, -8.0), (1.0, 8.0), (2.0, -1.0))
ONE_SIDED = ((0.0, -3.0), (1.0, 4.0), (2.0, -1.0))
SMALL = 1e-6
# Parameters that start from nothing: a part of the stages' efficiency, of each phase carried along.
FROM_ZERO = ("inefficiency", "aqueous_carried", "organic_carried")


@dataclass(frozen=True, kw_only=True, slots=True)
class Quality:
    """A figure of an outlet to be held: logit of a purity, or logit of a recovery.

    ``elements`` counted together on ``basis``; ``asked`` is the specification, or None.
    """

    name: str
    outlet: str
    kind: str
    elements: tuple[str, ...]
    basis: str
    asked: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Sensitivity:
    """d logit(quality) / d ln(parameter), shape (qualities, parameters), and the values now.

    For the parameters of ``FROM_ZERO`` the derivative is by the part itself. ``purity_slope`` is
    dP/d ln p = P (1 - P) d logit/d ln p.
    """

    qualities: tuple[Quality, ...]
    parameters: tuple[str, ...]
    values: Array
    reached: Array

    @property
    def purity_slope(self) -> Array:
        """Change of the figure itself per unit of ln p, (qualities, parameters)."""
        out: Array = self.values * (self.reached * (1 - self.reached))[:, None]
        return out

    def of(self, quality: str, parameter: str) -> float:
        """One derivative by name."""
        names = [q.name for q in self.qualities]
        return float(self.values[names.index(quality), self.parameters.index(parameter)])

    def margin(self) -> Array:
        """logit(reached) - logit(asked); NaN where nothing is asked."""
        asked = np.array([np.nan if q.asked is None else q.asked for q in self.qualities])
        return _logit(self.reached) - _logit(asked)

    def allowed(self, parameter: str) -> tuple[float, float]:
        """Relative change of a parameter, down and up, that uses up the first margin."""
        low, high = -np.inf, np.inf
        column = self.values[:, self.parameters.index(parameter)]
        for slope, margin in zip(column, self.margin(), strict=True):
            if np.isnan(margin) or slope == 0:
                continue
            edge = -max(margin, 0.0) / slope
            low, high = (
                (max(low, edge), high) if edge <= 0 and slope > 0 else (low, min(high, edge))
            )
        return float(np.expm1(low)) if np.isfinite(low) else -1.0, float(np.expm1(min(high, 1.0)))

    def doubling(self, parameter: str) -> float:
        """Relative change of a parameter that doubles what is lost or foreign somewhere."""
        column = np.abs(self.values[:, self.parameters.index(parameter)])
        worst = float(column.max())
        return float(np.expm1(min(np.log(2.0) / worst, 1.0))) if worst > 0 else float("inf")


def _logit(share: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        out: Array = np.log(share) - np.log1p(-share)
    return out


def parameters(inputs: cascade.MassFlowInputs) -> tuple[str, ...]:
    """Names of all parameters of a single mass-flow cascade.

    ``solvent`` S alone, ``scrub`` W alone, ``both``: S and W together (the split follows),
    ``feed:Nd`` the flow of one element, ``factor:Nd/Pr`` the separation factor of neighbours,
    ``inefficiency`` 1 - E of all stages, ``aqueous_carried`` and ``organic_carried``: the part of a
    leaving phase that goes along with the other one, ``draw:name`` the flow of a side draw.
    """
    a = np.asarray(inputs.extractability, dtype=float)
    order = np.argsort(a, kind="stable")
    names = [inputs.components[i] for i in order]
    pairs = [f"factor:{heavy}/{light}" for light, heavy in pairwise(names)]
    return (
        "solvent",
        "scrub",
        "both",
        *(f"feed:{c}" for c in names),
        *pairs,
        *FROM_ZERO,
        *(f"draw:{draw.name}" for draw in inputs.draws),
    )


def mass_flow(
    inputs: cascade.MassFlowInputs,
    theta: Array,
    qualities: Sequence[Quality],
    names: Sequence[str] | None = None,
) -> Sensitivity:
    """Derivatives of outlets of a solved mass-flow cascade with one feed.

    Parameters
    ----------
    inputs
        a single cascade (no batch).
    theta
        its solution, shape (N,), from ``cascade.solve``.
    qualities
        what is differentiated; outlets are called as in ``CascadeResult.outlets``.

    >>> feed = cascade.Inlet(name="feed", phase="aqueous", stage=27, flows=np.array([0.25, 0.75]))
    >>> inputs = cascade.MassFlowInputs(
    ...     components=("Pr", "Nd"), extractability=np.array([1.0, 1.4]), stages=51,
    ...     solvent=4.3581145, scrub=3.6055892, inlets=(feed,))
    >>> nd = Quality(name="Nd", outlet="loaded_organic", kind="purity", elements=("Nd",),
    ...     basis="mole")
    >>> found = mass_flow(inputs, cascade.solve(inputs).theta, [nd], ["solvent"])
    >>> bool(found.values[0, 0] < -100)
    True
    """
    names = parameters(inputs) if names is None else tuple(names)
    base_plan = cascade.plan_of(inputs)[0]
    u = np.asarray(theta, dtype=float)[None, :, None]
    if base_plan.flow_aq.shape[0] != 1:
        raise InputError(Problem(message="derivatives are taken of one cascade at a time"))
    _, state = stagewise.approach(base_plan, u)
    corrected = linearised.closing(linearised.factorise(stagewise.system(base_plan, state)))
    values = np.zeros((len(qualities), len(names)))
    started = [n for n in names if n in FROM_ZERO]
    others = [n for n in names if n not in FROM_ZERO]
    groups: list[tuple[bool, list[str], tuple[tuple[float, float], ...], float]] = [
        (True, started, ONE_SIDED, SMALL),
        (False, others, CENTRAL, STEP),
    ]
    for from_zero, group, stencil, step in groups:
        if not group:
            continue
        scale = 2.0 if from_zero else 4.0 * 3.0
        weights = np.array([w for _, w in stencil]) / (scale * step)
        offsets = np.array([s * step for s, _ in stencil])
        plan, drawn = _varied(inputs, group, offsets)
        shape = (len(group), len(offsets))

        def change(a: Array, shape: tuple[int, int] = shape, weights: Array = weights) -> Array:
            out: Array = np.tensordot(a.reshape(*shape, *a.shape[1:]), weights, axes=(1, 0))
            return out

        size = shape[0] * shape[1]
        whole = np.broadcast_to(u, (size, *u.shape[1:]))
        r, _ = stagewise.evaluate(plan, np.ascontiguousarray(whole))
        by_p = change(r[..., 0])
        u_p = -corrected(by_p, np.zeros(len(group), dtype=np.int64))
        moved = whole + (offsets[None, :, None] * u_p[:, None]).reshape(size, -1, 1)
        _, (fluxes, _) = stagewise.evaluate(plan, np.ascontiguousarray(moved))
        figures = np.stack([_figure(inputs, q, fluxes, plan, drawn) for q in qualities], axis=-1)
        columns = [names.index(n) for n in group]
        values[:, columns] = change(figures).T
    solved = cascade.solve(inputs, guess=theta)
    reached = np.array([reach(inputs, q, solved.outlets[q.outlet]) for q in qualities])
    return Sensitivity(
        qualities=tuple(qualities), parameters=tuple(names), values=values, reached=reached
    )


def reach(inputs: cascade.MassFlowInputs, quality: Quality, moles: Array) -> float:
    """The purity or recovery of an outlet's flows (C,)."""
    by_name = dict(zip(inputs.components, moles.tolist(), strict=True))
    if quality.kind == "purity":
        return products.purity(by_name, quality.elements, quality.basis)
    fed = sum((np.asarray(i.flows, dtype=float) for i in inputs.inlets), start=np.zeros(len(moles)))
    feed = dict(zip(inputs.components, fed.tolist(), strict=True))
    return products.recovery(by_name, feed, quality.elements, quality.basis)


def _figure(
    inputs: cascade.MassFlowInputs,
    quality: Quality,
    fluxes: chains.Fluxes,
    plan: stagewise.Plan,
    drawn: Mapping[str, tuple[int, int, Array]],
) -> Array:
    """logit of a quality of each member, (B,), from the logarithms of the fluxes."""
    weight = np.log([products.amounts({c: 1.0}, quality.basis)[c] for c in inputs.components])
    own = np.array([c in quality.elements for c in inputs.components])
    out = _leaving(quality.outlet, fluxes, drawn) + weight
    inside = np.logaddexp.reduce(out[:, own], axis=-1)
    if quality.kind == "purity":
        return np.asarray(inside - np.logaddexp.reduce(out[:, ~own], axis=-1))
    others = [
        _leaving(name, fluxes, drawn)[:, own] + weight[own]
        for name in ("raffinate", "loaded_organic", *drawn)
        if name != quality.outlet
    ]
    return np.asarray(inside - np.logaddexp.reduce(np.concatenate(others, axis=-1), axis=-1))


def _leaving(
    outlet: str, fluxes: chains.Fluxes, drawn: Mapping[str, tuple[int, int, Array]]
) -> Array:
    """ln of the flows that leave by an outlet, (B, C)."""
    if outlet == "raffinate":
        return fluxes.down[:, 0]
    if outlet == "loaded_organic":
        return fluxes.up[:, -1]
    stage, phase, fraction = drawn[outlet]
    leaving = fluxes.down if phase == 0 else fluxes.up
    return np.asarray(leaving[:, stage] + chains.log(fraction)[:, None])


def _varied(
    inputs: cascade.MassFlowInputs, names: Sequence[str], offsets: Array
) -> tuple[stagewise.Plan, dict[str, tuple[int, int, Array]]]:
    """The plan of a batch in which each parameter in turn is moved by the offsets."""
    size = len(names) * len(offsets)
    steps = {n: np.zeros(size) for n in names}
    for k, n in enumerate(names):
        steps[n][k * len(offsets) : (k + 1) * len(offsets)] = offsets
    none = np.zeros(size)

    def by(*which: str) -> Array:
        return np.exp(sum((steps.get(n, none) for n in which), start=none))

    a = np.asarray(inputs.extractability, dtype=float)
    order = np.argsort(a, kind="stable")
    log_a = np.repeat(np.log(a)[None], size, axis=0)
    for light, heavy in pairwise(order):
        pair = f"factor:{inputs.components[heavy]}/{inputs.components[light]}"
        log_a[:, a >= a[heavy]] += steps.get(pair, none)[:, None]
    efficiency = np.asarray(inputs.efficiency, dtype=float)
    lost = steps.get("inefficiency", none)[:, None, None]
    inlets = tuple(
        replace(
            inlet,
            flows=np.stack([by(f"feed:{c}") for c in inputs.components], axis=-1)
            * np.asarray(inlet.flows, dtype=float),
        )
        for inlet in inputs.inlets
    )
    varied = replace(
        inputs,
        extractability=np.exp(log_a),
        solvent=by("solvent", "both") * float(np.asarray(inputs.solvent)),
        scrub=by("scrub", "both") * float(np.asarray(inputs.scrub)),
        inlets=inlets,
        draws=tuple(
            replace(d, flow=by(f"draw:{d.name}") * float(np.asarray(d.flow))) for d in inputs.draws
        ),
        efficiency=np.maximum(efficiency * (1.0 - lost), 0.0),
    )
    plan, fractions = cascade.plan_of(varied)
    carried = np.stack([steps.get(n, none) for n in FROM_ZERO[1:]])
    if carried.any():
        carry = np.broadcast_to(carried[:, :, None, None], (2, size, inputs.stages, 1))
        plan = replace(plan, chain=replace(plan.chain, carry=np.ascontiguousarray(carry)))
    return plan, fractions
