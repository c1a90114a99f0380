"""One contact of an aqueous and an organic phase brought to equilibrium, any number at once.

This is the shake-out, the single stage and the batch: two volumes, their contents, equilibrium. The
chemistry comes from any model of ``equilibrium.Equilibrium``; the pH is an answer, never an input,
and no guess is asked for.

A model with one unknown (every n = z) has a closure that rises strictly with it: bracketed Newton.
A model with two, ln d and ln h, is solved by damped Newton steps on logarithmic balances, and any
contact they leave open by minimising the strictly convex function

  phi = O d + A h + sum_i N_i ln(A + O D_i) - O D_total ln d - (A h + ...)_total ln h.

Activity coefficients, where the model's constants need them, are iterated around that solution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel.chemistry import activity as activities
from sepmodel.chemistry.activity import ActivityModel
from sepmodel.chemistry.cation_exchange import C_STANDARD, CationExchange
from sepmodel.errors import ConvergenceError, InputError, Problem, Trace

Array = NDArray[np.float64]
_TOLERANCE = 1e-13
_ACTIVITY_TOLERANCE = 1e-12
_ROUNDS = 128
_ACTIVITY_ROUNDS = 128
_WIDEST = 256.0
_LONGEST_STEP = 4.0
_TINY = 1e-300


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Contact:
    """Both phases at equilibrium: concentrations [mol/m3], shape (..., C), and closures.

    ``proton`` and ``dimer`` [mol/m3] are free H+ and free dimer; ``closure`` is the largest
    relative error of any balance: each metal, the dimer, the charge. ``log_d`` is ln of organic
    over aqueous concentration, of absent components too.
    """

    conc_aq: Array
    conc_org: Array
    log_d: Array
    proton: Array
    dimer: Array
    u: Array
    log_gamma: Array
    closure: Array
    iterations: int
    safe: int

    @property
    def pH(self) -> Array:
        """-log10 of the proton concentration in mol/L, shape (...)."""
        result: Array = -np.log10(self.proton / C_STANDARD)
        return result

    @property
    def distribution_ratio(self) -> Array:
        """Organic over aqueous concentration of every component, shape (..., C)."""
        ratio: Array = np.exp(self.log_d)
        return ratio


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Charge:
    """What enters a batch of contacts, flattened: amounts per m3 of aqueous phase."""

    amounts: Array
    ratio: Array
    dimer: Array
    anions: Array

    def part(self, at: NDArray[np.intp]) -> Charge:
        """The contacts at some positions."""
        return Charge(
            amounts=self.amounts[at],
            ratio=self.ratio[at],
            dimer=self.dimer[at],
            anions=self.anions[at],
        )


def contact(
    model: CationExchange,
    *,
    feed_aq: ArrayLike,
    acid: ArrayLike,
    dimer: ArrayLike,
    feed_org: ArrayLike = 0.0,
    phase_ratio: ArrayLike = 1.0,
    activity: ActivityModel | None = None,
    components: Sequence[str] = (),
) -> Contact:
    """Equilibrium of an aqueous feed with an organic, from what enters alone.

    Parameters
    ----------
    model
        exchange constants; the last axis of every array follows its components.
    feed_aq, feed_org
        concentrations [mol/m3] of the exchangeable cations, shape (..., C); a saponified organic
        carries its counter-ion in ``feed_org``.
    acid
        free H+ of the aqueous feed [mol/m3], shape (...).
    dimer
        total dimer of the organic, free and bound [mol/m3], shape (...).
    phase_ratio
        organic over aqueous volume, shape (...).
    activity, components
        activity model of H, the named components and Cl (all anions are taken as chloride); without
        one the contact is ideal.

    Raises
    ------
    InputError
        for negative or non-finite values, an overloaded organic, or an activity model beyond its
        range; ConvergenceError when a contact stays open.

    >>> model = CationExchange(
    ...     log_k=np.log([0.01]), charge=np.array([3.0]), dimers=np.array([3.0])
    ... )
    >>> c = contact(model, feed_aq=[100.0], acid=10.0, dimer=500.0)
    >>> round(float(c.pH), 3), bool(c.closure < 1e-12)
    (0.962, True)
    """
    size = len(model.charge)
    feed_aq, feed_org = np.asarray(feed_aq, dtype=float), np.asarray(feed_org, dtype=float)
    acid, dimer = np.asarray(acid, dtype=float), np.asarray(dimer, dtype=float)
    ratio = np.asarray(phase_ratio, dtype=float)
    org_shape = feed_org.shape[:-1] if feed_org.ndim else ()
    shape = np.broadcast_shapes(
        feed_aq.shape[:-1], org_shape, acid.shape, dimer.shape, ratio.shape, model.log_k.shape[:-1]
    )
    aq = np.broadcast_to(feed_aq, (*shape, size)).reshape(-1, size)
    org = np.broadcast_to(feed_org, (*shape, size)).reshape(-1, size)
    flat = [np.broadcast_to(a, shape).reshape(-1) for a in (acid, dimer, ratio)]
    _check(model, aq, org, *flat)
    entering = Charge(
        amounts=aq + org * flat[2][:, None],
        ratio=flat[2],
        dimer=flat[1],
        anions=aq @ model.charge + flat[0],
    )
    log_k = np.broadcast_to(model.log_k, (*shape, size)).reshape(-1, size)
    if model.log_gamma is not None:
        log_k = log_k + np.broadcast_to(model.log_gamma, (*shape, size)).reshape(-1, size)
    flat_model = replace(model, log_k=log_k, log_gamma=None)
    log_gamma = np.zeros_like(log_k)
    u, rounds, safe = _solve(flat_model, entering, None)
    if activity is not None and activity.name != "ideal":
        names = tuple(components)
        u, log_gamma, more = _with_activity(flat_model, names, entering, u, activity)
        rounds += more
    final = replace(flat_model, log_k=log_k + log_gamma)
    x, y = _phases(final, entering, u)
    d, h = _free(final, entering, u, x, y)
    found = Contact(
        conc_aq=x.reshape(*shape, size),
        conc_org=y.reshape(*shape, size),
        log_d=final.spot(u, np.stack([flat[1], entering.anions], -1)).log_d.reshape(*shape, size),
        proton=h.reshape(shape),
        dimer=d.reshape(shape),
        u=u.reshape(*shape, -1),
        log_gamma=log_gamma.reshape(*shape, size),
        closure=_closure(final, entering, u, x, y, d, h).reshape(shape),
        iterations=rounds,
        safe=safe,
    )
    if activity is not None and activity.name != "ideal":
        molality = _molality(tuple(components), activity, x, h, entering)
        activities.require_range(activity, molality)
    return found


def _check(
    model: CationExchange, aq: Array, org: Array, acid: Array, dimer: Array, ratio: Array
) -> None:
    """InputError for what cannot be brought into contact."""
    problems = []
    for name, values in (("feed_aq", aq), ("feed_org", org)):
        if not (np.all(np.isfinite(values)) and np.all(values >= 0)):
            problems.append(Problem(message="a concentration is negative or not finite", key=name))
    for name, values in (("dimer", dimer), ("phase_ratio", ratio)):
        if not (np.all(np.isfinite(values)) and np.all(values > 0)):
            problems.append(Problem(message="must be positive and finite", key=name))
    if not np.all(np.isfinite(acid)):
        problems.append(Problem(message="not finite", key="acid"))
    if not problems:
        load = org @ model.dimers / dimer
        if not np.all(load <= 1 + 1e-9):
            problems.append(
                Problem(
                    message="the entering organic holds more than its dimer can bind",
                    key="feed_org",
                    value=float(load.max()),
                    expected="at most 1, as sum of n y over the total dimer",
                )
            )
        # Acidity both phases together can give; a negative one is free base beyond all acid.
        spare = acid + ratio * (dimer - org @ model.charge)
        if model.unknowns == 1 and not np.all(spare > 0):
            problems.append(
                Problem(
                    message="more base enters than both phases hold acid",
                    key="acid",
                    value=float(acid.min()),
                )
            )
    if problems:
        raise InputError(problems)


def _phases(model: CationExchange, entering: Charge, u: Array) -> tuple[Array, Array]:
    """Aqueous and organic concentrations at the unknowns, from the metal balances."""
    totals = np.stack([entering.dimer, entering.anions], axis=-1)
    log_d = model.spot(u, totals).log_d
    d = np.exp(np.clip(log_d, -_WIDEST, _WIDEST))
    x = entering.amounts / (1 + entering.ratio[:, None] * d)
    return x, x * d


def _solve(model: CationExchange, entering: Charge, start: Array | None) -> tuple[Array, int, int]:
    """Unknowns u, shape (N, m), rounds, and how many contacts took the safe way."""
    if model.unknowns == 1:
        return _solve_one(model, entering, start)
    return _solve_two(model, entering, start)


def _residual(model: CationExchange, entering: Charge, u: Array) -> tuple[Array, Array]:
    """Closures of the model and their full derivative by u, the metal balances being kept."""
    totals = np.stack([entering.dimer, entering.anions], axis=-1)
    x, y = _phases(model, entering, u)
    spot = model.spot(u, totals, x, y)
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
    low, high = np.full(count, -_WIDEST / 2), np.full(count, _WIDEST / 2)
    if start is None:
        # Without metals: d = dimer, h = anions.
        guess = np.log(entering.dimer / np.maximum(entering.anions, entering.dimer * 1e-12))
        u = np.clip(guess, -_WIDEST / 4, _WIDEST / 4)
    else:
        u = start[:, 0].copy()
    active, last = np.arange(count), np.full(count, np.inf)
    rounds = 0
    for rounds in range(1, _ROUNDS + 1):
        part = replace(model, log_k=model.log_k[active])
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


def _solve_two(
    model: CationExchange, entering: Charge, start: Array | None
) -> tuple[Array, int, int]:
    """ln d and ln h [mol/L] by damped Newton; what stays open is minimised safely."""
    if start is None:
        acid = np.maximum(entering.anions, entering.dimer * 1e-3)
        u = np.log(np.stack([entering.dimer, acid], axis=-1) / C_STANDARD)
    else:
        u = start.copy()
    active = np.arange(len(u))
    rounds = 0
    for rounds in range(1, _ROUNDS + 1):
        part = replace(model, log_k=model.log_k[active])
        residual, slope = _residual(part, entering.part(active), u[active])
        step = -_solve_pairs(slope, residual)
        longest = np.max(np.abs(step), axis=1)
        finite = np.isfinite(longest)
        step = np.where(finite[:, None], step, 0.0)
        u[active] += step * np.minimum(1.0, _LONGEST_STEP / np.maximum(longest, _TINY))[:, None]
        active = active[~(finite & (longest < 1e-9))]
        if not len(active):
            return u, rounds, 0
    part = replace(model, log_k=model.log_k[active])
    u[active] = _minimise(part, entering.part(active))
    return u, rounds, len(active)


def _solve_pairs(matrix: Array, rhs: Array) -> Array:
    """Solve 2 x 2 systems, shape (N, 2, 2) and (N, 2), by Cramer's rule."""
    a, b, c, d = matrix[:, 0, 0], matrix[:, 0, 1], matrix[:, 1, 0], matrix[:, 1, 1]
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        determinant = a * d - b * c
        first = (d * rhs[:, 0] - b * rhs[:, 1]) / determinant
        second = (a * rhs[:, 1] - c * rhs[:, 0]) / determinant
    return np.stack([first, second], axis=-1)


def _minimise(model: CationExchange, entering: Charge) -> Array:
    """The same point as the minimum of a strictly convex function of ln d and ln h."""
    ratio, amounts = entering.ratio, entering.amounts
    target = np.stack([ratio * entering.dimer, entering.anions - amounts @ model.charge], axis=-1)
    direction = np.stack([model.dimers, -model.charge], axis=-1)

    def share(u: Array) -> tuple[Array, Array]:
        """Organic share of each metal, and ln(1 + O D)."""
        log_od = model.log_k + u @ direction.T + np.log(ratio)[:, None]
        return 1 / (1 + np.exp(-np.clip(log_od, -_WIDEST, _WIDEST))), np.logaddexp(0, log_od)

    def value(u: Array, logs: Array) -> Array:
        free = np.exp(np.minimum(u, _WIDEST)) * C_STANDARD * np.stack([ratio, ratio * 0 + 1], -1)
        result: Array = free.sum(1) + (amounts * logs).sum(1) - (target * u).sum(1)
        return result

    u = np.log(np.stack([entering.dimer, np.maximum(entering.anions, 1.0)], -1) / C_STANDARD)
    for _ in range(_ROUNDS * 4):
        s, logs = share(u)
        free = np.exp(np.minimum(u, _WIDEST)) * C_STANDARD * np.stack([ratio, ratio * 0 + 1], -1)
        gradient = free + (amounts * s) @ direction - target
        curved = np.einsum("nc,ci,cj->nij", amounts * s * (1 - s), direction, direction)
        hessian = curved + free[:, :, None] * np.eye(2)
        scale = 1 / np.sqrt(np.maximum(np.einsum("nii->ni", hessian), _TINY))
        hessian = hessian * scale[:, :, None] * scale[:, None, :] + 1e-15 * np.eye(2)
        step = -scale * _solve_pairs(hessian, gradient * scale)
        longest = np.max(np.abs(step), axis=1)
        if np.all(longest < 1e-11):
            return u
        step *= np.minimum(1.0, 2 / np.maximum(longest, _TINY))[:, None]
        before, fall = value(u, logs), (gradient * step).sum(1)
        size = np.ones(len(u))
        for _ in range(_ROUNDS):
            trial = u + step * size[:, None]
            high = value(trial, share(trial)[1]) > before + 1e-4 * size * fall + 1e-14 * np.abs(
                before
            )
            if not high.any():
                break
            size = np.where(high, size / 2, size)
        u = u + step * size[:, None]
    raise ConvergenceError(
        "a contact did not reach equilibrium",
        trace=Trace(equation="dimer and charge", advice="report this case"),
    )


def _molality(
    components: tuple[str, ...],
    activity: ActivityModel,
    x: Array,
    h: Array,
    entering: Charge,
) -> Array:
    """Molalities [mol/kg] of the activity model's ions; all anions are taken as chloride."""
    known = {"H": h, "Cl": entering.anions}
    known |= {name: x[:, i] for i, name in enumerate(components)}
    missing = [ion for ion in activity.ions if ion not in known]
    unseen = [name for name in ("H", "Cl", *components) if name not in activity.ions]
    if missing or unseen:
        raise InputError(
            Problem(
                message="the activity model and the contact do not name the same ions",
                value=", ".join(missing + unseen),
                expected=", ".join(("H", *components, "Cl")),
            )
        )
    molality: Array = np.stack([known[ion] for ion in activity.ions], axis=-1) / activity.water
    return molality


def _with_activity(
    model: CationExchange,
    components: tuple[str, ...],
    entering: Charge,
    u: Array,
    activity: ActivityModel,
) -> tuple[Array, Array, int]:
    """Repeat the contact with ln gamma_M - z ln gamma_H until they no longer move."""
    free = activities.unlimited(activity)
    metal = [activity.ions.index(name) for name in components]
    proton = activity.ions.index("H")
    log_gamma = np.zeros_like(model.log_k)
    active = np.arange(len(u))
    rounds = 0
    for _ in range(_ACTIVITY_ROUNDS):
        part, some = replace(model, log_k=(model.log_k + log_gamma)[active]), entering.part(active)
        x, y = _phases(part, some, u[active])
        h = _free(part, some, u[active], x, y)[1]
        ln_gamma = free.ln_gamma(_molality(components, activity, x, h, some))
        fresh = ln_gamma[:, metal] - model.charge * ln_gamma[:, [proton]]
        moved = np.max(np.abs(fresh - log_gamma[active]), axis=1)
        log_gamma[active] = fresh
        active = active[moved > _ACTIVITY_TOLERANCE]
        if not len(active):
            return u, log_gamma, rounds
        part = replace(model, log_k=(model.log_k + log_gamma)[active])
        u[active], more, _ = _solve(part, entering.part(active), u[active])
        rounds += more
    raise ConvergenceError(
        "the activity coefficients of a contact did not settle",
        trace=Trace(equation="activity coefficients", stage=int(active[0])),
    )


def _free(
    model: CationExchange, entering: Charge, u: Array, x: Array, y: Array
) -> tuple[Array, Array]:
    """Free dimer and protons [mol/m3]."""
    totals = np.stack([entering.dimer, entering.anions], axis=-1)
    d, h = model.free(u, totals, x, y)
    return d, h


def _closure(
    model: CationExchange, entering: Charge, u: Array, x: Array, y: Array, d: Array, h: Array
) -> Array:
    """Largest relative error of the metal, dimer and charge balances and of the mass action."""
    metals = np.abs(x + entering.ratio[:, None] * y - entering.amounts)
    metals /= np.maximum(entering.amounts, _TINY)
    dimer = np.abs(d + y @ model.dimers - entering.dimer) / entering.dimer
    cations = h + x @ model.charge
    charge = np.abs(cations - entering.anions) / np.maximum(cations, _TINY)
    worst: Array = np.maximum(metals.max(axis=1, initial=0.0), np.maximum(dimer, charge))
    return worst
