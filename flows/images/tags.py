"""Which tags of a repository are the same thing, newer. Decides alone."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from blocks.denied import DENIED_VERSIONS
from flows.upgrade.rules import Version

__all__ = ["Newer", "newer", "shape"]

_NUMBERS = re.compile(r"\d+(?:\.\d+)*")
_DATED = re.compile(r"RELEASE\.\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}Z")


@dataclass(frozen=True)
class Newer:
    """What there is besides the tag that is configured.

    Attributes:
        repaired: the newest tag that differs in repairs only; empty where there is none. newest: of the same major version.
    """

    repaired: str = ""
    newest: str = ""


def shape(tag: str) -> str:
    """Return a tag with its version taken out: tags of one shape are releases of one thing.

    `v1.102.4` and `1.102.4-alpine` are of two; `RELEASE.2025-09-07T16-13-09Z` is of a shape of its own. The number of parts
    belongs to it: `8.2` floats where `8.2.1` does not.
    """
    if _DATED.fullmatch(tag):
        return "RELEASE.*"
    found = _NUMBERS.search(tag)
    if found is None:
        return tag
    return f"{tag[: found.start()]}{found[0].count('.') + 1}*{tag[found.end() :]}"


def newer(tag: str, tags: Iterable[str]) -> Newer:
    """Look for newer releases of what a tag names.

    Unfinished and compromised releases do not count. MinIO's releases have a date and no lines: each newer one repairs.

    Args:
        tag: that is configured. tags: of its repository.
    """
    wanted, present = shape(tag), Version.of(tag)
    if not present.is_exact:
        return Newer()
    same = [Version.of(one) for one in tags if shape(one) == wanted]
    later = [one for one in same if present < one and not one.is_preview and str(one) not in DENIED_VERSIONS]
    dated = wanted == "RELEASE.*"
    repairs = [one for one in later if dated or one.line == present.line]
    ours = [one for one in later if dated or one.major == present.major]
    return Newer(max(repairs).text if repairs else "", max(ours).text if ours else "")
