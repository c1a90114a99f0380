"""What a terminal shows: results as tables, messages, and how far long work is."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

    from sepmodel.result import Result
    from sepmodel.study.sweep import Progress

# Letters of a stream's name that stand on one line.
NAME = 20


def pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {value:.6g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in values.items()
    )


def say(text: str) -> None:
    """One diagnostic on stderr."""
    try:
        click.echo(text, err=True)
    except OSError:  # nobody listens any more
        return


def mute() -> None:
    """Send the rest of stdout nowhere: its reader has gone, or its disk is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def announce(path: Path | None, shadows: Path | None) -> None:
    """Tell which of the user's model files stand in front of shipped ones."""
    from sepmodel.case import alike, shadowed

    if path is not None and shadows is not None and not alike(path, shadows):
        say(f"note: using {path}, which stands in front of the shipped {shadows.name}")
    for mine, ours in shadowed().items():
        if mine != path:
            say(f"note: {mine} stands in front of the shipped {ours.name}")


@contextmanager
def busy(text: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show on a terminal that work is going on; gives a function that tells how far it is."""
    if not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console

    with Console(stderr=True).status(text) as status:
        yield lambda what, done, total: status.update(f"{text}: {what} ({done} of {total})")


def clock(tell: Callable[[str, int, int], None]) -> Callable[[float, float], None]:
    """Turns simulated time reached, and the end, into what a terminal shows: how much is left."""
    started, shown = time.monotonic(), 0.0
    begun: float | None = None

    def progress(reached: float, end: float) -> None:
        nonlocal shown, begun
        now = time.monotonic()
        begun = reached if begun is None else begun
        if now - shown < 0.2 or reached <= begun:
            return
        shown = now
        left = (now - started) * (end - reached) / (reached - begun)
        tell(f"{left:.0f} s left; hours of plant time", round(reached / 3600), round(end / 3600))

    return progress


@contextmanager
def counting(what: str, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Show how many points are done, how fast, and how long it will take.

    On a terminal a bar; elsewhere a line on stderr every half minute.
    """
    if not sys.stderr.isatty():
        last = [0.0]

        def line(now: Progress) -> None:
            if not quiet and now.seconds - last[0] >= 30:
                last[0] = now.seconds
                say(f"{what}: {progress(now)}")

        yield line
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"))
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        shown = bar.add_task(what, total=None, said="the case itself")

        def show(now: Progress) -> None:
            bar.update(shown, completed=now.done, total=now.total, said=progress(now))

        yield show


def progress(now: Progress) -> str:
    """How far a sweep is, as text.

    >>> from sepmodel.study.sweep import Progress
    >>> progress(Progress(done=50, total=150, stored=0, failed=1, seconds=5.0))
    '50 of 150, 1 failed, 10/s, 10 s left'
    """
    said = [f"{now.done} of {now.total}"]
    if now.failed:
        said.append(f"{now.failed} failed")
    if now.rate > 0:
        said.append(f"{now.rate:.3g}/s")
    if now.left and now.left >= 1:
        minutes, seconds = divmod(round(now.left), 60)
        hours, minutes = divmod(minutes, 60)
        parts = [(hours, "h"), (minutes, "min"), (seconds, "s")]
        told = [f"{number} {unit}" for number, unit in parts if number]
        said.append(" ".join(told[:2]) + " left")
    return ", ".join(said)


def console() -> Console:
    from rich.console import Console

    return Console(soft_wrap=False, highlight=False)


def table(*columns: str, title: str = "") -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def show_result(result: Result) -> None:
    from rich.text import Text

    from sepmodel.units import significant

    screen = console()
    document = result.to_dict()
    missed = any(warning.code == "purity-missed" for warning in result.warnings)
    title = f"{result.name} ({result.kind}): {result.status}"
    title += ", misses its specification" if missed else ""
    streams = document["streams"].items()
    acid = any(stream["pH"] is not None for _, stream in streams)
    # Without a cross-section (an elution) what leaves is a volume per area.
    areal = any(stream["flow"]["unit"] == "m" for _, stream in streams)
    shares = any(stream["purity"] or stream["recovery"] for _, stream in streams)
    columns = ("stream", "phase", "stage", "volume per area" if areal else "flow")
    rows = table(
        *columns,
        *(("pH",) if acid else ()),
        *(("purity", "recovery") if shares else ()),
        title=title,
    )
    # Names of streams are whole words to copy.
    rows.columns[0].min_width = min(max((len(name) for name, _ in streams), default=0), NAME)
    for name, stream in streams:
        flow = stream["flow"]
        cells = [
            name,
            stream["phase"],
            "" if stream["stage"] is None else str(stream["stage"]),
            _amount(flow),
        ]
        if acid:
            cells.append("" if stream["pH"] is None else f"{stream['pH']:.2f}")
        purest = _largest(stream["purity"]) or _largest(stream["recovery"])
        if shares:
            cells.append(_fractions({n: stream["purity"].get(n) for n in purest}))
            cells.append(_fractions({n: stream["recovery"].get(n) for n in purest}))
        rows.add_row(*cells)
    if document["streams"]:
        screen.print(rows)
    if document["quantities"]:
        rows = table("quantity", "value")
        for name, quantity in document["quantities"].items():
            rows.add_row(name, _amount(quantity))
        screen.print(rows)
    worst = document["balance"]["max"]
    lines = [f"inputs {result.inputs_hash[:8]}"]
    if worst is not None:
        lines.append(f"balances close to {worst:.0e}")
    numbers = "number" if len(result.used) == 1 else "numbers"
    lines.append(f"{len(result.used)} {numbers}, estimated: {result.estimated['count']}")
    scheme, error = document["solver"].get("scheme"), document["solver"].get("estimated_error")
    if scheme is not None:
        of = document["solver"].get("error_of", "the peak")
        told = f"error {error:.0e} of {of}" if error is not None else "error not estimated"
        lines.append(f"{scheme}, {told}")
    if document["solver"]["seconds"] is not None:
        lines.append(f"{significant(document['solver']['seconds'])} s")
    screen.print(Text("; ".join(lines)))


def _amount(quantity: Mapping[str, Any]) -> str:
    from sepmodel.units import significant

    if quantity["value"] is None:
        return "-"
    unit = "" if quantity["unit"] == "1" else f" {quantity['unit']}"
    value = quantity["value"]
    text = f"{value:.0f}" if value == round(value) else significant(value, 4)
    return f"{text}{unit}"


def _largest(fractions: Mapping[str, float | None]) -> list[str]:
    """The names of the three largest fractions."""
    known = sorted(((v, k) for k, v in fractions.items() if v is not None), reverse=True)
    return [name for _, name in known[:3]]


def _fractions(fractions: Mapping[str, float | None]) -> str:
    """Fractions as text, one a line, with the digits that tell 0.9999 from 1."""
    return "\n".join(f"{n} {v:.5f}" if v is not None else "" for n, v in fractions.items())


def show_verdicts(report: Any) -> None:
    """One block a quantity, numbers under one header, within 80 columns."""
    columns = width()
    head = f"{'role':<12}{'n':>5}{'bias':>10}{'rms':>9}{'worst':>9}{'limit':>9}"
    click.echo(f"  {head}  {'verdict':<8}own past")
    for row in report.rows:
        numbers = f"{row.role:<12}{row.n:>5}{_small(row.bias):>10}{_small(row.rms):>9}"
        numbers += f"{_small(row.worst):>9}{_small(row.limit):>9}"
        said = row.verdict if row.verdict == "hit" else row.verdict.upper()
        limit = f"limit on {row.statistic} ({row.scale}): {row.reason}"
        click.echo(
            "\n".join(textwrap.wrap(f"{row.id} [{row.publication}]: {row.quantity}", columns))
        )
        click.echo(f"  {numbers}  {said:<8}{row.regression}")
        stands = f"why the miss stands: {row.known}" if row.known and row.verdict == "miss" else ""
        for text in (limit, stands, row.message):
            click.echo(
                "\n".join(
                    textwrap.wrap(text, columns, initial_indent="    ", subsequent_indent="    ")
                ),
                nl=bool(text),
            )
    counts = ", ".join(f"{count} {name}" for name, count in report.summary.items())
    evidence = sum(row.role == "prediction" for row in report.rows)
    click.echo(f"{counts}; {evidence} of {len(report.rows)} rows are predictions")


def width() -> int:
    """Columns of the terminal, 80 where there is none."""
    return max(shutil.get_terminal_size((80, 24)).columns, 60)


def _small(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"


def warn(warnings: Sequence[Any]) -> None:
    """Every warning of an answer, by name."""
    for warning in warnings:
        where = f" ({warning.where})" if warning.where else ""
        say(f"warning: {warning.code}: {warning.message}{where}")
