"""The pulse of the watch for somebody outside: `HEARTBEAT_URL`, as healthchecks.io takes it (healthchecks.io/docs/http_api).

`<url>/start` when a sweep begins, `<url>` after a good one, `<url>/fail` after one that broke off. Whoever listens there says
when nothing comes: then Prefect itself is gone. A heartbeat that cannot be sent is said in the log, and fails nothing.
"""

from __future__ import annotations

import asyncio
from typing import Literal
from uuid import UUID

from blocks.errors import DeliveryFailed, SettingsError
from blocks.secret_url import SecretUrl
from blocks.settings import Settings
from flows.report import logger

__all__ = ["TIMEOUT_S", "Signal", "ping", "ping_async"]

Signal = Literal["start", "success", "fail"]

TIMEOUT_S = 3.0
"""Seconds to wait: the sweep waits as long."""


def ping(settings: Settings, signal: Signal, *, run_id: str = "", said: str = "") -> bool:
    """Send one signal, where a heartbeat is configured.

    Args:
        signal: what to say. run_id: of the flow run, so that start and end are measured as one.
        said: one line for whoever looks there, without secrets; kept by healthchecks.io with the signal.
    Returns: whether it arrived; True also where none is configured.
    """
    if settings.heartbeat_url is None:
        return True
    try:
        heartbeat = SecretUrl(settings.heartbeat_url, who="heartbeat", variable="HEARTBEAT_URL", timeout=TIMEOUT_S)
        query = {"rid": str(UUID(run_id))} if run_id else {}
        below = "" if signal == "success" else f"/{signal}"
        heartbeat.checked(heartbeat.request("POST", below=below, query=query, content=said.encode()))
    except (DeliveryFailed, SettingsError) as error:
        logger().warning("%s", f"the heartbeat ({signal}) was not taken: {error}")
        return False
    return True


async def ping_async(settings: Settings, signal: Signal, *, run_id: str = "", said: str = "") -> bool:
    """`ping`, without holding up the event loop."""
    return await asyncio.to_thread(ping, settings, signal, run_id=run_id, said=said)
