"""Commands that measure: labels by a person, the labeller by its suites, this machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from labeler.cli.common import AsJson, RunDirectory, print_data


def judge(
    run_directory: RunDirectory,
    sample: Annotated[
        int | None, typer.Option("--sample", min=1, help="How many labels to rate; 100 by default.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Draws another sample.")] = None,
    show: Annotated[bool, typer.Option("--show", help="Open each contact sheet in an image viewer.")] = False,
    as_json: AsJson = False,
) -> None:
    """Rate labels without knowing their verdicts, decoys among them; the gate is then fitted to this run."""
    from labeler.conversation import converse, summary_text

    try:
        summary = converse(run_directory, sample, seed, sys.stdin, show=show)
    except KeyboardInterrupt:
        print("labeler: interrupted; what was answered is kept, the same command goes on.", file=sys.stderr)
        raise
    print_data(summary, as_json, lambda: summary_text(summary))


def evaluate(
    suite: Annotated[str, typer.Argument(metavar="SUITE", help="The suite's name.")],
    arguments: Annotated[
        list[str] | None, typer.Argument(metavar="[-- ARGUMENTS]", help="What the suite itself takes.")
    ] = None,
    config: Annotated[Path | None, typer.Option("--config", help="A YAML config to evaluate.")] = None,
    run_directory: Annotated[
        Path | None, typer.Option("--run", metavar="RUN", help="Where the suite's runs are.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the labeller itself; -- --help after a suite's name says what it takes."""
    from labeler.suites import run_suite

    result = run_suite(suite, arguments or (), config=config, run=run_directory)
    print_data(result.as_json(), as_json, lambda: result.text)


def verify(run_directory: RunDirectory, as_json: AsJson = False) -> None:
    """Read a whole run and say what is no longer as it was written; exit status 1 where anything is."""
    from labeler.verification import verify_run

    found = verify_run(run_directory)
    counts = f"{found['stages']} stages, {found['units']} units and {found['pictures']} pictures were read:"
    said = found["problems"] or ["stages, pictures and the catalogue's rows are what was written."]
    print_data(found, as_json, lambda: "\n".join([counts, *said]))
    if found["problems"]:
        raise typer.Exit(1)


def doctor(
    config: Annotated[
        Path | None, typer.Option("--config", help="A YAML config whose endpoint is asked.")
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option("--base-url", metavar="URL", help="An endpoint to ask, where its API begins."),
    ] = None,
    model: Annotated[str, typer.Option("--model", help="The model that --base-url is asked for.")] = "",
    run_directory: Annotated[
        Path | None, typer.Option("--run", metavar="RUN", help="A run directory to look after.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """What works here: device, weights, endpoint, disk, in plain words. With --run, what a run lacks."""
    from labeler.doctor import endpoint_settings, examine, examine_run

    settings = endpoint_settings(config, base_url, model)
    of_run = [] if run_directory is None else examine_run(run_directory)
    findings = [*examine(settings), *of_run]
    data = [{"what": item.what, "works": item.works, "says": item.says} for item in findings]
    lines = [f"{'works ' if item.works else item.otherwise}  {item.what}: {item.says}" for item in findings]
    print_data(data, as_json, lambda: "\n".join(lines))
    if not all(item.works for item in of_run):
        raise typer.Exit(1)
