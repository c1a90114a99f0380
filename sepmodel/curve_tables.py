"""The kind "curve-fit": which case, which measured curves, which parameters, which errors."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from sepmodel.fields import Case, Flag, NonNegative, Number, OpenFraction, Table, Text, refuse
from sepmodel.sweep_tables import Moved, Path, Scalar, Value

Rounds = Annotated[int, Number("a count of rounds", low=1, high=1000, whole=True)]


class MeasuredCurve(Table):
    """A CSV of what left a column; ``set`` are settings of the case that hold for it alone.

    The first column is ``time [h]``, ``bed_volumes`` or ``volume [mL]``; each further one a
    component: ``La [mg/L]``, or ``La`` over the largest concentration of it that is fed. With
    ``below`` the points from where a component first reaches this share of its feed are held out:
    shown beside the model, but not fitted.
    """

    data: Text
    below: OpenFraction | None = None
    set: dict[Text, Value] = Field(default_factory=dict)


class Errors(Table):
    """Standard deviations of the measurements; what is not given comes from ``fit/defaults``.

    Of every point by itself: ``reading`` over the feed and ``relative`` over the value, and
    ``volume`` over the volume passed. Common to all points of a curve: ``flow`` over the volume,
    ``gain`` over the value (standards, dilution, feed).
    """

    reading: NonNegative | None = None
    relative: NonNegative | None = None
    volume: NonNegative | None = None
    flow: NonNegative | None = None
    gain: NonNegative | None = None


class FittedParameter(Moved):
    """A positive number of the case that is fitted, with others (``also``) by the same factor.

    It starts from the case's own value. ``low`` and ``high`` are in the unit that value has.
    """

    name: Text = ""
    also: tuple[Path, ...] = ()
    low: Scalar = None
    high: Scalar = None

    @property
    def label(self) -> str:
        """Its name, by default its path or key."""
        return self.name or self.key


class CurveFitCase(Case):
    """Parameters of an elution or column case from measured breakthrough or elution curves."""

    kind: Literal["curve-fit"]
    case: Text
    set: dict[Text, Value] = Field(default_factory=dict)
    curve: tuple[MeasuredCurve, ...] = Field(min_length=1)
    parameter: tuple[FittedParameter, ...] = Field(min_length=1)
    error: Errors = Errors()
    scaled: Flag = True
    rounds: Rounds = 40

    @model_validator(mode="after")
    def _consistent(self) -> CurveFitCase:
        for what, names in (
            ("name", [p.label for p in self.parameter]),
            ("path", [k for p in self.parameter for k in (p.key, *p.also)]),
        ):
            if len(set(names)) < len(names):
                refuse(f"two parameters have one {what}", value=", ".join(names))
        return self
