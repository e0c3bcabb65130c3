"""The few calls to Prefect's REST API that are made before and beside the worker, without importing Prefect (80 MB)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Self

import httpx
from pydantic import BaseModel, Field

from blocks.errors import ServiceError
from blocks.settings import Settings

__all__ = ["FlowRun", "PrefectHttp"]

_PAGE = 200
HEARTBEAT = "prefect.flow-run.heartbeat"


class FlowRun(BaseModel):
    """A flow run, as far as it matters here. state_at: when it came into its state."""

    id: str
    name: str
    state_type: str
    state_at: datetime = Field(description="UTC")


class PrefectHttp:
    """A client of the Prefect server that the settings name. Close it, or use it as a context manager.

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

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        try:
            answer = self._http.post(path, json=body)
        except httpx.HTTPError as error:
            raise ServiceError(f"prefect-server: no answer ({type(error).__name__}); is it up?") from None
        if not answer.is_success:
            raise ServiceError(
                f"prefect-server: {path.partition('/')[2]} answered {answer.status_code}; are its credentials right?"
            )
        return answer.json()


def _secret(value: Any) -> str:
    return value.get_secret_value() if value is not None else ""
