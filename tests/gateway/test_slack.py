"""Buttons pressed in Slack: whose press counts, once, and what becomes of it."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from blocks.alerts.slack_message import ACKNOWLEDGE, APPROVE, REJECT, RUNBOOK, buttons
from blocks.errors import GuardRefused, ServiceError, StackError
from blocks.settings import Settings
from railway.gateway.security import Limiter
from railway.gateway.senders import REPLAY_SECONDS
from railway.gateway.slack import Press, Slack, read_press
from railway.worker.environments import GATEWAYS
from shared.engines.process import wait_until
from tests.alerts.notices import KEY, notice
from tests.gateway.serving import Runs, Served, serving
from tests.gateway.test_hooks import Counter, Events

SECRET = "canary-signing-51aa"
RUN = "0b0f6f0e-7f6c-4d57-9f8b-1f3a0c9b6e11"
SETTINGS = Settings(stack_name="prod", slack_signing_secret=SecretStr(SECRET), slack_users=["U042ADA"])


@dataclass
class Said:
    """Where answers would be shown."""

    sentences: list[tuple[str, bool]] = field(default_factory=list)

    async def say(self, press: Press, sentence: str, *, to_all: bool) -> None:
        self.sentences.append((sentence, to_all))


@dataclass
class Asked:
    """Runs that wait for a person: remembers the answers, and fails when told to."""

    answers: list[tuple[str, bool, str]] = field(default_factory=list)
    failure: StackError | None = None

    async def answer(self, run_id: UUID, *, approve: bool, by: str) -> str:
        if self.failure is not None:
            raise self.failure
        self.answers.append((str(run_id), approve, by))
        return "quick-fox is approved" if approve else "quick-fox is rejected"


@dataclass
class Place:
    """A gateway that hears of pressed buttons, and what became of them."""

    served: Served
    events: Events
    runs: Runs
    asked: Asked
    said: Said
    desk: Counter

    def press(
        self, action: str, value: str, *, user: str = "U042ADA", secret: str = SECRET, age: float = 0, number: int = 1
    ) -> httpx.Response:
        """Press a button as Slack tells of it; two presses differ by their number."""
        return self.send(body_of(action, value, user, number), secret=secret, age=age)

    def send(self, body: bytes, *, secret: str = SECRET, age: float = 0) -> httpx.Response:
        stamp = str(int(time.time() - age))
        signature = hmac.new(secret.encode(), b"v0:" + stamp.encode() + b":" + body, hashlib.sha256).hexdigest()
        return self.post(body, stamp, f"v0={signature}")

    def post(self, body: bytes, stamp: str, signature: str) -> httpx.Response:
        headers = {
            "X-Slack-Request-Timestamp": stamp,
            "X-Slack-Signature": signature,
            "Content-Type": "application/x-www-form-urlencoded",
        }
        return self.served.http.post("/hooks/slack", content=body, headers=headers)

    def heard(self, count: int = 1) -> list[tuple[str, bool]]:
        """What was said, once it was."""
        wait_until(lambda: len(self.said.sentences) >= count, timeout=60, what="an answer to a press")
        return self.said.sentences


def body_of(action: str, value: str, user: str = "U042ADA", number: int = 1) -> bytes:
    payload: dict[str, Any] = {
        "type": "block_actions",
        "user": {"id": user, "username": "ada"},
        "trigger_id": f"t-{number}",
        "container": {"type": "message", "message_ts": "1764126000.000100"},
        "response_url": "https://hooks.slack.com/actions/T0/1/canary-reply",
        "actions": [{"action_id": action, "value": value, "type": "button"}],
    }
    return urlencode({"payload": json.dumps(payload)}).encode()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    runs, events, asked, said, desk = Runs(), Events(), Asked(), Said(), Counter()
    slack = Slack(SETTINGS, runs, events, asked, said, desk, mistakes=Limiter(1000, 1.0))
    with serving(tmp_path_factory.mktemp("slack"), routes=slack.handlers) as served:
        yield Place(served, events, runs, asked, said, desk)


@pytest.fixture
def place(shared: Place) -> Place:
    """The same gateway, with nothing pressed yet."""
    shared.events.told, shared.said.sentences, shared.asked.answers = [], [], []
    shared.desk.words, shared.desk.failure = [], None
    shared.runs.started, shared.runs.parameters, shared.runs.failure, shared.asked.failure = [], [], None, None
    return shared


# --- what becomes of it -----------------------------------------------------------------------------------------------------


def test_the_runbook_is_asked_for_by_who_pressed_and_everybody_sees_it(place: Place) -> None:
    assert place.press(RUNBOOK, KEY, number=10).status_code == 200
    ((sentence, to_all),) = place.heard()
    assert place.runs.started == ["runbook/dispatch"]
    assert place.runs.parameters == [{"request": {"incident": KEY, "by": "slack U042ADA"}}]
    assert sentence.startswith("<@U042ADA>: the runbook is asked for: https://prefect.example/")
    assert to_all
    assert [event["event"] for event in place.events.told] == ["stack.runbook.asked"]


def test_an_acknowledgement_is_taken_down_with_who_pressed_who_alone_hears_it_at_once(place: Place) -> None:
    place.press(ACKNOWLEDGE, KEY, number=20)
    assert place.heard() == [("<@U042ADA>: acknowledge: taken", False)], "the next sweep tells everybody"
    assert place.desk.words == [("acknowledge", KEY, "slack U042ADA")]
    (event,) = place.events.told
    assert (event["event"], event["payload"]["of"], event["payload"]["by"]) == (
        "stack.acknowledgement.asked",
        KEY,
        "slack U042ADA",
    )
    assert place.runs.started == []


def test_an_incident_that_is_over_cannot_be_acknowledged_and_who_pressed_is_told(place: Place) -> None:
    place.desk.failure = GuardRefused("it is not open, or not any more")
    place.press(ACKNOWLEDGE, KEY, number=21)
    assert place.heard() == [("it is not open, or not any more", False)]
    assert place.events.told == []


@pytest.mark.parametrize(("action", "approve"), [(APPROVE, True), (REJECT, False)])
def test_a_waiting_run_is_answered(place: Place, action: str, approve: bool) -> None:
    place.press(action, RUN, number=30 + approve)
    ((sentence, _),) = place.heard()
    assert place.asked.answers == [(RUN, approve, "slack U042ADA")]
    assert "quick-fox is" in sentence


def test_what_fails_is_said_to_who_pressed_and_to_nobody_else(place: Place) -> None:
    place.asked.failure = ServiceError("run: Prefect's API failed; press again")
    place.press(APPROVE, RUN, number=40)
    assert place.heard() == [("run: Prefect's API failed; press again", False)]
    assert place.events.told == []


# --- whose press counts ------------------------------------------------------------------------------------------------------


def test_who_is_not_named_may_press_nothing_and_is_told_so(place: Place) -> None:
    assert place.press(APPROVE, RUN, user="U666EVE", number=50).status_code == 200
    ((sentence, to_all),) = place.heard()
    assert "SLACK_USERS" in sentence
    assert not to_all
    assert (place.asked.answers, place.events.told, place.runs.started) == ([], [], [])


def test_a_press_that_comes_again_is_done_once(place: Place) -> None:
    body, stamp = body_of(APPROVE, RUN, number=60), str(int(time.time()))
    signature = "v0=" + hmac.new(SECRET.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
    assert [place.post(body, stamp, signature).status_code for _ in range(3)] == [200] * 3
    place.press(REJECT, RUN, number=61)
    wait_until(lambda: (RUN, False, "slack U042ADA") in place.asked.answers, timeout=60, what="the last press")
    assert [approve for _, approve, _ in place.asked.answers] == [True, False]


@pytest.mark.parametrize("age", [REPLAY_SECONDS + 5, -REPLAY_SECONDS - 5])
def test_a_press_of_another_time_is_refused_although_it_is_signed(place: Place, age: float) -> None:
    assert place.press(APPROVE, RUN, age=age).status_code == 401
    assert place.asked.answers == []


def test_what_slack_has_not_signed_is_refused(place: Place) -> None:
    body, stamp = body_of(APPROVE, RUN), str(int(time.time()))
    signature = "v0=" + hmac.new(SECRET.encode(), f"v0:{stamp}:".encode() + body, hashlib.sha256).hexdigest()
    codes = [
        place.press(APPROVE, RUN, secret="guess").status_code,
        place.post(body.replace(b"approve", b"reject"), stamp, signature).status_code,
        place.post(body, "", signature).status_code,
        place.post(body, "now", signature).status_code,
        place.post(body, str(int(stamp) + 1), signature).status_code,
        place.post(body, stamp, "").status_code,
    ]
    assert codes == [401] * 6
    assert place.asked.answers == []


def test_without_a_signing_secret_it_says_what_to_set(tmp_path: Path) -> None:
    slack = Slack(Settings(stack_name="prod"), Runs(), Events(), Asked(), Said(), Counter())
    with serving(tmp_path, routes=slack.handlers) as served:
        answer = served.http.post("/hooks/slack", content=body_of(APPROVE, RUN))
    assert (answer.status_code, "set SLACK_SIGNING_SECRET" in answer.json()["error"]) == (503, True)


# --- what it is -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"payload=%7B",
        b"payload=[]",
        b"\xff\xfe",
        body_of(APPROVE, "not-a-run"),
        body_of(APPROVE, KEY),
        body_of(RUNBOOK, RUN),
        body_of(RUNBOOK, "a/b/c/" + "x" * 400),
        body_of(APPROVE, RUN, user="../U1"),
        urlencode(
            {"payload": json.dumps({"user": {"id": "U042ADA"}, "actions": [{"action_id": APPROVE, "value": [RUN]}]})}
        ).encode(),
    ],
)
def test_what_is_no_press_of_a_button_of_ours_is_refused(place: Place, body: bytes) -> None:
    assert place.send(body).status_code == 422
    assert (place.asked.answers, place.runs.started) == ([], [])


def test_a_link_that_somebody_follows_is_none_of_ours(place: Place) -> None:
    assert read_press(body_of("some-link", "x")) is None
    assert place.press("some-link", "x", number=70).status_code == 200


def test_every_button_of_a_message_is_one_that_the_gateway_reads() -> None:
    """What `blocks.alerts` writes and what the route reads cannot drift apart."""
    waiting = notice("failed-run", aspect="Paused", dedup_key=f"prod/run-20261126T030000Z/{RUN}/Paused")
    found = {}
    for one in (notice(), notice("reminded"), notice("escalated"), waiting):
        for button in (element for block in buttons(one) for element in block["elements"]):
            press = read_press(body_of(button["action_id"], button["value"]))
            assert press is not None
            found[press.action] = press.value
    assert found == {ACKNOWLEDGE: KEY, RUNBOOK: KEY, APPROVE: RUN, REJECT: RUN}
    assert [buttons(notice(kind)) for kind in ("closed", "acknowledged")] == [[], []]
    assert buttons(notice("failed-run", aspect="Failed", dedup_key=f"prod/run/{RUN}/Failed")) == []


def test_the_gateway_gets_the_signing_secret_and_not_the_bots_token() -> None:
    assert "slack_signing_secret" in GATEWAYS
    assert "slack_bot_token" not in GATEWAYS
