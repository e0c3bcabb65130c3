"""Looks at everything that a move of Postgres depends on, and either makes its plan or says why it does not begin."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import timedelta

from pydantic import SecretStr

from blocks.errors import AccessDenied, GuardRefused, SettingsError
from blocks.postgres import PostgresServer, explained
from blocks.railway import PROTECTED
from blocks.railway_api.models import Inventory, ServiceInstance
from flows.catalogue import size
from flows.deploy.refuse import major
from flows.health.dependencies import ORDER
from flows.lease import utc_now
from flows.upgrade.gates import of_railway
from flows.upgrade.look import Eyes
from flows.upgrade.postgres.address import Address, address_of, reached
from flows.upgrade.postgres.audit import Audit, Holder, audit, refers
from flows.upgrade.postgres.consumers import in_start_order
from flows.upgrade.postgres.fence import refuse_unfenceable
from flows.upgrade.postgres.ha import guide_to_ha, refuse_cluster
from flows.upgrade.postgres.look import ARCHIVE, address_on_railway, holders, identity, with_aliases
from flows.upgrade.postgres.moving import left_behind, movable, outline, refuse_target
from flows.upgrade.postgres.orders import Consumer, PostgresPlan, PostgresRequest, Where
from flows.upgrade.postgres.servers import superuser_url
from flows.upgrade.sealed import need_identity
from railway.stack import SERVICES

__all__ = ["make_plan"]

_MAJOR = re.compile(r"-\d+$")


def make_plan(eyes: Eyes, request: PostgresRequest, *, documents: bool = True) -> PostgresPlan:
    """Look, and plan.

    Args:
        documents: this project's own blocks are kept on a Prefect server, and have to be changed, too.
    Raises:
        GuardRefused: it does not begin, and why. RestoreRefused, VersionMismatch: the target is not fit.
        SettingsError, AccessDenied: something is not set up for it.
    """
    stack, inventory = eyes.stack, eyes.api.inventory()
    if request.target == "railway-ha":
        raise _refusal(guide_to_ha(request.service))
    if cluster := refuse_cluster(request.service, inventory):
        raise _refusal(cluster)
    _refuse(of_railway(inventory, [request.service] if request.service else []))
    need_identity(stack.keys)
    admin = stack.need_postgres_admin()
    old, found = _old(eyes, inventory, admin, request)
    old_major = admin.server_version()[1]
    new, image, new_major = _new(eyes, inventory, old, old_major, request)
    if not new.service and identity(_target(eyes)) == identity(admin):
        raise _refusal("POSTGRES_TARGET_URL leads to the very server that is to be replaced; name another one")
    seen = audit(found, old, knows=request.known_sealed)
    _refuse([*_sealed(found, seen, old, new), *of_railway(inventory, _alive(inventory, seen))])
    databases = movable(admin)
    if not databases:
        raise _refusal(f"{_called(old)}: there is no database in it that anybody uses; deploy a new server instead")
    refuse_unfenceable(admin, databases)
    outlines = [outline(admin, name, new_major) for name in databases]
    if not new.service:
        refuse_target(_target(eyes), outlines)
    volume = inventory.services[old.service].volume if old.service else None
    consumers = _consumers(eyes, inventory, found, seen)
    concerned = tuple(one.service for one in consumers if one.service in ORDER and one.deployment and not one.protected)
    faults = eyes.outside.faults(concerned)
    _refuse(f"{one.service} is down: {one.sentence}; mend that first" for one in faults if one.down)
    old_set = eyes.outside.newest_proven(utc_now() - timedelta(hours=request.backup_hours))
    behind = [*left_behind(admin, databases), *_archive(found, old)]
    facts = {
        "postgres": f"{_called(old)} ({admin.server_version()[0]}) -> {new.service or _called(new)} ({image or new_major})",
        "consumers": ", ".join(one.service for one in consumers) or "none",
        "variables": ", ".join(map(str, seen.uses)) or "none",
        "stays behind": "; ".join(behind) or "nothing",
        "extensions": ", ".join(sorted({one for each in outlines for one in each.extensions})) or "none",
        "backup": f"set {old_set}, drilled" if old_set else "taken at the start" + (" and drilled" if request.drill else ""),
    }
    return PostgresPlan(
        kind="postgres",
        stack=stack.name,
        facts=facts,
        passing={f"size of {one.name}": size(one.database_bytes) for one in outlines},
        set_id=old_set,
        drill=request.drill,
        concerned=concerned,
        known=tuple(sorted(one.name for one in faults)),
        soak_minutes=request.soak_minutes,
        smoke=request.smoke,
        old=Where.of(old),
        new=Where.of(new),
        image=image,
        region=(volume.region or "") if volume else "",
        volume_mb=volume.size_mb if volume else 0,
        old_major=old_major,
        new_major=new_major,
        databases=tuple(databases),
        uses=tuple(map(str, seen.uses)),
        consumers=consumers,
        known_sealed=tuple(request.known_sealed),
        rehearse=request.rehearse,
        documents=documents,
    )


def _old(eyes: Eyes, inventory: Inventory, admin: PostgresServer, request: PostgresRequest) -> tuple[Address, list[Holder]]:
    """Find out by which names the old server goes, and read all variables."""
    number, found, routes = identity(admin), holders(eyes.api, inventory), eyes.stack.settings.railway_routes
    _refuse_weak(admin)
    if request.service:
        address = address_on_railway(eyes.api, inventory, request.service)
        url = superuser_url(eyes.api, inventory.services[request.service].service_id, address)
        if identity(PostgresServer(url=SecretStr(reached(url, routes)))) != number:
            raise _refusal(
                f"{request.service}: POSTGRES_RESTORE_URL leads to another server than this service; correct one of them"
            )
    else:
        address = address_of(admin.url.get_secret_value())
    hosts = {one.host: one.name for one in found if one.host}
    return with_aliases(found, address, number, hosts, routes), found


def _new(eyes: Eyes, inventory: Inventory, old: Address, old_major: int, request: PostgresRequest) -> tuple[Address, str, int]:
    """Say where the new server is or will be: address, image, major version."""
    if request.target == "url":
        server = _target(eyes)
        new_major = server.server_version()[1]
        _refuse_older(old_major, new_major)
        return address_of(server.url.get_secret_value()), "", new_major
    if not old.service:
        raise _refusal("the old server is not on Railway, so a new service would not be in its place; use target: url")
    current = inventory.services[old.service].image or ""
    image = request.to if ":" in request.to else f"{current.partition('@')[0].rpartition(':')[0]}:{request.to}"
    tagged = major(image)
    if tagged is None:
        raise _refusal(f"{image} does not say its major version, expected a tag such as 18; give one in `to`")
    new_major = tagged
    _refuse_older(old_major, new_major)
    if new_major == old_major:
        raise _refusal(
            f"{old.service}: {old_major} runs already; another image of the same major version works on the same data: "
            f'deploy/on-demand with images: {{"{old.service}": "{image}"}}, after backup/on-demand'
        )
    eyes.outside.need_image(image)
    service = request.new_service or f"{_MAJOR.sub('', old.service)}-{new_major}"
    if service in inventory.services:
        raise _refusal(f"{service}: a service of this name is there already; forget the upgrade that it is of, or name another")
    return Address(f"{service.lower().replace(' ', '-')}.railway.internal", service=service), image, new_major


def _target(eyes: Eyes) -> PostgresServer:
    settings = eyes.stack.settings
    if settings.postgres_target_url is None:
        raise SettingsError("upgrade postgres: POSTGRES_TARGET_URL is not set, expected a superuser's URL of the new server")
    return PostgresServer(url=settings.postgres_target_url, bin_dirs=list(settings.postgres_bin_dirs))


def _consumers(eyes: Eyes, inventory: Inventory, found: list[Holder], seen: Audit) -> tuple[Consumer, ...]:
    names = in_start_order(seen.consumers, {name: sorted(to) for name, to in refers(found).items()}, list(SERVICES))
    return tuple(_consumer(eyes, inventory.services[name]) for name in names)


def _consumer(eyes: Eyes, instance: ServiceInstance) -> Consumer:
    latest = instance.latest
    own = instance.service_id == eyes.stack.settings.railway_service_id
    return Consumer(
        service=instance.name,
        service_id=instance.service_id,
        image=(latest.image if latest else None) or instance.image or "",
        deployment=latest.id if latest and latest.status.active and not latest.stopped else "",
        health_seconds=instance.healthcheck_timeout or 0,
        protected=own or instance.name in PROTECTED,
    )


def _sealed(found: list[Holder], seen: Audit, old: Address, new: Address) -> Iterable[str]:
    for one in seen.unreadable:
        yield (
            f"{one} is sealed, and leads to the old server or may: nobody can read it or change a part of it; set it anew "
            "unsealed, or name it in known_sealed where it does not lead there"
        )
    mine = next((one for one in found if one.name == old.service), None)
    if mine is not None and mine.sealed and new.service:
        names = ", ".join(sorted(mine.sealed))
        yield f"{old.service}: {names} are sealed, so the new service cannot have them; set them anew unsealed"


def _alive(inventory: Inventory, seen: Audit) -> list[str]:
    """Name the consumers that run, or are about to: those that do not are left as they are."""
    found = [(name, inventory.services[name].latest) for name in seen.consumers]
    return [name for name, one in found if one is not None and (not one.status.over or (one.status.active and not one.stopped))]


def _refuse_older(old: int, new: int) -> None:
    if new < old:
        raise _refusal(f"the target is a {new} server and the old one a {old}: data goes to a newer server only; name one")


def _refuse_weak(server: PostgresServer) -> None:
    with server.connect() as connection, explained(server.maintenance_database, "look at rights"):
        row = connection.execute("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").fetchone()
    if not row or not row[0]:
        raise AccessDenied(
            f"upgrade postgres: role {server.user} of POSTGRES_RESTORE_URL is no superuser; it has to read what the server "
            "keeps of passwords, and to close it for writers"
        )


def _archive(found: list[Holder], old: Address) -> list[str]:
    """Say so where the old server archives what it writes: the new one begins without."""
    mine = next((one.raw for one in found if one.name == old.service), {})
    on = any(name.startswith(ARCHIVE) for name in mine)
    return ["point-in-time recovery: enable it for the new server, its history begins anew"] if on else []


def _called(address: Address) -> str:
    return address.service or f"{address.host}:{address.port}"


def _refuse(reasons: Iterable[str]) -> None:
    if found := list(dict.fromkeys(reasons)):
        raise _refusal("; ".join(found))


def _refusal(reason: str) -> GuardRefused:
    return GuardRefused(f"upgrade postgres: nothing was changed: {reason}")
