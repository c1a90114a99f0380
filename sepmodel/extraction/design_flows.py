"""What a design moves and holds: volume flows, reagents, phase ratios, hold-up, limits.

Rare-earth flows become volumes through the loading of the saponified solvent, one pass each:
loading = extractant * saponification / (base per metal). Nothing here decides; ``design_curve``
weighs what it says, ``explain`` tells it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sepmodel.data import Book
from sepmodel.errors import InfeasibleError, InputError, Problem
from sepmodel.extraction import limits
from sepmodel.extraction.design_inputs import DesignCase
from sepmodel.result import Warned
from sepmodel.units import to

LIMITS = "extractants/design-limits"
DEFAULTS = "extractants/circuit-defaults"
SIZING = "equipment/sizing"
PRICES = "prices/reagents-us-2025"
# Acid of the feed that would take less than this part of the base again is not worth a word.
WORTH_SAYING = 1e-2
FINANCE = "economics/finance"
PUREST = "process/specification:purity_most"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plant:
    """What stands around a circuit, strict SI: ``feed`` rare earth fed [mol/s] and its strength,
    ``loading`` rare earth a pass of the organic carries [mol/m3], strengths of the acids, and the
    reagents a mole takes. ``residence`` is the time both phases spend in a mixer, ``settling``
    in a settler. ``prices`` is empty unless costs are asked for. An organic feed
    (``feed_phase``) is solvent of the same kind, ``feed_conc`` what it carries.
    """

    feed: float
    feed_conc: float
    extractant: float
    saponification: float
    loading: float
    base_per_metal: float
    acid_per_metal: float
    scrub_acid: float
    strip_acid: float
    strip_stages: int
    strip_excess: float
    residence: float
    settling: float
    ratio_low: float
    ratio_high: float
    hard_low: float | None
    hard_high: float | None
    strip_limit: float
    gel: float
    loading_limit: float
    prices: Mapping[str, float]
    feed_phase: str = "aqueous"

    def flows(self, solvent: float, scrub: float, product: float) -> Flows:
        """Volume flows and reagents of rare-earth flows per mole of feed."""
        organic = self.feed * solvent / self.loading
        feed = self.feed / self.feed_conc
        scrub_acid = self.acid_per_metal * scrub * self.feed
        strip_acid = self.acid_per_metal * product * self.feed * self.strip_excess
        return Flows(
            organic=organic,
            feed=feed,
            scrub=scrub_acid / self.scrub_acid,
            strip=strip_acid / self.strip_acid,
            acid=scrub_acid + strip_acid,
            base=self.base_per_metal * solvent * self.feed,
            strip_liquor=self.strip_acid / (self.acid_per_metal * self.strip_excess),
            feed_phase=self.feed_phase,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Flows:
    """Volume flows [m3/s], reagents [mol/s] and the strength of the strip liquor [mol/m3].

    ``organic`` is the fresh solvent; an organic feed joins it at the feed stage and goes on with it
    through scrub and strip.
    """

    organic: float
    feed: float
    scrub: float
    strip: float
    acid: float
    base: float
    strip_liquor: float
    feed_phase: str = "aqueous"

    def phases(self, section: str) -> tuple[float, float]:
        """Organic and aqueous flow [m3/s] of a section, extraction below an organic feed's stage.

        >>> flows = Flows(organic=4.0, feed=1.0, scrub=2.0, strip=0.5, acid=0.0, base=0.0,
        ...               strip_liquor=0.0, feed_phase="organic")
        >>> flows.phases("extraction"), flows.phases("strip")
        ((4.0, 2.0), (5.0, 0.5))
        """
        from_aqueous = self.feed if self.feed_phase == "aqueous" else 0.0
        from_organic = self.feed if self.feed_phase == "organic" else 0.0
        return {
            "extraction": (self.organic, self.scrub + from_aqueous),
            "scrub": (self.organic + from_organic, self.scrub),
            "strip": (self.organic + from_organic, self.strip),
        }[section]

    def ratio(self, section: str) -> float:
        """Organic to aqueous flow of a section; infinite where no aqueous runs."""
        organic, aqueous = self.phases(section)
        return organic / aqueous if aqueous > 0 else math.inf

    def below(self, n: int) -> int:
        """Of n extraction stages those that carry the section's flows: an organic feed enters the
        last, whose organic is the scrub section's."""
        return n if self.feed_phase == "aqueous" else n - 1


def plant(case: DesignCase, book: Book) -> Plant:
    """What the case gives and, where it gives nothing, the data sets.

    Raises
    ------
    InfeasibleError
        when the solvent would gel, or the strip liquor be stronger than it can be.
    InputError
        for a feed, acid or solvent nobody can make.
    """
    chosen = case.organic.extractant_set
    organic_feed = case.feed.phase == "organic"
    strengths = (
        ("rare earths", "feed.concentration", None if organic_feed else case.feed.concentration),
        ("acid", "feed.acid", case.feed.acid),
        ("acid", "scrub.acid", case.scrub.acid),
        ("acid", "strip.acid", case.strip.acid),
        ("extractant", "organic.extractant", case.organic.extractant),
    )
    # A limit that refuses nothing is no evidence of the answer: a book of its own.
    problems = limits.impossible(
        [(kind, key, value) for kind, key, value in strengths if value is not None],
        book.with_values({}),
        chosen,
    )

    def given(value: float | None, key: str) -> float:
        return book[key] if value is None else value

    extractant = given(case.organic.extractant, f"{chosen}:concentration")
    loading_limit = book[f"{chosen}:loading_limit"] * extractant
    carried = case.feed.concentration or 0.0
    if organic_feed and carried > loading_limit:
        problems.append(
            Problem(
                message="an organic feed carries more rare earth than the solvent holds",
                key="feed.concentration",
                value=f"{to(carried, 'mol/L'):.4g} mol/L",
                expected=f"at most {to(loading_limit, 'mol/L'):.3g} mol/L, the loading limit",
            )
        )
    if problems:
        raise InputError(problems)
    soap = given(case.organic.saponification, f"{chosen}:saponification")
    base, acid = book[f"{chosen}:base_per_metal"], book[f"{chosen}:acid_per_metal"]
    loading = extractant * soap / base
    # An organic feed of unknown strength is loaded as the solvent of this circuit.
    concentration = (
        case.feed.concentration or loading
        if organic_feed
        else given(case.feed.concentration, f"{DEFAULTS}:feed_concentration")
    )
    flow = case.feed.flow
    feed = concentration * flow if flow is not None else 1.0
    excess = given(case.strip.excess, "process/extraction:acid_excess")
    strip_limit = given(case.limits.strip_liquor, f"{LIMITS}:strip_liquor")
    strip_acid = given(case.strip.acid, f"{LIMITS}:strip_acid")
    if case.strip.acid is None:
        strip_acid = min(strip_acid, strip_limit * acid * excess)
    gel = book[f"{chosen}:soap_limit"]
    if loading > loading_limit:
        raise InfeasibleError(
            f"loading: {soap:.3g} of the extractant as soap would carry {loading:.4g} mol/m3 "
            f"of rare earth, and it holds {loading_limit:.4g}",
            limit={"saponification": loading_limit * base / extractant},
            nearest={"saponification": loading_limit * base / extractant},
        )
    if soap > gel:
        raise InfeasibleError(
            f"gel: {soap:.3g} of the extractant as soap, the limit is {gel:.3g}",
            limit={"saponification": gel},
            nearest={"saponification": gel},
        )
    liquor = strip_acid / (acid * excess)
    if liquor > strip_limit:
        raise InfeasibleError(
            f"strip liquor: {liquor:.4g} mol/m3 of rare earth, the limit is {strip_limit:.4g}",
            limit={"strip acid mol/m3": strip_limit * acid * excess},
            nearest={"strip acid mol/m3": strip_limit * acid * excess},
        )
    prices: dict[str, float] = {}
    if case.objective.minimise == "operating-cost":
        for name in ("HCl", "NaOH", "extractant"):
            prices[name] = book[f"{PRICES}:{name}"]
        prices["interest"] = book[f"{FINANCE}:discount_rate"]
        prices["extractant_mass"] = book[f"{chosen}:molar_mass"]
    depth, flux = book[f"{SIZING}:settler_depth"], book[f"{SIZING}:settler_flux"]
    low, high = book[f"{DEFAULTS}:phase_ratio_low"], book[f"{DEFAULTS}:phase_ratio_high"]
    return Plant(
        feed=feed,
        feed_conc=concentration,
        extractant=extractant,
        saponification=soap,
        loading=loading,
        base_per_metal=base,
        acid_per_metal=acid,
        scrub_acid=given(case.scrub.acid, f"{LIMITS}:scrub_acid"),
        strip_acid=strip_acid,
        strip_stages=case.strip.stages or round(book[f"{DEFAULTS}:stages_strip"]),
        strip_excess=excess,
        residence=book[f"{SIZING}:mixer_residence"],
        settling=depth / flux,
        ratio_low=low if case.limits.phase_ratio_low is None else case.limits.phase_ratio_low,
        ratio_high=high if case.limits.phase_ratio_high is None else case.limits.phase_ratio_high,
        hard_low=case.limits.phase_ratio_low,
        hard_high=case.limits.phase_ratio_high,
        strip_limit=strip_limit,
        gel=gel,
        loading_limit=loading_limit,
        prices=prices,
        feed_phase=case.feed.phase,
    )


def beyond_practice(purities: Mapping[str, float], book: Book) -> list[Warned]:
    """Products asked purer than plants have shown: warnings ``purity-beyond-practice``."""
    # What a warning goes by is no evidence of the answer: a book of its own.
    most = book.with_values({})[PUREST]
    return [
        Warned(
            code="purity-beyond-practice",
            message=f"{100 * purity:.9g} % is asked; beyond {100 * most:.5g} % reagents, vessels "
            "and entrainment decide, which no model here holds",
            where=name,
        )
        for name, purity in purities.items()
        if purity > most
    ]


def feed_acid_unused(case: DesignCase, flows: Flows) -> list[Warned]:
    """What a design by separation factors leaves out: the free acid its feed brings.

    All of it takes base at most, feed flow times feed acid; equilibrium alone says how much does.
    """
    from sepmodel import units

    extra = flows.feed * case.feed.acid
    by_factors = case.model.equilibrium == "mass-flow" and case.feed.phase == "aqueous"
    if not by_factors or extra <= WORTH_SAYING * flows.base:
        return []
    hour, litre = units.factor("mol/h"), units.factor("mol/L")
    return [
        Warned(
            code="feed-acid-unused",
            message=f"a design by separation factors does not count the feed's "
            f"{case.feed.acid / litre:.3g} mol/L of free acid: it takes up to "
            f"{units.significant(extra / hour)} mol/h of base more than the "
            f"{units.significant(flows.base / hour)} said here; "
            'model.equilibrium = "mass-action" works out how much',
            where="feed.acid",
        )
    ]


def lock_up(plant: Plant, flows: Flows, solvent: float, scrub: float, n: int, m: int) -> float:
    """Rare earth [mol] held in the stages: what both phases carry, for as long as they stay.

    Both phases spend the mixer's residence in it; each fills half of the settler.
    """
    held = 0.0
    below = flows.below(n)
    fed = (1.0, 0.0) if flows.feed_phase == "aqueous" else (0.0, 1.0)
    for stages, section, organic, aqueous in (
        (below, "extraction", solvent, scrub + fed[0]),
        (n + m - below, "scrub", solvent + fed[1], scrub),
    ):
        oil, volume = flows.phases(section)
        mixed = plant.residence * (organic + aqueous)
        # A settler holds as much of each phase; the flux counts both together.
        half = 0.5 * plant.settling * (oil + volume)
        settled = half * (organic / oil + (aqueous / volume if volume > 0 else 0.0))
        held += stages * (mixed + settled) * plant.feed
    return held


def inventory(plant: Plant, flows: Flows, n: int, m: int) -> float:
    """Organic [m3] held in the extraction and scrub stages."""
    held = 0.0
    below = flows.below(n)
    for stages, section in ((below, "extraction"), (n + m - below, "scrub")):
        organic, aqueous = flows.phases(section)
        settled = 0.5 * plant.settling * (organic + aqueous)
        held += stages * (plant.residence * organic + settled)
    return held


def operating_cost(plant: Plant, flows: Flows, held: float) -> float:
    """Acid, base and interest on the solvent held [money of the prices per s]."""
    from sepmodel.species import molar_mass

    cost = flows.acid * molar_mass("HCl") * plant.prices["HCl"]
    cost += flows.base * molar_mass("NaOH") * plant.prices["NaOH"]
    solvent = held * plant.extractant * plant.prices["extractant_mass"]
    from sepmodel import units

    yearly = plant.prices["interest"] / units.factor("year")
    return cost + solvent * plant.prices["extractant"] * yearly
