"""Discord: a webhook's embeds, one colour for each severity; the first message of an incident is edited when it is over.

Limits: discord.com/developers/docs/resources/message (embeds), .../webhook (execute, edit). A webhook cannot read its channel,
so what was cut off half-way is sent again, and may show twice.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import SecretStr

from blocks.alerts.base import TIMEOUT_S, Channel, Kind, Notice, Receipt, body, clip, headline, is_over
from blocks.errors import DeliveryFailed
from blocks.secret_url import SecretUrl
from blocks.settings import Severity

__all__ = ["Discord"]

_TITLE, _DESCRIPTION, _FIELD = 256, 4096, 1024
_GREEN, _BLUE = 0x2EA043, 0x1F6FEB
_COLOURS: dict[Severity, int] = {"warning": 0xD29922, "error": 0xDB6D28, "critical": 0xDA3633}


class Discord(Channel):
    """A Discord webhook.

    Args:
        name, min_severity: see `Channel`. url: of the webhook. variable: the setting that it comes from.
    Raises:
        SettingsError: the URL is none.
    """

    def __init__(
        self, url: SecretStr, min_severity: Severity, *, name: str = "discord", variable: str = "DISCORD_WEBHOOK_URL"
    ) -> None:
        super().__init__(name, min_severity)
        self._hook = SecretUrl(url, who=name, variable=variable, timeout=TIMEOUT_S)

    def notify(self, notice: Notice) -> Receipt:
        """Post a message; before one that says that all is well, edit the first one. See `Channel.notify`."""
        if notice.thread and is_over(notice):
            self._edit(notice)  # first: it can be repeated, a message cannot
        content = _message(notice)
        answer = self._hook.checked(
            self._hook.request("POST", query={"wait": "true"}, content=content, headers={"Content-Type": "application/json"})
        )
        return Receipt(thread=notice.thread or _message_id(answer.content))

    def _edit(self, notice: Notice) -> None:
        below = f"/messages/{notice.thread}"
        answer = self._hook.request(
            "PATCH", below=below, content=_message(notice), headers={"Content-Type": "application/json"}
        )
        if answer.status_code != 404:  # somebody deleted it, which is no reason to keep quiet
            self._hook.checked(answer)


def _message(notice: Notice) -> bytes:
    # Discord counts in UTF-16; a little room is left for what counts twice there.
    embed: dict[str, Any] = {
        "title": clip(headline(notice), _TITLE - 16),
        "description": clip(body(notice), _DESCRIPTION - 96),
        "color": _colour(notice.kind, notice.severity),
        "timestamp": notice.at.isoformat(),
        "footer": {"text": clip(notice.dedup_key, 256)},
    }
    if links := notice.links.named():
        lines = [f"[{words}]({url})" for words, url in links]
        embed["fields"] = [{"name": "Links", "value": clip(" · ".join(lines), _FIELD)}]
    # Nobody is mentioned by what a database says in an error.
    return json.dumps({"embeds": [embed], "allowed_mentions": {"parse": []}}).encode()


def _colour(kind: Kind, severity: Severity) -> int:
    return {"closed": _GREEN, "acknowledged": _BLUE}.get(kind, _COLOURS[severity])


def _message_id(content: bytes) -> str:
    try:
        return str(json.loads(content)["id"])
    except (ValueError, KeyError, TypeError):
        raise DeliveryFailed(
            "discord: answered 2xx without a message, expected one with its id; is the URL that of a webhook of Discord?",
            permanent=True,
        ) from None
