"""Objects as Langfuse has them in its bucket: a JSON file for every ingested event, and media that Postgres knows of.

Keys as in the original (facts: apps.md 2.4): `events/<project>/<entity>/<entity id>/<event id>.json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import NAMESPACE_URL, uuid5

import psycopg

from blocks.source_bucket import SourceBucket
from shared.sandbox.langfuse_postgres import PROJECTS

__all__ = ["event_keys", "load_events", "load_media"]

WRITERS = 8


def event_keys(count: int, seed: str = "first") -> Iterator[str]:
    """Yield the keys of events; the same for the same arguments."""
    for number in range(count):
        trace = uuid5(NAMESPACE_URL, f"{seed}/trace/{number // 3}")
        event = uuid5(NAMESPACE_URL, f"{seed}/event/{number}")
        yield f"events/{PROJECTS[number // 3 % len(PROJECTS)]}/trace/{trace}/{event}.json"


def load_events(bucket: SourceBucket, count: int, *, seed: str = "first", size: int = 2000) -> int:
    """Put event objects.

    Args:
        bucket: where to. count: how many. seed: another one makes other keys. size: bytes of each, about.
    Returns: their size together, bytes.
    """

    def put(key: str) -> int:
        text = hashlib.sha256(key.encode()).hexdigest() * (size // 80)
        event = {"id": key.rsplit("/", 1)[-1], "type": "trace-create", "body": {"input": text, "emoji": "🦜"}}
        data = json.dumps([event]).encode()
        bucket.put(key, data)
        return len(data)

    with ThreadPoolExecutor(WRITERS, thread_name_prefix="events") as pool:
        return sum(pool.map(put, event_keys(count, seed)))


def load_media(bucket: SourceBucket, url: str) -> int:
    """Put an object for every finished upload that Langfuse's Postgres database names.

    Args:
        bucket: whose name is in the rows. url: of the database.
    Returns: their size together, bytes.
    """
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            "SELECT bucket_path, content_length FROM media WHERE upload_http_status = 200 AND bucket_name = %s", (bucket.name,)
        ).fetchall()

    def put(row: tuple[str, int]) -> int:
        key, size = row
        data = (b"\x89PNG\r\n\x1a\n" + hashlib.sha256(key.encode()).digest() * (size // 32 + 1))[:size]
        bucket.put(key, data)
        return len(data)

    with ThreadPoolExecutor(WRITERS, thread_name_prefix="media") as pool:
        return sum(pool.map(put, rows))
