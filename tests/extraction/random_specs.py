"""Specifications that are feasible by construction: what random solved circuits deliver.

`python tests/extraction/random_specs.py 10000 2000 1500` runs the full set of circuits up to 1,500
stages and of infeasible specifications, and prints its figures.
"""

import sys
import time
from dataclasses import dataclass

import numpy as np

from sepmodel.errors import InfeasibleError, SepmodelError
from sepmodel.extraction import cascade, ends
from sepmodel.extraction.design import Outlet, design_binary, design_circuit

NAMES = ("La", "Ce", "Nd", "Gd", "Dy", "Lu")
MEMBERS = 64
MOST_STAGES = 1500
PURITY = (0.90, 0.99999)


@dataclass(frozen=True)
class Generated:
    """A solved circuit, and the purities it reaches."""

    feed: np.ndarray
    a: np.ndarray
    cut: int
    stages: int
    solvent: float
    light: float
    heavy: float

    @property
    def names(self):
        return NAMES[: len(self.feed)]


def batch(rng, parts, stages, each):
    """The members of one batch of circuits of a size whose purities lie in the range."""
    cut = int(rng.integers(1, parts))
    # The factor at the cut that so many stages suit, more or less; others anywhere.
    suited = rng.uniform(4, 60, MEMBERS) / stages
    betas = np.exp(rng.uniform(np.log(1.1), np.log(50), (MEMBERS, parts - 1)))
    betas[:, cut - 1] = np.exp(np.clip(suited, np.log(1.1), np.log(50)))
    a = np.cumprod(np.concatenate([np.ones((MEMBERS, 1)), betas], axis=1), axis=1)
    feed = rng.uniform(0.02, 1, (MEMBERS, parts))
    feed /= feed.sum(axis=1, keepdims=True)
    heavy = feed[:, cut:].sum(axis=1)
    astray = rng.choice([-1, 1], MEMBERS) * 10 ** rng.uniform(-5, -1.3, MEMBERS)
    product = heavy * (1 + astray)
    # Long circuits deliver ordinary purities only near the pinch.
    near = (-2, 0.7) if stages < 300 else (-4, -1)
    scrub = (1 + 10 ** rng.uniform(*near, MEMBERS)) / (betas[:, cut - 1] - 1)
    n = np.clip(np.rint(stages * rng.uniform(0.25, 0.75, MEMBERS)), 1, stages).astype(int)
    begun = ends.cold(a, feed, scrub + product, scrub, n, stages - n)
    ends_r, ends_d = np.exp(begun.log_raffinate), np.exp(begun.log_organic)
    with np.errstate(invalid="ignore"):
        pure = np.stack(
            [
                ends_r[:, :cut].sum(axis=1) / ends_r.sum(axis=1),
                ends_d[:, cut:].sum(axis=1) / ends_d.sum(axis=1),
            ]
        )
    wanted = begun.converged & (pure.min(axis=0) > PURITY[0]) & (pure.max(axis=0) < PURITY[1])
    for k in np.flatnonzero(wanted)[:each]:
        solved = whole(
            a[k], feed[k], scrub[k] + product[k], scrub[k], int(n[k]), int(stages - n[k]),
            (begun.log_raffinate[k], begun.log_organic[k]),
        )  # fmt: skip
        r, d = solved.raffinate, solved.loaded_organic
        yield Generated(
            feed=feed[k],
            a=a[k],
            cut=cut,
            stages=stages,
            solvent=float(scrub[k] + product[k]),
            light=float(r[:cut].sum() / r.sum()),
            heavy=float(d[cut:].sum() / d.sum()),
        )


def whole(a, feed, solvent, scrub, n, m, sides):
    """All stages of a circuit solved together by Newton's method, from the profile of its ends."""
    return cascade.solve(
        cascade.MassFlowInputs(
            components=NAMES[: len(a)],
            extractability=a,
            stages=n + m,
            solvent=solvent,
            scrub=scrub,
            inlets=(cascade.Inlet(name="feed", phase="aqueous", stage=n, flows=feed),),
        ),
        guess=ends.profile(a, feed, solvent, scrub, n, m, sides),
    )


def take(count, seed, most=MOST_STAGES, each=4):
    """So many circuits, at most ``each`` of one batch."""
    found = []
    rng = np.random.default_rng(seed)
    while len(found) < count:
        parts = int(rng.integers(2, 7))
        stages = int(np.exp(rng.uniform(np.log(3), np.log(most))))
        found += batch(rng, parts, stages, each)
    return found[:count]


def redesign(made):
    """The design for what a circuit reaches, and the error of its second simulation."""
    found = design_circuit(
        dict(zip(made.names, made.feed.tolist(), strict=True)),
        dict(zip(made.names, made.a.tolist(), strict=True)),
        made.names[: made.cut],
        raffinate=Outlet(purity=made.light, basis="mole"),
        organic=Outlet(purity=made.heavy, basis="mole"),
        solvent=made.solvent,
        most_stages=MOST_STAGES,
    )
    return found, error(made, found)


def error(made, found):
    """Worst of: difference to the circuit simulated again from stages and flows alone by code of
    its own, which every design carries; a specification that the design misses."""
    r, d = (np.array(list(getattr(found, name).values())) for name in ("raffinate", "organic"))
    impure = (r[made.cut :].sum() / r.sum(), d[: made.cut].sum() / d.sum())
    over = [(i / (1 - p) - 1) for i, p in zip(impure, (made.light, made.heavy), strict=True)]
    return max(found.recheck, *over)


def binary(count, seed, part=0.97):
    """Binary specifications with a scrub below ``part`` of the least, from the balances alone."""
    rng = np.random.default_rng(seed)
    while count:
        beta, feed = np.exp(rng.uniform(np.log(1.1), np.log(50))), rng.uniform(0.05, 0.95)
        light = 1 - feed * 10 ** rng.uniform(-5, -1.3)
        heavy = 1 - (1 - feed) * 10 ** rng.uniform(-5, -1.3)
        product = (feed - 1 + light) / (heavy - 1 + light)
        # Feed pinch of an aqueous feed: y in equilibrium with x = f, S y + raffinate = (W + 1) f.
        y = beta * feed / (1 + (beta - 1) * feed)
        least = (feed - (1 - product) * (1 - light) - product * y) / (y - feed)
        if least > 0:
            count -= 1
            yield beta, feed, heavy, light, part * least + product, least + product


def main(count, refused, most=MOST_STAGES, seed=11):
    """Figures of the full set."""
    started, lost, more, worst, sizes = time.process_time(), [], 0, 0.0, []
    saved = []
    for made in take(count, seed, most, each=20):
        sizes.append(made.stages)
        try:
            found, off = redesign(made)
        except SepmodelError as caught:
            lost.append((made, str(caught)))
            continue
        worst = max(worst, off)
        more = max(more, found.stages - made.stages)
        saved.append(found.stages / made.stages)
    spent = time.process_time() - started
    print(f"{count} specifications, {min(sizes)} to {max(sizes)} stages, median", np.median(sizes))
    print(f"found {count - len(lost)}, most stages above the generator {more}")
    print(f"median stages over the generator's {np.median(saved):.2f}, worst error {worst:.1e}")
    print(f"{spent:.0f} s of processor time")
    for made, text in lost[:20]:
        print("lost:", made.stages, made.names, made.cut, made.a.round(3), made.solvent, text)
    told = 0
    for beta, feed, heavy, light, solvent, least in binary(refused, seed + 1):
        try:
            design_binary(beta, feed, heavy, light, solvent=solvent)
        except InfeasibleError as caught:
            told += abs(caught.limit["solvent"] / least - 1) < 1e-6
    print(f"{told} of {refused} below the least scrub refused with the least solvent named")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
