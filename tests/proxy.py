"""A TCP proxy in front of a real server that breaks connections where a test wants it to."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType


class Proxy:
    """Passes bytes between clients and one server on 127.0.0.1, until it is told to cut.

    Args:
        port: of the server.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._mutex = threading.Lock()
        self._budget: int | None = None
        self._swallow: tuple[bytes, int] = (b"", 0)
        self._tear: tuple[bytes, int] = (b"", 0)
        self._sockets: list[socket.socket] = []
        self._down = False
        self.cuts = 0
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        """Where the proxy listens."""
        return f"http://127.0.0.1:{self.port}"

    def cut_after(self, count: int) -> None:
        """Cut one connection, once, when `count` more bytes of answers have passed."""
        with self._mutex:
            self._budget = count

    def swallow_answers(self, request: bytes, times: int = 1) -> None:
        """Let the next requests that contain these bytes reach the server, and cut instead of passing its answer on."""
        with self._mutex:
            self._swallow = (request, times)

    def tear_requests(self, request: bytes, times: int = 1) -> None:
        """Pass on only the head of the next requests that contain these bytes, and cut before their body."""
        with self._mutex:
            self._tear = (request, times)

    def go_down(self) -> None:
        """Cut every connection, and every new one as soon as it is made, until `come_back`."""
        with self._mutex:
            self._down = True
            for one in self._sockets:
                _close(one)

    def come_back(self) -> None:
        """Pass connections again."""
        with self._mutex:
            self._down = False

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._listener.close()
        for one in self._sockets:
            _close(one)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed: the test is over
            while True:
                client, _ = self._listener.accept()
                with self._mutex:
                    if self._down:
                        _close(client)
                        continue
                    server = socket.create_connection(("127.0.0.1", self._target))
                    self._sockets += [client, server]
                doomed = threading.Event()
                for work in (self._upward, self._downward):
                    threading.Thread(target=work, args=(client, server, doomed), name="proxy", daemon=True).start()

    def _upward(self, client: socket.socket, server: socket.socket, doomed: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                torn = self._is_next("_tear", data)
                if self._is_next("_swallow", data):
                    doomed.set()
                server.sendall(data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if torn else data)
                if torn:
                    self.cuts += 1
                    break
        _close(server)

    def _is_next(self, which: str, data: bytes) -> bool:
        with self._mutex:
            request, times = getattr(self, which)
            meant = times > 0 and request in data
            if meant:
                setattr(self, which, (request, times - 1))
            return meant

    def _downward(self, client: socket.socket, server: socket.socket, doomed: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(16384):
                if doomed.is_set() and not data.startswith(b"HTTP/1.1 100 "):
                    self.cuts += 1
                    break
                with self._mutex:
                    if self._budget is not None:
                        self._budget -= len(data)
                        if self._budget < 0:
                            self._budget = None
                            self.cuts += 1
                            break
                client.sendall(data)
        _close(client)
        _close(server)


def _close(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
