"""The folders of a container, as its image would have brought them: programs on PATH, folders to write to, the volume."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path

from shared.sandbox.railway_runtime.catalogue import Image
from shared.sandbox.railway_runtime.containers import Mount
from shared.sandbox.railway_runtime.paths import Paths

__all__ = ["lay_out"]

_REPOSITORY = Path(__file__).resolve().parents[3]
_EVERY = ("/tmp", "/root", "/app")  # noqa: S108 - names within the container
_BIN = "/bin-of-image"


def lay_out(root: Path, image: Image, mount: Mount | None) -> tuple[Paths, str]:
    """Make a root folder.

    Args:
        root: to be made. image: whose programs and folders it gets. mount: of its volume, or None.
    Returns: the translation of the container's paths, and its PATH.
    Raises:
        EngineError: the name of `root` cannot be used.
    """
    absolute = [name for name in image.programs if name.startswith("/")]
    mounted = [mount.path.rstrip("/")] if mount else []
    folders = [one for one in (*_EVERY, *image.folders) if one not in image.elsewhere and one not in mounted]
    paths = Paths(root, [*folders, *mounted, *absolute], {**_project_below(folders), **image.elsewhere})
    root.mkdir(mode=0o711, parents=True)
    for folder in (*folders, _BIN):
        (root / folder.lstrip("/")).mkdir(parents=True, exist_ok=True)
    if mount:
        mount.directory.mkdir(mode=0o711, parents=True, exist_ok=True)
        place = root / mount.path.strip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(mount.directory.resolve(), target_is_directory=True)
    for name, module in image.programs.items():
        program = root / (name.lstrip("/") if name.startswith("/") else f"{_BIN.lstrip('/')}/{name}")
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(_script(module))
        program.chmod(0o755)
    return paths, f"{root}{_BIN}:/usr/local/bin:/usr/bin:/bin"


def _project_below(folders: Iterable[str]) -> dict[str, Path]:
    """The project's own folder, where it lies in one that containers have to themselves: variables name files in it."""
    return {str(_REPOSITORY): _REPOSITORY} if any(_REPOSITORY.is_relative_to(one) for one in folders) else {}


def _script(module: str) -> str:
    """A program that runs a module of `images`; `exec` runs its arguments, as entry points of images do in the end."""
    if module == "exec":
        return '#!/bin/sh\nexec "$@"\n'
    module, *arguments = module.split()
    start = [sys.executable, "-P", "-m", f"shared.sandbox.railway_runtime.images.{module}", *arguments]
    return f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(_REPOSITORY))} exec {shlex.join(start)} "$@"\n'
