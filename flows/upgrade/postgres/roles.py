"""The roles of a server on another one: attributes, memberships, settings - and passwords, without anybody knowing them.

What a server keeps of a password (SCRAM-SHA-256) is good on every other server, too. It is read from the one and given to the
other over two connections, so that it is in no argument, no file and no log of ours.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from contextlib import closing

import psycopg
from psycopg import Connection, sql
from psycopg.rows import TupleRow

from blocks.errors import AccessDenied
from blocks.postgres import PostgresServer, explained
from flows.backup.stream import CHUNK, ProcessOutput
from flows.compare.differences import Difference, compare_mappings
from flows.restore.postgres_roles import role_statements
from flows.restore.properties import setting

__all__ = ["compare_roles", "drop_roles", "move_roles"]

_OURS = r"rolname !~ '^pg_'"
_FACTS = rf"""
SELECT 'role ' || quote_ident(rolname), concat_ws(' ',
  CASE WHEN rolsuper THEN 'superuser' END, CASE WHEN rolinherit THEN 'inherit' END,
  CASE WHEN rolcreaterole THEN 'createrole' END, CASE WHEN rolcreatedb THEN 'createdb' END,
  CASE WHEN rolcanlogin THEN 'login' END, CASE WHEN rolreplication THEN 'replication' END,
  CASE WHEN rolbypassrls THEN 'bypassrls' END, 'connections ' || rolconnlimit, 'until ' || rolvaliduntil,
  'comment ' || shobj_description(oid, 'pg_authid'))
FROM pg_catalog.pg_roles WHERE {_OURS}
UNION ALL
SELECT 'settings of role ' || coalesce(quote_ident(r.rolname), 'all'),
  array_to_string(ARRAY(SELECT v FROM unnest(s.setconfig) v ORDER BY v COLLATE "C"), ', ')
FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole WHERE s.setdatabase = 0
UNION ALL
SELECT 'membership of ' || quote_ident(r.rolname) || ' in ' || quote_ident(g.rolname),
  string_agg(DISTINCT CASE WHEN m.admin_option THEN 'with admin option' ELSE 'member' END, ', ')
FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_roles r ON r.oid = m.member JOIN pg_catalog.pg_roles g ON g.oid = m.roleid
WHERE r.{_OURS} GROUP BY r.rolname, g.rolname
"""
_KEPT = rf"SELECT rolname::text, rolpassword FROM pg_catalog.pg_authid WHERE {_OURS} AND rolpassword IS NOT NULL"
_LOGIN = rf"SELECT rolname::text FROM pg_catalog.pg_roles WHERE {_OURS} AND rolcanlogin"
_FOR_ALL = "SELECT unnest(setconfig) FROM pg_catalog.pg_db_role_setting WHERE setdatabase = 0 AND setrole = 0"


def move_roles(source: PostgresServer, target: PostgresServer) -> list[str]:
    """Create the roles that the target lacks, and give all of them the passwords that they have on the source.

    Roles that are there keep their attributes; the one that we come as keeps its password, too. Calling it again goes on.

    Args:
        source, target: as superusers.
    Returns: the names of the roles that were created.
    Raises:
        AccessDenied: the role on the source may not read what the server keeps of passwords.
        ServiceError: a server broke off.
    """
    text = _dump(source, target)
    kept, login, settings = _passwords(source)
    with target.connect(autocommit=False) as connection, explained(target.maintenance_database, "create roles"):
        present = _names(connection)
        created = sorted((login | kept.keys() | _source_names(source)) - present)
        for statement in role_statements(text, created, present):
            connection.execute(statement.encode())
        for name in sorted(login & set(created)):
            connection.execute(sql.SQL("ALTER ROLE {} LOGIN").format(sql.Identifier(name)))
        for name, word in sorted(kept.items()):
            if name != target.user:
                connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(name), sql.Literal(word)))
        for item in settings:
            connection.execute(f"ALTER ROLE ALL SET {setting(item)}".encode())
    return created


def compare_roles(source: PostgresServer, target: PostgresServer) -> list[Difference]:
    """Compare the roles of two servers: attributes, comments, settings, memberships, passwords.

    What the target has besides, as a provider's own roles, is no difference. A password is only said to differ.
    """
    expected, found = _facts(source), _facts(target)
    differences = compare_mappings("postgres roles", "", expected, {name: found[name] for name in found if name in expected})
    words, given = _passwords(source)[0], _passwords(target)[0]
    other = sorted(name for name, word in words.items() if given.get(name) != word and name != target.user)
    return differences + [
        Difference("postgres roles", f"password of role {name}", "the source's", "another one") for name in other
    ]


def drop_roles(target: PostgresServer, names: Collection[str]) -> list[str]:
    """Drop roles that `move_roles` created; those that own something, or are gone, are left.

    Returns: the names of those that were dropped.
    """
    dropped = []
    with target.connect() as connection:
        for name in names:
            try:
                connection.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(name)))
            except (psycopg.errors.DependentObjectsStillExist, psycopg.errors.UndefinedObject):
                continue
            except psycopg.Error:
                with explained(target.maintenance_database, "drop roles"):
                    raise
            dropped.append(name)
    return dropped


def _dump(source: PostgresServer, target: PostgresServer) -> str:
    """What pg_dumpall says of roles, without their passwords."""
    database = source.maintenance_database
    major = max(source.server_version()[1], target.server_version()[1])
    argv = [
        str(source.tool("pg_dumpall", major)),
        "--globals-only",
        "--no-role-passwords",
        "--no-password",
        f"--database={database}",
        f"--dbname={source.dbname_argument(database)}",
    ]
    with closing(ProcessOutput("pg_dumpall", argv, source.conninfo_env(database))) as process:
        return io.BufferedReader(process, CHUNK).read().decode()


def _passwords(source: PostgresServer) -> tuple[dict[str, str], set[str], list[str]]:
    """What the server keeps of passwords by role, who may log in, and the settings of everybody."""
    with source.connect() as connection, explained(source.maintenance_database, "read the roles"):
        login = {str(name) for (name,) in connection.execute(_LOGIN.encode())}
        settings = [str(item) for (item,) in connection.execute(_FOR_ALL)]
        try:
            kept = {str(name): str(word) for name, word in connection.execute(_KEPT.encode())}
        except psycopg.errors.InsufficientPrivilege:
            raise AccessDenied(
                f"postgres: role {source.user} may not read pg_authid, so that passwords cannot be moved; set "
                "POSTGRES_RESTORE_URL to a superuser's"
            ) from None
    return kept, login, settings


def _facts(server: PostgresServer) -> dict[str, str]:
    with server.connect(settings={"TimeZone": "UTC", "DateStyle": "ISO, MDY"}) as connection, explained("roles", "compare"):
        return {str(name): str(text) for name, text in connection.execute(_FACTS.encode())}


def _names(connection: Connection[TupleRow]) -> set[str]:
    return {str(name) for (name,) in connection.execute("SELECT rolname FROM pg_catalog.pg_roles")}


def _source_names(source: PostgresServer) -> set[str]:
    with source.connect() as connection, explained(source.maintenance_database, "list roles"):
        return {name for name in _names(connection) if not name.startswith("pg_")}
