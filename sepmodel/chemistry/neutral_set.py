"""Neutral extractants: TBP takes the whole nitrate, M3+ + 3 NO3- + q TBP = M(NO3)3 q TBP.

No proton is released; nitrate salts the metal out: D = K [NO3-]^z [TBP]^q with free nitrate and
free TBP in mol/L. Nitric acid competes for TBP where it is named as the component H.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sepmodel import data
from sepmodel.chemistry import activity as activities
from sepmodel.chemistry.complex_exchange import ComplexExchange
from sepmodel.chemistry.exchange_set import ExchangeSet
from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.species import CHARGES


def load(set_id: str, components: Sequence[str], book: Book) -> ExchangeSet:
    """The constants of a neutral extractant; ``components`` may hold H (nitric acid).

    The solvent's total is the extractant itself, not dimers. InputError for a set of another kind
    or a missing constant.

    >>> load("extractants/kraikaew2005-tbp", ("Nd", "Dy"), Book()).log_k["Dy"]
    -2.051
    """
    meta = data.set_meta(set_id)
    if not meta.get("salting"):
        raise InputError(
            Problem(
                message="not a set of a neutral extractant",
                value=set_id,
                expected="salting = true in the set, such as extractants/kraikaew2005-tbp",
            )
        )
    names = tuple(components)
    missing = [name for name in names if f"{set_id}:{name}" not in book]
    if missing:
        raise InputError(
            Problem(
                message=f"{set_id} has no constant of",
                value=", ".join(missing),
                expected=", ".join(n for n in book.names(set_id) if n in CHARGES),
            )
        )
    charge = np.array([float(CHARGES[name]) for name in names])
    metal = book[f"{set_id}:order"]
    order = np.where(np.array([name == "H" for name in names]), 1.0, metal)
    log_k = np.array([book[f"{set_id}:{name}"] for name in names]) * np.log(10)
    return ExchangeSet(
        set_id=set_id,
        components=names,
        counter_ion="",
        model=ComplexExchange(
            log_k=log_k[:, None],
            order=order[:, None, None],
            charge=charge,
            split=np.ones(1),
            salting=True,
        ),
        activity=activities.build("ideal", (*names, "NO3"), book),
    )
