"""What the rules have to know of a stack. Values only: whoever asks the rules has read them before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from flows.upgrade.rules.version import Version

__all__ = ["READ", "Background", "ClickHouseSchema", "Facts", "MasterKey", "PrismaSchema"]

MasterKey = Literal["set", "weak", "unset", "unknown"]


READ = (
    "DISABLE_SCHEMA_UPDATE",
    "USE_V2_MIGRATION_RESOLVER",
    "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY",
    "LANGFUSE_AUTO_POSTGRES_MIGRATION_DISABLED",
    "LANGFUSE_AUTO_CLICKHOUSE_MIGRATION_DISABLED",
    "LANGFUSE_S3_DELETE_OBJECTS_CHECKSUM_ALGORITHM",
    "LANGFUSE_MIGRATION_V4_WRITE_MODE",
    "LANGFUSE_MIGRATION_V4_NATIVE_OTEL_BEHAVIOUR",
    "LANGFUSE_MIGRATION_V4_ALLOW_PREVIEW_OPT_IN",
    "LANGFUSE_BACKGROUND_MIGRATION_V4_ENABLE_HISTORIC_BACKFILL",
)
"""Variables of the applications that the rules read; none of them is secret."""


@dataclass(frozen=True)
class PrismaSchema:
    """The migrations that Prisma has recorded in an application's Postgres database (`_prisma_migrations`).

    Attributes:
        applied: how many are done. newest: name of the last of them. unfinished: names of those that broke off.
    """

    applied: int
    newest: str = ""
    unfinished: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClickHouseSchema:
    """The newest row of Langfuse's `schema_migrations` in ClickHouse.

    Attributes:
        version: number of the last migration. dirty: it broke off.
    """

    version: int
    dirty: bool = False


@dataclass(frozen=True)
class Background:
    """Langfuse's background migrations, by name; they run in its worker for hours after an upgrade."""

    running: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Facts:
    """A stack, as far as upgrades are concerned. None and `unknown`: nobody could read it.

    A rule refuses what is known to go wrong, and what cannot be judged without a fact that is missing; not everything that is
    unknown.

    Attributes:
        runs: the version that runs of each service, by the service's name.
        variables: of each service, by its name, as they are when the new version starts; only those of READ.
        start_commands: of services that have one.
        master_key: LiteLLM's: set, weak (one that is published, or without `sk-`), or not set at all.
        callbacks: LiteLLM's, from its configuration. foreign_tables: in its database, that are not its own.
        litellm_schema, langfuse_schema: in Postgres. clickhouse_schema: Langfuse's.
        background: Langfuse's background migrations.
        replicas: of services, by name. health_seconds: that Railway waits for a service's health check, by name.
        from_three_to_four: this is the flow that takes Langfuse from 3 to 4, in its order.
    """

    runs: Mapping[str, Version] = field(default_factory=dict)
    variables: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    start_commands: Mapping[str, str] = field(default_factory=dict)
    master_key: MasterKey = "unknown"
    callbacks: frozenset[str] = frozenset()
    foreign_tables: tuple[str, ...] | None = None
    litellm_schema: PrismaSchema | None = None
    langfuse_schema: PrismaSchema | None = None
    clickhouse_schema: ClickHouseSchema | None = None
    background: Background | None = None
    replicas: Mapping[str, int] = field(default_factory=dict)
    health_seconds: Mapping[str, int] = field(default_factory=dict)
    from_three_to_four: bool = False

    def version(self, service: str) -> Version | None:
        """The version of a service that runs, None where it is not known."""
        found = self.runs.get(service)
        return found if found is not None and found.numbers else None

    def variable(self, service: str, name: str) -> str:
        """A variable of a service, empty where it is not set."""
        return self.variables.get(service, {}).get(name, "")

    def is_true(self, service: str, name: str) -> bool:
        """Whether a variable of a service is set to what the applications take for true."""
        return self.variable(service, name).strip().lower() in ("true", "1", "yes", "on")
