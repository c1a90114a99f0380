"""What a bed holds at equilibrium: dissolved species, metal pairs on protein, protons on both.

Components are metals, ligands and H. With x the free concentrations and E0 the empty, wholly
deprotonated protein, every amount per bed volume is a product of powers,

    liquid beta_s prod x^nu_s        species in solution
    E0 K_ij a_i a_j                  protein with a pair of metals
    E0 (1 + h/Ka)^N                  empty protein, N h/(h + Ka) protons on each

and the totals of the components are sums of these; ``cells`` solves them. OH- is left out: totals
of H are then positive, and no lanmodulin column runs above pH 8.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry.speciation import Tableau, constants_at, tableau
from sepmodel.chromatography.binding import C_STANDARD, PairLaw
from sepmodel.data import Book

Array = NDArray[np.float64]

_ABSENT = 1e-32
_LN10 = float(np.log(10.0))


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Chemistry:
    """Species of a bed: ``powers`` (S, C) over metals, ligands and H.

    ``log_weight`` (S,) is, for the first ``dissolved`` of them, ln of amount per bed volume at
    unit concentrations (mol/L), for pairs on protein ln of amount over that of bare protein;
    ``mobile`` C components travel. ``protein`` [mol/m3 bed], ``exponent`` N and ``acidity`` Ka
    [mol/L] of the protein's protons; ``metals`` count.
    """

    names: tuple[str, ...]
    metals: int
    liquid: float
    powers: Array
    log_weight: Array
    dissolved: int
    protein: float
    exponent: float
    acidity: float

    @property
    def mobile(self) -> int:
        """How many components travel: metals, ligands, H."""
        return len(self.names)


def chemistry(
    law: PairLaw,
    metals: tuple[str, ...],
    ligands: tuple[str, ...],
    liquid: float,
    book: Book,
) -> tuple[Chemistry, Tableau]:
    """The species of a lanmodulin bed with the tableau of its liquor.

    Metals without a place in ``law`` do not bind to the protein. Ligand constants are taken as
    published; those of several ionic strengths are moved to the highest of them.
    """
    known = tableau(metals, ligands, book, hydroxide=False, unbound=metals)
    stated = np.isfinite(known.strength)
    if len(np.unique(known.strength[stated])) > 1:
        highest = float(known.strength[stated].max())
        known = replace(
            known,
            log_beta=constants_at(known, highest, book)[:, 0],
            strength=np.where(stated, highest, known.strength),
        )
    count = len(known.components)
    sets = constants_at(known, None, book)[:, 0] * _LN10 if ligands else known.log_beta * _LN10
    rows = list(known.stoichiometry)
    weight = (sets + np.log(liquid * C_STANDARD)).tolist()
    place = {name: k for k, name in enumerate(law.names)}
    bound = [(k, place[m]) for k, m in enumerate(metals) if m in place]
    for n, (i, own_i) in enumerate(bound):
        for j, own_j in bound[: n + 1]:
            row = np.zeros(count)
            row[[i, j]] = 2.0 if i == j else 1.0
            share = 1.0 if i == j else law.kappa[own_i, own_j]
            rows.append(row)
            weight.append(0.5 * (law.log_k[own_i] + law.log_k[own_j]) + np.log(share))
    return (
        Chemistry(
            names=known.components,
            metals=len(metals),
            liquid=liquid,
            powers=np.array(rows),
            log_weight=np.array(weight),
            dissolved=len(known.species),
            protein=0.5 * law.capacity,
            exponent=law.exponent,
            acidity=10.0**-law.pKa,
        ),
        known,
    )


def amounts_at(of: Chemistry, conc: Array, proton: float) -> tuple[Array, Array]:
    """What a bed holds (C,) and ln of its free concentrations at free ``conc`` and [H+] [mol/m3].

    ``conc`` are metals and ligands.
    """
    free = np.append(conc, proton) / C_STANDARD
    x = np.log(np.maximum(free, _ABSENT))
    logs = of.powers @ x + of.log_weight
    log_empty = of.exponent * np.log1p(float(free[-1]) / of.acidity)
    pairs = np.exp(logs[of.dissolved :] - log_empty)
    empty = of.protein / (1.0 + pairs.sum())
    held = np.exp(logs[: of.dissolved]) @ of.powers[: of.dissolved]
    held += empty * pairs @ of.powers[of.dissolved :]
    held[-1] += empty * of.exponent * free[-1] / (free[-1] + of.acidity)
    return np.where(np.append(conc, proton) > 0, held, 0.0), x
