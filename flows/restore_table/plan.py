"""What the restore of one table will do, worked out beforehand from live facts; what refuses it; and how it is told."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from blocks.errors import RestoreRefused
from blocks.postgres import PostgresServer
from flows.backup.clickhouse_files import load_index
from flows.backup.manifest import Manifest, PostgresDatabase
from flows.backup.sets import new_set_id
from flows.catalogue import set_prefix, size
from flows.lease import utc_now
from flows.restore import clickhouse as on_clickhouse
from flows.restore import postgres as on_postgres
from flows.restore.journal import Step
from flows.restore_table.choose import (
    ClickHouseChoice,
    PostgresChoice,
    clickhouse_table,
    component_of,
    partition_of,
    postgres_table,
)
from flows.restore_table.columns import refuse_other_columns
from flows.restore_table.journal import Into, Moved, TableJournal
from flows.restore_table.live import Live, clickhouse_live, partition_values, postgres_live
from flows.stack import Stack

COPIED_BYTES = 20_000_000
"""Bytes a second that rows are copied at inside a database, with indexes; measured on two cores, to tell people an order."""


@dataclass(frozen=True)
class TablePlan:
    """What will be done.

    Attributes:
        journal: as it begins. taken_at: of the set. choice: what of the set. live: the live table. rows: in the set; None
        where the manifest does not say.
    """

    journal: TableJournal
    taken_at: datetime
    choice: PostgresChoice | ClickHouseChoice
    live: Live
    rows: int | None


def plan_table(
    stack: Stack, manifest: Manifest, component: str, table: str, partition: str, into: Into, restore_id: str = ""
) -> TablePlan:
    """Find what is meant and look at the live table; changes nothing.

    Args:
        stack: with the store that the set is read from.
        component, table, partition: as a person names them. restore_id: of an earlier plan that is worked out again.
    Raises:
        SettingsError, RestoreRefused: it is not to be found, or does not fit; one line with near names.
        VersionMismatch: the server is older than what wrote the backup.
    """
    found = component_of(manifest, component)
    journal = TableJournal(
        id=restore_id or new_set_id(utc_now()),
        set_id=manifest.id,
        begun_at=utc_now(),
        component=component,
        table=table,
        into=into,
    )
    if isinstance(found, PostgresDatabase):
        if partition:
            raise RestoreRefused(f"{component}: partition is for ClickHouse; in Postgres it is a table of its own, name that")
        return _postgres(stack.need_postgres_admin(), manifest, postgres_table(found, table), journal)
    choice = clickhouse_table(found, table)
    return _clickhouse(stack, manifest, choice, partition, journal)


def describe(plan: TablePlan) -> str:
    """Say in one paragraph what will happen and how it is taken back."""
    journal, live = plan.journal, plan.live
    rows = "rows that the manifest does not count" if plan.rows is None else f"{plan.rows} rows"
    now = f"{'about ' if live.about else ''}{live.rows} rows, {size(live.bytes)}" if live.exists else "there is none"
    lines = [
        f"{journal.name} of set {journal.set_id}, taken {plan.taken_at:%Y-%m-%d %H:%M} UTC: {rows}; live now: {now}.",
        f"- restored into the database {journal.side} and compared with the manifest; the live table is not touched by that",
    ]
    if journal.into == "beside":
        kind = "schema" if journal.kind == "postgres" else "database"
        lines.append(f"- left in the {kind} {journal.place('restored')}, for copying rows out; forget drops it")
    elif journal.kind == "postgres":
        others = f", and nobody writes to {', '.join(live.referring)}" if live.referring else ""
        lines += [
            f"- {journal.table} is locked for about {_locked_for(plan)} s: nobody reads or writes it{others}",
            f"- its rows are kept in the schema {journal.place('kept')} and replaced in one transaction; triggers do not fire, "
            "every foreign key from and to it is checked, and a row that would refer to nothing rolls all of it back",
        ]
    else:
        how = "its parts are moved, which takes a moment" if journal.partition else "the tables are exchanged"
        lines.append(f"- {how}; what is live now is kept in the database {journal.place('kept')}")
    if journal.into == "swap":
        lines.append(f"Way back: the same flow with action undo and restore_id {journal.id}.")
    return "\n".join(lines)


def refuse_changed(approved: TablePlan, now: TablePlan) -> None:
    """Refuse to carry out a plan that was made for another state of the live table.

    Raises:
        RestoreRefused: it came, went, or has other columns now.
    """
    if (approved.live.exists, approved.live.columns) != (now.live.exists, now.live.columns):
        raise RestoreRefused(
            f"{now.journal.name}: the live table changed since the plan was made; run it again to approve that"
        )


def _postgres(server: PostgresServer, manifest: Manifest, choice: PostgresChoice, draft: TableJournal) -> TablePlan:
    component, table = choice.component, choice.table
    journal = draft.model_copy(update={"table": table, "sequences": _sequences(component, table)})
    on_postgres.refuse_unfit(server, component)
    if not server.exists(component.name):
        raise RestoreRefused(
            f"postgres {component.name} does not exist, so there is nothing to restore a table beside; restore the database "
            "with restore/on-demand"
        )
    try:
        live, names = postgres_live(server, component.name, table, swap=journal.into == "swap")
        if journal.into == "swap":
            _refuse_other_columns(live.columns.keys(), _recorded_columns(component, table), table)
    except RestoreRefused as error:
        raise RestoreRefused(f"postgres {component.name}: {error}") from None
    held = {content.name: content.rows for content in component.tables}
    members = {table, *names, *_descendants(component.catalogue, table)} & held.keys()
    rows = sum(held[name] for name in members) if members else None
    return TablePlan(journal, manifest.created_at, choice, live, rows)


def _recorded_columns(component: PostgresDatabase, table: str) -> set[str]:
    """Name the columns that a table had, as the manifest's catalogue describes them."""
    begin = f"column {table}."
    quoted = [key.removeprefix(begin) for key in component.catalogue if key.startswith(begin)]
    return {name[1:-1].replace('""', '"') if name.startswith('"') else name for name in quoted}


def _refuse_other_columns(live: Collection[str], recorded: Collection[str], table: str) -> None:
    """Refuse columns that came or went, as far as the manifest says; types are compared when the rows are there."""
    came, went = set(live) - set(recorded), set(recorded) - set(live)
    if recorded and (came or went):
        refuse_other_columns(dict.fromkeys(came, "there"), dict.fromkeys(went, "there"), table)


def _sequences(component: PostgresDatabase, table: str) -> dict[str, int]:
    """Return what the sequences of a table would have given next when the backup was taken."""
    begin, owned = "parameters of sequence ", f"owned by {table}."
    names = {key.removeprefix(begin) for key, text in component.catalogue.items() if key.startswith(begin) and owned in text}
    return {sequence.name: sequence.high for sequence in component.sequences if sequence.name in names}


def _descendants(catalogue: dict[str, str], table: str) -> set[str]:
    """Name the partitions and inheritance children of a table in a manifest; those with long definitions are not seen."""
    children = {
        key.split("table ", 1)[1]
        for key, definition in catalogue.items()
        if key.startswith(("table ", "partitioned table "))
        and (of := re.search(r"(?:^|; )of ([^;]+)", definition))
        and table in of[1].split(", ")
    }
    return children.union(*(_descendants(catalogue, child) for child in children))


def _locked_for(plan: TablePlan) -> int:
    """Estimate for how long a swap locks the table, seconds: its rows are copied out, the others in."""
    a_row = plan.live.bytes / plan.live.rows if plan.live.rows > 0 else 300
    return 1 + round((plan.live.bytes + a_row * (plan.rows or 0)) / COPIED_BYTES)


def _clickhouse(stack: Stack, manifest: Manifest, choice: ClickHouseChoice, partition: str, draft: TableJournal) -> TablePlan:
    server, component = stack.need_clickhouse(), choice.component
    on_clickhouse.refuse_unfit(server, component)
    if not on_clickhouse.database_exists(server, component.name):
        raise RestoreRefused(
            f"clickhouse {component.name} does not exist, so there is nothing to restore a table beside; restore the database "
            "with restore/on-demand"
        )
    with server.client() as client:
        if partition:
            index = load_index(stack.store, set_prefix(stack.store, manifest.id), component.index)
            choice = partition_of(choice, index, partition, partition_values(client, component.name, choice.table.name))
        live = clickhouse_live(client, component.name, choice.table.name, choice.partition)
    journal = draft.model_copy(update={"table": choice.table.name, "partition": choice.partition})
    if journal.into == "swap":
        if choice.partition and not live.exists:
            raise RestoreRefused(f"{journal.name}: there is no live table; restore the whole table, without a partition")
        if choice.partition:
            how: dict[str, object] = {"moved": Moved(restored=choice.rows)}
        else:
            how = {"step": _step(journal), "taken": component.model_copy(update={"tables": [choice.table]})}
        journal = journal.model_copy(update=how)
    return TablePlan(journal, manifest.created_at, choice, live, choice.rows)


def _step(journal: TableJournal) -> Step:
    return Step(kind="clickhouse", live=journal.database, staged=journal.side, kept=journal.place("kept"))
