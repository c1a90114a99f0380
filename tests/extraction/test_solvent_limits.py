"""Impurities, soap and its constant, separation factors from mixtures, named warnings."""

import doctest

import numpy as np
import pytest

from sepmodel.chemistry import exchange_set
from sepmodel.data import Book
from sepmodel.errors import InputError
from sepmodel.extraction import isotherms, limits, saponification, shake, stepping
from sepmodel.extraction.circuit import CircuitInputs, Inlet, Section
from sepmodel.extraction.circuit import solve as solve_circuit
from sepmodel.extraction.isotherms import Solvent

PC88A = "extractants/li1987-pc88a-ideal"
SETS = (PC88A, "extractants/d2ehpa-chloride", "extractants/cyanex272-chloride")
ONE_MOLAR = Solvent(extractant=1000.0)


@pytest.mark.parametrize("module", [limits, saponification, shake, stepping, isotherms])
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("set_id", SETS)
def test_impurities_are_estimates_with_a_stoichiometry_of_their_own(set_id):
    book = Book()
    loaded = exchange_set.load(set_id, ("Nd", "Fe", "Al", "Ca"), book)
    used = {key: c for key, c in book.used.items() if "impurities" in key}
    assert {key.split(":")[1] for key in used} >= {"Fe", "Al", "Ca", "dimers-Fe"}
    assert all(
        c.provenance == "estimated" and c.low <= c.value < c.high + 1e-9 for c in used.values()
    )
    assert loaded.model.dimers[1] != loaded.model.charge[1]  # 2.5 dimers for three charges
    found = isotherms.shake(loaded, {"Nd": 50.0, "Fe": 5.0, "Al": 5.0, "Ca": 20.0}, 30.0, ONE_MOLAR)
    assert found.closure < 1e-10
    # Iron before neodymium before aluminium before calcium, at any of the three acids.
    assert np.all(np.diff(found.log_d[[1, 0, 2, 3]]) < 0)


def test_impurities_take_room_and_acid_from_the_rare_earths():
    loaded = exchange_set.load(PC88A, ("Nd", "Fe"), Book())
    clean = isotherms.shake(loaded, {"Nd": 50.0}, 30.0, ONE_MOLAR)
    dirty = isotherms.shake(loaded, {"Nd": 50.0, "Fe": 30.0}, 30.0, ONE_MOLAR)
    assert dirty.conc_org[0] < 0.8 * clean.conc_org[0]
    protons = 30.0 + 3 * (dirty.conc_org[0] + dirty.conc_org[1])
    assert dirty.proton == pytest.approx(float(protons), rel=1e-10)


def test_impurities_on_another_basis_are_refused():
    with pytest.raises(InputError, match="another activity basis"):
        exchange_set.load(exchange_set.DEFAULT, ("Nd", "Fe"), Book())
    with pytest.raises(InputError, match="no constant of"):
        exchange_set.load(PC88A, ("Nd", "Mg"), Book())


def test_impurities_in_a_circuit():
    """The kernel takes 2.5 dimers for three charges: same answer as contacts swept by hand."""
    names = ("Nd", "Fe", "Ca")
    loaded = exchange_set.load(PC88A, names, Book())
    feed = np.array([60.0, 4.0, 20.0])
    found = solve_circuit(
        CircuitInputs(
            components=names,
            model=loaded.model,
            charge=loaded.model.charge,
            sections=(Section(name="extraction", stages=4),),
            organic_flow=1.0,
            organic_conc=np.zeros(3),
            dimer=500.0,
            inlets=(
                Inlet(name="feed", section="extraction", stage=4, flow=1.0, conc=feed, acid=20.0),
            ),
        )
    )
    from sepmodel.chemistry.contact import contact

    org = np.zeros((5, 3))
    for _ in range(300):
        aq, acid = feed, 20.0
        for k in reversed(range(4)):
            out = contact(loaded.model, feed_aq=aq, acid=acid, dimer=500.0, feed_org=org[k])
            org[k + 1], aq, acid = out.conc_org, out.conc_aq, float(out.proton)
    np.testing.assert_allclose(found.conc_aq[0], aq, rtol=1e-7)
    np.testing.assert_allclose(found.conc_org[-1], org[4], rtol=1e-7)


def test_warnings_are_named_and_said_once():
    loaded = exchange_set.load(PC88A, ("Dy", "Fe", "Al"), Book(), counter_ion="Na")
    solvent = Solvent(extractant=1000.0, saponification=0.45)
    shares = {"Dy": 0.9, "Fe": 0.05, "Al": 0.05}
    curve = isotherms.loading_isotherm(loaded, shares, [1.0, 200.0, 1000.0], 1.0, solvent)
    codes = [w.code for w in isotherms.state_warnings(curve, solvent, Book(), phase_ratio=30)]
    assert codes == [
        "loading",
        "third-phase",
        "phase-ratio",
        "iron-stripping",
        "aluminium-slow",
        "hydrolysis",
    ]
    gel = limits.loading_warnings(0.17, Solvent(extractant=1.0, saponification=0.7), Book())
    assert [w.code for w in gel] == ["loading", "third-phase", "polymers", "gel"]
    assert limits.loading_warnings(0.05, ONE_MOLAR, Book()) == []


def test_the_soap_constant_moves_the_pH_only_where_soap_is_in_excess():
    book = Book()
    loaded = exchange_set.load(PC88A, ("Nd",), book, counter_ion="Na")
    solvent = Solvent(extractant=1000.0, saponification=0.35)
    full = isotherms.soap_sensitivity(loaded, {"Nd": 150.0}, 10.0, solvent, book)
    spare = isotherms.soap_sensitivity(loaded, {"Nd": 50.0}, 10.0, solvent, book)
    assert {(c.log_k, c.dimers) for c in full} == {
        (k, n) for k in (-6.0, -5.0, -4.0) for n in (0.5, 1.0)
    }
    assert np.ptp([c.pH for c in full]) < 0.05
    assert np.ptp([c.pH for c in spare]) > 1.5
    # Beyond half of the extractant only the soap of half a dimer exists.
    rich = Solvent(extractant=1000.0, saponification=0.7)
    half = exchange_set.load(
        PC88A, ("Nd",), book.with_values({"extractants/soap:dimers-Na": 0.5}), counter_ion="Na"
    )
    only = isotherms.soap_sensitivity(half, {"Nd": 150.0}, 10.0, rich, book)
    assert {c.dimers for c in only} == {0.5}


@pytest.mark.parametrize("ion", ["Na", "NH4", "Ca", "Mg"])
def test_every_base_titrates(ion):
    """Base added = soap formed while the water stays acid; the pH rises."""
    loaded = exchange_set.load(PC88A, ("Nd",), Book(), counter_ion=ion)
    base = np.linspace(10, 300, 8)
    curve = isotherms.titration(loaded, 1000.0, base, salt=500.0)
    np.testing.assert_allclose(curve.saponification, base / 1000, atol=2e-3)
    assert np.all(np.diff(curve.pH) > 0)
    with pytest.raises(InputError, match="beyond what the soap"):
        isotherms.titration(loaded, 1000.0, [2000.0], salt=500.0)


def test_mixture_factors_replace_ratios_of_single_metals():
    plain = exchange_set.load(PC88A, ("La", "Ce", "Pr", "Nd"), Book())
    mixed = isotherms.with_factors(plain, "separation_factors/pc88a-hcl", "Nd", Book())
    assert mixed.log_k["Nd"] == plain.log_k["Nd"]
    found = isotherms.shake(mixed, dict.fromkeys(mixed.components, 25.0), 10.0, ONE_MOLAR)
    assert np.exp(found.log_d[1] - found.log_d[0]) == pytest.approx(2.2)
    assert np.exp(found.log_d[3] - found.log_d[2]) == pytest.approx(1.4)
    with pytest.raises(InputError, match="level"):
        isotherms.with_factors(plain, "separation_factors/pc88a-hcl", "Dy", Book())


def test_half_extraction_by_search_agrees_with_the_closed_form_and_serves_pitzer():
    """One complex of one acid written as the general form; and a set on Pitzer activities."""
    from dataclasses import replace

    from sepmodel.chemistry import closing

    plain = exchange_set.load(PC88A, ("Nd", "Dy"), Book())
    general = replace(plain, model=closing._as_complexes(plain.model))
    closed, searched = (isotherms.half_extraction(c, 1000.0) for c in (plain, general))
    for metal in closed:
        assert searched[metal] == pytest.approx(closed[metal], abs=1e-6)
    default = exchange_set.load(exchange_set.DEFAULT, ("Nd", "Dy"), Book())
    found = isotherms.half_extraction(default, 1000.0)
    # The same measurements, another basis: -log [H+] of D = 1 within the level of the laboratories.
    assert found["Nd"] == pytest.approx(closed["Nd"], abs=0.2)


def test_soap_is_of_the_basis_of_its_metals():
    """Pitzer has its own estimates of Na and NH4; where a basis has none, soap is refused."""
    book = Book()
    found = exchange_set.load(exchange_set.DEFAULT, ("Nd",), book, counter_ion="Na")
    assert found.log_k["Na"] == pytest.approx(-4.9)
    assert "extractants/soap-pitzer:log-K-Na" in book.used
    with pytest.raises(InputError, match="pitzer activities"):
        exchange_set.load(exchange_set.DEFAULT, ("Nd",), Book(), counter_ion="Ca")
    with pytest.raises(InputError, match="sit activities"):
        exchange_set.soap("Na", Book(), "sit")
