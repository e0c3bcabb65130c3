"""Which images there are, and what is found by the name of an image.

Registries keep no promise: `withdraw` takes an image away, as `bitnami/redis:7.2` went; `untag` only its tag: who knows its
digest still gets it, for a while. `publish` adds an image, as the next release of a program does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shared.sandbox.railway_runtime.containers import ImageMissing
from shared.sandbox.railway_runtime.manifests import index, sha256

__all__ = ["Catalogue", "Image", "digest", "plain", "version"]

_SAME = ("docker.io/", "index.docker.io/", "docker.langfuse.com/", "library/")


@dataclass(frozen=True)
class Image:
    """A program of this machine that is what an image is.

    Attributes:
        repositories: names without tag; the first is the usual one. tags: all that there are.
        command: ENTRYPOINT and CMD. programs: a name on PATH, or an absolute path, and the module of `images`, with arguments,
            that runs then, or `exec`; those of the machine are there, too.
        port: that its program listens on where nobody says otherwise. folders: that it has, see `paths`.
        elsewhere: folders that are not below the container's root, and where they are. workdir: WORKDIR. variables: ENV.
        machine: variables besides, about this machine and not about the container: no path in them is translated.
        listens_on_port: its programs listen on $PORT as it is, so $PORT has to be the port of this machine.
        health: paths that the original answers health checks at, and where this program does.
        prepare: what a pull has to do, given a folder for logs.
    """

    repositories: tuple[str, ...]
    tags: tuple[str, ...]
    command: tuple[str, ...]
    programs: Mapping[str, str] = field(default_factory=dict)
    port: int | None = None
    folders: tuple[str, ...] = ()
    elsewhere: Mapping[str, Path] = field(default_factory=dict)
    workdir: str = "/app"
    variables: Mapping[str, str] = field(default_factory=dict)
    machine: Mapping[str, str] = field(default_factory=dict)
    listens_on_port: bool = False
    health: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], None] | None = None


class Catalogue:
    """A registry of registries.

    Args:
        images: what it begins with; later ones hide earlier ones of the same name and tag.
    """

    def __init__(self, images: Iterable[Image]) -> None:
        self._images = {f"{name}:{tag}": image for image in images for name in image.repositories for tag in image.tags}
        self._untagged: dict[str, Image] = {}

    def find(self, reference: str) -> Image:
        """What an image is.

        Args:
            reference: `repository:tag`, with `@sha256:...` or not; without a tag `latest`.
        Raises:
            ImageMissing: no registry has it.
        """
        name = plain(reference)
        if name in self._untagged and digest(reference) == digest(name) and "@" in reference:
            return self._untagged[name]
        if name not in self._images:
            repository = name.rpartition(":")[0]
            there = sorted(one.rpartition(":")[2] for one in self._images if one.rpartition(":")[0] == repository)
            known = f"it has {', '.join(there)}" if there else "nor any other tag of it"
            raise ImageMissing(f"manifest of {reference} unknown: this registry does not have it, {known}")
        return self._images[name]

    def tags(self, repository: str) -> list[str]:
        """The tags that there are in a repository, in the order of a registry; none where there is no such repository."""
        wanted = plain(repository).rpartition(":")[0]
        # A copy: a registry is asked by other threads than those that publish and withdraw.
        return sorted(name.rpartition(":")[2] for name in list(self._images) if name.rpartition(":")[0] == wanted)

    def names(self, repository: str) -> list[str]:
        """The names of all images in a repository, of those that have no tag any more, too: they have their digest."""
        wanted = plain(repository).rpartition(":")[0]
        return sorted(name for name in [*self._images, *self._untagged] if name.rpartition(":")[0] == wanted)

    def publish(self, image: Image) -> None:
        """Add an image, in the place of those of its names that there are."""
        names = [f"{name}:{tag}" for name in image.repositories for tag in image.tags]
        self._images |= dict.fromkeys(names, image)
        for name in names:
            self._untagged.pop(name, None)

    def untag(self, reference: str) -> None:
        """Take a tag away. Its image is found by its digest only, until it is published again.

        Raises:
            ImageMissing: there is none of that name.
        """
        self._untagged[plain(reference)] = self.find(reference)
        del self._images[plain(reference)]

    def withdraw(self, reference: str) -> None:
        """Take an image away. What runs goes on.

        Raises:
            ImageMissing: there is none of that name.
        """
        self.find(reference)
        del self._images[plain(reference)]


def digest(reference: str) -> str:
    """`sha256:...` of an image: the one that it is asked for with, or that of what a registry has under its name."""
    _, _, wanted = reference.partition("@")
    return wanted or sha256(index(plain(reference)))


def version(reference: str) -> str:
    """The version in an image's tag, `1.102.4` of `...:v1.102.4-stable`; the tag itself where there is none."""
    tag = plain(reference).rpartition(":")[2]
    found = re.search(r"\d+(?:\.\d+)*", tag)
    return found[0] if found else tag


def plain(reference: str) -> str:
    """The name as the catalogue has it: without digest, with a tag, without the registry that goes without saying."""
    name = reference.partition("@")[0]
    for prefix in _SAME:
        name = name.removeprefix(prefix)
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"
