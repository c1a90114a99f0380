"""Circuits solved together, in the plant's terms: one ``Solved`` a member."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry.cation_exchange import C_STANDARD
from sepmodel.extraction import steered
from sepmodel.plant.circuit_numbers import Job, Numbers, Reader
from sepmodel.plant.circuits import Solved, Start

Array = NDArray[np.float64]
# A cascade and its state.
Point = tuple[steered.Cascade, steered.State]


def told(
    reader: Reader,
    built: Solved,
    stages: tuple[int, int],
    jobs: Sequence[Job],
    of: Numbers,
    opened: Point,
    strip: Point,
    flows: Array,
) -> list[Solved]:
    """Members' circuits from extraction with scrub and from the strip; ``flows`` ln of all."""
    n, m = stages
    first, last = opened[1], strip[1]
    dead = strip[0].dead
    live = np.arange(strip[0].stages) >= (0 if dead is None else dead[:, None])
    protons = [steered.free(*point)[1] for point in (opened, strip)]
    with np.errstate(invalid="ignore", divide="ignore"):
        ph = np.concatenate([-np.log10(p / C_STANDARD) for p in protons], axis=1)
    counted = np.concatenate([np.ones_like(first.u, dtype=bool), live], axis=1)
    least = np.where(counted, ph, np.inf).min(axis=1)
    most = np.where(counted, ph, -np.inf).max(axis=1)
    parts = (slice(0, n), slice(n, n + m))
    in_org = first.organic[:, :-1].sum(1) / first.organic_flow[:, None]
    in_aq = first.aqueous[:, :-1].sum(1) / first.flow
    held = [(in_org[:, part].mean(1), in_aq[:, part].mean(1)) for part in parts]
    number = live.sum(1)
    held.append(
        (
            (last.organic[:, :-1].sum(1) * live).sum(1) / last.organic_flow / number,
            (last.aqueous[:, :-1].sum(1) / last.flow * live).sum(1) / number,
        )
    )
    carried = np.maximum(first.organic[:, :-1].sum(1).max(1), last.organic[:, :-1].sum(1).max(1))
    bound = (first.organic * opened[0].charge[:, None]).sum(1) / first.organic_flow[:, None]
    loading = bound.max(1) / of.dimer
    recycle = last.product[:, :-1] / np.maximum(of.feed[:, :-1], np.finfo(float).tiny)
    acid = last.anions[:, -1]
    scrub = first.flow[:, -1]
    whole = np.concatenate([first.u, last.u], axis=1)

    def named(moles: Array, job: Job, light: bool) -> dict[str, float]:
        own = dict(zip(reader.names, moles.tolist(), strict=True))
        rest = {
            e: amount
            for e, amount in job.liquor.moles.items()
            if e not in own and amount > 0 and (e in reader.task.light) == light
        }
        return {**own, **rest}

    found = []
    for i, job in enumerate(jobs):
        top = int(np.argmax(recycle[i]))
        k = int(number[i])
        found.append(
            Solved(
                name=reader.task.name,
                raffinate_to=built.raffinate_to,
                organic_to=built.organic_to,
                stages=(n, m, k),
                flow_org=float(first.organic_flow[i]),
                flow_feed=job.liquor.flow,
                flow_scrub=float(scrub[i]),
                flow_strip=float(last.flow[i, -1]),
                acid_scrub=float(first.anions[i, -1]),
                acid_strip=float(acid[i]),
                base_soap=float(of.soap[i] * first.organic_flow[i] - last.product[i, -1]),
                base_feed=float(of.neutralised[i]),
                solvent_3s=float(of.organic[i] * of.soap[i] / reader.per_mole),
                scrub_3s=float(of.scrub[i] / reader.per_mole),
                feed=dict(job.liquor.moles),
                raffinate=named(first.raffinate[i, :-1], job, True),
                product=named(last.raffinate[i, :-1], job, False),
                raffinate_acid=float(protons[0][i, 0] * first.flow[i, 0]),
                product_acid=float(protons[1][i, -k] * last.flow[i, -k]),
                solvent=float(carried[i]),
                loading=float(loading[i]),
                ph=(float(least[i]), float(most[i])),
                recycle=(reader.names[top], float(recycle[i, top])),
                held=tuple((float(org[i]), float(aq[i])) for org, aq in held),
                stages_3s=built.stages_3s,
                acid_fed=max(job.liquor.acid, 0.0),
                chemistry=job.chemistry,
                start=Start(
                    stages=(n, m, k),
                    flows=flows[i],
                    u=np.concatenate([whole[i, : n + m], whole[i, -k:]])[:, None],
                    names=reader.names,
                ),
            )
        )
    return found
