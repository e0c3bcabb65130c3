"""The client on the sandbox's Railway, whose containers are real processes: what it does is what is there afterwards."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from blocks.errors import DeploymentFailed, GuardRefused, RailwayDenied, RailwayRefused, Uncertain
from blocks.railway import RailwayApi, RailwayEnvironment, certainly, create_project
from blocks.railway_api.__main__ import main
from blocks.railway_api.access import TokenKind
from blocks.railway_api.models import DeploymentStatus, ServiceSettings
from shared.sandbox.railway_api import DEPLOYMENTS_ONLY, PLANS, Behaviour, Pace, RailwayStandIn
from tests.sandbox.railway_processes import ProcessRuntime

QUICK = Pace(build=0.01, poll=0.03, health=0.01, workflow=0.05)


@pytest.fixture(scope="module")
def railway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RailwayStandIn]:
    """A platform for the tests of this file; each makes services of its own."""
    runtime = ProcessRuntime(tmp_path_factory.mktemp("containers"))
    with RailwayStandIn(tmp_path_factory.mktemp("railway"), runtime, pace=QUICK) as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def api(railway: RailwayStandIn) -> Iterator[RailwayApi]:
    with block(railway).open() as opened:
        yield opened


@pytest.fixture(autouse=True)
def calm(railway: RailwayStandIn) -> Iterator[None]:
    """What one test disturbs disturbs no other."""
    yield
    railway.calm()


def block(railway: RailwayStandIn, kind: TokenKind = "workspace") -> RailwayEnvironment:
    return RailwayEnvironment(
        project_id=railway.project_id,
        environment_id=railway.environment_id,
        token=SecretStr(railway.token(kind)),
        token_kind=kind,
        api_url=railway.url,
    )


def made(api: RailwayApi, image: str = "app:1", **settings: object) -> tuple[str, str]:
    """A service that is configured and not deployed.

    Returns: its id and its name.
    """
    name = f"service-{secrets.token_hex(4)}"
    service = api.create_service(name)
    api.update_service(service, ServiceSettings(image=image, healthcheck_path="/", **settings))
    return service, name


def deployed(api: RailwayApi, service: str, image: str | None = None) -> str:
    deployment = api.deploy(service)
    api.wait_for_deployment(deployment, timeout=120, poll=0.05, image=image)
    return deployment


def test_a_service_is_made_configured_deployed_and_seen(railway: RailwayStandIn, api: RailwayApi) -> None:
    service, name = made(api, "app:1", draining_seconds=7, restart_policy="ON_FAILURE", restart_retries=3)
    assert api.inventory().services[name].latest is None, "nothing starts before it is deployed"
    api.create_volume(service, "/data")
    api.limits(service, memory_gb=2.0, vcpus=1.0)
    domain = api.create_domain(service, 4000)
    deployment = deployed(api, service, "app:1")
    seen = api.inventory().services[name]
    assert (seen.service_id, seen.image, seen.healthcheck_path, seen.draining_seconds) == (service, "app:1", "/", 7)
    assert (seen.restart_policy, seen.restart_retries) == ("ON_FAILURE", 3)
    assert seen.volume is not None
    assert (seen.volume.mount_path, seen.volume.size_mb > 0) == ("/data", True)
    assert [(one.domain, one.target_port) for one in seen.domains] == [(domain, 4000)]
    assert seen.latest is not None
    assert (seen.latest.id, seen.latest.status, seen.latest.image) == (deployment, DeploymentStatus.SUCCESS, "app:1")
    assert [one.id for one in seen.active] == [deployment]
    assert api.current_limits(service)["containers"]["memoryBytes"] == pytest.approx(2e9, rel=0.1)
    assert [one.domain for one in api.domains(service)] == [domain]
    assert api.tcp_proxies(service) == []
    assert railway.running(name)
    api.delete_service(service)
    assert name not in api.inventory().services


def test_a_redeployment_of_the_old_image_is_not_taken_for_the_new_one(api: RailwayApi) -> None:
    service, _ = made(api, "app:1")
    first = deployed(api, service)
    api.set_image(service, "app:2")
    again = api.redeploy(first)
    with pytest.raises(DeploymentFailed, match="it runs app:1, expected app:2"):
        api.wait_for_deployment(again, timeout=120, poll=0.05, image="app:2")
    deployed(api, service, "app:2")
    assert [one.image for one in api.deployments(service)] == ["app:2", "app:1", "app:1"]


def test_a_rollback_brings_the_old_image_back_and_leaves_the_configuration(api: RailwayApi) -> None:
    service, name = made(api, "app:1")
    first = deployed(api, service)
    api.set_image(service, "app:2")
    deployed(api, service, "app:2")
    api.rollback(first)
    newest = api.deployments(service, first=1)[0]
    api.wait_for_deployment(newest.id, timeout=120, poll=0.05, image="app:1")
    assert api.inventory().services[name].image == "app:2"


def test_a_service_that_never_gets_healthy_fails_with_the_step_and_its_log(api: RailwayApi) -> None:
    service, name = made(api, "app:sick")
    deployment = api.deploy(service)
    with pytest.raises(DeploymentFailed) as caught:
        api.wait_for_deployment(deployment, timeout=120, poll=0.05)
    assert caught.value.status == "FAILED"
    assert str(caught.value).startswith(f"{name}: deployment {deployment} is FAILED")
    assert "step HEALTHCHECK" in str(caught.value)
    assert caught.value.log[-1].startswith("started app:sick")


def test_a_process_that_is_to_end_has_ended_well_or_not(api: RailwayApi) -> None:
    service, _ = made(api, "app:ends", restart_policy="NEVER")
    api.update_service(service, ServiceSettings(healthcheck_path=None))
    ended = api.wait_for_deployment(api.deploy(service), timeout=120, poll=0.05, until="finished")
    assert ended.stopped
    api.set_image(service, "app:crashes")
    with pytest.raises(DeploymentFailed, match="is CRASHED"):
        api.wait_for_deployment(api.deploy(service), timeout=120, poll=0.05, until="finished")


def test_a_service_is_stopped_and_started_again(railway: RailwayStandIn, api: RailwayApi) -> None:
    service, name = made(api)
    deployment = deployed(api, service)
    api.restart(deployment)
    api.wait_for_deployment(deployment, timeout=120, poll=0.05)
    api.stop(deployment)
    with pytest.raises(DeploymentFailed, match="all its containers have stopped"):
        api.wait_for_deployment(deployment, timeout=120, poll=0.05, settle=1.0)
    assert not railway.running(name)
    again = deployed(api, service)
    api.remove(again)
    with pytest.raises(DeploymentFailed, match="is REMOVED: it was taken down"):
        api.wait_for_deployment(again, timeout=120, poll=0.05)


# --- answers that are lost -------------------------------------------------------------------------------------------------


def test_a_deployment_whose_answer_was_lost_is_found_again_and_is_the_one(railway: RailwayStandIn, api: RailwayApi) -> None:
    service, _ = made(api)
    railway.lose_answer(field="serviceInstanceDeployV2")

    def newest() -> str | None:
        found = api.deployments(service, first=1)
        return found[0].id if found else None

    deployment = certainly(lambda: api.deploy(service), newest, patience=10, poll=0.05)
    api.wait_for_deployment(deployment, timeout=120, poll=0.05)
    assert len(api.deployments(service)) == 1


def test_without_a_look_a_lost_answer_is_uncertain_and_nothing_is_sent_twice(railway: RailwayStandIn, api: RailwayApi) -> None:
    name = f"service-{secrets.token_hex(4)}"
    railway.lose_answer(field="serviceCreate")
    before = len(railway.received("serviceCreate"))
    with pytest.raises(Uncertain):
        api.create_service(name)
    assert len(railway.received("serviceCreate")) == before + 1
    assert name in api.inventory().services


def test_outages_and_refusals_for_their_number_are_waited_out(railway: RailwayStandIn, api: RailwayApi) -> None:
    service, name = made(api)
    railway.outage(times=2, field="environment")
    assert name in api.inventory().services
    railway.throttle(field="serviceInstanceDeployV2", retry_after=0.2)
    deployed(api, service)
    assert len(api.deployments(service)) == 1


# --- variables -------------------------------------------------------------------------------------------------------------


def test_variables_are_read_with_and_without_their_references_and_sealed(railway: RailwayStandIn, api: RailwayApi) -> None:
    database, database_name = made(api)
    service, name = made(api)
    api.set_variables(database, {"PASSWORD": "canary-1f2e"})
    api.set_variables(None, {"REGION": "ams"})
    api.set_variables(service, {"URL": f"x://:${{{{{database_name}.PASSWORD}}}}@h", "KEEP": "1", "DROP": "2", "HIDE": "3"})
    assert api.variables(service)["URL"] == f"x://:${{{{{database_name}.PASSWORD}}}}@h"
    assert api.variables(service, rendered=True)["URL"] == "x://:canary-1f2e@h"
    assert api.variables()["REGION"] == "ams"
    assert api.deployments(service) == [], "nothing was deployed for it"
    api.delete_variable(service, "DROP")
    railway.seal(name, "HIDE")
    assert {"KEEP", "HIDE", "DROP"} & set(api.variables(service)) == {"KEEP"}
    meta = {one.name: one.sealed for one in api.variable_meta() if one.service_id == service}
    assert (meta["HIDE"], meta["KEEP"]) == (True, False)


def test_a_log_that_repeats_a_variable_does_not_show_it(api: RailwayApi) -> None:
    service, _ = made(api, "app:1")
    api.set_variables(service, {"WORD": "started"})
    deployment = deployed(api, service)
    assert [line.message for line in api.logs(deployment)] == ["*** app:1"]


# --- volumes ---------------------------------------------------------------------------------------------------------------


def test_a_volume_is_restored_and_only_our_own_change_is_committed(railway: RailwayStandIn, api: RailwayApi) -> None:
    service, name = made(api)
    api.create_volume(service, "/data")
    deployed(api, service)
    file = railway.volume_directory(name) / "file"
    file.write_text("then")
    volume = api.inventory().services[name].volume
    assert volume is not None
    api.wait_for_workflow(api.create_backup(volume.id, "before"), timeout=120, poll=0.05)
    (backup,) = api.backups(volume.id)
    assert backup.name == "before"
    api.lock_backup(volume.id, backup.id)
    assert api.backups(volume.id)[0].expires_at is None
    file.write_text("now")

    railway.stage({"services": {service: {"deploy": {"drainingSeconds": 3}}}})
    with pytest.raises(GuardRefused, match="staged changes of somebody else"):
        api.restore_backup(volume.id, backup.id)
    railway.stage({"services": {service: {"deploy": None}}})
    if api.unmerged_changes():
        api.commit_staged("a person's", touching=[service], skip_deploys=True)

    api.wait_for_workflow(api.restore_backup(volume.id, backup.id), timeout=120, poll=0.05)
    assert api.unmerged_changes() > 0
    assert file.read_text() == "now", "until it is committed nothing has changed"
    other, _ = made(api)
    railway.stage({"services": {other: {"deploy": {"drainingSeconds": 3}}}})
    with pytest.raises(GuardRefused, match="somebody else's changes are staged too"):
        api.commit_staged("restore", touching=[service])
    api.commit_staged("restore", touching=[service, other])
    api.wait_for_deployment(api.deployments(service, first=1)[0].id, timeout=120, poll=0.05)
    assert (railway.volume_directory(name) / "file").read_text() == "then"


# --- the environment, the project, the token -------------------------------------------------------------------------------


def test_a_patch_changes_several_things_at_once_and_leaves_what_is_staged(railway: RailwayStandIn, api: RailwayApi) -> None:
    service, name = made(api)
    api.set_variables(service, {"OLD": "1"})
    before = api.inventory()
    api.patch({"services": {service: {"variables": {"NEW": {"value": "2"}, "OLD": None}}}}, "by test")
    assert {"NEW", "OLD"} & set(api.variables(service)) == {"NEW"}
    assert api.inventory().config_etag != before.config_etag
    assert name in before.services


def test_measurements_come_by_service(railway: RailwayStandIn, api: RailwayApi) -> None:
    service, name = made(api)
    deployed(api, service)
    railway.measure(name, "MEMORY_USAGE_GB", 1.25)
    found = api.metrics(None, datetime.now(UTC) - timedelta(minutes=10), sample_seconds=60)
    assert [one.last for one in found if (one.measurement, one.service_id) == ("MEMORY_USAGE_GB", service)] == [1.25]


def test_a_bucket_has_credentials_of_its_own(api: RailwayApi) -> None:
    bucket = api.create_bucket("backups", "ams")
    assert ("backups", bucket) in [(one.name, one.id) for one in api.project().buckets]
    found = api.bucket_credentials(bucket)
    assert found.secret_key.get_secret_value() not in repr(found)


def test_a_new_project_is_empty_and_only_its_own_environment_is_touched(railway: RailwayStandIn, api: RailwayApi) -> None:
    token = SecretStr(railway.token("workspace"))
    new = create_project(token, railway.workspace_id, "another", api_url=railway.url)
    assert new.project_id != railway.project_id
    foreign, _ = made(api)
    with new.open() as other:
        assert other.inventory().services == {}
        with pytest.raises(GuardRefused, match="no service of this environment"):
            other.deploy(foreign)
        assert other.project().name == "another"


def test_a_template_is_made_of_a_project(api: RailwayApi) -> None:
    assert {"id", "code", "serializedConfig"} <= set(api.generate_template())


def test_each_token_says_what_it_may(railway: RailwayStandIn, api: RailwayApi) -> None:
    service, _ = made(api)
    api.create_volume(service, "/data")
    by_kind = {}
    for kind in ("project", "workspace"):
        with block(railway, kind).open() as opened:
            by_kind[kind] = {one.name: one.allowed for one in opened.capabilities()}
    assert all(by_kind["workspace"].values()), by_kind
    assert by_kind["project"]["notification rules"] is False
    assert by_kind["project"]["environment: services, deployments, volumes"] is True


def test_a_token_that_only_deploys_or_is_dead_is_said_to_be_that(tmp_path: Path) -> None:
    behaviour = Behaviour(plan=PLANS["hobby"], project_token_refuses=DEPLOYMENTS_ONLY)
    with RailwayStandIn(tmp_path, ProcessRuntime(tmp_path), pace=QUICK, behaviour=behaviour) as small:
        environment = block(small, "project")
        with environment.open() as opened:
            allowed = {one.name: one.allowed for one in opened.capabilities()}
            assert allowed["environment: services, deployments, volumes"] is False
            assert opened.graphql.budget.pace(5) == 5, "960 requests are left of the hour"
        with pytest.raises(RailwayDenied, match="Inventory is not allowed with this project token"):
            environment.check()
        dead = block(small)
        dead.check()
        small.revoke("workspace")
        with pytest.raises(RailwayDenied, match="it is dead, or its scope is too small"):
            dead.check()


def test_an_environment_that_does_not_exist_is_said(railway: RailwayStandIn) -> None:
    wrong = block(railway).model_copy(update={"environment_id": "no-such-environment"})
    with pytest.raises((RailwayRefused, RailwayDenied)):
        wrong.check()


def test_the_table_of_what_a_token_may_is_printed_without_the_token(
    railway: RailwayStandIn, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("RAILWAY_TOKEN", "RAILWAY_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    assert main() == 1
    assert "there is no token; set RAILWAY_TOKEN" in capsys.readouterr().err
    monkeypatch.setenv("RAILWAY_API_URL", railway.url)
    monkeypatch.setenv("RAILWAY_PROJECT_ID", railway.project_id)
    monkeypatch.setenv("RAILWAY_ENVIRONMENT_ID", railway.environment_id)
    monkeypatch.setenv("RAILWAY_TOKEN", railway.token("project"))
    assert main() == 0
    said = capsys.readouterr().out
    assert "project token" in said
    assert "Not Authorized" in said
    assert railway.token("project") not in said
