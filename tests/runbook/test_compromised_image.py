"""compromised-image on the sandbox's Railway with a registry beside it: what ran before, pinned by its digest."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from blocks.errors import ApprovalMissing, BackupFailed, GuardRefused, NotHealed
from blocks.image_name import ImageName
from blocks.object_store import BackupStore
from blocks.railway_api.models import Deployment, DeploymentStatus, ServiceInstance
from blocks.registry import Registries
from flows.health.targets import Targets
from flows.runbook.compromised_image import Known, Tampered, decide, faults_of
from flows.runbook.frame import RunbookRequest, Verdict
from flows.runbook.going_back import known_good
from flows.runbook.restarting import Waits
from shared.sandbox.blocks import railway_block
from shared.sandbox.railway_api import RailwayStandIn
from shared.sandbox.railway_runtime.catalogue import Catalogue, Image, digest
from shared.sandbox.registry import RegistryDouble
from tests.deploy.quiet_runtime import QuietRuntime
from tests.runbook.cases import CANARY, IMPATIENT, Desk
from tests.sandbox.conftest import PATIENT, QUICK
from tests.sandbox.railway_operator import Operator

REPOSITORY = "ghcr.io/berriai/litellm"
GOOD, BAD, NEWER = f"{REPOSITORY}:v1.106.0", f"{REPOSITORY}:v1.107.0", f"{REPOSITORY}:v1.108.0"
PINNED = f"{GOOD}@{digest(GOOD)}"


class Runtime(QuietRuntime):
    """Containers that run nowhere, of images that have the registry's digests."""

    def pull(self, image: str) -> str:
        return digest(image)


class Town:
    """A Railway whose LiteLLM ran a good release, and then the compromised one.

    Attributes:
        taken: labels of the backup sets that were asked for. fails: taking one fails.
    """

    def __init__(self, directory: Path, image: str = BAD) -> None:
        self.taken: list[str] = []
        self.fails = False
        self.catalogue = Catalogue([Image((REPOSITORY,), ("v1.106.0", "v1.107.0", "v1.108.0"), ("litellm",))])
        self.railway = RailwayStandIn(directory / "railway", Runtime(), pace=QUICK, behaviour=PATIENT)
        self.registry = RegistryDouble(self.catalogue)
        self.railway.start()
        self.registry.start()
        self.operator = Operator(self.railway)
        _, self.id = self.operator.service(GOOD, name="litellm", variables={"OPENAI_API_KEY": CANARY, "PORT": "4000"})
        self.operator.deployed(self.id)
        self.operator.set_image(self.id, image)
        self.operator.deployed(self.id)

    def close(self) -> None:
        self.operator.close()
        self.registry.stop()
        self.railway.close()

    def heal(self, desk: Desk, request: RunbookRequest | None = None, *, image: str = "", at_work: str = "") -> str:
        place = railway_block(self.railway)
        waits = Waits(deployment=120, settle=30, poll=0.05)
        with place.open() as api, Registries(self.registry.url) as registries:
            runbook = Tampered(api, registries, Targets(), lambda: at_work, self._secure, image=image, waits=waits)
            return desk.heal(runbook, request)

    def image(self) -> tuple[str | None, int]:
        """What is configured, and how many deployments there were."""
        selection = "serviceInstances { edges { node { serviceId source { image } } } }"
        found = self.operator.environment(selection)["serviceInstances"]["edges"]
        here = next(one["node"] for one in found if one["node"]["serviceId"] == self.id)
        return here["source"]["image"], len(self.operator.deployments(self.id))

    def _secure(self, label: str) -> str:
        if self.fails:
            raise BackupFailed("backup: no room")
        self.taken.append(label)
        return "20261126T030000Z-aaaaaa"


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path)
    yield made
    made.close()


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store, pace=IMPATIENT)


def test_a_compromised_release_gives_way_to_what_ran_before_pinned_by_digest(town: Town, desk: Desk) -> None:
    assert town.heal(desk, RunbookRequest(dry_run=True)) == "can heal"
    assert (town.image(), town.taken) == ((BAD, 2), []), "a dry run"
    assert town.heal(desk) == "healed"
    assert town.image() == (PINNED, 3)
    assert town.taken == ["before compromised-image litellm"]
    assert len(desk.asked) == 1
    assert "OPENAI_API_KEY" in desk.text(), "what to change afterwards"
    assert CANARY not in desk.text()
    assert town.heal(desk) == "nothing to do"
    assert town.image() == (PINNED, 3), "run twice"


def test_a_person_may_name_another_image_that_the_registry_has_and_nobody_warns_of(town: Town, desk: Desk) -> None:
    with pytest.raises(GuardRefused, match="is a compromised release itself"):
        town.heal(desk, image=BAD)
    with pytest.raises(NotHealed, match=r"v1\.105\.0 is not in its registry any more"):
        town.heal(desk, image=f"{REPOSITORY}:v1.105.0")
    assert town.image() == (BAD, 2)
    assert town.heal(desk, image=NEWER) == "healed"
    assert town.image() == (f"{NEWER}@{digest(NEWER)}", 3)


def test_without_approval_without_a_set_or_while_a_flow_works_nothing_is_changed(town: Town, desk: Desk) -> None:
    with pytest.raises(NotHealed, match="upgrade is under way"):
        town.heal(desk, at_work="upgrade")
    desk.approves = False
    with pytest.raises(ApprovalMissing):
        town.heal(desk)
    desk.approves, town.fails = True, True
    with pytest.raises(NotHealed, match="no room"):
        town.heal(desk)
    assert town.image() == (BAD, 2)


def test_a_run_that_died_before_the_deployment_is_gone_on_with(town: Town, desk: Desk) -> None:
    town.operator.set_image(town.id, PINNED)  # what it had configured by then
    assert town.heal(desk) == "healed"
    assert town.image() == (PINNED, 3)


NOW = datetime(2026, 11, 26, tzinfo=UTC)


def deployment(image: str, sha: str = "", status: DeploymentStatus = DeploymentStatus.REMOVED) -> Deployment:
    return Deployment(id=image, status=status, created_at=NOW, can_redeploy=True, image=image, image_digest=sha or None)


def instance(image: str, running: Deployment) -> ServiceInstance:
    return ServiceInstance(id="1", service_id="2", name="litellm", image=image, latest=running, active=(running,))


SERVES = DeploymentStatus.SUCCESS
ONE, TWO = f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"


@pytest.mark.parametrize(
    ("service", "image", "sha", "said"),
    [
        ("litellm", GOOD, ONE, ""),
        ("litellm", BAD, "", "is a compromised release"),
        ("redis", "redis:1.107.0", "", ""),
        ("redis", f"redis:8.2.3@{ONE}", ONE, ""),
        ("redis", f"redis:8.2.3@{ONE}", TWO, f"runs the digest {TWO}, and is pinned to {ONE}"),
        ("redis", f"redis:8.2.3@{ONE}", "", ""),
    ],
)
def test_what_railway_shows_is_judged_by_tag_and_digest(service: str, image: str, sha: str, said: str) -> None:
    found = faults_of(service, instance(image, deployment(image, sha, SERVES)))
    assert bool(found) is bool(said)
    assert said in "".join(found)


def test_what_ran_before_is_taken_by_its_digest_and_never_what_is_denied() -> None:
    history = [deployment(BAD, TWO), deployment(f"{REPOSITORY}:v1.82.8", TWO), deployment(GOOD, ONE)]
    found = known_good("litellm", history, {BAD})
    assert found == ImageName.parse(f"{GOOD}@{ONE}")
    assert known_good("litellm", history[:2], {BAD}) is None


THERE = instance(BAD, deployment(BAD, TWO, SERVES))


@pytest.mark.parametrize(
    ("known", "verdict", "said"),
    [
        (Known("litellm", [], THERE), Verdict.NOTHING, "nothing is known against"),
        (Known("litellm", ["bad"], THERE, good=PINNED), Verdict.HEALS, "bad"),
        (Known("litellm", ["bad"], THERE, why="name one"), Verdict.PERSON, "name one"),
        (Known("litellm", ["bad"], None, good=PINNED), Verdict.PERSON, "no service litellm"),
        (Known("prefect-server", ["bad"], THERE, good=PINNED), Verdict.PERSON, "must not end itself"),
        (Known("litellm", ["bad"], THERE, good=PINNED, at_work="restore"), Verdict.PERSON, "restore is under way"),
    ],
)
def test_what_is_known_decides(known: Known, verdict: Verdict, said: str) -> None:
    found = decide(known, lambda there, good: ())
    assert (found.verdict, said in found.sentence) == (verdict, True), found.sentence
