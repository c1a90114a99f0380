"""How the outlets of a solved circuit answer to its inputs: implicit differentiation.

With all equations of all stages F(x, p) = 0, x the ln of the fluxes and the stages' unknowns, an
output g obeys dg/dp = g_p - g_x (dF/dx)^-1 F_p. F_p is written down (``by_inputs``); nothing is
differenced except flows where streams are drawn or carried. Adjoint: one factorised band matrix of
all fluxes (``linearised``), one solve an output. Forward: the fluxes are eliminated (``reduced``,
``pushed``), one dense solve a parameter; by the band where that is not so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel.errors import InputError, Problem
from sepmodel.extraction import linearised, reduced
from sepmodel.extraction.by_inputs import Point, parameters
from sepmodel.extraction.circuit import CircuitResult
from sepmodel.extraction.pushed import Pushed

__all__ = [
    "Derivatives",
    "Output",
    "adjoint",
    "forward",
    "log_flow",
    "logit_purity",
    "parameters",
    "tangent",
]

Array = NDArray[np.float64]


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
    point = _point(result)
    names = point.names(names)
    taken = point.taken([output.weights for output in outputs])
    multipliers = linearised.solve_transposed(point.factors, 0, point.by_unknowns(taken))
    return Derivatives(
        outputs=tuple(o.name for o in outputs),
        parameters=names,
        values=point.pulled(names, multipliers, taken),
    )


def forward(
    result: CircuitResult, outputs: Sequence[Output], names: Sequence[str] | None = None
) -> Derivatives:
    """The same derivatives, one solve a parameter."""
    point = _point(result)
    names = point.names(names)
    taken = point.taken([output.weights for output in outputs])
    doors = point.doors(names)
    values = point.direct(doors, taken)
    closed = reduced.reduce(point.plan, point.state, point.by_fluxes)
    if closed is None:
        changes = linearised.solve(point.factors, 0, point.rows(doors))
        values -= point.by_unknowns(taken) @ changes.T
    else:
        values -= Pushed(point, closed, doors).outputs(point, taken)
    return Derivatives(outputs=tuple(o.name for o in outputs), parameters=names, values=values)


def tangent(result: CircuitResult, names: Sequence[str] | None = None) -> Array:
    """Change of a single circuit's unknowns ``u`` (N, m) with every parameter, (P, N, m)."""
    point = _point(result)
    names = point.names(names)
    stages, m = result.u.shape
    doors = point.doors(names)
    closed = reduced.reduce(point.plan, point.state, point.by_fluxes)
    if closed is None:
        changes = linearised.solve(point.factors, 0, point.rows(doors))
        changes = changes.reshape(len(names), stages, -1)[..., -m:]
    else:
        changes = Pushed(point, closed, doors).own.reshape(len(names), stages, m)
    out: Array = -changes
    return out


def _point(result: CircuitResult) -> Point:
    """The circuit linearised at its solution, factorised once."""
    if result.point is None:
        raise InputError(Problem(message="derivatives are taken of one solved circuit at a time"))
    return Point(result.inputs, *result.point)
