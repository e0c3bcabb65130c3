"""The steps that copy: roles, once everything as a rehearsal, and at last everything for good."""

from __future__ import annotations

import json
from dataclasses import dataclass

from blocks.errors import UpgradeFailed
from flows.compare.differences import Difference
from flows.report import timed
from flows.upgrade.postgres.fence import close_for_writers, writes
from flows.upgrade.postgres.moving import drop_copy, move_database
from flows.upgrade.postgres.new_server import SERVED
from flows.upgrade.postgres.orders import PostgresPlan
from flows.upgrade.postgres.roles import compare_roles, drop_roles, move_roles
from flows.upgrade.postgres.servers import ACCESS, Servers, servers
from flows.upgrade.steps import Context, Step

__all__ = ["WRITERS", "FinalCopy", "Rehearse", "Roles"]

WRITERS = "writers"
"""Name of the step that stops writers; its record has how many rows had been written by then."""
_SHOWN = 5


@dataclass(frozen=True)
class Roles(Step):
    """Creates the roles on the new server, with their passwords."""

    plan: PostgresPlan

    def describe(self) -> str:
        """As in `Step`."""
        return "create the roles on the new server: attributes, memberships, settings, and the passwords that they have"

    def do(self, context: Context) -> str:
        """As in `Step`."""
        both = servers(context)
        created = move_roles(both.old, both.new)
        known = json.loads(context.record(self).facts.get("created", "[]"))
        context.note(self, created=json.dumps(sorted({*known, *created})))
        _refuse_different(compare_roles(both.old, both.new))
        return f"{len(created)} roles created, all equal"

    def undo(self, context: Context) -> str:
        """As in `Step`."""
        if self.plan.new.service or _served(context):
            return "they stay with the new server"
        names = json.loads(context.record(self).facts.get("created", "[]"))
        return f"dropped on the target: {', '.join(drop_roles(servers(context).new, names)) or 'none'}"


@dataclass(frozen=True)
class Rehearse(Step):
    """Copies every database while the stack serves, compares, drops the copy: what cannot work shows before the downtime."""

    plan: PostgresPlan

    def describe(self) -> str:
        """As in `Step`."""
        names = ", ".join(self.plan.databases)
        return f"rehearse while everything serves: copy {names} to the new server, compare, drop the copies again"

    def do(self, context: Context) -> str:
        """As in `Step`."""
        both = servers(context)
        with timed() as watch:
            for name in self.plan.databases:
                context.note(self, **{name: "begun"})
                drop_copy(both.new, name)
                _copy(context, both, name)
                drop_copy(both.new, name)
        return f"{len(self.plan.databases)} databases copied and equal in {watch.seconds:.0f} s; the downtime will be as long"

    def undo(self, context: Context) -> str:
        """As in `Step`."""
        if _served(context):
            return "nothing to undo"
        return _drop_begun(context, self, self.plan)


@dataclass(frozen=True)
class FinalCopy(Step):
    """Copies every database for good, from a server that takes no writes any more, and compares everything."""

    plan: PostgresPlan

    def describe(self) -> str:
        """As in `Step`."""
        names = ", ".join(self.plan.databases)
        return (
            f"copy {names} for good, in one stream each; compare rows, checksums, large objects, sequences, every definition's "
            "existence, owners, grants, comments, properties, settings and roles"
        )

    def do(self, context: Context) -> str:
        """As in `Step`."""
        both, record = servers(context), context.record(self)
        close_for_writers(both.old, self.plan.databases)  # also where a restart in between has let somebody in
        rows = size = 0
        for name in self.plan.databases:
            if record.facts.get(name) == "equal":
                continue
            context.note(self, **{name: "begun"})
            drop_copy(both.new, name)
            counted, taken = _copy(context, both, name)
            rows, size = rows + counted, size + taken
            context.note(self, **{name: "equal"})
        moved = move_roles(both.old, both.new)
        _refuse_different(compare_roles(both.old, both.new))
        self._refuse_written(context, both)
        late = f", {len(moved)} roles came late" if moved else ""
        return f"{len(self.plan.databases)} databases are equal on both: {rows} rows, {size} bytes{late}"

    def undo(self, context: Context) -> str:
        """As in `Step`."""
        if _served(context):
            return "the copies stay: consumers have written to them"
        return _drop_begun(context, self, self.plan)

    def _refuse_written(self, context: Context, both: Servers) -> None:
        """Somebody may have found a way to write in spite of everything; then the copy is not the last word."""
        before = json.loads(context.journal.record(WRITERS).facts.get("written", "{}"))
        for name, count in before.items():
            now = writes(both.old, name)
            if now != count:
                raise UpgradeFailed(
                    f"postgres {name}: {now - count} rows were written on the old server after it was closed, expected none; "
                    "find out who does (pg_stat_activity; a session may say READ WRITE itself), then try again"
                )


def _copy(context: Context, both: Servers, name: str) -> tuple[int, int]:
    """Copy and compare one database.

    Returns: rows and bytes.
    Raises:
        UpgradeFailed: the copy is not equal; it is dropped.
    """
    with timed() as watch:
        component, differences = move_database(both.old, both.new, name, progress=context.tell)
    if differences:
        drop_copy(both.new, name)
        _refuse_different(differences)
    rows = sum(table.rows for table in component.tables)
    context.tell(f"postgres {name}: {rows} rows in {len(component.tables)} tables copied and equal, {watch.seconds:.1f} s")
    for left in component.not_taken:
        context.tell(f"postgres {name}: not moved: {left}")
    context.lease.check()
    return rows, component.object.plain_bytes


def _refuse_different(differences: list[Difference]) -> None:
    if differences:
        shown = "; ".join(str(one) for one in differences[:_SHOWN])
        more = f"; and {len(differences) - _SHOWN} more" if len(differences) > _SHOWN else ""
        raise UpgradeFailed(f"the new server is not equal to the old one: {shown}{more}")


def _drop_begun(context: Context, step: Step, plan: PostgresPlan) -> str:
    """Drop what was copied. A new service goes as a whole, and may be the very thing that does not answer."""
    if plan.new.service:
        return "the copies go with the new server"
    begun = [name for name in plan.databases if name in context.record(step).facts]
    if not begun:
        return "nothing was copied"
    new = servers(context).new
    for name in begun:
        drop_copy(new, name)
    return f"dropped on the new server: {', '.join(begun)}"


def _served(context: Context) -> bool:
    return SERVED in context.journal.record(ACCESS).facts
