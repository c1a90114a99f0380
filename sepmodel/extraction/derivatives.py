"""How the outlets of a solved circuit answer to its inputs: implicit differentiation.

With closures r(u, p) = 0 an output g obeys dg/dp = g_p - g_u (dr/du)^-1 r_p. Forward, one solve a
parameter; adjoint, one solve an output. Fluxes are linear in what enters (z = T z + feed), so their
derivatives need one sparse factorisation of I - T, used transposed for the adjoint. What the inputs
do to flows, feeds and totals is a smooth closed form and is differentiated by a four-point stencil
over all parameters at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel.errors import InputError, Problem
from sepmodel.extraction import stagewise
from sepmodel.extraction.circuit import CircuitInputs, CircuitResult, prepare

Array = NDArray[np.float64]

# Step of the stencil in the logarithm of a parameter; its error is of the fourth power.
STEP = 1e-3
STENCIL = ((-2.0, 1.0), (-1.0, -8.0), (1.0, 8.0), (2.0, -1.0))


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Output:
    """A weighted sum of ln(component flows) of outlets: weights {(outlet, component): w}.

    ln flow of one component: {("raffinate", "Nd"): 1}; :func:`logit_purity` builds the other kind.
    """

    name: str
    weights: Mapping[tuple[str, str], float]


def log_flow(outlet: str, component: str) -> Output:
    """ln of the molar flow of a component in an outlet.

    >>> log_flow("raffinate", "Nd").name
    'ln raffinate Nd'
    """
    return Output(name=f"ln {outlet} {component}", weights={(outlet, component): 1.0})


def logit_purity(result: CircuitResult, outlet: str, components: Sequence[str]) -> Output:
    """ln(p / (1 - p)) of the share of some components among all but the reset ones.

    Its derivative is that of ln(sum of these) - ln(sum of the others), each a weighted sum.
    """
    inputs = result.inputs
    moles = result.outlets[outlet].moles
    wanted = np.array([name in components for name in inputs.components])
    counted = np.array([name not in inputs.reset for name in inputs.components])
    weights = {}
    for group, sign in ((wanted & counted, 1.0), (~wanted & counted, -1.0)):
        shares = np.where(group, moles, 0.0) / np.sum(moles[group])
        for name, share in zip(inputs.components, shares.tolist(), strict=True):
            if share:
                weights[outlet, name] = sign * share
    return Output(name=f"logit {outlet} {'+'.join(components)}", weights=weights)


def parameters(inputs: CircuitInputs) -> tuple[str, ...]:
    """Names of all parameters: log_k of each component, flows, concentrations and acids above zero.

    ``log_k:Nd`` stands for ln K; for every other name the derivative is by the logarithm of the
    input (an elasticity).
    """
    names = [f"log_k:{c}" for c in inputs.components] + ["organic_flow", "dimer"]
    names += [
        f"organic_conc:{c}"
        for c, v in zip(inputs.components, np.asarray(inputs.organic_conc), strict=True)
        if v > 0
    ]
    for inlet in inputs.inlets:
        names.append(f"flow:{inlet.name}")
        if np.asarray(inlet.acid) > 0:
            names.append(f"acid:{inlet.name}")
        names += [
            f"conc:{inlet.name}:{c}"
            for c, v in zip(inputs.components, np.asarray(inlet.conc), strict=True)
            if v > 0
        ]
    names += [f"draw:{draw.name}" for draw in inputs.draws]
    return tuple(names)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Derivatives:
    """d(outputs)/d(parameters), shape (outputs, parameters), with the names of both."""

    outputs: tuple[str, ...]
    parameters: tuple[str, ...]
    values: Array


def adjoint(
    result: CircuitResult, outputs: Sequence[Output], names: Sequence[str] | None = None
) -> Derivatives:
    """Derivatives of outputs by parameters, one transposed solve an output.

    Parameters
    ----------
    result: a single solved circuit (no batch).
    outputs: what to differentiate.
    names: parameters as :func:`parameters` names them; all of them by default.
    """
    names = parameters(result.inputs) if names is None else tuple(names)
    line = _Linear(result)
    changes = _Changes(line, names)
    rows = []
    for output in outputs:
        weight_up, weight_down, by_fraction = line.outlet_weights(output)
        zero = np.zeros_like(line.aqueous)
        by_u = line.stage_gradient(zero, zero, weight_up, weight_down)
        multiplier = line.solve_transposed(by_u)
        by_l = -np.einsum("nm,nmc->nc", multiplier, line.by_l)
        by_v = -np.einsum("nm,nmc->nc", multiplier, line.by_v)
        rows.append(
            changes.gradient(by_l, by_v, weight_up, weight_down, multiplier)
            + changes.fractions(by_fraction)
        )
    return Derivatives(
        outputs=tuple(o.name for o in outputs), parameters=tuple(names), values=np.array(rows)
    )


def forward(
    result: CircuitResult, outputs: Sequence[Output], names: Sequence[str] | None = None
) -> Derivatives:
    """The same derivatives, one solve a parameter."""
    names = parameters(result.inputs) if names is None else tuple(names)
    line = _Linear(result)
    changes = _Changes(line, names)
    columns = []
    for k in range(len(names)):
        ratio, source, explicit = changes.direction(k)
        aqueous, organic, _, _ = line.tangent(ratio, source)
        r = np.einsum("nmc,nc->nm", line.by_l, aqueous)
        r += np.einsum("nmc,nc->nm", line.by_v, organic) + explicit
        u = -line.solve(r)
        moved = ratio + np.einsum("ncm,nm->nc", line.slope, u)
        _, _, up, down = line.tangent(moved, source)
        columns.append(
            [
                float(np.sum(weights[0] * up) + np.sum(weights[1] * down))
                + float(changes.fractions(weights[2])[k])
                for weights in map(line.outlet_weights, outputs)
            ]
        )
    return Derivatives(
        outputs=tuple(o.name for o in outputs),
        parameters=tuple(names),
        values=np.array(columns).T,
    )


class _Linear:
    """The circuit linearised at its solution: factorised closures and factorised balances."""

    def __init__(self, result: CircuitResult) -> None:
        from scipy.linalg import lu_factor
        from scipy.sparse import csc_matrix, identity
        from scipy.sparse.linalg import splu

        if result.ph.ndim != 1:
            raise InputError(Problem(message="derivatives are taken of one circuit at a time"))
        self.inputs = result.inputs
        self.plan = plan = prepare(result.inputs)
        self.u = result.u[None]
        _, state = stagewise.evaluate(plan, self.u)
        fluxes, spot = state
        self.fluxes, self.spot = fluxes, spot
        full = stagewise.matrix(plan, state)
        stages, m = result.u.shape
        n = np.arange(stages)
        full[:, n, :, n, :] += np.swapaxes(spot.by_u, 0, 1)
        self.factors = lu_factor(full.reshape(stages * m, stages * m))
        self.slope = np.broadcast_to(spot.slope, (1, *fluxes.aqueous.shape[1:], m))[0]
        self.by_l = spot.by_aq[0] / plan.flow_aq[0][:, None, None]
        self.by_v = spot.by_org[0] / plan.flow_org[0][:, None, None]
        self.aqueous, self.organic = np.exp(fluxes.aqueous[0]), np.exp(fluxes.organic[0])
        self.up, self.down = np.exp(fluxes.up[0]), np.exp(fluxes.down[0])
        ports, chain = fluxes.ports, plan.chain
        self.td, self.qu, self.tu, self.qd, self.aq, self.org = (
            np.exp(part[0])
            for part in (ports.td, ports.qu, ports.tu, ports.qd, ports.aq, ports.org)
        )
        self.past = np.zeros_like(self.aqueous) if chain.bypass is None else chain.bypass[0]
        self.moved = np.exp(fluxes.aqueous[0] + ports.org[0])
        self.local = self.moved
        if chain.carry is not None:
            self.moved = self.moved * (1.0 - chain.carry[0, 0] - chain.carry[1, 0])
        self.kept = 1.0 - np.broadcast_to(chain.draw[:, 0], (2, *self.aqueous.shape))
        # z = (d, u) entering each stage, (2, N, C) flattened.
        c = self.aqueous.shape[1]
        index = np.arange(2 * stages * c).reshape(2, stages, c)
        rows, columns, entries = [], [], []

        def put(target: Array, source: Array, value: Array) -> None:
            rows.append(np.asarray(target).ravel())
            columns.append(np.asarray(source).ravel())
            entries.append(np.asarray(value).ravel())

        for entering, to_down, to_up in ((0, self.td, self.qu), (1, self.qd, self.tu)):
            put(index[0, :-1], index[entering, 1:], (to_down * self.kept[0])[1:])
            put(index[1, 1:], index[entering, :-1], (to_up * self.kept[1])[:-1])
            for link in chain.links:
                stage, phase = link.source
                leaving = to_down if phase == 0 else to_up
                part = leaving[stage] * chain.draw[phase, 0, stage] * link.share[0]
                put(index[link.target[1], link.target[0]], index[entering, stage], part)
        size = index.size
        transfer = csc_matrix(
            (np.concatenate(entries), (np.concatenate(rows), np.concatenate(columns))),
            shape=(size, size),
        )
        self.shape = index.shape
        self.balances = splu((identity(size, format="csc") - transfer).tocsc())

    def solve(self, r: Array) -> Array:
        """(dr/du)^-1 r for r (N, m)."""
        from scipy.linalg import lu_solve

        out: Array = lu_solve(self.factors, r.ravel()).reshape(r.shape)
        return out

    def solve_transposed(self, g: Array) -> Array:
        """(dr/du)^-T g for g (N, m)."""
        from scipy.linalg import lu_solve

        out: Array = lu_solve(self.factors, g.ravel(), trans=1).reshape(g.shape)
        return out

    def outlet_weights(self, output: Output) -> tuple[Array, Array, dict[str, float]]:
        """d(output)/d(flux leaving up, down) (N, C), and by ln of the outlets' fractions."""
        up, down = np.zeros_like(self.up), np.zeros_like(self.down)
        fractions: dict[str, float] = {}
        for (outlet, component), weight in output.weights.items():
            stage, phase, _ = self.plan.outlets[outlet]
            i = self.inputs.components.index(component)
            target, flux = (down, self.down) if phase == 0 else (up, self.up)
            target[stage, i] += weight / flux[stage, i]
            fractions[outlet] = fractions.get(outlet, 0.0) + weight
        return up, down, fractions

    def values(
        self, by_l: Array, by_v: Array, by_up: Array, by_down: Array
    ) -> tuple[Array, Array, Array]:
        """Worth of one mole entering a stage, (2, N, C), and leaving it up and down, (N, C)."""
        pool = by_l * self.aq + by_v * self.org
        own = np.empty(self.shape)
        own[0] = pool + self.td * by_down + self.qu * by_up
        own[1] = (1.0 - self.past) * pool + self.past * by_v
        own[1] += self.qd * by_down + self.tu * by_up
        worth = self.balances.solve(own.ravel(), trans="T").reshape(self.shape)
        up, down = by_up.copy(), by_down.copy()
        up[:-1] += self.kept[1, :-1] * worth[1, 1:]
        down[1:] += self.kept[0, 1:] * worth[0, :-1]
        for link in self.plan.chain.links:
            stage, phase = link.source
            share = self.plan.chain.draw[phase, 0, stage] * link.share[0]
            leaving = down if phase == 0 else up
            leaving[stage] += share * worth[link.target[1], link.target[0]]
        return worth, up, down

    def by_ratio(self, by_l: Array, by_v: Array, up: Array, down: Array) -> Array:
        """Derivative by ln A of each stage and component, from the worth of what leaves."""
        out: Array = self.moved * (up - down) + self.local * (by_v - by_l)
        return out

    def stage_gradient(self, by_l: Array, by_v: Array, by_up: Array, by_down: Array) -> Array:
        """Derivative by the stage unknowns through the fluxes, (N, m)."""
        _, up, down = self.values(by_l, by_v, by_up, by_down)
        out: Array = np.einsum("nc,ncm->nm", self.by_ratio(by_l, by_v, up, down), self.slope)
        return out

    def tangent(self, ratio: Array, source: Array) -> tuple[Array, Array, Array, Array]:
        """Change of l, v, up and down for a change of ln A (N, C) and of what enters (2, N, C)."""
        extra = self.moved * ratio
        feed = source.copy()
        feed[1, 1:] += (self.kept[1] * extra)[:-1]
        feed[0, :-1] -= (self.kept[0] * extra)[1:]
        for link in self.plan.chain.links:
            stage, phase = link.source
            share = self.plan.chain.draw[phase, 0, stage] * link.share[0]
            sign = -1.0 if phase == 0 else 1.0
            feed[link.target[1], link.target[0]] += sign * share * extra[stage]
        into = self.balances.solve(feed.ravel()).reshape(self.shape)
        pool = into[0] + (1.0 - self.past) * into[1]
        aqueous = self.aq * pool - self.local * ratio
        organic = self.org * pool + self.past * into[1] + self.local * ratio
        up = self.qu * into[0] + self.tu * into[1] + extra
        down = self.td * into[0] + self.qd * into[1] - extra
        return aqueous, organic, up, down


class _Changes:
    """What each parameter does to the arrays of the plan, by a stencil over all of them at once."""

    def __init__(self, line: _Linear, names: Sequence[str]) -> None:
        self.line = line
        self.names = tuple(names)
        inputs = line.inputs
        factors = {name: np.ones(4 * len(names)) for name in names if not name.startswith("log_k:")}
        for k, name in enumerate(names):
            if name in factors:
                factors[name][4 * k : 4 * k + 4] = np.exp([STEP * s for s, _ in STENCIL])
            elif name.partition(":")[2] not in inputs.components:
                raise InputError(Problem(message="no such parameter", value=name))
        self.plan = plan = prepare(_scaled(inputs, factors, 4 * len(names)))
        weights = np.array([w for _, w in STENCIL]) / (4.0 * 3.0 * STEP)

        def change(a: Array, axis: int = 0) -> Array:
            a = np.moveaxis(np.asarray(a), axis, 0)
            out: Array = np.tensordot(weights, a.reshape(len(names), 4, *a.shape[1:]), axes=(0, 1))
            return out

        self.shift = np.array(change(plan.shift))
        for k, name in enumerate(names):
            kind, _, component = name.partition(":")
            if kind == "log_k":
                self.shift[k, :, inputs.components.index(component)] = 1.0
        self.feed = change(plan.chain.feed, 1)  # (P, 2, N, C)
        self.draw = change(plan.chain.draw, 1)
        self.share = [change(link.share) for link in plan.chain.links]
        self.fraction = {
            name: change(np.log(np.maximum(f, np.finfo(float).tiny)))
            for name, (_, _, f) in plan.outlets.items()
        }
        size = 4 * len(names)
        whole = (size, *line.aqueous.shape)
        spot = plan.model.spot(
            np.broadcast_to(line.u, (size, *line.u.shape[1:])),
            plan.totals,
            np.broadcast_to(line.aqueous, whole) / plan.flow_aq[..., None],
            np.broadcast_to(line.organic, whole) / plan.flow_org[..., None],
        )
        assert spot.residual is not None
        self.explicit = change(spot.residual)

    def direction(self, k: int) -> tuple[Array, Array, Array]:
        """Parameter k: change of ln A (N, C), of what enters (2, N, C), of r at fixed fluxes."""
        line = self.line
        leaving = (line.down, line.up)
        source = self.feed[k].copy()
        moved = [self.draw[k, phase] * leaving[phase] for phase in (0, 1)]
        source[0, :-1] -= moved[0][1:]
        source[1, 1:] -= moved[1][:-1]
        for link, share in zip(line.plan.chain.links, self.share, strict=True):
            stage, phase = link.source
            flow = leaving[phase][stage]
            drawn = line.plan.chain.draw[phase, 0, stage]
            change = self.draw[k, phase, stage] * link.share[0] + drawn * share[k]
            source[link.target[1], link.target[0]] += flow * change
        return self.shift[k], source, self.explicit[k]

    def gradient(
        self, by_l: Array, by_v: Array, by_up: Array, by_down: Array, multiplier: Array
    ) -> Array:
        """Derivative of output - multiplier . r at fixed unknowns by every parameter, (P,)."""
        worth, up, down = self.line.values(by_l, by_v, by_up, by_down)
        by_ratio = self.line.by_ratio(by_l, by_v, up, down)
        out = np.empty(len(self.names))
        for k in range(len(self.names)):
            ratio, source, explicit = self.direction(k)
            out[k] = np.sum(by_ratio * ratio) + np.sum(worth * source)
            out[k] -= np.sum(multiplier * explicit)
        return out

    def fractions(self, by_fraction: Mapping[str, float]) -> Array:
        """What the outlets' own fractions contribute, (P,)."""
        total = np.zeros(len(self.names))
        for name, weight in by_fraction.items():
            total += weight * self.fraction[name]
        return total


def _scaled(inputs: CircuitInputs, factors: Mapping[str, Array], size: int) -> CircuitInputs:
    """A batch of the inputs in which each parameter is multiplied by its factors."""
    one = np.ones(size)

    def by(name: str) -> Array:
        return np.asarray(factors.get(name, one), dtype=float)

    def many(prefix: str, values: Any) -> Array:
        columns = [by(f"{prefix}:{c}") for c in inputs.components]
        out: Array = np.stack(columns, axis=-1) * np.asarray(values, dtype=float)
        return out

    known = set(parameters(inputs))
    if unknown := [name for name in factors if name not in known]:
        raise InputError(Problem(message="no such parameter", value=", ".join(unknown)))
    return replace(
        inputs,
        organic_flow=by("organic_flow") * np.asarray(inputs.organic_flow),
        dimer=by("dimer") * np.asarray(inputs.dimer),
        organic_conc=many("organic_conc", inputs.organic_conc),
        inlets=tuple(
            replace(
                inlet,
                flow=by(f"flow:{inlet.name}") * np.asarray(inlet.flow),
                acid=by(f"acid:{inlet.name}") * np.asarray(inlet.acid),
                conc=many(f"conc:{inlet.name}", inlet.conc),
            )
            for inlet in inputs.inlets
        ),
        draws=tuple(
            replace(draw, flow=by(f"draw:{draw.name}") * np.asarray(draw.flow))
            for draw in inputs.draws
        ),
    )
