"""`python -m blocks.alerts --test`: send one test message to each channel that is configured, and say what came of it."""

from __future__ import annotations

import argparse
import secrets
import sys
from datetime import UTC, datetime

from rich.console import Console

from blocks.alerts.base import Channel, Links, Notice
from blocks.alerts.configured import channels
from blocks.errors import DeliveryFailed, SettingsError
from blocks.settings import Settings


def main(arguments: list[str] | None = None) -> int:
    """List the channels, or test them. A test opens something and closes it again, on a pager too, which wakes somebody up.

    Returns: exit status: 0, or 1 with one line for each channel that did not take it or is half configured.
    """
    parser = argparse.ArgumentParser(prog="python -m blocks.alerts", description=__doc__)
    parser.add_argument("--test", action="store_true", help="send a test message to each; without it they are only listed")
    parser.add_argument("--only", metavar="NAME", help="one channel, for example slack")
    options = parser.parse_args(arguments)
    out, err = Console(soft_wrap=True), Console(stderr=True, soft_wrap=True, style="red")
    try:
        settings = Settings.load()
        found = [channel for channel in channels(settings) if options.only in (None, channel.name)]
    except SettingsError as error:
        err.print(str(error), markup=False, highlight=False)
        return 1
    if not found:
        words = f"no channel is called {options.only}" if options.only else "no channel is configured"
        err.print(f"{words}; set SLACK_..., DISCORD_..., PAGERDUTY_... or ALERT_WEBHOOK_URL", markup=False, highlight=False)
        return 1
    failed = False
    for channel in found:
        if channel.problem:
            failed = True
            err.print(f"{channel.name}: {channel.problem}", markup=False, highlight=False)
            continue
        state = f"hears of incidents from {channel.min_severity} on"
        if options.test:
            try:
                _test(channel, settings)
                state = "took a test message, and its end"
            except DeliveryFailed as error:
                failed = True
                err.print(str(error), markup=False, highlight=False)
                continue
        out.print(f"{channel.name}: {state}", markup=False, highlight=False)
    return 1 if failed else 0


def _test(channel: Channel, settings: Settings) -> None:
    now, key = datetime.now(UTC), f"{settings.stack_name}/test/{secrets.token_hex(6)}"
    opened = Notice(
        id=f"{key}/opened/1",
        dedup_key=key,
        kind="opened",
        stack=settings.stack_name,
        service="test",
        aspect="delivery",
        severity=channel.min_severity,
        sentence="This is a test: alerts of this stack arrive here. Nothing is wrong.",
        at=now,
        opened_at=now,
        links=Links(status=settings.gateway_url),
    )
    thread = channel.notify(opened).thread
    channel.notify(
        opened.model_copy(update={"id": f"{key}/closed/1", "kind": "closed", "closed_at": datetime.now(UTC), "thread": thread})
    )


if __name__ == "__main__":
    sys.exit(main())
