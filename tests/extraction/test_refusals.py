"""Inputs of the cascades that would give a plausible wrong answer, or a defect."""

import warnings
from pathlib import Path

import numpy as np
import pytest

import sepmodel
from sepmodel import ConvergenceError, InputError, run
from sepmodel.errors import InfeasibleError
from sepmodel.extraction import cascade

MODELS = Path(sepmodel.__file__).parents[1] / "models"
CIRCUIT = "magnet-circuit"
OWN = {"model": {"equilibrium": "mass-flow"}}


def problem(name, settings):
    with pytest.raises(InputError) as caught:
        run(name, settings)
    return caught.value.problems[0]


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ({"Nd/Pr": 1.4, "Pr/Nd": 9.0}, "contradict"),
        ({"Nd/Pr": 1.4, "Nd/Nd": 2.0}, "not a pair"),
    ],
)
def test_separation_factors_that_contradict_one_another(pairs, said):
    found = problem("nd-pr", {**OWN, "mass_flow.separation_factors": pairs})
    assert said in found.message


def test_separation_factors_that_say_the_same_twice():
    once = run("nd-pr", {**OWN, "mass_flow.separation_factors": {"Nd/Pr": 1.25}})
    twice = run("nd-pr", {**OWN, "mass_flow.separation_factors": {"Nd/Pr": 1.25, "Pr/Nd": 0.8}})
    assert once.streams["raffinate"].purity == twice.streams["raffinate"].purity


def test_a_set_that_holds_no_extraction_constants():
    found = problem(CIRCUIT, {"model.set": "elements"})
    assert "not an extraction constant" in found.message
    assert found.key == "model.set"
    assert found.file.endswith("magnet-circuit.toml")


def test_a_level_that_is_no_component():
    assert "level" in problem(CIRCUIT, {"model.level": "La"}).message


def test_extractabilities_whose_ratio_is_no_float():
    feed = cascade.Inlet(name="feed", phase="aqueous", stage=1, flows=np.array([0.5, 0.5]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = cascade.solve(
            cascade.MassFlowInputs(
                components=("A", "B"),
                extractability=np.array([1e200, 1e-200]),
                stages=1,
                solvent=1.0,
                scrub=0.5,
                inlets=(feed,),
            )
        )
    assert np.allclose(found.raffinate, [0.0, 0.5], atol=1e-9)
    assert np.allclose(found.loaded_organic, [0.5, 0.0], atol=1e-9)


def test_a_strip_without_acid_is_unsolved_and_no_defect():
    with pytest.raises(ConvergenceError):
        run(CIRCUIT, {"inlet.strip-acid.acid": "0 mol/L"})


@pytest.mark.parametrize("efficiency", [0.3])
def test_low_efficiencies_are_designed_and_agree_with_their_second_simulation(efficiency):
    """About as many stages more as a stage falls short of one."""
    found = design("starters/design.toml", efficiency)
    ideal = design("starters/design.toml", 1.0)
    assert all(asked.met for asked in found.asked)
    assert found.recheck < 1e-6
    assert found.circuit.stages * efficiency == pytest.approx(ideal.circuit.stages, rel=0.15)


@pytest.mark.parametrize("efficiency", [1e-4, 1e-9])
def test_efficiencies_that_take_too_many_stages_are_refused_at_once(efficiency):
    with pytest.raises(InfeasibleError, match="stages of efficiency"):
        design("starters/design.toml", efficiency)


def design(name, efficiency):
    case = str(MODELS / name)
    return sepmodel.design(case, {"circuit.efficiency": efficiency})
