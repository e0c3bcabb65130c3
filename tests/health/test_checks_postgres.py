"""Postgres and the applications' databases, against a real server put into each bad state and back."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from blocks.postgres import PostgresServer
from flows.health.checks.postgres_session import APPLICATION, session
from flows.health.observation import Status
from flows.health.targets import Limits, Postgres, Targets
from flows.restore.postgres_swap import swap_databases
from shared.engines.postgres import PostgresEngine
from shared.engines.process import free_port, wait_until
from tests.health.looks import CANARY, Seen, look

LEDGER = """
CREATE TABLE _prisma_migrations (
  id text, migration_name text, logs text, started_at timestamptz DEFAULT now(),
  finished_at timestamptz, rolled_back_at timestamptz)
"""
BACKGROUND = """
CREATE TABLE background_migrations (
  id text, name text, finished_at timestamptz, failed_at timestamptz, failed_reason text, locked_at timestamptz)
"""

AS_APP = "SET ROLE app"
"""An application's tables are its own."""


class House:
    """A server of its own with the databases of both applications, watched by a role that may read and monitor."""

    def __init__(self, engine: PostgresEngine) -> None:
        self.engine = engine
        self.password = secrets.token_hex(8)

    def admin(self, database: str = "postgres") -> psycopg.Connection[Any]:
        return psycopg.connect(self.engine.url(database), autocommit=True)

    def run(self, *statements: str, database: str = "postgres") -> None:
        with self.admin(database) as connection:
            for statement in statements:
                connection.execute(statement)

    @property
    def url(self) -> str:
        return self.engine.url("postgres", user="watcher", password=self.password)

    def look(self, service: str = "postgres", *, volume: float = 0, seconds: float = 5.0, **limits: float) -> Seen:
        applications = (("litellm", "litellm"), ("langfuse-web", "langfuse"))
        target = Postgres(SecretStr(self.url), applications, volume)
        return look(Targets(postgres=target, timeout=seconds, limits=replace(Limits(), **limits)), service)  # type: ignore[arg-type]

    def try_login(self) -> psycopg.Connection[Any] | None:
        try:
            return self.login()
        except psycopg.OperationalError:
            return None

    def login(self, database: str = "litellm") -> psycopg.Connection[Any]:
        return psycopg.connect(self.engine.url(database, user="app", password="app"))


@pytest.fixture(scope="module")
def house(state_directory: Path) -> Iterator[House]:
    settings = {"max_connections": "20", "wal_level": "logical", "max_wal_senders": "2", "max_prepared_transactions": "2"}
    engine = PostgresEngine(state_directory / "watched-postgres", durable=False, settings=settings)
    engine.start()
    made = House(engine)
    made.run(
        f"CREATE ROLE watcher LOGIN PASSWORD '{made.password}' IN ROLE pg_read_all_data, pg_monitor",
        "CREATE ROLE app LOGIN PASSWORD 'app'",
        "CREATE DATABASE litellm OWNER app",
        "CREATE DATABASE langfuse OWNER app",
    )
    made.run(AS_APP, LEDGER, 'CREATE TABLE "LiteLLM_TeamTable" (id int)', database="litellm")
    made.run(AS_APP, LEDGER, BACKGROUND, "CREATE TABLE projects (id int)", database="langfuse")
    yield made
    engine.stop("immediate")


def test_a_healthy_server_is_ok_in_every_aspect(house: House) -> None:
    seen = house.look()
    assert seen.bad() == {}
    assert list(seen) == [
        "connect",
        "connections",
        "wraparound",
        "longest-transaction",
        "replication-slots",
        "database-sizes",
        "databases",
        "migrations-litellm",
        "table-owners",
        "foreign-tables",
        "migrations-langfuse",
    ]
    assert house.look("langfuse-worker").bad() == {}


def test_connections_are_counted_and_a_server_without_any_left_is_down(house: House) -> None:
    with ExitStack() as clients:
        for _ in range(14):
            clients.enter_context(house.login())
        assert house.look(connections_percent=60).bad() == {"connections": Status.DEGRADED}
        while (another := house.try_login()) is not None:
            clients.enter_context(another)
        seen = house.look()
        assert seen.bad() == {"connections": Status.DOWN}
        assert list(seen) == ["connections"]
        assert "no connection left" in seen.sentence("connections")
    wait_until(lambda: house.look().bad() == {}, timeout=10, what="the server to have connections again")


def until_it_is_long(house: House) -> None:
    """A transaction's age is measured in tenths of a second."""
    bad = {"longest-transaction": Status.DEGRADED}
    wait_until(lambda: house.look(transaction_seconds=0).bad() == bad, timeout=10, what="a transaction to be long")


def test_a_long_transaction_is_seen_whoever_forgot_it_and_a_backup_s_is_not(house: House) -> None:
    with house.login() as forgotten:
        forgotten.execute("SELECT 1")
        until_it_is_long(house)
        assert "idle in transaction, database litellm" in house.look(transaction_seconds=0).sentence("longest-transaction")
    with PostgresServer(url=SecretStr(house.engine.url())).connect("litellm", autocommit=False) as backup:
        backup.execute("SELECT 1")
        wait_until(lambda: house.look(transaction_seconds=0).bad() == {}, timeout=10, what="the transaction to be gone")
    house.run("BEGIN", "SELECT pg_current_xact_id()", "PREPARE TRANSACTION 'forgotten'", database="litellm")
    try:
        until_it_is_long(house)
    finally:
        house.run("ROLLBACK PREPARED 'forgotten'", database="litellm")
    assert house.look(transaction_seconds=0).bad() == {}


def test_a_role_that_may_not_see_others_says_so_instead_of_ok(house: House) -> None:
    house.run("REVOKE pg_monitor FROM watcher")
    try:
        seen = house.look()
        assert seen.bad() == {"longest-transaction": Status.UNKNOWN}
        assert "GRANT pg_monitor" in seen.sentence("longest-transaction")
    finally:
        house.run("GRANT pg_monitor TO watcher")
    assert house.look().bad() == {}


def test_a_slot_that_nobody_reads_is_degraded_until_it_is_dropped(house: House) -> None:
    house.run("SELECT pg_create_physical_replication_slot('forgotten', true)")
    try:
        seen = house.look()
        assert seen.bad() == {"replication-slots": Status.DEGRADED}
        assert "forgotten keeps" in seen.sentence("replication-slots")
    finally:
        house.run("SELECT pg_drop_replication_slot('forgotten')")
    assert house.look().bad() == {}


def test_the_age_of_the_oldest_row_has_a_limit_that_a_freeze_mends(house: House) -> None:
    house.run(*["SELECT pg_current_xact_id()"] * 40)
    assert house.look(xid_age=1).bad() == {"wraparound": Status.DEGRADED}
    age = int(house.look()["wraparound"].value or 0)
    assert age > 40
    assert house.look(xid_age=age + 1000).bad() == {}


def test_databases_that_nearly_fill_their_volume_are_degraded(house: House) -> None:
    total = house.look()["database-sizes"].value or 0
    assert total > 10e6
    assert house.look(volume=total / 0.9).bad() == {"database-sizes": Status.DEGRADED}
    assert house.look(volume=total / 0.5).bad() == {}


def test_a_database_that_is_missing_is_named(house: House) -> None:
    house.run("ALTER DATABASE litellm RENAME TO litellm_gone")
    try:
        seen = house.look()
        assert seen.bad() == {"databases": Status.DOWN}
        assert "no database litellm of litellm in Postgres" in seen.sentence("databases")
        assert "migrations-litellm" not in seen
    finally:
        house.run("ALTER DATABASE litellm_gone RENAME TO litellm")
    assert house.look().bad() == {}


# --- the applications' databases -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("database", ["litellm", "langfuse"])
def test_a_migration_that_failed_is_degraded_until_it_is_resolved(house: House, database: str) -> None:
    house.run("INSERT INTO _prisma_migrations VALUES ('1', '20260101_add_x', 'ERROR: boom')", database=database)
    seen = house.look()
    assert seen.bad() == {f"migrations-{database}": Status.DEGRADED}
    assert "20260101_add_x" in seen.sentence(f"migrations-{database}")
    house.run("UPDATE _prisma_migrations SET rolled_back_at = now()", database=database)
    assert house.look().bad() == {}


def test_a_migration_that_has_just_begun_has_not_failed_and_one_that_never_ends_has(house: House) -> None:
    house.run("INSERT INTO _prisma_migrations VALUES ('2', '20260102_add_y', NULL)", database="litellm")
    assert house.look().bad() == {}
    house.run("UPDATE _prisma_migrations SET started_at = now() - interval '1 hour' WHERE id = '2'", database="litellm")
    assert house.look().bad() == {"migrations-litellm": Status.DEGRADED}
    house.run("UPDATE _prisma_migrations SET finished_at = now() WHERE id = '2'", database="litellm")
    assert house.look().bad() == {}


def test_foreign_tables_in_litellm_s_database_are_named(house: House) -> None:
    house.run("CREATE TABLE traces (id int)", database="litellm")
    seen = house.look()
    assert seen.bad() == {"foreign-tables": Status.DEGRADED}
    assert "(traces)" in seen.sentence("foreign-tables")
    house.run("DROP TABLE traces", database="litellm")
    assert house.look().bad() == {}


OWNED = 'ALTER TABLE "LiteLLM_TeamTable" OWNER TO '


def test_a_table_that_is_somebody_else_s_is_named_with_whose_it_is_and_whose_it_should_be(house: House) -> None:
    house.run("CREATE ROLE restorer")
    house.run(OWNED + "restorer", database="litellm")
    seen = house.look()
    assert seen.bad() == {"table-owners": Status.DEGRADED}
    said = seen.sentence("table-owners")
    assert said.startswith("1 tables, views or sequences do not belong to the owner of the application's database")
    assert "LiteLLM_TeamTable in litellm belong to restorer" in said
    assert "REASSIGN OWNED BY restorer TO app" in said
    with house.login() as application, pytest.raises(psycopg.errors.InsufficientPrivilege, match="must be owner"):
        application.execute('ALTER TABLE "LiteLLM_TeamTable" ADD COLUMN x int')
    house.run("REASSIGN OWNED BY restorer TO app", "DROP ROLE restorer", database="litellm")
    assert house.look().bad() == {}


def test_views_and_sequences_have_owners_too_and_both_databases_are_looked_at(house: House) -> None:
    house.run("CREATE VIEW costs AS SELECT 1 AS cost", "CREATE SEQUENCE numbers", database="langfuse")
    seen = house.look()
    assert seen.bad() == {"table-owners": Status.DEGRADED}
    assert (seen["table-owners"].value, "costs, numbers in langfuse" in seen.sentence("table-owners")) == (2, True)
    assert "REASSIGN" not in seen.sentence("table-owners"), "Postgres refuses it for the server's first role"
    house.run("ALTER VIEW costs OWNER TO app", "ALTER SEQUENCE numbers OWNER TO app", database="langfuse")
    assert house.look().bad() == {}
    house.run("DROP VIEW costs", "DROP SEQUENCE numbers", database="langfuse")


def test_a_role_that_the_application_s_may_act_as_owns_what_it_likes_and_a_member_that_does_not_inherit_does_not(
    house: House,
) -> None:
    house.run("CREATE ROLE migrator", "GRANT migrator TO app")
    house.run(OWNED + "migrator", database="litellm")
    assert house.look().bad() == {}
    house.run("ALTER ROLE app NOINHERIT", "REVOKE migrator FROM app", "GRANT migrator TO app")
    assert house.look().bad() == {"table-owners": Status.DEGRADED}
    house.run("ALTER ROLE app INHERIT", "REVOKE migrator FROM app")
    house.run(OWNED + "app", database="litellm")
    house.run("DROP ROLE migrator")
    assert house.look().bad() == {}


def test_a_stack_in_which_one_superuser_does_everything_is_fine(house: House) -> None:
    house.run("ALTER DATABASE litellm OWNER TO postgres")
    try:
        assert house.look().bad() == {}, "the superuser may alter what the application's role made, too"
        house.run(OWNED + "postgres", database="litellm")
        assert house.look().bad() == {}
    finally:
        house.run("ALTER DATABASE litellm OWNER TO app")
        house.run(OWNED + "app", database="litellm")
    assert house.look().bad() == {}


def test_a_foreign_table_is_not_said_twice_and_an_extension_s_view_is_the_extension_s(house: House) -> None:
    part_of = "ALTER EXTENSION plpgsql {} VIEW statistics"
    house.run("CREATE TABLE traces (id serial)", "CREATE VIEW statistics AS SELECT 1 AS calls", database="litellm")
    house.run(part_of.format("ADD"), database="litellm")
    assert house.look().bad() == {"foreign-tables": Status.DEGRADED}
    house.run(part_of.format("DROP"), "DROP TABLE traces", "DROP VIEW statistics", database="litellm")
    assert house.look().bad() == {}


def test_a_background_migration_that_failed_is_the_worker_s(house: House) -> None:
    house.run("INSERT INTO background_migrations (name, failed_at) VALUES ('step_5', now())", database="langfuse")
    seen = house.look("langfuse-worker")
    assert seen.bad() == {"background-migrations": Status.DEGRADED}
    assert "step_5" in seen.sentence("background-migrations")
    house.run("UPDATE background_migrations SET failed_at = NULL, locked_at = now()", database="langfuse")
    seen = house.look("langfuse-worker")
    assert seen.bad() == {}
    assert "1 running" in seen.sentence("background-migrations")


def test_locked_tables_are_unknown_at_once(house: House) -> None:
    with house.admin("litellm") as migration:
        migration.autocommit = False
        migration.execute("LOCK TABLE _prisma_migrations IN ACCESS EXCLUSIVE MODE")
        seen = house.look(seconds=2.0)
    assert seen.bad() == {"migrations-litellm": Status.UNKNOWN}
    assert "locked" in seen.sentence("migrations-litellm")


# --- in nobody's way -------------------------------------------------------------------------------------------------------


def test_a_swap_goes_through_while_sweeps_look(house: House) -> None:
    """Sweeps without a pause, and a restore that swaps the database under them: it succeeds, and nothing is called down."""
    house.run("CREATE DATABASE litellm__restore_aaaaaa OWNER app")
    house.run(AS_APP, LEDGER, database="litellm__restore_aaaaaa")
    server = PostgresServer(url=SecretStr(house.engine.url()))

    async def sweeping() -> list[Seen]:
        swap = asyncio.create_task(
            asyncio.to_thread(swap_databases, server, "litellm", "litellm__restore_aaaaaa", "litellm__kept_aaaaaa")
        )
        seen = []
        while not swap.done():
            seen.append(await asyncio.to_thread(house.look))
        await swap
        return seen

    for one in asyncio.run(sweeping()):
        assert Status.DOWN not in one.bad().values()
    house.run("DROP DATABASE litellm", "ALTER DATABASE litellm__kept_aaaaaa ALLOW_CONNECTIONS true")
    house.run("ALTER DATABASE litellm__kept_aaaaaa RENAME TO litellm")
    assert house.look().bad() == {}


def test_a_database_that_takes_no_connections_is_unknown_and_a_session_is_named_and_leaves_nothing(house: House) -> None:
    house.run("ALTER DATABASE litellm ALLOW_CONNECTIONS false")
    try:
        seen = house.look()
        assert seen.bad() == {"migrations-litellm": Status.UNKNOWN}
        assert "as in the middle of a restore" in seen.sentence("migrations-litellm")
    finally:
        house.run("ALTER DATABASE litellm ALLOW_CONNECTIONS true")

    async def inside() -> list[Any]:
        async with session(house.url) as opened:
            return await opened.rows(
                "SELECT application_name, current_setting('statement_timeout'), current_setting('lock_timeout'),"
                " (SELECT count(*) FROM pg_stat_activity WHERE usename = 'watcher') FROM pg_stat_activity"
                " WHERE pid = pg_backend_pid()"
            )

    assert asyncio.run(inside()) == [(APPLICATION, "2s", "200ms", 1)]

    def nobody() -> bool:
        with house.admin() as connection:
            row = connection.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = 'watcher'").fetchone()
            return row == (0,)

    wait_until(nobody, timeout=5, what="the sessions to be gone")


@contextmanager
def stopped(engine: PostgresEngine) -> Iterator[None]:
    engine.pause()
    try:
        yield
    finally:
        engine.resume()


def test_a_server_that_hangs_is_down_in_one_aspect_in_time(house: House) -> None:
    with stopped(house.engine):
        seen = house.look(seconds=0.5)
    assert seen.bad() == {"connect": Status.DOWN}
    assert list(seen) == ["connect"]
    assert house.look()["connect"].status is Status.OK


def test_a_server_that_hangs_in_the_middle_of_a_query_lets_go_at_once(house: House) -> None:
    async def ask() -> float:
        loop = asyncio.get_running_loop()
        async with session(house.url) as opened:
            begun = loop.time()
            with stopped(house.engine), pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await opened.rows("SELECT pg_sleep(30)")
            return loop.time() - begun

    assert asyncio.run(ask()) < 2.0


def test_a_server_that_is_gone_is_down_and_up_again_after_its_start(house: House) -> None:
    house.engine.kill()
    try:
        seen = house.look()
        assert seen.bad() == {"connect": Status.DOWN}
        assert "Postgres refuses connections" in seen.sentence("connect")
    finally:
        house.engine.start()
    assert house.look()["connect"].status is Status.OK


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://watcher:{wrong}@127.0.0.1:{port}/postgres", "is refused, so nobody looked"),
        ("mysql://{wrong}@127.0.0.1:{port}/postgres", "the URL cannot be read"),
    ],
)
def test_a_mistake_of_ours_is_unknown_and_not_down(house: House, url: str, words: str) -> None:
    target = Postgres(SecretStr(url.format(wrong=CANARY, port=house.engine.port)))
    seen = look(Targets(postgres=target), "postgres")
    assert seen.bad() == {"connect": Status.UNKNOWN}
    assert words in seen.sentence("connect")


def test_nobody_there_is_down_after_a_second_try() -> None:
    target = Postgres(SecretStr(f"postgresql://watcher:{CANARY}@127.0.0.1:{free_port()}/postgres"))
    assert look(Targets(postgres=target), "postgres").bad() == {"connect": Status.DOWN}
