"""Predictions of unseen data, the default set, and the page of a fit."""

import re
from dataclasses import replace

import numpy as np
import pytest

from sepmodel import plot, report_fit
from sepmodel.chemistry import exchange_set
from sepmodel.data import Book
from sepmodel.errors import InputError
from sepmodel.study import cross_validation, shakeout
from sepmodel.study.fit import fit
from sepmodel.study.fit_model import Forward, Options, predict

OPTIONS = Options(relative_error=0.03, offsets=False)


def exact(levels=(0.0, 0.0)):
    """Nd in two laboratories at three acidities, as a constant of -2 and levels would give it."""
    rows = [(lab, a, f) for lab in ("A", "B") for a in (10.0, 50.0, 200.0) for f in (20.0, 80.0)]
    n = len(rows)
    table = shakeout.ShakeOuts(
        elements=("Nd",),
        laboratory=tuple(r[0] for r in rows),
        label=("",) * n,
        acid=np.array([r[1] for r in rows]),
        extractant=np.full(n, 1000.0),
        phase_ratio=np.ones(n),
        saponification=np.zeros(n),
        feed=np.array([[r[2]] for r in rows]),
        raffinate=np.full((n, 1), np.nan),
        pH=np.full(n, np.nan),
        used=np.ones(n, dtype=bool),
    )
    d = np.empty((n, 1))
    for lab, level in zip(("A", "B"), levels, strict=True):
        mine = np.array([name == lab for name in table.laboratory])
        forward = Forward.build(table.rows(mine), OPTIONS, Book())
        d[mine] = 10 ** predict(forward, np.array([-2.0 + level]))["log_d"]
    return replace(table, raffinate=table.feed / (1 + d))


def test_exact_data_are_predicted_exactly():
    left = cross_validation.leave_one_laboratory_out(exact(), OPTIONS)
    assert [row.points for row in left] == [6, 6]
    assert max(row.rms for row in left) < 1e-6
    found = cross_validation.leave_one_acidity_out(exact(), OPTIONS)
    assert found["Nd"][0] == 12
    assert found["Nd"][1] < 1e-6
    fewer = cross_validation.leave_one_acidity_out(exact(), OPTIONS, least_extracted=0.2)
    assert 0 < fewer["Nd"][0] < 12


def test_a_level_between_laboratories_is_an_error_of_prediction():
    """Two laboratories 0.3 decades of K apart: each misses the other by what D answers to that."""
    left = cross_validation.leave_one_laboratory_out(exact((0.15, -0.15)), OPTIONS)
    assert left[0].bias < -0.1
    assert left[1].bias > 0.1
    assert max(abs(row.bias) for row in left) <= 0.3


def test_acidities_cannot_be_left_out_of_one():
    table = exact()
    assert cross_validation.leave_one_acidity_out(table.rows(table.acid == 10.0), OPTIONS) == {}


def test_the_basis_of_the_default_set_predicts_best():
    """Laboratories left out: Pitzer is closer than ideal over the points of all three."""
    pooled = {a: cross_validation.left_out_rms("all", "all", a) for a in ("ideal", "pitzer")}
    assert pooled["pitzer"] < pooled["ideal"]
    assert exchange_set.load(exchange_set.DEFAULT, ("Nd",), Book()).activity.name == "pitzer"
    with pytest.raises(InputError):
        cross_validation.left_out_rms("nobody", "Nd")


def test_the_default_set_is_in_order_and_holds_every_rare_earth_but_promethium_and_scandium():
    names = [n for n in Book().names(exchange_set.DEFAULT) if not n.startswith("dimers")]
    loaded = exchange_set.load(exchange_set.DEFAULT, names, Book())
    assert len(names) == 15
    assert exchange_set.reversals(loaded.log_k) == []


def test_the_estimated_mixing_parameter_moves_the_constants_little():
    """theta(H,Ln) over its whole range: less than 0.1 decades of K for Nd and Dy (both singles)."""
    key = "activity/pitzer-25C:theta_H_Ln"
    Book()[key]
    book = Book()
    low, high = (book[key], book.used[key].si_range)[1]
    assert low <= 0.115 <= 0.2 <= high  # the published values lie inside
    table = shakeout.read("li1987-pc88a")
    some = np.array([table.feed[i, [3, 5]].any() for i in range(len(table))])
    found = [
        fit(
            table.rows(some), activity="pitzer", loss="soft_l1", book=Book().with_values({key: v})
        ).log_k
        for v in (low, high)
    ]
    for element in ("Nd", "Dy"):
        assert abs(found[0][element] - found[1][element]) < 0.1


def test_the_page_of_a_fit_tells_what_cannot_be_told():
    """Two laboratories without a common metal: the page names level and constant."""
    table = replace(exact(), elements=("Nd",))
    lone = replace(
        table,
        elements=("Nd", "Pr"),
        feed=np.where(
            np.array([lab == "A" for lab in table.laboratory])[:, None],
            np.hstack([table.feed, 0 * table.feed]),
            np.hstack([0 * table.feed, table.feed]),
        ),
        raffinate=np.where(
            np.array([lab == "A" for lab in table.laboratory])[:, None],
            np.hstack([table.raffinate, np.nan * table.raffinate]),
            np.hstack([np.nan * table.raffinate, table.raffinate]),
        ),
    )
    found = fit(lone, relative_error=0.03)
    text = report_fit.page(found, [], plot.fit_figures(found), "ours")
    assert "cannot be told apart by these data" in text
    assert "Not possible" in text
    assert text.count("<svg") == 2
    assert not re.search(r"<link|<script|src=", text)  # nothing is fetched


def test_the_soaps_constant_is_told_only_where_soap_was_used():
    """Soap in excess hangs on its constant, metal in excess does not."""
    assert cross_validation.soap_shift(fit(exact(), OPTIONS)) == {}
    spare = replace(exact(), saponification=np.full(12, 0.2))
    forward = Forward.build(replace(spare, laboratory=("",) * 12), OPTIONS, Book())
    d = 10 ** predict(forward, np.array([-2.0]))["log_d"]
    found = fit(replace(spare, raffinate=spare.feed / (1 + d)), OPTIONS)
    shift = cross_validation.soap_shift(found)["Nd"]
    assert shift[1] - shift[0] > 0.1
    from sepmodel.study import fit_report

    assert "Nd" in fit_report.soap_lines({"Nd": shift})[0]
    assert fit_report.soap_lines({"Nd": (0.0, 0.0)})[0].endswith("less than 0.001")
    assert fit_report.soap_lines({}) == []
