"""What of a set is restored, and under which names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from blocks.errors import RestoreRefused
from flows.backup.manifest import BucketContents, ClickHouseDatabase, Manifest, PostgresDatabase
from flows.backup.sets import refuse_unknown
from flows.catalogue import load_manifest, set_prefix
from flows.stack import Stack

MAX_IDENTIFIER = 63
"""Bytes in a Postgres identifier; longer ones are cut in silence, so that two names could become one."""


@dataclass(frozen=True)
class Parts:
    """The components of a set that are meant.

    Attributes:
        postgres, clickhouse: the databases. buckets: the buckets. everything: True when nothing of the set is left out.
    """

    postgres: list[PostgresDatabase]
    clickhouse: list[ClickHouseDatabase]
    buckets: list[BucketContents]
    everything: bool

    @property
    def names(self) -> list[str]:
        """Name them as `kind/name`."""
        components: list[PostgresDatabase | ClickHouseDatabase | BucketContents] = [
            *self.postgres,
            *self.clickhouse,
            *self.buckets,
        ]
        return [f"{component.kind}/{component.name}" for component in components]


def chosen(manifest: Manifest, requested: Iterable[str]) -> Parts:
    """Choose components of a set.

    Args:
        requested: `postgres`, `clickhouse`, `bucket` or `kind/name`; empty for everything.
    Raises:
        SettingsError: something requested is not the name of a component.
        RestoreRefused: something requested is not in the set; says what is.
    """
    requested = list(requested)
    refuse_unknown(requested)
    whole = Parts(manifest.postgres, manifest.clickhouse, manifest.buckets, everything=True)
    names = set(whole.names)
    for item in requested:
        if "/" in item and item not in names:
            raise RestoreRefused(f"set {manifest.id} holds no {item}; it holds: {', '.join(sorted(names)) or 'nothing'}")

    def meant(kind: str, name: str) -> bool:
        return not requested or kind in requested or f"{kind}/{name}" in requested

    return Parts(
        [c for c in whole.postgres if meant(c.kind, c.name)],
        [c for c in whole.clickhouse if meant(c.kind, c.name)],
        [c for c in whole.buckets if meant(c.kind, c.name)],
        everything=all(meant(*name.split("/", 1)) for name in names),
    )


def base_of(stack: Stack, component: ClickHouseDatabase) -> str | None:
    """Return the key prefix of the set that a ClickHouse backup is a difference to, its manifest verified; None if full."""
    if component.base is None:
        return None
    manifest = load_manifest(stack.store, stack.keys, component.base)
    return set_prefix(stack.store, manifest.id)


def side_name(database: str, purpose: str, run: str) -> str:
    """Name a database beside another one, for example `langfuse__restore_a1b2c3`.

    Args:
        database: the live name; shortened where the result would be too long for Postgres.
        purpose: restore, drill, kept, undone. run: an id; its last six letters tell runs apart.
    """
    tail = f"__{purpose}_{run[-6:].lower()}"
    name = database.encode()
    if len(name) + len(tail) <= MAX_IDENTIFIER:
        return database + tail
    tail = f"_{hashlib.sha256(name).hexdigest()[:6]}{tail}"  # two long names with the same beginning stay two
    return name[: MAX_IDENTIFIER - len(tail)].decode(errors="ignore") + tail
