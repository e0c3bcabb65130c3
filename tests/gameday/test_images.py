"""The causes about images on the sandbox's Railway: what they break is broken, what is left is said, and they take it back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from blocks.railway_api.models import DeploymentStatus, ServiceInstance
from shared.engines.clickhouse import ClickHouseEngine
from shared.gameday.causes.images import BadImage, ImageOlder, TagDeleted
from shared.gameday.ground import Ground
from shared.sandbox.blocks import railway_block
from shared.sandbox.langfuse_double.migrations import newest_migration
from shared.sandbox.railway_api import RailwayStandIn
from shared.sandbox.railway_runtime.catalogue import Catalogue, digest, version
from shared.sandbox.railway_runtime.containers import ContainerSpec, ContainerState
from shared.sandbox.railway_runtime.registry import IMAGES
from shared.sandbox.registry import RegistryDouble
from tests.deploy.quiet_runtime import QuietContainer, QuietRuntime
from tests.runbook.test_dirty_migration import Warehouse
from tests.sandbox.conftest import PATIENT, QUICK
from tests.sandbox.railway_operator import Operator

LITELLM, WEB = "ghcr.io/berriai/litellm:v1.102.4", "langfuse/langfuse:3.225.4"
HEALTH_S = 900


@dataclass
class Runtime(QuietRuntime):
    """Containers that end where their programs would: by the catalogue, and by the schema."""

    catalogue: Catalogue = field(default_factory=lambda: Catalogue(IMAGES))
    schema: Warehouse | None = None

    def pull(self, image: str) -> str:
        self.catalogue.find(image)
        return digest(image)

    def start(self, spec: ContainerSpec) -> QuietContainer:
        container = super().start(spec)
        program = self.catalogue.find(spec.image).programs.get("litellm", "litellm")
        if program != "litellm" or not self._migrates(spec):
            container.state, container.healthy = ContainerState.CRASHED, False
        return container

    def containers(self, service: str) -> list[QuietContainer]:
        with self.lock:
            return [one for one in self.started if one.spec.service == service and one.state is ContainerState.RUNNING]

    def _migrates(self, spec: ContainerSpec) -> bool:
        """Migrate as Langfuse's web does; return whether it could."""
        if spec.service != "langfuse-web" or self.schema is None:
            return True
        there, known = int(self.schema.ledger()[-1].split("\t")[0]), newest_migration(version(spec.image))
        if there < known:
            self.schema.mark(known, dirty=False)
        return there <= known


class Place(Ground):
    """Two services of the stack, and nothing that watches them."""

    def __init__(self, directory: Path, warehouse: Warehouse) -> None:
        self._warehouse, quiet = warehouse, Runtime(schema=warehouse)
        self.runtime: Any = quiet
        self.railway = RailwayStandIn(directory / "railway", quiet, pace=QUICK, behaviour=PATIENT)
        self.railway.start()
        self.registry = RegistryDouble(quiet.catalogue)
        self.registry.start()
        self.operator = Operator(self.railway)
        for name, image in (("litellm", LITELLM), ("langfuse-web", WEB)):
            health = {"healthcheckPath": "/", "healthcheckTimeout": HEALTH_S, "restartPolicyType": "ALWAYS"}
            _, service_id = self.operator.service(image, name=name, **health)
            self.operator.deployed(service_id)
        place = railway_block(self.railway)
        self.api = place.open()

    def close(self) -> None:
        self.api.close()
        self.operator.close()
        self.registry.stop()
        self.railway.close()

    def clickhouse(self, sql: str) -> str:
        return self._warehouse.run(sql.replace("schema_migrations", "{db}.schema_migrations"))

    def there(self, service: str) -> ServiceInstance:
        return self.api.inventory().services[service]

    def is_as_in_the_beginning(self, service: str, image: str) -> bool:
        there = self.there(service)
        assert there.latest is not None
        return (there.image, there.latest.image, there.latest.status) == (image, image, DeploymentStatus.SUCCESS)


@pytest.fixture
def place(tmp_path: Path, clickhouse_engine: ClickHouseEngine) -> Iterator[Place]:
    warehouse = Warehouse(clickhouse_engine)
    made = Place(tmp_path, warehouse)
    yield made
    made.close()
    warehouse.run("DROP DATABASE {db} SYNC")


def failed(place: Place, service: str) -> tuple[str, str | None]:
    """What failed and what serves, as Railway has it."""
    there = place.there(service)
    assert there.latest is not None
    assert there.latest.status is DeploymentStatus.FAILED
    assert there.healthcheck_timeout == HEALTH_S, "it is only shortened for the deployment that is to fail"
    return there.latest.image or "", next((one.image for one in there.active if not one.stopped), None)


def test_a_release_whose_program_ends_at_once_fails_while_the_old_one_serves(place: Place) -> None:
    cause = BadImage(place)
    cause.undo()
    cause.cause()
    bad, serves = failed(place, "litellm")
    assert (cause.left(), serves) == (f"{bad} is configured", LITELLM)
    cause.undo()
    assert (cause.left(), place.is_as_in_the_beginning("litellm", LITELLM)) == ("", True)


def test_a_deleted_tag_fails_and_its_digest_is_still_there(place: Place) -> None:
    pinned = f"{LITELLM}@{digest(LITELLM)}"
    place.api.set_image(place.railway.service_id("litellm"), pinned)  # as an earlier cause's remedy leaves it
    place.deploy("litellm")
    cause = TagDeleted(place)
    cause.undo()
    cause.cause()
    assert failed(place, "litellm") == (LITELLM, LITELLM)
    assert cause.left() == f"{LITELLM} is configured, which no registry has"
    place.api.set_image(place.railway.service_id("litellm"), pinned)  # what the runbook does
    place.deploy("litellm")
    assert cause.left() == ""
    cause.undo()
    cause.undo()
    assert (cause.left(), place.is_as_in_the_beginning("litellm", LITELLM)) == ("", True)


def test_a_release_that_is_older_than_the_schema_fails_while_the_one_that_migrated_serves(place: Place) -> None:
    cause = ImageOlder(place)
    cause.undo()
    cause.cause()
    old, newer = failed(place, "langfuse-web")
    assert (old, newer, cause.left()) == (
        WEB,
        "langfuse/langfuse:3.230.0",
        f"{WEB} knows migration 37, and ClickHouse is at 38",
    )
    place.api.set_image(place.railway.service_id("langfuse-web"), newer)  # what the runbook does
    place.deploy("langfuse-web")
    assert cause.left() == ""
    cause.undo()
    cause.undo()
    assert (cause.left(), place.is_as_in_the_beginning("langfuse-web", WEB)) == ("", True)
