"""The escape hatch: what RESTORE.md and the README tell a person to type restores a set, with standard tools only."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from flows.compare.postgres import compare_database
from flows.restore import clickhouse as on_clickhouse
from shared.engines.postgres import PostgresEngine
from shared.sandbox.stack import ROOT
from tests.nights.night import Night

TOOLS = ("aws", "age", "zstd", "curl", "sha256sum", "jq", "tar")


def missing_tools() -> list[str]:
    """Name the tools that are not there, or do not start."""
    missing = []
    for tool in TOOLS:
        works = shutil.which(tool) and subprocess.run([tool, "--version"], capture_output=True, check=False).returncode == 0
        if not works:
            missing.append(tool)
    return missing


pytestmark = pytest.mark.skipif(bool(missing_tools()), reason=f"not installed: {', '.join(missing_tools())}")


@pytest.fixture
def person(night: Night, tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who has the store's keys, the offline recovery key and a superuser's password."""
    key = tmp_path / "recovery.txt"
    key.write_text(night.sandbox.keys.recovery_identity + "\n", encoding="ascii")
    environment = night.environment
    bin_dir = PostgresEngine.bin_dir_for(night.sandbox.postgres.major)
    return {
        "PATH": f"{bin_dir}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "AGE_KEY": str(key),
        "AWS_ACCESS_KEY_ID": environment["MINIO_ACCESS_KEY"],
        "AWS_SECRET_ACCESS_KEY": environment["MINIO_SECRET_KEY"],
        "AWS_DEFAULT_REGION": environment["BACKUP_REGION"],
        "PGHOST": night.sandbox.postgres.host,
        "PGPORT": str(night.sandbox.postgres.port),
        "PGUSER": "restore",
        "PGPASSWORD": night.sandbox.keys.postgres_passwords["restore"],
        "PGDATABASE": "postgres",
        "CLICKHOUSE_URL": f"http://{night.sandbox.clickhouse.host}:{night.sandbox.clickhouse.port}",
        "CLICKHOUSE_USER": environment["CLICKHOUSE_USER"],
        "CLICKHOUSE_PASSWORD": environment["CLICKHOUSE_PASSWORD"],
    }


def type_commands(lines: list[str], folder: Path, environment: dict[str, str]) -> str:
    """Type commands into a shell, as they stand in the document.

    Left out: exports of things only the reader has, and SQL, which the script's own command for ClickHouse covers.
    """
    typed = [line for line in lines if not line.startswith(("export ", "RESTORE "))]
    script = "set -euo pipefail\n" + "\n".join(typed)
    done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def commands_in(document: str, heading: str) -> list[str]:
    """Return the indented lines below a heading."""
    section = re.split(r"^## ", document, flags=re.MULTILINE)
    body = next(part for part in section if part.startswith(heading))
    return [line[4:] for line in body.splitlines() if line.startswith("    ") and not line.lstrip().startswith("(")]


def drop_restored(night: Night) -> None:
    """Drop what the commands made."""
    with night.clickhouse.client() as client:
        client.command("DROP DATABASE IF EXISTS langfuse_restored SYNC")
    night.execute(
        "DROP DATABASE IF EXISTS litellm_restored WITH (FORCE)", "DROP DATABASE IF EXISTS langfuse_restored WITH (FORCE)"
    )


@pytest.mark.long
def test_the_commands_of_a_sets_own_restore_md_restore_it(night: Night, person: dict[str, str], tmp_path: Path) -> None:
    night.run("backup")
    night.run("backup", {"label": "a difference"})
    manifest = night.newest()
    assert manifest.bases
    document = night.store.get(f"{night.store.root}sets/{manifest.id}/RESTORE.md").decode()
    try:
        output = type_commands(commands_in(document, "In short"), tmp_path, person)
        assert "ok postgres/langfuse.dump.zst.age" in output
        for component in manifest.postgres:
            assert compare_database(night.admin, component, f"{component.name}_restored") == []
        for table_set in manifest.clickhouse:
            found = on_clickhouse.compare(night.clickhouse, table_set, f"{table_set.name}_restored", merged_since=True)
            assert found == []
        folder = tmp_path / "set" / "langfuse_restored"
        objects = {item.key: night.source.get(item.key) for item in night.source.list("")}
        assert {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()} == objects
        drop_restored(night)
        type_commands(commands_in(document, "By hand"), tmp_path, person)
        for component in manifest.postgres:
            found = compare_database(night.admin, component, f"{component.name}_restored")
            assert [d for d in found if d.where.startswith("table")] == []
    finally:
        drop_restored(night)


def test_the_commands_of_the_readme_restore_a_set(night: Night, person: dict[str, str], tmp_path: Path) -> None:
    night.run("backup", {"components": ["postgres/langfuse"]})
    manifest = night.newest()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    values = {
        "S3_ENDPOINT": night.environment["MINIO_ENDPOINT"],
        "SET": f"s3://{night.store.bucket.bucket_name}/{night.store.root}sets/{manifest.id}",
    }
    try:
        type_commands(commands_in(readme, "Restore by hand"), tmp_path, person | values)
        component = manifest.postgres[0]
        found = compare_database(night.admin, component, "langfuse_restored")
        assert [d for d in found if d.where.startswith("table")] == []
    finally:
        drop_restored(night)
