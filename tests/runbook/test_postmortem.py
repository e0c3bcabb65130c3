"""The postmortem: everything that is known of an incident, in order and once, with what is not known."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from blocks.errors import SettingsError
from blocks.object_store import BackupStore
from blocks.railway_api.models import Deployment, DeploymentStatus
from flows.health.events import emit
from flows.health.incidents import Happening, Incident, Kind
from flows.health.memory import save_text
from flows.health.published import Entry as Line
from flows.health.published import Published, ToldIncident, published_name
from flows.runbook.audit import Entry, Trail
from flows.runbook.evidence import Deployed, Event, Evidence, Run
from flows.runbook.postmortem import PostmortemRequest, chosen, key_of, postmortem, story_of
from flows.runbook.timeline import Story, moments_of, written
from flows.stack import Stack
from shared.engines.process import wait_until
from shared.sandbox.blocks import stack_from
from shared.sandbox.stack import Sandbox
from tests.patient import patient_client

OPENED = datetime(2026, 11, 24, 3, 2, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def incident(stack: str = "prod", opened: datetime = OPENED, **changes: object) -> Incident:
    fields: dict[str, object] = {
        "key": f"{stack}/redis/memory/{opened:%Y%m%dT%H%M%SZ}",
        "stack": stack,
        "service": "redis",
        "aspect": "memory",
        "severity": "critical",
        "sentence": "Redis uses 91 of 100 MB | expected at most 80 %",
        "since": opened - 2 * MINUTE,
        "opened_at": opened,
        "closed_at": opened + 10 * MINUTE,
        "casualties": ("langfuse-web",),
        "acknowledged_by": "ada",
        "acknowledged_at": opened + MINUTE,
    }
    return Incident.model_validate({**fields, **changes})


def told(one: Incident) -> ToldIncident:
    lines: list[tuple[datetime | None, Kind]] = [(one.opened_at, "opened"), (one.closed_at, "closed")]
    return ToldIncident(incident=one, timeline=[Line(at=at, kind=kind, text=kind) for at, kind in lines if at])


def happened(one: Incident, kind: Kind, at: datetime) -> Event:
    name = f"stack.incident.{kind}"
    return Event(at, name, f"stack.{one.stack}.service.redis", {**one.model_dump(mode="json"), "note": "so it is"})


def run(name: str, state: str, at: datetime, message: str = "") -> Run:
    return Run("id", name, "redis-memory", state, message, at, at + MINUTE)


# --- what is written ---------------------------------------------------------------------------------------------------------


def test_all_sources_are_one_timeline_in_order_and_what_two_know_is_said_once() -> None:
    one = incident()
    deployment = Deployment(id="d", status=DeploymentStatus.SUCCESS, created_at=OPENED - 5 * MINUTE, image="redis:8")
    acted = Entry(at=OPENED + 3 * MINUTE, kind="ended", actor="redis-memory", service="redis", what="purge", incident=one.key)
    moments = moments_of(
        told(one),
        events=[
            happened(one, "opened", OPENED + timedelta(seconds=0.4)),
            happened(one, "acknowledged", OPENED + MINUTE),
            Event(OPENED - 6 * MINUTE, "stack.railway.deployment.failed", "stack.prod.hint.railway", {"service": "s-1"}),
        ],
        runs=[run("quick-fox", "Completed", OPENED + 2 * MINUTE), run("odd-owl", "Failed", OPENED + 5 * MINUTE, "no room")],
        deployments=[Deployed("redis", deployment)],
        trail=[acted],
    )
    assert [moment.at for moment in moments] == sorted(moment.at for moment in moments)
    assert [(moment.source, moment.text.split(":")[0]) for moment in moments] == [
        ("event", "stack.railway.deployment.failed"),
        ("Railway", "deployment of redis of redis"),
        ("watch", "first seen bad"),
        ("watch", "opened"),
        ("event", "stack.incident.acknowledged"),
        ("run", "redis-memory quick-fox began"),
        ("run", "redis-memory quick-fox ended as Completed"),
        ("audit", "redis-memory redis ended"),
        ("run", "redis-memory odd-owl began"),
        ("run", "redis-memory odd-owl ended as Failed"),
        ("watch", "closed"),
    ]
    assert "no room" in moments[-2].text


def test_the_text_says_when_it_was_seen_how_long_it_took_what_was_done_and_what_is_not_known() -> None:
    one = incident()
    trail = [
        Entry(at=OPENED + MINUTE, kind="decided", actor="approval", what="forget jobs", result="approved", by="slack U1"),
        Entry(at=OPENED, kind="began", actor="redis-memory", what="purge", by="automation", why="critical", incident=one.key),
    ]
    moments = moments_of(told(one), trail=trail)
    text = written(Story("prod", told(one), trail, moments, ["Railway: no token"], OPENED + timedelta(days=1)))
    assert text.startswith("# Postmortem: redis, memory, 2026-11-24 03:02:00 UTC\n")
    for row in (
        "| opened | 2026-11-24 03:02:00 UTC, 2 min after it was first seen |",
        "| acknowledged | 2026-11-24 03:03:00 UTC, by ada, 60 s after it was opened |",
        "| closed | 2026-11-24 03:12:00 UTC: it lasted 12 min from when it was first seen |",
        "| taken along | langfuse-web |",
        "| what was seen | Redis uses 91 of 100 MB \\| expected at most 80 % |",
        "- 03:02:00 redis-memory, began, by automation, because critical: purge",
        "- Railway: no token",
    ):
        assert row in text
    assert "forget jobs: approved (by slack U1)" in text, "what concerns no incident is in the timeline"
    assert "- What was the cause" in text


def test_an_incident_that_is_open_and_of_which_little_is_known_says_so() -> None:
    one = incident(closed_at=None, acknowledged_at=None, acknowledged_by="", sentence="", casualties=())
    text = written(Story("prod", ToldIncident(incident=one), [], [], [], OPENED + timedelta(hours=3)))
    assert "| closed | not yet, open for 3 h 0 min when this was written |" in text
    assert "| what was seen | not known |" in text
    assert "| acknowledged |" not in text
    assert "Nothing that stands in the audit trail." in text


# --- where it comes from -----------------------------------------------------------------------------------------------------


class Site:
    """A stack of the test's own on the sandbox's Prefect server, with a store of its own."""

    def __init__(self, http: httpx.Client, stack: Stack) -> None:
        self.http, self.stack, self.name = http, stack, stack.name
        self.opened = datetime.now(UTC).replace(microsecond=0) - 20 * MINUTE

    def publish(self, *closed: ToldIncident, still_open: tuple[ToldIncident, ...] = ()) -> None:
        published = Published(stack=self.name, at=datetime.now(UTC), interval=60, closed=list(closed), open=list(still_open))
        asyncio.run(save_text(published_name(self.name), published.model_dump_json(exclude_defaults=True)))

    def incident(self, **changes: object) -> Incident:
        return incident(self.name, self.opened, **changes)


@pytest.fixture
def site(sandbox: Sandbox, store: BackupStore) -> Iterator[Site]:
    name = f"past-{secrets.token_hex(4)}"
    own = store.model_copy(update={"stack": name})
    stack = replace(stack_from(sandbox.environment()), name=name, store=own)
    with patient_client(sandbox.prefect_api_url) as http, temporary_settings({PREFECT_API_URL: sandbox.prefect_api_url}):
        yield Site(http, stack)
        names = http.post("/variables/filter", json={"variables": {"name": {"like_": name}}, "limit": 200}).json()
        for one in names:
            http.delete(f"/variables/name/{one['name']}")


def test_without_a_key_it_is_about_the_one_that_closed_last_and_a_wrong_key_is_refused(site: Site) -> None:
    with pytest.raises(SettingsError, match="no incident is known"):
        chosen(site.name, "", Evidence())
    one, other = told(site.incident()), told(site.incident(aspect="ping", closed_at=None))
    site.publish(one, still_open=(other,))
    assert chosen(site.name, "", Evidence()) == one
    for key in ("redis", f"{site.name}/redis/memory/yesterday"):
        with pytest.raises(SettingsError, match="is no key of an incident"):
            chosen(site.name, key, Evidence())


def test_what_prefect_and_the_store_know_is_gathered(site: Site) -> None:
    one = site.incident()
    site.publish(told(one))
    asyncio.run(emit([Happening(kind="acknowledged", incident=one, at=site.opened + MINUTE, note="ada is working on it")]))
    acted = Entry(at=site.opened + MINUTE, kind="began", actor="redis-memory", what="purge", incident=one.key)
    Trail(site.stack.store).add(acted)
    flow_id = site.http.post("/flows/", json={"name": "redis-memory"}).raise_for_status().json()["id"]
    name = f"run-{secrets.token_hex(4)}"
    site.http.post("/flow_runs/", json={"flow_id": flow_id, "name": name, "state": {"type": "RUNNING"}}).raise_for_status()
    stories: list[Story] = []

    def complete() -> bool:
        stories.append(story_of(site.stack, chosen(site.name, "", Evidence()), None, Evidence(), datetime.now(UTC)))
        return any(moment.source == "event" for moment in stories[-1].moments)

    wait_until(complete, timeout=120, what="the event to be stored", pause=0.3)
    text = written(stories[-1])
    assert "ada is working on it" in text
    assert f"redis-memory {name} began" in text
    assert "redis-memory, began" in text
    assert [gap.partition(":")[0] for gap in stories[-1].gaps] == ["Railway"]


def test_one_that_the_sweeps_have_forgotten_is_as_its_events_describe_it_and_without_them_as_its_key_does(site: Site) -> None:
    one = site.incident()
    had = Evidence()
    bare = chosen(site.name, one.key, had)
    assert (bare.incident.service, bare.incident.opened_at, bare.incident.sentence) == ("redis", site.opened, "")
    assert "they remember the last ten incidents" in had.gaps[0]
    story = story_of(site.stack, bare, None, had, datetime.now(UTC))
    assert any("there are none any more" in gap for gap in story.gaps)
    asyncio.run(emit([Happening(kind="closed", incident=one, at=site.opened + 10 * MINUTE)]))
    found: list[Story] = []

    def known() -> bool:
        found.append(story_of(site.stack, bare, None, Evidence(), datetime.now(UTC)))
        return found[-1].told.incident == one

    wait_until(known, timeout=120, what="the event to be stored", pause=0.3)


@pytest.mark.long
def test_the_flow_keeps_it_shows_it_and_writes_it_anew_and_a_dry_run_keeps_none(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in sandbox.environment().items():
        monkeypatch.setenv(name, value)
    store = stack_from(sandbox.environment()).store
    key = f"{sandbox.stack_name}/redis/memory/20260101T000000Z"
    with temporary_settings({PREFECT_API_URL: sandbox.prefect_api_url}):
        assert postmortem(PostmortemRequest(incident=key, dry_run=True)) == ""
        where = key_of(store.root, chosen(sandbox.stack_name, key, Evidence()).incident)
        assert [item.key for item in store.list(where)] == []
        assert [postmortem(PostmortemRequest(incident=key)) for _ in range(2)] == [where, where]
    assert store.get(where).decode().startswith("# Postmortem: redis, memory, 2026-01-01 00:00:00 UTC")
    assert "# Postmortem: redis, memory" in str(sandbox.artifact(f"postmortem-{sandbox.stack_name}-redis-memory"))
    store.remove([where])
