"""sepmodel: rare-earth separation routes, with numbers that can be checked.

``load`` reads a case, ``run`` solves it, ``compare`` sets the routes of a study side by side; all
take a file, a name or the tables themselves. What cannot be used, met or solved raises a child of
``SepmodelError``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sepmodel.errors import (
    ConvergenceError,
    InfeasibleError,
    InputError,
    Problem,
    SepmodelError,
)
from sepmodel.run import LoadedCase, compare, design, load, run

if TYPE_CHECKING:
    from sepmodel.result import Result
    from sepmodel.study.fit import fit
    from sepmodel.study.sweep import sweep

__version__ = "0.1.0.dev0"

__all__ = [
    "ConvergenceError",
    "InfeasibleError",
    "InputError",
    "LoadedCase",
    "Problem",
    "Result",
    "SepmodelError",
    "__version__",
    "compare",
    "design",
    "fit",
    "load",
    "run",
    "sweep",
]

# Names that are imported when they are first used, and the module each lives in.
_LAZY = {"Result": "sepmodel.result", "fit": "sepmodel.study.fit", "sweep": "sepmodel.study.sweep"}


def __getattr__(name: str) -> Any:
    """The public name, imported now."""
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'sepmodel' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
