"""What a swap of a restored ClickHouse database will do, table by table, and what refuses it before anything is touched."""

from __future__ import annotations

from collections.abc import Mapping

from blocks.clickhouse_client import ClickHouseClient
from blocks.errors import RestoreFailed, RestoreRefused
from flows.backup.manifest import ClickHouseDatabase, ClickHouseTable
from flows.compare.clickhouse_tables import Table, inventory, is_inner, stored_in
from flows.restore.journal import Step, TableSwap

__all__ = ["plan_swap"]

_NO_UUID = "00000000-0000-0000-0000-000000000000"


def plan_swap(client: ClickHouseClient, component: ClickHouseDatabase, step: Step) -> list[TableSwap]:
    """Plan a swap: tables with rows are exchanged, then missing or changed views defined, then hidden tables refilled.

    Raises:
        RestoreRefused: it cannot be swapped.
        RestoreFailed: there is nothing to swap in.
    """
    _refuse_engines(client, step)
    staged, live = inventory(client, step.staged), inventory(client, step.live)
    stored = [_stored(staged, live, name) for name in sorted(staged) if not is_inner(name) and stored_in(staged, name)]
    exchanged = [swap for swap in stored if swap.how == "exchange"]
    refilled = [swap for swap in stored if swap.how == "refill"]
    by_other_means = {swap.name for swap in stored}
    define = [
        TableSwap(name=table.name, how="define", previous=live[table.name].ddl if table.name in live else "")
        for table in component.tables
        if table.name not in by_other_means and _to_define(table, live)
    ]
    for swap in exchanged:
        _refuse_table(step, swap, staged[swap.name])
    definitions = {table.name: table for table in component.tables}
    for swap in (*define, *refilled):
        if _to_define(definitions[swap.name], live) and "[HIDDEN]" in definitions[swap.name].ddl:
            raise RestoreRefused(
                f"clickhouse {step.live}: {swap.name} has to be defined anew, but ClickHouse hides a password in its "
                "definition; create it by hand first"
            )
    return [*exchanged, *define, *refilled]


def _stored(staged: Mapping[str, Table], live: Mapping[str, Table], name: str) -> TableSwap:
    new = stored_in(staged, name)
    if new is None:
        raise RestoreFailed(f"table {name} holds no rows")  # callers ask only for those that do
    old = stored_in(live, name) if name in live else None
    hidden = new.name != name
    return TableSwap(
        name=name,
        how="refill" if hidden else "exchange",
        live=old.identity if old else "",
        staged=new.identity,
        previous=live[name].ddl if hidden and name in live else "",
        rows=(old.rows or 0) if old else 0,
        restored=new.rows or 0,
    )


def _to_define(table: ClickHouseTable, live: Mapping[str, Table]) -> bool:
    """Say whether a view is missing or defined otherwise now, or a table that the copy does not have is missing."""
    present = live.get(table.name)
    return present is None or (present.is_view and present.ddl != table.ddl)


def _refuse_engines(client: ClickHouseClient, step: Step) -> None:
    engines = {str(name): str(engine) for name, engine in client.rows("SELECT name, engine FROM system.databases")}
    if engines.get(step.live) in ("Ordinary", "Lazy"):
        raise RestoreRefused(
            f"clickhouse {step.live}: a database of engine {engines[step.live]} cannot exchange tables; convert it to Atomic"
        )
    if step.staged not in engines:
        raise RestoreFailed(f"clickhouse {step.live}: there is no {step.staged} to swap in; the live data was not touched")
    if step.kept in engines:
        raise RestoreRefused(f"clickhouse {step.live}: {step.kept} exists already; undo or forget the restore that kept it")


def _refuse_table(step: Step, swap: TableSwap, staged: Table) -> None:
    if step.staged in staged.ddl.split("(", 1)[-1]:
        raise RestoreRefused(
            f"clickhouse {step.live}: the definition of table {swap.name} names its own database (a dictionary in a DEFAULT?), "
            f"so the restored one cannot take its place; move its rows by hand from {step.staged}"
        )
    if _NO_UUID in (swap.live, swap.staged):
        raise RestoreRefused(
            f"clickhouse {step.live}: nothing tells table {swap.name} from its restored copy; exchange it by hand with "
            f"{step.staged}"
        )
