"""Extraction constants of a data set, ready to be used: one activity basis, a credible order.

Two things an engineer should not find out from a wrong plant are refused here: constants of two
activity bases in one calculation, and acidic organophosphorus constants that reverse the series
La < Ce < ... < Lu or put Y below Dy (TBP and other neutral extractants have an order of their own).
Iron, aluminium and calcium come from the set a set names as its ``impurities``: estimates, with a
stoichiometry of their own, on the ideal basis only.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel import data
from sepmodel.chemistry import activity as activities
from sepmodel.chemistry.activity import ActivityModel
from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.chemistry.closing import Exchange
from sepmodel.chemistry.complex_exchange import ComplexExchange
from sepmodel.chemistry.correlation import Correlation
from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.species import CHARGES, RARE_EARTHS

Array = NDArray[np.float64]
SOAP = "extractants/soap"
# The set that predicts laboratories and acidities it has not seen best (docs/theory/chemistry.md).
DEFAULT = "extractants/pc88a-chloride"
_SERIES = tuple(e for e in RARE_EARTHS if e not in ("Y", "Sc"))


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ExchangeSet:
    """Constants of the named components on one activity basis; the counter-ion stands last."""

    set_id: str
    components: tuple[str, ...]
    counter_ion: str
    model: Exchange
    activity: ActivityModel

    @property
    def log_k(self) -> dict[str, float]:
        """log10 K of every component; of several complexes the log10 of their sum."""
        if isinstance(self.model, ComplexExchange):
            total = np.logaddexp.reduce(self.model.log_k, axis=-1) + self.model.shift
            values = total / np.log(10)
        elif isinstance(self.model, Correlation):
            raise InputError(Problem(message="a correlation has no constants", value=self.set_id))
        else:
            values = np.asarray(self.model.log_k) / np.log(10)
        return dict(zip(self.components, values.tolist(), strict=True))


def reversals(log_k: Mapping[str, float]) -> list[tuple[str, str]]:
    """Pairs (lighter, heavier) whose constants stand in the wrong order; Y belongs above Dy.

    >>> reversals({"Pr": -2.4, "Nd": -2.6, "Dy": 0.6, "Y": 0.5})
    [('Pr', 'Nd'), ('Dy', 'Y')]
    """
    known = [e for e in _SERIES if e in log_k]
    wrong = [(a, b) for a, b in itertools.combinations(known, 2) if not log_k[a] < log_k[b]]
    if "Y" in log_k and "Dy" in log_k and not log_k["Dy"] < log_k["Y"]:
        wrong.append(("Dy", "Y"))
    return wrong


def require_order(log_k: Mapping[str, float], what: str) -> None:
    """InputError naming every pair of an acidic organophosphorus set that stands reversed."""
    problems = [
        Problem(
            message="an acidic organophosphorus extractant takes the heavier rare earth better",
            key=what,
            value=f"{heavy}/{light} = {10 ** (log_k[heavy] - log_k[light]):.3g}",
            expected=f"a separation factor {heavy}/{light} above 1; for reproducing the set's own "
            'results give purpose = "code regression"',
        )
        for light, heavy in reversals(log_k)
    ]
    if problems:
        raise InputError(problems)


def counter_ions(book: Book) -> tuple[str, ...]:
    """The counter-ions of a soap that have a constant.

    >>> counter_ions(Book())
    ('Na', 'NH4', 'Ca', 'Mg')
    """
    prefix = "log-K-"
    names = (name for name in book.names(SOAP) if name.startswith(prefix))
    return tuple(name.removeprefix(prefix) for name in names)


def soap_keys(counter_ion: str, book: Book, activity: str = "ideal") -> tuple[str, str]:
    """Keys of a soap's log10 K and dimers on an activity basis; InputError where there are none.

    >>> soap_keys("Na", Book(), "pitzer")[0]
    'extractants/soap-pitzer:log-K-Na'
    """
    known = counter_ions(book)
    set_id = SOAP if activity == "ideal" else f"{SOAP}-{activity}"
    if counter_ion not in known:
        raise InputError(
            Problem(
                message="no exchange constant of this counter-ion",
                value=counter_ion,
                expected=f"one of {', '.join(known)}",
            )
        )
    if set_id not in data.set_ids() or f"{set_id}:log-K-{counter_ion}" not in book:
        raise InputError(
            Problem(
                message=f"no exchange constant of this counter-ion with {activity} activities",
                value=counter_ion,
                expected="constants of one basis: ideal activities, or no soap",
            )
        )
    return f"{set_id}:log-K-{counter_ion}", f"{set_id}:dimers-{counter_ion}"


def soap(counter_ion: str, book: Book, activity: str = "ideal") -> tuple[float, float]:
    """log10 K of a soap's counter-ion and the dimers it takes; InputError where unknown.

    >>> soap("Na", Book())
    (-5.0, 1.0)
    """
    constant, dimers = soap_keys(counter_ion, book, activity)
    return book[constant], book[dimers]


def constants_of(
    set_id: str, names: Sequence[str], book: Book
) -> tuple[dict[str, float], dict[str, float]]:
    """log10 K and dimers of the named metals of a set, impurities from the set it names for them.

    ``dimers-<metal>`` replaces the usual n = z. InputError naming every metal without a constant,
    and for impurities beside constants of another basis than ideal.

    >>> log_k, dimers = constants_of("extractants/li1987-pc88a-ideal", ("Nd", "Fe"), Book())
    >>> log_k["Nd"], dimers["Nd"], dimers["Fe"]
    (-2.148, 3.0, 2.5)
    """
    meta = data.set_meta(set_id)
    other = str(meta.get("impurities", ""))
    log_k: dict[str, float] = {}
    dimers: dict[str, float] = {}
    missing: list[str] = []
    basis: list[str] = []
    for name in names:
        key = set_id
        if f"{set_id}:{name}" not in book and other and f"{other}:{name}" in book:
            key = other
            if meta.get("activity") != data.set_meta(other).get("activity"):
                basis.append(name)
                continue
        if f"{key}:{name}" not in book:
            missing.append(name)
            continue
        log_k[name] = book[f"{key}:{name}"]
        dimers[name] = book.get(f"{key}:dimers-{name}", float(CHARGES[name]))
    problems = []
    if missing:
        offered = [n for n in book.names(set_id) if n in CHARGES]
        offered += [n for n in book.names(other) if n in CHARGES] if other else []
        problems.append(
            Problem(
                message=f"{set_id} has no constant of",
                value=", ".join(missing),
                expected=", ".join(offered),
            )
        )
    if basis:
        problems.append(
            Problem(
                message=f"the constants of impurities ({other}) are of another activity basis",
                value=", ".join(basis),
                expected="a set on the ideal basis, such as extractants/li1987-pc88a-ideal",
            )
        )
    if problems:
        raise InputError(problems)
    return log_k, dimers


def load(
    set_id: str,
    components: Sequence[str],
    book: Book,
    *,
    counter_ion: str = "",
    purpose: str = "design",
) -> ExchangeSet:
    """The constants of ``components`` from a set, with a soap's counter-ion where one is named.

    Sets name their activity basis (``activity``) and kind; ``dimers-<metal>`` in a set replaces the
    usual n = z. Raises InputError for a set of another kind, a missing constant, a reversed order
    unless ``purpose`` is "code regression".

    >>> s = load("extractants/li1987-pc88a-ideal", ("Pr", "Nd"), Book(), counter_ion="Na")
    >>> s.components, round(s.log_k["Nd"], 3)
    (('Pr', 'Nd', 'Na'), -2.148)
    """
    meta = data.set_meta(set_id)
    if meta.get("kind") != "extraction constants" or not meta.get("activity"):
        raise InputError(
            Problem(
                message="not a set of extraction constants with a stated activity basis",
                value=set_id,
                expected='kind = "extraction constants" and activity = "ideal" | "pitzer" | "sit"',
            )
        )
    if meta.get("salting"):
        raise InputError(
            Problem(
                message="a neutral extractant takes the anions along",
                value=set_id,
                expected="neutral_set.load",
            )
        )
    metals = tuple(components)
    basis = str(meta["activity"])
    log_k, bound = constants_of(set_id, metals, book)
    acidic = meta.get("family", "acidic organophosphorus") == "acidic organophosphorus"
    if acidic and purpose != "code regression":
        require_order(log_k, set_id)
    names = metals
    if counter_ion:
        names = (*metals, counter_ion)
        log_k[counter_ion], bound[counter_ion] = soap(counter_ion, book, basis)
    return ExchangeSet(
        set_id=set_id,
        components=names,
        counter_ion=counter_ion,
        model=CationExchange(
            log_k=np.log(10) * np.array([log_k[n] for n in names]),
            charge=np.array([CHARGES[n] for n in names], dtype=float),
            dimers=np.array([bound[n] for n in names]),
        ),
        activity=activities.build(basis, ("H", *names, "Cl"), book),
    )


def temperature_shift(constants: ExchangeSet, temperature: float, book: Book) -> Array:
    """What a temperature [K] adds to ln K of every component, -dH/R (1/T - 1/T0), shape (C,).

    Only where an enthalpy was measured (``enthalpy-<metal>`` and ``temperature`` of the set):
    InputError names the components that have none. The sign is contested between publications for
    the acidic extractants, so their sets hold none.

    >>> from sepmodel.chemistry import neutral_set
    >>> tbp = neutral_set.load("extractants/kraikaew2005-tbp", ("Sm",), Book())
    >>> float(temperature_shift(tbp, 318.0, Book())[0].round(2))
    -1.1
    """
    set_id = constants.set_id
    missing = [n for n in constants.components if f"{set_id}:enthalpy-{n}" not in book]
    if missing or f"{set_id}:temperature" not in book:
        raise InputError(
            Problem(
                message="no enthalpy of extraction was measured: the constants hold at their own "
                "temperature only",
                key="temperature",
                value=", ".join(missing) or set_id,
                expected=f"an enthalpy-<metal> in {set_id}, or the temperature of the set",
            )
        )
    enthalpy = np.array([book[f"{set_id}:enthalpy-{n}"] for n in constants.components])
    inverse = 1 / temperature - 1 / book[f"{set_id}:temperature"]
    shift: Array = -enthalpy / book["physics:gas_constant"] * inverse
    return shift
