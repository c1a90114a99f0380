"""A route as a flowsheet: unit operations, the streams between them, every balance closed.

Units are evaluated in the order of their links (there are no liquor recycles at this level; the
reagents a unit regenerates inside itself are part of its own balance). What leaves the last units
leaves the plant. Free acid is not a component: it is what electroneutrality leaves over.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from sepmodel.balance import molar_closure, require
from sepmodel.data import Book, Constant
from sepmodel.errors import ConvergenceError, InfeasibleError, InputError, Problem
from sepmodel.plant.engine_check import Check
from sepmodel.products import Product
from sepmodel.species import CHARGES, RARE_EARTHS, molar_mass
from sepmodel.stream import Stream, mix

FEED = "feed"
CLOSURE_LIMIT = 1e-9
# Charge of the dissolved species that are no simple ions: what the free acid is reckoned from.
LIGAND_CHARGES = {
    "C2O4": -2,
    "CO3": -2,
    "EDTA": -4,
    "DTPA": -5,
    "citrate": -3,
    "malonate": -2,
    "acetate": -1,
}
# What one mole of a bought reagent brings into the liquor, and the substance its kilograms mean.
# Hydrogen, hydroxide, water and carbonate that leaves as carbon dioxide are not followed.
REAGENT_IONS: Mapping[str, tuple[str, Mapping[str, float]]] = MappingProxyType(
    {
        "HCl": ("HCl", {"Cl": 1}),
        "NaOH": ("NaOH", {"Na": 1}),
        "NH3": ("NH3", {"NH4": 1}),
        "NH4HCO3": ("NH4HCO3", {"NH4": 1}),
        "Na2CO3": ("Na2CO3", {"Na": 2}),
        "CaO": ("CaO", {"Ca": 1}),
        "MgO": ("MgO", {"Mg": 1}),
        "H2SO4": ("H2SO4", {"SO4": 1}),
        "NaCl": ("NaCl", {"Na": 1, "Cl": 1}),
        "NH4Cl": ("NH4Cl", {"NH4": 1, "Cl": 1}),
        "ammonium_sulfate": ("(NH4)2SO4", {"NH4": 2, "SO4": 1}),
        "oxalic_acid": ("C2H6O6", {"C2O4": 1}),
        "EDTA": ("C10H16N2O8", {"EDTA": 1}),
        "DTPA": ("C14H23N3O10", {"DTPA": 1}),
        "citric_acid": ("C6H8O7", {"citrate": 1}),
        "malonic_acid": ("C3H4O4", {"malonate": 1}),
        "acetic_acid": ("C2H4O2", {"acetate": 1}),
        "CuSO4": ("CuSO4", {"Cu": 1, "SO4": 1}),
        "CuCl2": ("CuCl2", {"Cu": 1, "Cl": 2}),
    }
)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class UnitResult:
    """What a unit operation gives back, for one train, per second.

    Parameters
    ----------
    outlets
        stream of each port.
    duties
        what is bought, used or discharged [SI per second], by the keys of the price and
        emission sets (``HCl`` kg/s of the pure substance, ``power`` W, ``water`` m3/s ...).
    equipment
        sized items, as ``sepmodel.plant.equipment`` makes them.
    facts
        name -> (SI value, unit to show it in): stages, volumes, concentrations, limits.
    shares
        product -> share of this unit's burden by what causes it (separation duty); empty: by mass.
    circuits
        the solved extraction circuits, as ``sepmodel.plant.circuits`` gives them.
    checks
        what of this unit the transport engine can be asked.
    released
        mol/s of followed species that leave as gas (oxalate burnt to carbon dioxide).
    design
        what was designed, where a plant of the same build may be asked for again.
    sections
        how many process sections of each kind it is to those who run it, for labour: ``fluids``,
        ``solids-fluids``, ``cyclic`` (``sepmodel.plant.economics.SECTIONS``).
    """

    outlets: Mapping[str, Stream]
    duties: Mapping[str, float] = field(default_factory=dict)
    equipment: tuple[Any, ...] = ()
    facts: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    released: Mapping[str, float] = field(default_factory=dict)
    circuits: tuple[Any, ...] = ()
    checks: tuple[Check, ...] = ()
    sections: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[Mapping[str, str], ...] = ()
    design: Any = None


class WaitingError(Exception):
    """A unit whose answer is found together with others: ``unit`` and what it ``asks``."""

    def __init__(self, unit: str, asks: Any) -> None:
        super().__init__(unit)
        self.unit, self.asks = unit, asks


class Trims(Protocol):
    """Units of a plant that is built already, at other constants: what is fixed, what is found."""

    def built(self, unit: str) -> Any:
        """What was designed for a unit when it was built."""
        ...

    def found(self, unit: str, asks: Any) -> Any:
        """The answer of a unit to what it asks, or WaitingError until it is there."""
        ...


@dataclass(eq=False, slots=True)
class Memo:
    """Designs that take time, kept by what was asked and by the constants they read.

    A computation that reads only its arguments and a book gives the same answer for the same
    question while none of the constants it read has another value. Failures are kept as well.
    """

    _kept: dict[Hashable, list[tuple[dict[str, float], Mapping[str, Constant], Any]]] = field(
        default_factory=dict
    )

    def __call__(self, asked: Hashable, book: Book, compute: Callable[[Book], Any]) -> Any:
        """``compute(book)``, or its former answer to ``asked`` at the same constants."""
        kept = self._kept.setdefault(asked, [])
        for values, used, former in kept:
            if values == _overridden(used, book):
                book.used.update(used)
                answer = former
                break
        else:
            own = replace(book, used={})
            try:
                answer = compute(own)
            except (InfeasibleError, ConvergenceError) as error:
                answer = error
            kept.append((_overridden(own.used, book), own.used, answer))
            book.used.update(own.used)
        if isinstance(answer, Exception):
            raise answer
        return answer


def _overridden(used: Mapping[str, Constant], book: Book) -> dict[str, float]:
    return {key: value for key, value in book.overrides.items() if key in used}


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Context:
    """What every unit of a plant knows beside its inlets.

    ``products`` are the specifications, ``feed`` the rare earths [mol/s] that enter one train,
    ``effluent`` the limit ("discharge" or "zero-liquid"), ``memo`` where designs are kept. With
    ``trims`` the plant is built: stages and columns in series stand, flows and sizes are found.
    """

    products: tuple[Product, ...]
    feed: Mapping[str, float]
    effluent: str
    memo: Memo = field(default_factory=Memo)
    trims: Trims | None = None


# inlets by port, the unit's parameters, the context, the constants -> result
Operation = Callable[[Mapping[str, Stream], Any, Context, Book], UnitResult]


@dataclass(frozen=True, kw_only=True, slots=True)
class Link:
    """``source`` and ``target`` as (unit, port); the port ``*`` means every product's port."""

    source: tuple[str, str]
    target: tuple[str, str]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Unit:
    """One unit of a flowsheet: ``operate`` is called with ``parameters``."""

    id: str
    operate: Operation
    parameters: Any = None


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Evaluated:
    """A unit with what went in, what came out and which constants it read."""

    inlets: Mapping[str, Stream]
    result: UnitResult
    used: Mapping[str, Constant]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Flowsheet:
    """An evaluated plant: its units in order, what leaves it, and how each balance closes."""

    units: Mapping[str, Evaluated]
    leaving: Mapping[str, Stream]
    closure: Mapping[str, float]
    context: Context

    @property
    def used(self) -> dict[str, Constant]:
        """The constants all units read."""
        merged: dict[str, Constant] = {}
        for unit in self.units.values():
            merged.update(unit.used)
        return merged

    @property
    def duties(self) -> dict[str, float]:
        """The duties of all units together [SI per second]."""
        total: dict[str, float] = {}
        for unit in self.units.values():
            for key, amount in unit.result.duties.items():
                total[key] = total.get(key, 0.0) + amount
        return total

    @property
    def warnings(self) -> tuple[Mapping[str, str], ...]:
        """The warnings of all units, each with the unit it comes from."""
        return tuple(
            {**warning, "where": " ".join(filter(None, (name, warning.get("where", ""))))}
            for name, unit in self.units.items()
            for warning in unit.result.warnings
        )


def reagent_ions(duties: Mapping[str, float]) -> dict[str, float]:
    """Moles per second of each followed species that the reagents bring.

    >>> round(reagent_ions({"NaOH": 0.039997, "power": 5.0})["Na"], 4)
    1.0
    """
    brought: dict[str, float] = {}
    for key, amount in duties.items():
        if key in REAGENT_IONS:
            formula, ions = REAGENT_IONS[key]
            for name, count in ions.items():
                brought[name] = brought.get(name, 0.0) + amount / molar_mass(formula) * count
    return brought


def reagent_mass(key: str, moles: float) -> float:
    """Kilograms of a bought reagent from its moles.

    >>> round(reagent_mass("HCl", 1000.0), 2)
    36.46
    """
    return moles * molar_mass(REAGENT_IONS[key][0])


def free_acid(stream: Stream) -> float:
    """Free acid [mol/s] of a liquor: anions less cations; negative when it is alkaline.

    >>> s = Stream(names=("Nd", "Cl"), flow=1.0, moles=np.array([1.0, 3.5]))
    >>> free_acid(s)
    0.5
    """
    charges = [
        LIGAND_CHARGES.get(n, 0 if n in ("H", "OH") else CHARGES.get(n, 0)) for n in stream.names
    ]
    return -float(np.dot(stream.moles, charges))


def rare_earths(stream: Stream) -> dict[str, float]:
    """Molar flows [mol/s] of the rare earths of a stream that are not zero."""
    return {n: stream[n] for n in stream.names if n in RARE_EARTHS and stream[n] > 0}


@lru_cache(maxsize=512)
def _place(name: str) -> tuple[int, str]:
    """Where a component stands in the canonical order."""
    return RARE_EARTHS.index(name) if name in RARE_EARTHS else len(RARE_EARTHS), name


def liquor(moles: Mapping[str, float], flow: float, phase: str = "aqueous") -> Stream:
    """A stream from molar flows [mol/s] in the canonical order of components.

    Negative rounding residues (below 1e-9 of the largest flow) become zero.
    """
    names = tuple(sorted(moles, key=_place))
    values = np.array([moles[n] for n in names], dtype=float)
    if len(values):
        values[(values < 0) & (values > -CLOSURE_LIMIT * np.abs(values).max())] = 0.0
    return Stream(names=names, moles=values, flow=flow, phase=phase)


def order(units: Sequence[Unit], links: Sequence[Link]) -> tuple[str, ...]:
    """Unit ids so that each comes after all that feed it; ties in alphabetical order.

    Raises
    ------
    InputError
        when liquor would run in a circle, naming the units of the circle.
    """
    before: dict[str, set[str]] = {u.id: set() for u in units}
    for link in links:
        if link.source[0] != FEED:
            before[link.target[0]].add(link.source[0])
    done: list[str] = []
    while before:
        ready = sorted(name for name, needs in before.items() if needs <= set(done))
        if not ready:
            raise InputError(
                Problem(
                    message="the links run in a circle",
                    key="link",
                    value=", ".join(sorted(before)),
                    expected="units that can be put in an order; recycles belong inside a unit",
                )
            )
        done.append(ready[0])
        del before[ready[0]]
    return tuple(done)


def evaluate(
    units: Sequence[Unit],
    links: Sequence[Link],
    feed: Stream,
    context: Context,
    book: Book,
    *,
    base: Flowsheet | None = None,
    changed: frozenset[str] = frozenset(),
    done: dict[str, Evaluated] | None = None,
) -> Flowsheet:
    """Evaluate every unit once, in order, and close every balance over the plant.

    With ``base`` (the same plant at other constants) only the units are evaluated anew that read
    one of the ``changed`` keys or whose inlets differ: the others cannot give another answer.
    ``done`` keeps the units of an evaluation that is taken up again after a WaitingError.

    Raises
    ------
    InputError
        a link to a port that a unit does not have.
    ConvergenceError
        a component whose balance over the plant is open by more than 1e-9.
    """
    by_id = {u.id: u for u in units}
    unchanged = base is not None and _same_context(base.context, context)
    evaluated: dict[str, Evaluated] = {}
    waiting: dict[tuple[str, str], Stream] = {(FEED, "liquor"): feed}
    for name in order(units, links):
        inlets = _inlets(name, links, waiting, {p.name for p in context.products})
        former = base.units[name] if unchanged and base is not None else None
        if done is not None and name in done:
            evaluated[name] = done[name]
        elif (
            former is not None
            and not changed & former.used.keys()
            and _same_streams(former.inlets, inlets)
        ):
            evaluated[name] = former
        else:
            own = replace(book, used={})
            try:
                result = by_id[name].operate(inlets, by_id[name].parameters, context, own)
            except InputError as error:
                raise error.inside(f"unit {name}") from error
            evaluated[name] = Evaluated(inlets=inlets, result=result, used=own.used)
            if done is not None:
                done[name] = evaluated[name]
        for port, stream in evaluated[name].result.outlets.items():
            waiting[name, port] = stream
    leaving = {f"{unit}.{port}": stream for (unit, port), stream in waiting.items()}
    closure = _closure(feed, evaluated, leaving)
    require(closure, CLOSURE_LIMIT, "the plant")
    return Flowsheet(units=evaluated, leaving=leaving, closure=closure, context=context)


def _inlets(
    name: str,
    links: Sequence[Link],
    waiting: dict[tuple[str, str], Stream],
    products: set[str],
) -> dict[str, Stream]:
    """The streams linked to a unit, by port, taken out of ``waiting``; several are mixed."""
    found: dict[str, list[Stream]] = {}
    for link in sorted(links, key=lambda k: (k.source, k.target)):
        if link.target[0] != name:
            continue
        unit, port = link.source
        there = sorted(p for u, p in waiting if u == unit)
        ports = [p for p in there if p in products] if port == "*" else [port]
        if port != "*" and port not in there:
            raise InputError(
                Problem(
                    message="no such outlet, or it is linked twice",
                    key="link",
                    value=f"{unit}.{port}",
                    expected=f"one of {', '.join(there)}" if there else "an outlet of that unit",
                )
            )
        for each in ports:
            target = each if link.target[1] == "*" else link.target[1]
            found.setdefault(target, []).append(waiting.pop((unit, each)))
    return {port: s[0] if len(s) == 1 else mix(s) for port, s in sorted(found.items())}


def _closure(
    feed: Stream, units: Mapping[str, Evaluated], leaving: Mapping[str, Stream]
) -> dict[str, float]:
    """Relative closure of every followed species over the plant, reagents included."""
    entering: list[dict[str, float]] = [_followed(feed)]
    outgoing: list[dict[str, float]] = [_followed(stream) for stream in leaving.values()]
    for unit in units.values():
        entering.append(reagent_ions(unit.result.duties))
        outgoing.append(dict(unit.result.released))
    return molar_closure(entering, outgoing)


def _followed(stream: Stream) -> dict[str, float]:
    return {n: float(m) for n, m in zip(stream.names, stream.moles, strict=True) if n != "H"}


def _same_context(one: Context, other: Context) -> bool:
    return one is other or (
        one.products == other.products
        and dict(one.feed) == dict(other.feed)
        and one.effluent == other.effluent
    )


def _same_streams(one: Mapping[str, Stream], other: Mapping[str, Stream]) -> bool:
    return one.keys() == other.keys() and all(
        a is b or (a.names == b.names and a.flow == b.flow and np.array_equal(a.moles, b.moles))
        for a, b in ((one[port], other[port]) for port in one)
    )
