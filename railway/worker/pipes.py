"""What flow processes write while nobody reads it: their worker was killed, or is held still.

A worker reads what its flow processes write through pipes. Once it has been killed, the next line that a flow logs meets a
broken pipe, and Rich, which Prefect logs with, answers that by SystemExit (rich/console.py, `on_broken_pipe`). Prefect logs
"Crash detected!" before it tells a run's state (prefect/flow_engine.py, `handle_crash`): so the state was never told, and the
run stayed Running although every `finally` had run. And while a worker is held still, a flow that logs more than a pipe holds
(64 kB) would wait. So the pipes get another reader: Linux opens either end of one through /proc, also after the last reader
has gone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["Listener"]

_STREAMS = (1, 2)
_CHUNK = 65536


class Listener:
    """Reads the output of processes beside their parent, or in its place, and passes it on. Close it.

    Args:
        sink: file descriptor that everything is written to; the container's log.
    """

    def __init__(self, sink: int = 2) -> None:
        self._sink = sink
        self._readers: dict[str, int] = {}

    def listen(self, pids: Iterable[int]) -> None:
        """Read standard output and error of these processes from now on, where they are pipes."""
        for pid in pids:
            for stream in _STREAMS:
                path = Path(f"/proc/{pid}/fd/{stream}")
                try:
                    pipe = str(path.readlink())
                    if pipe.startswith("pipe:") and pipe not in self._readers:
                        self._readers[pipe] = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                except OSError:
                    continue  # it has ended meanwhile, or is not ours

    def pass_on(self) -> None:
        """Pass on what has been written since; never waits for more."""
        for pipe, reader in list(self._readers.items()):
            try:
                while data := os.read(reader, _CHUNK):
                    os.write(self._sink, data)
            except BlockingIOError:
                continue
            os.close(self._readers.pop(pipe))  # no writer is left

    def close(self) -> None:
        """Pass on the rest, and read no more."""
        self.pass_on()
        for reader in self._readers.values():
            os.close(reader)
        self._readers.clear()
