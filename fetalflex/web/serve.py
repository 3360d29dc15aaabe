"""Serving an app until it is ended: where it may be bound, and that address on a terminal."""

import ipaddress
import secrets
import socket
from collections.abc import Callable
from typing import Any

from fetalflex.errors import UsageError

SHORTEST_TOKEN = 16


def check_address(host: str, token: str | None) -> str | None:
    """Return the token that an address needs: none on loopback, unless one is given.

    Raises: UsageError for another address without a token, or a token that can be guessed or put into no address.
    """
    if token is not None and (len(token) < SHORTEST_TOKEN or not token.replace("-", "").replace("_", "").isalnum()):
        raise UsageError(
            f"the token is short or holds other signs than letters, digits, - and _; expected {SHORTEST_TOKEN}, "
            f"or more, say {secrets.token_urlsafe(24)}"
        )
    if not is_loopback(host) and token is None:
        raise UsageError(
            f"{host} can be reached from other machines, so it needs --token TEXT "
            f"(16 or more letters and digits); or leave --host out: loopback needs none"
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket (port 0: a free one). Raises: UsageError where it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host.strip("[]"), port))
        listener.listen(128)  # who comes before the app is up waits
    except OSError as error:
        listener.close()
        raise UsageError(f"cannot listen on {host}:{port} ({error.strerror}); name another --port or --host") from error
    return listener


def serve(app: Any, listener: socket.socket, ready: Callable[[], None] = lambda: None) -> None:
    """Serve an ASGI app on a socket until Ctrl-C or SIGTERM; `ready` is called once it answers."""
    import uvicorn

    class Told(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            ready()

    # No access log: it would tell who looked at what. A page that polls must not hold up the end.
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, server_header=False
    )
    Told(config).run(sockets=[listener])
