"""The command that serves a run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from labeler.cli.common import RunDirectory


def serve(
    run_directory: RunDirectory,
    host: Annotated[
        str, typer.Option("--host", help="Where to listen; the default is reached from this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes any that is free.")] = 8000,
) -> None:
    """Serve the report and a read-only JSON API of a run, also while the run goes on."""
    from labeler.serve import serve as listen

    listen(Path(run_directory), host, port, _say)


def _say(address: str) -> None:
    print(address, flush=True)
    print(f"labeler: serving, API at {address}api; Ctrl-C ends it.", file=sys.stderr, flush=True)
