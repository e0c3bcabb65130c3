"""Langfuse's two services: the web application and API, and the worker that empties the queues."""

from __future__ import annotations

from typing import Any

import httpx
from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from blocks.errors import AccessDenied, ServiceError

__all__ = ["WEB_HEALTH", "WEB_READY", "WORKER_HEALTH", "WORKER_READY", "LangfuseWeb", "LangfuseWorker"]

WEB_HEALTH = "/api/public/health"
WEB_READY = "/api/public/ready"
WORKER_HEALTH = "/api/health"
WORKER_READY = "/api/ready"

DATABASE = {"failIfDatabaseUnavailable": "true"}
"""Without it the health endpoint looks at no database (facts: apps.md 2.2)."""
STUCK = {"failIfQueueConsumptionStuck": "true"}
"""From 4.0 on; 3.x ignores it."""
PROPAGATION = {"failIfEventPropagationStuck": "true"}
"""The same; the answer then has `eventPropagation` (source: langfuse, worker/src/features/health)."""


class LangfuseWeb(Block):
    """Langfuse's web service.

    Attributes:
        url: http(s)://host[:port], as the worker reaches it.
        public_key, secret_key: of a project, for what needs a key.
        timeout: seconds to wait for a connection or an answer.

    Example:
        ```python
        langfuse = LangfuseWeb.load("mystack")
        langfuse.check()
        ```
    """

    _block_type_name = "Langfuse Web"
    _block_type_slug = "langfuse-web"
    _description = "The web application and API of a stack's Langfuse."

    url: str = Field(description="http(s)://host[:port]")
    public_key: str = Field(default="", description="Public key of a project")
    secret_key: SecretStr | None = Field(default=None, description="Its secret key")
    timeout: float = Field(default=5.0, gt=0, description="Seconds to wait for a connection or an answer")

    def client(self) -> httpx.Client:
        """Return an HTTP client with the service as its base, and the project's keys where there are any."""
        auth = httpx.BasicAuth(self.public_key, self.secret_key.get_secret_value()) if self.secret_key else None
        return httpx.Client(
            base_url=self.url, timeout=self.timeout, auth=auth, trust_env=False, verify=self.url.startswith("https://")
        )

    def check(self) -> None:
        """See that it answers, reaches its Postgres, and takes the project's keys where there are any.

        Raises:
            AccessDenied: it refuses the keys.
            ServiceError: it does not answer, or is not well.
        """
        _healthy(self._get(WEB_HEALTH, DATABASE), "langfuse-web", "is its Postgres up, what does its log say?")
        if self.secret_key is not None and self._get("/api/public/projects").status_code in (401, 403):
            raise AccessDenied(
                "langfuse-web: the project's keys are refused; set LANGFUSE_PUBLIC_KEY and LANGFUSE_SECRET_KEY to those of a "
                "project there"
            )

    def version(self) -> str:
        """Return its version, for example `4.16.0`.

        Raises:
            ServiceError: it does not answer.
        """
        return str(_json(self._get(WEB_HEALTH)).get("version", ""))

    def _get(self, path: str, query: dict[str, str] | None = None) -> httpx.Response:
        with self.client() as client:
            return _get(client, path, query, "langfuse-web", "LANGFUSE_WEB_URL")


class LangfuseWorker(Block):
    """Langfuse's worker.

    Attributes:
        url: http(s)://host[:port], as our worker reaches it.
        timeout: seconds to wait for a connection or an answer.

    Example:
        ```python
        worker = LangfuseWorker.load("mystack")
        worker.check()
        ```
    """

    _block_type_name = "Langfuse Worker"
    _block_type_slug = "langfuse-worker"
    _description = "The worker that empties the queues of a stack's Langfuse."

    url: str = Field(description="http(s)://host[:port]")
    timeout: float = Field(default=5.0, gt=0, description="Seconds to wait for a connection or an answer")

    def client(self) -> httpx.Client:
        """Return an HTTP client with the service as its base."""
        return httpx.Client(base_url=self.url, timeout=self.timeout, trust_env=False, verify=self.url.startswith("https://"))

    def check(self) -> None:
        """See that it answers, and reaches its Postgres and its Redis.

        Raises:
            ServiceError: it does not answer, or is not well.
        """
        with self.client() as client:
            answer = _get(client, WORKER_HEALTH, None, "langfuse-worker", "LANGFUSE_WORKER_URL")
        _healthy(answer, "langfuse-worker", "are Postgres and Redis up, what does its log say?")


def _get(client: httpx.Client, path: str, query: dict[str, str] | None, name: str, setting: str) -> httpx.Response:
    try:
        return client.get(path, params=query)
    except httpx.HTTPError as error:
        raise ServiceError(f"{name}: no answer ({type(error).__name__}); is the service up and {setting} right?") from None


def _healthy(answer: httpx.Response, name: str, what: str) -> None:
    if answer.status_code != httpx.codes.OK:
        raise ServiceError(f"{name}: not well (HTTP {answer.status_code}), expected 200; {what}")


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
