"""Activities of every stage's own solution: the law, one stage as a shake-out, ranges."""

import numpy as np
import pytest

import sepmodel
from sepmodel.chemistry import activity, exchange_set
from sepmodel.chemistry.contact import contact
from sepmodel.data import Book
from sepmodel.errors import InputError

CASE = "magnet-circuit"
PITZER = {
    "model.activity": "pitzer",
    "model.set": "extractants/pc88a-chloride",
    "model.soap": "extractants/soap-pitzer",
}
LN10 = np.log(10.0)


def law(result, log_k, charge, ln_gamma):
    """Largest error of ln D = ln K + ln Gamma + n ln d - z ln h over all stages and metals."""
    x, y = (result.profiles[f"conc_{phase}"].values for phase in ("aq", "org"))
    h = 10 ** -result.profiles["pH"].values
    d = result.profiles["free_extractant"].values
    molality = np.column_stack([h, x, h + x @ charge]) * 1000 / 997.05
    ln = ln_gamma(molality)
    gamma = ln[:, 1:-1] - charge * ln[:, :1]
    expected = LN10 * log_k + gamma + charge * np.log(d / h)[:, None]
    there = (x > 1e-25) & (y > 1e-25)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.abs(np.log(y / x) - expected)
    return float(error[there].max())


def test_the_law_holds_with_the_activities_of_the_returned_solutions():
    result = sepmodel.run(CASE, {**PITZER, "model.separation_factors": None, "model.level": None})
    names = ("Pr", "Nd", "Tb", "Dy", "Na")
    charge = np.array([3.0, 3.0, 3.0, 3.0, 1.0])
    book = Book()
    log_k = np.array([book[f"extractants/pc88a-chloride:{n}"] for n in names[:-1]] + [-4.9])
    model = activity.unlimited(activity.build("pitzer", ("H", *names, "Cl"), book))
    assert law(result, log_k, charge, model.ln_gamma) < 1e-10
    # The same without activities is far off: the test can fail.
    assert law(result, log_k, charge, np.zeros_like) > 0.5
    assert result.balance["max"] < 1e-10
    assert result.model["activity"] == "pitzer"
    assert result.solver["activity_rounds"] < 15
    assert result.solver["activity_residual"] < 1e-11
    assert 7 < result.quantities["ionic_strength_highest"]["value"] < 8


def dilute(**model):
    """One section of dilute liquor, whose ionic strength stays below 0.5 mol/kg."""
    return {
        "schema": 1,
        "kind": "cascade",
        "name": "dilute",
        "components": ["Pr", "Nd"],
        "model": {
            "equilibrium": "mass-action",
            "counter_ion": "Na",
            "log_k": {"Pr": -2.0, "Nd": -1.8, "Na": -5.0},
            **model,
        },
        "organic": {"flow": "1 L/h", "extractant": "0.2 mol/L", "saponification": 0.3},
        "section": [{"name": "extraction", "stages": 6}],
        "inlet": [
            {
                "name": "feed",
                "section": "extraction",
                "flow": "1 L/h",
                "acid": "0.01 mol/L",
                "composition": {"Pr": "0.02 mol/L", "Nd": "0.02 mol/L"},
            }
        ],
    }


def test_davies_against_its_own_formula():
    result = sepmodel.run(dilute(activity="davies"))
    charge = np.array([3.0, 3.0, 1.0])
    signed = np.array([1.0, *charge, -1.0])

    def davies(molality):
        strength = 0.5 * (molality * signed**2).sum(axis=1, keepdims=True)
        root = np.sqrt(strength)
        return -0.509 * LN10 * signed**2 * (root / (1 + root) - 0.3 * strength)

    assert law(result, np.array([-2.0, -1.8, -5.0]), charge, davies) < 1e-10
    plain = sepmodel.run(dilute())
    assert abs(plain.streams["raffinate"].pH - result.streams["raffinate"].pH) > 0.02


@pytest.mark.parametrize("name", ["davies", "sit"])
def test_beyond_its_range_a_model_refuses_and_names_the_stage(name):
    case = dilute(activity=name)
    case["inlet"][0]["acid"] = "4 mol/L"
    with pytest.raises(InputError, match="does not reach the ionic strength of stage") as caught:
        sepmodel.run(case)
    problem = caught.value.problems[0]
    assert problem.key == "model.activity"
    assert "section 'extraction'" in problem.message


def test_sit_inside_its_range():
    result = sepmodel.run(dilute(activity="sit"))
    assert result.solver["activity_residual"] < 1e-11


@pytest.mark.parametrize("name", ["ideal", "pitzer"])
def test_one_stage_is_a_shake_out(name):
    sets = {"ideal": "extractants/li1987-pc88a-ideal", "pitzer": "extractants/pc88a-chloride"}
    book = Book()
    constants = exchange_set.load(sets[name], ("Pr", "Nd", "Dy"), book, counter_ion="Na")
    shaken = contact(
        constants.model,
        feed_aq=[100.0, 300.0, 50.0, 0.0],
        acid=20.0,
        dimer=500.0,
        feed_org=[0.0, 0.0, 0.0, 300.0],
        phase_ratio=1.5,
        activity=constants.activity,
        components=constants.components,
    )
    case = dilute(activity=name, set=sets[name])
    if name == "pitzer":
        case["model"]["soap"] = "extractants/soap-pitzer"
    case["components"] = ["Pr", "Nd", "Dy"]
    case["model"]["log_k"] = {}
    case["organic"] = {"flow": "1.5 L/h", "extractant": "1 mol/L", "saponification": 0.3}
    case["section"][0]["stages"] = 1
    case["inlet"][0]["composition"] = {"Pr": "0.1 mol/L", "Nd": "0.3 mol/L", "Dy": "0.05 mol/L"}
    case["inlet"][0]["acid"] = "0.02 mol/L"
    result = sepmodel.run(case)
    assert result.streams["raffinate"].pH == pytest.approx(float(shaken.pH), abs=1e-9)
    assert np.allclose(1000 * result.profiles["conc_aq"].values[0], shaken.conc_aq, rtol=1e-9)
    assert np.allclose(1000 * result.profiles["conc_org"].values[0], shaken.conc_org, rtol=1e-9)


def test_activities_do_not_know_sulfate_and_say_so():
    case = dilute(activity="pitzer")
    case["inlet"][0]["sulfate"] = "0.1 mol/L"
    with pytest.raises(InputError, match="every anion is taken as chloride"):
        sepmodel.run(case)


def test_borrowed_factors_are_named():
    result = sepmodel.run(CASE, PITZER)
    assert [w.code for w in result.warnings] == ["factors-basis"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["magnet-400", "fifteen-nd-sm-500", "fifteen-nd-pr-500"])
def test_full_circuits_settle(name):
    result = sepmodel.run(name, PITZER)
    assert result.balance["max"] < 1e-10
    assert result.solver["activity_residual"] < 1e-11
