"""Run labeler in a process that sends itself a signal at a named point of its way.

``python -m tests.faults.killed_run SIGNAL POINT COUNT -- ARGUMENTS OF LABELER``: the COUNT-th time that the
point is reached the process signals itself. Points:

- ``progress:STAGE``: a report of progress in a stage;
- ``manifest:STAGE``: all files of a stage are written, its manifest is not;
- ``rename:STAGE``: the manifest too, but the directory still has its unfinished name;
- ``image``, ``call``, ``round``, ``unit``, ``meta``, ``page``: one more tile, booked model call, acknowledged
  round, unit record, note of the run, or page of the report is on disk.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from labeler import storage
from labeler.catalogue import CatalogueStore, Ledger
from labeler.cli import main
from labeler.exemplars.images import ImageStore
from labeler.report import site
from labeler.terminal import TerminalReporter

FUNCTIONS: dict[str, tuple[Any, str]] = {
    "image": (ImageStore, "put"),
    "call": (Ledger, "book"),
    "round": (CatalogueStore, "put_round"),
    "unit": (CatalogueStore, "put_unit"),
    "meta": (CatalogueStore, "put_meta"),
    "page": (site, "_write"),
}


def arm(point: str, count: int, sent: signal.Signals) -> None:
    """Patch the function behind `point` so that its `count`-th call ends with the signal."""
    left = [count]

    def reached() -> None:
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), sent)

    name, _, stage = point.partition(":")
    if name in FUNCTIONS:
        after(*FUNCTIONS[name], reached)
    elif name == "manifest":
        wrap_manifest(stage, reached, before=True)
    elif name == "rename":
        wrap_manifest(stage, reached, before=False)
    else:
        wrap_progress(stage, reached)


def after(owner: Any, name: str, reached: Callable[[], None]) -> None:
    original = getattr(owner, name)

    def replaced(*arguments: Any, **named: Any) -> Any:
        result = original(*arguments, **named)
        reached()
        return result

    setattr(owner, name, replaced)


def wrap_manifest(stage: str, reached: Callable[[], None], before: bool) -> None:
    original = storage._write_manifest

    def replaced(directory: Any, key: str) -> None:
        here = directory.name.startswith(f"{stage}-")
        if here and before:
            reached()
        original(directory, key)
        if here and not before:
            reached()

    storage._write_manifest = replaced


def wrap_progress(stage: str, reached: Callable[[], None]) -> None:
    original = TerminalReporter.stage

    def replaced(self: TerminalReporter, name: str) -> Any:
        move = original(self, name)

        def counted(done: int, total: int) -> None:
            move(done, total)
            if name == stage:
                reached()

        return counted

    TerminalReporter.stage = replaced  # type: ignore[method-assign]


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell lets its children ignore it
    sent, point, count, _, *arguments = sys.argv[1:]
    arm(point, int(count), signal.Signals[sent])
    sys.argv = ["labeler", *arguments]
    main()
