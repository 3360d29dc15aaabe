"""Notifications really arrive: at a web server and at a mail server on loopback; a dead one fails nothing."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tasks.notify import EMAIL, SMTP, WEBHOOK, notify
from tasks.server import free_port


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_webhook_gets_what_failed_and_why(monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[dict[str, str]] = []

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Be quiet."""

    with _serving(HTTPServer(("127.0.0.1", 0), Hook)) as port:
        monkeypatch.setenv(WEBHOOK, f"http://127.0.0.1:{port}/hook")
        assert notify("regenerate", "regenerate v1", "Refused", "the gate rejects") == [WEBHOOK]
    assert got[0]["text"] == "FetalFlex: regenerate (regenerate v1): Refused: the gate rejects"
    assert got[0]["state"] == "Refused"


def test_a_mail_server_gets_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    class Mail(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            in_data = False
            while line := self.rfile.readline():
                text = line.decode().rstrip()
                heard.append(text)
                if in_data and text != ".":
                    continue
                in_data = text.lower() == "data"
                if text.lower() == "quit":
                    self.wfile.write(b"221 bye\r\n")
                    return
                self.wfile.write(b"354 go on\r\n" if in_data else b"250 fine\r\n")

    with _serving(socketserver.TCPServer(("127.0.0.1", 0), Mail)) as port:
        monkeypatch.setenv(EMAIL, "a@example.org, b@example.org")
        monkeypatch.setenv(SMTP, f"smtp://127.0.0.1:{port}")
        assert notify("verify", "verify v1", "Failed", "1 difference") == [EMAIL]
    assert "Subject: FetalFlex: verify Failed" in heard
    assert {"rcpt TO:<a@example.org>", "rcpt TO:<b@example.org>"} <= {h.split(" size")[0] for h in heard}
    assert any("1 difference" in line for line in heard)


def test_nobody_is_told_where_nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (WEBHOOK, EMAIL):
        monkeypatch.delenv(name, raising=False)
    assert notify("verify", "verify v1", "Failed", "") == []


@pytest.mark.parametrize(
    ("name", "value"),
    [(WEBHOOK, "http://127.0.0.1:{port}/secret"), (WEBHOOK, "file:///etc/secret"), (EMAIL, "a@b.org")],
)
def test_what_cannot_be_delivered_is_said_without_its_address(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    monkeypatch.setenv(name, value.format(port=free_port()))
    assert notify("verify", "verify v1", "Failed", "") == []
    said = capsys.readouterr().err
    assert f"notification by {name} was not delivered" in said
    assert "secret" not in said
