"""References between the stores, read before a backup begins, and counted where they lead nowhere when it is done.

Before, because the stores are taken one after the other: what is deleted from all of them while a backup runs is then recorded
as a dead end at worst, and never blamed on the restored copy. Rows that come while it runs have what they refer to already.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from flows.backup.manifest import BucketContents, Dangling
from flows.buckets.index import open_index
from flows.compare.references import (
    dangling,
    finished_media,
    projects_in_clickhouse,
    projects_in_postgres,
    without_object,
    without_project,
)
from flows.stack import Stack


class References:
    """What leads from one store into another at one moment.

    Args:
        projects: ids that ClickHouse's rows name.
        media: bucket -> file with the keys that Postgres knows of, sorted, one JSON string a line.
    """

    def __init__(self, projects: set[str], media: Mapping[str, Path]) -> None:
        self._projects = projects
        self._media = media

    def dead_ends(
        self, stack: Stack, prefix: str, clickhouse: Sequence[str], postgres: Sequence[str], buckets: Sequence[BucketContents]
    ) -> list[Dangling]:
        """Count what leads nowhere, of the stores that are all in the set.

        Args:
            prefix: key prefix of the set. clickhouse, postgres: databases in it. buckets: as they were just indexed.
        """
        projects = [found for name in postgres if (found := projects_in_postgres(stack.need_postgres(), name)) is not None]
        media = None
        for bucket in buckets if postgres else ():
            with open_index(stack.store, prefix, bucket, None) as index:
                ends = without_object(_read(self._media[bucket.name]), (entry.key for entry in index.entries()))
            media = ends if media is None else media + ends
        known = without_project(self._projects, set().union(*projects)) if projects and clickhouse else None
        return dangling(known, media)


@contextmanager
def references(
    stack: Stack, clickhouse: Sequence[str], postgres: Sequence[str], buckets: Sequence[str]
) -> Iterator[References]:
    """Read the references for the body, in constant memory: those of media wait in a temporary file."""
    with tempfile.TemporaryDirectory(prefix="references-") as folder:
        named: set[str] = set()
        for database in clickhouse:
            named |= projects_in_clickhouse(stack.need_clickhouse(), database)
        media = {}
        for number, bucket in enumerate(buckets if postgres else ()):
            media[bucket] = Path(folder, str(number))
            _write(stack, postgres, bucket, media[bucket])
        yield References(named, media)


def _write(stack: Stack, postgres: Sequence[str], bucket: str, path: Path) -> None:
    with path.open("w", encoding="utf-8") as target:
        for database in postgres:
            for key in finished_media(stack.need_postgres(), database, bucket):
                target.write(json.dumps(key) + "\n")


def _read(path: Path) -> Iterator[str]:
    with path.open(encoding="utf-8") as source:
        for line in source:
            yield json.loads(line)
