"""A train that is built, at other constants and liquors: its circuits keep their stages.

The cuts, their order and the stages stand; what may stray across each cut follows from the
specifications as it did when the train was designed, and the flows of every circuit are set anew
(``circuit_trims``), each fed with what the one before hands on. Where no flows do what is asked,
the circuit is lengthened, as a designer for these constants would. Many plants at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sepmodel.errors import ConvergenceError, InfeasibleError, Trace
from sepmodel.plant import circuit_search, train_groups
from sepmodel.plant.circuit_numbers import Job
from sepmodel.plant.circuit_trims import AMPLE_SCRUB, MOST_SCRUB, Trimmer
from sepmodel.plant.circuits import Chemistry, Liquor, Solved
from sepmodel.plant.train import Train
from sepmodel.products import Product

# Rounds in which the circuits beside a product that is missed are asked for more, and by how much.
TIGHTENINGS = 4
MORE_STRICT = 1 - 1e-2
# Stages added to extraction and scrub, each, where no flows do what is asked; with the most of them
# the scrub may be ample.
LONGER = (0, 2, 5, 10)
# Why there is no train.
Failure = InfeasibleError | ConvergenceError


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Running:
    """The circuits of a train in the order they run, and the liquor of each outlet."""

    circuits: tuple[Solved, ...]
    outlets: Mapping[str, Liquor]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Asked:
    """What a plant asks of its train: its liquor, products, chemistry and stages of the strip."""

    liquor: Liquor
    products: tuple[Product, ...]
    chemistry: Chemistry
    strip: int


def beside(train: Train, cut: str) -> Iterator[str]:
    """The outlets of a train on both sides of a cut: the last lighter, the first heavier."""
    lighter, heavier = cut.split("|")
    for name, moles in train.outlets.items():
        total = sum(moles.values())
        if any(moles.get(e, 0.0) > 0.5 * total for e in (lighter, heavier)) or any(
            p.name == name and {lighter, heavier} & set(p.elements) for p in train.products
        ):
            yield name


class TrainTrimmer:
    """A built train: ``train`` as designed, ``circuits`` as solved for it."""

    def __init__(self, train: Train, circuits: Sequence[Solved]) -> None:
        self.train = train
        self._trimmers: dict[tuple[str, int], Trimmer] = {}
        self._built = {c.name: c for c in circuits}
        first = self._built[train.circuits[0].name]
        assert first.task is not None
        assert first.chemistry is not None
        moles = dict(first.task.feed)
        log_k = first.chemistry.log_k
        names = sorted((e for e in moles if moles[e] > 0), key=lambda e: log_k[e])
        values = np.exp(np.array([log_k[e] for e in names]) - log_k[names[0]])
        groups = self._groups = train_groups.grouped(names, train.products, moles)
        least = train_groups.least_solvents(groups, names, values, moles)
        self._effort = [
            least[0, cut, len(groups)] / train_groups.ln_beta(groups, names, values, cut)
            for cut in range(1, len(groups))
        ]
        # What the design's whole stages leave of what it allows.
        allowed = self._allowed(moles, train.products)
        self._reached = {}
        for c in circuits:
            assert c.task is not None
            down, up = allowed[c.name]
            self._reached[c.name] = (c.task.down / down, c.task.up / up)

    def _allowed(
        self, moles: Mapping[str, float], slate: Sequence[Product]
    ) -> dict[str, tuple[float, float]]:
        """By cut, what may stray down and up [mol/s], as the design divides it."""
        own = {p.name: p for p in slate}
        groups = [
            replace(g, product=None if g.product is None else own[g.product.name])
            for g in self._groups
        ]
        there = {e: moles.get(e, 0.0) for g in groups for e in g.elements}
        found = train_groups.allowances(groups, there, self._effort, {p.name: 1.0 for p in slate})
        return {train_groups.cut_name(groups, cut): pair for cut, pair in found.items()}

    def solve(self, asked: Sequence[Asked]) -> list[Running | Failure]:
        """Every plant's train in operation, or why there is none."""
        out: list[Running | Failure | None] = [None] * len(asked)
        totals = [sum(a.liquor.moles.values()) for a in asked]
        per_mole = [
            replace(a, liquor=a.liquor.scaled(1 / t)) if t > 0 else a
            for a, t in zip(asked, totals, strict=True)
        ]
        tight = [dict.fromkeys((p.name for p in a.products), 1.0) for a in asked]
        for i, total in enumerate(totals):
            if not total > 0:
                out[i] = InfeasibleError(
                    f"{self.train.circuits[0].name}: no rare earths arrive at the train",
                    limit={"mol/s": total},
                )
        todo = [i for i, answer in enumerate(out) if answer is None]
        for _ in range(TIGHTENINGS):
            found = self._once([per_mole[i] for i in todo], [tight[i] for i in todo])
            again = []
            for i, running in zip(todo, found, strict=True):
                out[i] = running
                if not isinstance(running, Running):
                    continue
                fed = per_mole[i].liquor.moles
                missed = [p for p in asked[i].products if running.outlets[p.name].misses(p, fed)]
                if missed:
                    tight[i].update({p.name: tight[i][p.name] * MORE_STRICT for p in missed})
                    again.append(i)
            todo = again
            if not todo:
                break
        whole: list[Running | Failure] = []
        for answer, total in zip(out, totals, strict=True):
            assert answer is not None
            if isinstance(answer, Running):
                answer = Running(
                    circuits=tuple(c.scaled(total) for c in answer.circuits),
                    outlets={name: o.scaled(total) for name, o in answer.outlets.items()},
                )
            whole.append(answer)
        return whole

    def _once(
        self, asked: Sequence[Asked], tight: Sequence[Mapping[str, float]]
    ) -> list[Running | Failure]:
        """The circuits in turn, all plants together."""
        size = len(asked)
        waiting = [{self.train.circuits[0].name: a.liquor} for a in asked]
        allowed = [self._allowed(a.liquor.moles, a.products) for a in asked]
        done: list[list[Solved]] = [[] for _ in range(size)]
        failed: dict[int, Failure] = {}
        for c in self.train.circuits:
            near = list(beside(self.train, c.name))
            going = [i for i in range(size) if i not in failed]
            jobs = []
            for i in going:
                strict = min((tight[i][name] for name in near if name in tight[i]), default=1.0)
                down, up = allowed[i][c.name]
                mine = self._reached[c.name]
                jobs.append(
                    Job(
                        liquor=waiting[i].pop(c.name),
                        chemistry=asked[i].chemistry,
                        down=strict * mine[0] * down,
                        up=strict * mine[1] * up,
                        strip=asked[i].strip,
                    )
                )
            for i, found in zip(going, self._circuit(c.name, jobs), strict=True):
                if not isinstance(found, Solved):
                    failed[i] = found
                    continue
                done[i].append(found)
                waiting[i][c.raffinate_to] = found.raffinate_liquor
                waiting[i][c.organic_to] = found.product_liquor
        return [
            failed[i] if i in failed else Running(circuits=tuple(done[i]), outlets=waiting[i])
            for i in range(size)
        ]

    def _circuit(self, name: str, jobs: Sequence[Job]) -> list[Solved | Failure]:
        """One circuit of all plants, lengthened where it has to be, or why it cannot be run.

        Where extraction and scrub are solved and the strip is not, the plant is tried alone.
        """
        out: list[Solved | None] = [None] * len(jobs)
        stubborn: set[int] = set()
        short: set[int] = set()
        for more in LONGER:
            todo = [i for i, found in enumerate(out) if found is None]
            if not todo:
                break
            trimmer = self._trimmer(name, more)
            found = trimmer.solve([jobs[i] for i in todo])
            for i, one, reached in zip(todo, found, trimmer.reached, strict=True):
                out[i] = one
                if one is None and reached:
                    stubborn.add(i)
            short = {i for i, missing in zip(todo, trimmer.short, strict=True) if missing}
        for i in sorted(stubborn):
            if out[i] is None:
                out[i] = self._alone(name, jobs[i])
        return [
            _failure(name, i in short, i in stubborn) if one is None else one
            for i, one in enumerate(out)
        ]

    def _alone(self, name: str, job: Job) -> Solved | None:
        """One circuit of one plant by the search of its flows, from the built circuit."""
        built = self._built[name]
        assert built.task is not None
        size = sum(job.liquor.moles.values()) / sum(built.task.feed.values())
        task = replace(
            built.task,
            feed=dict(job.liquor.moles),
            flow=job.liquor.flow,
            acid=job.liquor.acid,
            stages=(*built.task.stages[:2], job.strip),
            solvent=built.task.solvent * size,
            scrub=built.task.scrub * size,
            down=job.down,
            up=job.up,
        )
        start = built.start
        if start is None or start.stages[2] != job.strip:
            return None
        found = circuit_search.near(task, replace(job.chemistry, dimers=1.0), start)
        if found is None:
            return None
        return replace(found, raffinate_to=built.raffinate_to, organic_to=built.organic_to)

    def _trimmer(self, name: str, more: int) -> Trimmer:
        if (name, more) not in self._trimmers:
            built = self._built[name]
            assert built.task is not None
            most = AMPLE_SCRUB if more == LONGER[-1] else MOST_SCRUB
            self._trimmers[name, more] = (
                self._trimmer(name, 0).longer(more, most) if more else Trimmer(built, built.task)
            )
        return self._trimmers[name, more]


def _failure(name: str, short: bool, opened: bool) -> Failure:
    """Why a circuit cannot be run: it takes too much scrub, or it is not solved."""
    more = f"{LONGER[-1]} stages more in extraction and in scrub"
    if short:
        times = math.exp(AMPLE_SCRUB)
        return InfeasibleError(
            f"{name}: to part it as specified takes more than {times:.0f} times the scrub it has, "
            f"even with {more}",
            limit={"scrub over the design's": times},
        )
    part = "its strip, or what that sends back, was" if opened else "extraction and scrub were"
    return ConvergenceError(
        f"{name}: {part} not solved at these constants, nor with up to {more}",
        trace=Trace(equation="split, separation and strip of the circuit", component=name),
    )
