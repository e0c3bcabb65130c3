"""Wheels as the package index has them, made here: of litellm-proxy-extras with some migrations, of a litellm that names it."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

__all__ = ["BASE", "extras", "litellm"]

BASE: Mapping[str, str] = {
    "20250101000000_init": 'CREATE TABLE "LiteLLM_SpendLogs" (request_id text PRIMARY KEY, spend float8, note text);',
    "20250102000000_add keys": """
-- CreateTable
CREATE TABLE "LiteLLM_VerificationToken" (token text PRIMARY KEY);
CREATE INDEX ON "LiteLLM_SpendLogs" (spend);""",
}
"""Two migrations of a small LiteLLM; the folder of one has a space in its name, as one of the real ones has."""


def extras(folder: Path, version: str, migrations: Mapping[str, str]) -> Path:
    """Make a wheel of litellm-proxy-extras.

    Args:
        migrations: script by the name of its folder.
    """
    files = {f"litellm_proxy_extras/migrations/{name}/migration.sql": script for name, script in migrations.items()}
    more = {
        "litellm_proxy_extras/__init__.py": "raise SystemExit('nothing of this is to be executed')",
        "litellm_proxy_extras/migrations/migration_lock.toml": 'provider = "postgresql"',
    }
    return _wheel(folder, "litellm_proxy_extras", version, {**files, **more})


def litellm(folder: Path, version: str, *requires: str) -> Path:
    """Make a wheel of litellm that names what it needs."""
    return _wheel(folder, "litellm", version, {"litellm/__init__.py": ""}, *requires)


def _wheel(folder: Path, name: str, version: str, files: Mapping[str, str], *requires: str) -> Path:
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
    described = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    listed = "".join(f"{path},,\n" for path in [*files, *described, f"{info}/RECORD"])
    file = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in {**files, **described, f"{info}/RECORD": listed}.items():
            archive.writestr(path, text)
    return file
