"""A stack of real engines without Prefect, a shop's database with one set of it, and a place for ClickHouse databases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.postgres import PostgresServer
from blocks.settings import Settings
from flows.backup.manifest import Manifest
from flows.stack import Stack
from shared.engines.clickhouse import ClickHouseEngine
from shared.engines.postgres import PostgresEngine
from shared.sandbox.keys import SandboxKeys
from shared.sandbox.postgres_roles import create_roles
from tests.clickhouse.conftest import Lab, server_of
from tests.restore_table.house import House

TEMPLATE = "shop_template"

SHOP = """
CREATE TYPE mood AS ENUM ('sad', 'it''s ok');
CREATE TABLE team (id int PRIMARY KEY, name text);
CREATE TABLE "Spend Logs" (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, team int REFERENCES team,
  parent bigint REFERENCES "Spend Logs", "Feeling" mood, amount numeric CHECK (amount < 100000),
  twice numeric GENERATED ALWAYS AS (amount * 2) STORED, legacy serial, note text);
CREATE INDEX "by team" ON "Spend Logs" (team);
CREATE TABLE receipt (id int PRIMARY KEY, log bigint NOT NULL REFERENCES "Spend Logs" ON DELETE CASCADE);
CREATE VIEW totals AS SELECT team, sum(amount) AS amount FROM "Spend Logs" GROUP BY team;
CREATE TABLE audit (what text);
INSERT INTO team VALUES (1, 'one'), (2, 'two');
INSERT INTO "Spend Logs" (team, "Feeling", amount, note)
  SELECT i % 2 + 1, (ARRAY['sad', 'it''s ok'])[i % 2 + 1]::mood, i, repeat('note ', i) FROM generate_series(1, 40) i;
UPDATE "Spend Logs" SET parent = id - 1 WHERE id > 20;
INSERT INTO receipt SELECT i, i FROM generate_series(1, 10) i;
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
  'BEGIN INSERT INTO public.audit VALUES (TG_OP); RETURN coalesce(NEW, OLD); END';
CREATE TRIGGER loud BEFORE INSERT OR UPDATE OR DELETE ON "Spend Logs" FOR EACH ROW EXECUTE FUNCTION tell();
CREATE TRIGGER louder BEFORE TRUNCATE ON "Spend Logs" FOR EACH STATEMENT EXECUTE FUNCTION tell();
ALTER TABLE "Spend Logs" ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
CREATE POLICY nothing ON "Spend Logs" USING (false);
ALTER TABLE "Spend Logs" OWNER TO litellm;
GRANT SELECT ON "Spend Logs" TO langfuse;

CREATE TABLE event (at date NOT NULL, n int, PRIMARY KEY (at, n)) PARTITION BY RANGE (at);
CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM ('2024-01-01') TO ('2024-02-01');
CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM ('2024-02-01') TO ('2024-03-01');
INSERT INTO event SELECT '2024-01-01'::date + i, i FROM generate_series(0, 50) i;
CREATE TABLE plain (id int, note text);
INSERT INTO plain VALUES (1, 'a'), (1, 'a'), (2, NULL);
"""


@pytest.fixture(scope="session")
def built(
    postgres_engine: PostgresEngine, shared_store: BackupStore, sandbox_keys: SandboxKeys
) -> Iterator[tuple[House, Manifest]]:
    """The shop's database, as a template, and a set of it."""
    with psycopg.connect(postgres_engine.url(), autocommit=True) as connection:
        create_roles(connection, sandbox_keys.postgres)
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER litellm").format(sql.Identifier(TEMPLATE)))
    with psycopg.connect(postgres_engine.url(TEMPLATE)) as connection:
        connection.execute(SHOP)

    def role(user: str, password: str) -> PostgresServer:
        url = postgres_engine.url("postgres", user=user, password=password)
        return PostgresServer(url=SecretStr(url), bin_dirs=[str(postgres_engine.bin_dir)])

    passwords = sandbox_keys.postgres
    keys = BackupKeys(
        recipients=list(sandbox_keys.recipients),
        identity=sandbox_keys.drill_identity,
        signing_key=SecretStr("5e" * 32),
    )
    store = shared_store.model_copy(update={"stack": "tables"})
    stack = Stack(
        name=store.stack,
        settings=Settings(backup_lock_wait_seconds=0),
        store=store,
        keys=keys,
        postgres=role("backup", passwords.backup),
        postgres_admin=role("restore", passwords.restore),
        clickhouse=None,
        redis=None,
    )
    house = House(stack, postgres_engine)
    house.recreate(TEMPLATE)
    yield house, house.back_up()
    with psycopg.connect(postgres_engine.url(), autocommit=True) as connection:
        for name in (house.database, TEMPLATE, *house.databases()):
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def backed_up(built: tuple[House, Manifest]) -> Manifest:
    """The set of the shop."""
    return built[1]


@pytest.fixture
def house(built: tuple[House, Manifest]) -> House:
    """The shop as it was when the set was taken; journals of earlier tests are gone."""
    house = built[0]
    house.recreate(TEMPLATE)
    store = house.stack.store
    store.remove([item.key for item in store.list(f"{store.root}table-restores/")])
    house.end_lock()
    return house


@pytest.fixture
def lab(clickhouse_engine: ClickHouseEngine, built: tuple[House, Manifest]) -> Iterator[Lab]:
    """A place for ClickHouse databases."""
    with ExitStack() as ending:
        yield Lab(server_of(clickhouse_engine), built[0].stack.store, ending)
