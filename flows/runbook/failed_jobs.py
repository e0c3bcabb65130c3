"""Jobs that Langfuse's worker has given up: read from BullMQ's keys, told apart by why, put back into their queue.

What is done here is what BullMQ's own `job.retry()` does (`reprocessJob` of BullMQ 5): out of `failed`, to the end of `wait`,
or of `paused` where somebody has paused the queue. A field of our own in the job's hash counts how often; BullMQ reads fields
by name, and deletes the hash with the job. Keys: facts, apps.md 2.3.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

__all__ = ["Failed", "Fate", "batches", "fates", "read_failed", "reason_of", "retry", "shown"]

T = TypeVar("T")

_CHUNK = 500
_LONGEST = 120
_AGAIN = "stackOperationsRetries"

_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|`[^`]*`|\{.*\}|\[.*\]|\S+://\S+|\S+@\S+")
_LOOSE = re.compile(r"[\w.+/=:-]*\d[\w.+/=:-]*|[\w+/=-]{25,}")
_TELLING = re.compile(r"[A-Z]{0,4}\d{1,3}:?")
"""Of what has a digit in it: HTTP statuses, numbers of errors (P2002 is one too many), S3."""


@dataclass(frozen=True)
class Failed:
    """A job that was given up.

    Attributes:
        why: its reason, without values. again: how often we have put it back.
        child: it belongs to another job, which counts its children: not ours to move.
    """

    queue: str
    id: str
    why: str
    again: int = 0
    child: bool = False

    @property
    def kind(self) -> tuple[str, str]:
        """What failed alike: jobs of one queue with one reason."""
        return self.queue, self.why


@dataclass(frozen=True)
class Fate:
    """What has become of jobs that were put back."""

    done: tuple[Failed, ...]
    failed: tuple[Failed, ...]
    under_way: tuple[Failed, ...]


def reason_of(text: str) -> str:
    """Say why a job failed so that it can be shown: the first line, without what came from a request or names one thing."""
    line = (text or "no reason given").strip().partition("\n")[0]
    line = _QUOTED.sub("…", line)
    line = _LOOSE.sub(lambda found: found[0] if _TELLING.fullmatch(found[0]) else "#", line)
    line = " ".join(line.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"


def read_failed(client: Any, prefix: str, queues: Sequence[str], most: int) -> list[Failed]:
    """Read the jobs that were given up, the oldest of each queue first.

    Args:
        most: of each queue; the ingestion queues keep 100,000 at most (removeOnFail).
    """
    found = []
    for queue in queues:
        ids = [one.decode() for one in client.zrange(f"{prefix}:{queue}:failed", 0, most - 1)]
        for chunk in batches(ids, _CHUNK):
            with client.pipeline(transaction=False) as ask:
                for job in chunk:
                    ask.hmget(f"{prefix}:{queue}:{job}", "failedReason", _AGAIN, "parentKey")
                answers = ask.execute()
            for job, (why, again, parent) in zip(chunk, answers, strict=True):
                reason = reason_of((why or b"").decode(errors="replace"))
                found.append(Failed(queue, job, reason, int(again or 0), bool(parent)))
    return found


def shown(jobs: Sequence[Failed]) -> Mapping[str, str]:
    """Count jobs by queue and reason, the most first, for people."""
    counted = Counter(one.kind for one in jobs).most_common()
    again = {kind: max(one.again for one in jobs if one.kind == kind) for kind, _ in counted[:12]}
    told = {
        f"{queue}: {why}": f"{count} jobs" + (f", put back {again[queue, why]} times before" if again[queue, why] else "")
        for (queue, why), count in counted[:12]
    }
    if len(counted) > len(told):
        told["other reasons"] = f"{len(counted) - len(told)} more, {sum(count for _, count in counted[12:])} jobs"
    return told


def retry(client: Any, prefix: str, jobs: Collection[Failed], *, afresh: bool) -> list[Failed]:
    """Put jobs back into their queues; what is not among the failed any more is left alone, so it may be done again.

    Each job moves in one transaction of the server: killed in between, every job is either failed or waits.

    Args:
        afresh: with all its attempts; otherwise it has one, and is given up at once where that fails, too.
    Returns: those that were put back.
    """
    script = client.register_script(_RETRY)
    moved = []
    for one in jobs:
        base = f"{prefix}:{one.queue}:"
        if one.child:
            continue
        if int(script(keys=[base + "failed"], args=[base, one.id, int(afresh), _AGAIN])):
            moved.append(one)
    return moved


def fates(client: Any, prefix: str, jobs: Collection[Failed]) -> Fate:
    """See what has become of jobs: those that are done are gone, or among the completed."""
    done: list[Failed] = []
    failed: list[Failed] = []
    under_way: list[Failed] = []
    for chunk in batches(list(jobs), _CHUNK):
        with client.pipeline(transaction=False) as ask:
            for one in chunk:
                base = f"{prefix}:{one.queue}:"
                ask.exists(base + one.id)
                ask.zscore(base + "failed", one.id)
                ask.zscore(base + "completed", one.id)
            answers = ask.execute()
        for place, one in enumerate(chunk):
            there, lost, ended = answers[3 * place : 3 * place + 3]
            (failed if lost is not None else under_way if there and ended is None else done).append(one)
    return Fate(tuple(done), tuple(failed), tuple(under_way))


def batches(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """Cut a sequence into pieces."""
    rest = iter(items)
    while piece := list(islice(rest, size)):
        yield piece


_RETRY = """
local base, id, afresh = ARGV[1], ARGV[2], ARGV[3]
if redis.call('ZREM', KEYS[1], id) == 0 then return 0 end
local job = base .. id
if redis.call('EXISTS', job) == 0 then return 0 end
redis.call('HDEL', job, 'finishedOn', 'processedOn', 'failedReason', 'defa')
if afresh == '1' then redis.call('HDEL', job, 'atm', 'ats') end
redis.call('HINCRBY', job, ARGV[4], 1)
if redis.call('HEXISTS', base .. 'meta', 'paused') == 1 then
  redis.call('LPUSH', base .. 'paused', id)
else
  redis.call('LPUSH', base .. 'wait', id)
  redis.call('ZADD', base .. 'marker', 0, '0')
end
redis.call('XADD', base .. 'events', 'MAXLEN', '~', 10000, '*', 'event', 'waiting', 'jobId', id, 'prev', 'failed')
return 1
"""
"""The keys that are made in here belong to one queue; Langfuse's Redis is no cluster here (keys would need `{queue}`).

An id among the failed without its hash stands for nothing that could be done, and goes.
"""
