"""The outbox and the real channels, which speak to sinks that refuse what the real services refuse."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from blocks.alerts import channels
from blocks.errors import DeliveryFailed
from blocks.settings import Settings
from flows.health.ledger import Outbox
from shared.sandbox.alert_sinks import AlertSinks
from tests.health.telling import KEY, World, happening


@pytest.fixture(scope="module")
def sinks() -> object:
    with AlertSinks() as running:
        yield running


def test_an_incident_on_four_real_channels_through_trouble_on_each(sinks: AlertSinks) -> None:
    made = Settings(**{name.lower(): value for name, value in sinks.environment().items()})  # type: ignore[arg-type]  # text
    world = World(*channels(made))
    sinks.disturb("slack", "lost-answer")
    sinks.disturb("discord", "rate-limit", retry_after=30)
    sinks.disturb("pagerduty", "lost-answer")
    sinks.disturb("webhook", "error")
    world.sweep(happening("opened", at=datetime.now(UTC)))
    world.now = datetime.now(UTC)
    world.sweep()
    world.sweep(happening("escalated", escalated=True))
    world.sweep(happening("closed", escalated=True))
    assert world.outbox == Outbox()
    first, *replies = sinks.slack.messages
    assert len(replies) == 2
    assert {reply["thread_ts"] for reply in replies} == {first["ts"]}
    assert "recovered" in first["text"]
    assert len(sinks.discord.messages) == 3
    assert sinks.pagerduty.pages == [KEY]
    assert sinks.pagerduty.alerts[KEY].state == "resolved"
    assert [one.payload["kind"] for one in sinks.received("webhook")] == ["opened", "escalated", "closed"]
    text = json.dumps(world.text)
    assert [secret for secret in vars(sinks.keys).values() if secret in text] == []


def test_an_error_that_reports_a_channel_has_no_secret(sinks: AlertSinks) -> None:
    sinks.clear()
    made = Settings(**{name.lower(): value for name, value in sinks.environment().items()})  # type: ignore[arg-type]  # text
    wrong = made.model_copy(update={"discord_webhook_url": made.alert_webhook_url, "alert_webhook_url": None})
    world = World(*channels(wrong))
    world.sweep(happening("opened"))
    told = [one.payload for one in sinks.received("slack")]
    assert any("Alerts do not reach discord" in str(one) for one in told)
    assert isinstance(world.outbox.channels["discord"].case, str)
    assert DeliveryFailed("x").uncertain is False
