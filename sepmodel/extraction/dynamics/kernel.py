"""Rates of change of a train's contents, and linear systems with their exact derivative.

States are moles, so that whatever leaves one place enters another: y is flat and holds, in this
order, mixers (N, K), cells that pass by (N, K, only where an efficiency is below one), aqueous and
organic settler cells (m, N, K), what left through each outlet (P, K), and what was fed (K).

In a mixer x = M / (Va + Vo D) and y = D x conserve M whatever D is; the log-unknowns u of the
equilibrium follow from M by Newton's method. With s = 1/(Va + Vo D)

    dx = s dM - x Vo D s slope du,  dy = D s dM + y Va s slope du,  r(u, x, y) = 0.

(w - J) k = r is solved by eliminating settler cells (bidiagonal), then a block-tridiagonal system
over the mixers, bordered where streams are returned.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dgbtrf, dgbtrs

from sepmodel.errors import ConvergenceError, Trace
from sepmodel.extraction.dynamics.mixers import CLOSE, Contents, Slopes, mixers
from sepmodel.extraction.dynamics.network import AQUEOUS, ORGANIC, Network

Array = NDArray[np.float64]

# Carriers that change by less than this, relative to what passes, stand still.
STILL = 1e-13


@dataclass(slots=True)
class Layout:
    """Where the parts of a flat state are."""

    n: int
    k: int
    bypass: bool
    cells: tuple[int, int]
    ports: int

    @property
    def mixers(self) -> int:
        return self.n * self.k

    @property
    def size(self) -> int:
        layers = 1 + self.bypass + sum(self.cells)
        return self.n * self.k * layers + (self.ports + 1) * self.k

    def split(self, y: Array) -> tuple[Array, Array | None, Array, Array, Array, Array]:
        """Views: mixers, bypass, aqueous cells, organic cells, outlets, fed; (..., their shape)."""
        nk = self.n * self.k
        lead = y.shape[:-1]

        def part(first: int, layers: int) -> Array:
            return y[..., first * nk : (first + layers) * nk].reshape(*lead, layers, self.n, self.k)

        mixer = part(0, 1)[..., 0, :, :]
        at = 1
        bypass = None
        if self.bypass:
            bypass = part(at, 1)[..., 0, :, :]
            at += 1
        aq = part(at, self.cells[0])
        at += self.cells[0]
        org = part(at, self.cells[1])
        at += self.cells[1]
        tail = y[..., at * nk :].reshape(*lead, self.ports + 1, self.k)
        return mixer, bypass, aq, org, tail[..., :-1, :], tail[..., -1, :]


def layout(net: Network) -> Layout:
    """The layout of states of a network."""
    return Layout(
        n=net.stages,
        k=net.species,
        bypass=net.bypass is not None,
        cells=net.cells,
        ports=len(net.ports),
    )


class Kernel:
    """The arithmetic of one network: rates, derivative, linear systems."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self.lay = layout(net)
        c, n = net.components, net.stages
        self.c = c
        self.t = len(net.carriers)
        self.va, self.vo = net.mixer[0][:, None], net.mixer[1][:, None]
        self.qa, self.qo = net.flow[0][:, None], net.flow[1][:, None]
        phase = np.array(net.carriers, dtype=int)
        # Carriers: x = M / Va in the aqueous, y = M / Vo in the organic.
        self.fixed_x = np.where(phase == AQUEOUS, 1.0, 0.0) / self.va
        self.fixed_y = np.where(phase == ORGANIC, 1.0, 0.0) / self.vo
        self.amount = self.fixed_x + self.fixed_y
        self.part_x = np.concatenate([np.zeros((n, c)), self.fixed_x], axis=1)
        self.part_y = np.concatenate([np.zeros((n, c)), self.fixed_y], axis=1)
        self.mixers = mixers(net.model, net.shift, self.va, self.vo)
        self.close = CLOSE
        self.carried_aq, self.carried_org = self.qa * self.fixed_x, self.qo * self.fixed_y
        self.keep = net.keep[:, :, None]
        self.kappa = [
            net.flow[p][:, None] / net.cell[p][:, None] if net.cells[p] else np.zeros((n, 1))
            for p in (0, 1)
        ]
        self.beside = net.flow[1][:, None] / net.aside[:, None]
        self.k_by = np.zeros((n, net.species))
        if net.bypass is not None:
            self.k_by[:, :c] = net.bypass
        self.carry = None if net.carry is None else net.carry[:, :, None]
        self.fed = net.feed.sum(axis=(0, 1))
        self.moving = True
        self.plain = net.bypass is None and net.carry is None and not any(net.cells)
        self.feed = net.feed.sum(axis=0)

    # -- equilibrium -------------------------------------------------------------------------

    def contents(self, y: Array, u: Array) -> Contents:
        """Concentrations of all mixers, from unknowns ``u`` (N, m) nearby."""
        net, c, nk = self.net, self.c, self.lay.mixers
        mixer = y[:nk].reshape(net.stages, net.species)
        totals = mixer[:, c:] * self.amount if self.t else net.totals
        aside = None
        if self.lay.bypass:
            aside = y[nk : 2 * nk].reshape(mixer.shape)[:, :c] / net.aside[:, None]
        moles = mixer[:, :c]
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            try:
                u, d, s = self.mixers.settle(moles, totals, u, aside, self.close)
            except ConvergenceError:
                # Behind a sharp front the last unknowns are no guess: from the contents alone.
                u = net.model.guess(np.maximum(moles, 0.0), net.mixer[0], net.mixer[1], totals)
                u, d, s = self.mixers.settle(moles, totals, u, aside, self.close)
        if not self.t:
            x = mixer * s
            return Contents(u=u, x=x, y=d * x, s=s, d=d, totals=totals, aside=aside)
        part_x, part_y = self.part_x.copy(), self.part_y.copy()
        part_x[:, :c] = s
        np.multiply(d, s, out=part_y[:, :c])
        return Contents(
            u=u, x=mixer * part_x, y=mixer * part_y, s=s, d=d, totals=totals, aside=aside
        )

    # -- transport ---------------------------------------------------------------------------

    def _spread(
        self, leaving: Array, exits: tuple[Array, Array], passing: Array | None, out: Array
    ) -> None:
        """Put fluxes where they go: ``leaving`` the mixers in all, ``exits`` the settlers."""
        net = self.net
        mixer, bypass, _, _, outlets, _ = self.lay.split(out)
        aq, org = exits
        if self.carry is None:
            down, up = aq, org
        else:
            e, f = self.carry
            down = (1.0 - e) * aq + f * org
            up = (1.0 - f) * org + e * aq
        if passing is not None:
            up = up + passing
        mixer -= leaving
        mixer[:-1] += self.keep[0, 1:] * down[1:]
        into = np.zeros_like(up)
        into[1:] = self.keep[1, :-1] * up[:-1]
        both = (down, up)
        for link in net.links:
            stage, phase = link.source
            back = link.share * both[phase][stage]
            where, which = link.target
            if which == AQUEOUS:
                mixer[where] += back
            else:
                into[where] += back
        if bypass is None:
            mixer += into
        else:
            aside = self.k_by * into
            mixer += into - aside
            bypass += aside
            if passing is not None:
                bypass -= passing
        for row, port in zip(outlets, net.ports.values(), strict=True):
            row += port.share * both[port.phase][port.stage]

    def rates(self, y: Array, found: Contents) -> Array:
        """dy/dt."""
        net = self.net
        if self.plain:
            return self._plain_rates(found)
        _, bypass, *cells, _, _ = self.lay.split(y)
        out = np.zeros_like(y)
        mixer_dot, bypass_dot, *cells_dot, _, fed = self.lay.split(out)
        fluxes = [self.qa * found.x, self.qo * found.y]
        leaving = fluxes[0] + fluxes[1]
        for p in (0, 1):
            if net.cells[p]:
                through = self.kappa[p] * cells[p]
                cells_dot[p][0] += fluxes[p] - through[0]
                cells_dot[p][1:] += through[:-1] - through[1:]
                fluxes[p] = through[-1]
        passing = None if bypass is None else self.beside * bypass
        self._spread(leaving, (fluxes[0], fluxes[1]), passing, out)
        mixer_dot += net.feed[0]
        if bypass_dot is None:
            mixer_dot += net.feed[1]
        else:
            aside = self.k_by * net.feed[1]
            mixer_dot += net.feed[1] - aside
            bypass_dot += aside
        fed += self.fed
        return out

    def _plain_rates(self, found: Contents) -> Array:
        """dy/dt of mixers alone."""
        net, lay = self.net, self.lay
        down, up = self.qa * found.x, self.qo * found.y
        out = np.empty(lay.size)
        mixer = out[: lay.mixers].reshape(lay.n, lay.k)
        np.subtract(self.feed, down, out=mixer)
        mixer -= up
        mixer[:-1] += self.keep[0, 1:] * down[1:]
        mixer[1:] += self.keep[1, :-1] * up[:-1]
        both = (down, up)
        for link in net.links:
            stage, phase = link.source
            mixer[link.target[0]] += link.share * both[phase][stage]
        at = lay.mixers
        for port in net.ports.values():
            np.multiply(port.share, both[port.phase][port.stage], out=out[at : at + lay.k])
            at += lay.k
        out[at:] = self.fed
        return out

    # -- derivative --------------------------------------------------------------------------

    def linearise(self, found: Contents) -> Slopes:
        """How the mixers respond."""
        return self.mixers.slopes(found, bool(self.t) and self.moving)

    def factor(self, found: Contents, slope: Slopes, w: float) -> System:
        """Factorised w - J."""
        return System(self, found, slope, w)


class System:
    """(w - J) k = r, factorised."""

    def __init__(self, kernel: Kernel, found: Contents, slope: Slopes, w: float) -> None:
        net = kernel.net
        self.kernel, self.slope, self.w = kernel, slope, w
        # What of a change in the mixer's outflow reaches the end of the settler within the step.
        self.reach = [(k / (w + k)) ** m for k, m in zip(kernel.kappa, net.cells, strict=True)]
        c = kernel.c
        # d(fluxes)/du, and d(fluxes) by moles in the mixer and beside it.
        self.aq_u = kernel.qa[..., None] * slope.x_u
        self.org_u = kernel.qo[..., None] * slope.y_u
        own = np.arange(c)
        a, v = self.aq_u @ slope.u_m, self.org_u @ slope.u_m
        a[:, own, own] += kernel.qa * found.s
        v[:, own, own] += kernel.qo * (found.d * found.s)
        if slope.u_a is not None:
            u_b = slope.u_a / net.aside[:, None, None]
            a = np.concatenate([a, self.aq_u @ u_b], axis=2)
            v = np.concatenate([v, self.org_u @ u_b], axis=2)
        self.bands = _Band(self, a, v, np.s_[:c])
        self.carriers = None
        if kernel.t and kernel.moving:
            eye = np.eye(kernel.t)
            # Carriers never pass by.
            self.carriers = _Band(
                self,
                kernel.qa[..., None] * (kernel.fixed_x[..., None] * eye),
                kernel.qo[..., None] * (kernel.fixed_y[..., None] * eye),
                np.s_[c:],
            )
            assert slope.u_t is not None
            self.u_t = slope.u_t * kernel.amount[:, None]
        self.out_aq, self.out_org = a, v
        self.plain = kernel.plain
        if self.plain:
            self.port_rows = [
                (port.stage, port.share[:c, None] * (a, v)[port.phase][port.stage])
                for port in net.ports.values()
            ]

    def solve(self, r: Array) -> Array:
        """k for right-hand sides r (size,)."""
        kernel, w = self.kernel, self.w
        if self.plain:
            return self._plain_solve(r)
        net, c = kernel.net, kernel.c
        r_mixer, r_by, *r_cells, r_ports, r_fed = kernel.lay.split(r)
        k = np.zeros_like(r)
        k_mixer, k_by, *k_cells, k_ports, k_fed = kernel.lay.split(k)
        # Changes of the mixers' outflows that are known: those from carriers.
        known = [np.zeros_like(r_mixer), np.zeros_like(r_mixer)]
        if self.carriers is not None:
            held = [np.zeros_like(r_mixer), np.zeros_like(r_mixer)]
            exits = self._cells(held, r_cells, k_cells)
            extra = np.zeros_like(r)
            kernel._spread(np.zeros_like(r_mixer), exits, None, extra)
            right = (r_mixer + kernel.lay.split(extra)[0])[:, c:]
            moved = self.carriers.solve(right)
            k_mixer[:, c:] = moved
            known[0][:, c:] = kernel.qa * (kernel.fixed_x * moved)
            known[1][:, c:] = kernel.qo * (kernel.fixed_y * moved)
            moved_u = self.u_t @ moved[..., None]
            known[0][:, :c] = (self.aq_u @ moved_u)[..., 0]
            known[1][:, :c] = (self.org_u @ moved_u)[..., 0]
        simple = not any(net.cells) and self.carriers is None
        if simple:
            right = r_mixer[:, :c]
        else:
            exits = self._cells(known, r_cells, k_cells)
            extra = np.zeros_like(r)
            kernel._spread(known[0] + known[1], exits, None, extra)
            right = (r_mixer + kernel.lay.split(extra)[0])[:, :c]
        if r_by is not None:
            beside = r_by[:, :c]
            if not simple:
                beside = beside + kernel.lay.split(extra)[1][:, :c]  # type: ignore[index]
            right = np.concatenate([right, beside], axis=1)
        found = self.bands.solve(right)
        k_mixer[:, :c] = found[:, :c]
        flux_aq, flux_org = known
        flux_aq[:, :c] += (self.out_aq @ found[..., None])[..., 0]
        flux_org[:, :c] += (self.out_org @ found[..., None])[..., 0]
        passing = None
        if k_by is not None:
            k_by[:, :c] = found[:, c:]
            passing = kernel.beside * k_by
        exits = self._cells([flux_aq, flux_org], r_cells, k_cells)
        change = np.zeros_like(r)
        kernel._spread(flux_aq + flux_org, exits, passing, change)
        k_ports[:] = (r_ports + kernel.lay.split(change)[4]) / w
        k_fed[:] = r_fed / w
        return k

    def _plain_solve(self, r: Array) -> Array:
        """k of mixers alone."""
        kernel, net, lay = self.kernel, self.kernel.net, self.kernel.lay
        c = kernel.c
        full = r[: lay.mixers].reshape(lay.n, lay.k)
        right = full[:, :c]
        k = r / self.w
        mixer = k[: lay.mixers].reshape(lay.n, lay.k)
        known: tuple[Array, Array] | None = None
        if self.carriers is not None:
            moved = self.carriers.solve(full[:, c:])
            mixer[:, c:] = moved
            moved_u = np.einsum("nmt,nt->nm", self.u_t, moved)
            down = np.einsum("ncm,nm->nc", self.aq_u, moved_u)
            up = np.einsum("ncm,nm->nc", self.org_u, moved_u)
            right = right - down
            right -= up
            right[:-1] += kernel.keep[0, 1:] * down[1:]
            right[1:] += kernel.keep[1, :-1] * up[:-1]
            known = (down, up)
            for link in net.links:
                stage, phase = link.source
                right[link.target[0]] += link.share[:c] * known[phase][stage]
        elif kernel.t:
            mixer[:, c:] = 0.0
        found = self.bands.solve(right)
        mixer[:, :c] = found
        at = lay.mixers
        for (stage, response), port in zip(self.port_rows, net.ports.values(), strict=True):
            change = response @ found[stage]
            if known is not None:
                change += port.share[:c] * known[port.phase][stage]
                carried = (kernel.carried_aq, kernel.carried_org)[port.phase][stage]
                k[at + c : at + lay.k] += port.share[c:] * carried * moved[stage] / self.w
            k[at : at + c] += change / self.w
            at += lay.k
        return k

    def _cells(
        self, entering: list[Array], r_cells: list[Array], k_cells: list[Array]
    ) -> tuple[Array, Array]:
        """Settler cells for given changes of what enters them; the changes of what leaves."""
        out = []
        for p in (0, 1):
            flux, kappa = entering[p], self.kernel.kappa[p]
            for row, k in zip(r_cells[p], k_cells[p], strict=True):
                k[:] = (row + flux) / (self.w + kappa)
                flux = kappa * k
            out.append(flux)
        return out[0], out[1]


class _Band:
    """Block-tridiagonal system over the mixers, with a border for streams that are returned."""

    def __init__(self, system: System, a: Array, v: Array, which: slice) -> None:
        kernel = system.kernel
        net = kernel.net
        n, c = a.shape[:2]
        size = a.shape[2]
        aq = system.reach[0][..., None] * a
        org = system.reach[1][..., None] * v
        if kernel.carry is None:
            down, up = aq, org
        else:
            e, f = kernel.carry[..., None]
            down = (1.0 - e) * aq + f * org
            up = (1.0 - f) * org + e * aq
        if size > c:
            up = up.copy()
            index = np.arange(c)
            up[:, index, c + index] += kernel.beside
        blocks = np.zeros((3, n, size, size))  # from n - 1, own, from n + 1
        blocks[1, :, :c] = a + v
        index = np.arange(size)
        blocks[1, :, index, index] += system.w
        if size > c:
            index = np.arange(c)
            blocks[1, :, c + index, c + index] += kernel.beside.T
        passed = kernel.keep[1, :-1, :, None] * up[:-1]
        if size > c:
            share = kernel.k_by[1:, which, None]
            blocks[0, 1:, :c] = -(1.0 - share) * passed
            blocks[0, 1:, c:] = -share * passed
        else:
            blocks[0, 1:] = -passed
        blocks[2, :-1, :c] = -kernel.keep[0, 1:, :, None] * down[1:]
        self.n, self.size = n, size
        place, order, rows = _places(n, size)
        ab = np.zeros(n * size * rows)
        ab[place] = blocks.reshape(-1)[order]
        half = 2 * size - 1
        self.half = half
        self.lu, self.pivots, info = dgbtrf(
            ab.reshape(n * size, rows).T, half, half, overwrite_ab=True
        )
        if info:
            raise ConvergenceError("a singular step", trace=Trace(equation="time step"))
        self.returned: list[tuple[int, Array]] = []
        self.border: Array | None = None
        links = [k for k in net.links if np.any((down, up)[k.source[1]][k.source[0]])]
        links = [link for link in links if np.any(link.share[which])]
        if links:
            columns = np.zeros((n * size, len(links) * c))
            for j, link in enumerate(links):
                stage, phase = link.source
                where, kind = link.target
                response = (down, up)[phase][stage]
                self.returned.append((stage, link.share[which, None] * response))
                own = np.arange(c)
                first = where * size
                aside = np.zeros(c)
                if size > c and kind == ORGANIC:
                    aside = kernel.k_by[where, which]
                    columns[first + c + own, j * c + own] = aside
                columns[first + own, j * c + own] = 1.0 - aside
            border: Array = dgbtrs(self.lu, half, half, columns, self.pivots)[0]
            self.border = border
            back = self._back(border)
            self.small = np.linalg.inv(np.eye(back.shape[0]) - back)

    def _back(self, k: Array) -> Array:
        """Change of the returned streams for changes of the contents (N size, any)."""
        k = k.reshape(self.n, self.size, -1)
        return np.concatenate([response @ k[stage] for stage, response in self.returned])

    def solve(self, r: Array) -> Array:
        """k (N, size)."""
        k = dgbtrs(self.lu, self.half, self.half, r.reshape(-1), self.pivots)[0]
        if self.border is not None:
            back = self._back(k[:, None])[:, 0]
            k = k + self.border @ (self.small @ back)
        out: Array = k.reshape(self.n, self.size)
        return out


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
