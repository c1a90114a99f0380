"""Pareto fronts of a design as text and CSV."""

from __future__ import annotations

from collections.abc import Sequence

from sepmodel import units
from sepmodel.extraction.design_pareto import Fronts, Member
from sepmodel.files import csv_text
from sepmodel.report import purity


def lines(fronts: Fronts) -> list[str]:
    """Both fronts as tables of at most 80 columns."""
    out = ["Stages against reagents, at the specification", *_table(fronts.reagents), ""]
    out += ["Purity against lock-up, each circuit of least lock-up", *_table(fronts.purity)]
    if fronts.beyond:
        tightest = max(fronts.beyond)
        out.append(f"no circuit within the stages allowed at {tightest:g} times what is foreign")
    return out


def _table(members: Sequence[Member]) -> list[str]:
    out = [f"{'purity, %':>12}{'n':>6}{'m':>6}{'n + m':>8}{'base, mol/h':>14}{'held, mol':>14}"]
    for m in members:
        base = units.significant(m.base / units.factor("mol/h"))
        out.append(
            f"{purity(m.purity):>12}{m.stages_extraction:>6}{m.stages_scrub:>6}{m.stages:>8}"
            f"{base:>14}{units.significant(m.lock_up):>14}"
        )
    return out


def table(fronts: Fronts) -> str:
    """Both fronts as one CSV file."""
    header = ["front", "foreign over allowed", "purity", "n", "m"]
    header += ["solvent [mol/mol feed]", "base [mol/s]", "lock-up [mol]"]
    rows = [
        [
            name,
            m.loosened,
            m.purity,
            m.stages_extraction,
            m.stages_scrub,
            m.solvent,
            m.base,
            m.lock_up,
        ]
        for name, members in (
            ("stages against reagents", fronts.reagents),
            ("purity against lock-up", fronts.purity),
        )
        for m in members
    ]
    return csv_text(header, rows)
