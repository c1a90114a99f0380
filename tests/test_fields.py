"""Case-file fields, the list of problems made from a refused file, and the common result."""

import doctest
import importlib
import json
from typing import Annotated, Literal

import numpy as np
import pytest
from pydantic import model_validator

from sepmodel import data, fields, files
from sepmodel.errors import InputError
from sepmodel.fields import PH, Case, Component, Count, Fraction, Quantity, Table
from sepmodel.result import Outlet, Profile, Result, Warned, amount, at


class Inlet(Table):
    name: fields.Name
    flow: Annotated[float, Quantity("m^3/s", above=0)]
    composition: fields.Composition = {}
    pH: PH | None = None


class Heat(Table):
    type: Literal["heat"]
    duty: Annotated[float, Quantity("W")]


class Stir(Table):
    type: Literal["stir"]
    speed: fields.Positive


class Toy(Case):
    kind: Literal["toy"]
    components: tuple[Component, ...]
    stages: Count = 1
    efficiency: Fraction = 1.0
    inlet: tuple[Inlet, ...] = ()
    step: tuple[Annotated[Heat | Stir, fields.Field(discriminator="type")], ...] = ()

    @model_validator(mode="after")
    def _rule(self):
        if self.stages > 500:
            fields.refuse("too many stages", "at most 500", self.stages)
        return self


GOOD = {
    "schema": 1,
    "kind": "toy",
    "name": "first",
    "components": ["Nd", "Pr"],
    "inlet": [{"name": "feed", "flow": "3.6 m^3/h", "composition": {"Nd": "1 mol/L"}, "pH": 2}],
    "step": [{"type": "heat", "duty": "1 kW"}],
}


@pytest.mark.parametrize("name", ["fields", "files", "result"])
def test_docstring_examples(name):
    result = doctest.testmod(importlib.import_module(f"sepmodel.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_a_case_becomes_si():
    toy = fields.validate(Toy, GOOD)
    assert toy.inlet[0].flow == 0.001
    assert toy.inlet[0].composition == {"Nd": 1000.0}
    assert toy.step[0].duty == 1000.0


@pytest.mark.parametrize(
    ("path", "value", "key", "said"),
    [
        ("stages", "ten", "stages", "not a whole number"),
        ("stages", 1.5, "stages", "not a whole number"),
        ("stages", True, "stages", "not a whole number"),
        ("stages", 501, "", "too many stages"),
        ("efficiency", 1.2, "efficiency", "at most 1"),
        ("efficiency", float("nan"), "efficiency", "finite"),
        ("components", ["Nd", "Pq"], "components.1", "unknown element"),
        ("components", "Nd", "components", "a list"),
        ("colour", "red", "colour", "unknown key"),
        ("name", "../etc", "name", "usable name"),
        ("name", 7, "name", "not text"),
        ("schema", 2, "schema", "unknown choice"),
        ("inlet.0.flow", 6, "inlet.0.flow", "text with a unit"),
        ("inlet.0.flow", "6 kg", "inlet.0.flow", "not a unit of the kind"),
        ("inlet.0.flow", "-6 L/h", "inlet.0.flow", "negative"),
        ("inlet.0.flow", "0 L/h", "inlet.0.flow", "above 0"),
        ("inlet.0.flow", "10**10**10", "inlet.0.flow", "unit"),
        ("inlet.0.flow", None, "inlet.0.flow", "text with a unit"),
        ("inlet.0.composition.Nd", "-1 mol/L", "inlet.0.composition.Nd", "negative"),
        ("inlet.0.composition.Nx", "1 mol/L", "inlet.0.composition.Nx", "unknown element"),
        ("inlet.0.flwo", "1 L/h", "inlet.0.flwo", "did you mean flow"),
        ("inlet.0.pH", "7 pH", "inlet.0.pH", "no unit"),
        ("step.0.type", "het", "step.0", "heat"),
        ("step.0.dutty", "1 W", "step.0.dutty", "did you mean duty"),
        ("step.0.duty", 1, "step.0.duty", "text with a unit"),
    ],
)
def test_one_clear_problem_with_its_key(path, value, key, said):
    document = json.loads(json.dumps(GOOD))
    *parents, last = path.split(".")
    table = document
    for part in parents:
        table = table[int(part)] if part.isdigit() else table[part]
    table[last] = value
    with pytest.raises(InputError) as caught:
        fields.validate(Toy, document, file="toy.toml")
    (problem,) = caught.value.problems
    assert problem.file == "toy.toml"
    assert problem.key == key
    assert said in str(problem)
    assert "Input should" not in str(problem)


def test_every_problem_at_once():
    document = {**GOOD, "stages": "x", "efficiency": 3, "step": [{"type": "stir"}], "colour": 1}
    with pytest.raises(InputError) as caught:
        fields.validate(Toy, document)
    assert {p.key for p in caught.value.problems} == {
        "stages",
        "efficiency",
        "step.0.speed",
        "colour",
    }


def result():
    return Result(
        kind="toy",
        name="first",
        streams={
            "raffinate": Outlet(
                phase="aqueous",
                flow=amount(1e-3, "L/s"),
                conc={"Nd": amount(1500.0, "mol/L")},
                purity={"Nd": float("nan")},
            )
        },
        profiles={
            "conc_aq": Profile(
                unit="mol/m^3",
                axes={"stage": (1, 2), "component": ("Nd", "Pr")},
                values=np.array([[1.0, 2.0], [np.inf, 4.0]]),
            )
        },
        warnings=[Warned(code="loading", message="near the limit", where="stage 2")],
        used={"elements:Nd": data.load_set("elements")["Nd"]},
    )


def test_a_result_is_json_without_nan(tmp_path):
    path = result().to_json(tmp_path / "deep" / "result.json")
    text = path.read_text(encoding="utf-8")
    document = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert set(document) >= {
        "schema",
        "version",
        "kind",
        "name",
        "status",
        "inputs_hash",
        "model",
        "solver",
        "streams",
        "profiles",
        "balance",
        "warnings",
        "sources",
        "estimated",
    }
    assert set(document["model"]) == {"equilibrium", "set", "activity", "level"}
    assert set(document["solver"]) == {"iterations", "residual", "seconds"}
    assert document["streams"]["raffinate"]["conc"]["Nd"] == {"value": 1.5, "unit": "mol/L"}
    assert document["streams"]["raffinate"]["purity"]["Nd"] is None
    assert document["profiles"]["conc_aq"]["values"] == [[1.0, 2.0], [None, 4.0]]
    assert at(document, "profiles.conc_aq.values.1.1") == 4.0
    with pytest.raises(InputError, match="no 'rafinate'"):
        at(document, "streams.rafinate.flow")
    assert list(tmp_path.rglob(".*")) == []


def test_csv_carries_units(tmp_path):
    written = result().to_csv(tmp_path)
    assert {p.name for p in written} == {"streams.csv", "profile_conc_aq.csv"}
    profile = (tmp_path / "profile_conc_aq.csv").read_text(encoding="utf-8").splitlines()
    assert profile == [
        "stage,conc_aq Nd [mol/m^3],conc_aq Pr [mol/m^3]",
        "1,1.0,2.0",
        "2,,4.0",
    ]
    streams = (tmp_path / "streams.csv").read_text(encoding="utf-8")
    assert "raffinate,aqueous,,,Nd,concentration,1.5,mol/L" in streams


def test_a_write_is_whole_or_nothing(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        files.write_atomic(tmp_path / "folder", "text")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        files.write_atomic(tmp_path / "file" / "inside", "text")
    # What a killed writer left goes; what another one writes now stays.
    (tmp_path / ".file.deadbeef").write_text("ha")
    with (tmp_path / ".file.written1").open("w") as other:
        if files.fcntl is not None:
            files.fcntl.flock(other, files.fcntl.LOCK_EX)
        files.write_atomic(tmp_path / "file", "y")
        assert (tmp_path / ".file.written1").exists()
    files.write_atomic(tmp_path / "file", "z")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]
