"""What `prefect deploy --all` has registered, kept for the next sandbox: it costs 0.3 s of processor time a deployment.

Kept are flows, deployments, their schedules and limits, the work pool, and types of blocks. Of the tables with secrets, runs or
state none is copied. A sandbox of other flows, other deployments or another Prefect registers anew.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from shared.sandbox.prefect_server import keep_copy

__all__ = ["digest_of", "keep_registered"]

_TABLES = (
    *("block_type", "block_schema", "block_schema_reference"),
    *("flow", "work_pool", "work_queue", "concurrency_limit_v2"),
    *("deployment", "deployment_schedule", "deployment_version"),
)


def digest_of(deployments: Path, sources: Iterable[Path], version: str) -> str:
    """Recognise what would be registered, in 16 hex digits.

    Args:
        deployments: the file that names them. sources: folders and files that parameters' schemas come from.
        version: of Prefect.
    """
    digest = hashlib.sha256(f"{version}\n".encode())
    digest.update(deployments.read_bytes())
    for source in sources:
        for path in sorted(source.rglob("*.py")) if source.is_dir() else [source]:
            digest.update(f"\n{path.relative_to(source.parent)}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def keep_registered(database: Path, empty: Path, kept: Path) -> None:
    """Copy what is registered, and nothing else, into a database that a server can begin with.

    Args:
        database: of a server that began with `empty`, and may run. kept: the copy; whoever looks for it finds all of it, or
            nothing. Others of its kind are deleted: the flows that they are of are no more.
    """
    draft, source = (kept.with_suffix(f".{secrets.token_hex(8)}.{name}") for name in ("new", "from"))
    try:
        keep_copy(database, source)
        shutil.copyfile(empty, draft)
        with closing(sqlite3.connect(draft)) as target:
            target.execute("ATTACH ? AS used", [str(source)])
            with target:
                for table in _TABLES:
                    target.execute(f"INSERT OR IGNORE INTO main.{table} SELECT * FROM used.{table}")
        draft.replace(kept)
    finally:
        for path in (draft, source):
            path.unlink(missing_ok=True)
    for other in kept.parent.glob(f"registered-*{kept.suffix}"):
        if other != kept:
            other.unlink(missing_ok=True)
