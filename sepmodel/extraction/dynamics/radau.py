"""Radau IIA with five stages: order 9, stiffly accurate, L-stable [hairer1999].

With nodes c_i and Z_i = y(t + c_i h) - y(t) a step solves

    Z = h A F(y + Z),  y_new = y + Z_5.

A^-1 has one real eigenvalue and two pairs of conjugates, so that a Newton step takes one real and
two complex systems of the size of the train, whatever the number of stages. The coefficients follow
from the nodes, the roots of P_5 - P_4 on [0, 1]; they are computed, not typed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Complexes = NDArray[np.complex128]

STAGES = 5
ORDER = 2 * STAGES - 1
# The stage in the middle of the step, where the derivative is taken.
MIDDLE = STAGES // 2


@dataclass(frozen=True, eq=False, slots=True)
class Method:
    """Coefficients: ``nodes`` (S,), ``a`` and its inverse ``back`` (S, S); ``roots`` the
    eigenvalues of A^-1, the real one first, then one of each pair; ``into`` (S, S) takes stages to
    the real mode, the real parts of the pairs' and their imaginary parts, ``out`` (S, S) brings
    them back. ``embedded`` (S,) on Z and the real root give the error estimate, ``bend`` (S, S) the
    coefficients of s, s^2 ... of the polynomial through 0 and the stages; ``tails`` by degree
    powers (S, k) of the nodes and the coefficients (k, S) of the polynomials through the last
    stages alone, about the end and less what is there; ``beyond`` (S + 1,) those of s, s^2 ... of
    what the step's polynomial errs by on the way, in error estimates: it is zero at both ends."""

    nodes: Array
    a: Array
    back: Array
    roots: tuple[complex, ...]
    into: Array
    out: Array
    embedded: Array
    bend: Array
    tails: dict[int, tuple[Array, Array]]
    beyond: Array


@cache
def method() -> Method:
    """The coefficients.

    >>> found = method()
    >>> float(found.nodes[0].round(10)), float(found.nodes[-1])
    (0.0571041961, 1.0)
    """
    legendre = np.polynomial.legendre
    s = STAGES
    right = [0.0] * (s - 1) + [-1.0, 1.0]
    points = np.sort(legendre.legroots(right).real)
    for _ in range(2):
        points -= legendre.legval(points, right) / legendre.legval(points, legendre.legder(right))
    points[-1] = 1.0
    nodes = 0.5 * (points + 1.0)
    basis = legendre.legvander(points, s)
    # Integrals from the left end of the shifted Legendre polynomials.
    integrals = np.empty((s, s))
    integrals[:, 0] = nodes
    for j in range(1, s):
        integrals[:, j] = (basis[:, j + 1] - basis[:, j - 1]) / (2.0 * (2 * j + 1))
    a = integrals @ np.linalg.inv(basis[:, :s])
    back = np.linalg.inv(a)
    values, vectors = np.linalg.eig(back)
    real = int(np.argmin(np.abs(values.imag)))
    others = [int(i) for i in np.argsort(values.imag) if values[i].imag > 1e-6]
    inverse = np.linalg.inv(vectors)
    # The scaling of an eigenvector is free; that of the real one may come out complex.
    scale = vectors[np.argmax(np.abs(vectors[:, real])), real]
    into = [(inverse[real] * scale).real, *inverse[others].real, *inverse[others].imag]
    pairs = 2.0 * vectors[:, others].T
    out = [(vectors[:, real] / scale).real, *pairs.real, *-pairs.imag]
    roots = (complex(values[real].real), *(complex(values[i]) for i in others))
    # An embedded formula of order S with the rate at the beginning as one more stage.
    moments = np.vander(nodes, s, increasing=True).T
    wanted = 1.0 / np.arange(1.0, s + 1)
    wanted[0] -= 1.0 / roots[0].real
    embedded = (np.linalg.solve(moments, wanted) - a[-1]) @ back * roots[0].real
    powers = nodes[:, None] ** np.arange(1, s + 1)
    # The first power that is not integrated exactly, its stages and its error estimate.
    stages = a @ (nodes**s * (s + 1))
    beyond = np.append(np.linalg.solve(powers, stages), -1.0) / (embedded @ stages / roots[0].real)
    bend = np.asarray(np.linalg.inv(powers), dtype=float)
    tails = {}
    for k in range(1, s):
        tail = np.zeros((k, s))
        tail[:, -k - 1 : -1] = np.linalg.inv(
            (nodes[-k - 1 : -1, None] - 1.0) ** np.arange(1, k + 1)
        )
        tail[:, -1] = -tail.sum(axis=1)
        tails[k] = (nodes[:, None] ** np.arange(1, k + 1), tail)
    return Method(
        nodes=nodes, a=a, back=back, roots=roots, into=np.array(into), out=np.array(out).T,
        embedded=embedded, bend=bend,
        tails=tails, beyond=beyond,
    )  # fmt: skip


def within(ratio: float) -> Array:
    """(S, S): from stages of one step to those of a shorter one that begins where it did, ``ratio``
    times as long, by its polynomial."""
    found = method()
    out: Array = (ratio * found.nodes[:, None]) ** np.arange(1, STAGES + 1) @ found.bend
    return out


def ahead(ratio: float, degree: int = STAGES - 1) -> Array:
    """(S, S): from stages of one step to those of the next, ``ratio`` times as long, less where it
    begins, by the polynomial through the last stages of the one before, without its beginning.

    That is of one degree less than the step's own, or lower: behind a front the beginning is
    another regime, and what is carried beyond the end by it is worse, not better.
    """
    powers, tail = method().tails[degree]
    out: Array = powers * ratio ** np.arange(1.0, degree + 1.0) @ tail
    return out
