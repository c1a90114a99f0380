"""Case files: found, read, changed by settings, refused with reasons; results in safe folders."""

import doctest
import importlib
import json
import re
import time
import tomllib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sepmodel
from sepmodel import case, data, files, kinds
from sepmodel.errors import ConvergenceError, InfeasibleError, InputError, Problem
from sepmodel.run import KINDS, compare, inputs_hash, load, result_folder, run

BASE = (data.models_dir() / "cases" / "nd-pr.toml").read_text(encoding="utf-8")
STARTERS = sorted((data.models_dir() / "starters").glob("*.toml"))


@pytest.mark.parametrize("name", ["case"])
def test_docstring_examples(name):
    result = doctest.testmod(importlib.import_module(f"sepmodel.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


def refused(path):
    start = time.process_time()
    with pytest.raises(InputError) as caught:
        load(path)
    assert time.process_time() - start < 2
    return caught.value.problems


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff\xfe\x00" * 3_500_000, "larger than"),
        (b"\xff" * 1000, "not UTF-8"),
        ("schema = 1\n".encode("utf-16"), "not UTF-8"),
        (b"this is no TOML", "cannot be read"),
        (b"x = " + b"[" * 100_000, "nested too deeply"),
        (b"x = " + b"[" * 1000 + b"]" * 1000, "nested too deeply"),
        (b"x = " + b"{a = " * 1000 + b"1" + b"}" * 1000, "nested too deeply"),
        (b"a" + b".a" * 140_000 + b" = 1", "nested too deeply"),
        (b'a = {"x"' + b' . ""' * 50_000 + b" = 1}", "nested too deeply"),
        (b"x = " + b"{a = " * 60 + b"1" + b"}" * 60, "nested too deeply"),
        (b"x = " + b"9" * 200_000, "digits"),
        (b"", "missing key"),
        (b"x = 1\nx = 2", "cannot be read"),
        (b'kind = "nothing"', "unknown kind"),
        (b"kind = 7", "unknown kind"),
        (b"".join(b"k%d = 1\n" % i for i in range(20_000)), "missing key"),
    ],
)
def test_unusable_files_are_refused_at_once(tmp_path, content, said):
    path = tmp_path / "case.toml"
    path.write_bytes(content)
    found = refused(path)
    assert said in "\n".join(map(str, found))
    assert all(problem.file == str(path) for problem in found)
    assert path.read_bytes() == content


@pytest.mark.parametrize("what", ["folder", "absent.toml", "x" * 5000, "nul\0byte", "/dev/zero"])
def test_what_is_no_file_is_refused(tmp_path, monkeypatch, what):
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    refused(what)


@pytest.mark.parametrize(
    ("old", "new", "key", "said"),
    [
        ('"Nd", "Pr"]', '"Nd", "Xx"]', "components.1", "unknown element"),
        ("Pr = 0.25", "Pq = 0.25", "inlet.feed.composition.Pq", "unknown element"),
        ("Pr = 0.25", "Pr = -0.25", "inlet.feed.composition.Pr", "negative"),
        ("solvent = 4.4", "solvent = -4.4", "mass_flow.solvent", "negative"),
        ("solvent = 4.4", 'solvent = "4.4"', "mass_flow.solvent", "not a number"),
        ("solvent = 4.4", "solvent = nan", "mass_flow.solvent", "finite"),
        ("solvent = 4.4", "", "mass_flow.solvent", "missing key"),
        ("solvent = 4.4", "solvnet = 4.4", "mass_flow.solvnet", "did you mean solvent"),
        ("stages = 24", 'stages = "many"', "section.extraction.stages", "whole number"),
        (
            "stages = 24",
            "stages = 24\nefficiency = 1.2",
            "section.extraction.efficiency",
            "at most 1",
        ),
        (
            "stages = 24",
            'stages = 24\ntemperature = "25 L"',
            "section.extraction.temperature",
            "kind",
        ),
        (
            "stages = 24",
            'stages = 24\ntemperature = "10**10**10 K"',
            "section.extraction.temperature",
            "unit",
        ),
        ("stages = 24", "stages = 1_000_000_000", "section", "too many stages"),
        ("Nd = 0.75", "Nd = 1e308", "inlet.feed.composition.Nd", "at most"),
        ('"aqueous"', '"gas"', "inlet.feed.phase", "aqueous"),
        ('purity_basis = "mole"', 'purity_basis = "volume"', "purity_basis", "oxide-mass"),
        ("schema = 1", "schema = 9", "schema", "1"),
        ("pc88a-hcl", "pc88a-hlc", "model.set", "pc88a-hcl"),
    ],
)
def test_one_message_with_key_value_and_expectation(tmp_path, old, new, key, said):
    assert old in BASE
    path = tmp_path / "case.toml"
    path.write_text(BASE.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        run(path)
    found = caught.value.problems
    assert len(found) <= 2  # a misspelt key is also a missing one
    assert any(p.key == key and said in str(p) for p in found)


def test_every_problem_of_a_file_at_once(tmp_path):
    text = BASE.replace("stages = 24", "stages = 0").replace("solvent = 4.4", 'solvent = "x"')
    path = tmp_path / "case.toml"
    path.write_text("colour = 1\n" + text, encoding="utf-8")
    assert {p.key for p in refused(path)} == {
        "colour",
        "section.extraction.stages",
        "mass_flow.solvent",
    }


LEAVES = st.one_of(
    st.none().map(lambda _: ""),
    st.integers(-(10**6), 10**6),
    st.floats(),
    st.booleans(),
    st.text(max_size=20),
    st.sampled_from(["1 L/h", "10**10**10", "Nd", "7 pH", "-3 kg", "mass-flow", "scrub"]),
    st.lists(st.integers(0, 5), max_size=3),
    st.dictionaries(st.sampled_from(["Nd", "x", "stages"]), st.floats(), max_size=2),
)


def paths(document, prefix=""):
    for key, value in document.items() if isinstance(document, dict) else enumerate(document):
        here = f"{prefix}{key}"
        yield here
        if isinstance(value, dict | list):
            yield from paths(value, f"{here}.")


@settings(max_examples=80, deadline=5000, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_mutated_case_is_solved_or_refused(chance):
    document = tomllib.loads(BASE)
    known = list(paths(document))
    changes = {
        chance.draw(st.sampled_from([*known, "extra", "model.extra", "inlet.1.name"])): chance.draw(
            LEAVES
        )
        for _ in range(chance.draw(st.integers(1, 3)))
    }
    if "components" in changes or any(k.endswith("stages") for k in changes):
        changes.pop("components", None)
    try:
        result = run(document, {k: v for k, v in changes.items() if not _huge(k, v)})
    except (InputError, InfeasibleError, ConvergenceError):
        return
    assert result.balance["max"] < 1e-6
    json.dumps(result.to_dict(), allow_nan=False)


def _huge(key, value):
    return key.endswith("stages") and isinstance(value, int) and value > 200


SHIPPED = {path.name: tomllib.loads(path.read_text("utf-8")) for path in case.names().values()}


@settings(max_examples=100, deadline=2000)
@given(st.data())
def test_any_mutated_model_file_loads_or_is_refused(chance):
    document = SHIPPED[chance.draw(st.sampled_from(sorted(SHIPPED)))]
    known = [*paths(document), "extra"]
    changes = {chance.draw(st.sampled_from(known)): chance.draw(LEAVES) for _ in range(2)}
    try:
        loaded = load(document, changes)
    except InputError:
        return
    json.dumps(files.plain(loaded.canonical()), allow_nan=False)


@settings(max_examples=100, deadline=2000)
@given(st.text(max_size=200) | st.binary(max_size=200))
def test_any_text_is_a_case_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "case.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    with pytest.raises(InputError):
        load(path)


def test_a_refused_member_is_told_once():
    with pytest.raises(InputError) as caught:
        load("nd-pr", {"inlet.0.flow": "1 L/h"})
    assert [p.key for p in caught.value.problems] == ["inlet.feed.flow"]


def test_settings_replace_by_path_and_name():
    loaded = load("nd-pr", {"section.scrub.stages": 12, "mass_flow.solvent": 5})
    assert loaded.inputs.section[1].stages == 12
    assert loaded.inputs.mass_flow.solvent == 5.0
    for path, said in {
        "section.strip.stages": "called 'strip'",
        "section.7.stages": "counted from 0",
        "name.x": "single value",
        "": "empty part",
        ".".join("a" * 50): "too long",
    }.items():
        with pytest.raises(InputError, match=said):
            load("nd-pr", {path: 1})
    with pytest.raises(InputError) as caught:
        load("nd-pr", {"section.extraction.stages": "x"})
    assert caught.value.problems[0].file == "--set"
    assert case.parse_settings(["a=1\nb=2", "c=[1, 2]", "d=1 L/h"]) == {
        "a": "1\nb=2",
        "c": [1, 2],
        "d": "1 L/h",
    }
    with pytest.raises(InputError, match="path=value"):
        case.parse_settings(["stages"])


def test_own_models_stand_in_front_and_are_announced(tmp_path, monkeypatch):
    own = tmp_path / "models" / "cases"
    own.mkdir(parents=True)
    (own / "nd-pr.toml").write_text(BASE.replace("stages = 24", "stages = 3", 1), encoding="utf-8")
    (own / "mine.toml").write_text(BASE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    loaded = load("nd-pr")
    assert loaded.inputs.section[0].stages == 3
    assert loaded.shadows == data.models_dir() / "cases" / "nd-pr.toml"
    assert list(case.shadowed()) == [own / "nd-pr.toml"]
    assert load("mine").shadows is None
    with pytest.raises(InputError, match="did you mean mine"):
        load("mime")


def test_the_hash_knows_what_matters():
    first = run("nd-pr")
    assert len(first.inputs_hash) == 64
    document = tomllib.loads(BASE)
    same = {"notes": "other words", "section.extraction.efficiency": 1, "mass_flow.feed": 1}
    assert run(document, same).inputs_hash == first.inputs_hash
    assert run(dict(reversed(document.items()))).inputs_hash == first.inputs_hash
    assert run("nd-pr", {"section.extraction.stages": 25}).inputs_hash != first.inputs_hash
    constants = {"separation_factors/pc88a-hcl:Nd/Pr": 1.5}
    other = run("nd-pr", constants=constants)
    assert other.inputs_hash != first.inputs_hash
    assert other.streams["raffinate"].purity["Pr"] > first.streams["raffinate"].purity["Pr"]
    assert inputs_hash(load("nd-pr"), first.used) == first.inputs_hash
    assert result_folder(first).name == f"nd-pr-{first.inputs_hash[:8]}"


def test_a_result_names_what_it_rests_on():
    result = sepmodel.run(sepmodel.load("nd-pr"))
    (source,) = result.to_dict()["sources"]
    assert source["numbers"] == ["separation_factors/pc88a-hcl:Nd/Pr"]
    assert result.version == sepmodel.__version__
    assert isinstance(result, sepmodel.Result)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_schema(kind):
    document = kinds.schema(kind)
    text = json.dumps(document)
    for reference in set(re.findall(r'"#/\$defs/([^"]+)"', text)):
        assert reference in document["$defs"]
    names = [shape["$ref"].rpartition("/")[2] for shape in document.get("anyOf", [])]
    for schema in [document["$defs"][name] for name in names] or [document]:
        assert schema["properties"]["kind"]["const"] == kind
        assert schema["additionalProperties"] is False


def test_every_kind_has_a_starter():
    assert {path.stem for path in STARTERS} == set(KINDS)


@pytest.mark.parametrize("path", STARTERS, ids=lambda p: p.stem)
def test_starters_load_and_solve(path):
    loaded = load(path)
    assert loaded.kind == path.stem
    if KINDS[loaded.kind]().solve is not None:
        run(loaded)


@pytest.mark.parametrize("name", sorted(p.stem for p in (data.models_dir() / "cases").glob("*")))
def test_shipped_cases_run(name):
    assert run(name).status == "converged"


ABOUT = {"name": "x"}


def test_a_folder_is_written_once_and_again(tmp_path):
    folder = tmp_path / "deep" / "result"
    files.write_folder(folder, {"a.txt": "1", "b.txt": b"2"}, ABOUT)
    assert (folder / "a.txt").read_text() == "1"
    files.write_folder(folder, {"a.txt": "3"}, ABOUT)
    assert (folder / "a.txt").read_text() == "3"
    assert not (folder / "b.txt").exists(), "what is no longer part of the result is removed"
    assert sorted(p.name for p in folder.iterdir()) == ["a.txt", "manifest.json"]


def test_what_somebody_changed_or_wrote_is_left_alone(tmp_path):
    files.write_folder(tmp_path, {"a.txt": "1", "b.txt": "2"}, ABOUT)
    (tmp_path / "a.txt").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine too")
    with pytest.raises(InputError, match="in the way"):
        files.write_folder(tmp_path, {"a.txt": "3", "b.txt": "4"}, ABOUT)
    assert (tmp_path / "a.txt").read_text() == "mine"
    assert (tmp_path / "b.txt").read_text() == "2", "nothing is touched when anything is in the way"
    files.write_folder(tmp_path, {"b.txt": "4"}, ABOUT)
    assert (tmp_path / "a.txt").read_text() == "mine", "changed files are not removed either"
    files.write_folder(tmp_path, {"a.txt": "5"}, ABOUT, force=True)
    assert (tmp_path / "a.txt").read_text() == "5"
    assert (tmp_path / "notes.txt").read_text() == "mine too"


def test_links_and_foreign_manifests_are_not_ours(tmp_path):
    outside = tmp_path / "outside.txt"
    outside.write_text("precious")
    folder = tmp_path / "result"
    folder.mkdir()
    (folder / "a.txt").symlink_to(outside)
    with pytest.raises(InputError, match="in the way"):
        files.write_folder(folder, {"a.txt": "1"}, ABOUT)
    (folder / "a.txt").unlink()
    for text in ("not json", "[1]", '{"files": {"../outside.txt": ["x"]}}'):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(InputError, match="in the way"):
            files.write_folder(folder, {"a.txt": "1"}, ABOUT)
    stolen = {"written_by": "sepmodel", "files": {"../outside.txt": [files._sha256(b"precious")]}}
    (folder / "manifest.json").write_text(json.dumps(stolen))
    files.write_folder(folder, {"a.txt": "1"}, ABOUT)
    assert outside.read_text() == "precious"


def test_a_full_disk_leaves_nothing_new(tmp_path, monkeypatch):
    real = files.write_atomic

    def full(path, content):
        if path.name == "b.txt":
            raise InputError(Problem(message="cannot be written: no space left"))
        return real(path, content)

    monkeypatch.setattr(files, "write_atomic", full)
    with pytest.raises(InputError, match="no space"):
        files.write_folder(tmp_path / "new", {"a.txt": "1", "b.txt": "2"}, ABOUT)
    assert list(tmp_path.iterdir()) == []


def test_a_run_cut_short_can_be_repeated(tmp_path, monkeypatch):
    files.write_folder(tmp_path, {"a.txt": "1", "b.txt": "1"}, ABOUT)
    real, calls = files.write_atomic, []

    def stop(path, content):
        calls.append(path)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(path, content)

    monkeypatch.setattr(files, "write_atomic", stop)
    with pytest.raises(KeyboardInterrupt):
        files.write_folder(tmp_path, {"a.txt": "2", "b.txt": "2"}, ABOUT)
    monkeypatch.undo()
    assert (tmp_path / "a.txt").read_text() == "2"
    files.write_folder(tmp_path, {"a.txt": "3", "b.txt": "3"}, ABOUT)
    assert (tmp_path / "b.txt").read_text() == "3"


def test_a_study_finds_the_routes_beside_it(tmp_path):
    kinds_written = {}
    for kind, name in (("study", "mine"), ("route", "my-route")):
        text = (data.models_dir() / "starters" / f"{kind}.toml").read_text(encoding="utf-8")
        text = text.replace(f'name = "my-{kind}"', f'name = "{name}"', 1)
        kinds_written[kind] = tmp_path / f"{name}.toml"
        kinds_written[kind].write_text(text, encoding="utf-8")
    study = kinds_written["study"]
    compared = sepmodel.compare(study, {"routes": ["my-route"]}, ranges=False)
    assert [row.route.name for row in compared.routes] == ["my-route"]
    shipped = sepmodel.compare(study, {"routes": ["conventional-extraction"]}, ranges=False)
    cost = compared.routes[0].account.metrics["cost"]
    assert cost == pytest.approx(shipped.routes[0].account.metrics["cost"], rel=1e-12)
    route = kinds_written["route"]
    route.write_text(route.read_text(encoding="utf-8").replace('"my-route"', '"other"'))
    with pytest.raises(InputError, match="called as its file"):
        sepmodel.compare(study, {"routes": ["my-route"]}, ranges=False)
    with pytest.raises(InputError, match="not a study"):
        sepmodel.compare("nd-pr")


@pytest.mark.parametrize(
    ("case", "settings", "key", "value", "expected"),
    [
        ("magnet-circuit", {"components": ["Pr", "Pr", "Tb"]}, "components", "Pr, Pr, Tb", "once"),
        ("magnet-circuit", {"section.scrub.stages": 4000}, "section", 4012, "at most 2048"),
        ("magnet-circuit", {"inlet.feed.stage": 9}, "inlet.feed.stage", 9, "from 1 to 8"),
        (
            "magnet-circuit",
            {"inlet.feed.composition.Ho": "1 mol/L"},
            "inlet.feed.composition.Ho",
            "Ho",
            "Pr, Nd, Tb, Dy",
        ),
        ("nd-pr-99-5", {"product.Nd.purity": 99.9}, "product.Nd.purity", 99.9, "99.9 % is 0.999"),
        (
            "nd-pr-99-5",
            {"product.Pr.elements": ["Pr", "Nd"]},
            "product.Nd.elements",
            "Nd",
            "one product",
        ),
    ],
)
def test_a_rule_over_several_keys_names_one_of_them(case, settings, key, value, expected):
    with pytest.raises(InputError) as caught:
        load(case, settings)
    (problem,) = caught.value.problems
    assert (problem.key, problem.value) == (key, value)
    assert expected in problem.expected
    assert "below 1, below 1" not in str(problem)
    assert problem.file


@pytest.mark.parametrize(
    ("work", "case", "settings", "key"),
    [
        (run, "nd-pr", {"model.set": "separation_factors/pc88a-hlc"}, "model.set"),
        (run, "magnet-circuit", {"model.set": "extractants/nothing"}, "model.set"),
        (compare, "magnet-scrap", {"feed": "magnet-scarp"}, "feed"),
    ],
)
def test_a_data_set_that_is_not_there_is_placed_by_file_and_key(work, case, settings, key):
    with pytest.raises(InputError) as caught:
        work(case, settings)
    (problem,) = caught.value.problems
    assert problem.key == key
    assert problem.file.endswith(f"{case}.toml")
    assert "such data set" in problem.message
