"""What a bed holds at equilibrium: dissolved species, metal pairs on protein, protons on both.

Components are metals, ligands and H in solution, and the protein. With x the free concentrations
(E0 the empty, wholly deprotonated protein), every amount per bed volume is a product of powers,

    liquid beta_s prod x^nu_s        species in solution
    E0 K_ij a_i a_j                  protein with a pair of metals
    E0 (1 + h/Ka)^N                  empty protein, N h/(h + Ka) protons on each

and the totals of the components are sums of these. Newton's method on ln x of

    A d(ln x) = T ln(held/T),        A = dT/d(ln x), symmetric and positive

starts from the cell's last answer; only cells that have changed are solved again. Where it does not
settle soon, the strictly convex sum of amounts - sum held ln x, whose minimum is the same point, is
minimised with a line search that cannot fail. OH- is left out: totals of H are then positive, and
no lanmodulin column runs above pH 8.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry.speciation import Tableau, constants_at, tableau
from sepmodel.chromatography.binding import C_STANDARD, PairLaw
from sepmodel.data import Book

Array = NDArray[np.float64]

_TOLERANCE = 1e-7
_ROUNDS = 200
_LONGEST = 4.0
# Rounds before the way that cannot fail is taken.
_QUICK = 16
_HALVINGS = 20
# A total below this share of the capacity is a trace: dissolved in proportion.
_TRACE = 1e-8
_ABSENT = 1e-32
_LN10 = float(np.log(10.0))


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Chemistry:
    """Species of a bed: ``powers`` (S, C + 1) over metals, ligands, H and the protein.

    ``log_weight`` (S,) is ln of amount per bed volume at unit concentrations (mol/L), the first
    ``dissolved`` of them in solution; ``mobile`` C components travel. ``protein`` [mol/m3 bed],
    ``exponent`` N and ``acidity`` Ka [mol/L] of the protein's protons; ``metals`` count.
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
    published, at one common ionic strength.
    """
    known = tableau(metals, ligands, book, hydroxide=False, unbound=metals)
    count = len(known.components)
    sets = constants_at(known, None, book)[:, 0] * _LN10 if ligands else known.log_beta * _LN10
    rows = [np.append(row, 0.0) for row in known.stoichiometry]
    weight = (sets + np.log(liquid * C_STANDARD)).tolist()
    place = {name: k for k, name in enumerate(law.names)}
    bound = [(k, place[m]) for k, m in enumerate(metals) if m in place]
    for n, (i, own_i) in enumerate(bound):
        for j, own_j in bound[: n + 1]:
            row = np.zeros(count + 1)
            row[[i, j]] += 1.0
            if i == j:
                row[i] = 2.0
            row[-1] = 1.0
            share = 1.0 if i == j else law.kappa[own_i, own_j]
            rows.append(row)
            weight.append(
                0.5 * (law.log_k[own_i] + law.log_k[own_j]) + np.log(share) + np.log(C_STANDARD)
            )
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


@dataclass(slots=True)
class Cells:
    """Cells of a bed that settle again and again from their last answer.

    ``log_free`` (N, C + 1) are ln of the free concentrations over 1 mol/L.
    """

    of: Chemistry
    log_free: Array
    held: Array = field(init=False)
    scale: Array = field(init=False)
    _pairs: Array = field(init=False)
    _dissolved: Array = field(init=False)

    def __post_init__(self) -> None:
        c = self.of
        size = c.mobile + 1
        outer = c.powers[:, :, None] * c.powers[:, None, :]
        self._pairs = outer.reshape(len(outer), size * size)
        self._dissolved = np.ascontiguousarray(
            self._pairs[: c.dissolved].reshape(-1, size, size)[:, :-1, :].reshape(c.dissolved, -1)
        )
        self.held = np.full((len(self.log_free), size), np.nan)
        self.scale = np.ones((len(self.log_free), c.mobile))

    def settle(self, held: Array) -> Array:
        """Total dissolved concentrations (N, C) [mol/m3] of cells that hold ``held`` (N, C).

        NaN in cells that do not settle, which keep their last answer.
        """
        c = self.of
        trace = 2 * c.protein * _TRACE
        wanted = np.empty((len(held), c.mobile + 1))
        np.maximum(held, trace, out=wanted[:, :-1])
        wanted[:, -1] = c.protein
        self.scale = held / wanted[:, :-1]
        active = np.flatnonzero((wanted != self.held).any(axis=1))
        self.held = wanted
        if not len(active):
            return self._conc()
        x, goal = self.log_free[active], wanted[active]
        for turn in range(_ROUNDS):
            amounts, empty, protons = self._amounts(x)
            totals = self._totals(amounts, empty, protons)
            gap = np.log(goal / totals)
            size = np.abs(gap).max(axis=1)
            open_ = size > _TOLERANCE
            if not open_.all():
                self.log_free[active[~open_]] = x[~open_]
                if not open_.any():
                    return self._conc()
                active, x, goal = active[open_], x[open_], goal[open_]
                amounts, empty, protons = amounts[open_], empty[open_], protons[open_]
                totals, gap = totals[open_], gap[open_]
            matrix = self._matrix(amounts, empty, protons, x)
            right: Array = totals * gap if turn < _QUICK else goal - totals
            step: Array = np.asarray(np.linalg.solve(matrix, right[:, :, None])[:, :, 0])
            longest = np.abs(step).max(axis=1, keepdims=True)
            step *= np.minimum(1.0, _LONGEST / np.maximum(longest, _TOLERANCE))
            x = x + step if turn < _QUICK else self._downhill(x, step, goal)
        # Contents nothing can hold: a trial step went astray. Whoever tried takes a shorter one.
        self.held[active] = np.nan
        lost = self._conc()
        lost[active] = np.nan
        return lost

    def _downhill(self, x: Array, step: Array, goal: Array) -> Array:
        """x + step, shortened cell by cell until the convex function falls."""
        share = np.ones((len(x), 1))
        before = self._convex(x, goal)
        for _ in range(_HALVINGS):
            rises = self._convex(x + share * step, goal) > before
            if not rises.any():
                break
            share[rises] *= 0.5
        moved: Array = x + share * step
        return moved

    def _convex(self, x: Array, goal: Array) -> Array:
        amounts, empty, _ = self._amounts(x)
        value: Array = amounts.sum(axis=1) + empty - (goal * x).sum(axis=1)
        return value

    def slopes(self) -> Array:
        """d conc_i / d held_j (N, C, C) where the cells settled last."""
        c, size = self.of, self.of.mobile + 1
        amounts, empty, protons = self._amounts(self.log_free)
        matrix = self._matrix(amounts, empty, protons, self.log_free)
        flow = (amounts[:, : c.dissolved] @ self._dissolved).reshape(-1, c.mobile, size)
        # conc = B x', held = A x': dconc/dheld = B A^-1 = (A^-1 B^T)^T, A being symmetric.
        found = np.linalg.solve(matrix, flow.transpose(0, 2, 1))[:, : c.mobile]
        out: Array = np.asarray(found.transpose(0, 2, 1) / c.liquid, dtype=np.float64)
        few = self.scale < 1.0
        if few.any():
            # A trace is dissolved in proportion: its own slope is conc/held, others do not feel it.
            conc = self._conc_free(amounts)
            out = np.asarray(np.where(few[:, None, :], 0.0, out * self.scale[:, :, None]))
            cell, own = np.nonzero(few)
            out[cell, own, own] = conc[cell, own] / self.held[cell, own]
        return out

    def free(self) -> Array:
        """Free concentrations (N, C) [mol/m3]."""
        return np.asarray(np.exp(self.log_free[:, :-1]) * C_STANDARD)

    def bound(self) -> Array:
        """Metals on the protein (N, M) [mol/m3 bed]."""
        amounts, _, _ = self._amounts(self.log_free)
        pairs = amounts[:, self.of.dissolved :]
        found: Array = pairs @ self.of.powers[self.of.dissolved :, : self.of.metals]
        return found

    def _conc(self) -> Array:
        amounts = np.exp(
            self.log_free @ self.of.powers[: self.of.dissolved].T
            + self.of.log_weight[: self.of.dissolved]
        )
        return self._conc_free(amounts) * self.scale

    def _conc_free(self, amounts: Array) -> Array:
        d = self.of.dissolved
        found: Array = amounts[:, :d] @ self.of.powers[:d, :-1] / self.of.liquid
        return found

    def _amounts(self, x: Array) -> tuple[Array, Array, Array]:
        """Species (N, S) and empty protein (N,) per bed volume, and protons on each empty one."""
        c = self.of
        amounts = np.exp(x @ c.powers.T + c.log_weight)
        h = np.exp(x[:, -2])
        empty = np.exp(x[:, -1] + c.exponent * np.log1p(h / c.acidity)) * C_STANDARD
        return amounts, empty, c.exponent * h / (h + c.acidity)

    def _totals(self, amounts: Array, empty: Array, protons: Array) -> Array:
        totals: Array = amounts @ self.of.powers
        totals[:, -1] += empty
        totals[:, -2] += empty * protons
        return totals

    def _matrix(self, amounts: Array, empty: Array, protons: Array, x: Array) -> Array:
        c, size = self.of, self.of.mobile + 1
        matrix: Array = (amounts @ self._pairs).reshape(-1, size, size)
        held = empty * protons
        matrix[:, -1, -1] += empty
        matrix[:, -1, -2] += held
        matrix[:, -2, -1] += held
        share = c.acidity / (np.exp(x[:, -2]) + c.acidity)
        matrix[:, -2, -2] += held * (protons + share)
        return matrix


def amounts_at(of: Chemistry, conc: Array, proton: float) -> tuple[Array, Array]:
    """What a bed holds (C,) and ln of its free concentrations at free ``conc`` and [H+] [mol/m3].

    ``conc`` are metals and ligands.
    """
    free = np.append(conc, proton) / C_STANDARD
    x = np.append(np.log(np.maximum(free, _ABSENT)), 0.0)
    log_f = of.exponent * np.log1p(float(free[-1]) / of.acidity)
    pairs = np.exp(x @ of.powers[of.dissolved :].T + of.log_weight[of.dissolved :]).sum()
    x[-1] = np.log(of.protein) - np.logaddexp(log_f + np.log(C_STANDARD), np.log(pairs + 1e-300))
    cells = Cells(of=of, log_free=x[None])
    held = cells._totals(*cells._amounts(cells.log_free))[0, :-1]
    return np.where(np.append(conc, proton) > 0, held, 0.0), x
