"""A DICOMweb server on loopback that misbehaves as it is told."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from fetalflex.sources.query import Manners

QUICK = Manners(requests_per_s=1e6, connect_s=2, read_s=0.5, attempts=3, first_wait_s=0, page=3)
Row = dict[str, Any]


@dataclass
class Answer:
    """What one request gets. `announced`: a Content-Length other than the body's."""

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    announced: int | None = None
    silent: bool = False


@dataclass
class FakeServer:
    """Instances by UID; `plan(path, how_often)` may answer in their place. `asked` has every request."""

    instances: dict[str, bytes]
    plan: Callable[[str, int], Answer | None] = lambda path, often: None
    studies: int = 1
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    extra: list[Row] = field(default_factory=list)
    ignores_offset: bool = False
    loses_offset: bool = False  # as Orthanc 1.10.1 does where it filters by ModalitiesInStudy
    address: str = ""

    def answer(self, target: str) -> Answer:
        """Answer a request."""
        parts = urlsplit(target)
        path = parts.path.removeprefix("/dicom-web")
        planned = self.plan(path, sum(1 for asked, _ in self.asked if urlsplit(asked).path == parts.path))
        if planned is not None:
            return planned
        if path == "/studies":
            return self._page([_row(study=f"1.{n}", patient=f"P{n}") for n in range(self.studies)], parts.query)
        if path.endswith("/series"):
            rows = [_row(series="1.0.1", modality="US"), _row(series="1.0.9", modality="CT")]
            return self._page(rows, parts.query)
        number = int(path.split("/")[2].split(".")[1])
        mine = {u: b for n, (u, b) in enumerate(self.instances.items()) if n % self.studies == number}
        if path.endswith("/instances"):
            return self._page([_row(series="1.0.1", uid=u) for u in mine] + self.extra, parts.query)
        return multipart(mine[path.rsplit("/", 1)[1]])

    def _page(self, rows: list[Row], query: str) -> Answer:
        asked = parse_qs(query)
        first, size = int(asked["offset"][0]), int(asked["limit"][0])
        if self.ignores_offset:
            chosen = rows
        elif self.loses_offset:
            chosen = rows[:size] if first == 0 else []
        else:
            chosen = rows[first : first + min(size, 2)]
        return Answer(json.dumps(chosen).encode(), 200 if chosen else 204, {"Content-Type": "application/dicom+json"})


def multipart(*parts: bytes, kind: str = "application/dicom") -> Answer:
    """Return a multipart answer."""
    body = b"".join(b"--b\r\nContent-Type: " + kind.encode() + b"\r\n\r\n" + part + b"\r\n" for part in parts)
    return Answer(
        body + b"--b--\r\n", headers={"Content-Type": 'multipart/related; type="application/dicom"; boundary=b'}
    )


@contextmanager
def serving(server: FakeServer, tls: ssl.SSLContext | None = None) -> Iterator[FakeServer]:
    """Serve until the block ends, over TLS where a context is given."""
    free = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            given = server.answer(self.path)
            server.asked.append((self.path, dict(self.headers)))
            if given.silent:
                free.wait(5)
                return
            self.send_response(given.status)
            for name, value in given.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(given.body) if given.announced is None else given.announced))
            self.end_headers()
            self.wfile.write(given.body)

        def log_message(self, *args: object) -> None:
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    if tls is not None:
        running.socket = tls.wrap_socket(running.socket, server_side=True)
    thread = threading.Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    server.address = f"{'https' if tls else 'http'}://127.0.0.1:{running.server_port}/dicom-web"
    try:
        yield server
    finally:
        free.set()
        running.shutdown()
        running.server_close()
        thread.join()


def _row(study: str = "", patient: str = "", series: str = "", modality: str = "", uid: str = "") -> Row:
    values = {"0020000D": study, "00100020": patient, "0020000E": series, "00080060": modality, "00080018": uid}
    return {tag: {"vr": "UI", "Value": [value]} for tag, value in values.items() if value}
