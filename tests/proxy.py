"""A TCP proxy on loopback that can drop its connections in the middle, as a bad network does."""

import socket
import threading
from types import TracebackType
from typing import Self


class DroppingProxy:
    """Passes bytes to a port; after `drop_after` bytes to the server all connections are cut, new ones too."""

    def __init__(self, target: int, drop_after: int | None = None) -> None:
        self._target, self.drop_after, self.passed, self.cut = target, drop_after, 0, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._lock, self._open = threading.Lock(), set[socket.socket]()
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._listener.close()
        self._cut_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._is_over():
                client.close()
                self.cut += 1
                continue
            server = socket.create_connection(("127.0.0.1", self._target))
            with self._lock:
                self._open |= {client, server}
            for source, sink, counted in ((client, server, True), (server, client, False)):
                threading.Thread(target=self._pass, args=(source, sink, counted), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        try:
            while data := source.recv(4096):
                with self._lock:
                    self.passed += len(data) if counted else 0
                if self._is_over():
                    self.cut += 1
                    self._cut_all()
                    return
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def _is_over(self) -> bool:
        return self.drop_after is not None and self.passed > self.drop_after

    def _cut_all(self) -> None:
        with self._lock:
            for one in self._open:
                try:
                    one.shutdown(socket.SHUT_RDWR)
                except OSError:
                    continue
                finally:
                    one.close()
            self._open.clear()
