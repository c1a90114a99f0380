"""Speciation against closed forms, a brute-force scalar solver and an independent engine."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sepmodel.chemistry import speciation
from sepmodel.data import Book
from sepmodel.errors import InputError

BOOK = Book()
FOUR = ("Pr", "Nd", "Tb", "Dy")
EDTA = speciation.tableau(FOUR, ("EDTA",), BOOK)


def test_doctests():
    assert doctest.testmod(speciation).failed == 0


def test_ten_thousand_cells_without_a_failure():
    """Totals 1e-14 to 1 mol/L, pH 0 to 13, exact metal-ligand equivalence included."""
    rng = np.random.default_rng(0)
    totals = 10 ** rng.uniform(-11, 3, (10_000, 5))
    totals[:2000, 0] = totals[:2000, 4]
    totals[2000:3000] = totals[2000:3000, :1]
    s = speciation.solve(EDTA, totals, rng.uniform(0, 13, 10_000), BOOK, strength=0.1)
    assert s.residual < 1e-11
    assert s.safe_steps == 0
    for i, name in enumerate(EDTA.components[:-1]):
        np.testing.assert_allclose(s.total(name), totals[:, i], rtol=1e-11)


def brute_force(totals, pH):
    """Bisection on the free ligand; every metal eliminated. Another formulation, one cell."""
    t, h = EDTA, 10.0**-pH
    ln_beta = speciation.constants_at(t, 0.1, BOOK)[:, 0]
    metal = np.argmax(t.stoichiometry[:, :4] > 0, axis=1)
    has_metal = t.stoichiometry[:, :4].any(axis=1)
    beta = 10.0**ln_beta * h ** t.stoichiometry[:, 5]
    order = t.stoichiometry[:, 4]

    def excess(ligand):
        free = [
            totals[m]
            / sum(beta[has_metal & (metal == m)] * ligand ** order[has_metal & (metal == m)])
            for m in range(4)
        ]
        own = ~has_metal & (order > 0)
        bound = sum(
            free[m] * sum((order * beta * ligand**order)[has_metal & (metal == m)])
            for m in range(4)
        )
        return sum((order * beta * ligand**order)[own]) + bound - totals[4], free

    low, high = -80.0, np.log10(totals[4])
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(10**middle)[0] < 0 else (low, middle)
    return np.array([*excess(10**low)[1], 10**low])


def test_against_a_brute_force_scalar_solver():
    rng = np.random.default_rng(5)
    for _ in range(40):
        totals, pH = 10 ** rng.uniform(-14, 0, 5), rng.uniform(0, 13)
        s = speciation.solve(EDTA, totals * 1000, pH, BOOK, strength=0.1)
        np.testing.assert_allclose(np.exp(s.log_free[:5]), brute_force(totals, pH), rtol=1e-5)


def test_closed_form_of_a_single_complex():
    """M + L = ML: the quadratic."""
    t = speciation.tableau(("Nd",), ("lactate",), BOOK, hydroxide=False)
    s = speciation.solve(t, [10.0, 30.0], 9.0)
    k = 10 ** BOOK["ligands/lactate:log-K-Nd"]
    m, ligand = 0.01, 0.03
    b = m + ligand + 1 / k
    complexed = (b - np.sqrt(b * b - 4 * m * ligand)) / 2
    # The protonated ligand takes a share of 5e-6 at pH 9.
    assert float(s["Nd(lactate)"]) == pytest.approx(1000 * complexed, rel=1e-5)


@pytest.mark.parametrize(
    ("ligands", "anions"),
    [
        (("DTPA",), ()),
        (("citrate", "EDTA"), ()),
        (("HEDTA", "NTA"), ("Cl", "SO4")),
        (("malonate",), ("NO3",)),
        (("acetate", "lactate"), ("SO4",)),
        (("HIBA",), ("Cl",)),
    ],
)
def test_every_ligand_on_the_shelf(ligands, anions):
    t = speciation.tableau(FOUR, ligands, BOOK, anions=anions)
    rng = np.random.default_rng(2)
    totals = 10 ** rng.uniform(-11, 3, (500, len(t.components) - 1))
    s = speciation.solve(t, totals, rng.uniform(0, 13, 500), BOOK, strength=0.1)
    assert s.residual < 1e-11
    neutral = speciation.solve_charge(t, totals[:50], BOOK, strength=0.1, excess_charge=1.0)
    charge = neutral.conc @ t.species_charges + 1.0
    assert np.max(np.abs(charge) / (neutral.conc @ np.abs(t.species_charges))) < 1e-10


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(-11, 3), min_size=5, max_size=5),
    st.floats(0, 13),
    st.permutations([0, 1, 2, 3]),
)
def test_order_of_metals_and_company_do_not_matter(exponents, pH, order):
    totals = 10 ** np.array(exponents)
    alone = speciation.solve(EDTA, totals, pH, BOOK, strength=0.1)
    batch = speciation.solve(EDTA, np.vstack([totals, totals * 0.5]), pH, BOOK, strength=0.1)
    np.testing.assert_allclose(batch.conc[0], alone.conc, rtol=1e-9)
    other = speciation.tableau([FOUR[i] for i in order], ("EDTA",), BOOK)
    mixed = speciation.solve(other, totals[[*order, 4]], pH, BOOK, strength=0.1)
    for name in FOUR:
        assert float(mixed.total(name)) == pytest.approx(float(alone.total(name)), rel=1e-10)


def test_pH_of_textbook_solutions():
    acetate = speciation.tableau((), ("acetate",), BOOK)
    strong = speciation.tableau((), (), BOOK, anions=("Cl",))
    assert float(speciation.solve_charge(strong, [10.0]).pH) == pytest.approx(2.0, abs=1e-9)
    assert float(speciation.solve_charge(strong, [0.0]).pH) == pytest.approx(13.995 / 2)
    base = speciation.solve_charge(strong, [0.0], excess_charge=1.0)
    assert float(base.pH) == pytest.approx(13.995 - 3, abs=1e-6)
    # Half-neutralised acid: pH = pKa.
    half = speciation.solve_charge(acetate, [1000.0], excess_charge=500.0)
    assert float(half.pH) == pytest.approx(4.757, abs=1e-3)


def test_absent_components_are_zero():
    s = speciation.solve(EDTA, [10.0, 0.0, 0.0, 0.0, 5.0], 5.0, BOOK, strength=0.1)
    assert float(s["Nd(EDTA)"]) == 0
    assert float(s["Pr(EDTA)"]) == pytest.approx(5.0, rel=2e-3)


def test_heavier_rare_earths_hold_edta_better():
    s = speciation.solve(EDTA, [10.0, 10, 10, 10, 20], 5.0, BOOK, strength=0.1)
    shares = [float(s.free_fraction(m)) for m in FOUR]
    assert shares == sorted(shares, reverse=True)


# What llnl.dat holds: four entries with a lost sign or a placeholder.
@pytest.mark.parametrize(
    ("row", "culprits"),
    [
        (
            {
                "La": 3.643,
                "Ce": -3.687,
                "Pr": -3.687,
                "Nd": 3.643,
                "Gd": -3.687,
                "Sm": 3.643,
                "Eu": 3.643,
                "Tb": 3.643,
                "Dy": 3.643,
                "Ho": 3.57,
                "Er": 3.57,
                "Y": 3.4,
            },
            ("Ce", "Pr", "Gd"),
        ),
        ({"La": 5.1, "Pr": 4.9, "Nd": -255.7478, "Sm": 5.2, "Eu": 5.47, "Gd": 5.1}, ("Nd",)),
    ],
)
def test_known_wrong_entries_of_public_databases_are_refused(row, culprits):
    with pytest.raises(InputError, match="cannot be right") as caught:
        speciation.refuse_outliers(row, "sulfate")
    named = {str(p.value).split(":")[0] for p in caught.value.problems}
    assert named == set(culprits)


def test_a_wrong_constant_in_a_users_set_is_refused():
    book = Book().with_values({"speciation/inorganic-25C:log-b1-Ce-SO4": -3.687})
    with pytest.raises(InputError, match=r"Ce: -3\.687"):
        speciation.tableau(("Nd",), (), book, anions=("SO4",))


def test_refusals():
    with pytest.raises(InputError, match="unknown ligand"):
        speciation.tableau(("Nd",), ("EDDS",), BOOK)
    with pytest.raises(InputError, match="no constant is known with HIBA for"):
        speciation.tableau(("Tm",), ("HIBA",), BOOK, hydroxide=False)
    speciation.tableau(("Tm",), ("HIBA",), BOOK, hydroxide=False, unbound=("Tm",))
    with pytest.raises(InputError, match="different ionic strengths are mixed"):
        speciation.solve(EDTA, [1.0, 1, 1, 1, 1], 5.0)
    with pytest.raises(InputError, match="does not reach"):
        speciation.solve(EDTA, [1.0, 1, 1, 1, 1], 5.0, BOOK, strength=2.0)
    with pytest.raises(InputError, match="not negative"):
        speciation.solve(EDTA, [1.0, -1, 1, 1, 1], 5.0, BOOK, strength=0.1)
    with pytest.raises(InputError, match="one total for every component"):
        speciation.solve(EDTA, [1.0, 1], 5.0, BOOK, strength=0.1)


def test_the_ionic_strength_of_a_constant_is_part_of_it():
    """EDTA with Nd loosens by more than a decade from infinite dilution to 0.1 mol/L."""
    at = EDTA.species.index("Nd(EDTA)")
    fresh = speciation.constants_at(EDTA, 0.0, BOOK)[at, 0]
    same = speciation.constants_at(EDTA, 0.1, BOOK)[at, 0]
    assert same == pytest.approx(BOOK["ligands/edta:log-K-Nd"])
    assert 2.0 < fresh - same < 3.0


def test_hydroxide_limit_of_the_reference():
    """0.1 mol/L Nd precipitates above pH (20.49 + 1) / 3 = 7.2 as the fresh hydroxide."""
    t = speciation.tableau(("Nd",), (), BOOK)
    pH = np.array([7.0, 7.4])
    index = speciation.hydroxide_saturation(speciation.solve(t, [100.0], pH), "Nd", BOOK)
    assert index[0] < 0 < index[1]


def test_against_phreeqc():
    """EDTA with Nd and Dy at fixed pH, activity coefficients switched off in the engine."""
    engine = pytest.importorskip(
        "phreeqpython", reason="the independent engine is in the extra 'xcheck'"
    ).PhreeqPython(database="phreeqc.dat")
    t = speciation.tableau(("Nd", "Dy"), ("EDTA",), BOOK, hydroxide=False)
    s = speciation.solve(t, [1.0, 0.5, 1.2], 4.0, BOOK, strength=0.1)
    names = {"Nd": "Nd+3", "Dy": "Dy+3", "EDTA": "Edta-4", "H": "H+"}
    lines = [
        "SOLUTION_MASTER_SPECIES",
        "Nd Nd+3 0 Nd 144.242",
        "Dy Dy+3 0 Dy 162.5",
        "Edta Edta-4 0 288.2 288.2",
        "SOLUTION_SPECIES",
    ]
    for name in ("Nd", "Dy", "EDTA"):
        lines += [f"{names[name]} = {names[name]}", "log_k 0", "-gamma 1e9 0"]
    log_beta = speciation.constants_at(t, 0.1, BOOK)[:, 0]
    for i, (name, z) in enumerate(zip(t.species, t.species_charges, strict=True)):
        if i < 4:
            continue
        left = " + ".join(
            f"{int(n)} {names[c]}"
            for n, c in zip(t.stoichiometry[i], t.components, strict=True)
            if n
        )
        label = name.replace("(EDTA)", "Edta") + (f"{int(z):+d}" if z else "")
        lines += [f"{left} = {label}", f"log_k {float(log_beta[i])!r}", "-gamma 1e9 0"]
    lines += [
        "H+ = H+",
        "log_k 0",
        "-gamma 1e9 0",
        "SOLUTION 1",
        "units mol/kgw",
        "pH 4.0",
        "Nd 1e-3",
        "Dy 0.5e-3",
        "Edta 1.2e-3",
        "SELECTED_OUTPUT 1",
        "-reset false",
        "USER_PUNCH 1",
        "-headings Nd Dy",
        '10 PUNCH MOL("Nd+3"), MOL("Dy+3")',
        "END",
    ]
    engine.ip.run_string("\n".join(lines))
    table = engine.ip.get_selected_output_array()
    theirs = dict(zip(table[0], table[-1], strict=True))
    for metal in ("Nd", "Dy"):
        assert float(s[metal]) / 1000 == pytest.approx(theirs[metal], rel=2e-3)
