"""A first guess for circuits of several unknowns a stage, from the circuit with one.

Where some n differs from z (a soap of half a dimer, iron's 2.5, two acids) a stage has several
unknowns and the way from a bad guess is narrow. The nearest model with n = z has one and is solved
from anywhere; its free extractant and protons are where Newton starts on the true one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.chemistry.complex_exchange import ComplexExchange
from sepmodel.errors import SepmodelError
from sepmodel.extraction.stagewise import Plan

if TYPE_CHECKING:
    from sepmodel.extraction.circuit_plan import CircuitInputs

Array = NDArray[np.float64]


def start(inputs: CircuitInputs, plan: Plan, solve: Callable[..., Any]) -> Array | None:
    """Unknowns (..., N, m) from the nearest circuit with one unknown a stage; None without one."""
    model = plan.model
    if not isinstance(model, CationExchange | ComplexExchange):
        return None
    simpler = model.simpler()
    if simpler is None:
        return None
    near = replace(inputs, model=simpler)
    try:
        found = solve(near, failures="quick")
        if not np.any(found.converged):
            found = solve(near, failures="record")
    except SepmodelError:
        return None
    totals = plan.totals.reshape(*found.conc_aq.shape[:-1], -1)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        d, h = simpler.free(found.u, totals, found.conc_aq, found.conc_org)
        u = model.lift(d, h)
    if not np.isfinite(u).any():
        return None
    # Members that were not solved start from the others' mean.
    middle = np.nanmean(np.where(np.isfinite(u), u, np.nan), axis=tuple(range(u.ndim - 1)))
    lifted: Array = np.where(np.isfinite(u), u, middle)
    return lifted
