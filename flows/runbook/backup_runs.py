"""What Prefect knows of the backups: the schedule, the workers, the runs; and resuming what was paused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import httpx
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, FlowRunFilterStartTime
from prefect.client.schemas.objects import FlowRun, StateType, WorkerStatus
from prefect.client.schemas.sorting import FlowRunSort
from prefect.exceptions import ObjectNotFound, PrefectException

from blocks.errors import ServiceError

__all__ = ["NIGHTLY", "LastRun", "Schedule", "look", "resume", "run_state"]

NIGHTLY = "backup/nightly"
SECONDS = 60.0
"""Prefect's API may take so long, repeated requests included."""
ENDED = frozenset({StateType.COMPLETED, StateType.FAILED, StateType.CRASHED, StateType.CANCELLED})

T = TypeVar("T")


@dataclass(frozen=True)
class LastRun:
    """A run of the flow `backup`.

    Attributes:
        state: its state's type, in Prefect's words. name: of the state, as people see it.
        message: the error's, where it failed.
    """

    id: str
    state: str
    name: str
    at: datetime | None = None
    message: str = ""

    @property
    def over(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.state in {one.value for one in ENDED}


@dataclass(frozen=True)
class Schedule:
    """How the nightly backup stands with Prefect.

    Attributes:
        registered: there is such a deployment. paused: why its schedule starts nothing, empty where it does.
        workers: of the pool that live. pool_paused: it hands out no runs. last: the newest run that has begun.
    """

    registered: bool = False
    paused: str = ""
    workers: int = 0
    pool_paused: bool = False
    last: LastRun | None = None


def look(pool: str) -> Schedule:
    """Ask Prefect how the nightly backup stands.

    Args:
        pool: name of the work pool.
    Raises:
        ServiceError: Prefect's API does not answer.
    """
    return _ask(lambda client: _look(client, pool))


def resume(pool: str) -> str:
    """Let the schedule start runs again, and the pool hand them out.

    Returns: what was resumed, in words.
    Raises:
        ServiceError: Prefect's API does not answer.
    """
    return _ask(lambda client: _resume(client, pool))


def run_state(run_id: str) -> str:
    """Read the type of a run's state; empty where Prefect knows no such run.

    Raises:
        ServiceError: Prefect's API does not answer.
    """

    async def read(client: PrefectClient) -> str:
        try:
            run = await client.read_flow_run(UUID(run_id))
        except (ObjectNotFound, ValueError):
            return ""
        return run.state_type.value if run.state_type else ""

    return _ask(read)


async def _look(client: PrefectClient, pool: str) -> Schedule:
    workers = await _workers(client, pool)
    last = await _last(client)
    pool_paused = await _is_paused(client, pool)
    try:
        deployment = await client.read_deployment_by_name(NIGHTLY)
    except ObjectNotFound:
        return Schedule(workers=workers, pool_paused=pool_paused, last=last)
    paused = "the deployment is paused" if deployment.paused else ""
    if not any(one.active for one in deployment.schedules):
        paused = paused or ("its schedule is not active" if deployment.schedules else "it has no schedule any more")
    return Schedule(True, paused, workers, pool_paused, last)


async def _resume(client: PrefectClient, pool: str) -> str:
    done = []
    deployment = await client.read_deployment_by_name(NIGHTLY)
    for schedule in deployment.schedules:
        if not schedule.active:
            await client.update_deployment_schedule(deployment.id, schedule.id, active=True)
            done.append(f"schedule {schedule.slug or schedule.id}")
    if deployment.paused:
        await client.resume_deployment(deployment.id)
        done.append(f"deployment {NIGHTLY}")
    if await _is_paused(client, pool):
        await client.update_work_pool(pool, WorkPoolUpdate(is_paused=False))
        done.append(f"work pool {pool}")
    return f"resumed: {', '.join(done)}" if done else "nothing was paused any more"


async def _workers(client: PrefectClient, pool: str) -> int:
    try:
        found = await client.read_workers_for_work_pool(pool)
    except ObjectNotFound:
        return 0
    return sum(one.status is WorkerStatus.ONLINE for one in found)


async def _is_paused(client: PrefectClient, pool: str) -> bool:
    try:
        return bool((await client.read_work_pool(pool)).is_paused)
    except ObjectNotFound:
        return False


async def _last(client: PrefectClient) -> LastRun | None:
    named = FlowFilter(name=FlowFilterName(any_=["backup"]))
    begun = FlowRunFilter(start_time=FlowRunFilterStartTime(is_null_=False))  # a schedule makes its runs days before
    found = await client.read_flow_runs(flow_filter=named, flow_run_filter=begun, sort=FlowRunSort.START_TIME_DESC, limit=1)
    return _as_last(found[0]) if found else None


def _as_last(run: FlowRun) -> LastRun:
    state = run.state
    return LastRun(
        id=str(run.id),
        state=state.type.value if state else "",
        name=(state.name or state.type.value) if state else "unknown",
        at=run.start_time,
        message=" ".join((state.message or "").split())[:400] if state else "",
    )


def _ask(work: Callable[[PrefectClient], Awaitable[T]]) -> T:
    """Do something with a client, with a deadline, and with our errors in place of Prefect's."""

    async def ask() -> T:
        async with asyncio.timeout(SECONDS), get_client() as client:
            return await work(client)

    try:
        return asyncio.run(ask())
    except (TimeoutError, httpx.HTTPError, PrefectException) as error:
        raise ServiceError(
            f"prefect: its API failed when asked about {NIGHTLY} ({type(error).__name__}); see the Prefect server"
        ) from None
