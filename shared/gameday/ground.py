"""Where a game day happens: the production stack on the sandbox's Railway, deployed as a person does it, with time compressed.

Everything runs in containers of that Railway, Prefect's server and worker among them; alerts go to the sandbox's sinks. What is
compressed, and how: variables of the worker, and the schedule of the sweep. Nothing is patched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import httpx
import psycopg
from psycopg.conninfo import make_conninfo
from redis import Redis

from blocks.railway import PROTECTED, RailwayApi
from blocks.railway_api.documents import Document
from flows.stack import Stack
from railway.stack import LangfuseMajor
from shared.engines.postgres import client_bin_dirs
from shared.engines.process import EngineError, wait_until
from shared.gameday.control import Control
from shared.sandbox.alert_sinks import AlertSinks
from shared.sandbox.blocks import railway_block, stack_from
from shared.sandbox.demo_deploy import a_railway, deploy_from_a_terminal
from shared.sandbox.left_overs import DirectoryLock, wipe
from shared.sandbox.public_site import PublicSite
from shared.sandbox.railway_runtime.addresses import Addresses
from shared.sandbox.railway_runtime.ports import PortTable
from shared.sandbox.registry import RegistryDouble

__all__ = ["INTERVAL_S", "Ground"]

INTERVAL_S = 20
"""Seconds between two sweeps, instead of a minute."""
SWEEP = "health/sweep"
_START_S = 600.0
_REGISTERED = ("blocks", "deployments", "automations")

_CUSTOM_DOMAIN = Document(
    "mutation CustomDomainCreate($input: CustomDomainCreateInput!) { customDomainCreate(input: $input) { id } }"
)
"""What a person does in the dashboard, and no flow of the project."""

COMPRESSED: Mapping[str, str] = {
    "CHECK_INTERVAL": str(INTERVAL_S),
    "CHECK_TIMEOUT": "8",  # the machine does everything at once
    "FAILURE_THRESHOLD": "2",
    "RECOVERY_THRESHOLD": "2",
    "CHECK_LIMITS": "stuck_seconds=20,system_log_bytes=4e7,disk_percent=99,disk_full_percent=99.9",
    "POSTGRES_VOLUME_GB": "0.5",  # 400 MB are too much then, of which a fresh stack takes 70
    "RUNBOOK_COOLDOWN": "0",  # one incident follows the other
    "RUNBOOK_TRIES": "50",
    "PAGERDUTY_MIN_SEVERITY": "warning",  # so that each incident has a page that can be counted
    "PREFECT_WORKER_QUERY_SECONDS": "1",
}


class Ground:
    """The stack, and the hands that break it. A context manager.

    Args:
        directory: for everything. say: told what happens, a line each. langfuse: major version of it.
    Attributes:
        started: when. railway, runtime: the platform. sinks: where alerts go. api: the platform's API, as its owner.
        control: Prefect's API. site: a public address of it.
    """

    def __init__(self, directory: Path, say: Callable[[str], None] = lambda _: None, *, langfuse: LangfuseMajor = 3) -> None:
        self.directory = directory.absolute()
        self.say, self.langfuse = say, langfuse
        self.started = datetime.now(UTC)
        self._open = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._deploy()
        except BaseException:
            self._open.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    # --- the stack -------------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Of the stack."""
        return self.environment["STACK_NAME"]

    @cached_property
    def environment(self) -> dict[str, str]:
        """The worker's variables, as a program outside its container needs them. With secrets."""
        return {
            **self.variables("prefect-worker"),
            "POSTGRES_BIN_DIRS": ",".join(str(path) for path in client_bin_dirs().values()),
        }

    @cached_property
    def stack(self) -> Stack:
        """The stack's systems as blocks."""
        return stack_from(self.environment)

    def variables(self, service: str) -> dict[str, str]:
        """A service's variables with addresses of this machine. With secrets."""
        found = self.api.variables(self.railway.service_id(service), rendered=True)
        addresses = Addresses(PortTable(self.runtime.directory / "ports.json").of)
        return addresses.in_variables(dict(found))

    def run(self, deployment: str, request: Mapping[str, Any]) -> None:
        """Run a deployment and insist on its success.

        Raises:
            EngineError: with the end of its log.
        """
        result = self.control.wait(self.control.start_run(deployment, {"request": dict(request)}), timeout=_START_S)
        if not result.ok:
            log = self.control.logs(result.id)[-2000:]
            raise EngineError(f"{deployment}: {result.state_name}: {result.message}\n{log}")

    # --- the hands -------------------------------------------------------------------------------------------------------

    def freeze(self, service: str) -> None:
        """SIGSTOP everything in a service's containers."""
        for container in self.runtime.containers(service):
            container.freeze()

    def thaw(self, service: str) -> None:
        """SIGCONT it."""
        for container in self.runtime.containers(service):
            container.thaw()

    def stop(self, service: str) -> None:
        """Stop a service's deployment, as in Railway's dashboard, and wait until nothing of it runs."""
        newest = self.api.deployments(self.railway.service_id(service), first=1)[0]
        self.api.stop(newest.id)
        wait_until(lambda: not self.railway.running(service), timeout=300, what=f"{service} to end")

    def need_running(self, service: str) -> None:
        """Deploy a service of which nothing runs."""
        if not self.railway.running(service):
            self.deploy(service)

    def deploy(self, service: str) -> None:
        """Deploy a service as it is configured, and wait until that serves, and nothing else of it any more."""
        deployment = self.api.deploy(self.railway.service_id(service))
        self.api.wait_for_deployment(deployment, timeout=_START_S, poll=1.0)
        alone = f"the container of {service} that served before to end"
        wait_until(lambda: len(self.runtime.containers(service)) <= 1, timeout=_START_S, what=alone)

    def behave(self, service: str, **behaviour: Any) -> None:
        """Have one of Langfuse's stand-ins misbehave; without any behaviour: behave."""
        for container in self.runtime.containers(service):
            (container.folder / "root/app/behaviour.json").write_text(json.dumps(behaviour), encoding="utf-8")

    def redis(self) -> Redis:
        """A client of Redis."""
        return Redis.from_url(self.environment["REDIS_URL"], socket_timeout=30)

    def clickhouse(self, sql: str) -> str:
        """Ask ClickHouse something, in Langfuse's database.

        Raises:
            EngineError: it refused.
        """
        environment = self.environment
        url = f"http://{environment['CLICKHOUSE_HOST']}:{environment['CLICKHOUSE_PORT']}"
        login = {"X-ClickHouse-User": environment["CLICKHOUSE_USER"], "X-ClickHouse-Key": environment["CLICKHOUSE_PASSWORD"]}
        where = {"database": environment["CLICKHOUSE_DB"]}
        answer = httpx.post(url, content=sql, headers=login, params=where, trust_env=False, timeout=120)
        if not answer.is_success:
            raise EngineError(f"clickhouse: {answer.text[:300]}")
        return answer.text.strip()

    def postgres(self, database: str, sql: str, parameters: Sequence[object] = ()) -> list[tuple[object, ...]]:
        """Run a statement in a database, as Postgres' superuser; returns its rows, if it has any."""
        url = make_conninfo(self.variables("postgres")["DATABASE_URL"], dbname=database)
        with psycopg.connect(url, autocommit=True) as connection:
            cursor = connection.execute(sql.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def image(self, service: str) -> str:
        """The image that a service is configured with."""
        return self.api.inventory().services[service].image or ""

    def serves_strangers(self) -> bool:
        """Whether LiteLLM lists its models to somebody without a key."""
        answer = httpx.get(f"{self.environment['LITELLM_URL']}/v1/models", trust_env=False, timeout=60)
        return answer.status_code == httpx.codes.OK

    def own_domain(self, service: str, domain: str) -> None:
        """Give a service a domain of one's own, as in Railway's dashboard; its DNS is right from the beginning."""
        where = {"projectId": self.railway.project_id, "environmentId": self.railway.environment_id}
        wanted = {**where, "serviceId": self.railway.service_id(service), "domain": domain, "targetPort": 4000}
        self.api.graphql.run(_CUSTOM_DOMAIN, input=wanted)
        self.railway.verify(domain)

    def gateway(self) -> httpx.Client:
        """A client of LiteLLM that has the master key."""
        environment = self.environment
        key = {"Authorization": f"Bearer {environment['LITELLM_MASTER_KEY']}"}
        return httpx.Client(base_url=environment["LITELLM_URL"], headers=key, trust_env=False, timeout=60)

    def send_trace(self) -> None:
        """Send a request through LiteLLM, which traces it in Langfuse."""
        with self.gateway() as client:
            models = client.get("/v1/models").raise_for_status().json()["data"]
            asked = {"model": models[0]["id"], "messages": [{"role": "user", "content": "ping"}]}
            client.post("/v1/chat/completions", json=asked).raise_for_status()

    # --- its making ------------------------------------------------------------------------------------------------------

    def _deploy(self) -> None:
        lock = DirectoryLock(self.directory)
        lock.acquire()
        self._open.callback(lock.release)
        wipe(self.directory)
        self.sinks = self._open.enter_context(AlertSinks())
        self.railway, self.runtime = self._open.enter_context(a_railway(self.directory))
        self.site = PublicSite(self.directory)
        self._open.callback(self.site.close)
        self.registry = self._open.enter_context(RegistryDouble(self.runtime.catalogue))
        self.say(f"Deploying the production stack with Langfuse {self.langfuse}: nine services ...")
        deploy_from_a_terminal(self.railway, "--no-smoke", "--langfuse", str(self.langfuse))
        self.api: RailwayApi = self._open.enter_context(railway_block(self.railway).open(allow=PROTECTED))
        self.own_domain("litellm", "localhost")
        self.say("Compressing its time, leading its alerts to the sinks ...")
        worker = self.railway.service_id("prefect-worker")
        self.api.set_variables(worker, {**COMPRESSED, **self._leads()})
        self.deploy("prefect-worker")
        self.control = self._open.enter_context(self._control())
        self._wait_for_worker()
        self.say("Taking a backup and proving it: a stack without one is an incident ...")
        self.run("backup/on-demand", {})
        self.run("drill/on-demand", {})
        self.control.sweep_every(SWEEP, INTERVAL_S)

    def _leads(self) -> dict[str, str]:
        """What the worker is told that a stack of this machine needs."""
        return {
            **self.sinks.environment(),
            "RAILWAY_API_URL": self.railway.url,
            "RAILWAY_API_TOKEN": self.railway.token("workspace"),
            "REGISTRY_URL": self.registry.url,
            "PUBLIC_URLS": self.site.url,  # nobody reaches the names that this Railway gives
            "SSL_CERT_FILE": str(self.site.authority),
        }

    def _control(self) -> Control:
        server = self.variables("prefect-server")
        url = f"http://{self.runtime.public_address('prefect-server', 4200)}/api"
        return Control(url, auth=server["PREFECT_SERVER_API_AUTH_STRING"])

    def _wait_for_worker(self) -> None:
        """Until the newest container has registered everything, and its worker takes runs."""

        def ready() -> bool:
            containers = self.runtime.containers("prefect-worker")
            said = "\n".join(one.message for one in containers[-1].logs(2000)) if containers else ""
            return len(containers) == 1 and all(f"done: {step} (" in said for step in _REGISTERED)

        wait_until(ready, timeout=_START_S, what="the worker to have registered everything", pause=0.5)
        pool = self.environment["WORK_POOL"]
        wait_until(lambda: bool(self.control.online_workers(pool)), timeout=_START_S, what="the worker", pause=0.5)
