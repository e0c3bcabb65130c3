"""replay-events on a real bucket and a real Redis, through the sandbox's langfuse-web: what is queued again, and when not."""

from __future__ import annotations

import asyncio
import secrets
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest
import uvicorn
from pydantic import SecretStr
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from blocks.errors import ApprovalMissing, NotHealed, SettingsError
from blocks.keys import BackupKeys
from blocks.langfuse_admin import LangfuseAdmin
from blocks.object_store import BackupStore, s3_bucket
from blocks.redis import RedisServer
from blocks.source_bucket import SourceBucket
from flows.health.targets import Targets
from flows.journals import save
from flows.lease import utc_now
from flows.runbook.event_bucket import Window, chosen, parse
from flows.runbook.frame import RunbookRequest
from flows.runbook.replay_events import ReplayRequest, source_of, window_of
from flows.runbook.replaying import FOLDER, Pressure, Replay, ReplayJournal, Source
from flows.stack import Stack
from shared.engines.object_store import S3Engine
from shared.engines.process import free_port, wait_until
from shared.engines.redis import RedisEngine
from shared.sandbox.langfuse_double.configuration import Configuration, Stores
from shared.sandbox.langfuse_double.serving import Lifetime
from shared.sandbox.langfuse_double.web import Web
from shared.sandbox.stack import Sandbox
from tests import manifests
from tests.runbook.bullmq import Queues
from tests.runbook.cases import IMPATIENT, Desk

NAMES = ("secondary-ingestion-queue", "otel-ingestion-queue")
KEY = "canary-admin-4f7c"
SPANS = "otel/prj/2026/11/26/03/{:02}/{}.json"
_SECOND = timedelta(seconds=1)


class Langfuse:
    """langfuse-web's administration API over a bucket of its own.

    Attributes:
        refuses: answers 503 from the so-manieth request on.
    """

    def __init__(self, s3: S3Engine, queues: Queues, prefix: str = "") -> None:
        self.prefix, self.queues, self.name, self.refuses = prefix, queues, f"events-{secrets.token_hex(4)}", 1_000_000
        s3.create_bucket(self.name)
        bucket = s3_bucket(s3.endpoint_url, s3.access_key, SecretStr(s3.secret_key), self.name, s3.region)
        self.bucket = SourceBucket(bucket=bucket)
        place = {"s3_endpoint": s3.endpoint_url, "s3_region": s3.region, "s3_bucket": self.name, "s3_prefix": prefix}
        login = {"s3_access_key": s3.access_key, "s3_secret_key": s3.secret_key, "admin_key": KEY}
        nothing = dict.fromkeys(("postgres_url", "clickhouse_user", "clickhouse_password", "clickhouse_database"), "")
        others = dict.fromkeys(("salt", "public_key", "secret_key"), "")
        redis = queues.server.url.get_secret_value()
        stores = Stores(
            **place,
            **login,
            **nothing,
            **others,
            redis_url=redis,
            clickhouse_url="http://127.0.0.1:1",
            redis_key_prefix=queues.prefix,
        )
        self.port, self.asked = free_port(), 0
        self._configuration = Configuration(self.port, "3.225.4", stores, "")
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def __enter__(self) -> Langfuse:
        self._thread.start()
        wait_until(lambda: self._server is not None and self._server.started, timeout=120, what="langfuse-web to listen")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.should_exit = True
        self._thread.join()
        self.bucket.remove([item.key for item in self.bucket.list("")])
        self.bucket.client.delete_bucket(Bucket=self.name)

    def put(self, *keys: str) -> None:
        for key in keys:
            self.bucket.put(self.prefix + key, b"[]")

    def source(self, key: str = KEY) -> Source:
        admin = LangfuseAdmin(f"http://127.0.0.1:{self.port}", SecretStr(key))
        return Source(self.bucket, self.prefix, admin, self.queues.server, self.queues.prefix)

    def jobs(self) -> list[str]:
        """What the worker was told, in the order of the keys."""
        told = [data["payload"]["data"] for data in self.queues.seen]
        return sorted(f"{one.get('entity', 'otel')} {one.get('eventBodyId') or one['fileKey'][-6]}" for one in told)

    async def _serve(self) -> None:
        web = Web(self._configuration, Lifetime())
        application = web.application()

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            self.asked += 1
            await (JSONResponse({}, 503) if self.asked >= self.refuses else application)(scope, receive, send)

        settings = uvicorn.Config(counted, host="127.0.0.1", port=self.port, log_level="error", lifespan="off")
        self._server = uvicorn.Server(settings)
        await self._server.serve()
        await web.warehouse.close()


@pytest.fixture
def queues(redis_engine: RedisEngine) -> Iterator[Queues]:
    with Queues(redis_engine, NAMES) as made:
        yield made


@pytest.fixture
def langfuse(s3_engine: S3Engine, queues: Queues) -> Iterator[Langfuse]:
    with Langfuse(s3_engine, queues) as made:
        made.put("prj/trace/a/1.json", "prj/trace/a/2.json", "prj/observation/b/1.json", "other/score/c/d/1.json")
        made.put(SPANS.format(7, "x"), SPANS.format(8, "y"))
        made.put("prj/trace/a/picture.png", "media/z.json", "prj/sdk_log/l/1.json")
        yield made


ALL = ["observation b", "otel x", "otel y", "score c/d", "trace a"]


@pytest.fixture
def stack(store: BackupStore, keys: BackupKeys) -> Stack:
    return manifests.stack_of(store, keys)


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store)


def runbook(
    langfuse: Langfuse, stack: Stack, window: Window, *, key: str = KEY, again: bool = False, **pressure: float
) -> Replay:
    settings = Pressure(**{"batch": 2, "look": 0.01, "drain": 120, **pressure})  # type: ignore[arg-type]  # whole where it must be
    return Replay(stack, langfuse.source(key), langfuse.queues.targets(), window, settings, again=again)


def now() -> Window:
    """A window with everything that was just stored, and with the hour in the keys of spans."""
    return Window(datetime(2026, 11, 26, 2, tzinfo=UTC), utc_now() + 2 * _SECOND)


def test_every_event_of_a_window_is_queued_once_and_a_finished_window_is_not_begun_again(
    langfuse: Langfuse, stack: Stack, desk: Desk
) -> None:
    window = now()
    assert desk.heal(runbook(langfuse, stack, window), RunbookRequest(dry_run=True)) == "can heal"
    assert (langfuse.queues.seen, langfuse.asked, desk.trail()) == ([], 0, [])
    assert "events, trace | 2" in desk.shown[0].markdown()
    assert "jobs that they make | 5" in desk.shown[0].markdown()
    desk.approves = False
    with pytest.raises(ApprovalMissing):
        desk.heal(runbook(langfuse, stack, window))
    assert (langfuse.queues.seen, langfuse.asked) == ([], 0)
    desk.approves = True
    assert desk.heal(runbook(langfuse, stack, window)) == "healed"
    assert langfuse.jobs() == ALL, "one job for the two objects of a trace"
    assert langfuse.asked == 3, "five in batches of two"
    assert desk.heal(runbook(langfuse, stack, window)) == "nothing to do"
    assert desk.heal(runbook(langfuse, stack, window, again=True)) == "healed"
    assert langfuse.jobs() == sorted(ALL + ALL)
    assert desk.heal(runbook(langfuse, stack, window)) == "nothing to do"
    assert KEY not in desk.text()


def test_a_run_that_breaks_off_is_gone_on_with_and_nothing_is_queued_twice(
    langfuse: Langfuse, stack: Stack, desk: Desk
) -> None:
    window, desk.pace, langfuse.refuses = now(), IMPATIENT, 3
    with pytest.raises(NotHealed, match=r"4 of 5 jobs of the window were queued; tried: .*HTTP 503 to a replay"):
        desk.heal(runbook(langfuse, stack, window))
    langfuse.refuses = 1_000_000
    assert desk.heal(runbook(langfuse, stack, window)) == "healed"
    assert langfuse.jobs() == ALL
    assert "queue 1 jobs again" in desk.asked[-1]


@pytest.mark.long
def test_the_queues_are_not_flooded_and_what_the_worker_does_not_get_through_is_left(
    langfuse: Langfuse, stack: Stack, desk: Desk
) -> None:
    window, desk.pace, langfuse.queues.idle = now(), IMPATIENT, True
    with pytest.raises(NotHealed, match=r"2 jobs are in the queues of replays after 0 min, expected at most 1; is it at work"):
        desk.heal(runbook(langfuse, stack, window, depth=1, drain=0.2))
    assert langfuse.asked == 1
    langfuse.queues.idle = False
    assert desk.heal(runbook(langfuse, stack, window, depth=1)) == "healed"
    assert langfuse.jobs() == ALL


def test_nothing_is_queued_while_the_worker_does_not_take_what_waits(langfuse: Langfuse, stack: Stack, desk: Desk) -> None:
    langfuse.queues.idle = True
    langfuse.queues.wait(1, seconds=900, queue=NAMES[0])
    with pytest.raises(NotHealed, match="nobody would take them: 1 jobs wait"):
        desk.heal(runbook(langfuse, stack, now()))
    assert langfuse.asked == 0


def test_a_refused_key_is_said_and_not_shown(langfuse: Langfuse, stack: Stack, desk: Desk) -> None:
    desk.pace = IMPATIENT
    with pytest.raises(NotHealed, match="the administration key is refused; set LANGFUSE_ADMIN_API_KEY"):
        desk.heal(runbook(langfuse, stack, now(), key="canary-wrong-91ab"))
    assert "canary" not in desk.text()


@pytest.mark.long
def test_only_the_project_and_the_time_that_were_asked_for(langfuse: Langfuse, stack: Stack, desk: Desk) -> None:
    wait_until(lambda: time.time() % 1 < 0.1, timeout=10, what="a new second: objects have whole ones")
    window = Window(datetime(2026, 11, 26, 2, tzinfo=UTC), utc_now().replace(microsecond=0) + _SECOND, "prj")
    wait_until(lambda: utc_now() >= window.end, timeout=10, what="the window to end")
    langfuse.put("prj/trace/late/1.json", SPANS.format(9, "z"))
    assert desk.heal(runbook(langfuse, stack, window)) == "healed"
    assert langfuse.jobs() == [one for one in ALL if one != "score c/d"]
    empty = Window(window.begin - timedelta(days=9), window.begin)
    assert desk.heal(runbook(langfuse, stack, empty)) == "nothing to do"


@pytest.mark.long
def test_with_an_event_prefix_what_came_by_opentelemetry_is_said_to_be_lost_to_replays(
    s3_engine: S3Engine, queues: Queues, stack: Stack, desk: Desk
) -> None:
    with Langfuse(s3_engine, queues, prefix="events/") as langfuse:
        langfuse.put(SPANS.format(7, "x"))
        with pytest.raises(NotHealed, match=r"1 events came by OpenTelemetry and cannot be replayed.*nothing was changed"):
            desk.heal(runbook(langfuse, stack, now()))
        langfuse.put("prj/trace/a/1.json")
        assert desk.heal(runbook(langfuse, stack, now())) == "healed"
        assert langfuse.jobs() == ["trace a"]
        assert "cannot be replayed | 1 of OpenTelemetry" in desk.shown[-1].markdown()


@pytest.mark.long
def test_traces_that_were_stored_and_never_queued_are_there_after_a_replay(
    applications: Sandbox, store: BackupStore, keys: BackupKeys, desk: Desk
) -> None:
    assert applications.applications is not None
    web = applications.applications.langfuse_web
    stores, trace = web.configuration.stores, f"replayed-{uuid4()}"
    bucket = s3_bucket(
        stores.s3_endpoint, stores.s3_access_key, SecretStr(stores.s3_secret_key), stores.s3_bucket, stores.s3_region
    )
    event = {
        "id": str(uuid4()),
        "type": "trace-create",
        "timestamp": utc_now().isoformat(),
        "body": {"id": trace, "name": "lost"},
    }
    begin = utc_now() - 2 * _SECOND
    with httpx.Client(base_url=web.url, auth=(stores.public_key, stores.secret_key), trust_env=False, timeout=60) as client:
        web.behave(lose_jobs=True)
        try:
            assert client.post("/api/public/ingestion", json={"batch": [event]}).status_code == 207
        finally:
            web.behave()
        assert client.get(f"/api/public/traces/{trace}").status_code == 404
        environment = applications.environment()
        url = SecretStr(environment["REDIS_URL"])
        given = {"redis_url": url, "langfuse_web_url": web.url, "langfuse_admin_api_key": SecretStr(stores.admin_key)}
        made = manifests.stack_of(store, keys)
        settings = made.settings.model_copy(update={**given, "langfuse_event_prefix": stores.s3_prefix})
        stack = Stack(
            **{**vars(made), "settings": settings, "redis": RedisServer(url=url), "sources": (SourceBucket(bucket=bucket),)}
        )
        targets = Targets(timeout=20, redis=url, langfuse_worker=environment["LANGFUSE_WORKER_URL"])
        window = Window(begin, utc_now() + 2 * _SECOND)
        assert desk.heal(Replay(stack, source_of(stack, ""), targets, window)) == "healed"
        found = f"/api/public/traces/{trace}"
        wait_until(lambda: client.get(found).status_code == 200, timeout=120, what="the trace to be there")


# --- decisions -----------------------------------------------------------------------------------------------------------

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("key", "kind", "about"),
    [
        ("prj/trace/a/1.json", "trace", "prj/trace/a"),
        ("prj/score/with/slash/1.json", "score", "prj/score/with/slash"),
        ("otel/prj/2026/11/20/12/05/u.json", "otel", "otel/prj/2026/11/20/12/05/u.json"),
        ("otel/prj/2026/11/20/u.json", "", ""),
        ("prj/sdk_log/a/1.json", "", ""),
        ("prj/trace/a/1.png", "", ""),
        ("1.json", "", ""),
    ],
)
def test_a_key_says_what_it_is_about(key: str, kind: str, about: str) -> None:
    found = parse(key, NOON)
    assert (found.kind, found.about) == (kind, about) if found else not kind


def test_of_an_entity_its_newest_object_is_enough() -> None:
    events = [
        parse("p/trace/a/9.json", NOON),
        parse("p/trace/a/1.json", NOON + _SECOND),
        parse("p/trace/b/1.json", NOON),
        parse("otel/p/2026/11/20/12/05/u.json", NOON),
        parse("otel/p/2026/11/20/12/05/v.json", NOON),
    ]
    assert chosen(one for one in events if one) == [
        "otel/p/2026/11/20/12/05/u.json",
        "otel/p/2026/11/20/12/05/v.json",
        "p/trace/a/1.json",
        "p/trace/b/1.json",
    ]


def test_the_window_is_what_was_asked_or_the_incidents_or_that_of_a_replay_that_has_not_ended(stack: Stack) -> None:
    asked = ReplayRequest(begin=NOON.replace(tzinfo=None), end=NOON + timedelta(hours=1))
    assert window_of(stack, asked) == Window(NOON, NOON + timedelta(hours=1))
    incident = f"{stack.name}/langfuse-worker/failed-jobs/20261120T121500Z"
    found = window_of(stack, ReplayRequest(incident=incident))
    assert (found.begin, utc_now() - found.end < timedelta(minutes=2)) == (NOON, True)
    save(stack.store, FOLDER, ReplayJournal(id="one", begin=NOON, end=NOON + timedelta(hours=2)))
    assert window_of(stack, ReplayRequest(begin=NOON)).end == NOON + timedelta(hours=2)
    for wrong in (ReplayRequest(), ReplayRequest(begin=NOON, end=NOON), ReplayRequest(begin=utc_now())):
        with pytest.raises(SettingsError, match=r"no window is given|is no window of the past"):
            window_of(stack, wrong)


def test_what_is_not_set_up_is_said(stack: Stack, queues: Queues) -> None:
    with pytest.raises(SettingsError, match="redis: not set up"):
        source_of(stack, "")
    with_redis = Stack(**{**vars(stack), "redis": queues.server})
    with pytest.raises(SettingsError, match=r"there is no event bucket ''; SOURCE_BUCKETS names none"):
        source_of(with_redis, "")
