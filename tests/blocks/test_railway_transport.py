"""What the network, the edge and the API can do to a request, and what the caller gets of it."""

from __future__ import annotations

import pickle
import socket
import time

import pytest
from pydantic import SecretStr, ValidationError

from blocks.errors import (
    AccessDenied,
    RailwayDenied,
    RailwayError,
    RailwayRefused,
    RateLimited,
    SettingsError,
    StackError,
    Uncertain,
)
from blocks.railway import RailwayEnvironment, certainly, create_project, public_url
from blocks.railway_api.access import TokenKind
from blocks.railway_api.models import ServiceSettings
from shared.engines.process import free_port
from tests.blocks.railway_script import CANARY, DROP, Answer, Script, api_of, deployment, environment, error

DEPLOYED = {"serviceInstanceDeployV2": "deployment-2"}


@pytest.mark.parametrize(
    ("kind", "name", "value", "other"),
    [
        ("project", "project-access-token", CANARY, "authorization"),
        ("workspace", "authorization", f"Bearer {CANARY}", "project-access-token"),
        ("account", "authorization", f"Bearer {CANARY}", "project-access-token"),
    ],
)
def test_a_token_goes_into_the_one_header_of_its_kind(kind: TokenKind, name: str, value: str, other: str) -> None:
    with Script({"Inventory": [environment()]}) as script, api_of(script, token_kind=kind) as api:
        api.inventory()
    (asked,) = script.asked
    assert (asked.headers[name], asked.headers.get(other)) == (value, None)
    assert asked.headers["user-agent"].startswith("stack-operations/")


def test_an_error_on_http_200_is_a_failure() -> None:
    with (
        Script({"Inventory": [error("Environment not found")]}) as script,
        api_of(script) as api,
        pytest.raises(RailwayRefused, match="railway: Inventory was refused: Environment not found"),
    ):
        api.inventory()
    assert len(script.asked) == 1, "what was refused for good is not asked again"


@pytest.mark.parametrize("answer", [error("Not Authorized"), Answer("{}", 401), Answer("error code: 1010", 403)])
def test_who_may_not_is_told_with_the_kind_of_token_and_the_operation(answer: Answer) -> None:
    with (
        Script({"Inventory": [answer]}) as script,
        api_of(script) as api,
        pytest.raises(RailwayDenied, match="Inventory is not allowed with this project token") as caught,
    ):
        api.inventory()
    assert isinstance(caught.value, AccessDenied)
    assert caught.value.permanent


@pytest.mark.parametrize(
    "fault", [DROP, Answer("bad gateway", 502), Answer("<html>", 200), error("Problem processing request")]
)
def test_a_question_is_asked_again(fault: Answer) -> None:
    with Script({"Inventory": [fault, environment()]}) as script, api_of(script) as api:
        assert set(api.inventory().services) == {"litellm", "prefect-server", "prefect-worker"}
    assert len(script.asked) == 2


def test_a_question_is_given_up_after_three_times() -> None:
    with (
        Script({"Inventory": [Answer("", 500)]}) as script,
        api_of(script) as api,
        pytest.raises(RailwayError, match="Inventory: the answer is HTTP 500"),
    ):
        api.inventory()
    assert len(script.asked) == 3


@pytest.mark.parametrize(
    "fault", [DROP, Answer("bad gateway", 502), Answer("<html>", 200), error("Problem processing request"), error("x", 500)]
)
def test_a_change_whose_answer_was_lost_is_never_sent_twice(fault: Answer) -> None:
    with (
        Script({"Inventory": [environment()], "Deploy": [fault, DEPLOYED]}) as script,
        api_of(script) as api,
        pytest.raises(Uncertain, match=r"Deploy: .* it may have been done: read the state") as caught,
    ):
        api.deploy("service-litellm")
    assert caught.value.permanent
    assert script.operations().count("Deploy") == 1


def test_a_change_that_was_refused_for_its_number_is_sent_again_when_it_may() -> None:
    busy = Answer("", 429, {"Retry-After": "1"})
    with Script({"Inventory": [environment()], "Deploy": [busy, DEPLOYED]}) as script, api_of(script) as api:
        api.inventory()
        begun = time.monotonic()
        assert api.deploy("service-litellm") == "deployment-2"
        assert time.monotonic() - begun >= 0.95
    assert script.operations().count("Deploy") == 2


@pytest.mark.long
def test_a_wait_that_is_longer_than_patience_is_refused_at_once_and_nothing_more_is_sent() -> None:
    busy = Answer("", 429, {"Retry-After": "1800"})
    with Script({"Inventory": [busy]}) as script, api_of(script, patience=5) as api:
        for _ in range(2):
            with pytest.raises(RateLimited) as caught:
                api.inventory()
            assert 1700 < caught.value.retry_after <= 1800
    assert len(script.asked) == 1


def test_a_change_that_was_never_sent_is_no_uncertain_one() -> None:
    block = RailwayEnvironment(
        project_id="p", environment_id="e", token=SecretStr(CANARY), api_url=f"http://127.0.0.1:{free_port()}/v2"
    )
    with block.open() as api, pytest.raises(RailwayError, match=r"cannot be reached .* nothing was done") as caught:
        api.create_service("litellm")
    assert not isinstance(caught.value, Uncertain)


def test_an_answer_of_false_is_a_refusal() -> None:
    answers = {
        "Inventory": [environment()],
        "Deployment": [{"deployment": deployment()}],
        "Restart": [{"deploymentRestart": False}],
    }
    with Script(answers) as script, api_of(script) as api, pytest.raises(RailwayRefused, match="Restart was not done"):
        api.restart("deployment-1")


def test_an_address_without_the_api_is_a_wrong_setting() -> None:
    with (
        Script({"Inventory": [Answer("not here", 404)]}) as script,
        api_of(script) as api,
        pytest.raises(SettingsError, match="correct RAILWAY_API_URL"),
    ):
        api.inventory()


@pytest.mark.parametrize("missing", ["project_id", "environment_id"])
def test_without_an_environment_nothing_can_be_done(missing: str) -> None:
    given = {"project_id": "p", "environment_id": "e", "token": SecretStr(CANARY), missing: ""}
    with pytest.raises(ValidationError, match=missing):
        RailwayEnvironment(**given)


def test_a_project_token_makes_no_project() -> None:
    with pytest.raises(SettingsError, match="a project's token cannot make projects"):
        create_project(SecretStr(CANARY), "workspace-1", "shop", token_kind="project")


def test_every_change_names_the_environment() -> None:
    place = {"projectId": "project-1", "environmentId": "environment-1"}
    answers = {
        "Inventory": [environment()],
        "ServiceCreate": [{"serviceCreate": {"id": "service-new", "name": "new"}}],
        "ServiceDelete": [{"serviceDelete": True}],
        "ServiceUpdate": [{"serviceInstanceUpdate": True}],
        "LimitsUpdate": [{"serviceInstanceLimitsUpdate": True}],
        "VariablesUpsert": [{"variableCollectionUpsert": True}],
        "VariableDelete": [{"variableDelete": True}],
        "VolumeCreate": [{"volumeCreate": {"id": "volume-1", "name": "data"}}],
        "DomainCreate": [{"serviceDomainCreate": {"id": "domain-1", "domain": "x.up.railway.app"}}],
        "Deploy": [DEPLOYED],
    }
    with Script(answers) as script, api_of(script) as api:
        service = api.create_service("new", "litellm:1", {"PORT": "4000"})
        api.update_service(service, ServiceSettings(image="litellm:2", healthcheck_path=None))
        api.limits(service, memory_gb=2)
        api.set_variables(service, {"A": "1"})
        api.set_variables(None, {"B": "2"}, skip_deploys=False)
        api.delete_variable(service, "A")
        api.create_volume(service, "/data")
        assert public_url(api.create_domain(service, 4000)) == "https://x.up.railway.app"
        api.deploy(service)
        api.delete_service(service)
    for asked in script.asked[1:]:
        given = {**asked.variables, **asked.variables.get("input", {})}
        assert given["environmentId"] == place["environmentId"], asked.operation
    update = next(one for one in script.asked if one.operation == "ServiceUpdate")
    assert update.variables["input"] == {"source": {"image": "litellm:2"}, "healthcheckPath": None}
    upserts = [one.variables["input"] for one in script.asked if one.operation == "VariablesUpsert"]
    assert [(one.get("serviceId"), one["replace"], one["skipDeploys"]) for one in upserts] == [
        ("service-new", False, True),
        (None, False, False),
    ]
    limits = next(one for one in script.asked if one.operation == "LimitsUpdate")
    assert "vCPUs" not in limits.variables["input"]


# --- a change whose answer was lost ----------------------------------------------------------------------------------------


def test_what_was_made_although_its_answer_was_lost_is_found_and_not_made_twice() -> None:
    made = environment({"serviceName": "litellm"}, {"serviceName": "new"})
    answers = {
        "ServiceCreate": [DROP],
        "Inventory": [environment({"serviceName": "litellm"}), made],
    }
    with Script(answers) as script, api_of(script) as api:

        def look() -> str | None:
            found = api.inventory().services.get("new")
            return found.service_id if found else None

        assert certainly(lambda: api.create_service("new"), look, patience=5, poll=0.01) == "service-new"
    assert script.operations().count("ServiceCreate") == 1


def test_what_has_left_no_trace_is_made_again_and_given_up_in_the_end() -> None:
    with Script({"ServiceCreate": [DROP]}) as script, api_of(script) as api, pytest.raises(Uncertain):
        certainly(lambda: api.create_service("new"), lambda: None, attempts=2, patience=0)
    assert script.operations().count("ServiceCreate") == 2


def test_what_was_refused_is_not_looked_for() -> None:
    with (
        Script({"ServiceCreate": [error("a service of that name exists")]}) as script,
        api_of(script) as api,
        pytest.raises(RailwayRefused),
    ):
        certainly(lambda: api.create_service("new"), lambda: pytest.fail("nobody needs to look"))


# --- what must not be said -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [DROP, Answer("bad", 502), error("Not Authorized"), error(f"bad token {CANARY}")])
def test_an_error_carries_no_token_not_even_hidden_in_it(fault: Answer) -> None:
    with (
        Script({"Inventory": [environment()], "Deploy": [fault]}) as script,
        api_of(script) as api,
        pytest.raises(StackError) as caught,
    ):
        api.deploy("service-litellm")
    error_itself = caught.value
    assert CANARY not in str(error_itself) + repr(error_itself)
    links = [error_itself.__cause__, error_itself.__context__]
    assert links == [None, None], "a cause would carry the request, and with it the header"
    assert CANARY.encode() not in pickle.dumps(error_itself)


def test_reprs_carry_no_token() -> None:
    with Script({"Inventory": [environment()]}) as script, api_of(script) as api:
        block = RailwayEnvironment(project_id="p", environment_id="e", token=SecretStr(CANARY))
        assert CANARY not in "".join(map(repr, (api, api.graphql, api.graphql.secrets, api.place, block)))


def test_no_page_is_cut_off_in_silence() -> None:
    found = environment()
    found["environment"]["serviceInstances"]["pageInfo"]["hasNextPage"] = True
    with (
        Script({"Inventory": [found]}) as script,
        api_of(script) as api,
        pytest.raises(RailwayError, match="more services than one page holds"),
    ):
        api.inventory()


def test_a_server_that_is_slow_to_answer_a_change_leaves_it_uncertain() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v2"
        block = RailwayEnvironment(project_id="p", environment_id="e", token=SecretStr(CANARY), api_url=url)
        with block.open() as api:
            api.graphql._timeouts = {False: 0.1, True: 0.1}
            with pytest.raises(Uncertain, match="the answer was lost"):
                api.create_service("new")


def test_an_answer_of_another_shape_is_said_without_its_values() -> None:
    wrong = {"deployment": deployment(createdAt=f"not a time {CANARY}")}
    with (
        Script({"Deployment": [wrong]}) as script,
        api_of(script) as api,
        pytest.raises(RailwayError, match=r"an answer is not as expected: Deployment\.createdAt") as caught,
    ):
        api.deployment("deployment-1")
    assert CANARY not in str(caught.value)


def test_local_addresses_are_spoken_to_in_plain() -> None:
    assert public_url("localhost.example.com") == "https://localhost.example.com"
    assert public_url("[::1]:4000") == "http://[::1]:4000"
    assert public_url("127.0.0.1:4000") == "http://127.0.0.1:4000"
    assert public_url("shop.up.railway.app") == "https://shop.up.railway.app"
