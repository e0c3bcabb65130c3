"""The steps of a drill: one component restored to the scratch place, compared, dropped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date

from prefect import task

from blocks.errors import IntegrityError, ServiceError, SettingsError
from blocks.postgres import PostgresServer
from blocks.retry import RETRIED
from flows import catalogue
from flows.backup.manifest import BucketContents, ClickHouseDatabase, Manifest, PostgresDatabase
from flows.buckets.index import open_index
from flows.buckets.pack_ids import pack_ids
from flows.buckets.packs import stored_packs
from flows.buckets.prove import packs_to_read, prove_packs
from flows.catalogue import set_prefix
from flows.compare.differences import Difference
from flows.compare.postgres import compare_database as compare_postgres
from flows.compare.references import (
    DeadEnds,
    finished_media,
    projects_in_clickhouse,
    projects_in_postgres,
    without_object,
)
from flows.drill.packs import load_packs_read, note_packs_read
from flows.drill.scratch import Scratch
from flows.report import Summary, line, timed
from flows.restore import clickhouse as restore_clickhouse
from flows.restore import postgres as restore_postgres
from flows.restore.choose import base_of, side_name
from flows.restore.postgres_roles import create_missing_roles
from flows.side_file import DrillRecord
from flows.stack import Stack


@dataclass(frozen=True)
class Outcome:
    """What the drill of one component found.

    Attributes:
        component: its name. bytes: restored. restore_seconds, compare_seconds: how long each took.
        differences: empty when the component is proven.
        projects: ids that it names (ClickHouse) or has (Langfuse's Postgres database); None where it does neither.
        media: finished uploads that lead to no object of the set; None where there is no bucket to look into.
    """

    component: str
    bytes: int
    restore_seconds: float = 0.0
    compare_seconds: float = 0.0
    differences: list[Difference] = field(default_factory=list)
    projects: set[str] | None = None
    media: DeadEnds | None = None


@task(name="prove postgres", task_run_name="prove postgres {component.name}", **RETRIED)
def prove_postgres(stack: Stack, scratch: Scratch, manifest: Manifest, component: PostgresDatabase) -> Outcome:
    """Restore one Postgres database to the scratch place, compare all of it, drop it."""
    server = scratch.postgres
    if server is None:
        raise SettingsError("drill: no Postgres to restore to; set POSTGRES_RESTORE_URL or drill with scratch: embedded")
    target = side_name(component.name, "drill", manifest.id)

    def restore() -> None:
        postgres_to_scratch(stack, scratch, manifest, component, target)

    with _dropped(scratch, lambda: restore_postgres.drop_database(server, target)):
        outcome = _prove(
            f"postgres {component.name}",
            component.object.plain_bytes,
            restore,
            lambda: compare_postgres(server, component, target, elsewhere=scratch.own, progress=line),
        )
        if outcome.differences:
            return outcome
        media = _media_without_object(stack, manifest, server, target)
        return replace(outcome, projects=projects_in_postgres(server, target), media=media)


def postgres_to_scratch(
    stack: Stack, scratch: Scratch, manifest: Manifest, component: PostgresDatabase, target: str
) -> PostgresServer:
    """Restore one Postgres database to the scratch place, in the place of what an earlier drill left there.

    Args:
        target: its name there.
    Returns: the server that it is on now.
    Raises:
        SettingsError: the scratch place has no Postgres; else as `restore_database`.
    """
    server, prefix = scratch.postgres, set_prefix(stack.store, manifest.id)
    if server is None:
        raise SettingsError("drill: no Postgres to restore to; set POSTGRES_RESTORE_URL or drill with scratch: embedded")
    restore_postgres.drop_database(server, target)
    if scratch.own and manifest.globals is not None:
        create_missing_roles(server, manifest.globals, stack.store, prefix, stack.keys)
    restore_postgres.restore_database(
        server, component, stack.store, prefix, stack.keys, target, elsewhere=scratch.own, analyze=False
    )
    return server


@contextmanager
def _dropped(scratch: Scratch, drop: Callable[[], None]) -> Iterator[None]:
    """Drop a scratch database after the body, however that ended.

    On engines of our own, which go away as a whole, a drop that fails (a full disk) must not hide why the body did.
    """
    try:
        yield
    finally:
        try:
            drop()
        except ServiceError as error:
            if not scratch.own:
                raise
            line(f"not dropped before its engine ends: {error}")


def _media_without_object(stack: Stack, manifest: Manifest, server: PostgresServer, database: str) -> DeadEnds | None:
    """Look for what a restored database refers to in the indexes of the set's buckets."""
    found = None
    for bucket in manifest.buckets:
        with open_index(stack.store, set_prefix(stack.store, manifest.id), bucket, None) as index:
            ends = without_object(finished_media(server, database, bucket.name), (e.key for e in index.entries()))
        found = ends if found is None else found + ends
    return found


@task(name="prove clickhouse", task_run_name="prove clickhouse {component.name}", **RETRIED)
def prove_clickhouse(stack: Stack, scratch: Scratch, manifest: Manifest, component: ClickHouseDatabase) -> Outcome:
    """Restore one ClickHouse database to the scratch place, read and compare every column, drop it."""
    server = scratch.clickhouse
    if server is None:
        raise SettingsError("drill: no ClickHouse to restore to; set CLICKHOUSE_HOST or drill with scratch: embedded")
    target, prefix = side_name(component.name, "drill", manifest.id), set_prefix(stack.store, manifest.id)
    base = base_of(stack, component)

    def restore() -> None:
        restore_clickhouse.drop_database(server, target)
        restore_clickhouse.restore_database(server, component, stack.store, prefix, base, target)

    with _dropped(scratch, lambda: restore_clickhouse.drop_database(server, target)):
        outcome = _prove(
            f"clickhouse {component.name}",
            component.plain_bytes,
            restore,
            lambda: restore_clickhouse.compare(server, component, target),
        )
        return outcome if outcome.differences else replace(outcome, projects=projects_in_clickhouse(server, target))


@task(name="prove bucket", task_run_name="prove bucket {component.name}", **RETRIED)
def prove_bucket(stack: Stack, manifest: Manifest, component: BucketContents, today: date, *, everything: bool) -> Outcome:
    """Look for every pack that a bucket of the set needs, and read those whose turn it is: with those read in the nights
    before, each has been read whole since it was written.

    Args:
        everything: all of them.
    """
    prefix, packs = set_prefix(stack.store, manifest.id), list(pack_ids(component.pack_ids))
    known = load_packs_read(stack.store).last_read
    chosen = packs_to_read(packs, known, today, stack.settings.drill_bucket_days, everything)
    with timed() as watch:
        differences = prove_packs(stack.store, stack.keys, prefix, component, chosen)
    if not differences:
        note_packs_read(stack.store, chosen, today, stored_packs(stack.store))
    found = f"{len(differences)} differences" if differences else "equal"
    line(f"bucket {component.name}: {found}, {len(chosen)} of {len(packs)} packs read, {watch.seconds:.1f} s")
    return Outcome(f"bucket {component.name}", component.bytes, 0.0, watch.seconds, differences)


def _prove(name: str, size: int, restore: Callable[[], None], compare: Callable[[], list[Difference]]) -> Outcome:
    try:
        with timed() as restoring:
            restore()
        line(f"{name}: restored in {restoring.seconds:.1f} s")
        with timed() as comparing:
            differences = compare()
    except IntegrityError as error:
        return damaged(name, error, size)
    line(f"{name}: {f'{len(differences)} differences' if differences else 'equal'}, compared in {comparing.seconds:.1f} s")
    return Outcome(name, size, restoring.seconds, comparing.seconds, differences)


def damaged(name: str, error: IntegrityError, size: int = 0) -> Outcome:
    """Return the outcome for something whose stored objects are not what was backed up."""
    return Outcome(name, size, differences=[Difference(name, "stored objects", "intact", str(error))])


def show_drill(stack: Stack, record: DrillRecord, outcomes: list[Outcome]) -> None:
    """Publish the summary artifact of a drill."""
    verdict = "proven" if record.ok and record.full else "equal, but only in part" if record.ok else "FAILED"
    summary = Summary(f"Drill of {record.set_id}: {verdict}", ("component", "data", "restored in", "compared in", "verdict"))
    for outcome in outcomes:
        verdict = "equal" if not outcome.differences else f"{len(outcome.differences)} differences"
        seconds = (f"{outcome.restore_seconds:.1f} s", f"{outcome.compare_seconds:.1f} s")
        summary.row(outcome.component, catalogue.size(outcome.bytes), *seconds, verdict)
    for difference in record.differences:
        summary.note(f"- {difference}")
    for what in record.unproven:
        summary.note(f"Not proven: {what}")
    summary.publish(f"drill-{stack.name}")
