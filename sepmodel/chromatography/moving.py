"""Finite volumes that travel with the bands of a displacement train.

The faces z_f move at w_f. With v the interstitial velocity, liquid passes a face at v - w_f and the
resin at -w_f, so that the balances of a cell of width h(t) are

    d(h e c)/dt       = -[e (v - w) c - e D dc/dz] - h (1 - e) k (q* - q)
    d(h (1 - e) q)/dt = [(1 - e) w q] + h (1 - e) k (q* - q)

with [.] the difference of the outer to the inner face, c limited from upstream and q from
downstream. Faces move linearly in time between two regriddings, which backward differences follow
exactly: a uniform column stays uniform. Bands that travel together stand still on this grid, so
that steps are long where the bands change slowly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dgbtrf, dgbtrs

from sepmodel.chromatography.isotherms import Isotherm
from sepmodel.chromatography.transport import face_gradient, limited_slope

Array = NDArray[np.float64]

_FLOOR = 1 / 3
_SMOOTH = 8


@dataclass(slots=True)
class Window:
    """The balances on a moving grid; see ``integrate.System``.

    ``faces`` (N + 1,) [m] at time ``begin`` move at ``speeds`` [m/s]; ``inlet`` (C,) enters from
    upstream and resin of ``ahead`` (C,) [mol/m3] from downstream, where the grid runs into it.
    Unknown are c and q of each cell, (N, 2 C).
    """

    isotherm: Isotherm
    velocity: float
    void: float
    dispersion: float
    rate: Array
    inlet: Array
    ahead: Array
    faces: Array
    speeds: Array
    begin: float
    linear: bool = False
    kinked: bool = False
    slopes: Array = field(default_factory=lambda: np.zeros(0))
    state: Array = field(default_factory=lambda: np.zeros(0))
    width: Array = field(default_factory=lambda: np.zeros(0))
    stored: Array = field(default_factory=lambda: np.zeros(0))
    own: Array = field(init=False)
    faster: Array = field(init=False)
    kept: Array = field(init=False)
    liquid: Array = field(init=False)
    solid: Array = field(init=False)
    rows: NDArray[np.int64] = field(init=False)
    columns: NDArray[np.int64] = field(init=False)
    factors: tuple[Array, NDArray[np.int32]] = field(init=False)

    def __post_init__(self) -> None:
        c = self.inlet.size
        self.own, self.faster = np.diff(self.faces), np.diff(self.speeds)
        self.kept = np.repeat([self.void, 1 - self.void], c)
        self.liquid = self.void * (self.velocity - self.speeds)[:, None]
        self.solid = (1 - self.void) * self.speeds[:, None]
        a, b = np.indices((c, c))
        band = 4 * 2 * c
        self.rows = np.stack([band + a - b, band + c + a - b]).reshape(2, -1)
        self.columns = b.ravel()

    def grid(self, t: float) -> Array:
        """Faces at a time (N + 1,)."""
        return self.faces + self.speeds * (t - self.begin)

    def _differences(self, y: Array) -> tuple[Array, Array, Array]:
        """Differences to the neighbours, scaled to the own width, and distances of centres."""
        width, c = self.width[:, None], self.inlet.size
        gap = 0.5 * (width[1:] + width[:-1])
        inner = (y[1:] - y[:-1]) / gap
        back, ahead = np.empty_like(y), np.empty_like(y)
        np.multiply(inner, width[1:], out=back[1:])
        np.multiply(inner, width[:-1], out=ahead[:-1])
        back[0, :c], back[0, c:], ahead[-1] = 2 * (y[0, :c] - self.inlet), 0.0, 0.0
        return back, ahead, gap

    def evaluate(self, t: float, y: Array) -> tuple[Array, Array]:
        """See ``integrate.System``."""
        c = self.inlet.size
        self.width = h = self.own + self.faster * (t - self.begin)
        self.state = both = y.reshape(h.size, 2 * c)
        conc, held = both[:, :c], both[:, c:]
        back, ahead, gap = self._differences(both)
        slope = 0.5 * limited_slope(back, ahead)
        # Nothing is known beyond the ends: cells there are flat for the side that leaves.
        slope[-1] = 0.0
        slope[0, c:] = 0.0
        liquid, solid = self.liquid, self.solid
        flow = np.empty((h.size + 1, 2 * c))
        flow[0, :c] = liquid[0] * self.inlet
        np.multiply(liquid[1:], conc + slope[:, :c], out=flow[1:, :c])
        flow[1:-1, :c] -= (self.void * self.dispersion / gap) * (conc[1:] - conc[:-1])
        np.multiply(solid[:-1], slope[:, c:] - held, out=flow[:-1, c:])
        flow[-1, c:] = -solid[-1] * self.ahead
        moved = flow[:-1] - flow[1:]
        lag = self.isotherm.loading(conc) - held
        lag *= h[:, None] * ((1 - self.void) * self.rate)
        moved[:, :c] -= lag
        moved[:, c:] += lag
        return y * self._storage(), moved.ravel()

    def _storage(self) -> Array:
        """dU/dy, diagonal."""
        return (self.width[:, None] * self.kept).ravel()

    def factorise(self, gamma: float) -> None:
        """See ``integrate.System``."""
        c, n, both = self.inlet.size, self.width.size, self.state
        wide = 2 * c
        total, band = 4 * wide, 2 * wide
        store = np.zeros((n, wide, 6 * wide + 1))
        diagonal = np.zeros((n, wide))
        back, ahead, gap = self._differences(both)
        by_back, by_ahead = face_gradient(back, ahead)
        by_back[-1] = by_ahead[-1] = 0.0
        by_back[0, c:] = by_ahead[0, c:] = 0.0
        by_back *= self.width[:, None]
        by_ahead *= self.width[:, None]
        scale = np.zeros((n + 1, 1))
        scale[1:-1] = 1 / gap
        # face value c + s(back, ahead): by the cell before, the cell itself and the cell after
        before, after = -by_back * scale[:-1], by_ahead * scale[1:]
        here = -before - after
        here[0, :c] = 2 * by_back[0, :c] / self.width[0] - after[0, :c]
        liquid, solid = gamma * self.liquid[1:], gamma * self.solid[:-1]
        spread = gamma * self.void * self.dispersion * scale[1:-1]

        def put(shift: int, side: slice, low: int, high: int, value: Array) -> None:
            """Add d(row cell i)/d(cell i + shift) for the row cells low..high."""
            store[low + shift : high + shift, side, total - shift * wide] += value

        fluid, resin = slice(0, c), slice(c, wide)
        # Newton matrix is U' - gamma R'; the flow out of cell i is + in its row, - in the next.
        out = liquid * before[:, :c], liquid * (1 + here[:, :c]), liquid * after[:, :c]
        put(-1, fluid, 1, n, out[0][1:])
        put(0, fluid, 0, n, out[1])
        put(1, fluid, 0, n - 1, out[2][:-1])
        put(-2, fluid, 2, n, -out[0][1:-1])
        put(-1, fluid, 1, n, -out[1][:-1])
        put(0, fluid, 1, n, -out[2][:-1])
        put(0, fluid, 0, n - 1, spread)
        put(1, fluid, 0, n - 1, -spread)
        put(0, fluid, 1, n, spread)
        put(-1, fluid, 1, n, -spread)
        # resin leaves cell i upstream: held - s
        out = -solid * before[:, c:], solid * (1 - here[:, c:]), -solid * after[:, c:]
        put(-1, resin, 1, n, out[0][1:])
        put(0, resin, 0, n, out[1])
        put(1, resin, 0, n - 1, out[2][:-1])
        put(0, resin, 0, n - 1, -out[0][1:])
        put(1, resin, 0, n - 1, -out[1][1:])
        put(2, resin, 0, n - 2, -out[2][1:-1])
        share = gamma * ((1 - self.void) * self.width)[:, None] * self.rate
        self.slopes = self.isotherm.slopes(both[:, :c])
        block = (share[:, :, None] * self.slopes).reshape(n, -1)
        store[:, self.columns, self.rows[0]] += block
        store[:, self.columns, self.rows[1]] -= block
        store[:, resin, total - c] -= share
        diagonal[:, c:] += share
        self.stored = self._storage()
        store[:, :, total] += diagonal + self.stored.reshape(n, wide)
        lu, pivots, info = dgbtrf(store.reshape(n * wide, -1).T, band, band, overwrite_ab=1)
        if info > 0:
            lu = lu + np.nan
        self.factors = (lu, pivots)

    def solve(self, right: Array) -> Array:
        """See ``integrate.System``."""
        lu, pivots = self.factors
        band = 4 * self.inlet.size
        return np.asarray(dgbtrs(lu, band, band, right, pivots)[0])

    def amounts(self, step: Array) -> Array:
        """See ``integrate.System``."""
        return np.asarray(self.stored * step)

    def outflow(self, y: Array) -> Array:
        """What leaves at both ends together, per time and cross-section (C,)."""
        c = self.inlet.size
        liquid = self.void * (self.velocity - self.speeds[-1])
        solid = (1 - self.void) * self.speeds[0]
        return np.asarray(liquid * y[-2 * c : -c] + solid * y[c : 2 * c])

    def inflow(self) -> Array:
        """What enters at both ends together, per time and cross-section (C,)."""
        liquid = self.void * (self.velocity - self.speeds[0])
        solid = (1 - self.void) * self.speeds[-1]
        return np.asarray(liquid * self.inlet + solid * self.ahead)


def monotone(x: Array, values: Array) -> Callable[[Array], Array]:
    """The monotone cubic of Fritsch and Carlson through ``values`` (T, C) at ``x`` (T,)."""
    from scipy.interpolate import PchipInterpolator

    # Slopes that differ by more than the range of floats are flat to any purpose.
    with np.errstate(over="ignore", divide="ignore", invalid="ignore", under="ignore"):
        return PchipInterpolator(x, values, axis=0)  # type: ignore[no-any-return]


def remap(faces: Array, values: Array, new: Array) -> Array:
    """Cell averages (N, m) on other faces between the same ends; conservative and positive.

    >>> old, new = np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.5, 2.0])
    >>> remap(old, np.array([[3.0], [3.0]]), new).tolist()
    [[3.0], [3.0]]
    """
    total = np.zeros((faces.size, values.shape[1]))
    np.cumsum(values * np.diff(faces)[:, None], axis=0, out=total[1:])
    return np.asarray(np.diff(monotone(faces, total)(new), axis=0) / np.diff(new)[:, None])


def crowding(values: Array) -> float:
    """The largest change within a cell over the mean, in the measure of ``spread_faces``.

    >>> even = np.linspace(0.4, 0.6, 101)[:, None]
    >>> bool(crowding(even) < 1.1)
    True
    """
    step = np.abs(np.diff(_measure(values), axis=0)).sum(axis=1)
    total = float(step.sum())
    return float(step.max() * step.size / total) if total > 0 else 1.0


def _measure(values: Array) -> Array:
    """The cube root of shares and of what they lack to 1."""
    x = np.clip(values, 0.0, 1.0)
    return np.cbrt(x) - np.cbrt(1 - x)


def spread_faces(faces: Array, values: Array, low: float, high: float, cells: int) -> Array:
    """Faces between ``low`` and ``high`` that share the changes of the profiles equally.

    Measured is the cube root of every column of ``values`` (shares, 0 to 1) and of what it lacks to
    1, which does not forget the feet of a boundary, on top of an even spread.
    """
    centre = 0.5 * (faces[1:] + faces[:-1])
    change = np.abs(np.diff(_measure(values), axis=0)).sum(axis=1) / np.diff(centre)
    monitor = np.interp(faces, 0.5 * (centre[1:] + centre[:-1]), change)
    for _ in range(_SMOOTH):
        monitor[1:-1] = (monitor[2:] + 2 * monitor[1:-1] + monitor[:-2]) / 4
        monitor[0], monitor[-1] = monitor[1], monitor[-2]
    inside = np.unique(np.concatenate([[low], faces[(faces > low) & (faces < high)], [high]]))
    here = np.interp(inside, faces, monitor)
    whole = float(np.trapezoid(here, inside))
    here += _FLOOR * whole / (high - low) + np.finfo(float).tiny
    share = np.concatenate([[0.0], np.cumsum(0.5 * np.diff(inside) * (here[1:] + here[:-1]))])
    out = np.interp(np.linspace(0.0, share[-1], cells + 1), share, inside)
    out[0], out[-1] = low, high
    return np.asarray(out)
