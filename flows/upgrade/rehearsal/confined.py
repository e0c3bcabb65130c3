"""Somebody else's SQL is not executed as a superuser: a release that was tampered with could run programs beside the worker.

LiteLLM's role in the scratch engine is made one that may change its own database and nothing else, and it logs in as itself:
what it has no right to it cannot give itself back, as it could after SET ROLE.
"""

from __future__ import annotations

import secrets
from urllib.parse import quote, urlsplit, urlunsplit

from psycopg import Connection, sql
from psycopg.rows import TupleRow
from pydantic import SecretStr

from blocks.errors import SettingsError
from blocks.postgres import PostgresServer, explained

__all__ = ["confined"]

_INSTEAD = "rehearsal_owner"
_BOOTSTRAP = 10
"""Oid of the superuser that a server begins with; Postgres does not let it become less."""


def confined(server: PostgresServer, database: str, owner: str) -> PostgresServer:
    """Confine the role that migrates, and return the server as that role.

    Args:
        server: the scratch engine, as its superuser: it holds nothing but the copy, for roles are changed.
        database: the copy. owner: role that owns it; of a superuser of the first hour everything is handed over to another one.
    Raises:
        SettingsError: there is no such role.
    """
    password = secrets.token_urlsafe(24)
    with server.connect(database) as connection, explained(database, "confine the role that migrates"):
        found = connection.execute("SELECT oid FROM pg_catalog.pg_roles WHERE rolname = %s", [owner]).fetchone()
        if found is None:
            raise SettingsError(f"rehearsal: {database} has no owner {owner}, expected one that was restored with it")
        role = owner
        if int(found[0]) == _BOOTSTRAP:
            role = _INSTEAD
            _hand_over(connection, database, role)
        for granted in _memberships(connection, role):
            connection.execute(sql.SQL("REVOKE {} FROM {}").format(sql.Identifier(granted), sql.Identifier(role)))
        connection.execute(sql.SQL(_LOGIN).format(sql.Identifier(role), sql.Literal(password)))
    parts = urlsplit(server.url.get_secret_value())
    place = f"{quote(role, safe='')}:{password}@{parts.netloc.rpartition('@')[2]}"
    return PostgresServer(url=SecretStr(urlunsplit(parts._replace(netloc=place))), bin_dirs=list(server.bin_dirs))


def _memberships(connection: Connection[TupleRow], role: str) -> list[str]:
    """Roles that it could become, as one that may run programs on the server."""
    rows = connection.execute(
        "SELECT pg_catalog.pg_get_userbyid(roleid) FROM pg_catalog.pg_auth_members"
        " WHERE pg_catalog.pg_get_userbyid(member) = %s",
        [role],
    ).fetchall()
    return [str(name) for (name,) in rows]


def _hand_over(connection: Connection[TupleRow], database: str, role: str) -> None:
    """Give the database and all that people made in it to a new role."""
    name = sql.Identifier(role)
    connection.execute(sql.SQL("CREATE ROLE {}").format(name))
    connection.execute(sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(database), name))
    for (statement,) in connection.execute(_OWNED).fetchall():
        connection.execute(sql.SQL(f"{statement} OWNER TO {{}}").format(name))


_LOGIN = """
ALTER ROLE {} NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS LOGIN PASSWORD {} VALID UNTIL 'infinity'
"""
_OWNED = """
WITH ours AS (SELECT oid, nspname FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'),
  bound AS (SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype IN ('e', 'i')
    UNION SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype = 'a' AND refobjsubid > 0)
SELECT pg_catalog.format('ALTER SCHEMA %I', n.nspname) FROM ours o JOIN pg_catalog.pg_namespace n USING (oid)
WHERE n.nspowner = 10
UNION ALL
SELECT pg_catalog.format('ALTER TABLE %I.%I', o.nspname, c.relname) FROM pg_catalog.pg_class c
JOIN ours o ON o.oid = c.relnamespace
WHERE c.relowner = 10 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
  AND NOT EXISTS (SELECT FROM bound b WHERE b.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND b.objid = c.oid)
UNION ALL
SELECT pg_catalog.format('ALTER TYPE %I.%I', o.nspname, t.typname) FROM pg_catalog.pg_type t
JOIN ours o ON o.oid = t.typnamespace
WHERE t.typowner = 10 AND t.typtype IN ('e', 'd', 'r')
  AND NOT EXISTS (SELECT FROM bound b WHERE b.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND b.objid = t.oid)
UNION ALL
SELECT pg_catalog.format('ALTER ROUTINE %s', p.oid::pg_catalog.regprocedure) FROM pg_catalog.pg_proc p
JOIN ours o ON o.oid = p.pronamespace
WHERE p.proowner = 10
  AND NOT EXISTS (SELECT FROM bound b WHERE b.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND b.objid = p.oid)
"""
