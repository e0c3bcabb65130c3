"""Another stack's Prefect server, through its public address: a new stack restores its data itself, from inside its network."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import SecretStr

from blocks.errors import AccessDenied, RestoreFailed, ServiceError
from blocks.retry import retrying

__all__ = ["FarPrefect", "FarRun"]

_TIMEOUT = 60.0
"""Seconds: a server on SQLite that is busy takes its time."""
_LONGEST = 400
_FINAL = frozenset({"COMPLETED", "FAILED", "CRASHED", "CANCELLED"})


@dataclass(frozen=True)
class FarRun:
    """A run there. state: its state's type. message: the error's, where it failed."""

    id: str
    state: str
    message: str = ""

    @property
    def over(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.state in _FINAL


@dataclass(frozen=True)
class FarPrefect:
    """The server.

    Attributes:
        url: of its API, ends in /api. auth: `user:password`; None for an open one. poll: seconds between two looks.
        tell: one line for who watches.
    """

    url: str
    auth: SecretStr | None = field(default=None, repr=False)
    poll: float = 10.0
    tell: Callable[[str], None] = lambda _: None

    def wait_for(self, deployment: str, seconds: float) -> str:
        """Wait until the worker there has registered a deployment.

        Returns: its id.
        Raises:
            ServiceError: it was not there in time. AccessDenied: the server refuses us.
        """
        deadline, why = time.monotonic() + seconds, "it has no such deployment yet"
        while True:
            try:
                answer = self._ask("GET", f"/deployments/name/{deployment}")
                if answer.status_code != httpx.codes.NOT_FOUND:
                    return str(_checked(answer, deployment)["id"])
            except ServiceError as error:
                if error.permanent:
                    raise
                why = str(error)
            if time.monotonic() + self.poll > deadline:
                raise ServiceError(
                    f"the new Prefect server has no {deployment} after {seconds:.0f} s: {why}; read the log of prefect-worker "
                    "in Railway's dashboard, then run this again"
                )
            time.sleep(self.poll)

    def start(self, deployment_id: str, parameters: Mapping[str, Any], key: str) -> FarRun:
        """Make a run, or find the one that was made under the same key.

        Args:
            key: whoever asks twice gets the same run.
        """
        body = {"parameters": dict(parameters), "state": {"type": "SCHEDULED"}, "idempotency_key": key}
        path = f"/deployments/{deployment_id}/create_flow_run"
        return retrying(lambda: _run(_checked(self._ask("POST", path, body), "the restore")))

    def read(self, run_id: str) -> FarRun:
        """Look how a run is."""
        return _run(_checked(self._ask("GET", f"/flow_runs/{run_id}"), "the restore"))

    def wait(self, run: FarRun, seconds: float) -> FarRun:
        """Wait for the end of a run; that the server is away for a moment ends nothing.

        Raises:
            RestoreFailed: it ended otherwise than well, or not in time.
        """
        deadline, said = time.monotonic() + seconds, ""
        while not run.over:
            if run.state != said:
                self.tell(f"restore run {run.id} on the new stack: {run.state}")
                said = run.state
            if time.monotonic() + self.poll > deadline:
                raise RestoreFailed(f"restore run {run.id} on the new stack is {run.state} after {seconds:.0f} s; see it there")
            time.sleep(self.poll)
            try:
                run = self.read(run.id)
            except ServiceError as error:
                if error.permanent:
                    raise
                self.tell(f"the new Prefect server: {error}")
        if run.state != "COMPLETED":
            raise RestoreFailed(f"restore run {run.id} on the new stack ended as {run.state}: {run.message or 'see its log'}")
        return run

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        user, _, password = (self.auth.get_secret_value() if self.auth else "").partition(":")
        auth = httpx.BasicAuth(user, password) if self.auth else None
        secure = self.url.startswith("https://")
        try:
            with httpx.Client(base_url=self.url, timeout=_TIMEOUT, auth=auth, trust_env=False, verify=secure) as client:
                return client.request(method, path, json=body)
        except httpx.HTTPError as error:
            raise ServiceError(f"the new Prefect server does not answer ({type(error).__name__})") from None


def _run(found: Mapping[str, Any]) -> FarRun:
    state = found.get("state") or {}
    message = " ".join(str(state.get("message") or "").split())
    return FarRun(str(found["id"]), str(state.get("type") or "SCHEDULED"), message[:_LONGEST])


def _checked(answer: httpx.Response, what: str) -> Mapping[str, Any]:
    """Take the answer; what the server says about an error is not repeated: it repeats parameters."""
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise AccessDenied(
            "the new Prefect server refuses us; expected PREFECT_SERVER_API_AUTH_STRING of prefect-server as it was deployed"
        )
    if not answer.is_success:
        raise ServiceError(f"the new Prefect server answers {answer.status_code} when asked for {what}; asking again is safe")
    found: Mapping[str, Any] = answer.json()
    return found
