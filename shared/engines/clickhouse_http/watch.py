"""Clients that go away while their query runs."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Watch"]

_PERIOD_SECONDS = 0.25


class Watch:
    """Looks at the sockets of running queries, and reports those that their clients have closed.

    Args:
        gone: called with the query id, once, from this object's thread.
    """

    def __init__(self, gone: Callable[[str], None]) -> None:
        self._gone = gone
        self._lock = threading.Lock()
        self._sockets: dict[str, socket.socket] = {}
        self._stop = threading.Event()
        threading.Thread(target=self._run, name="watch", daemon=True).start()

    @contextmanager
    def watching(self, query_id: str, connection: socket.socket) -> Iterator[None]:
        """Watch a connection for as long as its request has been read and the query runs."""
        with self._lock:
            self._sockets[query_id] = connection
        try:
            yield
        finally:
            with self._lock:
                self._sockets.pop(query_id, None)

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()

    def _run(self) -> None:
        while not self._stop.wait(_PERIOD_SECONDS):
            with self._lock:
                closed = [query_id for query_id, connection in self._sockets.items() if _closed(connection)]
                for query_id in closed:
                    del self._sockets[query_id]
            for query_id in closed:
                self._gone(query_id)


def _closed(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN | select.POLLRDHUP)
    return any(events & (select.POLLRDHUP | select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))
