"""What every embedded engine is: a server process in a directory of its own."""

from __future__ import annotations

import signal
from pathlib import Path

from shared.engines.process import ManagedProcess

__all__ = ["Engine"]


class Engine:
    """A server in a directory, which keeps its data over stop, kill and start; who derives from it makes `_process`.

    Args:
        directory: made for its owner alone where there is none.
    """

    host = "127.0.0.1"
    grace = 10.0
    """Seconds that `stop` waits before it kills."""

    _process: ManagedProcess

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def running(self) -> bool:
        """Whether the server process is alive."""
        return self._process.running

    @property
    def pid(self) -> int | None:
        """The server's pid, or None."""
        return self._process.pid

    @property
    def log(self) -> Path:
        """What the server wrote."""
        return self._process.log

    def pause(self) -> None:
        """SIGSTOP it: connections are still accepted, by the kernel, and nobody answers."""
        self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT it; nothing happens if it is not paused."""
        self._process.signal(signal.SIGCONT)

    def stop(self, *, grace: float | None = None) -> None:
        """Stop it, so that everything is on disk; killed after `grace` seconds."""
        self.resume()
        self._process.stop(grace=self.grace if grace is None else grace)

    def kill(self) -> None:
        """SIGKILL it; what was acknowledged stays."""
        self._process.kill()
