"""What the tests of whole flows do to the stack: run flows in processes, kill things in the middle, look at what is left."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import psycopg
import pyrage
from prefect.flow_runs import resume_flow_run
from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

from blocks.__main__ import documents
from blocks.errors import ObjectMissing
from blocks.settings import Settings
from flows import catalogue
from flows.backup.clickhouse import merges_stopped
from flows.backup.flow import BackupRequest, backup
from flows.backup.manifest import Manifest
from flows.compare.postgres import compare_database as compare_postgres
from flows.copy.flow import CopyRequest, copy
from flows.drill.flow import DrillRequest, drill
from flows.lease import LeaseRecord, lock_key
from flows.prune.flow import PruneRequest, prune
from flows.restore import clickhouse as on_clickhouse
from flows.restore.flow import RestoreRequest, restore
from flows.verify.flow import VerifyRequest, verify
from shared.engines.process import EngineError, wait_until
from shared.faults.flows import FlowProcess, FlowProcesses
from shared.sandbox import langfuse_bucket, langfuse_clickhouse, langfuse_postgres, litellm_schema
from shared.sandbox.blocks import settings_from, stack_from
from shared.sandbox.stack import Sandbox

CLICKHOUSE_DATABASE = "langfuse"
SPEND_LOGS = 60_000
TRACES = 60_000
EVENTS = 300

_CALLS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "backup": lambda request: backup(BackupRequest(**request)),
    "drill": lambda request: drill(DrillRequest(**request)),
    "restore": lambda request: restore(RestoreRequest(**request)),
    "prune": lambda request: prune(PruneRequest(**request)),
    "verify": lambda request: verify(VerifyRequest(**request)),
    "copy": lambda request: copy(CopyRequest(**request)),
}


@dataclass
class Written:
    """What the writers of a test have written so far."""

    rows: int = 0


class Night:
    """The stack of the sandbox, as tests use it."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.environment = sandbox.environment() | {"BACKUP_LEASE_SECONDS": "6", "BACKUP_LOCK_WAIT_SECONDS": "120"}
        self.stack = stack_from(self.environment)
        self.store = self.stack.store
        self.admin = self.stack.need_postgres_admin()
        self.clickhouse = self.stack.need_clickhouse()
        self.source = self.stack.sources[0]
        self.flows = FlowProcesses(self.environment, sandbox.directory / "flow-logs")
        self.processes: list[FlowProcess] = []
        blocks = documents(settings_from(self.environment))
        self._saved = {f"{block.get_block_type_slug()}/{name}": block.model_dump() for name, block in blocks}

    def load(self) -> None:
        """Fill both Postgres databases and ClickHouse."""
        litellm_schema.apply(self.sandbox.postgres.url("litellm"))
        litellm_schema.load(self.sandbox.postgres.url("litellm"), spend_logs=SPEND_LOGS)
        langfuse_postgres.apply(self.sandbox.postgres.url("langfuse"))
        key = self.sandbox.keys.encryption_key
        langfuse_postgres.load(self.sandbox.postgres.url("langfuse"), encryption_key=key)
        with self.clickhouse.client() as client:
            langfuse_clickhouse.create(client, CLICKHOUSE_DATABASE)
            langfuse_clickhouse.load(client, CLICKHOUSE_DATABASE, rows=TRACES)
        langfuse_bucket.load_events(self.source, EVENTS)
        langfuse_bucket.load_media(self.source, self.sandbox.postgres.url("langfuse"))

    def reset(self) -> None:
        """End what a test left, start what it killed, empty the store."""
        for process in self.processes:
            process.end()
        self.processes.clear()
        for engine in (self.sandbox.store, self.sandbox.postgres, self.sandbox.clickhouse):
            if not engine.running:
                engine.start()
        for upload in list(self.store.uploads(self.store.root)):
            self.store.abort(upload)
        self.store.remove([item.key for item in self.store.list(self.store.root)])

    # --- flows -------------------------------------------------------------------------------------------------------

    def start(self, name: str, request: dict[str, Any] | None = None) -> FlowProcess:
        """Start a flow in a process of its own."""
        process = self.flows.start(name, request or {}, environment=self.environment)
        self.processes.append(process)
        return process

    def run(self, name: str, request: dict[str, Any] | None = None) -> FlowProcess:
        """Run a flow and insist on its success."""
        process = self.start(name, request)
        assert process.wait() == 0, process.output[-5000:]
        return process

    def call(self, name: str, **request: Any) -> Any:
        """Run a flow in this process, which saves its start; returns what it returns, and raises what it raises."""
        with self.as_worker():
            return _CALLS[name](request)

    def resume(self, run_id: str, answer: dict[str, str]) -> None:
        """Answer a paused run, as a person does in the Prefect UI."""
        with self.as_worker():
            resume_flow_run(UUID(run_id), run_input=answer)

    @contextlib.contextmanager
    def tampered(self, key: str, data: bytes) -> Iterator[None]:
        """Replace an object of the store during the body."""
        before = self.store.get(key)
        self.store.put(key, data)
        try:
            yield
        finally:
            self.store.put(key, before)

    @contextlib.contextmanager
    def as_worker(self) -> Iterator[None]:
        """Make this process see what a worker sees: the stack's environment and its Prefect server."""
        before = dict(os.environ)
        os.environ.update(self.environment)
        try:
            with temporary_settings({PREFECT_API_URL: self.sandbox.prefect_api_url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
                yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    @contextlib.contextmanager
    def running(self, name: str, request: dict[str, Any] | None = None) -> Iterator[FlowProcess]:
        """Run a flow beside the body, and wait for its end after it."""
        process = self.start(name, request)
        try:
            yield process
            process.wait()
        finally:
            process.end()

    @contextlib.contextmanager
    def other_settings(self, **variables: str) -> Iterator[None]:
        """Give the stack other settings for the body: blocks saved anew before it, and again after it."""
        before = dict(self.environment)
        self.environment.update(variables)
        try:
            self._save_blocks()
            yield
        finally:
            self.environment.clear()
            self.environment.update(before)
            self._save_blocks()

    def _save_blocks(self) -> None:
        """Save the documents that the present settings change; all of them take seconds."""
        with self.as_worker():
            for name, block in documents(Settings.load()):
                slug, values = f"{block.get_block_type_slug()}/{name}", block.model_dump()
                if self._saved.get(slug) != values:
                    block.save(name, overwrite=True, _sync=True)  # type: ignore[call-arg]  # as in blocks/__main__.py
                    self._saved[slug] = values

    @staticmethod
    def new_identity() -> str:
        """A fresh age secret key."""
        return str(pyrage.x25519.Identity.generate())

    @contextlib.contextmanager
    def writers(self) -> Iterator[Written]:
        """Write to both engines during the body, without a pause."""
        written, stop = Written(), threading.Event()
        threads = [
            threading.Thread(target=self._write_postgres, args=(written, stop), name="writer-postgres"),
            threading.Thread(target=self._write_clickhouse, args=(written, stop), name="writer-clickhouse"),
        ]
        for thread in threads:
            thread.start()
        try:
            yield written
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _write_postgres(self, written: Written, stop: threading.Event) -> None:
        seed = 1000
        while not stop.is_set():
            seed += 1
            litellm_schema.load(self.sandbox.postgres.url("litellm"), spend_logs=50, seed=seed)
            written.rows += 50

    def _write_clickhouse(self, written: Written, stop: threading.Event) -> None:
        seed = 1000
        with self.clickhouse.client() as client:
            while not stop.is_set():
                seed += 1
                langfuse_clickhouse.write_more(client, CLICKHOUSE_DATABASE, share=0.001, seed=seed)
                written.rows += 1

    # --- what is there -----------------------------------------------------------------------------------------------

    def entries(self) -> list[catalogue.Entry]:
        """The committed sets with what was found out about them, newest first."""
        return catalogue.read(self.store, self.stack.keys).entries

    def sets(self) -> list[str]:
        """Ids of the committed sets, newest first."""
        return [entry.id for entry in self.entries()]

    def newest(self) -> Manifest:
        """The newest set."""
        manifest = catalogue.read(self.store, self.stack.keys).need("latest")
        return catalogue.with_definitions(self.store, self.stack.keys, manifest)

    def manifest(self, set_id: str) -> Manifest:
        """The manifest of one set."""
        manifest = catalogue.load_manifest(self.store, self.stack.keys, set_id)
        return catalogue.with_definitions(self.store, self.stack.keys, manifest)

    def lease_holder(self) -> str:
        """Which flow holds the stack's lock, empty when none does."""
        try:
            record = LeaseRecord.model_validate_json(self.store.get(lock_key(self.store)))
        except ObjectMissing:
            return ""
        return "" if record.released else record.flow

    def kill_child(self, flow: FlowProcess, name: str, condition: Callable[[], bool], what: str) -> None:
        """SIGKILL the flow's child processes of a name while a condition holds.

        They go on by small steps and stand still while it is looked at, so none can end between the look and the kill.
        """

        def step() -> bool:
            found = [child for child in psutil.Process(flow.pid).children(recursive=True) if name in child.name()]
            for child in found:
                child.suspend()
            with contextlib.suppress(EngineError):
                wait_until(lambda: bool(found) and condition(), timeout=0.3, what=what)
                for child in found:
                    child.kill()
                return True
            for child in found:
                child.resume()
            return False

        wait_until(step, timeout=120, what=f"{name} while {what}", pause=0.02)

    def scratch(self) -> list[str]:
        """What drills have left in their folder."""
        folder = Path(self.environment["DRILL_DIRECTORY"])
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def halves(self) -> list[str]:
        """Folders of sets that were never committed."""
        return catalogue.read(self.store, self.stack.keys).halves

    def uploading(self, suffix: str) -> bool:
        """Whether a multipart upload of a key with this ending is under way."""
        return any(upload.key.endswith(suffix) for upload in self.store.uploads(self.store.root))

    def objects(self) -> list[str]:
        """Every key in the stack's part of the store."""
        return [item.key for item in self.store.list(self.store.root)]

    def bucket(self) -> dict[str, str]:
        """The ETag of every object in Langfuse's bucket by key."""
        return {item.key: item.etag for item in self.source.objects()}

    def databases(self) -> list[str]:
        """Names of the Postgres databases."""
        with psycopg.connect(self.sandbox.postgres.url()) as connection:
            return [str(row[0]) for row in connection.execute("SELECT datname FROM pg_database ORDER BY 1")]

    def execute(self, *statements: str) -> None:
        """Run statements on the Postgres server, each by itself."""
        with psycopg.connect(self.sandbox.postgres.url(), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def clickhouse_databases(self) -> list[str]:
        """Names of the ClickHouse databases."""
        return self.clickhouse_query("SELECT name FROM system.databases ORDER BY name")

    def clickhouse_query(self, query: str) -> list[str]:
        """The first column of a query, as text."""
        with self.clickhouse.client() as client:
            return [str(row[0]) for row in client.rows(query)]

    def clickhouse_command(self, statement: str) -> None:
        """Run a statement on ClickHouse."""
        with self.clickhouse.client() as client:
            client.command(statement)

    def merges_stopped(self) -> list[str]:
        """Tables whose merges are stopped."""
        return merges_stopped(self.clickhouse, [CLICKHOUSE_DATABASE])

    def differences(self, manifest: Manifest) -> list[str]:
        """The live databases against a manifest."""
        found: list[str] = []
        for component in manifest.postgres:
            found += [str(item) for item in compare_postgres(self.admin, component, component.name)]
        for table_set in manifest.clickhouse:
            differing = on_clickhouse.compare(self.clickhouse, table_set, table_set.name, merged_since=True)
            found += [str(item) for item in differing]
        return found
