"""Cells of a bed that settle again and again: Newton's method once, its slopes after.

Every amount in solution is a product of powers of the free concentrations x (``speciated``), and
the protein P is shared among its states, empty or with a pair of metals, in proportion to such
products. Newton's method on ln x of what a cell holds,

    A d(ln x) = T ln(held/T),     A = dT/d(ln x), symmetric and positive,     d conc = B d(ln x)

takes few rounds where a protein fills up, too: T is a power of x where protein is in excess, and
linear in x (not in ln x) where it is full, so long steps upwards are taken in x, and where even the
first is long the cell starts from an ideal one (all on the protein until it is full). Where it does
not settle soon, the convex sum of dissolved amounts + P ln(sum of states) - sum held ln x, whose
minimum is the same point, is minimised with a line search that cannot fail.

Each cell keeps the state it was solved at with A^-1 and B there. While what it holds moves ln x by
less than ``near``, its answer is the linear one, wrong by the square of that. Cells are the last
axis of everything kept here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sepmodel.chromatography.binding import C_STANDARD
from sepmodel.chromatography.speciated import Chemistry

Array = NDArray[np.float64]

NEAR = 1e-4
"""Change of ln x up to which a cell answers by its slopes."""
_ROUNDS = 100
# First step of ln x from which on the ideal cell is asked for a better start.
_LONG = 2.0
# Longest step of ln x towards smaller concentrations, beyond what the totals ask for.
_LONGEST = 8.0
# Rounds before those that are left start again from the ideal cell.
_PATIENT = 5
# Rounds before the way that cannot fail is taken.
_QUICK = 10
_HALVINGS = 16
_DAMPED = 4.0
_FULL = 1e-9
# Rounds of the titration of a cell with ligands.
_TITRATED = 6
# A total below this share of the capacity is a trace: dissolved in proportion.
_TRACE = 1e-8
# Cells from which on Gauss and Jordan over all of them are faster than LAPACK one by one.
_MANY = 64


@dataclass(slots=True)
class Cells:
    """Cells of ``of`` that start from ``log_free`` (N, C), ln of free concentrations over 1 mol/L.

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
    _outer: tuple[Array, Array] = field(init=False)
    _ideal: _Ideal = field(init=False)

    def __post_init__(self) -> None:
        c, size, count = self.of, self.of.mobile, len(self.log_free)
        outer = (c.powers[:, :, None] * c.powers[:, None, :]).reshape(-1, size * size)
        each = np.concatenate([outer, c.powers], axis=1)
        dissolved, bound = each[: c.dissolved].T, each[c.dissolved :].T
        self._outer = np.ascontiguousarray(dissolved), np.ascontiguousarray(bound)
        self._ideal = _ideal(c)
        self._x = np.ascontiguousarray(self.log_free.T)
        self._total = np.full((size, count), np.nan)
        self._inverse = np.zeros((size, size, count))
        self._flow = np.zeros((size, size, count))
        self._conc = np.full((size, count), np.nan)
        self._scale = np.ones((size, count))
        self._shift = np.zeros((size, count))

    def settle(self, held: Array) -> Array:
        """Total dissolved concentrations (N, C) [mol/m3] of cells that hold ``held`` (N, C).

        NaN in cells that do not settle, which keep their last answer.
        """
        held = held.T
        wanted = np.maximum(held, 2 * self.of.protein * _TRACE)
        self._scale = held / wanted
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
        """Newton's method for ``cells`` that hold ``goal`` (C, n); those that did not settle."""
        x, total = self._x[:, cells], self._total[:, cells]
        # The first step is known from where the cells were solved.
        gap = np.log(goal / total)
        step = np.einsum("ijn,jn->in", self._inverse[:, :, cells], total * gap)
        x = x + _stretched(step, gap)
        strange = np.flatnonzero(~(np.abs(step).max(axis=0) < _LONG))
        if strange.size:
            there, what = x[:, strange], goal[:, strange]
            guess = self._ideal.guess(what)
            better = ~(_convex(self.of, there, what) <= _convex(self.of, guess, what))
            x[:, strange] = np.where(better, guess, there)
        for turn in range(_ROUNDS):
            if turn == _PATIENT:
                x = self._ideal.guess(goal)
            state = _solved(self.of, self._outer, x)
            total = state.total
            gap = np.log(goal / total)
            inverse = _inverted(state.matrix)
            step = np.einsum("ijn,jn->in", inverse, total * gap if turn < _QUICK else goal - total)
            done = np.abs(step).max(axis=0) <= self.near
            if done.any():
                whole = bool(done.all())
                own = slice(None) if whole else np.flatnonzero(done)
                at = cells[own]
                self._x[:, at], self._total[:, at] = x[:, own], total[:, own]
                self._inverse[:, :, at] = inverse[:, :, own]
                self._flow[:, :, at], self._conc[:, at] = state.flow[:, :, own], state.conc[:, own]
                if whole:
                    return cells[:0]
                rest = np.flatnonzero(~done)
                cells, x, goal = cells[rest], x[:, rest], goal[:, rest]
                step, gap = step[:, rest], gap[:, rest]
            x = x + _stretched(step, gap) if turn < _QUICK else self._downhill(x, step, goal)
        # Contents nothing can hold: a trial step went astray. Whoever tried takes a shorter one.
        return cells

    def _downhill(self, x: Array, step: Array, goal: Array) -> Array:
        """x + step, shortened cell by cell until the convex function falls."""
        share = _DAMPED / np.maximum(np.abs(step).max(axis=0), _DAMPED)
        before = _convex(self.of, x, goal)
        for _ in range(_HALVINGS):
            rises = _convex(self.of, x + share * step, goal) > before
            if not rises.any():
                break
            share[rises] *= 0.5
        moved: Array = x + share * step
        return moved

    def slopes(self) -> Array:
        """d conc_i / d held_j (N, C, C) where the cells settled last."""
        flow, inverse = self._flow.transpose(2, 0, 1), self._inverse.transpose(2, 0, 1)
        out: Array = np.matmul(flow, inverse)
        scale = self._scale.T
        few = scale < 1.0
        if few.any():
            # A trace is dissolved in proportion: its own slope is conc/held, others do not feel it.
            out = np.where(few[:, None, :], 0.0, out * np.maximum(scale, 0.0)[:, :, None])
            cell, own = np.nonzero(few)
            out[cell, own, own] = self._conc[own, cell] / (2 * self.of.protein * _TRACE)
        return out

    def now(self) -> Array:
        """ln of the free concentrations (N, C) over 1 mol/L where the cells settled last."""
        return np.ascontiguousarray((self._x + self._shift).T)

    def free(self) -> Array:
        """Free concentrations (N, C) [mol/m3]."""
        return np.asarray(np.exp(self.now()) * C_STANDARD)

    def bound(self) -> Array:
        """Metals on the protein (N, M) [mol/m3 bed]."""
        _, states, _ = _amounts(self.of, self._x + self._shift)
        found: Array = states[:-1].T @ self.of.powers[self.of.dissolved :, : self.of.metals]
        return found


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Ideal:
    """A cell without complexes whose metals are all on the protein until it is full.

    ``binding`` and ``passing`` metals, ``log_pair`` (B, 1) ln of the weight of a pair of like
    metals, ``forms`` (F, 1) ln weight and ``protons`` (F, 1) of the metal-free forms of ligands,
    ``ligands`` rows of ``forms`` of each.
    """

    of: Chemistry
    binding: NDArray[np.intp]
    passing: NDArray[np.intp]
    log_pair: Array
    forms: Array
    protons: Array
    ligands: tuple[NDArray[np.intp], ...]

    def guess(self, goal: Array) -> Array:
        """ln x (C, n) of cells that hold ``goal`` (C, n)."""
        of = self.of
        water = of.liquid * C_STANDARD
        metals = goal[self.binding]
        total = metals.sum(axis=0)
        fill = np.minimum(total / (2 * of.protein), 1.0 - _FULL)
        x = np.empty_like(goal)
        x[-1] = self._acidity(goal, (1.0 - fill) * of.protein, water)
        for k, rows in enumerate(self.ligands):
            logs = self.forms[rows] + self.protons[rows] * x[-1]
            x[of.metals + k] = np.log(goal[of.metals + k]) - np.logaddexp.reduce(logs, axis=0)
        log_empty = of.exponent * np.log1p(np.exp(x[-1]) / of.acidity)
        share = np.log(metals / total)
        scarce = share + 0.5 * (np.log(fill / (1.0 - fill)) + log_empty - self.log_pair)
        free = share - 0.5 * self.log_pair
        free -= np.logaddexp.reduce(free, axis=0)
        free += np.log(np.maximum(total - 2 * of.protein, _FULL * total) / water)
        x[self.binding] = np.where(total < 2 * of.protein, scarce, free)
        x[self.passing] = np.log(goal[self.passing] / water)
        return x

    def _acidity(self, goal: Array, empty: Array, water: float) -> Array:
        """ln [H+] of protons in water, on ``empty`` protein and on ligands."""
        of, wanted = self.of, goal[-1]
        b = of.acidity + (empty * of.exponent - wanted) / water
        root = np.sqrt(b * b + 4 * wanted * of.acidity / water)
        h = np.where(b > 0, 2 * wanted * of.acidity / water / (b + root), 0.5 * (root - b))
        log_h = np.log(h)
        for _ in range(_TITRATED if self.ligands else 0):
            h = np.exp(log_h)
            on_empty = empty * of.exponent * h / (h + of.acidity)
            held = water * h + on_empty
            slope = held - on_empty * h / (h + of.acidity)
            for k, rows in enumerate(self.ligands):
                logs = self.forms[rows] + self.protons[rows] * log_h
                forms = np.exp(logs - logs.max(axis=0))
                forms *= goal[of.metals + k] / forms.sum(axis=0)
                first = (self.protons[rows] * forms).sum(axis=0)
                held = held + first
                second = (self.protons[rows] ** 2 * forms).sum(axis=0)
                slope = slope + second - first**2 / goal[of.metals + k]
            step = held * np.log(wanted / held) / slope
            log_h = log_h + np.clip(step, -_DAMPED, _DAMPED)
        return np.asarray(log_h)


def _ideal(of: Chemistry) -> _Ideal:
    """The ideal cell of a chemistry."""
    pairs = of.powers[of.dissolved :, : of.metals]
    like = np.flatnonzero(pairs.max(axis=1, initial=0.0) > 1.0)
    binding = pairs[like].argmax(axis=1)
    known = of.powers[: of.dissolved]
    forms = np.flatnonzero(
        (known[:, : of.metals].sum(axis=1) == 0) & (known[:, of.metals : -1].sum(axis=1) == 1)
    )
    owner = known[forms, of.metals : -1].argmax(axis=1) if forms.size else forms
    count = of.mobile - 1 - of.metals
    return _Ideal(
        of=of,
        binding=binding,
        passing=np.setdiff1d(np.arange(of.metals), binding),
        log_pair=of.log_weight[of.dissolved + like][:, None],
        forms=of.log_weight[forms][:, None],
        protons=known[forms, -1][:, None],
        ligands=tuple(np.flatnonzero(owner == k) for k in range(count)),
    )


@dataclass(slots=True)
class _State:
    """Totals (C, n) with their slopes by ln x (C, C, n), and what is dissolved with its."""

    total: Array
    matrix: Array
    conc: Array
    flow: Array


def _amounts(of: Chemistry, x: Array) -> tuple[Array, Array, Array]:
    """Dissolved species, states of the protein (the empty one last), the empty one's protons."""
    logs = of.powers @ x
    logs += of.log_weight[:, None]
    h = np.exp(x[-1])
    empty = of.exponent * np.log1p(h / of.acidity)
    pairs = logs[of.dissolved :]
    top = np.maximum(pairs.max(axis=0, initial=-np.inf), empty)
    states = np.exp(np.concatenate([pairs, empty[None]]) - top)
    states *= of.protein / states.sum(axis=0)
    return np.exp(logs[: of.dissolved]), states, of.exponent * h / (h + of.acidity)


def _solved(of: Chemistry, outer: tuple[Array, Array], x: Array) -> _State:
    """Totals and slopes at ``x`` (C, n)."""
    size = of.mobile
    dissolved, states, protons = _amounts(of, x)
    free = outer[0] @ dissolved
    kept = outer[1] @ states[:-1]
    held = states[-1] * protons
    bound = kept[size * size :]
    bound[-1] += held
    flow = free[: size * size].reshape(size, size, -1)
    matrix = flow + kept[: size * size].reshape(size, size, -1)
    # d(N h/(h + Ka))/d ln h = N h/(h + Ka) (1 - h/(h + Ka))
    matrix[-1, -1] += held * (1.0 + protons * (1.0 - 1.0 / of.exponent))
    matrix -= bound[:, None] * (bound / of.protein)
    conc = free[size * size :]
    total = conc + bound
    conc /= of.liquid
    flow /= of.liquid
    return _State(total=total, matrix=matrix, conc=conc, flow=flow)


def _convex(of: Chemistry, x: Array, goal: Array) -> Array:
    """Sum of dissolved amounts + P ln(sum of states) - sum goal ln x, (n,)."""
    logs = of.powers @ x + of.log_weight[:, None]
    empty = of.exponent * np.log1p(np.exp(x[-1]) / of.acidity)
    both = np.concatenate([logs[of.dissolved :], empty[None]])
    top = both.max(axis=0)
    protein = of.protein * (top + np.log(np.exp(both - top).sum(axis=0)))
    return np.asarray(np.exp(logs[: of.dissolved]).sum(axis=0) + protein - (goal * x).sum(axis=0))


def _stretched(step: Array, gap: Array) -> Array:
    """Steps of ln x (C, n) where they are longer than the totals are apart: long ones upwards are
    taken in x, downwards to a longest."""
    reach = np.abs(gap).max(axis=0)
    over = np.abs(step) - reach
    if not (over > 1.0).any():
        return step
    more = np.where(step > 0, np.log1p(np.maximum(over, 0.0)), np.minimum(over, _LONGEST))
    return np.where(over > 0, np.copysign(reach + more, step), step)


def _inverted(matrix: Array) -> Array:
    """Inverses of symmetric positive matrices (C, C, n), by Gauss and Jordan in place if many."""
    if matrix.shape[2] < _MANY:
        try:
            found = np.linalg.inv(matrix.transpose(2, 0, 1))
            return np.ascontiguousarray(found.transpose(1, 2, 0))
        except np.linalg.LinAlgError:
            pass
    for k in range(len(matrix)):
        pivot = 1.0 / matrix[k, k]
        column = matrix[:, k].copy()
        row = matrix[k] * pivot
        matrix -= column[:, None] * row
        matrix[:, k] = -column * pivot
        matrix[k] = row
        matrix[k, k] = pivot
    return matrix
