"""The linearised closures of all stages with the component fluxes eliminated.

At fixed ln A the balances of one component are a chain of probabilities. With ``p`` and ``q`` the
shares of what passes through a stage that come from above and from below, and y = d ln l,

    y_n = p_n y_(n+1) + q_n y_(n-1) + r_n,   y = G r

and G is known from the first passages up and down the chain, alpha and beta:

    D_n = 1 - q_n alpha_(n-1),   alpha_n = p_n / D_n,   beta_n = q_n / (1 - p_n beta_(n+1)),
    G_nn = 1 / (D_n - p_n beta_(n+1)),
    G_na = alpha_n ... alpha_(a-1) G_aa below a, beta_n ... beta_(a+1) G_aa above it

What is left is one small dense matrix of the stages' own unknowns, S = dR/du at balanced fluxes.
For as many right-hand sides as a circuit has parameters this is far less work than its band.
Streams fed back add a term of low rank to each component's G.

Axis order: [component, stage] where a chain is followed, [stage, component] where stages are
summed over components; one member at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from sepmodel.extraction import linearised, stagewise
from sepmodel.extraction.chain import Link

Array = NDArray[np.float64]

TINY = float(np.finfo(float).tiny)
# Beyond as many unknowns the dense matrix costs more than the band's solves.
LIMIT = 1024
# Stages whose passages are multiplied at once, and the least passage that counts: beside one it is
# rounding, and its power of so many is still a float.
BLOCK = 16
LEAST = 1e-16
UNSEEN = 1e-100


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Chains:
    """Balances of every component, factorised.

    ``below`` q, ``up`` alpha, ``down`` beta, ``gone`` G_nn, ``pivots`` D, ``share`` v / (l + v),
    ``back`` 1 / (l + v), all (C, N); ``band``: both triangles of all chains in a row, for LAPACK.
    """

    below: Array
    up: Array
    down: Array
    gone: Array
    pivots: Array
    share: Array
    back: Array
    band: Array

    def solve(self, r: Array) -> Array:
        """G r without what is fed back, r (k, C, N)."""
        from scipy.linalg.lapack import dtbtrs

        columns = dtbtrs(self.band, r.reshape(r.shape[0], -1).T, uplo="L", diag="U")[0]
        columns /= self.pivots.reshape(-1, 1)
        columns = dtbtrs(self.band, columns, uplo="U", diag="U", overwrite_b=1)[0]
        out: Array = columns.T.reshape(r.shape)
        return out

    def reached(self, stages: Sequence[int], amounts: Array) -> Array:
        """What balances of some amounts (k, C) at stages add to y everywhere, (k, C, N)."""
        out = np.empty((len(stages), *self.gone.shape))
        for to, s, amount in zip(out, stages, amounts, strict=True):
            to[:, s] = 1.0
            if s:
                np.multiply.accumulate(self.up[:, s - 1 :: -1], axis=1, out=to[:, s - 1 :: -1])
            np.multiply.accumulate(self.down[:, s + 1 :], axis=1, out=to[:, s + 1 :])
            to *= (amount * self.gone[:, s])[:, None]
        return out

    def seen(self, stages: Sequence[int]) -> Array:
        """What balances anywhere add to y of a stage: rows of G, (k, C, N)."""
        out = np.empty((len(stages), *self.gone.shape))
        for to, s in zip(out, stages, strict=True):
            to[:, s] = 1.0
            np.multiply.accumulate(self.up[:, s:-1], axis=1, out=to[:, s + 1 :])
            if s:
                np.multiply.accumulate(self.down[:, s:0:-1], axis=1, out=to[:, s - 1 :: -1])
            to *= self.gone
        return out

    def moved_back(self, seen: Array) -> Array:
        """Rows of G times what ln A adds to the balances, (k, C, N)."""
        out: Array = seen * self.share
        out[..., :-1] -= seen[..., 1:] * self.below[:, 1:]
        return out


def chains_of(aqueous: Array, organic: Array, kept: Array) -> Chains | None:
    """Chains of fluxes (N, C) of which parts ``kept`` (2, N, C or 1) go on; None if singular."""
    from scipy.linalg.lapack import dpttrf

    falls, rises = np.ascontiguousarray(aqueous.T), np.ascontiguousarray(organic.T)
    back = 1.0 / (falls + rises + TINY)
    above, below = np.zeros_like(back), np.zeros_like(back)
    np.multiply((falls * kept[0].T)[:, 1:], back[:, :-1], out=above[:, :-1])
    np.multiply((rises * kept[1].T)[:, :-1], back[:, 1:], out=below[:, 1:])
    # Scaled to be symmetric the chain has these off its diagonal; the second row is its mirror.
    links = np.zeros((2, *back.shape))
    np.sqrt(above[:, :-1] * below[:, 1:], out=links[0, :, :-1])
    links[1, :, :-1] = links[0, :, -2::-1]
    pivots, _, info = dpttrf(np.ones(links.size), links.ravel()[:-1], overwrite_d=1, overwrite_e=1)
    if info:
        return None
    rising, falling = pivots.reshape(links.shape)
    falling = falling[:, ::-1]
    up, down = above / rising, below / falling
    gone = rising.copy()
    gone[:, :-1] -= above[:, :-1] * down[:, 1:]
    np.divide(1.0, gone, out=gone)
    up *= up >= LEAST
    down *= down >= LEAST
    band = np.zeros((*back.shape, 2))
    np.negative(up[:, :-1], out=band[:, 1:, 0])
    np.divide(below[:, 1:], -rising[:, :-1], out=band[:, :-1, 1])
    return Chains(
        below=below,
        up=up,
        down=down,
        gone=gone,
        pivots=rising,
        share=rises * back,
        back=back,
        band=band.reshape(-1, 2).T,
    )


def products(left: Array, passing: Array, right: Array) -> Array:
    """Sum over i of left_in passing_in ... passing_i(a-1) right_ia for n <= a, else anything.

    The product is a quotient of running ones, over as many stages as these remain floats; all
    stages up to such a block are done together, and what passes to its end goes on to the next.

    Parameters
    ----------
    left: (d, N, m, C), passing: (d, N, C), right: (d, N, C, k), all for some directions d.

    Returns
    -------
    (d, N, m, N, k).
    """
    d, stages, m, c = left.shape
    k = right.shape[-1]
    blocks = -(-stages // BLOCK)
    steps = np.zeros((d, blocks, BLOCK, c))
    steps.reshape(d, -1, c)[:, :stages] = passing
    running = np.ones_like(steps)
    np.multiply.accumulate(np.maximum(steps[:, :, :-1], LEAST), axis=2, out=running[:, :, 1:])
    scale = running.reshape(d, -1, c)[:, :stages]
    # To the end of the block, and past it.
    onward = np.empty_like(steps)
    np.multiply.accumulate(steps[:, :, ::-1], axis=2, out=onward[:, :, ::-1])
    onward *= onward >= LEAST
    whole = onward[:, :, :1]
    passed = left * onward.reshape(d, -1, 1, c)[:, :stages]
    passed = passed.reshape(d, stages * m, c)
    gone = (left / scale[:, :, None]).reshape(d, stages * m, c)
    ends = np.moveaxis(right * scale[..., None], 2, 1).reshape(d, c, stages * k)
    out = np.empty((d, stages, m, stages, k))
    flat = out.reshape(d, stages * m, stages * k)
    for block in range(blocks):
        a, b = block * BLOCK, min((block + 1) * BLOCK, stages)
        onto = ends[:, :, a * k : b * k]
        np.matmul(gone[:, : b * m], onto, out=flat[:, : b * m, a * k : b * k])
        gone[:, : a * m] *= whole[:, block]
        gone[:, a * m : b * m] = passed[:, a * m : b * m]
    return out


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Links:
    """Streams fed back: ``sources, targets`` stages, ``organic`` which of them are organic,
    ``weight`` (L, C) their flows over the targets' throughputs, ``answers`` (L, C, N) of the
    chains to them, ``inner`` (C, L, L) = (identity - answers at the sources)^-1."""

    sources: tuple[int, ...]
    targets: tuple[int, ...]
    organic: tuple[bool, ...]
    weight: Array
    answers: Array
    inner: Array

    def moved(self, change: Array, balances: Array) -> None:
        """What changes of ln A (k, C or 1, N) do to balances (k, C, N) by the organic fed back."""
        for j, (source, target) in enumerate(zip(self.sources, self.targets, strict=True)):
            if self.organic[j]:
                balances[..., target] -= self.weight[j] * change[..., source]

    def rows(self, chains: Chains, stages: Sequence[int]) -> Array:
        """Derivatives of -ln l at stages by ln A, but for what is fed back of them, (E, C, N)."""
        seen = chains.seen(stages)
        out = chains.moved_back(seen)
        for j, (source, target) in enumerate(zip(self.sources, self.targets, strict=True)):
            if self.organic[j]:
                out[..., source] -= seen[..., target] * self.weight[j]
        return out


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Reduced:
    """S of one member, factorised, and what it takes to bring a right-hand side to it.

    ``slope`` d ln A / du (C, N, m); ``closing`` derivatives of the closures by ln l at fixed ln A,
    ``by_org`` by ln v alone (C, N, m); ``factors``: LAPACK's of S transposed.
    """

    chains: Chains
    slope: Array
    closing: Array
    by_org: Array
    links: Links | None
    factors: tuple[Array, NDArray[np.int32]]

    def moved(self, change: Array) -> Array:
        """What changes of ln A, (k, 1, N) or (k, C, N), add to the balances, (k, C, N)."""
        out: Array = self.chains.share * change
        out[..., 1:] -= self.chains.below[:, 1:] * change[..., :-1]
        if self.links is not None:
            self.links.moved(change, out)
        return out

    def fed(self, y: Array) -> Array:
        """Adds to y (k, C, N) of the chains alone what is fed back of it."""
        if self.links is not None:
            fed = np.einsum("cjl,kcl->jkc", self.links.inner, y[..., self.links.sources])
            for unit, part in zip(self.links.answers, fed, strict=True):
                y += part[..., None] * unit
        return y

    def own(self, closures: Array) -> Array:
        """S^-1 of right-hand sides in rows, (k, N m)."""
        from scipy.linalg.lapack import dgetrs

        closures[np.abs(closures) < UNSEEN] = 0.0
        out: Array = dgetrs(*self.factors, closures.T, trans=1)[0].T
        return out

    def ends(self, stages: Sequence[int]) -> Array:
        """Derivatives of -ln l at some stages by u, (E, C, N m)."""
        chains, links = self.chains, self.links
        if links is None:
            rows = chains.moved_back(chains.seen(stages))
        else:
            rows = links.rows(chains, stages)
            back = np.einsum("cjl,lcn->jcn", links.inner, links.rows(chains, links.sources))
            for unit, part in zip(links.answers, back, strict=True):
                rows += unit[:, stages].T[..., None] * part
        out: Array = rows[..., None] * self.slope
        return out.reshape(*rows.shape[:2], -1)


@cache
def _below(stages: int) -> NDArray[np.bool_]:
    """Where a row's stage is above a column's, (N, 1, N - 1, 1)."""
    return np.tri(stages, stages - 1, -1, dtype=bool)[:, None, :, None]


def reduce(
    plan: stagewise.Plan, state: stagewise.State, by_fluxes: tuple[Array, ...]
) -> Reduced | None:
    """The closures of a single circuit alone; None where they are better taken with the fluxes.

    ``by_fluxes``: derivatives of the closures by ln l and ln v, (N, m, C) each.
    """
    from scipy.linalg.lapack import dgetrf

    spot = state.spot
    size = plan.flow_aq.shape[-1] * plan.model.unknowns
    if state.aqueous is None or state.organic is None or size > LIMIT:
        return None
    assert state.links is not None
    assert spot.by_u is not None
    chains = chains_of(state.aqueous[0], state.organic[0], plan.kept[:, 0])
    if chains is None:
        return None
    stages, count = state.aqueous.shape[1:]
    slope = spot.slope[0]
    if slope.shape[0] != stages:
        slope = np.broadcast_to(slope, (stages, *slope.shape[1:]))
    by_aq, by_org = by_fluxes
    m = by_org.shape[1]
    closing = by_aq + by_org
    # Traces no closure notices; sums with numbers too small to be normal take long.
    closing[np.abs(closing) < UNSEEN] = 0.0
    # Minus d ln l / d ln A at and below a stage, and plus what it is above it.
    up, down, own = chains.up.T, chains.down.T, (chains.share * chains.gone).T
    passed = (chains.below * chains.gone).T
    left, passing = np.empty((2, *closing.shape)), np.empty((2, *up.shape))
    left[0], left[1] = closing, closing[::-1]
    passing[0], passing[1] = up, down[::-1]
    right = np.zeros((2, stages, count, m))
    at = own.copy()
    at[:-1] -= up[:-1] * passed[1:]
    np.multiply(at[..., None], slope, out=right[0])
    np.multiply((passed[1:] - down[1:] * own[:-1])[..., None], slope[:-1], out=right[1, -2::-1])
    upper, lower = products(left, passing, right)
    each = np.arange(stages)
    whole = np.negative(upper, out=upper)
    np.copyto(whole[..., :-1, :], lower[::-1, :, -2::-1], where=_below(stages))
    whole[each, :, each] += spot.by_u[0] + by_org @ slope
    whole = whole.reshape(size, size)
    links = None
    if plan.chain.links:
        links, fed = _fed_back(plan.chain.links, state.links[:, 0], chains, closing, slope)
        whole += fed
    lu, pivots, info = dgetrf(whole.T, overwrite_a=1)
    if info:
        return None
    return Reduced(
        chains=chains,
        slope=slope.swapaxes(0, 1),
        closing=np.moveaxis(closing, -1, 0),
        by_org=np.moveaxis(by_org, -1, 0),
        links=links,
        factors=(lu, pivots),
    )


def _fed_back(
    found: Sequence[Link], flows: Array, chains: Chains, closing: Array, slope: Array
) -> tuple[Links, Array]:
    """Streams of flows (L, C) fed back, and what they add to S."""
    sources = tuple(link.source[0] for link in found)
    targets = tuple(link.target[0] for link in found)
    organic = tuple(link.source[1] == 1 for link in found)
    each = np.arange(len(found))
    weight = flows * chains.back[:, targets].T
    answers = chains.reached(targets, weight)
    inner = linearised.inverses(np.eye(each.size) - answers[..., sources].transpose(1, 2, 0))
    links = Links(
        sources=sources,
        targets=targets,
        organic=organic,
        weight=weight,
        answers=answers,
        inner=inner,
    )
    by_ratio = -np.einsum("cjl,lcn->jcn", inner, links.rows(chains, sources))
    by_ratio[each, :, sources] += np.array(organic, dtype=float)[:, None]
    reach = np.einsum("nmc,jcn->nmjc", closing, answers)
    onto = np.einsum("jcn,ncp->jcnp", by_ratio, slope)
    size = reach.shape[0] * reach.shape[1]
    return links, reach.reshape(size, -1) @ onto.reshape(-1, size)
