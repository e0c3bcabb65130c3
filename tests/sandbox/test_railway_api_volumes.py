"""Volumes on the Railway stand-in, and their backups: what restoring one does, and what it leaves to do."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from shared.sandbox.railway_api import PLANS, RailwayStandIn
from tests.sandbox.conftest import PATIENT, QUICK
from tests.sandbox.railway_operator import Operator, Refused
from tests.sandbox.railway_processes import ProcessRuntime


def _backups(operator: Operator, volume: str) -> list[dict[str, Any]]:
    document = "query($v: String!) { volumeInstanceBackupList(volumeInstanceId: $v) { id name expiresAt usedMB } }"
    found: list[dict[str, Any]] = operator.ask(document, v=volume)
    return found


def _back_up(operator: Operator, volume: str, name: str) -> str:
    document = "mutation($v: String!, $n: String) { volumeInstanceBackupCreate(volumeInstanceId: $v, name: $n) { workflowId } }"
    begun = operator.ask(document, v=volume, n=name)
    assert operator.finished(begun["workflowId"]) == {"status": "Complete", "error": None}
    return next(str(one["id"]) for one in _backups(operator, volume) if one["name"] == name)


def _restore(operator: Operator, volume: str, backup: str) -> dict[str, Any]:
    begun = operator.call(
        "volumeInstanceBackupRestore",
        "{ workflowId }",
        volumeInstanceId=("String!", volume),
        volumeInstanceBackupId=("String!", backup),
    )
    return operator.finished(begun["workflowId"])


def test_a_workflow_is_not_found_at_first(operator: Operator) -> None:
    _, service = operator.service("app:1", volume=True)
    volume = operator.volume(service)["id"]
    begun = operator.call("volumeInstanceBackupCreate", "{ workflowId }", volumeInstanceId=("String!", volume))["workflowId"]
    assert operator.workflow(begun)["status"] == "NotFound"
    assert operator.workflow("never-begun")["status"] == "NotFound"
    assert operator.finished(begun)["status"] == "Complete"
    assert [one["name"] for one in _backups(operator, volume)] == ["Manual"]


def test_restoring_only_stages_and_whoever_commits_gets_the_old_data(
    fresh: tuple[RailwayStandIn, ProcessRuntime, Operator],
) -> None:
    railway, runtime, operator = fresh
    name, service = operator.service("app:1", volume=True)
    old = operator.volume(service)
    data = railway.volume_directory(name)
    (data / "table").write_text("before")
    (data / "below").mkdir()
    (data / "below" / "file").write_bytes(b"x" * 5000)
    operator.deployed(service)
    good, newer = _back_up(operator, old["id"], "good"), _back_up(operator, old["id"], "newer")
    (data / "table").write_text("after")

    assert _restore(operator, old["id"], good)["status"] == "Complete"
    assert (data / "table").read_text() == "after"
    assert operator.volume(service)["id"] == old["id"]
    assert len(operator.deployments(service)) == 1
    assert operator.environment("unmergedChangesCount")["unmergedChangesCount"] == 1
    assert newer not in [one["id"] for one in _backups(operator, old["id"])]

    operator.call("environmentPatchCommitStaged", environmentId=("String!", railway.environment_id))
    assert operator.settled(operator.deployments(service)[0]["id"]) == "SUCCESS"
    fresh_one = operator.volume(service)
    assert (fresh_one["mountPath"], fresh_one["sizeMB"]) == (old["mountPath"], old["sizeMB"])
    mount = runtime.of(name)[-1].spec.mount
    assert mount is not None
    assert (mount.directory / "table").read_text() == "before"
    assert (mount.directory / "below" / "file").read_bytes() == b"x" * 5000
    left = operator.ask("query($id: String!) { volumeInstance(id: $id) { serviceId state currentSizeMB } }", id=old["id"])
    assert (left["serviceId"], left["state"]) == (None, "READY")
    assert left["currentSizeMB"] > 0
    assert (data / "table").read_text() == "after"


def test_a_restore_needs_room_for_one_more_volume(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("full")
    kind = replace(PATIENT, plan=replace(PLANS["pro"], volumes=1))
    with RailwayStandIn(folder / "railway", ProcessRuntime(folder), pace=QUICK, behaviour=kind) as railway:
        operator = Operator(railway)
        _, service = operator.service("app:1", volume=True)
        volume = operator.volume(service)["id"]
        backup = _back_up(operator, volume, "one")
        assert _restore(operator, volume, backup) == {"status": "Error", "error": "Volume limit of 1 reached for this project"}
        assert operator.environment("unmergedChangesCount")["unmergedChangesCount"] == 0
        with pytest.raises(Refused, match="limit"):
            operator.service("app:1", volume=True)
        operator.close()


def test_a_backup_expires_unless_it_is_locked(fresh: tuple[RailwayStandIn, ProcessRuntime, Operator]) -> None:
    railway, _, operator = fresh
    _, service = operator.service("app:1", volume=True)
    volume = operator.volume(service)["id"]
    kept, _ = _back_up(operator, volume, "kept"), _back_up(operator, volume, "lost")
    assert all(one["expiresAt"] for one in _backups(operator, volume))
    assert operator.call(
        "volumeInstanceBackupLock",
        volumeInstanceId=("String!", volume),
        volumeInstanceBackupId=("String!", kept),
    )
    railway.advance(timedelta(days=200))
    assert [(one["id"], one["expiresAt"]) for one in _backups(operator, volume)] == [(kept, None)]


def test_a_deleted_backup_is_gone(operator: Operator) -> None:
    _, service = operator.service("app:1", volume=True)
    volume = operator.volume(service)["id"]
    backup = _back_up(operator, volume, "short")
    ids = {"volumeInstanceId": volume, "volumeInstanceBackupId": backup}
    gone = operator.ask(
        """mutation($volumeInstanceId: String!, $volumeInstanceBackupId: String!) {
          volumeInstanceBackupDelete(volumeInstanceId: $volumeInstanceId, volumeInstanceBackupId: $volumeInstanceBackupId) {
            workflowId
          }
        }""",
        **ids,
    )
    assert operator.finished(gone["workflowId"])["status"] == "Complete"
    assert _backups(operator, volume) == []
    with pytest.raises(Refused, match="Backup not found"):
        _restore(operator, volume, backup)


def test_the_schedules_of_a_volume_are_replaced_as_a_set(operator: Operator) -> None:
    _, service = operator.service("app:1", volume=True)
    volume = operator.volume(service)["id"]
    document = "query($v: String!) { volumeInstanceBackupScheduleList(volumeInstanceId: $v) { kind retentionSeconds } }"
    for kinds in (["DAILY", "WEEKLY"], ["MONTHLY"]):
        operator.call(
            "volumeInstanceBackupScheduleUpdate",
            volumeInstanceId=("String!", volume),
            kinds=("[VolumeInstanceBackupScheduleKind!]!", kinds),
        )
        assert [one["kind"] for one in operator.ask(document, v=volume)] == kinds


def test_a_volume_grows_by_a_patch_and_never_shrinks(operator: Operator) -> None:
    _, service = operator.service("app:1", volume=True)
    volume = operator.volume(service)
    operator.commit({"volumes": {volume["volumeId"]: {"sizeMB": volume["sizeMB"] + 1000}}})
    assert operator.volume(service)["sizeMB"] == volume["sizeMB"] + 1000
    with pytest.raises(Refused, match="smaller"):
        operator.commit({"volumes": {volume["volumeId"]: {"sizeMB": volume["sizeMB"]}}})


def test_a_service_with_a_volume_has_no_replicas(operator: Operator) -> None:
    _, service = operator.service("app:1", volume=True)
    with pytest.raises(Refused, match="cannot have replicas"):
        operator.update(service, numReplicas=2)
    with pytest.raises(Refused, match="cannot have replicas"):
        operator.commit(
            {"services": {service: {"deploy": {"multiRegionConfig": {"europe-west4-drams3a": {"numReplicas": 2}}}}}}
        )


def test_a_service_has_one_volume_and_a_deleted_service_leaves_it(
    fresh: tuple[RailwayStandIn, ProcessRuntime, Operator],
) -> None:
    railway, _, operator = fresh
    name, service = operator.service("app:1", volume=True)
    data = railway.volume_directory(name)
    (data / "file").write_text("x")
    where = {**operator.ids, "serviceId": service, "mountPath": "/more"}
    with pytest.raises(Refused, match="already has a volume"):
        operator.call("volumeCreate", "{ id }", input=("VolumeCreateInput!", where))
    operator.call("serviceDelete", id=("String!", service), environmentId=("String", railway.environment_id))
    edges = operator.environment("volumeInstances { edges { node { serviceId } } }")["volumeInstances"]["edges"]
    assert [one["node"]["serviceId"] for one in edges] == [None]
    assert (data / "file").exists()


def test_the_data_of_volumes_outlives_the_stand_in(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("outlive")
    with RailwayStandIn(folder / "railway", ProcessRuntime(folder), pace=QUICK, behaviour=PATIENT) as railway:
        operator = Operator(railway)
        name, _ = operator.service("app:1", volume=True)
        data = railway.volume_directory(name)
        (data / "file").write_text("x")
        operator.close()
    assert (data / "file").read_text() == "x"
    railway.wipe()
    assert not data.exists()
