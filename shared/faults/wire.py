"""HTTP/1.1 messages as bytes on a socket: heads read whole, bodies passed on piece by piece, nothing changed on the way.

Signatures cover headers, and the framing of signed chunks lies inside the body, so both pass as they came.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

__all__ = ["Broken", "Head", "Stream", "close", "reset"]

PIECE = 65536
_LONGEST_HEAD = 256 * 1024


class Broken(Exception):
    """The other side closed or reset the connection in the middle of a message."""


@dataclass(frozen=True)
class Head:
    """The first line and the headers of a message.

    Attributes:
        raw: as it came, with the empty line. first: the words of the first line. headers: lower-case name -> value.
    """

    raw: bytes
    first: list[str]
    headers: dict[str, str] = field(repr=False)

    @classmethod
    def parse(cls, raw: bytes) -> Head:
        """Read a head."""
        lines = raw.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines[1:] if line)
        return cls(raw, lines[0].split(" ", 2), {name.strip().lower(): value.strip() for name, _, value in pairs})

    @property
    def method(self) -> str:
        """Of a request."""
        return self.first[0]

    @property
    def target(self) -> str:
        """Path and query of a request."""
        return self.first[1]

    @property
    def status(self) -> int:
        """Of an answer."""
        return int(self.first[1])

    @property
    def closes(self) -> bool:
        """Whether the sender ends the connection after this message."""
        words = self.headers.get("connection", "").lower()
        return "close" in words or ("HTTP/1.0" in (self.first[0], self.first[-1]) and "keep-alive" not in words)

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return "chunked" in self.headers.get("transfer-encoding", "").lower()

    @property
    def length(self) -> int | None:
        """Content-Length."""
        value = self.headers.get("content-length")
        return int(value) if value is not None else None

    @property
    def waits(self) -> bool:
        """Whether the client waits for `100 Continue` before it sends the body."""
        return self.headers.get("expect", "").lower() == "100-continue"


class Stream:
    """One side of a connection, read through a buffer."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self._buffer = bytearray()

    def head(self) -> Head | None:
        """Read the head of the next message; None when the connection ended before it."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > _LONGEST_HEAD:
                raise Broken
            if not self._fill():
                if self._buffer:
                    raise Broken
                return None
        return Head.parse(self._take(end + 4))

    def exactly(self, count: int) -> Iterator[bytes]:
        """Yield so many bytes in pieces."""
        while count:
            if not self._buffer and not self._fill():
                raise Broken
            piece = self._take(min(count, len(self._buffer)))
            count -= len(piece)
            yield piece

    def chunks(self) -> Iterator[bytes]:
        """Yield a chunked body, framing and trailers included."""
        while True:
            size = self._line()
            yield size
            count = int(size.split(b";")[0], 16)
            if count == 0:
                break
            yield from self.exactly(count + 2)
        while (trailer := self._line()) != b"\r\n":
            yield trailer
        yield trailer

    def rest(self) -> Iterator[bytes]:
        """Yield everything until the sender closes."""
        while self._buffer or self._fill():
            yield self._take(len(self._buffer))

    def body(self, head: Head) -> Iterator[bytes]:
        """Yield the body of a request."""
        if head.chunked:
            return self.chunks()
        return self.exactly(head.length or 0)

    def answer_body(self, head: Head, method: str) -> Iterator[bytes]:
        """Yield the body of an answer to a request with this method."""
        if method == "HEAD" or head.status in (204, 304):
            return iter(())
        if head.chunked:
            return self.chunks()
        return self.rest() if head.length is None else self.exactly(head.length)

    def send(self, data: bytes) -> None:
        """Send all of it.

        Raises:
            Broken: nobody takes it.
        """
        self._guarded(lambda: self.socket.sendall(data))

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\r\n")) < 0:
            if not self._fill():
                raise Broken
        return self._take(end + 2)

    def _take(self, count: int) -> bytes:
        piece = bytes(self._buffer[:count])
        del self._buffer[:count]
        return piece

    def _fill(self) -> bool:
        received: list[bytes] = []
        self._guarded(lambda: received.append(self.socket.recv(PIECE)))
        self._buffer += received[0]
        return bool(received[0])

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except OSError:
            raise Broken from None


def close(connection: socket.socket) -> None:
    """End a connection in order; what was sent arrives."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def reset(connection: socket.socket) -> None:
    """End a connection with a reset, as a crashed or overloaded server does."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # shutdown first wakes a thread that reads; with SO_LINGER 0 it is close that resets
    connection.close()
