"""What the programs of the images know about the container that they run in."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn, Self

from shared.engines.files import write_private
from shared.sandbox.railway_runtime.ports import PortTable

__all__ = ["HOST", "Inside", "become", "die", "say"]

HOST = "127.0.0.1"
"""What every program listens on, whatever it is told."""

_VARIABLE = "SANDBOX_CONTAINER"


@dataclass(frozen=True)
class Inside:
    """Written by the runtime, read by programs.

    Attributes:
        name: under which its ports stand in the table. image: with tag. root: its root folder.
        table: path of the table of ports. mount: where its volume is, as the container sees it, or None.
    """

    name: str
    image: str
    root: str
    table: str
    mount: str | None

    def write(self, path: Path) -> None:
        """Put it in a file."""
        write_private(path, json.dumps(asdict(self)))

    @staticmethod
    def variables(path: Path) -> dict[str, str]:
        """What leads programs to the file."""
        return {_VARIABLE: str(path)}

    @classmethod
    def read(cls) -> Self:
        """Read what `write` wrote."""
        return cls(**json.loads(Path(os.environ[_VARIABLE]).read_text()))

    def port(self, port: int) -> int:
        """The port of 127.0.0.1 to listen on for one of the container."""
        return PortTable(Path(self.table)).of(self.name, port)

    def is_private(self, port: int) -> bool:
        """Whether this port of 127.0.0.1 is one of the private network's."""
        return PortTable(Path(self.table)).has(port)

    def path(self, path: str) -> Path:
        """Where one of the container's own paths is."""
        return Path(self.root + path)

    def seen(self, path: Path) -> str:
        """What the container calls one of its own paths."""
        return f"/{path.relative_to(self.root)}" if path.is_relative_to(self.root) else str(path)


def become(program: str, arguments: Sequence[str], variables: Mapping[str, str] | None = None) -> NoReturn:
    """Go on as another program.

    Args:
        program: its path, also its argument 0. arguments: those after that. variables: all of them; default ours
            without the path on which Python finds this project.
    """
    if variables is None:
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    os.execve(program, [program, *arguments], variables)  # noqa: S606 - no shell is the point


def say(line: str) -> None:
    """Write to the container's log."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def die(line: str, status: int = 1) -> NoReturn:
    """Write to the container's log, and end."""
    say(line)
    sys.exit(status)
