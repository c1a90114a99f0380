"""Fronts: nobody on them is beaten, everybody is a circuit that meets its specification."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import sepmodel
from sepmodel.extraction.design_pareto import undominated
from sepmodel.run import pareto

COSTS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12)


@given(COSTS)
def test_undominated_is_what_the_definition_says(costs):
    def beats(a, b):
        return a[0] <= b[0] and a[1] <= b[1] and a != b

    expected = [not any(beats(other, own) for other in costs) for own in costs]
    assert undominated(costs).tolist() == expected


def test_fronts_of_a_design_trade_one_for_the_other():
    found = pareto("nd-pr-99-5")
    base = np.array([m.base for m in found.reagents])
    stages = np.array([m.stages for m in found.reagents])
    assert len(base) >= 8
    assert np.all(np.diff(base) > 0)
    assert np.all(np.diff(stages) < 0)
    held = np.array([m.lock_up for m in found.purity])
    foreign = np.array([1 - m.purity for m in found.purity])
    assert np.all(np.diff(held) > 0)
    assert np.all(np.diff(foreign) < 0)
    assert foreign.max() / foreign.min() > 100


def test_a_member_of_a_front_is_a_circuit_that_can_be_designed():
    found = pareto("nd-pr-99-5")
    member = found.reagents[3]
    again = sepmodel.design("nd-pr-99-5", {"circuit.solvent": member.solvent}).circuit
    assert again.stages == member.stages
    for outlet in ("raffinate", "organic"):
        assert again.purity[outlet] >= 0.995
