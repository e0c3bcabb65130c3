"""A set is compared with those before it: what is far from their median is flagged."""

from __future__ import annotations

from datetime import timedelta

import pytest

from flows.backup.manifest import Manifest
from flows.verify.sanity import judge_size
from tests.manifests import NIGHT, clickhouse, manifest, postgres, stored

MB = 1_000_000


def night(day: int, plain: int, **more: int) -> Manifest:
    """A set with a Postgres dump and a ClickHouse database of these sizes."""
    dump = stored("postgres/litellm.dump.zst.age").model_copy(update={"plain_bytes": plain})
    table_set = clickhouse(plain_bytes=more.get("clickhouse", 500 * MB), bytes=more.get("stored", 500 * MB))
    return manifest(NIGHT + timedelta(days=day), components=[postgres(object=dump), table_set])


WEEK = [night(day, size * MB) for day, size in enumerate((100, 101, 99, 103, 104, 105, 107))]


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (108 * MB, ""),
        (60 * MB, ""),
        (200 * MB, ""),
        (0, "postgres litellm is empty, where it was not"),
        (10 * MB, "postgres litellm is 10 times smaller than the median of the last sets"),
        (900 * MB, "postgres litellm is 9 times larger than the median of the last sets"),
    ],
)
def test_a_database_far_from_its_median_is_flagged(now: int, says: str) -> None:
    check = judge_size(night(7, now), WEEK, NIGHT)
    assert check.ok == (not says)
    assert says in check.what


def test_only_the_last_seven_sets_count() -> None:
    long_ago = [night(-day, 10_000 * MB) for day in range(1, 30)]
    assert judge_size(night(7, 110 * MB), [*long_ago, *WEEK], NIGHT).ok


def test_sets_after_it_do_not_count() -> None:
    later = [night(day, 9_000 * MB) for day in range(8, 20)]
    assert judge_size(night(7, 110 * MB), [*WEEK, *later], NIGHT).ok


def test_a_difference_is_as_large_as_the_data_it_stands_for() -> None:
    assert judge_size(night(7, 105 * MB, stored=3 * MB), WEEK, NIGHT).ok


def test_with_few_sets_before_it_nothing_is_odd() -> None:
    assert judge_size(night(2, 1), WEEK[:2], NIGHT).ok


def test_small_databases_may_double() -> None:
    assert judge_size(night(7, 900_000), [night(day, 100_000) for day in range(7)], NIGHT).ok
