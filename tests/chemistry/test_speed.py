"""How fast the chemistry is, in CPU seconds of one core (run by make validate)."""

import time

import numpy as np
import pytest

from sepmodel.chemistry import speciation
from sepmodel.chemistry.cation_exchange import CationExchange
from sepmodel.chemistry.contact import contact
from sepmodel.data import Book
from sepmodel.study.fit import fit

pytestmark = pytest.mark.slow


def best_of(repeats, call):
    """Least CPU time of a few calls, and the last answer."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        answer = call()
        times.append(time.process_time() - start)
    return min(times), answer


def test_ten_thousand_cells_in_half_a_second():
    book = Book()
    t = speciation.tableau(("Pr", "Nd", "Tb", "Dy"), ("EDTA",), book)
    rng = np.random.default_rng(0)
    totals, pH = 10 ** rng.uniform(-11, 3, (10_000, 5)), rng.uniform(0, 13, 10_000)
    seconds, s = best_of(3, lambda: speciation.solve(t, totals, pH, book, strength=0.1))
    assert s.residual < 1e-11
    assert seconds < 0.5


@pytest.mark.parametrize("dimers", [(3, 3, 3, 3, 1), (3, 3, 3, 3, 0.5)], ids=str)
def test_a_hundred_thousand_contacts_in_a_second(dimers):
    """Four metals, half of the solvents saponified, traces to overload, O/A 1:20 to 20:1."""
    n, rng, dimers = 100_000, np.random.default_rng(0), np.array(dimers)
    model = CationExchange(
        log_k=np.log(10)
        * np.concatenate([rng.uniform(-4, 3, (n, 4)), rng.uniform(-7, -3, (n, 1))], axis=1),
        charge=np.array([3.0, 3, 3, 3, 1]),
        dimers=dimers,
    )
    dimer = 10 ** rng.uniform(0, 3.2, n)
    org = np.zeros((n, 5))
    org[:, 4] = np.where(rng.random(n) < 0.5, 0.0, rng.uniform(0, 0.98, n)) * dimer
    entering = {
        "feed_aq": np.concatenate([10 ** rng.uniform(-11, 3, (n, 4)), np.zeros((n, 1))], axis=1),
        "acid": 10 ** rng.uniform(-3, 3.7, n),
        "dimer": dimer,
        "feed_org": org,
        "phase_ratio": 10 ** rng.uniform(-1.3, 1.3, n),
    }
    seconds, found = best_of(3, lambda: contact(model, **entering))
    assert found.closure.max() < 1e-10
    assert seconds < 1


def test_all_of_li_fits_in_five_seconds():
    seconds, found = best_of(2, lambda: fit("li1987-pc88a", activity="pitzer", loss="soft_l1"))
    assert len(found.table) == 140
    assert seconds < 5
