"""Alerts that arrive: nothing is lost over a restart, and nothing sent twice where the channel allows to tell.

What happened is taken down (`owe`) and saved together with the judgement that found it; then it is sent, and each sending is
noted before it begins and after it has ended. A process that dies between the two leaves a message that may have arrived. Then:

- PagerDuty and the generic webhook: it is sent again, under the same dedup key and Idempotency-Key: shown once.
- Slack with a bot: it is looked for in the channel's history by its id, and only sent when it is not there.
- Slack's incoming webhook and Discord cannot be asked: it is sent again, so **a duplicate is possible there**, only there, and
  only when the process died, or the connection broke, between the sending and the answer.

The rules of who hears what are in `owing.py`; they are pure. Channels are spoken to at the same time, each at its own pace and
each message once a sweep: a channel that hangs costs one time-out, and holds up no other.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

from blocks.alerts.base import Channel, Links, Receipt
from blocks.errors import DeliveryFailed
from flows.health.incidents import Happening
from flows.health.ledger import Outbox
from flows.health.owing import Due, begun, delivered, due, failed, owe, tidied
from flows.report import logger

__all__ = ["Outbox", "deliver", "deliver_async", "owe"]

BUDGET_S = 8.0
"""After so many seconds no further message is begun; the rest is for the next sweep."""


def deliver(
    outbox: Outbox,
    happenings: Sequence[Happening],
    channels: Sequence[Channel],
    links: Links,
    now: datetime,
    save: Callable[[Outbox], None],
    *,
    budget_s: float = BUDGET_S,
) -> Outbox:
    """Take down what happened and send what is owed.

    Args:
        happenings: new ones, in order; what `owe` took down before changes nothing.
        channels: all that are configured; their names tell them apart.
        links: to put into the messages.
        now: the time of the sweep.
        save: keeps an outbox where it survives this process; called before messages are sent and after.
    Returns: what is owed now; the same was saved last.
    Raises: what `save` raises; then nothing was sent that is not noted.
    """
    by_name = {channel.name: channel for channel in channels}
    saved, outbox = outbox, owe(outbox, happenings, channels)
    willing, deadline = list(by_name), time.monotonic() + budget_s
    while willing and time.monotonic() < deadline and (batch := due(outbox, willing, now)):
        outbox = begun(outbox, batch, now)
        if outbox != saved:
            save(outbox)
            saved = outbox
        for one, result in zip(batch, _send_together(batch, by_name, links), strict=True):
            if isinstance(result, DeliveryFailed):
                logger().warning("%s", f"alert {one.owed.id} did not reach {one.channel}: {result}")
                outbox = failed(outbox, one, result, now, channels)
                if not result.permanent:
                    willing.remove(one.channel)
            else:
                outbox = delivered(outbox, one, result, now)
    outbox = tidied(outbox, list(by_name), now)
    if outbox != saved:
        save(outbox)
    return outbox


async def deliver_async(
    outbox: Outbox,
    happenings: Sequence[Happening],
    channels: Sequence[Channel],
    links: Links,
    now: datetime,
    save: Callable[[Outbox], Awaitable[None]],
) -> Outbox:
    """`deliver` for async flows: the channels are spoken to in threads, and `save` is awaited in this event loop."""
    loop = asyncio.get_running_loop()

    def saved(present: Outbox) -> None:
        asyncio.run_coroutine_threadsafe(_awaited(save(present)), loop).result()

    return await asyncio.to_thread(deliver, outbox, happenings, channels, links, now, saved)


async def _awaited(saving: Awaitable[None]) -> None:
    await saving


def _send_together(
    batch: Sequence[Due], channels: Mapping[str, Channel], links: Links
) -> list[Receipt | DeliveryFailed | None]:
    """Send one message to each channel at the same time; what went wrong is returned, not raised."""
    with ThreadPoolExecutor(max_workers=len(batch), thread_name_prefix="alerts") as pool:
        return list(pool.map(lambda one: _send(channels[one.channel], one, links), batch))


def _send(channel: Channel, one: Due, links: Links) -> Receipt | DeliveryFailed | None:
    try:
        notice = one.case.notice(one.channel, one.owed, links)
        if one.owed.begun is not None and not channel.repeatable:
            found = channel.find(notice, one.owed.begun)
            if found is not None or one.owed.look_only:
                return found
        return channel.notify(notice)
    except DeliveryFailed as error:
        return error
    except Exception as error:  # noqa: BLE001 - a channel fails alone, also by a mistake of ours
        return DeliveryFailed(f"{channel.name}: {type(error).__name__} while the message was sent", uncertain=True)
