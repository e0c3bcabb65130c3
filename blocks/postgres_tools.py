"""Client programs of Postgres: which are here, and which of them fits a server."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from blocks.errors import VersionMismatch

DEBIAN = Path("/usr/lib/postgresql")
"""Debian and Ubuntu keep the programs of each major version in <this>/<major>/bin."""


def newest_client(server_major: int) -> int | None:
    """Return the newest major version of clients that can serve a server; None for any that is not older.

    pg_restore 17 sets `transaction_timeout`, which servers before 17 do not know, and nothing older reads what pg_dump 17
    writes: a dump of a 16 server by pg_dump 17 could not be restored to that server.
    """
    return 16 if server_major < 17 else None


def find_tool(name: str, least_major: int, most_major: int | None, bin_dirs: Sequence[str], task: str) -> Path:
    """Find the program of the smallest major version from `least_major` to `most_major`.

    Args:
        name: `pg_dump`, `pg_restore`, `pg_dumpall`. bin_dirs: folders to look in first; then PATH and Debian's.
        task: what a program of another version cannot do, for example `dump a 16 server`.
    Raises:
        VersionMismatch: there is none; says what to install.
    """
    found = sorted(_installed(name, bin_dirs), key=lambda item: item[0])
    for major, path in found:
        if least_major <= major <= (most_major or major):
            return path
    remedy = f"install postgresql-client-{least_major} in the worker image, or name its folder in POSTGRES_BIN_DIRS"
    if not found:
        raise VersionMismatch(f"postgres: there is no {name} here; {remedy}")
    majors = " or ".join(str(major) for major in dict(found))
    raise VersionMismatch(f"postgres: {name} {majors} cannot {task}; {remedy}")


def tool_version(path: Path) -> str:
    """Return the version a program says it is, for example `16.9`.

    Raises:
        VersionMismatch: it does not say.
    """
    version = _version(str(path), path.stat().st_mtime_ns)
    if version is None:
        raise VersionMismatch(f"postgres: {path} does not say its version; reinstall the client programs")
    return version


def major_of(version: str) -> int:
    """Return the major of a version such as `16.9`, `18beta1` or `16.9 (Debian 16.9-1)`."""
    digits = re.match(r"\d+", version)
    return int(digits.group()) if digits else 0


def _installed(name: str, bin_dirs: Sequence[str]) -> Iterator[tuple[int, Path]]:
    """Yield major version and path of every such program, in the order of the folders."""
    usual = [*os.get_exec_path(), *map(str, sorted(DEBIAN.glob("*/bin")))]
    seen: set[Path] = set()
    for folder in [*bin_dirs, *usual]:
        path = Path(folder) / name
        try:
            real = path.resolve(strict=True)
        except (FileNotFoundError, NotADirectoryError, PermissionError):
            continue
        # Debian's pg_wrapper in /usr/bin picks a version by rules of its own; the real ones are below DEBIAN.
        if real in seen or real.name == "pg_wrapper" or not os.access(real, os.X_OK):
            continue
        seen.add(real)
        version = _version(str(real), real.stat().st_mtime_ns)
        if version is not None:
            yield major_of(version), path


@lru_cache(maxsize=64)
def _version(path: str, _modified: int) -> str | None:
    """Ask a program for its version; remembered until the file changes."""
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"\(PostgreSQL\) (\S+)", answer)
    return match.group(1) if match else None
