"""Rehearse an upgrade of LiteLLM: the newest set is restored to a scratch place, and the new version's migrations run there."""

from __future__ import annotations

import tempfile
from pathlib import Path

from prefect import flow, task
from pydantic import BaseModel, Field

from blocks.denied import DENIED_VERSIONS
from blocks.errors import RehearsalFailed, SettingsError
from blocks.retry import RETRIED
from flows import catalogue
from flows.drill.scratch import embedded
from flows.drill.tasks import postgres_to_scratch
from flows.lease import utc_now
from flows.report import line, timed
from flows.restore.choose import chosen, side_name
from flows.stack import Stack
from flows.upgrade.rehearsal.confined import confined
from flows.upgrade.rehearsal.record import Rehearsal, save, show
from flows.upgrade.rehearsal.run import Limits, rehearse_on
from flows.upgrade.rehearsal.wheel import Wheel, extras_of, fetch
from flows.upgrade.rules import Version
from flows.upgrade.rules.litellm import resolver
from railway.services.images import defaults

__all__ = ["RehearsalRequest", "rehearse"]


class RehearsalRequest(BaseModel):
    """Which version to rehearse, and with which data."""

    to: str = Field(
        default="",
        description="LiteLLM's new version, or its image: 1.108.0, ghcr.io/berriai/litellm:v1.108.0; empty: what ships here",
    )
    extras_version: str = Field(
        default="", description="Version of litellm-proxy-extras that it comes with; empty: as the package index says"
    )
    set_id: str = Field(default="latest", description="latest, the id of a set, or a time (the newest set not younger)")
    statement_minutes: int = Field(default=60, ge=1, le=24 * 60, description="One statement of a migration may take so long")
    health_seconds: int = Field(
        default=300, ge=1, description="Railway waits so long for LiteLLM's health check, migrations included"
    )


@flow(name="rehearse", validate_parameters=True, timeout_seconds=12 * 3600)
def rehearse(request: RehearsalRequest = RehearsalRequest()) -> Rehearsal:
    """Apply the migrations of another LiteLLM to a copy of the data, and report how long they take and what they change.

    Nothing live is touched. Nothing of the new version is executed but its SQL, as a role that may change the copy and nothing
    else. The copy is gone afterwards.

    Args:
        request: which version, and which set.
    Returns: what was found; it is kept in the store, and an upgrade to that version shows it.
    Raises:
        RehearsalFailed: the migrations do not fit the data: the upgrade must not be made.
        SettingsError: there is no such version, or the scratch place cannot take the data.
    """
    stack = Stack.load()
    version = Version.of(request.to or defaults(3)["litellm"])
    if not version.is_exact:
        raise SettingsError(f"rehearsal: {request.to!r} names no version, expected one as 1.108.0")
    if str(version) in DENIED_VERSIONS:
        raise SettingsError(f"rehearsal: {version} is a compromised release, expected another one; nothing of it is fetched")
    wheel = fetch_migrations(str(version), request.extras_version)
    manifest = catalogue.read(stack.store, stack.keys).need(request.set_id)
    manifest = catalogue.with_definitions(stack.store, stack.keys, manifest)  # a restore goes by them
    component = chosen(manifest, [f"postgres/{stack.settings.litellm_database}"]).postgres[0]
    with embedded(stack, [component], []) as scratch:
        target = side_name(component.name, "drill", manifest.id)
        with timed() as watch:
            server = postgres_to_scratch(stack, scratch, manifest, component, target)
        line(f"{manifest.id}: {component.name} restored in {watch.seconds:.1f} s")
        limits = Limits(request.statement_minutes * 60, request.health_seconds)
        migrator = confined(server, target, component.properties.owner)
        found = rehearse_on(server, migrator, target, wheel, resolver=resolver(version, {}), limits=limits)
    rehearsal = Rehearsal(
        stack=stack.name,
        litellm=str(version),
        extras=wheel.version,
        wheel_sha256=wheel.sha256,
        set_id=manifest.id,
        at=utc_now(),
        applied=list(found.applied),
        bytes_before=found.before.bytes,
        bytes_after=found.after.bytes,
        lost=list(found.lost),
        problems=list(found.problems),
        warnings=list(found.warnings),
    )
    save(stack.store, rehearsal)
    show(rehearsal)
    line(rehearsal.sentence())
    if not rehearsal.ok:
        raise RehearsalFailed(f"{rehearsal.sentence()}; do not upgrade to it; nothing live was touched")
    return rehearsal


@task(name="fetch migrations", **RETRIED)
def fetch_migrations(litellm: str, extras_version: str) -> Wheel:
    """Fetch the wheel with a version's migrations from the package index, and say what came."""
    extras = extras_version or extras_of(litellm)
    with tempfile.TemporaryDirectory(prefix="migrations-") as folder:
        wheel = fetch(extras, Path(folder))
    line(f"litellm {litellm}: {len(wheel.migrations)} migrations of litellm-proxy-extras {extras}, sha256 {wheel.sha256}")
    return wheel
