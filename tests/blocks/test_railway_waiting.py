"""A wait ends whatever becomes of the deployment, and SUCCESS is not taken for more than it says."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest

from blocks.errors import DeploymentFailed, RailwayRefused, WorkflowFailed
from blocks.railway_api.models import DeploymentStatus
from tests.blocks.railway_script import DROP, Answer, Script, api_of, deployment, environment, error

UNDER_WAY = ["QUEUED", "WAITING", "INITIALIZING", "BUILDING", "DEPLOYING", "REMOVING", "SOMETHING_NEW"]
FAST = {"poll": 0.01, "timeout": 100.0}


def waited(*turns: Mapping[str, Any] | Answer, **options: Any) -> tuple[DeploymentStatus, list[str]]:
    """Wait for a deployment that answers in these turns.

    Returns: how it ended, and the operations that were sent.
    """
    found = [one if isinstance(one, Answer) else {"deployment": dict(one)} for one in turns]
    answers = {
        "Inventory": [environment()],
        "Deployment": found,
        "DeploymentEvents": [{"deploymentEvents": {"edges": []}}],
        "DeploymentLogs": [{"deploymentLogs": [{"timestamp": "1", "message": "the last thing it said"}]}],
        "VariablesRendered": [{"variablesForServiceDeployment": {}}],
    }
    with Script(answers) as script, api_of(script) as api:
        ended = api.wait_for_deployment("deployment-1", **{**FAST, **options})
    return ended.status, script.operations()


def instances(*states: str) -> dict[str, Any]:
    return {"instances": [{"id": str(place), "status": state} for place, state in enumerate(states)]}


def test_a_deployment_that_becomes_active_is_waited_for_through_every_state_on_the_way() -> None:
    status, asked = waited(*(deployment(one) for one in UNDER_WAY), deployment("SUCCESS"))
    assert status is DeploymentStatus.SUCCESS
    assert asked == ["Deployment"] * (len(UNDER_WAY) + 1)


def test_one_that_sleeps_is_good() -> None:
    assert waited(deployment("SLEEPING", instances=[]))[0] is DeploymentStatus.SLEEPING


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("FAILED", "did not build"),
        ("CRASHED", "its process ended by itself"),
        ("SKIPPED", "Railway skipped it"),
        ("REMOVED", "it was taken down"),
        ("NEEDS_APPROVAL", "it waits for a person"),
    ],
)
def test_one_that_ends_otherwise_fails_at_once_with_its_last_words(status: str, said: str) -> None:
    begun = time.monotonic()
    with pytest.raises(DeploymentFailed, match=f"deployment deployment-1 is {status}: {said}") as caught:
        waited(deployment("BUILDING"), deployment(status), timeout=600.0)
    assert time.monotonic() - begun < 300
    assert (caught.value.status, caught.value.permanent) == (status, True)
    assert caught.value.log == ("the last thing it said",)


def test_success_of_the_old_image_is_a_failure_at_once() -> None:
    with pytest.raises(DeploymentFailed, match="it runs litellm:1, expected litellm:2"):
        waited(deployment("SUCCESS"), image="litellm:2", timeout=600.0)
    assert waited(deployment("SUCCESS"), image="litellm:1")[0] is DeploymentStatus.SUCCESS


def test_success_without_saying_of_what_is_none_where_it_matters() -> None:
    with pytest.raises(DeploymentFailed, match="it runs an image that Railway does not name, expected litellm:1"):
        waited(deployment("SUCCESS", meta=None), image="litellm:1")
    assert waited(deployment("SUCCESS", meta=None))[0] is DeploymentStatus.SUCCESS


@pytest.mark.parametrize("states", [["INITIALIZING"], ["CREATED", "RUNNING"], ["RESTARTING"], []])
def test_containers_may_take_a_moment_after_success(states: list[str]) -> None:
    assert waited(deployment(**instances(*states)), deployment(**instances("RUNNING")))[0] is DeploymentStatus.SUCCESS


def test_containers_of_the_past_do_not_count() -> None:
    assert waited(deployment(**instances("REMOVED", "RUNNING", "SKIPPED")))[0] is DeploymentStatus.SUCCESS


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"deploymentStopped": True}, "all its containers have stopped"),
        (instances("CRASHED"), "a container is CRASHED, expected RUNNING"),
        (instances("RUNNING", "RESTARTING"), "a container is RESTARTING, expected RUNNING"),
        (instances(), "no container of it runs"),
    ],
)
def test_success_without_running_containers_is_a_failure(given: dict[str, Any], said: str) -> None:
    with pytest.raises(DeploymentFailed, match=f"is SUCCESS: {said}"):
        waited(deployment("SUCCESS", **given), settle=0.05, timeout=600.0)


def test_a_process_that_is_to_end_is_waited_for_until_it_has() -> None:
    running, ended = deployment(**instances("RUNNING")), deployment(**instances("EXITED"))
    _, asked = waited(running, running, ended, until="finished", settle=0.0)
    assert len(asked) == 3
    assert waited(deployment(deploymentStopped=True, instances=[]), until="finished")[0] is DeploymentStatus.SUCCESS
    with pytest.raises(DeploymentFailed, match="is CRASHED"):
        waited(running, deployment("CRASHED"), until="finished")
    with pytest.raises(DeploymentFailed, match="its process has not ended yet"):
        waited(running, until="finished", timeout=0.1)


def test_a_wait_ends_when_its_time_is_over() -> None:
    with pytest.raises(DeploymentFailed, match=r"DEPLOYING after 0 s: it is still under way") as caught:
        waited(deployment("DEPLOYING"), timeout=0.1)
    assert caught.value.status == "DEPLOYING"


@pytest.mark.long
def test_an_outage_of_the_api_during_a_wait_is_waited_out() -> None:
    assert waited(deployment("BUILDING"), *[DROP] * 4, Answer("", 503), deployment("SUCCESS"))[0] is DeploymentStatus.SUCCESS


def test_a_deployment_that_does_not_exist_is_not_waited_for() -> None:
    with pytest.raises(RailwayRefused, match="Deployment not found"):
        waited(error("Deployment not found"), timeout=600.0)


# --- operations of the platform --------------------------------------------------------------------------------------------


def workflow(*turns: str | Answer, **options: Any) -> int:
    found = [one if isinstance(one, Answer) else {"workflowStatus": {"status": one, "error": None}} for one in turns]
    with Script({"Workflow": found}) as script, api_of(script) as api:
        api.wait_for_workflow("workflow-1", **{"poll": 0.01, "timeout": 100.0, **options})
    return len(script.asked)


def test_an_operation_may_be_unknown_at_first() -> None:
    assert workflow("NotFound", "NotFound", "Running", DROP, "Running", "Complete") == 6


def test_an_operation_that_stays_unknown_is_given_up() -> None:
    with pytest.raises(WorkflowFailed, match=r"knows no operation workflow-1 after 0 s; look at its result"):
        workflow("NotFound", absent=0.05)


def test_an_operation_that_fails_says_why() -> None:
    failed = Answer({"data": {"workflowStatus": {"status": "Error", "error": "no space, token=canary-1"}}})
    with pytest.raises(WorkflowFailed, match="the operation workflow-1 failed: no space") as caught:
        workflow("Running", failed)
    assert "canary" not in str(caught.value)


def test_an_operation_that_takes_too_long_may_still_end_and_that_is_said() -> None:
    with pytest.raises(WorkflowFailed, match="is Running after 0 s, expected Complete; it may still end"):
        workflow("Running", timeout=0.1)
