"""Where the gateway's state comes from: Prefect's variables, or a file."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Protocol

from pydantic import ValidationError

from blocks.errors import ServiceError
from flows.health.published import Published, read_published

__all__ = ["FileSource", "PrefectSource", "Source"]


class Source(Protocol):
    """Somewhere that sweeps publish to."""

    def read(self) -> Published | None:
        """Return what was published last, None where nothing was yet.

        Raises:
            ServiceError: it cannot be asked now.
            IntegrityError: what is there is damaged; the next sweep writes it anew.
        """


class PrefectSource:
    """What the stack's sweeps keep in Prefect's variables.

    Args:
        stack: name.
    """

    def __init__(self, stack: str) -> None:
        self._stack = stack

    def read(self) -> Published | None:
        """Ask Prefect's API; from a thread without an event loop."""
        return asyncio.run(read_published(self._stack))


class FileSource:
    """A file with what was published, as JSON: for tests and for looking at a page without a stack.

    Args:
        path: need not exist.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> Published | None:
        """Read the file."""
        try:
            return Published.model_validate(json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, ValidationError):
            raise ServiceError("state: the file is not what a sweep publishes; have a sweep write it anew") from None
