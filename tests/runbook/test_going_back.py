"""restart-service where the newest deployment's image is to blame: what ran before, by its digest, on the sandbox's Railway."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from blocks.clickhouse import ClickHouseServer
from blocks.errors import ApprovalMissing, NotHealed
from blocks.image_name import ImageName
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.railway_api.models import Deployment, ServiceInstance
from blocks.settings import Settings
from flows.health.targets import Railway, Targets
from flows.runbook.bad_image import Suspect, suspect
from flows.runbook.frame import RunbookRequest
from flows.runbook.restart_service import ServiceDown
from flows.runbook.restarting import Waits
from flows.stack import Stack
from shared.engines.clickhouse import ClickHouseEngine
from shared.engines.process import free_port, wait_until
from shared.sandbox.blocks import railway_block
from shared.sandbox.railway_api import RailwayStandIn
from shared.sandbox.railway_runtime.catalogue import Catalogue, Image, digest
from shared.sandbox.railway_runtime.containers import ContainerSpec
from shared.sandbox.registry import RegistryDouble
from tests.runbook.cases import CANARY, IMPATIENT, Desk
from tests.runbook.test_dirty_migration import Warehouse
from tests.sandbox.conftest import PATIENT, QUICK
from tests.sandbox.railway_operator import Operator
from tests.sandbox.railway_processes import ProcessContainer, ProcessRuntime

SERVICE = "langfuse-web"
WAITS = Waits(deployment=120, settle=30, poll=0.05)
CHANGES = ("deploymentRestart", "deploymentRedeploy", "serviceInstanceDeployV2")
GOOD, BAD = "app:1", "app:crashes"
PINNED = f"{GOOD}@{digest(GOOD)}"


class Runtime(ProcessRuntime):
    """Containers of what a catalogue has, by tag and by digest; one that ends at once has no port where another one answers."""

    def __init__(self, directory: Path, ports: dict[str, int], catalogue: Catalogue) -> None:
        super().__init__(directory, ports)
        self._catalogue, self._given = catalogue, ports

    def pull(self, image: str) -> str:
        self._catalogue.find(image)
        return digest(image)

    def start(self, spec: ContainerSpec) -> ProcessContainer:
        ends = spec.image == BAD or spec.start_command is not None
        self._ports = {} if ends else self._given
        return super().start(spec)


class Town:
    """A Railway with one service that runs a good image, and the registries.

    Attributes:
        taken: labels of the backup sets that were asked for.
    """

    def __init__(self, directory: Path, store: BackupStore, keys: BackupKeys, *, volume: bool = False) -> None:
        self.port, self.taken = free_port(), list[str]()
        self.catalogue = Catalogue([Image(("app",), ("1", "2", "crashes"), ("app",))])
        self.runtime = Runtime(directory, {SERVICE: self.port}, self.catalogue)
        self.railway = RailwayStandIn(directory / "railway", self.runtime, pace=QUICK, behaviour=PATIENT)
        self.registry = RegistryDouble(self.catalogue)
        self.registry.start()
        self.railway.start()
        self.stack = Stack(store.stack, Settings(registry_url=self.registry.url), store, keys, None, None, None, None)
        self.operator = Operator(self.railway)
        variables = {"PASSWORD": CANARY, "PORT": str(self.port)}
        health = {"healthcheckPath": "/", "restartPolicyType": "NEVER"}
        _, self.id = self.operator.service(GOOD, name=SERVICE, volume=volume, variables=variables, **health)
        self.first = self.operator.deployed(self.id)

    def close(self) -> None:
        self.operator.close()
        self.railway.close()
        self.registry.stop()

    def fail(self, image: str = BAD) -> None:
        """A person configures an image and deploys it, in vain."""
        self.operator.set_image(self.id, image)
        self.operator.deployed(self.id, "FAILED")
        self.before = len(self.changes())

    def heal(self, desk: Desk, request: RunbookRequest | None = None, aspect: str = "deployment") -> str:
        place = railway_block(self.railway)
        token = SecretStr(self.railway.token("workspace"))
        there = Railway(self.railway.url, "workspace", token, self.railway.project_id, self.railway.environment_id)
        targets = Targets(timeout=5.0, langfuse_web=f"http://127.0.0.1:{self.port}", railway=there)
        with place.open() as api:
            runbook = ServiceDown(self.stack, api, targets, SERVICE, (aspect,), waits=WAITS, secure=self._secure)
            return desk.heal(runbook, request)

    def changes(self) -> list[str]:
        return [name for one in self.railway.received() for name in CHANGES if name in one.fields]

    def done(self) -> list[str]:
        """What was asked of Railway since the bad deployment."""
        return self.changes()[self.before :]

    def image(self) -> str:
        """What is configured."""
        selection = "serviceInstances { edges { node { source { image } } } }"
        return str(self.operator.environment(selection)["serviceInstances"]["edges"][0]["node"]["source"]["image"])

    def containers(self) -> list[ProcessContainer]:
        return self.runtime.running(SERVICE)

    def _secure(self, _: Stack, label: str) -> str:
        self.taken.append(label)
        return "20261126T030000Z-aaaaaa"


@pytest.fixture
def town(tmp_path: Path, store: BackupStore, keys: BackupKeys) -> Iterator[Town]:
    made = Town(tmp_path, store, keys)
    yield made
    made.close()


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store)


def test_an_image_that_does_not_come_up_gives_way_to_what_ran_before_and_what_serves_is_not_restarted(
    town: Town, desk: Desk
) -> None:
    town.fail()
    served = town.containers()
    assert town.heal(desk, RunbookRequest(dry_run=True)) == "can heal"
    assert (town.done(), town.image(), town.taken) == ([], BAD, []), "a dry run"
    assert town.containers() == served
    assert town.heal(desk) == "healed"
    assert town.done() == ["serviceInstanceDeployV2"]
    assert town.image() == PINNED
    assert town.taken == [f"before restart-service {SERVICE}"]
    assert desk.asked == [
        f"{town.stack.name}: {SERVICE}: have a backup set of today, then deploy {SERVICE} as {PINNED} instead of {BAD} "
        "(it deploys another release)"
    ]
    assert f"the image {BAD} did not come up, and {PINNED} ran before it" in desk.text()
    assert CANARY not in desk.text()
    assert town.heal(desk) == "nothing to do", "run twice"
    assert town.done() == ["serviceInstanceDeployV2"]


def test_an_image_whose_tag_is_deleted_is_deployed_by_the_digest_that_its_registry_still_has(town: Town, desk: Desk) -> None:
    town.catalogue.untag(GOOD)
    town.fail(GOOD)
    assert town.heal(desk) == "healed"
    assert (town.done(), town.image()) == (["serviceInstanceDeployV2"], PINNED)
    assert f"the image {GOOD} is not in its registry any more, and ran before as {PINNED}" in desk.text()
    assert len(desk.asked) == 1


def test_where_the_registry_has_nothing_to_go_back_to_a_person_is_needed_and_what_serves_is_left_alone(
    town: Town, desk: Desk
) -> None:
    town.catalogue.withdraw(GOOD)
    town.fail(GOOD)
    served = town.containers()
    with pytest.raises(NotHealed, match=r"needs a person: .*is not in its registry any more.*there is nothing to go back to"):
        town.heal(desk)
    assert (town.done(), town.image(), town.containers()) == ([], GOOD, served)


def test_a_first_image_that_no_registry_has_needs_a_person(tmp_path: Path, store: BackupStore, keys: BackupKeys) -> None:
    newest = deployment("1", "app:9", "FAILED")
    found = suspect(service(newest), lambda: [newest], lambda _: True)
    assert found == Suspect(newest, None, gone=True)
    assert found.sentence == "the image app:9 is not in its registry, and nothing ran before it"
    assert suspect(service(newest), lambda: [newest], lambda _: False) is None, "it may start at the next try"


def test_without_approval_nothing_is_changed(town: Town, desk: Desk) -> None:
    town.fail()
    desk.approves = False
    with pytest.raises(ApprovalMissing):
        town.heal(desk)
    assert (town.done(), town.image(), town.taken) == ([], BAD, [])


def test_with_a_volume_the_service_is_down_with_its_bad_image_and_comes_back_with_the_old_one(
    tmp_path: Path, store: BackupStore, keys: BackupKeys, desk: Desk
) -> None:
    town = Town(tmp_path, store, keys, volume=True)
    try:
        town.fail()
        wait_until(lambda: not town.containers(), timeout=20, what="it to be down")
        assert town.heal(desk, aspect="health") == "healed"
        assert (town.done(), town.image()) == (["serviceInstanceDeployV2"], PINNED)
        assert len(town.containers()) == 1
    finally:
        town.close()


@pytest.mark.long
def test_a_bad_image_that_railway_still_starts_again_and_again_is_waited_for_and_then_gives_way(
    tmp_path: Path, store: BackupStore, keys: BackupKeys, desk: Desk
) -> None:
    town = Town(tmp_path, store, keys, volume=True)
    try:
        town.operator.update(town.id, restartPolicyType="ALWAYS")
        town.operator.set_image(town.id, BAD)
        town.operator.comes_to(town.operator.deploy(town.id), status="DEPLOYING")
        town.before = len(town.changes())
        assert town.heal(desk, aspect="health") == "healed"
        assert (town.done(), town.image(), len(desk.asked)) == (["serviceInstanceDeployV2"], PINNED, 1)
        assert f"the image {BAD} is not up yet, and {PINNED} ran before it" in desk.text()
    finally:
        town.close()


def test_after_the_old_one_was_only_run_again_the_configured_image_is_still_mended(town: Town, desk: Desk) -> None:
    town.fail()
    assert (
        town.operator.settled(town.operator.call("deploymentRedeploy", "{ id }", id=("String!", town.first))["id"]) == "SUCCESS"
    )
    before = len(town.changes())
    assert town.heal(desk) == "healed"
    assert (town.changes()[before:], town.image()) == (["serviceInstanceDeployV2"], PINNED)


def test_a_run_that_died_before_the_deployment_is_gone_on_with(town: Town, desk: Desk) -> None:
    town.fail()
    town.operator.set_image(town.id, PINNED)  # what it had configured by then
    assert town.heal(desk) == "healed"
    assert (town.done(), town.image()) == (["serviceInstanceDeployV2"], PINNED)


def test_where_the_same_image_failed_what_serves_is_run_again_without_being_restarted_first(town: Town, desk: Desk) -> None:
    town.operator.update(town.id, startCommand="exit 1")
    town.fail(GOOD)
    assert town.heal(desk) == "healed"
    assert (town.done(), town.image(), desk.asked) == (["deploymentRedeploy"], GOOD, [])


def test_a_registry_that_does_not_answer_keeps_no_release_and_a_person_is_told_so(town: Town, desk: Desk) -> None:
    desk.pace = IMPATIENT
    town.fail()
    town.registry.disturb("error", times=50)
    with pytest.raises(NotHealed, match=r"nothing to go back to: registry docker\.io: HTTP 503"):
        town.heal(desk)
    assert (town.done(), town.image()) == ([], BAD)


def test_what_ran_before_is_not_deployed_on_a_schema_that_it_does_not_know(
    town: Town, desk: Desk, clickhouse_engine: ClickHouseEngine
) -> None:
    warehouse = Warehouse(clickhouse_engine)
    try:
        login = {"user": clickhouse_engine.user, "password": SecretStr(clickhouse_engine.password)}
        server = ClickHouseServer(
            host=clickhouse_engine.host, port=clickhouse_engine.port, databases=[warehouse.database], **login
        )
        town.stack = replace(town.stack, clickhouse=server)
        town.fail()
        assert town.heal(desk, RunbookRequest(dry_run=True)) == "can heal", "37, which Langfuse before 3.225.4 may know"
        warehouse.mark(38, dirty=False)  # by the image that failed, before it did
        with pytest.raises(NotHealed, match=r"ClickHouse is at migration 38 and app:1@.* knows 37 at most"):
            town.heal(desk)
        assert (town.done(), town.image()) == ([], BAD)
    finally:
        warehouse.run("DROP DATABASE {db} SYNC")


# --- decisions -----------------------------------------------------------------------------------------------------------

THEN = datetime(2026, 11, 26, 3, tzinfo=UTC)
ONE, TWO = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"


def deployment(number: str, image: str, status: str, *, sha: str = "", lived: float = 1, kept: bool = False) -> Deployment:
    begun = THEN + timedelta(hours=int(number))
    said = {"image": image, "imageDigest": sha or None}
    over = {"createdAt": begun, "statusUpdatedAt": begun + timedelta(minutes=lived), "canRollback": kept}
    return Deployment.model_validate({"id": number, "status": status, "canRedeploy": True, "meta": said, **over})


def service(newest: Deployment, image: str | None = None) -> ServiceInstance:
    active = (newest,) if newest.status.active else ()
    found = ServiceInstance(id="i", service_id="s", name="litellm", image=image or newest.image)
    return found.model_copy(update={"latest": newest, "active": active})


RAN = deployment("1", "app:1", "REMOVED", sha=ONE, kept=True)
AGES = 60 * 24 * 20


@pytest.mark.parametrize(
    ("history", "blamed"),
    [
        ([deployment("3", "app:2", "FAILED"), RAN], "1"),
        ([deployment("3", "app:2", "FAILED"), deployment("2", "app:2", "FAILED"), RAN], "1"),
        ([deployment("3", "app:3", "FAILED"), deployment("2", "app:2", "REMOVED"), RAN], "1"),
        ([deployment("3", "app:1", "FAILED", sha=TWO), RAN], "1"),
        ([deployment("3", "app:1", "FAILED", sha=ONE), deployment("1", "app:1", "SUCCESS", sha=ONE)], ""),
        ([deployment("3", "app:2", "DEPLOYING"), RAN], "1"),
        ([deployment("3", "app:1", "DEPLOYING"), deployment("1", "app:1", "SUCCESS", sha=ONE)], ""),
        ([deployment("3", "app:2", "REMOVING"), RAN], ""),
        ([deployment("3", "app:2", "CRASHED"), RAN], "1"),
        ([deployment("3", "app:2", "CRASHED", lived=AGES), RAN], ""),
        ([deployment("3", "app:2", "CRASHED"), deployment("2", "app:2", "REMOVED", kept=True), RAN], "1"),
        ([deployment("3", "app:2", "CRASHED"), deployment("2", "app:2", "REMOVED", lived=AGES, kept=True), RAN], ""),
        ([deployment("3", "app:2", "SUCCESS"), RAN], ""),
    ],
    ids=[
        "another image failed",
        "it failed twice",
        "what was cancelled in between did not run",
        "the tag leads elsewhere by now",
        "the same image fails for another reason",
        "another image is on its way",
        "the same image is on its way",
        "it is taken down",
        "another image crashed soon",
        "it crashed after weeks",
        "run again it crashed again",
        "run again after weeks it crashed",
        "it serves",
    ],
)
def test_an_image_is_to_blame_where_another_one_ran_before_and_it_never_ran_for_long(
    history: list[Deployment], blamed: str
) -> None:
    found = suspect(service(history[0]), lambda: history, lambda _: False)
    assert (found.before.id if found and found.before else "") == blamed


def test_what_is_configured_is_to_blame_where_it_failed_before_something_else_was_deployed() -> None:
    serves = deployment("3", "app:1", "SUCCESS", sha=ONE)
    failed = deployment("2", "app:2", "FAILED")
    assert suspect(service(serves, "app:2"), lambda: [serves, failed], lambda _: False) == Suspect(failed, serves)
    assert suspect(service(serves, "app:3"), lambda: [serves, failed], lambda _: False) is None, "nobody has deployed it yet"


def test_a_deployment_that_serves_as_it_is_configured_makes_nobody_ask() -> None:
    def nobody(_: ImageName | None = None) -> list[Deployment]:
        raise AssertionError("there is no reason to ask")

    assert suspect(service(deployment("3", "app:1", "SUCCESS")), nobody, nobody) is None  # type: ignore[arg-type]
