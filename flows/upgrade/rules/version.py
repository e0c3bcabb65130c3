"""Versions as images name them, in an order."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import total_ordering

from railway.services.images import tag_of, version_of

__all__ = ["Version"]

_MINIO = re.compile(r"RELEASE\.(\d{4})-(\d{2})-(\d{2})T(\d{2})-(\d{2})-(\d{2})Z")
_PREVIEW = re.compile(r"(?:^|[^a-z])(?:alpha|beta|rc|pre|dev|nightly|edge|canary|head|testing)(?:$|[^a-z])|\d(?:a|b|rc)\d")


@total_ordering
@dataclass(frozen=True)
class Version:
    """A version of a program.

    Attributes:
        numbers: `1.102.4` is (1, 102, 4); of MinIO's releases the date and time; empty where the tag names none.
        text: as the tag has it.
    """

    numbers: tuple[int, ...]
    text: str

    @classmethod
    def of(cls, said: str) -> Version:
        """Read the version out of an image, a tag, or what a program says of itself.

        Args:
            said: `ghcr.io/berriai/litellm:v1.102.4-stable@sha256:...`, `v1.102.4`, `1.102.4`, `latest`, empty.
        """
        tag = tag_of(said) or ("" if "/" in said else said.partition("@")[0])
        if minio := _MINIO.search(tag):
            return cls(tuple(int(part) for part in minio.groups()), tag)
        return cls(version_of(f"image:{tag}"), tag)

    @property
    def major(self) -> int | None:
        """The first number, None where there is none."""
        return self.numbers[0] if self.numbers else None

    @property
    def line(self) -> tuple[int, ...]:
        """The first two numbers: releases of one line differ in repairs."""
        return self.numbers[:2]

    @property
    def is_exact(self) -> bool:
        """Whether the tag names one release, and not the newest of several."""
        return len(self.numbers) >= 3

    @property
    def is_preview(self) -> bool:
        """Whether its vendor says that it is not finished."""
        return bool(_PREVIEW.search(self.text.lower()))

    def __lt__(self, other: Version) -> bool:
        return self.numbers < other.numbers

    def __str__(self) -> str:
        return ".".join(map(str, self.numbers)) if self.numbers and not _MINIO.search(self.text) else self.text or "unknown"
