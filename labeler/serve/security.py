"""What every answer carries, and which requests are answered at all."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from labeler.serve.live import CSP

HEADERS = {
    "Content-Security-Policy": f"{CSP}; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(?::\d+)?")


class Guarded:
    """An app behind security headers, errors included, that answers to its own names only.

    A page of another site may have its name resolve to this machine (DNS rebinding); its requests then carry
    that name, and are refused.

    Args:
        app: what answers.
        names: host names without a port; None where any will do.
    """

    def __init__(self, app: ASGIApp, names: Collection[str] | None) -> None:
        self._app = app
        self._names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        if self._names is not None and not self._is_ours(Headers(scope=scope).get("host", "")):
            refusal = JSONResponse({"error": "This server does not answer to that host name."}, 400)
            await refusal(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)

    def _is_ours(self, host: str) -> bool:
        found = _HOST.fullmatch(host)
        return found is not None and self._names is not None and found[1].lower() in self._names


def own_names(host: str) -> frozenset[str] | None:
    """The names under which a server that listens on `host` is asked for; None where that cannot be known."""
    name = host.strip("[]").lower()
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return frozenset({name, "localhost", "127.0.0.1", "[::1]"} if name == "localhost" else {name})
    if address.is_unspecified:
        return None
    shown = f"[{address}]" if address.version == 6 else str(address)
    return frozenset({shown, "localhost"} if address.is_loopback else {shown})
