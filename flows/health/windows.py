"""Maintenance windows: while one is open, its services open no incidents and nobody is reminded of those that are open."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

__all__ = ["ALL", "LONGEST", "Window", "during", "muted_services", "parse"]

ALL = "all"
"""In place of names: every service."""

LONGEST = timedelta(days=7)
"""A window for longer is a watch that was switched off and forgotten."""


class Window(BaseModel):
    """Planned work.

    Attributes:
        id: names it, for ending it early. begins_at, ends_at: it is open from the one until before the other.
        run_id: of the flow run that opened it for its own work, and with which it is over; empty where a person did.
    """

    model_config = ConfigDict(frozen=True)

    id: str = Field(min_length=1, max_length=64)
    services: tuple[str, ...] = Field(min_length=1, description="Names of services, or `all`")
    begins_at: AwareDatetime
    ends_at: AwareDatetime
    reason: str = Field(default="", max_length=200)
    who: str = Field(default="", max_length=100)
    run_id: str = Field(default="", max_length=36)

    @model_validator(mode="after")
    def _ends(self) -> Window:
        if not self.begins_at < self.ends_at <= self.begins_at + LONGEST:
            raise ValueError(f"expected an end after the beginning, at most {LONGEST.days} days later")
        return self

    def is_open(self, now: datetime) -> bool:
        """Say whether it is open now."""
        return self.begins_at <= now < self.ends_at

    def covers(self, service: str) -> bool:
        """Say whether a service is among its services."""
        return ALL in self.services or service in self.services


def muted_services(windows: Iterable[Window], services: Iterable[str], now: datetime) -> frozenset[str]:
    """Which of these services have a window open now."""
    open_now = [window for window in windows if window.is_open(now)]
    return frozenset(service for service in services if any(window.covers(service) for window in open_now))


def during(windows: Iterable[Window], begun: datetime, now: datetime) -> list[Window]:
    """Return windows as they count for what was seen between two moments: one that was open in between is open at the end.

    What was seen while a window was open is excused also where it ended before the sweep did.

    Args:
        windows: as they were read at both moments; one that is there twice counts once. begun, now: of a sweep.
    """
    found: dict[str, Window] = {}
    for window in windows:
        overlaps = window.begins_at <= now and begun < window.ends_at
        later = max(window.ends_at, now + timedelta(seconds=1))
        found[window.id] = window.model_copy(update={"ends_at": later}) if overlaps else window
    return list(found.values())


def parse(value: object) -> tuple[list[Window], list[str]]:
    """Read windows as they are kept, which a person may have edited.

    Args:
        value: a list of objects; None stands for none.
    Returns: the windows, and one line for each entry that is none. A damaged entry mutes nothing.
    """
    if value is None:
        return [], []
    if not isinstance(value, list):
        return [], [f"maintenance windows: expected a list, found {type(value).__name__}; none is in force"]
    windows: list[Window] = []
    problems: list[str] = []
    for number, entry in enumerate(value):
        try:
            windows.append(Window.model_validate(entry))
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "as a whole"
            problems.append(f"maintenance window {number}: {where}: {first['msg']}; it is not in force")
    return windows, problems
