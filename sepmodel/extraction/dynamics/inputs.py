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
    Refusals,
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
# Sections whose aqueous liquor is metal that left with the organic.
PRODUCTS = ("strip", "saponify")
LEADS = ("reflux", "split", "staged", "lead")
MOST_OUTPUTS, MOST_MAPS, MOST_ROUNDS, MOST_MODES = 4096, 512, 8, 8
# Looks of a controller in a run, and cells of a settler (16 are plug flow within 0.1 %).
MOST_LOOKS, MOST_CELLS = 100_000, 256
Cells = Annotated[int, Number("a count", low=1, high=MOST_CELLS, whole=True)]
VOLUMES = ("mixer_aq", "mixer_org", "settler_aq", "settler_org")
# Cells of a settler in plug flow: what a train's outlets do then differs from a true delay in every
# settler by less than 0.1 % of the time, and by half as much with twice as many.
PLUG = 16


def _shown(value: object) -> object:
    """A value as a problem shows it: what is no single value is not shown."""
    return value if isinstance(value, str | float | int) else None


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
        wrong = Refusals()
        given = {name for name in self.model_fields_set if getattr(self, name) is not None}
        by_time, volumes = "mixer" in given, [name for name in VOLUMES if name in given]
        if by_time or not volumes:
            if not by_time:
                wrong.add("a hold-up is a time or two volumes", "mixer, or mixer_aq and mixer_org")
            for name in volumes[:1]:
                instead = name.partition("_")[0]
                wrong.add("a hold-up is a time or volumes, not both",
                          f"{instead} as a time", getattr(self, name), name)  # fmt: skip
        else:
            for phase, other in (
                ("mixer_aq", "mixer_org"),
                ("mixer_org", "mixer_aq"),
                ("settler_aq", "settler_org"),
                ("settler_org", "settler_aq"),
            ):
                if phase not in given and (other in given or phase.startswith("mixer")):
                    part = phase.partition("_")[0]
                    wrong.add(f"a {part} holds both phases", f"{part}_aq and {part}_org", key=phase)
            for name in ("settler", "basis"):
                if name in given:
                    wrong.add("a hold-up is a time or volumes, not both", "volumes",
                              getattr(self, name), name)  # fmt: skip
        settled = self.settler > 0 or self.settler_aq is not None
        for name in ("cells", "dead"):
            if name in given and not settled:
                wrong.add("there is no settler", "a settler", getattr(self, name), name)
        if self.weir is not None and (self.phases == "fixed" or not settled or self.cells != 1):
            wrong.add("an interface moves in a mixed settler behind a mixer that runs over",
                      'phases = "overflow", a settler, cells = 1', self.weir, "weir")  # fmt: skip
        if self.reset is not None and self.weir is None:
            wrong.add("a level controller moves the crest of a weir", "a weir too", self.reset,
                      "reset")  # fmt: skip
        wrong.refuse()
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
        wrong = Refusals()
        policy, find = self.policy, self.find
        if self.profile and self.fill != "feed":
            wrong.add("a steady state has its own shares" if self.fill == "steady"
                      else "nothing is in it that could have shares",
                      'fill = "feed"', self.fill, "profile")  # fmt: skip
        owners = {"product": ("split", "staged"), "steps": ("staged",), "setting": ("lead",),
                  "factor": ("lead",)}  # fmt: skip
        if policy == "none":
            owners |= {"duration": LEADS, "find": LEADS}
        given = {name for name in self.model_fields_set if name != "duration" or self.duration > 0}
        for name, kinds in owners.items():
            if name in given and policy not in kinds:
                whose = "a start without a policy" if policy == "none" else policy
                wrong.add(f"{whose} has no {name}", 'policy = "' + '" or "'.join(kinds) + '"',
                          _shown(getattr(self, name)), name)  # fmt: skip
        if policy == "none":
            wrong.refuse()
            return self
        if policy == "lead" and self.setting is None:
            wrong.add(
                "a lead holds a setting", 'such as setting = "inlet.feed.flow"', key="setting"
            )
        level = {"split": "product", "lead": "factor"}.get(policy)
        if find is None:
            if not self.duration > 0:
                wrong.add("a policy lasts", 'such as "10 d", or find', key="duration")
            if level is not None and getattr(self, level) is None:
                wrong.add(f"a {policy} has a {level}", f"{level}, or find", key=level)
        else:
            for name in ("duration", "product", "factor"):
                if name in given and policy in owners.get(name, (policy,)):
                    wrong.add("what is found is not given", f"find or {name}",
                              _shown(getattr(self, name)), name)  # fmt: skip
            if find.levels is not None and policy == "reflux":
                wrong.add("total reflux has no levels", "find.durations alone", key="find.levels")
            elif find.levels is not None and policy != "lead" and max(find.levels) > 1:
                wrong.add("a product's part of the feed is at most 1", "levels up to 1",
                          max(find.levels), "find.levels")  # fmt: skip
        wrong.refuse()
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
        wrong = Refusals()
        if (self.value is None) == (self.factor is None):
            wrong.add("an event sets a value or a factor", "one of value and factor",
                      self.factor, "factor" if self.factor is not None else "value")  # fmt: skip
        wrong.of(_over, self.at, self.until, self.ramp)
        wrong.refuse()
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
        wrong = Refusals()
        for name in wanted:
            if getattr(self, name) is None:
                wrong.add(f"{self.kind} names its {' and '.join(wanted)}", "this key", key=name)
        known = {
            "feed-surge": ("inlet",),
            "crud": ("section", "first", "last"),
            "entrainment": ("section", "first", "last"),
        }.get(self.kind, wanted)
        for name in ("inlet", "component", "section", "first", "last"):
            if name not in known and getattr(self, name) is not None:
                expected = f"of these {', '.join(known)}" if known else "none of these"
                wrong.add(f"{self.kind} knows no {name}", expected, getattr(self, name), name)
        wrong.of(_over, self.at, self.until, self.ramp)
        wrong.refuse()
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
        wrong = Refusals()
        if self.gain is None and self.tune is None:
            wrong.add("a controller has a gain, or is tuned", "gain, or tune", key="gain")
        if self.tune is not None:
            for name in ("gain", "time"):
                if getattr(self, name) is not None:
                    wrong.add("what is tuned is not given", f"{name} or tune",
                              getattr(self, name), name)  # fmt: skip
        if self.tune == 0.0:
            wrong.add("a step of nothing moves nothing", "a small part such as 0.01", 0.0, "tune")
        if self.target is None and self.tune is None:
            wrong.add("a controller has a target", "target, or tune", key="target")
        used = {"purity": ("outlet", "component"), "pH": ("section", "stage")}.get(
            self.measure, ("section", "stage", "component")
        )
        for name in ("section", "stage", "component", "outlet"):
            if name in self.model_fields_set and name not in used:
                wrong.add(f"{self.measure} is not measured by its {name}", ", ".join(used),
                          getattr(self, name), name)  # fmt: skip
            if name in used and getattr(self, name) is None:
                wrong.add(f"{self.measure} is measured by its {name}", " and ".join(used),
                          key=name)  # fmt: skip
        low, high = (ACIDIC, ALKALINE) if self.measure == "pH" else (0.0, 1.0)
        if self.target is not None and not low <= self.target <= high:
            wrong.add(f"no {self.measure} comes there", f"{low:g} to {high:g}", self.target,
                      "target")  # fmt: skip
        wrong.refuse()
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

    def _also(self, wrong: Refusals) -> None:
        for name in VOLUMES:
            if getattr(self.holdup, name) is not None:
                wrong.add("the mass-flow model knows no volumes",
                          f"{name.partition('_')[0]} as a time", getattr(self.holdup, name),
                          f"holdup.{name}")  # fmt: skip
        if self.holdup.phases != "fixed":
            wrong.add("the mass-flow model knows no volumes", '"fixed"', self.holdup.phases,
                      "holdup.phases")  # fmt: skip
        if self.start.fill == "fresh":
            wrong.add("the mass-flow model cannot start without metal", '"feed" or "steady"',
                      "fresh", "start.fill")  # fmt: skip
        _alike(self, wrong)


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

    def _also(self, wrong: Refusals) -> None:
        if self.holdup.basis == "feed":
            wrong.add("a hold-up in feed is for the mass-flow model", '"outflow" or "boxes"',
                      "feed", "holdup.basis")  # fmt: skip
        if not any(inlet.composition for inlet in self.inlet):
            wrong.add("no inlet brings metal", "a composition of one of them", key="inlet")
        if self.holdup.phases == "overflow":
            moved = {f"{key}.setting" if key.startswith("event") else key: event.setting
                     for key, event in happenings(self)}  # fmt: skip
            moved |= {"start.setting": self.start.setting or ""}
            moved |= {f"controller.{i}.setting": loop.setting
                      for i, loop in enumerate(self.controller)}  # fmt: skip
            moving = {key: path for key, path in moved.items() if path.endswith(".efficiency")}
            moving |= {f"outage.{i}": outage.section for i, outage in enumerate(self.outage)}
            for key, path in moving.items():
                wrong.add("efficiencies stay where mixers run over", 'holdup.phases = "fixed"',
                          path, key)  # fmt: skip
        _alike(self, wrong)


def _alike(case: DynamicMassFlowCase | DynamicCircuitCase, wrong: Refusals) -> None:
    """Note what stands twice, of which only one would hold."""
    begun: dict[tuple[str, float, int, int], str] = {}
    for key, event in happenings(case):
        stages = (event.first or 0, event.last or 0)
        before = begun.setdefault((event.setting, event.at, *stages), key)
        if before != key:
            wrong.add(f"{before} sets the same at the same moment", "one of the two",
                      event.setting, f"{key}.at")  # fmt: skip
    wanted: dict[tuple[str, str, float], int] = {}
    for i, spec in enumerate(case.specification):
        if wanted.setdefault((spec.outlet, spec.component, spec.purity), i) != i:
            wrong.add("the same specification twice", "another", spec.purity,
                      f"specification.{i}.purity")  # fmt: skip
    filled: dict[tuple[str, int], int] = {}
    for i, part in enumerate(case.start.profile):
        last = next((s.stages for s in case.section if s.name == part.section), part.first)
        last = last if part.last is None else min(part.last, last)
        owners = {filled.setdefault((part.section, k), i) for k in range(part.first, last + 1)}
        if owners - {i}:
            wrong.add(f"start.profile.{min(owners - {i})} fills some of these stages too",
                      "stages of its own", part.section, f"start.profile.{i}")  # fmt: skip
