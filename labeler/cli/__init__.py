"""The command line: parse, call, print. Data goes to stdout, progress and errors to stderr.

The commands are in `running`, `reading`, `sharing`, `serving` and `measuring`; the order below is that of
``--help``.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from labeler.cli import measuring, reading, running, serving, sharing
from labeler.errors import LabelerError
from labeler.printable import printable

app = typer.Typer(
    name="labeler",
    help="Label the neurons of a vision model, and let numbers on unseen images decide.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.command()(running.demo)
app.command()(running.run)
app.command()(running.status)
app.command()(running.cost)
app.command("list")(reading.list_units)
app.command()(reading.show)
app.command()(reading.search)
app.command()(reading.top)
app.command()(running.activations)
app.command()(running.merge)
app.command()(sharing.report)
app.command()(sharing.export)
app.command("import")(sharing.import_labels)
app.command()(sharing.compare)
app.command()(serving.serve)
app.command()(measuring.judge)
app.command()(measuring.verify)
app.command("eval")(measuring.evaluate)
app.command()(measuring.doctor)


def main() -> NoReturn:
    """Run the command line; the exit status says how it ended (see README)."""
    try:
        app()
    except LabelerError as error:
        print(f"labeler: {printable(str(error))}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        named = printable(str(error.filename or "no file named"))
        print(f"labeler: {error.strerror or error}: {named}.", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)
