"""Streams: a phase, its volume flow and the concentrations of its components."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel.errors import InputError, Problem
from sepmodel.species import RARE_EARTHS, molar_mass, oxide_mass_per_mole

PHASES = ("aqueous", "organic", "solid")


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Stream:
    """A stream: ``flow`` [m3/s] and ``moles`` [mol/s] of each component, in the order of ``names``.

    A solid has no volume flow (``flow`` = 0). Arrays are copied and read-only.

    >>> s = Stream(names=("Nd", "Pr"), flow=1e-3, moles=np.array([0.3, 0.1]))
    >>> float(s.conc[0])
    300.0
    """

    names: tuple[str, ...]
    moles: NDArray[np.float64]
    flow: float = 0.0
    phase: str = "aqueous"
    temperature: float | None = None

    def __post_init__(self) -> None:
        moles = np.array(self.moles, dtype=float)
        problems = []
        if moles.shape != (len(self.names),):
            problems.append(Problem(message="one molar flow per component", value=moles.shape))
        elif not np.all(np.isfinite(moles)) or np.any(moles < 0):
            problems.append(
                Problem(
                    message="a molar flow is negative or not finite",
                    value=dict(zip(self.names, moles.tolist(), strict=True)),
                )
            )
        if not (np.isfinite(self.flow) and self.flow >= 0):
            problems.append(
                Problem(message="a volume flow is negative or not finite", value=self.flow)
            )
        if self.phase not in PHASES:
            problems.append(
                Problem(message="unknown phase", value=self.phase, expected=", ".join(PHASES))
            )
        if problems:
            raise InputError(problems)
        moles.setflags(write=False)
        object.__setattr__(self, "moles", moles)

    @property
    def conc(self) -> NDArray[np.float64]:
        """Concentrations [mol/m3], shape (C,); InputError for a solid."""
        if self.flow <= 0:
            raise InputError(Problem(message="a stream without volume flow has no concentrations"))
        return self.moles / self.flow

    def __getitem__(self, name: str) -> float:
        """Molar flow [mol/s] of one component, zero when the stream does not carry it."""
        return float(self.moles[self.names.index(name)]) if name in self.names else 0.0

    def scaled(self, factor: float) -> Stream:
        """The same stream at ``factor`` times its flow."""
        return Stream(
            names=self.names,
            moles=self.moles * factor,
            flow=self.flow * factor,
            phase=self.phase,
            temperature=self.temperature,
        )

    def split(
        self, fractions: Mapping[str, float] | float, flow_fraction: float
    ) -> tuple[Stream, Stream]:
        """Two streams: ``fractions`` of each component (0 where not named) and the rest."""
        share = np.array(
            [
                fractions if isinstance(fractions, float) else fractions.get(n, 0.0)
                for n in self.names
            ],
            dtype=float,
        )
        first = Stream(
            names=self.names,
            moles=self.moles * share,
            flow=self.flow * flow_fraction,
            phase=self.phase,
            temperature=self.temperature,
        )
        second = Stream(
            names=self.names,
            moles=self.moles - first.moles,
            flow=self.flow - first.flow,
            phase=self.phase,
            temperature=self.temperature,
        )
        return first, second

    def oxide_mass(self) -> dict[str, float]:
        """Mass flow [kg/s] of each rare earth as its oxide."""
        return {n: self[n] * oxide_mass_per_mole(n) for n in self.names if n in RARE_EARTHS}


def mix(streams: Sequence[Stream]) -> Stream:
    """The sum of streams of one phase; components are the union, in order of first appearance."""
    if not streams or len({s.phase for s in streams}) != 1:
        raise InputError(Problem(message="only streams of one phase can be mixed"))
    names = tuple(dict.fromkeys(n for s in streams for n in s.names))
    moles = np.array([sum(s[n] for s in streams) for n in names])
    return Stream(
        names=names, moles=moles, flow=sum(s.flow for s in streams), phase=streams[0].phase
    )


def moles_from_oxide_shares(shares: Mapping[str, float], oxide_mass: float) -> dict[str, float]:
    """Moles of each element in ``oxide_mass`` [kg or kg/s] of mixed oxide of given mass shares.

    Shares are normalised to their sum, as assays rarely close to 100 %.
    """
    total = sum(shares.values())
    if total <= 0 or any(not s >= 0 for s in shares.values()):
        raise InputError(
            Problem(message="oxide shares are not negative and not all zero", value=dict(shares))
        )
    return {e: oxide_mass * s / total / oxide_mass_per_mole(e) for e, s in shares.items()}


def moles_from_metal_shares(shares: Mapping[str, float], mass: float) -> dict[str, float]:
    """Moles of each element in ``mass`` [kg or kg/s] of metal of given mass fractions (0-1)."""
    if any(not 0 <= s <= 1 for s in shares.values()) or sum(shares.values()) > 1 + 1e-9:
        raise InputError(
            Problem(
                message="mass fractions lie between 0 and 1 and add to at most 1",
                value=dict(shares),
            )
        )
    return {e: mass * s / molar_mass(e) for e, s in shares.items()}
