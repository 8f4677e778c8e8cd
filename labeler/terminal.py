"""Progress on stderr, so that stdout stays data."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from labeler.printable import printable
from labeler.seams import Progress as Report


class TerminalReporter:
    """Shows each stage as a progress bar on stderr while the context is open."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
        )

    def __enter__(self) -> TerminalReporter:
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def stage(self, name: str) -> Report:
        """Add a bar; the returned function moves it."""
        task = self._bars.add_task(f"{name:<16}", total=None)

        def move(done: int, total: int) -> None:
            self._bars.update(task, completed=done, total=total)

        return move

    def note(self, text: str) -> None:
        """Print one line above the bars."""
        self._console.print(printable(text), markup=False, highlight=False)
