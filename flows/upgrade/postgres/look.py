"""Read from Railway and from the servers what an upgrade of Postgres has to know."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from pydantic import SecretStr

from blocks.errors import StackError
from blocks.postgres import PostgresServer, explained
from blocks.railway_api.api import RailwayApi
from blocks.railway_api.models import Inventory
from flows.deploy.present import DEPLOYED, SETUP_DONE
from flows.deploy.standing_in import REPLACES
from flows.upgrade.postgres.address import PORT, Address, reached
from flows.upgrade.postgres.audit import SHARED, Holder, strangers

__all__ = ["ARCHIVE", "IDENTITY", "address_on_railway", "holders", "identity", "own_variables", "with_aliases"]

ARCHIVE = ("WAL_ARCHIVE_", "WAL_BACKUP_", "PGBACKREST_")
"""What Railway's point-in-time recovery tells its server (facts: railway.md 4.3). A second server that writes into the same
archive spoils it: it is another cluster."""
IDENTITY = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()"
"""A cluster's own number, drawn by initdb: two names with the same number are one server."""
_MARKS = (DEPLOYED, SETUP_DONE, REPLACES)
_TUNABLE = frozenset(
    {
        "RAILWAY_SHM_SIZE_BYTES",
        "RAILWAY_RUN_UID",
        "RAILWAY_DEPLOYMENT_DRAINING_SECONDS",
        "RAILWAY_DEPLOYMENT_OVERLAP_SECONDS",
        "RAILWAY_HEALTHCHECK_TIMEOUT_SEC",
    }
)
"""What people set although it is called like what the platform sets."""


def holders(api: RailwayApi, inventory: Inventory) -> list[Holder]:
    """Read every variable of the environment: of each service, and those that all share. Two requests a service."""
    sealed: dict[str, dict[str, tuple[str, ...]]] = {}
    for meta in api.variable_meta():
        if meta.sealed:
            owner = SHARED if meta.service_id is None else inventory.service_name(meta.service_id) or ""
            sealed.setdefault(owner, {})[meta.name] = meta.references
    found = [_holder(api, SHARED, None, sealed.get(SHARED, {}))]
    for name, service in inventory.services.items():
        found.append(_holder(api, name, service.service_id, sealed.get(name, {})))
    return found


def own_variables(raw: Mapping[str, str]) -> dict[str, str]:
    """Return those variables of a server's service that people set, and that another one of its kind needs, too.

    Args:
        raw: as they are written.
    """
    return {
        name: text
        for name, text in raw.items()
        if _is_set_by_people(name) and name not in _MARKS and not name.startswith(ARCHIVE)
    }


def address_on_railway(api: RailwayApi, inventory: Inventory, service: str) -> Address:
    """Say by which names a service is reached: its private domain, and its public ports where there are any."""
    service_id = inventory.services[service].service_id
    rendered = api.variables(service_id, rendered=True)
    host = rendered.get("RAILWAY_PRIVATE_DOMAIN") or f"{service.lower().replace(' ', '-')}.railway.internal"
    proxies = {f"{one.domain}:{one.proxy_port}" for one in api.tcp_proxies(service_id) if one.application_port == PORT}
    return Address(host, PORT, service, aliases=frozenset(proxies))


def identity(server: PostgresServer) -> str:
    """Return the number of the cluster that a server is."""
    with server.connect() as connection, explained(server.maintenance_database, "read the cluster's number"):
        row = connection.execute(IDENTITY.encode()).fetchone()
    return str(row[0]) if row else ""


def with_aliases(
    found: Sequence[Holder],
    server: Address,
    number: str,
    services: Mapping[str, str],
    routes: Sequence[str],
    *,
    ask: Callable[[PostgresServer], str] = identity,
) -> Address:
    """Add the names by which variables call the server besides its own: whoever answers there has the same number.

    A name that does not answer is none: what cannot be reached now is not used now, either.

    Args:
        number: of the cluster. services: private host names of the environment's services, which may only pass requests on
            to the server, as a pooler does, and are left in the way. routes: as of `reached`.
    """
    aliases = set(server.aliases)
    for name, url in strangers(found, server, services).items():
        with suppress(StackError):
            if ask(PostgresServer(url=SecretStr(reached(_plain(url), routes)))) == number:
                aliases.add(name)
    return Address(server.host, server.port, server.service, frozenset(aliases), server.options)


def _plain(url: str) -> str:
    """As libpq takes it: without the driver that SQLAlchemy names in the scheme."""
    scheme, _, rest = url.strip().partition("://")
    return f"{scheme.partition('+')[0]}://{rest}"


def _holder(api: RailwayApi, name: str, service_id: str | None, sealed: Mapping[str, tuple[str, ...]]) -> Holder:
    raw, rendered = (api.variables(service_id, rendered=rendered) for rendered in (False, True))
    kept = {key for key in raw if _is_set_by_people(key)}
    return Holder(
        name,
        {key: text for key, text in raw.items() if key in kept},
        {key: text for key, text in rendered.items() if key in kept},
        sealed,
        host=rendered.get("RAILWAY_PRIVATE_DOMAIN", "") if service_id else "",
    )


def _is_set_by_people(name: str) -> bool:
    return not name.startswith("RAILWAY_") or name in _TUNABLE
