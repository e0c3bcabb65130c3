"""Each channel against a sink that refuses what the real service refuses."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr

from blocks.alerts import Channel, channels
from blocks.alerts.configured import kind_of
from blocks.alerts.slack import SlackBot, SlackWebhook
from blocks.errors import DeliveryFailed
from blocks.settings import Settings
from shared.sandbox.alert_sinks import AlertSinks
from shared.sandbox.alert_sinks.server import Kind
from tests.alerts.notices import KEY, T0, notice

SINK_OF: dict[str, Kind] = {"slack": "slack", "discord": "discord", "pagerduty": "pagerduty", "webhook": "webhook"}
NAMES = list(SINK_OF)


@pytest.fixture
def by_name(settings: Settings) -> dict[str, Channel]:
    return {channel.name: channel for channel in channels(settings)}


# --- what arrives --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["opened", "reminded", "escalated", "acknowledged", "closed", "failed-run"])
def test_every_channel_takes_every_kind_of_notice(by_name: dict[str, Channel], sinks: AlertSinks, name: str, kind: str) -> None:
    first = by_name[name].notify(notice())
    by_name[name].notify(notice(kind, thread=first.thread))
    assert all(one.accepted for one in sinks.exchanges(SINK_OF[name]))
    assert len(sinks.received(SINK_OF[name])) >= 2


@pytest.mark.parametrize("name", NAMES)
def test_texts_longer_than_the_channel_takes_are_cut_not_refused(
    by_name: dict[str, Channel], sinks: AlertSinks, name: str
) -> None:
    long: dict[str, Any] = {
        "sentence": "<x&> 💥" * 3000,
        "casualties": tuple(f"service-{i}" for i in range(900)),
        "service": "s" * 300,
    }
    first = by_name[name].notify(notice(**long))
    by_name[name].notify(notice("closed", thread=first.thread, **long))
    assert [one.refused for one in sinks.exchanges(SINK_OF[name])] == [""] * len(sinks.exchanges(SINK_OF[name]))


def test_slack_has_buttons_only_where_the_gateway_hears_of_them(settings: Settings, sinks: AlertSinks) -> None:
    waiting = notice("failed-run", aspect="Paused", dedup_key="prod/run-20261126T030000Z/0b0f6f0e/Paused")
    for secret, buttons in ((None, 0), (SecretStr("signing"), 4)):
        sinks.clear()
        (bot,) = [one for one in channels(settings.model_copy(update={"slack_signing_secret": secret})) if one.name == "slack"]
        for told in (notice(), waiting):
            bot.notify(told)
        shown = [block for message in sinks.slack.messages for block in message["blocks"] if block["type"] == "actions"]
        assert sum(len(block["elements"]) for block in shown) == buttons
        assert all(one.accepted for one in sinks.exchanges("slack"))


def test_slack_has_one_message_an_incident_with_a_thread_and_it_is_updated_on_close(
    by_name: dict[str, Channel], sinks: AlertSinks
) -> None:
    slack = by_name["slack"]
    thread = slack.notify(notice()).thread
    slack.notify(notice("reminded", thread=thread))
    assert slack.notify(notice("closed", thread=thread)).thread == thread
    first, *replies = sinks.slack.messages
    assert (first["ts"], [reply["thread_ts"] for reply in replies]) == (thread, [thread, thread])
    assert "recovered after 12 min" in first["text"]
    assert "edited" in first
    shown = json.dumps(first["blocks"])
    assert "http://prefect/deployments|Runbook" in shown
    assert "http://prefect/runs/flow-run/1|Run" in shown


def test_slack_goes_on_where_somebody_deleted_the_first_message(by_name: dict[str, Channel], sinks: AlertSinks) -> None:
    thread = by_name["slack"].notify(notice()).thread
    sinks.slack.clear()
    receipt = by_name["slack"].notify(notice("closed", thread=thread))
    assert [message["ts"] for message in sinks.slack.messages] == [receipt.thread]


def test_slack_markup_in_an_error_is_shown_as_text(by_name: dict[str, Channel], sinks: AlertSinks) -> None:
    by_name["slack"].notify(notice(sentence="ERROR: <!channel> a&b"))
    assert "&lt;!channel&gt; a&amp;b" in sinks.slack.messages[0]["text"]


def test_a_slack_message_that_was_cut_off_is_found_again(by_name: dict[str, Channel], sinks: AlertSinks) -> None:
    slack = by_name["slack"]
    sinks.disturb("slack", "lost-answer")
    with pytest.raises(DeliveryFailed) as raised:
        slack.notify(notice())
    assert raised.value.uncertain
    # The clock of the test stands in the past; Slack's does not.
    found = slack.find(notice(), T0)
    assert found is not None
    assert found.thread == sinks.slack.messages[0]["ts"]
    assert slack.find(notice("reminded", thread=found.thread), T0) is None
    slack.notify(notice("reminded", thread=found.thread))
    assert slack.find(notice("reminded", thread=found.thread), T0) == found


def test_a_bot_that_may_not_read_the_channel_finds_nothing(settings: Settings) -> None:
    bot = SlackBot(SecretStr("xoxb-wrong"), settings.slack_channel, "warning", url=settings.slack_api_url)
    assert bot.find(notice(), T0) is None


def test_a_slack_webhook_posts_a_message_each(sinks: AlertSinks, settings: Settings) -> None:
    (channel,) = channels(Settings(slack_webhook_url=settings.slack_webhook_url))
    assert isinstance(channel, SlackWebhook)
    channel.notify(notice())
    channel.notify(notice("closed"))
    assert len(sinks.received("slack-webhook")) == 2


def test_discord_gets_embeds_not_text_and_the_first_is_edited_on_recovery(
    by_name: dict[str, Channel], sinks: AlertSinks
) -> None:
    """The predecessor posted `text`, which Discord rejects (defect 20)."""
    thread = by_name["discord"].notify(notice()).thread
    assert thread in sinks.discord.messages
    by_name["discord"].notify(notice("closed", thread=thread))
    first, second = sinks.discord.messages.values()
    assert "edited_timestamp" in first
    assert "recovered after 12 min" in second["embeds"][0]["title"]
    payload = sinks.received("discord")[0].payload
    assert "text" not in payload
    assert payload["allowed_mentions"] == {"parse": []}
    colours = [one.payload["embeds"][0]["color"] for one in sinks.received("discord")]
    assert colours[0] != colours[1] == colours[2]


def test_discord_goes_on_where_somebody_deleted_the_first_message(by_name: dict[str, Channel], sinks: AlertSinks) -> None:
    thread = by_name["discord"].notify(notice()).thread
    sinks.discord.clear()
    by_name["discord"].notify(notice("closed", thread=thread))
    assert len(sinks.discord.messages) == 1


def test_pagerduty_is_triggered_acknowledged_and_resolved_under_one_key(by_name: dict[str, Channel], sinks: AlertSinks) -> None:
    """The predecessor never resolved (defect 20)."""
    pagerduty = by_name["pagerduty"]
    pagerduty.notify(notice())
    pagerduty.notify(notice())
    pagerduty.notify(notice("acknowledged"))
    assert sinks.pagerduty.alerts[KEY].state == "acknowledged"
    pagerduty.notify(notice("closed"))
    assert sinks.pagerduty.alerts[KEY].state == "resolved"
    assert sinks.pagerduty.pages == [KEY]
    event = sinks.received("pagerduty")[0].payload
    assert (event["payload"]["severity"], event["payload"]["source"], event["payload"]["component"]) == (
        "critical",
        "prod",
        "postgres",
    )
    assert [link["text"] for link in event["links"]] == ["Runbook", "Run", "Status page"]


def test_the_webhook_is_signed_over_timestamp_and_body_and_tells_repetitions(
    by_name: dict[str, Channel], sinks: AlertSinks
) -> None:
    by_name["webhook"].notify(notice())
    by_name["webhook"].notify(notice())
    first, second = (one.request for one in sinks.received("webhook"))
    timestamp = first.headers["x-alert-timestamp"]
    expected = hmac.new(sinks.keys.webhook.encode(), timestamp.encode() + b"." + first.body, hashlib.sha256).hexdigest()
    assert first.headers["x-alert-signature"] == f"v1={expected}"
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"] == f"{KEY}/opened/1"
    said = first.json()
    assert (said["kind"], said["dedup_key"], said["severity"]) == ("opened", KEY, "critical")
    assert said["text"].startswith("[prod] postgres: critical\n")


def test_a_webhook_without_a_secret_is_not_signed(sinks: AlertSinks, settings: Settings) -> None:
    (channel,) = channels(Settings(alert_webhook_url=settings.alert_webhook_url))
    channel.notify(notice())
    assert "x-alert-signature" not in sinks.received("webhook")[0].request.headers


def test_what_is_told_too_late_says_so_in_one_message(by_name: dict[str, Channel], sinks: AlertSinks) -> None:
    by_name["slack"].notify(notice("closed", late=True))
    (message,) = sinks.slack.messages
    assert "was in trouble for 12 min and has recovered" in message["text"]


# --- what does not -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_429_is_waited_out_as_long_as_it_says(by_name: dict[str, Channel], sinks: AlertSinks, name: str) -> None:
    """Statuses are checked (the predecessor never did, defect 20)."""
    sinks.disturb(SINK_OF[name], "rate-limit", retry_after=7)
    with pytest.raises(DeliveryFailed, match="429") as raised:
        by_name[name].notify(notice())
    assert (raised.value.permanent, raised.value.retry_after) == (False, 7.0)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("disturbance", ["error", "drop", "lost-answer"])
def test_trouble_on_the_way_is_worth_a_retry_and_is_tried_once(
    by_name: dict[str, Channel], sinks: AlertSinks, name: str, disturbance: Any
) -> None:
    sinks.disturb(SINK_OF[name], disturbance)
    with pytest.raises(DeliveryFailed) as raised:
        by_name[name].notify(notice())
    assert raised.value.permanent is False
    assert raised.value.uncertain
    assert len(sinks.exchanges(SINK_OF[name])) == 1


WRONG: dict[str, dict[str, Any]] = {
    "slack": {"slack_bot_token": SecretStr("xoxb-canary-77")},
    "discord": {"discord_webhook_url": SecretStr("URL/api/webhooks/1200000000000000001/canary-77")},
    "pagerduty": {"pagerduty_routing_key": SecretStr("canary77canary77canary77canary77")},
    "webhook": {"alert_webhook_url": SecretStr("URL/nowhere/canary-77")},
}


@pytest.mark.parametrize("name", NAMES)
def test_a_refusal_is_permanent_and_says_which_setting(
    settings: Settings, sinks: AlertSinks, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    changes = {field: SecretStr(value.get_secret_value().replace("URL", sinks.url)) for field, value in WRONG[name].items()}
    channel = next(one for one in channels(settings.model_copy(update=changes)) if one.name == name)
    with pytest.raises(DeliveryFailed, match=next(iter(changes)).upper()) as raised:
        channel.notify(notice())
    assert raised.value.permanent
    assert raised.value.__suppress_context__ or raised.value.__context__ is None
    assert "canary" not in str(raised.value) + repr(raised.value) + repr(channel) + caplog.text


@pytest.mark.parametrize("name", NAMES)
def test_no_secret_is_logged_or_shown_when_all_goes_well_or_nobody_answers(
    settings: Settings, sinks: AlertSinks, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    channel = next(one for one in channels(settings) if one.name == name)
    channel.notify(notice())
    sinks.disturb(SINK_OF[name], "drop")
    with pytest.raises(DeliveryFailed) as raised:
        channel.notify(notice())
    shown = caplog.text + str(raised.value) + repr(channel) + repr(vars(channel))
    keys = sinks.keys
    secrets = [keys.slack_token, keys.slack_webhook, keys.discord_webhook, keys.pagerduty, keys.webhook]
    assert [secret for secret in secrets if secret in shown] == []


def test_a_channel_that_hangs_is_left_after_a_few_seconds(
    by_name: dict[str, Channel], sinks: AlertSinks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vars(by_name["discord"])["_hook"], "_timeout", 0.2)
    sinks.disturb("discord", "hang")
    with pytest.raises(DeliveryFailed, match="ReadTimeout") as raised:
        by_name["discord"].notify(notice())
    assert raised.value.uncertain


# --- which there are -----------------------------------------------------------------------------------------------------


def test_nothing_configured_is_no_channel() -> None:
    assert channels(Settings()) == []


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://hooks.slack.com/services/T/B/x", "slack"),
        ("https://discord.com/api/webhooks/1/x", "discord"),
        ("https://ptb.discord.com/api/webhooks/1/x", "discord"),
        ("https://discordapp.com/api/webhooks/1/x", "discord"),
        ("https://events.pagerduty.com/v2/enqueue", "pagerduty"),
        ("https://HOOKS.SLACK.COM/services/T/B/x", "slack"),
        ("https://hooks.slack.com.evil.example/x", "webhook"),
        ("https://notdiscord.com/x", "webhook"),
        ("https://example.org/hook", "webhook"),
        ("https://[example.org/hook", "webhook"),
    ],
)
def test_the_predecessors_webhook_is_known_by_its_host(url: str, kind: str) -> None:
    assert kind_of(url) == kind


@pytest.mark.parametrize(
    "url",
    [
        "https://events.pagerduty.com/integration/0123456789abcdef0123456789abcdef/enqueue",
        "https://events.pagerduty.com/v2/enqueue?routing_key=0123456789abcdef0123456789abcdef",
    ],
)
def test_the_predecessors_webhook_may_be_pagerdutys(url: str) -> None:
    (channel,) = channels(Settings(alert_webhook_url=SecretStr(url)))
    assert (type(channel).__name__, channel.name, channel.pages) == ("PagerDuty", "webhook", True)


def test_pagerdutys_url_alone_is_refused_with_what_to_set() -> None:
    (channel,) = channels(Settings(alert_webhook_url=SecretStr("https://events.pagerduty.com/v2/enqueue")))
    assert "set PAGERDUTY_ROUTING_KEY" in channel.problem
    assert (channel.name, channel.pages, channel.repeatable) == ("webhook", True, True)


def test_one_webhook_under_two_settings_is_one_channel() -> None:
    url = SecretStr("https://discord.com/api/webhooks/1/x")
    assert [one.name for one in channels(Settings(discord_webhook_url=url, alert_webhook_url=url))] == ["discord"]


def test_a_bot_without_a_channel_takes_nothing_and_says_why_and_the_others_are_there() -> None:
    bot, pager = channels(Settings(slack_bot_token=SecretStr("xoxb-1"), pagerduty_routing_key=SecretStr("x")))
    assert (bot.name, pager.name, pager.problem) == ("slack", "pagerduty", "")
    with pytest.raises(DeliveryFailed, match="slack: setting SLACK_CHANNEL is not set") as raised:
        bot.notify(notice())
    assert not raised.value.permanent
    with pytest.raises(DeliveryFailed, match="slack: setting SLACK_CHANNEL is not set"):
        bot.find(notice(), T0)


@pytest.mark.parametrize("field", ["discord_webhook_url", "alert_webhook_url", "slack_webhook_url"])
def test_what_is_no_url_is_refused_without_showing_it(field: str) -> None:
    (channel,) = channels(Settings(**{field: SecretStr("canary-77")}))  # type: ignore[arg-type]  # one of three fields
    assert field.upper() in channel.problem
    assert "canary" not in channel.problem


def test_pdpyras_does_not_warn_that_it_is_deprecated(recwarn: pytest.WarningsRecorder) -> None:
    channels(Settings(pagerduty_routing_key=SecretStr("x")))
    assert [str(warning.message) for warning in recwarn if "pdpyras" in str(warning.message)] == []


def test_a_reminder_says_for_how_long() -> None:
    from blocks.alerts.base import duration

    spans = [timedelta(seconds=5), timedelta(minutes=12), timedelta(hours=3, minutes=5), timedelta(days=2, hours=4)]
    assert [duration(span) for span in spans] == ["5 s", "12 min", "3 h 5 min", "2 d 4 h"]
