"""One table of the runbooks: which incidents each answers, and whether it may run by itself. Triggers follow it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

__all__ = ["Entry", "Kind", "entries"]

Kind = Literal["automatic", "asks", "manual"]
"""Automatic: safe to run by itself. Asks: deletes or moves data, a person approves it. Manual: no incident starts it."""


@dataclass(frozen=True)
class Entry:
    """One runbook.

    Attributes:
        name: as people call it, for example `restart-service`.
        service: the service whose incidents it answers; None: of any service.
        aspects: what was bad about it, as the checks in `flows.health.checks` call it; a `*` at the end stands for any end, as
            of a host. Empty: whatever it was.
        kind: whether it runs by itself.
        deployment: what is started, as typed after `prefect deployment run`.
    """

    name: str
    service: str | None
    aspects: tuple[str, ...]
    kind: Kind
    deployment: str

    def answers(self, service: str, aspect: str) -> bool:
        """Say whether it is meant for an incident of this service and aspect."""
        return self.service in (None, service) and (not self.aspects or any(fnmatchcase(aspect, one) for one in self.aspects))


def entries() -> Sequence[Entry]:
    """Return all runbooks. Of those that answer an incident the first is the one to run."""
    return (
        _entry("free-connections", "automatic", "postgres", ("connections", "longest-transaction")),
        _entry("restore-database", "asks", "postgres", ("databases",)),
        _entry("split-shared-database", "asks", "postgres", ("foreign-tables",)),
        _entry("redis-policy", "automatic", "redis", ("eviction-policy",)),
        _entry("clickhouse-disk", "automatic", "clickhouse", ("disk", "system-logs", "volume")),
        _entry("clickhouse-parts", "automatic", "clickhouse", ("parts", "mutations")),
        *(_entry("retention", "manual", service, (aspect,)) for service, aspect in _FILLED.items()),
        _entry("dirty-migration", "asks", "clickhouse", ("schema-migrations",)),
        _entry("failed-prisma-migration", "asks", "postgres", ("migrations-litellm", "migrations-langfuse")),
        _entry("table-owner", "asks", "postgres", ("table-owners",)),
        _entry("background-migration", "asks", "langfuse-worker", ("background-migrations",)),
        _entry("unauthenticated-gateway", "automatic", "litellm", ("authentication",)),
        _entry("langfuse-callback", "asks", "litellm", ("langfuse-callback",)),
        _entry("certificate", "automatic", None, ("certificate-*",)),
        _entry("key-mismatch", "asks", "litellm", ("salt-key",)),
        _entry("key-mismatch", "asks", "langfuse-web", ("encryption-key",)),
        _entry("compromised-image", "asks", "litellm", ("version",)),
        _entry("redis-memory", "automatic", "redis", ("memory",)),
        _entry("unwedge-worker", "automatic", "langfuse-worker", ("consumption", "stuck-probe")),
        _entry("retry-failed-jobs", "automatic", "langfuse-worker", ("failed-jobs",)),
        _entry("drain-queue", "automatic", "langfuse-worker", ("queue-depth", "queue-age")),
        _entry("replay-events", "manual", "langfuse-worker", ("failed-jobs",)),
        *(_entry("scale-service", "asks", service, ("container-memory",)) for service in _SCALED),
        _entry("stale-backup", "automatic", "backups", ("newest-set",)),
        _entry("failed-drill", "automatic", "backups", ("newest-drill",)),
        *(_entry("restart-service", "automatic", service, aspects) for service, aspects in _DOWN.items()),
        _entry("recover-outage", "manual", None, ("deployment",)),
        _entry("rotate-secret", "manual", "litellm", ("version", "authentication")),
        _entry("rebuild-stack", "manual", None, ("deployment",)),
        _entry("diagnostics", "manual", None, ()),  # the last ones: what a person gets where nothing else answers
        _entry("postmortem", "manual", None, ()),
    )


_SCALED = ("litellm", "langfuse-web", "langfuse-worker")
"""What may be larger, because it has no volume."""

_FILLED: Mapping[str, str] = {"clickhouse": "disk", "postgres": "database-sizes"}
"""What fills with what people sent months ago."""

_DOWN: Mapping[str, tuple[str, ...]] = {
    "postgres": ("connect", "deployment"),
    "clickhouse": ("query", "deployment"),
    "redis": ("ping", "deployment"),
    "minio": ("put-get-delete", "deployment"),
    "litellm": ("liveness", "readiness", "deployment"),
    "langfuse-web": ("health", "ready", "deployment"),
    "langfuse-worker": ("health", "ready", "consumption", "stuck-probe", "propagation", "deployment"),
}
"""What a service is down by, which a restart may mend. Prefect's own are not among them: no run may end itself."""


def _entry(name: str, kind: Kind, service: str | None, aspects: tuple[str, ...]) -> Entry:
    """One entry; a runbook's deployment is always called after it."""
    return Entry(name, service, aspects, kind, f"{name}/runbook")
