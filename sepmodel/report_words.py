"""What a comparison says, in words: figures, names of constants, headlines and details."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from sepmodel import report_engine, units
from sepmodel.data import Constant
from sepmodel.plant import compare
from sepmodel.plant.compare import METRICS, Comparison, RouteResult, cautions

# Words of the page; docs/glossary.md has them and more.
WORDS = {
    "base": "every constant at its stated value",
    "draw": "a plant computed with all constants taken at once from their ranges",
    "decided": "a ranking that holds in 95 of 100 draws",
    "estimate": "a constant without a published measurement: practice as remembered, or a choice",
    "train": "one line of equipment; a plant has rate / train of them",
    "stage": "one mixer-settler: both phases mixed, then parted",
    "circuit": "extraction, scrub and strip on one solvent that goes round, for one cut",
    "3 S": "the usual estimate of acid and base: three moles for each mole of rare earth the "
    "solvent carries",
    "loading": "rare earth in the solvent; stoichiometric is one for six extractant molecules",
    "polishing": "a second technology that brings what the first leaves to the specification",
    "capital": "annuity on the plant; interest on rare earths, solvent, resin and beads held",
    "upkeep": "maintenance, insurance and property tax",
    "labour": "wages of the people on shift, all year",
    "overheads": "quality assurance, administration and plant overhead",
    "people on shift": "operators by the process sections of the route, with supervisors, "
    "mechanics, technicians and engineers",
    "process section": "what one crew runs: a circuit, the columns on one eluent, a precipitation "
    "with its filter, the effluent works",
    "spent liquor": "all liquors that leave the plant's units for the effluent works",
    "zero-liquid": "spent liquor is evaporated, its water used again and its salt landfilled",
    "CO2e": "greenhouse gases as the carbon dioxide of the same effect over 100 years",
    "separation duty": "share of a burden by what causes it: organic flux, column volume",
    "kappa": "how readily a protein takes two different metals, over two alike",
}
# Constants whose stated basis does not say by itself what they are.
_NAMES = {
    "economics/labour:staffing": "operators, over the rule by process sections",
    "economics/labour:support": "supervisors, mechanics, technicians per operator",
    "economics/labour:capacity_exponent": "growth of staff with plant size",
    "economics/labour:operators_cyclic": "operators for a set of columns",
    "economics/lang:scale": "installed over bare cost of equipment",
    "economics/finance:overhead": "plant overhead, share of fixed cost",
    "economics/finance:discount_rate": "discount rate",
    "economics/finance:plant_life": "life of the plant",
    "economics/finance:capacity_factor": "hours run over hours of the year",
    "economics/finance:maturity_sx": "capital of extraction, over the estimate",
    "economics/finance:maturity_displacement": "capital of displacement, over the estimate",
    "economics/finance:maturity_protein": "capital of protein columns, over the estimate",
    "equipment/correlations:box_coefficient": "cost of a mixer-settler of 1 m3",
    "equipment/sizing:zld_power": "power to evaporate brine",
    "extractants/pc88a:saponification": "share of the solvent saponified",
    "process/effluent:membrane_energy": "power of the membranes",
    "process/extraction:strip_acid": "strength of the strip acid",
    "process/extraction:handling_loss": "rare earths lost in handling, extraction",
    "process/iron-removal:rare_earth_loss": "rare earths lost with the iron",
    "process/iron-removal:heating": "heating of the iron removal",
    "proteins/lanmodulin-column:cycles": "cycles a bead lasts",
    "proteins/lanmodulin-column:bed-length": "length of a protein bed",
    "proteins/lanmodulin-column:strip-pH": "pH of the protein's strip",
    "proteins/lanmodulin-column:strip-volume": "strip of the protein columns, bed volumes",
    "proteins/lanmodulin-mex:capacity": "rare earth a bed of beads holds",
    "proteins/lanmodulin-mex:kappa": "kappa within light or heavy elements",
    "proteins/lanmodulin-mex:kappa-light-heavy": "kappa of a light with a heavy element",
    "resins/displacement-operation:load-most": "load of a column, over the most it resolves",
    "resins/displacement-operation:ligand-conc": "ligand in the displacer",
    "resins/displacement-operation:velocity": "velocity in the displacement columns",
    "resins/displacement-operation:rinse-volume": "rinse of the displacement columns",
    "resins/displacement-operation:handling-loss": "rare earths lost in handling, displacement",
    "resins/strong-acid-x8:rate": "speed of exchange in the resin",
    "solids/precipitation:oxalate.excess": "excess of oxalic acid",
    "solids/precipitation:firing_heat": "heat of drying and firing",
}
_LONGEST = 52


def number(value: float, digits: int = 3) -> str:
    """A figure for a table: three significant digits, no exponent where it can be avoided.

    >>> number(1234.5), number(0.0123), number(0.0), number(math.inf)
    ('1230', '0.0123', '0', '-')
    """
    if not math.isfinite(value):
        return "-"
    return units.significant(value, digits)


def purity(share: float) -> str:
    """A purity in percent, with as many digits as it takes not to call it 100.

    >>> purity(0.9952), purity(0.99999), purity(1.0)
    ('99.52', '99.999', '100.00')
    """
    for digits in range(2, 9):
        text = f"{100 * share:.{digits}f}"
        if not text.startswith("100"):
            return text
    return f"{100 * share:.2f}"


def percent(share: float) -> str:
    """A share in percent, never rounded to all or nothing.

    >>> percent(0.954), percent(0.9999), percent(1.0)
    ('95', '>99', '100')
    """
    if 0.99 < share < 1:
        return ">99"
    return "<1" if 0 < share < 0.01 else f"{100 * share:.0f}"


# Stands behind a range; what it means stands below the table.
OUTSIDE = "*"
OUTSIDE_MEANS = f"{OUTSIDE} the base lies outside 5 to 95 % of its draws"


def spread(result: RouteResult, metric: str) -> str:
    """The range of a figure, marked where the base lies outside it; "" without any."""
    span, unit = result.ranges.get(metric), METRICS[metric].unit
    if span is None or span.low == span.high:
        return ""
    ends = " to ".join(number(units.to(end, unit), 2) for end in (span.low, span.high))
    return ends if span.holds_base else ends + OUTSIDE


def middle(result: RouteResult, metric: str) -> tuple[str, ...]:
    """Mean, its standard error and median of a figure's draws; none without draws."""
    span, unit = result.ranges.get(metric), METRICS[metric].unit
    if span is None:
        return ()
    error = number(units.to(span.error, unit), 2)
    return number(units.to(span.mean, unit)), error, number(units.to(span.median, unit))


def met(result: RouteResult, unit: str = "") -> str:
    """The share of draws that meet, in percent, with its 95 % interval."""
    if result.met is None:
        return "-"
    ends = " to ".join(percent(end) for end in result.met_between or ())
    return f"{percent(result.met)}{unit} ({ends})"


def kept(comparison: Comparison) -> str:
    """That plants stand as they were designed, where they are run at other constants."""
    count = len(comparison.as_built)
    if not count:
        return ""
    return (
        f"Plants designed at the stated constants and run as built at {count} other ones: "
        "stages and columns stand. Ranges not computed."
    )


def pretty(unit: str) -> str:
    """A unit as readers write it.

    >>> pretty("USD2025/kg_REO"), pretty("1")
    ('USD/kg', '')
    """
    if unit == "1":
        return ""
    if unit == "USD2025*year/kg_REO":
        return "USD per kg/year"
    return unit.replace("USD2025", "USD").replace("_REO", "").replace("percent", "%")


def readable(key: str, constant: Constant | None = None) -> str:
    """The key of a constant in words; what is not named here is told by its stated basis.

    >>> readable("prices/reagents-us-2025:HCl"), readable("separation_factors/pc88a-hcl:Pr/Ce")
    ('price of HCl', 'separation factor Pr/Ce')
    >>> readable("proteins/lanmodulin-mex:K-ratio-Tb")
    "protein's preference of Nd over Tb"
    """
    set_id, _, name = key.partition(":")
    folder, _, last = set_id.partition("/")
    plain = name.replace("_", " ").replace("-", " ")
    if key in _NAMES:
        return _NAMES[key]
    if folder == "prices":
        return f"price of {plain}"
    if set_id == "factors/grid":
        return f"CO2e of grid power, {plain}"
    if folder == "factors":
        return f"{'CO2e' if last == 'carbon' else last} of {plain}"
    if folder == "separation_factors":
        return f"separation factor {name}"
    if folder == "feeds":
        return f"feed: {plain}"
    if found := re.fullmatch(r"K-ratio-(\w+)", name):
        return f"protein's preference of Nd over {found[1]}"
    if found := re.fullmatch(r"log-K-(\w+)", name):
        return f"stability of {found[1]} with {last.upper()}"
    basis = re.split(r"[;:,(=]", constant.basis)[0].strip() if constant else ""
    if basis and " " in basis and len(basis) <= _LONGEST and basis[0].isalpha():
        return basis
    return f"{(last or folder).replace('-', ' ')}: {plain}"


def short(comparison: Comparison) -> dict[str, str]:
    """Names of the routes for sentences: titles up to the comma, where that tells them apart."""
    titles = {r.route.name: r.route.title for r in comparison.routes}
    brief = {name: title.partition(",")[0] for name, title in titles.items()}
    return brief if len(set(brief.values())) == len(brief) else titles


def listed(words: Sequence[str]) -> str:
    """Words as a list in a sentence.

    >>> listed(["a", "b", "c"]), listed(["a"])
    ('a, b and c', 'a')
    """
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else ""


def headlines(comparison: Comparison) -> list[str]:
    """What the comparison says, in a handful of sentences."""
    return [
        *_who_meets(comparison),
        *report_engine.shortfalls(comparison),
        *_who_leads(comparison),
        *_cautions(comparison),
        *_estimates(comparison),
    ]


def details(comparison: Comparison) -> list[str]:
    """What stands behind the headlines, in sentences."""
    return [
        *report_engine.sentences(comparison),
        *_fragile(comparison),
        *_base_outside(comparison),
        *_by_mass_action(comparison),
        *_polishing(comparison),
        *_doubts(comparison),
    ]


def _who_meets(comparison: Comparison) -> list[str]:
    names = short(comparison)
    said = []
    fit = [names[r.route.name] for r in comparison.routes if r.status == "meets"]
    drawn = [
        f"{names[r.route.name]} in {met(r, ' %')}" for r in comparison.routes if r.met is not None
    ]
    but = f"; with drawn constants {listed(drawn)} of draws" if drawn else ""
    at = "these constants" if comparison.as_built else "the base"
    refuted = report_engine.refuted(comparison)
    by = " by the models it is designed with" if refuted else ""
    if len(fit) == len(comparison.routes):
        said.append(f"Every route meets every specification at {at}{by}{but}.")
    elif fit:
        said.append(f"At {at} these meet every specification: {listed(fit)}{but}.")
    for result in comparison.routes:
        name = names[result.route.name]
        if result.status == "infeasible":
            said.append(f"{name} could not be designed: {result.reasons[0]}.")
        elif result.status == "FAILS":
            said.append(f"{name} FAILS: {'; '.join(result.reasons)}.")
    return said


def _who_leads(comparison: Comparison) -> list[str]:
    """Rankings in words, those of the same order and certainty in one sentence, with the size."""
    names = short(comparison)
    alike: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for metric, meta in METRICS.items():
        if not meta.ranked:
            continue
        ranks = compare.ranking(comparison, metric)
        if len(ranks["order"]) < 2:
            continue
        few = {
            (p.first, p.second): (round((p.both or 0.0) * p.draws), p.draws)
            for p in comparison.pairs
            if p.metric == metric and not math.isfinite(p.high)
        }
        undecided = [f"{names[a]} and {names[b]}" for a, b in ranks["undecided"]]
        if not comparison.with_ranges:
            verdict = "ranges not computed"
        elif few:
            number_of, draws = min(few.values())
            verdict = (
                f"too few draws, down to {number_of} of {draws}, in which both routes of a pair "
                "work, to say how sure that is"
            )
        elif undecided:
            verdict = f"undecided between {'; '.join(undecided)}"
        else:
            verdict = "decided"
        alike.setdefault((tuple(ranks["order"]), verdict), []).append(metric)
    found = []
    for (order, verdict), metrics in alike.items():
        if verdict == "decided":
            verdict = _odds(comparison, metrics)
        labels = listed([METRICS[m].label for m in metrics])
        found.append(f"Least {labels}: {', then '.join(names[n] for n in order)} ({verdict}).")
    if found:
        size = number(units.to(comparison.study.train_size, "t_REO/year"), 4)
        found.append(
            f"That is for one train of {size} t oxide a year; staff and smallest vessels weigh "
            "otherwise at other sizes (--set rate=... --set train=...)."
        )
    return found


def _odds(comparison: Comparison, metrics: Iterable[str]) -> str:
    """How sure decided rankings are."""
    metrics = tuple(metrics)
    # The share of draws in which the two lie as they do at the base.
    odds = [
        p.probability if p.ratio < 1 else 1 - p.probability
        for p in comparison.pairs
        if p.metric in metrics and p.probability is not None
    ]
    if not odds:
        return "nothing to compare with"
    least = min(odds)
    share = "all" if least == 1 else f"{100 * least:.1f} % or more"
    return f"so in {share} of the draws in which both work; model errors are not in them"


def _cautions(comparison: Comparison) -> list[str]:
    """Loading beyond the data, and purities beyond practice."""
    names = short(comparison)
    said = []
    for result in comparison.routes:
        full = cautions.loading(result)
        if full is None or result.route.polish:
            continue
        values = sorted(full.loaded.values())
        span = " to ".join(dict.fromkeys(f"{100 * x:.0f}" for x in (values[0], values[-1])))
        said.append(
            f"{names[result.route.name]}: {len(values)} of {full.circuits} circuits load the "
            f"solvent to {span} % of stoichiometric; the data end at {100 * full.seen:.0f} %, and "
            "gels or a third phase are possible."
        )
    for warning in cautions.beyond_practice(comparison):
        said.append(f"{warning['where']}: {warning['message']} (purity-beyond-practice).")
    return said


def _estimates(comparison: Comparison) -> list[str]:
    """How far the figures rest on estimates, all routes in a sentence."""
    there = [r for r in comparison.routes if r.account]
    if not there:
        return []
    found = [compare.estimated(r) for r in there]
    counts = listed([f"{e['count']} of {e['of']}" for e in found])
    parts = [e["share_of_sensitivity"] for e in found]
    weight = ""
    if any(parts):
        shown = [f"{100 * p:.0f}" if p else "an unknown" for p in parts]
        weight = f"; they carry {listed(shown)} % of the spread of cost"
        left = [e["explained"] for e in found]
        shown = [f"{100 * (1 - x):.0f}" if x is not None else "an unknown" for x in left]
        weight += f", and {listed(shown)} % of it no constant carries by itself"
    order = ", in the order of the table" if len(there) > 1 else ""
    return [f"Estimates among the constants: {counts}{order}{weight}."]


def _fragile(comparison: Comparison) -> list[str]:
    """Which draws miss, why, and what they have in common."""
    said = []
    for result in comparison.routes:
        if result.met is None or result.as_built is None or result.told is None or result.met == 1:
            continue
        longer = result.met - result.as_built
        why = [f"{m.reason} ({percent(m.share)} %)" for m in result.misses[:2]]
        sides = [f"{readable(k, result.used.get(k))} {side}" for k, side in result.fragile[:3]]
        said.append(
            f"{result.route.title}: {met(result, ' %')} of {len(result.told.status)} draws "
            "meet every specification"
            + (f", {percent(longer)} % with more stages than the base" if longer > 0 else "")
            + (f". The others, such as: {'; '.join(why)}" if why else "")
            + (f". They have in common: {listed(sides)}" if sides else "")
            + "."
        )
    return said


def _base_outside(comparison: Comparison) -> list[str]:
    """Which figures of the base lie outside their own range, and why."""
    said = []
    for result in comparison.routes:
        outside = [
            METRICS[m].label
            for m, span in result.ranges.items()
            if m in METRICS and not span.holds_base
        ]
        if outside:
            said.append(
                f"{result.route.title}: the base lies outside 5 to 95 % of the draws in "
                f"{listed(outside)}, because the ranges behind it reach further to one side."
            )
    return said


def _polishing(comparison: Comparison) -> list[str]:
    said = []
    unit = METRICS["cost"].unit
    for result in comparison.routes:
        if not (result.route.polish and result.account):
            continue
        figures = result.account.metrics
        cost = number(units.to(figures["polishing"] * figures["cost"], unit), 2)
        beside = "".join(
            f" ({r.route.title} as a whole: {number(r.account.metrics['stages'])})"
            for r in comparison.routes
            if r.account and not r.route.polish and r.account.metrics["stages"] > 0
        )
        said.append(
            f"{result.route.title}: the polishing takes {number(figures['stages'])} extraction "
            f"stages{beside} and {cost} {pretty(unit)}, because {result.route.polish.why}."
        )
    return said


def _by_mass_action(comparison: Comparison) -> list[str]:
    """What the solved circuits of a train take beside the usual estimate."""
    said = []
    for result in comparison.routes:
        if result.sheet is None or result.route.polish:
            continue
        for unit in result.sheet.units.values():
            circuits = unit.result.circuits
            if not circuits or any(c.ph[0] != c.ph[0] for c in circuits):
                continue
            estimate = 3 * sum(c.solvent_3s for c in circuits)
            acid = sum(c.acid for c in circuits) / estimate
            base = sum(c.base for c in circuits) / estimate
            most = max(circuits, key=lambda c: c.acid / c.solvent_3s)
            stages = sum(sum(c.stages) for c in circuits)
            hardest = max(circuits, key=lambda c: sum(c.stages))
            said.append(
                f"{result.route.title}: {len(circuits)} circuits of {stages} stages beside those "
                f"that saponify and wash, most for {hardest.name} ({sum(hardest.stages)}); solved "
                f"by mass action they take {acid:.2f} times the acid and {base:.2f} times the base "
                f"of the estimate 3 S, most acid {most.name} "
                f"({most.acid / (3 * most.solvent_3s):.2f} times)."
            )
    return said


def _doubts(comparison: Comparison) -> list[str]:
    """The operators of every route, whose wages no route escapes."""
    said = []
    for r in comparison.routes:
        if not r.account:
            continue
        cost = compare.breakdown(r.account, "cost")
        share = (cost.get("labour", 0.0) + cost.get("overheads", 0.0)) / r.account.metrics["cost"]
        said.append(
            f"{r.route.title}: {r.account.metrics['people']:.0f} people on shift, by operators for "
            f"each process section; with overheads they are {100 * share:.0f} % of the cost."
        )
    return said
