"""failed-prisma-migration on a real Postgres: what of a migration is there decides what its ledger is told."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from pydantic import SecretStr

from blocks.errors import ApprovalMissing, BackupFailed, GuardRefused, NotHealed, SettingsError
from blocks.object_store import BackupStore
from blocks.postgres import PostgresServer
from blocks.settings import Settings
from flows.health.targets import Postgres, Targets
from flows.runbook.failed_prisma_migration import Application, Known, PrismaMigration, PrismaRequest, applications, decide
from flows.runbook.frame import Verdict
from flows.runbook.prisma_ledger import Failed, is_of
from flows.runbook.sql_effects import Effect, commits_itself, effects, statements
from shared.engines.postgres import PostgresEngine
from tests.runbook.cases import CANARY, IMPATIENT, Desk, Died, dies_after

NAME = "20261101000000_add_cost"
SCRIPT = """-- AlterTable; a comment
ALTER TABLE "Thing" ADD COLUMN     "cost" DECIMAL(65,30) NOT NULL DEFAULT 0,
ADD COLUMN     "note" TEXT DEFAULT 'a; b';

-- CreateTable
CREATE TABLE "Other" ("id" TEXT NOT NULL, CONSTRAINT "Other_pkey" PRIMARY KEY ("id"));

-- CreateIndex
CREATE UNIQUE INDEX "Other_id_key" ON "Other"("id");
"""
LEDGER = """
CREATE TABLE _prisma_migrations (id varchar(36) PRIMARY KEY, checksum varchar(64) NOT NULL, finished_at timestamptz,
  migration_name varchar(255) NOT NULL, logs text, rolled_back_at timestamptz, started_at timestamptz NOT NULL DEFAULT now(),
  applied_steps_count integer NOT NULL DEFAULT 0)
"""
LOGS = f"""A migration failed to apply. New migrations cannot be applied before the error is recovered from.

Database error code: 42701

Database error:
ERROR: column "{CANARY}" of relation "Thing" already exists
"""


class Ledger:
    """A database with Prisma's ledger, in which one migration has not ended.

    Attributes:
        taken: labels of the backup sets that were asked for. fails: taking one fails.
    """

    def __init__(self, engine: PostgresEngine) -> None:
        self.engine, self.database = engine, f"prisma_{secrets.token_hex(4)}"
        self.taken: list[str] = []
        self.fails = False
        with psycopg.connect(engine.url(), autocommit=True) as admin:
            admin.execute(f'CREATE DATABASE "{self.database}"'.encode())
        self.run(LEDGER)
        self.run('CREATE TABLE "Thing" (id text)')

    def run(self, sql: str, *parameters: object) -> list[tuple[object, ...]]:
        with psycopg.connect(self.engine.url(self.database), autocommit=True) as connection:
            cursor = connection.execute(sql.encode(), list(parameters) or None)
            return cursor.fetchall() if cursor.description else []

    def break_off(self, *, logs: str | None = None, script: str = SCRIPT) -> None:
        checksum = hashlib.sha256(script.encode()).hexdigest()
        self.run(
            "INSERT INTO _prisma_migrations (id, checksum, migration_name, logs, started_at) "
            "VALUES (gen_random_uuid()::text, %s, %s, %s, now() - interval '20 min')",
            checksum,
            NAME,
            logs,
        )

    def rows(self) -> list[tuple[object, ...]]:
        return self.run(
            "SELECT migration_name, finished_at IS NOT NULL, rolled_back_at IS NOT NULL, applied_steps_count "
            "FROM _prisma_migrations ORDER BY started_at"
        )

    def secure(self, label: str) -> str:
        if self.fails:
            raise BackupFailed("backup: no room")
        self.taken.append(label)
        return "20261126T030000Z-aaaaaa"

    def runbook(self, at_work: str = "", **request: object) -> PrismaMigration:
        url = SecretStr(self.engine.url())
        targets = Targets(timeout=20, postgres=Postgres(url, (("litellm", self.database),)))
        application = Application("litellm", self.database, "migrations-litellm")
        given = PrismaRequest.model_validate(request)
        return PrismaMigration(PostgresServer(url=url), application, targets, lambda: at_work, self.secure, request=given)


@pytest.fixture
def ledger(postgres_engine: PostgresEngine) -> Iterator[Ledger]:
    made = Ledger(postgres_engine)
    yield made
    with psycopg.connect(postgres_engine.url(), autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{made.database}" WITH (FORCE)'.encode())


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store, pace=IMPATIENT)


FAILED = (NAME, False, False, 0)
TAKEN_BACK = (NAME, False, True, 0)
APPLIED = (NAME, True, False, 0)


def test_a_migration_that_postgres_refused_runs_again_once_a_person_approves(ledger: Ledger, desk: Desk) -> None:
    assert desk.heal(ledger.runbook()) == "nothing to do"
    ledger.break_off(logs=LOGS)
    request = PrismaRequest(dry_run=True)
    assert desk.heal(ledger.runbook(), request) == "can heal"
    assert (ledger.rows(), ledger.taken) == ([FAILED], []), "a dry run"
    assert desk.heal(ledger.runbook()) == "healed"
    assert ledger.rows() == [TAKEN_BACK]
    assert ledger.taken == [f"before resolving {NAME}"]
    assert "42701 DuplicateColumn" in desk.text()
    assert CANARY not in desk.text(), "what Postgres said may quote rows"
    assert desk.heal(ledger.runbook()) == "nothing to do", "run twice"


def test_with_its_sql_a_migration_that_was_cut_off_is_judged_by_what_is_there(ledger: Ledger, desk: Desk) -> None:
    ledger.break_off()
    with pytest.raises(NotHealed, match=r"was cut off.*nobody knows how far it came: give its migration.sql"):
        desk.heal(ledger.runbook())
    with pytest.raises(NotHealed, match="not its own, by the checksum"):
        desk.heal(ledger.runbook(migration_sql=SCRIPT.replace("cost", "price")))
    assert (ledger.rows(), ledger.taken) == ([FAILED], [])
    ledger.run(SCRIPT)
    assert desk.heal(ledger.runbook(migration_sql=SCRIPT)) == "healed"
    assert ledger.rows() == [TAKEN_BACK, APPLIED]


def test_where_nothing_of_it_is_there_it_runs_again(ledger: Ledger, desk: Desk) -> None:
    ledger.break_off()
    assert desk.heal(ledger.runbook(migration_sql=SCRIPT.replace("\n", "\r\n"))) == "healed"
    assert ledger.rows() == [TAKEN_BACK]


def test_half_a_migration_is_named_and_left_to_a_person(ledger: Ledger, desk: Desk) -> None:
    ledger.break_off(logs=LOGS)
    ledger.run('ALTER TABLE "Thing" ADD COLUMN "cost" DECIMAL(65,30)')
    with pytest.raises(
        NotHealed, match=r"half of it \(1 of 4\): column Thing.cost made is done, column Thing.note made is not"
    ):
        desk.heal(ledger.runbook(migration_sql=SCRIPT))
    assert (ledger.rows(), ledger.taken, desk.asked) == ([FAILED], [], [])
    assert desk.heal(ledger.runbook(resolve="rolled-back")) == "healed"


def test_without_approval_or_without_a_backup_set_nothing_is_written(ledger: Ledger, desk: Desk) -> None:
    ledger.break_off(logs=LOGS)
    desk.approves = False
    with pytest.raises(ApprovalMissing):
        desk.heal(ledger.runbook())
    assert (ledger.rows(), ledger.taken) == ([FAILED], [])
    desk.approves, ledger.fails = True, True
    with pytest.raises(NotHealed, match="no room"):
        desk.heal(ledger.runbook())
    assert ledger.rows() == [FAILED]


def test_while_prisma_migrates_nothing_is_written(ledger: Ledger, desk: Desk) -> None:
    ledger.break_off(logs=LOGS)
    (action,) = ledger.runbook().diagnose().actions
    with psycopg.connect(ledger.engine.url(ledger.database)) as prisma:
        prisma.execute("SELECT pg_advisory_lock(72707369)")
        with pytest.raises(NotHealed, match="Prisma migrates right now"):
            desk.heal(ledger.runbook())
        with pytest.raises(GuardRefused, match="Prisma migrates it right now"):
            action.do()
    assert ledger.rows() == [FAILED]


def test_a_run_that_died_between_backup_and_ledger_is_run_again_and_one_that_somebody_overtook_does_nothing(
    ledger: Ledger, desk: Desk
) -> None:
    ledger.break_off(logs=LOGS)

    runbook = ledger.runbook()
    runbook.secure = dies_after(ledger.secure)
    with pytest.raises(Died):
        desk.heal(runbook)
    assert ledger.rows() == [FAILED]
    (action,) = ledger.runbook().diagnose().actions
    assert desk.heal(ledger.runbook()) == "healed"
    assert len(set(ledger.taken)) == 1
    assert "resolved already" in action.needless()
    with pytest.raises(GuardRefused, match="was resolved meanwhile"):
        action.do()
    assert ledger.rows() == [TAKEN_BACK]


def test_it_refuses_while_another_flow_works_on_the_stack(ledger: Ledger, desk: Desk) -> None:
    ledger.break_off(logs=LOGS)
    with pytest.raises(NotHealed, match="upgrade is under way"):
        desk.heal(ledger.runbook(at_work="upgrade"))


def test_an_incident_says_whose_migrations_are_meant() -> None:
    settings = Settings()
    both = [one.service for one in applications(PrismaRequest(), settings)]
    assert both == ["litellm", "langfuse-web"]
    key = "stack/postgres/migrations-langfuse/20261126T030000Z"
    assert [one.service for one in applications(PrismaRequest(incident=key), settings)] == ["langfuse-web"]
    assert [one.service for one in applications(PrismaRequest(application="litellm"), settings)] == ["litellm"]
    with pytest.raises(SettingsError, match="is no ledger of Prisma's"):
        applications(PrismaRequest(incident="stack/postgres/connections/20261126T030000Z"), settings)


ONE = Failed("1", NAME, "0" * 64, 20.0, reported=True, code="42701")
CUT = replace(ONE, reported=False, code="")
COLUMN = Effect("column", "cost", "Thing")


@pytest.mark.parametrize(
    ("known", "request_", "verdict", "applied"),
    [
        (Known([], []), PrismaRequest(), Verdict.NOTHING, None),
        (Known(["bad"], [ONE]), PrismaRequest(), Verdict.HEALS, False),
        (Known(["bad"], [CUT]), PrismaRequest(), Verdict.PERSON, None),
        (Known(["bad"], [CUT]), PrismaRequest(resolve="applied"), Verdict.HEALS, True),
        (Known(["bad"], [ONE], commits=True, there=[]), PrismaRequest(migration_sql="x"), Verdict.PERSON, None),
        (Known(["bad"], [ONE], there=[(COLUMN, True)]), PrismaRequest(migration_sql="x"), Verdict.HEALS, True),
        (Known(["bad"], [ONE], there=[(COLUMN, False)]), PrismaRequest(migration_sql="x"), Verdict.HEALS, False),
        (Known(["bad"], [ONE], under_way=True), PrismaRequest(resolve="applied"), Verdict.PERSON, None),
        (Known(["bad"], [ONE], at_work="restore"), PrismaRequest(resolve="applied"), Verdict.PERSON, None),
    ],
)
def test_what_is_known_decides(known: Known, request_: PrismaRequest, verdict: Verdict, applied: bool | None) -> None:
    asked: list[bool] = []

    def ladder(failed: Failed | None, whole: bool, why: str) -> tuple[()]:
        assert why or failed is None
        asked.append(whole)
        return ()

    found = decide(known, request_, ladder)
    assert found.verdict is verdict, found.sentence
    assert asked[-1:] == ([applied] if verdict is Verdict.HEALS else [])


def test_the_effects_of_a_script_are_read_from_it() -> None:
    assert len(statements(SCRIPT)) == 3
    assert effects(SCRIPT) == [
        Effect("column", "cost", "Thing"),
        Effect("column", "note", "Thing"),
        Effect("relation", "Other"),
        Effect("relation", "Other_id_key"),
    ]
    assert effects('CREATE TABLE "A" (x int); DROP TABLE "A";') == [Effect("relation", "A", there=False)]
    assert effects("ALTER TYPE \"Role\" ADD VALUE IF NOT EXISTS 'VIEWER'") == [Effect("label", "VIEWER", "Role")]
    assert effects('ALTER TABLE ONLY public."T" DROP CONSTRAINT "T_fkey", ADD CONSTRAINT t2 UNIQUE (a)') == [
        Effect("constraint", "T_fkey", "T", there=False),
        Effect("constraint", "t2", "T"),
    ]
    assert effects("CREATE TYPE \"Kind\" AS ENUM ('A'); UPDATE t SET a = 'CREATE TABLE b'") == [Effect("type", "Kind")]
    assert effects("CREATE FUNCTION f() RETURNS int AS $x$ DROP TABLE a; $x$ LANGUAGE sql") == []


@pytest.mark.parametrize(
    ("script", "itself"),
    [
        (SCRIPT, False),
        ("BEGIN; SELECT 1; COMMIT", True),
        ('CREATE INDEX CONCURRENTLY "i" ON t(a)', True),
        ("UPDATE t SET a = 1", False),
    ],
)
def test_a_script_that_is_no_single_transaction_is_known(script: str, itself: bool) -> None:
    assert commits_itself(script) is itself


def test_a_script_is_known_by_its_checksum() -> None:
    failed = replace(ONE, checksum=hashlib.sha256(SCRIPT.encode()).hexdigest())
    assert is_of(SCRIPT, failed)
    assert is_of(SCRIPT.rstrip("\n"), failed), "a form may cut the last line's end off"
    assert not is_of(SCRIPT + "--", failed)
