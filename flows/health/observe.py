"""One round of checks: all at the same time, each with its own deadline, none able to delay or hide another.

targets  ->  checks (one a service)  ->  findings (of one check, kept when it is cut off)  ->  observations
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from flows.health.checks import (
    backups,
    clickhouse,
    langfuse_queues,
    langfuse_web,
    langfuse_worker,
    litellm,
    minio,
    platform,
    postgres,
    prefect,
    public,
    redis,
)
from flows.health.findings import Findings
from flows.health.incidents import BACKUPS
from flows.health.observation import Observation
from flows.health.targets import Targets

__all__ = ["Check", "checks", "observe"]

GRACE = 0.5
"""Seconds that a check may take to give up when its time is over; then it is left behind."""


@dataclass(frozen=True)
class Check:
    """One service, or a part of it, and how to look at it.

    Attributes:
        service, main: as in `Findings`. look: writes what it sees, and returns.
    """

    service: str
    main: str
    look: Callable[[Findings], Awaitable[None]]


async def observe(targets: Targets) -> list[Observation]:
    """Look at everything that is configured.

    Returns: what was seen, each service's main aspect before its others; each pair of service and aspect once.
    """
    return await carry_out(checks(targets), targets.timeout)


async def carry_out(wanted: Iterable[Check], seconds: float) -> list[Observation]:
    """Run checks at the same time.

    Args:
        seconds: that each may take.
    """
    running = {asyncio.create_task(_guarded(check, found, seconds)): found for check, found in map(_begin, wanted)}
    if running:
        _, left = await asyncio.wait(running, timeout=seconds + GRACE)
        for task in left:  # it does not even give up
            running[task].cut(seconds)
            task.cancel()
    seen: dict[tuple[str, str], Observation] = {}
    for found in running.values():
        for one in found.observations:
            seen.setdefault((one.service, one.aspect), one)
    return list(seen.values())


async def _guarded(check: Check, found: Findings, seconds: float) -> None:
    """Run one check until its time is over; what it has seen by then counts."""
    try:
        async with asyncio.timeout(seconds):
            await check.look(found)
    except TimeoutError:
        found.cut(seconds)
    except Exception as error:  # noqa: BLE001 - a bug in one check must not hide what the others see
        found.broken(check.main, error)


def _begin(check: Check) -> tuple[Check, Findings]:
    return check, Findings(check.service, check.main)


def checks(targets: Targets) -> Iterator[Check]:
    """Yield a check for each service that is configured, in the order of railway/stack.py."""
    limits = targets.limits
    if targets.postgres:
        yield Check("postgres", postgres.MAIN, partial(postgres.check, targets.postgres, limits=limits))
    if targets.clickhouse:
        yield Check("clickhouse", clickhouse.MAIN, partial(clickhouse.check, targets.clickhouse, limits=limits))
    if targets.redis:
        yield Check("redis", redis.MAIN, partial(redis.check, targets.redis, limits=limits))
    if targets.store:
        yield Check("minio", minio.MAIN, partial(minio.check, targets.store))
        yield Check(BACKUPS, backups.MAIN, partial(backups.check, targets.store, limits=limits))
    if targets.litellm:
        yield Check("litellm", litellm.MAIN, partial(litellm.check, targets.litellm))
    if targets.langfuse_web:
        yield Check("langfuse-web", langfuse_web.MAIN, partial(langfuse_web.check, targets.langfuse_web))
    if targets.langfuse_worker:
        yield Check(
            "langfuse-worker",
            langfuse_worker.MAIN,
            partial(
                langfuse_worker.check,
                targets.langfuse_worker,
                targets.langfuse_web,
                targets.clickhouse,
                limits=limits,
            ),
        )
        if targets.redis:
            queues = partial(langfuse_queues.check, targets.redis, targets.queue_prefix, limits=limits)
            yield Check("langfuse-worker", langfuse_queues.MAIN, queues)
    if targets.prefect:
        yield Check("prefect-server", prefect.SERVER, partial(prefect.check_server, targets.prefect))
        yield Check("prefect-worker", prefect.WORKER, partial(prefect.check_worker, targets.prefect, limits=limits))
    if targets.railway:
        yield Check(platform.SERVICE, platform.MAIN, partial(platform.check, targets.railway, limits=limits))
    for url in targets.public:
        yield Check(url.service, public.main_aspect(url), partial(public.check, url, limits=limits))
