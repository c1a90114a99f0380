"""The five stages of one step: their equations, and Newton steps on all of them at once.

Unknowns are the changes Z (S, inner) since the step began, and the log-unknowns of the mixers at
every stage, which follow along with first-order corrections. Transformed to the modes of the method
a Newton step is one real and two complex systems with the train's own matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dtbtrs, ztbtrs

from sepmodel.errors import ConvergenceError
from sepmodel.extraction.dynamics import radau
from sepmodel.extraction.dynamics.kernel import Kernel
from sepmodel.extraction.dynamics.linear import Linear, Numbers, System
from sepmodel.extraction.dynamics.mixers import Contents, Slopes
from sepmodel.extraction.dynamics.network import AQUEOUS
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


@dataclass(frozen=True, eq=False, slots=True)
class Finished:
    """A solved step: ``moved`` (S, size) and ``moved_u`` (S, N, m) since it began, ``flows``
    (S, P, K) that leave at the stages, the error estimates of what is in the train (inner,) and of
    what leaves in the end (P, K), and what the next step is predicted from."""

    moved: Array
    moved_u: Array
    flows: Array
    error: Array
    error_leaving: Array
    past: Past


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
        self.z, moved_u = _guess(past, y[: self.lay.inner], u.shape, self.lay.k, self.c, h)
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
        out = _by_moles(slope.u_m, np.ascontiguousarray(mixer[..., :c]))
        if slope.u_a is not None and beside is not None:
            aside = beside[..., :c] / kernel.net.aside[:, None]
            out += np.einsum("nmc,...nc->...nm", slope.u_a, aside)
        if slope.u_t is not None:
            out += np.einsum("nmt,...nt->...nm", slope.u_t, mixer[..., c:] * kernel.amount)
        return out

    def finish(self) -> Finished:
        """The solved step.

        What leaves follows from the last rates and how the last Newton step changed them, so that
        nothing is lost whether or not that step was the last one needed.
        """
        lay = self.lay
        error = self.systems[0].solve(self.rate + (radau.method().embedded / self.h) @ self.z)
        flows = self.lin.passing(self.dz)
        outside = np.empty((STAGES, lay.size - lay.inner))
        if len(self.at) == 1:
            flows += self.at[0].leaving(self.state, self.exits)
            outside[:, -lay.k :] = self.at[0].fed
        else:
            for i, kernel in enumerate(self.at):
                flows[i] += kernel.leaving(self.state[i], (self.exits[0][i], self.exits[1][i]))
                outside[i, -lay.k :] = kernel.fed
        outside[:, : -lay.k] = flows.reshape(STAGES, -1)
        moved_u = self.u - self.u0
        return Finished(
            moved=np.concatenate([self.z, (self.h * radau.method().a) @ outside], axis=1),
            moved_u=moved_u, flows=flows, error=error, error_leaving=self.lin.passing(error),
            past=Past(self.z, moved_u.reshape(STAGES, -1), self.h),
        )  # fmt: skip

    def ended(self, after: Kernel, y: Array, u: Array, close: float) -> tuple[Array, Array]:
        """Unknowns and rates at the end, where the step has come to ``y`` and about ``u``."""
        found = after.contents(y, u, close)
        return found.u, after.changes(y, found)[0]


class PlainStages(Stages):
    """Mixers alone, whose carriers run one way: these are found first, and exactly.

    ``z`` is then what is left to find: the components, (S, N C).
    """

    def __init__(
        self, at: list[Kernel], y: Array, u: Array, rate: Array, h: float, past: Past | None,
        weight: Array,
    ) -> None:  # fmt: skip
        kernel = at[0]
        self.at, self.y, self.u0, self.h = at, y, u, h
        self.lay, self.c = kernel.lay, kernel.c
        n, c, k = self.lay.n, self.c, self.lay.k
        held, rate = y[: self.lay.inner].reshape(n, k), rate.reshape(n, k)
        self.moles, self.rate = held[:, :c].ravel(), rate[:, :c].ravel()
        self.z, moved_u = _guess(past, self.moles, u.shape, c, c, h)
        self.u, self.dz = u + moved_u, self.z
        # Of all stages one behind the other, each total by itself.
        totals = np.empty((kernel.lay.k - c or kernel.net.totals.shape[1], STAGES, n))
        self.carried: Array | None = None
        if not kernel.t:
            totals[:] = kernel.net.totals.T[:, None]
        elif kernel.moving:
            self.rate_carried = rate[:, c:]
            self.carried = self._carry(self.rate_carried)
            totals[:] = ((held[:, c:] + self.carried) * kernel.amount).transpose(2, 0, 1)
        else:
            totals[:] = (held[:, c:] * kernel.amount).T[:, None]
        self.totals = totals.transpose(1, 2, 0)
        # Sizes are taken in tolerances; a product costs less than a quotient.
        self.scale = 1.0 / weight.reshape(n, k)[:, :c].ravel()
        self.back = radau.method().back / h
        self.pairs = np.zeros((len(radau.method().roots), n * c), dtype=complex)

    def _carry(self, rate: Array) -> Array:
        """Changes of the carriers at the stages, from their rates at the beginning."""
        method = radau.method()
        count = len(method.roots)
        modes = method.into.sum(axis=1)
        right = modes[:count].astype(complex)
        right.imag[1:] = modes[count:]
        shifts = tuple(root / self.h for root in method.roots)
        solved = self._chains(shifts, right[:, None, None] * rate)
        found = np.concatenate([solved.real, solved.imag[1:]])
        return (method.out @ found.reshape(STAGES, -1)).reshape(found.shape)

    def _chains(self, shifts: tuple[complex, ...], r: Numbers) -> Numbers:
        """Carriers (shifts, N, T) that run down the train, or up it: a triangular band for each
        phase, for several shifts one below the other."""
        out = np.empty_like(r)
        m, n = r.shape[:2]
        solve = ztbtrs if r.dtype.kind == "c" else dtbtrs
        for phase, which, leaving, passed in self.at[0].chains:
            band = np.empty((m, n, 2), dtype=r.dtype)
            down = phase == AQUEOUS
            off, own = (0, 1) if down else (1, 0)
            band[:, :, off] = passed
            for each, w in zip(band, shifts, strict=True):
                np.add(leaving, w, out=each[:, own])
            right = r[:, :, which].reshape(m * n, -1)
            found = solve(band.reshape(m * n, 2).T, right, uplo="U" if down else "L")[0]
            out[:, :, which] = found.reshape(m, n, -1)
        return out

    def evaluate(self, close: float = ROUGH) -> float:
        """As there, of the components."""
        kernel = self.at[0]
        shape = (STAGES, self.lay.n, self.c)
        moles = (self.moles + self.z).reshape(shape)
        u, d, s, slack = kernel.mixers.settle(moles, self.totals, self.u, None, close, INSIDE)
        x = moles * s
        self.found = Contents(
            u=u, x=x, y=d * x, s=s, d=d, totals=self.totals, aside=None, slack=slack
        )
        change, self.exits = kernel.exchange(x, self.found.y)
        self.rates = change.reshape(STAGES, -1)
        return slack

    def respond(self, kernel: Kernel, spot: Contents) -> Slopes:
        """The carriers are settled already."""
        return kernel.mixers.slopes(spot, moving=False)

    def factorise(self) -> None:
        """The systems of the modes together, the real one among them."""
        self.bands = self.lin.bands(tuple(root / self.h for root in radau.method().roots))

    def newton(self, *, first: bool) -> float:
        """As there, of the components."""
        method, pairs = radau.method(), self.pairs
        count = len(pairs)
        modes = method.into @ (self.rates - self.back @ self.z)
        pairs.real, pairs.imag[1:] = modes[:count], modes[count:]
        solved = self.bands.solve(pairs.reshape(-1)).reshape(pairs.shape)
        found = np.empty_like(modes)
        found[:count], found[count:] = solved.real, solved.imag[1:]
        self.dz = method.out @ found
        self.z = self.z + self.dz
        moved = self.dz.reshape(STAGES, self.lay.n, self.c)
        self.u = self.found.u + _by_moles(self.slope.u_m, moved)
        sizes = (self.dz * self.scale).reshape(-1)
        return float(np.sqrt(sizes.dot(sizes) / sizes.size))

    def _wide(self, components: Array, carriers: Array | None) -> Array:
        """Both side by side, as in a state."""
        lead = components.shape[:-1]
        if not self.at[0].t:
            return components
        out = np.empty((*lead, self.lay.n, self.lay.k))
        out[..., : self.c] = components.reshape(*lead, self.lay.n, self.c)
        out[..., self.c :] = 0.0 if carriers is None else carriers
        return out.reshape(*lead, self.lay.inner)

    def finish(self) -> Finished:
        """As there."""
        kernel, lay, c, method = self.at[0], self.lay, self.c, radau.method()
        rest = self.rate + (method.embedded / self.h) @ self.z
        error = self.bands.solve(rest).real
        changes = np.concatenate([self.dz, error[None]])
        flows, leaving = np.zeros((STAGES, lay.ports, lay.k)), np.zeros((lay.ports, lay.k))
        responses = (self.lin.at, self.lin.vt)
        for row, port in enumerate(kernel.net.ports.values()):
            i, phase = port.stage, port.phase
            passing = changes[:, i * c : (i + 1) * c] @ responses[phase][i]
            passing[:-1] += self.exits[phase][:, i]
            passing *= port.share[:c]
            flows[:, row, :c], leaving[row, :c] = passing[:-1], passing[-1]
            if kernel.t:
                each = (kernel.carried_aq, kernel.carried_org)[phase][i]
                held = self.y[i * lay.k + c : (i + 1) * lay.k]
                if self.carried is not None:
                    held = held + self.carried[:, i]
                flows[:, row, c:] = port.share[c:] * each * held
        carriers = None
        if self.carried is not None:
            rest_carried = self.rate_carried + np.tensordot(
                method.embedded / self.h, self.carried, axes=1
            )
            shift = method.roots[0].real / self.h
            carriers = self._chains((shift,), rest_carried[None])[0]
        out = np.empty((STAGES, lay.size))
        outside = np.empty((STAGES, lay.size - lay.inner))
        outside[:, : -lay.k] = flows.reshape(STAGES, -1)
        outside[:, -lay.k :] = kernel.fed
        out[:, : lay.inner] = self._wide(self.z, self.carried)
        out[:, lay.inner :] = (self.h * method.a) @ outside
        moved_u = self.u - self.u0
        return Finished(
            moved=out, moved_u=moved_u, flows=flows, error=self._wide(error, carriers),
            error_leaving=leaving, past=Past(self.z, moved_u.reshape(STAGES, -1), self.h),
        )  # fmt: skip

    def ended(self, after: Kernel, y: Array, u: Array, close: float) -> tuple[Array, Array]:
        """As there, from what is known of the last stage."""
        kernel, n, c = self.at[0], self.lay.n, self.c
        moles = (self.moles + self.z[-1]).reshape(n, c)
        try:
            with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
                u, d, s, _ = kernel.mixers.settle(moles, self.totals[-1], u, None, close)
        except ConvergenceError:
            return super().ended(after, y, u, close)
        x = moles * s
        change, _ = kernel.exchange(x, d * x)
        carriers = None
        if self.carried is not None:
            held = np.ascontiguousarray(y[: self.lay.inner].reshape(n, -1)[:, c:])
            carriers, _ = kernel.exchange(held, held, carriers=True)
        return u, self._wide(change.reshape(-1), carriers)


def norm(v: Array, weight: Array) -> float:
    """Root of the mean square of v in tolerances."""
    ratio = v / weight
    flat = ratio.reshape(-1)
    return float(np.sqrt(flat @ flat / flat.size))


def _guess(
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


def _by_moles(u_m: Array, moles: Array) -> Array:
    """u_m (N, m, C) on moles (S, N, C)."""
    lead, c = moles.shape[:-1], moles.shape[-1]
    # As one matrix: numpy takes a vector to many small ones one by one.
    ones = np.ones(c)
    if u_m.shape[1] == 1:
        return (moles * u_m[:, 0]).reshape(-1, c).dot(ones).reshape(*lead, 1)
    columns = [(moles * u_m[:, i]).reshape(-1, c).dot(ones) for i in range(u_m.shape[1])]
    return np.stack(columns, axis=-1).reshape(*lead, -1)
