"""What makes room in Redis, from what costs nothing to what is gone afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from redis.exceptions import ResponseError

from blocks.redis import RedisServer
from flows.runbook.frame import Action
from flows.runbook.redis_jobs import forget
from flows.runbook.redis_server import Start, connected, read_memory, set_option

__all__ = ["ForgetJobs", "Purge", "RaiseLimit"]


@dataclass(frozen=True)
class Purge(Action):
    """Gives unused pages back to the machine; deletes nothing."""

    server: RedisServer

    def describe(self) -> str:
        """As in `Action`."""
        return "give back memory that is not used (MEMORY PURGE)"

    def do(self) -> str:
        """As in `Action`."""
        with connected(self.server, "purge its memory") as client:
            before = read_memory(client)
            try:
                client.memory_purge()
            except ResponseError:
                return "this server has no such command"
            after = read_memory(client)
        return f"{before.words}, then {after.words}; held {before.resident / 1e6:.1f} MB, then {after.resident / 1e6:.1f} MB"


@dataclass(frozen=True)
class RaiseLimit(Action):
    """Raises maxmemory within what the container has.

    Attributes:
        limit: bytes.
    """

    server: RedisServer
    limit: int
    start: Start

    def describe(self) -> str:
        """As in `Action`."""
        return f"raise Redis' limit to {self.limit / 1e6:.0f} MB, in the running server and in its start command"

    def do(self) -> str:
        """As in `Action`."""
        with connected(self.server, "raise its limit") as client:
            before = read_memory(client).most
            if before == 0 or before >= self.limit:
                return f"its limit is {before / 1e6:.0f} MB already" if before else "it has no limit any more"
            lasts = set_option(client, "maxmemory", str(self.limit))
        return f"{before / 1e6:.0f} MB, then {self.limit / 1e6:.0f} MB {lasts}{self.start.say('maxmemory', str(self.limit))}"


@dataclass(frozen=True)
class ForgetJobs(Action):
    """Deletes records of jobs that have ended.

    Attributes:
        queues: whose. how: completed or failed. before: unix seconds; those that ended later stay. why: it asks, or empty.
    """

    server: RedisServer
    prefix: str
    queues: tuple[str, ...]
    how: str
    before: float
    why: str = ""

    @property
    def asks(self) -> str:
        """As in `Action`."""
        return self.why

    def describe(self) -> str:
        """As in `Action`."""
        when = datetime.fromtimestamp(self.before, UTC)
        return f"forget {self.how} jobs of {', '.join(self.queues)} that ended before {when:%Y-%m-%d %H:%M} UTC"

    def do(self) -> str:
        """As in `Action`."""
        with connected(self.server, f"forget {self.how} jobs") as client:
            before = read_memory(client)
            deleted = forget(client, self.prefix, self.queues, self.how, self.before)
            after = read_memory(client)
        return f"{deleted} forgotten; {before.words}, then {after.words}"
