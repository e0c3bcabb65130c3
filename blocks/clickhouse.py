"""A ClickHouse server: how to reach it, what it holds, and how it reaches the backup store."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError
from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from blocks.clickhouse_client import ClickHouseClient, StatementFailed, explain, identifier, literal
from blocks.errors import AccessDenied, ServiceError, SettingsError
from blocks.object_store import BackupStore
from blocks.postgres import SIDE_NAME

__all__ = ["ClickHouseServer", "backup_path", "incremental_supported"]

Version = tuple[int, ...]

SYSTEM_DATABASES = frozenset({"system", "INFORMATION_SCHEMA", "information_schema"})
OWN_DATA_ENGINES = frozenset({"Atomic", "Ordinary", "Replicated", "Overlay", "Memory", "Lazy", "Shared"})
"""Database engines that hold data; the others (PostgreSQL, MySQL, Backup, DataLakeCatalog ...) show somebody else's."""

_FIXED_RELEASES: dict[Version, Version] = {
    (25, 8): (26, 8),
    (26, 3): (17, 10),
    (26, 4): (5, 90),
    (26, 5): (5, 13),
    (26, 6): (2, 14),
}
_FIXED_SINCE: Version = (26, 7)
_COLLECTION_IS_IMMUTABLE = 671


class ClickHouseServer(Block):
    """A ClickHouse server, reached over HTTP as one user.

    Attributes:
        host, port: of the HTTP interface (8123, or 8443 with TLS).
        user, password: of a user that may read what is backed up, BACKUP, SYSTEM MERGES, and, for restores, CREATE and DROP.
        secure: HTTPS.
        databases: to back up; empty for all that hold data.
        collection: name of the named collection through which ClickHouse knows the store's address and keys, so that they
            stand in no statement, log or backup.
        store_endpoint: URL of the store as ClickHouse reaches it, where that is not the one the worker uses.
        max_backup_mib: limit for backups, MiB a second.

    Example:
        ```python
        server = ClickHouseServer.load("mystack")
        server.check()
        ```
    """

    _block_type_name = "ClickHouse Server"
    _block_type_slug = "clickhouse-server"
    _description = "A ClickHouse server, reached over HTTP as one user."

    host: str = Field(description="Host of the HTTP interface")
    port: int = Field(default=8123, description="Port of the HTTP interface")
    user: str = Field(default="default", description="User")
    password: SecretStr = Field(default=SecretStr(""), description="Its password")
    secure: bool = Field(default=False, description="HTTPS")
    databases: list[str] = Field(default_factory=list, description="Databases to back up; empty: all that hold data")
    collection: str = Field(default="stack_backup", description="Named collection with the store's address and keys")
    store_endpoint: str = Field(default="", description="The store's URL as ClickHouse reaches it, if another")
    max_backup_mib: int = Field(default=0, ge=0, description="A backup may send so many MiB a second; 0: no limit")

    @property
    def name(self) -> str:
        """What messages call this server."""
        return f"{self.host}:{self.port}"

    def client(self, *, timeout: float = 60.0, hidden: Iterable[str] = (), **settings: Any) -> ClickHouseClient:
        """Connect.

        Args:
            timeout: seconds that one statement may take before the connection counts as lost.
            hidden: secrets, besides the password, that no message may carry.
            settings: of ClickHouse, for every statement of this client.
        Raises:
            AccessDenied: wrong user or password.
            ServiceError: no answer.
        """
        secrets = [self.password.get_secret_value(), *hidden]
        try:
            driver = clickhouse_connect.get_client(
                host=self.host,
                port=self.port,
                username=self.user,
                password=self.password.get_secret_value(),
                interface="https" if self.secure else "http",
                autogenerate_session_id=False,
                connect_timeout=10,
                send_receive_timeout=max(1, round(timeout)),
                query_limit=0,
                compress=False,
                settings=settings,
            )
        except ClickHouseError as error:
            raise explain(error, self.name, secrets) from None
        return ClickHouseClient(driver, self.name, secrets)

    def version(self) -> tuple[str, Version]:
        """Return the server's version as text and as numbers."""
        with self.client() as client:
            return client.version, version_numbers(client.version)

    def check(self) -> None:
        """See that the server answers, that the databases exist, and that we may look into system.backups and system.parts.

        Raises:
            AccessDenied: wrong password or missing grants.
            SettingsError: there is no such database.
            ServiceError: no answer.
        """
        self.database_names()
        with self.client() as client:
            client.rows("SELECT count() FROM system.backups")
            client.rows("SELECT count() FROM system.parts")

    def database_names(self) -> list[str]:
        """Name the databases to back up: the configured ones, or all that hold data of their own.

        Left out are system databases, those that only show another system's data, those that a restore or drill put
        aside, and `default` as long as it is empty.

        Raises:
            SettingsError: a configured one does not exist.
        """
        with self.client() as client:
            found = {str(name): str(engine) for name, engine in client.rows("SELECT name, engine FROM system.databases")}
            filled = {str(name) for (name,) in client.rows("SELECT DISTINCT database FROM system.tables")}
        if self.databases:
            missing = [name for name in self.databases if name not in found]
            if missing:
                there = ", ".join(sorted(found.keys() - SYSTEM_DATABASES))
                raise SettingsError(
                    f"clickhouse {self.name}: there is no database {missing[0]!r}; set CLICKHOUSE_DB to some of {there}"
                )
            return list(self.databases)
        return sorted(
            name
            for name, engine in found.items()
            if engine in OWN_DATA_ENGINES
            and name not in SYSTEM_DATABASES
            and not SIDE_NAME.search(name)
            and (name != "default" or name in filled)
        )

    def ensure_collection(self, store: BackupStore, client: ClickHouseClient | None = None) -> None:
        """Make the named collection through which ClickHouse reaches the store, or bring it up to date.

        A collection that the server's configuration defines is left as it is.

        Args:
            store: whose address and keys the collection shall have.
            client: connected, with the store's secret key among what it hides; default a new one.
        Raises:
            SettingsError: there is none, and this user may not make it; says what to do.
        """
        name = identifier(self.collection)
        values = ", ".join(f"{key} = {literal(value)}" for key, value in self._collection_values(store).items())
        unlogged = {"log_queries": 0}  # query_log masks the values; nothing at all is better still
        with nullcontext(client) if client else self.client(hidden=[store.secret_key.get_secret_value()]) as connected:
            try:
                connected.command(f"CREATE NAMED COLLECTION IF NOT EXISTS {name} AS {values}", unlogged)
                connected.command(f"ALTER NAMED COLLECTION {name} SET {values}", unlogged)
            except StatementFailed as error:
                if error.code != _COLLECTION_IS_IMMUTABLE:
                    raise
            except AccessDenied:
                if not self._has_collection(connected):
                    raise SettingsError(self._how_to_make_collection(store)) from None

    def store_url(self, store: BackupStore) -> str:
        """Return the URL of the store's bucket as ClickHouse reaches it, with a slash at its end.

        Where the bucket is in front of the host, ClickHouse takes the key's first folder for the bucket, and asks for the same
        URLs: backups, differences and restores work all the same (measured, 26.9).
        """
        endpoint = self.store_endpoint or store.endpoint or f"https://s3.{store.region}.amazonaws.com"
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise SettingsError(
                f"clickhouse {self.name}: the store's URL {endpoint!r} is not http(s)://host; s3:// means AWS there"
            )
        return store.url(endpoint) + "/"

    def destination(self, key: str) -> str:
        """Return what stands after TO and FROM for a folder of the bucket: no address, no keys."""
        return f"S3({identifier(self.collection)}, {literal(key)})"

    def _collection_values(self, store: BackupStore) -> dict[str, str]:
        return {
            "url": self.store_url(store),
            "access_key_id": store.access_key,
            "secret_access_key": store.secret_key.get_secret_value(),
        }

    def _has_collection(self, client: ClickHouseClient) -> bool:
        try:
            found = client.row(
                "SELECT count() FROM system.named_collections WHERE name = {name:String}", {"name": self.collection}
            )
        except ServiceError:
            return False
        return bool(found and found[0])

    def _how_to_make_collection(self, store: BackupStore) -> str:
        return (
            f"clickhouse {self.name}: user {self.user} may not make the named collection {self.collection}, which backups go "
            f"through; GRANT NAMED COLLECTION ADMIN ON * TO {self.user} (CLICKHOUSE_DEFAULT_ACCESS_MANAGEMENT=1 allows that), "
            f"or define <named_collections><{self.collection}> with url {self.store_url(store)}, access_key_id and "
            "secret_access_key in the server's config.d and GRANT NAMED COLLECTION ON it"
        )


def version_numbers(text: str) -> Version:
    """Read a version such as `24.8.14.39` or `25.8.26.8-lts`."""
    numbers = []
    for part in text.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)


def incremental_supported(version: Version) -> bool:
    """Say whether a difference to another backup may be taken: older releases write the base's S3 secret into `.backup`.

    The named collection keeps the secret out there too, but a server where somebody replaces it by keys in the statement
    would leak them for good, so below the fixed releases every backup is full.

    Source: ClickHouse#72906, fixed by #107357 in 25.8.26.8, 26.3.17.10, 26.4.5.90, 26.5.5.13, 26.6.2.14 and everything later.
    """
    release, patch = version[:2], version[2:]
    if release >= _FIXED_SINCE:
        return True
    fixed = _FIXED_RELEASES.get(release)
    return fixed is not None and patch >= fixed


def backup_path(database: str) -> str:
    """Return the folder of a database's backup below its set.

    Letters, digits, `_` and `-` stay; every other byte becomes `=XX`. Not percent-encoded: ClickHouse decodes percent signs in
    an S3 address and would write to another key than we look at (measured, 26.9).
    """
    plain = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-")
    return "clickhouse/" + "".join(chr(byte) if byte in plain else f"={byte:02X}" for byte in database.encode()) + "/"
