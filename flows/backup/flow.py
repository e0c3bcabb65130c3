"""Take one backup set of the stack and commit it."""

from __future__ import annotations

from prefect import flow
from pydantic import BaseModel, Field

from flows import catalogue
from flows.backup.manifest import Manifest
from flows.backup.references import references
from flows.backup.sets import new_set, refuse_unknown, wanted
from flows.backup.tasks import backup_clickhouse, backup_globals, backup_objects, backup_postgres, earlier_backups
from flows.backup.views import show_catalogue, show_set
from flows.lease import Lease
from flows.report import Progress, line
from flows.stack import Stack
from flows.verify.tasks import check_presence


class BackupRequest(BaseModel):
    """What to back up, and how to call it."""

    components: list[str] = Field(
        default=[],
        description="postgres, clickhouse, bucket, or one of them such as postgres/litellm; empty: everything",
        examples=[["postgres/litellm", "clickhouse"]],
    )
    label: str = Field(default="", max_length=100, description="A word for people, for example 'before langfuse 4'")
    protect: bool = Field(default=False, description="Keep the set until somebody deletes it by hand")
    full: bool = Field(default=False, description="A full ClickHouse backup, even where a difference would do")


@flow(name="backup", validate_parameters=True, timeout_seconds=24 * 3600)
def backup(request: BackupRequest = BackupRequest()) -> str:
    """Take one backup set of the stack and commit it.

    Args:
        request: what to take, and how to label it.
    Returns: the id of the committed set.
    Raises:
        BackupFailed: a component failed; nothing was committed, and its objects were removed.
        LeaseHeld: a backup, restore, upgrade, prune or copy of this stack is under way.
    """
    stack = Stack.load()
    manifest = take(stack, request)
    line(f"committed {manifest.id}: {catalogue.size(manifest.stored_bytes)} in {len(manifest.components)} components")
    check_presence(stack, catalogue.read(stack.store, stack.keys).entries)
    show_set(manifest)
    show_catalogue(stack)
    return manifest.id


def take(stack: Stack, request: BackupRequest, outer: Lease | None = None) -> Manifest:
    """Take one set and commit it: what the flow does, and an upgrade before it changes anything.

    Args:
        outer: the stack's lock, where an outer flow holds it.
    Raises: as the flow.
    """
    refuse_unknown(request.components)
    with (
        stack.exclusive("backup", outer) as lease,
        new_set(stack, lease, label=request.label, protect=request.protect) as backup_set,
    ):
        known = catalogue.read(stack.store, stack.keys)
        clickhouse = wanted(request.components, "clickhouse", stack.clickhouse_databases())
        postgres = wanted(request.components, "postgres", stack.postgres_databases())
        buckets = wanted(request.components, "bucket", [source.name for source in stack.sources])
        total = len(clickhouse) + len(postgres) + len(buckets)
        progress = Progress(f"backup-progress-{stack.name}", f"Backup {backup_set.id}", total)
        with references(stack, clickhouse, postgres, buckets) as refer:
            for database in clickhouse:
                earlier = earlier_backups(stack, known, database, full=request.full)
                backup_set.add(backup_clickhouse(stack, backup_set, database, earlier))  # before Postgres: no reference dangles
                progress.step()
            for database in postgres:
                backup_set.add(backup_postgres(stack, backup_set, database))
                progress.step()
            if postgres:
                backup_set.add(backup_globals(stack, backup_set))
            taken = []
            for source in (source for source in stack.sources if source.name in buckets):
                taken.append(backup_objects(stack, backup_set, source, known.newest_with_bucket(source.name)))
                progress.step()
            backup_set.add(*taken)
            backup_set.dangling = refer.dead_ends(stack, backup_set.prefix, clickhouse, postgres, taken)
        return backup_set.commit()
