"""What both programs do as servers: listen, misbehave on demand, and end as containers do."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from shared.sandbox.langfuse_double.configuration import BehaviourFile, Configuration

__all__ = ["Lifetime", "answers_select_1", "serve"]

_DATABASE_S = 10.0


@dataclass
class Lifetime:
    """Whether the program has been asked to end.

    Attributes:
        ending: from SIGTERM on: `ready` says 500. ended: set when it is to stop serving.
    """

    ending: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)


async def answers_select_1(url: str) -> bool:
    """Whether Postgres does. One that hangs is waited for, ten seconds, as a pool of connections does."""
    try:
        async with asyncio.timeout(_DATABASE_S):
            async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
                await connection.execute("SELECT 1")
    except (psycopg.Error, TimeoutError):
        return False
    return True


async def serve(application: Starlette, configuration: Configuration, lifetime: Lifetime) -> None:
    """Serve on 127.0.0.1 until SIGTERM or SIGINT, and a little longer, with `ready` saying no."""
    behaviour = BehaviourFile(Path(configuration.behaviour))
    server = _Server(
        uvicorn.Config(
            _Misbehaving(application, behaviour),
            host="127.0.0.1",
            port=configuration.port,
            log_level="warning",
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
    )
    ending: set[asyncio.Task[None]] = set()  # the loop itself holds tasks only weakly

    async def end() -> None:
        lifetime.ending = True
        await asyncio.sleep(configuration.drain)
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, lambda: ending.add(loop.create_task(end())))
    await server.serve()
    lifetime.ended.set()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: uvicorn would stop listening at once."""
        yield


class _Misbehaving:
    """Lets answers take longer, or all be one status, as the file says."""

    def __init__(self, application: ASGIApp, behaviour: BehaviourFile) -> None:
        self._application, self._behaviour = application, behaviour

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        behaviour = self._behaviour.read()
        scope["behaviour"] = behaviour
        if behaviour.slow:
            await asyncio.sleep(behaviour.slow)
        application = self._application
        if behaviour.status is not None:
            application = JSONResponse({"message": "told to say so"}, behaviour.status)
        await application(scope, receive, send)
