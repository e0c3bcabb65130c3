"""Containers without containers: each is a process tree of this machine, each port one of 127.0.0.1.

    runtime = LocalRuntime(directory)
    runtime.pull("redis:8.2.1")
    container = runtime.start(ContainerSpec("redis", "redis:8.2.1", {}, port=6379))
    container.state, container.logs(100), container.probe("/"), container.stop(grace=10)

As on Railway: a start command takes the place of the image's entry point and is no shell command (`$PORT` in it needs
`/bin/sh -c`); SIGTERM goes to the first program only; the file system is new with every start, but for the volume; private
addresses are those of `addresses`, paths those of `paths`. Unlike there: no limits of processor, memory and disk, one user,
and every program can reach every other one.
"""

from __future__ import annotations

import itertools
import shlex
import shutil
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from shared.sandbox.left_overs import end_processes
from shared.sandbox.railway_runtime.addresses import LOCALHOST, Addresses
from shared.sandbox.railway_runtime.catalogue import Catalogue, Image, digest
from shared.sandbox.railway_runtime.container import LocalContainer
from shared.sandbox.railway_runtime.containers import ContainerSpec
from shared.sandbox.railway_runtime.filesystem import lay_out
from shared.sandbox.railway_runtime.forwarding import Route
from shared.sandbox.railway_runtime.images.inside import Inside
from shared.sandbox.railway_runtime.paths import Paths
from shared.sandbox.railway_runtime.ports import PortTable
from shared.sandbox.railway_runtime.registry import IMAGES

__all__ = ["LocalRuntime"]

_LOOK_S = 0.1
_PORT = 8080


class LocalRuntime:
    """Where containers run, as `containers.Runtime` wants it. A context manager. Thread-safe.

    A service's ports are its own as long as the runtime lives. Where a second container of a service is started while the first
    runs, it gets other ports, and the service's lead to the first, the oldest that runs; when that one ends, to the next.

    Args:
        directory: for logs, root folders and the table of ports; emptied of those that an earlier runtime left.
        images: beside those of `registry`.
    """

    def __init__(self, directory: Path, *, images: Iterable[Image] = ()) -> None:
        self.directory = directory.resolve()
        self.catalogue = Catalogue([*IMAGES, *images])
        self._containers_folder = self.directory / "containers"
        shutil.rmtree(self._containers_folder, ignore_errors=True)
        self._containers_folder.mkdir(mode=0o711, parents=True)
        self._ports = PortTable(self.directory / "ports.json")
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._running: list[LocalContainer] = []
        self._routes: dict[str, Route] = {}
        self._volumes: set[Path] = set()
        self._closing = threading.Event()
        threading.Thread(target=self._watch, name="container runtime", daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def pull(self, image: str) -> str:
        """Fetch an image, and return its digest, `sha256:...`.

        Raises:
            ImageMissing: there is none of that name.
            EngineError: what it is made of could not be installed.
        """
        found = self.catalogue.find(image)
        if found.prepare is not None:
            found.prepare(self.directory)
        return digest(image)

    def start(self, spec: ContainerSpec) -> LocalContainer:
        """Start a container and return at once; what goes wrong later is its state and in its log.

        Raises:
            ImageMissing: there is no image of that name.
        """
        image = self.catalogue.find(spec.image)
        service = _host(spec.service)
        self._look()
        with self._lock:
            number = next(self._numbers)
            folder = self._containers_folder / f"{service}-{number}"
            is_alone = all(one.service != service for one in self._running)
            name = service if is_alone else f"{service}#{number}"
            paths, path = lay_out(folder / "root", image, spec.mount)
            port = spec.port or image.port
            inside = Inside(name, spec.image, str(paths.root), str(self._ports.path), spec.mount.path if spec.mount else None)
            inside.write(folder / "container.json")
            container = LocalContainer(
                service,
                name,
                folder,
                self._command(spec, image, paths),
                env={
                    **self._variables(spec, image, paths, name),
                    **inside.variables(folder / "container.json"),
                    "PATH": path,
                    "HOME": str(paths.of("/root")),
                    "TMPDIR": str(paths.of("/tmp")),  # noqa: S108 - of the container
                },
                cwd=paths.of(image.workdir),
                port=None if port is None else self._ports.of(name, port),
                health=image.health,
                ended=self._gone,
            )
            self._running.append(container)
            if spec.mount is not None:
                self._volumes.add(spec.mount.directory)
        return container

    def containers(self, service: str) -> list[LocalContainer]:
        """The containers of a service that run, oldest first."""
        with self._lock:
            return [one for one in self._running if one.service == _host(service)]

    def public_address(self, service: str, port: int) -> str:
        """Where a service's port can be reached from outside its network, `127.0.0.1:<port>`; it stays so."""
        return f"{LOCALHOST}:{self._ports.of(_host(service), port)}"

    def close(self) -> None:
        """Kill every container. What they wrote to their volumes and logs stays."""
        self._closing.set()
        for container in self._look():
            container.stop(0)
        for volume in self._volumes:
            end_processes(volume)  # no process is left, but files that its engine made elsewhere, which the PID file lists

    def _command(self, spec: ContainerSpec, image: Image, paths: Paths) -> list[str]:
        addresses = Addresses(self._ports.of)
        if spec.start_command is None:
            return [paths.in_text(word) for word in image.command]
        try:
            words = shlex.split(paths.in_text(addresses.in_text(spec.start_command)))
        except ValueError as error:
            words = ["sh", "-c", f"echo 'start command: {error}' >&2; exit 127"]
        return words or ["sh", "-c", "echo 'start command: it is empty' >&2; exit 127"]

    def _variables(self, spec: ContainerSpec, image: Image, paths: Paths, name: str) -> dict[str, str]:
        port = spec.port or image.port or _PORT
        platform = {"RAILWAY_VOLUME_MOUNT_PATH": spec.mount.path} if spec.mount else {}
        named = {"PORT": str(port), **platform, **image.variables, **spec.variables}
        if image.listens_on_port:
            said = named["PORT"]
            named["PORT"] = str(self._ports.of(name, int(said) if said.isdigit() else port))
        return {**image.machine, **paths.in_variables(Addresses(self._ports.of).in_variables(named))}

    def _gone(self, container: LocalContainer) -> None:
        with self._lock:
            self._running.remove(container)
            end_processes(container.folder / "root")  # as in `close`
            shutil.rmtree(container.folder / "root", ignore_errors=True)
            self._lead(container.service)

    def _lead(self, service: str) -> None:
        """Let the service's ports lead to its oldest container, unless that one listens there itself."""
        oldest = next((one for one in self._running if one.service == service), None)
        route = self._routes.get(service)
        if route is not None and (oldest is None or route.target != oldest.name):
            del self._routes[service]
            route.close()
            route = None
        if oldest is None or oldest.name == service:
            return
        route = self._routes.setdefault(service, Route(service, oldest.name, self._ports))
        route.extend()

    def _look(self) -> list[LocalContainer]:
        """Look at every container; not under the lock, which a container asks for when it has ended."""
        with self._lock:
            running = list(self._running)
        for container in running:
            container.look()
        return running

    def _watch(self) -> None:
        """Look at every container, again and again: for the times of what it writes, and for its end."""
        while not self._closing.wait(_LOOK_S):
            self._look()
            with self._lock:
                for route in self._routes.values():
                    route.extend()


def _host(service: str) -> str:
    """The first part of a service's private host name."""
    return service.lower().replace(" ", "-")
