"""Circuit cases against theory: limits, total reflux, soap and base, and the shipped circuits."""

import numpy as np
import pytest

import sepmodel
from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.chemistry.soap_exchange import SoapExchange
from sepmodel.data import Book
from sepmodel.errors import InputError
from sepmodel.extraction import circuit, circuit_solve
from sepmodel.species import RARE_EARTHS

SHIPPED = (
    "magnet-circuit",
    "magnet-60",
    "magnet-120",
    "magnet-400",
    "fifteen-nd-sm-100",
    "fifteen-nd-sm-500",
    "fifteen-nd-pr-100",
    "fifteen-nd-pr-500",
)
ORDER = ("La", "Ce", "Pr", "Nd", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Y", "Er", "Tm", "Yb", "Lu")


@pytest.fixture(scope="module", params=SHIPPED)
def shipped(request):
    return sepmodel.run(request.param)


def extraction(result):
    """What the organic holds at both ends of the extraction section [mol/L]: metals, soap, free."""
    stages = result.profiles["conc_org"].bands["extraction"][1]
    names = list(result.profiles["conc_org"].axes["component"])
    rare = [i for i, n in enumerate(names) if n in RARE_EARTHS]
    end = result.profiles["conc_org"].values[stages - 1]
    start = np.array([result.streams["barren_organic"].conc[n]["value"] for n in names])
    start[-1] = 0.35
    dimer = 0.5
    free = (
        dimer - 3 * start[rare].sum() - start[-1],
        result.profiles["free_extractant"].values[stages - 1],
    )
    return (start[rare].sum(), end[rare].sum()), (start[-1], end[-1]), free


def test_shipped_circuits_close_and_keep_their_limits(shipped):
    assert shipped.balance["max"] < 1e-10
    assert not shipped.warnings
    assert np.all(shipped.profiles["loading"].values < 1)
    assert np.all(shipped.profiles["rare_earth_loading"].values < 0.75)
    assert shipped.quantities["recycle_largest"]["value"] < 1


def test_sodium_released_is_three_times_the_rare_earths_and_the_protons(shipped):
    """Sodium given up = 3 x rare earths taken up + protons taken up by the organic.

    Two protons sit on a free dimer, three on M(HA2)3, one on NaHA2.
    """
    metal, sodium, free = extraction(shipped)
    protons = [2 * d + 3 * m + s for d, m, s in zip(free, metal, sodium, strict=True)]
    released = sodium[0] - sodium[1]
    assert released == pytest.approx(3 * (metal[1] - metal[0]) + protons[1] - protons[0], rel=1e-9)
    assert released > 0.3


def test_base_bought_is_the_acid_that_was_used_up(shipped):
    """Over the whole circuit every sodium that leaves stands for a proton that came and did not."""
    inlets = sepmodel.load(shipped.name).inputs.inlet
    acid = sum(i.flow * i.acid for i in inlets) * 3600
    left = sum(
        stream.flow["value"] * 10**-stream.pH
        for stream in shipped.streams.values()
        if stream.phase == "aqueous"
    )
    assert shipped.quantities["base"]["value"] == pytest.approx(acid - left, rel=1e-9)


def test_the_order_of_the_series_at_every_stage(shipped):
    x, y = (shipped.profiles[f"conc_{phase}"].values for phase in ("aq", "org"))
    names = list(shipped.profiles["conc_aq"].axes["component"])
    at = [names.index(n) for n in ORDER if n in names]
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = y[:, at] / x[:, at]
        rise = ratio[:, 1:] / ratio[:, :-1]
    # Concentrations of zero are those no assay reaches.
    there = np.isfinite(rise) & (rise > 0)
    assert np.all(rise[there] > 1)
    assert there.sum() > len(x)
    pairs = shipped.profiles["separation_factor"].axes["pair"]
    assert "Nd/Pr" in pairs


def test_the_cut_is_where_it_should_be(shipped):
    light, heavy = {"nd-sm": ("Nd", "Sm"), "nd-pr": ("Pr", "Nd")}.get(
        shipped.name[8:13], ("Pr", "Nd") if shipped.name[-3:] in ("120", "400") else ("Nd", "Tb")
    )
    assert shipped.streams["raffinate"].recovery[light] > 0.96
    assert shipped.streams["strip_liquor"].recovery[heavy] > 0.999


def small(log_k, *, stages=(3, 3, 2), feed=None):
    return {
        "schema": 1,
        "kind": "cascade",
        "name": "small",
        "components": list(log_k),
        "model": {
            "equilibrium": "mass-action",
            "counter_ion": "Na",
            "log_k": {**log_k, "Na": -5.0},
        },
        "organic": {"flow": "3 L/h", "extractant": "1 mol/L", "saponification": 0.35},
        "section": [
            {"name": n, "stages": k}
            for n, k in zip(("extraction", "scrub", "strip"), stages, strict=True)
        ],
        "inlet": [
            {
                "name": "feed",
                "section": "extraction",
                "flow": "1 L/h",
                "acid": "0.01 mol/L",
                "composition": feed or dict.fromkeys(log_k, f"{0.5 / len(log_k)} mol/L"),
            },
            {"name": "scrub-acid", "section": "scrub", "flow": "0.3 L/h", "acid": "2 mol/L"},
            {"name": "strip-acid", "section": "strip", "flow": "0.3 L/h", "acid": "4 mol/L"},
        ],
        "recycle": {"organic": True},
    }


def test_equal_elements_are_not_separated():
    result = sepmodel.run(small({"Nd": -2.0, "Dy": -2.0}, feed={"Nd": "0.3 M", "Dy": "0.1 M"}))
    for name in ("raffinate", "strip_liquor"):
        moles = result.streams[name].moles
        assert moles["Nd"]["value"] == pytest.approx(3 * moles["Dy"]["value"], rel=1e-10)


def test_one_element_and_one_stage_a_section():
    result = sepmodel.run(small({"Nd": -2.0}, stages=(1, 1, 1)))
    assert result.balance["max"] < 1e-10
    ends = [result.streams[n].moles["Nd"]["value"] for n in ("raffinate", "strip_liquor")]
    assert sum(ends) == pytest.approx(0.5, rel=1e-10)
    assert "separation_factor" not in result.profiles


@pytest.mark.parametrize("shift", [-25.0, 25.0])
def test_elements_that_are_not_extracted_or_never_let_go(shift):
    """D to 0: all in the raffinate. D to infinity: it fills the organic, and that is said."""
    case = small({"Pr": -2.3, "Nd": -2.1, "Ca": shift})
    case["inlet"][0]["composition"]["Ca"] = "0.001 mol/L"
    if shift < 0:
        result = sepmodel.run(case)
        assert result.streams["raffinate"].recovery["Ca"] == pytest.approx(1, rel=1e-9)
        return
    with pytest.raises(sepmodel.ConvergenceError) as caught:
        sepmodel.run(case)
    assert caught.value.trace.component == "Ca"


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"inlet.feed.flow": "0 L/h"}, "at least|above 0"),
        ({"organic.flow": "0 L/h"}, "at least|above 0"),
        ({"inlet.strip-acid.section": "scrub"}, "no aqueous flow in section 'strip'"),
    ],
)
def test_a_section_without_a_flow_is_refused(settings, text):
    with pytest.raises(InputError, match=text):
        sepmodel.run("magnet-circuit", settings)


def test_total_reflux_is_fenske():
    """Ten stages with a vanishing feed separate by beta^10.

    The scrub acid is set so that half of the feed leaves each way; what is short of ten stages
    goes down with the feed, and extrapolates to nothing.
    """
    beta, seen = 1.5, []

    def inputs(feed, scrub):
        case = small({"Pr": -2.3, "Nd": -2.3 + float(np.log10(beta))}, stages=(5, 5, 1))
        case |= {"section": case["section"][:2], "inlet": case["inlet"][:2], "recycle": {}}
        case["organic"]["flow"] = "1 L/h"
        case["inlet"][0] |= {"flow": f"{feed} L/h", "acid": "0 mol/L"}
        case["inlet"][1] |= {"flow": f"{scrub} L/h", "acid": "3 mol/L"}
        return circuit_solve.assemble(sepmodel.load(case).inputs, Book()).inputs

    start = None
    for feed in (0.004, 0.001):
        low, high = 0.11, 0.12
        for _ in range(30):
            scrub = 0.5 * (low + high)
            solved = circuit.solve(inputs(feed, scrub), guess=start)
            start = solved.u
            out = solved.outlets["organic"].moles[:2]
            low, high = (scrub, high) if out.sum() > 0.5 * (0.5 * feed / 3600) else (low, scrub)
        ratio = [np.diff(solved.outlets[n].log_moles[:2])[0] for n in ("organic", "raffinate")]
        seen.append((ratio[0] - ratio[1]) / np.log(beta))
    assert seen[1] < 10
    assert seen[1] + (seen[1] - seen[0]) / 3 == pytest.approx(10, abs=2e-3)


@pytest.mark.parametrize("phase", ["aqueous", "organic"])
def test_a_draw_takes_its_volume_whatever_is_entrained(phase):
    """Its droplets of the other phase count; water and every element close with it."""
    draw = {"name": "side", "phase": phase, "section": "scrub", "stage": 3, "flow": "0.1 L/h"}
    settings = {"draw": [draw]}
    for section in ("extraction", "scrub", "strip"):
        settings[f"section.{section}.entrainment_aq"] = 0.02
        settings[f"section.{section}.entrainment_org"] = 0.01
    result = sepmodel.run("magnet-circuit", settings)
    assert result.streams["side"].flow["value"] == pytest.approx(0.1, rel=1e-12)
    assert result.balance["max"] < 1e-10
    out = [result.streams[name] for name in ("raffinate", "strip_liquor", "side")]
    for name, fed in (("Nd", 0.7), ("Tb", 0.02)):
        assert sum(s.moles[name]["value"] for s in out) == pytest.approx(fed, rel=1e-9)
    # The strip liquor: its acid, 1 % of the organic, 2 % of the scrub liquor that came with the
    # organic, less the 2 % of itself that went on with it.
    liquor = result.streams["strip_liquor"].flow["value"]
    assert liquor == pytest.approx(0.2 + 0.01 * 3.43 + 0.02 * 1.0 - 0.02 * 0.2, rel=0.01)


# --- saponify sections -----------------------------------------------------------------------


def saponified(stages=2, base="5 mol/L", flow="0.2401 L/h", **section):
    document = sepmodel.load("magnet-circuit").document
    return {
        "organic.saponification": 0.0,
        "section": [*document["section"], {"name": "saponify", "stages": stages, **section}],
        "inlet": [
            *document["inlet"],
            {"name": "base", "section": "saponify", "flow": flow, "base": base},
        ],
    }


def test_a_saponify_section_does_what_the_short_way_assumes():
    short = sepmodel.run("magnet-circuit")
    long = sepmodel.run("magnet-circuit", saponified())
    assert long.quantities["base"]["value"] == pytest.approx(1.2005, rel=1e-9)
    assert long.streams["saponified_organic"].conc["Na"]["value"] == pytest.approx(0.35, rel=1e-6)
    for name in ("raffinate", "strip_liquor"):
        assert long.streams[name].pH == pytest.approx(short.streams[name].pH, abs=1e-4)
        assert long.streams[name].purity == pytest.approx(short.streams[name].purity, abs=1e-6)
    assert long.balance["max"] < 1e-10


def test_every_base_is_found_again():
    """Sodium of the base: with the raffinate, the strip liquor and the saponification liquor."""
    result = sepmodel.run("magnet-circuit", saponified(flow="0.3 L/h"))
    liquors = ("raffinate", "strip_liquor", "saponification_liquor")
    out = sum(result.streams[name].moles["Na"]["value"] for name in liquors)
    assert out == pytest.approx(1.5, rel=1e-10)
    assert result.balance["components"]["Na"] < 1e-10
    # The water leaves close to neutral after two stages, alkaline after one.
    assert 6 < result.streams["saponification_liquor"].pH < 9
    one = sepmodel.run("magnet-circuit", saponified(stages=1, flow="0.3 L/h"))
    assert one.streams["saponification_liquor"].pH > 9


@pytest.mark.parametrize("stages", [1, 2])
def test_entrained_strip_acid_eats_base_in_one_stage_and_is_washed_out_in_two(stages):
    """One per cent of the strip acid goes along with the organic into the saponify section."""
    acid = 0.01 * 0.2 * 6.0
    clean = sepmodel.run("magnet-circuit", saponified(stages))
    settings = saponified(stages)
    settings["section"] = [
        {**s, "entrainment_aq": 0.01} if s["name"] == "strip" else s for s in settings["section"]
    ]
    wet = sepmodel.run("magnet-circuit", settings)
    assert wet.balance["max"] < 1e-10
    soap = [r.streams["saponified_organic"].moles["Na"]["value"] for r in (clean, wet)]
    liquor = wet.streams["saponification_liquor"]
    if stages == 1:
        assert soap[0] - soap[1] == pytest.approx(acid, rel=0.02)
        assert liquor.moles["Na"]["value"] == pytest.approx(acid, rel=0.02)
    else:
        assert soap[0] - soap[1] < 0.01 * acid
        assert 10**-liquor.pH * liquor.flow["value"] == pytest.approx(acid, rel=0.02)
    water = sum(s.flow["value"] for s in wet.streams.values() if s.phase == "aqueous")
    assert water == pytest.approx(1.0 + 1.0 + 0.2 + 0.2401, rel=1e-9)


def test_base_into_an_extraction_stage_takes_its_equivalents_of_acid():
    plain = sepmodel.run("magnet-circuit")
    lye = {"name": "lye", "section": "extraction", "stage": 4, "flow": "0.05 L/h", "base": "2 M"}
    inlets = [*sepmodel.load("magnet-circuit").document["inlet"], lye]
    dosed = sepmodel.run("magnet-circuit", {"inlet": inlets})
    acid = []
    for result in (plain, dosed):
        streams = [result.streams[n] for n in ("raffinate", "strip_liquor")]
        acid.append(sum(s.flow["value"] * 10**-s.pH for s in streams))
    assert acid[0] - acid[1] == pytest.approx(0.1, rel=1e-6)
    bases = [result.quantities["base"]["value"] for result in (plain, dosed)]
    assert bases[1] - bases[0] == pytest.approx(0.1, rel=1e-9)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({**saponified(), "organic.saponification": 0.3}, "saponified twice"),
        ({**saponified(), "recycle.organic": False}, "prepares the organic that returns"),
        ({**saponified(), "inlet": saponified()["inlet"][:-1]}, "no base enters"),
        ({**saponified(base="25 mol/L")}, "impossible-concentration.*base"),
        ({**saponified(), "model.activity": "sit"}, "knows ideal activities only"),
    ],
)
def test_saponify_sections_that_cannot_be(settings, text):
    with pytest.raises(InputError, match=text):
        sepmodel.run("magnet-circuit", settings)


def test_soap_exchange_in_acid_is_cation_exchange():
    charge = np.array([3.0, 1.0])
    dimers = np.array([3.0, 0.7])
    log_k = np.array([-4.0, -11.0])
    plain = CationExchange(log_k=log_k, charge=charge, dimers=dimers)
    soap = SoapExchange(log_k=log_k, charge=charge, dimers=dimers, kw=1e-8)
    u = np.log(np.array([[0.2, 0.1], [0.3, 0.01]]))
    totals = np.array([[500.0, 300.0], [500.0, 200.0]])
    x, y = np.array([[20.0, 30.0]] * 2), np.array([[40.0, 60.0]] * 2)
    a, b = plain.spot(u, totals, x, y), soap.spot(u, totals, x, y)
    for name in ("log_d", "slope", "residual", "by_u", "by_aq", "by_org", "free"):
        assert np.allclose(getattr(a, name), getattr(b, name), rtol=1e-6, atol=1e-12), name


def test_derivatives_of_soap_exchange():
    model = SoapExchange(
        log_k=np.array([-4.0, -11.0]), charge=np.array([3.0, 1.0]), dimers=np.array([3.0, 0.7]),
        kw=1e-8,
    )  # fmt: skip
    u = np.log(np.array([[0.2, 1e-11], [0.3, 1e-4]]))
    totals = np.array([[500.0, 0.1], [500.0, 20.0]])
    x, y = np.array([[1e-3, 30.0]] * 2), np.array([[4.0, 60.0]] * 2)
    spot = model.spot(u, totals, x, y)
    step = 1e-6
    for k in range(2):
        move = np.zeros_like(u)
        move[:, k] = step
        up, down = (model.spot(u + s * move, totals, x, y).residual for s in (1, -1))
        assert np.allclose(spot.by_u[..., k], (up - down) / (2 * step), rtol=1e-6, atol=1e-9)
    for values, derivative in ((x, spot.by_aq), (y, spot.by_org)):
        for i in range(2):
            move = np.zeros_like(values)
            move[:, i] = step * values[:, i]
            pair = [
                model.spot(u, totals, *(v + s * move if v is values else v for v in (x, y)))
                for s in (1, -1)
            ]
            numeric = (pair[0].residual - pair[1].residual) / (2 * step * values[:, i : i + 1])
            assert np.allclose(derivative[..., i], numeric, rtol=1e-5, atol=1e-12)
