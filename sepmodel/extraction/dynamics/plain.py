"""The stages of a step of mixers alone, whose carriers run one way.

Most trains are like that for most of the time. The carriers are found first, and exactly; what is
left are the components, and a step is a few hundred calls of numpy, which is what it costs. So the
beginning of the step, whose rates the error estimate needs, is evaluated as one more row beside the
first guess of the stages, the systems of all modes stand one below the other, and states are put
together from their parts only where they are looked at.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dtbtrs, ztbtrs

from sepmodel.extraction.dynamics import radau
from sepmodel.extraction.dynamics.kernel import Kernel
from sepmodel.extraction.dynamics.linear import Numbers
from sepmodel.extraction.dynamics.mixers import Contents, Slopes
from sepmodel.extraction.dynamics.network import AQUEOUS
from sepmodel.extraction.dynamics.radau import STAGES
from sepmodel.extraction.dynamics.stages import INSIDE, ROUGH, Past, Stages, by_moles, guess

Array = NDArray[np.float64]


class PlainStages(Stages):
    """As ``Stages``, for one kernel; ``z`` is what is left to find: the components, (S, N C).

    ``rate`` holds the carriers' rates at the beginning (N, T or more columns before them).
    """

    def __init__(
        self, at: list[Kernel], y: Array, u: Array, rate: Array, h: float, past: Past | None,
        weight: Array,
    ) -> None:  # fmt: skip
        kernel = at[0]
        self.at, self.y, self.u0, self.h = at, y, u, h
        self.lay, self.c = kernel.lay, kernel.c
        n, c, k = self.lay.n, self.c, self.lay.k
        held = y[: self.lay.inner].reshape(n, k)
        self.moles = held[:, :c].ravel()
        self.z, moved_u = guess(past, self.moles, u.shape, c, c, h)
        self.u, self.dz = np.concatenate([u + moved_u, u[None]]), self.z
        # Of all stages and the beginning one behind the other, each total by itself.
        totals = np.empty((kernel.net.totals.shape[1] or kernel.t, STAGES + 1, n))
        self.carried: Array | None = None
        if not kernel.t:
            totals[:] = kernel.net.totals.T[:, None]
        else:
            totals[:] = (held[:, c:] * kernel.amount).T[:, None]
            if kernel.moving:
                self.rate_carried = rate.reshape(n, -1)[:, -kernel.t :]
                self.carried = self._carry(self.rate_carried)
                totals[:, :-1] += (self.carried * kernel.amount).transpose(2, 0, 1)
        self.totals = totals.transpose(1, 2, 0)
        # Sizes are taken in tolerances; a product costs less than a quotient.
        self.scale = 1.0 / weight.reshape(n, k)[:, :c].ravel()
        self.back = radau.method().back / h
        self.pairs = np.empty((len(radau.method().roots) - 1, n * c), dtype=complex)
        self.begun = False

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
        out: Array = (method.out @ found.reshape(STAGES, -1)).reshape(found.shape)
        return out

    def _chains(self, shifts: tuple[complex, ...], r: Numbers) -> Numbers:
        """Carriers (shifts, N, T) that run down the train, or up it: a triangular band for each
        phase, for several shifts one below the other."""
        out = np.empty_like(r)
        m, n = r.shape[:2]
        solve = ztbtrs if r.dtype.kind == "c" else dtbtrs
        own_shift = np.array(shifts)[:, None]
        for phase, which, leaving, passed in self.at[0].chains:
            band = np.empty((m, n, 2), dtype=r.dtype)
            down = phase == AQUEOUS
            off, own = (0, 1) if down else (1, 0)
            band[:, :, off], band[:, :, own] = passed, leaving + own_shift
            right = r[:, :, which].reshape(m * n, -1)
            found = solve(band.reshape(m * n, 2).T, right, uplo="U" if down else "L")[0]
            out[:, :, which] = found.reshape(m, n, -1)
        return out

    def restart(self) -> None:
        """As there."""
        self.z = np.zeros_like(self.z)
        self.u = np.repeat(self.u0[None], STAGES + 1, axis=0)

    def evaluate(self, close: float = ROUGH) -> float:
        """As there, of the components; the first time of the beginning too."""
        kernel = self.at[0]
        if self.begun:
            moles, u, totals = self.moles + self.z, self.u, self.totals[:-1]
        else:
            moles, u, totals = np.empty((STAGES + 1, self.moles.size)), self.u, self.totals
            np.add(self.moles, self.z, out=moles[:-1])
            moles[-1] = self.moles
        moles = moles.reshape(-1, self.lay.n, self.c)
        u, d, s, slack = kernel.mixers.settle(moles, totals, u, None, close, INSIDE)
        x = moles * s
        self.found = Contents(u=u, x=x, y=d * x, s=s, d=d, totals=totals, aside=None, slack=slack)
        change, self.leaving = kernel.exchange(x, self.found.y)
        if not self.begun:
            self.begun, self.rate, self.u0 = True, change[-1].reshape(-1), u[-1]
        self.rates = change[:STAGES].reshape(STAGES, -1)
        return slack

    def respond(self, kernel: Kernel, spot: Contents) -> Slopes:
        """The carriers are settled already."""
        return kernel.mixers.slopes(spot, moving=False)

    def factorise(self) -> None:
        """One real system, and the complex ones together."""
        first, *others = radau.method().roots
        self.real = self.lin.bands((first.real / self.h,))
        self.others = self.lin.bands(tuple(root / self.h for root in others))

    def newton(self, *, first: bool) -> float:
        """As there, of the components."""
        method, pairs = radau.method(), self.pairs
        split = len(pairs) + 1
        modes = method.into @ (self.rates - self.back @ self.z)
        pairs.real, pairs.imag = modes[1:split], modes[split:]
        solved = self.others.solve(pairs.reshape(-1)).reshape(pairs.shape)
        modes[0] = self.real.solve(modes[0])
        modes[1:split], modes[split:] = solved.real, solved.imag
        self.dz = method.out @ modes
        self.z = self.z + self.dz
        self.u = self.found.u[:STAGES] + by_moles(
            self.slope.u_m, self.dz.reshape(STAGES, self.lay.n, self.c)
        )
        sizes = (self.dz * self.scale).reshape(-1)
        return float(np.sqrt(sizes.dot(sizes) / sizes.size))

    def finish(self) -> None:
        """As there."""
        kernel, lay, c = self.at[0], self.lay, self.c
        rest = self.rate + (radau.method().embedded / self.h) @ self.z
        self.error = self.real.solve(rest)
        stages = kernel.port_stages
        changes = np.concatenate([self.dz, self.error[None]]).reshape(-1, lay.n, c)
        passing = changes[:, stages].swapaxes(0, 1) @ self.lin.at_ports()
        passing[:, :-1] += self.leaving[kernel.port_phases, :, stages][:, :STAGES]
        passing *= kernel.port_shares
        self.flows = np.empty((STAGES, lay.ports, lay.k))
        self.error_leaving = np.zeros((lay.ports, lay.k))
        self.flows[..., :c] = passing[:, :-1].swapaxes(0, 1)
        self.error_leaving[:, :c] = passing[:, -1]
        if kernel.t:
            held = self.y[: lay.inner].reshape(lay.n, lay.k)[stages, c:]
            if self.carried is not None:
                held = held + self.carried[:, stages]
            self.flows[..., c:] = kernel.port_carry * held
        self.moved_u = self.u - self.u0

    def _error_carried(self) -> Array:
        """The error estimate of the carriers (N, T)."""
        method = radau.method()
        assert self.carried is not None
        rest = (method.embedded / self.h) @ self.carried.reshape(STAGES, -1)
        rest = self.rate_carried + rest.reshape(self.rate_carried.shape)
        out: Array = self._chains((method.roots[0].real / self.h,), rest[None])[0]
        return out

    def size(self, weight: Array) -> float:
        """As there."""
        wide = weight.reshape(self.lay.n, -1)
        ratio = (self.error.reshape(-1, self.c) / wide[:, : self.c]).reshape(-1)
        total = ratio.dot(ratio)
        if self.carried is not None:
            total += ((self._error_carried() / wide[:, self.c :]) ** 2).sum()
        return float(np.sqrt(total / weight.size))

    def _wide(self, components: Array, carriers: Array | None) -> Array:
        """Both side by side, as in a state."""
        lead = components.shape[:-1]
        out = np.zeros((*lead, self.lay.n, self.lay.k))
        out[..., : self.c] = components.reshape(*lead, self.lay.n, self.c)
        if carriers is not None:
            out[..., self.c :] = carriers
        return out.reshape(*lead, self.lay.inner)

    def inside(self) -> Array:
        """As there."""
        return self._wide(self.z, self.carried)

    def error_inside(self) -> Array:
        """As there."""
        return self._wide(self.error, None if self.carried is None else self._error_carried())

    def reached(self) -> Array:
        """As there."""
        y, lay, c = self.y.copy(), self.lay, self.c
        rows = y.reshape(-1, lay.k)
        rows[: lay.n, :c] += self.z[-1].reshape(lay.n, c)
        if self.carried is not None:
            rows[: lay.n, c:] += self.carried[-1]
        step = self.h * radau.method().a[-1]
        y[lay.inner : -lay.k] += step @ self.flows.reshape(STAGES, -1)
        rows[-1] += self.h * self.at[0].fed
        return y

    def ended(self, after: Kernel, y: Array, close: float) -> tuple[Array, Array]:
        """Unknowns at the end, to be settled with the next step, and the rates of the carriers."""
        if self.carried is None:
            return self.u[-1], np.zeros(self.lay.n * after.t)
        held = np.ascontiguousarray(y[: self.lay.inner].reshape(self.lay.n, -1)[:, self.c :])
        return self.u[-1], after.exchange(held, held, carriers=True)[0].reshape(-1)
