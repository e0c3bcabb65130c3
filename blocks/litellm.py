"""The LiteLLM gateway: where it is, how to ask it how it does, and which versions are not to be run.

Never asked: `/health`, which makes a paid completion with every model (facts: apps.md 1.3).
"""

from __future__ import annotations

from typing import Any

import httpx
from prefect.blocks.core import Block
from pydantic import Field, SecretStr

from blocks.denied import DENIED_VERSIONS
from blocks.errors import AccessDenied, ServiceError, SettingsError

__all__ = ["DENIED_VERSIONS", "DETAILS", "LIVENESS", "MODELS", "READINESS", "LiteLLMGateway", "bearer"]

LIVENESS = "/health/liveliness"
READINESS = "/health/readiness"
DETAILS = "/health/readiness/details"
"""Needs a key; has the version, the cache and the callbacks."""
MODELS = "/v1/models"
CACHE = "/cache/ping"


class LiteLLMGateway(Block):
    """A LiteLLM proxy.

    Attributes:
        url: http(s)://host[:port], as the worker reaches it.
        master_key: LiteLLM's master key; without it only what needs no key is looked at.
        timeout: seconds to wait for a connection or an answer.

    Example:
        ```python
        gateway = LiteLLMGateway.load("mystack")
        gateway.check()
        ```
    """

    _block_type_name = "LiteLLM Gateway"
    _block_type_slug = "litellm-gateway"
    _description = "The LiteLLM proxy of a stack."

    url: str = Field(description="http(s)://host[:port]")
    master_key: SecretStr | None = Field(default=None, description="LiteLLM's master key")
    timeout: float = Field(default=5.0, gt=0, description="Seconds to wait for a connection or an answer")

    def client(self, *, key: bool = True) -> httpx.Client:
        """Return an HTTP client with the gateway as its base.

        Args:
            key: send the master key, where there is one.
        """
        headers = bearer(self.master_key) if key else {}
        secure = self.url.startswith("https://")  # httpx reads all authorities' certificates otherwise too: a tenth of a second
        return httpx.Client(base_url=self.url, timeout=self.timeout, headers=headers, trust_env=False, verify=secure)

    def check(self) -> None:
        """See that it is ready, that it refuses who has no key, and that it takes ours.

        Raises:
            AccessDenied: it refuses the master key.
            ServiceError: it does not answer, or is not ready.
            SettingsError: it serves everybody, or is of a compromised version.
        """
        if self._status(READINESS, key=False) != httpx.codes.OK:
            raise ServiceError(f"litellm: not ready; expected 200 from {READINESS}: is its Postgres up, what does its log say?")
        answer = self._status(MODELS, key=False)
        if answer != httpx.codes.UNAUTHORIZED:
            raise SettingsError(
                f"litellm: {MODELS} without a key answers {answer}, expected 401; set LITELLM_MASTER_KEY on the service"
            )
        if self.master_key is None:
            return
        if self._status(MODELS) != httpx.codes.OK:
            raise AccessDenied("litellm: the master key is refused; set LITELLM_MASTER_KEY to that of the service")
        version = self.version()
        if version in DENIED_VERSIONS:
            raise SettingsError(f"litellm: {version} is compromised; deploy another version and change every provider key")

    def version(self) -> str:
        """Return its version, empty where it does not say.

        Raises:
            ServiceError: it does not answer.
        """
        return str(self.details().get("litellm_version", ""))

    def details(self) -> dict[str, Any]:
        """Return what it says of itself to who has the key: version, cache, callbacks; empty where it refuses.

        Raises:
            ServiceError: it does not answer.
        """
        with self.client() as client:
            try:
                answer = client.get(DETAILS)
                if answer.status_code == httpx.codes.NOT_FOUND:  # before 1.85 all of it stood in the answer about readiness
                    answer = client.get(READINESS)
                found = answer.json() if answer.is_success else {}
            except (httpx.HTTPError, ValueError) as error:
                raise _no_answer(error) from None
        return found if isinstance(found, dict) else {}

    def _status(self, path: str, *, key: bool = True) -> int:
        with self.client(key=key) as client:
            try:
                return client.get(path).status_code
            except httpx.HTTPError as error:
                raise _no_answer(error) from None


def bearer(key: SecretStr | None) -> dict[str, str]:
    """Make the header that carries a key; none where there is no key."""
    return {} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"}


def _no_answer(error: Exception) -> ServiceError:
    return ServiceError(f"litellm: no answer ({type(error).__name__}); is the service up and LITELLM_URL right?")
