"""rotate-secret: a real Postgres and a real Redis behind the sandbox's Railway, whose containers are small programs."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo
from pydantic import SecretStr
from redis import Redis
from redis.exceptions import AuthenticationError

from blocks.errors import ApprovalMissing, NotHealed
from blocks.object_store import BackupStore
from blocks.postgres import PostgresServer
from blocks.redis import RedisServer
from flows.health.targets import Targets
from flows.runbook.doors import Door, Open, PostgresDoor, RedisDoor
from flows.runbook.frame import RunbookRequest, Verdict
from flows.runbook.restarting import Waits
from flows.runbook.rotate_secret import Known, Rotating, decide
from flows.runbook.rotation import AFTER, BEFORE, IMMUTABLE, ROTATIONS, How, refusal, users_of
from railway.stack import Reference, SecretKind
from shared.engines.postgres import PostgresEngine
from shared.engines.process import free_port
from shared.engines.redis import RedisEngine
from shared.sandbox.blocks import railway_block
from shared.sandbox.railway_api import RailwayStandIn
from tests.railway.stacks import shipped
from tests.runbook.cases import CANARY, IMPATIENT, Desk
from tests.sandbox.conftest import PATIENT, QUICK
from tests.sandbox.railway_operator import Operator
from tests.sandbox.railway_processes import ProcessRuntime

OLD, NEW = f"{CANARY}old", f"{CANARY}new"
DATABASE_URL = "postgresql://litellm:${{postgres.LITELLM_DB_PASSWORD}}@postgres/litellm"
VARIABLES: Mapping[str, Mapping[str, str]] = {
    "postgres": {"LITELLM_DB_PASSWORD": OLD},
    "redis": {"REDIS_PASSWORD": OLD},
    "litellm": {
        "DATABASE_URL": DATABASE_URL,
        "LITELLM_MASTER_KEY": f"sk-{OLD}",
        "LITELLM_SALT_KEY": "sk-salt",
        "REDIS_PASSWORD": "${{redis.REDIS_PASSWORD}}",
    },
    "langfuse-web": {"REDIS_CONNECTION_STRING": "redis://:${{redis.REDIS_PASSWORD}}@redis:6379"},
    "prefect-worker": {"LITELLM_MASTER_KEY": "${{litellm.LITELLM_MASTER_KEY}}"},
}


class Town:
    """A Railway with services that refer to each other's secrets; langfuse-web listens where the checks look."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.runtime = ProcessRuntime(directory, {"langfuse-web": self.port})
        self.railway = RailwayStandIn(directory / "railway", self.runtime, pace=QUICK, behaviour=PATIENT)
        self.railway.start()
        self.operator = Operator(self.railway)
        self.ids = {}
        for name, variables in VARIABLES.items():
            _, self.ids[name] = self.operator.service("app:1", name=name, variables=variables)
            self.operator.deployed(self.ids[name])

    def close(self) -> None:
        self.operator.close()
        self.railway.close()

    def heal(
        self,
        desk: Desk,
        secret: str,
        door: Door,
        request: RunbookRequest | None = None,
        *,
        make: Callable[[], str] = lambda: NEW,
        at_work: str = "",
    ) -> str:
        place = railway_block(self.railway)
        targets = Targets(timeout=20, langfuse_web=f"http://127.0.0.1:{self.port}")
        waits = Waits(deployment=120, settle=30, poll=0.05)
        with place.open(allow=["prefect-worker"]) as api:
            rotation = ROTATIONS[secret]
            runbook = Rotating(api, rotation, door, targets, lambda: at_work, lambda: SecretStr(make()), waits)
            return desk.heal(runbook, request)

    def value(self, secret: str) -> tuple[str | None, str | None]:
        """A secret, and what stands beside it."""
        service, _, variable = secret.partition("/")
        found = self.operator.variables(self.ids[service], unrendered=True)
        return found.get(variable), found.get(variable + BEFORE)

    def deployments(self) -> dict[str, int]:
        """How often each service was deployed since."""
        return {name: count for name, one in self.ids.items() if (count := len(self.operator.deployments(one)) - 1)}


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    made = Town(tmp_path)
    yield made
    made.close()


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store, pace=IMPATIENT)


class Role:
    """A role of Postgres with the old password, and a door to it."""

    def __init__(self, engine: PostgresEngine) -> None:
        self.engine, self.name = engine, f"rotated_{secrets.token_hex(4)}"
        with psycopg.connect(engine.url(), autocommit=True) as admin:
            admin.execute(f"CREATE ROLE {self.name} LOGIN PASSWORD '{OLD}'".encode())
        self.door = PostgresDoor(PostgresServer(url=SecretStr(engine.url())), self.name)

    def opens(self, password: str) -> bool:
        try:
            psycopg.connect(make_conninfo(self.engine.url(), user=self.name, password=password)).close()
        except psycopg.OperationalError:
            return False
        return True


@pytest.fixture
def role(postgres_engine: PostgresEngine) -> Iterator[Role]:
    made = Role(postgres_engine)
    yield made
    with psycopg.connect(postgres_engine.url(), autocommit=True) as admin:
        admin.execute(f"DROP ROLE {made.name}".encode())


SECRET = "postgres/LITELLM_DB_PASSWORD"


def test_a_role_gets_another_password_and_those_that_use_it_are_deployed(town: Town, desk: Desk, role: Role) -> None:
    assert town.heal(desk, SECRET, role.door, RunbookRequest(dry_run=True)) == "can heal"
    assert (town.value(SECRET), town.deployments(), role.opens(OLD)) == ((OLD, None), {}, True), "a dry run"
    assert town.heal(desk, SECRET, role.door) == "healed"
    assert town.value(SECRET) == (NEW, "")
    assert town.deployments() == {"litellm": 1}
    assert (role.opens(NEW), role.opens(OLD)) == (True, False)
    assert town.operator.variables(town.ids["litellm"], unrendered=True)["DATABASE_URL"] == DATABASE_URL
    assert len(desk.asked) == 1
    assert CANARY not in desk.text()


def test_without_approval_or_while_another_flow_works_nothing_is_changed(town: Town, desk: Desk, role: Role) -> None:
    with pytest.raises(NotHealed, match="backup is under way"):
        town.heal(desk, SECRET, role.door, at_work="backup")
    desk.approves = False
    with pytest.raises(ApprovalMissing):
        town.heal(desk, SECRET, role.door)
    assert (town.value(SECRET), town.deployments(), role.opens(OLD)) == ((OLD, None), {}, True)


def test_where_a_service_does_not_come_up_everything_is_as_before(town: Town, desk: Desk, role: Role) -> None:
    town.railway.refuse("no room", field="serviceInstanceDeployV2")
    with pytest.raises(NotHealed, match="changed back, nothing is different from before"):
        town.heal(desk, SECRET, role.door)
    assert town.value(SECRET) == (OLD, "")
    assert (role.opens(OLD), role.opens(NEW)) == (True, False)
    assert CANARY not in desk.text()


def test_a_run_that_died_is_gone_on_with_by_the_next_one(town: Town, desk: Desk, role: Role) -> None:
    class Died(Exception):
        pass

    class Deadly(Open):
        def take(self, new: SecretStr, old: SecretStr) -> str:
            role.door.take(new, old)
            raise Died

    with pytest.raises(Died):
        town.heal(desk, SECRET, Deadly())
    assert town.value(SECRET) == (NEW, OLD)
    assert role.opens(NEW)
    assert town.heal(desk, SECRET, role.door, make=lambda: "another") == "healed"
    assert town.value(SECRET) == (NEW, ""), "it made no third one"
    assert (town.deployments(), role.opens(NEW)) == ({"litellm": 1}, True)


@pytest.mark.long
def test_a_run_that_died_while_it_changed_back_is_not_taken_for_a_change(town: Town, desk: Desk, role: Role) -> None:
    class Died(Exception):
        pass

    class Deadly(Open):
        def take(self, new: SecretStr, old: SecretStr) -> str:
            if new.get_secret_value() == OLD:
                raise Died
            return role.door.take(new, old)

    town.railway.refuse("no room", field="serviceInstanceDeployV2")
    with pytest.raises(Died):
        town.heal(desk, SECRET, Deadly())
    assert (town.value(SECRET), role.opens(NEW)) == ((OLD, ""), True)
    with pytest.raises(NotHealed, match="an earlier run gave it up, and died; changed back, nothing is different from before"):
        town.heal(desk, SECRET, role.door, make=lambda: "another")
    assert (role.opens(OLD), role.opens(NEW)) == (True, False)
    assert town.operator.variables(town.ids["postgres"], unrendered=True)[f"LITELLM_DB_PASSWORD{AFTER}"] == ""
    assert town.deployments() == {"litellm": 1}, "it may have got the other one"
    assert town.heal(desk, SECRET, role.door) == "healed"


def test_a_sealed_secret_is_left_to_a_person_and_a_sealed_salt_key_counts_as_one(town: Town, desk: Desk) -> None:
    secret = "litellm/LITELLM_MASTER_KEY"
    town.railway.seal("litellm", "LITELLM_SALT_KEY")
    assert town.heal(desk, secret, Open(), RunbookRequest(dry_run=True)) == "can heal"
    town.railway.seal("litellm", "LITELLM_MASTER_KEY")
    with pytest.raises(NotHealed, match="it is sealed: nobody can read it"):
        town.heal(desk, secret, Open())
    assert town.deployments() == {}


@pytest.mark.long
def test_a_key_that_this_worker_uses_too_is_handed_over_last(town: Town, desk: Desk) -> None:
    secret = "litellm/LITELLM_MASTER_KEY"
    assert town.heal(desk, secret, Open(), make=lambda: f"sk-{NEW}") == "healed"
    assert town.value(secret) == (f"sk-{NEW}", "")
    assert town.deployments() == {"litellm": 1, "prefect-worker": 1}
    assert CANARY not in desk.text()


@pytest.mark.long
def test_redis_takes_both_passwords_until_the_new_one_is_proven(town: Town, desk: Desk, redis_engine: RedisEngine) -> None:
    """The engine's own password stands for the old one; its restart is that of the container, which is not it."""
    engine_password = redis_engine.password
    town.operator.set_variables(town.ids["redis"], {"REDIS_PASSWORD": engine_password})
    door = RedisDoor(RedisServer(url=SecretStr(redis_engine.url)))
    seen: list[tuple[bool, bool]] = []

    def opens(password: str) -> bool:
        with Redis(host=redis_engine.host, port=redis_engine.port, password=password) as client:
            try:
                return bool(client.ping())
            except AuthenticationError:
                return False

    class Watched(RedisDoor):
        def retire(self, old: SecretStr) -> None:
            seen.append((opens(engine_password), opens(NEW)))
            super().retire(old)
            seen.append((opens(engine_password), opens(NEW)))

    try:
        assert town.heal(desk, "redis/REDIS_PASSWORD", Watched(door.server)) == "healed"
        assert seen == [(True, True), (False, True)]
        assert town.deployments() == {"litellm": 1, "langfuse-web": 1, "redis": 1}
        assert engine_password not in desk.text()
    finally:
        if opens(NEW):
            door.take(SecretStr(engine_password), SecretStr(NEW))
            door.retire(SecretStr(NEW))
    assert (opens(engine_password), opens(NEW)) == (True, False)


@pytest.mark.parametrize("variable", IMMUTABLE)
def test_what_cannot_be_changed_is_refused_with_the_reason(variable: str) -> None:
    why = refusal(f"litellm/{variable}")
    assert why.startswith(f"{variable} is not changed: ")
    assert len(why) > 60


def test_the_master_key_stays_where_it_is_the_salt_key_too() -> None:
    secret = "litellm/LITELLM_MASTER_KEY"
    assert refusal(secret, {"LITELLM_SALT_KEY": "x"}) == ""
    assert "there is no LITELLM_SALT_KEY" in refusal(secret, {"LITELLM_MASTER_KEY": "x"})
    assert "there is no secret 'litellm/NOTHING'" in refusal("litellm/NOTHING")


ONE = ROTATIONS[SECRET]
SET = {"postgres": {"LITELLM_DB_PASSWORD": OLD}}
BEGUN = {"postgres": {"LITELLM_DB_PASSWORD": NEW, f"LITELLM_DB_PASSWORD{BEFORE}": OLD}}


@pytest.mark.parametrize(
    ("known", "verdict", "said"),
    [
        (Known(ONE, SET), Verdict.HEALS, "can be changed"),
        (Known(ONE, {"postgres": {}}), Verdict.PERSON, "is not set"),
        (Known(ONE, SET, sealed=True), Verdict.PERSON, "it is sealed"),
        (Known(ONE, SET, wrong=["litellm is down"]), Verdict.PERSON, "heal it first"),
        (Known(ONE, BEGUN, wrong=["litellm is down"]), Verdict.HEALS, "is gone on with"),
        (Known(ONE, SET, at_work="backup"), Verdict.PERSON, "backup is under way"),
        (Known(ONE, SET, value="no block"), Verdict.PERSON, "no block"),
    ],
)
def test_what_is_known_decides(known: Known, verdict: Verdict, said: str) -> None:
    found = decide(known, lambda: ())
    assert (found.verdict, said in found.sentence) == (verdict, True), found.sentence


def test_every_secret_of_the_stack_is_known_and_those_that_use_it_are_found() -> None:
    """What the stack makes up or is given, can be changed, or there is a reason why not."""
    stack = shipped("production", 4)
    unknown = []
    for service in stack.services.values():
        for name, value in service.variables.items():
            kind = getattr(value, "kind", None)
            if not isinstance(kind, SecretKind) or service.name.startswith("prefect-worker"):
                continue
            if f"{service.name}/{name}" not in ROTATIONS and name not in IMMUTABLE:
                unknown.append(f"{service.name}/{name}")
    assert unknown == []
    unrendered = {
        service.name: {name: value.text if isinstance(value, Reference) else "x" for name, value in service.variables.items()}
        for service in stack.services.values()
    }
    used = {one.name: users_of(one.service, one.variable, unrendered) for one in ROTATIONS.values()}
    assert used["redis/REDIS_PASSWORD"] == ["litellm", "langfuse-web", "langfuse-worker", "prefect-worker"]
    assert used["postgres/LANGFUSE_DB_PASSWORD"] == ["langfuse-web", "langfuse-worker"]
    assert used["postgres/BACKUP_DB_PASSWORD"] == ["prefect-worker"]
    assert used["litellm/UI_PASSWORD"] == []
    assert {one.name for one in ROTATIONS.values() if one.how is How.OWNER} == {
        "clickhouse/CLICKHOUSE_PASSWORD",
        "minio/MINIO_ROOT_PASSWORD",
    }
