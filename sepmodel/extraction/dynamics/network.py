"""A train at one moment, as arrays: hold-ups, flows, feeds, and where everything goes.

Each stage is a mixer in which both phases are perfectly mixed and in equilibrium, and, if wanted,
a settler that each phase passes through a number of cells in series. Where the Murphree efficiency
is below one, the part of the organic that takes no part passes by in a cell of its own, as in the
steady circuit. What no exchange between the phases changes (extractant, anions, sulfate) travels
with its phase: a carrier.

Axis order: [stage, species], species = components, then carriers.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel.chemistry.equilibrium import Equilibrium
from sepmodel.errors import InputError, Problem
from sepmodel.extraction.stagewise import Plan

Array = NDArray[np.float64]

AQUEOUS, ORGANIC = 0, 1


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Holdup:
    """Volumes [m3] of each phase in every stage; numbers or shape (N,).

    ``mixer_aq, mixer_org`` in the mixer, ``settler_aq, settler_org`` in the settler, which each
    phase passes through ``cells`` equal cells in series (one: perfectly mixed; many: plug flow).
    ``dead`` is the part of the settler's volume that does not take part.
    """

    mixer_aq: ArrayLike
    mixer_org: ArrayLike
    settler_aq: ArrayLike = 0.0
    settler_org: ArrayLike = 0.0
    cells: int = 1
    dead: float = 0.0

    def __post_init__(self) -> None:
        problems = [
            Problem(message="a hold-up is positive", key=f"holdup.{name}", value=np.min(value))
            for name, value in (("mixer_aq", self.mixer_aq), ("mixer_org", self.mixer_org))
            if not np.all(np.asarray(value, dtype=float) > 0)
        ]
        for name, value in (("settler_aq", self.settler_aq), ("settler_org", self.settler_org)):
            if not np.all(np.asarray(value, dtype=float) >= 0):
                problems.append(Problem(message="a hold-up is not negative", key=f"holdup.{name}"))
        if not 0 <= self.dead < 1:
            problems.append(
                Problem(message="a dead part of the settler", key="holdup.dead", value=self.dead,
                        expected="0 or more, below 1")
            )  # fmt: skip
        if self.cells < 1:
            problems.append(Problem(message="a settler has cells", key="holdup.cells"))
        if problems:
            raise InputError(problems)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Link:
    """A part ``share`` (K,) of what leaves ``source`` (stage, phase) enters ``target``."""

    source: tuple[int, int]
    target: tuple[int, int]
    share: Array


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Port:
    """An outlet: the part ``share`` (K,) of what leaves a stage in a phase, for good.

    ``running`` (K,) is that part with what returns to the train: the stream in the pipe.
    """

    stage: int
    phase: int
    share: Array
    running: Array


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Network:
    """A train at one moment; N stages, C components, K = C + T species.

    ``shift`` (N, C) is added to ln D; ``flow`` (2, N) [m3/s] leaves the stages, ``mixer`` (2, N)
    and ``cell`` (2, N) [m3] are volumes of a mixer and of one settler cell, ``cells`` their numbers
    (aqueous, organic); ``feed`` (2, N, K) [mol/s]; ``keep`` (2, N) what side draws leave;
    ``exits`` (2, N) leaves the settlers, if it differs from what enters them;
    ``bypass`` (N, C) part of the entering organic that passes by, ``aside`` (N,) the volume of its
    cell; ``carry`` (2, N) what leaves with the other phase. ``carriers`` the phase of each carrier;
    without carriers the totals of the equilibrium are ``totals`` (N, T). ``products`` (C,) is 1 for
    what an outlet is looked at for, 0 for a counter-ion; all are without it.
    """

    model: Equilibrium
    shift: Array
    flow: Array
    mixer: Array
    cell: Array
    cells: tuple[int, int]
    feed: Array
    keep: Array
    ports: dict[str, Port]
    links: tuple[Link, ...] = ()
    bypass: Array | None = None
    aside: Array = field(default_factory=lambda: np.zeros(0))
    carry: Array | None = None
    carriers: tuple[int, ...] = ()
    totals: Array = field(default_factory=lambda: np.zeros((0, 0)))
    exits: Array | None = None
    products: Array | None = None

    @property
    def stages(self) -> int:
        """N."""
        return int(self.shift.shape[0])

    @property
    def components(self) -> int:
        """C."""
        return int(self.shift.shape[1])

    @property
    def species(self) -> int:
        """K, components and carriers."""
        return self.components + len(self.carriers)


def network(
    plan: Plan,
    holdup: Holdup,
    *,
    carriers: tuple[int, ...],
    carrier_feed: Array,
    always_bypass: bool = False,
) -> Network:
    """A steady circuit's plan (one member) with hold-ups.

    ``carriers``: phases of the plan's totals, empty where the totals are prescribed (mass flow);
    ``carrier_feed`` (2, N, T) [mol/s] what feeds bring of them.
    """
    chain = plan.chain
    n, c = plan.shift.shape[1:]
    flow = np.stack([plan.flow_aq[0], plan.flow_org[0]])
    t = len(carriers)
    feed = np.concatenate([chain.feed[:, 0], carrier_feed], axis=-1)
    draw = np.broadcast_to(chain.draw[:, 0, :, 0], (2, n))
    phase = np.array([0] * c + list(carriers))
    is_carrier = np.arange(c + t) >= c

    links: list[Link] = []
    for given in chain.links:
        share = np.zeros(c + t)
        share[:c] = given.share[0]
        share[c:] = np.max(given.share[0])
        share[is_carrier & (phase == ORGANIC)] = 0.0
        stage, where = given.source
        share *= draw[where, stage]
        links.append(Link(source=given.source, target=given.target, share=share))
    ports = {}
    for name, (stage, where, fraction) in plan.outlets.items():
        share = np.full(c + t, float(np.asarray(fraction).reshape(-1)[0]))
        ports[name] = Port(stage=stage, phase=where, share=share, running=share)
    # What is returned leaves no more, and whatever a draw takes that is not returned leaves.
    for key, port in ports.items():
        for link in links:
            if link.source == (port.stage, port.phase) and key == "organic":
                ports[key] = replace(port, share=np.maximum(port.share - link.share, 0.0))
    active = 1.0 - holdup.dead
    mixer = np.stack([_each(holdup.mixer_aq, n), _each(holdup.mixer_org, n)])
    settler = np.stack([_each(holdup.settler_aq, n), _each(holdup.settler_org, n)])
    cells = tuple(holdup.cells if np.any(part > 0) else 0 for part in settler)
    for part in settler:
        if np.any(part > 0) and not np.all(part > 0):
            raise InputError(
                Problem(message="a settler in every stage or in none", key="holdup.settler")
            )
    bypass = None if chain.bypass is None else np.array(chain.bypass[0])
    if bypass is None and always_bypass:
        bypass = np.zeros((n, c))
    return Network(
        model=plan.model,
        shift=plan.shift[0] - np.log(flow[1] / flow[0])[:, None],
        flow=flow,
        mixer=mixer,
        cell=settler * active / holdup.cells,
        cells=(cells[0], cells[1]),
        feed=feed,
        keep=1.0 - draw,
        ports=ports,
        links=tuple(links),
        bypass=bypass,
        aside=mixer[1] + settler[1] * active,
        carry=None if chain.carry is None else np.broadcast_to(chain.carry[:, 0, :, 0], (2, n)),
        carriers=carriers,
        totals=np.zeros((0, 0)) if carriers else plan.totals[0],
    )


def _each(value: ArrayLike, n: int) -> Array:
    return np.array(np.broadcast_to(np.asarray(value, dtype=float), (n,)))
