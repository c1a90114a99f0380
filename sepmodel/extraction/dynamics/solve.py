"""A dynamic case as a result: assembled from the steady case's own parts, run, reported."""

from __future__ import annotations

import hashlib
import time as clock
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sepmodel import files, units
from sepmodel.chemistry import activity as activities
from sepmodel.data import Book
from sepmodel.errors import InputError
from sepmodel.extraction import cascade, circuit, circuit_limits, circuit_solve, circuit_streams
from sepmodel.extraction import solve as mass_flow
from sepmodel.extraction.dynamics import leading, limits, modes
from sepmodel.extraction.dynamics import settings as paths
from sepmodel.extraction.dynamics.control import Loop
from sepmodel.extraction.dynamics.hydraulics import Hydraulics, Rules
from sepmodel.extraction.dynamics.inputs import (
    Controller,
    DynamicCircuitCase,
    DynamicMassFlowCase,
    happenings,
)
from sepmodel.extraction.dynamics.integrate import Options
from sepmodel.extraction.dynamics.modes import Modes
from sepmodel.extraction.dynamics.network import Holdup, Network
from sepmodel.extraction.dynamics.report import report
from sepmodel.extraction.dynamics.schedule import Schedule
from sepmodel.extraction.dynamics.simulate import Begin, Run, Specification, dry, simulate
from sepmodel.extraction.dynamics.trains import CircuitTrain, MassFlowTrain, Train, at_rest
from sepmodel.products import amounts
from sepmodel.result import Profile, amount

if TYPE_CHECKING:
    from sepmodel.result import Result, Warned

Array = NDArray[np.float64]
# Growth [1/h] of levels beyond which it is no rounding.
SWINGS = 1e-6
DynamicCase = DynamicMassFlowCase | DynamicCircuitCase


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Assembled:
    """A case ready to run."""

    train: Train
    run: Run
    weights: tuple[float, ...]
    labels: dict[str, str]
    led: leading.Led
    warnings: tuple[Warned, ...] = ()


def solve_case(
    case: DynamicCase,
    book: Book,
    *,
    progress: Callable[[float, float], None] | None = None,
    scratch: Path | None = None,
) -> Result:
    """Run a dynamic case.

    ``progress`` is told the time reached and the end [s]; in the folder ``scratch`` a checkpoint is
    kept while the run goes on, from which a stopped run of the same case goes on.

    Raises
    ------
    InputError, InfeasibleError, ConvergenceError
    """
    assembled = assemble(case, book)
    checkpoint = None
    if scratch is not None:
        numbers = {key: book.overrides.get(key, c.si) for key, c in sorted(book.used.items())}
        document = {"case": case.model_dump(mode="json"), "numbers": numbers}
        text = files.json_text(document, indent=None)
        digest = hashlib.sha256(text.encode("utf-8")).hexdigest()
        checkpoint = scratch / f"{case.name}-{digest[:16]}.npz"
    last = clock.monotonic()

    def every() -> bool:
        nonlocal last
        now = clock.monotonic()
        if now - last < case.time.save_every:
            return False
        last = now
        return True

    found = simulate(assembled.run, checkpoint=checkpoint, every=every, progress=progress)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    made = report(case, assembled.run, found, assembled.weights, assembled.labels, book)
    profiles, quantities = leading.shown(assembled.led, isinstance(case, DynamicCircuitCase))
    if case.modes is not None:
        found_modes = modes.at_steady(
            assembled.train, case.modes.count, assembled.weights, assembled.run.rules
        )
        more = modes_shown(case, found_modes, assembled.weights)
        profiles, quantities = profiles | more[0], quantities | more[1]
    beyond: list[Warned] = []
    if isinstance(case, DynamicCircuitCase) and isinstance(assembled.train, CircuitTrain):
        beyond = limits.driven(case, book, assembled.train, assembled.run.schedule)
        beyond += limits.left(case, book, assembled.train, found)
    return replace(
        made,
        warnings=[*assembled.warnings, *made.warnings, *beyond],
        profiles={**made.profiles, **profiles},
        quantities={**made.quantities, **quantities},
    )


def modes_shown(
    case: DynamicCase, found: Modes, weights: tuple[float, ...]
) -> tuple[dict[str, Profile], dict[str, dict[str, object]]]:
    """Slow modes as a profile of how shares move, their times, and the stage that shows most."""
    counted = [i for i, weight in enumerate(weights) if weight > 0]
    names = [case.components[i] for i in counted]
    quantities: dict[str, dict[str, object]] = {}
    for k, time in enumerate(found.times.tolist()):
        quantities[f"mode_{k + 1}_time"] = amount(time, "h")
        if np.isfinite(found.periods[k]):
            quantities[f"mode_{k + 1}_period"] = amount(float(found.periods[k]), "h")
        i = int(found.most[k])
        quantities[f"mode_{k + 1}_stage_{case.components[i]}"] = amount(int(found.stage[k, i]), "1")
    profile = Profile(
        unit="1",
        axes={
            "mode": range(1, found.times.size + 1),
            "stage": range(1, case.stages + 1),
            "component": tuple(names),
        },
        values=found.shares[:, :, counted],
    )
    return {"mode_shapes": profile}, quantities


def assemble(case: DynamicCase, book: Book) -> Assembled:
    """Train, schedule, start, specifications and loops of a case.

    Raises
    ------
    InputError
        with everything wrong with events and controllers at once.
    """
    moving = [event.setting for _, event in happenings(case)] + [case.start.setting or ""]
    bypass = bool(case.outage) or any(path.endswith(".efficiency") for path in moving)
    train: Train
    if isinstance(case, DynamicMassFlowCase):
        train, labels = _mass_flow_train(case, book, bypass)
        warnings: tuple[Warned, ...] = ()
    else:
        train, labels, warnings = _circuit_train(case, book, bypass)
    base = train.settings
    table = paths.Paths(case, train)
    events = table.events()
    weights = _weights(case, train)
    least = dry(train, weights)
    loops = table.loops(weights, least)
    held = table.lead()
    net = train.network(base)
    loops = [
        replace(loop, outlet=table.outlet(key, loop.outlet, net, labels, weights))
        if loop.outlet
        else loop
        for key, loop in ((f"controller.{i}.outlet", loop) for i, loop in enumerate(loops))
    ]
    specifications = []
    for i, wanted in enumerate(case.specification):
        key = f"specification.{i}"
        table.counted(f"{key}.component", wanted.component, weights)
        outlet = table.outlet(f"{key}.outlet", wanted.outlet, net, labels, weights)
        if not table.problems:
            specifications.append(
                Specification(
                    outlet=outlet,
                    component=train.components.index(wanted.component),
                    least=wanted.purity,
                    weights=weights,
                    dry=least,
                )
            )
    rows = table.rows()
    table.check()
    rules = None
    if case.holdup.phases == "overflow":
        reset = float("inf") if case.holdup.reset is None else case.holdup.reset
        rules = Rules(weir=case.holdup.weir, reset=reset)
        hydraulics = Hydraulics(rules=rules, design=net)
        warnings = (*warnings, *_swinging(hydraulics))
        net = hydraulics.apply(net, 0.0)
    begin = _start(case, train, net, rows)
    led = leading.led(case, train, specifications, begin, rules, held)
    if led.leads is not None:
        events += table.led(led.leads)
    schedule = Schedule(base=base, events=tuple(events))
    keyed = [(loop, f"controller.{i}") for i, loop in enumerate(loops)]
    possible: limits.Possible | None = None
    if isinstance(case, DynamicCircuitCase) and case.purpose != circuit_limits.REGRESSION:
        given = case

        def possible(inputs: circuit.CircuitInputs) -> None:
            circuit_limits.require_possible_liquors(given, book, inputs)

    table.problems += limits.along(train, schedule, table.said, keyed, possible)
    table.check()
    run = Run(
        train=train,
        schedule=schedule,
        rules=rules,
        start=begin,
        until=case.time.end,
        outputs=np.linspace(0.0, case.time.end, case.time.outputs),
        specifications=specifications,
        loops=[
            _with_gains(loop, given, key, train)
            for (loop, key), given in zip(keyed, case.controller, strict=True)
        ],
        options=Options(rtol=case.time.tolerance),
    )
    warnings = (*warnings, *limits.idle(case))
    return Assembled(
        train=train, run=run, weights=weights, labels=labels, warnings=warnings, led=led
    )


def _swinging(hydraulics: Hydraulics) -> list[Warned]:
    """A warning where the level controllers of all stages together swing up."""
    from sepmodel.result import Warned

    if not np.isfinite(hydraulics.rules.reset):
        return []
    growth = hydraulics.growth() * units.factor("h")
    if growth <= SWINGS:
        return []
    return [
        Warned(
            code="levels-swing-up",
            message=f"level controllers in a row hand their swings on: these grow by e in "
            f"{1.0 / growth:.3g} h; a longer reset or a quicker weir damps them",
            where="holdup.reset",
        )
    ]


def _with_gains(loop: Loop, given: Controller, key: str, train: Train) -> Loop:
    """A loop as it stands, or tuned by a step test."""
    if given.tune is None:
        return loop
    from sepmodel.extraction.dynamics.tuning import tuned

    try:
        return tuned(train, loop, given.tune)
    except InputError as error:
        raise InputError(
            [replace(p, key=f"{key}.setting", value=given.setting) for p in error.problems]
        ) from error


def _mass_flow_train(
    case: DynamicMassFlowCase, book: Book, bypass: bool
) -> tuple[MassFlowTrain, dict[str, str]]:
    inputs = mass_flow.kernel_inputs(case, book)
    problem = cascade.prepare(inputs)
    aqueous, organic = problem.aqueous_flux[:, 0], problem.organic_flux[:, 0]
    if case.holdup.basis == "boxes":
        aqueous, organic = (np.full_like(part, part.max()) for part in (aqueous, organic))
    elif case.holdup.basis == "feed":
        fed = sum(float(np.asarray(i.flows).sum()) for i in inputs.inlets)
        aqueous = organic = np.full_like(aqueous, fed)
    assert case.holdup.mixer is not None
    train = MassFlowTrain(
        inputs=inputs,
        hold_aq=case.holdup.mixer * aqueous,
        hold_org=case.holdup.mixer * organic,
        settler_aq=case.holdup.settler * aqueous,
        settler_org=case.holdup.settler * organic,
        cells=case.holdup.cells_each,
        dead=case.holdup.dead,
        bypass=bypass,
    )
    return train, {}


def _circuit_train(
    case: DynamicCircuitCase, book: Book, bypass: bool
) -> tuple[CircuitTrain, dict[str, str], tuple[Warned, ...]]:
    made = circuit_solve.assemble(case, book)
    inputs = made.inputs
    activity = None
    if case.model.activity != "ideal":
        ions = ("H", *inputs.components, "Cl")
        activity = activities.build(case.model.activity, ions, book)
    plan = circuit.prepare(inputs)
    given = case.holdup
    if given.mixer is None:
        volumes = {
            "mixer_aq": given.mixer_aq,
            "mixer_org": given.mixer_org,
            "settler_aq": given.settler_aq or 0.0,
            "settler_org": given.settler_org or 0.0,
        }
        holdup = Holdup(cells=given.cells_each, dead=given.dead, **volumes)  # type: ignore[arg-type]
    else:
        aqueous, organic = plan.flow_aq[0], plan.flow_org[0]
        if given.basis == "boxes":
            aqueous, organic = (np.full_like(part, part.max()) for part in (aqueous, organic))
        holdup = Holdup(
            mixer_aq=given.mixer * aqueous,
            mixer_org=given.mixer * organic,
            settler_aq=given.settler * aqueous,
            settler_org=given.settler * organic,
            cells=given.cells_each,
            dead=given.dead,
        )
    labels = dict(circuit_streams.LIQUORS)
    last = case.section[-1].name
    labels["organic"] = circuit_streams.ORGANICS.get(last, "loaded_organic")
    train = CircuitTrain(
        inputs=inputs, holdup=holdup, bypass=bypass, activity=activity,
        counter_ion=case.model.counter_ion,
    )  # fmt: skip
    return train, labels, made.warnings


def _weights(case: DynamicCase, train: Train) -> tuple[float, ...]:
    """Weight of a mole of each component in purities; 0 for what does not count."""
    ion = getattr(case.model, "counter_ion", None)
    counted = {name: 1.0 for name in train.components if name != ion}
    weighted = amounts(counted, case.purity_basis)
    return tuple(float(weighted.get(name, 0.0)) for name in train.components)


def _start(case: DynamicCase, train: Train, net: Network, rows: dict[int, Array]) -> Begin:
    """What the mixers hold at the beginning, under the settings of the design."""
    if case.start.fill == "steady":
        return at_rest(train, net, train.settings)
    return train.seeded(net, case.start.fill, rows) if rows else case.start.fill
