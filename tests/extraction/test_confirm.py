"""Designs by mass action: specifications met with the loop closed, slopes, re-calculation, time."""

import ast
import time
import tomllib
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import sepmodel
from sepmodel import report_design
from sepmodel.errors import ConvergenceError, InfeasibleError
from sepmodel.extraction import circuit, remarch_acid

NAME = "nd-pr-mass-action"


@pytest.fixture(scope="module")
def found():
    return sepmodel.design(NAME)


def test_a_complete_design_takes_less_than_five_seconds():
    started = time.process_time()
    design = sepmodel.design(NAME)
    assert time.process_time() - started < 5
    assert design.confirmation.sensitivity.parameters
    assert design.plant.saponification == 0.35


def test_the_circuit_is_close_to_the_mass_flow_design(found):
    """One separation factor in both models: only the organic's loading differs a little."""
    confirmed = found.confirmation
    assert confirmed.stages == found.circuit.stages
    assert abs(confirmed.change["organic"]) < 0.05
    assert abs(confirmed.change["scrub"]) < 0.05
    assert confirmed.base == pytest.approx(3 * confirmed.solvent * confirmed.feed, rel=0.03)
    assert all(asked.met for asked in found.asked)
    assert 0 < confirmed.ph[0] < confirmed.ph[1] < 3
    assert confirmed.loading < 1


def test_the_written_circuit_runs_to_the_same_outlets(found):
    result = sepmodel.run(tomllib.loads(report_design.files(found)["circuit.toml"]))
    assert result.streams["raffinate"].purity["Pr"] == pytest.approx(found.asked[0].reached)
    assert result.streams["strip_liquor"].purity["Nd"] == pytest.approx(found.asked[1].reached)


def line(solved):
    """A solved circuit's inputs alone, as the second simulation takes them."""
    inputs = solved.inputs
    counts = {section.name: section.stages for section in inputs.sections}
    enters = {inlet.name: inlet for inlet in inputs.inlets}
    flows = {
        name: (float(enters[name].flow), float(enters[name].acid)) if name in enters else (0.0, 0.0)
        for name in ("scrub-acid", "strip-acid")
    }
    feed = enters["feed"]
    return remarch_acid.Line(
        model=inputs.model,
        stages=tuple(counts.get(name, 0) for name in ("extraction", "scrub", "strip")),
        organic=float(inputs.organic_flow),
        dimer=float(inputs.dimer),
        soap=np.asarray(inputs.organic_conc, dtype=float),
        feed=(float(feed.flow), np.asarray(feed.conc, dtype=float), float(feed.acid)),
        scrub=flows["scrub-acid"],
        strip=flows["strip-acid"],
    )


@pytest.mark.parametrize("half", [1.0, 0.5])
def test_circuits_come_out_as_by_newtons_method(found, half):
    """Open and closed, with a soap of a whole dimer and of half a one."""
    for solved, product in (
        (found.confirmation.open, "organic"),
        (found.confirmation.closed, "strip"),
    ):
        model = replace(solved.inputs.model, dimers=np.array([3.0, 3.0, half]))
        solved = circuit.solve(replace(solved.inputs, model=model))
        started = time.process_time()
        second = remarch_acid.remarch(line(solved))
        assert time.process_time() - started < 0.5
        for flows, name in ((second.raffinate, "raffinate"), (second.product, product)):
            assert flows[:-1] == pytest.approx(solved.outlets[name].moles[:-1], rel=1e-7), name


def test_stages_short_of_equilibrium_are_confirmed_too(found):
    """At 90 % of equilibrium in every stage: about a tenth more stages, and the case says so."""
    real = sepmodel.design(NAME, {"circuit.efficiency": 0.9})
    assert all(asked.met for asked in real.asked)
    assert 1 < real.confirmation.stages / found.confirmation.stages < 1.25
    assert real.recheck < 1e-8
    result = sepmodel.run(tomllib.loads(report_design.files(real)["circuit.toml"]))
    assert result.streams["raffinate"].purity["Pr"] == pytest.approx(real.asked[0].reached)
    wrong = circuit.solve(
        replace(
            real.confirmation.open.inputs,
            sections=tuple(
                replace(section, efficiency=0.901)
                for section in real.confirmation.open.inputs.sections
            ),
        )
    )
    second = remarch_acid.remarch(replace(line(real.confirmation.open), efficiency=0.9))
    assert second.raffinate[1] != pytest.approx(wrong.outlets["raffinate"].moles[1], rel=1e-4)


def test_nothing_of_the_circuit_is_used():
    tree = ast.parse(Path(remarch_acid.__file__).read_text(encoding="utf-8"))
    names = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    assert {name for name in names if name.startswith("sepmodel")} == {
        "sepmodel.chemistry.cation_exchange",
        "sepmodel.errors",
    }


def test_a_circuit_that_its_second_simulation_contradicts_is_not_reported(monkeypatch):
    def wrong(given):
        second = remarch(given)
        return replace(second, raffinate=second.raffinate * (1 + 1e-5))

    remarch = remarch_acid.remarch
    monkeypatch.setattr(remarch_acid, "remarch", wrong)
    with pytest.raises(ConvergenceError, match="differ"):
        sepmodel.design(NAME)


def test_slopes_are_the_derivatives(found):
    confirmed = found.confirmation
    solved = confirmed.open
    h = 1e-6

    def figures(inputs):
        moles = circuit.solve(inputs, guess=solved.u).outlets
        r, d = moles["raffinate"].moles, moles["organic"].moles
        return np.log([r[0] / r[1], d[1] / d[0]])

    base = solved.inputs
    scrub = next(i for i in base.inlets if i.name == "scrub-acid")
    others = tuple(i for i in base.inlets if i.name != "scrub-acid")
    changes = {
        "organic flow": lambda e: replace(base, organic_flow=base.organic_flow * e),
        "scrub flow": lambda e: replace(
            base, inlets=(*others, replace(scrub, flow=scrub.flow * e))
        ),
        # As a file has it: the degree of saponification stays, so there is more soap.
        "extractant": lambda e: replace(
            base, dimer=base.dimer * e, organic_conc=np.asarray(base.organic_conc) * e
        ),
        "factor:Nd/Pr": lambda e: replace(
            base,
            model=replace(base.model, log_k=base.model.log_k + np.array([0, np.log(e), 0])),
        ),
    }
    for name, change in changes.items():
        expected = (figures(change(np.exp(h))) - figures(change(np.exp(-h)))) / (2 * h)
        column = confirmed.sensitivity.parameters.index(name)
        assert confirmed.sensitivity.values[:, column] == pytest.approx(expected, rel=2e-3), name


MAGNETS = [
    {"name": "NdPr", "elements": ["Nd", "Pr"], "purity": 0.999, "limits": {"Tb": 5e-5}},
    {"name": "TbDy", "elements": ["Tb", "Dy"], "purity": 0.99, "recovery": 0.98},
]


@pytest.mark.parametrize(
    "change",
    [
        {"organic.saponification": 0.2},
        {"objective.minimise": "stages"},
        {"feed.composition": {"Nd": 0.2, "Pr": 0.8}},
        {"feed.composition": {"Nd": 0.98, "Pr": 0.02}, "product.Pr.purity": 0.95},
        {"feed.composition": {"Pr": 0.2, "Nd": 0.7, "Tb": 0.02, "Dy": 0.08}, "product": MAGNETS},
    ],
)
def test_other_specifications_are_met_with_the_loop_closed(change):
    design = sepmodel.design(NAME, change)
    assert all(asked.met for asked in design.asked)
    # Of each element's own flow in each outlet, where a millionth of it has strayed.
    assert design.recheck < 1e-8
    assert float(np.max(design.confirmation.closed.closure["component"])) < 1e-8


def test_a_window_of_ph_that_is_left_is_named():
    with pytest.raises(InfeasibleError, match="pH") as caught:
        sepmodel.design(NAME, {"limits.pH_low": 1.0})
    assert caught.value.limit["pH"] == 1.0
    assert caught.value.nearest["pH"] < 1.0


@pytest.mark.parametrize("stages", [1, 8])
def test_the_strip_that_is_told_is_the_confirmed_one(stages):
    """Phase ratio and liquor of the strip: words, table, JSON and the circuit's own run agree."""
    found = sepmodel.design(NAME, {"strip.stages": stages})
    result = sepmodel.run(tomllib.loads(report_design.files(found)["circuit.toml"]))
    out = result.to_dict()["streams"]
    strip, organic = out["strip_liquor"], out["loaded_organic"]
    ratio = organic["flow"]["value"] / strip["flow"]["value"]
    told = found.to_dict()["confirmation"]
    assert told["phase_ratio"]["strip"] == pytest.approx(ratio)
    assert strip["moles"]["Nd"]["unit"] == "mol/h"
    assert strip["flow"]["unit"] == "L/h"
    liquor = 1e3 * sum(strip["moles"][e]["value"] for e in ("Pr", "Nd")) / strip["flow"]["value"]
    assert found.confirmation.strip_liquor == pytest.approx(liquor)
    assert liquor < 0.7 * found.flows.strip_liquor
    held = [s for s in found.statements if s.kind == "limit" and s.where == "strip"]
    assert [s.value for s in held] == pytest.approx([ratio, liquor / found.plant.strip_limit])
    text = "\n".join(report_design.lines(found))
    assert f"{ratio:.3g} strip" in text
    assert f"{found.flows.ratio('strip'):.3g} strip" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert not any("not checked by equilibrium" in s.text for s in found.statements)


def test_far_specifications_are_designed_without_numerical_warnings():
    """The organic of some stages runs empty on the way: harmless, and nothing for a user."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        change = {"product.Nd.purity": 0.9999999, "product.Pr.purity": 0.9999999}
        found = sepmodel.design(NAME, change)
    assert all(asked.met for asked in found.asked)
