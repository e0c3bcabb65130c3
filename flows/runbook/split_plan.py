"""The plan of a split, and the look that makes it: values alone, from which another process can make the same steps."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence

from blocks.errors import GuardRefused
from blocks.postgres import SIDE_NAME, PostgresServer, explained
from blocks.railway import PROTECTED
from blocks.railway_api.models import Inventory, ServiceInstance
from flows.catalogue import size
from flows.health.dependencies import ORDER
from flows.restore.postgres import database_bytes
from flows.runbook.old_rows import lacking_set
from flows.runbook.split_tables import is_shared, read_content, shares_of
from flows.runbook.split_variables import OPERATOR, Names, changes_of
from flows.upgrade.look import Eyes
from flows.upgrade.postgres.address import Address, address_of
from flows.upgrade.postgres.audit import Holder, audit, refers
from flows.upgrade.postgres.consumers import in_start_order
from flows.upgrade.postgres.look import address_on_railway, holders, identity, with_aliases
from flows.upgrade.postgres.moving import aside
from flows.upgrade.postgres.orders import Consumer, PostgresPlan, Where
from flows.upgrade.sealed import need_identity
from railway.stack import SERVICES

__all__ = ["SplitPlan", "look", "make_plan", "shared_databases"]


class SplitPlan(PostgresPlan):
    """The split of one database.

    Attributes:
        shared, litellm, langfuse: names of the old database, and of the two that come of it.
        mark: six letters, of which the names are made under which things stand aside.
        mine, theirs: tables and views of LiteLLM, and of Langfuse.
    """

    shared: str
    litellm: str
    langfuse: str
    mark: str
    mine: tuple[tuple[str, ...], tuple[str, ...]]
    theirs: tuple[tuple[str, ...], tuple[str, ...]]

    @property
    def names(self) -> Names:
        """The three databases."""
        return Names(self.shared, self.litellm, self.langfuse)

    @property
    def kept(self) -> str:
        """What the old database is called afterwards."""
        return f"{self.shared}__kept_{self.mark}"

    @property
    def targets(self) -> tuple[str, str]:
        """The two new databases."""
        return self.litellm, self.langfuse

    def staged(self, name: str) -> str:
        """What a new database is called until it takes its place."""
        return f"{name}__restore_{self.mark}"

    def undone(self, name: str) -> str:
        """What a new database is called after a way back."""
        return f"{name}__undone_{self.mark}"

    def of_others(self, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Tables and views that one of the two new databases does not keep."""
        return self.theirs if name == self.litellm else self.mine


def shared_databases(server: PostgresServer) -> list[str]:
    """Name the databases in which both applications have their tables, apart from what restores and splits put aside."""
    with server.connect() as connection, explained(server.maintenance_database, "list databases"):
        rows = connection.execute(
            "SELECT datname FROM pg_catalog.pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname"
        ).fetchall()
    names = [str(name) for (name,) in rows if not SIDE_NAME.search(str(name))]
    return [name for name in names if is_shared(_tables(server, name))]


def make_plan(eyes: Eyes, shared: str, *, hours: int, documents: bool = True) -> SplitPlan:
    """Look, and plan.

    Args:
        shared: the database. hours: that the proven set may be old. documents: this project's blocks are on a Prefect server.
    Raises:
        GuardRefused: it does not begin, and why. SettingsError, AccessDenied: something is not set up for it.
    """
    stack, inventory = eyes.stack, eyes.api.inventory()
    need_identity(stack.keys)
    admin = aside(stack.need_postgres_admin())
    _refuse_weak(admin)
    if lacking := lacking_set(stack, "postgres", [shared], hours):
        raise _refusal(lacking)
    names = Names(shared, stack.settings.litellm_database, stack.settings.langfuse_database)
    _refuse_taken(admin, names)
    with admin.connect(shared) as connection, explained(shared, "see whose is what"):
        litellm, langfuse = shares_of(read_content(connection))
    found, address = look(eyes, inventory)
    seen = audit(found, address)
    if sealed := [one for one in seen.unreadable if not one.startswith(f"{OPERATOR}.")]:
        raise _refusal(f"{', '.join(sealed)}: sealed, and may lead there; set it anew unsealed, then seal it again afterwards")
    changes = changes_of(found, address, names)
    consumers = _consumers(eyes, inventory, found, changes)
    concerned = tuple(one.service for one in consumers if one.service in ORDER and one.deployment and not one.protected)
    faults = eyes.outside.faults(concerned)
    if down := [one for one in faults if one.down]:
        raise _refusal(f"{down[0].service} is down: {down[0].sentence}; mend that first")
    there = Where.of(address)
    major = admin.server_version()[1]
    return SplitPlan(
        kind="split",
        stack=stack.name,
        facts={
            "database": f"{shared} -> {names.litellm} ({_counted(litellm.tables, litellm.views)}) and {names.langfuse} "
            f"({_counted(langfuse.tables, langfuse.views)})",
            "variables": ", ".join(f"{name}.{key}" for name, values in sorted(changes.items()) for key in values),
            "services": ", ".join(one.service for one in consumers),
        },
        passing={f"size of {shared}": f"{size(database_bytes(admin, shared))}, twice as much is needed beside it"},
        concerned=concerned,
        known=tuple(sorted(one.name for one in faults)),
        soak_minutes=0,
        smoke=False,
        old=there,
        new=there,
        old_major=major,
        new_major=major,
        databases=(shared,),
        consumers=consumers,
        documents=documents,
        shared=shared,
        litellm=names.litellm,
        langfuse=names.langfuse,
        mark=secrets.token_hex(3),
        mine=(litellm.tables, litellm.views),
        theirs=(langfuse.tables, langfuse.views),
    )


def look(eyes: Eyes, inventory: Inventory) -> tuple[list[Holder], Address]:
    """Read all variables, and find out by which names the server goes."""
    admin, found, routes = eyes.stack.need_postgres_admin(), holders(eyes.api, inventory), eyes.stack.settings.railway_routes
    service = next((name for name in inventory.services if name.lower() == "postgres"), "")
    address = address_on_railway(eyes.api, inventory, service) if service else address_of(admin.url.get_secret_value())
    hosts = {one.host: one.name for one in found if one.host}
    return found, with_aliases(found, address, identity(aside(admin)), hosts, routes)


def _consumers(eyes: Eyes, inventory: Inventory, found: Sequence[Holder], changed: Collection[str]) -> tuple[Consumer, ...]:
    names = in_start_order(changed, {name: sorted(to) for name, to in refers(found).items()}, list(SERVICES))
    return tuple(_consumer(eyes, inventory.services[name]) for name in names)


def _consumer(eyes: Eyes, there: ServiceInstance) -> Consumer:
    latest = there.latest
    return Consumer(
        service=there.name,
        service_id=there.service_id,
        image=(latest.image if latest else None) or there.image or "",
        deployment=latest.id if latest and latest.status.active and not latest.stopped else "",
        health_seconds=there.healthcheck_timeout or 0,
        protected=there.service_id == eyes.stack.settings.railway_service_id or there.name in PROTECTED,
    )


def _tables(server: PostgresServer, name: str) -> list[str]:
    with server.connect(name) as connection, explained(name, "list tables"):
        rows = connection.execute("SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname = 'public'").fetchall()
    return [str(table) for (table,) in rows]


def _refuse_taken(admin: PostgresServer, names: Names) -> None:
    """The new names have to be free, but for the shared one's own and for databases in which nobody has made anything."""
    if names.litellm == names.langfuse:
        raise _refusal(f"LITELLM_DATABASE and LANGFUSE_DATABASE are both {names.litellm}; give them two names")
    for name in (names.litellm, names.langfuse):
        if name != names.shared and admin.exists(name) and not admin.is_empty(name):
            raise _refusal(f"there is a database {name} already, with something in it; name another one, or drop it")


def _refuse_weak(admin: PostgresServer) -> None:
    with admin.connect() as connection, explained(admin.maintenance_database, "look at rights"):
        row = connection.execute("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").fetchone()
    if not row or not row[0]:
        raise _refusal(f"role {admin.user} of POSTGRES_RESTORE_URL is no superuser, and objects of all owners have to be made")


def _counted(tables: Sequence[str], views: Sequence[str]) -> str:
    return f"{len(tables)} tables" + (f", {len(views)} views" if views else "")


def _refusal(reason: str) -> GuardRefused:
    return GuardRefused(f"split-shared-database: nothing was changed: {reason}")
