"""Every number under ``models/`` says who said it, where, in which unit and how far to trust it."""

import re
from collections import defaultdict

import pytest

from sepmodel import data, units
from sepmodel.errors import InputError

SETS = data.set_ids()
SOURCES = data.sources()
DOI = re.compile(r"10\.\d{4,9}/[^\s\"<>]+\Z")
# Sources that stand for no publication that was seen: nothing better than an estimate.
UNSEEN = {"judgement", "practice", "chinese-handbook"} | {
    key for key, source in SOURCES.items() if "remember" in source.read or "memory" in source.read
}
# Sources that are definitions or arithmetic and need no publication.
ARITHMETIC = {"si2019", "stoichiometry", "crf", "lad-theory"}
DOCUMENTS = sorted(
    path
    for path in data.models_dir().rglob("*.toml")
    if path.relative_to(data.models_dir()).parts[0] != "data" and path.name != "sources.toml"
)


def constants():
    for set_id in SETS:
        yield from data.load_set(set_id).values()


def test_the_shelf_is_not_empty():
    assert len(SETS) > 20
    assert sum(1 for _ in constants()) > 500


@pytest.mark.parametrize("set_id", SETS)
def test_every_constant_has_its_provenance(set_id):
    """Unit, basis, source, locator, class and a range where it is an estimate."""
    loaded = data.load_set(set_id)
    assert loaded
    for constant in loaded.values():
        assert constant.source in SOURCES, constant.key
        assert constant.provenance in data.CLASSES
        assert len(constant.locator) > 2, constant.key
        assert len(constant.basis) > 2 or constant.unit != "1", constant.key
        assert isinstance(constant.si, float)
        low, high = constant.si_range
        assert low <= constant.si * (1 + 1e-12) + 1e-300 or low == pytest.approx(constant.si)
        if constant.provenance == "estimated":
            assert constant.low is not None, f"{constant.key}: an estimate has a range"
            assert constant.high is not None
            assert low < high, constant.key


@pytest.mark.parametrize("set_id", SETS)
def test_no_class_is_better_than_its_source_allows(set_id):
    for constant in data.load_set(set_id).values():
        source = SOURCES[constant.source]
        if constant.distribution == "exact" and constant.provenance in ("reference", "derived"):
            continue  # a definition, a count, stoichiometry
        if constant.source in UNSEEN:
            assert constant.provenance == "estimated", constant.key
        elif constant.source in ARITHMETIC:
            assert constant.provenance in ("derived", "reference", "estimated"), constant.key
        elif source.read.startswith("secondary") and constant.provenance != "estimated":
            assert constant.secondary or constant.provenance == "derived", (
                f"{constant.key}: {constant.source} was read in a secondary source"
            )
        if re.search(r"remember|unverified|not verified|judgement", constant.locator):
            # The words may explain the range or the choice inside a published range only.
            explained = re.search(r"(range|value[^;]*): judgement", constant.locator)
            assert constant.provenance == "estimated" or explained, constant.key
        if constant.provenance == "measured":
            assert constant.source not in UNSEEN | ARITHMETIC, constant.key


@pytest.mark.parametrize("set_id", SETS)
def test_every_set_says_what_it_is(set_id):
    meta = data.set_meta(set_id)
    assert meta["title"]
    members = {c.source for c in data.load_set(set_id).values()} - {"judgement"}
    if len(members) > 1:
        assert meta.get("notes"), f"{set_id} combines {sorted(members)} and must say why"


def test_every_source_can_be_found_and_carries_the_notice_it_asks_for():
    for source in SOURCES.values():
        assert source.citation
        assert source.read.split(":")[0] in ("primary", "secondary", "not applicable"), source.key
        if source.doi:
            assert DOI.match(source.doi), source.key
        if re.search(r"modified BSD|acknowledgement", source.licence) and source.key != "freed":
            assert source.notice, f"{source.key}: the licence asks for a notice"
        assert not re.search(r"https?://doi", source.doi)


def test_the_two_notices_that_compilations_ask_for():
    argonne = SOURCES["llepe"].notice
    assert "UChicago Argonne" in argonne
    assert "Redistributions of source code must retain" in argonne
    assert "Disclaimer" in argonne
    assert "Changes made" in argonne
    nist = SOURCES["srd46"].notice
    assert "NIST Standard Reference Database 46" in nist
    assert "Changes made" in nist


def test_licensed_databases_are_not_redistributed():
    assert not [c.key for c in constants() if c.source == "ecoinvent38-check"]


def test_one_quantity_stands_in_one_place():
    """A number copied into a second set (same basis, conditions, locator) says so."""
    places = defaultdict(list)
    for constant in constants():
        # A feed and a market are complete in themselves.
        if not constant.key.startswith(("feeds/", "prices/")):
            c = constant
            where = (c.name, c.value, c.unit, c.basis, c.conditions, c.source, c.locator)
            places[where].append(constant)
    for where, found in places.items():
        sets = {c.key.split(":")[0] for c in found}
        silent = [c.key for c in found if not c.note and not _explained(c, sets)]
        assert len(silent) <= 1, f"{where} in {sorted(sets)}"


def _explained(constant, sets):
    """The set's notes name another set that holds the same quantity, or the publication."""
    notes = str(data.set_meta(constant.key.split(":")[0]).get("notes", ""))
    others = sets - {constant.key.split(":")[0]}
    return any(other.split("/")[-1] in notes for other in others)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.stem)
def test_every_other_document_loads(path):
    document = data.read_toml(path)
    assert document["schema"] == 1
    assert document["kind"]


def test_money_carries_its_year_and_oxide_its_basis():
    for constant in constants():
        if re.search(r"USD|CNY", constant.unit):
            assert units.money_year(constant.unit), constant.key


HEAD = 'schema = 1\ntitle = "t"\n[constants]\n'
GOOD = (
    'x = { value = 1, unit = "1", basis = "bbb", source = "user", locator = "here", '
    'conditions = "ccc", class = "measured", distribution = "not stated" }\n'
)
CSV = "name,value,unit,basis,source,locator,conditions,class,distribution\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("s.toml", HEAD, "without \\[constants\\]"),
        ("s.toml", GOOD, "not a data set"),
        ("s.toml", "schema = 1\ntitle = ", "cannot be read"),
        ("s.toml", HEAD + GOOD.replace("= 1,", '= "one",'), "value is not a number"),
        ("s.toml", HEAD + GOOD.replace("= 1,", "= true,"), "value is not a number"),
        ("s.toml", HEAD + GOOD.replace("= 1,", "= inf,"), "not finite"),
        ("s.toml", HEAD + GOOD.replace("user", "nobody"), "no entry in sources.toml"),
        ("s.toml", HEAD + GOOD.replace('"not stated"', '"exact", low = 0'), "low and high go"),
        ("s.toml", HEAD + GOOD.replace('"1"', '"7 pH"'), "pH is a bare number"),
        ("s.csv", CSV + ",1,1,b,user,l,c,measured,exact\n", "without a name"),
        ("s.csv", CSV + "x,1,1,b,user,l,c,measured,exact,extra\n", "longer than the header"),
        ("s.csv", CSV + 2 * "x,1,1,b,user,l,c,measured,exact\n", "occurs twice"),
        ("s.csv", CSV + "x,,1,b,user,l,c,measured,exact\n", "missing value"),
        ("s.csv", b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_a_set_that_cannot_be_used_is_refused_in_one_message(tmp_path, name, text, message):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=message) as caught:
        data.load_set(str(path))
    assert all(name in problem.file for problem in caught.value.problems)


@pytest.mark.parametrize(
    "text", ["mine = 3", '[mine]\ndoi = "10.1/x"', '[mine]\ncitation = "c"\ncolour = "red"']
)
def test_an_own_list_of_sources_that_cannot_be_used_is_refused(tmp_path, monkeypatch, text):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "sources.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="not a source"):
        data.sources()


def test_an_own_set_stands_in_front_of_the_shipped_one(tmp_path, monkeypatch):
    (tmp_path / "models" / "data").mkdir(parents=True)
    (tmp_path / "models" / "data" / "physics.toml").write_text(HEAD + GOOD)
    monkeypatch.chdir(tmp_path)
    assert list(data.load_set("physics")) == ["x"]
    assert "physics" in data.set_ids()


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_replaced_constant_keeps_to_what_it_can_be(value):
    with pytest.raises(InputError, match="not a value this constant can have"):
        data.Book({"proteins/lanmodulin-column:cycles": value})


@pytest.mark.parametrize(
    ("key", "text", "si"),
    [
        ("elements:Nd", "144.24 g/mol", 0.14424),
        ("elements:Nd", "0.14424", 0.14424),
        ("process/extraction:handling_loss", "0.01", 0.01),
    ],
)
def test_a_constant_is_replaced_by_a_number_or_by_text_with_a_unit(key, text, si):
    assert data.replacement(key, text) == pytest.approx(si, rel=1e-12)


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("elements:Nd", "144 L", "g/mol"),
        ("elements:Nd", "much", "g/mol"),
        ("process/extraction:handling_loss", "2", "from 0 to 1"),
        ("process/extraction:handling_los", "0.1", "handling_loss"),
    ],
)
def test_a_replacement_that_cannot_be_names_the_constant_and_what_it_takes(key, text, expected):
    with pytest.raises(InputError) as caught:
        data.replacement(key, text)
    (problem,) = caught.value.problems
    assert expected in problem.expected
    assert key.split(":")[1] in (problem.key.split(":")[-1], problem.value)


@pytest.mark.parametrize("value", [0.0, -5.0, float("inf")])
def test_a_count_or_a_price_is_above_zero(value):
    for key in ("proteins/lanmodulin-column:cycles", "prices/reagents-us-2025:HCl"):
        with pytest.raises(InputError) as caught:
            data.Book({key: value})
        assert caught.value.problems[0].key == key
