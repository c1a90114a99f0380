"""The mass-flow (Xu) cascade: extraction and scrub, any feeds and draws, solved stage to stage.

Only separation factors enter. The organic leaving stage n carries a prescribed total rare-earth
flux S_n, for which the elements compete: y_i = a_i x_i / sum(a_k x_k). With one unknown per stage,
ln tau_n = ln(S_n / sum(a_k l_k)), every component flux follows exactly from its own linear balance
(``chain``); Newton closes sum(organic fluxes) = S_n at all stages together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel.balance import closure
from sepmodel.chemistry.mass_flow import Competition
from sepmodel.errors import ConvergenceError, InfeasibleError, InputError, Problem, Trace
from sepmodel.extraction import chain as chains
from sepmodel.extraction import massflow_batch, stagewise

Array = NDArray[np.float64]

TOLERANCE = 1e-12
# A residual this small that no longer falls is rounding.
ACCEPT = 1e-9
# A phase that carries less than this share of the feed is taken as empty.
EMPTY = 1e-12
LIMIT = 100
# Each step from equilibrium stages down to the efficiency wanted, where it is not solved at once.
LOWER = 3 / 4
# Batches from this size on are marched stage by stage, which pays from 70 members (60 stages of 4
# components) or 150 (45 of 2) on; the general kernel takes so many at a time.
BATCH = 100
MANY = 64


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Inlet:
    """A feed: ``flows`` of the components, shape (..., C), entering ``stage`` (1 = raffinate end).

    The unit of the flows is free (mol/s, or per mole of feed) and the same everywhere in a case.
    """

    name: str
    phase: str
    stage: int | NDArray[np.int64]
    flows: ArrayLike


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Draw:
    """A side draw: the part of the stream leaving ``stage`` that carries ``flow`` (...) in all."""

    name: str
    phase: str
    stage: int | NDArray[np.int64]
    flow: ArrayLike


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class MassFlowInputs:
    """A cascade of N stages in which the organic carries a prescribed rare-earth flux.

    Parameters
    ----------
    components: names in the order of the component axis.
    extractability: relative extractabilities a_i > 0, shape (..., C) or (..., N, C).
    stages: N; stage 1 is the raffinate end, organic travels from 1 to N.
    solvent: S, flux in the organic leaving stage 1, shape (...).
    scrub: W, flux that the scrub takes back from the organic at stage N, shape (...).
    inlets, draws: see :class:`Inlet` and :class:`Draw`.
    efficiency: Murphree efficiency E in [0, 1] of the organic composition, shape (), (N,) or
        (..., N, C). The share (1 - E) min(1, S_n / S_entering) of the entering organic passes
        by. A stage with 0 for all components is transparent: padding of a batch, not at the ends.

    The organic leaving stage n carries S + organic feeds at stages <= n - organic draws below n,
    and W less at stage N. Leading axes are a batch; everything broadcasts.
    """

    components: tuple[str, ...]
    extractability: ArrayLike
    stages: int
    solvent: ArrayLike
    scrub: ArrayLike
    inlets: Sequence[Inlet]
    draws: Sequence[Draw] = ()
    efficiency: ArrayLike = 1.0


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class CascadeResult:
    """Fluxes of every component leaving every stage, and how well they close.

    ``aqueous, organic`` (..., N, C) leave the stages before draws, ``log_*`` are their natural
    logarithms (exact for traces below the smallest float), ``raffinate`` and ``loaded_organic``
    (..., C) leave the cascade, ``draws`` maps names to (..., C). ``closure`` (..., C) is the
    relative global balance of each component, ``residual`` (...) the largest relative error of a
    stage's organic flux, ``theta`` (..., N) the unknowns, a first guess for a neighbouring case.
    """

    components: tuple[str, ...]
    aqueous: Array
    organic: Array
    log_aqueous: Array
    log_organic: Array
    raffinate: Array
    loaded_organic: Array
    draws: dict[str, Array] = field(default_factory=dict)
    closure: Array
    iterations: NDArray[np.int64]
    residual: Array
    converged: NDArray[np.bool_]
    theta: Array

    @property
    def outlets(self) -> dict[str, Array]:
        """Every outlet by name: raffinate, loaded_organic and the draws."""
        return {"raffinate": self.raffinate, "loaded_organic": self.loaded_organic, **self.draws}


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Problem:
    """The inputs broadcast to one batch axis, the member axis last (``chain``: first)."""

    batch: tuple[int, ...]
    log_a: Array  # (N, C, B)
    organic_flux: Array  # (N, B) prescribed total leaving each stage
    aqueous_flux: Array  # (N, B) the total that follows
    chain: chains.Chain
    transparent: NDArray[np.bool_]  # (N, B)
    draw_fraction: dict[str, Array]  # (N, B)
    feasible: NDArray[np.bool_]  # (B,)
    message: str


def solve(
    inputs: MassFlowInputs, *, guess: ArrayLike | None = None, failures: str = "raise"
) -> CascadeResult:
    """Stage-to-stage solution of a mass-flow cascade, or of a batch of them.

    Parameters
    ----------
    inputs: the cascade.
    guess: ``theta`` of a neighbouring result, shape (..., N).
    failures: "raise", or "record": failed members of a batch are NaN and not ``converged``.

    Raises
    ------
    InputError, InfeasibleError (a prescribed flux leaves a phase without rare earth),
    ConvergenceError with the trace.

    Source: zhang2016 (theory); the stage balances themselves.

    >>> import numpy as np
    >>> feed = Inlet(name="feed", phase="aqueous", stage=24, flows=np.array([0.5, 0.5]))
    >>> result = solve(
    ...     MassFlowInputs(
    ...         components=("A", "B"), extractability=np.array([2.0, 1.0]), stages=45,
    ...         solvent=1.7086449, scrub=1.2081944, inlets=(feed,),
    ...     )
    ... )
    >>> (result.loaded_organic / result.loaded_organic.sum()).round(6).tolist()
    [0.998993, 0.001007]
    """
    problem = prepare(inputs)
    if failures not in ("raise", "record"):
        raise InputError(Problem(message="unknown way with failures", value=failures))
    if failures == "raise" and not np.all(problem.feasible):
        raise InfeasibleError(problem.message, limit={"organic flux": inputs.solvent})
    members = np.flatnonzero(problem.feasible)
    start = _first_guess(problem) if guess is None else _given(guess, problem)

    found = _newton(problem, members, start)
    if guess is None and not np.all(found.converged):
        nearer = _by_efficiency(inputs)
        if nearer is not None:
            found = _newton(problem, members, _given(nearer, problem))
    if failures == "raise" and not np.all(found.converged):
        raise _failure(inputs, found)
    return _result(inputs, problem, found, members)


def prepare(inputs: MassFlowInputs) -> _Problem:
    """Checked inputs on one batch axis."""
    problems: list[Problem] = []
    c, n = len(inputs.components), int(inputs.stages)
    a = np.asarray(inputs.extractability, dtype=float)
    if n < 1:
        problems.append(Problem(message="a cascade has at least one stage", key="stages", value=n))
    if a.ndim == 0 or a.shape[-1] != c:
        problems.append(
            Problem(message="one extractability a component", key="extractability", value=a.shape)
        )
    elif not (np.all(np.isfinite(a)) and np.all(a > 0)):
        problems.append(
            Problem(message="extractabilities are positive", key="extractability", value=a.tolist())
        )
    efficiency = np.asarray(inputs.efficiency, dtype=float)
    if efficiency.ndim == 1:
        efficiency = efficiency[:, None]
    elif efficiency.ndim == 0:
        efficiency = efficiency[None, None]
    if not (np.all(efficiency >= 0) and np.all(efficiency <= 1)):
        problems.append(
            Problem(message="an efficiency lies between 0 and 1", key="efficiency",
                    value=float(np.min(efficiency)), expected="0 to 1")
        )  # fmt: off
    for name, value in (("solvent", inputs.solvent), ("scrub", inputs.scrub)):
        number = np.asarray(value, dtype=float)
        if not (np.all(np.isfinite(number)) and np.all(number >= 0)):
            problems.append(
                Problem(message="a flux is not negative", key=name, value=number.tolist())
            )
    for inlet in inputs.inlets:
        problems += _check_port(inlet, n, c)
    for draw in inputs.draws:
        problems += _check_port(draw, n, c)
    if not inputs.inlets:
        problems.append(Problem(message="a cascade has a feed", key="inlets"))
    if problems:
        raise InputError(problems)

    if a.ndim == 1 or a.shape[-2] != n:
        a = a[..., None, :]
    shapes = [a.shape[:-2], efficiency.shape[:-2], np.shape(inputs.solvent), np.shape(inputs.scrub)]
    for inlet in inputs.inlets:
        shapes += [np.shape(inlet.flows)[:-1], np.shape(inlet.stage)]
    for draw in inputs.draws:
        shapes += [np.shape(draw.flow), np.shape(draw.stage)]
    batch = np.broadcast_shapes(*shapes)
    size = int(np.prod(batch, dtype=int))

    def members_last(value: ArrayLike, tail: tuple[int, ...]) -> Array:
        """(..., *tail) broadcast over the batch, to (*tail, B)."""
        full = np.broadcast_to(np.asarray(value, dtype=float), batch + tail)
        return np.ascontiguousarray(np.moveaxis(full.reshape((size, *tail)), 0, -1))

    stage_axis = np.arange(1, n + 1)[:, None]
    feeds = {"aqueous": np.zeros((n, c, size)), "organic": np.zeros((n, c, size))}
    for inlet in inputs.inlets:
        here = stage_axis == members_last(inlet.stage, ())
        feeds[inlet.phase] += np.where(here[:, None, :], members_last(inlet.flows, (c,)), 0.0)
    drawn = {"aqueous": np.zeros((n, size)), "organic": np.zeros((n, size))}
    at: dict[str, Array] = {}
    for draw in inputs.draws:
        here = stage_axis == members_last(draw.stage, ())
        at[draw.name] = np.where(here, members_last(draw.flow, ()), 0.0)
        drawn[draw.phase] += at[draw.name]

    solvent, scrub = members_last(inputs.solvent, ()), members_last(inputs.scrub, ())
    organic = solvent + np.cumsum(feeds["organic"].sum(axis=1), axis=0)
    organic[1:] -= np.cumsum(drawn["organic"], axis=0)[:-1]
    organic[-1] -= scrub
    # Aqueous total leaving stage n: what enters above the cut below n and does not leave upwards.
    kept = organic - drawn["organic"]
    into = feeds["aqueous"].sum(axis=1) + feeds["organic"].sum(axis=1)
    below = np.concatenate([np.zeros((1, size)), kept[:-1]])
    aqueous = np.empty((n, size))
    down = np.zeros(size)
    for k in range(n - 1, -1, -1):
        aqueous[k] = down + into[k] + below[k] - organic[k]
        down = aqueous[k] - drawn["aqueous"][k]
    empty = EMPTY * into.sum(axis=0)
    eff = members_last(np.broadcast_to(efficiency, (*efficiency.shape[:-2], n, c)), (n, c))
    transparent = np.all(eff == 0, axis=1)
    entering = below + feeds["organic"].sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        passed = np.fmin(1.0, organic / entering)
    changed = np.abs(organic - entering) > TOLERANCE * organic
    aqueous[transparent & changed] = -np.inf
    bypass = (1.0 - eff) * passed[:, None]
    feasible = (
        np.all(organic > empty, axis=0)
        & np.all(aqueous > empty, axis=0)
        & np.all(kept > -empty, axis=0)
        & np.all(aqueous - drawn["aqueous"] > -empty, axis=0)
    )
    message = ""
    if not np.all(feasible):
        bad = int(np.flatnonzero(~feasible)[0])
        phases = {
            "organic": np.minimum(organic, kept)[:, bad],
            "aqueous": np.minimum(aqueous, aqueous - drawn["aqueous"])[:, bad],
        }
        phase = min(phases, key=lambda name: float(phases[name].min()))
        stage = int(np.argmin(phases[phase]))
        message = (
            f"the prescribed fluxes leave no rare earth in the {phase} leaving stage {stage + 1} "
            f"(flux {phases[phase][stage]:.3g}); check solvent, scrub and draws against the feed"
        )
        idle = np.flatnonzero((transparent & changed)[:, bad])
        if idle.size:
            named = f"stage{'s' if idle.size > 1 else ''} {', '.join(str(k + 1) for k in idle)}"
            message = (
                f"in {named} the organic has to take up or give back what solvent and scrub "
                "prescribe, and a stage without any efficiency exchanges nothing"
            )
    with np.errstate(divide="ignore", invalid="ignore"):
        fractions = [drawn["aqueous"] / aqueous, drawn["organic"] / organic]
        taken = np.where(feasible, fractions, 0.0).clip(0.0, 1.0)
        chain = chains.Chain(
            feed=np.moveaxis(np.array([feeds["aqueous"], feeds["organic"]]), -1, 1),
            draw=np.moveaxis(taken, -1, 1)[..., None],
            bypass=np.moveaxis(bypass, -1, 0) if np.any(bypass > 0) else None,
        )
        totals = {"aqueous": aqueous, "organic": organic}
        fraction = {d.name: at[d.name] / totals[d.phase] for d in inputs.draws}
    log_a = np.log(a) - np.log(a.max(axis=-1, keepdims=True))
    log_a = np.broadcast_to(log_a, (*log_a.shape[:-2], n, c))
    with np.errstate(divide="ignore"):
        log_a = members_last(log_a, (n, c)) + np.log(eff)
    return _Problem(
        batch=batch,
        log_a=log_a,
        organic_flux=organic,
        aqueous_flux=aqueous,
        chain=chain,
        transparent=transparent,
        draw_fraction=fraction,
        feasible=feasible,
        message=message,
    )


def _check_port(item: Inlet | Draw, stages: int, components: int) -> list[Problem]:
    """What is wrong with one inlet or draw."""
    out = []
    if item.phase not in ("aqueous", "organic"):
        out.append(
            Problem(
                message="unknown phase", key=item.name, value=item.phase,
                expected="aqueous or organic",
            )
        )  # fmt: off
    stage = np.asarray(item.stage)
    if np.any(stage != np.floor(stage)):
        out.append(
            Problem(
                message="a stage is a whole number",
                key=item.name,
                value=stage.tolist(),
                expected=f"1 to {stages}",
            )
        )
    elif np.any(stage < 1) or np.any(stage > stages):
        out.append(
            Problem(
                message="no such stage",
                key=item.name,
                value=stage.tolist(),
                expected=f"1 to {stages}",
            )
        )
    flow = np.asarray(item.flows if isinstance(item, Inlet) else item.flow, dtype=float)
    if isinstance(item, Inlet) and (flow.ndim == 0 or flow.shape[-1] != components):
        out.append(Problem(message="one flow a component", key=item.name, value=flow.shape))
    if not (np.all(np.isfinite(flow)) and np.all(flow >= 0)):
        out.append(
            Problem(message="a flow is negative or not finite", key=item.name, value=flow.tolist())
        )
    return out


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Found:
    """Solution of the feasible members, member axis first; ``log_*`` ln of the fluxes (B, N, C)."""

    u: Array
    log_aqueous: Array
    log_organic: Array
    norm: Array
    iterations: NDArray[np.int64]
    converged: NDArray[np.bool_]
    worst: NDArray[np.int64]
    history: tuple[float, ...]


def _newton(problem: _Problem, members: NDArray[np.int64], start: Array) -> _Found:
    """Large batches of few components stage by stage, everything else by the general kernel."""
    n, c, _ = problem.log_a.shape
    count = members.size
    u, norm = start.T[members], np.full(count, np.inf)
    iterations = np.zeros(count, dtype=np.int64)
    done = np.zeros(count, dtype=bool)
    worst = np.zeros(count, dtype=np.int64)
    log_aq, log_org = np.full((count, n, c), np.nan), np.full((count, n, c), np.nan)
    history: tuple[float, ...] = ()
    if count >= BATCH and c <= massflow_batch.MOST and problem.chain.bypass is None:
        feed = np.moveaxis(problem.chain.feed[:, members], 1, -1)
        draw = np.moveaxis(problem.chain.draw[..., 0][:, members], 1, -1)
        cascades = massflow_batch.Cascades(
            extractability=np.exp(problem.log_a[..., members]),
            feed_aq=feed[0],
            feed_org=feed[1],
            draw_aq=draw[0],
            draw_org=draw[1],
            total=problem.organic_flux[:, members],
        )
        theta, norm, iterations, done = massflow_batch.solve(
            cascades, start[:, members], tolerance=TOLERANCE, accept=ACCEPT, limit=LIMIT
        )
        u = np.ascontiguousarray(theta.T)
        solved = np.flatnonzero(done)
        fluxes = massflow_batch.fluxes(
            cascades if solved.size == count else cascades.take(solved),
            np.ascontiguousarray(theta[:, solved]),
        )
        log_aq[solved], log_org[solved] = (np.moveaxis(chains.log(f), -1, 0) for f in fluxes)
    plan = as_plan(problem)
    todo = np.flatnonzero(~done)
    for first in range(0, todo.size, MANY):
        rest = todo[first : first + MANY]
        part = stagewise.take(plan, members[rest])
        found = stagewise.iterate(
            part,
            start.T[members[rest]][..., None],
            tolerance=TOLERANCE,
            accept=ACCEPT,
            limit=LIMIT,
            natural=True,
        )
        u[rest], norm[rest], worst[rest] = found.u, found.norm, found.worst
        iterations[rest] += found.iterations
        history = found.history
        _, (fluxes_here, _) = stagewise.evaluate(part, found.u[..., None])
        log_aq[rest], log_org[rest] = fluxes_here.aqueous, fluxes_here.organic
        done[rest] = found.converged
    return _Found(
        u=u,
        log_aqueous=log_aq,
        log_organic=log_org,
        norm=norm,
        iterations=iterations,
        converged=done,
        worst=worst,
        history=history,
    )


def plan_of(
    inputs: MassFlowInputs,
) -> tuple[stagewise.Plan, dict[str, tuple[int, int, Array]]]:
    """The closures of a cascade for the common kernel, and its draws: stage, phase, fraction (B,).

    Raises
    ------
    InputError, InfeasibleError
        as ``solve``.
    """
    problem = prepare(inputs)
    if not np.all(problem.feasible):
        raise InfeasibleError(problem.message, limit={"organic flux": inputs.solvent})
    draws = {}
    for draw in inputs.draws:
        stage = int(np.asarray(draw.stage)) - 1
        phase = 0 if draw.phase == "aqueous" else 1
        draws[draw.name] = (stage, phase, problem.draw_fraction[draw.name][stage])
    return as_plan(problem), draws


def as_plan(problem: _Problem) -> stagewise.Plan:
    """The cascade as the common kernel takes it: unit flows, one prescribed total a stage."""
    flux = problem.organic_flux.T
    totals = np.stack([flux, problem.transparent.T.astype(float)], axis=-1)
    return stagewise.Plan(
        batch=problem.batch,
        model=Competition(),
        chain=problem.chain,
        shift=np.moveaxis(problem.log_a, -1, 0),
        totals=totals,
        flow_aq=np.ones_like(flux),
        flow_org=np.ones_like(flux),
    )


def _first_guess(problem: _Problem) -> Array:
    """theta of a cascade in which every stage holds the mixed feed."""
    feed = problem.chain.feed.sum(axis=(0, 2)).T
    with np.errstate(divide="ignore", invalid="ignore"):
        x = feed / feed.sum(axis=0)
        theta = np.log(
            problem.organic_flux
            / (problem.aqueous_flux * np.sum(np.exp(problem.log_a) * x, axis=1))
        )
    return np.where(problem.transparent, 0.0, theta)


def _by_efficiency(inputs: MassFlowInputs) -> Array | None:
    """theta of the same cascades from equilibrium stages down to their efficiency, step by step."""
    wanted = np.asarray(inputs.efficiency, dtype=float)
    working = wanted[wanted > 0]
    if not working.size or working.min() >= 1:
        return None
    theta: Array | None = None
    rounds = math.ceil(math.log(float(working.min())) / math.log(LOWER))
    for power in range(1 + rounds):
        stage = replace(
            inputs, efficiency=np.where(wanted > 0, np.maximum(wanted, LOWER**power), 0.0)
        )
        theta = solve(stage, guess=theta, failures="record").theta if power else _plain(stage)
        if not np.all(np.isfinite(theta)):
            return None
    return theta


def _plain(inputs: MassFlowInputs) -> Array:
    """theta of cascades of equilibrium (and idle) stages; not a number where unsolved."""
    return solve(inputs, failures="record").theta


def _given(guess: ArrayLike, problem: _Problem) -> Array:
    """A caller's theta, (..., N), to (N, B)."""
    n, size = problem.organic_flux.shape
    given = np.asarray(guess, dtype=float)
    try:
        full = np.broadcast_to(given, (*problem.batch, n))
    except ValueError:
        raise InputError(
            Problem(
                message="a first guess has one theta a stage",
                key="guess",
                value=given.shape,
                expected=str((*problem.batch, n)),
            )
        ) from None
    if not np.all(np.isfinite(full)):
        raise InputError(Problem(message="a first guess is finite", key="guess"))
    return np.ascontiguousarray(full.reshape(size, n).T)


def _failure(inputs: MassFlowInputs, found: _Found) -> ConvergenceError:
    """The error for the worst member."""
    bad = np.flatnonzero(~found.converged)
    worst = int(bad[np.argmax(found.norm[bad])])
    stage = int(found.worst[worst]) + 1
    return ConvergenceError(
        f"the mass-flow cascade was not solved: organic flux of stage {stage} is off by "
        f"{found.norm[worst]:.1e} after {found.iterations[worst]} iterations"
        + (f" (member {worst}; {bad.size} of {found.norm.size} failed)" if bad.size > 1 else ""),
        trace=Trace(
            history=found.history,
            equation="organic rare-earth flux",
            stage=stage,
            advice="start from theta of a neighbouring case, or raise solvent and scrub together",
            extra={"member": worst, "components": inputs.components},
        ),
    )


def _result(
    inputs: MassFlowInputs,
    problem: _Problem,
    found: _Found,
    members: NDArray[np.int64],
) -> CascadeResult:
    """Public axis order, outlets and closures."""
    c, size = problem.log_a.shape[1:]
    good = members[found.converged]
    u = found.u[found.converged]

    def spread(values: Array, fill: Any) -> Array:
        """Values of the solved members (axis first) in an array for all (axis last)."""
        out = np.full((size, *values.shape[1:]), fill, dtype=values.dtype)
        out[good] = values
        return np.moveaxis(out, 0, -1)

    def batch_first(values: Any) -> Any:
        moved = np.moveaxis(values, -1, 0)
        return moved.reshape(problem.batch + moved.shape[1:])

    theta = spread(u, np.nan)
    log_aq = spread(found.log_aqueous[found.converged], np.nan)
    log_org = spread(found.log_organic[found.converged], np.nan)
    aqueous, organic = np.exp(log_aq), np.exp(log_org)
    kept = 1.0 - np.moveaxis(problem.chain.draw, 1, -1)
    raffinate = aqueous[0] * kept[0, 0]
    loaded = organic[-1] * kept[1, -1]
    draws = {}
    for draw in inputs.draws:
        stream = aqueous if draw.phase == "aqueous" else organic
        draws[draw.name] = np.sum(stream * problem.draw_fraction[draw.name][:, None], axis=0)
    entering = problem.chain.feed.sum(axis=(0, 2)).T
    leaving = raffinate + loaded + sum(draws.values(), start=np.zeros((c, size)))
    iterations = np.zeros(size, dtype=np.int64)
    iterations[members] = found.iterations
    norm = np.full(size, np.nan)
    norm[members] = found.norm
    converged = np.zeros(size, dtype=bool)
    converged[good] = True
    return CascadeResult(
        components=inputs.components,
        aqueous=batch_first(aqueous),
        organic=batch_first(organic),
        log_aqueous=batch_first(log_aq),
        log_organic=batch_first(log_org),
        raffinate=batch_first(raffinate),
        loaded_organic=batch_first(loaded),
        draws={name: batch_first(value) for name, value in draws.items()},
        closure=batch_first(closure(entering, leaving)),
        iterations=batch_first(iterations),
        residual=batch_first(norm),
        converged=batch_first(converged),
        theta=batch_first(theta),
    )
