"""Fluxes along a chain of counter-current stages in plain numbers: what Newton's iterations need.

The same balances as in ``chain``, for stages that take in all of both phases, with streams drawn
whole or not at all. A mole at stage n goes up with weight A_n and is lost downwards with weight
s_n; all three eliminations are running recursions of first order with positive terms:

    1/s_n = 1 + A_(n-1) / s_(n-1),   y_n = f_n + A_(n-1) / (A_(n-1) + s_(n-1)) y_(n-1),
    l_n = (y_n + l_(n+1)) / (A_n + s_n)

Each is one triangular band solve over all members, components and stages. The first may leave the
range of floats and is scaled by its largest term; traces below the smallest float become zero,
which no closure notices.

Axis order: [member, component, stage] here, [member, stage, component] outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from sepmodel.extraction import chain as chains
from sepmodel.extraction.chain import Chain

Array = NDArray[np.float64]

# The largest ln A whose ratio is a float.
HIGHEST = float(np.log(np.finfo(float).max))


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Layout:
    """What the recursions need of a chain, the same at every iteration.

    ``feed`` (1 + K, B, C, N): feeds of both phases, then one mole in each link; ``runs`` stages
    between which aqueous is drawn whole; ``exits`` (stage, phase, {link: share (B or 1, C)}).
    """

    feed: Array
    runs: tuple[int, ...]
    exits: tuple[tuple[int, int, dict[int, Array]], ...]


def layout(chain: Chain) -> Layout | None:
    """The layout, or None where the chain is not of this kind."""
    if chain.bypass is not None or chain.carry is not None:
        return None
    whole = chain.draw > 0
    if not np.array_equal(chain.draw, whole) or np.any(whole != whole[:, :1, :, :1]):
        return None
    taken = whole[:, 0, :, 0]
    stages = taken.shape[1]
    drawn = [(int(k), phase) for phase in (0, 1) for k in np.flatnonzero(taken[phase])]
    if any(phase == 1 and k < stages - 1 for k, phase in drawn):
        return None
    for end in ((0, 0), (stages - 1, 1)):
        if end not in drawn:
            drawn.append(end)
    exits = tuple(
        (
            k,
            phase,
            {j: link.share for j, link in enumerate(chain.links) if link.source == (k, phase)},
        )
        for k, phase in drawn
    )
    feed = np.zeros((1 + len(chain.links), *np.swapaxes(chain.feed[0], -1, -2).shape))
    feed[0] = np.swapaxes(chain.feed[0] + chain.feed[1], -1, -2)
    for j, link in enumerate(chain.links):
        feed[1 + j, :, :, link.target[0]] = 1.0
    runs = (0, *(k for k, phase in drawn if phase == 0 and k > 0))
    return Layout(feed=feed, runs=(*sorted(set(runs)), stages), exits=exits)


def rows(known: Layout, members: NDArray[np.int64]) -> Layout:
    """The layout of some members."""

    def pick(share: Array) -> Array:
        return share if share.shape[0] == 1 else share[members]

    feed = known.feed if known.feed.shape[1] == 1 else known.feed[:, members]
    exits = tuple((k, p, {j: pick(s) for j, s in shares.items()}) for k, p, shares in known.exits)
    return Layout(feed=feed, runs=known.runs, exits=exits)


def solve(known: Layout, log_ratio: Array) -> tuple[Array, Array, Array]:
    """Aqueous fluxes and ratios A (B, N, C) for given ln A, and flows of the links (K, B, C).

    All members share one band, where 0 times what is no number would reach the neighbours: members
    that hold such a ln A are solved at A = 1 and given back as NaN.
    """
    lost: NDArray[np.bool_] = np.any(~(log_ratio < HIGHEST), axis=(1, 2))
    if log_ratio.shape[0] == 1 or not lost.any():
        return _solve(known, log_ratio)
    found = _solve(known, np.where(lost[:, None, None], 0.0, log_ratio))
    aqueous, ratio, flows = (np.array(part) for part in found)
    aqueous[lost] = ratio[lost] = flows[:, lost] = np.nan
    return aqueous, ratio, flows


def _solve(known: Layout, log_ratio: Array) -> tuple[Array, Array, Array]:
    from scipy.linalg.blas import dtbsv
    from scipy.linalg.lapack import dtbtrs

    log_a = np.ascontiguousarray(np.swapaxes(log_ratio, -1, -2))
    shape = log_a.shape
    # ln of the largest term of 1/s: never negative, so that scaled terms are at most one.
    climb = np.zeros(shape)
    np.cumsum(log_a[..., :-1], axis=-1, out=climb[..., 1:])
    largest = np.empty(shape)
    for a, b in pairwise(known.runs):
        np.minimum.accumulate(climb[..., a:b], axis=-1, out=largest[..., a:b])
    np.subtract(climb, largest, out=largest)
    step = log_a[..., :-1] + (largest[..., :-1] - largest[..., 1:])
    for a in known.runs[1:-1]:
        step[..., a - 1] = chains.NOTHING
    band = np.zeros((*shape, 2))
    lower = band[..., 1]
    np.exp(step, out=step)
    np.negative(step, out=lower[..., :-1])
    scale = np.exp(-largest)
    columns = band.reshape(-1, 2).T
    inverse = dtbsv(1, columns, scale.ravel(), lower=1, diag=1).reshape(shape)
    ratio = np.exp(log_a)
    pivot = ratio + scale / inverse
    np.divide(ratio[..., :-1], -pivot[..., :-1], out=lower[..., :-1])
    count = known.feed.shape[0]
    pools = dtbtrs(columns, known.feed.reshape(count, -1).T, uplo="L", diag="U")[0]
    back = 1.0 / pivot
    flux = pools.T.reshape(known.feed.shape) * back
    band[...] = 0.0
    upper = band[..., 0]
    np.negative(back[..., :-1], out=upper[..., 1:])
    for a in known.runs[1:-1]:
        upper[..., a] = 0.0
    flux = dtbtrs(columns, flux.reshape(count, -1).T, uplo="U", diag="U", overwrite_b=1)[0]
    flux = flux.T.reshape(known.feed.shape)
    flows = np.empty((0, *shape[:2]))
    aqueous = flux[0]
    if count > 1:
        flows = _link_flows(known, flux, ratio)
        for flow, unit in zip(flows, flux[1:], strict=True):
            aqueous += flow[..., None] * unit
    return np.swapaxes(aqueous, -1, -2), np.swapaxes(ratio, -1, -2), flows


def local_closure(chain: Chain, aqueous: Array, organic: Array, links: Array) -> Array:
    """Largest |in - out| / out of any component and stage, from what the neighbours send, (B,)."""
    kept = 1.0 - chain.draw
    entering = chain.feed[0] + chain.feed[1]
    entering[:, :-1] += (aqueous * kept[0])[:, 1:]
    entering[:, 1:] += (organic * kept[1])[:, :-1]
    for flow, link in zip(links, chain.links, strict=True):
        entering[:, link.target[0]] += flow
    leaving = aqueous + organic
    with np.errstate(divide="ignore", invalid="ignore"):
        off: Array = np.nan_to_num(np.abs(entering - leaving) / leaving).max(axis=(1, 2))
    return off


def _link_flows(known: Layout, flux: Array, ratio: Array) -> Array:
    """Flow in every link, (K, B, C), from what leaves of the feeds and of one mole in each."""
    count = flux.shape[0] - 1
    out = np.zeros(flux.shape[:-1])
    reach = np.zeros((count, *out.shape))
    for stage, phase, shares in known.exits:
        leaving = flux[..., stage] * ratio[..., stage] if phase else flux[..., stage]
        total: Array | float = 0.0
        for j, share in shares.items():
            reach[j] = leaving * share
            total = total + share
        out += leaving * np.maximum(1.0 - total, 0.0)
    if count == 1:
        flows: Array = reach[:, 0] / out[1]
        return flows
    t = np.moveaxis(reach[:, 1:], (0, 1), (-1, -2))
    entering = np.moveaxis(reach[:, 0], 0, -1)
    visits = chains.visits(t, np.moveaxis(out[1:], 0, -1), entering[..., None, :])
    return np.moveaxis(visits[..., 0, :], -1, 0)
