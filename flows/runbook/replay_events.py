"""replay-events: traces that are in Langfuse's event bucket and not in ClickHouse are put into the queue again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from prefect import flow
from pydantic import Field

from blocks.errors import SettingsError
from blocks.langfuse_admin import LangfuseAdmin
from blocks.object_bucket import ObjectBucket
from flows.health.targets import Targets
from flows.lease import utc_now
from flows.runbook.event_bucket import Window
from flows.runbook.frame import RunbookRequest
from flows.runbook.heal import Pace
from flows.runbook.replaying import Pressure, Replay, Source, unfinished
from flows.runbook.running import carry_out
from flows.stack import Stack

__all__ = ["ReplayRequest", "replay_events", "source_of", "window_of"]

_LAST = timedelta(minutes=1)
"""What is younger is on its way by itself."""
_BEFORE = timedelta(minutes=15)
"""An incident opens some sweeps after it begins."""


class ReplayRequest(RunbookRequest):
    """Which events, and how fast."""

    begin: datetime | None = Field(
        default=None,
        description="Events stored from then on, UTC unless it says otherwise; empty: a quarter before the incident",
    )
    end: datetime | None = Field(default=None, description="And before that; empty: until a minute ago")
    project: str = Field(default="", pattern=r"^[\w-]*$", description="Only of this project's id; empty: of all")
    bucket: str = Field(default="", description="Langfuse's event bucket; empty: the first of SOURCE_BUCKETS")
    again: bool = Field(default=False, description="Replay a window anew that was replayed to its end before")
    batch: int = Field(default=500, ge=1, le=1000, description="Events that are queued at once")
    depth: int = Field(default=2000, ge=1, description="Wait while more jobs than this are in the queues of replays")


@flow(name="replay-events", validate_parameters=True, timeout_seconds=12 * 3600)
def replay_events(request: ReplayRequest = ReplayRequest()) -> str:
    """Have Langfuse's worker do again what came in during a window of time. Every event of it is still in the bucket.

    Symptom: traces of a time are missing or incomplete, and no job has failed: while ClickHouse was away for some seconds the
    worker dropped rows (`ClickhouseWriter: Max attempts reached, dropped`, langfuse#6380), Redis was lost with what waited in
    it, or ClickHouse was restored to an earlier time.

    Diagnosis: how many events were stored in that window, of which kind, and how many jobs that makes: of a trace, an
    observation or a score one object stands for all of it; whether the worker and what it needs are up. No more with `dry_run`.

    Remedy: ask, with the numbers; then queue them in batches by Langfuse's own administration API, wait while the queues are
    long, and wait until all is done. How far it came is written down after each batch: run again with the same window it goes
    on there, and a window that is finished is not begun again. Rows with the same ids replace each other, so what was there
    stays as it was.

    When not to: without the bucket's objects (a lifecycle of 30 days is usual) nothing comes back. What was deleted in Langfuse
    since is there again, and bookmarks of replayed traces may be gone. With an event prefix
    (LANGFUSE_S3_EVENT_UPLOAD_PREFIX) Langfuse cannot replay what came by OpenTelemetry. In Langfuse 4, events of the old API
    are not known to come back while LANGFUSE_MIGRATION_V4_WRITE_MODE is events_only. Jobs that failed: `retry-failed-jobs`.

    Args:
        request: which events.
    Returns: how it ended.
    Raises:
        NotHealed: a person is needed: the worker is not at work, or Langfuse did not take them.
        ApprovalMissing: nobody approved; nothing was queued.
        SettingsError: no window is given, or something is not set up.
    """
    stack = Stack.load()
    source = source_of(stack, request.bucket)
    window = window_of(stack, request)
    runbook = Replay(
        stack,
        source,
        Targets.from_settings(stack.settings),
        window,
        Pressure(request.batch, request.depth),
        again=request.again,
    )
    return carry_out(runbook, request, stack, Pace(settle=30))


def window_of(stack: Stack, request: ReplayRequest) -> Window:
    """Say which window is meant. Where no end is given, that of a replay that began there and has not ended.

    Raises:
        SettingsError: it has no begin, or ends before it.
    """
    begin = request.begin
    if begin is None and request.incident:
        begin = datetime.strptime(request.incident.rpartition("/")[2], "%Y%m%dT%H%M%S%z") - _BEFORE
    if begin is None:
        raise SettingsError("replay-events: no window is given; expected `begin`, and `end` unless it lasts until now")
    begin = begin.replace(tzinfo=begin.tzinfo or UTC).astimezone(UTC)
    last = utc_now() - _LAST
    end = request.end.replace(tzinfo=request.end.tzinfo or UTC).astimezone(UTC) if request.end else None
    if end is None:
        end = unfinished(stack.store, begin, request.project) or last
    if not begin < end <= last:
        raise SettingsError(f"replay-events: from {begin:%Y-%m-%d %H:%M} to {end:%H:%M} UTC is no window of the past")
    return Window(begin, end, request.project)


def source_of(stack: Stack, bucket: str) -> Source:
    """Say where the events are, and who queues them.

    Raises:
        SettingsError: something is not set up.
    """
    settings = stack.settings
    if stack.redis is None:
        raise SettingsError("redis: not set up; set REDIS_URL and run `python -m blocks`")
    found: list[ObjectBucket] = [one for one in stack.sources if bucket in ("", one.name)]
    if not found:
        there = ", ".join(one.name for one in stack.sources) or "none"
        raise SettingsError(f"replay-events: there is no event bucket {bucket!r}; SOURCE_BUCKETS names {there}")
    settings.require("langfuse_admin_api_key")
    assert settings.langfuse_admin_api_key is not None  # noqa: S101 - for the type
    admin = LangfuseAdmin(settings.require("langfuse_web_url"), settings.langfuse_admin_api_key)
    return Source(found[0], settings.langfuse_event_prefix, admin, stack.redis, settings.redis_key_prefix)
