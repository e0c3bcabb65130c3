"""The real Prefect server, on SQLite in a directory of its own.

A new database costs 10 s of migrations, so the first server leaves a copy of its database, as it is before anybody used it,
in a cache; later ones begin with that copy and are ready in 5 s.
"""

from __future__ import annotations

import secrets
import shutil
import signal
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import httpx

from railway.worker.plain_http import no_authorities
from shared.engines.process import ManagedProcess, free_port

__all__ = ["PrefectServer", "keep_copy"]

_OFFLINE = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
}
# Two days of events and fourteen of flow runs, as in production; Prefect keeps runs for ever by default.
_RETENTION = {
    "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P2D",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": "1209600",  # seconds
}


class PrefectServer:
    """One server with its UI, background services included.

    Args:
        directory: holds database, log and PREFECT_HOME; private to the server.
        cache: folder for prepared databases, one per version of Prefect.
        registered: a prepared database that has more in it, to begin with where it exists (`registered.py`), or None.
        auth: `user:password` that clients must send, or None for an open server.
        schedules: whether the schedules of deployments make runs.
        settings: of Prefect, besides and instead of the sandbox's own.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        directory: Path,
        cache: Path,
        *,
        registered: Path | None = None,
        auth: str | None = None,
        schedules: bool = True,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.directory = directory.resolve()
        self.home = self.directory / "home"
        self.database = self.directory / "prefect.sqlite"
        self.auth = auth
        self._settings = settings or {}
        self.schedules = schedules
        self.prepared = cache.resolve() / f"prefect-{version('prefect')}.sqlite"
        self._registered = registered
        self.is_registered = False
        self.ui_url = f"http://{self.host}:{(port := free_port())}"
        self.api_url = f"{self.ui_url}/api"
        self._process = ManagedProcess(
            "prefect server",
            [sys.executable, "-m", "prefect", "server", "start", "--host", self.host, "--port", str(port)],
            log=self.directory / "server.log",
            cwd=self.directory,  # not the repository: its prefect.yaml and pyproject.toml are the clients' business
        )

    @property
    def running(self) -> bool:
        """Whether the server's process is alive."""
        return self._process.running

    @property
    def log(self) -> Path:
        """What the server wrote."""
        return self._process.log

    def client_environment(self) -> dict[str, str]:
        """Variables that make any Prefect program talk to this server, keep its files here, and reach no other host."""
        credentials = {"PREFECT_API_AUTH_STRING": self.auth} if self.auth else {}
        environment = {
            **_OFFLINE,
            "PREFECT_API_URL": self.api_url,
            "PREFECT_UI_URL": self.ui_url,
            "PREFECT_HOME": str(self.home),
            **credentials,
        }
        return environment | no_authorities(environment)

    def start(self, *, timeout: float = 120.0) -> None:
        """Start the server and return when it answers and reaches its database.

        Args:
            timeout: seconds.
        Raises:
            EngineError: with the end of the log.
        """
        if self.running:
            return
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        is_new = not self.database.exists()
        if is_new and self._registered is not None and self._registered.exists():
            shutil.copyfile(self._registered, self.database)
            is_new, self.is_registered = False, True
        if is_new and self.prepared.exists():
            shutil.copyfile(self.prepared, self.database)
            is_new = False
        self._process.env.update(self._server_environment(prepare=is_new))
        with httpx.Client(timeout=5.0, trust_env=False) as client:
            self._process.start(lambda: self._is_ready(client), timeout=timeout)
        if is_new:
            keep_copy(self.database, self.prepared)  # before anybody has put something into it

    def stop(self) -> None:
        """Stop the server; its database stays."""
        self.resume()
        self._process.stop()

    def pause(self) -> None:
        """SIGSTOP the server."""
        self._process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT it."""
        self._process.signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL the server."""
        self._process.kill()

    def _server_environment(self, *, prepare: bool) -> dict[str, str]:
        credentials = {"PREFECT_SERVER_API_AUTH_STRING": self.auth} if self.auth else {}
        return {
            **self.client_environment(),
            **_RETENTION,
            **credentials,
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{self.database}",
            "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": str(prepare).lower(),
            "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": str(prepare).lower(),
            "PREFECT_SERVER_SERVICES_SCHEDULER_ENABLED": str(self.schedules).lower(),
            # One writer at a time is SQLite's nature: wait for the other one rather than fail.
            "PREFECT_SERVER_DATABASE_TIMEOUT": "60",
            # In memory, the default, a restart of the server leaks every concurrency slot for five minutes.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            **self._settings,
        }

    def _is_ready(self, client: httpx.Client) -> bool:
        try:
            return client.get(f"{self.api_url}/ready").is_success
        except httpx.TransportError:
            return False


def keep_copy(database: Path, kept: Path) -> None:
    """Copy a SQLite database that a server has open; whoever looks for `kept` finds all of it or nothing.

    Several sandboxes may do so at once: each writes a draft of its own, and the last one stays.

    Args:
        database: to copy, through SQLite because it is open. kept: the copy; its folder is made.
    """
    kept.parent.mkdir(parents=True, exist_ok=True)
    draft = kept.with_suffix(f".{secrets.token_hex(8)}.new")
    try:
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(draft)) as target:
            source.backup(target)
        draft.replace(kept)
    finally:
        draft.unlink(missing_ok=True)
