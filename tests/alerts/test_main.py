"""`python -m blocks.alerts`."""

from __future__ import annotations

import pytest

from blocks.alerts.__main__ import main
from shared.sandbox.alert_sinks import AlertSinks


@pytest.fixture
def environment(sinks: AlertSinks, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, value in sinks.environment().items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_each_channel_is_tested_and_nothing_is_left_open(
    environment: pytest.MonkeyPatch, sinks: AlertSinks, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--test"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{name}: took a test message, and its end" for name in ("slack", "discord", "pagerduty", "webhook")
    ]
    assert [alert.state for alert in sinks.pagerduty.alerts.values()] == ["resolved"]
    assert "recovered" in sinks.slack.messages[0]["text"]


def test_one_that_does_not_take_it_is_named_and_the_others_are_tested(
    environment: pytest.MonkeyPatch, sinks: AlertSinks, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("DISCORD_WEBHOOK_URL", f"{sinks.url}/api/webhooks/1/canary-77")
    assert main(["--test"]) == 1
    said = capsys.readouterr()
    assert "discord: answered 404" in said.err
    assert "DISCORD_WEBHOOK_URL" in said.err
    assert "canary" not in said.out + said.err
    assert "pagerduty: took" in said.out


def test_one_that_is_half_configured_is_named_and_the_others_are_tested(
    environment: pytest.MonkeyPatch, sinks: AlertSinks, capsys: pytest.CaptureFixture[str]
) -> None:
    environment.setenv("SLACK_CHANNEL", "")
    assert main(["--test"]) == 1
    said = capsys.readouterr()
    assert "slack: setting SLACK_CHANNEL is not set" in said.err
    assert "pagerduty: took" in said.out


def test_without_test_nothing_is_sent(
    environment: pytest.MonkeyPatch, sinks: AlertSinks, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--only", "pagerduty"]) == 0
    assert capsys.readouterr().out == "pagerduty: hears of incidents from critical on\n"
    assert sinks.exchanges() == []


def test_no_channel_at_all_says_what_to_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--test"]) == 1
    assert "no channel is configured" in capsys.readouterr().err
