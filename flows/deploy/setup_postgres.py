"""Roles and databases of a new Postgres: each application owns its database, and cannot even connect to the other's.

Two applications in one database lose data: LiteLLM's migrations drop what is not LiteLLM's (facts: apps.md 1.7).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from pydantic import SecretStr

from blocks.errors import AccessDenied, ServiceError, SettingsError
from blocks.settings import Settings

__all__ = ["ADMINISTRATOR", "Roles", "create_roles_and_databases"]

Connection = psycopg.Connection[tuple[Any, ...]]

APPLICATION = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
BACKUP = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION BYPASSRLS"
RESTORE = "LOGIN SUPERUSER"
ADMINISTRATOR = "SETUP_POSTGRES_URL"
"""The setting that everything here is done with."""
_LOCK = 0x5E70_0001
"""Of two setups at once the second waits."""


@dataclass(frozen=True, repr=False)
class Roles:
    """Who there shall be.

    Attributes:
        owners: password of each application's role by name of its database, which the role is called, too.
        backup: password of the role that reads everything. restore: of the one that may do everything.
    """

    owners: Mapping[str, SecretStr]
    backup: SecretStr
    restore: SecretStr

    @classmethod
    def from_settings(cls, settings: Settings) -> Roles:
        """Read them from the environment.

        Raises:
            SettingsError: a password is missing, or both applications have one database.
        """

        def password(name: str) -> SecretStr:
            return SecretStr(settings.require(name))

        if settings.litellm_database == settings.langfuse_database:
            raise SettingsError("setup: LiteLLM and Langfuse in one database lose data; expected two names, correct one")
        return cls(
            owners={
                settings.litellm_database: password("litellm_db_password"),
                settings.langfuse_database: password("langfuse_db_password"),
            },
            backup=password("backup_db_password"),
            restore=password("restore_db_password"),
        )

    def items(self) -> Iterator[tuple[str, str, SecretStr]]:
        """Yield each role's name, options and password."""
        for name, password in self.owners.items():
            yield name, APPLICATION, password
        yield "backup", BACKUP, self.backup
        yield "restore", RESTORE, self.restore


def create_roles_and_databases(url: SecretStr, roles: Roles) -> list[str]:
    """Create what is missing, and give what is there its password and its rights; the second time nothing is new.

    Args:
        url: of a superuser. roles: who there shall be.
    Returns: a line for each role and database.
    Raises:
        ServiceError: Postgres does not answer.
        AccessDenied: the password is refused, or the role may not do this.
        SettingsError: a name is taken by something else.
    """
    try:
        with psycopg.connect(url.get_secret_value(), autocommit=True, connect_timeout=10) as connection:
            _refuse_what_cannot_be(connection, roles)
            connection.execute("SELECT pg_catalog.pg_advisory_lock(%s)", [_LOCK])
            return [*_create_roles(connection, roles), *_create_databases(connection, roles)]
    except psycopg.OperationalError as error:
        raise _no_connection(error) from None
    except psycopg.ProgrammingError as error:
        if "conninfo" in str(error) or error.diag.message_primary is None:
            raise SettingsError(f"postgres: {ADMINISTRATOR} is no URL; expected postgresql://user:password@host/db") from None
        raise ServiceError(f"postgres: setup broke off: {error.diag.message_primary}", permanent=True) from None


def _refuse_what_cannot_be(connection: Connection, roles: Roles) -> None:
    user, superuser = _row(connection, "SELECT current_user, rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user")
    if not superuser:
        raise AccessDenied(f"postgres: {user} is no superuser and cannot create one; set {ADMINISTRATOR} to the server's own")
    if user in {name for name, _, _ in roles.items()}:
        raise SettingsError(
            f"postgres: the superuser of {ADMINISTRATOR} is called {user}, as a role that setup creates with fewer rights; "
            "set POSTGRES_USER of a new volume to another name"
        )


def _create_roles(connection: Connection, roles: Roles) -> Iterator[str]:
    present = {str(name) for (name,) in connection.execute("SELECT rolname FROM pg_catalog.pg_roles")}
    for name, options, password in roles.items():
        # Hashed here: what the server logs of a statement, and keeps in pg_stat_statements, is then no password.
        hashed = connection.pgconn.encrypt_password(password.get_secret_value().encode(), name.encode(), b"scram-sha-256")
        statement = sql.SQL("{} ROLE {} {} PASSWORD {}").format(
            sql.SQL("ALTER" if name in present else "CREATE"),
            sql.Identifier(name),
            sql.SQL(options),
            sql.Literal(hashed.decode()),
        )
        connection.execute(statement)
        yield f"role {name}: {'there, its password and rights set' if name in present else 'created'}"
    connection.execute("GRANT pg_read_all_data, pg_monitor TO backup")
    connection.execute("ALTER ROLE backup SET lo_compat_privileges = on")  # pg_read_all_data leaves large objects out
    connection.execute("ALTER ROLE backup SET default_transaction_read_only = on")


def _create_databases(connection: Connection, roles: Roles) -> Iterator[str]:
    owners = {
        str(name): str(owner)
        for name, owner in connection.execute("SELECT datname, pg_catalog.pg_get_userbyid(datdba) FROM pg_catalog.pg_database")
    }
    for name in roles.owners:
        database = sql.Identifier(name)
        if name in owners and owners[name] != name:
            raise SettingsError(
                f"postgres: the database {name} belongs to {owners[name]}, expected {name}; give it and all in it to {name} "
                f"(REASSIGN OWNED, ALTER DATABASE {name} OWNER TO {name}), or move its data to another server"
            )
        if name not in owners:
            connection.execute(sql.SQL("CREATE DATABASE {0} OWNER {0} TEMPLATE template0").format(database))
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
        connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO backup").format(database))
        yield f"database {name}: {'there' if name in owners else 'created'}, of {name} alone"


def _row(connection: Connection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query.encode()).fetchone()
    if row is None:
        raise ServiceError("postgres: the server gives no answer about its own roles; is it being restored?")
    return row


def _no_connection(error: psycopg.OperationalError) -> ServiceError:
    text = str(error)
    if "password authentication failed" in text or "no pg_hba.conf entry" in text:
        return AccessDenied(
            f"postgres: the password in {ADMINISTRATOR} is refused; a changed POSTGRES_PASSWORD does not change that of a "
            "volume that is there: set it back, or change it in Postgres, too"
        )
    return ServiceError(f"postgres: no connection ({type(error).__name__}); is it up, and {ADMINISTRATOR} right?")
