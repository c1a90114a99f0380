"""Answers of the transport engine to the shipped studies, written to models/engine/answers.json.

python validation/benchmarks/engine_answers.py [STUDY...]: some minutes for all of them. To be run
when a study's question changes: its feed, its products, or a constant of its columns.
"""

from __future__ import annotations

import sys
from dataclasses import asdict

from sepmodel import compare, data, files
from sepmodel.plant.engine_check import run_check
from sepmodel.study import engine_answers


def main(names: list[str]) -> None:
    """Run every check of the studies and write the answers that none of them asks for out."""
    root = data.models_dir()
    studies = names or sorted(p.stem for p in (root / "studies").glob("*.toml"))
    before = engine_answers.shipped_answers()
    answers = dict(before) if names else {}
    for study in studies:
        for checks in engine_answers.checks(compare(study, ranges=False)).values():
            for check in checks:
                found = run_check(check)
                answers[engine_answers.key(check)] = asdict(found)
                print(f"{study} {check.kind} {found.seconds:.0f} s {found.difference:.2g}")
    text = files.json_text({"schema": 1, "answers": dict(sorted(answers.items()))})
    files.write_atomic(root / engine_answers.SHIPPED, text)


if __name__ == "__main__":
    main(sys.argv[1:])
