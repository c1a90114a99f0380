"""Correlations log D = f(pH, dosage) of a data set, ready for contacts and isotherms."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sepmodel import data
from sepmodel.chemistry import activity as activities
from sepmodel.chemistry.correlation import Correlation
from sepmodel.chemistry.exchange_set import ExchangeSet
from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.species import CHARGES

KIND = "distribution correlation"


def load(set_id: str, components: Sequence[str], book: Book) -> ExchangeSet:
    """A correlation for the named components; those with a constant D have no slope.

    The solvent's total is the extractant (monomer). InputError for a set of another kind or a
    missing component.

    >>> found = load("extractants/prommis-dehpa-sulfate", ("La", "Dy"), Book())
    >>> found.model.unknowns
    2
    """
    if data.set_meta(set_id).get("kind") != KIND:
        raise InputError(
            Problem(
                message="not a correlation", value=set_id, expected=f'a set with kind = "{KIND}"'
            )
        )
    names = tuple(components)
    missing = [n for n in names if f"{set_id}:{n}_D" not in book and f"{set_id}:{n}_m0" not in book]
    if missing:
        raise InputError(
            Problem(message=f"{set_id} has no correlation of", value=", ".join(missing))
        )
    rows = [
        [0.0, 0.0, float(np.log10(book[f"{set_id}:{n}_D"])), 0.0]
        if f"{set_id}:{n}_D" in book
        else [book[f"{set_id}:{n}_{part}"] for part in ("m0", "m1", "B0", "B1")]
        for n in names
    ]
    m0, m1, b0, b1 = np.array(rows).T
    charge = np.array([float(CHARGES[n]) for n in names])
    divalent, trivalent = book[f"{set_id}:calcium_protons"], book[f"{set_id}:metal_protons"]
    model = Correlation(
        m0=m0,
        m1=m1,
        b0=b0,
        b1=b1,
        charge=charge,
        monomers=np.where(charge == 2, divalent, trivalent),
        dosage=100 * book[f"{set_id}:molar_mass"] / book[f"{set_id}:density"],
        ka2=10 ** -book[f"{set_id}:HSO4_pKa"],
    )
    return ExchangeSet(
        set_id=set_id,
        components=names,
        counter_ion="",
        model=model,
        activity=activities.build("ideal", ("H", *names, "SO4"), book),
    )
