"""What a service is made from, and each attempt to run it. Plain data.

Names of attributes follow Railway's, in this language's spelling. Whoever reads or writes it holds `Platform.lock`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from shared.sandbox.railway_api.stored import Stored, new_id
from shared.sandbox.railway_runtime.containers import Container, LogLine

__all__ = ["IN_PROGRESS", "Deployment", "Event", "Settings", "Snapshot"]

IN_PROGRESS = frozenset({"QUEUED", "WAITING", "INITIALIZING", "BUILDING", "DEPLOYING", "NEEDS_APPROVAL"})
"""Statuses of deployments that are on their way."""


@dataclass(frozen=True)
class Settings:
    """What a service is made from, beside its variables.

    Attributes:
        image, repo: its source. values: the rest, under Railway's names; what is missing has the platform's default.
    """

    image: str | None = None
    repo: str | None = None
    values: Mapping[str, Any] = field(default_factory=dict)

    def updated(self, values: Mapping[str, Any]) -> Settings:
        """These with others in their place; None takes a setting back."""
        source, regions = values.get("source"), values.get("multiRegionConfig")
        if regions:
            values = {**values, "numReplicas": sum((one or {}).get("numReplicas", 1) for one in regions.values())}
        image, repo = (source.get("image"), source.get("repo")) if source else (self.image, self.repo)
        kept = {**self.values, **{name: value for name, value in values.items() if name != "source"}}
        return replace(self, image=image, repo=repo, values={name: value for name, value in kept.items() if value is not None})

    def get(self, name: str, default: Any = None) -> Any:
        """A setting under Railway's name."""
        return self.values.get(name, default)

    @property
    def restart_policy(self) -> str:
        """ALWAYS, ON_FAILURE or NEVER."""
        return str(self.get("restartPolicyType", "ON_FAILURE"))

    @property
    def restarts(self) -> int:
        """How often a container that ended is started again."""
        return int(self.get("restartPolicyMaxRetries", 10))

    @property
    def draining_seconds(self) -> float:
        """Between SIGTERM and SIGKILL; the default is none."""
        return float(self.get("drainingSeconds", 0))


@dataclass(frozen=True)
class Snapshot:
    """What a deployment was made from, once and for all.

    Attributes:
        variables: rendered. sealed: the names among them whose values the API never tells.
        is_retained: the platform has the image itself, and asks no registry for it.
    """

    settings: Settings
    variables: Mapping[str, str] = field(repr=False)
    sealed: frozenset[str] = frozenset()
    is_retained: bool = False


@dataclass(kw_only=True)
class Event(Stored):
    """A step of a deployment."""

    step: str
    completed_at: datetime | None = None
    payload: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class Deployment(Stored):
    """One attempt to run a service.

    Attributes:
        reason: deploy, redeploy or rollback. instance_id: of its container. instance_status: as `DeploymentInstanceStatus`.
        earlier_logs: of the containers that it had before this one. digest: of the image that was pulled.
        succeeded: whether it was ever SUCCESS. removed_at: when it went to history.
        is_given_up: it was cancelled, or a newer one overtook it. restarts: how often its container was started again.
        restart_at: when it is to be, of the monotonic clock; None where it is not.
    """

    environment_id: str
    service_id: str
    snapshot: Snapshot
    reason: Literal["deploy", "redeploy", "rollback"] = "deploy"
    status: str = "QUEUED"
    status_at: datetime = field(init=False)
    instance_id: str = field(default_factory=new_id)
    instance_status: str | None = None
    container: Container | None = None
    earlier_logs: list[LogLine] = field(default_factory=list)
    digest: str | None = None
    succeeded: bool = False
    removed_at: datetime | None = None
    is_given_up: bool = False
    restarts: int = 0
    restart_at: float | None = None
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.status_at = self.created_at

    @property
    def in_progress(self) -> bool:
        """Whether it is still on its way."""
        return self.status in IN_PROGRESS

    @property
    def is_active(self) -> bool:
        """Whether it is the one that serves, or did until it was stopped or ended by itself."""
        return self.status in ("SUCCESS", "SLEEPING")

    @property
    def is_current(self) -> bool:
        """Whether a new one takes its place: it is active, or crashed."""
        return self.is_active or self.status == "CRASHED"

    @property
    def is_stopped(self) -> bool:
        """Whether none of its instances runs any more."""
        return self.instance_status in ("STOPPED", "EXITED", "CRASHED", "REMOVED")
