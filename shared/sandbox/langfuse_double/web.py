"""The program that stands in for langfuse-web: `python -m shared.sandbox.langfuse_double.web CONFIGURATION`."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
from botocore.exceptions import BotoCoreError, ClientError
from redis.asyncio import Redis
from redis.exceptions import RedisError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from shared.sandbox.langfuse_double import otlp, rows
from shared.sandbox.langfuse_double.accounts import Accounts
from shared.sandbox.langfuse_double.blobs import Blobs
from shared.sandbox.langfuse_double.configuration import Behaviour, Configuration
from shared.sandbox.langfuse_double.migrations import MigrationFailed, migrate_clickhouse, migrate_postgres
from shared.sandbox.langfuse_double.queue import Queue
from shared.sandbox.langfuse_double.reading import Reading
from shared.sandbox.langfuse_double.replay import Replay
from shared.sandbox.langfuse_double.serving import Lifetime, answers_select_1, serve
from shared.sandbox.langfuse_double.warehouse import Warehouse, WarehouseError

_BODY = 4_500_000
_TRACING = ("trace", "observation")
_PROTOBUF = "application/x-protobuf"


class Web:
    """The endpoints (facts: apps.md 2.2, 2.4, 2.6)."""

    def __init__(self, configuration: Configuration, lifetime: Lifetime) -> None:
        stores = configuration.stores
        self._configuration, self._stores, self._lifetime = configuration, stores, lifetime
        redis = Redis.from_url(stores.redis_url, decode_responses=True, socket_timeout=5, socket_connect_timeout=2)
        self._accounts = Accounts(stores.postgres_url, redis, stores.salt)
        self._blobs = Blobs(stores)
        self._ingestion = Queue(redis, "ingestion-queue", configuration)
        self._otel = Queue(redis, "otel-ingestion-queue", configuration)
        self._replay = Replay(Queue(redis, "secondary-ingestion-queue", configuration), self._otel, stores)
        self.warehouse = Warehouse(stores)
        self._reading = Reading(self.warehouse, major=configuration.major)
        self._events_only = configuration.major >= 4 and configuration.write_mode == "events_only"

    def application(self) -> Starlette:
        """The routes."""
        broken = dict.fromkeys((httpx.TransportError, WarehouseError, psycopg.Error), _broken)
        return Starlette(
            exception_handlers=broken,
            routes=[
                Route("/", lambda _: RedirectResponse("/auth/sign-in", 307)),
                Route("/auth/sign-in", lambda _: HTMLResponse("<!DOCTYPE html><title>Sign in | Langfuse</title>")),
                Route("/api/public/health", self.health),
                Route("/api/public/ready", self.ready),
                Route("/api/public/projects", self.projects),
                Route("/api/public/ingestion", self.ingest, methods=["POST"]),
                Route("/api/public/otel/v1/traces", self.ingest_spans, methods=["POST"]),
                Route("/api/public/traces/{trace_id}", self.trace),
                Route("/api/public/v2/observations", self.observations),
                Route("/api/admin/ingestion-replay", self._replay.answer, methods=["POST"]),
            ],
        )

    async def health(self, request: Request) -> Response:
        """200 without a look at any database, unless asked for one."""
        said = {"status": "OK", "version": self._version(request)}
        if _asks(request, "failIfDatabaseUnavailable") and not await answers_select_1(self._stores.postgres_url):
            return JSONResponse({**said, "status": "Database not available"}, 503)
        if _asks(request, "failIfNoRecentEvents"):
            try:
                if not await self._reading.has_recent_events():
                    return JSONResponse({**said, "status": "No traces and observations within the last 3 minutes"}, 503)
            except (httpx.TransportError, WarehouseError):
                return JSONResponse({**said, "status": "ClickHouse not available"}, 503)
        return JSONResponse(said)

    async def ready(self, request: Request) -> Response:
        """200, and 500 from SIGTERM on."""
        said = {"status": "OK", "version": self._version(request)}
        if self._lifetime.ending:
            return JSONResponse({**said, "status": "Shutting down after SIGTERM"}, 500)
        return JSONResponse(said)

    async def projects(self, request: Request) -> Response:
        """The project of the key; SDKs ask for it to see whether the key is right."""
        if (project := await self._project(request)) is None:
            return _unauthorized()
        return JSONResponse({"data": [{"id": project, "name": "Sandbox", "metadata": {}, "retentionDays": None}]})

    async def ingest(self, request: Request) -> Response:
        """207 with a verdict on every event. In v4's events_only those of traces are refused one by one, and it stays 207."""
        if (project := await self._project(request)) is None:
            return _unauthorized()
        content = await request.body()
        if len(content) > _BODY:
            return JSONResponse({"message": "Body exceeded 4.5mb limit"}, 413)
        try:
            batch = (await request.json())["batch"]
            events = list(batch) if isinstance(batch, list) else None
        except (ValueError, KeyError, TypeError):
            events = None
        if events is None:
            return JSONResponse({"message": "Invalid request data", "errors": ["batch: expected an array"]}, 400)
        if self._behaviour(request).refuse_ingestion:
            return JSONResponse({"message": "Failed to upload events to blob storage, aborting event processing"}, 500)
        taken, refused = self._sort(events)
        by_entity: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for event in taken:
            by_entity.setdefault(rows.entity_of(event), []).append(event)
        try:
            for (entity, entity_id), about in by_entity.items():
                if entity != "log":
                    await self._store_events(request, project, entity, entity_id, about)
        except (BotoCoreError, ClientError, RedisError) as error:
            return _failed(error)
        successes = [{"id": event["id"], "status": 201} for event in taken]
        return JSONResponse({"successes": successes, "errors": refused}, 207)

    async def ingest_spans(self, request: Request) -> Response:
        """OTLP, as JSON or protobuf: 200 `{}`, or 400 for the whole batch."""
        if (project := await self._project(request)) is None:
            return _unauthorized()
        if _content_type(request) not in ("application/json", _PROTOBUF):
            return JSONResponse({"error": "Invalid content type; expected application/json or application/x-protobuf"}, 400)
        if request.headers.get("x-langfuse-ingestion-version", "4") not in ("1", "2", "3", "4"):
            return JSONResponse({"error": "Unsupported x-langfuse-ingestion-version"}, 400)
        try:
            spans = rows.spans_of((await _otlp(request)).get("resourceSpans", []))
        except (ValueError, AttributeError, OSError, EOFError) as error:
            return JSONResponse({"error": f"Failed to parse OTel Trace: {error}"}, 400)
        if self._behaviour(request).refuse_ingestion:
            return JSONResponse({"message": "Failed to upload events to blob storage, aborting event processing"}, 500)
        try:
            if spans:
                await self._store_spans(request, project, spans)
        except (BotoCoreError, ClientError, RedisError) as error:
            return _failed(error)
        return JSONResponse({})

    async def trace(self, request: Request) -> Response:
        """A trace with its observations; v4 has none."""
        if (project := await self._project(request)) is None:
            return _unauthorized()
        trace_id = request.path_params["trace_id"]
        found = await self._reading.trace(project, trace_id) if self._configuration.major == 3 else None
        if found is None:
            message = f"Trace {trace_id} not found within authorized project"
            return JSONResponse({"message": message, "error": "LangfuseNotFoundError"}, 404)
        return JSONResponse(found)

    async def observations(self, request: Request) -> Response:
        """Those of a trace; only in v4, where it is switched on."""
        if (project := await self._project(request)) is None:
            return _unauthorized()
        if self._configuration.major < 4 or not self._configuration.preview:
            return JSONResponse({"message": "Not found", "error": "LangfuseNotFoundError"}, 404)
        query = request.query_params
        found = await self._reading.observations(project, query.get("traceId", ""), query.get("fromStartTime"))
        return JSONResponse({"data": found, "meta": {"cursor": None}})

    def _sort(self, events: list[Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Events that are taken, and what is said about the others."""
        taken, refused, old = [], [], 0
        for event in events:
            number = event.get("id", "unknown") if isinstance(event, dict) else "unknown"
            if (problem := rows.problem_with_event(event)) is not None:
                refused.append({"id": number, "status": 400, "message": "Invalid request data", "error": problem})
            elif self._events_only and rows.ENTITIES[event["type"]] in _TRACING:
                message = "This endpoint takes no traces in events_only mode; send them as OpenTelemetry"
                refused.append({"id": number, "status": 400, "message": message, "error": "InvalidRequestError"})
                old += 1
            else:
                taken.append(event)
        if old:
            _log(f"Rejected {old} event(s) from the legacy /api/public/ingestion")
        return taken, refused

    async def _store_events(
        self, request: Request, project: str, entity: str, entity_id: str, events: list[dict[str, Any]]
    ) -> None:
        """First the bucket, then the queue."""
        prefix = f"{self._stores.s3_prefix}{project}/{entity}/{entity_id}/"
        key = f"{prefix}{uuid4()}.json"
        await self._blobs.put(key, events)
        if not self._behaviour(request).lose_jobs:
            payload = {"type": events[0]["type"], "entity": entity, "eventBodyId": entity_id, "fileKey": key}
            await self._ingestion.add("ingestion-job", _job(project, payload), delay=self._configuration.ingestion_delay)

    async def _store_spans(self, request: Request, project: str, spans: list[dict[str, Any]]) -> None:
        key = f"{self._stores.s3_prefix}otel/{project}/{datetime.now(UTC):%Y/%m/%d/%H/%M}/{uuid4()}.json"
        await self._blobs.put(key, spans)
        if not self._behaviour(request).lose_jobs:
            await self._otel.add("otel-ingestion-job", _job(project, {"fileKey": key}))

    async def _project(self, request: Request) -> str | None:
        return await self._accounts.project(request.headers.get("authorization", ""))

    def _behaviour(self, request: Request) -> Behaviour:
        behaviour = request.scope["behaviour"]
        assert isinstance(behaviour, Behaviour)  # noqa: S101 - for the type
        return behaviour

    def _version(self, request: Request) -> str:
        return self._behaviour(request).says_version or self._configuration.version


def _job(project: str, data: dict[str, Any]) -> dict[str, Any]:
    scope = {"validKey": True, "scope": {"projectId": project}}
    return {"id": str(uuid4()), "timestamp": datetime.now(UTC).isoformat(), "payload": {"data": data, "authCheck": scope}}


def _asks(request: Request, name: str) -> bool:
    return request.query_params.get(name) == "true"


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip()


async def _otlp(request: Request) -> Any:
    """The body as OTLP/JSON has it.

    Raises:
        ValueError: it is none. OSError, EOFError: it is said to be compressed, and is not.
    """
    content = await request.body()
    if request.headers.get("content-encoding") == "gzip":
        content = gzip.decompress(content)
    return otlp.to_json(content) if _content_type(request) == _PROTOBUF else json.loads(content)


def _unauthorized() -> Response:
    message = "Invalid credentials. Confirm that you've configured the correct host."
    return JSONResponse({"error": "UnauthorizedError", "message": message}, 401)


def _broken(request: Request, error: Exception) -> Response:
    """A store that did not answer, in whatever endpoint."""
    _log(f"{request.url.path}: {type(error).__name__}: {error}")
    return JSONResponse({"message": "Internal Server Error"}, 500)


def _failed(error: Exception) -> Response:
    _log(f"ingestion failed: {type(error).__name__}: {error}")
    return JSONResponse({"message": "Internal Server Error"}, 500)


def _log(line: str) -> None:
    sys.stderr.write(f"{datetime.now(UTC):%H:%M:%S} {line}\n")


async def _main(configuration: Configuration) -> None:
    lifetime = Lifetime()
    web = Web(configuration, lifetime)
    try:
        major, stores = configuration.major, configuration.stores
        await asyncio.to_thread(migrate_postgres, stores, major=major)
        await migrate_clickhouse(web.warehouse, stores.clickhouse_database, version=configuration.version)
        await serve(web.application(), configuration, lifetime)
    finally:
        await web.warehouse.close()


if __name__ == "__main__":
    try:
        asyncio.run(_main(Configuration.read(Path(sys.argv[1]))))
    except (MigrationFailed, psycopg.OperationalError) as failure:
        sys.exit(f"error: {failure}")
