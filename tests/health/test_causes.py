"""One incident a cause: over every set of failed services, in random orders and with flaps, and in the cases worth a name."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest

from flows.health.dependencies import in_order, needs_of
from flows.health.policy import Policy
from railway.stack import PRODUCTION
from tests.health.sweeps import DEGRADED, DOWN, OK, UNKNOWN, Watch, kinds, observation

SETS = [frozenset(chosen) for size in range(len(PRODUCTION) + 1) for chosen in itertools.combinations(PRODUCTION, size)]
"""All 2^9 sets of failed services."""


def causes_of(failed: frozenset[str]) -> frozenset[str]:
    """Those that fail although nothing that they need does."""
    return frozenset(name for name in failed if not needs_of(name) & failed)


def outages(failed: frozenset[str], chance: random.Random) -> tuple[dict[str, str], int]:
    """A row for each failed service: it begins within the threshold, has flaps, and ends in any order.

    Returns: the rows, and the sweep before which nothing recovers for good.
    """
    length, steady = 14, chance.randint(10, 14)
    rows = {}
    for name in failed:
        begins = chance.randint(0, 2)
        row = ["."] * begins + ["D"] * (length - begins)
        first = chance.randint(begins + 1, 5)
        for place in chance.choice([(), (first,), (first, chance.randint(first + 2, steady - 2))]):
            row[place] = "."  # for one sweep; two would be a recovery
        rows[name] = "".join(row)
    last = {name: length + chance.randint(0, 3) for name in causes_of(failed)}
    for name in failed:
        # a casualty may need its time after the last of its causes: two sweeps end those, the threshold's third would be late
        ends = last.get(name) or max(last[cause] for cause in needs_of(name) & causes_of(failed)) + chance.randint(-3, 3)
        rows[name] += "D" * max(ends - length, 0)
    longest = max((len(row) for row in rows.values()), default=0)
    return {name: row.ljust(longest, ".") for name, row in rows.items()}, steady


@pytest.mark.long
def test_every_set_of_failed_services_opens_one_incident_a_cause_and_leaves_none_behind() -> None:
    chance = random.Random(512)  # noqa: S311 - the same rows every time
    for failed in SETS:
        rows, steady = outages(failed, chance)
        watch = Watch()
        for place in range(steady):
            watch.sweep({name: DOWN for name, row in rows.items() if row[place] == "D"})
        assert sorted(watch.opened) == sorted(causes_of(failed)), rows
        watch.sweep(dict.fromkeys(failed, DOWN))
        for cause in causes_of(failed):
            assert watch.open[cause].casualties == in_order(name for name in failed if cause in needs_of(name)), rows
        for place in range(steady + 1, max(map(len, rows.values()), default=0)):
            watch.sweep({name: DOWN for name, row in rows.items() if row[place] == "D"})
        for _ in range(22):
            watch.sweep()
            if not watch.state.episodes and not watch.state.tracks:
                break
        assert sorted(watch.opened) == sorted(causes_of(failed)), rows
        assert sorted(incident.key for incident in watch.of_kind("closed")) == sorted(
            incident.key for incident in watch.of_kind("opened")
        ), rows
        assert (watch.state.episodes, watch.state.tracks) == ((), {}), rows


def test_casualties_that_stay_down_after_their_causes_get_incidents_of_their_own() -> None:
    """For every set: causes recover, casualties do not."""
    for failed in SETS:
        watch = Watch()
        causes = causes_of(failed)
        if failed == causes:
            continue
        for _ in range(6):
            watch.sweep(dict.fromkeys(failed, DOWN))
        for sweep in range(8):
            watch.sweep(dict.fromkeys(failed - causes, DOWN))
            # two sweeps end the causes' incidents, then the threshold begins
            assert (set(watch.opened) == failed) is (sweep >= 4), failed
        for _ in range(3):
            watch.sweep()
        assert len(watch.opened) == len(failed)
        assert watch.state.episodes == ()


def test_the_order_of_observations_does_not_matter() -> None:
    chance = random.Random(7)  # noqa: S311 - the same orders every time
    failed = frozenset({"postgres", "redis", "litellm", "langfuse-web", "prefect-worker"})
    seen = [observation(name, "answer", DOWN if name in failed else OK) for name in PRODUCTION]
    results = set()
    for _ in range(20):
        watch = Watch()
        for _ in range(4):
            chance.shuffle(seen)
            watch.observe(seen)
        results.add(watch.state.to_text())
    assert len(results) == 1


# --- cases worth a name ------------------------------------------------------------------------------------------------------


def test_a_dead_postgres_is_one_incident_that_names_whom_it_takes_along() -> None:
    watch = Watch()
    watch.rows(postgres="D" * 4, litellm="D" * 4, langfuse_web="D" * 4, langfuse_worker="d" * 4)
    assert watch.opened == ["postgres"]
    assert watch.open["postgres"].casualties == ("litellm", "langfuse-web", "langfuse-worker")
    assert watch.last is not None
    assert watch.last.verdicts["litellm"].because_of == ("postgres",)


def test_a_missing_database_is_one_incident_and_whoever_used_it_is_a_casualty_until_it_is_back() -> None:
    watch = Watch()
    healthy = [observation(name, "answer", OK) for name in ("litellm", "redis")]
    lost = [
        observation("postgres", "connect", OK),
        observation("postgres", "databases", DOWN),
        observation("langfuse-web", "health", DOWN),
        observation("langfuse-worker", "health", DOWN),
    ]
    for _ in range(5):
        watch.observe([*healthy, *lost])
    assert [(one.service, one.aspect, one.casualties) for one in watch.of_kind("opened")] == [
        ("postgres", "databases", ("langfuse-web", "langfuse-worker"))
    ]
    for _ in range(3):
        watch.observe([*healthy, *(observation(one.service, one.aspect, OK) for one in lost)])
    assert (watch.opened, len(watch.of_kind("closed"))) == (["postgres"], 1)


def test_casualties_are_kept_up_to_date_while_the_cause_is_down() -> None:
    watch = Watch()
    found = []
    for rows in ({"postgres": "DDD"}, {"postgres": "DD", "litellm": "DD"}, {"postgres": "DD", "langfuse_web": "DD"}):
        watch.rows(**rows)
        found.append(watch.open["postgres"].casualties)
    assert found == [(), ("litellm",), ("langfuse-web",)]
    closed = watch.rows(postgres="..")
    assert [happening.incident.casualties for happening in closed] == [("langfuse-web",)]


def test_a_casualty_seen_before_its_cause_opens_nothing() -> None:
    watch = Watch()
    watch.rows(postgres="..DDDD", litellm="DDDDDD")
    assert watch.opened == ["postgres"]


def test_bad_sweeps_shared_with_a_need_are_not_held_against_who_needs_it() -> None:
    watch = Watch()
    watch.rows(postgres="DD...", litellm="DDDD.")
    assert watch.opened == []


def test_two_causes_are_two_incidents_and_their_casualty_is_listed_in_both() -> None:
    watch = Watch()
    watch.rows(postgres="DDD", redis="DDD", litellm="DDD")
    assert watch.opened == ["postgres", "redis"]
    assert {incident.casualties for incident in watch.open.values()} == {("litellm",)}


def test_an_unknown_need_excuses_nobody() -> None:
    watch = Watch()
    watch.rows(postgres="????", litellm="DDDD")
    assert watch.opened == ["litellm"]


def test_a_cause_that_cannot_be_seen_any_more_is_still_the_cause() -> None:
    watch = Watch()
    for ping in (DOWN, DOWN, DOWN, *[UNKNOWN] * 8):
        watch.observe(
            [
                observation("redis", "ping", ping),
                observation("redis", "policy", UNKNOWN if ping is DOWN else OK),
                observation("litellm", "liveness", DOWN),
            ]
        )
    assert watch.opened == ["redis"]


def test_a_degraded_need_excuses_nobody() -> None:
    watch = Watch()
    watch.rows(postgres="dddd", litellm="DDDD")
    assert sorted(watch.opened) == ["litellm", "postgres"]


def test_a_need_that_is_only_degraded_by_now_excuses_nobody_although_its_incident_is_open() -> None:
    watch = Watch()
    watch.rows(postgres="DDDdddddddd", litellm="....DDDDDDD")
    assert watch.opened == ["postgres", "litellm"]
    assert len(watch.open) == 2


def test_a_need_that_fails_now_and_then_does_not_hide_a_service_that_fails_for_ever() -> None:
    watch = Watch(Policy(failure_threshold=10, flap_high=1.0))
    watch.rows(postgres=("D" + "." * 8) * 6, litellm="D" * 54)
    assert watch.opened == ["litellm"]


def test_an_incident_of_a_service_that_becomes_a_casualty_still_ends() -> None:
    """Only opening is held back, never resolution (Alertmanager#2754)."""
    watch = Watch()
    watch.rows(postgres="......DDDDDDDD", litellm="DDDDDDDDDD....")
    assert watch.opened == ["litellm", "postgres"]
    assert [incident.service for incident in watch.of_kind("closed")] == ["litellm"]


def test_a_casualty_with_an_incident_of_its_own_is_not_reminded_of_while_its_cause_is_down() -> None:
    watch = Watch()
    watch.rows(postgres="..." + "D" * 60, litellm="D" * 63)
    assert {happening.incident.service for happening in watch.happenings if happening.kind != "opened"} == {"postgres"}


def test_backups_that_cannot_be_seen_because_the_store_is_down_are_its_casualty() -> None:
    watch = Watch()
    for _ in range(4):
        watch.observe([observation("minio", "probe", DOWN), observation("backups", "newest set", DEGRADED)])
    assert watch.opened == ["minio"]
    assert watch.open["minio"].casualties == ("backups",)
    for _ in range(6):
        watch.observe([observation("minio", "probe", OK), observation("backups", "newest set", DEGRADED)])
    assert watch.opened == ["minio", "backups"]


def test_a_service_that_nobody_described_is_judged_by_itself() -> None:
    watch = Watch()
    for _ in range(3):
        watch.observe([observation("postgres", "answer", UNKNOWN), observation("sidecar", "answer", DOWN)])
    assert watch.opened == ["sidecar"]


def test_a_flapping_cause_is_one_incident_and_its_casualties_have_none() -> None:
    watch = Watch()
    watch.rows(postgres="D." * 20, litellm=".D" * 20)
    assert watch.opened == ["postgres"]
    assert kinds(watch.rows(postgres="." * 20, litellm="." * 20)) == ["closed"]


def chains() -> Iterator[tuple[str, str]]:
    """Every pair of a service and one that it needs."""
    return ((name, need) for name in PRODUCTION for need in needs_of(name))


@pytest.mark.parametrize(("casualty", "cause"), sorted(chains()))
def test_each_edge_of_the_graph_excuses(casualty: str, cause: str) -> None:
    watch = Watch()
    for _ in range(4):
        watch.sweep({casualty: DOWN, cause: DOWN})
    assert watch.opened == [cause]
    assert watch.open[cause].casualties == (casualty,)


# --- aspects that are set aside -----------------------------------------------------------------------------------------------


def test_a_public_bucket_is_an_incident_that_excuses_nobody() -> None:
    watch = Watch()
    for _ in range(4):
        public = observation("minio", "private-langfuse", DOWN)
        watch.observe([observation("minio", "probe", OK), public, observation("langfuse-web", "health", DOWN)])
    assert sorted(watch.opened) == ["langfuse-web", "minio"]
    assert watch.open["minio"].severity == "critical"
    assert watch.open["minio"].casualties == ()


def test_an_unsafe_gateway_that_dies_as_well_is_told_as_well() -> None:
    watch = Watch()
    unsafe = observation("litellm", "authentication", DOWN)
    for _ in range(10):
        watch.observe([observation("litellm", "liveness", OK), unsafe])
    for _ in range(4):
        watch.observe([observation("litellm", "liveness", DOWN)])
    assert [incident.aspect for incident in watch.of_kind("opened")] == ["authentication", "liveness"]
    for _ in range(4):
        watch.observe([observation("litellm", "liveness", OK), unsafe])
    assert [incident.aspect for incident in watch.state.incidents] == ["authentication"]


def test_a_public_address_that_fails_with_its_service_is_no_incident_of_its_own() -> None:
    watch = Watch()
    for _ in range(5):
        watch.observe([observation("litellm", "liveness", DOWN), observation("litellm", "url-llm.example.com", DOWN)])
    assert [incident.aspect for incident in watch.of_kind("opened")] == ["liveness"]


def test_two_public_addresses_are_two_incidents() -> None:
    watch = Watch()
    for _ in range(5):
        watch.observe([observation("public", aspect, DOWN) for aspect in ("url-a.example.com", "url-b.example.com")])
    assert len(watch.opened) == 2


def test_a_certificate_that_runs_out_is_raised_from_warning_when_it_is_urgent() -> None:
    watch = Watch()
    for status in (DEGRADED, DEGRADED, DEGRADED, DEGRADED, DOWN, DOWN):
        watch.observe([observation("litellm", "url-x", OK), observation("litellm", "certificate-x", status)])
    assert kinds(watch.happenings) == ["opened", "escalated"]
    assert watch.open["litellm"].severity == "critical"
