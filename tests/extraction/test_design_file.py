"""Designs from specification files: every shipped one, what is refused, what is told."""

import json
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import sepmodel
from sepmodel import cli, data, plot_design, report_design
from sepmodel.errors import InfeasibleError, InputError
from sepmodel.extraction import cascade, tolerance
from sepmodel.extraction.design_solve import kernel

DESIGNS = sorted(
    path.stem
    for path in (data.models_dir() / "designs").glob("*.toml")
    if tomllib.loads(path.read_text(encoding="utf-8"))["kind"] == "design"
)


@pytest.fixture(scope="module")
def nd_pr():
    return sepmodel.design("nd-pr-99-5")


@pytest.mark.parametrize("name", DESIGNS)
def test_shipped_designs_meet_what_they_ask(name):
    found = sepmodel.design(name)
    assert found.asked
    assert all(asked.met for asked in found.asked)
    assert found.recheck < 1e-8
    text = report_design.lines(found, 80)
    assert max(map(len, text)) <= 80
    json.dumps(found.to_dict(), allow_nan=False)


def test_the_file_of_a_design_runs_to_the_same_purities(nd_pr):
    files = report_design.files(nd_pr)
    result = sepmodel.run(tomllib.loads(files["circuit.toml"]))
    assert result.streams["raffinate"].purity["Pr"] == pytest.approx(nd_pr.asked[0].reached)
    assert result.streams["loaded_organic"].purity["Nd"] == pytest.approx(nd_pr.asked[1].reached)


def test_figures_are_drawn(nd_pr):
    drawn = plot_design.figures(nd_pr)
    assert {"curve.svg", "profile.svg", "tolerances.svg"} <= set(drawn)
    assert all(drawn.values())


@pytest.mark.parametrize("objective", ["inventory", "reagents", "stages", "lock-up"])
def test_every_objective_is_least_among_the_curve(objective):
    found = sepmodel.design("nd-pr-99-5", {"objective.minimise": objective})
    chosen = next(p for p in found.curve if p.solvent == found.circuit.solvent)
    if objective == "reagents":
        # The least solvent takes endless stages: a stage more must still be worth its reagents.
        assert chosen.solvent < 4.0
    else:
        assert chosen.objective <= min(p.objective for p in found.curve) * (1 + 1e-12)


def test_operating_cost_is_an_objective_with_prices():
    found = sepmodel.design("nd-pr-99-5", {"objective.minimise": "operating-cost"})
    assert any(key.startswith("prices/") for key in found.result.used)
    # Reagents pull below the solvent of least inventory.
    assert found.circuit.solvent < 4.36


def test_too_little_solvent_names_the_limit_and_a_circuit_that_works():
    with pytest.raises(InfeasibleError, match="3 % below the least") as caught:
        sepmodel.design("nd-pr-99-5", {"circuit.solvent": 3.1})
    near = caught.value.nearest
    again = sepmodel.design("nd-pr-99-5", {"circuit.solvent": near["solvent"]})
    assert again.circuit.stages_extraction == near["stages_extraction"]
    assert all(asked.met for asked in again.asked)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"organic.saponification": 0.55}, "loading"),
        ({"organic.saponification": 0.505, "organic.extractant": "1 mol/L"}, "loading"),
        ({"limits.phase_ratio_high": 2}, "O/A in extraction"),
        ({"strip.acid": "9 mol/L", "limits.strip_liquor": "1 mol/L"}, "strip liquor"),
        ({"feed.composition": {"Nd": 0.75, "Pr": 0.25, "Sm": 0.01}}, "Sm leaves at the same end"),
    ],
)
def test_a_limit_that_is_left_is_named(change, match):
    with pytest.raises(InfeasibleError, match=match) as caught:
        sepmodel.design("nd-pr-99-5", change)
    assert caught.value.nearest


@pytest.mark.parametrize(
    "change",
    [
        {"product.Nd.elements": ["Dy"]},
        {"product.Nd.elements": ["Pr"]},
        {"product.Nd.purity": 1.0},
        {"feed.composition": {"Nd": 1.0}},
        {"model.factors": {"Nd/Pr": 1.4}},
        {"feed.flow": 3},
    ],
)
def test_nonsense_is_refused_with_its_key(change):
    with pytest.raises(InputError):
        sepmodel.design("nd-pr-99-5", change)


def test_a_limit_on_the_ratio_moves_the_choice_along_the_curve():
    free = sepmodel.design("nd-pr-99-5")
    held = sepmodel.design("nd-pr-99-5", {"limits.phase_ratio_low": 5.35})
    assert held.flows.ratio("extraction") >= 5.35
    assert held.circuit.solvent != free.circuit.solvent
    assert held.circuit.phi >= free.circuit.phi


def test_small_companions_share_the_purity():
    """Sm stays with Nd: what it takes of the allowance is not left for Pr."""
    some = sepmodel.design(
        "nd-pr-99-5", {"feed.composition": {"Nd": 0.75, "Pr": 0.25, "Sm": 0.002}}
    )
    assert all(asked.met for asked in some.asked)
    assert some.circuit.stages > sepmodel.design("nd-pr-99-5").circuit.stages


def test_stage_efficiency_costs_stages():
    ideal = sepmodel.design("nd-pr-99-5")
    real = sepmodel.design("nd-pr-99-5", {"circuit.efficiency": 0.9})
    assert real.circuit.stages > ideal.circuit.stages
    assert all(asked.met for asked in real.asked)


def test_tolerances_are_the_derivatives(nd_pr):
    """Implicit differentiation against solving again, two steps."""
    case = sepmodel.load("nd-pr-99-5").inputs
    inputs = kernel(case, nd_pr.circuit)
    base = cascade.solve(inputs)

    def figures(changed):
        solved = cascade.solve(changed, guess=base.theta)
        reached = [
            tolerance.reach(inputs, q, solved.outlets[q.outlet])
            for q in nd_pr.sensitivity.qualities
        ]
        return np.log(reached) - np.log1p(-np.array(reached))

    h = 1e-6
    feed = inputs.inlets[0]
    changes = {
        "solvent": lambda e: replace(inputs, solvent=inputs.solvent * e),
        "scrub": lambda e: replace(inputs, scrub=inputs.scrub * e),
        "both": lambda e: replace(inputs, solvent=inputs.solvent * e, scrub=inputs.scrub * e),
        "feed:Nd": lambda e: replace(
            inputs, inlets=(replace(feed, flows=feed.flows * np.array([1.0, e])),)
        ),
        "factor:Nd/Pr": lambda e: replace(
            inputs, extractability=inputs.extractability * np.array([1.0, e])
        ),
    }
    for name, change in changes.items():
        expected = (figures(change(np.exp(h))) - figures(change(np.exp(-h)))) / (2 * h)
        column = nd_pr.sensitivity.parameters.index(name)
        assert nd_pr.sensitivity.values[:, column] == pytest.approx(expected, rel=1e-3), name
    less = (figures(replace(inputs, efficiency=1 - h)) - figures(inputs)) / h
    column = nd_pr.sensitivity.parameters.index("inefficiency")
    assert nd_pr.sensitivity.values[:, column] == pytest.approx(less, rel=1e-3)


def test_a_percent_of_solvent_costs_percents_of_purity(nd_pr):
    """The known hypersensitivity to the split: slopes of purity by S and W are large, opposite."""
    slope = dict(zip(nd_pr.sensitivity.parameters, nd_pr.sensitivity.purity_slope.T, strict=True))
    assert slope["solvent"][0] > 1
    assert slope["solvent"][1] < -1
    assert slope["scrub"][0] < -1
    # The factor matters far less.
    assert abs(slope["factor:Nd/Pr"]).max() < 0.1 * abs(slope["solvent"]).max()


def test_the_words_name_what_decides(nd_pr):
    said = {statement.kind: statement.text for statement in nd_pr.statements}
    assert "urity of Pr" in said["specification"]
    assert {"bound", "pinch", "minor product", "limit", "tolerance"} <= set(said)
    minor = next(s for s in nd_pr.statements if s.kind == "minor product")
    assert minor.text.startswith("Pr ")
    pinch = next(s for s in nd_pr.statements if s.kind == "pinch")
    near = sepmodel.design("nd-pr-99-5", {"circuit.solvent": 3.25})
    assert next(s for s in near.statements if s.kind == "pinch").value < pinch.value


def test_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as left:
        cli.main(["design", "nd-pr-99-5", "--no-figures", "--out", "here", "--json", "d.json"])
    assert left.value.code == 0
    assert "least" in capsys.readouterr().out
    assert json.loads((tmp_path / "d.json").read_text())["design"]["stages_extraction"] > 1
    assert (tmp_path / "here" / "circuit.toml").exists()
    with pytest.raises(SystemExit) as left:
        cli.main(["explain", "nd-pr-99-5", "--set", "circuit.solvent=3.1", "--json", "-"])
    assert left.value.code == 3
    out = capsys.readouterr()
    assert json.loads(out.out)["nearest"]["solvent"] > 3.19
    assert "nearest feasible" in out.err
    assert CliRunner().invoke(cli.app, ["explain", "--help"]).exit_code == 0


@pytest.mark.parametrize("acid", [0.5, 2.0])
def test_acid_of_the_feed_that_a_mass_flow_design_leaves_out_is_told(acid, tmp_path, capsys):
    change = {"feed.acid": f"{acid} mol/L"}
    found = sepmodel.design("nd-pr-99-5", change)
    (warned,) = found.warnings
    assert warned.code == "feed-acid-unused"
    # 1 m3/h of feed: so many kmol of acid, and of base, an hour.
    assert f"up to {round(1000 * acid)}" in warned.message.replace(".0 ", " ")
    assert found.to_dict()["warnings"][0]["code"] == "feed-acid-unused"
    assert "feed-acid-unused" in report_design.files(found)["design.txt"]
    setting = f'feed.acid="{acid} mol/L"'
    with pytest.raises(SystemExit) as left:
        cli.main(["explain", "nd-pr-99-5", "--set", setting])
    assert left.value.code == 0
    assert "warning: feed-acid-unused" in capsys.readouterr().err


def test_a_little_acid_in_the_feed_is_not_worth_a_word(nd_pr):
    assert not nd_pr.warnings
    assert "warning" not in report_design.files(nd_pr)["design.txt"]


def test_a_mass_flow_strip_is_not_checked_by_equilibrium_and_says_so(nd_pr):
    (said,) = [
        s for s in nd_pr.statements if "not checked by equilibrium" in " ".join(s.text.split())
    ]
    assert said.where == "strip"
    acid = nd_pr.flows.strip * nd_pr.plant.strip_acid
    exchanged = 3 * sum(nd_pr.circuit.organic.values()) * nd_pr.plant.feed
    assert said.value == pytest.approx(acid / exchanged)


@pytest.mark.parametrize(
    ("key", "value", "most"),
    [
        ("feed.concentration", "50 mol/L", "3.5"),
        ("feed.acid", "30 mol/L", "12.1"),
        ("scrub.acid", "20 mol/L", "12.1"),
        ("strip.acid", "20 mol/L", "12.1"),
        ("organic.extractant", "20 mol/L", "3.1"),
    ],
)
@pytest.mark.parametrize("name", ["nd-pr-99-5", "nd-pr-mass-action"])
def test_liquors_nobody_can_make_are_refused_before_any_search(name, key, value, most, monkeypatch):
    from sepmodel.extraction import design_solve

    monkeypatch.setattr(design_solve, "_first", lambda *_: pytest.fail("searched"))
    with pytest.raises(SystemExit) as ended:
        cli.main(["design", name, "--set", f"{key}={value}"])
    assert ended.value.code == 2
    with pytest.raises(InputError) as caught:
        sepmodel.design(name, {key: value})
    (problem,) = caught.value.problems
    assert (problem.key, problem.value) == (key, value)
    assert problem.expected == f"at most {most} mol/L"


def test_a_purity_beyond_practice_is_designed_with_a_warning():
    asked = sepmodel.design("nd-pr-99-5", {"product.0.purity": 0.99999})
    codes = [w.code for w in asked.warnings]
    assert codes.count("purity-beyond-practice") == 1
    assert not sepmodel.design("nd-pr-99-5").warnings
    assert any("purity-beyond-practice" in line for line in report_design.warned(asked))
