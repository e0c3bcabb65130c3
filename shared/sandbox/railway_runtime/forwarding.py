"""How a service's ports lead to a container that does not listen there itself, since another did when it was started."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading

from shared.sandbox.railway_runtime.ports import PortTable

__all__ = ["Forwarder", "Route"]

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: a close sends RST at once
_PIECE = 1 << 16


class Forwarder:
    """Listens on a port of 127.0.0.1 and passes every connection to another one, until `close`.

    Where nobody listens behind it, a connection is reset instead of refused.

    Args:
        port: to listen on. target: to connect to.
    Raises:
        OSError: the port is taken.
    """

    def __init__(self, port: int, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, name=f"forward {port}", daemon=True).start()

    def close(self) -> None:
        """Listen no more; connections that are open are cut."""
        _close(self._listener)
        with self._lock:
            connections, self._open = list(self._open), set()
        for one in connections:
            _close(one)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed: it is over
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), name="forward", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            client.close()
            return
        pair = {client, server}
        with self._lock:
            self._open |= pair
        back = threading.Thread(target=_pass, args=(server, client), name="forward", daemon=True)
        back.start()
        _pass(client, server)
        back.join()
        with self._lock:
            self._open -= pair
        for one in pair:
            _close(one)


class Route:
    """All ports of a service, forwarded to those of one container. Not thread-safe.

    Args:
        service: whose. target: the container's name in the table of ports.
    """

    def __init__(self, service: str, target: str, table: PortTable) -> None:
        self.target = target
        self._service = service
        self._table = table
        self._forwarders: dict[int, Forwarder] = {}

    def extend(self) -> None:
        """Forward those that somebody has asked for since the last time."""
        for port in set(self._table.ports(self._service)) - set(self._forwarders):
            with contextlib.suppress(OSError):  # still held by who has just ended: next time
                self._forwarders[port] = Forwarder(self._table.of(self._service, port), self._table.of(self.target, port))

    def close(self) -> None:
        """Forward nothing any more."""
        for forwarder in self._forwarders.values():
            forwarder.close()


def _pass(source: socket.socket, target: socket.socket) -> None:
    """Pass bytes one way until their end, and the end, too."""
    with contextlib.suppress(OSError):  # one of both went away, as they do
        while data := source.recv(_PIECE):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _close(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
