"""Look for the stack's images in their registries: are they still there, and are there repaired ones."""

from __future__ import annotations

from prefect import flow
from pydantic import BaseModel, Field

from blocks.errors import ServiceError
from blocks.settings import Settings
from flows.images.configured import configured
from flows.images.judge import judge
from flows.images.tasks import look_at, show, tell
from flows.lease import utc_now

__all__ = ["ImagesRequest", "images"]


class ImagesRequest(BaseModel):
    """Whether anybody is told."""

    dry_run: bool = Field(default=False, description="Look and show, and tell nobody")


@flow(name="images", validate_parameters=True, timeout_seconds=1800)
def images(request: ImagesRequest = ImagesRequest()) -> list[str]:
    """Look for every configured image in its registry, and tell people what they have to do.

    A running service keeps the image that it has pulled; a tag that is gone breaks it later, at the next deployment or when the
    platform moves it (facts: railway.md 6). So the registries are asked each day.

    Args:
        request: whether anybody is told.
    Returns: a sentence for each finding.
    Raises:
        ServiceError: a registry could not be asked; what was found at the others is told all the same.
        DeliveryFailed: a channel did not take what was to be told.
    """
    settings = Settings.load()
    stack_images = configured(settings)
    verdicts = [judge(look) for look in look_at(stack_images, settings.registry_url)]
    show(settings, stack_images, verdicts)
    if not request.dry_run:
        tell(settings, verdicts, utc_now())
    unknown = [verdict.look for verdict in verdicts if verdict.look.state == "unknown"]
    if unknown:
        more = f" (and {len(unknown) - 1} more images)" if len(unknown) > 1 else ""
        raise ServiceError(f"images: nobody knows about {unknown[0].service}{more}: {unknown[0].said}; run images/daily again")
    return [finding.sentence for verdict in verdicts for finding in verdict.findings]
