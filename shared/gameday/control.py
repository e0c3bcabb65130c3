"""What a game day asks Prefect's server: what happened to incidents, which runbooks ran, and, as a person, to go on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared.engines.process import EngineError
from shared.sandbox.prefect_api import PrefectApi

__all__ = ["Control", "Happened", "Run", "run_of"]

FINAL = frozenset({"COMPLETED", "FAILED", "CANCELLED", "CRASHED"})
_INCIDENTS = "stack.incident."


@dataclass(frozen=True)
class Happened:
    """Something that happened to an incident, as its event says it.

    Attributes:
        kind: opened, reminded, escalated or closed. key: of the incident.
    """

    kind: str
    key: str
    service: str
    aspect: str
    sentence: str
    at: datetime


@dataclass(frozen=True)
class Run:
    """A flow run.

    Attributes:
        flow: its flow's name. incident: key of the incident that it answers, empty where it answers none.
        state: its type, COMPLETED for example. begun: when it started, None before it has.
    """

    id: str
    flow: str
    incident: str
    state: str
    message: str
    begun: datetime | None

    @property
    def over(self) -> bool:
        """Whether it has ended, however."""
        return self.state in FINAL


class Control(PrefectApi):
    """A client of the server, with the few calls that only a game day needs."""

    def __init__(self, url: str, *, auth: str | None = None) -> None:
        super().__init__(url, auth=auth)
        self._names: dict[str, str] = {}

    def happenings(self, since: datetime) -> list[Happened]:
        """What happened to incidents since a moment, oldest first."""
        wanted = {"occurred": {"since": since.isoformat()}, "event": {"prefix": [_INCIDENTS]}, "order": "ASC"}
        page = self._checked(self._http.post("/events/filter", json={"filter": wanted, "limit": 50}))
        found = list(page["events"])
        while url := page.get("next_page"):
            page = self._checked(self._http.get(url))
            found += page["events"]
        return [_happened(one) for one in found]

    def runs(self, since: datetime, *, flow: str | None = None) -> list[Run]:
        """The runs that began, or were to begin, between a moment and now, oldest first.

        Args:
            flow: only those of this flow.
        """
        query: dict[str, Any] = {
            "flow_runs": {"expected_start_time": {"after_": since.isoformat(), "before_": datetime.now(UTC).isoformat()}},
            "sort": "EXPECTED_START_TIME_ASC",
        }
        if flow is not None:
            query["flows"] = {"name": {"any_": [flow]}}
        found = self._all("/flow_runs/filter", query)
        if any(one["flow_id"] not in self._names for one in found):
            self._names = {one["id"]: str(one["name"]) for one in self._all("/flows/filter", {})}
        return [run_of(one, self._names) for one in found]

    def approve(self, run_id: str, stack: str) -> None:
        """Have a run that waits go on, as a person does on its page.

        Raises:
            EngineError: the server does not let it.
        """
        answer = self._checked(
            self._http.post(f"/flow_runs/{run_id}/resume", json={"run_input": {"decision": "approve", "confirm": stack}})
        )
        if answer["status"] != "ACCEPT":
            raise EngineError(f"flow run {run_id} does not go on: {answer['details'].get('reason')}")

    def sweep_every(self, deployment: str, seconds: float) -> None:
        """Let a deployment's schedules run every so often, and those of all others not at all: the night is for another day."""
        flows = {flow["id"]: flow["name"] for flow in self._all("/flows/filter", {})}
        for one in self._all("/deployments/filter", {}):
            chosen = f"{flows[one['flow_id']]}/{one['name']}" == deployment
            for schedule in one["schedules"]:
                change: dict[str, Any] = {"active": chosen}
                if chosen:
                    change["schedule"] = {"interval": seconds, "timezone": "UTC"}
                path = f"/deployments/{one['id']}/schedules/{schedule['id']}"
                answer = self._http.patch(path, json=change)
                if not answer.is_success:
                    raise EngineError(f"prefect server: {path} answered {answer.status_code}: {answer.text[:300]}")


def _happened(event: dict[str, Any]) -> Happened:
    said = event["payload"]
    return Happened(
        kind=str(event["event"]).removeprefix(_INCIDENTS),
        key=str(said["key"]),
        service=str(said["service"]),
        aspect=str(said["aspect"]),
        sentence=str(said["sentence"]),
        at=_time(event["occurred"]),
    )


def run_of(run: dict[str, Any], names: dict[str, str]) -> Run:
    """Read a run as the server's API gives it.

    Args:
        names: of flows, by their ids.
    """
    asked = run["parameters"].get("request")
    return Run(
        id=str(run["id"]),
        flow=names[run["flow_id"]],
        incident=str(asked.get("incident", "")) if isinstance(asked, dict) else "",
        state=str(run["state_type"]),
        message=str((run["state"] or {}).get("message") or ""),
        # One that its deployment's limit did not let begin has a time of its start all the same: that of its end.
        begun=None if run["start_time"] in (None, run["end_time"]) else _time(run["start_time"]),
    )


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC)
