"""ClickHouse, against the real engine put into each bad state and back."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from flows.health.observation import Status
from flows.health.targets import ClickHouse, Limits, Targets
from shared.engines.clickhouse import ClickHouseEngine
from shared.engines.process import free_port, wait_until
from tests.health.looks import CANARY, Seen, look


class Warehouse:
    """The engine with a database of the test's own."""

    def __init__(self, engine: ClickHouseEngine) -> None:
        self.engine = engine
        self.database = f"watched_{secrets.token_hex(4)}"
        self.run(f"CREATE DATABASE {self.database} ENGINE = Atomic")

    def run(self, sql: str) -> str:
        headers = {"X-ClickHouse-User": self.engine.user, "X-ClickHouse-Key": self.engine.password}
        sql = sql.replace("{db}", self.database)
        answer = httpx.post(self.engine.url, content=sql, headers=headers, trust_env=False, timeout=60)
        assert answer.is_success, answer.text
        return answer.text.strip()

    def look(self, *, seconds: float = 5.0, **limits: float) -> Seen:
        target = ClickHouse(self.engine.url, self.engine.user, SecretStr(self.engine.password))
        # other tests share the engine, and this machine's disk is what it is
        own: dict[str, Any] = {"disk_percent": 100, "disk_full_percent": 100, **limits}
        return look(Targets(clickhouse=target, timeout=seconds, limits=replace(Limits(), **own)), "clickhouse")


@pytest.fixture
def warehouse(clickhouse_engine: ClickHouseEngine) -> Iterator[Warehouse]:
    made = Warehouse(clickhouse_engine)
    yield made
    made.run("DROP DATABASE {db}")


def test_a_healthy_server_is_ok_in_every_aspect(warehouse: Warehouse) -> None:
    seen = warehouse.look()
    assert seen.bad() == {}
    assert {"query", "disk", "parts", "mutations", "replication", "system-logs"} <= seen.keys()
    assert next(iter(seen)) == "query"


def test_a_disk_that_fills_is_degraded_and_a_full_one_down(warehouse: Warehouse) -> None:
    used = warehouse.look()["disk"].value or 0
    assert 0 < used < 100
    assert warehouse.look(disk_percent=used / 2).bad() == {"disk": Status.DEGRADED}
    seen = warehouse.look(disk_percent=used / 2, disk_full_percent=used / 2)
    assert seen.bad() == {"disk": Status.DOWN}
    assert "inserts fail" in seen.sentence("disk")
    assert warehouse.look(disk_percent=used + 1).bad() == {}


def test_parts_that_do_not_merge_are_degraded_until_they_do(warehouse: Warehouse) -> None:
    warehouse.run("CREATE TABLE {db}.t (x Int32) ENGINE = MergeTree ORDER BY x")
    warehouse.run("SYSTEM STOP MERGES {db}.t")
    for number in range(6):
        warehouse.run(f"INSERT INTO {{db}}.t VALUES ({number})")
    most = warehouse.look()["parts"].value or 0
    assert most >= 6
    assert warehouse.look(parts=5).bad() == {"parts": Status.DEGRADED}
    warehouse.run("SYSTEM START MERGES {db}.t")
    warehouse.run("OPTIMIZE TABLE {db}.t FINAL")
    merged = int(warehouse.run("SELECT count() FROM system.parts WHERE active AND database = '{db}'"))
    assert merged == 1
    assert warehouse.look(parts=most).bad() == {}


def test_a_mutation_that_fails_is_stuck_until_it_is_killed(warehouse: Warehouse) -> None:
    warehouse.run("CREATE TABLE {db}.t (x Int32, s String) ENGINE = MergeTree ORDER BY x")
    warehouse.run("INSERT INTO {db}.t VALUES (1, 'a')")
    warehouse.run("ALTER TABLE {db}.t UPDATE s = toString(throwIf(x = 1)) WHERE 1 SETTINGS mutations_sync = 0")
    wait_until(lambda: warehouse.look().bad() == {"mutations": Status.DEGRADED}, timeout=20, what="the mutation to fail")
    assert f"{warehouse.database}.t" in warehouse.look().sentence("mutations")
    warehouse.run("KILL MUTATION WHERE database = '{db}'")
    assert warehouse.look().bad() == {}


def test_a_replicated_table_on_one_node_is_degraded(warehouse: Warehouse) -> None:
    table = "ATTACH TABLE {db}.r UUID '{id}' (x Int32) ENGINE = ReplicatedMergeTree('/r', 'a') ORDER BY x"
    unique = secrets.token_hex(16)
    uuid = "-".join((unique[:8], unique[8:12], unique[12:16], unique[16:20], unique[20:]))
    warehouse.run(table.replace("{id}", uuid))
    seen = warehouse.look()
    assert seen.bad() == {"replication": Status.DEGRADED}
    assert "CLICKHOUSE_CLUSTER_ENABLED=false" in seen.sentence("replication")
    warehouse.run("DETACH TABLE {db}.r PERMANENTLY")
    assert warehouse.look().bad() == {}


def test_logs_of_its_own_that_eat_the_disk_are_degraded_until_they_are_gone(warehouse: Warehouse) -> None:
    table = f"system.trace_log_{secrets.token_hex(3)}"
    warehouse.run(f"CREATE TABLE {table} (x UInt64) ENGINE = MergeTree ORDER BY x")
    try:
        before = warehouse.look()["system-logs"].value or 0
        warehouse.run(f"INSERT INTO {table} SELECT rand64() FROM numbers(1000000)")
        assert warehouse.look(system_log_bytes=before + 4e6).bad() == {"system-logs": Status.DEGRADED}
        warehouse.run(f"TRUNCATE TABLE {table}")
        assert warehouse.look(system_log_bytes=before + 4e6).bad() == {}
    finally:
        warehouse.run(f"DROP TABLE {table} SYNC")


def test_a_dirty_migration_is_degraded_until_it_is_forced(warehouse: Warehouse) -> None:
    warehouse.run("CREATE TABLE {db}.schema_migrations (version Int64, dirty UInt8, sequence UInt64) ENGINE = TinyLog")
    warehouse.run("INSERT INTO {db}.schema_migrations VALUES (36, 0, 1), (37, 1, 2)")
    seen = warehouse.look()
    assert seen.bad() == {"schema-migrations": Status.DEGRADED}
    assert "migration 37" in seen.sentence("schema-migrations")
    warehouse.run("INSERT INTO {db}.schema_migrations VALUES (37, 0, 3)")
    seen = warehouse.look()
    assert seen.bad() == {}
    assert "schema-migrations" in seen


def test_a_server_that_hangs_is_down_in_one_aspect_in_time(warehouse: Warehouse) -> None:
    warehouse.engine.pause()
    try:
        seen = warehouse.look(seconds=0.5)
    finally:
        warehouse.engine.resume()
    assert seen.bad() == {"query": Status.DOWN}
    assert list(seen) == ["query"]
    assert warehouse.look()["query"].status is Status.OK


def test_nobody_there_is_down_and_a_wrong_password_unknown(clickhouse_engine: ClickHouseEngine) -> None:
    nobody = ClickHouse(f"http://127.0.0.1:{free_port()}", "default", SecretStr(CANARY))
    seen = look(Targets(clickhouse=nobody), "clickhouse")
    assert seen.bad() == {"query": Status.DOWN}
    wrong = ClickHouse(clickhouse_engine.url, "default", SecretStr(CANARY))
    seen = look(Targets(clickhouse=wrong), "clickhouse")
    assert seen.bad() == {"query": Status.UNKNOWN}
    assert "correct CLICKHOUSE_USER" in seen.sentence("query")
