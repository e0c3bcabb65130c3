"""When a verdict is an incident, and how often people hear of it. Numbers only: no clock, no network."""

from __future__ import annotations

from datetime import timedelta
from itertools import pairwise
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from blocks.settings import Settings

__all__ = ["Policy"]


class Policy(BaseModel):
    """The numbers of the judgement.

    Damping of flapping follows Nagios: the changes among the last `flap_window` results are counted, the latest weighing half
    as much again as the oldest; above `flap_high` the service flaps, and stops only below `flap_low`.
    """

    model_config = ConfigDict(frozen=True)

    failure_threshold: int = Field(default=3, ge=1, description="So many bad sweeps in a row open an incident")
    recovery_threshold: int = Field(default=2, ge=1, description="So many good sweeps in a row close it")
    cooldown: timedelta = Field(default=timedelta(minutes=15), description="Between two reminders, at first")
    escalate_after: timedelta = Field(default=timedelta(minutes=30), description="An incident open for so long is escalated")
    blind_after: timedelta = Field(default=timedelta(minutes=15), description="Unknown for so long counts as bad")
    flap_window: int = Field(default=20, ge=5, description="Changes among so many results are counted")
    flap_high: float = Field(default=0.25, gt=0, le=1, description="Flapping begins at this share of changes")
    flap_low: float = Field(default=0.2, gt=0, le=1, description="and ends below this one")
    steady_reminders: int = Field(default=4, ge=0, description="So many reminders come each after one cooldown")
    slowest_reminder: int = Field(default=16, ge=1, description="Later pauses double, to at most so many cooldowns")
    missing_sweeps: int = Field(default=20, ge=1, description="An aspect not looked at for so many sweeps is given up")
    closed_kept: int = Field(default=10, ge=0, description="So many closed incidents are remembered")

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        """Take the numbers that the environment sets; the others are as above."""
        return cls(
            failure_threshold=settings.failure_threshold,
            recovery_threshold=settings.recovery_threshold,
            cooldown=timedelta(seconds=settings.alert_cooldown),
            escalate_after=timedelta(seconds=settings.escalate_after),
            blind_after=timedelta(seconds=settings.blind_after),
        )

    def pause(self, reminders: int) -> timedelta:
        """How long after the last word about an incident the next reminder is due.

        Args:
            reminders: how many there were.
        """
        doublings = max(reminders - self.steady_reminders + 1, 0)
        return self.cooldown * min(1 << min(doublings, 16), self.slowest_reminder)

    def change_share(self, results: str) -> float:
        """Weigh the changes among results, oldest first, one character each.

        Returns: 0 for none, 1 for a change at every one. Results that there are not yet count as no change.
        """
        span = self.flap_window - 1
        recent = results[-self.flap_window :]
        changes = [before != after for before, after in pairwise(recent)]
        offset = span - len(changes)
        weights = (0.8 + 0.4 * (offset + place) / max(span - 1, 1) for place, changed in enumerate(changes) if changed)
        return sum(weights) / span
