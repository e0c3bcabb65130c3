"""recover-outage, on the sandbox's Railway with several services: from the bottom up, and what need not be touched is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from blocks.errors import NotHealed, SettingsError
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from flows.health.observation import Observation, Status
from flows.lease import acquire
from flows.runbook.audit import Trail
from flows.runbook.frame import RunbookRequest, Verdict
from flows.runbook.heal import Means, Pace, heal
from flows.runbook.recover_outage import Outage, services_of
from flows.runbook.restart_service import ServiceDown
from flows.runbook.triage import Known, Triage, decide, triage
from shared.engines.process import wait_until
from tests.forks import Forked
from tests.runbook.cases import CANARY, IMPATIENT, PACE, Desk
from tests.runbook.outage_town import WAITS, Services

IMAGES = {"redis": "app:1", "minio": "app:1", "langfuse-web": "app:1", "langfuse-worker": "app:1"}
WANTED = tuple(IMAGES)


@pytest.fixture
def services(tmp_path: Path, store: BackupStore, keys: BackupKeys) -> Iterator[Services]:
    with Services(tmp_path, store, keys, IMAGES) as made:
        yield made


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store)


def recover(
    services: Services,
    desk: Desk,
    request: RunbookRequest | None = None,
    *,
    pace: Pace = PACE,
    after: Callable[[str], object] = lambda _: None,
) -> str:
    """Run it as the flow does; `after` is told each service that was healed."""

    def restart(one: ServiceDown) -> str:
        means = Means(services.stack.name, Trail(services.store), desk.asked.append, tell=desk.told.append, pace=pace)
        ended = heal(one, RunbookRequest(by="a test"), means)
        after(one.service)
        return ended

    with services.block().open() as api:
        outage = Outage(services.stack, api, services.targets(), WANTED, restart, WAITS)
        return desk.heal(outage, request)


def test_what_is_down_by_itself_is_restarted_first_and_then_what_needs_it(services: Services, desk: Desk) -> None:
    desk.pace = Pace(settle=0.3, longest=60, look=0.05)
    for name in ("langfuse-web", "redis", "minio"):
        services.crash(name)
    before = len(services.begun())
    assert recover(services, desk) == "healed"
    assert services.begun()[before:] == ["redis", "minio", "langfuse-web"]
    assert all(services.railway.running(name) for name in IMAGES)
    assert "redis, minio down by themselves; langfuse-web with what they need" in desk.text()
    assert {entry.actor for entry in desk.trail()} == {"recover-outage", "restart-service"}
    assert CANARY not in desk.text()
    assert recover(services, desk) == "nothing to do", "run twice"
    assert services.begun()[before:] == ["redis", "minio", "langfuse-web"]


@pytest.mark.long
def test_a_casualty_that_recovers_with_what_it_needs_is_not_restarted(services: Services, desk: Desk) -> None:
    services.crash("redis")
    services.container("langfuse-worker").freeze()
    before = len(services.begun())
    assert recover(services, desk, after=lambda _: services.container("langfuse-worker").thaw()) == "healed"
    assert services.begun()[before:] == ["redis"]
    assert services.changes() == ["deploymentRedeploy"]


@pytest.mark.long
def test_what_needs_a_service_that_stays_down_is_not_touched_and_the_rest_is_healed(
    tmp_path: Path, store: BackupStore, keys: BackupKeys, desk: Desk
) -> None:
    desk.pace = IMPATIENT
    with Services(tmp_path, store, keys, IMAGES) as services:
        for name in ("redis", "langfuse-web"):
            services.crash(name)
        services.railway.refuse("No capacity", times=50, field="deploymentRedeploy")
        with pytest.raises(NotHealed, match=r"recover-outage stack: a person is needed: redis: ") as failure:
            recover(services, desk, pace=IMPATIENT)
        assert "langfuse-web: needs a person: redis must be well first" in str(failure.value)
        assert services.begun().count("langfuse-web") == 1
        assert desk.trail()[-1].actor == "recover-outage"


def test_nothing_is_done_where_nothing_is_down(services: Services, desk: Desk) -> None:
    assert recover(services, desk) == "nothing to do"
    assert services.changes() == []


def test_a_dry_run_says_in_which_order_it_would_go_and_leaves_no_trace(services: Services, desk: Desk) -> None:
    for name in ("redis", "langfuse-web"):
        services.crash(name)
    objects, before = [item.key for item in services.store.list(services.store.root)], services.begun()
    assert recover(services, desk, RunbookRequest(dry_run=True)) == "can heal"
    assert (services.changes(), services.begun()) == ([], before)
    assert [item.key for item in services.store.list(services.store.root)] == objects
    assert [line for line in desk.told if line.startswith("would")] == [
        "would restart redis, down by itself",
        "would restart langfuse-web, unless it recovers with what was below",
    ]


def test_while_an_upgrade_holds_the_stacks_lock_nothing_is_restarted(services: Services, desk: Desk) -> None:
    services.crash("redis")
    lease = acquire(services.store, flow="upgrade", holder="a test", seconds=60, wait=0)
    try:
        with pytest.raises(NotHealed, match="upgrade is under way"):
            recover(services, desk)
    finally:
        lease.release()
    assert services.changes() == []


@pytest.mark.long
def test_killed_between_two_services_the_next_run_goes_on_with_the_second(services: Services, desk: Desk) -> None:
    desk.pace = Pace(settle=0.3, longest=60, look=0.05)
    for name in ("redis", "langfuse-web"):
        services.crash(name)

    class Killed(BaseException):
        pass

    def die(name: str) -> None:
        raise Killed(name)

    with pytest.raises(Killed):
        recover(services, desk, after=die)
    assert services.changes() == ["deploymentRedeploy"]
    assert recover(services, desk) == "healed"
    assert services.begun()[-2:] == ["redis", "langfuse-web"]


@pytest.mark.long
def test_killed_for_real_in_the_middle_of_a_restart_the_next_run_ends_well(services: Services, desk: Desk) -> None:
    services.crash("redis")
    with Forked(lambda: recover(services, desk)) as process:
        wait_until(lambda: "deploymentRedeploy" in services.changes() or not process.running, timeout=120, what="it to begin")
        process.kill()
    assert recover(services, desk) in ("healed", "nothing to do")
    assert services.changes() == ["deploymentRedeploy"]


# --- triage --------------------------------------------------------------------------------------------------------------


def observed(service: str, status: Status, aspect: str = "main") -> Observation:
    return Observation(service=service, aspect=aspect, status=status, sentence=f"{service} {status}")


def seen(**services: str) -> list[Observation]:
    return [observed(name.replace("_", "-"), Status(one)) for name, one in services.items()]


def test_services_are_sorted_by_what_they_need_of_those_that_are_down() -> None:
    found = triage(seen(langfuse_web="down", litellm="down", redis="down", postgres="ok", clickhouse="down", minio="unknown"))
    assert found.levels == (("clickhouse", "redis"), ("litellm", "langfuse-web"))
    assert found.casualties == ("litellm", "langfuse-web")
    assert found.dark == ("minio",)
    alone = triage(seen(litellm="down", postgres="ok", redis="degraded"))
    assert alone.roots == ("litellm",), "what is only degraded takes nobody along"
    assert triage(seen(prefect_server="down", prefect_worker="down", redis="down")).left == ("prefect-server", "prefect-worker")
    assert triage([observed("litellm", Status.DOWN, "authentication")]).levels == ()


@pytest.mark.parametrize(
    ("known", "verdict", "said"),
    [
        (Known(Triage(), looked=["redis"]), Verdict.NOTHING, "none of redis is down"),
        (Known(Triage()), Verdict.PERSON, "nobody could look at any service"),
        (Known(Triage(dark=("redis",)), looked=["redis"]), Verdict.PERSON, "unknown is not down"),
        (Known(Triage(left=("prefect-server",)), looked=["prefect-server"]), Verdict.PERSON, "must not end itself"),
        (Known(Triage((("redis",),)), at_work="deploy"), Verdict.PERSON, "deploy is under way"),
        (Known(Triage((("redis",), ("litellm",))), at_work="backup"), Verdict.HEALS, "redis is down by itself; litellm with"),
    ],
)
def test_what_is_known_decides(known: Known, verdict: Verdict, said: str) -> None:
    found = decide(known, ())
    assert (found.verdict, said in found.sentence) == (verdict, True), found.sentence


def test_only_services_that_there_are_can_be_named() -> None:
    assert services_of(["langfuse-worker", "redis"]) == ("redis", "langfuse-worker")
    assert "postgres" in services_of([])
    with pytest.raises(SettingsError, match="no service 'mongo'; expected one of"):
        services_of(["mongo"])
