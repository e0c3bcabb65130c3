"""The applications of the stack, started after its engines: LiteLLM, Langfuse web and worker, and where alerts go.

LiteLLM is the real gateway, behind a stand-in for what it has with a database (`litellm_front`). Langfuse is a stand-in on real
stores (`langfuse_double`), and so are the sinks (`alert_sinks`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from shared.engines.process import EngineError
from shared.sandbox.alert_sinks import AlertSinks
from shared.sandbox.langfuse_double import LangfuseWeb, LangfuseWorker, Stores
from shared.sandbox.litellm_front import LiteLLMFront
from shared.sandbox.litellm_gateway import LiteLLMGateway, install_litellm

if TYPE_CHECKING:
    from shared.sandbox.stack import Sandbox

__all__ = ["Applications", "Service", "service"]


class Service(Protocol):
    """A service of the stack, whatever it is."""

    def start(self) -> None:
        """Start it and return when it is ready; nothing happens when it runs."""
        ...

    def stop(self) -> None:
        """Stop it as its platform would."""
        ...

    def kill(self) -> None:
        """SIGKILL it."""
        ...

    def pause(self) -> None:
        """SIGSTOP it: connections are accepted, and nobody answers."""
        ...

    def resume(self) -> None:
        """SIGCONT it."""
        ...


class Applications:
    """Everything above the engines of a sandbox.

    Args:
        sandbox: whose engines and keys exist; they need not run yet.
        langfuse_version: 3.225.4 or 4.16.0.

    Attributes:
        litellm: the gateway. langfuse_web, langfuse_worker: the two halves of Langfuse. sinks: Slack, Discord, PagerDuty, ...
    """

    def __init__(self, sandbox: Sandbox, *, langfuse_version: str = "3.225.4") -> None:
        keys, folder = sandbox.keys, sandbox.directory
        stores = Stores(
            postgres_url=sandbox.postgres_url("langfuse", "langfuse"),
            redis_url=sandbox.redis.url,
            clickhouse_url=sandbox.clickhouse.url,
            clickhouse_user=sandbox.clickhouse.user,
            clickhouse_password=sandbox.clickhouse.password,
            clickhouse_database=sandbox.clickhouse_database,
            s3_endpoint=sandbox.store.endpoint_url,
            s3_region=sandbox.store.region,
            s3_access_key=sandbox.source_bucket,
            s3_secret_key=keys.source_secret_key,
            s3_bucket=sandbox.source_bucket,
            salt=keys.langfuse_salt,
            public_key=keys.langfuse_public_key,
            secret_key=keys.langfuse_secret_key,
            admin_key=keys.langfuse_admin_key,
        )
        self._keys = keys
        self._install_log = folder / "litellm" / "install.log"
        self.sinks = AlertSinks(keys.sinks)
        self.langfuse_web = LangfuseWeb(folder / "langfuse-web", stores, version=langfuse_version)
        self.langfuse_worker = LangfuseWorker(folder / "langfuse-worker", stores, version=langfuse_version)
        gateway = LiteLLMGateway(
            folder / "litellm",
            master_key=keys.litellm_master_key,
            salt_key=keys.litellm_salt_key,
            redis=sandbox.redis,
            langfuse={
                "LANGFUSE_HOST": self.langfuse_web.url,
                "LANGFUSE_PUBLIC_KEY": keys.langfuse_public_key,
                "LANGFUSE_SECRET_KEY": keys.langfuse_secret_key,
            },
        )
        database = sandbox.postgres_url("litellm", "litellm")
        self.litellm = LiteLLMFront(folder / "litellm", gateway, database_url=database)

    def install(self) -> None:
        """Install LiteLLM, unless it is.

        Raises:
            EngineError: that failed.
        """
        install_litellm(self._install_log)

    def steps(self) -> Mapping[str, Callable[[], None]]:
        """What starts them, by name; all at once, once the engines run."""
        return {
            "alert sinks": self.sinks.start,
            "langfuse web": self.langfuse_web.start,
            "langfuse worker": self.langfuse_worker.start,
            "litellm": self.litellm.start,
        }

    def stops(self) -> Mapping[str, Callable[[], None]]:
        """What stops them, by name; before the engines stop."""
        return {
            "litellm": self.litellm.stop,
            "langfuse web": self.langfuse_web.stop,
            "langfuse worker": self.langfuse_worker.stop,
            "alert sinks": self.sinks.stop,
        }

    def environment(self) -> dict[str, str]:
        """The variables of `blocks/settings.py` that are about them. With secrets."""
        return {
            "LITELLM_URL": self.litellm.url,
            "LITELLM_MASTER_KEY": self._keys.litellm_master_key,
            "LANGFUSE_WEB_URL": self.langfuse_web.url,
            "LANGFUSE_WORKER_URL": self.langfuse_worker.url,
            "LANGFUSE_PUBLIC_KEY": self._keys.langfuse_public_key,
            "LANGFUSE_SECRET_KEY": self._keys.langfuse_secret_key,
            "LANGFUSE_ADMIN_API_KEY": self._keys.langfuse_admin_key,
            "LANGFUSE_EVENT_PREFIX": self.langfuse_web.configuration.stores.s3_prefix,
            **self.sinks.environment(),
        }


def service(sandbox: Sandbox, name: str) -> Service:
    """What a service of `railway/stack.py` is in a sandbox, to be stopped, killed, paused and started.

    Raises:
        EngineError: there is no such service in this sandbox.
    """
    found: dict[str, Service] = {
        "postgres": sandbox.postgres,
        "clickhouse": sandbox.clickhouse,
        "redis": sandbox.redis,
        "minio": sandbox.store,
    }
    if (applications := sandbox.applications) is not None:
        found |= {
            "litellm": applications.litellm,
            "langfuse-web": applications.langfuse_web,
            "langfuse-worker": applications.langfuse_worker,
        }
    if sandbox.has_prefect:
        found |= {"prefect-server": sandbox.server, "prefect-worker": sandbox.worker}
    if name not in found:
        raise EngineError(f"this sandbox has no service {name}; it has {', '.join(found)}")
    return found[name]
