"""A small file system of its own, where this process may mount one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Medium:
    """A mounted tmpfs, whose size and rights can be changed."""

    place: Path

    def resize(self, kibibytes: int) -> None:
        """It holds so much."""
        self._remount(f"size={kibibytes}k")

    def forbid_writing(self) -> None:
        """Everything on it can be read only."""
        self._remount("ro")

    def allow_writing(self) -> None:
        """And written again."""
        self._remount("rw")

    def _remount(self, option: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{option}", str(self.place)], check=True, timeout=30)


@contextmanager
def mounted(place: Path, kibibytes: int) -> Iterator[Medium]:
    """A tmpfs at `place`; the test is skipped where none can be mounted."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "none", str(place)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this process may not mount a file system")
    try:
        yield Medium(place)
    finally:
        subprocess.run(["umount", str(place)], check=True, timeout=30)
