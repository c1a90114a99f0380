"""Trains whose settings can change: the two chemistries of the steady solvers, with hold-ups.

A train turns settings (a flat table of numbers by name) into the network that holds under them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel.chemistry.active_exchange import ActiveExchange
from sepmodel.chemistry.activity import ActivityModel
from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.errors import InfeasibleError, InputError, Problem
from sepmodel.extraction import cascade, circuit, circuit_activity
from sepmodel.extraction.dynamics.network import AQUEOUS, ORGANIC, Holdup, Network, network

Array = NDArray[np.float64]

# Of a feed that is shut off this part still runs, so that compositions stay defined; and of an acid
# that fails this part is left, so that a stage never is without any anion.
TRICKLE = 1e-9


class Train(Protocol):
    """What the simulation needs of a train."""

    @property
    def components(self) -> tuple[str, ...]:
        """Names in the order of the component axis."""
        ...

    @property
    def settings(self) -> dict[str, float]:
        """The settings that can change, with their values at the design point."""
        ...

    def network(self, settings: Mapping[str, float]) -> Network:
        """The network under these settings."""
        ...

    def undivided(self) -> Train:
        """The same train with all of the organic in its mixers, and room for what passes by."""
        ...

    def start(self, net: Network, kind: str) -> tuple[Array, Array]:
        """Contents of the mixers (N, K) and unknowns (N, m) of a named start."""
        ...

    def seeded(self, net: Network, fill: str, shares: Mapping[int, Array]) -> tuple[Array, Array]:
        """As ``start``, but stages (from 0) with shares (C,) of their own."""
        ...

    def carried(self, net: Network) -> Array:
        """Carriers (N, T) of the mixers at the steady state of the design point."""
        ...

    def steady(self, settings: Mapping[str, float]) -> tuple[Array, Array, Array]:
        """Concentrations x, y (N, C) and unknowns (N, m) at steady state, by the steady solver."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class MassFlowTrain:
    """A mass-flow cascade with hold-ups counted in moles of rare earth.

    ``hold_aq, hold_org`` (N,) [mol] are what each phase of a stage holds. Flows are rare-earth
    molar flows in the unit of ``inputs``, so with a feed of 1 time is counted in moles fed.
    ``bypass`` keeps room for efficiencies that events lower.
    """

    inputs: cascade.MassFlowInputs
    hold_aq: Array
    hold_org: Array
    settler_aq: Array | float = 0.0
    settler_org: Array | float = 0.0
    cells: int = 1
    dead: float = 0.0
    bypass: bool = False

    @property
    def components(self) -> tuple[str, ...]:
        """Names in the order of the component axis."""
        return self.inputs.components

    @property
    def settings(self) -> dict[str, float]:
        """solvent, scrub, and for every inlet its flow and its shares; draws; efficiencies."""
        out = {
            "solvent": float(np.asarray(self.inputs.solvent)),
            "scrub": float(np.asarray(self.inputs.scrub)),
        }
        for inlet in self.inputs.inlets:
            flows = np.asarray(inlet.flows, dtype=float)
            out[f"inlet.{inlet.name}.flow"] = float(flows.sum())
            for name, flow in zip(self.components, flows, strict=True):
                out[f"inlet.{inlet.name}.composition.{name}"] = float(flow / flows.sum())
        for draw in self.inputs.draws:
            out[f"draw.{draw.name}.flow"] = float(np.asarray(draw.flow))
        best = self._efficiency().max(axis=1)
        out |= {f"stage.{k + 1}.efficiency": float(e) for k, e in enumerate(best)}
        return out

    def _efficiency(self) -> Array:
        """Efficiencies of the design point, (N, C)."""
        given = np.asarray(self.inputs.efficiency, dtype=float)
        rows = given[:, None] if given.ndim == 1 else given
        return np.array(np.broadcast_to(rows, (self.inputs.stages, len(self.components))))

    def apply(self, settings: Mapping[str, float]) -> cascade.MassFlowInputs:
        """The steady inputs under these settings."""
        given = self.inputs
        inlets = []
        for inlet in given.inlets:
            shares = np.array(
                [settings[f"inlet.{inlet.name}.composition.{n}"] for n in self.components]
            )
            flow = settings[f"inlet.{inlet.name}.flow"]
            inlets.append(replace(inlet, flows=flow * shares / shares.sum()))
        return replace(
            given,
            solvent=settings["solvent"],
            scrub=settings["scrub"],
            inlets=tuple(inlets),
            draws=tuple(replace(d, flow=settings[f"draw.{d.name}.flow"]) for d in given.draws),
            efficiency=_scaled(
                self._efficiency(),
                np.array([settings[f"stage.{k + 1}.efficiency"] for k in range(given.stages)]),
            ),
        )

    def network(self, settings: Mapping[str, float]) -> Network:
        """The network under these settings; volumes are those that hold the given moles."""
        problem = cascade.prepare(self.apply(settings))
        if not np.all(problem.feasible):
            raise InfeasibleError(problem.message, limit={"organic flux": settings["solvent"]})
        plan = cascade.as_plan(problem)
        n = self.inputs.stages
        one = np.ones(1)
        outlets = {"raffinate": (0, 0, one), "loaded_organic": (n - 1, 1, one)}
        for draw in self.inputs.draws:
            stage = int(np.asarray(draw.stage)) - 1
            where = 0 if draw.phase == "aqueous" else 1
            outlets[draw.name] = (stage, where, problem.draw_fraction[draw.name][stage])
        rest = 1.0 - plan.chain.draw[:, 0, :, 0]
        outlets["raffinate"] = (0, 0, rest[0, :1])
        outlets["loaded_organic"] = (n - 1, 1, rest[1, -1:])
        plan = replace(plan, outlets=outlets)
        aqueous, organic = problem.aqueous_flux[:, 0], problem.organic_flux[:, 0]
        holdup = Holdup(
            mixer_aq=self.hold_aq / aqueous,
            mixer_org=self.hold_org / organic,
            settler_aq=self.settler_aq / aqueous,
            settler_org=self.settler_org / organic,
            cells=self.cells,
            dead=self.dead,
        )
        return network(
            plan,
            holdup,
            carriers=(),
            carrier_feed=np.zeros((2, n, 0)),
            always_bypass=self.bypass,
        )

    def undivided(self) -> MassFlowTrain:
        """The same train with all of the organic in its mixers, and room for what passes by."""
        return replace(self, inputs=replace(self.inputs, efficiency=1.0), bypass=True)

    def start(self, net: Network, kind: str) -> tuple[Array, Array]:
        """ "feed": aqueous of feed composition everywhere, organic in equilibrium with it."""
        if kind != "feed":
            raise InputError(Problem(message="unknown start", key="start", value=kind))
        shares = sum(
            (np.asarray(i.flows, dtype=float) for i in self.inputs.inlets),
            start=np.zeros(len(self.components)),
        )
        return self.filled(net, shares / shares.sum())

    def seeded(self, net: Network, fill: str, shares: Mapping[int, Array]) -> tuple[Array, Array]:
        """As ``start``, but stages (from 0) with shares (C,) of their own."""
        given = sum(
            (np.asarray(i.flows, dtype=float) for i in self.inputs.inlets),
            start=np.zeros(len(self.components)),
        )
        rows = np.tile(given / given.sum(), (self.inputs.stages, 1))
        for stage, own in shares.items():
            rows[stage] = own
        return self.filled(net, rows)

    def carried(self, net: Network) -> Array:
        """There are no carriers."""
        return np.zeros((net.stages, 0))

    def filled(self, net: Network, shares: Array) -> tuple[Array, Array]:
        """Mixers with an aqueous of given shares (C,) or (N, C), the organic in equilibrium."""
        problem = cascade.prepare(self.inputs)
        aqueous, organic = problem.aqueous_flux[:, 0], problem.organic_flux[:, 0]
        n, c = self.inputs.stages, len(self.components)
        x = np.broadcast_to(shares, (n, c))
        a = np.broadcast_to(np.asarray(self.inputs.extractability, dtype=float), (n, c))
        y = a * x
        u = np.log(organic / aqueous / np.sum(x * a / a.max(axis=-1, keepdims=True), axis=1))
        y = y / y.sum(axis=1, keepdims=True)
        moles = self.hold_aq[:, None] * x + self.hold_org[:, None] * y
        return moles, u[:, None]

    def steady(self, settings: Mapping[str, float]) -> tuple[Array, Array, Array]:
        """Fluxes (unit flows) and ln tau of the steady cascade."""
        solved = cascade.solve(self.apply(settings))
        return solved.aqueous, solved.organic, solved.theta[:, None]


def proportional(inputs: cascade.MassFlowInputs, time: float = 1.0) -> tuple[Array, Array]:
    """Hold-ups (N,) of both phases that equal each phase's outflow times ``time``."""
    problem = cascade.prepare(inputs)
    return time * problem.aqueous_flux[:, 0], time * problem.organic_flux[:, 0]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class CircuitTrain:
    """A circuit with closed charge and extractant balances, and the hold-ups of its stages.

    ``activity`` is a model of the ions "H", the components and "Cl"; without one activities are
    ideal. ``bypass`` keeps room for efficiencies that events change; ``counter_ion`` is the
    component that outlets are not looked at for.
    """

    inputs: circuit.CircuitInputs
    holdup: Holdup
    bypass: bool = False
    activity: ActivityModel | None = None
    counter_ion: str | None = None

    def __post_init__(self) -> None:
        if self.activity is not None and not isinstance(self.inputs.model, CationExchange):
            raise InputError(
                Problem(
                    message="activity coefficients need a cation-exchange model",
                    key="model.activity",
                    value=self.activity.name,
                    expected='"ideal"',
                )
            )

    @property
    def components(self) -> tuple[str, ...]:
        """Names in the order of the component axis, the counter-ion last."""
        return self.inputs.components

    @property
    def settings(self) -> dict[str, float]:
        """Flows and concentrations [SI] of organic and inlets, draws, efficiency, entrainment."""
        given = self.inputs
        out = {"organic.flow": float(np.asarray(given.organic_flow)),
               "organic.dimer": float(np.asarray(given.dimer))}  # fmt: skip
        conc = np.asarray(given.organic_conc, dtype=float)
        for name, value in zip(self.components, conc, strict=True):
            out[f"organic.composition.{name}"] = float(value)
        # Cation exchange alone knows no sulfate.
        sulfate = not isinstance(given.model, CationExchange)
        sulfate = sulfate or any(np.any(np.asarray(i.sulfate)) for i in given.inlets)
        for inlet in given.inlets:
            head = f"inlet.{inlet.name}"
            out[f"{head}.flow"] = float(np.asarray(inlet.flow))
            out[f"{head}.acid"] = float(np.asarray(inlet.acid))
            if sulfate:
                out[f"{head}.sulfate"] = float(np.asarray(inlet.sulfate))
            for name, value in zip(self.components, np.asarray(inlet.conc), strict=True):
                out[f"{head}.composition.{name}"] = float(value)
        for draw in given.draws:
            out[f"draw.{draw.name}.flow"] = float(np.asarray(draw.flow))
        at = 0
        for section in given.sections:
            rows = np.broadcast_to(
                np.asarray(section.efficiency, dtype=float),
                (section.stages, len(self.components)),
            )
            carry = [
                np.broadcast_to(np.asarray(value, dtype=float), (section.stages,))
                for value in (section.carry_aq, section.carry_org)
            ]
            for k in range(section.stages):
                at += 1
                out[f"stage.{at}.efficiency"] = float(rows[k].max())
                out[f"stage.{at}.entrainment_aq"] = float(carry[0][k])
                out[f"stage.{at}.entrainment_org"] = float(carry[1][k])
        return out

    def apply(self, settings: Mapping[str, float]) -> circuit.CircuitInputs:
        """The steady inputs under these settings."""
        given = self.inputs
        sections = []
        at = 0
        for section in given.sections:
            numbers = range(at + 1, at + section.stages + 1)
            at += section.stages
            base = np.broadcast_to(
                np.asarray(section.efficiency, dtype=float),
                (section.stages, len(self.components)),
            )
            wanted = np.array([settings[f"stage.{k}.efficiency"] for k in numbers])
            sections.append(
                replace(
                    section,
                    efficiency=_one_if_alike(_scaled(base, wanted)),
                    carry_aq=_one_if_alike(
                        np.array([settings[f"stage.{k}.entrainment_aq"] for k in numbers])
                    ),
                    carry_org=_one_if_alike(
                        np.array([settings[f"stage.{k}.entrainment_org"] for k in numbers])
                    ),
                )
            )
        inlets = []
        for inlet in given.inlets:
            head = f"inlet.{inlet.name}"
            inlets.append(
                replace(
                    inlet,
                    flow=_running(settings[f"{head}.flow"], inlet.flow),
                    acid=_running(settings[f"{head}.acid"], inlet.acid),
                    sulfate=settings.get(f"{head}.sulfate", inlet.sulfate),
                    conc=np.array([settings[f"{head}.composition.{n}"] for n in self.components]),
                )
            )
        return replace(
            given,
            sections=tuple(sections),
            organic_flow=_running(settings["organic.flow"], given.organic_flow),
            dimer=settings["organic.dimer"],
            organic_conc=np.array([settings[f"organic.composition.{n}"] for n in self.components]),
            inlets=tuple(inlets),
            draws=tuple(
                replace(d, flow=_running(settings[f"draw.{d.name}.flow"], d.flow))
                for d in given.draws
            ),
        )

    def network(self, settings: Mapping[str, float]) -> Network:
        """The network under these settings."""
        inputs = self.apply(settings)
        plan = circuit.prepare(inputs)
        # Cation exchange alone knows no sulfate.
        n, t = inputs.stages, plan.totals.shape[-1]
        if isinstance(inputs.model, CationExchange) and not plan.totals[..., 2:].any():
            t = 2
        feed = np.zeros((2, n, t))
        feed[ORGANIC, 0, 0] = float(np.asarray(inputs.organic_flow)) * settings["organic.dimer"]
        first = dict(
            zip(
                (s.name for s in inputs.sections),
                np.cumsum([0] + [s.stages for s in inputs.sections])[:-1].tolist(),
                strict=True,
            )
        )
        for inlet in inputs.inlets:
            stage = first[inlet.section] + inlet.stage - 1
            flow = float(np.asarray(inlet.flow))
            if inlet.phase == "organic":
                feed[ORGANIC, stage, 0] += flow * settings["organic.dimer"]
                continue
            anions = float(np.asarray(inlet.acid)) + float(np.asarray(inlet.conc) @ inputs.charge)
            feed[AQUEOUS, stage, 1] += flow * anions
            if t > 2:
                feed[AQUEOUS, stage, 2] += flow * float(np.asarray(inlet.sulfate))
        if self.activity is not None and isinstance(inputs.model, CationExchange):
            active = ActiveExchange(
                exchange=inputs.model, activity=self.activity, components=self.components
            )
            plan = replace(plan, model=active)
        made = network(
            plan,
            self.holdup,
            carriers=(ORGANIC, *(AQUEOUS for _ in range(t - 1))),
            carrier_feed=feed,
            always_bypass=self.bypass,
        )
        counts = [name != self.counter_ion for name in self.components]
        return replace(made, products=np.array(counts, dtype=float))

    def undivided(self) -> CircuitTrain:
        """The same train with all of the organic in its mixers, and room for what passes by."""
        sections = tuple(replace(section, efficiency=1.0) for section in self.inputs.sections)
        return replace(self, inputs=replace(self.inputs, sections=sections), bypass=True)

    def start(self, net: Network, kind: str) -> tuple[Array, Array]:
        """ "feed": extraction and scrub full of feed liquor, strip of its acid, saponify of its
        base, fresh organic.

        "fresh": every section full of its acid (the extraction of the scrub's), without metal.
        """
        if kind not in ("feed", "fresh"):
            raise InputError(Problem(message="unknown start", key="start", value=kind))
        given = self.inputs
        aqueous = np.zeros((given.stages, net.species))
        metals = np.array([name != self.counter_ion for name in self.components])
        # A base or a brine brings the soap's ion and is no feed, wherever it stands in the file.
        fed = next(i for i in given.inlets if np.asarray(i.conc)[metals].any())
        acids = [i for i in given.inlets if not np.asarray(i.conc).any()]
        names = [section.name for section in given.sections]
        at = 0
        for place, section in enumerate(given.sections):
            if section.name == "saponify":
                own = [i for i in given.inlets if i.section == section.name]
            else:
                # Without an acid of its own a section is filled with that of the next.
                own = [i for n in names[place:] for i in acids if i.section == n] or acids
            with_feed = kind == "feed" and section.aqueous_to != "out"
            source = fed if with_feed or not own else own[0]
            conc = np.asarray(source.conc, dtype=float)
            anions = float(np.asarray(source.acid)) + float(conc @ given.charge)
            row = [*conc.tolist(), 0.0, anions, float(np.asarray(source.sulfate))]
            aqueous[at : at + section.stages] = row[: net.species]
            at += section.stages
        organic = np.zeros(net.species)
        organic[: net.components] = np.asarray(given.organic_conc, dtype=float)
        organic[net.components] = float(np.asarray(given.dimer))
        moles = net.mixer[0][:, None] * aqueous + net.mixer[1][:, None] * organic
        return moles, self.guess(net, moles)

    def seeded(self, net: Network, fill: str, shares: Mapping[int, Array]) -> tuple[Array, Array]:
        """As ``start``, but stages (from 0) with shares (C,) of their own in their aqueous."""
        moles, _ = self.start(net, fill)
        c = net.components
        counted = self.inputs.charge > 1
        for stage, own in shares.items():
            total = moles[stage, :c][counted].sum()
            moles[stage, :c] = np.where(counted, own * total, moles[stage, :c])
        return moles, self.guess(net, moles)

    def carried(self, net: Network) -> Array:
        """Carriers (N, T) of the mixers at steady state."""
        c, t, n = net.components, len(net.carriers), net.stages
        plan = circuit.prepare(self.inputs)
        volume = np.where(
            np.array(net.carriers) == AQUEOUS, net.mixer[0][:, None], net.mixer[1][:, None]
        )
        assert c + t == net.species
        out: Array = volume * plan.totals[0, :n, :t]
        return out

    def guess(self, net: Network, moles: Array) -> Array:
        """Unknowns (N, m) of mixers with these contents."""
        c = net.components
        phase = np.array(net.carriers)
        volume = np.where(phase == AQUEOUS, net.mixer[0][:, None], net.mixer[1][:, None])
        return net.model.guess(moles[:, :c], net.mixer[0], net.mixer[1], moles[:, c:] / volume)

    def steady(self, settings: Mapping[str, float]) -> tuple[Array, Array, Array]:
        """Concentrations and unknowns of the steady circuit."""
        inputs = self.apply(settings)
        if self.activity is None:
            solved = circuit.solve(inputs)
            return solved.conc_aq, solved.conc_org, solved.u
        settled = circuit_activity.solve(inputs, self.activity)
        solved = settled.solved
        u = np.concatenate([solved.u, settled.log_gamma], axis=-1)
        return solved.conc_aq, solved.conc_org, u


def _running(flow: float, design: ArrayLike) -> float:
    """A pump's flow, or its acid: one that fails lets a trickle of the design's through."""
    return max(flow, TRICKLE * float(np.asarray(design))) if flow >= 0 else flow


def _scaled(base: Array, best: Array) -> Array:
    """Efficiencies (N, C) brought to the best one wanted in every stage (N,)."""
    most = base.max(axis=1)
    part = np.divide(best, most, out=np.ones_like(most), where=most > 0)
    out: Array = np.minimum(base * part[:, None], 1.0)
    return out


def _one_if_alike(rows: Array) -> Array:
    """The first of rows (stages, ...) that are all alike, else the rows."""
    first: Array = rows[0]
    return first if np.all(rows == first) else rows


def at_rest(
    train: Train, net: Network, settings: Mapping[str, float]
) -> tuple[Array, Array, Array]:
    """Contents (N, K) of the mixers, unknowns (N, m), and what passes by [per organic] (N, C), of
    the steady state."""
    x, y, u = train.steady(settings)
    moles = np.zeros((net.stages, net.species))
    c = net.components
    aside = np.zeros_like(y)
    if net.bypass is not None:
        # What passes by is not in the mixer: the cells beside it take it up.
        into = np.zeros_like(y)
        into[1:] = (net.keep[1, :-1] * net.flow[1, :-1])[:, None] * y[:-1]
        into += net.feed[1, :, :c]
        for link in net.links:
            stage, phase = link.source
            where, which = link.target
            if which == ORGANIC:
                leaving = net.flow[phase, stage] * (x, y)[phase][stage]
                into[where] += link.share[:c] * leaving
        aside = net.bypass * into / net.flow[1][:, None]
    moles[:, :c] = net.mixer[0][:, None] * x + net.mixer[1][:, None] * (y - aside)
    if net.carriers:
        moles[:, c:] = train.carried(net)
    return moles, u, aside
