"""What random circuits reach is designed again: found, hardly larger, re-calculated."""

import numpy as np
import pytest
import random_specs

from sepmodel.errors import InfeasibleError, SepmodelError
from sepmodel.extraction import design


def test_a_thousand_specifications_that_are_feasible_by_construction():
    made = random_specs.take(1000, seed=3, most=150, each=20)
    lost = []
    for spec in made:
        try:
            found, error = random_specs.redesign(spec)
        except SepmodelError as caught:
            lost.append((spec, str(caught)))
            continue
        assert found.stages <= spec.stages + 2
        assert error < 1e-7
    assert len(lost) <= 1, lost
    assert {len(spec.feed) for spec in made} == {2, 3, 4, 5, 6}


def test_below_the_least_scrub_every_binary_is_refused_with_its_certificate():
    for beta, feed, heavy, light, solvent, least in random_specs.binary(200, seed=4):
        with pytest.raises(InfeasibleError) as caught:
            design.design_binary(beta, feed, heavy, light, solvent=solvent)
        assert caught.value.limit["solvent"] == pytest.approx(least, rel=1e-6)
        assert caught.value.nearest["solvent"] > solvent


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_long_circuits_too():
    made = random_specs.take(200, seed=5, each=4)
    assert np.max([spec.stages for spec in made]) > 400
    for spec in made:
        found, error = random_specs.redesign(spec)
        assert found.stages <= spec.stages + 2
        assert error < 1e-7
