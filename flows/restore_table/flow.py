"""Restore one table or partition: beside the live one for copying rows out, or in its place; keep what was there for undo."""

from __future__ import annotations

from typing import Literal

from prefect import flow
from pydantic import BaseModel, Field

from flows import catalogue
from flows.approval import approve
from flows.copy.view import Source, reading_from
from flows.health.maintenance import swapping
from flows.report import line
from flows.restore.checks import refuse_other_keys
from flows.restore_table import undo as undoing
from flows.restore_table.journal import TableJournal
from flows.restore_table.plan import describe, plan_table, refuse_changed
from flows.restore_table.steps import begin, check_stored, discard_staged_on_failure, leave_beside, stage, swap
from flows.restore_table.views import show_plan, show_restore
from flows.stack import Stack


class TableRequest(BaseModel):
    """Which table to restore, or which restore to take back."""

    action: Literal["restore", "undo", "finish", "forget"] = Field(
        default="restore",
        description="restore: from a set. undo: put back the rows that were live before a swap. finish: only settle a restore "
        "that died. forget: drop what a restore left beside the live table or kept for undo",
    )
    set_id: str = Field(default="latest", description="latest, the id of a set, or a time (the newest set not younger)")
    source: Source = Field(default="store", description="The stack's own store, or the copy off the stack")
    component: str = Field(default="", description="The database: postgres/litellm or clickhouse/langfuse")
    table: str = Field(default="", description='The table: public."LiteLLM_SpendLogs" or, in ClickHouse, traces')
    partition: str = Field(default="", description="ClickHouse: only the partition with this id or value; empty: all")
    into: Literal["beside", "swap"] = Field(
        default="beside",
        description="beside: a copy to read from, the live table is not touched. swap: its rows are replaced and kept for undo",
    )
    restore_id: str = Field(default="latest", description="For undo and forget: which restore")
    accept_other_keys: bool = Field(
        default=False, description="Restore although LITELLM_SALT_KEY or ENCRYPTION_KEY differ from those of the backup"
    )
    dry_run: bool = Field(default=False, description="Only say exactly what would happen")
    confirm: str = Field(default="", description="The stack's name approves at once; empty: the run pauses and asks")


@flow(name="restore-table", validate_parameters=True, timeout_seconds=24 * 3600)
def restore_table(request: TableRequest = TableRequest()) -> TableJournal | None:
    """Restore one table or partition: beside the live one, or in its place.

    Args:
        request: what to restore, and where to.
    Returns: the journal of what was done; None for a dry run.
    Raises:
        SettingsError, RestoreRefused: it is not to be found, or does not fit; nothing was changed.
        ApprovalMissing: nobody approved a swap; nothing was changed.
        RestoreFailed: it broke off; says what state the live table is in.
    """
    stack = Stack.load()
    if request.action != "restore":
        return undoing.run(stack, request.action, request.restore_id, dry_run=request.dry_run, confirm=request.confirm)
    what = (request.component, request.table, request.partition, request.into)
    statements: list[str] = []
    with reading_from(stack, request.source) as source:  # locks and journals stay in the own store
        manifest = catalogue.read(source.store, source.keys).need(request.set_id)
        manifest = catalogue.with_definitions(source.store, source.keys, manifest)
        refuse_other_keys(stack, manifest, accept_other_keys=request.accept_other_keys)
        plan = plan_table(source, manifest, *what)
        show_plan(stack, plan, dry_run=request.dry_run)
        if request.dry_run:
            return None
        if request.into == "swap":
            approve(stack.name, request.confirm, describe(plan))
        with stack.exclusive("restore") as lease:
            undoing.settle(stack)  # a restore that died before this one
            refuse_changed(plan, plan_table(source, manifest, *what, plan.journal.id))  # since it was approved
            check_stored(source, manifest, plan)  # hashes of stored bytes, before anything is made or fed to an engine
            journal = begin(stack, plan)
            with discard_staged_on_failure(stack, journal):
                journal.members = stage(source, manifest, plan, journal).members  # beside the live one, then compared
                lease.check()
                if request.into == "swap":
                    with swapping(stack.name, [journal.kind], f"restore of table {journal.table}"):
                        swap(stack, journal)
                else:
                    statements = leave_beside(stack, journal)
    line(f"restored {journal.name} of {manifest.id}; {'undo' if request.into == 'swap' else 'forget'} with {journal.id}")
    show_restore(stack, journal, statements)
    return journal
