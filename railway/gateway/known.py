"""What the gateway knows: published by sweeps, read from the store, and how the last look at both went."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from flows.health.history import Day
from flows.health.published import Published

__all__ = ["Known"]


@dataclass(frozen=True)
class Known:
    """What was found out at the last refresh.

    Attributes:
        published: None where no sweep has published anything yet.
        days: of the history, with what is not in the store yet.
        source_failed, history_failed: why the last look did not succeed, empty when it did. seen_at: of the last good look.
    """

    published: Published | None = None
    days: Mapping[date, Day] = field(default_factory=dict)
    source_failed: str = ""
    history_failed: str = ""
    seen_at: datetime | None = None
