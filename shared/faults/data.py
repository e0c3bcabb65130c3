"""The live data of the campaign: small, loaded once, changed after the first set, and put back after a restore.

Fingerprints tell whether a database is as it was: rows and a hash of each table, whatever order they are read in.
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg import sql

from blocks.clickhouse_client import identifier
from blocks.source_bucket import SourceBucket
from flows.compare.clickhouse_tables import inventory
from flows.restore import clickhouse as on_clickhouse
from flows.stack import Stack
from shared.sandbox import langfuse_bucket, langfuse_clickhouse, langfuse_postgres, litellm_schema
from shared.sandbox.stack import Sandbox

__all__ = ["Fingerprint", "LiveData"]

POSTGRES = ("litellm", "langfuse")
CLICKHOUSE = "langfuse"
SPEND_LOGS = 300
ITEMS = 3
TRACES = 1500
EVENTS = 60
LOST = 7
"""Objects of the bucket that are lost after the first set."""

Fingerprint = Mapping[str, str]
"""Of everything that is live: `postgres litellm`, `clickhouse langfuse.traces`, `bucket langfuse` -> what it holds."""

_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_toast%' ORDER BY 1, 2
"""


class LiveData:
    """What the applications of the stack have stored.

    Args:
        sandbox: started. stack: the same one as blocks.
    """

    def __init__(self, sandbox: Sandbox, stack: Stack) -> None:
        self._sandbox = sandbox
        self._clickhouse = stack.need_clickhouse()
        self._buckets: tuple[SourceBucket, ...] = stack.sources
        self._lost: dict[str, bytes] = {}
        self.at_first: Fingerprint = {}
        """When the first set was taken: what a restore of it brings back."""
        self.now: Fingerprint = {}
        """What is live in every case."""

    def load(self) -> None:
        """Fill empty databases and buckets."""
        litellm_schema.apply(self._url("litellm"))
        litellm_schema.load(self._url("litellm"), spend_logs=SPEND_LOGS)
        langfuse_postgres.apply(self._url("langfuse"))
        langfuse_postgres.load(self._url("langfuse"), items=ITEMS)
        with self._clickhouse.client() as client:
            langfuse_clickhouse.create(client, CLICKHOUSE)
            langfuse_clickhouse.load(client, CLICKHOUSE, rows=TRACES)
        self._merge()
        for bucket in self._buckets:
            langfuse_bucket.load_media(bucket, self._url("langfuse"))
            langfuse_bucket.load_events(bucket, EVENTS)
            keys = sorted(item.key for item in bucket.list("events/"))[:LOST]
            self._lost.update({key: bucket.get(key) for key in keys})
        self.at_first = self.now = self.fingerprint()

    def write(self) -> None:
        """Change everything a little, as time does after a set was taken; the same each time."""
        for database in POSTGRES:
            with psycopg.connect(self._url(database), autocommit=True) as connection:
                connection.execute("CREATE TABLE written_since (id int PRIMARY KEY)")
                connection.execute("INSERT INTO written_since VALUES (1)")
        with self._clickhouse.client() as client:
            langfuse_clickhouse.write_more(client, CLICKHOUSE, share=0.02)
        self._merge()
        for bucket in self._buckets:
            bucket.remove(self._lost)
        self.now = self.fingerprint()

    def reset(self) -> None:
        """Put back what a restore changed.

        Raises:
            RuntimeError: the live data is neither what it was nor what was restored.
        """
        self.drop_side_databases()
        found = self.fingerprint()
        if found == self.now:
            return
        if {**found, **self._bucket_part(self.at_first)} != self.at_first:
            raise RuntimeError(f"the live data cannot be put back: {', '.join(differing(found, self.at_first))}")
        self.write()

    def fingerprint(self) -> Fingerprint:
        """Read everything that is live."""
        found: dict[str, str] = {}
        for database in POSTGRES:
            found[f"postgres {database}"] = self._postgres(database)
        found.update(self._clickhouse_tables())
        for bucket in self._buckets:
            found[f"bucket {bucket.name}"] = ",".join(sorted(f"{item.key}={item.etag}" for item in bucket.list("")))
        return found

    def side_databases(self) -> list[str]:
        """Name the databases that restores and drills made beside the live ones."""
        with psycopg.connect(self._sandbox.postgres.url()) as connection:
            names = [f"postgres {row[0]}" for row in connection.execute("SELECT datname FROM pg_database") if "__" in row[0]]
        with self._clickhouse.client() as client:
            rows = client.rows("SELECT name FROM system.databases")
        return sorted([*names, *(f"clickhouse {name}" for (name,) in rows if "__" in str(name))])

    def drop_side_databases(self) -> None:
        """Drop them."""
        for entry in self.side_databases():
            kind, _, name = entry.partition(" ")
            if kind == "clickhouse":
                on_clickhouse.drop_database(self._clickhouse, name)
                continue
            with psycopg.connect(self._sandbox.postgres.url(), autocommit=True) as connection:
                connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def _url(self, database: str) -> str:
        return self._sandbox.postgres.url(database)

    def _merge(self) -> None:
        """Merge every table to its end: nothing changes by itself from then on."""
        with self._clickhouse.client() as client:
            for table in inventory(client, CLICKHOUSE).values():
                if table.in_parts:
                    client.command(f"OPTIMIZE TABLE {table.sql} FINAL")

    def _postgres(self, database: str) -> str:
        try:
            with psycopg.connect(self._url(database)) as connection:
                tables = connection.execute(_TABLES).fetchall()
                hashed = sql.SQL(" UNION ALL ").join(
                    sql.SQL(
                        "SELECT {} AS name, count(*) AS rows, coalesce(sum(hashtextextended(t::text, 0)), 0) AS hash FROM {} t"
                    ).format(sql.Literal(".".join(table)), sql.Identifier(*table))
                    for table in tables
                )
                total = sql.SQL("SELECT count(*), md5(string_agg(concat(name, rows, hash), ',' ORDER BY name)) FROM ({}) q")
                return str(connection.execute(total.format(hashed)).fetchone())
        except psycopg.OperationalError as error:
            return f"cannot be read: {str(error).strip()[:200]}"

    def _clickhouse_tables(self) -> dict[str, str]:
        with self._clickhouse.client() as client:
            names = [table.name for table in inventory(client, CLICKHOUSE).values() if table.in_parts]
            parts = [
                f"SELECT '{name}' AS name, count() AS rows, sum(cityHash64(formatRow('RowBinary', *))) AS hash "
                f"FROM {identifier(CLICKHOUSE)}.{identifier(name)}"
                for name in names
            ]
            rows = client.rows(" UNION ALL ".join(parts)) if parts else []
        return {f"clickhouse {CLICKHOUSE}.{name}": f"{count} rows {value}" for name, count, value in rows}

    def _bucket_part(self, fingerprint: Fingerprint) -> Fingerprint:
        return {name: value for name, value in fingerprint.items() if name.startswith("bucket ")}


def differing(one: Fingerprint, other: Fingerprint) -> list[str]:
    """Name what is not the same in both."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
