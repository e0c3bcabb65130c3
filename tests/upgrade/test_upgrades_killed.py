"""Upgrades whose process is killed in the middle: the next one finishes or undoes what it finds."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

import pyrage
import pytest
from pydantic import SecretStr

from blocks.errors import GuardRefused
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore, s3_bucket
from blocks.railway import PROTECTED, RailwayEnvironment
from flows.deploy.present import DEPLOYED
from flows.upgrade.carry_out import upgrade_services
from flows.upgrade.look import Eyes
from flows.upgrade.orders import Kind, UpgradeRequest
from shared.engines.object_store import S3Engine
from shared.engines.process import wait_until
from tests.upgrade.place import FIRST, NEW, PACE, Place, Where, new_image, stack_of
from tests.upgrade.town import Town

pytestmark = pytest.mark.long

NEWER_WORKER = "ghcr.io/acme/operations:0.2.0"


def runs(place: Place) -> str:
    """The worker's image that runs."""
    return place.town.running("prefect-worker")


def upgrade_elsewhere(where: Where, engine: tuple[str, str, str, str], kind: Kind) -> None:
    """What the process does that is killed."""
    endpoint, access, secret, region = engine
    store = BackupStore(bucket=s3_bucket(endpoint, access, SecretStr(secret), "backups", region), stack=where.stack)
    identity = pyrage.x25519.Identity.from_str(where.identity)
    keys = BackupKeys(recipients=[str(identity.to_public())], identity=SecretStr(where.identity))
    block = RailwayEnvironment(**{**where.railway, "token": SecretStr(where.railway["token"])})
    images = {"prefect-worker": NEWER_WORKER} if where.own_service_id else {}
    request = UpgradeRequest(to=NEW[kind], images=images, soak_minutes=0, confirm=where.stack)
    with block.open(allow=PROTECTED) as api:
        eyes = Eyes(stack_of(store, keys, where.own_service_id), api, Town(where.town))
        upgrade_services(eyes, kind, request, pace=PACE)


@contextmanager
def elsewhere(place: Place, s3_engine: S3Engine, own_service: str = "") -> Iterator[BaseProcess]:
    """Upgrade in another process, which is killed after the body."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    engine = (s3_engine.endpoint_url, s3_engine.access_key, s3_engine.secret_key, s3_engine.region)
    place.railway.slow(0.5, times=40, field="deployment")  # what waits for a deployment is caught while it does
    place.railway.slow(0.5, times=40, field="workflowStatus")
    process = context.Process(target=upgrade_elsewhere, args=(place.where(own_service), engine, place.kind), daemon=True)
    process.start()
    try:
        yield process
    finally:
        process.kill()
        process.join()
        place.railway.calm()
    assert process.exitcode == -9, "it had ended by itself"


@pytest.mark.parametrize(
    ("kind", "after", "action"),
    [
        ("litellm", "serviceInstanceUpdate", "finish"),
        ("litellm", "serviceInstanceDeployV2", "undo"),
        ("langfuse", "serviceInstanceDeployV2", "finish"),
        ("langfuse", "serviceInstanceDeployV2", "undo"),
        ("clickhouse", "serviceInstanceDeployV2", "undo"),
        ("redis", "volumeInstanceBackupCreate", "finish"),
        ("minio", "variableCollectionUpsert", "undo"),
        ("prefect", "serviceInstanceDeployV2", "finish"),
    ],
)
def test_what_a_killed_worker_has_begun_the_next_run_finishes_or_undoes(
    tmp_path: Path, store: BackupStore, keys: BackupKeys, s3_engine: S3Engine, kind: Kind, after: str, action: str
) -> None:
    with Place(tmp_path, store, keys, kind) as place:
        before = place.everything()
        asked = len(place.railway.received(after))
        with elsewhere(place, s3_engine) as process:
            wait_until(
                lambda: len(place.railway.received(after)) > asked or not process.is_alive(), timeout=240, what=f"a {after}"
            )
        with pytest.raises(GuardRefused, match=r"action finish \(or undo\)"):
            place.run()
        journal = place.run(action=action)
        assert journal is not None
        if action == "finish":
            assert journal.phase == "done"
            assert place.images()[FIRST[kind]] == (new_image(FIRST[kind], kind),) * 3
        else:
            assert journal.phase == "undone"
            now = place.everything()
            if kind == "litellm":
                now["data"] = before["data"]
            assert now == before


def test_the_worker_is_handed_over_last_and_its_next_start_finishes(
    tmp_path: Path, store: BackupStore, keys: BackupKeys, s3_engine: S3Engine
) -> None:
    """The container that the run works in ends with the deployment that the run asks for."""
    with Place(tmp_path, store, keys, "prefect") as place:
        with elsewhere(place, s3_engine, "prefect-worker") as process:
            wait_until(
                lambda: place.phase() == "handed over" or not process.is_alive(),
                timeout=240,
                what="the worker to be handed over",
            )
            wait_until(lambda: runs(place) == NEWER_WORKER, timeout=60, what="the new worker to run")
        assert [one.service for one in place.runtime.started][-2:] == ["prefect-server", "prefect-worker"]
        journal = place.run("prefect-worker", action="finish")
        assert journal is not None
        assert journal.phase == "done"
        assert place.variables("prefect-worker")[DEPLOYED] not in ("pending", "mark of prefect-worker")
        assert place.run("prefect-worker", action="finish") is None, "and there is nothing left to finish"
