"""What an upgrade changes besides the image, and what it takes to go back."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from flows.upgrade.rules import langfuse, litellm
from flows.upgrade.rules.facts import Facts
from flows.upgrade.rules.version import Version

__all__ = ["Back", "Way", "moves_schema", "way_back"]


class Way(StrEnum):
    """What goes back with the image and the variables."""

    IMAGE = "image"
    """Nothing: the older version works on what the newer one left."""
    DATA = "data"
    """The service's databases, from the set of before."""
    EMPTY = "empty"
    """The service starts empty; what was in it is made anew."""
    VOLUME = "volume"
    """The service's volume as it was: no set has what is on it."""


@dataclass(frozen=True)
class Back:
    """How to go back, and why just so.

    Attributes:
        way: what goes back with the image. why: one sentence.
    """

    way: Way
    why: str


def moves_schema(service: str, old: Version, new: Version, facts: Facts) -> bool:
    """Say whether the new version changes the schema of a database when it starts.

    Args:
        service: by its name on Railway. old: what runs. new: what is to run. facts: of the stack before.
    """
    if old.numbers == new.numbers and new.numbers:
        return False
    match service:
        case "litellm" if new < old:
            return litellm.touches_schema(new, facts)
        case "litellm":
            return not facts.is_true("litellm", "DISABLE_SCHEMA_UPDATE")
        case "langfuse-web":
            return not new < old and langfuse.migrates(facts)
        case "prefect-server":
            return not new < old
    return False


def way_back(service: str, old: Version, new: Version, before: Facts, now: Facts | None = None) -> Back:
    """Say what it takes to go back from the new version to the old one.

    Args:
        service: by its name on Railway. old: what ran before. new: what was, or will be, deployed.
        before: the facts before the upgrade. now: after the new version has started, or tried to; None while it is only
            planned: then everything that may move is taken for moved.
    """
    match service:
        case "litellm":
            return _of_litellm(old, new, before, now)
        case "langfuse-web" | "langfuse-worker":
            return _of_langfuse(service, old, new, before, now)
        case "clickhouse" if old.line != new.line:
            return Back(Way.DATA, f"ClickHouse {old} may not read the parts that {new} has written")
        case "redis" if old.line != new.line:
            return Back(Way.EMPTY, f"Redis {old} does not read the file of {new}; the queues are filled again from the bucket")
        case "minio" if old.numbers != new.numbers:
            return Back(Way.VOLUME, f"MinIO {old} may not read what {new} has written to the volume")
        case "prefect-server" if old.numbers != new.numbers:
            return Back(Way.VOLUME, f"the Prefect server {old} does not start on a database that {new} has migrated")
        case "postgres" if old.major != new.major:
            return Back(Way.DATA, f"Postgres {old.major} does not start on the volume of {new.major}")
    return Back(Way.IMAGE, f"{old} works on what {new} has written")


def _of_litellm(old: Version, new: Version, before: Facts, now: Facts | None) -> Back:
    if not moves_schema("litellm", old, new, before):
        return Back(Way.IMAGE, f"{new} does not change the schema")
    then, present = before.litellm_schema, None if now is None else now.litellm_schema
    if then is not None and present is not None and then == present:
        return Back(Way.IMAGE, f"{new} has applied no migration: {then.applied} as before")
    if not litellm.touches_schema(old, before):
        return Back(Way.IMAGE, f"LiteLLM {old} leaves a schema that is newer than it alone")
    return Back(
        Way.DATA, f"LiteLLM {old} would change the schema of {new} back at its start, and drop columns with their content"
    )


def _of_langfuse(service: str, old: Version, new: Version, before: Facts, now: Facts | None) -> Back:
    if service == "langfuse-worker":
        return Back(Way.IMAGE, "the worker migrates nothing when it starts; web decides on the data")
    if not moves_schema(service, old, new, before):
        return Back(Way.IMAGE, f"{new} does not change the schemas")
    then, present = before.clickhouse_schema, None if now is None else now.clickhouse_schema
    if then is not None and present is not None:
        if present == then:
            return Back(
                Way.IMAGE, f"ClickHouse is at migration {then.version} as before, and {old} takes a newer Postgres schema"
            )
        state = " and dirty" if present.dirty else ""
        return Back(Way.DATA, f"ClickHouse is at migration {present.version}{state}, {old} knows {then.version} at most")
    if old.major == new.major and langfuse.NEWEST_MIGRATION.get(old.numbers) == langfuse.NEWEST_MIGRATION.get(new.numbers, -1):
        return Back(Way.IMAGE, f"{old} and {new} have the same ClickHouse migrations")
    return Back(Way.DATA, f"Langfuse {old} does not start on ClickHouse migrations that it does not know")
