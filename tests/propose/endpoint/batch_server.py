"""OpenAI's batch API, as far as labeler uses it, in a pytest-httpserver."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from tests.propose.endpoint.loopback import GOOD, HALVES, PATH, completion

Line = dict[str, Any]


def answered(line: Line, text: str = GOOD, status: int = 200) -> Line:
    """The result of one request."""
    body = json.loads(completion(text).get_data()) if status == 200 else {"error": {"message": "no"}}
    response = {"status_code": status, "request_id": "r", "body": body}
    return {"id": "x", "custom_id": line["custom_id"], "response": response, "error": None}


@dataclass
class BatchServer:
    """`batches` are the requests of every batch that was made; `result` makes a request's line, None leaves
    it out; a batch is done at the `polls`-th question."""

    server: HTTPServer
    result: Callable[[Line], Line | None] = answered
    ends_as: str = "completed"
    polls: int = 2
    junk: bytes = b""
    batches: list[list[Line]] = field(default_factory=list)
    live: int = 0
    _files: dict[str, bytes] = field(default_factory=dict)
    _asked: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        expect = self.server.expect_request
        expect("/v1/files", method="POST").respond_with_handler(self._upload)
        expect("/v1/batches", method="POST").respond_with_handler(self._create)
        expect(re.compile("^/v1/batches/.+"), method="GET").respond_with_handler(self._status)
        expect(re.compile("^/v1/files/.+/content"), method="GET").respond_with_handler(self._content)
        expect(PATH, method="POST").respond_with_handler(self._live)

    def _live(self, request: Request) -> Response:
        self.live += 1
        return completion(HALVES)

    def _upload(self, request: Request) -> Response:
        assert request.form["purpose"] == "batch"
        name = f"file-{len(self._files)}"
        self._files[name] = request.files["file"].read()
        return self._json({"id": name, "object": "file", "bytes": 1, "created_at": 1, "filename": "f",
                           "purpose": "batch", "status": "processed"})  # fmt: skip

    def _create(self, request: Request) -> Response:
        data = json.loads(request.get_data())
        assert data["endpoint"] == PATH
        self.batches.append([json.loads(line) for line in self._files[data["input_file_id"]].splitlines()])
        return self._json(self._batch(f"batch-{len(self.batches) - 1}", "validating"))

    def _status(self, request: Request) -> Response:
        name = request.path.rsplit("/", 1)[1]
        self._asked[name] = self._asked.get(name, 0) + 1
        return self._json(
            self._batch(name, self.ends_as if self._asked[name] >= self.polls else "in_progress")
        )

    def _content(self, request: Request) -> Response:
        number = int(request.path.split("-")[1].split("/")[0])
        results = [found for line in self.batches[number] if (found := self.result(line)) is not None]
        data = b"\n".join(json.dumps(found).encode() for found in results)
        return Response(self.junk + data + b"\n", content_type="application/octet-stream")

    def _batch(self, name: str, status: str) -> dict[str, Any]:
        done = status in ("completed", "expired")
        failed = {"object": "list", "data": [{"code": "x", "message": "a line is wrong"}]}
        return {
            "id": name, "object": "batch", "endpoint": PATH, "input_file_id": "f", "status": status,
            "completion_window": "24h", "created_at": 1,
            "output_file_id": f"output-{name.split('-')[1]}" if done else None, "error_file_id": None,
            "errors": failed if status == "failed" else None,
        }  # fmt: skip

    @staticmethod
    def _json(data: dict[str, Any]) -> Response:
        return Response(json.dumps(data), content_type="application/json")
