"""The worker's buffer before ClickHouse. A job is done when its rows are here, not when they are there: what an outage of
seconds loses (facts: apps.md 2.4, langfuse#6380) is lost here as well."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import httpx

from shared.sandbox.langfuse_double.rows import Rows
from shared.sandbox.langfuse_double.warehouse import Warehouse, WarehouseError

__all__ = ["Writer"]

_ROWS = 1000
_ATTEMPTS = 3


class Writer:
    """Rows that wait for the next insert.

    Args:
        warehouse: where to. log: gets a line for what goes wrong.
    """

    def __init__(self, warehouse: Warehouse, log: Callable[[str], object] = sys.stderr.write) -> None:
        self._warehouse, self._log = warehouse, log
        self._waiting: dict[str, list[tuple[int, dict[str, Any]]]] = {}

    def add(self, rows: Rows) -> None:
        """Take rows."""
        for table, added in rows.tables.items():
            self._waiting.setdefault(table, []).extend((0, row) for row in added)

    async def flush(self) -> None:
        """Insert what waits, at most 1000 rows a table; what fails a third time is dropped."""
        for table in list(self._waiting):
            batch, rest = self._waiting[table][:_ROWS], self._waiting[table][_ROWS:]
            self._waiting[table] = rest
            if not batch:
                continue
            try:
                await self._warehouse.insert(table, [row for _, row in batch])
            except (WarehouseError, httpx.TransportError) as error:
                self._log(f"ClickhouseWriter: insert into {table} failed: {type(error).__name__}: {error}\n")
                again = [(tries + 1, row) for tries, row in batch if tries + 1 < _ATTEMPTS]
                if dropped := len(batch) - len(again):
                    self._log(f"ClickhouseWriter: Max attempts reached, dropped {dropped} {table} records\n")
                self._waiting[table] = again + self._waiting[table]
