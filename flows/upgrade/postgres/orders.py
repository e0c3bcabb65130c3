"""What is asked of an upgrade of Postgres, and the plan that comes of it: values only, of which the steps are made."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from flows.upgrade.orders import ServicePlan
from flows.upgrade.postgres.address import Address

__all__ = ["Consumer", "PostgresPlan", "PostgresRequest", "Where"]


class PostgresRequest(BaseModel):
    """To which server, and how."""

    action: Literal["upgrade", "finish", "undo", "forget"] = Field(
        default="upgrade",
        description="upgrade: move to a new server. finish: go on with an upgrade that died. undo: back to the old server. "
        "forget: delete the server that was kept for undo, for good",
    )
    target: Literal["railway", "url", "railway-ha"] = Field(
        default="railway",
        description="railway: a new service beside the old one. url: the server of POSTGRES_TARGET_URL, another provider's or "
        "a cluster. railway-ha: only say how Railway converts a server to high availability",
    )
    service: str = Field(default="postgres", description="The service that is to be replaced, as it is called on Railway")
    to: str = Field(default="18", description="For railway: major version, or a whole image", examples=["18", "17"])
    new_service: str = Field(default="", description="For railway: name of the new service; empty: postgres-<major>")
    known_sealed: list[str] = Field(
        default=[],
        description="Sealed variables that do not lead to this server, though their names look like it: service.NAME",
    )
    rehearse: bool = Field(
        default=True, description="Copy and compare everything once while the stack serves, before anybody is stopped"
    )
    plan_hash: str = Field(default="", description="Of the dry run that was read: refuse where the facts have changed since")
    soak_minutes: float = Field(default=10.0, ge=0, le=240, description="Watch for so long before it counts as done")
    backup_hours: int = Field(default=26, ge=1, description="A drilled set may be so old; else one is taken")
    drill: bool = Field(default=True, description="Prove the set that is taken at the start, before anything is changed")
    smoke: bool = Field(default=True, description="Send a request through the whole stack afterwards; costs a little money")
    upgrade_id: str = Field(default="latest", description="For finish, undo and forget: which upgrade")
    dry_run: bool = Field(default=False, description="Only list every step, and the hash of the plan")
    confirm: str = Field(default="", description="The stack's name, to go on without asking; empty: the run pauses and asks")


class Where(BaseModel):
    """An `Address`, as a plan keeps it."""

    model_config = ConfigDict(frozen=True)

    host: str
    port: int
    service: str = ""
    aliases: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, address: Address) -> Where:
        """Make one of an address."""
        return cls(
            host=address.host,
            port=address.port,
            service=address.service,
            aliases=tuple(sorted(address.aliases)),
            options=address.options,
        )

    @property
    def address(self) -> Address:
        """The address."""
        return Address(self.host, self.port, self.service, frozenset(self.aliases), self.options)


class Consumer(BaseModel):
    """A service that uses the server.

    Attributes:
        service, service_id: its name and id. image: that it runs. deployment: that runs now, empty where none does.
        health_seconds: that Railway waits for it. protected: it operates the stack, and is not stopped by this.
    """

    model_config = ConfigDict(frozen=True)

    service: str
    service_id: str
    image: str = ""
    deployment: str = ""
    health_seconds: int = 0
    protected: bool = False


class PostgresPlan(ServicePlan):
    """The move of all databases of a server to another one.

    Attributes:
        old, new: where the servers are; `new.service` is empty for one that is not on Railway.
        image, region, volume_mb: of the new service, and of its volume.
        old_major, new_major: versions. databases: that are moved.
        uses: variables that lead to the old server, as `service.NAME (how)`.
        consumers: services behind them, in the order in which they start.
        known_sealed: sealed variables that a person says do not matter. rehearse: copy once before anybody is stopped.
        documents: Prefect's blocks of the server are changed, too.
    """

    old: Where
    new: Where
    image: str = ""
    region: str = ""
    volume_mb: int = 0
    old_major: int
    new_major: int
    databases: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    consumers: tuple[Consumer, ...] = ()
    known_sealed: tuple[str, ...] = ()
    rehearse: bool = True
    documents: bool = True

    @property
    def stoppable(self) -> tuple[Consumer, ...]:
        """The consumers that are stopped and started by it, in the order in which they start."""
        return tuple(one for one in self.consumers if not one.protected and one.deployment)
