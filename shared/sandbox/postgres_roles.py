"""The roles and databases of the sandbox's Postgres: an owner for each application, one role that reads, one that restores."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import psycopg
from psycopg import sql

from shared.engines.postgres import PostgresEngine

DATABASES = ("litellm", "langfuse")
"""Each is owned by a role of the same name."""


@dataclass(frozen=True, repr=False)
class Passwords:
    """Passwords of the roles that log in.

    Attributes:
        litellm, langfuse: owners of the databases of the same names.
        backup: reads everything and changes nothing. restore: a superuser.
    """

    litellm: str
    langfuse: str
    backup: str
    restore: str


def new_passwords() -> Passwords:
    """Draw passwords."""
    return Passwords(*(secrets.token_urlsafe(18) for _ in range(4)))


def create_roles_and_databases(engine: PostgresEngine, passwords: Passwords | None = None) -> Passwords:
    """Create the roles and the empty databases `litellm` and `langfuse`; what is there already is only given its password.

    Args:
        engine: running. passwords: default new ones.
    Returns: the passwords that the roles have now.
    """
    passwords = passwords or new_passwords()
    with psycopg.connect(engine.url(), autocommit=True) as connection:
        create_roles(connection, passwords)
        present = {str(name) for (name,) in connection.execute("SELECT datname FROM pg_database")}
        for name in DATABASES:
            if name not in present:
                create = sql.SQL("CREATE DATABASE {0} OWNER {0} TEMPLATE template0")
                connection.execute(create.format(sql.Identifier(name)))
    return passwords


def create_roles(connection: psycopg.Connection[tuple[object, ...]], passwords: Passwords) -> None:
    """Create the roles, or give those that are there their passwords.

    The backup role has no more than it takes to read everything: pg_read_all_data, BYPASSRLS because a policy would hide
    rows, and lo_compat_privileges because pg_read_all_data does not cover large objects. pg_monitor is for sweeps: what others
    do is hidden otherwise.
    """
    wanted = {
        "litellm": ("LOGIN", passwords.litellm),
        "langfuse": ("LOGIN", passwords.langfuse),
        "backup": ("LOGIN BYPASSRLS", passwords.backup),
        "restore": ("LOGIN SUPERUSER", passwords.restore),
    }
    present = {str(name) for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
    for role, (options, password) in wanted.items():
        verb = sql.SQL("ALTER" if role in present else "CREATE")
        statement = sql.SQL("{} ROLE {} {} PASSWORD {}").format(
            verb, sql.Identifier(role), sql.SQL(options), sql.Literal(password)
        )
        connection.execute(statement)
    connection.execute("GRANT pg_read_all_data, pg_monitor TO backup")
    connection.execute("ALTER ROLE backup SET lo_compat_privileges = on")
    connection.execute("ALTER ROLE backup SET default_transaction_read_only = on")
