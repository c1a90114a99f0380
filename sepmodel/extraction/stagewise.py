"""Newton over all stages of a cascade whose component fluxes are exact.

The unknowns of a stage are those of its equilibrium model; component fluxes follow from them
(``chain``). What is left are the model's closures at every stage, solved together with the full
analytic Jacobian. Axis order: [member, stage, component].
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel import solvers
from sepmodel.chemistry.equilibrium import Equilibrium, Spot
from sepmodel.extraction import chain as chains
from sepmodel.extraction import chain_plain, linearised

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
    layout: chain_plain.Layout | None = field(default=None, repr=False)
    kept: Array = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.layout is None:
            object.__setattr__(self, "layout", chain_plain.layout(self.chain))
        object.__setattr__(self, "kept", 1.0 - self.chain.draw)


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
        layout=None if plan.layout is None else chain_plain.rows(plan.layout, members),
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


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class State:
    """Fluxes and spots at some unknowns: ``aqueous, organic`` (B, N, C) and flows of the ``links``
    (K, B, C) in plain numbers, or the exact ``fluxes`` where only those are known."""

    u: Array
    spot: Spot
    aqueous: Array | None = None
    organic: Array | None = None
    links: Array | None = None
    fluxes: chains.Fluxes | None = None


def approach(plan: Plan, u: Array) -> tuple[Array, State]:
    """As ``evaluate``, in plain numbers where the chain allows it."""
    if plan.layout is None:
        r, (fluxes, spot) = evaluate(plan, u)
        return r, State(u=u, spot=spot, fluxes=fluxes)
    first = plan.model.spot(u, plan.totals)
    aqueous, ratio, links = chain_plain.solve(plan.layout, first.log_d + plan.shift)
    organic = ratio * aqueous
    spot = plan.model.spot(
        u, plan.totals, aqueous / plan.flow_aq[..., None], organic / plan.flow_org[..., None]
    )
    assert spot.residual is not None
    return spot.residual, State(u=u, spot=spot, aqueous=aqueous, organic=organic, links=links)


def chosen(state: State, rows: NDArray[np.int64]) -> State:
    """The state of some members, in plain numbers."""

    def pick(a: Array | None, axis: int = 0) -> Array | None:
        return None if a is None else np.take(a, rows, axis=axis)

    spot: dict[str, Any] = {
        part.name: pick(getattr(state.spot, part.name)) for part in fields(state.spot)
    }
    return State(
        u=state.u[rows],
        spot=Spot(**spot),
        aqueous=pick(state.aqueous),
        organic=pick(state.organic),
        links=pick(state.links, 1),
    )


def concentrations(plan: Plan, state: State) -> tuple[Array, Array]:
    """Aqueous and organic concentrations of a state, (B, N, C)."""
    if state.fluxes is not None:
        aqueous, organic = np.exp(state.fluxes.aqueous), np.exp(state.fluxes.organic)
    else:
        assert state.aqueous is not None
        assert state.organic is not None
        aqueous, organic = state.aqueous, state.organic
    return aqueous / plan.flow_aq[..., None], organic / plan.flow_org[..., None]


def by_fluxes(plan: Plan, state: State) -> tuple[Array, Array]:
    """Derivatives of the closures by the ln of both fluxes, (B, N, m, C)."""
    conc_aq, conc_org = concentrations(plan, state)
    assert state.spot.by_aq is not None
    assert state.spot.by_org is not None
    return state.spot.by_aq * conc_aq[..., None, :], state.spot.by_org * conc_org[..., None, :]


def system(plan: Plan, state: State) -> linearised.System:
    """All equations linearised at a state."""
    spot = state.spot
    assert spot.by_aq is not None
    assert spot.by_org is not None
    assert spot.by_u is not None
    slope = np.broadcast_to(spot.slope, (*plan.shift.shape, spot.slope.shape[-1]))
    if state.fluxes is not None:
        by_l = spot.by_aq / plan.flow_aq[..., None, None]
        by_v = spot.by_org / plan.flow_org[..., None, None]
        return linearised.of_streams(plan.chain, state.fluxes, slope, by_l, by_v, spot.by_u)
    assert state.aqueous is not None
    assert state.organic is not None
    assert state.links is not None
    return linearised.of_fluxes(
        state.aqueous,
        state.organic,
        plan.kept,
        slope,
        *by_fluxes(plan, state),
        spot.by_u,
        tuple(
            (link.source, link.target, flow)
            for link, flow in zip(plan.chain.links, state.links, strict=True)
        ),
    )


def iterate(plan: Plan, start: Array, **options: Any) -> solvers.Solution:
    """Newton on a plan from unknowns (B, N, m)."""
    size, n = plan.flow_aq.shape
    m = plan.model.unknowns

    def residual(u: Array, who: NDArray[np.int64]) -> tuple[Array, Any]:
        part = take(plan, who)
        r, state = approach(part, u.reshape(who.size, n, m))
        return r.reshape(who.size, n * m), (part, state)

    def linearise(state: Any, who: NDArray[np.int64]) -> solvers.Linear:
        return linearised.closing(linearised.factorise(system(*state)))

    def select(state: Any, rows: NDArray[np.int64]) -> Any:
        return take(state[0], rows), chosen(state[1], rows)

    settings = {"tolerance": TOLERANCE, "accept": ACCEPT, "limit": LIMIT} | options
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        return solvers.newton(
            residual,
            linearise,
            start.reshape(size, n * m),
            select=None if plan.layout is None else select,
            **settings,
        )
