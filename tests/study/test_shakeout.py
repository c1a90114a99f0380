"""Reading shake-out tables: units, gaps, and every mistake at once."""

import doctest

import numpy as np
import pytest

from sepmodel.errors import InputError
from sepmodel.study import shakeout

HEADER = (
    "laboratory,label,feed_acid [mol/L],extractant [mol/L],phase_ratio,feed_Nd [g/L],"
    "raffinate_Nd [g/L],feed_Pr [mol/L],raffinate_Pr [mol/L],use"
)
GOOD = f"""# a comment
{HEADER}
A,1,0.1,1.0,2,14.4242,7.2121,0,,1
A,2,0.1,1.0,1,0,,0.05,,1
B,3,0.1,1.0,1,14.4242,14.5,0.05,0.04,0
"""


def test_doctests():
    assert doctest.testmod(shakeout).failed == 0


def test_units_and_gaps():
    t = shakeout.parse(GOOD)
    assert t.elements == ("Nd", "Pr")
    assert t.laboratories == ("A", "B")
    assert len(t) == 3
    np.testing.assert_allclose(t.feed[:, 0], [100, 0, 100])
    assert t.distribution_ratio[0, 0] == pytest.approx(0.5)
    assert np.isnan(t.raffinate[0, 1])
    assert np.isnan(t.raffinate[1, 1])
    assert t.used.tolist() == [True, True, False]
    assert t.assumed == ("saponification = 0 in every row (no such column)",)
    assert t.rows(np.array([False, True, False])).elements == ("Pr",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("[g/L]", "", 1), "needs its unit in brackets"),
        (GOOD.replace("[g/L]", "[m]", 1), "not a unit of the kind"),
        (GOOD.replace("feed_Nd", "feed_Xx", 1), "unknown element"),
        (GOOD.replace("phase_ratio", "ratio", 1), "unknown column"),
        (GOOD.replace("raffinate_Pr [mol/L]", "pH", 1), "a column is missing"),
        (GOOD.replace("7.2121", "seven", 1), "not a number that can stand here"),
        (GOOD.replace("7.2121", "-7", 1), "not a number that can stand here"),
        (GOOD.replace("7.2121", "0", 1), "no logarithm"),
        (GOOD.replace("A,2,0.1,1.0,1,0", "A,2,0.1,1.0,1"), "another number of cells"),
        (GOOD.replace("A,1,0.1,1.0,2", "A,1,0.1,1.0,0"), "phase ratio are positive"),
        ("laboratory\n", "no rows"),
    ],
)
def test_mistakes_are_named(text, message):
    with pytest.raises(InputError, match=message):
        shakeout.parse(text, file="lab.csv")


def test_every_mistake_of_a_file_at_once(tmp_path):
    path = tmp_path / "lab.csv"
    path.write_text(GOOD.replace("7.2121", "x").replace("14.5,", "y,"), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        shakeout.read(path)
    assert [p.key for p in caught.value.problems] == ["row 1, raffinate_Nd", "row 3, raffinate_Nd"]
    with pytest.raises(InputError, match="cannot be read"):
        shakeout.read(tmp_path / "missing.csv")
