"""A flow that waits to be ended, and leaves a line for each thing that it could still do then."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from prefect import flow


def _crashed(flow: Any, flow_run: Any, state: Any) -> None:
    _leave(flow_run.parameters["trace"], "hook")


@flow(on_crashed=[_crashed])
async def waiting(trace: str) -> None:
    """Wait for ten minutes."""
    _leave(trace, "begun")
    try:
        await asyncio.sleep(600)
    finally:
        _leave(trace, "finally")


def _leave(trace: str, what: str) -> None:
    with Path(trace).open("a", encoding="utf-8") as file:
        file.write(f"{what}\n")
