"""Polymers of metal and extractant in a crowded organic: MA_z beside MA_z(HA)_z.

Near the stoichiometric limit of one metal per six monomers of acid the complexes give their free
acid back and chain up; per metal they then hold half the dimers:

  D = K d^n / h^z (1 + kappa d^(-n/2))

kappa decides where: half of the metal is polymer at d = kappa^(2/n). It was never measured as such:
isotherms to 74 % of the limit allow any value up to 0.03, chains are seen where every extractant
holds metal. Hence an estimate with a range.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.chemistry.complex_exchange import ComplexExchange
from sepmodel.chemistry.exchange_set import ExchangeSet
from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.species import RARE_EARTHS

POLYMER = "extractants/pc88a:polymer"


def with_polymers(constants: ExchangeSet, book: Book) -> ExchangeSet:
    """The same set with a polymer of every rare earth, kappa from the book.

    Its loading may pass one metal per six monomers, up to one per three.

    >>> from sepmodel.chemistry import exchange_set
    >>> plain = exchange_set.load("extractants/li1987-pc88a-ideal", ("Nd",), Book())
    >>> with_polymers(plain, Book()).model.dimers.tolist()
    [1.5]
    """
    model = constants.model
    if not isinstance(model, CationExchange):
        raise InputError(
            Problem(message="polymers are known of one acid only", value=constants.set_id)
        )
    chained = np.array([name in RARE_EARTHS for name in constants.components])
    weak = np.where(chained, np.log(book[POLYMER]), -np.inf)
    log_k = np.asarray(model.log_k, dtype=float)
    order = np.stack([model.dimers, model.dimers / 2], axis=-1)[..., None]
    return replace(
        constants,
        model=ComplexExchange(
            log_k=np.stack([log_k, log_k + weak], axis=-1),
            order=order,
            charge=model.charge,
            split=np.ones(1),
        ),
    )
