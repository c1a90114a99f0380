"""What operations share: streams and duties as sums, specifications, outlets, warnings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sepmodel import units
from sepmodel.errors import InfeasibleError, InputError, Problem
from sepmodel.plant import equipment
from sepmodel.plant.flowsheet import CLOSURE_LIMIT, Context, liquor, reagent_ions
from sepmodel.products import Product, amounts
from sepmodel.species import CHARGES
from sepmodel.stream import Stream

# A separation is never asked for more than this recovery: beyond it lies nothing but stages.
HIGHEST_RECOVERY = 1 - 1e-3
# Recoveries and compositions are asked for in steps, so that rounding asks for no new design.
STEP = 1e-9
DIGITS = 10


def single_inlet(inlets: Mapping[str, Stream], unit: str) -> Stream:
    """The one stream of a unit with one inlet."""
    if len(inlets) != 1:
        raise InputError(
            Problem(message=f"{unit} takes one inlet", key="link", value=sorted(inlets))
        )
    return next(iter(inlets.values()))


def moles_of(stream: Stream) -> dict[str, float]:
    """Molar flows [mol/s] of a stream by name."""
    return {n: float(m) for n, m in zip(stream.names, stream.moles, strict=True)}


def add(*parts: Mapping[str, float]) -> dict[str, float]:
    """The sum of molar flows or duties.

    >>> add({"Na": 1.0}, {"Na": 2.0, "Cl": 1.0})
    {'Na': 3.0, 'Cl': 1.0}
    """
    total: dict[str, float] = {}
    for part in parts:
        for name, amount in part.items():
            total[name] = total.get(name, 0.0) + amount
    return total


def less(whole: Mapping[str, float], part: Mapping[str, float]) -> dict[str, float]:
    """``whole`` without ``part``."""
    return {name: amount - part.get(name, 0.0) for name, amount in whole.items()}


def neutralisation(acid: float) -> tuple[str, float]:
    """Reagent and moles that bring free acid [mol/s] to zero: base for acid, acid for alkali.

    >>> neutralisation(-2.0)
    ('HCl', 2.0)
    """
    return ("NaOH", acid) if acid >= 0 else ("HCl", -acid)


# Cost accounts are stated in American units; sizes are told in metric ones.
_METRIC = {
    "gallon": "m^3",
    "ft^3": "m^3",
    "ft^2": "m^2",
    "gallon/min": "m^3/hour",
    "ft^3/min": "m^3/hour",
    "horsepower": "kW",
    "MBTU/hour": "kW",
}


def sizes(*sized: equipment.Sized) -> tuple[dict[str, str], ...]:
    """One warning for all equipment of a unit whose cost is taken beyond its correlation."""
    outside = [
        f"{item.name} ({units.show(item.size, _METRIC.get(item.unit, item.unit), 2)})"
        for part in sized
        for item in part.items
        if item.extrapolated
    ]
    if not outside:
        return ()
    message = f"cost taken from beyond the sizes of its correlation: {', '.join(outside)}"
    return ({"code": "equipment-size", "message": message},)


def arrived(product: Product, fed: Mapping[str, float], arriving: Mapping[str, float]) -> float:
    """The share of a product's elements in the feed that arrives, on the basis of its purity."""
    before, here = (
        sum(amounts({e: m.get(e, 0.0) for e in product.elements}, product.purity_basis).values())
        for m in (fed, arriving)
    )
    return here / before


def within_reach(
    products: Sequence[Product], context: Context, arriving: Mapping[str, float]
) -> None:
    """InfeasibleError where more of a product is lost before a separation than may be at all."""
    for product in products:
        share = arrived(product, context.feed, arriving)
        if share < product.recovery:
            raise InfeasibleError(
                f"{product.name}: so much is lost before the separation that {share:.5f} of it "
                f"arrives; a recovery of {product.recovery:.4f} is demanded",
                limit={f"{product.name} recovery": product.recovery},
                nearest={f"{product.name} recovery": share},
            )


def sought(
    context: Context,
    elements: Sequence[str],
    arriving: Mapping[str, float],
    later: float,
    step: float = STEP,
) -> tuple[Product, ...]:
    """The products a separation is designed for, with the recovery that is left for it to reach.

    What is lost before (seen in ``arriving``, mol/s) and after it (``later``, a share) tightens
    the recovery: R = R_spec / (arrived share x (1 - later)), at most 0.999, in whole ``step``.
    """
    found = []
    for product in context.products:
        if elements and not set(product.elements) <= set(elements):
            continue
        share = arrived(product, context.feed, arriving)
        needed = product.recovery / (share * (1 - later)) if share > 0 else HIGHEST_RECOVERY
        found.append(
            Product(
                name=product.name,
                elements=product.elements,
                purity=product.purity,
                recovery=min(math.ceil(needed / step) * step, HIGHEST_RECOVERY),
                purity_basis=product.purity_basis,
                form=product.form,
                window=product.window,
            )
        )
    if not found:
        raise InputError(
            Problem(
                message="no product of the study is made of these elements",
                key="elements",
                value=list(elements),
            )
        )
    return tuple(found)


def composition(feed: Mapping[str, float], digits: int = DIGITS) -> tuple[tuple[str, float], ...]:
    """Mole shares of a feed, in a fixed order: designs are made per mole and scaled."""
    total = sum(feed.values())
    return tuple((n, float(f"{m / total:.{digits}g}")) for n, m in sorted(feed.items()))


def asked(products: Sequence[Product]) -> tuple[Any, ...]:
    """Specifications as something that can be looked up."""
    return tuple(
        (p.name, p.elements, p.purity, p.recovery, p.purity_basis, *sorted(p.window.items()))
        for p in products
    )


def scaled(moles: Mapping[str, float], factor: float) -> dict[str, float]:
    return {n: m * factor for n, m in moles.items()}


# What a precipitation reports of its own effluent is charged by the plant's effluent unit instead.
_EFFLUENT_DUTIES = ("CaO", "wastewater", "salt", "solid_waste")


def own_duties(duties: Mapping[str, float]) -> dict[str, float]:
    return {key: rate for key, rate in duties.items() if key not in _EFFLUENT_DUTIES}


def pooled(
    stream: Stream,
    pools: Mapping[str, Mapping[str, float]],
    reagents: Mapping[str, float],
    water: float,
    flows: Mapping[str, float],
    rest: str,
    acid: Mapping[str, float] | None = None,
) -> dict[str, Stream]:
    """Outlets of a separation: each pool's rare earths with the chloride that carries them.

    ``acid`` is the free acid [mol/s] of a pool. Everything else that came in or was bought leaves
    in the outlet named ``rest``, with the water that is left.
    """
    left = add(moles_of(stream), reagent_ions(reagents))
    left_flow = stream.flow + water
    outlets = {}
    for name, moles in pools.items():
        carried = {n: m for n, m in moles.items() if m > 0}
        charge = sum(CHARGES[n] * m for n, m in carried.items()) + (acid or {}).get(name, 0.0)
        pool = add(carried, {"Cl": charge})
        outlets[name] = liquor(pool, flows[name])
        left = less(left, pool)
        left_flow -= flows[name]
    short = {
        n: m for n, m in left.items() if m < 0 and -m > CLOSURE_LIMIT * sum(map(abs, left.values()))
    }
    if short or left_flow < -CLOSURE_LIMIT * stream.flow:
        raise InputError(
            Problem(
                message=f"a separation hands out more than it was given ({rest})",
                value={**short, "flow": left_flow},
                expected="reagents and water that cover the product liquors",
            )
        )
    outlets[rest] = liquor(left, max(left_flow, 0.0))
    return outlets
