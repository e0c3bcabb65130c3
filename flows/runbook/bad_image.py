"""Whether the image of a service's newest deployment is to blame, and what ran before it. Decides on values alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta

from blocks.errors import SettingsError
from blocks.image_name import ImageName
from blocks.railway_api.models import Deployment, DeploymentStatus, InstanceStatus, ServiceInstance

__all__ = ["Suspect", "images_that_ran", "name_of", "serving", "suspect"]

PROVEN = timedelta(hours=1)
"""An image that has run for so long and ends then does so for another reason than what is in it."""
_ENDED = (DeploymentStatus.FAILED, DeploymentStatus.CRASHED)
_NO_WAY_UP = (DeploymentStatus.REMOVING, DeploymentStatus.UNKNOWN)
_SICK = (InstanceStatus.CRASHED, InstanceStatus.RESTARTING)


@dataclass(frozen=True)
class Suspect:
    """An image that does not run.

    Attributes:
        failed: the deployment of it. before: the one that ran before, None where nothing did.
        gone: no registry has it under its tag any more.
    """

    failed: Deployment
    before: Deployment | None
    gone: bool = False

    @property
    def sentence(self) -> str:
        """What failed, and what ran before."""
        how = "is not in its registry" if self.gone else "did not come up" if self.is_hopeless else "crashed"
        how = how if self.failed.status.over else "is not up yet"
        what = f"the image {self.failed.image} {how}"
        if self.before is None:
            return f"{what}, and nothing ran before it"
        if self.failed.image == self.before.image:
            return f"{what} any more, and ran before as {name_of(self.before)}" if self.gone else what
        return f"{what}, and {name_of(self.before)} ran before it"

    @property
    def is_hopeless(self) -> bool:
        """Whether it never came up, so that to run it again brings nothing."""
        return self.failed.status is DeploymentStatus.FAILED


def serving(there: ServiceInstance) -> Deployment | None:
    """The deployment that serves, None where nothing does."""
    return next((one for one in there.active if one.status.active and not one.stopped), None)


def name_of(one: Deployment) -> ImageName | None:
    """What a deployment runs, by its digest where Railway knows it; None where that is no name of an image."""
    with suppress(SettingsError):
        name = ImageName.parse(one.image or "")
        return replace(name, digest=name.digest or one.image_digest or "")
    return None


def images_that_ran(deployments: Sequence[Deployment]) -> Iterator[Deployment]:
    """Those deployments that served once, the newest first; last those of which Railway does not know any more that they did.

    Args:
        deployments: of a service, the newest first.
    """
    sure = [one for one in deployments if one.status.active or one.can_rollback]
    maybe = [one for one in deployments if one.status is DeploymentStatus.REMOVED and one not in sure]
    for one in (*sure, *maybe):
        if name_of(one) is not None:
            yield one


def suspect(
    there: ServiceInstance, read: Callable[[], Sequence[Deployment]], missing: Callable[[ImageName], bool]
) -> Suspect | None:
    """Say whether a service's image is to blame for how it is; None where it is not, or might start at the next try.

    Args:
        read: brings the service's deployments, the newest first; only asked where one has failed, or is under way: with a
            volume the service is down meanwhile. missing: says whether no registry has an image.
    """
    newest = there.latest
    if newest is None:
        return None
    if newest.status.active and there.image and newest.image != there.image:
        return _configured(there.image, newest, read())
    sick = newest.status.active and any(one.status in _SICK for one in newest.instances)
    failed, under_way = newest.status is DeploymentStatus.FAILED, not newest.status.over and newest.status not in _NO_WAY_UP
    crashed = (newest.status is DeploymentStatus.CRASHED or sick) and _lived(newest) < PROVEN
    if not (failed or under_way or crashed):
        return None
    older = [one for one in read() if one.id != newest.id and one.created_at <= newest.created_at]
    name, before = name_of(newest), _before(newest, older)
    gone = failed and not newest.image_digest and name is not None and missing(name)
    differs = before is not None and not _same(newest, before)
    return Suspect(newest, before, gone) if gone or differs else None


def _configured(image: str, newest: Deployment, deployments: Sequence[Deployment]) -> Suspect | None:
    """What is configured failed when it was deployed last, and something else was deployed since: by a redeployment, say."""
    failed = next((one for one in deployments if one.image == image), None)
    return Suspect(failed, newest) if failed is not None and failed.status in _ENDED else None


def _before(newest: Deployment, older: Sequence[Deployment]) -> Deployment | None:
    """What ran last: another image, or the same one where that is known to run."""
    for one in images_that_ran(older):
        if not _same(one, newest) or one.status.active or _lived(one) >= PROVEN:
            return one
    return None


def _same(one: Deployment, other: Deployment) -> bool:
    """Whether two deployments run the same image, as far as their digests are known."""
    first, second = name_of(one), name_of(other)
    if first is None or second is None:
        return one.image == other.image
    digests = {first.digest, second.digest} - {""}
    return replace(first, digest="") == replace(second, digest="") and len(digests) < 2


def _lived(one: Deployment) -> timedelta:
    """How long it was until its status changed last."""
    return (one.status_updated_at or one.created_at) - one.created_at
