"""Open cascades whose flows are unknowns too: as many conditions on what leaves as free flows.

Cation exchange with one unknown a stage (u = ln d/h), organic in at one end, aqueous streams in
anywhere, no draws, nothing fed back. Stages and flows are solved by one Newton iteration: with J
the derivatives of all balances and closures r by fluxes and unknowns x, g those by ln of the flows
z, and F the conditions,

    dx = -J^-1 r - J^-1 g dz,   (F_z - F_x J^-1 g) dz = F_x J^-1 r - F.

All derivatives are written down. Members are independent; they may have fewer stages than the
batch: the first ``dead`` ones of a member hold no organic and hand the aqueous on as it is.

Axis order here: [member, component, stage].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel import solvers
from sepmodel.extraction import chain, chain_plain

Array = NDArray[np.float64]
Members = NDArray[np.int64]

# ln of a flow is counted in these, so that a Newton step never changes a flow by much.
UNIT = 0.1
TOLERANCE, ACCEPT, LIMIT = 1e-11, 1e-7, 24
# Unknowns of a stage and ln of flows beyond which nothing is looked at.
FARTHEST, WILD = 50.0, 20.0
# Members whose matrices stay in the processor's cache.
CHUNK = 128
# Iterations after which those that are not there yet go on by themselves.
FEW = 5


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Inlet:
    """Aqueous stream into ``stage`` (0-based): ``flow`` [m3/s] (B,), ``moles`` [mol/s] (B, C) and
    ``anions`` [mol/s] (B,) at z = 0."""

    stage: int
    flow: Array
    moles: Array
    anions: Array

    def take(self, rows: Members) -> Inlet:
        """The stream of some members."""
        return Inlet(
            stage=self.stage,
            flow=self.flow[rows],
            moles=self.moles[rows],
            anions=self.anions[rows],
        )


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Cascade:
    """Cascades of ``stages`` stages, the organic entering at stage ``dead`` (B,).

    ``log_k`` ln K (B, C), molar; ``charge`` z = n (C,); ``dimer`` [mol/m3] (B,); ``organic`` [m3/s]
    (B,) and what it carries in, ``barren`` [mol/m3] (B, C). ``free``: which flows z counts, -1 the
    organic, else an inlet.
    """

    stages: int
    charge: Array
    log_k: Array
    dimer: Array
    organic: Array
    barren: Array
    inlets: tuple[Inlet, ...]
    free: tuple[int, ...]
    dead: Members | None = None

    def take(self, rows: Members) -> Cascade:
        """Some members."""
        if rows.size == self.dimer.size and np.array_equal(rows, np.arange(rows.size)):
            return self
        return Cascade(
            stages=self.stages,
            charge=self.charge,
            log_k=self.log_k[rows],
            dimer=self.dimer[rows],
            organic=self.organic[rows],
            barren=self.barren[rows],
            inlets=tuple(i.take(rows) for i in self.inlets),
            free=self.free,
            dead=None if self.dead is None else self.dead[rows],
        )

    def without(self, first: int) -> Cascade:
        """The same without so many stages that are dead in all members."""
        if not first or self.dead is None:
            return self
        return replace(
            self,
            stages=self.stages - first,
            inlets=tuple(replace(i, stage=i.stage - first) for i in self.inlets),
            dead=self.dead - first,
        )


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class State:
    """A cascade at some unknowns: fluxes leaving each stage (B, C, N) and the equivalents [mol/m3]
    in both, flows, both sides of the closure (B, N), ``flows`` over those at z = 0."""

    u: Array
    organic_flow: Array
    flow: Array
    anions: Array
    fed: Array
    ratio: Array
    aqueous: Array
    organic: Array
    in_aq: Array
    in_org: Array
    growth: Array
    left: Array
    right: Array
    flows: Array

    def take(self, rows: Members) -> State:
        """The state of some members."""
        return State(**{part.name: getattr(self, part.name)[rows] for part in fields(self)})

    @property
    def raffinate(self) -> Array:
        """What leaves with the aqueous [mol/s] (B, C)."""
        return self.aqueous[..., 0]

    @property
    def product(self) -> Array:
        """What leaves with the organic [mol/s] (B, C)."""
        return self.organic[..., -1]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Conditions:
    """Conditions (B, k) with their derivatives by ln of what leaves with the aqueous and with the
    organic, (B, k, C), and by z (B, k, k)."""

    value: Array
    by_raffinate: Array
    by_product: Array
    by_z: Array

    def take(self, rows: Members) -> Conditions:
        """Those of some members."""
        return Conditions(**{part.name: getattr(self, part.name)[rows] for part in fields(self)})


# Members and their state -> the conditions they are to meet.
Ask = Callable[[Members, State], Conditions]


def evaluate(of: Cascade, u: Array, z: Array) -> tuple[Array, State]:
    """Closures (B, N) at unknowns u (B, N) and ln of the free flows z (B, k)."""
    size, n = u.shape
    times = np.ones((size, 1 + len(of.inlets)))
    for j, which in enumerate(of.free):
        times[:, 1 + which] = np.exp(z[:, j])
    organic_flow = of.organic * times[:, 0]
    flow, anions = np.zeros((size, n)), np.zeros((size, n))
    fed = np.zeros((size, of.charge.size, n))
    entering = of.barren * organic_flow[:, None]
    if of.dead is None:
        fed[..., 0] = entering
    else:
        fed[np.arange(size), :, of.dead] = entering
    for j, inlet in enumerate(of.inlets):
        here = times[:, 1 + j]
        flow[:, : inlet.stage + 1] += (inlet.flow * here)[:, None]
        anions[:, : inlet.stage + 1] += (inlet.anions * here)[:, None]
        fed[..., inlet.stage] += inlet.moles * here[:, None]
    log_a = of.log_k[..., None] + of.charge[:, None] * u[:, None]
    log_a += np.log(organic_flow[:, None] / flow)[:, None]
    gone = _gone(of)
    if gone is not None:
        log_a[np.broadcast_to(gone[:, None], log_a.shape)] = chain.NOTHING
    layout = chain_plain.Layout(feed=fed[None], runs=(0, n), exits=())
    found = chain_plain.solve(layout, np.swapaxes(log_a, 1, 2))
    aqueous, ratio = np.swapaxes(found[0], 1, 2), np.swapaxes(found[1], 1, 2)
    organic = ratio * aqueous
    growth = np.exp(u)
    in_org = _equivalents(of, organic) / organic_flow[:, None]
    in_aq = _equivalents(of, aqueous) / flow
    left = growth * (anions / flow) + in_org
    right = of.dimer[:, None] + growth * in_aq
    r = np.log(left / right)
    if gone is not None:
        r[gone] = u[gone]
    return r, State(
        u=u,
        organic_flow=organic_flow,
        flow=flow,
        anions=anions,
        fed=entering,
        ratio=ratio,
        aqueous=aqueous,
        organic=organic,
        in_aq=in_aq,
        in_org=in_org,
        growth=growth,
        left=left,
        right=right,
        flows=times,
    )


def _equivalents(of: Cascade, moles: Array) -> Array:
    """Charges (B, N) of moles (B, C, N), added up in the order of the components."""
    total: Array = (moles * of.charge[:, None]).sum(axis=1)
    return total


def _gone(of: Cascade) -> NDArray[np.bool_] | None:
    """The dead stages (B, N)."""
    return None if of.dead is None else np.arange(of.stages) < of.dead[:, None]


def free(of: Cascade, state: State) -> tuple[Array, Array]:
    """Free dimer and protons [mol/m3] at a solved state, (B, N).

    Each comes from its own balance or, through d/h, from the other one: whichever loses fewer
    digits to the subtraction.
    """
    dimer, charge = of.dimer[:, None], state.anions / state.flow
    d, h = dimer - state.in_org, charge - state.in_aq
    own = d * charge >= h * dimer
    return np.where(own, d, h * state.growth), np.where(own, d / state.growth, h)


def _system(of: Cascade, s: State) -> tuple[Array, Array, Array]:
    """Band matrices (B, N K, W) by columns, derivatives by z (B, k, N, K), d ln A / dz (B, k, N).

    Rows and columns of a stage: the balance of each component and its ln l, the closure and u.
    """
    size, c, n = s.aqueous.shape
    k = c + 1
    width = 3 * k + 1
    z = of.charge[:, None]
    back = 1.0 / (s.aqueous + s.organic + np.finfo(float).tiny)
    share = s.organic * back
    up = -s.organic[..., :-1] * back[..., 1:]
    by_aq = -(s.growth / s.right / s.flow)[:, None] * z * s.aqueous
    by_org = (1.0 / (s.left * s.organic_flow[:, None]))[:, None] * z * s.organic
    charge = s.anions / s.flow
    by_u = s.growth * (charge / s.left - s.in_aq / s.right)
    gone = _gone(of)
    if gone is not None:
        by_aq = np.where(gone[:, None], 0.0, by_aq)
        by_org = np.where(gone[:, None], 0.0, by_org)
        by_u[gone] = 1.0
    band = np.zeros((size, n, k, width))
    band[:, :, :c, 2 * k] = 1.0
    band[:, 1:, :c, k] = np.swapaxes(-s.aqueous[..., 1:] * back[..., :-1], 1, 2)
    band[:, :-1, :c, 3 * k] = np.swapaxes(up, 1, 2)
    flat = band.reshape(size, n, k * width)
    first = 2 * k + c
    flat[:, :, first : first + c * (width - 1) : width - 1] = np.swapaxes(by_aq + by_org, 1, 2)
    first = 2 * k - c
    band[:, :, c, first : first + c] = np.swapaxes(share * z, 1, 2)
    band[:, :-1, c, first + k : first + k + c] = np.swapaxes(up * z, 1, 2)
    band[:, :, c, first + c] = by_u + (by_org * z).sum(axis=1)
    count = len(of.free)
    by_z, by_ratio = np.zeros((size, count, n, k)), np.zeros((size, count, n))
    growing = by_org.sum(axis=1)
    for j, which in enumerate(of.free):
        if which < 0:
            by_ratio[:, j] = 1.0
            at = np.zeros(size, dtype=np.int64) if of.dead is None else of.dead
            who = np.arange(size)
            by_z[who, j, at, :c] -= s.fed * back[who, :, at]
        else:
            inlet, times = of.inlets[which], s.flows[:, 1 + which, None]
            here = slice(None, inlet.stage + 1)
            part = inlet.flow[:, None] * times / s.flow[:, here]
            by_ratio[:, j, here] = -part
            by_charge = inlet.anions[:, None] * times / s.flow[:, here] - charge[:, here] * part
            moved = s.growth[:, here] / s.left[:, here] * by_charge
            moved -= part * (growing + by_aq.sum(axis=1))[:, here]
            if gone is not None:
                moved[gone[:, here]] = 0.0
            by_z[:, j, here, c] += moved
            by_z[:, j, inlet.stage, :c] -= inlet.moles * times * back[..., inlet.stage]
        if gone is not None:
            by_ratio[:, j][gone] = 0.0
        by_z[:, j, :, :c] += np.swapaxes(share * by_ratio[:, j, None], 1, 2)
        by_z[:, j, 1:, :c] += np.swapaxes(up * by_ratio[:, j, None, :-1], 1, 2)
    return band.reshape(size, n * k, width), by_z, by_ratio


def _solved(band: Array, rhs: Array, near: int) -> Array:
    """J^-1 of right-hand sides (B, m, n); both are overwritten."""
    from scipy.linalg.lapack import dgbsv

    for matrix, own in zip(band, rhs, strict=True):
        info = dgbsv(near, near, matrix.T, own.T, overwrite_ab=1, overwrite_b=1)[3]
        if info > 0:
            own[...] = np.nan
    return rhs


def corrections(of: Cascade, state: State, conditions: Conditions, both: Array) -> Array:
    """How far unknowns and flows (in ``UNIT``) are off for closures and conditions, (B, m, N + k):
    m of each member."""
    n, k = of.stages, of.charge.size + 1
    band, by_z, by_ratio = _system(of, state)
    size, count = by_z.shape[:2]
    m = both.shape[1]
    rhs = np.zeros((size, m + count, n, k))
    rhs[:, :m, :, -1] = both[..., :n]
    rhs[:, m:] = -by_z
    x = _solved(band, rhs.reshape(size, m + count, n * k), k).reshape(rhs.shape)
    ends = np.einsum("bkc,bjc->bjk", conditions.by_raffinate, x[:, :, 0, :-1])
    leaving = x[:, :, -1, :-1] + of.charge * x[:, :, -1, -1:]
    ends += np.einsum("bkc,bjc->bjk", conditions.by_product, leaving)
    direct = conditions.by_product.sum(axis=2)[..., None] * by_ratio[:, None, :, -1]
    matrix = conditions.by_z + direct + np.swapaxes(ends[:, m:], 1, 2)
    dz = small(matrix[:, None], both[..., n:] - ends[:, :m])
    du = x[:, :m, :, -1] + np.einsum("bjn,bmj->bmn", x[:, m:, :, -1], dz)
    return np.concatenate([du, dz / UNIT], axis=2)


def solve(
    of: Cascade, u: Array, z: Array, ask: Ask, limit: int = LIMIT
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Unknowns u (B, N) and ln of the free flows z (B, k) at which the conditions hold.

    Also returns who has got there, with all free amounts positive. Members go through the kernel in
    pieces, those of about as many live stages together; who takes long goes on with the others that
    do, so that no piece waits for its slowest.
    """
    u, z = np.array(u), np.array(z)
    fine = np.zeros(len(u), dtype=bool)
    dead = np.zeros(len(u), dtype=np.int64) if of.dead is None else of.dead
    todo = np.argsort(dead, kind="stable")
    for most in (min(FEW, limit), limit - FEW):
        slow = []
        for rows in pieces(todo):
            first = int(dead[rows].min())
            u[rows, first:], z[rows], fine[rows], ended = _piece(
                of.take(rows).without(first), u[rows, first:], z[rows], ask, rows, most
            )
            slow.append(rows[~ended])
        todo = np.concatenate(slow) if slow else todo
        if most == limit or not todo.size:
            break
    return u, z, fine


def pieces(who: Members) -> list[Members]:
    """Members in pieces that go through the kernel together."""
    count = -(-who.size // CHUNK)
    return np.array_split(who, count) if count else []


def _piece(
    of: Cascade, u: Array, z: Array, ask: Ask, names: Members, limit: int
) -> tuple[Array, Array, NDArray[np.bool_], NDArray[np.bool_]]:
    """Unknowns and flows after some iterations; who has got there, who is through with it.

    ``names`` are the members by which ``ask`` knows them.
    """
    n = of.stages
    # Every member's last look is at what it ends with.
    positive = np.zeros(len(u), dtype=bool)

    def residual(x: Array, who: Members) -> tuple[Array, Any]:
        u, z = x[:, :n], x[:, n:] * UNIT
        # The kernel takes all members in one sweep: what is not a number must not get into it.
        lost = ~(np.all(np.abs(u) < FARTHEST, axis=1) & np.all(np.abs(z) < WILD, axis=1))
        if lost.any():
            u, z = np.where(lost[:, None], 0.0, u), np.where(lost[:, None], 0.0, z)
        own = of.take(who)
        r, state = evaluate(own, u, z)
        conditions = ask(names[who], state)
        both = np.concatenate([r, conditions.value], axis=1)
        both[lost] = np.nan
        # Where the larger of both is positive, the other follows from it.
        there = (state.in_org < own.dimer[:, None]) | (state.in_aq * state.flow < state.anions)
        positive[who] = there.all(axis=1)
        return both, (own, state, conditions)

    def linearise(known: Any, _: Members) -> solvers.Linear:
        own, state, conditions = known
        return lambda both, _: corrections(own, state, conditions, both[:, None])[:, 0]

    def select(known: Any, rows: Members) -> Any:
        own, state, conditions = known
        return own.take(rows), state.take(rows), conditions.take(rows)

    start = np.concatenate([u, z / UNIT], axis=1)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        found = solvers.newton(
            residual,
            linearise,
            start,
            tolerance=TOLERANCE,
            accept=ACCEPT,
            limit=limit,
            select=select,
        )
    u, z = found.u[:, :n], found.u[:, n:] * UNIT
    ended = (found.norm <= TOLERANCE) | (found.iterations < limit)
    return u, z, found.converged & positive, ended


def small(matrices: Array, rhs: Array) -> Array:
    """Solutions of systems of up to two unknowns, (..., k, k) and (..., k)."""
    if not matrices.size:
        return rhs
    if matrices.shape[-1] == 1:
        return np.asarray(rhs / matrices[..., 0])
    (a, b), (c, d) = np.moveaxis(matrices, (-2, -1), (0, 1))
    det = a * d - b * c
    return np.stack(
        [(d * rhs[..., 0] - b * rhs[..., 1]) / det, (a * rhs[..., 1] - c * rhs[..., 0]) / det],
        axis=-1,
    )
