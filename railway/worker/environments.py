"""What the programs of the container get to know."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from pydantic import SecretStr

from blocks.settings import Settings

__all__ = ["GATEWAYS", "of_gateway"]

GATEWAYS = frozenset({"gateway_token", "prefect_api_auth_string", "prefect_api_key", "minio_secret_key"})
"""The secrets that the gateway works with: its own, Prefect's, and those of the store with the history."""

_SECRETS = frozenset(
    name for name, field in Settings.model_fields.items() if SecretStr in (field.annotation, *get_args(field.annotation))
)


def of_gateway(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out the secrets that the gateway has no use for: it is the one program that strangers talk to.

    Args:
        environment: of the container.
    """
    return {name: value for name, value in environment.items() if name.lower() not in _SECRETS - GATEWAYS}
