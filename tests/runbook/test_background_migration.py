"""background-migration on a real Postgres: what failed goes on where it stood once a worker starts; nothing is called done."""

from __future__ import annotations

import os
import re
import secrets
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from blocks.errors import ApprovalMissing, BackupFailed, GuardRefused, NotHealed, ServiceError
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.postgres import PostgresServer
from blocks.settings import Settings
from flows.health.targets import Postgres, Targets
from flows.runbook import background_migration as module
from flows.runbook import starting
from flows.runbook.audit import Trail
from flows.runbook.background_ledger import Migration, Reason, Retry, reason_of
from flows.runbook.background_migration import Background, BackgroundRequest, Known, decide, tried
from flows.runbook.frame import Action, Verdict
from flows.runbook.restarting import Waits
from shared.engines.postgres import PostgresEngine
from shared.engines.process import wait_until
from shared.sandbox.railway_runtime.containers import ContainerSpec
from tests.deploy.quiet_runtime import QuietContainer, QuietRuntime
from tests.forks import Forked
from tests.runbook.cases import CANARY, IMPATIENT, Desk, Died, dies_after
from tests.upgrade.postgres_world import World, stand_in

NAME = "20241024_migrate_traces_from_pg_to_ch"
LEDGER = """
CREATE TABLE background_migrations (id text PRIMARY KEY, name text NOT NULL UNIQUE, script text NOT NULL, args jsonb NOT NULL,
  state jsonb NOT NULL DEFAULT '{}', finished_at timestamp(3), failed_at timestamp(3), failed_reason text, worker_id text,
  locked_at timestamp(3))
"""
TOO_LARGE = f"Failed to convert rust `String` into napi `string` {CANARY}"


@dataclass(frozen=True)
class Start(Action):
    """A worker that starts, as Railway would have it do: it takes up what may run, as Langfuse's does."""

    work: Callable[[], None]
    well: Callable[[], str]

    def describe(self) -> str:
        return "start the worker"

    def needless(self) -> str:
        return self.well()

    def do(self) -> str:
        self.work()
        return "its container runs"


class Langfuse:
    """A database of Langfuse's with its ledger, and a worker.

    Attributes:
        taken: labels of the backup sets that were asked for. fails: taking one fails. again: the reason for which every
            migration fails; empty: each is carried out. runs: it takes longer than the test. starts: of the worker.
    """

    def __init__(self, engine: PostgresEngine) -> None:
        self.engine, self.database = engine, f"background_{secrets.token_hex(4)}"
        self.taken: list[str] = []
        self.fails, self.runs, self.again, self.starts = False, False, "", 0
        with psycopg.connect(engine.url(), autocommit=True) as admin:
            admin.execute(f'CREATE DATABASE "{self.database}"'.encode())
        self.run(LEDGER)
        self.add("20240101_add_costs", "finished_at = now()")

    def run(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.engine.url(self.database), autocommit=True) as connection:
            connection.execute("SET TimeZone = 'UTC'")
            cursor = connection.execute(sql.encode(), list(parameters) or None)
            return cursor.fetchall() if cursor.description else []

    def add(self, name: str, state: str = "", args: object = None) -> None:
        self.run(
            "INSERT INTO background_migrations (id, name, script, args) VALUES (%s, %s, 'x', %s)", name, name, Jsonb(args or {})
        )
        if state:
            self.run(f"UPDATE background_migrations SET {state} WHERE name = %s", name)

    def fail(self, name: str = NAME, reason: str = TOO_LARGE, progress: object = None) -> None:
        self.add(name, "failed_at = now() - interval '20 min'")
        noted = Jsonb(progress or {"maxDate": "2024"})
        self.run("UPDATE background_migrations SET state = %s, failed_reason = %s WHERE name = %s", noted, reason, name)

    def rows(self) -> list[tuple[Any, ...]]:
        """The whole table, but for what a worker writes by the clock."""
        return self.run(
            "SELECT name, args, state, finished_at IS NOT NULL, failed_at, failed_reason, worker_id, locked_at IS NOT NULL "
            "FROM background_migrations ORDER BY name"
        )

    def state(self, name: str = NAME) -> str:
        (found,) = [one.state for one in self.runbook()._read() if one.name == name]
        return found

    def work(self) -> None:
        """What Langfuse's worker does when it starts."""
        self.starts += 1
        may = "WHERE finished_at IS NULL AND failed_at IS NULL AND args->>'envGate' IS NULL"
        self.run(f"UPDATE background_migrations SET worker_id = 'w', locked_at = now() {may}")
        if self.again:
            end = "failed_at = now(), failed_reason = %s, locked_at = NULL"
            self.run(f"UPDATE background_migrations SET {end} {may}", self.again)
        elif not self.runs:
            self.run(f"UPDATE background_migrations SET finished_at = now() {may}")

    def secure(self, label: str) -> str:
        if self.fails:
            raise BackupFailed("backup: no room")
        self.taken.append(label)
        return "20261126T030000Z-aaaaaa"

    def runbook(self, at_work: str = "", *, steady: float = 0.0, **request: object) -> Background:
        url = SecretStr(self.engine.url())
        targets = Targets(timeout=20, postgres=Postgres(url, (("langfuse-web", self.database),)))
        given = BackgroundRequest.model_validate(request)
        server = PostgresServer(url=url)
        return Background(server, self.database, targets, lambda: at_work, self.secure, request=given, steady=steady)


@pytest.fixture
def langfuse(postgres_engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Langfuse]:
    made = Langfuse(postgres_engine)
    monkeypatch.setattr(module, "start_again", lambda _api, _service, well, _waits: (Start(made.work, well),))
    yield made
    with psycopg.connect(postgres_engine.url(), autocommit=True) as admin:
        admin.execute(f'DROP DATABASE "{made.database}" WITH (FORCE)'.encode())


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store, pace=IMPATIENT)


def test_a_failed_migration_goes_on_where_it_stood_once_a_person_approves(langfuse: Langfuse, desk: Desk) -> None:
    assert desk.heal(langfuse.runbook()) == "nothing to do"
    langfuse.fail()
    before = langfuse.rows()
    assert desk.heal(langfuse.runbook(), BackgroundRequest(dry_run=True)) == "can heal"
    assert (langfuse.rows(), langfuse.taken, langfuse.starts, desk.asked) == (before, [], 0, []), "a dry run"
    assert desk.heal(langfuse.runbook()) == "healed"
    assert langfuse.rows()[0] == before[0], "what is done is left alone"
    assert langfuse.rows()[1] == (NAME, {}, {"maxDate": "2024"}, True, None, None, "w", True)
    assert (langfuse.taken, langfuse.starts) == ([f"before retrying {NAME}"], 1)
    assert "way back: set 20261126T030000Z-aaaaaa" in desk.text()
    assert desk.heal(langfuse.runbook()) == "nothing to do", "run twice"
    assert langfuse.starts == 1


def test_the_reason_is_named_with_what_to_try_and_its_text_is_shown_nowhere(langfuse: Langfuse, desk: Desk) -> None:
    langfuse.fail()
    desk.heal(langfuse.runbook())
    assert "failed 20 min ago: a batch is too large for Node.js; run this again with batch_size" in desk.text()
    assert CANARY not in desk.text(), "it may quote what people sent"


def test_smaller_batches_are_asked_of_it_beside_what_its_arguments_said_before(langfuse: Langfuse, desk: Desk) -> None:
    langfuse.fail()
    langfuse.run('UPDATE background_migrations SET args = \'{"maxDate": "2025", "batchSize": 5000}\' WHERE name = %s', NAME)
    assert desk.heal(langfuse.runbook(batch_size=500)) == "healed"
    assert langfuse.rows()[1][1] == {"maxDate": "2025", "batchSize": 500}
    assert "500 rows at a time" in desk.asked[0]


def test_parts_that_were_given_up_are_tried_again_and_those_that_are_done_stay_done(langfuse: Langfuse, desk: Desk) -> None:
    progress = {"todos": [{"status": "completed"}, {"status": "failed", "error": CANARY}, {"status": "pending"}]}
    langfuse.fail(reason="Migration completed with 1 failed chunk(s)", progress=progress)
    assert desk.heal(langfuse.runbook()) == "healed"
    assert langfuse.rows()[1][1:3] == ({"retryFailed": True}, progress)
    assert "with 1 of 3 parts done and 1 given up" in desk.text()
    assert CANARY not in desk.text()


def test_anew_forgets_the_progress_as_the_retry_button_does(langfuse: Langfuse, desk: Desk) -> None:
    langfuse.fail(progress={"todos": [{"status": "failed"}]})
    assert desk.heal(langfuse.runbook(progress="anew")) == "healed"
    assert langfuse.rows()[1][1:3] == ({}, {})
    assert "from its beginning" in desk.asked[0]


def test_what_fails_again_is_said_with_its_reason_and_is_left_failed(langfuse: Langfuse, desk: Desk) -> None:
    langfuse.fail()
    langfuse.again = f"Code: 241. DB::Exception: {CANARY}. (MEMORY_LIMIT_EXCEEDED)"
    with pytest.raises(
        NotHealed, match=r"failed 0 min ago: MEMORY_LIMIT_EXCEEDED; give ClickHouse more memory, or .*batch_size"
    ):
        desk.heal(langfuse.runbook())
    assert langfuse.state() == "failed", "nothing is marked as done"
    assert CANARY not in desk.text()
    assert tried(Trail(desk.store)) == 1


def test_one_that_has_only_just_begun_is_not_believed_yet(langfuse: Langfuse, desk: Desk) -> None:
    langfuse.fail()
    langfuse.runs = True
    with pytest.raises(NotHealed, match="has only just begun; nobody knows yet whether it gets on"):
        desk.heal(langfuse.runbook(steady=3600))
    assert langfuse.state() == "running"
    assert langfuse.runbook().wrong() == [], "without that patience it is well"
    assert desk.heal(langfuse.runbook()) == "nothing to do"


def test_without_a_worker_that_starts_a_person_is_told_to_start_it(
    langfuse: Langfuse, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "start_again", lambda *_: ())
    langfuse.fail()
    with pytest.raises(NotHealed, match="may run and waits: start langfuse-worker"):
        desk.heal(langfuse.runbook())
    assert langfuse.state() == "waiting"
    with pytest.raises(NotHealed, match="there is no Railway here: start langfuse-worker"):
        desk.heal(langfuse.runbook())


class Working(QuietRuntime):
    """Containers of Langfuse's worker: each takes up migrations when it starts."""

    langfuse: Langfuse

    def start(self, spec: ContainerSpec) -> QuietContainer:
        self.langfuse.work()
        return super().start(spec)


def test_on_railway_the_worker_is_deployed_once_more_as_it_is_and_takes_the_migration_up(
    langfuse: Langfuse, store: BackupStore, keys: BackupKeys, tmp_path: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "start_again", starting.start_again)
    runtime = Working()
    runtime.langfuse = langfuse
    langfuse.fail()
    with stand_in(tmp_path / "railway", runtime) as railway:
        world = World(store, keys, railway, Settings(stack_name=store.stack), langfuse.runbook().server)
        world.service("langfuse-worker")
        assert (langfuse.starts, langfuse.state()) == (1, "failed"), "the worker does not try it again by itself"
        with world.api() as api:
            runbook = replace(langfuse.runbook(), api=api, waits=Waits(deployment=120, settle=0.5, poll=0.02))
            assert desk.heal(runbook) == "healed"
            assert desk.heal(replace(langfuse.runbook(), api=api)) == "nothing to do"
    assert (langfuse.starts, langfuse.state()) == (2, "done")
    assert len({one.spec.image for one in runtime.started}) == 1


def test_a_run_that_was_killed_before_the_worker_started_is_run_again_and_takes_no_second_set(
    langfuse: Langfuse, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    langfuse.fail()

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patched:
        patched.setattr(module, "start_again", lambda _api, _service, well, _waits: (Start(die, well),))
        with Forked(lambda: desk.heal(langfuse.runbook())) as process:
            wait_until(lambda: not process.running, timeout=60, what="the run to be killed")
    assert langfuse.state() == "waiting"
    assert desk.heal(langfuse.runbook()) == "healed"
    assert (langfuse.state(), langfuse.taken, langfuse.starts) == ("done", [], 1)


def test_a_run_that_died_between_backup_and_ledger_is_run_again_and_one_that_somebody_overtook_does_nothing(
    langfuse: Langfuse, desk: Desk
) -> None:
    langfuse.fail()
    before = langfuse.rows()

    runbook = langfuse.runbook()
    runbook.secure = dies_after(langfuse.secure)
    with pytest.raises(Died):
        desk.heal(runbook)
    assert langfuse.rows() == before
    action = langfuse.runbook().diagnose().actions[0]
    assert desk.heal(langfuse.runbook()) == "healed"
    assert len(set(langfuse.taken)) == 1
    assert action.needless() == "none of them is failed any more"
    with pytest.raises(GuardRefused, match="failed any more; nothing was changed"):
        action.do()
    assert langfuse.state() == "done"


def test_without_approval_or_without_a_backup_set_nothing_is_written(langfuse: Langfuse, desk: Desk) -> None:
    langfuse.fail()
    before = langfuse.rows()
    desk.approves = False
    with pytest.raises(ApprovalMissing):
        desk.heal(langfuse.runbook())
    assert (langfuse.rows(), langfuse.taken) == (before, [])
    desk.approves, langfuse.fails = True, True
    with pytest.raises(NotHealed, match="no room"):
        desk.heal(langfuse.runbook())
    assert langfuse.rows() == before


def test_while_one_runs_nothing_is_written_and_the_worker_is_left_alone(langfuse: Langfuse, desk: Desk) -> None:
    langfuse.fail()
    action = langfuse.runbook().diagnose().actions[0]
    langfuse.add("20250101_next", "locked_at = now() - interval '30 s'")
    before = langfuse.rows()
    with pytest.raises(NotHealed, match="20250101_next runs right now, and starting the worker would break it off"):
        desk.heal(langfuse.runbook())
    with pytest.raises(GuardRefused, match="20250101_next runs right now; nothing was changed"):
        action.do()
    assert (langfuse.rows(), langfuse.starts) == (before, 0)
    langfuse.run("UPDATE background_migrations SET locked_at = now() - interval '61 s' WHERE name = '20250101_next'")
    assert desk.heal(langfuse.runbook()) == "healed", "a lock that is that old is nobody's"


def test_one_behind_a_gate_neither_keeps_anybody_waiting_nor_is_started(langfuse: Langfuse, desk: Desk) -> None:
    langfuse.add("20260521_dormant", args={"envGate": "LANGFUSE_BACKGROUND_MIGRATION_V4"})
    assert desk.heal(langfuse.runbook()) == "nothing to do"
    langfuse.fail()
    assert desk.heal(langfuse.runbook()) == "healed"
    assert langfuse.state("20260521_dormant") == "dormant"


def test_all_that_failed_are_had_to_run_again_for_one_may_wait_for_the_other(langfuse: Langfuse, desk: Desk) -> None:
    langfuse.fail()
    langfuse.fail("20241025_next", "Prerequisite migration x failed at y; resolve it")
    assert desk.heal(langfuse.runbook()) == "healed"
    assert [langfuse.state(), langfuse.state("20241025_next")] == ["done", "done"]
    assert "and 1 more" in desk.text()


def test_a_database_without_the_ledger_has_nothing_to_do(langfuse: Langfuse, desk: Desk) -> None:
    langfuse.run("DROP TABLE background_migrations")
    assert replace(langfuse.runbook(), targets=Targets()).diagnose().verdict is Verdict.NOTHING


def test_a_server_that_is_away_is_said_and_nothing_is_concluded(langfuse: Langfuse) -> None:
    runbook = replace(langfuse.runbook(), database="no_such_database")
    with pytest.raises(ServiceError, match="does not exist"):
        runbook.diagnose()


FAILED = Migration("1", NAME, "failed", 20.0, reason_of(TOO_LARGE))
WAITS = replace(FAILED, id="2", name="b", state="waiting", reason=Reason(""))
RUNS = replace(WAITS, state="running")


@pytest.mark.parametrize(
    ("known", "verdict", "words"),
    [
        (Known([], []), Verdict.NOTHING, "no background migration of Langfuse has failed"),
        (Known([], [RUNS, WAITS]), Verdict.NOTHING, "no background migration"),
        (Known([], [WAITS]), Verdict.HEALS, r"b \(waiting\), and none runs"),
        (Known(["bad"], [FAILED]), Verdict.HEALS, "too large for Node.js; run this again with batch_size"),
        (Known(["bad"], [FAILED], at_work="upgrade"), Verdict.PERSON, "upgrade is under way: wait for its end"),
        (Known(["bad"], [FAILED], at_work="backup"), Verdict.HEALS, "failed 20 min ago"),
        (Known(["bad"], [FAILED, RUNS]), Verdict.PERSON, "b runs right now"),
        (Known(["bad"], [FAILED], warehouse=["it is full"]), Verdict.PERSON, "heal ClickHouse first: it is full"),
        (Known(["bad"], [FAILED], worker=["no answer"]), Verdict.PERSON, "heal that first: no answer"),
    ],
)
def test_what_is_known_decides(known: Known, verdict: Verdict, words: str) -> None:
    asked: list[Sequence[Migration]] = []

    def ladder(failed: Sequence[Migration]) -> tuple[Action, ...]:
        asked.append(failed)
        return (Start(lambda: None, str),)

    found = decide(known, BackgroundRequest(), ladder)
    assert found.verdict is verdict, found.sentence
    assert len(asked) == (verdict is Verdict.HEALS)
    assert re.search(words, found.sentence), found.sentence


@pytest.mark.parametrize(
    ("text", "words", "advice"),
    [
        (f"Failed to convert rust `String` into napi `string` {CANARY}", "a batch is too large for Node.js", "batch_size"),
        (f"would use 9 GiB: {CANARY}. (MEMORY_LIMIT_EXCEEDED)", "MEMORY_LIMIT_EXCEEDED", "memory"),
        ("memory limit exceeded", "MEMORY_LIMIT_EXCEEDED", "memory"),
        ("connect ECONNREFUSED 10.0.0.3:8123", "ECONNREFUSED", "try again"),
        (f"Raw query failed. Code: `42P01`. Message: `{CANARY}`", "42P01 UndefinedTable", "failed_reason"),
        ("Timed out fetching a new connection (P2024)", "a timeout", "try again"),
        ("Unique constraint failed P2002", "P2002", "failed_reason"),
        ("Cannot reserve 1.00 MiB. (NOT_ENOUGH_SPACE)", "NOT_ENOUGH_SPACE", "room"),
        ("[Backfill] Migration completed with 2 failed chunk(s); clear", "parts of it were given up", "state"),
        ("Prerequisite migration x (y) has not finished yet", "one that it needs has not ended well", "first"),
        ("ClickHouse traces table does not exist", "a table in ClickHouse is missing", "dirty-migration"),
        ("Clickhouse URL must be configured to perform migration", "a setting of the worker is missing", "log"),
        (f"no such thing: {CANARY}", "a reason that has no name here", "failed_reason"),
        ("", "no reason given", "failed_reason"),
    ],
)
def test_a_reason_is_called_by_a_name_and_nothing_of_its_text_gets_through(text: str, words: str, advice: str) -> None:
    found = reason_of(text)
    assert found.words == words
    assert advice in found.advice
    assert CANARY not in f"{found}"


def test_approving_is_asked_with_what_it_means() -> None:
    action = Retry(PostgresServer(url=SecretStr("postgresql://u@h/d")), "langfuse", [FAILED], False, 0, str)
    assert "the worker is started again" in action.asks
    assert action.describe() == f"take a backup set of langfuse, then have {NAME} run again where it stands"
