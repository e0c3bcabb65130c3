"""The steps that lead everybody to the new server: variables on Railway, and this project's own blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import psycopg
from pydantic import SecretStr

from blocks.errors import StackError, UpgradeFailed
from blocks.postgres import PostgresServer
from blocks.postgres_url import parse_url
from blocks.railway_api.models import Inventory
from flows.deploy.standing_in import REPLACES
from flows.documents import optional
from flows.upgrade.postgres.address import Address, parts_of, reached, swapped
from flows.upgrade.postgres.audit import SHARED, Audit, Holder, Use, audit, repointed
from flows.upgrade.postgres.fence import keep_out, let_in
from flows.upgrade.postgres.look import holders, identity
from flows.upgrade.postgres.orders import PostgresPlan
from flows.upgrade.postgres.servers import servers
from flows.upgrade.sealed import seal, unseal
from flows.upgrade.steps import Context, Step

__all__ = ["Documents", "KeepOld", "Variables"]


@dataclass(frozen=True)
class Variables(Step):
    """Changes every variable that leads to the old server; what was there is kept in the journal, sealed."""

    plan: PostgresPlan

    def describe(self) -> str:
        """As in `Step`."""
        to = self.plan.new.service or f"{self.plan.new.host}:{self.plan.new.port}"
        return f"lead to {to}: {', '.join(self.plan.uses) or 'no variable'}; nothing is deployed by that"

    def do(self, context: Context) -> str:
        """As in `Step`."""
        plan, old, new = self.plan, self.plan.old.address, self.plan.new.address
        inventory = context.api.inventory()
        found = holders(context.api, inventory)
        seen = audit(found, old, knows=plan.known_sealed)
        self._refuse_unreadable(seen)
        if "before" not in context.record(self).facts:
            before = {f"{use.holder}.{use.name}": _of(found, use).raw[use.name] for use in seen.uses}
            mine = next((one.raw.get(REPLACES, "") for one in found if one.name == old.service), "")
            if mine:  # since the upgrade before this one: from now on the newer one stands in that place
                before[f"{old.service}.{REPLACES}"] = mine
            context.note(self, before=seal(context.stack.keys, dict(before)), place=mine or old.service)
        wanted: dict[str, dict[str, str]] = {}
        for use in seen.uses:
            holder = _of(found, use)
            text = repointed(holder.raw[use.name], holder.rendered.get(use.name, ""), old, new)
            wanted.setdefault(use.holder, {})[use.name] = text
        for name, values in wanted.items():
            context.api.set_variables(_id(inventory, name), values)
        self._stands_in(context, inventory, context.record(self).facts["place"])
        self._prove(context)
        return f"{len(seen.uses)} variables of {len(wanted)} services changed; every URL in them gets into the new server"

    def undo(self, context: Context) -> str:
        """As in `Step`."""
        sealed = context.record(self).facts.get("before", "")
        if not sealed:
            return "no variable was changed"
        inventory = context.api.inventory()
        back: dict[str, dict[str, str]] = {}
        for key, text in unseal(context.stack.keys, sealed).items():
            holder, _, name = key.rpartition(".")
            if text is not None and (holder == SHARED or holder in inventory.services):
                back.setdefault(holder, {})[name] = text
        for holder, values in back.items():
            there = context.api.variables(_id(inventory, holder))
            context.api.set_variables(_id(inventory, holder), {k: v for k, v in values.items() if there.get(k) != v})
        self._stands_in(context, inventory, "")
        return f"{sum(map(len, back.values()))} variables are as before"

    def _stands_in(self, context: Context, inventory: Inventory, old: str) -> None:
        """Say in whose place the new service stands, so that a deploy leads nobody back; empty: in nobody's."""
        service = inventory.services.get(self.plan.new.service)
        if service is None:
            return
        context.api.set_variables(service.service_id, {REPLACES: old})
        before = inventory.services.get(self.plan.old.service)
        if old and before is not None and context.api.variables(before.service_id).get(REPLACES):
            context.api.set_variables(before.service_id, {REPLACES: ""})

    def _refuse_unreadable(self, seen: Audit) -> None:
        if seen.unreadable:
            raise UpgradeFailed(
                f"{', '.join(seen.unreadable)}: sealed, and may lead to the old server: nobody can change a part of it; "
                "set it anew unsealed, or name it in known_sealed where it does not matter"
            )

    def _prove(self, context: Context) -> None:
        """See that nothing leads to the old server any more, and that every URL that leads to the new one gets in.

        Raises:
            UpgradeFailed: which variable.
        """
        inventory = context.api.inventory()
        found = holders(context.api, inventory)
        left = audit(found, self.plan.old.address, knows=self.plan.known_sealed).uses
        if left:
            raise UpgradeFailed(
                f"{', '.join(map(str, left))}: still lead to the old server after they were changed; look at them"
            )
        routes = context.stack.settings.railway_routes
        new = self.plan.new.address
        # What the new server's URL asks of the way there, as TLS, the old one need not have.
        old = replace(self.plan.old.address, options=(("sslmode", "prefer"),) if new.options else ())
        for name, url in _urls(found, new, new.service):
            said = _refused(reached(url, routes))
            if said and not _refused(reached(swapped(url, new, old), routes)):
                raise UpgradeFailed(f"{name}: its URL gets into the old server and not into the new one: {said}")
            if said:
                context.tell(f"{name}: its URL gets into neither server: {said}")


@dataclass(frozen=True)
class Documents(Step):
    """Changes the blocks that backups, restores and drills go by. The worker's own variables count from its next start on."""

    plan: PostgresPlan

    def describe(self) -> str:
        """As in `Step`."""
        return "lead this project's own blocks (backup, restore) to the new server"

    def do(self, context: Context) -> str:
        """As in `Step`."""
        found = _blocks(context.stack.name)
        if "before" not in context.record(self).facts:
            before: dict[str, str | None] = {name: block.url.get_secret_value() for name, block in found.items()}
            context.note(self, before=seal(context.stack.keys, before))
        routes = context.stack.settings.railway_routes
        number = identity(servers(context).new)
        for name, block in found.items():
            url = _moved(block.url.get_secret_value(), self.plan.old.address, self.plan.new.address, routes)
            if identity(block.model_copy(update={"url": SecretStr(url)})) != number:
                raise UpgradeFailed(f"block postgres-server/{name}: it would not lead to the new server; see its URL")
            _save(name, block, url)
        return f"{len(found)} blocks lead to the new server"

    def undo(self, context: Context) -> str:
        """As in `Step`."""
        sealed = context.record(self).facts.get("before", "")
        before = unseal(context.stack.keys, sealed) if sealed else {}
        for name, block in _blocks(context.stack.name).items():
            if (url := before.get(name)) is not None and block.url.get_secret_value() != url:
                _save(name, block, url)
        return f"{len(before)} blocks are as before"


@dataclass(frozen=True)
class KeepOld(Step):
    """Lets nobody into the old server's databases any more; they are kept, unchanged, for the way back."""

    plan: PostgresPlan

    def describe(self) -> str:
        """As in `Step`."""
        return (
            f"keep the old server for the way back, read-only, its databases {', '.join(self.plan.databases)} closed; undo "
            "leads back to it and leaves what was written since behind; forget deletes it"
        )

    def do(self, context: Context) -> str:
        """As in `Step`."""
        keep_out(servers(context).old, self.plan.databases)
        return "kept, closed"

    def undo(self, context: Context) -> str:
        """As in `Step`."""
        let_in(servers(context).old, self.plan.databases)
        return "its databases take connections again"


def _of(found: list[Holder], use: Use) -> Holder:
    return next(one for one in found if one.name == use.holder)


def _id(inventory: Inventory, holder: str) -> str | None:
    return None if holder == SHARED else inventory.services[holder].service_id


def _urls(found: list[Holder], new: Address, own: str) -> Iterator[tuple[str, str]]:
    """Every URL of the new server in a variable of somebody else, once."""
    seen: set[str] = set()
    for holder in found:
        for name, text in sorted(holder.rendered.items()):
            parts = parts_of(text)
            if holder.name == own or parts is None or not parts.hostname or not new.is_of(parts.hostname, parts.port):
                continue
            if text not in seen:
                seen.add(text)
                yield f"{holder.name}.{name}", text


def _refused(url: str) -> str:
    """Try a URL as its application would; returns why it does not get in, empty where it does."""
    scheme, _, rest = url.strip().partition("://")
    try:
        parameters: Mapping[str, str] = parse_url(f"{scheme.partition('+')[0]}://{rest}")
        psycopg.connect(**parameters).close()  # type: ignore[arg-type]  # libpq takes all as text
    except StackError as error:
        return str(error)
    except psycopg.Error as error:
        return " ".join(str(error).split())  # libpq names host, role and database, never the password
    return ""


def _blocks(stack: str) -> dict[str, PostgresServer]:
    names = (f"{stack}-backup", f"{stack}-restore")
    return {name: block for name in names if (block := optional(PostgresServer, name)) is not None}


def _save(name: str, block: PostgresServer, url: str) -> None:
    changed = block.model_copy(update={"url": SecretStr(url)})
    changed.save(name, overwrite=True, _sync=True)  # type: ignore[call-arg]  # as in blocks/__main__.py


def _moved(url: str, old: Address, new: Address, routes: list[str]) -> str:
    """Lead a block's URL to the new server, also where it goes to the old one by a route of its own."""
    for route in routes:
        there, _, here = route.partition("=")
        if there.lower() == f"{old.host}:{old.port}".lower():
            old = replace(old, aliases=old.aliases | {here})
    return reached(swapped(url, old, new), routes)
