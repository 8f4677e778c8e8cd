"""Listening: one process, loopback by default."""

from __future__ import annotations

import socket
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from labeler.errors import MissingExtraError, UsageError


def serve(run: Path, host: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve a run until the process is interrupted.

    Args:
        run: a run directory; the run may still go on.
        host: the address to listen on.
        port: 0 takes any that is free.
        ready: is called with the address once the server listens.

    Raises:
        MissingExtraError: when the extra ``serve`` is not installed.
        RunError: when `run` is not a run directory, or its catalogue cannot be read.
        UsageError: when nothing can listen there.
    """
    if any(find_spec(package) is None for package in ("fastapi", "uvicorn")):
        raise MissingExtraError("labeler serve", "serve")
    import uvicorn

    from labeler.serve.app import create_app
    from labeler.serve.live import LiveRun, check_run
    from labeler.serve.security import own_names

    check_run(run)
    listening = _listen(host, port)
    app = create_app(LiveRun(run), own_names(host))
    config = uvicorn.Config(app, log_level="warning", access_log=False, server_header=False)
    shown = f"[{host}]" if ":" in host else host
    with listening:
        ready(f"http://{shown}:{listening.getsockname()[1]}/")
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        cause = error.strerror or error
        raise UsageError(
            f"Nothing can listen on {host}, port {port} ({cause}); give another --host or --port."
        ) from None
    return listening
