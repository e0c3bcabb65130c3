"""The automations at work on the real Prefect server, its notifications arriving at the sinks."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest

from flows.automations.wanted import Means, wanted
from shared.engines.process import wait_until
from tests.automations.conftest import Site

NO_SWEEPS = "[watched] no health sweeps"
NO_WORKER = "[watched] no worker takes runs"


def test_two_upserts_in_a_row_create_everything_once(site: Site) -> None:
    assert {change.verb for change in site.first} == {"create"}
    assert {change.verb for change in site.second} == {"keep"}
    assert {change.name for change in site.first} == {one.name for one in wanted(site.settings, means())}


def means() -> Means:
    tell, end = {name: uuid4() for name in ("slack", "discord", "pagerduty", "webhook")}, {"pagerduty": uuid4()}
    return Means(uuid4(), tell, end, dispatch_deployment=uuid4(), sweep_deployment=uuid4())


def test_what_is_no_longer_wanted_is_deleted_only_by_prune(site: Site) -> None:
    old = site.first[0].automation
    assert old is not None
    body = old.model_copy(update={"name": "watched: of an older version", "enabled": False}).model_dump(mode="json")
    site.post("/automations/", body)
    assert ("left over", "watched: of an older version") in [(change.verb, change.name) for change in site.upsert(dry_run=True)]
    assert [change.verb for change in site.upsert(prune=True) if change.verb != "keep"] == ["delete"]
    assert {change.verb for change in site.upsert(dry_run=True, prune=True)} == {"keep"}


@pytest.mark.long
def test_absent_sweeps_are_told_once_by_the_server_and_their_return_ends_it(site: Site) -> None:
    site.run("health", "Completed", "COMPLETED")
    alerts = site.sinks.pagerduty.alerts
    wait_until(lambda: NO_SWEEPS in alerts, timeout=60, what="the server to miss sweeps")
    site.run("health", "Completed", "COMPLETED")
    wait_until(lambda: alerts[NO_SWEEPS].state == "resolved", timeout=30, what="the server to say that sweeps are back")
    wait_until(
        lambda: len([one for one in site.sinks.received("discord") if "sweeps" in str(one.payload)]) >= 2,
        timeout=30,
        what="Discord to hear of both",
    )


def test_a_dead_worker_is_told_by_the_server_and_its_return_ends_it(site: Site) -> None:
    pool = {"prefect.resource.id": f"prefect.work-pool.{uuid4()}", "prefect.resource.name": "ops"}
    alerts = site.sinks.pagerduty.alerts
    site.emit("prefect.work-pool.not-ready", pool)
    wait_until(lambda: NO_WORKER in alerts, timeout=30, what="the server to say that no worker is there")
    assert alerts[NO_WORKER].payload["severity"] == "critical"
    site.emit("prefect.work-pool.ready", pool)
    wait_until(lambda: alerts[NO_WORKER].state == "resolved", timeout=30, what="the server to say that one is back")
    assert site.sinks.pagerduty.pages.count(NO_WORKER) == 1
    assert any(NO_WORKER in message["text"] for message in site.sinks.slack.messages)


@pytest.mark.long
def test_a_run_that_times_out_starts_the_alert_flow_on_the_worker_which_never_alerts_about_itself(site: Site) -> None:
    run_id = site.run("watched-flow", "TimedOut", "FAILED", "it took too long")

    def alert_runs() -> list[tuple[str, str]]:
        query = {"flows": {"name": {"any_": ["alert"]}}}
        found = [(one["id"], one["parameters"].get("request", {})) for one in site.post("/flow_runs/filter", query)]
        return [(alert, request["state"]) for alert, request in found if request.get("flow_run_id") == run_id]

    wait_until(lambda: bool(alert_runs()), timeout=30, what="the automation to start alert/flow-run", pause=0.3)
    ((alert_id, state),) = alert_runs()
    assert state == "TimedOut"
    assert site.sandbox.api.wait(alert_id, timeout=120).ok
    assert "told nobody" in site.sandbox.flow_logs(alert_id)  # the sandbox's worker has no channels
    broken = {"type": "FAILED", "name": "Failed", "message": "it broke"}
    site.post(f"/flow_runs/{alert_id}/set_state", {"state": broken, "force": True})
    wait_until(
        lambda: any("do not get through" in str(one.payload) for one in site.sinks.received("webhook")),
        timeout=30,
        what="the server to say that the alert flow failed",
    )
    told = site.post("/flow_runs/filter", {"flows": {"name": {"any_": ["alert"]}}})
    assert alert_id not in [one["parameters"].get("request", {}).get("flow_run_id") for one in told]


def test_secrets_are_in_the_blocks_and_nowhere_else(site: Site) -> None:
    automations = json.dumps(site.post("/automations/filter", {"limit": 200}))
    documents = json.dumps(site.post("/block_documents/filter", {"limit": 200}))
    log = site.sandbox.server.log.read_text(errors="replace")
    secrets = [value for name, value in vars(site.sinks.keys).items() if name != "heartbeat"]
    assert [secret for secret in secrets if secret in automations + documents + log] == []
