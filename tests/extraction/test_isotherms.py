"""Isotherms, titration, steps, and the refusals that go with constants."""

import doctest

import numpy as np
import pytest

from sepmodel.chemistry import exchange_set
from sepmodel.data import Book
from sepmodel.errors import InputError
from sepmodel.extraction import isotherms
from sepmodel.extraction.isotherms import Solvent

IDEAL = "extractants/li1987-pc88a-ideal"
LIGHT = exchange_set.load(IDEAL, ("Pr", "Nd", "Dy"), Book())
SOAPED = exchange_set.load(IDEAL, ("Nd",), Book(), counter_ion="Na")
ONE_MOLAR = Solvent(extractant=1000.0)


def test_doctests():
    assert doctest.testmod(isotherms).failed == 0
    assert doctest.testmod(exchange_set).failed == 0


def test_loading_isotherm_rises_to_its_limit():
    totals = np.geomspace(0.01, 4000, 60)
    curve = isotherms.loading_isotherm(LIGHT, {"Dy": 1.0}, totals, 1.0, ONE_MOLAR)
    assert np.all(np.diff(curve.loading) > 0)
    assert curve.loading[-1] < 1 / 6
    warned = isotherms.state_warnings(curve, ONE_MOLAR, Book())
    assert [w.code for w in warned] == ["loading"]
    assert "phase-ratio" in [
        w.code for w in isotherms.state_warnings(curve, ONE_MOLAR, Book(), phase_ratio=171)
    ]
    lines = curve.to_csv().splitlines()
    assert len(lines) == 61
    assert "Dy organic [mol/m^3]" in lines[0]


def test_pH50_is_where_half_is_extracted():
    """At trace loading and O/A 1, D = 1 at the closed-form pH."""
    for metal, pH50 in isotherms.half_extraction(LIGHT, 1000.0).items():
        acid = 1000 * 10**-pH50
        curve = isotherms.pH_curve(LIGHT, {metal: 1e-6}, np.array([acid]), ONE_MOLAR)
        assert curve.log_d[0, LIGHT.components.index(metal)] == pytest.approx(0, abs=1e-6)


def test_pH_slope_of_an_acid_solvent_is_three():
    acids = np.geomspace(30, 300, 5)
    curve = isotherms.pH_curve(LIGHT, {"Nd": 1e-6}, acids, ONE_MOLAR)
    assert np.polyfit(curve.pH, curve.log_d[:, 1], 1)[0] == pytest.approx(3, abs=1e-6)
    np.testing.assert_allclose(curve.separation_factor("Nd", "Pr"), 10 ** (2.418 - 2.148))


def test_steps_agree_with_a_chain_of_contacts():
    """The construction's stages, marched counter-currently as contacts, give its raffinate."""
    found = isotherms.steps(LIGHT, "Dy", 50.0, 200.0, ONE_MOLAR, raffinate=0.5, phase_ratio=1.0)
    assert 2 <= found.stages <= 6
    from sepmodel.chemistry.contact import contact

    # Stage by stage from the feed: organic of the next stage in, aqueous of the last one in.
    at = LIGHT.components.index("Dy")
    aqueous, acid = found.aqueous[0], 200.0
    for stage in range(found.stages - 1):
        org = np.zeros(3)
        org[at] = found.organic[stage + 1]
        feed = np.zeros(3)
        feed[at] = aqueous
        out = contact(LIGHT.model, feed_aq=feed, acid=acid, dimer=500.0, feed_org=org)
        assert out.conc_aq[at] == pytest.approx(found.aqueous[stage + 1], rel=1e-8)
        aqueous, acid = float(out.conc_aq[at]), float(out.proton)


def test_steps_refuse_a_pinch_and_soap():
    with pytest.raises(InputError, match="pinch"):
        isotherms.steps(LIGHT, "Nd", 100.0, 10.0, ONE_MOLAR, raffinate=0.1, phase_ratio=0.5)
    with pytest.raises(InputError, match="acid solvent"):
        isotherms.steps(
            SOAPED,
            "Nd",
            100.0,
            10.0,
            Solvent(extractant=1000.0, saponification=0.3),
            raffinate=1.0,
            phase_ratio=1.0,
        )


def test_titration_counts_every_base():
    """Sodium the solvent holds = base added, as long as the water stays acid or neutral."""
    base = np.linspace(5, 450, 40)
    curve = isotherms.titration(SOAPED, 1000.0, base, salt=500.0)
    np.testing.assert_allclose(curve.saponification, base / 1000, atol=1e-3)
    assert np.all(np.diff(curve.pH) > 0)
    # Half-saponified (a quarter of the formal extractant): h = K d x / y with d = y.
    middle = isotherms.titration(SOAPED, 1000.0, [250.0], salt=1000.0)
    assert middle.pH[0] == pytest.approx(5.0, abs=0.01)


def test_saponification_beyond_the_stoichiometry_is_refused():
    with pytest.raises(InputError, match="beyond the soap's stoichiometry"):
        isotherms.shake(SOAPED, {"Nd": 50.0}, 1.0, Solvent(extractant=1000.0, saponification=0.7))
    half = Book().with_values({"extractants/soap:dimers-Na": 0.5})
    allowed = exchange_set.load(IDEAL, ("Nd",), half, counter_ion="Na")
    found = isotherms.shake(
        allowed, {"Nd": 50.0}, 1.0, Solvent(extractant=1000.0, saponification=0.7)
    )
    assert found.closure < 1e-10


def test_reversed_series_are_refused_with_the_pair_named():
    swapped = Book().with_values({f"{IDEAL}:Nd": -2.6})
    with pytest.raises(InputError, match=r"Nd/Pr = 0\.658"):
        exchange_set.load(IDEAL, ("Pr", "Nd"), swapped)
    exchange_set.load(IDEAL, ("Pr", "Nd"), swapped, purpose="code regression")
    low_yttrium = Book().with_values({f"{IDEAL}:Y": 0.1})
    with pytest.raises(InputError, match="Y/Dy"):
        exchange_set.load(IDEAL, ("Dy", "Y"), low_yttrium)


def test_sets_of_another_kind_are_refused():
    with pytest.raises(InputError, match="activity basis"):
        exchange_set.load("extractants/pc88a", ("Nd",), Book())
    with pytest.raises(InputError, match="has no constant of"):
        exchange_set.load(IDEAL, ("Lu",), Book())
    with pytest.raises(InputError, match="counter-ion"):
        exchange_set.load(IDEAL, ("Nd",), Book(), counter_ion="K")
    with pytest.raises(InputError, match="needs a counter-ion"):
        isotherms.shake(LIGHT, {"Nd": 1.0}, 1.0, Solvent(extractant=1000.0, saponification=0.2))


@pytest.mark.parametrize(
    "set_id",
    ["li1987-pc88a-ideal", "li1987-pc88a-pitzer", "d2ehpa-chloride", "cyanex272-chloride"],
)
def test_every_shipped_set_has_a_credible_order(set_id):
    set_id = f"extractants/{set_id}"
    metals = [n for n in Book().names(set_id) if not n.startswith("dimers")]
    loaded = exchange_set.load(set_id, metals, Book())
    assert exchange_set.reversals(loaded.log_k) == []


def test_extractants_stand_in_their_order_of_acidity():
    """D2EHPA > PC88A > Cyanex 272 for Nd, at any acid."""
    found = [
        float(
            isotherms.shake(
                exchange_set.load(f"extractants/{name}", ("Nd",), Book()),
                {"Nd": 10.0},
                20.0,
                ONE_MOLAR,
            ).log_d[0]
        )
        for name in ("d2ehpa-chloride", "li1987-pc88a-ideal", "cyanex272-chloride")
    ]
    assert found == sorted(found, reverse=True)


def test_separation_maps():
    """Constant on the ideal basis; with Pitzer activities Nd/Pr falls as the solvent fills."""
    arguments = ("Nd", "Pr", {"Nd": 3, "Pr": 1}, [10.0, 100.0, 300.0], [5.0, 50.0], ONE_MOLAR)
    factor, pH, loading = isotherms.separation_map(LIGHT, *arguments)
    assert factor.shape == pH.shape == loading.shape == (3, 2)
    np.testing.assert_allclose(factor, 10 ** (2.418 - 2.148))
    assert np.all(np.diff(loading, axis=0) > 0)
    other = exchange_set.load("extractants/li1987-pc88a-pitzer", ("Pr", "Nd"), Book())
    bent, _, _ = isotherms.separation_map(other, *arguments)
    assert 1.7 < bent.min() < bent.max() < 10 ** (1.528 - 1.243)
    assert np.all(np.diff(bent, axis=0) < 0)


def test_a_circuit_refuses_constants_of_another_basis():
    from sepmodel.case import parse_settings
    from sepmodel.run import load, run

    other = parse_settings(['model.set="extractants/li1987-pc88a-pitzer"'])
    with pytest.raises(InputError, match="another activity basis"):
        run(load("magnet-circuit", other))
