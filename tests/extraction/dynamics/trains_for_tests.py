"""Small trains that several tests share."""

from dataclasses import replace

import numpy as np
from scipy.integrate import solve_ivp

from sepmodel.chemistry import activity
from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.data import Book
from sepmodel.extraction import cascade, circuit
from sepmodel.extraction.dynamics.network import Holdup
from sepmodel.extraction.dynamics.trains import CircuitTrain, MassFlowTrain, proportional

LITRE_PER_HOUR = 1e-3 / 3600


def binary(**options):
    """The Nd/Pr train: 20 + 19 equilibrium stages, beta 1.5, 75 % Nd."""
    feed = cascade.Inlet(name="feed", phase="aqueous", stage=20, flows=np.array([0.75, 0.25]))
    inputs = cascade.MassFlowInputs(
        components=("Nd", "Pr"),
        extractability=np.array([1.5, 1.0]),
        stages=39,
        solvent=4.1009,
        scrub=3.3484,
        inlets=(feed,),
    )
    hold_aq, hold_org = proportional(inputs)
    return MassFlowTrain(inputs=inputs, hold_aq=hold_aq, hold_org=hold_org, **options)


def circuit_inputs(stages=(4, 4, 3), closed=True, **section):
    """Two rare earths, sodium soap, extraction, scrub and strip, the organic returned."""
    z = np.array([3.0, 3.0, 1.0])
    names = ("extraction", "scrub", "strip")
    flow = LITRE_PER_HOUR
    inlets = [
        circuit.Inlet(
            name="feed", section="extraction", stage=stages[0], flow=flow, acid=10.0,
            conc=np.array([700.0, 300.0, 0.0]),
        ),
        circuit.Inlet(
            name="scrub-acid", section="scrub", stage=stages[1], flow=1.2 * flow, acid=1000.0,
            conc=np.zeros(3),
        ),
        circuit.Inlet(
            name="strip-acid", section="strip", stage=stages[2], flow=2.0 * flow, acid=6000.0,
            conc=np.zeros(3),
        ),
    ]  # fmt: skip
    return circuit.CircuitInputs(
        components=("A", "B", "Na"),
        model=CationExchange(
            log_k=np.append(np.log([0.04, 0.02]), -5 * np.log(10)), charge=z, dimers=z
        ),
        charge=z,
        sections=tuple(
            circuit.Section(
                name=name,
                stages=count,
                aqueous_to="out" if name == "strip" else "below",
                **section,
            )
            for name, count in zip(names, stages, strict=True)
        ),
        organic_flow=9.0 * flow,
        dimer=500.0,
        organic_conc=np.array([0.0, 0.0, 350.0]),
        inlets=tuple(inlets),
        closed=closed,
        reset=("Na",) if closed else (),
    )


def circuit_train(hours=0.2, settler=0.0, cells=1, **options):
    """The circuit with volumes that both phases pass in ``hours``."""
    bypass = options.pop("bypass", False)
    inputs = circuit_inputs(**options)
    plan = circuit.prepare(inputs)
    aq, org = plan.flow_aq[0] * hours * 3600, plan.flow_org[0] * hours * 3600
    holdup = Holdup(
        mixer_aq=aq,
        mixer_org=org,
        settler_aq=settler * aq,
        settler_org=settler * org,
        cells=cells,
    )
    return CircuitTrain(inputs=inputs, holdup=holdup, bypass=bypass, counter_ion="Na")


def active_train(name="pitzer", **options):
    """The circuit with activities of every mixer's own solution, its elements Nd and Pr."""
    train = circuit_train(**options)
    names = ("Nd", "Pr", "Na")
    return replace(
        train,
        inputs=replace(train.inputs, components=names),
        activity=activity.build(name, ("H", *names, "Cl"), Book()),
    )


def integrated(train, stretches, moments=400):
    """An open circuit by LSODA on the contents of its mixers, with a program of its own.

    Settings hold for so long (``stretches``, from feed); coefficients of each liquor by rounds of
    substitution. Times, and both phases' concentrations (T, N, C), at moments of every stretch.
    """
    z, log_k = train.inputs.charge, train.inputs.model.log_k
    model = None if train.activity is None else activity.unlimited(train.activity)
    net = train.network(train.settings)
    n, c = net.stages, net.components
    held, _ = train.start(net, "feed")
    va, vo = net.mixer[0][:, None], net.mixer[1][:, None]
    u, gamma = np.zeros(n), np.zeros((n, c))

    def phases(held):
        nonlocal u, gamma
        m, dimer, anions = held[:, :c], held[:, c] / vo[:, 0], held[:, c + 1] / va[:, 0]
        while True:

            def short(at, m=m, dimer=dimer, anions=anions, gamma=gamma):
                d = np.exp(log_k + gamma + z * at[:, None])
                x = m / (va + vo * d)
                return np.exp(at) * (anions - x @ z) < dimer - (d * x) @ z

            wide = np.full(n, 1e-3)
            while np.any(bad := ~short(u - wide) | short(u + wide)):
                wide[bad] *= 8.0
            low, high = u - wide, u + wide
            while np.any(high - low > 1e-12):
                middle = 0.5 * (low + high)
                more = short(middle)
                low, high = np.where(more, middle, low), np.where(more, high, middle)
            u = 0.5 * (low + high)
            d = np.exp(log_k + gamma + z * u[:, None])
            x = m / (va + vo * d)
            if model is None:
                return x, d * x
            ions = np.column_stack([anions - x @ z, x, anions]) / train.activity.water
            ln = model.ln_gamma(ions)
            fresh = ln[:, 1:-1] - z * ln[:, :1]
            if np.abs(fresh - gamma).max() < 1e-11:
                return x, d * x
            gamma = fresh

    def rates(t, flat, net):
        held = flat.reshape(n, -1)
        x, y = phases(held)
        nothing = np.zeros(n)
        aq = net.flow[0][:, None] * np.column_stack([x, nothing, held[:, c + 1] / va[:, 0]])
        org = net.flow[1][:, None] * np.column_stack([y, held[:, c] / vo[:, 0], nothing])
        out = net.feed.sum(axis=0) - aq - org
        out[:-1] += (net.keep[0][:, None] * aq)[1:]
        out[1:] += (net.keep[1][:, None] * org)[:-1]
        return out.reshape(-1)

    begun, times, found = 0.0, [], []
    for settings, lasts in stretches:
        solved = solve_ivp(
            rates, (begun, begun + lasts), held.reshape(-1), method="LSODA", rtol=1e-6, atol=1e-10,
            args=(train.network(settings),), t_eval=np.linspace(begun, begun + lasts, moments),
        )  # fmt: skip
        held = solved.y[:, -1].reshape(n, -1)
        times.append(solved.t)
        found += [phases(row.reshape(n, -1)) for row in solved.y.T]
        begun += lasts
    return np.concatenate(times), *(np.array(part) for part in zip(*found, strict=True))
