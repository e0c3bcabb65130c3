"""What is done to a flow while it runs: one class for each way, armed before the run and taken back after it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from shared.faults.flows import FlowProcess
from shared.faults.ground import Ground
from shared.faults.traffic import Match, Request, Rule, Trigger

__all__ = [
    "Damage",
    "Disturbance",
    "FileLimit",
    "FullDisk",
    "Kill",
    "Restart",
    "Run",
    "StoreFault",
    "Undisturbed",
    "may_mount",
    "small_disk",
]


@dataclass
class Run:
    """One run of a flow that is disturbed.

    Attributes:
        process: from its start on. environment: variables that it gets besides. file_limit: bytes of a file, 0 for no limit.
        happened: what the disturbance did, in words. removed: keys of objects that it took out of the store.
    """

    process: FlowProcess | None = None
    environment: dict[str, str] = field(default_factory=dict)
    file_limit: int = 0
    happened: str = ""
    removed: set[str] = field(default_factory=set)
    started: threading.Event = field(default_factory=threading.Event)

    def kill(self, request: Request) -> None:
        """SIGKILL the process, as soon as it is known."""
        self.started.wait(30)
        if self.process is not None and self.process.running:
            self.process.kill()
            self.happened = f"killed at request {request.number}, {request}"


class Disturbance(Protocol):
    """Something that happens to a run."""

    def around(self, ground: Ground, run: Run) -> contextlib.AbstractContextManager[None]:
        """Return a context in which the run is disturbed."""
        ...


class Undisturbed:
    """Nothing: the measure of all others."""

    @contextlib.contextmanager
    def around(self, ground: Ground, run: Run) -> Iterator[None]:
        """Count the requests."""
        ground.traffic.begin()
        yield


@dataclass
class Kill:
    """SIGKILL at a request: before it is passed on, or after its answer was."""

    match: Callable[[], Match]
    after: bool = False

    @contextlib.contextmanager
    def around(self, ground: Ground, run: Run) -> Iterator[None]:
        """Kill when it comes."""
        ground.traffic.begin(Trigger(run.kill, self.match(), after=self.after))
        yield
        ground.traffic.end()


@dataclass
class StoreFault:
    """The store misbehaves."""

    rule: Callable[[], Rule]

    @contextlib.contextmanager
    def around(self, ground: Ground, run: Run) -> Iterator[None]:
        """Break requests as the rule says."""
        ground.traffic.begin(self.rule())
        yield
        ground.traffic.end()
        hits = ground.traffic.hits
        run.happened = f"{hits[0]}{f' and {len(hits) - 1} more' if len(hits) > 1 else ''}" if hits else "no request fitted"


@dataclass
class Restart:
    """An engine is killed at a request, and started again at once."""

    engine: Literal["postgres", "clickhouse", "store"]
    match: Callable[[], Match]

    @contextlib.contextmanager
    def around(self, ground: Ground, run: Run) -> Iterator[None]:
        """Kill it when the request comes."""
        engine = getattr(ground.sandbox, self.engine)
        starts: list[threading.Thread] = []

        def restart(request: Request) -> None:
            engine.kill()
            run.happened = f"{self.engine} killed at request {request.number}, {request}"
            starts.append(threading.Thread(target=engine.start, name="restart"))
            starts[0].start()

        ground.traffic.begin(Trigger(restart, self.match()))
        try:
            yield
        finally:
            ground.traffic.end()
            for thread in starts:
                thread.join()


@dataclass
class FullDisk:
    """The folder of a drill's engines has no more than so many bytes."""

    size: int

    @contextlib.contextmanager
    def around(self, ground: Ground, run: Run) -> Iterator[None]:
        """Give the run such a folder."""
        ground.traffic.begin()
        with small_disk(ground.sandbox.directory / "small-disk", self.size) as folder:
            run.environment["DRILL_DIRECTORY"] = str(folder)
            run.happened = f"a disk of {self.size / 1e6:.0f} MB"
            yield
            left = sorted(path.name for path in folder.iterdir())
            run.happened += f", left behind: {', '.join(left)}" if left else ""


@dataclass
class FileLimit:
    """No file of the flow and its engines grows beyond so many bytes: where no small disk may be mounted."""

    size: int

    @contextlib.contextmanager
    def around(self, ground: Ground, run: Run) -> Iterator[None]:
        """Limit the run."""
        ground.traffic.begin()
        run.file_limit = self.size
        run.happened = f"files of at most {self.size / 1e6:.0f} MB"
        yield


@dataclass
class Damage:
    """Objects of the store are changed before the run, and put back after it."""

    what: Callable[[Ground], Iterable[tuple[str, bytes | None]]]
    """Key and what it is replaced by; None for nothing."""

    @contextlib.contextmanager
    def around(self, ground: Ground, run: Run) -> Iterator[None]:
        """Change them."""
        ground.traffic.begin()
        changed = list(self.what(ground))
        before = {key: ground.store.get(key) for key, _ in changed}
        run.happened = ", ".join("/".join(key.split("/")[-2:]) for key in before)
        run.removed = {key for key, data in changed if data is None}
        for key, data in changed:
            if data is None:
                ground.store.remove([key])
            else:
                ground.store.put(key, data)
        try:
            yield
        finally:
            for key, data in before.items():
                ground.store.put(key, data)


def may_mount() -> bool:
    """Say whether this user may mount file systems."""
    return os.geteuid() == 0


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[Path]:
    """Mount a file system in memory that is full after so many bytes; needs root.

    Raises:
        OSError: it may not be mounted.
    """
    folder.mkdir(mode=0o711, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, f"size={size},mode=711".encode()) != 0:
        raise OSError(ctypes.get_errno(), f"cannot mount a small disk: {os.strerror(ctypes.get_errno())}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=False)
