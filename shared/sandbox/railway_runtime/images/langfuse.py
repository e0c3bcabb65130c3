"""`langfuse web` and `langfuse worker`: the stand-ins of `langfuse_double`, told what the originals are told.

They end at once, with a word about the variable, where the originals do (facts: apps.md 2.1): a required one is missing,
ENCRYPTION_KEY is not 64 hexadecimal digits, ClickHouse is taken for a cluster, which it is by default.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from shared.sandbox.langfuse_double.configuration import Configuration, Stores
from shared.sandbox.railway_runtime.catalogue import version
from shared.sandbox.railway_runtime.images.inside import Inside, become, die, say

_PORTS = {"web": 3000, "worker": 3030}
_STORES = ("DATABASE_URL", "CLICKHOUSE_URL", "CLICKHOUSE_USER", "CLICKHOUSE_PASSWORD", "LANGFUSE_S3_EVENT_UPLOAD_BUCKET")
_REQUIRED = {"web": (*_STORES, "CLICKHOUSE_MIGRATION_URL", "NEXTAUTH_SECRET", "NEXTAUTH_URL", "SALT"), "worker": _STORES}
_URLS = ("DATABASE_URL", "CLICKHOUSE_URL", "CLICKHOUSE_MIGRATION_URL", "NEXTAUTH_URL")
_INIT = tuple(f"LANGFUSE_INIT_{name}" for name in ("ORG_ID", "PROJECT_ID", "PROJECT_PUBLIC_KEY", "PROJECT_SECRET_KEY"))
_S3 = "LANGFUSE_S3_EVENT_UPLOAD_"
_LIBPQ = ("sslmode", "connect_timeout", "application_name")
_WRITE_MODES = ("legacy", "dual", "events_only")
_NOBODY = "http://127.0.0.1:9"
"""The discard port, where nothing listens."""


def main(part: str) -> None:
    """Check the variables and become the stand-in."""
    inside = Inside.read()
    variables = os.environ
    if problem := problem_with(part, variables):
        die(f"Invalid environment variables: {problem}")
    if part == "web":
        _check_migration(variables)
    said = variables.get("PORT", "")
    configuration = Configuration(
        port=inside.port(int(said) if said.isdigit() else _PORTS[part]),
        version=version(inside.image),
        stores=_stores(inside, variables),
        behaviour=str(inside.path("/app/behaviour.json")),
        ingestion_delay=float(variables.get("LANGFUSE_INGESTION_QUEUE_DELAY_MS") or 0) / 1000,
        preview=variables.get("LANGFUSE_MIGRATION_V4_ALLOW_PREVIEW_OPT_IN", "true") == "true",
        write_mode=variables.get("LANGFUSE_MIGRATION_V4_WRITE_MODE", "events_only"),
    )
    file = inside.path("/app/configuration.json")
    configuration.write(file)
    become(sys.executable, ["-P", "-m", f"shared.sandbox.langfuse_double.{part}", str(file)], {**variables, "TZ": "UTC"})


def problem_with(part: str, variables: Mapping[str, str]) -> str | None:
    """What the original would not start with, or None."""
    for name in _REQUIRED[part]:
        if not variables.get(name):
            return f"{name}: Required"
        if name in _URLS and not urlsplit(variables[name]).netloc:
            return f"{name}: Invalid url"
    if (key := variables.get("ENCRYPTION_KEY")) is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", key):
        return "ENCRYPTION_KEY: must be 256 bits, 64 string characters in hex format, generate via: openssl rand -hex 32"
    if variables.get("LANGFUSE_MIGRATION_V4_WRITE_MODE", "events_only") not in _WRITE_MODES:
        return f"LANGFUSE_MIGRATION_V4_WRITE_MODE: expected one of {', '.join(_WRITE_MODES)}"
    return None


def _check_migration(variables: Mapping[str, str]) -> None:
    """What the original's migration of ClickHouse stumbles over, before it listens."""
    if variables.get("CLICKHOUSE_CLUSTER_ENABLED", "true") != "false":
        die(
            "error: code: 139, message: There is no Zookeeper configuration in server config in line 0: "
            "CREATE TABLE schema_migrations ON CLUSTER default; a single server needs CLICKHOUSE_CLUSTER_ENABLED=false"
        )
    if re.search(r"[&=#?%+@ ]", variables["CLICKHOUSE_PASSWORD"]):
        die("error: CLICKHOUSE_PASSWORD has a character that the migration's URL does not survive; use letters and digits")


def _stores(inside: Inside, variables: Mapping[str, str]) -> Stores:
    organization, project, public_key, secret_key = (variables.get(name, "") for name in _INIT)
    if not all((organization, project, public_key, secret_key)):
        if organization:
            say("LANGFUSE_INIT_*: no project is created; it needs the ids of both, and both keys")
        organization = project = public_key = secret_key = ""
    endpoint = variables.get(_S3 + "ENDPOINT", "")
    if variables.get(_S3 + "FORCE_PATH_STYLE") != "true" and inside.is_private(urlsplit(endpoint).port or 0):
        say(f"{_S3}FORCE_PATH_STYLE is not true: no name of the private network has the bucket in front of it")
        endpoint = _NOBODY
    return Stores(
        postgres_url=_plain_postgres(variables["DATABASE_URL"]),
        redis_url=_redis(variables),
        clickhouse_url=variables["CLICKHOUSE_URL"],
        clickhouse_user=variables["CLICKHOUSE_USER"],
        clickhouse_password=variables["CLICKHOUSE_PASSWORD"],
        clickhouse_database=variables.get("CLICKHOUSE_DB") or "default",
        s3_endpoint=endpoint or _NOBODY,
        s3_region=variables.get(_S3 + "REGION") or "auto",
        s3_access_key=variables.get(_S3 + "ACCESS_KEY_ID", ""),
        s3_secret_key=variables.get(_S3 + "SECRET_ACCESS_KEY", ""),
        s3_bucket=variables[_S3 + "BUCKET"],
        s3_prefix=variables.get(_S3 + "PREFIX", ""),
        salt=variables.get("SALT", ""),
        public_key=public_key,
        secret_key=secret_key,
        organization=organization,
        project=project,
        redis_key_prefix=variables.get("REDIS_KEY_PREFIX") or "bull",
        admin_key=variables.get("ADMIN_API_KEY", ""),
    )


def _redis(variables: Mapping[str, str]) -> str:
    """The connection string, without what only the original's client understands (`family=0`)."""
    if url := variables.get("REDIS_CONNECTION_STRING"):
        return urlunsplit(urlsplit(url)._replace(query=""))
    host, port = variables.get("REDIS_HOST") or "127.0.0.1", variables.get("REDIS_PORT") or "6379"
    password = variables.get("REDIS_AUTH", "")
    return f"redis://{f':{quote(password, safe=str())}@' if password else ''}{host}:{port}/0"


def _plain_postgres(url: str) -> str:
    """Without the parameters that are Prisma's and that libpq refuses."""
    parts = urlsplit(url)
    kept = [(name, value) for name, value in parse_qsl(parts.query) if name in _LIBPQ]
    return urlunsplit(parts._replace(query=urlencode(kept)))


if __name__ == "__main__":
    main(sys.argv[1])
