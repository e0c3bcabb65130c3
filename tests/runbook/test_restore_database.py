"""restore-database on a real Postgres and a real store: what is missing comes back, what is there stays, also after a death."""

from __future__ import annotations

import json
import os
import secrets
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from pydantic import SecretStr

from blocks.errors import ApprovalMissing, NotHealed
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.postgres import PostgresServer
from blocks.settings import Settings
from flows import catalogue, side_file
from flows.backup.manifest import Manifest
from flows.backup.postgres import dump_database
from flows.backup.sets import new_set
from flows.catalogue import Entry
from flows.health.targets import Postgres, Targets
from flows.lease import acquire, holder_of, utc_now
from flows.restore import postgres_swap, undo
from flows.restore.choose import chosen
from flows.restore.journal import save
from flows.restore.plan import plan_restore
from flows.restore.steps import begin, check_stored, discard_staged_on_failure, stage, swap_all
from flows.runbook.frame import Action, RunbookRequest, Verdict
from flows.runbook.missing_databases import Known, Lost, decide, newest_with
from flows.runbook.restarting import Waits
from flows.runbook.restore_database import Databases, Restores
from flows.stack import Stack
from shared.engines.postgres import PostgresEngine
from shared.engines.process import free_port, wait_until
from tests import manifests
from tests.deploy.quiet_runtime import QuietRuntime
from tests.forks import Forked
from tests.runbook.cases import CANARY, IMPATIENT, Desk
from tests.runbook.test_failed_drill import drilled
from tests.stores import seen_through
from tests.upgrade.postgres_world import World, bin_dirs, stand_in

LITELLM, WEB, WORKER = "litellm", "langfuse-web", "langfuse-worker"
WAITS = Waits(deployment=120, settle=0.5, poll=0.02)
SECONDS = 3
"""A lock that nobody renews lives so long."""


@dataclass(frozen=True)
class ByHand(Restores):
    """Does what the flow does, without Prefect.

    Attributes:
        given: the stack. dies_at: SIGKILL right before this step of the swap.
    """

    given: Stack
    dies_at: str = ""

    def restore(self, set_id: str, databases: Sequence[str]) -> str:
        """As in `Restores`."""
        stack = self.given
        manifest = catalogue.with_definitions(stack.store, stack.keys, catalogue.load_manifest(stack.store, stack.keys, set_id))
        parts = chosen(manifest, [f"postgres/{name}" for name in databases])
        plan = plan_restore(stack, manifest, parts)
        with stack.exclusive("restore"):
            undo.settle(stack)
            check_stored.fn(stack, manifest, parts)
            journal = begin(stack, plan)
            with discard_staged_on_failure(stack, journal):
                for step in plan.steps:
                    stage.fn(stack, manifest, step)
                if self.dies_at:
                    journal.phase = "swapping"
                    save(stack.store, journal)
                    names = journal.steps[0]
                    server = stack.need_postgres_admin()
                    postgres_swap.swap_databases(
                        server, names.live, names.staged, names.kept, existed=names.existed, hook=self._die
                    )
                swap_all(stack, stack.store, manifest, journal)
        return journal.id

    def finish(self) -> None:
        """As in `Restores`."""
        with self.given.exclusive("restore"):
            undo.settle(self.given)

    def _die(self, step: str) -> None:
        if step.startswith(self.dies_at):
            os.kill(os.getpid(), signal.SIGKILL)


def next_second() -> None:
    """Wait for it: sets and restores have times without parts of a second."""
    now = utc_now()
    wait_until(lambda: utc_now() > now, timeout=10, what="the next second")


class Site:
    """A server with the databases of both applications, Langfuse's web as it answers, and Railway, where all three run.

    Attributes:
        sleeps: langfuse-web does not find its database again before it is started anew.
    """

    def __init__(self, engine: PostgresEngine, store: BackupStore, keys: BackupKeys, folder: Path) -> None:
        self.engine, self.mark, self.sleeps = engine, secrets.token_hex(4), False
        self.litellm, self.langfuse, self.role = (f"{one}_{self.mark}" for one in ("litellm", "langfuse", "app"))
        self.execute(f"CREATE ROLE {self.role} LOGIN PASSWORD '{CANARY}'")
        for name in (self.litellm, self.langfuse):
            self.execute(f"CREATE DATABASE {name} OWNER {self.role}")
            self.execute(
                f"SET ROLE {self.role}",
                "CREATE TABLE projects (id int PRIMARY KEY)",
                "INSERT INTO projects SELECT generate_series(1, 20)",
                database=name,
            )
        server = PostgresServer(url=SecretStr(engine.url("postgres")), bin_dirs=bin_dirs())
        settings = Settings(
            stack_name=store.stack,
            postgres_bin_dirs=bin_dirs(),
            backup_lease_seconds=SECONDS,
            backup_lock_wait_seconds=60,
        )
        self.stack = Stack(store.stack, settings, store, keys, server, server, None, None)
        self.runtime = QuietRuntime()
        self.railway = stand_in(folder, self.runtime)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})

    def __enter__(self) -> Site:
        self.railway.__enter__()
        self._thread.start()
        self.world = World(self.stack.store, self.stack.keys, self.railway, self.stack.settings, self.stack.need_postgres())
        for name in (LITELLM, WEB, WORKER):
            self.world.service(name)
        self.deployed = len(self.runtime.started)
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()
        self.railway.__exit__(None, None, None)
        with psycopg.connect(self.engine.url(), autocommit=True) as admin:
            for name in self.databases():
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
            admin.execute(f"DROP ROLE {self.role}".encode())

    # --- what is done to it ------------------------------------------------------------------------------------------

    def execute(self, *statements: str, database: str = "postgres") -> None:
        with psycopg.connect(self.engine.url(database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def drop(self, *names: str) -> None:
        for name in names:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def back_up(self, *names: str) -> Manifest:
        """Take a set."""
        stack = self.stack
        with stack.exclusive("backup") as lease, new_set(stack, lease, label="", protect=False) as made:
            taken = [
                dump_database(stack.need_postgres(), one, stack.store, made.prefix, stack.keys)
                for one in names or (self.litellm, self.langfuse)
            ]
            made.add(*taken)
            manifest = made.commit()
        next_second()  # sets are told apart by it
        return manifest

    def runbook(self, *, api: Any = None, dies_at: str = "", set_id: str = "") -> Databases:
        applications = ((LITELLM, self.litellm), (WEB, self.langfuse))
        targets = Targets(
            timeout=20,
            postgres=Postgres(SecretStr(self.engine.url("postgres")), applications),
            langfuse_web=f"http://127.0.0.1:{self._http.server_port}",
        )
        restores = ByHand(self.stack.name, self.stack, dies_at)
        return Databases(self.stack, targets, restores, api, set_id, WAITS)

    def heal(self, desk: Desk, request: RunbookRequest | None = None, **options: Any) -> str:
        with self.world.api() as api:
            return desk.heal(self.runbook(api=api, **options), request)

    def heal_apart(self, **options: Any) -> str:
        """Heal in another process, without Railway: it shares no socket with this one."""
        self.stack = replace(self.stack, store=seen_through(self.stack.store))
        return Desk(self.stack.store).heal(self.runbook(**options))

    def wait_for_lock(self) -> None:
        """Until the lock of a process that was killed has run out."""
        wait_until(lambda: holder_of(self.stack.store, SECONDS) is None, timeout=60, what="the lock to run out")

    # --- what is there -----------------------------------------------------------------------------------------------

    def databases(self) -> dict[str, bool]:
        """Those of this test, and whether each takes connections."""
        with psycopg.connect(self.engine.url()) as connection:
            rows = connection.execute(
                "SELECT datname, datallowconn FROM pg_database WHERE datname LIKE %s", [f"%_{self.mark}%"]
            )
            return {str(name): bool(allowed) for name, allowed in rows}

    def count(self, database: str) -> int:
        with psycopg.connect(self.engine.url(database)) as connection:
            row = connection.execute("SELECT count(*) FROM projects").fetchone()
        return int(row[0]) if row else 0

    def write(self, database: str, number: int) -> None:
        """Write as the application does."""
        url = self.engine.url(database, user=self.role, password=CANARY)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("INSERT INTO projects VALUES (%s)", [number])

    def state(self) -> tuple[object, ...]:
        """Everything that could change, the audit trail apart."""
        store = self.stack.store
        objects = {one.key: one.etag for one in store.list(store.root) if "/audit/" not in one.key}
        return self.databases(), objects, self.started()

    def started(self) -> list[str]:
        """Services that were deployed since."""
        return [one.spec.service for one in self.runtime.started[self.deployed :]]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        mine = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps({"status": "OK", "version": "3.225.4"}).encode()
                self.send_response(200 if mine._web_reaches_its_database() else 503)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        return Handler

    def _web_reaches_its_database(self) -> bool:
        if self.sleeps and WEB not in self.started():
            return False
        try:
            psycopg.connect(self.engine.url(self.langfuse, user=self.role, password=CANARY)).close()
        except psycopg.OperationalError:
            return False
        return True


@pytest.fixture
def site(postgres_engine: PostgresEngine, store: BackupStore, keys: BackupKeys, tmp_path: Path) -> Iterator[Site]:
    with Site(postgres_engine, store, keys, tmp_path) as made:
        yield made


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store)


def test_a_dropped_database_comes_back_once_a_person_approves_and_what_is_there_is_left_alone(site: Site, desk: Desk) -> None:
    assert site.heal(desk) == "nothing to do"
    taken = site.back_up()
    site.write(site.litellm, 99)
    site.write(site.langfuse, 99)
    site.drop(site.langfuse)
    before = site.state()
    assert site.heal(desk, RunbookRequest(dry_run=True)) == "can heal"
    desk.approves = False
    with pytest.raises(ApprovalMissing):
        site.heal(desk)
    assert site.state() == before
    assert any(one.startswith(f"would restore the database {site.langfuse} from set {taken.id}") for one in desk.told)
    desk.approves = True
    assert site.heal(desk) == "healed"
    assert site.databases() == {site.litellm: True, site.langfuse: True}
    assert (site.count(site.litellm), site.count(site.langfuse)) == (21, 20)
    site.write(site.langfuse, 100)  # as its owner
    assert site.started() == [], "langfuse-web went on by itself"
    assert f"the data is that of {taken.created_at:%Y-%m-%d %H:%M} UTC" in desk.asked[-1]
    assert CANARY not in desk.text()
    assert site.heal(desk) == "nothing to do", "run twice"
    assert site.count(site.langfuse) == 21


def test_each_database_comes_from_the_newest_good_set_that_has_it(site: Site, desk: Desk) -> None:
    old = site.back_up()
    site.write(site.langfuse, 99)
    newer = site.back_up(site.langfuse)
    site.write(site.langfuse, 100)
    bad = site.back_up(site.langfuse)
    side_file.record(site.stack.store, bad.id, drill=drilled(bad.id, datetime.now(UTC), "postgres: differs"))
    site.drop(site.litellm, site.langfuse)
    assert site.heal(desk) == "healed"
    assert (site.count(site.litellm), site.count(site.langfuse)) == (20, 21)
    assert [next(one for one in (old.id, newer.id) if one in said) for said in desk.asked] == [old.id, newer.id]


def test_an_application_that_does_not_find_its_database_again_is_started_anew(site: Site, desk: Desk) -> None:
    site.back_up()
    site.drop(site.langfuse)
    site.sleeps = True
    desk.pace = IMPATIENT
    assert site.heal(desk) == "healed"
    assert site.started() == [WEB], "the worker is not watched here, and nothing says that it is unwell"


def test_an_application_that_is_newer_than_the_set_is_started_to_migrate_although_its_checks_are_green(
    site: Site, desk: Desk
) -> None:
    site.back_up()
    with site.world.api() as api:
        service = site.railway.service_id(WEB)
        api.set_image(service, "langfuse/langfuse:3.226.0")
        api.wait_for_deployment(api.deploy(service), timeout=60, poll=0.02)
        site.deployed = len(site.runtime.started)
    next_second()
    site.drop(site.langfuse)
    desk.pace = IMPATIENT
    assert site.heal(desk) == "healed"
    assert site.started() == [WEB]
    assert "langfuse-web runs langfuse/langfuse:3.226.0 since after the set was taken" in desk.text()


def test_what_somebody_makes_while_it_asks_is_not_touched(site: Site, desk: Desk) -> None:
    site.back_up()
    site.drop(site.langfuse)
    desk.pace = IMPATIENT

    class Meanwhile(Desk):
        def _ask(self, what: str) -> None:
            super()._ask(what)
            site.execute(f"CREATE DATABASE {site.langfuse} OWNER {site.role}")
            site.execute("CREATE TABLE projects (id int)", database=site.langfuse)

    assert site.heal(Meanwhile(desk.store)) == "healed"
    assert site.count(site.langfuse) == 0
    assert site.databases() == {site.litellm: True, site.langfuse: True}


def test_where_nothing_can_be_restored_a_person_is_told_why(site: Site, desk: Desk) -> None:
    site.back_up(site.litellm)
    site.drop(site.langfuse)
    before = site.state()
    with pytest.raises(NotHealed, match=rf"no good backup set has {site.langfuse}: look for one in the second store"):
        site.heal(desk)
    assert (site.state(), desk.asked) == (before, [])
    site.execute(f"CREATE DATABASE {site.langfuse}")
    taken = site.back_up(site.langfuse)
    site.drop(site.langfuse)
    with pytest.raises(NotHealed, match="no good backup set has"):
        site.heal(desk, set_id="20261126T030000Z-aaaaaa")
    lease = acquire(site.stack.store, flow="upgrade", holder="a test", seconds=60, wait=0)
    try:
        with pytest.raises(NotHealed, match="upgrade is under way: wait for its end"):
            site.heal(desk)
    finally:
        lease.release()
    keys = site.stack.keys
    site.stack = replace(site.stack, keys=keys.model_copy(update={"identity": None}))
    with pytest.raises(NotHealed, match=r"it cannot be restored: .*no age identity here"):
        site.heal(desk)
    site.stack = replace(site.stack, keys=keys)
    assert desk.asked == []
    assert site.heal(desk, set_id=taken.id) == "healed"


def test_a_database_that_was_only_renamed_is_named_before_anybody_approves_a_restore(site: Site, desk: Desk) -> None:
    site.back_up()
    site.execute(f"ALTER DATABASE {site.langfuse} RENAME TO aside_{site.mark}")
    postgres = site.stack.need_postgres().model_copy(update={"databases": [site.litellm, site.langfuse]})
    site.stack = replace(site.stack, postgres=postgres, postgres_admin=postgres)
    assert site.heal(desk, RunbookRequest(dry_run=True)) == "can heal"
    (there,) = [text for name, text in desk.shown[-1].rows if name == "databases that are there"]
    assert f"aside_{site.mark}" in there
    assert site.langfuse not in there


def test_where_postgres_itself_is_down_that_comes_first(site: Site, desk: Desk) -> None:
    runbook = site.runbook()
    url = SecretStr(f"postgresql://postgres@127.0.0.1:{free_port()}/postgres")
    runbook.stack = replace(site.stack, postgres_admin=PostgresServer(url=url))
    with pytest.raises(NotHealed, match=r"nobody can say which databases there are: .*Postgres comes first"):
        desk.heal(runbook)


@pytest.mark.long
def test_a_run_that_is_killed_while_it_restores_is_begun_anew_by_the_next(site: Site, desk: Desk) -> None:
    site.execute("INSERT INTO projects SELECT generate_series(1000, 1500000)", database=site.langfuse)
    site.back_up()
    site.drop(site.langfuse)
    with Forked(site.heal_apart) as process:
        wait_until(lambda: any("__restore_" in one for one in site.databases()), timeout=120, what="the copy to be made")
        process.kill()
    assert site.langfuse not in site.databases()
    with pytest.raises(NotHealed, match=r"restore is under way: .*its lock runs out by itself"):
        site.heal(desk)
    site.wait_for_lock()
    assert site.heal(desk) == "healed"
    assert site.databases() == {site.litellm: True, site.langfuse: True}
    assert site.count(site.langfuse) == 1499021


@pytest.mark.parametrize("step", ["rename", "open"])
def test_a_run_that_is_killed_in_the_swap_is_finished_by_the_next(site: Site, desk: Desk, step: str) -> None:
    site.back_up()
    site.drop(site.langfuse)
    with Forked(lambda: site.heal_apart(dies_at=step)) as process:
        wait_until(lambda: not process.running, timeout=120, what="it to die")
    site.wait_for_lock()
    assert site.heal(desk) == "healed"
    assert site.databases() == {site.litellm: True, site.langfuse: True}
    assert site.count(site.langfuse) == 20
    assert desk.asked == [], "a person had approved it, and all of it was compared"
    assert "died while it swapped a database in" in desk.text()
    assert site.heal(desk) == "nothing to do"


# --- decisions -------------------------------------------------------------------------------------------------------------

NOW = datetime(2026, 11, 26, 9, tzinfo=UTC)


def entry(hours: int, *names: str, fault: str = "") -> Entry:
    made = manifests.manifest(NOW - timedelta(hours=hours), components=[manifests.postgres(name) for name in names])
    return Entry(made.id, made, fault)


LOST = Lost("litellm", ("litellm",))
FOUND = replace(LOST, found=entry(6, "litellm"))


@pytest.mark.parametrize(
    ("known", "verdict", "said"),
    [
        (Known([]), Verdict.NOTHING, "the applications' databases are there"),
        (Known([], silent="no answer"), Verdict.PERSON, "Postgres comes first"),
        (Known([], lost=[LOST], store_error="no answer"), Verdict.PERSON, "the backups' store cannot be read: no answer"),
        (Known([], lost=[LOST]), Verdict.PERSON, "no good backup set has litellm"),
        (Known([], lost=[FOUND]), Verdict.HEALS, "has it as of 2026-11-26 03:00 UTC, 6 h ago: what was written since is lost"),
        (Known([], lost=[FOUND], unfit="other keys"), Verdict.PERSON, "cannot be restored: other keys"),
        (Known([], lost=[FOUND], at_work="restore"), Verdict.PERSON, "restore is under way"),
        (Known([], lost=[FOUND], at_work="backup"), Verdict.HEALS, "what was written since is lost"),
        (Known([], lost=[FOUND, Lost("langfuse", (WEB,))]), Verdict.HEALS, "no good set has langfuse"),
        (Known([], died=["r1"]), Verdict.HEALS, "the restore r1 died"),
        (Known([], waiting=["langfuse-web is down"]), Verdict.HEALS, "not everybody goes on with them: langfuse-web is down"),
        (Known([], at_work="upgrade"), Verdict.NOTHING, "are there"),
    ],
)
def test_what_is_known_decides(known: Known, verdict: Verdict, said: str) -> None:
    ladder: Callable[[], tuple[Action, ...]] = tuple
    found = decide(known, NOW, ladder)
    assert (found.verdict, said in found.sentence) == (verdict, True), found.sentence


def test_the_newest_good_set_that_has_a_database_is_found() -> None:
    entries = [entry(1, "litellm"), entry(2, "langfuse", fault="gone"), entry(3, "langfuse"), entry(4, "langfuse")]
    found = newest_with(entries, "langfuse")
    assert found is entries[2]
    assert newest_with(entries, "langfuse", entries[3].id) is entries[3]
    assert newest_with(entries, "langfuse", entries[1].id) is None
    assert newest_with(entries, "other") is None
