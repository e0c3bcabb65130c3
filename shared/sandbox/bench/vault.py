"""Rows about buckets and the catalogue: many small objects, and many sets."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

from pydantic import SecretStr

from blocks.object_bucket import make_client, s3_bucket
from flows import catalogue
from flows.backup.manifest import BucketContents, Manifest, PostgresDatabase, Signature
from flows.backup.postgres import dump_database
from flows.backup.sets import new_set_id
from flows.buckets.backup import Previous, backup_bucket
from flows.catalogue import manifest_key, set_prefix
from flows.lease import utc_now
from flows.prune.policy import policy_of
from flows.prune.retention import plan
from flows.side_file import Check, SideFile, side_file_key
from flows.stack import project_version
from shared.sandbox import langfuse_bucket
from shared.sandbox.bench.measure import Measurements
from shared.sandbox.bench.memory import extra_memory

__all__ = ["VaultRows"]

SAMPLE = 5_000
"""Objects that the reference copies: it takes the same time for each, and minutes for all of them."""
SETS = 2_000
SECONDS = 10.0
"""Goal of the catalogue."""
LISTING = 2.0
"""Times its listing that an unchanged bucket may take."""


class VaultRows:
    """The rows about buckets and the catalogue.

    Args:
        bench: where they go. objects: in the bucket, of 2 KB each.
    """

    def __init__(self, bench: Measurements, objects: int) -> None:
        self.bench, self.stack = bench, bench.stack
        self.objects = objects
        self.source = self.stack.sources[0]

    def buckets(self) -> None:
        """A first backup of a bucket, one of an unchanged bucket, and the memory they take."""
        begun = time.monotonic()
        langfuse_bucket.load_events(self.source, self.objects)
        self.bench.console.print(f"bucket: {self.objects} objects written in {time.monotonic() - begun:.0f} s", highlight=False)
        first, seconds = self._timed(None)
        self.bench.add("bucket_first_100k", seconds, self._one_by_one(), "s", at_most=0.2)
        self.bench.compare("bucket_unchanged_100k", lambda: self._take(first), self._list, at_most=LISTING)
        self.bench.add("memory_100k", extra_memory(self.bench.sandbox, "bucket"), 150, "MB", at_most=1.0)

    def catalogue(self) -> None:
        """List, choose and plan the pruning of two thousand sets."""
        self._make_sets()
        begun = time.monotonic()
        known = catalogue.read(self.stack.store, self.stack.keys)
        known.find("latest")
        kept = plan([entry.facts() for entry in known.entries], policy_of(self.stack.settings))
        seconds = time.monotonic() - begun
        if len(known.entries) < SETS or not kept.delete:
            raise AssertionError(f"expected {SETS} readable sets, of which some can go; found {len(known.entries)}")
        self.bench.add("catalogue_2000_sets", seconds, SECONDS, "s", at_most=1.0)

    def _timed(self, previous: Previous | None) -> tuple[Previous, float]:
        begun = time.monotonic()
        return self._take(previous), time.monotonic() - begun

    def _take(self, previous: Previous | None) -> Previous:
        set_id = new_set_id(utc_now())
        prefix = set_prefix(self.stack.store, set_id)
        component = backup_bucket(
            self.source,
            self.stack.store,
            self.stack.keys,
            prefix,
            set_id,
            previous=previous,
            numbers=itertools.count(1),
            folder=None,
            progress=lambda _: None,
        )
        if component.objects != self.objects:
            raise AssertionError(f"{component.objects} objects in the index, {self.objects} in the bucket")
        return Previous(prefix, component)

    def _one_by_one(self) -> float:
        """Return the seconds that copying every object with `copy_object` would take, from a sample."""
        engine, bucket = self.bench.sandbox.store, self.source.name
        secret = SecretStr(engine.secret_key)  # the administrator's: the only one that may read one bucket and write the other
        client = make_client(s3_bucket(engine.endpoint_url, engine.access_key, secret, bucket, engine.region))
        keys = [item.key for item in itertools.islice(self.source.objects(), min(SAMPLE, self.objects))]
        begun = time.monotonic()
        for key in keys:
            client.copy_object(Bucket=self.stack.store.name, Key=f"one-by-one/{key}", CopySource={"Bucket": bucket, "Key": key})
        return (time.monotonic() - begun) * self.objects / len(keys)

    def _list(self) -> int:
        return sum(1 for _ in self.source.objects())

    def _make_sets(self) -> None:
        """Commit one set an hour: a manifest with two databases and a bucket, and a side file."""
        prefix = f"{self.stack.store.root}bench/"
        database = dump_database(self.stack.need_postgres(), "langfuse", self.stack.store, prefix, self.stack.keys)
        bucket = BucketContents(
            name="langfuse",
            index=database.object,
            packs=database.object,
            pack_ids={new_set_id(utc_now() - timedelta(days=day)): "1-40,44" for day in range(30)},
            objects=1,
            bytes=1,
            started_at=utc_now(),
            finished_at=utc_now(),
        )
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda pair: self._commit(*pair), self._manifests(database, bucket)))

    def _manifests(self, database: PostgresDatabase, bucket: BucketContents) -> Iterator[tuple[str, bytes]]:
        keys, store = self.stack.keys, self.stack.store
        for hours in range(SETS):
            taken = utc_now() - timedelta(hours=hours)
            draft = Manifest(
                id=new_set_id(taken),
                stack=store.stack,
                created_at=taken,
                committed_at=taken,
                project_version=project_version(),
                lease_token=1,
                recipients=list(keys.recipients),
                components=[database, database.model_copy(update={"name": "litellm"}), bucket],
            ).with_details({})
            public_key, value = keys.sign(draft.signed_bytes())
            yield draft.id, draft.model_copy(update={"signature": Signature(public_key=public_key, value=value)}).to_json()

    def _commit(self, set_id: str, manifest: bytes) -> None:
        store, check = self.stack.store, Check(at=utc_now(), ok=True, what="12 objects and all files they list")
        store.put(side_file_key(store, set_id), SideFile(size=check, presence=check).model_dump_json().encode())
        store.put(manifest_key(store, set_id), manifest)
