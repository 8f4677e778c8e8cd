"""Where prompts, configs and evaluation suites lie: in the wheel, or beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from labeler.errors import LabelerError


def resource_directory(name: Literal["prompts", "configs", "eval"]) -> Path:
    """The directory of a resource that travels with the package.

    Raises:
        LabelerError: when the installation is incomplete.
    """
    package = Path(__file__).parent
    for candidate in (package / f"_{name}", package.parent / name):
        if candidate.is_dir():
            return candidate
    raise LabelerError(f"The installation has no {name}; install labeler again.")
