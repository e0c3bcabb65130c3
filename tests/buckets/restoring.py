"""Restores objects, or takes that back, in a process that a test can kill; what to do comes by standard input."""

from __future__ import annotations

import json
import sys

from pydantic import SecretStr

from blocks.keys import BackupKeys
from blocks.object_bucket import s3_bucket
from blocks.object_store import BackupStore
from blocks.source_bucket import SourceBucket
from flows.backup.manifest import BucketContents
from flows.buckets.compare import Wanted
from flows.buckets.restore import restore_objects
from flows.buckets.undo import undo_objects


def main() -> None:
    """Do it."""
    told = json.load(sys.stdin)

    def bucket(name: str) -> BackupStore:
        block = s3_bucket(told["url"], told["access_key"], SecretStr(told["secret_key"]), name, "us-east-1")
        return BackupStore(bucket=block, stack=told["stack"])

    source = SourceBucket(bucket=bucket(told["source"]).bucket)
    if told["action"] == "undo":
        undo_objects(source, bucket(told["store"]), "r1", progress=lambda _: None)
        return
    restore_objects(
        source,
        bucket(told["store"]),
        BackupKeys(recipients=[], identity=SecretStr(told["identity"])),
        told["prefix"],
        BucketContents.model_validate_json(told["component"]),
        set_id=told["set_id"],
        restore_id="r1",
        wanted=Wanted(),
        delete_extra=True,
        progress=lambda _: None,
    )


if __name__ == "__main__":
    main()
