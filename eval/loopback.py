"""A model endpoint on this machine, for suites that stand in for a language model."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from labeler.propose.endpoint.probe import FORM

Answer = Callable[[dict[str, Any]], str]
"""The text that a chat completion's body is answered with."""
INPUT_TOKENS, OUTPUT_TOKENS = 1500, 60
"""Reported for every answer: what a sheet and a few labels take with models of today."""


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """The address of an endpoint whose answers are `answer`'s; questions about itself it answers well.

    An exception of `answer` is answered with status 500.
    """

    class Handler(_Handler):
        pass

    Handler.answer = staticmethod(answer)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def is_probe(body: dict[str, Any]) -> bool:
    """Whether a request asks what the endpoint understands."""
    form = body.get("response_format", {}).get("json_schema", {})
    return bool(form.get("name") == FORM)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answer: Answer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            text = '{"left": "red", "right": "blue", "cells": 2}' if is_probe(body) else self.answer(body)
        except Exception as problem:  # an endpoint that falls over, seen from outside
            self._send(500, {"error": {"message": repr(problem)}})
            return
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": INPUT_TOKENS, "completion_tokens": OUTPUT_TOKENS}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self._send(200, {"choices": [choice], "usage": usage})

    def _send(self, status: int, data: dict[str, Any]) -> None:
        payload = json.dumps(data).encode()
        with contextlib.suppress(ConnectionError):  # whoever asked may be gone
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""
