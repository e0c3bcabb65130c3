"""What others tell the gateway: who may, what is taken of it, and that it becomes one event."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from blocks.errors import GuardRefused, IntegrityError, ServiceError, StackError
from blocks.settings import Settings
from flows.automations.wanted import HINTS
from railway.gateway import senders
from railway.gateway.hooks import Hooks, Seen
from railway.gateway.security import LARGEST_HOOK, Limiter
from railway.gateway.senders import Unreadable
from railway.gateway.telling import id_of
from railway.worker.environments import GATEWAYS
from tests.gateway.serving import Served, chunks, serving

SECRET = "canary-hook-7d11"
SETTINGS = Settings(
    stack_name="prod",
    railway_project_id="project-1",
    railway_environment_id="environment-1",
    railway_webhook_secret=SecretStr(SECRET),
    pagerduty_webhook_secret=SecretStr(SECRET),
    alertmanager_webhook_token=SecretStr(SECRET),
)


@dataclass
class Events:
    """Where events would go: remembers them, and fails when told to."""

    told: list[Mapping[str, Any]] = field(default_factory=list)
    failure: ServiceError | None = None

    async def tell(self, event: Mapping[str, Any]) -> None:
        if self.failure is not None:
            raise self.failure
        self.told.append(event)


@dataclass
class Counter:
    """Where people's word is taken: remembers it, and fails when told to."""

    words: list[tuple[str, str, str]] = field(default_factory=list)
    failure: StackError | None = None

    async def acknowledge(self, incident: str, by: str) -> str:
        return self._take("acknowledge", incident, by)

    async def withdraw(self, incident: str, by: str) -> str:
        return self._take("withdraw", incident, by)

    def _take(self, word: str, incident: str, by: str) -> str:
        if self.failure is not None:
            raise self.failure
        self.words.append((word, incident, by))
        return f"{word}: taken"


@dataclass
class Place:
    """A gateway that others tell things, and where these go."""

    served: Served
    events: Events
    desk: Counter

    def railway(self, document: object, secret: str = SECRET) -> httpx.Response:
        return self.post("/hooks/railway", json.dumps(document).encode(), {"X-Webhook-Secret": secret})

    def pagerduty(self, document: object, secret: str = SECRET, more: str = "") -> httpx.Response:
        body = json.dumps(document).encode()
        signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
        return self.post("/hooks/pagerduty", body, {"X-PagerDuty-Signature": f"{more}v1={signature}"})

    def alertmanager(self, document: object, secret: str = SECRET) -> httpx.Response:
        return self.post("/hooks/alertmanager", json.dumps(document).encode(), {"Authorization": f"Bearer {secret}"})

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> httpx.Response:
        return self.served.http.post(path, content=body, headers=headers)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    events = Events()
    desk = Counter()
    hooks = Hooks(SETTINGS, events, desk, mistakes=Limiter(10, 6.0, clock=lambda: 0.0))
    with serving(tmp_path, routes=hooks.handlers) as served:
        yield Place(served, events, desk)


def of_railway(kind: str = "Deployment.crashed", environment: str = "environment-1", **more: object) -> dict[str, Any]:
    return {
        "type": kind,
        "details": {"id": "d", "status": "SUCCESS", "commitMessage": "sk-canary in a commit", "commitAuthor": "canary@example"},
        "resource": {
            "workspace": {"id": "w", "name": "canary-workspace"},
            "project": {"id": "project-1", "name": "p"},
            "environment": {"id": environment, "name": "production", "isEphemeral": False},
            "service": {"id": "service-1", "name": "litellm"},
            "deployment": {"id": "deployment-1"},
        },
        "severity": "WARNING",
        "timestamp": "2026-11-26T03:00:00.000Z",
        **more,
    }


OF_PAGERDUTY = {
    "event": {
        "id": "01DEN9QEIXE",
        "event_type": "incident.acknowledged",
        "occurred_at": "2026-11-26T03:00:00.000Z",
        "agent": {"id": "P1", "type": "user_reference", "summary": "Ada\nLovelace"},
        "data": {"id": "Q1", "type": "incident", "incident_key": "prod/redis/ping/20261126T025900Z", "status": "acknowledged"},
    }
}
OF_ALERTMANAGER = {
    "version": "4",
    "groupKey": '{}:{alertname="HighLatency"}',
    "status": "firing",
    "receiver": "stack",
    "alerts": [
        {"status": "firing", "labels": {"alertname": "HighLatency", "service": "litellm"}, "startsAt": "2026-11-26T03:00:00Z"},
        {"status": "firing", "labels": {"alertname": "Errors", "service": "litellm"}, "annotations": {"a": "canary"}},
    ],
}


# --- what becomes of it ---------------------------------------------------------------------------------------------------


def test_a_webhook_of_railway_becomes_one_event_with_ids_and_nothing_that_it_claims(place: Place) -> None:
    answer = place.railway(of_railway())
    assert (answer.status_code, answer.json()) == (202, {"status": "told", "event": "stack.railway.deployment.crashed"})
    assert place.railway(of_railway()).json() == {"status": "known"}
    (event,) = place.events.told
    assert event["event"] in HINTS
    assert event["resource"]["prefect.resource.id"] == "stack.prod.hint.railway"
    ids = {"project": "project-1", "environment": "environment-1", "service": "service-1", "deployment": "deployment-1"}
    assert event["payload"] == ids
    assert "canary" not in json.dumps(event)


@pytest.mark.parametrize(
    ("written", "event"),
    [
        ("Deployment.failed", "deployment.failed"),
        ("Deployment.OomKilled", "deployment.oom_killed"),
        ("Deployment.oom_killed", "deployment.oom_killed"),
        ("VolumeAlert.triggered", "volume_alert.triggered"),
        ("Monitor.Triggered", "monitor.triggered"),
    ],
)
def test_railways_kinds_are_the_same_however_they_are_written(written: str, event: str) -> None:
    told = senders.of_railway(json.dumps(of_railway(written)).encode())
    assert told is not None
    assert told.event == f"stack.railway.{event}"
    assert told.event in HINTS


def test_a_webhook_about_another_environment_of_the_project_is_taken_and_dropped(place: Place) -> None:
    answer = place.railway(of_railway(environment="pull-request-7"))
    assert (answer.status_code, answer.json()) == (200, {"status": "not ours"})
    assert place.events.told == []


def test_what_is_said_in_pagerduty_becomes_an_event_with_our_incidents_key(place: Place) -> None:
    assert place.pagerduty(OF_PAGERDUTY).status_code == 202
    (event,) = place.events.told
    assert event["event"] == "stack.pagerduty.incident.acknowledged"
    assert event["payload"]["incident"] == "prod/redis/ping/20261126T025900Z"
    assert event["payload"]["by"] == "Ada Lovelace"
    assert place.desk.words == [("acknowledge", "prod/redis/ping/20261126T025900Z", "pagerduty Ada Lovelace")]


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("incident.unacknowledged", "withdraw"),
        ("incident.reopened", "withdraw"),
        ("incident.resolved", "withdraw"),
        ("incident.triggered", ""),
        ("incident.priority_updated", ""),
    ],
)
def test_who_gives_up_in_pagerduty_or_resolves_there_has_people_reminded_until_the_sweeps_say_it_is_over(
    place: Place, kind: str, word: str
) -> None:
    document = {"event": {**OF_PAGERDUTY["event"], "event_type": kind}}
    assert place.pagerduty(document).status_code == 202
    assert [one[0] for one in place.desk.words] == ([word] if word else [])


@pytest.mark.parametrize(
    ("failure", "code"),
    [(GuardRefused("not open"), 202), (IntegrityError("damaged"), 202), (ServiceError("Prefect's API failed"), 503)],
)
def test_what_is_not_open_is_nobodys_business_and_what_could_not_be_taken_down_is_sent_again(
    place: Place, failure: StackError, code: int
) -> None:
    place.desk.failure = failure
    assert place.pagerduty(OF_PAGERDUTY).status_code == code
    place.desk.failure = None
    again = place.pagerduty(OF_PAGERDUTY)
    assert (again.status_code, len(place.desk.words)) == ((202, 1) if code == 503 else (200, 0))


def test_a_notification_of_alertmanager_becomes_an_event_with_the_names_of_its_alerts(place: Place) -> None:
    assert place.alertmanager(OF_ALERTMANAGER).status_code == 202
    (event,) = place.events.told
    assert event["event"] == "stack.alertmanager.firing"
    assert (event["payload"]["alerts"], event["payload"]["services"]) == (["Errors", "HighLatency"], ["litellm"])
    assert "canary" not in json.dumps(event)


def test_what_prefect_did_not_take_is_taken_when_it_is_sent_again(place: Place) -> None:
    place.events.failure = ServiceError("events: Prefect's API failed; send it again")
    assert place.railway(of_railway()).status_code == 503
    place.events.failure = None
    assert place.railway(of_railway()).status_code == 202
    assert len(place.events.told) == 1


def test_the_same_body_is_the_same_event_in_any_process_and_of_another_sender_another_one() -> None:
    assert id_of("prod", "railway", b"x") == id_of("prod", "railway", b"x")
    assert len({id_of("prod", "railway", b"x"), id_of("prod", "railway", b"y"), id_of("prod", "pagerduty", b"x")}) == 3


def test_only_so_many_bodies_are_remembered() -> None:
    seen, ids = Seen(most=10), [id_of("prod", "railway", bytes([number])) for number in range(12)]
    for one in ids:
        seen.add(one)
    assert [one in seen for one in ids] == [False] * 2 + [True] * 10


# --- who may ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["", "guess", SECRET.upper(), "ä"])
def test_without_the_right_secret_nothing_is_told_and_the_answer_shows_none(place: Place, wrong: str) -> None:
    body, given = json.dumps(of_railway()).encode(), wrong.encode()
    answers = [
        place.served.http.post("/hooks/railway", content=body, headers=[(b"X-Webhook-Secret", given)]),
        place.served.http.post("/hooks/alertmanager", content=body, headers=[(b"Authorization", (b"Bearer " + given).strip())]),
        place.pagerduty(OF_PAGERDUTY, secret=wrong),
        place.served.http.post("/hooks/pagerduty", json=OF_PAGERDUTY),
    ]
    assert {answer.status_code for answer in answers} == {401}
    assert all(SECRET not in answer.text for answer in answers)
    assert place.events.told == []


def test_a_signature_is_of_the_body_and_one_of_several_is_enough(place: Place) -> None:
    other = f"v1={'0' * 64},"
    assert place.pagerduty(OF_PAGERDUTY, more=other).status_code == 202
    body = json.dumps(OF_PAGERDUTY).encode()
    signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    changed = body.replace(b"acknowledged", b"resolved")
    assert place.post("/hooks/pagerduty", changed, {"X-PagerDuty-Signature": f"v1={signature}"}).status_code == 401


@pytest.mark.parametrize("sender", ["railway", "pagerduty", "alertmanager"])
def test_without_a_secret_of_ours_nobody_may_and_it_says_what_to_set(tmp_path: Path, sender: str) -> None:
    events = Events()
    with serving(tmp_path, routes=Hooks(Settings(stack_name="prod"), events, Counter()).handlers) as served:
        answer = served.http.post(f"/hooks/{sender}", json=of_railway(), headers={"X-Webhook-Secret": ""})
    assert answer.status_code == 503
    assert f"set {sender.upper()}_WEBHOOK_" in answer.json()["error"]
    assert events.told == []


def test_who_guesses_is_stopped_and_who_knows_the_secret_is_not(place: Place) -> None:
    codes = [place.railway(of_railway(), secret=f"guess-{number}").status_code for number in range(12)]
    assert codes == [401] * 10 + [429] * 2
    assert place.railway(of_railway()).status_code == 202


def test_a_sender_that_tells_too_much_is_told_to_wait_and_the_others_are_not(tmp_path: Path) -> None:
    hooks = Hooks(SETTINGS, Events(), Counter(), rate=Limiter(3, 7.0, clock=lambda: 0.0))
    with serving(tmp_path, routes=hooks.handlers) as served:
        place = Place(served, Events(), Counter())
        answers = [place.railway(of_railway(timestamp=str(number))) for number in range(4)]
        assert [answer.status_code for answer in answers] == [202] * 3 + [429]
        assert answers[-1].headers["retry-after"] == "7"
        assert place.railway(of_railway(timestamp="0")).json() == {"status": "known"}
        assert place.alertmanager(OF_ALERTMANAGER).status_code == 202


# --- what it is --------------------------------------------------------------------------------------------------------------


def test_bodies_may_be_larger_here_than_elsewhere_but_not_without_end(place: Place) -> None:
    assert place.alertmanager({**OF_ALERTMANAGER, "more": "x" * 20_000}).status_code == 202
    assert place.served.http.post("/login", content=b"x" * 20_000).status_code == 413
    large = b"x" * (LARGEST_HOOK + 1)
    assert place.post("/hooks/railway", large, {"X-Webhook-Secret": SECRET}).status_code == 413
    parts = chunks([large[:200_000], large[200_000:]])
    assert place.served.http.post("/hooks/railway", content=parts, headers={"X-Webhook-Secret": SECRET}).status_code == 413


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"\xff", b'{"type": 7}', b'{"type": "../x"}', b'{"type": "%s"}' % (b"x" * 99), b"[" * 50_000]
)
def test_what_is_not_such_a_body_is_refused_with_what_was_expected(place: Place, body: bytes) -> None:
    answer = place.post("/hooks/railway", body, {"X-Webhook-Secret": SECRET})
    assert answer.status_code == 422
    assert "railway: expected" in answer.json()["error"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["event", "data", "resource", "alerts", "status", "type", "labels", "x"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)


@given(document=JSON)
def test_no_body_whatever_it_is_breaks_a_reader(document: object) -> None:
    body = json.dumps(document).encode()
    for read in (senders.of_railway, senders.of_pagerduty, senders.of_alertmanager):
        try:
            told = read(body)
        except Unreadable:
            continue
        assert told is None or len(json.dumps(dict(told.payload))) < 20_000


def test_the_gateway_gets_the_secrets_of_its_routes() -> None:
    assert {"railway_webhook_secret", "pagerduty_webhook_secret", "alertmanager_webhook_token"} <= GATEWAYS
