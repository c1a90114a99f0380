"""A mass-action circuit's stages worked out anew, each from its neighbours."""

from __future__ import annotations

import numpy as np

from sepmodel.chemistry.cation_exchange import C_STANDARD, CationExchange
from sepmodel.extraction.circuit import CircuitResult


def recheck_circuit(solved: CircuitResult) -> float:
    """Largest error of a mass-action circuit's stages, each worked out anew from its neighbours.

    Balances of every component, the extraction constants from concentrations, dimer and charge from
    the liquors that were fed: for circuits of extraction and scrub without draws or recycles.
    """
    inputs, model = solved.inputs, solved.inputs.model
    assert isinstance(model, CationExchange)
    counts = {section.name: section.stages for section in inputs.sections}
    starts = {"extraction": 0, "scrub": counts.get("extraction", 0)}
    n, c = solved.aqueous.shape
    fed, water, anions = np.zeros((n, c)), np.zeros(n), np.zeros(n)
    for inlet in inputs.inlets:
        k = starts[inlet.section] + inlet.stage - 1
        flow = float(np.asarray(inlet.flow))
        fed[k] += flow * np.asarray(inlet.conc, dtype=float)
        water[k] += flow
        anions[k] += flow * float(np.asarray(inlet.acid) + np.asarray(inlet.conc) @ inputs.charge)
    organic = float(np.asarray(inputs.organic_flow))
    entering = np.vstack([organic * np.asarray(inputs.organic_conc, dtype=float), solved.organic])
    above = np.vstack([solved.aqueous, np.zeros(c)])
    worst = 0.0
    for k in range(n):
        balance = entering[k] + above[k + 1] + fed[k] - solved.aqueous[k] - solved.organic[k]
        moved = solved.aqueous[k] + solved.organic[k]
        worst = max(worst, float(np.max(np.abs(balance) / np.maximum(moved, np.finfo(float).tiny))))
        flow = water[k:].sum()
        x, y = solved.aqueous[k] / flow, solved.organic[k] / organic
        dimer = float(np.asarray(inputs.dimer)) - y @ model.dimers
        proton = anions[k:].sum() / flow - x @ model.charge
        scale = C_STANDARD
        # In logarithms of the fluxes: traces are below any float.
        log_d = solved.log_organic[k] - solved.log_aqueous[k] + np.log(flow / organic)
        log_k = (
            log_d
            + model.charge * np.log(proton / scale) - model.dimers * np.log(dimer / scale)
        )  # fmt: skip
        worst = max(worst, float(np.max(np.abs(log_k - model.log_k))))
    return worst
