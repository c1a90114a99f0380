"""A study as lines of a terminal, and as the files of its folder."""

from __future__ import annotations

import math
import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from sepmodel import files, statistics
from sepmodel.errors import InputError, Problem
from sepmodel.study.answers import Answer
from sepmodel.study.store import SOLVED
from sepmodel.study.sweep_document import tornado
from sepmodel.study.sweep_result import SweepResult
from sepmodel.study.tornado import Tornado

# What a terminal shows of each list; the files have everything.
ANSWERS, DRIVERS, POINTS, REASONS = 10, 6, 32, 3
# An answer whose variance is linear to this part may be judged by its gradients.
LINEAR = 0.9
# Width of the interval of a Sobol index beyond which it says nothing.
UNSETTLED = 1.0
# Differences of an answer below this part of it are rounding.
ROUNDING = 1e-9
# Reasons that differ in their numbers only are told once.
_NUMBER = re.compile(r"[-+]?\d[\d.e+-]*")
DESIGNS = {
    "sobol": "Sobol' sample",
    "latin-hypercube": "Latin hypercube sample",
    "random": "Random sample",
    "saltelli": "Saltelli's sample for Sobol indices",
    "morris": "Morris' trajectories",
}
# The files of a study's folder beside its store and figures.
DOCUMENT, TABLE, PARQUET = "sweep.json", "members.csv", "members.parquet"


def contents(result: SweepResult, *, parquet: bool = False) -> dict[str, str | bytes]:
    """Names and contents of the files of a study's folder, its store excepted."""
    found: dict[str, str | bytes] = {
        DOCUMENT: files.json_text(result.to_dict()),
        TABLE: result.csv(),
    }
    if parquet:
        found[PARQUET] = result.parquet()
    return found


def require_room(folder: Path, *, parquet: bool = False, force: bool = False) -> None:
    """InputError when a study's tables could not be written: said before hours of work."""
    names = [DOCUMENT, TABLE, *([PARQUET] if parquet else [])]
    files.require_free(folder, names, force=force)
    if parquet:
        require_parquet()


def require_parquet() -> None:
    """InputError when Parquet cannot be written here."""
    from importlib.util import find_spec

    if find_spec("pyarrow") is None:
        raise InputError(
            Problem(
                message="Parquet needs pyarrow, which is not installed",
                key="--parquet",
                expected="pip install 'sepmodel[tables]'",
            )
        )


def lines(result: SweepResult, width: int = 80) -> list[str]:
    """What a study says, within ``width`` columns."""
    plan = result.plan
    members = len(plan.members)
    solved = result.counts.get(SOLVED, 0)
    head = f"{result.name}: {solved} of {members} members solved"
    if result.closure is not None:
        head += f", balances close to {result.closure:.0e}"
    found = textwrap.wrap(head, width)
    about = []
    if plan.axes:
        about.append(f"grid of {_count(len(plan.grid), 'point')}")
    if result.sampled:
        about.append(f"{DESIGNS[plan.sweep.design or '']} of {_count(len(result.inputs), 'input')}")
        about.append(f"seed {plan.sweep.seed}")
    if result.stored:
        about.append(f"{result.stored} of {len(plan.jobs)} points were there")
    found += textwrap.wrap("; ".join(about), width)
    found += _entangled(result, width)
    found += _failures(result, width)
    if not result.sampled:
        return found + _grid(result, width)
    for g in range(min(len(plan.grid), POINTS)):
        if plan.axes:
            keys = [axis.key for axis in plan.axes]
            here = ", ".join(f"{k} = {v}" for k, v in zip(keys, plan.grid[g], strict=True))
            found += ["", *textwrap.wrap(here, width)]
        found += _sample(result, g, width)
    if len(plan.grid) > POINTS:
        found += ["", f"and {len(plan.grid) - POINTS} more points of the grid, in the files"]
    return found


def _entangled(result: SweepResult, width: int) -> list[str]:
    """A word of caution where inputs of the sample hang together more than by chance."""
    count, inputs = len(result.independent), len(result.inputs)
    if not result.sampled or result.plan.sweep.design == "random":
        return []
    largest = result.entangled
    if largest <= statistics.noise(count, inputs * (inputs - 1) // 2):
        return []
    return textwrap.wrap(
        f"inputs hang together in this sample, two of them by {largest:.2f}: what one does may be "
        "told of the other; more samples, or --design random",
        width,
    )


def _failures(result: SweepResult, width: int) -> list[str]:
    """What failed and why, by status."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for job in result.plan.members:
        outcome = result.outcomes.get(job.id)
        if outcome is not None and outcome.status != SOLVED:
            said = reasons.setdefault(outcome.status, {})
            alike = _NUMBER.sub("#", outcome.reason)
            said.setdefault(alike, []).append(" ".join(outcome.reason.split()))
    found = []
    for status, said in reasons.items():
        found.append(f"{status}: {sum(map(len, said.values()))}")
        for texts in sorted(said.values(), key=lambda texts: -len(texts))[:REASONS]:
            short = texts[0] if len(texts[0]) <= 2 * width else texts[0][: 2 * width] + "..."
            such = " such as" if len(set(texts)) > 1 else ""
            found += textwrap.wrap(
                f"{len(texts)} x{such} {short}",
                width,
                initial_indent="  ",
                subsequent_indent="    ",
            )
        if len(said) > REASONS:
            found.append(f"  and {len(said) - REASONS} more reasons, in members.csv")
    return found


def shown(result: SweepResult) -> list[Answer]:
    """The answers worth showing first."""
    return listed(result)[0]


def listed(result: SweepResult) -> tuple[list[Answer], int]:
    """The answers a terminal shows, those with limits first, and how many others vary."""
    varying = []
    for answer in result.answers:
        values = result.column(answer.name)
        known = values[np.isfinite(values)]
        if known.size and np.ptp(known) > ROUNDING * np.abs(known).max():
            varying.append(answer)
    chosen = [a for a in result.answers if a.specified]
    rest = [a for a in varying if not a.specified]
    room = max(ANSWERS - len(chosen), 0)
    return chosen + rest[:room], len(rest[room:])


def _sample(result: SweepResult, grid: int, width: int) -> list[str]:
    chosen, more = listed(result)
    if result.plan.sweep.design == "morris":
        found = [line for answer in chosen for line in _morris(result, answer, grid, width)]
        if any(answer.specified for answer in chosen):
            word = "trajectories are no sample: how often a limit is kept, other designs tell"
            found += ["", *textwrap.wrap(word, width)]
        return found
    column = 10
    left = width - 5 * column
    titles = ("as stated", "mean", "median", "5 %", "95 %")
    found = ["", " " * left + "".join(f"{title:>{column}}" for title in titles)]
    for answer in chosen:
        said = result.summary(answer.name, grid)
        values = (said.deterministic, said.mean, said.median, said.low, said.high)
        numbers = "".join(f"{text:>{column}}" for text in told(values, said.deviation))
        name = _named(answer)
        if len(name) < left:
            found.append(f"{name:<{left}}{numbers}")
        else:
            found += [_cut(name, width), " " * left + numbers]
    if more:
        found.append(f"and {_count(more, 'more answer')}, in sweep.json and members.csv")
    limited = [a for a in chosen if a.specified]
    if limited:
        found += ["", f"{'meets':<{width - 34}}{'probability':>14}{'95 % interval':>20}"]
    for answer in limited:
        met = result.met(answer.name, grid)
        said_so = f"{answer.name} {answer.limits}"
        numbers = f"{met.probability:>14.3f}{f'{met.low:.3f} to {met.high:.3f}':>20}"
        found.append(f"{_cut(said_so, width - 35):<{width - 34}}{numbers}")
        steps = ", ".join(f"{s.count}: {s.value:.3f}" for s in met.steps[-6:])
        found += textwrap.wrap(f"after {steps}", width, initial_indent="  ", subsequent_indent="  ")
    for answer in [*limited, *(a for a in chosen if a not in limited)][: max(len(limited), 2)]:
        driven = _driven(result, answer, grid, width)
        if driven:
            found += [*driven, *_settled(result, answer, grid, width)]
    return found


def _settled(result: SweepResult, answer: Answer, grid: int, width: int) -> list[str]:
    """How the mean settled with the number of members, and how much of it all is estimates."""
    steps = statistics.convergence(result.at(answer.name, grid)[result.independent])
    last = steps[-1]
    values = told(tuple(s.value for s in steps[-4:]), last.high - last.low)
    after = ", ".join(f"{s.count}: {v}" for s, v in zip(steps[-4:], values, strict=True))
    half = _plain((last.high - last.low) / 2, 2)
    guessed = result.estimates(answer.name, grid)
    said = [f"mean after {after} (95 %: +- {half})"]
    if guessed.count:
        said.append(f"estimates are {guessed.count} of {_count(guessed.of, 'uncertain constant')}")
        if guessed.share is not None:
            said[-1] += f" and carry {guessed.share:.0%} of its movement"
    return [
        line
        for text in said
        for line in textwrap.wrap(text, width, initial_indent="  ", subsequent_indent="  ")
    ]


def _driven(result: SweepResult, answer: Answer, grid: int, width: int) -> list[str]:
    """What moves an answer: Sobol indices where the sample gives them, a tornado, or ranks."""
    values = result.at(answer.name, grid)[result.independent]
    if np.count_nonzero(np.isfinite(values)) < 3:
        return []
    found = [""]
    if result.plan.sweep.design == "saltelli":
        indices = result.sobol(answer.name, grid)
        left = width - 44
        title = f"what moves {answer.name}"
        found.append(f"{_cut(title, left - 1):<{left}}{'alone':>22}{'with others':>22}")
        for i in np.argsort(-indices.total, kind="stable")[:DRIVERS]:
            first, total = (
                f"{value:.3f} ({ends[0]:.2f} to {ends[1]:.2f})"
                if ends[1] - ends[0] < UNSETTLED
                else "unsettled"
                for value, ends in (
                    (indices.first[i], indices.first_interval[i]),
                    (indices.total[i], indices.total_interval[i]),
                )
            )
            found.append(f"  {_cut(indices.inputs[i], left - 3):<{left - 2}}{first:>22}{total:>22}")
        if np.any(np.ptp(indices.total_interval, axis=1) >= UNSETTLED):
            found += textwrap.wrap(
                "unsettled: a few members carry the variance; more base points, or an answer with "
                "a shorter tail",
                width,
                initial_indent="  ",
                subsequent_indent="  ",
            )
        return found
    if result.plan.ends and len(result.plan.grid) == 1:
        return found + _bars(tornado(result, answer.name), width)
    left = width - 32
    title = f"what moves {answer.name}"
    beyond = [row for row in result.drivers(answer.name, grid) if row[-1] > 0]
    if not beyond:
        said = f"{title}: no input stands out of the noise of {len(values)} members"
        return ["", *textwrap.wrap(said, width)]
    found.append(f"{_cut(title, left - 1):<{left}}{'rank corr.':>10}{'95 %':>15}{'share':>7}")
    for name, r, low, high, share in beyond[:DRIVERS]:
        interval = f"{low:+.2f} to {high:+.2f}"
        found.append(f"  {_cut(name, left - 3):<{left - 2}}{r:>+10.2f}{interval:>15}{share:>7.0%}")
    return found + _linear(result.linearity(answer.name, grid), width)


def _linear(share: float, width: int) -> list[str]:
    if math.isnan(share):
        return []
    if share >= LINEAR:
        said = f"near-linear: {share:.0%} of the variance is linear in the inputs"
    else:
        said = (
            f"not near-linear: only {max(share, 0):.0%} of the variance is linear in the inputs; "
            "gradients mislead, Sobol indices tell (design saltelli)"
        )
    return textwrap.wrap(said, width, initial_indent="  ", subsequent_indent="  ")


def _bars(found: Tornado, width: int) -> list[str]:
    left = width - 36
    title = f"what moves {found.answer}, 5 to 95 %"
    rows = [f"{_cut(title, left - 1):<{left}}{'gradient':>12}{'alone':>12}{'sampled':>12}"]
    for bar in found.bars[:DRIVERS]:
        mark = " *" if bar.near_linear is False else "  "
        numbers = "".join(f"{_plain(v):>12}" for v in (bar.gradient, bar.ends, bar.sampled))
        rows.append(f"{mark}{_cut(bar.input, left - 3):<{left - 2}}{numbers}")
    said = f"gradients by {found.how}; "
    if math.isnan(found.ranking):
        said += "no sample to rank by"
    else:
        said += f"gradient and sample rank the inputs {'alike' if found.same else 'differently'}"
        said += "" if found.same else f" (rank correlation {found.ranking:.2f})"
    if found.bent:
        said += "; * not near-linear"
    rows += textwrap.wrap(said, width, initial_indent="  ", subsequent_indent="  ")
    return rows + _linear(found.linearity, width)


def _morris(result: SweepResult, answer: Answer, grid: int, width: int) -> list[str]:
    if not np.any(np.isfinite(result.at(answer.name, grid))):
        return []
    effects = result.effects(answer.name, grid)
    left = width - 36
    title = f"effects on {_named(answer)}"
    rows = ["", f"{_cut(title, left - 1):<{left}}{'size':>10}{'+-':>8}{'mean':>9}{'spread':>9}"]
    for i in np.argsort(-effects.absolute, kind="stable")[:DRIVERS]:
        numbers = f"{_plain(effects.absolute[i]):>10}{_plain(effects.half_width[i], 2):>8}"
        numbers += f"{_plain(effects.mean[i], 2):>9}{_plain(effects.deviation[i], 2):>9}"
        rows.append(f"  {_cut(effects.inputs[i], left - 3):<{left - 2}}{numbers}")
    return rows


def _grid(result: SweepResult, width: int) -> list[str]:
    """A grid as a table: one row a point, as many answers as there is room for."""
    chosen, _ = listed(result)
    axes = result.plan.axes
    column = 13
    room = max((width - column * len(axes)) // column, 1)
    rows = []
    for start in range(0, min(len(chosen), 2 * room), room):
        part = chosen[start : start + room]
        names = [axis.key for axis in axes] + [_named(a) for a in part]
        rows += ["", *_titles(names, column)]
        columns = [result.column(a.name) for a in part]
        order = _order(result)
        spreads = [float(np.nanstd(c)) if np.any(np.isfinite(c)) else 0.0 for c in columns]
        for i in order[:POINTS]:
            point = result.plan.grid[i]
            cells = [f"{_level(value):>{column}}" for value in point]
            outcome = result.outcomes.get(result.plan.members[i].id)
            if outcome is None or outcome.status != SOLVED:
                rows.append("".join(cells) + f"  {outcome.status if outcome else 'open'}")
                continue
            for values, spread in zip(columns, spreads, strict=True):
                cells.append(f"{told((values[i],), spread, 3)[0]:>{column}}")
            rows.append("".join(cells))
    if len(result.plan.grid) > POINTS:
        rows.append(f"and {len(result.plan.grid) - POINTS} more points, in members.csv")
    return rows


def _order(result: SweepResult) -> list[int]:
    """Points of the grid by their coordinates, text as it was given."""
    axes = result.plan.axes

    def place(i: int) -> list[float]:
        point = result.plan.grid[i]
        return [
            axis.values.index(value) if math.isnan(axis.number(value)) else axis.number(value)
            for axis, value in zip(axes, point, strict=True)
        ]

    return sorted(range(len(result.plan.grid)), key=place)


def _titles(names: list[str], column: int) -> list[str]:
    """Names over columns, the end of each that fits in two lines."""
    parts = []
    for name in names:
        text = name if len(name) < 2 * column - 2 else name[-(2 * column - 2) :]
        cut = max(len(text) - column + 1, 0)
        parts.append((text[:cut], text[cut:]))
    first = "".join(f"{one:>{column}}" for one, _ in parts)
    second = "".join(f"{other:>{column}}" for _, other in parts)
    return [line.rstrip() for line in (first, second) if line.strip()]


def _level(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text if len(text) < 13 else "..." + text[-9:]


def told(values: tuple[float, ...], spread: float, digits: int = 2) -> list[str]:
    """Numbers with the decimals that show their spread, no more.

    >>> told((0.99839, 0.99887), 0.0009)
    ['0.99839', '0.99887']
    >>> told((10.5123, float("nan")), 2.0)
    ['10.5', '-']
    >>> told((0.0008, 0.00001), 0.002)
    ['0.0008', '1e-05']
    """
    known = [abs(v) for v in values if math.isfinite(v)]
    largest = max(known, default=0.0)
    decimals = 4
    if spread > 0:
        decimals = max(digits - 1 - math.floor(math.log10(spread)), 0)
    if largest >= 1e6 or (0 < largest < 1e-4) or decimals > 7:
        return [_plain(v) for v in values]
    if any(0 < v < 0.5 * 10.0**-decimals for v in known):  # would be told as nothing
        return [_plain(v) for v in values]
    return [f"{v:.{decimals}f}" if math.isfinite(v) else "-" for v in values]


def _plain(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}g}" if math.isfinite(value) else "-"


def _named(answer: Answer) -> str:
    return answer.name if answer.unit in ("1", "") else f"{answer.name}, {answer.unit}"


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else "..." + text[-(room - 3) :]


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
