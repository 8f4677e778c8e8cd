"""The key of an endpoint is in nothing that a process writes, whether it ends well, is refused or crashes."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from labeler.suites import suite_module
from tests.e2e.toy_run import NETWORK, toy_config, write_config

loopback = suite_module("loopback")
KEY = "sk-canary-3b9f7d2c51aa"
LOUD = "import logging; logging.basicConfig(level=logging.DEBUG)\n"
"""Every library says all that it can."""
LABELER = "from labeler.cli import main; main()"
REFUSALS = {
    401: (1, "does not accept the key"),
    403: (1, "does not allow this"),
    429: (4, "status 429"),
    500: (4, "status 500"),
}
CRASHES = {
    "in the client": "import openai\nopenai.AsyncOpenAI.post = None\n",
    "in the answer": "from labeler.propose.endpoint import http\nhttp.decode = lambda body: 1 / 0\n",
    "in the ledger": "from labeler.catalogue import Ledger\nLedger.book = lambda *given: 1 / 0\n",
    "in the library": """
from openai._base_client import AsyncAPIClient
def fails(self, *given, **named):
    headers = dict(self.default_headers)
    raise RuntimeError(f"cannot send {len(headers)} headers")
AsyncAPIClient._build_request = fails
""",
}
Place = Callable[..., Path]


@dataclass(frozen=True)
class Ended:
    """How a process ended, what it printed, and the folder in which it wrote all else."""

    code: int
    out: bytes
    err: bytes
    folder: Path

    @property
    def leaks(self) -> list[str]:
        """Where the key is, plain or encoded: in a stream, or a file (or the name of one)."""
        forms = [KEY.encode(), base64.b64encode(KEY.encode())[:20], KEY.encode().hex().encode(),
                 KEY.encode("utf-16-le")]  # fmt: skip
        written = {"stdout": self.out, "stderr": self.err}
        for path in self.folder.rglob("*"):
            written[str(path)] = path.read_bytes() if path.is_file() else b""
        assert len(written) > 10
        return [place for place, data in written.items() if any(f in data + place.encode() for f in forms)]


class Server:
    """Answers well, or with a status and the key in its words."""

    def __init__(self, server: HTTPServer) -> None:
        self.url = server.url_for("/v1")
        self.keys: set[str] = set()
        self.status = 200
        server.expect_request("/v1/models").respond_with_handler(self.handle)
        server.expect_request("/v1/chat/completions").respond_with_handler(self.handle)

    def handle(self, request: Request) -> Response:
        self.keys.add(request.headers["Authorization"])
        words = f"Incorrect API key provided: {KEY}"
        data: dict[str, object] = {"error": {"message": words, "code": KEY}}
        if self.status == 200:
            probe = request.path.endswith("completions") and loopback.is_probe(request.get_json())
            answer = {"candidates": [{"label": "red"}, {"label": KEY}], "abstain": False}
            text = '{"left": "red", "right": "blue", "cells": 2}' if probe else json.dumps(answer)
            message = {"role": "assistant", "content": text}
            data = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    "data": [{"id": "toy", "owned_by": KEY}]}  # fmt: skip
        headers = {"X-Your-Key": KEY, "Content-Type": "application/json"}
        return Response(json.dumps(data), status=self.status, headers=headers)


@pytest.fixture(scope="module")
def server(make_httpserver: HTTPServer) -> Iterator[Server]:
    yield Server(make_httpserver)
    make_httpserver.clear()


@pytest.fixture(scope="module")
def well(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """A run that ends well."""
    folder = tmp_path_factory.mktemp("key")
    propose = {"kind": "vlm", "model": "toy", "base_url": server.url, "retries": 0, "concurrency": 2}
    config = toy_config(
        120, propose=propose, visualise={"enabled": False}, encoder={"judge": ["annotations"]},
        target={"model": f"file:{NETWORK}:build", "layers": ["colours"], "units": {"colours": "0-2"}},
        checks={"min_test_images": 20, "min_null_units": 8, "permutations": 100, "interventions": 0},
    )  # fmt: skip
    write_config(folder, config)
    return _labeler(folder, *_run(folder))


def _run(folder: Path) -> list[str]:
    return ["run", str(folder / "toy.yaml"), "--out", str(folder / "run"), "--trust-code", str(NETWORK)]


def _labeler(folder: Path, *arguments: str, before: str = "") -> Ended:
    """``labeler ARGUMENTS`` in a process of its own that says all it can, after the code `before`."""
    places = {name: str(folder) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME")}
    talking = {"OPENAI_LOG": "debug", "PYTHONFAULTHANDLER": "1"}
    silent = {"HTTP_PROXY": "", "http_proxy": "", "ALL_PROXY": "", "all_proxy": ""}
    there = os.pathsep.join(filter(None, [str(NETWORK.parents[2]), os.environ.get("PYTHONPATH")]))
    known = {**os.environ, **places, **talking, **silent, "PYTHONPATH": there, "OPENAI_API_KEY": KEY}
    command = [sys.executable, "-c", LOUD + before + LABELER, *arguments]
    done = subprocess.run(command, cwd=folder, env=known, capture_output=True, check=False, timeout=300)
    return Ended(done.returncode, done.stdout, done.stderr, folder)


def _unasked(well: Ended, folder: Path) -> Path:
    """A run all of whose stages are there, and no answer."""
    shutil.copytree(well.folder, folder, ignore=shutil.ignore_patterns("catalogue.db*", "report"))
    return folder


def test_a_run_that_ends_well(server: Server, well: Ended) -> None:
    assert well.code == 0, well.err.decode()
    assert server.keys == {f"Bearer {KEY}"}
    assert b"/chat/completions" in well.err  # the client does log what it sends
    assert well.leaks == []


@pytest.mark.parametrize("status", REFUSALS)
def test_a_run_that_is_refused(
    server: Server, well: Ended, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(server, "status", status)
    folder = _unasked(well, tmp_path / "refused")
    ended = _labeler(folder, *_run(folder))
    assert (ended.code, ended.leaks) == (REFUSALS[status][0], [])
    assert REFUSALS[status][1] in ended.err.decode()
    assert b"Traceback" not in ended.err


@pytest.mark.parametrize("where", CRASHES)
def test_a_run_that_crashes(well: Ended, tmp_path: Path, where: str) -> None:
    folder = _unasked(well, tmp_path / "crashed")
    ended = _labeler(folder, *_run(folder), before=CRASHES[where])
    assert ended.code == 1
    assert b"Traceback" in ended.err
    assert ended.leaks == []


def test_commands_that_read_the_run_or_ask_the_endpoint(server: Server, well: Ended, tmp_path: Path) -> None:
    folder = shutil.copytree(well.folder, tmp_path / "read")
    run = str(folder / "run")
    doctor = ["doctor", "--base-url", server.url, "--model", "toy"]
    for arguments in (
        ["cost", run],
        ["status", run],
        ["list", run, "--json"],
        doctor,
        [*_run(folder), "--dry-run"],
    ):
        ended = _labeler(folder, *arguments)
        assert ended.out, ended.err.decode()
        assert ended.leaks == []
