"""The unknowns of a batch of contacts whose amounts are known: Newton, with a safe way behind it.

A model with one unknown (every n = z) has a closure that rises strictly with it: bracketed Newton.
A model with more, ln of each free reagent and of the protons, is solved by damped Newton steps on
logarithmic balances, and any contact they leave open by minimising the strictly convex function

  phi = O sum c_free + A h + sum_i N_i ln(A + O D_i) - sum_k (total of reagent k) ln d_k - ... ln h

whose gradient is the balances.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry.cation_exchange import C_STANDARD, CationExchange
from sepmodel.chemistry.complex_exchange import ComplexExchange
from sepmodel.chemistry.correlation import Correlation
from sepmodel.errors import ConvergenceError, Trace

Array = NDArray[np.float64]
Exchange: TypeAlias = CationExchange | ComplexExchange | Correlation
_TOLERANCE = 1e-13
_ROUNDS = 128
WIDEST = 256.0
_LONGEST_STEP = 4.0
_TINY = 1e-300


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Charge:
    """What enters a batch of contacts, flattened: amounts per m3 of aqueous phase.

    ``sulfate`` [mol/m3] in all, where the model counts bisulfate.
    """

    amounts: Array
    ratio: Array
    dimer: Array
    anions: Array
    sulfate: Array | None = None

    def part(self, at: NDArray[np.intp]) -> Charge:
        """The contacts at some positions."""
        return Charge(
            amounts=self.amounts[at],
            ratio=self.ratio[at],
            dimer=self.dimer[at],
            anions=self.anions[at],
            sulfate=None if self.sulfate is None else self.sulfate[at],
        )

    @property
    def totals(self) -> Array:
        """Reagent, anions and sulfate as the totals of a spot, shape (N, 2) or (N, 3)."""
        known = [self.dimer, self.anions]
        return np.stack(known if self.sulfate is None else [*known, self.sulfate], axis=-1)


def phases(model: Exchange, entering: Charge, u: Array) -> tuple[Array, Array]:
    """Aqueous and organic concentrations at the unknowns, from the metal balances."""
    log_d = model.spot(u, entering.totals).log_d
    d = np.exp(np.clip(log_d, -WIDEST, WIDEST))
    x = entering.amounts / (1 + entering.ratio[:, None] * d)
    return x, x * d


def solve(model: Exchange, entering: Charge, start: Array | None = None) -> tuple[Array, int, int]:
    """Unknowns u, shape (N, m), rounds, and how many contacts took the safe way."""
    if model.unknowns == 1:
        assert isinstance(model, CationExchange)
        return _solve_one(model, entering, start)
    return _solve_more(model, entering, start)


def _residual(model: Exchange, entering: Charge, u: Array) -> tuple[Array, Array]:
    """Closures of the model and their full derivative by u, the metal balances being kept."""
    x, y = phases(model, entering, u)
    spot = model.spot(u, entering.totals, x, y)
    assert spot.residual is not None
    assert spot.by_u is not None
    assert spot.by_aq is not None
    assert spot.by_org is not None
    # dx/du = -x s slope, dy/du = y (1 - s) slope, s the share that is organic.
    taken = entering.ratio[:, None] * y
    share = taken / np.maximum(x + taken, _TINY)
    dx = -(x * share)[..., None] * spot.slope
    dy = (y * (1 - share))[..., None] * spot.slope
    return spot.residual, spot.by_u + spot.by_aq @ dx + spot.by_org @ dy


def _solve_one(
    model: CationExchange, entering: Charge, start: Array | None
) -> tuple[Array, int, int]:
    """ln(d/h) by Newton inside a bracket; the closure rises strictly with it."""
    count = len(entering.ratio)
    low, high = np.full(count, -WIDEST / 2), np.full(count, WIDEST / 2)
    if start is None:
        # Without metals: d = dimer, h = anions.
        guess = np.log(entering.dimer / np.maximum(entering.anions, entering.dimer * 1e-12))
        u = np.clip(guess, -WIDEST / 4, WIDEST / 4)
    else:
        u = start[:, 0].copy()
    active, last = np.arange(count), np.full(count, np.inf)
    rounds = 0
    for rounds in range(1, _ROUNDS + 1):
        part = model.rows(active)
        residual, slope = _residual(part, entering.part(active), u[active, None])
        r, s = residual[:, 0], slope[:, 0, 0]
        at = u[active]
        low[active] = np.where(r < 0, at, low[active])
        high[active] = np.where(r >= 0, at, high[active])
        step = -r / np.maximum(s, _TINY)
        trial = at + step
        # A step that gained little was too long: halve the bracket instead.
        inside = (trial > low[active]) & (trial < high[active]) & (np.abs(r) < 0.5 * last[active])
        last[active] = np.abs(r)
        u[active] = np.where(inside, trial, (low[active] + high[active]) / 2)
        # The last step is taken: quadratic convergence leaves only rounding behind.
        small = (np.abs(step) < 1e-9) & inside
        done = small | (high[active] - low[active] < _TOLERANCE) | (r == 0)
        u[active] = np.where(r == 0, at, u[active])
        active = active[~done]
        if not len(active):
            return u[:, None], rounds, 0
    raise ConvergenceError(
        "a contact did not reach equilibrium",
        trace=Trace(equation="dimer and charge", stage=int(active[0]), advice="report this case"),
    )


def _solve_more(model: Exchange, entering: Charge, start: Array | None) -> tuple[Array, int, int]:
    """ln of reagents and protons [mol/L] by damped Newton; what stays open is minimised safely."""
    u = _first(model, entering) if start is None else start.copy()
    active = np.arange(len(u))
    rounds = 0
    for rounds in range(1, _ROUNDS + 1):
        residual, slope = _residual(model.rows(active), entering.part(active), u[active])
        step = -_solve_small(slope, residual)
        longest = np.max(np.abs(step), axis=1)
        finite = np.isfinite(longest)
        step = np.where(finite[:, None], step, 0.0)
        u[active] += step * np.minimum(1.0, _LONGEST_STEP / np.maximum(longest, _TINY))[:, None]
        active = active[~(finite & (longest < 1e-9))]
        if not len(active):
            return u, rounds, 0
    u[active] = _minimise(model.rows(active), entering.part(active))
    return u, rounds, len(active)


def _first(model: Exchange, entering: Charge) -> Array:
    """All reagents free and all anions beside protons (beside all cations where they salt out)."""
    if isinstance(model, CationExchange):
        acid = np.maximum(entering.anions, entering.dimer * 1e-3)
        return np.log(np.stack([entering.dimer, acid], axis=-1) / C_STANDARD)
    if isinstance(model, Correlation):
        one = np.ones_like(entering.ratio)
        return model.guess(entering.amounts, one, entering.ratio, entering.totals)
    last = entering.anions
    if model.salting:
        last = last + entering.amounts @ model.charge
    free = entering.dimer[:, None] * (model.split**2 if model.mixed else model.split)
    first: Array = np.log(
        np.concatenate([free, np.maximum(last, entering.dimer * 1e-3)[:, None]], axis=-1)
        / C_STANDARD
    )
    return first


def _solve_small(matrix: Array, rhs: Array) -> Array:
    """Solve small systems, shape (N, m, m) and (N, m): Cramer's rule for two unknowns."""
    if matrix.shape[-1] > 2:
        return _eliminate(matrix, rhs)
    a, b, c, d = matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 0], matrix[:, 1, 1]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        determinant = a * d - b * c
        first = (d * rhs[:, 0] - b * rhs[:, 1]) / determinant
        second = (a * rhs[:, 1] - c * rhs[:, 0]) / determinant
    return np.stack([first, second], axis=-1)


def _eliminate(matrix: Array, rhs: Array) -> Array:
    """Gaussian elimination with row pivoting, vectorised over systems; NaN where singular."""
    a, b = matrix.copy(), rhs.copy()
    every, size = np.arange(len(a)), a.shape[-1]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for k in range(size):
            pivot = k + np.argmax(np.abs(a[:, k:, k]), axis=1)
            for array in (a, b):
                array[every, k], array[every, pivot] = (
                    array[every, pivot].copy(),
                    array[every, k].copy(),
                )
            for i in range(k + 1, size):
                factor = a[:, i, k] / a[:, k, k]
                a[:, i] -= factor[:, None] * a[:, k]
                b[:, i] -= factor * b[:, k]
        for k in reversed(range(size)):
            b[:, k] = (b[:, k] - (a[:, k, k + 1 :] * b[:, k + 1 :]).sum(axis=1)) / a[:, k, k]
    return b


def _as_complexes(model: CationExchange | ComplexExchange) -> ComplexExchange:
    """One complex of one reagent, as the general form."""
    if isinstance(model, ComplexExchange):
        return model
    size = len(model.charge)
    return ComplexExchange(
        log_k=np.zeros((size, 1)),
        order=np.reshape(model.dimers, (size, 1, 1)),
        charge=model.charge,
        split=np.ones(1),
        shift=model.log_k,
    )


def _minimise(exchange: Exchange, entering: Charge) -> Array:
    """The same point as the minimum of a strictly convex function of the unknowns."""
    if isinstance(exchange, Correlation):
        raise ConvergenceError(
            "a contact did not reach equilibrium by the correlation",
            trace=Trace(equation="extractant and protons", advice="leave its range of pH"),
        )
    model = _as_complexes(exchange)
    ratio, amounts = entering.ratio, entering.amounts
    sign = 1.0 if model.salting else -1.0
    volume = np.concatenate(
        [np.repeat(ratio[:, None], len(model.split), axis=1), np.ones((len(ratio), 1))], axis=1
    )
    anions = entering.anions + sign * (amounts @ model.charge)
    reagents = (ratio * entering.dimer)[:, None] * model.split
    target = np.concatenate([reagents, anions[:, None]], axis=1)
    proton = sign * model.charge

    def parts(u: Array) -> tuple[Array, Array, Array, Array, Array]:
        """Free amounts, mixed dimer, ln(O D), mean order and its derivative."""
        u = np.minimum(u, WIDEST)
        log_d, mean, spread = model.complexes(u)
        free = np.exp(u) * C_STANDARD * volume
        pair = ratio * (
            model.mixed * C_STANDARD * np.exp((u[:, 0] + u[:, 1]) / 2)
            if model.mixed
            else np.zeros(len(u))
        )
        return free, pair, log_d + np.log(ratio)[:, None], mean, spread

    def value(u: Array) -> Array:
        free, pair, log_od, _, _ = parts(u)
        taken = (amounts * np.logaddexp(0, log_od)).sum(1)
        result: Array = free.sum(1) + pair + taken - (target * u).sum(1)
        return result

    u = _first(exchange, entering)
    for _ in range(_ROUNDS * 4):
        free, pair, log_od, mean, spread = parts(u)
        s = 1 / (1 + np.exp(-np.clip(log_od, -WIDEST, WIDEST)))
        last = np.broadcast_to(proton, s.shape)[..., None]
        direction = np.concatenate([mean, last], axis=-1)
        gradient = free + np.einsum("nc,nci->ni", amounts * s, direction) - target
        hessian = np.einsum("nc,nci,ncj->nij", amounts * s * (1 - s), direction, direction)
        hessian[:, :-1, :-1] += np.einsum("nc,ncij->nij", amounts * s, spread)
        hessian += free[:, :, None] * np.eye(model.unknowns)
        if model.mixed:
            gradient[:, :-1] += pair[:, None] / 2
            hessian[:, :-1, :-1] += pair[:, None, None] / 4
        scale = 1 / np.sqrt(np.maximum(np.einsum("nii->ni", hessian), _TINY))
        hessian = hessian * scale[:, :, None] * scale[:, None, :] + 1e-15 * np.eye(model.unknowns)
        step = -scale * _solve_small(hessian, gradient * scale)
        longest = np.max(np.abs(step), axis=1)
        if np.all(longest < 1e-11):
            return u
        step *= np.minimum(1.0, 2 / np.maximum(longest, _TINY))[:, None]
        before, fall = value(u), (gradient * step).sum(1)
        size = np.ones(len(u))
        for _ in range(_ROUNDS):
            high = value(u + step * size[:, None]) > before + 1e-4 * size * fall + 1e-14 * np.abs(
                before
            )
            if not high.any():
                break
            size = np.where(high, size / 2, size)
        u = u + step * size[:, None]
    raise ConvergenceError(
        "a contact did not reach equilibrium",
        trace=Trace(equation="reagents and charge", advice="report this case"),
    )
