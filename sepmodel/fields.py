"""Types of the fields in a case file, and a refused file as a list of problems.

Every technology writes its case as pydantic models of these types (in its ``inputs.py``):

    class Inlet(Table):
        name: Name
        flow: Annotated[float, Quantity("m^3/s", above=0)]     # "6 L/h" in the file, SI here
        composition: dict[Component, Annotated[float, Quantity("mol/m^3", low=0)]]
        pH: PH | None = None

    class CascadeCase(Case):
        kind: Literal["cascade"]
        inlet: tuple[Inlet, ...]

A quantity is text with a unit; pH, fractions, ratios and counts are bare numbers. Rules that need
several fields go into a ``model_validator(mode="after")`` that calls ``refuse``.
"""

from __future__ import annotations

import difflib
import math
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from sepmodel import units
from sepmodel.errors import InputError, Problem
from sepmodel.species import CHARGES, RARE_EARTHS

M = TypeVar("M", bound=BaseModel)
# More problems than anybody reads at once are counted, not listed.
_MOST = 100
_LARGEST_VERSION = 1000
# pydantic's names of containers, in the words of TOML.
_SHAPES = {
    "tuple_type": "a list, in square brackets",
    "dict_type": "a table",
    "model_type": "a table",
}


def refuse(message: str, expected: str = "", value: Any = None, key: str = "") -> NoReturn:
    """Refuse a value or a table from inside a validator: what is wrong, and what was expected.

    A table's validator names the ``key`` inside it.
    """
    context = {"expected": expected, "said": message, "value": value, "key": key}
    raise PydanticCustomError("refused", "{said}", context)


class Table(BaseModel):
    """One table of a case file: unknown keys are errors, values do not change afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Refusals:
    """Refusals gathered by a table's validator, so that one look tells everything.

    >>> wrong = Refusals()
    >>> wrong.add("no inlet", "an inlet", key="inlet")
    >>> wrong.of(refuse, "too many stages", "at most 9")
    >>> len(wrong)
    2
    """

    def __init__(self) -> None:
        self._found: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._found)

    def add(self, message: str, expected: str = "", value: Any = None, key: str = "") -> None:
        """Note what ``refuse`` would refuse."""
        self.of(refuse, message, expected, value, key)

    def of(self, check: Callable[..., object], *given: Any) -> None:
        """Note what a check refuses."""
        try:
            check(*given)
        except PydanticCustomError as error:
            context = dict(error.context or {})
            self._found += context.pop("all", [context])

    def refuse(self) -> None:
        """Refuse all that was noted, if anything was."""
        if self._found:
            raise PydanticCustomError("refused", "{said}", {**self._found[0], "all": self._found})


@dataclass(frozen=True, slots=True)
class Quantity:
    """Annotation of a float that a file gives as text with a unit: strict SI in the model.

    ``low`` and ``high`` (allowed) and ``above`` (not allowed itself) bound the SI value.

    >>> from pydantic import TypeAdapter
    >>> flow = TypeAdapter(Annotated[float, Quantity("m^3/s", above=0)])
    >>> flow.validate_python("3.6 m^3/h")
    0.001
    """

    unit: str
    low: float | None = None
    high: float | None = None
    above: float | None = None

    def parse(self, value: Any) -> float:
        """The SI value of ``value``; a pydantic error with reason and expectation otherwise."""
        example = f'text with a unit, such as "1.0 {self.unit}"'
        if not isinstance(value, str):
            refuse("a quantity is text with a unit", example)
        try:
            number = units.si(value, self.unit)
        except InputError as error:
            problem = error.problems[0]
            refuse(problem.message, problem.expected or example)
        if not math.isfinite(number):
            refuse("not a finite number", example)
        _check_bounds(number, self.low, self.high, self.above, self.unit)
        return number

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        bounds = {"low": self.low, "high": self.high, "above": self.above}
        return {
            "type": "string",
            "description": f"a quantity, text with a unit of the kind {self.unit}",
            "examples": [f"1.0 {self.unit}"],
            "x-unit": self.unit,
            **{f"x-{name}-si": bound for name, bound in bounds.items() if bound is not None},
        }


def _check_bounds(
    number: float,
    low: float | None,
    high: float | None,
    above: float | None,
    unit: str = "",
    *,
    below: float | None = None,
    what: str = "a value",
    hint: str = "",
) -> None:
    unit = f" {unit}" if unit else ""
    limits = (("above", above), ("at least", low), ("below", below), ("at most", high))
    said = [f"{word} {limit:g}{unit}" for word, limit in limits if limit is not None]
    short = (low is not None and number < low) or (above is not None and number <= above)
    over = (high is not None and number > high) or (below is not None and number >= below)
    if short or over:
        refuse("negative" if number < 0 else "out of range", f"{what} {' and '.join(said)}{hint}")


@dataclass(frozen=True, slots=True)
class Number:
    """Annotation of a bare number (pH, fraction, ratio, count); text and booleans are refused."""

    what: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    whole: bool = False

    def parse(self, value: Any) -> float | int:
        """The number itself; a pydantic error with reason and expectation otherwise."""
        kind = "whole number" if self.whole else "number"
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            refuse(f"not a {kind}", f"{self.what}: a bare {kind}, no text and no unit")
        try:
            finite = math.isfinite(value)
        except OverflowError:  # a whole number of hundreds of digits
            finite = False
        if not finite:
            refuse("not a finite number", self.what)
        most = self.high if self.below is None else self.below
        hint = f": {value:g} % is {value / 100:g}" if most == 1 and 1 < value <= 100 else ""
        _check_bounds(
            value, self.low, self.high, self.above, below=self.below, what=self.what, hint=hint
        )
        return int(value) if self.whole else float(value)

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.parse)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        bounds = {
            "minimum": self.low,
            "maximum": self.high,
            "exclusiveMinimum": self.above,
            "exclusiveMaximum": self.below,
        }
        return {
            "type": "integer" if self.whole else "number",
            "description": self.what,
            **{name: bound for name, bound in bounds.items() if bound is not None},
        }


def _version(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _LARGEST_VERSION:
        refuse("not a version of this file format", "1")
    return value


def _whole_text(value: Any) -> Any:
    if not isinstance(value, str):
        refuse("not text", "text in quotes")
    return value


def _choice(value: str, allowed: Sequence[str], what: str) -> str:
    if value not in allowed:
        refuse(f"unknown {what}{meant(value, allowed)}", f"one of {', '.join(allowed)}")
    return value


def meant(given: str, known: Iterable[str], count: int = 1) -> str:
    """The end of a message: which of the known names was probably meant.

    >>> meant("solvnet", ["solvent", "scrub"])
    ', did you mean solvent?'
    """
    near = difflib.get_close_matches(given[:50], list(known), n=count, cutoff=0.5)
    return f", did you mean {' or '.join(near)}?" if near else ""


def _component(value: str) -> str:
    return _choice(value, tuple(CHARGES), "element or ion")


def _rare_earth(value: str) -> str:
    return _choice(value, RARE_EARTHS, "rare earth")


def _flag(value: Any) -> Any:
    if not isinstance(value, bool):
        refuse("not true or false", "true or false, without quotes")
    return value


Fraction = Annotated[float, Number("a fraction", low=0, high=1)]
OpenFraction = Annotated[float, Number("a fraction", above=0, below=1)]
Positive = Annotated[float, Number("a number", above=0)]
NonNegative = Annotated[float, Number("a number", low=0)]
Ratio = Annotated[float, Number("a ratio", above=0)]
Real = Annotated[float, Number("a number")]
Count = Annotated[int, Number("a count", low=1, whole=True)]
Index = Annotated[int, Number("a whole number", low=0, whole=True)]
PH = Annotated[float, Number("a pH", low=-2, high=16)]
Flag = Annotated[bool, BeforeValidator(_flag)]
Text = Annotated[str, BeforeValidator(_whole_text)]
# Names become parts of paths, file names and column headers: no dots, slashes or spaces.
Name = Annotated[Text, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_+-]{0,63}$")]
SetId = Annotated[Text, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,99}$")]
Component = Annotated[Text, AfterValidator(_component)]
RareEarth = Annotated[Text, AfterValidator(_rare_earth)]
Shares = dict[Component, Annotated[float, Number("a share", low=0)]]
Concentration = Annotated[float, Quantity("mol/m^3", low=0)]
# Less than a drop in a year, and more than any river: beyond, a slip of the unit or of the pen.
LEAST_FLOW, MOST_FLOW = 1e-15, 1e6
Flow = Annotated[float, Quantity("m^3/s", low=LEAST_FLOW, high=MOST_FLOW)]
MolarFlow = Annotated[float, Quantity("mol/s", low=0, high=MOST_FLOW)]
Temperature = Annotated[float, Quantity("K", above=0)]
Composition = dict[Component, Concentration]


class Case(Table):
    """What every case file has: ``schema = 1``, ``kind`` and ``name``; the kinds add to it."""

    schema_version: Annotated[Literal[1], BeforeValidator(_version)] = Field(
        alias="schema", description="version of this file format"
    )
    kind: Text
    name: Name
    title: Text = ""
    notes: Text = ""
    purpose: Text = ""


def validate(model: type[M], data: Mapping[str, Any], *, file: str = "") -> M:
    """``data`` as an instance of ``model``.

    Raises
    ------
    InputError
        with everything wrong at once: file, dotted key, value, and what was expected.
    """
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        raise InputError(problems(error, model, data, file=file)) from None


def problems(
    error: ValidationError, model: type[BaseModel], data: Any, *, file: str = ""
) -> list[Problem]:
    """A pydantic error as problems; misspelt keys are told the nearest known one."""
    found: dict[str, Problem] = {}
    items = [
        single
        for item in error.errors(include_url=False)
        if not _echo(item)
        for single in _singles(item)
    ]
    for item in items[:_MOST]:
        where, known = _walk(model, data, item["loc"], item["type"] == "missing")
        key = ".".join([*map(str, where), *filter(None, [item.get("ctx", {}).get("key")])])
        # Of the members of a union the first says best what was meant.
        each = item.get("ctx", {}).get("of", "")
        found.setdefault(f"{key} {each}", _problem(item, key, known, file))
    rest = [Problem(message=f"and {len(items) - _MOST} more problems", file=file)]
    return [*found.values(), *(rest if len(items) > _MOST else [])]


def _singles(item: Any) -> list[Any]:
    """An entry of a pydantic error, or one for each of the refusals that were gathered in it."""
    gathered = item.get("ctx", {}).get("all")
    if not gathered:
        return [item]
    return [{**item, "ctx": {**context, "of": i}} for i, context in enumerate(gathered)]


def _echo(item: Any) -> bool:
    """Whether an error only repeats that members of a list were refused: it is long enough."""
    given = item.get("input")
    return bool(
        item["type"] == "too_short"
        and isinstance(given, Sized)
        and len(given) >= item["ctx"]["min_length"]
    )


def _problem(item: Any, key: str, known: Sequence[str], file: str) -> Problem:
    """One entry of a pydantic error in our words."""
    kind, context, value = item["type"], item.get("ctx", {}), item.get("input")
    if kind == "extra_forbidden":
        last = key.rpartition(".")[2]
        message, expected = f"unknown key{meant(last, known)}", f"one of {', '.join(known)}"
        value = None if isinstance(value, dict | list) else value
    elif kind == "missing":
        message, expected, value = "missing key", "this key with a value", None
    elif kind == "refused":
        message, expected = context["said"], context["expected"]
        if isinstance(value, dict | BaseModel):
            value = _written(value, context)
    else:
        text = str(item["msg"])
        message = "not acceptable"
        expected = text.removeprefix("Input should be ").removeprefix("Value error, ")
        if kind == "literal_error":
            message = "unknown choice"
        elif kind.endswith("_type"):
            message = "wrong type"
            expected = _SHAPES.get(kind, expected)
        elif kind == "too_short":
            message, expected = "empty", "one entry at least"
        elif kind == "string_pattern_mismatch":
            message = "not a usable name"
            expected = "letters, digits, _, + and -, at most 64, beginning with a letter or digit"
        elif kind == "value_error":
            message, expected = expected, ""
    return Problem(message=message, file=file, key=key, value=value, expected=expected)


def _written(table: Any, context: Mapping[str, Any]) -> Any:
    """The value a table's validator blames, as it was written where it stands in the table."""
    written = table
    for part in str(context["key"]).split("."):
        written = written.get(part) if isinstance(written, dict) else None
    single = isinstance(written, str | int | float)
    return written if single and context["value"] is not None else context["value"]


def _walk(model: Any, data: Any, loc: Sequence[Any], missing: bool) -> tuple[list[Any], list[str]]:
    """The keys of ``loc`` that exist in the file (tags of unions do not), and the keys known at
    the table that holds the last one."""
    where: list[Any] = []
    current, known = model, _keys(model)
    for position, part in enumerate(loc):
        last = position == len(loc) - 1
        inside = (isinstance(data, dict) and part in data) or (
            isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)
        )
        if not inside and not (last and missing):
            chosen = [m for m in _models(current) if part in (m.__name__, *_tags(m))]
            current = chosen[0] if chosen else current
            known = _keys(current) if chosen else known
            continue
        if part == "[key]":
            continue
        where.append(part)
        if last:
            break
        data = data[part]
        current = _member(current, part)
        known = _keys(current) or known
    return where, known


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models an annotation can hold: itself, or the members of a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, Annotated):
        return [m for a in typing.get_args(annotation) for m in _models(a)]
    return []


def _keys(annotation: Any) -> list[str]:
    fields = [f for m in _models(annotation) for f in m.model_fields.items()]
    return list(dict.fromkeys(field.alias or name for name, field in fields))


def _tags(model: type[BaseModel]) -> list[Any]:
    """Values a model's Literal fields can take: the tags of a discriminated union."""
    return [
        value
        for field in model.model_fields.values()
        if typing.get_origin(field.annotation) is Literal
        for value in typing.get_args(field.annotation)
    ]


def _member(annotation: Any, part: Any) -> Any:
    """Annotation of one key or element of what ``annotation`` describes."""
    for model in _models(annotation):
        for name, field in model.model_fields.items():
            if part == (field.alias or name):
                return field.annotation
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, Annotated):
        for argument in arguments:
            found = _member(argument, part)
            if found is not None:
                return found
        return None
    if typing.get_origin(annotation) is dict:
        return arguments[1]
    return arguments[0] if arguments and isinstance(part, int) else None
