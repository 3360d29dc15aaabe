"""Telling people that a scheduled run failed: a webhook, an e-mail, both or neither, as the environment says.

FETALFLEX_NOTIFY_WEBHOOK: an address that takes JSON by POST ({"text": ...}, which chat services show).
FETALFLEX_NOTIFY_EMAIL: addresses, separated by commas; by FETALFLEX_SMTP: smtp[s]://USER:PASSWORD@HOST:PORT, from
FETALFLEX_NOTIFY_FROM. A message holds our own words alone: states of ours carry no identifier.
"""

import json
import os
import smtplib
import ssl
import sys
import urllib.request
from collections.abc import Callable
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

from fetalflex.errors import UsageError

WEBHOOK, EMAIL, SMTP, SENDER = (
    "FETALFLEX_NOTIFY_WEBHOOK", "FETALFLEX_NOTIFY_EMAIL", "FETALFLEX_SMTP", "FETALFLEX_NOTIFY_FROM",
)  # fmt: skip
_LIMIT_S = 20.0


def notify(flow: str, run: str, state: str, message: str) -> list[str]:
    """Tell whom the environment names; return who was told. What cannot be delivered is said on standard error.

    It never raises for a server that does not answer: a notification must not fail the run that it is about.
    """
    text = f"FetalFlex: {flow} ({run}): {state}" + (f": {message}" if message else "")
    parts = {"text": text, "flow": flow, "run": run, "state": state, "message": message}
    told = []
    for name, send in ((WEBHOOK, _post), (EMAIL, _mail)):
        if os.environ.get(name) and _delivered(name, send, parts):
            told.append(name)
    return told


def _delivered(name: str, send: Callable[[dict[str, str]], None], parts: dict[str, str]) -> bool:
    try:
        send(parts)
    except (OSError, smtplib.SMTPException, UsageError) as error:
        # The address may hold a secret, and a library's message the address: only the kind of error is told.
        print(f"notification by {name} was not delivered: {type(error).__name__}", file=sys.stderr)
        return False
    return True


def _post(parts: dict[str, str]) -> None:
    address = os.environ[WEBHOOK]
    if urlsplit(address).scheme not in ("http", "https"):
        raise UsageError(f"{WEBHOOK}: expected an address with http or https")
    request = urllib.request.Request(  # noqa: S310 (the scheme was checked)
        address, json.dumps(parts).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=_LIMIT_S).close()  # noqa: S310


def _mail(parts: dict[str, str]) -> None:
    server = urlsplit(os.environ.get(SMTP, ""))
    if server.scheme not in ("smtp", "smtps") or not server.hostname:
        raise UsageError(f"{SMTP}: expected smtp://USER:PASSWORD@HOST:PORT or smtps://...")
    message = EmailMessage()
    message["Subject"] = f"FetalFlex: {parts['flow']} {parts['state']}"
    message["From"] = os.environ.get(SENDER) or f"fetalflex@{server.hostname}"
    message["To"] = os.environ[EMAIL]
    message.set_content(parts["text"])
    with _connect(server.scheme, server.hostname, server.port) as client:
        if server.username:
            client.login(unquote(server.username), unquote(server.password or ""))
        client.send_message(message)


def _connect(scheme: str, host: str, port: int | None) -> smtplib.SMTP:
    if scheme == "smtps":
        return smtplib.SMTP_SSL(host, port or 465, timeout=_LIMIT_S, context=ssl.create_default_context())
    client = smtplib.SMTP(host, port or 25, timeout=_LIMIT_S)
    client.ehlo()
    if client.has_extn("starttls"):
        client.starttls(context=ssl.create_default_context())
    return client
