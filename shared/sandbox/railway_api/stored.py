"""What everything on the platform has, and the platform's time."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

__all__ = ["Clock", "Stored", "new_id"]


def new_id() -> str:
    """An id as Railway's: a UUID."""
    return str(uuid.uuid4())


class Clock:
    """The platform's time, UTC; it can be moved on, so that a window of days passes in a test."""

    def __init__(self) -> None:
        self._ahead = timedelta()

    def now(self) -> datetime:
        """What time it is there."""
        return datetime.now(UTC) + self._ahead

    def advance(self, by: timedelta) -> None:
        """Move on."""
        self._ahead += by


@dataclass(kw_only=True)
class Stored:
    """What everything on the platform has."""

    id: str = field(default_factory=new_id)
    created_at: datetime
    updated_at: datetime = field(init=False)

    def __post_init__(self) -> None:
        self.updated_at = self.created_at
