"""The few calls to Prefect's REST API that are made before and beside the worker, without importing Prefect (80 MB)."""

from __future__ import annotations

from collections.abc import Sequence, Set
from datetime import datetime
from typing import Any, Self

import httpx
from pydantic import BaseModel, Field

from blocks.errors import AccessDenied, ServiceError, SettingsError
from blocks.retry import retrying
from blocks.settings import Settings

__all__ = ["FlowRun", "PrefectHttp"]

_PAGE = 200
_PROCESS = "process"
HEARTBEAT = "prefect.flow-run.heartbeat"


class FlowRun(BaseModel):
    """A flow run, as far as it matters here. state_at: when it came into its state."""

    id: str
    name: str
    state_type: str
    state_at: datetime = Field(description="UTC")


class PrefectHttp:
    """A client of the Prefect server that the settings name. Close it, or use it as a context manager.

    A server that is starting, or busy with the registrations of two containers, answers 503 for some seconds: every call may
    be repeated, and is (`blocks/retry.py`).

    Args:
        settings: URL and credentials.
    """

    def __init__(self, settings: Settings) -> None:
        url = settings.require("prefect_api_url").rstrip("/")
        user, _, password = _secret(settings.prefect_api_auth_string).partition(":")
        key = _secret(settings.prefect_api_key)
        self._http = httpx.Client(
            base_url=url,
            timeout=15.0,
            trust_env=False,
            auth=httpx.BasicAuth(user, password) if user else None,
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def is_ready(self) -> bool:
        """Say whether the server answers, and reaches its database."""
        try:
            return self._http.get("/ready").is_success
        except httpx.HTTPError:
            return False

    def ensure_process_pool(self, name: str) -> None:
        """Create a work pool of type process unless it is there; the first worker fills in its job template.

        Raises:
            SettingsError: the pool is of another type.
            AccessDenied: our credentials are refused.
            ServiceError: as in `runs`.
        """
        found = self._request("GET", f"/work_pools/{name}", expected={404})
        if found.status_code == httpx.codes.NOT_FOUND:
            self._request("POST", "/work_pools/", {"name": name, "type": _PROCESS}, expected={409})  # or another was faster
        elif (kind := found.json()["type"]) != _PROCESS:
            raise SettingsError(f"work pool {name}: is of type {kind}, expected {_PROCESS}; name another one in WORK_POOL")

    def runs(self, pool: str, states: Sequence[str]) -> list[FlowRun]:
        """Return the runs of a work pool in some states.

        Raises:
            ServiceError: the server did not answer, or refused.
        """
        found: list[FlowRun] = []
        wanted = {"work_pools": {"name": {"any_": [pool]}}, "flow_runs": {"state": {"type": {"any_": list(states)}}}}
        while True:
            page = self._post("/flow_runs/filter", {**wanted, "limit": _PAGE, "offset": len(found), "sort": "ID_DESC"})
            found.extend(
                FlowRun(id=run["id"], name=run["name"], state_type=run["state_type"], state_at=run["state"]["timestamp"])
                for run in page
            )
            if len(page) < _PAGE:
                return found

    def heartbeats(self, run_id: str) -> list[datetime]:
        """Return when a run's process gave its last two signs of life, newest first; fewer where there are not so many.

        Raises:
            ServiceError: as in `runs`.
        """
        answer = self._post(
            "/events/filter",
            {
                "filter": {"event": {"name": [HEARTBEAT]}, "resource": {"id": [f"prefect.flow-run.{run_id}"]}, "order": "DESC"},
                "limit": 2,
            },
        )
        return [datetime.fromisoformat(event["occurred"]) for event in answer["events"][:2]]

    def set_state(self, run_id: str, state_type: str, name: str, message: str) -> None:
        """Force a run into a state.

        Raises:
            ServiceError: as in `runs`.
        """
        state = {"type": state_type, "name": name, "message": message}
        self._post(f"/flow_runs/{run_id}/set_state", {"state": state, "force": True})

    def deployments(self) -> list[dict[str, Any]]:
        """Return all deployments, as the API shows them.

        Raises:
            ServiceError: as in `runs`.
        """
        found: list[dict[str, Any]] = []
        while True:
            page = self._post("/deployments/filter", {"limit": _PAGE, "offset": len(found), "sort": "NAME_ASC"})
            found.extend(page)
            if len(page) < _PAGE:
                return found

    def delete_deployment(self, deployment_id: str) -> None:
        """Delete a deployment with what it has scheduled; one that is gone already is no error.

        Raises:
            ServiceError: as in `runs`.
        """
        self._request("DELETE", f"/deployments/{deployment_id}", expected={404})

    def remember(self, variable: str, value: Any) -> None:
        """Write a variable.

        Raises:
            ServiceError: as in `runs`.
        """
        path = f"/variables/name/{variable}"
        if self._request("PATCH", path, {"value": value}, expected={404}).status_code == httpx.codes.NOT_FOUND:
            made = self._request("POST", "/variables/", {"name": variable, "value": value}, expected={409})
            if made.status_code == httpx.codes.CONFLICT:  # another was faster
                self._request("PATCH", path, {"value": value})

    def recall(self, variable: str) -> Any:
        """Return what a variable holds, None where there is none.

        Raises:
            ServiceError: as in `runs`.
        """
        answer = self._request("GET", f"/variables/name/{variable}", expected={404})
        return answer.json()["value"] if answer.is_success else None

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._request("POST", path, body).json()

    def _request(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, expected: Set[int] = frozenset()
    ) -> httpx.Response:
        """Ask the server. expected: statuses besides those of success that are answers, too."""
        return retrying(lambda: self._once(method, path, body, expected))

    def _once(self, method: str, path: str, body: dict[str, Any] | None, expected: Set[int]) -> httpx.Response:
        try:
            answer = self._http.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise ServiceError(f"prefect-server: no answer ({type(error).__name__}); is it up?") from None
        what = path.partition("/")[2]
        if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            raise AccessDenied(
                f"prefect-server: {what} answered {answer.status_code}; correct PREFECT_API_AUTH_STRING or PREFECT_API_KEY"
            )
        if not answer.is_success and answer.status_code not in expected:
            raise ServiceError(f"prefect-server: {what} answered {answer.status_code}; read its log")
        return answer


def _secret(value: Any) -> str:
    return value.get_secret_value() if value is not None else ""
