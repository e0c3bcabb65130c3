"""The alert flow against the real Prefect server and the sinks. It runs in this process: its work is all in calls to others."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL, temporary_settings

from blocks.errors import DeliveryFailed
from flows.alert import flow as module
from flows.alert.flow import AlertRequest, alert
from shared.sandbox.alert_sinks import AlertSinks
from shared.sandbox.stack import Sandbox
from tests.patient import patient_client


class Site:
    """The sinks, and failed runs on the server."""

    def __init__(self, sandbox: Sandbox, sinks: AlertSinks) -> None:
        self.sandbox, self.sinks = sandbox, sinks

    def failed_run(self, flow: str, message: str) -> str:
        with patient_client(self.sandbox.prefect_api_url) as http:

            def post(path: str, body: dict[str, Any]) -> Any:
                return http.post(path, json=body).raise_for_status().json()

            flow_id = post("/flows/", {"name": flow})["id"]
            run_id = str(post("/flow_runs/", {"flow_id": flow_id, "state": {"type": "RUNNING"}})["id"])
            post(f"/flow_runs/{run_id}/set_state", {"state": {"type": "FAILED", "message": message}, "force": True})
        return run_id

    def deployed(self) -> str:
        """A deployment of the alert flow, which no worker serves."""
        with patient_client(self.sandbox.prefect_api_url) as http:
            flow_id = http.post("/flows/", json={"name": "alert"}).raise_for_status().json()["id"]
            deployment = {"name": f"apart-{secrets.token_hex(4)}", "flow_id": flow_id}
            return str(http.post("/deployments/", json=deployment).raise_for_status().json()["id"])

    def scheduled(self, deployment: str) -> list[dict[str, Any]]:
        """Parameters of the runs of a deployment."""
        query = {"flow_runs": {"deployment_id": {"any_": [deployment]}}}
        with patient_client(self.sandbox.prefect_api_url) as http:
            return [run["parameters"] for run in http.post("/flow_runs/filter", json=query).raise_for_status().json()]

    def alert(self, run_id: str, state: str = "") -> str:
        return asyncio.run(alert(AlertRequest(flow_run_id=UUID(run_id), state=state)))


@pytest.fixture(scope="module")
def sinks() -> Iterator[AlertSinks]:
    with AlertSinks() as running:
        yield running


@pytest.fixture
def site(sandbox: Sandbox, sinks: AlertSinks, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    sinks.clear()
    for name, value in {**sinks.environment(), "STACK_NAME": "told"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(module, "WAITS_S", (0.0,))
    updates = {PREFECT_API_URL: sandbox.prefect_api_url, PREFECT_UI_URL: sandbox.prefect_ui_url}
    with temporary_settings(updates=updates):
        yield Site(sandbox, sinks)


def test_a_failed_run_is_told_once_on_every_channel_of_its_severity_with_its_line_and_a_link(site: Site) -> None:
    run_id = site.failed_run("some-flow", "Flow run encountered an exception: BackupFailed: the disk is full")
    site.sinks.disturb("discord", "error")
    assert "BackupFailed: the disk is full" in site.alert(run_id, "Failed")
    site.alert(run_id, "Failed")
    (message,) = site.sinks.slack.messages
    assert "run some-flow: Failed" in message["text"]
    assert "the disk is full" in message["text"]
    assert f"{run_id}|Run" in str(message["blocks"])
    assert len(site.sinks.discord.messages) == 1  # although it failed at first
    assert len(site.sinks.received("webhook")) == 1
    assert site.sinks.pagerduty.pages == []  # an error, and it hears of what is critical


@pytest.mark.long
def test_a_channel_that_does_not_answer_fails_the_run_and_the_next_alert_brings_it_along(site: Site) -> None:
    first, second = (site.failed_run("some-flow", text) for text in ("one", "two"))
    site.sinks.disturb("slack", "error", times=2)
    with pytest.raises(DeliveryFailed, match="slack did not take it"):
        site.alert(first)
    site.alert(second)
    told = [("one" in message["text"], "two" in message["text"]) for message in site.sinks.slack.messages]
    assert sorted(told) == [(False, True), (True, False)]  # what failed less often goes first


@pytest.mark.long
def test_what_a_channel_did_not_take_is_sent_by_one_later_run_without_waiting_for_another_alert(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment = site.deployed()
    monkeypatch.setenv("PREFECT__RUNTIME__DEPLOYMENT__ID", deployment)
    monkeypatch.setattr(module, "AGAIN_S", 10**9)  # one span of time, whenever this runs
    site.sinks.disturb("slack", "error", times=3)  # two tries for the first, and one for the second, as it is known to be ill
    for text in ("one", "two"):
        with pytest.raises(DeliveryFailed, match=r"slack did not take it; .* sent again within"):
            site.alert(site.failed_run("some-flow", text))
    assert site.scheduled(deployment) == [{"request": {"rest": True}}]
    assert "everything is told" in asyncio.run(alert(AlertRequest(rest=True)))
    assert sorted("one" in message["text"] for message in site.sinks.slack.messages) == [False, True]


def test_a_channel_that_is_half_configured_fails_the_run_and_the_others_are_told(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACK_CHANNEL", "")
    with pytest.raises(DeliveryFailed, match="slack did not take it"):
        site.alert(site.failed_run("some-flow", "three"))
    assert len(site.sinks.discord.messages) == 1


def test_a_lone_channel_that_refuses_fails_the_run(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLACK_BOT_TOKEN", "SLACK_WEBHOOK_URL", "PAGERDUTY_ROUTING_KEY", "ALERT_WEBHOOK_URL"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("DISCORD_WEBHOOK_URL", f"{site.sinks.url}/api/webhooks/1/canary-77")
    monkeypatch.setenv("STACK_NAME", "lone")
    with pytest.raises(DeliveryFailed, match=r"Alerts do not reach discord.*no other channel") as raised:
        site.alert(site.failed_run("some-flow", "four"))
    assert "canary" not in str(raised.value)


def test_a_run_of_the_alert_flow_itself_is_told_nobody(site: Site) -> None:
    assert "never end" in site.alert(site.failed_run("alert", "broke"))
    assert site.sinks.exchanges() == []
