"""Several complexes of a metal: mixtures of two acids, polymers, neutral extractants."""

import doctest

import numpy as np
import pytest

from sepmodel.chemistry import (
    closing,
    complex_exchange,
    correlation_set,
    exchange_set,
    mixed_acids,
    neutral_set,
    polymers,
)
from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.chemistry.complex_exchange import ComplexExchange
from sepmodel.chemistry.contact import contact
from sepmodel.data import Book
from sepmodel.errors import InputError
from sepmodel.extraction.circuit import CircuitInputs, Inlet, Section
from sepmodel.extraction.circuit import solve as solve_circuit
from sepmodel.extraction.isotherms import Solvent, half_extraction, shake

Z = np.array([3.0, 3, 3, 1])
PC88A = "extractants/li1987-pc88a-ideal"
CYANEX = "extractants/cyanex272-chloride"
TBP = "extractants/kraikaew2005-tbp"


def acid(log10_k, dimers=Z):
    return CationExchange(
        log_k=np.log(10) * np.asarray(log10_k, dtype=float), charge=Z, dimers=np.asarray(dimers)
    )


STRONG, WEAK = acid([-2.2, 0.6, 0.9, -5.0]), acid([-5.5, -4.6, -4.0, -6.5])


def both(share=0.4, mixed_complexes=1.0, mixed_dimer=2.0, first=STRONG, second=WEAK):
    return mixed_acids.combine(
        first, second, share, mixed_complexes=mixed_complexes, mixed_dimer=mixed_dimer
    )


FEED = {"feed_aq": [60.0, 20, 10, 0], "acid": 20.0, "dimer": 500.0}


@pytest.mark.parametrize(
    "module",
    [closing, complex_exchange, correlation_set, mixed_acids, neutral_set, polymers, exchange_set],
)
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("share", [0.05, 0.5, 0.8])
@pytest.mark.parametrize("dimers", [(3, 3, 3, 1), (3, 3, 3, 0.5)], ids=str)
def test_an_acid_mixed_with_itself_is_the_acid(share, dimers):
    """Random pairing and random ligands change nothing, soap included."""
    one = acid([-2.2, 0.6, 0.9, -5.0], dimers)
    soap = [0, 0, 0, 150.0]
    mixture = contact(both(share, first=one, second=one), feed_org=soap, **FEED)
    alone = contact(one, feed_org=soap, **FEED)
    np.testing.assert_allclose(mixture.conc_org, alone.conc_org, rtol=1e-10)
    assert mixture.pH == pytest.approx(float(alone.pH), abs=1e-10)
    assert mixture.dimer == pytest.approx(float(alone.dimer), rel=1e-10)


def test_without_mixed_species_the_acids_add():
    """D = K1 d1^3 / h^3 + K2 d2^3 / h^3 with each acid's own dimer."""
    found = contact(both(mixed_complexes=0.0, mixed_dimer=0.0), **FEED)
    d1, d2, h = (np.exp(v) for v in found.u)
    expected = (np.exp(STRONG.log_k) * d1**Z + np.exp(WEAK.log_k) * d2**Z) / h**Z
    np.testing.assert_allclose(found.distribution_ratio, expected, rtol=1e-10)


def test_synergism_raises_distribution_and_antagonism_lowers_it():
    d = [
        float(contact(both(mixed_complexes=s), **FEED).distribution_ratio[0])
        for s in (0.0, 1.0, 3.0)
    ]
    assert d == sorted(d)
    strong = contact(STRONG, **FEED).distribution_ratio[0]
    weak = contact(WEAK, **FEED).distribution_ratio[0]
    assert weak < d[1] < strong


@pytest.mark.parametrize("salting", [False, True])
def test_derivatives_against_differences(salting):
    model = ComplexExchange(
        log_k=np.log([[0.1, 0.3, 0.02], [2.0, 0.1, 0.0 + 1e-300]]),
        order=np.array([[[3, 0], [2, 1], [0, 3]], [[2, 0], [1, 1], [0, 2.0]]]),
        charge=np.array([3.0, 2.0]),
        split=np.array([0.3, 0.7]),
        mixed=1.7,
        salting=salting,
    )
    rng = np.random.default_rng(1)
    u, totals = rng.normal(-1, 0.5, (4, 3)), np.tile([500.0, 80.0], (4, 1))
    x, y = rng.uniform(1, 50, (4, 2)), rng.uniform(1, 50, (4, 2))
    spot = model.spot(u, totals, x, y)
    step = 1e-6

    def difference(move):
        up, down = move(step), move(-step)
        return (up - down) / (2 * step)

    for k in range(3):
        e = np.eye(3)[k]
        np.testing.assert_allclose(
            difference(lambda t, e=e: model.spot(u + t * e, totals, x, y).residual),
            spot.by_u[..., k],
            atol=1e-8,
        )
        np.testing.assert_allclose(
            difference(lambda t, e=e: model.spot(u + t * e, totals).log_d),
            spot.slope[..., k],
            atol=1e-8,
        )
    for c in range(2):
        e = np.eye(2)[c]
        np.testing.assert_allclose(
            difference(lambda t, e=e: model.spot(u, totals, x + t * e, y).residual),
            spot.by_aq[..., c],
            atol=1e-8,
        )
        np.testing.assert_allclose(
            difference(lambda t, e=e: model.spot(u, totals, x, y + t * e).residual),
            spot.by_org[..., c],
            atol=1e-8,
        )


def extremes(n, rng):
    dimer = 10 ** rng.uniform(0, 3.2, n)
    org = np.zeros((n, 4))
    org[:, 3] = np.where(rng.random(n) < 0.5, 0.0, rng.uniform(0, 0.98, n)) * dimer
    return {
        "feed_aq": np.concatenate([10 ** rng.uniform(-11, 3, (n, 3)), np.zeros((n, 1))], axis=1),
        "acid": 10 ** rng.uniform(-3, 3.7, n),
        "dimer": dimer,
        "feed_org": org,
        "phase_ratio": 10 ** rng.uniform(-1.3, 1.3, n),
    }


def test_mixtures_close_at_random_extremes():
    found = contact(both(), **extremes(3000, np.random.default_rng(0)))
    assert found.closure.max() < 1e-10
    assert np.all(found.proton > 0)


def test_the_safe_way_finds_the_same_point():
    model, entering = both(), extremes(200, np.random.default_rng(3))
    found = contact(model, **entering)
    aq, org, ratio = entering["feed_aq"], entering["feed_org"], entering["phase_ratio"]
    charge = closing.Charge(
        amounts=aq + org * ratio[:, None],
        ratio=ratio,
        dimer=entering["dimer"],
        anions=aq @ Z + entering["acid"],
    )
    np.testing.assert_allclose(closing._minimise(model, charge), found.u, atol=1e-6)


def test_what_cannot_be_mixed_is_refused():
    book = Book()
    with pytest.raises(InputError, match="two activity bases"):
        mixed_acids.load(exchange_set.DEFAULT, CYANEX, 0.5, ("Nd",), book)
    with pytest.raises(InputError, match="share"):
        both(share=1.2)
    slope = acid([-2.2, 0.6, 0.9, -5.0], (2.466, 3, 3, 1))
    with pytest.raises(InputError, match="whole ligands"):
        both(first=slope, second=slope)
    with pytest.raises(InputError, match="same number of dimers"):
        both(second=acid([-5.5, -4.6, -4.0, -6.5], (3, 3, 3, 0.5)))


def test_a_mixture_stands_between_its_acids():
    """pH of half extraction of Nd: PC88A 1.02, Cyanex 272 2.14; the mixture in between."""
    found = [
        half_extraction(constants, 1000.0)["Nd"]
        for constants in (
            exchange_set.load(PC88A, ("Nd",), Book()),
            mixed_acids.load(PC88A, CYANEX, 0.5, ("Nd",), Book()),
            exchange_set.load(CYANEX, ("Nd",), Book()),
        )
    ]
    assert found == sorted(found)
    assert found[0] == pytest.approx(1.02, abs=0.01)
    assert found[2] == pytest.approx(2.14, abs=0.01)


def circuit(model, components, **more):
    """Three stages of extraction, one feed."""
    return solve_circuit(
        CircuitInputs(
            components=components,
            model=model,
            charge=model.charge,
            sections=(Section(name="extraction", stages=3),),
            organic_flow=1.0,
            organic_conc=np.zeros(len(components)),
            **more,
        )
    )


def stages_by_hand(model, feed, acid_in, dimer, stages=3, rounds=400):
    """Counter-current contacts, swept until they repeat: no circuit code."""
    org = np.zeros((stages + 1, len(feed)))
    for _ in range(rounds):
        aq, h = np.array(feed, dtype=float), acid_in
        for k in reversed(range(stages)):
            out = contact(model, feed_aq=aq, acid=h, dimer=dimer, feed_org=org[k])
            org[k + 1], aq, h = out.conc_org, out.conc_aq, float(out.proton)
    return aq, org[stages]


def test_a_circuit_with_a_mixture_of_acids():
    feed = np.array([60.0, 20, 10, 0])
    found = circuit(
        both(),
        ("Nd", "Dy", "Y", "Na"),
        dimer=500.0,
        inlets=(Inlet(name="feed", section="extraction", stage=3, flow=1.0, conc=feed, acid=20.0),),
    )
    raffinate, loaded = stages_by_hand(both(), feed, 20.0, 500.0)
    np.testing.assert_allclose(found.conc_aq[0, :3], raffinate[:3], rtol=1e-7)
    np.testing.assert_allclose(found.conc_org[-1, :3], loaded[:3], rtol=1e-7)


def test_tbp_takes_the_nitrate_along():
    """Closed form at trace level, and nitrate and TBP counted at plant level."""
    tbp = neutral_set.load(TBP, ("La", "Nd", "Y"), Book())
    trace = shake(tbp, {"Nd": 1e-6}, 0.0, Solvent(extractant=1000.0), salt=3000.0)
    assert float(trace.log_d[1] / np.log(10)) == pytest.approx(-1.14, abs=1e-3)  # as published
    plant = shake(
        tbp, {"La": 300.0, "Nd": 300.0, "Y": 100.0}, 100.0, Solvent(extractant=2000.0), salt=4000.0
    )
    nitrate = 4100.0 + 3 * 700.0 - 3 * plant.conc_org.sum()
    assert 1000 * np.exp(plant.u[1]) == pytest.approx(float(nitrate), rel=1e-10)
    assert plant.dimer == pytest.approx(2000.0 - 3 * float(plant.conc_org.sum()), rel=1e-10)
    assert plant.pH == pytest.approx(1.0)


def test_nitric_acid_competes_for_tbp():
    names = ("Nd", "H")
    tbp = neutral_set.load(TBP, names, Book())
    feed, solvent = {"Nd": 100.0}, Solvent(extractant=1000.0)
    d = [
        float(shake(tbp, feed, a, solvent, salt=3000.0 - a).log_d[0]) for a in (0.0, 500.0, 2000.0)
    ]
    assert d == sorted(d, reverse=True)
    found = shake(tbp, feed, 500.0, solvent, salt=2500.0)
    assert found.closure < 1e-10
    assert found.proton == pytest.approx(500.0 - float(found.conc_org[1]))


def test_neutral_extractants_refuse_what_acids_take():
    tbp = neutral_set.load(TBP, ("Nd",), Book())
    with pytest.raises(InputError, match="soap"):
        shake(tbp, {"Nd": 1.0}, 1.0, Solvent(extractant=1000.0, saponification=0.3))
    with pytest.raises(InputError, match="salting-out"):
        shake(
            exchange_set.load(PC88A, ("Nd",), Book()),
            {"Nd": 1.0},
            1.0,
            Solvent(extractant=1000.0),
            salt=1.0,
        )
    with pytest.raises(InputError, match="anions along"):
        exchange_set.load(TBP, ("Nd",), Book())
    with pytest.raises(InputError, match="neutral extractant"):
        neutral_set.load(PC88A, ("Nd",), Book())


def test_a_circuit_with_tbp():
    """The inert nitrate is what the inlets call acid, metals count for none of it."""
    tbp = neutral_set.load(TBP, ("La", "Nd"), Book())
    feed = np.array([200.0, 200.0])
    found = solve_circuit(
        CircuitInputs(
            components=("La", "Nd"),
            model=tbp.model,
            charge=np.zeros(2),
            sections=(Section(name="extraction", stages=3),),
            organic_flow=1.0,
            organic_conc=np.zeros(2),
            dimer=2000.0,
            inlets=(
                Inlet(name="feed", section="extraction", stage=3, flow=1.0, conc=feed, acid=4000.0),
            ),
        )
    )
    org = np.zeros((4, 2))
    for _ in range(200):
        aq = feed
        for k in reversed(range(3)):
            out = contact(tbp.model, feed_aq=aq, acid=4000.0, dimer=2000.0, feed_org=org[k])
            org[k + 1], aq = out.conc_org, out.conc_aq
    np.testing.assert_allclose(found.conc_aq[0], aq, rtol=1e-8)


def test_polymers_pass_the_limit_of_one_metal_per_six_monomers():
    plain = exchange_set.load(PC88A, ("Dy",), Book())
    chained = polymers.with_polymers(plain, Book())
    hard = {"feed_aq": [5000.0], "acid": 1e-3, "dimer": 500.0}
    # Ten decades of K more, so that the protons released do not stop the extraction first.
    stronger = [m.shifted(np.array([10 * np.log(10)])) for m in (plain.model, chained.model)]
    loading = [float(contact(m, **hard).conc_org[0] / 1000) for m in stronger]
    assert loading[0] < 1 / 6 < loading[1] < 1 / 3
    # At a tenth of the limit both are the same within the weight of the polymer.
    easy = {"feed_aq": [16.0], "acid": 100.0, "dimer": 500.0}
    few = [float(contact(m, **easy).conc_org[0]) for m in (plain.model, chained.model)]
    assert few[0] == pytest.approx(few[1], rel=0.02)
    none = Book().with_values({"extractants/pc88a:polymer": 1e-12})
    same = contact(polymers.with_polymers(plain, none).model, **easy)
    assert float(same.conc_org[0]) == pytest.approx(few[0], rel=1e-9)


def test_temperature_only_where_an_enthalpy_was_measured():
    tbp = neutral_set.load(TBP, ("Sm", "Nd"), Book())
    with pytest.raises(InputError, match="no enthalpy"):
        exchange_set.temperature_shift(tbp, 320.0, Book())
    acids = exchange_set.load(PC88A, ("Nd",), Book())
    with pytest.raises(InputError, match="no enthalpy"):
        exchange_set.temperature_shift(acids, 320.0, Book())
    only = neutral_set.load(TBP, ("Sm",), Book())
    shift = exchange_set.temperature_shift(only, 308.0, Book())
    assert shift[0] == pytest.approx(43300 / 8.314 * (1 / 308 - 1 / 298), rel=1e-3)
    assert exchange_set.temperature_shift(only, 298.0, Book())[0] == 0


DEHPA = "extractants/prommis-dehpa-sulfate"


def test_a_correlation_gives_its_published_values_and_closes():
    """D at 5 vol % and pH 2 as evaluated from the published coefficients; every balance closed."""
    names = ("La", "Ce", "Gd", "Dy", "Fe")
    found = correlation_set.load(DEHPA, names, Book())
    extractant = 5 / found.model.dosage
    # Trace metals, so that the dosage stays 5: sulfuric acid at pH 2 with its bisulfate.
    sulfate, h, ka = 100.0, 10.0, 1000 * found.model.ka2
    acid = h + sulfate * h / (h + ka)
    one = shake(
        found, dict.fromkeys(names, 1e-6), acid, Solvent(extractant=extractant), sulfate=sulfate
    )
    assert one.pH == pytest.approx(2.0, abs=1e-6)
    expected = [0.141, 0.148, 1.05, 41.7, 0.1496]
    np.testing.assert_allclose(one.distribution_ratio, expected, rtol=5e-3)
    rng = np.random.default_rng(0)
    many = contact(
        found.model,
        feed_aq=10 ** rng.uniform(-6, 1.5, (500, 5)),
        acid=10 ** rng.uniform(0, 3, 500),
        dimer=1000.0,
        sulfate=10 ** rng.uniform(0, 3, 500),
        phase_ratio=10 ** rng.uniform(-1, 1, 500),
    )
    assert many.closure.max() < 1e-10


def test_sulfate_belongs_to_correlations_alone():
    found = correlation_set.load(DEHPA, ("Nd",), Book())
    with pytest.raises(InputError, match="sulfate"):
        contact(found.model, feed_aq=[1.0], acid=10.0, dimer=100.0)
    with pytest.raises(InputError, match="sulfate"):
        contact(STRONG, sulfate=10.0, **FEED)
    with pytest.raises(InputError, match="no correlation of"):
        correlation_set.load(DEHPA, ("Tb",), Book())
    with pytest.raises(InputError, match="not a correlation"):
        correlation_set.load(PC88A, ("Nd",), Book())
    with pytest.raises(InputError, match="no constants"):
        found.log_k  # noqa: B018
