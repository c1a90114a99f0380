"""Equilibrium of mixers whose contents are known: moles in, concentrations out.

With s = 1/(Va + Vo D) the aqueous holds x = M s and the organic y = D x, whatever D is; Newton's
method on the log-unknowns u closes what the equilibrium model asks for (extractant and charge, or a
prescribed loading). Every model can be settled by its general protocol; the two that run for months
of plant time have the same arithmetic written out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry.active_exchange import ActiveExchange
from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.chemistry.equilibrium import Equilibrium, Spot
from sepmodel.chemistry.mass_flow import Competition
from sepmodel.errors import ConvergenceError, Trace

Array = NDArray[np.float64]

# Newton for u: longest step, the step after which the next would be rounding, and how many.
CAP = 2.0
CLOSE = 1e-5
LIMIT = 64
# Relative difference for derivatives by the carriers' concentrations.
NUDGE = 1e-6
# Numbers of states at once for which constants are kept laid out.
TILES = 8


@dataclass(slots=True)
class Contents:
    """Mixers in equilibrium: unknowns u (..., N, m), concentrations x, y (..., N, C),
    s = 1/(Va + Vo D) and D (..., N, C), totals (..., N, T), and what passed by [mol/m3 organic]
    (..., N, C). ``slack`` is the last Newton step, applied: what is left is about its square."""

    u: Array
    x: Array
    y: Array
    s: Array
    d: Array
    totals: Array
    aside: Array | None
    slack: float = 0.0


@dataclass(slots=True)
class Slopes:
    """Derivatives at a solution: ``x_u, y_u`` of x and y by u at constant moles (N, C, m); ``u_m``
    of u by moles (N, m, C), ``u_a`` by what passes by, per concentration (N, m, C), ``u_t`` by the
    totals (N, m, T)."""

    x_u: Array
    y_u: Array
    u_m: Array
    u_a: Array | None
    u_t: Array | None


class Mixers(Protocol):
    """How the mixers of a train settle, and how that responds."""

    def settle(
        self,
        moles: Array,
        totals: Array,
        u: Array,
        aside: Array | None,
        close: float = CLOSE,
        limit: int = LIMIT,
    ) -> tuple[Array, Array, Array, float]:
        """u, D and s = 1/(Va + Vo D) for moles (..., N, C), from u (..., N, m) nearby.

        Newton ends with a step below ``close``, which comes last; what is left is of the order of
        its square.
        """
        ...

    def slopes(self, found: Contents, moving: bool) -> Slopes:
        """Derivatives at a solution, by the totals too if they are ``moving``."""
        ...


def mixers(model: Equilibrium, shift: Array, va: Array, vo: Array) -> Mixers:
    """Mixers with volumes ``va, vo`` (N, 1); ``shift`` (N, C) is added to ln D."""
    if isinstance(model, CationExchange) and model.unknowns == 1:
        return ExchangeMixers(model, shift, va, vo)
    if isinstance(model, Competition):
        return CompetitionMixers(model, shift, va, vo)
    if isinstance(model, ActiveExchange) and model.exchange.unknowns == 1:
        # Its module needs this one.
        from sepmodel.extraction.dynamics.active import ActiveMixers

        return ActiveMixers(model, shift, va, vo)
    return GeneralMixers(model, shift, va, vo)


class GeneralMixers:
    """Any equilibrium model, by its protocol."""

    def __init__(self, model: Equilibrium, shift: Array, va: Array, vo: Array) -> None:
        self.model, self.shift, self.va, self.vo = model, shift, va, vo

    def settle(
        self,
        moles: Array,
        totals: Array,
        u: Array,
        aside: Array | None,
        close: float = CLOSE,
        limit: int = LIMIT,
    ) -> tuple[Array, Array, Array, float]:
        """As the protocol says."""
        va, vo, model = self.va, self.vo, self.model
        for _ in range(limit):
            bare = model.spot(u, totals)
            d = np.exp(bare.log_d + self.shift)
            s = 1.0 / (va + vo * d)
            x = moles * s
            y = d * x
            spot = model.spot(u, totals, x, y if aside is None else y + aside)
            residual, by_u, by_aq, by_org = _closures(spot)
            x_u, y_u = self._by_u(x, y, s, d, bare.slope)
            matrix = by_u + by_aq @ x_u + by_org @ y_u
            if u.shape[-1] == 1:
                step = -residual / matrix[..., 0]
            else:
                step = -_over(matrix, residual[..., None])[..., 0]
            step, size = _bounded(step)
            u = u + step
            if size < close:
                break
        else:
            raise lost(step)
        d = d * np.exp((bare.slope * step[..., None, :]).sum(axis=-1))
        return u, d, 1.0 / (va + vo * d), size

    def _by_u(self, x: Array, y: Array, s: Array, d: Array, slope: Array) -> tuple[Array, Array]:
        in_org = self.vo * d * s
        return -(x * in_org)[..., None] * slope, (y * (1.0 - in_org))[..., None] * slope

    def slopes(self, found: Contents, moving: bool) -> Slopes:
        """As the protocol says; by the totals with central differences where the model leaves
        them out."""
        c = found.s.shape[-1]
        x, y = found.x[:, :c], found.y[:, :c]
        conc_org = y if found.aside is None else y + found.aside
        spot = self.model.spot(found.u, found.totals, x, conc_org)
        _, by_u, by_aq, by_org = _closures(spot)
        s, d = found.s, found.d
        x_u, y_u = self._by_u(x, y, s, d, spot.slope)
        full = by_u + by_aq @ x_u + by_org @ y_u
        direct = by_aq * s[:, None] + by_org * (d * s)[:, None]
        u_t = None
        if moving and spot.by_totals is not None:
            u_t = -_over(full, spot.by_totals)
        elif moving:
            by = NUDGE * found.totals.max(axis=1)
            columns = []
            for j in range(found.totals.shape[1]):
                rows = []
                for sign in (1.0, -1.0):
                    moved = found.totals.copy()
                    moved[:, j] += sign * by
                    rows.append(_closures(self.model.spot(found.u, moved, x, conc_org))[0])
                columns.append((rows[0] - rows[1]) / (2.0 * by[:, None]))
            u_t = -_over(full, np.stack(columns, axis=-1))
        return Slopes(
            x_u=x_u,
            y_u=y_u,
            u_m=-_over(full, direct),
            u_a=None if found.aside is None else -_over(full, by_org),
            u_t=u_t,
        )


class ExchangeMixers:
    """Cation exchange with n = z: e^u (charge - z.x) = dimer - z.y, u = ln(d/h), written out.

    Rows of all stages of all states are worked on together: numpy's cost is that of its calls.
    """

    def __init__(self, model: CationExchange, shift: Array, va: Array, vo: Array) -> None:
        self.z = np.array(model.charge, dtype=float)
        self.zz = self.z * self.z
        self.row = self.z[None, :]
        constant = model.log_k if model.log_gamma is None else model.log_k + model.log_gamma
        self.base = np.array(np.broadcast_to(constant + shift, shift.shape))
        self.a, self.o = np.array(va[:, 0]), np.array(vo[:, 0])
        self.va, self.vo = (np.array(np.broadcast_to(v, shift.shape)) for v in (va, vo))
        self.tiles: dict[int, tuple[Array, Array, Array, Array, Array]] = {}

    def _tile(self, times: int) -> tuple[Array, Array, Array, Array, Array]:
        """base, va, vo (R, C) and their columns a, o (R,) for so many states at once."""
        if times not in self.tiles:
            if len(self.tiles) >= TILES:
                self.tiles.clear()
            wide = (np.tile(part, (times, 1)) for part in (self.base, self.va, self.vo))
            base, va, vo = wide
            self.tiles[times] = base, va, vo, np.tile(self.a, times), np.tile(self.o, times)
        return self.tiles[times]

    def settle(
        self,
        moles: Array,
        totals: Array,
        u: Array,
        aside: Array | None,
        close: float = CLOSE,
        limit: int = LIMIT,
    ) -> tuple[Array, Array, Array, float]:
        """As the protocol says."""
        z, zz, row, shape = self.z, self.zz, self.row, moles.shape
        base, va, vo, a, o = self._tile(moles.size // self.base.size)
        m = moles.reshape(base.shape)
        dimer, charge = totals[..., 0].reshape(-1), totals[..., 1].reshape(-1)
        if aside is not None:
            dimer = dimer - (aside @ z).reshape(-1)
        w = u[..., 0].reshape(-1)
        for _ in range(limit):
            e = np.exp(w)
            d = np.dot(w[:, None], row)
            d += base
            np.exp(d, out=d)
            all_in = vo * d
            all_in += va
            x = m / all_in
            x_z = x.dot(z)
            x *= d
            y_z = x.dot(z)
            x /= all_in
            bend = x.dot(zz)
            bound = e * x_z
            acid = e * charge
            left, right = acid + y_z, dimer + bound
            e *= o
            e *= bend
            bend *= a
            bend += acid
            bend /= left
            bound -= e
            bound /= right
            bend -= bound
            right /= left
            step, size = _bounded(np.log(right) / bend)
            w = w + step
            if size < close:
                break
        else:
            raise lost(step.reshape(*shape[:-1], 1), None if aside is None else dimer)
        more = np.dot(step[:, None], row)
        np.exp(more, out=more)
        d *= more
        all_in = vo * d
        all_in += va
        return (
            w.reshape(*shape[:-1], 1),
            d.reshape(shape),
            np.reciprocal(all_in, out=all_in).reshape(shape),
            size,
        )

    def slopes(self, found: Contents, moving: bool) -> Slopes:
        """As the protocol says."""
        z, d, s = self.z, found.d, found.s
        c = z.size
        x, y = found.x[:, :c], found.y[:, :c]
        charge = found.totals[:, 1]
        # At a solution e^u times what acid is free is what extractant is free.
        e = np.exp(found.u[:, 0])
        free = charge - x @ z
        free *= e
        ys = y * s
        full = e * self.o
        full += self.a
        full *= ys @ self.zz
        full += free
        by_org = z / full[:, None]
        u_m = (e[:, None] - d) * s
        u_m *= by_org
        u_t = None
        if moving:
            u_t = np.zeros((e.size, 1, found.totals.shape[1]))
            u_t[:, 0, 0] = 1.0 / full
            u_t[:, 0, 1] = -e / full
        zys = z * ys
        return Slopes(
            x_u=(-self.vo * zys)[..., None],
            y_u=(self.va * zys)[..., None],
            u_m=u_m[:, None],
            u_a=None if found.aside is None else -by_org[:, None],
            u_t=u_t,
        )


class CompetitionMixers(GeneralMixers):
    """Components that share a prescribed loading, sum of y = total; Newton written out."""

    def settle(
        self,
        moles: Array,
        totals: Array,
        u: Array,
        aside: Array | None,
        close: float = CLOSE,
        limit: int = LIMIT,
    ) -> tuple[Array, Array, Array, float]:
        """As the protocol says."""
        va, vo = self.va, self.vo
        total, inert = totals[..., :1], totals[..., 1:2] > 0
        factor = np.exp(self.shift)
        for _ in range(limit):
            d = factor * np.exp(u)
            s = 1.0 / (va + vo * d)
            y = d * moles * s
            found = y.sum(axis=-1, keepdims=True)
            bend = va * (y * s).sum(axis=-1, keepdims=True)
            if aside is not None:
                found = found + aside.sum(axis=-1, keepdims=True)
            wanted: Array = np.log(total / found) * found / bend
            step, size = _bounded(np.where(inert, -u, wanted))
            u = u + step
            if size < close:
                break
        else:
            raise lost(step)
        d *= np.exp(step)
        return u, d, 1.0 / (va + vo * d), size


def _over(matrix: Array, right: Array) -> Array:
    return np.asarray(np.linalg.solve(matrix, right), dtype=float)


def _closures(spot: Spot) -> tuple[Array, Array, Array, Array]:
    """Residual and derivatives of a spot for which concentrations were given."""
    assert spot.residual is not None
    assert spot.by_u is not None
    assert spot.by_aq is not None
    assert spot.by_org is not None
    return spot.residual, spot.by_u, spot.by_aq, spot.by_org


def _bounded(step: NDArray[Any]) -> tuple[Array, float]:
    """The step no longer than CAP, and how long it was (infinite if it was cut)."""
    largest = float(np.abs(step).max())
    if largest <= CAP:
        return step, largest
    short: Array = np.clip(np.nan_to_num(step, nan=0.5, posinf=CAP, neginf=-CAP), -CAP, CAP)
    return short, np.inf


def lost(step: Array, dimer: Array | None = None) -> ConvergenceError:
    """No equilibrium was found: the last steps (..., N, m) name the stage, or the extractant
    (..., N) that what passes by leaves over."""
    worst = np.nan_to_num(np.abs(step), nan=np.inf).max(axis=-1)
    stage = int(np.argmax(worst.reshape(-1, worst.shape[-1]).max(axis=0)))
    if dimer is not None:
        left = dimer.reshape(-1, worst.shape[-1]).min(axis=0)
        if left.min() <= 0:
            stage = int(np.argmin(left))
            return ConvergenceError(
                f"the organic that passes stage {stage + 1} by is given more soap and metal than "
                "its extractant can hold",
                trace=Trace(
                    equation="extractant balance",
                    stage=stage + 1,
                    advice="an organic that is not stripped returns loaded: leave a stage of the "
                    "strip running, or take the soap away meanwhile (organic.saponification)",
                ),
            )
    return ConvergenceError(
        f"no equilibrium was found in the mixer of stage {stage + 1}",
        trace=Trace(equation="extractant and charge balance", stage=stage + 1),
    )
