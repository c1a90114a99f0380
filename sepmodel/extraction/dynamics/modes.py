"""Slow modes of a train about a state, and which stage tells most about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel.extraction.dynamics.hydraulics import Hydraulics, Rules
from sepmodel.extraction.dynamics.kernel import Kernel
from sepmodel.extraction.dynamics.linear import Linear
from sepmodel.extraction.dynamics.simulate import fill
from sepmodel.extraction.dynamics.trains import Train, at_rest

Array = NDArray[np.float64]


# A stage with less than this part of the strongest liquor's metal is none to measure at.
ASSAYED = 1e-2


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Modes:
    """Slowest modes: ``times`` (k,) [s] in which each decays by e, ``shapes`` (k, N, C) the change
    of the aqueous concentrations in each, normalised to the largest, ``periods`` (k,) [s] of the
    oscillation, infinite where there is none. ``stage`` (k, C) is the stage (from 1) at which the
    share of a component in the aqueous moves most, ``shares`` (k, N, C) how it moves, and ``most``
    (k,) the component that moves most of all."""

    times: Array
    shapes: Array
    periods: Array
    stage: NDArray[np.int64]
    shares: Array
    most: NDArray[np.int64]


def at_steady(
    train: Train, count: int, weights: Sequence[float], rules: Rules | None = None
) -> Modes:
    """The slowest modes of a train about its steady state; volumes stand still."""
    net = train.network(train.settings)
    if rules is not None:
        net = Hydraulics(rules=rules, design=net).apply(net, 0.0)
    kernel = Kernel(net)
    y = np.zeros(kernel.lay.size)
    begin = at_rest(train, net, train.settings)
    fill(kernel, y, *begin)
    return slow_modes(kernel, y, begin[1], count, weights)


def slow_modes(
    kernel: Kernel, y: Array, u: Array, count: int = 4, weights: Sequence[float] | None = None
) -> Modes:
    """Eigenvalues nearest zero of the derivative of the rates, by Arnoldi on (w - J)^-1.

    ``weights`` (C,) turn moles into the basis of shares; of what has none no share is formed.
    The kernel's own linear systems are the operator, so what settles and passes by counts too.
    """
    from scipy.sparse.linalg import LinearOperator, eigs

    for _ in range(4):
        found = kernel.contents(y, u)
        u = found.u
    kernel.moving = True
    slope = kernel.linearise(found)
    through = float(np.min(kernel.net.flow / kernel.net.mixer))
    # A shift far below the rate of a mixer: its neighbourhood is the slow end of the spectrum.
    w = 1e-6 * through
    system = Linear(kernel, found, slope).shifted(w)
    lay = kernel.lay
    inner = lay.inner

    def inverse(v: Array) -> Array:
        out: Array = system.solve(np.ravel(v))
        return out

    operator = LinearOperator((inner, inner), matvec=inverse, dtype=float)
    # A start of its own, so that the same train always gives the same bits.
    begin = np.random.default_rng(0).uniform(0.5, 1.0, inner)
    values, vectors = eigs(operator, k=count, which="LM", v0=begin)
    rates = w - 1.0 / values
    order = np.argsort(-rates.real)
    shapes, shares = [], []
    c = kernel.c
    weight = np.ones(c) if weights is None else np.array(weights)
    held = found.x * weight
    total = held.sum(axis=1, keepdims=True)
    assayed = total[:, 0] > ASSAYED * total.max()
    for i in order:
        mixer = lay.parts(vectors[:, i].real)[0]
        moved_u = np.einsum("nmc,nc->nm", slope.u_m, mixer[:, :c])
        if slope.u_t is not None:
            moved_u += np.einsum("nmt,nt->nm", slope.u_t, mixer[:, c:] * kernel.amount)
        dx = found.s * mixer[:, :c] + np.einsum("ncm,nm->nc", slope.x_u, moved_u)
        shapes.append(dx / max(float(np.abs(dx).max()), np.finfo(float).tiny))
        change = dx * weight
        share = (change - held * change.sum(axis=1, keepdims=True) / total) / total
        share[~assayed] = 0.0
        shares.append(share / max(float(np.abs(share).max()), np.finfo(float).tiny))
    chosen = rates[order]
    with np.errstate(divide="ignore"):
        periods = 2.0 * np.pi / np.abs(chosen.imag)
    moved = np.array(shares)
    return Modes(
        times=-1.0 / chosen.real,
        shapes=np.array(shapes),
        periods=periods,
        stage=1 + np.argmax(np.abs(moved), axis=1),
        shares=moved,
        most=np.argmax(np.abs(moved).max(axis=1), axis=1),
    )
