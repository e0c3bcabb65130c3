"""What a backup shows in the Prefect UI: the set it made, and the catalogue of all sets."""

from __future__ import annotations

from flows import catalogue
from flows.backup.manifest import BucketContents, ClickHouseDatabase, Manifest, PostgresDatabase
from flows.lease import utc_now
from flows.prune.policy import policy_of
from flows.prune.retention import plan
from flows.report import Summary
from flows.stack import Stack


def show_set(manifest: Manifest) -> None:
    """Publish the summary artifact of a committed set."""
    taken = (manifest.committed_at - manifest.created_at).total_seconds()
    summary = Summary(f"Backup set {manifest.id}", ("component", "tables", "rows", "data", "stored", "seconds", "kind"))
    for component in manifest.components:
        seconds = "" if component.kind == "globals" else f"{(component.finished_at - component.started_at).total_seconds():.1f}"
        if isinstance(component, PostgresDatabase):
            rows = sum(table.rows for table in component.tables)
            plain, stored = component.object.plain_bytes, component.object.bytes
            summary.row(f"postgres {component.name}", len(component.tables), rows, *_sizes(plain, stored), seconds, "full")
        elif isinstance(component, ClickHouseDatabase):
            rows = sum(table.content.rows for table in component.tables if table.content)
            kind = f"difference to {component.base}" if component.base else "full"
            sizes = _sizes(component.plain_bytes, component.bytes)
            summary.row(f"clickhouse {component.name}", len(component.tables), rows, *sizes, seconds, kind)
        elif isinstance(component, BucketContents):
            sizes = _sizes(component.bytes, component.new_bytes)
            summary.row(
                f"bucket {component.name}", "", component.objects, *sizes, seconds, f"{component.new_objects} new objects"
            )
        else:
            sizes = _sizes(component.object.plain_bytes, component.object.bytes)
            summary.row("postgres roles and grants", "", len(component.roles), *sizes, seconds, "full")
    summary.note(f"Committed {manifest.committed_at:%Y-%m-%d %H:%M:%S} UTC after {taken:.0f} s; signed.")
    if manifest.label or manifest.protected:
        summary.note(f"Label: {manifest.label or 'none'}{'; protected' if manifest.protected else ''}.")
    for what in manifest.not_taken:
        summary.note(f"Not taken: {what}")
    summary.note(
        f'Prove it: `prefect deployment run drill/on-demand --params \'{{"request": {{"set_id": "{manifest.id}"}}}}\'`'
    )
    summary.publish(f"backup-{manifest.stack}")


def show_catalogue(stack: Stack) -> None:
    """Publish the catalogue artifact of a stack."""
    found = catalogue.read(stack.store, stack.keys)
    kept = plan([entry.facts() for entry in found.entries], policy_of(stack.settings)).keep
    catalogue.publish(stack.name, found.entries, kept, utc_now())


def _sizes(plain: int, stored: int) -> tuple[str, str]:
    return catalogue.size(plain), catalogue.size(stored)
