"""Cells of a bed that settle again and again: Newton's method once, its slopes while little changes.

Every amount in a cell is a product of powers of the free concentrations x (``speciated``), so that
ln x follows from the totals T by

    A d(ln x) = dT,      d conc = B d(ln x),      A = dT/d(ln x), symmetric and positive

Each cell keeps the last state it was solved at with A^-1 and B there. While what it holds moves
ln x by less than ``near``, its answer is the linear one, wrong by the square of that; else Newton's
method on ln T goes on from there. Where it does not settle soon, the strictly convex sum of amounts
- sum held ln x, whose minimum is the same point, is minimised with a line search that cannot fail.
Cells are the last axis of everything kept here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sepmodel.chromatography.binding import C_STANDARD
from sepmodel.chromatography.speciated import Chemistry, protein_states

Array = NDArray[np.float64]

NEAR = 1e-4
"""Change of ln x up to which a cell answers by its slopes."""
_ROUNDS = 200
_LONGEST = 4.0
# Rounds before the way that cannot fail is taken.
_QUICK = 16
_HALVINGS = 20
# A total below this share of the capacity is a trace: dissolved in proportion.
_TRACE = 1e-8


@dataclass(slots=True)
class Cells:
    """Cells of ``of`` that start from ``log_free`` (N, C + 1), ln of free concentrations [mol/L].

    ``near`` is the change of ln x up to which a cell answers by its slopes.
    """

    of: Chemistry
    log_free: Array
    near: float = NEAR
    _x: Array = field(init=False)
    _total: Array = field(init=False)
    _inverse: Array = field(init=False)
    _flow: Array = field(init=False)
    _conc: Array = field(init=False)
    _scale: Array = field(init=False)
    _shift: Array = field(init=False)
    _powers: Array = field(init=False)
    _pairs: Array = field(init=False)
    _weight: Array = field(init=False)
    _by_dissolved: Array = field(init=False)

    def __post_init__(self) -> None:
        c, size, count = self.of, self.of.mobile + 1, len(self.log_free)
        outer = c.powers[:, :, None] * c.powers[:, None, :]
        self._pairs = np.ascontiguousarray(outer.reshape(-1, size * size).T)
        dissolved = outer[: c.dissolved, :-1].reshape(c.dissolved, -1) / c.liquid
        own = c.powers[: c.dissolved, :-1] / c.liquid
        self._by_dissolved = np.ascontiguousarray(np.concatenate([dissolved, own], axis=1).T)
        self._powers, self._weight = np.ascontiguousarray(c.powers), c.log_weight[:, None]
        self._x = np.ascontiguousarray(self.log_free.T)
        self._total = np.full((size, count), np.nan)
        self._inverse = np.zeros((size, size, count))
        self._flow = np.zeros((c.mobile, size, count))
        self._conc = np.full((c.mobile, count), np.nan)
        self._scale = np.ones((c.mobile, count))
        self._shift = np.zeros((size, count))

    def settle(self, held: Array) -> Array:
        """Total dissolved concentrations (N, C) [mol/m3] of cells that hold ``held`` (N, C).

        NaN in cells that do not settle, which keep their last answer.
        """
        c = self.of
        wanted = np.empty_like(self._x)
        np.maximum(held.T, 2 * c.protein * _TRACE, out=wanted[:-1])
        wanted[-1] = c.protein
        self._scale = held.T / wanted[:-1]
        self._shift = np.einsum("ijn,jn->in", self._inverse, wanted - self._total)
        far = np.flatnonzero(~(np.abs(self._shift).max(axis=0) <= self.near))
        lost = far[:0]
        if far.size:
            lost = self._renew(far, wanted[:, far])
            gap = wanted[:, far] - self._total[:, far]
            self._shift[:, far] = np.einsum("ijn,jn->in", self._inverse[:, :, far], gap)
        conc = self._conc + np.einsum("ikn,kn->in", self._flow, self._shift)
        conc *= self._scale
        if lost.size:
            self._shift[:, lost] = 0.0
            conc[:, lost] = np.nan
        return np.ascontiguousarray(conc.T)

    def _renew(self, cells: NDArray[np.intp], goal: Array) -> NDArray[np.intp]:
        """Newton's method for ``cells`` that hold ``goal`` (K, n); those that did not settle."""
        x, total = self._x[:, cells], self._total[:, cells]
        known = ~np.isnan(total[0])
        if known.any():  # the first step is known from where the cells were solved
            right = total * np.log(goal / total)
            step = np.einsum("ijn,jn->in", self._inverse[:, :, cells], right)
            x += _shortened(np.where(known, step, 0.0))
        for turn in range(_ROUNDS):
            amounts, empty, protons = self._amounts(x)
            total = self._totals(amounts, empty, protons)
            inverse = _inverted(self._matrix(amounts, empty, protons, x))
            right = total * np.log(goal / total) if turn < _QUICK else goal - total
            step = np.einsum("ijn,jn->in", inverse, right)
            done = np.abs(step).max(axis=0) <= self.near
            if done.any():
                whole = done.all()
                own = slice(None) if whole else np.flatnonzero(done)
                self._keep(cells[own], x[:, own], total[:, own], inverse[:, :, own], amounts[:, own])
                if whole:
                    return cells[:0]
                rest = np.flatnonzero(~done)
                cells, x, goal, step = cells[rest], x[:, rest], goal[:, rest], step[:, rest]
            step = _shortened(step)
            x = x + step if turn < _QUICK else self._downhill(x, step, goal)
        # Contents nothing can hold: a trial step went astray. Whoever tried takes a shorter one.
        return cells

    def _keep(
        self, cells: NDArray[np.intp], x: Array, total: Array, inverse: Array, amounts: Array
    ) -> None:
        """Remember where cells were solved."""
        c, size = self.of, self.of.mobile + 1
        found = self._by_dissolved @ amounts[: c.dissolved]
        self._x[:, cells], self._total[:, cells] = x, total
        self._inverse[:, :, cells] = inverse
        self._flow[:, :, cells] = found[: c.mobile * size].reshape(c.mobile, size, -1)
        self._conc[:, cells] = found[c.mobile * size :]

    def _downhill(self, x: Array, step: Array, goal: Array) -> Array:
        """x + step, shortened cell by cell until the convex function falls."""
        share = np.ones(x.shape[1])
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
        value: Array = amounts.sum(axis=0) + empty - (goal * x).sum(axis=0)
        return value

    def slopes(self) -> Array:
        """d conc_i / d held_j (N, C, C) where the cells settled last."""
        flow, inverse = self._flow.transpose(2, 0, 1), self._inverse[:, :-1].transpose(2, 0, 1)
        out: Array = np.matmul(flow, inverse)
        scale = self._scale.T
        few = scale < 1.0
        if few.any():
            # A trace is dissolved in proportion: its own slope is conc/held, others do not feel it.
            out = np.where(few[:, None, :], 0.0, out * scale[:, :, None])
            cell, own = np.nonzero(few)
            trace = 2 * self.of.protein * _TRACE
            out[cell, own, own] = self._conc[own, cell] / trace
        return out

    def now(self) -> Array:
        """ln of the free concentrations (N, C + 1) over 1 mol/L where the cells settled last."""
        return np.ascontiguousarray((self._x + self._shift).T)

    def free(self) -> Array:
        """Free concentrations (N, C) [mol/m3]."""
        return np.asarray(np.exp(self.now()[:, :-1]) * C_STANDARD)

    def bound(self) -> Array:
        """Metals on the protein (N, M) [mol/m3 bed]."""
        amounts, _, _ = self._amounts(self._x + self._shift)
        pairs = amounts[self.of.dissolved :].T
        found: Array = pairs @ self.of.powers[self.of.dissolved :, : self.of.metals]
        return found

    def _amounts(self, x: Array) -> tuple[Array, Array, Array]:
        """Species (S, n) and empty protein (n,) per bed volume, and protons on each empty one."""
        log_amounts = self._powers @ x
        log_amounts += self._weight
        empty, protons = protein_states(self.of, x[-2], x[-1])
        return np.exp(log_amounts, out=log_amounts), empty, protons

    def _totals(self, amounts: Array, empty: Array, protons: Array) -> Array:
        totals: Array = self._powers.T @ amounts
        totals[-1] += empty
        totals[-2] += empty * protons
        return totals

    def _matrix(self, amounts: Array, empty: Array, protons: Array, x: Array) -> Array:
        size = self.of.mobile + 1
        matrix: Array = (self._pairs @ amounts).reshape(size, size, -1)
        held = empty * protons
        matrix[-1, -1] += empty
        matrix[-1, -2] += held
        matrix[-2, -1] += held
        share = self.of.acidity / (np.exp(x[-2]) + self.of.acidity)
        matrix[-2, -2] += held * (protons + share)
        return matrix


def _shortened(step: Array) -> Array:
    """Steps of ln x (K, n) no longer than allowed."""
    longest = np.abs(step).max(axis=0)
    return np.asarray(step * np.minimum(1.0, _LONGEST / np.maximum(longest, _LONGEST)))


def _inverted(matrix: Array) -> Array:
    """Inverses of symmetric positive matrices (K, K, n) by Gauss and Jordan, in place."""
    for k in range(len(matrix)):
        pivot = 1.0 / matrix[k, k]
        column = matrix[:, k].copy()
        row = matrix[k] * pivot
        matrix -= column[:, None] * row
        matrix[:, k] = -column * pivot
        matrix[k] = row
        matrix[k, k] = pivot
    return matrix
