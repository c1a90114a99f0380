"""Volumes and flows that follow one another: mixers that run over, settlers with a weir.

A mixer of fixed volume V runs over as the dispersion it holds, so that with the part ``theta`` of
it aqueous and Q what enters in all

    V d theta/dt = q_aq,in - theta Q,   q_aq = theta Q,  q_org = (1 - theta) Q.

A settler of fixed volume holds A of aqueous; the organic runs over its top weir, the aqueous leaves
by a leg whose crest a controller may move,

    dA/dt = theta Q - g,   g = q_0 + (A - A_0 + I) / tau,   dI/dt = (A - A_0) / T.

Nothing here depends on what is dissolved, so volumes and flows are found first, as functions of
time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from sepmodel.errors import InfeasibleError
from sepmodel.extraction.dynamics.network import Network

Array = NDArray[np.float64]
Settings = Mapping[str, float]

# Relative accuracy of volumes, and the relative change in a residence time that is standing still.
TIGHT, STILL = 1e-12, 1e-10
# Residence times of the whole train after which one looks whether it stands still.
LOOK = 4.0
# Part of a settler that the thinner phase keeps, or the interface is lost.
THIN = 1e-2


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """How volumes move: mixers that run over; with ``weir`` [s] the settlers' interface moves, the
    aqueous leg letting out a volume more in so long; ``reset`` [s] integral time of the controller
    of its crest, infinite without one."""

    weir: float | None = None
    reset: float = np.inf


@dataclass(slots=True)
class Hydraulics:
    """Volumes and flows of a train; ``state`` holds theta (N,), and with a weir A [m3] and I [m3].

    ``design`` is the network at the beginning, at rest.
    """

    rules: Rules
    design: Network
    state: Array = field(default_factory=lambda: np.zeros(0))
    begun: float = 0.0
    still: float = 0.0
    path: Callable[[float], Array] | None = None

    def __post_init__(self) -> None:
        if not self.state.size:
            net = self.design
            theta = net.flow[0] / net.flow.sum(axis=0)
            parts = [theta]
            if self.rules.weir is not None:
                parts += [self.settled, np.zeros(net.stages)]
            self.state = np.concatenate(parts)

    @property
    def mixer(self) -> Array:
        """Whole volume (N,) of the mixers."""
        out: Array = self.design.mixer.sum(axis=0)
        return out

    @property
    def settled(self) -> Array:
        """Aqueous volume (N,) of the settlers at rest."""
        out: Array = self.design.cell[0]
        return out

    def flows(self, net: Network, state: Array) -> tuple[Array, Array]:
        """(2, N) out of the mixers and out of the stages, under a network's feeds.

        With a weir of several states (..., 3 N) at once, (2, ..., N).
        """
        n = net.stages
        keep_aq, keep_org = net.keep
        fed = _fed(net)
        theta = state[..., :n]
        if self.rules.weir is None:
            matrix = np.zeros((3, n))
            matrix[1] = 1.0
            matrix[0, 1:] = -(keep_aq * theta)[1:]
            matrix[2, :-1] = -(keep_org * (1.0 - theta))[:-1]
            from scipy.linalg import solve_banded

            through = solve_banded((1, 1), matrix, fed.sum(axis=0))
            out = np.stack([theta * through, (1.0 - theta) * through])
            return out, out
        aqueous = self._leg(net, state)
        through = np.empty(aqueous.shape)
        organic: Array | float = 0.0
        for i in range(n):
            below = keep_aq[i + 1] * aqueous[..., i + 1] if i + 1 < n else 0.0
            through[..., i] = fed[0, i] + fed[1, i] + below + organic
            organic = keep_org[i] * (through[..., i] - aqueous[..., i])
        out = np.stack([theta * through, (1.0 - theta) * through])
        return out, np.stack([aqueous, through - aqueous])

    def _leg(self, net: Network, state: Array) -> Array:
        """What leaves the settlers' aqueous legs."""
        n = net.stages
        assert self.rules.weir is not None
        above = state[..., n : 2 * n] - self.settled + state[..., 2 * n :]
        out: Array = np.maximum(self.design.flow[0] + above / self.rules.weir, 0.0)
        return out

    def rate(self, net: Network, state: Array) -> Array:
        """d state/dt."""
        n = net.stages
        mixed, left = self.flows(net, state)
        entering = np.array(np.broadcast_to(_fed(net)[0], mixed[0].shape))
        entering[..., :-1] += net.keep[0, 1:] * left[0, ..., 1:]
        parts = [(entering - mixed[0]) / self.mixer]
        if self.rules.weir is not None:
            above = state[..., n : 2 * n] - self.settled
            parts += [mixed[0] - left[0], above / self.rules.reset]
        return np.concatenate(parts, axis=-1)

    def _size(self) -> Array:
        """What a change of the state is measured by."""
        parts = [np.ones(self.design.stages)]
        if self.rules.weir is not None:
            parts += [self.settled, self.settled]
        return np.concatenate(parts)

    def growth(self) -> float:
        """Largest real part [1/s] of the modes of volumes about rest; above 0 levels swing up.

        Level controllers in a row hand their swings on: what one stage damps a hundred may not.
        """
        state, net = self.state, self.design
        nudge = 1e-6 * self._size()
        ahead = self.rate(net, state + np.diag(nudge))
        columns = (ahead - self.rate(net, state)) / nudge[:, None]
        return float(np.linalg.eigvals(columns.T).real.max())

    def enter(self, start: float, stop: float, nets: Callable[[float], Network]) -> float:
        """Volumes from ``start`` on; the time from which nothing changes, or ``stop``.

        Raises
        ------
        InfeasibleError
            where a settler loses its interface.
        """
        from scipy.integrate import solve_ivp

        if self.path is not None:
            self.state = self.path(start)
        self.begun, self.path = start, None
        size = self._size()
        passing = float(np.max(self.mixer / self.design.flow.sum(axis=0)))

        def moves(t: float, state: Array) -> float:
            rate = self.rate(nets(t), state)
            return float(np.max(np.abs(rate) / size)) * passing

        state, t = self.state, start
        if moves(start, state) < STILL and moves(stop, state) < STILL:
            self.still = start
            return start
        pieces: list[tuple[float, Callable[[float], Array]]] = []
        while t < stop:
            end = min(t + LOOK * passing * self.design.stages, stop)
            found = solve_ivp(
                lambda at, y: self.rate(nets(at), y), (t, end), state, method="DOP853",
                rtol=TIGHT, atol=TIGHT * size, dense_output=True,
            )  # fmt: skip
            state, t = found.y[:, -1], end
            pieces.append((end, found.sol))
            self._whole(state, t)
            if moves(end, state) < STILL and moves(stop, state) < STILL:
                break

        def path(at: float) -> Array:
            k = next((i for i, (last, _) in enumerate(pieces) if at <= last), len(pieces) - 1)
            last, piece = pieces[k]
            return piece(min(at, last))

        self.path, self.still = path, t
        return t

    def _whole(self, state: Array, t: float) -> None:
        if self.rules.weir is None:
            return
        n = self.design.stages
        part = state[n : 2 * n] / self.design.cell.sum(axis=0)
        worst = int(np.argmax(np.abs(part - 0.5)))
        if not THIN < part[worst] < 1.0 - THIN:
            raise InfeasibleError(
                f"the settler of stage {worst + 1} loses its interface by {t:.4g} s",
                limit={"aqueous part of the settler": float(part[worst])},
            )

    def apply(self, net: Network, t: float) -> Network:
        """A network with the volumes and flows of a time."""
        state = self.state if self.path is None else self.path(t)
        n = net.stages
        mixed, left = self.flows(net, state)
        theta = state[:n]
        cell = net.cell
        if self.rules.weir is not None:
            aqueous = state[n : 2 * n]
            cell = np.stack([aqueous, self.design.cell.sum(axis=0) - aqueous])
        return replace(
            net,
            flow=mixed,
            exits=left,
            mixer=self.mixer * np.stack([theta, 1.0 - theta]),
            cell=cell,
        )


def _fed(net: Network) -> Array:
    """Volumes (2, N) that enter from outside, from the flows a plan gives."""
    aqueous, organic = net.flow[0].copy(), net.flow[1].copy()
    aqueous[:-1] -= net.keep[0, 1:] * net.flow[0, 1:]
    organic[1:] -= net.keep[1, :-1] * net.flow[1, :-1]
    return np.stack([aqueous, organic])
