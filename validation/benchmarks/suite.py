"""Timings of the extraction kernels on one core, in CPU time and as ratios within this one run.

Every time stands beside a yardstick measured in the same run (factorising the bare Jacobian), so
that a noisy or slow machine shifts both. Best of several repetitions.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.extraction import cascade, circuit, derivatives, linearised, stagewise
from sepmodel.extraction.circuit import CircuitInputs, Inlet, Section

LITRE_PER_HOUR = 1e-3 / 3600
CASES = Path(__file__).parent / "cases"


def open_circuit(stages: int, count: int) -> CircuitInputs:
    """The fixed case: K_i = 0.02 1.8^(i - (C-1)/2), 0.75 M dimer, 40 % sodium soap, open loop."""
    i = np.arange(count)
    z = np.array([3.0] * count + [1.0])
    log_k = np.append(np.log(0.02) + np.log(1.8) * (i - (count - 1) / 2), -5 * np.log(10))
    half = stages // 2
    return CircuitInputs(
        components=(*(f"E{k}" for k in i), "Na"),
        model=CationExchange(log_k=log_k, charge=z, dimers=z),
        charge=z,
        sections=(
            Section(name="extraction", stages=half),
            Section(name="scrub", stages=stages - half),
        ),
        organic_flow=6 * LITRE_PER_HOUR,
        dimer=750.0,
        organic_conc=np.append(np.zeros(count), 600.0),
        inlets=(
            Inlet(
                name="feed",
                section="extraction",
                stage=half,
                flow=LITRE_PER_HOUR,
                conc=np.append(np.full(count, 1000.0 / count), 0.0),
                acid=10.0,
            ),
            Inlet(
                name="scrub",
                section="scrub",
                stage=stages - half,
                flow=0.3 * LITRE_PER_HOUR,
                conc=np.zeros(count + 1),
                acid=600.0,
            ),
        ),
    )


def mass_flow(members: int, n: int, m: int, beta: tuple[float, ...]) -> cascade.MassFlowInputs:
    """A batch of cascades with solvent and separation factors varied by a few per cent."""
    rng = np.random.default_rng(1)
    c = len(beta)
    solvent = 1.7086449 * np.exp(rng.normal(0.0, 0.02, members))
    factors = np.array(beta) * np.exp(rng.normal(0.0, 0.02, (members, c)))
    feed = cascade.Inlet(name="feed", phase="aqueous", stage=n, flows=np.full(c, 1.0 / c))
    return cascade.MassFlowInputs(
        components=tuple(f"E{i}" for i in range(c)),
        extractability=factors,
        stages=n + m,
        solvent=solvent,
        scrub=solvent - 0.5004505,
        inlets=(feed,),
    )


def mass_flow_chunk(call: tuple[int, int, int, tuple[float, ...]]) -> int:
    """Solved members of such a batch: what one worker does."""
    return int(cascade.solve(mass_flow(*call), failures="record").converged.sum())


def seconds(work: Callable[[], object], repeat: int = 5) -> float:
    """Least CPU seconds of a few repetitions."""
    times = []
    for _ in range(repeat):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def factorisation(stages: int) -> float:
    """CPU seconds to factorise and solve a dense matrix of one unknown a stage."""
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(stages, stages)) + stages * np.eye(stages)
    rhs = rng.normal(size=(stages, 1))
    return seconds(lambda: np.linalg.solve(matrix, rhs), 20)


def line(what: str, time_s: float, bare: float, limit: str = "", note: str = "") -> None:
    print(f"{what:<46}{1e3 * time_s:>9.2f} ms {time_s / bare:>8.1f}   {limit:<9}{note}")


def main() -> None:
    quick = "--quick" in sys.argv
    print(f"{'':<46}{'CPU':>12} {'x LU':>8}   {'target':<9}")
    for stages, count, limit in ((100, 4, "8 ms"), (100, 15, "25 ms"), (500, 15, "120 ms")):
        inputs = open_circuit(stages, count)
        bare = factorisation(stages)
        result = circuit.solve(inputs)
        cold = seconds(lambda i=inputs: circuit.solve(i))
        note = f"{int(result.iterations)} iterations on all levels"
        line(f"open circuit {stages} x {count}, cold", cold, bare, limit, note)
        more = replace(
            inputs,
            organic_flow=1.05 * inputs.organic_flow,
            inlets=tuple(replace(i, flow=1.05 * i.flow) for i in inputs.inlets),
        )
        warm = seconds(lambda i=more, r=result: circuit.solve(i, guess=r.u))
        line("   restart, every flow + 5 %", warm, bare, "2 ms" if count == 4 else "")
        one = replace(
            inputs, inlets=(replace(inputs.inlets[0], flow=1.05 * inputs.inlets[0].flow),
                            inputs.inlets[1])
        )  # fmt: skip
        changed = seconds(lambda i=one, r=result: circuit.solve(i, guess=r.u))
        line("   restart, feed flow + 5 %", changed, bare, "cold")
        plan = circuit.prepare(inputs)
        u = result.u[None]
        state = stagewise.approach(plan, u)[1]
        look = seconds(lambda p=plan, v=u: stagewise.approach(p, v), 10)
        step = seconds(lambda p=plan, s=state: linearised.factorise(stagewise.system(p, s)), 10)
        line("   one look at the residuals", look, bare)
        line("   assembly and factorisation", step, bare)
    inputs = open_circuit(100, 15)
    result = circuit.solve(inputs)
    outputs = [
        derivatives.logit_purity(result, "organic", inputs.components[8:15]),
        derivatives.log_flow("raffinate", "E7"),
    ]
    plan, state = result.point
    own = seconds(lambda: linearised.factorise(stagewise.system(plan, state)), 20)
    count = len(derivatives.parameters(inputs))
    for name, work in (
        ("adjoint, 2 outputs", lambda: derivatives.adjoint(result, outputs)),
        ("forward, 2 outputs", lambda: derivatives.forward(result, outputs)),
        ("forward, all unknowns", lambda: derivatives.tangent(result)),
    ):
        spent = seconds(work, 200)
        own = min(own, seconds(lambda: linearised.factorise(stagewise.system(plan, state)), 100))
        note = f"{spent / own:.2f} x its own assembly and factorisation"
        line(f"{name}, {count} parameters, 100 x 15", spent, factorisation(100), "2 x", note)
    for path in sorted(CASES.glob("*.toml")):
        import sepmodel

        result = sepmodel.run(path)
        bare = factorisation(int(result.quantities["stages"]["value"]))
        spent = seconds(lambda p=path: sepmodel.run(p), 2)
        note = f"{result.solver['iterations']} iterations, {result.solver['fallbacks']} fallbacks"
        line(f"closed {path.stem}, file to result", spent, bare, note=note)
        limit = {"fifteen-nd-sm-500": "120 ms", "fifteen-nd-pr-500": "300 ms"}.get(path.stem, "")
        opened = seconds(lambda p=path: sepmodel.run(p, {"recycle.organic": False}), 2)
        line("   the same with the loop open", opened, bare, limit)
    members = 2000 if quick else 20_000
    for n, m, beta, limit in (
        (24, 21, (2.0, 1.0), "10 s"),
        (30, 30, (6.0, 3.0, 1.5, 1.0), "40 s"),
    ):
        batch = mass_flow(members, n, m, beta)
        spent = seconds(lambda b=batch: cascade.solve(b, failures="record"), 1)
        per = spent / members
        print(
            f"mass-flow {n + m} x {len(beta)}, batch of {members:<15}{1e6 * per:>9.0f} us/member"
            f"   100,000: {1e5 * per:.0f} s CPU (target {limit} on two cores)"
        )


if __name__ == "__main__":
    main()
