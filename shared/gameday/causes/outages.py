"""A service is down: it hangs, or somebody stopped it, or it ends as often as it is started."""

from __future__ import annotations

from shared.gameday.causes.cause import Cause

__all__ = [
    "ClickHouseHangs",
    "GatewayStopped",
    "MinioStopped",
    "PostgresHangs",
    "RedisStopped",
    "WebStopped",
    "WorkerHangs",
]


class Hangs(Cause):
    """SIGSTOP to everything in its container: connections are accepted, and nobody answers."""

    runbook = "restart-service"

    def cause(self) -> None:
        """As in `Cause`."""
        self.ground.freeze(self.service)

    def undo(self) -> None:
        """As in `Cause`."""
        self.ground.thaw(self.service)


class Stopped(Cause):
    """A person stopped its deployment, and forgot about it."""

    runbook = "restart-service"

    def cause(self) -> None:
        """As in `Cause`."""
        self.ground.stop(self.service)

    def undo(self) -> None:
        """As in `Cause`."""
        self.ground.need_running(self.service)


class PostgresHangs(Hangs):
    """Postgres."""

    key, what = "postgres-down", "Postgres hangs (SIGSTOP)"
    service, aspects = "postgres", ("connect",)


class ClickHouseHangs(Hangs):
    """ClickHouse."""

    key, numbers, what = "clickhouse-down", (3,), "ClickHouse hangs (SIGSTOP)"
    service, aspects = "clickhouse", ("query",)


class RedisStopped(Stopped):
    """Redis."""

    key, what = "redis-down", "the deployment of Redis is stopped"
    service, aspects = "redis", ("ping", "deployment")


class MinioStopped(Stopped):
    """The object store."""

    key, what = "minio-down", "the deployment of MinIO is stopped"
    service, aspects = "minio", ("put-get-delete", "deployment")


class GatewayStopped(Stopped):
    """LiteLLM."""

    key, what = "gateway-down", "the deployment of LiteLLM is stopped"
    service, aspects = "litellm", ("liveness", "deployment")


class WebStopped(Stopped):
    """Langfuse's pages and API."""

    key, what = "langfuse-down", "the deployment of Langfuse web is stopped"
    service, aspects = "langfuse-web", ("health", "deployment")


class WorkerHangs(Hangs):
    """Langfuse's worker: traces are accepted, and none appears."""

    key, numbers, what = "worker-hangs", (1,), "Langfuse's worker hangs (SIGSTOP)"
    service, aspects = "langfuse-worker", ("health", "ready")
