"""What must be set before anything of the container starts.

Railway keeps the old container while the new one's health check does not answer. So what is wrong in the environment is found
before the gateway is there to answer it: then a mistake in a variable costs a failed deployment, and not the worker.
"""

from __future__ import annotations

from blocks.errors import SettingsError
from blocks.settings import Settings
from railway.worker.steps import DEPLOYED_TO

__all__ = ["refuse_incomplete"]

_NEEDED = ("prefect_api_url", "minio_access_key", "backup_age_recipients")


def refuse_incomplete(settings: Settings) -> None:
    """Refuse settings with which `python -m blocks` could not work, without the seconds that it takes to import Prefect.

    Raises:
        SettingsError: the first that is missing. A worker of another pool registers nothing, so it needs only the server.
    """
    if settings.work_pool != DEPLOYED_TO:
        settings.require("prefect_api_url")
        return
    for name in (*_NEEDED, *(["copy_access_key"] if settings.copy_bucket else [])):
        settings.require(name)
    if settings.backup_signing_key is None and not settings.backup_verify_key:
        raise SettingsError(
            "setting BACKUP_SIGNING_KEY is not set; make one with `openssl rand -hex 32`, or set BACKUP_VERIFY_KEY where no "
            "backups are taken"
        )
