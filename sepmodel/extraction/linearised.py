"""The equations of all stages linearised at once: one block band matrix a member.

Unknowns are relative changes: of the fluxes of every component, d ln l, and of the stage's own
unknowns du. Component balances are divided by what passes through the stage, so every coefficient
is a share between 0 and 1 whatever the amount. Where organic passes by or phases carry one another
along the fluxes leaving upwards and downwards are separate unknowns. Streams fed back to a distant
stage are taken out of the band and put back as a correction of low rank.

Axis order: [member, stage, unknown]; a matrix is stored by columns, as LAPACK's band solver has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sepmodel.extraction.chain import Chain, Fluxes, log
from sepmodel.solvers import Linear

Array = NDArray[np.float64]

# Keeps 0/0 of components that are not there at zero.
TINY = float(np.finfo(float).tiny)
# Stands for ln 0 where logarithms are subtracted.
FAR = float(np.finfo(float).min) / 2
ALL = slice(None)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Corners:
    """What linked streams add: at ``rows`` (L,), minus ``weight`` (B, L, w) times the unknowns at
    ``columns`` (L, w), both counted over all stages."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    weight: Array


def _corners(found: list[tuple[int, list[int], list[Array]]]) -> Corners | None:
    """Corners of (row, columns, weights (B,)), filled up to the same number of columns."""
    if not found:
        return None
    most = max(len(columns) for _, columns, _ in found)
    columns = np.array([c + [c[0]] * (most - len(c)) for _, c, _ in found])
    none = np.zeros_like(found[0][2][0])
    weight = np.array([w + [none] * (most - len(w)) for _, _, w in found])
    return Corners(
        rows=np.array([row for row, _, _ in found]),
        columns=columns,
        weight=np.ascontiguousarray(np.moveaxis(weight, -1, 0)),
    )


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Answers:
    """How the equations answer to what is no unknown: to ln A and to what enters a stage.

    Component i has the rows first + i ``pitch`` of its stage, first = 0 or, where there are two, 1.
    ``own``: for each of these rows, its derivative by ln A of the stage (B, N, C); ``following``:
    the first row's by ln A of the stage before (B, N - 1, C); ``closing``: the closures' (B, N, m,
    C). ``entering``: for each row, minus its derivative by a mole that enters, aqueous and organic
    (B, N, C).
    """

    pitch: int
    own: tuple[Array, ...]
    following: Array | None
    closing: Array
    entering: tuple[tuple[Array, Array], ...]


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class System:
    """Band matrices of some members and the corners that complete them.

    ``band`` (B, N, K, 2 low + high + 1), K unknowns a stage of which the last ``unknowns`` are u.
    """

    answers: Answers

    band: Array
    low: int
    high: int
    unknowns: int
    corners: Corners | None


def of_fluxes(
    aqueous: Array,
    organic: Array,
    kept: Array,
    slope: Array,
    by_aq: Array,
    by_org: Array,
    by_u: Array,
    links: tuple[tuple[tuple[int, int], tuple[int, int], Array], ...],
) -> System:
    """The matrix of stages that take in all of both phases.

    Parameters
    ----------
    aqueous, organic: fluxes l and v leaving each stage, (B, N, C).
    kept: parts of both that go on to the neighbour, (2, B or 1, N, C or 1).
    slope: d ln A / du, (B, N, C, m).
    by_aq, by_org: derivatives of the closures by ln l and ln v, (B, N, m, C).
    by_u: ... by u at fixed fluxes, (B, N, m, m).
    links: source (stage, phase), target (stage, phase) and flow (B, C) of streams fed back.
    """
    members, stages, c = aqueous.shape
    m = by_u.shape[-1]
    k = c + m
    width = 3 * k + 1
    back = 1.0 / (aqueous + organic + TINY)
    down = -(kept[0] * aqueous)[:, 1:] * back[:, :-1]
    up = -(kept[1] * organic)[:, :-1] * back[:, 1:]
    share = organic * back
    band = np.zeros((members, stages, k, width))
    band[:, :, :c, 2 * k] = 1.0
    band[:, 1:, :c, k] = down
    band[:, :-1, :c, 3 * k] = up
    flat = band.reshape(members, stages, k * width)
    closing = by_aq + by_org
    for r in range(m):
        first = 2 * k + c + r
        flat[:, :, first : first + c * (width - 1) : width - 1] = closing[:, :, r]
    by_own = by_u + by_org @ slope
    for a in range(m):
        answer = slope[..., a]
        first = 2 * k - c - a
        band[:, :, c + a, first : first + c] = share * answer
        band[:, :-1, c + a, first + k : first + k + c] = up * answer[:, :-1]
        band[:, :, c + a, first + c : first + k] = by_own[..., a]
    corners = []
    for (source, phase), (target, _), flow in links:
        part = flow * back[:, target]
        for i in np.flatnonzero(part.any(axis=0)).tolist():
            columns, weight = [source * k + i], [part[:, i]]
            if phase == 1:
                columns += [source * k + c + a for a in range(m)]
                weight += [part[:, i] * slope[:, source, i, a] for a in range(m)]
            corners.append((target * k + i, columns, weight))
    return System(
        answers=Answers(
            pitch=1, own=(share,), following=up, closing=by_org, entering=((back, back),)
        ),
        band=band,
        low=k,
        high=k,
        unknowns=m,
        corners=_corners(corners),
    )


def of_streams(
    chain: Chain, fluxes: Fluxes, slope: Array, by_l: Array, by_v: Array, by_u: Array
) -> System:
    """The matrix of stages with organic that passes by or phases that carry one another along.

    Unknowns of a stage are d ln(up), d ln(down) of each component in turn, then du. With e, f the
    parts carried and k the part that passes by, l = down / (1 - e + f A) and
    v = up - (e - f A) l; a component's rows are what enters its pool and what leaves upwards.

    Parameters
    ----------
    slope: d ln A / du, (B, N, C, m).
    by_l, by_v: derivatives of the closures by fluxes, (B, N, m, C).
    by_u: ... by u at fixed fluxes, (B, N, m, m).
    """
    members, stages, c = fluxes.aqueous.shape
    m = by_u.shape[-1]
    k = 2 * c + m
    near = k + 1
    zero = 2 * near
    ports, logs = fluxes.ports, np.maximum(np.stack([fluxes.up, fluxes.down]), FAR)
    past = np.zeros(1) if chain.bypass is None else chain.bypass
    carried = np.zeros((2, 1, 1, 1)) if chain.carry is None else chain.carry
    with_org, with_aq = carried  # e: aqueous leaving with the organic; f: organic with the aqueous
    ratio = np.exp(fluxes.log_ratio)
    entered = np.maximum(fluxes.aqueous - ports.aq, FAR)
    kept = 1.0 - chain.draw
    from_above = kept[0][:, 1:] * np.exp(logs[1][:, 1:] - entered[:, :-1])
    from_below = kept[1][:, :-1] * np.exp(logs[0][:, :-1] - entered[:, 1:])
    past_below = kept[1][:, :-1] * np.exp(logs[0][:, :-1] - logs[0][:, 1:])
    mixed = np.broadcast_to(1.0 - past, fluxes.aqueous.shape)
    past = np.broadcast_to(past, fluxes.aqueous.shape)
    lost = with_aq * ratio / (1.0 - with_org + with_aq * ratio)
    upward = with_org + (1.0 - with_aq) * ratio
    lifted = np.exp(fluxes.aqueous + log(upward) - logs[0])
    share = np.exp(ports.org) - lost
    grown = (1.0 - with_aq) * ratio / (upward + TINY) - lost
    width = 3 * near + 1
    band = np.zeros((members, stages, k, width))
    flat = band.reshape(members, stages, k * width)

    def put(row: int, column: int, value: Array, stage: slice = ALL, step: int = 0) -> None:
        """Entries (row + 2 i, column + 2 i) of every component i, ``step`` stages further on."""
        first = column * width + zero + step * k + row - column
        flat[:, stage, first : first + c * 2 * width : 2 * width] = value

    put(0, 1, np.ones(1))
    put(0, 1, -from_above, slice(1, None), -1)
    put(0, 0, -(mixed[:, 1:] * from_below), slice(None, -1), 1)
    put(1, 0, np.ones(1))
    put(1, 1, -lifted)
    put(1, 0, -(past[:, 1:] * past_below), slice(None, -1), 1)
    aqueous, up = np.exp(fluxes.aqueous), np.exp(fluxes.up)
    taken = (with_org - with_aq * ratio) * aqueous
    by_up = by_v * up[:, :, None]
    by_down = by_l * aqueous[:, :, None] - by_v * taken[:, :, None]
    gained = (taken * lost + with_aq * ratio * aqueous)[:, :, None]
    by_ratio = by_v * gained - by_l * (aqueous * lost)[:, :, None]
    by_own = by_u + by_ratio @ slope
    for r in range(m):
        for column, value in ((0, by_up), (1, by_down)):
            first = column * width + zero + 2 * c + r - column
            flat[:, :, first : first + c * 2 * (width - 1) : 2 * (width - 1)] = value[:, :, r]
    for a in range(m):
        first = zero - 2 * c - a
        here = band[:, :, 2 * c + a]
        here[..., first : first + 2 * c : 2] = share * slope[..., a]
        here[..., first + 1 : first + 2 * c : 2] = -lifted * grown * slope[..., a]
        here[..., first + 2 * c : first + k] = by_own[..., a]
    corners = []
    for flow, link in zip(fluxes.link, chain.links, strict=True):
        source, phase = link.source
        stage, into = link.target
        pooled = np.exp(flow - entered[:, stage])
        if into == 1:
            pooled = pooled * mixed[:, stage]
        passing = np.exp(flow - logs[0][:, stage]) * past[:, stage] * into
        for row, weight in ((0, pooled), (1, passing)):
            for i in np.flatnonzero(weight.any(axis=0)).tolist():
                column = source * k + 2 * i + 1 - phase
                corners.append((stage * k + 2 * i + row, [column], [weight[:, i]]))
    back = np.exp(-entered)
    answers = Answers(
        pitch=2,
        own=(share, -lifted * grown),
        following=None,
        closing=by_ratio,
        entering=((back, mixed * back), (np.zeros_like(back), past * np.exp(-logs[0]))),
    )
    return System(
        answers=answers,
        band=band,
        low=near,
        high=near,
        unknowns=m,
        corners=_corners(corners),
    )


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Factors:
    """The factorised systems: LU of each band and its pivots; with corners (L of them), the bands'
    answers to a mole at each (B, L, n), and (identity - corners of these answers)^-1 (B, L, L)."""

    system: System
    lower_upper: list[Array]
    pivots: list[NDArray[np.int32]]
    answers: Array | None
    inner: Array | None


def factorise(system: System) -> Factors:
    """LU of every member's matrix; the band is overwritten."""
    from scipy.linalg.lapack import dgbtrf, dgbtrs

    members, stages, k, _ = system.band.shape
    n, low, high = stages * k, system.low, system.high
    found: tuple[list[Array], list[NDArray[np.int32]]] = ([], [])
    corners, answers, inner = system.corners, None, None
    if corners is not None:
        count = corners.rows.size
        answers = np.zeros((members, count, n))
        answers[:, np.arange(count), corners.rows] = 1.0
    for member, band in enumerate(system.band.reshape(members, n, -1)):
        lu, pivots, info = dgbtrf(band.T, low, high, overwrite_ab=1)
        if info > 0:
            lu[...] = np.nan
        found[0].append(lu)
        found[1].append(pivots)
        if answers is not None:
            dgbtrs(lu, low, high, answers[member].T, pivots, overwrite_b=1)
    if corners is not None and answers is not None:
        inner = np.eye(count) - _gather(corners.weight, corners.columns, answers).swapaxes(-1, -2)
        inner = inverses(inner)
    return Factors(
        system=system, lower_upper=found[0], pivots=found[1], answers=answers, inner=inner
    )


def _gather(weight: Array, columns: NDArray[np.int64], x: Array) -> Array:
    """Corners' weights (B, L, w) times unknowns x (B, k, n): (B, k, L)."""
    out: Array = np.einsum("blw,bklw->bkl", weight, x[:, :, columns])
    return out


def inverses(matrices: Array) -> Array:
    """Inverses of small matrices, NaN where one is singular."""
    try:
        return np.asarray(np.linalg.inv(matrices), dtype=np.float64)
    except np.linalg.LinAlgError:
        if matrices.shape[0] == 1:
            return np.full_like(matrices, np.nan)
        return np.concatenate([inverses(m[None]) for m in matrices])


def solve(factors: Factors, member: int, rhs: Array) -> Array:
    """J^-1 rhs of one member, right-hand sides in rows: (k, n)."""
    from scipy.linalg.lapack import dgbtrs

    system, here = factors.system, slice(member, member + 1)
    lu, pivots = factors.lower_upper[member], factors.pivots[member]
    x: Array = dgbtrs(lu, system.low, system.high, rhs.T, pivots)[0].T
    corners = system.corners
    if corners is not None and factors.answers is not None and factors.inner is not None:
        gathered = _gather(corners.weight[here], corners.columns, x[None])[0]
        x = x + gathered @ factors.inner[member].T @ factors.answers[member]
    return x


def solve_transposed(factors: Factors, member: int, rhs: Array) -> Array:
    """J^-T rhs of one member, right-hand sides in rows: (k, n)."""
    from scipy.linalg.lapack import dgbtrs

    system = factors.system
    corners = system.corners
    if corners is not None and factors.answers is not None and factors.inner is not None:
        rhs = rhs.copy()
        extra = rhs @ factors.answers[member].T @ factors.inner[member]
        for j, columns in enumerate(corners.columns.tolist()):
            for column, weight in zip(columns, corners.weight[member, j].tolist(), strict=True):
                rhs[:, column] += weight * extra[:, j]
    lu, pivots = factors.lower_upper[member], factors.pivots[member]
    x: Array = dgbtrs(lu, system.low, system.high, rhs.T, pivots, trans=1)[0].T
    return x


def closing(factors: Factors) -> Linear:
    """Newton corrections of the stages' own unknowns alone, for closures (b, N m) of some rows."""
    from scipy.linalg.lapack import dgbtrs

    system = factors.system
    _, stages, k, _ = system.band.shape
    m, corners = system.unknowns, system.corners

    def step(r: Array, rows: NDArray[np.int64]) -> Array:
        x = np.zeros((r.shape[0], stages, k))
        x[..., k - m :] = r.reshape(-1, stages, m)
        flat = x.reshape(r.shape[0], stages * k)
        for i, member in enumerate(rows.tolist()):
            lu, pivots = factors.lower_upper[member], factors.pivots[member]
            flat[i] = dgbtrs(lu, system.low, system.high, flat[i], pivots)[0]
        own = x[..., k - m :].reshape(r.shape)
        if corners is not None and factors.answers is not None and factors.inner is not None:
            weight, answers, inner = corners.weight, factors.answers, factors.inner
            if rows.size != weight.shape[0]:
                weight, answers, inner = weight[rows], answers[rows], inner[rows]
            gathered = _gather(weight, corners.columns, flat[:, None])
            to_own = answers.reshape(*answers.shape[:2], stages, k)[..., k - m :]
            own = (
                own
                + (
                    (gathered @ np.swapaxes(inner, -1, -2)) @ to_own.reshape(*answers.shape[:2], -1)
                )[:, 0]
            )
        return own

    return step
