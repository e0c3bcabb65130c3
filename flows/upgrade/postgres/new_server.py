"""The step that has a new, empty server beside the old one; its undo removes it, or keeps it where people wrote to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from blocks.errors import GuardRefused, SettingsError, StackError
from blocks.railway_api.api import RailwayApi
from blocks.railway_api.certainty import certainly
from blocks.railway_api.models import ServiceInstance, ServiceSettings
from flows.deploy.rollout import deploy_now
from flows.upgrade.postgres.look import own_variables
from flows.upgrade.postgres.moving import outline, refuse_target
from flows.upgrade.postgres.orders import PostgresPlan
from flows.upgrade.postgres.servers import await_server, note_servers, servers, superuser_url
from flows.upgrade.steps import Context, Step

__all__ = ["MOUNT", "SERVED", "NewServer", "delete_server", "needed_variables"]

MOUNT = "/var/lib/postgresql/data"
"""The image refuses every other place (facts: railway.md 6)."""
SERVED = "served"
"""A fact of the first step: consumers were deployed with the new server, so that there may be writes on it only."""
_ANSWERS_S = 300.0
_OWN = re.compile(r"\$\{\{\s*([^.{}()$]+?)\s*\.")


@dataclass(frozen=True)
class NewServer(Step):
    """Makes the new service, or looks at the server that is given; refuses one that is not empty, or not fit."""

    plan: PostgresPlan

    def describe(self) -> str:
        """As in `Step`."""
        plan = self.plan
        if not plan.new.service:
            return f"look at the server {plan.new.host}:{plan.new.port} ({plan.new_major}): empty, newer, with the extensions"
        return (
            f"create the service {plan.new.service} from {plan.image}, with a volume of its own of "
            f"{plan.volume_mb / 1000:g} GB and the variables of {plan.old.service}; it has no public address"
        )

    def do(self, context: Context) -> str:
        """As in `Step`."""
        plan = self.plan
        if plan.new.service:
            self._create(context)
        else:
            url = context.stack.settings.postgres_target_url
            if url is None:
                raise SettingsError("upgrade postgres: POSTGRES_TARGET_URL is not set any more; set it, then finish or undo")
            note_servers(context, self._old_url(context), url.get_secret_value())
        both = servers(context)
        number = await_server(both.new, _ANSWERS_S)
        if number == await_server(both.old, _ANSWERS_S):
            raise GuardRefused("upgrade postgres: the target is the very server that is to be replaced; name another one")
        _, major = both.new.server_version()
        begun = plan.databases if context.record(self).facts.get("fit") else ()
        refuse_target(both.new, [outline(both.old, one, major) for one in plan.databases], begun=begun)
        context.note(self, fit="yes")
        return f"Postgres {both.new.server_version()[0]} answers, empty, and takes {len(plan.databases)} databases"

    def undo(self, context: Context) -> str:
        """As in `Step`."""
        plan = self.plan
        if not plan.new.service:
            return "the target is another's server and stays"
        instance = context.api.inventory().services.get(plan.new.service)
        if SERVED in context.record(self).facts:
            if instance is not None and instance.latest is not None and not instance.latest.stopped:
                context.api.stop(instance.latest.id)
            return f"{plan.new.service} is stopped, and kept with what was written to it until it is forgotten"
        if "created" not in context.record(self).facts:
            return "it was never made"
        delete_server(context.api, plan.new.service, context.record(self).facts.get("volume", ""))
        return f"{plan.new.service} and its volume are deleted: nobody ever used them"

    # --- on Railway --------------------------------------------------------------------------------------------------

    def _create(self, context: Context) -> None:
        api, plan = context.api, self.plan
        there = api.inventory().services
        if plan.new.service in there and "created" not in context.record(self).facts:
            raise GuardRefused(
                f"{plan.new.service}: a service of this name is there already; forget what it is of, or rename it"
            )
        context.note(self, created="yes")
        if plan.new.service not in there:

            def find() -> str | None:
                found = api.inventory().services.get(plan.new.service)
                return found.service_id if found else None

            certainly(lambda: api.create_service(plan.new.service), find)
        there = api.inventory().services
        old, new = there[plan.old.service], there[plan.new.service]
        self._configure(context, old, new)
        address = plan.new.address
        note_servers(context, self._old_url(context), superuser_url(api, new.service_id, address))
        latest = api.inventory().services[plan.new.service].latest
        if latest is None or (latest.status.over and not latest.status.active):
            deployment = deploy_now(api, new.service_id)
        else:
            deployment = latest.id
        pace = context.pace
        api.wait_for_deployment(deployment, timeout=pace.deployment, poll=pace.poll, image=plan.image)

    def _configure(self, context: Context, old: ServiceInstance, new: ServiceInstance) -> None:
        """Make it like the old one in everything but image and volume."""
        api, plan = context.api, self.plan
        wanted = needed_variables(api.variables(old.service_id), old.name, new.name)
        known = api.variables(new.service_id)
        api.set_variables(new.service_id, {name: text for name, text in wanted.items() if known.get(name) != text})
        if new.volume is None:

            def find() -> str | None:
                volume = api.inventory().services[new.name].volume
                return volume.volume_id if volume else None

            made = certainly(lambda: api.create_volume(new.service_id, MOUNT, region=plan.region or None), find)
            context.note(self, volume=made)
        volume = api.inventory().services[new.name].volume
        if volume is None:
            raise StackError(f"{new.name}: Railway has made no volume for it; see its dashboard, then finish or undo")
        context.note(self, volume=volume.volume_id)
        if volume.size_mb < plan.volume_mb:
            api.patch({"volumes": {volume.volume_id: {"sizeMB": plan.volume_mb}}}, f"volume as large as that of {old.name}")
        api.update_service(new.service_id, _settings(old, plan.image))
        caps = api.current_limits(old.service_id).get("containers") or {}
        if caps:
            memory = caps["memoryBytes"] / 1e9 if caps.get("memoryBytes") else None
            api.limits(new.service_id, memory_gb=memory, vcpus=caps.get("cpu"))

    def _old_url(self, context: Context) -> str:
        return context.stack.need_postgres_admin().url.get_secret_value()


def needed_variables(raw: Mapping[str, str], old: str, new: str) -> dict[str, str]:
    """Return the variables of a new service: the old one's, led to the new one where they led to the old one itself.

    Args:
        raw: of the old service, as they are written. old, new: names of the services.
    """

    def own(text: str) -> str:
        return _OWN.sub(lambda match: f"${{{{{new if match[1] == old else match[1]}.", text)

    return {name: own(text) for name, text in own_variables(raw).items()}


def delete_server(api: RailwayApi, service: str, volume_id: str) -> None:
    """Delete a service of Postgres, and its volume; nothing happens where they are gone.

    Args:
        volume_id: empty: that of the service.
    """
    inventory = api.inventory()
    instance = inventory.services.get(service)
    if instance is not None:
        volume_id = volume_id or (instance.volume.volume_id if instance.volume else "")
        api.delete_service(instance.service_id)
    if volume_id and any(one.volume_id == volume_id for one in api.inventory().volumes):
        api.delete_volume(volume_id)


def _settings(old: ServiceInstance, image: str) -> ServiceSettings:
    """How the old one runs, with another image; what Railway leaves to itself is left to it."""
    given = {
        "start_command": old.start_command,
        "restart_policy": old.restart_policy,
        "restart_retries": old.restart_retries,
        "draining_seconds": old.draining_seconds,
    }
    return ServiceSettings.model_validate(
        {"image": image, **{name: value for name, value in given.items() if value is not None}}
    )
