"""Linear systems (w - J) k = r with the exact derivative J of a train's rates, w real or complex.

The log-unknowns are eliminated in each mixer; settler cells are a chain (bidiagonal) in front of
each stage's outflow; what is left is block tridiagonal over the mixers, in LAPACK's band storage,
and bordered where streams are returned. What left and what was fed follows from the rest.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray
from scipy.linalg.blas import dtbsv, ztbsv
from scipy.linalg.lapack import dgbtrf, dgbtrs, zgbtrf, zgbtrs

from sepmodel.errors import ConvergenceError, Trace
from sepmodel.extraction.dynamics.kernel import Kernel
from sepmodel.extraction.dynamics.mixers import Contents, Slopes
from sepmodel.extraction.dynamics.network import ORGANIC, Link

Array = NDArray[np.float64]
Numbers = NDArray[Any]

# A returned stream that carries back less than this part of a change within the time 1/w is put
# back where it is due, but what it does there is left to the next Newton step.
WEAK = 1.0 / 4.0


class Linear:
    """J at one state, before a time step is known."""

    def __init__(self, kernel: Kernel, found: Contents, slope: Slopes, moving: bool = True) -> None:
        net, c = kernel.net, kernel.c
        self.kernel, self.found, self.slope = kernel, found, slope
        # d(fluxes)/du, and d(fluxes) by moles in the mixer and beside it.
        self.aq_u = kernel.qa[..., None] * slope.x_u
        self.org_u = kernel.qo[..., None] * slope.y_u
        # Transposed: [stage, by, flux].
        at = _outer(slope.u_m, self.aq_u)
        vt = _outer(slope.u_m, self.org_u)
        direct_aq, direct_org = kernel.qa * found.s, kernel.qo * (found.d * found.s)
        at.reshape(net.stages, c * c)[:, :: c + 1] += direct_aq
        vt.reshape(net.stages, c * c)[:, :: c + 1] += direct_org
        if slope.u_a is not None:
            u_b = slope.u_a / net.aside[:, None, None]
            at = np.concatenate([at, _outer(u_b, self.aq_u)], axis=1)
            vt = np.concatenate([vt, _outer(u_b, self.org_u)], axis=1)
        self.at, self.vt = at, vt
        self.moving = bool(kernel.t) and moving
        if self.moving:
            assert slope.u_t is not None
            self.u_t = slope.u_t * kernel.amount[:, None]
        self.carrier: tuple[Array, Array] | None = None
        if self.moving:
            n, t = net.stages, kernel.t
            self.carrier = (np.zeros((n, t, t)), np.zeros((n, t, t)))
            for part, own in zip(
                self.carrier, (kernel.carried_aq, kernel.carried_org), strict=True
            ):
                part.reshape(n, t * t)[:, :: t + 1] = own
        self.returns = {False: self._returns((at, vt), slice(0, c))}
        if self.carrier is not None:
            self.returns[True] = self._returns(self.carrier, slice(c, None))

    def _returns(
        self, responses: tuple[Numbers, Numbers], which: slice
    ) -> list[tuple[Link, Numbers, float]]:
        """Streams that return, with what they bring back of a change, and the most of it."""
        out = []
        for link in self.kernel.net.links:
            stage, phase = link.source
            response = link.share[which] * responses[phase][stage]
            most = float(np.abs(response).max())
            if most > 0.0:
                out.append((link, response, most))
        return out

    def shifted(self, w: complex, *, exact: bool = True) -> System:
        """w - J factorised; not ``exact``: weakly returned streams are not followed up."""
        return System(self, w, exact)

    def bands(self, shifts: tuple[complex, ...]) -> Band:
        """Of mixers alone and their components: several shifts at once.

        They stand in the kernel's own room until the next are made.
        """
        bands = self.banded(self.at, self.vt, carriers=False)
        which = slice(0, self.kernel.c)
        kind = complex if isinstance(shifts[0], complex) else float
        key = (kind, len(shifts))
        if key not in self.kernel.rooms:
            room = np.empty(len(shifts) * bands.size + bands.shape[1], dtype=kind)
            self.kernel.rooms[key] = room
        return Band(
            self.kernel, bands, shifts, self.returns[False], which, exact=False,
            room=self.kernel.rooms[key],
        )  # fmt: skip

    def at_ports(self) -> Array:
        """[outlet, by, flux] of the stages of the outlets, in their phases, (P, C, C)."""
        both = (self.at, self.vt)
        return np.array([both[port.phase][port.stage] for port in self.kernel.net.ports.values()])

    def banded(self, at: Array, vt: Array, *, carriers: bool) -> Array:
        """-J over mixers alone in band storage, one row of the result for each column.

        It is the kernel's own scratch, to be copied, and filled once for all shifts.
        """
        kernel = self.kernel
        if carriers not in kernel.storage:
            kernel.storage[carriers] = _storage(kernel.lay.n, at.shape[1])
        ab, own, above, below = kernel.storage[carriers]
        if kernel.stored.get(carriers) is not self:
            kernel.stored[carriers] = self
            np.add(at, vt, out=own)
            np.multiply(vt[:-1], -kernel.keep[1, :-1, :, None], out=above)
            np.multiply(at[1:], -kernel.keep[0, 1:, :, None], out=below)
        return ab

    def passing(self, k: Array) -> Array:
        """What a change (..., inner) of the contents changes in what leaves, (..., P, K)."""
        kernel, net, lay, c = self.kernel, self.kernel.net, self.kernel.lay, self.kernel.c
        mixer, bypass, *cells = lay.parts(k)
        if kernel.plain:
            out = np.zeros((*k.shape[:-1], lay.ports, lay.k))
            for row, port in enumerate(net.ports.values()):
                i = port.stage
                change = mixer[..., i, :c] @ (self.at, self.vt)[port.phase][i]
                if self.moving:
                    by_u = (self.aq_u, self.org_u)[port.phase][i]
                    change = change + mixer[..., i, c:] @ (by_u @ self.u_t[i]).T
                    carried = (kernel.carried_aq, kernel.carried_org)[port.phase][i]
                    out[..., row, c:] = port.share[c:] * carried * mixer[..., i, c:]
                out[..., row, :c] = port.share[:c] * change
            return out
        flux_aq, flux_org = np.zeros(mixer.shape), np.zeros(mixer.shape)
        pool = mixer[..., :c]
        if bypass is not None:
            pool = np.concatenate([pool, bypass[..., :c]], axis=-1)
        for flux, q, by_u, fixed in (
            (flux_aq, self.at, self.aq_u, kernel.carried_aq),
            (flux_org, self.vt, self.org_u, kernel.carried_org),
        ):
            flux[..., :c] = np.einsum("nji,...nj->...ni", q, pool)
            if self.moving:
                moved = np.einsum("nmt,...nt->...nm", self.u_t, mixer[..., c:])
                flux[..., :c] += np.einsum("nim,...nm->...ni", by_u, moved)
                flux[..., c:] = fixed * mixer[..., c:]
        exits = [
            kernel.kappa[p] * part[..., -1, :, :] if net.cells[p] else flux
            for p, part, flux in ((0, cells[0], flux_aq), (1, cells[1], flux_org))
        ]
        aside = None if bypass is None else kernel.beside * bypass
        scratch = np.zeros(mixer.shape)
        beside = None if bypass is None else np.zeros(mixer.shape)
        both = kernel.spread(scratch, (exits[0], exits[1]), aside, scratch.copy(), beside)
        return kernel.leaving(k, both)


class System:
    """(w - J) k = r over what is in the train, factorised."""

    def __init__(self, lin: Linear, w: complex, exact: bool) -> None:
        kernel, c = lin.kernel, lin.kernel.c
        self.lin, self.w = lin, w if isinstance(w, complex) and w.imag else w.real
        self.reach = None
        self.carriers: Band | None = None
        if kernel.plain:
            bands = lin.banded(lin.at, lin.vt, carriers=False)
            self.bands = Band(kernel, bands, (self.w,), lin.returns[False], slice(0, c), exact)
            if lin.carrier is not None:
                bands = lin.banded(*lin.carrier, carriers=True)
                self.carriers = Band(
                    kernel, bands, (self.w,), lin.returns[True], slice(c, None), exact=True
                )
            return
        # What of a change in the mixer's outflow reaches the end of the settler within the step.
        self.reach = [
            (k / (self.w + k)) ** m for k, m in zip(kernel.kappa, kernel.net.cells, strict=True)
        ]
        self.bands = self._with_settlers(lin.at, lin.vt, slice(0, c))
        if lin.carrier is not None:
            self.carriers = self._with_settlers(*lin.carrier, slice(c, None))

    def _with_settlers(self, at: Array, vt: Array, which: slice) -> Band:
        """The band matrix where settlers, entrainment or what passes by take part."""
        kernel = self.lin.kernel
        assert self.reach is not None
        n, size, c = at.shape
        a, v = at.swapaxes(1, 2), vt.swapaxes(1, 2)
        aq, org = self.reach[0][..., None] * a, self.reach[1][..., None] * v
        if kernel.carry is None:
            down, up = aq, org
        else:
            e, f = kernel.carry[..., None]
            down = (1.0 - e) * aq + f * org
            up = (1.0 - f) * org + e * aq
        index = np.arange(c)
        if size > c:
            up = up.copy()
            up[:, index, c + index] += kernel.beside
        blocks = np.zeros((3, n, size, size), dtype=up.dtype)  # from n - 1, own, from n + 1
        blocks[1, :, :c] = a + v
        if size > c:
            blocks[1, :, c + index, c + index] += kernel.beside.T
        passed = kernel.keep[1, :-1, :, None] * up[:-1]
        if size > c:
            share = kernel.k_by[1:, which, None]
            blocks[0, 1:, :c] = -(1.0 - share) * passed
            blocks[0, 1:, c:] = -share * passed
        else:
            blocks[0, 1:] = -passed
        blocks[2, :-1, :c] = -kernel.keep[0, 1:, :, None] * down[1:]
        place, order, rows = _places(n, size)
        ab = np.zeros(n * size * rows, dtype=up.dtype)
        ab[place] = blocks.reshape(-1)[order]
        returns = self.lin._returns((down.swapaxes(1, 2), up.swapaxes(1, 2)), which)
        return Band(kernel, ab.reshape(n * size, rows), (self.w,), returns, which, exact=True)

    def solve(self, r: Numbers, *, carriers: bool = True) -> Numbers:
        """k for r (inner,); without ``carriers`` they stay, whatever r says of them."""
        kernel, lin = self.lin.kernel, self.lin
        if kernel.plain:
            return self._plain_solve(r, carriers)
        c = kernel.c
        r_mixer, r_by, *r_cells = kernel.lay.parts(r)
        k = np.zeros_like(r)
        k_mixer, k_by, *k_cells = kernel.lay.parts(k)
        kind = k.dtype
        # Changes of the mixers' outflows that are known: those from carriers.
        known = [np.zeros_like(k_mixer), np.zeros_like(k_mixer)]
        if self.carriers is not None:
            held = [np.zeros_like(k_mixer), np.zeros_like(k_mixer)]
            exits = self._cells(held, r_cells, k_cells)
            extra = np.zeros_like(k_mixer)
            aside = None if r_by is None else np.zeros_like(k_mixer)
            kernel.spread(np.zeros_like(k_mixer), exits, None, extra, aside)
            moved = self.carriers.solve((r_mixer + extra)[:, c:].reshape(-1))
            moved = moved.reshape(kernel.lay.n, -1)
            k_mixer[:, c:] = moved
            known[0][:, c:] = kernel.carried_aq * moved
            known[1][:, c:] = kernel.carried_org * moved
            moved_u = (lin.u_t * moved[:, None, :]).sum(axis=-1)
            known[0][:, :c] = (lin.aq_u * moved_u[:, None, :]).sum(axis=-1)
            known[1][:, :c] = (lin.org_u * moved_u[:, None, :]).sum(axis=-1)
        exits = self._cells(known, r_cells, k_cells)
        extra = np.zeros(k_mixer.shape, dtype=kind)
        aside = None if r_by is None else np.zeros(k_mixer.shape, dtype=kind)
        kernel.spread(known[0] + known[1], exits, None, extra, aside)
        right = (r_mixer + extra)[:, :c]
        if r_by is not None and aside is not None:
            right = np.concatenate([right, (r_by + aside)[:, :c]], axis=1)
        found = self.bands.solve(right.reshape(-1)).reshape(right.shape)
        k_mixer[:, :c] = found[:, :c]
        flux_aq, flux_org = known
        flux_aq[:, :c] += (found[:, None, :] @ lin.at)[:, 0]
        flux_org[:, :c] += (found[:, None, :] @ lin.vt)[:, 0]
        if k_by is not None:
            k_by[:, :c] = found[:, c:]
        self._cells([flux_aq, flux_org], r_cells, k_cells)
        return k

    def _plain_solve(self, r: Numbers, carriers: bool) -> Numbers:
        """k of mixers alone."""
        lin, kernel = self.lin, self.lin.kernel
        lay, c = kernel.lay, kernel.c
        full = r.reshape(lay.n, lay.k)
        right = full[:, :c]
        if not kernel.t:
            return self.bands.solve(r)
        k = np.empty_like(full)
        if self.carriers is None or not carriers:
            k[:, c:] = 0.0
        else:
            moved = self.carriers.solve(full[:, c:].reshape(-1)).reshape(lay.n, -1)
            k[:, c:] = moved
            moved_u = (lin.u_t * moved[:, None, :]).sum(axis=-1)
            down = (lin.aq_u * moved_u[:, None, :]).sum(axis=-1)
            up = (lin.org_u * moved_u[:, None, :]).sum(axis=-1)
            right = right - down
            right -= up
            right[:-1] += kernel.keep[0, 1:] * down[1:]
            right[1:] += kernel.keep[1, :-1] * up[:-1]
            both = (down, up)
            for link in kernel.net.links:
                stage, phase = link.source
                right[link.target[0]] += link.share[:c] * both[phase][stage]
        k[:, :c] = self.bands.solve(right.reshape(-1)).reshape(right.shape)
        return k.reshape(-1)

    def _cells(
        self, entering: list[Numbers], r_cells: list[Numbers], k_cells: list[Numbers]
    ) -> tuple[Numbers, Numbers]:
        """Settler cells for given changes of what enters them; the changes of what leaves."""
        out = []
        for p in (0, 1):
            flux, kappa = entering[p], self.lin.kernel.kappa[p]
            for row, k in zip(r_cells[p], k_cells[p], strict=True):
                k[:] = (row + flux) / (self.w + kappa)
                flux = kappa * k
            out.append(flux)
        return out[0], out[1]


class Band:
    """A band matrix over the mixers with shifts w on its diagonal, bordered for returned streams.

    Several shifts are several matrices one below the other, so that one call does for all: numpy's
    and LAPACK's cost is that of their calls.
    """

    def __init__(
        self,
        kernel: Kernel,
        bands: Numbers,
        shifts: tuple[complex, ...],
        returns: list[tuple[Link, Numbers, float]],
        which: slice,
        exact: bool,
        room: Numbers | None = None,
    ) -> None:
        n, m = kernel.lay.n, len(shifts)
        count, rows = bands.shape
        self.n, self.size, self.m = n, count // n, m
        self.half = half = (rows - 1) // 3
        complex_valued = isinstance(shifts[0], complex)
        length = m * count * rows
        if room is None:
            room = np.empty(length + rows, dtype=complex if complex_valued else bands.dtype)
        each = room[:length].reshape(m, count, rows)
        # LAPACK clears what elimination fills itself.
        each[..., half:] = bands[:, half:]
        each[..., 2 * half] += np.array(shifts)[:, None]
        ab = each.reshape(m * count, rows)
        factorise, self.back_solve = (zgbtrf, zgbtrs) if complex_valued else (dgbtrf, dgbtrs)
        self.lu, self.pivots, info = factorise(ab.T, half, half, overwrite_ab=True)
        if info:
            raise ConvergenceError("a singular step", trace=Trace(equation="time step"))
        # Mostly no rows were exchanged; then the two triangles are plain bands, solved faster.
        self.triangles: tuple[Numbers, Numbers] | None = None
        if half and bool((self.pivots == _in_order(m * count)).all()):
            # The same memory, seen from the first row of each: what is behind its last is not read.
            first = room[2 * half :][:length], room[half:][:length]
            lower, upper = (part.reshape(m * count, rows).T for part in first)
            self.triangles = lower, upper
            self.band_solve = ztbsv if complex_valued else dtbsv
        self.weak: list[tuple[slice, slice, Numbers]] = []
        self.returned: list[tuple[int, Numbers]] = []
        self.border: Numbers | None = None
        strong = []
        size, least = self.size, min(map(abs, shifts))
        for link, response, most in returns:
            where = None if exact else kernel.near[link.target[0]]
            if where is not None and most < WEAK * least:
                source, target = (slice(i * size, (i + 1) * size) for i in (link.source[0], where))
                by_shift = response / np.array(shifts)[:, None, None]
                self.weak.append((source, target, by_shift))
            else:
                strong.append((link, response))
        if strong:
            self._borders(kernel, strong, which, ab.dtype)

    def _borders(
        self, kernel: Kernel, strong: list[tuple[Link, Numbers]], which: slice, kind: Any
    ) -> None:
        n, size, m = self.n, self.size, self.m
        c = strong[0][1].shape[1]
        columns = np.zeros((n * size, len(strong) * c), dtype=kind)
        own = np.arange(c)
        for j, (link, response) in enumerate(strong):
            where, phase = link.target
            self.returned.append((link.source[0], response))
            first = where * size
            aside = np.zeros(c)
            if size > c and phase == ORGANIC:
                aside = kernel.k_by[where, which]
                columns[first + c + own, j * c + own] = aside
            columns[first + own, j * c + own] = 1.0 - aside
        stacked = np.asfortranarray(np.tile(columns, (m, 1)))
        flat: Numbers = self.back_solve(
            self.lu, self.half, self.half, stacked, self.pivots, overwrite_b=True
        )[0]
        border: Numbers = flat.reshape(m, n * size, -1)
        back = self._back(border.swapaxes(1, 2)).swapaxes(1, 2)
        small: Numbers = np.linalg.inv(np.eye(back.shape[-1]) - back)
        self.border = border @ small

    def _back(self, k: Numbers) -> Numbers:
        """Change of the returned streams for changes (..., N size) of the contents."""
        k = k.reshape(*k.shape[:-1], self.n, self.size)
        return np.concatenate([k[..., i, :] @ response for i, response in self.returned], axis=-1)

    def solve(self, r: Numbers) -> Numbers:
        """k (shifts N size) for r of that length."""
        k: Numbers
        if self.triangles is None:
            k = self.back_solve(self.lu, self.half, self.half, r, self.pivots)[0]
        else:
            lower, upper = self.triangles
            k = self.band_solve(self.half, lower, r, lower=1, diag=1)
            k = self.band_solve(self.half, upper, k, overwrite_x=1)
        if self.border is None and not self.weak:
            return k
        each = k.reshape(self.m, -1)
        if self.border is not None:
            each += (self.border @ self._back(each)[..., None])[..., 0]
        changes = [each[:, None, source] @ response for source, _, response in self.weak]
        for (_, target, _), change in zip(self.weak, changes, strict=True):
            each[:, target] += change[:, 0]
        return k


def _outer(u_m: Array, flux_u: Array) -> Array:
    """(N, by, flux) of u by moles (N, m, C) and fluxes by u (N, C, m)."""
    if u_m.shape[1] == 1:
        return u_m[:, 0, :, None] * flux_u[:, None, :, 0]
    return u_m.swapaxes(1, 2) @ flux_u.swapaxes(1, 2)


def _storage(n: int, size: int) -> tuple[Array, Array, Array, Array]:
    """A band matrix and its three block diagonals as views."""
    half = 2 * size - 1
    rows = 3 * half + 1
    ab = np.zeros((n * size, rows))
    step = ab.itemsize
    strides = (size * rows * step, (rows - 1) * step, step)

    def blocks(count: int, offset: int) -> Array:
        flat = ab.reshape(-1)[offset:]
        return as_strided(flat, (count, size, size), strides)

    return (
        ab,
        blocks(n, 2 * half),
        blocks(n - 1, 2 * half + size),
        blocks(n - 1, size * rows + 2 * half - size),
    )


@cache
def _in_order(count: int) -> NDArray[np.int32]:
    """Pivots of a factorisation that exchanged no rows."""
    return np.arange(count, dtype=np.int32)


@cache
def _places(n: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Where the entries of three block diagonals stand in LAPACK's band storage (by columns).

    Places, the entries that stand there, and the rows of the storage.
    """
    half = 2 * size - 1
    rows = 3 * half + 1
    stage, i, j = np.meshgrid(np.arange(n), np.arange(size), np.arange(size), indexing="ij")
    index = []
    for shift in (-1, 0, 1):
        good = (stage + shift >= 0) & (stage + shift < n)
        row = stage[good] * size + i[good]
        column = (stage[good] + shift) * size + j[good]
        index.append(column * rows + 2 * half + row - column)
    numbers = np.arange(3 * n * size * size).reshape(3, n, size, size)
    kept = [numbers[0, 1:], numbers[1], numbers[2, :-1]]
    return np.concatenate(index), np.concatenate([part.reshape(-1) for part in kept]), rows
