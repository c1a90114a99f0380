"""Fluxes of every component along a counter-current cascade, exact for given distribution.

At a stage the organic leaving in equilibrium carries ``A`` times the component flux of the aqueous
leaving; with ``A`` known the component balances are linear. They are eliminated here in the form of
first-passage probabilities (Grassmann, Taksar, Heyman), without one subtraction, in logarithms:
relative accuracy holds for traces of any magnitude.

Internal axis order: [stage, component, member].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Chain:
    """What does not change with the distribution; arrays (N, C, B), their axes may have length one.

    ``feed_aq, feed_org`` component fluxes fed to a stage; ``draw_aq, draw_org`` fractions of the
    leaving stream that are drawn; ``bypass`` fraction of the entering organic that passes by.
    """

    feed_aq: Array
    feed_org: Array
    draw_aq: Array
    draw_org: Array
    bypass: Array

    def take(self, members: NDArray[np.int64]) -> Chain:
        """The chain of some members; axes of length one stay."""

        def pick(a: Array) -> Array:
            return a if a.shape[-1] == 1 else a[..., members]

        return Chain(
            feed_aq=pick(self.feed_aq),
            feed_org=pick(self.feed_org),
            draw_aq=pick(self.draw_aq),
            draw_org=pick(self.draw_org),
            bypass=pick(self.bypass),
        )


def _log(a: Array) -> Array:
    with np.errstate(divide="ignore"):
        out: Array = np.log(a)
    return out


def log_fluxes(chain: Chain, log_ratio: Array) -> tuple[Array, Array]:
    """ln of the fluxes leaving each stage (before draws), aqueous and organic, shape (N, C, B).

    Balance of a stage with aqueous l, entering d and u, bypass k and flux ratio A:
    l (1 + A) = d + (1 - k) u;  organic leaving = k u + A l.

    ``log_ratio`` is ln A, shape (N, C, B). Components that enter nowhere get -inf.
    """
    stages = log_ratio.shape[0]
    shape = log_ratio.shape[1:]
    nothing = np.full(shape, -np.inf)
    feed_aq, feed_org = _log(chain.feed_aq), _log(chain.feed_org)
    log_e, log_rest = _log(1.0 - chain.bypass), _log(chain.bypass)
    log_drawn_aq, log_kept_aq = _log(chain.draw_aq), _log(1.0 - chain.draw_aq)
    log_drawn_org, log_kept_org = _log(chain.draw_org), _log(1.0 - chain.draw_org)
    fed_aq = np.any(chain.feed_aq > 0, axis=(1, 2))
    fed_org = np.any(chain.feed_org > 0, axis=(1, 2))
    tapped_aq = np.any(chain.draw_aq > 0, axis=(1, 2))
    tapped_org = np.any(chain.draw_org > 0, axis=(1, 2))
    full = np.all(chain.bypass == 0.0, axis=(1, 2))
    add = np.logaddexp
    # Below the cut under stage n: lost = probability that aqueous going down never returns,
    # back = that it returns in the organic, source = organic flux caused by the feeds below.
    lost, back, source = np.zeros(shape), nothing, nothing
    pivot = np.empty_like(log_ratio)
    entering = np.empty_like(log_ratio)
    returned = np.empty_like(log_ratio)
    for n in range(stages):
        ratio = log_ratio[n]
        if tapped_aq[n]:
            lost = add(log_drawn_aq[n], log_kept_aq[n] + lost)
            back = log_kept_aq[n] + back
        if fed_org[n]:
            source = add(source, feed_org[n])
        if full[n]:
            p = add(ratio, lost)
            pool = source
            up_per_l, bypass = ratio, nothing
        else:
            p = add(log_rest[n], add(ratio, log_e[n] + lost))
            pool = log_e[n] + source
            up_per_l = add(log_rest[n] + back, ratio)
            bypass = log_rest[n] + source
        entering[n] = source
        returned[n] = back
        pivot[n] = p
        if fed_aq[n]:
            pool = add(pool, feed_aq[n])
        source = up_per_l + pool - p
        if not full[n]:
            source = add(source, bypass)
        lost = lost - p
        back = up_per_l - p
        if tapped_org[n]:
            lost = add(lost, log_drawn_org[n] + up_per_l - p)
            back = log_kept_org[n] + back
            source = log_kept_org[n] + source
    aqueous = np.empty_like(log_ratio)
    organic = np.empty_like(log_ratio)
    down = nothing
    for n in range(stages - 1, -1, -1):
        pool = entering[n] if full[n] else log_e[n] + entering[n]
        if fed_aq[n]:
            pool = add(pool, feed_aq[n])
        pool = add(pool, down) if n < stages - 1 else pool
        aqueous[n] = leaving = pool - pivot[n]
        organic[n] = log_ratio[n] + leaving
        if not full[n]:
            into = add(entering[n], returned[n] + leaving)
            organic[n] = add(log_rest[n] + into, organic[n])
        down = leaving + log_kept_aq[n] if tapped_aq[n] else leaving
    return aqueous, organic
