"""Deploys through the API, on the sandbox's Railway: what is asked of it, what runs, what a fault leaves behind."""

from __future__ import annotations

import io
import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from blocks.errors import DeploymentFailed, GuardRefused
from blocks.railway import PROTECTED, RailwayEnvironment
from blocks.railway_api.documents import all_documents
from flows.deploy.__main__ import main
from flows.deploy.asked import Asked, given_secrets, order_of
from flows.deploy.converge import Report, converge, preview
from flows.deploy.plan import Order
from flows.deploy.present import SETUP
from flows.deploy.rollout import Pace, arrived, deploy_now
from shared.engines.process import wait_until
from shared.sandbox.railway_api import RailwayStandIn
from shared.sandbox.railway_api.options import Behaviour
from shared.sandbox.railway_api.options import Pace as PlatformPace
from tests.deploy.quiet_runtime import QuietRuntime

PACE = Pace(deployment=120, poll=0.05, setup=60)
QUICK = PlatformPace(build=0.0, poll=0.01, health=0.1, workflow=0.0)
IMPATIENT = PlatformPace(build=0.0, poll=0.01, health=0.001, workflow=0.0)
"""Gives a sick service up after a second."""
IMAGE = "ghcr.io/acme/stack-operations:0.1.0"
RECIPIENT = "age1canary0000000000000000000000000000000000000000000000000000"
CHANGES = frozenset(document.name for document in all_documents() if document.changes)
ENVIRONMENT = {"BACKUP_RECOVERY_RECIPIENT": RECIPIENT, "RAILWAY_API_TOKEN": "a token that may do everything"}


def production(own_service: str = "") -> Order:
    """The production stack, as a laptop asks for it."""
    asked = Asked(images={"prefect-worker": IMAGE})
    stack = order_of(asked, "prod").stack
    return order_of(asked, "prod", own_service=own_service, given=given_secrets(stack, ENVIRONMENT))


def small() -> Order:
    """Two databases and what needs them: enough to go wrong."""
    order = production()
    names = ("postgres", "redis", "litellm")
    services = {name: order.stack.services[name] for name in names}
    for name in ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "LANGFUSE_HOST", "LANGFUSE_OTEL_HOST"):
        services["litellm"] = services["litellm"].with_variables(**{name: None})
    assert order.setup is not None
    told = tuple(one for one in order.setup.variables if "minio" not in one[1].lower() and one[0] != "SETUP_BUCKETS")
    setup = replace(order.setup, variables=told, holders=("postgres",))
    return replace(order, stack=replace(order.stack, services=services, object_store="bucket"), setup=setup)


class Place:
    """A Railway of its own for one test."""

    def __init__(self, directory: Path, *, behaviour: Behaviour | None = None, pace: PlatformPace = QUICK) -> None:
        self.runtime = QuietRuntime()
        self.railway = RailwayStandIn(directory, self.runtime, pace=pace, behaviour=behaviour)

    def environment(self, own_service: str = "") -> RailwayEnvironment:
        """The block of it."""
        own = self.railway.service_id(own_service) if own_service else ""
        return RailwayEnvironment(
            project_id=self.railway.project_id,
            environment_id=self.railway.environment_id,
            token=SecretStr(self.railway.token("workspace")),
            token_kind="workspace",
            api_url=self.railway.url,
            own_service_id=own,
        )

    def deploy(self, order: Order, own_service: str = "") -> Report:
        """Converge, without asking anybody."""
        with self.environment(own_service).open(allow=PROTECTED) as api:
            return converge(api, order, approve=lambda _: None, pace=PACE)

    def lines(self, order: Order) -> list[str]:
        """The plan."""
        with self.environment().open(allow=PROTECTED) as api:
            return preview(api, order).lines()

    def variables(self, service: str) -> dict[str, str]:
        """As they are configured."""
        with self.environment().open() as api:
            return dict(api.variables(self.railway.service_id(service)))

    def changes(self) -> list[str]:
        """The changes that were asked for, in order."""
        return [one.operation for one in self.railway.received() if one.operation in CHANGES]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    with made.railway:
        yield made


# --- a deploy ------------------------------------------------------------------------------------------------------------


def test_the_production_stack_is_deployed_in_order_and_the_second_time_nothing_is_left_to_do(place: Place) -> None:
    order = production()
    report = place.deploy(order)
    started = place.runtime.names()
    assert set(place.railway.service_names()) == set(order.stack.services)
    assert all(place.railway.running(name) for name in order.stack.services)
    for name, service in order.stack.services.items():
        assert all(started.index(needed) < started.index(name) for needed in service.needs)
    assert started.index("postgres") < started.index(SETUP) < started.index("litellm")
    assert started[-2:] == ["prefect-server", "prefect-worker"]
    assert len(started) == len(order.stack.services) + 1, "each was started once"
    assert report.setup == ["roles and databases: created"]
    told = place.runtime.last(SETUP).variables
    assert told["LITELLM_DB_PASSWORD"] == place.variables("postgres")["LITELLM_DB_PASSWORD"]
    assert told["SETUP_POSTGRES_URL"].startswith("postgresql://postgres:")
    assert place.variables("prefect-worker")["BACKUP_RECOVERY_RECIPIENT"] == RECIPIENT
    assert "RAILWAY_API_TOKEN" not in place.variables("prefect-worker"), "the deploy's own token is nobody else's"

    before, words = len(place.changes()), "\n".join([*report.plan.lines(), *report.plan.notes])
    secrets = [
        place.variables(name)[key] for name, key in (("postgres", "POSTGRES_PASSWORD"), ("litellm", "LITELLM_MASTER_KEY"))
    ]
    assert not any(secret in words for secret in [*secrets, RECIPIENT])
    again = place.deploy(production())
    assert again.plan.actions == ()
    assert len(place.changes()) == before


def test_what_has_drifted_is_shown_and_brought_back_and_only_that_is_deployed(place: Place) -> None:
    order = small()
    place.deploy(order)
    kept, begun = place.variables("postgres"), len(place.runtime.names())
    with place.environment().open() as api:
        service = place.railway.service_id("redis")
        api.set_image(service, "redis:7.4.1")
        api.limits(service, memory_gb=8, vcpus=1)
        api.set_variables(place.railway.service_id("litellm"), {"LITELLM_LOG": "DEBUG", "MY_OWN": "1"})
    assert place.lines(order) == [
        "~ litellm.LITELLM_LOG: (another value) -> ERROR",
        "~ redis: memory (GB) 8.0 -> 1.5",
        f"~ redis: image redis:7.4.1 -> {order.stack.services['redis'].image}",
        "> deploy redis (changed)",
        "> deploy litellm (changed)",
    ]
    place.deploy(order)
    assert place.runtime.names()[begun:] == ["redis", "litellm"]
    assert place.runtime.last("litellm").variables["MY_OWN"] == "1"
    assert place.runtime.last("litellm").variables["LITELLM_LOG"] == "ERROR"
    assert {key: place.variables("postgres")[key] for key in kept} == kept


def test_where_a_new_image_deploys_by_itself_the_end_is_the_same(tmp_path: Path) -> None:
    place = Place(tmp_path, behaviour=Behaviour(source_update_deploys=True))
    with place.railway:
        order = small()
        place.deploy(order)
        assert all(place.railway.running(name) for name in order.stack.services)
        assert place.lines(order) == []


def test_a_deployment_that_another_one_of_the_same_image_overtakes_is_up_when_that_one_is(place: Place) -> None:
    place.deploy(small())
    service_id = place.railway.service_id("redis")
    with place.environment().open() as api:
        image = api.inventory().services["redis"].image
        first = deploy_now(api, service_id)
        wait_until(lambda: api.deployment(first).status.active, timeout=60, what="the first one to serve")
        second = deploy_now(api, service_id)
        wait_until(lambda: api.deployment(first).status == "REMOVED", timeout=60, what="the second one to take its place")
        assert arrived(api, service_id, first, image=image, timeout=60, poll=0.02).id == second
        with pytest.raises(DeploymentFailed, match="taken down, by a person or by a newer deployment"):
            arrived(api, service_id, first, image="redis:8.9.9", timeout=60, poll=0.02)


def test_a_sealed_secret_is_kept(place: Place) -> None:
    order = small()
    place.deploy(order)
    key = place.variables("litellm")["LITELLM_MASTER_KEY"]
    place.railway.seal("litellm", "LITELLM_MASTER_KEY")
    assert place.lines(order) in ([], ["> deploy litellm (was configured, but not deployed since)"])
    place.deploy(order)
    count = place.runtime.names().count("litellm")
    with place.environment().open() as api:
        api.deploy(place.railway.service_id("litellm"))
    wait_until(lambda: place.runtime.names().count("litellm") > count, timeout=30, what="the deployment")
    assert place.runtime.last("litellm").variables["LITELLM_MASTER_KEY"] == key


@pytest.mark.long
def test_the_service_that_the_program_runs_in_is_handed_over_last_and_proven_before(place: Place) -> None:
    place.deploy(production())
    newer = replace_image(production("prefect-worker"), "prefect-worker", "ghcr.io/acme/stack-operations:0.1.1")
    begun, proven = len(place.runtime.names()), []
    with place.environment("prefect-worker").open(allow=PROTECTED) as api:
        report = converge(
            api, newer, approve=lambda _: None, prove=lambda _: proven.append(place.runtime.names()[begun:]), pace=PACE
        )
    assert report.done[-1].outcome.startswith("handed over")
    assert "prefect-worker" not in proven[0], "the smoke test comes before the end of the run"
    wait_until(lambda: place.runtime.names()[begun:].count("prefect-worker") == 1, timeout=10, what="the worker to be started")
    wait_until(lambda: place.railway.running("prefect-worker"), timeout=10, what="the worker to run")
    assert place.lines(newer) == []


def replace_image(order: Order, name: str, image: str) -> Order:
    """The same order with another image."""
    service = replace(order.stack.services[name], image=image)
    setup = replace(order.setup, image=image) if order.setup else None
    return replace(order, stack=order.stack.with_service(service), setup=setup)


# --- what is refused -----------------------------------------------------------------------------------------------------


def test_changes_that_a_person_has_not_applied_yet_stop_it_before_anything_is_done(place: Place) -> None:
    place.railway.stage({"sharedVariables": {"X": {"value": "1"}}})
    with pytest.raises(GuardRefused, match="changes wait in the dashboard"):
        place.deploy(small())
    assert place.changes() == []


def test_another_major_version_on_the_same_data_is_an_upgrade_and_no_deploy(place: Place) -> None:
    order = small()
    place.deploy(order)
    eighteen = replace_image(order, "postgres", "ghcr.io/railwayapp-templates/postgres-ssl:18")
    before = len(place.changes())
    with pytest.raises(GuardRefused, match="postgres: 16 runs and the stack wants 18"):
        place.deploy(eighteen)
    assert len(place.changes()) == before


def test_a_secret_that_only_a_person_has_is_asked_for_before_anything_is_done(place: Place) -> None:
    with pytest.raises(GuardRefused, match=r"BACKUP_RECOVERY_RECIPIENT .* is not there; export it here"):
        place.deploy(replace(production(), given={}))
    assert place.changes() == []


def test_a_service_that_is_called_as_setup_but_is_somebody_elses_is_not_deleted(place: Place) -> None:
    with place.environment().open() as api:
        api.create_service(SETUP, "nginx:1.27.0")
    with pytest.raises(GuardRefused, match="a service of this name is there that a deploy did not make"):
        place.deploy(small())
    assert SETUP in place.railway.service_names()


# --- faults --------------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_service_that_does_not_come_up_stops_it_and_the_next_run_goes_on_from_there(tmp_path: Path) -> None:
    place, order = Place(tmp_path, pace=IMPATIENT), small()
    with place.railway:
        place.runtime.sick = {"litellm"}
        with pytest.raises(DeploymentFailed, match="litellm"):
            place.deploy(order)
        assert place.railway.running("postgres")
        assert place.lines(order) == ["> deploy litellm (is failed)"]
        place.runtime.sick = set()
        place.deploy(order)
        assert place.runtime.names().count("postgres") == 1
        assert place.lines(order) == []


def test_setup_that_fails_stops_it_with_its_own_words_and_leaves_no_service_behind(place: Place) -> None:
    order = small()
    place.runtime.broken = "bucket backups: the store refuses it to this key"
    with pytest.raises(DeploymentFailed, match="bucket backups: the store refuses it"):
        place.deploy(order)
    assert SETUP not in place.railway.service_names()
    assert "litellm" not in place.runtime.names(), "no application starts without its database"
    place.runtime.broken = ""
    place.deploy(order)
    assert place.lines(order) == []


@pytest.mark.long
@pytest.mark.parametrize(
    "field",
    [
        "serviceCreate",
        "variableCollectionUpsert",
        "serviceInstanceUpdate",
        "serviceInstanceDeployV2",
        "volumeCreate",
        "serviceDelete",
    ],
)
def test_an_answer_that_is_lost_creates_nothing_twice(place: Place, field: str) -> None:
    order = small()
    place.railway.lose_answer(field=field)
    place.deploy(order)
    names = place.railway.service_names()
    assert sorted(names) == sorted(order.stack.services)
    assert place.lines(order) == []
    with place.environment().open() as api:
        assert len(api.inventory().volumes) == 2


@pytest.mark.long
def test_an_api_that_throttles_and_stumbles_is_waited_for(place: Place) -> None:
    order = small()
    place.railway.throttle(times=2, retry_after=0.05)
    place.railway.outage(times=1, field="serviceInstanceUpdate")
    place.deploy(order)
    assert place.lines(order) == []


# --- killed --------------------------------------------------------------------------------------------------------------


def deploy_elsewhere(environment: dict[str, Any]) -> None:
    """What the process does that is killed."""
    block = RailwayEnvironment(**{**environment, "token": SecretStr(environment["token"])})
    with block.open(allow=PROTECTED) as api:
        converge(api, small(), approve=lambda _: None, pace=PACE)


@pytest.mark.long
@pytest.mark.parametrize("changes", [2, 9, 19, 27])
def test_killed_at_any_point_it_is_continued_by_running_it_again(place: Place, changes: int) -> None:
    """SIGKILL after so many changes: secrets that were made stay, no service is there twice, the end is the same."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    block = place.environment()
    told = block.model_dump(include={"project_id", "environment_id", "token_kind", "api_url"})
    process = context.Process(target=deploy_elsewhere, args=({**told, "token": block.token.get_secret_value()},), daemon=True)
    process.start()
    try:
        wait_until(
            lambda: len(place.changes()) >= changes or not process.is_alive(), timeout=240, what="the deploy to get so far"
        )
    finally:
        process.kill()
        process.join()
    assert process.exitcode == -9, f"it had ended by itself before change {changes}"
    made = {name: secrets_of(place, name) for name in place.railway.service_names() if name != SETUP}
    order = small()
    place.deploy(order)
    assert sorted(place.railway.service_names()) == sorted(order.stack.services)
    assert all(place.railway.running(name) for name in order.stack.services)
    assert place.lines(order) == []
    for name, values in made.items():
        assert secrets_of(place, name).items() >= values.items()


def secrets_of(place: Place, service: str) -> dict[str, str]:
    """What was made up for a service."""
    found = place.variables(service).items()
    return {key: value for key, value in found if key.endswith(("PASSWORD", "_KEY")) and "$" not in value}


# --- the program ---------------------------------------------------------------------------------------------------------


def run(place: Place, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    """`python -m flows.deploy`, in this process: starting another one costs more than all it does."""
    for name in ("RAILWAY_TOKEN", "RAILWAY_SERVICE_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAILWAY_API_TOKEN", place.railway.token("workspace"))
    monkeypatch.setenv("RAILWAY_API_URL", place.railway.url)
    monkeypatch.setenv("BACKUP_RECOVERY_RECIPIENT", RECIPIENT)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(["--image", f"prefect-worker={IMAGE}", "--no-smoke", "--poll", "0.05", *arguments])
    return status, out.getvalue(), err.getvalue()


def test_a_dry_run_prints_the_plan_and_changes_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    where = ("--project", place.railway.project_id, "--environment", place.railway.environment_id)
    status, out, err = run(place, monkeypatch, *where, "--dry-run")
    assert (status, err) == (0, "")
    assert "+ service postgres" in out
    assert "+ postgres.POSTGRES_PASSWORD = (secret, made here)" in out
    assert "+ prefect-worker.BACKUP_RECOVERY_RECIPIENT = (secret, as given)" in out
    assert RECIPIENT not in out
    assert place.changes() == []


def test_without_anybody_to_ask_nothing_is_changed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    where = ("--project", place.railway.project_id, "--environment", place.railway.environment_id)
    status, _, err = run(place, monkeypatch, *where)
    assert status == 1
    assert "nobody to ask; read the plan with --dry-run, then give --yes" in err
    assert place.changes() == []


@pytest.mark.long
def test_a_new_project_is_made_once_and_goes_on_when_it_is_asked_for_again(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = ("--new", "shop", "--workspace", place.railway.workspace_id, "--yes", "--variant", "starter")
    status, out, err = run(place, monkeypatch, *new)
    assert (status, err) == (0, "")
    assert "Project shop is made" in out
    status, out, _ = run(place, monkeypatch, *new)
    assert status == 0
    assert "Nothing to do" in out
    assert place.changes().count("ProjectCreate") == 1


def test_a_new_project_is_not_even_made_before_somebody_has_approved_the_plan(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = ("--new", "shop", "--workspace", place.railway.workspace_id, "--variant", "starter")
    assert run(place, monkeypatch, *new, "--dry-run")[0] == 0
    status, out, err = run(place, monkeypatch, *new)
    assert status == 1
    assert "+ service postgres" in out
    assert "nobody to ask" in err
    assert place.changes() == []


def test_help_needs_no_server_and_no_token(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert "--dry-run" in capsys.readouterr().out
