"""The stack as Railway's infrastructure as code: the graph that `railway config plan` compares with an environment.

The CLI imports a file, calls its `main` without arguments and takes the graph of what comes back; `railway.py` in
`railway/starter` and `railway/production` are such files. What a graph cannot say is left to `deploy/on-demand`: secrets are
preserved and never planned, so they have to be there before the first apply; public domains are made by the API.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import railway_sdk

from blocks.errors import SettingsError
from blocks.settings import Settings
from railway.rules import refusals
from railway.stack import LangfuseMajor, ObjectStore, Secret, Service, Stack, Value, Variant
from railway.variants import build

__all__ = ["NOTES", "graph", "planned"]

NOTES = ("STACK_DEPLOYED", "STACK_SETUP_DONE")
"""Variables in which a deploy notes what it has done; a plan leaves them alone."""

_MEGABYTES = 1000
"""A gigabyte of Railway's volumes, as it counts them."""


def planned(
    variant: Variant,
    *,
    langfuse_major: LangfuseMajor = 3,
    object_store: ObjectStore = "minio",
    kept: Mapping[str, Sequence[str]] | None = None,
    bucket_region: str = "iad",
) -> railway_sdk.Project:
    """Build a stack for a file of Railway's CLI, with the worker's image of WORKER_IMAGE.

    Args:
        variant, langfuse_major, object_store: as of `build`. kept: as of `graph`. bucket_region: as of `graph`.
    Raises:
        SystemExit: it is refused; a line for each reason, which the CLI prints.
    """
    try:
        image = Settings.load().worker_image
        images = {"prefect-worker": image} if image and variant == "production" else {}
        stack = build(variant, langfuse_major=langfuse_major, object_store=object_store, images=images)
        return graph(stack, kept=kept, bucket_region=bucket_region)
    except SettingsError as error:
        raise SystemExit(str(error)) from None


def graph(stack: Stack, *, kept: Mapping[str, Sequence[str]] | None = None, bucket_region: str = "iad") -> railway_sdk.Project:
    """Return a stack as a project of railway-sdk.

    Args:
        stack: to be described.
        kept: variables that people have set besides, by service: a plan would delete what it does not know.
        bucket_region: where Railway's buckets are, iad, sjc, ams or sin; it cannot be changed afterwards.
    Raises:
        SettingsError: the stack is refused; every reason.
    """
    if refused := refusals(stack):
        raise SettingsError("; ".join(str(refusal) for refusal in refused))
    buckets = [railway_sdk.bucket(name, region=bucket_region) for name in stack.buckets]
    services = []
    for service in stack.services.values():
        settings = _settings() if service.name == "prefect-worker" else ()
        services.extend(_nodes(service, {*NOTES, *(kept or {}).get(service.name, ()), *settings}))
    return railway_sdk.project(stack.name, resources=[*buckets, *services])


def _nodes(service: Service, besides: set[str]) -> list[railway_sdk.Service]:
    volumes = []
    config: dict[str, Any] = {}
    if service.volume:
        volumes.append(railway_sdk.volume(f"{service.name}-data", sizeMB=service.volume.gigabytes * _MEGABYTES))
        config["volumeMounts"] = {service.volume.mount: volumes[0]}
    if service.health:
        config |= {"healthcheck": service.health.path, "healthcheckTimeout": service.health.timeout}
    if service.start_command:
        config["start"] = service.start_command
    variables = {name: _variable(value) for name, value in service.variables.items()}
    for name in sorted(besides - variables.keys()):
        variables[name] = railway_sdk.preserve()
    node = railway_sdk.service(
        service.name, source=railway_sdk.image(service.image), deploy=_deploy(service), env=variables, **config
    )
    return [*volumes, node]


def _deploy(service: Service) -> dict[str, Any]:
    """Settings that pass through as they are; not ON_FAILURE with ten retries, which no plan ever takes for done (cli#1184)."""
    deploy: dict[str, Any] = {"restartPolicyType": service.restart, "drainingSeconds": service.draining_seconds}
    if service.overlap_seconds:
        deploy["overlapSeconds"] = service.overlap_seconds
    if service.limits:
        memory = int(service.limits.gigabytes * 10**9)
        deploy["limitOverride"] = {"containers": {"cpu": service.limits.cpus, "memoryBytes": memory}}
    return deploy


def _variable(value: Value) -> Any:
    return railway_sdk.preserve() if isinstance(value, Secret) else value.text


def _settings() -> set[str]:
    """Name every setting of the project: whoever has set one on the worker keeps it."""
    set_by_railway = {"PORT", "RAILWAY_PROJECT_ID", "RAILWAY_ENVIRONMENT_ID", "RAILWAY_SERVICE_ID"}
    return {name.upper() for name in Settings.model_fields} - set_by_railway
