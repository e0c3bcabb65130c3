"""Where the containers of these tests run: nowhere. They come up, or do not, and SETUP says what it would say."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from flows.deploy import setup
from shared.sandbox.railway_runtime.containers import ContainerSpec, ContainerState, LogLine


@dataclass
class QuietContainer:
    """One container: runs until it is stopped, or has ended already."""

    spec: ContainerSpec
    state: ContainerState
    lines: Sequence[str] = ()
    healthy: bool = True

    def logs(self, limit: int) -> Sequence[LogLine]:
        now = datetime.now(UTC)
        return [LogLine(now, line) for line in list(self.lines)[-limit:]]

    def probe(self, path: str) -> int | None:
        return 200 if self.healthy else 503

    def stop(self, grace: float) -> None:
        self.state = ContainerState.EXITED


@dataclass
class QuietRuntime:
    """Attributes:
    started: every container, in order. sick: services that never get well. broken: SETUP ends with an error that says this.
    """

    started: list[QuietContainer] = field(default_factory=list)
    sick: set[str] = field(default_factory=set)
    broken: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)

    def pull(self, image: str) -> str:
        return "sha256:" + "0" * 64

    def start(self, spec: ContainerSpec) -> QuietContainer:
        container = QuietContainer(spec, ContainerState.RUNNING, ["up"], healthy=spec.service not in self.sick)
        if "flows.deploy.setup" in (spec.start_command or ""):
            state = ContainerState.CRASHED if self.broken else ContainerState.EXITED
            lines = [f"setup: {self.broken}"] if self.broken else ["roles and databases: created", setup.DONE]
            container = QuietContainer(spec, state, lines)
        with self.lock:
            self.started.append(container)
        return container

    def public_address(self, service: str, port: int) -> str:
        return f"127.0.0.1:{10000 + port}"

    def close(self) -> None:
        for container in self.started:
            container.stop(0)

    def names(self) -> list[str]:
        """The services whose containers were started, in order."""
        with self.lock:
            return [one.spec.service for one in self.started]

    def last(self, service: str) -> ContainerSpec:
        """What the newest container of a service was started with."""
        with self.lock:
            return [one.spec for one in self.started if one.spec.service == service][-1]
