"""Rules about Langfuse. Its web service migrates Postgres and ClickHouse before it listens (facts: apps.md 2.5)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from flows.upgrade.rules.facts import Facts
from flows.upgrade.rules.litellm import loses_traces
from flows.upgrade.rules.rule import Change, named

__all__ = ["FIRST_OF_FOUR", "LEAST", "NEWEST_MIGRATION", "RULES", "SERVICES", "migrates", "newest_migration"]

SERVICES = ("langfuse-web", "langfuse-worker")

FIRST_OF_FOUR: Mapping[str, str] = MappingProxyType(
    {
        "LANGFUSE_MIGRATION_V4_WRITE_MODE": "dual",
        "LANGFUSE_MIGRATION_V4_NATIVE_OTEL_BEHAVIOUR": "dual_write",
        "LANGFUSE_MIGRATION_V4_ALLOW_PREVIEW_OPT_IN": "false",
        "LANGFUSE_BACKGROUND_MIGRATION_V4_ENABLE_HISTORIC_BACKFILL": "false",
    }
)
"""What both services are told when Langfuse 4 starts for the first time on the data of 3: old and new clients are heard, and
history is not filled in yet: that runs once, and must not run before everything is written twice."""

NEWEST_MIGRATION: Mapping[tuple[int, ...], int] = MappingProxyType({(3, 225, 4): 37, (4, 16, 0): 46})
"""The highest ClickHouse migration in an image, where somebody has counted."""

LEAST: Mapping[int, Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        3: {"clickhouse": (24, 3), "postgres": (12,), "redis": (7,)},
        4: {"clickhouse": (25, 12), "postgres": (15,), "redis": (7,)},
    }
)
"""The oldest store of each kind that a major version of Langfuse works with."""

_PATIENCE_S = 600
_MODES = ("legacy", "dual")


def newest_migration(numbers: tuple[int, ...]) -> tuple[int, int | None]:
    """Say between which numbers the highest ClickHouse migration of a version lies: migrations are only ever added.

    Returns: at least, and at most; None where no newer version has been counted.
    """
    at_least = max((number for known, number in NEWEST_MIGRATION.items() if known <= numbers), default=0)
    at_most = min((number for known, number in NEWEST_MIGRATION.items() if known >= numbers), default=None)
    return at_least, at_most


@named("langfuse-major", "langfuse.com/self-hosting/upgrade/upgrade-guides/upgrade-v3-to-v4", *SERVICES)
def one_major(change: Change) -> Iterator[str]:
    """Langfuse keeps its major version; 3 to 4 is a flow of its own, and no way leads back but a restore."""
    old, new = change.old.major, change.new.major
    if old is None or new is None or old == new:
        return
    if new < old:
        yield f"{change.old} cannot become {change.new}: it has dropped tables of the older one; restore a set from before"
    elif (old, new) != (3, 4):
        yield f"from {change.old} to {change.new} is no step that anybody has tried; go through each major version"
    elif not change.facts.from_three_to_four:
        yield "3 to 4 is no change of a tag: ClickHouse comes first, then a mode that writes both; use upgrade/langfuse"


@named("langfuse-stores", "langfuse.com/self-hosting/deployment/infrastructure; 4's migration 0039 fails on 25.5", *SERVICES)
def stores(change: Change) -> Iterator[str]:
    """The stores are as new as Langfuse wants them: after a migration that fails web does not start any more."""
    for store, least in LEAST.get(change.new.major or 0, {}).items():
        found, wanted = change.facts.version(store), ".".join(map(str, least))
        if found is None and change.new.major != change.old.major:
            yield f"nobody could read the version of {store}, and Langfuse {change.new.major} needs {wanted}; see that it is up"
        elif found is not None and found.numbers < least:
            yield f"{store} is {found}, expected {wanted} or newer for Langfuse {change.new.major}; upgrade {store} first"


@named(
    "langfuse-whole-schema", "langfuse#6639, #6679, langfuse-k8s#190, #382: web does not start on a dirty migration", *SERVICES
)
def whole_schema(change: Change) -> Iterator[str]:
    """No migration of Langfuse has broken off, in Postgres or in ClickHouse."""
    facts = change.facts
    if facts.langfuse_schema is not None and facts.langfuse_schema.unfinished:
        broken = facts.langfuse_schema.unfinished
        yield (
            f"{len(broken)} migrations of its Postgres database broke off ({broken[0]}); see the column logs of "
            "_prisma_migrations, mend the schema, then prisma migrate resolve"
        )
    if facts.clickhouse_schema is not None and facts.clickhouse_schema.dirty:
        yield (
            f"ClickHouse migration {facts.clickhouse_schema.version} broke off and is marked dirty; finish or undo "
            "what it did, then insert a clean row into schema_migrations"
        )


@named("langfuse-knows-schema", "langfuse discussion 9412, langfuse-k8s#109, #176: no migration found for version N", *SERVICES)
def knows_schema(change: Change) -> Iterator[str]:
    """An older Langfuse knows the newest migration that ClickHouse has, without which web does not start."""
    if not change.is_back or change.new.major != change.old.major:
        return
    schema, (at_least, at_most) = change.facts.clickhouse_schema, newest_migration(change.new.numbers)
    if schema is None:
        yield f"nobody could read ClickHouse's schema_migrations, so nobody knows whether {change.new} starts on it; is it up?"
    elif at_most is not None and at_most < schema.version:
        yield f"ClickHouse is at migration {schema.version} and {change.new} knows {at_most} at most; restore a set from before"
    elif at_least < schema.version:
        yield (
            f"ClickHouse is at migration {schema.version}, and whether {change.new} knows that one nobody has counted; look "
            "for it in its packages/shared/clickhouse/migrations, or restore a set from before"
        )


@named("langfuse-background", "langfuse.com/self-hosting/upgrade/background-migrations", *SERVICES)
def background(change: Change) -> Iterator[str]:
    """The background migrations of the last upgrade are done."""
    found = change.facts.background
    if found is None:
        return
    if found.failed:
        yield f"background migration {found.failed[0]} has failed; have it go on first (background-migration)"
    elif found.running or found.waiting:
        names = (*found.running, *found.waiting)
        yield f"{len(names)} background migrations are not done ({names[0]}); wait for them, the sweep says when"


@named(
    "langfuse-one-migrates", "langfuse#6639: two that migrate at once, or a probe that gives up, leave it dirty", "langfuse-web"
)
def one_migrates(change: Change) -> Iterator[str]:
    """One replica of web migrates, and its health check waits until it has."""
    replicas, seconds = (known.get(change.service) for known in (change.facts.replicas, change.facts.health_seconds))
    if replicas is not None and replicas > 1:
        yield f"it has {replicas} replicas, which would migrate at the same time; scale it to 1, and back afterwards"
    if seconds is not None and seconds < _PATIENCE_S:
        yield f"its health check gives up after {seconds} s, in the middle of a migration; give it {_PATIENCE_S} s or more"


@named("langfuse-traces", "litellm's wheel metadata: langfuse<3 before 1.104; langgenius/dify#41542", *SERVICES)
def traces(change: Change) -> Iterator[str]:
    """LiteLLM sends traces as the new Langfuse takes them."""
    litellm = change.facts.version("litellm")
    if loses_traces(litellm, change.new, change.facts.callbacks):
        yield (
            f"LiteLLM {litellm} with the callback langfuse loses every trace on its way to {change.new}; upgrade LiteLLM "
            "to 1.104 or newer, or set the callback langfuse_otel, first"
        )


@named("langfuse-first-of-four", "langfuse.com/self-hosting/upgrade/upgrade-guides/upgrade-v3-to-v4", *SERVICES)
def first_of_four(change: Change) -> Iterator[str]:
    """The first Langfuse 4 on data of 3 writes both ways, and does not fill in history yet."""
    if (change.old.major, change.new.major) != (3, 4):
        return
    for service in SERVICES:
        for name, wanted in FIRST_OF_FOUR.items():
            found = change.facts.variable(service, name)
            if found != wanted and not (name.endswith("_WRITE_MODE") and found in _MODES):
                yield f"{service}: {name} is {found or 'not set'}, expected {wanted} when 4 starts first; set it before"


def migrates(facts: Facts) -> bool:
    """Whether web changes a database when it starts."""
    return not all(
        facts.is_true("langfuse-web", f"LANGFUSE_AUTO_{store}_MIGRATION_DISABLED") for store in ("POSTGRES", "CLICKHOUSE")
    )


RULES = (one_major, stores, whole_schema, knows_schema, background, one_migrates, traces, first_of_four)
