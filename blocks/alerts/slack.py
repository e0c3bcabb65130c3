"""Slack through slack-sdk: a bot with one message an incident and its thread, or an incoming webhook.

**Bot** (scopes `chat:write`, `channels:history`, for a private channel `groups:history`): the first message is updated when the
incident escalates or closes, everything after it is a reply in its thread; an escalation and a recovery show in the channel.
What was cut off half-way is looked for in the channel's history before it is sent again, by an id that the message carries.

**Incoming webhook**: a message each. It can read nothing back, so what was cut off half-way is sent again, and may show twice.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from pydantic import SecretStr
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.webhook import WebhookClient

from blocks.alerts import slack_message
from blocks.alerts.base import TIMEOUT_S, Channel, Notice, Receipt
from blocks.errors import DeliveryFailed, SettingsError
from blocks.secret_url import judge
from blocks.settings import Severity

__all__ = ["SlackBot", "SlackWebhook"]

_PASSING = {
    "ratelimited",
    "rate_limited",
    "internal_error",
    "fatal_error",
    "service_unavailable",
    "request_timeout",
    "team_added_to_org",
}
"""Slack's words, with status 200, for what will pass."""
_NO_THREAD = {"invalid_thread_ts", "thread_not_found", "cannot_reply_to_message", "message_not_found"}
_NOT_EDITABLE = {"message_not_found", "cant_update_message", "edit_window_closed"}
_PAGES, _PER_PAGE = 5, 200
_SKEW = timedelta(minutes=2)
"""How far this clock and Slack's may be apart."""

_QUIET = logging.Logger("slack", level=logging.CRITICAL)
"""slack-sdk logs URLs and bodies at the debug level of the logger that it is given, and errors that are raised as well."""


class SlackBot(Channel):
    """A bot in one channel.

    Args:
        name, min_severity: see `Channel`. token: `xoxb-...`. channel: its id. url: of Slack's API.
        buttons: the gateway hears of them, so messages have some.
    """

    def __init__(
        self,
        token: SecretStr,
        channel: str,
        min_severity: Severity,
        *,
        url: str = "https://slack.com/api/",
        name: str = "slack",
        buttons: bool = False,
    ) -> None:
        super().__init__(name, min_severity)
        self._buttons = buttons
        self._token = token
        self._channel = channel
        self._url = f"{url.rstrip('/')}/"

    def notify(self, notice: Notice) -> Receipt:
        """Post the first message, or update it and reply in its thread. See `Channel.notify`."""
        if notice.thread and notice.kind in ("escalated", "acknowledged", "closed"):
            self._update(notice)  # first: it can be repeated, a reply cannot
        content = {"text": slack_message.text(notice), "blocks": self._blocks(notice, notice.id)}
        if not notice.thread:
            return Receipt(thread=self._post(content))
        loud = notice.kind in ("escalated", "closed")
        try:
            self._post({**content, "thread_ts": notice.thread, "reply_broadcast": loud})
        except _Refused as refused:
            if refused.word not in _NO_THREAD:
                raise
            return Receipt(thread=self._post(content))  # somebody deleted the first message
        return Receipt(thread=notice.thread)

    def find(self, notice: Notice, since: datetime) -> Receipt | None:
        """Look in the channel, or in the incident's thread, for the message with this notice's id. See `Channel.find`."""
        try:
            for message in self._messages(notice.thread, since):
                if slack_message.has_id(message, notice.id):
                    return Receipt(thread=notice.thread or str(message["ts"]))
        except _Refused:
            return None  # it lacks the scope, or the thread is gone: rather twice than not at all
        return None

    def _update(self, notice: Notice) -> None:
        """Let the first message say how things stand now."""
        try:
            self._call(
                "chat.update",
                {
                    "ts": notice.thread,
                    "text": slack_message.text(notice),
                    "blocks": self._blocks(notice, f"{notice.kind}-{notice.thread}"),
                },
            )
        except _Refused as refused:
            if refused.word not in _NOT_EDITABLE:
                raise

    def _blocks(self, notice: Notice, block_id: str) -> list[dict[str, Any]]:
        found = slack_message.blocks(notice, block_id=block_id)
        return [*found, *slack_message.buttons(notice)] if self._buttons else found

    def _post(self, content: dict[str, Any]) -> str:
        return str(self._call("chat.postMessage", {"unfurl_links": False, "unfurl_media": False, **content})["ts"])

    def _messages(self, thread: str, since: datetime) -> Iterator[dict[str, Any]]:
        method = "conversations.replies" if thread else "conversations.history"
        query = {"limit": str(_PER_PAGE), "oldest": f"{(since - _SKEW).timestamp():.6f}", **({"ts": thread} if thread else {})}
        for _ in range(_PAGES):
            page = self._call(method, query, is_read=True)
            yield from page.get("messages") or []
            cursor = (page.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return
            query["cursor"] = cursor

    def _call(self, method: str, arguments: dict[str, Any], *, is_read: bool = False) -> dict[str, Any]:
        """Call a method; returns what Slack said.

        Raises:
            DeliveryFailed: it did not do it. `_Refused` where it said so with a word of its own.
        """
        token = self._token.get_secret_value()
        client = WebClient(token, base_url=self._url, timeout=_SECONDS, logger=_QUIET, retry_handlers=[])
        client.proxy = None  # urllib finds the environment's by itself, and heeds NO_PROXY, which slack-sdk does not
        arguments = {"channel": self._channel, **arguments}
        sent = {"params": arguments, "http_verb": "GET"} if is_read else {"json": arguments}
        try:
            answer = client.api_call(method, **sent)
        except SlackApiError as error:
            raise _failure(self.name, method, error) from None
        except Exception as error:  # noqa: BLE001 - urllib's, http.client's, ssl's and socket's: none is ours to tell apart
            raise _unanswered(self.name, error) from None
        data: Any = answer.data
        return dict(data)


class SlackWebhook(Channel):
    """An incoming webhook.

    Args:
        name, min_severity: see `Channel`. url: of the webhook. variable: the setting that it comes from.
    Raises:
        SettingsError: the URL is none.
    """

    def __init__(
        self, url: SecretStr, min_severity: Severity, *, name: str = "slack", variable: str = "SLACK_WEBHOOK_URL"
    ) -> None:
        super().__init__(name, min_severity)
        if not url.get_secret_value().startswith(("http://", "https://")):
            raise SettingsError(f"setting {variable}: expected https://hooks.slack.com/services/...; correct it")
        self._url = url
        self._variable = variable

    def notify(self, notice: Notice) -> Receipt:
        """Post a message. See `Channel.notify`."""
        client = WebhookClient(self._url.get_secret_value(), timeout=_SECONDS, logger=_QUIET, retry_handlers=[])
        client.proxy = None  # as above
        try:
            answer = client.send(
                text=slack_message.text(notice),
                blocks=slack_message.blocks(notice, block_id=notice.id),
                unfurl_links=False,
                unfurl_media=False,
            )
        except Exception as error:  # noqa: BLE001 - as above
            raise _unanswered(self.name, error) from None
        judge(self.name, self._variable, answer.status_code, answer.headers, said=_word(answer.body))
        return Receipt()


_SECONDS = int(TIMEOUT_S)


class _Refused(DeliveryFailed):
    """Slack answered, with a word for why not."""

    def __init__(self, message: str, word: str, *, permanent: bool) -> None:
        super().__init__(message, permanent=permanent)
        self.word = word


def _failure(name: str, method: str, error: SlackApiError) -> DeliveryFailed:
    """What an answer other than `ok` means."""
    response: Any = error.response
    word = _word(str(response.get("error") or ""))
    try:
        if response.status_code != 200:
            judge(name, "SLACK_BOT_TOKEN", response.status_code, response.headers, said=word)
    except DeliveryFailed as failed:
        return failed
    if word in _PASSING:
        return DeliveryFailed(f"{name}: {method} answered {word}; tried again with the next sweep", permanent=False)
    message = (
        f"{name}: {method} answered {word or 'not ok'}, expected ok; correct SLACK_BOT_TOKEN, SLACK_CHANNEL or the bot's scopes"
    )
    return _Refused(message, word, permanent=True)


def _unanswered(name: str, error: Exception) -> DeliveryFailed:
    """What no answer means; the reason is in urllib's error, its text may have anything."""
    cause = getattr(error, "reason", error)
    kind = type(cause if isinstance(cause, BaseException) else error).__name__
    certain = isinstance(cause, ConnectionRefusedError) or kind == "gaierror"
    return DeliveryFailed(f"{name}: no answer ({kind}); tried again with the next sweep", uncertain=not certain)


def _word(text: str) -> str:
    """Slack's word, `invalid_auth` for example; nothing else of its answer is shown."""
    return text if text.replace("_", "").isalnum() and len(text) <= 60 else ""
