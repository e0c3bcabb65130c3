"""The step that changes what is configured: images, and the variables that go with them. Nothing is deployed by it."""

from __future__ import annotations

from dataclasses import dataclass

from flows.deploy.present import DEPLOYED, PENDING
from flows.upgrade.orders import ServiceChange
from flows.upgrade.running import delete_where_set
from flows.upgrade.sealed import seal, unseal
from flows.upgrade.steps import Context, Step

__all__ = ["Configure"]


@dataclass(frozen=True)
class Configure(Step):
    """Sets variables and image of one service. What was there is kept in the journal, sealed, and put back by its undo."""

    change: ServiceChange

    def describe(self) -> str:
        """As in `Step`."""
        one = self.change
        text = (
            f"set the image of {one.service}: {one.old} -> {one.new}" if one.old != one.new else f"keep {one.service}'s image"
        )
        names = ", ".join(f"{name} = {_shown(value)}" for name, value in sorted(one.variables.items()))
        return text + (f", and {names}" if names else "")

    def do(self, context: Context) -> str:
        """As in `Step`."""
        api, one = context.api, self.change
        there = api.variables(one.service_id)
        if one.variables and "before" not in context.record(self).facts:
            before = {name: there.get(name) for name in one.variables}
            context.note(self, before=seal(context.stack.keys, before))
        # The mark says until it is deployed that it has to be: to `deploy/on-demand`, and to whoever looks.
        wanted = {**one.variables, **({DEPLOYED: PENDING} if DEPLOYED in there else {})}
        api.set_variables(one.service_id, {name: value for name, value in wanted.items() if there.get(name) != value})
        if api.inventory().services[one.service].image != one.new:
            api.set_image(one.service_id, one.new)
        return f"{one.new} is configured" + (f", {len(one.variables)} variables are set" if one.variables else "")

    def undo(self, context: Context) -> str:
        """As in `Step`."""
        api, one = context.api, self.change
        if api.inventory().services[one.service].image != one.old:
            api.set_image(one.service_id, one.old)
        sealed = context.record(self).facts.get("before", "")
        before = unseal(context.stack.keys, sealed) if sealed else {}
        there = api.variables(one.service_id)
        back = {name: value for name, value in before.items() if value is not None and there.get(name) != value}
        api.set_variables(one.service_id, back)
        for name in (name for name, value in before.items() if value is None):
            delete_where_set(context, one.service_id, name)  # last: Railway may deploy because of it
        return f"{one.old} is configured again" + (f", and {len(before)} variables are as before" if before else "")


def _shown(value: str) -> str:
    first, *more = value.splitlines() or [""]
    return f"{first[:60]} (and {len(more)} lines)" if more else first[:80]
