"""What a look at an image comes to, and who is told, on values; and the look itself, at the sandbox's registries."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from blocks.alerts import Links
from blocks.image_name import ImageName
from blocks.registry import Found
from flows.health.ledger import Outbox
from flows.health.outbox import deliver
from flows.images.configured import Configured
from flows.images.judge import Look, Verdict, judge
from flows.images.known_holes import hole
from flows.images.tags import newer, shape
from flows.images.tasks import look_at
from flows.images.telling import AGAIN, happenings
from flows.upgrade.rules import Version
from railway.services.images import WORKER, defaults
from shared.sandbox.railway_runtime.catalogue import Catalogue, digest
from shared.sandbox.railway_runtime.registry import IMAGES
from shared.sandbox.registry import RegistryDouble
from tests.health.mailboxes import Mailbox

NOW = datetime(2026, 11, 26, 6, 20, tzinfo=UTC)
SHA, OTHER = "sha256:" + 64 * "a", "sha256:" + 64 * "b"
REDIS = ("8.2", "8.2.1", "8.2.2", "8.2.3", "8.2.9-alpine", "8.2.8-rc1", "8.4.0", "9.0.0", "latest")


def look(service: str, image: str, *tags: str, **changes: Any) -> Look:
    name, state = ImageName.parse(image), changes.pop("state", "there")
    return Look(service, name, state, Found(SHA) if state == "there" else None, tags=tags, **changes)


def told(verdict: Verdict) -> list[str]:
    return [f"{one.severity} {one.aspect}" for one in verdict.findings]


# --- tags ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "tags", "repaired", "newest"),
    [
        ("8.2.2", REDIS, "8.2.3", "8.4.0"),
        ("8.2.3", REDIS, "", "8.4.0"),
        ("8.4.0", REDIS, "", ""),
        ("8.2", REDIS, "", ""),
        ("8.2.1-alpine", REDIS, "8.2.9-alpine", "8.2.9-alpine"),
        ("v1.82.6", ("v1.82.7", "v1.82.8", "1.82.9", "v1.82.6-stable"), "", ""),
        ("v1.102.4", ("v1.102.5-nightly", "v1.107.0", "v1.108.0", "main-v1.102.9-stable"), "", "v1.108.0"),
        ("26.4.5.143", ("26.4.5.90", "26.4.6.12", "26.9.1.1", "26.4", "26.4.7"), "26.4.6.12", "26.9.1.1"),
        (
            "3.9.1-python3.12",
            ("3.9.2-python3.11", "3.9.4-python3.12", "3.10.0-python3.12"),
            "3.9.4-python3.12",
            "3.10.0-python3.12",
        ),
        ("RELEASE.2025-07-23T15-54-02Z", ("RELEASE.2025-09-07T16-13-09Z", "latest"), *2 * ("RELEASE.2025-09-07T16-13-09Z",)),
        ("latest", ("1.2.3",), "", ""),
    ],
)
def test_only_finished_releases_of_the_same_thing_are_newer(tag: str, tags: Sequence[str], repaired: str, newest: str) -> None:
    found = newer(tag, tags)
    assert (found.repaired, found.newest) == (repaired, newest)


def test_the_shape_of_a_tag_keeps_what_is_not_its_version() -> None:
    assert shape("v1.102.4-stable") == shape("v1.103.0-stable") != shape("v1.102.4") != shape("1.102.4")
    assert shape("8.2") != shape("8.2.1")
    assert shape("latest") == "latest"


@pytest.mark.parametrize(
    ("service", "version", "name"),
    [
        ("redis", "8.2.1", "CVE-2025-49844"),
        ("redis", "8.2.2", ""),
        ("redis", "7.0.15", "CVE-2025-49844"),
        ("redis", "8.4.0", ""),
        ("redis", "8.2", ""),
        ("minio", "RELEASE.2025-09-07T16-13-09Z", "CVE-2025-62506"),
        ("litellm", "1.102.4", ""),
    ],
)
def test_holes_are_known_by_the_first_release_of_a_line_without_them(service: str, version: str, name: str) -> None:
    found = hole(service, Version.of(version))
    assert (found.name if found else "") == name


# --- verdicts ------------------------------------------------------------------------------------------------------------


def test_an_image_that_is_there_and_the_newest_of_its_line_is_nobodys_business() -> None:
    verdict = judge(look("redis", "redis:8.2.3", *REDIS))
    assert told(verdict) == []
    assert verdict.newer.newest == "8.4.0"


@pytest.mark.parametrize(
    ("seen", "expected", "said"),
    [
        (
            look("redis", "redis:8.2.3", "8.2.5", state="gone"),
            ["error image-gone", "warning image-repaired"],
            "Change to 8.2.5",
        ),
        (look("redis", "bitnami/redis:7.2", state="locked"), ["error image-gone"], "wants a login"),
        (look("redis", "redis:8.2.2", *REDIS), ["warning image-repaired"], "8.2.3; read its notes, then upgrade/redis"),
        (look("redis", "redis:8.2.1", *REDIS), ["error image-hole"], "CVE-2025-49844.*upgrade/redis to 8.2.3"),
        (look("redis", "redis:7.0.15", "7.0.15", "7.4.6"), ["error image-hole"], "upgrade/redis to 7.4.6"),
        (look("litellm", "ghcr.io/berriai/litellm:v1.82.7"), ["critical image-compromised"], "change every key"),
        (look("langfuse-web", "langfuse/langfuse:3.1.0", "3.1.2"), ["warning image-repaired"], "upgrade/langfuse"),
        (look("redis", f"redis:8.4.0@{SHA}", "8.4.0", tag_now=OTHER), ["warning image-moved"], f"pin {OTHER}"),
        (look("redis", f"redis:8.4.0@{SHA}", "8.4.0", tag_now=SHA), [], ""),
    ],
)
def test_what_people_have_to_do_something_about_is_a_finding(seen: Look, expected: list[str], said: str) -> None:
    verdict = judge(seen)
    assert told(verdict) == expected
    assert all(one.service == seen.service for one in verdict.findings)
    if said:
        assert re.search(said, verdict.findings[0].sentence)


def test_what_nobody_can_do_anything_about_is_a_remark() -> None:
    frozen = judge(look("minio", "quay.io/minio/minio:RELEASE.2025-09-07T16-13-09Z", "RELEASE.2025-09-07T16-13-09Z"))
    assert (told(frozen), frozen.note[:14]) == ([], "CVE-2025-62506")
    assert (
        "major version on purpose" in judge(look("postgres", "ghcr.io/railwayapp-templates/postgres-ssl:16", "16", "17")).note
    )
    assert "floats" in judge(look("redis", "redis:8.2", *REDIS)).note
    own = judge(look("prefect-worker", "ghcr.io/you/ops:0.1.0", state="locked"))
    assert (told(own), own.is_known) == ([], False)
    assert "your own image" in own.note


# --- telling -------------------------------------------------------------------------------------------------------------


class People:
    """A channel, and what an outbox keeps between runs."""

    def __init__(self) -> None:
        self.box, self.outbox = Mailbox("box"), Outbox()

    def run(self, now: datetime, *seen: Look) -> list[str]:
        happened = happenings(self.outbox, [judge(one) for one in seen], "stack", now)
        self.outbox = deliver(self.outbox, happened, [self.box], Links(), now, lambda outbox: None)
        return [f"{one.kind} {one.incident.service} {one.incident.aspect}" for one in happened]


def test_a_finding_is_told_once_said_again_each_week_and_closed_when_it_is_over() -> None:
    people, old, new = People(), look("redis", "redis:8.2.2", *REDIS), look("redis", "redis:8.2.3", *REDIS)
    assert people.run(NOW, old) == ["opened redis image-repaired"]
    assert people.run(NOW + timedelta(days=1), old) == []
    assert people.run(NOW + AGAIN, old) == ["reminded redis image-repaired"]
    assert people.run(NOW + AGAIN + timedelta(days=1), old) == []
    assert people.run(NOW + timedelta(days=9), new) == ["closed redis image-repaired"]
    assert people.run(NOW + timedelta(days=10), new) == []
    assert [notice.kind for notice in people.box.got] == ["opened", "reminded", "closed"]
    assert len({notice.dedup_key for notice in people.box.got}) == 1
    assert people.run(NOW + timedelta(days=11), old) == ["opened redis image-repaired"]


def test_what_nobody_could_look_at_stays_as_it_was_and_what_left_the_stack_is_over() -> None:
    people, gone = People(), look("minio", "minio/minio:1.2.3", state="locked")
    people.run(NOW, gone)
    silent = look("minio", "minio/minio:1.2.3", state="unknown", said="registry docker.io: HTTP 503")
    assert people.run(NOW + timedelta(days=1), silent) == []
    assert people.run(NOW + timedelta(days=2), look("redis", "redis:8.4.0", *REDIS)) == ["closed minio image-gone"]


# --- looking -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def registries() -> Iterator[tuple[Catalogue, RegistryDouble]]:
    catalogue = Catalogue(IMAGES)
    with RegistryDouble(catalogue) as double:
        yield catalogue, double


def seen_at(double: RegistryDouble, **images: str) -> dict[str, Look]:
    named = Configured({name.replace("_", "-"): image for name, image in images.items()}, "a test")
    return {one.service: one for one in look_at.fn(named, double.url)}


def test_everything_that_ships_is_in_its_registry(registries: tuple[Catalogue, RegistryDouble]) -> None:
    _, double = registries
    shipped = {name.replace("-", "_"): image for name, image in defaults(3).items() if image != WORKER}
    looks = seen_at(double, **shipped)
    assert {name: one.state for name, one in looks.items()} == dict.fromkeys(looks, "there")
    assert len(looks) == 8


def test_a_tag_that_is_withdrawn_a_repository_that_is_gone_and_a_registry_that_is_down_look_different(
    registries: tuple[Catalogue, RegistryDouble],
) -> None:
    catalogue, double = registries
    catalogue.withdraw("redis:8.2.1")
    looks = seen_at(double, redis="redis:8.2.1", minio="minio/minio:latest", litellm="Not A Name")
    assert {name: one.state for name, one in looks.items()} == {"redis": "gone", "minio": "locked", "litellm": "gone"}
    assert "no name" in judge(looks["litellm"]).findings[0].sentence
    assert "Change to 8.2.3" in judge(looks["redis"]).findings[0].sentence
    double.disturb("error", times=9)
    assert seen_at(double, redis="redis:8.2.2")["redis"].state == "unknown"


def test_a_pinned_image_is_looked_for_by_its_digest_and_its_tag_compared(registries: tuple[Catalogue, RegistryDouble]) -> None:
    _, double = registries
    right = digest("redis:8.4.0")
    looks = seen_at(double, redis=f"redis:8.4.0@{right}", litellm=f"redis:8.4.0@{SHA}")
    assert (looks["redis"].state, looks["redis"].tag_now) == ("there", right)
    assert (looks["litellm"].state, looks["litellm"].tag_now) == ("gone", right)
