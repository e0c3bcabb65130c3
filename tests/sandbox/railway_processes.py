"""A runtime for tests of the Railway stand-in: each container is one small Python program, and its image says what it does.

`app:1`, `app:2` and `app:3` answer HTTP: `/` with 200, `/status/<n>` with n. `app:sick` answers 503 whatever it is asked,
`app:mute` listens to nobody, `app:ends` exits 0, `app:crashes` exits 1, `app:stubborn` ignores SIGTERM. A start command
`exit <n>` ends so.
"""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from shared.engines.process import free_port
from shared.sandbox.railway_runtime.containers import ContainerSpec, ContainerState, ImageMissing, LogLine

TAGS = {"1", "2", "3", "sick", "mute", "ends", "crashes", "stubborn"}

# Imports little, for it is started often, and ends with the program that started it, whose end of the pipe closes.
_PROGRAM = """
import os, select, signal, sys
import _socket
image, port, command = sys.argv[1:]
print("started", image, flush=True)
if image.endswith(":stubborn"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if command.startswith("exit "):
    sys.exit(int(command.split()[1]))
if image.endswith(":ends"):
    sys.exit(0)
if image.endswith(":crashes"):
    sys.exit(1)
server = _socket.socket()
server.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
server.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEPORT, 1)
if not image.endswith(":mute"):
    server.bind(("127.0.0.1", int(port)))
    server.listen(8)
while True:
    ready, _, _ = select.select([0, server] if not image.endswith(":mute") else [0], [], [])
    if 0 in ready:
        sys.exit(0)
    fd, _ = server._accept()
    asked = os.read(fd, 4096).split(b" ")[1].decode()
    status = "503" if image.endswith(":sick") else asked.split("/")[2] if asked.startswith("/status/") else "200"
    os.write(fd, ("HTTP/1.1 " + status + " OK\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n").encode())
    os.close(fd)
"""


class ProcessContainer:
    """One program."""

    def __init__(self, spec: ContainerSpec, log: Path, port: int | None = None) -> None:
        self.spec = spec
        self._port = port or free_port()
        self._log = log
        self._asked_to_end = False
        argv = [sys.executable, "-I", "-S", "-c", _PROGRAM, spec.image, str(self._port), spec.start_command or ""]
        with log.open("wb") as output:
            self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=output, stderr=output)

    @property
    def state(self) -> ContainerState:
        status = self._process.poll()
        if status is None:
            return ContainerState.RUNNING
        return ContainerState.EXITED if status == 0 or self._asked_to_end else ContainerState.CRASHED

    def logs(self, limit: int) -> Sequence[LogLine]:
        lines = self._log.read_text().splitlines()[-limit:]
        at = datetime.fromtimestamp(self._log.stat().st_mtime, UTC)
        return [LogLine(at, line) for line in lines]

    def probe(self, path: str) -> int | None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except OSError:
            return None
        finally:
            connection.close()

    def stop(self, grace: float) -> None:
        self._asked_to_end = True
        self._process.terminate()
        try:
            self._process.wait(grace)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._end()

    def kill(self) -> None:
        """As when memory runs out."""
        self._process.kill()
        self._end()

    def freeze(self) -> None:
        """As when it hangs: it still runs, and answers nobody."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def _end(self) -> None:
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()


class ProcessRuntime:
    """Attributes:
    containers: all that were started, in order. pulled: the images that were asked for. missing: tags that are gone.

    Args:
        ports: where the containers of some services listen, by their names; the others each on a port of its own.
    """

    def __init__(self, directory: Path, ports: Mapping[str, int] | None = None) -> None:
        self._directory, self._ports = directory, ports or {}
        self._lock = threading.Lock()
        self._addresses: dict[tuple[str, int], str] = {}
        self.containers: list[ProcessContainer] = []
        self.pulled: list[str] = []
        self.missing: set[str] = set()

    def pull(self, image: str) -> str:
        self.pulled.append(image)
        name, _, tag = image.partition(":")
        if name != "app" or tag not in TAGS or image in self.missing:
            raise ImageMissing(image)
        return f"sha256:{tag:0>64}"

    def start(self, spec: ContainerSpec) -> ProcessContainer:
        with self._lock:
            log = self._directory / f"container-{len(self.containers)}.log"
            container = ProcessContainer(spec, log, self._ports.get(spec.service))
            self.containers.append(container)
            return container

    def public_address(self, service: str, port: int) -> str:
        with self._lock:
            return self._addresses.setdefault((service, port), f"127.0.0.1:{free_port()}")

    def close(self) -> None:
        for container in self.containers:
            container.stop(0)

    def of(self, service: str) -> list[ProcessContainer]:
        """The containers of a service, in order."""
        return [one for one in self.containers if one.spec.service == service]

    def running(self, service: str) -> list[ProcessContainer]:
        """Those of them that run."""
        return [one for one in self.of(service) if one.state is ContainerState.RUNNING]
