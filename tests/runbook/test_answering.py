"""Runs that wait for a person, on the real Prefect server: answered from anywhere, and the audit trail says by whom."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from blocks.errors import ApprovalMissing
from blocks.object_store import BackupStore
from flows.approval import NAMELESS, approve
from flows.lease import utc_now
from flows.runbook.answer import main
from flows.runbook.answering import PrefectAnswers, approved_elsewhere
from flows.runbook.audit import Entry, Trail, read
from flows.runbook.frame import Action, Diagnosis, Runbook, RunbookRequest, Verdict
from flows.runbook.heal import Means, heal
from shared.engines.process import wait_until
from shared.sandbox.stack import Sandbox
from tests.patient import patient_client
from tests.runbook.cases import PACE


@pytest.fixture
def http(sandbox: Sandbox) -> Iterator[httpx.Client]:
    settings = {PREFECT_API_URL: sandbox.prefect_api_url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
    with patient_client(sandbox.prefect_api_url) as client, temporary_settings(settings):
        yield client


def waiting_run(http: httpx.Client, incident: str = "prod/redis/ping/20261126T030000Z") -> str:
    """A run that was proposed: made in its waiting state, before it began."""
    flow_id = http.post("/flows/", json={"name": "proposed"}).raise_for_status().json()["id"]
    state = {"type": "PAUSED", "name": "Suspended", "message": "redis-memory would run; resume to approve"}
    body = {"flow_id": flow_id, "name": f"run-{secrets.token_hex(4)}", "state": state}
    made = http.post("/flow_runs/", json={**body, "parameters": {"request": {"incident": incident}}}).raise_for_status()
    return str(made.json()["id"])


def state_of(http: httpx.Client, run_id: str) -> dict[str, Any]:
    return dict(http.get(f"/flow_runs/{run_id}").raise_for_status().json())


@pytest.mark.parametrize(("approves", "word"), [(True, "approved"), (False, "rejected")])
def test_who_answers_a_run_that_has_not_begun_is_written_down_with_the_incident(
    http: httpx.Client, approves: bool, word: str
) -> None:
    run_id, kept = waiting_run(http), list[Entry]()
    answers = PrefectAnswers("prod", kept.append)
    assert f"is {word}" in asyncio.run(answers.answer(UUID(run_id), approve=approves, by="slack U042"))
    assert "does not wait any more" in asyncio.run(answers.answer(UUID(run_id), approve=approves, by="slack U666"))
    (entry,) = kept
    assert (entry.kind, entry.result, entry.by, entry.run) == ("decided", word, "slack U042", run_id)
    assert entry.incident == "prod/redis/ping/20261126T030000Z"
    assert "redis-memory would run" in entry.what
    if not approves:
        assert state_of(http, run_id)["state"]["message"] == "rejected by slack U042"


def test_a_run_knows_whether_it_was_let_begin_where_nobody_writes_it_down(http: httpx.Client) -> None:
    seen = []

    @flow(name="proposed")
    def proposed(request: dict[str, str]) -> None:
        seen.append(approved_elsewhere())

    def begin(run_id: str) -> None:
        with get_client(sync_client=True) as client:
            run_flow(proposed, flow_run=client.read_flow_run(UUID(run_id)), parameters={"request": {}})

    in_pages, by_us = waiting_run(http), waiting_run(http)
    http.post(f"/flow_runs/{in_pages}/resume", json={}).raise_for_status()
    asyncio.run(PrefectAnswers("prod").answer(UUID(by_us), approve=True, by="cli ada"))
    begin(in_pages)
    begin(by_us)
    proposed({})
    assert seen == [True, False, False]
    assert not approved_elsewhere(), "outside a run there is nothing to know"


def test_the_command_lists_what_waits_and_answers_it(http: httpx.Client, capsys: pytest.CaptureFixture[str]) -> None:
    run_id = waiting_run(http)
    assert main([]) == 0
    assert f"{run_id}  run-" in capsys.readouterr().out
    assert main([run_id, "reject", "--by", "ada"]) == 0
    assert state_of(http, run_id)["state_type"] == "CANCELLED"
    assert main([run_id, "approve"]) == 1, "it does not wait any more"
    with pytest.raises(SystemExit):
        main([run_id])


# --- approvals in the middle of a run ----------------------------------------------------------------------------------------


class Asks(Action):
    """Needs an approval."""

    @property
    def asks(self) -> str:
        return "it deletes"

    def describe(self) -> str:
        return "delete it"

    def do(self) -> str:
        return "deleted"


class Sick(Runbook):
    """Well after its one action."""

    name, service = "a-runbook", "redis"

    def diagnose(self) -> Diagnosis:
        return Diagnosis(Verdict.HEALS, "it is sick", {}, (Asks(),))

    def wrong(self) -> list[str]:
        return []


def test_the_trail_of_a_runbook_says_who_approved_where_that_is_known(store: BackupStore) -> None:
    for number, by in enumerate(("slack U042", None)):
        means = Means(store.stack, Trail(store), lambda _, by=by: by, pace=PACE)  # type: ignore[misc]  # bound at once
        heal(Sick(), RunbookRequest(by="automation", incident=f"a/b/c/{number}"), means)
    begin, end = utc_now() - timedelta(minutes=9), utc_now() + timedelta(minutes=1)
    found = [one for one in read(store, begin, end) if one.kind == "decided"]
    assert [(one.result, one.by) for one in found] == [("approved", "slack U042"), ("approved", "automation")]


@pytest.mark.long
@pytest.mark.parametrize(
    ("form", "result", "by"),
    [
        ({"decision": "approve", "confirm": "prod", "by": "slack U042"}, "approved", "slack U042"),
        ({"decision": "approve", "confirm": "prod"}, "approved", NAMELESS),
        ({"decision": "reject", "by": "ada"}, "rejected by ada; nothing was changed", "ada"),
        ({"decision": "approve", "confirm": "staging"}, "confirmed for 'staging'", NAMELESS),
    ],
)
def test_what_a_person_fills_in_is_written_down_with_the_name(
    http: httpx.Client, form: dict[str, str], result: str, by: str
) -> None:
    """As Slack's button and Prefect's pages fill it in; Prefect looks every ten seconds."""
    kept, ended, runs = list[Entry](), list[str](), list[str]()

    @flow(name="asks")
    def asks() -> None:
        from prefect.runtime import flow_run

        runs.append(str(flow_run.id))
        try:
            ended.append(approve("prod", "", "deletes\neverything", kept.append))
        except ApprovalMissing as error:
            ended.append(str(error))

    thread = threading.Thread(target=_within, args=(str(http.base_url), asks))
    thread.start()
    wait_until(lambda: bool(runs) and state_of(http, runs[0])["state_type"] == "PAUSED", timeout=120, what="it to ask")
    http.post(f"/flow_runs/{runs[0]}/resume", json={"run_input": form}).raise_for_status()
    thread.join(120)
    (entry,) = kept
    assert (entry.actor, entry.what, entry.by, entry.run) == ("asks", "deletes everything", by, runs[0])
    assert entry.result.startswith(result)
    assert ended == [by if result == "approved" else entry.result]


def _within(url: str, asks: Any) -> None:
    """Settings of tests are those of one thread."""
    with temporary_settings({PREFECT_API_URL: url.rstrip("/"), PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
        asks()
