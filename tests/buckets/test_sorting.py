"""Listings put into order, and ids of packs made short and long again."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.errors import IntegrityError
from blocks.object_bucket import Listed
from flows.buckets import listing
from flows.buckets.listing import external_sort, sorted_objects
from flows.buckets.pack_ids import make_id, pack_ids, short, split_id
from flows.buckets.packs import member_name

NOW = datetime(2026, 11, 24, 3, 0, 0, 123000, tzinfo=UTC)
KEYS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8))


def _listed(keys: Iterable[str]) -> list[Listed]:
    return [Listed(key, len(key), f'"{key}"', NOW) for key in keys]


@given(KEYS, st.integers(1, 7))
def test_any_listing_comes_out_in_the_order_of_its_bytes(keys: list[str], chunk: int) -> None:
    found = list(sorted_objects(_listed(keys), None, chunk))
    assert found == sorted(set(_listed(keys)), key=lambda item: item.key.encode())


def test_the_order_of_a_directory_tree_is_put_right(tmp_path: Path) -> None:
    tree = ["a/b", "a/c", "a-b", "a.b", "b/1", "b/2", "b-1", "c"]
    assert [item.key for item in sorted_objects(_listed(tree), tmp_path, 2)] == sorted(tree)
    assert list(tmp_path.iterdir()) == []


def test_one_chunk_never_touches_the_disk() -> None:
    nowhere = Path("/nonexistent")
    assert [item.key for item in sorted_objects(_listed("cab"), nowhere, 3)] == ["a", "b", "c"]


def test_a_listing_in_order_is_one_run_and_a_reversed_one_is_merged_in_rounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "FAN_IN", 4)
    keys = [f"{number:05}" for number in range(2_000)]
    items = sorted_objects(_listed(keys), tmp_path, 50)
    assert next(items).key == keys[0]
    assert len(list(next(tmp_path.iterdir()).iterdir())) == 1
    items.close()
    assert list(tmp_path.iterdir()) == []
    assert [item.key for item in sorted_objects(_listed(reversed(keys)), tmp_path, 50)] == keys


def test_memory_does_not_grow_with_the_number_of_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "FAN_IN", 4)

    def peak(count: int) -> int:
        numbers = ((number * 7919) % count for number in range(count))
        tracemalloc.start()
        found = external_sort(numbers, None, key=lambda n: n, dump=lambda n: b"%d" % n, load=json.loads, chunk=250)
        assert sum(1 for _ in found) == count
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    assert peak(8_000) < 2 * peak(2_500)


@given(st.sets(st.tuples(st.sampled_from(["20261123T030000Z-abcdef", "20261124T030000Z-abcdef"]), st.integers(1, 120_000))))
def test_pack_ids_are_short_and_come_back(packs: set[tuple[str, int]]) -> None:
    ids = [make_id(set_id, number) for set_id, number in packs]
    assert set(pack_ids(short(ids))) == set(ids)
    assert {split_id(one) for one in ids} == packs


def test_neighbours_are_one_span() -> None:
    assert short(make_id("s", number) for number in (9, 1, 3, 2, 4)) == {"s": "1-4,9"}


@pytest.mark.parametrize("wrong", ["", "1-", "x", "1,,2", "-1"])
def test_what_is_no_list_of_numbers_is_refused(wrong: str) -> None:
    with pytest.raises(IntegrityError, match="not a list of numbers"):
        list(pack_ids({"s": wrong}))


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=6), max_size=5).map("/".join))
def test_names_in_a_tar_are_safe_and_never_two_keys_share_one(key: str) -> None:
    name = member_name(key)
    assert all(part not in ("", ".", "..") for part in name.split("/"))
    assert "\0" not in name
    assert name == key or name.startswith("odd/")
    assert member_name(name) != name or name == key
