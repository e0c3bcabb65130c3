"""The gateway's app, served by uvicorn on 127.0.0.1 from a thread of the test, with its state in a file."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from blocks.errors import StackError
from flows.health.published import Published
from railway.gateway.app import Handler, make_app
from railway.gateway.serving import listen, make_server
from railway.gateway.source import FileSource
from railway.gateway.starting import Started
from railway.gateway.state import Days, Keeper
from shared.engines.process import wait_until

TOKEN = "canary-token-5c1f0a"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@dataclass
class Runs:
    """Where deployments would be started: remembers which, and fails when told to."""

    started: list[str] = field(default_factory=list)
    parameters: list[dict[str, Any]] = field(default_factory=list)
    failure: StackError | None = None

    async def start(self, deployment: str, parameters: Mapping[str, Any] | None = None) -> Started:
        if self.failure is not None:
            raise self.failure
        self.started.append(deployment)
        self.parameters.append(dict(parameters or {}))
        return Started("5f0c", f"https://prefect.example/runs/flow-run/{len(self.started)}")


@dataclass
class Served:
    """A served gateway.

    Attributes:
        http: a client of it. state: the file that it reads. runs: what it started.
    """

    http: httpx.Client
    url: str
    state: Path
    keeper: Keeper
    runs: Runs

    def show(self, published: Published | None) -> None:
        """Publish, and return when the gateway has seen it."""
        if published is None:
            self.state.unlink(missing_ok=True)
        else:
            draft = self.state.with_suffix(".new")
            draft.write_text(published.model_dump_json())
            draft.replace(self.state)
        self.keeper.look()

    def get(self, path: str, *, token: bool = True, headers: dict[str, str] | None = None) -> httpx.Response:
        """Ask for a path, with the token unless told otherwise."""
        return self.http.get(path, headers={**(BEARER if token else {}), **(headers or {})})


@contextmanager
def serving(
    folder: Path,
    *,
    token: str | None = TOKEN,
    public: bool = False,
    days: Days | None = None,
    routes: Sequence[Handler] = (),
) -> Iterator[Served]:
    """Serve the gateway from a thread.

    Args:
        folder: for the state's file. days: history. routes: more of them.
    """
    state = folder / "state.json"
    # Tests look when they have changed something; the thread itself looks once.
    keeper = Keeper("production", FileSource(state), days, refresh=3600, history_refresh=0)
    runs = Runs()
    app = make_app("production", keeper, runs, SecretStr(token) if token else None, public=public, routes=routes)
    server = make_server(app)
    keeper.start()
    with listen("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            wait_until(lambda: server.started, timeout=10, what="uvicorn to start")
            with httpx.Client(base_url=url, trust_env=False, timeout=10) as http:
                yield Served(http, url, state, keeper, runs)
        finally:
            server.should_exit = True
            keeper.stop()
            thread.join(10)


def now() -> datetime:
    """The time."""
    return datetime.now(UTC)


def chunks(parts: Sequence[bytes]) -> Iterator[bytes]:
    """A body without a length: httpx sends an iterator in chunks."""
    yield from parts
