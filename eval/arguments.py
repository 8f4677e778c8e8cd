"""The command line of a suite: what follows ``--``."""

from __future__ import annotations

import argparse
from typing import NoReturn

from labeler.errors import UsageError


class SuiteParser(argparse.ArgumentParser):
    """An argument parser whose complaints are `UsageError`.

    Args:
        suite: its name.
        description: one sentence for ``-- --help``.
    """

    def __init__(self, suite: str, description: str) -> None:
        super().__init__(
            prog=f"labeler eval {suite} --", description=description, allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )  # fmt: skip

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print."""
        raise UsageError(f"{self.prog}: {message}.")
