"""A dynamic case as a result: assembled from the steady case's own parts, run, reported."""

from __future__ import annotations

import hashlib
import time as clock
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sepmodel import files, units
from sepmodel.chemistry import activity as activities
from sepmodel.data import Book
from sepmodel.errors import ConvergenceError, InfeasibleError, InputError, Problem
from sepmodel.extraction import cascade, circuit, circuit_limits, circuit_solve, circuit_streams
from sepmodel.extraction import solve as mass_flow
from sepmodel.extraction.dynamics import controllers, leading, limits, modes, policies
from sepmodel.extraction.dynamics import settings as paths
from sepmodel.extraction.dynamics.control import Loop
from sepmodel.extraction.dynamics.hydraulics import Hydraulics, Rules
from sepmodel.extraction.dynamics.inputs import (
    DynamicCircuitCase,
    DynamicMassFlowCase,
    happenings,
)
from sepmodel.extraction.dynamics.integrate import Options
from sepmodel.extraction.dynamics.modes import Modes
from sepmodel.extraction.dynamics.network import Holdup, Network
from sepmodel.extraction.dynamics.report import report
from sepmodel.extraction.dynamics.schedule import Event, Schedule
from sepmodel.extraction.dynamics.simulate import Begin, Run, Specification, dry, simulate
from sepmodel.extraction.dynamics.trains import CircuitTrain, MassFlowTrain, Train, at_rest
from sepmodel.extraction.stagewise import Plan
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
    quantities = {**quantities, **_tuned(case, assembled.run.loops)}
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
        beyond += limits.returned(case, book, assembled.run, found)
        beyond += circuit_limits.for_comparison(case)
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


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Examined:
    """A case with which nothing is wrong that can be seen without running it."""

    train: Train
    net: Network
    labels: dict[str, str]
    warnings: tuple[Warned, ...]
    weights: tuple[float, ...]
    table: paths.Paths
    events: list[Event]
    loops: list[Loop]
    led: list[str]
    specifications: list[Specification]
    rows: dict[int, Array]
    possible: limits.Possible | None


def examine(case: DynamicCase, book: Book, *, sound: bool = True) -> Examined | None:
    """Everything of a case that can be judged without running it.

    What is wrong with the train itself is stood in for, so that what refers to it is judged in the
    same look; whether the train can run is judged where it is ``sound``.

    Raises
    ------
    InputError
        with everything wrong at once; InfeasibleError where that is all that is wrong.
    """
    moving = [event.setting for _, event in happenings(case)] + [case.start.setting or ""]
    bypass = bool(case.outage) or any(path.endswith(".efficiency") for path in moving)
    told: list[Problem] = []
    infeasible: InfeasibleError | None = None
    train: Train
    warnings: tuple[Warned, ...] = ()
    if isinstance(case, DynamicMassFlowCase):
        labels: dict[str, str] = {}
        train, infeasible = _mass_flow_train(case, book, bypass, told)
    else:
        train, labels, warnings = _circuit_train(case, book, bypass, told, sound)
    sound = sound and not told and infeasible is None
    table = paths.Paths(case, train, problems=told, designed=sound)
    weights = _weights(case, train)
    net: Network | None = None
    if sound:
        try:
            net = train.network(train.settings)
        except InputError as error:
            told += error.problems
    least = dry(train, weights) if net is not None else 0.0
    events = table.events()
    loops = controllers.loops(table, weights, least, net, labels)
    before = len(told)
    held = table.lead()
    leads = len(told) == before
    specifications = []
    for i, wanted in enumerate(case.specification):
        key, outlet = f"specification.{i}", wanted.outlet
        table.counted(f"{key}.component", wanted.component, weights)
        outlet = table.outlet(f"{key}.outlet", outlet, net, labels, weights)
        if not told:
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
    possible: limits.Possible | None = None
    if net is not None:
        led: list[Event] = []
        if leads:
            refused = leading.wrong(case, train, list(loops.values()), held)
            told += refused
            led = [] if refused else _led(case, train, held, table)
        if isinstance(case, DynamicCircuitCase) and case.purpose != circuit_limits.REGRESSION:
            given = case

            def possible(inputs: circuit.CircuitInputs) -> None:
                circuit_limits.require_possible_liquors(given, book, inputs)

        schedule = Schedule(base=train.settings, events=(*events, *led))
        keyed = [(loop, f"controller.{i}") for i, loop in loops.items()]
        told += limits.along(train, schedule, table.said, keyed, possible, table.doubtful)
    table.check()
    if infeasible is not None:
        raise infeasible
    if net is None:
        return None
    return Examined(
        train=train, net=net, labels=labels, warnings=warnings, weights=weights, table=table,
        events=events, loops=list(loops.values()), led=held, specifications=specifications,
        rows=rows, possible=possible,
    )  # fmt: skip


def _led(case: DynamicCase, train: Train, held: list[str], table: paths.Paths) -> list[Event]:
    """The events of the policy that a case gives."""
    try:
        leads = leading.given(case, train, held)
    except ConvergenceError:
        # What else is wrong is told first.
        if table.problems:
            return []
        raise
    return [] if leads is None else table.led(leads)


def assemble(case: DynamicCase, book: Book) -> Assembled:
    """Train, schedule, start, specifications and loops of a case.

    Raises
    ------
    InputError
        with everything wrong at once.
    """
    seen = examine(case, book)
    # Of a sound case in which nothing is wrong there is a network.
    assert seen is not None
    train, net, table, warnings = seen.train, seen.net, seen.table, seen.warnings
    rules = None
    if case.holdup.phases == "overflow":
        reset = float("inf") if case.holdup.reset is None else case.holdup.reset
        rules = Rules(weir=case.holdup.weir, reset=reset)
        hydraulics = Hydraulics(rules=rules, design=net)
        warnings = (*warnings, *_swinging(hydraulics))
        net = hydraulics.apply(net, 0.0)
    begin = _start(case, train, net, seen.rows)
    loops = _with_gains(case, seen.loops, train)
    beside = policies.Beside(events=tuple(seen.events), loops=tuple(loops))
    led = leading.led(case, train, seen.specifications, begin, rules, seen.led, beside)
    events = seen.events
    if led.leads is not None:
        events = [*events, *table.led(led.leads)]
    schedule = Schedule(base=train.settings, events=tuple(events))
    table.problems += limits.along(train, schedule, table.said, [], seen.possible)
    table.check()
    run = Run(
        train=train,
        schedule=schedule,
        rules=rules,
        start=begin,
        until=case.time.end,
        outputs=np.linspace(0.0, case.time.end, case.time.outputs),
        specifications=seen.specifications,
        loops=loops,
        options=Options(rtol=case.time.tolerance),
    )
    return Assembled(
        train=train,
        run=run,
        weights=seen.weights,
        labels=seen.labels,
        warnings=(*warnings, *limits.idle(case)),
        led=led,
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


def _with_gains(case: DynamicCase, loops: list[Loop], train: Train) -> list[Loop]:
    """Loops as they stand, or tuned by a step test each."""
    from sepmodel.extraction.dynamics.tuning import tuned

    out, problems = [], []
    for i, (loop, given) in enumerate(zip(loops, case.controller, strict=True)):
        try:
            out.append(loop if given.tune is None else tuned(train, loop, given.tune))
        except InputError as error:
            key = f"controller.{i}.setting"
            problems += [replace(p, key=key, value=given.setting) for p in error.problems]
    if problems:
        raise InputError(problems)
    return out


def _tuned(case: DynamicCase, loops: Sequence[Loop]) -> dict[str, dict[str, object]]:
    """What the step tests found, as a case without them would say it."""
    out: dict[str, dict[str, object]] = {}
    for loop, given in zip(loops, case.controller, strict=True):
        if given.tune is not None:
            out[f"{loop.name}_gain"] = {"value": loop.gain / loop.per, "unit": loop.unit}
            out[f"{loop.name}_time"] = amount(loop.time, "h")
            out[f"{loop.name}_target"] = {"value": loop.target, "unit": "1"}
    return out


def _mass_flow_inputs(
    case: DynamicMassFlowCase, book: Book, told: list[Problem]
) -> tuple[cascade.MassFlowInputs, InfeasibleError | None]:
    """The kernel's inputs; of what is wrong with them they are those of a case that stands in."""
    infeasible: InfeasibleError | None = None
    while True:
        try:
            return mass_flow.kernel_inputs(case, book), infeasible
        except InfeasibleError as error:
            if infeasible is not None or "scrub" not in error.nearest:
                raise
            infeasible, changed = error, {"scrub": error.nearest["scrub"]}
        except InputError as error:
            alike = dict.fromkeys(case.components, 1.0)
            if case.mass_flow.separation_factors == alike:
                raise
            told += error.problems
            changed = {"separation_factors": alike}
        flows = case.mass_flow.model_copy(update=changed)
        case = case.model_copy(update={"mass_flow": flows})


def _mass_flow_train(
    case: DynamicMassFlowCase, book: Book, bypass: bool, told: list[Problem]
) -> tuple[MassFlowTrain, InfeasibleError | None]:
    inputs, infeasible = _mass_flow_inputs(case, book, told)
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
    return train, infeasible


def _circuit_train(
    case: DynamicCircuitCase, book: Book, bypass: bool, told: list[Problem], sound: bool
) -> tuple[CircuitTrain, dict[str, str], tuple[Warned, ...]]:
    """The train, names of its outlets, and warnings; one that stands in where something is told."""
    made = circuit_solve.assemble(case, book, told)
    inputs = made.inputs
    activity = None
    holdup = Holdup(mixer_aq=1.0, mixer_org=1.0)
    try:
        if case.model.activity != "ideal" and not told:
            ions = ("H", *inputs.components, "Cl")
            activity = activities.build(case.model.activity, ions, book)
        if sound:
            holdup = _holdup(case, circuit.prepare(inputs))
    except InputError as error:
        told += error.problems
    labels = dict(circuit_streams.LIQUORS)
    last = case.section[-1].name
    labels["organic"] = circuit_streams.ORGANICS.get(last, "loaded_organic")
    train = CircuitTrain(
        inputs=inputs, holdup=holdup, bypass=bypass, activity=activity,
        counter_ion=case.model.counter_ion,
    )  # fmt: skip
    return train, labels, made.warnings


def _holdup(case: DynamicCircuitCase, plan: Plan) -> Holdup:
    """What every stage holds at the case's flows."""
    given = case.holdup
    if given.mixer is None:
        volumes = {
            "mixer_aq": given.mixer_aq,
            "mixer_org": given.mixer_org,
            "settler_aq": given.settler_aq or 0.0,
            "settler_org": given.settler_org or 0.0,
        }
        return Holdup(cells=given.cells_each, dead=given.dead, **volumes)  # type: ignore[arg-type]
    aqueous, organic = plan.flow_aq[0], plan.flow_org[0]
    if given.basis == "boxes":
        aqueous, organic = (np.full_like(part, part.max()) for part in (aqueous, organic))
    return Holdup(
        mixer_aq=given.mixer * aqueous,
        mixer_org=given.mixer * organic,
        settler_aq=given.settler * aqueous,
        settler_org=given.settler * organic,
        cells=given.cells_each,
        dead=given.dead,
    )


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
