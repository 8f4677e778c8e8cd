from __future__ import annotations

import pytest

from labeler.errors import EndpointError
from labeler.propose.endpoint import key_of, safe_url


def test_addresses_are_stored_without_secrets() -> None:
    assert safe_url("http://[::1]:8000/v1/?key=1#x") == "http://[::1]:8000/v1"
    assert safe_url("") == "https://api.openai.com/v1"
    assert safe_url("cassette:/tmp/recorded") == "cassette:/tmp/recorded"
    for wrong in ("localhost:8000", "file:///etc/passwd", "http://", "http://host:port"):
        with pytest.raises(EndpointError, match="http://localhost:8000/v1"):
            safe_url(wrong)
    with pytest.raises(EndpointError, match="user name") as caught:
        safe_url("https://me:secret@host/v1")
    assert "secret" not in str(caught.value)


def test_a_remote_endpoint_needs_a_key_and_one_on_this_machine_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(EndpointError, match="Set the environment variable OPENAI_API_KEY"):
        key_of("OPENAI_API_KEY", "https://api.openai.com/v1")
    for local in ("http://localhost:1/v1", "http://127.0.0.9/v1", "http://[::1]/v1", "cassette:x"):
        assert key_of("OPENAI_API_KEY", local).get_secret_value()
    monkeypatch.setenv("OTHER", "clé\n")
    with pytest.raises(EndpointError, match="OTHER") as caught:
        key_of("OTHER", "https://api.openai.com/v1")
    assert "cl" not in str(caught.value).replace("include", "")
    monkeypatch.setenv("OTHER", "sk-1")
    assert "sk-1" not in repr(key_of("OTHER", "https://api.openai.com/v1"))
