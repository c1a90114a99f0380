"""McCabe-Thiele steps of one metal off its own isotherm, acid solvent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sepmodel.chemistry.cation_exchange import C_STANDARD, CationExchange
from sepmodel.chemistry.exchange_set import ExchangeSet
from sepmodel.errors import InputError, Problem
from sepmodel.extraction.shake import Solvent


@dataclass(frozen=True, kw_only=True, slots=True)
class Steps:
    """A McCabe-Thiele construction: stages and the concentrations between them [mol/m3].

    ``aqueous`` and ``organic`` begin at the feed end: the feed and the loaded organic.
    """

    stages: int
    aqueous: tuple[float, ...]
    organic: tuple[float, ...]


def steps(
    constants: ExchangeSet,
    metal: str,
    feed: float,
    acid: float,
    solvent: Solvent,
    *,
    raffinate: float,
    phase_ratio: float,
    most: int = 100,
) -> Steps:
    """Stages to bring one metal from ``feed`` to ``raffinate`` [mol/m3], stepped off its isotherm.

    Single solute, acid solvent, ideal activities; the protons each stage releases are carried on
    by charge balance, so the isotherm of every step is that of its own acidity. Competition between
    metals is a cascade's business. InputError at a pinch.
    """
    at = constants.components.index(metal)
    if not 0 < raffinate < feed:
        raise InputError(
            Problem(message="the raffinate lies between zero and the feed", value=raffinate)
        )
    model = constants.model
    if (
        constants.activity.name != "ideal"
        or solvent.saponification
        or not isinstance(model, CationExchange)
    ):
        raise InputError(
            Problem(
                message="steps are drawn for the acid solvent of one extractant on the ideal basis",
                expected="a cascade case for soap or other activities",
            )
        )
    z, n = float(model.charge[at]), float(model.dimers[at])
    log_k = float(np.asarray(model.log_k)[at])
    x, y, h = feed, (feed - raffinate) / phase_ratio, acid
    aqueous, organic = [x], [y]
    for stage in range(1, most + 1):
        free = solvent.dimer - n * y
        left = _partner(log_k, z, n, y, free, x, h) if free > 0 else float("nan")
        if not left <= x:
            raise InputError(
                Problem(
                    message="the operating line meets the isotherm: a pinch",
                    value=f"stage {stage} from the feed",
                    expected="more solvent, a less acid feed or a richer raffinate",
                )
            )
        h, y, x = h + z * (x - left), max(y - (x - left) / phase_ratio, 0.0), left
        aqueous.append(x)
        organic.append(y)
        if x <= raffinate or y == 0:
            return Steps(stages=stage, aqueous=tuple(aqueous), organic=tuple(organic))
    raise InputError(
        Problem(message="more stages than allowed", value=most, expected="a pinch is near")
    )


def _partner(
    log_k: float, z: float, n: float, y: float, free: float, entering: float, h: float
) -> float:
    """Aqueous concentration in equilibrium with organic y, the acid being what it then is."""

    def gap(x: float) -> float:
        acid = (h + z * (entering - x)) / C_STANDARD
        return float(np.exp(log_k + n * np.log(free / C_STANDARD) - z * np.log(acid)) * x - y)

    low, high = 0.0, entering
    if gap(high) < 0:
        return float("nan")
    while high - low > 1e-12 * entering:
        middle = (low + high) / 2
        low, high = (middle, high) if gap(middle) < 0 else (low, middle)
    return (low + high) / 2
