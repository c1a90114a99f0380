"""Isotherms an engineer draws before any cascade: distribution, loading, pH, separation factors.

Every function takes an ``ExchangeSet`` and bulk conditions and returns arrays (strict SI); they are
sequences of single contacts, so every point closes its balances and pH is an answer throughout.
Base titration is in ``saponification``, the construction of stages in ``stepping``, the limits of a
solvent in ``limits``; all are at hand here too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel.chemistry import exchange_set
from sepmodel.chemistry.cation_exchange import C_STANDARD, CationExchange
from sepmodel.chemistry.contact import Contact, contact
from sepmodel.chemistry.exchange_set import ExchangeSet
from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.extraction import factors
from sepmodel.extraction.limits import state_warnings
from sepmodel.extraction.saponification import Titration, soap_sensitivity, titration
from sepmodel.extraction.shake import Solvent, correlated, metal_loading, salting, shake
from sepmodel.extraction.stepping import Steps, steps
from sepmodel.species import RARE_EARTHS

__all__ = [
    "Isotherm",
    "Solvent",
    "Steps",
    "Titration",
    "at_pH",
    "distribution",
    "half_extraction",
    "loading_isotherm",
    "log_distribution",
    "pH_curve",
    "separation",
    "separation_map",
    "shake",
    "soap_sensitivity",
    "state_warnings",
    "steps",
    "titration",
    "with_constants",
    "with_factors",
]

Array = NDArray[np.float64]
# Numerical ends of a search over acidity and what counts as a trace, mol/m3.
_WEAKEST, _STRONGEST, _TRACE, _TINY = 1e-4, 1e4, 1e-6, 1e-300


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Isotherm:
    """Equilibrium points along a curve; arrays of shape (N,) or (N, C)."""

    components: tuple[str, ...]
    conc_aq: Array
    conc_org: Array
    pH: Array
    loading: Array
    log_d: Array
    closure: Array

    def separation_factor(self, heavy: str, light: str) -> Array:
        """D_heavy / D_light along the curve."""
        i, j = self.components.index(heavy), self.components.index(light)
        factor: Array = np.exp((self.log_d[..., i] - self.log_d[..., j]) * np.log(10))
        return factor

    def to_csv(self) -> str:
        """The curve as CSV with units in the header."""
        names = self.components
        head = ["pH", "loading [mol/mol]"]
        head += [f"{n} aqueous [mol/m^3]" for n in names]
        head += [f"{n} organic [mol/m^3]" for n in names]
        head += [f"log10 D {n}" for n in names]
        lines = [",".join(head)]
        for i in range(len(self.pH)):
            row = (self.pH[i], self.loading[i], *self.conc_aq[i], *self.conc_org[i], *self.log_d[i])
            lines.append(",".join(f"{v:.8g}" for v in row))
        return "\n".join(lines) + "\n"


def _isotherm(constants: ExchangeSet, solvent: Solvent, found: Contact) -> Isotherm:
    """A contact along one axis as a curve; the loading counts rare earths only."""
    return Isotherm(
        components=constants.components,
        conc_aq=found.conc_aq,
        conc_org=found.conc_org,
        pH=found.pH,
        loading=metal_loading(constants, solvent, found),
        log_d=found.log_d / np.log(10),
        closure=found.closure,
    )


def loading_isotherm(
    constants: ExchangeSet,
    shares: Mapping[str, float],
    totals: ArrayLike,
    acid: float,
    solvent: Solvent,
    *,
    phase_ratio: float = 1.0,
    salt: float = 0.0,
    sulfate: float = 0.0,
) -> Isotherm:
    """Organic against aqueous concentration as the feed's total [mol/m3] rises at fixed shares."""
    totals = np.asarray(totals, dtype=float)
    whole = sum(shares.values())
    feed = {name: totals * share / whole for name, share in shares.items()}
    found = shake(
        constants, feed, acid, solvent, phase_ratio=phase_ratio, salt=salt, sulfate=sulfate
    )
    return _isotherm(constants, solvent, found)


def pH_curve(
    constants: ExchangeSet,
    feed: Mapping[str, float],
    acids: ArrayLike,
    solvent: Solvent,
    *,
    phase_ratio: float = 1.0,
) -> Isotherm:
    """Extraction against the equilibrium pH that feeds of different acidity [mol/m3] reach."""
    found = shake(
        constants,
        {name: np.full(np.shape(acids), value) for name, value in feed.items()},
        acids,
        solvent,
        phase_ratio=phase_ratio,
    )
    return _isotherm(constants, solvent, found)


def at_pH(
    constants: ExchangeSet,
    feed: Mapping[str, ArrayLike],
    pH: ArrayLike,
    solvent: Solvent,
    *,
    phase_ratio: float = 1.0,
    sulfate: float = 0.0,
) -> Isotherm:
    """Contacts brought to an equilibrium pH by acid or base added to the feed, as in a laboratory.

    The cation of the base stays in the water and its share in the ionic strength is not counted.
    Every ``pH`` is one point; ``feed`` [mol/m3] broadcasts with it. InputError for a pH that no
    acid below 1e4 mol/m3 and no base the two phases can take brings about.

    >>> constants = exchange_set.load("extractants/li1987-pc88a-ideal", ("Nd",), Book())
    >>> found = at_pH(constants, {"Nd": 1e-6}, [1.0170], Solvent(extractant=1000.0))
    >>> float(found.log_d[0, 0].round(3))
    -0.0
    """
    if salting(constants):
        raise InputError(Problem(message="a neutral extractant has no pH curve", key="acidity"))
    pH = np.asarray(pH, dtype=float)
    metals = {
        name: np.broadcast_to(np.asarray(v, dtype=float), pH.shape) for name, v in feed.items()
    }
    charge = dict(zip(constants.components, constants.model.charge, strict=True))
    carried = sum((charge[name] * value for name, value in metals.items()), np.zeros(pH.shape))
    # Acid of the feed between all anions gone (nothing but base left) and strong acid.
    free = solvent.dimer * phase_ratio * (1 - 2 * solvent.saponification)
    low = -np.minimum(carried, np.maximum(free, 0)) * (1 - 1e-9)
    high = np.full(pH.shape, _strongest(constants))
    target = C_STANDARD * 10**-pH

    def contacts(acid: Array) -> Contact:
        return shake(constants, metals, acid, solvent, phase_ratio=phase_ratio, sulfate=sulfate)

    # False position; an end that stays twice has its value halved (Illinois).
    left, right = contacts(low).proton - target, contacts(high).proton - target
    side = np.zeros(pH.shape)
    for _ in range(64):
        acid = np.clip(low - left * (high - low) / np.maximum(right - left, _TINY), low, high)
        found = contacts(acid)
        gap = found.proton - target
        if np.all(np.abs(gap) < 1e-12 * target):
            break
        rises = gap < 0
        right = np.where(rises & (side < 0), right / 2, right)
        left = np.where(~rises & (side > 0), left / 2, left)
        low, left = np.where(rises, acid, low), np.where(rises, gap, left)
        high, right = np.where(rises, high, acid), np.where(rises, right, gap)
        side = np.where(rises, -1.0, 1.0)
    missed = np.abs(found.pH - pH)
    if not np.all(missed < 1e-3):
        worst = np.unravel_index(np.argmax(missed), pH.shape)
        raise InputError(
            Problem(
                message="no acid or base brings this contact to the pH asked for",
                key="pH",
                value=float(pH[worst]),
                expected=f"near {float(found.pH[worst]):.2f}, its end of the range, or between",
            )
        )
    return _isotherm(constants, solvent, found)


def separation_map(
    constants: ExchangeSet,
    heavy: str,
    light: str,
    shares: Mapping[str, float],
    totals: ArrayLike,
    acids: ArrayLike,
    solvent: Solvent,
) -> tuple[Array, Array, Array]:
    """Separation factor over pH and loading: each of shape (totals, acids), with pH and loading.

    Feeds of every total [mol/m3] and acidity [mol/m3] at fixed shares. On the ideal basis with one
    stoichiometry the factor is the ratio of the constants everywhere, which is what single-metal
    constants imply and mixtures contradict; other bases bend it through the activities.
    """
    whole = sum(shares.values())
    totals = np.asarray(totals, dtype=float)[:, None]
    feed = {name: totals * share / whole for name, share in shares.items()}
    acid = np.broadcast_to(np.asarray(acids, dtype=float), (len(totals), np.size(acids)))
    found = shake(
        constants, {n: np.broadcast_to(v, acid.shape) for n, v in feed.items()}, acid, solvent
    )
    loading = metal_loading(constants, solvent, found)
    i, j = constants.components.index(heavy), constants.components.index(light)
    factor: Array = np.exp(found.log_d[..., i] - found.log_d[..., j])
    return factor, found.pH, loading


def _strongest(constants: ExchangeSet) -> float:
    """Strongest acid [mol/m3] of a search: half of what the activities reach."""
    return min(constants.activity.limit * constants.activity.water, 2 * _STRONGEST) / 2


def half_extraction(constants: ExchangeSet, extractant: float) -> dict[str, float]:
    """pH (-log10 [H+]) at which D = 1 at trace loading of an acid solvent, by metal.

    In closed form (-(log K + n log d) / z) on the ideal basis with one acid, else by bisection over
    the acidity of hydrochloric acid; NaN where that leaves the range of the activities.

    >>> constants = exchange_set.load("extractants/li1987-pc88a-ideal", ("Nd", "Dy"), Book())
    >>> {m: round(v, 2) for m, v in half_extraction(constants, 1000.0).items()}
    {'Nd': 1.02, 'Dy': 0.1}
    """
    if salting(constants) or correlated(constants):
        raise InputError(
            Problem(message="no acid with constants: pH of half extraction from a curve only")
        )
    names, model = constants.components, constants.model
    if constants.activity.name == "ideal" and isinstance(model, CationExchange):
        dimer = np.log10(extractant / 2 / C_STANDARD)
        pH50 = -(np.asarray(model.log_k) / np.log(10) + model.dimers * dimer) / model.charge
        return dict(zip(names, pH50.tolist(), strict=True))
    size = len(names)
    limit = _strongest(constants)
    low, high = np.full(size, np.log10(_WEAKEST)), np.full(size, np.log10(limit))
    ends = (low.copy(), high.copy())
    for _ in range(64):
        middle = (low + high) / 2
        found = contact(
            model,
            feed_aq=np.eye(size) * _TRACE,
            acid=10**middle,
            dimer=extractant / 2,
            activity=constants.activity,
            components=names,
        )
        taken = np.diagonal(found.log_d) > 0
        low, high = np.where(taken, middle, low), np.where(taken, high, middle)
    acid = (low + high) / 2
    inside = (np.abs(acid - ends[0]) > 1e-6) & (np.abs(acid - ends[1]) > 1e-6)
    values = np.where(inside, np.log10(C_STANDARD) - acid, np.nan)
    return dict(zip(names, values.tolist(), strict=True))


def log_distribution(
    constants: str,
    element: str,
    metal: float,
    acid: float,
    extractant: float,
    book: Book,
    saponification: float = 0.0,
    phase_ratio: float = 1.0,
) -> float:
    """log10 D of one metal in one shake-out, concentrations in mol/L as published.

    >>> round(log_distribution("extractants/li1987-pc88a-ideal", "Nd", 0.05, 0.01, 1.0, Book()), 3)
    -0.02
    """
    loaded = exchange_set.load(
        constants, (element,), book, counter_ion="Na" if saponification else ""
    )
    solvent = Solvent(extractant=extractant * 1000, saponification=saponification)
    found = shake(loaded, {element: metal * 1000}, acid * 1000, solvent, phase_ratio=phase_ratio)
    return float(found.log_d[0] / np.log(10))


def separation(
    constants: str,
    heavy: str,
    light: str,
    book: Book,
    elements: Sequence[str] = (),
    total: float = 0.1,
    acid: float = 0.01,
    extractant: float = 1.0,
) -> float:
    """Separation factor of two metals in an equimolar mixture of ``elements`` (mol/L)."""
    names = tuple(elements) or (light, heavy)
    loaded = exchange_set.load(constants, names, book)
    feed = {name: 1000 * total / len(names) for name in names}
    found = shake(loaded, feed, acid * 1000, Solvent(extractant=extractant * 1000))
    i, j = names.index(heavy), names.index(light)
    return float(np.exp(found.log_d[i] - found.log_d[j]))


def distribution(
    constants: str,
    element: str,
    feed: Mapping[str, float],
    acid: float,
    extractant: float,
    book: Book,
) -> float:
    """D of one element in a shake-out of several, O/A 1, concentrations in mol/L as published.

    >>> three = {"Nd": 0.0104, "Tb": 0.00944, "Dy": 0.00923}
    >>> round(distribution("extractants/pc88a-chloride", "Nd", three, 1e-4, 0.8, Book()), 2)
    1.69
    """
    loaded = exchange_set.load(constants, tuple(feed), book)
    found = shake(
        loaded,
        {name: value * C_STANDARD for name, value in feed.items()},
        acid * C_STANDARD,
        Solvent(extractant=extractant * C_STANDARD),
    )
    return float(found.distribution_ratio[loaded.components.index(element)])


def with_constants(constants: ExchangeSet, log_k: Mapping[str, float]) -> ExchangeSet:
    """The same set with some log10 K replaced (sensitivity studies, a fit's own result)."""
    old = constants.log_k
    by = np.array([np.log(10) * (log_k.get(n, old[n]) - old[n]) for n in constants.components])
    return replace(constants, model=constants.model.shifted(by))


def with_factors(constants: ExchangeSet, factor_set: str, level: str, book: Book) -> ExchangeSet:
    """Rare earths at the separation factors of a set from one of them, the ``level``.

    What mixtures need: ratios of constants of single metals overstate light neighbours.

    >>> plain = exchange_set.load("extractants/li1987-pc88a-ideal", ("Pr", "Nd"), Book())
    >>> mixed = with_factors(plain, "separation_factors/pc88a-hcl", "Nd", Book())
    >>> round(10 ** (mixed.log_k["Nd"] - mixed.log_k["Pr"]), 6)
    1.4
    """
    rare = [name for name in constants.components if name in RARE_EARTHS]
    if level not in rare:
        raise InputError(
            Problem(message="the level is a rare earth of the set", value=level, expected=str(rare))
        )
    values = factors.extractabilities(book, factor_set, rare)
    relative = dict(zip(rare, np.log10(values).tolist(), strict=True))
    base = constants.log_k[level]
    return with_constants(
        constants, {name: base + relative[name] - relative[level] for name in rare}
    )
