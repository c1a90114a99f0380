"""Exact answers for columns with linear isotherms: Laplace-domain solution and moments.

The transfer function of a column closed to dispersion at both ends is, with Pe = v L/D and
a = sqrt(1 + 4 D s_eff/v^2),

    G = 4 a exp(Pe (1 - a)/2) / [(1 + a)^2 - (1 - a)^2 exp(-a Pe)]

where s_eff = s + (1 - e)/e s<U>/c carries the uptake of the beads. Nothing here knows a grid, so it
judges the schemes of ``transport``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel.chromatography.column import Bed, Section

Array = NDArray[np.float64]
Complex = NDArray[np.complex128]

_DEPTH = 16
_DIGITS = 1e-12
_BLOCK = 1024
_MOST_TERMS = 10**6


def uptake(s: Complex, bed: Bed, coefficient: float, rate: float | None, number: int) -> Complex:
    """s <U>/c [1/s]: what a volume of solid (beads or resin) takes up per concentration outside.

    ``number`` picks the component's film and diffusion coefficient.
    """
    bound = coefficient if rate is None else coefficient * rate / (s + rate)
    beads = bed.beads
    if beads is None:
        return np.asarray(s * bound)
    content = s * (beads.porosity + (1 - beads.porosity) * bound)
    film = np.broadcast_to(beads.film, number + 1)[number]
    per_volume = 3 / beads.radius
    if beads.diffusion is None:
        return np.asarray(content * film * per_volume / (film * per_volume + content))
    pore = beads.porosity * np.broadcast_to(beads.diffusion, number + 1)[number]
    inner = pore / beads.radius * _sphere(content * beads.radius**2 / pore)
    return np.asarray(per_volume * film * inner / (film + inner))


def _sphere(square: Complex) -> Complex:
    """phi coth phi - 1 of phi^2: hyperbolic where phi is large, else its continued fraction."""
    phi = np.sqrt(square + 0j)
    fade = np.exp(-2 * phi)
    with np.errstate(divide="ignore", invalid="ignore"):
        closed = phi * (1 + fade) / (1 - fade) - 1
    fraction = np.full_like(phi, 2 * _DEPTH + 1)
    for k in range(_DEPTH - 1, 0, -1):
        fraction = (2 * k + 1) + square / fraction
    return np.asarray(np.where(np.abs(phi) > 1, closed, square / fraction))


def transfer(
    s: Complex, bed: Bed, coefficient: float, rate: float | None = None, number: int = 0
) -> Complex:
    """Outlet over inlet in the Laplace domain.

    >>> bed = Bed(length=1.0, velocity=0.4, void=0.4, dispersion=0.1)
    >>> round(abs(complex(transfer(np.array(1e-12 + 0j), bed, 3.0))), 9)
    1.0
    """
    ratio = (1 - bed.void) / bed.void
    s_eff = s + ratio * uptake(s, bed, coefficient, rate, number)
    v = bed.velocity / bed.void
    if bed.dispersion == 0:
        return np.asarray(np.exp(-s_eff * bed.length / v))
    a = np.sqrt(1 + 4 * bed.dispersion * s_eff / v**2)
    peclet = v * bed.length / bed.dispersion
    bottom = (1 + a) ** 2 - (1 - a) ** 2 * np.exp(-a * peclet)
    return np.asarray(4 * a * np.exp(peclet * (1 - a) / 2) / bottom)


def moments(
    bed: Bed, coefficient: float, rate: float | None = None, number: int = 0
) -> tuple[float, float]:
    """Mean residence time [s] and variance [s2] of a short pulse.

    Mean tau (1 + F k), variance tau^2 V (1 + F k)^2 + 2 tau F [(1 - p) K/rate + k^2 (R/(3 k_f) +
    R^2/(15 p D_p))] with tau = L/v, F = (1 - e)/e, k = p + (1 - p) K and V = 2/Pe - 2 (1 -
    exp(-Pe))/Pe^2.

    >>> moments(Bed(length=1.0, velocity=0.5, void=0.5), 3.0)
    (4.0, 0.0)
    """
    v = bed.velocity / bed.void
    tau, ratio, beads = bed.length / v, (1 - bed.void) / bed.void, bed.beads
    porosity = 0.0 if beads is None else beads.porosity
    held = porosity + (1 - porosity) * coefficient
    lag = 0.0 if rate is None else (1 - porosity) * coefficient / rate
    if beads is not None:
        film = np.broadcast_to(beads.film, number + 1)[number]
        lag += held**2 * beads.radius / (3 * film)
        if beads.diffusion is not None:
            pore = beads.porosity * np.broadcast_to(beads.diffusion, number + 1)[number]
            lag += held**2 * beads.radius**2 / (3 * 5 * pore)
    spread = 0.0
    if bed.dispersion > 0:
        peclet = v * bed.length / bed.dispersion
        spread = 2 / peclet + 2 * np.expm1(-peclet) / peclet**2
    stretch = 1 + ratio * held
    return float(tau * stretch), float((tau * stretch) ** 2 * spread + 2 * tau * ratio * lag)


def response(
    bed: Bed,
    coefficient: Array,
    programme: Sequence[Section],
    times: ArrayLike,
    rate: Array | None = None,
) -> Array:
    """Outlet (T, C) [mol/m3] of an empty column with q = K c: the transfer function inverted.

    A Fourier series on a line right of all poles, summed until its terms vanish; about ten digits.
    Every section may have a slope.
    """
    t = np.asarray(times, dtype=float)
    out = np.zeros((t.size, len(coefficient)))
    for number, k in enumerate(coefficient):
        lag = None if rate is None else float(np.broadcast_to(rate, len(coefficient))[number])
        begin, conc, slope = 0.0, 0.0, 0.0
        for section in programme:
            rise = 0.0 if section.slope is None else float(section.slope[number])
            for jump, power in ((section.conc[number] - conc, 1), (rise - slope, 2)):
                late = t > begin
                if jump and late.any():
                    basic = _invert(bed, float(k), lag, number, power, t[late] - begin)
                    out[late, number] += jump * basic
            begin += section.duration
            conc, slope = float(section.conc[number]) + rise * section.duration, rise
    return out


def _invert(
    bed: Bed, coefficient: float, rate: float | None, number: int, power: int, t: Array
) -> Array:
    """Inverse of G/s^power at ``t`` > 0."""
    period = float(t.max())
    shift = -np.log(_DIGITS) / (2 * period)
    first = transfer(np.array([shift + 0j]), bed, coefficient, rate, number) / shift**power
    total = np.full(t.shape, 0.5 * first[0].real)
    start = 1
    while start < _MOST_TERMS:
        k = np.arange(start, start + _BLOCK)
        s = shift + 1j * np.pi * k / period
        terms = transfer(s, bed, coefficient, rate, number) / s**power
        angle = np.outer(t, np.pi * k / period)
        total += np.cos(angle) @ terms.real - np.sin(angle) @ terms.imag
        if np.abs(terms[-1]) < np.finfo(float).eps * np.abs(first[0]) / _BLOCK:
            break
        start += _BLOCK
    return np.asarray(np.exp(shift * t) / period * total)
