"""What a person asks of a deploy, and the order that comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from blocks.errors import GuardRefused, SettingsError
from flows.deploy.plan import Order
from flows.deploy.setup_order import setup_order
from railway.rules import refusals
from railway.secret_values import fits
from railway.stack import Secret, SecretKind, Stack
from railway.variants import build

__all__ = ["WORKER", "Asked", "given_secrets", "order_of", "stack_of", "with_worker_image"]

WORKER = "prefect-worker"
Region = Literal["sjc", "iad", "ams", "sin"]
_NEVER_TAKEN = frozenset({"RAILWAY_TOKEN", "RAILWAY_API_TOKEN"})
"""What a deploy is done with is not by itself what the stack shall have: it may be able to do much more."""


class Asked(BaseModel):
    """Which stack."""

    model_config = ConfigDict(frozen=True)

    variant: Literal["starter", "production"] = Field(
        default="production", description="starter: seven services. production: with Prefect's server and worker, too"
    )
    langfuse: Literal[3, 4] = Field(default=3, description="Major version of Langfuse")
    object_store: Literal["minio", "bucket"] = Field(
        default="minio", description="minio: an S3 service of the stack's own. bucket: Railway's buckets"
    )
    bucket_region: Region = Field(default="ams", description="Where new Railway buckets are; cannot be changed later")
    images: dict[str, str] = Field(
        default={}, description='Other images than the project\'s, with exact tags: {"litellm": "ghcr.io/...:v1.102.4"}'
    )
    repeat_setup: bool = Field(
        default=False, description="Create roles, databases and buckets again where they are missing, whatever was noted"
    )


def order_of(asked: Asked, name: str, *, own_service: str = "", given: Mapping[str, SecretStr] | None = None) -> Order:
    """Word the order for a stack.

    Args:
        asked: which. name: the stack's. own_service: that this program runs in, or empty. given: see `given_secrets`.
    Raises:
        SettingsError: there is no such service, or no image of the worker, which SETUP needs.
        GuardRefused: it breaks a rule of `railway/rules/`.
    """
    if not (image := asked.images.get(WORKER, "")):
        raise SettingsError(
            f"deploy: no image of the worker, which creates roles and databases from inside; build railway/worker/Dockerfile, "
            f"push it, and give --image {WORKER}=registry/name:tag or WORKER_IMAGE"
        )
    stack = stack_of(asked, name)
    if broken := refusals(stack):
        raise GuardRefused("deploy: this stack would not work; nothing was changed: " + "; ".join(map(str, broken)))
    return Order(
        stack,
        setup_order(stack, image),
        repeat_setup=asked.repeat_setup,
        own_service=own_service,
        given=given or {},
        bucket_region=asked.bucket_region,
    )


def with_worker_image(asked: Asked, image: str) -> Asked:
    """Take the worker's image from the settings where none is asked for."""
    return asked.model_copy(update={"images": {WORKER: image, **asked.images}}) if image else asked


def stack_of(asked: Asked, name: str) -> Stack:
    """Build the stack.

    Raises:
        SettingsError: an image is given for a service that it has not.
    """
    given = dict(asked.images)
    if asked.variant == "starter":
        given.pop(WORKER, None)  # it has no worker, but SETUP runs its image
    try:
        return build(asked.variant, langfuse_major=asked.langfuse, object_store=asked.object_store, images=given, name=name)
    except ValueError as error:
        raise SettingsError(f"deploy: {error}") from None


def given_secrets(stack: Stack, environment: Mapping[str, str]) -> dict[str, SecretStr]:
    """Take the secrets that only a person has from the environment of this program, and those of a stack that is built again.

    Args:
        stack: which ones. environment: variables by name; Railway's tokens in it are never taken.
    Raises:
        SettingsError: one of them is not what it has to be.
    """
    wanted = {
        name: value
        for service in stack.services.values()
        for name, value in service.variables.items()
        if isinstance(value, Secret) and (value.kind is SecretKind.GIVEN or value.outlives)
    }
    given = {name: environment[name] for name in sorted(wanted.keys() - _NEVER_TAKEN) if environment.get(name)}
    for name, text in given.items():
        if wanted[name].kind is SecretKind.HEX and not fits(wanted[name], text):
            raise SettingsError(
                f"deploy: {name} in the environment is not {wanted[name].length} hexadecimal digits; correct it"
            )
    return {name: SecretStr(text) for name, text in given.items()}
