"""Isotherms an engineer draws before any cascade: distribution, loading, pH, titration, steps.

Every function takes an ``ExchangeSet`` and bulk conditions and returns arrays (strict SI); they are
sequences of single contacts, so every point closes its balances and pH is an answer throughout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel.chemistry import exchange_set
from sepmodel.chemistry.contact import Contact, contact
from sepmodel.chemistry.exchange_set import ExchangeSet
from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.result import Warned

Array = NDArray[np.float64]
_LIMITS = "extractants/pc88a"


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Solvent:
    """An organic: formal extractant [mol/m3] and mol counter-ion charge per mol extractant."""

    extractant: float
    saponification: float = 0.0

    @property
    def dimer(self) -> float:
        """Total dimer [mol/m3]."""
        return self.extractant / 2


def shake(
    constants: ExchangeSet,
    feed: Mapping[str, ArrayLike],
    acid: ArrayLike,
    solvent: Solvent,
    *,
    phase_ratio: ArrayLike = 1.0,
) -> Contact:
    """Shake aqueous feeds with a fresh, possibly saponified solvent.

    ``feed`` [mol/m3] by metal and ``acid`` [mol/m3] broadcast against each other. InputError where
    the soap needs more dimer than there is (its stoichiometry is data).

    >>> constants = exchange_set.load("extractants/li1987-pc88a-ideal", ("Nd",), Book())
    >>> round(float(shake(constants, {"Nd": 100.0}, 10.0, Solvent(extractant=1000.0)).pH), 2)
    0.99
    """
    names = constants.components
    unknown = [name for name in feed if name not in names]
    if unknown:
        raise InputError(
            Problem(message="no constant loaded for", value=", ".join(unknown), expected=str(names))
        )
    columns = np.broadcast_arrays(*[np.asarray(feed.get(n, 0.0), dtype=float) for n in names])
    organic = np.zeros(len(names))
    if solvent.saponification:
        if not constants.counter_ion:
            raise InputError(
                Problem(message="a saponified solvent needs a counter-ion in its constants")
            )
        charge = constants.model.charge[-1]
        organic[-1] = solvent.saponification * solvent.extractant / charge
        need = organic[-1] * constants.model.dimers[-1] / solvent.dimer
        if need > 1:
            most = charge / (2 * constants.model.dimers[-1])
            raise InputError(
                Problem(
                    message="saponified beyond the soap's stoichiometry",
                    value=solvent.saponification,
                    expected=f"at most {most:.3g} mol/mol with "
                    f"{constants.model.dimers[-1]:g} dimers per {constants.counter_ion}",
                )
            )
    return contact(
        constants.model,
        feed_aq=np.stack(columns, axis=-1),
        acid=acid,
        dimer=solvent.dimer,
        feed_org=organic,
        phase_ratio=phase_ratio,
        activity=constants.activity,
        components=names,
    )


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Isotherm:
    """Equilibrium points along a curve; arrays of shape (N,) or (N, C)."""

    components: tuple[str, ...]
    conc_aq: Array
    conc_org: Array
    pH: Array
    loading: Array
    log_d: Array

    def separation_factor(self, heavy: str, light: str) -> Array:
        """D_heavy / D_light along the curve."""
        i, j = self.components.index(heavy), self.components.index(light)
        factor: Array = np.exp((self.log_d[:, i] - self.log_d[:, j]) * np.log(10))
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
    count = len(constants.components) - bool(constants.counter_ion)
    loading = found.conc_org[..., :count].sum(axis=-1) / solvent.extractant
    return Isotherm(
        components=constants.components,
        conc_aq=found.conc_aq,
        conc_org=found.conc_org,
        pH=found.pH,
        loading=loading,
        log_d=found.log_d / np.log(10),
    )


def loading_isotherm(
    constants: ExchangeSet,
    shares: Mapping[str, float],
    totals: ArrayLike,
    acid: float,
    solvent: Solvent,
    *,
    phase_ratio: float = 1.0,
) -> Isotherm:
    """Organic against aqueous concentration as the feed's total [mol/m3] rises at fixed shares."""
    totals = np.asarray(totals, dtype=float)
    whole = sum(shares.values())
    feed = {name: totals * share / whole for name, share in shares.items()}
    found = shake(constants, feed, acid, solvent, phase_ratio=phase_ratio)
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
    count = len(constants.components) - bool(constants.counter_ion)
    loading = found.conc_org[..., :count].sum(axis=-1) / solvent.extractant
    i, j = constants.components.index(heavy), constants.components.index(light)
    factor: Array = np.exp(found.log_d[..., i] - found.log_d[..., j])
    return factor, found.pH, loading


def half_extraction(constants: ExchangeSet, extractant: float) -> dict[str, float]:
    """pH of D = 1 at trace loading of an acid solvent, by metal: -(log K + n log d) / z.

    Ideal activities only; a set of another basis answers by ``pH_curve``.

    >>> constants = exchange_set.load("extractants/li1987-pc88a-ideal", ("Nd", "Dy"), Book())
    >>> {m: round(v, 2) for m, v in half_extraction(constants, 1000.0).items()}
    {'Nd': 1.02, 'Dy': 0.1}
    """
    if constants.activity.name != "ideal":
        raise InputError(
            Problem(message="pH50 in closed form needs ideal activities", value=constants.set_id)
        )
    dimer = np.log10(extractant / 2 / 1000)
    m = constants.model
    pH50 = -(np.asarray(m.log_k) / np.log(10) + m.dimers * dimer) / m.charge
    return dict(zip(constants.components, pH50.tolist(), strict=True))


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Titration:
    """Base taken up by a solvent: soap formed and pH of the water, point by point."""

    base: Array
    saponification: Array
    pH: Array


def titration(
    constants: ExchangeSet, extractant: float, base: ArrayLike, *, salt: float
) -> Titration:
    """Base-titration curve of a solvent, O/A 1: the measurement that would fix the soap's constant.

    ``base`` [mol/m3] of hydroxide of the counter-ion, below the extractant's total acid; ``salt``
    [mol/m3 of charge] of its chloride in the water, above zero.

    >>> constants = exchange_set.load(
    ...     "extractants/li1987-pc88a-ideal", ("Nd",), Book(), counter_ion="Na"
    ... )
    >>> curve = titration(constants, 1000.0, [100.0, 200.0, 400.0], salt=100.0)
    >>> bool(np.all(np.diff(curve.pH) > 0)), round(float(curve.saponification[-1]), 2)
    (True, 0.4)
    """
    base = np.asarray(base, dtype=float)
    if not salt > 0:
        raise InputError(Problem(message="the water of a titration holds salt", value=salt))
    charge = constants.model.charge[-1]
    feed = np.zeros((*base.shape, len(constants.components)))
    feed[..., -1] = (base + salt) / charge
    found = contact(
        constants.model,
        feed_aq=feed,
        acid=-base,
        dimer=extractant / 2,
        activity=constants.activity,
        components=constants.components,
    )
    return Titration(
        base=base,
        saponification=found.conc_org[..., -1] * charge / extractant,
        pH=found.pH,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Steps:
    """A McCabe-Thiele construction: stages and the concentrations between them [mol/m3].

    ``aqueous`` and ``organic`` begin at the feed end: the feed and the loaded organic.
    """

    stages: int
    aqueous: tuple[float, ...]
    organic: tuple[float, ...]


def steps(
    constants: ExchangeSet,
    metal: str,
    feed: float,
    acid: float,
    solvent: Solvent,
    *,
    raffinate: float,
    phase_ratio: float,
    most: int = 100,
) -> Steps:
    """Stages to bring one metal from ``feed`` to ``raffinate`` [mol/m3], stepped off its isotherm.

    Single solute, acid solvent, ideal activities; the protons each stage releases are carried on
    by charge balance, so the isotherm of every step is that of its own acidity. Competition between
    metals is a cascade's business. InputError at a pinch.
    """
    at = constants.components.index(metal)
    if not 0 < raffinate < feed:
        raise InputError(
            Problem(message="the raffinate lies between zero and the feed", value=raffinate)
        )
    if constants.activity.name != "ideal" or solvent.saponification:
        raise InputError(
            Problem(
                message="steps are drawn for an acid solvent on the ideal basis",
                expected="a cascade case for soap or other activities",
            )
        )
    z, n = float(constants.model.charge[at]), float(constants.model.dimers[at])
    log_k = float(np.asarray(constants.model.log_k)[at])
    x, y, h = feed, (feed - raffinate) / phase_ratio, acid
    aqueous, organic = [x], [y]
    for stage in range(1, most + 1):
        free = solvent.dimer - n * y
        left = _partner(log_k, z, n, y, free, x, h) if free > 0 else float("nan")
        if not left <= x:
            raise InputError(
                Problem(
                    message="the operating line meets the isotherm: a pinch",
                    value=f"stage {stage} from the feed",
                    expected="more solvent, a less acid feed or a richer raffinate",
                )
            )
        h, y, x = h + z * (x - left), max(y - (x - left) / phase_ratio, 0.0), left
        aqueous.append(x)
        organic.append(y)
        if x <= raffinate or y == 0:
            return Steps(stages=stage, aqueous=tuple(aqueous), organic=tuple(organic))
    raise InputError(
        Problem(message="more stages than allowed", value=most, expected="a pinch is near")
    )


def _partner(
    log_k: float, z: float, n: float, y: float, free: float, entering: float, h: float
) -> float:
    """Aqueous concentration in equilibrium with organic y, the acid being what it then is."""

    def gap(x: float) -> float:
        acid = (h + z * (entering - x)) / 1000
        return float(np.exp(log_k + n * np.log(free / 1000) - z * np.log(acid)) * x - y)

    low, high = 0.0, entering
    if gap(high) < 0:
        return float("nan")
    while high - low > 1e-12 * entering:
        middle = (low + high) / 2
        low, high = (middle, high) if gap(middle) < 0 else (low, middle)
    return (low + high) / 2


def state_warnings(
    curve: Isotherm, solvent: Solvent, book: Book, *, phase_ratio: float = 1.0
) -> list[Warned]:
    """Named warnings: loading near its limit (gel, third phase), odd phase ratio, water pH."""
    found = []
    limit, seen = book[f"{_LIMITS}:loading_limit"], book[f"{_LIMITS}:loading_highest_seen"]
    highest = float(curve.loading.max())
    if highest > seen:
        found.append(
            Warned(
                code="loading",
                message=f"loading {highest:.3f} mol/mol is above the highest measured "
                f"({seen:.3f}); polymers, gel or a third phase may form on the way to {limit:.3f}",
            )
        )
    low = book["extractants/circuit-defaults:phase_ratio_low"]
    high = book["extractants/circuit-defaults:phase_ratio_high"]
    if not low <= phase_ratio <= high:
        found.append(
            Warned(
                code="phase-ratio", message=f"O/A {phase_ratio:g} is outside {low:g} to {high:g}"
            )
        )
    return found


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


def with_constants(constants: ExchangeSet, log_k: Mapping[str, float]) -> ExchangeSet:
    """The same set with some log10 K replaced (sensitivity studies, a fit's own result)."""
    values = {**constants.log_k, **log_k}
    fresh = np.log(10) * np.array([values[n] for n in constants.components])
    return replace(constants, model=replace(constants.model, log_k=fresh))
