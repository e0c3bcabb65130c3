"""Redis as runbooks see it: its settings, its memory, the records of BullMQ's jobs; and its start command on Railway."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from redis import Redis
from redis.exceptions import NoPermissionError, RedisError, ResponseError

from blocks.errors import AccessDenied, ServiceError, StackError
from blocks.railway import RailwayEnvironment
from blocks.railway_api.models import ServiceSettings
from blocks.redis import RedisServer
from flows.runbook.environment import instance_of

__all__ = ["Memory", "NoStart", "Start", "StartCommand", "connected", "read_memory", "set_option", "with_option"]

SERVICE = "redis"


@contextmanager
def connected(server: RedisServer, doing: str) -> Iterator[Any]:
    """A client, with our errors in place of its own.

    Args:
        doing: for messages.
    """
    try:
        with server.client() as client:
            yield client
    except NoPermissionError:
        raise AccessDenied(f"redis: {doing}: this user may not; give it +config +info +memory in its ACL") from None
    except ResponseError as error:
        raise ServiceError(f"redis: {doing}: refused: {error}", permanent=True) from None
    except RedisError as error:
        raise ServiceError(f"redis: {doing}: no answer ({type(error).__name__}); is the service up?") from None


@dataclass(frozen=True)
class Memory:
    """What Redis says of its memory.

    Attributes:
        used, most: bytes; most 0: no limit of its own. policy: what it does when it is full. evicted: keys thrown away so far.
        resident: bytes that the process holds of the machine's.
    """

    used: int
    most: int
    policy: str
    evicted: int
    resident: int = 0

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.used / 1e6:.1f} of {self.most / 1e6:.1f} MB" if self.most else f"{self.used / 1e6:.1f} MB, no limit"


def read_memory(client: Redis) -> Memory:
    """Ask for it."""
    info: Any = client.info("everything")
    return Memory(
        used=int(info.get("used_memory", 0)),
        most=int(info.get("maxmemory", 0)),
        policy=str(info.get("maxmemory_policy", "unknown")),
        evicted=int(info.get("evicted_keys", 0)),
        resident=int(info.get("used_memory_rss", 0)),
    )


def set_option(client: Redis, name: str, value: str) -> str:
    """Set an option of the running server, and in its configuration file where it has one.

    Returns: whether it outlives a restart, for people.
    """
    client.config_set(name, value)
    try:
        client.config_rewrite()
    except ResponseError:
        return "until its next start (it has no configuration file)"
    return "for good (its configuration file says so, too)"


def with_option(command: str, name: str, value: str) -> str:
    """Return a start command with another value of an option; as it is where it does not name the option.

    Args:
        name: without the dashes, for example `maxmemory-policy`.
    """
    return re.sub(rf"(--{re.escape(name)}[ =]+)[^\s'\"]+", lambda found: f"{found[1]}{value}", command)


class Start(Protocol):
    """The start command of the service, wherever that is kept. It may hold a password, so it is never shown."""

    def says(self, name: str) -> str:
        """The value of an option in it; empty where it does not name the option. Raises StackError where nobody can tell."""

    def say(self, name: str, value: str) -> str:
        """Change an option in it, for the next deployment; returns what was done, for people. Raises for nothing."""


class NoStart:
    """There is no platform that starts it."""

    def says(self, name: str) -> str:
        """See `Start`."""
        return ""

    def say(self, name: str, value: str) -> str:
        """See `Start`."""
        return ""


class StartCommand:
    """Railway's. It is not deployed: the running server has the value already."""

    def __init__(self, environment: RailwayEnvironment) -> None:
        self._environment = environment

    def says(self, name: str) -> str:
        """See `Start`."""
        with self._environment.open() as api:
            there = instance_of(api, SERVICE)
        found = re.search(rf"--{re.escape(name)}[ =]+([^\s'\"]+)", (there.start_command or "") if there else "")
        return found[1] if found else ""

    def say(self, name: str, value: str) -> str:
        """See `Start`."""
        try:
            with self._environment.open() as api:
                there = instance_of(api, SERVICE)
                if there is None or not there.start_command:
                    return ""
                wanted = with_option(there.start_command, name, value)
                if wanted == there.start_command:
                    return ""
                api.update_service(there.service_id, ServiceSettings(start_command=wanted))
        except StackError as error:
            return f"; change --{name} in its start command on Railway by hand: {error}"
        return f"; its start command on Railway says {name} {value} from the next deployment on"
