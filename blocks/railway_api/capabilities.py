"""What the token may do, found out by asking: the documentation contradicts itself (facts: railway.md 2.1)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from blocks.errors import AccessDenied, StackError
from blocks.railway_api import documents
from blocks.railway_api.environment import EnvironmentCalls
from blocks.railway_api.models import Capability, Inventory
from blocks.railway_api.variables import VariableCalls
from blocks.railway_api.volumes import Volumes

__all__ = ["Capabilities"]


class Capabilities(EnvironmentCalls, VariableCalls, Volumes):
    """The part of `RailwayApi` that finds out what the token may do."""

    def capabilities(self) -> list[Capability]:
        """Try each kind of question once.

        Returns: what is allowed, from what everything needs to what few things need; what depends on a thing that is not
            there (a volume, a workspace's id) is left open.
        """
        environment, inventory = _try("environment: services, deployments, volumes", self.inventory)
        found = [environment]
        found.append(_try("variables", lambda: self.variables(_first(inventory)))[0])
        found.append(_try("staged changes", self.staged_changes)[0])
        volume = next(iter(inventory.volumes), None) if isinstance(inventory, Inventory) else None
        if volume is None:
            found.append(Capability(name="volume backups", allowed=None, note="there is no volume to ask about"))
        else:
            found.append(_try("volume backups", lambda: self.backups(volume.id))[0])
        since = datetime.now(UTC) - timedelta(minutes=5)
        found.append(_try("metrics", lambda: self.metrics(None, since))[0])
        project, seen = _try("project: names of services and buckets", self.project)
        found.append(project)
        workspace = getattr(seen, "workspace_id", None)
        if workspace is None:
            found.append(Capability(name="notification rules", allowed=None, note="the workspace is not known"))
        else:
            asked = {"workspaceId": workspace, "projectId": self.place.project_id}
            found.append(_try("notification rules", lambda: self._run(documents.NOTIFICATION_RULES, **asked))[0])
        return found


def _try(name: str, ask: Callable[[], Any]) -> tuple[Capability, Any]:
    try:
        return Capability(name=name, allowed=True), ask()
    except AccessDenied:
        return Capability(name=name, allowed=False, note="Not Authorized"), None
    except StackError as error:
        return Capability(name=name, allowed=None, note=str(error)), None


def _first(inventory: Any) -> str | None:
    return next((one.service_id for one in inventory.services.values()), None) if isinstance(inventory, Inventory) else None
