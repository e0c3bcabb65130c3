"""Every rule refuses what it is there to refuse, says who said so, and lets through what ships."""

from __future__ import annotations

import re

import pytest

from railway.rules import RULES, refusals
from railway.services.images import WORKER, version_of
from railway.stack import Health, LangfuseMajor, Literal, ObjectStore, Secret, SecretKind, Variant, Volume
from railway.variants import build
from tests.railway.stacks import MAJORS, SHIPPED, Spoil, changed, having, setting, shipped, starting, without

LOGS = "ghcr.io/berriai/litellm:"
SHARED = "postgresql://langfuse:${{postgres.LANGFUSE_DB_PASSWORD}}@${{postgres.RAILWAY_PRIVATE_DOMAIN}}:5432/langfuse"
SAME_ROLE = "postgresql://langfuse:${{postgres.LANGFUSE_DB_PASSWORD}}@${{postgres.RAILWAY_PRIVATE_DOMAIN}}:5432/litellm"

CASES: list[tuple[str, str, Spoil]] = [
    ("exact-image", "redis", having("redis", image="redis:8.2")),
    ("exact-image", "redis", having("redis", image="redis")),
    ("exact-image", "litellm", having("litellm", image=LOGS + "main-stable")),
    ("exact-image", "litellm", having("litellm", image="")),
    ("exact-image", "minio", having("minio", image="cgr.dev/chainguard/minio:latest")),
    ("exact-image", "postgres", having("postgres", image="ghcr.io/railwayapp-templates/postgres-ssl:latest")),
    ("exact-image", "postgres", having("postgres", image="ghcr.io/railwayapp-templates/postgres-ssl:16.10")),
    ("image-exists", "redis", having("redis", image="bitnami/redis:7.2.5")),
    ("image-exists", "minio", having("minio", image="minio/minio:RELEASE.2025-09-07T16-13-09Z")),
    ("image-exists", "minio", having("minio", image="docker.io/minio/minio:RELEASE.2025-09-07T16-13-09Z")),
    ("own-image", "prefect-worker", having("prefect-worker", image=WORKER)),
    *[
        ("litellm-denied", "litellm", having("litellm", image=LOGS + tag))
        for tag in ("v1.82.7", "1.82.8", "v1.107.0", "v1.107.0@sha256:" + 64 * "0", "main-v1.82.7-stable")
    ],
    ("langfuse-major", "langfuse-worker", having("langfuse-worker", image="langfuse/langfuse-worker:3.225.3")),
    ("clickhouse-version", "clickhouse", having("clickhouse", image="clickhouse/clickhouse-server:23.8.16.16")),
    ("postgres-version", "postgres", having("postgres", image="ghcr.io/railwayapp-templates/postgres-ssl:11")),
    ("redis-version", "redis", having("redis", image="redis:6.2.19")),
    ("shared-database", "litellm", setting("litellm", DATABASE_URL=SHARED)),
    ("shared-database", "litellm", setting("litellm", DATABASE_URL=SAME_ROLE)),
    *[("private-store", name, having(name, public=True)) for name in ("clickhouse", "minio")],
    *[
        ("on-a-volume", name, having(name, volume=None))
        for name in ("postgres", "clickhouse", "redis", "minio", "prefect-server")
    ],
    ("on-a-volume", "prefect-server", having("prefect-server", volume=Volume("/elsewhere", 5))),
    ("postgres-folder", "postgres", setting("postgres", PGDATA="/var/lib/postgresql/data")),
    ("postgres-folder", "postgres", setting("postgres", PGDATA=None)),
    ("postgres-folder", "postgres", setting("postgres", PGDATA="/var/lib/postgresql/data2/pgdata")),
    ("postgres-folder", "postgres", having("postgres", volume=Volume("/var/lib/postgresql", 5))),
    ("redis-keeps", "redis", starting("redis", "noeviction", "allkeys-lru")),
    ("redis-keeps", "redis", starting("redis", "--appendonly yes", "--appendonly no")),
    ("redis-memory", "redis", starting("redis", "--maxmemory 1gb", "--maxmemory 2gb")),
    ("redis-memory", "redis", starting("redis", "--maxmemory 1gb", "")),
    ("fit-for-urls", "litellm", setting("postgres", LITELLM_DB_PASSWORD=Secret(SecretKind.AUTH_STRING))),
    ("langfuse-needs", "langfuse-web", setting("langfuse-web", NEXTAUTH_SECRET=None)),
    ("langfuse-needs", "langfuse-worker", setting("langfuse-worker", LANGFUSE_S3_EVENT_UPLOAD_BUCKET=None)),
    ("langfuse-needs", "langfuse-web", setting("langfuse-web", ENCRYPTION_KEY=None)),
    ("langfuse-alone", "langfuse-web", setting("langfuse-web", CLICKHOUSE_CLUSTER_ENABLED=None)),
    ("langfuse-alone", "langfuse-worker", setting("langfuse-worker", CLICKHOUSE_CLUSTER_ENABLED="true")),
    ("encryption-key", "langfuse-web", setting("langfuse-web", ENCRYPTION_KEY=Secret(SecretKind.PASSWORD, 64))),
    ("encryption-key", "langfuse-web", setting("langfuse-web", ENCRYPTION_KEY=Secret(SecretKind.HEX, 32))),
    ("one-salt", "langfuse-worker", setting("langfuse-worker", SALT=Secret(SecretKind.PASSWORD))),
    ("one-salt", "langfuse-worker", setting("langfuse-worker", CLICKHOUSE_DB="default")),
    ("keys-at-first-boot", "langfuse-web", setting("langfuse-web", LANGFUSE_INIT_ORG_ID=None)),
    ("keys-at-first-boot", "litellm", setting("litellm", LANGFUSE_SECRET_KEY=Secret(SecretKind.LANGFUSE_SECRET_KEY))),
    ("langfuse-listens", "langfuse-web", setting("langfuse-web", HOSTNAME=None)),
    ("langfuse-listens", "langfuse-worker", setting("langfuse-worker", HOSTNAME="localhost")),
    ("both-families", "langfuse-web", changed("langfuse-web", "REDIS_CONNECTION_STRING", "?family=0", "")),
    ("write-mode", "langfuse-web", setting("langfuse-web", LANGFUSE_MIGRATION_V4_WRITE_MODE="events_only")),
    ("event-prefix", "langfuse-worker", setting("langfuse-worker", LANGFUSE_S3_EVENT_UPLOAD_PREFIX="events/")),
    ("litellm-config", "litellm", having("litellm", start_command=None)),
    ("litellm-config", "litellm", setting("litellm", LITELLM_CONFIG=None)),
    ("litellm-config", "litellm", starting("litellm", "--config /tmp/litellm.yaml ", "")),
    ("litellm-config", "litellm", setting("litellm", LITELLM_CONFIG="model_list: [")),
    *[
        ("litellm-config", "litellm", changed("litellm", "LITELLM_CONFIG", *change))
        for change in (
            ("general_settings:\n", "general_settings:\n  enable_ui: true\n"),
            ("router_settings:\n", "router_settings:\n  enable_fallbacks: true\n"),
            ("  retry_policy:\n", "  retry_policy:\n    ContentFilterErrorRetries: 1\n"),
            ("litellm_settings:\n", "litellm_settings:\n  retry_after: 1\n"),
        )
    ],
    ("langfuse-callback", "litellm", changed("litellm", "LITELLM_CONFIG", '["langfuse"]', '["s3"]')),
    ("master-key", "litellm", setting("litellm", LITELLM_MASTER_KEY=Secret(SecretKind.PASSWORD))),
    ("master-key", "litellm", setting("litellm", LITELLM_SALT_KEY="${{LITELLM_MASTER_KEY}}")),
    ("litellm-health", "litellm", having("litellm", health=Health("/health"))),
    ("litellm-health", "litellm", having("litellm", health=Health("/health/?model=gpt-4o"))),
    ("complete", "stack", without("clickhouse")),
    ("complete", "litellm", having("litellm", needs=("postgres", "redis", "pgbouncer"))),
    ("known-reference", "litellm", setting("litellm", REDIS_HOST="${{cache.RAILWAY_PRIVATE_DOMAIN}}")),
    ("known-reference", "litellm", setting("litellm", REDIS_PASSWORD="${{redis.PASSWORD}}")),
    ("known-reference", "litellm", setting("litellm", LITELLM_LOG="${{redis}}")),
    ("known-reference", "litellm", setting("litellm", LITELLM_LOG=Literal("${{redis.REDIS_PASSWORD}}"))),
    ("known-reference", "prefect-worker", having("litellm", public=False)),
    ("no-circle", "", setting("langfuse-web", LITELLM="http://${{litellm.RAILWAY_PRIVATE_DOMAIN}}:4000")),
    ("no-plain-secret", "redis", setting("redis", REDIS_PASSWORD="hunter2")),
    ("no-plain-secret", "litellm", setting("litellm", OPENAI_API_KEY="sk-proj-1234")),
    ("health-port", "litellm", setting("litellm", PORT=None)),
    ("health-port", "clickhouse", setting("clickhouse", PORT="9000")),
    ("time-to-end", "postgres", having("postgres", draining_seconds=0)),
    ("time-to-end", "prefect-worker", setting("prefect-worker", WORKER_DRAIN_SECONDS="320")),
    ("time-to-end", "prefect-worker", setting("prefect-worker", WORKER_DRAIN_SECONDS=None)),
    ("one-at-a-time", "clickhouse", having("clickhouse", overlap_seconds=10)),
    ("prefect-auth", "prefect-server", setting("prefect-server", PREFECT_SERVER_API_AUTH_STRING=None)),
    ("prefect-auth", "prefect-worker", setting("prefect-worker", PREFECT_API_AUTH_STRING=Secret(SecretKind.AUTH_STRING))),
    (
        "prefect-apart",
        "prefect-server",
        setting("prefect-server", PREFECT_SERVER_DATABASE_CONNECTION_URL="${{postgres.DATABASE_URL}}"),
    ),
    ("prefect-apart", "prefect-server", setting("prefect-server", PREFECT_SERVER_ENCRYPTION_KEY=None)),
    ("worker-reaches-prefect", "prefect-worker", changed("prefect-worker", "PREFECT_API_URL", "/api", "")),
    ("gateway-token", "prefect-worker", setting("prefect-worker", GATEWAY_TOKEN=None)),
]


@pytest.mark.parametrize(
    ("rule", "service", "spoil"), CASES, ids=[f"{rule}-{number}" for number, (rule, *_) in enumerate(CASES)]
)
def test_what_cannot_work_is_refused_by_its_rule_and_no_other_one_minds(rule: str, service: str, spoil: Spoil) -> None:
    found = refusals(spoil(shipped()))
    assert {refusal.rule for refusal in found} - _ALSO.get(rule, set()) == {rule}
    mine = [refusal for refusal in found if refusal.rule == rule]
    assert not service or service in {refusal.service for refusal in mine}
    for refusal in mine:
        assert refusal.source
        assert rule in str(refusal)
        assert refusal.source in str(refusal)
        assert "\n" not in refusal.sentence
        assert re.search(r"[;,:] ", refusal.sentence), "it says what is wrong, and what to do"


_ALSO = {  # what is wrong in two ways at once is refused twice
    "langfuse-needs": {"known-reference", "one-salt"},
    "both-families": {"one-salt"},
    "complete": {"known-reference"},
    "prefect-auth": {"known-reference"},
}


@pytest.mark.parametrize(("variant", "major", "store"), SHIPPED)
def test_nothing_that_ships_is_refused(variant: Variant, major: LangfuseMajor, store: ObjectStore) -> None:
    assert refusals(shipped(variant, major, store)) == []


def test_every_rule_is_shown_to_refuse_something_and_says_in_a_sentence_what_it_is_about() -> None:
    assert {rule.name for rule in RULES} == {rule for rule, *_ in CASES}
    assert len({rule.name for rule in RULES}) == len(RULES)
    assert [rule.name for rule in RULES if not (rule.about.endswith(".") and rule.source)] == []


def test_the_production_stack_waits_for_an_image_of_the_worker_s_that_somebody_has_pushed() -> None:
    (refusal,) = refusals(build("production"))
    assert (refusal.rule, refusal.service) == ("own-image", "prefect-worker")
    assert "WORKER_IMAGE" in refusal.sentence
    assert refusals(build("starter")) == []


@pytest.mark.parametrize("old", ["24.12.6.70", "25.5.2.47", "25.11.9.9"])
def test_langfuse_4_is_not_put_on_a_clickhouse_whose_migrations_it_cannot_run(old: str) -> None:
    image = f"clickhouse/clickhouse-server:{old}"
    assert [refusal.rule for refusal in refusals(shipped(major=4, clickhouse=image))] == ["clickhouse-version"]
    assert refusals(shipped(major=3, clickhouse=image)) == []


def test_langfuse_4_wants_a_postgres_that_3_does_not() -> None:
    image = "ghcr.io/railwayapp-templates/postgres-ssl:14"
    assert [refusal.rule for refusal in refusals(shipped(major=4, postgres=image))] == ["postgres-version"]
    assert refusals(shipped(major=3, postgres=image)) == []


@pytest.mark.parametrize(("tag", "is_old"), [("v1.102.4", True), ("v1.103.9", True), ("v1.104.0", False), ("1.109.1", False)])
def test_an_old_litellm_traces_to_langfuse_4_by_opentelemetry_or_not_at_all(tag: str, is_old: bool) -> None:
    stack = shipped(major=4, litellm=LOGS + tag)
    assert refusals(stack) == [], "build chooses the callback that fits"
    plain = stack.with_service(
        stack.services["litellm"].with_variables(
            LITELLM_CONFIG=shipped(major=3).services["litellm"].variables["LITELLM_CONFIG"]
        )
    )
    assert [refusal.rule for refusal in refusals(plain)] == (["langfuse-callback"] if is_old else [])


def test_langfuse_4_is_told_how_to_write_in_a_way_that_it_accepts() -> None:
    stack = setting("langfuse-worker", LANGFUSE_MIGRATION_V4_ALLOW_PREVIEW_OPT_IN="false")(shipped(major=4))
    assert [refusal.rule for refusal in refusals(stack)] == ["write-mode"]


@pytest.mark.parametrize("major", MAJORS)
def test_images_of_the_other_major_version_are_refused(major: LangfuseMajor) -> None:
    other = "4.16.0" if major == 3 else "3.225.4"
    stack = shipped(major=major, langfuse_web=f"langfuse/langfuse:{other}", langfuse_worker=f"langfuse/langfuse-worker:{other}")
    assert {refusal.rule for refusal in refusals(stack)} == {"langfuse-major"}


def test_a_digest_is_as_exact_as_an_image_can_be() -> None:
    assert refusals(shipped(redis="redis@sha256:" + 64 * "a")) == []
    assert refusals(shipped(redis="redis:8@sha256:" + 64 * "a")) == []


@pytest.mark.parametrize(
    ("image", "version"),
    [
        ("ghcr.io/berriai/litellm:v1.102.4", (1, 102, 4)),
        ("ghcr.io/berriai/litellm:main-v1.80.0-stable", (1, 80, 0)),
        ("localhost:5000/litellm", ()),
        ("localhost:5000/litellm:1.2.3@sha256:aa", (1, 2, 3)),
        ("prefecthq/prefect:3.9.1-python3.12", (3, 9, 1)),
        ("redis", ()),
        ("redis:latest", ()),
    ],
)
def test_versions_are_read_out_of_tags(image: str, version: tuple[int, ...]) -> None:
    assert version_of(image) == version
