"""clickhouse-disk on the real engine: its logs are made small, what somebody reads and what belongs to others stays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from blocks.clickhouse import ClickHouseServer
from blocks.errors import NotHealed
from blocks.object_store import BackupStore
from flows.health.targets import ClickHouse, Limits, Railway, Targets
from flows.runbook.clickhouse_disk import ASPECTS, Filling, Known, decide
from flows.runbook.clickhouse_logs import Log, ShortenKept
from flows.runbook.frame import Action, RunbookRequest, Verdict
from shared.engines.clickhouse import ClickHouseEngine
from tests.blocks.railway_script import Script, deployment, environment
from tests.runbook.cases import CANARY, IMPATIENT, Desk

ROTATED, LIVE = "trace_log_77", "zz_metric_log"
MEGABYTES = 2_000_000


class Disk:
    """The engine with logs of its own, as a server's configuration makes them."""

    def __init__(self, engine: ClickHouseEngine) -> None:
        self.engine = engine

    def run(self, sql: str) -> str:
        login = {"X-ClickHouse-User": self.engine.user, "X-ClickHouse-Key": self.engine.password}
        answer = httpx.post(self.engine.url, content=sql, headers=login, trust_env=False, timeout=120)
        assert answer.is_success, answer.text
        return answer.text.strip()

    def log(self, name: str, rows: int, days: int = 0) -> None:
        """Make a log with rows of some days ago."""
        self.run(f"DROP TABLE IF EXISTS system.{name} SYNC")
        columns = "event_date Date, x UInt64"
        self.run(f"CREATE TABLE system.{name} ({columns}) ENGINE = MergeTree PARTITION BY toYYYYMM(event_date) ORDER BY x")
        self.run(f"INSERT INTO system.{name} SELECT today() - {days}, rand64() FROM numbers({rows})")

    def rows(self, name: str) -> int:
        return int(self.run(f"SELECT count() FROM system.{name}"))

    def bytes(self) -> float:
        found = self.run("SELECT sum(bytes_on_disk) FROM system.parts WHERE database = 'system' AND table LIKE '%\\_log%'")
        return float(found)

    def block(self) -> ClickHouseServer:
        engine = self.engine
        return ClickHouseServer(host=engine.host, port=engine.port, user=engine.user, password=SecretStr(engine.password))

    def runbook(self, system_log_bytes: float, **limits: float) -> Filling:
        # this machine's disk is what it is
        own = replace(Limits(), disk_percent=100, disk_full_percent=100, system_log_bytes=system_log_bytes, **limits)  # type: ignore[arg-type]
        target = ClickHouse(self.engine.url, self.engine.user, SecretStr(self.engine.password))
        return Filling(self.block(), Targets(timeout=20, clickhouse=target, limits=own), aspects=("system-logs",))


@pytest.fixture
def disk(clickhouse_engine: ClickHouseEngine) -> Iterator[Disk]:
    made = Disk(clickhouse_engine)
    made.log(ROTATED, 400_000)
    made.log(LIVE, 400_000)
    yield made
    for name in (ROTATED, LIVE):
        made.run(f"DROP TABLE IF EXISTS system.{name} SYNC")


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store)


def test_copies_that_were_put_aside_go_first_and_where_that_is_enough_nothing_else_does(disk: Disk, desk: Desk) -> None:
    enough = disk.bytes() - MEGABYTES
    assert desk.heal(disk.runbook(enough), RunbookRequest(dry_run=True)) == "can heal"
    assert (disk.rows(ROTATED), disk.rows(LIVE), desk.trail()) == (400_000, 400_000, [])
    assert desk.heal(disk.runbook(enough)) == "healed"
    assert (disk.rows(ROTATED), disk.rows(LIVE)) == (0, 400_000)
    assert "MB, then 0.0 MB" in desk.text()
    assert desk.heal(disk.runbook(enough)) == "nothing to do"


def test_then_logs_that_nobody_reads_are_emptied_and_keep_a_week_from_then_on(disk: Disk, desk: Desk) -> None:
    desk.pace = IMPATIENT
    small = disk.bytes() - 2 * MEGABYTES - 1_500_000
    disk.run("CREATE DATABASE runbook_disk ENGINE = Atomic")
    disk.run("CREATE TABLE runbook_disk.traces (x UInt64) ENGINE = MergeTree ORDER BY x")
    disk.run("INSERT INTO runbook_disk.traces SELECT number FROM numbers(1000)")
    try:
        assert desk.heal(disk.runbook(small)) == "healed"
        assert disk.rows(LIVE) == 0
        assert "TTL event_date + toIntervalDay(7)" in disk.run(f"SHOW CREATE TABLE system.{LIVE}")
        assert disk.run("SELECT count() FROM runbook_disk.traces") == "1000"
    finally:
        disk.run("DROP DATABASE runbook_disk SYNC")


def test_a_log_that_somebody_reads_loses_only_what_is_old(disk: Disk) -> None:
    disk.log(LIVE, 1000, days=40)
    disk.run(f"INSERT INTO system.{LIVE} SELECT today(), rand64() FROM numbers(10)")
    action = ShortenKept(disk.block(), (Log(LIVE, 1, limited=False, dated=True),), 7)
    action.do()
    assert disk.rows(LIVE) == 10
    action.do()
    assert disk.rows(LIVE) == 10, "safe twice"


def test_where_its_logs_are_small_a_person_is_needed(disk: Disk, desk: Desk) -> None:
    for name in (ROTATED, LIVE):
        disk.run(f"TRUNCATE TABLE system.{name} SYNC")
    disk.log(LIVE, 100)
    with pytest.raises(NotHealed, match=r"needs a person: .*its logs are not what fills it: grow the volume"):
        desk.heal(disk.runbook(0.0))
    assert disk.rows(LIVE) == 100


# --- the volume, of which only the platform knows -------------------------------------------------------------------------


def inventory(used_mb: float) -> dict[str, Any]:
    """What Railway says of ClickHouse, whose volume has 100 MB."""
    volume = {"id": "vi-1", "volumeId": "v-1", "serviceId": "service-clickhouse", "mountPath": "/var/lib/clickhouse"}
    measured = {"sizeMB": 100, "currentSizeMB": used_mb, "state": "READY", "isPendingDeletion": False}
    service = {"serviceName": "clickhouse", "latestDeployment": deployment(), "activeDeployments": [deployment()]}
    return environment(service, volumes=(volume | measured,))


def watched(filling: Filling, script: Script, *aspects: str) -> Filling:
    """The same, with the platform's word, about some aspects."""
    there = Railway(script.url, "project", SecretStr(CANARY), "project-1", "environment-1")
    return replace(filling, targets=replace(filling.targets, railway=there), aspects=aspects)


def test_a_full_volume_is_emptied_and_the_platform_s_next_measurement_is_waited_for(disk: Disk, desk: Desk) -> None:
    late = [inventory(95), inventory(95), inventory(95), inventory(40)]
    with Script({"Inventory": late, "Metrics": [{"metrics": []}]}) as script:
        filling = watched(disk.runbook(1e12), script, "volume")
        assert desk.heal(filling) == "healed"
        assert (disk.rows(ROTATED), disk.rows(LIVE)) == (0, 400_000), "what was enough was not known at once"
        assert desk.heal(filling) == "nothing to do"
    assert "is 95 % full" in desk.text()


def test_by_hand_a_full_volume_counts_and_one_that_the_platform_does_not_speak_of_does_not(disk: Disk, desk: Desk) -> None:
    with Script({"Inventory": [inventory(95), inventory(40)], "Metrics": [{"metrics": []}]}) as script:
        assert desk.heal(watched(disk.runbook(1e12), script, *ASPECTS), RunbookRequest(dry_run=True)) == "can heal"
    assert desk.heal(replace(disk.runbook(1e12), aspects=ASPECTS), RunbookRequest(dry_run=True)) == "nothing to do"


# --- decisions -----------------------------------------------------------------------------------------------------------


def log(name: str, size: int = 50_000_000, *, limited: bool = False) -> Log:
    return Log(name, size, limited, dated=True)


def rungs(*logs: Log, wrong: tuple[str, ...] = ("full",)) -> tuple[Verdict, list[tuple[str, list[str]]]]:
    """The verdict, and what each rung is about."""
    made: list[tuple[str, list[str]]] = []

    def rung(how: str, chosen: tuple[Log, ...]) -> Action:
        made.append((how, [one.name for one in chosen]))
        return ShortenKept(ClickHouseServer(host="nowhere"), chosen, 7)

    found = decide(Known(wrong, logs), lambda chosen: rung("cut", chosen), lambda chosen: rung("shorten", chosen))
    return found.verdict, made


def test_the_ladder_spares_what_is_read_what_is_small_and_what_is_limited() -> None:
    everything = (log("trace_log_0"), log("trace_log"), log("query_log"), log("part_log", limited=True), log("text_log", 10))
    assert rungs(*everything) == (
        Verdict.HEALS,
        [("cut", ["trace_log_0"]), ("cut", ["trace_log"]), ("shorten", ["query_log"])],
    )
    assert rungs(log("part_log", limited=True)) == (Verdict.PERSON, [])
    assert rungs(log("trace_log"), wrong=()) == (Verdict.NOTHING, [])
