"""Projects, domains, buckets, limits, measurements and templates on the Railway stand-in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.sandbox.railway_api import RailwayStandIn
from tests.sandbox.railway_operator import Operator, Refused
from tests.sandbox.railway_processes import ProcessRuntime

_SINCE = (datetime.now(UTC) - timedelta(hours=1)).isoformat()


def _metrics(operator: Operator, *measurements: str, group: str = "SERVICE_ID", **where: str) -> dict[Any, Any]:
    document = """query(
      $m: [MetricMeasurement!]!, $since: DateTime!, $projectId: String, $environmentId: String, $serviceId: String,
      $volumeId: String, $group: [MetricTag!]
    ) {
      metrics(
        measurements: $m, startDate: $since, projectId: $projectId, environmentId: $environmentId, serviceId: $serviceId,
        volumeId: $volumeId, groupBy: $group, sampleRateSeconds: 60
      ) { measurement tags { serviceId volumeId } values { ts value } }
    }"""
    found = operator.ask(document, m=list(measurements), since=_SINCE, group=[group], **operator.ids, **where)
    return {(one["measurement"], one["tags"]["serviceId"] or one["tags"]["volumeId"]): one["values"] for one in found}


def test_a_new_project_has_one_environment_and_nothing_in_it(operator: Operator, railway: RailwayStandIn) -> None:
    wanted = {"name": "another", "workspaceId": railway.workspace_id, "defaultEnvironmentName": "live"}
    fields = "{ id workspaceId primaryEnvironmentId environments { edges { node { id name } } } }"
    made = operator.call("projectCreate", fields, input=("ProjectCreateInput!", wanted))
    assert made["workspaceId"] == railway.workspace_id
    assert made["environments"]["edges"] == [{"node": {"id": made["primaryEnvironmentId"], "name": "live"}}]
    where = {"projectId": made["id"], "environmentId": made["primaryEnvironmentId"]}
    service = operator.call("serviceCreate", "{ id name }", input=("ServiceCreateInput!", {**where, "name": "one"}))
    document = "query($id: String!) { project(id: $id) { services { edges { node { id name } } } } }"
    assert operator.ask(document, id=made["id"])["services"]["edges"] == [{"node": service}]
    assert "one" not in railway.service_names()
    operator.act("projectDelete", made["id"])
    with pytest.raises(Refused, match="Project not found"):
        operator.ask(document, id=made["id"])


def test_two_services_of_a_project_never_have_one_name(operator: Operator) -> None:
    operator.service(name="only-one")
    with pytest.raises(Refused, match="already exists"):
        operator.service(name="only-one")


def test_lists_come_in_pages(fresh: tuple[RailwayStandIn, ProcessRuntime, Operator]) -> None:
    _, _, operator = fresh
    names = [operator.service()[0] for _ in range(5)]
    document = """query($id: String!, $after: String) {
      environment(id: $id) { serviceInstances(first: 2, after: $after) {
        edges { node { serviceName } } pageInfo { hasNextPage endCursor }
      } }
    }"""
    seen: list[str] = []
    after, pages = None, 0
    while pages == 0 or after:
        found = operator.ask(document, id=operator.ids["environmentId"], after=after)["serviceInstances"]
        seen += [one["node"]["serviceName"] for one in found["edges"]]
        after = found["pageInfo"]["endCursor"] if found["pageInfo"]["hasNextPage"] else None
        pages += 1
    assert (seen, pages) == (names, 3)


def test_a_domain_is_where_the_service_can_be_reached(operator: Operator, runtime: ProcessRuntime) -> None:
    name, service = operator.service("app:1")
    where = {"environmentId": operator.ids["environmentId"], "serviceId": service}
    with pytest.raises(Refused, match="No target port"):
        operator.call("serviceDomainCreate", "{ id }", input=("ServiceDomainCreateInput!", where))
    wanted = ("ServiceDomainCreateInput!", {**where, "targetPort": 8080})
    made = operator.call("serviceDomainCreate", "{ id domain }", input=wanted)
    assert made["domain"] == runtime.public_address(name, 8080)
    document = """query($projectId: String!, $environmentId: String!, $serviceId: String!) {
      domains(projectId: $projectId, environmentId: $environmentId, serviceId: $serviceId) {
        serviceDomains { id } customDomains { domain status { verified } }
      }
    }"""
    own = {**operator.ids, "serviceId": service, "domain": "llm.example.com", "targetPort": 8080}
    operator.call("customDomainCreate", "{ id }", input=("CustomDomainCreateInput!", own))
    found = operator.ask(document, **operator.ids, serviceId=service)
    assert found["serviceDomains"] == [{"id": made["id"]}]
    assert found["customDomains"] == [{"domain": "llm.example.com", "status": {"verified": False}}]
    operator.act("serviceDomainDelete", made["id"])
    assert operator.ask(document, **operator.ids, serviceId=service)["serviceDomains"] == []


def test_a_tcp_proxy_is_opened_by_a_patch_and_needs_a_deployment(operator: Operator, runtime: ProcessRuntime) -> None:
    name, service = operator.service("app:1")
    operator.commit({"services": {service: {"networking": {"tcpProxies": {"5432": {}}}}}})
    assert operator.settled(operator.deployments(service)[0]["id"]) == "SUCCESS"
    document = "query($e: String!, $s: String!) { tcpProxies(environmentId: $e, serviceId: $s) { id domain proxyPort } }"
    proxy = operator.ask(document, e=operator.ids["environmentId"], s=service)[0]
    assert f"{proxy['domain']}:{proxy['proxyPort']}" == runtime.public_address(name, 5432)
    assert runtime.of(name)[0].spec.variables["RAILWAY_TCP_PROXY_PORT"] == str(proxy["proxyPort"])
    operator.act("tcpProxyDelete", proxy["id"])
    assert operator.ask(document, e=operator.ids["environmentId"], s=service) == []


def test_a_bucket_is_only_defined_until_a_patch_makes_it(operator: Operator, runtime: ProcessRuntime) -> None:
    wanted = ("BucketCreateInput!", {"projectId": operator.ids["projectId"], "name": "events"})
    bucket = operator.call("bucketCreate", "{ id name }", input=wanted)["id"]
    document = """query($projectId: String!, $environmentId: String!, $bucketId: String!) {
      bucketS3Credentials(projectId: $projectId, environmentId: $environmentId, bucketId: $bucketId) {
        bucketName endpoint region urlStyle accessKeyId secretAccessKey
      }
    }"""
    with pytest.raises(Refused, match="not deployed"):
        operator.ask(document, **operator.ids, bucketId=bucket)
    with pytest.raises(Refused, match="region"):
        operator.commit({"buckets": {bucket: {"region": "mars", "isCreated": True}}})
    operator.commit({"buckets": {bucket: {"region": "ams", "isCreated": True}}})
    found = operator.ask(document, **operator.ids, bucketId=bucket)[0]
    assert (found["region"], found["urlStyle"]) == ("auto", "virtual")
    assert found["bucketName"] != "events"
    with pytest.raises(Refused, match="cannot be changed"):
        operator.commit({"buckets": {bucket: {"region": "sjc", "isCreated": True}}})
    name, service = operator.service("app:1", variables={"S3": "${{events.BUCKET}} ${{events.SECRET_ACCESS_KEY}}"})
    operator.deployed(service)
    assert runtime.of(name)[0].spec.variables["S3"] == f"{found['bucketName']} {found['secretAccessKey']}"


def test_new_credentials_of_a_bucket_deploy_who_uses_them_if_asked_to(operator: Operator, runtime: ProcessRuntime) -> None:
    wanted = ("BucketCreateInput!", {"projectId": operator.ids["projectId"], "name": "rotated"})
    bucket = operator.call("bucketCreate", "{ id }", input=wanted)["id"]
    operator.commit({"buckets": {bucket: {"region": "ams", "isCreated": True}}})
    name, service = operator.service("app:1", variables={"KEY": "${{rotated.SECRET_ACCESS_KEY}}"})
    ids = {one: ("String!", value) for one, value in {**operator.ids, "bucketId": bucket}.items()}
    renewed = operator.call(
        "bucketCredentialsReset",
        "{ secretAccessKey }",
        projectId=ids["projectId"],
        environmentId=ids["environmentId"],
        bucketId=ids["bucketId"],
        redeployDependents=("Boolean", True),
    )
    assert operator.settled(operator.deployments(service)[0]["id"]) == "SUCCESS"
    assert runtime.of(name)[0].spec.variables["KEY"] == renewed["secretAccessKey"]


def test_limits_are_the_plans_until_they_are_overridden(operator: Operator) -> None:
    _, service = operator.service("app:1")
    where = {"environmentId": operator.ids["environmentId"], "serviceId": service}
    document = """query($environmentId: String!, $serviceId: String!) {
      serviceInstanceLimits(environmentId: $environmentId, serviceId: $serviceId)
      serviceInstanceLimitOverride(environmentId: $environmentId, serviceId: $serviceId)
    }"""
    before = operator.post(document, **where).json()["data"]
    assert before["serviceInstanceLimitOverride"] is None
    wanted = ("ServiceInstanceLimitsUpdateInput!", {**where, "memoryGB": 2, "vCPUs": 0.5})
    operator.call("serviceInstanceLimitsUpdate", input=wanted)
    after = operator.post(document, **where).json()["data"]
    assert after["serviceInstanceLimitOverride"] == {"containers": {"cpu": 0.5, "memoryBytes": 2_000_000_000}}
    assert after["serviceInstanceLimits"]["containers"] == {"cpu": 0.5, "memoryBytes": 2_000_000_000}
    with pytest.raises(Refused, match="not within"):
        operator.call("serviceInstanceLimitsUpdate", input=("ServiceInstanceLimitsUpdateInput!", {**where, "memoryGB": 1e6}))


def test_measurements_are_those_of_the_disk_the_limits_and_what_was_said(operator: Operator, railway: RailwayStandIn) -> None:
    name, service = operator.service("app:1", volume=True)
    (railway.volume_directory(name) / "file").write_bytes(b"x" * 3_000_000)
    railway.measure(name, "MEMORY_USAGE_GB", 1.5)
    found = _metrics(operator, "MEMORY_USAGE_GB", "MEMORY_LIMIT_GB", "DISK_USAGE_GB", "CPU_USAGE", serviceId=service)
    assert [one["value"] for one in found["MEMORY_USAGE_GB", service]] == [1.5]
    assert [one["value"] for one in found["MEMORY_LIMIT_GB", service]] == [1000]
    assert found["DISK_USAGE_GB", service][0]["value"] == pytest.approx(0.003, rel=0.05)
    assert found["CPU_USAGE", None] == []
    volume = operator.volume(service)
    assert volume["currentSizeMB"] == pytest.approx(3, rel=0.05)
    of_volume = _metrics(operator, "DISK_USAGE_GB", group="VOLUME_ID", volumeId=volume["volumeId"])
    assert of_volume["DISK_USAGE_GB", volume["volumeId"]][0]["value"] == pytest.approx(0.003, rel=0.05)


def test_a_template_keeps_expressions_and_drops_what_was_written_out(
    fresh: tuple[RailwayStandIn, ProcessRuntime, Operator],
) -> None:
    railway, runtime, operator = fresh
    variables = {"PASSWORD": "canary-template", "URL": "${{PASSWORD}}@x", "KEY": "${{secret(16)}}"}
    name, _ = operator.service("app:1", variables=variables, volume=True, healthcheckPath="/", healthcheckTimeout=1500)
    made = operator.call(
        "templateGenerate",
        "{ id code status serializedConfig }",
        input=("TemplateGenerateInput!", {"projectId": railway.project_id, "environmentId": railway.environment_id}),
    )
    config = made["serializedConfig"]
    (service,) = config["services"].values()
    assert "canary" not in str(config)
    assert (made["status"], service["name"], service["source"]) == ("UNPUBLISHED", name, {"image": "app:1"})
    assert service["variables"]["URL"]["defaultValue"] == "${{PASSWORD}}@x"
    assert "defaultValue" not in service["variables"]["PASSWORD"]
    project = operator.call("projectCreate", "{ id }", input=("ProjectCreateInput!", {"name": "from a template"}))["id"]
    wanted = {"templateId": made["id"], "projectId": project, "serializedConfig": config}
    deploy = ("TemplateDeployV2Input!", wanted)
    with pytest.raises(Refused, match="Problem processing request"):
        operator.call("templateDeployV2", "{ projectId }", input=deploy)
    service["variables"]["PASSWORD"]["value"] = "mine"
    begun = operator.call("templateDeployV2", "{ projectId workflowId }", input=deploy)
    assert operator.finished(begun["workflowId"])["status"] == "Complete"
    spec = _started(operator, runtime, project, name)
    assert (spec.variables["URL"], len(spec.variables["KEY"])) == ("mine@x", 16)
    published = {"category": "AI/ML", "description": "d", "readme": "r"}
    assert operator.call(
        "templatePublish", "{ status }", id=("String!", made["id"]), input=("TemplatePublishInput!", published)
    ) == {"status": "PUBLISHED"}


def _started(operator: Operator, runtime: ProcessRuntime, project: str, name: str) -> Any:
    document = "query($i: DeploymentListInput!) { deployments(input: $i) { edges { node { id } } } }"
    identity = operator.ask(document, i={"projectId": project})["edges"][0]["node"]["id"]
    assert operator.settled(identity) == "SUCCESS"
    return runtime.of(name)[-1].spec


def test_notification_rules_are_kept(operator: Operator, railway: RailwayStandIn) -> None:
    wanted = {
        "workspaceId": railway.workspace_id,
        "projectId": railway.project_id,
        "eventTypes": ["Deployment.failed"],
        "channelConfigs": [{"type": "webhook", "url": "https://example.com/x"}],
    }
    rule = operator.call("notificationRuleCreate", "{ id }", input=("CreateNotificationRuleInput!", wanted))["id"]
    change = ("UpdateNotificationRuleInput!", {"eventTypes": ["Deployment.crashed"]})
    operator.call("notificationRuleUpdate", "{ id }", id=("String!", rule), input=change)
    document = "query($w: String!) { notificationRules(workspaceId: $w) { eventTypes channels { config } } }"
    assert operator.ask(document, w=railway.workspace_id) == [
        {"eventTypes": ["Deployment.crashed"], "channels": [{"config": wanted["channelConfigs"][0]}]}
    ]
    operator.act("notificationRuleDelete", rule)
    assert operator.ask(document, w=railway.workspace_id) == []
