"""Where an endpoint is, and the key to it: what may be stored, and what never leaves memory."""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from labeler.errors import EndpointError

OPENAI = "https://api.openai.com/v1"
CASSETTE = "cassette:"
"""Before a folder of recorded answers, in place of an address."""


def safe_url(url: str) -> str:
    """An endpoint's address as it may be stored and shown: no user name, password, query or fragment.

    Empty is OpenAI's; ``cassette:DIR`` stays what it is.

    Raises:
        EndpointError: when it is not an http address, or carries a user name or password.
    """
    if url.startswith(CASSETTE):
        return url
    try:
        parts = urlsplit(url or OPENAI)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host:
        raise EndpointError("propose.base_url is not an address; write it like http://localhost:8000/v1.")
    if "@" in parts.netloc:
        raise EndpointError(
            "Take the user name and password out of propose.base_url; keys come from the environment."
        )
    place = f"[{host}]" if ":" in host else host
    netloc = place if port is None else f"{place}:{port}"
    return urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))


def key_of(variable: str, base_url: str) -> SecretStr:
    """The key in the environment variable; a server on this machine needs none.

    Raises:
        EndpointError: when it is missing, or is none.
    """
    value = os.environ.get(variable, "").strip()
    if value and not (value.isascii() and value.isprintable()):
        raise EndpointError(f"The environment variable {variable} does not hold a key; set it again.")
    if value:
        return SecretStr(value)
    if base_url.startswith(CASSETTE) or on_this_machine(base_url):
        return SecretStr("not-needed")  # the client insists on some key
    raise EndpointError(f"Set the environment variable {variable} to the key of {base_url}.")


def on_this_machine(base_url: str) -> bool:
    """Whether an address is a loopback one."""
    host = urlsplit(base_url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
