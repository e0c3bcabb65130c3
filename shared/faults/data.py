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
from shared.sandbox import langfuse_bucket, langfuse_clickhouse, langfuse_postgres
from shared.sandbox.ownership import become_owner
from shared.sandbox.stack import Sandbox

__all__ = ["Fingerprint", "LiveData"]

POSTGRES = ("litellm", "langfuse")
CLICKHOUSE = "langfuse"
ITEMS = 3
TRACES = 1500
EVENTS = 60
_KEPT = "kept_at_first"
LOST = 7
"""Objects of the bucket that are lost after the first set."""

Fingerprint = Mapping[str, str]
"""Of everything that is live: `postgres litellm`, `clickhouse langfuse.traces`, `bucket langfuse` -> what it holds."""

_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg_toast%' ORDER BY 1, 2
"""

# A database beside Langfuse's: two are half swapped for a moment. LiteLLM's real hundred tables would only cost time.
_LITELLM = """
CREATE TABLE keys (token text PRIMARY KEY, spend double precision NOT NULL, models text[], metadata jsonb DEFAULT '{}');
CREATE TABLE spend (id bigserial PRIMARY KEY, token text REFERENCES keys, at timestamptz NOT NULL, amount numeric(20, 10));
CREATE INDEX ON spend (token, at);
CREATE VIEW daily AS SELECT date_trunc('day', at) AS day, sum(amount) AS amount FROM spend GROUP BY 1;
INSERT INTO keys
SELECT 'hashed-' || n, n / 7.0, ARRAY['gpt-' || n % 3], jsonb_build_object('team', n % 5) FROM generate_series(1, 40) n;
INSERT INTO spend (token, at, amount)
SELECT 'hashed-' || 1 + n % 40, timestamptz '2026-01-01' + n * interval '1 hour', n / 1000.0 FROM generate_series(1, 2000) n;
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
        with psycopg.connect(self._url("litellm")) as connection:
            become_owner(connection)
            connection.execute(_LITELLM)
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
        self._keep()

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
        """Put back what a restore changed."""
        self.drop_side_databases()
        found = self.fingerprint()
        if found == self.now:
            return
        whole = not [name for name in differing(found, self.at_first) if not name.startswith("bucket ")]
        if not whole:  # a restore that could not be finished left something between
            self._rebuild()
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

    def _keep(self) -> None:
        """Keep copies of all databases, beside them."""
        with psycopg.connect(self._sandbox.postgres.url(), autocommit=True) as connection:
            for database in POSTGRES:
                copy, name = sql.Identifier(f"{_KEPT}_{database}"), sql.Identifier(database)
                connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(copy, name, name))
        with self._clickhouse.client() as client:
            client.command(f"CREATE DATABASE {_KEPT}")
            for table in inventory(client, CLICKHOUSE).values():
                if table.in_parts:
                    copy_name = f"{_KEPT}.{identifier(table.name)}"
                    client.command(f"CREATE TABLE {copy_name} AS {table.sql}")
                    client.command(f"ALTER TABLE {copy_name} ATTACH PARTITION ALL FROM {table.sql}")

    def _rebuild(self) -> None:
        """Make all databases anew from the copies."""
        with psycopg.connect(self._sandbox.postgres.url(), autocommit=True) as connection:
            for database in POSTGRES:
                copy, name = sql.Identifier(f"{_KEPT}_{database}"), sql.Identifier(database)
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(name))
                connection.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} OWNER {}").format(name, copy, name))
        on_clickhouse.drop_database(self._clickhouse, CLICKHOUSE)
        with self._clickhouse.client() as client:
            langfuse_clickhouse.create(client, CLICKHOUSE)
            for table in inventory(client, CLICKHOUSE).values():
                if table.in_parts:
                    client.command(f"TRUNCATE TABLE {table.sql}")
                    client.command(f"ALTER TABLE {table.sql} ATTACH PARTITION ALL FROM {_KEPT}.{identifier(table.name)}")


def differing(one: Fingerprint, other: Fingerprint) -> list[str]:
    """Name what is not the same in both."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))
