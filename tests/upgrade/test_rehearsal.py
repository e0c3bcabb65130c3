"""Migrations of another LiteLLM on a scratch database of a real Postgres, and the wheel that they come in, by the real pip."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from blocks.errors import GuardRefused, IntegrityError, ServiceError, SettingsError
from blocks.object_store import BackupStore
from blocks.postgres import PostgresServer
from flows.upgrade.rehearsal.applying import Applied
from flows.upgrade.rehearsal.confined import confined
from flows.upgrade.rehearsal.pending import Recorded, pending
from flows.upgrade.rehearsal.record import Rehearsal, load, save
from flows.upgrade.rehearsal.run import Found, Limits, Resolver, rehearse_on
from flows.upgrade.rehearsal.wheel import Migration, Wheel, extras_of, fetch, read
from shared.engines.postgres import PostgresEngine
from tests.upgrade import wheels

CANARY = "canary-77aa"
OWNER = "rehearsing"
MORE = "20260601000000_more"
LEDGER = """
CREATE TABLE _prisma_migrations (id varchar(36) PRIMARY KEY, checksum varchar(64) NOT NULL, finished_at timestamptz,
  migration_name varchar(255) NOT NULL, logs text, rolled_back_at timestamptz, started_at timestamptz NOT NULL DEFAULT now(),
  applied_steps_count integer NOT NULL DEFAULT 0)
"""
_numbers = itertools.count(1)


def wheel_of(more: Mapping[str, str]) -> Wheel:
    scripts = {**wheels.BASE, **more}
    return Wheel("9.9.9", 64 * "0", tuple(Migration(name, scripts[name].encode()) for name in sorted(scripts)))


@dataclass(frozen=True)
class Scratch:
    """A scratch database with the two first migrations and three rows."""

    server: PostgresServer
    migrator: PostgresServer
    database: str

    def rehearse(self, script: str = "", *, resolver: Resolver = "v2", statement_s: int = 60, health_s: int = 300) -> Found:
        more = {MORE: script} if script else {}
        limits = Limits(statement_s, health_s)
        return rehearse_on(self.server, self.migrator, self.database, wheel_of(more), resolver=resolver, limits=limits)

    def execute(self, statement: str) -> None:
        with self.server.connect(self.database) as connection:
            connection.execute(statement.encode())


@pytest.fixture
def scratch(postgres_engine: PostgresEngine) -> Iterator[Scratch]:
    name = f"litellm__drill_{next(_numbers):06}"
    server = PostgresServer(url=SecretStr(postgres_engine.url("postgres")), bin_dirs=[str(postgres_engine.bin_dir)])
    with psycopg.connect(postgres_engine.url("postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(OWNER)))
        admin.execute(sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0").format(*map(sql.Identifier, (name, OWNER))))
        with server.connect(name) as connection:
            connection.execute(LEDGER)
            connection.execute(f"GRANT ALL ON SCHEMA public TO {OWNER}; SET ROLE {OWNER}".encode())
            for migration in wheel_of({}).migrations:
                connection.execute(migration.sql)
            rows = 'INSERT INTO "LiteLLM_SpendLogs" SELECT i::text, i, %s FROM generate_series(1, 3) AS i'
            connection.execute(rows, [CANARY])
            connection.execute("RESET ROLE")
            for migration in wheel_of({}).migrations:
                connection.execute(
                    "INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at) VALUES (%s, %s, %s, now())",
                    [migration.checksum[:36], migration.checksum, migration.name],
                )
        yield Scratch(server, confined(server, name, OWNER), name)
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(OWNER)))


# --- what is pending -----------------------------------------------------------------------------------------------------

ONE, TWO, THREE = (Migration(f"2025010{number}_x", b"SELECT 1") for number in (1, 2, 3))


def done(migration: Migration, **changes: bool) -> Recorded:
    return Recorded(migration.name, migration.checksum, changes.get("is_done", True), changes.get("is_taken_back", False))


def test_what_is_not_recorded_as_done_is_pending_in_the_order_of_its_names() -> None:
    assert pending([THREE, ONE, TWO], [done(ONE)]).todo == (TWO, THREE)
    assert pending([ONE], [done(ONE)]).todo == ()
    assert pending([ONE], [done(ONE, is_done=False, is_taken_back=True)]).todo == (ONE,)


def test_a_database_that_is_ahead_one_that_broke_off_and_a_changed_script_are_named() -> None:
    assert pending([ONE], [done(ONE), done(TWO)]).ahead == (TWO.name,)
    assert pending([ONE, TWO], [done(ONE), done(TWO, is_done=False)]).broken == (TWO.name,)
    assert pending([ONE, TWO], [done(ONE), done(TWO, is_done=False), done(TWO)]).broken == ()
    assert pending([ONE], [Recorded(ONE.name, "other", is_done=True)]).changed == (ONE.name,)


# --- on a database -------------------------------------------------------------------------------------------------------


def test_a_version_without_new_migrations_changes_nothing(scratch: Scratch) -> None:
    found = scratch.rehearse()
    assert (found.applied, found.lost, found.problems, found.warnings) == ((), (), (), ())
    assert found.before.tables == found.after.tables


def test_one_more_migration_is_applied_once_timed_and_says_whom_it_keeps_waiting(scratch: Scratch) -> None:
    script = 'ALTER TABLE "LiteLLM_SpendLogs" ADD COLUMN team text NOT NULL DEFAULT md5(random()::text);'
    (applied,) = scratch.rehearse(script).applied
    assert (applied.name, applied.outcome, applied.blocked) == (MORE, "applied", ("LiteLLM_SpendLogs",))
    assert applied.seconds > 0
    assert scratch.rehearse(script).applied == ()


def test_what_may_not_run_in_a_transaction_is_run_without_one(scratch: Scratch) -> None:
    script = '-- needs no BEGIN; of its own\nCREATE INDEX CONCURRENTLY i ON "LiteLLM_SpendLogs" (note)'
    (applied,) = scratch.rehearse(script).applied
    assert (applied.outcome, applied.said) == ("applied", "")


def test_a_slow_migration_is_told_apart_from_one_that_never_ends(scratch: Scratch) -> None:
    slow = 'SELECT pg_sleep(0.3); CREATE TABLE "LiteLLM_Slow" (a int)'
    found = scratch.rehearse(slow, health_s=0)
    assert found.problems == ()
    assert found.applied[0].seconds >= 0.3
    assert "Railway waits 0 s" in found.warnings[0]
    scratch.execute(f"DELETE FROM _prisma_migrations WHERE migration_name = '{MORE}'")
    found = scratch.rehearse("SELECT pg_sleep(60)", statement_s=1)
    assert found.problems == (f"migration {MORE} fails: a statement took longer than 1 s",)


def test_a_migration_that_fails_is_named_with_its_reason_undone_and_the_last(scratch: Scratch) -> None:
    script = 'CREATE TABLE "LiteLLM_New" (a int); ALTER TABLE "LiteLLM_SpendLogs" ALTER spend TYPE uuid USING note::uuid'
    more = {MORE: script, "20260602000000_never": "CREATE TABLE never (a int)"}
    limits = Limits(60, 300)
    found = rehearse_on(scratch.server, scratch.migrator, scratch.database, wheel_of(more), resolver="v1", limits=limits)
    assert [one.outcome for one in found.applied] == ["failed"]
    assert found.problems == (f"migration {MORE} fails: invalid input syntax for type uuid: a value of the data (22P02)",)
    assert found.after.tables == found.before.tables


def test_what_is_there_already_is_forgiven_before_1_106_only(scratch: Scratch) -> None:
    scratch.execute('CREATE TABLE "LiteLLM_Extra" (a int)')
    script = 'CREATE TABLE "LiteLLM_Extra" (a int)'
    assert "(42P07)" in scratch.rehearse(script).problems[0]
    (applied,) = scratch.rehearse(script, resolver="v1").applied
    assert applied.outcome == "already there"
    assert scratch.rehearse(script, resolver="v1").applied == ()


def test_what_litellms_role_may_not_do_fails_in_the_rehearsal_too(scratch: Scratch) -> None:
    scratch.execute('CREATE TABLE "LiteLLM_Superusers" (a int)')
    found = scratch.rehearse('ALTER TABLE "LiteLLM_Superusers" ADD COLUMN b int')
    assert "must be owner" in found.problems[0]


@pytest.mark.parametrize(
    "script",
    [
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "RESET ROLE; CREATE ROLE intruder",
        "SET ROLE postgres",
        "SELECT pg_read_file('/etc/passwd')",
    ],
)
def test_a_script_that_reaches_for_more_than_its_database_gets_nowhere(scratch: Scratch, script: str) -> None:
    scratch.execute(f"ALTER ROLE {OWNER} SUPERUSER; GRANT pg_execute_server_program TO {OWNER}")
    migrator = confined(scratch.server, scratch.database, OWNER)
    found = rehearse_on(
        scratch.server, migrator, scratch.database, wheel_of({MORE: script}), resolver="v2", limits=Limits(60, 300)
    )
    assert "(42501)" in found.problems[0]


def test_what_the_first_superuser_owns_is_handed_over_to_a_role_that_can_do_less(scratch: Scratch) -> None:
    scratch.execute(
        f"REASSIGN OWNED BY {OWNER} TO postgres; "
        'CREATE TYPE "LiteLLM_Kind" AS ENUM (\'a\'); CREATE VIEW "LiteLLM_View" AS SELECT 1'
    )
    migrator = confined(scratch.server, scratch.database, "postgres")
    script = """
        ALTER TYPE "LiteLLM_Kind" ADD VALUE 'b';
        ALTER TABLE "LiteLLM_SpendLogs" ADD kind "LiteLLM_Kind";
        DROP VIEW "LiteLLM_View";"""
    found = rehearse_on(
        scratch.server, migrator, scratch.database, wheel_of({MORE: script}), resolver="v2", limits=Limits(60, 300)
    )
    assert (found.problems, migrator.user) == ((), "rehearsal_owner")
    scratch.execute("REASSIGN OWNED BY rehearsal_owner TO postgres; DROP OWNED BY rehearsal_owner; DROP ROLE rehearsal_owner")


def test_tables_columns_and_rows_that_go_are_named(scratch: Scratch) -> None:
    script = (
        'ALTER TABLE "LiteLLM_SpendLogs" DROP note; DROP TABLE "LiteLLM_VerificationToken"; DELETE FROM "LiteLLM_SpendLogs"'
    )
    found = scratch.rehearse(script)
    assert found.lost == (
        "table LiteLLM_VerificationToken with 0 rows",
        "column LiteLLM_SpendLogs.note of a table with 3 rows",
        "3 rows of LiteLLM_SpendLogs",
    )


def test_tables_of_others_and_data_of_a_newer_version_stop_what_would_drop_them(scratch: Scratch) -> None:
    scratch.execute("CREATE TABLE projects (id text)")
    scratch.execute(
        "INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at) VALUES ('n', 'c', '20270101_newer', now())"
    )
    found = scratch.rehearse(resolver="v1")
    assert ["projects" in found.problems[0], "20270101_newer" in found.problems[1]] == [True, True]
    found = scratch.rehearse(resolver="v2")
    assert found.problems == ()
    assert len(found.warnings) == 2


def test_a_migration_that_broke_off_earlier_stops_everything(scratch: Scratch) -> None:
    scratch.execute("INSERT INTO _prisma_migrations (id, checksum, migration_name) VALUES ('b', 'c', '20250301_broken')")
    found = scratch.rehearse("CREATE TABLE never (a int)")
    assert (found.applied, "20250301_broken broke off" in found.problems[0]) == ((), True)


def test_only_a_scratch_database_is_ever_changed(scratch: Scratch) -> None:
    with pytest.raises(GuardRefused, match="litellm is no scratch database; nothing was changed"):
        rehearse_on(scratch.server, scratch.migrator, "litellm", wheel_of({}), resolver="v2", limits=Limits(1, 1))


def test_a_database_that_prisma_never_saw_is_refused(scratch: Scratch) -> None:
    scratch.execute("DROP TABLE _prisma_migrations")
    with pytest.raises(SettingsError, match="LITELLM_DATABASE"):
        scratch.rehearse()


# --- wheels --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in the place of the package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_the_wheel_is_fetched_by_name_and_its_migrations_are_read_without_executing_it(index: Path, tmp_path: Path) -> None:
    wheels.litellm(index, "9.1.0", "click", 'litellm-proxy-extras (==0.9.7) ; extra == "proxy"')
    wheels.extras(index, "0.9.7", {**wheels.BASE, MORE: "SELECT 1"})
    assert extras_of("9.1.0") == "0.9.7"
    wheel = fetch("0.9.7", tmp_path)
    assert [migration.name for migration in wheel.migrations] == [*wheels.BASE, MORE]
    assert wheel.migrations[2].sql == b"SELECT 1"
    assert len(wheel.sha256) == 64


def test_a_version_that_the_index_has_not_is_a_wrong_parameter(index: Path, tmp_path: Path) -> None:
    wheels.extras(index, "0.9.7", wheels.BASE)
    with pytest.raises(SettingsError, match=r"no litellm-proxy-extras==0\.9\.9"):
        fetch("0.9.9", tmp_path)


@pytest.mark.parametrize("version", ["", "--index-url=http://evil", "1.0; rm -rf /", "latest", "1.0.0\n"])
def test_only_a_version_reaches_pips_command_line(version: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="is no version"):
        fetch(version, tmp_path)


def test_an_index_that_does_not_answer_is_named_without_its_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"http://user:{CANARY}@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_TIMEOUT", "1")
    with pytest.raises(ServiceError, match="is it reachable") as raised:
        fetch("0.9.9", tmp_path)
    assert CANARY not in str(raised.value)


def test_what_is_no_wheel_or_has_no_migrations_is_damaged(tmp_path: Path) -> None:
    empty = wheels.litellm(tmp_path, "9.1.0")
    with pytest.raises(IntegrityError, match="has no migrations"):
        read(empty, "9.1.0")
    empty.write_bytes(b"PK no zip")
    with pytest.raises(IntegrityError, match="is no wheel"):
        read(empty, "9.1.0")


# --- the record ----------------------------------------------------------------------------------------------------------


def test_a_rehearsal_is_kept_by_its_version_for_the_upgrade_to_show(store: BackupStore) -> None:
    applied = [Applied(MORE, 1.5, "applied", ("LiteLLM_SpendLogs",))]
    made = Rehearsal(
        stack="stack", litellm="1.108.0", extras="0.4.112", wheel_sha256="0", set_id="S", at=datetime(2026, 11, 26, tzinfo=UTC)
    ).model_copy(update={"applied": applied})
    assert load(store, "1.108.0") is None
    save(store, made)
    assert load(store, "1.108.0") == made
    assert made.sentence() == "LiteLLM 1.108.0 rehearsed with S: 1 migrations in 1.5 s, nothing is dropped"
    assert made.model_copy(update={"problems": ["it fails"]}).sentence().endswith("with S: it fails")
