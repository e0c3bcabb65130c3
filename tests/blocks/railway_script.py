"""A GraphQL server that answers as a test tells it: for what goes wrong on the way, and for what a platform rarely says."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from pydantic import SecretStr

from blocks.railway import RailwayApi, RailwayEnvironment

__all__ = ["CANARY", "DROP", "Answer", "Script", "api_of", "deployment", "environment", "error"]

CANARY = "canary-token-4c1e"


@dataclass(frozen=True)
class Answer:
    """What is answered: a status and a body, or nothing and a cut connection."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    drop: bool = False


DROP = Answer(drop=True)


Answers = Mapping[str, Any]
"""By operation a list, in turns: an `Answer`, or what is to stand below `data`."""


@dataclass(frozen=True)
class Asked:
    """One request that came."""

    operation: str
    variables: dict[str, Any]
    headers: dict[str, str]


def error(message: str, status: int = 200) -> Answer:
    """A GraphQL error, with HTTP 200 as Railway has it."""
    return Answer({"errors": [{"message": message}], "data": None}, status)


class Script:
    """The server; answers by operation, each in its turn, the last one for ever. A context manager."""

    def __init__(self, answers: Answers, headers: Mapping[str, str] | None = None) -> None:
        self.answers = {name: list(turns) for name, turns in answers.items()}
        self.headers = dict(headers or {})
        self.asked: list[Asked] = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                headers = {name.lower(): value for name, value in self.headers.items()}
                script.asked.append(Asked(body["operationName"], body["variables"], headers))
                answer = script.turn(body["operationName"])
                if answer.drop:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                    return
                self.send_response(answer.status)
                data = answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
                for name, value in {**script.headers, **answer.headers, "Content-Length": str(len(data.encode()))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data.encode())

            def log_message(self, *arguments: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/graphql/v2"

    def turn(self, operation: str) -> Answer:
        turns = self.answers.get(operation, [error(f"no answer for {operation}")])
        found = turns.pop(0) if len(turns) > 1 else turns[0]
        return found if isinstance(found, Answer) else Answer({"data": found})

    def operations(self) -> list[str]:
        return [one.operation for one in self.asked]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def api_of(script: Script, **given: Any) -> Iterator[RailwayApi]:
    """The API of the script's environment."""
    block = {"project_id": "project-1", "environment_id": "environment-1", "token": SecretStr(CANARY), "api_url": script.url}
    options = {name: given.pop(name) for name in ("allow", "patience") if name in given}
    with RailwayEnvironment(**{**block, **given}).open(**options) as api:
        yield api


def deployment(status: str = "SUCCESS", **other: Any) -> dict[str, Any]:
    """A deployment as Railway would answer it."""
    plain = {
        "id": "deployment-1",
        "status": status,
        "createdAt": "2026-11-25T03:00:00.000Z",
        "deploymentStopped": False,
        "serviceId": "service-litellm",
        "environmentId": "environment-1",
        "meta": {"image": "litellm:1"},
        "instances": [{"id": "instance-1", "status": "RUNNING"}],
    }
    return {**plain, **other}


def environment(*services: Mapping[str, Any], volumes: tuple[Mapping[str, Any], ...] = (), **other: Any) -> dict[str, Any]:
    """An environment as Railway would answer it: litellm and the operations layer, unless other services are given."""
    plain = services or tuple({"serviceName": name} for name in ("litellm", "prefect-server", "prefect-worker"))

    def instance(given: Mapping[str, Any]) -> dict[str, Any]:
        name = given["serviceName"]
        domains: dict[str, list[Any]] = {"serviceDomains": [], "customDomains": []}
        defaults = {"id": f"instance-{name}", "serviceId": f"service-{name}", "domains": domains, "activeDeployments": []}
        return {**defaults, "latestDeployment": None, "source": {"image": "litellm:1", "repo": None}, **given}

    def connection(found: list[dict[str, Any]]) -> dict[str, Any]:
        return {"edges": [{"node": one} for one in found], "pageInfo": {"hasNextPage": False}}

    made = {
        "id": "environment-1",
        "name": "production",
        "configEtag": "etag-1",
        "unmergedChangesCount": 0,
        "serviceInstances": connection([instance(one) for one in plain]),
        "volumeInstances": connection([dict(one) for one in volumes]),
    }
    return {"environment": {**made, **other}}
