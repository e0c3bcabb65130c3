"""What comes to a sink and what it answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

__all__ = ["Answer", "Received", "Request", "Sink", "json_answer", "text_answer"]


@dataclass(frozen=True)
class Request:
    """One HTTP request.

    Attributes:
        method: in capitals. path: without the query. query: the last value of each name. headers: names in lower case.
        body: as it was sent.
    """

    method: str
    path: str = field(repr=False)  # of a webhook it is the secret
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ValueError: it is none.
        """
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """What a sink answers.

    Attributes:
        status: of HTTP. body, content_type, headers: of the answer.
        payload: what was understood of the request; None where nothing was.
        refused: why the request was not accepted; empty where it was. Services refuse with 200, too.
    """

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    payload: Any = None
    refused: str = ""


@dataclass(frozen=True)
class Received:
    """A request with its answer.

    Attributes:
        kind: of the sink. at: when it had come, UTC. request: as it came. payload: what the sink understood of it.
        status: that was answered, 0 when nothing was. refused: why it was not accepted, empty where it was.
    """

    kind: str
    at: datetime
    request: Request
    payload: Any
    status: int
    refused: str

    @property
    def accepted(self) -> bool:
        """Whether the sink took it: a person would have seen it."""
        return not self.refused


class Sink(Protocol):
    """One service that alerts go to."""

    kind: str

    def answer(self, request: Request) -> Answer:
        """Look at a request as the service would, and keep what it asks for."""
        ...

    def too_many(self, seconds: float) -> Answer:
        """What the service answers to who sends too much, and has to wait so many seconds."""
        ...

    def clear(self) -> None:
        """Forget what was sent."""
        ...


def json_answer(
    status: int, value: object, *, payload: Any = None, refused: str = "", headers: Mapping[str, str] | None = None
) -> Answer:
    """An answer of JSON."""
    body = json.dumps(value).encode()
    return Answer(status, body, "application/json", headers or {}, payload, refused)


def text_answer(
    status: int, text: str, *, payload: Any = None, refused: str = "", headers: Mapping[str, str] | None = None
) -> Answer:
    """An answer of plain text."""
    return Answer(status, text.encode(), headers=headers or {}, payload=payload, refused=refused)
