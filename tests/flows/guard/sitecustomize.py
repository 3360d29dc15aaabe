"""Refuses and records whatever a Python process tries to reach beyond this machine; tests put it on PYTHONPATH."""

import os
import sys
from pathlib import Path

_RECORD = Path(os.environ["FETALFLEX_TEST_CONNECTIONS"])
_EVERYWHERE = ("0.0.0.0", "::", "")


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.getaddrinfo":
        host, port = str(arguments[0] or ""), 0
    elif event in ("socket.connect", "socket.sendto", "socket.bind") and isinstance(arguments[1], tuple):
        host, port = str(arguments[1][0]), arguments[1][1]
    else:
        return
    local = host.startswith("127.") or host in ("::1", "localhost")
    # To look up or take any address is a client's own end; to serve on all of them would be seen from outside.
    if local or (host in _EVERYWHERE and (event == "socket.getaddrinfo" or port == 0)):
        return
    with _RECORD.open("a") as out:
        out.write(f"{event} {host} {port} by {' '.join(sys.argv)[:100]}\n")
    raise OSError(f"a test allows nothing beyond loopback: {event} {host}")


sys.addaudithook(_watch)
