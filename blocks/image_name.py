"""Names of images, as Docker reads them: what is left out has a meaning."""

from __future__ import annotations

import re
from dataclasses import dataclass

from blocks.errors import SettingsError

__all__ = ["DOCKER_HUB", "ImageName"]

DOCKER_HUB = "docker.io"
_SAME_AS_HUB = frozenset({"index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"})
_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*)*")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9a-fA-F:]+\])(?::\d{1,5})?")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class ImageName:
    """An image: which registry has it, in which repository, under which tag.

    Attributes:
        registry: host, with port where one is named; `docker.io` where none is.
        repository: in the registry, `library/redis`, `berriai/litellm`.
        tag: `latest` where neither tag nor digest is named; empty where only a digest is. digest: `sha256:...`, or empty.
    """

    registry: str
    repository: str
    tag: str
    digest: str = ""

    @classmethod
    def parse(cls, image: str) -> ImageName:
        """Read a name.

        Args:
            image: `redis:8.2.1`, `ghcr.io/berriai/litellm:v1.102.4@sha256:...`.
        Raises:
            SettingsError: it is no name of an image.
        """
        named, at, digest = image.partition("@")
        first, slash, rest = named.partition("/")
        if not slash or not (set(".:[") & set(first) or first == "localhost"):
            first, rest = DOCKER_HUB, named
        repository, colon, tag = rest.rpartition(":")
        if not colon:
            repository, tag = rest, "" if digest else "latest"
        registry = DOCKER_HUB if first in _SAME_AS_HUB else first
        if registry == DOCKER_HUB and "/" not in repository:
            repository = f"library/{repository}"
        parts_are_right = _REPOSITORY.fullmatch(repository) and _HOST.fullmatch(registry) and (_TAG.fullmatch(tag) or not tag)
        if not parts_are_right or (at and not _DIGEST.fullmatch(digest)) or (colon and not tag):
            raise SettingsError(
                f"image {image[:200]!r}: this is no name of one; expected [registry/]repository[:tag][@sha256:...]"
            )
        return cls(registry, repository, tag, digest)

    @property
    def wanted(self) -> str:
        """What a registry is asked for: the digest where there is one, which holds whatever becomes of the tag."""
        return self.digest or self.tag

    def with_tag(self, tag: str) -> ImageName:
        """The image of the same repository under another tag, without digest."""
        return ImageName(self.registry, self.repository, tag)

    def __str__(self) -> str:
        """As people write it: without what goes without saying."""
        place = (
            self.repository.removeprefix("library/") if self.registry == DOCKER_HUB else f"{self.registry}/{self.repository}"
        )
        return place + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")
