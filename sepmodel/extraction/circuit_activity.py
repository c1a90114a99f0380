"""Activity coefficients of every stage's own solution in a circuit.

The distribution law takes the ratio of activity coefficients Gamma = gamma_M / gamma_H^z of the
aqueous solution that leaves the stage, and that solution follows from the law: a fixed point. It is
approached from outside Newton's method, which solves the whole circuit at given Gamma in a few
iterations from its last answer, and accelerated (Anderson) because a shift at one stage moves the
elements of all others.

All anions are taken as chloride. The model's range is enforced on the answer, not on the way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry import activity as activities
from sepmodel.chemistry.activity import ActivityModel
from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.errors import ConvergenceError, InputError, Problem, Trace
from sepmodel.extraction import circuit, circuit_approach, stagewise
from sepmodel.species import CHARGES

Array = NDArray[np.float64]

# Largest change of ln Gamma between two rounds of a settled circuit, and rounds allowed.
SETTLED = 1e-12
ROUNDS = 64
# Rounds the acceleration remembers.
MEMORY = 5
# A step of ln Gamma is shortened to this: Newton has to follow from the last answer.
LONGEST = 1.0
# Times a step that Newton cannot follow is halved.
HALVINGS = 10


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Settled:
    """A circuit whose Gamma is that of its own solutions: ``log_gamma`` ln Gamma (N, C), ``rounds``
    circuits solved in ``iterations`` of Newton, ``moved`` the last change of ln Gamma,
    ``strength`` ionic strength [mol/kg] (N,)."""

    solved: circuit.CircuitResult
    log_gamma: Array
    rounds: int
    iterations: int
    moved: float
    strength: Array


def solve(inputs: circuit.CircuitInputs, activity: ActivityModel) -> Settled:
    """Steady state with ln D = ln K + ln Gamma + n ln d - z ln h at every stage.

    Parameters
    ----------
    inputs: a single circuit (no batch axes) of a cation-exchange model.
    activity: model of the ions ("H", *components, "Cl") in any order.

    Raises
    ------
    InputError
        when a stage lies beyond the activity model's range, naming the stage;
    ConvergenceError
        as ``circuit.solve``, or when Gamma does not settle.
    """
    model = inputs.model
    if not isinstance(model, CationExchange):
        raise InputError(
            Problem(message="activity coefficients need a cation-exchange model", key="model")
        )
    solved, _ = circuit_approach.solve(_estimated(inputs, model, activity))
    iterations = int(solved.iterations)
    free = activities.unlimited(activity)
    shape = solved.conc_aq.shape
    used = _section_shift(inputs, model, activity)
    # Gamma the answer was computed with, and the Gamma of that answer.
    points: list[tuple[Array, Array]] = []
    for count in range(1, ROUNDS + 1):
        fresh = log_gammas(free, inputs.components, model.charge, solved)
        moved = float(np.max(np.abs(fresh - used)))
        if moved <= SETTLED:
            strength = activities.ionic_strength(
                molalities(activity, inputs.components, model.charge, solved), _charges(activity)
            )[:, 0]
            require_range(inputs, activity, strength)
            return Settled(
                solved=solved,
                log_gamma=used,
                rounds=count,
                iterations=iterations,
                moved=moved,
                strength=strength,
            )
        points = [*points[-MEMORY:], (used.ravel(), fresh.ravel())]
        step = (_accelerated(points) - used.ravel()).reshape(shape)
        step *= min(1.0, LONGEST / max(float(np.max(np.abs(step))), SETTLED))
        used, solved, spent = _moved(inputs, model, used, step, solved)
        iterations += spent
    gap = np.abs(fresh - used)
    stage, component = np.unravel_index(int(np.argmax(gap)), gap.shape)
    raise ConvergenceError(
        f"the activity coefficients of the circuit did not settle in {ROUNDS} rounds "
        f"(ln Gamma still moves by {moved:.1e})",
        trace=Trace(
            equation="activity coefficients",
            stage=int(stage) + 1,
            component=inputs.components[int(component)],
            advice="move the flows away from the sharpest cut, or solve with ideal activities",
        ),
    )


def _moved(
    inputs: circuit.CircuitInputs,
    model: CationExchange,
    used: Array,
    step: Array,
    before: circuit.CircuitResult,
) -> tuple[Array, circuit.CircuitResult, int]:
    """ln Gamma moved by ``step`` or by a part of it, as far as Newton follows; its circuit."""
    spent = 0
    for _ in range(HALVINGS):
        here = replace(inputs, model=replace(model, log_gamma=used + step))
        start = np.ascontiguousarray(before.u[None])
        found = stagewise.iterate(circuit.prepare(here), start)
        spent += int(found.iterations[0])
        if bool(found.converged[0]):
            solved = circuit.solve(here, guess=found.u.reshape(before.u.shape))
            return used + step, solved, spent
        step = 0.5 * step
    raise ConvergenceError(
        "the circuit could not follow its own activity coefficients",
        trace=Trace(
            history=found.history,
            equation="dimer and charge balance",
            advice="move the flows away from the sharpest cut, or solve with ideal activities",
        ),
    )


def molalities(
    activity: ActivityModel,
    components: tuple[str, ...],
    charge: Array,
    solved: circuit.CircuitResult,
) -> Array:
    """Molalities [mol/kg] of the activity model's ions at every stage, (N, S)."""
    x, h = solved.conc_aq, solved.proton
    known = {name: x[:, i] for i, name in enumerate(components)}
    known |= {"H": h, "Cl": h + x @ charge}
    table: Array = np.stack([known[ion] for ion in activity.ions], axis=-1) / activity.water
    return table


def log_gammas(
    activity: ActivityModel,
    components: tuple[str, ...],
    charge: Array,
    solved: circuit.CircuitResult,
) -> Array:
    """ln gamma_M - z ln gamma_H of every component in every stage's solution, (N, C)."""
    ln = activity.ln_gamma(molalities(activity, components, charge, solved))
    metal = [activity.ions.index(name) for name in components]
    out: Array = ln[:, metal] - charge * ln[:, [activity.ions.index("H")]]
    return out


def _charges(activity: ActivityModel) -> Array:
    return np.array([CHARGES[ion] for ion in activity.ions], dtype=float)


def _by_section(
    inputs: circuit.CircuitInputs, model: CationExchange, activity: ActivityModel
) -> list[Array]:
    """ln Gamma per section as a first estimate: half of its anions with acid, half with metals.

    How much chloride passes a section is known before anything is solved.
    """
    plan = circuit.prepare(inputs)
    anions = plan.totals[0, :, 1]
    feed = sum(
        (np.asarray(i.flow) * np.asarray(i.conc) for i in inputs.inlets),
        start=np.zeros(len(inputs.components)),
    )
    shares = feed * model.charge / max(float(feed @ model.charge), np.finfo(float).tiny)
    free = activities.unlimited(activity)
    out = []
    at = 0
    for section in inputs.sections:
        chloride = float(np.mean(anions[at : at + section.stages]))
        at += section.stages
        known = dict(zip(inputs.components, 0.5 * chloride * shares / model.charge, strict=True))
        known |= {"H": 0.5 * chloride, "Cl": chloride}
        molality = np.array([known[ion] for ion in activity.ions]) / activity.water
        ln = free.ln_gamma(molality[None, :])[0]
        metal = [activity.ions.index(name) for name in inputs.components]
        out.append(ln[metal] - model.charge * ln[activity.ions.index("H")])
    return out


def _estimated(
    inputs: circuit.CircuitInputs, model: CationExchange, activity: ActivityModel
) -> circuit.CircuitInputs:
    """The circuit with the estimate of each section as a shift of its ln D."""
    shifts = _by_section(inputs, model, activity)
    sections = tuple(
        replace(section, log_k_shift=np.asarray(section.log_k_shift) + shift)
        for section, shift in zip(inputs.sections, shifts, strict=True)
    )
    return replace(inputs, sections=sections)


def _section_shift(
    inputs: circuit.CircuitInputs, model: CationExchange, activity: ActivityModel
) -> Array:
    counts = [section.stages for section in inputs.sections]
    return np.repeat(np.array(_by_section(inputs, model, activity)), counts, axis=0)


def _accelerated(points: list[tuple[Array, Array]]) -> Array:
    """Next argument of a fixed point from the last (argument, value) pairs, by Anderson's method.

    The combination of the last values whose residuals cancel best; a plain round with one point.
    """
    last, value = points[-1]
    if len(points) == 1:
        return value
    residual = value - last
    by_residual = np.stack([(v - x) - residual for x, v in points[:-1]], axis=1)
    by_value = np.stack([v - value for _, v in points[:-1]], axis=1)
    weights = np.linalg.lstsq(by_residual, -residual, rcond=1e-10)[0]
    out: Array = value + by_value @ weights
    return out


def require_range(
    inputs: circuit.CircuitInputs, activity: ActivityModel, strength: Array, when: str = ""
) -> None:
    """InputError naming the stage of the highest ionic strength beyond the model's range.

    ``strength`` (N,) [mol/kg]; ``when`` is said after the stage.
    """
    stage = int(np.argmax(strength))
    if strength[stage] <= activity.limit:
        return
    at = stage
    for section in inputs.sections:
        if at < section.stages:
            break
        at -= section.stages
    raise InputError(
        Problem(
            message=f"the {activity.name} activity model does not reach the ionic strength of "
            f"stage {at + 1} of section {section.name!r}{when}",
            key="model.activity",
            value=f"{strength[stage]:.3g} mol/kg",
            expected=f"at most {activity.limit:.3g} mol/kg in every stage",
        )
    )
