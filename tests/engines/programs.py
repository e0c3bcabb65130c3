"""Runs Python code as a separate program, to be killed or to end in its own way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.engines import supervisor

REPOSITORY = Path(__file__).parents[2]


@contextmanager
def program(code: str, *arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the code, wait for the first line it prints, yield both; the program is killed at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def is_alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    return supervisor.start_time(pid) is not None


def command_lines(pid: int) -> str:
    """The arguments of a process and all its descendants, as every user of the machine can read them."""
    return "\n".join(
        Path(f"/proc/{one}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        for one in [pid, *supervisor.descendants(pid)]
        if is_alive(one)
    )


def sockets_since(began: Path, ports: Iterable[int]) -> list[Path]:
    """The Unix sockets of a server's ports that were made after a file; /tmp may hold others' with the same numbers."""
    found = [path for port in ports for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock")]  # noqa: S108
    return [path for path in found if path.stat().st_mtime_ns >= began.stat().st_mtime_ns]
