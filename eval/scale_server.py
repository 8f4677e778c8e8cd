"""``labeler serve`` as a process of its own, asked by plain requests."""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from labeler.errors import LabelerError

_WAIT = 120  # seconds for one answer, or for the server's end


@dataclass(frozen=True)
class Served:
    """A server that listens at `url`, which ends with a slash; `process` is its id."""

    url: str
    process: int

    def processor(self) -> float | None:
        """Processor seconds of the server so far; None where there is no /proc."""
        try:
            fields = Path(f"/proc/{self.process}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ask(self, path: str) -> bytes:
        """The body of an answer.

        Raises:
            LabelerError: when the answer is an error.
        """
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=_WAIT)
        try:
            connection.request("GET", f"/{path}")
            found = connection.getresponse()
            body = found.read()
        finally:
            connection.close()
        if found.status != http.client.OK:
            raise LabelerError(f"labeler serve answered {found.status} to {path}.")
        return body


@contextmanager
def serving(run: Path) -> Iterator[Served]:
    """A server over a run, on any free port.

    Raises:
        LabelerError: when it does not start.
    """
    command = [sys.executable, "-c", "from labeler.cli import main; main()", "serve", str(run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        if not url:
            raise LabelerError(f"labeler serve did not start: {process.communicate()[1].strip()[-200:]}")
        try:
            yield Served(url, process.pid)
        finally:
            process.terminate()
            process.communicate(timeout=_WAIT)
