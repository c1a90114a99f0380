"""Newton over all stages of a cascade whose component fluxes are exact.

The unknowns of a stage are those of its equilibrium model; component fluxes follow from them
(``chain``). What is left are the model's closures at every stage, solved together with the full
analytic Jacobian. Axis order: [member, stage, component].
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel import solvers
from sepmodel.chemistry.equilibrium import Equilibrium
from sepmodel.extraction import chain as chains

Array = NDArray[np.float64]

TOLERANCE = 1e-13
# A residual that no longer falls below this is rounding.
ACCEPT = 1e-10
LIMIT = 64


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Plan:
    """A cascade as arrays over members and stages, ready for Newton.

    ``shift`` (B, N, C) is added to ln D to make the ln of the flux ratio; ``totals`` (B, N, T) go
    to the model; ``flow_aq, flow_org`` (B, N); ``outlets``: name -> stage, phase, fraction (B,).
    """

    batch: tuple[int, ...]
    model: Equilibrium
    chain: chains.Chain
    shift: Array
    totals: Array
    flow_aq: Array
    flow_org: Array
    outlets: dict[str, tuple[int, int, Array]] = field(default_factory=dict)


def take(plan: Plan, members: NDArray[np.int64]) -> Plan:
    """The plan of some members."""
    size = plan.flow_aq.shape[0]
    if members.size == size:
        return plan
    c = plan.chain

    def pick(a: Array, axis: int) -> Array:
        return a if a.shape[axis] == 1 and size > 1 else np.take(a, members, axis=axis)

    chain = chains.Chain(
        feed=pick(c.feed, 1),
        draw=pick(c.draw, 1),
        bypass=None if c.bypass is None else pick(c.bypass, 0),
        carry=None if c.carry is None else pick(c.carry, 1),
        links=tuple(replace(link, share=pick(link.share, 0)) for link in c.links),
    )
    return replace(
        plan,
        chain=chain,
        shift=plan.shift[members],
        totals=plan.totals[members],
        flow_aq=plan.flow_aq[members],
        flow_org=plan.flow_org[members],
    )


def evaluate(plan: Plan, u: Array) -> tuple[Array, Any]:
    """Closure residuals (B, N, m) at unknowns u (B, N, m), and the fluxes and the spot."""
    first = plan.model.spot(u, plan.totals)
    fluxes = chains.solve(plan.chain, first.log_d + plan.shift)
    spot = plan.model.spot(
        u,
        plan.totals,
        np.exp(fluxes.aqueous) / plan.flow_aq[..., None],
        np.exp(fluxes.organic) / plan.flow_org[..., None],
    )
    assert spot.residual is not None
    return spot.residual, (fluxes, spot)


def matrix(plan: Plan, state: Any) -> Array:
    """Derivative of all closures by the active unknowns, (B, N, m, N, a), through the fluxes."""
    fluxes, spot = state
    return chains.jacobian(
        plan.chain,
        fluxes,
        spot.slope,
        spot.by_aq / plan.flow_aq[..., None, None],
        spot.by_org / plan.flow_org[..., None, None],
    )


def full_matrix(plan: Plan, state: Any) -> Array:
    """Jacobian of all closures by all unknowns, (B, N m, N m)."""
    full = matrix(plan, state)
    members, stages, m = full.shape[:3]
    n = np.arange(stages)
    full[:, n, :, n, :] += np.swapaxes(state[1].by_u, 0, 1)
    return full.reshape(members, stages * m, stages * m)


def _one_by_one(matrices: Array, r: Array) -> Array:
    """Steps of a batch in which a matrix is singular: NaN for that member, which ends it alone."""
    out = np.full_like(r, np.nan)
    for member, (matrix_, right) in enumerate(zip(matrices, r, strict=True)):
        try:
            out[member] = np.linalg.solve(matrix_, right)
        except np.linalg.LinAlgError:
            continue
    return out


def iterate(plan: Plan, start: Array, **options: Any) -> solvers.Solution:
    """Newton on a plan from unknowns (B, N, m)."""
    size, n = plan.flow_aq.shape
    m = plan.model.unknowns

    def residual(u: Array, who: NDArray[np.int64]) -> tuple[Array, Any]:
        part = take(plan, who)
        r, state = evaluate(part, u.reshape(who.size, n, m))
        return r.reshape(who.size, n * m), (part, state)

    def linearise(state: Any, who: NDArray[np.int64]) -> solvers.Linear:
        full = full_matrix(*state)

        def step(r: Array, rows: NDArray[np.int64]) -> Array:
            chosen = full if rows.size == full.shape[0] else full[rows]
            out = np.empty_like(r)
            try:
                out[:] = np.linalg.solve(chosen, r[..., None])[..., 0]
            except np.linalg.LinAlgError:
                out = _one_by_one(chosen, r)
            return out

        return step

    settings = {"tolerance": TOLERANCE, "accept": ACCEPT, "limit": LIMIT} | options
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        return solvers.newton(residual, linearise, start.reshape(size, n * m), **settings)
