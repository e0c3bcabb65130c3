"""A small stack on the sandbox's Railway whose applications keep their data in a real Postgres."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import psycopg

from blocks.errors import SmokeFailed
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.postgres import PostgresServer
from blocks.railway import PROTECTED, RailwayApi, RailwayEnvironment
from blocks.settings import Settings
from flows.lease import Lease
from flows.stack import Stack
from flows.upgrade.look import Eyes
from flows.upgrade.outside import Fault, Outside
from flows.upgrade.postgres.carry import Hands
from flows.upgrade.postgres.orders import PostgresPlan, PostgresRequest
from flows.upgrade.postgres.plan import make_plan
from flows.upgrade.rules import Facts
from flows.upgrade.steps import Pace
from shared.engines.postgres import PostgresEngine
from shared.sandbox.blocks import railway_block
from shared.sandbox.railway_api import RailwayStandIn
from shared.sandbox.railway_api.options import Pace as PlatformPace
from shared.sandbox.railway_runtime.containers import Runtime

CANARY = "canary-c41f"
PACE = Pace(deployment=120, poll=0.02, settle=0.5, look=0.05, pause=0.01, patience=60)
QUICK = PlatformPace(build=0.0, poll=0.01, health=0.1, workflow=0.0)
IMAGES = {
    "litellm": "ghcr.io/berriai/litellm:v1.102.4",
    "langfuse-web": "langfuse/langfuse:3.225.4",
    "langfuse-worker": "langfuse/langfuse-worker:3.225.4",
    "redis": "redis:8.2.1",
}
APP, SMALL = "litellm", "small"


@dataclass
class Beside(Outside):
    """The world beside Railway. sick: services that are not well. smokes: whether a request gets through."""

    sick: set[str] = field(default_factory=set)
    smokes: bool = True

    def faults(self, services: Collection[str]) -> list[Fault]:
        return [Fault(one, "readiness", True, f"{one}: answers 503") for one in sorted(self.sick & set(services))]

    def databases(self) -> Facts:
        return Facts()

    def need_image(self, image: str) -> str:
        return ""

    def newest_proven(self, since: datetime) -> str:
        return "20261126T030000Z-abcdef"

    def take_set(self, label: str, lease: Lease, *, drill: bool) -> str:
        raise AssertionError("there is a proven one")

    def put_back(self, set_id: str, components: Sequence[str], lease: Lease) -> str:
        raise AssertionError("nothing goes back from a set here")

    def smoke(self) -> str:
        if not self.smokes:
            raise SmokeFailed("smoke: 0 of 8 checks passed; litellm answers 500")
        return "8 of 8 checks passed"

    def requests(self, since: datetime) -> tuple[int, int] | None:
        return None


class World:
    """The stack.

    Attributes:
        stack: as flows see it; its admin is the old server. railway: where the applications run. beside: all else.
        said: every line that was told.
    """

    def __init__(
        self, store: BackupStore, keys: BackupKeys, railway: RailwayStandIn, settings: Settings, admin: PostgresServer
    ) -> None:
        self.railway, self.beside = railway, Beside()
        self.said: list[str] = []
        self.stack = Stack("sandbox", settings, store, keys, None, admin, None, None)
        self.environment = environment_of(railway)

    def api(self) -> RailwayApi:
        """The API, as a context manager."""
        return self.environment.open(allow=PROTECTED)

    def service(self, name: str, **variables: str) -> None:
        """Make a service and have it run."""
        with self.api() as api:
            service = api.create_service(name)
            api.set_variables(service, variables)
            api.set_image(service, IMAGES.get(name, "acme/app:1"))
            api.wait_for_deployment(api.deploy(service), timeout=60, poll=0.02)

    def share(self, **variables: str) -> None:
        """Set variables that all services share."""
        with self.api() as api:
            api.set_variables(None, variables)

    def variables(self) -> dict[str, dict[str, str]]:
        """All variables, as they are written."""
        with self.api() as api:
            found = {name: dict(api.variables(one.service_id)) for name, one in api.inventory().services.items()}
            return found | {"shared": dict(api.variables())}

    def value(self, service: str, name: str) -> str:
        """What a deployment of a service gets."""
        with self.api() as api:
            return api.variables(self.railway.service_id(service), rendered=True)[name]

    def plan(self, **request: object) -> PostgresPlan:
        """Look, and plan."""
        wanted = PostgresRequest.model_validate({"soak_minutes": 0, "rehearse": False, **request})
        with self.api() as api:
            return make_plan(Eyes(self.stack, api, self.beside), wanted, documents=False)

    @contextmanager
    def hands(self) -> Iterator[Hands]:
        """What an upgrade is carried out with, the stack's lock held."""
        with self.api() as api, self.stack.exclusive("upgrade") as lease:
            yield Hands(self.stack, api, self.beside, lease, PACE, tell=self.said.append)

    def with_programs(self, folder: Path) -> None:
        """Let the client programs in a folder be found before the real ones."""
        before = self.stack.settings.postgres_bin_dirs
        settings = self.stack.settings.model_copy(update={"postgres_bin_dirs": [str(folder), *before]})
        self.stack = replace(self.stack, settings=settings)

    def journals(self) -> str:
        """Everything that the store keeps of upgrades, as text."""
        store = self.stack.store
        found = [store.get(one.key).decode() for one in store.list(f"{store.root}upgrades/")]
        return "\n".join(found)


def environment_of(railway: RailwayStandIn) -> RailwayEnvironment:
    """The block of it."""
    return railway_block(railway)


def bin_dirs() -> list[str]:
    """Where the client programs are."""
    return [str(PostgresEngine.bin_dir_for(major)) for major in PostgresEngine.available_majors()]


def execute(engine: PostgresEngine, *statements: str, database: str = "postgres") -> None:
    """Run statements as the superuser."""
    with psycopg.connect(engine.url(database), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def databases(engine: PostgresEngine) -> dict[str, bool]:
    """The databases that people use, and whether each takes connections."""
    with psycopg.connect(engine.url("template1")) as connection:
        rows = connection.execute("SELECT datname, datallowconn FROM pg_database WHERE NOT datistemplate").fetchall()
    return {str(name): bool(allowed) for name, allowed in rows if name != "postgres" and "__kept_" not in name}


def stand_in(directory: Path, runtime: Runtime) -> RailwayStandIn:
    """A Railway that is quick."""
    return RailwayStandIn(directory, runtime, pace=QUICK)
