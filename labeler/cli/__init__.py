"""The command line: parse, call, print. Data goes to stdout, progress and errors to stderr.

The commands are in `running`, `reading`, `sharing`, `serving` and `measuring`; the order below is that of
``--help``.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from labeler.cli import measuring, reading, running, serving, sharing
from labeler.cli.interrupts import watching_interrupts
from labeler.errors import LabelerError
from labeler.printable import printable
from labeler.write_failures import write_failure

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


def _said(error: OSError) -> str:
    place = error.filename or "a file"
    failure = write_failure(error)
    if failure is not None:
        return f"{place} cannot be written to ({failure}; the same command then goes on."
    return f"{place}: {error.strerror or error}; mend that, and the same command goes on."


def main() -> NoReturn:
    """Run the command line; the exit status says how it ended (see README)."""
    with watching_interrupts() as interrupted:
        try:
            app()
        except (Exception, KeyboardInterrupt) as error:
            if isinstance(error, KeyboardInterrupt) or interrupted():
                print("labeler: interrupted; the same command goes on where it stopped.", file=sys.stderr)
                sys.exit(130)
            sys.exit(_told(error))
    sys.exit(0)


def _told(error: Exception) -> int:
    """Tell an error that was foreseen in one sentence; its exit status."""
    if isinstance(error, LabelerError):
        print(f"labeler: {printable(str(error))}", file=sys.stderr)
        return error.exit_code
    if isinstance(error, OSError):
        if not isinstance(error, BrokenPipeError):
            print(f"labeler: {printable(_said(error))}", file=sys.stderr)
        return 1
    raise error
