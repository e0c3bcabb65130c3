"""An S3 server that misbehaves on demand: a proxy in front of a real one that counts requests and breaks the chosen ones.

Everything else passes byte for byte: the Host header, which signatures cover, bodies of any size piece by piece, chunks,
`Expect: 100-continue`, and connections that are kept.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

from shared.faults.traffic import Request, Traffic
from shared.faults.wire import Broken, Head, Stream, close, reset

__all__ = ["S3Proxy"]

_ANSWERS: dict[str, tuple[str, str, str]] = {
    "500": ("500 Internal Server Error", "InternalError", "We encountered an internal error. Please try again."),
    "503": ("503 Service Unavailable", "SlowDown", "Please reduce your request rate."),
    "403": ("403 Forbidden", "AccessDenied", "Access Denied."),
}


class S3Proxy:
    """Listens on 127.0.0.1 in front of one server there. A context manager.

    Args:
        port: of the server. traffic: counts and rules, shared with other proxies or not.
    """

    def __init__(self, port: int, traffic: Traffic) -> None:
        self._target = port
        self._traffic = traffic
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._mutex = threading.Lock()
        self._open: set[socket.socket] = set()
        self._ended = False
        self.port: int = self._listener.getsockname()[1]

    @property
    def url(self) -> str:
        """Where the proxy listens."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="s3-proxy", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._traffic.end()
        with self._mutex:
            self._ended = True
            connections = list(self._open)
        close(self._listener)
        for connection in connections:
            close(connection)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed: it is over
            while True:
                client, _ = self._listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._serve, args=(client,), name="s3-proxy", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """Pass requests of one connection on, one after the other, over one connection to the server."""
        server: socket.socket | None = None
        with self._mutex:
            if self._ended:
                client.close()
                return
            self._open.add(client)
        try:
            front = Stream(client)
            while (head := front.head()) is not None:
                if server is None:
                    server = self._connect()
                if not self._one(front, Stream(server), head):
                    break
        except (Broken, OSError):
            pass  # one of both went away, as they do: the other one is told below
        finally:
            with self._mutex:
                self._open -= {client} if server is None else {client, server}
            close(client)
            if server is not None:
                close(server)

    def _connect(self) -> socket.socket:
        server = socket.create_connection(("127.0.0.1", self._target))
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._mutex:
            self._open.add(server)
        return server

    def _one(self, front: Stream, back: Stream, head: Head) -> bool:
        """Pass one request on, or break it; returns whether the connections stay."""
        passage = self._traffic.came(head.method, head.target)
        request, rule = passage.request, passage.rule
        fault = rule.fault if rule else None
        if fault in _ANSWERS:
            return _answer(front, head, request, str(fault))
        if fault == "refuse":
            reset(front.socket)
            return False
        if rule is not None and fault == "hang":
            self._traffic.released.wait(rule.seconds)
        answer = _pass_request(front, back, head, torn=fault == "tear")
        if answer is None or fault in ("tear", "lose"):
            reset(back.socket)
            reset(front.socket)
            return False
        if rule is not None and fault in ("cut", "truncate"):
            _pass_part(front, back, head, answer, rule.keep)
            (reset if fault == "cut" else close)(front.socket)
            return False
        front.send(answer.raw)
        for piece in back.answer_body(answer, head.method):
            front.send(piece)
        for hook in passage.after:
            hook(request)
        unframed = answer.length is None and not answer.chunked and head.method != "HEAD" and answer.status not in (204, 304)
        return not (head.closes or answer.closes or unframed)


def _pass_request(front: Stream, back: Stream, head: Head, *, torn: bool) -> Head | None:
    """Send a request to the server; returns the head of its answer, None when it was torn."""
    back.send(head.raw)
    if head.waits:
        early = back.head()
        if early is None or early.status != 100:
            return early  # refused without its body
        front.send(early.raw)
    if torn:
        half = (head.length or 0) // 2
        for piece in front.exactly(half):
            back.send(piece)
        return None
    for piece in front.body(head):
        try:
            back.send(piece)
        except Broken:
            break  # a server that refuses a request may answer and close before it has taken the body
    answer = back.head()
    while answer is not None and answer.status < 200:
        front.send(answer.raw)
        answer = back.head()
    if answer is None:
        raise Broken
    return answer


def _pass_part(front: Stream, back: Stream, head: Head, answer: Head, keep: int | None) -> None:
    """Send the head of an answer and the beginning of its body, or half of a head without body."""
    length = answer.length or 0
    if head.method == "HEAD" or not (length or answer.chunked):
        front.send(answer.raw[: len(answer.raw) // 2])
        return
    left = length // 2 if keep is None else min(keep, max(0, length - 1))
    front.send(answer.raw)
    for piece in back.answer_body(answer, head.method):
        front.send(piece[:left])
        left -= len(piece[:left])
        if left <= 0:
            return


def _answer(front: Stream, head: Head, request: Request, which: str) -> bool:
    """Answer in the server's place; the body is read first, unless the client waits to be asked for it."""
    if not head.waits:
        for _ in front.body(head):
            pass
    status, code, message = _ANSWERS[which]
    body = (
        b""
        if head.method == "HEAD"
        else (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>'
            f"<Resource>{head.target.partition('?')[0]}</Resource><RequestId>fault-{request.number}</RequestId></Error>"
        ).encode()
    )
    ending = "close" if head.waits else "keep-alive"
    front.send(
        f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
        f"Connection: {ending}\r\n\r\n".encode()
        + body
    )
    return not head.waits
