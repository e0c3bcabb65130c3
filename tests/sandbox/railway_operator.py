"""Somebody who asks the Railway stand-in for things, as any client would."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Mapping
from typing import Any

import httpx

from shared.engines.process import wait_until
from shared.sandbox.railway_api import RailwayStandIn
from shared.sandbox.railway_api.access import TokenKind

TERMINAL = {"SUCCESS", "FAILED", "CRASHED", "REMOVED", "SLEEPING", "SKIPPED"}

_names = itertools.count(1)
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the default one reads the authorities of the world, for each client


class Refused(Exception):
    """What GraphQL said."""


def post(railway: RailwayStandIn, document: str, sent: Mapping[str, str], **variables: Any) -> httpx.Response:
    """Send a document with these headers, and no others that matter."""
    content = {"query": document, "variables": variables}
    return httpx.post(railway.url, json=content, headers=sent, trust_env=False, verify=_NO_TLS)


def headers(token: str, kind: TokenKind) -> dict[str, str]:
    """What a request with this token carries."""
    return {"Project-Access-Token": token} if kind == "project" else {"Authorization": f"Bearer {token}"}


class Operator:
    """Asks with a token.

    Attributes:
        ids: project and environment, as most operations take them.
    """

    def __init__(self, railway: RailwayStandIn, kind: TokenKind = "workspace") -> None:
        self.railway = railway
        self.ids = {"projectId": railway.project_id, "environmentId": railway.environment_id}
        self._client = httpx.Client(headers=headers(railway.token(kind), kind), trust_env=False, timeout=20, verify=_NO_TLS)

    def close(self) -> None:
        self._client.close()

    def post(self, document: str, **variables: Any) -> httpx.Response:
        return self._client.post(self.railway.url, json={"query": document, "variables": variables})

    def ask(self, document: str, **variables: Any) -> Any:
        """The value of the one field that is asked for; raises what GraphQL refuses."""
        body = self.post(document, **variables).json()
        if body.get("errors"):
            raise Refused(body["errors"][0]["message"])
        return next(iter(body["data"].values()))

    def call(self, name: str, selection: str = "", **arguments: tuple[str, Any]) -> Any:
        """A mutation with arguments given as type and value."""
        declared = ", ".join(f"${one}: {kind}" for one, (kind, _) in arguments.items())
        passed = ", ".join(f"{one}: ${one}" for one in arguments)
        document = f"mutation M({declared}) {{ {name}({passed}) {selection} }}"
        return self.ask(document, **{one: value for one, (_, value) in arguments.items()})

    def service(
        self,
        image: str | None = None,
        *,
        name: str | None = None,
        variables: Mapping[str, str] | None = None,
        volume: bool = False,
        **settings: Any,
    ) -> tuple[str, str]:
        """Make a service, with its image set but not deployed; returns its name and its id."""
        called = name or f"service-{next(_names)}"
        made = self.call(
            "serviceCreate",
            "{ id }",
            input=("ServiceCreateInput!", {**self.ids, "name": called, "variables": dict(variables or {})}),
        )
        if volume:
            where = {**self.ids, "serviceId": made["id"], "mountPath": "/data"}
            self.call("volumeCreate", "{ id }", input=("VolumeCreateInput!", where))
        changed = {**settings, **({"source": {"image": image}} if image else {})}
        if changed:
            self.update(made["id"], **changed)
        return called, made["id"]

    def update(self, service_id: str, **settings: Any) -> None:
        self.call(
            "serviceInstanceUpdate",
            serviceId=("String!", service_id),
            environmentId=("String", self.ids["environmentId"]),
            input=("ServiceInstanceUpdateInput!", settings),
        )

    def set_image(self, service_id: str, image: str) -> None:
        self.update(service_id, source={"image": image})

    def deploy(self, service_id: str) -> str:
        """Begin a deployment and return its id."""
        return str(
            self.call(
                "serviceInstanceDeployV2",
                serviceId=("String!", service_id),
                environmentId=("String!", self.ids["environmentId"]),
            )
        )

    def deployed(self, service_id: str, expected: str = "SUCCESS") -> str:
        """Deploy, and see it become what is expected."""
        identity = self.deploy(service_id)
        assert self.settled(identity) == expected
        return identity

    def deployment(self, identity: str) -> dict[str, Any]:
        fields = "id status canRedeploy canRollback deploymentStopped meta instances { id status }"
        found: dict[str, Any] = self.ask(f"query($id: String!) {{ deployment(id: $id) {{ {fields} }} }}", id=identity)
        return found

    def settled(self, identity: str) -> str:
        """The status in which a deployment ends its way."""
        wait_until(lambda: self.deployment(identity)["status"] in TERMINAL, timeout=20, what="a deployment to end")
        return str(self.deployment(identity)["status"])

    def comes_to(self, identity: str, **expected: Any) -> None:
        """Wait until a deployment is as expected; `instance` is the status of its instance."""

        def fits() -> bool:
            found = self.deployment(identity)
            found["instance"] = found["instances"][0]["status"] if found["instances"] else None
            return all(found[name] == value for name, value in expected.items())

        wait_until(fits, timeout=20, what=f"the deployment to have {expected}, not {self.deployment(identity)}")

    def deployments(self, service_id: str) -> list[dict[str, Any]]:
        """Of a service, newest first."""
        document = "query($input: DeploymentListInput!) { deployments(input: $input) { edges { node { id status meta } } } }"
        found = self.ask(document, input={**self.ids, "serviceId": service_id})
        return [one["node"] for one in found["edges"]]

    def act(self, name: str, identity: str) -> Any:
        """deploymentRestart, deploymentStop, ... on a deployment."""
        return self.call(name, id=("String!", identity))

    def set_variables(self, service_id: str | None, values: Mapping[str, Any], **options: bool) -> None:
        wanted = {**self.ids, "serviceId": service_id, "variables": dict(values), "skipDeploys": True, **options}
        self.call("variableCollectionUpsert", input=("VariableCollectionUpsertInput!", wanted))

    def variables(self, service_id: str | None, *, unrendered: bool = False) -> dict[str, str]:
        document = """query($projectId: String!, $environmentId: String!, $serviceId: String, $unrendered: Boolean) {
          variables(projectId: $projectId, environmentId: $environmentId, serviceId: $serviceId, unrendered: $unrendered)
        }"""
        found: dict[str, str] = self.ask(document, **self.ids, serviceId=service_id, unrendered=unrendered)
        return found

    def environment(self, selection: str) -> Any:
        return self.ask(f"query($id: String!) {{ environment(id: $id) {{ {selection} }} }}", id=self.ids["environmentId"])

    def commit(self, patch: Mapping[str, Any]) -> str:
        """Commit a patch of the configuration."""
        return str(
            self.call(
                "environmentPatchCommit",
                environmentId=("String!", self.ids["environmentId"]),
                patch=("EnvironmentConfig!", patch),
            )
        )

    def workflow(self, identity: str) -> dict[str, Any]:
        document = "query($id: String!) { workflowStatus(workflowId: $id) { status error } }"
        found: dict[str, Any] = self.ask(document, id=identity)
        return found

    def finished(self, workflow_id: str) -> dict[str, Any]:
        """What becomes of a workflow."""
        wait_until(lambda: self.workflow(workflow_id)["status"] in ("Complete", "Error"), timeout=20, what="a workflow")
        return self.workflow(workflow_id)

    def volume(self, service_id: str) -> dict[str, Any]:
        """The volume that is mounted in a service."""
        selection = "volumeInstances { edges { node { id volumeId serviceId mountPath sizeMB currentSizeMB state } } }"
        found = [one["node"] for one in self.environment(selection)["volumeInstances"]["edges"]]
        return next(one for one in found if one["serviceId"] == service_id)
