"""The step that makes the data safe before anything is changed; its undo puts the data back where the rules say so."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from blocks.errors import DeploymentFailed, StackError
from blocks.railway_api.certainty import certainly
from blocks.railway_api.models import VolumeBackup, VolumeInstance
from flows.upgrade.orders import ServiceChange, ServicePlan
from flows.upgrade.rules import ClickHouseSchema, Facts, PrismaSchema, Version, Way, way_back
from flows.upgrade.steps import Context, Step

__all__ = ["SecureData", "needs_snapshot"]


def needs_snapshot(change: ServiceChange) -> bool:
    """Say whether the way back is the volume as it was: an older program would not start on what a newer one has written."""
    return change.has_volume and change.way is not Way.IMAGE


@dataclass(frozen=True)
class SecureData(Step):
    """Chooses the proven set, or takes one; backs up the volumes that a way back needs.

    Databases go back from the set, beside the live ones, compared and then swapped; volumes from Railway's backup of them.
    """

    plan: ServicePlan

    def describe(self) -> str:
        """As in `Step`."""
        plan = self.plan
        drilled = "and restored to scratch, compared" if plan.drill else "not drilled, as asked"
        words = [f"rely on set {plan.set_id}, which was drilled" if plan.set_id else f"take a backup set, {drilled}"]
        words += [f"back up the volume of {one.service} on Railway" for one in plan.changes if needs_snapshot(one)]
        if plan.back:
            words.append(f"a way back restores {', '.join(plan.back)} from the set, and discards what was written since")
        return "; ".join(words)

    def do(self, context: Context) -> str:
        """As in `Step`."""
        journal, plan = context.journal, self.plan
        if "schemas" not in context.record(self).facts:
            context.note(self, schemas=_noted(context.outside.databases()))
        if not journal.set_id:
            label = f"before upgrade {journal.id}"
            journal.set_id = plan.set_id or context.outside.take_set(label, context.lease, drill=plan.drill)
            context.save()
        taken = [one.service for one in plan.changes if needs_snapshot(one) and self._snapshot(context, one)]
        return f"set {journal.set_id}" + (f", and the volume of {', '.join(taken)}" if taken else "")

    def undo(self, context: Context) -> str:
        """As in `Step`."""
        begun = [one for one in self.plan.changes if self._begun(context, one)]
        done = []
        for one in (one for one in begun if needs_snapshot(one)):
            _stop(context, [one])
            self._put_volume_back(context, one)
            done.append(f"the volume of {one.service}")
        back = [one for one in begun if one.way is Way.DATA and not one.has_volume]
        if self.plan.back and back and (why := self._moved(context, back)):
            if "restored" not in context.record(self).facts:
                _stop(context, self.plan.changes)
                restored = context.outside.put_back(context.journal.set_id, self.plan.back, context.lease)
                context.note(self, restored=restored)
            done.append(f"{', '.join(self.plan.back)} from set {context.journal.set_id} ({why})")
        return f"put back: {'; '.join(done)}" if done else "the data was not touched"

    def _begun(self, context: Context, change: ServiceChange) -> bool:
        """Whether the new image may have run: something was deployed since the plan was made, noted or not."""
        newest = next(iter(context.api.deployments(change.service_id, first=1)), None)
        return newest is not None and newest.id != change.deployment

    def _moved(self, context: Context, changes: Iterable[ServiceChange]) -> str:
        """Say why the data has to go back, now that one can see what the new version did; empty where it need not."""
        then = _read(context.record(self).facts.get("schemas", ""))
        now = context.outside.databases()
        for one in changes:
            found = way_back(one.service, Version.of(one.old), Version.of(one.new), then, now)
            if found.way is Way.DATA:
                return found.why
        return ""

    # --- volumes -----------------------------------------------------------------------------------------------------

    def _snapshot(self, context: Context, change: ServiceChange) -> bool:
        """Have Railway back up a volume, unless it has already."""
        api, volume = context.api, _volume(context, change)
        name = self._name(context)

        def find() -> VolumeBackup | None:
            return next((one for one in api.backups(volume.id) if one.name == name), None)

        if find() is None:
            workflow = certainly(lambda: api.create_backup(volume.id, name), lambda: "there" if find() else None)
            if workflow != "there":
                api.wait_for_workflow(workflow, timeout=context.pace.deployment, poll=context.pace.poll)
        return find() is not None

    def _put_volume_back(self, context: Context, change: ServiceChange) -> None:
        """Have Railway put a fresh volume with the backup's data in the place of the one that the new version wrote to."""
        key = f"volume of {change.service} is back"
        if key in context.record(self).facts:
            return
        api, volume = context.api, _volume(context, change)
        staging = f"volume of {change.service} is being put back"
        if staging in context.record(self).facts and api.unmerged_changes():  # by a process that died before it committed
            self._commit_volume(context, change, volume.volume_id)
            return
        backup = next((one for one in api.backups(volume.id) if one.name == self._name(context)), None)
        if backup is None:
            raise StackError(
                f"{change.service}: Railway has no backup {self._name(context)!r} of its volume any more; deploy {change.old} "
                f"on an empty volume, and restore set {context.journal.set_id} into it"
            )
        api.need_nothing_staged("the restored volume")  # before it is noted: what is staged from here on is ours
        context.note(self, **{staging: backup.id})
        workflow = api.restore_backup(volume.id, backup.id)
        api.wait_for_workflow(workflow, timeout=context.pace.deployment, poll=context.pace.poll)
        self._commit_volume(context, change, volume.volume_id)

    def _commit_volume(self, context: Context, change: ServiceChange, volume_id: str) -> None:
        context.api.commit_staged(
            f"upgrade {context.journal.id}: volume of {change.service} as before",
            touching=[change.service_id, volume_id],
            skip_deploys=True,
        )
        context.note(self, **{f"volume of {change.service} is back": context.journal.id})

    def _name(self, context: Context) -> str:
        return f"before upgrade {context.journal.id}"


def _volume(context: Context, change: ServiceChange) -> VolumeInstance:
    volume = context.api.inventory().services[change.service].volume
    if volume is None:
        raise StackError(f"{change.service}: its volume is not there any more; who detached it? See Railway's dashboard")
    return volume


def _stop(context: Context, changes: Iterable[ServiceChange]) -> None:
    """Let nothing of the new version, nor of one that Railway deployed by itself, write while the data goes back."""
    for one in changes:
        newest = next(iter(context.api.deployments(one.service_id, first=1)), None)
        if newest is None or newest.stopped:
            continue
        if newest.status.active:
            context.api.stop(newest.id)
        elif not newest.status.over:
            context.api.cancel(newest.id)
            try:
                context.api.wait_for_deployment(newest.id, timeout=context.pace.settle, poll=context.pace.poll)
            except DeploymentFailed:
                continue  # given up, as asked


def _noted(facts: Facts) -> str:
    """Write down how far the databases are migrated."""
    return json.dumps({name: asdict(found) if (found := getattr(facts, name)) else None for name in _SCHEMAS})


def _read(noted: str) -> Facts:
    """Read what `_noted` wrote; nothing is known where it wrote nothing."""
    found = json.loads(noted or "{}")
    litellm, langfuse, clickhouse = (found.get(name) for name in _SCHEMAS)
    return Facts(
        litellm_schema=_prisma(litellm),
        langfuse_schema=_prisma(langfuse),
        clickhouse_schema=ClickHouseSchema(**clickhouse) if clickhouse else None,
    )


def _prisma(found: dict[str, Any] | None) -> PrismaSchema | None:
    return PrismaSchema(**{**found, "unfinished": tuple(found["unfinished"])}) if found else None


_SCHEMAS = ("litellm_schema", "langfuse_schema", "clickhouse_schema")
