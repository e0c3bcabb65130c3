"""Which images the stack is configured with."""

from __future__ import annotations

from dataclasses import dataclass

from blocks.railway import RailwayEnvironment, from_settings
from blocks.settings import Settings
from flows.documents import optional
from railway.services.images import WORKER, defaults
from railway.stack import SERVICES

__all__ = ["Configured", "configured"]


@dataclass(frozen=True)
class Configured:
    """The images of a stack.

    Attributes:
        images: by service. where: they were read, for people.
    """

    images: dict[str, str]
    where: str


def configured(settings: Settings) -> Configured:
    """Read the images that Railway has for the services of the stack; without Railway, name those that the project ships.

    Raises:
        RailwayError: Railway does not answer, or not to this token.
    """
    place = optional(RailwayEnvironment, settings.stack_name) or from_settings(settings)
    if place is None:
        shipped = {name: image for name, image in defaults(3).items() if image != WORKER}
        own = {"prefect-worker": settings.worker_image} if settings.worker_image else {}
        return Configured({**shipped, **own}, "what this project ships, as no Railway environment is set up")
    with place.open() as api:
        inventory = api.inventory()
    found = {one.name.lower().replace(" ", "-"): one.image for one in inventory.services.values() if one.image}
    return Configured({name: found[name] for name in SERVICES if name in found}, f"Railway, environment {inventory.name}")
