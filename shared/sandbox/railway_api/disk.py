"""Directories of data that a running engine works in."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from pathlib import Path

__all__ = ["copy_tree", "megabytes"]


def megabytes(directory: Path) -> float:
    """What the files below a directory take, in MB of 10^6 bytes; of blocks, so that a sparse file counts for what it is."""
    total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # the engine has just removed it
                total += os.lstat(Path(folder) / name).st_blocks * 512
    return total / 1e6


def copy_tree(source: Path, target: Path) -> None:
    """Copy a directory with owners and modes; what vanishes meanwhile is left out, as are sockets."""
    for folder, _, names in os.walk(source):
        here = target / Path(folder).relative_to(source)
        here.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            _same_owner(Path(folder), here)
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                _copy_file(Path(folder) / name, here / name)


def _copy_file(source: Path, target: Path) -> None:
    mode = os.lstat(source).st_mode
    if stat.S_ISREG(mode) or stat.S_ISLNK(mode):
        shutil.copy2(source, target, follow_symlinks=False)
        _same_owner(source, target)


def _same_owner(source: Path, target: Path) -> None:
    found = os.lstat(source)
    if os.geteuid() == 0:
        os.chown(target, found.st_uid, found.st_gid, follow_symlinks=False)
    if not target.is_symlink():
        target.chmod(stat.S_IMODE(found.st_mode))
