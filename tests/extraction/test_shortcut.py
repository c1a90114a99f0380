"""Closed forms of the cascade against published numbers, limits and plain arithmetic."""

import doctest

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sepmodel import species
from sepmodel.data import Book
from sepmodel.errors import InputError
from sepmodel.extraction import factors, shortcut

fraction = st.floats(0.01, 0.99)
beta = st.floats(1.05, 50)


@pytest.mark.parametrize("module", [shortcut, factors], ids=lambda m: m.__name__)
def test_docstring_examples(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.parametrize(
    ("factor", "counts"),
    [
        (1.5, (22.7, 26.1, 34.1, 45.4)),
        (1.17, (58.5, 67.4, 88.0, 117.3)),
        (2.0, (13.3, 15.3, 19.9, 26.6)),
        (2.82, (8.9, 10.2, 13.3, 17.8)),
        (10.0, (4.0, 4.6, 6.0, 8.0)),
    ],
)
def test_least_stages(factor, counts):
    purity = np.array([0.99, 0.995, 0.999, 0.9999])
    # Published to one decimal, 13.26 printed as 13.3: half a unit of it and rounding.
    assert shortcut.fenske(purity, purity, factor) == pytest.approx(counts, abs=0.0501)


@pytest.mark.parametrize(("factor", "scrub"), [(1.5, 2.0), (2, 1.0), (1.17, 5.88), (2.82, 0.549)])
def test_least_scrub(factor, scrub):
    assert float(shortcut.minimum_flows(factor, 0.5)[1]) == pytest.approx(scrub, abs=5e-3)


@given(beta, fraction, fraction, fraction)
def test_product_flows_close_every_balance(factor, feed, shift_a, shift_b):
    # Purities above the feed's.
    p_a, p_b = feed + (1 - feed) * shift_a, 1 - feed + feed * shift_b
    f_a, f_b = shortcut.product_flows(p_a, p_b, feed)
    assert f_a + f_b == pytest.approx(1, rel=1e-9)
    assert f_a * p_a + f_b * (1 - p_b) == pytest.approx(feed, rel=1e-9)


def kremser_by_stages(x_in, y_in, d, ratio, stages):
    """Counter-current stages at constant D as a linear system: no closed form in it."""
    matrix, right = np.zeros((stages, stages)), np.zeros(stages)
    for n in range(stages):
        matrix[n, n] = 1 + ratio * d
        if n + 1 < stages:
            matrix[n, n + 1] = -1
        else:
            right[n] += x_in
        if n > 0:
            matrix[n, n - 1] = -ratio * d
        else:
            right[n] += ratio * y_in
    return np.linalg.solve(matrix, right)[0]


@given(
    st.floats(0.1, 10), st.floats(0, 5), st.floats(0.05, 20), st.floats(0.1, 10), st.integers(1, 12)
)
def test_kremser_with_two_inlets_equals_the_linear_system(x_in, y_in, d, ratio, stages):
    exact = kremser_by_stages(x_in, y_in, d, ratio, stages)
    scale = x_in + y_in / d
    assert float(shortcut.kremser_raffinate(x_in, y_in, d, ratio, stages)) == pytest.approx(
        exact, rel=1e-9, abs=1e-11 * scale
    )


def test_kremser_passes_smoothly_through_one():
    e = 1 + np.array([-1e-3, -1e-9, -1e-15, 0, 1e-15, 1e-9, 1e-3])
    values = shortcut.kremser_fraction(e, 9)
    assert values[3] == pytest.approx(0.1, rel=1e-15)
    assert np.all(np.diff(values) <= 1e-16)
    assert values[[1, 2, 4, 5]] == pytest.approx(0.1, rel=1e-8)
    # No overflow at any length of cascade.
    assert float(shortcut.kremser_fraction(100.0, 4000)) == 0
    assert float(shortcut.kremser_fraction(0.5, 4000)) == pytest.approx(0.5)


@given(st.floats(1.01, 20), st.floats(1.5, 1e6))
def test_kremser_stages_invert_the_fraction(e, ratio):
    n = shortcut.kremser_stages(e, ratio)
    assert 1 / float(shortcut.kremser_fraction(e, n)) == pytest.approx(ratio, rel=1e-6)


@given(beta, fraction)
def test_underwood_reduces_to_the_binary_form(factor, heavy):
    f = np.array([1 - heavy, heavy])
    a = np.array([1.0, factor])
    for phase in ("aqueous", "organic"):
        s, w = shortcut.minimum_flows(factor, heavy, phase)
        general = shortcut.minimum_solvent(a, f, [0.0, heavy], 1, phase)
        assert float(general) == pytest.approx(float(s), rel=1e-9)
        # W = S - f'_A (aqueous feed) and W = S + f'_B (organic feed).
        product = heavy if phase == "aqueous" else heavy - 1
        assert float(w) == pytest.approx(float(s) - product, rel=1e-9, abs=1e-9)


@given(st.lists(fraction, min_size=3, max_size=6), st.integers(0, 4), st.floats(0.1, 100))
def test_least_solvent_scales_and_ignores_the_unit_of_extractability(feed, cut, scale):
    f = np.array(feed)
    cut = 1 + cut % (len(f) - 1)
    a = 1.7 ** np.arange(len(f))
    d = np.where(np.arange(len(f)) >= cut, f, 0.0)
    one = float(shortcut.minimum_solvent(a, f, d, cut))
    assert float(shortcut.minimum_solvent(scale * a, f, d, cut)) == pytest.approx(one, rel=1e-8)
    assert float(shortcut.minimum_solvent(a, 3 * f, 3 * d, cut)) == pytest.approx(3 * one, rel=1e-8)
    # Components that do not compete at the cut can only add to the binary requirement.
    assert one > d.sum() * (1 - 1e-9)


def test_equal_elements_cannot_be_parted():
    assert float(shortcut.fenske(0.9, 0.9, 1.0)) == np.inf
    assert float(shortcut.minimum_flows(1.0, 0.5)[0]) == np.inf
    assert float(shortcut.minimum_solvent([1.0, 1.0], [0.5, 0.5], [0.0, 0.5], 1)) == np.inf


def test_pinch_compositions_lie_on_equilibrium_and_operating_line():
    for s, flow, net in ((1.7, 2.2, 5e-5), (3.15, 3.4, 1e-3), (1.7, 1.2, -0.5)):
        for x in shortcut.pinch(2.0, s, flow, net):
            y = 2 * x / (1 + x)
            assert s * y == pytest.approx(flow * x - net, abs=1e-12)


@pytest.mark.parametrize(
    "call",
    [
        lambda: shortcut.fenske(1.2, 0.9, 2.0),
        lambda: shortcut.fenske(0.9, 0.9, 0.5),
        lambda: shortcut.product_flows(0.4, 0.9, 0.5),
        lambda: shortcut.minimum_flows(2.0, 0.5, "gas"),
        lambda: shortcut.minimum_solvent([2.0, 1.0], [0.5, 0.5], [0.0, 0.5], 1),
        lambda: shortcut.minimum_solvent([1.0, 2.0], [0.5, 0.5], [0.0, 0.5], 2),
        lambda: shortcut.kremser_fraction(-1.0, 3),
        lambda: factors.extractabilities(
            Book(), "separation_factors/ep2388344-pc88a", ["Nd", "Dy"]
        ),
    ],
)
def test_nonsense_is_refused(call):
    with pytest.raises(InputError):
        call()


def test_extractabilities_follow_the_chain_of_neighbours():
    book = Book()
    a = factors.extractabilities(book, "separation_factors/pc88a-hcl", ["Dy", "Gd"])
    set_id = "separation_factors/pc88a-hcl:"
    assert a[0] / a[1] == pytest.approx(book[set_id + "Tb/Gd"] * book[set_id + "Dy/Tb"])
    assert set(book.used) == {set_id + "Tb/Gd", set_id + "Dy/Tb"}
    overridden = Book({set_id + "Dy/Tb": 4.0})
    assert factors.extractabilities(overridden, set_id[:-1], ["Tb", "Dy"])[1] == 4.0


@pytest.mark.parametrize(
    "set_id", ["separation_factors/pc88a-hcl", "separation_factors/p507-hcl-handbook"]
)
def test_the_shipped_series_is_ascending_and_agrees_with_the_published_products(set_id):
    book = Book()
    order = [name for name in species.RARE_EARTHS if name not in ("Pm", "Y", "Sc")]
    order.insert(order.index("Er"), "Y")
    a = dict(zip(order, factors.extractabilities(book, set_id, order), strict=True))
    assert list(a.values()) == sorted(a.values())
    # Single-element constants of Li (1987): Dy/Nd 560; Tanaka (2021): Y/Dy 3.14.
    assert a["Dy"] / a["Nd"] == pytest.approx(560, rel=0.25)
    assert a["Y"] / a["Dy"] == pytest.approx(3.14, rel=0.05)
