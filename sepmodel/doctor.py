"""Is this installation sound? What a bug report needs."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sepmodel import __version__, case, data, provenance
from sepmodel.errors import InputError, SepmodelError
from sepmodel.processes import processors
from sepmodel.run import run

_DEPENDENCIES = ("numpy", "scipy", "pint", "matplotlib", "pydantic", "rich", "click", "jinja2")
_EXTRAS = ("pandas", "pyarrow", "xlsxwriter", "SALib", "dask", "distributed", "cantera")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_CHECK_CASE = "nd-pr"


def examine() -> list[tuple[str, str, str]]:
    """What a bug report needs: (what, found, "ok" | "note" | "wrong") for each check."""
    found = [
        ("sepmodel", f"{__version__} in {Path(__file__).parent}", "ok"),
        ("python", f"{platform.python_version()} in {sys.executable}", "ok"),
        ("system", platform.platform(), "ok"),
        ("processors", str(processors()), "ok"),
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
    try:
        rows = [("models", str(data.models_dir()), "ok")]
        count = len(provenance.all_constants())
        rows.append(("data", f"{count} constants in {len(data.set_ids())} sets", "ok"))
    except InputError as error:
        return [("models", str(error), "wrong")]
    hidden = case.shadowed()
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
    """Solve a shipped circuit and look at its balances."""
    started = time.perf_counter()
    try:
        result = run(_CHECK_CASE)
    except SepmodelError as error:
        return ("self-check", str(error), "wrong")
    seconds = time.perf_counter() - started
    worst = float(result.balance.get("max") or 0.0)
    return ("self-check", f"{_CHECK_CASE} solved in {seconds:.2f} s, closes to {worst:.0e}", "ok")
