"""What a restore will do, worked out beforehand from live facts: the preview, and the steps that are then carried out."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from flows.backup.manifest import ClickHouseDatabase, Manifest, PostgresDatabase
from flows.backup.sets import new_set_id
from flows.catalogue import size
from flows.lease import utc_now
from flows.restore import clickhouse as on_clickhouse
from flows.restore import postgres as on_postgres
from flows.restore import postgres_roles
from flows.restore.choose import Parts, side_name
from flows.restore.journal import Step
from flows.restore.objects import PlannedObjects
from flows.stack import Stack


@dataclass(frozen=True)
class PlannedStep:
    """One database, and what happens to it.

    Attributes:
        step: names, as the journal keeps them. component: what is restored.
        empty: the live database is missing or holds no rows. live_bytes: its size now.
        missing_roles: roles that will be created without a password. left_alone: live tables that are not in the set.
    """

    step: Step
    component: PostgresDatabase | ClickHouseDatabase
    empty: bool
    live_bytes: int
    missing_roles: list[str] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Name it for people."""
        return f"{self.step.kind} {self.step.live}"

    def sentence(self) -> str:
        """Say in one sentence what happens."""
        comp = self.component
        data = comp.database_bytes if isinstance(comp, PostgresDatabase) else comp.plain_bytes
        text = f"{self.name}: {size(data)} are restored into {self.step.staged} and compared; "
        if not self.step.existed:
            text += f"it becomes {self.step.live}, which does not exist now"
        elif self.step.kind == "postgres":
            text += f"connections are ended, {self.step.live} ({size(self.live_bytes)}) is kept as {self.step.kept}"
        else:
            text += (
                f"its tables are exchanged one by one, the present ones ({size(self.live_bytes)}) are kept in {self.step.kept}"
            )
        if self.missing_roles:
            text += f"; roles {', '.join(self.missing_roles)} are created without password"
        if self.left_alone:
            text += f"; not in the set and left alone: {', '.join(self.left_alone)}"
        return text


@dataclass(frozen=True)
class RestorePlan:
    """What a restore will do.

    Attributes:
        id: of the restore. set_id, taken_at: of the set. steps: in the order they are carried out.
        empties_redis: Langfuse is restored as a whole, so its queues start empty.
        buckets: what happens in the buckets, after the databases; looked at once.
    """

    id: str
    set_id: str
    taken_at: datetime
    steps: list[PlannedStep]
    empties_redis: bool
    buckets: list[PlannedObjects] = field(default_factory=list)


def plan_restore(stack: Stack, manifest: Manifest, parts: Parts, restore_id: str = "") -> RestorePlan:
    """Look at the live servers and work out what a restore would do; changes nothing.

    Args:
        restore_id: of an earlier plan that is worked out again; empty for a new one.
    """
    restore_id = restore_id or new_set_id(utc_now())
    steps = [_postgres(stack, component, restore_id) for component in parts.postgres]
    steps += [_clickhouse(stack, component, restore_id) for component in parts.clickhouse]
    whole_langfuse = stack.redis is not None and bool(parts.clickhouse) and any(c.name == LANGFUSE for c in parts.postgres)
    return RestorePlan(restore_id, manifest.id, manifest.created_at, steps, whole_langfuse)


LANGFUSE = "langfuse"
"""Name of Langfuse's Postgres database."""


def describe(plan: RestorePlan) -> str:
    """Say in one paragraph what will happen and how it is taken back."""
    lines = [f"Restore of set {plan.set_id}, taken {plan.taken_at:%Y-%m-%d %H:%M} UTC. Writes made since are not in it."]
    lines += [f"- {step.sentence()}" for step in plan.steps]
    lines += [f"- {bucket.sentence()}" for bucket in plan.buckets]
    if plan.empties_redis:
        lines.append("- redis is emptied: its queued jobs belong to the data that is replaced")
    lines.append(f"Way back: the same flow with action undo and restore_id {plan.id}.")
    return "\n".join(lines)


def _postgres(stack: Stack, component: PostgresDatabase, restore_id: str) -> PlannedStep:
    server = stack.need_postgres_admin()
    existed = on_postgres.database_exists(server, component.name)
    return PlannedStep(
        step=_step("postgres", component.name, restore_id, existed=existed),
        component=component,
        empty=on_postgres.is_empty(server, component.name),
        live_bytes=on_postgres.database_bytes(server, component.name),
        missing_roles=postgres_roles.missing_roles(server, component),
    )


def _clickhouse(stack: Stack, component: ClickHouseDatabase, restore_id: str) -> PlannedStep:
    server = stack.need_clickhouse()
    existed = on_clickhouse.database_exists(server, component.name)
    return PlannedStep(
        step=_step("clickhouse", component.name, restore_id, existed=existed),
        component=component,
        empty=not existed or on_clickhouse.is_empty(server, component.name),
        live_bytes=on_clickhouse.database_bytes(server, component.name) if existed else 0,
        left_alone=on_clickhouse.tables_not_in(server, component) if existed else [],
    )


def _step(kind: str, live: str, restore_id: str, *, existed: bool) -> Step:
    names = {"staged": side_name(live, "restore", restore_id), "kept": side_name(live, "kept", restore_id)}
    return Step.model_validate({"kind": kind, "live": live, "existed": existed, **names})
