"""ClickHouse: does it answer queries, is there room, do parts merge and mutations end, do its own logs eat the disk.

One statement each over the HTTP interface (facts: apps.md 3.2 and 6), each with a short deadline of its own on the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from blocks.errors import SettingsError
from flows.health.findings import Findings
from flows.health.observation import Status
from flows.health.reach import Answer, Web, web
from flows.health.targets import ClickHouse, Limits

__all__ = ["MAIN", "check"]

MAIN = "query"

Row = Mapping[str, Any]

_SETTINGS = {"default_format": "JSON", "output_format_json_quote_64bit_integers": "0", "log_queries": "0", "max_threads": "1"}
_DEADLINE = {"max_execution_time": "4"}
_DENIED = frozenset({"192", "193", "194", "497", "516"})
"""UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD, ACCESS_DENIED, AUTHENTICATION_FAILED."""
_OURS = "clickhouse: user or password is refused, so nobody looked; correct CLICKHOUSE_USER and CLICKHOUSE_PASSWORD"


async def check(target: ClickHouse, found: Findings, limits: Limits) -> None:
    """Look at ClickHouse."""
    headers = {"X-ClickHouse-User": target.user, "X-ClickHouse-Key": target.password.get_secret_value()}
    with found.looking(MAIN, Status.DOWN):
        async with web(target.url, headers) as server:
            answer = await _ask(server, "SELECT 1 AS one")
            if answer.status != 200:
                if _code(answer) in _DENIED:
                    raise SettingsError(_OURS)
                what = f"ClickHouse answers {answer.status} to the simplest query, expected 200"
                found.add(MAIN, Status.DOWN, f"{what}; read its log, restart it", latency_ms=answer.latency_ms)
                return
            found.add(MAIN, Status.OK, "ClickHouse answers queries", latency_ms=answer.latency_ms)
            looks = (_disks, _parts, _mutations, _replication, _system_logs, _migrations)
            await asyncio.gather(*(look(server, found, limits) for look in looks))


async def _disks(server: Web, found: Findings, limits: Limits) -> None:
    with found.looking("disk", Status.DEGRADED):
        rows = await _rows(server, found, "disk", _DISKS)
        if not rows:
            return
        used = round(float(rows[0]["used"]), 1)
        free = float(rows[0]["free"]) / 1e9
        text = f"ClickHouse's disk is {used:g} % full ({free:.1f} GB free), expected at most {limits.disk_percent:g} %"
        todo = "truncate system logs, grow the volume; at 100 % nothing can be truncated any more"
        if used > limits.disk_full_percent:
            sentence = f"{text}: inserts fail and events are lost; {todo}"
            found.add("disk", Status.DOWN, sentence, value=used, limit=limits.disk_percent, unit="%")
        else:
            found.measure("disk", used, limits.disk_percent, "%", text, todo)


async def _parts(server: Web, found: Findings, limits: Limits) -> None:
    with found.looking("parts", Status.DEGRADED):
        rows = await _rows(server, found, "parts", _PARTS)
        if rows is None:
            return
        most = int(rows[0]["parts"]) if rows else 0
        where = f" ({rows[0]['database']}.{rows[0]['table']})" if rows else ""
        text = f"at most {most} parts in one partition of ClickHouse{where}, expected at most {limits.parts:g}"
        found.measure(
            "parts", most, limits.parts, "parts", text, "merges do not keep up: larger inserts, fewer mutations, more CPU"
        )


async def _mutations(server: Web, found: Findings, limits: Limits) -> None:
    with found.looking("mutations", Status.DEGRADED):
        rows = await _rows(server, found, "mutations", _MUTATIONS.format(seconds=int(limits.mutation_seconds)))
        if rows is None:
            return
        text = f"{len(rows)} mutations of ClickHouse are stuck, expected none"
        where = f"the oldest in {rows[0]['database']}.{rows[0]['table']}; " if rows else ""
        todo = f"{where}see latest_fail_reason in system.mutations, then mend it or KILL MUTATION"
        found.measure("mutations", len(rows), 0, "mutations", text, todo)


async def _replication(server: Web, found: Findings, _limits: Limits) -> None:
    """One node needs none: replicated tables come of CLICKHOUSE_CLUSTER_ENABLED, and want a keeper that is not there."""
    with found.looking("replication", Status.DEGRADED):
        rows = await _rows(server, found, "replication", _REPLICATED)
        if rows is None:
            return
        text = f"{len(rows)} tables of ClickHouse are replicated, expected none on one node"
        where = f"the first is {rows[0]['database']}.{rows[0]['name']}; " if rows else ""
        todo = f"{where}set CLICKHOUSE_CLUSTER_ENABLED=false on Langfuse and move their data"
        found.measure("replication", len(rows), 0, "tables", text, todo)


async def _system_logs(server: Web, found: Findings, limits: Limits) -> None:
    with found.looking("system-logs", Status.DEGRADED):
        rows = await _rows(server, found, "system-logs", _SYSTEM_LOGS)
        if rows is None:
            return
        total = float(sum(int(row["bytes"]) for row in rows))
        text = f"ClickHouse's own logs take {total / 1e9:.1f} GB, expected at most {limits.system_log_bytes / 1e9:g} GB"
        where = f"most in system.{rows[0]['table']}; " if rows else ""
        todo = f"{where}TRUNCATE it, and remove it or give it a TTL in config.d"
        found.measure("system-logs", total, limits.system_log_bytes, "bytes", text, todo)


async def _migrations(server: Web, found: Findings, _limits: Limits) -> None:
    """A migration that broke off leaves its version dirty, and langfuse-web does not boot again."""
    with found.looking("schema-migrations", Status.DEGRADED):
        tables = await _rows(server, found, "schema-migrations", _LEDGERS)
        if not tables:
            return
        ledgers = [f"`{row['database']}`" for row in tables]
        newest = [await _rows(server, found, "schema-migrations", _NEWEST.format(database=database)) for database in ledgers]
        states = [rows[0] for rows in newest if rows]
        dirty = [row for row in states if int(row["dirty"])]
        if not states:
            return
        if dirty:
            todo = "repair what it left half done, then force the version, before langfuse-web is restarted: it would not boot"
            sentence = f"ClickHouse migration {dirty[0]['version']} of Langfuse is dirty: it broke off; {todo}"
            found.add("schema-migrations", Status.DEGRADED, sentence, value=float(dirty[0]["version"]))
        else:
            version = max(int(row["version"]) for row in states)
            sentence = f"Langfuse's ClickHouse migrations are whole, up to {version}"
            found.add("schema-migrations", Status.OK, sentence, value=version)


async def _rows(server: Web, found: Findings, aspect: str, sql: str) -> list[Row] | None:
    """Run a query; None where the server would not, which is written down as unknown."""
    answer = await _ask(server, sql, deadline=True)
    rows: list[Row] | None = answer.json().get("data") if answer.status == 200 else None
    if rows is None:
        code = _code(answer)
        about = aspect.replace("-", " ")
        what = f"ClickHouse did not say (HTTP {answer.status}, code {code or 'none'}), so nobody looked at its {about}"
        remedy = "grant the user SELECT ON system.*" if code in _DENIED else "read its log"
        found.add(aspect, Status.UNKNOWN, f"{what}; {remedy}")
    return rows


async def _ask(server: Web, sql: str, *, deadline: bool = False) -> Answer:
    return await server.post("/", sql, query=_SETTINGS | (_DEADLINE if deadline else {}))


def _code(answer: Answer) -> str:
    return str(answer.headers.get("x-clickhouse-exception-code", ""))


_DISKS = """
SELECT max(100 * (1 - free_space / total_space)) AS used, min(free_space) AS free
FROM system.disks WHERE total_space > 0 AND total_space < 1e18 HAVING count() > 0
"""
_PARTS = """
SELECT database, table, count() AS parts FROM system.parts
WHERE active AND database != 'system' GROUP BY database, table, partition_id ORDER BY parts DESC LIMIT 1
"""
_MUTATIONS = """
SELECT database, table FROM system.mutations
WHERE NOT is_done AND (latest_fail_reason != '' OR create_time < now() - {seconds}) ORDER BY create_time LIMIT 100
"""
_REPLICATED = """
SELECT database, name FROM system.tables WHERE engine LIKE 'Replicated%' AND database != 'system' ORDER BY 1, 2 LIMIT 100
"""
_SYSTEM_LOGS = """
SELECT table, sum(bytes_on_disk) AS bytes FROM system.parts
WHERE database = 'system' AND table LIKE '%\\_log%' GROUP BY table ORDER BY bytes DESC
"""
_LEDGERS = """
SELECT DISTINCT database FROM system.columns WHERE table = 'schema_migrations' AND name = 'dirty'
AND database NOT IN ('system', 'INFORMATION_SCHEMA', 'information_schema')
AND NOT match(database, '__(restore|drill|kept|undone)_') ORDER BY 1 LIMIT 10
"""
_NEWEST = "SELECT version, dirty FROM {database}.schema_migrations ORDER BY sequence DESC LIMIT 1"
