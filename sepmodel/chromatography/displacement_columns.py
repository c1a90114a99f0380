"""Columns of a displacement plant: size, time, zone lengths and the ligand that passes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sepmodel.chromatography import constant_pattern as pattern
from sepmodel.chromatography.displacement_operation import Operation, presaturant_volume
from sepmodel.chromatography.zones import Position


@dataclass(frozen=True, kw_only=True, slots=True)
class DisplacementColumn:
    """One column position: what it separates, its bands, size and time; strict SI, mol/s.

    ``bands`` [m], ``single_pass_yield``, mole ``purity`` and ``members`` by outlet, fastest first;
    what is mixed returns to the column's own feed (``recycled``) or goes to the columns named in
    ``hands_on``.
    """

    name: str
    ligand: str
    outlets: tuple[str, ...]
    alpha: Mapping[str, float]
    zone_length: Mapping[str, float]
    bands: Mapping[str, float]
    single_pass_yield: Mapping[str, float]
    load_fraction: float
    length: float
    velocity: float
    mixing_length: float
    fresh: Mapping[str, float]
    throughput: float
    mixed_share: float
    hands_on: tuple[str, ...]
    recycled: bool
    cycle_time: float
    volume: float
    productivity: float
    purity: Mapping[str, float]
    members: Mapping[str, tuple[str, ...]]


def sized(position: Position, run: Operation) -> DisplacementColumn:
    """Size, time and zone lengths of a column that handles its moles of fresh metal [mol/s]."""
    names = [g.name for g in position.groups]
    pairs = [f"{a}/{b}" for a, b in pairwise(names)]
    fed = {e: n for e, n in position.moles.items() if n > 0}
    velocity = position.velocity
    load, mixing = sum(position.bands) / run.length, run.mixing(velocity)
    throughput = sum(fed.values()) / (1 - position.mixed if position.recycled else 1.0)
    beds = throughput / (load * run.capacity)
    train = pattern.train_velocity(velocity, run.ligand_conc, run.capacity)
    regenerating = (presaturant_volume(run) + run.rinse_volume) * run.length / velocity
    cycle = (1 + load) * run.length / train + regenerating
    lengths = pattern.zone_length(position.alphas, mixing).tolist()
    return DisplacementColumn(
        name=position.name,
        ligand=position.ligand,
        outlets=tuple(names),
        alpha=dict(zip(pairs, position.alphas, strict=True)),
        zone_length=dict(zip(pairs, lengths, strict=True)),
        bands=dict(zip(names, position.bands, strict=True)),
        single_pass_yield=dict(zip(names, position.yields, strict=True)),
        load_fraction=load,
        length=run.length,
        velocity=velocity,
        mixing_length=mixing,
        fresh=fed,
        throughput=throughput,
        mixed_share=position.mixed,
        hands_on=position.hands_on,
        recycled=position.recycled,
        cycle_time=cycle,
        volume=beds * cycle,
        productivity=sum(fed.values()) / (beds * cycle),
        purity=dict(zip(names, position.purity, strict=True)),
        members={g.name: g.elements for g in position.groups},
    )


def bed_rate(column: DisplacementColumn, run: Operation) -> float:
    """Bed volume a column position turns over [m3/s]."""
    return column.throughput / (column.load_fraction * run.capacity)


def circulated_ligand(columns: Sequence[DisplacementColumn], run: Operation) -> dict[str, float]:
    """Ligand that passes the columns [mol/s] by ligand: (1 + load) bed capacities a cycle."""
    used: dict[str, float] = {}
    for c in columns:
        amount = bed_rate(c, run) * (1 + c.load_fraction) * run.capacity
        used[c.ligand] = used.get(c.ligand, 0.0) + amount
    return used
