"""Rules about images: that they exist, are exact, are not compromised, and go together."""

from __future__ import annotations

import re
from collections.abc import Iterator

from blocks.denied import DENIED_VERSIONS
from railway.rules.refusal import Finding, named
from railway.services.images import PLACEHOLDER, tag_of, version_of
from railway.stack import Stack

__all__ = ["RULES"]

_GONE = {
    "minio/minio": "use quay.io/minio/minio with its last tag, or buckets of Railway's",
    "minio/mc": "no client is needed: buckets are made through the S3 API",
    "bitnami/": "use the software's official image",
}
_MAJOR_IS_RIGHT = "ghcr.io/railwayapp-templates/postgres-ssl:"
_RELEASE = re.compile(r"RELEASE\.\d{4}-\d{2}-\d{2}T\d{2}-\d{2}-\d{2}Z")
_LEAST_CLICKHOUSE = {3: (24, 3), 4: (25, 12)}
_LEAST_POSTGRES = {3: 12, 4: 15}


@named("exact-image", "docs.railway.com/deployments/image-auto-updates: a redeployment may fetch another image of the same tag")
def exact_image(stack: Stack) -> Iterator[Finding]:
    """Every image has an exact tag (three numbers) or a digest; Railway's Postgres a major tag, as its PITR and HA need."""
    for service in stack.services.values():
        image, tag = service.image, tag_of(service.image)
        if image.startswith(_MAJOR_IS_RIGHT):
            if not tag.isdecimal():
                yield service.name, f"image {image}: expected the tag of a major version, as :16; PITR and HA refuse any other"
        elif not image:
            yield service.name, "it has no image; give one in `images`"
        elif "@sha256:" not in image and len(version_of(image)) < 3 and not _RELEASE.fullmatch(tag):
            yield service.name, f"image {image} floats; give it an exact tag, as :1.2.3, or a digest"


@named(
    "image-exists",
    "testcontainers-node#1463, makeplane/plane#9829, openreplay#3701: withdrawn from Docker Hub in 2025 and 2026",
)
def image_exists(stack: Stack) -> Iterator[Finding]:
    """No image is one that its registry has withdrawn."""
    for service in stack.services.values():
        name = service.image.removeprefix("docker.io/").partition("@")[0]
        for gone, instead in _GONE.items():
            if name.startswith(gone) and (gone.endswith("/") or name[len(gone) :][:1] in ("", ":")):
                yield service.name, f"image {service.image} is not on Docker Hub any more; {instead}"


@named("own-image", "README: the worker's image is built from railway/worker/Dockerfile; no registry has it for everybody")
def own_image(stack: Stack) -> Iterator[Finding]:
    """The worker's image is one that you have built and pushed."""
    for service in stack.services.values():
        if PLACEHOLDER in service.image.split("/"):
            yield (
                service.name,
                f"image {service.image} is nobody's; build and push railway/worker/Dockerfile, and name it in WORKER_IMAGE",
            )


@named("litellm-denied", "BerriAI/litellm#24512, #24518, discussion #48242")
def litellm_denied(stack: Stack) -> Iterator[Finding]:
    """LiteLLM is none of its compromised releases."""
    if service := stack.services.get("litellm"):
        version = ".".join(map(str, version_of(service.image)))
        if version in DENIED_VERSIONS:
            yield (
                service.name,
                f"image {service.image} is a compromised release; take another one, and change every key it has seen",
            )


@named("langfuse-major", "langfuse.com/self-hosting/upgrade: what 3 and 4 are told differs")
def langfuse_major(stack: Stack) -> Iterator[Finding]:
    """Langfuse's two images are of one version, and of the major version that the stack is built for."""
    images = {name: stack.services[name].image for name in ("langfuse-web", "langfuse-worker") if name in stack.services}
    for name, image in images.items():
        if version_of(image)[:1] != (stack.langfuse_major,):
            yield name, f"image {image} is not of Langfuse {stack.langfuse_major}; build the stack with its langfuse_major"
    if len({tag_of(image) for image in images.values()}) > 1:
        yield (
            "langfuse-worker",
            f"image {images['langfuse-worker']} is not of web's version, {tag_of(images['langfuse-web'])}; give both one tag",
        )


@named("clickhouse-version", "langfuse.com/self-hosting/deployment/infrastructure/clickhouse; 4's migration 0039 fails on 25.5")
def clickhouse_version(stack: Stack) -> Iterator[Finding]:
    """ClickHouse is at least 24.3 for Langfuse 3, 25.12 for Langfuse 4: after a migration that fails web does not start."""
    if service := stack.services.get("clickhouse"):
        version, least = version_of(service.image), _LEAST_CLICKHOUSE[stack.langfuse_major]
        if version and version < least:
            least_text = ".".join(map(str, least))
            yield (
                service.name,
                f"image {service.image} is too old for Langfuse {stack.langfuse_major}; expected {least_text} or newer",
            )


@named("postgres-version", "langfuse.com/self-hosting/upgrade/upgrade-guides/upgrade-v3-to-v4")
def postgres_version(stack: Stack) -> Iterator[Finding]:
    """Postgres is at least 12 for Langfuse 3 and 15 for Langfuse 4."""
    if service := stack.services.get("postgres"):
        version, least = version_of(service.image), _LEAST_POSTGRES[stack.langfuse_major]
        if version and version[0] < least:
            yield (
                service.name,
                f"image {service.image} is too old for Langfuse {stack.langfuse_major}; expected {least} or newer",
            )


@named("redis-version", "langfuse.com/self-hosting/deployment/infrastructure/cache; docs.litellm.ai/docs/proxy/prod")
def redis_version(stack: Stack) -> Iterator[Finding]:
    """Redis is at least 7."""
    if service := stack.services.get("redis"):
        version = version_of(service.image)
        if version and version[0] < 7:
            yield service.name, f"image {service.image} is too old; Langfuse and LiteLLM expect Redis 7 or newer"


RULES = (
    exact_image,
    image_exists,
    own_image,
    litellm_denied,
    langfuse_major,
    clickhouse_version,
    postgres_version,
    redis_version,
)
