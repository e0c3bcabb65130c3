"""What may not be touched: the operations layer itself, other environments, and what somebody else has staged."""

from __future__ import annotations

from typing import Any

import pytest

from blocks.errors import GuardRefused
from tests.blocks.railway_script import Script, api_of, deployment, environment

DEPLOYED = {"serviceInstanceDeployV2": "deployment-2"}


ACTIONS = ["stop", "remove", "restart", "redeploy", "rollback", "cancel"]


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("name", ["prefect-worker", "prefect-server"])
def test_a_deployment_of_the_operations_layer_is_left_alone(action: str, name: str) -> None:
    answers = {
        "Inventory": [environment()],
        "Deployment": [{"deployment": deployment(serviceId=f"service-{name}")}],
    }
    with (
        Script(answers) as script,
        api_of(script) as api,
        pytest.raises(GuardRefused, match=f"of {name} was not done: it operates the stack"),
    ):
        getattr(api, action)("deployment-1")
    assert set(script.operations()) == {"Inventory", "Deployment"}


def test_the_service_that_this_runs_in_is_protected_whatever_its_name() -> None:
    with Script({"Inventory": [environment()]}) as script, api_of(script, own_service_id="service-litellm") as api:
        for attempt in (api.deploy, api.delete_service, lambda one: api.set_image(one, "x:1")):
            with pytest.raises(GuardRefused, match="litellm was not done: this very program runs in it"):
                attempt("service-litellm")
    assert script.operations() == ["Inventory"]


def test_protection_is_lifted_by_name_and_for_that_name_only() -> None:
    with (
        Script({"Inventory": [environment()], "Deploy": [DEPLOYED]}) as script,
        api_of(script, allow=["prefect-worker"], own_service_id="service-prefect-worker") as api,
    ):
        assert api.deploy("service-prefect-worker") == "deployment-2"
        with pytest.raises(GuardRefused):
            api.deploy("service-prefect-server")


def test_a_service_of_another_environment_is_left_alone() -> None:
    foreign = deployment(environmentId="environment-2")
    with Script({"Inventory": [environment()], "Deployment": [{"deployment": foreign}]}) as script, api_of(script) as api:
        with pytest.raises(GuardRefused, match="no service of this environment"):
            api.delete_service("service-of-somebody-else")
        with pytest.raises(GuardRefused, match="no deployment of this environment"):
            api.stop("deployment-1")


# --- edits of somebody else ------------------------------------------------------------------------------------------------

VOLUME = {"id": "vi-1", "volumeId": "volume-1", "serviceId": "service-litellm", "mountPath": "/data", "sizeMB": 5000}


def unmerged(count: int | None) -> dict[str, object]:
    return {"environment": {"id": "environment-1", "configEtag": "etag-1", "unmergedChangesCount": count}}


def staged(**patch: object) -> dict[str, object]:
    return {"environmentStagedChanges": {"id": "patch-1", "status": "STAGED", "patch": patch}}


@pytest.mark.parametrize(("count", "patch"), [(1, {}), (None, {"services": {"service-x": {}}})])
def test_a_restore_does_not_begin_while_somebody_has_staged_changes(count: int | None, patch: dict[str, object]) -> None:
    answers = {
        "Inventory": [environment()],
        "VolumeInstance": [{"volumeInstance": {**VOLUME, "currentSizeMB": 10.0}}],
        "Unmerged": [unmerged(count)],
        "Staged": [staged(**patch)],
    }
    with (
        Script(answers) as script,
        api_of(script) as api,
        pytest.raises(GuardRefused, match="1 staged changes of somebody else would be committed"),
    ):
        api.restore_backup("vi-1", "backup-1")
    assert "VolumeBackupRestore" not in script.operations()


OURS: dict[str, Any] = {
    "services": {"service-litellm": {"volumeMounts": {"volume-2": {"mountPath": "/data"}}}},
    "volumes": {"volume-2": {}},
}


@pytest.mark.parametrize(
    ("patch", "foreign"),
    [
        ({**OURS, "services": {**OURS["services"], "service-redis": {}}}, "service-redis"),
        ({**OURS, "volumes": {"volume-9": {"isDeleted": True}}}, "volume-9"),
        ({**OURS, "sharedVariables": {"A": {"value": "1"}}}, "sharedVariables"),
    ],
)
def test_staged_changes_of_somebody_else_are_not_committed(patch: dict[str, object], foreign: str) -> None:
    with (
        Script({"Staged": [staged(**patch)]}) as script,
        api_of(script) as api,
        pytest.raises(GuardRefused, match=f"somebody else's changes are staged too \\(of {foreign}\\)"),
    ):
        api.commit_staged("restore", touching=["service-litellm"])
    assert script.operations() == ["Staged"]


def test_our_own_staged_changes_are_committed_and_none_are_no_success() -> None:
    answers = {
        "Inventory": [environment()],
        "Staged": [staged(**OURS), staged()],
        "StagedCommit": [{"environmentPatchCommitStaged": "commit-1"}],
    }
    with Script(answers) as script, api_of(script) as api:
        assert api.commit_staged("restore", touching=["service-litellm"]) == "commit-1"
        with pytest.raises(GuardRefused, match="nothing is staged"):
            api.commit_staged("restore", touching=["service-litellm"])
