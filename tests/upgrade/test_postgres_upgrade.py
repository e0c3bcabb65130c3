"""A move of Postgres from a real 16 to a real 18 that is another's, with applications on the sandbox's Railway."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from blocks.errors import ApprovalMissing, GuardRefused, RestoreRefused, SettingsError, UpgradeFailed
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.postgres import PostgresServer
from blocks.settings import Settings
from flows.lease import lock_key
from flows.upgrade.engine import run_steps, undo_steps
from flows.upgrade.journal import UpgradeJournal, load_all
from flows.upgrade.look import Eyes
from flows.upgrade.plan import plan_hash, refuse_changed
from flows.upgrade.postgres.carry import describe_undo, finish, forget, proof_of, steps_of, undo, upgrade
from flows.upgrade.postgres.fence import open_for_writers
from flows.upgrade.postgres.orders import PostgresPlan, PostgresRequest
from flows.upgrade.postgres.run import Run
from flows.upgrade.steps import Context, Step
from flows.upgrade.views import preview_lines
from shared.engines.postgres import PostgresEngine
from shared.engines.process import free_port
from tests.deploy.quiet_runtime import QuietRuntime
from tests.forks import Forked
from tests.upgrade.postgres_world import APP, CANARY, PACE, World, bin_dirs, databases, execute, stand_in

STARTED = ["litellm", "langfuse-web", "langfuse-worker"]


@pytest.fixture
def database(old: PostgresEngine, new: PostgresEngine) -> Iterator[None]:
    """The application's data on the old server, and nothing of it anywhere afterwards."""
    execute(old, f"CREATE DATABASE {APP} OWNER litellm")
    execute(
        old,
        "CREATE TABLE spend AS SELECT i, repeat('x', 40) AS what FROM generate_series(1, 300) i",
        "ALTER TABLE spend OWNER TO litellm",
        "SELECT lo_from_bytea(0, 'a large object')",
        "CREATE EXTENSION vector",
        database=APP,
    )
    execute(old, f"ALTER ROLE litellm IN DATABASE {APP} SET statement_timeout TO '31s'")
    yield
    administrator = PostgresServer(url=SecretStr(old.url("template1")))
    open_for_writers(administrator)
    for engine in (old, new):
        with psycopg.connect(engine.url("template1"), autocommit=True) as connection:
            connection.execute(f"DROP DATABASE IF EXISTS {APP} WITH (FORCE)")


@pytest.fixture
def runtime() -> QuietRuntime:
    return QuietRuntime()


@pytest.fixture
def world(
    old: PostgresEngine,
    new: PostgresEngine,
    database: None,
    store: BackupStore,
    keys: BackupKeys,
    runtime: QuietRuntime,
    tmp_path: Path,
) -> Iterator[World]:
    """Three applications that use the database, each in its own way, and one that does not."""
    settings = Settings(
        stack_name="sandbox",
        postgres_target_url=SecretStr(new.url()),
        postgres_bin_dirs=bin_dirs(),
        backup_lease_seconds=600,
        backup_lock_wait_seconds=60,
    )
    admin = PostgresServer(url=SecretStr(old.url()), bin_dirs=bin_dirs())
    url = old.url(APP, user="litellm", password=CANARY)
    with stand_in(tmp_path, runtime) as railway:
        made = World(store, keys, railway, settings, admin)
        made.share(READING=f"{url}?connection_limit=1")
        made.service("redis", REDIS_URL="redis://:x@redis.railway.internal:6379")
        made.service("litellm", DATABASE_URL=f"{url}?schema=public", STORE_MODEL_IN_DB="True")
        made.service("langfuse-web", DIRECT_URL=url, SHADOW_DATABASE_URL=url, TITLE=f"on port {free_port()}")
        made.service("langfuse-worker", DATABASE_URL="${{shared.READING}}")
        yield made


def moved(world: World, engine: PostgresEngine) -> bool:
    """Whether every application is led to a server."""
    here = f"@127.0.0.1:{engine.port}/{APP}"
    urls = [world.value("litellm", "DATABASE_URL"), world.value("langfuse-web", "DIRECT_URL")]
    urls += [world.value("langfuse-web", "SHADOW_DATABASE_URL"), world.value("langfuse-worker", "DATABASE_URL")]
    return all(here in url for url in urls)


def rows(engine: PostgresEngine) -> int:
    with psycopg.connect(engine.url(APP)) as connection:
        row = connection.execute("SELECT count(*) FROM spend").fetchone()
    return int(row[0]) if row else 0


@dataclass(frozen=True)
class Before:
    """How it was: what an undo has to bring back."""

    variables: dict[str, dict[str, str]]

    def is_back(self, world: World, old: PostgresEngine, new: PostgresEngine, *, kept: bool = False) -> None:
        """Everything is as before, and somebody can write to the old server."""
        assert world.variables() == self.variables
        assert databases(old) == {APP: True}
        assert databases(new) == ({APP: True} if kept else {})
        assert all(world.railway.running(name) for name in (*STARTED, "redis"))
        url = world.value("litellm", "DATABASE_URL").partition("?")[0]
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("INSERT INTO spend VALUES (0, 'written after the way back')")
            connection.execute("DELETE FROM spend WHERE i = 0")


@pytest.fixture
def before(world: World) -> Before:
    return Before(world.variables())


def plan_of(world: World, **request: object) -> PostgresPlan:
    return world.plan(**{"service": "", "target": "url", **request})


# --- a move --------------------------------------------------------------------------------------------------------------


def test_everything_moves_everybody_follows_nothing_secret_is_said_and_an_undo_goes_back_and_names_what_is_left_behind(
    world: World, before: Before, runtime: QuietRuntime, old: PostgresEngine, new: PostgresEngine
) -> None:
    plan = plan_of(world, rehearse=True)
    assert plan.databases == (APP,)
    assert [one.service for one in plan.stoppable] == STARTED
    assert plan.uses == (
        "shared.READING (literal)",
        "litellm.DATABASE_URL (literal)",
        "langfuse-web.DIRECT_URL (literal)",
        "langfuse-web.SHADOW_DATABASE_URL (literal)",
    )
    shown = preview_lines(plan, steps_of(plan))
    refuse_changed(plan_of(world, rehearse=True), plan_hash(plan))
    count = len(runtime.started)
    with world.hands() as hands:
        journal = upgrade(hands, plan)
        assert journal.phase == "done"
        assert moved(world, new)
        assert runtime.names()[count:] == STARTED
        assert databases(old) == {APP: False}
        assert rows(new) == 300
        with psycopg.connect(world.value("litellm", "DATABASE_URL").partition("?")[0], autocommit=True) as connection:
            connection.execute("INSERT INTO spend VALUES (301, 'since')")
            assert connection.execute("SHOW statement_timeout").fetchone() == ("31s",)
        with pytest.raises(GuardRefused, match="is not on Railway; delete it where it was made"):
            forget(hands, journal)
        said = describe_undo(hands, journal)
        assert "public.spend (1+ 0~ 0-)" in said
        assert undo(hands, journal).endswith("as well as before")
        with pytest.raises(GuardRefused, match="undone: there is nothing to undo"):
            undo(hands, journal)
    before.is_back(world, old, new, kept=True)
    assert rows(new) == 301, "what was written since is kept"
    everything = "\n".join([*shown, *world.said, world.journals(), said, repr(plan), plan.model_dump_json()])
    assert CANARY not in everything
    assert old.password not in everything
    assert new.password not in everything


def test_a_copy_that_differs_leads_nobody_away_and_everybody_runs_again(
    world: World, before: Before, runtime: QuietRuntime, old: PostgresEngine, new: PostgresEngine, tmp_path: Path
) -> None:
    script = tmp_path / "pg_restore"
    real = PostgresEngine.bin_dir_for(18)
    spoil = "UPDATE spend SET what = 'y' WHERE i = 7"
    script.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec {real}/pg_restore --version\n{real}/pg_restore "$@" || exit 1\n'
        f'exec {real}/psql --quiet --no-psqlrc --command "{spoil}"\n'
    )
    script.chmod(0o755)
    world.with_programs(tmp_path)
    with world.hands() as hands, pytest.raises(UpgradeFailed, match=r"copy: .*not equal .*public\.spend") as failed:
        upgrade(hands, plan_of(world))
    assert failed.value.undone
    before.is_back(world, old, new)
    assert load_all(world.stack.store)[-1].phase == "undone"


@pytest.mark.long
def test_applications_that_are_not_well_with_the_new_server_get_their_old_one_back(
    world: World, before: Before, old: PostgresEngine, new: PostgresEngine
) -> None:
    plan = plan_of(world)
    world.beside.sick.add("langfuse-web")

    def well_again(text: str) -> None:
        world.said.append(text)
        if text.startswith("health: failed"):
            world.beside.sick.clear()

    with world.hands() as hands, pytest.raises(UpgradeFailed, match="langfuse-web: answers 503") as failed:
        upgrade(type(hands)(**{**vars(hands), "tell": well_again}), plan)
    assert failed.value.undone
    before.is_back(world, old, new, kept=True)


@pytest.mark.long
def test_a_run_shows_asks_does_and_takes_back_and_finds_nothing_to_do_where_there_is_nothing(
    world: World, before: Before, old: PostgresEngine, new: PostgresEngine
) -> None:
    def run(**request: object) -> str:
        wanted = {"service": "", "target": "url", "soak_minutes": 0, "smoke": False, "rehearse": False, **request}
        with world.api() as api:
            eyes = Eyes(world.stack, api, world.beside)
            return Run(eyes, PostgresRequest.model_validate(wanted), pace=PACE, documents=False).carry_out()

    assert run(action="finish") == "nothing"
    assert run(dry_run=True) == "nothing"
    with pytest.raises(ApprovalMissing, match="nothing was changed"):
        run(confirm="another stack")
    with pytest.raises(GuardRefused, match="the facts have changed since plan 000000000000"):
        run(plan_hash="000000000000", dry_run=True)
    assert world.variables() == before.variables
    assert run(confirm="sandbox") == "done"
    assert moved(world, new)
    assert run(action="undo", dry_run=True) == "nothing"
    assert moved(world, new)
    assert run(action="undo", confirm="sandbox") == "undone"
    with pytest.raises(GuardRefused, match="no upgrade 'latest' of Postgres to undo"):
        run(action="undo", confirm="sandbox")
    before.is_back(world, old, new, kept=True)


# --- killed --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Deadly(Step):
    """A step of an upgrade whose process is killed when it has been done, or undone, and nobody knows yet."""

    inner: Step
    when: str

    def describe(self) -> str:
        return self.inner.describe()

    def do(self, context: Context) -> str:
        outcome = self.inner.do(context)
        return self._die("do", outcome)

    def undo(self, context: Context) -> str:
        outcome = self.inner.undo(context)
        return self._die("undo", outcome)

    def _die(self, at: str, outcome: str) -> str:
        if at == self.when:
            os.kill(os.getpid(), signal.SIGKILL)
        return outcome


def go_on(world: World, journal: UpgradeJournal, dying: str, when: str) -> None:
    """Be the process that goes on with an upgrade, and is killed right after one of its steps."""
    plan = PostgresPlan.model_validate(journal.plan)
    steps = [Deadly(one.name, one, when) if one.name == dying else one for one in steps_of(plan)]
    with world.hands() as hands:
        context = hands.context(journal)
        work = run_steps if when == "do" else undo_steps
        work(context, journal, steps, prove=proof_of(plan))


def killed(world: World, journal: UpgradeJournal, dying: str, when: str) -> UpgradeJournal:
    """The journal that a process leaves which was killed there, once its lock has run out."""
    with Forked(lambda: go_on(world, journal, dying, when)) as process:
        while process.running:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    world.stack.store.remove([lock_key(world.stack.store)])  # as if the time had passed
    found = [one for one in load_all(world.stack.store) if one.id == journal.id]
    state = found[0].record(dying).state
    assert state == {"do": "doing", "undo": "undoing"}[when], f"{dying} is {state}"
    return found[0]


@pytest.mark.long
def test_a_process_may_be_killed_after_every_step_and_the_next_one_finishes_and_takes_back_all_the_same(
    world: World, before: Before, old: PostgresEngine, new: PostgresEngine
) -> None:
    plan = plan_of(world)
    journal = UpgradeJournal(id="20261126T030000Z-killed", kind="postgres", plan=plan.model_dump(mode="json"))
    names = [one.name for one in steps_of(plan)]
    for name in names:
        journal = killed(world, journal, name, "do")
    with world.hands() as hands:
        finish(hands, journal)
    assert journal.phase == "done"
    assert moved(world, new)
    assert databases(old) == {APP: False}
    for name in reversed(names):
        journal = killed(world, journal, name, "undo")
    with world.hands() as hands:
        finish(hands, journal)
    assert load_all(world.stack.store)[-1].phase == "undone"
    before.is_back(world, old, new, kept=True)


@pytest.mark.long
@pytest.mark.parametrize("name", ["server", "roles", "writers", "copy", "variables"])
def test_what_a_killed_process_has_begun_is_taken_back_where_nobody_has_used_the_new_server(
    world: World, before: Before, old: PostgresEngine, new: PostgresEngine, name: str
) -> None:
    plan = plan_of(world)
    journal = UpgradeJournal(id="20261126T030000Z-killed", kind="postgres", plan=plan.model_dump(mode="json"))
    journal = killed(world, journal, name, "do")
    with world.hands() as hands:
        with pytest.raises(GuardRefused, match="is unfinished"):
            upgrade(hands, plan)
        undo(hands, journal)
    before.is_back(world, old, new)


@pytest.mark.long
def test_half_a_copy_of_a_process_that_was_killed_is_made_anew_by_the_next_one(
    world: World, old: PostgresEngine, new: PostgresEngine, tmp_path: Path
) -> None:
    real, script, trace = PostgresEngine.bin_dir_for(18), tmp_path / "pg_restore", tmp_path / "killed"
    script.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec {real}/pg_restore --version\n'
        f'[ -e {trace} ] || {{ head -c 2000 > {trace}; kill -9 $PPID; exit 1; }}\nexec {real}/pg_restore "$@"\n'
    )
    script.chmod(0o755)
    world.with_programs(tmp_path)
    plan = plan_of(world)
    journal = UpgradeJournal(id="20261126T030000Z-killed", kind="postgres", plan=plan.model_dump(mode="json"))
    journal = killed(world, journal, "copy", "do")
    assert databases(new) == {APP: True}
    with world.hands() as hands:
        finish(hands, journal)
    assert rows(new) == 300
    assert moved(world, new)
    assert databases(old) == {APP: False}


# --- refused -------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_moved_is_refused_before_anything_is_changed(
    world: World, before: Before, old: PostgresEngine, new: PostgresEngine
) -> None:
    world.railway.stage({"services": {}, "sharedVariables": {"X": {"value": "1"}}})
    with pytest.raises(GuardRefused, match="changes wait in the dashboard"):
        plan_of(world)
    world.railway.stage({"sharedVariables": None})
    _refused(world, "guide", "railway postgres ha convert", target="railway-ha")
    execute(new, "CREATE TABLE mine (id int)")
    with pytest.raises(RestoreRefused, match="the target is not empty"):
        plan_of(world)
    execute(new, "DROP TABLE mine")
    execute(old, "ALTER ROLE litellm SET default_transaction_read_only TO off")
    _refused(world, "fence", "may write although the server is read-only")
    execute(old, "ALTER ROLE litellm RESET default_transaction_read_only")
    world.beside.sick.add("litellm")
    _refused(world, "health", "litellm is down")
    world.beside.sick.clear()
    with world.api() as api:
        api.set_variables(world.railway.service_id("redis"), {"OTHER_DATABASE_URL": "x"})
    world.railway.seal("redis", "OTHER_DATABASE_URL")
    _refused(world, "sealed", "redis.OTHER_DATABASE_URL is sealed")
    assert plan_of(world, known_sealed=["redis.OTHER_DATABASE_URL"]).databases == (APP,)
    assert databases(new) == {}
    assert len(load_all(world.stack.store)) == 0


def _refused(world: World, what: str, says: str, **request: object) -> None:
    with pytest.raises(GuardRefused, match=says):
        plan_of(world, **request)


def test_a_target_that_is_older_the_same_server_or_not_named_and_a_worker_without_identity_are_refused(
    world: World, old: PostgresEngine, new: PostgresEngine
) -> None:
    def with_settings(target: str | None, admin: str) -> World:
        world.stack.settings.postgres_target_url = None if target is None else SecretStr(target)
        block = PostgresServer(url=SecretStr(admin), bin_dirs=bin_dirs())
        world.stack = type(world.stack)(**{**vars(world.stack), "postgres_admin": block})
        return world

    with pytest.raises(SettingsError, match="POSTGRES_TARGET_URL is not set"):
        plan_of(with_settings(None, old.url()))
    with pytest.raises(GuardRefused, match="the target is a 16 server and the old one a 18"):
        plan_of(with_settings(old.url(), new.url()))
    with pytest.raises(GuardRefused, match="the very server that is to be replaced"):
        plan_of(with_settings(old.url(), old.url()))
    without = world.stack.keys.model_copy(update={"identity": None})
    world.stack = type(world.stack)(**{**vars(world.stack), "keys": without})
    with pytest.raises(SettingsError, match="BACKUP_AGE_IDENTITY is not set here"):
        plan_of(with_settings(new.url(), old.url()))
