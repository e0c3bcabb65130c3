"""History: every sweep is counted once, whatever the store, the writers and the clock do; ninety days stay small."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.errors import IntegrityError
from blocks.object_store import BackupStore
from flows.health.history import DAYS, SLOTS, Day, IncidentNote, Row, thin
from flows.health.history_store import (
    FLUSH_SECONDS,
    MAX_THINNED,
    DayCache,
    Pending,
    flush,
    history_prefix,
    record,
    with_pending,
)
from railway.stack import SERVICES
from shared.engines.process import free_port
from tests.stores import ONE_TRY, seen_through

NOON = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
TODAY = NOON.date()
INTERVAL = 60


def _sweep(pending: Pending, now: datetime, word: str = "up", ms: float = 12.0) -> tuple[Pending, bool]:
    return record(pending, now, {"litellm": word}, {"litellm": ms}, {}, interval=INTERVAL)


def _sweeps(count: int, start: datetime = NOON, pending: Pending | None = None, word: str = "up") -> Pending:
    pending = pending or Pending()
    for number in range(count):
        pending, _ = _sweep(pending, start + timedelta(seconds=INTERVAL * number), word)
    return pending


def _row(at: datetime, word: str = "up", ms: float = 10.0) -> Row:
    return Row(at=int(at.timestamp()), step=INTERVAL, words={"litellm": word}, ms={"litellm": ms})


def _stored(store: BackupStore) -> dict[date, Day]:
    return DayCache(store).read()


def test_a_day_counts_seconds_by_word_and_shows_the_worst_word_of_each_quarter() -> None:
    day = Day(date=TODAY)
    for minute, word in enumerate(["up"] * 14 + ["down"] + ["degraded"] * 5):
        day.add(_row(NOON + timedelta(minutes=minute), word))
    service = day.services["litellm"]
    assert service.seconds == {"up": 14 * 60, "down": 60, "degraded": 5 * 60}
    assert service.slots[48:51] == "dg."
    assert service.uptime == pytest.approx(19 / 20)


def test_maintenance_and_unknown_count_neither_as_up_nor_as_down() -> None:
    day = Day(date=TODAY)
    for minute, word in enumerate(["up", "maintenance", "unknown", "down"]):
        day.add(_row(NOON + timedelta(minutes=minute), word))
    assert day.services["litellm"].uptime == 0.5
    assert Day(date=TODAY).services == {}


@given(st.lists(st.integers(0, 86399), min_size=1, max_size=60), st.randoms())
def test_rows_counted_again_in_any_order_change_nothing_and_never_fill_more_than_the_day(
    moments: list[int], chance: random.Random
) -> None:
    midnight = datetime(2026, 11, 25, tzinfo=UTC)
    rows = [_row(midnight + timedelta(seconds=moment)) for moment in moments]
    day = Day(date=TODAY)
    for row in rows:
        day.add(row)
    again = day.model_copy(deep=True)
    chance.shuffle(rows)
    for row in rows:
        again.add(row)
    assert again == day
    assert sum(day.services["litellm"].seconds.values()) <= 86400
    assert Day.unpack(day.pack()) == day


@given(st.lists(st.sampled_from(["up", "down", "degraded"]), min_size=1, max_size=200))
def test_putting_rows_together_keeps_seconds_and_worst_words(words: list[str]) -> None:
    rows = [_row(NOON + timedelta(seconds=INTERVAL * number), word) for number, word in enumerate(words)]
    whole, thinned = Day(date=TODAY), Day(date=TODAY)
    for row in rows:
        whole.add(row)
    for row in thin(rows):
        thinned.add(row)
    assert thinned.services["litellm"].seconds == whole.services["litellm"].seconds
    assert thinned.services["litellm"].slots == whole.services["litellm"].slots


def test_percentiles_are_right_to_within_a_tenth() -> None:
    day = Day(date=TODAY)
    for number in range(1, 15):
        day.add(_row(NOON + timedelta(minutes=number - 1), ms=number * 10))
    service = day.services["litellm"]
    assert service.percentile(48, 0.5) == pytest.approx(70, rel=0.1)
    assert service.percentile(48, 0.95) == pytest.approx(140, rel=0.1)
    assert service.percentile(49, 0.5) is None


def test_two_sweeps_of_the_same_minute_do_not_make_it_two_minutes() -> None:
    day = Day(date=TODAY)
    for seconds in (60, 62, 120, 121):
        day.add(_row(NOON + timedelta(seconds=seconds)))
    assert sum(day.services["litellm"].seconds.values()) == 60 + 2 + 58 + 1


def test_a_long_silence_is_no_data_and_not_uptime() -> None:
    pending, _ = _sweep(Pending(), NOON)
    pending, _ = _sweep(pending, NOON + timedelta(hours=2))
    day = with_pending({}, pending)[TODAY]
    assert day.services["litellm"].seconds == {"up": 2 * INTERVAL}
    assert set(day.services["litellm"].slots[49:56]) == {"."}


def test_what_is_not_a_day_is_refused() -> None:
    with pytest.raises(IntegrityError, match="not one of format 1"):
        Day.unpack(b"")


def test_it_is_written_every_five_minutes_on_change_and_on_a_new_day_only() -> None:
    pending, due = _sweep(Pending(tried_at=int(NOON.timestamp()), last=int(NOON.timestamp()), words={"litellm": "up"}), NOON)
    assert not due
    assert _sweep(pending, NOON + timedelta(seconds=60), "down")[1]
    assert _sweep(pending, NOON + timedelta(seconds=FLUSH_SECONDS))[1]
    before = datetime(2026, 11, 25, 23, 59, 30, tzinfo=UTC)
    late, _ = _sweep(pending.model_copy(update={"tried_at": int(before.timestamp())}), before)
    assert _sweep(late, before + timedelta(seconds=60))[1]


def test_a_store_that_failed_is_tried_every_five_minutes_whatever_changes() -> None:
    pending = Pending(failed="it did", tried_at=int(NOON.timestamp()), last=int(NOON.timestamp()), words={"litellm": "up"})
    assert not _sweep(pending, NOON + timedelta(seconds=60), "down")[1]
    assert _sweep(pending, NOON + timedelta(seconds=FLUSH_SECONDS), "down")[1]


def test_what_a_store_that_is_down_could_not_take_is_written_when_it_is_back(store: BackupStore) -> None:
    dead = seen_through(store, url=f"http://127.0.0.1:{free_port()}", config=ONE_TRY)
    pending = flush(dead, _sweeps(200), NOON)
    assert "reachable" in pending.failed
    assert len(pending.rows) < 80, "put together while nothing can be written"
    pending = flush(store, _sweeps(100, NOON + timedelta(minutes=200), pending), NOON)
    assert (pending.rows, pending.failed, pending.dropped) == ([], "", 0)
    assert _stored(store)[TODAY].services["litellm"].seconds == {"up": 300 * INTERVAL}


def test_a_write_whose_answer_got_lost_is_counted_once(store: BackupStore) -> None:
    pending = _sweeps(5)
    assert flush(store, pending, NOON).rows == []
    longer = _sweeps(3, NOON + timedelta(minutes=5), pending)  # the memory still holds what was written
    assert flush(store, longer, NOON).rows == []
    assert _stored(store)[TODAY].services["litellm"].seconds == {"up": 8 * INTERVAL}


class Overtaken:
    """The store as a writer sees it that another one overtakes, just before its first write."""

    def __init__(self, store: BackupStore, other: Pending) -> None:
        self._store, self._other = store, [other]
        self.root, self.list, self.remove, self.get_with_etag = store.root, store.list, store.remove, store.get_with_etag
        self.folders = store.folders

    def put(self, key: str, data: bytes, *, if_absent: bool = False, if_etag: str | None = None) -> str:
        while self._other:
            assert flush(self._store, self._other.pop(), NOON).rows == []
        return self._store.put(key, data, if_absent=if_absent, if_etag=if_etag)


def test_two_writers_lose_nothing(store: BackupStore) -> None:
    other = _sweeps(5, NOON + timedelta(minutes=30))
    assert flush(Overtaken(store, other), _sweeps(5), NOON).rows == []
    assert _stored(store)[TODAY].services["litellm"].seconds == {"up": 10 * INTERVAL}


def test_a_torn_object_costs_its_own_day_and_it_is_said(store: BackupStore) -> None:
    flush(store, _sweeps(5), NOON)
    store.put(f"{history_prefix(store)}{TODAY}.json.zst", b"")
    assert _stored(store) == {}
    pending = flush(store, _sweeps(5), NOON)
    assert pending.damaged == TODAY
    assert _stored(store)[TODAY].services["litellm"].seconds == {"up": 5 * INTERVAL}


def test_days_older_than_ninety_are_deleted_when_a_day_begins(store: BackupStore) -> None:
    for back in (DAYS + 1, DAYS, DAYS - 1):
        store.put(f"{history_prefix(store)}{TODAY - timedelta(days=back)}.json.zst", Day(date=TODAY).pack())
    flush(store, _sweeps(1), NOON)
    names = [item.key.rpartition("/")[2][:10] for item in store.list(history_prefix(store))]
    assert sorted(names) == [str(TODAY - timedelta(days=DAYS - 1)), str(TODAY)]


def test_an_incident_is_kept_on_the_days_it_began_and_ended(store: BackupStore) -> None:
    opened = NOON - timedelta(days=1)
    note = IncidentNote(service="redis", severity="critical", sentence="no answer", opened_at=opened)
    pending, due = record(Pending(), opened, {"redis": "down"}, {}, {"redis-1": note}, interval=INTERVAL)
    assert due
    pending = flush(store, pending, opened)
    closed = note.model_copy(update={"closed_at": NOON})
    pending, due = record(pending, NOON, {"redis": "up"}, {}, {"redis-1": closed}, interval=INTERVAL)
    assert due
    pending = flush(store, pending, NOON)
    assert {day.incidents["redis-1"].closed_at for day in _stored(store).values()} == {NOON}
    after, _ = record(pending, NOON + timedelta(minutes=1), {"redis": "up"}, {}, {"redis-1": closed}, interval=INTERVAL)
    assert after.incidents == {}, "what closed earlier is not written again"


def test_weeks_without_a_store_stay_bounded_and_what_is_dropped_is_counted() -> None:
    pending = Pending(rows=[_row(NOON + timedelta(minutes=15 * number)) for number in range(MAX_THINNED)], last=1)
    pending, _ = _sweep(pending, NOON + timedelta(minutes=15 * MAX_THINNED))
    assert len(pending.rows) == MAX_THINNED
    assert pending.dropped == 1


def test_ninety_days_of_nine_services_take_less_than_two_megabytes() -> None:
    chance = random.Random(7)  # noqa: S311 - the same day each time
    day = Day(date=TODAY)
    midnight = datetime(2026, 11, 25, tzinfo=UTC)
    for minute in range(24 * 60):
        words = {name: chance.choices(["up", "degraded", "down"], [990, 7, 3])[0] for name in SERVICES}
        ms = {name: chance.lognormvariate(3, 0.6) for name in SERVICES}
        at = int((midnight + timedelta(minutes=minute, seconds=chance.random() * 4)).timestamp())
        day.add(Row(at=at, step=INTERVAL, words=words, ms=ms))
    packed = day.pack()
    print(f"a day: {len(packed)} bytes packed, {len(day.model_dump_json())} unpacked")  # noqa: T201 - with -s, for the README
    assert len(packed) * DAYS < 2_000_000
    assert len(day.services["litellm"].slots) == SLOTS
