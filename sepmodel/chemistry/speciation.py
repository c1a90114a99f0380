"""What dissolved metals and ligands form in water: one tableau, any number of cells at once.

A ``Tableau`` lists species as products of components, c_s = beta_s prod_j x_j^nu_sj, with x the
free concentrations. ``solve`` finds x from the totals of every component but H and the pH;
``solve_charge`` finds the pH too, from electroneutrality. Neither asks for a guess.

Newton's method works on ln x. Its equations are ln(sum_s nu_sj c_s) = ln T_j (nearly linear where
one species rules); where such steps fail, the strictly convex sum_s c_s - sum_j T_j ln x_j, whose
minimum is the same point, is minimised with a line search that cannot fail. Traces of 1e-14
mol/L count as much as 1 mol/L.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sepmodel.data import Book
from sepmodel.errors import ConvergenceError, InputError, Problem, Trace
from sepmodel.species import CHARGES, RARE_EARTHS

Array = NDArray[np.float64]
Index = NDArray[np.intp]
# Charge of the bare ligand, and the data set of its complexes.
LIGANDS = {
    "EDTA": (-4, "ligands/edta"),
    "HEDTA": (-3, "ligands/hedta"),
    "DTPA": (-5, "ligands/dtpa"),
    "NTA": (-3, "ligands/nta"),
    "citrate": (-3, "ligands/citrate"),
    "malonate": (-2, "ligands/malonate"),
    "acetate": (-1, "ligands/acetate"),
    "lactate": (-1, "ligands/lactate"),
    "HIBA": (-1, "ligands/hiba"),
}
ANIONS = ("Cl", "NO3", "SO4")
PROTONATION = "ligands/protonation"
INORGANIC = "speciation/inorganic-25C"
C_STANDARD = 1000.0  # mol/m3: the molar standard state
_TOLERANCE = 1e-12
_FLOOR = 1e-200
_ROUNDS = 64
_SAFE_ROUNDS = 1024
# Largest exponent evaluated: far above any concentration, far below overflow.
_LARGEST = 256.0
# A constant this many decades from the median of its series is an error of the table it came from.
_OUTLIER_DECADES = 3.0


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Tableau:
    """Species as products of components, with log10 of their overall formation constants.

    ``stoichiometry`` has shape (S, C), ``log_beta`` and ``strength`` shape (S,): the ionic strength
    [mol/L] each constant was measured at. ``H`` is always the last component; the free components
    are the first C species.
    """

    components: tuple[str, ...]
    charges: Array
    species: tuple[str, ...]
    stoichiometry: Array
    log_beta: Array
    strength: Array

    @property
    def species_charges(self) -> Array:
        """Charges of the species, shape (S,)."""
        z: Array = self.stoichiometry @ self.charges
        return z


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Speciation:
    """Concentrations [mol/m3] of every species, shape (..., S), and how they were found."""

    tableau: Tableau
    conc: Array
    log_free: Array
    pH: Array
    residual: float
    iterations: int
    safe_steps: int

    def __getitem__(self, name: str) -> Array:
        """Concentration [mol/m3] of one species, shape (...)."""
        if name not in self.tableau.species:
            raise InputError(
                Problem(
                    message="no such species",
                    value=name,
                    expected=", ".join(self.tableau.species[:10]),
                )
            )
        found: Array = self.conc[..., self.tableau.species.index(name)]
        return found

    def total(self, component: str) -> Array:
        """Total concentration [mol/m3] of a component, summed over its species."""
        at = self.tableau.components.index(component)
        total: Array = self.conc @ self.tableau.stoichiometry[:, at]
        return total

    def free_fraction(self, component: str) -> Array:
        """Share of a component's total that is the bare ion or ligand, shape (...)."""
        share: Array = self[component] / self.total(component)
        return share


def tableau(
    metals: Sequence[str],
    ligands: Sequence[str],
    book: Book,
    *,
    anions: Sequence[str] = (),
    hydroxide: bool = True,
    unbound: Sequence[str] = (),
) -> Tableau:
    """The tableau of metals with ligands (EDTA, DTPA ...) and anions (Cl, NO3, SO4) from a book.

    A metal of charge two or three that a ligand, an anion or (with ``hydroxide``) OH- has no
    constant for is refused, unless ``unbound`` names it: then it stays free on purpose. Also
    refused: unknown names, and a series of constants with a member that cannot be right.

    >>> t = tableau(("Nd",), ("lactate",), Book(), hydroxide=False)
    >>> t.species
    ('Nd', 'lactate', 'H', 'Nd(lactate)', 'H(lactate)')
    """
    problems = [
        Problem(message="unknown ligand", value=name, expected=", ".join((*LIGANDS, *ANIONS)))
        for name in ligands
        if name not in LIGANDS
    ]
    problems += [
        Problem(message="unknown anion", value=name, expected=", ".join(ANIONS))
        for name in anions
        if name not in ANIONS
    ]
    problems += [
        Problem(message="unknown metal", value=name) for name in metals if name not in CHARGES
    ]
    if problems:
        raise InputError(problems)
    components = (*metals, *ligands, *anions, "H")
    z = [float(LIGANDS[c][0] if c in LIGANDS else CHARGES[c]) for c in components]
    rows: list[tuple[str, dict[str, int], float, float]] = [
        (c, {c: 1}, 0.0, math.nan) for c in components
    ]
    for ligand in ligands:
        rows += _ligand_rows(metals, ligand, book)
    for anion in anions:
        rows += _anion_rows(metals, anion, book)
    partners = [*ligands, *anions]
    if hydroxide:
        rows.append(("OH", {"H": -1}, book[f"{INORGANIC}:log-kw"], 0.0))
        for n in (1, 2, 3):
            series = _series(metals, book, INORGANIC, "log-b" + str(n) + "-{}-OH")
            rows += [
                (f"{m}(OH){n if n > 1 else ''}", {m: 1, "H": -n}, value, 0.0)
                for m, value in series.items()
            ]
        partners.append("OH")
    _require_constants([m for m in metals if m not in unbound], partners, rows)
    nu = np.zeros((len(rows), len(components)))
    for i, (_, content, _, _) in enumerate(rows):
        for name, count in content.items():
            nu[i, components.index(name)] = count
    return Tableau(
        components=components,
        charges=np.array(z),
        species=tuple(r[0] for r in rows),
        stoichiometry=nu,
        log_beta=np.array([r[2] for r in rows]),
        strength=np.array([r[3] for r in rows]),
    )


def _require_constants(
    metals: Sequence[str],
    partners: Sequence[str],
    rows: Sequence[tuple[str, dict[str, int], float, float]],
) -> None:
    """InputError naming every metal of charge two or three that a partner has no constant for."""
    problems = []
    for partner in partners:
        bound: set[str] = set()
        for _, content, _, _ in rows:
            if partner in content or (partner == "OH" and content.get("H", 0) < 0):
                bound |= set(content)
        missing = [m for m in metals if CHARGES[m] > 1 and m not in bound]
        if missing:
            problems.append(
                Problem(
                    message=f"no constant is known with {partner} for",
                    value=", ".join(missing),
                    expected="another ligand, or the metal named in unbound",
                )
            )
    if problems:
        raise InputError(problems)


def _ligand_rows(
    metals: Sequence[str], ligand: str, book: Book
) -> list[tuple[str, dict[str, int], float, float]]:
    """Complexes and protonated forms of one organic ligand."""
    set_id = LIGANDS[ligand][1]
    rows: list[tuple[str, dict[str, int], float, float]] = []
    first = _series(metals, book, set_id, "log-K-{}")
    for m, value in first.items():
        rows.append(
            (f"{m}({ligand})", {m: 1, ligand: 1}, value, _basis(book, f"{set_id}:log-K-{m}"))
        )
        if f"{PROTONATION}:{ligand}-MHL" in book and m in RARE_EARTHS:
            added = book[f"{PROTONATION}:{ligand}-MHL"]
            strength = _basis(book, f"{PROTONATION}:{ligand}-MHL")
            rows.append((f"{m}H({ligand})", {m: 1, ligand: 1, "H": 1}, value + added, strength))
    for m, value in _series(metals, book, set_id, "log-b2-{}").items():
        strength = _basis(book, f"{set_id}:log-b2-{m}")
        rows.append((f"{m}({ligand})2", {m: 1, ligand: 2}, value, strength))
    total = 0.0
    for n in range(1, 1 + abs(LIGANDS[ligand][0])):
        own, shared = f"{set_id}:log-protonation-{n}", f"{PROTONATION}:{ligand}-H{n}"
        key = own if own in book else shared
        if key not in book:
            break
        total += book[key]
        name = f"H{n if n > 1 else ''}({ligand})"
        rows.append((name, {ligand: 1, "H": n}, total, _basis(book, key)))
    return rows


def _anion_rows(
    metals: Sequence[str], anion: str, book: Book
) -> list[tuple[str, dict[str, int], float, float]]:
    """Complexes of an inorganic anion, and hydrogen sulfate."""
    rows: list[tuple[str, dict[str, int], float, float]] = []
    for n in (1, 2):
        series = _series(metals, book, INORGANIC, "log-b" + str(n) + "-{}-" + anion)
        rows += [
            (f"{m}{anion}" if n == 1 else f"{m}({anion}){n}", {m: 1, anion: n}, value, 0.0)
            for m, value in series.items()
        ]
    key = f"{INORGANIC}:log-b1-H-{anion}"
    if key in book:
        rows.append((f"H{anion}", {anion: 1, "H": 1}, book[key], 0.0))
    return rows


def _series(metals: Sequence[str], book: Book, set_id: str, pattern: str) -> dict[str, float]:
    """One kind of constant over the metals that have it; the whole series is checked first."""
    everything = {
        m: book.with_values({})[f"{set_id}:{pattern.format(m)}"]
        for m in RARE_EARTHS
        if f"{set_id}:{pattern.format(m)}" in book
    }
    refuse_outliers(everything, f"{set_id}:{pattern}")
    keys = {m: f"{set_id}:{pattern.format(m)}" for m in metals}
    return {m: book[key] for m, key in keys.items() if key in book}


def _basis(book: Book, key: str) -> float:
    """Ionic strength [mol/L] of a constant, read from its conditions."""
    conditions = book.constant(key).conditions
    return 0.0 if "infinite dilution" in conditions else 0.1


def refuse_outliers(series: Mapping[str, float], what: str) -> None:
    """InputError for rare-earth constants that depart from their series by decades.

    The lanthanides differ by one or two decades from end to end; a member three decades from the
    median is a misprint (a lost sign, a placeholder), as public databases hold some.

    >>> refuse_outliers({"La": 3.6, "Ce": 3.6, "Nd": 3.6}, "sulfate")
    """
    middle = float(np.median(list(series.values()))) if series else 0.0
    problems = [
        Problem(
            message="a stability constant cannot be right",
            key=what,
            value=f"{metal}: {value:g}",
            expected=f"within {_OUTLIER_DECADES:g} decades of the series' median {middle:.2f}",
        )
        for metal, value in series.items()
        if not abs(value - middle) <= _OUTLIER_DECADES
    ]
    if problems:
        raise InputError(problems)


def constants_at(t: Tableau, strength: ArrayLike | None, book: Book) -> Array:
    """log10 beta, shape (S, 1) or (S, N), moved to an ionic strength [mol/L] by Davies' equation.

    log10 beta(I) = log10 beta(I0) + dz2 [f(I) - f(I0)], dz2 = z_s^2 - sum nu z^2, f = -A (...).
    ``strength`` None leaves them as published, which needs one common basis.
    """
    known = t.strength[np.isfinite(t.strength)]
    if strength is None:
        if len(np.unique(known)) > 1:
            raise InputError(
                Problem(
                    message="constants of different ionic strengths are mixed",
                    value=np.unique(known).tolist(),
                    expected="an ionic strength to bring them to (at most 0.5 mol/L)",
                )
            )
        return t.log_beta[:, None]
    at = "activity/davies-25C"
    limit = book[f"{at}:highest_ionic_strength"]
    strength = np.atleast_1d(np.asarray(strength, dtype=float)).ravel()
    if not np.all((strength >= 0) & (strength <= limit)):
        raise InputError(
            Problem(
                message="the Davies equation does not reach this ionic strength",
                value=float(strength.max()),
                expected=f"0 to {limit} mol/L",
            )
        )
    a, slope = book[f"{at}:debye_huckel_log10"], book[f"{at}:slope"]

    def f(i: Array) -> Array:
        """log10 gamma of a singly charged ion."""
        root = np.sqrt(i)
        result: Array = -a * (root / (1 + root) - slope * i)
        return result

    squares = t.stoichiometry @ t.charges**2 - t.species_charges**2
    own = np.where(np.isfinite(t.strength), t.strength, 0.0)
    moved: Array = t.log_beta[:, None] + squares[:, None] * (f(strength)[None] - f(own)[:, None])
    return moved


def solve(
    t: Tableau,
    totals: ArrayLike,
    pH: ArrayLike,
    book: Book | None = None,
    *,
    strength: ArrayLike | None = None,
) -> Speciation:
    """Concentrations of all species at given totals and pH (-log10 of [H+] in mol/L).

    Parameters
    ----------
    totals
        totals [mol/m3] of every component but H, in the order of the tableau, shape (..., C-1).
    pH
        shape (...).
    strength
        ionic strength [mol/L] to bring the constants to, shape (...); needs ``book``.

    Raises
    ------
    InputError
        for negative or non-finite totals; ConvergenceError (never seen) when a cell stays open.

    >>> t = tableau(("Nd",), ("EDTA",), Book(), hydroxide=False)
    >>> s = solve(t, [10.0, 20.0], 6.0)
    >>> bool(s["Nd(EDTA)"] > 9.999)
    True
    """
    totals = np.asarray(totals, dtype=float)
    cells = np.broadcast_shapes(
        totals.shape[:-1], np.shape(pH), np.shape(0.0 if strength is None else strength)
    )
    count = len(t.components) - 1
    if totals.ndim == 0 or totals.shape[-1] != count:
        raise InputError(
            Problem(
                message="one total for every component but H",
                value=totals.shape,
                expected=", ".join(t.components[:-1]),
            )
        )
    if not (np.all(np.isfinite(totals)) and np.all(totals >= 0) and np.all(np.isfinite(pH))):
        raise InputError(Problem(message="totals are finite and not negative, the pH is finite"))
    flat = np.broadcast_to(totals, (*cells, count)).reshape(-1, count).T / C_STANDARD
    ln_h = -np.broadcast_to(np.asarray(pH, dtype=float), cells).reshape(-1) * math.log(10)
    at = None if strength is None else np.broadcast_to(strength, cells).reshape(-1)
    ln_beta = constants_at(t, at, book or Book()) * math.log(10)
    u, rounds, safe = _newton(t, ln_beta, flat, ln_h)
    return _result(t, ln_beta, flat, u, ln_h, cells, rounds, safe)


def _result(
    t: Tableau,
    ln_beta: Array,
    totals: Array,
    u: Array,
    ln_h: Array,
    cells: tuple[int, ...],
    rounds: int,
    safe: int,
) -> Speciation:
    """Species of the solved cells, with the relative closure of every total."""
    c = _species(t, ln_beta, u, ln_h)
    held = np.maximum(totals, _FLOOR)
    gap = np.abs(t.stoichiometry[:, :-1].T @ c - held) / held
    conc = np.moveaxis((c * C_STANDARD).reshape(len(t.species), *cells), 0, -1)
    absent = (totals == 0).reshape(len(totals), *cells)
    if absent.any():
        empty = np.einsum("sc,c...->...s", t.stoichiometry[:, :-1] != 0, absent) > 0
        conc = np.where(empty, 0.0, conc)
    return Speciation(
        tableau=t,
        conc=conc,
        log_free=np.moveaxis(np.vstack([u, ln_h]).reshape(-1, *cells), 0, -1),
        pH=(-ln_h / math.log(10)).reshape(cells),
        residual=float(gap.max(initial=0.0)),
        iterations=rounds,
        safe_steps=safe,
    )


def _species(t: Tableau, ln_beta: Array, u: Array, ln_h: Array) -> Array:
    """Concentrations [mol/L] of the species, shape (S, N), from ln of the free components."""
    exponent = t.stoichiometry[:, :-1] @ u + np.outer(t.stoichiometry[:, -1], ln_h) + ln_beta
    return np.exp(np.minimum(exponent, _LARGEST))


def _newton(
    t: Tableau, ln_beta: Array, totals: Array, ln_h: Array, start: Array | None = None
) -> tuple[Array, int, int]:
    """ln of the free components but H, shape (C-1, N); rounds and cells that took the safe way."""
    nu = t.stoichiometry[:, :-1]
    rows, columns = np.triu_indices(nu.shape[1])
    products = (nu[:, rows] * nu[:, columns]).T.copy()
    held = np.maximum(totals, _FLOOR)
    log_held = np.log(held)
    u = log_held.copy() if start is None else start.copy()
    # The proton's share of every species is fixed: fold it into the constants.
    base = ln_beta + np.outer(t.stoichiometry[:, -1], ln_h)
    active = np.arange(totals.shape[1])
    rounds = 0
    if start is None:
        u = _first_guess(nu, base, u, log_held)
    for rounds in range(1, _ROUNDS + 1):
        x, b = u[:, active], base[:, active]
        c = np.exp(np.minimum(nu @ x + b, _LARGEST))
        sums = nu.T @ c
        error = np.log(sums) - log_held[:, active]
        open_ = np.max(np.abs(error), axis=0) > _TOLERANCE
        if not open_.any():
            return u, rounds, 0
        if not open_.all():
            active, x, c = active[open_], x[:, open_], c[:, open_]
            sums, error = sums[:, open_], error[:, open_]
        step = _spd_solve(products @ c, rows, columns, -sums * error)
        largest = np.max(np.abs(step), axis=0)
        # Long steps only overshoot exponentials; shorten them as a whole to keep their direction.
        u[:, active] = x + step * np.minimum(1.0, 5.0 / np.maximum(largest, 1e-300))
    safe = _minimise(nu, base[:, active], held[:, active], u[:, active])
    u[:, active] = safe
    return u, rounds, len(active)


def _first_guess(nu: Array, base: Array, u: Array, log_held: Array) -> Array:
    """A few damped fixed-point rounds from the totals downwards."""
    share = 1 / np.maximum(nu.max(axis=0), 1.0)[:, None]
    for _ in range(4):
        c = np.exp(np.minimum(nu @ u + base, _LARGEST))
        u = u - share / 2 * np.maximum(np.log(nu.T @ c) - log_held, 0.0)
    return u


def _spd_solve(packed: Array, rows: Index, columns: Index, rhs: Array) -> Array:
    """Solve N symmetric positive definite systems at once by scaled elimination.

    ``packed`` holds the upper triangles, shape (P, N); ``rhs`` has shape (C, N).
    """
    size = rhs.shape[0]
    a = np.zeros((size, size, rhs.shape[1]))
    a[rows, columns] = packed
    scale = 1 / np.sqrt(a[np.arange(size), np.arange(size)])
    a *= scale[:, None]
    a *= scale[None]
    b = rhs * scale
    for k in range(size):
        # Rounding may leave a pivot at zero where a metal and a ligand hold each other exactly.
        pivot = np.maximum(a[k, k], 1e-16)
        for i in range(k + 1, size):
            factor = a[k, i] / pivot
            a[i, i:] -= factor * a[k, i:]
            b[i] -= factor * b[k]
        a[k, k] = pivot
    for k in range(size - 1, -1, -1):
        for j in range(k + 1, size):
            b[k] -= a[k, j] * b[j]
        b[k] /= a[k, k]
    return b * scale


def _minimise(nu: Array, base: Array, held: Array, u: Array) -> Array:
    """Minimum of the convex function sum(c) - sum(T u), cell by cell, with a line search."""
    answer = u.copy()
    for n in range(u.shape[1]):
        x = np.log(held[:, n])
        for _ in range(_SAFE_ROUNDS):
            c = np.exp(np.minimum(nu @ x + base[:, n], _LARGEST))
            sums = nu.T @ c
            if np.max(np.abs(np.log(sums / held[:, n]))) <= _TOLERANCE * 10:
                break
            hessian = nu.T @ (c[:, None] * nu)
            scale = 1 / np.sqrt(np.diag(hessian))
            scaled = hessian * np.outer(scale, scale) + 1e-15 * np.eye(len(x))
            step = scale * np.linalg.solve(scaled, scale * (held[:, n] - sums))
            step *= min(1.0, 2 / max(float(np.max(np.abs(step))), _FLOOR))
            value = c.sum() - held[:, n] @ x
            slope = (sums - held[:, n]) @ step
            for _ in range(64):
                y = x + step
                if np.exp(np.minimum(nu @ y + base[:, n], _LARGEST)).sum() - held[:, n] @ y <= (
                    value + slope / 10000 + 1e-15 * abs(value)
                ):
                    break
                step, slope = step / 2, slope / 2
            x = x + step
        else:
            raise ConvergenceError(
                "the speciation of a cell did not converge",
                trace=Trace(equation="total of a component", advice="report this composition"),
            )
        answer[:, n] = x
    return answer


def solve_charge(
    t: Tableau,
    totals: ArrayLike,
    book: Book | None = None,
    *,
    excess_charge: ArrayLike = 0.0,
    strength: ArrayLike | None = None,
) -> Speciation:
    """Speciation and pH from electroneutrality.

    ``excess_charge`` [mol/m3, as positive charge] stands for ions outside the tableau: Na added
    minus Cl, for example. The charge of all species rises strictly with [H+] at fixed totals, so
    the pH is bracketed and found by a safeguarded Newton method, whatever the composition.

    >>> t = tableau((), ("acetate",), Book())
    >>> round(float(solve_charge(t, [100.0]).pH), 2)
    2.88
    """
    totals = np.asarray(totals, dtype=float)
    cells = np.broadcast_shapes(
        totals.shape[:-1], np.shape(excess_charge), np.shape(0.0 if strength is None else strength)
    )
    count = len(t.components) - 1
    flat = np.broadcast_to(totals, (*cells, count)).reshape(-1, count)
    extra = np.broadcast_to(np.asarray(excess_charge, dtype=float), cells).reshape(-1) / C_STANDARD
    at = None if strength is None else np.broadcast_to(strength, cells).reshape(-1)
    z = t.species_charges
    low, high = np.full(len(extra), -2.0), np.full(len(extra), 16.0)
    pH = np.full(len(extra), 7.0)
    found = solve(t, flat, pH, book, strength=at)
    for _ in range(_ROUNDS * 2):
        c = found.conc / C_STANDARD
        charge = c @ z + extra
        low, high = np.where(charge > 0, pH, low), np.where(charge > 0, high, pH)
        done = (np.abs(charge) <= _TOLERANCE * (c @ np.abs(z) + np.abs(extra))) | (
            high - low < 1e-13
        )
        if done.all():
            return _reshaped(found, cells)
        # Newton on ln(positive charge) - ln(negative charge), kept inside the bracket.
        positive = c @ np.maximum(z, 0) + np.maximum(extra, 0)
        negative = -(c @ np.minimum(z, 0)) + np.maximum(-extra, 0)
        gap = np.log(positive) - np.log(negative)
        slope = _log_charge_slope(t, found, positive, negative)
        trial = pH - gap / np.minimum(slope, -1e-12)
        inside = (trial > low) & (trial < high) & np.isfinite(trial)
        pH = np.where(done, pH, np.where(inside, trial, (low + high) / 2))
        found = solve(t, flat, pH, book, strength=at)
    raise ConvergenceError(
        "the pH that makes the solution neutral was not found",
        trace=Trace(equation="electroneutrality", advice="check totals and excess_charge"),
    )


def _log_charge_slope(t: Tableau, found: Speciation, positive: Array, negative: Array) -> Array:
    """d (ln positive - ln negative charge) / d pH at fixed totals, from the solved cells."""
    c = (found.conc / C_STANDARD).T
    nu, proton, z = t.stoichiometry[:, :-1], t.stoichiometry[:, -1], t.species_charges
    rows, columns = np.triu_indices(nu.shape[1])
    packed = np.maximum((nu[:, rows] * nu[:, columns]).T @ c, _FLOOR)
    response = _spd_solve(packed, rows, columns, -(nu * proton[:, None]).T @ c)
    d_ln_c = (nu @ response + proton[:, None]) * -math.log(10)
    d_positive: Array = (c * np.maximum(z, 0)[:, None] * d_ln_c).sum(axis=0) / positive
    d_negative: Array = (c * np.minimum(z, 0)[:, None] * d_ln_c).sum(axis=0) / negative
    return d_positive + d_negative


def _reshaped(found: Speciation, cells: tuple[int, ...]) -> Speciation:
    """The same result with the caller's leading axes."""
    return replace(
        found,
        conc=found.conc.reshape(*cells, -1),
        log_free=found.log_free.reshape(*cells, -1),
        pH=found.pH.reshape(cells),
    )


def hydroxide_saturation(
    s: Speciation, metal: str, book: Book, *, solid: str = "amorphous"
) -> Array:
    """log10 of the ion product over the solubility of M(OH)3: above zero it precipitates.

    log10 [M3+] + 3 pH - log10 K, for M(OH)3(s) + 3 H+ = M3+ + 3 H2O, concentrations as activities.

    >>> t = tableau(("Nd",), (), Book())
    >>> bool(hydroxide_saturation(solve(t, [100.0], 7.3), "Nd", Book()) > 0)
    True
    """
    free = np.maximum(s[metal], _FLOOR) / C_STANDARD
    index: Array = np.log10(free) + 3 * s.pH - book[f"solids/hydroxides-llnl:{metal}_{solid}"]
    return index
