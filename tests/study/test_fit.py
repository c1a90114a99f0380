"""Constants from shake-outs: exact data, coverage, outliers, soap, identifiability, Li (1987)."""

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sepmodel.data import Book
from sepmodel.errors import InputError
from sepmodel.study import cross_validation, shakeout
from sepmodel.study import fit as fitting
from sepmodel.study.fit import Options, fit

ELEMENTS = ("Pr", "Nd", "Sm")
TRUTH = np.array([-2.4, -2.2, -1.0, 0.1])
KNOWN_ERROR = Options(scaled=False, relative_error=0.03)
LI = Path(__file__).parents[2] / "validation" / "li1987-pc88a" / "shakeouts.csv"


def design(soap=0.0):
    """Singles and mixtures of three metals in two laboratories; nothing measured yet."""
    singles = ([1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 1, 1])
    rows = [
        (lab, [c * share for share in shares], acid)
        for lab in ("A", "B")
        for shares in singles
        for c in (20.0, 60.0, 150.0)
        for acid in (10.0, 60.0)
    ]
    n = len(rows)
    return shakeout.ShakeOuts(
        elements=ELEMENTS,
        laboratory=tuple(r[0] for r in rows),
        label=("",) * n,
        acid=np.array([r[2] for r in rows]),
        extractant=np.full(n, 1000.0),
        phase_ratio=np.where(np.arange(n) % 3 == 0, 0.5, 1.0),
        saponification=np.where(np.arange(n) % 2 == 0, soap, 0.0),
        feed=np.array([r[1] for r in rows]),
        raffinate=np.full((n, 3), np.nan),
        pH=np.full(n, np.nan),
        used=np.ones(n, dtype=bool),
    )


def measured(table, options=KNOWN_ERROR, truth=TRUTH):
    """The table with the raffinates the model says."""
    forward = fitting.Forward.build(table, options, Book())
    d = 10 ** fitting.predict(forward, truth)["log_d"]
    return replace(table, raffinate=table.feed / (1 + d * table.phase_ratio[:, None]))


def noisy(table, rng, error=0.03):
    shape = table.feed.shape
    return replace(
        table,
        feed=table.feed * (1 + error * rng.standard_normal(shape)),
        raffinate=table.raffinate * (1 + error * rng.standard_normal(shape)),
    )


@pytest.mark.parametrize("soap", [0.0, 0.3])
@pytest.mark.parametrize("activity", ["ideal", "pitzer"])
def test_exact_data_give_back_the_constants(soap, activity):
    options = replace(KNOWN_ERROR, activity=activity)
    truth = TRUTH + (np.array([1, 1, 1, 0]) if activity == "pitzer" else 0)
    found = fit(measured(design(soap), options, truth), options)
    np.testing.assert_allclose(found.values, truth, atol=2e-6)
    assert found.offsets == pytest.approx({"A": 0.1, "B": -0.1}, abs=1e-5)
    assert found.unidentified == ()
    assert all(rms < 1e-5 for _, rms in found.rms_log_d().values())


def coverage(repeats, seed=7):
    table, rng, hits = measured(design()), np.random.default_rng(seed), []
    for _ in range(repeats):
        found = fit(noisy(table, rng), KNOWN_ERROR)
        bounds = [found.interval(name) for name in found.names]
        hits += [low <= t <= high for t, (low, high) in zip(TRUTH, bounds, strict=True)]
    return np.mean(hits)


def test_intervals_cover_the_truth():
    """A short version of the slow test below."""
    assert 0.87 <= coverage(25) <= 1.0


@pytest.mark.slow
def test_95_percent_intervals_cover_92_to_98_percent():
    assert 0.92 <= coverage(200) <= 0.98


def test_robust_loss_withstands_outliers():
    """Four raffinates of sixty wrong by a factor two: the robust fit moves far less."""
    rng = np.random.default_rng(3)
    table = noisy(measured(design()), rng)
    bad = table.raffinate.copy()
    bad[[1, 13, 22, 40]] *= 0.5
    spoilt = replace(table, raffinate=bad)
    linear = fit(spoilt, offsets=False).values - TRUTH[:3]
    robust = fit(spoilt, offsets=False, loss="soft_l1")
    assert np.abs(robust.values - TRUTH[:3]).max() < 0.5 * np.abs(linear).max()


def outliers(table, rng, share=0.05, factor=1.5):
    """A share of the raffinates wrong by a factor, up or down."""
    bad = rng.random(table.raffinate.shape) < share
    wrong = np.where(rng.random(bad.shape) < 0.5, factor, 1 / factor)
    return replace(table, raffinate=np.where(bad, table.raffinate * wrong, table.raffinate))


@pytest.mark.parametrize("spoilt", [False, True], ids=["clean", "outliers"])
def test_sandwich_covariance_agrees_with_the_spread_of_robust_fits(spoilt):
    """Also with one raffinate in twenty wrong by half: the errors said are those made."""
    table, rng = measured(design()), np.random.default_rng(11)
    options, fits = Options(loss="soft_l1"), []
    for _ in range(25):
        sample = noisy(table, rng)
        fits.append(fit(outliers(sample, rng) if spoilt else sample, options))
    spread = np.std([f.values for f in fits], axis=0)
    said = np.mean([np.sqrt(np.diag(f.covariance)) for f in fits], axis=0)
    np.testing.assert_allclose(said, spread, rtol=0.5)


@pytest.mark.slow
def test_robust_intervals_cover_with_outliers():
    """200 fits with 5 % of the raffinates wrong: pooled coverage of the 95 % intervals."""
    table, rng, hits = measured(design()), np.random.default_rng(17), []
    for _ in range(200):
        found = fit(outliers(noisy(table, rng), rng), Options(loss="soft_l1"))
        bounds = [found.interval(name) for name in found.names]
        hits += [low <= t <= high for t, (low, high) in zip(TRUTH, bounds, strict=True)]
    assert 0.92 <= np.mean(hits) <= 0.98


def test_an_error_larger_than_stated_is_noticed():
    table = noisy(measured(design()), np.random.default_rng(5), error=0.12)
    honest, naive = fit(table), fit(table, scaled=False)
    assert honest.chi_squared / honest.freedom > 6
    assert np.all(np.diag(honest.covariance) > 4 * np.diag(naive.covariance))


def test_what_cannot_be_told_apart_is_named():
    """Two laboratories without a common metal: a level and a constant are the same thing."""
    table = measured(design())
    only = np.array(
        [
            (lab == "A" and f[2] == 0) or (lab == "B" and f[0] == f[1] == 0)
            for lab, f in zip(table.laboratory, table.feed, strict=True)
        ]
    )
    found = fit(table.rows(only))
    assert len(found.unidentified) == 1
    assert "level of A" in found.unidentified[0]
    assert found.interval("Sm") == (-np.inf, np.inf)
    with pytest.raises(InputError, match="do not determine"):
        found.to_toml(title="ours", source="judgement")
    # Without levels everything is determined.
    assert fit(table.rows(only), offsets=False).unidentified == ()


def test_order_of_rows_and_units_do_not_matter():
    table = noisy(measured(design()), np.random.default_rng(2))
    order = np.random.default_rng(0).permutation(len(table))
    mixed = replace(
        table,
        laboratory=tuple(table.laboratory[i] for i in order),
        **{
            name: getattr(table, name)[order]
            for name in (
                "acid",
                "extractant",
                "phase_ratio",
                "saponification",
                "feed",
                "raffinate",
                "pH",
                "used",
            )
        },
    )
    one, two = fit(table), fit(mixed)
    for element in ELEMENTS:
        assert one.log_k[element] == pytest.approx(two.log_k[element], abs=1e-6)


def test_the_data_set_that_comes_out_can_be_read(tmp_path, monkeypatch):
    found = fit(noisy(measured(design(0.2)), np.random.default_rng(1)))
    text = found.to_toml(title="ours", source="judgement", extractant="extractants/pc88a")
    document = tomllib.loads(text)
    # The soap's constant is an estimate, so nothing derived from it is better.
    assert document["defaults"]["class"] == "estimated"
    plain = fit(noisy(measured(design()), np.random.default_rng(1)))
    text = plain.to_toml(title="ours", source="li1987")
    assert tomllib.loads(text)["defaults"]["class"] == "derived"
    np.testing.assert_allclose(
        tomllib.loads(text)["covariance"], plain.covariance[:3, :3], rtol=1e-3
    )
    folder = tmp_path / "models" / "data" / "extractants"
    folder.mkdir(parents=True)
    (folder / "ours.toml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert Book()["extractants/ours:Nd"] == pytest.approx(plain.log_k["Nd"], abs=1e-3)


def test_leave_one_laboratory_out_sees_the_level():
    table = noisy(measured(design()), np.random.default_rng(9))
    left = cross_validation.leave_one_laboratory_out(table)
    assert {row.laboratory for row in left} == {"A", "B"}
    for row in left:
        # The laboratories differ by 0.2 decades of K; D answers with somewhat less when loaded.
        assert 0.02 < row.bias * (1 if row.laboratory == "B" else -1) < 0.25


def test_separation_factor_is_better_known_than_the_constants():
    found = fit(noisy(measured(design()), np.random.default_rng(1)), KNOWN_ERROR)
    factor, error = found.separation_factor("Nd", "Pr")
    assert np.log10(factor) == pytest.approx(0.2, abs=3 * error)
    assert 0 < error < 0.05


def test_refusals():
    table = measured(design())
    with pytest.raises(InputError, match="unknown loss"):
        fit(table, loss="cauchy")
    with pytest.raises(InputError, match="relative error"):
        fit(table, relative_error=0)
    with pytest.raises(InputError, match="no row"):
        fit(replace(table, used=np.zeros(len(table), dtype=bool)))


COLUMNS = (
    "laboratory,feed_acid [mol/L],extractant [mol/L],feed_Nd [g/L],raffinate_Nd [g/L],"
    "feed_Pr [g/L],raffinate_Pr [g/L]"
)
CSV = f"""{COLUMNS}
A,0.01,1.0,14.4,9.4,,
A,0.05,1.0,14.4,10.3,,
A,0.01,1.0,,,14.1,9.9
A,0.05,1.0,,,14.1,10.8
B,0.01,1.0,7.2,3.9,7.0,4.3
B,0.05,1.0,7.2,4.6,7.0,5.0
"""


def test_command_line(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from sepmodel.cli import app

    monkeypatch.chdir(tmp_path)
    Path("ours.csv").write_text(CSV, encoding="utf-8")
    done = CliRunner().invoke(app, ["fit", "ours.csv"])
    assert done.exit_code == 0, done.output
    assert "separation factor" in done.output
    assert max(map(len, done.output.splitlines())) <= 80
    names = {path.name for path in Path("results/ours-fit").iterdir()}
    assert {"ours-ideal.toml", "residuals.csv", "fit.json", "parity.png", "residuals.svg"} <= names
    pure = CliRunner().invoke(app, ["fit", "ours.csv", "--json", "-", "--force"])
    import json

    assert set(json.loads(pure.stdout)["parameters"]) == {"Nd", "Pr", "level of A"}


def test_public_name():
    import sepmodel

    assert sepmodel.fit is fitting.fit


def test_an_unknown_counter_ion_is_refused(tmp_path, monkeypatch):
    """Even where no row is saponified: a misspelt option is an error, not ignored."""
    from sepmodel.cli import main

    with pytest.raises(InputError, match="counter-ion"):
        fit(measured(design()), counter_ion="Zz")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["fit", "nd-pr-pc88a", "--counter-ion", "Zz", "--out", "x"])
    assert ended.value.code == 2
    assert not Path("x").exists()


def test_separation_factors_are_told_heavier_over_lighter():
    from sepmodel.study import fit_report

    lines = fit_report.summary_lines(fit(noisy(measured(design()), np.random.default_rng(1))))
    factors = [line for line in lines if line.startswith("separation factor")]
    assert [line.split()[2] for line in factors] == ["Nd/Pr", "Sm/Nd"]
    assert all(float(line.split()[3]) > 1 for line in factors)
    assert max(map(len, lines)) <= 80


PLAIN = "feed_acid [mol/L],extractant [mol/L],feed_Nd [g/L],raffinate_Nd [g/L]"


@pytest.mark.parametrize(
    ("row", "key", "text"),
    [
        ("0.05,1.0,7.21,9.99", "row 2, raffinate_Nd", "more metal in the raffinate"),
        ("50,1.0,7.21,6.0", "row 2, feed_acid", "expected at most 12.1 mol/L"),
        ("0.05,20,7.21,6.0", "row 2, extractant", "expected at most 3.1 mol/L"),
        ("0.05,1.0,7210,7209", "row 2, feed", "expected at most 3.5 mol/L"),
        ("0.05,0.01,30,1", "row 2", "more metal left the feed than the extractant can hold"),
    ],
)
def test_rows_nobody_can_have_measured_are_refused(tmp_path, row, key, text):
    path = tmp_path / "lab.csv"
    path.write_text(f"{PLAIN}\n0.05,1.0,14.4,10.3\n{row}\n", encoding="utf-8")
    with pytest.raises(InputError, match=text) as caught:
        fit(path)
    (problem,) = caught.value.problems
    assert (problem.file, problem.key) == (str(path), key)
    assert problem.value
    # Kept out of the fit, the row may stay in the file.
    path.write_text(f"{PLAIN},use\n0.05,1.0,14.4,10.3,1\n{row},0\n", encoding="utf-8")
    assert fit(path).table.used.tolist() == [True, False]


def test_all_impossible_rows_of_a_file_at_once_and_scatter_is_none(tmp_path):
    path = tmp_path / "lab.csv"
    path.write_text(f"{PLAIN}\n0.05,1,7.21,9.99\n50,20,7.21,7\n", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        fit(path)
    assert [p.key for p in caught.value.problems] == [
        "row 1, raffinate_Nd",
        "row 2, feed_acid",
        "row 2, extractant",
    ]
    # Four standard errors of the difference above the feed, six above it.
    table = shakeout.parse(f"{PLAIN}\n1.0,0.1,10,{10 * (1 + 4 * 0.01 * 2**0.5):.4f}")
    shakeout.require_possible(table, 0.01, Book())
    beyond = replace(table, raffinate=table.feed * (1 + 6.5 * 0.01 * 2**0.5))
    with pytest.raises(InputError, match="more metal in the raffinate"):
        shakeout.require_possible(beyond, 0.01, Book())


def test_a_poor_fit_is_named(tmp_path, monkeypatch):
    """Acids in the wrong rows: no constant explains the four tests."""
    from click.testing import CliRunner

    from sepmodel.cli import app

    monkeypatch.chdir(tmp_path)
    rows = "0.01,1,14.4,12\n0.3,1,14.4,7\n0.05,1,14.4,13\n0.1,1,14.4,9\n"
    Path("ours.csv").write_text(f"{PLAIN}\n{rows}", encoding="utf-8")
    done = CliRunner().invoke(app, ["fit", "ours.csv"])
    assert done.exit_code == 0, done.output
    assert "warning: poor-fit: chi squared" in done.output
    assert "poor-fit: chi squared" in Path("results/ours-fit/report.html").read_text("utf-8")
    good = fit(noisy(measured(design()), np.random.default_rng(1)), KNOWN_ERROR, offsets=True)
    assert good.warnings == []


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_one_row_and_an_empty_column(tmp_path, monkeypatch):
    from click.testing import CliRunner

    from sepmodel.cli import app

    monkeypatch.chdir(tmp_path)
    Path("one.csv").write_text(
        f"{PLAIN},feed_Pr [g/L],raffinate_Pr [g/L]\n0.05,1.0,14.4,9.5,,\n", encoding="utf-8"
    )
    done = CliRunner().invoke(app, ["fit", "one.csv"])
    assert done.exit_code == 0, done.output
    assert "nan" not in done.output
    assert "squared: - (0 degrees of freedom)" in done.output
    assert "NaN" not in Path("results/one-fit/fit.json").read_text("utf-8")


def test_limits_that_refuse_nothing_are_no_evidence(tmp_path):
    path = tmp_path / "lab.csv"
    path.write_text(CSV, encoding="utf-8")
    assert not [key for key in fit(path).used if key.startswith("extractants/circuit-defaults")]
