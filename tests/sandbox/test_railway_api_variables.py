"""Variables and staged changes on the Railway stand-in: references, seals, and who is deployed when something changes."""

from __future__ import annotations

import pytest

from shared.sandbox.railway_api import RailwayStandIn
from shared.sandbox.railway_api.references import refers_to, render, waits_for
from tests.sandbox.railway_operator import Operator, Refused
from tests.sandbox.railway_processes import ProcessRuntime


def test_references_are_filled_in_through_services_and_shared_variables_and_what_is_unknown_is_empty() -> None:
    values = {
        "postgres": {"USER": "me", "URL": "postgres://${{USER}}@${{postgres.HOST}}/", "HOST": "postgres.railway.internal"},
        "shared": {"STAGE": "production", "BOTH": "${{STAGE}}-${{postgres.USER}}"},
        "my app": {
            "DATABASE_URL": "${{ postgres.URL }}x",
            "WORDS": "${{shared.BOTH}} ${{nobody.NAME}}|${{MISSING}}|${{postgres.NOTHING}}",
            "LOOP": "a${{LOOP}}b",
            "GENERATED": "${{secret(32)}}",
        },
    }
    assert render(values, "my app") == {
        "DATABASE_URL": "postgres://me@postgres.railway.internal/x",
        "WORDS": "production-me ||",
        "LOOP": "ab",
        "GENERATED": "${{secret(32)}}",
    }
    assert render({"other": {"A": "${{my app.B}}"}, "my app": {"B": "1"}}, "other") == {"A": "1"}


def test_who_refers_to_what_is_found_through_others_and_only_for_that_variable() -> None:
    values = {"a": {"X": "${{b.Y}}"}, "b": {"Y": "${{shared.Z}}", "OTHER": "1"}, "shared": {"Z": "1"}}
    assert refers_to(values, "a", {("shared", "Z")})
    assert refers_to(values, "a", {("b", "Y")})
    assert not refers_to(values, "a", {("b", "OTHER")})


def test_a_service_waits_for_those_it_refers_to_but_not_within_a_cycle_nor_for_a_written_host_name() -> None:
    values = {
        "db": {"URL": "x"},
        "api": {"DATABASE_URL": "${{db.URL}}"},
        "web": {"API": "${{shared.API}}", "REDIS": "redis://redis.railway.internal:6379"},
        "redis": {},
        "left": {"R": "${{right.L}}", "D": "${{db.URL}}"},
        "right": {"L": "${{left.R}}"},
        "shared": {"API": "${{api.DATABASE_URL}}"},
    }
    assert waits_for(values, ["web", "db", "left", "right", "redis"]) == {
        "web": {"db"},  # through api, which is not among them
        "db": frozenset(),
        "left": {"db"},
        "right": {"db"},
        "redis": frozenset(),
    }


def test_a_container_gets_its_variables_rendered_and_those_of_the_platform(
    operator: Operator, runtime: ProcessRuntime, railway: RailwayStandIn
) -> None:
    operator.service("app:1", name="Main DB", variables={"PASSWORD": "secret"})
    operator.set_variables(None, {"STAGE": "test"})
    own = {
        "URL": "db://:${{Main DB.PASSWORD}}@${{Main DB.RAILWAY_PRIVATE_DOMAIN}}",
        "STAGE": "${{shared.STAGE}}",
        "PORT": "8000",
    }
    name, service = operator.service("app:1", variables=own, volume=True)
    where = {"environmentId": railway.environment_id, "serviceId": service}
    domain = operator.call("serviceDomainCreate", "{ domain targetPort }", input=("ServiceDomainCreateInput!", where))
    identity = operator.deployed(service)
    spec = runtime.of(name)[0].spec
    assert spec.variables["URL"] == "db://:secret@main-db.railway.internal"
    assert spec.variables["STAGE"] == "test"
    assert spec.port == 8000
    assert domain == {"domain": runtime.public_address(name, 8000), "targetPort": 8000}
    told = {name: value for name, value in spec.variables.items() if name.startswith("RAILWAY_")}
    assert told["RAILWAY_PUBLIC_DOMAIN"] == domain["domain"]
    assert told["RAILWAY_DEPLOYMENT_ID"] == identity
    assert (told["RAILWAY_SERVICE_ID"], told["RAILWAY_SERVICE_NAME"]) == (service, name)
    assert (told["RAILWAY_PROJECT_ID"], told["RAILWAY_ENVIRONMENT_ID"]) == (railway.project_id, railway.environment_id)
    assert (told["RAILWAY_ENVIRONMENT_NAME"], told["RAILWAY_VOLUME_MOUNT_PATH"]) == ("production", "/data")
    assert told["RAILWAY_PRIVATE_DOMAIN"] == f"{name}.railway.internal"


def test_variables_come_rendered_with_those_of_the_platform_or_as_they_were_set(operator: Operator) -> None:
    _, service = operator.service(variables={"A": "${{B}}", "B": "1"})
    rendered = operator.variables(service)
    assert (rendered["A"], rendered["RAILWAY_SERVICE_ID"]) == ("1", service)
    assert operator.variables(service, unrendered=True) == {"A": "${{B}}", "B": "1"}


def test_replacing_removes_every_other_variable(operator: Operator) -> None:
    _, service = operator.service(variables={"A": "1", "B": "2"})
    operator.set_variables(service, {"C": "3"})
    assert set(operator.variables(service, unrendered=True)) == {"A", "B", "C"}
    operator.set_variables(service, {"A": "4"}, replace=True)
    assert operator.variables(service, unrendered=True) == {"A": "4"}


def test_a_value_that_is_no_text_is_refused_and_nothing_is_changed(operator: Operator) -> None:
    _, service = operator.service(variables={"A": "1"})
    with pytest.raises(Refused, match="strings"):
        operator.set_variables(service, {"B": "2", "C": 3}, replace=True)
    assert operator.variables(service, unrendered=True) == {"A": "1"}


def test_a_change_deploys_unless_told_not_to(operator: Operator, runtime: ProcessRuntime) -> None:
    name, service = operator.service("app:1", variables={"WORD": "old"})
    first = operator.deployed(service)
    operator.set_variables(service, {"WORD": "quiet"})
    assert [one["id"] for one in operator.deployments(service)] == [first]
    operator.set_variables(service, {"WORD": "loud"}, skipDeploys=False)
    second = operator.deployments(service)[0]["id"]
    assert second != first
    assert operator.settled(second) == "SUCCESS"
    assert runtime.of(name)[-1].spec.variables["WORD"] == "loud"
    operator.call("variableDelete", input=("VariableDeleteInput!", {**operator.ids, "serviceId": service, "name": "WORD"}))
    assert operator.settled(operator.deployments(service)[0]["id"]) == "SUCCESS"
    assert "WORD" not in runtime.of(name)[-1].spec.variables


def test_one_variable_deploys_its_own_service_and_a_shared_one_those_that_use_it(operator: Operator) -> None:
    operator.set_variables(None, {"LEVEL": "info"})
    target, target_id = operator.service("app:1", variables={"WORD": "1", "LEVEL": "${{shared.LEVEL}}"})
    _, user_id = operator.service("app:1", variables={"WORD": f"${{{{{target}.WORD}}}}"})
    operator.set_variables(target_id, {"WORD": "2"}, skipDeploys=False)
    assert (len(operator.deployments(target_id)), len(operator.deployments(user_id))) == (1, 0)
    operator.set_variables(None, {"LEVEL": "debug"}, skipDeploys=False)
    assert (len(operator.deployments(target_id)), len(operator.deployments(user_id))) == (2, 0)


def test_sealed_values_are_used_and_never_come_back_under_any_question(
    operator: Operator, runtime: ProcessRuntime, railway: RailwayStandIn
) -> None:
    name, service = operator.service("app:1", variables={"TOKEN": "canary-sealed", "OPEN": "1"})
    railway.seal(name, "TOKEN")
    identity = operator.deployed(service)
    assert runtime.of(name)[0].spec.variables["TOKEN"] == "canary-sealed"
    one = """query($p: String!, $e: String!, $s: String!) {
      variablesForServiceDeployment(projectId: $p, environmentId: $e, serviceId: $s)
    }"""
    snapshot = "query($id: String!) { deploymentSnapshot(deploymentId: $id) { variables } }"
    answers = [
        operator.variables(service),
        operator.variables(service, unrendered=True),
        operator.ask(one, p=railway.project_id, e=railway.environment_id, s=service),
        operator.ask(snapshot, id=identity)["variables"],
        operator.environment("config(decryptVariables: true)")["config"]["services"][service]["variables"],
    ]
    assert "canary" not in str(answers)
    assert all("OPEN" in one for one in answers)
    found = operator.environment("variables { edges { node { name serviceId isSealed } } }")["variables"]["edges"]
    assert {"name": "TOKEN", "serviceId": service, "isSealed": True} in [each["node"] for each in found]
    operator.commit({"services": {service: {"variables": {"TOKEN": {"value": "canary-second", "isSealed": False}}}}})
    assert "TOKEN" not in operator.variables(service)


def test_the_configuration_is_masked_unless_decrypted_and_its_etag_changes_with_it(operator: Operator) -> None:
    _, service = operator.service("app:1", variables={"WORD": "canary-masked"})
    before = operator.environment("configEtag config")
    assert before["config"]["services"][service]["variables"] == {"WORD": {"value": None}}
    assert before["config"]["services"][service]["source"] == {"image": "app:1"}
    opened = operator.environment("config(decryptVariables: true)")["config"]
    assert opened["services"][service]["variables"] == {"WORD": {"value": "canary-masked"}}
    operator.set_variables(service, {"WORD": "another"})
    assert operator.environment("configEtag")["configEtag"] != before["configEtag"]


def test_a_patch_deploys_what_it_changes_and_who_depends_on_it_in_the_order_of_references(
    operator: Operator, runtime: ProcessRuntime
) -> None:
    database, database_id = operator.service("app:1", variables={"URL": "1"}, healthcheckPath="/", healthcheckTimeout=1500)
    middle, middle_id = operator.service(
        "app:1", variables={"URL": f"${{{{{database}.URL}}}}"}, healthcheckPath="/", healthcheckTimeout=1500
    )
    last, last_id = operator.service("app:1", variables={"URL": f"${{{{{middle}.URL}}}}"})
    other, other_id = operator.service("app:1", variables={"HOST": f"{database}.railway.internal"})
    operator.commit({"services": {database_id: {"variables": {"URL": {"value": "2"}}}}})
    assert operator.deployments(other_id) == []
    newest = {one: operator.deployments(one)[0]["id"] for one in (database_id, middle_id, last_id)}
    assert [operator.settled(one) for one in newest.values()] == ["SUCCESS"] * 3
    started = [one.spec.service for one in runtime.containers if one.spec.service in (database, middle, last, other)]
    assert started == [database, middle, last]
    assert runtime.of(last)[0].spec.variables["URL"] == "2"
    events = "query($id: String!) { deploymentEvents(id: $id) { edges { node { step } } } }"
    steps = [one["node"]["step"] for one in operator.ask(events, id=newest[last_id])["edges"]]
    assert steps[0] == "WAIT_FOR_DEPENDENCIES"


def test_single_deployments_are_not_ordered(operator: Operator) -> None:
    database, database_id = operator.service("app:mute", healthcheckPath="/", healthcheckTimeout=30_000)
    _, user_id = operator.service("app:1", variables={"URL": f"${{{{{database}.URL}}}}"})
    blocked = operator.deploy(database_id)
    operator.deployed(user_id)
    assert operator.deployment(blocked)["status"] not in ("SUCCESS", "FAILED")
    operator.act("deploymentCancel", blocked)


def test_committing_what_is_staged_commits_also_what_somebody_else_has_staged(
    fresh: tuple[RailwayStandIn, ProcessRuntime, Operator],
) -> None:
    railway, _, operator = fresh
    (_, mine), (_, theirs) = operator.service("app:1"), operator.service("app:1")
    railway.stage({"services": {theirs: {"variables": {"DANGER": {"value": "1"}}}}})
    assert operator.environment("unmergedChangesCount")["unmergedChangesCount"] == 1
    operator.commit({"services": {mine: {"variables": {"WORD": {"value": "1"}}}}})
    assert operator.variables(mine, unrendered=True) == {"WORD": "1"}
    assert operator.environment("unmergedChangesCount")["unmergedChangesCount"] == 1
    change = {"services": {mine: {"variables": {"WORD": {"value": "2"}}}}}
    operator.call(
        "environmentStageChanges",
        "{ id }",
        environmentId=("String!", railway.environment_id),
        input=("EnvironmentConfig!", change),
        merge=("Boolean", True),
    )
    assert operator.variables(mine, unrendered=True) == {"WORD": "1"}
    operator.call("environmentPatchCommitStaged", environmentId=("String!", railway.environment_id))
    assert operator.variables(theirs, unrendered=True) == {"DANGER": "1"}
    assert operator.variables(mine, unrendered=True) == {"WORD": "2"}
    assert operator.environment("unmergedChangesCount")["unmergedChangesCount"] == 0
    with pytest.raises(Refused, match="No staged changes"):
        operator.call("environmentPatchCommitStaged", environmentId=("String!", railway.environment_id))


def test_staging_without_merging_throws_away_what_somebody_else_has_staged(
    fresh: tuple[RailwayStandIn, ProcessRuntime, Operator],
) -> None:
    railway, _, operator = fresh
    (_, mine), (_, theirs) = operator.service("app:1"), operator.service("app:1")
    railway.stage({"services": {theirs: {"deploy": {"startCommand": "theirs"}}}})
    operator.call(
        "environmentStageChanges",
        "{ id status }",
        environmentId=("String!", railway.environment_id),
        input=("EnvironmentConfig!", {"services": {mine: {"deploy": {"startCommand": "mine"}}}}),
    )
    document = "query($e: String!) { environmentStagedChanges(environmentId: $e) { status patch } }"
    staged = operator.ask(document, e=railway.environment_id)
    assert (staged["status"], set(staged["patch"]["services"])) == ("STAGED", {mine})


def test_a_patch_that_names_what_there_is_not_changes_nothing(operator: Operator) -> None:
    _, service = operator.service("app:1", variables={"WORD": "1"})
    wrong = {"services": {service: {"variables": {"WORD": {"value": "2"}}}, "nobody": {"deploy": {}}}}
    with pytest.raises(Refused, match="nobody not found"):
        operator.commit(wrong)
    wrong = {"services": {service: {"variables": {"WORD": {"value": "2"}, "NUMBER": {"value": 3}}}}}
    with pytest.raises(Refused, match="NUMBER must be a string"):
        operator.commit(wrong)
    assert operator.variables(service, unrendered=True) == {"WORD": "1"}


def test_scaling_by_a_patch_deploys_nothing(operator: Operator) -> None:
    _, service = operator.service("app:1")
    first = operator.deployed(service)
    operator.commit({"services": {service: {"deploy": {"multiRegionConfig": {"europe-west4-drams3a": {"numReplicas": 2}}}}}})
    assert [one["id"] for one in operator.deployments(service)] == [first]
    found = operator.environment("serviceInstances { edges { node { serviceId numReplicas } } }")["serviceInstances"]["edges"]
    assert {"serviceId": service, "numReplicas": 2} in [one["node"] for one in found]


def test_leaving_the_environment_out_changes_all_of_them(fresh: tuple[RailwayStandIn, ProcessRuntime, Operator]) -> None:
    railway, _, operator = fresh
    _, service = operator.service("app:1")
    wanted = {"projectId": railway.project_id, "name": "staging", "sourceEnvironmentId": railway.environment_id}
    quiet = ("EnvironmentCreateInput!", {**wanted, "skipInitialDeploys": True})
    staging = operator.call("environmentCreate", "{ id }", input=quiet)["id"]
    document = "query($e: String!, $s: String!) { serviceInstance(environmentId: $e, serviceId: $s) { source { image } } }"

    def images() -> list[str]:
        both = (railway.environment_id, staging)
        return [operator.ask(document, e=one, s=service)["source"]["image"] for one in both]

    operator.set_image(service, "app:2")
    assert images() == ["app:2", "app:1"]
    change = ("ServiceInstanceUpdateInput!", {"source": {"image": "app:3"}})
    operator.call("serviceInstanceUpdate", serviceId=("String!", service), input=change)
    assert images() == ["app:3", "app:3"]
    made = operator.call(
        "serviceCreate", "{ id }", input=("ServiceCreateInput!", {"projectId": railway.project_id, "name": "x"})
    )
    assert operator.ask(document, e=staging, s=made["id"]) == {"source": None}
