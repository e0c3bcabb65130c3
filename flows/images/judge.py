"""What a look at an image comes to. Decides alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from blocks.denied import DENIED_VERSIONS
from blocks.image_name import ImageName
from blocks.registry import Found
from blocks.settings import Severity
from flows.images.known_holes import hole
from flows.images.tags import Newer, newer
from flows.upgrade.rules import Version

__all__ = ["OWN", "Finding", "Look", "State", "Verdict", "judge"]

OWN = "prefect-worker"
"""The service whose image you push yourself; it may well be private."""

State = Literal["there", "gone", "locked", "unknown"]
"""In its registry; not there; only given out with a login; nobody could ask."""


@dataclass(frozen=True)
class Look:
    """What a registry said of an image.

    Attributes:
        service: of the stack. name: of its image. state: whether it is there. found: its digest and when it was built.
        said: why nobody knows, or can pull it, where there is more to say than the state. tags: of its repository.
        tag_now: the digest that the tag leads to now, where the image is pinned to one.
    """

    service: str
    name: ImageName
    state: State
    found: Found | None = None
    said: str = ""
    tags: tuple[str, ...] = ()
    tag_now: str = ""


@dataclass(frozen=True)
class Finding:
    """What people are told.

    Attributes:
        aspect: `image-gone`, `image-compromised`, `image-hole`, `image-repaired` or `image-moved`.
        sentence: what is so, and what to do.
    """

    service: str
    aspect: str
    severity: Severity
    sentence: str


@dataclass(frozen=True)
class Verdict:
    """What a look comes to.

    Attributes:
        look: that it is of. findings: what to tell; empty: nothing. newer: the tags to go to.
        note: what is worth knowing and not worth an alert.
    """

    look: Look
    findings: tuple[Finding, ...] = ()
    newer: Newer = field(default_factory=Newer)
    note: str = ""

    @property
    def is_known(self) -> bool:
        """Whether the registry answered: otherwise nothing that was found before is over."""
        return self.look.state != "unknown" and not (self.look.state == "locked" and self.look.service == OWN)


def judge(look: Look) -> Verdict:
    """Say what is wrong with an image, and what there is to go to."""
    version, service = Version.of(look.name.tag), look.service
    found = []
    if service == "litellm" and str(version) in DENIED_VERSIONS:
        todo = "deploy another version now, and change every key that it has seen"
        found.append(Finding(service, "image-compromised", "critical", f"{look.name} is a compromised release; {todo}"))
    if look.state == "unknown":
        return Verdict(look, tuple(found), note=look.said)
    if look.state == "locked" and service == OWN:
        return Verdict(look, tuple(found), note="only with a login: your own image, which nobody looks at without")
    if look.state != "there":
        found.append(_gone(look))
    there = newer(look.name.tag, look.tags)
    known = hole(service, version)
    if known is not None and (better := _without_hole(service, there)):
        sentence = f"{look.name} has {known.name} ({known.what}), {better} has not; run upgrade/{_flow(service)} to {better}"
        found.append(Finding(service, "image-hole", "error", sentence))
    elif there.repaired:
        sentence = (
            f"{look.name} has a newer release of its line, {there.repaired}; read its notes, then upgrade/{_flow(service)}"
        )
        found.append(Finding(service, "image-repaired", "warning", sentence))
    if look.name.digest and look.tag_now and look.tag_now != look.name.digest:
        sentence = (
            f"{look.name.with_tag(look.name.tag)} was built anew since it was pinned, as for repairs of what it is built on; "
            f"see why, then pin {look.tag_now}"
        )
        found.append(Finding(service, "image-moved", "warning", sentence))
    return Verdict(look, tuple(found), there, _note(look, version, known is not None and not found))


def _gone(look: Look) -> Finding:
    nearest = newer(look.name.tag, look.tags)
    there = nearest.repaired or nearest.newest
    instead = f"Change to {there}" if there else "Change to an image that is there"
    why = (
        "its registry does not have it any more"
        if look.state == "gone"
        else "its registry wants a login: it is gone, or private"
    )
    sentence = (
        f"{look.name} cannot be pulled: {look.said or why}. What runs goes on; the next deployment fails and, with a volume, "
        f"is an outage. {instead} before the platform moves the service"
    )
    return Finding(look.service, "image-gone", "error", sentence)


def _without_hole(service: str, there: Newer) -> str:
    """The nearest tag without the hole, empty where there is none."""
    better = [tag for tag in (there.repaired, there.newest) if tag and hole(service, Version.of(tag)) is None]
    return better[0] if better else ""


def _note(look: Look, version: Version, has_hole: bool) -> str:
    if has_hole:
        known = hole(look.service, version)
        return f"{known.name if known else ''}: no registry has an image without it; see UPGRADE.md"
    if look.service == "postgres" and version.numbers:
        return "a major version on purpose: repairs come with the next deployment"
    if not version.is_exact and not look.name.digest:
        return "floats: a redeployment may fetch another image under this tag"
    return ""


def _flow(service: str) -> str:
    return service.partition("-")[0]
