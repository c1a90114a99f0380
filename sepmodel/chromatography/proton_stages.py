"""Lanmodulin beds as equilibrium stages whose protons move: many beds at once.

A bed of length L is L / plate height well-mixed cells. Loading, washing and elution move a share of
each cell's liquid to the next, metals, buffer and protons alike; then every cell settles. With
u_i = sqrt(K_ii) a_i / (1 + h/Ka)^(N/2), S = sum u, shares s_i = u_i/S and W_i = sum_j kappa_ij s_j,
what a cell holds is per bed volume

    metal i   s_i (e a_i/u_i (1 + K_i L) S + P W_i S^2 / Z),   Z = 1 + S^2/2 sum s_i W_i
    protons   e h + e h L/Kb + (P / Z) N h / (h + Ka)
    buffer    e L (1 + h/Kb + sum K_i a_i)

with e the liquid per bed volume, L the free buffer anion, K_i its first complexes with the metals.
So a bound pair releases the protons the protein held, and the pH of each cell is an outcome: found
by Newton's method in (ln S, ln h) with its exact slopes, the shares and L following. Each bed is
iterated until it stands still and no further, so that no bed feels its neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from sepmodel.chromatography.binding import C_STANDARD, PairLaw
from sepmodel.errors import ConvergenceError, Trace

Array = NDArray[np.float64]

_TOLERANCE = 1e-3
_ITERATIONS = 100
_HALF_STEPS = 48
# Longest steps of ln S and ln h in one iteration.
_LONGEST = 4.0
# Metal below this share of the capacity counts as a trace, dissolved in proportion.
_TRACE = 1e-8
_NOTHING = 1e-30
# What an equilibrium changes of the state of cells, and what moving liquid does.
_SOLVED = ("log_s", "log_h", "share", "anion")
_MOVED = ("metals", "buffer", "protons")
# Share of a cell's liquid that moves in a step at most: whole liquids smear too little.
_SHARE = 0.5
# Steps of the loading at least, over the number of cells.
_LOAD_STEPS = 2


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Beds:
    """Beds that are marched side by side; the first axis counts them.

    ``log_k`` (B, M) natural logarithms of K_ii, ``kappa`` (B, M, M), ``protein`` (B,) [mol/m3 bed],
    ``exponent`` (B,) N, ``acidity`` (B,) Ka [mol/m3], ``liquid`` (B,) per bed volume, ``plates``
    (B,) cells; of the buffer ``buffer_acidity`` (B,) Kb [mol/m3] and ``complexes`` (B, M) [m3/mol].
    """

    log_k: Array
    kappa: Array
    protein: Array
    exponent: Array
    acidity: Array
    liquid: Array
    plates: NDArray[np.int64]
    buffer_acidity: Array
    complexes: Array

    def __len__(self) -> int:
        return len(self.protein)

    def taken(self, index: NDArray[np.int64]) -> Beds:
        """Some of the beds, or one of them several times."""
        return Beds(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


@dataclass(frozen=True, kw_only=True, slots=True)
class Buffer:
    """A monoprotic buffer: its name, Kb [mol/m3] and first complexes [m3/mol] by element."""

    name: str
    acidity: float
    complexes: tuple[float, ...]


def beds_of(
    laws: Sequence[PairLaw],
    liquid: Sequence[float],
    plates: Sequence[int],
    buffers: Sequence[Buffer | None],
) -> Beds:
    """Beds of the given laws, which know the same elements in the same order."""
    count = len(laws[0].names)
    return Beds(
        log_k=np.array([law.log_k for law in laws]),
        kappa=np.array([law.kappa for law in laws]),
        protein=np.array([0.5 * law.capacity for law in laws]),
        exponent=np.array([law.exponent for law in laws]),
        acidity=np.array([C_STANDARD * 10.0**-law.pKa for law in laws]),
        liquid=np.array(liquid, dtype=float),
        plates=np.array(plates, dtype=np.int64),
        buffer_acidity=np.array([1.0 if b is None else b.acidity for b in buffers]),
        complexes=np.array([(0.0,) * count if b is None else b.complexes for b in buffers]),
    )


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Liquor:
    """What beds are loaded with [mol/m3]: ``metals`` (B, M), ``buffer`` (B,) and ``protons`` (B,),
    free and on the buffer."""

    metals: Array
    buffer: Array
    protons: Array


def liquor_at(beds: Beds, metals: Array, buffer: Array, pH: Array) -> Liquor:
    """Liquors of ``metals`` (B, M) and ``buffer`` (B,) [mol/m3] brought to ``pH`` (B,).

    >>> from sepmodel.chromatography.binding import pair_law
    >>> from sepmodel.data import Book
    >>> beds = beds_of([pair_law(("Nd",), Book())], [0.94], [12], [None])
    >>> float(liquor_at(beds, np.array([[1.0]]), np.zeros(1), np.array([3.0])).protons[0])
    1.0
    """
    h = C_STANDARD * 10.0**-pH
    anion = buffer / (1 + h / beds.buffer_acidity)
    # Half steps come nearer by a third at least; all beds take the same number of them.
    for _ in range(_HALF_STEPS if np.any(buffer > 0) else 0):
        free = metals / (1 + beds.complexes * anion[:, None])
        wanted = buffer / (1 + h / beds.buffer_acidity + (beds.complexes * free).sum(axis=1))
        anion = 0.5 * (anion + wanted)
    return Liquor(metals=metals, buffer=buffer, protons=h + anion * h / beds.buffer_acidity)


@dataclass(slots=True)
class _State:
    """Cells of beds and their last equilibrium: contents per bed volume, ln S, ln h, shares, L."""

    metals: Array
    buffer: Array
    protons: Array
    log_s: Array
    log_h: Array
    share: Array
    anion: Array

    def taken(self, index: NDArray[np.int64]) -> _State:
        return _State(**{f.name: getattr(self, f.name)[index] for f in fields(self)})

    def put(self, index: NDArray[np.int64], of: _State, names: Sequence[str] = _SOLVED) -> None:
        for name in names:
            getattr(self, name)[index] = getattr(of, name)


def _rested(beds: Beds, acid: Array) -> _State:
    """Beds that hold no metal, at equilibrium with ``acid`` (B,) [mol/m3] without buffer."""
    size, metals, cells = len(beds), beds.log_k.shape[1], int(beds.plates.max())
    h = np.repeat(acid[:, None], cells, axis=1)
    ka = beds.acidity[:, None]
    protons = beds.liquid[:, None] * h + (beds.protein * beds.exponent)[:, None] * h / (h + ka)
    return _State(
        metals=np.zeros((size, metals, cells)),
        buffer=np.zeros((size, cells)),
        protons=protons,
        log_s=np.zeros((size, cells)),
        log_h=np.log(h),
        share=np.full((size, metals, cells), 1 / metals),
        anion=np.zeros((size, cells)),
    )


@dataclass(slots=True)
class _Law:
    """The constants of ``Beds`` shaped for their cells."""

    kappa: Array
    free: Array
    protein: Array
    exponent: Array
    acidity: Array
    liquid: Array
    buffer_acidity: Array
    complexes: Array

    def taken(self, index: NDArray[np.int64]) -> _Law:
        return _Law(**{f.name: getattr(self, f.name)[index] for f in fields(self)})


def _shaped(beds: Beds) -> _Law:
    return _Law(
        kappa=beds.kappa,
        free=(beds.liquid[:, None] * C_STANDARD * np.exp(-0.5 * beds.log_k))[:, :, None],
        protein=beds.protein[:, None],
        exponent=beds.exponent[:, None],
        acidity=beds.acidity[:, None],
        liquid=beds.liquid[:, None],
        buffer_acidity=beds.buffer_acidity[:, None],
        complexes=beds.complexes[:, :, None],
    )


def _settle(law: _Law, state: _State, buffered: bool) -> tuple[Array, Array]:
    """Dissolved metals (B, M, N) and protons (B, N) per bed volume at the equilibrium of cells."""
    trace = 2 * law.protein * _TRACE
    held = np.maximum(state.metals, (trace / state.metals.shape[1])[:, None])
    dissolved, moving = np.empty_like(held), np.empty_like(state.protons)
    going = np.arange(len(held))
    part, own, want = law, state, held
    for _ in range(_ITERATIONS):
        change, now, acid = _iterate(part, own, want, buffered)
        still = change < _TOLERANCE
        if still.any():
            done = going[still]
            dissolved[done], moving[done] = now[still], acid[still]
            if own is not state:
                state.put(done, own.taken(np.flatnonzero(still)))
            if still.all():
                few = state.metals < held
                if few.any():
                    dissolved = np.where(few, dissolved * (state.metals / held), dissolved)
                return dissolved, moving
            left = np.flatnonzero(~still)
            if own is state:
                own = state.taken(left)
            else:
                own = own.taken(left)
            going, part, want = going[left], part.taken(left), want[left]
    raise ConvergenceError(
        "the binding equilibrium of a column cell did not settle",
        trace=Trace(
            equation="two-site pair law with protons",
            history=(float(change.max()),),
            advice="check the pair constants and the acidity of the liquors",
        ),
    )


def _iterate(law: _Law, state: _State, held: Array, buffered: bool) -> tuple[Array, Array, Array]:
    """One Newton step; the largest change of each bed, and what is dissolved after it."""
    s, h = np.exp(state.log_s), np.exp(state.log_h)
    ratio = h / law.acidity
    weakening = np.exp(0.5 * law.exponent * np.log1p(ratio))
    protons = law.exponent * ratio / (1 + ratio)
    pull = np.matmul(law.kappa, state.share)
    squared = s * s
    empty = 1 / (1 + 0.5 * _over_metals(state.share, pull) * squared)
    pairs = pull * (law.protein * squared * empty)[:, None]
    plain = law.free * (weakening * s)[:, None]
    moved = np.zeros(len(held))
    free = plain
    if buffered:
        # The anion follows from what holds it, at these metals and this acid.
        taken = _over_metals(law.complexes * plain, state.share) / law.liquid
        on_acid = h / law.buffer_acidity
        anion = state.buffer / law.liquid / (1 + on_acid + taken)
        moved = (np.abs(anion - state.anion) / (anion + _TRACE)).max(axis=1)
        state.anion = anion
        free = plain * (1 + law.complexes * anion[:, None])
    held_at = free + pairs
    per_site = held / held_at
    q = np.einsum("bmn->bn", per_site)
    bound = _over_metals(per_site, pairs / held_at) / q
    ss, sy = 1 - bound * (1 - 2 * empty), (1 - bound) * (0.5 * protons)
    on_protein = law.protein * empty * protons
    in_liquid = law.liquid * h
    slope = in_liquid
    if buffered:
        on_buffer = law.liquid * anion * on_acid
        in_liquid = in_liquid + on_buffer
        slope = in_liquid - on_buffer * on_acid / (1 + on_acid + taken)
    total = in_liquid + on_protein
    gy = (slope + on_protein / (1 + ratio)) / total
    gs = -2 * on_protein * (1 - empty) / total
    r1, r2 = np.log(q), np.log(total / state.protons)
    det = sy * gs - ss * gy
    ds = np.clip(-(r1 * gy + sy * r2) / det, -_LONGEST, _LONGEST)
    dy = np.clip((ss * r2 + gs * r1) / det, -_LONGEST, _LONGEST)
    share = per_site / q[:, None]
    change = np.maximum(np.abs(ds).max(axis=1), np.abs(dy).max(axis=1))
    change = np.maximum(change, np.abs(share - state.share).max(axis=(1, 2)))
    change = np.maximum(change, moved)
    # What is dissolved moves with S as it did; the last step is below the tolerance.
    now = free * share * np.exp(ds)[:, None]
    acid = in_liquid * np.exp(dy)
    state.log_s, state.log_h, state.share = state.log_s + ds, state.log_h + dy, share
    return change, now, acid


def _over_metals(first: Array, second: Array) -> Array:
    """Sum of products over the metals of every cell; several times faster than ``sum(axis=1)``."""
    return np.asarray(np.einsum("bmn,bmn->bn", first, second))


def _column(factor: Array, part: Array) -> Array:
    return factor[:, None] if part.ndim > 1 else factor


def _step(
    law: _Law,
    state: _State,
    share: Array,
    enter: Sequence[Array],
    inside: Array,
    buffered: bool,
) -> tuple[Array, Array]:
    """Settle, move ``share`` (B,) of the liquid on, fill the first cell; metals and protons moved.

    What leaves the last cell of a bed is not put into the cells behind it (``inside``), which only
    longer neighbours have. What leaves one cell enters the next, whatever the tolerance.
    """
    dissolved, acid = _settle(law, state, buffered)
    moved = np.minimum(dissolved, state.metals) * share[:, None, None]
    acid = np.minimum(acid, state.protons) * share[:, None]
    state.metals -= moved
    state.metals[:, :, 1:] += moved[:, :, :-1] * inside[:, None]
    state.metals[:, :, 0] += enter[0]
    state.protons -= acid
    state.protons[:, 1:] += acid[:, :-1] * inside
    state.protons[:, 0] += enter[1]
    if buffered:
        gone = state.buffer * share[:, None]
        state.buffer -= gone
        state.buffer[:, 1:] += gone[:, :-1] * inside
        state.buffer[:, 0] += enter[2]
    return moved, acid


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Cycles:
    """What leaves beds in one cycle [mol/m3 bed].

    ``lost`` (B, M) broke through in loading and washing, ``eluate`` (B, T, M) had left in all after
    each transfer of the elution, NaN where the march had ended; ``acid`` (B, T) protons that left
    with it; ``volumes`` (B, T) in bed volumes; ``least_pH`` (B,) of the outlet while loading;
    ``buffer_left`` (B,) buffer still in the bed when the elution begins.
    """

    lost: Array
    eluate: Array
    acid: Array
    volumes: Array
    least_pH: Array
    buffer_left: Array


def march(
    beds: Beds,
    liquor: Liquor,
    load_volume: Array,
    wash_volume: Array,
    wash_acid: Array,
    eluent_acid: Array,
    volumes_most: float,
    enough: Array | None = None,
) -> Cycles:
    """Load, wash and elute beds that were rinsed with the wash liquor.

    Parameters
    ----------
    load_volume, wash_volume
        (B,) [m3/m3 bed]; ``wash_acid`` and ``eluent_acid`` (B,) [mol/m3], without metal or buffer
    volumes_most
        bed volumes of elution after which the march ends
    enough
        (B, 2, P, M): a bed is done when ``enough @ eluate`` [mol/m3 bed] has reached 1 for every
        P, of the first kind where what the load has not lost allows for it, else of the second;
        where it does not allow for that either, nothing is eluted
    """
    law, state = _shaped(beds), _rested(beds, wash_acid)
    size, metals = beds.log_k.shape
    last, n = beds.plates - 1, beds.plates.astype(float)
    per = n / beds.liquid
    inside = (np.arange(1, int(beds.plates.max())) <= last[:, None]).astype(float)
    buffered = bool(np.any(liquor.buffer > 0))
    lost, highest = np.zeros((size, metals)), np.full(size, _NOTHING)
    bare, none = np.zeros((size, metals)), np.zeros(size)
    everyone = np.arange(size)
    for volume, fed, at_least in (
        (load_volume, (liquor.metals, liquor.protons, liquor.buffer), _LOAD_STEPS * n),
        (wash_volume, (bare, wash_acid, none), none),
    ):
        steps = np.maximum(np.ceil(volume * per / _SHARE * (1 - _TRACE)), at_least)
        each = np.divide(volume, steps, out=np.zeros(size), where=steps > 0)
        going, own, cells = everyone, law, state
        for k in range(int(steps.max(initial=0))):
            if (steps[going] <= k).any():
                # A bed that is through rests: another equilibrium would be a little more exact.
                left = np.flatnonzero(steps[going] > k)
                if cells is not state:
                    state.put(going, cells, _SOLVED + _MOVED)
                going = going[left]
                own, cells = law.taken(going), state.taken(going)
            now = each[going]
            enter = tuple(part[going] * _column(now * n[going], part) for part in fed)
            moved, _ = _step(own, cells, now * per[going], enter, inside[going], buffered)
            rows = np.arange(len(going))
            lost[going] += moved[rows, :, last[going]] / n[going][:, None]
            if fed[0] is liquor.metals:
                now_highest = np.exp(cells.log_h[rows, last[going]])
                highest[going] = np.maximum(highest[going], now_highest)
        if cells is not state:
            state.put(going, cells, _SOLVED + _MOVED)
    buffer_left = np.array([state.buffer[b, : k + 1].mean() for b, k in enumerate(last)])
    if buffered:
        # What the wash leaves of the buffer is nothing beside the acid of the eluent.
        h = np.exp(state.log_h)
        state.protons = np.maximum(
            state.protons - state.buffer * h / (h + law.buffer_acidity), _NOTHING
        )
        state.buffer[:], state.anion[:] = 0.0, 0.0
    transfers = np.ceil(volumes_most * per / _SHARE).astype(int)
    most = int(transfers.max(initial=0))
    eluate, acid_out = np.full((size, most, metals), np.nan), np.full((size, most), np.nan)
    total, acids = np.zeros((size, metals)), np.zeros(size)
    going = everyone
    if enough is not None:
        there = liquor.metals * load_volume[:, None] - lost
        allowed = (np.einsum("bkpm,bm->bkp", enough, there) >= 1).all(axis=2)
        wanted = np.where(allowed[:, :1, None], enough[:, 0], enough[:, 1])
        going = np.flatnonzero(allowed.any(axis=1))
        law, state = law.taken(going), state.taken(going)
    for t in range(most if len(going) else 0):
        rows = np.arange(len(going))
        acid_in = eluent_acid[going] * beds.liquid[going] * _SHARE
        enter = (bare[going], acid_in, none[going])
        moved, acid = _step(law, state, np.full(len(going), _SHARE), enter, inside[going], False)
        total[going] += moved[rows, :, last[going]] / n[going][:, None]
        acids[going] += acid[rows, last[going]] / n[going]
        eluate[going, t], acid_out[going, t] = total[going], acids[going]
        done = t + 1 >= transfers[going]
        if enough is not None:
            done |= (np.einsum("bpm,bm->bp", wanted[going], total[going]) >= 1).all(axis=1)
        if done.any():
            left = np.flatnonzero(~done)
            going, law, state = going[left], law.taken(left), state.taken(left)
            if not len(going):
                break
    return Cycles(
        lost=lost,
        eluate=eluate,
        acid=acid_out,
        volumes=_SHARE * np.arange(1, most + 1)[None] / per[:, None],
        least_pH=-np.log10(highest / C_STANDARD),
        buffer_left=buffer_left,
    )
