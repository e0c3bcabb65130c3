"""free-connections on a real Postgres: who is ended, who never is, and when a person is asked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr

from blocks.errors import ApprovalMissing, NotHealed
from blocks.object_store import BackupStore
from blocks.postgres import PostgresServer
from flows.health.targets import Limits, Postgres, Targets
from flows.runbook.frame import Verdict
from flows.runbook.free_connections import Connections, FreeRequest, Known, decide
from flows.runbook.sessions import Session
from shared.engines.postgres import PostgresEngine
from shared.engines.process import wait_until
from tests.runbook.cases import IMPATIENT, Desk

ROLE = "runbook_app"
PASSWORD = "canary-9a41-app"

Connection = psycopg.Connection[tuple[object, ...]]


class Ward:
    """The server with sessions of an application."""

    def __init__(self, engine: PostgresEngine, open_sessions: contextlib.ExitStack) -> None:
        self.engine, self._open = engine, open_sessions
        self.admin = open_sessions.enter_context(psycopg.connect(engine.url(), autocommit=True))

    def connect(self, count: int = 1, *, user: str = ROLE, application: str = "prisma") -> list[Connection]:
        """Open sessions that do nothing."""
        as_role = make_conninfo(self.engine.url(), user=ROLE, password=PASSWORD)
        url = as_role if user == ROLE else self.engine.url()
        made = [psycopg.connect(url, application_name=application, autocommit=True) for _ in range(count)]
        for one in made:
            self._open.callback(one.close)
        return made

    def used(self) -> tuple[int, int]:
        row = self.admin.execute(
            "SELECT coalesce(sum(numbackends), 0)::int, current_setting('max_connections')::int FROM pg_stat_database"
        ).fetchone()
        assert row is not None
        return int(row[0]), int(row[1])

    def runbook(self, limit: float = 100, transaction: float = 3600, **request: object) -> Connections:
        server = PostgresServer(url=SecretStr(self.engine.url()))
        limits = replace(Limits(), connections_percent=limit, transaction_seconds=transaction)
        targets = Targets(timeout=20, limits=limits, postgres=Postgres(SecretStr(self.engine.url())))
        return Connections(server, targets, FreeRequest(roles=[ROLE], **request))

    def wait_until_old(self, pid: int) -> None:
        """Wait until a session's transaction is older than a second: the sweep counts in seconds."""
        age = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND clock_timestamp() - xact_start > interval '1.5 s'"
        wait_until(lambda: bool(self.admin.execute(age, [pid]).fetchone()), timeout=60, what="the transaction to be old")

    def limit_for(self, excess: int) -> float:
        """A limit that so many connections are too many for."""
        used, most = self.used()
        return 100 * (used - excess + 0.5) / most


@pytest.fixture
def ward(postgres_engine: PostgresEngine) -> Iterator[Ward]:
    with contextlib.ExitStack() as opened:
        made = Ward(postgres_engine, opened)
        made.admin.execute(f"DROP ROLE IF EXISTS {ROLE}")
        made.admin.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{PASSWORD}'")
        yield made
        made.admin.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = %s", [ROLE])
        made.admin.execute(f"DROP ROLE {ROLE}")


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store)


def alive(connections: list[Connection]) -> int:
    """How many of them still work."""
    count = 0
    for one in connections:
        with contextlib.suppress(psycopg.OperationalError):
            one.execute("SELECT 1")
            count += 1
    return count


def test_idle_sessions_are_ended_the_longest_idle_first_and_the_second_run_finds_nothing(ward: Ward, desk: Desk) -> None:
    old, young = ward.connect(12), ward.connect(3)
    limit = ward.limit_for(excess=3)
    assert desk.heal(ward.runbook(limit, idle_minutes=0)) == "healed"
    assert desk.asked == []
    assert alive(young) == 3
    assert alive(old) <= 9
    assert desk.heal(ward.runbook(limit, idle_minutes=0)) == "nothing to do"
    assert PASSWORD not in desk.text()
    assert "runbook_app@postgres, prisma: idle" in desk.text()


def test_sessions_of_superusers_and_of_our_own_backups_are_never_ended(ward: Ward, desk: Desk) -> None:
    desk.pace = IMPATIENT
    kept = [*ward.connect(4, user="postgres"), *ward.connect(4, application="pg_dump")]
    kept += ward.connect(2, application="stack-operations")
    runbook = ward.runbook(ward.limit_for(excess=3), idle_minutes=0)
    runbook.request = FreeRequest(roles=[ROLE, "postgres"], idle_minutes=0)
    ward.admin.execute(f"ALTER ROLE {ROLE} REPLICATION")
    replicating = ward.connect(2)
    with pytest.raises(NotHealed, match="none of the sessions may be ended"):
        desk.heal(runbook)
    assert alive([*kept, *replicating]) == 12


def test_a_dry_run_ends_nobody_and_says_whom_it_would(ward: Ward, desk: Desk) -> None:
    opened = ward.connect(6)
    runbook = ward.runbook(ward.limit_for(excess=3), idle_minutes=0)
    assert desk.heal(runbook, FreeRequest(dry_run=True)) == "can heal"
    assert alive(opened) == 6
    assert any(line.startswith("would end ") for line in desk.told)
    assert desk.trail() == []


def test_a_transaction_that_nobody_works_on_is_ended_without_a_question(ward: Ward, desk: Desk) -> None:
    (stuck,) = ward.connect()
    stuck.execute("BEGIN")
    stuck.execute("SELECT 1")
    ward.wait_until_old(stuck.info.backend_pid)
    assert desk.heal(ward.runbook(transaction=0.001, idle_transaction_minutes=0)) == "healed"
    assert alive([stuck]) == 0
    assert desk.asked == []


def test_a_transaction_at_work_is_ended_only_when_a_person_approves(ward: Ward, desk: Desk) -> None:
    (working,) = ward.connect()
    pid = working.info.backend_pid
    working.pgconn.send_query(b"SELECT pg_sleep(600)")
    state = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND state = 'active'"
    wait_until(lambda: bool(ward.admin.execute(state, [pid]).fetchone()), timeout=60, what="the statement to run")
    ward.wait_until_old(pid)
    desk.approves = False
    with pytest.raises(ApprovalMissing):
        desk.heal(ward.runbook(transaction=0.001, working_minutes=0))
    assert ward.admin.execute(state, [pid]).fetchone()
    assert [entry.kind for entry in desk.trail()] == ["diagnosed", "decided", "closed"]
    desk.approves = True
    assert desk.heal(ward.runbook(transaction=0.001, working_minutes=0)) == "healed"
    assert not ward.admin.execute(state, [pid]).fetchone()
    assert "cancel the statements of 1 sessions" in desk.asked[-1]


# --- decisions -----------------------------------------------------------------------------------------------------------


def sessions(count: int, quiet: float, state: str = "idle", transaction: float | None = None) -> list[Session]:
    return [Session(n, ROLE, "db", "prisma", state, f"t{n}", quiet, transaction) for n in range(count)]


def rungs(known: Known, request: FreeRequest | None = None) -> tuple[Verdict, list[tuple[str, int, bool]]]:
    """The verdict, and of each action how, how many, and whether it asks."""
    made: list[tuple[str, int, bool]] = []

    class Rung:
        def __init__(self, how: str, chosen: tuple[Session, ...], asks: str) -> None:
            made.append((how, len(chosen), bool(asks)))

    return decide(known, request or FreeRequest(), Rung).verdict, made  # type: ignore[arg-type]


BAD = ["too many"]


@pytest.mark.parametrize(
    ("known", "verdict", "ladder"),
    [
        (Known([], 10, 100, 80, sessions(5, 9999)), Verdict.NOTHING, []),
        (Known(BAD, 85, 100, 80, sessions(50, 9999)), Verdict.HEALS, [("end", 10, False)]),
        (Known(BAD, 85, 100, 80, sessions(4, 9999)), Verdict.HEALS, [("end", 4, False)]),
        (Known(BAD, 85, 100, 80, sessions(50, 100)), Verdict.HEALS, [("end", 10, False)]),
        (Known(BAD, 85, 100, 80, sessions(50, 20)), Verdict.PERSON, []),
        (Known(BAD, 97, 100, 80, sessions(50, 20)), Verdict.HEALS, [("end", 22, False)]),
        (Known(BAD, 10, 100, 80, sessions(1, 700, "idle in transaction", 700)), Verdict.HEALS, [("end", 1, False)]),
        (Known(BAD, 10, 100, 80, sessions(1, 5, "idle in transaction", 9999)), Verdict.PERSON, []),
        (Known(BAD, 10, 100, 80, sessions(1, 9, "active", 4000)), Verdict.HEALS, [("cancel", 1, True), ("end", 1, True)]),
        (Known(BAD, 10, 100, 80, [], prepared=["x"]), Verdict.PERSON, []),
    ],
)
def test_the_ladder_follows_from_who_holds_what(known: Known, verdict: Verdict, ladder: list[tuple[str, int, bool]]) -> None:
    assert rungs(known) == (verdict, ladder)
