"""Private addresses and container paths mean something on this machine, wherever they stand; images are found by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from shared.engines.process import EngineError
from shared.sandbox.railway_runtime.addresses import Addresses
from shared.sandbox.railway_runtime.catalogue import Catalogue, Image, digest, version
from shared.sandbox.railway_runtime.containers import ImageMissing
from shared.sandbox.railway_runtime.images.options import option, without
from shared.sandbox.railway_runtime.paths import Paths
from shared.sandbox.railway_runtime.ports import PortTable
from shared.sandbox.railway_runtime.registry import IMAGES

PORTS = {("postgres", 5432): 15432, ("redis", 6379): 16379, ("litellm", 4000): 14000, ("clickhouse", 8123): 18123}
ADDRESSES = Addresses(lambda service, port: PORTS.get((service, port), 10000 + port % 1000))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://:p%40ss@redis.railway.internal:6379?family=0", "redis://:p%40ss@127.0.0.1:16379?family=0"),
        (
            "postgresql://litellm:pw@postgres.railway.internal/litellm?x=1",
            "postgresql://litellm:pw@127.0.0.1:15432/litellm?x=1",
        ),
        ("postgresql+asyncpg://u:p@postgres.railway.internal/db", "postgresql+asyncpg://u:p@127.0.0.1:15432/db"),
        ("http://LiteLLM.railway.internal:4000/v1", "http://127.0.0.1:14000/v1"),
        ("http://litellm.railway.internal/v1", "http://127.0.0.1:10080/v1"),
        (
            "  host: redis.railway.internal:6379\n  other: 'litellm.railway.internal:4000'",
            "  host: 127.0.0.1:16379\n  other: '127.0.0.1:14000'",
        ),
        ("litellm.railway.internal", "litellm.railway.internal"),
        ("https://my.railway.internal.example.org:4000/", "https://my.railway.internal.example.org:4000/"),
        ("https://example.org/litellm", "https://example.org/litellm"),
    ],
)
def test_a_private_address_with_a_port_of_its_own_or_of_its_scheme_is_translated(text: str, expected: str) -> None:
    assert ADDRESSES.in_text(text) == expected


def test_a_host_variable_goes_together_with_its_port_variable() -> None:
    said = {"REDIS_HOST": "redis.railway.internal", "REDIS_PORT": "6379", "CLICKHOUSE_HOST": "clickhouse.railway.internal"}
    translated = ADDRESSES.in_variables({**said, "RAILWAY_PRIVATE_DOMAIN": "litellm.railway.internal", "PORT": "4000"})
    assert translated == {
        "REDIS_HOST": "127.0.0.1",
        "REDIS_PORT": "16379",
        "CLICKHOUSE_HOST": "127.0.0.1",
        "CLICKHOUSE_PORT": "18123",
        "RAILWAY_PRIVATE_DOMAIN": "litellm.railway.internal",
        "PORT": "4000",
    }


def test_paths_of_the_container_are_below_its_root_and_the_machines_stay(tmp_path: Path) -> None:
    paths = Paths(Path("/box"), ["/etc/own", "/data", "/data/deep", "/entry.sh"], {"/app": Path("/project")})
    said = "sh -c 'rm -rf /data/lost+found; printf x > \"/etc/own/c\" && exec /entry.sh --dir=/data --more=/databases /app/x'"
    assert paths.in_text(said) == (
        'sh -c \'rm -rf /box/data/lost+found; printf x > "/box/etc/own/c" && exec /box/entry.sh --dir=/box/data'
        " --more=/databases /project/x'"
    )
    assert paths.in_text("sqlite+aiosqlite:////data/deep/p.db") == "sqlite+aiosqlite:////box/data/deep/p.db"
    assert (
        paths.in_text("http://data/etc/own/x https://host/data s3://b/data")
        == "http://data/etc/own/x https://host/data s3://b/data"
    )
    paths = Paths(Path("/root/ops/box"), ["/root", "/data"], {"/root/ops": Path("/root/ops")})
    assert paths.in_text("/root/ops/.venv/bin/age /root/.config /data/x") == (
        "/root/ops/.venv/bin/age /root/ops/box/root/.config /root/ops/box/data/x"
    ), "a project that lies in one of them stays where it is"
    with pytest.raises(EngineError, match="another folder"):
        Paths(tmp_path / "with space", ["/data"])


def test_a_port_keeps_its_stand_in_for_whoever_asks(tmp_path: Path) -> None:
    table, same = PortTable(tmp_path / "ports.json"), PortTable(tmp_path / "ports.json")
    first = table.of("litellm", 4000)
    assert same.of("litellm", 4000) == first
    assert same.of("litellm#2", 4000) != first
    assert table.ports("litellm") == [4000]
    assert table.has(first)


def test_an_image_is_found_by_any_of_its_names_and_a_withdrawn_one_is_not() -> None:
    catalogue = Catalogue(IMAGES)
    assert catalogue.find("redis:8.2.1") is catalogue.find("docker.io/library/redis:8.2.1@sha256:" + "ab" * 32)
    for gone in ("bitnami/redis:7.2", "minio/minio", "minio/minio:latest", "redis"):
        with pytest.raises(ImageMissing, match="does not have it"):
            catalogue.find(gone)
    catalogue.withdraw("redis:8.2.1")
    with pytest.raises(ImageMissing, match="it has 7"):
        catalogue.find("redis:8.2.1")
    catalogue.publish(Image(("redis",), ("9.0.0",), ("redis-server",)))
    assert catalogue.find("redis:9.0.0").command == ("redis-server",)


def test_an_image_without_its_tag_is_found_by_its_digest_until_it_is_published_again() -> None:
    catalogue = Catalogue(IMAGES)
    there, sha = catalogue.find("redis:8.2.1"), digest("redis:8.2.1")
    catalogue.untag("redis:8.2.1")
    for gone in ("redis:8.2.1", "redis:8.2.1@sha256:" + "ab" * 32):
        with pytest.raises(ImageMissing, match="does not have it"):
            catalogue.find(gone)
    assert catalogue.find(f"redis:8.2.1@{sha}") is there
    assert ("8.2.1" in catalogue.tags("redis"), "redis:8.2.1" in catalogue.names("redis")) == (False, True)
    catalogue.publish(replace(there, tags=("8.2.1",)))
    assert catalogue.find("redis:8.2.1").command == there.command


def test_a_digest_is_the_one_that_was_asked_for_or_follows_from_the_name() -> None:
    assert digest("redis:8.2.1@sha256:" + "ab" * 32) == "sha256:" + "ab" * 32
    assert digest("redis:8.2.1") == digest("docker.io/redis:8.2.1") != digest("redis:8.2.2")
    assert len(digest("redis:8.2.1")) == len("sha256:") + 64


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("ghcr.io/berriai/litellm:v1.102.4-stable", "1.102.4"),
        ("a/b:main-v1.80.0-stable", "1.80.0"),
        ("a/b:18", "18"),
        ("a", "latest"),
    ],
)
def test_the_version_is_read_from_the_tag(reference: str, expected: str) -> None:
    assert version(reference) == expected


def test_options_are_read_and_taken_out_in_both_spellings() -> None:
    said = ["--config", "/c.yaml", "--host", "::", "--port=4000", "--detailed_debug"]
    assert (option(said, "--host"), option(said, "--port"), option(said, "--missing")) == ("::", "4000", None)
    assert without(said, "--host", "--port") == ["--config", "/c.yaml", "--detailed_debug"]
