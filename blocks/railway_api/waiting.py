"""Waiting for a deployment or a workflow until it has ended, however it ends (facts: railway.md 2.3, 2.5).

SUCCESS alone says little: a container of whatever image has started. So it is looked at what runs, and whether it still does.
"""

from __future__ import annotations

import time
from typing import Literal

from blocks.errors import AccessDenied, DeploymentFailed, RailwayError, WorkflowFailed
from blocks.railway_api import documents
from blocks.railway_api.deployments import Deployments
from blocks.railway_api.models import Deployment, DeploymentEvent, DeploymentStatus, InstanceStatus

__all__ = ["DEPLOYMENT_TIMEOUT", "LOG_LINES", "Waiting", "fault_of"]

DEPLOYMENT_TIMEOUT = 900.0
"""Seconds: Railway's own health check may take 300, before it the image is pulled, and migrations run in it."""
LOG_LINES = 100
SETTLE = 60.0
"""Seconds after SUCCESS in which every container must have come up."""
ABSENT = 180.0
"""Seconds in which Railway may not know a workflow yet that it has just named."""

Until = Literal["running", "finished"]

_GONE = frozenset({InstanceStatus.REMOVING, InstanceStatus.REMOVED, InstanceStatus.SKIPPED})

_ENDS = {
    DeploymentStatus.FAILED: "did not build, or its health check never answered 200",
    DeploymentStatus.CRASHED: "its process ended by itself",
    DeploymentStatus.SKIPPED: "Railway skipped it, so nothing new runs",
    DeploymentStatus.REMOVED: "it was taken down, by a person or by a newer deployment",
    DeploymentStatus.NEEDS_APPROVAL: "it waits for a person to approve it in Railway's dashboard",
}


def fault_of(deployment: Deployment, image: str | None, until: Until) -> str:
    """Say what is wrong with a deployment that is active; empty where nothing is.

    Args:
        image: that it must run; None: any.
        until: `running`: all its containers run. `finished`: its process, which is to end by itself, has ended well.
    """
    if image is not None and deployment.image != image:
        return f"it runs {deployment.image or 'an image that Railway does not name'}, expected {image}"
    here = [one.status for one in deployment.instances if one.status not in _GONE]
    if until == "finished":
        over = deployment.stopped or (bool(here) and all(one is InstanceStatus.EXITED for one in here))
        return "" if over else "its process has not ended yet"
    if deployment.status is DeploymentStatus.SLEEPING:
        return ""
    if deployment.stopped:
        return "all its containers have stopped"
    bad = [one for one in here if one is not InstanceStatus.RUNNING]
    return f"a container is {bad[0]}, expected RUNNING" if bad else "" if here else "no container of it runs"


class Waiting(Deployments):
    """The part of `RailwayApi` that waits."""

    def wait_for_deployment(
        self,
        deployment_id: str,
        *,
        timeout: float = DEPLOYMENT_TIMEOUT,
        poll: float = 5.0,
        image: str | None = None,
        until: Until = "running",
        settle: float = SETTLE,
    ) -> Deployment:
        """Wait until a deployment serves, or has ended otherwise.

        Args:
            timeout: seconds; more than the service's own health check timeout. poll: seconds between two looks, more where
                the rate limit asks for it.
            image: with tag, that it must run: a redeployment reruns the old one and says SUCCESS all the same.
            until: `running`, or `finished` for a process that is to end by itself.
            settle: seconds that containers may take to come up after SUCCESS (not for `finished`).
        Returns: the deployment, SUCCESS with running containers, or SLEEPING.
        Raises:
            DeploymentFailed: it ended otherwise, runs something else, or took too long; carries status and last log lines.
        """
        deadline = time.monotonic() + timeout
        settled: float | None = None
        while True:
            now = time.monotonic()
            found = self._seen(deployment_id, deadline)
            if found is not None and not found.status.active:
                if found.status in _ENDS:
                    raise self._failed(found, _ENDS[found.status])
                settled = None
            elif found is not None:
                fault = fault_of(found, image, until)
                if not fault:
                    return found
                settled = now + settle if settled is None else settled
                wrong_image = image is not None and found.image != image
                if wrong_image or (until == "running" and now >= settled):
                    raise self._failed(found, fault)
            pause = self.graphql.budget.pace(poll)
            if now + pause > deadline:
                status = found.status if found else "not to be seen"
                why = fault_of(found, image, until) if found and found.status.active else "it is still under way"
                raise self._failed(found, f"{status} after {timeout:.0f} s: {why}", deployment_id)
            time.sleep(pause)

    def wait_for_workflow(
        self, workflow_id: str, *, timeout: float = 1800.0, poll: float = 5.0, absent: float = ABSENT
    ) -> None:
        """Wait until a long operation of the platform is complete.

        Args:
            timeout: seconds. poll: seconds between two looks.
            absent: seconds in which it may be unknown: right after it was begun it often is.
        Raises:
            WorkflowFailed: it failed, vanished, or took too long.
        """
        begun = time.monotonic()
        while True:
            status, error = self._workflow(workflow_id)
            if status == "Complete":
                return
            if status == "Error":
                why = self.graphql.secrets.scrub(error or "Railway does not say why")
                raise WorkflowFailed(
                    f"railway: the operation {workflow_id} failed: {why}; see the volume in Railway's dashboard"
                )
            waited = time.monotonic() - begun
            if status == "NotFound" and waited > absent:
                raise WorkflowFailed(
                    f"railway: Railway knows no operation {workflow_id} after {absent:.0f} s; look at its result"
                )
            pause = self.graphql.budget.pace(poll)
            if waited + pause > timeout:
                raise WorkflowFailed(
                    f"railway: the operation {workflow_id} is {status} after {timeout:.0f} s, expected Complete; it may still "
                    "end: look at its result before it is begun again"
                )
            time.sleep(pause)

    def _workflow(self, workflow_id: str) -> tuple[str, str]:
        try:
            found = self._run(documents.WORKFLOW, workflowId=workflow_id)["workflowStatus"]
        except RailwayError as error:
            if error.permanent:
                raise
            return "not to be seen", ""  # the API is away for a moment; the operation goes on
        return str(found["status"]), str(found.get("error") or "")

    def _seen(self, deployment_id: str, deadline: float) -> Deployment | None:
        """Look once; None where the API is away for the moment and there is time left."""
        try:
            return self.deployment(deployment_id)
        except RailwayError as error:
            if error.permanent or time.monotonic() > deadline:
                raise
            return None

    def _failed(self, found: Deployment | None, why: str, deployment_id: str = "") -> DeploymentFailed:
        """Gather what a person needs: which step failed, and the last lines of the log."""
        if found is None:
            return DeploymentFailed(f"railway: deployment {deployment_id}: {why}; see Railway's dashboard", status="UNKNOWN")
        service, step, log = "a service", "", tuple[str, ...]()
        try:
            service = self._name(found.service_id or "") or service
            self._learn(found.service_id)  # before anything that it wrote is repeated
            step = _bad_step(self._events(found.id))
            log = tuple(line.message for line in self._logs(found.id, LOG_LINES))
        except (RailwayError, AccessDenied):
            pass  # what went wrong is told without them
        parts = [f"{service}: deployment {found.id} is {found.status}: {why}", *([step] if step else [])]
        parts += [f"its last line: {log[-1][:200]}"] if log else ["its log is empty or may not be shown"]
        return DeploymentFailed("; ".join([*parts, "read its log in Railway's dashboard"]), status=str(found.status), log=log)


def _bad_step(events: list[DeploymentEvent]) -> str:
    bad = next((one for one in reversed(events) if one.error or one.reason), None)
    return f"step {bad.step}: {bad.error or bad.reason}"[:200] if bad else ""
