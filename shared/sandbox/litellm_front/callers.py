"""Who asks: nobody, the master key, or a virtual key, by its SHA-256 in Postgres."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

import psycopg
from starlette.requests import Request

from shared.sandbox.litellm_front.answers import Refused
from shared.sandbox.litellm_front.store import Store

__all__ = ["Caller", "Callers", "hashed"]

_HEADERS = ("x-litellm-api-key", "authorization", "api-key", "x-api-key")
_ALL_MODELS = "all-proxy-models"


@dataclass(frozen=True)
class Caller:
    """A key that is good.

    Attributes:
        token: its hash. is_master: whether it is the master key. models: that it may ask for; empty: all.
        row: of a virtual key, as it is stored.
    """

    token: str
    is_master: bool
    models: tuple[str, ...] = ()
    row: dict[str, Any] = field(default_factory=dict)

    def need_master(self, route: str) -> None:
        """Refuse who may not manage keys and models.

        Raises:
            Refused: 401.
        """
        if not self.is_master:
            raise Refused(401, f"Only proxy admin can call this route. Route={route}", "auth_error")

    def need_model(self, model: str) -> None:
        """Refuse a model that the key is not for.

        Raises:
            Refused: 403.
        """
        if self.models and model not in self.models:
            allowed = ", ".join(self.models)
            message = f"key not allowed to access model. It can only access {allowed}. Tried to access {model}"
            raise Refused(403, message, "key_model_access_denied", "model")


class Callers:
    """Looks keys up.

    Args:
        store: of the keys. master_key: LITELLM_MASTER_KEY; empty: as LiteLLM, takes everybody for the administrator.
    """

    def __init__(self, store: Store, master_key: str) -> None:
        self._store, self._master_key = store, master_key

    async def of(self, request: Request) -> Caller | None:
        """Who sends a request; None: without a key.

        Raises:
            Refused: 401 for a key that is unknown, expired or blocked, 429 for one without budget, 503 without the database.
        """
        key = _key_of(request)
        if not self._master_key:
            return Caller(hashed(key), is_master=True)
        if not key:
            return None
        if secrets.compare_digest(key.encode(), self._master_key.encode()):
            return Caller(hashed(key), is_master=True)
        if not key.startswith("sk-"):
            message = "Authentication Error, LiteLLM Virtual Key expected: a key is expected to start with 'sk-'"
            raise Refused(401, message, "auth_error")
        try:
            row = await self._store.key(hashed(key))
        except psycopg.Error:
            raise Refused(503, "The database does not answer", "no_db_connection") from None
        if row is None:
            message = f"Authentication Error, no such key. key={hashed(key)}, not found in db"
            raise Refused(401, message, "token_not_found_in_db", "key")
        _still_good(row)
        models = tuple(name for name in row["models"] or () if name != _ALL_MODELS)
        return Caller(hashed(key), is_master=False, models=models, row=dict(row))


def hashed(key: str) -> str:
    """How a key is stored: `sk-...` as SHA-256; what is no key is taken for a hash already."""
    return sha256(key.encode()).hexdigest() if key.startswith("sk-") else key


def _still_good(row: dict[str, Any]) -> None:
    expires = row["expires"]
    if expires is not None and expires.replace(tzinfo=UTC) < datetime.now(UTC):
        raise Refused(401, f"Authentication Error - the key has expired, at {expires}", "expired_key")
    if row["blocked"]:
        raise Refused(401, "Authentication Error, the key is blocked", "auth_error")
    if row["max_budget"] is not None and row["spend"] >= row["max_budget"]:
        message = f"Budget has been exceeded! Current cost: {row['spend']}, Max budget: {row['max_budget']}"
        raise Refused(429, message, "budget_exceeded")


def _key_of(request: Request) -> str:
    for name in _HEADERS:
        if value := request.headers.get(name, ""):
            return value.split(None, 1)[1].strip() if value.lower().startswith("bearer ") else value.strip()
    return ""
