"""What this installation holds: sources, kinds of cases, starters, and whether it is sound."""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sepmodel import __version__, data, run
from sepmodel.errors import InputError, Problem, SepmodelError

_DEPENDENCIES = ("numpy", "scipy", "pint", "matplotlib", "pydantic", "rich", "click", "jinja2")
_EXTRAS = ("pandas", "pyarrow", "xlsxwriter", "SALib", "dask", "distributed", "cantera")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def every_source() -> list[dict[str, Any]]:
    """All sources, each with the keys of the constants that come from it."""
    numbers: dict[str, list[str]] = {}
    for constant in _constants():
        numbers.setdefault(constant.source, []).append(constant.key)
    return [
        {"key": key, "citation": entry.citation, "doi": entry.doi, "numbers": numbers.get(key, [])}
        for key, entry in sorted(data.sources().items())
    ]


def source(key: str) -> dict[str, Any]:
    """One source with everything that is known of it and of the constants that come from it.

    >>> source("prohaska2022")["doi"]
    '10.1515/pac-2019-0603'
    """
    known = data.sources()
    if key not in known:
        raise InputError(_unknown("source", key, known))
    entry = known[key]
    constants = [c for c in _constants() if c.source == key]
    return {
        "key": key,
        "citation": entry.citation,
        "doi": entry.doi,
        "licence": entry.licence,
        "notice": entry.notice,
        "read": entry.read,
        "numbers": [c.key for c in constants],
        "constants": [
            {
                "key": c.key,
                "value": c.value,
                "unit": c.unit,
                "class": c.provenance,
                "locator": c.locator,
                "conditions": c.conditions,
            }
            for c in constants
        ],
    }


def behind(case: str, key: str | None = None) -> list[dict[str, Any]]:
    """The sources a case rests on, with the numbers it takes from each; the case is solved."""
    known = data.sources()
    entries = [
        {**entry, "citation": known[entry["key"]].citation, "doi": known[entry["key"]].doi}
        for entry in run.run(case).sources
        if key in (None, entry["key"])
    ]
    if key is not None and not entries:
        raise InputError(
            Problem(message=f"{case} takes no number from", value=key, expected="another source")
        )
    return entries


def _constants() -> list[data.Constant]:
    return [c for set_id in data.set_ids() for c in data.load_set(set_id).values()]


def _unknown(what: str, name: str, known: Mapping[str, Any]) -> Problem:
    import difflib

    near = difflib.get_close_matches(name[:60], known, n=3)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    return Problem(message=f"no such {what}", value=name, expected=f"{hint}{_some(known)}")


def _some(known: Mapping[str, Any]) -> str:
    names = list(known)
    return f"one of {', '.join(names[:12])}{' ...' if len(names) > 12 else ''}"


def kind(name: str) -> run.Kind:
    """A kind of case by name; InputError with the known ones otherwise."""
    if name not in run.KINDS:
        raise InputError(_unknown("kind of case", name, run.KINDS))
    return run.KINDS[name]()


def command_of(name: str) -> str:
    """The command that takes a case of this kind."""
    return kind(name).command


def schema(name: str) -> dict[str, Any]:
    """JSON schema of a kind of case file."""
    document = kind(name).model.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **document}


def write_starter(name: str, case_name: str) -> Path:
    """Write the commented starter case of a kind to ``<case_name>.toml`` in the current folder.

    Raises
    ------
    InputError
        when the kind is unknown, the name cannot be used, or the file exists.
    """
    kind(name)
    template = data.models_dir() / "starters" / f"{name}.toml"
    path = Path(f"{case_name}.toml")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_+-]{0,63}", case_name):
        raise InputError(
            Problem(message="not a usable name", value=case_name, expected="letters, digits, - + _")
        )
    if not template.is_file():
        raise InputError(Problem(message="there is no starter for this kind", value=name))
    text = template.read_text(encoding="utf-8")
    text = re.sub(r'(?m)^name = ".*?"', f'name = "{case_name}"', text, count=1)
    try:
        with path.open("x", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
    except FileExistsError:
        raise InputError(
            Problem(message="exists already", file=str(path), expected="another name")
        ) from None
    except OSError as error:
        raise InputError(
            Problem(message=f"cannot be written: {error.strerror}", file=str(path))
        ) from None
    return path


def examine() -> list[tuple[str, str, str]]:
    """What a bug report needs: (what, found, "ok" | "note" | "wrong") for each check."""
    found = [
        ("sepmodel", f"{__version__} in {Path(__file__).parent}", "ok"),
        ("python", f"{platform.python_version()} in {sys.executable}", "ok"),
        ("system", platform.platform(), "ok"),
        ("processors", str(os.cpu_count()), "ok"),
    ]
    return [*found, *_packages(), *_models(), *_surroundings(), _self_check()]


def _packages() -> list[tuple[str, str, str]]:
    from importlib import metadata

    rows = []
    for name in (*_DEPENDENCIES, *_EXTRAS):
        try:
            rows.append((name, metadata.version(name), "ok"))
        except metadata.PackageNotFoundError:
            if name in _DEPENDENCIES:
                rows.append((name, "missing", "wrong"))
    return rows


def _models() -> list[tuple[str, str, str]]:
    from sepmodel.case import shadowed

    try:
        rows = [("models", str(data.models_dir()), "ok")]
        count = len(_constants())
        rows.append(("data", f"{count} constants in {len(data.set_ids())} sets", "ok"))
    except InputError as error:
        return [("models", str(error), "wrong")]
    hidden = shadowed()
    if len(data.roots()) > 1:
        rows.append(("own models", f"{data.roots()[0]}, {len(hidden)} shadow ours", "note"))
    return rows


def _surroundings() -> list[tuple[str, str, str]]:
    threads = {name: os.environ[name] for name in _THREADS if name in os.environ}
    said = ", ".join(f"{k}={v}" for k, v in threads.items()) or "not limited by the environment"
    rows = [("BLAS", f"{_blas()}; threads {said}", "ok")]
    try:
        with tempfile.TemporaryFile(dir=Path.cwd()):
            rows.append(("current folder", f"{Path.cwd()} can be written", "ok"))
    except OSError:
        rows.append(("current folder", "cannot be written; give --out", "note"))
    encoding = getattr(sys.stdout, "encoding", None) or "unknown"
    rows.append(("terminal", encoding, "ok" if "utf" in encoding.lower() else "note"))
    return rows


def _blas() -> str:
    import numpy as np

    settings: Any = np.show_config(mode="dicts")
    blas = settings.get("Build Dependencies", {}).get("blas", {})
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()


def _self_check() -> tuple[str, str, str]:
    """Solve the shipped binary cascade and compare with its published outlet."""
    started = time.perf_counter()
    try:
        result = run.run("nd-pr")
    except SepmodelError as error:
        return ("self-check", str(error), "wrong")
    seconds = time.perf_counter() - started
    worst = float(result.balance.get("max") or 0.0)
    return ("self-check", f"nd-pr solved in {seconds:.2f} s, closes to {worst:.0e}", "ok")
