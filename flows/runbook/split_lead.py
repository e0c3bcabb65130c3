"""The steps of a split that lead everybody to the new databases: variables on Railway, and this project's own blocks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import SecretStr

from blocks.errors import StackError, UpgradeFailed
from blocks.postgres import PostgresServer
from flows.documents import optional
from flows.runbook.split_plan import SplitPlan, look
from flows.runbook.split_variables import changes_of, pointed
from flows.upgrade.look import Eyes
from flows.upgrade.postgres.address import parts_of, reached
from flows.upgrade.sealed import seal, unseal
from flows.upgrade.steps import Context, Step

__all__ = ["Blocks", "Lead"]


@dataclass(frozen=True)
class Lead(Step):
    """Changes the variables; what was there is kept in the journal, sealed."""

    plan: SplitPlan

    def describe(self) -> str:
        """As in `Step`."""
        return f"lead {self.plan.facts.get('variables', '')} to the new databases; nothing is deployed by that"

    def do(self, context: Context) -> str:
        """As in `Step`.

        Raises:
            UpgradeFailed: a URL does not get in.
        """
        plan, inventory = self.plan, context.api.inventory()
        found, address = look(Eyes(context.stack, context.api, context.outside), inventory)
        if "before" not in context.record(self).facts:
            changes = changes_of(found, address, plan.names)
            raw = {one.name: one.raw for one in found}
            before = {f"{service}.{name}": raw[service].get(name) for service, values in changes.items() for name in values}
            wanted = {f"{service}.{name}": text for service, values in changes.items() for name, text in values.items()}
            context.note(self, before=seal(context.stack.keys, before), wanted=seal(context.stack.keys, dict(wanted)))
        self._set(context, "wanted")
        self._prove(context)
        return f"{len(unseal(context.stack.keys, context.record(self).facts['wanted']))} variables changed, every URL gets in"

    def undo(self, context: Context) -> str:
        """As in `Step`."""
        if "before" not in context.record(self).facts:
            return "no variable was changed"
        return f"{self._set(context, 'before')} variables are as before"

    def _set(self, context: Context, which: str) -> int:
        """Set what the journal keeps, where it is not so; returns how many there are."""
        values = unseal(context.stack.keys, context.record(self).facts[which])
        services = context.api.inventory().services
        for service in sorted({key.rpartition(".")[0] for key in values}):
            if service not in services:
                continue
            mine = {key.rpartition(".")[2]: text for key, text in values.items() if key.rpartition(".")[0] == service}
            there = context.api.variables(services[service].service_id)
            changed = {name: text for name, text in mine.items() if text is not None and there.get(name) != text}
            if changed:
                context.api.set_variables(services[service].service_id, changed)
            for name in (name for name, text in mine.items() if text is None and name in there):
                context.api.delete_variable(services[service].service_id, name)
        return len(values)

    def _prove(self, context: Context) -> None:
        services, routes = context.api.inventory().services, context.stack.settings.railway_routes
        for key in unseal(context.stack.keys, context.record(self).facts["wanted"]):
            service, _, name = key.rpartition(".")
            text = context.api.variables(services[service].service_id, rendered=True).get(name, "")
            if parts_of(text) is None:
                continue
            try:
                PostgresServer(url=SecretStr(reached(text, routes))).connect().close()
            except StackError as error:
                raise UpgradeFailed(f"{key}: its URL does not get into the new database: {error}") from None


@dataclass(frozen=True)
class Blocks(Step):
    """Changes the blocks that backups and restores go by."""

    plan: SplitPlan

    def describe(self) -> str:
        """As in `Step`."""
        return "have this project's own blocks (backup, restore) know the new databases in place of the old one"

    def do(self, context: Context) -> str:
        """As in `Step`."""
        plan, found = self.plan, _blocks(context.stack.name)
        if "before" not in context.record(self).facts:
            before: dict[str, str | None] = {
                name: json.dumps([one.url.get_secret_value(), one.databases]) for name, one in found.items()
            }
            context.note(self, before=seal(context.stack.keys, before))
        for name, one in found.items():
            url = one.url.get_secret_value()
            if one.maintenance_database == plan.shared:
                url = pointed(url, url, plan.shared, "postgres")
            rest = [each for each in one.databases if each != plan.shared]
            databases = list(dict.fromkeys([*rest, *plan.targets])) if one.databases else []
            _save(name, one, url, databases)
        return f"{len(found)} blocks know the new databases"

    def undo(self, context: Context) -> str:
        """As in `Step`."""
        sealed = context.record(self).facts.get("before", "")
        before = unseal(context.stack.keys, sealed) if sealed else {}
        for name, one in _blocks(context.stack.name).items():
            if (text := before.get(name)) is not None:
                url, databases = json.loads(text)
                _save(name, one, url, databases)
        return f"{len(before)} blocks are as before"


def _blocks(stack: str) -> dict[str, PostgresServer]:
    names = (f"{stack}-backup", f"{stack}-restore")
    return {name: block for name in names if (block := optional(PostgresServer, name)) is not None}


def _save(name: str, block: PostgresServer, url: str, databases: Sequence[str]) -> None:
    changed = block.model_copy(update={"url": SecretStr(url), "databases": list(databases)})
    changed.save(name, overwrite=True, _sync=True)  # type: ignore[call-arg]  # as in blocks/__main__.py
