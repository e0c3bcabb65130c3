"""Weeks of random faults, minute after minute: no happening is lost, doubled or contradicts another, and each incident ends."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.health.dependencies import BLIND, ORDER, is_aside, needs_of
from flows.health.incidents import Happening, Incident, rank
from flows.health.observation import Observation, Status
from flows.health.state import State
from flows.health.sweep import is_failing
from flows.health.windows import Window
from tests.health.sweeps import DEGRADED, DOWN, EVERY, OK, UNKNOWN, Watch, kinds, observation

ASPECTS = {service: ("answer", "space", "private-x")[: 1 + place % 3] for place, service in enumerate(ORDER)}
BAD = (DEGRADED, DOWN)


class World:
    """Services that break and heal by chance, take others along, and are not always seen."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)  # noqa: S311 - the same week every time
        self.broken: dict[tuple[str, str], Status] = {}
        self.shaky: set[str] = set()

    def minute(self) -> list[Observation]:
        """What is seen in the next minute, in any order."""
        for service, aspects in ASPECTS.items():
            for aspect in aspects:
                if (service, aspect) in self.broken:
                    if self.chance.random() < 1 / 12:
                        del self.broken[service, aspect]
                elif self.chance.random() < 1 / 400:
                    self.broken[service, aspect] = self.chance.choice(BAD)
            if self.chance.random() < 1 / 300:
                self.shaky ^= {service}
        down = {name for (name, aspect), status in self.broken.items() if status is DOWN and not is_aside(name, aspect)}
        seen = [
            observation(service, aspect, self._status(service, aspect, down), f"{aspect}, seen for the {number}. time")
            for service, aspects in ASPECTS.items()
            for number, aspect in enumerate(aspects)
            if aspect == "answer" or service not in down or self.chance.random() < 0.9
        ]
        self.chance.shuffle(seen)
        return seen

    def _status(self, service: str, aspect: str, down: set[str]) -> Status:
        if self.chance.random() < 0.02:
            return UNKNOWN
        if needs_of(service) & down and self.chance.random() < 0.9:
            return self.chance.choice(BAD)
        if service in self.shaky and self.chance.random() < 0.3:
            return self.chance.choice(BAD)
        return self.broken.get((service, aspect), OK)


class Book:
    """Keeps the happenings, and refuses those that cannot be."""

    def __init__(self) -> None:
        self.open: dict[str, Incident] = {}
        self.over: set[str] = set()
        self.names: set[str] = set()
        self.count: Counter[str] = Counter()

    def enter(self, said: list[Happening], seen: list[Observation], muted: set[str], now: datetime) -> None:
        """Check one sweep's happenings against what was seen and what was said before."""
        of: dict[str, set[Status]] = {}
        for one in seen:
            of.setdefault(one.service, set()).add(one.status)
        down = {one.service for one in seen if is_failing(one)}
        assert len({happening.incident.key for happening in said}) == len(said), "an incident is spoken of once a sweep"
        for happening in said:
            incident = happening.incident
            assert happening.at == now
            assert happening.id not in self.names
            self.names.add(happening.id)
            self.count[happening.kind] += 1
            if happening.kind == "opened":
                assert incident.key not in self.over | set(self.open)
                is_blind = incident.aspect == BLIND and of[incident.service] == {UNKNOWN}
                assert is_blind or of[incident.service] & set(BAD), "opened, but not bad"
                assert not needs_of(incident.service) & down, "opened, but somebody else is to blame"
                assert incident.service not in muted
                assert (incident.service, incident.aspect) not in {(one.service, one.aspect) for one in self.open.values()}
                assert set(incident.casualties) <= {name for name in of if incident.service in needs_of(name)}
                self.open[incident.key] = incident
                continue
            before = self.open[incident.key]
            assert rank(incident.severity) >= rank(before.severity)
            assert (incident.opened_at, incident.service, incident.aspect) == (before.opened_at, before.service, before.aspect)
            if happening.kind == "closed":
                assert incident.closed_at == now
                del self.open[incident.key]
                self.over.add(incident.key)
                continue
            assert incident.service not in muted
            assert not needs_of(incident.service) & down
            assert incident.closed_at is None
            if happening.kind == "escalated":
                assert (incident.escalated, rank(incident.severity)) > (before.escalated, rank(before.severity))
            else:
                assert incident.reminders == before.reminders + 1
            self.open[incident.key] = incident


def live(watch: Watch, world: World, minutes: int, book: Book) -> Iterator[list[Observation]]:
    """Let time pass, with windows and restarts; yields what was seen each minute, after it was judged."""
    for _ in range(minutes):
        if world.chance.random() < 1 / 500:
            services = world.chance.choice([("all",), ("postgres",), ("litellm", "redis")])
            ends = watch.now + timedelta(minutes=world.chance.randint(1, 60))
            watch.windows = [Window(id="work", services=services, begins_at=watch.now, ends_at=ends)]
        if world.chance.random() < 1 / 20:
            watch.state = State.from_text(watch.state.to_text(), "test")
            assert not watch.state.note
        seen, now = world.minute(), watch.now
        muted = {name for name in ORDER if any(one.is_open(now) and one.covers(name) for one in watch.windows)}
        said = watch.observe(seen)
        book.enter(said, seen, muted, now)
        assert {incident.key for incident in watch.state.incidents} == set(book.open)
        yield seen


def heal(watch: Watch, book: Book) -> None:
    """Everything is well, for long enough."""
    for _ in range(30):
        seen = [observation(service, aspect, OK) for service, aspects in ASPECTS.items() for aspect in aspects]
        now = watch.now
        book.enter(watch.observe(seen), seen, set(), now)
    assert book.open == {}
    assert (watch.state.episodes, watch.state.tracks) == ((), {})


@pytest.mark.long
def test_a_week_of_faults_loses_doubles_and_contradicts_nothing() -> None:
    watch, world, book = Watch(), World(2026), Book()
    largest = 0
    lasting: dict[str, int] = {}
    for seen in live(watch, world, 4000, book):
        largest = max(largest, len(watch.state.to_text()) if watch.now.minute == 0 else 0)
        down = {one.service for one in seen if is_failing(one)}
        muted = {name for name in ORDER if any(w.is_open(watch.now - EVERY) and w.covers(name) for w in watch.windows)}
        held = {incident.service for incident in watch.state.incidents if not is_aside(incident.service, incident.aspect)}
        for service in ORDER:
            excused = service not in down or service in muted or needs_of(service) & (down | muted | held)
            lasting[service] = 0 if excused else lasting.get(service, 0) + 1
            assert lasting[service] < 3 or service in held, f"{service} is down for long, and nobody says so"
    heal(watch, book)
    assert book.count["opened"] == book.count["closed"] > 50
    assert book.count["reminded"] > 3
    assert book.count["escalated"] > 3
    assert largest < 20_000


@settings(max_examples=40)
@given(
    rows=st.dictionaries(
        st.tuples(st.sampled_from(ORDER), st.sampled_from(["answer", "space"])),
        st.text(alphabet=".?dD", min_size=1, max_size=30),
        max_size=6,
    )
)
def test_whatever_is_seen_each_incident_that_opens_ends_once(rows: dict[tuple[str, str], str]) -> None:
    letters = {".": OK, "?": UNKNOWN, "d": DEGRADED, "D": DOWN}
    watch, book = Watch(), Book()
    for place in range(max((len(row) for row in rows.values()), default=0)):
        seen = [
            observation(service, aspect, letters[row[place]]) for (service, aspect), row in rows.items() if place < len(row)
        ]
        now = watch.now
        book.enter(watch.observe(seen), seen, set(), now)
    for _ in range(40):
        watch.observe([observation(service, aspect, OK) for service, aspect in rows])
    assert kinds(watch.happenings).count("opened") == kinds(watch.happenings).count("closed")
    assert watch.state.episodes == ()
