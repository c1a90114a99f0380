"""Integrators for trains in time: python validation/benchmarks/run.py --dynamics [--figure FILE].

The fixed case is models/cases/upsets-pr-nd.toml: 100 stages, four elements, counter-ion, strip.
CPU time of one core, the best of several repetitions, all in this one run, from the start to the
liquors at sixty moments. The error is the largest difference of any element's share in any liquor
to a tight run, at these sixty moments and, from a run of its own, at every full hour: there the
moments count in which a front comes out, which twelve hours may step over.
Every integrator gets the same rates and the same kernels. LSODA is called through solve_ivp with
its own banded differences, twice: with the states that ours has, what left each outlet included
(put beside their stages, so that the band stays narrow), and spared those; spared them it is also
given the exact band, and called through odeint, which spares it SciPy's Python between steps. BDF
and Radau are given the exact derivative, sparse. Each has the loosest of its tolerances with which
the error is small enough.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.integrate import odeint, solve_ivp
from scipy.sparse import csc_matrix

from sepmodel import load
from sepmodel.data import Book
from sepmodel.extraction import circuit, circuit_levels
from sepmodel.extraction.dynamics import solve as cases
from sepmodel.extraction.dynamics.kernel import Kernel
from sepmodel.extraction.dynamics.network import Holdup
from sepmodel.extraction.dynamics.simulate import Options, Run, simulate

DAY = 86400.0
LONG = 30 * DAY
TIMES = np.linspace(0.0, LONG, 61)
HOURS = np.linspace(0.0, LONG, 721)
OURS = "Radau IIA 9, block band (sepmodel)"
WHOLE = "LSODA, own band, with what left"
# Part of what a stage holds at the beginning below which LSODA's tolerance is absolute: of 1e-3 to
# 1e-1 the one with which it takes least.
FLOOR = 1e-3
LIMIT = 1e-5


def best(work: Callable[[], Any], repeat: int = 3) -> tuple[float, Any]:
    """CPU seconds, the least of several."""
    spent = []
    for _ in range(repeat):
        start = time.process_time()
        found = work()
        spent.append(time.process_time() - start)
    return min(spent), found


class Problem:
    """The fixed case, its first thirty days, as rates of the mixers' contents."""

    def __init__(self) -> None:
        self.case = load("upsets-pr-nd").inputs
        made = cases.assemble(self.case, Book())
        self.run = made.run
        self.train = made.train
        self.kernel = Kernel(self.train.network(self.run.schedule.at(0.0)))
        lay = self.kernel.lay
        moles, self.u = self.train.start(self.kernel.net, "feed")
        self.y = np.zeros(lay.size)
        self.y[: lay.mixers] = moles.reshape(-1)
        self.size = lay.mixers
        self.full = np.zeros(lay.size)
        names = list(self.kernel.net.ports)
        self.rows = [names.index("raffinate"), names.index("strip")]
        self.band = 2 * lay.k - 1
        self.outlets()

    def outlets(self) -> None:
        """Places of mixers and of what left, each outlet's beside its stage, half a side."""
        lay, kernel = self.kernel.lay, self.kernel
        beside: dict[int, tuple[list[int], list[int]]] = {}
        for row, port in enumerate(kernel.net.ports.values()):
            carried = (kernel.carried_aq, kernel.carried_org)[port.phase][port.stage]
            passing = np.append(np.ones(kernel.c), carried) * port.share
            kept = [row * lay.k + int(k) for k in np.flatnonzero(passing)]
            ends = {0: len(kept), lay.n - 1: 0}
            half = ends.get(port.stage, len(kept) // 2)
            beside[port.stage] = (kept[:half], kept[half:])
        # Mixers are counted from 0, outlets from -1 down.
        order: list[int] = []
        for stage in range(lay.n):
            before, after = beside.get(stage, ([], []))
            order += [-1 - k for k in before]
            order += range(stage * lay.k, (stage + 1) * lay.k)
            order += [-1 - k for k in after]
        places = np.array(order)
        self.mixed, self.ported = np.flatnonzero(places >= 0), np.flatnonzero(places < 0)
        self.kept = -1 - places[self.ported]
        near = self.mixed.reshape(lay.n, lay.k)
        self.wide = int((near[1:, -1] - near[:-1, 0]).max())

    def all_rates(self, t: float, y: Any) -> Any:
        """Of mixers and of what left."""
        found = self.contents(y[self.mixed])
        change, exits = self.kernel.changes(self.full, found)
        out = np.empty(y.size)
        out[self.mixed] = change
        out[self.ported] = self.kernel.leaving(self.full, exits).reshape(-1)[self.kept]
        return out

    def begin(self) -> None:
        """What every run does first, ours too: the network and its start."""
        kernel = Kernel(self.train.network(self.run.schedule.at(0.0)))
        self.last = self.train.start(kernel.net, "feed")[1]

    def whole(self, rtol: float, times: Any) -> Any:
        """LSODA with everything that ours integrates; shares in the liquors."""
        self.begin()
        start = np.zeros(self.mixed.size + self.ported.size)
        start[self.mixed] = self.y[: self.size]
        atol = np.empty(start.size)
        atol[self.mixed] = self.tolerance(rtol)
        # What left is known to a part of what a train holds.
        atol[self.ported] = FLOOR * rtol * self.y[: self.size].sum()
        found = solve_ivp(
            self.all_rates, (0.0, LONG), start, method="LSODA", rtol=rtol, atol=atol, t_eval=times,
            lband=self.wide, uband=self.wide,
        )  # fmt: skip
        return self.shares(found.y[self.mixed].T)

    def tolerance(self, rtol: float) -> Any:
        """Absolute tolerances of the mixers' contents."""
        held = np.abs(self.y[: self.size]).reshape(self.kernel.lay.n, -1)
        return np.repeat(FLOOR * rtol * held[:, : self.kernel.c].sum(axis=1), held.shape[1])

    def contents(self, y: Any) -> Any:
        self.full[: self.size] = y
        found = self.kernel.contents(self.full, self.last)
        self.last = found.u
        return found

    def rates(self, t: float, y: Any) -> Any:
        return self.kernel.changes(self.full, self.contents(y))[0]

    def dense(self, t: float, y: Any) -> Any:
        """The exact derivative as blocks (from below, own, from above), (3, N, K, K)."""
        found = self.contents(y)
        kernel, c = self.kernel, self.kernel.c
        kernel.moving = True
        slope = kernel.linearise(found)
        n, k = kernel.lay.n, kernel.lay.k
        u_m = np.concatenate([slope.u_m, slope.u_t * kernel.amount[:, None]], axis=2)
        down, up = np.zeros((n, k, k)), np.zeros((n, k, k))
        down[:, :c] = kernel.qa[..., None] * (slope.x_u @ u_m)
        up[:, :c] = kernel.qo[..., None] * (slope.y_u @ u_m)
        own = np.arange(c)
        down[:, own, own] += kernel.qa * found.s
        up[:, own, own] += kernel.qo * (found.d * found.s)
        rest = np.arange(c, k)
        down[:, rest, rest] += kernel.qa * kernel.fixed_x
        up[:, rest, rest] += kernel.qo * kernel.fixed_y
        blocks = np.zeros((3, n, k, k))
        blocks[1] = -(down + up)
        blocks[2, :-1] = kernel.keep[0, 1:, :, None] * down[1:]
        blocks[0, 1:] = kernel.keep[1, :-1, :, None] * up[:-1]
        return blocks

    def places(self) -> tuple[Any, Any, Any]:
        n, k = self.kernel.lay.n, self.kernel.lay.k
        b, s, i, j = np.meshgrid(
            np.arange(3), np.arange(n), np.arange(k), np.arange(k), indexing="ij"
        )
        row, column = s * k + i, (s + b - 1) * k + j
        good = (column >= 0) & (column < n * k)
        return row[good], column[good], good

    def sparse(self, t: float, y: Any) -> Any:
        row, column, good = self.places()
        values = self.dense(t, y)[good]
        return csc_matrix((values, (row, column)), shape=(self.size, self.size))

    def banded(self, t: float, y: Any) -> Any:
        row, column, good = self.places()
        out = np.zeros((2 * self.band + 1, self.size))
        out[self.band + row - column, column] = self.dense(t, y)[good]
        return out

    def shares(self, states: Any) -> Any:
        """Shares of the rare earths in both liquors, of states (T, size)."""
        flows = [self.kernel.outflows(self.full, self.contents(y))[self.rows, :4] for y in states]
        return _shares(np.array(flows))

    def scipy(self, method: str, rtol: float, times: Any, exact: bool) -> Any:
        self.begin()
        atol = self.tolerance(rtol)
        options: dict[str, Any] = {"rtol": rtol, "atol": atol, "t_eval": times}
        if method == "LSODA":
            options |= {"lband": self.band, "uband": self.band}
            if exact:
                options["jac"] = self.banded
        else:
            options["jac"] = self.sparse
        found = solve_ivp(self.rates, (0.0, LONG), self.y[: self.size], method=method, **options)
        return self.shares(found.y.T)

    def odeint(self, rtol: float, times: Any) -> Any:
        self.begin()
        return self.shares(
            odeint(
                self.rates, self.y[: self.size], times, tfirst=True, Dfun=self.banded,
                ml=self.band, mu=self.band, rtol=rtol, atol=self.tolerance(rtol), mxstep=100000,
            )
        )  # fmt: skip

    def ours(self, rtol: float, times: Any = TIMES) -> Any:
        found = simulate(
            Run(
                train=self.train,
                schedule=replace(self.run.schedule, events=()),
                start="feed",
                until=LONG,
                outputs=times,
                options=Options(rtol=rtol),
            )
        )
        rows = [found.outlets.index("raffinate"), found.outlets.index("strip")]
        return _shares(found.flows[:, rows, :4])


def _shares(flows: Any) -> Any:
    return flows / np.maximum(flows.sum(axis=2, keepdims=True), 1e-30)


def error(shares: Any, tight: Any) -> float:
    # The strip liquor carries nothing worth a share in the first moments.
    return float(np.abs(shares - tight)[1:].max())


# (rtol, CPU seconds, errors at the sixty moments and at every hour).
Point = tuple[float, float, float, float]


def work_precision(problem: Problem, repeat: int) -> dict[str, list[Point]]:
    """Points of every integrator."""
    tight = [problem.ours(1e-9, times) for times in (TIMES, HOURS)]
    fine = (1e-3, 8e-4, 7e-4, 6e-4, 5e-4, 4e-4, 3.5e-4, 3e-4, 2e-4, 1e-4, 5e-5)
    several = (1e-3, 5e-4, 3e-4, 2e-4, 1e-4, 7e-5, 5e-5, 4e-5, 3e-5, 2e-5, 1e-5, 1e-6, 1e-7)
    scipy = problem.scipy
    runs: tuple[tuple[str, Callable[[float, Any], Any], tuple[float, ...], int], ...] = (
        (OURS, problem.ours, (3e-3, *fine, 3e-5, 2e-5, 1e-5, 1e-6, 1e-7), repeat),
        (WHOLE, problem.whole, several, repeat),
        ("LSODA, own band, solve_ivp", lambda r, t: scipy("LSODA", r, t, False), several, repeat),
        ("LSODA, exact band, solve_ivp", lambda r, t: scipy("LSODA", r, t, True), several, repeat),
        ("LSODA, exact band, odeint", problem.odeint, several, repeat),
        ("BDF, exact sparse", lambda r, t: scipy("BDF", r, t, True), (1e-4, 1e-5, 1e-6), 1),
        ("Radau, exact sparse", lambda r, t: scipy("Radau", r, t, True), (1e-3, 1e-4), 1),
    )
    out: dict[str, list[Point]] = {}
    for label, work, tolerances, times in runs:
        for rtol in tolerances:
            seconds, found = best(lambda w=work, r=rtol: w(r, TIMES), times)
            wrong = error(found, tight[0]), error(work(rtol, HOURS), tight[1])
            out.setdefault(label, []).append((rtol, seconds, *wrong))
    return out


def least(points: list[Point], which: int) -> tuple[float, float]:
    """Least CPU time with an error of at most LIMIT: at any tolerance, and at the loosest from
    which on every tighter one keeps it too."""
    within = [p[1] for p in points if p[2 + which] <= LIMIT]
    safe = np.nan
    for _, seconds, *wrong in sorted(points):
        if wrong[which] > LIMIT:
            break
        safe = seconds
    return min(within, default=np.nan), safe


def scaling(repeat: int) -> list[tuple[int, float, int, int]]:
    """Stages, CPU milliseconds a step, steps while fronts pass through the train, steps after that.

    The same case with more stages in every section, for as many residence times of the train: two
    days a hundred stages, in which the fronts have passed, and thirty.
    """
    problem = Problem()
    out = []
    for counts in ((20, 24, 6), (40, 48, 12), (80, 96, 24), (160, 192, 48)):
        inputs = circuit_levels.with_stages(problem.train.inputs, counts)
        plan = circuit.prepare(inputs)
        hold = Holdup(mixer_aq=720 * plan.flow_aq[0], mixer_org=720 * plan.flow_org[0])
        train = replace(problem.train, inputs=inputs, holdup=hold)
        run = replace(
            problem.run, train=train, schedule=replace(problem.run.schedule, base=train.settings,
            events=()), start="feed", specifications=(), options=Options(rtol=1e-3),
        )  # fmt: skip
        days = sum(counts) / 100 * DAY
        took = []
        for until in (2 * days, 30 * days):
            part = replace(run, until=until, outputs=np.array([0.0, until]))
            seconds, found = best(lambda part=part: simulate(part), repeat)
            took.append(found.steps + found.rejected)
        out.append((sum(counts), 1000 * seconds / took[1], took[0], took[1] - took[0]))
    return out


def figure(results: dict[str, list[Point]], path: str) -> None:
    """CPU time against error."""
    from matplotlib.figure import Figure

    from sepmodel import plot

    with plot.style():
        drawn = Figure(figsize=(7.2, 4.0), layout="constrained")
        axes = drawn.subplots()
        for (label, points), name in zip(
            results.items(), ("Nd", "Pr", "Tb", "Dy", "Ce", "La", "Sm"), strict=False
        ):
            _, seconds, wrong, _ = zip(*sorted(points, key=lambda p: -p[2]), strict=True)
            axes.loglog(wrong, seconds, marker="o", label=label, color=plot.look(name)["color"])
        axes.axvline(1e-5, color=plot.FAINT, linestyle=plot.DOTTED)
        axes.set(xlabel="largest error of a share in the liquors", ylabel="CPU time (s)")
        axes.invert_xaxis()
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        drawn.suptitle("Thirty days of 100 stages, started with feed", x=0.01, ha="left",
                       fontweight="bold")  # fmt: skip
        with open(path, "wb") as stream:
            stream.write(plot.rendered(drawn, path.rsplit(".", 1)[-1]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--dynamics", action="store_true")
    parser.add_argument("--figure")
    parser.add_argument("--repeat", type=int, default=3)
    chosen = parser.parse_args()
    problem = Problem()
    seconds, found = best(lambda: simulate(problem.run), chosen.repeat)
    print(f"180 days, three disturbances, rtol {problem.run.options.rtol:g}: {seconds:.2f} s CPU, "
          f"{found.steps} steps, balances to {found.closure.max():.0e}")  # fmt: skip
    results = work_precision(problem, chosen.repeat)
    print(f"\n{'thirty days':<34}{'rtol':>8}{'CPU s':>9}{'error':>10}{'hourly':>10}")
    for label, points in results.items():
        for rtol, seconds, wrong, hourly in points:
            print(f"{label:<34}{rtol:>8.1e}{seconds:>9.3f}{wrong:>10.1e}{hourly:>10.1e}")
    for which, grid in enumerate(("sixty moments", "every hour")):
        print(
            f"\nleast CPU time with an error of at most {LIMIT:g} at {grid}, ours as a part of it;"
        )
        print("the same where every tighter tolerance keeps that error too:")
        own = least(results[OURS], which)
        for label, points in results.items():
            for seconds, ours in zip(least(points, which), own, strict=True):
                print(f"{seconds:>9.3f}{ours / seconds:>9.2f}", end="")
            print(f"  {label}")
    print(f"\n{'stages':>8}{'ms a step':>12}{'us each':>10}{'fronts':>8}{'after':>8}")
    for stages, cost, fronts, after in scaling(chosen.repeat):
        print(f"{stages:>8}{cost:>12.2f}{1000 * cost / stages:>10.1f}{fronts:>8}{after:>8}")
    if chosen.figure:
        figure(results, chosen.figure)


if __name__ == "__main__":
    main()
