"""Looks at everything that an upgrade depends on, and either makes its plan or says why it does not begin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from blocks.errors import GuardRefused, SettingsError
from blocks.railway_api.api import RailwayApi
from blocks.railway_api.models import Inventory
from flows.health.dependencies import ORDER, in_order, needs_of
from flows.lease import utc_now
from flows.stack import Stack
from flows.upgrade.definition import changed_variables, definition
from flows.upgrade.facts import facts_of
from flows.upgrade.gates import of_railway, of_the_stack
from flows.upgrade.images import targets
from flows.upgrade.orders import KINDS, Kind, ServiceChange, ServicePlan, UpgradeRequest
from flows.upgrade.outside import Outside
from flows.upgrade.rehearsal.record import Rehearsal, load
from flows.upgrade.rules import Facts, Version, Way, moves_schema, refusals, way_back
from flows.upgrade.rules.langfuse import FIRST_OF_FOUR, LEAST
from flows.upgrade.rules.litellm import loses_traces
from flows.upgrade.sealed import need_identity
from railway.services.images import defaults
from railway.stack import LangfuseMajor

__all__ = ["Eyes", "make_plan"]

APPLICATIONS = ("litellm", "langfuse-web", "langfuse-worker")
_ORDER = ("postgres", "clickhouse", "redis", "minio", *APPLICATIONS, "prefect-server", "prefect-worker")
"""Stores first; LiteLLM speaks to Langfuse, and is told how before Langfuse expects it; what operates the stack last."""


@dataclass(frozen=True)
class Eyes:
    """What a plan is made with. stack: its systems. api: of its environment. outside: health, backups, registries."""

    stack: Stack
    api: RailwayApi
    outside: Outside


def make_plan(eyes: Eyes, kind: Kind, request: UpgradeRequest) -> ServicePlan:
    """Look, and plan.

    Returns: the plan; without changes where everything runs already.
    Raises:
        GuardRefused: it does not begin, with every reason.
    """
    inventory = eyes.api.inventory()
    wanted = [name for name in KINDS[kind] if name in inventory.services or name == KINDS[kind][0]]
    _refuse(kind, of_railway(inventory, wanted))
    images = {name: one.image for name, one in inventory.services.items() if one.image}
    old_major = _major(images)
    aims = targets(kind, request.to, request.images, images, old_major)
    variables = {name: dict(eyes.api.variables(inventory.services[name].service_id)) for name in APPLICATIONS if name in images}
    facts = facts_of(eyes.outside.databases(), inventory, variables)
    if kind == "langfuse":
        aims, facts = _with_prerequisites(aims, request, images, facts)
        _refuse(kind, of_railway(inventory, list(aims)))
    told = _variables(eyes.stack.name, kind, images, aims, variables)
    aims = {name: image for name, image in aims.items() if image != images[name] or told.get(name)}
    if not aims:
        return ServicePlan(kind=kind, stack=eyes.stack.name, facts={name: f"{images[name]} runs already" for name in wanted})
    facts = replace(facts, variables=_told(facts, told))
    changes = tuple(_change(eyes, inventory, facts, aims, name, told) for name in sorted(aims, key=_ORDER.index))
    concerned = in_order({one for name in aims for one in (name, *_dependants(name)) if one in inventory.services})
    faults = eyes.outside.faults(in_order({*concerned, *(need for name in concerned for need in needs_of(name))}))
    rehearsed = _rehearsal(eyes.stack, changes)
    told_not_to = [rehearsed.sentence()] if rehearsed and not rehearsed.ok else []
    _refuse(
        kind, [*_sealed(eyes.api, changes), *_rules(changes, facts), *of_the_stack(changes, inventory, faults), *told_not_to]
    )
    changes = tuple(one.model_copy(update={"digest": eyes.outside.need_image(one.new)}) for one in changes)
    back = _back(eyes.stack, changes)
    if back or any(one.variables for one in changes):
        need_identity(eyes.stack.keys)
    old_set = "" if back else eyes.outside.newest_proven(utc_now() - timedelta(hours=request.backup_hours))
    return ServicePlan(
        kind=kind,
        stack=eyes.stack.name,
        facts={**_facts(changes, facts, old_set, request), **_rehearsed(changes, rehearsed)},
        passing=_passing(inventory, changes),
        changes=changes,
        set_id=old_set,
        drill=request.drill,
        back=back,
        concerned=concerned,
        known=tuple(sorted(one.name for one in faults)),
        soak_minutes=request.soak_minutes,
        smoke=request.smoke,
    )


def _refuse(kind: str, reasons: Iterable[str]) -> None:
    if found := list(dict.fromkeys(reasons)):
        raise GuardRefused(f"upgrade {kind}: nothing was changed: {'; '.join(found)}")


def _major(images: Mapping[str, str]) -> LangfuseMajor:
    return 4 if (Version.of(images.get("langfuse-web", "")).major or 3) >= 4 else 3


def _dependants(service: str) -> list[str]:
    return [name for name in ORDER if service in needs_of(name)]


def _with_prerequisites(
    aims: dict[str, str], request: UpgradeRequest, images: Mapping[str, str], facts: Facts
) -> tuple[dict[str, str], Facts]:
    """Add what has to change with Langfuse from 3 to 4: ClickHouse where it is too old, LiteLLM where it would lose traces."""
    old, new = (Version.of(one.get("langfuse-web", "")) for one in (images, aims))
    if (old.major, new.major) != (3, 4):
        if "clickhouse" in request.images:
            raise SettingsError("upgrade langfuse: ClickHouse changes with it from 3 to 4 only; use upgrade/clickhouse")
        return aims, facts
    found, runs = dict(aims), dict(facts.runs)
    clickhouse = facts.version("clickhouse")
    if "clickhouse" in request.images:
        found["clickhouse"] = request.images["clickhouse"]
    elif clickhouse is not None and clickhouse.numbers < LEAST[4]["clickhouse"]:
        found["clickhouse"] = defaults(4)["clickhouse"]
    if "clickhouse" in found:
        runs["clickhouse"] = Version.of(found["clickhouse"])  # it comes first: what Langfuse will meet
    callbacks = facts.callbacks
    if "litellm" in images and loses_traces(facts.version("litellm"), new, callbacks):
        found["litellm"] = images["litellm"]
        callbacks = frozenset({"langfuse_otel"})  # set before Langfuse changes
    return found, replace(facts, runs=runs, callbacks=callbacks, from_three_to_four=True)


def _variables(
    name: str, kind: Kind, images: Mapping[str, str], aims: Mapping[str, str], there: Mapping[str, Mapping[str, str]]
) -> dict[str, dict[str, str]]:
    """Say which variables change with the versions, by service: what the definition says of the one and not of the other."""
    after = {**images, **aims}
    old_major, new_major = _major(images), _major(after)
    before, wanted = definition(images, images, old_major, name), definition(images, after, new_major, name)
    found = {}
    for service in aims:
        if service not in wanted.services:
            continue
        changed = changed_variables(before.services[service], wanted.services[service])
        if kind == "langfuse" and old_major != new_major and service.startswith("langfuse-"):
            changed |= FIRST_OF_FOUR  # not what a new stack begins with: old and new clients are heard
        found[service] = {key: text for key, text in changed.items() if there.get(service, {}).get(key) != text}
    return found


def _told(facts: Facts, told: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    services = {*facts.variables, *told}
    return {name: {**facts.variables.get(name, {}), **told.get(name, {})} for name in services}


def _change(
    eyes: Eyes,
    inventory: Inventory,
    facts: Facts,
    aims: Mapping[str, str],
    name: str,
    told: Mapping[str, Mapping[str, str]],
) -> ServiceChange:
    instance, new = inventory.services[name], aims[name]
    old = instance.image or ""
    versions = Version.of(old), Version.of(new)
    back = way_back(name, *versions, facts)
    images = {service: one.image for service, one in inventory.services.items() if one.image}
    defined = definition(images, {**images, **aims}, _major({**images, **aims}), eyes.stack.name).services.get(name)
    return ServiceChange(
        service=name,
        service_id=instance.service_id,
        old=old,
        new=new,
        deployment=instance.latest.id if instance.latest else "",
        variables=dict(told.get(name, {})),
        names=tuple(sorted(defined.variables)) if defined else (),
        has_volume=instance.volume is not None,
        way=back.way,
        why=back.why,
        moves=moves_schema(name, *versions, facts),
        health_seconds=instance.healthcheck_timeout or 0,
        own=instance.service_id == eyes.stack.settings.railway_service_id,
    )


def _sealed(api: RailwayApi, changes: Sequence[ServiceChange]) -> Iterable[str]:
    """Nobody can read a sealed value, so that nobody could put it back."""
    if not any(one.variables for one in changes):
        return
    sealed = {(meta.service_id, meta.name) for meta in api.variable_meta() if meta.sealed}
    for one in changes:
        for name in sorted(one.variables):
            if (one.service_id, name) in sealed:
                yield f"{one.service}: {name} has to change and is sealed, so it could not be put back; set it anew, not sealed"


def _rules(changes: Sequence[ServiceChange], facts: Facts) -> Iterable[str]:
    for one in changes:
        if one.old != one.new:
            yield from map(str, refusals(one.service, Version.of(one.old), Version.of(one.new), facts))


def _back(stack: Stack, changes: Sequence[ServiceChange]) -> tuple[str, ...]:
    """Name the databases that a way back may have to restore from the set."""
    found: list[str] = []
    for one in changes:
        if one.way is not Way.DATA or one.has_volume:
            continue
        if one.service == "litellm":
            found.append(f"postgres/{stack.settings.litellm_database}")
        elif one.service == "langfuse-web":
            found += [f"clickhouse/{name}" for name in stack.clickhouse_databases()]
            found.append(f"postgres/{stack.settings.langfuse_database}")
    return tuple(found)


def _facts(changes: Sequence[ServiceChange], facts: Facts, old_set: str, request: UpgradeRequest) -> dict[str, str]:
    """Word what was found, for the preview."""
    found = {}
    for one in changes:
        found[one.service] = f"{one.old} -> {one.new}" + (f" ({one.digest})" if one.digest else "")
        found[f"way back of {one.service}"] = f"{one.way.value}: {one.why}"
    for name in ("litellm", "langfuse"):
        if schema := getattr(facts, f"{name}_schema"):
            found[f"migrations of {name}"] = f"{schema.applied}, the newest is {schema.newest}"
    if facts.clickhouse_schema:
        found["migration of ClickHouse"] = str(facts.clickhouse_schema.version)
    found["backup"] = f"set {old_set}, drilled" if old_set else "taken at the start" + (" and drilled" if request.drill else "")
    return found


def _rehearsal(stack: Stack, changes: Sequence[ServiceChange]) -> Rehearsal | None:
    """Find the last rehearsal of the version that LiteLLM is to become."""
    versions = [str(Version.of(one.new)) for one in changes if one.service == "litellm"]
    return load(stack.store, versions[0]) if versions else None


def _rehearsed(changes: Sequence[ServiceChange], rehearsal: Rehearsal | None) -> dict[str, str]:
    """Word when LiteLLM's migrations were rehearsed, and how that went."""
    if rehearsal is None:
        missing = "none of this version; rehearse/litellm applies its migrations to a copy of the data"
        return {"rehearsal": missing} if any(one.service == "litellm" and one.moves for one in changes) else {}
    return {"rehearsal": f"{rehearsal.sentence()} ({rehearsal.at:%Y-%m-%d %H:%M} UTC)"}


def _passing(inventory: Inventory, changes: Sequence[ServiceChange]) -> dict[str, str]:
    found = {}
    for one in changes:
        if volume := inventory.services[one.service].volume:
            found[f"volume of {one.service}"] = f"{volume.used_mb / 1000:.1f} of {volume.size_mb / 1000:.1f} GB used"
    return found
