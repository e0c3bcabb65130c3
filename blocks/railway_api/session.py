"""What every verb needs: where it acts, what it may not touch, and whether somebody else's edits are in the way."""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from blocks.errors import GuardRefused, RailwayRefused, SettingsError
from blocks.railway_api import documents
from blocks.railway_api.client import GraphQL
from blocks.railway_api.models import Deployment, Inventory, Project, nodes

__all__ = ["Place", "Session", "only"]


@dataclass(frozen=True)
class Place:
    """The one environment of one project that is acted on, and who in it is protected.

    Attributes:
        protected: names of the services of the operations layer itself. own_service_id: of the service that this runs in,
            empty outside Railway. allowed: names whose protection is lifted, for the step that changes them on purpose.
    """

    project_id: str
    environment_id: str
    protected: frozenset[str] = frozenset()
    own_service_id: str = ""
    allowed: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for name in ("project_id", "environment_id"):
            if not getattr(self, name):
                raise SettingsError(
                    f"railway: no {name}; without it Railway would act on every environment, so nothing is done; "
                    f"set RAILWAY_{name.upper()}"
                )


@dataclass(repr=False)
class Session:
    """Base of `RailwayApi`: reads what all its parts need.

    Attributes:
        graphql: sends. place: where.
    """

    graphql: GraphQL
    place: Place
    _names: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def project(self) -> Project:
        """Read the project, and the names of what is in it.

        Raises:
            RailwayDenied: the token may not; that of a project often may not.
        """
        found = self._run(documents.PROJECT, projectId=self.place.project_id)["project"]
        lists = {
            name: nodes(found[name], f"{name} of the project") for name in ("environments", "services", "volumes", "buckets")
        }
        return Project.model_validate({**found, **lists})

    def inventory(self) -> Inventory:
        """Read everything in the environment, in one request: services, their deployments, domains and volumes."""
        found = self._run(documents.INVENTORY, **self._where)
        inventory = Inventory.of(found["environment"])
        for one in inventory.services.values():
            self._remember(one.service_id, one.name)
        return inventory

    def deployment(self, deployment_id: str) -> Deployment:
        """Read one deployment."""
        return Deployment.model_validate(self._run(documents.DEPLOYMENT, id=deployment_id)["deployment"])

    def unmerged_changes(self) -> int:
        """Count the edits that somebody has staged in the dashboard and not committed."""
        found = self._run(documents.UNMERGED, **self._where)
        count = found["environment"].get("unmergedChangesCount")
        return int(count) if count is not None else int(bool(self.staged_changes()))

    def staged_changes(self) -> Mapping[str, Any]:
        """Read what is staged, in the shape of an `EnvironmentConfig`; Railway hides the values of variables in it."""
        found = self._run(documents.STAGED, environmentId=self.place.environment_id)["environmentStagedChanges"]
        patch = found.get("patch")
        return {key: value for key, value in patch.items() if value} if isinstance(patch, dict) else {}

    def need_nothing_staged(self, what: str) -> None:
        """Go on only where nobody has edits in the dashboard that `what` would take along.

        Raises:
            GuardRefused: there are some.
        """
        count = self.unmerged_changes()
        if count:
            raise GuardRefused(
                f"railway: {count} staged changes of somebody else would be committed with {what}, expected none; nothing was "
                "changed; deploy or discard them in Railway's dashboard, then run this again"
            )

    def guard(self, service_id: str, what: str) -> None:
        """Go on only with a service of this environment that is not protected.

        Args:
            what: is about to happen to it, for the message.
        Raises:
            GuardRefused: it is protected, or of another environment.
        """
        name = self._name(service_id)
        if name is None:
            raise GuardRefused(
                f"railway: {service_id} is no service of this environment, so {what} was not done; see RAILWAY_ENVIRONMENT_ID"
            )
        protected = service_id == self.place.own_service_id or name in self.place.protected
        if protected and name not in self.place.allowed:
            why = "this very program runs in it" if service_id == self.place.own_service_id else "it operates the stack"
            raise GuardRefused(f"railway: {what} of {name} was not done: {why}; do that from a laptop, or as its own last step")

    def guard_deployment(self, deployment_id: str, what: str) -> Deployment:
        """As `guard`, for the service of a deployment.

        Returns: the deployment.
        """
        found = self.deployment(deployment_id)
        if found.environment_id not in (None, self.place.environment_id):
            raise GuardRefused(f"railway: {deployment_id} is no deployment of this environment, so {what} was not done")
        self.guard(found.service_id or "", what)
        return found

    @property
    def _where(self) -> dict[str, str]:
        return {"projectId": self.place.project_id, "environmentId": self.place.environment_id}

    def _run(self, document: documents.Document, **variables: Any) -> dict[str, Any]:
        return self.graphql.run(document, **variables)

    def _do(self, document: documents.Document, **variables: Any) -> Any:
        """Change something; returns the one field of the answer. Most say true, and false where it was not done."""
        (done,) = self._run(document, **variables).values()
        if done is False:
            raise RailwayRefused(f"railway: {document.name} was not done, and Railway does not say why; see its dashboard")
        return done

    def _name(self, service_id: str) -> str | None:
        with self._lock:
            known = self._names.get(service_id)
        if known is None:
            self.inventory()
            with self._lock:
                known = self._names.get(service_id)
        return known

    def _remember(self, service_id: str, name: str) -> None:
        with self._lock:
            self._names[service_id] = name


def only(names: Collection[str]) -> frozenset[str]:
    """Make a set of names that cannot be a single string by mistake."""
    return frozenset([names] if isinstance(names, str) else names)
