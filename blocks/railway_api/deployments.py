"""Deployments: read them, make them, end them (facts: railway.md 2.4, 2.5)."""

from __future__ import annotations

from blocks.railway_api import documents
from blocks.railway_api.models import Deployment, DeploymentEvent, LogLine, nodes
from blocks.railway_api.session import Session

__all__ = ["Deployments"]


class Deployments(Session):
    """The part of `RailwayApi` about deployments. What changes one raises `GuardRefused` for a protected service."""

    def deployments(self, service_id: str, first: int = 10) -> list[Deployment]:
        """Read a service's deployments, the newest first."""
        found = self._run(documents.DEPLOYMENTS, input={**self._where, "serviceId": service_id}, first=first)
        return [Deployment.model_validate(one) for one in nodes(found["deployments"], "deployments")]

    def events(self, deployment_id: str) -> list[DeploymentEvent]:
        """Read the steps of a deployment, oldest first, scrubbed; see `logs`."""
        self._learn(self.deployment(deployment_id).service_id)
        return self._events(deployment_id)

    def logs(self, deployment_id: str, limit: int = 100) -> list[LogLine]:
        """Read the last lines that a deployment's containers wrote, oldest first, scrubbed.

        Its service's variables are read first: a line that repeats one of them must not be passed on.

        Args:
            limit: at most 5,000.
        Raises:
            RailwayDenied: the token may not read the variables, so that nobody could say what is secret in the lines.
        """
        self._learn(self.deployment(deployment_id).service_id)
        return self._logs(deployment_id, limit)

    def deploy(self, service_id: str) -> str:
        """Deploy a service as it is configured now: its image, settings and variables.

        Returns: the new deployment's id.
        Raises:
            Uncertain: it may have been made: look in `deployments` for one that is newer than your request.
        """
        self.guard(service_id, "a deployment")
        return str(self._do(documents.DEPLOY, serviceId=service_id, environmentId=self.place.environment_id))

    def redeploy(self, deployment_id: str, *, same_digest: bool = False) -> str:
        """Run a deployment again as it was: its OLD image and variables, whatever is configured now (see `deploy`).

        Args:
            same_digest: exactly that image, where its tag has moved on meanwhile.
        Returns: the new deployment's id.
        """
        self.guard_deployment(deployment_id, "a redeployment")
        return str(self._do(documents.REDEPLOY, id=deployment_id, usePreviousImageTag=same_digest)["id"])

    def restart(self, deployment_id: str) -> None:
        """Restart its containers: same image, same variables."""
        self.guard_deployment(deployment_id, "a restart")
        self._do(documents.RESTART, id=deployment_id)

    def rollback(self, deployment_id: str) -> None:
        """Go back to an old deployment: its image, settings and variables, as a new deployment.

        What is configured stays as it is, so that the next `deploy` would bring the new image back: set the image, too.

        Args:
            deployment_id: of the old one, whose `can_rollback` is true: Railway keeps images for some days.
        """
        self.guard_deployment(deployment_id, "a rollback")
        self._do(documents.ROLLBACK, id=deployment_id)

    def stop(self, deployment_id: str) -> None:
        """Stop its containers and keep the deployment; `deploy` starts the service again."""
        self.guard_deployment(deployment_id, "a stop")
        self._do(documents.STOP, id=deployment_id)

    def remove(self, deployment_id: str) -> None:
        """Take a deployment down for good; it moves to the history."""
        self.guard_deployment(deployment_id, "a removal")
        self._do(documents.REMOVE, id=deployment_id)

    def cancel(self, deployment_id: str) -> None:
        """Give up a deployment that is still under way."""
        self.guard_deployment(deployment_id, "a cancellation")
        self._do(documents.CANCEL, id=deployment_id)

    def _learn(self, service_id: str | None) -> None:
        """Learn what is secret in the texts of a service."""
        if service_id:
            found = self._run(documents.VARIABLES_RENDERED, serviceId=service_id, **self._where)
            values = found["variablesForServiceDeployment"] or {}
            self.graphql.secrets.learn({str(name): str(value) for name, value in values.items() if value is not None})

    def _events(self, deployment_id: str) -> list[DeploymentEvent]:
        """As `events`, where the secrets are known already."""
        found = self._run(documents.DEPLOYMENT_EVENTS, id=deployment_id, first=50)["deploymentEvents"]
        events = (
            DeploymentEvent.model_validate({**one, "payload": one.get("payload") or {}}) for one in nodes(found, "events")
        )
        return sorted((one.scrubbed(self.graphql.secrets.scrub) for one in events), key=lambda one: one.created_at)

    def _logs(self, deployment_id: str, limit: int) -> list[LogLine]:
        """As `logs`, where the secrets are known already."""
        found = self._run(documents.DEPLOYMENT_LOGS, deploymentId=deployment_id, limit=limit)["deploymentLogs"]
        lines = sorted((LogLine.model_validate(one) for one in found), key=lambda one: one.timestamp)
        scrub = self.graphql.secrets.scrub
        return [one.model_copy(update={"message": scrub(one.message)}) for one in lines[-limit:]]  # the API sends one too many
