"""Feeds: every one on the shelf becomes a liquor, conserves its oxide, and refuses nonsense."""

import re
from pathlib import Path

import numpy as np
import pytest

from sepmodel import case, data, feed, species
from sepmodel.errors import InputError

SHELF = feed.feed_ids()
TREO = feed.Rate(value=2.0, per="TREO")


@pytest.mark.parametrize("name", SHELF)
def test_every_feed_becomes_a_neutral_liquor_that_holds_its_oxide(name):
    book = data.Book()
    found = feed.read(name, book)
    liquor = found.liquor(TREO)
    charge = sum(species.CHARGES[n] * m for n, m in zip(liquor.names, liquor.moles, strict=True))
    assert abs(charge) < 1e-9 * float(np.abs(liquor.moles).sum())
    oxide = sum(liquor.oxide_mass().values())
    assert oxide / liquor.flow == pytest.approx(found.liquor_treo, rel=1e-12)
    fed = sum(
        n * 2.0 * species.oxide_mass_per_mole(e)
        for e, n in found.moles.items()
        if e in species.RARE_EARTHS
    )
    # Assays on other oxides than ours differ by their oxygen, a few per cent at most.
    assert fed == pytest.approx(2.0, rel=0.03 if found.header.oxides else 1e-12)
    assert 0 < oxide <= fed * (1 + 1e-12)
    assert {k.partition(":")[0] for k in book.used} == {f"feeds/{name}"}
    assert found.header.upstream


def test_shares_of_the_default_feed_are_those_of_the_rotors_and_nothing_is_forgotten():
    found = feed.read("magnet-scrap", data.Book())
    assert {"Nd", "Pr", "Dy", "Tb", "Gd", "Ho", "La", "Ce", "Sm", "Fe"} <= set(found.moles)
    mass = {e: n * species.molar_mass(e) * found.treo for e, n in found.moles.items()}
    assert mass["Nd"] == pytest.approx(0.1595, rel=1e-12)
    assert mass["Gd"] == pytest.approx(0.036, rel=1e-12)
    assert mass["Fe"] == pytest.approx(0.565, rel=1e-12)
    for name, constant in data.load_set("feeds/magnet-scrap").items():
        if name in ("Tb", "Ho", "Al", "Cu"):
            assert constant.provenance == "estimated"
        elif name in species.CHARGES:
            assert constant.provenance == "measured"


def test_mountain_pass_agrees_with_the_groups_of_the_same_filing():
    rows = data.load_set("feeds/bastnaesite-mountain-pass")
    total = sum(c.si for n, c in rows.items() if n in species.RARE_EARTHS)
    assert (rows["Nd"].si + rows["Pr"].si) / total == pytest.approx(rows["group_NdPr"].si, abs=0.01)
    light = sum(rows[e].si for e in ("La", "Ce", "Pr", "Nd"))
    assert 1 - light / total == pytest.approx(rows["group_SEG"].si, abs=0.005)


def test_mud_keeps_the_published_share_of_yttrium_and_the_heavies():
    rows = data.load_set("feeds/mud-minamitorishima")
    heavy = ("Y", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu")
    total = sum(c.si for n, c in rows.items() if n in species.RARE_EARTHS)
    assert sum(rows[e].si for e in heavy) / total == pytest.approx(
        rows["group_Y_heavy"].si, abs=0.001
    )
    assert feed.read("mud-minamitorishima", data.Book()).header.confidence == "low"


def test_rates_by_oxide_material_and_liquor_agree():
    found = feed.read("magnet-scrap", data.Book())
    by_oxide = found.amounts(feed.Rate(value=1.0, per="TREO"))
    by_material = found.amounts(feed.Rate(value=1.0 / found.treo, per="material"))
    liquor = found.liquor(feed.Rate(value=1.0, per="TREO"))
    by_liquor = found.amounts(feed.Rate(value=liquor.flow, per="liquor"))
    for e, n in by_oxide.items():
        assert by_material[e] == pytest.approx(n, rel=1e-12)
        assert by_liquor[e] == pytest.approx(n, rel=1e-12)
    assert feed.parse_rate("1000 t_REO/year").value == pytest.approx(1e6 / 31557600.0)
    with pytest.raises(InputError, match="no grade"):
        feed.read("monazite-mount-weld-usgs", data.Book()).amounts(
            feed.Rate(value=1.0, per="material")
        )


@pytest.mark.parametrize("text", ["1000", "-5 t/h", "5 kg", "5 USD2025/kg", "much", "0 t/h"])
def test_a_rate_that_is_none_is_refused(text):
    with pytest.raises(InputError, match="not a rate of feed"):
        feed.parse_rate(text, file="study.toml")


def test_a_share_can_be_overridden_and_moves_only_its_element():
    base = feed.read("clay-xinfeng", data.Book())
    book = data.Book({"feeds/clay-xinfeng:leach_recovery": 0.5})
    less = feed.read("clay-xinfeng", book)
    assert less.amounts(TREO)["Nd"] == pytest.approx(base.amounts(TREO)["Nd"] * 0.5 / 0.75)
    doubled = feed.read("magnet-scrap", data.Book({"feeds/magnet-scrap:Gd": 0.072}))
    base = feed.read("magnet-scrap", data.Book())
    assert doubled.moles["Gd"] * doubled.treo == pytest.approx(2 * base.moles["Gd"] * base.treo)
    assert doubled.moles["Nd"] * doubled.treo == pytest.approx(base.moles["Nd"] * base.treo)


OWN = """
schema = 1
kind = "feed"
title = "Our swarf"
basis = "metal"

[defaults]
unit = "1"
basis = "kg of the element per kg of swarf"
source = "user"
locator = "assay of lot 7"
conditions = "dried"
class = "measured"
distribution = "not stated"

[constants]
Nd = 0.215
Pr = 0.065
Dy = 0.012
Fe = 0.62
leach_recovery = 0.95
dissolved_Fe = 1.0
liquor_pH = 0.5
liquor_TREO = { value = 40, unit = "g_REO/L", basis = "oxide per volume" }
"""


def test_a_users_own_feed_by_path_and_by_name(tmp_path, monkeypatch):
    path = tmp_path / "swarf.toml"
    path.write_text(OWN)
    by_path = feed.read(str(path), data.Book())
    assert by_path.moles["Nd"] * by_path.treo == pytest.approx(0.215 / 0.144242)
    (tmp_path / "models" / "feeds").mkdir(parents=True)
    path.rename(tmp_path / "models" / "feeds" / "swarf.toml")
    monkeypatch.chdir(tmp_path)
    assert "swarf" in feed.feed_ids()
    book = data.Book()
    assert feed.read("swarf", book).treo == pytest.approx(by_path.treo)
    assert book.used["feeds/swarf:Nd"].source == "user"
    (tmp_path / "models" / "feeds" / "magnet-scrap.toml").write_text(OWN)
    assert [path.stem for path in case.shadowed()] == ["magnet-scrap"]
    assert feed.read("magnet-scrap", data.Book()).header.title == "Our swarf"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("dissolved_Fe = 1.0", "", "missing leach assumption"),
        ("Nd = 0.215", "Nd = 21.5", "do not close"),
        ("Nd = 0.215", 'Nd = { value = 3, unit = "g/L" }', "not a unit for the basis metal"),
        ("Nd = 0.215", "Nd = -0.2", "negative share"),
        ("Nd = 0.215", 'Nd = "much"', "not a number"),
        ('basis = "metal"', 'basis = "mettal"', "unknown choice"),
        ('title = "Our swarf"', 'title = "Our swarf"\ncolour = "red"', "unknown key"),
        ('source = "user"', 'source = "nobody"', "no entry in sources.toml"),
        ('kind = "feed"', 'kind = "set"', "feed"),
        ("Nd = 0.215\nPr = 0.065\nDy = 0.012", "", "without rare earths"),
    ],
)
def test_a_feed_that_cannot_be_used_is_refused(tmp_path, old, new, message):
    path = tmp_path / "swarf.toml"
    path.write_text(OWN.replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        feed.read(str(path), data.Book())


def test_the_examples_of_the_how_to_page_can_be_used(tmp_path, monkeypatch):
    page = Path(__file__).parents[1] / "docs" / "how-to" / "data-and-provenance.md"
    blocks = re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    own_set, own_source, own_feed = blocks
    (tmp_path / "models" / "data").mkdir(parents=True)
    (tmp_path / "models" / "feeds").mkdir()
    (tmp_path / "models" / "data" / "lot12.toml").write_text(own_set)
    (tmp_path / "models" / "sources.toml").write_text(own_source)
    (tmp_path / "models" / "feeds" / "swarf.toml").write_text(own_feed)
    monkeypatch.chdir(tmp_path)
    assert data.Book()["lot12:Nd/Pr"] == 1.27
    assert feed.read("swarf", data.Book()).treo == pytest.approx(0.343, abs=0.001)
