"""Bed and operation of displacement columns, as the data sets have resin, flows and recovery."""

from __future__ import annotations

from dataclasses import dataclass

from sepmodel.chromatography import constant_pattern as pattern
from sepmodel.data import Book
from sepmodel.species import CHARGES


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """Bed and operation of displacement columns, strict SI. Read by ``operation(book)``."""

    resin_eq: float
    void: float
    dispersion: float
    rate: float
    velocity_rated: float
    velocity: float
    ligand_conc: float
    length: float
    presaturant_conc: float
    presaturant_excess: float
    rinse_volume: float
    load_most: float
    mixed_most: float
    byproduct_purity: float
    allowance_used: float
    ligand_recycle: float
    acid_per_ligand: float
    base_per_ligand: float
    presaturant_recycle: float
    loss: float
    preference: float
    ahead_most: float
    base_metal_most: float
    pressure: float
    pump_efficiency: float
    resin_life: float

    @property
    def resin(self) -> float:
        """Rare earth on the resin per bed volume [mol/m3]: a third of the equivalents."""
        return self.resin_eq / CHARGES["Nd"]

    @property
    def capacity(self) -> float:
        """Rare earth per bed volume of train [mol/m3]."""
        return pattern.bed_capacity(self.void, self.ligand_conc, self.resin)

    def mixing(self, velocity: float) -> float:
        """Mixing length [m]; dispersion grows with velocity as in any packed bed."""
        dispersion = self.dispersion * velocity / self.velocity_rated
        return pattern.mixing_length(
            velocity, self.ligand_conc, self.capacity, self.void, dispersion, self.rate
        )


def operation(
    book: Book,
    *,
    resin: str = "strong-acid-x8",
    length: float | None = None,
    velocity: float | None = None,
) -> Operation:
    """Bed and operation from ``resins/``; ``length`` [m] and ``velocity`` [m/s] override."""
    bed, run = f"resins/{resin}:", "resins/displacement-operation:"
    rated = book[run + "velocity"]
    return Operation(
        resin_eq=book[bed + "capacity-eq"],
        void=book[bed + "void"],
        dispersion=book[bed + "dispersion"],
        rate=book[bed + "rate"],
        resin_life=book[bed + "life"],
        velocity_rated=rated,
        velocity=rated if velocity is None else velocity,
        length=book[run + "length"] if length is None else length,
        ligand_conc=book[run + "ligand-conc"],
        presaturant_conc=book[run + "presaturant-conc"],
        presaturant_excess=book[run + "presaturant-excess"],
        rinse_volume=book[run + "rinse-volume"],
        load_most=book[run + "load-most"],
        mixed_most=book[run + "mixed-most"],
        byproduct_purity=book[run + "byproduct-purity"],
        allowance_used=book[run + "allowance-used"],
        ligand_recycle=book[run + "ligand-recycle"],
        acid_per_ligand=book[run + "acid-per-ligand"],
        base_per_ligand=book[run + "base-per-ligand"],
        presaturant_recycle=book[run + "presaturant-recycle"],
        loss=book[run + "handling-loss"],
        preference=book[run + "resin-preference-presaturant"],
        ahead_most=book[run + "ahead-most"],
        base_metal_most=book[run + "base-metal-most"],
        pressure=book[run + "pressure-drop"],
        pump_efficiency=book[run + "pump-efficiency"],
    )


def presaturant_volume(run: Operation) -> float:
    """Bed volumes of presaturant solution per regeneration."""
    return run.resin_eq / CHARGES["Cu"] * run.presaturant_excess / run.presaturant_conc
