"""What a cascade-dynamic case file holds: a cascade, and what happens to it in time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, model_validator

from sepmodel import units
from sepmodel.extraction.circuit_inputs import CircuitCase
from sepmodel.extraction.inputs import CascadeCase, Member
from sepmodel.fields import (
    Count,
    Fraction,
    Name,
    NonNegative,
    Number,
    OpenFraction,
    Positive,
    Quantity,
    Real,
    Table,
    Text,
    refuse,
)

Duration = Annotated[float, Quantity("s", low=0)]
LongTime = Annotated[float, Quantity("s", above=0)]
Volume = Annotated[float, Quantity("m^3", above=0)]
Shares = dict[Member, NonNegative]
Purity = OpenFraction
# With larger ones what an upset leaves for later is lost in the errors of the steps.
LOOSEST = 1e-3
# A pH beyond which no liquor is.
ACIDIC, ALKALINE = -2, 16
FOLLOWS = "a relative tolerance (looser ones lose what an upset leaves for later)"
Tolerance = Annotated[float, Number(FOLLOWS, low=1e-10, high=LOOSEST)]
SectionName = Literal["extraction", "scrub", "strip", "saponify"]
MOST_OUTPUTS, MOST_MAPS, MOST_ROUNDS, MOST_MODES = 4096, 512, 8, 8
# Looks of a controller in a run, and cells of a settler (16 are plug flow within 0.1 %).
MOST_LOOKS, MOST_CELLS = 100_000, 256
Cells = Annotated[int, Number("a count", low=1, high=MOST_CELLS, whole=True)]
VOLUMES = ("mixer_aq", "mixer_org", "settler_aq", "settler_org")
# Cells of a settler in plug flow: what a train's outlets do then differs from a true delay in every
# settler by less than 0.1 % of the time, and by half as much with twice as many.
PLUG = 16


def _over(at: float, until: float | None, ramp: float = 0.0) -> None:
    """Refuse what ends before it has come about."""
    if until is not None and (until <= at or until < at + ramp):
        begins = f"{at / units.factor('h'):.6g} h{' and its ramp' if ramp else ''}"
        ends = f"{until / units.factor('h'):.6g} h"
        refuse("it ends before it has come about", f"after at, {begins}", ends, "until")


class Holdup(Table):
    """What each stage holds, as residence time at the case's flows or as volumes.

    ``basis`` of a residence time: "outflow" (each phase of each stage holds its outflow times the
    time), "boxes" (all stages alike, as large as the largest outflow asks for), "feed" (each phase
    of each stage holds what the feed brings in the time; mass flow only). The settler is passed in
    ``cells`` equal cells in series: one is perfectly mixed, "plug" stands for so many that more
    change nothing; ``dead`` is the part of it that takes no part.

    ``phases``: "fixed" volumes of both phases, or mixers of fixed volume that run over as a
    dispersion ("overflow", circuits only), so that the volume of each phase follows the flows. With
    ``weir`` the settlers' interface moves too: the aqueous leg lets a volume more out in that time,
    and with ``reset``, the integral time of a level controller, its crest is moved until the
    interface is where it was.
    """

    basis: Literal["outflow", "boxes", "feed"] = "outflow"
    mixer: LongTime | None = None
    settler: Duration = 0.0
    mixer_aq: Volume | None = None
    mixer_org: Volume | None = None
    settler_aq: Volume | None = None
    settler_org: Volume | None = None
    cells: Cells | Literal["plug"] = 1
    dead: Annotated[float, Number("a part below 1", low=0, below=1)] = 0.0
    phases: Literal["fixed", "overflow"] = "fixed"
    weir: LongTime | None = None
    reset: LongTime | None = None

    @property
    def cells_each(self) -> int:
        """Cells of a settler."""
        return PLUG if self.cells == "plug" else self.cells

    @model_validator(mode="after")
    def _one_way(self) -> Holdup:
        volumes = (self.mixer_aq, self.mixer_org)
        if (self.mixer is None) == (None in volumes):
            refuse("a hold-up is a time or two volumes", "mixer, or mixer_aq and mixer_org")
        if (self.settler_aq is None) != (self.settler_org is None):
            refuse("a settler holds both phases", "settler_aq and settler_org")
        by_time = self.mixer is not None
        idle = VOLUMES if by_time else ("settler", "basis")
        for name in idle:
            if name in self.model_fields_set and getattr(self, name) is not None:
                refuse("a hold-up is a time or volumes, not both",
                       "times" if by_time else "volumes", key=name)  # fmt: skip
        settled = self.settler > 0 or self.settler_aq is not None
        for name in ("cells", "dead"):
            if name in self.model_fields_set and not settled:
                refuse("there is no settler", "a settler", getattr(self, name), name)
        if self.weir is not None and (self.phases == "fixed" or not settled or self.cells != 1):
            refuse("an interface moves in a mixed settler behind a mixer that runs over",
                   'phases = "overflow", a settler, cells = 1')  # fmt: skip
        if self.reset is not None and self.weir is None:
            refuse("a level controller moves the crest of a weir", "weir and reset")
        return self


class Filled(Table):
    """Stages whose rare earths start with these shares by mole."""

    section: SectionName
    first: Count = 1
    last: Count | None = None
    composition: Shares = Field(min_length=1)


class Find(Table):
    """What the start-up policy is sought for, and among which.

    The least ``goal`` over all specifications: "time" until all are met for good, hours "missed",
    or product "off" specification. ``levels`` are parts of a lead's setting, or of the feed for
    split and staged; each is tried for all ``durations``, then finer around the best in ``rounds``.
    A search ends with the first event, the end of the run or ``within``; controllers act in it,
    and one that moves what the policy leads does so from its ``start`` on, the policy being over.
    """

    goal: Literal["time", "missed", "off"] = "time"
    levels: Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None
    durations: Annotated[tuple[LongTime, ...], Field(min_length=1)] | None = None
    rounds: Annotated[int, Number("a count from 0", low=0, high=MOST_ROUNDS, whole=True)] = 2
    within: LongTime | None = None


class Start(Table):
    """What the train is full of, and how it is led until it is let go.

    ``fill``: "feed" (feed liquor, the organic as it enters or, by mass flow, in equilibrium with
    it), "fresh" (acids without metal, the feed fills the train itself; mass action only), "steady"
    (the steady state). ``profile`` gives stretches other shares (a seeded start).

    ``policy`` for ``duration``: "reflux" (no feed, nothing leaves), "split" (the part ``product``
    of the feed leaves with the organic), "staged" (from total reflux to the whole feed in
    ``steps``, the part ``product`` of it, or the design's, leaving with the organic), "lead"
    (``setting``, a path as in events, at ``factor`` times its value). Circuits are led by their
    scrub acid. With ``find`` the best is found, and what was tried is reported.
    """

    fill: Literal["feed", "fresh", "steady"] = "feed"
    profile: tuple[Filled, ...] = ()
    policy: Literal["none", "reflux", "split", "staged", "lead"] = "none"
    duration: Duration = 0.0
    product: Fraction | None = None
    steps: Count = 4
    setting: Text | None = None
    factor: NonNegative | None = None
    find: Find | None = None

    @model_validator(mode="after")
    def _complete(self) -> Start:
        given = self.policy != "none" and self.find is None
        if given and not self.duration > 0:
            refuse("a policy lasts", 'duration = "10 d"')
        if given and self.policy == "split" and self.product is None:
            refuse("a split names the product's part of the feed", 'policy = "split", product')
        if given and self.policy == "lead" and self.factor is None:
            refuse("a lead holds its setting at a part of its value", 'policy = "lead", factor')
        if (self.policy == "lead") != (self.setting is not None):
            refuse("a setting is what a lead holds", 'policy = "lead", setting')
        if self.product is not None and self.policy not in ("split", "staged"):
            refuse("a product's part belongs to a policy", 'policy = "split" or "staged"')
        if self.factor is not None and self.policy != "lead":
            refuse("a factor is that of a lead's setting", 'policy = "lead"')
        if "steps" in self.model_fields_set and self.policy != "staged":
            refuse("steps are those of staged filling", 'policy = "staged"', self.steps, "steps")
        if self.profile and self.fill == "steady":
            refuse("a steady state has its own shares", 'fill = "feed"', key="profile")
        if self.policy == "none" and (self.duration > 0 or self.find is not None):
            refuse("what lasts, or is found, is a policy", 'policy = "split"')
        if self.find is None:
            return self
        if self.duration > 0 or self.product is not None or self.factor is not None:
            refuse("what is found is not given", "find, or duration with product or factor")
        levels = self.find.levels
        if levels is not None and self.policy == "reflux":
            refuse("total reflux has no levels", "find.durations alone")
        if levels is not None and self.policy != "lead" and max(levels) > 1:
            refuse("a product's part of the feed is at most 1", "find.levels up to 1")
        return self


class Event(Table):
    """From ``at`` a setting has another value, reached over ``ramp``; until ``until``, if given.

    ``setting`` is a path into the case ("inlet.feed.flow", "inlet.feed.composition.Nd",
    "inlet.acid.acid", "inlet.soda.base", "organic.flow", "organic.saponification",
    "mass_flow.scrub", "section.extraction.efficiency", "section.scrub.entrainment_aq"; with
    ``first`` and ``last`` for some stages of a section only). The value is as in the case, or a
    ``factor`` on it.
    """

    name: Name | None = None
    setting: Text
    at: Duration
    until: LongTime | None = None
    ramp: Duration = 0.0
    value: Text | Real | None = None
    factor: NonNegative | None = None
    first: Count | None = None
    last: Count | None = None

    @model_validator(mode="after")
    def _one_value(self) -> Event:
        if (self.value is None) == (self.factor is None):
            refuse("an event sets a value or a factor", "one of value and factor")
        _over(self.at, self.until, self.ramp)
        return self


class Disturbance(Table):
    """A usual disturbance of relative ``size`` from ``at`` to ``until``, over a ramp.

    ``kind``: "feed-surge" (every feed's flow, or the ``inlet``'s, by 1 + size; a negative size is a
    shortage), "feed-richer" (the ``component`` in the ``inlet``), "acid-weaker" (the acid of the
    ``inlet`` by 1 - size), "solvent-loss" (the organic's flow by 1 - size), "soap-lower" (the
    saponification by 1 - size), "crud" (the efficiency of the ``section``'s stages, or of ``first``
    to ``last``, by 1 - size), "entrainment" (the part ``size`` of their aqueous goes with the
    organic).
    """

    kind: Literal[
        "feed-surge", "feed-richer", "acid-weaker", "solvent-loss", "soap-lower", "crud",
        "entrainment",
    ]  # fmt: skip
    size: Annotated[float, Number("a relative size", above=-1, below=1)]
    at: Duration
    until: LongTime | None = None
    ramp: Duration = 0.0
    inlet: Text | None = None
    component: Member | None = None
    section: SectionName | None = None
    first: Count | None = None
    last: Count | None = None

    @model_validator(mode="after")
    def _complete(self) -> Disturbance:
        wanted = {
            "feed-richer": ("inlet", "component"),
            "acid-weaker": ("inlet",),
            "crud": ("section",),
            "entrainment": ("section",),
        }.get(self.kind, ())
        if any(getattr(self, name) is None for name in wanted):
            refuse(f"{self.kind} names its {' and '.join(wanted)}", ", ".join(wanted))
        known = {
            "feed-surge": ("inlet",),
            "crud": ("section", "first", "last"),
            "entrainment": ("section", "first", "last"),
        }.get(self.kind, wanted)
        for name in ("inlet", "component", "section", "first", "last"):
            if name not in known and getattr(self, name) is not None:
                refuse(f"{self.kind} knows no {name}", ", ".join(known), getattr(self, name), name)
        _over(self.at, self.until, self.ramp)
        return self

    def events(self, feeds: Sequence[str]) -> list[Event]:
        """As events; ``feeds`` are the inlets with metal."""
        more, less = 1.0 + self.size, 1.0 - self.size
        inlets = feeds if self.inlet is None else (self.inlet,)
        made: list[tuple[str, float]] = {
            "feed-surge": [(f"inlet.{name}.flow", more) for name in inlets],
            "feed-richer": [(f"inlet.{self.inlet}.composition.{self.component}", more)],
            "acid-weaker": [(f"inlet.{self.inlet}.acid", less)],
            "solvent-loss": [("organic.flow", less)],
            "soap-lower": [("organic.saponification", less)],
            "crud": [(f"section.{self.section}.efficiency", less)],
            "entrainment": [],
        }[self.kind]
        rest: dict[str, Any] = {
            "name": self.kind, "at": self.at, "until": self.until, "ramp": self.ramp,
            "first": self.first, "last": self.last,
        }  # fmt: skip
        out = [Event.model_construct(setting=s, factor=f, value=None, **rest) for s, f in made]
        if self.kind == "entrainment":
            path = f"section.{self.section}.entrainment_aq"
            out.append(Event.model_construct(setting=path, value=self.size, factor=None, **rest))
        return out


class Outage(Table):
    """Stages that do nothing for a time: both phases pass through them unchanged."""

    section: SectionName
    first: Count
    last: Count | None = None
    at: Duration
    until: LongTime

    @model_validator(mode="after")
    def _lasts(self) -> Outage:
        _over(self.at, self.until)
        return self


class Time(Table):
    """How long, how finely recorded, how accurate; ``save_every`` of wall time a checkpoint.

    ``tolerance`` is relative, of what each stage holds, and at most 1e-3: errors of many steps add
    up, and what an upset leaves for later hangs on shares that are small by then.
    """

    end: LongTime
    outputs: Annotated[int, Number("a count from 2", low=2, high=MOST_OUTPUTS, whole=True)] = 256
    maps: Annotated[int, Number("a count from 2", low=2, high=MOST_MAPS, whole=True)] = 64
    tolerance: Tolerance = 1e-5
    save_every: LongTime = 10.0


class Specification(Table):
    """An outlet is on specification from this purity of the component on.

    ``price`` is what a mole on specification is worth, in any unit: off-specification product is
    counted with it.
    """

    outlet: Text
    component: Member
    purity: Purity
    price: Positive | None = None


class Controller(Table):
    """A loop that looks every ``interval``, learns of it after ``delay``, and moves a setting.

    setting = its value in the case + gain (e + integral of e dt / time), e = target - measured.
    ``measure``: "pH", "share_aq", "share_org" of a stage, "purity" of an outlet. ``gain`` has the
    unit of the setting. With ``tune``, a small part by which the setting is stepped in a test run
    at rest, gain and time are found from the response, and without a ``target`` the value at rest
    is held.
    """

    name: Name
    measure: Literal["pH", "share_aq", "share_org", "purity"]
    section: SectionName | None = None
    stage: Count = 1
    component: Member | None = None
    outlet: Text | None = None
    setting: Text
    target: Real | None = None
    gain: Text | Real | None = None
    time: LongTime | None = None
    tune: Annotated[float, Number("a small part, not zero", low=-0.5, high=0.5)] | None = None
    interval: LongTime
    delay: Duration = 0.0
    low: Text | Real
    high: Text | Real
    start: Duration = 0.0

    @model_validator(mode="after")
    def _complete(self) -> Controller:
        if (self.gain is None) == (self.tune is None) or (self.tune is not None and self.time):
            refuse("a controller has a gain and a time, or is tuned", "gain, or tune")
        if self.tune == 0.0:
            refuse("a step of nothing moves nothing", "a small part such as 0.01", 0.0, "tune")
        if self.target is None and self.tune is None:
            refuse("a controller has a target", "target")
        if self.measure == "purity" and (self.outlet is None or self.component is None):
            refuse("a purity is that of a component in an outlet", "outlet and component")
        if self.measure != "purity" and self.section is None:
            refuse("a measurement is taken at a stage of a section", "section and stage")
        if self.measure.startswith("share") and self.component is None:
            refuse("a share is that of a component", "component")
        used = {"purity": ("outlet", "component"), "pH": ("section", "stage")}.get(
            self.measure, ("section", "stage", "component")
        )
        for name in ("section", "stage", "component", "outlet"):
            if name in self.model_fields_set and name not in used:
                refuse(f"{self.measure} is not measured by its {name}", ", ".join(used),
                       getattr(self, name), name)  # fmt: skip
        low, high = (ACIDIC, ALKALINE) if self.measure == "pH" else (0.0, 1.0)
        if self.target is not None and not low <= self.target <= high:
            refuse(f"no {self.measure} comes there", f"{low:g} to {high:g}", self.target, "target")
        return self


class Modes(Table):
    """How many of the slowest modes about the steady state are to be told, and where they show."""

    count: Annotated[int, Number("a count from 1", low=1, high=MOST_MODES, whole=True)] = 3


class Timed(Protocol):
    """The tables that both kinds of dynamic cases have."""

    holdup: Holdup
    start: Start
    event: tuple[Event, ...]
    disturbance: tuple[Disturbance, ...]
    outage: tuple[Outage, ...]
    time: Time
    specification: tuple[Specification, ...]
    controller: tuple[Controller, ...]


def happenings(case: DynamicMassFlowCase | DynamicCircuitCase) -> list[tuple[str, Event]]:
    """Events, and those that disturbances are, each with the key it stands at."""
    feeds = [inlet.name for inlet in case.inlet if inlet.composition]
    out = [(f"event.{i}", event) for i, event in enumerate(case.event)]
    for i, disturbance in enumerate(case.disturbance):
        out += [(f"disturbance.{i}", event) for event in disturbance.events(feeds)]
    return out


class DynamicMassFlowCase(CascadeCase):
    """A mass-flow cascade in time."""

    kind: Literal["cascade-dynamic"]  # type: ignore[assignment]
    holdup: Holdup
    start: Start = Start()
    event: tuple[Event, ...] = ()
    disturbance: tuple[Disturbance, ...] = ()
    outage: tuple[Outage, ...] = ()
    time: Time
    specification: tuple[Specification, ...] = ()
    controller: tuple[Controller, ...] = ()
    modes: Modes | None = None

    @model_validator(mode="after")
    def _no_volumes(self) -> DynamicMassFlowCase:
        if self.holdup.mixer is None or self.holdup.settler_aq is not None:
            refuse("the mass-flow model knows no volumes", "holdup.mixer as a time")
        if self.holdup.phases != "fixed":
            refuse("the mass-flow model knows no volumes", 'holdup.phases = "fixed"')
        if self.start.fill == "fresh":
            refuse("the mass-flow model cannot start without metal", '"feed" or "steady"')
        return self


class DynamicCircuitCase(CircuitCase):
    """A circuit with closed charge and extractant balances in time."""

    kind: Literal["cascade-dynamic"]  # type: ignore[assignment]
    holdup: Holdup
    start: Start = Start()
    event: tuple[Event, ...] = ()
    disturbance: tuple[Disturbance, ...] = ()
    outage: tuple[Outage, ...] = ()
    time: Time
    specification: tuple[Specification, ...] = ()
    controller: tuple[Controller, ...] = ()
    modes: Modes | None = None

    @model_validator(mode="after")
    def _no_shares(self) -> DynamicCircuitCase:
        if self.holdup.basis == "feed":
            refuse("a hold-up in feed is for the mass-flow model", '"outflow" or "boxes"')
        paths = [event.setting for _, event in happenings(self)] + [self.start.setting or ""]
        moved = any(path.endswith(".efficiency") for path in paths)
        if self.holdup.phases == "overflow" and (self.outage or moved):
            refuse("efficiencies stay where mixers run over", 'holdup.phases = "fixed"')
        return self
