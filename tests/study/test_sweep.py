"""Sweeps from file to table: points, resuming, kills, what is refused, what is said."""

import csv
import doctest
import io
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sepmodel
from sepmodel import report_sweep
from sepmodel.errors import InputError
from sepmodel.species import RARE_EARTHS
from sepmodel.study import answers, jobs, plan, refine, tornado
from sepmodel.study.executor import Workers
from sepmodel.study.store import INFEASIBLE, REFUSED, SOLVED, TIMED_OUT, Store
from sepmodel.study.sweep import FILE, sweep
from sepmodel.study.sweep_document import tornado as tornado_of

ROOT = Path(__file__).parents[2]
CASE = {
    "schema": 1,
    "kind": "cascade",
    "name": "small",
    "components": ["Nd", "Pr"],
    "purity_basis": "mole",
    "model": {"equilibrium": "mass-flow", "set": "separation_factors/pc88a-hcl"},
    "section": [{"name": "extraction", "stages": 4}, {"name": "scrub", "stages": 4}],
    "inlet": [{"name": "feed", "phase": "aqueous", "composition": {"Nd": 0.75, "Pr": 0.25}}],
    "mass_flow": {"solvent": 4.4, "scrub": 3.65},
}
FLOWS = {
    "input": [
        {"path": "mass_flow.solvent", "relative": 0.001},
        {"path": "mass_flow.scrub", "relative": 0.001},
    ]
}
OUTPUT = [
    {"name": "Nd", "path": "streams.loaded_organic.purity.Nd", "at_least": 0.9},
    {"name": "Pr", "path": "streams.raffinate.purity.Pr"},
]


def study(**tables):
    sweeping = {"samples": 16, "output": OUTPUT, **tables.pop("sweep", {})}
    return {**CASE, "sweep": sweeping, "uncertainty": {**FLOWS, **tables.pop("uncertainty", {})}}


class Here:
    """An executor that computes at once, in this process."""

    _max_workers = 1

    def submit(self, fn, *args):
        from concurrent.futures import Future

        future = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(fn(*args))
        except Exception as error:
            future.set_exception(error)
        return future


def here(document, **more):
    return sweep(document, Here(), **more)


@pytest.mark.parametrize(
    "module", [answers, jobs, plan, refine, report_sweep, tornado], ids=lambda m: m.__name__
)
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "models" / "sweeps").glob("*")))
def test_shipped_sweeps_load(name):
    loaded = sepmodel.load(name)
    assert loaded.kind == "sweep"
    assert loaded.name == name


def test_every_member_is_what_run_says():
    found = here(study())
    assert found.counts == {SOLVED: 16}
    assert found.closure < 1e-9
    assert found.inputs == (
        "mass_flow.scrub",
        "mass_flow.solvent",
        "separation_factors/pc88a-hcl:Nd/Pr",
    ) or set(found.inputs) == {
        "separation_factors/pc88a-hcl:Nd/Pr",
        "mass_flow.solvent",
        "mass_flow.scrub",
    }
    for i in (0, 7):
        job = found.plan.members[i]
        alone = sepmodel.run(CASE, dict(job.settings), constants=dict(job.constants))
        assert found.column("Nd")[i] == pytest.approx(
            alone.streams["loaded_organic"].purity["Nd"], abs=1e-10
        )
    base = sepmodel.run(CASE)
    assert found.plan.deterministic["Nd"] == base.streams["loaded_organic"].purity["Nd"]


def test_results_do_not_depend_on_workers_or_chunks(tmp_path):
    """One process, two processes, one point at a time, all points at once."""
    document = study(sweep={"samples": 40})
    first = here(document)
    ids = [job.id for job in first.plan.members]
    alone = [o for job in first.plan.members for o in jobs.solve_jobs(first.plan.task, [job])]
    together = jobs.solve_jobs(first.plan.task, first.plan.members)
    with Workers(2) as workers, ThreadPoolExecutor(2) as threads:
        others = [sweep(document, workers), sweep(document, threads)]
    for other in others:
        assert [job.id for job in other.plan.members] == ids
        assert other.statuses == first.statuses
    for name in ("Nd", "Pr"):
        for values in (
            [o.answers[name] for o in alone],
            [o.answers[name] for o in together],
            *(other.column(name) for other in others),
        ):
            assert np.max(np.abs(np.array(values) - first.column(name))) < 1e-10


def test_numbers_are_found_in_a_result_as_in_its_json():
    found = sepmodel.run(CASE)
    tables = answers.document(found, profiles=True)
    for path in (
        "streams.raffinate.purity.Nd",
        "streams.raffinate.flow",
        "streams.raffinate.flow.value",
        "quantities.phi",
        "balance.max",
        "profiles.share_aq.values.3.1",
    ):
        assert answers.number(found, path) == answers.number(tables, path) is not None, path
    for path in ("streams.nothing", "streams.raffinate.phase", "streams", "a.b.c"):
        assert answers.number(found, path) is None
        assert answers.number(tables, path) is None


def test_what_is_there_is_not_computed_again(tmp_path):
    first = here(study(), out=tmp_path)
    again = here(study(), out=tmp_path)
    more = here(study(sweep={"samples": 32}), out=tmp_path)
    assert (first.stored, again.stored, more.stored) == (0, 17, 17)
    assert np.array_equal(more.column("Nd")[:16], first.column("Nd"))
    other = here(study(sweep={"samples": 16, "seed": 3}), out=tmp_path)
    assert other.stored == 1  # the case as it stands
    with Store(tmp_path / FILE) as store:
        assert len(store) == 17 + 16 + 16
    assert [p.name for p in tmp_path.iterdir()] == [FILE]


def test_failed_points_are_kept_with_their_reason():
    axis = {"path": "mass_flow.scrub", "values": [3.65, 4.5, 9.0, -1.0]}
    found = here({**CASE, "sweep": {"axis": [axis], "output": OUTPUT}})
    assert found.statuses == [SOLVED, INFEASIBLE, INFEASIBLE, REFUSED]
    reasons = [found.outcomes[job.id].reason for job in found.plan.members]
    assert reasons[0] == ""
    assert "organic" in reasons[1]
    assert "scrub" in reasons[3]
    assert np.isnan(found.column("Nd")[1:]).all()
    assert "infeasible: 2" in report_sweep.lines(found)


def test_a_grid_times_a_sample_uses_the_same_sample_everywhere():
    axis = {"path": "section.scrub.stages", "values": [4, 6]}
    found = here(study(sweep={"samples": 8, "axis": [axis]}))
    assert len(found.plan.members) == 16
    few, many = (found.plan.members[k::8] for k in (0, 7))
    assert few[0].constants == few[1].constants
    assert many[0].settings["mass_flow.solvent"] == many[1].settings["mass_flow.solvent"]
    assert np.all(found.at("Nd", 1) > found.at("Nd", 0))  # more stages, purer
    assert found.met("Nd", 1).probability >= found.met("Nd", 0).probability
    document = json.loads(json.dumps(found.to_dict()))
    assert [g["at"] for g in document["outputs"][0]["grid"]] == [
        {"section.scrub.stages": 4},
        {"section.scrub.stages": 6},
    ]


def test_a_grid_is_refined_where_a_limit_is_crossed():
    axis = {"path": "section.scrub.stages", "from": 2, "to": 18, "points": 3}
    ends = [
        sepmodel.run(CASE, {"section.scrub.stages": n}).streams["loaded_organic"].purity["Nd"]
        for n in (5, 6)
    ]
    limit = [{**OUTPUT[0], "at_least": sum(ends) / 2}]
    found = here({**CASE, "sweep": {"axis": [axis], "output": limit, "refine": 4}})
    stages = [point[0] for point in found.plan.grid]
    assert all(isinstance(n, int) for n in stages)
    values = dict(zip(stages, found.column("Nd"), strict=True))
    assert min(n for n, v in values.items() if v >= limit[0]["at_least"]) == 6
    assert values[5] < limit[0]["at_least"]  # found to one stage
    assert len(stages) < 9
    again = here({**CASE, "sweep": {"axis": [axis], "output": limit, "refine": 4}})
    assert [j.id for j in again.plan.members] == [j.id for j in found.plan.members]


def test_axes_keep_their_units():
    rate = {"path": "organic.flow", "from": "3.4 L/h", "to": "3.6 L/h", "points": 3}
    levels = plan._levels(sepmodel.load("magnet-circuit"), plan.Axis.model_validate(rate))
    assert levels.values == ("3.4 L/h", "3.5 L/h", "3.6 L/h")
    assert levels.unit == "L/h"
    constant = plan.Axis.model_validate(
        {"constant": "elements:Nd", "values": ["0.1 kg/mol", 144.0]}
    )
    assert plan._levels(sepmodel.load("nd-pr"), constant).values == (0.1, 0.144)


# --- what the sample says --------------------------------------------------------------------


def test_a_linear_answer_is_told_as_linear_and_its_tornado_ranks_alike():
    found = here(study(sweep={"samples": 64, "tornado": True}, uncertainty={"constants": []}))
    assert found.linearity("Nd") > 0.99
    bars = tornado_of(found, "Nd")
    assert bars.same
    assert bars.bent == ()
    for bar in bars.bars:
        assert bar.sampled == pytest.approx(bar.gradient, rel=0.1)


NARROW = {
    "schema": 1,
    "kind": "sweep",
    "name": "narrow",
    "case": "magnet-circuit",
    "sweep": {
        "samples": 32,
        "tornado": True,
        "output": [
            {"name": "Dy", "path": "streams.strip_liquor.purity.Dy"},
            {"name": "Tb", "path": "streams.raffinate.recovery.Tb"},
        ],
    },
    "uncertainty": {
        "constants": [],
        "input": [
            {"path": "organic.flow", "relative": 1e-3},
            {"path": "inlet.scrub-acid.flow", "relative": 1e-3},
            {"path": "inlet.feed.composition.Tb", "relative": 2e-3},
            {"constant": "extractants/li1987-pc88a-ideal:Nd", "relative": 1e-4},
            *(
                {"constant": f"separation_factors/pc88a-hcl:{pair}", "relative": 1e-3}
                for pair in ("Sm/Nd", "Tb/Gd", "Dy/Tb", "Nd/Pr", "Eu/Sm", "Gd/Eu")
            ),
        ],
    },
}


def test_adjoint_gradients_are_difference_quotients_and_rank_as_the_sample():
    found = here(NARROW)
    assert found.counts == {SOLVED: 32}
    assert found.plan.steps == ()
    pairs = plan.small_steps(found.plan)
    solved = jobs.solve_jobs(found.plan.task, [job for pair in pairs for job in pair])
    for name in ("Dy", "Tb"):
        ends = np.array([one.answers[name] for one in solved]).reshape(-1, 2)
        quotients = (ends[:, 1] - ends[:, 0]) / (2 * plan.STEP)
        close = 1e-6 * np.abs(quotients).max()
        assert found.gradients[name] == pytest.approx(quotients, rel=1e-4, abs=close)
    bars = tornado_of(found, "Dy")
    assert bars.how == "the adjoint"
    assert bars.linearity > 0.99
    assert bars.same
    assert bars.bent == ()


def test_a_bent_answer_is_told_as_bent():
    wide = {"constants": ["separation_factors/*"], "input": [
        {"constant": "separation_factors/pc88a-hcl:Nd/Pr", "distribution": "uniform",
         "low": 1.05, "high": 3.0}]}  # fmt: skip
    found = here({**CASE, "uncertainty": wide,
                  "sweep": {"samples": 64, "tornado": True, "output": OUTPUT}})  # fmt: skip
    bars = tornado_of(found, "Nd")
    assert bars.bent == ("separation_factors/pc88a-hcl:Nd/Pr",)
    assert "not near-linear" in "\n".join(report_sweep.lines(found))


def test_sobol_indices_of_a_case_agree_with_its_rank_correlations():
    found = here(study(sweep={"design": "saltelli", "samples": 64}, uncertainty={"constants": []}))
    indices = found.sobol("Nd")
    assert indices.first.sum() == pytest.approx(1.0, abs=0.1)
    drivers = [name for name, *_ in found.drivers("Nd")]
    assert drivers[0] == found.inputs[int(np.argmax(indices.total))]
    with pytest.raises(InputError, match="another design"):
        found.effects("Nd")


def test_morris_effects_of_a_case():
    pytest.importorskip("SALib")
    found = here(study(sweep={"design": "morris", "samples": 6}))
    effects = found.effects("Nd")
    assert effects.used == 6
    assert "effects on Nd" in "\n".join(report_sweep.lines(found))


def test_deterministic_mean_and_median_stand_together():
    found = here(study())
    text = "\n".join(report_sweep.lines(found, 80))
    assert "as stated" in text
    assert "mean    median" in text
    assert all(len(line) <= 80 for line in text.splitlines())
    said = found.summary("Nd")
    assert said.low < said.median < said.high
    assert said.deterministic == found.plan.deterministic["Nd"]
    met = found.met("Nd")
    assert met.low <= met.probability <= met.high
    assert met.steps[-1].count == 16


def test_indices_that_a_few_members_decide_are_told_as_unsettled():
    """A loss of 1e-9 with a rare member of 1: the bootstrap cannot bound anything."""
    found = here(study(sweep={"design": "saltelli", "samples": 8}, uncertainty={"constants": []}))
    name = found.plan.members[5].id
    outcomes = {
        key: replace(o, answers={"Nd": 1.0 if key == name else 1e-9, "Pr": o.answers["Pr"]})
        for key, o in found.outcomes.items()
    }
    text = "\n".join(report_sweep.lines(replace(found, outcomes=outcomes), 80))
    assert "unsettled" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_csv_has_units_and_every_member():
    document = study()
    found = here(document)
    rows = list(csv.reader(io.StringIO(found.csv())))
    assert rows[0][:3] == ["id", "status", "reason"]
    assert "Nd [1]" in rows[0]
    assert "mass_flow.solvent [1]" in rows[0]
    assert len(rows) == 17
    column = rows[0].index("Nd [1]")
    assert [float(row[column]) for row in rows[1:]] == found.column("Nd").tolist()


def test_parquet_has_units(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    found = here(study())
    table = parquet.read_table(io.BytesIO(found.parquet()))
    assert table.schema.field("seconds").metadata[b"unit"] == b"s"
    assert table.column("Nd").to_pylist() == found.column("Nd").tolist()


def test_a_comparison_is_swept_too(tmp_path, monkeypatch):
    """The figures of a member are those of a comparison at its constants; the comparison as it
    stands is computed once and kept in the cache."""
    monkeypatch.setenv("SEPMODEL_CACHE", str(tmp_path))
    document = {
        "schema": 1, "kind": "sweep", "name": "prices", "case": "magnet-scrap",
        "set": {"routes": ["displacement"]},
        "sweep": {"samples": 2, "output": [
            {"path": "displacement.cost", "at_most": 100.0}, {"path": "displacement.Dy.purity"}]},
        "uncertainty": {"constants": ["prices/*"]},
    }  # fmt: skip
    found = here(document)
    assert found.counts == {SOLVED: 2}
    job = found.plan.members[1]
    alone = sepmodel.compare(
        "magnet-scrap", {"routes": ["displacement"]}, constants=job.constants, ranges=False
    )
    assert alone.routes[0].account.metrics["cost"] == pytest.approx(
        found.column("displacement.cost")[1], rel=1e-10
    )
    assert found.answer("displacement.cost").unit.startswith("USD")
    assert len(list(tmp_path.rglob("*.json"))) == 1
    monkeypatch.setattr(jobs, "compare", None)  # whatever is solved anew fails
    again = plan.plan(sepmodel.load(document))
    assert [job.id for job in again.members] == [job.id for job in found.plan.members]
    assert again.deterministic == found.plan.deterministic


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tables", "said"),
    [
        ({"sweep": {"desing": "sobol"}}, "did you mean design"),
        ({"sweep": {"design": "halton"}}, "unknown choice"),
        ({"sweep": {"output": [{"path": "streams.raffinate.purity.Dy"}]}}, "has no 'Dy'"),
        ({"sweep": {"output": [{"path": "streams.raffinate"}]}}, "no number stands there"),
        ({"sweep": {"axis": [{"path": "no.such", "values": [1]}]}}, "unknown key"),
        ({"sweep": {"axis": [{"path": "a", "values": [1], "points": 3}]}}, "a list, or a stretch"),
        ({"sweep": {"axis": [{"constant": "elements:Xx", "values": [1]}]}}, "no such constant"),
        ({"sweep": {"samples": 1000, "most": 10}}, "1000 points"),
        ({"sweep": {"time_limit": "5 kg"}}, "time_limit"),
        ({"sweep": {"refine": 2}}, "nothing to refine"),
        ({"uncertainty": {"constants": ["nothing/*"]}}, "no constant that the case reads"),
        ({"uncertainty": {"input": [{"path": "name", "relative": 0.1}]}}, "number"),
        ({"uncertainty": {"input": [{"path": "mass_flow.solvent"}]}}, "how uncertain"),
        (
            {"uncertainty": {"input": [{"path": "mass_flow.scrub", "low": 5.0, "high": 6.0}]}},
            "does not lie between",
        ),
        (
            {"uncertainty": {"input": [
                {"path": "inlet.feed.composition.Nd", "distribution": "uniform",
                 "low": -3.0, "high": 3.0}]}},
            "negative",
        ),
        (
            {"uncertainty": {"together": [
                {"name": "t", "members": ["x*"], "correlation": 0.5}]}},
            "fewer than two",
        ),
        ({"uncertainty": {"constants": [], "input": []}}, "nothing is uncertain"),
    ],
)  # fmt: skip
def test_refused(tables, said):
    with pytest.raises(InputError, match=said):
        here(study(**tables))


def test_all_problems_of_a_file_are_told_at_once():
    with pytest.raises(InputError) as caught:
        here(
            study(
                sweep={
                    "output": [{"path": "nowhere"}],
                    "axis": [{"path": "no.such", "values": [1]}],
                },
                uncertainty={"constants": ["nothing/*"]},
            )
        )
    assert len(caught.value.problems) >= 3


def test_a_sweep_of_a_route_or_of_a_sweep_is_refused():
    document = {"schema": 1, "kind": "sweep", "name": "x", "case": "nd-pr-stages"}
    with pytest.raises(InputError, match="not a case to move"):
        here(document)
    with pytest.raises(InputError, match="no such case"):
        here({**document, "case": "nothing"})
    with pytest.raises(InputError, match=r"set\.mass_flow\.solvnet"):
        here({**document, "case": "nd-pr", "set": {"mass_flow.solvnet": 1.0}})


def test_any_case_may_carry_the_tables_and_still_runs():
    assert sepmodel.run(study()).status == "converged"
    with pytest.raises(InputError, match=r"sweep\.design"):
        sepmodel.load(study(sweep={"design": "x"}))
    plain, carrying = sepmodel.load(CASE), sepmodel.load(study())
    assert plain.canonical() == carrying.canonical()


def test_a_time_limit_stops_the_point_that_is_slow(monkeypatch):
    """Every point is given its limit alone before it is blamed."""
    axis = {"path": "section.scrub.stages", "values": [4, 2000]}
    slow = [CASE["section"][0], {**CASE["section"][1], "efficiency": 0.5}]
    sweeping = {"axis": [axis], "output": OUTPUT, "time_limit": "0.15 s"}
    document = {**CASE, "section": slow, "sweep": sweeping}
    monkeypatch.setattr("sepmodel.study.executor.START", 5.0)
    with Workers(1) as workers:
        workers.submit(sepmodel.run, CASE).result()  # warm
        found = sweep(document, workers)
    assert found.statuses == [SOLVED, TIMED_OUT]
    assert "0.15 s" in found.outcomes[found.plan.members[1].id].reason


def test_many_inputs_get_independent_points(monkeypatch):
    assert here(study(sweep={"samples": 4})).plan.sweep.design == "sobol"
    monkeypatch.setattr("sepmodel.sampling.FEW", 2)
    found = here(study(sweep={"samples": 4}))
    assert found.plan.sweep.design == "random"
    more = here(study(sweep={"samples": 6}))
    assert [j.id for j in more.plan.members[:4]] == [j.id for j in found.plan.members]
    assert not any("hang together" in line for line in report_sweep.lines(found))


def test_the_share_of_estimates_is_that_of_their_inputs():
    found = here(study(sweep={"samples": 32}))
    key = "separation_factors/pc88a-hcl:Nd/Pr"
    measured = found.estimates("Pr")
    assert (measured.count, measured.of, measured.share) == (0, 1, 0.0)
    guess = replace(found.plan.used[key], provenance="estimated")
    guessed = replace(found, plan=replace(found.plan, used={**found.plan.used, key: guess}))
    share = {name: part for name, *_, part in found.drivers("Pr")}[key]
    assert share > 0
    assert guessed.estimates("Pr").share == pytest.approx(share)
    assert any("1 of 1 uncertain constant" in line for line in report_sweep.lines(guessed))
    assert not any("estimates" in line for line in report_sweep.lines(found))


def test_inputs_that_hang_together_are_told():
    weighed = [name for name in RARE_EARTHS if name != "Pm"]
    many = [{"constant": f"elements:{name}", "relative": 0.01} for name in weighed]
    found = here(study(sweep={"samples": 32}, uncertainty={"constants": [], "input": many}))
    assert found.entangled > 0.7
    assert any("hang together" in line for line in report_sweep.lines(found))


def test_tables_in_the_way_are_told_before_the_work(tmp_path):
    from click.testing import CliRunner

    from sepmodel import cli

    (tmp_path / "members.csv").write_text("mine")
    words = ["sweep", "nd-pr", "--out", str(tmp_path)]
    done = CliRunner().invoke(cli.app, words, standalone_mode=False)
    assert isinstance(done.exception, InputError)
    assert [p.name for p in tmp_path.iterdir()] == ["members.csv"]


# --- kill -9 ---------------------------------------------------------------------------------

DRIVER = """
import json, sys
from sepmodel.study.sweep import sweep
def tell(now):
    print(now.done, flush=True)
sweep(json.load(open(sys.argv[1])), out=sys.argv[2], workers=2, progress=tell)
"""
BIG = study(sweep={"samples": 300, "design": "random"})


def start(tmp_path, folder):
    path = tmp_path / "study.json"
    path.write_text(json.dumps(BIG))
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(path), str(folder)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(driver):
    """Points a driver said were kept when it ended; what it said of errors."""
    told, errors = driver.communicate(timeout=120)
    lines = told.decode().splitlines(keepends=True)
    return max((int(line) for line in lines if line.endswith("\n")), default=0), errors.decode()


def rows(folder):
    """Everything a store holds, by job."""
    if not (folder / FILE).exists():
        return {}
    with Store(folder / FILE) as store:
        found = store.outcomes(store.statuses())
    return {name: (o.status, dict(o.answers), dict(o.inputs)) for name, o in found.items()}


def workers_of(pid):
    """The driver's threads start the workers; each thread has its own list of children."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        try:
            found += [int(c) for c in (task / "children").read_text().split()]
        except OSError:
            continue
    return found


def kill_and_resume(tmp_path, times, whom, seed):
    """Kill the driver (or a worker) ``times`` times at random moments; then let it finish.

    Whatever a driver said was kept before it died is there, and stays as it was: a row that went
    lost would be computed again, and nobody would see it in the end.
    """
    generator = random.Random(seed)
    folder = tmp_path / "killed"
    folders = [folder]
    killed = runs = 0
    kept = {}
    while killed < times:
        driver = start(tmp_path, folder)
        runs += 1
        time.sleep(generator.uniform(0.1, 3.0))
        while killed < times and driver.poll() is None:
            victims = [driver.pid] if whom == "driver" else workers_of(driver.pid)
            if victims:
                os.kill(generator.choice(victims), signal.SIGKILL)
                killed += 1
            if whom == "driver":
                break
            time.sleep(generator.uniform(0.02, 0.5))
        told, errors = finish(driver)
        before, kept = kept, rows(folder)
        assert len(kept) >= told, "what was said to be kept is there"
        assert before.items() <= kept.items(), "what was there stays"
        if whom != "driver":
            assert driver.returncode == 0, errors
            if killed < times:  # killed all it could: a new one, from the beginning
                folder, kept = tmp_path / f"killed-{runs}", {}
                folders.append(folder)
    last = start(tmp_path, folder)
    assert finish(last)[0] == 301
    assert last.returncode == 0
    assert kept.items() <= rows(folder).items()
    return folders


@pytest.fixture(scope="module")
def quiet(tmp_path_factory):
    """The folder of the same study that nobody disturbed."""
    place = tmp_path_factory.mktemp("quiet")
    assert finish(start(place, place / "store"))[0] == 301
    return place / "store"


def compare_with_undisturbed(quiet, folders):
    found = []
    for place in (quiet, *folders):
        assert [p.name for p in place.iterdir()] == [FILE], "no temporary files"
        found.append(rows(place))
        with Store(place / FILE) as store:
            attempts = store._base.execute("SELECT max(attempt), count(*) FROM outcomes").fetchone()
            assert attempts == (1, 301), "nothing lost, nothing repeated"
    calm, *others = found
    for disturbed in others:
        assert set(calm) == set(disturbed)
        for name, (status, values, inputs) in calm.items():
            assert disturbed[name][::2] == (status, inputs)
            for key, value in values.items():
                assert abs(value - disturbed[name][1][key]) < 1e-10


linux = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds workers by /proc")


@linux
@pytest.mark.parametrize("whom", ["driver", "worker"])
def test_killed_and_resumed(tmp_path, quiet, whom):
    folders = kill_and_resume(tmp_path, 2, whom, seed=1)
    compare_with_undisturbed(quiet, folders)


@linux
@pytest.mark.slow
@pytest.mark.parametrize("whom", ["driver", "worker"])
def test_killed_twenty_times_and_resumed(tmp_path, quiet, whom):
    folders = kill_and_resume(tmp_path, 20, whom, seed=2)
    compare_with_undisturbed(quiet, folders)


def test_a_case_that_kills_its_worker_is_told_from_the_others(monkeypatch):
    """The chunk is taken apart; the others keep their answers."""
    found = here(study(sweep={"samples": 4}))
    deadly = found.plan.members[2].id
    with Workers(1) as workers:
        real = workers.submit_within

        def submit(limit, fn, task, chunk):
            if any(job.id == deadly for job in chunk):
                return real(limit, os._exit, 9)
            return real(limit, fn, task, chunk)

        monkeypatch.setattr(workers, "submit_within", submit)
        hurt = sweep(study(sweep={"samples": 4}), workers)
    assert hurt.statuses == [SOLVED, SOLVED, "died", SOLVED]
    assert "3 times" in hurt.outcomes[deadly].reason
    assert not math.isnan(hurt.column("Nd")[3])
