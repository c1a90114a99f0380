"""Case files of kind isotherm: what comes out, its figures, and what is refused."""

import numpy as np
import pytest

from sepmodel import plot
from sepmodel.chemistry import exchange_set
from sepmodel.data import Book, models_dir
from sepmodel.errors import InputError
from sepmodel.extraction import isotherms
from sepmodel.extraction.isotherms import Solvent
from sepmodel.run import load, run

STARTER = models_dir() / "starters" / "isotherm.toml"
IDEAL = "extractants/li1987-pc88a-ideal"


def base(**more):
    return {
        "schema": 1,
        "kind": "isotherm",
        "name": "x",
        "components": ["Nd", "Dy"],
        "model": {"set": IDEAL},
        "organic": {"extractant": "1.0 mol/L"},
        "feed": {"composition": {"Nd": "50 mmol/L", "Dy": "10 mmol/L"}, "acid": "0.1 mol/L"},
        **more,
    }


LOADING = {"low": "1 mmol/L", "high": "0.2 mol/L", "points": 5}
ACIDITY = {"low": 0.0, "high": 2.0, "points": 9}


def test_the_starter_gives_every_curve_and_its_figures():
    result = run(load(STARTER))
    assert {"isotherm_aqueous", "extracted", "titration", "steps_aqueous"} <= set(result.profiles)
    assert result.quantities["pH of D = 1, trace Nd"]["value"] == pytest.approx(1.02, abs=0.01)
    assert result.quantities["stages (single solute)"]["value"] >= 3
    codes = {w.code for w in result.warnings}
    assert {"iron-stripping", "single-solute"} <= codes
    assert result.estimated["count"] >= 4  # iron, its dimers, the soap
    assert result.balance["max"] < 1e-10
    drawn = plot.figures(result)
    assert {"loading.png", "extraction.svg", "titration.png", "steps.svg"} <= set(drawn)
    assert "profile_extracted.csv" in result.csv_files()


def test_a_mapped_factor_falls_with_loading_on_pitzer_activities():
    result = run("pc88a-isotherms")
    factor = result.profiles["separation_factor"].values
    assert 1.4 < factor.min() < factor.max() < 1.75
    assert np.all(factor[-1] < factor[0])
    assert {"factor.png", "factor.svg"} <= set(plot.figures(result))


def test_points_at_a_pH_are_contacts_at_that_pH():
    constants = exchange_set.load(IDEAL, ("Nd", "Dy"), Book())
    solvent = Solvent(extractant=1000.0)
    curve = isotherms.at_pH(constants, {"Nd": 50.0, "Dy": 10.0}, [0.3, 1.0, 2.0], solvent)
    np.testing.assert_allclose(curve.pH, [0.3, 1.0, 2.0], atol=1e-9)
    # D = K d^3 / h^3 at that pH, d from the dimers left.
    d = 0.5 - 3 * curve.conc_org.sum(axis=1) / 1000
    expected = 10 ** (-2.148 + 3 * curve.pH) * d**3
    np.testing.assert_allclose(10 ** curve.log_d[:, 0], expected, rtol=1e-9)
    with pytest.raises(InputError, match="no acid or base"):
        isotherms.at_pH(constants, {"Nd": 50.0}, [-1.5], solvent)


def test_half_extraction_is_read_off_the_curve():
    result = run(base(acidity={**ACIDITY, "points": 60}))
    share, pH = result.profiles["extracted"].values[:, 0], result.profiles["extracted"].axes["pH"]
    half = result.quantities["pH of half extraction Nd"]["value"]
    assert np.interp(half, pH, share) == pytest.approx(0.5, abs=0.01)


def test_mixture_tbp_polymers_and_factors_are_reachable_from_a_file():
    two = run(
        base(
            model={"set": IDEAL, "second": "extractants/cyanex272-chloride", "share": 0.5},
            acidity=ACIDITY,
        )
    )
    assert 1.02 < two.quantities["pH of D = 1, trace Nd"]["value"] < 2.14
    tbp = run(
        base(
            model={"set": "extractants/kraikaew2005-tbp"},
            feed={"composition": {"Nd": "0.1 mol/L"}, "salt": "3 mol/L"},
            loading=LOADING,
        )
    )
    assert tbp.model["equilibrium"] == "neutral"
    assert tbp.profiles["isotherm_log10_D"].values[0, 0] == pytest.approx(-1.14, abs=0.02)
    dehpa = run(
        base(
            model={"set": "extractants/prommis-dehpa-sulfate"},
            organic={"extractant": "0.15 mol/L"},
            feed={"composition": {"Nd": "1 mmol/L", "Dy": "1 mmol/L"}, "sulfate": "0.1 mol/L"},
            acidity={"low": 0.5, "high": 2.0, "points": 5},
        )
    )
    assert dehpa.model["equilibrium"] == "correlation"
    assert "correlation" in {w.code for w in dehpa.warnings}
    assert np.all(np.diff(dehpa.profiles["log10_D"].values, axis=0) > 0)
    chained = run(base(model={"set": IDEAL, "polymers": True}, loading=LOADING))
    assert chained.balance["max"] < 1e-10
    mixed = run(
        base(
            components=["Pr", "Nd"],
            model={
                "set": IDEAL,
                "separation_factors": "separation_factors/pc88a-hcl",
                "level": "Nd",
            },
            feed={"composition": {"Pr": "10 mmol/L", "Nd": "30 mmol/L"}},
            loading=LOADING,
        )
    )
    log_d = mixed.profiles["isotherm_log10_D"].values
    np.testing.assert_allclose(10 ** (log_d[:, 1] - log_d[:, 0]), 1.4)


@pytest.mark.parametrize("ion", ["Na", "NH4", "Ca", "Mg"])
def test_a_counter_ion_is_no_metal_of_the_feed(ion):
    soaped = base(
        model={"set": IDEAL, "counter_ion": ion},
        organic={"extractant": "1.0 mol/L", "saponification": 0.35},
        loading=LOADING,
        titration={"highest": 0.4, "salt": "0.5 mol/L"},
    )
    result = run(soaped)
    assert result.profiles["isotherm_organic"].axes["component"] == ("Nd", "Dy")
    assert result.profiles["titration"].values.shape == (40, 3)


def test_an_answer_that_hangs_on_the_soap_says_so():
    soaped = base(
        model={"set": IDEAL, "counter_ion": "Na"},
        organic={"extractant": "1.0 mol/L", "saponification": 0.35},
        loading=LOADING,
    )
    assert "soap-constant" in {w.code for w in run(soaped).warnings}
    full = {**soaped, "feed": {"composition": {"Nd": "150 mmol/L"}}}
    assert "soap-constant" not in {w.code for w in run(full).warnings}


@pytest.mark.parametrize(
    ("case", "said"),
    [
        (base(), "no curve is asked for"),
        (base(loading={**LOADING, "high": "0.1 mmol/L"}), "from low to high"),
        (base(titration={"highest": 0.4, "salt": "1 mol/L"}), "counter-ion"),
        (base(model={"set": IDEAL, "share": 0.5}, loading=LOADING), "names both"),
        (base(model={"set": IDEAL, "level": "Nd"}, loading=LOADING), "need a level"),
        (base(stages={"metal": "La", "raffinate": "1 mmol/L"}), "does not have"),
        (base(feed={"composition": {"Nd": "0 mol/L"}}, loading=LOADING), "holds no metal"),
        (base(feed={"composition": {"Nd": "5 bar"}}, loading=LOADING), "Nd"),
        (base(model={"set": "extractants/pc88a"}, loading=LOADING), "activity basis"),
        (
            base(
                model={"set": "extractants/kraikaew2005-tbp", "counter_ion": "Na"}, loading=LOADING
            ),
            "no soap",
        ),
        (
            base(
                model={"set": "extractants/kraikaew2005-tbp"},
                feed={"composition": {"Nd": "1 mmol/L"}},
                acidity=ACIDITY,
            ),
            "no pH curve",
        ),
        (base(colour="red", loading=LOADING), "colour"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_makes_no_sense_is_refused(case, said):
    with pytest.raises(InputError, match=said):
        run(case)


def test_liquors_nobody_can_make_are_refused_all_at_once():
    case = base(loading={**LOADING, "high": "50 mol/L"}, acidity=ACIDITY)
    case["organic"] = {"extractant": "20 mol/L"}
    case["feed"] = {"composition": {"Nd": "900 g/L", "Dy": "10 mmol/L"}, "acid": "14 mol/L"}
    with pytest.raises(InputError, match="impossible-concentration") as caught:
        run(case)
    assert [p.key for p in caught.value.problems] == [
        "organic.extractant",
        "feed.composition",
        "feed.acid",
        "loading.high",
    ]
    assert [p.value for p in caught.value.problems][::3] == ["20 mol/L", "50 mol/L"]
