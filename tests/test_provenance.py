"""What `sepmodel sources` can say."""

import json

import pytest

from sepmodel import data, feed, provenance
from sepmodel.errors import InputError


def fits(lines, width=80):
    return all(len(line) <= width for line in lines)


def test_every_number_is_counted_once():
    everything = provenance.all_constants()
    rows = provenance.overview()
    assert sum(sum(row["numbers"].values()) for row in rows) == len(everything)
    assert {row["key"] for row in rows} == set(data.sources())
    lines = provenance.overview_lines()
    assert fits(lines)
    assert lines[0].startswith(f"{len(everything)} numbers")


@pytest.mark.parametrize("width", [60, 80, 120])
def test_every_source_and_set_prints_within_the_terminal(width):
    for key in data.sources():
        assert fits(provenance.lines(key, width), width), key
    for set_id in data.set_ids():
        assert fits(provenance.lines(set_id, width), width), set_id


def test_one_source_says_everything_needed_to_argue():
    text = "\n".join(provenance.lines("materials2025-2946"))
    for part in ("Materials 18(13)", "feeds/magnet-scrap:Gd", "3.6 [3.2 .. 4]", "appendix A"):
        assert part in text
    document = provenance.source_document("llepe")
    assert "UChicago Argonne" in document["notice"]
    json.dumps(document, allow_nan=False)


def test_what_a_computation_rests_on():
    book = data.Book()
    feed.read("magnet-scrap", book)
    document = provenance.used_document(book.used)
    json.dumps(document, allow_nan=False)
    assert document["count"] == len(book.used) == sum(document["classes"].values())
    assert 0 < document["estimated_share"] < 1
    lines = provenance.used_lines(book.used)
    assert fits(lines)
    assert "estimates" in " ".join(lines)
    assert provenance.used_document({})["estimated_share"] == 0


def test_a_feed_by_its_name_a_number_by_its_key_and_nothing_by_a_wrong_one():
    assert provenance.lines("magnet-scrap")[0].startswith("feeds/magnet-scrap")
    assert "elements:Nd" in provenance.lines("elements:Nd")[0]
    for key in ("magnet-scrap", "elements:Nd", "llepe"):
        json.dumps(provenance.document(key), allow_nan=False)
    assert provenance.document("magnet-scrap")["key"] == "feeds/magnet-scrap"
    with pytest.raises(InputError, match="seidel2024"):
        provenance.lines("seidel2025")
