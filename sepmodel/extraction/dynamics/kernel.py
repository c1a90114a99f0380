"""Rates of change of a train's contents, for one state or many at once.

States are moles, so that whatever leaves one place enters another: y is flat and holds, in this
order, mixers (N, K), cells that pass by (N, K, only where an efficiency is below one), aqueous and
organic settler cells (m, N, K), what left through each outlet (P, K), and what was fed (K).

In a mixer x = M / (Va + Vo D) and y = D x conserve M whatever D is; the log-unknowns u of the
equilibrium follow from M by Newton's method. With s = 1/(Va + Vo D)

    dx = s dM - x Vo D s slope du,  dy = D s dM + y Va s slope du,  r(u, x, y) = 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry.active_exchange import ActiveExchange
from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.errors import ConvergenceError
from sepmodel.extraction.dynamics.mixers import CLOSE, LIMIT, Contents, Slopes, mixers
from sepmodel.extraction.dynamics.network import AQUEOUS, ORGANIC, Network

Array = NDArray[np.float64]


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
    def inner(self) -> int:
        """Length of the part of a state that is in the train."""
        return self.n * self.k * (1 + self.bypass + sum(self.cells))

    @property
    def size(self) -> int:
        """Length of a state."""
        return self.inner + (self.ports + 1) * self.k

    def parts(self, y: Array) -> tuple[Array, Array | None, Array, Array]:
        """Views of what is in the train: mixers, bypass, aqueous cells, organic cells."""
        nk = self.n * self.k
        lead = y.shape[:-1]

        def part(first: int, layers: int) -> Array:
            return y[..., first * nk : (first + layers) * nk].reshape(*lead, layers, self.n, self.k)

        mixer = y[..., :nk].reshape(*lead, self.n, self.k)
        at = 1
        bypass = None
        if self.bypass:
            bypass = part(at, 1)[..., 0, :, :]
            at += 1
        aq = part(at, self.cells[0])
        return mixer, bypass, aq, part(at + self.cells[0], self.cells[1])

    def split(self, y: Array) -> tuple[Array, Array | None, Array, Array, Array, Array]:
        """Views: mixers, bypass, aqueous cells, organic cells, outlets, fed; (..., their shape)."""
        tail = y[..., self.inner :].reshape(*y.shape[:-1], self.ports + 1, self.k)
        return *self.parts(y), tail[..., :-1, :], tail[..., -1, :]


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
        self.mixers = mixers(net.model, net.shift, self.va, self.vo)
        self.close = CLOSE
        self.carried_aq, self.carried_org = self.qa * self.fixed_x, self.qo * self.fixed_y
        self.keep = net.keep[:, :, None]
        exits = net.flow if net.exits is None else net.exits
        self.kappa = [
            exits[p][:, None] / net.cell[p][:, None] if net.cells[p] else np.zeros((n, 1))
            for p in (0, 1)
        ]
        self.beside = net.flow[1][:, None] / net.aside[:, None]
        self.k_by = np.zeros((n, net.species))
        if net.bypass is not None:
            self.k_by[:, :c] = net.bypass
        self.carry = None if net.carry is None else net.carry[:, :, None]
        self.fed = net.feed.sum(axis=(0, 1))
        # Of what leaves the stages of the outlets: what leaves the train, and what runs there.
        self.shares = np.array([port.share for port in net.ports.values()])
        self.running = np.array([port.running for port in net.ports.values()])
        self.products = np.ones(c) if net.products is None else net.products
        # Components of a row of a state, not carriers.
        self.counted = (np.arange(net.species) < c).astype(float)
        self.moving = True
        self.plain = net.bypass is None and net.carry is None and not any(net.cells)
        self.feed = net.feed.sum(axis=0)
        self.feeds = [np.array(self.feed[:, :c]), np.array(self.feed[:, c:])]
        # What leaves a mixer per concentration, or per mole of a carrier; and what of it arrives at
        # its neighbours: nothing from the first row down, or from the last row up, so that moving
        # whole arrays by one row puts every flux where it goes. As wide as the contents, because
        # numpy runs through short rows ten times as slowly.
        self.fluxes = []
        for rates, count in (
            ((self.qa, self.qo), c),
            ((self.carried_aq, self.carried_org), self.t),
        ):
            wide = [np.array(np.broadcast_to(q, (n, count))) for q in rates]
            kept = [wide[0] * self.keep[0], wide[1] * self.keep[1]]
            kept[0][0], kept[1][-1] = 0.0, 0.0
            self.fluxes.append((*wide, *kept))
        # Scratch for band matrices of components and of carriers, and what is in it.
        self.storage: dict[bool, tuple[Array, Array, Array, Array]] = {}
        self.stored: dict[bool, object] = {}
        self.rooms: dict[tuple[type, int], NDArray[Any]] = {}
        # Carriers of each phase, where they run one way: which, and their two diagonals.
        self.chains = []
        for p in (AQUEOUS, ORGANIC):
            which = np.flatnonzero(phase == p)
            if which.size:
                leave = (self.carried_aq, self.carried_org)[p][:, which[0]]
                passed = self.keep[p, :, 0] * leave
                # What its band holds beside the diagonal: nothing arrives from beyond the ends.
                passed = -passed
                passed[0 if p == AQUEOUS else -1] = 0.0
                self.chains.append((p, which, leave, passed))
        # Outlets: where they are, and what of components and of carriers leaves through them.
        ports = list(net.ports.values())
        self.port_stages = np.array([port.stage for port in ports])
        self.port_phases = np.array([port.phase for port in ports])
        self.port_shares = self.shares[:, None, :c]
        carried = np.stack([self.carried_aq, self.carried_org])
        self.port_carry = self.shares[:, c:] * carried[self.port_phases, self.port_stages]
        busy = set(self.port_stages.tolist())
        idle = [i for i in range(n) if i not in busy]
        # Nothing that carriers leave with comes back.
        self.one_way = self.plain and not any(
            np.any(link.share[c:][phase == link.source[1]]) for link in net.links
        )
        # The stage nearest to where a stream returns from which nothing leaves the train.
        self.near = {
            link.target[0]: min(idle, key=lambda i: abs(i - link.target[0])) if idle else None
            for link in net.links
        }

    # -- equilibrium -------------------------------------------------------------------------

    def contents(
        self, y: Array, u: Array, close: float | None = None, *, limit: int = LIMIT
    ) -> Contents:
        """Concentrations of all mixers, from unknowns ``u`` (..., N, m) nearby.

        With few Newton steps (``limit``) a guess that is far off is refused, not mended.

        Raises
        ------
        ConvergenceError
        """
        net, c, nk = self.net, self.c, self.lay.mixers
        lead = y.shape[:-1]
        mixer = y[..., :nk].reshape(*lead, net.stages, net.species)
        if self.t:
            totals = mixer[..., c:] * self.amount
        else:
            totals = np.broadcast_to(net.totals, (*lead, *net.totals.shape))
        aside = None
        if self.lay.bypass:
            beside = y[..., nk : 2 * nk].reshape(mixer.shape)
            aside = beside[..., :c] / net.aside[:, None]
        # Contiguous: numpy runs through short rows ten times as slowly.
        moles = np.ascontiguousarray(mixer[..., :c])
        close = self.close if close is None else close
        with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
            try:
                u, d, s, slack = self.mixers.settle(moles, totals, u, aside, close, limit)
            except ConvergenceError:
                if limit < LIMIT:
                    raise
                # Behind a sharp front the last unknowns are no guess: from the contents alone.
                u = net.model.guess(np.maximum(moles, 0.0), net.mixer[0], net.mixer[1], totals)
                u, d, s, slack = self.mixers.settle(moles, totals, u, aside, close)
        x = moles * s
        return Contents(u=u, x=x, y=d * x, s=s, d=d, totals=totals, aside=aside, slack=slack)

    def concentrations(self, y: Array, found: Contents) -> tuple[Array, Array]:
        """Of all species in both phases, carriers too, (..., N, K)."""
        if not self.t:
            return found.x, found.y
        carried = y[..., : self.lay.mixers].reshape(*y.shape[:-1], self.lay.n, self.lay.k)
        carried = carried[..., self.c :]
        return (
            np.concatenate([found.x, carried * self.fixed_x], axis=-1),
            np.concatenate([found.y, carried * self.fixed_y], axis=-1),
        )

    # -- transport ---------------------------------------------------------------------------

    def spread(
        self,
        leaving: Array,
        exits: tuple[Array, Array],
        passing: Array | None,
        mixer: Array,
        bypass: Array | None,
    ) -> tuple[Array, Array]:
        """Put fluxes where they go: ``leaving`` the mixers in all, ``exits`` the settlers.

        Added to ``mixer`` and ``bypass``; what leaves the stages in each phase is returned.
        """
        net = self.net
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
        mixer[..., :-1, :] += self.keep[0, 1:] * down[..., 1:, :]
        arriving = np.zeros_like(up)
        arriving[..., 1:, :] = self.keep[1, :-1] * up[..., :-1, :]
        both = (down, up)
        for link in net.links:
            stage, phase = link.source
            back = link.share * both[phase][..., stage, :]
            where, which = link.target
            if which == AQUEOUS:
                mixer[..., where, :] += back
            else:
                arriving[..., where, :] += back
        if bypass is None:
            mixer += arriving
        else:
            aside = self.k_by * arriving
            mixer += arriving - aside
            bypass += aside
            if passing is not None:
                bypass -= passing
        return both

    def rates(self, y: Array, found: Contents) -> Array:
        """dy/dt of states (..., size)."""
        out = np.empty_like(y)
        inner = self.lay.inner
        out[..., :inner], exits = self.changes(y, found)
        tail = out[..., inner:].reshape(*y.shape[:-1], self.lay.ports + 1, self.lay.k)
        tail[..., :-1, :] = self.leaving(y, exits)
        tail[..., -1, :] = self.fed
        return out

    def outflows(self, y: Array, found: Contents) -> Array:
        """What leaves through each outlet [mol/s], (..., P, K)."""
        return self.shares * self.at_outlets(y, found)

    def at_outlets(self, y: Array, found: Contents) -> Array:
        """What leaves the stages of the outlets [mol/s], (..., P, K), whatever becomes of it."""
        if not self.plain:
            return self._at_outlets(y, self.changes(y, found)[1])
        lay, c = self.lay, self.c
        out = np.zeros((*y.shape[:-1], lay.ports, lay.k))
        for row, port in enumerate(self.net.ports.values()):
            i = port.stage
            flow = (self.qa, self.qo)[port.phase][i]
            conc = (found.x, found.y)[port.phase][..., i, :]
            out[..., row, :c] = flow * conc
            if self.t:
                each = (self.carried_aq, self.carried_org)[port.phase][i]
                held = y[..., i * lay.k + c : (i + 1) * lay.k]
                out[..., row, c:] = each * held
        return out

    def changes(self, y: Array, found: Contents) -> tuple[Array, tuple[Array, Array]]:
        """Rates of what is in the train (..., inner), and what leaves the stages in each phase."""
        net, lay = self.net, self.lay
        if self.plain:
            return self._plain_changes(y, found)
        _, bypass, *cells = lay.parts(y)
        out = np.zeros((*y.shape[:-1], lay.inner))
        mixer_dot, bypass_dot, *cells_dot = lay.parts(out)
        aqueous, organic = self.concentrations(y, found)
        fluxes = [self.qa * aqueous, self.qo * organic]
        leaving = fluxes[0] + fluxes[1]
        for p in (0, 1):
            if net.cells[p]:
                through = self.kappa[p] * cells[p]
                cells_dot[p][..., 0, :, :] += fluxes[p] - through[..., 0, :, :]
                cells_dot[p][..., 1:, :, :] += through[..., :-1, :, :] - through[..., 1:, :, :]
                fluxes[p] = through[..., -1, :, :]
        passing = None if bypass is None else self.beside * bypass
        exits = self.spread(leaving, (fluxes[0], fluxes[1]), passing, mixer_dot, bypass_dot)
        mixer_dot += net.feed[0]
        if bypass_dot is None:
            mixer_dot += net.feed[1]
        else:
            aside = self.k_by * net.feed[1]
            mixer_dot += net.feed[1] - aside
            bypass_dot += aside
        return out, exits

    def leaving(self, y: Array, exits: tuple[Array, Array]) -> Array:
        """What leaves through each outlet (..., P, K), from what leaves the stages."""
        return self.shares * self._at_outlets(y, exits)

    def _at_outlets(self, y: Array, exits: tuple[Array, Array]) -> Array:
        lay, c = self.lay, self.c
        out = np.empty((*y.shape[:-1], lay.ports, lay.k))
        count = exits[0].shape[-1]
        for row, port in enumerate(self.net.ports.values()):
            i = port.stage
            out[..., row, :count] = exits[port.phase][..., i, :]
            if count < lay.k:
                first = i * lay.k
                each = (self.carried_aq, self.carried_org)[port.phase][i]
                out[..., row, c:] = each * y[..., first + c : first + lay.k]
        return out

    def _plain_changes(self, y: Array, found: Contents) -> tuple[Array, tuple[Array, Array]]:
        """Rates of mixers alone; of carriers nothing is said of what leaves."""
        lay, c = self.lay, self.c
        change, (aq, org) = self.exchange(found.x, found.y)
        if not self.t:
            return change.reshape(*y.shape[:-1], lay.inner), (aq, org)
        mixer = np.zeros((*y.shape[:-1], lay.n, lay.k))
        mixer[..., :c] = change
        if self.moving:
            held = y[..., : lay.mixers].reshape(mixer.shape)[..., c:]
            held = np.ascontiguousarray(held)
            mixer[..., c:] = self.exchange(held, held, carriers=True)[0]
        return mixer.reshape(*y.shape[:-1], lay.inner), (aq, org)

    def exchange(self, x: Array, y: Array, *, carriers: bool = False) -> tuple[Array, Array]:
        """Rates in mixers alone (..., N, C), and what leaves the stages, of concentrations.

        Both phases' are (2, ..., N, C); of ``carriers`` from moles, (..., N, T).
        """
        leave_aq, leave_org, down_aq, up_org = self.fluxes[carriers]
        both = np.empty((2, *x.shape))
        np.multiply(leave_aq, x, out=both[0])
        np.multiply(leave_org, y, out=both[1])
        change = self.feeds[carriers] - both[0]
        change -= both[1]
        flat, by = change.reshape(-1), x.shape[-1]
        flat[:-by] += (down_aq * x).reshape(-1)[by:]
        flat[by:] += (up_org * y).reshape(-1)[:-by]
        which = slice(self.c, None) if carriers else slice(0, self.c)
        for link in self.net.links:
            stage, phase = link.source
            change[..., link.target[0], :] += link.share[which] * both[phase][..., stage, :]
        return change, both

    def free(self, found: Contents) -> Array | None:
        """Free dimer and protons (..., N, 2) [mol/m3], where the equilibrium knows them."""
        organic = found.y if found.aside is None else found.y + found.aside
        model = self.net.model
        if isinstance(model, CationExchange | ActiveExchange):
            return np.stack(model.free(found.u, found.totals, found.x, organic), axis=-1)
        free: Array | None = model.spot(found.u, found.totals, found.x, organic).free
        return free

    # -- derivative --------------------------------------------------------------------------

    def linearise(self, found: Contents) -> Slopes:
        """How the mixers respond."""
        return self.mixers.slopes(found, bool(self.t) and self.moving)
