"""Two acidic extractants in one solvent, from the constants each has alone.

A metal that takes n dimers of an acid has 2n ligand places. With k of them held by the first acid,

  K_k = sigma_k C(2n, k) K_1^(k/2n) K_2^(1 - k/2n),  D = sum_k K_k d_1^(k/2) d_2^(n - k/2) / h^z

sigma = 1 (random ligands) for the mixed complexes is the neutral assumption: with mixed dimers at
random as well, a mixture of an acid with itself is the acid. sigma = 0 is simple addition and
sigma > 1 synergism. No synergy constant is known for the acids shipped: sigma is an estimate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry import exchange_set
from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.chemistry.complex_exchange import ComplexExchange
from sepmodel.chemistry.exchange_set import ExchangeSet
from sepmodel.data import Book
from sepmodel.errors import InputError, Problem

Array = NDArray[np.float64]
MIXING = "extractants/mixed-acids"


def combine(
    first: CationExchange,
    second: CationExchange,
    share: float,
    *,
    mixed_complexes: float,
    mixed_dimer: float,
) -> ComplexExchange:
    """The model of a solvent whose extractant is ``share`` of the first acid, the rest the second.

    Both models hold the same components; n must be the same in both and a multiple of one half.

    >>> one = CationExchange(
    ...     log_k=np.log([0.01]), charge=np.array([3.0]), dimers=np.array([3.0])
    ... )
    >>> both = combine(one, one, 0.3, mixed_complexes=1.0, mixed_dimer=2.0)
    >>> both.log_k.shape, float(np.exp(both.log_k).sum().round(9))
    ((1, 7), 0.64)
    """
    places = 2 * first.dimers
    problems = []
    if not 0 < share < 1:
        problems.append(
            Problem(message="both acids of a mixture have a share", value=share, expected="0 to 1")
        )
    if not np.array_equal(first.dimers, second.dimers):
        problems.append(
            Problem(
                message="the acids of a mixture take the same number of dimers a metal",
                value=f"{first.dimers.tolist()} and {second.dimers.tolist()}",
                expected="sets with the same stoichiometry",
            )
        )
    if not np.array_equal(places, np.round(places)):
        problems.append(
            Problem(
                message="a mixed complex has whole ligands",
                value=first.dimers.tolist(),
                expected="dimers in halves, not a fitted slope",
            )
        )
    if not (mixed_complexes >= 0 and mixed_dimer >= 0):
        problems.append(Problem(message="constants of mixed species are not negative"))
    if problems:
        raise InputError(problems)
    most = int(places.max())
    log_k = np.full((len(places), most + 1), -np.inf)
    order = np.zeros((len(places), most + 1, 2))
    log_sigma = math.log(mixed_complexes) if mixed_complexes > 0 else -math.inf
    for i, count in enumerate(places.astype(int)):
        for k in range(count + 1):
            part = k / count
            pure = k in (0, count)
            log_k[i, k] = math.log(math.comb(count, k)) + (0.0 if pure else log_sigma)
            log_k[i, k] += part * first.log_k[i] + (1 - part) * second.log_k[i]
            order[i, k] = k / 2, (count - k) / 2
    return ComplexExchange(
        log_k=log_k,
        order=order,
        charge=first.charge,
        split=np.array([share, 1 - share]),
        mixed=mixed_dimer,
    )


def load(
    first: str,
    second: str,
    share: float,
    components: Sequence[str],
    book: Book,
    *,
    counter_ion: str = "",
    purpose: str = "design",
) -> ExchangeSet:
    """A mixture of the extractants of two sets; ``share`` of the first in the formal total.

    InputError where the sets are of different activity bases or stoichiometries.

    >>> both = load("extractants/li1987-pc88a-ideal", "extractants/cyanex272-chloride", 0.5,
    ...             ("Nd", "Dy"), Book())
    >>> both.model.unknowns, both.set_id
    (3, 'extractants/li1987-pc88a-ideal + extractants/cyanex272-chloride')
    """
    alone = [
        exchange_set.load(name, components, book, counter_ion=counter_ion, purpose=purpose)
        for name in (first, second)
    ]
    bases = [one.activity.name for one in alone]
    if bases[0] != bases[1]:
        raise InputError(
            Problem(
                message="constants of two activity bases in one solvent",
                value=f"{first} ({bases[0]}), {second} ({bases[1]})",
                expected="two sets on one basis",
            )
        )
    models = [one.model for one in alone]
    assert isinstance(models[0], CationExchange)
    assert isinstance(models[1], CationExchange)
    return ExchangeSet(
        set_id=f"{first} + {second}",
        components=alone[0].components,
        counter_ion=counter_ion,
        model=combine(
            models[0],
            models[1],
            share,
            mixed_complexes=book[f"{MIXING}:mixed-complexes"],
            mixed_dimer=book[f"{MIXING}:mixed-dimer"],
        ),
        activity=alone[0].activity,
    )
