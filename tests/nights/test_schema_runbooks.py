"""The runbooks of schema and keys as the worker runs them: on the real Prefect server, with a real backup set first."""

from __future__ import annotations

import time

import psycopg
import pytest

from blocks.errors import NotHealed
from flows.runbook.background_migration import BackgroundRequest, background_migration
from flows.runbook.dirty_migration import DirtyRequest, dirty_migration
from flows.runbook.failed_prisma_migration import PrismaRequest, failed_prisma_migration
from flows.runbook.key_mismatch import KeyRequest, key_mismatch
from flows.runbook.table_owner import OwnerRequest, table_owner
from shared.sandbox.langfuse_postgres import encrypt
from tests.nights.night import CLICKHOUSE_DATABASE, Night

pytestmark = pytest.mark.long

FAILED = """
INSERT INTO _prisma_migrations (id, checksum, migration_name, logs, started_at)
VALUES ('failed', 'none', '20991231000000_last', 'Database error code: 42P07', now() - interval '20 min')
"""


def test_a_dirty_migration_goes_on_after_a_protected_set_and_a_second_run_for_it_takes_none(night: Night) -> None:
    ledger = f"{CLICKHOUSE_DATABASE}.schema_migrations"

    def mark(version: int, dirty: int) -> None:
        with night.clickhouse.client() as client:
            client.command(f"INSERT INTO {ledger} (version, dirty, sequence) VALUES ({version}, {dirty}, {time.time_ns()})")

    def newest() -> tuple[int, ...]:
        with night.clickhouse.client() as client:
            row = client.row(f"SELECT version, dirty FROM {ledger} ORDER BY sequence DESC LIMIT 1")
        return tuple(int(one) for one in row or ())

    mark(38, 1)
    with night.clickhouse.client() as client:
        client.command(f"CREATE TABLE IF NOT EXISTS {CLICKHOUSE_DATABASE}.half_made (x Int8) ENGINE = MergeTree ORDER BY x")
    try:
        with night.as_worker():
            request = DirtyRequest(confirm=night.stack.name, by="a test")
            assert dirty_migration(request.model_copy(update={"dry_run": True})) == "can heal"
            assert (newest(), night.entries()) == ((38, 1), [])
            assert dirty_migration(request) == "healed"
            assert newest() == (37, 0)
            taken = night.newest()
            assert (taken.label, taken.protected, taken.postgres) == ("before dirty-migration 38", True, [])
            mark(38, 1)
            assert dirty_migration(request.model_copy(update={"resolve": "again"})) == "healed"
            assert [one.id for one in night.entries()] == [taken.id]
        assert "healed" not in (night.sandbox.artifact("runbook-dirty-migration-clickhouse-sandbox") or "missing")
    finally:
        with night.clickhouse.client() as client:
            client.command(f"DROP TABLE {CLICKHOUSE_DATABASE}.half_made SYNC")


def test_a_failed_migration_is_taken_back_and_keys_that_open_everything_are_left_alone(night: Night) -> None:
    litellm, langfuse = night.sandbox.postgres.url("litellm"), night.sandbox.postgres.url("langfuse")
    with psycopg.connect(litellm, autocommit=True) as connection, psycopg.connect(langfuse, autocommit=True) as other:
        connection.execute(FAILED)
        try:
            with night.as_worker():
                request = PrismaRequest(application="litellm", confirm=night.stack.name, by="a test")
                assert failed_prisma_migration(request) == ["litellm: healed"]
                assert failed_prisma_migration(request) == ["litellm: nothing to do"]
                row = connection.execute("SELECT rolled_back_at IS NOT NULL FROM _prisma_migrations WHERE id = 'failed'")
                assert row.fetchall() == [(True,)]
                taken = night.newest()
                assert ([one.name for one in taken.postgres], taken.protected) == (["litellm"], True)
                assert key_mismatch() == ["litellm: nothing to do", "langfuse: nothing to do"]
                other.execute("UPDATE llm_api_keys SET secret_key = %s", [encrypt("canary-51c0", "cd" * 32)])
                with pytest.raises(Exception, match=rf"opens 0 of .*{taken.id}: the same keys") as error:
                    key_mismatch(KeyRequest(application="langfuse"))
                assert "canary-51c0" not in str(error.value)
        finally:
            connection.execute("DELETE FROM _prisma_migrations WHERE id = 'failed'")
            key = night.sandbox.keys.encryption_key
            other.execute("UPDATE llm_api_keys SET secret_key = %s", [encrypt("sk-provider", key)])


def test_a_background_migration_may_run_again_after_a_protected_set_and_waits_for_a_worker(night: Night) -> None:
    failed = "SELECT failed_at IS NOT NULL FROM background_migrations WHERE name = 'gave_up'"
    with psycopg.connect(night.sandbox.postgres.url("langfuse"), autocommit=True) as connection:
        connection.execute(
            "INSERT INTO background_migrations (id, name, script, args, failed_at, failed_reason) "
            "VALUES ('gave_up', 'gave_up', 'x', '{}', now(), 'ECONNREFUSED')"
        )
        try:
            with night.as_worker():
                request = BackgroundRequest(confirm=night.stack.name, by="a test")
                assert background_migration(request.model_copy(update={"dry_run": True})) == "can heal"
                assert (connection.execute(failed).fetchall(), night.entries()) == ([(True,)], [])
                with pytest.raises(NotHealed, match="gave_up may run and waits: start langfuse-worker"):
                    background_migration(request)
                assert connection.execute(failed).fetchall() == [(False,)]
                taken = night.newest()
                assert (taken.label, taken.protected) == ("before retrying gave_up", True)
                assert ([one.name for one in taken.postgres], taken.clickhouse) == (["langfuse"], [])
                connection.execute("UPDATE background_migrations SET finished_at = now() WHERE name = 'gave_up'")
                assert background_migration(request) == "nothing to do"
        finally:
            connection.execute("DELETE FROM background_migrations WHERE name = 'gave_up'")


def test_a_table_that_a_superuser_owns_is_the_application_s_again_and_the_way_back_stands_in_its_artifact(night: Night) -> None:
    owner = "SELECT relowner::regrole::text FROM pg_class WHERE relname = 'LiteLLM_AuditLog'"
    with psycopg.connect(night.sandbox.postgres.url("litellm"), autocommit=True) as connection:
        before = connection.execute(owner).fetchall()
        connection.execute('ALTER TABLE "LiteLLM_AuditLog" OWNER TO CURRENT_USER')
        with night.as_worker():
            request = OwnerRequest(confirm=night.stack.name, by="a test")
            nothing = ["litellm: nothing to do", "langfuse-web: nothing to do"]
            assert table_owner(request.model_copy(update={"dry_run": True})) == ["litellm: can heal", nothing[1]]
            assert connection.execute(owner).fetchall() != before
            assert table_owner(request) == ["litellm: healed", nothing[1]]
            assert connection.execute(owner).fetchall() == before
            shown = night.sandbox.artifact("runbook-table-owner-postgres-litellm-sandbox") or ""
            assert 'way back: ALTER TABLE "public"."LiteLLM_AuditLog" OWNER TO' in shown
            assert table_owner(request) == nothing
