"""What a design gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sepmodel import files
from sepmodel.extraction.confirm import Confirmation
from sepmodel.extraction.design import CircuitDesign
from sepmodel.extraction.design_curve import Point
from sepmodel.extraction.design_flows import Flows, Plant
from sepmodel.extraction.explain import Statement
from sepmodel.extraction.robust import RobustDesign
from sepmodel.extraction.tolerance import Sensitivity
from sepmodel.result import Result, Warned, amount


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One specification, what the design reaches and what decides: ``kind`` is purity, recovery
    or the element a limit is set for."""

    product: str
    outlet: str
    kind: str
    asked: float
    reached: float
    met: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """How a plant must hold one input: relative change that a margin bears, and that doubles what
    is foreign or lost; ``product`` suffers first."""

    name: str
    low: float
    high: float
    doubling: float
    product: str


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Design:
    """A circuit designed from specifications, with everything said about it.

    ``circuit`` holds stages, solvent and scrub per mole of feed, outlets and bounds; ``flows``
    volume flows and reagents; ``curve`` the circuits it was chosen among; ``asked`` the
    specifications and what is reached; ``sensitivity`` the derivatives and ``held`` what they mean;
    ``result`` streams, profiles and evidence of the circuit solved as a whole; ``document`` its
    case file. ``recheck`` is the largest difference to the stage-to-stage marches, an independent
    calculation. ``confirmation`` is the mass-action circuit, ``robust`` what a probability costs.
    """

    name: str
    status: str
    circuit: CircuitDesign
    plant: Plant
    flows: Flows
    curve: tuple[Point, ...]
    asked: tuple[Asked, ...]
    statements: tuple[Statement, ...]
    sensitivity: Sensitivity
    held: tuple[Held, ...]
    result: Result
    document: Mapping[str, Any]
    recheck: float
    hold_up: float
    response: float
    objective: str
    names: Mapping[str, str]
    confirmation: Confirmation | None = None
    robust: RobustDesign | None = None
    warnings: Sequence[Warned] = ()
    seconds: float = 0.0
    inputs_hash: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The design as one JSON object."""
        circuit = self.circuit
        base = self.result.to_dict()
        base["solver"]["seconds"] = self.seconds
        flows = {
            name: amount(getattr(self.flows, name), "m^3/h")
            for name in ("organic", "feed", "scrub", "strip")
        }
        document: dict[str, Any] = files.plain(
            {
                **base,
                "kind": "design",
                "name": self.name,
                "status": self.status,
                "inputs_hash": self.inputs_hash,
                "design": {
                    "cut": f"{circuit.light[-1]}|{circuit.heavy[0]}",
                    "stages_extraction": circuit.stages_extraction,
                    "stages_scrub": circuit.stages_scrub,
                    "stages_strip": self.plant.strip_stages,
                    "feed_stage": circuit.stages_extraction,
                    "solvent": circuit.solvent,
                    "scrub": circuit.scrub,
                    "objective": {"minimise": self.objective, "value": circuit.objective},
                    "flows": flows,
                    "acid": amount(self.flows.acid, "mol/h"),
                    "base": amount(self.flows.base, "mol/h"),
                    "saponification": self.plant.saponification,
                    "scrub_acid": amount(self.plant.scrub_acid, "mol/L"),
                    "strip_acid": amount(self.plant.strip_acid, "mol/L"),
                    "loading": amount(self.plant.loading, "mol/L"),
                    "phase_ratio": {
                        section: self.flows.ratio(section)
                        for section in ("extraction", "scrub", "strip")
                        if section != "scrub" or circuit.stages_scrub
                    },
                    "lock_up": amount(self.hold_up, "mol"),
                    "response": amount(self.response, "hour"),
                },
                "bounds": dict(circuit.minimum),
                "specifications": [
                    {
                        "product": a.product,
                        "outlet": a.outlet,
                        "kind": a.kind,
                        "asked": a.asked,
                        "reached": a.reached,
                        "met": a.met,
                    }
                    for a in self.asked
                ],
                "curve": [
                    {
                        "solvent": p.solvent,
                        "scrub": p.scrub,
                        "stages_extraction": p.stages_extraction,
                        "stages_scrub": p.stages_scrub,
                        "phi": p.phi,
                        "objective": p.objective,
                        "lock_up": amount(p.lock_up, "mol"),
                        "broken": list(p.broken),
                    }
                    for p in self.curve
                ],
                "tolerances": {
                    "held": [
                        {
                            "input": h.name,
                            "margin_low": h.low,
                            "margin_high": h.high,
                            "doubling": h.doubling,
                            "product": h.product,
                        }
                        for h in self.held
                    ],
                    "slopes": {
                        quality.name: dict(zip(self.sensitivity.parameters, row, strict=True))
                        for quality, row in zip(
                            self.sensitivity.qualities,
                            self.sensitivity.purity_slope.tolist(),
                            strict=True,
                        )
                    },
                },
                "explanation": [s.to_dict() for s in self.statements],
                "recheck": self.recheck,
                "confirmation": None if self.confirmation is None else self.confirmation.to_dict(),
                "robust": None if self.robust is None else self.robust.to_dict(),
            }
        )
        return document

    def to_json(self, path: str) -> Any:
        """Write the design as one JSON file (whole or not at all)."""
        return files.write_atomic(path, files.json_text(self.to_dict()))
