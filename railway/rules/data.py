"""Rules about the stores: whose data is whose, where it lies, and who may reach it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from railway.rules.refusal import Finding, named, render, text_of
from railway.stack import Reference, Secret, SecretKind, Stack

__all__ = ["RULES"]

_STORES = ("postgres", "clickhouse", "redis", "minio")
_POSTGRES_MOUNT = "/var/lib/postgresql/data"
_UNITS = {"kb": 2**10, "mb": 2**20, "gb": 2**30}
_FIT_FOR_URLS = (
    SecretKind.PASSWORD,
    SecretKind.HEX,
    SecretKind.SK,
    SecretKind.LANGFUSE_PUBLIC_KEY,
    SecretKind.LANGFUSE_SECRET_KEY,
)


@named("shared-database", "BerriAI/litellm#9558: LiteLLM's migrations drop 71 tables of Langfuse's, measured")
def shared_database(stack: Stack) -> Iterator[Finding]:
    """LiteLLM and Langfuse have a Postgres database each, and a role each."""
    urls = {
        name: urlsplit(render(stack, name, "DATABASE_URL")) for name in ("litellm", "langfuse-web") if name in stack.services
    }
    if len(urls) < 2:
        return
    litellm, langfuse = urls["litellm"], urls["langfuse-web"]
    if litellm.netloc.rpartition("@")[2] != langfuse.netloc.rpartition("@")[2]:
        return
    if litellm.path == langfuse.path:
        yield "litellm", f"DATABASE_URL names Langfuse's database {litellm.path[1:]!r}; give each application its own"
    elif litellm.netloc == langfuse.netloc:
        yield "litellm", "DATABASE_URL has the role of Langfuse's; give each application its own, without rights on the other's"


@named("private-store", "docs.railway.com/guides/lock-down-production-project")
def private_store(stack: Stack) -> Iterator[Finding]:
    """No database and no store has a public address."""
    for name in _STORES:
        if name in stack.services and stack.services[name].public:
            yield name, "it would be reachable from everywhere; take `public` away: all who need it are in the private network"


@named("on-a-volume", "docs.railway.com/volumes: what is not on a volume is gone at the next deployment")
def on_a_volume(stack: Stack) -> Iterator[Finding]:
    """Whatever keeps data has a volume; SQLite's file of the Prefect server lies on it."""
    for name in (*_STORES, "prefect-server"):
        service = stack.services.get(name)
        if service is None:
            continue
        if service.volume is None:
            if name != "prefect-server" or text_of(service, "PREFECT_SERVER_DATABASE_CONNECTION_URL").startswith("sqlite"):
                yield name, "it keeps data and has no volume; give it one"
        elif name == "prefect-server":
            url = text_of(service, "PREFECT_SERVER_DATABASE_CONNECTION_URL")
            path = PurePosixPath("/" + url.partition(":///")[2].lstrip("/"))
            if url.startswith("sqlite") and not path.is_relative_to(service.volume.mount):
                yield name, f"SQLite's file {path} is not on the volume at {service.volume.mount}; put it there"


@named("postgres-folder", "railwayapp-templates/postgres-ssl wrapper.sh; postgres: a fresh volume is not empty (lost+found)")
def postgres_folder(stack: Stack) -> Iterator[Finding]:
    """Postgres' volume is mounted where its image insists on, and PGDATA is a folder below it."""
    service = stack.services.get("postgres")
    if service is None or service.volume is None:
        return
    folder = PurePosixPath(text_of(service, "PGDATA") or _POSTGRES_MOUNT)
    if "postgres-ssl" in service.image and service.volume.mount != _POSTGRES_MOUNT:
        yield service.name, f"its volume is at {service.volume.mount}; the image ends unless it is at {_POSTGRES_MOUNT}"
    elif folder == PurePosixPath(service.volume.mount) or not folder.is_relative_to(service.volume.mount):
        yield service.name, f"PGDATA {folder} is not below the volume; set it to {service.volume.mount}/pgdata"


@named(
    "redis-keeps", "langfuse.com/self-hosting/deployment/infrastructure/cache; langfuse#15509: evicted locks stop the queues"
)
def redis_keeps(stack: Stack) -> Iterator[Finding]:
    """Redis throws nothing away to make room, and writes down what it has taken."""
    service = stack.services.get("redis")
    if service is None:
        return
    options = _redis_options(service.start_command or "")
    if options.get("maxmemory-policy") != "noeviction":
        yield service.name, "it may evict jobs and locks of Langfuse's queues; start it with --maxmemory-policy noeviction"
    if options.get("appendonly") != "yes":
        yield service.name, "jobs of the last minutes are lost when it ends; start it with --appendonly yes"


@named(
    "redis-memory",
    "redis.io/docs/latest/operate/oss_and_stack/management/config: a fork to rewrite the file needs room beside it",
)
def redis_memory(stack: Stack) -> Iterator[Finding]:
    """Redis refuses writes before the platform kills it: its maxmemory is below the service's limit."""
    service = stack.services.get("redis")
    if service is None or service.limits is None:
        return
    most = _bytes(_redis_options(service.start_command or "").get("maxmemory", ""))
    if not 0 < most < service.limits.gigabytes * 2**30:
        yield (
            service.name,
            f"maxmemory is not set, or not below the {service.limits.gigabytes:g} GB that it may use; set it lower",
        )


@named("fit-for-urls", "langfuse.com/self-hosting/configuration: the password is put into a query string as it is")
def fit_for_urls(stack: Stack) -> Iterator[Finding]:
    """Secrets that stand in a URL are letters and digits."""
    for service in stack.services.values():
        for name, value in service.variables.items():
            if not isinstance(value, Reference) or "://" not in value.text:
                continue
            for of, variable in value.names():
                owner = stack.services.get(of or service.name)
                secret = owner.variables.get(variable) if owner else None
                if isinstance(secret, Secret) and secret.kind not in _FIT_FOR_URLS:
                    yield (
                        service.name,
                        f"{name} has {of or service.name}.{variable} in a URL; make that a secret of kind PASSWORD",
                    )


def _redis_options(command: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+) ([^ ']+)", command))


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)(kb|mb|gb)?", text.lower())
    return int(match[1]) * _UNITS.get(match[2] or "", 1) if match else 0


RULES = (
    shared_database,
    private_store,
    on_a_volume,
    postgres_folder,
    redis_keeps,
    redis_memory,
    fit_for_urls,
)
