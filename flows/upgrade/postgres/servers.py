"""The two servers of an upgrade, as whoever carries it out reaches them.

How is noted in the journal, sealed: once the stack's own blocks lead to the new server, nobody else knows the way back.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from urllib.parse import quote

from pydantic import SecretStr

from blocks.errors import AccessDenied, GuardRefused, ServiceError, SettingsError, StackError
from blocks.postgres import PostgresServer
from blocks.railway_api.api import RailwayApi
from flows.upgrade.postgres.address import Address, reached
from flows.upgrade.postgres.look import identity
from flows.upgrade.postgres.moving import aside
from flows.upgrade.sealed import seal, unseal
from flows.upgrade.steps import Context

__all__ = ["ACCESS", "Servers", "await_server", "note_servers", "servers", "superuser_url"]

ACCESS = "server"
"""Name of the step whose record keeps how both are reached."""


@dataclass(frozen=True, repr=False)
class Servers:
    """Both servers, each as a superuser."""

    old: PostgresServer
    new: PostgresServer


def superuser_url(api: RailwayApi, service_id: str, address: Address) -> str:
    """Make the URL of a service's own superuser.

    Raises:
        SettingsError: its variables do not say who that is.
    """
    found = api.variables(service_id, rendered=True)
    password = found.get("POSTGRES_PASSWORD", "")
    if not password:
        raise SettingsError(
            f"{address.service}: its POSTGRES_PASSWORD cannot be read, expected a variable that is not sealed; set it anew"
        )
    user = quote(found.get("POSTGRES_USER") or "postgres", safe="")
    return f"postgresql://{user}:{quote(password, safe='')}@{address.host}:{address.port}/postgres"


def note_servers(context: Context, old: str, new: str) -> None:
    """Seal both URLs into the journal; those that are there stay."""
    record = context.journal.record(ACCESS)
    if "access" not in record.facts:
        record.facts["access"] = seal(context.stack.keys, {"old": old, "new": new})
        context.save()


def servers(context: Context) -> Servers:
    """Return both servers.

    Raises:
        GuardRefused: the journal does not know them yet.
    """
    sealed = context.journal.record(ACCESS).facts.get("access", "")
    if not sealed:
        raise GuardRefused(f"upgrade {context.journal.id}: it has not come as far as to know its servers; begin a new one")
    found = unseal(context.stack.keys, sealed)
    return Servers(*(_server(context, found[name] or "") for name in ("old", "new")))


def await_server(server: PostgresServer, seconds: float) -> str:
    """Wait until a server answers; returns its cluster's number.

    Raises:
        AccessDenied: it does not let us in. ServiceError: it did not answer in time.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return identity(server)
        except AccessDenied:
            raise
        except StackError as error:
            if time.monotonic() > deadline:
                raise ServiceError(f"{error} (after {seconds:.0f} s)", permanent=True) from None
        time.sleep(0.25)


def _server(context: Context, url: str) -> PostgresServer:
    settings = context.stack.settings
    way = reached(url, settings.railway_routes)
    return aside(PostgresServer(url=SecretStr(way), bin_dirs=list(settings.postgres_bin_dirs)))
