"""``labeler serve`` as a process of its own, and plain requests to it."""

from __future__ import annotations

import http.client
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """What the server said."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


@dataclass(frozen=True)
class Server:
    """A server that listens at `url`, which ends with a slash."""

    url: str

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """One request with exactly this path: nothing is resolved or quoted on the way."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=120)
        try:
            connection.request(method, f"/{path}", headers=headers)
            found = connection.getresponse()
            return Answer(found.status, {k.lower(): v for k, v in found.getheaders()}, found.read())
        finally:
            connection.close()


@contextmanager
def serving(run: Path, *options: str) -> Iterator[Server]:
    """A server over a run, on any free port; it has to end in time when it is interrupted."""
    code = "from labeler.cli import main; main()"
    command = [sys.executable, "-c", code, "serve", str(run), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    if not url:
        raise AssertionError(process.communicate()[1])
    try:
        yield Server(url)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
