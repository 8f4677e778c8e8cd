"""The command line: parse, call, print. Data goes to stdout, progress and errors to stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from labeler.errors import LabelerError, UsageError

if TYPE_CHECKING:
    from labeler.api import Catalogue

app = typer.Typer(
    name="labeler",
    help="Label the neurons of a vision model, and let numbers on unseen images decide.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RunDirectory = Annotated[Path, typer.Argument(metavar="RUN", help="The run directory.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Replace one value of the config.")
]
TrustCode = Annotated[
    Path | None,
    typer.Option("--trust-code", metavar="FILE", help="Python file a file: target may execute."),
]
Out = Annotated[Path | None, typer.Option("--out", help="The run directory.")]


@app.command()
def demo(out: Out = None, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Label 48 units of a real network with no key and no download; print a table and a report's path."""
    from labeler.resources import resource_directory

    _run(resource_directory("configs") / "demo.yaml", out or Path("runs/demo"), (), overrides, None, as_json)


@app.command()
def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML config.")],
    out: Out = None,
    units: Annotated[
        list[str] | None,
        typer.Option("--units", metavar="LAYER:0-63,80", help="Only these units; 3- is a negative side."),
    ] = None,
    overrides: Overrides = None,
    trust_code: TrustCode = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    as_json: AsJson = False,
) -> None:
    """Label the units that a config names. Running again goes on where it stopped."""
    out = out or Path("runs") / config.stem
    if dry_run:
        _dry_run(config, tuple(units or ()), tuple(overrides or ()), trust_code, as_json)
    else:
        _run(config, out, tuple(units or ()), overrides, trust_code, as_json)


@app.command()
def status(run_directory: RunDirectory, as_json: AsJson = False) -> None:
    """How far a run is, by stage and verdict."""
    from labeler.run_directory import run_status

    found = run_status(run_directory)
    _print(found, as_json, lambda: "\n".join(f"{name}: {value}" for name, value in found.items()))


@app.command("list")
def list_units(
    run_directory: RunDirectory,
    verdict: Annotated[str | None, typer.Option("--verdict", help="Only units with this verdict.")] = None,
    layer: Annotated[str | None, typer.Option("--layer", help="Only units of this layer.")] = None,
    as_json: AsJson = False,
) -> None:
    """The units of a catalogue with their verdicts and labels."""
    from labeler.records import VERDICTS

    if verdict is not None and verdict not in VERDICTS:
        raise UsageError(f"--verdict is one of {', '.join(VERDICTS)}, not {verdict!r}.")
    with _open(run_directory) as catalogue:
        records = catalogue.units(verdict=verdict, layer=layer)
        data = [record.model_dump(mode="json", include=_LISTED) for record in records]
    rows = [
        (
            row["unit"],
            row["verdict"],
            "; ".join(label["text"] for label in row["labels"]),
            row["trust"]["verdict"],
        )
        for row in data
    ]
    _print(data, as_json, lambda: _table(("unit", "verdict", "labels", "picture"), rows))


@app.command()
def show(
    run_directory: RunDirectory,
    unit: Annotated[str, typer.Argument(metavar="UNIT", help="A unit as layer:index.")],
    as_json: AsJson = False,
) -> None:
    """One unit with every number that led to its verdict."""
    from labeler.report.text import unit_text

    with _open(run_directory) as catalogue:
        record = catalogue[unit]
    _print(record.model_dump(mode="json"), as_json, lambda: unit_text(record))


@app.command()
def search(
    run_directory: RunDirectory,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What to look for.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many units.")] = 10,
    as_json: AsJson = False,
) -> None:
    """The units whose accepted labels are nearest to a text."""
    with _open(run_directory) as catalogue:
        hits = catalogue.search(text, k)
        print(f"Searched by {catalogue.search_method}.", file=sys.stderr)
    rows = [(hit.unit, hit.label, f"{hit.score:.3f}") for hit in hits]
    data = [{"unit": hit.unit, "label": hit.label, "score": hit.score} for hit in hits]
    _print(data, as_json, lambda: _table(("unit", "label", "score"), rows))


@app.command()
def top(
    run_directory: RunDirectory,
    unit: Annotated[str | None, typer.Argument(metavar="[UNIT]", help="A unit as layer:index.")] = None,
    direction: Annotated[
        Path | None, typer.Option("--direction", metavar="F.npy", help="One weight per unit of --layer.")
    ] = None,
    layer: Annotated[
        str | None, typer.Option("--layer", help="The layer of --direction, or that compares with --image.")
    ] = None,
    image: Annotated[
        str | None,
        typer.Option("--image", metavar="PATH", help="Images like this one, of the probe or a file."),
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="Images of what this text says.")] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many images.")] = 9,
    as_json: AsJson = False,
) -> None:
    """The images that activate a unit or a direction most, or that are most like an image or a text."""
    if sum(question is not None for question in (unit, direction, image, text)) != 1:
        raise UsageError("Give labeler top one of UNIT, --layer with --direction, --image or --text.")
    if direction is not None and layer is None:
        raise UsageError("--direction needs --layer, the layer in whose space it lies.")
    if image is not None or text is not None:
        _print_alike(run_directory, image, text, layer, k, as_json)
        return
    with _open(run_directory) as catalogue:
        found = catalogue.top_images(
            unit, layer=layer, direction=None if direction is None else _read_direction(direction), k=k
        )
    rows = [(image.image, f"{image.activation:.4g}") for image in found]
    data = [{"image": image.image, "activation": image.activation} for image in found]
    _print(data, as_json, lambda: _table(("image", "activation"), rows))


def _print_alike(
    run_directory: Path, image: str | None, text: str | None, layer: str | None, k: int, as_json: bool
) -> None:
    if text is not None and layer is not None:
        raise UsageError("--text is compared by the encoder, not by a layer; leave --layer out.")
    with _open(run_directory) as catalogue:
        if text is not None:
            found = catalogue.images_for_text(text, k)
        else:
            found = catalogue.images_like(image or "", k, layer=layer)
    data = [{"image": one.image, "score": one.score} for one in found]
    _print(
        data, as_json, lambda: _table(("image", "score"), [(one.image, f"{one.score:.4f}") for one in found])
    )


@app.command()
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
    _print({"shard": str(made)}, as_json, lambda: str(made))


@app.command()
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
    _print({"run": str(out), "activations": str(made)}, as_json, lambda: str(made))


@app.command()
def report(
    run_directory: RunDirectory,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the site goes; RUN/report by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Build the static report of a run again, and print the path of its first page."""
    from labeler.pipeline.reporting import write_report

    page = write_report(run_directory, out or run_directory / "report")
    _print({"report": str(page)}, as_json, lambda: str(page))


@app.command()
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
    _print(summary, as_json, lambda: summary_text(summary))


@app.command("eval")
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
    _print(result.as_json(), as_json, lambda: result.text)


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """What works here: device, weights, endpoint, disk, in plain words."""
    from labeler.doctor import examine

    findings = examine()
    data = [{"what": item.what, "works": item.works, "says": item.says} for item in findings]
    lines = [f"{'works ' if item.works else 'absent'}  {item.what}: {item.says}" for item in findings]
    _print(data, as_json, lambda: "\n".join(lines))


def main() -> NoReturn:
    """Run the command line; the exit status says how it ended (see README)."""
    try:
        app()
    except LabelerError as error:
        print(f"labeler: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        print(f"labeler: {error.strerror or error}: {error.filename or 'no file named'}.", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


_LISTED = {"unit", "layer", "index", "verdict", "labels", "candidates", "trust", "reason"}


def _run(
    config: Path,
    out: Path,
    units: tuple[str, ...],
    overrides: list[str] | None,
    trust_code: Path | None,
    as_json: bool,
) -> None:
    import labeler
    from labeler.report.text import run_text
    from labeler.terminal import TerminalReporter

    try:
        with TerminalReporter() as reporter:
            catalogue = labeler.run(
                config, out, units=units, overrides=overrides or (), trust_code=trust_code, reporter=reporter
            )
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
        _print(data, as_json, lambda: f"{run_text(catalogue)}\n\nReport: {page}")
    if failed:
        raise typer.Exit(3)


def _dry_run(
    config: Path, units: tuple[str, ...], overrides: tuple[str, ...], trust_code: Path | None, as_json: bool
) -> None:
    from labeler.config_file import load_config
    from labeler.pipeline import plan

    found = plan(load_config(config, overrides), units=units, trust_code=trust_code)
    _print(found, as_json, lambda: "\n".join(f"{name}: {value}" for name, value in found.items()))


def _open(run_directory: Path) -> Catalogue:
    from labeler.api import Catalogue

    return Catalogue.open(run_directory)


def _read_direction(path: Path) -> Any:
    import numpy as np

    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError):
        raise UsageError(f"{path} is not a .npy file with one number per unit.") from None


def _print(data: Any, as_json: bool, text: Callable[[], str]) -> None:
    print(json.dumps(data, indent=1, ensure_ascii=False) if as_json else text())


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    from labeler.report.text import table

    return table(header, rows)
