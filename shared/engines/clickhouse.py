"""A real ClickHouse engine behind ClickHouse's HTTP interface: chDB, from the wheels `chdb` and `chdb-core`."""

from __future__ import annotations

import http.client
import json
import sys
from collections.abc import Mapping
from pathlib import Path

from shared.engines.engine import Engine
from shared.engines.files import read_or_create_secret, write_private
from shared.engines.process import ManagedProcess, free_port

__all__ = ["ClickHouseEngine"]

_REPOSITORY = Path(__file__).resolve().parents[2]


class ClickHouseEngine(Engine):
    """One server in a directory, which keeps its data over stop, kill and start. What it does otherwise than ClickHouse is
    said in `shared.engines.clickhouse_http`.

    Args:
        directory: holds the data, the log, the configuration and the password; private to the engine.
        port: default a free one, drawn anew for each object.
        user: the only one.
        password: default a random one, made once and kept in the directory.
        named_collections: made anew at every start, name -> key -> value. Give it `url` (ending in "/"),
            `access_key_id` and `secret_access_key` for `S3(name, 'path/')`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int | None = None,
        user: str = "default",
        password: str | None = None,
        named_collections: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        super().__init__(directory)
        self.port = free_port() if port is None else port
        self.user = user
        self.password = read_or_create_secret(self.directory / "password") if password is None else password
        self.named_collections = {name: dict(values) for name, values in (named_collections or {}).items()}
        self._configuration = self.directory / "server.json"
        self._process = ManagedProcess(
            "clickhouse",
            [sys.executable, "-P", "-m", "shared.engines.clickhouse_http", str(self._configuration)],
            log=self.directory / "clickhouse.log",
            env={"PYTHONPATH": str(_REPOSITORY), "TZ": "UTC"},
        )

    @property
    def url(self) -> str:
        """Base URL of the HTTP interface, without credentials."""
        return f"http://{self.host}:{self.port}"

    def start(self, *, timeout: float = 60.0) -> None:
        """Start the server and return when it answers.

        Args:
            timeout: seconds; the first start reads 550 MB of library from disk.
        Raises:
            EngineError: with the end of the log.
        """
        if self.running:
            return
        configuration = {
            "directory": str(self.directory),
            "port": self.port,
            "user": self.user,
            "password": self.password,
            "named_collections": self.named_collections,
        }
        write_private(self._configuration, json.dumps(configuration))
        self._process.start(self._answers, timeout=timeout)

    def _answers(self) -> bool:
        """Whether this engine, and not another program on this port, knows the password."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=5.0)
        credentials = {"X-ClickHouse-User": self.user, "X-ClickHouse-Key": self.password}
        try:
            connection.request("POST", "/", b"SELECT 1", credentials)
            return connection.getresponse().read() == b"1\n"
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()
