"""Retention: tables for every rule, and properties for all of them together."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.settings import Settings
from flows.prune.policy import policy_of
from flows.prune.retention import RetentionPlan, RetentionPolicy, SetFacts, plan

NOTHING = RetentionPolicy(keep_last=1, keep_hourly=0, keep_daily=0, keep_weekly=0, keep_monthly=0, keep_yearly=0)


def policy(**keep: int) -> RetentionPolicy:
    """A policy of what is named, and the newest set."""
    return NOTHING.model_copy(update={f"keep_{name}": count for name, count in keep.items()})


def taken(*times: str) -> list[SetFacts]:
    """Good sets of these times, which are their ids."""
    return [SetFacts(id=time, created_at=datetime.fromisoformat(time).replace(tzinfo=UTC)) for time in times]


def kept(sets: list[SetFacts], rules: RetentionPolicy) -> list[str]:
    """The ids that are kept, oldest first."""
    return sorted(plan(sets, rules).keep)


# --- each rule -----------------------------------------------------------------------------------------------------------

NIGHTS = taken(*(f"2026-11-{day:02} 03:00" for day in range(1, 31)))


@pytest.mark.parametrize(
    ("rules", "sets", "expected"),
    [
        pytest.param(policy(last=3), NIGHTS, ["2026-11-28 03:00", "2026-11-29 03:00", "2026-11-30 03:00"], id="the last three"),
        pytest.param(policy(daily=2), NIGHTS, ["2026-11-29 03:00", "2026-11-30 03:00"], id="two days"),
        pytest.param(
            policy(daily=2),
            taken("2026-11-28 03:00", "2026-11-29 03:00", "2026-11-29 22:00", "2026-11-30 03:00", "2026-11-30 09:00"),
            ["2026-11-29 22:00", "2026-11-30 09:00"],
            id="of each day the newest",
        ),
        pytest.param(
            policy(hourly=3),
            taken("2026-11-30 07:10", "2026-11-30 08:00", "2026-11-30 08:59", "2026-11-30 10:00", "2026-11-30 10:01"),
            ["2026-11-30 07:10", "2026-11-30 08:59", "2026-11-30 10:01"],
            id="of each hour that has a set the newest",
        ),
        pytest.param(
            policy(weekly=2),
            NIGHTS,  # 2026-11-29 is a Sunday
            ["2026-11-29 03:00", "2026-11-30 03:00"],
            id="weeks end on Sundays",
        ),
        pytest.param(
            policy(weekly=2),
            taken("2026-12-27 03:00", "2026-12-31 03:00", "2027-01-01 03:00", "2027-01-03 03:00"),
            ["2026-12-27 03:00", "2027-01-03 03:00"],
            id="the week of the new year is one week",
        ),
        pytest.param(
            policy(monthly=2),
            taken("2026-09-30 03:00", "2026-10-01 03:00", "2026-10-31 03:00", "2026-11-01 03:00"),
            ["2026-10-31 03:00", "2026-11-01 03:00"],
            id="of each month the newest",
        ),
        pytest.param(
            policy(yearly=2),
            taken("2024-05-01 03:00", "2025-05-01 03:00", "2025-12-31 23:59", "2026-01-01 00:00"),
            ["2025-12-31 23:59", "2026-01-01 00:00"],
            id="of each year the newest",
        ),
        pytest.param(
            policy(daily=3),
            taken("2026-01-01 03:00", "2026-03-01 03:00", "2026-06-01 03:00", "2026-06-02 03:00"),
            ["2026-03-01 03:00", "2026-06-01 03:00", "2026-06-02 03:00"],
            id="days without a set do not count: time alone deletes nothing",
        ),
        pytest.param(policy(last=2, monthly=2), NIGHTS, ["2026-11-29 03:00", "2026-11-30 03:00"], id="rules overlap"),
        pytest.param(NOTHING, NIGHTS, ["2026-11-30 03:00"], id="the newest stays whatever the policy"),
        pytest.param(
            policy(last=99), NIGHTS[:2], ["2026-11-01 03:00", "2026-11-02 03:00"], id="fewer sets than the policy keeps"
        ),
        pytest.param(policy(daily=7), [], [], id="no sets"),
    ],
)
def test_a_rule_keeps(rules: RetentionPolicy, sets: list[SetFacts], expected: list[str]) -> None:
    assert kept(sets, rules) == expected


def test_every_reason_is_given() -> None:
    found = plan(NIGHTS, policy(last=1, daily=1, monthly=1))
    assert found.keep == {"2026-11-30 03:00": ["newest good", "last", "daily", "monthly"]}


def test_the_newest_drilled_set_stays_however_old() -> None:
    sets = [replace(item, drilled_at=item.created_at) if item.id < "2026-11-04" else item for item in NIGHTS]
    assert kept(sets, NOTHING) == ["2026-11-03 03:00", "2026-11-30 03:00"]


def test_a_protected_set_stays_however_old_or_bad() -> None:
    sets = [replace(NIGHTS[0], protected=True), replace(NIGHTS[1], protected=True, good=False), *NIGHTS[2:]]
    assert kept(sets, NOTHING) == ["2026-11-01 03:00", "2026-11-02 03:00", "2026-11-30 03:00"]


def test_a_base_stays_as_long_as_a_difference_to_it() -> None:
    sets = [*NIGHTS[:-1], replace(NIGHTS[-1], bases=frozenset({NIGHTS[4].id}))]
    found = plan(sets, NOTHING)
    assert found.keep[NIGHTS[4].id] == ["base of 2026-11-30 03:00"]
    assert sorted(found.keep) == [NIGHTS[4].id, NIGHTS[-1].id]


def test_a_bad_set_does_not_count_as_the_last_or_the_day_s() -> None:
    sets = [*NIGHTS[:-2], replace(NIGHTS[-2], good=False), NIGHTS[-1]]
    assert kept(sets, policy(last=2, daily=2)) == ["2026-11-28 03:00", "2026-11-30 03:00"]


def test_bad_sets_newer_than_the_newest_good_one_are_kept_as_evidence() -> None:
    sets = [*NIGHTS[:-2], *(replace(item, good=False) for item in NIGHTS[-2:])]
    assert kept(sets, NOTHING) == ["2026-11-28 03:00", "2026-11-29 03:00", "2026-11-30 03:00"]


def test_when_all_are_bad_nothing_is_deleted() -> None:
    assert plan([replace(item, good=False) for item in NIGHTS], NOTHING).delete == []


def test_what_cannot_be_read_is_left_to_a_person() -> None:
    """After a change of the signing key every older set is of this kind, the protected ones too."""
    sets = [replace(item, good=False, readable=False) for item in NIGHTS[:-1]] + NIGHTS[-1:]
    assert plan(sets, NOTHING).delete == []


def test_a_difference_to_what_cannot_be_read_is_left_too() -> None:
    base = replace(NIGHTS[0], good=False, readable=False)
    sets = [base, replace(NIGHTS[1], good=False, bases=frozenset({base.id})), *NIGHTS[2:]]
    assert kept(sets, NOTHING) == [NIGHTS[0].id, NIGHTS[1].id, NIGHTS[-1].id]


def test_differences_go_before_their_base_even_when_clocks_disagree() -> None:
    base = SetFacts(id="base", created_at=datetime(2026, 11, 2, tzinfo=UTC))
    early = SetFacts(id="early", created_at=datetime(2026, 11, 1, tzinfo=UTC), bases=frozenset({"base"}))
    late = SetFacts(id="late", created_at=datetime(2026, 11, 3, tzinfo=UTC), bases=frozenset({"base"}))
    assert plan([base, early, late, *NIGHTS[9:]], NOTHING).delete[-1] == "base"


def test_the_order_of_the_sets_does_not_matter() -> None:
    assert plan(reversed(NIGHTS), policy(daily=3)) == plan(NIGHTS, policy(daily=3))


def test_the_predecessor_s_retention_days_are_the_days() -> None:
    chosen = policy_of(Settings(backup_retention_days=30, backup_keep_hourly=24))
    assert (chosen.keep_daily, chosen.keep_hourly) == (30, 24)
    assert policy_of(Settings()) == RetentionPolicy(), "the settings' defaults are the policy's"


def test_a_year_of_nights_becomes_what_people_expect() -> None:
    """14 days, 5 Sundays before them, 11 months before this one: thirty sets of 365."""
    first = datetime(2026, 1, 1, 3, tzinfo=UTC)
    year = taken(*(f"{first + timedelta(days=day):%Y-%m-%d %H:%M}" for day in range(365)))
    left = kept(year, RetentionPolicy())
    assert len(left) == 14 + 5 + 11
    assert {time[:7] for time in left} == {f"2026-{month:02}" for month in range(1, 13)}
    assert left[-14:] == [item.id for item in year[-14:]]


# --- properties ----------------------------------------------------------------------------------------------------------

START = datetime(2026, 1, 1, tzinfo=UTC)


@st.composite
def histories(draw: st.DrawFn) -> list[SetFacts]:
    """Sets of any age, good or not, with bases that may be older, younger, missing, chained or circular."""
    count = draw(st.integers(min_value=0, max_value=25))
    names = [f"set-{n:02}" for n in range(count)]
    sets = []
    for name in names:
        readable = draw(st.integers(0, 9)) > 0
        good = readable and draw(st.integers(0, 4)) > 0
        created_at = START + timedelta(hours=draw(st.integers(min_value=0, max_value=24 * 900)))
        sets.append(
            SetFacts(
                id=name,
                created_at=created_at,
                good=good,
                readable=readable,
                drilled_at=created_at if good and draw(st.booleans()) else None,
                protected=draw(st.integers(0, 9)) == 0,
                bases=frozenset(draw(st.lists(st.sampled_from([*names, "gone"]), max_size=2))),
            )
        )
    return sets


policies = st.builds(
    RetentionPolicy,
    keep_last=st.integers(1, 5),
    keep_hourly=st.integers(0, 5),
    keep_daily=st.integers(0, 5),
    keep_weekly=st.integers(0, 5),
    keep_monthly=st.integers(0, 5),
    keep_yearly=st.integers(0, 5),
)


def survivors(sets: list[SetFacts], found: RetentionPlan) -> list[SetFacts]:
    """What is left when the plan is carried out."""
    return [item for item in sets if item.id not in found.delete]


def newest(sets: list[SetFacts]) -> str | None:
    """The id of the newest of them."""
    return max(((item.created_at, item.id) for item in sets), default=(None, None))[1]


@given(histories(), policies)
def test_every_set_is_kept_or_deleted_once(sets: list[SetFacts], rules: RetentionPolicy) -> None:
    found = plan(sets, rules)
    assert sorted([*found.keep, *found.delete]) == sorted(item.id for item in sets)
    assert all(found.keep.values()), "a reason for each"


@given(histories(), policies)
def test_the_newest_good_and_the_newest_drilled_are_never_deleted(sets: list[SetFacts], rules: RetentionPolicy) -> None:
    keep = plan(sets, rules).keep
    good = [item for item in sets if item.good]
    assert {newest(good), newest([item for item in good if item.drilled_at])} - {None} <= set(keep)


@given(histories(), policies)
def test_protected_and_unreadable_sets_are_never_deleted(sets: list[SetFacts], rules: RetentionPolicy) -> None:
    assert {item.id for item in sets if item.protected or not item.readable} <= set(plan(sets, rules).keep)


@given(histories(), policies)
def test_no_kept_set_loses_a_base_however_far_down(sets: list[SetFacts], rules: RetentionPolicy) -> None:
    keep = set(plan(sets, rules).keep)
    known = {item.id for item in sets}
    for item in sets:
        if item.id in keep:
            assert item.bases & known <= keep


@given(histories(), policies)
def test_a_deletion_that_stops_half_way_leaves_no_set_without_its_base(sets: list[SetFacts], rules: RetentionPolicy) -> None:
    ordered = sorted(sets, key=lambda item: item.created_at)
    older = {item.id: {other.id for other in ordered[:place]} for place, item in enumerate(ordered)}
    straight = [replace(item, bases=item.bases & older[item.id]) for item in sets]  # no circles, which have no right order
    found = plan(straight, rules)
    gone: set[str] = set()
    for set_id in found.delete:
        gone.add(set_id)
        assert not [item.id for item in straight if item.id not in gone and item.bases & gone]


@given(histories(), policies, policies)
def test_a_larger_policy_never_deletes_more(sets: list[SetFacts], one: RetentionPolicy, other: RetentionPolicy) -> None:
    larger = RetentionPolicy(**{name: max(getattr(one, name), getattr(other, name)) for name in RetentionPolicy.model_fields})
    assert set(plan(sets, larger).delete) <= set(plan(sets, one).delete)


@given(histories(), policies)
def test_pruning_again_deletes_nothing_more(sets: list[SetFacts], rules: RetentionPolicy) -> None:
    found = plan(sets, rules)
    assert plan(survivors(sets, found), rules).delete == []


@given(histories(), policies)
def test_pruning_every_night_keeps_the_same_as_pruning_once(sets: list[SetFacts], rules: RetentionPolicy) -> None:
    tonight = SetFacts(id="tonight", created_at=START + timedelta(days=1000))
    nightly = survivors(sets, plan(sets, rules))
    assert plan([*nightly, tonight], rules).keep.keys() == plan([*sets, tonight], rules).keep.keys()


@given(histories(), policies)
def test_without_a_good_set_nothing_is_deleted(sets: list[SetFacts], rules: RetentionPolicy) -> None:
    assert plan([replace(item, good=False) for item in sets], rules).delete == []
