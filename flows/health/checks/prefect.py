"""Prefect, through its API: does the server answer and reach its database, does a worker of the pool live, are runs late, and
could the worker's container register this version's deployments.

The sweep itself runs on such a worker, so that a dead one is seen by the others, or by the server (see the automations).
"""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from blocks.errors import SettingsError
from blocks.litellm import bearer
from blocks.undone import undone_name
from flows.health.findings import Findings
from flows.health.observation import Status
from flows.health.reach import Answer, Web, web
from flows.health.targets import Limits, Prefect

__all__ = ["SERVER", "STARTED", "WORKER", "check_server", "check_worker"]

SERVER = "api"
WORKER = "heartbeat"
STARTED = "registration"


async def check_server(target: Prefect, found: Findings) -> None:
    """Look at the server."""
    with found.looking(SERVER, Status.DOWN):
        async with web(target.url, _headers(target)) as api:
            answer = await api.get("health")
            if answer.status != 200:
                _allowed(answer)
                sentence = f"Prefect's API answers {answer.status}, expected 200; read its log, restart it"
                found.add(SERVER, Status.DOWN, sentence, latency_ms=answer.latency_ms)
                return
            found.add(SERVER, Status.OK, "Prefect's API answers", latency_ms=answer.latency_ms)
            with found.looking("database", Status.DOWN):
                answer = await api.get("ready")
                if answer.status == 200:
                    found.add("database", Status.OK, "Prefect reaches its database")
                elif answer.status != 404:  # Prefect Cloud has no such endpoint
                    todo = "is its volume full, is its Postgres up? No flow starts until then"
                    found.add("database", Status.DOWN, f"Prefect does not reach its database (HTTP {answer.status}); {todo}")


async def check_worker(target: Prefect, found: Findings, limits: Limits) -> None:
    """Look at the pool, its workers and what should have run; unknown where the server does not answer."""
    found.title = "Prefect's API"
    with found.looking(WORKER, Status.UNKNOWN, remedy="see the Prefect server"):
        async with web(target.url, _headers(target)) as api:
            await _heartbeat(api, target.pool, found)
            with found.looking(STARTED, Status.UNKNOWN, remedy="see the Prefect server"):
                await _started(api, target.pool, found)
            with found.looking("late-runs", Status.UNKNOWN, remedy="see the Prefect server"):
                await _late(api, target.pool, found, limits)


async def _heartbeat(api: Web, pool: str, found: Findings) -> None:
    answer = await _post(api, f"work_pools/{pool}/workers/filter", {"limit": 200})
    if answer.status == 404:
        todo = f"start a worker: prefect worker start --pool {pool} --type process"
        found.add(WORKER, Status.DOWN, f"there is no work pool {pool}, so no flow runs; {todo}")
        return
    workers: list[dict[str, Any]] = json.loads(answer.body)
    online = [worker for worker in workers if worker.get("status") == "ONLINE"]
    if not online:
        seen = max((str(worker.get("last_heartbeat_time", "")) for worker in workers), default="")
        when = f", the last was seen at {seen[:16].replace('T', ' ')} UTC" if seen else ""
        todo = "restart the worker's service; no flow runs until then"
        found.add(WORKER, Status.DOWN, f"no worker of the pool {pool} is alive{when}; {todo}", value=0, limit=1, unit="workers")
        return
    found.add(WORKER, Status.OK, f"{len(online)} workers of the pool {pool} are alive", value=len(online), unit="workers")
    pool_answer = await api.get(f"work_pools/{pool}")
    _expected(pool_answer)
    if pool_answer.json().get("is_paused"):
        sentence = f"the work pool {pool} is paused, so no flow run starts; prefect work-pool resume {pool}"
        found.add("pool", Status.DEGRADED, sentence)
    else:
        found.add("pool", Status.OK, f"the work pool {pool} takes flow runs")


async def _started(api: Web, pool: str, found: Findings) -> None:
    """What the newest container of a worker could not do at its start; nothing is seen where no container writes that down."""
    answer = await api.get(f"variables/name/{undone_name(pool)}")
    if answer.status == 404:
        return
    _expected(answer)
    undone = answer.json().get("value")
    if not isinstance(undone, dict) or not undone:
        found.add(STARTED, Status.OK, "the worker's start left nothing undone")
        return
    name, why = next(iter(undone.items()))
    more = f" (and {len(undone) - 1} more)" if len(undone) > 1 else ""
    todo = "what an earlier version registered runs on; it is tried again every five minutes, the worker's log has the rest"
    found.add(STARTED, Status.DEGRADED, f"the worker's start left undone: {name}{more}: {why}; {todo}")


async def _late(api: Web, pool: str, found: Findings, limits: Limits) -> None:
    now = datetime.now(UTC)
    late = {
        "state": {"name": {"any_": ["Late"]}},
        "expected_start_time": {"before_": (now - timedelta(seconds=limits.late_seconds)).isoformat()},
    }
    query: dict[str, Any] = {"flow_runs": late, "work_pools": {"name": {"any_": [pool]}}}
    count = int(json.loads((await _post(api, "flow_runs/count", query)).body))
    oldest = ""
    if count:
        runs = json.loads((await _post(api, "flow_runs/filter", {**query, "limit": 1, "sort": "EXPECTED_START_TIME_ASC"})).body)
        since = _age(runs[0]["expected_start_time"], now) if runs else 0
        oldest = f"the oldest since {since:.0f} min; " if runs else ""
    text = f"{count} flow runs should have started more than {limits.late_seconds / 60:g} min ago, expected none"
    todo = f"{oldest}is the worker alive, is its limit reached by runs that hang?"
    found.measure("late-runs", count, 0, "runs", text, todo)


async def _post(api: Web, path: str, body: dict[str, Any]) -> Answer:
    answer = await api.post(path, json.dumps(body), headers={"Content-Type": "application/json"})
    if answer.status != 404:
        _expected(answer)
    return answer


def _expected(answer: Answer) -> None:
    _allowed(answer)
    if answer.status != 200:
        raise SettingsError(f"prefect: its API answers {answer.status} to what it should know; do its version and ours fit?")


def _allowed(answer: Answer) -> None:
    if answer.status in (401, 403):
        raise SettingsError("prefect: its API refuses us, so nobody looked; correct PREFECT_API_AUTH_STRING or PREFECT_API_KEY")


def _headers(target: Prefect) -> dict[str, str]:
    if target.auth is not None:
        return {"Authorization": "Basic " + base64.b64encode(target.auth.get_secret_value().encode()).decode()}
    return bearer(target.key)


def _age(moment: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(moment)).total_seconds() / 60
