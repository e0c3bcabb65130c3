"""What upgrades are refused for, what they change besides the image, and what it takes to go back."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from blocks.denied import DENIED_VERSIONS
from flows.upgrade.rules import (
    RULES,
    Background,
    ClickHouseSchema,
    Facts,
    PrismaSchema,
    Version,
    Way,
    data_goes_back,
    moves_schema,
    refusals,
    way_back,
)
from flows.upgrade.rules.langfuse import FIRST_OF_FOUR, SERVICES, newest_migration
from flows.upgrade.rules.litellm import resolver
from railway.services.images import defaults

RUNS = {
    "litellm": "1.102.4",
    "langfuse-web": "3.225.4",
    "langfuse-worker": "3.225.4",
    "clickhouse": "26.4.5.143",
    "postgres": "16",
    "redis": "8.2.1",
    "minio": "RELEASE.2025-09-07T16-13-09Z",
    "prefect-server": "3.9.1-python3.12",
}
TWO = {name: dict(FIRST_OF_FOUR) for name in SERVICES}


def facts(runs: dict[str, str] | None = None, **changes: object) -> Facts:
    """Those of a stack that is well; some of its services run other versions."""
    well = Facts(
        runs={name: Version.of(tag) for name, tag in {**RUNS, **(runs or {})}.items()},
        master_key="set",
        callbacks=frozenset({"langfuse"}),
        foreign_tables=(),
        litellm_schema=PrismaSchema(171, "20261001_last"),
        langfuse_schema=PrismaSchema(424, "20260820_last"),
        clickhouse_schema=ClickHouseSchema(37),
        background=Background(),
        replicas={"langfuse-web": 1},
        health_seconds={"langfuse-web": 1800},
    )
    return replace(well, **changes)  # type: ignore[arg-type]


def broken(service: str, old: str, new: str, known: Facts) -> list[str]:
    """Names of the rules that refuse it."""
    return sorted({refusal.rule for refusal in refusals(service, Version.of(old), Version.of(new), known)})


# --- versions ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "numbers", "text"),
    [
        ("ghcr.io/berriai/litellm:v1.102.4-stable@sha256:" + 64 * "0", (1, 102, 4), "1.102.4"),
        ("main-v1.80.0-stable", (1, 80, 0), "1.80.0"),
        ("1.102.4", (1, 102, 4), "1.102.4"),
        ("clickhouse/clickhouse-server:26.4.5.143", (26, 4, 5, 143), "26.4.5.143"),
        ("registry.example:5000/redis:8.2.1", (8, 2, 1), "8.2.1"),
        ("quay.io/minio/minio:RELEASE.2025-09-07T16-13-09Z", (2025, 9, 7, 16, 13, 9), "RELEASE.2025-09-07T16-13-09Z"),
        ("prefecthq/prefect:3.9.1-python3.12", (3, 9, 1), "3.9.1"),
        ("ghcr.io/berriai/litellm:main-stable", (), "main-stable"),
        ("redis", (), "redis"),
        ("library/redis", (), "unknown"),
        ("", (), "unknown"),
    ],
)
def test_a_version_is_read_from_whatever_names_it(said: str, numbers: tuple[int, ...], text: str) -> None:
    assert (Version.of(said).numbers, str(Version.of(said))) == (numbers, text)


@given(st.lists(st.tuples(*(st.integers(0, 300) for _ in range(3))), min_size=2, max_size=6))
def test_versions_have_the_order_of_their_numbers(numbers: list[tuple[int, ...]]) -> None:
    versions = [Version.of(".".join(map(str, one))) for one in numbers]
    assert [version.numbers for version in sorted(versions)] == sorted(numbers)


@pytest.mark.parametrize("tag", ["1.109.0-rc.1", "v1.80.0.dev1", "1.83.0-nightly", "8.4.0-rc1", "3.10.0b2", "4.17.0-beta"])
def test_an_unfinished_release_is_seen_by_its_tag(tag: str) -> None:
    assert Version.of(tag).is_preview


@pytest.mark.parametrize("image", defaults(3).values())
def test_what_ships_is_a_finished_release(image: str) -> None:
    assert not Version.of(image).is_preview
    assert Version.of(image).numbers


# --- refusals ------------------------------------------------------------------------------------------------------------

FINE = [
    ("litellm", "1.90.0", "1.102.4", facts()),
    ("litellm", "1.102.4", "1.106.0", facts()),
    ("litellm", "1.108.0", "1.106.0", facts()),  # both only ever add
    ("litellm", "1.102.4", "1.90.0", facts(variables={"litellm": {"DISABLE_SCHEMA_UPDATE": "True"}})),
    ("litellm", "1.102.4", "1.104.6", facts({"langfuse-web": "4.16.0"})),
    ("litellm", "1.102.4", "1.103.0", facts({"langfuse-web": "4.16.0"}, callbacks=frozenset({"langfuse_otel"}))),
    ("langfuse-web", "3.225.4", "3.226.0", facts()),
    ("langfuse-web", "3.225.4", "3.226.0", Facts()),
    ("langfuse-web", "3.226.0", "3.225.4", facts()),
    ("langfuse-worker", "3.225.4", "3.226.0", facts()),
    (
        "langfuse-web",
        "3.225.4",
        "4.16.0",
        facts({"litellm": "1.104.0"}, variables=TWO, from_three_to_four=True),
    ),
    ("clickhouse", "24.12.6.70", "26.4.5.143", facts()),
    ("clickhouse", "26.4.5.143", "26.4.5.90", facts()),
    ("redis", "8.2.1", "8.4.0", facts()),
    ("redis", "8.2.3", "8.2.1", facts()),
    ("postgres", "16", "16", facts()),
    ("minio", "RELEASE.2025-07-23T15-54-02Z", "RELEASE.2025-09-07T16-13-09Z", facts()),
    ("prefect-server", "3.8.8-python3.12", "3.9.1-python3.12", facts()),
]


@pytest.mark.parametrize(("service", "old", "new", "known"), FINE)
def test_what_is_known_to_work_is_let_through(service: str, old: str, new: str, known: Facts) -> None:
    assert broken(service, old, new, known) == []


REFUSED = [
    ("exact-version", "redis", "8.2.1", "8.4", facts()),
    ("exact-version", "litellm", "1.102.4", "main-stable", facts()),
    ("exact-version", "litellm", "1.102.4", "1.109.0-rc.1", facts()),
    ("exact-version", "postgres", "16", "latest", facts()),
    *[("litellm-denied", "litellm", "1.80.0", f"v{number}", facts()) for number in sorted(DENIED_VERSIONS)],
    ("litellm-alone", "litellm", "1.90.0", "1.102.4", facts(foreign_tables=("projects", "api_keys"))),
    ("litellm-whole-schema", "litellm", "1.90.0", "1.102.4", facts(litellm_schema=PrismaSchema(7, "x", ("20261101_bad",)))),
    ("litellm-back", "litellm", "1.102.4", "1.90.0", facts()),
    ("litellm-back", "litellm", "1.108.0", "1.106.0", facts(start_commands={"litellm": "--use_legacy_migration_resolver"})),
    ("litellm-master-key", "litellm", "1.102.4", "1.106.0", facts(master_key="unset")),
    ("litellm-master-key", "litellm", "1.102.4", "1.108.0", facts(master_key="weak")),
    ("litellm-traces", "litellm", "1.102.4", "1.103.8", facts({"langfuse-web": "4.16.0"})),
    ("litellm-redis", "litellm", "1.90.0", "1.102.4", facts({"redis": "6.2.19"})),
    ("langfuse-major", "langfuse-web", "3.225.4", "4.16.0", facts({"litellm": "1.104.0"}, variables=TWO)),
    ("langfuse-major", "langfuse-web", "4.16.0", "3.225.4", facts(from_three_to_four=True)),
    ("langfuse-major", "langfuse-web", "2.95.0", "4.16.0", facts({"litellm": "1.104.0"}, from_three_to_four=True)),
    ("langfuse-stores", "langfuse-web", "3.225.4", "3.226.0", facts({"clickhouse": "24.2.1.5"})),
    ("langfuse-stores", "langfuse-web", "4.16.0", "4.17.0", facts({"litellm": "1.104.0", "clickhouse": "25.5.1.1"})),
    ("langfuse-whole-schema", "langfuse-web", "3.225.4", "3.226.0", facts(clickhouse_schema=ClickHouseSchema(38, dirty=True))),
    (
        "langfuse-whole-schema",
        "langfuse-web",
        "3.225.4",
        "3.226.0",
        facts(langfuse_schema=PrismaSchema(3, "a", ("20261101_b",))),
    ),
    ("langfuse-knows-schema", "langfuse-web", "3.226.0", "3.225.4", facts(clickhouse_schema=ClickHouseSchema(38))),
    ("langfuse-knows-schema", "langfuse-web", "3.226.0", "3.225.4", facts(clickhouse_schema=None)),
    ("langfuse-knows-schema", "langfuse-web", "3.225.4", "3.100.0", facts()),
    ("langfuse-background", "langfuse-web", "3.225.4", "3.226.0", facts(background=Background(running=("step_2",)))),
    ("langfuse-background", "langfuse-worker", "3.225.4", "3.226.0", facts(background=Background(failed=("step_2",)))),
    ("langfuse-one-migrates", "langfuse-web", "3.225.4", "3.226.0", facts(replicas={"langfuse-web": 2})),
    ("langfuse-one-migrates", "langfuse-web", "3.225.4", "3.226.0", facts(health_seconds={"langfuse-web": 300})),
    ("langfuse-traces", "langfuse-web", "3.225.4", "4.16.0", facts(variables=TWO, from_three_to_four=True)),
    ("langfuse-first-of-four", "langfuse-web", "3.225.4", "4.16.0", facts({"litellm": "1.104.0"}, from_three_to_four=True)),
    ("clickhouse-langfuse", "clickhouse", "24.3.1.1", "25.5.1.1", facts({"langfuse-web": "4.16.0"})),
    ("clickhouse-back", "clickhouse", "26.4.5.143", "25.12.1.1", facts()),
    ("redis-version", "redis", "6.0.1", "6.2.19", facts()),
    ("redis-back", "redis", "8.2.1", "7.4.6", facts()),
    ("postgres-in-place", "postgres", "16", "18", facts()),
    ("postgres-in-place", "postgres", "18", "16", facts()),
    ("postgres-langfuse", "postgres", "14", "14", facts({"langfuse-web": "4.16.0"})),
    ("minio-back", "minio", "RELEASE.2025-09-07T16-13-09Z", "RELEASE.2025-07-23T15-54-02Z", facts()),
    ("minio-checksum", "minio", "RELEASE.2024-01-01T00-00-00Z", "RELEASE.2025-01-20T14-49-07Z", facts()),
    ("prefect-forward", "prefect-server", "3.9.1", "3.8.8", facts()),
    ("prefect-forward", "prefect-server", "3.9.1", "4.0.0", facts()),
]


@pytest.mark.parametrize(("rule", "service", "old", "new", "known"), REFUSED)
def test_what_is_known_to_break_is_refused_by_its_rule_alone(rule: str, service: str, old: str, new: str, known: Facts) -> None:
    assert broken(service, old, new, known) == [rule]


def test_every_rule_refuses_something_and_says_what_to_do_and_where_it_is_known_from() -> None:
    assert {rule.name for rule in RULES} == {case[0] for case in REFUSED}
    for rule in RULES:
        assert rule.about.endswith(".")
        assert rule.source
    for _, service, old, new, known in REFUSED:
        for refusal in refusals(service, Version.of(old), Version.of(new), known):
            assert refusal.service == service
            assert ";" in refusal.sentence, f"{refusal.rule} says what is wrong, not what to do: {refusal.sentence}"
            assert "\n" not in str(refusal)


def test_a_stack_of_which_nothing_is_known_may_upgrade_within_a_major_but_langfuse_does_not_cross_one() -> None:
    assert broken("litellm", "1.90.0", "1.109.1", Facts()) == []
    crossing = Facts(from_three_to_four=True, variables=TWO)
    assert broken("langfuse-web", "3.225.4", "4.16.0", crossing) == ["langfuse-stores"]


def test_the_migrations_of_an_uncounted_version_lie_between_those_of_its_neighbours() -> None:
    assert newest_migration((3, 225, 4)) == (37, 37)
    assert newest_migration((4, 0, 0)) == (37, 46)
    assert newest_migration((4, 17, 0)) == (46, None)
    assert newest_migration((3, 0, 0)) == (0, 37)


@pytest.mark.parametrize(
    ("version", "variables", "command", "found"),
    [
        ("1.80.0", {"USE_V2_MIGRATION_RESOLVER": "true"}, "", "v1"),
        ("1.90.0", {}, "", "v1"),
        ("1.90.0", {"USE_V2_MIGRATION_RESOLVER": "True"}, "", "v2"),
        ("1.90.0", {}, "litellm --use_v2_migration_resolver", "v2"),
        ("1.105.4", {}, "", "v1"),
        ("1.106.0", {}, "", "v2"),
        ("1.109.1", {"USE_V2_MIGRATION_RESOLVER": "true"}, "litellm --use_legacy_migration_resolver", "v1"),
    ],
)
def test_how_litellm_migrates_follows_from_its_version_and_what_it_is_told(
    version: str, variables: dict[str, str], command: str, found: str
) -> None:
    assert resolver(Version.of(version), variables, command) == found


# --- the way back --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "old", "new", "before", "moves"),
    [
        ("litellm", "1.90.0", "1.102.4", facts(), True),
        ("litellm", "1.90.0", "1.102.4", facts(variables={"litellm": {"DISABLE_SCHEMA_UPDATE": "true"}}), False),
        ("litellm", "1.102.4", "1.90.0", facts(), True),
        ("litellm", "1.108.0", "1.106.0", facts(), False),
        ("litellm", "1.102.4", "v1.102.4", facts(), False),
        ("langfuse-web", "3.225.4", "3.226.0", facts(), True),
        ("langfuse-web", "3.226.0", "3.225.4", facts(), False),
        ("langfuse-worker", "3.225.4", "3.226.0", facts(), False),
        ("prefect-server", "3.8.8", "3.9.1", facts(), True),
        ("redis", "7.4.6", "8.2.1", facts(), False),
        ("clickhouse", "25.12.1.1", "26.4.5.143", facts(), False),
    ],
)
def test_who_migrates_a_database_when_it_starts_is_known(service: str, old: str, new: str, before: Facts, moves: bool) -> None:
    assert moves_schema(service, Version.of(old), Version.of(new), before) is moves


MORE = PrismaSchema(172, "20261110_more")
BACK = [
    ("litellm", "1.90.0", "1.102.4", facts(), None, Way.DATA),
    ("litellm", "1.90.0", "1.102.4", facts(), facts(), Way.IMAGE),
    ("litellm", "1.90.0", "1.102.4", facts(), facts(litellm_schema=MORE), Way.DATA),
    ("litellm", "1.90.0", "1.102.4", facts(), facts(litellm_schema=PrismaSchema(171, "20261001_last", ("bad",))), Way.DATA),
    ("litellm", "1.90.0", "1.102.4", facts(litellm_schema=None), facts(litellm_schema=MORE), Way.DATA),
    ("litellm", "1.106.0", "1.108.0", facts(), facts(litellm_schema=MORE), Way.IMAGE),
    ("litellm", "1.90.0", "1.102.4", facts(variables={"litellm": {"DISABLE_SCHEMA_UPDATE": "1"}}), None, Way.IMAGE),
    ("langfuse-web", "3.224.0", "3.225.4", facts(), None, Way.DATA),
    ("langfuse-web", "3.224.0", "3.225.4", facts(), facts(), Way.IMAGE),
    ("langfuse-web", "3.225.4", "3.226.0", facts(), facts(clickhouse_schema=ClickHouseSchema(38)), Way.DATA),
    ("langfuse-web", "3.225.4", "3.226.0", facts(), facts(clickhouse_schema=ClickHouseSchema(37, dirty=True)), Way.DATA),
    ("langfuse-web", "3.225.4", "4.16.0", facts(), facts(clickhouse_schema=None), Way.DATA),
    ("langfuse-worker", "3.225.4", "3.226.0", facts(), None, Way.IMAGE),
    ("clickhouse", "25.12.1.1", "26.4.5.143", facts(), None, Way.DATA),
    ("clickhouse", "26.4.5.90", "26.4.5.143", facts(), None, Way.IMAGE),
    ("redis", "7.4.6", "8.2.1", facts(), None, Way.EMPTY),
    ("redis", "8.2.1", "8.2.3", facts(), None, Way.IMAGE),
    ("minio", "RELEASE.2025-07-23T15-54-02Z", "RELEASE.2025-09-07T16-13-09Z", facts(), None, Way.VOLUME),
    ("prefect-server", "3.8.8", "3.9.1", facts(), None, Way.VOLUME),
    ("postgres", "16", "18", facts(), None, Way.DATA),
    ("postgres", "16", "16", facts(), None, Way.IMAGE),
]


@pytest.mark.parametrize(("service", "old", "new", "before", "now", "way"), BACK)
def test_what_goes_back_with_the_image_follows_from_what_really_moved(
    service: str, old: str, new: str, before: Facts, now: Facts | None, way: Way
) -> None:
    back = way_back(service, Version.of(old), Version.of(new), before, now)
    assert back.way is way
    assert re.search(r"\d", back.why) or service == "langfuse-worker"
    assert data_goes_back(service, Version.of(old), Version.of(new), before, now) is (way is Way.DATA)
