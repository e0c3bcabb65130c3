"""Who sends: the API keys of projects, in Postgres, remembered in Redis for five minutes as the original does."""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

import psycopg
from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.sandbox.langfuse_double.migrations import fast_hash

__all__ = ["Accounts"]

_REMEMBER_S = 300


class Accounts:
    """The API keys.

    Args:
        postgres_url: of the database. redis: client that decodes answers. salt: SALT.
    """

    def __init__(self, postgres_url: str, redis: Redis, salt: str) -> None:
        self._url, self._salt = postgres_url, salt
        self._redis: Any = redis

    async def project(self, authorization: str) -> str | None:
        """The project whose key this is, or None.

        Args:
            authorization: header, `Basic base64(public:secret)`.
        Raises:
            psycopg.Error: the key is not remembered, and Postgres does not answer.
        """
        scheme, _, encoded = authorization.partition(" ")
        try:
            public_key, _, secret_key = base64.b64decode(encoded).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
        if scheme.lower() != "basic" or not secret_key:
            return None
        hashed = fast_hash(secret_key, self._salt)
        name = f"api-key:{hashed}"
        known = json.loads(await self._remembered(name) or "null")
        if known is None:
            known = await self._look_up(hashed)
            if known is not None:
                await self._remember(name, known)
        return str(known["projectId"]) if known is not None and known["publicKey"] == public_key else None

    async def _look_up(self, hashed: str) -> dict[str, str] | None:
        async with await psycopg.AsyncConnection.connect(self._url, connect_timeout=10, autocommit=True) as connection:
            rows = await connection.execute(
                "SELECT public_key, project_id FROM api_keys WHERE fast_hashed_secret_key = %s "
                "AND project_id IS NOT NULL AND (expires_at IS NULL OR expires_at > now())",
                [hashed],
            )
            row = await rows.fetchone()
        return None if row is None else {"publicKey": row[0], "projectId": row[1]}

    async def _remembered(self, name: str) -> str | None:
        try:
            return await self._redis.get(name)  # type: ignore[no-any-return]  # the client's types do not know that it decodes
        except RedisError:
            return None  # only slower without

    async def _remember(self, name: str, known: dict[str, str]) -> None:
        try:
            await self._redis.set(name, json.dumps(known), ex=_REMEMBER_S)
        except RedisError:
            return  # only slower without
