"""What leads from one store into another: ClickHouse's project ids into Postgres, Postgres' media rows into a bucket.

No store can enforce these. A restore of stores that were taken at different moments must not have more dead ends than the stack
had when they were taken: the backup counts them, the drill counts them again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from psycopg import Connection
from psycopg.rows import TupleRow

from blocks.clickhouse import ClickHouseServer
from blocks.clickhouse_client import qualified
from blocks.postgres import PostgresServer, explained
from flows.backup.manifest import Dangling
from flows.compare.differences import Difference

EXAMPLES = 100
PROJECTS: Literal["clickhouse projects without postgres project"] = "clickhouse projects without postgres project"
MEDIA: Literal["finished media without object"] = "finished media without object"
UPLOADED = 200
"""`media.upload_http_status` of an upload that was finished (facts: apps.md 2)."""
READ_AT_ONCE = 10_000


def projects_in_clickhouse(server: ClickHouseServer, database: str) -> set[str]:
    """Return every project id that rows of a ClickHouse database name."""
    with server.client(timeout=3600) as client:
        tables = client.rows(
            "SELECT table FROM system.columns WHERE database = {database:String} AND name = 'project_id' AND table IN "
            "(SELECT name FROM system.tables WHERE database = {database:String} AND engine LIKE '%MergeTree')",
            {"database": database},
        )
        return {
            str(project)
            for (table,) in tables
            for (project,) in client.rows(f"SELECT DISTINCT toString(project_id) FROM {qualified(database, str(table))}")
        }


def projects_in_postgres(server: PostgresServer, database: str) -> set[str] | None:
    """Return every id of Langfuse's table `projects`; None where the database has no such table."""
    with server.connect(database) as connection, explained(database, "read projects"):
        if not _has_columns(connection, "projects", "id"):
            return None
        return {str(row[0]) for row in connection.execute("SELECT id FROM public.projects")}


def finished_media(server: PostgresServer, database: str, bucket: str) -> Iterator[str]:
    """Yield the key of every finished upload into a bucket, sorted by its UTF-8 bytes; none where there is no table `media`.

    Args:
        bucket: its name. Constant memory, whatever the number.
    """
    with server.connect(database, autocommit=False) as connection, explained(database, "read media"):
        if not _has_columns(connection, "media", "bucket_name", "bucket_path", "upload_http_status"):
            return
        with connection.cursor(name="media") as cursor:
            cursor.itersize = READ_AT_ONCE
            cursor.execute(
                'SELECT DISTINCT bucket_path::text COLLATE "C" FROM public.media '
                "WHERE upload_http_status = %s AND bucket_name = %s ORDER BY 1",
                (UPLOADED, bucket),
            )
            for row in cursor:
                yield str(row[0])


@dataclass
class DeadEnds:
    """References that lead nowhere, counted.

    Attributes:
        count: how many. examples: the first of them.
    """

    count: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, name: str) -> None:
        """Count one."""
        self.count += 1
        if len(self.examples) < EXAMPLES:
            self.examples.append(name)

    def __add__(self, other: DeadEnds) -> DeadEnds:
        return DeadEnds(self.count + other.count, (self.examples + other.examples)[:EXAMPLES])


def without_object(media: Iterable[str], objects: Iterable[str]) -> DeadEnds:
    """Count the keys that are not among the objects.

    Args:
        media, objects: keys, both sorted by their UTF-8 bytes.
    """
    found, there = DeadEnds(), iter(objects)
    present = next(there, None)
    for key in media:
        wanted = key.encode()
        while present is not None and present.encode() < wanted:
            present = next(there, None)
        if present != key:
            found.add(key)
    return found


def without_project(named: Collection[str], projects: Collection[str]) -> DeadEnds:
    """Count the project ids that rows name and Postgres does not have."""
    found = DeadEnds()
    for project in sorted(set(named) - set(projects)):
        found.add(project)
    return found


def dangling(projects: DeadEnds | None, media: DeadEnds | None) -> list[Dangling]:
    """Return what a manifest records; None for what could not be counted."""
    kinds = ((PROJECTS, projects), (MEDIA, media))
    return [Dangling(name=name, count=ends.count, examples=ends.examples) for name, ends in kinds if ends is not None]


def compare_dangling(recorded: Iterable[Dangling], found: Iterable[Dangling]) -> list[Difference]:
    """Compare what leads nowhere in a restored copy with what did at the time of the backup.

    Returns: a difference where there is more than then; equal or less is none.
    """
    then = {item.name: item for item in recorded}
    differences = []
    for item in found:
        before = then.get(item.name)
        if before is None or item.count <= before.count:
            continue
        new = [example for example in item.examples if example not in before.examples] or item.examples
        differences.append(Difference("all stores together", item.name, str(before.count), f"{item.count}, such as {new[0]}"))
    return differences


def _has_columns(connection: Connection[TupleRow], table: str, *columns: str) -> bool:
    row = connection.execute(
        "SELECT count(*) FROM pg_catalog.pg_attribute "
        "WHERE attrelid = pg_catalog.to_regclass(%s) AND attname = ANY(%s) AND NOT attisdropped",
        (f"public.{table}", list(columns)),
    ).fetchone()
    return bool(row and row[0] == len(columns))
