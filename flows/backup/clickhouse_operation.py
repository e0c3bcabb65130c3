"""One BACKUP or RESTORE on the server: started, watched to its end or deadline, ended by us when we give up.

The statement runs in the background (ASYNC) and is watched in system.backups, so no HTTP request has to live for hours. That
table is in memory: after a restart of the server the operation is gone, which means nothing about its outcome.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum

from blocks.clickhouse import ClickHouseServer
from blocks.clickhouse_client import ClickHouseClient, StatementFailed, literal, refusal_of
from blocks.errors import ServiceError

__all__ = ["Deadline", "Outcome", "Progress", "end_operations_on", "run_operation"]

Progress = Callable[[str], None]

S3_PATIENCE: Mapping[str, str | int] = {
    # Attempts nest (parts within files), so time grows fast: 5 give up on a dead store after 15 s, 10 after minutes, the
    # default of 1,000 practically never (measured, 26.9).
    "backup_restore_s3_retry_attempts": 6,
    "s3_retry_attempts": 6,
    "s3_request_timeout_ms": 120_000,
    "s3_use_adaptive_timeouts": 0,  # they shrink under load, and defeat throttling (ClickHouse#93408)
    "s3_max_inflight_parts_for_one_file": 4,  # 20 by default, of 16 MiB and more, for each of 16 threads (ClickHouse#43083)
    "max_execution_time": 0,
}
"""Settings of the request, not of the statement: 24.x refuses them there (facts: anchors.md 3)."""

_ANSWER_WITHIN = 60.0
_UNREACHABLE_FOR = 60.0
_END_WITHIN = 60.0
_REPORT_EVERY = 20.0
_MIB = 1 << 20


class Outcome(Enum):
    """How an operation ended, as far as the server still knows."""

    DONE = "done"
    UNKNOWN = "unknown"
    """The server was restarted and has forgotten it."""


@dataclass(frozen=True)
class Deadline:
    """When to give up.

    Attributes:
        seconds: allowed in all. end: on the monotonic clock.
    """

    seconds: float
    end: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """Start the clock."""
        return cls(seconds, time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds left, negative when it has passed."""
        return self.end - time.monotonic()


def run_operation(
    server: ClickHouseServer,
    statement: str,
    operation_id: str,
    options: Mapping[str, str],
    *,
    deadline: Deadline,
    progress: Progress,
) -> Outcome:
    """Run a BACKUP or RESTORE and wait for its end.

    Args:
        statement: up to its SETTINGS. operation_id: unique; appears in system.backups.
        options: SETTINGS of the statement beside the id, as SQL.
        deadline: when it passes, the operation is killed.
    Returns: DONE, or UNKNOWN after a restart of the server: then the store has to be asked.
    Raises:
        StatementFailed: it failed; says why.
        ServiceError: the deadline passed, or the server stays away.
    """
    settings = {"id": literal(operation_id), **options}
    request = dict(S3_PATIENCE)
    if server.max_backup_mib:
        request["max_backup_bandwidth"] = 2 * server.max_backup_mib * _MIB  # files are read twice and both count
    listed = ", ".join(f"{key} = {value}" for key, value in settings.items())
    with server.client(timeout=_ANSWER_WITHIN) as client:
        try:
            client.command(f"{statement} SETTINGS {listed} ASYNC", request)
            return _watch(client, statement.split(" ", 1)[0], operation_id, deadline, progress)
        except BaseException:
            _end(client, f"id = {literal(operation_id)}", progress)
            raise


def end_operations_on(client: ClickHouseClient, folder: str, progress: Progress) -> None:
    """End backups into a folder that an earlier try of ours has left running.

    Raises:
        ServiceError: one does not end.
    """
    which = f"position(name, {literal(folder)}) > 0"
    if _running(client, which):
        progress(f"an earlier backup into {folder} is still running; ending it")
        if not _end(client, which, progress):
            raise ServiceError(f"clickhouse {client.name}: a backup into {folder} does not end; see system.backups")


def _watch(client: ClickHouseClient, verb: str, operation_id: str, deadline: Deadline, progress: Progress) -> Outcome:
    begun = heard = reported = time.monotonic()
    while True:
        now = time.monotonic()
        try:
            row = client.row(
                "SELECT toString(status), error, num_files, total_size FROM system.backups WHERE id = {id:String}",
                {"id": operation_id},
            )
            heard = now
        except ServiceError as error:
            if error.permanent or now - heard > _UNREACHABLE_FOR:
                raise
            row = ("UNREACHABLE", "", 0, 0)
        if row is None:
            return Outcome.UNKNOWN
        status, error_text, files, size = str(row[0]), str(row[1]), int(row[2]), int(row[3])
        if status in ("BACKUP_CREATED", "RESTORED"):
            return Outcome.DONE
        if status not in ("CREATING_BACKUP", "RESTORING", "UNREACHABLE"):
            refusal = refusal_of(error_text, client.name)
            reason = str(refusal) if refusal else f"clickhouse {client.name}: {error_text[:200] or status}"
            code = refusal.code if isinstance(refusal, StatementFailed) else 0
            raise StatementFailed(f"{verb} failed: {reason}", code=code)
        if deadline.left <= 0:
            raise ServiceError(
                f"clickhouse {client.name}: {verb} was not done after {deadline.seconds:.0f} s and is ended; "
                "raise BACKUP_DEADLINE_MINUTES, or see what slows the store down"
            )
        if now - reported > _REPORT_EVERY:
            reported = now
            progress(f"{verb} under way for {now - begun:.0f} s: {files} files, {size / _MIB:.0f} MiB")
        time.sleep(min(2.0, max(0.05, (now - begun) / 25), max(0.05, deadline.left)))  # asking takes the server's time too


def _running(client: ClickHouseClient, which: str) -> list[str]:
    rows = client.rows(f"SELECT query_id FROM system.backups WHERE {which} AND status IN ('CREATING_BACKUP', 'RESTORING')")
    return [str(query_id) for (query_id,) in rows]


def _end(client: ClickHouseClient, which: str, progress: Progress) -> bool:
    """Kill operations and wait for their end; says in the log when that cannot be done, since an error is under way."""
    give_up = time.monotonic() + _END_WITHIN
    try:
        while running := _running(client, which):
            if time.monotonic() > give_up:
                progress(f"clickhouse {client.name}: an operation does not end within {_END_WITHIN:.0f} s of being killed")
                return False
            client.command(f"KILL QUERY WHERE query_id IN ({', '.join(literal(one) for one in running)}) ASYNC")
            time.sleep(0.2)
    except ServiceError as error:
        progress(f"could not end the operation on the server: {error}")
        return False
    return True
