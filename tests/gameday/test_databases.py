"""The causes in the applications' databases, on a real Postgres: the sweep's check sees what they break; they take it back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from flows.health.observation import Status
from flows.health.targets import Postgres, Targets
from shared.engines.postgres import PostgresEngine
from shared.gameday.causes.schema import BackgroundMigrationFailed, OwnerChanged
from shared.gameday.causes.spend import SpendGrows
from shared.gameday.ground import Ground
from shared.sandbox import langfuse_postgres, litellm_schema
from tests.health.looks import look

VOLUME_GB = 0.15


class Place(Ground):
    """A server with LiteLLM's database, and a person who deletes what `retention` would; that has tests of its own."""

    def __init__(self, engine: PostgresEngine) -> None:
        self.engine = engine
        self.environment: dict[str, str] = {"POSTGRES_VOLUME_GB": str(VOLUME_GB), "STACK_NAME": "gameday"}
        self.ran: list[tuple[str, Mapping[str, Any]]] = []

    def postgres(self, database: str, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        with psycopg.connect(self.engine.url(database), autocommit=True) as connection:
            cursor = connection.execute(sql.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def run(self, deployment: str, request: Mapping[str, Any]) -> None:
        self.ran.append((deployment, request))
        self.postgres("litellm", """DELETE FROM "LiteLLM_SpendLogs" WHERE "startTime" < now() - interval '7 days'""")

    def bad(self, service: str = "postgres") -> dict[str, Status]:
        applications = (("litellm", "litellm"), ("langfuse-web", "langfuse"))
        target = Postgres(SecretStr(self.engine.url()), applications, VOLUME_GB * 1e9)
        return look(replace(Targets(postgres=target), timeout=20), service).bad()


@pytest.fixture(scope="module")
def place(state_directory: Path) -> Iterator[Place]:
    engine = PostgresEngine(state_directory / "gameday-postgres", durable=False)
    engine.start()
    made = Place(engine)
    made.postgres("postgres", "CREATE ROLE litellm LOGIN")
    made.postgres("postgres", "CREATE ROLE restore SUPERUSER")
    made.postgres("postgres", "CREATE DATABASE litellm OWNER litellm")
    litellm_schema.apply(engine.url("litellm"))
    made.postgres("postgres", "CREATE DATABASE langfuse")
    langfuse_postgres.apply(engine.url("langfuse"))
    yield made
    engine.stop("immediate")


def test_spend_logs_fill_the_volume_and_a_person_has_them_deleted_and_the_space_given_back(place: Place) -> None:
    assert place.bad() == {}
    cause = SpendGrows(place)
    cause.undo()
    cause.cause()
    assert place.bad() == {"database-sizes": Status.DEGRADED}
    assert cause.left().endswith("rows are left")
    cause.undo()
    ((deployment, request),) = place.ran
    assert (deployment, request["confirm"], request["spend_days"], request["traces_days"]) == (
        "retention/runbook",
        "gameday",
        7,
        0,
    )
    assert (cause.left(), place.bad()) == ("", {})


def test_a_table_is_somebody_else_s_until_it_is_given_back(place: Place) -> None:
    cause = OwnerChanged(place)
    cause.undo()
    cause.cause()
    assert place.bad() == {"table-owners": Status.DEGRADED}
    assert "belongs to restore" in cause.left()
    with psycopg.connect(place.engine.url("litellm"), autocommit=True) as litellm:
        litellm.execute("SET ROLE litellm")
        litellm.execute('SELECT count(*) FROM "LiteLLM_AuditLog"')
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be owner of table"):
            litellm.execute('ALTER TABLE "LiteLLM_AuditLog" ADD COLUMN gameday int')
    cause.undo()
    assert (cause.left(), place.bad()) == ("", {})


def test_a_background_migration_has_failed_until_the_worker_has_carried_it_out(place: Place) -> None:
    cause = BackgroundMigrationFailed(place)
    cause.undo()
    cause.cause()
    assert place.bad("langfuse-worker") == {"background-migrations": Status.DEGRADED}
    assert cause.left() == "it has failed"
    place.postgres("langfuse", "UPDATE background_migrations SET failed_at = NULL, failed_reason = NULL")
    assert (cause.left(), place.bad("langfuse-worker")) == ("no worker has carried it out", {})
    place.postgres("langfuse", "UPDATE background_migrations SET finished_at = now()")
    assert cause.left() == ""
    cause.cause()
    assert cause.left() == "it has failed", "caused again, it fails again"
    cause.undo()
    assert place.postgres("langfuse", "SELECT name FROM background_migrations") == []
