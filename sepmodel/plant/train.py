"""Trains of extraction circuits: one feed, several products, the cuts between them.

Every pair of neighbouring groups (a product, or the by-products between two products) is parted by
one circuit; the train is the sequence in which the cuts are made. Each circuit is designed by
``extraction.design`` on the mass-flow model: acid and base follow from the organic flow S, one pass
each, and not from a dose per kilogram.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sepmodel import balance, products
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError, InputError, Problem
from sepmodel.extraction.design import CircuitDesign, Outlet, Weights, design_circuit
from sepmodel.plant import train_groups
from sepmodel.products import Product

Array = NDArray[np.float64]
FACTORS = "separation_factors/pc88a-hcl"
EXTRACTANT = "extractants/pc88a"
CIRCUIT = "extractants/circuit-defaults"
# Rounds in which allowances of a missed product are tightened.
_ROUNDS = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainCircuit:
    """One circuit of a train: its design, its reagents [mol/s] and its flows [m3/s].

    ``raffinate_to`` and ``organic_to`` name the outlet or the next circuit. Acid and base are one
    pass of each: 3 mol per mol of rare earth the organic carries. A circuit that is not
    ``stripped`` hands its loaded organic to the next one as it is.
    """

    name: str
    design: CircuitDesign
    raffinate_to: str
    organic_to: str
    acid: float
    base: float
    stages_strip: int
    flow_org: float
    flow_feed: float
    flow_scrub: float
    flow_strip: float
    flow_org_feed: float = 0.0
    stripped: bool = True

    @property
    def stages(self) -> int:
        """Extraction, scrub and strip stages."""
        return self.design.stages + self.stages_strip

    @property
    def flow_aq(self) -> float:
        """Aqueous flow of the extraction section [m3/s]: feed and spent scrub liquor."""
        return self.flow_feed + self.flow_scrub


@dataclass(frozen=True, kw_only=True, slots=True)
class Train:
    """A train of circuits in the order they run, and what leaves it [mol/s by element]."""

    feed: Mapping[str, float]
    products: tuple[Product, ...]
    circuits: tuple[TrainCircuit, ...]
    outlets: Mapping[str, Mapping[str, float]]
    purity: Mapping[str, float]
    recovery: Mapping[str, float]
    missed: Mapping[str, Mapping[str, tuple[float, float]]]
    closure: Mapping[str, float]
    warnings: tuple[Mapping[str, str], ...] = field(default=())

    @property
    def sequence(self) -> tuple[str, ...]:
        """Names of the cuts in the order they are made."""
        return tuple(circuit.name for circuit in self.circuits)

    @property
    def stages(self) -> int:
        """Extraction, scrub and strip stages of all circuits."""
        return sum(circuit.stages for circuit in self.circuits)

    @property
    def solvent(self) -> float:
        """Sum of the organic rare-earth flows S [mol/s]."""
        return sum(circuit.design.solvent for circuit in self.circuits)

    @property
    def acid(self) -> float:
        """Hydrochloric acid of all circuits [mol/s]."""
        return sum(circuit.acid for circuit in self.circuits)

    @property
    def base(self) -> float:
        """Base of all circuits [mol/s]."""
        return sum(circuit.base for circuit in self.circuits)

    @property
    def phi(self) -> float:
        """Sum of S (n + m) [mol/s]: proportional to the organic inventory."""
        return sum(circuit.design.phi for circuit in self.circuits)


def design_train(
    feed: Mapping[str, float],
    slate: Sequence[Product],
    book: Book,
    *,
    factor_set: str = FACTORS,
    extractant: str = EXTRACTANT,
    circuit: str = CIRCUIT,
    weights: Weights | Mapping[str, Weights] | None = None,
    sequence: Sequence[str] | None = None,
    linked: Collection[str] = (),
    exact: bool = True,
) -> Train:
    """The train that makes the products ``slate`` from ``feed``, each to its purity and recovery.

    Parameters
    ----------
    feed
        molar flow [mol/s] of each rare earth; other elements are removed before (refused here).
    slate
        products; the elements of each are neighbours in extractability among those fed.
    book
        gives the constants of ``factor_set``, ``extractant`` and ``circuit``.
    weights
        objective of each circuit and of the sequence, see ``Weights``; or of each circuit by the
        name of its cut, for a given ``sequence``.
    sequence
        cuts such as ``("Nd|Gd", "Tb|Dy", ...)`` in the order they are made; None: the one of
        least estimated objective.
    linked
        cuts whose circuit takes its feed as the loaded organic of the circuit before, which is
        then not stripped: their feed must come that way in the sequence.
    exact
        False: circuits as marched, their outlets at the specification itself, in half the time
        (see ``design_circuit``).

    Raises
    ------
    InfeasibleError
        when no train meets the specifications, with the product and what it reaches.

    >>> dy = Product(name="Dy", elements=("Dy",), purity=0.99, recovery=0.95)
    >>> train = design_train({"Nd": 9.0, "Dy": 1.0}, [dy], Book())
    >>> train.sequence, train.missed
    (('Nd|Dy',), {'Dy': {}})
    """
    common = weights if isinstance(weights, Weights) else Weights()
    each = weights if isinstance(weights, Mapping) else {}
    names, a = train_groups.ordered(feed, book, factor_set)
    moles = {name: float(feed[name]) for name in names}
    groups = train_groups.grouped(names, slate, moles)
    extractability = dict(zip(names, a.tolist(), strict=True))
    train_groups.require_different(groups, names, a)
    least = train_groups.least_solvents(groups, names, a, moles)
    order = train_groups.least_sequence(groups, names, a, moles, common, sequence, least)
    _require_organic_feeds(groups, order, linked)
    objective = {
        cut: each.get(train_groups.cut_name(groups, cut), common) for cut in range(1, len(groups))
    }
    effort = [
        least[0, cut, len(groups)] / train_groups.ln_beta(groups, names, a, cut)
        for cut in range(1, len(groups))
    ]
    tight = dict.fromkeys((p.name for p in slate), 1.0)
    for _ in range(_ROUNDS):
        allowed = train_groups.allowances(groups, moles, effort, tight)
        designs, outlets = _run(
            groups, order, moles, extractability, allowed, objective, exact, linked
        )
        missed = {p.name: products.shortfalls(p, outlets[p.name], moles) for p in slate}
        worst = {name for name, gaps in missed.items() if {"purity", "recovery"} & set(gaps)}
        if not worst:
            break
        tight.update({name: 0.5 * tight[name] for name in worst})
    else:
        name = sorted(worst)[0]
        raise InfeasibleError(
            f"no train of circuits brings {name} to its specification",
            limit={key: asked for key, (_, asked) in missed[name].items()},
            nearest={key: reached for key, (reached, _) in missed[name].items()},
        )
    circuits, warnings = _equip(designs, book, extractant, circuit)
    return Train(
        feed=moles,
        products=tuple(slate),
        circuits=circuits,
        outlets=outlets,
        purity={
            p.name: products.purity(outlets[p.name], p.elements, p.purity_basis) for p in slate
        },
        recovery={
            p.name: products.recovery(outlets[p.name], moles, p.elements, p.purity_basis)
            for p in slate
        },
        missed=missed,
        closure=balance.molar_closure([moles], list(outlets.values())),
        warnings=warnings,
    )


def _require_organic_feeds(
    groups: Sequence[train_groups.Group],
    order: Sequence[tuple[int, int, int]],
    linked: Collection[str],
) -> None:
    """Refuse a link to a circuit whose feed is not the organic of another."""
    heavy = {(cut, j) for _, cut, j in order}
    can = [train_groups.cut_name(groups, cut) for i, cut, j in order if (i, j) in heavy]
    wrong = sorted(set(linked) - set(can))
    if wrong:
        raise InputError(
            Problem(
                message="no circuit before it sends its organic there",
                key="linked",
                value=", ".join(wrong),
                expected=f"some of {', '.join(can)}" if can else "none in this sequence",
            )
        )


def _run(
    groups: Sequence[train_groups.Group],
    order: Sequence[tuple[int, int, int]],
    moles: Mapping[str, float],
    extractability: Mapping[str, float],
    allowed: Mapping[int, tuple[float, float]],
    weights: Mapping[int, Weights],
    exact: bool,
    linked: Collection[str],
) -> tuple[list[tuple[str, CircuitDesign, str, str]], dict[str, dict[str, float]]]:
    """Every circuit designed in turn, and what leaves the train."""
    streams: dict[tuple[int, int], dict[str, float]] = {(0, len(groups)): dict(moles)}
    cut_of = {(i, j): cut for i, cut, j in order}
    designs = []
    for i, cut, j in order:
        entering = streams.pop((i, j))
        light = [e for g in groups[:cut] for e in g.elements]
        down, up = allowed[cut]
        found = _circuit(
            tuple(entering.items()),
            tuple(extractability.items()),
            tuple(light),
            down,
            up,
            weights[cut],
            exact,
            "organic" if train_groups.cut_name(groups, cut) in linked else "aqueous",
        )
        streams[i, cut], streams[cut, j] = dict(found.raffinate), dict(found.organic)
        to = [
            train_groups.cut_name(groups, cut_of[piece])
            if piece in cut_of
            else groups[piece[0]].name
            for piece in ((i, cut), (cut, j))
        ]
        designs.append((train_groups.cut_name(groups, cut), found, to[0], to[1]))
    outlets = {group.name: streams[k, k + 1] for k, group in enumerate(groups)}
    return designs, outlets


@lru_cache(maxsize=1024)
def _circuit(
    entering: tuple[tuple[str, float], ...],
    extractability: tuple[tuple[str, float], ...],
    light: tuple[str, ...],
    down: float,
    up: float,
    weights: Weights,
    exact: bool,
    feed_phase: str,
) -> CircuitDesign:
    """``design_circuit``, kept: a train asks for the same circuit whenever only flows change."""
    return design_circuit(
        dict(entering),
        dict(extractability),
        light,
        raffinate=Outlet(foreign=down),
        organic=Outlet(foreign=up),
        weights=weights,
        exact=exact,
        feed_phase=feed_phase,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Practice:
    """How circuits are run: reagent per metal, loading [mol/m3], strengths [mol/m3], limits."""

    base: float
    acid: float
    loading: float
    most_loading: float
    stages_strip: int
    phase_ratio: tuple[float, float]
    feed: float
    scrub: float
    strip: float


def practice(book: Book, extractant: str = EXTRACTANT, circuit: str = CIRCUIT) -> Practice:
    """The practice of two data sets: an extractant's, and that of its circuits."""
    base = book[f"{extractant}:base_per_metal"]
    concentration = book[f"{extractant}:concentration"]
    return Practice(
        base=base,
        acid=book[f"{extractant}:acid_per_metal"],
        loading=concentration * book[f"{extractant}:saponification"] / base,
        most_loading=book[f"{extractant}:loading_limit"] * concentration,
        stages_strip=round(book[f"{circuit}:stages_strip"]),
        phase_ratio=(book[f"{circuit}:phase_ratio_low"], book[f"{circuit}:phase_ratio_high"]),
        feed=book[f"{circuit}:feed_concentration"],
        scrub=book[f"{circuit}:scrub_concentration"],
        strip=book[f"{circuit}:strip_concentration"],
    )


def equip(
    name: str,
    found: CircuitDesign,
    rules: Practice,
    *,
    raffinate_to: str = "",
    organic_to: str = "",
    stripped: bool = True,
) -> TrainCircuit:
    """Reagents and volume flows of a circuit.

    The fresh organic is saponified for S; acid scrubs W and strips what leaves with the organic.
    An organic feed brings its own organic into the scrub section.
    """
    fed = sum(found.feed.values())
    product = sum(found.organic.values()) if stripped else 0.0
    return TrainCircuit(
        name=name,
        design=found,
        raffinate_to=raffinate_to,
        organic_to=organic_to,
        acid=rules.acid * (found.scrub + product),
        base=rules.base * found.solvent,
        stages_strip=rules.stages_strip if stripped else 0,
        flow_org=found.solvent / rules.loading,
        flow_feed=0.0 if found.feed_phase == "organic" else fed / rules.feed,
        flow_org_feed=fed / rules.loading if found.feed_phase == "organic" else 0.0,
        flow_scrub=found.scrub / rules.scrub,
        flow_strip=product / rules.strip,
        stripped=stripped,
    )


def _equip(
    designs: Sequence[tuple[str, CircuitDesign, str, str]],
    book: Book,
    extractant: str,
    circuit: str,
) -> tuple[tuple[TrainCircuit, ...], tuple[Mapping[str, str], ...]]:
    """Every circuit with reagents and flows, and warnings where a limit is left."""
    rules = practice(book, extractant, circuit)
    warnings: list[Mapping[str, str]] = []

    def warn(code: str, message: str, where: str) -> None:
        warnings.append({"code": code, "message": message, "where": where})

    if rules.loading > rules.most_loading:
        warn(
            "loading-above-limit",
            f"{rules.loading:.0f} mol/m3 of rare earth asked of an organic that holds "
            f"{rules.most_loading:.0f}",
            extractant,
        )
    linked = {name for name, found, _, _ in designs if found.feed_phase == "organic"}
    circuits = []
    low, high = rules.phase_ratio
    for name, found, raffinate_to, organic_to in designs:
        equipped = equip(
            name,
            found,
            rules,
            raffinate_to=raffinate_to,
            organic_to=organic_to,
            stripped=organic_to not in linked,
        )
        scrubbed = equipped.flow_org + equipped.flow_org_feed
        for section, stages, organic, aqueous in (
            ("extraction", found.stages_extraction, equipped.flow_org, equipped.flow_aq),
            ("scrub", found.stages_scrub, scrubbed, equipped.flow_scrub),
        ):
            if not stages:
                continue
            ratio = organic / aqueous if aqueous > 0 else math.inf
            if not low <= ratio <= high:
                warn(
                    "phase-ratio",
                    f"organic to aqueous {ratio:.3g} in the {section} section, outside {low:g} to "
                    f"{high:g}: recycle one phase inside the stages",
                    name,
                )
        circuits.append(equipped)
    return tuple(circuits), tuple(warnings)
