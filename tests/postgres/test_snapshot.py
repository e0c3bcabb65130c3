"""A backup is one moment of a database, whatever others do to it meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from blocks.errors import ServiceError
from blocks.postgres import PostgresServer
from flows.backup.postgres import dump_database
from shared.engines.process import wait_until
from tests.postgres.site import Site

ACCOUNTS = """
CREATE TABLE account (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text, balance numeric NOT NULL);
CREATE TABLE entry (id serial PRIMARY KEY, account bigint NOT NULL REFERENCES account, amount numeric, note text);
CREATE TABLE filler AS SELECT i, encode(sha256(i::text::bytea), 'hex') AS a, encode(sha256((-i)::text::bytea), 'hex') AS b
  FROM generate_series(1, 150000) i;
INSERT INTO account (name, balance) SELECT 'a' || i, 100 FROM generate_series(1, 50) i;
"""


@contextmanager
def writers(site: Site, count: int) -> Iterator[None]:
    """Move money between new and old accounts until the block ends; every transaction keeps the sums right."""
    stop = threading.Event()

    def write(number: int) -> None:
        with site.connect() as connection:
            turn = 0
            while not stop.is_set():
                turn += 1
                with connection.transaction():
                    row = connection.execute(
                        "INSERT INTO account (name, balance) VALUES (%s, 0) RETURNING id", [f"{number}-{turn}"]
                    ).fetchone()
                    assert row is not None
                    connection.execute("UPDATE account SET balance = balance - 1 WHERE id = %s", [turn % 50 + 1])
                    connection.execute("UPDATE account SET balance = balance + 1 WHERE id = %s", [row[0]])
                    connection.execute("INSERT INTO entry (account, amount) VALUES (%s, 1), (%s, -1)", [row[0], turn % 50 + 1])
                    if turn % 3 == 0:
                        connection.execute("DELETE FROM entry WHERE account = %s", [row[0]])
                        connection.execute(
                            "DELETE FROM entry WHERE id = (SELECT max(id) FROM entry WHERE account = %s)", [turn % 50 + 1]
                        )

    with ThreadPoolExecutor(count) as pool:
        jobs = [pool.submit(write, number) for number in range(count)]
        try:
            wait_until(lambda: int(str(site.value("SELECT count(*) FROM entry"))) > 100, timeout=20, what="writers to write")
            yield
        finally:
            stop.set()
        for job in jobs:
            job.result()


@pytest.mark.long
def test_writers_keep_writing_and_the_copy_is_exactly_the_manifest(site: Site) -> None:
    site.create(ACCOUNTS)
    with writers(site, 3):
        component = site.dump()
    rows = {table.name: table.rows for table in component.tables}
    assert rows["public.account"] < int(str(site.value("SELECT count(*) FROM account")))  # they wrote on
    site.restore(component)  # pg_restore checks the foreign keys
    assert site.compare(component) == []
    assert site.value("SELECT sum(balance) FROM account", site.staged) == 50 * 100
    assert any(sequence.low != sequence.high for sequence in component.sequences)


def test_a_truncate_that_commits_as_the_backup_starts_is_seen_whole_or_not_at_all(site: Site) -> None:
    site.create("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id")
    with site.connect() as other, ThreadPoolExecutor(1) as pool:
        with other.transaction():
            other.execute("TRUNCATE t")
            other.execute("INSERT INTO t SELECT generate_series(1, 7)")
            backup = pool.submit(site.dump)
            waiting = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{site.database}' AND wait_event = 'relation'"
            wait_until(lambda: site.value(waiting) == 1, timeout=20, what="the backup to wait for the table")
        component = backup.result()
    assert [(table.name, table.rows) for table in component.tables] == [("public.t", 7)]
    site.restore(component)
    assert site.compare(component) == []


@pytest.mark.long
def test_a_truncate_that_queues_up_before_pg_dump_is_let_through_and_the_backup_begins_again(
    site: Site, tmp_path: Path
) -> None:
    site.create("CREATE TABLE t AS SELECT generate_series(1, 1000) AS id")
    arrived, go = tmp_path / "arrived", tmp_path / "go"
    script = tmp_path / "pg_dump"
    script.write_text(
        f"""#!/bin/sh
if [ "$1" != --version ] && [ ! -e {arrived} ]; then
  : > {arrived}
  while [ ! -e {go} ]; do sleep 0.02; done
fi
exec {site.engine.bin_dir}/pg_dump "$@"
"""
    )
    script.chmod(0o755)
    server = PostgresServer(url=site.backup.url, bin_dirs=[str(tmp_path), str(site.engine.bin_dir)])
    said: list[str] = []

    def truncate() -> None:
        with site.connect() as connection, connection.transaction():
            connection.execute("TRUNCATE t")
            connection.execute("INSERT INTO t VALUES (1)")

    with ThreadPoolExecutor(2) as pool:
        backup = pool.submit(dump_database, server, site.database, site.store, site.prefix, site.keys, progress=said.append)
        wait_until(arrived.exists, timeout=20, what="pg_dump to start")
        truncating = pool.submit(truncate)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE query = 'TRUNCATE t' AND wait_event_type = 'Lock'"
        wait_until(lambda: site.value(waiting) == 1, timeout=20, what="TRUNCATE to wait for the backup")
        go.touch()
        truncating.result()
        component = backup.result()
    assert [table.rows for table in component.tables] == [1]
    assert any("begun again" in line for line in said)


def test_a_table_that_stays_locked_is_named_as_the_reason(site: Site) -> None:
    site.create("CREATE TABLE t ()")
    with site.connect() as other, other.transaction():
        other.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        with pytest.raises(ServiceError, match="stayed locked for 1 s by somebody else") as caught:
            dump_database(site.backup, site.database, site.store, site.prefix, site.keys, lock_timeout_s=1)
    assert not caught.value.permanent
    assert site.objects() == []


def test_a_table_created_while_the_backup_waits_is_in_it(site: Site) -> None:
    site.create("CREATE TABLE t ()")
    with site.connect() as other, ThreadPoolExecutor(1) as pool:
        with other.transaction():
            other.execute("LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
            backup = pool.submit(site.dump)
            waiting = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{site.database}' AND wait_event = 'relation'"
            wait_until(lambda: site.value(waiting) == 1, timeout=20, what="the backup to wait for the table")
            other.execute("CREATE TABLE u AS SELECT 1 AS id")
        component = backup.result()
    assert [(table.name, table.rows) for table in component.tables] == [("public.t", 0), ("public.u", 1)]


def test_hostile_defaults_of_the_database_do_not_disturb_the_backup(site: Site) -> None:
    site.create("CREATE TABLE t AS SELECT now() AS at, 0.1::float8 AS f, '\\x00ff'::bytea AS b, 1.5::money AS m")
    with psycopg.connect(site.engine.url(), autocommit=True) as connection:
        for setting in (
            "statement_timeout = 20",
            "idle_in_transaction_session_timeout = 20",
            "lock_timeout = 1",
            "DateStyle = 'German, DMY'",
            "TimeZone = 'Asia/Kathmandu'",
            "extra_float_digits = -15",
            "bytea_output = 'escape'",
            "search_path = ''",
            "default_transaction_read_only = on",
        ):
            connection.execute(f"ALTER DATABASE {site.database} SET {setting}".encode())
    component = site.dump()
    site.restore(component)
    assert site.compare(component) == []
