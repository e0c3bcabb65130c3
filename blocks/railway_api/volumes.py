"""Volumes and Railway's backups of them (facts: railway.md 4.2): a quick undo, never the only backup."""

from __future__ import annotations

from typing import Any

from blocks.errors import GuardRefused, RailwayError
from blocks.railway_api import documents
from blocks.railway_api.models import VolumeBackup, VolumeInstance
from blocks.railway_api.session import Session

__all__ = ["Volumes"]


class Volumes(Session):
    """The part of `RailwayApi` about volumes."""

    def create_volume(self, service_id: str, mount_path: str, *, region: str | None = None) -> str:
        """Make a volume and give it to a service, which sees it from its next deployment on. A service has one at most.

        Args:
            mount_path: where the container sees it. region: None for Railway's default, which should be the service's.
        Returns: the volume's id.
        Raises:
            Uncertain: it may have been made: look in `inventory`.
        """
        self.guard(service_id, "a new volume")
        given = {**self._where, "serviceId": service_id, "mountPath": mount_path}
        if region is not None:
            given["region"] = region
        return str(self._do(documents.VOLUME_CREATE, input=given)["id"])

    def delete_volume(self, volume_id: str) -> None:
        """Delete a volume that no service has any more, with its data and its backups; Railway keeps it for 48 hours."""
        attached = next((one.service_id for one in self.inventory().volumes if one.volume_id == volume_id), None)
        if attached:
            raise GuardRefused(
                f"railway: volume {volume_id} was not deleted: {self._name(attached)} has it; delete that service first"
            )
        self._do(documents.VOLUME_DELETE, volumeId=volume_id)

    def volume(self, volume_instance_id: str) -> VolumeInstance:
        """Read one volume of this environment."""
        return VolumeInstance.model_validate(self._run(documents.VOLUME_INSTANCE, id=volume_instance_id)["volumeInstance"])

    def backups(self, volume_instance_id: str) -> list[VolumeBackup]:
        """Read Railway's backups of a volume, the newest first."""
        found = self._run(documents.BACKUPS, volumeInstanceId=volume_instance_id)["volumeInstanceBackupList"]
        return sorted((VolumeBackup.model_validate(one) for one in found), key=lambda one: one.created_at, reverse=True)

    def create_backup(self, volume_instance_id: str, name: str | None = None) -> str:
        """Begin a backup of a volume, as it is at this moment on its disk.

        Returns: the workflow's id, for `wait_for_workflow`; then it stands in `backups` under its name.
        Raises:
            Uncertain: it may have begun: look in `backups`.
        """
        return _workflow(self._do(documents.BACKUP_CREATE, volumeInstanceId=volume_instance_id, name=name))

    def restore_backup(self, volume_instance_id: str, backup_id: str) -> str:
        """Begin a restore. It ends with a fresh volume that is *staged* in the place of the old one: commit it with
        `commit_staged`, which deploys the service. Backups that are newer than this one are lost, the old volume stays.

        Returns: the workflow's id.
        Raises:
            GuardRefused: the service is protected, or somebody has staged changes, which the commit would take along.
        """
        service_id = self.volume(volume_instance_id).service_id
        if service_id:
            self.guard(service_id, "a restore")
        self.need_nothing_staged("this restore")
        return _workflow(self._do(documents.BACKUP_RESTORE, **_of(volume_instance_id, backup_id)))

    def lock_backup(self, volume_instance_id: str, backup_id: str) -> None:
        """Keep a backup for good."""
        self._do(documents.BACKUP_LOCK, **_of(volume_instance_id, backup_id))

    def delete_backup(self, volume_instance_id: str, backup_id: str) -> str:
        """Begin the deletion of a backup.

        Returns: the workflow's id.
        """
        return _workflow(self._do(documents.BACKUP_DELETE, **_of(volume_instance_id, backup_id)))


def _of(volume_instance_id: str, backup_id: str) -> dict[str, str]:
    return {"volumeInstanceId": volume_instance_id, "volumeInstanceBackupId": backup_id}


def _workflow(found: Any) -> str:
    workflow_id = found.get("workflowId") if isinstance(found, dict) else None
    if not workflow_id:
        raise RailwayError(
            "railway: it has begun, but Railway names no workflow to wait for; see the volume's backups", permanent=True
        )
    return str(workflow_id)
