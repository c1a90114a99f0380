"""The command line end to end: exit codes, what goes where, no traceback, speed."""

import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from sepmodel import cli, data, files, run, terminal
from sepmodel.errors import ConvergenceError, InfeasibleError, Trace

ROOT = Path(__file__).parents[1]
RUN = sys.modules["sepmodel.run"]
CASE = (data.models_dir() / "cases" / "nd-pr.toml").read_text(encoding="utf-8")


@pytest.fixture
def sepmodel(tmp_path, monkeypatch, capsys):
    """Run the command line inside this process, in an empty folder: (exit code, out, err)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        code = cli._guarded([str(w) for w in words])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.out + captured.err
        return code, captured.out, captured.err

    return call


def process(*words, cwd, **more):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "80", **more.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "sepmodel", *words],
        cwd=cwd,
        env=environment,
        capture_output=True,
        timeout=60,
        **more,
    )


def cpu_time():
    """Processor time of finished child processes: what a quiet machine takes, on a busy one too."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def listed(folder):
    return sorted(p.name for p in Path(folder).iterdir())


def test_names_of_streams_stand_on_one_line(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    terminal.show_result(run("start-nd-dy-pitzer", {"time.end": "2 d"}))
    out = capsys.readouterr().out
    assert " barren_organic " in out
    assert max(map(len, out.splitlines())) <= 80


def test_run_writes_its_folder_and_again(sepmodel, tmp_path):
    code, out, err = sepmodel("run", "nd-pr")
    assert (code, err) == (0, "")
    (folder,) = (tmp_path / "results").iterdir()
    assert f"results/{folder.name}/" in out
    assert max(map(len, out.splitlines())) <= 80
    assert {"result.json", "case.json", "streams.csv", "stages.svg", "stages.png"} < set(
        listed(folder)
    )
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["inputs_hash"][:8] == folder.name.rpartition("-")[2]
    assert sepmodel("run", "nd-pr", "--quiet") == (0, "", "")
    (folder / "streams.csv").write_text("changed by hand")
    code, out, err = sepmodel("run", "nd-pr")
    assert (code, out) == (2, "")
    assert "streams.csv" in err
    assert "--force" in err
    assert (folder / "streams.csv").read_text() == "changed by hand"
    assert sepmodel("run", "nd-pr", "--force", "--no-figures")[0] == 0
    assert "changed" not in (folder / "streams.csv").read_text()
    assert "stages.svg" not in listed(folder)


def test_json_alone_on_stdout(sepmodel):
    code, out, err = sepmodel("run", "nd-pr", "--json", "-", "--no-figures", "--out", "here")
    document = json.loads(out, parse_constant=lambda name: pytest.fail(name))
    assert (code, document["status"], err) == (0, "converged", "")
    assert document == {
        **json.loads(Path("here/result.json").read_text(encoding="utf-8")),
        "solver": document["solver"],
    }


def test_json_into_a_file_that_is_not_ours(sepmodel, tmp_path):
    (tmp_path / "mine.json").write_text('{"precious": 1}')
    before = listed(tmp_path)
    code, _, err = sepmodel("run", "nd-pr", "--json", "mine.json")
    assert code == 2
    assert "in the way" in err
    assert (tmp_path / "mine.json").read_text() == '{"precious": 1}'
    assert listed(tmp_path) == before
    for _ in range(2):
        assert sepmodel("run", "nd-pr", "--json", "new.json", "--no-figures")[0] == 0
    assert json.loads((tmp_path / "new.json").read_text())["name"] == "nd-pr"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run"], 2, "Missing argument"),
        (["run", "nd-rp"], 2, "did you mean nd-pr"),
        (["run", "nd-pr", "--set", "stages"], 2, "path=value"),
        (["run", "nd-pr", "--set", "section.scrub.stages=-3"], 2, "at least 1"),
        (["run", "nd-pr", "--set", "mass_flow.scrub=9"], 3, "nearest feasible: scrub 4.399"),
        (["run", "nd-pr", "--frobnicate"], 2, "No such option"),
        (["frobnicate"], 2, "No such command"),
        (["schema", "casc"], 2, "did you mean cascade"),
        (["new", "casc"], 2, "did you mean cascade"),
        (["new", "cascade", "../x"], 2, "usable name"),
        (["sources", "nobody1999"], 2, "nothing of this name"),
        (["sources", "a", "--case", "b"], 2, "not both"),
        (["validate", "nothing"], 2, "no such validation case"),
        (["validate", "--root", "nowhere"], 2, "no validation folders"),
    ],
)
def test_what_goes_wrong_has_a_code_and_a_reason(sepmodel, tmp_path, words, code, said):
    got, out, err = sepmodel(*words)
    assert got == code
    assert said in err
    assert out == ""
    assert listed(tmp_path) == []
    if words[0] in ("run", "validate"):
        got, out, err = sepmodel(*words, "--json", "-")
        document = json.loads(out)
        assert got == code
        assert document["status"] == "error"
        assert set(document["errors"][0]) == {"file", "key", "value", "expected", "message"}
        assert listed(tmp_path) == []


def test_the_nearest_feasible_scrub_is_feasible(sepmodel):
    for scrub in (9, 1):
        _, out, _ = sepmodel("run", "nd-pr", "--set", f"mass_flow.scrub={scrub}", "--json", "-")
        nearest = json.loads(out)["nearest"]["scrub"]
        assert sepmodel("run", "nd-pr", "--set", f"mass_flow.scrub={nearest!r}", "--quiet")[0] == 0


def test_a_failed_solve_tells_where(sepmodel, monkeypatch):
    trace = Trace(history=(1.0,), equation="balance", stage=3, component="Nd", advice="more scrub")

    def fail(*_, **__):
        raise ConvergenceError("not solved", trace=trace)

    monkeypatch.setattr(RUN, "run", fail)
    code, out, err = sepmodel("run", "nd-pr", "--json", "-")
    assert code == 3
    assert json.loads(out)["trace"]["stage"] == 3
    assert "component Nd" in err
    assert "more scrub" in err


def test_a_defect_is_called_one(sepmodel, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("hidden")

    monkeypatch.setattr(RUN, "run", fail)
    code, _, err = sepmodel("run", "nd-pr")
    assert code == 1
    assert "a defect in sepmodel: ZeroDivisionError" in err
    assert "doctor" in err


def test_infeasible_shows_limit_and_nearest(sepmodel, monkeypatch):
    def fail(*_, **__):
        raise InfeasibleError("too pure", limit={"purity": 0.99}, nearest={"purity": 0.98})

    monkeypatch.setattr(RUN, "run", fail)
    code, _, err = sepmodel("run", "nd-pr")
    assert code == 3
    assert "limit: purity 0.99" in err
    assert "nearest feasible: purity 0.98" in err


def test_a_starter_is_never_overwritten(sepmodel, tmp_path):
    assert sepmodel("new", "cascade", "mine")[0] == 0
    text = (tmp_path / "mine.toml").read_text(encoding="utf-8")
    assert 'name = "mine"' in text
    code, _, err = sepmodel("new", "cascade", "mine")
    assert code == 2
    assert "exists already" in err
    assert (tmp_path / "mine.toml").read_text(encoding="utf-8") == text
    assert sepmodel("run", "mine.toml", "--no-figures")[0] == 0


def test_sources_and_schema_and_doctor(sepmodel):
    code, out, _ = sepmodel("sources", "--json", "-")
    assert code == 0
    assert "prohaska2022" in {entry["key"] for entry in json.loads(out)["sources"]}
    assert "10.1515/pac-2019-0603" in sepmodel("sources", "prohaska2022")[1]
    assert "llepe-mixtures" in sepmodel("sources", "--case", "nd-pr")[1]
    schema = json.loads(sepmodel("schema", "cascade")[1])
    assert {"schema", "kind", "name"} <= set(schema["$defs"]["CascadeCase"]["required"])
    code, out, _ = sepmodel("doctor")
    assert code == 0
    assert "self-check" in out


def test_own_models_are_announced(sepmodel, tmp_path):
    (tmp_path / "models" / "cases").mkdir(parents=True)
    (tmp_path / "models" / "cases" / "nd-pr.toml").write_text(f"# Ours.\n{CASE}", encoding="utf-8")
    _, out, err = sepmodel("run", "nd-pr", "--json", "-", "--no-figures")
    json.loads(out)
    assert "stands in front of the shipped nd-pr.toml" in err


def test_copies_of_shipped_models_are_not_announced(sepmodel, tmp_path):
    """As in a checkout beside an installation."""
    for folder in ("cases", "feeds"):
        shutil.copytree(ROOT / "models" / folder, tmp_path / "models" / folder)
    code, _, err = sepmodel("run", "nd-pr", "--no-figures", "--quiet")
    assert code == 0
    assert "stands in front of" not in err


def test_bad_files_end_to_end_in_time_without_trace(tmp_path):
    bad = {
        "garbage": os.urandom(10_000_000),
        "nested": b"x = " + b"[" * 1000 + b"]" * 1000,
        "power": CASE.replace("stages = 24", 'stages = 24\ntemperature = "10**10**10"').encode(),
    }
    for name, content in bad.items():
        (tmp_path / f"{name}.toml").write_bytes(content)
        before = listed(tmp_path)
        start = cpu_time()
        done = process("run", f"{name}.toml", cwd=tmp_path)
        assert cpu_time() - start < 2
        assert done.returncode == 2
        assert done.stdout == b""
        assert b"Traceback" not in done.stderr
        assert done.stderr.count(b"\n") == 1
        assert listed(tmp_path) == before


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "results").write_text("a file where the folder should be")
    done = process("run", "nd-pr", "--no-figures", cwd=tmp_path)
    assert done.returncode == 2
    assert b"cannot be written" in done.stderr
    assert listed(tmp_path) == ["results"]


def test_plain_terminal_and_closed_pipe(tmp_path):
    plain = {"PYTHONIOENCODING": "ascii", "TERM": "dumb"}
    done = process("run", "nd-pr", "--no-figures", cwd=tmp_path, env=plain)
    assert done.returncode == 0
    assert max(done.stdout) < 128
    shell = (
        f"{shlex.quote(sys.executable)} -m sepmodel sources | head -n 1; echo ${{PIPESTATUS[0]}}"
    )
    done = subprocess.run(
        ["bash", "-c", shell],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=60,
    )
    assert done.stdout.splitlines()[-1] == b"0"
    assert b"Broken" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_behind_stdout(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "sepmodel", "sources"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
        )
    assert done.returncode == 2
    assert b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr


def test_interrupt_is_130(tmp_path):
    code = (
        "import sepmodel.run, sepmodel.cli, time\n"
        "def wait(*a, **k):\n"
        "    print('started', flush=True)\n"
        "    time.sleep(30)\n"
        "import sys; sys.modules['sepmodel.run'].run = wait\n"
        "sepmodel.cli.main(['run', 'nd-pr'])\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout.readline() == b"started\n"
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert b"Traceback" not in err
    assert b"interrupted" in err
    assert listed(tmp_path) == []


def quickest(*words, cwd):
    """The least processor time of five runs."""
    times = []
    for _ in range(5):
        start = cpu_time()
        subprocess.run(
            [sys.executable, *words],
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=True,
            timeout=60,
        )
        times.append(cpu_time() - start)
    return min(times)


def test_help_and_import_are_fast(tmp_path):
    assert quickest("-m", "sepmodel", "--help", cwd=tmp_path) < 0.2
    assert quickest("-c", "import sepmodel", cwd=tmp_path) < 0.6


def test_a_short_command_builds_no_registry_of_units(tmp_path):
    short = "import sepmodel, sys; sepmodel.run('nd-pr'); assert 'pint' not in sys.modules"
    words = [sys.executable, "-c", short]
    subprocess.run(words, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)


def examples(command):
    text = (command.help or "").partition("Examples:")[2]
    return [line.strip() for line in text.splitlines() if line.strip().startswith("sepmodel ")]


@pytest.mark.parametrize("name", sorted(cli.app.commands))
def test_help_and_its_examples(sepmodel, tmp_path, name):
    command = cli.app.commands[name]
    code, out, _ = sepmodel(name, "--help")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    lines = examples(command)
    assert lines, "every command shows examples"
    # Draws and the shipped folders are tested elsewhere; the fewest are quick.
    quick = {"compare": ("--members", "16")}
    if name == "validate":
        root = tmp_path / "validation"
        shutil.copytree(ROOT / "validation" / "zzs16-binary", root / "zzs16-binary")
        quick[name] = ("--root", str(root))
    for line in lines:
        code, _, err = sepmodel(*shlex.split(line)[1:], *quick.get(name, ()))
        assert code == 0, err


def test_no_command_shows_the_help(sepmodel):
    code, out, _ = sepmodel()
    assert code == 0
    assert all(name in out for name in cli.app.commands)
    assert isinstance(cli.app, click.Group)
    assert files.MANIFEST not in out


HUGE = "9" * 4000


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("solvent = 4.4", f"solvent = {HUGE}", "mass_flow.solvent: not a finite number"),
        ("solvent = 4.4", "solvent = 0x" + "f" * 9000, "mass_flow.solvent: not a finite number"),
        ("schema = 1", "schema = true", "schema: not a version"),
        ("schema = 1", "schema = 1.0", "schema: not a version"),
        ("schema = 1", "schema = 0x" + "f" * 9000, "schema: not a version"),
        ('components = ["Nd", "Pr"]', 'components = "Nd"', "a list, in square brackets"),
        ('components = ["Nd", "Pr"]', "components = []", "components: empty"),
        ('"mass-flow"', '"mass-acton"', "model.equilibrium: unknown choice, did you mean mass-act"),
        ("stages = 24", 'stages = 24\ntemperature = "１２ K"', "not a number followed by a unit"),
        (
            "separation_factors/pc88a-hcl",
            "separation_factors/nope",
            "case.toml: model.set: no such data set",
        ),
    ],
)
def test_what_a_vandal_writes_into_a_case(sepmodel, tmp_path, old, new, said):
    assert old in CASE
    (tmp_path / "case.toml").write_text(CASE.replace(old, new, 1), encoding="utf-8")
    code, out, err = sepmodel("run", "case.toml", "--no-figures")
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1
    assert listed(tmp_path) == ["case.toml"]


@pytest.mark.parametrize(
    "words",
    [
        ["--json", "/proc/none.json"],
        ["--json", ""],
        ["--json", "a\0b"],
        ["--json", "/dev/full"],
        ["--json", "."],
        ["--json", "/dev/null", "--force"],
        ["--json", ".", "--force"],
        ["--out", "a\0b"],
        ["--out", ""],
    ],
)
def test_a_target_that_cannot_be_written_leaves_no_results(sepmodel, tmp_path, words):
    code, out, err = sepmodel("run", "nd-pr", "--no-figures", *words)
    assert (code, out) == (2, "")
    assert err
    assert listed(tmp_path) == []


def test_the_nearest_feasible_scrub_is_feasible_as_printed(sepmodel):
    for settings in (["mass_flow.scrub=9"], ["mass_flow.scrub=1"], ["mass_flow.solvent=0.6"]):
        words = [word for setting in settings for word in ("--set", setting)]
        code, _, err = sepmodel("run", "nd-pr", *words, "--no-figures")
        assert code == 3
        assert "scrub above -" not in err
        nearest = err.rpartition("nearest feasible: scrub ")[2].strip()
        words += ["--set", f"mass_flow.scrub={nearest}"]
        assert sepmodel("run", "nd-pr", *words, "--quiet", "--no-figures")[0] == 0
