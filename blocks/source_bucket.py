"""A bucket of the stack whose objects are backed up: Langfuse's events, media and exports."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import Field

from blocks.errors import StoreError
from blocks.object_bucket import Listed, ObjectBucket

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

    def objects(self) -> Iterator[Listed]:
        """Yield every object that is backed up, in the order the server gives them: not all sort by key."""
        for item in self.list(self.prefix):
            if not (self.except_below and item.key.startswith(self.except_below)):
                yield item


def source_name(stack: str, bucket: str) -> str:
    """Return the name of a bucket's document: Prefect allows letters, digits and dashes."""
    return f"{stack}-bucket-{re.sub('[^a-z0-9]+', '-', bucket.lower())}"
