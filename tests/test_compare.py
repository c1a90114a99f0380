"""The comparison of routes: what must change, what must not, and that every book closes."""

import csv
import doctest
import io
import json
import math
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest

import sepmodel
from sepmodel import distributions, files, report, report_page, report_words
from sepmodel.data import Book, load_set, models_dir
from sepmodel.errors import ConvergenceError, InfeasibleError, InputError
from sepmodel.plant import (
    circuit_numbers,
    circuit_search,
    circuit_trims,
    circuits,
    compare,
    train_trims,
)
from sepmodel.plant.compare import cautions, evaluation
from sepmodel.plant.compare import members as plants
from sepmodel.plant.operations import common, spent_liquors
from sepmodel.products import amounts
from sepmodel.run import load
from sepmodel.species import RARE_EARTHS

STUDY = "magnet-scrap"
SX, PROTEIN, DISPLACEMENT = "conventional-extraction", "protein", "displacement"
# Figures of a route that are amounts of substance or energy, not money.
PHYSICAL = tuple(m for m in compare.METRICS if m not in compare.MONEY)


def document(name=STUDY, **changes):
    return {**load(name).document, **changes}


def run(study=STUDY, **options):
    options.setdefault("ranges", False)
    return sepmodel.compare(study, **options)


def metrics(comparison):
    return {r.route.name: r.account.metrics for r in comparison.routes if r.account}


def cells(comparison):
    """Every number of the comparison by route and name."""
    return {
        (r.route.name, name): value
        for r in comparison.routes
        if r.account
        for name, value in compare.figures(r.account).items()
    }


def moved(one, other, rel=1e-9):
    """The cells that differ."""
    a, b = cells(one), cells(other)
    assert a.keys() == b.keys()
    return {key for key in a if not math.isclose(a[key], b[key], rel_tol=rel, abs_tol=1e-15)}


@pytest.fixture(scope="module")
def base():
    return run()


@pytest.mark.parametrize("module", [common, spent_liquors, report_words, report_page])
def test_doctests(module):
    assert doctest.testmod(module).failed == 0


def test_every_route_meets_every_specification_or_says_why(base):
    assert [r.route.name for r in base.routes] == [SX, PROTEIN, DISPLACEMENT]
    for result in base.routes:
        missed = [p for p in result.account.products.values() if p["missed"]]
        assert (result.status == "meets") == (not missed) == (not result.reasons)
        assert result.status == "meets"


def test_every_balance_closes(base):
    for result in base.routes:
        closure = result.sheet.closure
        assert max(closure.values()) < 1e-9
        assert {"Nd", "Pr", "Dy", "Tb", "Gd", "Ho", "La", "Ce", "Fe", "Na", "Cl", "C2O4"} <= set(
            closure
        )


def test_what_units_contribute_adds_up_to_the_route(base):
    for result in base.routes:
        figures = result.account.metrics
        for metric in ("cost", "carbon", "energy"):
            parts = compare.breakdown(result.account, metric)
            assert math.fsum(parts.values()) == pytest.approx(figures[metric], rel=1e-9)
        # The same word for the same content: capital in the table is capital among the parts.
        cost = compare.breakdown(result.account, "cost")
        assert cost["capital"] == pytest.approx(figures["capital"], rel=1e-9)
        assert figures["opex"] == pytest.approx(figures["cost"] - cost["capital"], rel=1e-9)


def test_allocations_share_out_the_whole_burden(base):
    for result in base.routes:
        products = result.account.products.values()
        slate = sum(p["oxide"] for p in products)
        for metric in ("cost", "carbon"):
            for basis in compare.ALLOCATIONS:
                shared = sum(p[f"{metric} by {basis}"] * p["oxide"] for p in products)
                assert shared / slate == pytest.approx(result.account.metrics[metric], rel=1e-9)


def test_a_doubled_rate_leaves_every_figure_unchanged(base):
    """The plant has twice the trains of the size the study names."""
    study = document(rate="2000 t_REO/year", train="1000 t_REO/year")
    doubled = run(study)
    assert doubled.trains == pytest.approx(2.0)
    assert cells(doubled) == cells(base)


def test_a_doubled_train_leaves_what_is_not_money_unchanged(base):
    doubled = metrics(run(document(rate="2000 t_REO/year", train="2000 t_REO/year")))
    for route, before in metrics(base).items():
        for metric in PHYSICAL:
            # Columns are charged by volume and stages by number: both follow the feed exactly.
            assert doubled[route][metric] == pytest.approx(before[metric], rel=1e-9), metric
        assert doubled[route]["capital"] < before["capital"]
        assert doubled[route]["cost"] < before["cost"]


def test_a_tighter_purity_never_needs_fewer_stages():
    stages = []
    for purity in (0.98, 0.995, 0.999):
        study = document(routes=[SX])
        study["product"] = [{**p, "purity": purity} for p in study["product"]]
        stages.append(metrics(run(study))[SX]["stages"])
    assert stages == sorted(stages)
    assert stages[0] < stages[-1]


def test_an_easy_purity_needs_no_scrub_and_is_designed():
    """Its cut Ce|Pr needs no scrub stage; the least strip acid lies on a cliff."""
    study = document(routes=[PROTEIN])
    first, *others = study["product"]
    study["product"] = [{**first, "purity": 0.98}, *others]
    found = run(study).routes[0]
    assert found.status == "meets", found.reasons


def test_a_price_moves_the_cost_of_those_who_pay_it(base):
    key = "prices/reagents-us-2025:EDTA"
    dearer = run(constants={key: 2 * Book()[key]})
    touched = moved(base, dearer)
    assert {route for route, _ in touched} == {DISPLACEMENT}
    # The ligand bought and lost is operating cost, the first fill of it capital.
    touched_names = {name.rpartition("/")[2].partition(" by ")[0] for _, name in touched}
    assert touched_names == {"cost", "opex", "capital", "investment"}


def test_a_product_price_moves_the_shares_and_the_money_tied_up(base):
    key = (
        "prices/ex-china-2025:Tb2O3"
        if "Tb2O3" in load_set("prices/ex-china-2025")
        else ("prices/ex-china-2025:Tb4O7")
    )
    touched = moved(base, run(constants={key: 2 * Book()[key]}))
    names = {name for _, name in touched}
    assert {"Tb/cost by value", "NdPr/carbon by value", "capital"} <= names
    assert not names & {"carbon", "energy", "opex", "stages", "Tb/purity", "Tb/recovery"}


def test_an_emission_factor_moves_carbon_alone(base):
    key = "factors/carbon:protein"
    touched = moved(base, run(constants={key: 2 * Book()[key]}))
    assert {route for route, _ in touched} == {PROTEIN}
    assert all("carbon" in name for _, name in touched)


def test_a_reagent_dose_moves_the_route_that_doses_it(base):
    key = "process/concentrating:acid_excess"
    touched = moved(base, run(constants={key: 1.1 * Book()[key]}))
    assert {route for route, _ in touched} == {PROTEIN}
    names = {name for _, name in touched}
    assert {"acid", "base", "salt", "cost", "carbon"} <= names
    assert not names & {"stages", "columns", "protein", "Dy/purity", "Dy/recovery", "ligand"}


def test_an_impurity_of_the_feed_moves_reagents_and_no_design(base):
    key = "feeds/magnet-scrap:Fe"
    # A twentieth more iron takes a twentieth more of the half per cent of rare earths it takes; a
    # stage more or less of the protein's polishing may follow.
    pairs = moved(base, run(constants={key: 1.05 * Book()[key]}), rel=1e-3)
    touched = {name for _, name in pairs}
    assert {"base", "waste"} <= touched
    assert (SX, "stages") not in pairs
    assert not touched & {"protein", "ligand", "Dy/purity", "Tb/recovery"}


def test_the_order_of_routes_products_units_and_links_changes_nothing(base):
    study = document(routes=[DISPLACEMENT, SX, PROTEIN])
    study["product"] = study["product"][::-1]
    assert cells(run(study)) == pytest.approx(cells(base), rel=1e-9)
    route = load(f"routes/{SX}.toml").document
    turned = {**route, "unit": route["unit"][::-1], "link": route["link"][::-1]}
    inputs = [load(turned).inputs]
    alone = load(document(routes=[SX])).inputs
    again = compare.compare(alone, inputs, ranges=False)
    assert again.routes[0].account.metrics == pytest.approx(metrics(base)[SX], rel=1e-12)


def test_the_order_of_a_feeds_elements_changes_nothing(base, tmp_path, monkeypatch):
    text = (models_dir() / "feeds" / "magnet-scrap.toml").read_text(encoding="utf-8")
    lines = text.splitlines()
    nd = next(k for k, line in enumerate(lines) if line.startswith("Nd = "))
    la = next(k for k, line in enumerate(lines) if line.startswith("La = "))
    lines[nd], lines[la] = lines[la], lines[nd]
    folder = tmp_path / "models" / "feeds"
    folder.mkdir(parents=True)
    (folder / "magnet-scrap.toml").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert cells(run()) == pytest.approx(cells(base), rel=1e-9)


def test_ranges_hold_the_base_and_pairs_share_their_constants():
    keys = ["prices/reagents-us-2025:HCl", "factors/grid:US", "economics/finance:discount_rate"]
    found = run(ranges=keys, members=64)
    for result in found.routes:
        assert result.met == result.as_built == 1
        for metric in ("cost", "carbon"):
            span = result.ranges[metric]
            assert span.low < span.value < span.high
        assert {d.key for d in result.drivers["carbon"]} == {"factors/grid:US"}
    # One constant alone: the members' ratios lie between the ratios at its two ends.
    pair = next(p for p in found.pairs if p.metric == "carbon" and p.second == DISPLACEMENT)
    ends = [
        run(constants={"factors/grid:US": end}) for end in load_set("factors/grid")["US"].si_range
    ]
    ratios = sorted(
        metrics(end)[pair.first]["carbon"] / metrics(end)[pair.second]["carbon"] for end in ends
    )
    assert ratios[0] < pair.low <= pair.high < ratios[1]
    assert pair.probability == pair.both == 1.0


def test_members_of_one_constant_are_its_distribution_seen_through_the_figure():
    """Carbon is linear in the grid's factor: its median is the figure at the factor's median."""
    key = "factors/grid:US"
    found = run(ranges=[key], members=64)
    constant = load_set("factors/grid")["US"]
    middle = metrics(run(constants={key: distributions.of(constant).median}))
    for result in found.routes:
        span = result.ranges["carbon"]
        assert span.low < span.median < span.high
        assert span.median == pytest.approx(middle[result.route.name]["carbon"], rel=1e-2)
        assert [d.share for d in result.drivers["carbon"]] == [pytest.approx(1.0)]


def test_members_depend_on_seed_and_count_alone():
    keys = {k: load_set("factors/grid")[k.partition(":")[2]] for k in ("factors/grid:US",)}
    one, again = plants.draw(keys, 64), plants.draw(keys, 64)
    assert (one.values == again.values).all()
    assert (plants.draw(keys, 128).values[:64] == one.values).all()
    # A draw alone, and with fewer constants drawn, is what it was.
    grid = {c.key: c for c in load_set("factors/grid").values() if c.si_range[0] < c.si_range[1]}
    many, fewer = plants.draw(grid, 32), plants.draw(dict(list(grid.items())[::2]), 32)
    assert (fewer.values == many.values[:, ::2]).all()
    assert plants.one_draw(grid, 17) == many.of(17)
    # What members do not take is not drawn.
    soap = load_set("extractants/soap")
    names = ("dimers-Na", "log-K-Na")
    all_ = plants.draw({f"extractants/soap:{n}": soap[n] for n in names}, 8)
    assert all_.keys == ("extractants/soap:log-K-Na",)
    assert plants.draw({"extractants/soap:dimers-Na": soap["dimers-Na"]}, 8).values.shape == (8, 0)


def test_a_pair_is_judged_by_the_order_of_the_base():
    """Draws that turn a ranking round do not make it sure; too few say nothing."""
    turned = compare.Pair(
        metric="cost", first="a", second="b", ratio=0.97, low=1.01, high=1.2, probability=0.01
    )
    assert not turned.decided
    held = replace(turned, low=0.8, high=0.99, probability=0.96)
    assert held.decided
    pairs = Namespace(pairs=[held, replace(held, ratio=1.1, low=1.0, high=1.2, probability=0.1)])
    assert "90.0 % or more" in report_words._odds(pairs, ["cost"])


def test_what_is_set_is_not_drawn():
    key, other = "factors/grid:US", "prices/reagents-us-2025:HCl"
    study = document(routes=[DISPLACEMENT])
    found = run(study, constants={key: 2 * Book()[key]}, ranges=[key, other], members=32)
    assert found.drawn.keys == (other,)
    span = found.routes[0].ranges["carbon"]
    assert span.low == pytest.approx(span.value)


@pytest.fixture(scope="module")
def members():
    """64 plants by extraction and by displacement, all constants drawn, and how they are made."""
    study = load(document(routes=[SX, DISPLACEMENT])).inputs
    routes = [load(f"routes/{name}.toml").inputs for name in (SX, DISPLACEMENT)]
    case = evaluation.Case(
        study=study, routes=tuple(routes), products=tuple(p.product for p in study.product)
    )
    at_base = evaluation.evaluate_study(case, Book())
    drawn = plants.draw(evaluation.ranged(at_base), 64)
    return case, at_base, drawn, plants.evaluate(case, Book(), at_base, drawn)


def test_a_member_does_not_depend_on_its_mates(members):
    """Alone, in another company and order: the same plants."""
    case, at_base, drawn, together = members
    turned = plants.Drawn(keys=drawn.keys, values=drawn.values[::-1][:8])
    some = plants.evaluate(case, Book(), at_base, turned)
    for name, told in together.items():
        assert told.status[::-1][:8] == some[name].status
        for figure, values in told.figures.items():
            assert values[::-1][:8] == pytest.approx(
                some[name].figures[figure], rel=1e-10, abs=1e-300, nan_ok=True
            )
    for i in (0, 17, 63):
        one = plants.Drawn(keys=drawn.keys, values=drawn.values[i : i + 1])
        for name, told in plants.evaluate(case, Book(), at_base, one).items():
            assert told.status[0] == together[name].status[i]
            for figure, values in told.figures.items():
                same = together[name].figures[figure][i]
                assert values[0] == pytest.approx(same, rel=1e-10, abs=1e-300, nan_ok=True)


def test_draws_are_independent_between_constants(members):
    _, at_base, _, _ = members
    drawn = plants.draw(evaluation.ranged(at_base), 512)
    ranks = drawn.values.argsort(axis=0).argsort(axis=0)
    seen = np.corrcoef(ranks.T) - np.eye(len(drawn.keys))
    assert len(drawn.keys) > 200
    # Of 40,000 pairs the largest of chance is 4.5 standard errors, 0.2.
    assert np.abs(seen).max() < 0.3


def test_two_processes_give_what_one_gives(members):
    case, at_base, drawn, together = members
    others = evaluation.evaluate_study(case, Book(), workers=2)
    for name, own in at_base.accounts.items():
        assert compare.figures(others.accounts[name]) == compare.figures(own)
        assert others.accounts[name].used.keys() == own.used.keys()
        assert others.sheets[name].used.keys() == at_base.sheets[name].used.keys()
    first = drawn.part(0, 24)
    for name, told in plants.evaluate(case, Book(), others, first, workers=2).items():
        assert told.status == together[name].status[:24]
        assert told.reasons == together[name].reasons[:24]
        for figure, values in told.figures.items():
            same = together[name].figures[figure][:24]
            assert values == pytest.approx(same, rel=1e-10, abs=1e-300, nan_ok=True)


def test_a_draw_can_be_run_by_hand(members):
    """The plants of the base at a draw's constants: the member's figures."""
    case, at_base, drawn, together = members
    for i in range(4):
        state = plants.standing(case, Book(), at_base, drawn.of(i))
        for name, told in together.items():
            if name in state.failed:
                assert state.failed[name] == told.reasons[i]
                continue
            own = compare.figures(state.accounts[name])
            for figure, values in told.figures.items():
                if not np.isnan(values[i]):
                    assert own[figure] == pytest.approx(values[i], rel=1e-9, abs=1e-300)


def test_every_member_closes_and_meets_or_says_why(members):
    for told in members[3].values():
        assert told.closure < 1e-9
        for status, reason in zip(told.status, told.reasons, strict=True):
            assert (status == plants.MISSES) == bool(reason)
        assert (told.met == ~np.isnan(told.figures["cost"])).all()


def test_a_member_at_the_base_is_the_base(members):
    """The built plant at its own constants; the search of its flows finds strip acid on a grid."""
    case, at_base, drawn, _ = members
    centre = {key: Book()[key] for key in drawn.keys}
    one = plants.Drawn(keys=drawn.keys, values=np.array([[centre[k] for k in drawn.keys]]))
    found = plants.evaluate(case, Book(), at_base, one)
    for name, told in found.items():
        assert told.status == (plants.MEETS,)
        for figure in ("cost", "carbon", "energy", "acid", "base", "effluent"):
            base = at_base.accounts[name].metrics[figure]
            assert told.figures[figure][0] == pytest.approx(base, rel=1e-2), figure


def test_a_members_circuits_are_those_the_search_finds(members):
    """The flows of circuits solved together against ``circuit_search``, one at a time."""
    case, at_base, drawn, _ = members
    unit = at_base.sheets[SX].units["train"].result
    built = unit.circuits[0]
    task = built.task
    for i in range(3):
        book = Book().with_values(drawn.of(i))
        parameters = next(u for u in case.routes[0].unit if u.id == "train")
        chemistry = circuits.chemistry(
            tuple(task.feed), book, factor_set=parameters.factors,
            constants=parameters.constants, level=parameters.level,
            extractant="extractants/pc88a", process=parameters.set,
        )  # fmt: skip
        job = circuit_numbers.Job(
            liquor=circuits.Liquor(moles=task.feed, flow=task.flow, acid=task.acid),
            chemistry=replace(chemistry, dimers=1.0),
            down=task.down,
            up=task.up,
            strip=built.stages[2],
        )
        one = circuit_trims.Trimmer(built, task).solve([job])[0]
        start = replace(built.start, flows=one.start.flows)
        searched = circuit_search.run(task, job.chemistry, start)
        assert searched.stages == one.stages
        for figure in ("flow_org", "flow_scrub", "base_soap", "solvent"):
            assert getattr(one, figure) == pytest.approx(getattr(searched, figure), rel=2e-3)
        # The search finds the strip acid on a grid of 2 %.
        assert one.acid_strip == pytest.approx(searched.acid_strip, rel=1e-2)
        for element in task.feed:
            gone = one.raffinate[element] + one.product[element]
            assert gone == pytest.approx(task.feed[element], rel=1e-8)


def test_a_route_that_cannot_be_designed_is_a_row_and_no_error():
    study = document(routes=[PROTEIN])
    study["product"] = [{**p, "recovery": 0.9995} for p in study["product"]]
    found = run(study)
    assert found.routes[0].status in ("FAILS", "infeasible")
    assert found.routes[0].reasons
    row = compare.rows(found)[0]
    assert row["meets_spec"] is False
    assert row["status"] != "meets"


@pytest.mark.parametrize(
    ("kept", "products", "infeasible"),
    [
        (("Nd", "Dy"), ("Nd", "Dy"), ()),  # every rare earth a product: no by-products
        (("La", "Ce", "Pr", "Nd"), ("Nd",), (PROTEIN,)),  # nothing heavy to part from
        ((), ("Dy",), ()),  # nothing light asked for: no train polishes it
    ],
    ids=["all-products", "light-only", "dysprosium-alone"],
)
def test_simple_feeds_and_slates_have_their_rows(tmp_path, monkeypatch, kept, products, infeasible):
    text = (models_dir() / "feeds" / "magnet-scrap.toml").read_text(encoding="utf-8")
    if kept:
        gone = [e for e in RARE_EARTHS if e not in kept]
        lines = [x for x in text.splitlines() if x.partition(" =")[0] not in gone]
        text = "\n".join(lines)
    folder = tmp_path / "models" / "feeds"
    folder.mkdir(parents=True)
    (folder / "simple.toml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    slate = [
        {"name": e, "elements": [e], "form": "oxide", "purity": 0.995, "recovery": 0.95}
        for e in products
    ]
    found = run(document(feed="simple", product=slate))
    assert {r.route.name for r in found.routes if r.status == "infeasible"} == set(infeasible)
    for result in found.routes:
        if result.account is None:
            assert "none of the heavy rare earths" in result.reasons[0]
        else:
            assert max(result.sheet.closure.values()) < 1e-9
            assert result.status == "meets", result.reasons


def test_json_and_csv_say_units_and_hold_no_nan(base):
    text = files.json_text(compare.to_dict(base))
    assert "NaN" not in text
    told = json.loads(text)
    assert {"schema", "study", "status", "functional_unit", "boundary", "rows"} <= set(told)
    keys = {
        "route",
        "product",
        "meets_spec",
        "purity",
        "recovery",
        "metrics",
        "model_level",
        "estimated",
        "status",
    }
    assert all(keys <= set(row) for row in told["rows"])
    assert told["rows"][0]["metrics"]["cost"]["unit"] == "USD2025/kg_REO"
    table = list(csv.reader(io.StringIO(compare.csv_text(base))))
    assert all("[" in head and head.endswith("]") for head in table[0][4:])
    assert len(table) == 1 + len(told["rows"])


def test_the_table_fits_eighty_columns(base):
    assert max(map(len, report.table(base).splitlines())) <= 80


def test_extraction_lies_in_the_published_bands(base):
    """6 to 18 USD/kg and 8 to 20 kg CO2e/kg of oxide, gate to gate: bands, not data."""
    extraction = metrics(base)[SX]
    assert 6 < extraction["cost"] < 18
    assert 8 < extraction["carbon"] < 20


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"market": "the-moon-2025"}, "market"),
        ({"rate": "1000 t/year"}, "rate"),
        ({"effluent": "river"}, "effluent"),
        ({"routes": ["teleportation"]}, ""),
        ({"feed": "cheese"}, ""),
        ({"colour": "blue"}, "colour"),
    ],
)
def test_bad_studies_are_refused_with_the_key(change, key):
    with pytest.raises(InputError) as refused:
        run(document(**change))
    if key:
        assert key in {p.key for p in refused.value.problems}


def test_contributions_name_the_operation_and_facts_the_equipment(base):
    document = compare.to_dict(base)
    for route in document["routes"]:
        booked = {entry["operation"] for entry in route["contributions"]}
        assert booked <= {*route["units"], "plant"}
        assert {entry["unit"] for entry in route["contributions"]} == {
            "USD2025/kg_REO",
            "kg/kg_REO",
            "kWh/kg_REO",
        }
        assert all(entry["item"] for entry in route["contributions"])
    columns = next(r for r in base.routes if r.route.name == "displacement").sheet.units["columns"]
    names = [item.name for item in columns.result.equipment]
    assert any("ligand recovery" in name for name in names)
    assert {"first fill of EDTA", "first fill of CuSO4"} <= set(names)
    # Every position has vessels of its own, and together they hold the resin.
    vessels = [item for item in columns.result.equipment if item.account == "vessel"]
    facts = columns.result.facts
    assert len(vessels) == facts["column positions"][0]
    assert sum(item.count for item in vessels) == facts["vessels"][0]
    freeboard = Book()["equipment/sizing:column_vessel_over_bed"]
    assert sum(item.count * item.size for item in vessels) == pytest.approx(
        facts["column volume"][0] * freeboard, rel=1e-9
    )
    assert "wide-bed" in {w["code"] for w in columns.result.warnings}


def test_a_train_larger_than_the_plant_is_refused():
    with pytest.raises(InputError, match="larger than the plant"):
        sepmodel.load("magnet-scrap", {"rate": "10 t_REO/year"})


def test_a_purity_beyond_practice_is_told():
    study = document(routes=[DISPLACEMENT])
    study["product"] = [{**p, "purity": 0.99995} for p in study["product"][:1]]
    found = run(study)
    (warning,) = compare.to_dict(found)["warnings"]
    assert (warning["code"], warning["where"]) == ("purity-beyond-practice", "NdPr")
    assert "purity-beyond-practice" in report.table(found)
    assert compare.to_dict(run(document(routes=[DISPLACEMENT])))["warnings"] == []


def test_loading_beyond_the_data_is_a_headline(base):
    result = base.routes[0]
    loads = [c.loading for c in result.sheet.units["train"].result.circuits]
    full = cautions.loading(result)
    assert full.circuits == len(loads)
    assert sorted(full.loaded.values()) == sorted(x for x in loads if x > full.seen)
    (line,) = [s for s in report_words.headlines(base) if "stoichiometric" in s]
    assert f"{len(full.loaded)} of {len(loads)} circuits" in line
    assert cautions.loading(base.routes[2]) is None


def test_people_follow_the_sections_of_a_route(base):
    """Operators by section, scaled to the oxide handled, and those behind them: by hand."""
    constants = load_set("economics/labour")
    handled = sum(amounts(base.routes[0].sheet.context.feed).values())
    average = handled * load_set("economics/finance")["capacity_factor"].si
    size = average / constants["reference_capacity"].si
    scale = size ** constants["capacity_exponent"].si * (1 + constants["support"].si)
    circuits = {r.route.name: 0 for r in base.routes}
    for r in base.routes:
        circuits[r.route.name] = sum(len(u.result.circuits) for u in r.sheet.units.values())
    at_reference = {
        SX: 4 * 2 + circuits[SX],  # iron, finishing, by-product, effluent
        PROTEIN: 6 * 2 + 1 + 2 + circuits[PROTEIN],  # two precipitations more, pH, columns
        DISPLACEMENT: 5 * 2 + 1 + 2 * 2,  # ligand recovery, pH, columns on two ligands
    }
    for route, people in ((r.route.name, r.account.metrics["people"]) for r in base.routes):
        assert people == pytest.approx(at_reference[route] * scale, rel=1e-9)


def test_a_price_of_carbon_dioxide_reaches_the_fuel_behind_heat(base):
    key = "prices/reagents-us-2025:CO2"
    price = 0.1
    taxed = run(constants={key: price})
    stack = Book()["factors/stack:heat"]
    for before, after in zip(base.routes, taxed.routes, strict=True):
        old, new = (compare.breakdown(r.account, "cost") for r in (before, after))
        rise = new["energy"] - old["energy"]
        assert rise == pytest.approx(stack * price * before.account.metrics["heat"], rel=1e-9)
        assert new["process gas"] > old.get("process gas", 0.0)
        # What leaves the stack is part of what heat is charged with, never more.
        assert stack < Book()["factors/carbon:heat"]


def test_reasons_tell_reached_from_demanded():
    assert plants._below(0.9123, 0.98) == "0.9123, demanded 0.9800"
    assert plants._below(0.979996, 0.98) == "0.979996, demanded 0.9800"


def test_a_circuit_that_is_not_solved_is_not_called_infeasible():
    assert isinstance(train_trims._failure("A|B", short=True, opened=True), InfeasibleError)
    for opened in (True, False):
        told = train_trims._failure("A|B", short=False, opened=opened)
        assert isinstance(told, ConvergenceError)
        assert "not solved" in str(told)
