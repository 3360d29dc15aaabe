"""Who may ask a page's server: loopback or a token, no other site, no large bodies. An ASGI wrapper around an app.

Source: OWASP cheat sheets on cross-site request forgery, DNS rebinding (Host header) and HTTP headers.
"""

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

TOKEN_COOKIE = "fetalflex_token"  # noqa: S105 - a cookie's name
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
HEADERS = {
    # Everything comes from this server; nothing may run that is not a file of ours.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True)
class Rules:
    """`token`: what who asks must know, None on loopback. `largest`: bytes of a body; `open_paths` need no token."""

    token: str | None = None
    largest: int = 64 * 2**20
    open_paths: tuple[str, ...] = ()


class Guard:
    """Wraps an app: refuses what `Rules` do not allow, and adds headers to every answer."""

    def __init__(self, app: App, rules: Rules) -> None:
        """Wrap an app."""
        self.app, self.rules = app, rules

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            status, text = refusal
            await _answer(send, status, text)
            return
        if self.rules.token is not None and (given := _query_token(scope)) is not None and self._knows(given):
            await _move(send, scope, given)
            return
        await self.app(scope, _limited(receive, self.rules.largest), _with_headers(send))

    def _refusal(self, scope: Message, headers: dict[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
        if self.rules.token is None and name not in LOOPBACK:
            return 403, "this page answers under 127.0.0.1 or localhost alone"
        origin = headers.get("origin")
        if scope["method"] not in ("GET", "HEAD") and origin is not None and urlsplit(origin).netloc != host:
            return 403, "another page asked for this"
        if (
            headers.get("content-length", "0").isdigit()
            and int(headers.get("content-length", "0")) > self.rules.largest
        ):
            return 413, f"too large: at most {self.rules.largest // 2**20} MiB"
        if any(scope["path"].startswith(p) for p in self.rules.open_paths):
            return None
        if self.rules.token is not None and not self._knows(_query_token(scope) or _cookie(headers)):
            return 401, "open the address that the command printed: it holds the token"
        return None

    def _knows(self, given: str | None) -> bool:
        return given is not None and hmac.compare_digest(given.encode(), (self.rules.token or "").encode())


class TooLargeError(Exception):
    """A body grew beyond what is allowed while it was being read."""


def _query_token(scope: Message) -> str | None:
    found = parse_qs(scope["query_string"].decode("latin-1")).get("token")
    return found[0] if found else None


def _cookie(headers: dict[str, str]) -> str | None:
    found = SimpleCookie(headers.get("cookie", "")).get(TOKEN_COOKIE)
    return None if found is None else found.value


def _limited(receive: Receive, largest: int) -> Receive:
    """Count what arrives: a body without a stated length is cut off, too."""
    seen = 0

    async def counted() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > largest:
            raise TooLargeError(largest)
        return message

    return counted


def _with_headers(send: Send) -> Send:
    async def added(message: Message) -> None:
        if message["type"] == "http.response.start":
            known = {k.lower() for k, _ in message["headers"]}
            extra = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in known]
            message = {**message, "headers": [*message["headers"], *extra]}
        await send(message)

    return added


async def _answer(send: Send, status: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> None:
    listed = {"content-type": "text/plain; charset=utf-8", **HEADERS, **dict(headers)}
    start = {
        "type": "http.response.start",
        "status": status,
        "headers": [(k.encode(), v.encode()) for k, v in listed.items()],
    }
    await send(start)
    await send({"type": "http.response.body", "body": text.encode()})


async def _move(send: Send, scope: Message, token: str) -> None:
    """Keep the token in a cookie, and take it out of the address: addresses are shared, logged and remembered."""
    cookie = f"{TOKEN_COOKIE}={token}; HttpOnly; SameSite=Strict; Path=/"
    await _answer(send, 303, "", (("location", scope["path"]), ("set-cookie", cookie)))
