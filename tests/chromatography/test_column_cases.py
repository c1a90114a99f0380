"""Column case files: both models, what they refuse, and what their pools hold."""

import tomllib

import numpy as np
import pytest

import sepmodel
from sepmodel import data
from sepmodel.chromatography import constant_pattern as pattern
from sepmodel.errors import InfeasibleError, InputError

FULL = {
    "law": "constant-selectivity",
    "selectivity": {"La": 1.0, "Sm": 2.0},
    "capacity": "100 mol/m^3",
}
CASES = data.models_dir() / "cases"


def text(name):
    return (CASES / f"{name}.toml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def protein():
    return sepmodel.run("lanmodulin-nd-dy")


@pytest.fixture(scope="module")
def train():
    return sepmodel.run("displacement-nd-pr-dy")


def test_lanmodulin_pools(protein):
    pools = protein.streams
    assert pools["Dy"].purity["Dy"] > 0.95
    assert pools["Nd"].purity["Nd"] > 0.999
    for element in ("Nd", "Dy"):
        assert sum(
            pools[name].recovery[element] for name in ("Dy", "Nd", "remainder")
        ) == pytest.approx(1, abs=1e-9)
    assert protein.balance["max"] < 1e-12
    assert protein.to_dict()["solver"]["iterations"] == len(protein.profiles["chromatogram"].values)


def test_chromatogram_holds_what_the_pools_hold(protein):
    profile = protein.profiles["chromatogram"]
    volume = np.diff(np.array(profile.axes["bed_volume"]), prepend=0.0)
    left = (profile.values * volume[:, None]).sum(axis=0)
    fed = 0.1 * 17
    held = protein.profiles["held"].values.mean(axis=0)
    np.testing.assert_allclose(left + held, fed, rtol=1e-9)


def test_base_metals_pass_while_rare_earths_stay():
    result = sepmodel.run(data.models_dir() / "starters" / "column.toml")
    assert result.streams["remainder"].recovery["Ca"] == pytest.approx(1.0)
    assert result.streams["Nd"].recovery["Nd"] > 0.8


def test_displacement_pools_have_their_purity(train):
    for name in ("Dy", "Nd", "Pr"):
        assert train.streams[name].purity[name] == pytest.approx(0.99, abs=1e-6)
    assert train.streams["Pr"].recovery["Pr"] < 0.5
    assert train.balance["max"] < 1e-12
    total = sum(train.streams[n].recovery["Nd"] for n in ("Dy", "Nd", "Pr", "mixed"))
    assert total == pytest.approx(1)


def test_train_profile_holds_the_bands(train):
    profile = train.profiles["train"]
    depth = np.array(profile.axes["depth"])
    between = 0.5 * (profile.values[1:] + profile.values[:-1])
    lengths = (between * np.diff(depth)[:, None]).sum(axis=0)
    np.testing.assert_allclose(lengths, [0.0196, 0.139, 0.0414], rtol=0.05)
    fractions = profile.values[:, 2]
    edges = np.interp([0.05, 0.95], fractions, depth)
    zone = float(pattern.zone_length(train.quantities["alpha Nd/Pr"]["value"], 0.00271273))
    assert edges[1] - edges[0] == pytest.approx(zone, rel=0.01)


@pytest.mark.parametrize(
    ("case", "change", "said"),
    [
        ("lanmodulin-nd-dy", {"step.load.pH": "3"}, "not a number"),
        ("lanmodulin-nd-dy", {"step.load.flow": "-1 mL/min"}, "negative"),
        ("lanmodulin-nd-dy", {"step.load.duration": "1 h"}, "how long"),
        ("lanmodulin-nd-dy", {"step.load.ligand": "1 mol/L"}, "a lanmodulin column"),
        ("lanmodulin-nd-dy", {"step.load.composition.Xx": "1 mol/L"}, "unknown element"),
        ("lanmodulin-nd-dy", {"pool.0.purity": 1.2}, "out of range"),
        ("lanmodulin-nd-dy", {"pool.0.steps": ["eluted"]}, "the steps of pool"),
        ("lanmodulin-nd-dy", {"model.transport": "constant-pattern"}, "constant selectivity"),
        ("lanmodulin-nd-dy", {"column.lenght": "1 m"}, "unknown key"),
        ("displacement-nd-pr-dy", {"step.displace.ligand": "90 kg"}, "kind"),
        ("displacement-nd-pr-dy", {"pool.0.elements": ["Tb"]}, "of a displacement train"),
        ("displacement-nd-pr-dy", {"model.set": "proteins/lanmodulin-mex"}, "selectivity"),
        ("la-sm-s950", {"isotherm": FULL}, "initial: the resin is always full"),
        (
            "la-sm-s950",
            {"isotherm": FULL, "initial.La": "1 mol/m^3", "section.0.final": {"La": "0 mol/m^3"}},
            "section.0.final: the resin is always full",
        ),
        ("la-sm-s950", {"bed.dispersion": "1 m^2/s"}, "bed.dispersion: at a Peclet number"),
    ],
)
def test_what_a_column_case_refuses(case, change, said):
    document = tomllib.loads(text(case))
    with pytest.raises(InputError, match=said) as caught:
        sepmodel.load(document, set=change)
    assert caught.value.problems[0].expected or caught.value.problems[0].message


def test_what_a_column_cannot_do():
    with pytest.raises(InfeasibleError, match="too short"):
        sepmodel.run("displacement-nd-pr-dy", set={"step.load.bed_volumes": 3})
    with pytest.raises(InfeasibleError, match="does not stay ahead of Dy"):
        sepmodel.run("displacement-nd-pr-dy", set={"model.set": "ligands/dtpa"})
    with pytest.raises(InputError, match="rare earths only"):
        sepmodel.run("displacement-nd-pr-dy", set={"step.load.composition.Ca": "1 mol/m^3"})


def test_the_displacer_has_to_drive_the_whole_train_out(train):
    """cap/C = (0.4 x 90 + 360)/90 = 4.4 bed volumes move the train's rear through the bed."""
    assert train.quantities["displacer_needed"]["value"] == pytest.approx(4.4)
    key = "step.displace.bed_volumes"
    with pytest.raises(InputError, match=r"rear of the train at 2\.3% of the bed") as caught:
        sepmodel.run("displacement-nd-pr-dy", set={key: 0.1})
    assert caught.value.problems[0].key == key
    assert caught.value.problems[0].expected.startswith("4.4 and more")
    least = sepmodel.run("displacement-nd-pr-dy", set={key: 4.4})
    ligand, time = (
        [r.quantities[name]["value"] for r in (train, least)]
        for name in ("ligand_per_cycle", "displacement_time")
    )
    bed = train.quantities["bed_volume"]["value"] / 1000
    assert ligand[0] - ligand[1] == pytest.approx(0.6 * 90 * bed)
    assert time[0] / time[1] == pytest.approx(5 / 4.4)
    with pytest.raises(InputError, match=r"step\.displace\.bed_volumes"):
        sepmodel.run("displacement-nd-pr-dy", set={"step.displace.ligand": "45 mol/m^3"})


def test_the_map_of_an_elution_ends_in_its_outlet():
    change = {"section.0.final": {"La": "2e-3 mol/m^3", "Sm": "0 mol/m^3"}}
    found = sepmodel.run("la-sm-s950", set=change)
    map_, left, fed = (found.profiles[name] for name in ("map", "outlet", "inlet"))
    for k in range(2):
        at_end = np.interp(map_.axes["time"], left.axes["time"], left.values[:, k])
        np.testing.assert_allclose(map_.values[:, -1, k], at_end, atol=1e-3 * at_end.max())
    assert fed.values.tolist() == [[7.199e-3, 2.727e-3], [2e-3, 0.0]]
    assert fed.axes["time"] == [0.0, 705 * 3600]
    # Dispersion at the inlet is small: the first place has what enters.
    np.testing.assert_allclose(map_.values[-1, 0], fed.values[-1], atol=1e-4)


def test_an_elution_says_what_its_outlet_is_worth():
    fast = sepmodel.run("la-sm-s950", set={"bed.velocity": "1 m/s"})
    assert fast.balance["max"] < 1e-9
    assert not fast.warnings
    short = sepmodel.run("la-sm-s950", set={"bed.length": "1 km"})
    assert [w.code for w in short.warnings] == ["nothing-leaves"]
    sharp = {"isotherm.coefficient": {"La": 7.0, "Sm": 9.0}, "bed.dispersion": "1e-9 m^2/s"}
    sharp |= {"rate.La": "1 1/s", "rate.Sm": "1 1/s", "numerics.elements": 6}
    coarse = sepmodel.run("la-sm-s950", set=sharp)
    assert coarse.solver["estimated_error"] > 0.01
    assert [w.code for w in coarse.warnings] == ["coarse-solution"]
