"""Gradients, repeated cycles and the life of lanmodulin columns."""

import time
from itertools import pairwise

import numpy as np
import pytest

import sepmodel
from sepmodel.errors import InputError

GRID = {"numerics": {"scheme": "limited", "cells": 12, "estimate": False}}
SHORT = {**GRID, "step.load.bed_volumes": 3, "step.strip.bed_volumes": 0.8, "step.strip.pH": 1.9}


def ran(**changes):
    return sepmodel.run("light-heavy-lanmodulin", {**GRID, **changes})


def test_a_gradient_that_goes_nowhere_is_a_step():
    step, ramp = ran(), ran(**{"step.elute.pH_end": 2.2})
    for name, pool in step.streams.items():
        for element, share in pool.recovery.items():
            assert ramp.streams[name].recovery[element] == pytest.approx(share, abs=1e-9)


@pytest.mark.slow
def test_a_gradient_is_the_limit_of_ever_smaller_steps():
    """Liquor mixed linearly: metals in the eluate of one ramp and of eight short steps."""
    tight = {"numerics": {**GRID["numerics"], "tolerance": 1e-4}}
    ramp = ran(**tight, **{"step.elute.pH": 3.0, "step.elute.pH_end": 2.0})
    assert ramp.balance["max"] < 1e-9
    document = sepmodel.load("light-heavy-lanmodulin", tight).document
    steps = {s["name"]: s for s in document["step"]}
    acid = np.linspace(1e-3, 1e-2, 9)
    rows = [
        {
            **steps["elute"],
            "name": f"elute-{k}",
            "bed_volumes": 1,
            "pH": float(-np.log10(0.5 * (low + high))),
        }
        for k, (low, high) in enumerate(pairwise(acid))
    ]
    staircase = {
        **document,
        "step": [steps["load"], steps["wash"], *rows, steps["strip"], steps["rinse"]],
        "pool": [
            {"product": "heavy", "steps": [row["name"] for row in rows]},
            {"product": "light", "steps": ["strip"]},
        ],
    }
    found = sepmodel.run(staircase)
    for element, share in found.streams["heavy"].recovery.items():
        assert ramp.streams["heavy"].recovery[element] == pytest.approx(share, abs=1e-3)


def test_in_the_steady_cycle_as_much_leaves_as_is_fed():
    found = sepmodel.run("light-heavy-lanmodulin", {**SHORT, "cycles": {}})
    for element in ("Nd", "Dy"):
        left = sum(found.streams[n].recovery[element] for n in ("heavy", "light", "remainder"))
        assert left == pytest.approx(1, abs=5e-3)
    assert found.balance["max"] < 1e-9


@pytest.mark.slow
def test_the_steady_cycle_is_where_marching_leads():
    """A strip that leaves metal behind: as much leaves in the end as is fed."""
    steady = sepmodel.run("light-heavy-lanmodulin", {**SHORT, "cycles": {}})
    assert steady.quantities["cycles to the steady one"]["value"] > 2
    document = sepmodel.load("light-heavy-lanmodulin", SHORT).document
    count = 5
    marched = {
        **document,
        "step": [
            {**step, "name": f"{step['name']}-{k}"}
            for k in range(count)
            for step in document["step"]
        ],
        "pool": [
            {"product": "heavy", "steps": [f"elute-{count - 1}"]},
            {"product": "light", "steps": [f"strip-{count - 1}"]},
        ],
    }
    last = sepmodel.run(marched)
    fresh = sepmodel.run("light-heavy-lanmodulin", SHORT)
    for name in ("heavy", "light"):
        for element, share in last.streams[name].recovery.items():
            once = count * share  # what all cycles were fed is its denominator
            assert steady.streams[name].recovery[element] == pytest.approx(once, abs=5e-3)
    gone = sum(steady.streams[n].recovery["Nd"] for n in ("heavy", "light"))
    assert gone > sum(fresh.streams[n].recovery["Nd"] for n in ("heavy", "light")) + 0.02


@pytest.mark.slow
def test_a_life_of_fading_capacity_ends_where_a_purity_is_missed():
    fading = {"cycles": {"count": 200, "capacity_left": 0.6}}
    full = ran().streams
    limit = full["heavy"].purity["Dy"] - 0.02
    found = ran(**fading, **{"pool.0.purity": limit, "pool.0.elements": ["Dy"]})
    profile = found.profiles["life"]
    what = list(profile.axes["what"])
    purity = profile.values[:, what.index("purity of Dy in heavy")]
    assert purity[0] == pytest.approx(full["heavy"].purity["Dy"], abs=5e-3)
    assert profile.values[-1, what.index("share of the capacity")] == pytest.approx(0.6)
    last = found.quantities["cycles until heavy misses its purity"]["value"]
    cycles = np.array(profile.axes["cycle"])
    if purity.min() < limit:
        assert 0 < last < 200
        assert purity[cycles <= last].min() > limit - 1e-3
        assert "life-ends" in {w.code for w in found.warnings}
    else:
        assert last == 200


def test_what_stages_cannot_repeat_is_refused():
    stages = {"model.transport": "equilibrium-stages", "numerics": None}
    for change in ({"cycles": {}}, {"step.elute.pH_end": 2.0}):
        with pytest.raises(InputError, match="only dispersive"):
            sepmodel.load(
                "lanmodulin-nd-dy", {"model.transport": stages["model.transport"], **change}
            )


def test_every_purity_has_its_error_and_a_finer_run_confirms_it():
    coarse = sepmodel.run("light-heavy-lanmodulin", {"numerics.cells": 30})
    fine = sepmodel.run(
        "light-heavy-lanmodulin", {"numerics.cells": 90, "numerics.estimate": False}
    )
    assert fine.solver["estimated_error"] is None
    profile = coarse.profiles["purity_error"]
    for k, name in enumerate(profile.axes["product"]):
        for j, element in enumerate(profile.axes["component"]):
            apart = abs(coarse.streams[name].purity[element] - fine.streams[name].purity[element])
            assert apart < profile.values[k, j] + 5e-4
    assert {w.code for w in coarse.warnings} == (
        {"coarse-solution"} if coarse.solver["estimated_error"] > 0.01 else set()
    )


@pytest.mark.slow
def test_a_load_whose_front_is_one_cell_wide_takes_less_than_three_seconds():
    feed = {"Pr": "0.03 mmol/L", "Nd": "0.12 mmol/L", "Tb": "0.01 mmol/L", "Dy": "0.04 mmol/L"}
    loaded = sepmodel.load(
        "light-heavy-lanmodulin",
        {
            "numerics.cells": 200,
            "step.load": {
                "name": "load",
                "flow": "0.5 mL/min",
                "bed_volumes": 17,
                "pH": 5.0,
                "composition": feed,
                "ligands": {"acetate": "10 mmol/L"},
            },
        },
    )
    spent = []
    for _ in range(3):
        begin = time.process_time()
        sepmodel.run(loaded)
        spent.append(time.process_time() - begin)
    assert min(spent) < 3.0
