"""The escape hatch in every set: RESTORE.md and restore.sh, which need standard tools and not this project."""

from __future__ import annotations

import shlex
from pathlib import Path

from blocks.object_store import BackupStore
from flows.backup.manifest import ClickHouseDatabase, Manifest, PostgresDatabase
from flows.restore.properties import property_statements

HERE = Path(__file__).parent
PLACEHOLDER = "@@DATABASE@@"
"""Stands for the quoted name of the target database in restore.sh."""


def files(manifest: Manifest, store: BackupStore) -> dict[str, str]:
    """Write the two files for a set.

    Args:
        manifest: all but its extras and signature. store: where the set is; no secret of it is written.
    Returns: text by key below the set.
    """
    prefix = f"{store.root}sets/{manifest.id}/"
    values = {
        "SET_ID": manifest.id,
        "STACK": manifest.stack,
        "CREATED": f"{manifest.created_at:%Y-%m-%d %H:%M}",
        "BUCKET": store.bucket.bucket_name,
        "PREFIX": prefix,
        "REGION": store.region,
        "ENDPOINT": store.endpoint or "",
    }
    return {
        "RESTORE.md": _fill("RESTORE.md", values | _document(manifest, store, prefix)),
        "restore.sh": _fill("restore.sh", {k: shlex.quote(v) for k, v in values.items()} | _script(manifest, store)),
    }


def _fill(name: str, values: dict[str, str]) -> str:
    text = (HERE / name).read_text(encoding="utf-8")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _document(manifest: Manifest, store: BackupStore, prefix: str) -> dict[str, str]:
    option = f" --endpoint-url {store.endpoint}" if store.endpoint else ""
    commands = [
        f"    bash restore.sh {c.kind} {shlex.quote(c.name)} {shlex.quote(_restored(c.name))}" for c in _databases(manifest)
    ]
    by_hand = [
        f"    createdb -T template0 {shlex.quote(_restored(c.name))}\n"
        f"    aws{option} s3 cp s3://{store.bucket.bucket_name}/{prefix}{c.object.key} - \\\n"
        f"      | age -d -i $AGE_KEY | zstd -d | pg_restore --exit-on-error -d {shlex.quote(_restored(c.name))}"
        for c in manifest.postgres
    ]
    return {
        "MAJOR": str(max((c.server_major for c in manifest.postgres), default=16)),
        "RECIPIENTS": "\n".join(f"- `{recipient}`" for recipient in manifest.recipients),
        "ENDPOINT_OPTION": option,
        "COMMANDS": "\n".join(commands),
        "BY_HAND": "\n\n".join(by_hand) or "    (no Postgres database in this set)",
        "NOT_TAKEN": "; ".join(manifest.not_taken) or "Redis (it starts empty)",
    }


def _script(manifest: Manifest, store: BackupStore) -> dict[str, str]:
    databases = [
        (c.name, c.object.key, p.owner, p.encoding, p.locale_provider, p.collate, p.ctype, p.icu_locale or "-")
        for c in manifest.postgres
        for p in (c.properties,)
    ]
    cases = [f"{shlex.quote(c.name)}) cat <<'TEXT'\n{_properties(c)}\nTEXT\n;;" for c in manifest.postgres]
    bases = [(c.name, c.path, f"{store.root}sets/{c.base}/{c.path}" if c.base else "-") for c in manifest.clickhouse]
    return {
        "SUMS": "\n".join(f"{item.sha256} {item.key}" for item in manifest.stored_objects()),
        "POSTGRES": "\n".join("\t".join(row) for row in databases),
        "PROPERTIES": "\n".join(cases) or "*) ;;",
        "CLICKHOUSE": "\n".join("\t".join(row) for row in bases),
    }


def _properties(component: PostgresDatabase) -> str:
    return "\n".join(f"{statement};" for statement in property_statements(component.properties, PLACEHOLDER))


def _databases(manifest: Manifest) -> list[PostgresDatabase | ClickHouseDatabase]:
    return [*manifest.postgres, *manifest.clickhouse]


def _restored(name: str) -> str:
    return f"{name}_restored"
