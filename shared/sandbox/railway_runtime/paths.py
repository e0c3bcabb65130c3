"""Where the paths of a container are on this machine: there is no mount namespace, so names are translated.

The rule: a container has some folders to itself: `/tmp`, `/root`, `/app`, its volume's mount path, and those that its image
names. A path at or below one of them, in a variable or in the start command, is the same path below the container's root
folder; the volume is linked in there. Every other path is the machine's, `/bin/sh` for one. What a program writes to a path
that is built into it is not caught; the programs of the images know this, see `images`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from shared.engines.process import EngineError

__all__ = ["Paths"]

_PLAIN = re.compile(r"[\w./+=@-]+")


class Paths:
    """Translates.

    Args:
        root: the container's root folder. Its name must be one that shells and URLs take as it is.
        folders: paths that the container has to itself. elsewhere: those that are not below its root, and where they are.
    Raises:
        EngineError: the root folder's name has other characters.
    """

    def __init__(self, root: Path, folders: Iterable[str], elsewhere: Mapping[str, Path] | None = None) -> None:
        self.root = root
        self._elsewhere = dict(elsewhere or {})
        if not all(_PLAIN.fullmatch(str(path)) for path in (root, *self._elsewhere.values())):
            raise EngineError(
                f"no container can run below {root}: a shell would not take this name as it is; use another folder"
            )
        names = sorted({one.rstrip("/") for one in (*folders, *self._elsewhere)} - {""}, key=len, reverse=True)
        # At the beginning of a path: not within a longer one, nor after `http:/`; but after `sqlite:///`.
        self._pattern = re.compile(rf"(?:(?<![\w.:/-])|(?<=:///))(?:{'|'.join(map(re.escape, names))})(?![\w.-])")

    def of(self, path: str) -> Path:
        """Where an absolute path of the container is."""
        return Path(self.in_text(path))

    def in_text(self, text: str) -> str:
        """Translate every such path in a text."""
        return self._pattern.sub(lambda found: str(self._elsewhere.get(found[0]) or f"{self.root}{found[0]}"), text)

    def in_variables(self, variables: Mapping[str, str]) -> dict[str, str]:
        """Translate the values of variables."""
        return {name: self.in_text(value) for name, value in variables.items()}
