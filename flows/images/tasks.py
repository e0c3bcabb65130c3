"""The steps of the look at images: ask the registries, show, tell."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime

from prefect import task
from pydantic import ValidationError

from blocks.alerts import channels
from blocks.errors import AccessDenied, DeliveryFailed, IntegrityError, ServiceError, SettingsError
from blocks.image_name import DOCKER_HUB, ImageName
from blocks.registry import Registries
from blocks.settings import Settings
from flows.health.ledger import Outbox
from flows.health.links import links_of
from flows.health.memory import load_text, save_text
from flows.health.outbox import deliver_async
from flows.images.configured import Configured
from flows.images.judge import Look, Verdict
from flows.images.telling import happenings
from flows.report import Summary, flow_run_id, line

__all__ = ["look_at", "show", "tell"]

WAITS_S = (15.0,)
"""Pauses before what a channel did not take is sent again."""


@task(name="look at images", timeout_seconds=1200.0)
def look_at(images: Configured, registry_url: str) -> list[Look]:
    """Ask each image's registry about it, one after the other: they are few, and registries count requests."""
    with Registries(registry_url) as registries:
        return [_look(registries, service, image) for service, image in images.images.items()]


def _look(registries: Registries, service: str, image: str) -> Look:
    try:
        name = ImageName.parse(image)
    except SettingsError as error:
        return Look(service, ImageName(DOCKER_HUB, image, ""), "gone", said=str(error))
    try:
        found = registries.find(name, created=True)
        tags = tuple(registries.tags(name)) if name.tag else ()
        now = registries.find(name.with_tag(name.tag)) if name.tag and name.digest else None
    except AccessDenied as error:
        line(str(error))
        return Look(service, name, "locked")
    except (ServiceError, IntegrityError) as error:
        return Look(service, name, "unknown", said=str(error))
    return Look(service, name, "there" if found else "gone", found, tags=tags, tag_now=now.digest if now else "")


def show(settings: Settings, images: Configured, verdicts: Sequence[Verdict]) -> None:
    """Publish what was found, and log it, a line for each image."""
    head = ("Service", "Image", "In its registry", "Repaired", "Newest", "Built", "Remark")
    summary = Summary(f"Images of {settings.stack_name}", head)
    for verdict in verdicts:
        look, created = verdict.look, verdict.look.found.created if verdict.look.found else None
        remark = "; ".join([one.sentence for one in verdict.findings] + ([verdict.note] if verdict.note else []))
        built = f"{created:%Y-%m-%d}" if created else ""
        summary.row(look.service, look.name, look.state, verdict.newer.repaired, verdict.newer.newest, built, remark)
        line(f"{look.service}: {look.name}: {look.state}{f'; {remark}' if remark else ''}")
    summary.note(
        f"Read from {images.where}. A repaired tag differs in its last numbers; the newest is of the same major version."
    )
    summary.publish(f"images-{settings.stack_name}")


@task(name="tell about images", timeout_seconds=300.0)
def tell(settings: Settings, verdicts: Sequence[Verdict], now: datetime) -> int:
    """Tell people what is new since the last time, on the channels of the stack.

    Returns: how many things happened: findings that are new, last, or are over.
    Raises:
        DeliveryFailed: a channel did not take it. It stays owed to the next run; the failed run is told by the others.
    """
    return asyncio.run(_tell(settings, verdicts, now))


async def _tell(settings: Settings, verdicts: Sequence[Verdict], now: datetime) -> int:
    name, ways = f"images_{settings.stack_name}", channels(settings)
    outbox = await _remembered(name)
    happened = happenings(outbox, verdicts, settings.stack_name, now)

    async def save(present: Outbox) -> None:
        await save_text(name, present.model_dump_json(exclude_defaults=True))

    for pause in (*WAITS_S, None):
        outbox = await deliver_async(outbox, happened, ways, links_of(settings, flow_run_id()), now, save)
        if not outbox.owed or pause is None:
            break
        await asyncio.sleep(pause)
    for one in happened:
        line(f"{one.kind}: {one.incident.service} {one.incident.aspect}: {one.incident.sentence}")
    if outbox.owed:
        waiting = sorted({name for case in outbox.cases for name in case.waiting})
        raise DeliveryFailed(
            f"images: {', '.join(waiting)} did not take {outbox.owed} messages; the log says why; sent again tomorrow"
        )
    return len(happened)


async def _remembered(name: str) -> Outbox:
    """What earlier runs left; a memory that cannot be read is begun anew, which may tell a finding twice and loses none."""
    try:
        text = await load_text(name)
        return Outbox() if text is None else Outbox.model_validate_json(text)
    except (IntegrityError, ValidationError) as error:
        line(f"what earlier runs left cannot be read ({type(error).__name__}): begun anew")
        return Outbox()
