"""Restore a set to a scratch place, compare everything with its manifest, throw it away, and write down the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from prefect import flow
from pydantic import BaseModel, Field

from blocks.errors import DrillFailed, IntegrityError
from flows import catalogue, side_file
from flows.backup.manifest import Dangling, Manifest
from flows.backup.views import show_catalogue
from flows.compare.references import compare_dangling, dangling, without_project
from flows.copy.view import Source, reading_from
from flows.drill.scratch import embedded, on_live_server
from flows.drill.tasks import Outcome, damaged, prove_bucket, prove_clickhouse, prove_postgres, show_drill
from flows.lease import utc_now
from flows.report import Progress, line
from flows.restore.choose import Parts, chosen
from flows.side_file import DrillRecord
from flows.stack import Stack

Place = Literal["embedded", "server"]


class DrillRequest(BaseModel):
    """Which set to prove, and where."""

    set_id: str = Field(default="latest", description="latest, the id of a set, or a time (the newest set not younger)")
    components: list[str] = Field(
        default=[],
        description="postgres, clickhouse, bucket, or one of them such as postgres/litellm; empty: everything. "
        "Only a drill of everything proves the set",
    )
    scratch: Place = Field(
        default="embedded", description="Engines beside the worker, or scratch databases on the live servers"
    )
    every_pack: bool = Field(
        default=False, description="Read every pack of bucket objects, not only those whose turn it is (DRILL_BUCKET_DAYS)"
    )
    source: Source = Field(default="store", description="The stack's own store, or the copy off the stack")


def prove(stack: Stack, manifest: Manifest, parts: Parts, where: Place, *, every_pack: bool) -> tuple[list[Outcome], str]:
    """Restore and compare each component in the scratch place, which is gone afterwards.

    Args:
        every_pack: of bucket objects is read, not only those whose turn it is.
    Returns: what was found, and the name of the place.
    """
    place = embedded(stack, parts.postgres, parts.clickhouse) if where == "embedded" else on_live_server(stack)
    with place as scratch:
        progress = Progress(f"drill-progress-{stack.name}", f"Drill of {manifest.id}", len(parts.names))
        outcomes = []
        for database in parts.postgres:
            outcomes.append(prove_postgres(stack, scratch, manifest, database))
            progress.step()
        for table_set in parts.clickhouse:
            outcomes.append(prove_clickhouse(stack, scratch, manifest, table_set))
            progress.step()
        for bucket in parts.buckets:
            outcomes.append(prove_bucket(stack, manifest, bucket, utc_now().date(), everything=every_pack))
            progress.step()
    outcomes.append(Outcome("all stores together", 0, differences=compare_dangling(manifest.dangling, dead_ends(outcomes))))
    return outcomes, scratch.name


def dead_ends(outcomes: Sequence[Outcome]) -> list[Dangling]:
    """Count the references between the restored stores that lead nowhere, of those stores that were all restored."""
    named = [o.projects for o in outcomes if o.projects is not None and o.component.startswith("clickhouse ")]
    projects = [o.projects for o in outcomes if o.projects is not None and o.component.startswith("postgres ")]
    known = without_project(set().union(*named), set().union(*projects)) if named and projects else None
    media = [outcome.media for outcome in outcomes if outcome.media is not None]
    return dangling(known, sum(media[1:], media[0]) if media else None)


def not_compared(parts: Parts) -> list[str]:
    """Say what of a set this drill does not prove, even when nothing differs."""
    missing = [] if parts.everything else ["only some components were restored"]
    return missing + [
        f"clickhouse {component.name}: table {table.name}: its content is not known, somebody wrote to it during the backup"
        for component in parts.clickhouse
        for table in component.tables
        if table.has_data and table.content is None
    ]


@flow(name="drill", validate_parameters=True, timeout_seconds=12 * 3600)
def drill(request: DrillRequest = DrillRequest()) -> DrillRecord:
    """Restore a set to a scratch place, compare everything with its manifest, throw it away.

    Args:
        request: which set, and where to.
    Returns: the record that is kept beside the set.
    Raises:
        DrillFailed: what was restored is not what the manifest says; the first differences by name.
        SettingsError: the scratch place cannot take the set; nothing is recorded.
    """
    with reading_from(Stack.load(), request.source) as stack:
        manifest = catalogue.read(stack.store, stack.keys).need(request.set_id)
        parts = chosen(manifest, request.components)
        line(f"drill of {manifest.id}: {', '.join(parts.names)}")
        try:
            manifest = catalogue.with_definitions(stack.store, stack.keys, manifest)
            parts = chosen(manifest, request.components)
        except IntegrityError as error:
            outcomes, place = [damaged("definitions", error)], "nowhere"
        else:
            outcomes, place = prove(stack, manifest, parts, request.scratch, every_pack=request.every_pack)
    unproven = not_compared(parts)
    differences = [str(difference) for outcome in outcomes for difference in outcome.differences]
    record = DrillRecord(
        set_id=manifest.id,
        at=utc_now(),
        ok=not differences,
        full=not unproven,
        recovery_seconds=round(sum(outcome.restore_seconds for outcome in outcomes)),
        compare_seconds=round(sum(outcome.compare_seconds for outcome in outcomes)),
        components=parts.names,
        scratch=place,
        differences=differences[:100],
        unproven=unproven,
    )
    side_file.record(stack.store, manifest.id, drill=record)
    show_drill(stack, record, outcomes)
    if request.source == "store":
        show_catalogue(stack)
    if differences:
        more = f" and {len(differences) - 3} more" if len(differences) > 3 else ""
        raise DrillFailed(f"drill of {manifest.id}: {'; '.join(differences[:3])}{more}; do not rely on this set")
    return record
