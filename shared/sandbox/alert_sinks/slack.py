"""Slack: the Web API as a bot uses it, and an incoming webhook.

The Web API answers 200 to nearly everything and says `ok: false` inside; a webhook answers with a status and one word.
"""

from __future__ import annotations

import itertools
import json
import time
from typing import Any
from urllib.parse import parse_qsl

from shared.sandbox.alert_sinks.exchange import Answer, Request, json_answer, text_answer
from shared.sandbox.alert_sinks.slack_blocks import problems, texts

__all__ = ["SlackSink", "SlackWebhookSink"]

_TEXT = 40_000
# Of all blocks of a message together. Slack does not document it: 11,341 characters were refused (slackapi/bolt-js#2867).
_BLOCK_TEXTS = 11_000
_ATTACHMENTS = 100
_BOT = {"id": "B0SANDBOX", "user": "U0SANDBOX", "team": "T0SANDBOX"}


class _Refused(Exception):
    """Slack says no: with this word, and sentences about blocks."""

    def __init__(self, word: str, sentences: list[str] | None = None) -> None:
        super().__init__(word)
        self.word = word
        self.sentences = sentences or []


class SlackSink:
    """A workspace with one channel that one bot is in, below `/slack/api/`.

    Args:
        token: of the bot. channel: the channel's id.
    Attributes:
        messages: what stands in the channel now, threads included, oldest first.
    """

    kind = "slack"

    def __init__(self, token: str, channel: str) -> None:
        self.channel = channel
        self.messages: list[dict[str, Any]] = []
        self._token = token
        self._numbers = itertools.count(1)

    def clear(self) -> None:
        """Empty the channel."""
        self.messages = []

    def answer(self, request: Request) -> Answer:
        """Carry out `chat.postMessage`, `chat.update`, `conversations.history`, `conversations.replies` or `auth.test`."""
        arguments: dict[str, Any] = {}
        method = request.path.rpartition("/")[2]
        try:
            arguments = _arguments(request)
            self._authenticate(request, arguments)
            said = self._call(method, arguments)
            return json_answer(200, {"ok": True, **said}, payload={"method": method, **arguments})
        except _Refused as refusal:
            said = {"ok": False, "error": refusal.word}
            if refusal.sentences:
                messages = [f"[ERROR] {sentence}" for sentence in refusal.sentences]
                said |= {"errors": refusal.sentences, "response_metadata": {"messages": messages}}
            refused = "; ".join([refusal.word, *refusal.sentences])
            return json_answer(200, said, payload={"method": method, **arguments}, refused=refused)

    def too_many(self, seconds: float) -> Answer:
        """429 with Retry-After in whole seconds."""
        headers = {"Retry-After": str(max(1, round(seconds)))}
        return json_answer(429, {"ok": False, "error": "ratelimited"}, refused="ratelimited", headers=headers)

    def _authenticate(self, request: Request, arguments: dict[str, Any]) -> None:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        token = bearer.strip() if scheme.lower() == "bearer" else arguments.pop("token", "")
        if not token:
            raise _Refused("not_authed")
        if token != self._token:
            raise _Refused("invalid_auth")

    def _call(self, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
        calls = {
            "auth.test": self._test,
            "chat.postMessage": self._post,
            "chat.update": self._update,
            "conversations.history": self._history,
            "conversations.replies": self._replies,
        }
        if method not in calls:
            raise _Refused("unknown_method")
        return calls[method](arguments)

    def _test(self, arguments: dict[str, Any]) -> dict[str, Any]:
        return {"url": "https://sandbox.slack.com/", "user_id": _BOT["user"], "team_id": _BOT["team"], "bot_id": _BOT["id"]}

    def _post(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._in_channel(arguments)
        content = _short_enough(_content(arguments))
        thread = arguments.get("thread_ts")
        if thread is not None:
            self._find(thread, "invalid_thread_ts")  # Slack's word for it is undocumented; that it refuses is what counts
            content["thread_ts"] = thread
        now = time.time()
        ts = f"{int(now)}.{next(self._numbers):06d}"
        message = {"type": "message", "user": _BOT["user"], "bot_id": _BOT["id"], "ts": ts, **content}
        self.messages.append(message)
        return {"channel": self.channel, "ts": ts, "message": message}

    def _update(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._in_channel(arguments)
        message = self._find(arguments.get("ts"), "message_not_found")
        content = _short_enough(_content(arguments))
        for name in ("blocks", "attachments"):
            message.pop(name, None)
        message.update(content, edited={"user": _BOT["user"], "ts": f"{time.time():.6f}"})
        return {"channel": self.channel, "ts": message["ts"], "text": message.get("text", ""), "message": message}

    def _history(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._in_channel(arguments)
        limit = int(arguments.get("limit", 100))
        oldest, latest = float(arguments.get("oldest", 0)), float(arguments.get("latest", "inf"))
        found = [one for one in reversed(self.messages) if "thread_ts" not in one and oldest <= float(one["ts"]) <= latest]
        return {"messages": found[:limit], "has_more": len(found) > limit}

    def _replies(self, arguments: dict[str, Any]) -> dict[str, Any]:
        self._in_channel(arguments)
        ts = arguments.get("ts")
        self._find(ts, "thread_not_found")
        return {"messages": [one for one in self.messages if ts in (one["ts"], one.get("thread_ts"))], "has_more": False}

    def _in_channel(self, arguments: dict[str, Any]) -> None:
        if arguments.get("channel") != self.channel:
            raise _Refused("channel_not_found")

    def _find(self, ts: object, otherwise: str) -> dict[str, Any]:
        for message in self.messages:
            if message["ts"] == ts:
                return message
        raise _Refused(otherwise)


class SlackWebhookSink:
    """An incoming webhook.

    Args:
        path: of its URL, `/services/T.../B.../...`; its last part is the secret.
    """

    kind = "slack-webhook"

    def __init__(self, path: str) -> None:
        self._path = path

    def clear(self) -> None:
        """Nothing is kept."""

    def answer(self, request: Request) -> Answer:
        """`ok`, or one word with 400, 403 or 404."""
        if request.path != self._path:
            known = request.path.rpartition("/")[0] == self._path.rpartition("/")[0]
            return _word(403, "invalid_token") if known else _word(404, "no_service")
        try:
            payload = _arguments(request)
            # A form carries all of it in one field.
            payload = json.loads(payload["payload"]) if isinstance(payload.get("payload"), str) else payload
        except (ValueError, _Refused):
            return _word(400, "invalid_payload")
        if not isinstance(payload, dict) or request.method != "POST":
            return _word(400, "invalid_payload")
        try:
            _content(payload)
        except _Refused as refusal:
            return text_answer(400, refusal.word, payload=payload, refused="; ".join([refusal.word, *refusal.sentences]))
        return text_answer(200, "ok", payload=payload)

    def too_many(self, seconds: float) -> Answer:
        """429 with Retry-After in whole seconds."""
        return text_answer(429, "rate_limited", refused="rate_limited", headers={"Retry-After": str(max(1, round(seconds)))})


def _word(status: int, word: str) -> Answer:
    return text_answer(status, word, refused=word)


def _arguments(request: Request) -> dict[str, Any]:
    """The arguments of a call: from JSON, from a form whose blocks are JSON in text, or from the query."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind == "application/json":
        try:
            arguments = request.json()
        except ValueError:
            raise _Refused("invalid_json") from None
        if not isinstance(arguments, dict):
            raise _Refused("json_not_object")
        return arguments
    form: dict[str, Any] = {**request.query, **dict(parse_qsl(request.body.decode(errors="replace")))}
    for name in ("blocks", "attachments"):
        if name in form:
            try:
                form[name] = json.loads(form[name])
            except ValueError:
                raise _Refused("invalid_blocks_format" if name == "blocks" else "invalid_attachments") from None
    return form


def _short_enough(content: dict[str, Any]) -> dict[str, Any]:
    """What the Web API, but no webhook, asks of all blocks together."""
    if sum(map(len, texts(content.get("blocks", [])))) > _BLOCK_TEXTS:
        raise _Refused("msg_blocks_too_long")
    return content


def _content(arguments: dict[str, Any]) -> dict[str, Any]:
    """What a message shows, once it is looked at as Slack would."""
    content = {name: arguments[name] for name in ("text", "blocks", "attachments") if arguments.get(name)}
    if not content:
        raise _Refused("no_text")
    if len(str(content.get("text", ""))) > _TEXT:
        raise _Refused("msg_too_long")
    if found := problems(content.get("blocks", [])):
        raise _Refused("invalid_blocks", found)
    attachments = content.get("attachments", [])
    if not isinstance(attachments, list) or not all(isinstance(one, dict) for one in attachments):
        raise _Refused("invalid_attachments")
    if len(attachments) > _ATTACHMENTS:
        raise _Refused("too_many_attachments")
    for index, attachment in enumerate(attachments):
        found += problems(attachment.get("blocks", []), f"/attachments/{index}/blocks")
    if found:
        raise _Refused("invalid_attachments", found)
    return content
