"""What a cascade case file holds when its equilibrium is mass action or a correlation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from sepmodel import units
from sepmodel.extraction.inputs import MOST_STAGES, Efficiency, Member, require_stage
from sepmodel.fields import (
    Case,
    Concentration,
    Count,
    Flag,
    Flow,
    Name,
    Number,
    OpenFraction,
    Quantity,
    Real,
    Refusals,
    SetId,
    Table,
    Temperature,
    Text,
    refuse,
)
from sepmodel.species import OXIDES

Fraction = Annotated[float, Number("a fraction", low=0, high=1)]
Entrained = Annotated[float, Number("an entrained fraction", low=0, high=0.5)]
Sections = Literal["extraction", "scrub", "strip", "saponify"]
ORDER = ("extraction", "scrub", "strip", "saponify")
RETURNS = "the organic of a closed loop carries what it returned with: nothing brings more"
MolarMass = Annotated[float, Quantity("kg/mol", above=0)]


class Model(Table):
    """The equilibrium and its constants.

    ``mass-action``: log K of every component from ``set``, or, with ``separation_factors`` (a set
    of them), the log K of ``level`` from ``set`` and the others by their factors; ``log_k``
    replaces single values. The counter-ion's constant and soap stoichiometry come from ``soap``.
    ``activity`` is the basis of every constant; with another than ideal the activity coefficients
    of each stage's own solution are part of the answer.
    ``correlation``: log D = f(pH, dosage) of ``set``.
    ``second``: the set of a second acid in the same solvent; ``share`` of the extractant is the
    first.
    """

    equilibrium: Literal["mass-action", "correlation"]
    set: SetId | None = None
    second: SetId | None = None
    share: OpenFraction | None = None
    activity: Literal["ideal", "davies", "sit", "pitzer"] = "ideal"
    separation_factors: SetId | None = None
    level: Member | None = None
    log_k: dict[Member, Real] = Field(default_factory=dict)
    counter_ion: Literal["Na", "NH4", "Ca", "Mg"] | None = None
    soap: SetId = "extractants/soap"


class Organic(Table):
    """The solvent: ``extractant`` formal (monomer) concentration before saponification.

    ``saponification`` is the short way: the organic enters stage 1 with so much of its extractant
    as soap, whatever it returned with. The long way is a section "saponify" with a base inlet.
    """

    flow: Flow
    extractant: Annotated[float, Quantity("mol/m^3", above=0)]
    saponification: Fraction = 0.0
    composition: dict[Member, Text] = Field(default_factory=dict)


class Section(Table):
    """A stretch of stages; the organic runs through the sections in the order of the file."""

    name: Sections
    stages: Count
    efficiency: Efficiency | dict[Member, Efficiency] = 1.0
    temperature: Temperature | None = None
    entrainment_aq: Entrained = 0.0
    entrainment_org: Entrained = 0.0


class Inlet(Table):
    """An aqueous stream: concentrations by amount or by mass, free acid, sulfate in all.

    ``base`` is hydroxide of the counter-ion. ``stage`` counts from 1 inside the section; by
    default it is the section's last.
    """

    name: Name
    phase: Literal["aqueous"] = "aqueous"
    section: Sections
    stage: Count | None = None
    flow: Flow
    composition: dict[Member, Text] = Field(default_factory=dict)
    acid: Concentration = 0.0
    base: Concentration = 0.0
    sulfate: Concentration = 0.0


class Draw(Table):
    """A side stream of what leaves a stage."""

    name: Name
    phase: Literal["aqueous", "organic"]
    section: Sections
    stage: Count
    flow: Flow


class Recycle(Table):
    """What is returned: the organic to its first stage, strip liquor to the scrub section."""

    organic: Flag = False
    strip_reflux: Annotated[float, Number("a fraction", low=0, below=1)] = 0.0


def _nothing(text: str) -> bool:
    """Whether a quantity is zero; what is none is somebody else's to refuse."""
    try:
        return units.split(text)[0] == 0
    except ValueError:
        return True


class CircuitCase(Case):
    """An extraction circuit at steady state, with pH as an answer."""

    kind: Literal["cascade"]
    components: tuple[Member, ...] = Field(min_length=1)
    purity_basis: Literal["oxide-mass", "mole"] = "oxide-mass"
    model: Model
    organic: Organic
    section: tuple[Section, ...] = Field(min_length=1)
    inlet: tuple[Inlet, ...] = Field(min_length=1)
    draw: tuple[Draw, ...] = ()
    recycle: Recycle = Recycle()
    molar_mass: dict[Text, MolarMass] = Field(default_factory=dict)

    @property
    def stages(self) -> int:
        """Stages of all sections."""
        return sum(section.stages for section in self.section)

    @model_validator(mode="after")
    def _consistent(self) -> CircuitCase:
        wrong = Refusals()
        if len(set(self.components)) < len(self.components):
            wrong.add(
                "a component is named twice", "each once", ", ".join(self.components), "components"
            )
        if self.model.counter_ion in self.components:
            wrong.add(
                "the counter-ion is not listed among the components",
                f"components without {self.model.counter_ion}",
                ", ".join(self.components),
                "components",
            )
        known = not len(wrong)
        names = [section.name for section in self.section]
        if names != [name for name in ORDER if name in names]:
            wrong.add(
                "the sections do not follow the organic",
                ", ".join(ORDER),
                ", ".join(names),
                "section",
            )
        if self.stages > MOST_STAGES:
            wrong.add(
                "too many stages", f"at most {MOST_STAGES} in all sections", self.stages, "section"
            )
        counts: dict[str, int] = {s.name: s.stages for s in self.section}
        ports: list[Inlet | Draw] = [*self.inlet, *self.draw]
        given = [port.name for port in ports]
        if len(set(given)) < len(given):
            wrong.add(
                "a name of an inlet or draw is used twice",
                "names of their own",
                ", ".join(given),
                "inlet",
            )
        for port in ports:
            key = f"{'inlet' if isinstance(port, Inlet) else 'draw'}.{port.name}"
            wrong.of(require_stage, port, counts, key)
        tables: list[tuple[str, Iterable[str]]] = [
            (f"inlet.{inlet.name}.composition", inlet.composition) for inlet in self.inlet
        ]
        tables += [("organic.composition", self.organic.composition)]
        tables += [("model.log_k", self.model.log_k)]
        for key, named in tables:
            for name in sorted(named) if known else ():
                if name not in (*self.components, self.model.counter_ion):
                    wrong.add(
                        "a component that the case does not have",
                        f"one of {', '.join(self.components)}",
                        name,
                        f"{key}.{name}",
                    )
        level = self.model.level
        if known and level is not None and level not in self.components:
            wrong.add(
                "the level is no component of the case",
                f"one of {', '.join(self.components)}",
                level,
                "model.level",
            )
        if self.recycle.strip_reflux and {"scrub", "strip"} - set(names):
            wrong.add(
                "reflux of strip liquor needs a scrub and a strip section",
                "both sections, or strip_reflux = 0",
                self.recycle.strip_reflux,
                "recycle.strip_reflux",
            )
        if self.organic.saponification and self.model.counter_ion is None:
            wrong.add(
                "a saponified organic names its counter-ion",
                'model.counter_ion = "Na"',
                key="model.counter_ion",
            )
        if self.model.equilibrium == "correlation" and self.model.set is None:
            wrong.add(
                "a correlation comes from a set",
                'such as set = "correlations/..."',
                key="model.set",
            )
        bare = [name for name in self.components if name not in OXIDES]
        if self.purity_basis == "oxide-mass" and bare:
            wrong.add(
                f"no oxide mass is known for {', '.join(bare)}",
                "mole",
                self.purity_basis,
                "purity_basis",
            )
        for check in (self._returns, self._base_fits, self._activity_fits, self._mixture_fits):
            wrong.of(check)
        self._also(wrong)
        wrong.refuse()
        return self

    def _also(self, wrong: Refusals) -> None:
        """What a case of a further kind has to be besides."""

    @property
    def brought(self) -> tuple[str, ...]:
        """What the organic can bring along: in a closed loop the counter-ion it is given anew."""
        ion = self.model.counter_ion
        ions = () if ion is None else (ion,)
        if not self.recycle.organic:
            return (*self.components, *ions)
        return () if self.section[-1].name == "saponify" else ions

    def _returns(self) -> None:
        """Refuse metal in an organic that nobody supplies: it would come from nowhere."""
        wrong = Refusals()
        for name, text in self.organic.composition.items():
            if name not in self.brought and not _nothing(text):
                wrong.add(
                    RETURNS,
                    " or ".join((*self.brought, "recycle.organic = false")),
                    text,
                    f"organic.composition.{name}",
                )
        wrong.refuse()

    def _mixture_fits(self) -> None:
        model = self.model
        if (model.second is None) != (model.share is None):
            key = "model.share" if model.share is None else "model.second"
            refuse("a mixture of two acids names both", "model.second and model.share", key=key)
        if model.second is None:
            return
        given = model.second
        if model.equilibrium != "mass-action" or model.set is None:
            refuse("two acids are two mass-action sets", "model.set too", given, "model.second")
        if model.activity != "ideal":
            refuse("two acids are known of ideal activities only", "ideal", key="model.activity")
        for key in ("separation_factors", "log_k"):
            if getattr(model, key):
                expected = "two sets, each with its own constants"
                refuse("one constant for two acids", expected, key=f"model.{key}")
        if self.section[-1].name == "saponify":
            expected = "organic.saponification instead of the section"
            refuse("a saponify section knows one acid only", expected, given, "model.second")

    def _base_fits(self) -> None:
        names = [section.name for section in self.section]
        based = [inlet for inlet in self.inlet if inlet.base]
        if based and self.model.counter_ion is None:
            refuse(
                "base is the hydroxide of a counter-ion",
                'model.counter_ion = "Na"',
                key="model.counter_ion",
            )
        if based and self.model.equilibrium != "mass-action":
            refuse(
                "base needs a mass-action model",
                "mass-action",
                self.model.equilibrium,
                "model.equilibrium",
            )
        for inlet in based:
            if inlet.acid:
                refuse("acid and base at once", "one of the two", key=f"inlet.{inlet.name}.base")
        if "saponify" not in names:
            return
        if not self.recycle.organic:
            refuse(
                "a saponify section prepares the organic that returns",
                "true",
                False,
                "recycle.organic",
            )
        if not any(inlet.section == "saponify" for inlet in based):
            refuse(
                "no base enters the saponify section", 'an inlet with base = "5 mol/L"', key="inlet"
            )
        if self.organic.saponification:
            refuse(
                "the organic is saponified twice: by its section and by a fixed degree",
                "0 beside a saponify section",
                self.organic.saponification,
                "organic.saponification",
            )

    def _activity_fits(self) -> None:
        if self.model.activity == "ideal":
            return
        if self.model.equilibrium != "mass-action":
            refuse(
                "a correlation has no activities", "ideal", self.model.activity, "model.activity"
            )
        if self.section[-1].name == "saponify":
            refuse(
                "a saponify section knows ideal activities only",
                "ideal, or organic.saponification = 0.35 instead of the section",
                self.model.activity,
                "model.activity",
            )
        if any(inlet.sulfate for inlet in self.inlet):
            refuse(
                "activities are known of chloride liquors: every anion is taken as chloride",
                "ideal, or no sulfate",
                self.model.activity,
                "model.activity",
            )
