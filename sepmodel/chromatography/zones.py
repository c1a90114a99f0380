"""Trains of displacement columns with one ligand: bands, cuts, mixed zones and their columns.

A first column gives the broad bands; a mixed zone, with every band too short for a pool, goes to a
column of its own whose mixed zones return to its feed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sepmodel.chromatography import constant_pattern as pattern
from sepmodel.chromatography.displacement_operation import Operation
from sepmodel.chromatography.ligands import Chemistry, Group, best_ligand, boundary_alphas
from sepmodel.errors import InfeasibleError

_HALVINGS = 10
_FIXED_POINT = 100
_SETTLED = 1e-12
_NOTHING = 1e-30

Moles = dict[str, float]
"""Molar flows [mol/s] by element."""

Cuts = tuple[float, float, float, float]
"""What two cuts at one boundary do [m]: metal lost by the fast band and how much of it the slow
pool takes as contamination, then the same of the slow band; the differences are the mixed zone."""


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Position:
    """One column position of a train before it is sized (``displacement_columns.sized``).

    ``bands`` [m] and single-pass ``yields`` of its ``groups``, fastest first; ``mixed`` the share
    of the load in mixed zones, which return to its own feed (``recycled``) or go to the columns
    named in ``hands_on``.
    """

    groups: Sequence[Group]
    purity: Sequence[float]
    moles: Mapping[str, float]
    ligand: str
    alphas: Sequence[float]
    bands: Sequence[float]
    yields: Sequence[float]
    velocity: float
    mixed: float
    recycled: bool
    hands_on: tuple[str, ...]

    @property
    def name(self) -> str:
        """The ligand and the outlets."""
        return f"{self.ligand}:{'|'.join(g.name for g in self.groups)}"


def resolvable_load(alphas: Sequence[float], run: Operation) -> float:
    """Loaded share of a column: what its hardest boundary lets it resolve, with a margin."""
    return run.load_most / max((a / (a - 1) for a in alphas), default=1.0)


def boundary_cuts(alpha: float, mixing: float, fast_depth: float, slow_depth: float) -> Cuts:
    """A boundary cut for the fast pool at ``fast_depth`` and for the slow pool at ``slow_depth``.

    As ``rear_cut`` and ``front_cut`` of the constant pattern. Where the two cuts would cross, both
    stand at one place between them and nothing is mixed.
    """
    fast_dirt, slow_dirt = -math.expm1(-fast_depth), -math.expm1(-slow_depth)
    both, more = fast_dirt + slow_dirt, alpha - 1
    scale = mixing / more
    if both >= 1:
        fast_dirt, slow_dirt = fast_dirt / both, slow_dirt / both
        fast_astray = scale * (more * slow_dirt - math.log(fast_dirt))
        slow_astray = scale * (-alpha * math.log(slow_dirt) - more * fast_dirt)
        return fast_astray, fast_astray, slow_astray, slow_astray
    return (
        scale * (more * (1 - fast_dirt) - math.log(fast_dirt)),
        scale * (slow_depth + more * slow_dirt),
        scale * (-alpha * math.log(slow_dirt) - more * (1 - slow_dirt)),
        scale * (alpha * fast_depth - more * fast_dirt),
    )


def _edge(
    alpha: float,
    mixing: float,
    fast_depth: float | None,
    slow_depth: float | None,
    fast_band: float,
    slow_band: float,
) -> Cuts:
    """The boundary of two bands of which either may be too short for a pool (depth None).

    No more than half of a band that has no pool of its own goes astray on one side.
    """
    if fast_depth is not None and slow_depth is not None:
        return boundary_cuts(alpha, mixing, fast_depth, slow_depth)
    if fast_depth is not None:
        lost, astray = pattern.rear_cut(fast_depth, alpha, mixing)
        return lost, 0.0, 0.0, min(astray, slow_band / 2)
    if slow_depth is not None:
        lost, astray = pattern.front_cut(slow_depth, alpha, mixing)
        return 0.0, min(astray, fast_band / 2), lost, 0.0
    return 0.0, 0.0, 0.0, 0.0


class _Bands:
    """The metal of each band [mol/s by element, fastest first], taken away from either end."""

    def __init__(self, groups: Sequence[Group], moles: Mapping[str, float]) -> None:
        self.left = [{e: moles[e] for e in g.elements if moles.get(e, 0.0) > 0} for g in groups]

    def take(self, k: int, amount: float, rear: bool) -> Moles:
        """Up to ``amount`` [mol/s] of band ``k``, from its rear (slow) or its front end."""
        taken: Moles = {}
        band = self.left[k]
        for element in reversed(list(band)) if rear else list(band):
            part = min(amount, band[element])
            band[element] -= part
            taken[element] = part
            amount -= part
        return taken

    def rest(self, k: int) -> Moles:
        """All that is left of a band."""
        rest, self.left[k] = self.left[k], {}
        return rest


def add(pool: Moles, more: Mapping[str, float]) -> None:
    """Add molar flows to a pool."""
    for element, amount in more.items():
        pool[element] = pool.get(element, 0.0) + amount


class SplitTrain:
    """Groups separated with one ligand in the first column, at whatever purities are asked for.

    What does not depend on the purities is worked out once; what depends on a few of them (a pool,
    the column of a mixed zone) is kept, because a design asks again with one purity changed.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        ligand: str,
        chemistry: Chemistry,
        run: Operation,
        zone_splitting: bool,
    ) -> None:
        self.groups = groups
        self.ligand = ligand
        self.chemistry = chemistry
        self.run = run
        self.zone_splitting = zone_splitting
        self.alphas = boundary_alphas(groups, ligand, chemistry)
        self._sides = list(zip([None, *self.alphas], [*self.alphas, None], strict=True))
        self._pools: dict[tuple[int, float, float, float], tuple[float | None, float]] = {}
        self._splits: dict[object, tuple[Position, dict[str, Moles]]] = {}
        self._between: dict[tuple[int, ...], tuple[str, list[float]]] = {}

    def at(
        self, moles: Mapping[str, float], purity: Sequence[float]
    ) -> tuple[list[Position], dict[str, Moles]]:
        """Column positions, and what every outlet holds, at mole purities of the groups.

        Raises
        ------
        InfeasibleError
            when mixed zones fill a column at any velocity, or a ligand tells groups not apart.
        """
        run, groups = self.run, self.groups
        total = sum(moles[e] for g in groups for e in g.elements)
        velocity = run.velocity
        for _ in range(_HALVINGS):
            mixing = run.mixing(velocity)
            bands, depths, yields = self._first_pass(moles, purity, mixing)
            pooled = sum(b * y for b, y in zip(bands, yields, strict=True)) / sum(bands)
            if pooled >= 1 - run.mixed_most or not self.zone_splitting:
                break
            velocity *= 0.5
        else:
            raise _too_mixed(self.ligand, self.alphas, run, 1 - pooled)
        outlets, zones = self._cut(moles, bands, depths, mixing, total / sum(bands))
        columns: list[Position] = []
        for zone in zones:
            self._hand_on(zone, purity, total, columns, outlets)
        first = Position(
            groups=groups,
            purity=purity,
            moles=moles,
            ligand=self.ligand,
            alphas=self.alphas,
            bands=bands,
            yields=yields,
            velocity=velocity,
            mixed=1 - pooled,
            recycled=False,
            hands_on=tuple(c.name for c in columns),
        )
        return [first, *columns], outlets

    def _first_pass(
        self, moles: Mapping[str, float], purity: Sequence[float], mixing: float
    ) -> tuple[list[float], list[float | None], list[float]]:
        """Bands [m], depths of their cuts and single-pass yields of a first column.

        Bands that give no pool need not be resolved: once they are known, the column is loaded up
        to what the boundaries of the others allow.
        """
        whole, alphas = sum(moles.values()), self.alphas
        shares = [sum(moles[e] for e in g.elements) / whole for g in self.groups]
        load = resolvable_load(alphas, self.run)
        open_ = [True] * len(shares)
        for _ in range(2):
            bands = [share * load * self.run.length for share in shares]
            found = [
                self._pool(k, bands[k], purity[k], mixing) if useful else (None, 0.0)
                for k, useful in enumerate(open_)
            ]
            open_ = [y > 0 for _, y in found]
            needed = [a for k, a in enumerate(alphas) if open_[k] or open_[k + 1]]
            if not needed or len(needed) == len(alphas):
                break
            load = resolvable_load(needed, self.run)
        return bands, [depth for depth, _ in found], [y for _, y in found]

    def _pool(
        self, k: int, band: float, purity: float, mixing: float
    ) -> tuple[float | None, float]:
        """Depth of the cuts of a band's largest pool, and its yield; (None, 0) without a pool."""
        key = (k, band, purity, mixing)
        found = self._pools.get(key)
        if found is None:
            depth, reached = pattern.best_pool(band, purity, mixing, *self._sides[k])
            found = self._pools[key] = (depth, reached) if reached > 0 else (None, 0.0)
        return found

    def _cut(
        self,
        moles: Mapping[str, float],
        bands: Sequence[float],
        depths: Sequence[float | None],
        mixing: float,
        per_length: float,
    ) -> tuple[dict[str, Moles], list[list[tuple[int, Moles]]]]:
        """Pools of the first column, and its mixed zones as parts of groups."""
        names = [g.name for g in self.groups]
        store = _Bands(self.groups, moles)
        outlets: dict[str, Moles] = {name: {} for name in names}
        zones: list[list[tuple[int, Moles]]] = [[]]
        for k, depth in enumerate(depths):
            if k > 0:
                cuts = _edge(
                    self.alphas[k - 1], mixing, depths[k - 1], depth, bands[k - 1], bands[k]
                )
                fast_lost, fast_astray, slow_lost, slow_astray = cuts
                if depths[k - 1] is not None:
                    add(outlets[names[k - 1]], store.take(k, slow_astray * per_length, rear=False))
                    lost = (fast_lost - fast_astray) * per_length
                    zones[-1].append((k - 1, store.take(k - 1, lost, rear=True)))
                if depth is not None:
                    add(outlets[names[k]], store.take(k - 1, fast_astray * per_length, rear=True))
            if depth is None:
                continue
            if k > 0:
                # Bands too short for a pool went by; all that is left of them is mixed.
                for j in range(k - 1, -1, -1):
                    if depths[j] is not None:
                        break
                    zones[-1].append((j, store.rest(j)))
                lost = (slow_lost - slow_astray) * per_length
                zones[-1].append((k, store.take(k, lost, rear=False)))
            zones.append([])
        for j in range(len(names) - 1, -1, -1):
            if depths[j] is not None:
                break
            zones[-1].append((j, store.rest(j)))
        for name, rest in zip(names, store.left, strict=True):
            add(outlets[name], rest)
        return outlets, zones

    def _hand_on(
        self,
        zone: Sequence[tuple[int, Moles]],
        purity: Sequence[float],
        total: float,
        columns: list[Position],
        outlets: dict[str, Moles],
    ) -> None:
        """What becomes of a mixed zone: a column of its own, whose pools join the outlets."""
        moles: Moles = {}
        for _, part in zone:
            add(moles, part)
        if not sum(moles.values()) > _SETTLED * total:
            for k, part in zone:
                add(outlets[self.groups[k].name], part)
            return
        if not self.zone_splitting:
            add(outlets.setdefault("mixed", {}), moles)
            return
        members = tuple(sorted({k for k, part in zone if sum(part.values()) > 0}))
        if len(members) == 1:
            add(outlets[self.groups[members[0]].name], moles)
            return
        inside = [purity[k] for k in members]
        key = (members, tuple(inside), tuple(moles.items()))
        if key not in self._splits:
            groups = [self.groups[k] for k in members]
            if members not in self._between:
                other = best_ligand(groups, self.ligand, self.chemistry)
                self._between[members] = other, boundary_alphas(groups, other, self.chemistry)
            self._splits[key] = split(groups, inside, moles, *self._between[members], self.run)
        column, pools = self._splits[key]
        columns.append(column)
        for name, pool in pools.items():
            add(outlets[name], pool)


def split(
    groups: Sequence[Group],
    purity: Sequence[float],
    moles: Mapping[str, float],
    ligand: str,
    alphas: Sequence[float],
    run: Operation,
) -> tuple[Position, dict[str, Moles]]:
    """A column whose mixed zones return to its own feed, so that all it is fed leaves in pools.

    With s the fresh metal and m the mixed zones [m] the load is B = s + m; the cuts follow from the
    contamination each pool of known size may take.
    """
    fresh = [sum(moles.get(e, 0.0) for e in g.elements) for g in groups]
    total = sum(fresh)
    longest = resolvable_load(alphas, run) * run.length
    velocity = run.velocity
    for _ in range(_HALVINGS):
        mixing = run.mixing(velocity)
        room = (1 - run.mixed_most) * longest
        cuts = _recycled(purity, fresh, room / total, alphas, mixing)
        mixed = _mixed(cuts)
        if mixed <= run.mixed_most * longest:
            break
        velocity *= 0.5
    else:
        raise _too_mixed(ligand, alphas, run, mixed / (mixed + room))
    before, gap = math.nan, math.nan
    for _ in range(_FIXED_POINT):
        # The secant through the last two loads that did not repeat themselves.
        missed, following = longest - mixed - room, longest - mixed
        if missed != gap and not math.isnan(gap):
            drawn = room - missed * (room - before) / (missed - gap)
            following = drawn if 0 < drawn < longest else following
        before, gap, room = room, missed, following
        cuts = _recycled(purity, fresh, room / total, alphas, mixing)
        mixed = _mixed(cuts)
        if abs(room - before) <= _SETTLED * longest:
            break
    per_length = total / room
    store = _Bands(groups, moles)
    pools: dict[str, Moles] = {g.name: {} for g in groups}
    for k, (_, fast_astray, _, slow_astray) in enumerate(cuts):
        astray = store.take(k, fast_astray * per_length, rear=True)
        add(pools[groups[k + 1].name], astray)
        add(pools[groups[k].name], store.take(k + 1, slow_astray * per_length, rear=False))
    for group, rest in zip(groups, store.left, strict=True):
        add(pools[group.name], rest)
    column = Position(
        groups=groups,
        purity=purity,
        moles=moles,
        ligand=ligand,
        alphas=alphas,
        bands=[n * longest / total for n in fresh],
        yields=[1.0] * len(groups),
        velocity=velocity,
        mixed=mixed / longest,
        recycled=True,
        hands_on=(),
    )
    return column, pools


def _mixed(cuts: Sequence[Cuts]) -> float:
    """Length of all mixed zones [m]."""
    return sum(lost - gone + late - away for lost, gone, late, away in cuts)


def _recycled(
    purity: Sequence[float],
    fresh: Sequence[float],
    per_mole: float,
    alphas: Sequence[float],
    mixing: float,
) -> list[Cuts]:
    """Boundaries of a column with recycle at ``per_mole`` [m per mol/s] of fresh metal.

    Half of a neighbour at most goes astray into one pool, which then is purer than it must be.
    """
    front: list[float] = []
    rear: list[float] = []
    for k, pure in enumerate(purity):
        ahead = alphas[k - 1] if k > 0 else None
        behind = alphas[k] if k < len(alphas) else None
        allowed = (1 - pure) / pure * fresh[k] * per_mole
        depth = pattern.contamination_depth(max(allowed, _NOTHING), ahead, behind, mixing)
        front.append(depth)
        rear.append(depth)
        if ahead is not None:
            most = fresh[k - 1] * per_mole / 2
            if pattern.front_cut(depth, ahead, mixing)[1] > most:
                front[k] = pattern.contamination_depth(max(most, _NOTHING), ahead, None, mixing)
        if behind is not None:
            most = fresh[k + 1] * per_mole / 2
            if pattern.rear_cut(depth, behind, mixing)[1] > most:
                rear[k] = pattern.contamination_depth(max(most, _NOTHING), None, behind, mixing)
    return [boundary_cuts(alpha, mixing, rear[k], front[k + 1]) for k, alpha in enumerate(alphas)]


def _too_mixed(
    ligand: str, alphas: Sequence[float], run: Operation, share: float
) -> InfeasibleError:
    return InfeasibleError(
        f"with {ligand} mixed zones fill a column of {run.length:g} m at any velocity "
        f"(smallest alpha {min(alphas):.2f})",
        limit={"mixed share": run.mixed_most},
        nearest={"mixed share": share},
    )
