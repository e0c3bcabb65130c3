"""The images that a runtime begins with. A tag that is not here is one that no registry has."""

from __future__ import annotations

import tempfile
from importlib.metadata import version
from pathlib import Path

from shared.engines.postgres import client_bin_dirs
from shared.sandbox.railway_runtime.catalogue import Image

__all__ = ["IMAGES", "LITELLM_VERSIONS", "WORKER_IMAGE"]

_REPOSITORY = Path(__file__).resolve().parents[3]

WORKER_IMAGE = "ghcr.io/sandbox/stack-operations:0.1.0"
"""The project's own image, as somebody would have published it: the files of this repository."""

LITELLM_VERSIONS = (
    *("1.80.0", "1.83.10", "1.85.0", "1.90.0", "1.99.1", "1.102.4", "1.103.0", "1.103.8"),
    *("1.104.0", "1.104.6", "1.105.4", "1.106.0", "1.108.0", "1.109.1"),
)
"""Releases that have an image. 1.102.4 is the one that runs, whatever the tag says."""


def _install_litellm(folder: Path) -> None:
    from shared.sandbox.litellm_gateway import install_litellm

    install_litellm(folder / "install-litellm.log")


def _prepare_prefect(folder: Path) -> None:
    """Let a server make the database that others begin with, unless one has."""
    from shared.sandbox.prefect_server import PrefectServer
    from shared.sandbox.railway_runtime.images.prefect import PREPARED

    if (PREPARED / f"prefect-{version('prefect')}.sqlite").exists():
        return
    with tempfile.TemporaryDirectory(dir=folder) as place:
        server = PrefectServer(Path(place), PREPARED, schedules=False)
        server.start()
        server.stop()


_POSTGRES = Image(
    repositories=("ghcr.io/railwayapp-templates/postgres-ssl",),
    tags=("16", "16.14", "18", "18.4"),
    command=("wrapper.sh", "postgres", "--port=5432"),
    programs={"wrapper.sh": "exec", "docker-entrypoint.sh": "exec", "postgres": "postgres"},
    port=5432,
    folders=("/var/lib/postgresql",),
)

_CLICKHOUSE = Image(
    repositories=("clickhouse/clickhouse-server",),
    tags=("24.3", "24.12", "24.12.6.70", "25.8", "25.12", "26.4", "26.4.5.143", "26.9"),
    command=("/entrypoint.sh",),
    programs={"/entrypoint.sh": "clickhouse"},
    port=8123,
    folders=("/var/lib/clickhouse", "/etc/clickhouse-server/config.d", "/etc/clickhouse-server/users.d"),
)

_REDIS = Image(
    repositories=("redis",),
    tags=("7.2.4", "7.2.11", "7.4.2", "7.4.6", "8.0.3", "8.2.1", "8.2.2", "8.2.3", "8.4.0"),
    command=("docker-entrypoint.sh", "redis-server"),
    programs={"docker-entrypoint.sh": "exec", "redis-server": "redis"},
    port=6379,
    folders=("/data",),
    workdir="/data",
)

_MINIO = Image(
    repositories=("quay.io/minio/minio",),
    tags=("RELEASE.2025-07-23T15-54-02Z", "RELEASE.2025-09-07T16-13-09Z"),
    command=("minio",),
    programs={"minio": "minio"},
    port=9000,
    folders=("/data",),
    health={"/minio/health/live": "/healthz", "/minio/health/ready": "/healthz", "/minio/health/cluster": "/healthz"},
)

_LITELLM = Image(
    repositories=("ghcr.io/berriai/litellm", "ghcr.io/berriai/litellm-database"),
    tags=tuple(tag for number in LITELLM_VERSIONS for tag in (number, f"v{number}", f"v{number}-stable")),
    command=("litellm", "--port", "4000"),
    programs={"litellm": "litellm"},
    port=4000,
    prepare=_install_litellm,
)

_LANGFUSE_TAGS = ("3.225.4", "4.16.0")

_LANGFUSE_WEB = Image(
    repositories=("langfuse/langfuse", "ghcr.io/langfuse/langfuse"),
    tags=_LANGFUSE_TAGS,
    command=("langfuse-web",),
    programs={"langfuse-web": "langfuse web"},
    port=3000,
)

_LANGFUSE_WORKER = Image(
    repositories=("langfuse/langfuse-worker", "ghcr.io/langfuse/langfuse-worker"),
    tags=_LANGFUSE_TAGS,
    command=("langfuse-worker",),
    programs={"langfuse-worker": "langfuse worker"},
    port=3030,
)

_PREFECT = Image(
    repositories=("prefecthq/prefect",),
    tags=("3.8.8-python3.11", "3.8.8-python3.12", "3.9.0-python3.12", "3.9.1-python3.11", "3.9.1-python3.12"),
    command=("prefect", "--help"),
    programs={"prefect": "prefect"},
    port=4200,
    prepare=_prepare_prefect,
)

_WORKER = Image(
    repositories=(WORKER_IMAGE.rpartition(":")[0], "ghcr.io/owner/stack-operations"),
    tags=("0.1.0", "0.1.1"),
    command=("python", "-m", "railway.worker"),
    programs={"python": "python", "python3": "python", "prefect": "prefect"},
    port=8080,
    elsewhere={"/app": _REPOSITORY},
    variables={
        "OPS_HOME": "/app",
        "PYTHONPATH": "/app",
        "PYTHONUNBUFFERED": "1",
        "DO_NOT_TRACK": "1",
    },
    # The image has them where PostgreSQL's packages put them.
    machine={"POSTGRES_BIN_DIRS": ",".join(str(path) for path in client_bin_dirs().values())},
    listens_on_port=True,
)

_PLAIN = Image(repositories=("busybox",), tags=("1.37", "1.37.0"), command=("sh",), listens_on_port=True)
"""The tools of this machine and nothing else. A program of it has to listen on $PORT, of 127.0.0.1."""

_PYTHON = Image(
    repositories=("python",),
    tags=("3.11-slim", "3.12-slim"),
    command=("python",),
    programs={"python": "python", "python3": "python"},
    listens_on_port=True,
)

IMAGES: tuple[Image, ...] = (
    _POSTGRES,
    _CLICKHOUSE,
    _REDIS,
    _MINIO,
    _LITELLM,
    _LANGFUSE_WEB,
    _LANGFUSE_WORKER,
    _PREFECT,
    _WORKER,
    _PLAIN,
    _PYTHON,
)
