"""Slow modes of a train about a state, and which stage tells most about them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel.extraction.dynamics.kernel import Kernel
from sepmodel.extraction.dynamics.linear import Linear

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Modes:
    """Slowest modes: ``times`` (k,) [s] in which each decays by e, ``shapes`` (k, N, C) the change
    of the aqueous concentrations in each, normalised to the largest, ``damped`` (k,) the period of
    the oscillation, infinite where there is none. ``stage`` (k, C) is the stage (from 1) at which
    the share of a component in the aqueous moves most."""

    times: Array
    shapes: Array
    periods: Array
    stage: NDArray[np.int64]


def slow_modes(kernel: Kernel, y: Array, u: Array, count: int = 4) -> Modes:
    """Eigenvalues nearest zero of the derivative of the rates, by Arnoldi on (w - J)^-1.

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
    values, vectors = eigs(operator, k=count, which="LM")
    rates = w - 1.0 / values
    order = np.argsort(-rates.real)
    shapes, stages = [], []
    c = kernel.c
    x = found.x
    for i in order:
        mixer = lay.parts(vectors[:, i].real)[0]
        moved_u = np.einsum("nmc,nc->nm", slope.u_m, mixer[:, :c])
        if slope.u_t is not None:
            moved_u += np.einsum("nmt,nt->nm", slope.u_t, mixer[:, c:] * kernel.amount)
        dx = found.s * mixer[:, :c] + np.einsum("ncm,nm->nc", slope.x_u, moved_u)
        shapes.append(dx / max(float(np.abs(dx).max()), np.finfo(float).tiny))
        total = x.sum(axis=1, keepdims=True)
        share = (dx - x * dx.sum(axis=1, keepdims=True) / total) / total
        stages.append(1 + np.argmax(np.abs(share), axis=0))
    chosen = rates[order]
    with np.errstate(divide="ignore"):
        periods = 2.0 * np.pi / np.abs(chosen.imag)
    return Modes(
        times=-1.0 / chosen.real,
        shapes=np.array(shapes),
        periods=periods,
        stage=np.array(stages, dtype=np.int64),
    )
