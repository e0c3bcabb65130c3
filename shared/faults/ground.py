"""The ground of the campaign: a stack of real engines with little data, the store behind proxies, and flows to start.

Between two cases everything is put back: the store to a set of sets taken at the beginning, the live databases to what they
held then.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from blocks.object_store import BackupStore
from flows.catalogue import set_prefix
from flows.lease import lock_key
from flows.stack import Stack
from shared.engines.process import EngineError
from shared.faults.data import LiveData
from shared.faults.flows import FlowProcess, FlowProcesses
from shared.faults.proxy import S3Proxy
from shared.faults.traffic import Traffic
from shared.sandbox.blocks import stack_from
from shared.sandbox.prefect_server import PrefectServer
from shared.sandbox.stack import ROOT, STATE, Sandbox

__all__ = ["LEASE", "Ground", "Stored"]

LEASE = 4
"""Seconds that the stack's lock lives unrenewed: every run after a kill waits for it."""
RUN_TIMEOUT = 240.0
"""A flow that takes longer, whatever happened to it, hangs."""
ASIDE = r"lock\.json|^HEAD /[^/]*$"
"""The lock is renewed by the clock, not by progress: its requests do not measure work."""


@dataclass(frozen=True)
class Stored:
    """An object as it was when it was kept."""

    data: bytes
    etag: str


class Ground:
    """Starts everything and fills the databases; a context manager.

    Args:
        directory: for engines, logs and scratch; emptied first.
    """

    def __init__(self, directory: Path = STATE / "faults") -> None:
        self.sandbox = Sandbox(directory, prefect=False)
        self.traffic = Traffic(ASIDE)
        self.kept: dict[str, Stored] = {}
        self.sets: list[str] = []
        self._ending = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as starting:
            starting.enter_context(self.sandbox)
            server = PrefectServer(self.sandbox.directory / "prefect", STATE / "cache", schedules=False)
            starting.callback(server.stop)
            background = starting.enter_context(ThreadPoolExecutor(2, thread_name_prefix="ground"))
            served = background.submit(server.start)
            self._proxy = starting.enter_context(S3Proxy(self.sandbox.store.port, self.traffic))
            self._copy_proxy = starting.enter_context(S3Proxy(self.sandbox.second_store.port, self.traffic))
            plain = self.sandbox.environment() | server.client_environment() | {"BACKUP_LEASE_SECONDS": str(LEASE)}
            self.stack: Stack = stack_from(plain)
            self.data = LiveData(self.sandbox, self.stack)
            self.environment = plain | {
                "MINIO_ENDPOINT": self._proxy.url,
                "CLICKHOUSE_STORE_ENDPOINT": self._proxy.url,
                "COPY_ENDPOINT": self._copy_proxy.url,
                "BACKUP_LOCK_WAIT_SECONDS": str(3 * LEASE),
            }
            served.result()
            saved = background.submit(self._save_blocks)
            self.flows = starting.enter_context(FlowProcesses(self.environment, self.sandbox.directory / "flow-logs"))
            saved.result()
            self.data.load()
            self._ending = starting.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ending.__exit__(kind, error, trace)

    @property
    def store(self) -> BackupStore:
        """The store, not through the proxy."""
        return self.stack.store

    @property
    def second_store(self) -> BackupStore:
        """The second store, not through the proxy."""
        return self.stack.need_copy()

    @property
    def scratch(self) -> Path:
        """Where drills put their engines."""
        return Path(self.environment["DRILL_DIRECTORY"])

    def prepare(self, sets: int = 4) -> None:
        """Take sets: a full one, a difference to it, another full one, a difference to that."""
        for number in range(sets):
            full = number % 2 == 0
            if number == 1:
                self.data.write()
            self.run("backup", {"full": full, "label": f"number {number}"})
            new = [one for one in self.store.folders(f"{self.store.root}sets/") if one not in self.sets]
            self.sets += sorted(new)
        for item in self.store.list(self.store.root):
            if item.key != lock_key(self.store):
                self.kept[item.key] = Stored(self.store.get(item.key), item.etag)

    def run(self, flow: str, request: Mapping[str, Any]) -> FlowProcess:
        """Run a flow and insist on its success."""
        process = self.flows.start(flow, request)
        if process.wait(RUN_TIMEOUT) != 0:
            process.end()
            raise EngineError(f"{flow} failed undisturbed: {process.error or process.output[-2000:]}")
        return process

    def reset(self, sets: Collection[str]) -> None:
        """Put store and live data back, with these sets only.

        Args:
            sets: ids, of those that `prepare` took.
        """
        self.traffic.begin()
        for engine in (self.sandbox.store, self.sandbox.second_store, self.sandbox.postgres, self.sandbox.clickhouse):
            if not engine.running:
                engine.start()
        for store in (self.store, self.second_store):
            for upload in list(store.uploads(store.root)):
                store.abort(upload)
        self._put_back({key: stored for key, stored in self.kept.items() if self._belongs(key, sets)})
        self.second_store.remove([item.key for item in self.second_store.list(self.second_store.root)])
        self.data.reset()

    def drop_findings(self) -> None:
        """Forget what was found out about sets while they were damaged."""
        found = [item.key for item in self.store.list(self.store.root) if item.key.endswith("/checks.json")]
        self.store.remove(found)

    def _belongs(self, key: str, sets: Collection[str]) -> bool:
        if key.endswith("/checks.json"):
            return False
        below = key.removeprefix(self.store.root)
        return any(below.startswith((f"sets/{one}/", f"packs/{one}-")) for one in sets)

    def _put_back(self, wanted: Mapping[str, Stored]) -> None:
        present = {item.key: item for item in self.store.list(self.store.root)}
        self.store.remove(present.keys() - wanted.keys())
        for key, stored in wanted.items():
            there = present.get(key)
            if there is None or there.etag != stored.etag:
                self.kept[key] = Stored(stored.data, self.store.put(key, stored.data))

    def leave_half_a_set(self) -> str:
        """Leave what a backup leaves that was killed: a folder without manifest, and an upload; returns the set's id."""
        half = "20200101T000000Z-halved"
        key = f"{set_prefix(self.store, half)}postgres/litellm.dump.zst.age"
        self.store.put(key, b"the beginning of a dump")
        self.store.client.create_multipart_upload(Bucket=self.store.name, Key=f"{key}.upload")
        return half

    def _save_blocks(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "blocks"], env=self.environment, cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise EngineError(f"the stack's blocks could not be saved: {done.stderr[-1000:]}")
