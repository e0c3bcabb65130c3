"""Which channels the settings describe. Each channel's library is imported only where it is configured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import SecretStr

from blocks.alerts.base import Channel, Unready
from blocks.errors import SettingsError
from blocks.settings import Settings, Severity

__all__ = ["channels", "kind_of", "routing_key"]

_SLACK = ("hooks.slack.com", "hooks.slack-gov.com")
_DISCORD = ("discord.com", "discordapp.com")
_PAGERDUTY = ("events.pagerduty.com", "events.eu.pagerduty.com")


def channels(settings: Settings) -> list[Channel]:
    """Make every channel that is configured; an empty list where none is.

    A Slack bot stands before a Slack webhook: two messages for one incident help nobody. In the place of a channel that is half
    configured stands one that takes nothing and says why (`Channel.problem`): the others are not silent because of it.
    """
    found: list[Channel] = []
    if settings.slack_bot_token is not None:
        from blocks.alerts.slack import SlackBot

        token, severity = settings.slack_bot_token, settings.slack_min_severity
        found.append(
            _made(
                SlackBot,
                "slack",
                severity,
                lambda: SlackBot(
                    token,
                    settings.require("slack_channel"),
                    severity,
                    url=settings.slack_api_url,
                    buttons=settings.slack_signing_secret is not None,
                ),
            )
        )
    elif settings.slack_webhook_url is not None:
        from blocks.alerts.slack import SlackWebhook

        hook, severity = settings.slack_webhook_url, settings.slack_min_severity
        found.append(_made(SlackWebhook, "slack", severity, lambda: SlackWebhook(hook, severity)))
    if settings.discord_webhook_url is not None:
        from blocks.alerts.discord import Discord

        room, least = settings.discord_webhook_url, settings.discord_min_severity
        found.append(_made(Discord, "discord", least, lambda: Discord(room, least)))
    if settings.pagerduty_routing_key is not None:
        from blocks.alerts.pagerduty import PagerDuty

        severity = settings.pagerduty_min_severity
        found.append(PagerDuty(settings.pagerduty_routing_key, severity, url=settings.pagerduty_url))
    if settings.alert_webhook_url is not None and not _is_named_already(settings):
        found.append(_of_any_kind(settings.alert_webhook_url, settings))
    return found


def kind_of(url: str) -> Literal["slack", "discord", "pagerduty", "webhook"]:
    """Tell by its host what stands behind a webhook's URL."""
    try:
        host = (urlsplit(url).hostname or "").lower()
    except ValueError:
        return "webhook"  # one that is refused, or fails alone
    if host in _SLACK:
        return "slack"
    if host in _DISCORD or host.endswith(tuple(f".{known}" for known in _DISCORD)):
        return "discord"
    return "pagerduty" if host in _PAGERDUTY else "webhook"


def _is_named_already(settings: Settings) -> bool:
    """Whether `ALERT_WEBHOOK_URL` repeats what another setting says."""
    url = settings.alert_webhook_url
    if url in (settings.slack_webhook_url, settings.discord_webhook_url):
        return True
    assert url is not None  # noqa: S101 - asked by the caller
    return kind_of(url.get_secret_value()) == "pagerduty" and settings.pagerduty_routing_key is not None


def _of_any_kind(url: SecretStr, settings: Settings) -> Channel:
    """Make the channel of `ALERT_WEBHOOK_URL`, which is called `webhook` whatever is behind it."""
    kind, severity = kind_of(url.get_secret_value()), settings.webhook_min_severity
    name, variable = "webhook", "ALERT_WEBHOOK_URL"
    if kind == "slack":
        from blocks.alerts.slack import SlackWebhook

        return _made(SlackWebhook, name, severity, lambda: SlackWebhook(url, severity, name=name, variable=variable))
    if kind == "discord":
        from blocks.alerts.discord import Discord

        return _made(Discord, name, severity, lambda: Discord(url, severity, name=name, variable=variable))
    if kind == "pagerduty":
        from blocks.alerts.pagerduty import PagerDuty

        parts = urlsplit(url.get_secret_value())
        return _made(
            PagerDuty,
            name,
            severity,
            lambda: PagerDuty(
                routing_key(parts.path, parts.query),
                severity,
                url=f"{parts.scheme}://{parts.netloc}",
                name=name,
                variable=variable,
            ),
        )
    from blocks.alerts.webhook import Webhook

    return _made(Webhook, name, severity, lambda: Webhook(url, settings.alert_webhook_secret, severity))


def _made(like: type[Channel], name: str, severity: Severity, make: Callable[[], Channel]) -> Channel:
    """Make a channel, or what stands in its place where its settings are wrong."""
    try:
        return make()
    except SettingsError as error:
        return Unready(like, name, severity, str(error))


def routing_key(path: str, query: str) -> SecretStr:
    """Find the integration key in `.../integration/<key>/enqueue` or `...?routing_key=<key>`.

    Raises:
        SettingsError: it is in neither; PagerDuty's URL alone says nothing about whom to page.
    """
    words = path.strip("/").split("/")
    if "integration" in words[:-1]:
        return SecretStr(words[words.index("integration") + 1])
    if given := parse_qs(query).get("routing_key"):
        return SecretStr(given[0])
    raise SettingsError(
        "setting ALERT_WEBHOOK_URL: PagerDuty's URL needs an integration key; set PAGERDUTY_ROUTING_KEY as well"
    )
