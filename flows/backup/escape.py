"""The escape hatch in every set: RESTORE.md and restore.sh, which need standard tools and not this project."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from blocks.object_store import BackupStore
from flows.backup.manifest import ClickHouseDatabase, Manifest, PostgresDatabase
from flows.restore.properties import property_statements

HERE = Path(__file__).parent
TARGET = ':"target"'
"""What psql replaces by the quoted name of the target database; it leaves what is inside quotes alone."""
_FIELD = re.compile(r"@([A-Z_]+)@")


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
        "restore.sh": _fill("restore.sh", {name: _quoted(value) for name, value in values.items()} | _script(manifest, store)),
    }


def _fill(name: str, values: Mapping[str, str]) -> str:
    text = (HERE / name).read_text(encoding="utf-8")
    return _FIELD.sub(lambda field: values[field[1]], text)  # in one pass: values may look like fields


def _document(manifest: Manifest, store: BackupStore, prefix: str) -> dict[str, str]:
    option = f" --endpoint-url {shlex.quote(store.endpoint)}" if store.endpoint else ""
    commands = [
        f"    bash restore.sh {c.kind} {shlex.quote(c.name)} {shlex.quote(_restored(c.name))}"
        for c in [*_databases(manifest), *manifest.buckets]
    ]
    by_hand = [
        f"    createdb -T template0 -- {shlex.quote(_restored(c.name))}\n"
        f"    aws{option} s3 cp {shlex.quote(f's3://{store.bucket.bucket_name}/{prefix}{c.object.key}')} - \\\n"
        f'      | age -d -i "$AGE_KEY" | zstd -d | pg_restore --exit-on-error -d {shlex.quote(_conninfo(_restored(c.name)))}'
        for c in manifest.postgres
    ]
    by_hand += [f"    {statement};" for c in manifest.clickhouse for statement in _clickhouse(c, store, prefix)]
    return {
        "MAJOR": str(max((c.server_major for c in manifest.postgres), default=16)),
        "RECIPIENTS": "\n".join(f"- `{recipient}`" for recipient in manifest.recipients),
        "ENDPOINT_OPTION": option,
        "COMMANDS": "\n".join(commands),
        "BY_HAND": "\n\n".join(by_hand) or "    (no database in this set)",
        "NOTES": "\n".join(f"- {' '.join(note.split())}" for note in _notes(manifest)),
    }


def _clickhouse(component: ClickHouseDatabase, store: BackupStore, prefix: str) -> Iterator[str]:
    """Yield the SQL that restores a ClickHouse database, and gives again what RESTORE forgets."""
    root = f"{store.endpoint or f'https://s3.{store.region}.amazonaws.com'}/{store.bucket.bucket_name}"
    target = _backticked(_restored(component.name))
    base = f" SETTINGS base_backup = S3('{root}/{_base(component, store)}', '...', '...')" if component.base else ""
    yield (
        f"RESTORE DATABASE {_backticked(component.name)} AS {target} "
        f"FROM S3('{root}/{prefix}{component.path}', '...', '...'){base}"
    )
    for table in component.tables:
        for command in table.pending_mutations:
            yield f"ALTER TABLE {target}.{_backticked(table.name)} {command}"


def _databases(manifest: Manifest) -> list[PostgresDatabase | ClickHouseDatabase]:
    return [*manifest.postgres, *manifest.clickhouse]


def _notes(manifest: Manifest) -> Iterator[str]:
    for component in manifest.clickhouse:
        if component.base:
            yield f"The ClickHouse database {component.name} is a difference to set {component.base}: keep that set too."
    for bucket in manifest.buckets:
        yield (
            f"Objects of bucket {bucket.name}: `restore.sh bucket` puts them into a folder; `aws s3 sync` sends them back. "
            "Its index says for each key which member of which pack it is; keys that are no safe file names lie in `odd/`."
        )
    for what in manifest.not_taken:
        yield f"Not in this set: {what}."
    yield "Not in this set: Redis (it starts empty)."


def _script(manifest: Manifest, store: BackupStore) -> dict[str, str]:
    postgres = [
        (c.name, c.object.key, p.owner, p.encoding, p.locale_provider, p.collate, p.ctype, p.icu_locale or "")
        for c in manifest.postgres
        for p in (c.properties,)
    ]
    clickhouse = [(c.name, c.path, _base(c, store)) for c in manifest.clickhouse]
    return {
        "OBJECTS": _calls((item.sha256, item.key) for item in manifest.stored_objects()),
        "POSTGRES": _calls(postgres),
        "CLICKHOUSE": _calls(clickhouse),
        "BUCKETS": _calls((c.name, c.index.key, c.packs.key) for c in manifest.buckets),
        "PROPERTIES": "\n".join(_case(c) for c in manifest.postgres) or "    *) ;;",
    }


def _calls(rows: Iterable[tuple[str, ...]]) -> str:
    return "\n".join(f'  "$@" {" ".join(_quoted(cell) for cell in row)}' for row in rows)


def _case(component: PostgresDatabase) -> str:
    sql = "\n".join(f"{statement};" for statement in property_statements(component.properties, TARGET))
    end = "SQL"
    while end in sql.splitlines():  # a comment on a database may hold anything, and must not end the text
        end += "_"
    return f"    {_quoted(component.name)}) cat <<'{end}'\n{sql}\n{end}\n    ;;"


def _base(component: ClickHouseDatabase, store: BackupStore) -> str:
    return f"{store.root}sets/{component.base}/{component.path}" if component.base else ""


def _quoted(text: str) -> str:
    """Quote for the shell, always: `esac` unquoted would be a word of the language."""
    return "'" + text.replace("'", "'\\''") + "'"


def _backticked(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def _conninfo(name: str) -> str:
    """Return the name as it is, or as a connection string where libpq would take it for one."""
    if "=" not in name and not name.startswith(("postgres://", "postgresql://")):
        return name
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"


def _restored(name: str) -> str:
    return f"{name}_restored"
