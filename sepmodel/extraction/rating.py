"""Rating a train from its assays: reconciled flows, stage efficiencies, gross errors, bottleneck.

The mass-flow model predicts every assay from the flows, the feed and the efficiencies p; readings
and assays m carry their own errors. Weighted least squares on logarithms, min |(f(p) - m) / sd|^2,
reconciles them. An assay row counts by the ratios of its elements: its total is a free number of
its own, so that dilution and the unit of an assay do not matter.

A measurement whose residual is larger than chance allows, in units of its own standard error after
reconciliation, is a gross error (measurement test, Sidak's bound for the whole set); the largest
is taken out and the rest is reconciled anew, one at a time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sepmodel.errors import ConvergenceError, InfeasibleError, Trace
from sepmodel.extraction import cascade, rating_model
from sepmodel.extraction.rating_model import Assay, Model, Reading, nominal

Array = NDArray[np.float64]

_CONVERGED = 1e-10
# Probability of naming a gross error, in the whole set, where there is none.
_FALSE_ALARM = 1e-2
# Below this share of its own variance a residual says nothing: nothing else measures the same.
_TESTABLE = 1e-6
# An efficiency known to no better than this is not known.
UNKNOWN = 0.5
_AT_BOUND = 1e-9
# With more of the measurements contradicting the rest than this, it is not they that are wrong.
_MOST_LEFT_OUT = 1 / 4
_SPLITS = 32
_REFINEMENTS = 2
SPLIT = "split set again"


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A reconciled number, its standard error, and what had been read, if anything."""

    value: float
    error: float
    read: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class GrossError:
    """A measurement that contradicts the rest: how far off (ratio to the reconciled), how surely.

    ``size`` is its residual in units of the residual's standard error, ``limit`` the largest that
    chance explains.
    """

    name: str
    ratio: float
    size: float
    limit: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Remedy:
    """What a change alone would do: share of the feed that still leaves with the wrong outlet."""

    name: str
    misplaced: float


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Rating:
    """A train as it runs.

    ``efficiencies`` map (section, element) to estimates, "" where a section has one for all;
    ``chi_squared`` of ``freedom`` degrees; ``misplaced`` the share of the feed that leaves with
    an outlet that is not its own, ``remedies`` what each change alone would leave of it, best
    first; ``inputs`` and ``solved`` are the reconciled cascade.
    """

    flows: Mapping[str, Estimate]
    feed: Mapping[str, Estimate]
    efficiencies: Mapping[tuple[str, str], Estimate]
    factors: Mapping[str, Estimate]
    gross: tuple[GrossError, ...]
    untestable: tuple[str, ...]
    chi_squared: float
    freedom: int
    measurements: int
    iterations: int
    misplaced: float
    remedies: tuple[Remedy, ...]
    inputs: cascade.MassFlowInputs
    solved: cascade.CascadeResult

    @property
    def bottleneck(self) -> str:
        """What holds the train back: the product split, or the section whose stages do.

        The split, where setting it again does at least half of what can be done; otherwise the
        section whose perfect stages would leave the least misplaced once the split is set again.
        """
        best = self.remedies[0]
        split = next(r for r in self.remedies if r.name.startswith(SPLIT))
        if self.misplaced - split.misplaced >= (self.misplaced - best.misplaced) / 2:
            return "product split"
        return best.name.partition(" at ")[0]

    @property
    def unknown(self) -> tuple[str, ...]:
        """Efficiencies and flows that these measurements do not tell."""
        flows = [f"flow {k}" for k, e in self.flows.items() if not e.error < UNKNOWN * e.value]
        rest = [k for k, e in self.efficiencies.items() if not e.error < UNKNOWN]
        return (*flows, *(f"efficiency {' '.join(k).strip()}" for k in rest))

    @property
    def determined(self) -> bool:
        """Whether there are measurements to spare, and all of the train is told by them."""
        return self.freedom > 0 and not self.unknown


def rate(
    train: cascade.MassFlowInputs,
    sections: Sequence[tuple[str, int, int]],
    assays: Sequence[Assay],
    readings: Sequence[Reading],
    *,
    feed_accuracy: float,
    factor_accuracy: float = 0.0,
    efficiencies: str = "section",
) -> Rating:
    """Flows, efficiencies and gross errors of a train from what was read and analysed.

    Parameters
    ----------
    train: the cascade as built; its flows are first guesses, its feed composition an analysis.
    sections: name, first and last stage of each, stages counted from 1 through the cascade.
    assays, readings: what was measured; a flow nobody read follows from the rest.
    feed_accuracy: relative standard deviation of the feed's analysis.
    factor_accuracy: relative standard deviation of the separation factors; 0 holds them.
    efficiencies: "section" (one a section), "element" (one a section and element), "none" (held).

    Raises
    ------
    InputError, InfeasibleError
        when the measurements cannot belong to the train, or do not determine it.
    ConvergenceError
        when the least squares do not converge.
    """
    model = rating_model.model(
        train, sections, assays, readings, feed_accuracy, factor_accuracy, efficiencies
    )
    keep = np.ones(model.measured.size, dtype=bool)
    p, iterations = _least_squares(model, model.start(), keep, robust=True)
    gross: list[GrossError] = []
    while True:
        p, more = _least_squares(model, p, keep)
        iterations += more
        test = _test(model, p, keep)
        if test.freedom <= 0 or not test.size[test.worst] > test.limit:
            break
        gross.append(_named_error(model, p, keep, test))
        keep = keep & ~_same_sample(model, test.worst)
        _require_credible(keep, gross)
    return _rating(model, p, keep, test, tuple(gross), iterations)


def _least_squares(
    model: Model, start: Array, keep: NDArray[np.bool_], *, robust: bool = False
) -> tuple[Array, int]:
    """The unknowns that explain what is kept best; ``robust`` bends to no single measurement."""
    from scipy.optimize import least_squares

    low, high = model.bounds()

    def residual(p: Array) -> Array:
        return model.weighted(model.predict(p[None])[0] - model.measured, keep)

    def jacobian(p: Array) -> Array:
        slopes = model.jacobian(p)
        if not np.all(np.isfinite(slopes)):
            raise InfeasibleError(
                "the measurements contradict the train: reconciling them leads to flows at which "
                "it has no steady state; are elements or phases exchanged?",
                limit=nominal(model.base),
            )
        return model.weighted(slopes.T, keep).T

    start = np.clip(start, low, high)
    if not np.all(np.isfinite(residual(start))):
        raise InfeasibleError(
            "the train has no steady state at the flows of the case: readings and case disagree",
            limit=nominal(model.base),
        )
    found = least_squares(
        residual,
        start,
        jac=jacobian,
        bounds=(low, high),
        x_scale="jac",
        loss="soft_l1" if robust else "linear",
        xtol=_CONVERGED,
        ftol=_CONVERGED,
        gtol=_CONVERGED,
    )
    if not found.success:
        raise ConvergenceError(
            f"the measurements were not reconciled after {found.nfev} evaluations",
            trace=Trace(
                history=(float(found.cost),),
                equation="weighted least squares",
                advice="begin from flows nearer to the readings, or ask for fewer efficiencies",
            ),
        )
    return np.asarray(found.x), int(found.nfev)


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class _Test:
    """Residuals in units of their own errors, and the covariance of the unknowns."""

    size: Array  # (M,), 0 where not kept or not testable
    worst: int
    limit: float
    covariance: Array  # (P, P); inf on the diagonal where undetermined
    chi_squared: float
    freedom: int
    untestable: tuple[str, ...]


def _test(model: Model, p: Array, keep: NDArray[np.bool_]) -> _Test:
    """The measurement test at a reconciled point."""
    from scipy.stats import norm

    residual = model.weighted(model.predict(p[None])[0] - model.measured, keep)
    low, high = model.bounds()
    free = (p > low + _AT_BOUND) & (p < high - _AT_BOUND)
    jacobian = model.weighted(model.jacobian(p).T, keep).T
    u, s, vt = np.linalg.svd(jacobian[:, free], full_matrices=False)
    rank = int(np.sum(s > s.max(initial=0.0) * _TESTABLE))
    # What the free totals, and then the unknowns, take of each residual's variance.
    left = np.where(keep, 1.0, 0.0)
    rows = 0
    for row in range(int(model.group.max(initial=-1)) + 1):
        at = np.flatnonzero((model.group == row) & keep)
        if at.size:
            v = model.sd[at] ** -2
            left[at] -= v / v.sum()
            rows += 1
    left -= np.sum(u[:, :rank] ** 2, axis=1)
    testable = keep & (left > _TESTABLE)
    size = np.zeros(residual.size)
    size[testable] = np.abs(residual[testable]) / np.sqrt(left[testable])
    tests = max(int(testable.sum()), 1)
    limit = float(norm.isf(-math.expm1(math.log1p(-_FALSE_ALARM) / tests) / 2))
    covariance = np.zeros((p.size, p.size))
    inner = (vt[:rank].T / s[:rank] ** 2) @ vt[:rank]
    loose = np.sum(vt[:rank] ** 2, axis=0) < 1 - _TESTABLE
    inner[loose, loose] = np.inf
    covariance[np.ix_(free, free)] = inner
    bare = [n for n, k, t in zip(model.names, keep, testable, strict=True) if k and not t]
    return _Test(
        size=size,
        worst=int(np.argmax(size)),
        limit=limit,
        covariance=covariance,
        chi_squared=float(residual @ residual),
        freedom=int(keep.sum()) - rows - rank,
        untestable=tuple(bare),
    )


def _require_credible(keep: NDArray[np.bool_], gross: Sequence[GrossError]) -> None:
    """Refuse a train that most of its measurements would have to be wrong for."""
    out = 1 - float(keep.mean())
    if out > _MOST_LEFT_OUT:
        raise InfeasibleError(
            f"the measurements contradict the train: {100 * out:.0f} % of them would have to be "
            f"wrong, the worst of them {gross[0].name}; are elements or phases exchanged, or the "
            "separation factors those of another extractant?",
            limit={"share of measurements left out": _MOST_LEFT_OUT},
        )


def _same_sample(model: Model, index: int) -> NDArray[np.bool_]:
    """The measurements that fall with one: in a sample of two elements either may be wrong."""
    row = model.group[index]
    mask = np.zeros(model.measured.size, dtype=bool)
    mask[index] = True
    if row >= 0 and np.sum(model.group == row) < 3:
        mask |= model.group == row
    return mask


def _named_error(model: Model, p: Array, keep: NDArray[np.bool_], test: _Test) -> GrossError:
    """The worst measurement, and how it compares with what the others say of it."""
    out = _same_sample(model, test.worst)
    rest = keep & ~out
    point, _ = _least_squares(model, p, rest)
    off = model.measured - model.predict(point[None])[0]
    same = np.flatnonzero(rest & (model.group == model.group[test.worst]))
    if model.group[test.worst] >= 0:
        others = same if same.size else np.flatnonzero(out & (np.arange(off.size) != test.worst))
        weights = model.sd[others] ** -2
        off = off - float(off[others] @ weights / weights.sum())
    name = model.names[test.worst]
    if out.sum() > 1:
        name = " against ".join([name, *(model.names[i].split(": ")[1] for i in np.flatnonzero(out)
                                         if i != test.worst)])  # fmt: skip
    return GrossError(
        name=name,
        ratio=math.exp(float(off[test.worst])),
        size=float(test.size[test.worst]),
        limit=test.limit,
    )


def _rating(
    model: Model,
    p: Array,
    keep: NDArray[np.bool_],
    test: _Test,
    gross: tuple[GrossError, ...],
    iterations: int,
) -> Rating:
    """The unknowns under their names, with errors, and what each remedy would do."""
    error = np.sqrt(np.diag(test.covariance))
    inputs = _single(model.cascade(p[None]))
    solved = cascade.solve(inputs)
    read = {reading.name: reading.value for reading in model.readings}
    flows = {}
    for i, name in enumerate(model.flows):
        value = math.exp(p[i])
        flows[name] = Estimate(value=value, error=value * error[i], read=read.get(name))
    at = len(model.flows)
    feed: dict[str, Estimate] = {}
    for inlet, here in zip(inputs.inlets, model.present, strict=True):
        shares = np.asarray(inlet.flows)[here] / np.sum(inlet.flows)
        # d share_i / d ln ratio_k = share_i (delta_ik - share_k), the first ratio being held.
        slope = shares[:, None] * (np.eye(here.size) - shares)[:, 1:]
        inner = test.covariance[at : at + here.size - 1, at : at + here.size - 1]
        spread = np.sqrt(np.einsum("ij,jk,ik->i", slope, inner, slope))
        names = [model.base.components[i] for i in here]
        feed |= {
            f"{inlet.name}: {n}": Estimate(value=float(v), error=float(e))
            for n, v, e in zip(names, shares, spread, strict=True)
        }
        at += here.size - 1
    efficiencies = {}
    for k, key in enumerate(model.groups):
        efficiencies[key] = Estimate(value=float(p[at + k]), error=float(error[at + k]))
    at += len(model.groups)
    factors = {}
    if model.factors:
        a = np.asarray(inputs.extractability, dtype=float)
        given = np.asarray(model.base.extractability, dtype=float)
        for k, name in enumerate(model.base.components[1:]):
            ratio = float(a[k + 1] / a[0])
            factors[f"{name}/{model.base.components[0]}"] = Estimate(
                value=ratio,
                error=ratio * float(error[at + k]),
                read=float(given[k + 1] / given[0]),
            )
    misplaced, remedies = _remedies(model, inputs, solved)
    return Rating(
        flows=flows,
        feed=feed,
        efficiencies=efficiencies,
        factors=factors,
        gross=gross,
        untestable=test.untestable,
        chi_squared=test.chi_squared,
        freedom=test.freedom,
        measurements=int(keep.sum()),
        iterations=iterations,
        misplaced=misplaced,
        remedies=remedies,
        inputs=inputs,
        solved=solved,
    )


def _single(inputs: cascade.MassFlowInputs) -> cascade.MassFlowInputs:
    """The first member of a batch of cascades."""
    return replace(
        inputs,
        extractability=np.asarray(inputs.extractability)[0],
        solvent=float(np.asarray(inputs.solvent)[0]),
        scrub=float(np.asarray(inputs.scrub)[0]),
        inlets=tuple(replace(i, flows=np.asarray(i.flows)[0]) for i in inputs.inlets),
        draws=tuple(replace(d, flow=float(np.asarray(d.flow)[0])) for d in inputs.draws),
        efficiency=np.asarray(inputs.efficiency)[0],
    )


def _remedies(
    model: Model, inputs: cascade.MassFlowInputs, solved: cascade.CascadeResult
) -> tuple[float, tuple[Remedy, ...]]:
    """Share of the feed in wrong outlets, now and after each change alone, the best first."""
    streams = np.stack(list(solved.outlets.values()))
    own = np.argmax(streams, axis=0)
    fed = float(streams.sum())

    def misplaced(found: cascade.CascadeResult) -> Array:
        outlets = np.stack(list(found.outlets.values()))
        right = np.take_along_axis(outlets, np.expand_dims(own, tuple(range(outlets.ndim - 1))), 0)
        share: Array = 1.0 - right[0].sum(axis=-1) / fed
        return share

    now = float(misplaced(solved))

    def split_again(train: cascade.MassFlowInputs) -> tuple[float, float]:
        """The scrub that misplaces least, and how much it does."""
        least, at = math.inf, float(np.asarray(train.scrub))
        width = float(np.sum(solved.loaded_organic))
        for _ in range(_REFINEMENTS):
            tried = at + width * np.linspace(-1.0, 1.0, _SPLITS)
            batch = cascade.solve(replace(train, scrub=tried[tried > 0]), failures="record")
            left = np.where(batch.converged, misplaced(batch), np.inf)
            best = int(np.argmin(left))
            least, at = float(left[best]), float(tried[tried > 0][best])
            width *= 2.0 / (_SPLITS - 1)
        return least, at

    least, scrub = split_again(inputs)
    remedies = [Remedy(name=f"{SPLIT} (scrub {scrub:.4g})", misplaced=least)]
    for section, first, last in model.sections:
        efficiency = np.array(inputs.efficiency)
        if np.all(efficiency[first - 1 : last] >= 1 - _AT_BOUND):
            continue
        efficiency[first - 1 : last] = 1.0
        better = replace(inputs, efficiency=efficiency)
        name = f"{section} at efficiency 1"
        remedies.append(Remedy(name=name, misplaced=float(misplaced(cascade.solve(better)))))
        least, scrub = split_again(better)
        remedies.append(Remedy(name=f"{name}, {SPLIT} (scrub {scrub:.4g})", misplaced=least))
    return now, tuple(sorted(remedies, key=lambda r: r.misplaced))
