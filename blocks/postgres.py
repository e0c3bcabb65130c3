"""A Postgres server: how to reach it, what it holds, which client programs fit it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from prefect.blocks.core import Block
from psycopg import Connection
from psycopg.conninfo import make_conninfo
from psycopg.rows import TupleRow
from pydantic import Field, SecretStr

from blocks.errors import AccessDenied, ServiceError, StackError
from blocks.postgres_access import access_problems
from blocks.postgres_tools import find_tool, newest_client
from blocks.postgres_url import KEEPALIVES, environment, parse_url

SIDE_NAME = re.compile(r"__(restore|drill|kept|undone)_[a-z0-9]{6}$")
"""Databases that restores and drills put beside the live ones end like this; they are not backed up."""

PATIENT = {
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "transaction_timeout": "0",
}
"""Defaults of a role or database that would end a long backup."""

PINNED = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "xmlbinary": "base64",
    "lc_monetary": "C",
    "search_path": "",
    "row_security": "off",
    "quote_all_identifiers": "off",
    "array_nulls": "on",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
}
"""Everything that decides how a value or a definition is printed, so that two servers print the same one alike.

`jit` is about speed only: compiling a row hash takes longer than most tables. Row security is off so that a policy is an
error instead of a silent filter.
"""

_DENIED = ("password authentication failed", "no pg_hba.conf entry", "permission denied", "is not permitted to log in")
_FOR_GOOD = ("does not exist", "certificate verify failed", "does not support SSL", "is not currently accepting connections")


class PostgresServer(Block):
    """A Postgres server, reached as one role.

    Attributes:
        url: server URL of the role, `postgresql://user:password@host:port/postgres?sslmode=require`. An application's URL
            works too: Prisma's own parameters are understood and left out.
        databases: databases to back up; empty for all that people use.
        bin_dirs: folders with client programs, besides PATH and /usr/lib/postgresql/*/bin.

    Example:
        ```python
        server = PostgresServer.load("mystack-backup")
        server.check()
        ```
    """

    _block_type_name = "Postgres Server"
    _block_type_slug = "postgres-server"
    _description = "A Postgres server, reached as one role."

    url: SecretStr = Field(description="postgresql://user:password@host:port/postgres?sslmode=require")
    databases: list[str] = Field(default_factory=list, description="Databases to back up; empty: all but templates")
    bin_dirs: list[str] = Field(default_factory=list, description="Folders with pg_dump and pg_restore, besides the usual")

    @property
    def maintenance_database(self) -> str:
        """The database the URL names: where to connect for what concerns the server."""
        return self._parameters()["dbname"]

    @property
    def user(self) -> str:
        """The role that the URL names."""
        return self._parameters()["user"]

    def connect(
        self, database: str | None = None, *, autocommit: bool = True, settings: dict[str, str] | None = None
    ) -> Connection[TupleRow]:
        """Connect.

        Args:
            database: default the URL's.
            autocommit: False opens a transaction with the first statement.
            settings: server parameters for this connection; those the server does not know are left out, so that
                one list serves all versions.
        Raises:
            AccessDenied: the server does not let this role in.
            ServiceError: it did not answer, or there is no such database.
        """
        name = database or self.maintenance_database
        try:
            # UTF8 whatever the database's encoding: without conversion (SQL_ASCII) psycopg would return bytes for text.
            parameters = self._parameters() | {"dbname": name, "client_encoding": "UTF8"}
            connection = psycopg.connect(**parameters, autocommit=True)  # type: ignore[arg-type]  # libpq takes all as text
        except psycopg.OperationalError as error:
            raise _refusal(name, str(error)) from None
        try:
            with explained(name, "connect"):
                given = PATIENT | (settings or {})
                connection.execute("SET statement_timeout = 0")  # first, so that the next one is not subject to a short one
                connection.execute(
                    "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS wanted (name, value)"
                    " WHERE lower(name) IN (SELECT lower(s.name) FROM pg_catalog.pg_settings s)",
                    [list(given), list(given.values())],
                )
            connection.autocommit = autocommit
        except BaseException:
            connection.close()
            raise
        return connection

    def conninfo_env(self, database: str) -> dict[str, str]:
        """Return the whole environment for a client program: it connects as we do, and nothing secret is in its arguments."""
        inherited = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH") if name in os.environ}
        return {**inherited, "LC_ALL": "C", **environment(self._parameters() | {"dbname": database})}

    def dbname_argument(self, database: str) -> str:
        """Return what a client program is given as `--dbname`: the database, and the keepalives that have no variable."""
        return make_conninfo(dbname=database, **KEEPALIVES)

    def database_names(self) -> list[str]:
        """Name the databases to back up: the configured ones, or all that people use.

        Left out are templates, databases that take no connections, those that a restore or drill put aside, and
        `postgres` as long as nobody made anything in it.
        """
        if self.databases:
            return list(self.databases)
        with self.connect() as connection, explained(self.maintenance_database, "list databases"):
            rows = connection.execute(
                "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname"
            ).fetchall()
        names = [str(name) for (name,) in rows if not SIDE_NAME.search(name)]
        return [name for name in names if name != "postgres" or not self.is_empty(name)]

    def is_empty(self, database: str) -> bool:
        """Say whether nobody made anything in a database; what extensions brought does not count.

        Raises:
            ServiceError: there is no such database; see `exists`.
        """
        with self.connect(database) as connection, explained(database, "look for tables"):
            row = connection.execute(_ANYTHING).fetchone()
        return row is None or not row[0]

    def exists(self, database: str) -> bool:
        """Say whether there is a database of that name."""
        with self.connect() as connection, explained(self.maintenance_database, "list databases"):
            row = connection.execute("SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s", [database]).fetchone()
        return row is not None

    def server_version(self) -> tuple[str, int]:
        """Return the server's version, for example `("16.9", 16)`."""
        with self.connect() as connection:
            number = connection.info.server_version
            return connection.info.parameter_status("server_version") or str(number), number // 10000

    def tool(self, name: str, server_major: int, *, dump_major: int | None = None) -> Path:
        """Find the client program of the smallest major version that fits.

        Args:
            name: `pg_dump`, `pg_dumpall`, `pg_restore`. server_major: of the server it will speak to.
            dump_major: for pg_restore, the major version of the pg_dump that wrote the dump.
        Raises:
            VersionMismatch: none fits; says what to install.
        """
        least, task = server_major, f"dump a {server_major} server"
        if dump_major is not None:
            least, task = dump_major, f"restore what pg_dump {dump_major} wrote to a {server_major} server"
        return find_tool(name, least, newest_client(server_major), self.bin_dirs, task)

    def check(self) -> None:
        """See that the server answers, that its databases can be read whole by this role, and that a fitting pg_dump is here.

        Raises:
            AccessDenied: what cannot be read, and the statement that allows it.
            ServiceError: it does not answer, or a configured database does not exist.
            VersionMismatch: there is no fitting pg_dump.
        """
        _, major = self.server_version()
        self.tool("pg_dump", major)
        problems = [problem for name in self.database_names() for problem in self._unreadable(name)]
        if problems:
            raise AccessDenied("; ".join(problems))

    def check_readable(self, database: str) -> None:
        """See that this role can read all of one database.

        Raises:
            AccessDenied: what it cannot read, and the statement that allows it.
        """
        if problems := self._unreadable(database):
            raise AccessDenied("; ".join(problems))

    def _unreadable(self, database: str) -> list[str]:
        with self.connect(database) as connection, explained(database, "check access"):
            return [f"postgres {database}: {problem}" for problem in access_problems(connection)]

    def _parameters(self) -> dict[str, str]:
        return parse_url(self.url.get_secret_value())


@contextmanager
def explained(database: str, doing: str) -> Iterator[None]:
    """Turn psycopg's errors into ours: one line, without the DETAIL that may quote rows."""
    try:
        yield
    except psycopg.Error as error:
        raise explain(error, database, doing) from None


def explain(error: psycopg.Error, database: str, doing: str) -> StackError:
    """Say in one line what the server refused, and whether trying again can help."""
    primary = error.diag.message_primary or str(error).partition("\n")[0]
    message = f"postgres {database}: {doing}: {primary}"
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return AccessDenied(message)
    if isinstance(error, psycopg.errors.OutOfMemory) and "max_locks_per_transaction" in (error.diag.message_hint or ""):
        return ServiceError(f"{message}; raise max_locks_per_transaction and restart the server", permanent=True)
    return ServiceError(message, permanent=not isinstance(error, psycopg.OperationalError))


def _refusal(database: str, answer: str) -> StackError:
    """Explain a connection that was not made; libpq's text names host and role, never the password."""
    line = " ".join(answer.split()).removeprefix("connection failed: ")
    message = f"postgres {database}: no connection: {line}"
    if any(words in answer for words in _DENIED):
        return AccessDenied(f"{message}; check the role, its password and its CONNECT privilege")
    return ServiceError(message, permanent=any(words in answer for words in _FOR_GOOD))


_ANYTHING = """
SELECT EXISTS (
  SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
  UNION ALL
  SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
  WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND NOT EXISTS (
    SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e')
  UNION ALL
  SELECT FROM pg_catalog.pg_largeobject_metadata)
"""
