"""Is a Postgres database what the manifest says? Every difference by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from psycopg import Connection, IsolationLevel
from psycopg.rows import TupleRow

from blocks.postgres import PINNED, PostgresServer, explained
from flows.backup.manifest import DatabaseProperties, LargeObjects, PostgresDatabase, SequenceBounds, TableContent
from flows.compare.differences import Difference, compare_mappings
from flows.compare.postgres_catalogue import catalogue
from flows.compare.postgres_content import large_objects, list_tables, sequence_positions, table_contents
from flows.compare.postgres_properties import database_properties, extensions

SAME_EVERYWHERE = ("grant on ", "default grant ", "comment on ")
"""What reads the same on every major version; the text of a definition may be printed in another way by a newer server."""


def compare_database(
    server: PostgresServer,
    component: PostgresDatabase,
    database: str,
    *,
    elsewhere: bool = False,
    connections: int = 2,
    parallel_workers: int = 1,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Difference]:
    """Compare a database that nobody writes to with what the manifest says.

    Compared are rows and checksums of every table, large objects, sequences, every definition, owner, grant and comment,
    extensions, and the database's own properties. On another major version than the backup's, definitions are only compared
    by their existence.

    Args:
        server: as a role that can read everything. component: what the manifest says. database: the copy's name.
        elsewhere: the copy is on another server, which may lack the locale and may have other versions of the extensions.
        connections: tables read at once. parallel_workers: further server processes for each large table.
    Returns: the differences, none when the copy is proven.
    Raises:
        ServiceError: the server broke off. AccessDenied: the role may not read something.
    """
    settings = PINNED | {"max_parallel_workers_per_gather": str(parallel_workers)}
    with ExitStack() as stack, explained(database, "compare"):
        readers = [
            stack.enter_context(server.connect(database, settings=settings, autocommit=False)) for _ in range(connections)
        ]
        for reader in readers:
            reader.isolation_level = IsolationLevel.REPEATABLE_READ
            reader.read_only = True
        return find_differences(readers, component, elsewhere=elsewhere, progress=progress)


def find_differences(
    readers: Sequence[Connection[TupleRow]],
    component: PostgresDatabase,
    *,
    elsewhere: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Difference]:
    """Compare what some connections see with what the manifest says.

    Args:
        readers: with the settings `blocks.postgres.PINNED`, in transactions. The others are those of `compare_database`.
    Raises:
        psycopg.Error: as the server said.
    """
    name, first = f"postgres {component.name}", readers[0]
    checksums = any(table.method == "full" for table in component.tables)
    tables = table_contents(readers, list_tables(first), checksums=checksums, progress=progress)
    return [
        *compare_tables(name, component.tables, tables),
        *compare_large_objects(name, component.large_objects, large_objects(first)),
        *compare_sequences(name, component.sequences, sequence_positions(first)),
        *compare_catalogues(
            name,
            component.catalogue,
            catalogue(first),
            same_major=first.info.server_version // 10000 == component.server_major,
        ),
        *compare_extensions(name, component.extensions, extensions(first), elsewhere=elsewhere),
        *compare_properties(name, component.properties, database_properties(first, first.info.dbname), elsewhere=elsewhere),
    ]


def compare_tables(name: str, expected: list[TableContent], found: list[TableContent]) -> list[Difference]:
    """Compare the content of tables."""
    return compare_mappings(name, "table", {t.name: _content(t) for t in expected}, {t.name: _content(t) for t in found})


def compare_large_objects(name: str, expected: LargeObjects, found: LargeObjects) -> list[Difference]:
    """Compare the large objects, taken together."""
    if expected == found:
        return []
    shown = [f"{objects.count} with checksum {objects.checksum}" for objects in (expected, found)]
    return [Difference(name, "large objects", *shown)]


def compare_sequences(name: str, expected: list[SequenceBounds], found: dict[str, tuple[int, int]]) -> list[Difference]:
    """Compare sequences: each must stand where it stood at some time during the dump."""
    differences = []
    for sequence in expected:
        position = found.get(sequence.name, (None, 0))[0]
        if position is None or not within(sequence, position):
            bounds = str(sequence.low) if sequence.low == sequence.high else f"between {sequence.low} and {sequence.high}"
            shown = "nothing" if position is None else f"next value {position}"
            differences.append(Difference(name, f"sequence {sequence.name}", f"next value {bounds}", shown))
    unknown = sorted(found.keys() - {sequence.name for sequence in expected})
    return differences + [Difference(name, f"sequence {s}", "nothing", f"next value {found[s][0]}") for s in unknown]


def within(bounds: SequenceBounds, position: int) -> bool:
    """Say whether a sequence may have stood at `position` between the two readings.

    A descending one is read backwards. One that wrapped around (CYCLE) or was set back between the readings was beyond one of
    the bounds, on the outer side.
    """
    sign = 1 if bounds.increment > 0 else -1
    low, high, at = bounds.low * sign, bounds.high * sign, position * sign
    return low <= at <= high if low <= high else at >= low or at <= high


def compare_catalogues(name: str, expected: dict[str, str], found: dict[str, str], *, same_major: bool) -> list[Difference]:
    """Compare every definition, owner, grant and comment."""
    if not same_major:
        expected, found = _portable(expected), _portable(found)
    return compare_mappings(name, "", expected, found)


def compare_extensions(name: str, expected: dict[str, str], found: dict[str, str], *, elsewhere: bool) -> list[Difference]:
    """Compare extensions and, on the same server, their versions."""
    if elsewhere:
        expected, found = dict.fromkeys(expected, "present"), dict.fromkeys(found, "present")
    return compare_mappings(name, "extension", expected, found)


def compare_properties(
    name: str, expected: DatabaseProperties, found: DatabaseProperties, *, elsewhere: bool
) -> list[Difference]:
    """Compare what belongs to the database as a whole."""
    locale = {"locale_provider", "collate", "ctype", "icu_locale"} if elsewhere else set()
    left, right = expected.model_dump(exclude=locale), found.model_dump(exclude=locale)
    flat_left = {key.replace("_", " "): _flat(value) for key, value in left.items()}
    flat_right = {key.replace("_", " "): _flat(value) for key, value in right.items()}
    return compare_mappings(name, "database", flat_left, flat_right)


def _content(table: TableContent) -> str:
    return f"{table.rows} rows" + (f" with checksum {table.checksum}" if table.method == "full" else "")


def _portable(entries: dict[str, str]) -> dict[str, str]:
    """Reduce a catalogue to what is the same on every major version; the privilege MAINTAIN is new in 17."""
    reduced = {key: text if key.startswith(SAME_EVERYWHERE) else "present" for key, text in entries.items()}
    for key in [key for key in reduced if key.startswith(("grant on ", "default grant "))]:
        reduced[key] = ", ".join(item for item in reduced[key].split(", ") if "MAINTAIN" not in item)
    return {key: text for key, text in reduced.items() if text}


def _flat(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{key}: {_flat(item)}" for key, item in sorted(value.items())) or "none"
    return str(value)
