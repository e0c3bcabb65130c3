"""Starting deployments through Prefect's API."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import httpx
from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.utilities.urls import url_for

from blocks.errors import ServiceError, SettingsError

__all__ = ["PrefectStarter", "Started", "Starter"]

TIMEOUT = 15.0
"""Seconds that Prefect may take."""


@dataclass(frozen=True)
class Started:
    """A flow run that was made. url: where people see it, empty where the UI's address is not known."""

    run_id: str
    url: str


class Starter(Protocol):
    """Something that starts deployments."""

    async def start(self, deployment: str, parameters: Mapping[str, Any] | None = None) -> Started:
        """Make a run of `flow/deployment`.

        Args:
            parameters: of the flow; None: the deployment's own.
        Raises:
            SettingsError: there is no such deployment.
            ServiceError: Prefect cannot be asked now.
        """


class PrefectStarter:
    """Prefect's API, where PREFECT_API_URL says."""

    async def start(self, deployment: str, parameters: Mapping[str, Any] | None = None) -> Started:
        """Make a run of a deployment."""
        try:
            async with asyncio.timeout(TIMEOUT), get_client() as client:
                found = await client.read_deployment_by_name(deployment)
                run = await client.create_flow_run_from_deployment(
                    found.id, parameters=dict(parameters or {}), tags=["gateway"]
                )
        except ObjectNotFound:
            raise SettingsError(f"{deployment}: there is no such deployment; run `prefect --no-prompt deploy --all`") from None
        except (TimeoutError, httpx.HTTPError, PrefectException, OSError) as error:
            raise ServiceError(f"{deployment}: Prefect's API failed ({type(error).__name__}); nothing was started") from None
        return Started(str(run.id), url_for(run) or "")
