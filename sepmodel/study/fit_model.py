"""The model of a fit: shake-outs predicted forward from their feeds, group by group.

A group is the rows that hold the same elements; each is solved as one stack of contacts. Every
laboratory has a level (decades of K, common to all metals); the levels add to zero.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry import activity as activities
from sepmodel.chemistry import exchange_set
from sepmodel.chemistry.cation_exchange import C_STANDARD, CationExchange
from sepmodel.chemistry.contact import Contact, contact
from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.species import CHARGES
from sepmodel.study.shakeout import ShakeOuts

Array = NDArray[np.float64]
LOSSES = ("linear", "soft_l1")
LN10 = math.log(10)


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """How a fit is done.

    ``relative_error``: standard deviation of one analysis, feed and raffinate alike, independent;
    None takes the book's.
    ``dimers``: dimers a metal of charge z takes, by element (z where not named).
    ``counter_ion``: the saponified tests' cation; its log10 K is the book's, not fitted.
    ``scaled``: enlarge the covariance where the misfit exceeds the stated analytical error.
    """

    activity: str = "ideal"
    relative_error: float | None = None
    loss: str = "linear"
    offsets: bool = True
    scaled: bool = True
    dimers: Mapping[str, float] = field(default_factory=dict)
    counter_ion: str = "Na"


def check(options: Options, book: Book) -> None:
    """InputError for options nobody can fit with, all at once."""
    problems = []
    if options.counter_ion not in exchange_set.counter_ions(book):
        problems.append(
            Problem(
                message="no exchange constant of this counter-ion",
                key="counter_ion",
                value=options.counter_ion,
                expected=", ".join(exchange_set.counter_ions(book)),
            )
        )
    if options.loss not in LOSSES:
        problems.append(
            Problem(message="unknown loss", value=options.loss, expected=", ".join(LOSSES))
        )
    if options.relative_error is None or not 0 < options.relative_error < 1:
        problems.append(
            Problem(
                message="the relative error of an analysis lies between 0 and 1",
                value=options.relative_error,
            )
        )
    if problems:
        raise InputError(problems)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Group:
    """The rows of a table that hold the same elements, with the chemistry that predicts them."""

    rows: NDArray[np.intp]
    columns: tuple[int, ...]
    components: tuple[str, ...]
    charges: Array
    dimers: Array
    fixed_log_k: Array
    activity: activities.ActivityModel


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Forward:
    """The table split into groups, and the level of every laboratory."""

    table: ShakeOuts
    options: Options
    book: Book
    groups: tuple[Group, ...]
    names: tuple[str, ...]

    @classmethod
    def build(cls, table: ShakeOuts, options: Options, book: Book) -> Forward:
        """Groups of a table; reads the constants the chemistry needs."""
        present = table.feed > 0
        soaped = table.saponification > 0
        kinds = sorted({(*map(bool, p), bool(s)) for p, s in zip(present, soaped, strict=True)})
        groups = []
        for kind in kinds:
            same = np.all(present == np.array(kind[:-1]), axis=1) & (soaped == kind[-1])
            columns = tuple(int(i) for i in np.flatnonzero(kind[:-1]))
            metals = tuple(table.elements[i] for i in columns)
            ions = (*metals, options.counter_ion) if kind[-1] else metals
            z = np.array([CHARGES[ion] for ion in ions], dtype=float)
            n = np.array([options.dimers.get(ion, CHARGES[ion]) for ion in ions], dtype=float)
            fixed = np.zeros(len(ions))
            if kind[-1]:
                log_k, n[-1] = exchange_set.soap(options.counter_ion, book, options.activity)
                fixed[-1] = log_k
            groups.append(
                Group(
                    rows=np.flatnonzero(same),
                    columns=columns,
                    components=ions,
                    charges=z,
                    dimers=n,
                    fixed_log_k=fixed,
                    activity=activities.build(options.activity, ("H", *ions, "Cl"), book),
                )
            )
        labs = table.laboratories[:-1] if options.offsets else ()
        names = (*table.elements, *(f"level of {lab}" for lab in labs))
        return cls(table=table, options=options, book=book, groups=tuple(groups), names=names)

    def log_k(self, theta: Array) -> Array:
        """log10 K of every row and element, laboratory level included, shape (N, E)."""
        count = len(self.table.elements)
        level = levels(self.table, self.options, theta[count:])
        at = [self.table.laboratories.index(lab) for lab in self.table.laboratory]
        result: Array = theta[:count] + level[at][:, None]
        return result

    def solve(self, group: Group, log_k: Array, feed: Array) -> Contact:
        """Contacts of a group's rows; ``log_k`` and ``feed`` have shape (..., rows, metals)."""
        t, rows = self.table, group.rows
        shape = np.broadcast_shapes(log_k.shape, feed.shape)
        ln_k = np.broadcast_to(log_k, shape) * LN10
        aq = np.broadcast_to(feed, shape)
        extra = len(group.components) - shape[-1]
        org = np.zeros((*shape[:-1], len(group.components)))
        if extra:
            ln_k = np.concatenate(
                [ln_k, np.full((*shape[:-1], 1), group.fixed_log_k[-1] * LN10)], axis=-1
            )
            aq = np.concatenate([aq, np.zeros((*shape[:-1], 1))], axis=-1)
            charge = group.charges[-1]
            org[..., -1] = (t.saponification * t.extractant)[rows] / charge
        return contact(
            CationExchange(log_k=ln_k, charge=group.charges, dimers=group.dimers),
            feed_aq=aq,
            acid=t.acid[rows],
            dimer=t.extractant[rows] / 2,
            feed_org=org,
            phase_ratio=t.phase_ratio[rows],
            activity=group.activity,
            components=group.components,
        )


def levels(table: ShakeOuts, options: Options, free: Array) -> Array:
    """Level of every laboratory; they add to zero."""
    count = len(table.laboratories)
    if not options.offsets or count == 1:
        return np.zeros(count)
    return np.append(free, -free.sum())


def predict(forward: Forward, theta: Array) -> dict[str, Array]:
    """What the model says of every row: log10 D (N, E), pH, loading, ionic strength (N,)."""
    t = forward.table
    log_k = forward.log_k(theta)
    log_d = np.full(t.feed.shape, np.nan)
    pH, loading, strength = (np.full(len(t), np.nan) for _ in range(3))
    for group in forward.groups:
        own, rows = np.array(group.columns), group.rows
        found = forward.solve(group, log_k[np.ix_(rows, own)], t.feed[np.ix_(rows, own)])
        log_d[np.ix_(rows, own)] = found.log_d[..., : len(own)] / LN10
        pH[rows] = found.pH
        loading[rows] = found.conc_org[..., : len(own)].sum(axis=-1) / t.extractant[rows]
        ions = found.conc_aq @ group.charges**2 + found.proton
        strength[rows] = (ions + found.conc_aq @ group.charges + found.proton) / 2 / C_STANDARD
    return {"log_d": log_d, "pH": pH, "loading": loading, "ionic_strength": strength}
