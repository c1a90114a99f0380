"""A displacement train by a method of its own, to check the engine's.

The column is cut into equal cells and the step is the time liquid needs for one: convection is an
exact shift. Exchange is solved in closed form with the sum of a c frozen at the geometric mean of
the step's ends, dispersion explicitly, both in half steps around the shift. No limiter, no Newton's
method, no moving grid; the outlet is closed.
"""

import numpy as np

from sepmodel.chromatography.band_train import best_cut

ROUNDS = 3
FINE = 8


def effluent(
    cells,
    selectivity,
    shares,
    *,
    length,
    velocity,
    void,
    dispersion,
    rate,
    ligand_conc,
    capacity,
    band,
):
    """Amount that has left (T, C) and the load (M,), both per cross-section; shares sum to 1."""
    a, shares = np.array(selectivity)[:, None], np.array(shares)
    count, h = len(a), length / cells
    dt = h * void / velocity
    cap = void * ligand_conc + (1 - void) * capacity
    travel = length * cap / (velocity * ligand_conc)
    feed, push = np.zeros(count), np.zeros(count)
    feed[1:-1], push[-1] = ligand_conc * shares, ligand_conc
    c, q = np.zeros((count, cells)), np.zeros((count, cells))
    c[0], q[0] = ligand_conc, capacity
    ratio = (1 - void) / void
    repeats = int(np.ceil(4 * dispersion * dt / h**2))
    spread = dispersion * dt / h**2 / 2 / max(repeats, 1)

    def exchange(c, q, time):
        begin = middle = (a * c).sum(axis=0)
        for _ in range(ROUNDS):
            beta = capacity * a / middle
            move = (
                (beta * c - q) * -np.expm1(-rate * time * (1 + ratio * beta)) / (1 + ratio * beta)
            )
            new = c - ratio * move
            middle = np.sqrt(begin * (a * new).sum(axis=0))
        return new, q + move

    def disperse(c):
        c = c.copy()
        for _ in range(repeats):
            step = spread * np.diff(c, axis=1)
            c[:, :-1] += step
            c[:, 1:] -= step
        return c

    steps = int(np.ceil((band + 1.15) * travel / dt))
    out = np.zeros((steps + 1, count))
    for step in range(steps):
        c, q = exchange(disperse(c), q, dt / 2)
        out[step + 1] = c[:, -1] * velocity * dt
        fed = min(max(band * travel / dt - step, 0.0), 1.0)
        c = np.column_stack([fed * feed + (1 - fed) * push, c[:, :-1]])
        c, q = exchange(c, q, dt / 2)
        c = disperse(c)
    return np.cumsum(out, axis=0), band * cap * length * shares


def recoveries(cells, selectivity, shares, purities, **case):
    """Largest pool of every metal at some mole purities as a share of its load, (M, P)."""
    gone, loaded = effluent(cells, selectivity, shares, **case)
    metals = gone[:, 1:-1]
    steps = np.arange(len(metals))
    fine = np.linspace(0, steps[-1], FINE * steps[-1] + 1)
    metals = np.column_stack([np.interp(fine, steps, m) for m in metals.T])
    total = metals.sum(axis=1)
    found = np.zeros((len(loaded), len(purities)))
    for m, metal in enumerate(metals.T):
        for p, purity in enumerate(purities):
            start, end = best_cut(metal, total, purity)
            found[m, p] = (metal[end] - metal[start]) / loaded[m]
    return found
