"""The few calls to Prefect's REST API that the sandbox needs, without importing Prefect (1.5 s and 80 MB)."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Self
from uuid import uuid4

import httpx

from shared.engines.process import EngineError, wait_until
from shared.engines.supervisor import start_time

__all__ = ["FlowRunResult", "PrefectApi"]

_FINAL = {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}
_LOG_LEVELS = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}
_BUSY_S = 60.0
_PAGE = 200


@dataclass(frozen=True, slots=True)
class FlowRunResult:
    """How a flow run ended.

    Attributes:
        id: of the flow run.
        state_type: COMPLETED, FAILED, CANCELLED or CRASHED.
        state_name: the state's name, which a flow may choose; often the type in title case.
        message: the state's message: the error's text for a run that failed.
        seconds: from its start to its end, without the time it waited for a worker.
    """

    id: str
    state_type: str
    state_name: str
    message: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether it completed."""
        return self.state_type == "COMPLETED"


class _Patient(httpx.HTTPTransport):
    """Asks again where the server answers 503: its SQLite was busy for long, and it has done nothing."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it until the server is less busy, or for a minute."""
        deadline = time.monotonic() + _BUSY_S
        while (answer := super().handle_request(request)).status_code == httpx.codes.SERVICE_UNAVAILABLE:
            if time.monotonic() >= deadline:
                break
            answer.close()
            time.sleep(0.5)
        return answer


class PrefectApi:
    """A client of one Prefect server.

    Args:
        url: ends in `/api`.
        auth: `user:password`, or None for an open server.
    """

    def __init__(self, url: str, *, auth: str | None = None) -> None:
        user, _, password = (auth or "").partition(":")
        # trust_env: a proxy in the environment has no business between us and 127.0.0.1.
        login = httpx.BasicAuth(user, password) if auth else None
        self._http = httpx.Client(base_url=url, timeout=60.0, trust_env=False, auth=login, transport=_Patient())

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def create_process_pool(self, name: str) -> None:
        """Create a work pool of type process unless it exists; the first worker fills in its job template."""
        answer = self._http.post("/work_pools/", json={"name": name, "type": "process"})
        if answer.status_code != httpx.codes.CONFLICT:
            self._checked(answer)

    def online_workers(self, pool: str) -> list[str]:
        """Names of the workers of a pool that have sent a heartbeat lately."""
        workers = self._checked(self._http.post(f"/work_pools/{pool}/workers/filter", json={}))
        return [worker["name"] for worker in workers if worker["status"] == "ONLINE"]

    def deployments(self) -> list[str]:
        """All deployments as `flow/deployment`, sorted."""
        flows = {flow["id"]: flow["name"] for flow in self._all("/flows/filter", {})}
        return sorted(f"{flows[item['flow_id']]}/{item['name']}" for item in self._all("/deployments/filter", {}))

    def start_run(self, deployment: str, parameters: dict[str, Any] | None = None) -> str:
        """Ask for a run of a deployment now.

        Args:
            deployment: `flow/deployment`.
            parameters: of the flow, as JSON; those left out have the deployment's or the flow's defaults.
        Returns: the flow run's id.
        Raises:
            EngineError: there is no such deployment, or the parameters do not fit its schema.
        """
        found = self._checked(self._http.get(f"/deployments/name/{deployment}"))
        # Without a state the run would only be registered; Scheduled without a time means now.
        # With its key the request may be sent again, see _Patient.
        body = {"parameters": parameters or {}, "state": {"type": "SCHEDULED"}, "idempotency_key": str(uuid4())}
        return str(self._checked(self._http.post(f"/deployments/{found['id']}/create_flow_run", json=body))["id"])

    def wait(self, run_id: str, *, timeout: float = 600.0) -> FlowRunResult:
        """Wait for a flow run to end.

        Args:
            timeout: seconds, from now.
        Returns: its end, once its process on this machine has gone too, and so has sent the rest of its log.
        Raises:
            EngineError: it did not end in time; with the end of its log.
        """
        deadline = time.monotonic() + timeout
        while (run := self.run(run_id))["state_type"] not in _FINAL:
            if time.monotonic() >= deadline:
                tail = "\n".join(self.logs(run_id).splitlines()[-20:])
                raise EngineError(f"flow run {run_id} is still {run['state_name']} after {timeout:g} s; its log ends:\n{tail}")
            time.sleep(0.2)
        if (pid := _pid(run)) is not None:
            wait_until(lambda: start_time(pid) is None, timeout=30.0, what=f"process {pid} of flow run {run_id} to end")
        message = (run["state"] or {}).get("message") or ""
        return FlowRunResult(run_id, run["state_type"], run["state_name"], message, float(run["total_run_time"]))

    def wait_for_state(self, run_id: str, state_type: str, *, timeout: float = 60.0) -> None:
        """Wait until a flow run is in a state, for example RUNNING.

        Raises:
            EngineError: it was not, or ended before.
        """

        def reached() -> bool:
            present = self.run(run_id)["state_type"]
            if present in _FINAL and present != state_type:
                raise EngineError(f"flow run {run_id} is {present}, and will not become {state_type} any more")
            return bool(present == state_type)

        wait_until(reached, timeout=timeout, what=f"flow run {run_id} to be {state_type}", pause=0.2)

    def run(self, run_id: str) -> dict[str, Any]:
        """A flow run as the API gives it."""
        return dict(self._checked(self._http.get(f"/flow_runs/{run_id}")))

    def pid(self, run_id: str) -> int | None:
        """The process of a flow run that a process worker started, None before it has."""
        return _pid(self.run(run_id))

    def logs(self, run_id: str) -> str:
        """Everything a flow run and its tasks logged, a line each: time, level, message."""
        entries = self._all("/logs/filter", {"logs": {"flow_run_id": {"any_": [run_id]}}, "sort": "TIMESTAMP_ASC"})
        return "".join(
            f"{entry['timestamp'][:23]} {_LOG_LEVELS.get(entry['level'], entry['level'])} {entry['message']}\n"
            for entry in entries
        )

    def artifact(self, key: str) -> str | None:
        """The newest artifact under a key, as text (a table as JSON), or None."""
        answer = self._http.get(f"/artifacts/{key}/latest")
        return None if answer.status_code == httpx.codes.NOT_FOUND else str(self._checked(answer)["data"])

    def _all(self, path: str, query: dict[str, Any]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = self._checked(self._http.post(path, json={**query, "limit": _PAGE, "offset": len(found)}))
            found.extend(page)
            if len(page) < _PAGE:
                return found

    @staticmethod
    def _checked(answer: httpx.Response) -> Any:
        if answer.is_success:
            return answer.json()
        raise EngineError(
            f"prefect server: {answer.request.method} {answer.request.url.path} answered {answer.status_code}: "
            f"{answer.text[:500]}"
        )


def _pid(run: dict[str, Any]) -> int | None:
    """The process worker records `<pid>`; earlier ones `<host>:<pid>`."""
    _, _, pid = (run["infrastructure_pid"] or "").rpartition(":")
    return int(pid) if pid else None
