"""The client of image registries, against the sandbox's, which answers as the specification says."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from blocks.errors import AccessDenied, IntegrityError, ServiceError, SettingsError
from blocks.image_name import ImageName
from blocks.registry import Registries
from shared.sandbox.railway_runtime.catalogue import Catalogue, Image, digest
from shared.sandbox.railway_runtime.manifests import built_at
from shared.sandbox.railway_runtime.registry import IMAGES
from shared.sandbox.registry import RegistryDouble

LITELLM = ImageName.parse("ghcr.io/berriai/litellm:v1.102.4")
REDIS = ImageName.parse("redis:8.2.1")


class Site:
    """A registry that a test may do anything to, and a client."""

    def __init__(self, catalogue: Catalogue, double: RegistryDouble, client: Registries) -> None:
        self.catalogue, self.double, self.client = catalogue, double, client


@pytest.fixture
def site() -> Iterator[Site]:
    catalogue = Catalogue(IMAGES)
    with RegistryDouble(catalogue) as double, Registries(double.url) as client:
        yield Site(catalogue, double, client)


def test_an_image_whose_tag_is_gone_is_still_there_by_its_digest(site: Site) -> None:
    found = site.client.find(REDIS)
    site.catalogue.untag(str(REDIS))
    assert site.client.find(REDIS) is None
    assert found is not None
    assert site.client.exists(ImageName.parse(f"{REDIS}@{found.digest}"))


# --- names ---------------------------------------------------------------------------------------------------------------

SHA = "sha256:" + 64 * "a"


@pytest.mark.parametrize(
    ("image", "registry", "repository", "tag", "written"),
    [
        ("redis", "docker.io", "library/redis", "latest", "redis:latest"),
        ("docker.io/library/redis:8.2.1", "docker.io", "library/redis", "8.2.1", "redis:8.2.1"),
        ("index.docker.io/langfuse/langfuse:3", "docker.io", "langfuse/langfuse", "3", "langfuse/langfuse:3"),
        ("ghcr.io/berriai/litellm:v1", "ghcr.io", "berriai/litellm", "v1", "ghcr.io/berriai/litellm:v1"),
        ("localhost/x/y:1", "localhost", "x/y", "1", "localhost/x/y:1"),
        ("host:5000/deep/er/x:1", "host:5000", "deep/er/x", "1", "host:5000/deep/er/x:1"),
        ("registry.hub.docker.com/library/redis:8", "docker.io", "library/redis", "8", "redis:8"),
    ],
)
def test_what_a_name_leaves_out_is_filled_in(image: str, registry: str, repository: str, tag: str, written: str) -> None:
    name = ImageName.parse(image)
    assert (name.registry, name.repository, name.tag, name.digest) == (registry, repository, tag, "")
    assert str(name) == written
    assert ImageName.parse(str(name)) == name


def test_a_digest_is_what_is_asked_for_even_where_there_is_a_tag() -> None:
    assert ImageName.parse(f"redis:8@{SHA}").wanted == SHA
    assert ImageName.parse(f"redis@{SHA}").tag == ""
    assert ImageName.parse("redis:8").wanted == "8"


@pytest.mark.parametrize(
    "image", ["", "Redis:8", "redis:", "redis@sha256:12", "re dis", "redis:8\nx", "/redis", "a//b", "redis:a/b:c"]
)
def test_what_is_no_name_is_refused_in_one_line(image: str) -> None:
    with pytest.raises(SettingsError, match="expected") as raised:
        ImageName.parse(image)
    assert "\n" not in str(raised.value)


# --- is it there ---------------------------------------------------------------------------------------------------------


def test_an_image_is_found_by_its_tag_and_by_its_digest_with_one_token_for_the_repository(site: Site) -> None:
    found = site.client.find(LITELLM)
    assert found is not None
    assert found.digest == digest(str(LITELLM))
    assert site.client.exists(ImageName.parse(f"ghcr.io/berriai/litellm@{found.digest}"))
    assert [method for method, path in site.double.requests if path.startswith("/token")] == ["GET"]
    assert {method for method, path in site.double.requests if "manifests" in path} == {"HEAD"}, "a GET counts as a pull"


def test_when_it_was_built_is_read_from_the_image_for_the_usual_machine(site: Site) -> None:
    found = site.client.find(REDIS, created=True)
    assert found is not None
    assert (found.digest, found.created) == (digest("redis:8.2.1"), built_at("redis:8.2.1"))


def test_a_tag_that_is_gone_and_a_repository_that_is_gone_are_told_from_one_that_wants_a_login(site: Site) -> None:
    assert site.client.find(REDIS.with_tag("9.9.9")) is None
    assert site.client.find(ImageName.parse(f"redis@{SHA}")) is None
    assert not site.client.exists(ImageName.parse("ghcr.io/nobody/nothing:1"))
    site.catalogue.withdraw("redis:8.2.1")
    assert not site.client.exists(REDIS)
    with pytest.raises(AccessDenied, match=r"minio/minio.*login.*gone, or private"):
        site.client.find(ImageName.parse("minio/minio:RELEASE.2025-09-07T16-13-09Z"))
    site.double.answers.private.add("ghcr.io/berriai/litellm")
    with pytest.raises(AccessDenied, match=r"ghcr\.io.*login"):
        site.client.find(LITELLM)


def test_a_token_that_has_run_out_is_replaced(site: Site) -> None:
    assert site.client.exists(REDIS)
    site.double.answers.forget_tokens()
    assert site.client.exists(REDIS)


# --- tags ----------------------------------------------------------------------------------------------------------------


def test_all_pages_of_tags_are_read(site: Site) -> None:
    site.double.answers.page = 4
    expected = site.catalogue.tags("redis")
    assert len(expected) == 9
    assert site.client.tags(REDIS) == expected
    assert sum("tags/list" in path for _, path in site.double.requests) == 1 + 3  # the first is told to fetch a token
    assert site.client.tags(ImageName.parse("ghcr.io/nobody/nothing")) == []


def test_what_is_published_is_listed_at_once(site: Site) -> None:
    site.catalogue.publish(Image(("redis",), ("8.2.9",), ("redis-server",)))
    assert "8.2.9" in site.client.tags(REDIS)


# --- registries that do not do well --------------------------------------------------------------------------------------


@pytest.mark.parametrize("disturbance", ["error", "rate-limit"])
def test_a_registry_that_stumbles_is_asked_again(site: Site, disturbance: Any) -> None:
    site.double.disturb(disturbance)
    assert site.client.exists(REDIS)


def test_a_registry_that_stays_down_or_wants_to_be_left_alone_is_named_with_what_was_asked(site: Site) -> None:
    site.double.disturb("error", times=9)
    with pytest.raises(ServiceError, match=r"registry docker\.io: HTTP 503 for redis:8\.2\.1") as raised:
        site.client.exists(REDIS)
    assert not raised.value.permanent
    site.double.calm()
    site.double.disturb("rate-limit", times=9)
    with pytest.raises(ServiceError, match=r"too many requests.*redis:8\.2\.1 again in 30 s"):
        site.client.exists(REDIS)


def test_a_registry_that_does_not_answer_is_told_from_one_that_lacks_the_image(site: Site) -> None:
    site.double.stop()
    with pytest.raises(ServiceError, match=r"no answer about redis:8\.2\.1 \(ConnectError\)"):
        site.client.exists(REDIS)


def test_an_address_that_is_none_is_a_matter_of_settings() -> None:
    with pytest.raises(SettingsError, match="REGISTRY_URL"):
        Registries("registry.example")


Told = dict[str, tuple[int, dict[str, str], bytes]]


@pytest.fixture
def liar() -> Iterator[tuple[Registries, Told]]:
    """A server that sends whatever a test gives it, by path."""
    told: Told = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = told.get(self.path.partition("?")[0], (404, {}, b""))
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815 - name of the base class

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - name of the base class
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        with Registries(f"http://127.0.0.1:{server.server_port}") as client:
            yield client, told
        server.shutdown()


BASE = "/v2/docker.io/library/redis/"


def test_a_manifest_that_is_not_what_its_digest_says_is_refused(liar: tuple[Registries, Told]) -> None:
    client, answers = liar
    answers[f"{BASE}manifests/8.2.1"] = (200, {"Docker-Content-Digest": SHA}, b'{"mediaType": "x"}')
    with pytest.raises(IntegrityError, match=rf"expected {SHA}; do not pull it"):
        client.find(REDIS, created=True)


def test_what_has_no_digest_in_its_header_is_hashed(liar: tuple[Registries, Told]) -> None:
    client, answers = liar
    answers[f"{BASE}manifests/8.2.1"] = (200, {}, b'{"mediaType": "x"}')
    found = client.find(REDIS, created=True)
    assert found is not None
    assert found.digest.startswith("sha256:")
    assert found.created is None


@pytest.mark.parametrize(
    ("headers", "body", "said"),
    [
        ({}, b"<html>", "no JSON object"),
        ({}, b"x" * (4 * 1024 * 1024 + 1), "too large"),
        ({"Link": '<https://elsewhere.example/v2/x>; rel="next"'}, b'{"tags": ["1"]}', "elsewhere"),
        ({"Link": '</v2/docker.io/library/redis/tags/list?n=1>; rel="next"'}, b'{"tags": ["1"]}', "no end"),
    ],
)
def test_answers_that_make_no_sense_end_with_one_line(
    liar: tuple[Registries, Told], headers: dict[str, str], body: bytes, said: str
) -> None:
    client, answers = liar
    answers[f"{BASE}tags/list"] = (200, headers, body)
    with pytest.raises(ServiceError, match=said):
        client.tags(REDIS)


def test_a_challenge_that_leads_nowhere_is_a_refusal(liar: tuple[Registries, Told]) -> None:
    client, answers = liar
    answers[f"{BASE}manifests/8.2.1"] = (401, {"WWW-Authenticate": 'Basic realm="private"'}, b"")
    with pytest.raises(AccessDenied, match="login"):
        client.find(REDIS)
