"""What the stand-in of Railway's API asks of whatever runs its containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

__all__ = ["Container", "ContainerSpec", "ContainerState", "ImageMissing", "LogLine", "Mount", "Runtime"]


class ImageMissing(Exception):
    """No registry has this tag (any more), as with `minio/minio` since September 2026."""


class ContainerState(StrEnum):
    """As the instances of a deployment: `DeploymentInstanceStatus` knows more, a process does not."""

    RUNNING = "RUNNING"
    EXITED = "EXITED"
    CRASHED = "CRASHED"


@dataclass(frozen=True)
class Mount:
    """A volume in a container.

    Attributes:
        directory: the volume's data on this machine; stays when the container ends. path: where the container sees it.
    """

    directory: Path
    path: str


@dataclass(frozen=True)
class ContainerSpec:
    """What is to be started.

    Attributes:
        service: its name, which is its host name as `<service>.railway.internal`, too. image: with tag, as configured.
        variables: rendered: no reference is left, private host names are. start_command: instead of the image's, or None.
        mount: its volume, or None. port: what the platform would send its health check to (PORT), or None.
    """

    service: str
    image: str
    variables: Mapping[str, str]
    start_command: str | None = None
    mount: Mount | None = None
    port: int | None = None


@dataclass(frozen=True)
class LogLine:
    """One line that a container wrote."""

    at: datetime
    message: str
    severity: str = "info"


class Container(Protocol):
    """One process tree."""

    @property
    def state(self) -> ContainerState:
        """What it does."""
        ...

    def logs(self, limit: int) -> Sequence[LogLine]:
        """The last lines, oldest first."""
        ...

    def probe(self, path: str) -> int | None:
        """GET a path on its port as the platform's health check does; the status, None where nobody answers."""
        ...

    def stop(self, grace: float) -> None:
        """SIGTERM, and SIGKILL after `grace` seconds; returns when it is gone."""
        ...


class Runtime(Protocol):
    """Where containers run."""

    def pull(self, image: str) -> str:
        """Fetch an image, and return its digest, `sha256:...`.

        Raises:
            ImageMissing: there is none of that name.
        """
        ...

    def start(self, spec: ContainerSpec) -> Container:
        """Start a container and return at once; what goes wrong later is the container's state and log."""
        ...

    def public_address(self, service: str, port: int) -> str:
        """Where a service's port can be reached from outside its network, `127.0.0.1:<port>`; the same as long as it lives."""
        ...

    def close(self) -> None:
        """End everything."""
        ...
