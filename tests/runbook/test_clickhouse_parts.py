"""clickhouse-parts on the real engine: merges that somebody stopped, parts that pile up, mutations that cannot succeed."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest
from pydantic import SecretStr

from blocks.clickhouse import ClickHouseServer
from blocks.errors import ApprovalMissing, NotHealed
from blocks.object_store import BackupStore
from flows.health.targets import ClickHouse, Limits, Targets
from flows.runbook.clickhouse_merging import Mutation, Partition
from flows.runbook.clickhouse_parts import Known, TooManyParts, decide
from flows.runbook.frame import RunbookRequest, Verdict
from shared.engines.clickhouse import ClickHouseEngine
from shared.engines.process import wait_until
from tests.runbook.cases import CANARY, IMPATIENT, Desk

FEW = 3


class Warehouse:
    """The engine with a database of the test's own."""

    def __init__(self, engine: ClickHouseEngine) -> None:
        self.engine = engine
        self.database = f"parts_{secrets.token_hex(4)}"
        self.run(f"CREATE DATABASE {self.database} ENGINE = Atomic")
        self.run("CREATE TABLE {db}.t (x Int32, s String) ENGINE = MergeTree ORDER BY x")

    def run(self, sql: str) -> str:
        login = {"X-ClickHouse-User": self.engine.user, "X-ClickHouse-Key": self.engine.password}
        text = sql.replace("{db}", self.database)
        answer = httpx.post(self.engine.url, content=text, headers=login, trust_env=False, timeout=120)
        assert answer.is_success, answer.text
        return answer.text.strip()

    def pile_up(self, parts: int = 8) -> None:
        """Stop merges, and insert row by row."""
        self.run("SYSTEM STOP MERGES {db}.t")
        for number in range(parts):
            self.run(f"INSERT INTO {{db}}.t VALUES ({number}, 'a')")

    def parts(self) -> int:
        return int(self.run("SELECT count() FROM system.parts WHERE active AND database = '{db}'"))

    def runbook(self, aspect: str = "parts", at_work: str = "") -> TooManyParts:
        engine = self.engine
        server = ClickHouseServer(host=engine.host, port=engine.port, user=engine.user, password=SecretStr(engine.password))
        target = ClickHouse(engine.url, engine.user, SecretStr(engine.password))
        limits = replace(Limits(), disk_percent=100, disk_full_percent=100, parts=FEW)
        targets = Targets(timeout=20, clickhouse=target, limits=limits)
        return TooManyParts(server, targets, lambda: at_work, aspects=(aspect,))


@pytest.fixture
def warehouse(clickhouse_engine: ClickHouseEngine) -> Iterator[Warehouse]:
    made = Warehouse(clickhouse_engine)
    yield made
    made.run("DROP DATABASE {db}")


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store, pace=IMPATIENT)


def test_merges_that_a_dead_backup_has_left_stopped_are_started_and_the_parts_merged(warehouse: Warehouse, desk: Desk) -> None:
    warehouse.pile_up()
    assert desk.heal(warehouse.runbook(), RunbookRequest(dry_run=True)) == "can heal"
    assert (warehouse.parts(), desk.trail()) == (8, [])
    assert desk.heal(warehouse.runbook()) == "healed"
    assert warehouse.parts() <= FEW
    assert warehouse.run("SELECT count() FROM {db}.t") == "8"
    assert f"start the merges of {warehouse.database}.t again" in desk.text()
    assert desk.asked == []
    assert desk.heal(warehouse.runbook()) == "nothing to do"


def test_while_a_backup_is_under_way_merges_are_left_as_they_are(warehouse: Warehouse, desk: Desk) -> None:
    warehouse.pile_up()
    with pytest.raises(NotHealed, match="backup is under way, and may hold merges back"):
        desk.heal(warehouse.runbook(at_work="backup"))
    assert warehouse.parts() == 8


def test_a_mutation_that_cannot_succeed_is_killed_only_when_a_person_approves(warehouse: Warehouse, desk: Desk) -> None:
    warehouse.run("INSERT INTO {db}.t VALUES (1, 'a')")
    update = f"ALTER TABLE {{db}}.t UPDATE s = toString(throwIf(x = 1, '{CANARY}')) WHERE 1 SETTINGS mutations_sync = 0"
    warehouse.run(update)
    runbook = warehouse.runbook("mutations")
    wait_until(lambda: bool(runbook.wrong()), timeout=60, what="the mutation to fail")
    desk.approves = False
    with pytest.raises(ApprovalMissing):
        desk.heal(runbook)
    assert warehouse.run("SELECT count() FROM system.mutations WHERE NOT is_done AND database = '{db}'") == "1"
    desk.approves = True
    assert desk.heal(runbook) == "healed"
    assert warehouse.run("SELECT s FROM {db}.t") == "a"
    assert f"{warehouse.database}.t" in desk.asked[-1]
    assert "Code: 395" in desk.asked[-1]
    assert CANARY not in desk.text(), "what a statement says stays in ClickHouse"


# --- decisions -----------------------------------------------------------------------------------------------------------

CROWDED, STUCK = Partition("db", "t", "202611", 900), Mutation("db", "t", "m1", "UPDATE", "Code: 1")


@pytest.mark.parametrize(
    ("known", "verdict", "said"),
    [
        (Known([], [], [], []), Verdict.NOTHING, "merges"),
        (Known(["bad"], [CROWDED], [], []), Verdict.HEALS, "bad"),
        (Known(["bad"], [], [], [STUCK]), Verdict.HEALS, "bad"),
        (Known(["bad"], [], [], []), Verdict.PERSON, "nothing here explains it"),
        (Known(["bad"], [CROWDED], [], [], at_work="restore"), Verdict.PERSON, "restore is under way"),
    ],
)
def test_what_is_known_decides(known: Known, verdict: Verdict, said: str, clickhouse_server: ClickHouseServer) -> None:
    runbook = TooManyParts(clickhouse_server, Targets(), lambda: "")
    found = decide(known, runbook._ladder)
    assert (found.verdict, said in found.sentence) == (verdict, True), found.sentence
    assert bool(found.actions) is (verdict is Verdict.HEALS)


@pytest.fixture
def clickhouse_server() -> ClickHouseServer:
    """One that nobody asks."""
    return ClickHouseServer(host="nowhere")
