"""Which table or partition of a set is meant: names as people write them, and near names where there is no such one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from blocks.errors import RestoreRefused, SettingsError
from flows.backup.clickhouse_files import Index
from flows.backup.manifest import ClickHouseDatabase, ClickHouseTable, Manifest, PostgresDatabase

SHOWN = 3
PARTS = re.compile(r'"(?:[^"]|"")*"|`(?:[^`\\]|\\.)*`|[^."`]+')
_KINDS = ("table", "partitioned table", "view", "materialized view", "sequence", "foreign table", "type")


@dataclass(frozen=True)
class PostgresChoice:
    """A table of a Postgres database.

    Attributes:
        component: the database. table: qualified and quoted as Postgres prints it.
    """

    component: PostgresDatabase
    table: str


@dataclass(frozen=True)
class ClickHouseChoice:
    """A table of a ClickHouse database, or one partition of it.

    Attributes:
        component: the database. table: what the manifest says of it. partition: its id; empty for the whole table.
        rows, checksum: what the backup holds of it; the checksum is empty where it cannot be compared.
    """

    component: ClickHouseDatabase
    table: ClickHouseTable
    partition: str = ""
    rows: int = 0
    checksum: str = ""


def component_of(manifest: Manifest, name: str) -> PostgresDatabase | ClickHouseDatabase:
    """Find a database in a set.

    Args:
        name: `postgres/litellm` or `clickhouse/langfuse`.
    Raises:
        SettingsError: it is not such a name. RestoreRefused: the set holds no such database; says which it holds.
    """
    kind, slash, database = name.partition("/")
    if kind not in ("postgres", "clickhouse") or not slash or not database:
        raise SettingsError(f"component {name!r}: expected one database, such as postgres/litellm or clickhouse/langfuse")
    databases: list[PostgresDatabase | ClickHouseDatabase] = [*manifest.postgres, *manifest.clickhouse]
    held = {f"{component.kind}/{component.name}": component for component in databases}
    if name not in held:
        raise RestoreRefused(f"set {manifest.id} holds no {name}; it holds: {', '.join(sorted(held)) or 'nothing'}")
    return held[name]


def postgres_table(component: PostgresDatabase, wanted: str) -> PostgresChoice:
    """Find a table by the name a person gives it: quoted or not, with or without its schema.

    Raises:
        SettingsError: no table was named.
        RestoreRefused: there is no such table, several fit, or it is something without rows; says what there is.
    """
    where = f"postgres {component.name}"
    relations = dict(_relations(component.catalogue))
    found = _named(relations, wanted, where)
    kind = relations[found]
    if kind not in ("table", "partitioned table"):
        raise RestoreRefused(f"{where}: {found} is a {kind} and holds no rows in the backup; name the tables that it reads")
    return PostgresChoice(component, found)


def clickhouse_table(component: ClickHouseDatabase, wanted: str) -> ClickHouseChoice:
    """Find a table by name, with or without its database's.

    Raises:
        SettingsError: no table was named.
        RestoreRefused: there is no such table, or it is something without rows of its own.
    """
    where = f"clickhouse {component.name}"
    tables = {table.name: table for table in component.tables}
    table = tables[wanted if wanted in tables else _named(tables, wanted, where, component.name)]
    if table.engine == "MaterializedView" and table.has_data:
        raise RestoreRefused(
            f"{where}: {table.name} is a materialised view that keeps its rows in a hidden table, which cannot be restored "
            f"without what it reads; restore clickhouse/{component.name} as a whole"
        )
    if not table.has_data:
        raise RestoreRefused(f"{where}: {table.name} ({table.engine}) holds no rows of its own; name the tables that it reads")
    content = table.content
    full = content is not None and content.method == "full"
    return ClickHouseChoice(
        component, table, rows=content.rows if content else 0, checksum=content.checksum if content and full else ""
    )


def partition_of(choice: ClickHouseChoice, index: Index, wanted: str, live: dict[str, str]) -> ClickHouseChoice:
    """Find a partition by its id, or by its value as ClickHouse prints it, and what the backup's parts of it hold together.

    Args:
        index: of the backup. wanted: id or value. live: id -> value of the partitions that the live table has now.
    Raises:
        RestoreRefused: the set has no such partition; names near ones.
    """
    where = f"clickhouse {choice.component.name}: {choice.table.name}"
    recorded = index.tables.get(choice.table.name)
    if recorded is None:
        raise RestoreRefused(f"{where} ({choice.table.engine}) has no partitions; leave partition empty")
    ids = {_partition_id(part) for part in recorded.parts}
    values = {value: partition for partition, value in live.items()}
    found = wanted if wanted in ids else values.get(wanted, values.get(f"'{wanted}'", ""))
    if found not in ids:
        near = nearest(wanted, [*ids, *(value for value, partition in values.items() if partition in ids)])
        raise RestoreRefused(f"{where}: the set has no partition {wanted!r}; it has, for example: {near}")
    parts = [part for name, part in recorded.parts.items() if _partition_id(name) == found]
    rows, checksum = sum(part.rows for part in parts), sum(int(part.checksum) for part in parts) % (1 << 64)
    return ClickHouseChoice(choice.component, choice.table, found, rows, str(checksum))


def nearest(wanted: str, names: Collection[str]) -> str:
    """Name those that are most like what a person wrote, or any where none is."""
    folded = {name.casefold().replace('"', ""): name for name in names}
    close = difflib.get_close_matches(wanted.casefold().replace('"', ""), folded, n=SHOWN, cutoff=0.4)
    return ", ".join([folded[name] for name in close] or sorted(names)[:SHOWN]) or "nothing"


def _named(names: Iterable[str], wanted: str, where: str, database: str = "") -> str:
    """Find a name as a person writes it: exactly as printed, or without quotes, or its last part alone.

    Args:
        database: what may stand before the name of a ClickHouse table; empty where the names have schemas.
    """
    names = list(names)
    if not wanted.strip():
        raise SettingsError(f"{where}: no table was named; set table, for example to {nearest('', names)}")
    if wanted in names:
        return wanted
    steps = split(wanted)
    if database:
        found = [name for name in names if [database, name] == steps or [name] == steps]
    else:
        found = [name for name in names if split(name) == steps or split(name)[-1:] == steps]
    if len(found) > 1:
        raise RestoreRefused(f"{where}: {wanted} fits {' and '.join(sorted(found))}; name the one that is meant")
    if not found:
        raise RestoreRefused(f"{where}: the set has no table {wanted}; near names are: {nearest(wanted, names)}")
    return found[0]


def split(name: str) -> list[str]:
    """Take a qualified name apart, quotes removed.

    >>> split('public."LiteLLM_SpendLogs"'), split("public.LiteLLM_SpendLogs"), split('a."b.c"')
    (['public', 'LiteLLM_SpendLogs'], ['public', 'LiteLLM_SpendLogs'], ['a', 'b.c'])
    """
    return [_bare(part) for part in PARTS.findall(name.strip())]


def _bare(part: str) -> str:
    if part.startswith('"'):
        return part[1:-1].replace('""', '"')
    return part[1:-1] if part.startswith("`") else part


def _partition_id(part: str) -> str:
    """Return the partition of a part: parts are named `<partition id>_<from>_<to>_<level>`, and ids have no underscore."""
    return part.split("_", 1)[0]


def _relations(catalogue: dict[str, str]) -> Iterable[tuple[str, str]]:
    """Yield name and kind of every relation that a manifest's catalogue describes."""
    for key in catalogue:
        kind = next((kind for kind in sorted(_KINDS, key=len, reverse=True) if key.startswith(f"{kind} ")), None)
        if kind in _KINDS and kind not in ("sequence", "type"):
            yield key.removeprefix(f"{kind} "), kind
