"""A packed column: transport, uptake by beads and an inlet programme, integrated in time.

With void e between the beads, superficial velocity u and v = u/e, per bed volume:

    e dc/dt = e (-v dc/dz + D d2c/dz2) - (1 - e) (3/R) k_f (c - c_p(R))
    d[p c_p + (1 - p) q]/dt = 1/r^2 d/dr(r^2 p D_p dc_p/dr),   p D_p dc_p/dr(R) = k_f (c - c_p(R))

general rate; with D_p infinite the lumped rate model with pores; without beads the dispersive model
e c + (1 - e) q, where the void e counts all liquid. Binding is at equilibrium, q = q*(c), exactly;
or lags behind with a linear driving force dq/dt = k (q* - q).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg.lapack import dgbtrf, dgbtrs

from sepmodel.chromatography import transport
from sepmodel.chromatography.integrate import Work, integrate, read_out
from sepmodel.chromatography.isotherms import Isotherm, Linear
from sepmodel.chromatography.transport import Galerkin, Scheme, Shells
from sepmodel.errors import InputError, Problem

Array = NDArray[np.float64]

TOLERANCE = 1e-6
FLOOR = 1e-2
"""Absolute tolerance over relative tolerance, as a share of the largest concentration."""
SHELLS = 6
"""Points in a bead of the general rate model."""
INSTANTS = 257
"""Outlet times when none are asked for."""


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Beads:
    """Porous beads.

    ``radius`` [m], ``porosity``, ``film`` transfer coefficient (C,) [m/s], ``diffusion`` in the
    pores (C,) [m2/s] or None for the lumped rate model.
    """

    radius: float
    porosity: float
    film: Array
    diffusion: Array | None = None


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Bed:
    """A column: ``length`` [m], superficial ``velocity`` [m/s], ``void``, axial ``dispersion``.

    ``dispersion`` [m2/s] belongs to the liquid between the beads. Without ``beads`` the model is
    dispersive and ``void`` is all the liquid.
    """

    length: float
    velocity: float
    void: float
    dispersion: float = 0.0
    beads: Beads | None = None

    @property
    def model(self) -> str:
        """The transport model in words."""
        if self.beads is None:
            return "dispersive"
        return "lumped rate with pores" if self.beads.diffusion is None else "general rate"


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Section:
    """A part of the inlet programme: for ``duration`` [s], conc + slope (t - begin)."""

    duration: float
    conc: Array
    slope: Array | None = None


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class State:
    """What a column holds at the points of a scheme.

    ``conc`` (N, C) between the beads, ``pores`` (N, S, C) or (N, 0, C), ``bound`` q at the same
    points as the pores (or the liquid), shape (N, max(S, 1), C), per m3 of solid.
    """

    conc: Array
    pores: Array
    bound: Array


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ColumnResult:
    """Outlet and contents of a column over a programme, with what vouches for them.

    ``times`` (T,), ``outlet`` (T, C) [mol/m3]; ``position`` (N,) and ``profiles`` (K, N, C) at
    ``profile_times`` (K,); ``fed``, ``left``, ``held_before``, ``held`` (C,) [mol per m2 of
    cross-section]; ``closure`` the largest open balance over what went in or was there; ``error``
    the estimated error of the outlet over its peak (NaN when not asked for); ``scheme`` and
    ``model`` in words; ``state`` to go on from.
    """

    times: Array
    outlet: Array
    position: Array
    profile_times: Array
    profiles: Array
    fed: Array
    left: Array
    held_before: Array
    held: Array
    closure: float
    error: float
    scheme: str
    model: str
    state: State
    steps: int
    evaluations: int
    factorisations: int

    def summary(self) -> str:
        """One line: model, scheme, estimated error, closure of mass."""
        error = "not estimated" if np.isnan(self.error) else f"{self.error:.1e} of the peak"
        return (
            f"{self.model} model, {self.scheme}, error {error}, "
            f"mass closed to {self.closure:.1e}, {self.steps} steps"
        )


@dataclass(slots=True)
class _System:
    """The balances of one column on one scheme; see ``integrate.System``."""

    bed: Bed
    isotherm: Isotherm
    rate: Array | None
    op: transport.Operator
    shells: Shells
    components: int
    inlet: Section
    begin: float = 0.0
    linear: bool = False
    kinked: bool = False
    points: int = 0
    inner: int = 0
    lower: int = 0
    upper: int = 0
    stencil: Array = field(default_factory=lambda: np.zeros(0))
    rows: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    columns: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    slopes: Array = field(default_factory=lambda: np.zeros(0))
    conc: Array = field(default_factory=lambda: np.zeros(0))
    feed: Array = field(default_factory=lambda: np.zeros(0))
    inside: Array = field(default_factory=lambda: np.zeros(0))
    kept: Array = field(default_factory=lambda: np.zeros(0))
    band: tuple[Array, NDArray[np.int32]] = field(init=False)
    inner_inverse: Array = field(init=False)
    reach: Array = field(init=False)

    def __post_init__(self) -> None:
        c, self.points = self.components, self.op.axis.position.size
        beads = self.bed.beads
        held = 0 if beads is None else self.shells.weight.size
        self.inner = c * (held if self.rate is None else (1 if beads is None else 2 * held))
        self.lower = max(self.op.lower * c, c - 1)
        self.upper = max(self.op.upper * c, c - 1)
        total = self.lower + self.upper
        node, a, b = np.indices((self.points, c, c))
        self.rows = (total + a - b).ravel()
        self.columns = (node * c + b).ravel()
        self.stencil = np.zeros((self.points * c, self.lower + total + 1))
        if isinstance(self.op, transport.LinearOperator):
            i, j = np.nonzero(self.op.matrix)
            near = (i - j <= self.op.lower) & (j - i <= self.op.upper)
            i, j = i[near], j[near]
            for k in range(c):
                self.stencil[j * c + k, total + (i - j) * c] = self.op.matrix[i, j]
        self.linear = isinstance(self.isotherm, Linear) and isinstance(
            self.op, transport.LinearOperator
        )

    def split(self, y: Array) -> tuple[Array, Array]:
        """Bulk (N, C) and inner unknowns (N, m) as views."""
        edge = self.points * self.components
        return y[:edge].reshape(self.points, -1), y[edge:].reshape(self.points, self.inner)

    def pack(self, state: State) -> Array:
        """The unknowns of a state."""
        parts = [state.conc.reshape(self.points, -1)]
        if self.bed.beads is not None:
            parts.append(state.pores.reshape(self.points, -1))
        if self.rate is not None:
            parts.append(state.bound.reshape(self.points, -1))
        inner = np.concatenate(parts[1:] or [parts[0][:, :0]], axis=1)
        return np.concatenate([parts[0].ravel(), inner.ravel()])

    def state(self, y: Array) -> State:
        """What the column holds."""
        c, inner = self.split(y)
        shape = (self.points, -1, self.components)
        if self.bed.beads is None:
            bound = inner.reshape(shape) if self.rate is not None else None
            pores = np.zeros((self.points, 0, self.components))
            held = self.isotherm.loading(c)[:, None] if bound is None else bound
        else:
            edge = self.shells.weight.size * self.components
            pores = inner[:, :edge].reshape(shape)
            held = (
                self.isotherm.loading(pores)
                if self.rate is None
                else inner[:, edge:].reshape(shape)
            )
        return State(conc=c.copy(), pores=pores.copy(), bound=held.copy())

    def held(self, y: Array) -> Array:
        """Moles per cross-section (C,)."""
        s = self.state(y)
        void, width = self.bed.void, self.op.axis.width
        if self.bed.beads is None:
            each = void * s.conc + (1 - void) * s.bound[:, 0]
        else:
            p = self.bed.beads.porosity
            inside = np.einsum("s,nsc->nc", self.shells.weight, p * s.pores + (1 - p) * s.bound)
            each = void * s.conc + (1 - void) * inside
        return np.asarray(width @ each)

    def fed_conc(self, t: float) -> Array:
        """Inlet concentration (C,)."""
        section = self.inlet
        if section.slope is None:
            return section.conc
        return section.conc + section.slope * (t - self.begin)

    def outflow(self, y: Array) -> Array:
        """See ``integrate.System``."""
        edge = self.points * self.components
        return self.bed.velocity * y[edge - self.components : edge]

    def evaluate(self, t: float, y: Array) -> tuple[Array, Array]:
        """See ``integrate.System``."""
        c, inner = self.split(y)
        feed = self.fed_conc(t)
        self.conc, self.feed, self.inside = c, feed, inner
        void = self.bed.void
        if isinstance(self.op, transport.LinearOperator):
            moved = self.op.matrix @ c
            moved += self.op.inlet[:, None] * feed
        else:
            moved = transport.limited_rate(self.op, c, feed)
        moved *= void
        beads = self.bed.beads
        if beads is None:
            q = self.isotherm.loading(c)
            if self.rate is None:
                return (void * c + (1 - void) * q).ravel(), moved.ravel()
            lag = self.rate * (q - inner)
            moved -= (1 - void) * lag
            return y * self._storage(), np.concatenate([moved.ravel(), lag.ravel()])
        count, edge = self.shells.weight.size, self.shells.weight.size * self.components
        pores = inner[:, :edge].reshape(self.points, count, self.components)
        film = beads.film * (3 / beads.radius) * (c - pores[:, -1])
        moved -= (1 - void) * film
        q = self.isotherm.loading(pores)
        if count > 1:
            # The surface takes what the others give: pores conserve to rounding of small numbers.
            gain = -(self.shells.stiffness @ pores) * self._spread()
            gain[:, -1] = film - gain[:, :-1].sum(axis=1)
        else:
            gain = film[:, None, :]
        share = self.shells.weight[:, None]
        if self.rate is None:
            amount = share * (beads.porosity * pores + (1 - beads.porosity) * q)
            return (
                np.concatenate([(void * c).ravel(), amount.ravel()]),
                np.concatenate([moved.ravel(), gain.ravel()]),
            )
        lag = self.rate * (q - inner[:, edge:].reshape(pores.shape))
        gain = gain - (1 - beads.porosity) * share * lag
        both = np.concatenate([gain.reshape(self.points, -1), lag.reshape(self.points, -1)], axis=1)
        return y * self._storage(), np.concatenate([moved.ravel(), both.ravel()])

    def _spread(self) -> Array:
        beads = self.bed.beads
        assert beads is not None
        assert beads.diffusion is not None
        return np.asarray(beads.porosity * beads.diffusion / beads.radius**2)

    def _storage(self) -> Array:
        """dU/dy where it is constant and diagonal (a binding that lags)."""
        if self.kept.size == 0:
            n, c = self.points, self.components
            beads = self.bed.beads
            if beads is None:
                inner = np.ones((n, c))
            else:
                liquid = np.repeat(self.shells.weight * beads.porosity, c)
                inner = np.tile(np.concatenate([liquid, np.ones(liquid.size)]), (n, 1))
            self.kept = np.concatenate([np.full(n * c, self.bed.void), inner.ravel()])
        return self.kept

    def amounts(self, step: Array) -> Array:
        """See ``integrate.System``."""
        if self.rate is not None:
            moved: Array = step * self._storage()
            return moved
        c, inner = self.split(step)
        void, beads = self.bed.void, self.bed.beads
        held = self.slopes
        if beads is None:
            total = void * c + (1 - void) * np.matmul(held, c[:, :, None])[:, :, 0]
            return np.asarray(total.ravel())
        shape = (self.points, self.shells.weight.size, self.components)
        pores = inner.reshape(shape)
        share = self.shells.weight[:, None]
        bound = np.matmul(held, pores[..., None])[..., 0]
        amount = share * (beads.porosity * pores + (1 - beads.porosity) * bound)
        return np.concatenate([(void * c).ravel(), amount.ravel()])

    def factorise(self, gamma: float) -> None:
        """See ``integrate.System``: inner unknowns point by point, then the banded bulk."""
        c, void, beads = self.components, self.bed.void, self.bed.beads
        eye = np.eye(c)
        if beads is None:
            self.slopes = self.isotherm.slopes(self.conc)
        else:
            edge = self.shells.weight.size * c
            self.slopes = self.isotherm.slopes(self.inside[:, :edge].reshape(self.points, -1, c))
        block = np.broadcast_to(void * eye, (self.points, c, c))
        if beads is None:
            if self.rate is None:
                block = block + (1 - void) * self.slopes
            else:
                # q: (1 + gamma k) dq - gamma k q*' dc; bulk: + gamma (1-e) k (q*' dc - dq)
                lag = gamma * self.rate
                towards = lag[:, None] * self.slopes
                both = np.concatenate([np.diag(-(1 - void) * lag), eye]) / (1 + lag)
                self.inner_inverse = np.broadcast_to(both, (self.points, 2 * c, c))
                self.reach = -towards / (1 + lag)[:, None]
                block = block + (1 - void) * towards / (1 + lag)[:, None]
        else:
            inside = self._inside(gamma)
            inverse = np.linalg.inv(inside)
            surface = slice(edge - c, edge)
            film = gamma * (3 / beads.radius) * beads.film
            # inner row: -film dc at the surface; bulk row: (1-e) film (dc - dc_p)
            self.reach = -inverse[:, :, surface] * film
            gain = -(1 - void) * film[:, None] * inverse[:, surface, :]
            self.inner_inverse = np.concatenate([gain, inverse], axis=1)
            corner = inverse[:, surface, surface]
            block = block + (1 - void) * (np.diag(film) - film[:, None] * corner * film[None, :])
        if isinstance(self.op, transport.LinearOperator):
            store = self.stencil * (-gamma * void)
        else:
            store = np.zeros_like(self.stencil)
            slopes = transport.limited_slopes(self.op, self.conc, self.feed) * (-gamma * void)
            total, n = self.lower + self.upper, self.points * c
            for k in range(4):
                shift = (k - 2) * c
                flat = slopes[k].ravel()
                low, high = max(0, -shift), min(n, n - shift)
                store[low + shift : high + shift, total - shift] = flat[low:high]
        np.add.at(store, (self.columns, self.rows), block.ravel())
        lu, pivots, info = dgbtrf(store.T, self.lower, self.upper, overwrite_ab=1)
        if info > 0:
            lu = lu + np.nan
        self.band = (lu, pivots)

    def _inside(self, gamma: float) -> Array:
        """U' - gamma R' of the inner unknowns, (N, m, m)."""
        beads, c = self.bed.beads, self.components
        assert beads is not None
        count = self.shells.weight.size
        edge = count * c
        out = np.zeros((self.points, self.inner, self.inner))
        view = out[:, :edge, :edge].reshape(self.points, count, c, count, c)
        component = np.arange(c)
        if count > 1:
            spread = gamma * self._spread()
            view[:, :, component, :, component] = (
                self.shells.stiffness[None, None] * spread[:, None, None, None]
            )
        solid, share = 1 - beads.porosity, self.shells.weight
        for s in range(count):
            here = slice(s * c, (s + 1) * c)
            out[:, here, here] += beads.porosity * share[s] * np.eye(c)
            if self.rate is None:
                out[:, here, here] += solid * share[s] * self.slopes[:, s]
            else:
                there = slice(edge + s * c, edge + (s + 1) * c)
                lag = gamma * self.rate
                towards = lag[:, None] * self.slopes[:, s]
                out[:, here, here] += solid * share[s] * towards
                out[:, here, there] -= solid * share[s] * np.diag(lag)
                out[:, there, here] -= towards
                out[:, there, there] += np.diag(1 + lag)
        surface = slice(edge - c, edge)
        out[:, surface, surface] += np.diag(gamma * (3 / beads.radius) * beads.film)
        return out

    def solve(self, right: Array) -> Array:
        """See ``integrate.System``."""
        lu, pivots = self.band
        if not self.inner:
            return np.asarray(dgbtrs(lu, self.lower, self.upper, right, pivots)[0])
        c, out = self.components, np.empty_like(right)
        bulk, inner = self.split(right)
        both = np.matmul(self.inner_inverse, inner[:, :, None])[:, :, 0]
        edge = bulk.size
        x = dgbtrs(lu, self.lower, self.upper, (bulk - both[:, :c]).ravel(), pivots)[0]
        out[:edge] = x
        reached = np.matmul(self.reach, x.reshape(self.points, c, 1))[:, :, 0]
        out[edge:] = (both[:, c:] - reached).ravel()
        return out


def simulate(
    bed: Bed,
    isotherm: Isotherm,
    programme: Sequence[Section],
    *,
    scheme: Scheme | None = None,
    shells: int = SHELLS,
    rate: Array | None = None,
    initial: Array | State | None = None,
    times: ArrayLike | None = None,
    profile_times: ArrayLike = (),
    tolerance: float = TOLERANCE,
    floor: float = FLOOR,
    estimate: bool = True,
) -> ColumnResult:
    """What leaves a column, and what it holds, over an inlet programme.

    Parameters
    ----------
    programme: sections one after the other, from time 0.
    scheme: ``Galerkin`` or ``Limited``; Galerkin P3 x 16 unless given.
    shells: points in a bead (general rate model only).
    rate: linear driving force k (C,) [1/s]; None is equilibrium.
    initial: concentrations (C,) everywhere, in equilibrium with the solid, or the ``state`` of an
        earlier result on the same scheme; empty unless given.
    times: where the outlet is wanted [s]; 256 equal steps unless given.
    profile_times: when profiles along the column are wanted [s].
    tolerance: error allowed per time step, relative.
    floor: concentrations, over the largest of their component, below which the error allowed stops
        shrinking with them.
    estimate: whether to solve again, coarser, for the estimated error.

    Raises
    ------
    InputError
        for a programme, bed or initial state that cannot be used.
    ConvergenceError
        when the integration stalls.

    >>> bed = Bed(length=1.0, velocity=0.4, void=0.4, dispersion=1e-2)
    >>> law = Linear(coefficient=np.array([2.0]))
    >>> step = Section(duration=20.0, conc=np.array([1.0]))
    >>> result = simulate(bed, law, [step], estimate=False)
    >>> round(float(result.held[0] / bed.length), 6)  # 0.4 + 0.6 * 2
    1.6
    """
    scheme = scheme or Galerkin()
    _check(bed, programme, rate, shells, tolerance)
    count = len(programme[0].conc)
    beads = bed.beads
    op = transport.operator(scheme, bed.length, bed.velocity / bed.void, bed.dispersion)
    inside = transport.shells(shells if beads is not None and beads.diffusion is not None else 1)
    system = _System(
        bed=bed,
        isotherm=isotherm,
        rate=None if rate is None else np.broadcast_to(np.asarray(rate, float), (count,)),
        op=op,
        shells=inside,
        components=count,
        inlet=programme[0],
    )
    state = _start(system, initial)
    y = system.pack(state)
    end = sum(s.duration for s in programme)
    wanted = np.linspace(0.0, end, INSTANTS) if times is None else np.asarray(times, dtype=float)
    moments = np.asarray(profile_times, dtype=float)
    n, c = op.axis.position.size, count
    outlet = np.zeros((wanted.size, c))
    profiles = np.zeros((moments.size, n, c))
    outlet[wanted <= 0] = state.conc[-1]
    profiles[moments <= 0] = state.conc

    def watch(before: float, after: float, h: float, differences: Array) -> None:
        for when, where, columns in (
            (wanted, outlet, slice((n - 1) * c, n * c)),
            (moments, profiles.reshape(moments.size, n * c), slice(0, n * c)),
        ):
            low, high = np.searchsorted(when, [before, after], side="right")
            if high > low:
                where[low:high] = read_out(differences[:, columns], after, h, when[low:high])

    largest = _largest(programme, state)
    level = np.concatenate(
        [np.tile(largest, n), np.tile(_inner_level(system, largest), (n, 1)).ravel()]
    )
    work, t = Work(), 0.0
    before = system.held(y)
    system.begin = 0.0
    amount, _ = system.evaluate(0.0, y)
    fed, left = np.zeros(c), np.zeros(c)
    transit = bed.length * bed.void / bed.velocity / n
    for section in programme:
        system.inlet, system.begin = section, t
        y, amount, out = integrate(
            system,
            t,
            t + section.duration,
            y,
            amount,
            tolerance=tolerance,
            floor=tolerance * floor * level,
            first=transit,
            work=work,
            watch=watch,
        )
        left += out
        fed += bed.velocity * section.conc * section.duration
        if section.slope is not None:
            fed += bed.velocity * section.slope * section.duration**2 / 2
        t += section.duration
    held = system.held(y)
    turnover = np.maximum(fed, before)
    turnover = np.maximum(turnover, np.finfo(float).tiny + 1e-9 * turnover.max())
    closure = float(np.max(np.abs(fed - left - held + before) / turnover))
    error = float("nan")
    if estimate:
        rough: dict[str, Any] = {
            "scheme": scheme.coarser(),
            "shells": max(2, shells - 1),
            "rate": rate,
            "initial": _coarsen(initial, scheme, bed.length),
            "times": wanted,
            "tolerance": 10 * tolerance,
            "floor": floor,
        }
        error = _estimate(bed, isotherm, programme, rough, outlet)
    return ColumnResult(
        times=wanted,
        outlet=outlet,
        position=op.axis.position,
        profile_times=moments,
        profiles=profiles,
        fed=fed,
        left=left,
        held_before=before,
        held=held,
        closure=closure,
        error=error,
        scheme=scheme.name + _shell_words(bed, shells),
        model=bed.model,
        state=system.state(y),
        steps=work.steps,
        evaluations=work.evaluations,
        factorisations=work.factorisations,
    )


def _start(system: _System, initial: Array | State | None) -> State:
    """The contents at time 0."""
    n, c, beads = system.points, system.components, system.bed.beads
    if isinstance(initial, State):
        if initial.conc.shape != (n, c):
            raise InputError(
                Problem(
                    message="the initial state belongs to another scheme or other components",
                    value=initial.conc.shape,
                    expected=f"points and components {(n, c)}",
                )
            )
        return initial
    conc = np.zeros(c) if initial is None else np.asarray(initial, dtype=float)
    if conc.shape not in ((c,), (n, c)):
        raise InputError(
            Problem(
                message="initial concentrations of the wrong shape",
                value=conc.shape,
                expected=f"{(c,)} or {(n, c)}",
            )
        )
    bulk = np.broadcast_to(conc, (n, c)).copy()
    inside = np.repeat(bulk[:, None], system.shells.weight.size, axis=1)
    q = system.isotherm.loading(inside)
    return State(conc=bulk, pores=inside[:, :0] if beads is None else inside, bound=q)


def _coarsen(initial: Array | State | None, scheme: Scheme, length: float) -> Array | State | None:
    """An initial state on the points of the coarser scheme."""
    if not isinstance(initial, State):
        return None if initial is None else np.asarray(initial)
    raise InputError(Problem(message="an earlier state allows no error estimate"))


def _inner_level(system: _System, largest: Array) -> Array:
    """Concentrations to which the floor of the inner unknowns refers, (m,)."""
    if system.inner == 0:
        return np.zeros(0)
    held = np.abs(system.isotherm.loading(largest))
    count = system.shells.weight.size
    if system.bed.beads is None:
        return np.maximum(held, largest)
    pores = np.tile(largest, count)
    if system.rate is None:
        return pores
    return np.concatenate([pores, np.tile(np.maximum(held, largest), count)])


def _largest(programme: Sequence[Section], state: State) -> Array:
    """Largest concentration of each component at the inlet or at the start, never zero."""
    values = [state.conc]
    for section in programme:
        values.append(section.conc[None])
        if section.slope is not None:
            values.append((section.conc + section.slope * section.duration)[None])
    largest = np.abs(np.concatenate(values)).max(axis=0)
    top = largest.max()
    return np.where(largest > 0, largest, top if top > 0 else 1.0)


def _shell_words(bed: Bed, shells: int) -> str:
    if bed.beads is None or bed.beads.diffusion is None:
        return ""
    return f", {shells} points in a bead"


def _estimate(
    bed: Bed,
    isotherm: Isotherm,
    programme: Sequence[Section],
    settings: dict[str, Any],
    fine: Array,
) -> float:
    """Largest distance of the outlet to a coarser and less exact solution, over the peak."""
    rough = simulate(bed, isotherm, programme, **settings, estimate=False)
    peak = np.maximum(np.abs(fine).max(axis=0), np.finfo(float).tiny)
    return float(np.max(np.abs(rough.outlet - fine) / peak, initial=0.0))


def _check(
    bed: Bed, programme: Sequence[Section], rate: ArrayLike | None, shells: int, tolerance: float
) -> None:
    problems = []
    for key in ("length", "velocity", "void"):
        if not getattr(bed, key) > 0:
            problems.append(Problem(message="not positive", key=key, value=getattr(bed, key)))
    if not bed.void <= 1:
        problems.append(Problem(message="the void is a share of the bed", value=bed.void))
    if not bed.dispersion >= 0:
        problems.append(Problem(message="negative", key="dispersion", value=bed.dispersion))
    if not programme:
        problems.append(Problem(message="the inlet programme is empty"))
    sizes = {np.shape(s.conc) for s in programme} | {
        np.shape(s.slope) for s in programme if s.slope is not None
    }
    if len(sizes) > 1 or any(len(size) != 1 for size in sizes):
        problems.append(Problem(message="sections differ in their components", value=sorted(sizes)))
    for number, section in enumerate(programme):
        if not 0 < section.duration < np.inf:
            problems.append(
                Problem(message="not positive", key=f"section {number}", value=section.duration)
            )
        ends = [section.conc]
        if section.slope is not None:
            ends.append(section.conc + section.slope * section.duration)
        if not all(np.all(np.isfinite(e)) and np.all(e >= 0) for e in ends):
            problems.append(
                Problem(message="an inlet concentration is negative", key=f"section {number}")
            )
    if rate is not None and not np.all(np.asarray(rate) > 0):
        problems.append(Problem(message="not positive", key="rate", expected="or None"))
    beads = bed.beads
    if beads is not None:
        if not 0 < beads.porosity <= 1 or not beads.radius > 0 or not np.all(beads.film > 0):
            problems.append(Problem(message="beads need a radius, a porosity and a film"))
        if beads.diffusion is not None and (not np.all(beads.diffusion > 0) or shells < 2):
            problems.append(
                Problem(message="pore diffusion needs two points and a positive coefficient")
            )
    if not 0 < tolerance < 1:
        problems.append(Problem(message="not a tolerance", value=tolerance))
    if problems:
        raise InputError(problems)
