"""An HTTP session that a hospital's server can bear and that gives nothing away.

It waits its turn, backs off and honours Retry-After, verifies certificates, follows no redirect to another server,
takes credentials from the environment alone, and tells neither logs nor errors an address, a header or an answer's
text: they name patients and secrets. Source: RFC 9110 (10.2.3 Retry-After, 15.4 redirects), RFC 6750 (bearer tokens).
"""

import io
import ipaddress
import logging
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.auth import AuthBase, HTTPBasicAuth

from fetalflex.errors import MissingSecretError, SourceError, UsageError
from fetalflex.sources.query import Manners

TOKEN, USER, PASSWORD = "FETALFLEX_DICOMWEB_TOKEN", "FETALFLEX_DICOMWEB_USER", "FETALFLEX_DICOMWEB_PASSWORD"
REDIRECTS = 5
ANSWER_BYTES = 64 * 2**20  # of one page of a search
STALL_S, STALL_BYTES_PER_S = 60.0, 1024.0
TALKATIVE = ("dicomweb_client.web", "urllib3.connectionpool", "urllib3.util.retry")
BROKEN = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    urllib3.exceptions.HTTPError,
)


class TransferError(Exception):
    """One transfer broke off, stalled or was damaged; worth another attempt. Holds nothing of the server's text."""


@dataclass
class Pace:
    """Keeps requests and bytes per second below what was agreed. Clock and sleep in seconds."""

    requests_per_s: float
    bytes_per_s: float | None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _next_request: float = field(default=0.0, init=False)
    _next_byte: float = field(default=0.0, init=False)

    def before_request(self) -> None:
        """Wait for this request's turn."""
        self._wait(self._next_request)
        self._next_request = max(self.clock(), self._next_request) + 1 / self.requests_per_s

    def after_bytes(self, size: int) -> None:
        """Wait as long as these bytes should have taken."""
        if self.bytes_per_s is not None:
            self._next_byte = max(self.clock(), self._next_byte) + size / self.bytes_per_s
            self._wait(self._next_byte)

    def _wait(self, until: float) -> None:
        if (left := until - self.clock()) > 0:
            self.sleep(left)


class PoliteSession(requests.Session):
    """A session bound to one server; `request` retries until it has an answer that is worth reading."""

    def __init__(self, base: str, manners: Manners, pace: Pace | None = None) -> None:
        """Bind to the server of `base`. Raises: UsageError for an unsafe address; MissingSecretError."""
        super().__init__()
        self.base, self.manners = base, manners
        self.host = check_address(base, plain_http=manners.plain_http)
        self.pace = pace or Pace(manners.requests_per_s, manners.bytes_per_s)
        self.auth = _credentials()
        self.headers["Accept-Encoding"] = "identity"  # nothing that inflates

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **kwargs: Any) -> requests.Response:
        """Return an answer of status 200 to 299, or the last of a refused request (404, 500 and the like).

        Raises: SourceError where the server cannot be reached, stays overloaded, or refuses the credentials.
        """
        wanted_whole = not kwargs.get("stream")
        (kwargs.get("headers") or {}).pop("Host", None)  # dicomweb-client's has no port
        kwargs |= {"stream": True, "allow_redirects": False, "timeout": (self.manners.connect_s, self.manners.read_s)}
        problem = "no answer"
        for attempt in range(1, self.manners.attempts + 1):
            try:
                response = self._follow(method, str(url), *args, **kwargs)
                retry = response.status_code in (408, 429) or response.status_code >= 500
                if not retry and wanted_whole:
                    self._read_whole(response)
                if not retry or (response.status_code == 500 and attempt == self.manners.attempts):
                    return self._checked(response)
                problem, asked = f"status {response.status_code}", _retry_after(response.headers)
                response.close()
            except requests.exceptions.SSLError:
                raise SourceError(
                    f"{self.host}: its certificate cannot be verified; a hospital's own authority is named by "
                    f"REQUESTS_CA_BUNDLE"
                ) from None
            except (*BROKEN, TransferError) as error:
                problem, asked = type(error).__name__, None
            if attempt < self.manners.attempts:
                self.back_off(attempt, asked)
        raise SourceError(
            f"{self.host}: {problem} after {self.manners.attempts} attempts; run again later: it goes on from here"
        )

    def back_off(self, attempt: int, asked: float | None = None) -> None:
        """Sleep before the next attempt: doubling, or as long as the server asks. Raises: SourceError if too long."""
        if asked is not None and asked > self.manners.longest_wait_s:
            raise SourceError(
                f"{self.host}: asks to be left alone for {asked:.0f} s; run again then: it goes on from here"
            )
        wait = self.manners.first_wait_s * 2 ** (attempt - 1) * random.uniform(1, 1.25)  # noqa: S311 - no secret
        self.pace.sleep(max(asked or 0.0, min(wait, self.manners.longest_wait_s)))

    def read(self, response: requests.Response) -> Iterator[bytes]:
        """Yield an answer's bytes at the agreed pace. Raises: TransferError where it breaks off or stalls."""
        start, size, asleep = self.pace.clock(), 0, 0.0
        try:
            for block in response.raw.stream(2**16, decode_content=True):
                size += len(block)
                now = self.pace.clock()
                if now - start - asleep > STALL_S and size < STALL_BYTES_PER_S * (now - start - asleep):
                    raise TransferError("stalled")
                yield block
                self.pace.after_bytes(len(block))
                asleep += self.pace.clock() - now
        except BROKEN as error:
            raise TransferError(type(error).__name__) from None

    def merge_environment_settings(self, url: Any, *args: Any) -> Any:
        """Take proxies and certificates from the environment, but no proxy for what is on this machine."""
        settings = super().merge_environment_settings(url, *args)
        if is_loopback(urlsplit(str(url)).hostname or ""):
            settings["proxies"] = {}
        return settings

    def _follow(self, method: Any, url: str, *args: Any, **kwargs: Any) -> requests.Response:
        for _ in range(REDIRECTS):
            self.pace.before_request()
            response = super().request(method, url, *args, **kwargs)
            if not response.is_redirect:
                return response
            target = urljoin(url, response.headers["Location"])
            response.close()
            if _origin(target) != _origin(self.base):
                raise SourceError(f"{self.host}: sends on to another server; that is not followed: name the right one")
            url = target
        raise SourceError(f"{self.host}: sends in a circle; see its address")

    def _read_whole(self, response: requests.Response) -> None:
        """Read a bounded answer now, so that a transfer that breaks off is tried again."""
        data = bytearray()
        for block in self.read(response):
            data += block
            if len(data) > ANSWER_BYTES:
                response.close()
                raise SourceError(f"{self.host}: an answer of more than {ANSWER_BYTES} bytes; ask for smaller pages")
        expected = response.headers.get("Content-Length", "")
        if response.status_code != 204 and expected.isdecimal() and int(expected) > len(data):
            raise TransferError("shorter than announced")
        response.close()
        response.raw = io.BytesIO(data)

    def _checked(self, response: requests.Response) -> requests.Response:
        if response.status_code == 401:
            response.close()
            raise MissingSecretError(
                f"{self.host}: refuses the credentials (status 401); set {TOKEN}, or {USER} and {PASSWORD}"
            )
        return response


def check_address(address: str, *, plain_http: bool) -> str:
    """Return host and port of a safe DICOMweb address. Raises: UsageError, which repeats neither path nor secret."""
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise UsageError("the DICOMweb address is malformed; expected https://HOST[:PORT]/dicom-web") from None
    if not host or parts.query or parts.fragment:
        raise UsageError("the DICOMweb address is malformed; expected https://HOST[:PORT]/dicom-web")
    if parts.username is not None or parts.password is not None:
        raise UsageError(f"{host}: credentials do not belong in an address; set {TOKEN}, or {USER} and {PASSWORD}")
    if parts.scheme.lower() != "https" and not is_loopback(host) and not plain_http:
        raise UsageError(f"{host}: http sends identifiers and credentials in the open; use https")
    return host if port is None else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, by its name alone: no look-up is trusted."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@contextmanager
def silence() -> Iterator[None]:
    """Keep libraries from logging addresses and UIDs, whatever level the application has set."""
    loggers = [logging.getLogger(name) for name in TALKATIVE]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, was in zip(loggers, before, strict=True):
            logger.disabled = was


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Nobody(AuthBase):
    """No credentials, not even those that a .netrc would offer."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        return request


def _credentials() -> AuthBase:
    token, user, password = (os.environ.get(name, "") for name in (TOKEN, USER, PASSWORD))
    if token and (user or password):
        raise UsageError(f"{TOKEN} and {USER} are both set; set one of them")
    if bool(user) != bool(password):
        raise MissingSecretError(f"{USER} and {PASSWORD} go together; one of them is not set")
    if not (token + user + password).isprintable():
        raise UsageError(f"{TOKEN}, {USER} or {PASSWORD} holds a control character, perhaps a line's end")
    if token:
        return _Bearer(token)
    return HTTPBasicAuth(user.encode(), password.encode()) if user else _Nobody()


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    port = parts.port or {"https": 443, "http": 80}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", port


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a server asks to wait: a number or a date."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value[:9])
    try:
        when = parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return max(0.0, ((when if when.tzinfo else when.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
