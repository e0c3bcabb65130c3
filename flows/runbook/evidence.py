"""What Prefect's server and Railway know about a time: runs, their logs, events, deployments. Read only, and bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import PrefectException

from blocks.errors import ServiceError, StackError
from blocks.railway import RailwayApi, RailwayEnvironment
from blocks.railway_api.models import Deployment

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

__all__ = [
    "Deployed",
    "Event",
    "Evidence",
    "Run",
    "deployed",
    "events",
    "logs",
    "newest_runs",
    "runs_between",
    "server_version",
]

T = TypeVar("T")

_PAGE = 200
_MOST_PAGES = 25
"""Pages of runs or events that are read at most: a sweep a minute fills seven a day."""
SWEEP = "health"


@dataclass(frozen=True)
class Run:
    """A flow run.

    Attributes:
        flow: its flow's name. message: of its state. begun, ended: None where it has not. parameters: as it was started with.
    """

    id: str
    name: str
    flow: str
    state: str
    message: str
    begun: datetime | None
    ended: datetime | None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """It ended as it should, or is under way."""
        return self.state not in ("Failed", "Crashed", "TimedOut")


@dataclass(frozen=True)
class Event:
    """A Prefect event of this project."""

    at: datetime
    name: str
    resource: str
    payload: Mapping[str, Any]


@dataclass(frozen=True)
class Deployed:
    """A deployment of a service on Railway."""

    service: str
    deployment: Deployment


@dataclass
class Evidence:
    """Collects, and names what could not be had: each part fails alone.

    Attributes:
        gaps: a sentence for each part that is missing.
    """

    gaps: list[str] = field(default_factory=list)

    def of(self, what: str, work: Callable[[], T], otherwise: T) -> T:
        """Do a part of the work; where it fails, note that and return the other thing."""
        try:
            return work()
        except StackError as error:
            self.gaps.append(f"{what}: {error}")
        except (httpx.HTTPError, PrefectException, OSError) as error:
            self.gaps.append(f"{what}: not to be had ({type(error).__name__})")
        return otherwise

    def all_of(self, what: str, work: Callable[[], list[T]]) -> list[T]:
        """As `of`, for lists: where it fails there is nothing in it."""
        nothing: list[T] = []
        return self.of(what, work, nothing)


def newest_runs(most: int) -> list[Run]:
    """The newest flow runs that have begun, sweeps that went well left out, newest first."""
    with _client() as client:
        found: list[Run] = []
        for page in _pages(client, {"flow_runs": {"start_time": {"is_null_": False}}, "sort": "START_TIME_DESC"}):
            found += page
            if len(found) >= most:
                break
        return found[:most]


def runs_between(begin: datetime, end: datetime) -> list[Run]:
    """The flow runs that began between two moments, sweeps that went well left out, oldest first."""
    when = {"after_": begin.isoformat(), "before_": end.isoformat()}
    with _client() as client:
        query = {"flow_runs": {"start_time": when}, "sort": "START_TIME_ASC"}
        return [run for page in _pages(client, query) for run in page]


def logs(run_id: str, most: int) -> list[str]:
    """The last lines of a run's log, oldest first, at most 200."""
    query = {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_DESC", "limit": min(most, _PAGE)}
    with _client() as client:
        found = client._client.post("/logs/filter", json=query).raise_for_status().json()
    return [f"{one['timestamp']} {one['level']} {one['message']}" for one in reversed(found)]


def events(stack: str, begin: datetime, end: datetime) -> list[Event]:
    """The events of a stack between two moments, oldest first, at most 500; Prefect keeps them for days, not for ever."""
    wanted = {
        "resource": {"id_prefix": [f"stack.{stack}."]},
        "occurred": {"since": begin.isoformat(), "until": end.isoformat()},
        "order": "ASC",
    }
    found: list[Event] = []
    with _client() as client:
        answer = client._client.post("/events/filter", json={"filter": wanted, "limit": 50}).raise_for_status().json()
        while True:
            found += [_event(one) for one in answer["events"]]
            if len(found) >= 500 or not answer.get("next_page"):
                return found
            answer = client._client.get(answer["next_page"]).raise_for_status().json()


def server_version() -> str:
    """The version of the Prefect server."""
    with _client() as client:
        return str(client._client.get("/admin/version").raise_for_status().json())


def deployed(environment: RailwayEnvironment, begin: datetime, end: datetime) -> list[Deployed]:
    """The deployments that were made on Railway between two moments, oldest first; of each service the last twenty."""
    with environment.open() as api:
        return _deployed(api, begin, end)


def _deployed(api: RailwayApi, begin: datetime, end: datetime) -> list[Deployed]:
    found = [
        Deployed(one.name, deployment)
        for one in api.inventory().services.values()
        for deployment in api.deployments(one.service_id, 20)
        if begin <= deployment.created_at <= end
    ]
    return sorted(found, key=lambda one: one.deployment.created_at)


def _pages(client: SyncPrefectClient, query: Mapping[str, Any]) -> Iterator[list[Run]]:
    """Pages of runs, with the names of their flows."""
    names: dict[str, str] = {}
    for number in range(_MOST_PAGES):
        body = {**query, "limit": _PAGE, "offset": number * _PAGE}
        page = client._client.post("/flow_runs/filter", json=body).raise_for_status().json()
        unknown = sorted({one["flow_id"] for one in page} - names.keys())
        if unknown:
            flows = {"flows": {"id": {"any_": unknown}}, "limit": _PAGE}
            for one in client._client.post("/flows/filter", json=flows).raise_for_status().json():
                names[one["id"]] = one["name"]
        runs = [_run(one, names) for one in page]
        yield [run for run in runs if not (run.flow == SWEEP and run.state == "Completed")]
        if len(page) < _PAGE:
            return


def _run(one: Mapping[str, Any], names: Mapping[str, str]) -> Run:
    state = one.get("state") or {}
    return Run(
        id=one["id"],
        name=one["name"],
        flow=names.get(one["flow_id"], "a flow that is gone"),
        state=one.get("state_name") or "",
        message=" ".join(str(state.get("message") or "").split()),
        begun=_moment(one.get("start_time")),
        ended=_moment(one.get("end_time")),
        parameters=one.get("parameters") or {},
    )


def _event(one: Mapping[str, Any]) -> Event:
    at = _moment(one["occurred"]) or datetime.now(UTC)
    return Event(at, one["event"], one["resource"]["prefect.resource.id"], one.get("payload") or {})


def _moment(text: object) -> datetime | None:
    return datetime.fromisoformat(text.replace("Z", "+00:00")) if isinstance(text, str) else None


@contextmanager
def _client() -> Iterator[SyncPrefectClient]:
    """A client, with our error in place of Prefect's."""
    try:
        with get_client(sync_client=True) as client:
            yield client
    except (httpx.HTTPError, PrefectException) as error:
        raise ServiceError(f"Prefect's API failed ({type(error).__name__}); is the Prefect server up?") from None
