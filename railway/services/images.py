"""The images of the stack, each with an exact tag: what runs tomorrow is what was tested today.

Digests are not here, for none was known when this was written; a tag with one, `name:tag@sha256:...`, is taken as it is.
"""

from __future__ import annotations

from collections.abc import Mapping

from railway.stack import LangfuseMajor

__all__ = ["PLACEHOLDER", "WORKER", "defaults", "tag_of", "version_of"]

PLACEHOLDER = "OWNER"
WORKER = f"ghcr.io/{PLACEHOLDER}/stack-operations:0.1.0"
"""The project's own image, which nobody publishes for you: build `railway/worker/Dockerfile`, push it, and name it in
WORKER_IMAGE. `railway/rules.py` refuses a stack that still has this one."""

_COMMON = {
    # Major tags only, on purpose: point-in-time recovery and high availability of Railway's need one (`:16`, not `:16.10`).
    "postgres": "ghcr.io/railwayapp-templates/postgres-ssl:16",
    # Langfuse 3 runs on it as well as 4, which recommends 26.4; from 26.4.5.90 on differential backups have no S3 keys in them.
    "clickhouse": "clickhouse/clickhouse-server:26.4.5.143",
    "redis": "redis:8.2.3",
    # Docker Hub has no minio/minio any more; this is the last release that a registry still serves, and it will not be mended.
    "minio": "quay.io/minio/minio:RELEASE.2025-09-07T16-13-09Z",
    "litellm": "ghcr.io/berriai/litellm:v1.102.4",
    "prefect-server": "prefecthq/prefect:3.9.1-python3.12",
    "prefect-worker": WORKER,
}
_LANGFUSE: Mapping[LangfuseMajor, str] = {3: "3.225.4", 4: "4.16.0"}


def defaults(langfuse_major: LangfuseMajor) -> dict[str, str]:
    """Name the image of every service."""
    version = _LANGFUSE[langfuse_major]
    return {
        **_COMMON,
        "langfuse-web": f"langfuse/langfuse:{version}",
        "langfuse-worker": f"langfuse/langfuse-worker:{version}",
    }


def tag_of(image: str) -> str:
    """Return the tag of an image's name, empty where it has none."""
    _, _, last = image.partition("@")[0].rpartition("/")
    return last.partition(":")[2]


def version_of(image: str) -> tuple[int, ...]:
    """Read the version out of an image's tag: `v1.102.4-stable` is (1, 102, 4); empty where there is none.

    The older scheme of LiteLLM, `main-v1.80.0-stable`, is understood too.
    """
    numbers: list[int] = []
    for part in tag_of(image).removeprefix("main-").removeprefix("v").split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)
