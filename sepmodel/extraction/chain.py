"""Fluxes of components along a chain of counter-current stages: exact, and how they respond.

A stage takes aqueous d from above and organic u from below. With k the part of the organic that
passes by, A the flux ratio organic/aqueous at equilibrium, e and f the parts of the leaving aqueous
and organic that are carried along with the other phase:

    pool t = d + (1 - k) u,   aqueous l = t / (1 + A),   organic v = A l + k u
    down = (1 - e) l + f A l,   up = (1 - f) A l + e l + k u

The linear balances of the whole chain are eliminated from both ends in the form of first-passage
probabilities (Grassmann, Taksar, Heyman). Between feeds and draws the probabilities have a closed
form in running sums, so there is no loop over stages, and no subtraction anywhere: relative
accuracy holds for traces of any magnitude. All is in logarithms.

Axis order: [member, stage, component]; cut c (0..N) lies between stages c and c + 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Stands for ln 0 where running sums would make infinity minus infinity.
NOTHING = -1e4


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Link:
    """A drawn stream fed back: ``share`` (B or 1, C) of what is drawn at ``source`` (stage, phase).

    Stages are 0-based here; phase 0 is aqueous, 1 organic.
    """

    source: tuple[int, int]
    target: tuple[int, int]
    share: Array


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Chain:
    """Feeds [mol/s] and draws [fraction of the leaving stream]; axes may have length one.

    ``feed`` (2, B, N, C) and ``draw`` (2, B, N, 1 or C), the first index is the phase; ``bypass``
    (B, N, C) or None; ``carry`` (2, B, N, 1) or None; ``links`` feed drawn streams back.
    """

    feed: Array
    draw: Array
    bypass: Array | None = None
    carry: Array | None = None
    links: tuple[Link, ...] = ()
    known: list[Derived] = field(default_factory=list, init=False, repr=False)

    @property
    def derived(self) -> Derived:
        """Logarithms and stops, worked out when they are first asked for."""
        if not self.known:
            self.known.append(_derive(self))
        return self.known[0]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Derived:
    """Logarithms of a chain's feeds and draws, and where a sweep has to stop.

    ``feed`` (2, 1 + K, B, N, C) with one mole in each link after the feeds; ``drawn, kept``
    (2, B, N, 1 or C); ``rising, falling``: events of the sweeps, see :class:`Events`.
    """

    feed: Array
    drawn: Array
    kept: Array
    rising: Events
    falling: Events


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Events:
    """Starts of the runs without feeds and draws, and which stages have which, for one sweep."""

    starts: tuple[int, ...]
    fed_in: tuple[bool, ...]
    fed_along: tuple[bool, ...]
    taken_in: tuple[bool, ...]
    taken_along: tuple[bool, ...]


def _derive(chain: Chain) -> Derived:
    feed = chain.feed[:, None]
    if chain.links:
        feed = np.zeros((2, 1 + len(chain.links), *chain.feed.shape[1:]))
        feed[:, 0] = chain.feed
        for j, link in enumerate(chain.links):
            stage, phase = link.target
            feed[phase, 1 + j, :, stage] = 1.0
    fed = np.any(feed > 0, axis=(1, 2, 4))
    taken = np.any(chain.draw > 0, axis=(1, 3))
    return Derived(
        feed=log(feed),
        drawn=log(chain.draw),
        kept=log(1.0 - chain.draw),
        rising=_events(fed[0], fed[1], taken[0], taken[1]),
        falling=_events(fed[1, ::-1], fed[0, ::-1], taken[1, ::-1], taken[0, ::-1]),
    )


def _events(
    fed_in: NDArray[np.bool_],
    fed_along: NDArray[np.bool_],
    taken_in: NDArray[np.bool_],
    taken_along: NDArray[np.bool_],
) -> Events:
    stop = fed_in[:-1] | fed_along[1:] | taken_along[:-1] | taken_in[1:]
    starts = (0, *(np.flatnonzero(stop) + 1).tolist(), fed_in.size)
    return Events(
        starts=starts,
        fed_in=tuple(fed_in.tolist()),
        fed_along=tuple(fed_along.tolist()),
        taken_in=tuple(taken_in.tolist()),
        taken_along=tuple(taken_along.tolist()),
    )


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Fluxes:
    """ln of the fluxes of each stage.

    ``aqueous`` ln l, ``organic`` ln v, ``up, down`` what leaves before draws, all (B, N, C);
    ``link`` ln of the linked flows (K, B, C).
    """

    log_ratio: Array
    aqueous: Array
    organic: Array
    up: Array
    down: Array
    ports: Ports
    link: Array


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Ports:
    """ln of a stage's transmissions: down/up from above (td, qu), up/down from below (tu, qd)."""

    td: Array
    qu: Array
    tu: Array
    qd: Array
    aq: Array  # l per pool
    org: Array  # A l per pool


def log(a: Array) -> Array:
    """ln with ln 0 = -inf and no warning."""
    with np.errstate(divide="ignore"):
        out: Array = np.log(a)
    return out


def add(a: Array, b: Array) -> Array:
    """ln(exp a + exp b)."""
    out: Array = np.logaddexp(a, b)
    return out


def solve(chain: Chain, log_ratio: Array) -> Fluxes:
    """All fluxes for given ln A, shape (B, N, C)."""
    ports = _ports(chain, log_ratio)
    count = len(chain.links)
    known = chain.derived
    rising = ports.tu - ports.td
    # From below, then the mirror image from above.
    lower = _sweep(
        rising,
        ports.qd - ports.td,
        ports.qu - ports.td,
        known.feed,
        known.drawn,
        known.kept,
        known.rising,
    )
    flip = np.s_[..., ::-1, :]
    other = np.s_[::-1, ..., ::-1, :]
    upper = _sweep(
        -rising[flip],
        (ports.qu - ports.tu)[flip],
        (ports.qd - ports.tu)[flip],
        known.feed[other],
        known.drawn[other],
        known.kept[other],
        known.falling,
    )
    lost_lo, back_lo, source_lo = lower
    lost_hi, back_hi, source_hi = (part[flip] for part in upper)
    det = add(lost_lo, back_lo + lost_hi)
    up = add(source_lo, back_lo + source_hi) - det
    down = add(source_hi, back_hi + source_lo) - det
    into_up, into_down = up[..., :-1, :], down[..., 1:, :]
    raffinate, product = down[..., 0, :], up[..., -1, :]
    linked = np.zeros((0, *raffinate.shape[1:]))
    if count:
        linked = _close_links(chain, ports, into_up, into_down, raffinate, product)
        into_up = _total(into_up[0], into_up[1:] + linked[:, :, None])
        into_down = _total(into_down[0], into_down[1:] + linked[:, :, None])
    else:
        into_up, into_down = into_up[0], into_down[0]
    aqueous, organic, leaving_up, leaving_down = _leaving(chain, ports, into_up, into_down)
    return Fluxes(
        log_ratio=log_ratio,
        aqueous=aqueous,
        organic=organic,
        up=leaving_up,
        down=leaving_down,
        ports=ports,
        link=linked,
    )


def _ports(chain: Chain, log_ratio: Array) -> Ports:
    """Transmissions of every stage."""
    soft = np.logaddexp(0.0, log_ratio)
    aq, org = -soft, log_ratio - soft
    if chain.carry is None:
        td, qu = aq, org
    else:
        with_org, with_aq = log(chain.carry[0]), log(chain.carry[1])
        stay_aq, stay_org = np.log1p(-chain.carry[0]), np.log1p(-chain.carry[1])
        td, qu = add(stay_aq + aq, with_aq + org), add(stay_org + org, with_org + aq)
    if chain.bypass is None:
        return Ports(td=td, qu=qu, tu=qu, qd=td, aq=aq, org=org)
    past, mixed = log(chain.bypass), log(1.0 - chain.bypass)
    return Ports(td=td, qu=qu, tu=add(past, mixed + qu), qd=mixed + td, aq=aq, org=org)


def _sweep(
    rising: Array,
    returned: Array,
    reflected: Array,
    feed: Array,
    drawn: Array,
    kept: Array,
    events: Events,
) -> tuple[Array, Array, Array]:
    """Eliminate the chain from one end.

    For a stage seen from its far side: 1/lost_n = m_n / lost_(n-1) + k_n and back_n / lost_n =
    m_n back_(n-1) / lost_(n-1) + r_n with ln m = ``rising``, ln k = ``returned``, ln r =
    ``reflected``; both are running sums between events (feeds and draws). Phase 1 travels in
    the direction of the sweep ("along"), phase 0 against it ("in").

    Returns (lost, back, source) of the part before every cut, shapes (B, N + 1, C) and
    (K, B, N + 1, C).
    """
    members, stages, comps = rising.shape
    lost = np.empty((members, stages + 1, comps))
    back = np.empty_like(lost)
    source = np.empty((feed.shape[1], *lost.shape))
    lost[:, 0], back[:, 0] = 0.0, -np.inf
    source[:, :, 0] = feed[1, :, :, 0]
    coming = source[:, :, 0]
    for a, b in pairwise(events.starts):
        lost_0, back_0 = lost[:, a], back[:, a]
        if events.taken_in[a]:
            stay = kept[0, :, a]
            lost_0, back_0 = add(drawn[0, :, a], stay + lost_0), stay + back_0
        climb = np.cumsum(rising[:, a:b], axis=1)
        terms = np.empty((2, members, b - a + 1, comps))
        terms[0, :, 0] = -lost_0
        terms[1, :, 0] = back_0 - lost_0
        np.subtract(returned[:, a:b], climb, out=terms[0, :, 1:])
        np.subtract(reflected[:, a:b], climb, out=terms[1, :, 1:])
        sums = np.logaddexp.accumulate(terms, axis=2)
        run_lost = -(climb + sums[0, :, 1:])
        run_back = sums[1, :, 1:] - sums[0, :, 1:]
        lost[:, a + 1 : b + 1], back[:, a + 1 : b + 1] = run_lost, run_back
        source[:, :, a + 1 : b + 1] = coming[:, :, None] + (climb + run_lost - lost_0[:, None])
        # The event at the cut after the run.
        if events.taken_along[b - 1]:
            stay = kept[1, :, b - 1]
            lost[:, b] = add(lost[:, b], drawn[1, :, b - 1] + back[:, b])
            back[:, b] = stay + back[:, b]
            source[:, :, b] += stay
        if b < stages:
            if events.fed_along[b]:
                source[:, :, b] = add(source[:, :, b], feed[1, :, :, b])
            coming = source[:, :, b]
            if events.fed_in[b - 1]:
                coming = add(coming, back[:, b] + feed[0, :, :, b - 1])
    return lost, back, source


def _leaving(
    chain: Chain, ports: Ports, into_up: Array, into_down: Array
) -> tuple[Array, Array, Array, Array]:
    """ln of l, v, up and down from what enters."""
    if chain.bypass is None:
        pool = add(into_down, into_up)
        aqueous, organic = pool + ports.aq, pool + ports.org
        if chain.carry is None:
            return aqueous, organic, organic, aqueous
        return aqueous, organic, pool + ports.qu, pool + ports.td
    past = log(chain.bypass) + into_up
    pool = add(into_down, log(1.0 - chain.bypass) + into_up)
    organic = add(pool + ports.org, past)
    return pool + ports.aq, organic, add(pool + ports.qu, past), pool + ports.td


def _total(first: Array, others: Array) -> Array:
    for other in others:
        first = add(first, other)
    return first


def local_closure(chain: Chain, fluxes: Fluxes) -> Array:
    """|in - out| / out of each component at each stage, from what the neighbours send."""
    shape = fluxes.aqueous.shape
    entering = add(*log(np.broadcast_to(chain.feed, (2, *shape))))
    kept = log(1.0 - chain.draw)
    entering[:, :-1] = add(entering[:, :-1], (fluxes.down + kept[0])[:, 1:])
    entering[:, 1:] = add(entering[:, 1:], (fluxes.up + kept[1])[:, :-1])
    for flow, link in zip(fluxes.link, chain.links, strict=True):
        stage = link.target[0]
        entering[:, stage] = add(entering[:, stage], flow)
    leaving = add(fluxes.up, fluxes.down)
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(np.abs(np.expm1(entering - leaving)))


def _close_links(
    chain: Chain,
    ports: Ports,
    into_up: Array,
    into_down: Array,
    raffinate: Array,
    product: Array,
) -> Array:
    """ln of the flow in every link, (K, B, C).

    T[i, j] is what reaches link i of a mole entering by link j; what leaves the circuit of it is
    summed, not subtracted, so that a circuit that hardly releases an element is still exact.
    """
    count = len(chain.links)
    _, _, up, down = _leaving(chain, ports, into_up, into_down)  # (1 + K, B, N, C)
    leaving = (down, up)
    out = np.exp(raffinate) + np.exp(product)
    reach = np.zeros((count, *out.shape))
    for stage in range(up.shape[2]):
        for phase in (0, 1):
            fraction = chain.draw[phase][:, stage]
            if not fraction.any():
                continue
            drawn = np.exp(leaving[phase][:, :, stage]) * fraction
            shares = np.zeros(out.shape[1:])
            for i, link in enumerate(chain.links):
                if link.source == (stage, phase):
                    reach[i] = drawn * link.share
                    shares = shares + link.share
            out = out + drawn * np.clip(1.0 - shares, 0.0, 1.0)
    # Nodes are the links; elimination keeps out-flows as sums (Grassmann, Taksar, Heyman).
    t = np.moveaxis(reach[:, 1:], (0, 1), (-1, -2)).copy()  # (B, C, from j, to i)
    gone = np.moveaxis(out[1:], 0, -1)  # (B, C, from)
    entering = np.moveaxis(reach[:, 0], 0, -1)  # (B, C, to)
    flows = visits(t, gone, entering[..., None, :])
    return log(np.moveaxis(flows[..., 0, :], -1, 0))


def visits(t: Array, gone: Array, rhs: Array) -> Array:
    """Visits z = rhs + z T of an absorbing chain, row vectors; ``gone`` = 1 - row sums of T."""
    t, gone, z = t.copy(), gone.copy(), rhs.copy()
    count = t.shape[-1]
    scale = np.empty((*t.shape[:-2], count))
    for k in range(count):
        rest = range(k + 1, count)
        scale[..., k] = gone[..., k] + sum((t[..., k, j] for j in rest), start=0.0)
        for i in rest:
            factor = t[..., i, k] / scale[..., k]
            gone[..., i] += factor * gone[..., k]
            for j in rest:
                t[..., i, j] += factor * t[..., k, j]
        for j in rest:
            z[..., j] += z[..., k] * (t[..., k, j] / scale[..., k])[..., None]
    for k in range(count - 1, -1, -1):
        for j in range(k + 1, count):
            z[..., k] += z[..., j] * t[..., j, k][..., None]
        z[..., k] /= scale[..., k][..., None]
    return z
