"""What a container does with a Prefect server before its worker starts: two at once, with the files that the image has."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import psutil
import pytest
import yaml
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from pydantic import SecretStr

from blocks.errors import AccessDenied, SettingsError
from blocks.settings import Settings
from blocks.undone import undone_name
from flows.health.published import Outcome, publish
from railway.worker.prefect_http import PrefectHttp
from railway.worker.steps import DEPLOYED_TO
from shared.engines.process import wait_until
from shared.sandbox.environment import ROOT
from shared.sandbox.sample_history import published
from tests.gateway.serving import now
from tests.worker import image
from tests.worker.conftest import AUTH, Prefect
from tests.worker.container import Container, container

pytestmark = [pytest.mark.long, pytest.mark.timeout(700)]
"""Two containers register everything at once, and try three times what they cannot do without a store."""

STACK = "images"
CANARIES = {
    "POSTGRES_BACKUP_URL": "postgresql://backup:canary-pg@127.0.0.1:1/postgres",
    "CLICKHOUSE_PASSWORD": "canary-clickhouse",
    "MINIO_SECRET_KEY": "canary-minio",
    "BACKUP_SIGNING_KEY": "ca" * 32,
    "LITELLM_MASTER_KEY": "sk-canary",
    "DISCORD_WEBHOOK_URL": "https://discord.com/api/webhooks/1/canary-discord",
}


@dataclass
class Pair:
    """Two containers that started at the same time. early: the first one's log when its gateway answered."""

    first: Container
    second: Container
    early: str
    commands: set[str]


@pytest.fixture(scope="module")
def pair(prefect: Prefect, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both have registered and started their workers."""
    folder = tmp_path_factory.mktemp("containers")
    app = folder / "app"
    image.lay_out(app)
    environment = {
        **prefect.server.client_environment(),
        "STACK_NAME": STACK,
        "MINIO_ENDPOINT": "http://127.0.0.1:1",
        "MINIO_ACCESS_KEY": "key",
        "BACKUP_AGE_RECIPIENTS": "age1y5h5t8g6jcvlz2y6xr6v0lmwxv9p4xwm0mw2kmv2m7vtvz0gkqgsl4v8xq",
        "CLICKHOUSE_HOST": "127.0.0.1",
        **CANARIES,
    }
    _deploy_what_is_left_over(prefect)
    with ExitStack() as ending:
        (folder / "first").mkdir()
        (folder / "second").mkdir()
        first = ending.enter_context(container(folder / "first", environment, root=app))
        early = first.log
        second = ending.enter_context(container(folder / "second", environment, root=app))
        both = Pair(first, second, early, set())

        looked = 0.0

        def started() -> bool:
            nonlocal looked
            if time.monotonic() - looked > 0.5:  # to look at all processes costs more than some of them
                both.commands.update(_commands(first), _commands(second))
                looked = time.monotonic()
            return bool(first.pid("worker") and second.pid("worker"))

        wait_until(started, timeout=600, what="both workers to start")
        yield both


def _deploy_what_is_left_over(prefect: Prefect) -> None:
    """A deployment of an earlier version, and one of somebody else's in the same pool."""
    prefect.api.create_process_pool(DEPLOYED_TO)
    flow_id = prefect.http.post("/flows/", json={"name": "gone"}).raise_for_status().json()["id"]
    pull = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["pull"]
    for name, entrypoint, steps in (("old", "flows/gone.py:gone", pull), ("theirs", "reports/gone.py:gone", [])):
        document = {"name": name, "flow_id": flow_id, "entrypoint": entrypoint, "work_pool_name": DEPLOYED_TO, "path": "."}
        prefect.http.post("/deployments/", json={**document, "pull_steps": steps}).raise_for_status()


def _commands(running: Container) -> Iterator[str]:
    for process in running.processes():
        try:
            yield " ".join(process.cmdline())
        except psutil.Error:
            continue


def test_the_gateway_answers_before_the_registration_is_done(pair: Pair) -> None:
    assert "gateway started" in pair.early
    assert "done:" not in pair.early


def test_two_containers_at_once_register_everything_once(prefect: Prefect, pair: Pair) -> None:
    for running in (pair.first, pair.second):
        log = running.log
        names = ("blocks", "deployments", "deployments of earlier versions", "automations")
        steps = [log.index(f"done: {step} (") for step in names]
        assert max(steps) < log.index("worker started"), log  # one that met a busy server is done again, after the others
    wanted = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    assert {one["work_pool"]["name"] for one in wanted} == {DEPLOYED_TO}
    there = prefect.api.deployments()
    assert ("gone/old" in there, "gone/theirs" in there) == (False, True)
    deleted = "deleted, as prefect.yaml no longer names them: gone/old"
    assert [deleted in running.log for running in (pair.first, pair.second)].count(True) >= 1
    ours = [name for name in there if not name.startswith(("waiting/", "gone/"))]
    assert len(ours) == len(wanted)
    assert {"backup/nightly", "health/sweep", "alert/flow-run"} <= set(ours)
    automations = Counter(one["name"] for one in _asked(prefect, "/automations/filter"))
    assert set(automations.values()) == {1}
    assert len(automations) >= 4
    documents = {one["name"] for one in _asked(prefect, "/block_documents/filter")}
    assert {STACK, f"{STACK}-backup"} <= documents
    assert prefect.http.get(f"/work_pools/{DEPLOYED_TO}").json()["type"] == "process"
    variable = f"/variables/name/{undone_name(DEPLOYED_TO)}"
    wait_until(lambda: prefect.http.get(variable).is_success, timeout=240, what="the last step to fail", pause=1)
    undone = prefect.http.get(variable).json()["value"]
    assert set(undone) == {"unfinished upgrades"}, "there is no store here to look for them"
    assert "canary" not in str(undone)


def test_no_secret_is_in_arguments_or_logs(pair: Pair) -> None:
    said = "\n".join([pair.first.log, pair.second.log, *pair.commands])
    assert "prefect --no-prompt deploy --all" in said
    assert "canary" not in said
    assert CANARIES["BACKUP_SIGNING_KEY"] not in said


def test_block_documents_cannot_be_read_with_the_servers_database_alone(prefect: Prefect, pair: Pair) -> None:
    assert pair.first.process.running
    with closing(sqlite3.connect(f"file:{prefect.server.database}?mode=ro", uri=True)) as database:
        documents = [str(row[0]) for row in database.execute("SELECT data FROM block_document")]
        keys = database.execute("SELECT count(*) FROM configuration WHERE key = 'ENCRYPTION_KEY'").fetchone()
    assert documents
    assert "canary" not in "".join(documents)
    assert keys == (0,), "the key is not beside them"


def test_the_gateway_shows_what_a_sweep_published_and_starts_a_backup(prefect: Prefect, pair: Pair) -> None:
    state = published(now(), {"redis": "down"}, STACK)
    incidents = [told.incident for told in state.open]
    with temporary_settings({PREFECT_API_URL: prefect.server.api_url, PREFECT_API_AUTH_STRING: AUTH}):
        asyncio.run(publish(Outcome(STACK, state.at, 60, state.verdicts, incidents), None))
    gateway, bearer = pair.first.gateway, pair.first.bearer
    wait_until(lambda: "Redis is down" in gateway.get("/", headers=bearer).text, timeout=120, what="the page to show the sweep")
    assert gateway.get("/health").status_code == 503
    prefect.http.patch(f"/work_pools/{DEPLOYED_TO}", json={"is_paused": True}).raise_for_status()
    answer = gateway.post("/backup", headers=bearer)
    assert answer.status_code == 202
    run_id = answer.json()["run_id"]
    assert answer.json()["url"].endswith(f"/runs/flow-run/{run_id}")
    assert "gateway" in prefect.http.get(f"/flow_runs/{run_id}").json()["tags"]


def test_a_container_without_flow_runs_ends_quickly_and_leaves_the_other_alone(pair: Pair) -> None:
    processes = pair.second.processes()
    begun = time.monotonic()
    pair.second.send()
    pair.second.wait_for_end(60)
    assert time.monotonic() - begun < 30
    assert not any(one.is_running() for one in processes)
    assert "; the container ends" not in pair.second.log
    assert pair.first.process.running


def test_a_server_that_refuses_us_and_a_pool_of_another_type_are_said_in_one_line(prefect: Prefect) -> None:
    settings = Settings(prefect_api_url=prefect.server.api_url)
    with PrefectHttp(settings) as stranger, pytest.raises(AccessDenied, match="correct PREFECT_API_AUTH_STRING"):
        stranger.ensure_process_pool("ops")
    known = Settings(prefect_api_url=prefect.server.api_url, prefect_api_auth_string=SecretStr(AUTH))
    prefect.http.post("/work_pools/", json={"name": "ships", "type": "docker"}).raise_for_status()
    with PrefectHttp(known) as api:
        api.ensure_process_pool("new")
        api.ensure_process_pool("new")
        with pytest.raises(SettingsError, match="work pool ships: is of type docker, expected process"):
            api.ensure_process_pool("ships")


def _asked(prefect: Prefect, path: str) -> list[dict[str, Any]]:
    answer = prefect.http.post(path, json={"limit": 200}).raise_for_status()
    found: list[dict[str, Any]] = answer.json()
    return found
