"""The two pictures of a service, as numbers that the template draws: ninety days of uptime, a day of latency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from flows.health.history import DAYS, SLOTS, Day, ServiceDay, day_range, percentile

__all__ = ["DayBar", "Latency", "day_bars", "latency", "uptime"]

WIDTH, HEIGHT = 288.0, 40.0
"""Of the sparkline, in its own units: three a quarter of an hour."""

_NOTICEABLE = 60.0
"""Seconds in a day that are worth a colour."""


@dataclass(frozen=True)
class DayBar:
    """One day of a service.

    Attributes:
        kind: up, degraded, partial, down, maintenance or none: a class of the style sheet. text: what it says in words.
        perfect: there is nothing to tell about it.
    """

    date: date
    kind: str
    text: str
    perfect: bool


@dataclass(frozen=True)
class Latency:
    """A day of latency.

    Attributes:
        lines: of the sparkline, each the points of one polyline. median, p95: of the whole day, ms. highest: of a quarter, ms.
    """

    lines: list[str]
    median: float
    p95: float
    highest: float


def day_bars(days: Mapping[date, Day], service: str, today: date) -> list[DayBar]:
    """Return the last ninety days of a service, oldest first."""
    return [_bar(day, days[day].services.get(service) if day in days else None) for day in day_range(today)]


def uptime(days: Mapping[date, Day], service: str, today: date) -> float | None:
    """Return the share of ninety days in which it was not down, None where nothing is known."""
    total: dict[str, float] = {}
    for day, found in days.items():
        if today - timedelta(days=DAYS) < day <= today and service in found.services:
            for word, seconds in found.services[service].seconds.items():
                total[word] = total.get(word, 0) + seconds
    return ServiceDay(seconds=total).uptime


def latency(days: Mapping[date, Day], service: str, now: datetime) -> Latency | None:
    """Return the last day's latency of a service by quarters of an hour, None where none was measured."""
    quarters = _quarters(days, service, now)
    all_of_them: dict[int, int] = {}
    for classes in quarters:
        for index, count in classes.items():
            all_of_them[index] = all_of_them.get(index, 0) + count
    medians = [percentile(classes, 0.5) for classes in quarters]
    highest = max((value for value in medians if value is not None), default=0.0)
    middle, high = percentile(all_of_them, 0.5), percentile(all_of_them, 0.95)
    if middle is None or high is None:
        return None
    return Latency(_lines(medians, highest), middle, high, highest)


def _quarters(days: Mapping[date, Day], service: str, now: datetime) -> list[Mapping[int, int]]:
    """Return the latencies of the last 96 quarters, the one that is under way at the end."""
    moment = now.astimezone(UTC)
    found: list[Mapping[int, int]] = []
    for back in range(SLOTS - 1, -1, -1):
        at = moment - timedelta(minutes=15 * back)
        day = days.get(at.date())
        of = day.services.get(service) if day else None
        found.append(of.latency.get(at.hour * 4 + at.minute // 15, {}) if of else {})
    return found


def _lines(values: Sequence[float | None], highest: float) -> list[str]:
    """Draw values as polylines, broken where there are none; a lone point becomes a short stroke."""
    lines: list[list[str]] = [[]]
    for place, value in enumerate(values):
        if value is None:
            lines.append([])
            continue
        x = (place + 0.5) * WIDTH / len(values)
        y = HEIGHT - 3 - (HEIGHT - 6) * value / highest
        if not lines[-1]:
            lines[-1].append(f"{x - 1:.1f},{y:.1f}")
        lines[-1].append(f"{x:.1f},{y:.1f}")
    return [" ".join(points) for points in lines if points]


def _bar(day: date, of: ServiceDay | None) -> DayBar:
    label = f"{day:%d %b}"
    if of is None or not sum(of.seconds.values()):
        return DayBar(day, "none", f"{label}: no data", perfect=True)
    said = [
        f"{_minutes(seconds)} {word}"
        for word in ("down", "degraded", "maintenance", "unknown")
        if (seconds := of.seconds.get(word, 0)) > 0
    ]
    share = of.uptime
    text = f"{label}: {'not checked' if share is None else f'{percent(share)} up'}{''.join(f', {part}' for part in said)}"
    return DayBar(day, _kind(of, share), text, perfect=not said)


def _kind(of: ServiceDay, share: float | None) -> str:
    if share is None:
        return "maintenance" if of.seconds.get("maintenance") else "none"
    if share < 0.95:
        return "down"
    if of.seconds.get("down", 0) > 0:
        return "partial"
    if of.seconds.get("degraded", 0) >= _NOTICEABLE:
        return "degraded"
    return "up"


def percent(share: float) -> str:
    """Return a share for people; never 100 % for what was not perfect."""
    if share >= 1:
        return "100 %"
    return f"{min(share * 100, 99.99):.2f} %"


def _minutes(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{max(minutes, 1)} min"
