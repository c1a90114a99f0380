"""Paths of a case file in events and controllers, as settings of a train."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from sepmodel import units
from sepmodel.errors import InfeasibleError, InputError, Problem
from sepmodel.extraction.circuit_inputs import RETURNS
from sepmodel.extraction.dynamics import inputs as given_inputs
from sepmodel.extraction.dynamics.inputs import (
    PRODUCTS,
    DynamicCircuitCase,
    DynamicMassFlowCase,
    happenings,
)
from sepmodel.extraction.dynamics.limits import Said, beyond
from sepmodel.extraction.dynamics.network import Network
from sepmodel.extraction.dynamics.policies import Leads
from sepmodel.extraction.dynamics.schedule import Event
from sepmodel.extraction.dynamics.trains import Train
from sepmodel.fields import meant
from sepmodel.species import CHARGES, molar_mass

Array = NDArray[np.float64]

# Unit of a setting by the last word of its path; a composition is recognised by its table.
UNITS = {"flow": "m^3/s", "acid": "mol/m^3", "base": "mol/m^3",
         "sulfate": "mol/m^3", "extractant": "mol/m^3"}  # fmt: skip
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
    # From when to when [s] it is not known what an event that is wrong would do.
    doubtful: list[tuple[float, float]] = field(default_factory=list)
    # Whether the train's settings are those of the case, and none that stand in for them.
    designed: bool = True

    def check(self) -> None:
        """Raise what was wrong, all at once."""
        if self.problems:
            raise InputError(self.problems)

    def events(self) -> list[Event]:
        """The events of the case, outages included; those that are wrong are left out."""
        out: list[Event] = []
        for key, event in happenings(self.case):
            end = float("inf") if event.until is None else event.until
            before = len(self.problems)
            made = self.made(key, event, end)
            if len(self.problems) > before:
                self.doubtful.append((event.at, end + event.ramp))
                continue
            self.said |= made
            out += made
        for i, outage in enumerate(self.case.outage):
            before = len(self.problems)
            made = self.outage(i, outage)
            if len(self.problems) > before:
                self.doubtful.append((outage.at, outage.until))
            self.said |= made
            out += made
        return out

    def made(self, key: str, given: given_inputs.Event, end: float) -> dict[Event, Said]:
        """What an event of the case does to the train's settings."""
        base = self.train.settings
        where = f"{key}.{'value' if given.factor is None else 'factor'}"
        said: object = given.value if given.factor is None else given.factor
        if key.startswith("disturbance"):
            where = f"{key}.size"
            said = self.case.disturbance[int(key.split(".")[1])].size
        setting = f"{key}.{self.blamed(key)}"
        targets = self.targets(given.setting, setting, given.first, given.last)
        found = len(self.problems)
        number = 0.0
        if given.value is not None and targets:
            number = self.number(given.setting, given.value, where)
        out: dict[Event, Said] = {}
        for k, (name, scale) in enumerate(targets if len(self.problems) == found else []):
            value = scale * number if given.factor is None else given.factor * base[name]
            none = self.designed and base[name] == 0.0
            if given.factor is not None and k == 0 and none:
                self.refuse(where, said, "there is none of it, and a factor on nothing is nothing",
                            f"a value of {given.setting}")  # fmt: skip
            if k == 0:
                self.within(given.setting, value / scale, where, said)
            event = Event(
                setting=name, start=given.at, ramp=given.ramp, end=end, value=value,
                name=given.name or given.setting,
            )  # fmt: skip
            out[event] = Said(key=where, value=None if key.startswith("dist") else said)
        return out

    def outage(self, i: int, given: given_inputs.Outage) -> dict[Event, Said]:
        """What an outage does to the train's settings."""
        key = f"outage.{i}"
        last = given.first if given.last is None else given.last
        count = self.sections().get(given.section, (0, 0))[1]
        if not count:
            self.refuse(f"{key}.section", given.section, "no such section",
                        f"one of {', '.join(self.sections())}")  # fmt: skip
            return {}
        if not 1 <= given.first <= last <= count:
            self.refuse(f"{key}.first", f"{given.first} to {last}",
                        f"no such stage of {given.section}", f"1 to {count}")  # fmt: skip
            return {}
        targets = self.targets(f"section.{given.section}.efficiency", key, given.first, last)
        said = Said(key=key, value=f"{given.first} to {last}")
        return {
            Event(setting=name, start=given.at, end=given.until, value=0.0,
                  name=f"outage of {given.section}"): said
            for name, _ in targets
        }  # fmt: skip

    def blamed(self, key: str) -> str:
        """What an event or disturbance says its setting with."""
        table, number = key.split(".")
        if table == "event":
            return "setting"
        given = self.case.disturbance[int(number)]
        if given.inlet is not None and given.component is not None:
            known = any(inlet.name == given.inlet for inlet in self.case.inlet)
            return "component" if known else "inlet"
        return next((n for n in ("inlet", "section") if getattr(given, n) is not None), "kind")

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

    def refuse(self, key: str, value: object, message: str, expected: str) -> None:
        """Note that something is wrong."""
        self.problems.append(Problem(message=message, key=key, value=value, expected=expected))

    def counted(self, key: str, name: str, weights: tuple[float, ...]) -> None:
        """Note a component that the case has not, or that counts for nothing in purities."""
        pairs = zip(self.train.components, weights, strict=True)
        counted = [other for other, weight in pairs if weight > 0]
        if name not in counted:
            self.refuse(key, name, "no such component", f"one of {', '.join(counted)}")

    def outlet(
        self,
        key: str,
        name: str,
        net: Network | None,
        labels: dict[str, str],
        weights: tuple[float, ...],
    ) -> str:
        """The train's own name of an outlet by which product leaves; noted where there is none.

        Without a network only the names are looked at.
        """
        if net is None:
            ends = [labels[s.name] for s in self.case.section if s.name in PRODUCTS]
            names = ["raffinate", *ends, labels.get("organic", "loaded_organic")]
            names += [draw.name for draw in self.case.draw]
            if name not in names:
                self.refuse(key, name, "no such outlet", f"one of {', '.join(names)}")
            return name
        counted = np.array(weights) > 0
        known = {labels.get(own, own): own for own in net.ports}
        leaving = [
            label for label, own in known.items()
            if net.ports[own].share[: counted.size][counted].any()
        ]  # fmt: skip
        if name not in leaving:
            message = "nothing leaves there: it returns" if name in known else "no such outlet"
            self.refuse(key, name, message, f"one of {', '.join(leaving)}")
        return known.get(name, "")

    def rows(self) -> dict[int, Array]:
        """Shares (C,) of the stages (from 0) that the start's profile gives."""
        names = self.train.components
        out: dict[int, Array] = {}
        for i, part in enumerate(self.case.start.profile):
            key = f"start.profile.{i}"
            if part.section not in self.sections():
                self.refuse(f"{key}.section", part.section, "no such section",
                            f"one of {', '.join(self.sections())}")  # fmt: skip
                continue
            before, count = self.sections()[part.section]
            last = count if part.last is None else part.last
            if not part.first <= last <= count:
                self.refuse(key, f"{part.first} to {last}", "no such stages", f"1 to {count}")
                continue
            known = self.case.components
            unknown = sorted(set(part.composition) - set(known))
            if unknown:
                self.refuse(f"{key}.composition", ", ".join(unknown), "no such component",
                            f"one of {', '.join(known)}")  # fmt: skip
            if part.section in PRODUCTS:
                self.refuse(f"{key}.section", part.section, "it starts without metal",
                            "extraction or scrub")  # fmt: skip
            shares = np.array([part.composition.get(name, 0.0) for name in names])
            if not unknown and not shares.sum() > 0:
                self.refuse(f"{key}.composition", part.composition, "nothing is in these stages",
                            "shares that are not all zero")  # fmt: skip
            for k in range(before + part.first - 1, before + last):
                out[k] = shares / max(shares.sum(), np.finfo(float).tiny)
        return out

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
        if parts[0] == "stage":
            self.refuse(key, path, "stages are those of a section",
                        'such as "section.scrub.efficiency", with first and last')  # fmt: skip
            return []
        for name, value in (("first", first), ("last", last)):
            if value is not None and not (parts[0] == "section" and parts[-1] in PER_STAGE):
                self.problems.append(
                    Problem(
                        message="stages are those of a section's efficiency or entrainment",
                        key=f"{key.rsplit('.', 1)[0]}.{name}",
                        value=value,
                        expected=f"no {name} beside {path}",
                    )
                )
        based = self.based()
        hidden = {name for each in based.values() for name, _ in each}
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
            if path == "organic.saponification" and self.case.section[-1].name == "saponify":
                self.refuse(key, path, "the organic is saponified by its section",
                            " or ".join(based))  # fmt: skip
                return []
            if path == "organic.saponification" and ion is not None:
                return [(f"organic.composition.{ion}", organic.extractant)]
            if path == "organic.extractant":
                out = [("organic.dimer", base["organic.dimer"] / organic.extractant)]
                if ion is not None and organic.saponification:
                    out.append((f"organic.composition.{ion}", organic.saponification))
                return out
        elif path in based:
            # A salt of the ion beside its base would go with it.
            held = [base[name] / scale for name, scale in based[path]]
            if np.allclose(held, held[0]):
                return based[path]
        elif path in self.returning():
            self.refuse(key, path, RETURNS, "an inlet, or recycle.organic = false")
            return []
        else:
            name = path.removeprefix("mass_flow.")
            if name in base and name not in hidden:
                return [(name, 1.0)]
            for own, each in based.items():
                if name in dict(each):
                    self.refuse(key, path, "acid or soap beside a base", own)
                    return []
        hidden |= self.returning()
        known = [name for name in base if not name.startswith("stage.") and name not in hidden]
        known += based
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

    def returning(self) -> set[str]:
        """Settings of what the organic carries that nobody gives it: it comes back with it."""
        if not isinstance(self.case, DynamicCircuitCase):
            return set()
        brought = self.case.brought
        return {f"organic.composition.{n}" for n in self.train.components if n not in brought}

    def based(self) -> dict[str, list[tuple[str, float]]]:
        """Paths of bases, with the train's settings behind each: less acid, and its own ion."""
        if not isinstance(self.case, DynamicCircuitCase) or self.case.model.counter_ion is None:
            return {}
        ion = self.case.model.counter_ion
        return {
            f"inlet.{inlet.name}.base": [
                (f"inlet.{inlet.name}.acid", -1.0),
                (f"inlet.{inlet.name}.composition.{ion}", 1.0 / CHARGES[ion]),
            ]
            for inlet in self.case.inlet
            if inlet.base
        }

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
