"""Lanmodulin on the transport engine: the law, its slopes, protons that balance, known limits."""

import numpy as np
import pytest

import sepmodel
from sepmodel.chromatography.binding import bound, pair_law
from sepmodel.chromatography.protein import proton_concentration, proton_pair_law
from sepmodel.data import Book
from sepmodel.errors import InputError

NAMES = ("Nd", "Dy")
LIQUID = 0.94


def law():
    return proton_pair_law(pair_law(NAMES, Book()), NAMES, liquid=LIQUID)


def points(seed=0, count=20):
    rng = np.random.default_rng(seed)
    conc = 10.0 ** rng.uniform(-4, 1, (count, 3))
    conc[:, 2] = proton_concentration(rng.uniform(1.2, 6.0, count))
    return conc


def test_metals_bind_as_by_the_law_of_the_stages():
    conc = points()
    pH = 3 - np.log10(conc[:, 2])
    mine = law().loading(conc)[:, :2] * (1 - LIQUID)
    assert mine == pytest.approx(bound(conc[:, :2], pH, pair_law(NAMES, Book())), rel=1e-10)


def test_slopes_are_derivatives():
    own, conc = law(), points(1)
    slopes = own.slopes(conc)
    for j in range(3):
        moved = conc.astype(complex)
        moved[:, j] += 1e-30j
        slope = own.loading(moved).imag / 1e-30
        scale = np.abs(slopes[:, :, j]).max(axis=1, keepdims=True)
        # Where the protein is full, terms of the size of q/c cancel: their rounding is allowed.
        rounding = 1e-14 * own.loading(conc).max(axis=1, keepdims=True) / conc[:, j : j + 1]
        assert np.all(np.abs(slope - slopes[:, :, j]) < 1e-10 * scale + rounding)


def test_a_full_protein_has_given_up_its_protons():
    own = law()
    empty = own.loading(np.array([0.0, 0.0, 10.0]))
    full = own.loading(np.array([1e3, 0.0, 10.0]))
    assert full[0] == pytest.approx(2 * own.protein, rel=1e-3)
    assert empty[2] > 100 * full[2]
    assert np.all(own.loading(np.array([-1e-3, -1e-3, 1.0]))[:2] == 0)


def test_a_metal_the_protein_does_not_know_passes():
    own = proton_pair_law(pair_law(("Nd",), Book()), ("Nd", "Mg"), liquid=LIQUID)
    q = own.loading(np.array([0.1, 50.0, 1.0]))
    assert q[1] == 0
    assert q[0] == pytest.approx(own.loading(np.array([0.1, 0.0, 1.0]))[0])


def column(**changes):
    return sepmodel.run(
        "lanmodulin-nd-dy",
        {
            "model.transport": "dispersive",
            "numerics": {"scheme": "limited", "cells": 60},
            **changes,
        },
    )


def test_the_case_closes_for_metals_and_protons_and_stands_beside_the_stages():
    result = column()
    assert result.balance["max"] < 1e-9
    assert set(result.balance["components"]) == {"Nd", "Dy", "H"}
    recovered = sum(s.recovery["Nd"] for n, s in result.streams.items() if n != "feed")
    assert recovered == pytest.approx(1.0, abs=1e-9)
    assert any("less that of equilibrium stages" in name for name in result.quantities)
    # Loading at pH 3 releases protons: the effluent is more acid than the feed for a while.
    assert result.profiles["pH_out"].values.min() < 1.6
    load = result.profiles["pH_out"].values[:100]
    assert 2.7 < load.min() < 2.95


def test_rates_and_cells_beyond_doubt_change_nothing():
    """Twice the cells and ten times the rate move the pools by less than a percent."""
    coarse = column().streams["Nd"].recovery["Nd"]
    fine = column(**{"numerics.cells": 120}).streams["Nd"].recovery["Nd"]
    fast = column(**{"column.rate": "10 1/s"}).streams["Nd"].recovery["Nd"]
    assert abs(fine - coarse) < 0.01
    assert abs(fast - coarse) < 0.02


def test_capacity_decides_when_a_single_metal_breaks_through():
    result = sepmodel.run(
        {
            "schema": 1,
            "kind": "column",
            "name": "breakthrough",
            "model": {
                "transport": "dispersive",
                "binding": "pair-law",
                "set": "proteins/lanmodulin-mex",
            },
            "column": {"length": "40 mm", "diameter": "5.6 mm"},
            "step": [
                {
                    "name": "load",
                    "flow": "0.5 mL/min",
                    "bed_volumes": 45,
                    "pH": 3.0,
                    "composition": {"Nd": "0.2 mmol/L"},
                }
            ],
            "pool": [{"product": "Nd", "steps": ["load"]}],
            "numerics": {"scheme": "limited", "cells": 60},
        }
    )
    profile = result.profiles["chromatogram"]
    half = np.interp(0.1, profile.values[:, 0], np.array(profile.axes["bed_volume"]))
    held = bound(np.array([0.2]), 3.0, pair_law(("Nd",), Book()))[0]
    assert half == pytest.approx((held + LIQUID * 0.2) / 0.2, rel=0.01)


def test_numerics_belong_to_transport():
    with pytest.raises(InputError, match="only dispersive transport has numerics"):
        sepmodel.load("lanmodulin-nd-dy", {"numerics": {"scheme": "limited"}})
