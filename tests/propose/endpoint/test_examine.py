"""What `labeler doctor` says of an endpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from labeler.doctor import endpoint_settings, examine
from labeler.errors import ConfigError, UsageError
from labeler.propose.endpoint.examine import Heard, examine_endpoint
from labeler.testing import MemoryLedger
from tests.propose.endpoint.loopback import GOOD, Endpoint, completion, problem


def models(server: HTTPServer, data: object, status: int = 200) -> None:
    server.expect_request("/v1/models").respond_with_response(
        Response(json.dumps(data), status=status, content_type="application/json")
    )


def heard(endpoint: Endpoint) -> dict[str, Heard]:
    endpoint.script(completion(GOOD))
    return {item.what: item for item in examine_endpoint(endpoint.settings(), MemoryLedger())}


def test_a_server_that_can_do_all_works(endpoint: Endpoint) -> None:
    models(endpoint.server, {"data": [{"id": "toy", "owned_by": "vllm"}]})
    found = heard(endpoint)
    assert all(item.works for item in found.values()), found
    assert "has toy, says it is vllm" in found["endpoint"].says
    assert "schema" in found["endpoint form"].says
    assert "names the colours" in found["endpoint pictures"].says
    assert "reports the tokens" in found["endpoint usage"].says


def test_what_a_server_cannot_do_is_said_plainly(endpoint: Endpoint) -> None:
    models(endpoint.server, {"data": [{"id": "llama"}, {"id": "qwen"}]})
    endpoint.probed = lambda body: (
        problem(400, "Failed to load image")
        if "image/webp" in json.dumps(body)
        else completion("It is a picture.", usage=None)
    )
    found = heard(endpoint)
    assert not found["endpoint"].works
    assert "has no toy, but llama, qwen" in found["endpoint"].says
    assert "asked for in words" in found["endpoint form"].says
    assert "takes JPEG, not WebP, and does not name" in found["endpoint pictures"].says
    assert "counts every call at its most" in found["endpoint usage"].says


@pytest.mark.parametrize("data", [[], {}, {"data": 5}, {"data": [{"name": "x"}]}, "nonsense"])
def test_a_list_of_models_that_is_none_is_told(endpoint: Endpoint, data: object) -> None:
    models(endpoint.server, data)
    assert "where the API begins" in heard(endpoint)["endpoint"].says


def test_a_server_that_lists_nothing_may_still_answer(endpoint: Endpoint) -> None:
    models(endpoint.server, {"error": "no"}, status=404)
    found = heard(endpoint)
    assert found["endpoint form"].works


def test_a_server_that_is_down_is_one_finding(endpoint: Endpoint) -> None:
    models(endpoint.server, {}, status=500)
    endpoint.probed = lambda body: problem(500, "no GPU")
    found = heard(endpoint)
    assert "no GPU" in found["endpoint answers"].says
    assert not found["endpoint answers"].works
    assert "run again" not in found["endpoint answers"].says  # there is no run


def test_a_missing_key_is_one_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    settings = endpoint_settings(None, "https://api.openai.com/v1", "gpt")
    assert settings is not None
    (found,) = examine_endpoint(settings, MemoryLedger())
    assert "OPENAI_API_KEY" in found.says


def test_the_endpoint_comes_from_an_address_or_a_config(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    head = "target: {model: 'timm:x', layers: [a]}\nprobe: {source: 'builtin:scenes'}\n"
    config.write_text(head + "propose: {kind: llm, model: m, base_url: 'http://localhost:1/v1'}\n")
    settings = endpoint_settings(config, None, "")
    assert settings is not None
    assert settings.kind == ("llm",)
    assert endpoint_settings(None, None, "") is None
    config.write_text(head)
    with pytest.raises(ConfigError, match="asks no model"):
        endpoint_settings(config, None, "")
    for wrong in ((config, "http://localhost:1/v1", "m"), (None, "http://localhost:1/v1", "")):
        with pytest.raises(UsageError):
            endpoint_settings(*wrong)


def test_nothing_is_asked_of_any_endpoint_unless_one_is_named() -> None:
    named = {finding.what for finding in examine()}
    assert "endpoint key" in named
    assert "endpoint" not in named
