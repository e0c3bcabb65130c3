"""The whole stack on this machine: real engines, the real Prefect server and a real process worker, in one directory.

Everything is on 127.0.0.1, on ports chosen at start, and ends with the program that started it, in whatever way that ends.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import httpx

from shared.engines.clickhouse import ClickHouseEngine
from shared.engines.files import write_private
from shared.engines.object_store import Identity, S3Engine
from shared.engines.postgres import PostgresEngine
from shared.engines.process import EngineError
from shared.engines.redis import RedisEngine
from shared.sandbox.applications import Applications, Service, service
from shared.sandbox.environment import ROOT, as_shell, variables
from shared.sandbox.keys import SandboxKeys
from shared.sandbox.left_overs import DirectoryLock, end_processes, free_what_the_kernel_holds, wipe
from shared.sandbox.postgres_roles import create_roles_and_databases
from shared.sandbox.prefect_api import FlowRunResult, PrefectApi
from shared.sandbox.prefect_server import PrefectServer
from shared.sandbox.prefect_worker import PrefectWorker
from shared.sandbox.railway_runtime.catalogue import Catalogue
from shared.sandbox.railway_runtime.registry import IMAGES
from shared.sandbox.registered import digest_of, keep_registered
from shared.sandbox.registry import RegistryDouble
from shared.sandbox.together import Commands, stop_together, together

__all__ = ["ROOT", "STATE", "Sandbox"]

STATE = ROOT / ".sandbox"
"""Where sandboxes live, and what they share: prepared databases."""

T = TypeVar("T")

_POOL = "ops"
_SOURCES = tuple(ROOT / name for name in ("flows", "blocks", "railway", "requirements.lock"))
"""What the deployments' schemas of parameters are made from."""


class Sandbox:
    """The stack in a directory. A context manager; `start` and `stop` for those who cannot use one.

    Args:
        directory: holds everything; default `.sandbox/stack` in the repository. One program at a time.
        prefect: False leaves out Prefect's server, worker, blocks and deployments.
        applications: True starts LiteLLM, Langfuse and the alert sinks, too. langfuse_version: 3.225.4 or 4.16.0.
        fresh: begin with empty engines; False keeps the data of last time.
        schedules: let the deployments' schedules start runs. Off by default: the nightly backup would join a test at 03:00.
        deployments: the file that `prefect deploy --all` reads.
        api_auth: `user:password` for the Prefect API, or None for an open one.
        report: told about each part that is ready: its name, seconds. Called from several threads.

    Attributes:
        postgres, clickhouse, redis, store: the engines, from `start` on; `store` is the S3 server.
        second_store: another S3 server, which copies of the backups go to. registry: the double of all image registries.
        keys: the secrets that no engine makes for itself. applications: LiteLLM, Langfuse and the sinks, or None.
        seconds: how long each part took to start, by name.
    """

    stack_name = "sandbox"
    bucket = "backups"
    source_bucket = "langfuse"
    copy_bucket = "copies"
    clickhouse_database = "langfuse"

    postgres: PostgresEngine
    clickhouse: ClickHouseEngine
    redis: RedisEngine
    store: S3Engine
    second_store: S3Engine
    registry: RegistryDouble
    keys: SandboxKeys
    applications: Applications | None = None

    def __init__(
        self,
        directory: Path = STATE / "stack",
        *,
        prefect: bool = True,
        applications: bool = False,
        langfuse_version: str = "3.225.4",
        fresh: bool = True,
        schedules: bool = False,
        deployments: Path = ROOT / "prefect.yaml",
        api_auth: str | None = None,
        report: Callable[[str, float], None] | None = None,
    ) -> None:
        self.directory = directory.absolute()
        self.seconds: dict[str, float] = {}
        self.has_prefect = prefect
        self._langfuse_version = langfuse_version if applications else None
        self._fresh = fresh
        self._schedules = schedules
        self._deployments = deployments.absolute()
        digest = digest_of(self._deployments, _SOURCES, version("prefect"))
        self._registered = STATE / "cache" / f"registered-{digest}.sqlite"
        self._api_auth = api_auth
        self._report = report
        self._lock = DirectoryLock(self.directory)
        self._commands = Commands()
        self._server: PrefectServer | None = None
        self._api: PrefectApi | None = None
        self._worker: PrefectWorker | None = None
        self._sigterm: Any = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything, after ending what a killed sandbox may have left in the directory.

        SIGTERM to the program ends it by SystemExit, and with it the stack, until `stop`.

        Raises:
            EngineError: a part did not start, or the directory is in use; nothing is left running.
        """
        self._lock.acquire()
        try:
            self._exit_on_sigterm()
            self._prepare()
            first = {"prefect server": self._start_server} if self.has_prefect else {}
            first |= {
                "postgres": self._start_postgres,
                "clickhouse": self._start_clickhouse,
                "s3": self._start_store,
                "second s3": self._start_second_store,
                "redis": self.redis.start,
                "registries": self.registry.start,
            }
            self._start_together(first)
            later = dict(self.applications.steps()) if self.applications is not None else {}
            if self.has_prefect:
                later |= {
                    "prefect worker": self.worker.start,
                    "blocks": lambda: self._run("blocks", ["blocks"]),
                    "deployments": self._deploy,
                }
            self._start_together(later)
            if self.has_prefect:
                self._keep_registered()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop everything and give the directory back; data and logs stay. Nothing happens when it does not run."""
        try:
            self._end()
        finally:
            self._lock.release()
            if self._sigterm is not None:
                signal.signal(signal.SIGTERM, self._sigterm)
                self._sigterm = None

    def environment(self) -> dict[str, str]:
        """The whole environment for a program of the project: `blocks/settings.py`, Prefect's, PATH and HOME. With secrets."""
        prefect = {} if self._server is None else self._server.client_environment()
        return {**variables(self), **prefect}

    @property
    def environment_file(self) -> Path:
        """Shell `export` lines of `environment`, without PATH and HOME, to be sourced; readable by its owner only."""
        return self.directory / "environment.sh"

    @property
    def logs(self) -> Path:
        """The folder of the Prefect programs' logs; each engine's is in its own folder beside."""
        return self.directory / "prefect"

    # --- Prefect -----------------------------------------------------------------------------------------------------

    @property
    def api(self) -> PrefectApi:
        """A client of the Prefect server."""
        return _there(self._api)

    @property
    def server(self) -> PrefectServer:
        """The Prefect server."""
        return _there(self._server)

    @property
    def worker(self) -> PrefectWorker:
        """The Prefect worker."""
        return _there(self._worker)

    @property
    def prefect_api_url(self) -> str:
        """PREFECT_API_URL."""
        return self.server.api_url

    @property
    def prefect_ui_url(self) -> str:
        """Where the Prefect UI is."""
        return self.server.ui_url

    def run_deployment(self, name: str, parameters: dict[str, Any] | None = None, *, timeout: float = 600.0) -> FlowRunResult:
        """Have the worker run a deployment, and wait for its end, good or bad.

        Args:
            name: `flow/deployment`.
            parameters: of the flow, as JSON.
            timeout: seconds.
        Raises:
            EngineError: no such deployment, the parameters do not fit, or it did not end in time.
        """
        return self.api.wait(self.api.start_run(name, parameters), timeout=timeout)

    def flow_logs(self, run_id: str) -> str:
        """What a flow run logged, a line each: time, level, message."""
        return self.api.logs(run_id)

    def artifact(self, key: str) -> str | None:
        """The newest artifact under a key, as text, or None."""
        return self.api.artifact(key)

    def restart_worker(self) -> None:
        """Stop the worker as a deploy of its container does, and start another."""
        self.worker.stop()
        self.worker.start()

    # --- parts -------------------------------------------------------------------------------------------------------

    def postgres_url(self, role: Literal["backup", "restore", "litellm", "langfuse"], database: str = "postgres") -> str:
        """A Postgres URL of the role that takes backups, of the one that restores, or of a database's owner; with password."""
        return self.postgres.url(database, user=role, password=self.keys.postgres_passwords[role])

    def service(self, name: str) -> Service:
        """A service by its name in `railway/stack.py`; EngineError where this sandbox has none of that name."""
        return service(self, name)

    def _prepare(self) -> None:
        """Lay out the directory, choose keys and ports, install what is missing; nothing runs yet."""
        end_processes(self.directory)
        if self._fresh:
            free_what_the_kernel_holds(self.directory)
            wipe(self.directory)
        for folder in ("home", "tmp", "drill"):
            (self.directory / folder).mkdir(mode=0o711, parents=True, exist_ok=True)
        self.keys = SandboxKeys.read_or_create(self.directory / "keys.json")
        # fsync would only protect against a crash of this machine; what a commit acknowledged survives a killed server.
        self.postgres = PostgresEngine(
            self.directory / "postgres", durable=False, settings={"synchronous_commit": "on", "max_wal_size": "4GB"}
        )
        self.clickhouse = ClickHouseEngine(self.directory / "clickhouse")
        self.redis = RedisEngine(self.directory / "redis")
        self.store = S3Engine(
            self.directory / "s3",
            identities=[
                Identity.owner(self.bucket, self.keys.store_secret_key),
                Identity.owner(self.source_bucket, self.keys.source_secret_key),
            ],
        )
        self.second_store = S3Engine(
            self.directory / "s3-copies", identities=[Identity.owner(self.copy_bucket, self.keys.copy_secret_key)]
        )
        self.registry = RegistryDouble(Catalogue(IMAGES))
        if self._langfuse_version is not None:
            self.applications = Applications(self, langfuse_version=self._langfuse_version)
            self.applications.install()
        if self.has_prefect:
            self._server = PrefectServer(
                self.directory / "prefect",
                STATE / "cache",
                registered=self._registered,
                auth=self._api_auth,
                schedules=self._schedules,
            )
            self._api = PrefectApi(self._server.api_url, auth=self._api_auth)
            self._worker = PrefectWorker(self.logs, _POOL, self._api, self.environment())
        write_private(self.environment_file, as_shell(self.environment()))

    def _start_postgres(self) -> None:
        self.postgres.start()
        create_roles_and_databases(self.postgres, self.keys.postgres)

    def _start_clickhouse(self) -> None:
        self.clickhouse.start()
        headers = {"X-ClickHouse-User": self.clickhouse.user, "X-ClickHouse-Key": self.clickhouse.password}
        statement = f"CREATE DATABASE IF NOT EXISTS {self.clickhouse_database} ENGINE = Atomic"
        httpx.post(self.clickhouse.url, content=statement, headers=headers, trust_env=False).raise_for_status()

    def _start_store(self) -> None:
        self.store.start()
        self.store.create_bucket(self.bucket)
        self.store.create_bucket(self.source_bucket)

    def _start_second_store(self) -> None:
        self.second_store.start()
        self.second_store.create_bucket(self.copy_bucket)

    def _start_server(self) -> None:
        self.server.start()
        self.api.create_process_pool(_POOL)

    def _deploy(self) -> None:
        if self.server.is_registered:
            return  # by an earlier sandbox, of the same flows
        self._run("deployments", ["prefect", "--no-prompt", "deploy", "--all", "--prefect-file", str(self._deployments)])

    def _run(self, name: str, arguments: list[str]) -> None:
        log = self.logs / f"{name}.log"
        self._commands.run(name, arguments, log=log, env=self.environment(), cwd=ROOT, timeout=420.0)

    def _keep_registered(self) -> None:
        if not self.server.is_registered and self.server.prepared.exists():
            keep_registered(self.server.database, self.server.prepared, self._registered)

    def _start_together(self, steps: dict[str, Callable[[], None]]) -> None:
        together(steps, report=self._ready, give_up=self._end)

    def _ready(self, name: str, seconds: float) -> None:
        self.seconds[name] = seconds
        if self._report is not None:
            self._report(name, seconds)

    def _end(self) -> None:
        """Stop what runs: what uses the others first."""
        self._commands.kill()
        if self._worker is not None:
            self._worker.stop()
        if self._api is not None:
            self._api.close()
        if self.applications is not None:
            stop_together(self.applications.stops())
        parts = [
            getattr(self, name, None)
            for name in ("_server", "postgres", "clickhouse", "redis", "store", "second_store", "registry")
        ]
        stop_together({str(index): part.stop for index, part in enumerate(parts) if part is not None})

    def _exit_on_sigterm(self) -> None:
        """Turn SIGTERM into SystemExit, unless the program has its own way."""
        if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._sigterm = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def _there(part: T | None) -> T:
    """A part of Prefect's, which only exists between `start` and the end, and not with `prefect=False`."""
    if part is None:
        raise EngineError("this sandbox has no Prefect: it was not started, or with prefect=False")
    return part
