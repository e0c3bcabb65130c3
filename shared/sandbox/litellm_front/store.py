"""LiteLLM's tables: keys, models, spend. A connection for each question, so that a restarted database is no matter."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg.types.json import Jsonb

__all__ = ["Store", "schema_is_there"]

_CONNECT_S = 4
_KEY = (
    "token, key_name, key_alias, spend, CASE WHEN isfinite(expires) THEN expires END AS expires, models, user_id, team_id, "
    "metadata, max_budget, blocked, created_at, updated_at"
)
_MODEL = "model_id, model_name, litellm_params, model_info, created_at, created_by, updated_at, updated_by"
_SPEND = (
    'request_id, call_type, api_key, spend, total_tokens, prompt_tokens, completion_tokens, "startTime", "endTime", model, '
    "model_id, model_group, custom_llm_provider, metadata, cache_hit, status"
)


class Store:
    """Questions to one database.

    Args:
        url: of the database.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    async def answers(self) -> bool:
        """Whether the database does."""
        try:
            async with self._connection() as connection:
                await connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    # --- keys ----------------------------------------------------------------------------------------------------------

    async def key(self, token: str) -> DictRow | None:
        """A key by its hash."""
        return await self._one(f'SELECT {_KEY} FROM "LiteLLM_VerificationToken" WHERE token = %s', [token])

    async def keys(self, alias: str | None) -> list[DictRow]:
        """All keys, or those of an alias; newest first."""
        where, values = ("WHERE key_alias = %s", [alias]) if alias else ("", [])
        return await self._all(f'SELECT {_KEY} FROM "LiteLLM_VerificationToken" {where} ORDER BY created_at DESC', values)

    async def add_key(self, values: Mapping[str, Any]) -> DictRow:
        """Insert a key; `values` by column."""
        return await self._insert("LiteLLM_VerificationToken", values, _KEY)

    async def delete_keys(self, tokens: Sequence[str], aliases: Sequence[str]) -> list[str]:
        """Delete keys by hash or alias; returns the hashes of those that were there."""
        statement = (
            'DELETE FROM "LiteLLM_VerificationToken" WHERE token = ANY(%s::text[]) OR key_alias = ANY(%s::text[]) '
            "RETURNING token"
        )
        return [str(row["token"]) for row in await self._all(statement, [list(tokens), list(aliases)])]

    # --- models --------------------------------------------------------------------------------------------------------

    async def models(self) -> list[DictRow]:
        """All of them, oldest first."""
        return await self._all(f'SELECT {_MODEL} FROM "LiteLLM_ProxyModelTable" ORDER BY created_at, model_id', [])

    async def model(self, model_id: str) -> DictRow | None:
        """One, by its id."""
        return await self._one(f'SELECT {_MODEL} FROM "LiteLLM_ProxyModelTable" WHERE model_id = %s', [model_id])

    async def add_model(self, values: Mapping[str, Any]) -> DictRow:
        """Insert a model; `values` by column."""
        return await self._insert("LiteLLM_ProxyModelTable", values, _MODEL)

    async def change_model(self, model_id: str, values: Mapping[str, Any]) -> DictRow | None:
        """Update a model; `values` by column."""
        columns = ", ".join(f'"{name}" = %s' for name in values)
        statement = f'UPDATE "LiteLLM_ProxyModelTable" SET {columns}, updated_at = now() WHERE model_id = %s RETURNING {_MODEL}'
        return await self._one(statement, [*map(_adapted, values.values()), model_id])

    async def delete_model(self, model_id: str) -> bool:
        """Delete a model; whether it was there."""
        statement = 'DELETE FROM "LiteLLM_ProxyModelTable" WHERE model_id = %s RETURNING model_id'
        return await self._one(statement, [model_id]) is not None

    # --- spend ---------------------------------------------------------------------------------------------------------

    async def spend(self, *, request_id: str | None, api_key: str | None) -> list[DictRow]:
        """Spend logs, newest first; of one request, of one key (its hash), or the last thousand."""
        asked = {"request_id": request_id, "api_key": api_key}
        given = {name: value for name, value in asked.items() if value is not None}
        where = f"WHERE {' AND '.join(f'{name} = %s' for name in given)}" if given else ""
        statement = f'SELECT {_SPEND} FROM "LiteLLM_SpendLogs" {where} ORDER BY "startTime" DESC LIMIT 1000'
        return await self._all(statement, list(given.values()))

    async def add_spend(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write a batch of spend logs, and what they cost to their keys."""
        async with self._connection() as connection, connection.transaction():
            for row in rows:
                columns, places = ", ".join(f'"{name}"' for name in row), ", ".join("%s" for _ in row)
                await connection.execute(
                    f'INSERT INTO "LiteLLM_SpendLogs" ({columns}) VALUES ({places}) ON CONFLICT DO NOTHING'.encode(),
                    [*map(_adapted, row.values())],
                )
                await connection.execute(
                    'UPDATE "LiteLLM_VerificationToken" SET spend = spend + %s, last_active = %s WHERE token = %s',
                    [row["spend"], datetime.now(UTC).replace(tzinfo=None), row["api_key"]],
                )

    # --- helpers -------------------------------------------------------------------------------------------------------

    async def _insert(self, table: str, values: Mapping[str, Any], returning: str) -> DictRow:
        columns, places = ", ".join(f'"{name}"' for name in values), ", ".join("%s" for _ in values)
        statement = f'INSERT INTO "{table}" ({columns}) VALUES ({places}) RETURNING {returning}'
        row = await self._one(statement, [*map(_adapted, values.values())])
        assert row is not None  # noqa: S101 - RETURNING returns
        return row

    async def _one(self, statement: str, values: Sequence[Any]) -> DictRow | None:
        return next(iter(await self._all(statement, values)), None)

    async def _all(self, statement: str, values: Sequence[Any]) -> list[DictRow]:
        async with self._connection() as connection:
            return await (await connection.execute(statement.encode(), values)).fetchall()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[psycopg.AsyncConnection[DictRow]]:
        connecting = psycopg.AsyncConnection[DictRow].connect(
            self._url, autocommit=True, connect_timeout=_CONNECT_S, row_factory=dict_row
        )
        async with await connecting as connection:
            yield connection


def schema_is_there(url: str) -> bool:
    """Whether LiteLLM's migrations have been applied.

    Raises:
        psycopg.OperationalError: the database does not answer.
    """
    with psycopg.connect(url, connect_timeout=_CONNECT_S) as connection:
        found = connection.execute("""SELECT to_regclass('"LiteLLM_VerificationToken"') IS NOT NULL""").fetchone()
    return bool(found and found[0])


def _adapted(value: object) -> object:
    """JSON for what is an object; arrays are arrays."""
    return Jsonb(value, dumps=lambda found: json.dumps(found, default=str)) if isinstance(value, dict) else value
