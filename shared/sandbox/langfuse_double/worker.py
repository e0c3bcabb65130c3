"""The program that stands in for langfuse-worker: `python -m shared.sandbox.langfuse_double.worker CONFIGURATION`."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from shared.sandbox.langfuse_double import propagation, rows
from shared.sandbox.langfuse_double.blobs import Blobs
from shared.sandbox.langfuse_double.configuration import Behaviour, BehaviourFile, Configuration
from shared.sandbox.langfuse_double.queue import Job, Queue
from shared.sandbox.langfuse_double.serving import Lifetime, answers_select_1, serve
from shared.sandbox.langfuse_double.warehouse import Warehouse
from shared.sandbox.langfuse_double.writer import Writer

QUEUES = ("ingestion-queue", "secondary-ingestion-queue", "otel-ingestion-queue", "secondary-otel-ingestion-queue")
"""Those that it takes jobs from."""

_WAIT_S = 0.5
_JOB_S = 20.0
_REDIS_S = 2.0


class Worker:
    """The jobs and the endpoints (facts: apps.md 2.2 to 2.4)."""

    def __init__(self, configuration: Configuration, lifetime: Lifetime) -> None:
        stores = configuration.stores
        self._configuration, self._stores, self._lifetime = configuration, stores, lifetime
        self._redis: Any = Redis.from_url(
            stores.redis_url, decode_responses=True, socket_timeout=_WAIT_S + 5, socket_connect_timeout=2
        )
        self._queues = [Queue(self._redis, name, configuration) for name in QUEUES]
        self._blobs = Blobs(stores)
        self._behaviour = BehaviourFile(Path(configuration.behaviour))
        self._progress = time.monotonic()
        self.warehouse = Warehouse(stores)
        self._writer = Writer(self.warehouse)

    def application(self) -> Starlette:
        """The routes."""
        return Starlette(routes=[Route("/api/health", self.health), Route("/api/ready", self.ready)])

    async def run(self) -> None:
        """Take jobs until the program ends."""
        async with asyncio.TaskGroup() as tasks:
            loops = [tasks.create_task(self._consume(queue)) for queue in self._queues]
            loops += [tasks.create_task(one()) for one in (self._flush, self._migrate, self._propagate)]
            await self._lifetime.ended.wait()
            for task in loops:
                task.cancel()
        await self._writer.flush()
        await self._redis.aclose()

    async def health(self, request: Request) -> Response:
        """Postgres and Redis, always; ClickHouse and S3, never. v4 can be asked whether jobs are consumed and traces copied."""
        if not await self._stores_answer():
            return JSONResponse({"status": "error"}, 500)
        asked = {name for name, value in request.query_params.items() if value == "true" and self._configuration.major >= 4}
        failures: list[str] = []
        details: dict[str, Any] = {}
        if "failIfEventPropagationStuck" in asked:
            details["eventPropagation"] = found = await propagation.health(self._redis, self._configuration)
            failures += ["Event propagation stuck"] if found["stuck"] else []
        if "failIfQueueConsumptionStuck" in asked:
            seconds, threshold = time.monotonic() - self._progress, self._behaviour.read().stuck_after
            stuck = seconds > threshold
            details["queueConsumption"] = {
                "enabled": True,
                "secondsSinceLastActivity": round(seconds),
                "thresholdSeconds": threshold,
                "stuck": stuck,
            }
            failures += ["Queue consumption stuck"] if stuck else []
        return JSONResponse({"status": "; ".join(failures) or "ok", **details}, 503 if failures else 200)

    async def ready(self, request: Request) -> Response:
        """As health, and 500 from SIGTERM on."""
        if self._lifetime.ending:
            return JSONResponse({"status": "Shutting down after SIGTERM"}, 500)
        return await self.health(request)

    async def _stores_answer(self) -> bool:
        try:
            async with asyncio.timeout(_REDIS_S):
                await self._redis.ping()
        except (RedisError, TimeoutError):
            return False
        return await answers_select_1(self._stores.postgres_url)

    async def _consume(self, queue: Queue) -> None:
        """Take the jobs of a queue, one after the other."""
        checked = -self._configuration.lock
        while not self._lifetime.ending:
            behaviour = self._behaviour.read()
            try:
                if behaviour.wedged:
                    await asyncio.sleep(0.1)
                    continue
                if time.monotonic() - checked > self._configuration.lock:
                    checked = time.monotonic()
                    await queue.recover()
                job = await queue.take(timeout=_WAIT_S)
                # The original has jobs that repeat every minute, so a healthy one never goes long without taking one.
                self._progress = time.monotonic()
                if job is not None:
                    await self._work(queue, job)
            except RedisError as error:
                _log(f"{queue.name}: Redis: {type(error).__name__}: {error}")
                await asyncio.sleep(0.5)

    async def _work(self, queue: Queue, job: Job) -> None:
        behaviour: Behaviour = self._behaviour.read()
        if behaviour.wedged or self._lifetime.ending:  # while it waited
            await queue.give_back(job)
            return
        try:
            if behaviour.fail_jobs:
                raise RuntimeError("told to fail")  # noqa: TRY301 - as a job that fails by itself does
            async with asyncio.timeout(_JOB_S):
                await self._carry_out(queue, job)
        except Exception as error:  # noqa: BLE001 - whatever a job raises is its failure, kept with it
            _log(f"{queue.name}: job {job.id} failed: {type(error).__name__}: {error}")
            await queue.fail(job, f"{type(error).__name__}: {error}"[:500])
        else:
            await queue.complete(job)

    async def _carry_out(self, queue: Queue, job: Job) -> None:
        """Read the blob, merge it with what is known of the thing, put the row in the buffer."""
        payload = job.data["payload"]
        project, key = payload["authCheck"]["scope"]["projectId"], payload["data"]["fileKey"]
        if "otel" in queue.name:
            spans = await self._blobs.get(key)
            written = rows.from_spans(project, spans, major=self._configuration.major)
            entity, entity_id = "otel", key.rsplit("/", 1)[-1].removesuffix(".json")
        else:
            entity, entity_id = payload["data"]["entity"], payload["data"]["eventBodyId"]
            blobs = await self._blobs.below(f"{self._stores.s3_prefix}{project}/{entity}/{entity_id}/")
            written = rows.from_events(project, entity, entity_id, [event for blob in blobs for event in blob])
            await self._keep_birthday(written)
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
        written.add(
            "blob_storage_file_log",
            {
                "id": job.data["id"],
                "project_id": project,
                "entity_type": entity,
                "entity_id": entity_id,
                "event_id": key.rsplit("/", 1)[-1].removesuffix(".json"),
                "bucket_name": self._stores.s3_bucket,
                "bucket_path": key,
                "event_ts": now,
                "is_deleted": 0,
            },
        )
        self._writer.add(written)

    async def _keep_birthday(self, written: rows.Rows) -> None:
        """Let a row that is there already keep the time it was created at."""
        for table, added in written.tables.items():
            for row in added:
                found = await self.warehouse.select(
                    f"SELECT min(created_at) AS at FROM {table} WHERE project_id = {{project:String}} AND id = {{id:String}} "
                    "HAVING count() > 0",
                    {"project": row["project_id"], "id": row["id"]},
                )
                if found:
                    row["created_at"] = found[0]["at"]

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(self._configuration.flush)
            await self._writer.flush()

    async def _propagate(self) -> None:
        """Copy to v4's tables what was written where 3 has it."""
        while propagation.is_enabled(self._configuration):
            behaviour = self._behaviour.read()
            try:
                if not behaviour.wedged:
                    await propagation.run(self._redis, self._configuration, stuck=behaviour.cursor_stuck)
            except RedisError as error:
                _log(f"event propagation: Redis: {type(error).__name__}: {error}")
            await asyncio.sleep(self._configuration.propagate)

    async def _migrate(self) -> None:
        """Carry out the background migrations that are due when the worker starts; those behind a gate stay dormant."""
        worker = f"worker-{os.getpid()}"
        while True:
            try:
                async with await psycopg.AsyncConnection.connect(
                    self._stores.postgres_url, connect_timeout=10, autocommit=True
                ) as connection:
                    await connection.execute(
                        "UPDATE background_migrations SET locked_at = now(), worker_id = %s, finished_at = now() "
                        "WHERE finished_at IS NULL AND failed_at IS NULL AND args->>'envGate' IS NULL",
                        [worker],
                    )
            except psycopg.Error as error:  # web has not made the table yet, or Postgres is away
                _log(f"background migrations: {str(error).partition(chr(10))[0]}")
                await asyncio.sleep(1.0)
            else:
                return


def _log(line: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {line}\n")


async def _main(configuration: Configuration) -> None:
    lifetime = Lifetime()
    worker = Worker(configuration, lifetime)
    try:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(worker.run())
            await serve(worker.application(), configuration, lifetime)
    finally:
        await worker.warehouse.close()


if __name__ == "__main__":
    asyncio.run(_main(Configuration.read(Path(sys.argv[1]))))
