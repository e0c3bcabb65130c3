"""What the programs of the container get to know."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import get_args
from urllib.parse import unquote, urlsplit

from pydantic import SecretStr

from blocks.settings import Settings

__all__ = ["GATEWAYS", "Redactor", "of_gateway"]

GATEWAYS = frozenset(
    {
        "gateway_token",
        "prefect_api_auth_string",
        "prefect_api_key",
        "minio_secret_key",
        "railway_webhook_secret",
        "pagerduty_webhook_secret",
        "alertmanager_webhook_token",
        "slack_signing_secret",
    }
)
"""The secrets that the gateway works with: its own, Prefect's, the store's (with the history), and of who tells it things."""

_SECRETS = frozenset(
    name for name, field in Settings.model_fields.items() if SecretStr in (field.annotation, *get_args(field.annotation))
)

_SHORTEST = 6
"""Characters; what is shorter is a word that would be hidden everywhere."""


class Redactor:
    """Takes the secrets of an environment out of text.

    Args:
        environment: of the container.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        found = {part for name, value in environment.items() if name.lower() in _SECRETS for part in _parts(value)}
        self._secrets = sorted((secret for secret in found if len(secret) >= _SHORTEST), key=len, reverse=True)

    def hide(self, text: str) -> str:
        """Return the text with stars in the place of secrets."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def _parts(value: str) -> Iterator[str]:
    """A secret, and the password in it where it is a URL or `user:password`."""
    yield value
    try:
        password = urlsplit(value).password
    except ValueError:
        password = None
    if password:
        yield from (password, unquote(password))
    elif "://" not in value and ":" in value:
        yield value.partition(":")[2]


def of_gateway(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out the secrets that the gateway has no use for: it is the one program that strangers talk to.

    Args:
        environment: of the container.
    """
    return {name: value for name, value in environment.items() if name.lower() not in _SECRETS - GATEWAYS}
