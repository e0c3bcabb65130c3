"""Something dies in the middle: a clear error, nothing that looks complete, merges running, and the next backup succeeds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest

from blocks.clickhouse import ClickHouseServer
from blocks.clickhouse_client import ClickHouseClient
from blocks.errors import ServiceError
from flows.backup.clickhouse import BaseBackup, merges_stopped, start_all_merges
from flows.backup.clickhouse_merges import merges_held, stop_merges
from flows.compare.clickhouse_tables import inventory
from shared.engines.clickhouse import ClickHouseEngine
from shared.engines.object_store import S3Engine
from shared.engines.process import wait_until
from tests.clickhouse.conftest import WITH_NULLS, Lab
from tests.proxy import Proxy

LARGE = (
    *WITH_NULLS,
    "CREATE TABLE {db}.large (id UInt64, noise String) ENGINE = MergeTree ORDER BY id",
    "INSERT INTO {db}.large SELECT number, randomString(1000) FROM numbers(6000)",
)
"""6 MB that do not compress: a throttled backup of it takes long enough to die in."""


@contextmanager
def slow_backup(lab: Lab, database: str, set_id: str = "") -> Iterator[Future[BaseBackup]]:
    """A backup in another thread, throttled to 1 MiB/s, which has begun to store objects."""
    throttled = lab.server.model_copy(update={"max_backup_mib": 1})
    set_id = set_id or lab.new_set()
    with ThreadPoolExecutor(max_workers=1) as pool:
        running = pool.submit(lab.backup, database, server=throttled, set_id=set_id)
        wait_until(
            lambda: running.done() or any(lab.store.list(lab.prefix(set_id))), timeout=60, what="the backup stores objects"
        )
        assert not running.done()
        yield running


def failure(running: Future[BaseBackup]) -> ServiceError:
    """How the backup failed: clearly, and so that another try is worth it."""
    error = running.exception(timeout=90)
    assert isinstance(error, ServiceError)
    assert not error.permanent
    assert "\n" not in str(error)
    return error


def finished(lab: Lab, set_id: str) -> bool:
    """Whether the set holds what looks like a finished backup."""
    return any(item.key.endswith("/.backup") for item in lab.store.list(lab.prefix(set_id)))


def test_clickhouse_killed_in_the_middle(lab: Lab, clickhouse_engine: ClickHouseEngine) -> None:
    name, set_id = lab.database(*LARGE), lab.new_set()
    with slow_backup(lab, name, set_id) as running:
        assert merges_stopped(lab.server, [name]) != []
        clickhouse_engine.kill()
        clickhouse_engine.start()  # at once, as Railway does: it has forgotten the backup
        error = failure(running)
    assert "restarted while it backed up" in str(error) or "no answer" in str(error)
    assert not finished(lab, set_id)
    assert merges_stopped(lab.server, [name]) == []
    assert lab.drill(lab.backup(name)) == []


@pytest.mark.long
def test_the_store_killed_in_the_middle(lab: Lab, s3_engine: S3Engine) -> None:
    name, set_id = lab.database(*LARGE), lab.new_set()
    with slow_backup(lab, name, set_id) as running:
        s3_engine.kill()
        try:
            error = failure(running)
            assert merges_stopped(lab.server, [name]) == []
        finally:
            s3_engine.start()
    assert "BACKUP failed" in str(error)
    assert "Connection refused [code 499]" in str(error)
    assert not finished(lab, set_id)
    assert lab.drill(lab.backup(name)) == []


def test_another_try_into_the_same_set_ends_and_replaces_what_the_first_left(lab: Lab) -> None:
    name = lab.database(*LARGE)
    set_id = lab.new_set()
    with slow_backup(lab, name, set_id) as running:
        again = lab.backup(name, set_id=set_id)
        assert f"an earlier backup into {again.prefix}{again.component.path} is still running; ending it" in lab.progress
        running.exception(timeout=90)  # ended, or done just before that
    assert lab.drill(again) == []


def test_a_deadline_ends_the_backup_on_the_server(lab: Lab, client: ClickHouseClient) -> None:
    name = lab.database(*LARGE)
    with pytest.raises(ServiceError, match="BACKUP was not done after 1 s and is ended; raise BACKUP_DEADLINE_MINUTES"):
        lab.backup(name, server=lab.server.model_copy(update={"max_backup_mib": 1}), deadline=1.0)
    assert client.rows("SELECT id FROM system.backups WHERE status = 'CREATING_BACKUP'") == []
    assert merges_stopped(lab.server, [name]) == []


@pytest.mark.long
@pytest.mark.parametrize(
    "damage", ["TRUNCATE TABLE {db}.t", "ALTER TABLE {db}.t ADD COLUMN late UInt8", "DROP TABLE {db}.other"]
)
def test_tables_changed_by_somebody_during_the_backup_are_an_error_worth_another_try(
    lab: Lab, client: ClickHouseClient, damage: str
) -> None:
    name = lab.database(*LARGE)
    with slow_backup(lab, name) as running:
        client.command(f"INSERT INTO {name}.t VALUES (1, NULL, NULL)")
        client.command(damage.format(db=name), {"alter_sync": 0, "mutations_sync": 0})
        error = running.exception(timeout=90)
    if error is not None:  # a TRUNCATE after its parts were read hurts nobody
        assert isinstance(error, ServiceError)
        assert not error.permanent
    assert merges_stopped(lab.server, [name]) == []
    assert lab.drill(lab.backup(name)) == []


def test_merges_stopped_by_a_process_that_died_are_started_again(lab: Lab, client: ClickHouseClient) -> None:
    name = lab.database(*WITH_NULLS)
    for table in inventory(client, name).values():
        stop_merges(client, table)
    assert merges_stopped(lab.server, [name]) == [f"{name}.other", f"{name}.t"]
    start_all_merges(lab.server, [name])
    assert merges_stopped(lab.server, [name]) == []


@pytest.mark.parametrize("signalled", [False, True], ids=["one-lost", "one-lost-and-a-signal"])
def test_whatever_goes_wrong_with_one_table_the_merges_of_all_others_are_started_again(lab: Lab, signalled: bool) -> None:
    name = lab.database(*WITH_NULLS)

    def say(text: str) -> None:
        lab.progress.append(text)
        if signalled:
            raise KeyboardInterrupt

    with Proxy(lab.server.port) as proxy, lab.server.model_copy(update={"port": proxy.port}).client() as client:
        tables = list(inventory(client, name).values())
        lost = partial(proxy.swallow_answers, b"SYSTEM START MERGES `%s`.`other`" % name.encode())
        with pytest.raises(KeyboardInterrupt if signalled else ServiceError), merges_held(client, tables, say):
            lost(times=6 if signalled else 1000)
    assert any("could not start merges" in text and ".`other` again" in text for text in lab.progress)
    assert merges_stopped(lab.server, [name]) == []


class Writers:
    """Threads that insert without pause and merge now and then."""

    def __init__(self, server: ClickHouseServer, database: str) -> None:
        self._stop = threading.Event()
        self.inserted = 0
        statements: list[Callable[[int], str]] = [
            lambda n: f"INSERT INTO {database}.t SELECT {n} * 100 + number, NULL, {n} FROM numbers(100)",
            lambda n: f"OPTIMIZE TABLE {database}.t",
        ]
        self._threads = [threading.Thread(target=self._write, args=(server, statement)) for statement in statements]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self, server: ClickHouseServer, statement: Callable[[int], str]) -> None:
        number = 0
        with server.client() as client:
            while not self._stop.is_set():
                number += 1
                try:
                    client.command(statement(number))
                except ServiceError:
                    continue  # OPTIMIZE is refused while merges are stopped
                self.inserted += statement(number).startswith("INSERT")


def test_writers_write_and_merge_during_the_backup_and_the_drill_equals_the_manifest(
    lab: Lab, client: ClickHouseClient
) -> None:
    name = lab.database(*LARGE)
    with Writers(lab.server, name) as writers:
        wait_until(lambda: writers.inserted > 5, timeout=30, what="rows are being inserted")
        full = lab.backup(name)
        during = writers.inserted
        difference = lab.backup(name, base=full)
        assert writers.inserted > during > 5
    rows = [next(t.content.rows for t in one.component.tables if t.name == "t" and t.content) for one in (full, difference)]
    assert 5000 < rows[0] < rows[1] <= client.command(f"SELECT count() FROM {name}.t")
    assert lab.drill(full) == []
    assert lab.drill(difference) == []
