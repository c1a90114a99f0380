"""The data of reagents, factors, equipment and finance hang together."""

import pytest

from sepmodel import data, units

PRICES = "prices/reagents-us-2025"


def test_every_duty_has_a_price_a_carbon_factor_and_an_energy_factor():
    prices = set(data.load_set(PRICES))
    assert prices == set(data.load_set("factors/energy"))
    assert prices - {"power"} == set(data.load_set("factors/carbon"))
    assert data.load_set("factors/grid")


def test_only_emissions_may_be_free_of_charge():
    free = {c.name for c in data.load_set(PRICES).values() if c.value == 0}
    assert free == {"CO2", "CO", "CF4", "C2F6"}
    assert all(c.si_range[1] > 0 for c in data.load_set(PRICES).values())
    assert all(c.si > 0 for c in data.load_set("factors/carbon").values())


@pytest.mark.parametrize("set_id", [PRICES, "prices/china-2025", "prices/ex-china-2025"])
def test_a_price_set_has_one_money_year_and_a_range_for_every_price(set_id):
    constants = data.load_set(set_id).values()
    assert {units.money_year(c.unit) for c in constants} == {("USD", 2025)}
    assert all(c.low is not None for c in constants)


def test_solution_quotes_are_carried_to_the_pure_substance():
    book = data.Book()
    assert book[f"{PRICES}:HCl"] == pytest.approx(0.251 / 0.36, rel=1e-3)
    salt, acid = 380.17, 292.24
    assert book[f"{PRICES}:EDTA"] == pytest.approx(1.478 * salt / acid, rel=1e-3)
    assert book["prices/china-2025:Dy2O3"] == pytest.approx(1635 / 1.13 / 7.14, rel=2e-3)
    assert book["prices/china-2025:NdPr_oxide"] == pytest.approx(596.5 / 1.13 / 7.14, rel=2e-3)
    assert book["prices/china-2025:Tb4O7"] == pytest.approx(7430 / 1.13 / 7.14, rel=2e-3)


def test_every_equipment_account_is_complete():
    names = set(data.load_set("equipment/prommis"))
    accounts = {name.rpartition("_")[0] for name in names}
    assert len(accounts) == 67
    for account in accounts:
        assert {f"{account}_{part}" for part in ("cost", "size", "exponent")} <= names


def test_installation_percentages_make_the_lang_factor():
    book = data.Book()
    names = [n for n in book.names("economics/lang") if n != "scale"]
    assert 1 + sum(book[f"economics/lang:{n}"] for n in names) == pytest.approx(2.97)


def test_hydroxide_precipitates_above_the_operating_window():
    # 0.1 mol/L Nd over the amorphous hydroxide: pH 7.2
    log_k = data.Book()["solids/hydroxides-llnl:Nd_amorphous"]
    assert (log_k + 1) / 3 == pytest.approx(7.2, abs=0.05)
