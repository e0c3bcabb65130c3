"""Make sure that a directory is used by one sandbox at a time, and begin with an empty one.

Engines end with the program that started them, by SIGKILL too (`shared.engines.supervisor`). What is found here is the rest:
engines whose supervisor was killed as well, and data.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path

from shared.engines.object_store import S3Engine
from shared.engines.postgres import PostgresEngine
from shared.engines.process import EngineError, ManagedProcess

__all__ = ["DirectoryLock", "end_processes", "free_what_the_kernel_holds", "wipe"]


class DirectoryLock:
    """A lock beside a directory, `<directory>.lock`, which the kernel frees when the holder ends in whatever way."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory.with_name(directory.name + ".lock")
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            EngineError: another program holds it.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 20).decode().strip()
            os.close(file)
            raise EngineError(f"{self._directory} is in use by the sandbox of process {holder}; end that one first") from None
        os.truncate(file, 0)
        os.write(file, f"{os.getpid()}\n".encode())
        self._file = file

    def release(self) -> None:
        """Give the lock back; nothing happens if it is not held."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def end_processes(directory: Path) -> None:
    """End every engine that an earlier, dead, program left running below a directory."""
    for pid_file in directory.rglob("*.pid"):
        log = pid_file.with_suffix(".log")
        if log.exists():  # Postgres' own postmaster.pid, among others, has none
            ManagedProcess("an engine left over", [], log=log).end_left_over()


def free_what_the_kernel_holds(directory: Path) -> None:
    """Remove shared memory and sockets outside a sandbox's directory, which only the engines can find."""
    if (directory / "postgres").exists():
        PostgresEngine(directory / "postgres").kill()
    for name in ("s3", "s3-copies"):
        if (directory / name).exists():
            S3Engine(directory / name).kill()


def wipe(directory: Path) -> None:
    """Empty a directory, whose processes have ended."""
    if directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(mode=0o711, parents=True)  # Postgres may have to be another user, and must pass
