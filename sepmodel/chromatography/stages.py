"""A lanmodulin bed as equilibrium stages: cells in series that settle by the pair law.

A bed of length L is L / plate height well-mixed cells. Loading and elution move a share of each
cell's liquid to the next and let every cell settle; the pH of a step holds in the whole bed (in
``proton_stages`` it is an outcome).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sepmodel.chromatography.binding import PairLaw, pair_law, settle, site_strength
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError, InputError, Problem

Array = NDArray[np.float64]

_MARCH_TOLERANCE = 1e-3
_FIRST_SITES = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """How a lanmodulin column is run; SI, bed volumes and pH. Read by ``operation(book)``."""

    plates: int
    bed_length: float
    velocity: float
    liquid: float
    load_pH: float
    least_pH: float
    wash_pH: float
    strip_pH: float
    strip_volume: float
    wash_volume: float
    rinse_volume: float
    volume_factor: float
    margin: float
    conc_most: float
    carryover: float
    iron_most: float
    loss: float
    cycles: float
    pressure: float
    pump_efficiency: float


# Fields of an operation, the constant each is read from, and whether it is a share.
_CONSTANTS: tuple[tuple[str, str, bool], ...] = (
    ("bed_length", "bed-length", False),
    ("velocity", "velocity", False),
    ("liquid", "liquid-fraction", True),
    ("strip_volume", "strip-volume", False),
    ("wash_volume", "wash-volume", False),
    ("rinse_volume", "rinse-volume", False),
    ("volume_factor", "elution-volume-factor", False),
    ("margin", "design-margin", True),
    ("conc_most", "feed-concentration-most", False),
    ("carryover", "base-metal-carryover", True),
    ("iron_most", "iron-most", False),
    ("loss", "handling-loss", True),
    ("cycles", "cycles", False),
    ("pressure", "pressure-drop", False),
    ("pump_efficiency", "pump-efficiency", True),
)
_MAY_BE_ZERO = ("wash_volume", "rinse_volume", "carryover", "iron_most", "loss", "pressure")


def operation(book: Book, plates: int | None = None, *, protons: bool = False) -> Operation:
    """The operation of a column from ``proteins/lanmodulin-column``; ``plates`` overrides.

    A bed whose pH is imposed has the plates of ``plate-height``; one whose protons move
    (``protons``) those that do what transport with the calibrated dispersion does.

    Raises
    ------
    InputError
        naming every constant that no column can have (a share above one, no cycles).
    """
    key = "proteins/lanmodulin-column:"
    values = {field: book[key + name] for field, name, _ in _CONSTANTS}
    named = ("dispersion-height", "stage-over-dispersion") if protons else ("plate-height",)
    height = math.prod(book[key + name] for name in named)
    problems = []
    for name, value, share, zero in [
        *((n, values[f], s, f in _MAY_BE_ZERO) for f, n, s in _CONSTANTS),
        *((name, book[key + name], False, False) for name in named),
    ]:
        expected = ("0 or more" if zero else "more than 0") + (", at most 1" if share else "")
        if value < 0 or (value == 0 and not zero) or (share and value > 1) or value == np.inf:
            problems.append(
                Problem(
                    message="no column is run so", key=key + name, value=value, expected=expected
                )
            )
    if problems:
        raise InputError(problems)
    return Operation(
        plates=max(1, round(values["bed_length"] / height)) if plates is None else plates,
        load_pH=book[key + "load-pH"],
        least_pH=book[key + "least-pH"],
        wash_pH=book[key + "wash-pH"],
        strip_pH=book[key + "strip-pH"],
        **values,
    )


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Cycle:
    """Rare earths of one cycle [mol/m3 bed]; leading axes are cases that ran together.

    ``effluent`` (..., C) broke through while loading, ``bed`` (..., N, C) was held then, ``eluate``
    (..., T, C) had left in all after each of T elution transfers, ``volumes`` (T,) in bed volumes.
    """

    effluent: Array
    bed: Array
    eluate: Array
    volumes: Array


def transfer(
    held: Array, strength: Array, law: PairLaw, liquid: float, share: Array, sites: Array | None
) -> tuple[Array, Array]:
    """Let every cell settle, then move ``share`` (..., 1, 1) of its liquid into the next one.

    ``held`` (..., N, C) [mol/m3 of cell] changes in place. Returns what left the last cell (..., C)
    and the state that starts the next call. What leaves one cell enters the next exactly, whatever
    the tolerance of the equilibrium.
    """
    conc, sites = settle(held, strength, law, liquid, sites, _MARCH_TOLERANCE)
    moved = np.minimum(liquid * conc, held) * share
    held -= moved
    held[..., 1:, :] += moved[..., :-1, :]
    return moved[..., -1, :], sites


def load_and_elute(
    feed: Array,
    load: Array,
    pH_elution: Array,
    law: PairLaw,
    run: Operation,
    bed_volumes: float,
    conc: Array,
) -> Cycle:
    """One cycle of columns that run side by side: loading at ``run.wash_pH``, then one pH step.

    Parameters
    ----------
    feed
        composition of the rare earths fed, mole shares, shape (..., C)
    load
        rare earth fed over capacity, shape (...)
    pH_elution
        shape (...)
    bed_volumes
        volume of the elution step [m3/m3 bed]
    conc
        rare earth in the liquor fed [mol/m3], shape (...)
    """
    key = tuple(np.ascontiguousarray(a, dtype=float).tobytes() for a in (feed, load, pH_elution))
    metals = (law.log_k.tobytes(), law.kappa.tobytes(), law.capacity, law.exponent, law.pKa)
    return _marched(
        feed.shape,
        key,
        np.broadcast_to(np.asarray(conc, dtype=float), load.shape).tobytes(),
        law.names,
        metals,
        run.plates,
        run.liquid,
        run.wash_pH,
        bed_volumes,
    )


@lru_cache(maxsize=64)
def _marched(
    shape: tuple[int, ...],
    key: tuple[bytes, ...],
    conc_bytes: bytes,
    names: tuple[str, ...],
    metals: tuple[bytes, bytes, float, float, float],
    plates: int,
    liquid: float,
    load_pH: float,
    bed_volumes: float,
) -> Cycle:
    """``load_and_elute`` by the numbers it depends on: studies ask for the same cycle often."""
    cells = shape[:-1]
    feed = np.frombuffer(key[0]).reshape(shape)
    load, pH_elution = (np.frombuffer(k).reshape(cells) for k in key[1:])
    conc = np.frombuffer(conc_bytes).reshape(cells)
    log_k, kappa, capacity, exponent, pKa = metals
    count = len(names)
    law = PairLaw(
        names=names,
        log_k=np.frombuffer(log_k),
        kappa=np.frombuffer(kappa).reshape(count, count),
        capacity=capacity,
        exponent=exponent,
        pKa=pKa,
    )
    amount = load * law.capacity
    volume = amount / conc
    steps = int(max(2 * plates, np.ceil(volume.max() * plates / liquid)))
    share = volume * plates / (liquid * steps)
    # Amounts in cells are per volume of the whole bed, so a cell of n-th part holds n times more.
    entering = feed * (amount * plates / steps)[..., None]
    shape = (*cells, plates, len(law.names))
    held = np.zeros(shape)
    left = np.zeros_like(feed)
    sites = np.full(shape, _FIRST_SITES)
    strength = np.broadcast_to(site_strength(load_pH, law), shape)
    share = share[..., None, None]
    for _ in range(steps):
        held[..., 0, :] += entering
        out, sites = transfer(held, strength, law, liquid, share, sites)
        left += out / plates
    loaded = held / plates
    transfers = int(np.ceil(bed_volumes * plates / liquid))
    eluate = np.empty((*cells, transfers, len(law.names)))
    total = np.zeros_like(left)
    strength = np.broadcast_to(site_strength(pH_elution, law)[..., None, :], shape)
    whole = np.ones_like(share)
    for step in range(transfers):
        out, sites = transfer(held, strength, law, liquid, whole, sites)
        total += out / plates
        eluate[..., step, :] = total
    volumes = np.arange(1, transfers + 1) * liquid / plates
    for array in (left, loaded, eluate, volumes):
        array.setflags(write=False)
    return Cycle(effluent=left, bed=loaded, eluate=eluate, volumes=volumes)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Programme:
    """Inlet by step: ``conc`` (S, C) [mol/m3], ``pH`` (S,) and ``bed_volumes`` (S,)."""

    conc: Array
    pH: Array
    bed_volumes: Array


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Chromatogram:
    """What left a column: ``volumes`` (T,) [bed volumes], ``outlet`` (T, C) [mol/m3], ``collected``
    (S, C) and ``held`` (N, C) at the end, both [mol/m3 bed]."""

    volumes: Array
    outlet: Array
    collected: Array
    held: Array


def follow(
    programme: Programme, names: tuple[str, ...], law: PairLaw, run: Operation
) -> Chromatogram:
    """Outlet of a column under a programme; metals without a place in ``law`` do not bind.

    Raises
    ------
    ConvergenceError
        when a cell does not settle.
    """
    plates = run.plates
    binds = np.array([name in law.names for name in names])
    order = np.array([law.names.index(n) for n in names if n in law.names], dtype=int)
    law = replace(
        law,
        names=tuple(law.names[k] for k in order),
        log_k=law.log_k[order],
        kappa=law.kappa[np.ix_(order, order)],
    )
    held = np.zeros((plates, len(names)))
    sites: Array | None = None
    volumes, outlet, collected = [], [], np.zeros((len(programme.pH), len(names)))
    passed = 0.0
    for k, (conc, pH, amount) in enumerate(
        zip(programme.conc, programme.pH, programme.bed_volumes, strict=True)
    ):
        steps = max(plates, int(np.ceil(amount * plates / run.liquid)))
        share = np.full((1, 1), amount * plates / (run.liquid * steps))
        strength = np.broadcast_to(site_strength(pH, law), (plates, len(order)))
        bound = held[:, binds]
        for _ in range(steps):
            leaving = np.empty(len(names))
            if binds.any():
                bound[0] += conc[binds] * run.liquid * share[0, 0]
                leaving[binds], sites = transfer(bound, strength, law, run.liquid, share, sites)
            # What does not bind is carried by the liquid alone.
            free = held[:, ~binds]
            free[0] += conc[~binds] * run.liquid * share[0, 0]
            moved = free * share
            free -= moved
            free[1:] += moved[:-1]
            held[:, ~binds] = free
            leaving[~binds] = moved[-1]
            passed += amount / steps
            volumes.append(passed)
            outlet.append(leaving / (run.liquid * share[0, 0]))
            collected[k] += leaving / plates
        held[:, binds] = bound
    return Chromatogram(
        volumes=np.array(volumes),
        outlet=np.array(outlet),
        collected=collected,
        held=held / plates,
    )


def breakthrough(
    element: str,
    conc: float,
    pH: float,
    level: float = 0.5,
    plates: int | None = None,
    protein: str = "lanmodulin-mex",
    book: Book | None = None,
) -> float:
    """Bed volumes of one metal at ``conc`` [mol/m3] until the effluent reaches ``level`` of it.

    A metal without a pair constant does not bind and passes with the liquid.

    >>> 24 < breakthrough("Nd", 0.2, 3.0) < 31
    True
    """
    book = book or Book()
    run = operation(book, plates)
    binds = f"proteins/{protein}:K-ratio-{element}" in book
    law = pair_law((element if binds else "Nd",), book, protein)
    capacity = law.capacity if binds else 0.0
    programme = Programme(
        conc=np.array([[conc]]),
        pH=np.array([pH]),
        bed_volumes=np.array([2 * (run.liquid + capacity / conc)]),
    )
    solved = follow(programme, (element,), law, run)
    reached = solved.outlet[:, 0] / conc
    if reached[-1] < level:
        raise InfeasibleError(
            "the metal does not break through at this level", limit={"level": float(reached[-1])}
        )
    return float(np.interp(level, reached, solved.volumes))


def end_pools(
    first: str,
    second: str,
    load: float,
    pH: float,
    purity: float,
    plates: int | None = None,
    book: Book | None = None,
) -> tuple[float, float]:
    """Yields of two metals, fed one to one, at a mole purity: ``first`` from the beginning of an
    elution at ``pH``, ``second`` from its end and the strip. ``load`` is over capacity.

    >>> early, late = end_pools("Dy", "Nd", 0.6, 2.3, 0.99)
    >>> 0.5 < early < 1 and 0.5 < late < 1
    True
    """
    book = book or Book()
    run = operation(book, plates)
    law = pair_law((first, second), book)
    shares = np.array([0.5, 0.5])
    cycle = load_and_elute(
        shares, np.array(load), np.array(pH), law, run, 2 * law.capacity, np.array(law.capacity)
    )
    left = cycle.eluate / (shares * load * law.capacity)
    early = left[left[:, 0] / left.sum(axis=1) >= purity, 0]
    rest = 1 - left
    pure = rest[:, 1] / np.maximum(rest.sum(axis=1), _FIRST_SITES) >= purity
    late = rest[pure, 1]
    return float(early.max(initial=0.0)), float(late.max(initial=0.0))
