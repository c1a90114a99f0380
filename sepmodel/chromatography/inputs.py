"""What a column case file holds."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from sepmodel.fields import (
    MOST_FLOW,
    PH,
    Case,
    Composition,
    Count,
    Flag,
    Name,
    NonNegative,
    Number,
    OpenFraction,
    Positive,
    Quantity,
    RareEarth,
    SetId,
    Table,
    refuse,
)

Length = Annotated[float, Quantity("m", above=0)]

# A lanmodulin column: pH above which hydroxide would count, and bed volumes of one step, which no
# column of this kind passes before it is full or empty.
MOST_PH = 8.0
MOST_BED_VOLUMES = 1e4


class Model(Table):
    """How liquid moves, how metals bind, and with the constants of which set.

    "equilibrium-stages" or "dispersive" (transport, with protons that move) with the "pair-law" of
    a protein (a set under ``proteins/``), or
    "constant-pattern" with the "constant-selectivity" of a ligand (a set under ``ligands/``).
    """

    transport: Literal["equilibrium-stages", "dispersive", "constant-pattern"]
    binding: Literal["pair-law", "constant-selectivity"]
    set: SetId
    presaturant: Literal["Cu"] = "Cu"


class Bed(Table):
    """The packed bed. What is not given comes from the data sets of the model.

    ``porosity`` is the liquid per bed volume; ``plates`` replaces length over plate height;
    ``dispersion`` (interstitial) and ``rate`` (linear driving force; without it binding is at
    equilibrium) are not for stages;
    ``capacity`` is rare earth per bed volume at saturation.
    """

    length: Length | None = None
    diameter: Length
    porosity: Annotated[float, Number("a liquid fraction", above=0, below=1)] | None = None
    plates: Count | None = None
    capacity: Annotated[float, Quantity("mol/m^3", above=0)] | None = None
    dispersion: Annotated[float, Quantity("m^2/s", low=0)] | None = None
    rate: Annotated[float, Quantity("1/s", above=0)] | None = None


class Step(Table):
    """A stretch of the inlet programme: so many ``bed_volumes`` or a ``duration`` at ``flow``.

    Lanmodulin columns need the ``pH``, and with dispersive transport may have ``ligands`` (by name,
    malonate, acetate ...) and a gradient: the liquor is mixed, in linear proportion to the time,
    into one of ``pH_end`` and ``ligands_end`` (each as at the beginning unless given). A
    displacement column has a step with a ``composition`` and one with the ``ligand`` concentration
    that drives the train out.
    """

    name: Name
    flow: Annotated[float, Quantity("m^3/s", above=0, high=MOST_FLOW)]
    bed_volumes: Annotated[float, Number("bed volumes", above=0, high=MOST_BED_VOLUMES)] | None = (
        None
    )
    duration: Annotated[float, Quantity("s", above=0)] | None = None
    composition: Composition = Field(default_factory=dict)
    pH: PH | None = None
    ligands: dict[Name, Annotated[float, Quantity("mol/m^3", low=0)]] = Field(default_factory=dict)
    pH_end: PH | None = None
    ligands_end: dict[Name, Annotated[float, Quantity("mol/m^3", low=0)]] | None = None
    ligand: Annotated[float, Quantity("mol/m^3", above=0)] | None = None

    @property
    def graded(self) -> bool:
        """Whether its liquor changes while it lasts."""
        return self.pH_end is not None or self.ligands_end is not None

    @model_validator(mode="after")
    def _consistent(self) -> Step:
        if (self.bed_volumes is None) == (self.duration is None):
            refuse(f"how long {self.name} lasts", "either bed_volumes or duration")
        return self


class PoolSpec(Table):
    """What is collected together: the effluent of some ``steps`` of a lanmodulin column, or the
    bands of some ``elements`` of a displacement train, at a mole ``purity`` of those elements."""

    product: Name
    steps: tuple[Name, ...] = ()
    elements: tuple[RareEarth, ...] = ()
    purity: OpenFraction | None = None


class Numerics(Table):
    """How the equations are solved."""

    scheme: Literal["galerkin", "limited"] = "galerkin"
    degree: Count | None = None
    elements: Count | None = None
    cells: Count | None = None
    shells: Annotated[int, Number("a count of at least 2", low=2, whole=True)] | None = None
    tolerance: OpenFraction | None = None
    estimate: Flag = True

    @model_validator(mode="after")
    def _consistent(self) -> Numerics:
        if self.scheme == "galerkin" and self.cells is not None:
            refuse("a Galerkin scheme has no cells", "degree and elements")
        if self.scheme == "limited" and (self.degree or self.elements):
            refuse("a limited scheme has neither degree nor elements", "cells")
        return self


class Cycles(Table):
    """A column that repeats its programme: its cyclic steady state is what is told.

    Over a life of ``count`` cycles the capacity falls, each time by the same share, until the last
    one finds ``capacity_left`` of it.
    """

    count: Count = 1
    capacity_left: Annotated[float, Number("a share of the capacity", above=0, high=1)] = 1.0

    def capacity(self, cycle: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of the capacity that a cycle (from 0) finds."""
        last = max(self.count - 1, 1)
        return np.asarray(self.capacity_left ** (cycle / last), dtype=float)


class ColumnCase(Case):
    """A packed column with an inlet programme and pools."""

    kind: Literal["column"]
    model: Model
    column: Bed
    step: tuple[Step, ...] = Field(min_length=1)
    pool: tuple[PoolSpec, ...] = Field(min_length=1)
    cycles: Cycles | None = None
    numerics: Numerics | None = None

    @model_validator(mode="after")
    def _consistent(self) -> ColumnCase:
        steps = [step.name for step in self.step]
        pools = [pool.product for pool in self.pool]
        if len(set(steps)) < len(steps) or len(set(pools)) < len(pools):
            refuse("a step or pool is named twice", "names of their own", ", ".join(steps + pools))
        if {"feed", "remainder", "mixed"} & set(pools):
            refuse("a pool has a reserved name", "other names than feed, remainder and mixed")
        metals = {e for step in self.step for e, c in step.composition.items() if c > 0}
        if not metals:
            refuse("no step brings any metal", "a composition in one step at least")
        if self.model.transport != "dispersive" and self.numerics is not None:
            refuse("only dispersive transport has numerics", "no such table")
        if self.model.transport != "dispersive" and self.cycles is not None:
            refuse("only dispersive transport repeats its cycles", "no such table")
        if self.model.transport != "dispersive" and any(step.graded for step in self.step):
            refuse("only dispersive transport has gradients", "steps without an end of their own")
        if self.column.rate is not None and self.cycles is not None:
            refuse("binding with a rate is not repeated", "no rate: binding at equilibrium")
        if self.model.transport in ("equilibrium-stages", "dispersive"):
            self._lanmodulin(steps)
        else:
            self._displacement(metals)
        return self

    def _lanmodulin(self, steps: list[str]) -> None:
        if self.model.binding != "pair-law" or not self.model.set.startswith("proteins/"):
            refuse(
                f"{self.model.transport} transport binds by the pair law",
                'binding = "pair-law", set = a protein',
            )
        for step in self.step:
            if step.pH is None or step.ligand is not None:
                refuse(f"step {step.name} of a lanmodulin column", "a pH and no ligand")
            for key, value in (("pH", step.pH), ("pH_end", step.pH_end)):
                if value is not None and not 0 <= value <= MOST_PH:
                    refuse(
                        "lanmodulin columns know no hydroxide and no strong acid",
                        f"a pH from 0 to {MOST_PH:g}",
                        value,
                        f"step.{step.name}.{key}",
                    )
        if any(step.ligands or step.ligands_end for step in self.step):
            if self.model.transport != "dispersive":
                refuse("equilibrium stages know no ligands", 'transport = "dispersive"')
            if self.column.rate is not None:
                refuse("binding with a rate knows no ligands", "no rate: binding at equilibrium")
        collected = [name for pool in self.pool for name in pool.steps]
        for pool in self.pool:
            if not pool.steps or any(name not in steps for name in pool.steps):
                refuse(f"the steps of pool {pool.product}", f"some of {', '.join(steps)}")
        if len(set(collected)) < len(collected):
            refuse("a step is collected in two pools", "each step in one pool at most")

    def _displacement(self, metals: set[str]) -> None:
        if any(step.ligands for step in self.step):
            refuse("a displacement column takes its ligand from the model's set", "ligand")
        if self.model.binding != "constant-selectivity" or not self.model.set.startswith(
            "ligands/"
        ):
            refuse(
                "a constant pattern has constant selectivity",
                'binding = "constant-selectivity", set = a ligand',
            )
        drives = [step for step in self.step if step.ligand is not None]
        if len(drives) != 1 or drives[0] is not self.step[-1] or drives[0].composition:
            refuse("displacement ends with one step of ligand and no metal", "one such last step")
        for pool in self.pool:
            if not pool.elements or pool.purity is None or not set(pool.elements) <= metals:
                refuse(
                    f"pool {pool.product} of a displacement train",
                    f"elements among {', '.join(sorted(metals))} and a purity",
                )
        named = [e for pool in self.pool for e in pool.elements]
        if len(set(named)) < len(named):
            refuse("an element belongs to two pools", "each element in one pool at most")


LEAST_PECLET = 1e-2
"""Velocity length over (void dispersion) below which a bed is a stirred tank."""
Dimensionless = dict[Name, NonNegative]
PerLength = Annotated[float, Quantity("m/s", above=0)]
Diffusivity = Annotated[float, Quantity("m^2/s", above=0)]
Held = Annotated[float, Quantity("mol/m^3", above=0)]
Strength = Annotated[float, Quantity("m^3/mol", low=0)]
Seconds = Annotated[float, Quantity("s", above=0)]


class Packing(Table):
    """A bed: interstitial ``velocity`` is u/void; without beads ``void`` is all the liquid."""

    length: Length
    velocity: PerLength
    void: Annotated[float, Number("a liquid fraction", above=0, below=1)]
    dispersion: Annotated[float, Quantity("m^2/s", low=0)]


class Porous(Table):
    """Beads; without ``diffusion`` the lumped rate model."""

    radius: Length
    porosity: Annotated[float, Number("a liquid fraction", above=0, below=1)]
    film: dict[Name, PerLength]
    diffusion: dict[Name, Diffusivity] | None = None


class LinearLaw(Table):
    """q = K c."""

    law: Literal["linear"]
    coefficient: Dimensionless


class LangmuirLaw(Table):
    """q = Q K c / (1 + sum K c)."""

    law: Literal["langmuir"]
    constant: dict[Name, Strength]
    capacity: dict[Name, Held]


class SelectivityLaw(Table):
    """q = Q a c / sum a c."""

    law: Literal["constant-selectivity"]
    selectivity: dict[Name, Positive]
    capacity: Held


class Stretch(Table):
    """A section of the inlet programme: ``composition`` at its beginning, ``final`` at its end."""

    duration: Seconds
    composition: dict[Name, Annotated[float, Quantity("mol/m^3", low=0)]]
    final: dict[Name, Annotated[float, Quantity("mol/m^3", low=0)]] | None = None


class ElutionCase(Case):
    """A column of any components with explicit constants: transport, isotherm, inlet programme."""

    kind: Literal["elution"]
    components: tuple[Name, ...] = Field(min_length=1)
    bed: Packing
    beads: Porous | None = None
    isotherm: Annotated[LinearLaw | LangmuirLaw | SelectivityLaw, Field(discriminator="law")]
    rate: dict[Name, Annotated[float, Quantity("1/s", above=0)]] | None = None
    section: tuple[Stretch, ...] = Field(min_length=1)
    initial: dict[Name, Annotated[float, Quantity("mol/m^3", low=0)]] = Field(default_factory=dict)
    numerics: Numerics = Field(default_factory=Numerics)
    every: Seconds

    @model_validator(mode="after")
    def _consistent(self) -> ElutionCase:
        names = set(self.components)
        if len(names) < len(self.components):
            refuse("a component is named twice", "each component once", ", ".join(self.components))
        complete = {"rate": self.rate}
        if self.beads is not None:
            complete.update(
                {"beads.film": self.beads.film, "beads.diffusion": self.beads.diffusion}
            )
        for key, value in self.isotherm:
            complete[f"isotherm.{key}"] = value if isinstance(value, dict) else None
        for key, table in complete.items():
            if table is not None and set(table) != names:
                refuse(f"{key} has not one value for each component", ", ".join(self.components))
        partial = [self.initial, *(s.composition for s in self.section)]
        partial += [s.final for s in self.section if s.final is not None]
        if unknown := sorted({n for table in partial for n in table} - names):
            refuse("not among the components", ", ".join(self.components), ", ".join(unknown))
        if isinstance(self.isotherm, SelectivityLaw):
            self._always_full()
        mixed = self.bed.velocity * self.bed.length / self.bed.void
        if self.bed.dispersion * LEAST_PECLET > mixed:
            refuse(
                f"at a Peclet number of {mixed / self.bed.dispersion:.2g} a bed is a stirred tank",
                f"at most {mixed / LEAST_PECLET:.3g} m^2/s here: velocity length / (void "
                f"dispersion) of {LEAST_PECLET:g} and more",
                self.bed.dispersion,
                "bed.dispersion",
            )
        return self

    def _always_full(self) -> None:
        """A resin of constant selectivity is full of what stands beside it: never of nothing."""
        said = "the resin is always full (constant-selectivity), but the liquid holds nothing"
        tables = {"initial": self.initial}
        for number, section in enumerate(self.section):
            tables[f"section.{number}.composition"] = section.composition
            if section.final is not None:
                tables[f"section.{number}.final"] = section.final
        for key, table in tables.items():
            if not sum(table.values()) > 0:
                refuse(said, "a concentration above 0 of a component at least", table, key)


class WantedProduct(Table):
    """A product of a displacement plant: elements that leave together, at a purity and recovery."""

    name: Name
    elements: tuple[RareEarth, ...] = Field(min_length=1)
    purity: OpenFraction
    recovery: OpenFraction
    purity_basis: Literal["oxide-mass", "mole"] = "oxide-mass"


class DisplacementCase(Case):
    """Displacement columns with zone splitting: designed, then run on the transport engine.

    ``feed`` are molar flows after iron and aluminium removal, ``ligands`` those that may be used,
    ``ligand_recycle`` the share of the ligand that is used again (the data's unless given),
    ``confirm`` whether every column is simulated, with ``cells`` for each boundary, and
    ``estimate`` whether once more on half of them, for the error of the grid.
    """

    kind: Literal["displacement"]
    feed: dict[Name, Annotated[float, Quantity("mol/s", above=0)]] = Field(min_length=1)
    product: tuple[WantedProduct, ...] = Field(min_length=1)
    ligands: tuple[Name, ...] = ("edta", "dtpa")
    zone_splitting: Flag = True
    length: Length | None = None
    velocity: Annotated[float, Quantity("m/s", above=0)] | None = None
    ligand_recycle: OpenFraction | None = None
    confirm: Flag = True
    cells: Count | None = None
    estimate: Flag = True

    @model_validator(mode="after")
    def _consistent(self) -> DisplacementCase:
        names = [p.name for p in self.product]
        if len(set(names)) < len(names):
            refuse("a product is named twice", "names of their own", ", ".join(names))
        if missing := sorted({e for p in self.product for e in p.elements} - set(self.feed)):
            refuse("a product of an element that is not in the feed", ", ".join(self.feed), missing)
        return self
