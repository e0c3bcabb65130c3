"""A stack's ninety days, made up: what the status page shows, for its tests, its bench row and its screenshots."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from flows.health.backup_rows import BackupRow
from flows.health.history import DAYS, Day, Row, day_range
from flows.health.history_store import Pending
from flows.health.incidents import Incident
from flows.health.observation import Observation, Status
from flows.health.published import Entry, Published, ToldIncident
from flows.health.verdicts import Verdict, Word
from railway.stack import SERVICES

__all__ = ["SampleDays", "days", "published"]

_LATENCY = {"litellm": 38.0, "langfuse-web": 61.0, "langfuse-worker": 9.0, "clickhouse": 14.0, "prefect-server": 22.0}
_STATUS = {"up": Status.OK, "degraded": Status.DEGRADED, "down": Status.DOWN, "unknown": Status.UNKNOWN}
_STEP = 900


@dataclass(frozen=True)
class SampleDays:
    """History as a reader of the store finds it."""

    made: Mapping[date, Day]

    def read(self) -> dict[date, Day]:
        """Return it."""
        return dict(self.made)


def days(now: datetime, count: int = DAYS, seed: int = 4) -> dict[date, Day]:
    """Make days up to now, a row a quarter of an hour: mostly well, with a few bad hours and one planned upgrade."""
    chance = random.Random(seed)  # noqa: S311 - the same picture each time
    bad = {(chance.randrange(count), name): (chance.randrange(80), chance.choice(["down", "degraded"])) for name in SERVICES}
    dates = day_range(now.astimezone(UTC).date(), count)
    made: dict[date, Day] = {}
    for number, day in enumerate(dates):
        special = number in (count - 40, count - 1, 0) or any(when == number for when, _ in bad)
        plain = made[dates[0]].model_copy(update={"date": day}) if made and not special else None
        made[day] = plain or _day(day, now, bad if special else {}, number, count, chance)
    return made


def _day(
    day: date, now: datetime, bad: Mapping[tuple[int, str], tuple[int, str]], number: int, count: int, chance: random.Random
) -> Day:
    made = Day(date=day)
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    for slot in range(96):
        at = midnight + timedelta(seconds=_STEP * slot + _STEP - 1)
        if at > now:
            break
        words = dict.fromkeys(SERVICES, "up")
        for name in SERVICES:
            start, word = bad.get((number, name), (99, "up"))
            if start <= slot < start + 7:
                words[name] = word
            if number == count - 40 and slot in (12, 13) and name.startswith("langfuse"):
                words[name] = "maintenance"
        ms = {name: _LATENCY.get(name, 4.0) * chance.lognormvariate(0, 0.25) for name in SERVICES}
        made.add(Row(at=int(at.timestamp()), step=_STEP, words=words, ms=ms))
    return made


def published(now: datetime, words: Mapping[str, str] | None = None, stack: str = "production") -> Published:
    """Make what a sweep half a minute ago published.

    Args:
        words: verdicts other than up, by service; an incident is open for each that is down or degraded.
    """
    said = {**dict.fromkeys(SERVICES, "up"), **(words or {})}
    at = now - timedelta(seconds=30)
    verdicts = [_verdict(name, word, at) for name, word in said.items()]
    bad = [verdict for verdict in verdicts if verdict.word in (Word.DOWN, Word.DEGRADED)]
    return Published(
        stack=stack,
        at=at,
        interval=60,
        verdicts=verdicts,
        open=[_incident(stack, verdict, at) for verdict in bad if not verdict.because_of],
        closed=[_closed(stack, at)],
        backups=[_backup(at, number) for number in range(6)],
        history=Pending(last=int(at.timestamp()), words=said),
    )


def _verdict(name: str, word: str, at: datetime) -> Verdict:
    sentence = {
        "down": "no answer within 5 s, expected one; see the service's log and restart it",
        "degraded": "4120 jobs wait, expected fewer than 1000; is langfuse-worker running?",
        "unknown": "could not be looked at: the check itself failed",
    }.get(word, "answers as it should")
    status = _STATUS.get(word, Status.OK)
    latency = None if word == "down" else _LATENCY.get(name, 4.0)
    seen = [Observation(service=name, aspect="liveness", status=status, sentence=sentence, latency_ms=latency)]
    if name == "langfuse-worker":
        seen.append(
            Observation(
                service=name,
                aspect="queue-depth",
                status=Status.OK,
                sentence="12 jobs wait",
                value=12,
                limit=10000,
                unit="jobs",
            )
        )
    if name == "clickhouse":
        seen.append(
            Observation(service=name, aspect="disk", status=Status.OK, sentence="41 % in use", value=41, limit=80, unit="%")
        )
    return Verdict(
        service=name,
        word=Word(word),
        since=at - timedelta(minutes=12 if word != "up" else 60 * 31),
        sentence=sentence,
        latency_ms=latency,
        consecutive_failures=0 if word in ("up", "maintenance") else 12,
        observations=tuple(seen),
    )


def _incident(stack: str, verdict: Verdict, at: datetime) -> ToldIncident:
    opened = at - timedelta(minutes=10)
    down = verdict.word is Word.DOWN
    casualties = tuple(name for name, service in SERVICES.items() if verdict.service in service.needs) if down else ()
    incident = Incident(
        key=f"{stack}/{verdict.service}/liveness/{opened:%Y%m%dT%H%M%SZ}",
        stack=stack,
        service=verdict.service,
        aspect="liveness",
        severity="critical" if down else "warning",
        sentence=verdict.sentence,
        since=verdict.since,
        opened_at=opened,
        casualties=casualties,
        reminders=1,
    )
    return ToldIncident(
        incident=incident,
        timeline=[
            Entry(at=opened, kind="opened", text=verdict.sentence),
            Entry(at=opened + timedelta(minutes=9), kind="reminded", text=f"still open: {verdict.sentence}"),
        ],
    )


def _closed(stack: str, at: datetime) -> ToldIncident:
    opened = at - timedelta(days=2, hours=3)
    incident = Incident(
        key=f"{stack}/redis/memory/{opened:%Y%m%dT%H%M%SZ}",
        stack=stack,
        service="redis",
        aspect="memory",
        severity="warning",
        sentence="84 % of 512 MB in use, expected less than 80 %; raise maxmemory or drain the queues",
        since=opened - timedelta(minutes=3),
        opened_at=opened,
        closed_at=opened + timedelta(minutes=26),
    )
    return ToldIncident(
        incident=incident,
        timeline=[
            Entry(at=opened, kind="opened", text=incident.sentence),
            Entry(at=opened + timedelta(minutes=26), kind="closed", text="well again after 26 min"),
        ],
    )


def _backup(at: datetime, number: int) -> BackupRow:
    taken = at.replace(hour=3, minute=0, second=0, microsecond=0) - timedelta(days=number + (at.hour < 3))
    return BackupRow(
        id=f"{taken:%Y%m%dT%H%M%SZ}-{'k7q2xa' if number % 2 else 'h3vmbd'}",
        taken_at=taken,
        bytes=1_840_000_000 if number == 3 else 96_400_000 + 1_300_000 * number,
        label="nightly",
        protected=number == 3,
        fault="object postgres/litellm.dump.zst.age is not what was stored" if number == 5 else "",
        drilled_at=taken + timedelta(hours=2) if number not in (4,) else None,
        proven=number not in (2, 4, 5),
        drill_seconds=84 + number,
        compare_seconds=41,
    )
