"""Published lanmodulin experiments on the transport engine, as functions of their conditions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel.chromatography import protein_case
from sepmodel.chromatography.inputs import ColumnCase
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError
from sepmodel.result import Result

Array = NDArray[np.float64]

# The published beds: 1 mL of agarose in a column of 5.6 mm, run at 0.5 mL/min.
_BED = {"length": "40 mm", "diameter": "5.6 mm"}
_FLOW = "0.5 mL/min"
# Fronts spread over some ten cells by the calibrated dispersion; twice as many move nothing here
# by 1 %.
_CELLS = 100


def _run(
    steps: list[dict[str, Any]], book: Book, protein: str, plates: int | None = None
) -> Result:
    """Steps of a column of the published size; each is a pool of its own."""
    case = ColumnCase.model_validate(
        {
            "schema": 1,
            "kind": "column",
            "name": "check",
            "model": {
                "transport": "dispersive",
                "binding": "pair-law",
                "set": f"proteins/{protein}",
            },
            "column": {**_BED, **({} if plates is None else {"plates": plates})},
            "step": [{"flow": _FLOW, **step} for step in steps],
            "numerics": {"scheme": "limited", "cells": _CELLS, "estimate": False},
            "pool": [{"product": f"p-{step['name']}", "steps": [step["name"]]} for step in steps],
        }
    )
    return protein_case.dispersive(case, book)


def breakthrough(
    element: str,
    conc: float,
    pH: float,
    level: float = 0.5,
    others: str = "",
    protein: str = "lanmodulin-mex",
    book: Book | None = None,
) -> float:
    """Bed volumes of a metal at ``conc`` [mol/m3] until it leaves at ``level`` of its feed.

    ``others`` names metals fed beside it, each at 5 mmol/L, such as "Ca Mg".

    >>> 26 < breakthrough("Nd", 0.2, 3.0) < 32
    True
    """
    book = book or Book()
    binds = f"proteins/{protein}:K-ratio-{element}" in book
    most = book[f"proteins/{protein}:capacity"] / conc if binds else 1.0
    feed = {element: f"{conc!r} mol/m^3", **dict.fromkeys(others.split(), "5 mol/m^3")}
    if not binds:
        feed["Nd"] = "0.2 mol/m^3"
    steps = [{"name": "load", "bed_volumes": 2 + 1.5 * most, "pH": pH, "composition": feed}]
    profile = _run(steps, book, protein).profiles["chromatogram"]
    values: Array = np.asarray(profile.values)[:, list(profile.axes["component"]).index(element)]
    above = np.flatnonzero(values >= level * conc)
    if not len(above):
        raise InfeasibleError(
            "the metal does not break through at this level",
            limit={"level": float(values.max() / conc)},
        )
    volumes = np.asarray(profile.axes["bed_volume"], dtype=float)
    i = int(above[0])
    return float(np.interp(level * conc, values[i - 1 : i + 1], volumes[i - 1 : i + 1]))


def elution_volume(
    element: str,
    pH: float,
    share: float,
    conc: float,
    load: float,
    protein: str = "lanmodulin-mex",
    book: Book | None = None,
) -> float:
    """Bed volumes of acid at ``pH`` until ``share`` of a metal loaded at pH 3 has left.

    ``load`` is over the capacity; two bed volumes of wash at pH 3 come between.
    """
    book = book or Book()
    fed = load * book[f"proteins/{protein}:capacity"] / conc
    steps = [
        {
            "name": "load",
            "bed_volumes": fed,
            "pH": 3.0,
            "composition": {element: f"{conc!r} mol/m^3"},
        },
        {"name": "wash", "bed_volumes": 2, "pH": 3.0},
        {"name": "elute", "bed_volumes": 60, "pH": pH},
    ]
    found = _run(steps, book, protein)
    profile = found.profiles["chromatogram"]
    volumes = np.asarray(profile.axes["bed_volume"], dtype=float) - fed - 2
    conc_out = np.asarray(profile.values)[:, 0]
    late = volumes >= 0
    passed = np.diff(volumes[late])
    left = np.append(0.0, np.cumsum(0.5 * (conc_out[late][1:] + conc_out[late][:-1]) * passed))
    total = fed * conc - float(found.streams["p-load"].recovery[element]) * fed * conc
    if left[-1] < share * total:
        raise InfeasibleError(
            "the metal does not leave at this pH", limit={"share": float(left[-1] / total)}
        )
    return float(np.interp(share * total, left, volumes[late]))


def two_step_yields(
    first: str,
    second: str,
    load: float,
    pH: float,
    purity: float,
    conc: float,
    plates: int | None = None,
    protein: str = "lanmodulin-mex",
    book: Book | None = None,
) -> tuple[float, float]:
    """Yields of two metals, fed one to one, in the best pool of each at a mole purity.

    Load at pH 3 to ``load`` of the capacity, wash, elution at ``pH``, strip at pH 1.5.
    """
    book = book or Book()
    fed = load * book[f"proteins/{protein}:capacity"] / conc
    half = f"{conc / 2!r} mol/m^3"
    steps = [
        {"name": "load", "bed_volumes": fed, "pH": 3.0, "composition": {first: half, second: half}},
        {"name": "wash", "bed_volumes": 2, "pH": 3.0},
        {"name": "elute", "bed_volumes": 10, "pH": pH},
        {"name": "strip", "bed_volumes": 4, "pH": 1.5},
    ]
    profile = _run(steps, book, protein, plates).profiles["yield"]
    row = list(profile.axes["purity"]).index(purity)
    found = np.asarray(profile.values)[row, :, 0]
    return float(found[0]), float(found[1])
