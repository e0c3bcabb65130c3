"""The environment that programs of the project find in a sandbox: every variable that `blocks/settings.py` asks for."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from shared.engines.postgres import client_bin_dirs
from shared.sandbox.postgres_roles import DATABASES

if TYPE_CHECKING:
    from shared.sandbox.stack import Sandbox

__all__ = ["ROOT", "as_shell", "variables"]

ROOT = Path(__file__).resolve().parents[2]
"""The repository."""

_MACHINE = {"PATH", "HOME", "LANG", "TMPDIR"}


def variables(sandbox: Sandbox) -> dict[str, str]:
    """All variables but Prefect's own, PATH and HOME among them: nothing else needs to be inherited. Has secrets.

    Args:
        sandbox: its engines exist; they need not run.
    """
    keys = sandbox.keys
    return {
        "DO_NOT_TRACK": "1",
        "OPS_HOME": str(ROOT),
        "PYTHONPATH": str(ROOT),
        "STACK_NAME": sandbox.stack_name,
        "POSTGRES_BACKUP_URL": sandbox.postgres_url("backup"),
        "POSTGRES_RESTORE_URL": sandbox.postgres_url("restore"),
        "POSTGRES_DATABASES": ",".join(DATABASES),
        "POSTGRES_BIN_DIRS": ",".join(str(path) for path in client_bin_dirs().values()),
        "CLICKHOUSE_HOST": sandbox.clickhouse.host,
        "CLICKHOUSE_PORT": str(sandbox.clickhouse.port),
        "CLICKHOUSE_USER": sandbox.clickhouse.user,
        "CLICKHOUSE_PASSWORD": sandbox.clickhouse.password,
        "CLICKHOUSE_DB": sandbox.clickhouse_database,
        "REDIS_URL": sandbox.redis.url,
        "MINIO_ENDPOINT": sandbox.store.endpoint_url,
        "MINIO_ACCESS_KEY": sandbox.bucket,
        "MINIO_SECRET_KEY": keys.store_secret_key,
        "BACKUP_BUCKET": sandbox.bucket,
        "BACKUP_REGION": sandbox.store.region,
        "SOURCE_BUCKETS": sandbox.source_bucket,
        "SOURCE_ACCESS_KEY": sandbox.source_bucket,
        "SOURCE_SECRET_KEY": keys.source_secret_key,
        "COPY_ENDPOINT": sandbox.second_store.endpoint_url,
        "COPY_BUCKET": sandbox.copy_bucket,
        "COPY_ACCESS_KEY": sandbox.copy_bucket,
        "COPY_SECRET_KEY": keys.copy_secret_key,
        "BACKUP_AGE_RECIPIENTS": ",".join(keys.recipients),
        "BACKUP_AGE_IDENTITY": keys.drill_identity,
        "BACKUP_SIGNING_KEY": keys.signing_key,
        "BACKUP_VERIFY_KEY": keys.verify_key,
        "LITELLM_SALT_KEY": keys.litellm_salt_key,
        "ENCRYPTION_KEY": keys.encryption_key,
        "REGISTRY_URL": sandbox.registry.url,
        **({} if sandbox.applications is None else sandbox.applications.environment()),
        "DRILL_DIRECTORY": str(sandbox.directory / "drill"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "HOME": str(sandbox.directory / "home"),
        "TMPDIR": str(sandbox.directory / "tmp"),
        "LANG": "C.UTF-8",
    }


def as_shell(environment: Mapping[str, str]) -> str:
    """`export` lines to be sourced in an interactive shell, whose PATH, HOME and the like stay as they are."""
    names = sorted(environment.keys() - _MACHINE)
    return "".join(f"export {name}={shlex.quote(environment[name])}\n" for name in names)
