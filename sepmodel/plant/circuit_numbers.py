"""What differs between the members of one built circuit, as vectors of logarithms and as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel.plant.circuit_search import SCRUBBED
from sepmodel.plant.circuits import COUNTER_ION, Chemistry, Liquor, Task
from sepmodel.species import CHARGES

Array = NDArray[np.float64]
Members = NDArray[np.int64]

# What stands for none where a logarithm is taken: an element [mol/s], free acid [mol/m3].
LEAST, LEAST_ACID = 1e-60, 1e-9
# Strengths and shares of a chemistry that differ between members.
STRENGTHS = (
    "extractant",
    "saponification",
    "feed_acid",
    "scrub_acid",
    "strip_acid",
    "residue",
    "acid_excess",
    "phase_ratio_high",
)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Job:
    """One member: what enters, its constants, what may stray [mol/s], the strip's stages."""

    liquor: Liquor
    chemistry: Chemistry
    down: float
    up: float
    strip: int


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Numbers:
    """The members of one circuit as arrays (B,) or (B, C); flows are counted in ``organic``,
    ``scrub`` and ``strip``."""

    feed: Array
    flow: Array
    feed_acid: Array
    neutralised: Array
    log_k: Array
    dimer: Array
    soap: Array
    scrub_acid: Array
    strip_acid: Array
    residue: Array
    excess: Array
    organic: Array
    scrub: Array
    strip: Array
    asked: Array
    down: Array
    up: Array

    def take(self, who: Members) -> Numbers:
        """Some members."""
        return Numbers(**{name: getattr(self, name)[who] for name in self.__dataclass_fields__})


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Reader:
    """How a built circuit's members are read: its task and the elements that are unknowns."""

    task: Task
    names: tuple[str, ...]

    @property
    def components(self) -> tuple[str, ...]:
        """Elements and the counter-ion."""
        return (*self.names, COUNTER_ION)

    @property
    def per_mole(self) -> float:
        """Equivalents of a mole of rare earth."""
        return float(CHARGES[self.names[0]])

    @property
    def light(self) -> NDArray[np.bool_]:
        """Which elements leave with the raffinate."""
        return np.array([e in self.task.light for e in self.names])

    def vectors(self, jobs: Sequence[Job]) -> Array:
        """What differs between members (B, P): logarithms, in the order of ``numbers``."""
        rows = []
        for j in jobs:
            c = j.chemistry
            rows.append(
                [
                    *(max(j.liquor.moles.get(e, 0.0), LEAST) for e in self.names),
                    j.liquor.flow,
                    max(j.liquor.acid, LEAST_ACID * j.liquor.flow),
                    j.down,
                    j.up,
                    *(getattr(c, name) for name in STRENGTHS),
                ]
            )
        log_k = np.array([[j.chemistry.log_k[e] for e in self.components] for j in jobs])
        return np.concatenate([np.log(np.array(rows)), log_k], axis=1)

    def numbers(self, vectors: Array) -> Numbers:
        """The members as arrays, from their logarithms (B, P)."""
        task, names, per_mole = self.task, self.names, self.per_mole
        c = len(names)
        plain = np.exp(vectors[:, : c + 4 + len(STRENGTHS)])
        feeds, (flow, fed_acid, down, up) = plain[:, :c], plain[:, c : c + 4].T
        of = dict(zip(STRENGTHS, plain[:, c + 4 :].T, strict=True))
        neutralised = np.maximum(fed_acid - of["feed_acid"] * flow, 0.0)
        # Flows are counted in those of the design, for as much of its feed.
        size = feeds.sum(1) / sum(task.feed[e] for e in names)
        soap = of["extractant"] * of["saponification"]
        organic = task.solvent * size * per_mole / soap
        scrub = per_mole * max(task.scrub, SCRUBBED * task.solvent) * size
        asked = feeds[:, ~self.light].sum(1) - down + up
        least = 1.5 * organic / of["phase_ratio_high"]
        return Numbers(
            feed=np.concatenate([feeds, np.zeros((len(feeds), 1))], axis=1),
            flow=flow,
            feed_acid=(fed_acid - neutralised) / flow,
            neutralised=neutralised,
            log_k=vectors[:, c + 4 + len(STRENGTHS) :],
            dimer=of["extractant"] / 2,
            soap=soap,
            scrub_acid=np.minimum(of["scrub_acid"], scrub / least),
            strip_acid=of["strip_acid"],
            residue=of["residue"],
            excess=of["acid_excess"],
            organic=organic,
            scrub=scrub,
            strip=per_mole * asked,
            asked=asked,
            down=down,
            up=up,
        )
