"""What is asked of an upgrade, and the plan that comes of it: values only, of which the steps are made."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from flows.upgrade.plan import Plan
from flows.upgrade.rules import Way

__all__ = ["KINDS", "Kind", "ServiceChange", "ServicePlan", "UpgradeRequest"]

Kind = Literal["litellm", "langfuse", "clickhouse", "redis", "minio", "postgres-minor", "prefect"]

KINDS: dict[Kind, tuple[str, ...]] = {
    "litellm": ("litellm",),
    "langfuse": ("langfuse-web", "langfuse-worker"),
    "clickhouse": ("clickhouse",),
    "redis": ("redis",),
    "minio": ("minio",),
    "postgres-minor": ("postgres",),  # within its major version, on its volume; `flows/upgrade/postgres` moves to another one
    "prefect": ("prefect-server", "prefect-worker"),
}
"""Which services change with what is upgraded, in the order in which they are deployed."""


class UpgradeRequest(BaseModel):
    """To which version, and how."""

    action: Literal["upgrade", "finish", "undo"] = Field(
        default="upgrade",
        description="upgrade: to another version. finish: go on with one that died. undo: take the last one back",
    )
    to: str = Field(
        default="",
        description="A tag (v1.103.0) or a whole image; empty: the one that this version of the project ships",
        examples=["v1.103.0"],
    )
    images: dict[str, str] = Field(
        default={},
        description='Other services that change with it, or its own by name: {"prefect-worker": "ghcr.io/...:0.2.0"}',
    )
    plan_hash: str = Field(default="", description="Of the dry run that was read: refuse where the facts have changed since")
    soak_minutes: float = Field(default=10.0, ge=0, le=240, description="Watch for so long before it counts as done")
    backup_hours: int = Field(
        default=26, ge=1, description="A drilled set may be so old where no data could have to go back; else one is taken"
    )
    drill: bool = Field(default=True, description="Prove the set that is taken at the start, before anything is changed")
    smoke: bool = Field(default=True, description="Send a request through the whole stack afterwards; costs a little money")
    upgrade_id: str = Field(default="latest", description="For finish and undo: which upgrade")
    dry_run: bool = Field(default=False, description="Only list every step, and the hash of the plan")
    confirm: str = Field(default="", description="The stack's name, to go on without asking; empty: the run pauses and asks")


class ServiceChange(BaseModel):
    """One service that is to run another image.

    Attributes:
        service, service_id: its name and id. old: image that is configured and runs. new: image that is wanted.
        digest: of the new one, empty where the registry does not say. deployment: that runs now.
        variables: that are set with it, by name; references and literals, never secrets.
        names: the variables that count for the mark of a deploy. has_volume: its old container ends before the new one begins.
        way: what a way back needs besides the image. why: that is so.
        moves: a schema is changed by it. health_seconds: that Railway waits for it. own: this program runs in it.
    """

    model_config = ConfigDict(frozen=True)

    service: str
    service_id: str
    old: str
    new: str
    digest: str = ""
    deployment: str = ""
    variables: dict[str, str] = Field(default_factory=dict)
    names: tuple[str, ...] = ()
    has_volume: bool = False
    way: Way = Way.IMAGE
    why: str = ""
    moves: bool = False
    health_seconds: int = 0
    own: bool = False


class ServicePlan(Plan):
    """The upgrade of one or more services.

    Attributes:
        changes: in the order in which they are deployed. set_id: of the proven set that stands for the data; empty: one is
            taken, and drilled where `drill` says so. back: components that a way back may have to restore from it.
        concerned: services that have to be well afterwards. known: faults of theirs that are there already.
        soak_minutes, smoke: as asked for.
    """

    changes: tuple[ServiceChange, ...] = ()
    set_id: str = ""
    drill: bool = True
    back: tuple[str, ...] = ()
    concerned: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    soak_minutes: float = 10.0
    smoke: bool = True

    def change(self, service: str) -> ServiceChange:
        """Return the change of a service.

        Raises:
            KeyError: it does not change.
        """
        return next(one for one in self.changes if one.service == service)

    @property
    def images(self) -> dict[str, tuple[str, str]]:
        """From and to, by service."""
        return {one.service: (one.old, one.new) for one in self.changes}
