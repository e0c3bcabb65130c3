"""A deployment as Railway describes it: how it is, what it runs, its steps and its output.

Unknown statuses are `UNKNOWN`: the API grows, and the stack is operated all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from pydantic import AliasPath, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from blocks.errors import RailwayError

__all__ = ["Answered", "Deployment", "DeploymentEvent", "DeploymentStatus", "Instance", "InstanceStatus", "LogLine"]


class Answered(BaseModel):
    """Base of all that is read: its names are GraphQL's in camel case, and fields that we do not know are ignored."""

    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True, hide_input_in_errors=True
    )

    @classmethod
    def model_validate(cls, obj: Any, **options: Any) -> Self:
        """As of every model of pydantic.

        Raises:
            RailwayError: the answer is another one than Railway's schema promises; its values are not repeated.
        """
        try:
            return super().model_validate(obj, **options)
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False, include_context=False)[0]
            where = ".".join([cls.__name__, *map(str, first["loc"])])
        raise RailwayError(
            f"railway: an answer is not as expected: {where}: {first['msg']}; has the API changed? Compare it with "
            "blocks/railway_api/documents.py",
            permanent=True,
        )


class DeploymentStatus(StrEnum):
    """How a deployment is (facts: railway.md 2.3)."""

    QUEUED = "QUEUED"
    WAITING = "WAITING"
    INITIALIZING = "INITIALIZING"
    BUILDING = "BUILDING"
    DEPLOYING = "DEPLOYING"
    NEEDS_APPROVAL = "NEEDS_APPROVAL"
    SUCCESS = "SUCCESS"
    SLEEPING = "SLEEPING"
    FAILED = "FAILED"
    CRASHED = "CRASHED"
    SKIPPED = "SKIPPED"
    REMOVING = "REMOVING"
    REMOVED = "REMOVED"
    UNKNOWN = "UNKNOWN"
    """One that came after this was written."""

    @classmethod
    def _missing_(cls, value: object) -> DeploymentStatus:
        return cls.UNKNOWN

    @property
    def active(self) -> bool:
        """It is what serves, or would when woken up."""
        return self in (DeploymentStatus.SUCCESS, DeploymentStatus.SLEEPING)

    @property
    def over(self) -> bool:
        """It is not going to change by itself, or needs a person."""
        return self.active or self in _ENDED


_ENDED = frozenset(
    {
        DeploymentStatus.FAILED,
        DeploymentStatus.CRASHED,
        DeploymentStatus.SKIPPED,
        DeploymentStatus.REMOVED,
        DeploymentStatus.NEEDS_APPROVAL,
    }
)


class InstanceStatus(StrEnum):
    """How one container of a deployment is."""

    CREATED = "CREATED"
    INITIALIZING = "INITIALIZING"
    RUNNING = "RUNNING"
    RESTARTING = "RESTARTING"
    CRASHED = "CRASHED"
    EXITED = "EXITED"
    STOPPED = "STOPPED"
    SKIPPED = "SKIPPED"
    REMOVING = "REMOVING"
    REMOVED = "REMOVED"
    UNKNOWN = "UNKNOWN"

    @classmethod
    def _missing_(cls, value: object) -> InstanceStatus:
        return cls.UNKNOWN


class Instance(Answered):
    """One container of a deployment."""

    id: str
    status: InstanceStatus


class Deployment(Answered):
    """One deployment of a service.

    Attributes:
        stopped: all its containers have stopped; the status may be SUCCESS all the same.
        image, image_digest: what it really runs; None where Railway does not say, the digest often.
        can_rollback: its image is still kept, and it is not the one that runs.
    """

    id: str
    status: DeploymentStatus
    created_at: datetime
    status_updated_at: datetime | None = None
    can_redeploy: bool = False
    can_rollback: bool = False
    stopped: bool = Field(default=False, validation_alias="deploymentStopped")
    service_id: str | None = None
    environment_id: str | None = None
    url: str | None = None
    image: str | None = Field(default=None, validation_alias=AliasPath("meta", "image"))
    image_digest: str | None = Field(default=None, validation_alias=AliasPath("meta", "imageDigest"))
    instances: tuple[Instance, ...] = ()


class DeploymentEvent(Answered):
    """One step of a deployment, and why it failed where it did."""

    step: str
    created_at: datetime
    completed_at: datetime | None = None
    attempt: int | None = Field(default=None, validation_alias=AliasPath("payload", "attempt"))
    max_attempts: int | None = Field(default=None, validation_alias=AliasPath("payload", "maxAttempts"))
    duration_ms: int | None = Field(default=None, validation_alias=AliasPath("payload", "durationMs"))
    error: str | None = Field(default=None, validation_alias=AliasPath("payload", "error"))
    reason: str | None = Field(default=None, validation_alias=AliasPath("payload", "reason"))
    detail: str | None = Field(default=None, validation_alias=AliasPath("payload", "detail"))
    skipped: bool | None = Field(default=None, validation_alias=AliasPath("payload", "skipped"))

    def scrubbed(self, scrub: Callable[[str], str]) -> DeploymentEvent:
        """Return the same with its texts scrubbed."""
        texts = {"error": self.error, "reason": self.reason, "detail": self.detail}
        return self.model_copy(update={name: scrub(text) for name, text in texts.items() if text})


class LogLine(Answered):
    """One line of a container's output, scrubbed."""

    timestamp: str
    severity: str | None = None
    message: str
