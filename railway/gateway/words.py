"""How times, ages and verdicts are said on the page, and what must not be said there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from railway.stack import SERVICES

__all__ = ["WORD_LABELS", "ago", "duration", "headline", "scrub", "size", "title", "when"]

WORD_LABELS: Mapping[str, str] = {
    "up": "Up",
    "degraded": "Degraded",
    "down": "Down",
    "unknown": "Unknown",
    "maintenance": "Maintenance",
}

_SCHEME = r"\b(?:[a-z][a-z0-9+.-]*://)?"
_REST = r"(?::\d+)?(?:/[^\s;,]*)?"
_PRIVATE = r"(?:localhost|127(?:\.\d+){3}|10(?:\.\d+){3}|192\.168(?:\.\d+){2}|172\.(?:1[6-9]|2\d|3[01])(?:\.\d+){2})"
_SCRUBBED = tuple(
    (re.compile(pattern, re.IGNORECASE), instead)
    for pattern, instead in (
        (r"\b([a-z][a-z0-9+.-]*://)[^\s/@]*@", r"\1"),  # passwords in URLs, before the hosts behind them
        (_SCHEME + r"[\w.-]+\.(?:internal|local|localdomain)\b" + _REST, "(internal)"),
        (_SCHEME + _PRIVATE + r"\b" + _REST, "(internal)"),
        (r"\[?\b(?:f[cd][0-9a-f]{2}|fe80)(?::[0-9a-f]{0,4}){2,7}\]?" + _REST, "(internal)"),
        (r"\b(?:sk|pk|xox[abpors]|AGE-SECRET-KEY)-[A-Za-z0-9_-]{6,}", "(key)"),
    )
)


def scrub(text: str) -> str:
    """Take internal host names, passwords in URLs and keys out of a sentence.

    Checks are written so that there are none; this is the second lock on the same door, because the page may be public.
    """
    for pattern, instead in _SCRUBBED:
        text = pattern.sub(instead, text)
    return text


def title(service: str) -> str:
    """Return a service's name for people."""
    known = SERVICES.get(service)
    return known.title if known else service.replace("-", " ").capitalize()


def duration(delta: timedelta) -> str:
    """Return a span of time in its two largest units, minutes at least: `2 d 3 h`, `41 min`."""
    minutes = max(0, int(delta.total_seconds() // 60))
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    parts = [f"{count} {unit}" for count, unit in ((days, "d"), (hours, "h"), (minutes, "min")) if count]
    return " ".join(parts[:2]) or "less than a minute"


def ago(then: datetime, now: datetime) -> str:
    """Return how long ago something was, in one unit, minutes at the finest: the page need not change every second."""
    minutes = max(0, int((now - then).total_seconds() // 60))
    for unit, length in (("d", 1440), ("h", 60)):
        if minutes >= 2 * length:
            return f"{minutes // length} {unit} ago"
    return f"{minutes} min ago" if minutes else "just now"


def when(moment: datetime) -> str:
    """Return a time for people, UTC."""
    return f"{moment.astimezone(UTC):%d %b %Y, %H:%M} UTC"


def size(count: int) -> str:
    """Return bytes for people."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def headline(words: Mapping[str, str], *, stale: bool) -> tuple[str, str]:
    """Say the state of the whole stack.

    Args:
        words: verdicts by service. stale: they are old.
    Returns: a word for the colour, and a sentence.
    """
    if not words:
        return "unknown", "No sweep has reported yet"
    if stale:
        return "unknown", "No fresh news: the sweeps have stopped"
    for word, singular, plural in (
        ("down", "is down", "services are down"),
        ("degraded", "is degraded", "services are degraded"),
        ("unknown", "could not be checked", "services could not be checked"),
        ("maintenance", "is under maintenance", "services are under maintenance"),
    ):
        found = [title(service) for service, said in words.items() if said == word]
        if found:
            return word, f"{found[0]} {singular}" if len(found) == 1 else f"{len(found)} {plural}"
    return "up", "Everything is up"
