"""Where a secret is asked for: who takes it, which of two a server accepts, and taking an old one away.

No password stands in a statement: Postgres gets a SCRAM verifier, Redis a hash.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from psycopg import sql
from pydantic import SecretStr
from redis.exceptions import AuthenticationError, RedisError

from blocks.errors import AccessDenied, IntegrityError, ServiceError
from blocks.postgres import PostgresServer, explained
from blocks.postgres_url import parse_url
from blocks.redis import RedisServer
from flows.runbook.redis_server import connected

__all__ = ["Door", "Open", "PostgresDoor", "RedisDoor"]


class Door(Protocol):
    """What a secret is shown to, beside the services that have it in a variable. Every method may raise a StackError."""

    def take(self, new: SecretStr, old: SecretStr) -> str:
        """Have it accept the new one, and the old one as long as it can; safe to repeat. Returns what was done, for people."""

    def retire(self, old: SecretStr) -> None:
        """Have it refuse the old one."""


class Open(Door):
    """Nothing: the services that have it in a variable are all there is."""

    def take(self, new: SecretStr, old: SecretStr) -> str:
        """See `Door`."""
        return ""

    def retire(self, old: SecretStr) -> None:
        """See `Door`."""


@dataclass(frozen=True)
class PostgresDoor(Door):
    """A role's password. It has one, so the old one is refused from then on; sessions that are there stay.

    Attributes:
        admin: the server as a role that may change others. role: whose password it is.
    """

    admin: PostgresServer
    role: str

    def take(self, new: SecretStr, old: SecretStr) -> str:
        """See `Door`."""
        with self.admin.connect() as connection, explained("server", f"change the password of {self.role}"):
            verifier = connection.pgconn.encrypt_password(
                new.get_secret_value().encode(), self.role.encode(), b"scram-sha-256"
            ).decode()
            connection.execute(sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(self.role), sql.Literal(verifier)))
        self._prove(new)
        return f"Postgres takes the new password of {self.role}"

    def retire(self, old: SecretStr) -> None:
        """See `Door`: it is refused already."""

    def _prove(self, password: SecretStr) -> None:
        database = next(iter(self._databases()), "postgres")
        parameters = parse_url(self.admin.url.get_secret_value())
        given = {**parameters, "user": self.role, "password": password.get_secret_value(), "dbname": database}
        try:
            psycopg.connect(**given, autocommit=True).close()  # type: ignore[arg-type]  # libpq takes all as text
        except psycopg.OperationalError:
            raise AccessDenied(
                f"postgres: {self.role} is not let in with its new password; is pg_hba.conf as it was?"
            ) from None

    def _databases(self) -> list[str]:
        """Those that the role may connect to, its own first."""
        with self.admin.connect() as connection, explained("server", "list databases"):
            rows = connection.execute(
                "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate "
                "AND pg_catalog.has_database_privilege(%s, oid, 'CONNECT') ORDER BY datname <> %s, datname",
                [self.role, self.role],
            ).fetchall()
        return [str(name) for (name,) in rows]


@dataclass(frozen=True)
class RedisDoor(Door):
    """Redis' default user, who may have several passwords while it runs; at its next start it has that of its variable.

    Attributes:
        server: reached with either of them.
    """

    server: RedisServer

    def take(self, new: SecretStr, old: SecretStr) -> str:
        """See `Door`."""
        with connected(self._as(old, new), "add a password") as client:
            client.execute_command("ACL", "SETUSER", "default", f"#{_hashed(new)}")
        with connected(self._with(new), "log in with the new password") as client:
            client.ping()
        return "Redis takes both passwords"

    def retire(self, old: SecretStr) -> None:
        """See `Door`."""
        if not self._opens(server := self._with(old)):
            return
        with connected(server, "take the old password away") as client:
            client.execute_command("ACL", "SETUSER", "default", f"!{_hashed(old)}")
        if self._opens(server):
            raise IntegrityError("redis: the old password is still accepted; see ACL GETUSER default")

    def _as(self, *passwords: SecretStr) -> RedisServer:
        """The server with the first password that it accepts."""
        servers = [self._with(one) for one in passwords]
        return next((one for one in servers if self._opens(one)), servers[0])

    def _opens(self, server: RedisServer) -> bool:
        try:
            with server.client() as client:
                client.ping()
        except AuthenticationError:
            return False
        except RedisError as error:
            raise ServiceError(f"redis: no answer ({type(error).__name__}); is the service up?") from None
        return True

    def _with(self, password: SecretStr) -> RedisServer:
        parts = urlsplit(self.server.url.get_secret_value())
        host = parts.netloc.rpartition("@")[2]
        login = f":{quote(password.get_secret_value(), safe='')}@"
        return self.server.model_copy(update={"url": SecretStr(urlunsplit(parts._replace(netloc=f"{login}{host}")))})


def _hashed(password: SecretStr) -> str:
    return hashlib.sha256(password.get_secret_value().encode()).hexdigest()
