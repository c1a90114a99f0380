"""One contact of an aqueous and an organic phase brought to equilibrium, any number at once.

This is the shake-out, the single stage and the batch: two volumes, their contents, equilibrium. The
chemistry comes from ``cation_exchange`` or ``complex_exchange``; the pH is an answer, never an
input, and no guess is asked for (``closing`` finds the unknowns).

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
from sepmodel.chemistry.closing import Charge, Exchange, phases, solve
from sepmodel.chemistry.complex_exchange import ComplexExchange
from sepmodel.chemistry.correlation import Correlation
from sepmodel.errors import ConvergenceError, InputError, Problem, Trace

Array = NDArray[np.float64]
_ACTIVITY_TOLERANCE = 1e-12
_ACTIVITY_ROUNDS = 128
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
        """-log10 of the proton concentration in mol/L, shape (...); infinite without acid."""
        with np.errstate(divide="ignore"):
            result: Array = -np.log10(self.proton / C_STANDARD)
        return result

    @property
    def distribution_ratio(self) -> Array:
        """Organic over aqueous concentration of every component, shape (..., C)."""
        ratio: Array = np.exp(self.log_d)
        return ratio


def contact(
    model: Exchange,
    *,
    feed_aq: ArrayLike,
    acid: ArrayLike,
    dimer: ArrayLike,
    feed_org: ArrayLike = 0.0,
    phase_ratio: ArrayLike = 1.0,
    sulfate: ArrayLike | None = None,
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
        free H+ of the aqueous feed [mol/m3], shape (...); for a neutral extractant the anions of
        every cation it does not take, salt and acid together.
    dimer
        total dimer (TBP) of the organic, free and bound [mol/m3], shape (...).
    phase_ratio
        organic over aqueous volume, shape (...).
    sulfate
        sulfate and bisulfate together [mol/m3], shape (...), where the model is a correlation in
        sulfate; ``acid`` is then titratable acid, both protons of H2SO4.
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
        feed_aq.shape[:-1], org_shape, acid.shape, dimer.shape, ratio.shape, _batch(model)
    )
    aq = np.broadcast_to(feed_aq, (*shape, size)).reshape(-1, size)
    org = np.broadcast_to(feed_org, (*shape, size)).reshape(-1, size)
    flat = [np.broadcast_to(a, shape).reshape(-1) for a in (acid, dimer, ratio)]
    _check(model, aq, org, *flat)
    entering = Charge(
        amounts=aq + org * flat[2][:, None],
        ratio=flat[2],
        dimer=flat[1],
        anions=flat[0] if _salting(model) else aq @ model.charge + flat[0],
        sulfate=_sulfate(model, sulfate, shape),
    )
    flat_model = _flattened(model, shape)
    log_gamma = np.zeros((len(aq), size))
    u, rounds, safe = solve(flat_model, entering)
    if activity is not None and activity.name != "ideal":
        names = tuple(components)
        u, log_gamma, more = _with_activity(flat_model, names, entering, u, activity)
        rounds += more
    final = flat_model.shifted(log_gamma)
    x, y = phases(final, entering, u)
    d, h = final.free(u, entering.totals, x, y)
    found = Contact(
        conc_aq=x.reshape(*shape, size),
        conc_org=y.reshape(*shape, size),
        log_d=final.spot(u, entering.totals).log_d.reshape(*shape, size),
        proton=h.reshape(shape),
        dimer=d.reshape(shape),
        u=u.reshape(*shape, -1),
        log_gamma=log_gamma.reshape(*shape, size),
        closure=_closure(final, entering, u, x, y).reshape(shape),
        iterations=rounds,
        safe=safe,
    )
    if activity is not None and activity.name != "ideal":
        molality = _molality(tuple(components), activity, x, h, entering)
        activities.require_range(activity, molality)
    return found


def _salting(model: Exchange) -> bool:
    """True where anions go along with the metal."""
    return isinstance(model, ComplexExchange) and model.salting


def _sulfate(model: Exchange, sulfate: ArrayLike | None, shape: tuple[int, ...]) -> Array | None:
    """Sulfate of every contact, where the model counts it and only there."""
    if isinstance(model, Correlation) != (sulfate is not None):
        raise InputError(
            Problem(
                message="sulfate belongs to correlations in sulfate, and to them alone",
                key="sulfate",
                value=sulfate,
            )
        )
    if sulfate is None:
        return None
    values = np.broadcast_to(np.asarray(sulfate, dtype=float), shape).reshape(-1)
    if not np.all(values >= 0):
        raise InputError(Problem(message="a concentration is negative", key="sulfate"))
    return values


def _batch(model: Exchange) -> tuple[int, ...]:
    """Leading axes of a model's constants."""
    if isinstance(model, CationExchange):
        return model.log_k.shape[:-1]
    return np.shape(model.b0 if isinstance(model, Correlation) else model.shift)[:-1]


def _flattened(model: Exchange, shape: tuple[int, ...]) -> Exchange:
    """The model with one row of constants for each contact of a batch of ``shape``."""
    size = len(model.charge)
    if isinstance(model, Correlation):
        return replace(model, b0=np.broadcast_to(model.b0, (*shape, size)).reshape(-1, size))
    if isinstance(model, ComplexExchange):
        shift = np.broadcast_to(np.asarray(model.shift, dtype=float), (*shape, size))
        return replace(model, shift=shift.reshape(-1, size))
    log_k = np.broadcast_to(model.log_k, (*shape, size)).reshape(-1, size)
    if model.log_gamma is not None:
        log_k = log_k + np.broadcast_to(model.log_gamma, (*shape, size)).reshape(-1, size)
    return replace(model, log_k=log_k, log_gamma=None)


def _check(model: Exchange, aq: Array, org: Array, acid: Array, dimer: Array, ratio: Array) -> None:
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
        if not (isinstance(model, Correlation) or _salting(model)):
            # Acidity both phases can give: the solvent's protons go where an ion takes most of
            # them for its dimers. A negative one is free base beyond all acid.
            present = (aq + org) > 0
            most = np.where(present, model.charge / model.dimers, 1.0).max(axis=1, initial=1.0)
            if not np.all(acid + ratio * (dimer * most - org @ model.charge) > 0):
                problems.append(
                    Problem(
                        message="more base enters than both phases hold acid",
                        key="acid",
                        value=float(acid.min()),
                    )
                )
        elif not np.all((acid if _salting(model) else aq @ model.charge + acid) >= 0):
            problems.append(Problem(message="anions are not negative", key="acid"))
    if problems:
        raise InputError(problems)


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
    model: Exchange,
    components: tuple[str, ...],
    entering: Charge,
    u: Array,
    activity: ActivityModel,
) -> tuple[Array, Array, int]:
    """Repeat the contact with ln gamma_M - z ln gamma_H until they no longer move."""
    free = activities.unlimited(activity)
    metal = [activity.ions.index(name) for name in components]
    proton = activity.ions.index("H")
    log_gamma = np.zeros_like(entering.amounts)
    active = np.arange(len(u))
    rounds = 0
    for _ in range(_ACTIVITY_ROUNDS):
        part, some = model.rows(active).shifted(log_gamma[active]), entering.part(active)
        x, y = phases(part, some, u[active])
        h = part.free(u[active], some.totals, x, y)[1]
        ln_gamma = free.ln_gamma(_molality(components, activity, x, h, some))
        fresh = ln_gamma[:, metal] - model.charge * ln_gamma[:, [proton]]
        moved = np.max(np.abs(fresh - log_gamma[active]), axis=1)
        log_gamma[active] = fresh
        active = active[moved > _ACTIVITY_TOLERANCE]
        if not len(active):
            return u, log_gamma, rounds
        part = model.rows(active).shifted(log_gamma[active])
        u[active], more, _ = solve(part, entering.part(active), u[active])
        rounds += more
    raise ConvergenceError(
        "the activity coefficients of a contact did not settle",
        trace=Trace(equation="activity coefficients", stage=int(active[0])),
    )


def _closure(model: Exchange, entering: Charge, u: Array, x: Array, y: Array) -> Array:
    """Largest relative error of the metal, reagent and charge balances and of the mass action."""
    metals = np.abs(x + entering.ratio[:, None] * y - entering.amounts)
    metals /= np.maximum(entering.amounts, _TINY)
    if isinstance(model, CationExchange):
        d, h = model.free(u, entering.totals, x, y)
        reagent = np.abs(d + y @ model.dimers - entering.dimer) / entering.dimer
        cations = h + x @ model.charge
        charge = np.abs(cations - entering.anions) / np.maximum(cations, _TINY)
        closed = np.maximum(reagent, charge)
    else:
        residual = model.spot(u, entering.totals, x, y).residual
        assert residual is not None
        closed = np.abs(np.expm1(residual)).max(axis=1)
    worst: Array = np.maximum(metals.max(axis=1, initial=0.0), closed)
    return worst
