"""Langfuse's queues on a real Redis, with somebody who works on the jobs: the sandbox's queue code, without its stores."""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import SecretStr
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from blocks.redis import RedisServer
from flows.health.targets import Limits, Targets
from shared.engines.redis import RedisEngine
from shared.sandbox.langfuse_double.configuration import Configuration, Stores
from shared.sandbox.langfuse_double.queue import Job, Queue

__all__ = ["INGESTION", "Queues"]

INGESTION = "ingestion-queue"
_ATTEMPTS = 6


class _Well(BaseHTTPRequestHandler):
    """What the worker's health endpoints answer."""

    def do_GET(self) -> None:
        body = b'{"status":"ok"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


class Queues:
    """Queues of a prefix of their own, and a worker of them that runs while `with` does.

    Args:
        names: queues that it takes jobs from.

    Attributes:
        fails: says why a job fails, by its data; empty: it is done. idle: no job is taken. seen: data of those that were taken.
    """

    def __init__(self, engine: RedisEngine, names: Sequence[str] = (INGESTION, "webhook-queue")) -> None:
        self.prefix = f"t{secrets.token_hex(4)}"
        self._idle, self._rests = False, threading.Event()
        self.fails: Callable[[dict[str, Any]], str] = lambda _: ""
        self.seen: list[dict[str, Any]] = []
        self.client: Any = Redis.from_url(engine.url, decode_responses=True)
        self._url, self._names, self._ended = engine.url, names, threading.Event()
        nothing = [one.name for one in fields(Stores) if one.default is MISSING]
        stores = Stores(**dict.fromkeys(nothing, ""), redis_key_prefix=self.prefix)
        self._configuration = Configuration(0, "3.225.4", stores, "", attempts=_ATTEMPTS, backoff=0.01)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _Well)
        self._threads = [threading.Thread(target=self._http.serve_forever), threading.Thread(target=self._work)]

    def __enter__(self) -> Queues:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._http.shutdown()
        for thread in self._threads:
            thread.join()
        self._http.server_close()
        for key in self.client.scan_iter(f"{self.prefix}:*"):
            self.client.delete(key)
        self.client.close()

    @property
    def idle(self) -> bool:
        return self._idle

    @idle.setter
    def idle(self, value: bool) -> None:
        """Returns when the worker has seen it, and so has no job in hand."""
        self._rests.clear()
        self._idle = value
        if value:
            assert self._rests.wait(60)

    @property
    def server(self) -> RedisServer:
        return RedisServer(url=SecretStr(self._url))

    def targets(self, **limits: float) -> Targets:
        """What the watch looks at: Redis, the queues, the worker's health."""
        worker = f"http://127.0.0.1:{self._http.server_address[1]}"
        found = Limits(**limits)  # type: ignore[arg-type]  # what tests give are floats
        return Targets(20, found, redis=SecretStr(self._url), queue_prefix=self.prefix, langfuse_worker=worker)

    def give_up(self, *jobs: str, why: str, queue: str = INGESTION, attempts: int = _ATTEMPTS) -> None:
        """Put jobs among the failed, as BullMQ does after the last attempt."""
        now = round(1000 * time.time())
        for name in jobs:
            number = str(self.client.incr(self.key("id", queue)))
            job = {"name": "job", "data": json.dumps({"name": name}), "opts": json.dumps({"attempts": attempts})}
            ended = {"timestamp": now - 9000, "delay": 0, "atm": attempts, "ats": attempts, "failedReason": why}
            self.client.hset(self.key(number, queue), mapping={**job, **ended, "finishedOn": now})
            self.client.zadd(self.key("failed", queue), {number: now})

    def wait(self, count: int, *, seconds: float = 0.0, queue: str = INGESTION, where: str = "wait") -> None:
        """Let jobs wait, since so many seconds."""
        for number in range(count):
            job = str(self.client.incr(self.key("id", queue)))
            made = round(1000 * (time.time() - seconds))
            job_fields = {"name": "job", "data": json.dumps({"name": f"waiting-{number}"}), "timestamp": made, "delay": 0}
            self.client.hset(self.key(job, queue), mapping=job_fields)
            self.client.lpush(self.key(where, queue), job)

    def key(self, part: str, queue: str = INGESTION) -> str:
        return f"{self.prefix}:{queue}:{part}"

    def count(self, state: str, queue: str = INGESTION) -> int:
        read = self.client.llen if state in ("wait", "paused", "active") else self.client.zcard
        return int(read(self.key(state, queue)))

    def done(self) -> list[str]:
        return [str(data["name"]) for data in self.seen if not self.fails(data)]

    def _work(self) -> None:
        asyncio.run(self._consume())

    async def _consume(self) -> None:
        async with AsyncRedis.from_url(self._url, decode_responses=True) as client:
            queues = [Queue(client, name, self._configuration) for name in self._names]
            while not self._ended.is_set():
                if self._idle:
                    self._rests.set()
                for queue in queues:
                    job = None if self._idle else await queue.take(timeout=0.02)
                    if job is not None:
                        await self._judge(queue, job)
                await asyncio.sleep(0.005)

    async def _judge(self, queue: Queue, job: Job) -> None:
        self.seen.append(job.data)
        if why := self.fails(job.data):
            await queue.fail(job, why)
        else:
            await queue.complete(job)
