"""One table of a dump, restored into a database of its own, compared, and brought into the live database beside the live table.

The side database has everything the table may depend on, so the dump's own statements work there. From it the table alone, with
its constraints and indexes, goes through pipes into a schema of the live database; foreign keys, triggers and defaults stay
behind: it is a copy to read from.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, cast

from psycopg import Connection, sql
from psycopg.rows import TupleRow

from blocks.errors import RestoreFailed
from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.postgres import PINNED, PostgresServer, explained
from blocks.postgres_tools import major_of, tool_version
from flows.backup.manifest import PostgresDatabase, TableContent
from flows.backup.stream import CHUNK, ProcessOutput
from flows.compare.postgres import compare_tables
from flows.compare.postgres_content import list_tables, table_contents
from flows.restore.postgres import feed, fresh_database, load_dump
from flows.restore_table.journal import Member
from flows.restore_table.postgres_contents import WITHOUT, read_contents
from flows.restore_table.postgres_family import Relation, family, text
from flows.restore_table.postgres_schemas import create_schema

_OFF = {"session_replication_role": "replica"}
"""Event triggers of the live database, and whatever else its owner has made, are not for a copy."""


def restore_table(
    server: PostgresServer,
    component: PostgresDatabase,
    table: str,
    store: BackupStore,
    prefix: str,
    keys: BackupKeys,
    side: str,
    schema: str,
    *,
    indexes: bool,
) -> list[Member]:
    """Restore one table into a side database, compare it with the manifest, and leave it there in a schema of its own.

    Args:
        server: as a superuser. component, table: what is restored; the stored object's hash has just been compared.
        store, prefix, keys: where the set is and how to open it. side: name of the new database.
        schema: that the table is in afterwards. indexes: build indexes and constraints too.
    Returns: the tables that hold its rows.
    Raises:
        RestoreFailed: pg_restore failed, or what was restored is not what the manifest says. The side database is gone then.
    """
    with fresh_database(server, component, side, elsewhere=True), TemporaryDirectory(prefix="restore-table-") as folder:
        chosen = Path(folder) / "chosen"
        contents = read_contents(server, component, store, prefix, keys, Path(folder))

        def load(entries: str) -> None:
            chosen.write_text(entries, errors="surrogateescape")
            load_dump(server, component, store, prefix, keys, side, *WITHOUT, f"--use-list={chosen}")

        load(contents.definitions())
        with server.connect(side, settings=PINNED) as connection, explained(side, "look for the table"):
            members = family(connection, table)
        stored = [member for member in members if member.kind == "r"]
        load(contents.rows([member.name for member in stored], component.roles, indexes=indexes))
        with server.connect(side, settings=PINNED) as connection, explained(side, "compare"):
            found = _compare(connection, component, stored)
        with server.connect(side, settings=PINNED) as connection, explained(side, "set the table apart"):
            _set_apart(connection, members, schema)
            after = {member.oid: member.name for member in family(connection, _moved(connection, members[0], schema))}
    return [
        Member(name=content.name, place=after[member.oid], rows=content.rows, checksum=content.checksum)
        for member, content in zip(stored, found, strict=True)
    ]


def bring_beside(
    server: PostgresServer, side: str, live: str, schema: str, members: Iterable[Member], owner: str, note: str
) -> None:
    """Copy a schema of the side database into the live one, and compare it there once more.

    Args:
        side, live: databases. schema: to copy. members: what must arrive. owner: quoted role that the copy shall belong to.
        note: comment on the schema, by which it is known as ours.
    Raises:
        RestoreFailed: the copy failed, or differs; the schema may be there in part.
    """
    _, major = server.server_version()
    with server.connect(live, settings=PINNED | _OFF) as connection, explained(live, f"create schema {schema}"):
        create_schema(connection, schema, note, owner)
    pg_dump = server.tool("pg_dump", major)
    restore = server.tool("pg_restore", major, dump_major=major_of(tool_version(pg_dump)))
    common = ["--format=custom", "--no-password", *WITHOUT, "--no-tablespaces"]
    dump = [str(pg_dump), *common, "--compress=0", f"--table={schema}.*", f"--dbname={server.dbname_argument(side)}"]
    argv = [str(restore), *common, "--exit-on-error", f"--dbname={server.dbname_argument(live)}"]
    environment = server.conninfo_env(live) | {"PGOPTIONS": "-c session_replication_role=replica"}
    with closing(ProcessOutput(f"pg_dump {side}", dump, server.conninfo_env(side))) as process:
        source = io.BufferedReader(process, CHUNK)
        feed(f"pg_restore {live}", argv, environment, cast(IO[bytes], source))
    with server.connect(live, settings=PINNED | _OFF) as connection, explained(live, f"compare schema {schema}"):
        for (name,) in connection.execute(_IN_SCHEMA, [schema]).fetchall():
            connection.execute(f"ALTER TABLE {name} OWNER TO {owner}".encode())
        refuse_differing(connection, members, live)


def refuse_differing(connection: Connection[TupleRow], members: Iterable[Member], database: str) -> None:
    """Compare the restored rows with the manifest where they are now.

    Raises:
        RestoreFailed: they differ.
    """
    members = list(members)
    full = all(member.checksum for member in members)
    places = {member.place for member in members}
    tables = [table for table in list_tables(connection) if table.name in places]
    found = {content.name: content for content in table_contents([connection], tables, checksums=full)}
    expected = [_content(member.place, member) for member in members]
    differences = compare_tables(f"postgres {database}", expected, list(found.values()))
    if differences:
        raise RestoreFailed(f"the restored copy differs: {differences[0]}; nothing was swapped")


def _compare(connection: Connection[TupleRow], component: PostgresDatabase, stored: list[Relation]) -> list[TableContent]:
    """Compare restored tables with the manifest; returns what the manifest says of them, in the same order."""
    expected = {content.name: content for content in component.tables}
    recorded = [expected[member.name] for member in stored if member.name in expected]
    oids = {member.oid for member in stored}
    tables = [table for table in list_tables(connection) if table.oid in oids]
    found = table_contents([connection], tables, checksums=all(content.method == "full" for content in recorded))
    differences = compare_tables(f"postgres {component.name}", recorded, found)
    if differences or len(recorded) != len(stored):
        what = str(differences[0]) if differences else "the manifest does not know all of its tables"
        raise RestoreFailed(f"the restored copy differs: {what}; nothing was put beside the live table")
    return recorded


def _set_apart(connection: Connection[TupleRow], members: list[Relation], schema: str) -> None:
    """Take a family out of its schema, and loose from everything that is not of it."""
    connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    oids = [member.oid for member in members]
    for query in (_DETACH, _NO_DEFAULTS, _NO_IDENTITY, _NO_SEQUENCES):
        for (statement,) in connection.execute(query.encode(), {"oids": oids}).fetchall():
            connection.execute(str(statement).encode())
    for member in members:
        connection.execute(sql.SQL("ALTER TABLE {} SET SCHEMA {}").format(sql.SQL(member.name), sql.Identifier(schema)))


def _moved(connection: Connection[TupleRow], root: Relation, schema: str) -> str:
    named = "SELECT pg_catalog.format('%%I.%%I', %s::text, relname) FROM pg_catalog.pg_class WHERE oid = %s"
    return text(connection, named, schema, root.oid)


def _content(name: str, member: Member) -> TableContent:
    return TableContent(name=name, method="full" if member.checksum else "count", rows=member.rows, checksum=member.checksum)


_IN_SCHEMA = """
SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname) FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relkind IN ('r', 'p')
"""
# A partition whose parent is not wanted must not arrive in the live database as a partition of the live parent.
_DETACH = """
SELECT pg_catalog.format(
  CASE WHEN c.relispartition THEN 'ALTER TABLE %%s DETACH PARTITION %%s' ELSE 'ALTER TABLE %%2$s NO INHERIT %%1$s' END,
  i.inhparent::pg_catalog.regclass, i.inhrelid::pg_catalog.regclass)
FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
WHERE i.inhrelid = ANY (%(oids)s) AND i.inhparent <> ALL (%(oids)s)
"""
_NO_DEFAULTS = """
SELECT pg_catalog.format('ALTER TABLE ONLY %%s ALTER COLUMN %%I DROP DEFAULT', a.attrelid::pg_catalog.regclass, a.attname)
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = ANY (%(oids)s) AND a.attnum > 0 AND NOT a.attisdropped AND a.atthasdef AND a.attgenerated = ''
"""
_NO_IDENTITY = """
SELECT pg_catalog.format('ALTER TABLE %%s ALTER COLUMN %%I DROP IDENTITY', a.attrelid::pg_catalog.regclass, a.attname)
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = ANY (%(oids)s) AND a.attnum > 0 AND NOT a.attisdropped AND a.attidentity <> '' AND NOT EXISTS (
  SELECT FROM pg_catalog.pg_class c WHERE c.oid = a.attrelid AND c.relispartition)
"""
_NO_SEQUENCES = """
SELECT pg_catalog.format('ALTER SEQUENCE %%s OWNED BY NONE', d.objid::pg_catalog.regclass)
FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S'
WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = ANY (%(oids)s) AND d.deptype = 'a'
"""
