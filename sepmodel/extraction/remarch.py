"""A solved circuit calculated again, stage by stage, by code of its own.

Each stage is worked out from its neighbours: equilibrium, then balance. The solver of all stages at
once, its closures and its Jacobian are not used.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry.cation_exchange import C_STANDARD, CationExchange
from sepmodel.extraction.circuit import CircuitResult

Array = NDArray[np.float64]


def remarch(
    extractability: Array,
    feed: Array,
    aqueous: Array,
    organic: Array,
    feed_stage: int,
    solvent: float,
    scrub: float,
    feed_phase: str = "aqueous",
    efficiency: float = 1.0,
    draw: tuple[int, str, Array] | None = None,
) -> float:
    """Largest difference between a solution and its stages worked out anew, of a stage's flow.

    Parameters
    ----------
    extractability, feed
        a and f of each component, shape (C,).
    aqueous, organic
        the solution's fluxes leaving each stage from the raffinate up, shape (N, C).
    draw
        stage (from 1), phase and flows (C,) of a side draw.

    >>> a, f = np.array([1.0, 2.0]), np.array([0.5, 0.5])
    >>> x = np.array([[0.4, 0.1]])
    >>> y = f - x
    >>> bool(remarch(a, f, x, y, 1, 0.5, 0.0) > 0.1)
    True
    """
    stages = len(aqueous)
    raffinate, product = aqueous[0], organic[-1]
    none = np.zeros_like(feed)
    at, phase, taken = (0, "", none) if draw is None else draw
    off_aq, off_org = (taken if phase == p else none for p in ("aqueous", "organic"))
    out = raffinate + product + taken
    # The ends of a circuit whose draw is at an end are what the draw leaves of them.
    worst = float(np.abs(out - feed).max() / feed.max())
    fed_above = feed if feed_phase == "organic" else none
    before = none
    for k in range(stages):
        # Organic leaving stage k: in equilibrium with the aqueous leaving it.
        total = solvent + (fed_above.sum() if k >= feed_stage - 1 else 0.0)
        total -= off_org.sum() if k >= at else 0.0
        if k == stages - 1:
            total -= scrub
        entering = before + (fed_above if k == feed_stage - 1 else 0.0)
        share = extractability * aqueous[k]
        # A Murphree efficiency lets a part of the organic pass the stage as it came.
        passed = (1 - efficiency) * min(1.0, total / entering.sum()) if entering.any() else 0.0
        up = _leaving(share, entering, total, passed)
        worst = max(worst, float(np.abs(up - organic[k]).max() / total))
        # Aqueous entering from above: what leaves these stages, less what is fed to them.
        before = organic[k] - (off_org if k == at - 1 else 0.0)
        if k + 1 < stages:
            inside = feed if k >= feed_stage - 1 else none
            down = before + raffinate + (taken if k >= at - 1 else 0.0) - inside
            down = down + (off_aq if k + 1 == at - 1 else 0.0)
            scale = max(float(np.abs(down).sum()), float(feed.max()))
            worst = max(worst, float(np.abs(down - aqueous[k + 1]).max() / scale))
    return worst


def _leaving(share: Array, entering: Array, total: float, passed: float) -> Array:
    """Organic of a stage: the part that passes by, and the rest at equilibrium."""
    rest = total - passed * entering.sum()
    return np.asarray(passed * entering + rest * share / share.sum())


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
