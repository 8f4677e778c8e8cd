"""What the commands share: options of one name and meaning, and the two ways to print."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from labeler.printable import json_text, printable

if TYPE_CHECKING:
    from labeler.api import Catalogue

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


def open_catalogue(run_directory: Path) -> Catalogue:
    """The catalogue of a run directory; the import of its library waits until here."""
    from labeler.api import Catalogue

    return Catalogue.open(run_directory)


def print_data(data: Any, as_json: bool, text: Callable[[], str]) -> None:
    """Print `data` as JSON, or what `text` makes for people, to stdout."""
    print(json_text(data) if as_json else printable(text(), keep="\n"))


def print_array(items: Iterable[Any]) -> None:
    """Print a JSON array to stdout, each item as it comes."""
    mark = "["
    for item in items:
        print(mark, json_text(item), sep="\n", end="")
        mark = ","
    print("\n]" if mark == "," else "[]")


def text_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Columns of text under a header."""
    from labeler.report.text import table

    return table(header, rows)
