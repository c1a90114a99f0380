"""The command line: reads arguments, calls the library, prints. No model lives here.

Everything heavy is imported inside the commands: ``sepmodel --help`` has to answer at once.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sepmodel import __version__, targets, terminal
from sepmodel.errors import (
    ConvergenceError,
    InfeasibleError,
    InputError,
    Problem,
    SepmodelError,
)

if TYPE_CHECKING:
    pass

# Matrices here are small and work is shared among processes: threads of the linear algebra library
# would only get in each other's way (twice the time of a comparison). Set before numpy is loaded.
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
# New objects between two searches for garbage, in every process of a command.
_SELDOM = 100_000
OK, DEFECT, BAD_INPUT, UNSOLVED, LIMIT_EXCEEDED, INTERRUPTED = 0, 1, 2, 3, 4, 130


@click.group(
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80},
)
@click.version_option(__version__, prog_name="sepmodel")
@click.pass_context
def app(context: click.Context) -> None:
    """Design and compare rare-earth separation routes.

    A case is a TOML file, or the name of one in ./models or among the shipped models. Exit codes:
    0 done, 1 a defect in sepmodel, 2 bad input, 3 infeasible or unsolved, 4 a validation limit
    exceeded, 130 interrupted.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _json_option(command: Any) -> Any:
    return click.option(
        "--json", "json_to", metavar="FILE|-", help="Write JSON; - puts only JSON on stdout."
    )(command)


@app.command()
@click.argument("case")
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Replace a value.")
@_json_option
@click.option("--out", metavar="DIR", help="Folder of the results (./results/NAME-HASH).")
@click.option("--force", is_flag=True, help="Replace files that sepmodel did not write.")
@click.option("--figures/--no-figures", default=True, help="Draw the figures (default) or not.")
@click.option("--parquet", is_flag=True, help="Also write profiles.parquet (extra: tables).")
@click.option("--quiet", is_flag=True, help="Print nothing but warnings and errors.")
def run(
    case: str,
    settings: tuple[str, ...],
    json_to: str | None,
    out: str | None,
    force: bool,
    figures: bool,
    parquet: bool,
    quiet: bool,
) -> None:
    """Solve one case and write its results.

    \b
    Examples:
      sepmodel run nd-pr
      sepmodel run nd-pr --set section.scrub.stages=60 --json -
      sepmodel run nd-pr --out my-results --no-figures
    """
    from sepmodel.case import parse_settings
    from sepmodel.files import write_folder
    from sepmodel.run import load, result_files, result_folder
    from sepmodel.run import run as solve

    loaded = load(case, parse_settings(settings))
    terminal.announce(loaded.path, loaded.shadows)
    targets.check(json_to, force)
    if parquet:
        from sepmodel.report_sweep import require_parquet

        require_parquet()
    with terminal.busy(f"solving {loaded.name}") as tell:
        scratch = Path("results") / "checkpoints"
        result = solve(loaded, progress=terminal.clock(tell), scratch=scratch)
        contents: dict[str, str | bytes] = {**result_files(result, loaded)}
        if parquet:
            contents["profiles.parquet"] = result.parquet()
        if figures:
            from sepmodel.plot import figures as drawn

            contents.update(drawn(result))
    folder = targets.folder(out, result_folder(result))
    about = {"version": __version__, "name": result.name, "inputs_hash": result.inputs_hash}
    write_folder(folder, contents, about, force=force)
    terminal.warn(result.warnings)
    targets.deliver(result.to_dict(), json_to)
    if json_to != "-" and not quiet:
        terminal.show_result(result)
        terminal.console().print(f"wrote {folder}/", highlight=False, markup=False)


@app.command()
@click.argument("study", default="magnet-scrap")
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Replace a value.")
@click.option(
    "--constant",
    "constants",
    multiple=True,
    metavar="KEY=VALUE",
    help="Replace a number of the data sets, which is not drawn then: strict SI, or with a unit.",
)
@click.option("--ranges/--no-ranges", default=True, help="Low and high of every figure (default).")
@click.option(
    "--members",
    type=click.IntRange(16, 100_000),
    default=1000,
    show_default=True,
    help="Draws of all constants together behind the ranges.",
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the draws.")
@click.option(
    "--draw",
    type=click.IntRange(0),
    metavar="N",
    help="Run the plants as built at draw N (from 0) of the seed; constants.csv has its constants.",
)
@click.option(
    "--as-built",
    multiple=True,
    metavar="KEY=VALUE",
    help="Run the plants, designed at the other numbers, as built at this one: stages stand.",
)
@click.option(
    "--engine",
    is_flag=True,
    help="Run the columns on the transport engine where no answer is kept (half a minute).",
)
@click.option("--wide", is_flag=True, help="All figures, in 160 columns.")
@_json_option
@click.option("--out", metavar="DIR", help="Folder of the results (./results/NAME-HASH).")
@click.option("--force", is_flag=True, help="Replace files that sepmodel did not write.")
@click.option("--figures/--no-figures", default=True, help="Draw the figures (default) or not.")
@click.option("--quiet", is_flag=True, help="Print nothing but warnings and errors.")
def compare(
    study: str,
    settings: tuple[str, ...],
    constants: tuple[str, ...],
    ranges: bool,
    members: int,
    seed: int,
    draw: int | None,
    as_built: tuple[str, ...],
    engine: bool,
    wide: bool,
    json_to: str | None,
    out: str | None,
    force: bool,
    figures: bool,
    quiet: bool,
) -> None:
    """Compare the routes of a study: the table, the files, the page.

    \b
    Examples:
      sepmodel compare
      sepmodel compare magnet-scrap-nd-pr --wide
      sepmodel compare --no-ranges --set market=china-2025 --json -
      sepmodel compare --draw 3 --no-figures
    """
    from sepmodel import plot, report
    from sepmodel.case import parse_settings
    from sepmodel.plant import compare as plant
    from sepmodel.processes import processors
    from sepmodel.run import compare as compared
    from sepmodel.run import load
    from sepmodel.study import engine_answers

    if draw is not None and as_built:
        raise click.UsageError("--draw and --as-built both say what the plants are run at")
    loaded = load(study, parse_settings(settings))
    terminal.announce(loaded.path, loaded.shadows)
    targets.check(json_to, force)
    kept = _numbers(as_built, "--as-built") or None
    workers = processors()
    with terminal.busy(f"comparing the routes of {loaded.name}") as step:

        def tell(what: str, done: int, total: int) -> None:
            step(what, done, total)
            if figures and not done:
                plot.prepare()  # others compute now

        found = compared(
            loaded,
            constants=_numbers(constants),
            ranges=ranges,
            members=members,
            seed=seed,
            as_built=kept if draw is None else draw,
            workers=workers,
            progress=tell,
        )
        found = engine_answers.answered(found, run=engine, progress=step)
        name = f"{found.study.name}-{found.inputs_hash[:8]}"
        folder = Path(out) if out else Path("results") / name
        page = report.write(found, folder, force=force, figures=figures, workers=workers)
    targets.deliver(plant.to_dict(found), json_to)
    if json_to != "-" and not quiet:
        click.echo(report.table(found, wide=wide), nl=False)
        click.echo(f"wrote {folder}/; read {page}")
    # A draw in which nothing works is an answer.
    if draw is None and all(result.status != "meets" for result in found.routes):
        raise _Exit(UNSOLVED)


@app.command()
@click.argument("spec")
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Replace a value.")
@_json_option
@click.option("--out", metavar="DIR", help="Folder of the results (./results/NAME-HASH).")
@click.option("--force", is_flag=True, help="Replace files that sepmodel did not write.")
@click.option("--figures/--no-figures", default=True, help="Draw the figures (default) or not.")
@click.option("--pareto", is_flag=True, help="Stages against reagents, purity against lock-up.")
@click.option("--quiet", is_flag=True, help="Print nothing but warnings and errors.")
def design(
    spec: str,
    settings: tuple[str, ...],
    json_to: str | None,
    out: str | None,
    force: bool,
    figures: bool,
    pareto: bool,
    quiet: bool,
) -> None:
    """Design a circuit from a specification: stages, flows, acid, tolerances.

    A file of kind "train" has every sequence of cuts ranked instead.

    The folder holds the design, its figures, and circuit.toml, which `sepmodel run` solves. An
    infeasible specification exits with 3 and says which limit, by how much, and the nearest.

    \b
    Examples:
      sepmodel design nd-pr-99-5
      sepmodel design nd-pr-99-5 --set product.Nd.purity=0.999 --json -
      sepmodel design nd-pr-99-5 --set objective.minimise=reagents
      sepmodel design magnet-train
    """
    from sepmodel.files import write_folder

    found = _designed(spec, settings, json_to, force)
    report, drawn = _reporters(found)
    with terminal.busy(f"drawing {found.name}"):
        contents = report.files(found, terminal.width())
        if figures:
            contents.update(drawn(found))
    more = _fronts(spec, settings, contents, figures) if pareto else []
    folder = targets.folder(out, Path("results") / f"{found.name}-{found.inputs_hash[:8]}")
    about = {"version": __version__, "name": found.name, "inputs_hash": found.inputs_hash}
    write_folder(folder, contents, about, force=force)
    targets.deliver(found.to_dict(), json_to)
    if json_to != "-" and not quiet:
        click.echo("\n".join([*report.lines(found, terminal.width()), *more]))
        then = f"; next: sepmodel run {folder}/circuit.toml" if "circuit.toml" in contents else ""
        click.echo(f"wrote {folder}/{then}")


@app.command()
@click.argument("spec")
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Replace a value.")
@_json_option
def explain(spec: str, settings: tuple[str, ...], json_to: str | None) -> None:
    """Say what decides a design: specification, pinch, minor product, limits.

    \b
    Examples:
      sepmodel explain nd-pr-99-5
      sepmodel explain nd-pr-99-5 --set circuit.solvent=3.3
    """
    found = _designed(spec, settings, json_to, False)
    report, _ = _reporters(found)
    document = {
        "schema": 1,
        "name": found.name,
        "explanation": report.explanation(found),
    }
    targets.deliver(document, json_to)
    if json_to != "-":
        click.echo("\n".join(report.explained(found, terminal.width())))


def _fronts(
    spec: str, settings: tuple[str, ...], contents: dict[str, Any], figures: bool
) -> list[str]:
    """The Pareto fronts of a design: their files added to ``contents``, their tables as lines."""
    from sepmodel import plot_design, report_pareto
    from sepmodel.case import parse_settings
    from sepmodel.run import load, pareto

    loaded = load(spec, parse_settings(settings))
    with terminal.busy(f"circuits on the fronts of {loaded.name}"):
        found = pareto(loaded)
    contents["pareto.csv"] = report_pareto.table(found)
    if figures:
        contents.update(plot_design.pareto_figures(loaded.name, found))
    return ["", *report_pareto.lines(found)]


def _reporters(found: Any) -> tuple[Any, Any]:
    """The module that writes a design or a train as text, and what draws its figures."""
    from sepmodel import plot_design, report_design, report_train
    from sepmodel.plant.train_case import TrainPlan

    if isinstance(found, TrainPlan):
        return report_train, plot_design.train_figures
    return report_design, plot_design.figures


def _designed(spec: str, settings: tuple[str, ...], json_to: str | None, force: bool) -> Any:
    """The design of a file, with the user told which file that is."""
    from sepmodel.case import parse_settings
    from sepmodel.run import design as designed
    from sepmodel.run import load

    loaded = load(spec, parse_settings(settings))
    terminal.announce(loaded.path, loaded.shadows)
    targets.check(json_to, force)
    with terminal.busy(f"designing {loaded.name}"):
        found = designed(loaded)
    terminal.warn(getattr(found, "warnings", ()))
    return found


def _numbers(pairs: Sequence[str], option: str = "--constant") -> dict[str, float]:
    """KEY=VALUE arguments of an option as constants to replace, checked against what they are."""
    from sepmodel import data

    found = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or ":" not in key or text.strip().lower() in ("", "nan"):
            raise InputError(
                Problem(
                    message="not a constant and its value",
                    key=option,
                    value=pair,
                    expected="SET:NAME=VALUE, a number in strict SI or text with a unit",
                )
            )
        try:
            found[key] = data.replacement(key, text.strip().strip("\"'"))
            data.Book(found)
        except InputError as error:
            raise InputError([replace(p, file=option) for p in error.problems]) from None
    return found


def _is_case(table: str) -> bool:
    """Whether what is to be fitted is a case file, by path or name, and no CSV of shake-outs."""
    from sepmodel.case import names
    from sepmodel.study.shakeout import find

    return table.endswith(".toml") or (table in names() and not find(table).is_file())


def _fit_curves(spec: str, json_to: str | None, out: str | None, force: bool) -> None:
    """``sepmodel fit`` of a file of kind "curve-fit"."""
    from sepmodel import plot_curve, report_curve
    from sepmodel.files import json_text, write_folder
    from sepmodel.run import inputs_hash, load
    from sepmodel.study.curve_fit import fit_curves

    loaded = load(spec)
    terminal.announce(loaded.path, loaded.shadows)
    targets.check(json_to, force)
    with terminal.busy(f"fitting {loaded.name}"):
        found = fit_curves(loaded)
        drawn = plot_curve.figures(found)
        document = report_curve.to_dict(found)
        title = loaded.inputs.title or f"Fit of {loaded.name}"
        contents: dict[str, str | bytes] = {
            "residuals.csv": report_curve.residuals_csv(found),
            "fit.json": json_text(document),
            **drawn,
            report_curve.PAGE: report_curve.page(found, drawn, title),
        }
    hashed = inputs_hash(loaded, found.used)
    folder = targets.folder(out, Path("results") / f"{found.name}-{hashed[:8]}")
    about = {"version": __version__, "name": found.name, "inputs_hash": hashed}
    write_folder(folder, contents, about, force=force)
    targets.deliver(document, json_to)
    terminal.warn(found.warnings)
    if json_to != "-":
        click.echo("\n".join(report_curve.summary_lines(found)))
        click.echo(f"wrote {folder}/")


@app.command()
@click.argument("table")
@click.option("--activity", default="ideal", show_default=True, help="ideal, sit or pitzer.")
@click.option("--loss", default="linear", show_default=True, help="linear or soft_l1 (robust).")
@click.option("--error", type=float, help="Relative error of one analysis (0.03).")
@click.option("--offsets/--no-offsets", default=True, help="One level per laboratory, or none.")
@click.option("--counter-ion", default="Na", show_default=True, help="Of saponified rows.")
@click.option("--source", default="own", show_default=True, help="Key of the data's source.")
@_json_option
@click.option("--out", metavar="DIR", help="Folder of the results (./results/NAME-fit).")
@click.option("--force", is_flag=True, help="Replace files that sepmodel did not write.")
def fit(
    table: str,
    activity: str,
    loss: str,
    error: float | None,
    offsets: bool,
    counter_ion: str,
    source: str,
    json_to: str | None,
    out: str | None,
    force: bool,
) -> None:
    """Constants with error bars: from a CSV of shake-out tests, or from curves of a column.

    TABLE is a CSV of shake-outs, or a file of kind "curve-fit" (then only --json, --out and --force
    count), which names the column case, the measured curves and the parameters. The header of
    shake-outs names columns with units: feed_acid [mol/L], extractant [mol/L], feed_Nd [g/L],
    raffinate_Nd [g/L] ...; optional: laboratory, label, phase_ratio (O/A), saponification, pH, use.

    \b
    Examples:
      sepmodel fit nd-pr-pc88a
      sepmodel fit nd-pr-pc88a --loss soft_l1 --out robust --json fit.json
      sepmodel fit s950-la-sm-curves
    """
    if _is_case(table):
        _fit_curves(table, json_to, out, force)
        return
    from sepmodel import report_fit
    from sepmodel.files import json_text, write_folder
    from sepmodel.plot import fit_figures
    from sepmodel.study import cross_validation, fit_report
    from sepmodel.study import fit as fitting

    targets.check(json_to, force)
    with terminal.busy("fitting"):
        options = fitting.Options(
            activity=activity,
            loss=loss,
            relative_error=error,
            offsets=offsets,
            counter_ion=counter_ion,
        )
        found = fitting.fit(table, options)
        left = cross_validation.leave_one_laboratory_out(found.table, found.options)
        soap = cross_validation.soap_shift(found)
        document = {
            "schema": 1,
            **found.to_dict(),
            "left_out": fit_report.left_out_dicts(left),
            "soap_shift": soap,
        }
        name = Path(table).stem
        drawn = fit_figures(found)
        contents: dict[str, str | bytes] = {
            "residuals.csv": found.residuals_csv(),
            "fit.json": json_text(document),
            **drawn,
            report_fit.PAGE: report_fit.page(
                found, left, drawn, f"Fit to {name}", fit_report.soap_lines(soap)
            ),
        }
        if found.determined:
            text = found.to_toml(title=f"Fit to {name}", source=source)
            contents[f"{name}-{activity}.toml"] = text
        else:
            terminal.say(
                "warning: undetermined: no data set is written of constants nobody determined"
            )
    folder = targets.folder(out, Path("results") / f"{name}-fit")
    about = {"version": __version__, "name": name, "inputs_hash": ""}
    write_folder(folder, contents, about, force=force)
    targets.deliver(document, json_to)
    for warned in found.warnings:
        terminal.say(f"warning: {warned.code}: {warned.message}")
    if json_to != "-":
        lines = fit_report.summary_lines(found, left) + fit_report.soap_lines(soap)
        click.echo("\n".join(lines))
        click.echo(f"wrote {folder}/")


@app.command()
@click.argument("study")
@click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Replace a value.")
@click.option("--samples", type=int, metavar="N", help="Members of the sample (256).")
@click.option(
    "--design",
    metavar="NAME",
    help="sobol (default of up to 30 inputs), random (of more), latin-hypercube, saltelli, morris.",
)
@click.option("--seed", type=int, metavar="N", help="Decides the sample (0).")
@click.option("--time-limit", metavar="TIME", help='For one point, such as "60 s".')
@click.option("--tornado", is_flag=True, help="Also move every input alone, and by its gradient.")
@click.option("--workers", type=int, metavar="N", help="Processes (as many as processors).")
@click.option("--retry", is_flag=True, help="Try again what was not solved before.")
@click.option("--parquet", is_flag=True, help="Also write members.parquet (extra: tables).")
@_json_option
@click.option("--out", metavar="DIR", help="Folder of store and tables (./results/NAME-sweep).")
@click.option("--force", is_flag=True, help="Replace files that sepmodel did not write.")
@click.option("--figures/--no-figures", default=True, help="Draw the figures (default) or not.")
@click.option("--quiet", is_flag=True, help="Print nothing but warnings and errors.")
def sweep(
    study: str,
    settings: tuple[str, ...],
    samples: int | None,
    design: str | None,
    seed: int | None,
    time_limit: str | None,
    tornado: bool,
    workers: int | None,
    retry: bool,
    parquet: bool,
    json_to: str | None,
    out: str | None,
    force: bool,
    figures: bool,
    quiet: bool,
) -> None:
    """Solve a case at many points: a grid, or a sample of what is uncertain.

    STUDY is a file of kind "sweep", or any case; without [sweep] and [uncertainty] tables every
    constant with a range is drawn from its data's own distribution. Every point is kept as soon as
    it is found: the same command goes on where an earlier one stopped.

    \b
    Examples:
      sepmodel sweep nd-pr
      sepmodel sweep nd-pr-stages
      sepmodel sweep nd-pr --samples 64 --tornado --time-limit "60 s"
    """
    from sepmodel import report_sweep
    from sepmodel.case import parse_settings
    from sepmodel.files import write_folder
    from sepmodel.run import load
    from sepmodel.study.plan import default_folder
    from sepmodel.study.sweep import sweep as swept

    given = {
        "sweep.samples": samples,
        "sweep.design": design,
        "sweep.seed": seed,
        "sweep.time_limit": time_limit,
        "sweep.tornado": tornado or None,
    }
    chosen = {key: value for key, value in given.items() if value is not None}
    loaded = load(study, {**parse_settings(settings), **chosen})
    terminal.announce(loaded.path, loaded.shadows)
    targets.check(json_to, force)
    folder = targets.folder(out, default_folder(loaded.name))
    report_sweep.require_room(folder, parquet=parquet, force=force)
    try:
        with terminal.counting(f"{loaded.name}", quiet) as step:
            found = swept(loaded, out=folder, workers=workers, retry=retry, progress=step)
    except KeyboardInterrupt:
        terminal.say(f"interrupted; kept in {folder}/; the same command goes on")
        raise _Exit(INTERRUPTED) from None
    contents = report_sweep.contents(found, parquet=parquet)
    if figures:
        from sepmodel.plot_sweep import figures as drawn

        contents.update(drawn(found))
    about = {"version": __version__, "name": found.name, "inputs_hash": found.plan.hash}
    write_folder(folder, contents, about, force=force)
    targets.deliver(found.to_dict(), json_to)
    if json_to != "-" and not quiet:
        click.echo("\n".join(report_sweep.lines(found, terminal.width())))
        click.echo(f"wrote {folder}/")
    if not found.counts.get("solved"):
        raise _Exit(UNSOLVED)


@app.command()
@click.argument("key", required=False)
@click.option("--case", "case", metavar="CASE", help="What a case rests on; it is solved.")
@_json_option
def sources(key: str | None, case: str | None, json_to: str | None) -> None:
    """Who said what: the publications behind the numbers.

    KEY is a source, a data set, a feed or a single number.

    \b
    Examples:
      sepmodel sources
      sepmodel sources prohaska2022
      sepmodel sources --case nd-pr
    """
    from sepmodel import provenance

    if case is not None and key is not None:
        raise click.UsageError("give a key or --case, not both")
    if case is not None:
        from sepmodel.run import run as solve

        with terminal.busy("solving"):
            used = solve(case).used
        document, lines = (
            provenance.used_document(used),
            provenance.used_lines(used, terminal.width()),
        )
    elif key is not None:
        document, lines = provenance.document(key), provenance.lines(key, terminal.width())
    else:
        document = {"sources": provenance.overview()}
        lines = provenance.overview_lines(terminal.width())
    targets.deliver({"schema": 1, **document}, json_to)
    if json_to != "-":
        click.echo("\n".join(lines))


@app.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--root", metavar="DIR", help="Folder of the validation cases (./validation).")
@click.option("--accept", metavar="REASON", help="Freeze the present results, saying why.")
@_json_option
def validate(
    ids: tuple[str, ...], root: str | None, accept: str | None, json_to: str | None
) -> None:
    """Compare the models with published data: the verdict table.

    Agreement with the publication (hit or miss) and agreement with our own accepted results (same
    or changed) are two different columns. Exit code 4 when a limit is exceeded.

    \b
    Examples:
      sepmodel validate
      sepmodel validate --json verdicts.json
    """
    from sepmodel.study import validation

    with terminal.busy("validating") as step:
        report = validation.validate(ids, root=root, progress=step)
        if accept is not None:
            validation.accept(report, accept)
    targets.deliver(report.to_dict(), json_to)
    if json_to != "-":
        terminal.show_verdicts(report)
    if report.failed:
        raise _Exit(LIMIT_EXCEEDED)


@app.command()
@_json_option
def doctor(json_to: str | None) -> None:
    """Check this installation and print what a bug report needs.

    \b
    Examples:
      sepmodel doctor
    """
    from sepmodel.doctor import examine

    findings = examine()
    targets.deliver(
        {
            "schema": 1,
            "checks": [
                {"what": what, "found": found, "status": status} for what, found, status in findings
            ],
        },
        json_to,
    )
    if json_to != "-":
        table = terminal.table("what", "found", "")
        for row in findings:
            table.add_row(*row)
        terminal.console().print(table)
    if any(status == "wrong" for _, _, status in findings):
        raise _Exit(DEFECT)


@app.command()
@click.argument("kind")
@click.argument("name", required=False)
def new(kind: str, name: str | None) -> None:
    """Write a commented starter case of a kind to NAME.toml; never overwrites.

    \b
    Examples:
      sepmodel new cascade my-circuit
      sepmodel run my-circuit.toml
    """
    from sepmodel import kinds

    path = kinds.write_starter(kind, name or f"my-{kind}")
    click.echo(f"wrote {path}; next: {kinds.next_step(kind, path)}")


@app.command()
@click.argument("kind")
def schema(kind: str) -> None:
    """Print the JSON schema of a kind of case file.

    \b
    Examples:
      sepmodel schema cascade
    """
    from sepmodel import kinds

    click.echo(json.dumps(kinds.schema(kind), indent=1, ensure_ascii=False))


class _Exit(Exception):
    """Leave with an exit code after everything was said."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(code)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of ``sepmodel`` and ``python -m sepmodel``: runs, reports errors, exits."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    # Results are many small objects without cycles: searching them for garbage costs a twentieth.
    gc.set_threshold(_SELDOM)
    for name in _THREADS:
        os.environ.setdefault(name, "1")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    code = _guarded(words)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        terminal.mute()
    except OSError as error:
        terminal.mute()
        code = _fail(InputError(Problem(message=str(error.strerror))), BAD_INPUT, False)
    if arguments is None:
        gc.freeze()  # the process ends: what is left need not be searched for garbage once more
    sys.exit(code)


def _guarded(words: list[str]) -> int:
    """Exit code of a run of the command line; every error becomes a message."""
    as_json = any(a == "--json" and b == "-" for a, b in itertools.pairwise(words))
    as_json = as_json or "--json=-" in words
    try:
        app(words, prog_name="sepmodel", standalone_mode=False)
        return OK
    except _Exit as leave:
        return leave.code
    except click.UsageError as error:
        hint = f"what {error.ctx.command_path} --help shows" if error.ctx else ""
        message = error.format_message().rstrip(".")
        problem = Problem(message=message, key="command line", expected=hint)
        return _fail(InputError(problem), BAD_INPUT, as_json)
    except click.ClickException as error:
        return _fail(InputError(Problem(message=error.format_message())), BAD_INPUT, as_json)
    except InputError as error:
        return _fail(error, BAD_INPUT, as_json)
    except SepmodelError as error:
        return _fail(error, UNSOLVED, as_json)
    except (click.Abort, KeyboardInterrupt):
        terminal.say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        terminal.mute()
        return OK
    except OSError as error:  # a full disk behind stdout, a folder that vanished
        terminal.mute()
        file = str(error.filename or "")
        return _fail(
            InputError(Problem(message=str(error.strerror or error), file=file)), BAD_INPUT, False
        )
    except Exception as error:
        # The one place that may catch everything: what arrives here is a defect, and the user is
        # told so in one message instead of a page of Python.
        if os.environ.get("SEPMODEL_TRACEBACK"):
            raise
        where = error.__traceback__
        while where is not None and where.tb_next is not None:
            where = where.tb_next
        place = f"{where.tb_frame.f_code.co_filename}:{where.tb_lineno}" if where else ""
        notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
        message = (
            f"a defect in sepmodel: {type(error).__name__}: {error}{notes} [{place}]\n"
            "Please report it with the output of `sepmodel doctor`; "
            "SEPMODEL_TRACEBACK=1 shows the whole traceback."
        )
        return _fail(SepmodelError(message), DEFECT, as_json)


def _fail(error: SepmodelError, code: int, as_json: bool) -> int:
    """Report an error on stderr and, where JSON was asked for on stdout, there as JSON."""
    document: dict[str, Any] = {"schema": 1, "status": "error"}
    if isinstance(error, InputError):
        document["errors"] = [problem.to_dict() for problem in error.problems]
    elif isinstance(error, ConvergenceError):
        problem = Problem(message=error.message, file=error.file, key=error.key)
        document["errors"] = [problem.to_dict()]
    else:
        document["errors"] = [Problem(message=str(error)).to_dict()]
    terminal.say(f"error: {error}" if code != DEFECT else str(error))
    if isinstance(error, InfeasibleError):
        document.update(limit=error.limit, nearest=error.nearest)
        terminal.say(f"  limit: {terminal.pairs(error.limit)}")
        if error.nearest:
            terminal.say(f"  nearest feasible: {terminal.pairs(error.nearest)}")
    if isinstance(error, ConvergenceError):
        trace = error.trace
        document["trace"] = {
            "equation": trace.equation,
            "stage": trace.stage,
            "component": trace.component,
            "history": list(trace.history),
            "advice": trace.advice,
        }
        where = {"equation": trace.equation, "stage": trace.stage, "component": trace.component}
        known = {key: value for key, value in where.items() if value not in (None, "")}
        if known:
            terminal.say(f"  worst: {terminal.pairs(known)}")
        if trace.advice:
            terminal.say(f"  advice: {trace.advice}")
    if as_json:
        from sepmodel.files import json_text

        try:
            sys.stdout.write(json_text(document))
        except BrokenPipeError:
            terminal.mute()
    return code
