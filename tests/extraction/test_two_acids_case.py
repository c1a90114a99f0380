"""Circuit cases with two acids in one solvent and with soaps of divalent counter-ions."""

import numpy as np
import pytest

import sepmodel
from sepmodel.chemistry import exchange_set, mixed_acids
from sepmodel.chemistry.contact import contact
from sepmodel.data import Book
from sepmodel.errors import InputError

CASE = "magnet-two-acids"
FIRST, SECOND = "extractants/li1987-pc88a-ideal", "extractants/cyanex272-chloride"


def one_stage(second, ion, soap):
    model = {"equilibrium": "mass-action", "set": FIRST, "counter_ion": ion}
    return {
        "schema": 1,
        "kind": "cascade",
        "name": "shake-out",
        "components": ["Nd", "Dy"],
        "model": {**model, "second": SECOND, "share": 0.6} if second else model,
        "organic": {"flow": "1.5 L/h", "extractant": "1 mol/L", "saponification": soap},
        "section": [{"name": "extraction", "stages": 1}],
        "inlet": [
            {
                "name": "feed",
                "section": "extraction",
                "flow": "1 L/h",
                "composition": {"Nd": "0.3 mol/L", "Dy": "0.05 mol/L"},
                "acid": "0.02 mol/L",
            }
        ],
    }


@pytest.mark.parametrize("second", [False, True], ids=["one acid", "two acids"])
@pytest.mark.parametrize(("ion", "charge"), [("Na", 1), ("Ca", 2), ("Mg", 2)])
def test_one_stage_is_a_shake_out(second, ion, charge):
    book, soap = Book(), 0.3
    if second:
        constants = mixed_acids.load(FIRST, SECOND, 0.6, ("Nd", "Dy"), book, counter_ion=ion)
    else:
        constants = exchange_set.load(FIRST, ("Nd", "Dy"), book, counter_ion=ion)
    shaken = contact(
        constants.model,
        feed_aq=[300.0, 50.0, 0.0],
        acid=20.0,
        dimer=500.0,
        feed_org=[0.0, 0.0, soap * 1000.0 / charge],
        phase_ratio=1.5,
        activity=constants.activity,
        components=constants.components,
    )
    result = sepmodel.run(one_stage(second, ion, soap))
    assert result.streams["raffinate"].pH == pytest.approx(float(shaken.pH), abs=1e-9)
    assert np.allclose(1000 * result.profiles["conc_aq"].values[0], shaken.conc_aq, rtol=1e-9)
    assert np.allclose(1000 * result.profiles["conc_org"].values[0], shaken.conc_org, rtol=1e-9)


def test_the_shipped_circuit_parts_closes_and_counts_its_base_in_equivalents():
    result = sepmodel.run(CASE)
    assert result.streams["raffinate"].purity["Nd"] > 0.999
    assert result.streams["strip_liquor"].purity["Dy"] > 0.999
    assert result.balance["max"] < 1e-10
    # 0.35 of 1 mol/L in 3.43 L/h, less the little that returns with the organic.
    base = result.quantities["base"]["value"]
    assert base == pytest.approx(0.35 * 3.43, rel=1e-3)


@pytest.mark.parametrize("flow", ["0.92 L/h", "0.95 L/h", "0.97 L/h"])
def test_a_little_more_or_less_scrub_is_solved_too(flow):
    result = sepmodel.run(CASE, {"inlet.scrub-acid.flow": flow})
    assert result.balance["max"] < 1e-9


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"model.second": SECOND}, "model.share"),
        ({"model.second": SECOND, "model.share": 0.5}, "model.separation_factors"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused_by_key(settings, key):
    with pytest.raises(InputError) as caught:
        sepmodel.load("magnet-circuit", settings)
    assert caught.value.problems[0].key == key
