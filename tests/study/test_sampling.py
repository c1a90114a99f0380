"""Distributions, points, statistics and Sobol indices against closed forms."""

import doctest
import math

import numpy as np
import pytest

from sepmodel import data, distributions, sampling, statistics
from sepmodel.distributions import Distribution
from sepmodel.errors import InputError
from sepmodel.study import sensitivity

MODULES = (distributions, sampling, statistics, sensitivity)


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("kind", ["normal", "lognormal"])
@pytest.mark.parametrize(("low", "high"), [(0.5, 2.0), (0.9, 3.0), (0.2, 1.05)])
def test_the_three_stated_numbers_are_kept(kind, low, high):
    d = Distribution(kind=kind, value=1.0, low=low, high=high)
    assert d.quantile([0.05, 0.5, 0.95]) == pytest.approx([low, 1.0, high], rel=1e-12)


def test_a_symmetric_lognormal_is_the_textbook_one():
    from scipy.stats import lognorm

    d = Distribution(kind="lognormal", value=2.0, low=1.0, high=4.0)
    p = np.linspace(0.01, 0.99, 21)
    shape = math.log(2.0) / distributions.NORMAL_95
    assert d.quantile(p) == pytest.approx(lognorm(shape, scale=2.0).ppf(p), rel=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_triangle_is_the_textbook_one(value):
    from scipy.stats import triang

    d = Distribution(kind="triangular", value=value, low=0.0, high=1.0)
    p = np.linspace(0.0, 1.0, 21)
    assert d.quantile(p) == pytest.approx(triang(value).ppf(p), abs=1e-12)


def test_positive_numbers_stay_positive_and_shares_below_one():
    positive = Distribution(kind="normal", value=1.0, low=0.1, high=1.9, least=0.0)
    assert np.all(positive.quantile(np.linspace(1e-9, 1 - 1e-9, 101)) >= 0)
    share = Distribution(kind="lognormal", value=0.9, low=0.8, high=0.99, most=1.0)
    found = share.quantile(np.linspace(1e-9, 1 - 1e-9, 101))
    assert np.all(found <= 1.0)
    assert np.all(np.diff(found) > 0)


def test_every_shipped_number_can_be_drawn_inside_what_its_data_allow():
    from sepmodel import provenance

    numbers = provenance.all_constants()
    drawn = sampling.members(numbers, 64, seed=5)
    assert len(drawn) > 1000
    for key, values in drawn.items():
        constant = numbers[key]
        low, high = constant.si_range
        assert np.all(np.isfinite(values)), key
        if constant.distribution in ("triangular", "uniform"):
            assert np.all((values >= low) & (values <= high)), key
        if low > 0 and "log" not in constant.basis:
            assert np.all(values > 0), key


def test_numbers_that_state_no_range_stay_where_they_are():
    numbers = data.load_set("separation_factors/zzs16-gd-eu-sm")
    assert sampling.members({c.key: c for c in numbers.values()}, 8) == {}


def test_constants_of_one_laboratory_share_its_level():
    numbers = data.load_set("extractants/li1987-pc88a-ideal")
    drawn = sampling.members({c.key: c for c in numbers.values()}, 4096, seed=1)
    nd, pr = (drawn[f"extractants/li1987-pc88a-ideal:{e}"] for e in ("Nd", "Pr"))
    assert np.corrcoef(nd, pr)[0, 1] == pytest.approx(0.9, abs=0.01)
    assert np.std(nd) == pytest.approx(0.068, rel=0.01)  # each keeps its own spread
    assert np.std(nd - pr) == pytest.approx(math.sqrt(2 * 0.1) * 0.0665, rel=0.03)


def test_points_depend_on_the_seed_only_and_sobol_points_are_nested():
    for design in sampling.DESIGNS:
        one, same, other = (sampling.unit(design, 100, 3, seed) for seed in (4, 4, 5))
        assert np.array_equal(one, same)
        assert not np.array_equal(one, other)
    for design in ("sobol", "random"):
        assert np.array_equal(
            sampling.unit(design, 100, 3, 4), sampling.unit(design, 1000, 3, 4)[:100]
        )
    cube = np.sort(sampling.unit("latin-hypercube", 100, 3, 4), axis=0)
    assert np.all((cube * 100).astype(int) == np.arange(100)[:, None])


def test_refused_samples():
    with pytest.raises(InputError, match="no such sample"):
        sampling.unit("halton", 10, 2, 0)
    with pytest.raises(InputError, match="not a distribution"):
        Distribution(kind="normal", value=1.0, low=2.0, high=3.0)


def test_wilson_intervals_cover_as_they_say():
    generator = np.random.default_rng(8)
    for p in (0.5, 0.9, 0.99):
        inside = 0
        for hits in generator.binomial(200, p, size=1000):
            _, low, high = statistics.probability(int(hits), 200)
            inside += low <= p <= high
        assert inside > 930
    assert statistics.probability(0, 50)[0:2] == (0.0, 0.0)
    assert statistics.probability(50, 50)[2] == 1.0


def test_failed_members_are_counted_and_left_out():
    values = np.array([1.0, np.nan, 3.0])
    found = statistics.summary(values, 2.0)
    assert (found.mean, found.count, found.failed) == (2.0, 2, 1)
    empty = statistics.summary(np.array([np.nan]))
    assert empty.count == 0
    assert math.isnan(empty.mean)


def test_rank_correlation_is_scipys():
    from scipy.stats import rankdata, spearmanr

    generator = np.random.default_rng(2)
    x = generator.random((60, 3))
    y = x[:, 0] ** 3 - 0.2 * x[:, 1] + 0.1 * generator.random(60)
    ours = statistics.rank_correlation(x, y)
    theirs = [spearmanr(x[:, i], y).statistic for i in range(3)]
    assert ours == pytest.approx(theirs, abs=1e-12)
    tied = np.floor(5 * x)
    assert np.array_equal(statistics.ranks(tied), rankdata(tied, axis=0))
    low, high = statistics.rank_interval(ours, 60)
    assert np.all((low < ours) & (ours < high))


def test_shares_are_not_taken_in_by_selection():
    """Members chosen by a sum of two inputs: the one the answer ignores correlates with it."""
    generator = np.random.default_rng(3)
    x = generator.standard_normal((2000, 4))
    x = x[x[:, 0] + x[:, 1] > 0]
    y = np.exp(x[:, 0] + 0.5 * x[:, 2])
    assert abs(statistics.rank_correlation(x, y)[1]) > 0.2
    shares = statistics.shares(x, y)
    assert shares[1] == shares[3] == 0
    assert shares[0] > shares[2] > 0.2
    assert shares.sum() == pytest.approx(1, abs=0.1)


def test_shares_leave_open_what_no_input_carries():
    generator = np.random.default_rng(4)
    x = generator.random((4000, 3))
    y = x[:, 0] + generator.random(4000)  # half of the variance is nobody's
    assert statistics.shares(x, y) == pytest.approx([0.5, 0, 0], abs=0.04)


def test_chance_is_not_told_as_a_driver():
    """Of 200 inputs that do nothing, none is named in at least nine of ten samples of 50."""
    generator = np.random.default_rng(6)
    named = 0
    for _ in range(100):
        x, y = generator.random((50, 200)), generator.random(50)
        named += bool(statistics.shares(x, y).any())
    assert named <= 10
    x = generator.random((200, 50))
    assert np.flatnonzero(statistics.shares(x, x[:, 3] + 0.1 * x[:, 7])).tolist() == [3]


def test_convergence_ends_with_all_members_and_tightens():
    values = np.random.default_rng(3).normal(size=1000)
    for estimate in ("mean", "median", "low", "high"):
        steps = statistics.convergence(values, estimate)
        assert [s.count for s in steps] == [16, 32, 64, 128, 256, 512, 1000]
        assert steps[-1].high - steps[-1].low < steps[0].high - steps[0].low
    assert steps[-1].value == pytest.approx(np.quantile(values, 0.95))


# --- Sobol indices of functions whose indices are known ---------------------------------------


def ishigami(u, a=7.0, b=0.1):
    x = math.pi * (2 * u - 1)
    return np.sin(x[..., 0]) + a * np.sin(x[..., 1]) ** 2 + b * x[..., 2] ** 4 * np.sin(x[..., 0])


def ishigami_indices(a=7.0, b=0.1):
    one = 0.5 * (1 + b * math.pi**4 / 5) ** 2
    two = a**2 / 8
    both = b**2 * math.pi**8 * 8 / 225
    total = one + two + both
    return (
        np.array([one, two, 0.0]) / total,
        np.array([one + both, two, both]) / total,
    )


G = np.array([0.0, 0.5, 3.0, 9.0, 99.0, 99.0])


def g_function(u):
    return np.prod((np.abs(4 * u - 2) + G) / (1 + G), axis=-1)


def g_indices():
    part = 1 / (3 * (1 + G) ** 2)
    total = np.prod(1 + part) - 1
    others = np.array([np.prod(1 + np.delete(part, i)) for i in range(G.size)])
    return part / total, part * others / total


def inside(function, indices, dims, base, seed):
    """How many of the first-order and total intervals hold the exact index; the largest error."""
    points = sensitivity.saltelli(base, dims, seed)
    found = sensitivity.sobol_indices(function(points), [str(i) for i in range(dims)], seed=seed)
    held = []
    for exact, ends in zip(indices, (found.first_interval, found.total_interval), strict=True):
        held.append((ends[:, 0] <= exact) & (exact <= ends[:, 1]))
    worst = max(
        float(np.abs(found.first - indices[0]).max()), float(np.abs(found.total - indices[1]).max())
    )
    return np.array(held), worst


@pytest.mark.parametrize(
    ("function", "indices", "dims"),
    [(ishigami, ishigami_indices(), 3), (g_function, g_indices(), 6)],
    ids=["ishigami", "g"],
)
def test_sobol_indices_lie_in_their_intervals(function, indices, dims):
    """Over 20 seeds at least 90 % of the 95 % intervals hold the exact index: the sample is better
    than independent points, for which the intervals are made, but 20 seeds are few."""
    held, worst = zip(*(inside(function, indices, dims, 1024, s) for s in range(20)), strict=True)
    assert np.mean(held) > 0.9
    assert max(worst) < 0.1


def test_sobol_indices_are_salibs_estimators():
    """The same sums by another road: scipy's implementation on the same points."""
    points = sensitivity.saltelli(256, 3, seed=7)
    answers = ishigami(points)
    ours = sensitivity.sobol_indices(answers, ["a", "b", "c"])
    a, b, ab = answers[:, 0], answers[:, 1], answers[:, 2:]
    variance = np.var(answers[:, :2])
    total = ((a[:, None] - ab) ** 2).mean(axis=0) / 2 / variance
    assert ours.total == pytest.approx(total, rel=1e-12)
    mean = answers[:, :2].mean()
    first = ((b - mean)[:, None] * (ab - a[:, None])).mean(axis=0) / variance
    assert ours.first == pytest.approx(first, rel=1e-10)


def test_base_points_without_an_answer_are_left_out_whole():
    answers = ishigami(sensitivity.saltelli(64, 3, seed=1))
    answers[3, 2] = np.nan
    found = sensitivity.sobol_indices(answers, ["a", "b", "c"])
    assert (found.used, found.count) == (63, 64)
    with pytest.raises(InputError, match="too few"):
        sensitivity.sobol_indices(np.full((4, 5), np.nan), ["a", "b", "c"])


def test_morris_finds_what_matters_and_what_is_not_linear():
    pytest.importorskip("SALib")
    points = sensitivity.morris_points(40, 3, seed=2)
    answers = points[:, 0] * 5 + points[:, 1] + 0 * points[:, 2]
    found = sensitivity.morris_effects(points, answers, ["a", "b", "c"], seed=1)
    scale = found.absolute[0] / 5
    assert found.absolute == pytest.approx([5 * scale, scale, 0], abs=1e-9)
    assert np.all(found.deviation < 1e-9)
    curved = sensitivity.morris_effects(points, ishigami(points), ["a", "b", "c"], seed=1)
    assert np.all(curved.deviation > 0.1)
