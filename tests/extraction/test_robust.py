"""Designs for a probability: more certainty costs stages, other members agree, limits are told."""

import pytest

import sepmodel
from sepmodel.data import Book
from sepmodel.errors import InfeasibleError
from sepmodel.extraction import robust
from sepmodel.extraction.design_spec import two_outlets

HELD = {"accuracy": {"solvent": 0.01, "split": 0.0005, "feed": 0.005}}


def sure(probability, **more):
    return sepmodel.design(
        "nd-pr-99-5", {"robust": {"probability": probability, "samples": 512, **more}, **HELD}
    )


def test_certainty_costs_stages():
    less, more = sure(0.8).robust, sure(0.97).robust
    assert less.probability >= 0.8
    assert more.probability >= 0.97
    assert less.circuit.stages < more.circuit.stages
    assert more.plain < 0.5
    assert more.stages_more > 0


def test_members_of_another_seed_agree():
    found = sure(0.9).robust
    case = sepmodel.load("nd-pr-99-5", {"robust": {"probability": 0.9}, **HELD}).inputs
    book = Book()
    spec = two_outlets(case, book)
    drawn = robust.members(case, spec, book, 2048, seed=7)
    again, _, _ = robust.probability(case, spec, found.circuit, drawn)
    assert again == pytest.approx(found.probability, abs=0.04)


def test_the_range_of_the_factor_counts_only_when_asked():
    fixed = sure(0.9).robust
    ranged = sure(0.9, factors="range").robust
    assert fixed.plain != ranged.plain


def test_a_split_that_is_not_held_is_no_matter_of_stages():
    with pytest.raises(InfeasibleError, match="split") as caught:
        sepmodel.design(
            "nd-pr-99-5",
            {"robust": {"probability": 0.95, "samples": 256}, "accuracy.split": 0.01},
        )
    assert caught.value.nearest["accuracy.split"] < 0.005


def test_a_plant_without_errors_needs_nothing_more():
    exact = sepmodel.design(
        "nd-pr-99-5",
        {
            "robust": {"probability": 0.99, "samples": 64},
            "accuracy": {"solvent": 0.0, "split": 0.0, "feed": 0.0},
        },
    ).robust
    assert exact.probability == 1
    assert exact.stages_more == 0
