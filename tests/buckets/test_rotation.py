"""Which packs a night reads."""

from __future__ import annotations

from datetime import date, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from flows.buckets.prove import packs_to_read

TODAY = date(2026, 11, 24)
PACKS = st.sets(st.integers(0, 60).map(lambda number: f"s-{number:05}"))
READ = st.dictionaries(
    st.integers(0, 80).map(lambda number: f"s-{number:05}"), st.integers(0, 40).map(lambda days: TODAY - timedelta(days))
)


@given(PACKS, READ, st.integers(1, 14))
def test_each_pack_is_read_once_in_a_rotation_whatever_was_read_before(
    packs: set[str], read: dict[str, date], rotation: int
) -> None:
    last_read, nights = dict(read), {pack: [day] for pack, day in read.items() if pack in packs}
    for night in range(3 * rotation):
        today = TODAY + timedelta(night)
        for pack in packs_to_read(packs, last_read, today, rotation):
            last_read[pack] = today
            nights.setdefault(pack, []).append(today)
    assert nights.keys() == packs
    for days in nights.values():
        inside = [day for day in days if day >= TODAY]
        assert inside
        assert inside[0] - TODAY < timedelta(rotation)
        assert all((b - a).days <= rotation for a, b in pairwise(inside))


@given(PACKS, READ, st.integers(1, 14))
def test_what_was_never_read_or_waited_a_rotation_is_read_and_it_is_a_share_at_least(
    packs: set[str], read: dict[str, date], rotation: int
) -> None:
    chosen = packs_to_read(packs, read, TODAY, rotation)
    assert len(set(chosen)) == len(chosen)
    forced = {pack for pack in packs if pack not in read or (TODAY - read[pack]).days >= rotation}
    assert forced <= set(chosen) <= packs
    rested = [pack for pack in packs if read.get(pack) != TODAY]
    assert len(chosen) == max(len(forced), min(len(rested), -(-len(packs) // rotation)))
    assert set(packs_to_read(packs, read, TODAY, rotation, everything=True)) == packs


def test_in_the_long_run_the_nights_are_even() -> None:
    packs = [f"s-{number:05}" for number in range(70)]
    last_read = dict.fromkeys(packs, TODAY)  # all new ones were read in one night
    sizes = []
    for night in range(1, 22):
        today = TODAY + timedelta(night)
        chosen = packs_to_read(packs, last_read, today, 7)
        sizes.append(len(chosen))
        last_read |= dict.fromkeys(chosen, today)
    assert sizes == [10] * 21
