"""Extraction circuits by mass action: sections in series, inlets, draws, organic loop closed.

Per stage the unknowns are those of the equilibrium model alone (for the usual acidic extractant
one, ln of free dimer over proton). Given them, all component fluxes follow exactly from their
linear balances (``chain``); Newton closes dimer and charge of all stages together, with the full
analytic Jacobian. A first guess comes from the same circuit with fewer stages.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel import solvers
from sepmodel.chemistry.cation_exchange import C_STANDARD
from sepmodel.extraction import chain as chains
from sepmodel.extraction import chain_plain, circuit_failure, circuit_lift
from sepmodel.extraction.circuit_levels import cold, patient, physical
from sepmodel.extraction.circuit_plan import (
    PHASES,
    CircuitInputs,
    Draw,
    Inlet,
    Section,
    leaving,
    prepare,
)
from sepmodel.extraction.stagewise import Plan, State, approach, evaluate, iterate, take

__all__ = [
    "CircuitInputs",
    "CircuitResult",
    "Draw",
    "Inlet",
    "Outlet",
    "Section",
    "prepare",
    "solve",
]

Array = NDArray[np.float64]

# Iterations from a caller's guess before it is given up.
GUESSED = 32
# Below this [mol/s] a flux has lost its meaning in plain numbers.
SMALLEST = 1e-300


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Outlet:
    """A stream that leaves: ``flow`` [m3/s] (...), ``moles`` [mol/s] (..., C), ``log_moles`` its
    natural logarithm, ``proton`` free acid [mol/m3] (...) of an aqueous stream."""

    phase: str
    flow: Array
    moles: Array
    log_moles: Array
    proton: Array


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class CircuitResult:
    """A solved circuit, leading batch axes (...), N stages, C components.

    Fluxes [mol/s] ``aqueous, organic`` (..., N, C) leave each stage before draws, with natural
    logarithms ``log_aqueous, log_organic``; ``conc_aq, conc_org`` [mol/m3]. ``free`` (..., N, F)
    free extractant and protons [mol/m3]; ``proton`` (..., N) and ``ph``; ``loading`` (..., N) the
    bound part of the extractant. ``recycle`` (..., C) is what the returning organic carries over
    what is fed. ``supplied`` (..., C) [mol/s] is what the reset components are given (base).
    ``closure`` holds the largest relative errors: component (global), local (stage by stage, of
    each component's own throughput) and closures (dimer, charge). ``u`` starts a neighbour.
    """

    inputs: CircuitInputs
    aqueous: Array
    organic: Array
    log_aqueous: Array
    log_organic: Array
    conc_aq: Array
    conc_org: Array
    flow_aq: Array
    flow_org: Array
    free: Array
    proton: Array
    ph: Array
    outlets: dict[str, Outlet]
    recycle: Array
    supplied: Array
    closure: dict[str, Array]
    iterations: NDArray[np.int64]
    residual: Array
    converged: NDArray[np.bool_]
    fallbacks: NDArray[np.int64]
    u: Array
    point: tuple[Plan, State] | None = field(default=None, repr=False)


def solve(
    inputs: CircuitInputs, *, guess: ArrayLike | None = None, failures: str = "raise"
) -> CircuitResult:
    """All stages of a circuit, or of a batch of circuits, at steady state.

    Parameters
    ----------
    inputs: the circuit.
    guess: ``u`` of a neighbouring result, (..., N, m). When Newton gets nowhere from it, its
        averages over neighbouring stages are tried; without a guess, or when that fails too, the
        circuit is approached over coarser ones. ``fallbacks`` of the result counts these steps.
    failures: "raise", or "record": failed members are NaN and not ``converged``; or "quick": the
        same without the patient attempts at members that fail on the usual way.

    Raises
    ------
    InputError; ConvergenceError with the worst stage, component and advice.

    >>> import numpy as np
    >>> from sepmodel.chemistry.cation_exchange import CationExchange
    >>> exchange = CationExchange(
    ...     log_k=np.log([0.02]), charge=np.array([3.0]), dimers=np.array([3.0])
    ... )
    >>> feed = Inlet(name="feed", section="extraction", stage=1, flow=1e-6, acid=100.0,
    ...              conc=np.array([1e-6]))
    >>> result = solve(CircuitInputs(
    ...     components=("Nd",), model=exchange, charge=np.array([3.0]),
    ...     sections=(Section(name="extraction", stages=1),), organic_flow=1e-6, dimer=500.0,
    ...     organic_conc=np.array([0.0]), inlets=(feed,)))
    >>> ratio = result.conc_org[0, 0] / result.conc_aq[0, 0]
    >>> float(ratio.round(6))
    2.5
    """
    plan = prepare(inputs)
    size, n = plan.flow_aq.shape
    m = plan.model.unknowns
    u = np.zeros((size, n, m))
    done = np.zeros(size, dtype=bool)
    iterations = np.zeros(size, dtype=np.int64)
    fallbacks = np.zeros(size, dtype=np.int64)
    norm = np.full(size, np.inf)
    last: solvers.Solution | None = None
    if guess is None:
        guess = circuit_lift.start(inputs, plan, solve)
    if guess is not None:
        start = np.broadcast_to(np.asarray(guess, dtype=float), (*plan.batch, n, m))
        last = iterate(plan, np.ascontiguousarray(start.reshape(size, n, m)), limit=GUESSED)
        u, norm = last.u.reshape(size, n, m), last.norm
        iterations += last.iterations
        done = last.converged & physical(plan, u)
        fallbacks[~done] += 1
        todo = np.flatnonzero(~done)
        if todo.size:
            # What is good in the guess survives in its averages over neighbouring stages.
            averaged = start.reshape(size, n, m)[todo]
            u[todo], norm[todo], done[todo], spent, last = cold(inputs, plan, todo, averaged)
            iterations[todo] += spent
            fallbacks[todo[~done[todo]]] += 1
    todo = np.flatnonzero(~done)
    if todo.size:
        u[todo], norm[todo], done[todo], spent, last = cold(inputs, plan, todo)
        iterations[todo] += spent
    for member in np.flatnonzero(~done) if failures != "quick" else ():
        alone = np.array([member])
        fallbacks[member] += 1
        u[alone], norm[alone], done[alone], spent, last = patient(inputs, plan, alone)
        iterations[alone] += spent
    if failures == "raise" and not done.all():
        raise circuit_failure.of(inputs, plan, u, norm, done, last)
    return _result(inputs, plan, u, norm, done, iterations, fallbacks)


def _result(
    inputs: CircuitInputs,
    plan: Plan,
    u: Array,
    norm: Array,
    done: NDArray[np.bool_],
    iterations: NDArray[np.int64],
    fallbacks: NDArray[np.int64],
) -> CircuitResult:
    """Everything worth knowing of the solution, in the caller's axis order."""
    found = _fluxes(plan, u)
    missing = ~done

    def out(values: Array) -> Array:
        values = np.array(values, dtype=float)
        values[missing] = np.nan
        return values.reshape(plan.batch + values.shape[1:])

    proton = found.free[..., -1]
    outlets = {}
    flows = leaving(plan.flow_aq, plan.flow_org, plan.chain.carry)
    out_of = (found.down, found.up)
    for name, (stage, phase, fraction) in plan.outlets.items():
        if name == "organic" and inputs.closed:
            continue
        log_moles = out_of[phase][:, stage] + chains.log(fraction)[:, None]
        outlets[name] = Outlet(
            phase=PHASES[phase],
            flow=out(flows[phase][:, stage] * fraction),
            moles=out(np.exp(log_moles)),
            log_moles=out(log_moles),
            proton=out(proton[:, stage]),
        )
    feed = plan.chain.feed.sum(axis=(0, 2))
    returned = np.zeros_like(feed)
    kept = np.array([name not in inputs.reset for name in inputs.components])
    ends = sum(
        (np.exp(out_of[p][:, k]) * f[:, None] for name, (k, p, f) in plan.outlets.items()
         if not (name == "organic" and inputs.closed)),
        start=np.zeros_like(feed),
    )  # fmt: skip
    if inputs.closed:
        returned = np.exp(found.up[:, -1]) * plan.outlets["organic"][2][:, None]
        ends = ends + np.where(kept, 0.0, returned)
    supplied = np.where(kept, 0.0, plan.chain.feed[1, :, 0] - returned)
    if not inputs.closed:
        supplied = np.where(kept, 0.0, plan.chain.feed[1, :, 0])
    with np.errstate(divide="ignore", invalid="ignore"):
        total = np.nan_to_num(np.abs(feed - ends) / feed)
        recycle = np.nan_to_num(returned / feed)
    return CircuitResult(
        inputs=inputs,
        aqueous=out(found.aqueous),
        organic=out(found.organic),
        log_aqueous=out(found.log_aqueous),
        log_organic=out(found.log_organic),
        conc_aq=out(found.aqueous / plan.flow_aq[..., None]),
        conc_org=out(found.organic / plan.flow_org[..., None]),
        flow_aq=out(plan.flow_aq),
        flow_org=out(plan.flow_org),
        free=out(found.free),
        proton=out(proton),
        ph=out(-np.log10(np.where(proton > 0, proton, np.nan) / C_STANDARD)),
        outlets=outlets,
        recycle=out(recycle),
        supplied=out(supplied),
        closure={
            "component": out(total),
            "local": out(found.local),
            "closures": out(found.closures),
        },
        iterations=iterations.reshape(plan.batch),
        residual=out(norm),
        converged=done.reshape(plan.batch),
        fallbacks=fallbacks.reshape(plan.batch),
        u=out(u),
        point=None if plan.batch or missing.any() else found.point,
    )


@dataclass(eq=False, kw_only=True, slots=True)
class _Fluxes:
    """Fluxes at the solution, their logarithms, what leaves, closures and free amounts."""

    aqueous: Array
    organic: Array
    log_aqueous: Array
    log_organic: Array
    down: Array
    up: Array
    free: Array
    local: Array
    closures: Array
    point: tuple[Plan, State] | None = None


def _fluxes(plan: Plan, u: Array) -> _Fluxes:
    """Exact fluxes of every member: large batches in plain numbers, where these can hold them."""
    if plan.layout is None or plan.flow_aq.shape[0] == 1:
        return _exact(plan, u)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        r, state = approach(plan, u)
        assert state.aqueous is not None
        assert state.organic is not None
        assert state.links is not None
        local = chain_plain.local_closure(plan.chain, state.aqueous, state.organic, state.links)
        logs = np.log(state.aqueous), np.log(state.organic)
    free = state.spot.free
    out = _Fluxes(
        aqueous=state.aqueous,
        organic=state.organic,
        log_aqueous=logs[0],
        log_organic=logs[1],
        down=logs[0],
        up=logs[1],
        free=np.ones((*plan.flow_aq.shape, 1)) if free is None else free,
        local=local,
        closures=np.abs(r).max(axis=(1, 2)),
    )
    fed = plan.chain.feed.sum(axis=(0, 2)) > 0
    least = np.minimum(state.aqueous.min(axis=1), state.organic.min(axis=1))
    rest = np.flatnonzero(~np.all(~fed | (least > SMALLEST), axis=1))
    if rest.size:
        others = _exact(take(plan, rest), u[rest])
        for part in fields(out):
            if part.name != "point":
                getattr(out, part.name)[rest] = getattr(others, part.name)
    return out


def _exact(plan: Plan, u: Array) -> _Fluxes:
    """The same from logarithms, for components of any magnitude."""
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        r, (fluxes, spot) = evaluate(plan, u)
    aqueous, organic = np.exp(fluxes.aqueous), np.exp(fluxes.organic)
    state = State(u=u, spot=spot, fluxes=fluxes)
    if plan.layout is not None:
        links = np.exp(fluxes.link)
        state = State(u=u, spot=spot, aqueous=aqueous, organic=organic, links=links)
    return _Fluxes(
        aqueous=aqueous,
        organic=organic,
        log_aqueous=fluxes.aqueous,
        log_organic=fluxes.organic,
        down=fluxes.down,
        up=fluxes.up,
        free=np.ones((*plan.flow_aq.shape, 1)) if spot.free is None else spot.free,
        local=chains.local_closure(plan.chain, fluxes).max(axis=(1, 2)),
        closures=np.abs(r).max(axis=(1, 2)),
        point=(plan, state),
    )
