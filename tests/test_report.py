"""The comparison as a reader meets it: table, page, files, command."""

import csv
import io
import json
import re
from html.parser import HTMLParser

import pytest
from click.testing import CliRunner

import sepmodel
from sepmodel import cli, plot_comparison, report, units
from sepmodel.plant import compare


@pytest.fixture(scope="module")
def comparison():
    keys = ["prices/reagents-us-2025:HCl", "economics/labour:staffing"]
    return sepmodel.compare("magnet-scrap", ranges=keys, members=64)


def test_the_table_fits_a_terminal_and_names_every_route(comparison):
    text = report.table(comparison)
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())
    for result in comparison.routes:
        assert result.route.title.split()[0] in words
    wide = report.table(comparison, wide=True)
    assert 80 < max(map(len, wide.splitlines())) <= 160


def test_the_page_stands_alone_and_begins_with_what_is_computed(comparison):
    drawn = plot_comparison.figures(comparison)
    html = report.page(comparison, drawn)
    loads = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            loads.extend(v for k, v in attrs if k in ("src", "href") and tag not in ("a", "use"))

    Reader().feed(html)
    assert not [link for link in loads if not link.startswith(("#", "data:"))]
    assert html.index("Computed, not measured") < html.index("What it says")
    assert html.count("<svg") == len(drawn) // 2 == 3
    for source in {c.source for r in comparison.routes for c in r.used.values()}:
        citation = sepmodel.data.sources()[source].citation
        assert citation.split("&")[0].split("'")[0][:40] in html
    assert not re.search(r"\bnan\b|\binf\b", html)


def test_no_two_groups_of_a_breakdown_look_alike(comparison):
    names = {r.route.name: r.route.name for r in comparison.routes}
    (legend,) = plot_comparison.composition(comparison.routes, names).legends
    words = [text.get_text() for text in legend.get_texts()]
    colours = {patch.get_facecolor() for patch in legend.get_patches()}
    assert plot_comparison.SLIGHT in words
    assert len(colours) == len(words)


def test_files_hold_units_and_no_nan(comparison, tmp_path):
    page = report.write(comparison, tmp_path / "out")
    assert page.is_file()
    document = json.loads((tmp_path / "out/comparison.json").read_text(encoding="utf-8"))
    slate = [row for row in document["rows"] if row["product"] == compare.SLATE]
    assert [row["route"] for row in slate] == [r.route.name for r in comparison.routes]
    assert slate[0]["metrics"]["cost"]["low"] < slate[0]["metrics"]["cost"]["value"]
    header = next(csv.reader(io.StringIO((tmp_path / "out/comparison.csv").read_text())))
    assert all("[" in name for name in header[4:])
    draws = list(csv.DictReader((tmp_path / "out/draws.csv").open()))
    assert [row["draw"] for row in draws] == [str(k) for k in range(64)]
    drawn = comparison.drawn.of(7)
    assert [float(draws[7][f"{key} [SI]"]) for key in drawn if f"{key} [SI]" in draws[7]]
    for result in comparison.routes:
        cost = float(draws[7][f"{result.route.name}: cost [USD2025/kg_REO]"])
        assert cost == pytest.approx(units.to(result.told.figures["cost"][7], "USD2025/kg_REO"))
    parts = list(csv.DictReader((tmp_path / "out/contributions.csv").open()))
    for row in slate:
        for metric in ("cost", "carbon", "energy"):
            booked = sum(
                float(p["value"])
                for p in parts
                if p["route"] == row["route"] and p["figure"] == compare.METRICS[metric].label
            )
            assert booked == pytest.approx(row["metrics"][metric]["value"], rel=1e-9)
            route = next(r for r in document["routes"] if r["name"] == row["route"])
            told = sum(p["value"] for p in route["contributions"] if p["metric"] == metric)
            assert told == pytest.approx(row["metrics"][metric]["value"], rel=1e-9)
    (tmp_path / "out/report.html").write_text("mine", encoding="utf-8")
    with pytest.raises(sepmodel.InputError, match="in the way"):
        report.write(comparison, tmp_path / "out")


def test_the_command_prints_only_json_when_asked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = ["compare", "--no-ranges", "--no-figures", "--json", "-"]
    done = CliRunner().invoke(cli.app, arguments, standalone_mode=False)
    assert done.exception is None
    assert json.loads(done.stdout)["study"] == "magnet-scrap"
    assert (tmp_path / "results").is_dir()


@pytest.mark.parametrize("pair", ["x", "a:b", "a:b=c", "a=1", "elements:Nd=nan"])
def test_a_constant_to_replace_is_checked(pair):
    done = CliRunner().invoke(cli.app, ["compare", "--constant", pair], standalone_mode=False)
    assert isinstance(done.exception, sepmodel.InputError)
