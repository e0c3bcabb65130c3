"""What an upgrade asks of a real stack."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from datetime import UTC, datetime

from blocks.errors import AccessDenied, GuardRefused, SmokeFailed
from blocks.registry import ImageName, Registries
from flows import catalogue
from flows.backup.flow import BackupRequest, take
from flows.copy.view import reading_from
from flows.drill.flow import DrillRequest, drill
from flows.health.observation import Status
from flows.health.observe import observe
from flows.health.sweep import is_failing
from flows.health.targets import Targets
from flows.lease import Lease
from flows.report import line
from flows.restore import flow as restoring
from flows.restore.checks import refuse_unfit
from flows.restore.choose import chosen
from flows.restore.plan import plan_restore
from flows.smoke import checks
from flows.smoke.flow import SmokeRequest, targets
from flows.smoke.results import failures, verdict
from flows.stack import Stack
from flows.upgrade.databases import read_databases, read_requests
from flows.upgrade.outside import Fault, Outside
from flows.upgrade.rules import Facts

__all__ = ["Live"]


class Live(Outside):
    """Of one stack. stack: its systems."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack

    def faults(self, services: Collection[str]) -> list[Fault]:
        """As in `Outside`: the checks of a sweep."""
        found = asyncio.run(observe(Targets.from_settings(self._stack.settings)))
        bad = [one for one in found if one.service in services and one.status in (Status.DEGRADED, Status.DOWN)]
        return [Fault(one.service, one.aspect, is_failing(one), one.sentence) for one in bad]

    def databases(self) -> Facts:
        """As in `Outside`."""
        return read_databases(self._stack)

    def need_image(self, image: str) -> str:
        """As in `Outside`."""
        name = ImageName.parse(image)
        with Registries(self._stack.settings.registry_url) as registries:
            try:
                found = registries.find(name)
            except AccessDenied as error:
                raise GuardRefused(f"upgrade: nothing was changed: nobody can pull {image} without a login: {error}") from None
        if found is None:
            raise GuardRefused(
                f"upgrade: nothing was changed: {image} is not there, its registry has no such tag; see which there are, and "
                "give one of them"
            )
        return found.digest

    def newest_proven(self, since: datetime) -> str:
        """As in `Outside`."""
        entries = catalogue.read(self._stack.store, self._stack.keys).entries
        proven = (one for one in entries if one.good and one.facts().drilled_at is not None)
        return next((one.id for one in proven if one.created_at >= since), "")

    def take_set(self, label: str, lease: Lease, *, drill: bool) -> str:
        """As in `Outside`."""
        manifest = take(self._stack, BackupRequest(label=label, protect=True), lease)
        line(f"committed {manifest.id}: {catalogue.size(manifest.stored_bytes)} in {len(manifest.components)} components")
        if drill:
            prove(DrillRequest(set_id=manifest.id))
        return manifest.id

    def put_back(self, set_id: str, components: Sequence[str], lease: Lease) -> str:
        """As in `Outside`: restored beside what is there, compared with the manifest, swapped."""
        stack = self._stack
        with reading_from(stack, "store") as source:
            manifest = catalogue.read(source.store, source.keys).need(set_id)
            manifest = catalogue.with_definitions(source.store, source.keys, manifest)
            parts = chosen(manifest, components)
            plan = plan_restore(stack, manifest, parts)
            refuse_unfit(stack, manifest, plan, replace=True, accept_other_keys=False)
            return restoring.carry_out(stack, source, manifest, parts, plan, lease).id

    def smoke(self) -> str:
        """As in `Outside`."""
        results = checks.run(targets(self._stack.settings, SmokeRequest()))
        if failed := failures(results):
            raise SmokeFailed(f"smoke: {verdict(results)}; {failed[0].detail}")
        return verdict(results)

    def requests(self, since: datetime) -> tuple[int, int] | None:
        """As in `Outside`."""
        return read_requests(self._stack, since.astimezone(UTC))


prove = drill
"""The drill as a flow of its own; under this name because the word is also that of a parameter."""
