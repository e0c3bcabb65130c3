"""The status page: what is known, put into the template."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from flows.health.published import Published, ToldIncident
from flows.health.verdicts import Verdict
from railway.gateway import charts
from railway.gateway.known import Known
from railway.gateway.words import WORD_LABELS, ago, duration, headline, scrub, size, title, when
from railway.stack import SERVICES

__all__ = ["STYLE", "login_page", "message_page", "status_page", "style_path"]

_HERE = Path(__file__).parent
STYLE = (_HERE / "static" / "style.css").read_text(encoding="utf-8")
"""The style sheet; served under a name that changes with its content."""
REFRESH_SECONDS = 60
"""The page asks for itself anew so often."""


def style_path() -> str:
    """Return the path of the style sheet."""
    return f"/style-{hashlib.sha256(STYLE.encode()).hexdigest()[:12]}.css"


@cache
def _templates() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(style_path=style_path(), labels=WORD_LABELS, width=charts.WIDTH, height=charts.HEIGHT)
    environment.filters.update(scrub=scrub, title_of=title, when=when, bytes=size, percent=charts.percent)
    return environment


@dataclass(frozen=True)
class ServicePart:
    """A service on the page."""

    verdict: Verdict
    bars: list[charts.DayBar]
    uptime: float | None
    latency: charts.Latency | None


def status_page(stack: str, known: Known, now: datetime) -> str:
    """Render the status page."""
    published = known.published
    stale = published is not None and published.is_stale(now)
    verdicts = _in_order(published)
    word, sentence = headline({verdict.service: verdict.word.value for verdict in verdicts}, stale=stale)
    today = now.astimezone(UTC).date()
    parts = [
        ServicePart(
            verdict,
            charts.day_bars(known.days, verdict.service, today),
            charts.uptime(known.days, verdict.service, today),
            charts.latency(known.days, verdict.service, now),
        )
        for verdict in verdicts
    ]
    return _templates().get_template("status.html").render(
        stack=stack,
        known=known,
        published=published,
        stale=stale,
        word=word,
        headline=sentence,
        services=parts,
        incidents=published.open if published else [],
        closed=published.closed if published else [],
        now=now,
        notes=list(_notes(known, now)),
        refresh=REFRESH_SECONDS,
        ago=lambda moment: ago(moment, now),
        lasted=lambda told: _lasted(told, now),
    )  # fmt: skip


def login_page(stack: str, problem: str = "") -> str:
    """Render the form that asks for the token."""
    return _templates().get_template("login.html").render(stack=stack, problem=problem)


def message_page(stack: str, heading: str, sentence: str) -> str:
    """Render a page that says one thing."""
    return _templates().get_template("message.html").render(stack=stack, heading=heading, sentence=sentence)


def _in_order(published: Published | None) -> list[Verdict]:
    """Return the verdicts in the order of the stack, others after them."""
    places = {name: place for place, name in enumerate(SERVICES)}
    verdicts = published.verdicts if published else []
    return sorted(verdicts, key=lambda verdict: (places.get(verdict.service, len(places)), verdict.service))


def _lasted(told: ToldIncident, now: datetime) -> str:
    return duration((told.incident.closed_at or now) - told.incident.opened_at)


def _notes(known: Known, now: datetime) -> Iterator[str]:
    """Say what of the page is old or missing, and why."""
    if known.source_failed:
        seen = f"; what follows was known {ago(known.seen_at, now)}" if known.seen_at else ""
        yield f"{known.source_failed}{seen}"
    if known.history_failed:
        yield f"The history in the store cannot be read: {known.history_failed}"
    if known.published is None:
        return
    if known.published.is_stale(now):
        last = ago(known.published.at, now)
        yield f"The last sweep reported {last}: prefect-worker or prefect-server may be down. What follows may be out of date."
    history = known.published.history
    if history.failed:
        yield f"History is not written to the store: {history.failed}"
    if history.dropped:
        yield f"History has a gap: {history.dropped} sweeps could not be kept while the store was away."
    if history.damaged:
        yield f"The history of {history.damaged:%d %b %Y} was damaged in the store and begun anew."
    if known.published.backups_failed and not history.failed:
        yield f"The list of backups may be old: {known.published.backups_failed}"
