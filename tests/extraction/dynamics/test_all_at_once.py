"""Everything wrong with a case in time is told in one look, and nothing that is right."""

import copy

import pytest
from test_dynamic_cases import LOOP, small

from sepmodel import load, run
from sepmodel.errors import InfeasibleError, InputError


def circuit(**tables):
    return small(load("upsets-pr-nd").document, **tables)


def binary(**tables):
    document = copy.deepcopy(dict(load("start-nd-pr").document))
    return {**document, "time": {"end": "1 d", "tolerance": 1e-3}, **tables}


def keys(document):
    with pytest.raises(InputError) as caught:
        run(document)
    for problem in caught.value.problems:
        assert problem.key, problem
        assert problem.expected or problem.message, problem
    return [problem.key for problem in caught.value.problems]


def test_values_references_and_flows_are_judged_in_one_look():
    """Wrong in themselves, with each other, and for this train: each was a round of its own."""
    document = circuit(
        event=[
            {"setting": "inlet.fed.flow", "at": "1 h", "factor": 1.1},
            {"setting": "inlet.feed.flow", "at": "an hour", "factor": 1.1},
            {"setting": "inlet.feed.flow", "at": "2 h", "value": "1 mol/L"},
            {"setting": "inlet.feed.flow", "at": "3 h", "factor": 1.2},
        ],
        outage=[{"section": "saponify", "first": 1, "at": "1 h", "until": "2 h"}],
        specification=[
            {"outlet": "oil", "component": "Nd", "purity": 99},
            {"outlet": "oil", "component": "Sm", "purity": 0.9},
        ],
        controller=[{**LOOP, "interval": "-1 h"}, {**LOOP, "name": "far", "stage": 99}],
        modes={"count": 99},
    )
    document["start"] = {"fill": "feed", "policy": "split"}
    document["time"] |= {"tolerance": 0.1}
    document["holdup"] = {"mixer": 0.2}
    document["inlet"][0]["composition"]["Nd"] = "0.6 L"
    document["inlet"][0]["acids"] = "1 mol/L"
    document["inlet"][1]["acid"] = "40 mol/L"
    document["organic"]["saponification"] = 1.4
    document["model"]["level"] = "Gd"
    assert sorted(keys(document)) == sorted(
        [
            "event.0.setting", "event.1.at", "event.2.value", "outage.0.section",
            "specification.0.purity", "specification.1.outlet", "specification.1.component",
            "controller.scrub.interval", "controller.far.stage", "modes.count",
            "start.duration", "start.product", "time.tolerance", "holdup.mixer",
            "inlet.feed.composition.Nd", "inlet.feed.acids", "inlet.scrub-acid.acid",
            "organic.saponification", "model.level",
        ]
    )  # fmt: skip


def test_what_only_follows_from_something_wrong_is_not_told():
    # A soap that is wrong, an event on it; a feed that is wrong, its element in an event.
    event = [
        {"setting": "organic.saponification", "at": "1 h", "factor": 1.1},
        {"setting": "inlet.feed.composition.Nd", "at": "2 h", "factor": 1.1},
        {"setting": "inlet.feed.flow", "at": "3 h", "factor": 0.5},
    ]
    document = circuit(event=event)
    document["organic"]["saponification"] = 35
    document["inlet"][0] |= {"flow": "1 L"}
    document["inlet"][0]["composition"]["Nd"] = "0.6 L"
    assert sorted(keys(document)) == [
        "inlet.feed.composition.Nd", "inlet.feed.flow", "organic.saponification",
    ]  # fmt: skip
    # A flow and a liquor that are wrong, controllers whose limits would have held them.
    liquor = {**LOOP, "name": "liquor", "setting": "inlet.feed.composition.Nd", "gain": "1 g/L",
              "low": "80 g/L", "high": "90 g/L"}  # fmt: skip
    document = circuit(controller=[LOOP, liquor])
    document["inlet"][0]["composition"]["Nd"] = "0.6 L"
    assert keys(document) == ["inlet.feed.composition.Nd"]
    document["inlet"][1]["flow"] = "8"
    assert keys(document) == ["inlet.scrub-acid.flow", "inlet.feed.composition.Nd"]
    # The only specification, wrong, and a search that wants one.
    document = circuit(specification=[{"outlet": "raffinate", "component": "Pr", "purity": 99}])
    document["start"] = {"policy": "split", "find": {}}
    assert keys(document) == ["specification.0.purity"]
    # The end, wrong, and what lasts until then.
    document = circuit(start={"policy": "split", "product": 1.0, "duration": "10 h"})
    document["time"]["end"] = "1"
    assert keys(document) == ["time.end"]
    document = circuit(controller=[{**LOOP, "setting": "organic.saponifcation"}])
    document["organic"]["saponifcation"] = document["organic"].pop("saponification")
    assert keys(document) == ["organic.saponifcation", "controller.scrub.setting"]


def test_an_event_of_which_nothing_is_known_makes_no_other_wrong():
    """The pump that would have kept the train running may be meant in the event that is wrong."""
    stop = {"setting": "mass_flow.solvent", "at": "5 h", "until": "6 h", "factor": 0.5}
    meant = {"setting": "mass_flow.scrbu", "at": "4 h", "factor": 0.4}
    assert keys(binary(event=[stop, meant])) == ["event.1.setting"]
    assert keys(binary(event=[stop, {**meant, "at": "7 h"}])) == [
        "event.1.setting",
        "event.0.factor",
    ]
    assert keys(binary(event=[stop, {**meant, "until": "4.5 h"}])) == [
        "event.1.setting", "event.0.factor",
    ]  # fmt: skip


def test_the_kinds_of_things_wrong_with_a_mass_flow_train_come_together():
    document = binary(
        event=[{"setting": "mass_flow.scrb", "at": "1 h", "factor": 1.1},
               {"setting": "inlet.feed.flow", "at": "2 h"}],
        holdup={"mixer": "1 h", "phases": "overflow"},
        start={"fill": "fresh"},
        specification=[{"outlet": "x", "component": "Nd", "purity": 0.9}],
    )  # fmt: skip
    document["mass_flow"]["separation_factors"] = {"Nd/Sm": 1.5}
    document["mass_flow"]["scrub"] = 9.0
    assert sorted(keys(document)) == [
        "event.0.setting", "event.1.value", "holdup.phases", "mass_flow.separation_factors",
        "specification.0.outlet", "start.fill",
    ]  # fmt: skip
    # Flows that cannot be are told when they are all that is wrong.
    document = binary(event=[{"setting": "mass_flow.scrb", "at": "1 h", "factor": 1.1}])
    document["mass_flow"]["scrub"] = 9.0
    assert keys(document) == ["event.0.setting"]
    with pytest.raises(InfeasibleError, match="nothing is left"):
        run({**document, "event": []})


def test_constants_liquors_and_what_refers_to_them_come_together():
    document = circuit(
        event=[{"setting": "inlet.feed.flow", "at": "1 h", "factor": 1e30}],
        controller=[{**LOOP, "component": "Sm"}, {**LOOP, "name": "low", "low": "9 L/h"}],
    )
    document["model"]["set"] = "extractants/nope"
    document["inlet"][1]["composition"] = {"Pr": "3"}
    document["inlet"][2]["composition"] = {"Nd": "-1 mol/L"}
    with pytest.raises(InputError) as caught:
        run(document)
    found = [p.key for p in caught.value.problems]
    assert sorted(found) == [
        "controller.0.component", "controller.1.low", "controller.1.setting", "event.0.factor",
        "inlet.scrub-acid.composition.Pr", "inlet.strip-acid.composition.Nd", "model.set",
    ]  # fmt: skip


def test_each_problem_of_one_table_is_told():
    hold = {"mixer": "0.2 h", "weir": "10 min", "cells": 4, "basis": "feed"}
    assert keys(circuit(holdup=hold)) == ["holdup.cells", "holdup.weir"]
    assert keys(circuit(holdup={"mixer": "0.2 h", "basis": "feed"}, time={"end": 1})) == [
        "time.end", "holdup.basis",
    ]  # fmt: skip
    start = {"policy": "reflux", "product": 1.0, "factor": 0.9, "steps": 3}
    assert sorted(keys(circuit(start=start))) == [
        "start.duration", "start.factor", "start.product", "start.steps",
    ]  # fmt: skip
    event = {"setting": "organic.flow", "at": "1 h", "until": "0.5 h", "value": "1 L/h",
             "factor": 2.0}  # fmt: skip
    assert keys(circuit(event=[event])) == ["event.0.factor", "event.0.until"]
    both = {**LOOP, "tune": 0.01, "outlet": "raffinate", "target": 3.0}
    assert sorted(keys(circuit(controller=[both]))) == [
        f"controller.scrub.{key}" for key in ("gain", "outlet", "target", "time")
    ]
    with pytest.raises(InputError, match="'10 h'"):
        run(circuit(controller=[both]))


def test_a_misspelt_key_is_one_error():
    assert keys(circuit(holdup={"mixr": "0.2 h"})) == ["holdup.mixr"]
    # What else is wrong is told beside it.
    start = {"policy": "reflux", "duratoin": "3 h", "steps": 3}
    assert sorted(keys(circuit(start=start))) == ["start.duratoin", "start.steps"]


def test_rules_of_the_cascade_are_told_together_steady_too():
    document = circuit()
    document["inlet"][0]["stage"] = 99
    document["inlet"][1]["section"] = "saponify"
    document["inlet"][2]["composition"] = {"Sm": "1 mol/L", "Eu": "1 mol/L"}
    document["organic"]["composition"] = {"Nd": "1 mol/L"}
    wanted = ["inlet.feed.stage", "inlet.scrub-acid.section", "inlet.strip-acid.composition.Eu",
              "inlet.strip-acid.composition.Sm", "organic.composition.Nd"]  # fmt: skip
    assert keys(document) == wanted
    timed = ("holdup", "start", "time", "event", "specification")
    assert (
        keys({k: v for k, v in document.items() if k not in timed} | {"kind": "cascade"}) == wanted
    )


@pytest.mark.parametrize(
    ("tables", "key", "part"),
    [
        ({"event": [{"setting": "stage.3.efficiency", "at": "1 h", "factor": 0.5}]},
         "event.0.setting", "with first and last"),
        ({"event": [{"setting": "section.scrub.temperature", "at": "1 h", "value": "40 degC"}]},
         "event.0.setting", "nothing that can change"),
        ({"event": [{"setting": "organic.flow", "at": "1 h", "factor": f} for f in (1.1, 1.2)]},
         "event.1.at", "event.0 sets the same"),
        ({"event": [{"setting": "inlet.feed.flow", "at": "1 h", "factor": 1.1}],
          "disturbance": [{"kind": "feed-surge", "size": 0.1, "at": "1 h"}]},
         "disturbance.0.at", "event.0 sets the same"),
        ({"disturbance": [{"kind": "crud", "section": "scrub", "size": -0.3, "at": "1 h"}]},
         "disturbance.0.size", "got -0.3"),
        ({"holdup": {"mixer": "0.2 h", "phases": "overflow"},
          "outage": [{"section": "scrub", "first": 1, "at": "1 h", "until": "2 h"}]},
         "outage.0", "mixers run over"),
        ({"start": {"profile": [{"section": "strip", "composition": {"Nd": 1.0}}]}},
         "start.profile.0.section", "without metal"),
        ({"start": {"profile": [{"section": "scrub", "composition": {"Na": 1.0}}]}},
         "start.profile.0.composition", "Pr, Nd, Tb, Dy"),
        ({"start": {"profile": [{"section": "scrub", "first": k, "composition": {"Nd": 1.0}}
                                for k in (1, 3)]}}, "start.profile.1", "start.profile.0 fills"),
        ({"start": {"fill": "fresh", "profile": [{"section": "scrub", "composition": {"Nd": 1}}]}},
         "start.profile", "nothing is in it"),
        ({"specification": [{"outlet": "raffinate", "component": "Pr", "purity": 0.2}] * 2},
         "specification.1.purity", "twice"),
        ({"controller": [{**LOOP, "section": "saponify"}]}, "controller.0.section", "extraction"),
        ({"start": {"steps": 3}}, "start.steps", "staged"),
    ],
)  # fmt: skip
def test_what_was_passed_over_is_refused(tables, key, part):
    with pytest.raises(InputError) as caught:
        run(circuit(**tables))
    (problem,) = caught.value.problems
    assert problem.key == key
    assert part in str(problem)


def test_a_circuit_without_metal_is_refused_in_time():
    document = circuit(start={"fill": "feed"})
    document["inlet"][0]["composition"] = {}
    assert keys(document) == ["inlet"]


def test_what_happens_again_has_a_band_of_its_own():
    crud = [{"kind": "crud", "section": "scrub", "size": 0.1, "at": at, "until": f"{k + 2} h"}
            for k, at in enumerate(("1 h", "4 h"))]  # fmt: skip
    crud[1]["until"] = "6 h"
    found = run(circuit(disturbance=crud))
    assert found.profiles["purity_raffinate"].bands == {"crud": (1.0, 2.0), "crud (2)": (4.0, 6.0)}
