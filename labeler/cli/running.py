"""Commands that make a run, or parts of one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from labeler.cli.common import AsJson, Out, Overrides, RunDirectory, TrustCode, print_data


def demo(out: Out = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Label 48 units of a real network with no key and no download; print a table and a report's path."""
    from labeler.resources import resource_directory

    _run(resource_directory("configs") / "demo.yaml", out or Path("runs/demo"), (), overrides, None, as_json)


def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML config.")],
    out: Out = None,
    units: Annotated[
        list[str] | None,
        typer.Option("--units", metavar="LAYER:0-63,80", help="Only these units; 3- is a negative side."),
    ] = None,
    overrides: Overrides = None,
    trust_code: TrustCode = None,
    budget: Annotated[
        str | None,
        typer.Option(
            "--budget", metavar="N|NCUR", help="Most tokens, or money, for all model calls of the run."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Label the units that a config names. Running again goes on where it stopped."""
    out = out or Path("runs") / config.stem
    if dry_run:
        _dry_run(config, tuple(units or ()), tuple(overrides or ()), trust_code, as_json)
    else:
        _run(config, out, tuple(units or ()), overrides, trust_code, as_json, budget)


def status(run_directory: RunDirectory, as_json: AsJson = False) -> None:
    """How far a run is, by stage and verdict."""
    from labeler.run_directory import run_status

    found = run_status(run_directory)
    print_data(found, as_json, lambda: "\n".join(f"{name}: {_plain(value)}" for name, value in found.items()))


def _plain(value: Any) -> Any:
    return "; ".join(value) or "none" if isinstance(value, list) else value


def cost(run_directory: RunDirectory, as_json: AsJson = False) -> None:
    """What the model calls of a run took: calls, tokens, money."""
    from labeler.cost import cost_text, run_cost

    found = run_cost(run_directory)
    print_data(found, as_json, lambda: cost_text(found))


def activations(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML config.")],
    shard: Annotated[
        str,
        typer.Option("--shard", metavar="I/N", help="Which part of the images: 1/4 is the first of four."),
    ],
    out: Annotated[
        Path, typer.Option("--out", metavar="D", help="Where the shard goes; shards may share it.")
    ],
    units: Annotated[
        list[str] | None, typer.Option("--units", metavar="LAYER:0-63,80", help="As for labeler run.")
    ] = None,
    overrides: Overrides = None,
    trust_code: TrustCode = None,
    as_json: AsJson = False,
) -> None:
    """Show one shard of the images to the target; labeler merge joins the shards of all machines."""
    from labeler.config_file import load_config
    from labeler.pipeline.sharding import write_shard
    from labeler.terminal import TerminalReporter

    loaded = load_config(config, tuple(overrides or ()))
    with TerminalReporter() as reporter:
        made = write_shard(
            loaded, shard, out, units=tuple(units or ()), trust_code=trust_code, reporter=reporter
        )
    print_data({"shard": str(made)}, as_json, lambda: str(made))


def merge(
    directories: Annotated[
        list[Path], typer.Argument(metavar="D...", help="What labeler activations made, all shards.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="The run directory.")],
    as_json: AsJson = False,
) -> None:
    """Join shards into a run directory, from which labeler run goes on."""
    from labeler.pipeline.sharding import merge_run

    made = merge_run(directories, out)
    print_data({"run": str(out), "activations": str(made)}, as_json, lambda: str(made))


def _run(
    config: Path,
    out: Path,
    units: tuple[str, ...],
    overrides: list[str] | None,
    trust_code: Path | None,
    as_json: bool,
    budget: str | None = None,
) -> None:
    import labeler
    from labeler.report.text import run_text
    from labeler.terminal import TerminalReporter

    try:
        with TerminalReporter() as reporter:
            catalogue = labeler.run(
                config, out, units=units, overrides=overrides or (), trust_code=trust_code, reporter=reporter,
                budget=budget,
            )  # fmt: skip
    except KeyboardInterrupt:
        print(f"labeler: interrupted; the same command goes on where it stopped ({out}).", file=sys.stderr)
        raise
    with catalogue:
        counts = catalogue.counts()
        page = out / "report" / "index.html"
        failed = sum(count for (_, verdict), count in counts.items() if verdict == "failed")
        data = {
            "run": str(out),
            "report": str(page),
            "verdicts": [{"layer": la, "verdict": ve, "units": count} for (la, ve), count in counts.items()],
        }
        print_data(data, as_json, lambda: f"{run_text(catalogue)}\n\nReport: {page}")
    if failed:
        raise typer.Exit(3)


def _dry_run(
    config: Path, units: tuple[str, ...], overrides: tuple[str, ...], trust_code: Path | None, as_json: bool
) -> None:
    from labeler.config_file import load_config
    from labeler.pipeline import plan

    found = plan(load_config(config, overrides), units=units, trust_code=trust_code)
    print_data(found, as_json, lambda: "\n".join(f"{name}: {value}" for name, value in found.items()))
