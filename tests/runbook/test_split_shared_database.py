"""split-shared-database on a real Postgres and the sandbox's Railway: split, taken back, broken off, killed, refused."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from blocks.errors import ApprovalMissing, NotHealed
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.postgres import PostgresServer
from blocks.settings import Settings
from flows.health.targets import Postgres, Targets
from flows.lease import utc_now
from flows.runbook.frame import RunbookRequest
from flows.runbook.split_shared_database import FOLDER, Shared, TakeBack, foreign
from flows.side_file import DrillRecord, record
from flows.upgrade.look import Eyes
from flows.upgrade.outside import Fault
from shared.engines.postgres import PostgresEngine
from shared.engines.process import wait_until
from tests import manifests
from tests.deploy.quiet_runtime import QuietRuntime
from tests.forks import Forked
from tests.runbook.cases import IMPATIENT, Desk
from tests.upgrade.postgres_world import PACE, Beside, World, bin_dirs, stand_in

pytestmark = pytest.mark.long

WORD = "canary-5b1e"
APPLICATIONS = ("litellm", "langfuse-web", "langfuse-worker")
_STATEMENTS = (
    'CREATE TABLE "LiteLLM_SpendLogs" (request_id text PRIMARY KEY, spend float)',
    """INSERT INTO "LiteLLM_SpendLogs" SELECT 'r' || i, i FROM generate_series(1, 300) i""",
    'CREATE VIEW "MonthlyGlobalSpend" AS SELECT sum(spend) FROM "LiteLLM_SpendLogs"',
    "CREATE TYPE role AS ENUM ('OWNER', 'MEMBER')",
    "CREATE TABLE organizations (id text PRIMARY KEY, role role)",
    "CREATE TABLE projects (id text PRIMARY KEY, org text REFERENCES organizations)",
    "CREATE TABLE api_keys (id serial PRIMARY KEY, project text REFERENCES projects)",
    "INSERT INTO organizations VALUES ('o', 'OWNER')",
    "INSERT INTO projects SELECT 'p' || i, 'o' FROM generate_series(1, 20) i",
    "INSERT INTO api_keys (project) SELECT id FROM projects",
    "CREATE TABLE _prisma_migrations (migration_name text, finished_at timestamptz, rolled_back_at timestamptz, logs text, "
    "started_at timestamptz)",
    "INSERT INTO _prisma_migrations VALUES ('of litellm', now(), NULL), ('of langfuse', now(), NULL)",
)


class House:
    """A stack whose two applications share a database, and what can be seen of it."""

    def __init__(self, engine: PostgresEngine, world: World, mark: str, admin: psycopg.Connection[tuple[object, ...]]) -> None:
        self.engine, self.world, self.mark, self.admin = engine, world, mark, admin
        self.shared, self.litellm, self.langfuse = (f"{one}_{mark}" for one in ("both", "litellm", "langfuse"))

    def databases(self) -> dict[str, bool]:
        """Short names, and whether each takes connections."""
        rows = self.admin.execute("SELECT datname, datallowconn FROM pg_database WHERE datname LIKE %s", [f"%_{self.mark}%"])
        return {
            str(name).replace(f"_{self.mark}", "").rpartition("_")[0] or str(name).replace(f"_{self.mark}", ""): bool(allowed)
            for name, allowed in rows
        }

    def tables(self, database: str) -> list[str]:
        with psycopg.connect(self.engine.url(database)) as connection:
            rows = connection.execute(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'v')"
            )
            return sorted(str(name) for (name,) in rows)

    def count(self, database: str, table: str) -> int:
        with psycopg.connect(self.engine.url(database)) as connection:
            row = connection.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table))).fetchone()
        return int(row[0]) if row else 0

    def state(self) -> tuple[object, ...]:
        """Everything that a split changes."""
        with self.world.api() as api:
            newest = [(name, one.latest.id if one.latest else "") for name, one in sorted(api.inventory().services.items())]
        return self.databases(), self.world.variables(), newest

    def prove(self, hours: float = 1.0) -> None:
        """Have a set of the shared database that was drilled."""
        stack = self.world.stack
        made = manifests.commit(
            stack.store, stack.keys, utc_now() - timedelta(hours=hours), components=[manifests.postgres(self.shared)]
        )
        drill = DrillRecord(
            set_id=made.id,
            at=utc_now(),
            ok=True,
            full=True,
            recovery_seconds=1,
            compare_seconds=1,
            components=[],
            scratch="here",
        )
        record(stack.store, made.id, drill=drill)

    def heal(self, desk: Desk, request: RunbookRequest | None = None, *, back: bool = False) -> str:
        with self.world.api() as api:
            eyes = Eyes(self.world.stack, api, self.world.beside)
            look = partial(
                foreign, Targets(timeout=20, postgres=Postgres(SecretStr(self.engine.url()), (("litellm", self.litellm),)))
            )
            return desk.heal(TakeBack(eyes, PACE) if back else Shared(eyes, look, pace=PACE, documents=False), request)

    def leads(self) -> set[str]:
        """The databases that the applications' variables lead to."""
        return {self.world.value(name, "DATABASE_URL").partition("?")[0].rpartition("/")[2] for name in APPLICATIONS}


class Between(Beside):
    """The world beside Railway where LiteLLM is well before a split and after a way back, and not in between."""

    def __init__(self, house: House) -> None:
        super().__init__()
        self._house = house

    def faults(self, services: Collection[str]) -> list[Fault]:
        """As in `Outside`."""
        return [] if "both" in self._house.databases() else [Fault("litellm", "readiness", True, "litellm: answers 503")]


@pytest.fixture
def house(postgres_engine: PostgresEngine, store: BackupStore, keys: BackupKeys, tmp_path: Path) -> Iterator[House]:
    mark = secrets.token_hex(4)
    role, shared = f"app_{mark}", f"both_{mark}"
    settings = Settings(
        stack_name=store.stack,
        postgres_bin_dirs=bin_dirs(),
        litellm_database=f"litellm_{mark}",
        langfuse_database=f"langfuse_{mark}",
        backup_lease_seconds=5,
        backup_lock_wait_seconds=120,
    )
    server = PostgresServer(url=SecretStr(postgres_engine.url()), bin_dirs=bin_dirs())
    with psycopg.connect(postgres_engine.url(), autocommit=True) as admin, stand_in(tmp_path, QuietRuntime()) as railway:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{WORD}'".encode())
        admin.execute(f"CREATE DATABASE {shared} OWNER {role}".encode())
        url = postgres_engine.url(shared, user=role, password=WORD)
        with psycopg.connect(url, autocommit=True) as owner:
            for statement in _STATEMENTS:
                owner.execute(statement.encode())
        world = World(store, keys, railway, settings, server)
        world.stack = replace(world.stack, name=store.stack)
        world.service("litellm", DATABASE_URL=f"{url}?connection_limit=5", STORE_MODEL_IN_DB="True")
        world.service("langfuse-web", DATABASE_URL=url, DIRECT_URL=url)
        world.service("langfuse-worker", DATABASE_URL="${{langfuse-web.DATABASE_URL}}")
        world.service("redis", REDIS_URL="redis://:x@redis.railway.internal:6379")
        made = House(postgres_engine, world, mark, admin)
        yield made
        names = admin.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", [f"%_{mark}%"]).fetchall()
        for (name,) in names:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(str(name))))
        admin.execute(f"DROP ROLE {role}".encode())


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store)


def test_each_gets_its_own_database_the_old_one_is_kept_closed_and_a_way_back_leads_to_it(house: House, desk: Desk) -> None:
    house.prove()
    before = house.state()
    assert house.heal(desk, RunbookRequest(dry_run=True)) == "can heal"
    desk.approves = False
    with pytest.raises(ApprovalMissing):
        house.heal(desk)
    assert house.state() == before
    desk.approves = True
    assert house.heal(desk) == "healed"
    assert house.databases() == {"litellm": True, "langfuse": True, "both__kept": False}
    assert house.tables(house.litellm) == ["LiteLLM_SpendLogs", "MonthlyGlobalSpend", "_prisma_migrations"]
    assert house.tables(house.langfuse) == ["_prisma_migrations", "api_keys", "organizations", "projects"]
    assert (house.count(house.litellm, "LiteLLM_SpendLogs"), house.count(house.langfuse, "api_keys")) == (300, 20)
    assert house.leads() == {house.litellm, house.langfuse}
    assert house.world.value("litellm", "DATABASE_URL").endswith(f"/{house.litellm}?connection_limit=5")
    assert all(house.world.railway.running(name) for name in APPLICATIONS)
    assert house.heal(desk) == "nothing to do"
    with psycopg.connect(house.engine.url(house.litellm), autocommit=True) as somebody:
        somebody.execute("CREATE TABLE notes (id text)")
        with pytest.raises(NotHealed, match=r"share no database, so what follows is for a person.*1 tables.*\(notes\)"):
            house.heal(desk)
        somebody.execute("DROP TABLE notes")
    written = house.world.value("litellm", "DATABASE_URL").partition("?")[0]
    with psycopg.connect(written, autocommit=True) as connection:
        connection.execute("""INSERT INTO "LiteLLM_SpendLogs" VALUES ('after', 1)""")
    assert house.heal(desk, back=True) == "healed"
    assert house.databases() == {"both": True, "litellm__undone": False, "langfuse__undone": False}
    assert house.world.variables() == before[1]
    assert all(house.world.railway.running(name) for name in APPLICATIONS)
    assert house.heal(desk, back=True) == "nothing to do"
    store = house.world.stack.store
    kept = "".join(store.get(one.key).decode() for one in store.list(f"{store.root}{FOLDER}/"))
    assert WORD not in desk.text() + kept


@pytest.mark.parametrize("hours", [None, 40.0])
def test_without_a_fresh_proven_set_of_the_shared_database_nothing_is_touched(
    house: House, desk: Desk, hours: float | None
) -> None:
    if hours:
        house.prove(hours)
    before = house.state()
    with pytest.raises(NotHealed, match="no backup set of the last 26 h that holds postgres both_"):
        house.heal(desk)
    assert (house.state(), desk.asked) == (before, [])


def test_what_fails_after_the_names_were_exchanged_is_undone_to_the_last_variable(house: House, desk: Desk) -> None:
    house.prove()
    desk.pace = IMPATIENT
    databases, variables = house.databases(), house.world.variables()

    house.world.beside = Between(house)
    with pytest.raises(NotHealed, match=r"health: .*litellm: answers 503.*undone: health, consumers, variables, names, copies"):
        house.heal(desk)
    assert (house.databases(), house.world.variables()) == (
        {**databases, "litellm__undone": False, "langfuse__undone": False},
        variables,
    )
    assert all(house.world.railway.running(name) for name in APPLICATIONS)
    assert house.count(house.shared, "api_keys") == 20


def test_a_run_that_is_killed_while_it_copies_is_gone_on_with_by_the_next(house: House, desk: Desk, tmp_path: Path) -> None:
    house.prove()
    copying = "SELECT 1 FROM pg_database WHERE datname LIKE %s"

    def begun() -> bool:
        return bool(house.admin.execute(copying, [f"langfuse_{house.mark}__restore_%"]).fetchone())

    with Forked(lambda: house.heal(desk), temporary=tmp_path) as process:
        wait_until(begun, timeout=280, what="the second copy to be made")
        process.kill()
    assert house.count(house.shared, "api_keys") == 20, "the shared database is only read"
    assert house.heal(desk) == "healed"
    assert house.databases() == {"litellm": True, "langfuse": True, "both__kept": False}
    assert house.count(house.langfuse, "api_keys") == 20
    assert house.leads() == {house.litellm, house.langfuse}
