"""ClickHouse as the two programs use it: over HTTP, inserts as JSON lines, reads of newest versions only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx

from shared.sandbox.langfuse_double.configuration import Stores

__all__ = ["Warehouse", "WarehouseError"]


class WarehouseError(Exception):
    """ClickHouse refused a statement. Carries the first line of what it said."""


class Warehouse:
    """A client of one database. `close` when done."""

    def __init__(self, stores: Stores) -> None:
        self._database = stores.clickhouse_database
        self._http = httpx.AsyncClient(
            base_url=stores.clickhouse_url,
            headers={"X-ClickHouse-User": stores.clickhouse_user, "X-ClickHouse-Key": stores.clickhouse_password},
            timeout=httpx.Timeout(30.0, connect=2.0),
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def run(self, statement: str, parameters: Mapping[str, str] | None = None, *, data: bytes = b"") -> bytes:
        """Run a statement.

        Args:
            statement: names tables without their database. parameters: of `{name:Type}` in it. data: of an INSERT.
        Raises:
            WarehouseError: it was refused.
            httpx.TransportError: there was no answer.
        """
        query = {"database": self._database, **{f"param_{name}": value for name, value in (parameters or {}).items()}}
        if data:
            query["query"] = statement
        answer = await self._http.post("/", params=query, content=data or statement.encode())
        if not answer.is_success:
            raise WarehouseError(answer.text.partition("\n")[0][:300])
        return answer.content

    async def select(self, statement: str, parameters: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
        """The rows of a SELECT without FORMAT.

        Raises: as `run`.
        """
        lines = await self.run(f"{statement} FORMAT JSONEachRow", parameters)
        return [json.loads(line) for line in lines.splitlines()]

    async def insert(self, table: str, rows: list[dict[str, Any]]) -> None:
        """Insert rows; a column that a row lacks gets its default.

        Raises: as `run`.
        """
        lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
        await self.run(f"INSERT INTO {table} FORMAT JSONEachRow", data=lines.encode())
