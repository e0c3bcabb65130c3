"""Which port of this machine stands for which port of a container: a table that containers share with their runtime."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.engines.files import write_private
from shared.engines.process import free_port

__all__ = ["PortTable"]


class PortTable:
    """A file. An entry stays as long as the file does, whether anybody listens there or not.

    Args:
        path: of the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def of(self, name: str, port: int) -> int:
        """The port of 127.0.0.1 that stands for a port; a free one is chosen the first time.

        Args:
            name: of a service, or of a container that has ports of its own. port: as the program in it knows it.
        """
        with self._locked() as table:
            key = f"{name}:{port}"
            if key not in table:
                chosen = free_port()
                while chosen in table.values():
                    chosen = free_port()
                table[key] = chosen
                write_private(self.path, json.dumps(table))
            return table[key]

    def ports(self, name: str) -> list[int]:
        """The ports under a name that anybody has asked for."""
        with self._locked() as table:
            return [int(port) for owner, _, port in (key.rpartition(":") for key in table) if owner == name]

    def has(self, port: int) -> bool:
        """Whether a port of 127.0.0.1 stands for one."""
        with self._locked() as table:
            return port in table.values()

    @contextmanager
    def _locked(self) -> Iterator[dict[str, int]]:
        with self.path.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed
            yield json.loads(self.path.read_text()) if self.path.exists() else {}
