"""A run of a train: from a start through a schedule to a result that tells what left and when."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sepmodel import files, units
from sepmodel.chemistry.active_exchange import ActiveExchange
from sepmodel.errors import ConvergenceError, InfeasibleError, InputError, Problem, Trace
from sepmodel.extraction import circuit_activity
from sepmodel.extraction.dynamics import integrate, radau
from sepmodel.extraction.dynamics.control import Loop, Loops
from sepmodel.extraction.dynamics.hydraulics import Hydraulics, Rules
from sepmodel.extraction.dynamics.integrate import Memory, Options, Step
from sepmodel.extraction.dynamics.kernel import Kernel
from sepmodel.extraction.dynamics.network import Network
from sepmodel.extraction.dynamics.schedule import Schedule
from sepmodel.extraction.dynamics.trains import CircuitTrain, Train

Array = NDArray[np.float64]
# What the mixers hold at the beginning: a name, or moles, unknowns, and what passes by.
Begin = str | tuple[Array, Array] | tuple[Array, Array, Array]

# Bisections that locate a crossing within a step.
HALVINGS = 32
# Networks kept for settings that come back.
KEPT = 64
CHECKPOINT = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Specification:
    """An outlet is on specification where the share of ``component`` is at least ``least``.

    ``weights`` turn moles into the basis of the purity (oxide mass, or one); components of weight
    zero do not count. An outlet with no more than ``dry`` (in that basis, per s) has no purity, and
    whether it was on specification stays as it was.
    """

    outlet: str
    component: int
    least: float
    weights: tuple[float, ...]
    dry: float = 0.0

    def purity(self, flows: Array) -> Array:
        """Share (...) in flows (..., K); not a number where the outlet is dry."""
        weighted = flows[..., : len(self.weights)] * np.array(self.weights)
        total = weighted.sum(axis=-1)
        share: Array = weighted[..., self.component] / np.where(total > self.dry, total, np.nan)
        return share

    def met(self, flows: Array, before: bool) -> bool:
        """Whether flows (K,) are on specification; as ``before`` where the outlet is dry."""
        purity = float(self.purity(flows))
        return before if np.isnan(purity) else purity >= self.least


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Crossing:
    """When a specification was met: ``first`` and ``lasting`` crossing [s], or None.

    ``times`` are all crossings, upwards where ``up``; ``off`` (K,) [mol] left while it was not
    met, ``missed`` [s] for how long.
    """

    times: Array
    up: NDArray[np.bool_]
    first: float | None
    lasting: float | None
    off: Array
    missed: float
    on_at_end: bool


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class RunResult:
    """What a run gives: T output times, P outlets, N stages, K species (components, carriers).

    ``conc_aq, conc_org`` (T, N, C) leave the mixers [mol/m3]; ``flows`` (T, P, K) [mol/s] leave,
    ``running`` is the same with what returns to the train there (the organic of a closed loop);
    ``left`` (T, P, K) and ``fed`` (T, K) [mol] since the start; ``inventory`` (T, K) [mol] in the
    train; ``proton`` (T, N) [mol/m3] where the equilibrium knows it, and then ``dimer`` (T, N), all
    there is of it in the organic of a mixer. ``closure`` (K,) is the
    largest error of any balance, relative to what went through or is held. ``ignored``: there was a
    checkpoint that could not be read, and the run began anew. ``volumes`` (T, 2, N) are the aqueous
    part of mixers and settlers where volumes move.
    """

    components: tuple[str, ...]
    outlets: tuple[str, ...]
    times: Array
    conc_aq: Array
    conc_org: Array
    proton: Array | None
    dimer: Array | None
    flows: Array
    running: Array
    left: Array
    fed: Array
    inventory: Array
    closure: Array
    crossings: tuple[Crossing, ...]
    signals: dict[str, Array]
    steps: int
    rejected: int
    final: Memory
    network: Network
    volumes: Array | None = None
    ignored: bool = False


@dataclass(slots=True)
class _Watch:
    """What is remembered of one specification while the run goes on."""

    spec: Specification
    row: int
    above: bool
    times: list[float] = field(default_factory=list)
    up: list[bool] = field(default_factory=list)
    left: list[Array] = field(default_factory=list)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Run:
    """A run: train, schedule, start, end, what to look at.

    ``start`` is a name the train knows, or moles in the mixers with unknowns, and the
    concentrations of what passes by (without them that is a part of the mixers' organic): the train
    as designed, also where something happens at once. ``outputs`` are times [s] at which everything
    is recorded; they do not influence the steps. With ``rules`` volumes follow the flows.
    """

    train: Train
    schedule: Schedule
    start: Begin
    until: float
    outputs: Array
    specifications: Sequence[Specification] = ()
    loops: Sequence[Loop] = ()
    rules: Rules | None = None
    options: Options = field(default_factory=Options)


def dry(train: Train, weights: Sequence[float]) -> float:
    """What an outlet must carry more of to have a purity, weighted, per s: a part of the feed."""
    fed = train.network(train.settings).feed.sum(axis=(0, 1))[: len(weights)]
    return integrate.DRY * float(fed @ np.array(weights))


def simulate(
    run: Run,
    *,
    checkpoint: Path | None = None,
    every: Callable[[], bool] | None = None,
    progress: Callable[[float, float], None] | None = None,
) -> RunResult:
    """Carry out a run.

    ``checkpoint`` is a file from which a run that was stopped goes on, to the same result bit by
    bit, and which is rewritten whenever ``every()`` says so (one that cannot be read is passed
    over, and the result says so); ``progress`` is told the time reached and the end.

    Raises
    ------
    InputError, InfeasibleError, ConvergenceError
    """
    if checkpoint is not None and checkpoint.exists():
        runner = _Runner(run, checkpoint, every, progress)
        try:
            runner.restore()
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile):
            begun = _Runner(run, checkpoint, every, progress)
            begun.ignored = True
            return begun.go(resumed=False)
        return runner.go(resumed=True)
    return _Runner(run, checkpoint, every, progress).go(resumed=False)


def fill(kernel: Kernel, y: Array, moles: Array, u: Array, aside: Array | None = None) -> None:
    """Fill a state: mixers as given, everything behind them at the mixers' concentrations.

    ``aside`` (N, C) [mol/m3] is what passes by; without it there is nothing in its cells.
    """
    net = kernel.net
    mixer, bypass, aq, org, _, _ = kernel.lay.split(y)
    mixer[:] = moles
    if bypass is not None and aside is not None:
        bypass[:, : kernel.c] = aside * net.aside[:, None]
    found = kernel.contents(y, u)
    aqueous, organic = kernel.concentrations(y, found)
    aq[:] = aqueous * net.cell[0][:, None]
    org[:] = organic * net.cell[1][:, None]


def move_aside(old: Kernel, new: Kernel, y: Array, u: Array) -> None:
    """Keep the phases' concentrations where the part of the organic that passes by jumps.

    Falling efficiency: out of the organic of mixer and settler into the cell beside them; rising:
    out of that cell back into both, by their volumes.
    """
    gain = (new.k_by - old.k_by)[:, : old.c]
    if not np.any(gain):
        return
    found = old.contents(y, u)
    mixer, bypass, _, settler, *_ = new.lay.split(y)
    assert bypass is not None
    c = old.c
    with np.errstate(divide="ignore", invalid="ignore"):
        out = np.where(gain > 0, np.nan_to_num(gain / (1.0 - old.k_by[:, :c])), 0.0)
        back = np.where(gain < 0, np.nan_to_num(-gain / old.k_by[:, :c]), 0.0)
    returned = back * bypass[:, :c]
    room = new.vo + new.net.cells[1] * new.net.cell[1][:, None]
    moved = out * found.y * old.vo - returned * (new.vo / room)
    mixer[:, :c] -= moved
    bypass[:, :c] += moved
    for cell in settler:
        moved = out * cell[:, :c] - returned * (new.net.cell[1][:, None] / room)
        cell[:, :c] -= moved
        bypass[:, :c] += moved


class _OverfullError(ConvergenceError):
    """More soap and metal than the extractant takes, told with its moment."""


class _Runner:
    """State of a run while it goes on."""

    def __init__(
        self,
        run: Run,
        checkpoint: Path | None,
        every: Callable[[], bool] | None,
        progress: Callable[[float, float], None] | None,
    ) -> None:
        self.run, self.checkpoint, self.every, self.progress = run, checkpoint, every, progress
        self.kernels: dict[tuple[float, ...], Kernel] = {}
        self.loops = Loops(run.loops, run.train.components)
        self.breaks = [t for t in run.schedule.breaks if 0 < t < run.until] + [run.until]
        self.hydraulics = None
        self.varying = False
        # Where the stretch that runs ends: what jumps there has not happened in it.
        self.edge = np.inf
        try:
            self._fill()
        except ConvergenceError as error:
            raise ConvergenceError(
                f"{error} (as the train is filled)", trace=error.trace
            ) from error
        net = self.kernel.net
        self.names = tuple(net.ports)
        self.held = self._inventory(self.memory.y)
        outputs = np.asarray(run.outputs, dtype=float)
        if np.any(np.diff(outputs) <= 0) or outputs[0] < 0 or outputs[-1] > run.until:
            raise InputError(Problem(message="output times rise, within the run", key="time"))
        shape = (outputs.size, net.stages, net.components)
        self.outputs, self.done = outputs, 0
        self.conc_aq, self.conc_org = np.zeros(shape), np.zeros(shape)
        self.proton, self.dimer = np.full(shape[:2], np.nan), np.full(shape[:2], np.nan)
        self.flows = np.zeros((outputs.size, len(self.names), net.species))
        self.running = np.zeros_like(self.flows)
        self.left, self.fed = np.zeros_like(self.flows), np.zeros((outputs.size, net.species))
        self.inventory = np.zeros_like(self.fed)
        self.volumes = np.full((outputs.size, 2, net.stages), np.nan)
        self.stretch = -1.0
        self.worst = np.zeros(net.species)
        self.watches = [
            _Watch(spec=s, row=self._row(s.outlet), above=False) for s in run.specifications
        ]
        self.fresh = True
        self.ignored = False

    def _fill(self) -> None:
        """Fill the train as designed; then happens what happens at once."""
        run = self.run
        base = run.schedule.base
        self.kernel = self._kernel(base)
        if run.rules is not None:
            self.hydraulics = Hydraulics(rules=run.rules, design=self.kernel.net)
            self.kernel = self._resting(self.kernel.net)
        net = self.kernel.net
        begin = run.train.start(net, run.start) if isinstance(run.start, str) else run.start
        self.memory = Memory(t=0.0, y=np.zeros(self.kernel.lay.size), u=np.array(begin[1]))
        if net.bypass is not None and len(begin) == 2:
            # What passes by is a part of the organic that a stage is filled with.
            whole = self._resting(run.train.undivided().network(_undivided(base)))
            fill(whole, self.memory.y, *begin)
            move_aside(whole, self.kernel, self.memory.y, self.memory.u)
        else:
            fill(self.kernel, self.memory.y, *begin)
        self._enter(run.schedule.at(0.0))
        if self.hydraulics is not None:
            self.kernel = self._resting(self._net_at(0.0))

    def _resting(self, net: Network) -> Kernel:
        """The kernel of a network with the volumes of the beginning."""
        return Kernel(net if self.hydraulics is None else self.hydraulics.apply(net, 0.0))

    def _row(self, outlet: str) -> int:
        if outlet not in self.names:
            raise InputError(
                Problem(message="no such outlet", value=outlet, expected=", ".join(self.names))
            )
        return self.names.index(outlet)

    def _kernel(self, settings: Mapping[str, float], t: float = 0.0) -> Kernel:
        key = tuple(settings.values())
        if key not in self.kernels:
            if len(self.kernels) >= KEPT:
                del self.kernels[next(iter(self.kernels))]
            self.kernels[key] = Kernel(self._network(settings, t))
        return self.kernels[key]

    def _network(self, settings: Mapping[str, float], t: float) -> Network:
        """The network under these settings; what cannot run says when, and under which events."""
        try:
            return self.run.train.network(settings)
        except InfeasibleError as error:
            names = [e.name or e.setting for e in self.run.schedule.events if e.start <= t < e.end]
            under = f" with {', '.join(dict.fromkeys(names))}" if names else ""
            days = t / units.factor("d")
            raise InfeasibleError(
                f"{error} (from {days:.4g} d on{under})", limit=error.limit, nearest=error.nearest
            ) from error

    def _inventory(self, y: Array) -> Array:
        lay = self.kernel.lay
        held = y[..., : lay.inner].reshape(*y.shape[:-1], -1, lay.k)
        total: Array = held.sum(axis=-2)
        return total

    # -- the run -----------------------------------------------------------------------------

    def go(self, *, resumed: bool) -> RunResult:
        """Carry the run out, ``resumed`` from its checkpoint."""
        run, memory = self.run, self.memory
        if not resumed:
            self._begin()
        while memory.t < run.until:
            at = run.schedule.at(memory.t)
            if self.loops.due(memory.t):
                self._sample(at)
            stop = min(next(t for t in self.breaks if t > memory.t), self.loops.next(memory.t))
            self.edge = stop = min(stop, run.until)
            constant = run.schedule.constant(memory.t, stop)
            self._enter(at)
            if self.hydraulics is not None:
                if memory.t >= self.stretch:
                    self.stretch = stop
                    self.hydraulics.enter(memory.t, stop, self._net_at)
                if memory.t < self.hydraulics.still:
                    constant, stop = False, self.hydraulics.still
                elif constant:
                    self.kernel = Kernel(self.hydraulics.apply(self._net_at(memory.t), memory.t))
            self.varying = not constant
            kernels = self._at if self.varying else (lambda t: self.kernel)
            try:
                integrate.advance(
                    kernels, memory, stop, run.options, self._seen,
                    constant=constant, fresh=self.fresh,
                )  # fmt: skip
            except _OverfullError:
                raise
            except ConvergenceError as error:
                days = memory.t / units.factor("d")
                raise ConvergenceError(
                    f"{error} (after {days:.6g} d of plant time)", trace=error.trace
                ) from error
            self.fresh = True
        return self._result()

    def _net_at(self, t: float) -> Network:
        """The network under the settings of a moment, its volumes as designed."""
        settings = self._scheduled(t)
        return self._kernel(settings | self.loops.settings(settings), t).net

    def _scheduled(self, t: float) -> dict[str, float]:
        """Settings of a moment of the stretch that runs, at its end those before what jumps."""
        return self.run.schedule.at(t, before=t >= self.edge)

    def _at(self, t: float) -> Kernel:
        if self.hydraulics is not None:
            return Kernel(self.hydraulics.apply(self._net_at(t), t))
        settings = self._scheduled(t)
        return Kernel(self._network(settings | self.loops.settings(settings), t))

    def _enter(self, scheduled: Mapping[str, float]) -> None:
        """The kernel of the stretch that begins; contents move where efficiencies jump."""
        if self.hydraulics is not None:
            return
        settings = dict(scheduled) | self.loops.settings(scheduled)
        new = self._kernel(settings, self.memory.t)
        if new is self.kernel:
            return
        old, self.kernel = self.kernel, new
        if new.lay.bypass:
            move_aside(old, new, self.memory.y, self.memory.u)

    def _within(self, kernel: Kernel, y: Array, t: float) -> None:
        """That the activity model reaches every stage's solution.

        Raises
        ------
        InputError
        """
        train, model = self.run.train, kernel.net.model
        assert isinstance(train, CircuitTrain)
        assert isinstance(model, ActiveExchange)
        assert train.activity is not None
        found = kernel.contents(y, self.memory.u)
        when = f" after {t / units.factor('d'):.4g} d"
        strength = model.strength(found.x, found.totals[:, 1])
        circuit_activity.require_range(train.inputs, train.activity, strength, when)

    def _begin(self) -> None:
        flows, found = self._look(self.memory.y, self.memory.u)
        if isinstance(self.kernel.net.model, ActiveExchange):
            self.memory.u = found.u
            self._within(self.kernel, self.memory.y, 0.0)
        for watch in self.watches:
            watch.above = watch.spec.met(flows[watch.row], False)
            if watch.above:
                self._cross(watch, 0.0, self.memory.y)
        if self.outputs[0] == 0.0:
            self._record(self.memory.y[None], self.memory.u[None])

    def _look(self, y: Array, u: Array) -> tuple[Array, Any]:
        """What leaves through the outlets [mol/s], and the mixers."""
        found = self.kernel.contents(y, u)
        return self.kernel.outflows(y, found), found

    def _seen(self, step: Step) -> None:
        """Everything that is noticed after a step: balances, outputs, crossings, checkpoints."""
        kernel = step.kernel
        self.kernel = kernel
        end = self.memory.t
        upto = int(np.searchsorted(self.outputs, end, side="right"))
        if upto > self.done:
            times = self.outputs[self.done : upto]
            states, unknowns = step.at((times - step.t) / step.h)
            if self.varying:
                for moment, y, u in zip(times.tolist(), states, unknowns, strict=True):
                    self.kernel = self._at(moment)
                    self._record(y[None], u[None])
                self.kernel = kernel
            else:
                self._record(states, unknowns)
        lay = kernel.lay
        rows = step.y_new.reshape(-1, lay.k)
        inventory = rows[: -lay.ports - 1].sum(axis=0)
        left, fed = rows[-lay.ports - 1 : -1].sum(axis=0), rows[-1]
        gap = np.abs(inventory + left - fed - self.held)
        # A carrier there is none of (sulfate) has nothing to lose.
        through = np.maximum(np.maximum(inventory, fed), self.held)
        gap /= np.maximum(through, np.finfo(float).tiny)
        np.maximum(self.worst, gap, out=self.worst)
        if isinstance(kernel.net.model, ActiveExchange):
            self._within(kernel, step.y_new, end)
        for watch in self.watches:
            self._follow(watch, step)
        if self.progress is not None:
            self.progress(end, self.run.until)
        if self.checkpoint is not None and self.every is not None and self.every():
            self._save()

    def _follow(self, watch: _Watch, step: Step) -> None:
        """Crossings within a step: seen at its stages, found between them."""

        def above(s: float) -> bool:
            y, u = step.at(np.array([s]))
            if self.varying:
                self.kernel = self._at(step.t + s * step.h)
            flows, _ = self._look(y[0], u[0])
            self.kernel = step.kernel
            return watch.spec.met(flows[watch.row], watch.above)

        below = 0.0
        for s, flows in zip(radau.method().nodes.tolist(), step.flows[:, watch.row], strict=True):
            now = watch.spec.met(flows, watch.above)
            if now != watch.above:
                low, high = below, s
                for _ in range(HALVINGS):
                    middle = 0.5 * (low + high)
                    if above(middle) == watch.above:
                        low = middle
                    else:
                        high = middle
                watch.above = now
                self._cross(watch, step.t + high * step.h, step.at(np.array([high]))[0][0])
            below = s

    def _cross(self, watch: _Watch, t: float, y: Array) -> None:
        watch.times.append(t)
        watch.up.append(watch.above)
        watch.left.append(self.kernel.lay.split(y)[4][watch.row].copy())

    def _record(self, y: Array, u: Array) -> None:
        """States (T, size) at the next output times."""
        kernel = self.kernel
        rows = slice(self.done, self.done + y.shape[0])
        found = kernel.contents(y, u)
        at_outlets = kernel.at_outlets(y, found)
        *_, outlets, fed = kernel.lay.split(y)
        # The organic that leaves takes along what passed by, as in the steady circuit.
        organic = found.y if found.aside is None else found.y + found.aside
        self.conc_aq[rows], self.conc_org[rows] = found.x, organic
        free = kernel.free(found)
        if free is not None:
            self._holding(free, found.totals[..., 0])
            self.proton[rows] = free[..., -1]
            self.dimer[rows] = found.totals[..., 0]
        self.flows[rows] = kernel.shares * at_outlets
        self.running[rows] = kernel.running * at_outlets
        self.left[rows], self.fed[rows] = outlets, fed
        self.inventory[rows] = self._inventory(y)
        if self.hydraulics is not None:
            self.volumes[rows, 0] = kernel.net.mixer[0] / kernel.net.mixer.sum(axis=0)
            if any(kernel.net.cells):
                self.volumes[rows, 1] = kernel.net.cell[0] / kernel.net.cell.sum(axis=0)
        self.done = rows.stop

    def _holding(self, free: Array, dimer: Array) -> None:
        """That the organic of every stage holds no more soap and metal than its extractant can.

        The closure of a mixer has a second branch, where free extractant and free acid are both
        negative: it is no liquor. What output between steps errs by is not taken for it.

        Raises
        ------
        _OverfullError
        """
        over = -free[..., 0] / dimer
        rows = np.flatnonzero(over.max(axis=-1) > self.run.options.rtol)
        if not rows.size:
            return
        row = int(rows[0])
        stage = int(np.argmax(over[row])) + 1
        days = float(self.outputs[self.done + row]) / units.factor("d")
        raise _OverfullError(
            f"the organic of stage {stage} would hold more soap and metal than its extractant "
            f"can (after {days:.4g} d of plant time)",
            trace=Trace(
                equation="extractant balance",
                stage=stage,
                advice="more or stronger strip acid, or less organic or saponification: an organic "
                "that is not stripped returns loaded",
            ),
        )

    # -- control -----------------------------------------------------------------------------

    def _sample(self, scheduled: Mapping[str, float]) -> None:
        kernel = self.kernel
        flows, found = self._look(self.memory.y, self.memory.u)
        free = kernel.free(found)
        left = dict(zip(self.names, flows, strict=True))
        self.loops.sample(self.memory.t, scheduled, found, free, left)

    # -- end, and going on after a stop --------------------------------------------------------

    def _result(self) -> RunResult:
        left = self.kernel.lay.split(self.memory.y)[4]
        return RunResult(
            components=self.run.train.components,
            outlets=self.names,
            times=self.outputs,
            conc_aq=self.conc_aq,
            conc_org=self.conc_org,
            proton=None if np.isnan(self.proton).all() else self.proton,
            dimer=None if np.isnan(self.dimer).all() else self.dimer,
            flows=self.flows,
            running=self.running,
            left=self.left,
            fed=self.fed,
            inventory=self.inventory,
            closure=self.worst,
            crossings=tuple(_crossing(w, left[w.row], self.run.until) for w in self.watches),
            signals=self.loops.history(),
            steps=self.memory.steps,
            rejected=self.memory.rejected,
            final=self.memory,
            ignored=self.ignored,
            network=self.kernel.net,
            volumes=None if self.hydraulics is None else self.volumes,
        )

    _ARRAYS = (
        "conc_aq", "conc_org", "proton", "dimer", "flows", "running", "left", "fed", "inventory",
        "worst", "volumes",
    )  # fmt: skip

    def _save(self) -> None:
        m = self.memory
        notes = {
            "schema": CHECKPOINT,
            "t": m.t.hex(),
            "h": float(m.h).hex(),
            "failed": m.failed,
            "steps": m.steps,
            "rejected": m.rejected,
            "factorised": m.factorised,
            "newton": m.newton,
            "contraction": float(m.contraction).hex(),
            "past_h": float(m.past_h).hex(),
            "done": self.done,
            "varying": self.varying,
            "until": self.run.until,
            "watches": [
                {"above": w.above, "times": [float(t).hex() for t in w.times], "up": w.up}
                for w in self.watches
            ],
            "loops": self.loops.state(),
        }
        arrays = {name: getattr(self, name) for name in self._ARRAYS}
        if self.hydraulics is not None:
            notes["hydraulics"] = [self.hydraulics.begun.hex(), float(self.stretch).hex()]
            arrays["hydraulics"] = self.hydraulics.state
        arrays |= {name: getattr(m, name) for name in Memory.ARRAYS} | {"held": self.held}
        for i, watch in enumerate(self.watches):
            arrays[f"left_{i}"] = np.array(watch.left)
        stream = io.BytesIO()
        np.savez(stream, notes=np.array(json.dumps(notes)), **arrays)
        assert self.checkpoint is not None
        files.write_atomic(self.checkpoint, stream.getvalue())

    def restore(self) -> None:
        """Take up what the checkpoint holds."""
        assert self.checkpoint is not None
        with np.load(io.BytesIO(self.checkpoint.read_bytes()), allow_pickle=False) as stored:
            notes = json.loads(str(stored["notes"]))
            m = self.memory
            held = stored["hydraulics"] if self.hydraulics is not None else np.zeros(0)
            if notes["schema"] != CHECKPOINT or stored["y"].shape != m.y.shape:
                raise ValueError("a checkpoint of another run")
            m.t, m.h = float.fromhex(notes["t"]), float.fromhex(notes["h"])
            m.failed, m.steps, m.rejected = notes["failed"], notes["steps"], notes["rejected"]
            m.factorised, m.newton = notes["factorised"], notes["newton"]
            m.contraction = float.fromhex(notes["contraction"])
            m.past_h = float.fromhex(notes["past_h"])
            self.done, self.held = notes["done"], stored["held"]
            for name in Memory.ARRAYS:
                setattr(m, name, stored[name])
            for name in self._ARRAYS:
                setattr(self, name, stored[name])
            for i, (watch, kept) in enumerate(zip(self.watches, notes["watches"], strict=True)):
                watch.above, watch.up = kept["above"], list(kept["up"])
                watch.times = [float.fromhex(t) for t in kept["times"]]
                watch.left = list(stored[f"left_{i}"])
        self.loops.restore(notes["loops"])
        # A stretch that was left in the middle goes on with its step.
        self.fresh = m.t in self.breaks or self.loops.due(m.t)
        self.varying = notes["varying"]
        # As it was before whatever happens at this very moment.
        self.edge = m.t if m.t > 0 else np.inf
        at = self._scheduled(m.t)
        before = self._kernel(dict(at) | self.loops.settings(at))
        if self.hydraulics is not None:
            hyd = self.hydraulics
            begun, self.stretch = (float.fromhex(v) for v in notes["hydraulics"])
            self.edge = self.stretch
            hyd.state, hyd.path = held, None
            # The same way as it was found the first time, also where its end is reached: the next
            # stretch, and what a loop sees at its beginning, begin with what it came to.
            hyd.enter(begun, self.stretch, self._net_at)
            self.fresh = self.fresh or m.t == hyd.still
            before = Kernel(hyd.apply(before.net, m.t))
        self.kernel = self._at(m.t) if self.varying else before


def _undivided(settings: Mapping[str, float]) -> dict[str, float]:
    """Settings with every efficiency one."""
    return {k: 1.0 if k.endswith(".efficiency") else v for k, v in settings.items()}


def _crossing(watch: _Watch, left: Array, until: float) -> Crossing:
    times, up = np.array(watch.times), np.array(watch.up, dtype=bool)
    first = float(times[up][0]) if up.any() else None
    lasting = float(times[-1]) if up.size and up[-1] else None
    off, missed = np.zeros_like(left), 0.0
    since, start = 0.0, np.zeros_like(left)
    for moment, rising, amount in zip(watch.times, up, watch.left, strict=True):
        if rising:
            off, missed = off + (amount - start), missed + (moment - since)
        since, start = moment, amount
    if not (up.size and up[-1]):
        off, missed = off + (left - start), missed + (until - since)
    return Crossing(
        times=times, up=up, first=first, lasting=lasting, off=off, missed=missed,
        on_at_end=bool(up.size and up[-1]),
    )  # fmt: skip
