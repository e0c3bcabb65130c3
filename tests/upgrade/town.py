"""A small town for upgrades: the sandbox's Railway, containers that do what versions do to their data, and who looks at them.

Everything but the API lies in files, so that a process that is killed leaves it as it was, and another one sees it. Containers
run nowhere: an image migrates the data that it is started on, refuses what a newer one wrote, or is never well, as it is told.
"""

from __future__ import annotations

import json
import secrets
import shutil
import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from blocks.errors import GuardRefused, RestoreFailed, SmokeFailed
from flows.lease import Lease
from flows.upgrade.outside import Fault, Outside
from flows.upgrade.rules import ClickHouseSchema, Facts, PrismaSchema, Version
from shared.sandbox.railway_runtime.containers import ContainerSpec, ContainerState, ImageMissing, LogLine

__all__ = ["Town", "TownContainer", "TownRuntime"]

DATABASES = ("postgres/litellm", "postgres/langfuse", "clickhouse/langfuse")
_OF = {"litellm": ("postgres/litellm",), "langfuse-web": ("postgres/langfuse", "clickhouse/langfuse")}


class Town(Outside):
    """What there is, in a folder. directory: of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._changing = threading.Lock()  # what runs: one container begins while another of the service ends
        for name in ("data", "sets", "running", "told"):
            (directory / name).mkdir(parents=True, exist_ok=True)

    # --- what a test does ------------------------------------------------------------------------------------------------

    def tell(self, what: str, *names: str) -> None:
        """Let images be `broken` (never well), `gone` (in no registry), `mute` (no request gets through)."""
        (self.directory / "told" / what).write_text(json.dumps(names))

    def told(self, what: str) -> list[str]:
        """What was told."""
        path = self.directory / "told" / what
        found: list[str] = json.loads(path.read_text()) if path.exists() else []
        return found

    def fill(self, schema: Sequence[int], rows: Sequence[str]) -> None:
        """Put rows into every database. schema: as its version's numbers."""
        for name in DATABASES:
            self.write(name, {"schema": list(schema), "rows": list(rows), "columns": ["a"]})

    def read(self, database: str) -> dict[str, list[Any]]:
        """A database."""
        found: dict[str, list[Any]] = json.loads(self._data(database).read_text())
        return found

    def write(self, database: str, content: Mapping[str, Sequence[Any]]) -> None:
        """Put a database there, in one go."""
        self._replace(self._data(database), json.dumps(content))

    def data(self) -> dict[str, str]:
        """All databases."""
        return {path.name: path.read_text() for path in sorted((self.directory / "data").glob("*.json"))}

    def running(self, service: str) -> str:
        """The image of a service that runs, empty where none does."""
        return self._runs(service)[0]

    def began(self, service: str, image: str, container: int) -> None:
        """A container of a service runs from now on, and none else of it."""
        with self._changing:
            self._replace(self.directory / "running" / service, f"{image}\n{container}")

    def ended(self, service: str, container: int) -> None:
        """A container does not run any more; the next one of the service may already."""
        with self._changing:
            if self._runs(service)[1] == str(container):
                (self.directory / "running" / service).unlink()

    def _runs(self, service: str) -> tuple[str, str]:
        try:
            image, _, container = (self.directory / "running" / service).read_text().partition("\n")
        except FileNotFoundError:
            return "", ""
        return image, container

    def _replace(self, path: Path, text: str) -> None:
        whole = path.with_name(f"{path.name}.new")
        whole.write_text(text)
        whole.replace(path)

    def _data(self, database: str) -> Path:
        return self.directory / "data" / f"{database.replace('/', '-')}.json"

    # --- what an upgrade asks --------------------------------------------------------------------------------------------

    def faults(self, services: Collection[str]) -> list[Fault]:
        """As in `Outside`."""
        found = []
        for name in services:
            image = self.running(name)
            if image in self.told("broken"):
                found.append(Fault(name, "answers", True, f"{name} answers 503, expected 200"))
        return found

    def databases(self) -> Facts:
        """As in `Outside`: the schema's numbers stand for migrations."""
        litellm, langfuse, clickhouse = (self.read(name)["schema"] for name in DATABASES)
        return Facts(
            foreign_tables=(),
            litellm_schema=PrismaSchema(applied=int(str(litellm[1])), newest=str(litellm)),
            langfuse_schema=PrismaSchema(applied=int(str(langfuse[1])), newest=str(langfuse)),
            clickhouse_schema=ClickHouseSchema(version=int(str(clickhouse[1]))),
        )

    def need_image(self, image: str) -> str:
        """As in `Outside`."""
        if image in self.told("gone"):
            raise GuardRefused(f"upgrade: nothing was changed: {image} is not there, its registry has no such tag")
        return ""

    def newest_proven(self, since: datetime) -> str:
        """As in `Outside`."""
        return "20261123T030000Z-proven" if "set" in self.told("proven") else ""

    def take_set(self, label: str, lease: Lease, *, drill: bool) -> str:
        """As in `Outside`."""
        lease.check()
        set_id = f"20261126T030000Z-{secrets.token_hex(3)}"
        shutil.copytree(self.directory / "data", self.directory / "sets" / set_id)
        return set_id

    def put_back(self, set_id: str, components: Sequence[str], lease: Lease) -> str:
        """As in `Outside`: whoever writes meanwhile would write into what is swapped away."""
        lease.check()
        for component in components:
            for service, databases in _OF.items():
                if component in databases and self.running(service):
                    raise RestoreFailed(f"{component}: {service} still runs and writes to it")
            kept = json.loads((self.directory / "sets" / set_id / self._data(component).name).read_text())
            self.write(component, kept)
        return f"restore of {set_id}"

    def smoke(self) -> str:
        """As in `Outside`."""
        for service in ("litellm", "langfuse-web"):
            if self.running(service) in self.told("mute"):
                raise SmokeFailed(f"{service}: a completion is answered 500")
        return "3 of 3 checks ok"

    def requests(self, since: datetime) -> tuple[int, int] | None:
        """As in `Outside`: a version that is told so fails half of them."""
        return (200, 100) if self.running("litellm") in self.told("failing") else (200, 2)


@dataclass
class TownContainer:
    """One container."""

    spec: ContainerSpec
    town: Town
    state: ContainerState
    lines: Sequence[str] = ("up",)

    def logs(self, limit: int) -> Sequence[LogLine]:
        return [LogLine(datetime.now().astimezone(), line) for line in list(self.lines)[-limit:]]

    def probe(self, path: str) -> int | None:
        return 503 if self.spec.image in self.town.told("broken") else 200

    def stop(self, grace: float) -> None:
        if self.state is ContainerState.RUNNING:
            self.town.ended(self.spec.service, id(self))
        self.state = ContainerState.EXITED


@dataclass
class TownRuntime:
    """Where the containers of the town run."""

    town: Town
    started: list[ContainerSpec] = field(default_factory=list)

    def pull(self, image: str) -> str:
        if image in self.town.told("gone"):
            raise ImageMissing(image)
        return "sha256:" + "0" * 64

    def start(self, spec: ContainerSpec) -> TownContainer:
        self.started.append(spec)
        lines = _refusal(self.town, spec)
        if lines:
            return TownContainer(spec, self.town, ContainerState.CRASHED, lines)
        container = TownContainer(spec, self.town, ContainerState.RUNNING)
        self.town.began(spec.service, spec.image, id(container))
        return container

    def public_address(self, service: str, port: int) -> str:
        return f"127.0.0.1:{10000 + port}"

    def close(self) -> None:
        """Nothing runs."""


def _refusal(town: Town, spec: ContainerSpec) -> list[str]:
    """Do to the data what a version does when it starts on it; returns what it says where it does not start."""
    mine = list(Version.of(spec.image).numbers)
    if spec.mount is not None:
        path = spec.mount.directory / "data.json"
        written = mine[:1] if spec.service == "postgres" else mine[:2]  # its minor versions share one format
        kept: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"format": written, "rows": ["first"]}
        if kept["format"] > written:
            return [f"cannot read the format of {kept['format']}"]
        kept["format"] = written
        path.write_text(json.dumps(kept))
    for database in _OF.get(spec.service, ()):
        there = town.read(database)
        if there["schema"] < mine:
            town.write(database, {**there, "schema": mine, "columns": ["a", "b"]})
        elif there["schema"] > mine and spec.service == "langfuse-web" and database.startswith("clickhouse"):
            return [f"no migration found for version {there['schema']}"]
        elif there["schema"] > mine and not spec.variables.get("USE_V2_MIGRATION_RESOLVER") and spec.service == "litellm":
            town.write(database, {"schema": mine, "columns": ["a"], "rows": []})  # what the older way of migrating may do
    return []
