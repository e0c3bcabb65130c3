"""free-connections: Postgres runs out of connections, or a transaction holds everything up."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from prefect import flow
from psycopg import Connection
from psycopg.rows import TupleRow
from pydantic import Field

from blocks.postgres import PostgresServer, explained
from flows.health.targets import Targets
from flows.runbook import sessions
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.heal import Pace
from flows.runbook.look import observe_services, wrong_with
from flows.runbook.running import carry_out
from flows.runbook.sessions import Session
from flows.stack import Stack

__all__ = ["ASPECTS", "Connections", "FreeRequest", "Known", "decide", "free_connections"]

SERVICE = "postgres"
ASPECTS = ("connections", "longest-transaction")
_CROWDED = 95.0
"""Percent of the connections in use from where on sessions are ended that have been idle for a moment only."""
_MOMENT = 5.0
"""Seconds."""
_ROOM = 0.05
"""Share of all connections that is freed below the limit, so that the next sweep does not find it reached again."""


class FreeRequest(RunbookRequest):
    """Whose sessions, and from when on."""

    roles: list[str] = Field(
        default=[],
        description="Only sessions of these roles; empty: of all but superusers and replication, which are never ended",
    )
    idle_minutes: float = Field(default=10, ge=0, description="First end sessions that have done nothing for so long")
    idle_transaction_minutes: float = Field(
        default=10, ge=0, description="End sessions that hold a transaction open and have said nothing for so long"
    )
    working_minutes: float = Field(
        default=60, ge=0, description="Ask to end transactions that are so old and still work; smaller ones are left alone"
    )


@flow(name="free-connections", validate_parameters=True, timeout_seconds=2 * 3600)
def free_connections(request: FreeRequest = FreeRequest()) -> str:
    """Free connections of Postgres that nobody uses, and end transactions that hold everything up.

    Symptom: `too many clients already`, `remaining connection slots are reserved`; LiteLLM or Langfuse answer 500 or time out;
    more than 80 % of max_connections used, or a transaction older than an hour.

    Diagnosis: how many connections there are and who holds them, by role, database, program and state; the oldest transactions.

    Remedy: end sessions that have been idle for ten minutes, the longest first and only as many as are too many; then those
    that have been idle for one; where nobody gets in any more, for a moment. End sessions that sit in a transaction without
    working. Then ask, and cancel the statements of transactions that are too old; then ask, and end them. A session that has
    done anything since it was looked at is left alone. Superusers, replication and this project's backups are never ended.

    When not to: where the programs open more connections than Postgres has, this only helps for minutes: lower connection_limit
    in their DATABASE_URL, run fewer workers, or raise max_connections. A migration that takes long is no fault.

    Args:
        request: whose sessions.
    Returns: how it ended.
    Raises:
        NotHealed: a person is needed; says why.
        ApprovalMissing: nobody approved that working transactions end; idle ones were ended.
    """
    stack = Stack.load()
    patient = request.patient()
    aspects = (patient.aspect,) if patient else ASPECTS
    runbook = Connections(stack.need_postgres_admin(), Targets.from_settings(stack.settings), request, aspects)
    return carry_out(runbook, request, stack, Pace(settle=10))


@dataclass(frozen=True)
class Known:
    """What is known.

    Attributes:
        wrong: what the check says. used, most: connections. limit: percent that may be used. prepared: gids of prepared
            transactions that are too old: no session holds them.
        sessions: those that may be ended.
    """

    wrong: Sequence[str]
    used: int
    most: int
    limit: float
    sessions: Sequence[Session]
    prepared: Sequence[str] = ()

    @property
    def excess(self) -> int:
        """How many connections are too many."""
        return self.used - math.floor(self.most * (self.limit / 100 - _ROOM)) if self.crowded else 0

    @property
    def crowded(self) -> bool:
        """More are used than may be."""
        return self.used > self.most * self.limit / 100


Rung = Callable[[str, tuple[Session, ...], str], Action]
"""Makes an action of how (`end`, `cancel`), the sessions, and why it asks."""


def decide(known: Known, request: FreeRequest, rung: Rung) -> Diagnosis:
    """Conclude from what is known. Nothing is asked here."""
    facts = {
        "connections": f"{known.used} of {known.most}, expected at most {known.limit:g} %",
        "sessions that may be ended": sessions.summary(known.sessions),
        "prepared transactions that are too old": ", ".join(known.prepared) or "none",
    }
    if not known.wrong:
        return Diagnosis(Verdict.NOTHING, "connections and transactions of Postgres are within their limits", facts)
    working = sessions.in_transaction(known.sessions, 60 * request.working_minutes, working=True)
    stuck = sessions.in_transaction(known.sessions, 60 * request.idle_transaction_minutes, working=False)
    ladder: list[Action] = []
    before = -1
    for seconds in _idle_seconds(known, request):
        chosen = sessions.idle(known.sessions, seconds, known.excess)
        if len(chosen) > max(before, 0):
            ladder.append(rung("end", chosen, ""))
        before = len(chosen)
    if stuck:
        ladder.append(rung("end", stuck, ""))
    if working:
        ladder.append(rung("cancel", working, "they work: what they have done so far is rolled back"))
        ladder.append(rung("end", working, "they work: what they have done so far is rolled back"))
    if ladder:
        return Diagnosis(Verdict.HEALS, known.wrong[0], facts, tuple(ladder))
    todo = "lower connection_limit of the programs that hold them, or raise max_connections"
    if known.prepared:
        todo = f"a prepared transaction has no session: COMMIT PREPARED or ROLLBACK PREPARED {known.prepared[0]!r}"
    return Diagnosis(Verdict.PERSON, f"{known.wrong[0]}; none of the sessions may be ended: {todo}", facts)


def _idle_seconds(known: Known, request: FreeRequest) -> list[float]:
    """For how long a session must have been idle, rung by rung."""
    patient = 60 * request.idle_minutes
    rungs = [patient, min(60.0, patient)]
    return [*rungs, min(_MOMENT, patient)] if known.used >= known.most * _CROWDED / 100 else rungs


@dataclass
class Connections(Runbook):
    """The server, as the restore role: a superuser finds a place where others do not, and may end their sessions.

    Attributes:
        aspects: that have to be ok again.
    """

    server: PostgresServer
    targets: Targets
    request: FreeRequest
    aspects: Sequence[str] = ASPECTS
    name: str = "free-connections"
    service: str = SERVICE

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        wrong = self.wrong()
        with self.server.connect() as connection, explained(SERVICE, "look at the sessions"):
            ((most, used),) = connection.execute(_NUMBERS).fetchall()
            found = sessions.read_sessions(connection, self.request.roles)
            prepared = connection.execute(_PREPARED, [60 * self.request.working_minutes]).fetchall()
        limit = self.targets.limits.connections_percent
        known = Known(wrong, int(used), int(most), limit, found, [str(gid) for (gid,) in prepared])
        return decide(known, self.request, lambda how, chosen, asks: EndSessions(self.server, how, chosen, asks))

    def wrong(self) -> list[str]:
        """As in `Runbook`."""
        return wrong_with(observe_services(self.targets, {SERVICE}), SERVICE, self.aspects)


@dataclass(frozen=True)
class EndSessions(Action):
    """Ends sessions, or cancels what they are doing.

    Attributes:
        how: end or cancel. why: it asks, or empty.
    """

    server: PostgresServer
    how: str
    chosen: tuple[Session, ...]
    why: str = ""

    @property
    def asks(self) -> str:
        """As in `Action`."""
        return self.why

    def describe(self) -> str:
        """As in `Action`."""
        what = "end" if self.how == "end" else "cancel the statements of"
        quiet = min((one.quiet for one in self.chosen), default=0)
        return f"{what} {len(self.chosen)} sessions ({sessions.summary(self.chosen)}), quiet for at least {quiet:.0f} s"

    def do(self) -> str:
        """As in `Action`."""
        work: Callable[[Connection[TupleRow], Sequence[Session]], int]
        work = sessions.end if self.how == "end" else sessions.cancel
        with self.server.connect() as connection, explained(SERVICE, f"{self.how} sessions"):
            done = work(connection, self.chosen)
        left = f", {len(self.chosen) - done} had gone or were at work again" if done < len(self.chosen) else ""
        return f"{done} {'ended' if self.how == 'end' else 'cancelled'}{left}"


_NUMBERS = """
SELECT current_setting('max_connections')::int, coalesce(sum(numbackends), 0)::int - 1 FROM pg_catalog.pg_stat_database
"""
_PREPARED = "SELECT gid FROM pg_catalog.pg_prepared_xacts WHERE prepared < now() - make_interval(secs => %s) ORDER BY prepared"
