"""What a circuit cannot be is refused; what leaves the known is named, with where and how far."""

import numpy as np
import pytest

import sepmodel
from sepmodel.data import Book
from sepmodel.errors import InputError
from sepmodel.extraction import circuit_limits

CASE = "magnet-circuit"
CLAY = "fifteen-nd-sm-100"


def warned(result, code):
    return [w for w in result.warnings if w.code == code]


def test_the_shipped_magnet_circuit_leaves_no_limit():
    assert not sepmodel.run(CASE).warnings


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"inlet.feed.composition.Nd": "1e9 mol/L"}, "impossible-concentration.*rare earths"),
        ({"inlet.scrub-acid.acid": "14 mol/L"}, "impossible-concentration.*acid"),
        ({"inlet.feed.composition.Na": "8 mol/L"}, "impossible-concentration.*sodium"),
        ({"organic.extractant": "10 mol/L"}, "impossible-concentration.*pure liquid"),
        ({"organic.saponification": 0.55}, "cannot hold so much Na"),
        ({"inlet.scrub-acid.base": "1 mol/L"}, "acid and base at once"),
    ],
)
def test_what_cannot_be_is_refused(settings, text):
    with pytest.raises(InputError, match=text):
        sepmodel.run(CASE, settings)


def test_phase_ratio_is_the_worst_of_the_section():
    result = sepmodel.run(
        CASE, {"inlet.strip-acid.flow": "0.15 L/h", "inlet.strip-acid.acid": "8 mol/L"}
    )
    (found,) = warned(result, "phase-ratio")
    assert found.where == "strip"
    assert "22.9 lies outside 0.05 to 20" in found.message


def test_loading_near_its_limit():
    """Much soap and little solvent: the organic fills up to what nobody has measured."""
    result = sepmodel.run(
        CASE, {"organic.saponification": 0.49, "inlet.scrub-acid.flow": "1.6 L/h"}
    )
    (found,) = warned(result, "loading")
    assert "above the highest measured, 0.123" in found.message
    assert np.all(result.profiles["loading"].values < 1)
    assert np.all(result.profiles["rare_earth_loading"].values < 1)


def test_gel():
    """Only a soap of half a dimer per sodium can hold more than half of the extractant."""
    half = {"extractants/soap:dimers-Na": 0.5}
    settings = {"organic.saponification": 0.55}
    (found,) = warned(sepmodel.run(CASE, settings, constants=half), "gel")
    assert "0.55 of the extractant as soap" in found.message


def test_hydroxide_margin_is_that_of_the_solubility_product():
    """0.1 mol/L of Nd at pH 7.16 stands in equilibrium with its fresh hydroxide."""
    constants = circuit_limits.hydroxide_constants(Book(), ("Nd", "Eu", "Lu"))
    assert constants == pytest.approx({"Nd": 20.4852, "Eu": 15.3482})
    result = sepmodel.run(CASE)
    nd = result.profiles["conc_aq"].values[:, 1]
    margin = (20.4852 - np.log10(nd[nd > 0])) / 3 - result.profiles["pH"].values[nd > 0]
    assert result.quantities["pH_to_hydroxide"]["value"] <= margin.min()
    assert round((20.4852 - np.log10(0.1)) / 3, 2) == 7.16


def test_hydroxides_are_named_with_stage_and_element():
    result = sepmodel.run(CASE, _saponified(0.40))
    found = warned(result, "hydroxide")
    assert found
    assert "the hydroxide of Dy precipitates" in found[-1].message
    assert found[-1].where.startswith("saponify, stage")


def _saponified(flow):
    return {
        "organic.saponification": 0.0,
        "section": [
            {"name": "extraction", "stages": 8},
            {"name": "scrub", "stages": 8},
            {"name": "strip", "stages": 4},
            {"name": "saponify", "stages": 2},
        ],
        "inlet": [
            *sepmodel.load(CASE).document["inlet"],
            {"name": "base", "section": "saponify", "flow": f"{flow} L/h", "base": "5 mol/L"},
        ],
    }


def test_base_beyond_what_the_organic_takes_is_named():
    (found,) = warned(sepmodel.run(CASE, _saponified(0.40)), "base-unused")
    assert "0.143 of the base" in found.message
    assert not warned(sepmodel.run(CASE, _saponified(0.24)), "base-unused")


@pytest.mark.parametrize(
    ("acid", "lutetium"), [("6 mol/L", 0.504), ("5 mol/L", 2.48), ("3 mol/L", 18.8)]
)
def test_lutetium_goes_round_more_often_the_weaker_the_strip(acid, lutetium):
    result = sepmodel.run(CLAY, {"inlet.strip-acid.acid": acid})
    ratio = result.quantities["recycle_Lu"]["value"]
    assert ratio == pytest.approx(lutetium, rel=0.02)
    profile = result.profiles["recycle"]
    assert profile.values[list(profile.axes["component"]).index("Lu")] == pytest.approx(ratio)
    # What comes back, measured in the organic itself.
    back = result.streams["barren_organic"].moles["Lu"]["value"]
    fed = 0.00162
    assert back / fed == pytest.approx(ratio, rel=1e-6)
    named = warned(result, "recycle")
    assert bool(named) == (ratio > 1)
    assert result.balance["max"] < 1e-10
    # It leaves with the strip liquor all the same, but for what the returning organic brings to
    # the raffinate.
    ends = [result.streams[name].recovery["Lu"] for name in ("strip_liquor", "raffinate")]
    assert sum(ends) == pytest.approx(1, abs=1e-9)
    assert 0 < ends[1] < 1e-3


@pytest.mark.slow
def test_thirtyfold_recycle_of_lutetium():
    """5 mol/L at the flow that leaves little more acid than the product takes: thirty times round.

    Reported by element, number and limit; not a failure to converge.
    """
    weak = {"inlet.strip-acid.acid": "5 mol/L", "inlet.strip-acid.flow": "0.43 L/h"}
    result = sepmodel.run(CLAY, weak)
    assert 25 < result.quantities["recycle_Lu"]["value"] < 35
    assert result.quantities["recycle_Yb"]["value"] > 5
    named = {w.message.split(" of ")[1].split()[0] for w in warned(result, "recycle")}
    assert named == {"Yb", "Lu"}
    assert "(limit 1)" in warned(result, "recycle")[0].message
    assert result.balance["max"] < 1e-10
    stronger = sepmodel.run(CLAY, {**weak, "inlet.strip-acid.acid": "6 mol/L"})
    assert stronger.quantities["recycle_Lu"]["value"] < 0.6 * 30


def test_constants_of_two_activity_bases_are_never_mixed():
    with pytest.raises(InputError, match="another activity basis") as caught:
        sepmodel.run(CASE, {"model.activity": "pitzer"})
    assert caught.value.problems[0].key == "model.set"
    with pytest.raises(InputError, match="another activity basis") as caught:
        sepmodel.run(
            CASE, {"model.activity": "pitzer", "model.set": "extractants/li1987-pc88a-pitzer"}
        )
    assert caught.value.problems[0].key == "model.soap"
    assert "model.log_k.Na" in caught.value.problems[0].expected


def test_temperature_without_an_enthalpy_is_named():
    result = sepmodel.run(CASE, {"section.strip.temperature": "323.15 K"})
    (found,) = warned(result, "temperature-unused")
    assert "no enthalpy of extraction is measured for Pr, Nd, Tb, Dy, Na" in found.message
    assert found.where == "strip"
    assert not warned(
        sepmodel.run(CASE, {"section.strip.temperature": "298.15 K"}), "temperature-unused"
    )


def test_a_measured_enthalpy_shifts_the_constants(tmp_path, monkeypatch):
    """Van 't Hoff: an exothermic extraction strips better when it is hot."""
    shipped = sepmodel.load(CASE)
    assert shipped.path is not None
    folder = tmp_path / "models" / "data" / "extractants"
    folder.mkdir(parents=True)
    rows = "\n".join(
        f'{name} = {{ value = {value}, unit = "1" }}\n'
        f'enthalpy-{name} = {{ value = -20, unit = "kJ/mol" }}'
        for name, value in {"Pr": -2.3, "Nd": -2.15, "Tb": 0.3, "Dy": 0.6}.items()
    )
    (folder / "own.toml").write_text(
        "schema = 1\ntitle = 'own'\nkind = 'extraction constants'\nactivity = 'ideal'\n"
        "[defaults]\nbasis = 'log10 K, made up'\nsource = 'li1987'\nlocator = 'made up'\n"
        "conditions = 'a test'\nclass = 'derived'\ndistribution = 'not stated'\n"
        f"[constants]\n{rows}\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    own = {"model": {"equilibrium": "mass-action", "set": "extractants/own", "counter_ion": "Na"}}
    cold = sepmodel.run(shipped, own)
    hot = sepmodel.run(shipped, {**own, "section.strip.temperature": "333.15 K"})
    warm = "no enthalpy of extraction is measured for Na"
    assert warm in warned(hot, "temperature-unused")[0].message
    for result, shift in ((cold, 0.0), (hot, 20e3 / 8.314462618 * (1 / 333.15 - 1 / 298.15))):
        stage = -1
        d = result.profiles["free_extractant"].values[stage]
        h = 10 ** -result.profiles["pH"].values[stage]
        ratio = (
            result.profiles["conc_org"].values[stage, 3]
            / result.profiles["conc_aq"].values[stage, 3]
        )
        assert np.log(ratio) == pytest.approx(
            0.6 * np.log(10) + 3 * np.log(d / h) + shift, abs=1e-8
        )


def test_given_constants_do_not_lift_the_ceiling_of_the_solvent():
    """No set names the extractant: PC88A's density and molar mass hold."""
    document = dict(sepmodel.load(CASE).document)
    log_k = {name: i - 2.0 for i, name in enumerate(("Pr", "Nd", "Tb", "Dy"))}
    document["model"] = {**document["model"], "log_k": log_k}
    for key in ("set", "separation_factors", "level"):
        document["model"].pop(key, None)
    document["organic"] = {**document["organic"], "extractant": "20 mol/L"}
    with pytest.raises(InputError, match="more extractant than the pure liquid"):
        sepmodel.run(document)
