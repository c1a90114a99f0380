"""Mixers of a cation exchange whose activity coefficients are those of their own solution.

Unknowns are u = ln(d/h) and G = ln Gamma of every component. With L the change of ln D,

    L = z du + dG,   dx = -x phi L,   phi = Vo D s,

and F'(x) the response of the coefficients, Newton's step on G = F(x) leaves L = p + q du with
(1 + F' x phi) p = F - G and (1 + F' x phi) q = z: one unknown again for the closure. F' is taken
once, in the middle of the states that are settled together, and anew where that is too far away.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sepmodel.chemistry.active_exchange import ActiveExchange
from sepmodel.extraction.dynamics.mixers import (
    CAP,
    CLOSE,
    LIMIT,
    Contents,
    Slopes,
    lost,
)

Array = NDArray[np.float64]

# What a step with an older response leaves of itself: supposed at first, and the most borne.
LEAVES, MOST = 1.0 / 16.0, 1.0 / 4.0
# However rough the answer may be, this near: a round here costs less than one of the whole train.
NEAR = 1e-3


class ActiveMixers:
    """Newton written out, for an exchange with one unknown; as the protocol of mixers says."""

    def __init__(self, model: ActiveExchange, shift: Array, va: Array, vo: Array) -> None:
        exchange = model.exchange
        self.model, self.va, self.vo = model, va, vo
        self.z = np.array(exchange.charge, dtype=float)
        self.base = exchange.log_k + shift

    def settle(
        self,
        moles: Array,
        totals: Array,
        u: Array,
        aside: Array | None,
        close: float = CLOSE,
        limit: int = LIMIT,
    ) -> tuple[Array, Array, Array, float]:
        """u, D and s; what is left of u is about the square of the last number."""
        z, va, vo = self.z, self.va, self.vo
        dimer, charge = totals[..., 0], totals[..., 1]
        if aside is not None:
            dimer = dimer - aside @ z
        close = min(close, NEAR)
        w, gamma = u[..., 0], u[..., 1:]
        before, inverse = 0.0, np.zeros(0)
        for k in range(limit):
            e = np.exp(w)
            d = np.exp(self.base + gamma + w[..., None] * z)
            s = 1.0 / (va + vo * d)
            x = moles * s
            y = d * x
            by_y = vo * y * s
            if k == 0:
                inverse = self._middle(x, by_y, charge)
            p = _times(inverse, self.model.log_gamma(x, charge) - gamma)
            q = inverse @ z
            acid, bound = e * charge, e * (x @ z)
            left, right = acid + y @ z, dimer + bound
            both = z * by_y * (va / vo / left[..., None] + (e / right)[..., None])
            full = acid / left - bound / right + _sum(both, q)
            du = (np.log(right / left) - _sum(both, p)) / full
            moved = p + q * du[..., None]
            step = np.concatenate([du[..., None], moved - z * du[..., None]], axis=-1)
            size = float(np.abs(step).max())
            if not size <= CAP:
                part = CAP / np.maximum(np.abs(step).max(axis=-1, keepdims=True), CAP)
                part = np.nan_to_num(part)
                step, moved = part * np.nan_to_num(step), part * np.nan_to_num(moved)
                size = np.inf
            w, gamma = w + step[..., 0], gamma + step[..., 1:]
            leaves = LEAVES if k == 0 else size / before if before else 0.0
            # What is left is of the order of the square of ``slack``.
            slack = float((size * max(size, min(leaves, 1.0))) ** 0.5) if size < np.inf else np.inf
            if slack < close:
                break
            if k and not leaves <= MOST:
                inverse = self._inverse(x, by_y, charge)
            before = size
        else:
            raise lost(step)
        d = d * np.exp(moved)
        return np.concatenate([w[..., None], gamma], axis=-1), d, 1.0 / (va + vo * d), slack

    def _middle(self, x: Array, by_y: Array, charge: Array) -> Array:
        """(1 + F' x phi)^-1 (N, C, C) in the middle one of several states."""
        while x.ndim > 2:
            i = x.shape[0] // 2
            x, by_y, charge = x[i], by_y[i], charge[i]
        return self._inverse(x, by_y, charge)

    def _inverse(self, x: Array, by_y: Array, charge: Array) -> Array:
        """The same (..., N, C, C) in every state."""
        by_metals, _ = self.model.responses(x, charge)
        return _inverted(by_metals, by_y)

    def slopes(self, found: Contents, moving: bool) -> Slopes:
        """As the protocol says."""
        z, d, s = self.z, found.d, found.s
        c = z.size
        x, y = found.x[:, :c], found.y[:, :c]
        dimer, charge = found.totals[:, 0], found.totals[:, 1]
        if found.aside is not None:
            dimer = dimer - found.aside @ z
        e = np.exp(found.u[:, 0])
        by_metals, by_anions = self.model.responses(x, charge)
        by_y = self.vo * y * s
        inverse = _inverted(by_metals, by_y)
        bound, acid = e * (x @ z), e * charge
        left, right = acid + y @ z, dimer + bound
        both = z * by_y * (self.va / self.vo / left[:, None] + (e / right)[:, None])
        q = inverse @ z
        full = acid / left - bound / right + _sum(both, q)
        # ln Gamma by moles at constant u, then what u adds: dG = own dM + (q - z) du.
        own = inverse @ (by_metals * s[:, None, :])
        follow = q - z
        direct = z * s * (d / left[:, None] - (e / right)[:, None])
        u_m = -(direct + (both[:, None, :] @ own)[:, 0]) / full[:, None]
        u_a = u_t = None
        if found.aside is not None:
            u_a = (-z / (right * full)[:, None])[:, None]
            u_a = np.concatenate([u_a, follow[..., None] * u_a], axis=1)
        if moving:
            by_charge = _times(inverse, by_anions)
            u_t = np.zeros((e.size, 1 + c, found.totals.shape[1]))
            u_t[:, 0, 0] = 1.0 / (right * full)
            u_t[:, 0, 1] = -(e / left + _sum(both, by_charge)) / full
            u_t[:, 1:] = follow[..., None] * u_t[:, :1]
            u_t[:, 1:, 1] += by_charge
        # By u and by ln Gamma, each of its own component.
        turn = np.concatenate([np.broadcast_to(z[:, None], (c, 1)), np.eye(c)], axis=1)
        return Slopes(
            x_u=(-by_y)[..., None] * turn,
            y_u=(self.va * y * s)[..., None] * turn,
            u_m=np.concatenate([u_m[:, None], own + follow[..., None] * u_m[:, None]], axis=1),
            u_a=u_a,
            u_t=u_t,
        )


def _inverted(by_metals: Array, by_y: Array) -> Array:
    matrix = by_metals * by_y[..., None, :]
    c = matrix.shape[-1]
    matrix.reshape(*matrix.shape[:-2], c * c)[..., :: c + 1] += 1.0
    try:
        return np.asarray(np.linalg.inv(matrix), dtype=float)
    except np.linalg.LinAlgError:
        # From far away the response says nothing: the coefficients of the last solution.
        return np.array(np.broadcast_to(np.eye(c), matrix.shape), dtype=float)


def _sum(a: Array, b: Array) -> Array:
    """Sum of products over the last, short axis: numpy's own sums are slow there."""
    out: Array = np.einsum("...c,...c->...", a, b)
    return out


def _times(matrix: Array, vector: Array) -> Array:
    out: Array = (matrix @ vector[..., None])[..., 0]
    return out
