"""What one displacement column gives in one pass, from plain numbers: for tables and validation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sepmodel.chromatography import constant_pattern as pattern
from sepmodel.chromatography.band_train import best_cut
from sepmodel.chromatography.column import Bed, Section, simulate
from sepmodel.chromatography.isotachic import displace
from sepmodel.chromatography.isotherms import ConstantSelectivity
from sepmodel.chromatography.transport import Limited

Array = NDArray[np.float64]

_TOLERANCE = 1e-3
# On the travelling grid steps are long: finer ones take little and keep rounding out of yields.
_TRAVELLING = _TOLERANCE / 3
_AFTER = 5 / 4
_READINGS = 8192
_KEPT = 8
_NOTHING = 1e-5


def recovery(
    metal: int,
    purity: float,
    *,
    selectivity: Sequence[float],
    shares: Sequence[float],
    length: float,
    velocity: float,
    void: float,
    dispersion: float,
    rate: float,
    capacity: float,
    ligand_conc: float,
    band: float,
    cells: int,
    uniform: bool = False,
) -> float:
    """Recovery of a metal in the largest pool of one column's effluent at a mole purity.

    Parameters
    ----------
    metal: its place in the train, 0 the fastest.
    selectivity: from the presaturant over the metals to the displacer. shares: of the load.
    length [m], velocity (superficial) [m/s], void, dispersion (interstitial) [m2/s], rate [1/s],
    capacity [mol/m3 solid], ligand_conc [mol/m3]: of bed and liquor.
    band: load as a share of what the bed holds.
    cells: of the grid that travels with the train, or, ``uniform``, equal ones at rest, whatever
        number of them a boundary spans.

    Raises
    ------
    InfeasibleError
        when a boundary spans fewer than ten cells of the travelling grid.

    >>> bed = {"length": 0.1, "velocity": 1e-4, "void": 0.4, "dispersion": 1e-7, "rate": 0.01}
    >>> load = {"capacity": 600.0, "ligand_conc": 90.0, "band": 0.5, "cells": 48}
    >>> round(recovery(0, 0.9, selectivity=[1, 3, 9], shares=[1.0], **bed, **load), 6)
    1.0
    """
    bed = Bed(length=length, velocity=velocity, void=void, dispersion=dispersion)
    amounts, loaded = _effluent(
        _key(bed), tuple(selectivity), tuple(shares), rate, capacity, ligand_conc, band, cells,
        uniform,
    )  # fmt: skip
    start, end = best_cut(amounts[:, metal], amounts.sum(axis=1), purity)
    found = float((amounts[end, metal] - amounts[start, metal]) / loaded[metal])
    return found if found > _NOTHING else 0.0


def _key(bed: Bed) -> tuple[float, float, float, float]:
    return bed.length, bed.velocity, bed.void, float(bed.dispersion)


@lru_cache(maxsize=_KEPT)
def _effluent(
    bed: tuple[float, float, float, float],
    selectivity: tuple[float, ...],
    shares: tuple[float, ...],
    rate: float,
    capacity: float,
    ligand_conc: float,
    band: float,
    cells: int,
    uniform: bool,
) -> tuple[Array, Array]:
    """Metals that have left by increasing times (T, M) and the load (M,), per cross-section."""
    length, velocity, void, dispersion = bed
    column = Bed(length=length, velocity=velocity, void=void, dispersion=dispersion)
    share = np.array(shares) / sum(shares)
    if not uniform:
        names = ["presaturant", *(f"metal {k}" for k in range(share.size)), "displacer"]
        train = displace(
            column,
            dict(zip(names, selectivity, strict=True)),
            dict(zip(names[1:-1], share.tolist(), strict=True)),
            capacity=capacity,
            ligand_conc=ligand_conc,
            band=band,
            rate=rate,
            cells=cells,
            tolerance=_TRAVELLING,
        )
        train.check()
        return train.fine[1], train.loaded
    cap = pattern.bed_capacity(void, ligand_conc, (1 - void) * capacity)
    travel = length / pattern.train_velocity(velocity, ligand_conc, cap)
    start, feed, push = (np.zeros(len(selectivity)) for _ in range(3))
    start[0], feed[1:-1], push[-1] = ligand_conc, ligand_conc * share, ligand_conc
    times = np.linspace(0.0, (band + _AFTER) * travel, _READINGS)
    found = simulate(
        column,
        ConstantSelectivity(selectivity=np.array(selectivity), capacity=capacity),
        [
            Section(duration=band * travel, conc=feed),
            Section(duration=_AFTER * travel, conc=push),
        ],
        scheme=Limited(cells=cells),
        rate=np.full(len(selectivity), rate),
        initial=start,
        times=times,
        tolerance=_TOLERANCE,
        estimate=False,
    )
    rates = velocity * found.outlet[:, 1:-1]
    gone = np.zeros_like(rates)
    gone[1:] = np.cumsum(0.5 * np.diff(times)[:, None] * (rates[1:] + rates[:-1]), axis=0)
    return gone, band * cap * length * share
