"""What the steady circuit warns of and refuses, in time; controllers in a search for a policy."""

import copy

import numpy as np
import pytest
from test_dynamic_cases import LOOP, saponified, small

from sepmodel import load, run
from sepmodel.errors import InputError

TIMED = ("holdup", "start", "time", "event", "specification")


def with_base(flow):
    """A short closed circuit with a saponify section that is fed so much base."""
    document = saponified()
    for section, stages in zip(document["section"], (4, 4, 3, 2), strict=True):
        section["stages"] = stages
    document["inlet"][-1]["flow"] = flow
    return document


def in_time(document, **tables):
    return {
        **document, "kind": "cascade-dynamic", "holdup": {"mixer": "0.1 h"},
        "start": {"fill": "feed"},
        "time": {"end": "0.8 d", "tolerance": 1e-3, "outputs": 25, "maps": 2}, **tables,
    }  # fmt: skip


def said(found, code):
    return [w for w in found.warnings if w.code == code]


@pytest.fixture(scope="module")
def too_much():
    """What the steady circuit says of more base than its organic takes."""
    (warning,) = said(run(with_base("0.4 L/h")), "base-unused")
    return warning


def test_base_that_the_organic_does_not_take_is_told_when_it_first_leaves(too_much):
    more = {"setting": "inlet.base.flow", "at": "0.25 d", "value": "0.4 L/h"}
    found = run(in_time(with_base("0.26 L/h"), event=[more]))
    (ours,) = said(found, "base-unused")
    stage, time = ours.where.removeprefix("saponify, stage ").split(", ")
    assert stage == "1"
    assert 0.25 < float(time.removesuffix(" d")) < 0.6
    # At rest it is as much of the base as the steady circuit says.
    assert ours.message.split(";")[0].split(" of the base")[1] in too_much.message
    rest = run(in_time(with_base("0.4 L/h"), start={"fill": "steady"}))
    (ours,) = said(rest, "base-unused")
    assert (ours.message, ours.where) == (too_much.message, "saponify, stage 1, 0 d")
    assert not said(run(in_time(with_base("0.26 L/h"))), "base-unused")
    # What the section still held of a base that has stopped is none that is brought.
    stopped = {"setting": "inlet.base.flow", "at": "0.25 d", "value": "0 L/h"}
    assert not said(run(in_time(with_base("0.26 L/h"), event=[stopped])), "base-unused")


def test_a_loop_that_moves_the_base_moves_what_is_unused(too_much):
    """The settings of controllers count, not those of the schedule."""
    loop = {
        "name": "base", "measure": "pH", "section": "saponify", "stage": 1, "target": 16.0,
        "setting": "inlet.base.flow", "gain": "1 L/h", "interval": "6 h", "low": "0.26 L/h",
        "high": "0.4 L/h",
    }  # fmt: skip
    found = run(in_time(with_base("0.26 L/h"), controller=[loop]))
    assert found.profiles["loop_base"].values[:, 1] == pytest.approx(0.4)
    (ours,) = said(found, "base-unused")
    # Against 0.26 L/h as scheduled it would be half as much again.
    share = float(ours.message.split("up to ")[-1].split(" of ")[0])
    assert share == pytest.approx(float(too_much.message.split(" of ")[0]), rel=0.05)


def test_an_organic_that_is_not_stripped_is_told_with_its_moment():
    document = small(load("upsets-pr-nd").document)
    weak = {"setting": "inlet.strip-acid.acid", "at": "2 h", "until": "10 h", "value": "1 mol/L"}
    found = run({**document, "event": [weak]})
    (heavy,) = [w for w in said(found, "recycle") if " of Dy " in w.message]
    assert 2 / 24 < float(heavy.where.removeprefix("strip, ").removesuffix(" d")) < 14 / 24
    share = float(heavy.message.split("carries ")[1].split(" times")[0])
    returned = found.profiles["flow_barren_organic"].values[:, 3].max()
    assert share == pytest.approx(returned / 0.15, rel=5e-3)
    assert not said(run(document), "recycle")


def test_iron_is_told_as_in_the_steady_circuit():
    document = small(load("upsets-pr-nd").document)
    document["components"] = [*document["components"], "Fe"]
    document["inlet"][0]["composition"]["Fe"] = "0.001 mol/L"
    document["purity_basis"] = "mole"
    steady = {k: v for k, v in document.items() if k not in TIMED} | {"kind": "cascade"}
    codes = ("iron-stripping", "hydrolysis", "recycle")
    wanted = {w.code for w in run(steady).warnings} & set(codes)
    assert "iron-stripping" in wanted
    found = run({**document, "time": {"end": "0.1 d", "tolerance": 1e-3}})
    assert {w.code for w in found.warnings} & set(codes) == wanted


@pytest.mark.parametrize("kind", ["cascade", "cascade-dynamic"])
def test_the_organic_of_a_closed_loop_brings_no_metal(kind):
    """It would come from nowhere: 0.01 mol/L of Nd in it gave recoveries of 1.5."""
    document = small(load("upsets-pr-nd").document)
    if kind == "cascade":
        document = {k: v for k, v in document.items() if k not in TIMED} | {"kind": kind}
    given = copy.deepcopy(document)
    given["organic"]["composition"] = {"Nd": "0.01 mol/L", "Pr": "0 mol/L"}
    with pytest.raises(InputError, match="carries what it returned with") as caught:
        load(given)
    (problem,) = caught.value.problems
    assert (problem.key, problem.value) == ("organic.composition.Nd", "0.01 mol/L")
    assert problem.expected == "Na or recycle.organic = false"
    # The soap's own ion is given anew, and an organic that does not return brings what it holds.
    given["organic"]["composition"] = {"Na": "0.01 mol/L"}
    soap = {**document, "organic": {**document["organic"], "saponification": 0.36}}
    ours, theirs = (run(d).streams["raffinate"].moles for d in (given, soap))
    assert ours["Pr"]["value"] == pytest.approx(theirs["Pr"]["value"], rel=1e-9)
    given["organic"]["composition"] = {"Nd": "0.01 mol/L"}
    fresh = run({**given, "recycle": {"organic": False}})
    assert sum(s.recovery["Nd"] for s in fresh.streams.values()) > 0.99


def test_nothing_that_happens_gives_a_closed_organic_metal():
    document = small(load("upsets-pr-nd").document)
    event = {"setting": "organic.composition.Nd", "at": "1 h", "value": "0.01 mol/L"}
    with pytest.raises(InputError, match="carries what it returned with") as caught:
        run({**document, "event": [event]})
    assert caught.value.problems[0].key == "event.0.setting"
    run({**document, "event": [{**event, "setting": "organic.composition.Na"}]})


def led(**find):
    """The split of Nd from Pr filled with feed, a loop on its scrub from 57 h on."""
    document = copy.deepcopy(dict(load("control-nd-pr").document))
    document |= {"event": [], "time": {"end": "12 d", "tolerance": 1e-3, "outputs": 3}}
    document["start"] = {
        "fill": "feed",
        "policy": "split",
        "find": {"levels": [1.0], "durations": ["57 h"], "rounds": 0, **find},
    }
    document["controller"][0] |= {"start": "57 h"}
    return document  # fmt: skip


def test_controllers_act_in_a_search_for_a_policy():
    document = led()
    found = run(document)
    tried = found.profiles["policies"].values
    # Nothing held, and one: both are what the case itself gives with its loop.
    plain = run({**document, "start": {"fill": "feed"}})
    for row, result in ((0, plain), (1, found)):
        ends = ("loaded_organic_Nd_0.99", "raffinate_Pr_0.99")
        lasting = max(result.quantities[f"{end}_lasting"]["value"] for end in ends)
        assert tried[row, 2] == pytest.approx(lasting, rel=1e-6)
    # Without it the train does not come there in twenty days.
    free = run({**document, "controller": []}).profiles["policies"].values
    assert np.isnan(free[0, 2])
    assert tried[0, 2] < 250


def test_a_policy_is_over_before_a_loop_takes_over_what_it_led():
    found = run(led(durations=["40 h", "57 h", "80 h"]))
    assert found.profiles["policies"].values[1:, 1].tolist() == [40.0, 57.0]
    for start in ({"find": {"durations": ["80 h"]}}, {"product": 1.0, "duration": "80 h"}):
        document = led()
        document["start"] = {"fill": "feed", "policy": "split", **start}
        with pytest.raises(InputError, match="leads what it moves") as caught:
            run(document)
        (problem,) = caught.value.problems
        assert (problem.key, problem.value) == ("controller.0.start", "57 h")
        assert "80 h" in problem.expected


def test_what_happens_from_the_first_moment_happens_in_a_search_too():
    document = led()
    richer = {"setting": "inlet.feed.composition.Pr", "at": "0 d", "factor": 1.04}
    document |= {"controller": [], "event": [richer], "time": {"end": "15 d", "tolerance": 1e-3}}
    found = run(document)
    ends = ("loaded_organic_Nd_0.99_missed", "raffinate_Pr_0.99_missed")
    missed = sum(found.quantities[end]["value"] for end in ends)
    assert found.profiles["policies"].values[1, 3] == pytest.approx(missed, rel=1e-6)


def test_a_loop_beside_a_lead_of_another_setting_acts_from_the_start():
    document = small(load("upsets-pr-nd").document)
    document["specification"] = [{"outlet": "raffinate", "component": "Pr", "purity": 0.2}]
    document["start"] = {"fill": "feed", "policy": "lead", "setting": "organic.flow",
                         "factor": 1.01, "duration": "6 h"}  # fmt: skip
    found = run({**document, "controller": [LOOP]})
    assert found.profiles["loop_scrub"].axes["time_h"][0] == 0.0
    document["start"]["setting"] = LOOP["setting"]
    with pytest.raises(InputError, match="leads what it moves"):
        run({**document, "controller": [LOOP]})


@pytest.mark.parametrize("fill", ["feed", "steady"])
def test_what_jumps_within_a_ramp_jumps_when_it_should(fill):
    """Not within the step that ends there: an outage in a ramp found no end of it."""
    document = small(load("upsets-pr-nd").document)
    document |= {"start": {"fill": fill}, "time": {"end": "2 h", "tolerance": 1e-6, "outputs": 5}}
    ramp = {"setting": "inlet.feed.flow", "at": "0.1 h", "ramp": "4 h", "factor": 1.1}
    crud = {"setting": "section.scrub.efficiency", "at": "1 h", "factor": 0.5}
    out = {"section": "scrub", "first": 2, "at": "1 h", "until": "1.5 h"}
    alone = run({**document, "event": [ramp]})
    for more in ({"event": [ramp, crud]}, {"event": [ramp], "outage": [out]}):
        found = run({**document, **more})
        assert found.balance["max"] < 1e-12
        for name in ("raffinate", "strip_liquor"):
            ours, theirs = (r.profiles[f"flow_{name}"].values for r in (found, alone))
            # At 1 h it has not happened; then it does something.
            assert ours[:3] == pytest.approx(theirs[:3], rel=1e-5, abs=1e-9)
        assert (
            np.abs(found.profiles["share_aq"].values - alone.profiles["share_aq"].values).max()
            > 1e-4
        )
        # A jump costs a few steps, as it does without a ramp.
        plain = run({**document, **more, "event": more["event"][1:]})
        assert found.solver["iterations"] < plain.solver["iterations"] + 12


def test_loading_is_that_of_the_extractant_there_is():
    """A solvent that gets thinner is loaded as the steady circuit with so much of it is."""
    document = small(load("upsets-pr-nd").document)
    document["organic"]["saponification"] = 0.4
    steady = {k: v for k, v in document.items() if k not in TIMED} | {"kind": "cascade"}
    assert not said(run(steady), "loading")
    thin = {"setting": "organic.extractant", "at": "2 h", "value": "0.8 mol/L"}
    less = copy.deepcopy(steady)
    less["organic"]["extractant"] = "0.8 mol/L"
    (wanted,) = said(run(less), "loading")
    document["time"] |= {"end": "4 d", "tolerance": 1e-5, "outputs": 97}
    (ours,) = said(run({**document, "event": [thin]}), "loading")
    share = [float(w.message.split(" mol of rare")[0]) for w in (ours, wanted)]
    assert share[0] == pytest.approx(share[1], rel=0.02)
    assert share[0] < 1 / 6


def test_an_outlet_that_delivers_nothing_is_not_on_specification_in_silence():
    """More scrub acid than soap washes all metal out with the raffinate."""
    document = small(load("upsets-pr-nd").document, time={"end": "4 d", "tolerance": 1e-3})
    document["inlet"][1] |= {"flow": "30 L/h", "acid": "3 mol/L"}
    document |= {"start": {"fill": "feed"}}
    document["specification"] = [{"outlet": "strip_liquor", "component": "Nd", "purity": 0.1}]
    (told,) = said(run(document), "no-product")
    assert told.where == "strip_liquor"
    document["inlet"][1] |= {"flow": "8.2296 L/h", "acid": "1 mol/L"}
    assert not said(run(document), "no-product")
