"""Paths of a case file in events and controllers, as settings of a train."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import cast

from sepmodel import units
from sepmodel.errors import InfeasibleError, InputError, Problem
from sepmodel.extraction.dynamics.control import Loop
from sepmodel.extraction.dynamics.inputs import (
    MOST_LOOKS,
    Controller,
    DynamicCircuitCase,
    DynamicMassFlowCase,
    happenings,
)
from sepmodel.extraction.dynamics.limits import Said, beyond
from sepmodel.extraction.dynamics.policies import Leads
from sepmodel.extraction.dynamics.schedule import Event
from sepmodel.extraction.dynamics.trains import Train
from sepmodel.fields import meant
from sepmodel.species import molar_mass

# Unit of a setting by the last word of its path; a composition is recognised by its table.
UNITS = {"flow": "m^3/s", "acid": "mol/m^3", "sulfate": "mol/m^3", "extractant": "mol/m^3"}
# What names of a start-up policy's events begin with.
BEGIN = "start: "
PER_STAGE = ("efficiency", "entrainment_aq", "entrainment_org")


@dataclass(slots=True)
class Paths:
    """Translates, and remembers everything that is wrong."""

    case: DynamicMassFlowCase | DynamicCircuitCase
    train: Train
    problems: list[Problem] = field(default_factory=list)
    said: dict[Event, Said] = field(default_factory=dict)

    def check(self) -> None:
        """Raise what was wrong, all at once."""
        if self.problems:
            raise InputError(self.problems)

    def events(self) -> list[Event]:
        """The events of the case, outages included."""
        base = self.train.settings
        out = []
        for key, event in happenings(self.case):
            end = float("inf") if event.until is None else event.until
            where = f"{key}.{'value' if event.factor is None else 'factor'}"
            given = event.value if event.factor is None else event.factor
            if key.startswith("disturbance"):
                where, given = f"{key}.size", None
            number = None
            if event.value is not None:
                number = self.number(event.setting, event.value, where)
            for k, (setting, scale) in enumerate(
                self.targets(
                    event.setting,
                    f"{key}.kind" if key.startswith("disturbance") else f"{key}.setting",
                    event.first,
                    event.last,
                )
            ):
                if number is None:
                    assert event.factor is not None
                    value = event.factor * base[setting]
                    if k == 0 and base[setting] == 0.0:
                        self.problems.append(
                            Problem(
                                message="there is none of it, and a factor on nothing is nothing",
                                key=where,
                                value=given,
                                expected=f"a value of {event.setting}",
                            )
                        )
                else:
                    value = scale * number
                if k == 0:
                    self.within(event.setting, value / scale, where, given)
                out.append(
                    Event(
                        setting=setting,
                        start=event.at,
                        ramp=event.ramp,
                        end=end,
                        value=value,
                        name=event.name or event.setting,
                    )
                )
                self.said[out[-1]] = Said(key=where, value=given)
        for i, outage in enumerate(self.case.outage):
            path = f"section.{outage.section}.efficiency"
            last = outage.first if outage.last is None else outage.last
            count = self.sections().get(outage.section, (0, 0))[1]
            if not 1 <= outage.first <= last <= count:
                known = f"1 to {count}" if count else f"one of {', '.join(self.sections())}"
                self.problems.append(
                    Problem(
                        message=f"no such stage of {outage.section}"
                        if count
                        else "no such section",
                        key=f"outage.{i}.{'first' if count else 'section'}",
                        value=f"{outage.first} to {last}" if count else outage.section,
                        expected=known,
                    )
                )
                continue
            for setting, _ in self.targets(path, f"outage.{i}", outage.first, last):
                out.append(
                    Event(
                        setting=setting, start=outage.at, end=outage.until, value=0.0,
                        name=f"outage of {outage.section}",
                    )
                )  # fmt: skip
                self.said[out[-1]] = Said(key=f"outage.{i}", value=f"{outage.first} to {last}")
        return out

    def lead(self) -> list[str]:
        """The train's settings behind what a lead of the start holds."""
        start = self.case.start
        if start.setting is None:
            return []
        found = [name for name, _ in self.targets(start.setting, "start.setting", None, None)]
        if start.factor is not None and found:
            value = start.factor * self.train.settings[found[0]]
            scale = self.targets(start.setting, "start.setting", None, None)[0][1]
            self.within(start.setting, value / scale, "start.factor", start.factor)
        return found

    def led(self, leads: Leads) -> list[Event]:
        """The events of a start-up policy, to be blamed where the train cannot run with it."""
        start = self.case.start
        key, value = "start.policy", cast("object", start.policy)
        if start.factor is not None:
            key, value = "start.factor", start.factor
        elif start.product is not None:
            key, value = "start.product", start.product
        try:
            events = list(leads.events(self.train.settings))
        except InfeasibleError as error:
            self.problems.append(Problem(message=str(error), key=key, value=value))
            return []
        named = [replace(event, name=f"{BEGIN}{start.policy}") for event in events]
        self.said |= {event: Said(key=key, value=value) for event in named}
        return named

    def within(self, path: str, value: float, key: str, given: object) -> None:
        """Note a value (SI) that the case's own key would refuse."""
        circuit = isinstance(self.case, DynamicCircuitCase)
        wrong = beyond(path, value, circuit=circuit)
        if wrong is not None:
            message, expected = wrong
            self.problems.append(
                Problem(message=message, key=key, value=given, expected=f"{path}: {expected}")
            )

    def loops(self, weights: tuple[float, ...], dry: float) -> list[Loop]:
        """The controllers of the case; an outlet with no more than ``dry`` has no purity."""
        out = []
        moved = {event.setting: said.key for event, said in self.said.items()}
        for i, given in enumerate(self.case.controller):
            key = f"controller.{i}"
            targets = self.targets(given.setting, f"{key}.setting", None, None)
            if not targets:
                continue
            setting, scale = targets[0]
            if setting in moved:
                self.problems.append(
                    Problem(
                        message=f"moved already by {moved[setting]}",
                        key=f"{key}.setting",
                        value=given.setting,
                        expected="a setting of its own",
                    )
                )
            moved[setting] = key
            found = len(self.problems)
            numbers = {
                name: scale * self.number(given.setting, getattr(given, name), f"{key}.{name}")
                for name in ("gain", "low", "high")
                if getattr(given, name) is not None
            }
            numbers.setdefault("gain", 0.0)
            if len(self.problems) == found:
                for name in ("low", "high"):
                    text = getattr(given, name)
                    self.within(given.setting, numbers[name] / scale, f"{key}.{name}", text)
                if not numbers["low"] < numbers["high"]:
                    self.problems.append(
                        Problem(
                            message="a controller's limits rise",
                            key=f"{key}.low",
                            value=given.low,
                            expected=f"below high, {given.high}",
                        )
                    )
            self.measured(i, given)
            stage = 1
            if given.section is not None:
                bounds = self.sections()
                if given.section not in bounds or given.stage > bounds[given.section][1]:
                    self.problems.append(
                        Problem(message="no such stage", key=f"{key}.stage", value=given.stage)
                    )
                    continue
                stage = bounds[given.section][0] + given.stage
            out.append(
                Loop(
                    name=given.name,
                    measure=given.measure,
                    setting=setting,
                    target=float("nan") if given.target is None else given.target,
                    time=float("inf") if given.time is None else given.time,
                    interval=given.interval,
                    delay=given.delay,
                    stage=stage,
                    component=given.component or "",
                    outlet=given.outlet or "",
                    start=given.start,
                    weights=weights,
                    dry=dry if given.measure == "purity" else 0.0,
                    **numbers,
                )
            )
        return out

    def measured(self, i: int, given: Controller) -> None:
        """Note what a controller cannot measure, or would look at too often."""
        key = f"controller.{i}"
        if given.measure == "pH" and isinstance(self.case, DynamicMassFlowCase):
            self.problems.append(
                Problem(
                    message="the mass-flow model knows no pH",
                    key=f"{key}.measure",
                    value="pH",
                    expected='"share_aq", "share_org" or "purity"',
                )
            )
        if given.component is not None and given.component not in self.train.components:
            self.unknown(f"{key}.component", given.component)
        looks = (self.case.time.end - given.start) / given.interval
        if looks > MOST_LOOKS:
            self.problems.append(
                Problem(
                    message=f"the controller would look {looks:.3g} times",
                    key=f"{key}.interval",
                    value=given.interval,
                    expected=f"at most {MOST_LOOKS} looks, one in "
                    f"{(self.case.time.end - given.start) / MOST_LOOKS:.3g} s",
                )
            )

    def unknown(self, key: str, name: str) -> None:
        """Note a component that the case has not, or that is no product."""
        self.problems.append(
            Problem(
                message="no such component",
                key=key,
                value=name,
                expected=f"one of {', '.join(self.case.components)}",
            )
        )

    def sections(self) -> dict[str, tuple[int, int]]:
        """Stages before each section, and its own number."""
        out: dict[str, tuple[int, int]] = {}
        at = 0
        for section in self.case.section:
            out[section.name] = (at, section.stages)
            at += section.stages
        return out

    def targets(
        self, path: str, key: str, first: int | None, last: int | None
    ) -> list[tuple[str, float]]:
        """Settings of the train behind a path, and what a value of the path is multiplied with."""
        parts = path.split(".")
        base = self.train.settings
        if parts[0] == "section" and len(parts) == 3 and parts[2] in PER_STAGE:
            bounds = self.sections()
            if parts[1] in bounds:
                before, count = bounds[parts[1]]
                low, high = first or 1, last or (count if first is None else first)
                names = [f"stage.{before + k}.{parts[2]}" for k in range(low, high + 1)]
                if not 1 <= low <= high <= count:
                    self.problems.append(
                        Problem(
                            message=f"no such stages of {parts[1]}",
                            key=f"{key.rsplit('.', 1)[0]}.first",
                            value=f"{low} to {high}",
                            expected=f"1 to {count}",
                        )
                    )
                    return []
                if all(name in base for name in names):
                    return [(name, 1.0) for name in names]
        elif path in ("organic.saponification", "organic.extractant") and isinstance(
            self.case, DynamicCircuitCase
        ):
            organic = self.case.organic
            ion = self.case.model.counter_ion
            if path == "organic.saponification" and ion is not None:
                return [(f"organic.composition.{ion}", organic.extractant)]
            if path == "organic.extractant":
                out = [("organic.dimer", base["organic.dimer"] / organic.extractant)]
                if ion is not None and organic.saponification:
                    out.append((f"organic.composition.{ion}", organic.saponification))
                return out
        else:
            name = path.removeprefix("mass_flow.")
            if name in base:
                return [(name, 1.0)]
        known = [name for name in base if not name.startswith("stage.")]
        known += [f"section.{name}.efficiency" for name in self.sections()]
        self.problems.append(
            Problem(
                message=f"nothing that can change{meant(path, known)}",
                key=key,
                value=path,
                expected='a path such as "inlet.feed.flow" or "section.scrub.efficiency"',
            )
        )
        return []

    def number(self, path: str, value: str | float, key: str) -> float:
        """A value as the train takes it: SI, or as it stands where the case has bare numbers."""
        parts = path.split(".")
        unit = UNITS.get(parts[-1], "")
        composition = "composition" in parts
        if isinstance(self.case, DynamicMassFlowCase) or (not unit and not composition):
            if isinstance(value, str):
                self.problems.append(
                    Problem(message="a bare number is wanted", key=key, value=value)
                )
                return 1.0
            return value
        if not isinstance(value, str):
            self.problems.append(
                Problem(
                    message="a quantity is text with a unit",
                    key=key,
                    value=value,
                    expected=f'such as "1.0 {unit or "mol/L"}"',
                )
            )
            return 1.0
        try:
            if not composition:
                return units.si(value, unit, key=key)
            try:
                return units.si(value, "mol/m^3", key=key)
            except InputError:
                mass = units.si(value, "kg/m^3", key=key)
                own = self.case.molar_mass.get(parts[-1])
                return mass / (molar_mass(parts[-1]) if own is None else own)
        except InputError as error:
            self.problems += error.problems
            return 1.0
