"""scale-service, on the sandbox's Railway: replicas and limits, what it costs, what is never scaled, and the way back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from blocks.errors import ApprovalMissing, NotHealed, SettingsError
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.railway_api.models import ServiceInstance
from flows.health.targets import Targets
from flows.lease import acquire
from flows.runbook.frame import Verdict
from flows.runbook.resizing import NOTE, Sized
from flows.runbook.scale_service import ScaleRequest, TooSmall, service_of, wanted_of
from flows.runbook.scaling import Ceiling, Known, Scaled, Size, dearer, decide
from tests.runbook.cases import CANARY, IMPATIENT, Desk
from tests.runbook.outage_town import WAITS, Services

SERVICE = "langfuse-worker"
SMALL, LARGE = Size(replicas=1, memory_gb=4, cpus=2), Size(replicas=3, memory_gb=8, cpus=2)
CEILING = Ceiling(4, 16, 8)


@pytest.fixture
def services(tmp_path: Path, store: BackupStore, keys: BackupKeys) -> Iterator[Services]:
    with Services(tmp_path, store, keys, {SERVICE: "app:1"}) as made:
        with made.block().open() as api:
            api.limits(made.ids[SERVICE], memory_gb=4, vcpus=2)
        made.operator.deployed(made.ids[SERVICE])
        made.mark()
        yield made


@pytest.fixture
def desk(store: BackupStore) -> Desk:
    return Desk(store)


def scale(services: Services, desk: Desk, request: ScaleRequest, targets: Targets | None = None) -> str:
    with services.block().open() as api:
        at = Sized(api, SERVICE, WAITS)
        runbook = TooSmall(services.stack, at, targets or services.targets(), request.model_copy(update={"by": "a test"}))
        return desk.heal(runbook, runbook.request)


def size(services: Services) -> Size:
    with services.block().open() as api:
        at = Sized(api, SERVICE)
        return at.size(at.need())


def noted(services: Services) -> Scaled | None:
    text = services.operator.variables(services.ids[SERVICE]).get(NOTE)
    return Scaled.model_validate_json(text) if text else None


def test_replicas_and_limits_are_changed_after_an_approval_that_says_what_it_costs(services: Services, desk: Desk) -> None:
    request = ScaleRequest(service=SERVICE, replicas=3, memory_gb=8)
    assert scale(services, desk, request) == "healed"
    assert size(services).like(LARGE)
    assert services.changes() == ["environmentPatchCommit", "serviceInstanceLimitsUpdate", "serviceInstanceDeployV2"]
    (asked,) = desk.asked
    assert "1 x 4 GB, 2 CPUs -> 3 x 8 GB, 2 CPUs" in asked
    assert "at most $280 more a month ($80 -> $360)" in asked
    assert "way back: scale-service with back" in asked
    assert CANARY not in desk.text()
    assert scale(services, desk, request) == "nothing to do", "run twice"
    assert scale(services, desk, ScaleRequest(service=SERVICE, back=True)) == "healed"
    assert size(services).like(SMALL)


def test_more_replicas_alone_start_without_a_deployment(services: Services, desk: Desk) -> None:
    assert scale(services, desk, ScaleRequest(service=SERVICE, replicas=2)) == "healed"
    assert services.changes() == ["environmentPatchCommit"]
    assert size(services).replicas == 2


@pytest.mark.long
def test_a_limit_that_was_not_there_before_is_taken_away_again(
    tmp_path: Path, store: BackupStore, keys: BackupKeys, desk: Desk
) -> None:
    with Services(tmp_path, store, keys, {SERVICE: "app:1"}) as services:
        assert size(services) == Size()
        assert scale(services, desk, ScaleRequest(service=SERVICE, memory_gb=8, cpus=2)) == "healed"
        assert size(services).like(Size(memory_gb=8, cpus=2))
        assert scale(services, desk, ScaleRequest(service=SERVICE, back=True)) == "healed"
        assert size(services) == Size()


def test_nothing_is_changed_where_nobody_approves(services: Services, desk: Desk) -> None:
    desk.approves = False
    with pytest.raises(ApprovalMissing):
        scale(services, desk, ScaleRequest(service=SERVICE, replicas=2))
    assert (services.changes(), noted(services)) == ([], None)


def test_a_dry_run_shows_size_and_cost_and_leaves_no_trace(services: Services, desk: Desk) -> None:
    objects = [item.key for item in services.store.list(services.store.root)]
    assert scale(services, desk, ScaleRequest(service=SERVICE, memory_gb=8, dry_run=True)) == "can heal"
    assert (services.changes(), noted(services), size(services).like(SMALL)) == ([], None, True)
    assert [item.key for item in services.store.list(services.store.root)] == objects
    assert "at most $40 more a month" in desk.text()


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (ScaleRequest(service=SERVICE, replicas=9), "9 replicas is more than SCALE_MOST_REPLICAS allows, which is 4"),
        (ScaleRequest(service=SERVICE, memory_gb=64), "64 GB is more than SCALE_MOST_MEMORY_GB allows"),
    ],
)
def test_more_than_the_ceiling_is_not_asked_of_railway(
    services: Services, desk: Desk, request_: ScaleRequest, said: str
) -> None:
    with pytest.raises(NotHealed, match=said):
        scale(services, desk, request_)
    assert services.changes() == []


def test_while_a_deploy_is_under_way_nothing_is_scaled(services: Services, desk: Desk) -> None:
    lease = acquire(services.store, flow="deploy", holder="a test", seconds=60, wait=0)
    try:
        with pytest.raises(NotHealed, match="deploy is under way"):
            scale(services, desk, ScaleRequest(service=SERVICE, replicas=2))
    finally:
        lease.release()
    assert services.changes() == []


@pytest.mark.long
def test_a_service_that_is_down_with_its_new_size_gets_the_old_one_back(services: Services, desk: Desk) -> None:
    desk.pace = IMPATIENT
    dead = replace(services.targets(), langfuse_worker="http://127.0.0.1:1")
    tried = r"expected 1 x 8 GB, 2 CPUs; tried: scale .* runs .*; put langfuse-worker back to 1 x 4 GB"
    with pytest.raises(NotHealed, match=tried):
        scale(services, desk, ScaleRequest(service=SERVICE, memory_gb=8), dead)
    assert size(services).like(SMALL)
    assert services.changes().count("serviceInstanceDeployV2") == 2


@pytest.mark.long
@pytest.mark.parametrize("limits_were_set", [False, True])
def test_killed_before_the_new_size_runs_the_next_run_deploys_it(services: Services, desk: Desk, limits_were_set: bool) -> None:
    request = ScaleRequest(service=SERVICE, memory_gb=8)
    with services.block().open() as api:
        at = Sized(api, SERVICE, WAITS)
        at.note(at.need(), Scaled(before=SMALL, after=Size(replicas=1, memory_gb=8, cpus=2)))
        if limits_were_set:
            api.limits(services.ids[SERVICE], memory_gb=8, vcpus=2)
    assert scale(services, desk, request) == "healed"
    assert services.changes()[-1] == "serviceInstanceDeployV2"
    note = noted(services)
    assert note is not None
    assert (note.done, note.before.like(SMALL)) == (True, True)
    assert scale(services, desk, ScaleRequest(service=SERVICE, back=True)) == "healed"
    assert size(services).like(SMALL)


# --- decisions -----------------------------------------------------------------------------------------------------------


def there(status: str = "SUCCESS", image: str = "app:1") -> ServiceInstance:
    newest = {"id": "d1", "status": status, "createdAt": "2026-11-26T03:00:00Z", "meta": {"image": "app:1"}}
    return ServiceInstance.model_validate(
        {"id": "i", "serviceId": "s", "serviceName": SERVICE, "latestDeployment": newest, "source": {"image": image}}
    )


def known(**changes: object) -> Known:
    return replace(Known(SERVICE, there(), SMALL, LARGE, CEILING), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "verdict", "said"),
    [
        ({}, Verdict.HEALS, "1 x 4 GB, 2 CPUs -> 3 x 8 GB, 2 CPUs"),
        ({"wanted": SMALL}, Verdict.NOTHING, "has that size already"),
        ({"wanted": SMALL, "noted": Scaled(before=LARGE, after=SMALL)}, Verdict.HEALS, "->"),
        ({"wanted": SMALL, "called": True}, Verdict.NOTHING, "has that size already"),
        ({"wanted": SMALL, "called": True, "wrong": ["uses 3.9 of 4 GB"]}, Verdict.PERSON, "no run asks for more"),
        ({"service": "postgres"}, Verdict.PERSON, "what has a volume runs once"),
        ({"service": "redis"}, Verdict.PERSON, "redis is never scaled"),
        ({"there": None}, Verdict.PERSON, "deploy it"),
        ({"there": there("DEPLOYING")}, Verdict.PERSON, "wait for its end"),
        ({"there": there(image="app:2")}, Verdict.PERSON, "would bring that along"),
        ({"connections": (91.0, 80.0)}, Verdict.PERSON, "raise max_connections first"),
        ({"connections": (91.0, 80.0), "wanted": Size(replicas=1, memory_gb=8, cpus=2)}, Verdict.HEALS, "->"),
        ({"at_work": "upgrade"}, Verdict.PERSON, "upgrade is under way"),
    ],
)
def test_what_is_known_decides(changes: dict[str, object], verdict: Verdict, said: str) -> None:
    found = decide(known(**changes), lambda _: ())
    assert (found.verdict, said in found.sentence) == (verdict, True), found.sentence


def test_an_incident_about_memory_asks_for_twice_as_much_and_never_for_more_than_the_ceiling() -> None:
    request = ScaleRequest(incident="prod/langfuse-worker/container-memory/20261126T030000Z")
    assert service_of(request) == SERVICE
    assert wanted_of(request, SMALL, None, CEILING).memory_gb == 8
    assert wanted_of(request, Size(memory_gb=12, cpus=2), None, CEILING).memory_gb == 16
    assert wanted_of(request, Size(), None, CEILING).memory_gb is None, "the plan's is not known"
    half = Scaled(before=SMALL, after=Size(memory_gb=8, cpus=2))
    assert wanted_of(request, Size(memory_gb=8, cpus=2), half, CEILING) == half.after, "begun by a run that died"


def test_what_was_never_scaled_has_no_way_back_and_nothing_is_never_asked_for() -> None:
    with pytest.raises(SettingsError, match="never scaled by this"):
        wanted_of(ScaleRequest(service=SERVICE, back=True), SMALL, None, CEILING)
    for wrong in (ScaleRequest(), ScaleRequest(service="mongo", replicas=2), ScaleRequest(service=SERVICE)):
        with pytest.raises(SettingsError, match="scale-service: "):
            service_of(wrong)


def test_a_way_back_that_died_goes_on_in_its_direction() -> None:
    back = ScaleRequest(service=SERVICE, back=True)
    assert wanted_of(back, LARGE, Scaled(before=SMALL, after=LARGE, done=True), CEILING) == SMALL
    assert wanted_of(back, LARGE, Scaled(before=LARGE, after=SMALL, back=True), CEILING) == SMALL


def test_what_has_no_limit_has_no_price() -> None:
    assert "cannot be said" in dearer(Size(), LARGE)
    assert dearer(LARGE, SMALL).startswith("at most $280 less a month")
