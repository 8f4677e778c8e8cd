"""Commands that hand a catalogue on, take labels in, and compare catalogues."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labeler.cli.common import AsJson, RunDirectory, TrustCode, open_catalogue, print_data, text_table
from labeler.printable import printable

if TYPE_CHECKING:
    from labeler.catalogue.compare import Comparison


def report(
    run_directory: RunDirectory,
    out: Annotated[
        Path | None, typer.Option("--out", help="Where the site goes; RUN/report by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Build the static report of a run again, and print the path of its first page."""
    from labeler.run_report import write_report

    page = write_report(run_directory, out or run_directory / "report")
    print_data({"report": str(page)}, as_json, lambda: str(page))


def export(
    run_directory: RunDirectory,
    to: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="One of parquet, csv, jsonl, neuronpedia.")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="F", help="The file; for neuronpedia a directory.")],
    as_json: AsJson = False,
) -> None:
    """Write a catalogue to files for others: a table, whole records, or Neuronpedia's bulk layout."""
    with open_catalogue(run_directory) as catalogue:
        written = [str(path) for path in catalogue.export(out, to)]
    print_data({"written": written}, as_json, lambda: "\n".join(written))


def import_labels(
    file: Annotated[
        Path,
        typer.Argument(metavar="CSV", help="Labels with layer, unit and description; or JSONL, or Parquet."),
    ],
    run_directory: Annotated[
        Path,
        typer.Option("--run", metavar="RUN", help="The finished run whose network and images judge them."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The new run; RUN-imported-HASH by default."),
    ] = None,
    trust_code: TrustCode = None,
    as_json: AsJson = False,
) -> None:
    """Let the checks and the gate judge labels made elsewhere; their verdicts go into a run of their own."""
    import labeler
    from labeler.terminal import TerminalReporter

    with TerminalReporter() as reporter:
        made = labeler.import_labels(file, run_directory, out, trust_code=trust_code, reporter=reporter)
    with open_catalogue(made.run) as catalogue:
        verdicts: dict[str, int] = {}
        for (_, verdict), count in catalogue.counts().items():
            verdicts[verdict] = verdicts.get(verdict, 0) + count
    data = {
        "run": str(made.run),
        "of": str(run_directory),
        "labels": made.labels,
        "units": made.units,
        "left_out": [{"row": bad.row, "why": bad.why} for bad in made.left_out],
        "verdicts": verdicts,
        "test_openings": made.openings,
    }
    print_data(data, as_json, lambda: _import_text(data))


def _import_text(data: dict[str, Any]) -> str:
    left_out = [f"left out: row {bad['row']}: {printable(bad['why'])}" for bad in data["left_out"]]
    verdicts = [(verdict, str(count)) for verdict, count in sorted(data["verdicts"].items())]
    lines = [
        f"{data['labels']} labels of {data['units']} units were judged, {len(left_out)} left out.",
        *left_out[:20],
        text_table(("verdict", "units"), verdicts),
        f"The test split of {data['of']} has now been opened for {data['test_openings']} set(s) of labels.",
        f"Run: {data['run']}",
    ]
    return "\n".join(lines)


def compare(
    first: Annotated[Path, typer.Argument(metavar="RUN_A", help="A run directory.")],
    second: Annotated[Path, typer.Argument(metavar="RUN_B", help="Another, of the same units.")],
    k: Annotated[int, typer.Option("-k", min=0, help="How many changed units the table shows.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Where two catalogues differ: units whose meaning changed, and how far two labellers agree."""
    import labeler

    found = labeler.compare(first, second)
    data = found.model_dump(mode="json", exclude={"units"})
    data["changed"] = [unit.model_dump(mode="json") for unit in found.changed]
    print_data(data, as_json, lambda: _comparison_text(found, k))


def _comparison_text(found: Comparison, k: int) -> str:
    names = sorted({pair.a for pair in found.verdicts} | {pair.b for pair in found.verdicts})
    counts = {(pair.a, pair.b): str(pair.units) for pair in found.verdicts}
    verdicts = [(a, *(counts.get((a, b), "0") for b in names)) for a in names]
    compared = f" by {found.similarity_by} ({found.similarity_of} units)" if found.similarity_by else ""
    changed = [
        (
            u.unit,
            u.what,
            "; ".join(u.labels_a),
            "; ".join(u.labels_b),
            _number(u.change),
            _number(u.exemplars),
        )
        for u in found.changed[:k]
    ]
    return "\n".join(
        [
            f"{found.common} units in both, {found.only_a} only in A, {found.only_b} only in B;"
            f" {found.labelled} labelled in both.",
            f"Same labels: {_share(found.same_text)}."
            f" Mean text similarity: {_number(found.similarity)}{compared}."
            f" Top exemplars in common: {_share(found.exemplars)}.",
            "",
            text_table(("A down, B across", *names), verdicts),
            "",
            f"{len(found.changed)} units have other labels, the most changed first:",
            text_table(("unit", "", "A", "B", "change", "exemplars"), changed),
        ]
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"
