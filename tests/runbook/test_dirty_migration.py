"""dirty-migration on the real engine: how far a broken migration came is read from ClickHouse's own log."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

import httpx
import pytest
from pydantic import SecretStr

from blocks.clickhouse import ClickHouseServer
from blocks.errors import ApprovalMissing, BackupFailed, GuardRefused, NotHealed
from blocks.object_store import BackupStore
from flows.health.targets import ClickHouse, Targets
from flows.runbook.clickhouse_ledger import Ledger, Mark, Statement, is_repeatable
from flows.runbook.dirty_migration import Known, Migration, decide
from flows.runbook.frame import RunbookRequest, Verdict
from shared.engines.clickhouse import ClickHouseEngine
from tests.runbook.cases import IMPATIENT, Desk, Died, dies_after


class Warehouse:
    """The engine with a database whose migration 37 is whole.

    Attributes:
        taken: labels of the backup sets that were asked for. fails: taking one fails.
    """

    def __init__(self, engine: ClickHouseEngine) -> None:
        self.engine = engine
        self.database = f"dirty_{secrets.token_hex(4)}"
        self.taken: list[str] = []
        self.fails = False
        self.run(f"CREATE DATABASE {self.database} ENGINE = Atomic")
        self.run("CREATE TABLE {db}.traces (id String) ENGINE = MergeTree ORDER BY id")
        self.run("CREATE TABLE {db}.schema_migrations (version Int64, dirty UInt8, sequence UInt64) ENGINE = TinyLog")
        self.mark(37, dirty=True)
        self.mark(37, dirty=False)

    def run(self, sql: str, *, fails: bool = False) -> str:
        login = {"X-ClickHouse-User": self.engine.user, "X-ClickHouse-Key": self.engine.password}
        text = sql.replace("{db}", self.database)
        answer = httpx.post(self.engine.url, content=text, headers=login, trust_env=False, timeout=120)
        assert answer.is_success is not fails, answer.text
        return answer.text.strip()

    def mark(self, version: int, *, dirty: bool) -> None:
        """As golang-migrate does before and after a migration."""
        self.run(f"INSERT INTO {{db}}.schema_migrations VALUES ({version}, {int(dirty)}, {time.time_ns()})")

    def break_off(self, *statements: str) -> None:
        """Migration 38 carries some statements out, and then one that fails."""
        self.mark(38, dirty=True)
        for one in statements:
            self.run(one)
        self.run("ALTER TABLE {db}.traces MODIFY COLUMN missing String", fails=True)

    def ledger(self) -> list[str]:
        return self.run("SELECT version, dirty FROM {db}.schema_migrations ORDER BY sequence").split("\n")

    def secure(self, label: str) -> str:
        if self.fails:
            raise BackupFailed("backup: no room")
        self.taken.append(label)
        return "20261126T030000Z-aaaaaa"

    def runbook(self, resolve: str = "", at_work: str = "") -> Migration:
        engine = self.engine
        server = ClickHouseServer(host=engine.host, port=engine.port, user=engine.user, password=SecretStr(engine.password))
        targets = Targets(timeout=20, clickhouse=ClickHouse(engine.url, engine.user, SecretStr(engine.password)))
        return Migration(server, [self.database], targets, lambda: at_work, self.secure, resolve=resolve)


@pytest.fixture
def warehouse(clickhouse_engine: ClickHouseEngine) -> Iterator[Warehouse]:
    made = Warehouse(clickhouse_engine)
    yield made
    made.run("DROP DATABASE {db} SYNC")


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store, pace=IMPATIENT)


def test_a_migration_whose_statements_may_be_done_twice_runs_again_once_a_person_approves(
    warehouse: Warehouse, desk: Desk
) -> None:
    assert desk.heal(warehouse.runbook()) == "nothing to do"
    warehouse.break_off("CREATE TABLE IF NOT EXISTS {db}.events (id String) ENGINE = MergeTree ORDER BY id")
    before = warehouse.ledger()
    assert desk.heal(warehouse.runbook(), RunbookRequest(dry_run=True)) == "can heal"
    assert (warehouse.ledger(), warehouse.taken) == (before, []), "a dry run"
    assert desk.heal(warehouse.runbook()) == "healed"
    assert warehouse.ledger() == [*before, "37\t0"]
    assert warehouse.taken == ["before dirty-migration 38"]
    assert "decides which migrations Langfuse runs" in desk.asked[0]
    assert "CREATE TABLE IF NOT EXISTS" in desk.text()
    assert desk.heal(warehouse.runbook()) == "nothing to do"
    assert warehouse.ledger() == [*before, "37\t0"], "run twice"


def test_what_may_not_be_done_twice_is_shown_to_a_person_who_says_how_to_go_on(warehouse: Warehouse, desk: Desk) -> None:
    warehouse.break_off("ALTER TABLE {db}.traces ADD COLUMN cost Float64")
    before = warehouse.ledger()
    with pytest.raises(NotHealed, match=r"it did what may not be done twice: ALTER TABLE .*traces ADD COLUMN cost"):
        desk.heal(warehouse.runbook())
    assert (warehouse.ledger(), warehouse.taken, desk.asked) == (before, [], [])
    warehouse.run("ALTER TABLE {db}.traces DROP COLUMN cost")
    assert desk.heal(warehouse.runbook(resolve="again")) == "healed"
    assert warehouse.ledger()[-1] == "37\t0"


def test_a_migration_that_is_there_in_whole_is_marked_so(warehouse: Warehouse, desk: Desk) -> None:
    warehouse.mark(38, dirty=True)
    assert desk.heal(warehouse.runbook(resolve="applied")) == "healed"
    assert warehouse.ledger()[-1] == "38\t0"


def test_without_approval_or_without_a_backup_set_nothing_is_marked(warehouse: Warehouse, desk: Desk) -> None:
    warehouse.break_off()
    before = warehouse.ledger()
    desk.approves = False
    with pytest.raises(ApprovalMissing):
        desk.heal(warehouse.runbook())
    assert (warehouse.ledger(), warehouse.taken) == (before, [])
    desk.approves, warehouse.fails = True, True
    with pytest.raises(NotHealed, match="no room"):
        desk.heal(warehouse.runbook())
    assert warehouse.ledger() == before


def test_a_run_that_died_after_its_backup_set_is_run_again(warehouse: Warehouse, desk: Desk) -> None:
    warehouse.break_off()

    runbook = warehouse.runbook()
    runbook.secure = dies_after(warehouse.secure)
    with pytest.raises(Died):
        desk.heal(runbook)
    assert warehouse.ledger()[-1] == "38\t1"
    assert desk.heal(warehouse.runbook()) == "healed"
    assert set(warehouse.taken) == {"before dirty-migration 38"}, "the same label: the set that is there is found by it"


def test_a_ledger_that_somebody_else_has_mended_meanwhile_is_left_alone(warehouse: Warehouse, desk: Desk) -> None:
    warehouse.break_off()

    def meanwhile(label: str) -> str:
        warehouse.mark(38, dirty=False)
        return warehouse.secure(label)

    runbook = warehouse.runbook()
    runbook.secure = meanwhile
    (action,) = runbook.diagnose().actions
    with pytest.raises(GuardRefused, match="has changed since it was looked at"):
        action.do()
    assert warehouse.ledger()[-1] == "38\t0"
    assert action.needless() == "nothing is marked dirty any more"


def test_it_refuses_while_another_flow_works_on_the_stack(warehouse: Warehouse, desk: Desk) -> None:
    warehouse.break_off()
    with pytest.raises(NotHealed, match="upgrade is under way"):
        desk.heal(warehouse.runbook(at_work="upgrade"))
    assert warehouse.taken == []


LEDGER = Ledger("langfuse", (Mark(38, True, 5), Mark(37, False, 4), Mark(37, True, 3)))
DONE = Statement("CREATE TABLE IF NOT EXISTS t", 0, True)
FAILED = Statement("ALTER TABLE t MODIFY COLUMN c String", 10, True)
ONCE = Statement("ALTER TABLE t ADD COLUMN c String", 0, False)


@pytest.mark.parametrize(
    ("known", "resolve", "verdict", "said", "version"),
    [
        (Known([], None), "", Verdict.NOTHING, "no ClickHouse migration", None),
        (Known([], Ledger("x", (Mark(38, False, 5),))), "again", Verdict.NOTHING, "no ClickHouse migration", None),
        (Known(["dirty"], LEDGER), "", Verdict.PERSON, "does not say how far it came", None),
        (Known(["dirty"], LEDGER, statements=[]), "", Verdict.HEALS, "nothing of it was carried out", 37),
        (Known(["dirty"], LEDGER, statements=[FAILED]), "", Verdict.HEALS, "nothing of it was carried out", 37),
        (Known(["dirty"], LEDGER, statements=[DONE, FAILED]), "", Verdict.HEALS, "may be done twice", 37),
        (Known(["dirty"], LEDGER, statements=[ONCE, FAILED]), "", Verdict.PERSON, "may not be done twice", None),
        (Known(["dirty"], LEDGER, statements=[ONCE]), "again", Verdict.HEALS, "may run again", 37),
        (Known(["dirty"], LEDGER, statements=[ONCE]), "applied", Verdict.HEALS, "all of it is there", 38),
        (Known(["dirty"], LEDGER, running=1), "again", Verdict.PERSON, "still runs", None),
        (Known(["dirty"], LEDGER, at_work="restore"), "again", Verdict.PERSON, "restore is under way", None),
    ],
)
def test_what_is_known_decides(known: Known, resolve: str, verdict: Verdict, said: str, version: int | None) -> None:
    asked: list[int | None] = []

    def ladder(_: Ledger, wanted: int | None) -> tuple[()]:
        asked.append(wanted)
        return ()

    found = decide(known, resolve, ladder)
    assert (found.verdict, said in found.sentence) == (verdict, True), found.sentence
    if verdict is Verdict.HEALS:
        assert asked[-1:] == [version]


@pytest.mark.parametrize(
    ("statement", "repeatable"),
    [
        ("CREATE TABLE IF NOT EXISTS a.t (x Int8) ENGINE = Memory", True),
        ("CREATE TABLE t (x Int8) ENGINE = Memory", False),
        ("CREATE MATERIALIZED VIEW IF NOT EXISTS v TO t AS SELECT 1", True),
        ("CREATE OR REPLACE VIEW v AS SELECT 1", True),
        ("DROP TABLE IF EXISTS t", True),
        ("DROP VIEW t", False),
        ("ALTER TABLE t ADD COLUMN IF NOT EXISTS c String", True),
        ("ALTER TABLE t ADD COLUMN c String", False),
        ("alter table t\n add column if not exists c String, add column d String", False),
        ("ALTER TABLE t ADD INDEX IF NOT EXISTS i c TYPE minmax GRANULARITY 1", True),
        ("ALTER TABLE t DROP INDEX IF EXISTS i", True),
        ("ALTER TABLE t MATERIALIZE INDEX IF EXISTS i", True),
        ("ALTER TABLE t MODIFY SETTING x = 1", True),
        ("ALTER TABLE t UPDATE c = c + 1 WHERE 1", False),
        ("ALTER TABLE t DELETE WHERE 1", False),
        ("ALTER TABLE t DROP PARTITION 202601", False),
        ("ALTER TABLE t RENAME COLUMN a TO b", False),
        ("RENAME TABLE a TO b", False),
        ("INSERT INTO t SELECT * FROM u", False),
    ],
)
def test_a_statement_may_be_repeated_where_a_guard_or_its_nature_says_so(statement: str, repeatable: bool) -> None:
    assert is_repeatable(statement) is repeatable


@pytest.mark.parametrize(
    ("marks", "before"),
    [
        ((Mark(38, True, 9), Mark(37, False, 8)), 37),
        ((Mark(38, True, 9), Mark(30, False, 8)), 30),
        ((Mark(38, True, 9),), 37),
        ((Mark(1, True, 9),), -1),
        ((Mark(38, True, 9), Mark(38, False, 8), Mark(37, False, 7)), 37),
    ],
)
def test_the_version_before_is_the_newest_whole_one(marks: tuple[Mark, ...], before: int) -> None:
    assert Ledger("x", marks).before == before
