"""What the tables ``[sweep]`` and ``[uncertainty]`` of a file hold, and the kind "sweep".

Any case may carry the two tables; a file of kind "sweep" names a case and has nothing else. What
they mean is worked out in ``study``.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from sepmodel.fields import (
    Case,
    Fraction,
    Index,
    Name,
    Number,
    Positive,
    Quantity,
    Table,
    Text,
    refuse,
)

DESIGNS = ("sobol", "latin-hypercube", "random", "saltelli", "morris")
# Points of a study beyond which something else was meant.
MOST = 10_000_000


def _scalar(value: Any) -> Any:
    """A bare number or text with a unit."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        refuse("not a number or a quantity", 'a bare number, or text such as "1.2 L/h"')
    if isinstance(value, float) and not math.isfinite(value):
        refuse("not a finite number", 'a bare number, or text such as "1.2 L/h"')
    return value


def _value(value: Any) -> Any:
    """Anything a case file can hold at one key, numbers finite."""
    if isinstance(value, float) and not math.isfinite(value):
        refuse("not a finite number", "a value of the case")
    if not isinstance(value, bool | int | float | str | list | dict):
        refuse("not a value of a case", "a number, text, true or false, a list or a table")
    return value


Scalar = Annotated[Any, BeforeValidator(_scalar)]
Value = Annotated[Any, BeforeValidator(_value)]
Seconds = Annotated[float, Quantity("s", above=0)]
Path = Annotated[Text, Field(pattern=r"^\S{1,300}$")]
Correlation = Annotated[float, Number("a correlation from 0 to 1", low=0, high=1)]


class Moved(Table):
    """What an axis or an uncertain input moves: a setting by its path, or a constant by its key."""

    path: Path | None = None
    constant: Path | None = None

    @property
    def key(self) -> str:
        """The path of the setting, or the key of the constant."""
        return str(self.path or self.constant)

    @model_validator(mode="after")
    def _one(self) -> Moved:
        if (self.path is None) == (self.constant is None):
            refuse("moves nothing, or two things", "path (of a setting) or constant (its key)")
        if self.constant is not None and ":" not in self.constant:
            refuse(
                "not the key of a constant", "set:name, as sepmodel sources shows", self.constant
            )
        return self


class Axis(Moved):
    """An axis of a grid: ``values`` one by one, or ``points`` of them ``from`` ... ``to``."""

    values: tuple[Value, ...] | None = Field(default=None, min_length=1)
    start: Scalar = Field(default=None, alias="from")
    stop: Scalar = Field(default=None, alias="to")
    points: Annotated[int, Number("points of an axis", low=2, high=100_000, whole=True)] | None = (
        None
    )
    spacing: Literal["linear", "log"] = "linear"

    @model_validator(mode="after")
    def _either(self) -> Axis:
        given = [x is not None for x in (self.start, self.stop, self.points)]
        if (self.values is None) != all(given) or (self.values is not None and any(given)):
            refuse("an axis is a list, or a stretch", "values, or from, to and points")
        return self


class Output(Table):
    """An answer to keep: where it stands in the result, and what it has to be.

    ``unit`` of the limits is that of the result.
    """

    name: Text = ""
    path: Path
    at_least: Annotated[float, Number("a number")] | None = None
    at_most: Annotated[float, Number("a number")] | None = None

    @property
    def label(self) -> str:
        """Its name, by default its path."""
        return self.name or self.path

    @property
    def specified(self) -> bool:
        """Whether it has to meet a limit."""
        return self.at_least is not None or self.at_most is not None


class Sweep(Table):
    """How a case is moved: a grid of axes, a sample of its uncertainty, or the product of both.

    ``design`` and ``samples`` (base points of "saltelli", trajectories of "morris") draw the
    uncertainty; by default "sobol" for up to 30 inputs, beyond them "random". ``refine`` rounds of
    a grid add points between neighbours where an answer changes by more than ``change`` of its
    whole span, or where a specification is met on one side only.
    """

    design: Literal["sobol", "latin-hypercube", "random", "saltelli", "morris"] | None = None
    samples: Annotated[int, Number("a count of members", low=0, high=MOST, whole=True)] | None = (
        None
    )
    seed: Index = 0
    time_limit: Seconds | None = None
    refine: Annotated[int, Number("rounds of refinement", low=0, high=16, whole=True)] = 0
    change: Fraction = 0.1
    most: Annotated[int, Number("a count of points", low=1, high=MOST, whole=True)] = 100_000
    tornado: bool = False
    axis: tuple[Axis, ...] = ()
    output: tuple[Output, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Sweep:
        keys = [axis.key for axis in self.axis]
        if len(set(keys)) < len(keys):
            refuse("two axes move the same", value=", ".join(keys))
        labels = [output.label for output in self.output]
        if len(set(labels)) < len(labels):
            refuse("two outputs have the same name", value=", ".join(labels))
        if self.refine and not self.axis:
            refuse("nothing to refine", "[[sweep.axis]]", self.refine)
        for output in self.output:
            low, high = output.at_least, output.at_most
            if low is not None and high is not None and low > high:
                refuse("no number is at least the one and at most the other", value=output.label)
        return self


class Uncertain(Moved):
    """A distribution for a setting of the case, or instead of the data's own for a constant.

    Either ``relative`` (standard deviation over the value; half width for "triangular" and
    "uniform"), or ``low`` and ``high``: the ends of a triangular or uniform, the 5 % and 95 %
    points of a normal or lognormal distribution. Numbers are in the unit the value is given in.
    """

    distribution: Literal["normal", "lognormal", "triangular", "uniform"] = "normal"
    relative: Positive | None = None
    low: Scalar = None
    high: Scalar = None

    @model_validator(mode="after")
    def _either(self) -> Uncertain:
        ends = [self.low is not None, self.high is not None]
        if (self.relative is None) != all(ends) or (self.relative is not None and any(ends)):
            refuse("how uncertain?", "relative, or low and high")
        return self


class Together(Table):
    """Inputs whose errors hang together: keys and patterns with *, and their correlation."""

    name: Name
    members: tuple[Path, ...] = Field(min_length=1)
    correlation: Correlation


class Uncertainty(Table):
    """What is uncertain: constants of the data sets (patterns with *), settings of the case.

    ``constants`` moves by default every constant with a range that the case reads, each by its
    data's own distribution; extraction constants of one set share a level.
    """

    constants: tuple[Path, ...] = ("*",)
    leave_out: tuple[Path, ...] = Field(default=(), alias="except")
    input: tuple[Uncertain, ...] = ()
    together: tuple[Together, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> Uncertainty:
        keys = [one.key for one in self.input]
        if len(set(keys)) < len(keys):
            refuse("two distributions for one input", value=", ".join(keys))
        return self


class SweepCase(Case):
    """A sweep of a case that stands in another file; ``set`` replaces settings of it by path."""

    kind: Literal["sweep"]
    case: Text
    set: dict[Text, Value] = Field(default_factory=dict)
    sweep: Sweep = Sweep()
    uncertainty: Uncertainty | None = None


# The tables a file of any kind may carry.
CARRIED: dict[str, type[Table]] = {"sweep": Sweep, "uncertainty": Uncertainty}
