"""The steps of a restore: checked, staged beside the live data, compared, swapped. The journal is written before each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect import task

from blocks.errors import RestoreFailed, StackError
from blocks.object_store import BackupStore
from blocks.retry import RETRIED
from flows.backup.manifest import Manifest, PostgresDatabase
from flows.backup.stream import verify_stored
from flows.catalogue import set_prefix
from flows.compare.postgres import compare_database as compare_postgres
from flows.lease import utc_now
from flows.report import line, timed
from flows.restore import clickhouse as on_clickhouse
from flows.restore import postgres as on_postgres
from flows.restore import postgres_roles, postgres_swap
from flows.restore.choose import Parts, base_of
from flows.restore.journal import RestoreJournal, Step, save
from flows.restore.objects import put_back
from flows.restore.plan import LANGFUSE, PlannedStep, RestorePlan
from flows.stack import Stack


@task(name="check stored objects", **RETRIED)
def check_stored(stack: Stack, manifest: Manifest, parts: Parts) -> None:
    """Compare the hashes and sizes of everything that will be restored, before anything is fed to an engine.

    Raises:
        IntegrityError: which object is not what was backed up.
    """
    prefix = set_prefix(stack.store, manifest.id)
    for component in parts.postgres:
        verify_stored(stack.store, prefix, component.object)
    if parts.postgres and manifest.globals is not None:
        verify_stored(stack.store, prefix, manifest.globals.object)
    for table_set in parts.clickhouse:
        on_clickhouse.check_files(table_set, stack.store, prefix, base_of(stack, table_set))
    line(f"{manifest.id}: every stored object is what was backed up")


def begin(stack: Stack, plan: RestorePlan) -> RestoreJournal:
    """Open the journal of a restore."""
    steps = [planned.step for planned in plan.steps]
    buckets = [bucket.bucket for bucket in plan.buckets]
    journal = RestoreJournal(id=plan.id, set_id=plan.set_id, begun_at=utc_now(), steps=steps, buckets=buckets)
    save(stack.store, journal)
    return journal


@task(name="stage", task_run_name="stage {planned.name}", **RETRIED)
def stage(stack: Stack, manifest: Manifest, planned: PlannedStep) -> None:
    """Restore one database beside the live one and compare it with the manifest.

    Raises:
        RestoreFailed: what was restored is not what the manifest says.
    """
    step, component, prefix = planned.step, planned.component, set_prefix(stack.store, manifest.id)
    with timed() as watch:
        if isinstance(component, PostgresDatabase):
            server = stack.need_postgres_admin()
            on_postgres.drop_database(server, step.staged)
            if manifest.globals is not None:
                postgres_roles.create_missing_roles(server, manifest.globals, stack.store, prefix, stack.keys)
            on_postgres.restore_database(server, component, stack.store, prefix, stack.keys, step.staged, verified=True)
            differences = compare_postgres(server, component, step.staged)
        else:
            clickhouse = stack.need_clickhouse()
            on_clickhouse.drop_database(clickhouse, step.staged)
            base = base_of(stack, component)
            on_clickhouse.restore_database(clickhouse, component, stack.store, prefix, base, step.staged)
            differences = on_clickhouse.compare(clickhouse, component, step.staged)
    if differences:
        raise RestoreFailed(f"{planned.name}: the restored copy differs: {differences[0]}; nothing was swapped")
    line(f"{planned.name}: restored into {step.staged} and equal to the manifest, {watch.seconds:.1f} s")


def swap_all(stack: Stack, origin: BackupStore, manifest: Manifest, journal: RestoreJournal) -> None:
    """Swap every staged database in, then put objects back into the buckets.

    A process that dies in here leaves a journal from which the next one finishes.

    Args:
        origin: where the set is read from.
    """
    journal.phase = "swapping"
    save(stack.store, journal)
    for step in journal.steps:
        swap(stack, manifest, journal, step)
    for bucket in journal.buckets:
        put_back(stack, origin, manifest, bucket, journal.id)
    journal.phase = "done"
    save(stack.store, journal)


def swap(stack: Stack, manifest: Manifest, journal: RestoreJournal, step: Step) -> None:
    """Swap one staged database in; does nothing where that has happened already."""
    if step.kind == "postgres":
        postgres_swap.swap_databases(stack.need_postgres_admin(), step.live, step.staged, step.kept, existed=step.existed)
    else:
        component = next(c for c in manifest.clickhouse if c.name == step.live)
        on_clickhouse.swap_databases(stack.need_clickhouse(), component, step, lambda: save(stack.store, journal))
    step.swapped = True
    save(stack.store, journal)
    line(f"{step.kind} {step.live}: swapped{f', the previous one is {step.kept}' if step.existed else ''}")


@contextmanager
def discard_staged_on_failure(stack: Stack, journal: RestoreJournal) -> Iterator[None]:
    """Drop what was staged when the body fails before the swap; after it, say what state the live data is in.

    Raises:
        RestoreFailed: with the state of the live data.
    """
    try:
        yield
    except BaseException as error:
        if journal.phase == "staging":
            state = discard_staged(stack, journal)
        else:
            done = [f"{step.kind} {step.live}" for step in journal.steps if step.swapped]
            state = f"swapped so far: {', '.join(done) or 'nothing'}; run the flow with action finish, then undo if you want to"
        if isinstance(error, StackError):
            raise RestoreFailed(f"restore {journal.id}: {error} ({state})") from error
        raise


def discard_staged(stack: Stack, journal: RestoreJournal) -> str:
    """Drop what was staged and close the journal.

    Returns: the state of the live data, for the error's one line.
    """
    try:
        for step in journal.steps:
            if step.kind == "postgres":
                on_postgres.drop_database(stack.need_postgres_admin(), step.staged)
            else:
                on_clickhouse.drop_database(stack.need_clickhouse(), step.staged)
        journal.phase = "given up"
        save(stack.store, journal)
    except StackError as error:
        line(f"could not drop what was staged: {error}; the next restore will")
        return "the live data was not touched; the next restore drops what was staged"
    return "the live data was not touched"


def empty_redis_after(stack: Stack, journal: RestoreJournal) -> None:
    """Empty Redis where Langfuse was restored as a whole: its queued jobs belong to data that is gone."""
    restored = {(step.kind, step.live) for step in journal.steps}
    whole = ("postgres", LANGFUSE) in restored and any(kind == "clickhouse" for kind, _ in restored)
    if whole and stack.redis is not None:
        count = stack.redis.empty()
        line(f"redis: emptied ({count} keys)")
