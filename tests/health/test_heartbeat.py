"""The heartbeat against a sink as healthchecks.io is one."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Iterator
from typing import Literal

import pytest
from pydantic import SecretStr

from blocks.settings import Settings
from flows.health.heartbeat import ping, ping_async
from shared.engines.process import free_port
from shared.sandbox.alert_sinks import AlertSinks


@pytest.fixture(scope="module")
def shared_sinks() -> Iterator[AlertSinks]:
    with AlertSinks() as running:
        yield running


@pytest.fixture
def sinks(shared_sinks: AlertSinks) -> AlertSinks:
    shared_sinks.clear()
    return shared_sinks


def at(url: str) -> Settings:
    return Settings(heartbeat_url=SecretStr(url))


def test_start_success_and_fail_arrive_with_the_run_and_a_line(sinks: AlertSinks) -> None:
    settings, run = at(sinks.environment()["HEARTBEAT_URL"]), str(uuid.uuid4())
    assert ping(settings, "start", run_id=run)
    assert asyncio.run(ping_async(settings, "success", run_id=run, said="9 of 9 up"))
    assert ping(settings, "fail", said="broke off")
    assert sinks.heartbeat.signals == ["start", "success", "fail"]
    assert [(one.payload["run"], one.payload["body"]) for one in sinks.received("heartbeat")] == [
        (run, ""),
        (run, "9 of 9 up"),
        (None, "broke off"),
    ]


def test_none_configured_is_none_sent() -> None:
    assert ping(Settings(), "success")


@pytest.mark.parametrize("trouble", ["error", "drop", "rate-limit"])
def test_trouble_fails_nothing_and_is_said_without_the_url(
    sinks: AlertSinks, trouble: Literal["error", "drop", "rate-limit"], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    sinks.disturb("heartbeat", trouble)
    assert not ping(at(sinks.environment()["HEARTBEAT_URL"]), "success")
    assert [record.levelno for record in caplog.records if "heartbeat (success) was not taken" in record.message] == [
        logging.WARNING
    ]
    assert sinks.keys.heartbeat not in caplog.text


@pytest.mark.parametrize("url", ["canary-77", "http://127.0.0.1:{port}/canary-77"])
def test_a_wrong_url_or_nobody_there_is_said_in_the_log(url: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    assert not ping(at(url.format(port=free_port())), "start")
    assert "the heartbeat (start) was not taken" in caplog.text
    assert "canary" not in caplog.text
