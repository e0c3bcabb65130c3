"""Volumes, their backups, and what restoring one really does (facts: railway.md 2.5, 4.2, 7)."""

from __future__ import annotations

import shutil
from datetime import timedelta

from shared.sandbox.railway_api.access import ApiError
from shared.sandbox.railway_api.configuration import merged
from shared.sandbox.railway_api.disk import copy_tree, megabytes
from shared.sandbox.railway_api.model import Environment, Project, Volume, VolumeBackup, VolumeInstance
from shared.sandbox.railway_api.platform import REGION, Platform

__all__ = ["add_volume_instance", "back_up", "create_volume", "delete_backup", "delete_volume", "find_backup", "restore"]

_MANUAL_BACKUP_KEPT = timedelta(days=90)  # that it expires is seen, not documented; the days are ours


def create_volume(
    platform: Platform, project: Project, service_name: str | None = None, volume_id: str | None = None
) -> Volume:
    """The definition of a volume.

    Raises:
        ApiError: the plan gives no further one.
    """
    most = platform.behaviour.plan.volumes
    if len(project.volumes) >= most:
        raise ApiError(f"Volume limit of {most} reached for this project")
    name = f"{service_name or 'volume'}-volume-{len(project.volumes) + 1}"
    volume = Volume(name=name, project_id=project.id, created_at=platform.clock.now())
    volume.id = volume_id or volume.id
    project.volumes[volume.id] = volume
    return volume


def add_volume_instance(
    platform: Platform, environment: Environment, volume: Volume, *, mount_path: str, service_id: str | None
) -> VolumeInstance:
    """The volume in an environment, empty.

    Raises:
        ApiError: the service has one already: it can have one only.
    """
    if service_id is not None and environment.volume_of(service_id) is not None:
        raise ApiError("Service already has a volume attached")
    one = VolumeInstance(
        volume_id=volume.id,
        environment_id=environment.id,
        directory=platform.directory,
        mount_path=mount_path,
        service_id=service_id,
        size_mb=platform.behaviour.plan.volume_mb,
        region=REGION,
        created_at=platform.clock.now(),
    )
    one.directory = platform.directory / "volumes" / one.id
    one.directory.mkdir(parents=True)
    environment.volumes[one.id] = one
    return one


def delete_volume(platform: Platform, project: Project, volume: Volume) -> None:
    """Delete a volume with its data and its backups, in every environment."""
    for environment in project.environments.values():
        for one in [one for one in environment.volumes.values() if one.volume_id == volume.id]:
            del environment.volumes[one.id]
            platform.machine.spawn(lambda one=one: _remove(one))  # type: ignore[misc]
    project.volumes.pop(volume.id, None)


def _remove(one: VolumeInstance) -> None:
    for directory in (one.directory, *(backup.directory for backup in one.backups)):
        shutil.rmtree(directory, ignore_errors=True)


def find_backup(one: VolumeInstance, backup_id: str) -> VolumeBackup:
    """A backup of a volume.

    Raises:
        ApiError: it has none of that id.
    """
    found = next((backup for backup in one.backups if backup.id == backup_id), None)
    if found is None:
        raise ApiError("Backup not found")
    return found


def back_up(platform: Platform, one: VolumeInstance, name: str | None) -> None:
    """Copy a volume, files in use or not: at best, what comes back is what a crash leaves. The platform copies all at one
    moment; here, what an engine writes meanwhile may be torn.

    Raises:
        ApiError: its data is more than half of its size.
    """
    used = megabytes(one.directory)
    if used > one.size_mb / 2:
        raise ApiError("Manual backups are limited to 50% of the volume size")
    now = platform.clock.now()
    backup = VolumeBackup(
        name=name or "Manual",
        directory=platform.directory / "backups",
        used_mb=used,
        expires_at=now + _MANUAL_BACKUP_KEPT,
        created_at=now,
    )
    backup.directory /= backup.id
    copy_tree(one.directory, backup.directory)
    with platform.lock:
        one.backups.append(backup)


def delete_backup(platform: Platform, one: VolumeInstance, backup: VolumeBackup) -> None:
    """Delete a backup."""
    shutil.rmtree(backup.directory, ignore_errors=True)
    with platform.lock:
        one.backups = [other for other in one.backups if other is not backup]


def restore(platform: Platform, environment: Environment, one: VolumeInstance, backup: VolumeBackup) -> None:
    """Copy a backup to a fresh volume and stage that the service uses it.

    Nothing has changed for the service until somebody commits the staged changes. The old volume stays and counts; backups
    newer than this one are gone.

    Raises:
        ApiError: the project may have no further volume.
    """
    with platform.lock:
        project = platform.project_of(environment)
        service = project.services.get(one.service_id or "")
        volume = create_volume(platform, project, service.name if service else None)
        fresh = add_volume_instance(platform, environment, volume, mount_path=one.mount_path, service_id=None)
        fresh.size_mb, fresh.state = one.size_mb, "RESTORING"
    fresh.directory.rmdir()
    copy_tree(backup.directory, fresh.directory)
    with platform.lock:
        fresh.state = "READY"
        newer = [other for other in one.backups if other.created_at > backup.created_at]
        one.backups = [other for other in one.backups if other not in newer]
        if one.service_id is not None:
            mounts = {one.volume_id: None, volume.id: {"mountPath": one.mount_path}}
            environment.staged = merged(environment.staged, {"services": {one.service_id: {"volumeMounts": mounts}}})
    for other in newer:
        shutil.rmtree(other.directory, ignore_errors=True)
