"""What a sweep publishes: timelines grow, backups are listed with few requests, and it fits where it is kept."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from blocks.errors import IntegrityError
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.s3_light import LightStore, Place
from flows.catalogue import manifest_key
from flows.health.backup_rows import SHOWN, read_rows
from flows.health.history import Row
from flows.health.history_store import MAX_THINNED, DayCache, Pending, flush
from flows.health.incidents import Happening, Incident, Kind
from flows.health.memory import PIECE, load_text, packed, save_text
from flows.health.published import TIMELINE, Outcome, Published, following, publish, published_name, read_published
from flows.health.verdicts import Verdict, Word
from flows.side_file import Check, DrillRecord, record
from railway.stack import SERVICES
from shared.engines.object_store import S3Engine
from shared.sandbox.sample_history import published
from tests.health.variables import Variables, variables
from tests.manifests import NIGHT, commit

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@pytest.fixture
def light(store: BackupStore, s3_engine: S3Engine) -> Iterator[LightStore]:
    """The test's part of the store, as a sweep sees it."""
    place = Place(s3_engine.endpoint_url, "backups", s3_engine.region, s3_engine.access_key, SecretStr(s3_engine.secret_key))
    with LightStore(place, store.root) as light:
        yield light


def _incident(**changes: object) -> Incident:
    fields = {
        "key": "test/redis/liveness/1",
        "stack": "test",
        "service": "redis",
        "aspect": "liveness",
        "severity": "critical",
        "sentence": "no answer",
        "since": NOON,
        "opened_at": NOON,
    }
    return Incident.model_validate({**fields, **changes})


def _outcome(minute: int, incident: Incident, *kinds: Kind, word: Word = Word.DOWN) -> Outcome:
    at = NOON + timedelta(minutes=minute)
    verdict = Verdict(service="redis", word=word, since=NOON, sentence="no answer")
    return Outcome("test", at, 60, [verdict], [incident], [Happening(kind=kind, incident=incident, at=at) for kind in kinds])


def test_an_incidents_timeline_grows_from_sweep_to_sweep_and_stays_when_it_is_closed() -> None:
    first, due = following(None, _outcome(0, _incident(), "opened"))
    assert due
    second, _ = following(first, _outcome(15, _incident(reminders=1), "reminded"))
    again, _ = following(second, _outcome(15, _incident(reminders=1), "reminded"))  # the same sweep, published twice
    closed = _incident(closed_at=NOON + timedelta(minutes=20))
    third, _ = following(again, _outcome(20, closed, "closed", word=Word.UP))
    assert [entry.kind for entry in third.closed[0].timeline] == ["opened", "reminded", "closed"]
    assert (third.open, third.closed[0].timeline[0].text) == ([], "no answer")
    assert third.history.incidents["test/redis/liveness/1"].closed_at == closed.closed_at


def test_a_long_timeline_keeps_its_beginning_and_its_end() -> None:
    state, _ = following(None, _outcome(0, _incident(), "opened"))
    for minute in range(1, 2 * TIMELINE):
        state, _ = following(state, _outcome(minute, _incident(), "reminded"))
    timeline = state.open[0].timeline
    assert (len(timeline), timeline[0].kind, timeline[-1].at) == (TIMELINE, "opened", state.at)


def test_three_missing_sweeps_make_it_stale() -> None:
    state, _ = following(None, _outcome(0, _incident()))
    assert not state.is_stale(NOON + timedelta(seconds=180))
    assert state.is_stale(NOON + timedelta(seconds=181))


def test_it_comes_back_from_text_as_it_was() -> None:
    state = published(NOON, {"redis": "down", "litellm": "degraded"})
    assert Published.model_validate_json(state.model_dump_json(exclude_defaults=True)) == state


def test_a_usual_state_fits_into_two_variables_and_the_worst_into_what_memory_takes() -> None:
    usual = published(NOON, {"redis": "down", "litellm": "degraded"})
    assert len(packed(usual.model_dump_json(exclude_defaults=True))) < 2 * PIECE
    chance = random.Random(1)  # noqa: S311 - the same numbers each time
    rows = [
        Row(
            at=1_790_000_000 + 900 * number,
            step=900,
            words={name: chance.choice(["up", "down", "degraded"]) for name in SERVICES},
            ms={name: round(chance.lognormvariate(3, 1), 1) for name in SERVICES},
        )
        for number in range(MAX_THINNED)
    ]
    worst = usual.model_copy(update={"history": Pending(rows=rows)})
    assert len(packed(worst.model_dump_json(exclude_defaults=True))) < 40 * PIECE


@pytest.fixture
def prefect() -> Iterator[Variables]:
    """Variables, as Prefect's API."""
    with variables() as server:
        yield server


def test_a_state_that_two_saves_tore_while_it_was_read_is_read_again(prefect: Variables) -> None:
    name, states = published_name("test"), [_long(number) for number in range(3)]

    async def story() -> None:
        heads = []
        for state in states:
            await save_text(name, state.model_dump_json(exclude_defaults=True))
            heads.append(prefect.values[name])
        assert (heads[0]["side"], heads[0]["pieces"] > 1) == (heads[2]["side"], True)
        prefect.earlier[name] = [heads[0]]  # a reader that saw the first head meets the pieces of the third
        with pytest.raises(IntegrityError):
            await load_text(name)
        prefect.earlier[name] = [heads[0]]
        assert await read_published("test") == states[2]

    asyncio.run(story())


@pytest.mark.parametrize("damage", ["edited by hand", None], ids=["by hand", "other version"])
def test_a_damaged_state_is_begun_anew_and_the_sweep_says_what_is_lost(prefect: Variables, damage: str | None) -> None:
    name = published_name("test")

    async def story() -> None:
        assert await read_published("test") is None
        await publish(_outcome(0, _incident(), "opened"), None)
        if damage is None:
            await save_text(name, '{"format": 2}')
        else:
            prefect.values[name] = damage
        with pytest.raises(IntegrityError, match=name):
            await read_published("test")
        with pytest.raises(IntegrityError, match="without the timelines and the history that was not in the store yet"):
            await publish(_outcome(1, _incident()), None)
        state = await publish(_outcome(2, _incident(), "reminded"), None)
        assert await read_published("test") == state
        assert [entry.kind for entry in state.open[0].timeline] == ["reminded"]

    asyncio.run(story())


def _long(number: int) -> Published:
    """A state that needs several variables, different for each number."""
    state, chance = published(NOON), random.Random(number)  # noqa: S311 - the same numbers each time
    rows = [Row(at=60 * at, step=60, words={}, ms={name: chance.random() for name in SERVICES}) for at in range(200)]
    return state.model_copy(update={"history": Pending(rows=rows)})


def test_backups_are_listed_newest_first_with_what_is_known_of_them(
    store: BackupStore, light: LightStore, keys: BackupKeys
) -> None:
    older, newer = commit(store, keys), commit(store, keys, NIGHT + timedelta(days=1), protected=True)
    drill = DrillRecord(
        set_id=older.id, at=NOON, ok=True, full=True, recovery_seconds=84, compare_seconds=41, components=[], scratch="here"
    )
    record(store, older.id, drill=drill)
    record(store, newer.id, presence=Check(at=NOON, ok=False, what="an object is missing"))
    store.put(f"{store.root}sets/20261126T030000Z-abcdef/postgres/x", b"under way")
    rows = read_rows(light)
    assert [row.id for row in rows] == [newer.id, older.id]
    assert (rows[0].protected, rows[0].fault, rows[0].proven) == (True, "an object is missing", False)
    assert (rows[1].proven, rows[1].drill_seconds, rows[1].bytes) == (True, 84, older.stored_bytes)


def test_known_manifests_are_not_read_again_and_sets_that_went_are_not_shown(
    store: BackupStore, light: LightStore, keys: BackupKeys
) -> None:
    made = [commit(store, keys, NIGHT + timedelta(days=day)) for day in range(SHOWN + 2)]
    record(store, made[-1].id, presence=Check(at=NOON, ok=True, what="all there"))
    rows = read_rows(light)
    assert [row.id for row in rows] == [one.id for one in reversed(made)][:SHOWN]
    store.put(manifest_key(store, made[-1].id), b"torn")
    assert read_rows(light, rows) == rows
    assert read_rows(light)[0].id == made[-2].id
    store.remove_below(f"{store.root}sets/{made[-1].id}/")
    assert read_rows(light, rows)[0].id == made[-2].id


def test_history_goes_through_the_light_client_as_through_the_block(store: BackupStore, light: LightStore) -> None:
    row = Row(at=int(NOON.timestamp()), step=60, words={"redis": "up"})
    assert flush(light, Pending(rows=[row]), NOON).rows == []
    assert flush(light, Pending(rows=[row.model_copy(update={"at": row.at + 60})]), NOON).rows == []
    assert DayCache(store).read() == DayCache(light).read()
    assert DayCache(light).read()[NOON.date()].services["redis"].seconds == {"up": 120}
