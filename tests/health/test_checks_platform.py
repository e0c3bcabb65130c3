"""What the platform says of the services: each aspect goes bad and recovers; its own silence is nobody's fault."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from blocks.railway import RailwayEnvironment
from blocks.railway_api.models import ServiceSettings
from blocks.settings import Settings
from flows.health.observation import Observation, Status
from flows.health.observe import observe
from flows.health.targets import Railway, Targets
from shared.engines.process import free_port, wait_until
from shared.sandbox.railway_api import Pace, RailwayStandIn
from tests.blocks.railway_script import Answer, Script, deployment, environment, error
from tests.health.looks import CANARY, silent_port
from tests.sandbox.railway_processes import ProcessRuntime

RUNNING = deployment()
OLD = deployment(id="deployment-0")


def target(url: str, **other: Any) -> Railway:
    given = {"url": url, "kind": "project", "project_id": "project-1", "environment_id": "environment-1", **other}
    return Railway(token=SecretStr(CANARY), **given)


def looked(railway: Railway, timeout: float = 60.0) -> dict[tuple[str, str], Observation]:
    """Look once, as a sweep does."""
    found = asyncio.run(observe(Targets(railway=railway, timeout=timeout)))
    for one in found:
        assert CANARY not in one.sentence
        assert "127.0.0.1" not in one.sentence
    return {(one.service, one.aspect): one for one in found}


def service(
    name: str = "litellm", newest: dict[str, Any] | None = RUNNING, *active: dict[str, Any], **other: Any
) -> dict[str, Any]:
    return {"serviceName": name, "latestDeployment": newest, "activeDeployments": list(active), **other}


def volume(name: str, used: float, size: int = 5000, **other: Any) -> dict[str, Any]:
    given = {"id": f"vi-{name}", "volumeId": f"v-{name}", "serviceId": f"service-{name}", "mountPath": "/data"}
    return {**given, "sizeMB": size, "currentSizeMB": used, "state": "READY", "isPendingDeletion": False, **other}


def series(name: str, measurement: str, *values: float) -> dict[str, Any]:
    samples = [{"ts": 1_700_000_000 + 60 * place, "value": value} for place, value in enumerate(values)]
    return {"measurement": measurement, "tags": {"serviceId": f"service-{name}"}, "values": samples}


def seen(
    *services: dict[str, Any], volumes: tuple[dict[str, Any], ...] = (), metrics: tuple[dict[str, Any], ...] = ()
) -> dict[tuple[str, str], Observation]:
    """Look at an environment."""
    answers = {"Inventory": [environment(*services, volumes=volumes)], "Metrics": [{"metrics": list(metrics)}]}
    with Script(answers) as script:
        found = looked(target(script.url))
    assert script.operations() == ["Inventory", "Metrics"], "two requests a sweep"
    assert all(one.headers["project-access-token"] == CANARY for one in script.asked)
    return found


CASES = [
    (RUNNING, (RUNNING,), Status.OK, "the newest deployment of litellm runs"),
    (deployment("SLEEPING", instances=[]), (), Status.OK, "runs when it is needed"),
    (deployment("FAILED"), (OLD,), Status.DEGRADED, "failed, the one before it still serves"),
    (deployment("FAILED"), (), Status.DOWN, "failed, and nothing else of it runs"),
    (deployment("CRASHED"), (), Status.DOWN, "crashed, and nothing else of it runs"),
    (deployment("CRASHED"), ({**OLD, "deploymentStopped": True},), Status.DOWN, "crashed, and nothing else of it runs"),
    (deployment("REMOVED"), (), Status.DOWN, "is REMOVED, and nothing of it runs"),
    (deployment("REMOVED"), (OLD,), Status.OK, "the one before it serves"),
    (deployment("NEEDS_APPROVAL"), (OLD,), Status.DEGRADED, "waits for an approval"),
    (deployment("SOMETHING_NEW"), (OLD,), Status.UNKNOWN, "a status that this version does not know"),
    (deployment(deploymentStopped=True), (), Status.DOWN, "no container of litellm runs any more"),
    (deployment(instances=[{"id": "1", "status": "CRASHED"}]), (), Status.DOWN, "no container of litellm runs any more"),
    (
        deployment(instances=[{"id": "1", "status": "RUNNING"}, {"id": "2", "status": "RESTARTING"}]),
        (),
        Status.DEGRADED,
        "a container of litellm is RESTARTING",
    ),
    (deployment(meta={"image": "litellm:0"}), (), Status.DEGRADED, "litellm runs litellm:0, expected litellm:1"),
    (deployment(meta=None), (), Status.OK, "runs"),
]


@pytest.mark.parametrize(("newest", "active", "status", "said"), CASES, ids=[f"{one[3]}-{one[2]}" for one in CASES])
def test_a_deployment_is_judged_by_all_that_is_known_of_it(
    newest: dict[str, Any], active: tuple[dict[str, Any], ...], status: Status, said: str
) -> None:
    found = seen(service("litellm", newest, *active))["litellm", "deployment"]
    assert (found.status, said in found.sentence) == (status, True), found.sentence
    if status in (Status.DEGRADED, Status.DOWN):
        assert "; " in found.sentence, "it says what to do"


@pytest.mark.parametrize(
    ("minutes", "status", "said"),
    [
        (1, Status.OK, "litellm is being deployed (BUILDING)"),
        (50, Status.DEGRADED, "min, expected at most 30; read its log in Railway's dashboard, cancel it"),
    ],
)
def test_a_deployment_may_take_a_while_but_not_for_ever(minutes: float, status: Status, said: str) -> None:
    begun = (datetime.now(UTC) - timedelta(minutes=minutes)).isoformat()
    found = seen(service("litellm", deployment("BUILDING", createdAt=begun), OLD))["litellm", "deployment"]
    assert (found.status, said in found.sentence) == (status, True), found.sentence


def test_one_that_was_never_deployed_and_services_of_others_are_not_judged() -> None:
    found = seen(service("litellm", None), service("stack-setup", deployment("CRASHED")))
    assert {key for key in found if key[0] != "railway"} == set()


def test_services_are_known_as_the_dashboard_writes_them() -> None:
    assert ("langfuse-web", "deployment") in seen(service("Langfuse Web"))


@pytest.mark.parametrize(
    ("used", "status"), [(3900.0, Status.OK), (4200.0, Status.DEGRADED), (4950.0, Status.DOWN), (0.0, Status.OK)]
)
def test_a_volume_is_watched_as_it_fills(used: float, status: Status) -> None:
    found = seen(service("postgres"), volumes=(volume("postgres", used),))["postgres", "volume"]
    assert (found.status, found.value, found.limit, found.unit) == (status, round(used / 50, 1), 80, "%")


def test_a_volume_without_a_size_is_no_full_one() -> None:
    assert ("postgres", "volume") not in seen(service("postgres"), volumes=(volume("postgres", 10.0, size=0),))


@pytest.mark.parametrize("state", [{"state": "ERROR"}, {"isPendingDeletion": True}])
def test_a_volume_that_is_about_to_go_is_said(state: dict[str, Any]) -> None:
    found = seen(service("postgres"), volumes=(volume("postgres", 10.0, **state),))
    assert found["postgres", "volume-state"].status is Status.DEGRADED
    assert seen(service("postgres"), volumes=(volume("postgres", 10.0),))["postgres", "volume-state"].status is Status.OK


@pytest.mark.parametrize(("used", "status"), [((1.9, 1.0), Status.OK), ((1.0, 1.9), Status.DEGRADED)])
def test_memory_is_judged_by_its_newest_value(used: tuple[float, ...], status: Status) -> None:
    metrics = (series("litellm", "MEMORY_USAGE_GB", *used), series("litellm", "MEMORY_LIMIT_GB", 2.0, 2.0))
    found = seen(service("litellm"), metrics=metrics)["litellm", "container-memory"]
    assert (found.status, found.value, found.limit) == (status, used[-1] * 50, 90)


def test_memory_without_a_limit_or_without_samples_is_not_judged() -> None:
    metrics = (
        series("litellm", "MEMORY_USAGE_GB", 1.0),
        series("redis", "MEMORY_USAGE_GB"),
        series("redis", "MEMORY_LIMIT_GB", 1),
    )
    found = seen(service("litellm"), service("redis"), metrics=metrics)
    assert {aspect for _, aspect in found if aspect == "container-memory"} == set()


def test_on_the_sandboxs_railway_it_sees_what_really_runs(tmp_path: Path) -> None:
    """Through every document as it is sent: a container that is killed, a volume that fills, memory that grows."""
    runtime = ProcessRuntime(tmp_path)
    with RailwayStandIn(tmp_path / "railway", runtime, pace=Pace(build=0.01, poll=0.03, health=0.01)) as stand_in:
        given = {"project_id": stand_in.project_id, "environment_id": stand_in.environment_id}
        token = SecretStr(stand_in.token("workspace"))
        block = RailwayEnvironment(token=token, token_kind="workspace", api_url=stand_in.url, **given)
        with block.open() as api:
            litellm = api.create_service("litellm")
            api.update_service(litellm, ServiceSettings(image="app:1", restart_policy="NEVER"))
            api.create_volume(litellm, "/data")
            api.limits(litellm, memory_gb=2)
            api.wait_for_deployment(api.deploy(litellm), timeout=120, poll=0.05)
        target = Railway(stand_in.url, "workspace", token, **given)
        stand_in.measure("litellm", "MEMORY_USAGE_GB", 0.5)
        good = {aspect: one for (service, aspect), one in looked(target).items() if service == "litellm"}
        assert {aspect: one.status for aspect, one in good.items()} == {
            "deployment": Status.OK,
            "volume": Status.OK,
            "volume-state": Status.OK,
            "container-memory": Status.OK,
        }
        runtime.running("litellm")[0].kill()
        wait_until(
            lambda: looked(target)["litellm", "deployment"].status is Status.DOWN, timeout=60, what="the sweep to see it"
        )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (error("Not Authorized"), "the project token may not read the inventory"),
        (Answer("{}", 401), "the project token may not read the inventory"),
        (Answer("", 429), "asks us to wait"),
        (Answer("<html>", 503), "answers 503 with an error"),
        (error(f"Problem processing {CANARY}"), "answers 200 with an error"),
    ],
)
def test_where_the_platform_does_not_say_nothing_is_held_against_a_service(answer: Answer, said: str) -> None:
    with Script({"Inventory": [answer]}) as script:
        found = looked(target(script.url))
    assert {key: one.status for key, one in found.items()} == {("railway", "api"): Status.UNKNOWN}
    assert said in found["railway", "api"].sentence


def test_what_was_seen_stays_where_the_measurements_are_missing() -> None:
    answers = {"Inventory": [environment(service("litellm"))], "Metrics": [error("Not Authorized")]}
    with Script(answers) as script:
        found = looked(target(script.url))
    assert found["litellm", "deployment"].status is Status.OK
    assert found["railway", "metrics"].status is Status.UNKNOWN


def test_a_platform_that_is_gone_or_hangs_costs_the_time_of_one_check() -> None:
    gone = looked(target(f"http://127.0.0.1:{free_port()}/v2"))
    assert "refuses connections" in gone["railway", "api"].sentence
    with silent_port() as port:
        hangs = looked(target(f"http://127.0.0.1:{port}/v2"), timeout=0.3)
    assert hangs["railway", "api"].status is Status.UNKNOWN


def test_a_token_without_an_environment_is_said_and_not_used() -> None:
    with Script({}) as script:
        found = looked(target(script.url, environment_id=""))
    assert "RAILWAY_ENVIRONMENT_ID is not set" in found["railway", "api"].sentence
    assert script.asked == []


def test_it_is_looked_at_only_with_a_token_and_the_projects_goes_first() -> None:
    assert Targets.from_settings(Settings(railway_project_id="p")).railway is None
    workspace = Targets.from_settings(Settings(railway_api_token=SecretStr("w"), railway_project_id="p")).railway
    both = Targets.from_settings(Settings(railway_api_token=SecretStr("w"), railway_token=SecretStr("p"))).railway
    assert workspace is not None
    assert both is not None
    assert (workspace.kind, both.kind) == ("workspace", "project")
    assert "token" not in repr(both)
