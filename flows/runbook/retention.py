"""retention: traces, spend logs and failed jobs that are older than anybody needs are deleted, previewed and in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from prefect import flow
from pydantic import Field, field_validator

from blocks.clickhouse import ClickHouseServer
from blocks.errors import StackError
from blocks.postgres import PostgresServer, explained
from blocks.redis import RedisServer
from flows.lease import utc_now
from flows.runbook import old_rows, old_spend, old_traces
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.gates import at_work
from flows.runbook.heal import Pace
from flows.runbook.old_rows import Old, lacking_set, left
from flows.runbook.old_spend import DeleteSpend
from flows.runbook.old_traces import DeleteTraces
from flows.runbook.redis_jobs import read_finished
from flows.runbook.redis_relief import ForgetJobs
from flows.runbook.redis_server import connected
from flows.runbook.running import carry_out
from flows.stack import Stack

__all__ = ["OldJobs", "OldSpend", "OldTraces", "RetentionRequest", "retention", "runbooks_of"]

_LEAST = 7
"""Days: fewer is more likely a slip than a wish."""


class RetentionRequest(RunbookRequest):
    """How long things are kept."""

    traces_days: int = Field(
        default=90, ge=0, description="Traces, observations, scores and events in ClickHouse are kept so many days; 0: all"
    )
    spend_days: int = Field(
        default=90, ge=0, description="LiteLLM's spend, error and health-check logs are kept so many days; 0: all"
    )
    failed_days: int = Field(default=30, ge=0, description="Failed jobs of Langfuse's queues are kept so many days; 0: all")
    backup_hours: int = Field(
        default=26, ge=1, le=24 * 14, description="A backup set that holds what goes, and was drilled, may be so old"
    )
    batch: int = Field(default=5000, ge=1, le=100_000, description="Rows that one transaction deletes in Postgres")

    @field_validator("traces_days", "spend_days", "failed_days")
    @classmethod
    def _is_no_slip(cls, days: int) -> int:
        if 0 < days < _LEAST:
            raise ValueError(f"expected 0, which keeps all, or at least {_LEAST}")
        return days


@flow(name="retention", validate_parameters=True, timeout_seconds=8 * 3600)
def retention(request: RetentionRequest = RetentionRequest()) -> list[str]:
    """Delete traces, spend logs and failed jobs that are older than anybody needs them.

    Symptom: ClickHouse's or Postgres' volume fills with what people sent months ago; LiteLLM_SpendLogs takes 6 KB a request
    (litellm#41499), its page of logs is slow. Or a rule says that requests are kept for so many days only.

    Diagnosis: how many rows of each table are older, of how many; by partition in ClickHouse. Nothing else is done with
    `dry_run`. Whether a backup set that holds those databases was taken within a day and proven by a drill.

    Remedy: ask, with the numbers; then drop the months of ClickHouse's tables that have ended before that day, and delete the
    other rows lightly; delete LiteLLM's logs in batches of 5,000 rows, and vacuum; forget jobs that failed long ago. What keys,
    teams and users have spent stays: it is kept in their own rows.

    When not to: without a proven set it does not begin. Space in Postgres is used again, and not given back to the volume;
    ClickHouse frees that of single rows with its next merges. Objects in Langfuse's bucket go by the bucket's own lifecycle.
    Where projects are to keep traces for different times, Langfuse's own retention (a project's settings) does that. While a
    volume is full to the last byte: grow it first.

    Args:
        request: how long things are kept.
    Returns: how it ended, a line for each of ClickHouse, Postgres and Redis.
    Raises:
        NotHealed: a person is needed: there is no proven set, or a server refused. The others were looked after.
        ApprovalMissing: nobody approved; the others were looked after.
    """
    stack = Stack.load()
    ended: list[str] = []
    failed: list[StackError] = []
    for runbook in runbooks_of(stack, request):
        try:
            ended.append(f"{runbook.service}: {carry_out(runbook, request, stack, Pace(settle=10))}")
        except StackError as error:  # what one server refuses is no reason to leave the others
            failed.append(error)
    if failed:
        raise failed[0]
    return ended


def runbooks_of(stack: Stack, request: RetentionRequest) -> Sequence[Runbook]:
    """One for each server that the stack has and something of is kept for a while only."""
    now = utc_now()

    def before(days: int) -> datetime:
        return now - timedelta(days=days)

    found: list[Runbook] = []
    if stack.clickhouse is not None and request.traces_days:
        found.append(OldTraces(stack, stack.clickhouse, before(request.traces_days), request.backup_hours))
    if stack.postgres_admin is not None and request.spend_days:
        database = stack.settings.litellm_database
        given = (before(request.spend_days), request.backup_hours, request.batch)
        found.append(OldSpend(stack, stack.postgres_admin, database, *given))
    if stack.redis is not None and request.failed_days:
        prefix = stack.settings.redis_key_prefix
        found.append(OldJobs(stack.redis, prefix, before(request.failed_days)))
    return found


@dataclass
class OldTraces(Runbook):
    """Langfuse's rows in ClickHouse. before: what is older goes. hours: that the proven set may be old."""

    stack: Stack
    server: ClickHouseServer
    before: datetime
    hours: int = 26
    name: str = "retention"
    service: str = "clickhouse"

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        found = self._look()
        databases = sorted({one.table.rpartition(".")[0] for one in found if one.rows})
        return _decide(self.stack, found, self.before, ("clickhouse", databases, self.hours), self._delete)

    def wrong(self) -> list[str]:
        """As in `Runbook`: rows that are old."""
        return left(self._look(), self.before)

    def _look(self) -> list[Old]:
        databases = self.server.database_names()
        with self.server.client(timeout=600) as client:
            return old_traces.read_old(client, databases, self.before)

    def _delete(self, found: tuple[Old, ...]) -> Action:
        return DeleteTraces(self.stack, found, self.before, self.server)


@dataclass
class OldSpend(Runbook):
    """LiteLLM's logs in Postgres. before, hours: as of `OldTraces`. batch: rows of one transaction."""

    stack: Stack
    server: PostgresServer
    database: str
    before: datetime
    hours: int = 26
    batch: int = 5000
    name: str = "retention"
    service: str = "postgres"

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        return _decide(self.stack, self._look(), self.before, ("postgres", [self.database], self.hours), self._delete)

    def wrong(self) -> list[str]:
        """As in `Runbook`: rows that are old."""
        return left(self._look(), self.before)

    def _look(self) -> list[Old]:
        settings = {"TimeZone": "UTC"}
        with self.server.connect(self.database, settings=settings) as connection, explained(self.database, "count old rows"):
            return old_spend.read_old(connection, self.before)

    def _delete(self, found: tuple[Old, ...]) -> Action:
        return DeleteSpend(self.stack, found, self.before, self.server, self.database, self.batch)


@dataclass
class OldJobs(Runbook):
    """Failed jobs of Langfuse's queues in Redis, whose events stay in the bucket. before: what failed before goes."""

    server: RedisServer
    prefix: str
    before: datetime
    name: str = "retention"
    service: str = "redis"

    def diagnose(self) -> Diagnosis:
        """As in `Runbook`."""
        found = self._look()
        facts = {one.table: f"{one.rows} of {one.total} failed jobs are older" for one in found} or {"failed jobs": "none"}
        if not (wrong := left(found, self.before)):
            return Diagnosis(Verdict.NOTHING, f"no job failed before {self.before:%Y-%m-%d %H:%M} UTC", facts)
        queues = tuple(one.table for one in found if one.rows)
        why = "they cannot be retried then; what they are about can be replayed while its event is in the bucket"
        forget = ForgetJobs(self.server, self.prefix, queues, "failed", self.before.timestamp(), why)
        return Diagnosis(Verdict.HEALS, wrong[0].replace("rows", "failed jobs"), facts, (forget,))

    def wrong(self) -> list[str]:
        """As in `Runbook`: jobs that are old."""
        return left(self._look(), self.before)

    def _look(self) -> list[Old]:
        with connected(self.server, "count failed jobs") as client:
            found = read_finished(client, self.prefix, "failed", self.before.timestamp())
        return [Old(one.queue, one.old, one.jobs) for one in found]


def _decide(
    stack: Stack,
    found: Sequence[Old],
    before: datetime,
    needed: tuple[str, Sequence[str], int],
    delete: Callable[[tuple[Old, ...]], Action],
) -> Diagnosis:
    """As `old_rows.decide`; the store is asked only where there is something to delete.

    Args:
        needed: kind, databases and age in hours of the proven set, as of `lacking_set`.
    """
    old = bool(left(found, before))
    lacking, busy = (lacking_set(stack, *needed), at_work(stack)) if old else ("", "")
    return old_rows.decide(found, before, lacking=lacking, at_work=busy, delete=delete)
