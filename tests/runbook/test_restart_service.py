"""restart-service, on the sandbox's Railway with containers that are real processes: hang, end, stay sick, come back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from blocks.errors import NotHealed, SettingsError
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.railway import RailwayEnvironment
from blocks.railway_api.models import Deployment, ServiceInstance
from blocks.settings import Settings
from flows.health.targets import Postgres, Railway, Targets
from flows.lease import acquire
from flows.runbook.frame import Action, Diagnosis, RunbookRequest, Verdict
from flows.runbook.restart_service import RestartRequest, ServiceDown, aspects_of, dependents_of, service_of
from flows.runbook.restarting import Await, Known, Waits, decide
from flows.stack import Stack
from shared.engines.process import free_port, wait_until
from shared.sandbox.blocks import railway_block
from shared.sandbox.railway_api import RailwayStandIn
from tests.forks import Forked
from tests.runbook.cases import CANARY, IMPATIENT, Desk
from tests.sandbox.conftest import PATIENT, QUICK
from tests.sandbox.railway_operator import Operator
from tests.sandbox.railway_processes import ProcessContainer, ProcessRuntime

SERVICE = "langfuse-web"
WAITS = Waits(deployment=120, settle=30, poll=0.05)
CHANGES = ("deploymentRestart", "deploymentRedeploy", "serviceInstanceDeployV2")


class Town:
    """A Railway with one service, whose container listens where the checks look."""

    def __init__(self, directory: Path, store: BackupStore, keys: BackupKeys, image: str = "app:1") -> None:
        self.port = free_port()
        self.runtime = ProcessRuntime(directory, {SERVICE: self.port})
        self.railway = RailwayStandIn(directory / "railway", self.runtime, pace=QUICK, behaviour=PATIENT)
        self.store, self.image = store, image
        self.stack = Stack(store.stack, Settings(), store, keys, None, None, None, None)

    def __enter__(self) -> Town:
        self.railway.start()
        self.operator = Operator(self.railway)
        _, service_id = self.operator.service(
            self.image, name=SERVICE, volume=True, variables={"PASSWORD": CANARY}, restartPolicyType="NEVER"
        )
        self.operator.deployed(service_id)
        wait_until(lambda: self.container.probe("/") is not None, timeout=60, what="the service to listen")
        return self

    def __exit__(self, *_: object) -> None:
        self.operator.close()
        self.railway.close()

    @property
    def container(self) -> ProcessContainer:
        """The newest."""
        return self.runtime.of(SERVICE)[-1]

    def block(self) -> RailwayEnvironment:
        return railway_block(self.railway)

    def targets(self, postgres: Postgres | None = None) -> Targets:
        token = SecretStr(self.railway.token("workspace"))
        there = Railway(self.railway.url, "workspace", token, self.railway.project_id, self.railway.environment_id)
        return Targets(timeout=5.0, langfuse_web=f"http://127.0.0.1:{self.port}", railway=there, postgres=postgres)

    def heal(
        self,
        desk: Desk,
        request: RunbookRequest | None = None,
        *,
        targets: Targets | None = None,
        asked: bool = False,
        waits: Waits = WAITS,
    ) -> str:
        with self.block().open() as api:
            runbook = ServiceDown(self.stack, api, targets or self.targets(), SERVICE, asked=asked, waits=waits)
            return desk.heal(runbook, request)

    def changes(self) -> list[str]:
        """What was asked of Railway, in order."""
        return [name for one in self.railway.received() for name in CHANGES if name in one.fields]

    def crash(self) -> None:
        """Let the container end, and Railway notice."""
        self.container.kill()
        wait_until(lambda: not self.railway.running(SERVICE), timeout=20, what="Railway to notice")


@pytest.fixture
def town(tmp_path: Path, store: BackupStore, keys: BackupKeys) -> Iterator[Town]:
    with Town(tmp_path, store, keys) as made:
        yield made


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store)


@pytest.mark.long
def test_a_service_that_hangs_is_restarted_and_everything_about_it_is_written_down(town: Town, desk: Desk) -> None:
    town.container.freeze()
    before = len(town.changes())
    key = f"{town.stack.name}/{SERVICE}/health/20261126T030000Z"
    assert town.heal(desk, RunbookRequest(incident=key, by="the automation", why="critical")) == "healed"
    assert town.changes()[before:] == ["deploymentRestart"]
    assert town.railway.running(SERVICE)
    assert [name.partition(" ")[0] for name in desk.steps] == ["diagnose", "remedy", "confirm"]
    assert desk.asked == []
    assert [entry.kind for entry in desk.trail()] == ["diagnosed", "began", "ended", "closed"]
    assert {(entry.by, entry.why, entry.incident, entry.service) for entry in desk.trail()} == {
        ("the automation", "critical", key, SERVICE)
    }
    assert desk.trail()[-1].result == "healed"
    assert CANARY not in desk.text()
    assert town.heal(desk) == "nothing to do", "run twice"
    assert town.changes()[before:] == ["deploymentRestart"]


def test_a_service_that_hangs_is_given_the_time_that_it_may_drain_before_anything_larger_is_tried(
    town: Town, desk: Desk
) -> None:
    service_id = town.railway.service_id(SERVICE)
    town.operator.update(service_id, drainingSeconds=4)
    town.operator.deployed(service_id)
    wait_until(lambda: town.container.probe("/") is not None, timeout=60, what="the service to listen")
    before = len(town.changes())
    town.container.freeze()
    assert town.heal(desk, waits=Waits(deployment=120, settle=2, poll=0.05)) == "healed"
    assert town.changes()[before:] == ["deploymentRestart"]
    assert not any("failed" in entry.result for entry in desk.trail())


def test_a_service_whose_container_has_ended_gets_a_new_one_of_the_same_deployment(town: Town, desk: Desk) -> None:
    town.crash()
    assert town.heal(desk) == "healed"
    assert town.changes()[1:] == ["deploymentRedeploy"]
    assert town.railway.running(SERVICE)


def test_a_service_that_is_well_is_left_alone_unless_somebody_wants_it_restarted(town: Town, desk: Desk) -> None:
    assert town.heal(desk) == "nothing to do"
    assert town.changes()[1:] == []
    assert town.heal(desk, asked=True) == "healed"
    assert town.changes()[1:] == ["deploymentRestart"]


def test_a_restart_that_does_not_help_is_followed_by_a_larger_one_and_the_last_by_a_person(
    tmp_path: Path, store: BackupStore, keys: BackupKeys, desk: Desk
) -> None:
    desk.pace = IMPATIENT
    with Town(tmp_path, store, keys, image="app:sick") as town:
        with pytest.raises(NotHealed, match=r"a person is needed: Langfuse web does not reach its Postgres.*; tried: restart"):
            town.heal(desk)
        assert town.changes()[1:] == ["deploymentRestart", "deploymentRestart", "deploymentRedeploy"]
        assert [entry.kind for entry in desk.trail()].count("began") == 3
        assert "a person is needed" in desk.trail()[-1].result


def test_a_rung_that_railway_refuses_is_followed_by_the_next_one(town: Town, desk: Desk) -> None:
    town.container.freeze()
    town.railway.refuse("Deployment cannot be restarted", times=2, field="deploymentRestart")
    assert town.heal(desk) == "healed"
    assert town.changes()[-1] == "deploymentRedeploy"
    assert "failed: railway: " in desk.text()


def test_a_redeployment_whose_answer_got_lost_is_not_made_twice(town: Town, desk: Desk) -> None:
    town.crash()
    town.railway.lose_answer(field="deploymentRedeploy")
    assert town.heal(desk) == "healed"
    assert town.changes()[1:] == ["deploymentRedeploy"]


def test_a_dry_run_says_what_it_would_do_and_leaves_no_trace(town: Town, desk: Desk) -> None:
    town.container.freeze()
    before, objects = town.changes(), [item.key for item in town.store.list(town.store.root)]
    assert town.heal(desk, RunbookRequest(dry_run=True)) == "can heal"
    assert (town.changes(), len(town.runtime.containers)) == (before, 1)
    assert [item.key for item in town.store.list(town.store.root)] == objects
    assert any(line.startswith("would restart the containers of langfuse-web") for line in desk.told)


def test_a_service_whose_database_is_down_waits_for_the_database(town: Town, desk: Desk) -> None:
    town.container.freeze()
    nobody = Postgres(SecretStr(f"postgresql://backup:{CANARY}@127.0.0.1:{free_port()}/postgres"))
    with pytest.raises(NotHealed, match=r"needs a person: postgres must be well first.*nothing was changed"):
        town.heal(desk, targets=town.targets(nobody))
    assert town.changes()[1:] == []
    assert CANARY not in desk.text()


def test_while_a_restore_holds_the_stacks_lock_nothing_is_restarted(town: Town, desk: Desk) -> None:
    town.container.freeze()
    lease = acquire(town.store, flow="restore", holder="a test", seconds=60, wait=0)
    try:
        with pytest.raises(NotHealed, match="restore is under way"):
            town.heal(desk)
    finally:
        lease.release()
    assert town.changes()[1:] == []


def test_killed_after_it_has_begun_a_deployment_the_next_run_waits_for_that_one(town: Town, desk: Desk) -> None:
    town.crash()
    with Forked(lambda: town.heal(desk)) as process:
        wait_until(lambda: "deploymentRedeploy" in town.changes() or not process.running, timeout=60, what="the redeployment")
        process.kill()
    assert town.heal(desk) in ("healed", "nothing to do")
    assert town.changes()[1:] == ["deploymentRedeploy"]
    assert town.railway.running(SERVICE)


# --- decisions -----------------------------------------------------------------------------------------------------------

BROKEN = {"wrong": ["it is down"]}


def there(status: str = "SUCCESS") -> ServiceInstance:
    newest = {"id": "d1", "status": status, "createdAt": "2026-11-26T03:00:00Z"}
    return ServiceInstance.model_validate({"id": "i", "serviceId": "s", "serviceName": "litellm", "latestDeployment": newest})


def a_ladder(_there: ServiceInstance, newest: Deployment) -> tuple[Action, ...]:
    return (Await(None, "litellm", "s", lambda: "", WAITS, newest.id),)  # type: ignore[arg-type] - is not climbed


def decided(**known: object) -> Diagnosis:
    return decide(Known(**{"service": "litellm", "wrong": ["it is down"], "there": there(), **known}), a_ladder)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("known", "verdict", "said"),
    [
        ({"wrong": []}, Verdict.NOTHING, "green"),
        ({"wrong": [], "asked": True}, Verdict.HEALS, "somebody wants that"),
        ({}, Verdict.HEALS, "it is down"),
        ({"seen": False}, Verdict.PERSON, "unknown is not down"),
        ({"service": "prefect-worker"}, Verdict.PERSON, "must not end itself"),
        ({"at_work": "upgrade"}, Verdict.PERSON, "wait for its end"),
        ({"at_work": "backup"}, Verdict.HEALS, "it is down"),
        ({"needs_down": ["postgres"]}, Verdict.PERSON, "postgres must be well first"),
        ({"there": None}, Verdict.PERSON, "no service litellm"),
        ({"there": there("NEEDS_APPROVAL")}, Verdict.PERSON, "waits for approval"),
    ],
)
def test_what_is_known_decides(known: dict[str, object], verdict: Verdict, said: str) -> None:
    found = decided(**known)
    assert (found.verdict, said in found.sentence) == (verdict, True), found.sentence


def test_the_service_is_the_one_that_is_named_or_the_incidents() -> None:
    key = "prod/redis/ping/20261126T030000Z"
    assert service_of(RestartRequest(incident=key)) == "redis"
    assert service_of(RestartRequest(incident=key, service="litellm")) == "litellm"
    assert aspects_of(RestartRequest(incident=key), "redis") == ("ping",)
    assert aspects_of(RestartRequest(incident=key), "litellm") == ()
    assert dependents_of("redis", wanted=True) == ["litellm", "langfuse-web", "langfuse-worker"]
    assert dependents_of("redis", wanted=False) == []
    for wrong in (RestartRequest(), RestartRequest(service="mongo"), RestartRequest(incident="nonsense")):
        with pytest.raises(SettingsError, match="expected"):
            service_of(wrong)
