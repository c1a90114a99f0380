"""What both column routes hand on: pools with their moles, volume and acidity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sepmodel.errors import InputError, Problem
from sepmodel.result import Warned
from sepmodel.species import CHARGES, RARE_EARTHS

RESOLVED = 1e-2
"""Estimated error of an outlet over its peak, or of a purity, above which a result says so."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pool:
    """A collected outlet of a column plant, averaged over whole cycles.

    ``moles`` [mol/s] by element, ``flow`` [m3/s] of liquor (0 where nothing liquid leaves), ``pH``
    where the eluent fixes it, ``ligand`` the name of the ligand the metals are still bound to.

    >>> Pool(name="light", moles={"Nd": 2.0}, flow=0.5).conc
    {'Nd': 4.0}
    """

    name: str
    moles: Mapping[str, float] = field(default_factory=dict)
    flow: float = 0.0
    pH: float | None = None
    ligand: str = ""

    @property
    def conc(self) -> dict[str, float]:
        """Concentrations [mol/m3]; empty where no liquor leaves."""
        return {e: n / self.flow for e, n in self.moles.items()} if self.flow > 0 else {}

    @property
    def total(self) -> float:
        """Rare earths [mol/s]."""
        return rare_earth_total(self.moles)


def rare_earth_total(moles: Mapping[str, float]) -> float:
    """Sum of the rare earths among ``moles``.

    >>> rare_earth_total({"Nd": 1.0, "Dy": 0.5, "Ca": 3.0})
    1.5
    """
    return sum(n for e, n in moles.items() if e in RARE_EARTHS)


def resolution_warning(
    error: float | None, what: str = "the outlet", of: str = " of its peak"
) -> list[Warned]:
    """A warning when the estimated error of a column's solution, over its peak, is worth saying.

    >>> [w.code for w in resolution_warning(0.08)], resolution_warning(0.001)
    (['coarse-solution'], [])
    """
    if error is None or not error > RESOLVED:
        return []
    return [
        Warned(
            code="coarse-solution",
            message=f"{what} differs by {error:.1%}{of} from that on a coarser grid with a "
            "tenfold tolerance: more cells, or a smaller tolerance",
        )
    ]


def check_feed(feed: Mapping[str, float]) -> None:
    """InputError unless every molar flow is of a known element, finite and not negative."""
    problems = [
        Problem(message="unknown element in the feed", key=e, expected="an element or ion")
        for e in feed
        if e not in CHARGES
    ]
    problems += [
        Problem(message="a molar flow is negative or not finite", key=e, value=n)
        for e, n in feed.items()
        if not 0 <= n < float("inf")
    ]
    if not problems and not rare_earth_total(feed) > 0:
        problems.append(Problem(message="the feed holds no rare earth", value=dict(feed)))
    if problems:
        raise InputError(problems)


def check_groups(groups: Sequence[Sequence[str]], feed: Mapping[str, float]) -> None:
    """InputError when an element belongs to two products or a product finds nothing in the feed."""
    named = [e for group in groups for e in group]
    problems = [
        Problem(message="an element belongs to two products", value=e)
        for e in dict.fromkeys(named)
        if named.count(e) > 1
    ]
    problems += [
        Problem(message="the feed holds none of", value=list(group))
        for group in groups
        if not sum(feed.get(e, 0.0) for e in group) > 0
    ]
    if problems:
        raise InputError(problems)
