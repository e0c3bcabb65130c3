"""The door of the Railway stand-in: tokens, headers, the rate limit, and what goes wrong between a client and the API."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from shared.engines.process import wait_until
from shared.sandbox.railway_api import DEPLOYMENTS_ONLY, PLANS, Behaviour, RailwayStandIn, RateLimit
from shared.sandbox.railway_api.access import TokenKind
from tests.sandbox.conftest import PATIENT, QUICK
from tests.sandbox.railway_operator import Operator, Refused, headers, post
from tests.sandbox.railway_processes import ProcessRuntime

_ME = "query { me { name } }"
_INVENTORY = "query($id: String!) { environment(id: $id) { name serviceInstances { edges { node { serviceName } } } } }"


@pytest.fixture(scope="module")
def project_operator(railway: RailwayStandIn) -> Iterator[Operator]:
    one = Operator(railway, "project")
    yield one
    one.close()


@pytest.mark.parametrize(
    ("kind", "sees"),
    [("project", {"projectToken"}), ("workspace", {"apiToken", "workspace"}), ("account", {"apiToken", "workspace", "me"})],
)
def test_each_kind_of_token_sees_itself_and_no_more(railway: RailwayStandIn, kind: TokenKind, sees: set[str]) -> None:
    asked = {
        "projectToken": "{ projectToken { projectId environmentId } }",
        "apiToken": "{ apiToken { workspaces { id } } }",
        "workspace": f'{{ workspace(workspaceId: "{railway.workspace_id}") {{ id }} }}',
        "me": "{ me { id } }",
    }
    answers = {name: post(railway, one, headers(railway.token(kind), kind)) for name, one in asked.items()}
    assert {name for name, answer in answers.items() if not answer.json().get("errors")} == sees
    refused = [answer for name, answer in answers.items() if name not in sees]
    assert all(one.status_code == 200 and one.json()["errors"][0]["message"] == "Not Authorized" for one in refused)


def test_a_project_token_knows_its_environment_and_sees_no_other(
    railway: RailwayStandIn, operator: Operator, project_operator: Operator
) -> None:
    ask = "{ projectToken { projectId environmentId } }"
    assert project_operator.ask(ask) == {"projectId": railway.project_id, "environmentId": railway.environment_id}
    wanted = ("EnvironmentCreateInput!", {"projectId": railway.project_id, "name": "other"})
    other = operator.call("environmentCreate", "{ id }", input=wanted)["id"]
    assert operator.ask(_INVENTORY, id=other)["name"] == "other"
    with pytest.raises(Refused, match="Not Authorized"):
        project_operator.ask(_INVENTORY, id=other)
    assert project_operator.ask(_INVENTORY, id=railway.environment_id)["name"] == "production"


def test_a_dead_token_is_told_the_same_as_one_that_may_not(fresh: tuple[RailwayStandIn, ProcessRuntime, Operator]) -> None:
    railway, _, operator = fresh
    denied = operator.post(_ME).json()
    railway.revoke("workspace")
    dead = operator.post(_INVENTORY, id=railway.environment_id)
    assert dead.status_code == 200
    assert [one["message"] for one in dead.json()["errors"]] == [one["message"] for one in denied["errors"]]
    assert post(railway, _INVENTORY, headers(railway.token("workspace"), "workspace"), id=railway.environment_id).json()["data"]


def test_a_project_token_may_be_one_that_only_deploys(tmp_path: Path) -> None:
    kind = replace(PATIENT, project_token_refuses=DEPLOYMENTS_ONLY)
    with RailwayStandIn(tmp_path / "railway", ProcessRuntime(tmp_path), pace=QUICK, behaviour=kind) as railway:
        operator, limited = Operator(railway), Operator(railway, "project")
        _, service = operator.service("app:1")
        with pytest.raises(Refused, match="Not Authorized"):
            limited.ask(_INVENTORY, id=railway.environment_id)
        with pytest.raises(Refused, match="Not Authorized"):
            limited.set_image(service, "app:2")
        limited.deployed(service)
        operator.close()
        limited.close()


def test_a_token_belongs_in_the_header_of_its_kind_and_in_no_other(railway: RailwayStandIn) -> None:
    project, workspace = railway.token("project"), railway.token("workspace")
    ask = {"id": railway.environment_id}
    wrong = [
        {"Authorization": f"Bearer {project}"},
        {"Project-Access-Token": workspace},
        {"Authorization": f"Bearer {workspace}", "Project-Access-Token": project},
        {},
    ]
    for sent in wrong:
        assert post(railway, _INVENTORY, sent, **ask).json()["errors"][0]["message"] == "Not Authorized"


def test_the_user_agent_of_urllib_is_refused_at_the_door(railway: RailwayStandIn) -> None:
    ask = "{ platformStatus { isStable } }"
    for agent in (f"Python-urllib/{sys.version_info.major}.{sys.version_info.minor}", ""):
        refused = post(railway, ask, {"User-Agent": agent})
        assert (refused.status_code, refused.text) == (403, "error code: 1010")
    assert post(railway, ask, {"User-Agent": "stack-operations/1"}).json()["data"] == {"platformStatus": {"isStable": True}}


def test_what_is_no_valid_document_is_http_400_with_errors(operator: Operator) -> None:
    for document in ("query {", "query { nothing }", "query { me { name }", 'mutation { deploymentRollback(id: "x") { id } }'):
        answer = operator.post(document)
        assert answer.status_code == 400
        assert answer.json()["errors"]
    wrong = operator.post("query($id: String!) { deployment(id: $id) { id } }", id=None)
    assert wrong.status_code == 400


def test_a_refusal_and_something_missing_are_http_200_with_errors(operator: Operator) -> None:
    answer = operator.post("query($id: String!) { deployment(id: $id) { id } }", id="nothing")
    assert answer.status_code == 200
    assert answer.json()["errors"][0]["message"] == "Deployment not found"


def test_every_answer_says_what_is_left_and_too_many_are_429(tmp_path: Path) -> None:
    plan = replace(PLANS["hobby"], rate=RateLimit(per_hour=5, per_second=50))
    runtime = ProcessRuntime(tmp_path)
    with RailwayStandIn(tmp_path / "railway", runtime, pace=QUICK, behaviour=Behaviour(plan=plan)) as railway:
        operator = Operator(railway)
        answers = [operator.post(_INVENTORY, id=railway.environment_id) for _ in range(6)]
        assert [one.status_code for one in answers] == [200] * 5 + [429]
        assert [one.headers["X-RateLimit-Remaining"] for one in answers] == ["4", "3", "2", "1", "0", "0"]
        assert answers[0].headers["X-RateLimit-Limit"] == "5"
        assert 3500 < int(answers[5].headers["Retry-After"]) <= 3600
        other = post(railway, _INVENTORY, headers(railway.token("project"), "project"), id=railway.environment_id)
        assert other.status_code == 200
        operator.close()


def test_too_many_in_a_second_are_429_for_a_second(tmp_path: Path) -> None:
    plan = replace(PLANS["pro"], rate=RateLimit(per_hour=1000, per_second=1))
    runtime = ProcessRuntime(tmp_path)
    with RailwayStandIn(tmp_path / "railway", runtime, pace=QUICK, behaviour=Behaviour(plan=plan)) as railway:
        operator = Operator(railway)
        statuses = [operator.post(_INVENTORY, id=railway.environment_id) for _ in range(2)]
        wait_until(
            lambda: operator.post(_INVENTORY, id=railway.environment_id).status_code == 200, timeout=10, what="the next second"
        )
        operator.close()
    refused = [one for one in statuses if one.status_code == 429]
    assert all(one.headers["Retry-After"] == "1" for one in refused)
    assert len(railway.received()) > 2
    assert {one.status for one in railway.received()} == {200, 429}


@pytest.mark.parametrize("status", [500, 502, 503])
def test_in_an_outage_nothing_is_done(railway: RailwayStandIn, operator: Operator, status: int) -> None:
    _, service = operator.service("app:1")
    railway.outage(field="serviceInstanceDeployV2", status=status)
    answer = operator.post(
        "mutation($s: String!, $e: String!) { serviceInstanceDeployV2(serviceId: $s, environmentId: $e) }",
        s=service,
        e=railway.environment_id,
    )
    assert answer.status_code == status
    assert operator.deployments(service) == []


def test_a_connection_may_be_cut_before_anything_is_done(railway: RailwayStandIn, operator: Operator) -> None:
    _, service = operator.service("app:1")
    railway.cut(field="serviceInstanceDeployV2")
    with pytest.raises(httpx.TransportError):
        operator.deploy(service)
    assert operator.deployments(service) == []


def test_the_answer_may_be_lost_when_everything_is_done(railway: RailwayStandIn, operator: Operator) -> None:
    _, service = operator.service("app:1")
    railway.lose_answer(field="serviceInstanceDeployV2")
    with pytest.raises(httpx.TransportError):
        operator.deploy(service)
    assert operator.settled(operator.deployments(service)[0]["id"]) == "SUCCESS"
    assert railway.received("serviceInstanceDeployV2")[-1].status == 0


def test_an_answer_may_come_late(railway: RailwayStandIn, operator: Operator) -> None:
    railway.slow(0.4, field="environment")
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            railway.url,
            json={"query": _INVENTORY, "variables": {"id": railway.environment_id}},
            headers=headers(railway.token("workspace"), "workspace"),
            timeout=0.1,
            trust_env=False,
        )
    assert operator.ask(_INVENTORY, id=railway.environment_id)["name"] == "production"


def test_a_throttled_or_refused_request_does_nothing_and_says_so(railway: RailwayStandIn, operator: Operator) -> None:
    railway.throttle(retry_after=7, field="environment")
    answer = operator.post(_INVENTORY, id=railway.environment_id)
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")
    railway.refuse("Problem processing request", times=2, field="environment")
    with pytest.raises(Refused, match="Problem processing request"):
        operator.ask(_INVENTORY, id=railway.environment_id)
    railway.calm()
    assert operator.ask(_INVENTORY, id=railway.environment_id)["name"] == "production"


def test_what_came_is_kept_without_showing_its_secrets(railway: RailwayStandIn, operator: Operator) -> None:
    _, service = operator.service(variables={"PASSWORD": "canary-of-a-request"})
    operator.set_variables(service, {"PASSWORD": "canary-of-a-request"})
    last = railway.received("variableCollectionUpsert")[-1]
    assert last.variables["input"]["variables"] == {"PASSWORD": "canary-of-a-request"}
    assert "canary" not in repr(last)
    assert "canary" not in repr(railway.received("serviceCreate"))


def test_a_token_that_is_made_works_until_it_is_deleted(railway: RailwayStandIn, operator: Operator) -> None:
    secret = operator.call("projectTokenCreate", input=("ProjectTokenCreateInput!", {**operator.ids, "name": "worker"}))
    who = post(railway, "{ projectToken { id name } }", headers(secret, "project")).json()["data"]["projectToken"]
    assert who["name"] == "worker"
    operator.act("projectTokenDelete", who["id"])
    assert post(railway, "{ projectToken { id } }", headers(secret, "project")).json()["data"] is None


def test_mutations_that_succeeded_are_in_the_audit_log(railway: RailwayStandIn, operator: Operator) -> None:
    _, service = operator.service()
    operator.set_variables(service, {"WORD": "x"})
    document = "query($w: String!) { auditLogs(workspaceId: $w, first: 1) { edges { node { eventType environmentId } } } }"
    newest = operator.ask(document, w=railway.workspace_id)["edges"][0]["node"]
    assert newest == {"eventType": "variableCollectionUpsert", "environmentId": railway.environment_id}
