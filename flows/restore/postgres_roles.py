"""Roles that a backed-up database needs and a server lacks."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import IO

from psycopg import Connection
from psycopg.rows import TupleRow

from blocks.keys import BackupKeys
from blocks.object_store import BackupStore
from blocks.postgres import PostgresServer, explained
from flows.backup.manifest import PostgresDatabase, PostgresGlobals
from flows.backup.stream import CHUNK, open_encrypted
from flows.restore.properties import unquoted

_PIECE = re.compile(
    r"""E'(?:[^'\\]|\\.|'')*'|'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*\n?|^\\[^\n]*\n?|;|[^;'"\\E-]+|.""",
    re.DOTALL | re.MULTILINE,
)
_NAME = r"""("(?:[^"]|"")*"|\w+)"""
_ABOUT_ROLE = re.compile(rf"(?:CREATE|ALTER|COMMENT ON) ROLE {_NAME}")
_MEMBERSHIP = re.compile(rf"GRANT {_NAME} TO {_NAME}")
_GRANTOR = re.compile(rf" GRANTED BY {_NAME}$")


def missing_roles(server: PostgresServer, component: PostgresDatabase) -> list[str]:
    """Name the roles without which a database cannot be restored to a server."""
    with server.connect() as connection, explained(server.maintenance_database, "list roles"):
        return sorted(set(component.roles) - _present(connection))


def create_missing_roles(
    server: PostgresServer, recorded: PostgresGlobals, store: BackupStore, prefix: str, keys: BackupKeys
) -> list[str]:
    """Create the recorded roles that a server lacks, with their attributes, settings, comments and memberships.

    They cannot log in, as a backup holds no passwords: `ALTER ROLE ... LOGIN PASSWORD ...`. Roles that are there keep what
    they have, but for the new ones they become members of.

    Args:
        server: as a superuser. recorded: the set's globals. store, prefix, keys: where the set is and how to open it.
    Returns: the names of the roles that were created.
    Raises:
        IntegrityError: the stored roles are not what was backed up; nothing was created.
    """
    with server.connect(autocommit=False) as connection, explained(server.maintenance_database, "create roles"):
        present = _present(connection)
        missing = sorted(set(recorded.roles) - present)
        if missing:
            with open_encrypted(store, prefix, recorded.object, keys) as reader:
                text = b"".join(_chunks(reader)).decode()
            for statement in role_statements(text, missing, present):
                connection.execute(statement.encode())
    return missing


def role_statements(text: str, create: Collection[str], present: Collection[str]) -> Iterator[str]:
    """Choose from the output of `pg_dumpall --globals-only` what creates some roles, adapted to another server.

    Args:
        text: that output. create: roles to create. present: roles that the server has.
    """
    known = {*create, *present}
    for statement in split_statements(text):
        about, membership = _ABOUT_ROLE.match(statement), _MEMBERSHIP.match(statement)
        if about and unquoted(about.group(1)) in create:
            attributes = re.compile(r"^(ALTER ROLE \S.*? WITH .*)\bLOGIN\b")
            yield attributes.sub(r"\1NOLOGIN", statement)
        elif membership:
            granted, member = unquoted(membership.group(1)), unquoted(membership.group(2))
            predefined = granted.startswith("pg_")
            if {granted, member} & {*create} and member in known and (granted in known or predefined):
                yield _GRANTOR.sub("", statement)  # the grantor may be a role that this server does not have


def split_statements(text: str) -> Iterator[str]:
    """Split SQL at its semicolons, leaving out comments and psql's own commands.

    >>> list(split_statements("CREATE ROLE x; -- a; comment\\nCOMMENT ON ROLE x IS 'a;b';"))
    ['CREATE ROLE x', "COMMENT ON ROLE x IS 'a;b'"]
    """
    parts: list[str] = []
    for piece in _PIECE.findall(text):
        if piece == ";":
            yield "".join(parts).strip()
            parts = []
        elif not piece.startswith(("--", "\\")):
            parts.append(piece)


def _present(connection: Connection[TupleRow]) -> set[str]:
    return {str(name) for (name,) in connection.execute("SELECT rolname FROM pg_catalog.pg_roles")}


def _chunks(reader: IO[bytes]) -> Iterator[bytes]:
    while chunk := reader.read(CHUNK):
        yield chunk
