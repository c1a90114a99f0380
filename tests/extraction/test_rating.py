"""Rating: known trains are found again from noisy assays, and wrong measurements are named."""

from dataclasses import replace

import numpy as np
import pytest

import sepmodel
from sepmodel.errors import InfeasibleError, InputError
from sepmodel.extraction import cascade, rating, rating_model

SECTIONS = (("extraction", 1, 10), ("scrub", 11, 22))
TRUTH = cascade.MassFlowInputs(
    components=("Pr", "Nd", "Sm"),
    extractability=np.array([1.0, 1.5, 6.0]),
    stages=22,
    solvent=4.4,
    scrub=3.6,
    inlets=(
        cascade.Inlet(name="feed", phase="aqueous", stage=10, flows=np.array([0.2, 0.5, 0.3])),
    ),
    efficiency=np.repeat([[0.85], [0.7]], [10, 12], axis=0),
)


def measured(seed, *, noise=0.02, truth=TRUTH, every=2):
    """Assays of every other stage, each in a unit of its own, and readings of five flows."""
    rng = np.random.default_rng(seed)
    solved = cascade.solve(truth)
    assays = []
    for stage in range(1, truth.stages + 1, every):
        for phase, flux in (("aqueous", solved.aqueous), ("organic", solved.organic)):
            amounts = flux[stage - 1] * np.exp(noise * rng.standard_normal(3))
            assays.append(
                rating_model.Assay(
                    name=f"{stage} {phase}",
                    stage=stage,
                    phase=phase,
                    amounts=amounts * rng.uniform(0.1, 10),
                    accuracy=noise,
                )
            )
    flows = {
        "solvent": truth.solvent,
        "scrub": truth.scrub,
        "feed": 1.0,
        "raffinate": solved.raffinate.sum(),
        "loaded_organic": solved.loaded_organic.sum(),
    }
    readings = [
        rating_model.Reading(
            name=name, value=float(v * np.exp(noise * rng.standard_normal())), accuracy=noise
        )
        for name, v in flows.items()
    ]
    shares = np.asarray(truth.inlets[0].flows) * np.exp(noise * rng.standard_normal(3))
    as_built = replace(
        truth,
        solvent=readings[0].value,
        scrub=readings[1].value,
        inlets=(replace(truth.inlets[0], flows=shares / shares.sum()),),
        efficiency=1.0,
    )
    return as_built, assays, readings


def rate(as_built, assays, readings, **settings):
    return rating.rate(as_built, SECTIONS, assays, readings, feed_accuracy=0.02, **settings)


def deviations(found):
    """Errors of the flows and efficiencies in units of their standard errors."""
    true = {"solvent": 4.4, "scrub": 3.6, "feed": 1.0}
    out = [(found.flows[k].value - v) / found.flows[k].error for k, v in true.items()]
    for (section, _), e in found.efficiencies.items():
        out.append((e.value - {"extraction": 0.85, "scrub": 0.7}[section]) / e.error)
    return out


@pytest.mark.parametrize("seed", range(3))
def test_true_flows_and_efficiencies_come_back_and_the_wrong_sample_is_named(seed):
    as_built, assays, readings = measured(seed)
    victim = 5 + 3 * seed
    wrong = assays[victim].amounts.copy()
    wrong[1] *= 1.4
    assays[victim] = replace(assays[victim], amounts=wrong)
    found = rate(as_built, assays, readings)
    assert [g.name for g in found.gross] == [f"{assays[victim].name}: Nd"]
    assert found.gross[0].ratio == pytest.approx(1.4, rel=0.1)
    assert np.max(np.abs(deviations(found))) < 4
    for estimate in found.flows.values():
        assert estimate.error < 0.02 * estimate.value  # better than any one reading
    assert not found.unknown


def test_a_wrong_flow_meter_is_named():
    as_built, assays, readings = measured(11)
    readings[3] = replace(readings[3], value=1.3 * readings[3].value)
    found = rate(as_built, assays, readings)
    assert [g.name for g in found.gross] == ["flow of raffinate"]
    assert found.gross[0].ratio == pytest.approx(1.3, rel=0.1)
    assert np.max(np.abs(deviations(found))) < 4


def test_errors_are_as_large_as_said_and_false_alarms_rare():
    seeds = range(100, 108)
    found = [rate(*measured(seed)) for seed in seeds]
    assert sum(bool(f.gross) for f in found) <= 1
    spread = np.array([deviations(f) for f in found if not f.gross])
    # Eight draws of a unit normal: their mean square lies here in all but 1 of 1,000 cases.
    mean_square = np.mean(spread**2, axis=0)
    assert np.all((mean_square > 0.1) & (mean_square < 3.3))
    chi = np.array([f.chi_squared / f.freedom for f in found])
    assert 0.8 < chi.mean() < 1.2


def test_an_efficiency_for_each_element():
    truth = replace(
        TRUTH,
        efficiency=np.repeat([[0.9, 0.8, 0.7], [0.8, 0.8, 0.8]], [10, 12], axis=0),
    )
    found = rate(*measured(5, truth=truth, noise=0.005, every=1), efficiencies="element")
    for element, value in (("Pr", 0.9), ("Nd", 0.8), ("Sm", 0.7)):
        estimate = found.efficiencies["extraction", element]
        assert abs(estimate.value - value) < 4 * estimate.error < 0.2


def test_exact_measurements_give_the_truth_and_the_remedies_are_solutions():
    as_built, assays, readings = measured(0, noise=1e-9)
    readings = [replace(r, accuracy=1e-3) for r in readings]
    assays = [replace(a, accuracy=1e-3) for a in assays]
    found = rate(as_built, assays, readings)
    assert found.efficiencies["extraction", ""].value == pytest.approx(0.85, abs=1e-6)
    assert found.flows["scrub"].value == pytest.approx(3.6, rel=1e-6)
    assert not found.gross
    solved = cascade.solve(TRUTH)
    misplaced = solved.raffinate[1:].sum() + solved.loaded_organic[0]
    assert found.misplaced == pytest.approx(misplaced, rel=1e-5)
    perfect = TRUTH.efficiency.copy()
    perfect[10:] = 1.0
    better = cascade.solve(replace(TRUTH, efficiency=perfect))
    remedy = next(r for r in found.remedies if r.name == "scrub at efficiency 1")
    assert remedy.misplaced == pytest.approx(
        better.raffinate[1:].sum() + better.loaded_organic[0], rel=1e-4
    )
    assert found.remedies[0].misplaced <= min(r.misplaced for r in found.remedies)


def test_what_cannot_be_told_is_said():
    as_built, assays, readings = measured(2)
    found = rate(as_built, assays[:1], readings[:1], efficiencies="none")
    assert "flow of solvent" in found.untestable
    with pytest.raises(InputError, match="no such flow"):
        rate(as_built, assays, [replace(readings[0], name="mother liquor")])
    with pytest.raises(InputError, match="no flow was read"):
        rate(as_built, assays, [])
    with pytest.raises(InfeasibleError, match="no steady state"):
        rate(replace(as_built, scrub=9.0), assays, readings)


def test_a_train_that_most_measurements_contradict_is_refused():
    as_built, assays, readings = measured(4)
    swapped = [replace(a, amounts=a.amounts[[1, 0, 2]]) for a in assays]
    with pytest.raises(InfeasibleError, match="contradict the train"):
        rate(as_built, swapped, readings)


def test_no_bottleneck_is_told_from_what_is_not_known():
    few = {"reading": [], "assay": []}
    loaded = sepmodel.load("starters/rating.toml")
    few["reading"] = [loaded.document["reading"][0]]
    few["assay"] = [loaded.document["assay"][0]]
    result = sepmodel.run("starters/rating.toml", few)
    codes = [w.code for w in result.warnings]
    assert "bottleneck" not in codes
    assert not any(name.startswith("misplaced:") for name in result.quantities)
    told = {w.where for w in result.warnings if w.code == "not-determined"}
    assert {"efficiency extraction", "efficiency scrub", "flow scrub"} <= told


def test_the_starter_names_its_wrong_sample_and_the_bottleneck():
    result = sepmodel.run("starters/rating.toml")
    codes = {warning.code: warning for warning in result.warnings}
    assert codes["gross-error"].where == "scrub 18 organic: Nd against Pr"
    assert codes["bottleneck"].where == "product split"
    assert result.quantities["efficiency extraction"]["value"] == pytest.approx(0.9, abs=0.03)
    assert result.quantities["efficiency scrub"]["value"] == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("assay.3.stage", 25, "beyond the last stage"),
        ("assay.3.amounts", {"Nd": 0.2, "Sm": 0.1}, "component that the case does not have"),
        ("assay.3.amounts", {"Nd": 0.2, "Pr": 0.0}, "no Pr in the sample"),
        ("assay.3.stage", 1, "a sample is repeated"),
        ("reading.2.name", "solvent", "read twice"),
        ("rate.assay", 0.0, "0"),
    ],
)
def test_wrong_measurements_are_refused_by_name(path, value, message):
    with pytest.raises(InputError, match=message):
        sepmodel.load("starters/rating.toml", {path: value})
