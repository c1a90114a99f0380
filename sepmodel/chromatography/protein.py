"""Lanmodulin columns on the transport engine: the pair law with the protons it exchanges.

Per volume of bed, with u_i = sqrt(f K_ii) c_i, W_i = sum_j kappa_ij u_j, Z = 1 + sum u_i W_i / 2:

    q_i = P u_i W_i / Z                       rare earths, two a protein
    q_H = (P / Z) N h / (h + Ka)              protons on the empty protein

so that a bound pair releases the N h / (h + Ka) protons the protein held. Protons are transported
as a component, which makes pH an outcome: a load acidifies its own front. Activities are ideal and
no buffer is modelled; pH is -log10 of the proton concentration in mol/L.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel.chromatography.binding import C_STANDARD, PairLaw

Array = NDArray[np.float64]


def proton_concentration(pH: ArrayLike) -> Array:
    """[H+] in mol/m3.

    >>> float(proton_concentration(3.0).round(12))
    1.0
    """
    return np.asarray(C_STANDARD * 10.0 ** -np.asarray(pH, dtype=float))


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class ProtonPairLaw:
    """The pair law as an ``Isotherm`` of metals and, last, protons; q per m3 of solid.

    ``log_k`` (M,) natural logarithms of K_ii, -inf for a metal that does not bind, ``kappa``
    (M, M), ``protein`` P [mol/m3 solid], ``exponent`` N, ``acidity`` Ka [mol/m3].

    >>> from sepmodel.chromatography.binding import bound, pair_law
    >>> from sepmodel.data import Book
    >>> law = pair_law(("Nd",), Book())
    >>> own = proton_pair_law(law, ("Nd",), liquid=0.5)
    >>> q = own.loading(np.array([0.2, float(proton_concentration(2.2))]))
    >>> bool(np.isclose(0.5 * q[0], bound(np.array([0.2]), 2.2, law)[0]))
    True
    """

    log_k: Array
    kappa: Array
    protein: float
    exponent: float
    acidity: float

    def loading(self, conc: Array) -> Array:
        """q (..., M + 1) at ``conc`` (..., M + 1); below zero concentrations count as zero."""
        u, h, w, z = self._sites(conc)[:4]
        metals = self.protein * u * w / z[..., None]
        protons = self.protein * self.exponent * h / (h + self.acidity) / z
        return np.concatenate([metals, protons[..., None]], axis=-1)

    def slopes(self, conc: Array) -> Array:
        """dq_i/dc_j (..., M + 1, M + 1) at ``conc``."""
        u, h, w, z, strength = self._sites(conc)
        z1 = z[..., None]
        count = u.shape[-1]
        out = np.empty((*conc.shape, count + 1))
        pull = strength * w  # dZ/dc_j
        direct = u[..., :, None] * self.kappa * strength[..., None, :]
        here = np.arange(count)
        direct[..., here, here] += pull
        q = self.protein * u * w / z1
        out[..., :count, :count] = (
            self.protein * direct / z[..., None, None] - (q / z1)[..., :, None] * pull[..., None, :]
        )
        # f = (1 + h/Ka)^-N: d ln f/dh = -N / (Ka + h); q_i rises with f as f/(1 + f T).
        fall = -self.exponent / (self.acidity + h)
        out[..., :count, count] = q / z1 * fall[..., None]
        held = self.protein * self.exponent * h / (h + self.acidity)
        out[..., count, :count] = -(held / z**2)[..., None] * pull
        out[..., count, count] = (
            self.protein * self.exponent * self.acidity / (h + self.acidity) ** 2 / z
            - held * (z - 1) / z**2 * fall
        )
        positive = conc > 0
        return np.where(positive[..., None, :], out, 0.0)

    def _sites(self, conc: Array) -> tuple[Array, Array, Array, Array, Array]:
        """u, [H+], W, Z and u_i/c_i."""
        c = np.maximum(conc, 0.0)
        h = c[..., -1]
        log_f = -self.exponent * np.log1p(h / self.acidity)
        strength = np.exp(0.5 * (self.log_k + log_f[..., None])) / C_STANDARD
        u = strength * c[..., :-1]
        w = u @ self.kappa
        z = 1.0 + 0.5 * (u * w).sum(axis=-1)
        return u, h, w, z, strength


def proton_pair_law(law: PairLaw, names: Sequence[str], *, liquid: float) -> ProtonPairLaw:
    """The law of a protein for ``names`` (others than its own do not bind), per m3 of solid.

    ``liquid`` is the liquid per bed volume; the law's capacity is per bed volume.
    """
    place = {name: k for k, name in enumerate(law.names)}
    count = len(names)
    log_k, kappa = np.full(count, -np.inf), np.full((count, count), 2.0)
    for i, first in enumerate(names):
        if first not in place:
            continue
        log_k[i] = law.log_k[place[first]]
        for j, second in enumerate(names):
            if second in place:
                kappa[i, j] = law.kappa[place[first], place[second]]
    return ProtonPairLaw(
        log_k=log_k,
        kappa=kappa,
        protein=0.5 * law.capacity / (1 - liquid),
        exponent=law.exponent,
        acidity=float(proton_concentration(law.pKa)),
    )
