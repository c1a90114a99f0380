"""Activity coefficients against closed forms, published tables and an independent engine."""

import doctest

import numpy as np
import pytest

from sepmodel.chemistry import activity
from sepmodel.data import Book
from sepmodel.errors import InputError

IONS = ("H", "Na", "NH4", "Nd", "Dy", "Cl")


def mean_gamma(name, cation, molality, charge=1):
    model = activity.build(name, (cation, "Cl"), Book())
    ln_gamma = model.ln_gamma(np.array([molality, charge * molality]))
    return float(np.exp(ln_gamma @ np.array([1, charge]) / (1 + charge)))


def test_doctests():
    assert doctest.testmod(activity).failed == 0


# Hamer and Wu (1972), as tabulated in the CRC Handbook (hamer-wu1972); the table prints 3 digits.
@pytest.mark.parametrize(
    ("cation", "molality", "published"),
    [
        ("H", 0.1, 0.797),
        ("H", 0.5, 0.759),
        ("H", 1.0, 0.811),
        ("H", 2.0, 1.009),
        ("Na", 0.1, 0.778),
        ("Na", 0.5, 0.681),
        ("Na", 1.0, 0.657),
        ("Na", 2.0, 0.668),
        ("NH4", 0.1, 0.770),
        ("NH4", 0.5, 0.649),
        ("NH4", 1.0, 0.603),
        ("NH4", 2.0, 0.569),
    ],
)
def test_pitzer_reproduces_published_mean_activity_coefficients(cation, molality, published):
    assert mean_gamma("pitzer", cation, molality) == pytest.approx(published, abs=0.005)
    assert mean_gamma("sit", cation, molality) == pytest.approx(published, rel=0.03)


@pytest.mark.parametrize("name", ["davies", "sit", "pitzer"])
def test_every_model_meets_the_limiting_law(name):
    """ln gamma -> -A z^2 sqrt(I) as I -> 0."""
    model = activity.build(name, ("H", "Nd", "Cl"), Book())
    molality = np.array([1e-9, 1e-9, 4e-9])
    strength = activity.ionic_strength(molality, np.array([1.0, 3.0, -1.0]))
    expected = -0.509 * np.log(10) * np.array([1, 9, 1]) * np.sqrt(strength)
    np.testing.assert_allclose(model.ln_gamma(molality), expected, rtol=6e-3)


def test_the_mixing_integral_against_direct_quadrature():
    """Pitzer (1975): J(x) from its definition, and his own fit within its stated accuracy."""
    quad = pytest.importorskip("scipy.integrate").quad
    for x in (0.03, 0.3, 1.0, 5.0, 30.0, 200.0):
        value, _ = quad(
            lambda y, x=x: -np.expm1(-x / y * np.exp(-y)) * y * y, 1e-9, 60, limit=400, epsabs=1e-13
        )
        direct = x / 4 - 1 + value / x
        j, x_slope = activity.mixing_integral(np.array([x]))
        assert j[0] == pytest.approx(direct, rel=1e-8, abs=1e-9)
        fit = x / (4 + 4.581 * x**-0.7237 * np.exp(-0.0120 * x**0.528))
        assert j[0] == pytest.approx(fit, rel=0.05)
        h = 1e-5
        ends = activity.mixing_quadrature(np.array([x * np.exp(h), x * np.exp(-h)]))
        assert x_slope[0] == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-8)


@pytest.mark.parametrize("name", ["sit", "pitzer"])
def test_slopes_are_symmetric_and_match_differences(name):
    """d ln gamma_i / d m_j is the Hessian of an excess Gibbs energy (Gibbs-Duhem)."""
    model = activity.build(name, IONS, Book())
    rng = np.random.default_rng(3)
    for _ in range(5):
        molality = rng.uniform(0.01, 0.5, len(IONS))
        slopes = activity.slopes(model, molality)
        np.testing.assert_allclose(slopes, slopes.T, atol=1e-12)
        h = 1e-6 * np.eye(len(IONS))
        difference = (model.ln_gamma(molality + h) - model.ln_gamma(molality - h)) / 2e-6
        np.testing.assert_allclose(slopes.T, difference, rtol=1e-6, atol=1e-7)


def test_batches_and_order_of_ions():
    rng = np.random.default_rng(1)
    molality = rng.uniform(0, 0.5, (4, 3, len(IONS)))
    model = activity.build("pitzer", IONS, Book())
    batch = model.ln_gamma(molality)
    np.testing.assert_allclose(batch[2, 1], model.ln_gamma(molality[2, 1]), rtol=1e-14)
    order = [5, 3, 0, 4, 2, 1]
    other = activity.build("pitzer", [IONS[i] for i in order], Book())
    np.testing.assert_allclose(other.ln_gamma(molality[..., order]), batch[..., order], atol=1e-12)


def test_equal_charges_have_no_electrostatic_mixing_term():
    """E-theta vanishes for like charges: a Na-NH4 mixture does not know of it."""
    from dataclasses import replace

    model = activity.build("pitzer", ("Na", "NH4", "Cl"), Book())
    molality = np.array([0.5, 0.3, 0.8])
    np.testing.assert_array_equal(
        model.ln_gamma(molality), replace(model, electrostatic=False).ln_gamma(molality)
    )
    mixed = activity.build("pitzer", ("H", "Nd", "Cl"), Book())
    molality = np.array([0.5, 0.3, 1.4])
    without = replace(mixed, electrostatic=False).ln_gamma(molality)
    # Of the order of 0.2 to 0.5 in ln gamma of the rare earth: not a refinement.
    assert abs(mixed.ln_gamma(molality)[1] - without[1]) > 0.1


def test_refusals():
    book = Book()
    davies = activity.build("davies", ("H", "Nd", "Cl"), book)
    with pytest.raises(InputError, match="does not reach this ionic strength"):
        davies.ln_gamma(np.array([0.1, 0.1, 0.4]))
    with pytest.raises(InputError, match="has no beta0 for the pair"):
        activity.build("pitzer", ("Fe", "Cl"), book)
    with pytest.raises(InputError, match="has no epsilon for the pair"):
        activity.build("sit", ("La", "SO4"), book)
    with pytest.raises(InputError, match="unknown activity model"):
        activity.build("uniquac", ("H", "Cl"), book)
    assert activity.unlimited(davies).ln_gamma(np.array([1.0, 1.0, 4.0])).shape == (3,)


def test_the_estimated_parameters_show_their_effect():
    """The unknown H-Ln mixing term moves ln(gamma_Nd / gamma_H^3) by less than 0.1 decade."""
    key = "activity/pitzer-25C:theta_H_Ln"
    molality = np.array([0.3, 0.2, 0.9])
    shifts = []
    book = Book()
    activity.build("pitzer", ("H", "Nd", "Cl"), book)
    for value in book.used[key].si_range:
        model = activity.build("pitzer", ("H", "Nd", "Cl"), Book().with_values({key: value}))
        ln_gamma = model.ln_gamma(molality)
        shifts.append((ln_gamma[1] - 3 * ln_gamma[0]) / np.log(10))
    assert book.used[key].provenance == "estimated"
    assert 0.01 < abs(shifts[1] - shifts[0]) < 0.1


def phreeqc_gammas(molalities):
    """log10 gamma from PHREEQC's own Pitzer code, fed with sepmodel's parameters."""
    engine = pytest.importorskip(
        "phreeqpython", reason="the independent engine is in the extra 'xcheck'"
    ).PhreeqPython(database="pitzer.dat")
    model = activity.build("pitzer", tuple(molalities), Book())
    at = list(molalities).index
    lines = ["PITZER", "-MacInnes false", "-ETHETA true"]
    names = {"H": "H+", "Na": "Na+", "Nd": "Nd+3", "Cl": "Cl-"}
    for keyword, table in (("-B0", model.beta0), ("-B1", model.beta1)):
        lines.append(keyword)
        lines += [f"{names[i]} Cl- {float(table[at(i), at('Cl')])!r}" for i in ("H", "Na", "Nd")]
    lines.append("-C0")
    for ion in ("H", "Na", "Nd"):
        z = model.charges[at(ion)]
        lines.append(f"{names[ion]} Cl- {float(model.c[at(ion), at('Cl')] * 2 * np.sqrt(z))!r}")
    lines.append("-THETA")
    for a, b in (("H", "Na"), ("H", "Nd"), ("Na", "Nd")):
        lines.append(f"{names[a]} {names[b]} {float(model.theta[at(a), at(b)])!r}")
    lines.append("-PSI")
    for a, b in (("H", "Na"), ("H", "Nd"), ("Na", "Nd")):
        lines.append(f"{names[a]} {names[b]} Cl- {float(model.psi[at(a), at(b), at('Cl')])!r}")
    text = "\n".join(
        [
            "SOLUTION_MASTER_SPECIES",
            "Nd Nd+3 0 Nd 144.242",
            "SOLUTION_SPECIES",
            "Nd+3 = Nd+3",
            "log_k 0",
            *lines,
            "SOLUTION 1",
            "units mol/kgw",
            f"pH {-np.log10(molalities['H'])} charge",
            f"Na {molalities['Na']}",
            f"Nd {molalities['Nd']}",
            f"Cl {molalities['Cl']}",
            "SELECTED_OUTPUT 1",
            "-reset false",
            "USER_PUNCH 1",
            "-headings gH gNa gNd gCl mH",
            '10 PUNCH LG("H+"), LG("Na+"), LG("Nd+3"), LG("Cl-"), MOL("H+")',
            "END",
        ]
    )
    engine.ip.run_string(text)
    head, row = engine.ip.get_selected_output_array()[:1], engine.ip.get_selected_output_array()[-1]
    return model, dict(zip(head[0], row, strict=True))


@pytest.mark.parametrize(
    ("acid", "sodium", "neodymium"), [(0.1, 0.05, 0.05), (0.5, 0.3, 0.3), (2.0, 0.1, 0.5)]
)
def test_pitzer_against_phreeqc(acid, sodium, neodymium):
    molalities = {"H": acid, "Na": sodium, "Nd": neodymium, "Cl": acid + sodium + 3 * neodymium}
    model, theirs = phreeqc_gammas(molalities)
    ours = model.ln_gamma(np.array([theirs["mH"], sodium, neodymium, molalities["Cl"]])) / np.log(
        10
    )
    for value, name in zip(ours, ("gH", "gNa", "gNd", "gCl"), strict=True):
        # PHREEQC computes its own Debye-Hueckel slope (0.3915 within 1e-4) and fits J.
        assert value == pytest.approx(theirs[name], abs=3e-3)
