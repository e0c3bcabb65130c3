"""Speaking to the Langfuse stand-ins, and to what is behind them: what tests of the applications share."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import Any

import httpx
import redis

from shared.engines.process import wait_until
from shared.sandbox.langfuse_double import LangfuseWeb
from shared.sandbox.stack import Sandbox

HTTP = httpx.Client(trust_env=False, timeout=20.0)  # one for all: a client takes longer to make than a request


def clickhouse(sandbox: Sandbox, statement: str) -> str:
    login = {"X-ClickHouse-User": sandbox.clickhouse.user, "X-ClickHouse-Key": sandbox.clickhouse.password}
    return HTTP.post(sandbox.clickhouse.url, content=statement, headers=login).raise_for_status().text.strip()


def call(web: LangfuseWeb, path: str, content: Any = None, **more: Any) -> httpx.Response:
    stores = web.configuration.stores
    method = "GET" if content is None else "POST"
    more.setdefault("auth", (stores.public_key, stores.secret_key))
    return HTTP.request(method, f"{web.url}/api/public/{path}", json=content, **more)


def trace_event(trace: str, **body: Any) -> dict[str, Any]:
    now = datetime.now(UTC).isoformat()
    return {"id": str(uuid.uuid4()), "type": "trace-create", "timestamp": now, "body": {"id": trace, "name": "smoke", **body}}


def send(web: LangfuseWeb, trace: str) -> httpx.Response:
    return call(web, "ingestion", {"batch": [trace_event(trace)]})


def spans(trace: str, span: str = "00f067aa0ba902b7", **attributes: str) -> dict[str, Any]:
    said = [{"key": name.replace("__", "."), "value": {"stringValue": value}} for name, value in attributes.items()]
    at = str(time.time_ns())
    one = {"traceId": trace, "spanId": span, "name": "root", "startTimeUnixNano": at, "endTimeUnixNano": at, "attributes": said}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [one]}]}]}


def is_there(web: LangfuseWeb, trace: str) -> bool:
    return call(web, f"traces/{trace}").status_code == 200


def wait_for(web: LangfuseWeb, trace: str) -> Any:
    wait_until(lambda: is_there(web, trace), timeout=30, what=f"trace {trace}")
    return call(web, f"traces/{trace}").json()


def observations(web: LangfuseWeb, trace: str) -> Any:
    answer = call(web, f"traces/{trace}")
    return answer.json()["observations"] if answer.status_code == 200 else []


def job_about(queue: redis.Redis, trace: str) -> tuple[str, dict[str, str]]:
    """The job of a trace, id and fields, among those that LiteLLM's callback may have put at the same time."""
    for name in queue.scan_iter("bull:ingestion-queue:[0-9]*", _type="hash"):
        fields: Any = queue.hgetall(name)
        if trace in fields.get("data", ""):
            return name.rsplit(":", 1)[-1], fields
    raise LookupError(f"no job about {trace}")
