"""Going back to an image that a service ran before: which one, whether it can still be had, and deploying it by its digest."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

from blocks.denied import DENIED_VERSIONS
from blocks.errors import AccessDenied, ServiceError, StackError
from blocks.image_name import ImageName
from blocks.railway import RailwayApi
from blocks.railway_api.models import Deployment, ServiceInstance
from blocks.registry import Registries
from flows.deploy.rollout import arrived, deploy_now
from flows.report import line
from flows.runbook.bad_image import images_that_ran, name_of, suspect
from flows.runbook.clickhouse_ledger import read_ledger
from flows.runbook.frame import Action
from flows.runbook.restarting import Waits, WayBack
from flows.stack import Stack
from flows.upgrade.rules import Version
from flows.upgrade.rules.langfuse import newest_migration

__all__ = ["Pin", "is_denied", "known_good", "pinned", "way_back"]

GATEWAY, WEB = "litellm", "langfuse-web"
_HISTORY = 30
"""Deployments of a service that are looked through."""


def is_denied(service: str, name: ImageName) -> bool:
    """Say whether an image's tag names a release that nobody may run."""
    return service == GATEWAY and str(Version.of(name.tag)) in DENIED_VERSIONS


def known_good(service: str, deployments: Sequence[Deployment], bad: Collection[str | None] = ()) -> ImageName | None:
    """Choose what ran before: the newest earlier deployment whose image nobody warns of, by its digest where Railway knows it.

    Args:
        deployments: of the service, the newest first. bad: images that it must not be.
    """
    for one in images_that_ran(deployments):
        name = name_of(one)
        if name is not None and one.image not in bad and not is_denied(service, name) and (name.tag or name.digest):
            return name
    return None


def pinned(registries: Registries, name: ImageName) -> tuple[str, str]:
    """Give an image the digest that its registry has of it.

    Returns: its name with the digest, and nothing; or nothing, and why it cannot be had.
    Raises:
        ServiceError: the registry does not answer.
    """
    try:
        found = registries.find(name)
    except AccessDenied as error:
        return "", str(error)
    if found is None:
        return "", f"{name} is not in its registry any more"
    return str(replace(name, digest=name.digest or found.digest)), ""


def way_back(api: RailwayApi, stack: Stack, service: str, there: ServiceInstance) -> WayBack | None:
    """Find out whether a service's image is to blame, and where to go instead; None where it is not to blame."""
    with Registries(stack.settings.registry_url) as registries:

        def missing(name: ImageName) -> bool:
            try:
                return not registries.exists(name)
            except AccessDenied:
                return True
            except ServiceError as error:
                line(f"nobody knows whether {name} is still there: {error}")
                return False

        found = suspect(there, lambda: api.deployments(there.service_id, _HISTORY), missing)
        if found is None:
            return None
        name = name_of(found.before) if found.before is not None else None
        image, why = _instead(registries, service, name) if name is not None else ("", "nothing is known to have run before")
    if name is not None and (unfit := _unfit(stack, service, name)):
        image, why = "", unfit
    return WayBack(found.sentence, image, why, found.is_hopeless)


def _instead(registries: Registries, service: str, name: ImageName) -> tuple[str, str]:
    """As `pinned`, of what ran before; a registry that does not answer is a reason, too."""
    if is_denied(service, name):
        return "", f"{name} is a compromised release"
    try:
        return pinned(registries, name)
    except ServiceError as error:
        return "", str(error)


def _unfit(stack: Stack, service: str, name: ImageName) -> str:
    """Say why an image does not start on the data as it is by now, empty where nothing is known against it.

    Langfuse's web does not where ClickHouse is at a migration that it does not know (facts: apps.md 2.5).
    """
    most = newest_migration(Version.of(name.tag).numbers)[1] if service == WEB else None
    if most is None or stack.clickhouse is None:
        return ""
    try:
        with stack.clickhouse.client() as client:
            ledger = read_ledger(client, stack.clickhouse_databases())
    except StackError as error:
        line(f"nobody knows whether {name} knows ClickHouse's schema: {error}")
        return ""
    if ledger is None or ledger.newest.version <= most:
        return ""
    return f"ClickHouse is at migration {ledger.newest.version} and {name} knows {most} at most"


@dataclass(frozen=True)
class Pin(Action):
    """Configures an image by its digest, and deploys it.

    Attributes:
        old, new: images. secure: takes a backup set first, and returns its id; None: nobody needs one.
        well: says that it need not be done any more, a sentence, or empty.
    """

    api: RailwayApi
    service: str
    service_id: str
    old: str
    new: str
    health_timeout: float
    secure: Callable[[], str] | None
    waits: Waits
    well: Callable[[], str] = lambda: ""

    @property
    def asks(self) -> str:
        """As in `Action`."""
        return "it deploys another release"

    def describe(self) -> str:
        """As in `Action`."""
        first = "have a backup set of today, then " if self.secure else ""
        return f"{first}deploy {self.service} as {self.new} instead of {self.old}"

    def needless(self) -> str:
        """As in `Action`."""
        return self.well()

    def do(self) -> str:
        """As in `Action`."""
        taken = f"; as it was before: set {self.secure()}" if self.secure else ""
        self.api.set_image(self.service_id, self.new)
        made = deploy_now(self.api, self.service_id)
        timeout = self.waits.deployment + self.health_timeout
        waits = {"timeout": timeout, "poll": self.waits.poll, "settle": self.waits.settle}
        arrived(self.api, self.service_id, made, image=self.new, **waits)
        return f"{self.new} runs{taken}"
