"""Files that hold secrets, readable by their owner only from the first byte on; and where a wheel put its program."""

from __future__ import annotations

import os
import secrets
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from shared.engines.process import EngineError

__all__ = ["read_or_create_secret", "wheel_file", "write_private"]


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600, complete or not at all."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def read_or_create_secret(path: Path) -> str:
    """The secret in a file; a random one of 128 bits, in URL-safe characters, is put there first if there is none."""
    if not path.exists():
        write_private(path, secrets.token_urlsafe(16) + "\n")
    return path.read_text().strip()


def wheel_file(package: str, name: str) -> Path:
    """The path of a file that an installed distribution brought, by its name: wheels put programs in various places.

    Raises:
        EngineError: the distribution is not installed, or has no such file on this platform.
    """
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        raise EngineError(f"package {package} is not installed; install the dependency group `sandbox`") from None
    for file in files:
        if file.name == name:
            return Path(str(file.locate())).resolve()
    raise EngineError(f"package {package} has no file {name}; it may not support this platform")
