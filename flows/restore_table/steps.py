"""The steps of a table's restore: checked, staged, put beside or swapped in; and what is left of one that died."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prefect import task
from prefect.cache_policies import NO_CACHE
from psycopg import Connection
from psycopg.rows import TupleRow

from blocks.errors import RestoreFailed, RestoreRefused, StackError
from blocks.postgres import PINNED, explained
from blocks.retry import TASK_RETRIES, TASK_RETRY_DELAYS, retry_task
from flows.backup.manifest import Manifest
from flows.backup.stream import verify_stored
from flows.catalogue import set_prefix
from flows.compare.clickhouse_tables import inventory
from flows.report import line, timed
from flows.restore import clickhouse as on_clickhouse
from flows.restore import postgres as on_postgres
from flows.restore.choose import base_of
from flows.restore_table import clickhouse_stage, postgres_stage
from flows.restore_table.choose import PostgresChoice
from flows.restore_table.clickhouse_partition import swap_partition
from flows.restore_table.hints import clickhouse_statements, postgres_statements
from flows.restore_table.journal import TableJournal, save
from flows.restore_table.plan import TablePlan
from flows.restore_table.postgres_family import in_schema, text
from flows.restore_table.postgres_schemas import drop_schema
from flows.restore_table.postgres_swap import Exchange, exchange_rows
from flows.stack import Stack

DEADLINE = 12 * 3600.0
Hook = Callable[[str], None]


@task(
    name="check stored objects",
    retries=TASK_RETRIES,
    retry_delay_seconds=TASK_RETRY_DELAYS,
    retry_condition_fn=retry_task,
    timeout_seconds=DEADLINE,
    cache_policy=NO_CACHE,
)
def check_stored(stack: Stack, manifest: Manifest, plan: TablePlan) -> None:
    """Compare the hashes and sizes of what will be read, before anything is fed to an engine or made.

    Raises:
        IntegrityError: which object is not what was backed up.
    """
    prefix, choice = set_prefix(stack.store, manifest.id), plan.choice
    if isinstance(choice, PostgresChoice):
        verify_stored(stack.store, prefix, choice.component.object)
    else:
        on_clickhouse.check_files(choice.component, stack.store, prefix, base_of(stack, choice.component))
    line(f"{manifest.id}: every stored object of {plan.journal.component} is what was backed up")


def begin(stack: Stack, plan: TablePlan) -> TableJournal:
    """Open the journal."""
    journal = plan.journal.model_copy(deep=True)
    save(stack.store, journal)
    return journal


@task(
    name="stage table",
    task_run_name="stage {journal.name}",
    retries=TASK_RETRIES,
    retry_delay_seconds=TASK_RETRY_DELAYS,
    retry_condition_fn=retry_task,
    timeout_seconds=DEADLINE,
    cache_policy=NO_CACHE,
)
def stage(stack: Stack, manifest: Manifest, plan: TablePlan, journal: TableJournal) -> TableJournal:
    """Restore the table beside the live one and compare it with the manifest. Safe to repeat.

    Returns: the journal, with where the restored rows are.
    Raises:
        RestoreFailed: what was restored is not what the manifest says.
    """
    prefix, choice = set_prefix(stack.store, manifest.id), plan.choice
    with timed() as watch:
        if isinstance(choice, PostgresChoice):
            _remove_staged(stack, journal)
            server = stack.need_postgres_admin()
            schema, indexes = journal.place("restored"), journal.into == "beside"
            members = postgres_stage.restore_table(
                server, choice.component, choice.table, stack.store, prefix, stack.keys, journal.side, schema, indexes=indexes
            )
            note = f"{journal.id}: {journal.table} as of {manifest.created_at:%Y-%m-%d %H:%M} UTC"
            owner = _owner(stack, journal)
            postgres_stage.bring_beside(server, journal.side, journal.database, schema, members, owner, note)
            on_postgres.drop_database(server, journal.side)
            journal = journal.model_copy(update={"members": members})
        else:
            clickhouse, base = stack.need_clickhouse(), base_of(stack, choice.component)
            clickhouse_stage.restore_beside(clickhouse, choice, stack.store, prefix, base, journal.side, line)
    line(f"{journal.name}: restored into {journal.place('restored')} and equal to the manifest, {watch.seconds:.1f} s")
    return journal


def leave_beside(stack: Stack, journal: TableJournal) -> list[str]:
    """End a restore beside the live table.

    Returns: SQL with which a person looks at the rows and copies those that are missing.
    """
    if journal.kind == "postgres":
        server = stack.need_postgres_admin()
        with server.connect(journal.database) as connection, explained(journal.database, "name the restored table"):
            restored = in_schema(connection, journal.place("restored"), journal.table)
        statements = postgres_statements(server, journal.database, journal.table, restored)
    else:
        clickhouse = stack.need_clickhouse()
        clickhouse_stage.leave_beside(clickhouse, journal.side, journal.table)
        with clickhouse.client() as client:
            live = inventory(client, journal.database).get(journal.table)
            copy = inventory(client, journal.side)[journal.table]
            statements = clickhouse_statements(client, live, copy)
    journal.phase = "done"
    save(stack.store, journal)
    for statement in statements:
        line(f"{journal.name}: {statement}")
    return statements


def swap(stack: Stack, journal: TableJournal, hook: Hook = lambda _: None) -> None:
    """Swap what was staged in; finishes where an earlier call died.

    Args:
        hook: told the name of each step before it is done.
    Raises:
        RestoreRefused: it does not fit; the live table is as it was.
    """
    if journal.step is not None and not journal.step.tables:
        clickhouse_stage.refuse_other_table(stack.need_clickhouse(), journal.database, journal.side, journal.table)
    journal.phase = "swapping"
    save(stack.store, journal)
    if journal.kind == "postgres":
        said = _swap_rows(stack, journal, hook)
    elif journal.step is not None and journal.taken is not None:
        said = []

        def keep() -> None:
            save(stack.store, journal)
            hook("saved")

        on_clickhouse.swap_databases(stack.need_clickhouse(), journal.taken, journal.step, keep)
        journal.step.swapped = True
    else:
        said = []
        swap_partition(stack.need_clickhouse(), journal, lambda: save(stack.store, journal), hook)
    journal.phase = "done"
    save(stack.store, journal)
    line(f"{journal.name}: swapped, what was live before is in {journal.place('kept')}")
    for sentence in said:
        line(f"{journal.name}: {sentence}")


@contextmanager
def discard_staged_on_failure(stack: Stack, journal: TableJournal) -> Iterator[None]:
    """Remove what was staged when the body fails before the swap, or the swap is refused; say what state the live data is in.

    Raises:
        RestoreFailed: with that state.
    """
    try:
        yield
    except BaseException as error:
        if journal.phase == "staging" or isinstance(error, RestoreRefused):
            state = discard_staged(stack, journal)
        elif journal.phase == "swapping":
            state = "it may be swapped or not; run the flow with action finish, then undo if you want to"
        else:
            state = f"it is {journal.phase}"
        if isinstance(error, StackError):
            raise RestoreFailed(f"restore {journal.id}: {error} ({state})") from error
        raise


def discard_staged(stack: Stack, journal: TableJournal) -> str:
    """Remove what was staged and close the journal.

    Returns: the state of the live data, for the error's one line.
    """
    try:
        _remove_staged(stack, journal)
        journal.phase = "given up"
        save(stack.store, journal)
    except StackError as error:
        line(f"could not remove what was staged: {error}; the next restore will")
        return "the live data was not touched; the next restore removes what was staged"
    return "the live data was not touched"


def _remove_staged(stack: Stack, journal: TableJournal) -> None:
    if journal.kind == "postgres":
        server = stack.need_postgres_admin()
        on_postgres.drop_database(server, journal.side)
        drop_schema(server, journal.database, journal.place("restored"), journal.id)
    else:
        on_clickhouse.drop_database(stack.need_clickhouse(), journal.side)


def _swap_rows(stack: Stack, journal: TableJournal, hook: Hook) -> list[str]:
    """Replace the rows of a Postgres table by those that were staged, compared with the manifest once more under the lock."""
    wanted = Exchange(
        table=journal.table,
        source=journal.place("restored"),
        keep=journal.place("kept"),
        restore_id=journal.id,
        recorded=journal.sequences,
    )

    def check(connection: Connection[TupleRow]) -> None:
        postgres_stage.refuse_differing(connection, journal.members, journal.database)

    return exchange_rows(stack.need_postgres_admin(), journal.database, wanted, check, hook)


def _owner(stack: Stack, journal: TableJournal) -> str:
    """Return the quoted role that owns the live table, or the database where there is no such table."""
    server = stack.need_postgres_admin()
    with server.connect(journal.database, settings=PINNED) as connection, explained(journal.database, "look for the owner"):
        return text(connection, _OWNER, journal.table)


_OWNER = """
SELECT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(coalesce(
  (SELECT relowner FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass(%s)),
  (SELECT datdba FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()))))
"""
