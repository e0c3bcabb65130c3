"""A bucket of the stack whose objects are backed up: Langfuse's events, media and exports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from pydantic import Field

from blocks.errors import StoreError
from blocks.object_bucket import Listed, ObjectBucket
from blocks.object_fetch import ObjectFetcher

__all__ = ["SourceBucket", "source_name"]


class SourceBucket(ObjectBucket):
    """A bucket of the stack whose objects are backed up and restored.

    Attributes:
        prefix: only keys below it, empty for all.
        except_below: keys below this folder are left out: the backups themselves, where they lie in the same bucket.

    Example:
        ```python
        source = SourceBucket.load("mystack-langfuse")
        source.check()
        ```
    """

    _block_type_name = "Source Bucket"
    _block_type_slug = "source-bucket"
    _description = "A bucket of the stack whose objects are backed up."

    prefix: str = Field(default="", description="Only keys below this")
    except_below: str = Field(default="", description="Keys below this folder are left out")

    def check(self) -> None:
        """See that the bucket can be listed.

        Raises:
            StoreError: what does not work, and what to do.
        """
        try:
            next(self.list(self.prefix), None)
        except StoreError as error:
            raise StoreError(f"bucket {self.name}: {error}", permanent=error.permanent) from None

    def objects(self, below: str = "") -> Iterator[Listed]:
        """Yield every object that is backed up, in the order the server gives them: not all sort by key.

        Args:
            below: only keys that begin so.
        """
        if not (below.startswith(self.prefix) or self.prefix.startswith(below)):
            return
        with ObjectFetcher(self) as fetcher:
            prefix, token = max(below, self.prefix, key=len), ""
            while True:
                items, token = _parse(fetcher.page(prefix, token), prefix)
                yield from (item for item in items if self.covers(item.key))
                if not token:
                    return

    def covers(self, key: str) -> bool:
        """Say whether an object with this key is backed up."""
        return key.startswith(self.prefix) and not (self.except_below and key.startswith(self.except_below))


def source_name(stack: str, bucket: str) -> str:
    """Return the name of a bucket's document: Prefect allows letters, digits and dashes."""
    return f"{stack}-bucket-{re.sub('[^a-z0-9]+', '-', bucket.lower())}"


def _parse(page: bytes, prefix: str) -> tuple[list[Listed], str]:
    """Read a page of a listing; returns the token of the next one too, empty after the last."""
    try:
        root = ElementTree.fromstring(page)  # noqa: S314 - botocore parses the same answers with the same parser
        space = root.tag.rpartition("}")[0] + "}" if root.tag.startswith("{") else ""
        encoded = root.findtext(f"{space}EncodingType") == "url"
        names = [space + name for name in ("Key", "Size", "ETag", "LastModified")]
        items = []
        for item in root.iterfind(f"{space}Contents"):
            key, size, etag, modified = (item.findtext(name) or "" for name in names)
            items.append(Listed(unquote_plus(key) if encoded else key, int(size), etag, datetime.fromisoformat(modified)))
        more = root.findtext(f"{space}IsTruncated") == "true"
        token = root.findtext(f"{space}NextContinuationToken") or ""
    except (ElementTree.ParseError, ValueError):
        raise StoreError(f"store: list {prefix}: the answer is not a listing") from None
    if more and not token:
        raise StoreError(f"store: list {prefix}: breaks off without saying how to go on", permanent=True)
    return items, token if more else ""
