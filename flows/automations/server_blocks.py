"""The notification blocks through which the Prefect server tells by itself, made from the same settings as the channels.

Secrets are in the blocks, never in the automations. For the real Slack and Discord webhooks Prefect's own blocks are used,
because the custom one names the URL, which is the secret there, in the server's log when it fails. The generic webhook is
called unsigned: Prefect cannot compute a signature; `X-Alert-Source: prefect-server` says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.notifications import CustomWebhookNotificationBlock, DiscordWebhook, SlackWebhook
from prefect.types import SecretDict
from pydantic import SecretStr

from blocks.alerts.configured import kind_of, routing_key
from blocks.errors import SettingsError
from blocks.settings import Settings

__all__ = ["ServerBlock", "server_blocks"]

_TIMEOUT_S = 10.0


class ServerBlock(NamedTuple):
    """One block.

    Attributes:
        channel: as the channel is called; ends: it says that something is over. name: of the block document.
    """

    channel: str
    name: str
    block: NotificationBlock
    ends: bool = False


def server_blocks(settings: Settings) -> Iterator[ServerBlock]:
    """Yield the blocks for every channel that is configured, in the same choice as `blocks.alerts.channels`.

    Raises:
        SettingsError: a channel is half configured.
    """
    if settings.slack_bot_token is not None:
        yield _made(settings, "slack", _slack_bot(settings, settings.slack_bot_token))
    elif settings.slack_webhook_url is not None:
        yield _made(settings, "slack", _slack_webhook(settings.slack_webhook_url))
    if settings.discord_webhook_url is not None:
        yield _made(settings, "discord", _discord(settings.discord_webhook_url))
    if settings.pagerduty_routing_key is not None:
        yield from _pagerduty(settings, "pagerduty", settings.pagerduty_routing_key, settings.pagerduty_url)
    url = settings.alert_webhook_url
    if url is not None and url not in (settings.slack_webhook_url, settings.discord_webhook_url):
        yield from _of_any_kind(settings, url)


def _of_any_kind(settings: Settings, url: SecretStr) -> Iterator[ServerBlock]:
    kind, parts = kind_of(url.get_secret_value()), urlsplit(url.get_secret_value())
    if kind == "slack":
        yield _made(settings, "webhook", _slack_webhook(url))
    elif kind == "discord":
        yield _made(settings, "webhook", _discord(url))
    elif kind == "webhook":
        yield _made(settings, "webhook", _generic(settings, url))
    elif settings.pagerduty_routing_key is None:
        key = routing_key(parts.path, parts.query)
        yield from _pagerduty(settings, "webhook", key, f"{parts.scheme}://{parts.netloc}")


def _made(settings: Settings, channel: str, block: NotificationBlock) -> ServerBlock:
    return ServerBlock(channel, f"{settings.stack_name}-watch-{channel}", block)


def _slack_bot(settings: Settings, token: SecretStr) -> NotificationBlock:
    return _custom(
        f"{settings.slack_api_url.rstrip('/')}/chat.postMessage",
        {"channel": settings.require("slack_channel"), "text": "*{{subject}}*\n{{body}}"},
        {"token": token},
        headers={"Authorization": "Bearer {{token}}", "Content-Type": "application/json; charset=utf-8"},
    )


def _slack_webhook(url: SecretStr) -> NotificationBlock:
    if kind_of(url.get_secret_value()) == "slack":
        return SlackWebhook(url=url)
    return _custom("{{url}}", {"text": "*{{subject}}*\n{{body}}"}, {"url": url})


def _discord(url: SecretStr) -> NotificationBlock:
    words = urlsplit(url.get_secret_value()).path.strip("/").split("/")
    if kind_of(url.get_secret_value()) == "discord":
        if "webhooks" not in words or len(words) < words.index("webhooks") + 3:
            raise SettingsError(
                "setting DISCORD_WEBHOOK_URL: expected https://discord.com/api/webhooks/<id>/<token>; correct it"
            )
        webhook_id, token = words[words.index("webhooks") + 1 :][:2]
        return DiscordWebhook(webhook_id=SecretStr(webhook_id), webhook_token=SecretStr(token))
    embed = {"title": "{{subject}}", "description": "{{body}}", "color": 0xDA3633}
    return _custom("{{url}}", {"embeds": [embed], "allowed_mentions": {"parse": []}}, {"url": url})


def _pagerduty(settings: Settings, channel: str, key: SecretStr, url: str) -> Iterator[ServerBlock]:
    """Two: one opens an alert whose dedup key is the subject, the other ends the alert of the subject."""
    endpoint, name = f"{url.rstrip('/')}/v2/enqueue", f"{settings.stack_name}-watch-{channel}"
    event = {"routing_key": "{{key}}", "dedup_key": "{{subject}}", "client": settings.stack_name}
    payload = {
        "summary": "{{subject}}: {{body}}",
        "source": settings.stack_name,
        "severity": "critical",
        "component": "prefect",
    }
    yield ServerBlock(channel, name, _custom(endpoint, {**event, "event_action": "trigger", "payload": payload}, {"key": key}))
    resolving = _custom(endpoint, {**event, "event_action": "resolve"}, {"key": key})
    yield ServerBlock(channel, f"{name}-end", resolving, ends=True)


def _generic(settings: Settings, url: SecretStr) -> NotificationBlock:
    said = {"version": 1, "kind": "watch", "stack": settings.stack_name, "dedup_key": "{{subject}}", "sentence": "{{body}}"}
    return _custom(
        "{{url}}", {**said, "text": "{{subject}}\n{{body}}"}, {"url": url}, headers={"X-Alert-Source": "prefect-server"}
    )


def _custom(
    url: str, json_data: dict[str, Any], secrets: dict[str, SecretStr], *, headers: dict[str, str] | None = None
) -> NotificationBlock:
    return CustomWebhookNotificationBlock(
        name="stack-operations",
        url=url,
        method="POST",
        json_data=json_data,
        headers=headers,
        timeout=_TIMEOUT_S,
        secrets=SecretDict({name: secret.get_secret_value() for name, secret in secrets.items()}),
    )
