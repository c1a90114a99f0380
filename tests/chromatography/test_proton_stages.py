"""Stages that carry protons and buffer: conservation, independence, and other code."""

from dataclasses import replace

import numpy as np
import pytest

from sepmodel.chemistry import speciation
from sepmodel.chromatography import affinity, proton_stages, speciated, stages
from sepmodel.chromatography.binding import C_STANDARD, pair_law
from sepmodel.chromatography.cells import Cells
from sepmodel.data import Book

NAMES = ("La", "Pr", "Nd", "Gd", "Dy")
SHARES = np.array([0.05, 0.15, 0.6, 0.12, 0.08])
# Loads, elution pH, rare earth of the liquor, buffer of it, pH of it.
CASES = np.array(
    [[0.75, 2.1, 10.0, 33.0, 5.5], [0.5, 2.3, 1.0, 0.0, 4.0], [0.9, 2.0, 5.0, 20.0, 5.0]]
)


def beds(count, book=None):
    book = book or Book()
    run = stages.operation(book, protons=True)
    bed = affinity.bed_of(pair_law(NAMES, book), run, book, "acetate", 10.0)
    return bed, bed.stack(count)


def marched(cases, size=None, most=4.0):
    load, pH, conc, buffer, acid = cases.T
    bed, stack = beds(len(cases))
    if size is not None:
        stack = replace(stack, plates=np.full(len(cases), size))
    liquor = proton_stages.liquor_at(stack, conc[:, None] * SHARES, buffer, acid)
    return bed, proton_stages.march(
        stack,
        liquor,
        load * bed.law.capacity / conc,
        np.full(len(cases), 2.0),
        np.ones(len(cases)),
        C_STANDARD * 10.0**-pH,
        most,
    )


def test_beds_march_as_the_cells_of_the_transport_engine():
    """The same steps with the general equilibrium of the engine: metals, acetate, H, protein."""
    bed, own = marched(CASES)
    run = bed.run
    book = Book()
    for k, (load, pH, conc, buffer, acid) in enumerate(CASES[:2]):
        ligands = ("acetate",) if buffer else ()
        of, known = speciated.chemistry(bed.law, NAMES, ligands, run.liquid, book)
        fed = np.append(conc * SHARES, [buffer] if buffer else [])
        none = np.zeros_like(fed)
        start, free = speciated.amounts_at(of, none, 1.0)
        cells = Cells(of=of, log_free=np.tile(free, (run.plates, 1)))
        held = np.tile(start, (run.plates, 1))
        per = run.plates / run.liquid
        out = []
        for volume, what, acidity, least in (
            (load * bed.law.capacity / conc, fed, acid, 2 * run.plates),
            (2.0, none, 3.0, 0),
            (4.0, none, pH, 0),
        ):
            steps = max(int(np.ceil(2 * volume * per * (1 - 1e-8))), least)
            each = volume / steps if least else (0.5 / per if volume == 4.0 else volume / steps)
            enter = np.append(what, speciation.solve(known, what, acidity).total("H"))
            gone = np.zeros(len(NAMES))
            for _ in range(steps):
                moved = np.minimum(cells.settle(held) * run.liquid, held) * each * per
                held = held - moved
                held[1:] += moved[:-1]
                held[0] += enter * each * run.plates
                gone = gone + moved[-1, : len(NAMES)] / run.plates
            out.append(gone)
        capacity = bed.law.capacity
        np.testing.assert_allclose(own.lost[k], out[0] + out[1], atol=2e-3 * capacity)
        last = own.eluate[k, ~np.isnan(own.eluate[k, :, 0])][-1]
        np.testing.assert_allclose(last, out[2], atol=4e-3 * capacity)


def test_a_bed_alone_is_itself_among_others():
    _, together = marched(np.tile(CASES, (5, 1)))
    for k, case in enumerate(CASES):
        _, alone = marched(case[None])
        for name in ("lost", "eluate", "acid", "least_pH"):
            mine, theirs = getattr(alone, name)[0], getattr(together, name)[k]
            theirs = theirs[: len(mine)] if name in ("eluate", "acid") else theirs
            np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-13)


def test_more_cells_of_others_change_nothing():
    """Beds of different length march side by side, the shorter ones padded."""
    bed, stack = beds(2)
    stack = replace(stack, plates=np.array([8, 13]))
    load, pH, conc, buffer, acid = np.tile(CASES[:1], (2, 1)).T
    liquor = proton_stages.liquor_at(stack, conc[:, None] * SHARES, buffer, acid)
    volume = load * bed.law.capacity / conc
    elution = C_STANDARD * 10.0**-pH
    both = proton_stages.march(stack, liquor, volume, np.full(2, 2.0), np.ones(2), elution, 3.0)
    for k, size in enumerate((8, 13)):
        _, alone = marched(CASES[:1], size, most=3.0)
        count = int(np.sum(~np.isnan(alone.eluate[0, :, 0])))
        np.testing.assert_allclose(both.lost[k], alone.lost[0], rtol=1e-9, atol=1e-13)
        np.testing.assert_allclose(
            both.eluate[k, :count], alone.eluate[0, :count], rtol=1e-9, atol=1e-13
        )


def test_what_enters_is_eluted_or_left():
    bed, own = marched(CASES, most=30.0)
    fed = SHARES * (CASES[:, 0] * bed.law.capacity)[:, None]
    last = np.array([e[~np.isnan(e[:, 0])][-1] for e in own.eluate])
    assert np.all(last + own.lost <= fed * (1 + 1e-9))
    # The acid that leaves is what entered less 2.5 protons for each metal set free.
    acid = np.array([a[~np.isnan(a)][-1] for a in own.acid])
    assert np.all(acid < 30.0 * C_STANDARD * 10.0 ** -CASES[:, 1] + 1)
    entered = 30.0 * C_STANDARD * 10.0 ** -CASES[:, 1]
    taken = 2.5 * last.sum(axis=1)
    np.testing.assert_allclose(acid, entered - taken, rtol=0.05)


def test_a_buffer_keeps_the_load_from_acidifying():
    _, own = marched(CASES)
    bare = CASES.copy()
    bare[:, 3] = 0.0
    _, without = marched(bare)
    assert without.least_pH[0] < 2.95 < own.least_pH[0]
    assert own.lost[0, -1] < 1e-2 * without.lost[0, -1]


def test_more_buffer_than_metal_is_what_the_liquor_says():
    _, stack = beds(1)
    made = proton_stages.liquor_at(
        stack, np.zeros((1, len(NAMES))), np.array([10.0]), np.array([4.7572])
    )
    assert made.protons[0] == pytest.approx(5.0 + 1000 * 10**-4.7572, rel=1e-6)
