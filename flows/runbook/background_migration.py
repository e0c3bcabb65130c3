"""background-migration: a background migration of Langfuse has failed, and its worker does not try it again by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal

from prefect import flow
from pydantic import Field

from blocks.postgres import PostgresServer, explained
from blocks.railway import RailwayApi
from flows.health.targets import Targets
from flows.runbook.audit import Trail
from flows.runbook.background_ledger import IN_UTC, Migration, Retry, read_migrations
from flows.runbook.environment import environment_if_any
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.gates import at_work
from flows.runbook.heal import Pace
from flows.runbook.look import observe_services, wrong_with
from flows.runbook.restarting import CHANGING, Waits
from flows.runbook.running import carry_out
from flows.runbook.securing import secure
from flows.runbook.starting import start_again
from flows.stack import Stack

__all__ = ["ASPECTS", "Background", "BackgroundRequest", "Known", "background_migration", "decide"]

NAME, SERVICE, WAREHOUSE = "background-migration", "langfuse-worker", "clickhouse"
ASPECTS = ("background-migrations",)
_WATCHED_AS = "langfuse-web"
"""Whose database Langfuse's is among what the watch looks at."""
_PAST = timedelta(days=2)
"""So far back somebody looks whether this was tried before."""


class BackgroundRequest(RunbookRequest):
    """How it goes on."""

    batch_size: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="Rows at a time, `batchSize` in the migration's args: fewer where a batch was too large; 0: as it is",
    )
    progress: Literal["keep", "anew"] = Field(
        default="keep",
        description="keep: it goes on where it stands; anew: what it noted of its progress is forgotten, as Langfuse's own "
        "Retry button does, and it begins at its beginning",
    )


@flow(name=NAME, validate_parameters=True, timeout_seconds=6 * 3600)
def background_migration(request: BackgroundRequest = BackgroundRequest()) -> str:
    """Have Langfuse go on with background migrations that have failed.

    Symptom: Langfuse's settings show a background migration as failed, old traces or scores are missing in places or have no
    costs, and the next upgrade is refused because the last one's migrations are not done.

    Diagnosis: which have failed, since when, and the condition that their `failed_reason` names (never its text, which may
    quote what people sent); how far they came, where they note it; how often this was tried lately; whether one runs right
    now; whether Langfuse's worker and ClickHouse are well; whether another flow is at work.

    Remedy: a backup set of Langfuse's database first, protected. Then, approved by a person, `failed_at` and `failed_reason`
    are taken back, as Langfuse's Retry button does, but what the migration notes of its progress stays, so that it goes on
    there; parts that it gave up are tried again (`retryFailed` in its args, as its own log says). With `progress: anew` that is
    emptied as well, just as the button does. `batch_size` makes its batches smaller. Last the worker is deployed once more as
    it is, for it takes up migrations when it starts and at no other time. It is confirmed once none is failed and one has run
    for a while or all are done; where it fails again a person is told why. Nothing is ever marked as done. The way back is the
    set.

    When not to: while another one runs: a restart breaks that off, and the new container does not take up what was locked
    within the last minute. While ClickHouse is full or out of memory mend that first: it fails at the same place again. Where
    the reason is a batch that is too large (`Failed to convert rust String into napi string`), not without `batch_size`. Where
    LANGFUSE_ENABLE_BACKGROUND_MIGRATIONS is false, nothing runs: take that away. Where it is split into parts (Langfuse 4), not
    `anew` while ClickHouse still runs queries named `backfill-...` of it: a second one would write the same beside it.

    Args:
        request: how it goes on.
    Returns: how it ended.
    Raises:
        NotHealed: a person is needed; says which failed, with what, and what to try.
        ApprovalMissing: nobody approved; nothing was changed.
    """
    stack = Stack.load()
    place = environment_if_any(stack.settings)
    database = stack.settings.langfuse_database
    with ExitStack() as opened:
        runbook = Background(
            server=stack.need_postgres_admin(),
            database=database,
            targets=Targets.from_settings(stack.settings),
            busy=lambda: at_work(stack),
            secure=partial(secure, stack, components=[f"postgres/{database}"]),
            tried=lambda: tried(Trail(stack.store)),
            api=opened.enter_context(place.open()) if place else None,
            request=request,
        )
        return carry_out(runbook, request, stack, Pace(settle=90))


def tried(trail: Trail) -> int:
    """Count how often this runbook had failed migrations run again lately, by the audit trail."""
    now = datetime.now(UTC)
    done = [one for one in trail.since(now - _PAST, now) if one.actor == NAME and one.kind == "ended"]
    return sum("may run again" in one.result for one in done)


@dataclass(frozen=True)
class Known:
    """What is known.

    Attributes:
        wrong: what the check says. migrations: all, in their order. worker, warehouse: what is down of Langfuse's worker, and
            of ClickHouse. tried: so often this was done lately. at_work: who holds the stack's lock, or empty.
    """

    wrong: Sequence[str]
    migrations: Sequence[Migration]
    worker: Sequence[str] = ()
    warehouse: Sequence[str] = ()
    tried: int = 0
    at_work: str = ""

    def those(self, state: str) -> list[Migration]:
        """Those in a state."""
        return [one for one in self.migrations if one.state == state]


Ladder = Callable[[Sequence[Migration]], tuple[Action, ...]]
"""Makes the actions of those that have failed; of none: only the worker has to start."""


def decide(known: Known, request: BackgroundRequest, ladder: Ladder) -> Diagnosis:
    """Conclude from what is known. Nothing is asked here."""
    facts = _facts(known)
    failed, running, waiting = known.those("failed"), known.those("running"), known.those("waiting")
    if not failed and (running or not waiting):
        return Diagnosis(Verdict.NOTHING, "no background migration of Langfuse has failed", facts)
    what = f"background migration {failed[0].words}" if failed else f"background migration {waiting[0].words}, and none runs"
    more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
    what = f"{what}{more}"

    def needs_a_person(why: str) -> Diagnosis:
        return Diagnosis(Verdict.PERSON, f"{what}; {why}", facts)

    if known.at_work in CHANGING:
        return needs_a_person(f"{known.at_work} is under way: wait for its end")
    if running:
        return needs_a_person(f"{running[0].name} runs right now, and starting the worker would break it off: wait for its end")
    if known.warehouse:
        return needs_a_person(f"it would fail again, heal ClickHouse first: {known.warehouse[0]}")
    if known.worker:
        return needs_a_person(f"it runs in Langfuse's worker, heal that first: {known.worker[0]}")
    rungs = ladder(failed)
    if not rungs:
        return needs_a_person("the worker takes it up when it starts, and there is no Railway here: start langfuse-worker")
    advice = failed[0].reason.advice if failed and not request.batch_size else ""
    return Diagnosis(Verdict.HEALS, f"{what}; {advice}" if advice else what, facts, rungs)


def _facts(known: Known) -> dict[str, str]:
    facts = {"checks": "; ".join(known.wrong) or "green"}
    for state in ("failed", "running", "waiting", "dormant"):
        facts[state] = "; ".join(one.words for one in known.those(state)) or "none"
    facts["done"] = str(len(known.those("done")))
    facts["batch size"] = (
        "; ".join(f"{one.name}: {one.batch_size}" for one in known.those("failed") if one.batch_size) or "its own"
    )
    facts["tried lately"] = f"{known.tried} times in two days"
    facts["Langfuse's worker"] = "; ".join(known.worker) or "well"
    facts["ClickHouse"] = "; ".join(known.warehouse) or "well"
    facts["at work on the stack"] = known.at_work or "nobody"
    return facts


@dataclass
class Background(Runbook):
    """The background migrations in Langfuse's database.

    Attributes:
        server: as the restore role. busy: names the flow that holds the stack's lock. secure: takes a set under a label.
        tried: counts how often this was done lately. api: Railway's; None where there is none.
        steady: seconds that one has to run before it is believed that it does not fail again at once.
    """

    server: PostgresServer
    database: str
    targets: Targets
    busy: Callable[[], str]
    secure: Callable[[str], str]
    tried: Callable[[], int] = lambda: 0
    api: RailwayApi | None = None
    request: BackgroundRequest = field(default_factory=BackgroundRequest)
    waits: Waits = field(default_factory=Waits)
    steady: float = 45.0
    name: str = NAME
    service: str = SERVICE
    _seen: dict[str, float] = field(default_factory=dict)

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        known = Known(
            wrong=self._wrong_here(),
            migrations=self._read(),
            worker=self._down(SERVICE, bool(self.targets.langfuse_worker)),
            warehouse=self._down(WAREHOUSE, self.targets.clickhouse is not None),
            tried=self.tried(),
            at_work=self.busy(),
        )
        return decide(known, self.request, self._ladder)

    def wrong(self) -> list[str]:
        """As in `Runbook`: the check, what the ledger says beyond it, and the worker's own checks."""
        now = self._read()
        failed = [one for one in now if one.state == "failed"]
        if failed:  # said in our words: with the condition, and with what to try
            return [f"background migration {one.words}; {one.reason.advice}" for one in failed]
        return [*self._wrong_here(), *self._down(SERVICE, bool(self.targets.langfuse_worker)), *self._not_yet(now)]

    def _not_yet(self, now: Sequence[Migration]) -> list[str]:
        """What has to run and does not, or has not run for long enough to tell."""
        running = [one for one in now if one.state == "running"]
        waiting = [one for one in now if one.state == "waiting"]
        if waiting and not running:
            todo = (
                "start langfuse-worker, which takes it up when it starts, unless LANGFUSE_ENABLE_BACKGROUND_MIGRATIONS is false"
            )
            return [f"background migration {waiting[0].name} may run and waits: {todo}"]
        clock = time.monotonic()
        self._seen = {one.id: self._seen.get(one.id, clock) for one in running}
        young = [one.name for one in running if clock - self._seen[one.id] < self.steady]
        return [f"background migration {one} has only just begun; nobody knows yet whether it gets on" for one in young]

    def _read(self) -> list[Migration]:
        database = self.database
        with (
            self.server.connect(database, settings=IN_UTC) as connection,
            explained(database, "read the background migrations"),
        ):
            return read_migrations(connection)

    def _wrong_here(self) -> list[str]:
        """What the check says; nothing where the watch does not look into Langfuse's database."""
        watched = self.targets.postgres.applications if self.targets.postgres else ()
        if _WATCHED_AS not in dict(watched):
            return []
        found = [one for one in observe_services(self.targets, {SERVICE}) if one.aspect in ASPECTS]
        return wrong_with(found, SERVICE, ASPECTS)

    def _down(self, service: str, watched: bool) -> list[str]:
        return wrong_with(observe_services(self.targets, {service}), service) if watched else []

    def _ladder(self, failed: Sequence[Migration]) -> tuple[Action, ...]:
        start = start_again(self.api, SERVICE, self._taken_up, self.waits)
        if not failed:
            return start
        again = self.request.progress == "anew"
        take = partial(self.secure, f"before retrying {failed[0].name}"[:100])
        return (Retry(self.server, self.database, failed, again, self.request.batch_size, take), *start)

    def _taken_up(self) -> str:
        """Say that the worker need not be started, for it has been since."""
        now = self._read()
        if any(one.state == "running" for one in now):
            return "one of them runs by now"
        return "" if any(one.state == "waiting" for one in now) else "none of them waits"
