"""Runs of runbooks, made through Prefect's API: at once, or waiting for a person. What is asked for twice is made once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.states import Scheduled, Suspended

from blocks.errors import ServiceError, SettingsError, StackError

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient

__all__ = ["PATIENCE_S", "PrefectRuns", "Runs", "parameters_of"]

PATIENCE_S = 24 * 3600
"""Seconds that a proposed run waits for a person. It takes no place in the worker meanwhile."""
SECONDS = 60.0
"""Prefect's API may take so long, repeated requests included."""

_WRONG_PARAMETERS = {400, 409, 422}

Known = Mapping[str, str]
"""What a runbook can be told, by the name of the field in its form."""


class Runs(Protocol):
    """Something that makes runs of deployments. All of it may be asked for again: the same key is the same run.

    Every method raises SettingsError where there is no such deployment, ServiceError where nobody knows whether it was made.
    """

    async def start(self, deployment: str, known: Known, key: str) -> str:
        """Make a run that begins at once; returns its id."""

    async def propose(self, deployment: str, known: Known, key: str, why: str) -> str:
        """Make a run that waits until a person resumes it (which approves it) or cancels it; returns its id."""

    async def later(self, deployment: str, known: Known, key: str, at: datetime) -> str:
        """Make a run that begins at a time; returns its id."""


class PrefectRuns:
    """Prefect's API, where PREFECT_API_URL says."""

    async def start(self, deployment: str, known: Known, key: str) -> str:
        """See `Runs`."""
        return await self._make(deployment, known, key, Scheduled())

    async def propose(self, deployment: str, known: Known, key: str, why: str) -> str:
        """See `Runs`. The server makes the run in its waiting state: no worker takes it before it is resumed."""
        return await self._make(deployment, known, key, Suspended(timeout_seconds=PATIENCE_S, message=why))

    async def later(self, deployment: str, known: Known, key: str, at: datetime) -> str:
        """See `Runs`."""
        return await self._make(deployment, known, key, Scheduled(scheduled_time=at))

    async def _make(self, deployment: str, known: Known, key: str, state: Any) -> str:
        async with _client(deployment) as client:
            found = await client.read_deployment_by_name(deployment)
            parameters = parameters_of(found.parameter_openapi_schema or {}, known)
            run = await client.create_flow_run_from_deployment(
                found.id, parameters=parameters, state=state, tags=["runbook"], idempotency_key=key
            )
            return str(run.id)


def parameters_of(schema: Mapping[str, Any], known: Known) -> dict[str, dict[str, str]]:
    """Of what is known, that for which a flow's form has a field: runbooks differ in what they want to know.

    Args:
        schema: of the flow's parameters, as Prefect keeps it with a deployment.
    """
    definitions: Mapping[str, Any] = schema.get("definitions", {})
    found: dict[str, dict[str, str]] = {}
    for name, shape in schema.get("properties", {}).items():
        references = [one["$ref"] for one in (shape, *shape.get("allOf", ())) if "$ref" in one]
        model = definitions.get(references[0].rpartition("/")[2], {}) if references else {}
        if fields := {field: known[field] for field in model.get("properties", {}) if field in known}:
            found[name] = fields
    return found


@asynccontextmanager
async def _client(deployment: str) -> AsyncIterator[PrefectClient]:
    """A client with a deadline, and with our errors in place of Prefect's."""
    try:
        async with asyncio.timeout(SECONDS), get_client() as client:
            yield client
    except ObjectNotFound:
        raise SettingsError(f"{deployment}: there is no such deployment; run `prefect --no-prompt deploy --all`") from None
    except httpx.HTTPStatusError as error:
        raise _refused(deployment, error.response.status_code) from None
    except (TimeoutError, httpx.HTTPError, PrefectException) as error:
        raise ServiceError(
            f"{deployment}: Prefect's API failed ({type(error).__name__}); whether the run was made nobody knows, asking again "
            "is safe"
        ) from None


def _refused(deployment: str, status: int) -> StackError:
    if status in _WRONG_PARAMETERS:
        return SettingsError(
            f"{deployment}: Prefect refused the run's parameters ({status}), expected those of this version; run `prefect "
            "--no-prompt deploy --all`"
        )
    return ServiceError(f"{deployment}: Prefect's API answered {status}; asking again is safe")
