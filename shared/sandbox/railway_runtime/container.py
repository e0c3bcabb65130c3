"""A container that is a process tree of this machine."""

from __future__ import annotations

import http.client
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from shared.engines import supervisor
from shared.engines.process import ManagedProcess
from shared.sandbox.railway_runtime.addresses import LOCALHOST
from shared.sandbox.railway_runtime.containers import ContainerState, LogLine
from shared.sandbox.railway_runtime.logs import Output

__all__ = ["LocalContainer"]

_HOST = "healthcheck.railway.app"
_PROBE_S = 5.0
_LOOK_S = 0.02


class LocalContainer:
    """A program of a service, with all that it starts.

    Args:
        service: whose it is. name: under which its ports stand in the table of ports.
        folder: its own. argv, env, cwd: of its first program.
        port: of this machine, that health checks go to; None where it has none. health: paths that are others here.
        ended: called once, when everything has ended, by whoever notices it.
    """

    def __init__(
        self,
        service: str,
        name: str,
        folder: Path,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        port: int | None,
        health: Mapping[str, str],
        ended: Callable[[LocalContainer], None],
    ) -> None:
        self.service = service
        self.name = name
        self.folder = folder
        self.exit_status: int | None = None
        """Of its first program, 128 + n after signal n; None while it runs, and where it had to be killed by `stop`."""
        self._port = port
        self._health = health
        self._ended = ended
        log = folder / "output.log"
        self._output = Output(log)
        self._state = ContainerState.RUNNING
        self._is_asked = False
        self._lock = threading.RLock()
        self._process = ManagedProcess(f"container of {service}", argv, log=log, env=env, cwd=cwd)
        self._process.launch()

    @property
    def state(self) -> ContainerState:
        """RUNNING; EXITED with status 0 or because of `stop`; CRASHED with another status."""
        self.look()
        return self._state

    def logs(self, limit: int) -> Sequence[LogLine]:
        """The last lines that its programs wrote, oldest first."""
        return self._output.lines(limit)

    def probe(self, path: str) -> int | None:
        """GET a path on its port as Railway does before it lets requests in: any address of it, its own Host header.

        Returns: the status, a redirection's included; None where nobody answers within five seconds.
        """
        if self._port is None or self.state is not ContainerState.RUNNING:
            return None
        plain, mark, query = path.partition("?")
        connection = http.client.HTTPConnection(LOCALHOST, self._port, timeout=_PROBE_S)
        try:
            connection.request("GET", self._health.get(plain, plain) + mark + query, headers={"Host": _HOST})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def stop(self, grace: float) -> None:
        """SIGTERM its first program, as the platform does, and kill all after `grace` seconds; returns when it is gone."""
        with self._lock:
            self._is_asked = True
            pid = self._process.pid
            if pid is not None:
                supervisor.send(pid, signal.SIGTERM)  # not its group: what it started is its own business
        deadline = time.monotonic() + grace
        while self._process.running and time.monotonic() < deadline:
            self._output.follow()
            time.sleep(_LOOK_S)
        with self._lock:
            if self._process.running:
                self._process.kill()
            self.look()

    def kill(self) -> None:
        """SIGKILL everything, as when memory runs out: it crashes."""
        pid = self._process.pid
        if pid is not None:
            supervisor.send(pid, signal.SIGKILL)
        while self._process.running:  # its supervisor ends the others, and cannot fail to
            time.sleep(_LOOK_S)
        self.look()

    def freeze(self) -> None:
        """SIGSTOP everything in it: connections are accepted, and nobody answers."""
        self._all(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT everything in it."""
        self._all(signal.SIGCONT)

    def look(self) -> None:
        """Notice what has happened since the last look."""
        with self._lock:
            if self._state is not ContainerState.RUNNING:
                return
            if self._process.running:
                self._output.follow()
                return
            self.exit_status = self._process.exit_status
            self._process.kill()  # nothing is left; gives back what watched it
            self._output.follow(ended=True)
            fine = self._is_asked or self.exit_status == 0
            self._state = ContainerState.EXITED if fine else ContainerState.CRASHED
        self._ended(self)

    def _all(self, number: int) -> None:
        """Signal all its processes, those that an engine started in sessions of their own, too."""
        pid = self._process.pid
        if pid is not None:
            for one in (pid, *supervisor.descendants(pid)):
                supervisor.send(one, number)
