"""One town on one Railway, with a store: everything that an upgrade of a service by its image needs, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.railway import PROTECTED, RailwayApi, RailwayEnvironment
from blocks.railway_api.models import ServiceSettings
from blocks.settings import Settings
from flows.deploy.present import DEPLOYED
from flows.stack import Stack
from flows.upgrade.carry_out import upgrade_services
from flows.upgrade.images import with_tag
from flows.upgrade.journal import UpgradeJournal, load_all
from flows.upgrade.look import Eyes
from flows.upgrade.orders import KINDS, Kind, UpgradeRequest
from flows.upgrade.steps import Pace
from shared.engines.process import wait_until
from shared.sandbox.railway_api import RailwayStandIn
from shared.sandbox.railway_api.options import Behaviour
from shared.sandbox.railway_api.options import Pace as PlatformPace
from tests.upgrade.town import Town, TownRuntime

__all__ = ["CANARY", "FIRST", "NEW", "OLD", "PACE", "QUICK", "Place", "Where", "environment_of", "new_image", "stack_of"]

CANARY = "canary-7d19-secret"
PACE = Pace(deployment=60, poll=0.02, settle=0.3, look=0.02, pause=0.05, patience=60)
QUICK = PlatformPace(build=0.0, poll=0.01, health=0.0005, workflow=0.0)

OLD: dict[str, str] = {
    "litellm": "ghcr.io/berriai/litellm:v1.102.4",
    "langfuse-web": "langfuse/langfuse:3.225.4",
    "langfuse-worker": "langfuse/langfuse-worker:3.225.4",
    "clickhouse": "clickhouse/clickhouse-server:25.8.1.1",
    "redis": "redis:8.2.1",
    "postgres": "ghcr.io/railwayapp-templates/postgres-ssl:16",
    "minio": "quay.io/minio/minio:RELEASE.2025-07-23T15-54-02Z",
    "prefect-server": "prefecthq/prefect:3.9.1-python3.12",
    "prefect-worker": "ghcr.io/acme/operations:0.1.0",
}
NEW: dict[Kind, str] = {
    "litellm": "v1.103.0",
    "langfuse": "3.226.0",
    "clickhouse": "26.4.5.143",
    "redis": "8.4.0",
    "minio": "RELEASE.2025-09-07T16-13-09Z",
    "postgres-minor": "16.13",
    "prefect": "3.10.0-python3.12",
}
FIRST = {kind: services[0] for kind, services in KINDS.items()}
SCHEMA = {"litellm": [1, 102, 4], "langfuse": [3, 225, 4]}
_PATHS = {"litellm": "/health/readiness", "langfuse-web": "/api/public/health", "langfuse-worker": "/api/health"}
_VOLUMES = {
    "clickhouse": "/var/lib/clickhouse",
    "redis": "/data",
    "minio": "/data",
    "postgres": "/var/lib/postgresql/data",
    "prefect-server": "/data",
}


@dataclass(frozen=True)
class Where:
    """What another process needs to work on the same place; plain values."""

    railway: dict[str, Any]
    town: Path
    stack: str
    identity: str
    own_service_id: str = ""


class Place:
    """The services of a kind, deployed in their old versions."""

    def __init__(
        self,
        directory: Path,
        store: BackupStore,
        keys: BackupKeys,
        kind: Kind,
        *,
        behaviour: Behaviour | None = None,
        variables: dict[str, dict[str, str]] | None = None,
        also: tuple[str, ...] = (),
    ) -> None:
        self.kind, self.store, self.keys = kind, store, keys
        self.town = Town(directory / "town")
        self.town.fill(SCHEMA.get(kind, [1, 102, 4]), ["first", "second"])
        self.runtime = TownRuntime(self.town)
        self.railway = RailwayStandIn(directory / "railway", self.runtime, pace=QUICK, behaviour=behaviour)
        self.services = (*also, *KINDS[kind])
        self._variables = variables or {}

    def __enter__(self) -> Place:
        self.railway.start()
        self._api = self.environment().open(allow=PROTECTED)
        with self.api() as api:
            for name in self.services:
                service = api.create_service(name)
                given = {"PASSWORD": CANARY, "PORT": "4000", DEPLOYED: f"mark of {name}"}
                given |= {"USE_V2_MIGRATION_RESOLVER": "True"} if name == "litellm" else {}
                api.set_variables(service, given | self._variables.get(name, {}))
                if name in _VOLUMES:
                    api.create_volume(service, _VOLUMES[name])
                settings = {"image": OLD[name]} | ({"healthcheck_path": _PATHS[name]} if name in _PATHS else {})
                api.update_service(service, ServiceSettings.model_validate({**settings, "healthcheck_timeout": 600}))
                api.deploy(service)
        wait_until(lambda: all(self.town.running(name) for name in self.services), timeout=60, what="the services to run")
        wait_until(lambda: all(state == "SUCCESS" for state in self.states().values()), timeout=60, what="the deployments")
        return self

    def __exit__(self, *error: object) -> None:
        self._api.close()
        self.railway.close()

    def environment(self, own_service_id: str = "") -> RailwayEnvironment:
        """The block of it."""
        return environment_of(self.railway, own_service_id)

    @contextmanager
    def api(self) -> Iterator[RailwayApi]:
        """Railway's API, as a person uses it; one for all looks, for to make one takes longer than most of them."""
        yield self._api

    def stack(self, own_service_id: str = "") -> Stack:
        """The stack's systems, as far as an upgrade by image has to do with them."""
        return stack_of(self.store, self.keys, own_service_id)

    def run(self, own_service: str = "", /, **request: Any) -> UpgradeJournal | None:
        """Do what is asked for, in this process."""
        given = {"to": NEW[self.kind], "soak_minutes": 0.0005, "confirm": self.store.stack, **request}
        own = self.railway.service_id(own_service) if own_service else ""
        with self.environment(own).open(allow=PROTECTED) as api:
            return upgrade_services(Eyes(self.stack(own), api, self.town), self.kind, UpgradeRequest(**given), pace=PACE)

    def where(self, own_service: str = "") -> Where:
        """For another process, which may run in one of the services."""
        block = self.environment()
        railway = block.model_dump(include={"project_id", "environment_id", "token_kind", "api_url"})
        return Where(
            railway={**railway, "token": block.token.get_secret_value()},
            town=self.town.directory,
            stack=self.store.stack,
            identity=self.keys.identity.get_secret_value() if self.keys.identity else "",
            own_service_id=self.railway.service_id(own_service) if own_service else "",
        )

    # --- what is there -----------------------------------------------------------------------------------------------

    def images(self) -> dict[str, tuple[str | None, str | None, str]]:
        """Configured, of the latest deployment, and what really runs; by service."""
        with self.api() as api:
            there = api.inventory().services
        return {
            name: (one.image, one.latest.image if one.latest else None, self.town.running(name)) for name, one in there.items()
        }

    def states(self) -> dict[str, str]:
        """The status of each service's latest deployment."""
        with self.api() as api:
            return {name: str(one.latest.status) if one.latest else "" for name, one in api.inventory().services.items()}

    def variables(self, service: str) -> dict[str, str]:
        """As they are configured."""
        with self.api() as api:
            return dict(api.variables(self.railway.service_id(service)))

    def volumes(self) -> dict[str, str]:
        """What the services have on their volumes."""
        names = [name for name in self.services if name in _VOLUMES]
        return {name: (self.railway.volume_directory(name) / "data.json").read_text() for name in names}

    def everything(self) -> dict[str, Any]:
        """All that a way back has to bring back."""
        return {
            "images": self.images(),
            "states": self.states(),
            "variables": {name: self.variables(name) for name in self.services},
            "volumes": self.volumes(),
            "data": self.town.data(),
        }

    def journal(self) -> UpgradeJournal:
        """The newest one."""
        return load_all(self.store)[-1]

    def phase(self) -> str:
        """Where the newest upgrade is, empty where there is none yet."""
        return next((one.phase for one in reversed(load_all(self.store))), "")

    def journal_text(self) -> str:
        """Everything that is kept of all upgrades."""
        prefix = f"{self.store.root}upgrades/"
        return "".join(self.store.get(item.key).decode() for item in self.store.list(prefix))


def new_image(service: str, kind: Kind) -> str:
    """The image that a service is upgraded to; your own worker's stays."""
    return OLD[service] if service == "prefect-worker" else with_tag(OLD[service], NEW[kind])


def environment_of(railway: RailwayStandIn, own_service_id: str = "") -> RailwayEnvironment:
    """The block of a stand-in's environment."""
    return RailwayEnvironment(
        project_id=railway.project_id,
        environment_id=railway.environment_id,
        token=SecretStr(railway.token("workspace")),
        token_kind="workspace",
        api_url=railway.url,
        own_service_id=own_service_id,
    )


class TownStack(Stack):
    """A stack without systems of its own: what is in its databases, the town knows."""

    def clickhouse_databases(self) -> list[str]:
        """As in `Stack`."""
        return ["langfuse"]


def stack_of(store: BackupStore, keys: BackupKeys, own_service_id: str = "") -> Stack:
    """The town's stack."""
    settings = Settings(
        stack_name=store.stack, backup_lease_seconds=3, backup_lock_wait_seconds=60, railway_service_id=own_service_id
    )
    return TownStack(store.stack, settings, store, keys, None, None, None, None)
