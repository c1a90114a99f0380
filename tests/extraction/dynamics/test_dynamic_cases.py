"""Cases: shipped files, what stands in results, and what is refused."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from trains_for_tests import circuit_train

from sepmodel import load, run
from sepmodel.data import Book
from sepmodel.errors import ConvergenceError, InputError
from sepmodel.extraction.dynamics import integrate, simulate, solve
from sepmodel.extraction.dynamics.inputs import DynamicCircuitCase
from sepmodel.extraction.dynamics.schedule import Schedule
from sepmodel.fields import validate
from sepmodel.plot_dynamic import loops

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def binary():
    return load("start-nd-pr").document


def changed(document, **tables):
    out = copy.deepcopy(dict(document))
    for key, value in tables.items():
        out[key] = {**out[key], **value} if isinstance(out.get(key), dict) else value
    return out


def test_a_result_tells_when_specifications_are_met(binary):
    found = run(binary)
    hours = found.quantities["raffinate_Pr_0.99_first"]["value"]
    # Residence times of 0.2 h: about 7,100 of them.
    assert hours == pytest.approx(0.2 * 7088, rel=1e-3)
    assert found.balance["max"] < 1e-11
    json.dumps(found.to_dict(), allow_nan=False)
    trace = found.profiles["purity_raffinate"]
    assert trace.values[-1, 1] == pytest.approx(found.streams["raffinate"].purity["Pr"])


@pytest.mark.parametrize(("basis", "first"), [("outflow", 7088.0), ("feed", 1679.4)])
def test_definitions_of_the_holdup(binary, basis, first):
    document = changed(binary, holdup={"basis": basis, "mixer": "1 h"}, time={"end": "400 d"})
    document["time"]["outputs"] = 2
    found = run(document)
    assert found.quantities["raffinate_Pr_0.99_first"]["value"] == pytest.approx(first, rel=1e-3)


def test_recoveries_of_a_moment_are_told(binary):
    """Two days after the start the inventory still grows; a steady start is at rest."""
    told = run(changed(binary, time={"end": "2 d"}))
    (one,) = [w for w in told.warnings if w.code == "not-at-rest"]
    moving = max(
        (abs(sum(s.recovery[n] for s in told.streams.values()) - 1.0), n) for n in ("Nd", "Pr")
    )
    assert moving[0] > 0.01
    assert moving[1] in one.message
    still = run(changed(binary, start={"fill": "steady"}, time={"end": "2 d"}))
    assert "not-at-rest" not in [w.code for w in still.warnings]


def test_outlets_are_right_at_every_hour():
    """A front that breaks through into a liquor with next to nothing in it lasts three hours."""
    document = changed(load("upsets-pr-nd").document, time={"end": "2 d", "outputs": 49})
    document["event"] = []
    shares = []
    for tolerance in (1e-3, 1e-7):
        document["time"]["tolerance"] = tolerance
        shares.append(run(document).profiles["purity_strip_liquor"].values[2:])
    # Within an hour half of the liquor changes.
    assert np.abs(np.diff(shares[1], axis=0)).max() > 0.4
    assert np.abs(shares[0] - shares[1]).max() < 1e-4


def test_it_starts_steady_and_stays(binary):
    document = changed(binary, start={"fill": "steady"}, time={"end": "30 d"})
    found = run(document)
    purity = found.profiles["purity_raffinate"].values
    assert np.abs(purity - purity[0]).max() < 1e-9
    circuit = dict(load("upsets-pr-nd").document)
    circuit["start"] = {"fill": "steady"}
    circuit["event"] = []
    circuit["time"] = {"end": "5 d", "tolerance": 1e-5}
    found = run(circuit)
    assert np.ptp(found.profiles["purity_raffinate"].values, axis=0).max() < 1e-8


def saponified():
    """The closed circuit with its base in a section of its own: a strip that holds nothing yet."""
    document = copy.deepcopy(dict(load("magnet-circuit").document))
    del document["organic"]["saponification"]
    document["section"].append({"name": "saponify", "stages": 2})
    base = {"name": "base", "section": "saponify", "flow": "0.26 L/h", "base": "4.6 mol/L"}
    document["inlet"].append(base)
    return document


@pytest.mark.parametrize("name", ["dy-tb", "magnet-two-acids", "saponified"])
def test_steady_cases_in_time_stay_and_come_to_rest(name):
    """Efficiencies by mass flow, two acids, a saponify section."""
    document = saponified() if name == "saponified" else copy.deepcopy(dict(load(name).document))
    settler = "0 h" if name == "magnet-two-acids" else "0.1 h"
    document |= {"kind": "cascade-dynamic", "holdup": {"mixer": "0.1 h", "settler": settler}}
    end = "4 d" if name == "magnet-two-acids" else "400 d"
    document["time"] = {"end": end, "outputs": 3, "maps": 2, "tolerance": 1e-4}
    steady = run({**document, "start": {"fill": "steady"}})
    for key, profile in steady.profiles.items():
        if key.startswith(("purity", "share", "map")):
            assert np.ptp(profile.values, axis=0).max() < 1e-8 or key.startswith("share"), key
    found = run({**document, "start": {"fill": "feed"}})
    assert found.balance["max"] < 1e-11
    for key in ("share_aq", "share_org") if end == "400 d" else ():
        assert np.abs(found.profiles[key].values - steady.profiles[key].values).max() < 1e-8, key


def test_the_organic_of_a_closed_loop_is_the_steady_solvers():
    """A strip too weak for the heavy ones: they go round, and leave with the liquors only."""
    document = small(load("upsets-pr-nd").document)
    document["inlet"][2] |= {"acid": "1.2 mol/L", "flow": "3 L/h"}
    timed = ("holdup", "start", "time", "event", "specification")
    steady = run({k: v for k, v in document.items() if k not in timed} | {"kind": "cascade"})
    found = run({**document, "time": {"end": "1 h", "tolerance": 1e-6}})
    assert found.streams["barren_organic"].moles["Dy"]["value"] > 1.0
    for name in ("barren_organic", "strip_liquor", "raffinate"):
        ours, theirs = found.streams[name], steady.streams[name]
        for table in ("moles", "conc", "purity", "recovery"):
            numbers = [
                [v if isinstance(v, float) else v["value"] for v in getattr(s, table).values()]
                for s in (ours, theirs)
            ]
            assert numbers[0] == pytest.approx(numbers[1], rel=1e-8, abs=1e-20), (name, table)
        flows = found.profiles[f"flow_{name}"].values[-1]
        assert flows == pytest.approx([m["value"] for m in ours.moles.values()], rel=1e-9)
        purities = found.profiles[f"purity_{name}"].values[-1]
        assert purities == pytest.approx(list(ours.purity.values()))
    assert found.balance["max"] < 1e-11


def test_a_stage_may_be_out_from_the_first_moment(binary):
    for document in (changed(binary), small(load("upsets-pr-nd").document)):
        document["time"] = {"end": "6 h", "outputs": 7, "tolerance": 1e-5}
        for fill in ("feed", "steady"):
            maps = []
            for at in ("0 d", "1e-6 h"):
                outage = {"section": "scrub", "first": 3, "at": at, "until": "3 h"}
                found = run({**document, "start": {"fill": fill}, "outage": [outage]})
                maps.append(found.profiles["map_aq"].values[1:])
            assert maps[0] == pytest.approx(maps[1], abs=1e-6)


def test_split_start_is_faster(binary):
    slow = run(binary)
    fast = run(changed(binary, start={"policy": "split", "product": 1.0, "duration": "60 h"}))
    times = [
        max(r.quantities[f"{k}_lasting"]["value"] for k in
            ("loaded_organic_Nd_0.99", "raffinate_Pr_0.99"))
        for r in (slow, fast)
    ]  # fmt: skip
    assert times[1] < times[0] / 1.5


def test_plug_flow_and_staged_filling_from_a_file(binary):
    found = run(
        changed(
            binary,
            holdup={"mixer": "0.1 h", "settler": "0.2 h", "cells": "plug", "dead": 0.1},
            start={"policy": "staged", "product": 1.0, "duration": "200 h", "steps": 4},
            time={"end": "15 d", "tolerance": 1e-3, "outputs": 64, "maps": 4},
        )
    )
    assert found.balance["max"] < 1e-11
    assert found.quantities["raffinate_Pr_0.99_lasting"]["value"] < 260


def test_prommis_step_goes_the_published_way():
    found = run(ROOT / "validation" / "prommis-dynamic" / "case.toml")
    flows = found.profiles["purity_raffinate"]
    assert flows.values[0] == pytest.approx(flows.values[40])
    assert found.balance["max"] < 1e-11


def test_everything_wrong_is_said_at_once(binary):
    document = changed(
        binary,
        event=[
            {"setting": "inlet.fed.flow", "at": "1 d", "value": 1.1},
            {"setting": "mass_flow.scrub", "at": "1 d", "value": "3 L/h"},
        ],
    )
    with pytest.raises(InputError) as caught:
        run(document)
    keys = {p.key for p in caught.value.problems}
    assert keys == {"event.0.setting", "event.1.value"}


@pytest.mark.parametrize(
    ("tables", "part"),
    [
        ({"holdup": {"mixer": None}}, "holdup"),
        ({"holdup": {"mixer_aq": "1 L", "mixer_org": "1 L"}}, ""),
        ({"start": {"fill": "fresh"}}, ""),
        ({"specification": [{"outlet": "oil", "component": "Nd", "purity": 0.9}]}, "outlet"),
        ({"event": [{"setting": "mass_flow.scrub", "at": "2 d"}]}, "event"),
        ({"time": {"end": "0 d"}}, "time"),
    ],
)
def test_what_is_refused(binary, tables, part):
    document = changed(binary, **tables)
    for table in document.values():
        if isinstance(table, dict):
            for key in [k for k, v in table.items() if v is None]:
                del table[key]
    if "mixer_aq" in document["holdup"]:
        del document["holdup"]["mixer"]
    with pytest.raises(InputError) as caught:
        run(document)
    assert any(part in p.key for p in caught.value.problems)


def test_a_controller_holds_the_split(binary):
    """Feed a little richer in Pr: left alone the Nd end is lost, the loop on a stage keeps it."""
    events = [{"setting": "inlet.feed.composition.Pr", "at": "1 d", "factor": 1.04}]
    loop = {
        "name": "split",
        "measure": "share_aq",
        "section": "extraction",
        "stage": 10,
        "component": "Nd",
        "setting": "mass_flow.scrub",
        "target": 0.113,
        "gain": 0.05,
        "time": "50 h",
        "interval": "4 h",
        "delay": "4 h",
        "low": 3.3,
        "high": 3.4,
    }
    base = changed(binary, start={"fill": "steady"}, time={"end": "60 d", "tolerance": 1e-3})
    free = run({**base, "event": events})
    held = run({**base, "event": events, "controller": [loop]})
    worst = [r.profiles["purity_loaded_organic"].values[-1, 0] for r in (free, held)]
    assert worst[0] < 0.99 < 0.994 < worst[1]
    assert held.profiles["loop_split"].values.shape[1] == 2
    assert held.balance["max"] < 1e-11


def test_a_fresh_start_fills_itself():
    document = small(load("upsets-pr-nd").document, start={"fill": "fresh"})
    document["time"] = {"end": "4 d", "tolerance": 1e-3}
    found = run(document)
    assert found.balance["max"] < 1e-11
    held = found.profiles["inventory"].values[:, :4].sum(axis=1)
    assert held[0] == 0
    # What it holds at last does not depend on how it began.
    other = run({**document, "start": {"fill": "feed"}})
    assert held[-1] == pytest.approx(other.quantities["inventory_end"]["value"], rel=1e-3)


@pytest.mark.parametrize("fill", ["feed", "fresh"])
def test_a_fill_does_not_depend_on_the_order_of_the_inlets(fill):
    """Neither is a base a feed, nor the acid of the strip that of the scrub."""
    document = saponified() | {"kind": "cascade-dynamic", "holdup": {"mixer": "0.1 h"}}
    document |= {"start": {"fill": fill}, "time": {"end": "1 h"}}
    orders = document["inlet"], document["inlet"][::-1]
    trains = [
        solve.assemble(validate(DynamicCircuitCase, document | {"inlet": inlets}), Book()).run
        for inlets in orders
    ]
    filled = [run.train.start(run.train.network(run.train.settings), fill)[0] for run in trains]
    assert np.array_equal(*filled)
    assert filled[0].any()


def test_a_strip_too_weak_for_what_the_loop_carries_ends_the_run():
    """Less acid than soap: what the organic would hold comes to exceed its extractant."""
    document = small(load("upsets-pr-nd").document, time={"end": "10 d", "tolerance": 1e-4})
    document["inlet"][2]["acid"] = "0.1 mol/L"
    document["start"] = {"fill": "feed"}
    with pytest.raises(ConvergenceError, match=r"more soap and metal .* d of plant time") as caught:
        run(document)
    assert caught.value.trace.stage == 1
    assert "strip acid" in caught.value.trace.advice


def test_a_pump_that_stands_still_is_told_as_that():
    event = {"setting": "inlet.scrub-acid.flow", "at": "2 h", "until": "3 h", "factor": 0.0}
    found = run(small(load("upsets-pr-nd").document, event=[event]))
    ratios = {w.where: w.message for w in found.warnings if w.code == "phase-ratio"}
    assert ratios["scrub, 0.08333 d"].startswith("aqueous stands still")
    assert ratios["extraction, 0.08333 d"].startswith("organic to aqueous 30 lies")


def test_time_and_product_missed_add_up(binary):
    """Nd is lost by a feed rich in Pr and won back: the hours off are those between crossings."""
    events = [{"setting": "inlet.feed.composition.Pr", "at": "1 d", "until": "40 d",
               "factor": 1.06}]  # fmt: skip
    found = run(changed(binary, start={"fill": "steady"}, event=events, time={"end": "150 d"}))
    trace = found.profiles["purity_loaded_organic"]
    hours = np.array(trace.axes["time_h"])
    below = trace.values[:, 0] < 0.99
    assert below.any()
    assert not below[[0, -1]].any()
    missed = found.quantities["loaded_organic_Nd_0.99_missed"]["value"]
    assert missed == pytest.approx(below.sum() * (hours[1] - hours[0]), abs=2 * hours[1])
    # 0.7525 of the feed leaves there all the time.
    assert found.quantities["loaded_organic_Nd_0.99_off"]["value"] == pytest.approx(
        0.7525 * missed, rel=1e-6
    )
    assert {w.code for w in found.warnings} == {"specification-lost"}


def test_usual_disturbances_are_the_events_they_stand_for():
    base = small(load("upsets-pr-nd").document)
    base["time"] = {"end": "2 d", "tolerance": 1e-3, "outputs": 32, "maps": 4}
    named = [
        {"kind": "feed-surge", "size": 0.02, "at": "0.5 d"},
        {"kind": "acid-weaker", "size": 0.01, "at": "1 d", "until": "1.5 d", "inlet": "scrub-acid"},
        {"kind": "crud", "size": 0.3, "at": "1 d", "section": "scrub", "first": 2, "last": 3},
    ]
    events = [
        {"setting": "inlet.feed.flow", "at": "0.5 d", "factor": 1.02},
        {"setting": "inlet.scrub-acid.acid", "at": "1 d", "until": "1.5 d", "factor": 0.99},
        {"setting": "section.scrub.efficiency", "at": "1 d", "factor": 0.7, "first": 2, "last": 3},
    ]
    ours = run({**base, "event": [], "disturbance": named})
    theirs = run({**base, "event": events})
    for name, profile in theirs.profiles.items():
        assert np.array_equal(ours.profiles[name].values, profile.values), name
    assert set(ours.profiles["purity_raffinate"].bands) == {"feed-surge", "acid-weaker", "crud"}
    for wrong in (
        {"kind": "acid-weaker", "size": 0.1, "at": "1 d"},
        {"kind": "acid-weaker", "size": 0.1, "at": "1 d", "inlet": "scrubacid"},
        {"kind": "flood", "size": 0.1, "at": "1 d"},
    ):
        with pytest.raises(InputError):
            run({**base, "event": [], "disturbance": [wrong]})


def small(document, **tables):
    """The circuit with a tenth of its stages, for a day."""
    out = changed(document, start={"fill": "steady"}, time={"end": "1 d", "tolerance": 1e-3})
    for section, stages in zip(out["section"], (4, 4, 2), strict=True):
        section["stages"] = stages
    return {**out, "specification": [], "event": [], **tables}


def test_events_are_held_to_what_the_case_is():
    document = small(load("upsets-pr-nd").document)
    wrong = [
        ({"setting": "organic.saponification", "value": 2.0}, "event.0.value"),
        ({"setting": "inlet.feed.acid", "value": "-0.1 mol/L"}, "event.1.value"),
        ({"setting": "inlet.feed.composition.Nd", "value": "-1 g/L"}, "event.2.value"),
        ({"setting": "section.scrub.entrainment_aq", "value": 0.9}, "event.3.value"),
        ({"setting": "section.scrub.efficiency", "factor": 1.2}, "event.4.factor"),
    ]
    outages = [
        {"section": "extraction", "first": 99, "at": "0 d", "until": "2 d"},
        {"section": "saponify", "first": 1, "at": "0 d", "until": "2 d"},
    ]
    with pytest.raises(InputError) as caught:
        run({**document, "event": [{"at": "1 d", **e} for e, _ in wrong], "outage": outages})
    keys = [p.key for p in caught.value.problems]
    assert keys == [*(key for _, key in wrong), "outage.0.first", "outage.1.section"]
    assert caught.value.problems[5].expected == "1 to 4"


@pytest.mark.parametrize(
    ("events", "key", "part"),
    [
        # Each alone is in bounds; what the organic or the flows must do is not.
        ([("mass_flow.solvent", 0.5)], "event.0.factor", "more than 0.8165"),
        ([("mass_flow.scrub", 0.999), ("mass_flow.scrub", 1.3)], "event.1.factor", "1.2247"),
        ([("inlet.feed.flow", 0.0)], "event.0.factor", "more than 0.7525"),
    ],
)
def test_what_a_train_cannot_run_with_is_said_before_it_runs(binary, events, key, part):
    listed = [
        {"setting": s, "at": f"{5 + k} d", "until": f"{6 + k} d", "factor": f}
        for k, (s, f) in enumerate(events)
    ]
    with pytest.raises(InputError, match=f"from {4 + len(events)} d on") as caught:
        run(changed(binary, event=listed))
    (problem,) = caught.value.problems
    assert problem.key == key
    assert part in problem.expected


def test_an_outage_of_all_stages_is_one_clear_error(binary):
    whole = [{"section": name, "first": 1, "last": last, "at": "5 d", "until": "6 d"}
             for name, last in (("extraction", 20), ("scrub", 19))]  # fmt: skip
    with pytest.raises(InputError, match="in stages 1, 39 the organic has to take up") as caught:
        run(changed(binary, outage=whole))
    (problem,) = caught.value.problems
    assert "mass action any stage" in problem.expected
    # By mass action only what is not stripped, and given soap all the same, is too much.
    document = small(load("upsets-pr-nd").document)
    document["outage"] = [
        {"section": name, "first": 1, "last": last, "at": "1 h", "until": "20 h"}
        for name, last in (("extraction", 4), ("scrub", 4), ("strip", 2))
    ]
    with pytest.raises(ConvergenceError, match=r"more soap and metal .* d of plant time"):
        run(document)
    del document["outage"][2]
    assert run(document).balance["max"] < 1e-11


def test_limits_of_liquors_are_told_with_their_moment():
    event = {"setting": "organic.saponification", "at": "2 h", "until": "20 h", "value": 0.48}
    thin = {"setting": "inlet.scrub-acid.flow", "at": "6 h", "until": "7 h", "factor": 0.05}
    found = run(small(load("upsets-pr-nd").document, event=[event, thin]))
    ratios = [w.where for w in found.warnings if w.code == "phase-ratio"]
    assert ratios == ["extraction, 0.25 d", "scrub, 0.25 d"]
    (loading,) = [w for w in found.warnings if w.code == "loading"]
    assert "may gel" in loading.message
    assert loading.where.startswith("extraction, stage ")
    assert 2 / 24 < float(loading.where.split()[-2]) <= 1.0
    assert "loading" not in {w.code for w in run(small(load("upsets-pr-nd").document)).warnings}


def test_soap_beyond_the_extractant_is_refused_in_an_event_too():
    document = small(load("upsets-pr-nd").document)
    event = {"setting": "organic.saponification", "at": "0.2 d", "value": 0.55}
    with pytest.raises(InputError, match="so much soap") as caught:
        run({**document, "event": [event]})
    # 0.5 of 0.35: two acids to a dimer.
    assert "less than 1.42857" in caught.value.problems[0].expected


def test_a_pump_may_stop():
    document = small(load("upsets-pr-nd").document)
    trips = [
        {"setting": key, "at": at, "until": until, "factor": 0.0}
        for key, at, until in (
            ("inlet.feed.flow", "0.1 d", "0.2 d"),
            ("organic.flow", "0.3 d", "0.4 d"),
            ("inlet.scrub-acid.flow", "0.5 d", "0.6 d"),
        )
    ]
    found = run({**document, "event": trips})
    assert found.balance["max"] < 1e-11
    assert np.isfinite(found.profiles["inventory"].values).all()
    with pytest.raises(InputError, match="negative"):
        run({**document, "event": [{"setting": "organic.flow", "at": "1 h", "value": "-1 L/h"}]})


LOOP = {
    "name": "scrub", "measure": "share_aq", "section": "extraction", "stage": 2, "component": "Nd",
    "setting": "inlet.scrub-acid.flow", "target": 0.5, "gain": "0.1 L/h", "time": "10 h",
    "interval": "1 h", "low": "8 L/h", "high": "8.5 L/h",
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "changes", "key", "part"),
    [
        ("small", {"event": {"setting": "inlet.feed.acid", "value": "1e7 mol/L"}},
         "event.0.value", "impossible-concentration"),
        ("small", {"event": {"setting": "inlet.feed.composition.Nd", "value": "20 mol/L"}},
         "event.0.value", "less than 5.16"),
        ("small", {"event": {"setting": "inlet.scrub-acid.composition.Nd", "factor": 2.0}},
         "event.0.factor", "factor on nothing"),
        ("small", {"event": {"setting": "inlet.feed.sulfate", "value": "0.1 mol/L"}},
         "event.0.setting", "nothing that can change"),
        ("small", {"disturbance": {"kind": "crud", "section": "strip", "first": 3, "size": 0.1}},
         "disturbance.0.first", "1 to 2"),
        ("start-nd-pr", {"specification": {"outlet": "raffinate", "component": "Sm",
                                           "purity": 0.9}},
         "specification.0.component", "one of Nd, Pr"),
        ("small", {"specification": {"outlet": "raffinate", "component": "Na", "purity": 0.9}},
         "specification.0.component", "Pr, Nd, Tb, Dy"),
        ("control-nd-pr", {"controller": {"measure": "pH", "component": None}},
         "controller.0.measure", "no pH"),
        ("control-nd-pr", {"controller": {"component": "Sm"}}, "controller.0.component", "Nd, Pr"),
        ("control-nd-pr", {"controller": {"interval": "1 s"}}, "controller.0.interval", "looks"),
        ("small", {"holdup": {"cells": 1000000}}, "holdup.cells", "256"),
        ("small", {"holdup": {"settler_aq": "1 L", "settler_org": "1 L"}}, "holdup.settler_aq",
         "a time or volumes"),
        ("small", {"holdup": {"cells": 4}}, "holdup.cells", "no settler"),
        ("small", {"holdup": {"dead": 0.1}}, "holdup.dead", "no settler"),
        ("small", {"event": {"setting": "inlet.feed.flow", "factor": 1.1, "first": 1}},
         "event.0.first", "section's efficiency"),
        ("small", {"event": {"setting": "inlet.feed.flow", "factor": 1.1, "until": "2.4 h"}},
         "event.0.until", "before it has come about"),
        ("small", {"disturbance": {"kind": "crud", "section": "scrub", "size": 0.1, "first": 3,
                                   "last": 2}}, "disturbance.0.first", "1 to 4"),
        ("small", {"disturbance": {"kind": "feed-surge", "size": 0.1, "first": 1}},
         "disturbance.0.first", "knows no first"),
        ("small", {"disturbance": {"kind": "feed-surge", "size": 0.1, "inlet": "fed"}},
         "disturbance.0.inlet", "did you mean"),
        ("small", {"disturbance": {"kind": "soap-lower", "size": 0.1, "until": "1 h"}},
         "disturbance.0.until", "after at, 2.4 h"),
        ("small", {"outage": {"section": "scrub", "first": 3, "until": "1 h"}},
         "outage.0.until", "after at, 2.4 h"),
        ("small", {"outage": {"section": "scrub", "first": 3, "until": "2.4 h"}},
         "outage.0.until", "before it has come about"),
        ("small", {"start": {"steps": 3}}, "start.steps", "staged"),
        ("small", {"start": {"profile": [{"section": "scrub", "composition": {"Nd": 1.0}}]}},
         "start.profile", "its own shares"),
        ("small", {"specification": {"outlet": "barren_organic", "component": "Nd",
                                     "purity": 0.9}},
         "specification.0.outlet", "it returns"),
    ],
)  # fmt: skip
def test_what_a_user_may_mistake_is_named(name, changes, key, part):
    given = load("upsets-pr-nd" if name == "small" else name).document
    document = small(given) if name == "small" else copy.deepcopy(dict(given))
    for table, values in changes.items():
        if table in ("event", "disturbance", "outage"):
            values = {"at": "0.1 d", **values}
        if table == "controller":
            values = {**document["controller"][0], **values}
            values = {k: v for k, v in values.items() if v is not None}
        document[table] = (
            {**document[table], **values} if table in ("holdup", "start") else [values]
        )
    with pytest.raises(InputError) as caught:
        run(document)
    (problem,) = caught.value.problems
    assert problem.key == key
    assert part in str(problem)


@pytest.mark.parametrize(
    ("changes", "key", "part"),
    [
        ({"component": "Na"}, "0.component", "Pr, Nd, Tb, Dy"),
        ({"target": 39.2}, "scrub.target", "0 to 1"),
        ({"measure": "pH", "component": None, "target": 39.2}, "scrub.target", "-2 to 16"),
        ({"low": "8.3 L/h"}, "0.low", "at most 8.2296 L/h"),
        ({"high": "8.1 L/h"}, "0.high", "at least 8.2296 L/h"),
        ({"gain": "0 L/h"}, "0.gain", "does nothing"),
        ({"gain": None, "time": None, "tune": 0.0}, "scrub.tune", "step of nothing"),
        ({"outlet": "raffinate"}, "scrub.outlet", "section, stage, component"),
        ({"measure": "purity", "section": None, "stage": None, "outlet": "barren_organic"},
         "0.outlet", "it returns"),
        ({"setting": "section.scrub.efficiency", "gain": 0.1, "low": 0.5, "high": 1.0},
         "0.setting", "several settings"),
    ],
)  # fmt: skip
def test_what_a_controller_cannot_do_is_named(changes, key, part):
    document = small(load("upsets-pr-nd").document)
    loop = {k: v for k, v in {**LOOP, **changes}.items() if v is not None}
    with pytest.raises(InputError) as caught:
        run({**document, "controller": [loop]})
    (problem,) = caught.value.problems
    assert problem.key == f"controller.{key}"
    assert part in str(problem)


def test_what_is_wrong_with_loops_outlets_and_fillings_is_said_at_once():
    document = small(load("upsets-pr-nd").document)
    filled = [
        {"section": "scrub", "first": 3, "last": 2, "composition": {"Nd": 1.0}},
        {"section": "strip", "composition": {"Sm": 1.0}},
    ]
    document["start"] = {"fill": "feed", "profile": filled}
    document["specification"] = [{"outlet": "oil", "component": "Sm", "purity": 0.9}]
    strip = {"setting": "inlet.strip-acid.flow", "low": "9 L/h", "high": "11 L/h"}
    with pytest.raises(InputError) as caught:
        run({**document, "controller": [LOOP, {**LOOP, **strip}]})
    assert {p.key for p in caught.value.problems} == {
        "controller.1.name",
        "specification.0.component",
        "specification.0.outlet",
        "start.profile.0",
        "start.profile.1.composition",
        "start.profile.1.section",
    }


def test_a_step_test_that_moves_nothing_names_its_controller(monkeypatch):
    document = small(load("upsets-pr-nd").document)
    monkeypatch.setattr("sepmodel.extraction.dynamics.tuning.NOTHING", 1e3)
    loop = {k: v for k, v in LOOP.items() if k not in ("gain", "time")} | {"tune": 0.01}
    with pytest.raises(InputError) as caught:
        run({**document, "controller": [loop]})
    (problem,) = caught.value.problems
    assert (problem.key, problem.value) == ("controller.0.setting", "inlet.scrub-acid.flow")


def test_loops_are_told_in_the_units_of_their_limits():
    document = small(load("upsets-pr-nd").document)
    soap = {k: v for k, v in LOOP.items() if k != "component"} | {
        "name": "soap", "measure": "pH", "setting": "organic.saponification", "target": 1.5,
        "gain": 0.01, "low": 0.3, "high": 0.4,
    }  # fmt: skip
    feed = {**LOOP, "name": "feed", "setting": "inlet.feed.composition.Nd", "gain": "1 g/L",
            "low": "80 g/L", "high": "90 g/L"}  # fmt: skip
    found = run({**document, "controller": [LOOP, soap, feed]})
    for name, unit, low, high in (
        ("scrub", "L/h", 8.0, 8.5),
        ("soap", "1", 0.34, 0.36),
        ("feed", "g/L", 86.0, 87.5),
    ):
        profile = found.profiles[f"loop_{name}"]
        settings = profile.values[:, 1]
        assert profile.units == {"setting": unit}
        assert profile.marks == {"target": 1.5 if name == "soap" else 0.5}
        titles = {a.get_title() + a.get_title("left"): a for a in loops(found).axes}
        panel = titles[f"{name}: measured"]
        assert {line.get_ydata()[0] for line in panel.lines[1:]} == set(profile.marks.values())
        assert low < settings.min() < settings.max() < high
    # 0.6 mol/L of Nd, and gain times error.
    measured, setting = found.profiles["loop_scrub"].values[0]
    error = 0.5 - measured
    assert setting == pytest.approx(8.2296 + 0.1 * error * (1 + 1 / 10), rel=1e-9)
    head = found.csv_files()["profile_loop_scrub.csv"].splitlines()[0]
    assert head == "time_h,loop_scrub measured [1],loop_scrub setting [L/h]"


def test_a_base_that_weakens_comes_to_the_steady_state_with_it():
    document = saponified()
    document |= {"kind": "cascade-dynamic", "holdup": {"mixer": "0.1 h"}}
    document["time"] = {"end": "300 d", "outputs": 2, "maps": 2, "tolerance": 1e-4}
    weaker = copy.deepcopy(document)
    weaker["inlet"][-1]["base"] = "4.4 mol/L"
    steady = run({**weaker, "start": {"fill": "steady"}, "time": {"end": "1 h"}})
    event = {"setting": "inlet.base.base", "at": "1 h", "value": "4.4 mol/L"}
    found = run({**document, "event": [event]})
    for name, outlet in steady.streams.items():
        wanted = [m["value"] for m in outlet.moles.values()]
        given = [m["value"] for m in found.streams[name].moles.values()]
        assert given == pytest.approx(wanted, rel=1e-8, abs=1e-12), name
    with pytest.raises(InputError) as caught:
        run({**document, "event": [{**event, "value": "100 mol/L"}]})
    assert "less than 4.13" in caught.value.problems[0].expected
    for setting in ("inlet.base.acid", "inlet.base.composition.Na", "organic.saponification"):
        with pytest.raises(InputError) as caught:
            run({**document, "event": [{**event, "setting": setting, "value": 0.3}]})
        assert caught.value.problems[-1].expected == "inlet.base.base"


def test_limits_of_controllers_are_limits():
    document = dict(load("control-nd-pr").document)
    loop = document["controller"][0]
    for controllers, events, keys in (
        ([{**loop, "low": 3.4, "high": 3.3}], [], ["controller.0.low"]),
        ([{**loop, "low": -1.0}], [], ["controller.0.low"]),
        ([{**loop, "high": 5.0}], [], ["controller.0.high"]),
        ([loop, {**loop, "name": "again"}], [], ["controller.1.setting"]),
        ([loop], [{"setting": "mass_flow.scrub", "at": "1 d", "value": 3.35}],
         ["controller.0.setting"]),
    ):  # fmt: skip
        with pytest.raises(InputError) as caught:
            run({**document, "event": events, "controller": controllers})
        assert [p.key for p in caught.value.problems] == keys


def test_a_profile_holds_something(binary):
    part = {"section": "scrub", "first": 1, "composition": {"Nd": 0.0}}
    with pytest.raises(InputError) as caught:
        run(changed(binary, start={"profile": [part]}))
    assert caught.value.problems[0].key == "start.profile.0.composition"


def test_an_acid_that_failed_for_a_day_returns():
    # Without any acid for a day no anion is left in a scrub: protons of 1e-50, and 1 mol/L again.
    document = small(load("upsets-pr-nd").document)
    document["section"][1]["stages"] = 36
    event = {"setting": "inlet.scrub-acid.acid", "at": "0.1 d", "until": "1.1 d", "factor": 0.0}
    document["time"]["end"] = "1.2 d"
    found = run({**document, "event": [event]})
    assert found.balance["max"] < 1e-11
    assert found.solver["iterations"] < 500
    # What is left of it changes nothing.
    hardly = run({**document, "event": [{**event, "factor": 1e-7}]})
    ours, theirs = (r.profiles["share_aq"].values for r in (found, hardly))
    assert ours == pytest.approx(theirs, abs=1e-4)


def test_a_run_that_stops_says_when_in_plant_time_and_names_the_tolerance():
    train = circuit_train()
    plan = simulate.Run(
        train=train, schedule=Schedule(base=train.settings), start="feed", until=1e6,
        outputs=np.array([0.0]), options=integrate.Options(most=3),
    )  # fmt: skip
    with pytest.raises(ConvergenceError, match=r"stopped: .* d of plant time") as caught:
        simulate.simulate(plan)
    assert "time.tolerance" in caught.value.trace.advice


def test_what_a_run_is_too_short_for_is_said():
    document = small(load("upsets-pr-nd").document)
    event = {"name": "late", "setting": "organic.flow", "at": "2 d", "factor": 1.1}
    weaker = {"kind": "acid-weaker", "size": 0.1, "at": "1 d", "inlet": "scrub-acid"}
    outage = {"section": "scrub", "first": 1, "at": "3 d", "until": "4 d"}
    loop = {"measure": "pH", "section": "extraction", "target": 1.0, "gain": "1e-6 L/h",
            "time": "1 d", "interval": "1 h", "low": "0.9 L/h", "high": "1.1 L/h"}  # fmt: skip
    loops = [
        {**loop, "name": "slow-assay", "setting": "inlet.feed.flow", "delay": "30 h"},
        {**loop, "name": "seldom", "setting": "inlet.strip-acid.flow", "interval": "2 d",
         "low": "9 L/h", "high": "11 L/h"},
    ]  # fmt: skip
    assembled = run(
        {**document, "event": [event], "disturbance": [weaker], "outage": [outage],
         "controller": loops}
    )  # fmt: skip
    said = {w.where: w.code for w in assembled.warnings if w.code != "no-solvent-tank"}
    assert said == {
        "event.late.at": "never-happens",
        "disturbance.0.at": "never-happens",
        "outage.0.at": "never-happens",
        "controller.slow-assay.delay": "never-acts",
        "controller.seldom.interval": "acts-once",
    }


def test_a_tolerance_that_would_lose_an_upset_is_refused():
    with pytest.raises(InputError, match=r"tolerance") as caught:
        load("upsets-pr-nd", set={"time.tolerance": 2e-3})
    assert "0.001" in caught.value.problems[0].expected


def test_nothing_has_no_purity_and_meets_or_misses_nothing():
    spec = simulate.Specification(
        outlet="raffinate", component=0, least=0.9, weights=(1.0, 1.0), dry=1e-9
    )
    assert np.isnan(spec.purity(np.array([9e-10, 1e-12])))
    assert [spec.met(np.array([1e-10, 0.0]), before) for before in (True, False)] == [True, False]
    assert spec.met(np.array([1.0, 0.1]), False)
    # A product that stops on specification leaves it neither then nor when it comes again.
    document = small(load("upsets-pr-nd").document)
    feed = {"setting": "inlet.feed.flow", "at": "0.2 d", "until": "0.4 d", "factor": 0.0}
    document["specification"] = [{"outlet": "raffinate", "component": "Pr", "purity": 0.2}]
    others = [{**feed, "setting": s} for s in ("organic.flow", "inlet.scrub-acid.flow")]
    found = run({**document, "event": [feed, *others]})
    purity = found.profiles["purity_raffinate"].values
    dry = np.isnan(purity).any(axis=1)
    flow = found.profiles["flow_raffinate"].values[:, :4].sum(axis=1)
    assert dry.any()
    assert not dry[-1]
    assert flow[dry].max() < 1e-8 < flow[~dry].min()
    assert found.quantities["raffinate_Pr_0.2_missed"]["value"] == 0.0


def test_a_controller_holds_its_setting_while_its_outlet_is_dry():
    document = small(load("upsets-pr-nd").document)
    stopped = [
        {"setting": f"{name}.flow", "at": "0.2 d", "until": "0.4 d", "factor": 0.0}
        for name in ("inlet.feed", "organic", "inlet.scrub-acid")
    ]
    loop = {"name": "purity", "measure": "purity", "outlet": "raffinate", "component": "Pr",
            "setting": "inlet.strip-acid.flow", "target": 0.9, "gain": "0.5 L/h", "time": "1 d",
            "interval": "1 h", "low": "9 L/h", "high": "11 L/h"}  # fmt: skip
    found = run({**document, "event": stopped, "controller": [loop]})
    hours = np.array(found.profiles["loop_purity"].axes["time_h"])
    measured, setting = found.profiles["loop_purity"].values.T
    dry = np.isnan(measured)
    assert ((hours[dry] > 4.5) & (hours[dry] < 10)).all()
    assert dry.sum() >= 4
    assert np.ptp(setting[dry]) == 0.0
    assert np.isfinite(setting).all()
    json.dumps(found.to_dict(), allow_nan=False)
