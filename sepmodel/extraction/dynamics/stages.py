"""The five stages of one step: their equations, and Newton steps on all of them at once.

Unknowns are the changes Z (S, inner) since the step began, and the log-unknowns of the mixers at
every stage, which follow along with first-order corrections. Transformed to the modes of the method
a Newton step is one real and two complex systems with the train's own matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel.extraction.dynamics import radau
from sepmodel.extraction.dynamics.kernel import Kernel
from sepmodel.extraction.dynamics.linear import Linear, Numbers, System
from sepmodel.extraction.dynamics.mixers import Contents, Slopes
from sepmodel.extraction.dynamics.radau import MIDDLE, STAGES

Array = NDArray[np.float64]

# Newton steps in the mixers at one evaluation, which ends when they are this small: what is left of
# them goes on with the step itself.
INSIDE = 8
ROUGH = 1.0 / 256.0
# A polynomial is trusted for so many of its own steps ahead.
AHEAD = 3.0
# What a prediction leaves at least, as a part of what is there, and the degree where it would not.
LITTLE = 1e-1
LOW = 2


@dataclass(frozen=True, eq=False, slots=True)
class Past:
    """Stages solved before: changes of contents (S, ...) and of unknowns (S, N m) in a step of
    length ``h`` [s], the one before or, ``begun`` at once with this one, one that was too long."""

    z: Array
    u: Array
    h: float
    begun: bool = False


class Stages:
    """The equations of a step of length ``h`` [s] from state ``y`` (size,) with unknowns ``u``
    (N, m) and rates ``rate`` (inner,).

    ``at``: the kernels of the stages, or one for all. ``past`` gives the first guess, ``weight``
    (inner,) is the tolerance.
    """

    def __init__(
        self, at: list[Kernel], y: Array, u: Array, rate: Array, h: float, past: Past | None,
        weight: Array,
    ) -> None:  # fmt: skip
        self.at, self.y, self.u0, self.rate, self.h, self.weight = at, y, u, rate, h, weight
        self.lay, self.c = at[0].lay, at[0].c
        self.z, moved_u = guess(past, y[: self.lay.inner], u.shape, self.lay.k, self.c, h)
        self.u, self.dz = u + moved_u, self.z
        if at[0].t and not at[0].moving:
            for part in self.lay.parts(self.z):
                if part is not None:
                    part[..., self.c :] = 0.0
        self.state = np.empty((STAGES, self.lay.inner))
        self.back = radau.method().back / h

    def restart(self) -> None:
        """From rest: the guess was bad."""
        self.z = np.zeros_like(self.z)
        self.u = np.array(np.broadcast_to(self.u0, self.u.shape))

    def evaluate(self, close: float = ROUGH) -> float:
        """Contents and rates at all stages; how far the unknowns were from their equations, which
        is to be below ``close``.

        Raises
        ------
        ConvergenceError
        """
        np.add(self.y[: self.lay.inner], self.z, out=self.state)
        if len(self.at) == 1:
            one = self.at[0]
            self.found = one.contents(self.state, self.u, close, limit=INSIDE)
            self.rates, self.exits = one.changes(self.state, self.found)
            return self.found.slack
        several = [
            k.contents(row, guess, close, limit=INSIDE)
            for k, row, guess in zip(self.at, self.state, self.u, strict=True)
        ]
        changes = [
            k.changes(row, f) for k, row, f in zip(self.at, self.state, several, strict=True)
        ]
        self.rates = np.array([rates for rates, _ in changes])
        self.exits = (
            np.array([exits[0] for _, exits in changes]),
            np.array([exits[1] for _, exits in changes]),
        )
        self.found = Contents(
            aside=None if several[0].aside is None else np.array([f.aside for f in several]),
            slack=max(f.slack for f in several),
            **{name: np.array([getattr(f, name) for f in several]) for name in "uxysd"},
            totals=np.array([f.totals for f in several]),
        )
        return self.found.slack

    def linearise(self) -> None:
        """The derivative in the middle of the step, and its three systems."""
        found, i = self.found, MIDDLE
        kernel = self.at[i % len(self.at)]
        kernel.moving = self.at[0].moving
        spot = Contents(
            u=found.u[i], x=found.x[i], y=found.y[i], s=found.s[i], d=found.d[i],
            totals=found.totals[i], aside=None if found.aside is None else found.aside[i],
        )  # fmt: skip
        self.slope = self.respond(kernel, spot)
        self.lin = Linear(kernel, spot, self.slope, self.slope.u_t is not None)
        self.factorise()

    def factorise(self) -> None:
        """The systems of the modes."""
        roots = radau.method().roots
        self.systems = [self.lin.shifted(root / self.h, exact=False) for root in roots]

    def respond(self, kernel: Kernel, spot: Contents) -> Slopes:
        """How the mixers respond."""
        return kernel.linearise(spot)

    def solve(self, system: System, r: Numbers, first: bool) -> Numbers:
        """One of the three systems; carriers are linear, so that the first time finds them."""
        return system.solve(r, carriers=first or len(self.at) > 1)

    def newton(self, *, first: bool) -> float:
        """A Newton step on all stages; its size in tolerances."""
        method = radau.method()
        modes = method.into @ (self.rates - self.back @ self.z)
        found = np.empty_like(modes)
        found[0] = self.solve(self.systems[0], modes[0], first)
        count = len(self.systems)
        for i in range(1, count):
            j = count - 1 + i
            pair = np.empty(modes.shape[1], dtype=complex)
            pair.real, pair.imag = modes[i], modes[j]
            one = self.solve(self.systems[i], pair, first)
            found[i], found[j] = one.real, one.imag
        self.dz = method.out @ found
        self.z = self.z + self.dz
        self.u = self.found.u + self.follow(self.dz)
        return norm(self.dz, self.weight)

    def follow(self, dz: Array) -> Array:
        """Change (S, N, m) of the unknowns for changes of the contents, to first order."""
        slope, c, kernel = self.slope, self.c, self.lin.kernel
        mixer, beside, *_ = self.lay.parts(dz)
        out = by_moles(slope.u_m, np.ascontiguousarray(mixer[..., :c]))
        if slope.u_a is not None and beside is not None:
            aside = beside[..., :c] / kernel.net.aside[:, None]
            out += np.einsum("nmc,...nc->...nm", slope.u_a, aside)
        if slope.u_t is not None:
            out += np.einsum("nmt,...nt->...nm", slope.u_t, mixer[..., c:] * kernel.amount)
        return out

    def finish(self) -> None:
        """What is known of a solved step: ``flows`` (S, P, K) that leave at the stages, changes
        ``moved_u`` (S, N, m) of the unknowns, error estimates ``error`` (inner,) of what is in the
        train and ``error_leaving`` (P, K) of what leaves in the end.

        What leaves follows from the last rates and how the last Newton step changed them, so that
        nothing is lost whether or not that step was the last one needed.
        """
        self.error = self.systems[0].solve(self.rate + (radau.method().embedded / self.h) @ self.z)
        self.error_leaving = self.lin.passing(self.error)
        self.flows = self.lin.passing(self.dz)
        if len(self.at) == 1:
            self.flows += self.at[0].leaving(self.state, self.exits)
        else:
            for i, kernel in enumerate(self.at):
                self.flows[i] += kernel.leaving(self.state[i], (self.exits[0][i], self.exits[1][i]))
        self.moved_u = self.u - self.u0

    def size(self, weight: Array) -> float:
        """The error estimate of what is in the train, in tolerances (inner,)."""
        return norm(self.error, weight)

    def inside(self) -> Array:
        """Changes (S, inner) of what is in the train."""
        return self.z

    def error_inside(self) -> Array:
        """Their error estimate (inner,)."""
        return self.error

    def outside(self) -> Array:
        """What the train loses and is fed at the stages (S, size - inner)."""
        lay = self.lay
        out = np.empty((STAGES, lay.size - lay.inner))
        out[:, : -lay.k] = self.flows.reshape(STAGES, -1)
        out[:, -lay.k :] = [kernel.fed for kernel in self.at]
        return out

    def moved(self) -> Array:
        """Changes of everything (S, size)."""
        return np.concatenate([self.inside(), (self.h * radau.method().a) @ self.outside()], axis=1)

    def errors(self, leaving: Array) -> Array:
        """Error estimates of everything (size,), ``leaving`` (P, K) at the beginning."""
        method = radau.method()
        left = (self.h * method.a) @ self.flows.reshape(STAGES, -1)
        rest = leaving.reshape(-1) + (method.embedded / self.h) @ left
        w = method.roots[0].real / self.h
        out = np.zeros(self.lay.size)
        out[: self.lay.inner] = self.error_inside()
        out[self.lay.inner : -self.lay.k] = (rest + self.error_leaving.reshape(-1)) / w
        return out

    def reached(self) -> Array:
        """The state at the end (size,)."""
        y, inner = self.y.copy(), self.lay.inner
        y[:inner] += self.z[-1]
        y[inner:] += (self.h * radau.method().a[-1]) @ self.outside()
        return y

    def past(self) -> Past:
        """What the next step is predicted from."""
        return Past(self.z, self.moved_u.reshape(STAGES, -1), self.h)

    def ended(self, after: Kernel, y: Array, close: float) -> tuple[Array, Array]:
        """Unknowns and rates at the end, where the step has come to ``y``."""
        found = after.contents(y, self.u[-1], close)
        return found.u, after.changes(y, found)[0]


def norm(v: Array, weight: Array) -> float:
    """Root of the mean square of v in tolerances."""
    ratio = v / weight
    flat = ratio.reshape(-1)
    return float(np.sqrt(flat @ flat / flat.size))


def guess(
    past: Past | None, held: Array, unknowns: tuple[int, ...], width: int, c: int, h: float
) -> tuple[Array, Array]:
    """Changes of contents (S, held) and of unknowns (S, N, m) by the polynomial of stages solved
    before; at rest without any, or far beyond them. The contents ``held`` have ``width`` columns a
    mixer or cell, of which ``c`` are components.

    Where the polynomial of the step before would take more of something than there is, the whole
    stage is carried on by one of low degree, and a little is left: what is spent does not spoil all
    others.
    """
    shape = (STAGES, *unknowns)
    if past is None or h > AHEAD * past.h:
        return np.zeros((STAGES, held.size)), np.zeros(shape)
    ratio = h / past.h
    if past.begun:
        part = radau.within(ratio)
        return part @ past.z, (part @ past.u).reshape(shape)
    part = radau.ahead(ratio)
    z, moved = part @ past.z, (part @ past.u).reshape(shape)
    least = (LITTLE - 1.0) * held
    below = z < least
    if below.any():
        n = unknowns[0]
        by_stage = (STAGES, -1, n, width)
        bad = np.flatnonzero(below.reshape(-1, n, width)[..., :c].any(axis=(0, 2)))
        if bad.size:
            lower = radau.ahead(ratio, LOW)
            z.reshape(by_stage)[:, :, bad] = (lower @ past.z).reshape(by_stage)[:, :, bad]
            moved[:, bad] = (lower @ past.u).reshape(shape)[:, bad]
            np.maximum(z, least, out=z)
    return z, moved


def by_moles(u_m: Array, moles: Array) -> Array:
    """u_m (N, m, C) on moles (S, N, C)."""
    lead, c = moles.shape[:-1], moles.shape[-1]
    out = np.empty((*lead, u_m.shape[1]))
    for i in range(u_m.shape[1]):
        # As one matrix: numpy takes a vector to many small ones one by one.
        out[..., i] = (moles * u_m[:, i]).reshape(-1, c).dot(np.ones(c)).reshape(lead)
    return out
