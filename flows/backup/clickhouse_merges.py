"""Merges held off while a backup runs, so that the parts it holds can still be read when it is done.

ClickHouse forgets at a restart that merges were stopped, but not when the client that stopped them dies. So they are started
again in `finally`, when a worker boots, and by every prune.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial

from blocks.clickhouse import ClickHouseServer
from blocks.clickhouse_client import ClickHouseClient, StatementFailed
from blocks.errors import ServiceError
from blocks.retry import retrying
from flows.backup.clickhouse_operation import Progress
from flows.compare.clickhouse_tables import Table, inventory

__all__ = ["merges_held", "merges_stopped", "start_all_merges", "start_merges", "stop_merges"]

_UNKNOWN_TABLE, _UNKNOWN_DATABASE, _DROPPED, _ABORTED = 60, 81, 218, 236
_GONE = frozenset({_UNKNOWN_TABLE, _UNKNOWN_DATABASE, _DROPPED})
_NO_PARTITION = "no-such-partition"


@contextmanager
def merges_held(client: ClickHouseClient, tables: Iterable[Table], progress: Progress) -> Iterator[None]:
    """Keep the tables' merges and mutations stopped in the body; inserts go on.

    Raises:
        AccessDenied: the user lacks SYSTEM MERGES.
        ServiceError: they could not be started again although the body succeeded.
    """
    stopped: list[Table] = []
    succeeded = False
    try:
        for table in tables:
            stopped.append(table)
            stop_merges(client, table)
        yield
        succeeded = True
    finally:
        error = _start_again(client, stopped, progress)
        if error is not None and succeeded:
            raise error


def _start_again(client: ClickHouseClient, stopped: Iterable[Table], progress: Progress) -> ServiceError | None:
    """Start the merges of every table, whatever goes wrong with one of them.

    A signal that ends the process comes as an exception, and may come once more in here: it waits until all is done.

    Returns: why the last of those that could not be started could not.
    """
    failed: ServiceError | None = None
    signalled: BaseException | None = None
    for table in stopped:
        for _ in range(2):
            try:
                failed = _start_one(client, table, progress) or failed
                break
            except BaseException as error:  # noqa: BLE001 - raised below, when the other tables have been seen to
                signalled = error
    if signalled is not None:
        raise signalled
    return failed


def _start_one(client: ClickHouseClient, table: Table, progress: Progress) -> ServiceError | None:
    try:
        retrying(partial(start_merges, client, table))
    except ServiceError as error:
        progress(
            f"could not start merges of {table.sql} again: {error}; a restart of ClickHouse does, and so does the next prune"
        )
        return error
    return None


def stop_merges(client: ClickHouseClient, table: Table) -> None:
    """Stop merges and mutations of one table; one under way is given up. TTL, which only merges apply, waits too."""
    client.command(f"SYSTEM STOP MERGES {table.sql}")


def start_merges(client: ClickHouseClient, table: Table) -> None:
    """Start merges of one table again, if it still exists."""
    for what in ("MERGES", "TTL MERGES"):
        try:
            client.command(f"SYSTEM START {what} {table.sql}")
        except StatementFailed as error:
            if error.code not in _GONE:
                raise


def start_all_merges(server: ClickHouseServer, databases: Iterable[str]) -> None:
    """Start the merges of every table: after a process died while it held them.

    Raises:
        ServiceError: the server does not answer; it starts with merges on.
    """
    with server.client() as client:
        for table in _merging(client, databases):
            start_merges(client, table)


def merges_stopped(server: ClickHouseServer, databases: Iterable[str]) -> list[str]:
    """Name the tables whose merges are stopped, as `database.table`.

    No system table tells. Asking for a merge of a partition that does not exist does nothing, and is refused
    while merges are stopped (measured, 26.9).
    """
    with server.client() as client:
        return [f"{table.database}.{table.name}" for table in _merging(client, databases) if _refuses(client, table)]


def _refuses(client: ClickHouseClient, table: Table) -> bool:
    try:
        client.command(f"OPTIMIZE TABLE {table.sql} PARTITION ID '{_NO_PARTITION}'")
    except StatementFailed as error:
        if error.code in _GONE:
            return False
        if error.code == _ABORTED:
            return True
        raise
    return False


def _merging(client: ClickHouseClient, databases: Iterable[str]) -> Iterator[Table]:
    for database in databases:
        yield from (table for table in inventory(client, database).values() if table.in_parts)
