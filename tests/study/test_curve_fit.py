"""Fits of curves: what they recover, what their intervals are worth, what they refuse."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.special import erfc

from sepmodel import report_curve
from sepmodel.curve_tables import CurveFitCase
from sepmodel.errors import InputError
from sepmodel.run import load, run
from sepmodel.study import curve, curve_fit, curve_model, fit_statistics
from sepmodel.study.fit_model import Options

LA = {"data": "hermassi2022-s950-la"}
SPEC = {
    "schema": 1,
    "kind": "curve-fit",
    "name": "x",
    "case": "la-sm-s950",
    "set": {"numerics.elements": 6, "numerics.tolerance": 1e-5},
    "curve": [LA],
    "parameter": [
        {"name": "K", "path": "isotherm.coefficient.La"},
        {"name": "rate", "path": "rate.La"},
    ],
}
ERROR = {"reading": 0.02, "relative": 0.03, "volume": 0.01, "flow": 0.02, "gain": 0.02}


class Front:
    """A linear front in closed form: c/c0 = erfc[(R - V)/(2 sqrt(V R/Pe))]/2, R and Pe fitted.

    Stands where the engine's model stands, so that hundreds of fits take a second.
    """

    def __init__(self, points, retention=40.0, peclet=30.0):
        at = np.linspace(10, 90, points)
        self.true = np.log([retention, peclet])
        parameters = [{"name": n, "path": n} for n in ("R", "Pe")]
        self.spec = CurveFitCase.model_validate({**SPEC, "parameter": parameters})
        self.starts = ((("R", 1.0, ""),), (("Pe", 1.0, ""),))
        self.feeds = (np.ones(1),)
        self.error, self.used, self.runs, self.shift = ERROR, {}, 0, np.log([35.0, 20.0])
        self.curves = (
            curve.Curve(
                name="front",
                axis="bed_volumes",
                at=at,
                components=("A",),
                relative=(True,),
                conc=np.zeros((points, 1)),
            ),
        )
        self.kept = (np.ones((points, 1), dtype=bool),)

    whitening = curve_model.Model.whitening
    residual = curve_model.Model.residual

    def predict(self, theta):
        r, pe = np.exp(theta + self.shift)
        at = self.curves[0].at

        def front(v):
            return erfc((r - v) / (2 * np.sqrt(v * r / pe))) / 2

        slope = (front(at * 1.0001) - front(at * 0.9999)) / 2e-4
        return [(front(at)[:, None], slope[:, None])]

    def drawn(self, rng):
        """The same with a measured curve drawn from the stated errors."""
        exact = self.predict(self.true - self.shift)
        (whiten,) = self.whitening(exact)
        noise = np.linalg.solve(whiten, rng.standard_normal(len(whiten)))
        self.curves = (replace(self.curves[0], conc=exact[0][0] + noise[:, None]),)
        return self


def test_ninety_five_percent_intervals_cover_the_truth_in_synthetic_sets():
    rng = np.random.default_rng(3)
    inside = np.zeros(2)
    sets = 300
    for _ in range(sets):
        model = Front(24).drawn(rng)
        theta, _, bounded = curve_fit._estimate(model)
        now = model.predict(theta)
        whiten = model.whitening(now)
        r = model.residual(now, whiten)
        j = curve_fit._jacobian(model, theta, now, whiten, central=True)
        covariance, _, _ = fit_statistics.covariance(Options(scaled=False), r, j)
        off = (theta + model.shift - model.true) / np.sqrt(np.diag(covariance))
        inside += np.abs(off) < 1.96
        assert not bounded
    # Binomial: 95 % +- 2.5 % is two standard deviations of 300 sets.
    assert np.all(inside / sets > 0.92)
    assert np.all(inside / sets < 0.98), "intervals that always cover are too wide"


@pytest.mark.slow
def test_intervals_of_engine_fits_cover_the_truth(tmp_path):
    rng = np.random.default_rng(1)
    folder = tmp_path
    at = np.linspace(5, 120, 20)
    truth = {"isotherm.coefficient.La": 79.2, "rate.La": 1.4e-5}
    small = {"numerics.elements": 6, "numerics.tolerance": 1e-5, "every": "8 h"}
    document = {**SPEC, "set": small}
    header = "bed_volumes,La\n"
    exact_file = folder / "exact.csv"
    exact_file.write_text(header + "\n".join(f"{v},0" for v in at))
    document["curve"] = [{"data": str(exact_file)}]
    model = curve_model.build(load(document).inputs, None)
    shift = np.log(
        [truth[p["path"]] / s[0][1] for p, s in zip(SPEC["parameter"], model.starts, strict=True)]
    )
    exact = model.predict(shift)
    (whiten,) = model.whitening(exact)
    inside, sets = np.zeros(2), 100
    for _ in range(sets):
        noise = np.linalg.solve(whiten, rng.standard_normal(len(at)))
        drawn = exact[0][0][:, 0] + noise
        path = folder / "drawn.csv"
        path.write_text(header + "\n".join(f"{v},{c}" for v, c in zip(at, drawn, strict=True)))
        found = curve_fit.fit_curves({**document, "curve": [{"data": str(path)}]})
        for k, (name, value) in enumerate(zip(found.names, truth.values(), strict=True)):
            low, high = found.interval(name)
            inside[k] += low < value < high
    print("coverage", inside / sets)
    assert np.all(inside / sets >= 0.9)


def test_a_curve_of_the_engine_gives_its_own_parameters_back(tmp_path):
    truth = run("la-sm-s950", {"isotherm.coefficient.La": 60, "rate.La": "3e-5 1/s"})
    profile = truth.profiles["outlet"]
    every = np.asarray(profile.axes["time"])[2:120:6]
    values = profile.values[2:120:6, 0]
    lines = [f"{t / 3600},{c * 1000}" for t, c in zip(every, values, strict=True)]
    path = tmp_path / "own.csv"
    path.write_text("time [h],La [umol/L]\n" + "\n".join(lines), encoding="utf-8")
    found = curve_fit.fit_curves({**SPEC, "curve": [{"data": str(path)}]})
    values = {p.name: p.value for p in found.parameters}
    # The curve was made on 12 elements, the fit runs on 6.
    assert values["K"] == pytest.approx(60, rel=2e-3)
    assert values["rate"] == pytest.approx(3e-5, rel=1e-2)
    assert not found.undetermined


def test_what_a_curve_cannot_tell_is_said():
    both = [*SPEC["parameter"], {"name": "capacity", "path": "isotherm.coefficient.Sm"}]
    found = curve_fit.fit_curves({**SPEC, "parameter": both})
    assert found.undetermined == (("capacity",),)
    assert found.interval("capacity") == (0.0, math.inf)
    assert {w.code for w in found.warnings} == {"undetermined"}
    assert "not determined" in "\n".join(report_curve.summary_lines(found))
    assert all(len(line) <= 80 for line in report_curve.summary_lines(found))


def test_correlated_parameters_are_named():
    rng = np.random.default_rng(0)
    j = rng.standard_normal((30, 1)) @ np.ones((1, 2)) + 0.02 * rng.standard_normal((30, 2))
    covariance, _, _ = fit_statistics.covariance(Options(), np.zeros(30), j)
    ((one, other, value),) = fit_statistics.correlated(covariance, ("K", "capacity"))
    assert {one, other} == {"K", "capacity"}
    assert value < -0.99


def test_points_held_out_are_not_fitted():
    spec = {**SPEC, "curve": [{**LA, "below": 0.4}]}
    found = curve_fit.fit_curves(spec)
    (fitted,) = found.curves
    assert int(fitted.used.sum()) == 8
    assert np.isnan(fitted.residual[8:]).all()
    assert found.freedom == 6
    measured, predicted = found.midpoint("La")
    assert predicted == pytest.approx(measured, rel=0.08)


def test_bounds_hold_and_are_told():
    bounded = [{**SPEC["parameter"][0], "high": 70}, SPEC["parameter"][1]]
    found = curve_fit.fit_curves({**SPEC, "parameter": bounded})
    assert found.parameters[0].value == pytest.approx(70)
    assert found.bounded == ("K",)


def test_constants_of_a_data_set_can_be_fitted():
    spec = CurveFitCase.model_validate(
        {**SPEC, "parameter": [{"constant": "proteins/lanmodulin-mex:capacity"}]}
    )
    model = curve_model.build(spec, None)
    settings, constants = model.settings(np.array([math.log(2)]))
    assert settings == {}
    assert constants["proteins/lanmodulin-mex:capacity"] == pytest.approx(2 * 5.77)


def test_everything_wrong_with_a_fit_is_told_at_once():
    spec = {
        **SPEC,
        "curve": [{"data": "hermassi2022-s950-la", "set": {"section.0.composition": {}}}],
        "parameter": [{"path": "isotherm.nothing"}, {"path": "isotherm.law"}],
    }
    with pytest.raises(InputError) as caught:
        curve_fit.fit_curves(spec)
    assert [p.key for p in caught.value.problems] == ["curve.0", "parameter.0", "parameter.1"]
    with pytest.raises(InputError, match="only columns leave curves"):
        curve_fit.fit_curves({**SPEC, "set": {}, "case": "nd-pr"})


def test_a_case_that_ends_before_its_curve_is_refused():
    short = {**SPEC["set"], "section.0.duration": "100 h"}
    with pytest.raises(InputError, match="ends before"):
        curve_fit.fit_curves({**SPEC, "set": short})


def test_files_of_curves_are_checked():
    with pytest.raises(InputError) as caught:
        curve.parse("time,La [parsec],Sm\n1,2")
    assert len(caught.value.problems) == 3  # axis unit, unknown unit, row length
    with pytest.raises(InputError, match="cannot be read"):
        curve.read(curve.find("nothing-here"))
    with pytest.raises(InputError, match="can stand here"):
        curve.parse("bed_volumes,La\n1,nan\n2,0.1")
    found = curve.parse("# a comment\nvolume [mL],La [mg/L],Sm\n2,,0.5\n1,1.389,")
    assert found.at.tolist() == pytest.approx([1e-6, 2e-6])
    assert found.conc[0, 0] == pytest.approx(0.01, rel=1e-3)
    assert math.isnan(found.conc[1, 0])
    assert curve.parse("bed_volumes,La [%]\n1,50").conc.tolist() == [[0.5]]
    with pytest.raises(InputError, match="share of the feed") as caught:
        curve.parse("bed_volumes,La,Sm\n1,50,0\n2,98,3")
    assert "La [%]" in caught.value.problems[0].expected


def test_a_curve_of_hardly_a_point_or_of_nothing_is_named():
    feed = np.array([1.0, 1.0])
    at, conc = np.arange(4.0), np.array([[0.0, 0.001], [0.2, 0.0], [0.8, 0.002], [1.0, 0.001]])
    fitted = SimpleNamespace(
        curve=curve.Curve(
            name="c",
            axis="bed_volumes",
            at=at,
            components=("La", "Sm"),
            relative=(True, True),
            conc=conc,
        ),
        feed=feed,
        measured=conc,
        used=np.ones((4, 2), dtype=bool),
    )
    codes = [(w.code, w.message[:13]) for w in curve_fit._thin(fitted, 0.02)]
    assert codes == [("few-points", "4 points of L"), ("flat-curve", "Sm never leav")]


def test_the_report_of_a_fit_holds_together():
    found = curve_fit.fit_curves(SPEC)
    document = report_curve.to_dict(found)
    assert document["parameters"]["K"]["interval_95"][0] < document["parameters"]["K"]["value"]
    lines = report_curve.residuals_csv(found).splitlines()
    assert len(lines) == 16
    drawn = {"curves.svg": b"<?xml?><svg></svg>"}
    page = report_curve.page(found, drawn, "title <b>")
    assert "title &lt;b&gt;" in page
    assert "<svg></svg>" in page
    assert SimpleNamespace(**document).warnings == []
