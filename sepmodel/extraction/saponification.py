"""Soap: the base-titration curve of a solvent, and what its unmeasured constant does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel.chemistry import exchange_set
from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.chemistry.contact import contact
from sepmodel.chemistry.exchange_set import ExchangeSet
from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.extraction.shake import Solvent, shake

Array = NDArray[np.float64]


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

    >>> from sepmodel.chemistry import exchange_set
    >>> constants = exchange_set.load(
    ...     "extractants/li1987-pc88a-ideal", ("Nd",), Book(), counter_ion="Na"
    ... )
    >>> curve = titration(constants, 1000.0, [100.0, 200.0, 400.0], salt=100.0)
    >>> bool(np.all(np.diff(curve.pH) > 0)), round(float(curve.saponification[-1]), 2)
    (True, 0.4)
    """
    base = np.asarray(base, dtype=float)
    if not constants.counter_ion:
        raise InputError(Problem(message="a titration needs the counter-ion of the base"))
    if not salt > 0:
        raise InputError(Problem(message="the water of a titration holds salt", value=salt))
    charge = constants.model.charge[-1]
    most = charge / constants.model.dimers[-1] * extractant / 2
    if not (np.all(base >= 0) and np.all(base < most)):
        raise InputError(
            Problem(
                message="base beyond what the soap's stoichiometry takes up",
                value=float(base.max()),
                expected=f"0 to less than {most:.4g} mol/m3",
            )
        )
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
class SoapCase:
    """What a saponified contact gives with one choice of the soap's unmeasured numbers."""

    log_k: float
    dimers: float
    pH: float
    extracted: Mapping[str, float]


def soap_sensitivity(
    constants: ExchangeSet,
    feed: Mapping[str, float],
    acid: float,
    solvent: Solvent,
    book: Book,
    *,
    phase_ratio: float = 1.0,
) -> list[SoapCase]:
    """The same contact over the range of the soap's log10 K and of its stoichiometry.

    No soap constant was measured, so an answer that moves with it is not known. Choices the
    solvent's saponification does not allow are left out.

    >>> from sepmodel.chemistry import exchange_set
    >>> book = Book()
    >>> constants = exchange_set.load(
    ...     "extractants/li1987-pc88a-ideal", ("Nd",), book, counter_ion="Na"
    ... )
    >>> solvent = Solvent(extractant=1000.0, saponification=0.35)
    >>> cases = soap_sensitivity(constants, {"Nd": 150.0}, 10.0, solvent, book)
    >>> len(cases), {round(case.extracted["Nd"], 2) for case in cases}
    (6, {0.79})
    """
    ion, model = constants.counter_ion, constants.model
    if not ion or not isinstance(model, CationExchange):
        raise InputError(Problem(message="the solvent has no soap of one acid"))
    key, count = exchange_set.soap_keys(ion, book, constants.activity.name)
    value = constants.log_k[ion]
    book[key], book[count]
    spread = [end - book.used[key].si for end in book.used[key].si_range]
    cases = []
    for log_k in (value + spread[0], value, value + spread[1]):
        for dimers in sorted(set(book.used[count].si_range)):
            if solvent.saponification * 2 * dimers > model.charge[-1]:
                continue
            moved = replace(
                model,
                log_k=np.append(model.log_k[:-1], np.log(10) * log_k),
                dimers=np.append(model.dimers[:-1], dimers),
            )
            found = shake(
                replace(constants, model=moved), feed, acid, solvent, phase_ratio=phase_ratio
            )
            share = phase_ratio * found.distribution_ratio
            cases.append(
                SoapCase(
                    log_k=log_k,
                    dimers=dimers,
                    pH=float(found.pH),
                    extracted={
                        name: float(share[i] / (1 + share[i]))
                        for i, name in enumerate(constants.components)
                        if name != ion
                    },
                )
            )
    return cases
