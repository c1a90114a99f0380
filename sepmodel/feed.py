"""Feeds: an assay from ``models/feeds`` as moles of each element, and the liquor it is leached to.

A feed file is a data set (``sepmodel.data``) of ``kind = "feed"``: its constants are the assay and
the leach assumptions, so every share has its source and its range, appears in the evidence of a
result, and can be overridden. Beside ``schema``, ``kind`` and ``title`` it says

* ``basis``: ``"oxide-share"`` (kg of oxide per kg of total rare-earth oxide; shares are normalised
  here, the file keeps them as published; impurities are what the *liquor* carries, in the same
  measure), ``"metal"`` (kg of element per kg of material) or ``"liquor"`` (concentrations);
* ``acid``: ``"HCl"``, ``"HNO3"`` or ``"H2SO4"``; ``oxides``: other oxide formulas than usual;
* ``confidence`` (high, medium, low), ``upstream`` (what happened before the liquor), ``notes``.

Constants named after an element are the assay. The others: ``liquor_pH``; unless the basis is
"liquor" also ``leach_recovery`` (share of each rare earth that arrives in the liquor),
``liquor_TREO`` (oxide per volume of liquor) and optionally ``grade`` (kg of rare-earth oxide, for
"metal" kg of the described material, per kg of what is delivered); for "metal"
``dissolved_<element>`` for each impurity. Further constants are allowed and stay unused here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from sepmodel import data, units
from sepmodel.data import Book
from sepmodel.errors import InputError, Problem
from sepmodel.fields import Component, Table, Text, validate
from sepmodel.species import (
    CHARGES,
    OXIDES,
    RARE_EARTHS,
    composition,
    molar_mass,
    oxide_mass_per_mole,
)
from sepmodel.stream import Stream

# The ion an acid leaves in the liquor.
ANIONS = {"HCl": "Cl", "HNO3": "NO3", "H2SO4": "SO4"}
_UNITS = {"oxide-share": ("1",), "metal": ("1",), "liquor": ("mol/m^3", "kg/m^3", "kg_REO/m^3")}
# How far published shares may be from closing before they are taken for a typing error.
_CLOSURE = 0.1
_STANDARD = 1000.0  # mol/m3, the standard state behind pH


class Header(Table):
    """What a feed file says of itself beside its constants."""

    kind: Literal["feed"]
    title: Text
    basis: Literal["oxide-share", "metal", "liquor"]
    acid: Literal["HCl", "HNO3", "H2SO4"] = "HCl"
    confidence: Literal["high", "medium", "low"] = "medium"
    oxides: dict[Component, Text] = {}
    upstream: Text = ""
    notes: Text = ""
    schema_version: Literal[1] = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Rate:
    """How much feed: ``value`` per second of ``per``: "TREO" [kg_REO/s], "material" [kg/s] or
    "liquor" [m3/s]."""

    value: float
    per: str


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Feed:
    """A feed in strict SI, ready to be scaled to any rate.

    ``moles`` [mol/kg_REO] is the amount of each element per kg of the feed's rare-earth oxide,
    ``arriving`` the share of it that reaches the liquor, ``treo`` [kg_REO/kg] the rare-earth oxide
    per kg of delivered material (None where the file gives no grade), ``liquor_treo`` [kg_REO/m3]
    the strength of the liquor.
    """

    id: str
    header: Header
    moles: Mapping[str, float]
    arriving: Mapping[str, float]
    treo: float | None
    liquor_treo: float
    pH: float

    def amounts(self, rate: Rate) -> dict[str, float]:
        """Molar flow [mol/s] of each element that arrives in the liquor at ``rate``."""
        oxide = self._oxide(rate)
        return {e: n * self.arriving[e] * oxide for e, n in self.moles.items()}

    def liquor(self, rate: Rate) -> Stream:
        """The leach liquor at ``rate``, with its acid and the anion that closes the charge.

        flow = (rare-earth oxide that arrives) / liquor_treo; [H] = 10^-pH mol/L.
        """
        moles = self.amounts(rate)
        flow = rate.value if rate.per == "liquor" else _oxide_mass(moles) / self.liquor_treo
        anion = ANIONS[self.header.acid]
        moles["H"] = moles.get("H", _STANDARD * 10.0**-self.pH * flow)
        charge = sum(CHARGES[name] * n for name, n in moles.items())
        closing = anion if charge > 0 else "H"
        moles[closing] = moles.get(closing, 0.0) + abs(charge / CHARGES[closing])
        return Stream(names=tuple(moles), moles=np.array(list(moles.values())), flow=flow)

    def _oxide(self, rate: Rate) -> float:
        """Rare-earth oxide fed [kg_REO/s] at ``rate``."""
        if rate.per == "TREO":
            return rate.value
        if rate.per == "liquor":
            arriving = {e: n * self.arriving[e] for e, n in self.moles.items()}
            return rate.value * self.liquor_treo / _oxide_mass(arriving)
        if self.treo is None:
            raise InputError(
                Problem(
                    message=f"the feed {self.id} gives no grade",
                    key="rate",
                    expected='a rate of its rare-earth oxide, such as "1000 t_REO/year"',
                )
            )
        return rate.value * self.treo


def feed_ids() -> tuple[str, ...]:
    """Names of the feeds on the shelf, the user's own included."""
    return tuple(i.removeprefix("feeds/") for i in data.set_ids() if i.startswith("feeds/"))


def parse_rate(text: str, *, file: str = "", key: str = "rate") -> Rate:
    """A rate from text: of rare-earth oxide, of delivered material, or of liquor.

    >>> parse_rate("1000 t_REO/year").per, parse_rate("2 t/h").per, parse_rate("3 m^3/h").per
    ('TREO', 'material', 'liquor')
    """
    expected = {"kg_REO/s": "TREO", "kg/s": "material", "m^3/s": "liquor"}
    for unit, per in expected.items():
        try:
            value = units.si(text, unit)
        except InputError:
            continue
        if value > 0:
            return Rate(value=value, per=per)
    raise InputError(
        Problem(
            message="not a rate of feed",
            file=file,
            key=key,
            value=text,
            expected='a positive rate such as "1000 t_REO/year", "5000 t/year" or "2 m^3/h"',
        )
    )


def read(name: str, book: Book) -> Feed:
    """The feed ``name`` (on the shelf, or the path of a file), its constants read through ``book``.

    Raises
    ------
    InputError
        listing everything wrong with the file: shares that do not close, a missing leach
        assumption, units of another kind than the basis.

    >>> feed = read("magnet-scrap", Book())
    >>> round(feed.treo, 3)
    0.325
    """
    set_id = name if name.endswith(".toml") else f"feeds/{name}"
    file = str(data.set_path(set_id))
    header = _header(set_id, file)
    known = book.names(set_id)
    assay = [n for n in known if n in CHARGES]
    _check(set_id, file, header, assay, known)
    values = {e: book[f"{set_id}:{e}"] for e in assay}
    mass = {e: _oxide_mass_per_mole(e, header) for e in assay if e in OXIDES}
    rare = [e for e in assay if e in RARE_EARTHS]
    if header.basis == "liquor":
        kinds = {e: _kind(set_id, e) for e in assay}
        moles = {e: _liquor_moles(v, e, kinds[e], mass) for e, v in values.items()}
        liquor_treo = _oxide_mass(moles)
        arriving, treo = dict.fromkeys(assay, 1.0), None
        moles = {e: n / liquor_treo for e, n in moles.items()}
    else:
        recovery = book[f"{set_id}:leach_recovery"]
        liquor_treo = book[f"{set_id}:liquor_TREO"]
        grade = book[f"{set_id}:grade"] if "grade" in known else None
        arriving = dict.fromkeys(assay, recovery)
        if header.basis == "oxide-share":
            total = sum(values[e] for e in rare)
            scale = {e: total if e in RARE_EARTHS else 1.0 for e in assay}
            moles = {e: v / scale[e] / mass[e] for e, v in values.items()}
            treo = grade
        else:
            content = {e: v / molar_mass(e) for e, v in values.items()}
            total = _oxide_mass(content)
            moles = {e: n / total for e, n in content.items()}
            treo = total * (1.0 if grade is None else grade)
            for e in (e for e in assay if e not in RARE_EARTHS):
                arriving[e] = book[f"{set_id}:dissolved_{e}"]
    return Feed(
        id=name,
        header=header,
        moles=moles,
        arriving=arriving,
        treo=treo,
        liquor_treo=liquor_treo,
        pH=book[f"{set_id}:liquor_pH"],
    )


def _header(set_id: str, file: str) -> Header:
    meta = data.set_meta(set_id)
    meta["schema_version"] = meta.pop("schema", 1)
    return validate(Header, meta, file=Path(file).name)


def _check(
    set_id: str, file: str, header: Header, assay: list[str], known: tuple[str, ...]
) -> None:
    """Refuse a feed whose assay or leach assumptions cannot be used."""
    shares = {e: c for e, c in data.load_set(set_id).items() if e in assay}
    rare = [e for e in assay if e in RARE_EARTHS]
    needed = ["liquor_pH"]
    if header.basis != "liquor":
        needed += ["leach_recovery", "liquor_TREO"]
    if header.basis == "metal":
        needed += [f"dissolved_{e}" for e in assay if e not in RARE_EARTHS]
    problems = [
        Problem(message="missing leach assumption", key=n, expected="a constant of this name")
        for n in needed
        if n not in known
    ]
    for e, constant in shares.items():
        if not any(_is(constant.unit, unit) for unit in _UNITS[header.basis]):
            problems.append(
                Problem(
                    message=f"not a unit for the basis {header.basis}",
                    key=e,
                    value=constant.unit,
                    expected=" or ".join(_UNITS[header.basis]),
                )
            )
        elif constant.value < 0:
            problems.append(Problem(message="a negative share", key=e, value=constant.value))
        if header.basis == "oxide-share" and e not in OXIDES:
            problems.append(Problem(message="has no oxide to be reported as", key=e))
    if not rare or not sum(shares[e].value for e in rare) > 0:
        problems.append(Problem(message="a feed without rare earths", expected="their shares"))
    elif not problems and header.basis != "liquor":
        total = sum(shares[e].si for e in (rare if header.basis == "oxide-share" else assay))
        least = 1 - _CLOSURE if header.basis == "oxide-share" else 0.0
        most = 1 + (_CLOSURE if header.basis == "oxide-share" else 0.0)
        if not least <= total <= most:
            problems.append(
                Problem(
                    message="the shares do not close",
                    value=total,
                    expected=f"a sum between {least:g} and {most:g}",
                )
            )
    if problems:
        raise InputError(
            Problem(
                message=p.message,
                file=Path(file).name,
                key=p.key,
                value=p.value,
                expected=p.expected,
            )
            for p in problems
        )


def _is(unit: str, expected: str) -> bool:
    try:
        units.factor(unit, expected)
    except ValueError:
        return False
    return True


def _kind(set_id: str, element: str) -> str:
    """Which kind of concentration a liquor's assay gives for an element."""
    unit = data.load_set(set_id)[element].unit
    return next(kind for kind in _UNITS["liquor"] if _is(unit, kind))


def _liquor_moles(value: float, name: str, kind: str, mass: Mapping[str, float]) -> float:
    """Concentration [mol/m3] from the kind of concentration the assay gives."""
    if kind == "mol/m^3":
        return value
    return value / (mass[name] if kind == "kg_REO/m^3" else molar_mass(name))


def _oxide_mass_per_mole(element: str, header: Header) -> float:
    """Mass of the oxide the feed is reported as [kg] that holds one mole of the element."""
    formula = header.oxides.get(element)
    if formula is None:
        return oxide_mass_per_mole(element)
    return molar_mass(formula) / composition(formula)[element]


def _oxide_mass(moles: Mapping[str, float]) -> float:
    """Mass of rare-earth oxide in an amount of elements, on the usual oxides."""
    return sum(n * oxide_mass_per_mole(e) for e, n in moles.items() if e in RARE_EARTHS)
