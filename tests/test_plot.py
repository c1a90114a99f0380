"""Figures: what is drawn, that it is reproducible, and that bad results are refused."""

import doctest
from dataclasses import replace
from xml.etree import ElementTree

import pytest

import sepmodel
from sepmodel import plot
from sepmodel.errors import InputError
from sepmodel.species import RARE_EARTHS


@pytest.fixture(scope="module")
def result():
    return sepmodel.run("nd-pr")


def test_docstring_examples():
    assert doctest.testmod(plot).failed == 0


def test_figures_are_pictures_and_repeat(result):
    first, second = plot.figures(result), plot.figures(result)
    assert set(first) == {"stages.svg", "stages.png"}
    assert first == second
    assert first["stages.png"].startswith(b"\x89PNG")
    text = "".join(ElementTree.fromstring(first["stages.svg"]).itertext())
    for word in ("Nd", "Pr", "feed", "extraction, 24 stages", "99.9 %", "raffinate end"):
        assert word in text


def test_every_line_is_drawn_where_its_numbers_are(result):
    figure = plot.stage_profiles(result)
    axes = figure.axes[0]
    for index, name in enumerate(("Nd", "Pr")):
        (line,) = [drawn for drawn in axes.get_lines() if drawn.get_label() == name]
        share = result.profiles["share_aq"].values[:, index]
        assert line.get_ydata() == pytest.approx(plot.opened(share))
        assert line.get_color() == plot.look(name)["color"]


def test_elements_are_told_apart():
    looks = [tuple(map(str, plot.look(e).values())) for e in RARE_EARTHS if e != "Pm"]
    assert len(set(looks)) == len(looks)


def test_what_has_no_profile_has_no_figure(result):
    bare = replace(result, profiles={})
    assert plot.figures(bare) == {}
    with pytest.raises(InputError, match="no such profile"):
        plot.stage_profiles(bare)


@pytest.mark.parametrize(
    ("case", "figure", "words"),
    [
        ("magnet-circuit", "acidity", ["pH", "loading", "rare earths", "strip, 4 stages"]),
        ("magnet-circuit", "concentrations", ["aqueous (mol/L)", "organic (mol/L)", "H+", "Na"]),
        ("magnet-circuit", "separation", ["Tb/Nd", "separation factor of neighbours"]),
        ("magnet-circuit", "steps", ["16 stages between Nd and Tb", "feed stage, 8"]),
        ("lanmodulin-nd-dy", "chromatogram", ["Nd", "Dy", "bed volumes", "elute"]),
        ("displacement-nd-pr-dy", "train", ["Pr", "mole share"]),
        ("la-sm-s950", "outlet", ["La", "Sm", "bed volumes", "time (d)"]),
        ("la-sm-s950", "map", ["La", "Sm", "position from the inlet (m)"]),
    ],
)
def test_other_technologies_have_their_figures(case, figure, words):
    drawn = plot.figures(sepmodel.run(case))
    text = "".join(ElementTree.fromstring(drawn[f"{figure}.svg"]).itertext())
    assert all(word in text for word in words)


def test_steps_lie_on_the_solved_stages():
    """Equilibrium at the separation factor everywhere, steps between neighbours' streams."""
    from sepmodel import plot_circuit

    solved = sepmodel.run("magnet-120")
    assert plot_circuit.keys(solved) == ("Pr", "Nd")
    left, right = plot_circuit.steps(solved).axes
    stairs, equilibrium, operating = right.get_lines()[:3]
    assert equilibrium.get_ydata() == pytest.approx(1.4, rel=1e-6)
    assert len(equilibrium.get_xdata()) == 105
    passing = operating.get_ydata()
    assert (passing < 1.4).all()
    assert (passing > 1).all()
    x = solved.profiles["share_aq"].values[:105, 1] / solved.profiles["share_aq"].values[:105, 0]
    y = solved.profiles["share_org"].values[:105, 1] / solved.profiles["share_org"].values[:105, 0]
    assert passing == pytest.approx(y[:-1] / x[1:], rel=1e-9)
    assert stairs.get_ydata()[1::2] == pytest.approx(passing)
    assert left.get_xlim() == left.get_ylim()


def test_a_circuit_without_a_cut_has_no_steps():
    from sepmodel import plot_circuit

    solved = sepmodel.run("magnet-circuit")
    bare = replace(solved, streams={"raffinate": replace(solved.streams["raffinate"], recovery={})})
    with pytest.raises(InputError, match="no cut"):
        plot_circuit.steps(bare)
    assert "steps.svg" not in plot.figures(bare)


def test_a_lanmodulin_column_shades_its_pools_and_draws_its_yields():
    small = {"numerics.cells": 16}
    drawn = plot.figures(sepmodel.run("light-heavy-lanmodulin", small))
    assert {"chromatogram.svg", "yield.svg"} <= set(drawn)
    text = drawn["chromatogram.svg"].decode()
    assert "pool heavy" in text
    assert "pool light" in text
