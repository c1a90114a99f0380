"""Text with units <-> strict SI floats. The only module that knows pint.

Inside sepmodel a number is a float64 in strict SI (mol/m3, m3/s, s, m, K, Pa, J, kg); units exist
at the edge alone. Two things that plain units cannot see are dimensions of their own here, so that
mixing them is an error and not a wrong number:

* money of different years: ``USD2019``, ``USD2025``, ``CNY2025`` ... each its own dimension;
* mass on an oxide or a metal basis: ``kg_REO`` (rare-earth oxide) and ``kg_metal`` beside ``kg``.

pH, fractions, ratios and counts are bare numbers in sepmodel's files, never parsed quantities
(pint reads "7 pH" as seven picohenry).

To build pint's registry takes a fifth of a second, a third of what a short command needs.
``units.json`` holds what the registry says of the units in common use; any other unit has it built.
A test asks the registry for each of them.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any

from sepmodel.errors import InputError, Problem

_NUMBER = r"[+-]?(?:[0-9]+(?:_[0-9]+)*\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
_QUANTITY = re.compile(rf"\s*({_NUMBER})\s*(.*?)\s*\Z", re.DOTALL)
# Letters, digits inside names, products, quotients and small powers: nothing that can be made to
# compute. "10**10**10" and friends stop here, before any parser sees them.
_UNIT = re.compile(r"[A-Za-zµμ°%Ωåø][A-Za-z0-9_µμ°%]*(?:\s*(?:\*\*|\^)\s*-?\d)?\Z")
_SPLIT = re.compile(r"\s*(?:(?<!\*)\*(?!\*)|/|·)\s*|\s+(?![\^*])")
_LONGEST = 100
_MONEY_YEARS = range(1990, 2051)
_REFUSED = {
    "pH": "pH is a bare number in its own field, not a unit",
    "vol%": "a volume fraction is a bare number between 0 and 1",
}


@lru_cache(maxsize=1)
def registry() -> Any:
    """The one registry: pint's application registry with sepmodel's units, built on first use."""
    import pint

    ureg = pint.get_application_registry().get()
    if "g_REO" in dir(ureg):
        return ureg
    ureg.define("g_REO = [mass_rare_earth_oxide]")
    ureg.define("t_REO = 1e6 * g_REO")
    ureg.define("g_metal = [mass_rare_earth_metal]")
    ureg.define("t_metal = 1e6 * g_metal")
    for year in _MONEY_YEARS:
        for currency in ("USD", "CNY"):
            ureg.define(f"{currency}{year} = [money_{currency}_{year}]")
    return ureg


def _unit(text: str) -> Any:
    """The pint unit of a checked unit expression; ValueError with the reason otherwise."""
    text = text.strip()
    if text in ("", "1", "dimensionless"):
        return registry().Unit("dimensionless")
    if len(text) > _LONGEST:
        raise ValueError(f"a unit expression is at most {_LONGEST} characters")
    for name, why in _REFUSED.items():
        if re.search(rf"(?<![A-Za-z]){re.escape(name)}(?![A-Za-z])", text):
            raise ValueError(why)
    bare = text.replace("(", " ").replace(")", " ").strip()
    for factor in _SPLIT.split(bare):
        if factor and factor != "1" and not _UNIT.match(factor):
            raise ValueError(f"{factor!r} is not a unit")
    try:
        return registry().Unit(text)
    except Exception as error:  # pint raises a dozen kinds; all mean the same to the user
        raise ValueError(f"unknown unit {text!r}") from error


@lru_cache(maxsize=1)
def _common() -> dict[str, tuple[float, str]]:
    """Units of the shipped models: what the registry says of them, without building it."""
    text = Path(__file__).with_name("units.json").read_text(encoding="utf-8")
    return {unit: (value, kind) for unit, (value, kind) in json.loads(text).items()}


@lru_cache(maxsize=4096)
def _parsed(unit: str) -> tuple[float, str]:
    """Strict-SI value of a multiplicative unit, and its dimensions, by the registry.

    Grams are the base of ``g_REO`` and ``g_metal``; sepmodel's own base for both is the kilogram,
    as for plain mass.
    """
    ureg = registry()
    parsed = _unit(unit)
    if not ureg.Quantity(1.0, parsed)._is_multiplicative:
        raise ValueError(f"{unit!r} has an offset; give the temperature in K")
    value = float(ureg.Quantity(1.0, parsed).to_base_units().magnitude)
    powers = {str(name): float(power) for name, power in parsed.dimensionality.items()}
    for name in ("[mass_rare_earth_oxide]", "[mass_rare_earth_metal]"):
        value *= 1000.0 ** -powers.get(name, 0.0)
    # pint multiplies inexact factors; fifteen digits are what was meant ("1.5 M" is 1500 mol/m3).
    kind = " ".join(f"{name}^{power:g}" for name, power in sorted(powers.items()))
    return float(f"{value:.15g}"), kind


def _factor(unit: str) -> tuple[float, str]:
    """Strict-SI value of a multiplicative unit, and its dimensions ("" for a pure number)."""
    return _common().get(unit) or _parsed(unit)


@lru_cache(maxsize=4096)
def factor(unit: str, expected: str | None = None) -> float:
    """Strict-SI value of one ``unit``; ValueError when it is unknown or not of ``expected``'s kind.

    >>> factor("mol/L")
    1000.0
    >>> factor("kg_REO")
    1.0
    """
    value, kind = _factor(unit)
    if expected is not None and kind != _factor(expected)[1]:
        raise ValueError(f"{unit!r} is not a unit of the kind {expected!r}")
    return value


def split(text: str) -> tuple[float, str]:
    """Number and unit expression of a quantity such as ``"1.5 mol/L"``; ValueError otherwise."""
    if len(text) > _LONGEST:
        raise ValueError(f"a quantity is at most {_LONGEST} characters")
    match = _QUANTITY.match(text)
    if match is None:
        raise ValueError("not a number followed by a unit")
    return float(match[1]), match[2]


def si(text: str, expected: str, *, file: str = "", key: str = "") -> float:
    """Strict-SI float of ``text`` = "number unit", which must be of the kind of unit ``expected``.

    Raises
    ------
    InputError
        naming file, key, value and what was expected.

    >>> si("1.5 mol/L", "mol/m^3")
    1500.0
    >>> si("25 degC", "K")
    298.15
    """
    try:
        number, unit = split(text)
        if unit in ("degC", "°C", "celsius", "degree_Celsius"):
            if expected != "K":
                raise ValueError(f"a temperature where {expected} was expected")
            result = float(f"{number + 273.15:.15g}")
        elif not unit and _factor(expected)[1]:
            raise ValueError("no unit given")
        else:
            result = float(f"{number * factor(unit or '1', expected):.15g}")
    except ValueError as error:
        raise InputError(
            Problem(
                message=str(error),
                file=file,
                key=key,
                value=text,
                expected=f'a quantity such as "1.0 {expected}"',
            )
        ) from None
    return result


def quantity(value: float, unit: str) -> Any:
    """A strict-SI ``value`` as a pint quantity in ``unit``, for users who compute with units."""
    return registry().Quantity(value / factor(unit), unit)


def to(value: float, unit: str) -> float:
    """A strict-SI ``value`` expressed in ``unit``.

    >>> to(1500.0, "mol/L")
    1.5
    """
    return float(f"{value / factor(unit):.15g}")


def show(value: float, unit: str, digits: int = 3) -> str:
    """A strict-SI ``value`` as text in ``unit`` with so many significant digits.

    >>> show(1500.0, "mol/L")
    '1.50 mol/L'
    """
    return f"{significant(to(value, unit), digits)} {unit}"


def significant(value: float, digits: int = 3) -> str:
    """Plain decimal text with a number of significant digits, trailing zeros kept.

    >>> significant(1234.5), significant(0.012345), significant(0.0)
    ('1230', '0.0123', '0')
    """
    if value == 0:
        return "0"
    rounded = float(f"{value:.{digits}g}")
    exponent = int(f"{rounded:e}".split("e")[1])
    if exponent < -4 or exponent > 9:
        return f"{value:.{digits - 1}e}"
    return f"{rounded:.{max(digits - 1 - exponent, 0)}f}"


@lru_cache(maxsize=1024)
def money_year(unit: str) -> tuple[str, int] | None:
    """Currency and year a money unit carries, or None.

    >>> money_year("USD2019/kg")
    ('USD', 2019)
    """
    found = re.search(r"(USD|CNY)(\d{4})", unit)
    return (found[1], int(found[2])) if found else None
