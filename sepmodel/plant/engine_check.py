"""A separation of a route on the transport engine, beside the shortcut the route is designed with.

A column unit leaves a ``Check``: the question its design answered and the constants the answer
rests on. Nothing is computed for it; ``run_check`` makes the design again, runs it on the engine
and returns what both give.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sepmodel.data import Book
from sepmodel.errors import ConvergenceError, InfeasibleError
from sepmodel.products import Product

_DIGITS = 6


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Check:
    """What a separation was asked, in plain data.

    ``kind`` of separation; ``unit`` of the route; ``feed`` in mole shares; ``products`` asked of
    it, and of a group split ``each`` product that the groups have to bring; ``options`` of the
    design; ``constants`` it read, in strict SI; ``overrides`` those of the study that replace the
    data's.
    """

    kind: str
    unit: str
    feed: Mapping[str, float]
    products: tuple[Product, ...]
    options: Mapping[str, Any]
    constants: Mapping[str, float]
    overrides: Mapping[str, float]
    each: tuple[Product, ...] = ()

    def question(self) -> dict[str, Any]:
        """Everything the answer depends on but the program, to six digits."""

        def stated(products: tuple[Product, ...]) -> list[dict[str, Any]]:
            return [
                {k: _rounded(v) for k, v in asdict(p).items() if k not in ("form", "window")}
                for p in products
            ]

        return {
            "kind": self.kind,
            "feed": {e: _rounded(n) for e, n in self.feed.items()},
            "products": stated(self.products),
            **({"each": stated(self.each)} if self.each else {}),
            "options": {k: _rounded(v) for k, v in self.options.items()},
            "constants": {k: _rounded(v) for k, v in self.constants.items()},
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedProduct:
    """Purity and recovery of a product: asked of the separation, by its design, on the engine.

    A product that a group has to bring has no purity of its own there: zeros.
    """

    name: str
    purity_asked: float
    purity_design: float
    purity_engine: float
    recovery_asked: float
    recovery_design: float
    recovery_engine: float

    @property
    def short(self) -> bool:
        """Whether the engine gives less than was asked."""
        return self.purity_engine < self.purity_asked or self.recovery_engine < self.recovery_asked


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """The answer to a check.

    ``scheme`` of the engine, ``seconds`` of computing it took, ``failure`` why there are no
    ``products``; ``origin`` where the answer comes from ("run now", "kept", "shipped"), ``version``
    of the program that computed it.
    """

    unit: str
    products: tuple[CheckedProduct, ...]
    scheme: str = ""
    seconds: float = 0.0
    failure: str = ""
    origin: str = "run now"
    version: str = ""

    @property
    def difference(self) -> float:
        """The largest distance of engine and design in a purity or a recovery."""
        return max(
            (
                max(
                    abs(p.purity_engine - p.purity_design),
                    abs(p.recovery_engine - p.recovery_design),
                )
                for p in self.products
            ),
            default=math.nan,
        )

    @property
    def meets(self) -> bool:
        """Whether every product keeps on the engine what was asked of it."""
        return not self.failure and not any(p.short for p in self.products)


def _rounded(value: Any) -> Any:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def _displacement(check: Check, book: Book) -> tuple[Any, str]:
    """A displacement train: design, then every column on the moving grid."""
    from sepmodel.chromatography import displacement, displacement_engine

    design = displacement.design(dict(check.feed), check.products, book, **check.options)
    found = displacement_engine.confirm(design, check.feed, book)
    return found, found.runs[0].train.scheme


def _protein(check: Check, book: Book) -> tuple[Any, str]:
    """Lanmodulin columns: design by stages that carry protons, then every column on transport."""
    from sepmodel.chromatography import affinity, protein_engine

    design = affinity.design(
        dict(check.feed), check.products, book, each=check.each, **check.options
    )
    found = protein_engine.confirm(design, check.feed, book, protein=str(check.options["protein"]))
    return found, found.columns[0].run.scheme


# How each kind of separation is designed and run: an object with ``purity`` and ``recovery`` of
# every product as (engine, design), and the name of the scheme.
ENGINES: dict[str, Callable[[Check, Book], tuple[Any, str]]] = {
    "displacement": _displacement,
    "protein": _protein,
}


def run_check(check: Check) -> Checked:
    """The design of a check and the same on the engine; what cannot be run says why.

    Some seconds to half a minute of one core.
    """
    from sepmodel import __version__

    started = time.process_time()
    book = Book(overrides=dict(check.overrides))
    try:
        found, scheme = ENGINES[check.kind](check, book)
    except (InfeasibleError, ConvergenceError) as error:
        return Checked(unit=check.unit, products=(), failure=str(error), version=__version__)
    return Checked(
        unit=check.unit,
        products=tuple(
            CheckedProduct(
                name=p.name,
                purity_asked=p.purity,
                purity_design=found.purity[p.name][1],
                purity_engine=found.purity[p.name][0],
                recovery_asked=p.recovery,
                recovery_design=found.recovery[p.name][1],
                recovery_engine=found.recovery[p.name][0],
            )
            for p in check.products
        )
        + tuple(
            CheckedProduct(
                name=p.name,
                purity_asked=0.0,
                purity_design=0.0,
                purity_engine=0.0,
                recovery_asked=p.recovery,
                recovery_design=found.brought[p.name][1],
                recovery_engine=found.brought[p.name][0],
            )
            for p in check.each
        ),
        scheme=scheme,
        seconds=time.process_time() - started,
        version=__version__,
    )


def from_dict(document: Mapping[str, Any], **changes: Any) -> Checked:
    """The answer a document (``dataclasses.asdict``) holds.

    Raises
    ------
    KeyError, TypeError
        where it does not hold one.
    """
    products = tuple(CheckedProduct(**entry) for entry in document["products"])
    return Checked(**{**document, "products": products, **changes})
