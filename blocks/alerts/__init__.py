"""Ways to people: Slack, Discord, PagerDuty, any webhook. One class a channel, one verb: `notify`.

    for channel in channels(Settings.load()):
        channel.notify(notice)

To add a channel: a module with a class below `Channel`, and a line in `channels`.
"""

from __future__ import annotations

from blocks.alerts.base import Channel, Kind, Links, Notice, Receipt
from blocks.alerts.configured import channels

__all__ = ["Channel", "Kind", "Links", "Notice", "Receipt", "channels"]
