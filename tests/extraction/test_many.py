"""Many cases at once give what each gives alone, whatever their number, shapes and failures."""

import numpy as np
import pytest

import sepmodel
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError, InputError
from sepmodel.extraction import many
from sepmodel.run import changed, load, run, run_many

CASE = {
    "schema": 1, "kind": "cascade", "name": "x", "components": ["Gd", "Eu", "Sm"],
    "model": {"equilibrium": "mass-flow"},
    "section": [{"name": "extraction", "stages": 5}, {"name": "scrub", "stages": 3}],
    "inlet": [{"name": "feed", "phase": "aqueous",
               "composition": {"Gd": 0.5, "Eu": 0.1, "Sm": 0.4}}],
    "mass_flow": {"solvent": 2.0, "scrub": 1.45,
                  "separation_factors": {"Gd": 2.8, "Eu": 2.0, "Sm": 1.0}},
}  # fmt: skip


def variants(count, seed=1):
    generator = np.random.default_rng(seed)
    base = load(CASE)
    return [
        changed(
            base,
            {
                "mass_flow.solvent": 2.0 * generator.uniform(0.98, 1.02),
                "mass_flow.separation_factors.Gd": generator.uniform(2.0, 3.5),
                "inlet.feed.composition.Eu": generator.uniform(0.05, 0.2),
            },
        )
        for _ in range(count)
    ]


# 8 is the number of stages, 3 that of components: members must not be taken for either; from 64 on
# the cascade is marched.
@pytest.mark.parametrize("count", [1, 2, 3, 8, 63, 64, 200])
def test_members_do_not_notice_each_other(count):
    cases = variants(count)
    together = run_many(cases, [{}] * count)
    for case, found in zip(cases, together, strict=True):
        alone = run(case)
        for stream, outlet in alone.streams.items():
            for name, purity in outlet.purity.items():
                assert abs(found.streams[stream].purity[name] - purity) < 1e-10
        assert found.balance["max"] < 1e-9
        assert found.profiles["share_aq"].values == pytest.approx(
            alone.profiles["share_aq"].values, abs=1e-9
        )


@pytest.mark.parametrize("count", [2, 4, 20, 40])
def test_circuits_do_not_notice_each_other(count):
    """20 is the number of stages, 4 that of rare earths."""
    generator = np.random.default_rng(count)
    base = load("magnet-circuit")
    cases = [
        changed(base, {"organic.flow": f"{3.43 * generator.normal(1.0, 0.005)!r} L/h"})
        for _ in range(count)
    ]
    keys = ("separation_factors/pc88a-hcl:Tb/Gd", "extractants/li1987-pc88a-ideal:Nd")
    constants = [
        {keys[0]: generator.uniform(5.0, 6.5), keys[1]: -2.148 + generator.normal(0, 0.1)}
        for _ in range(count)
    ]
    found = run_many(cases, constants)
    for case, given, one in list(zip(cases, constants, found, strict=True))[:8]:
        alone = run(case, constants=given)
        for stream, outlet in alone.streams.items():
            for table in ("purity", "recovery"):
                for name, value in getattr(outlet, table).items():
                    assert abs(getattr(one.streams[stream], table)[name] - value) < 1e-10
        assert one.balance["max"] < 1e-9
        assert set(one.used) == set(alone.used)


def test_circuits_of_different_stoichiometry_are_not_mixed():
    case = load("magnet-circuit")
    key = "extractants/soap:dimers-Na"
    one, other = run_many([case, case], [{key: 1.0}, {key: 0.9}])
    alone = run(case, constants={key: 0.9})
    for found, expected in ((one, run(case)), (other, alone)):
        assert found.streams["raffinate"].pH == pytest.approx(
            expected.streams["raffinate"].pH, abs=1e-9
        )
    assert one.streams["raffinate"].pH != other.streams["raffinate"].pH


def test_shapes_and_failures_stand_side_by_side():
    """Other stages, a draw, an infeasible scrub, a bad constant: each as it would be alone."""
    base = load(CASE)
    nd_pr = load("nd-pr")
    cases = [
        base,
        changed(base, {"section.scrub.stages": 6}),
        changed(base, {"mass_flow.scrub": 5.0}),
        nd_pr,
        nd_pr,
        base,
    ]
    constants = [{}, {}, {}, {"separation_factors/pc88a-hcl:Nd/Pr": -1.0}, {"no/such:x": 1.0}, {}]
    found = run_many(cases, constants)
    assert isinstance(found[2], InfeasibleError)
    assert isinstance(found[3], InputError)
    assert isinstance(found[4], InputError)
    for i in (0, 1, 5):
        assert found[i].streams["raffinate"].purity == pytest.approx(
            run(cases[i]).streams["raffinate"].purity, abs=1e-10
        )


def test_each_member_records_the_constants_it_read():
    case = load("nd-pr")
    key = "separation_factors/pc88a-hcl:Nd/Pr"
    one, other = run_many([case, case], [{key: 1.4}, {key: 1.5}])
    assert set(one.used) == set(other.used) == {key}
    assert one.streams["raffinate"].purity["Pr"] < other.streams["raffinate"].purity["Pr"]


def test_a_batch_that_cannot_be_made_is_taken_apart(monkeypatch):
    def refuse(*_, **more):
        if "failures" in more:
            raise InputError(sepmodel.Problem(message="not together"))
        return solve(*_, **more)

    solve = many.cascade.solve
    monkeypatch.setattr(many.cascade, "solve", refuse)
    cases = [case.inputs for case in variants(3)]
    assert [r.status for r in many.solve_cascades(cases, [Book() for _ in cases])] == [
        "converged"
    ] * 3
