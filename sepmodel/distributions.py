"""What a number may be: the distribution behind its stated range.

A constant's range is read as its data set says: ends of a triangular or uniform distribution, or
the 5 % and 95 % points of a normal or lognormal one. The value of a normal or lognormal number is
its median, and where the two points do not lie symmetrically about it each side has a spread of its
own, so that value, low and high are all kept.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel.data import Constant
from sepmodel.errors import InputError, Problem

Array = NDArray[np.float64]

KINDS = ("exact", "normal", "triangular", "uniform", "lognormal")
# 95 % point of the standard normal distribution.
NORMAL_95 = 1.6448536269514722
_SHARES = ("share", "fraction")


@dataclass(frozen=True, kw_only=True, slots=True)
class Distribution:
    """A distribution by value, low and high, all in one unit.

    ``least`` and ``most`` cut it off: a positive number stays positive, a share below one.
    """

    kind: str
    value: float
    low: float
    high: float
    least: float = -math.inf
    most: float = math.inf

    def __post_init__(self) -> None:
        fits = self.kind in KINDS and self.low <= self.value <= self.high
        if not fits or (self.kind == "lognormal" and not self.low > 0):
            raise InputError(
                Problem(
                    message="not a distribution",
                    value=f"{self.kind} {self.low:g} .. {self.value:g} .. {self.high:g}",
                    expected=f"one of {', '.join(KINDS)} with low <= value <= high",
                )
            )

    @property
    def moves(self) -> bool:
        """Whether it is more than one number."""
        return self.kind != "exact" and self.low < self.high

    def quantile(self, p: ArrayLike) -> Array:
        """The number below which a share ``p`` (...) of the distribution lies, shape (...).

        >>> unsure = Distribution(kind="triangular", value=1.0, low=0.0, high=2.0)
        >>> unsure.quantile([0.125, 0.5, 0.875]).tolist()
        [0.5, 1.0, 1.5]
        """
        p = np.asarray(p, dtype=float)
        if not self.moves:
            return np.full(p.shape, self.value)
        if self.kind == "uniform":
            return self.low + p * (self.high - self.low)
        if self.kind == "triangular":
            return self._triangular(p)
        return self._normal(p)

    @property
    def median(self) -> float:
        """The number with half of the distribution below it."""
        return float(self.quantile(0.5))

    def _triangular(self, p: Array) -> Array:
        width, below = self.high - self.low, self.value - self.low
        rising = self.low + np.sqrt(p * width * below)
        falling = self.high - np.sqrt((1.0 - p) * width * (width - below))
        out: Array = np.where(p * width < below, rising, falling)
        return out

    def _normal(self, p: Array) -> Array:
        """Two halves of normal distributions that meet in the median, on the logarithm if asked."""
        from scipy.special import ndtri

        first, last = self._cumulative(self.least), self._cumulative(self.most)
        score = ndtri(first + p * (last - first)) / NORMAL_95
        middle, low, high = (
            map(math.log, (self.value, self.low, self.high))
            if self.kind == "lognormal"
            else (self.value, self.low, self.high)
        )
        found = middle + score * np.where(score < 0, middle - low, high - middle)
        out: Array = np.exp(found) if self.kind == "lognormal" else found
        return np.clip(out, self.least, self.most)

    def _cumulative(self, end: float) -> float:
        """Share of the uncut distribution below ``end``."""
        from scipy.special import ndtr

        if math.isinf(end) or (self.kind == "lognormal" and end <= 0):
            return 0.0 if end <= 0 else 1.0
        log = math.log if self.kind == "lognormal" else float
        away = log(end) - log(self.value)
        spread = abs(log(self.low if away < 0 else self.high) - log(self.value))
        if spread == 0:
            return 0.5 if away == 0 else float(away > 0)
        return float(ndtr(NORMAL_95 * away / spread))


def of(constant: Constant) -> Distribution:
    """The distribution of a constant in strict SI; "exact" where the data state no range.

    A normal number whose range lies above zero stays above zero, unless it is a logarithm; a
    share below one stays below one.

    >>> from sepmodel.data import load_set
    >>> of(load_set("separation_factors/pc88a-hcl")["Nd/Pr"]).quantile([0.0, 1.0]).tolist()
    [1.35, 1.55]
    """
    low, high = constant.si_range
    kind = constant.distribution if constant.distribution in KINDS else "exact"
    logarithm = "log" in constant.basis
    share = constant.basis.startswith(_SHARES) and high <= 1.0
    return Distribution(
        kind=kind,
        value=constant.si,
        low=low,
        high=high,
        least=0.0 if kind == "normal" and low > 0 and not logarithm else -math.inf,
        most=1.0 if share else math.inf,
    )


def spread(value: float, relative: float, kind: str = "normal") -> Distribution:
    """A distribution about ``value`` whose standard deviation is ``relative`` times it.

    For "lognormal" the standard deviation of the logarithm; for "triangular" and "uniform" the half
    width is ``relative`` times the value.

    >>> spread(2.0, 0.1, "uniform").quantile([0.0, 1.0]).tolist()
    [1.8, 2.2]
    """
    size = abs(value) * relative
    if kind == "lognormal":
        factor = math.exp(NORMAL_95 * relative)
        return Distribution(kind=kind, value=value, low=value / factor, high=value * factor)
    half = NORMAL_95 * size if kind == "normal" else size
    return Distribution(kind=kind, value=value, low=value - half, high=value + half)
