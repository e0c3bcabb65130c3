"""Channels in memory that fail, lose answers and outlive the sender's death as they are told: for properties over many weeks.

The real channels are tested against sinks in tests/alerts; here it is the order and the number of messages that counts.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime
from typing import Literal

from blocks.alerts import Channel, Notice, Receipt
from blocks.errors import DeliveryFailed
from blocks.settings import Severity

__all__ = ["Asked", "Deaf", "Died", "Mailbox", "Mood", "Pager"]

Mood = Literal["fine", "refuses now", "lost answer", "no connection", "refuses", "dies before", "dies after"]


class Died(BaseException):
    """The process that sends is killed here."""


class Mailbox(Channel):
    """Keeps what arrives.

    Attributes:
        got: notices in the order in which they arrived, repetitions too. moods: of the next tries; fine when there are no more.
        tries: how often it was spoken to. asked: how often it was asked what has arrived.
    """

    def __init__(self, name: str, min_severity: Severity = "warning") -> None:
        super().__init__(name, min_severity)
        self.got: list[Notice] = []
        self.moods: deque[Mood] = deque()
        self.tries = self.asked = 0
        self.lost_answers = 0

    def notify(self, notice: Notice) -> Receipt:
        self.tries += 1
        mood = self.moods.popleft() if self.moods else "fine"
        if mood == "dies before":
            raise Died
        if mood == "no connection":
            raise DeliveryFailed(f"{self.name}: no connection")
        if mood == "refuses now":
            raise DeliveryFailed(f"{self.name}: 429", retry_after=90)
        if mood == "refuses":
            raise DeliveryFailed(f"{self.name}: 404", permanent=True)
        self.got.append(notice)
        if mood == "fine":
            return Receipt(thread=notice.thread or f"ts-{len(self.got)}")
        self.lost_answers += 1
        if mood == "dies after":
            raise Died
        raise DeliveryFailed(f"{self.name}: no answer", uncertain=True)

    def ids(self, key: str) -> list[str]:
        """`<kind>/<ordinal>` of what arrived about an incident, in order; what a person sees twice is there twice."""
        return [notice.id.removeprefix(f"{key}/") for notice in self.got if notice.dedup_key == key]


class Asked(Mailbox):
    """As Slack with a bot: it can be asked what has arrived."""

    def find(self, notice: Notice, since: datetime) -> Receipt | None:
        self.asked += 1
        for number, one in enumerate(self.got, 1):
            if one.id == notice.id:
                return Receipt(thread=notice.thread or f"ts-{number}")
        return None


class Pager(Mailbox):
    """As PagerDuty: a repetition shows once."""

    repeatable = True
    pages = True

    def ids(self, key: str) -> list[str]:
        return list(dict.fromkeys(super().ids(key)))


class Deaf(Mailbox):
    """As Discord: it cannot be asked, and a repetition shows."""
