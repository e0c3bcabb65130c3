"""`make demo`: one night of the stack on real engines, through the real Prefect server and worker.

Backup, more writes, a differential backup, a drill, a disaster, a restore, an undo, lost objects, a copy, a prune, an incident
that is told and closed. Each step checks what it claims; the report says what held. Exit status 0 only when every step did.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg

from flows import catalogue
from flows.backup.manifest import Manifest
from flows.catalogue import Entry, size
from flows.compare.postgres import compare_database as compare_postgres
from flows.restore import clickhouse as on_clickhouse
from flows.restore import postgres as on_postgres
from shared.sandbox import langfuse_bucket, langfuse_clickhouse, langfuse_postgres, litellm_schema
from shared.sandbox.blocks import stack_from
from shared.sandbox.demo_deploy import a_railway, deploy_and_prove
from shared.sandbox.demo_upgrade import fail_an_upgrade
from shared.sandbox.demo_watch import watch_an_incident
from shared.sandbox.prefect_api import FlowRunResult
from shared.sandbox.report import Done, Steps
from shared.sandbox.stack import STATE, Sandbox

ROOT = Path(__file__).resolve().parents[2]
SPEND_LOGS = 40_000
TRACES = 150_000
EVENTS = 3000
LOST = 50
CLICKHOUSE_DATABASE = "langfuse"


class StepFailed(Exception):
    """A step did not do what it claims."""


class Demo:
    """The night, step by step.

    Args:
        sandbox: started.
    """

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.stack = stack_from(sandbox.environment())
        self.admin = self.stack.need_postgres_admin()
        self.clickhouse = self.stack.need_clickhouse()
        self.source = self.stack.sources[0]

    # --- steps -------------------------------------------------------------------------------------------------------

    def load(self) -> Done:
        """LiteLLM's real schema, a Langfuse-shaped one, rows that are hard to copy."""
        litellm_schema.apply(self.sandbox.postgres.url("litellm"))
        litellm_schema.load(self.sandbox.postgres.url("litellm"), spend_logs=SPEND_LOGS)
        langfuse_postgres.apply(self.sandbox.postgres.url("langfuse"))
        key = self.sandbox.keys.encryption_key
        langfuse_postgres.load(self.sandbox.postgres.url("langfuse"), encryption_key=key)
        with self.clickhouse.client() as client:
            langfuse_clickhouse.create(client, CLICKHOUSE_DATABASE)
            langfuse_clickhouse.load(client, CLICKHOUSE_DATABASE, rows=TRACES)
        objects = langfuse_bucket.load_events(self.source, EVENTS)
        objects += langfuse_bucket.load_media(self.source, self.sandbox.postgres.url("langfuse"))
        total = sum(on_postgres.database_bytes(self.admin, name) for name in ("litellm", "langfuse"))
        total += on_clickhouse.database_bytes(self.clickhouse, CLICKHOUSE_DATABASE)
        total += objects
        what = f"{SPEND_LOGS} spend logs, {TRACES} traces, {EVENTS} event objects"
        return Done(f"{what}: {size(total)} in two Postgres databases, ClickHouse and a bucket", total)

    def nightly(self) -> Done:
        """`prefect deployment run backup/nightly --watch`, as a person types it."""
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "deployment", "run", "backup/nightly", "--watch"],
            env=self.sandbox.environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        if done.returncode != 0:
            raise StepFailed(f"the run failed: {done.stdout[-600:]}{done.stderr[-300:]}")
        manifest = self.newest()
        if self.sandbox.artifact(f"catalogue-{manifest.stack}") is None:
            raise StepFailed("the run completed, but there is no catalogue artifact")
        return self.taken(manifest)

    def extra(self) -> Done:
        """A set by hand, of one component only."""
        self.flow("backup/on-demand", {"components": ["postgres/litellm"], "label": "by hand"})
        return self.taken(self.newest())

    def more_writes(self) -> Done:
        """What happens between two nights."""
        litellm_schema.load(self.sandbox.postgres.url("litellm"), spend_logs=SPEND_LOGS // 20, seed=2)
        with self.clickhouse.client() as client:
            langfuse_clickhouse.write_more(client, CLICKHOUSE_DATABASE, share=0.02)
        return Done("5 % more spend logs, 2 % more traces")

    def second_night(self) -> Done:
        """A differential set: ClickHouse stores only what is new."""
        full = self.newest_full()
        self.flow("backup/on-demand", {"label": "second night"})
        manifest = self.newest()
        if manifest.bases != {full.id}:
            raise StepFailed(f"expected a difference to {full.id}, got bases {manifest.bases or 'none'}")
        stored, whole = manifest.clickhouse[0].bytes, full.clickhouse[0].bytes
        done = self.taken(manifest)
        return replace(done, detail=f"{done.detail}; ClickHouse stored {stored / whole:.0%} of the full")

    def drill(self) -> Done:
        """Restore the newest set to scratch and compare everything."""
        self.flow("drill/on-demand", {})
        entry = self.entries()[0]
        if entry.drill is None or not (entry.drill.ok and entry.drill.full):
            raise StepFailed("the newest set is not marked as proven")
        manifest = self.newest()
        tables = sum(len(c.tables) for c in manifest.postgres) + sum(len(c.tables) for c in manifest.clickhouse)
        seconds = f"restored in {entry.drill.recovery_seconds} s, compared in {entry.drill.compare_seconds} s"
        working = entry.drill.recovery_seconds + entry.drill.compare_seconds
        return Done(f"{tables} tables equal to the manifest in counts and content; {seconds}", plain_bytes(manifest), working)

    def disaster(self) -> Done:
        """What a tired person does at 03:00."""
        with psycopg.connect(self.sandbox.postgres.url(), autocommit=True) as connection:
            connection.execute("DROP DATABASE langfuse WITH (FORCE)")
        with self.clickhouse.client() as client:
            client.command(f"TRUNCATE TABLE {CLICKHOUSE_DATABASE}.observations")
        lost = self.differences(self.newest())
        if not lost:
            raise StepFailed("the disaster did not happen: everything still equals the manifest")
        return Done("database langfuse dropped, ClickHouse observations truncated")

    def restore(self) -> Done:
        """Everything back from the newest set, beside the live data first."""
        manifest = self.newest()
        request = {"components": ["postgres/langfuse", "clickhouse"], "replace": True, "confirm": manifest.stack}
        self.flow("restore/on-demand", request)
        left = self.differences(manifest)
        if left:
            raise StepFailed(f"after the restore: {left[0]} ({len(left)} differences)")
        return Done("all three databases equal to the manifest again", plain_bytes(manifest))

    def undo(self) -> Done:
        """Restore LiteLLM's database to the first night, then take that back."""
        before = self.spend_logs()
        first = self.newest_full()
        request = {"set_id": first.id, "components": ["postgres/litellm"], "replace": True, "confirm": first.stack}
        self.flow("restore/on-demand", request)
        restored = self.spend_logs()
        self.flow("restore/on-demand", {"action": "undo", "confirm": first.stack})
        after = self.spend_logs()
        if not (restored < before == after):
            raise StepFailed(f"spend logs: {before} before, {restored} after the restore, {after} after the undo")
        return Done(f"spend logs {before} -> {restored} (first night) -> {after} (undone)")

    def lost_objects(self) -> Done:
        """Lose 50 event objects and overwrite one, then put back what the newest set has."""
        before = self.objects()
        lost = [key for key in before if key.startswith("events/")][:LOST]
        self.source.remove(lost)
        altered = next(key for key in before if key.startswith("media/"))
        self.source.put(altered, b"overwritten")
        self.flow("restore-bucket/on-demand", {"confirm": self.stack.name})
        after = self.objects()
        if after != before:
            wrong = [key for key in before if after.get(key) != before[key]]
            raise StepFailed(f"{len(wrong)} objects are not as they were, such as {wrong[:1]}")
        return Done(f"{LOST} event objects lost, one media object overwritten: all {len(after)} are as they were")

    def copy(self) -> Done:
        """Send the sets to the second store, and prove the newest from there."""
        newest = self.newest()
        self.flow("copy/on-demand", {"sets": [newest.id]})
        copies = list(self.stack.need_copy().list(self.stack.need_copy().root))
        open_ones = [item.key for item in copies if not item.key.endswith(".age")]
        if open_ones:
            raise StepFailed(f"not encrypted in the second store: {open_ones[:3]}")
        self.flow("drill/on-demand", {"source": "copy", "set_id": newest.id})
        total = sum(item.bytes for item in copies)
        return Done(f"{newest.id} and its base in {len(copies)} objects, all encrypted; restored from there and equal", total)

    def prune(self) -> Done:
        """Keep only the newest: its base and what is proven stay, the set by hand goes."""
        entries = self.entries()
        newest, by_hand, full = entries[0], entries[1], entries[2]
        policy = {"keep_last": 1, "keep_daily": 0, "keep_weekly": 0, "keep_monthly": 0, "keep_yearly": 0}
        self.flow("prune/daily", {"policy": policy})
        left = [entry.id for entry in self.entries()]
        if left != [newest.id, full.id]:
            raise StepFailed(f"kept {left}, expected {newest.id} and its base {full.id}, without {by_hand.id}")
        return Done(f"kept the newest ({newest.id}) and its base, deleted {by_hand.id}")

    def incident(self) -> Done:
        """Postgres stops; people hear of one incident, and of its end."""
        engine = self.sandbox.service("postgres")
        if self.sandbox.applications is None:
            raise StepFailed("the sandbox was started without its applications")
        return watch_an_incident(engine.stop, engine.start, self.sweep, self.sandbox.applications.sinks, "postgres")

    # --- helpers -----------------------------------------------------------------------------------------------------

    def flow(self, deployment: str, request: dict[str, object]) -> FlowRunResult:
        """Run a deployment on the worker and insist on its success."""
        result = self.sandbox.run_deployment(deployment, {"request": request})
        if not result.ok:
            raise StepFailed(
                f"{deployment}: {result.state_name}: {result.message}\n{self.sandbox.flow_logs(result.id)[-2000:]}"
            )
        return result

    def sweep(self) -> str:
        """Look at every service once; returns the artifact."""
        self.flow("health/sweep", {})
        return self.sandbox.artifact(f"health-{self.stack.name}") or ""

    def entries(self) -> list[Entry]:
        """Return the sets in the store, newest first."""
        return catalogue.read(self.stack.store, self.stack.keys).entries

    def newest(self) -> Manifest:
        """Return the newest set's manifest."""
        manifest = catalogue.read(self.stack.store, self.stack.keys).need("latest")
        return catalogue.with_definitions(self.stack.store, self.stack.keys, manifest)

    def newest_full(self) -> Manifest:
        """Return the newest set that holds a full ClickHouse backup."""
        manifest = catalogue.read(self.stack.store, self.stack.keys).base_of(CLICKHOUSE_DATABASE)
        if manifest is None:
            raise StepFailed("there is no full ClickHouse backup")
        return manifest

    def taken(self, manifest: Manifest) -> Done:
        """Describe a set that was just taken."""
        plain = plain_bytes(manifest)
        working = sum((c.finished_at - c.started_at).total_seconds() for c in manifest.postgres)
        working += sum((c.finished_at - c.started_at).total_seconds() for c in manifest.clickhouse)
        return Done(f"{manifest.id}: {size(plain)} stored as {size(manifest.stored_bytes)}", plain, working)

    def differences(self, manifest: Manifest) -> list[str]:
        """Compare the live databases with a manifest."""
        found: list[str] = []
        for component in manifest.postgres:
            if on_postgres.database_exists(self.admin, component.name):
                found += [str(d) for d in compare_postgres(self.admin, component, component.name)]
            else:
                found.append(f"postgres {component.name}: the database does not exist")
        for table_set in manifest.clickhouse:
            found += [str(d) for d in on_clickhouse.compare(self.clickhouse, table_set, table_set.name, merged_since=True)]
        return found

    def objects(self) -> dict[str, str]:
        """Return the ETag of every object in Langfuse's bucket by key."""
        return {item.key: item.etag for item in self.source.objects()}

    def spend_logs(self) -> int:
        """Count LiteLLM's spend logs."""
        with psycopg.connect(self.sandbox.postgres.url("litellm")) as connection:
            row = connection.execute('SELECT count(*) FROM "LiteLLM_SpendLogs"').fetchone()
        return int(row[0]) if row else 0


def plain_bytes(manifest: Manifest) -> int:
    """Return how much data a set stands for."""
    return sum(c.object.plain_bytes for c in manifest.postgres) + sum(c.plain_bytes for c in manifest.clickhouse)


def main() -> int:
    """Run the demo; returns the exit status."""
    steps = Steps("A night of the stack", ROOT / "demo-report.json")
    sandbox = Sandbox(applications=True)

    def start() -> Done:
        sandbox.start()
        engines = "Postgres, ClickHouse, Redis, S3, LiteLLM, Langfuse's stand-ins, Prefect server and worker"
        return Done(f"{engines}; Prefect UI {sandbox.prefect_ui_url}")

    try:
        if steps.run("start the sandbox", start):
            demo = Demo(sandbox)
            night: list[tuple[str, Callable[[], Done]]] = [
                ("load data", demo.load),
                ("backup/nightly", demo.nightly),
                ("backup/on-demand, one component", demo.extra),
                ("more writes", demo.more_writes),
                ("second night, differential", demo.second_night),
                ("drill/on-demand", demo.drill),
                ("disaster", demo.disaster),
                ("restore/on-demand", demo.restore),
                ("undo, one database", demo.undo),
                ("restore-bucket/on-demand", demo.lost_objects),
                ("copy/on-demand, drill from the copy", demo.copy),
                ("prune/daily", demo.prune),
                ("health/sweep, an incident", demo.incident),
            ]
            for name, work in night:
                steps.run(name, work)
    finally:
        sandbox.stop()
    # With nothing else on this machine: nine more services are enough.
    with a_railway(STATE / "deploy") as (railway, runtime):
        if steps.run("deploy/on-demand, a new project", lambda: deploy_and_prove(railway)):
            name = "upgrade/litellm, a version that is never healthy"
            steps.run(name, lambda: fail_an_upgrade(railway, runtime, STATE / "deploy"))
    return steps.finish()


if __name__ == "__main__":
    sys.exit(main())
