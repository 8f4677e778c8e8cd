"""Where stages report how far they are."""

from __future__ import annotations

from typing import Protocol

from labeler.seams import Progress


class Reporter(Protocol):
    """Shows the stages of a run as they come."""

    def stage(self, name: str) -> Progress:
        """Announce a stage; what it returns is called with (done, total)."""
        ...

    def note(self, text: str) -> None:
        """One line about the run, e.g. a warning."""
        ...


class SilentReporter:
    """Shows nothing."""

    def stage(self, name: str) -> Progress:
        """Announce a stage to nobody."""
        return _ignore

    def note(self, text: str) -> None:
        """Say nothing."""


def _ignore(done: int, total: int) -> None:
    """Swallow a progress report."""
