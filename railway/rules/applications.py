"""Rules about LiteLLM and Langfuse: what they do not start without, and what they lose in silence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from railway.rules.refusal import Finding, named, render, text_of
from railway.services.images import version_of
from railway.services.litellm import SDK_FOR_FOUR, reads_configuration
from railway.stack import Literal, Secret, SecretKind, Service, Stack

__all__ = ["RULES"]

_LANGFUSE = ("langfuse-web", "langfuse-worker")
_BOTH_NEED = (
    "DATABASE_URL",
    "CLICKHOUSE_URL",
    "CLICKHOUSE_USER",
    "CLICKHOUSE_PASSWORD",
    "LANGFUSE_S3_EVENT_UPLOAD_BUCKET",
    "SALT",
)
_WEB_NEEDS = ("NEXTAUTH_SECRET", "NEXTAUTH_URL", "CLICKHOUSE_MIGRATION_URL", "ENCRYPTION_KEY")
_INIT = (
    "LANGFUSE_INIT_ORG_ID",
    "LANGFUSE_INIT_PROJECT_ID",
    *(f"LANGFUSE_INIT_PROJECT_{one}_KEY" for one in ("PUBLIC", "SECRET")),
)
_NO_SUCH_KEYS = (
    ("general_settings", "enable_ui"),
    ("router_settings", "enable_fallbacks"),
    ("router_settings", "retry_policy", "ContentFilterErrorRetries"),
    ("litellm_settings", "retry_after"),
)


@named("langfuse-needs", "langfuse web/src/env.mjs, worker/src/env.ts: without them the process ends")
def langfuse_needs(stack: Stack) -> Iterator[Finding]:
    """Langfuse has every variable that it does not start without, and Redis."""
    for name, wanted in (("langfuse-web", _BOTH_NEED + _WEB_NEEDS), ("langfuse-worker", _BOTH_NEED)):
        service = stack.services.get(name)
        if service is None:
            continue
        for variable in wanted:
            if variable not in service.variables:
                yield name, f"{variable} is not set, and it does not start without"
        if not {"REDIS_CONNECTION_STRING", "REDIS_HOST"} & service.variables.keys():
            yield name, "it has no Redis; set REDIS_CONNECTION_STRING"


@named("langfuse-alone", "langfuse-k8s#193: with the default, true, web ends with code 139")
def langfuse_alone(stack: Stack) -> Iterator[Finding]:
    """CLICKHOUSE_CLUSTER_ENABLED is false: there is one ClickHouse server, and no ZooKeeper."""
    for name in _LANGFUSE:
        if name in stack.services and text_of(stack.services[name], "CLICKHOUSE_CLUSTER_ENABLED") != "false":
            yield name, "CLICKHOUSE_CLUSTER_ENABLED is true by default; set it to false"


@named("encryption-key", "langfuse packages/shared/src/env.ts: length 64, hexadecimal")
def encryption_key(stack: Stack) -> Iterator[Finding]:
    """Langfuse's ENCRYPTION_KEY is 64 hexadecimal digits."""
    service = stack.services.get("langfuse-web")
    value = service.variables.get("ENCRYPTION_KEY") if service else None
    is_secret = isinstance(value, Secret) and value.kind == SecretKind.HEX and value.length == 64
    if value is not None and not is_secret and not (isinstance(value, Literal) and re.fullmatch("[0-9a-fA-F]{64}", value.text)):
        yield "langfuse-web", "ENCRYPTION_KEY is not 64 hexadecimal digits; make it Secret(SecretKind.HEX, 64)"


@named("one-salt", "langfuse.com/self-hosting/configuration: the same in web and worker")
def one_salt(stack: Stack) -> Iterator[Finding]:
    """Web and worker have the same SALT, ENCRYPTION_KEY and stores."""
    if not all(name in stack.services for name in _LANGFUSE):
        return
    for variable in ("SALT", "ENCRYPTION_KEY", "DATABASE_URL", "CLICKHOUSE_URL", "CLICKHOUSE_DB", "REDIS_CONNECTION_STRING"):
        web, worker = (render(stack, name, variable) for name in _LANGFUSE)
        if web != worker:
            yield "langfuse-worker", f"{variable} is another one than web's; refer to web's"


@named("keys-at-first-boot", "langfuse.com/self-hosting/administration/headless-initialization")
def keys_at_first_boot(stack: Stack) -> Iterator[Finding]:
    """Langfuse makes its project with keys at its first start, and LiteLLM has the same keys: nobody copies any."""
    web = stack.services.get("langfuse-web")
    if web is None:
        return
    for variable in _INIT:
        if variable not in web.variables:
            yield "langfuse-web", f"{variable} is not set, so that no project with keys is made; set it"
    if "litellm" not in stack.services:
        return
    for ours, theirs in (("LANGFUSE_PUBLIC_KEY", _INIT[2]), ("LANGFUSE_SECRET_KEY", _INIT[3])):
        if render(stack, "litellm", ours) != render(stack, "langfuse-web", theirs):
            yield "litellm", f"{ours} is not that of Langfuse's project; set it to ${{{{langfuse-web.{theirs}}}}}"


@named("langfuse-listens", "langfuse worker/src/env.ts: it listens on HOSTNAME, which is the container's id otherwise")
def langfuse_listens(stack: Stack) -> Iterator[Finding]:
    """Langfuse listens on every address, IPv4 and IPv6: HOSTNAME is `::`."""
    for name in _LANGFUSE:
        if name in stack.services and text_of(stack.services[name], "HOSTNAME") != "::":
            yield name, "HOSTNAME is not `::`, so that an IPv6 network does not reach it; set it"


@named("both-families", "docs.railway.com/networking/private-networking/library-configuration#ioredis")
def both_families(stack: Stack) -> Iterator[Finding]:
    """Langfuse looks Redis up in both address families."""
    for name in _LANGFUSE:
        url = text_of(stack.services.get(name), "REDIS_CONNECTION_STRING")
        if url and "family=0" not in url:
            yield name, "REDIS_CONNECTION_STRING lacks ?family=0, without which an IPv6 network is not reached; add it"


@named("write-mode", "langfuse.com/self-hosting/upgrade/upgrade-guides/upgrade-v3-to-v4: the worker ends otherwise")
def write_mode(stack: Stack) -> Iterator[Finding]:
    """Langfuse 4's write mode goes with the preview it needs; Langfuse 3 is told nothing of it."""
    for name in _LANGFUSE:
        service = stack.services.get(name)
        mode = text_of(service, "LANGFUSE_MIGRATION_V4_WRITE_MODE")
        opt_in = text_of(service, "LANGFUSE_MIGRATION_V4_ALLOW_PREVIEW_OPT_IN")
        if stack.langfuse_major == 3 and mode not in ("", "legacy"):
            yield name, f"LANGFUSE_MIGRATION_V4_WRITE_MODE is {mode}, which Langfuse 3 does not write in; take it away"
        elif stack.langfuse_major == 4 and mode in ("", "events_only") and opt_in != "true":
            yield name, "the write mode events_only needs LANGFUSE_MIGRATION_V4_ALLOW_PREVIEW_OPT_IN=true; set it"


@named(
    "event-prefix",
    "langfuse worker ingestion-replay.ts: keys of OpenTelemetry events are queued with the prefix, and not found",
)
def event_prefix(stack: Stack) -> Iterator[Finding]:
    """Langfuse's events have no prefix in their bucket, or they cannot be replayed."""
    for name in _LANGFUSE:
        if text_of(stack.services.get(name), "LANGFUSE_S3_EVENT_UPLOAD_PREFIX"):
            yield name, "LANGFUSE_S3_EVENT_UPLOAD_PREFIX is set, and events could not be replayed; take it away"


@named("litellm-config", "litellm proxy_cli.py: without --config or CONFIG_FILE_PATH it starts with defaults, and says nothing")
def litellm_config(stack: Stack) -> Iterator[Finding]:
    """LiteLLM's configuration is really loaded, and has only keys that exist."""
    service = stack.services.get("litellm")
    if service is None:
        return
    if not reads_configuration(service.start_command or "") or "LITELLM_CONFIG" not in service.variables:
        yield service.name, "nothing loads its configuration: write LITELLM_CONFIG to a file and start with --config of it"
        return
    document = _configuration(service)
    if not document:
        yield service.name, "LITELLM_CONFIG is no YAML document; shared/litellm/config.yaml is one"
    for path in _NO_SUCH_KEYS:
        if _at(document, *path) is not None:
            yield service.name, f"LITELLM_CONFIG: {'.'.join(path)} does not exist and is ignored in silence; take it away"


@named(
    "langfuse-callback",
    "litellm's wheel metadata: langfuse<3 before 1.104; langgenius/dify#41542: 207, and every event refused",
)
def langfuse_callback(stack: Stack) -> Iterator[Finding]:
    """LiteLLM sends traces as its Langfuse takes them: by `langfuse_otel` where Langfuse 4 meets LiteLLM < 1.104."""
    service = stack.services.get("litellm")
    if service is None:
        return
    document = _configuration(service)
    if not document:
        return  # another rule says so
    settings = _at(document, "litellm_settings") or {}
    names = [name for key in ("callbacks", "success_callback", "failure_callback") for name in settings.get(key) or []]
    version = version_of(service.image)
    if not {"langfuse", "langfuse_otel"} & set(names):
        yield service.name, "LITELLM_CONFIG has no Langfuse callback, so that nothing is traced; add one"
    elif stack.langfuse_major == 4 and "langfuse" in names and version and version < SDK_FOR_FOUR:
        yield (
            service.name,
            f"LiteLLM {'.'.join(map(str, version))} loses every trace on its way to Langfuse 4; take 1.104 or newer, or the "
            "callback langfuse_otel",
        )


@named("master-key", "docs.litellm.ai/docs/proxy/prod; without one, 1.102.4 serves everybody (measured)")
def master_key(stack: Stack) -> Iterator[Finding]:
    """LiteLLM has a master key that begins with sk-, and a salt key of its own."""
    service = stack.services.get("litellm")
    if service is None:
        return
    value = service.variables.get("LITELLM_MASTER_KEY")
    if not (isinstance(value, Secret) and value.kind in (SecretKind.SK, SecretKind.GIVEN) and value.required):
        yield service.name, "LITELLM_MASTER_KEY is no secret that begins with sk-; make it Secret(SecretKind.SK)"
    salt = render(stack, "litellm", "LITELLM_SALT_KEY")
    if not salt or salt == render(stack, "litellm", "LITELLM_MASTER_KEY"):
        yield service.name, "LITELLM_SALT_KEY is not set, or is the master key, which then could never change; make one"


@named("litellm-health", "docs.litellm.ai/docs/proxy/health: /health makes a completion with every model")
def litellm_health(stack: Stack) -> Iterator[Finding]:
    """LiteLLM's health path neither needs a key nor bills a model."""
    service = stack.services.get("litellm")
    if service and service.health and service.health.path.partition("?")[0].rstrip("/") == "/health":
        yield service.name, "health path /health needs a key and bills every model; use /health/readiness"


def _configuration(service: Service) -> Mapping[str, Any]:
    try:
        document = yaml.safe_load(text_of(service, "LITELLM_CONFIG"))
    except yaml.YAMLError:
        return {}
    return document if isinstance(document, dict) else {}


def _at(document: Any, *path: str) -> Any:
    for key in path:
        document = document.get(key) if isinstance(document, dict) else None
    return document


RULES = (
    langfuse_needs,
    langfuse_alone,
    encryption_key,
    one_salt,
    keys_at_first_boot,
    langfuse_listens,
    both_families,
    write_mode,
    event_prefix,
    litellm_config,
    langfuse_callback,
    master_key,
    litellm_health,
)
