"""Space operators of a column: what convection, dispersion and pore diffusion do to a profile.

Along the column, with interstitial velocity v and dispersion D on a length L cut into equal cells,

    dc/dt = -dF/dz,   F = v c - D dc/dz,   F(0) = v c_in,   dc/dz(L) = 0

either by a discontinuous Galerkin method (Radau points, upwind convection, alternating fluxes for
the dispersion) or by finite volumes whose upwind slope is limited. Inside a bead of radius R, with
x = (r/R)^2, by Galerkin collocation on Radau points of the weight r^2, the surface among them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_NEWTON = 100
_POINT = 1e-15
# Products of two differences below this have no slope: their cubes would leave the range of floats.
_LEAST = 1e-200


@dataclass(frozen=True, kw_only=True, slots=True)
class Galerkin:
    """Discontinuous Galerkin: polynomials of ``degree`` on ``elements`` equal elements.

    High order and not bounded: a front that is narrower than an element overshoots.
    """

    degree: int = 3
    elements: int = 16

    @property
    def name(self) -> str:
        """The scheme in words."""
        return f"discontinuous Galerkin P{self.degree} x {self.elements}"

    @property
    def nodes(self) -> int:
        """Points along the column."""
        return (self.degree + 1) * self.elements

    def coarser(self) -> Galerkin:
        """The scheme whose solution is compared with this one's to estimate the error."""
        return Galerkin(degree=self.degree, elements=max(1, (3 * self.elements) // 4))


@dataclass(frozen=True, kw_only=True, slots=True)
class Limited:
    """Finite volumes on equal ``cells``, third-order upwind slope with a smooth limiter."""

    cells: int = 100

    @property
    def name(self) -> str:
        """The scheme in words."""
        return f"limited finite volumes x {self.cells}"

    @property
    def nodes(self) -> int:
        """Points along the column."""
        return self.cells

    def coarser(self) -> Limited:
        """The scheme whose solution is compared with this one's to estimate the error."""
        return Limited(cells=max(2, self.cells // 2))


Scheme = Galerkin | Limited


def radau_points(degree: int) -> Array:
    """The degree + 1 right Radau points on [-1, 1]: roots of P_n - P_(n+1), 1 among them.

    >>> radau_points(1).round(6).tolist()
    [-0.333333, 1.0]
    """
    if degree == 0:
        return np.ones(1)
    series = np.zeros(degree + 2)
    series[-2:] = 1.0, -1.0
    roots = np.sort(np.real(legendre.legroots(series)))
    slope = legendre.legder(series)
    for _ in range(3):
        roots = roots - legendre.legval(roots, series) / legendre.legval(roots, slope)
    roots[-1] = 1.0
    return np.asarray(roots)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Axis:
    """Points along a column (N,): ``position`` and ``width`` (quadrature weight) [m]."""

    position: Array
    width: Array


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class LinearOperator:
    """dc/dt = matrix c + inlet c_in; ``lower`` and ``upper`` count its nodal diagonals."""

    axis: Axis
    matrix: Array
    inlet: Array
    lower: int
    upper: int


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class LimitedOperator:
    """Finite volumes: ``convection`` and ``diffusion`` [1/s] are v/h and D/h^2."""

    axis: Axis
    convection: float
    diffusion: float
    lower: int = 2
    upper: int = 1


Operator = LinearOperator | LimitedOperator


def operator(scheme: Scheme, length: float, velocity: float, dispersion: float) -> Operator:
    """The operator of a scheme on a column; ``velocity`` is interstitial.

    >>> op = operator(Galerkin(degree=2, elements=4), 1.0, 1.0, 0.01)
    >>> bool(np.allclose(op.matrix @ np.ones(12) + op.inlet, 0.0, atol=1e-10))
    True
    """
    if isinstance(scheme, Limited):
        h = length / scheme.cells
        axis = Axis(
            position=np.asarray((np.arange(scheme.cells) + 0.5) * h, dtype=float),
            width=np.full(scheme.cells, h),
        )
        return LimitedOperator(axis=axis, convection=velocity / h, diffusion=dispersion / h**2)
    return _galerkin(scheme, length, velocity, dispersion)


def _galerkin(
    scheme: Galerkin, length: float, velocity: float, dispersion: float
) -> LinearOperator:
    """Alternating fluxes: c from the left for convection and gradient, the gradient from the right.

    On an element of width h with mass matrix M, stiffness S = int phi_i' phi_j, end vectors l, r:
    M h/2 g = r c(r) - l c(left neighbour's end) - S^T.. and M h/2 dc/dt = S F - r F(r) + l F(l).
    """
    p, elements = scheme.degree, scheme.elements
    size, total = p + 1, scheme.nodes
    h = length / elements
    x = radau_points(p)
    norm = np.sqrt(np.arange(size) + 0.5)
    inverse = np.linalg.inv(legendre.legvander(x, p) * norm)
    mass = inverse.T @ inverse
    slopes = np.column_stack([legendre.legval(x, legendre.legder(row)) for row in np.eye(size)])
    stiffness = (mass @ ((slopes * norm) @ inverse)).T
    left = (legendre.legvander(np.array([-1.0]), p) * norm @ inverse)[0]
    right = np.zeros(size)
    right[-1] = 1.0

    # Gradient: sum_j (M h/2) g = -S c + r c(end) - l c(end of the left neighbour, own at the inlet)
    gradient = np.zeros((total, total))
    own = np.linalg.solve(mass * h / 2, -stiffness + np.outer(right, right))
    enter = np.linalg.solve(mass * h / 2, left)
    for e in range(elements):
        rows = slice(e * size, (e + 1) * size)
        gradient[rows, rows] += own
        if e == 0:
            gradient[rows, rows] -= np.outer(enter, left)
        else:
            gradient[rows, e * size - 1] -= enter
    # Balance: flux F = v c - D g inside; faces take c from the left and g from the right.
    face = np.zeros((elements + 1, total))
    for e in range(1, elements + 1):
        face[e, e * size - 1] += velocity
        if e < elements:
            face[e] -= dispersion * (left @ gradient[e * size : (e + 1) * size])
    flux = velocity * np.eye(total) - dispersion * gradient
    matrix = np.zeros((total, total))
    scaled = np.linalg.solve(mass * h / 2, np.column_stack([stiffness, left, right]))
    for e in range(elements):
        rows = slice(e * size, (e + 1) * size)
        matrix[rows] = scaled[:, :size] @ flux[rows]
        matrix[rows] += np.outer(scaled[:, size], face[e])
        matrix[rows] -= np.outer(scaled[:, size + 1], face[e + 1])
    inlet = np.zeros(total)
    inlet[:size] = scaled[:, size] * velocity
    row, column = np.nonzero(np.abs(matrix) > _POINT * np.abs(matrix).max())
    start = (np.arange(elements) * h)[:, None]
    return LinearOperator(
        axis=Axis(
            position=(start + (x + 1) * h / 2).ravel(),
            width=np.tile(mass.sum(axis=0) * h / 2, elements),
        ),
        matrix=matrix,
        inlet=inlet,
        lower=int((row - column).max()),
        upper=int((column - row).max()),
    )


def limited_rate(op: LimitedOperator, conc: Array, inlet: Array) -> Array:
    """dc/dt of the limited scheme; ``conc`` (..., N, C), ``inlet`` (..., C).

    The face value is c + s(a, b)/2 with a, b the differences to the upwind and the downwind cell
    and, with r = b/a,

        s = a (8 r - 9 r^2 + 4 r^3)/(4 - 3 r^2 + 2 r^3)   where r > 0, else 0

    which follows the third-order (a + 2 b)/3 to the fourth power of r - 1, stays below 2 a and 2 b
    (total variation diminishing) and is smooth for r > 0, so that Newton's method keeps converging.

    >>> op = operator(Limited(cells=4), 1.0, 1.0, 0.0)
    >>> bool(np.all(limited_rate(op, np.ones((4, 1)), np.ones(1)) == 0))
    True
    """
    back, ahead = _differences(conc, inlet)
    flux = limited_slope(back, ahead)
    flux *= 0.5
    flux += conc
    flux *= op.convection
    if op.diffusion:
        flux[..., :-1, :] -= op.diffusion * ahead[..., :-1, :]
    rate = np.empty_like(flux)
    np.subtract(op.convection * inlet, flux[..., 0, :], out=rate[..., 0, :])
    np.subtract(flux[..., :-1, :], flux[..., 1:, :], out=rate[..., 1:, :])
    return rate


def _differences(conc: Array, inlet: Array) -> tuple[Array, Array]:
    """Differences to the cell before and after; the inlet is half a cell away, the outlet flat."""
    both = np.empty((*conc.shape[:-2], conc.shape[-2] + 1, conc.shape[-1]))
    both[..., 0, :] = 2 * (conc[..., 0, :] - inlet)
    np.subtract(conc[..., 1:, :], conc[..., :-1, :], out=both[..., 1:-1, :])
    both[..., -1, :] = 0.0
    return both[..., :-1, :], both[..., 1:, :]


def _fraction(a: Array, b: Array) -> tuple[Array, Array, Array, Array, NDArray[np.bool_]]:
    """Slope, its denominator (1 where there is no slope), a^2, b^2, and where there is a slope."""
    product, aa, bb = a * b, a * a, b * b
    same = product > _LEAST
    bottom = a * (4 * aa - 3 * bb) + 2 * b * bb
    bottom = np.where(same, bottom, 1.0)
    slope = np.where(same, product * (8 * aa - 9 * product + 4 * bb), 0.0) / bottom
    return slope, bottom, aa, bb, same


def limited_slope(a: Array, b: Array) -> Array:
    """The slope of ``limited_rate`` from the differences before and after the cell."""
    return _fraction(a, b)[0]


def face_gradient(a: Array, b: Array) -> tuple[Array, Array]:
    """Derivatives of half the limited slope by the differences before and after the cell."""
    slope, bottom, aa, bb, same = _fraction(a, b)
    product, half = a * b, np.where(same, 0.5, 0.0) / bottom
    by_a = b * (3 * 8 * aa - 2 * 9 * product + 4 * bb) - slope * (3 * 4 * aa - 3 * bb)
    by_b = a * (8 * aa - 2 * 9 * product + 3 * 4 * bb) - slope * 6 * (bb - product)
    return by_a * half, by_b * half


def limited_slopes(op: LimitedOperator, conc: Array, inlet: Array) -> Array:
    """Derivatives of ``limited_rate`` by the cells i-2, i-1, i, i+1: shape (4, ..., N, C)."""
    by_a, by_b = face_gradient(*_differences(conc, inlet))
    # face_i depends on c_(i-1), c_i, c_(i+1)
    twice = np.ones(conc.shape[-2])
    twice[0] = 2.0
    before = -by_a
    before[..., 0, :] = 0.0
    here = 1 + by_a * twice[:, None] - by_b
    out = np.zeros((4, *conc.shape))
    out[1:] -= op.convection * np.stack([before, here, by_b])
    out[0, ..., 1:, :] += op.convection * before[..., :-1, :]
    out[1, ..., 1:, :] += op.convection * here[..., :-1, :]
    out[2, ..., 1:, :] += op.convection * by_b[..., :-1, :]
    if op.diffusion:
        out[3, ..., :-1, :] += op.diffusion
        out[2, ..., :-1, :] -= op.diffusion
        out[2, ..., 1:, :] -= op.diffusion
        out[1, ..., 1:, :] += op.diffusion
    return out


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Shells:
    """Points in a bead from the inside to its surface.

    ``radius`` (S,) relative to R, ``weight`` (S,) shares of the volume that sum to 1, ``stiffness``
    (S, S) of weight d<U>/dt = -stiffness D c/R^2.
    """

    radius: Array
    weight: Array
    stiffness: Array


def shells(points: int) -> Shells:
    """Galerkin collocation in (r/R)^2 with the weight of a sphere, exact to degree 2 points - 2.

    >>> shells(1).stiffness.tolist(), float(shells(5).weight.sum().round(12))
    ([[0.0]], 1.0)
    """
    if points == 1:
        return Shells(radius=np.ones(1), weight=np.ones(1), stiffness=np.zeros((1, 1)))
    from scipy.special import roots_jacobi

    inner, _ = roots_jacobi(points - 1, 1.0, 0.5)
    x = np.append((1 + inner) / 2, 1.0)
    vander = legendre.legvander(2 * x - 1, points - 1)
    fine, fine_weight = roots_jacobi(points + 1, 0.0, 0.5)
    y = (1 + fine) / 2
    share = fine_weight / fine_weight.sum()
    inverse = np.linalg.inv(vander)
    cardinal = legendre.legvander(2 * y - 1, points - 1) @ inverse
    slopes = (
        np.column_stack(
            [2 * legendre.legval(2 * y - 1, legendre.legder(row)) for row in np.eye(points)]
        )
        @ inverse
    )
    weight = share @ cardinal
    # (d/dr)^2 = (2 r d/dx)^2 = 4 x (d/dx)^2
    stiffness = (slopes * (4 * y * share)[:, None]).T @ slopes
    return Shells(radius=np.sqrt(x), weight=weight, stiffness=stiffness)


def interpolate(scheme: Scheme, profile: ArrayLike, length: float, position: ArrayLike) -> Array:
    """A profile (N, ...) of a scheme at other positions [m], inside each element its polynomial."""
    values, z = np.asarray(profile, dtype=float), np.asarray(position, dtype=float)
    h = length / (scheme.cells if isinstance(scheme, Limited) else scheme.elements)
    if isinstance(scheme, Limited):
        index = np.clip((z / h).astype(int), 0, scheme.cells - 1)
        return np.asarray(values[index])
    p = scheme.degree
    index = np.clip((z / h).astype(int), 0, scheme.elements - 1)
    local = 2 * (z / h - index) - 1
    basis = legendre.legvander(local, p) @ np.linalg.inv(legendre.legvander(radau_points(p), p))
    nodes = index[:, None] * (p + 1) + np.arange(p + 1)
    return np.asarray(np.einsum("tp,tp...->t...", basis, values[nodes]))
