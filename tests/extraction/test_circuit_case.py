"""Circuit case files: runs, warnings and refusals."""

import pickle
from pathlib import Path

import numpy as np
import pytest

import sepmodel
from sepmodel.errors import ConvergenceError, InputError

CASE = "magnet-circuit"


def codes(result):
    return {warning.code for warning in result.warnings}


def test_the_shipped_circuit_runs_and_closes():
    result = sepmodel.run(CASE)
    assert result.balance["max"] < 1e-10
    assert set(result.streams) >= {"raffinate", "strip_liquor", "loaded_organic", "barren_organic"}
    assert result.streams["raffinate"].pH == pytest.approx(1.26, abs=0.02)
    assert result.profiles["pH"].values.shape == (20,)
    assert np.all(result.profiles["loading"].values < 1)
    assert np.all(result.profiles["separation_factor"].values > 1)
    # One soap of sodium is one mole of base.
    assert result.quantities["base"]["value"] == pytest.approx(0.35 * 3.43, rel=1e-6)


def test_a_common_shift_of_the_constants_does_not_separate():
    """At trace acid a level shift moves pH, not the separation factors."""
    plain = sepmodel.run(CASE)
    moved = sepmodel.run(CASE, {"model.log_k.Nd": -1.9})
    a = plain.profiles["separation_factor"].values
    b = moved.profiles["separation_factor"].values
    assert np.allclose(a, b, rtol=1e-9)
    assert moved.streams["raffinate"].pH < plain.streams["raffinate"].pH


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"organic.saponification": 0.6}, "cannot hold so much Na"),
        ({"model.separation_factors": "separation_factors/none"}, "none"),
        ({"inlet.feed.composition.Nd": "-1 mol/L"}, "negative"),
        ({"inlet.feed.composition.Nd": "1 kg"}, "mol/m"),
        ({"inlet.feed.composition.Xx": "1 mol/L"}, "unknown element|does not have"),
        ({"inlet.feed.stage": 9}, "beyond the last stage"),
        ({"recycle.strip_reflux": 1.0}, "below 1"),
        ({"section.strip.name": "scrub"}, "sections do not follow|twice"),
        ({"components": ["Pr", "Nd"]}, "does not have"),
        ({"model.separation_factors": "separation_factors/pc88a-hcl", "model.level": "La2"}, "La2"),
    ],
)
def test_bad_cases_are_refused(settings, text):
    with pytest.raises(InputError, match=text):
        sepmodel.run(CASE, settings)


def test_reversed_constants_are_refused_unless_codes_are_compared():
    reverse = {"model.separation_factors": "separation_factors/pc88a-hcl", "model.log_k.Pr": -1.0}
    with pytest.raises(InputError, match="reversed-series: Nd is extracted less than Pr"):
        sepmodel.run(CASE, reverse)
    marked = sepmodel.run(CASE, {**reverse, "purpose": "code regression"})
    assert {"reversed-series", "code-regression"} <= codes(marked)


def test_named_warnings():
    wide = sepmodel.run(CASE, {"inlet.strip-acid.flow": "0.1 L/h", "inlet.strip-acid.acid": "12 M"})
    assert "phase-ratio" in codes(wide)
    rich = sepmodel.run(
        CASE, {"organic.saponification": 0.49, "section.scrub.temperature": "300 K"}
    )
    assert "temperature-unused" in codes(rich)


def test_prommis_inputs_are_marked_as_code_regression():
    path = Path(__file__).parents[2] / "validation" / "prommis-dehpa-sulfate" / "case.toml"
    result = sepmodel.run(path)
    assert {"reversed-series", "code-regression"} <= codes(result)
    assert result.streams["raffinate"].conc["Y"]["value"] > 0


def test_what_no_assay_reaches_is_reported_as_below():
    path = Path(__file__).parents[2] / "validation" / "benchmarks" / "cases" / "magnet-60.toml"
    result = sepmodel.run(path)
    trace = result.streams["barren_organic"].conc["Pr"]
    assert trace == {"value": 0.0, "unit": "mol/L", "below": 1e-33}
    assert result.streams["barren_organic"].purity["Pr"] == 0.0
    digits = [
        quantity["value"]
        for stream in result.streams.values()
        for quantity in stream.conc.values()
        if quantity["value"]
    ]
    assert min(digits) >= 1e-33


def test_a_failure_names_file_and_key():
    with pytest.raises(ConvergenceError) as caught:
        sepmodel.run("magnet-circuit", {"inlet.strip-acid.acid": "0.6 mol/L"})
    error = caught.value
    assert error.key == "inlet.strip-acid.acid"
    assert error.file.endswith("magnet-circuit.toml")
    assert str(error).startswith(f"{error.file}: {error.key}: ")
    assert "1.13 mol/h" in error.message  # 0.01 + 1 + 0.12
    assert "1.2005 mol/h" in error.message
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.key) == (str(error), error.key)


@pytest.mark.parametrize("flow", ["1e308 L/h", "1e-300 L/h", "0 L/h", "-1 L/h", "1e9 m^3/s"])
@pytest.mark.parametrize("key", ["organic.flow", "inlet.feed.flow"])
def test_flows_beyond_all_measure_are_refused(key, flow):
    with pytest.raises(InputError) as caught:
        sepmodel.load(CASE, {key: flow})
    (problem,) = caught.value.problems
    assert problem.key == key
    assert "m^3/s" in problem.expected
