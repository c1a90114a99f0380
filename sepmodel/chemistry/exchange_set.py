"""Extraction constants of a data set, ready to be used: one activity basis, a credible order.

Two things an engineer should not find out from a wrong plant are refused here: constants of two
activity bases in one calculation, and acidic organophosphorus constants that reverse the series
La < Ce < ... < Lu or put Y below Dy (TBP and other neutral extractants have an order of their own).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sepmodel import data
from sepmodel.chemistry import activity as activities
from sepmodel.chemistry.activity import ActivityModel
from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.species import CHARGES, RARE_EARTHS

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
    model: CationExchange
    activity: ActivityModel

    @property
    def log_k(self) -> dict[str, float]:
        """log10 K of every component."""
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


def soap(counter_ion: str, book: Book) -> tuple[float, float]:
    """log10 K of a soap's counter-ion and the dimers it takes; InputError where unknown.

    >>> soap("Na", Book())
    (-5.0, 1.0)
    """
    known = counter_ions(book)
    if counter_ion not in known:
        raise InputError(
            Problem(
                message="no exchange constant of this counter-ion",
                value=counter_ion,
                expected=f"one of {', '.join(known)}",
            )
        )
    return book[f"{SOAP}:log-K-{counter_ion}"], book[f"{SOAP}:dimers-{counter_ion}"]


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
    metals = tuple(components)
    missing = [m for m in metals if f"{set_id}:{m}" not in book]
    if missing:
        raise InputError(
            Problem(
                message=f"{set_id} has no constant of",
                value=", ".join(missing),
                expected=", ".join(n for n in book.names(set_id) if n in CHARGES),
            )
        )
    log_k = {m: book[f"{set_id}:{m}"] for m in metals}
    acidic = meta.get("family", "acidic organophosphorus") == "acidic organophosphorus"
    if acidic and purpose != "code regression":
        require_order(log_k, set_id)
    dimers = [book.get(f"{set_id}:dimers-{m}", float(CHARGES[m])) for m in metals]
    names = metals
    if counter_ion:
        names = (*metals, counter_ion)
        log_k[counter_ion], bound = soap(counter_ion, book)
        dimers.append(bound)
    return ExchangeSet(
        set_id=set_id,
        components=names,
        counter_ion=counter_ion,
        model=CationExchange(
            log_k=np.log(10) * np.array([log_k[n] for n in names]),
            charge=np.array([CHARGES[n] for n in names], dtype=float),
            dimers=np.array(dimers),
        ),
        activity=activities.build(str(meta["activity"]), ("H", *names, "Cl"), book),
    )
