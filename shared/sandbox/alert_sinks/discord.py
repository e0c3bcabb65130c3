"""Discord: one webhook, its messages and the limits of embeds (discord.com/developers/docs, Webhook and Embed Limits)."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from shared.sandbox.alert_sinks.exchange import Answer, Request, json_answer

__all__ = ["DiscordSink"]

_CONTENT, _EMBEDS, _EMBED_TEXTS, _FIELDS = 2000, 10, 6000, 25
_COLOUR = 0xFFFFFF
_TEXTS = {"title": 256, "description": 4096}
_FIRST_ID = 1_300_000_000_000_000_000


class DiscordSink:
    """One webhook at `/api/webhooks/<id>/<token>`.

    Args:
        webhook_id: digits. token: the secret part of its URL.
    Attributes:
        messages: what stands in the channel now, by id, oldest first.
    """

    kind = "discord"

    def __init__(self, webhook_id: str, token: str) -> None:
        self.messages: dict[str, dict[str, Any]] = {}
        self._id, self._token = webhook_id, token
        self._numbers = itertools.count(_FIRST_ID)

    def clear(self) -> None:
        """Empty the channel."""
        self.messages = {}

    def answer(self, request: Request) -> Answer:
        """Execute the webhook, or get, edit or delete one of its messages."""
        match = re.fullmatch(r"/api/(?:v\d+/)?webhooks/([^/]+)/([^/]+)(?:/messages/([^/]+))?", request.path)
        if match is None:
            return _error(404, "404: Not Found", 0)
        webhook_id, token, message_id = match.groups()
        if webhook_id != self._id:
            return _error(404, "Unknown Webhook", 10015)
        if token != self._token:
            return _error(401, "Invalid Webhook Token", 50027)
        if message_id is None:
            return self._execute(request) if request.method == "POST" else self._describe(request)
        if message_id not in self.messages:
            return _error(404, "Unknown Message", 10008)
        if request.method == "DELETE":
            del self.messages[message_id]
            return Answer(204)
        if request.method == "GET":
            return json_answer(200, self.messages[message_id])
        return self._edit(request, self.messages[message_id])

    def too_many(self, seconds: float) -> Answer:
        """429: Retry-After in seconds, and `retry_after` in the body, with fractions."""
        said = {"message": "You are being rate limited.", "retry_after": seconds, "global": False}
        headers = {"Retry-After": f"{seconds:g}", "X-RateLimit-Reset-After": f"{seconds:g}", "X-RateLimit-Scope": "shared"}
        return json_answer(429, said, refused="rate limited", headers=headers)

    def _describe(self, request: Request) -> Answer:
        if request.method != "GET":
            return _error(405, "405: Method Not Allowed", 0)
        return json_answer(200, {"id": self._id, "type": 1, "name": "Sandbox", "token": self._token})

    def _execute(self, request: Request) -> Answer:
        payload = _payload(request)
        if (refusal := _refusal(payload, editing=False)) is not None:
            return refusal
        number = str(next(self._numbers))
        content = {name: payload[name] for name in ("content", "embeds") if name in payload}
        message = {"content": "", "embeds": [], **content, "id": number, "type": 0, "webhook_id": self._id, "channel_id": "1"}
        self.messages[number] = message
        if request.query.get("wait", "false").lower() in ("true", "1"):
            return json_answer(200, message, payload=payload)
        return Answer(204, payload=payload)

    def _edit(self, request: Request, message: dict[str, Any]) -> Answer:
        if request.method != "PATCH":
            return _error(405, "405: Method Not Allowed", 0)
        payload = _payload(request)
        if (refusal := _refusal(payload, editing=True)) is not None:
            return refusal
        message.update({name: payload[name] for name in ("content", "embeds") if name in payload})
        message["edited_timestamp"] = datetime.now(UTC).isoformat()
        return json_answer(200, message, payload=payload)


def _error(status: int, message: str, code: int, **more: Any) -> Answer:
    refused = message + (f": {json.dumps(more['errors'])}" if "errors" in more else "")
    return json_answer(status, {"message": message, "code": code, **more}, refused=refused)


def _payload(request: Request) -> Any:
    """The body, or None where it is no JSON."""
    try:
        return request.json() if request.headers.get("content-type", "").startswith("application/json") else None
    except ValueError:
        return None


def _refusal(payload: Any, *, editing: bool) -> Answer | None:
    """What Discord would refuse this message with, or None."""
    if not isinstance(payload, dict):
        return _error(400, "The request body contains invalid JSON.", 50109)
    if not editing and not payload.get("content") and not payload.get("embeds"):
        return _error(400, "Cannot send an empty message", 50006)
    found: dict[str, Any] = {}
    for path, code, message in _problems(payload):
        place = found
        for part in path:
            place = place.setdefault(part, {})
        place.setdefault("_errors", []).append({"code": code, "message": message})
    return _error(400, "Invalid Form Body", 50035, errors=found) if found else None


Problem = tuple[tuple[str, ...], str, str]


def _problems(payload: dict[str, Any]) -> Iterator[Problem]:
    yield from _text(payload.get("content") or "", ("content",), _CONTENT)
    yield from _text(payload.get("username") or "", ("username",), 80)
    embeds = payload.get("embeds") or []
    if not isinstance(embeds, list) or not all(isinstance(embed, dict) for embed in embeds):
        yield ("embeds",), "LIST_TYPE_CONVERT", "Only iterables may be used in a ListType"
        return
    if len(embeds) > _EMBEDS:
        yield ("embeds",), "BASE_TYPE_MAX_LENGTH", f"Must be {_EMBEDS} or fewer in length."
    for index, embed in enumerate(embeds):
        yield from _embed(embed, ("embeds", str(index)))
    if sum(len(text) for embed in embeds for text in _texts(embed)) > _EMBED_TEXTS:
        yield ("embeds",), "MAX_EMBED_SIZE_EXCEEDED", f"Embed size exceeds maximum size of {_EMBED_TEXTS}"


def _embed(embed: dict[str, Any], path: tuple[str, ...]) -> Iterator[Problem]:
    for name, limit in _TEXTS.items():
        yield from _text(embed.get(name) or "", (*path, name), limit)
    for name, part, limit in (("footer", "text", 2048), ("author", "name", 256)):
        yield from _text((embed.get(name) or {}).get(part) or "", (*path, name, part), limit)
    colour = embed.get("color", 0)
    if isinstance(colour, bool) or not isinstance(colour, int):
        yield (*path, "color"), "NUMBER_TYPE_COERCE", f'Value "{colour}" is not int.'
    elif not 0 <= colour <= _COLOUR:
        yield (*path, "color"), "NUMBER_TYPE_MAX", f"int value should be between 0 and {_COLOUR}."
    if embed.get("url") and not str(embed["url"]).startswith(("http://", "https://")):
        yield (*path, "url"), "URL_TYPE_INVALID_URL", "Not a well formed URL."
    if embed.get("timestamp") and not _is_time(embed["timestamp"]):
        yield (*path, "timestamp"), "DATE_TIME_TYPE_PARSE", "Could not parse. Should be ISO8601."
    fields = embed.get("fields") or []
    if len(fields) > _FIELDS:
        yield (*path, "fields"), "BASE_TYPE_MAX_LENGTH", f"Must be {_FIELDS} or fewer in length."
    for index, field in enumerate(fields):
        for name, limit in (("name", 256), ("value", 1024)):
            place = (*path, "fields", str(index), name)
            if not field.get(name):
                yield place, "BASE_TYPE_REQUIRED", "This field is required"
            else:
                yield from _text(field[name], place, limit)


def _text(text: object, path: tuple[str, ...], limit: int) -> Iterator[Problem]:
    if not isinstance(text, str):
        yield path, "STRING_TYPE_CONVERT", "Could not interpret value as string."
    elif len(text) > limit:
        yield path, "BASE_TYPE_MAX_LENGTH", f"Must be {limit} or fewer in length."


def _texts(embed: dict[str, Any]) -> Iterator[str]:
    """All that counts towards the size of a message's embeds."""
    yield from (str(embed.get(name) or "") for name in _TEXTS)
    yield str((embed.get("footer") or {}).get("text") or "")
    yield str((embed.get("author") or {}).get("name") or "")
    for field in embed.get("fields") or []:
        yield from (str(field.get("name") or ""), str(field.get("value") or ""))


def _is_time(text: object) -> bool:
    try:
        datetime.fromisoformat(str(text))
    except ValueError:
        return False
    return True
