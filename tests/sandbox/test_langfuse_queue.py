"""The stand-ins' queue, which is BullMQ's in Redis."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from redis.asyncio import Redis as AsyncRedis

from shared.sandbox.applications import Applications
from shared.sandbox.langfuse_double.configuration import Configuration
from shared.sandbox.langfuse_double.queue import Job, Queue
from shared.sandbox.stack import Sandbox


def on_queue(applications: Sandbox, apps: Applications, work: Callable[[Queue, Any], Awaitable[None]], **settings: Any) -> None:
    """Run something on a queue of its own."""

    async def run() -> None:
        stores = replace(apps.langfuse_web.configuration.stores, redis_key_prefix=f"test-{uuid.uuid4().hex}")
        async with AsyncRedis.from_url(applications.redis.url, decode_responses=True) as client:
            await work(Queue(client, "q", Configuration(0, "3.225.4", stores, "", **settings)), client)

    asyncio.run(run())


async def next_job(queue: Queue) -> Job:
    async with asyncio.timeout(5):
        while (job := await queue.take(timeout=0.02)) is None:
            pass
    return job


def test_a_job_that_fails_its_last_attempt_is_kept_among_the_failed(applications: Sandbox, apps: Applications) -> None:
    async def work(queue: Queue, client: Any) -> None:
        number = await queue.add("job", {"n": 1})
        for attempt in (1, 2):
            job = await next_job(queue)
            assert (job.id, job.data, job.attempt) == (number, {"n": 1}, attempt)
            await queue.fail(job, "no luck")
        assert [await client.zcard(queue._base + name) for name in ("failed", "delayed")] == [1, 0]
        assert [await client.llen(queue._base + name) for name in ("wait", "active")] == [0, 0]

    on_queue(applications, apps, work, attempts=2, backoff=0.01)


def test_a_job_whose_worker_has_gone_is_taken_again_when_its_lock_has_expired(
    applications: Sandbox, apps: Applications
) -> None:
    async def work(queue: Queue, client: Any) -> None:
        number = await queue.add("job", {}, delay=0.05)
        assert await queue.take(timeout=0.01) is None, "its delay is not over"
        await next_job(queue)
        assert await queue.recover() == 0, "its lock has not expired"
        async with asyncio.timeout(5):
            while await queue.recover() == 0:
                pass
        again = await next_job(queue)
        assert again.id == number
        await queue.complete(again)
        assert await client.exists(queue._base + number) == 0

    on_queue(applications, apps, work, lock=0.3)
