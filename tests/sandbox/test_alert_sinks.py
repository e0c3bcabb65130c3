"""The alert sinks take what the real services take, refuse what those refuse, and can be disturbed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from shared.engines.process import is_port_free, wait_until
from shared.sandbox.alert_sinks import AlertSinks, Kind

HTTP = httpx.Client(trust_env=False, timeout=2.0)  # one for all: a client takes longer to make than a request
EVENT = {"summary": "postgres is down", "source": "sandbox", "severity": "critical"}


@pytest.fixture(scope="module")
def server() -> Iterator[AlertSinks]:
    with AlertSinks() as sinks:
        yield sinks


@pytest.fixture
def sinks(server: AlertSinks) -> AlertSinks:
    server.clear()
    return server


def post(url: str, content: Any, **more: Any) -> httpx.Response:
    return HTTP.post(url, json=content, **more)


def slack(sinks: AlertSinks, method: str, token: str | None = None, **arguments: Any) -> Any:
    login = {"Authorization": f"Bearer {token or sinks.keys.slack_token}"}
    answer = post(sinks.environment()["SLACK_API_URL"] + method, arguments, headers=login)
    assert answer.status_code == 200, "Slack says no with 200"
    return answer.json()


def say(sinks: AlertSinks, **content: Any) -> Any:
    return slack(sinks, "chat.postMessage", channel=sinks.slack.channel, **content)


def section(text: str) -> dict[str, Any]:
    return {"type": "section", "text": {"type": "mrkdwn", "text": text}}


def discord(sinks: AlertSinks, **content: Any) -> httpx.Response:
    return post(sinks.environment()["DISCORD_WEBHOOK_URL"], content, params={"wait": "true"})


def enqueue(sinks: AlertSinks, **event: Any) -> httpx.Response:
    return post(f"{sinks.url}/v2/enqueue", {"routing_key": sinks.keys.pagerduty, **event})


def test_a_slack_bot_posts_replies_in_the_thread_and_changes_its_message(sinks: AlertSinks) -> None:
    ts = say(sinks, text="postgres is down", blocks=[section("*postgres* is down"), {"type": "divider"}])["ts"]
    assert say(sinks, text="still down", thread_ts=ts)["ok"]
    changed = slack(sinks, "chat.update", channel=sinks.slack.channel, ts=ts, text="postgres was down")
    assert (changed["ok"], changed["ts"]) == (True, ts)
    assert [(one["text"], one.get("thread_ts")) for one in sinks.slack.messages] == [
        ("postgres was down", None),
        ("still down", ts),
    ]
    assert [one["ts"] for one in slack(sinks, "conversations.history", channel=sinks.slack.channel)["messages"]] == [ts]
    assert len(slack(sinks, "conversations.replies", channel=sinks.slack.channel, ts=ts)["messages"]) == 2
    assert [one.payload["method"] for one in sinks.received("slack")][:3] == ["chat.postMessage"] * 2 + ["chat.update"]


def test_slack_takes_forms_whose_blocks_are_json_in_text(sinks: AlertSinks) -> None:
    form = {"token": sinks.keys.slack_token, "channel": sinks.slack.channel, "blocks": '[{"type": "divider"}]'}
    url = sinks.environment()["SLACK_API_URL"] + "chat.postMessage"
    assert HTTP.post(url, data=form).json()["ok"]
    assert sinks.slack.messages[0]["blocks"] == [{"type": "divider"}]
    assert HTTP.post(url, data={**form, "blocks": "[{"}).json()["error"] == "invalid_blocks_format"


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({}, "no_text"),
        ({"text": "x" * 40_001}, "msg_too_long"),
        ({"text": "x", "channel": "C0OTHER"}, "channel_not_found"),
        ({"text": "x", "thread_ts": "1.000001"}, "invalid_thread_ts"),
        ({"text": "x", "token": "xoxb-wrong"}, "invalid_auth"),
        ({"blocks": [section("x")] * 51}, "invalid_blocks"),
        ({"text": "x", "attachments": [{"color": "#ff0000", "blocks": [section("")]}]}, "invalid_attachments"),
        ({"blocks": [section("x" * 3000)] * 4}, "msg_blocks_too_long"),
    ],
)
def test_slack_refuses_with_200_and_a_word(sinks: AlertSinks, arguments: dict[str, Any], error: str) -> None:
    token = arguments.pop("token", None)
    answer = slack(sinks, "chat.postMessage", token=token, **{"channel": sinks.slack.channel, **arguments})
    assert (answer["ok"], answer["error"]) == (False, error)
    assert sinks.received("slack") == []
    assert sinks.slack.messages == []
    assert sinks.exchanges("slack")[0].refused.startswith(error)


@pytest.mark.parametrize(
    ("block", "complaint"),
    [
        (section("x" * 3001), "must be less than 3001 characters [json-pointer:/blocks/0/text/text]"),
        (section(""), "must be more than 0 characters [json-pointer:/blocks/0/text/text]"),
        ({"type": "section"}, "missing required field: text or fields [json-pointer:/blocks/0]"),
        ({"type": "section", "text": "plain"}, "must be a text object [json-pointer:/blocks/0/text]"),
        ({"type": "sectoin"}, "unsupported type: sectoin [json-pointer:/blocks/0/type]"),
        (
            {"type": "header", "text": {"type": "mrkdwn", "text": "x"}},
            "must be one of plain_text [json-pointer:/blocks/0/text/type]",
        ),
        (
            {"type": "header", "text": {"type": "plain_text", "text": "x" * 151}},
            "must be less than 151 characters [json-pointer:/blocks/0/text/text]",
        ),
        ({"type": "context", "elements": []}, "no fewer than 1 items allowed [json-pointer:/blocks/0/elements]"),
        (
            {"type": "section", "fields": [{"type": "mrkdwn", "text": "x"}] * 11},
            "no more than 10 items allowed [json-pointer:/blocks/0/fields]",
        ),
        (
            {"type": "actions", "elements": [{"type": "button", "text": {"type": "plain_text", "text": "x"}, "url": "run/1"}]},
            "invalid url [json-pointer:/blocks/0/elements/0/url]",
        ),
    ],
)
def test_slack_says_what_is_wrong_with_a_block(sinks: AlertSinks, block: dict[str, Any], complaint: str) -> None:
    answer = say(sinks, text="x", blocks=[block])
    assert (answer["error"], answer["errors"]) == ("invalid_blocks", [complaint])
    assert answer["response_metadata"]["messages"] == [f"[ERROR] {complaint}"]


def test_slack_allows_a_message_at_its_limits(sinks: AlertSinks) -> None:
    button = {"type": "button", "text": {"type": "plain_text", "text": "Run"}, "url": "https://x.example", "style": "danger"}
    blocks = [
        {"type": "header", "text": {"type": "plain_text", "text": "x" * 150, "emoji": True}},
        {"type": "section", "fields": [{"type": "mrkdwn", "text": "x" * 2000}, *[{"type": "mrkdwn", "text": "x"}] * 9]},
        {"type": "section", "text": {"type": "mrkdwn", "text": "x" * 3000}, "accessory": button},
        {"type": "context", "elements": [{"type": "mrkdwn", "text": "x"}] * 10},
        {"type": "actions", "elements": [button]},
        *[section("x")] * 45,
    ]
    assert say(sinks, text="x", blocks=blocks)["ok"]


def test_a_slack_webhook_answers_ok_or_a_word(sinks: AlertSinks) -> None:
    url = sinks.environment()["SLACK_WEBHOOK_URL"]
    assert post(url, {"text": "down"}).text == "ok"
    for content, word in (("no json", "invalid_payload"), ("{}", "no_text"), ('{"blocks": [{}]}', "invalid_blocks")):
        answer = HTTP.post(url, content=content, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.text) == (400, word)
    assert post(url + "x", {"text": "x"}).status_code == 403
    assert post(f"{sinks.url}/services/T1/B1/x", {"text": "x"}).text == "no_service"
    assert [one.payload for one in sinks.received("slack-webhook")] == [{"text": "down"}]


def test_discord_creates_edits_and_deletes_a_message(sinks: AlertSinks) -> None:
    url = sinks.environment()["DISCORD_WEBHOOK_URL"]
    assert post(url, {"content": "no answer wanted"}).status_code == 204
    number = discord(sinks, embeds=[{"title": "down", "color": 0xFF0000, "timestamp": "2026-11-25T03:00:00Z"}]).json()["id"]
    edited = HTTP.patch(f"{url}/messages/{number}", json={"embeds": [{"title": "up", "color": 0xFF00}]})
    assert (edited.status_code, edited.json()["embeds"][0]["title"]) == (200, "up")
    assert [len(message["embeds"]) for message in sinks.discord.messages.values()] == [0, 1]
    assert HTTP.delete(f"{url}/messages/{number}").status_code == 204
    assert HTTP.patch(f"{url}/messages/{number}", json={"content": "x"}).json()["code"] == 10008
    assert post(url + "x", {"content": "x"}).json()["code"] == 50027


@pytest.mark.parametrize(
    ("content", "code", "place"),
    [
        ({"text": "as for Slack"}, 50006, ""),
        ({"content": "x" * 2001}, 50035, "content"),
        ({"embeds": [{"title": "x"}] * 11}, 50035, "embeds"),
        ({"embeds": [{"description": "x" * 4097}]}, 50035, "embeds.0.description"),
        ({"embeds": [{"title": "x" * 257}]}, 50035, "embeds.0.title"),
        ({"embeds": [{"title": "x", "color": "#ff0000"}]}, 50035, "embeds.0.color"),
        ({"embeds": [{"title": "x", "color": 1 << 24}]}, 50035, "embeds.0.color"),
        ({"embeds": [{"title": "x", "timestamp": "yesterday"}]}, 50035, "embeds.0.timestamp"),
        ({"embeds": [{"title": "x", "fields": [{"name": "a", "value": ""}]}]}, 50035, "embeds.0.fields.0.value"),
        ({"embeds": [{"description": "x" * 3500}] * 2}, 50035, "embeds"),
    ],
)
def test_discord_refuses_and_names_the_place(sinks: AlertSinks, content: dict[str, Any], code: int, place: str) -> None:
    answer = discord(sinks, **content)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    found = answer.json().get("errors", {"_errors": []})
    for part in filter(None, place.split(".")):
        found = found[part]
    assert "_errors" in found
    assert sinks.discord.messages == {}


def test_pagerduty_pages_once_for_an_alert_until_it_is_resolved(sinks: AlertSinks) -> None:
    answer = enqueue(sinks, event_action="trigger", dedup_key="a", payload=EVENT)
    assert (answer.status_code, answer.json()["status"], answer.json()["dedup_key"]) == (202, "success", "a")
    enqueue(sinks, event_action="trigger", dedup_key="a", payload=EVENT)
    enqueue(sinks, event_action="acknowledge", dedup_key="a")
    assert (sinks.pagerduty.pages, sinks.pagerduty.alerts["a"].state, sinks.pagerduty.alerts["a"].events) == (
        ["a"],
        "acknowledged",
        3,
    )
    enqueue(sinks, event_action="resolve", dedup_key="a")
    assert sinks.pagerduty.alerts["a"].state == "resolved"
    assert enqueue(sinks, event_action="resolve", dedup_key="never opened").status_code == 202
    enqueue(sinks, event_action="trigger", dedup_key="a", payload=EVENT)
    assert sinks.pagerduty.pages == ["a", "a"]
    assert len(enqueue(sinks, event_action="trigger", payload=EVENT).json()["dedup_key"]) == 32


@pytest.mark.parametrize(
    ("event", "problem"),
    [
        ({"routing_key": "short"}, "Length of 'routing_key' is incorrect (should be 32 characters)"),
        ({"routing_key": "0" * 32}, "Invalid routing key"),
        ({"event_action": "triggered"}, "'event_action'"),
        ({"dedup_key": "x" * 256}, "'dedup_key' is too long"),
        ({"event_action": "resolve"}, "'dedup_key' is missing"),
        ({"payload": None}, "'payload' is missing"),
        ({"payload": {**EVENT, "summary": "x" * 1025}}, "'payload.summary' is too long"),
        ({"payload": {**EVENT, "source": ""}}, "'payload.source' is missing"),
        ({"payload": {**EVENT, "severity": "high"}}, "'payload.severity' is invalid"),
        ({"links": [{"text": "no href"}]}, "'links' is invalid"),
    ],
)
def test_pagerduty_refuses_an_event_and_says_why(sinks: AlertSinks, event: dict[str, Any], problem: str) -> None:
    answer = enqueue(sinks, **{"event_action": "trigger", "payload": EVENT, **event})
    assert (answer.status_code, answer.json()["status"]) == (400, "invalid event")
    assert answer.json()["errors"][0].startswith(problem)
    assert sinks.pagerduty.alerts == {}


def test_the_webhook_records_headers_and_body_as_they_came(sinks: AlertSinks) -> None:
    body = b'{"b":1,  "a":2}'
    headers = {"Content-Type": "application/json", "X-Signature": "sha256=ab"}
    assert HTTP.post(f"{sinks.url}/hook/x", content=body, headers=headers).status_code == 200
    (one,) = sinks.received("webhook")
    assert (one.request.body, one.request.headers["x-signature"], one.payload) == (body, "sha256=ab", {"a": 2, "b": 1})


def test_a_heartbeat_knows_start_success_fail_and_exit_status(sinks: AlertSinks) -> None:
    url = sinks.environment()["HEARTBEAT_URL"]
    for ending in ("/start", "", "/fail", "/0", "/3"):
        assert HTTP.get(url + ending).status_code == 200
    assert HTTP.head(url).status_code == 200
    assert sinks.heartbeat.signals == ["start", "success", "fail", "success", "fail", "success"]
    assert HTTP.get(f"{sinks.url}/ping/no-uuid").status_code == 400
    assert HTTP.get(f"{sinks.url}/ping/00000000-0000-0000-0000-000000000000").status_code == 404


@pytest.mark.parametrize("kind", ["slack", "slack-webhook", "discord", "pagerduty", "webhook", "heartbeat"])
def test_every_sink_can_ask_to_wait_and_takes_the_next_request(sinks: AlertSinks, kind: Kind) -> None:
    environment = sinks.environment()
    urls = {
        "slack": environment["SLACK_API_URL"] + "auth.test",
        "slack-webhook": environment["SLACK_WEBHOOK_URL"],
        "discord": environment["DISCORD_WEBHOOK_URL"],
        "pagerduty": f"{sinks.url}/v2/enqueue",
        "webhook": environment["ALERT_WEBHOOK_URL"],
        "heartbeat": environment["HEARTBEAT_URL"],
    }
    event = {"routing_key": sinks.keys.pagerduty, "event_action": "trigger", "payload": EVENT, "text": "x", "content": "x"}
    login = {"Authorization": f"Bearer {sinks.keys.slack_token}"}
    sinks.disturb(kind, "rate-limit", retry_after=7)
    sinks.disturb(kind, "error")
    answers = [post(urls[kind], event, headers=login) for _ in range(3)]
    assert [answer.status_code for answer in answers[:2]] == [429, 500]
    assert answers[2].is_success
    assert float(answers[0].headers["Retry-After"]) == 7
    assert (len(sinks.received(kind)), len(sinks.exchanges(kind))) == (1, 3)


def test_discord_says_in_its_body_how_long_to_wait(sinks: AlertSinks) -> None:
    sinks.disturb("discord", "rate-limit", retry_after=0.35)
    answer = discord(sinks, content="x")
    assert (answer.json()["retry_after"], answer.headers["Retry-After"]) == (0.35, "0.35")


def test_a_connection_is_cut_before_or_after_the_request_was_carried_out(sinks: AlertSinks) -> None:
    for disturbance, pages in (("drop", 0), ("lost-answer", 1)):
        sinks.disturb("pagerduty", disturbance)  # type: ignore[arg-type]  # mypy widens the tuple's words to str
        with pytest.raises(httpx.TransportError):
            enqueue(sinks, event_action="trigger", dedup_key="a", payload=EVENT)
        assert len(sinks.pagerduty.pages) == pages
    assert [(one.status, one.accepted) for one in sinks.exchanges("pagerduty")] == [(0, False), (0, True)]


def test_a_request_hangs_until_the_sinks_are_calmed(sinks: AlertSinks) -> None:
    sinks.disturb("discord", "hang", times=2)
    begun = time.monotonic()
    with pytest.raises(httpx.ReadTimeout):
        HTTP.post(sinks.environment()["DISCORD_WEBHOOK_URL"], json={"content": "x"}, timeout=0.3)
    assert time.monotonic() - begun < 2
    sinks.calm()
    assert discord(sinks, content="x").status_code == 200
    assert len(sinks.received("discord")) == 1


def test_stopped_sinks_refuse_connections_and_keep_what_came() -> None:
    with AlertSinks() as sinks:
        assert discord(sinks, content="x").is_success
        sinks.stop()
        wait_until(lambda: is_port_free(sinks.port), timeout=5, what="the port to be free")
        with pytest.raises(httpx.ConnectError):
            discord(sinks, content="y")
        sinks.start()
        assert discord(sinks, content="z").is_success
        assert [one.payload["content"] for one in sinks.received("discord")] == ["x", "z"]


def test_no_secret_shows_in_what_is_printed_of_a_request(sinks: AlertSinks) -> None:
    say(sinks, text="x")
    discord(sinks, content="x")
    assert sinks.keys.slack_token not in repr(sinks.exchanges())
    assert sinks.keys.discord_webhook not in repr(sinks.exchanges())
    assert sinks.keys.slack_token not in repr(sinks.keys)
