"""What a cascade case file holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Protocol

from pydantic import AfterValidator, Field, model_validator

from sepmodel.fields import (
    Case,
    Component,
    Count,
    Name,
    NonNegative,
    Number,
    Positive,
    Quantity,
    Refusals,
    SetId,
    Table,
    Text,
    refuse,
)
from sepmodel.species import CHARGES, OXIDES

MOST_STAGES = 2048
# Stand-ins of textbook examples, which name no element and therefore have no oxide mass.
PLACEHOLDERS = ("A", "B", "D", "E")

Share = Annotated[float, Number("a share by mole", low=0, high=1e9)]
Efficiency = Annotated[float, Number("a stage efficiency", above=0, high=1)]


def _member(value: str) -> str:
    if value not in (*CHARGES, *PLACEHOLDERS):
        refuse(
            "unknown element",
            f"a chemical symbol, or {', '.join(PLACEHOLDERS)} for an element without a name",
        )
    return value


Member = Annotated[Text, AfterValidator(_member)]


class Model(Table):
    """Which equilibrium, with the constants of which set."""

    equilibrium: Literal["mass-flow"]
    set: SetId | None = None
    activity: Literal["ideal"] | None = None


class Section(Table):
    """A stretch of stages; the organic runs through the sections in the order of the file."""

    name: Literal["extraction", "scrub"]
    stages: Count
    efficiency: Efficiency | dict[Member, Efficiency] = 1.0
    temperature: Annotated[float, Quantity("K", above=0)] | None = None


class Placed(Protocol):
    """What enters, leaves or is sampled at a stage of a section."""

    @property
    def section(self) -> str: ...

    @property
    def stage(self) -> int | None: ...


def require_stage(placed: Placed, stages: Mapping[str, int], key: str) -> None:
    """Refuse a section the case does not have, or a stage beyond its last."""
    if placed.section not in stages:
        refuse(
            "in no section of the case",
            f"one of {', '.join(stages)}",
            placed.section,
            f"{key}.section",
        )
    if placed.stage is not None and placed.stage > stages[placed.section]:
        refuse(
            f"beyond the last stage of {placed.section}",
            f"a stage from 1 to {stages[placed.section]}",
            placed.stage,
            f"{key}.stage",
        )


class Inlet(Table):
    """A feed: ``flow`` is its rare-earth molar flow in the unit of ``mass_flow``.

    ``stage`` counts from 1 inside the section; by default it is the section's last.
    """

    name: Name
    phase: Literal["aqueous", "organic"]
    section: Literal["extraction", "scrub"] = "extraction"
    stage: Count | None = None
    flow: Positive | None = None
    composition: dict[Member, Share] = Field(min_length=1)


class Draw(Table):
    """A side draw of ``flow`` (rare-earth molar flow in the unit of ``mass_flow``)."""

    name: Name
    phase: Literal["aqueous", "organic"]
    section: Literal["extraction", "scrub"]
    stage: Count
    flow: Positive


class MassFlow(Table):
    """Rare-earth molar flows, all in one unit of the user's choice (1 = the feed, by default).

    ``solvent`` is carried by the organic that leaves stage 1, ``scrub`` returns from the organic
    at the last stage. ``separation_factors`` replace those of the set: pairs ``"Nd/Pr" = 1.4``,
    or one relative extractability a component.
    """

    solvent: Positive
    scrub: NonNegative
    feed: Positive = 1.0
    separation_factors: dict[Text, Positive] | None = None


class CascadeCase(Case):
    """A counter-current cascade of mixer-settlers at steady state."""

    kind: Literal["cascade"]
    components: tuple[Member, ...] = Field(min_length=1)
    purity_basis: Literal["oxide-mass", "mole"] = "oxide-mass"
    model: Model
    section: tuple[Section, ...] = Field(min_length=1)
    inlet: tuple[Inlet, ...] = Field(min_length=1)
    draw: tuple[Draw, ...] = ()
    mass_flow: MassFlow

    @property
    def stages(self) -> int:
        """Stages of all sections."""
        return sum(section.stages for section in self.section)

    def place(self, section: str, stage: int | None) -> int:
        """Stage counted through all sections from 1, of a stage counted inside a section."""
        before = 0
        for member in self.section:
            if member.name == section:
                return before + (member.stages if stage is None else stage)
            before += member.stages
        raise KeyError(section)

    @model_validator(mode="after")
    def _consistent(self) -> CascadeCase:
        wrong = Refusals()
        if len(set(self.components)) < len(self.components):
            given = ", ".join(self.components)
            wrong.add("a component is named twice", "each once", given, "components")
        known = not len(wrong)
        sections: dict[str, int] = {s.name: s.stages for s in self.section}
        if len(sections) < len(self.section) or list(sections) != sorted(sections):
            wrong.add(
                "the sections do not follow the organic",
                "extraction, then scrub, each once",
                ", ".join(s.name for s in self.section),
                "section",
            )
        if self.stages > MOST_STAGES:
            most = f"at most {MOST_STAGES} in all sections"
            wrong.add("too many stages", most, self.stages, "section")
        ports: list[Inlet | Draw] = [*self.inlet, *self.draw]
        names = [port.name for port in ports]
        if len(set(names)) < len(names) or {"raffinate", "loaded_organic"} & set(names):
            wrong.add(
                "a name of an inlet or draw is used twice",
                "names of their own",
                ", ".join(names),
                "inlet",
            )
        for port in ports:
            key = f"{'inlet' if isinstance(port, Inlet) else 'draw'}.{port.name}"
            wrong.of(require_stage, port, sections, key)
        for inlet in self.inlet:
            if known:
                wrong.of(self._known, inlet.composition, f"inlet.{inlet.name}.composition")
            if not sum(inlet.composition.values()) > 0:
                key = f"inlet.{inlet.name}.composition"
                wrong.add("nothing enters", "shares that are not all zero", key=key)
        for section in self.section:
            if known and isinstance(section.efficiency, dict):
                wrong.of(self._known, section.efficiency, f"section.{section.name}.efficiency")
        if known:
            wrong.of(self._separation_factors_fit)
        if self.purity_basis == "oxide-mass":
            bare = [name for name in self.components if name not in OXIDES]
            if bare:
                wrong.add(
                    f"no oxide mass is known for {', '.join(bare)}",
                    "mole",
                    self.purity_basis,
                    "purity_basis",
                )
        self._also(wrong)
        wrong.refuse()
        return self

    def _also(self, wrong: Refusals) -> None:
        """What a case of a further kind has to be besides."""

    def _known(self, table: dict[Component, float], key: str) -> None:
        wrong = Refusals()
        for name in table:
            if name not in self.components:
                wrong.add(
                    "a component that the case does not have",
                    f"one of {', '.join(self.components)}",
                    name,
                    f"{key}.{name}",
                )
        wrong.refuse()

    def _separation_factors_fit(self) -> None:
        own = self.mass_flow.separation_factors
        if own is None:
            if self.model.set is None:
                refuse(
                    "no separation factors",
                    "model.set, or this table",
                    key="mass_flow.separation_factors",
                )
            return
        if self.model.set is not None:
            refuse(
                "separation factors both from a set and in the case",
                "this table, or model.set",
                key="mass_flow.separation_factors",
            )
        key = "mass_flow.separation_factors"
        pairs = [name for name in own if "/" in name]
        if pairs and len(pairs) < len(own):
            refuse("pairs and extractabilities are mixed", "one form", ", ".join(own), key)
        for pair in pairs:
            ends = set(pair.split("/"))
            if pair.count("/") != 1 or ends - set(self.components) or len(ends) < 2:
                refuse("not a pair of the components", 'such as "Nd/Pr"', pair, key)
        if not pairs and set(own) != set(self.components):
            refuse(
                "not an extractability for each component",
                ", ".join(self.components),
                ", ".join(own),
                key,
            )
