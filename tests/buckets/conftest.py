"""A bucket of the stack beside the backups, on the same server, with everything that makes keys difficult."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from pydantic import SecretStr

from blocks.keys import BackupKeys
from blocks.object_bucket import s3_bucket
from blocks.object_store import BackupStore
from blocks.source_bucket import SourceBucket
from flows.backup.manifest import BucketContents
from flows.buckets.backup import Previous, backup_bucket
from flows.buckets.compare import Wanted
from flows.buckets.restore import Restored, restore_objects
from flows.catalogue import set_prefix
from shared.engines.object_store import S3Engine

ODD_KEYS = [
    "a",
    "a/b",
    "a-b",
    "a/b c",
    "events/plain.json",
    "media/ünïcode/日本",
    "media/😀.png",
    "quotes/'single' \"double\"",
    "percent/%41%2F%",
    "plus/a+b",
    "new\nline",
    "tab\there",
    "control/\x01",
    "xml/<&>",
    "glob/*?[x]",
    "long/" + "/".join(["segment-" + "x" * 170] * 5),
    "folder/",
    "odd/looks-like-ours",
]


@dataclass
class Content:
    """What a test has put into the bucket: key -> bytes."""

    source: SourceBucket
    objects: dict[str, bytes] = field(default_factory=dict)

    def put(self, key: str, data: bytes) -> None:
        """Put an object and remember it."""
        self.source.put(key, data)
        self.objects[key] = data

    def remove(self, *keys: str) -> None:
        """Delete objects and forget them."""
        self.source.remove(keys)
        for key in keys:
            del self.objects[key]

    def live(self) -> dict[str, bytes]:
        """Read what is there now, with boto3 alone."""
        return {item.key: self.source.get(item.key) for item in self.source.list("")}


@pytest.fixture(scope="session")
def source_engine(s3_engine: S3Engine) -> Callable[[], SourceBucket]:
    """Make an empty bucket on the server."""

    def make() -> SourceBucket:
        name = f"langfuse-{secrets.token_hex(4)}"
        s3_engine.create_bucket(name)
        secret = SecretStr(s3_engine.secret_key)
        return SourceBucket(bucket=s3_bucket(s3_engine.endpoint_url, s3_engine.access_key, secret, name, s3_engine.region))

    return make


@pytest.fixture(scope="module")
def shared_source(source_engine: Callable[[], SourceBucket]) -> SourceBucket:
    """A bucket that the tests of a module share, and its client."""
    source = source_engine()
    assert source.client
    return source


@pytest.fixture
def content(shared_source: SourceBucket) -> Content:
    """An empty bucket."""
    shared_source.remove([item.key for item in shared_source.list("")])
    return Content(shared_source)


@dataclass
class Nights:
    """Sets of one bucket, one after the other.

    Attributes:
        said: what was told about progress.
    """

    source: SourceBucket
    store: BackupStore
    keys: BackupKeys
    said: list[str] = field(default_factory=list)
    taken: list[tuple[str, BucketContents]] = field(default_factory=list)

    def backup(self, *, source: SourceBucket | None = None, fresh: bool = False) -> BucketContents:
        """Take the next set, building on the last one."""
        set_id = f"202611{len(self.taken) + 1:02}T030000Z-abcdef"
        previous = None
        if self.taken and not fresh:
            previous = Previous(set_prefix(self.store, self.taken[-1][0]), self.taken[-1][1])
        component = backup_bucket(
            source or self.source,
            self.store,
            self.keys,
            set_prefix(self.store, set_id),
            set_id,
            previous=previous,
            numbers=itertools.count(1),
            folder=None,
            progress=self.said.append,
        )
        self.taken.append((set_id, component))
        return component

    @property
    def prefix(self) -> str:
        """Key prefix of the newest set."""
        return set_prefix(self.store, self.taken[-1][0])

    def restore(self, restore_id: str = "r1", *, key: str = "", below: str = "", delete_extra: bool = False) -> Restored:
        """Restore from the newest set."""
        set_id, component = self.taken[-1]
        return restore_objects(
            self.source,
            self.store,
            self.keys,
            self.prefix,
            component,
            set_id=set_id,
            restore_id=restore_id,
            wanted=Wanted(key, below),
            delete_extra=delete_extra,
            progress=self.said.append,
        )


@pytest.fixture
def nights(content: Content, store: BackupStore, keys: BackupKeys) -> Nights:
    """No set yet."""
    return Nights(content.source, store, keys)
