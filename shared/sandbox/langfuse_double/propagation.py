"""v4's job that copies traces from where 3 has them to the new tables, as far as others see it: its two marks in Redis.

Each run begins with the first mark, also where it finds nothing. The second is the time slice that was copied last: three
minutes long, and begun ten minutes ago at least. Here every slice has something in it, and is copied in no time
(source: langfuse, worker/src/features/eventPropagation and health).
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

from shared.sandbox.langfuse_double.configuration import Configuration

__all__ = ["CURSOR", "health", "is_enabled", "run"]

CURSOR = "langfuse:event-propagation:last-processed-partition"
_STARTED = "langfuse:event-propagation:last-run-started-at"
_SLICE_S, _DELAY_S = 180, 600
_THRESHOLD_S = 35 * 60


def is_enabled(configuration: Configuration) -> bool:
    """Whether the worker has that job: a 4 that writes to the new tables."""
    return configuration.major >= 4 and configuration.write_mode != "legacy"


async def run(redis: Any, configuration: Configuration, *, stuck: bool) -> None:
    """Run it once; in `events_only` nothing is written twice, and nothing copied."""
    now = time.time()
    await redis.set(_STARTED, str(int(now * 1000)))
    if configuration.write_mode == "dual" and not stuck:
        begun = (now - _DELAY_S) // _SLICE_S * _SLICE_S
        await redis.set(CURSOR, datetime.fromtimestamp(begun, UTC).strftime("%Y-%m-%d %H:%M:%S"))


async def health(redis: Any, configuration: Configuration) -> dict[str, Any]:
    """What `failIfEventPropagationStuck` adds to the answer."""
    enabled = is_enabled(configuration)
    started, cursor = (await redis.get(_STARTED), await redis.get(CURSOR)) if enabled else (None, None)
    seconds = None if started is None else max(0, round(time.time() - int(started) / 1000))
    behind = None
    if cursor:
        behind = max(0, round(time.time() - datetime.fromisoformat(cursor).replace(tzinfo=UTC).timestamp()))
    return {
        "enabled": enabled,
        "lastRunStartedAt": None if started is None else datetime.fromtimestamp(int(started) / 1000, UTC).isoformat(),
        "secondsSinceLastRun": seconds,
        "propagationDelaySeconds": behind,
        "lastProcessedPartition": cursor,
        "thresholdSeconds": _THRESHOLD_S,
        "stuck": seconds is not None and seconds > _THRESHOLD_S,
    }
