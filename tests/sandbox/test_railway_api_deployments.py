"""Deployments on the Railway stand-in go the way that real ones go, with every trap on it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from shared.engines.process import wait_until
from shared.sandbox.railway_api import RailwayStandIn
from tests.sandbox.conftest import PATIENT, QUICK
from tests.sandbox.railway_operator import Operator, Refused
from tests.sandbox.railway_processes import ProcessRuntime


def _image(operator: Operator, identity: str) -> str:
    return str(operator.deployment(identity)["meta"]["image"])


def _steps(operator: Operator, identity: str) -> dict[str, dict[str, object]]:
    document = """query($id: String!) {
      deploymentEvents(id: $id) { edges { node { step completedAt payload { attempt error detail skipped durationMs } } } }
    }"""
    found = operator.ask(document, id=identity)
    return {one["node"]["step"]: one["node"]["payload"] or {} for one in found["edges"]}


def _source(operator: Operator, service_id: str) -> str:
    document = "query($e: String!, $s: String!) { serviceInstance(environmentId: $e, serviceId: $s) { source { image } } }"
    return str(operator.ask(document, e=operator.ids["environmentId"], s=service_id)["source"]["image"])


def test_setting_an_image_deploys_nothing_and_deploying_takes_what_is_configured(
    operator: Operator, runtime: ProcessRuntime
) -> None:
    name, service = operator.service("app:1")
    assert operator.deployments(service) == []
    first = operator.deployed(service)
    operator.set_image(service, "app:2")
    assert [one["id"] for one in operator.deployments(service)] == [first]
    second = operator.deployed(service)
    assert _image(operator, second) == "app:2"
    operator.comes_to(first, status="REMOVED")
    assert [one.spec.image for one in runtime.running(name)] == ["app:2"]


def test_setting_an_image_deploys_where_the_platform_is_of_that_kind(tmp_path: Path) -> None:
    runtime = ProcessRuntime(tmp_path)
    kind = replace(PATIENT, source_update_deploys=True)
    with RailwayStandIn(tmp_path / "railway", runtime, pace=QUICK, behaviour=kind) as railway:
        operator = Operator(railway)
        _, service = operator.service("app:1")
        assert operator.settled(operator.deployments(service)[0]["id"]) == "SUCCESS"
        operator.close()


@pytest.mark.parametrize("which", ["deployment", "instance"])
def test_a_redeploy_runs_the_old_image_again_and_is_a_success(operator: Operator, runtime: ProcessRuntime, which: str) -> None:
    name, service = operator.service("app:1")
    old = operator.deployed(service)
    operator.set_image(service, "app:2")
    if which == "deployment":
        new = operator.call("deploymentRedeploy", "{ id }", id=("String!", old))["id"]
    else:
        environment = ("String!", operator.ids["environmentId"])
        assert operator.call("serviceInstanceRedeploy", serviceId=("String!", service), environmentId=environment) is True
        new = operator.deployments(service)[0]["id"]
    assert operator.settled(new) == "SUCCESS"
    assert _image(operator, new) == "app:1"
    assert [one.spec.image for one in runtime.of(name)] == ["app:1", "app:1"]
    assert _source(operator, service) == "app:2"


def test_a_restart_keeps_the_variables_of_before(operator: Operator, runtime: ProcessRuntime) -> None:
    name, service = operator.service("app:1", variables={"WORD": "old"})
    identity = operator.deployed(service)
    operator.set_variables(service, {"WORD": "new"})
    operator.act("deploymentRestart", identity)
    wait_until(lambda: len(runtime.of(name)) == 2, timeout=10, what="the second container")
    operator.comes_to(identity, status="SUCCESS", instance="RUNNING")
    assert [one.spec.variables["WORD"] for one in runtime.of(name)] == ["old", "old"]
    operator.deployed(service)
    assert runtime.of(name)[-1].spec.variables["WORD"] == "new"


def test_without_a_health_path_a_container_that_starts_is_a_success_whatever_becomes_of_it(operator: Operator) -> None:
    _, service = operator.service("app:sick")
    identity = operator.deployed(service)
    assert "HEALTHCHECK" not in _steps(operator, identity)


@pytest.mark.long
def test_a_health_check_takes_no_other_answer_than_200_for_300_seconds_unless_told_otherwise(
    operator: Operator, runtime: ProcessRuntime
) -> None:
    services = {
        status: operator.service("app:1", healthcheckPath=f"/status/{status}", healthcheckTimeout=seconds)
        for status, seconds in ((204, None), (302, 300), (404, 300), (500, 400))
    }
    begun = {status: operator.deploy(service) for status, (_, service) in services.items()}
    for status, identity in begun.items():
        assert operator.settled(identity) == "FAILED"
        said = _steps(operator, identity)["HEALTHCHECK"]
        assert said["detail"] == f"/status/{status} answered {status}"
        assert "never became healthy" in str(said["error"])
        least = 400 if status == 500 else 300
        assert int(str(said["durationMs"])) >= least * QUICK.health * 1000
        assert not runtime.running(services[status][0])


def test_health_is_asked_while_deploying_and_never_again(operator: Operator, runtime: ProcessRuntime) -> None:
    name, service = operator.service("app:1", healthcheckPath="/status/200", healthcheckTimeout=1500)
    identity = operator.deployed(service)
    container = runtime.running(name)[0]
    asked = _steps(operator, identity)["HEALTHCHECK"]["attempt"]
    assert container.probe("/status/500") == 500
    assert operator.deployment(identity)["status"] == "SUCCESS"
    assert _steps(operator, identity)["HEALTHCHECK"]["attempt"] == asked


def test_without_a_volume_a_failed_deployment_leaves_the_old_one_serving(operator: Operator, runtime: ProcessRuntime) -> None:
    name, service = operator.service("app:1", healthcheckPath="/", healthcheckTimeout=1500)
    good = operator.deployed(service)
    operator.update(service, source={"image": "app:sick"}, healthcheckTimeout=10)
    operator.deployed(service, expected="FAILED")
    assert operator.deployment(good)["status"] == "SUCCESS"
    assert [one.spec.image for one in runtime.running(name)] == ["app:1"]


@pytest.mark.parametrize("bad", ["app:sick", "app:gone"])
def test_with_a_volume_the_old_deployment_is_stopped_first_so_a_bad_image_is_an_outage(
    operator: Operator, runtime: ProcessRuntime, bad: str
) -> None:
    name, service = operator.service("app:1", volume=True, healthcheckPath="/", healthcheckTimeout=1500)
    good = operator.deployed(service)
    operator.update(service, source={"image": bad}, healthcheckTimeout=10)
    identity = operator.deployed(service, expected="FAILED")
    assert operator.deployment(good)["status"] == "REMOVED"
    assert runtime.running(name) == []
    failed = {step for step, said in _steps(operator, identity).items() if said.get("error")}
    assert failed == ({"HEALTHCHECK"} if bad == "app:sick" else {"PUBLISH_IMAGE"})
    operator.update(service, source={"image": "app:1"}, healthcheckTimeout=1500)
    operator.deployed(service)
    assert len(runtime.running(name)) == 1


def test_two_deployments_never_hold_a_volume_at_once(operator: Operator, runtime: ProcessRuntime) -> None:
    name, service = operator.service("app:1", volume=True)
    operator.deployed(service)
    operator.deployed(service)
    first, second = runtime.of(name)
    assert first.spec.mount is not None
    assert second.spec.mount == first.spec.mount
    assert runtime.running(name) == [second]


def test_a_rollback_brings_image_settings_and_variables_back_but_not_the_source(
    operator: Operator, runtime: ProcessRuntime
) -> None:
    name, service = operator.service("app:1", variables={"WORD": "old"}, startCommand="old")
    old = operator.deployed(service)
    operator.set_variables(service, {"WORD": "new"})
    operator.update(service, source={"image": "app:2"}, startCommand="new")
    operator.deployed(service)
    operator.comes_to(old, status="REMOVED")
    assert operator.act("deploymentRollback", old) is True
    newest = operator.deployments(service)[0]["id"]
    assert operator.settled(newest) == "SUCCESS"
    spec = runtime.of(name)[-1].spec
    assert (spec.image, spec.variables["WORD"], spec.start_command) == ("app:1", "old", "old")
    assert _source(operator, service) == "app:2"
    assert operator.variables(service)["WORD"] == "new"


def test_a_rollback_needs_no_registry_and_ends_with_the_retention(
    fresh: tuple[RailwayStandIn, ProcessRuntime, Operator],
) -> None:
    railway, runtime, operator = fresh
    _, service = operator.service("app:1")
    old = operator.deployed(service)
    operator.set_image(service, "app:2")
    operator.deployed(service)
    operator.comes_to(old, status="REMOVED")
    runtime.missing.add("app:1")
    railway.advance(timedelta(hours=119))
    assert operator.deployment(old)["canRollback"] is True
    operator.act("deploymentRollback", old)
    assert operator.settled(operator.deployments(service)[0]["id"]) == "SUCCESS"
    railway.advance(timedelta(hours=2))
    assert operator.deployment(old)["canRollback"] is False
    with pytest.raises(Refused, match="no longer available"):
        operator.act("deploymentRollback", old)


def test_nobody_rolls_back_to_what_never_was_good(operator: Operator) -> None:
    _, service = operator.service("app:gone")
    bad = operator.deployed(service, expected="FAILED")
    assert operator.deployment(bad)["canRollback"] is False
    with pytest.raises(Refused):
        operator.act("deploymentRollback", bad)


def test_a_process_that_exits_0_leaves_a_success_with_nothing_running(operator: Operator) -> None:
    _, service = operator.service("app:ends")
    identity = operator.deployed(service)
    operator.comes_to(identity, status="SUCCESS", instance="EXITED", deploymentStopped=True)


def test_a_process_that_crashes_is_started_again_as_often_as_its_policy_says(
    operator: Operator, runtime: ProcessRuntime
) -> None:
    name, service = operator.service("app:crashes", restartPolicyType="ON_FAILURE", restartPolicyMaxRetries=2)
    identity = operator.deploy(service)
    operator.comes_to(identity, status="CRASHED", instance="CRASHED")
    assert len(runtime.of(name)) == 3


@pytest.mark.parametrize(("image", "status"), [("app:crashes", "CRASHED"), ("app:ends", "SUCCESS")])
def test_a_policy_of_never_starts_nothing_again(operator: Operator, runtime: ProcessRuntime, image: str, status: str) -> None:
    name, service = operator.service(image, restartPolicyType="NEVER")
    identity = operator.deploy(service)
    operator.comes_to(identity, status=status, deploymentStopped=True)
    assert len(runtime.of(name)) == 1


def test_a_policy_of_always_starts_also_what_exited_well(operator: Operator, runtime: ProcessRuntime) -> None:
    name, service = operator.service("app:ends", restartPolicyType="ALWAYS")
    identity = operator.deploy(service)
    wait_until(lambda: len(runtime.of(name)) >= 3, timeout=10, what="the third container")
    operator.act("deploymentStop", identity)
    operator.comes_to(identity, instance="STOPPED")


def test_what_is_killed_by_the_machine_comes_back(operator: Operator, runtime: ProcessRuntime) -> None:
    name, service = operator.service("app:1")
    identity = operator.deployed(service)
    runtime.of(name)[0].kill()
    wait_until(lambda: len(runtime.running(name)) == 1 and len(runtime.of(name)) == 2, timeout=10, what="a new container")
    operator.comes_to(identity, status="SUCCESS", instance="RUNNING")


def test_a_stopped_deployment_is_kept_and_a_deployment_of_the_configuration_resumes(
    operator: Operator, runtime: ProcessRuntime
) -> None:
    name, service = operator.service("app:1")
    identity = operator.deployed(service)
    operator.act("deploymentStop", identity)
    operator.comes_to(identity, status="SUCCESS", instance="STOPPED", deploymentStopped=True)
    assert runtime.running(name) == []
    with pytest.raises(Refused, match="stopped"):
        operator.act("deploymentRestart", identity)
    operator.deployed(service)
    assert len(runtime.running(name)) == 1


def test_a_stopped_deployment_can_be_restarted_where_the_platform_is_of_that_kind(tmp_path: Path) -> None:
    runtime = ProcessRuntime(tmp_path)
    kind = replace(PATIENT, restart_starts_stopped=True)
    with RailwayStandIn(tmp_path / "railway", runtime, pace=QUICK, behaviour=kind) as railway:
        operator = Operator(railway)
        name, service = operator.service("app:1")
        identity = operator.deployed(service)
        operator.act("deploymentStop", identity)
        operator.comes_to(identity, instance="STOPPED")
        operator.act("deploymentRestart", identity)
        operator.comes_to(identity, instance="RUNNING", deploymentStopped=False)
        assert railway.running(name)
        operator.close()


def test_a_removed_deployment_goes_to_history_and_ends_its_container(operator: Operator, runtime: ProcessRuntime) -> None:
    name, service = operator.service("app:1")
    identity = operator.deployed(service)
    operator.act("deploymentRemove", identity)
    operator.comes_to(identity, status="REMOVED", deploymentStopped=True)
    assert runtime.running(name) == []
    with pytest.raises(Refused, match="not active"):
        operator.act("deploymentRestart", identity)


def test_a_deployment_on_its_way_can_be_cancelled_and_a_finished_one_cannot(
    operator: Operator, runtime: ProcessRuntime
) -> None:
    name, service = operator.service("app:mute", healthcheckPath="/", healthcheckTimeout=30_000)
    identity = operator.deploy(service)
    operator.comes_to(identity, status="DEPLOYING")
    operator.act("deploymentCancel", identity)
    operator.comes_to(identity, status="REMOVED")
    assert runtime.running(name) == []
    with pytest.raises(Refused, match="not in progress"):
        operator.act("deploymentCancel", identity)


def test_a_newer_deployment_overtakes_one_that_is_on_its_way(operator: Operator, runtime: ProcessRuntime) -> None:
    name, service = operator.service("app:mute", healthcheckPath="/", healthcheckTimeout=30_000)
    first = operator.deploy(service)
    operator.set_image(service, "app:1")
    operator.deployed(service)
    assert operator.settled(first) == "REMOVED"
    assert [one.spec.image for one in runtime.running(name)] == ["app:1"]


def test_the_old_process_is_killed_at_once_unless_it_may_drain(operator: Operator, runtime: ProcessRuntime) -> None:
    name, service = operator.service("app:stubborn")
    first = operator.deployed(service)
    wait_until(lambda: bool(runtime.of(name)[0].logs(1)), timeout=10, what="the program to have begun")
    operator.update(service, drainingSeconds=600)
    second = operator.deployed(service)
    operator.comes_to(first, status="REMOVED")
    wait_until(lambda: bool(runtime.of(name)[1].logs(1)), timeout=10, what="the program to have begun")
    operator.deployed(service)
    operator.comes_to(second, status="REMOVING")
    assert len(runtime.running(name)) == 2
    runtime.of(name)[1].kill()
    operator.comes_to(second, status="REMOVED")


def test_a_pre_deploy_command_that_fails_ends_the_deployment_before_it_begins(
    operator: Operator, runtime: ProcessRuntime
) -> None:
    name, service = operator.service("app:1", volume=True, preDeployCommand=["exit 3"])
    identity = operator.deployed(service, expected="FAILED")
    assert "error" in _steps(operator, identity)["PRE_DEPLOY_COMMAND"]
    assert [one.spec.mount for one in runtime.of(name)] == [None]


def test_logs_are_one_line_more_than_was_asked_for(operator: Operator, runtime: ProcessRuntime) -> None:
    _, service = operator.service("app:crashes", restartPolicyMaxRetries=4)
    identity = operator.deploy(service)
    operator.comes_to(identity, status="CRASHED")
    document = "query($id: String!, $n: Int) { deploymentLogs(deploymentId: $id, limit: $n) { message severity timestamp } }"
    assert [one["message"] for one in operator.ask(document, id=identity, n=2)] == ["started app:crashes"] * 3
    assert len(operator.ask(document, id=identity, n=100)) == 5
    with pytest.raises(Refused, match="between 1 and 5000"):
        operator.ask(document, id=identity, n=5001)


def test_a_deployment_may_not_say_its_digest(tmp_path: Path) -> None:
    runtime = ProcessRuntime(tmp_path)
    kind = replace(PATIENT, meta_has_digest=False)
    with RailwayStandIn(tmp_path / "railway", runtime, pace=QUICK, behaviour=kind) as railway:
        operator = Operator(railway)
        _, service = operator.service("app:1")
        identity = operator.deployed(service)
        assert "imageDigest" not in operator.deployment(identity)["meta"]
        operator.close()


def test_a_service_without_an_image_cannot_be_deployed(operator: Operator) -> None:
    _, service = operator.service()
    with pytest.raises(Refused, match="no source"):
        operator.deploy(service)


def test_a_service_that_is_made_with_an_image_is_deployed_at_once(operator: Operator) -> None:
    wanted = {**operator.ids, "name": "at-once", "source": {"image": "app:1"}}
    made = operator.call("serviceCreate", "{ id }", input=("ServiceCreateInput!", wanted))
    assert operator.settled(operator.deployments(made["id"])[0]["id"]) == "SUCCESS"


def test_a_deleted_service_leaves_no_process(operator: Operator, runtime: ProcessRuntime) -> None:
    name, service = operator.service("app:1")
    operator.deployed(service)
    operator.call("serviceDelete", id=("String!", service), environmentId=("String", operator.ids["environmentId"]))
    wait_until(lambda: not runtime.running(name), timeout=10, what="the container to end")
    assert name not in operator.railway.service_names()


def test_closing_ends_deployments_on_their_way_and_every_container(tmp_path: Path) -> None:
    runtime = ProcessRuntime(tmp_path)
    with RailwayStandIn(tmp_path / "railway", runtime, pace=QUICK, behaviour=PATIENT) as railway:
        operator = Operator(railway)
        running, mute = operator.service("app:1"), operator.service("app:mute", healthcheckPath="/", healthcheckTimeout=30_000)
        operator.deployed(running[1])
        operator.comes_to(operator.deploy(mute[1]), status="DEPLOYING")
        operator.close()
    assert runtime.running(running[0]) == runtime.running(mute[0]) == []
