"""The watch in the demo: a service is stopped for real, people hear of one incident, it comes back, and they hear of that."""

from __future__ import annotations

from collections.abc import Callable

from shared.sandbox.alert_sinks import AlertSinks
from shared.sandbox.report import Done

__all__ = ["WatchFailed", "watch_an_incident"]

MOST_SWEEPS = 6
"""An incident opens with the third bad sweep and closes with the second good one; a busy machine may cost one more."""


class WatchFailed(Exception):
    """The watch did not do what it claims."""


def watch_an_incident(
    stop: Callable[[], None], start: Callable[[], None], sweep: Callable[[], str], sinks: AlertSinks, service: str
) -> Done:
    """Stop a service, sweep until everybody was told, start it, sweep until everybody was told that it is over.

    Args:
        stop, start: the service, for real. sweep: runs `health/sweep`; returns its artifact.
        sinks: where Slack, Discord, PagerDuty and the webhook are. service: its name.
    Raises:
        WatchFailed: an alert is missing, or there is one too many.
    """
    shown = sweep()
    sinks.clear()
    stop()
    try:
        opened = _sweeps(sweep, lambda: bool(sinks.pagerduty.pages), f"an incident of {service}")
    finally:
        start()
    told = _open_everywhere(sinks, service)
    closed = _sweeps(sweep, lambda: all(one.state == "resolved" for one in sinks.pagerduty.alerts.values()), "its end")
    _closed_everywhere(sinks, told)
    services = shown.count(" up |")
    return Done(
        f"{services} services up; {service} stopped: one incident after {opened} sweeps, told to {', '.join(sorted(told))}; "
        f"started again: closed everywhere after {closed}"
    )


def _sweeps(sweep: Callable[[], str], condition: Callable[[], bool], what: str) -> int:
    for number in range(1, MOST_SWEEPS + 1):
        shown = sweep()
        if condition():
            return number
    raise WatchFailed(f"{MOST_SWEEPS} sweeps, and {what} was not told; the last one saw:\n{shown}")


def _counts(sinks: AlertSinks) -> dict[str, int]:
    return {
        "Slack": len([message for message in sinks.slack.messages if not message.get("thread_ts")]),
        "Discord": len(sinks.discord.messages),
        "PagerDuty": len(sinks.pagerduty.pages),
        "the webhook": len(sinks.received("webhook")),
    }


def _open_everywhere(sinks: AlertSinks, service: str) -> dict[str, int]:
    told = _counts(sinks)
    wrong = {channel: count for channel, count in told.items() if count != 1}
    if wrong:
        raise WatchFailed(f"{service} was stopped once, and the channels got {wrong}, expected one message each")
    return told


def _closed_everywhere(sinks: AlertSinks, told: dict[str, int]) -> None:
    now = _counts(sinks)
    if (now["Slack"], now["PagerDuty"]) != (told["Slack"], told["PagerDuty"]):
        raise WatchFailed(f"one incident became several messages or pages: {now}")
    replies = [message for message in sinks.slack.messages if message.get("thread_ts")]
    if not replies or now["the webhook"] < 2:
        raise WatchFailed(
            f"the end was not told: {len(replies)} replies in Slack's thread, webhook called {now['the webhook']} times"
        )
