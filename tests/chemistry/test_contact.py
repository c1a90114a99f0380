"""One contact: balances at random extremes, closed forms, soap, activities."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepmodel.chemistry import activity, contact
from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.data import Book
from sepmodel.errors import InputError

Z = np.array([3.0, 3, 3, 3, 1])
NAMES = ("Pr", "Nd", "Tb", "Dy", "Na")


def model(log10_k, dimers=Z, charge=Z):
    return CationExchange(
        log_k=np.log(10) * np.asarray(log10_k, dtype=float), charge=charge, dimers=dimers
    )


PLANT = model([-2.42, -2.15, 0.15, 0.6, -5])


def test_doctests():
    assert doctest.testmod(contact).failed == 0


def random_batch(rng, n, dimers):
    """Acid and saponified contacts from traces to overload, phase ratios 1:20 to 20:1."""
    log_k = np.concatenate([rng.uniform(-4, 3, (n, 4)), rng.uniform(-7, -3, (n, 1))], axis=1)
    feed = np.concatenate([10 ** rng.uniform(-11, 3, (n, 4)), np.zeros((n, 1))], axis=1)
    dimer = 10 ** rng.uniform(0, 3.2, n)
    soap = np.where(rng.random(n) < 0.5, 0.0, rng.uniform(0, 0.98, n)) * dimer
    org = np.zeros((n, 5))
    org[:, 4] = soap / max(dimers[4], 1)
    return (
        contact.contact(
            model(log_k, dimers),
            feed_aq=feed,
            acid=10 ** rng.uniform(-3, 3.7, n),
            dimer=dimer,
            feed_org=org,
            phase_ratio=10 ** rng.uniform(-1.3, 1.3, n),
        ),
        feed,
        org,
        dimer,
    )


@pytest.mark.parametrize(
    "dimers", [(3, 3, 3, 3, 1), (3, 3, 3, 3, 0.5), (2.5, 2.5, 2.5, 2.5, 1)], ids=str
)
def test_balances_close_at_random_extremes(dimers):
    found, _, _, dimer = random_batch(np.random.default_rng(0), 20_000, np.array(dimers))
    assert found.closure.max() < 1e-10
    assert np.all(found.conc_aq >= 0)
    assert np.all(found.proton > 0)
    assert np.all(found.conc_org @ np.array(dimers) <= dimer * (1 + 1e-12))


def test_mass_action_holds():
    one = contact.contact(PLANT, feed_aq=[10.0, 20, 3, 4, 0], acid=50.0, dimer=500.0)
    d, h = one.dimer / 1000, one.proton / 1000
    np.testing.assert_allclose(
        np.log(one.distribution_ratio), PLANT.log_k + Z * np.log(d / h), rtol=1e-9
    )
    assert one.safe == 0


def test_batch_equals_single_and_order_does_not_matter():
    rng = np.random.default_rng(4)
    feed = np.concatenate([rng.uniform(0.1, 80, (6, 4)), np.zeros((6, 1))], axis=1)
    batch = contact.contact(PLANT, feed_aq=feed, acid=30.0, dimer=450.0)
    for i in range(6):
        single = contact.contact(PLANT, feed_aq=feed[i], acid=30.0, dimer=450.0)
        np.testing.assert_allclose(batch.conc_org[i], single.conc_org, rtol=1e-12)
    order = [3, 1, 0, 2, 4]
    other = model(PLANT.log_k[order] / np.log(10))
    mixed = contact.contact(other, feed_aq=feed[:, order], acid=30.0, dimer=450.0)
    np.testing.assert_allclose(mixed.conc_org, batch.conc_org[:, order], rtol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.1, 10), st.floats(1, 200), st.floats(0, 0.9))
def test_only_volumes_in_proportion_count(ratio, metal, soap):
    """m3 of both phases scaled together change nothing; O/A = r equals r passes in one volume."""
    org = [0, 0, 0, 0, soap * 500.0]
    one = contact.contact(
        PLANT,
        feed_aq=[metal, metal, 0, 0, 0],
        acid=10.0,
        dimer=500.0,
        feed_org=org,
        phase_ratio=ratio,
    )
    n = one.conc_aq + ratio * one.conc_org
    np.testing.assert_allclose(n, np.array([metal, metal, 0, 0, ratio * org[4]]), atol=1e-9)


def test_protons_and_sodium_are_counted():
    """Na released = 3 x rare earth extracted + protons the organic takes up (mol)."""
    org = np.array([0, 0, 0, 0, 175.0])
    c = contact.contact(PLANT, feed_aq=[40.0, 60, 2, 5, 0], acid=100.0, dimer=500.0, feed_org=org)
    released = org[4] - c.conc_org[4]
    taken_up = 100.0 - c.proton
    assert released == pytest.approx(3 * c.conc_org[:4].sum() + taken_up, rel=1e-10)


def test_a_saponified_feed_does_not_respond_with_a_pH_slope_of_three():
    """d log D / d pH of an acid solvent is 3; with soap the acid is consumed and D hardly moves.

    What is varied is the acid of the feed, as an engineer would.
    """
    acid = np.array([1.0, 2.0, 4.0, 8.0])
    feed = [0.0, 100.0, 0, 0, 0]
    soap = [0, 0, 0, 0, 175.0]
    plain = contact.contact(PLANT, feed_aq=feed, acid=acid, dimer=500.0)
    soaped = contact.contact(PLANT, feed_aq=feed, acid=acid, dimer=500.0, feed_org=soap)

    def slope(found):
        log_d = np.log10(found.distribution_ratio[:, 1])
        return np.polyfit(-np.log10(acid), log_d, 1)[0]

    assert abs(slope(soaped)) < 0.3
    # With the equilibrium pH on the axis the free exchanger shows its slope of 3 ...
    trace = contact.contact(PLANT, feed_aq=[0, 1e-6, 0, 0, 0], acid=acid * 20, dimer=500.0)
    log_d = np.log10(trace.distribution_ratio[:, 1])
    assert np.polyfit(trace.pH, log_d, 1)[0] == pytest.approx(3, abs=1e-3)
    # ... and the soap moves D by more than any acid in this range.
    d_soaped, d_plain = soaped.distribution_ratio[:, 1], plain.distribution_ratio[:, 1]
    assert d_soaped.min() > 4 * d_plain.max()


def test_loading_stays_below_the_stoichiometric_limit():
    c = contact.contact(PLANT, feed_aq=[0, 0, 0, 5000.0, 0], acid=1e-3, dimer=500.0)
    loading = float(c.conc_org[3] / 1000.0)
    assert 0.13 < loading < 1 / 6


def test_limits_of_distribution():
    nothing = contact.contact(
        model([-40, -40, -40, -40, -40]), feed_aq=[1, 1, 1, 1, 0], acid=1, dimer=500.0
    )
    assert np.all(nothing.conc_org < 1e-20)
    everything = contact.contact(
        model([30, 30, 30, 30, -5]), feed_aq=[1, 1, 1, 1, 0], acid=1, dimer=500.0
    )
    assert np.all(everything.conc_aq[:4] < 1e-20)
    assert everything.proton == pytest.approx(13.0)


def test_common_shift_of_constants_leaves_separations_alone():
    shifted = model(PLANT.log_k / np.log(10) + np.array([0.3, 0.3, 0.3, 0.3, 0.1]))
    for m in (PLANT, shifted):
        c = contact.contact(m, feed_aq=[10.0, 20, 3, 4, 0], acid=50.0, dimer=500.0)
        ratio = c.distribution_ratio
        assert ratio[1] / ratio[0] == pytest.approx(10 ** (2.42 - 2.15))


@pytest.mark.parametrize("name", ["sit", "pitzer"])
def test_activities_enter_the_mass_action(name):
    ions = ("H", *NAMES, "Cl")
    book = Book()
    gammas = activity.build(name, ions, book)
    c = contact.contact(
        PLANT,
        feed_aq=[10.0, 20, 3, 4, 0],
        acid=50.0,
        dimer=500.0,
        feed_org=[0, 0, 0, 0, 100.0],
        activity=gammas,
        components=NAMES,
    )
    chloride = 3 * 37 + 50.0
    molality = np.array([c.proton, *c.conc_aq, chloride]) / gammas.water
    ln_gamma = gammas.ln_gamma(molality)
    left = np.log(c.distribution_ratio)
    right = PLANT.log_k + ln_gamma[1:-1] - Z * ln_gamma[0] + Z * np.log(c.dimer / c.proton)
    np.testing.assert_allclose(left, right, atol=1e-9)
    assert float(c.closure) < 1e-10


def test_refusals():
    with pytest.raises(InputError, match="negative or not finite"):
        contact.contact(PLANT, feed_aq=[-1.0, 0, 0, 0, 0], acid=1.0, dimer=500.0)
    with pytest.raises(InputError, match="more than its dimer can bind"):
        contact.contact(
            PLANT, feed_aq=[1.0, 0, 0, 0, 0], acid=1.0, dimer=500.0, feed_org=[0, 0, 0, 0, 600.0]
        )
    with pytest.raises(InputError, match="more base enters"):
        contact.contact(PLANT, feed_aq=[1.0, 0, 0, 0, 900.0], acid=-900.0, dimer=500.0)
    davies = activity.build("davies", ("H", *NAMES, "Cl"), Book())
    with pytest.raises(InputError, match="does not reach"):
        contact.contact(
            PLANT,
            feed_aq=[100.0, 0, 0, 0, 0],
            acid=500.0,
            dimer=500.0,
            activity=davies,
            components=NAMES,
        )


def test_a_guess_beyond_all_numbers_is_silent():
    """Moles that overflow a concentration are judged by Newton, not told as numerical warnings."""
    model = CationExchange(
        log_k=np.log([0.01, 0.02]), charge=np.array([3.0, 3.0]), dimers=np.array([3.0, 3.0])
    )
    with np.errstate(all="raise"):
        u = model.guess(
            np.full((1, 2), 1e307),
            np.full(1, 1e-3),
            np.full(1, 1e-3),
            np.array([[500.0, 1000.0, 0.0]]),
        )
    assert np.isfinite(u).all()
