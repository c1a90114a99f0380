"""Extraction circuits of a plant by mass action: stages from the mass-flow design, flows set anew.

The mass-flow model fixes the stages of a circuit and what may stray across its cut. Here the same
circuit stands with its chemistry: saponified organic, scrub and strip acid, closed organic loop.
Three flows are what an operator sets: the organic, the scrub acid and the strip acid. They are
solved for three things:

1. the product split: rare earth leaving with the strip liquor, by ``F1 = ln(P / P_asked)``;
2. the separation: strayed heavy in the raffinate and strayed light in the product against what the
   design allows, ``F2 = (ln h/h_allowed + ln l/l_allowed) / 2``;
3. the stripping: the least acid that leaves no more than an allowed residue on the organic, and a
   margin on it.

With F1 = F2 = 0 both ends meet the design. How the flows are found stands in ``circuit_search``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel.data import Book
from sepmodel.extraction import factors
from sepmodel.plant.train import TrainCircuit
from sepmodel.products import Product, shortfalls

Array = NDArray[np.float64]

SOAP = "extractants/soap"
COUNTER_ION = "Na"
# Dimers the counter-ion takes; circuits that are built already take one for one.
SOAP_DIMERS = f"{SOAP}:dimers-{COUNTER_ION}"
DEFAULTS = "extractants/circuit-defaults"
# Relative shortfall of a specification that is taken for rounding.
ROUNDING = 1e-6


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Chemistry:
    """Constants and strengths of the circuits of one train, SI.

    ``log_k`` ln K by element and of the counter-ion, ``level`` that of the element that sets the
    level; ``extractant`` formal [mol/m3]; acids [mol/m3]; ``residue`` share of the loaded rare
    earth left on the barren organic.
    """

    log_k: Mapping[str, float]
    level: float
    dimers: float
    extractant: float
    saponification: float
    feed_acid: float
    scrub_acid: float
    strip_acid: float
    residue: float
    acid_excess: float
    phase_ratio_high: float


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Task:
    """A circuit to run: what the mass-flow design says, and what really enters.

    ``feed`` [mol/s] and ``flow`` [m3/s] of its liquor with ``acid`` [mol/s] free; stages;
    ``solvent`` S and ``scrub`` W [mol/s] of the design; ``down, up`` [mol/s] heavy allowed in the
    raffinate and light in the product.
    """

    name: str
    light: tuple[str, ...]
    feed: Mapping[str, float]
    flow: float
    acid: float
    stages: tuple[int, int, int]
    solvent: float
    scrub: float
    down: float
    up: float


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Liquor:
    """A rare-earth liquor: ``moles`` [mol/s] by element, ``flow`` [m3/s], free ``acid`` [mol/s]."""

    moles: Mapping[str, float]
    flow: float
    acid: float

    @property
    def rounded(self) -> tuple[float, float]:
        """Flow and acid to ten digits, to be looked up by."""
        return float(f"{self.flow:.10g}"), float(f"{self.acid:.6g}")

    def scaled(self, factor: float) -> Liquor:
        """The same liquor, ``factor`` times as much."""
        return Liquor(
            moles={e: n * factor for e, n in self.moles.items()},
            flow=self.flow * factor,
            acid=self.acid * factor,
        )

    def misses(self, product: Product, fed: Mapping[str, float]) -> bool:
        """Whether it falls short of a product's specification, rounding apart."""
        return any(
            reached < demanded * (1 - ROUNDING)
            for what, (reached, demanded) in shortfalls(product, self.moles, fed).items()
            if what in ("purity", "recovery")
        )


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Start:
    """Where a neighbouring circuit was found: stages, logarithms of the flows, unknowns, elements
    that were unknowns."""

    stages: tuple[int, int, int]
    flows: Array
    u: Array
    names: tuple[str, ...] = ()


# Fields of ``Solved`` that grow with the feed.
EXTENSIVE = (
    "flow_org",
    "flow_feed",
    "flow_scrub",
    "flow_strip",
    "acid_scrub",
    "acid_strip",
    "base_soap",
    "base_feed",
    "solvent_3s",
    "scrub_3s",
    "raffinate_acid",
    "product_acid",
    "solvent",
    "acid_fed",
)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Solved:
    """A circuit that runs: flows [m3/s], reagents and outlets [mol/s], what it looks like inside.

    ``acid_scrub, acid_strip`` hydrochloric acid, ``base_soap`` taken up by the organic,
    ``base_feed`` to bring the liquor fed to its acidity; ``solvent_3s`` is the S of the mass-flow
    design (3 S is the estimate of acid and of base). ``held`` is rare earth [mol/m3] in the organic
    and the aqueous of extraction, scrub and strip. ``missed`` is what of the design's split is not
    reached: (heavy in the raffinate, light in the product) over what is allowed, 1 where met.
    """

    name: str
    raffinate_to: str
    organic_to: str
    stages: tuple[int, int, int]
    flow_org: float
    flow_feed: float
    flow_scrub: float
    flow_strip: float
    acid_scrub: float
    acid_strip: float
    base_soap: float
    base_feed: float
    solvent_3s: float
    scrub_3s: float
    feed: Mapping[str, float]
    raffinate: Mapping[str, float]
    product: Mapping[str, float]
    raffinate_acid: float
    product_acid: float
    solvent: float
    loading: float
    ph: tuple[float, float]
    recycle: tuple[str, float]
    held: tuple[tuple[float, float], ...]
    stages_3s: tuple[int, int, int] = (0, 0, 0)
    missed: tuple[float, float] = (1.0, 1.0)
    acid_fed: float = 0.0
    chemistry: Chemistry | None = field(default=None, repr=False)
    start: Start | None = field(default=None, repr=False)
    task: Task | None = field(default=None, repr=False)

    @property
    def raffinate_liquor(self) -> Liquor:
        """What leaves extraction: the liquor fed with the spent scrub."""
        return Liquor(
            moles=self.raffinate, flow=self.flow_feed + self.flow_scrub, acid=self.raffinate_acid
        )

    @property
    def product_liquor(self) -> Liquor:
        """What leaves the strip."""
        return Liquor(moles=self.product, flow=self.flow_strip, acid=self.product_acid)

    def scaled(self, factor: float) -> Solved:
        """The same circuit for ``factor`` times its feed."""
        changed: dict[str, Any] = {name: getattr(self, name) * factor for name in EXTENSIVE}
        for name in ("feed", "raffinate", "product"):
            changed[name] = {e: n * factor for e, n in getattr(self, name).items()}
        return replace(self, **changed)

    @property
    def acid(self) -> float:
        """Acid of scrub and strip [mol/s]."""
        return self.acid_scrub + self.acid_strip

    @property
    def base(self) -> float:
        """Base of saponification and of the liquor fed [mol/s]."""
        return self.base_soap + self.base_feed

    @property
    def ratios(self) -> tuple[tuple[str, float], ...]:
        """Organic to aqueous flow of extraction, scrub and strip."""
        return (
            ("extraction", self.flow_org / (self.flow_feed + self.flow_scrub)),
            ("scrub", self.flow_org / self.flow_scrub),
            ("strip", self.flow_org / self.flow_strip),
        )


def chemistry(
    elements: Sequence[str],
    book: Book,
    *,
    factor_set: str,
    constants: str,
    level: str,
    extractant: str,
    process: str,
) -> Chemistry:
    """The constants of a train: the level of one element, the others by separation factors.

    ln K_i = ln K_level + ln(a_i / a_level) with a from ``factor_set``, K_level from ``constants``.

    >>> found = chemistry(
    ...     ["Pr", "Nd"], Book(), factor_set="separation_factors/pc88a-hcl",
    ...     constants="extractants/li1987-pc88a-ideal", level="Nd",
    ...     extractant="extractants/pc88a", process="process/extraction")
    >>> round(math.exp(found.log_k["Nd"] - found.log_k["Pr"]), 6)
    1.4
    """
    names = [*elements, *([] if level in elements else [level])]
    a = dict(zip(names, factors.extractabilities(book, factor_set, names).tolist(), strict=True))
    ln10 = math.log(10)
    base = ln10 * book[f"{constants}:{level}"]
    log_k = {e: base + math.log(a[e] / a[level]) for e in elements}
    log_k[COUNTER_ION] = ln10 * book[f"{SOAP}:log-K-{COUNTER_ION}"]
    return Chemistry(
        log_k=log_k,
        level=base,
        dimers=book[SOAP_DIMERS],
        extractant=book[f"{extractant}:concentration"],
        saponification=book[f"{extractant}:saponification"],
        feed_acid=book[f"{process}:feed_acid"],
        scrub_acid=book[f"{process}:scrub_acid"],
        strip_acid=book[f"{process}:strip_acid"],
        residue=book[f"{process}:strip_residue"],
        acid_excess=book[f"{process}:acid_excess"],
        phase_ratio_high=book[f"{DEFAULTS}:phase_ratio_high"],
    )


def estimate(design: TrainCircuit, entering: Liquor) -> Solved:
    """A circuit as the mass-flow design has it: acid and base 3 S, flows at usual strengths."""
    d = design.design
    product = sum(d.organic.values())
    per = design.acid / d.solvent if d.solvent > 0 else 0.0
    return Solved(
        name=design.name,
        raffinate_to=design.raffinate_to,
        organic_to=design.organic_to,
        stages=(d.stages_extraction, d.stages_scrub, design.stages_strip),
        flow_org=design.flow_org,
        flow_feed=entering.flow,
        flow_scrub=design.flow_scrub,
        flow_strip=design.flow_strip,
        acid_scrub=per * d.scrub,
        acid_strip=design.acid - per * d.scrub,
        base_soap=design.base,
        base_feed=0.0,
        solvent_3s=d.solvent,
        scrub_3s=d.scrub,
        feed=entering.moles,
        raffinate=d.raffinate,
        product=d.organic,
        raffinate_acid=0.0,
        product_acid=0.0,
        solvent=d.solvent,
        loading=0.0,
        ph=(math.nan, math.nan),
        recycle=("", 0.0),
        held=(
            (d.solvent / design.flow_org, d.scrub / (entering.flow + design.flow_scrub)),
            (d.solvent / design.flow_org, d.scrub / design.flow_scrub),
            (d.solvent / design.flow_org, product / design.flow_strip),
        ),
    )
