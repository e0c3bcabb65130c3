"""Postgres: does it let us in, are connections left, does a transaction or a slot hold everything up, does it fill its volume.

One connection at a time, closed at once, that waits for no lock and opens no transaction: a restore's swap ends all connections
and renames databases, and a sweep must not be in its way. First the server as a whole, then each application's database.
"""

from __future__ import annotations

import time

import psycopg

from flows.health.checks.postgres_applications import look_into
from flows.health.checks.postgres_session import APPLICATION, Closed, Crowded, Session, session
from flows.health.findings import Findings, NoAnswer
from flows.health.observation import Status
from flows.health.targets import Limits, Postgres

__all__ = ["MAIN", "check"]

MAIN = "connect"

_XID_LAST = 2_140_000_000
"""A few million transactions before 2^31, from where on Postgres refuses writes."""


async def check(target: Postgres, found: Findings, limits: Limits) -> None:
    """Look at the server, then at the databases of the applications."""
    url = target.url.get_secret_value()
    databases: set[str] = set()
    with found.looking(MAIN, Status.DOWN):
        begun = time.monotonic()
        try:
            async with session(url) as opened:
                latency = (time.monotonic() - begun) * 1000
                found.add(MAIN, Status.OK, "Postgres answers", latency_ms=latency)
                databases = await _server(opened, target, found, limits)
        except Crowded:
            what = "Postgres has no connection left, so that no program gets in"
            todo = "end idle sessions (pg_stat_activity), lower the applications' connection limits or raise max_connections"
            sentence, limit = f"{what}; {todo}", limits.connections_percent
            found.add("connections", Status.DOWN, sentence, value=100, limit=limit, unit="%")
            return
        except Closed:
            raise NoAnswer("takes no connections to the database that the sweep looks from") from None
    for service, database in target.applications:
        if database in databases:
            await look_into(url, service, database, found, dict(target.keys).get(service))


async def _server(opened: Session, target: Postgres, found: Findings, limits: Limits) -> set[str]:
    """Look at what concerns all databases; returns their names."""
    with found.looking("connections", Status.DEGRADED):
        ((most, used, age, sees_all),) = await opened.rows(_NUMBERS)
        percent = round(100 * int(used) / int(most), 1)
        text = f"{used} of {most} connections of Postgres are used, expected at most {limits.connections_percent:g} %"
        todo = "lower connection_limit of the applications, or raise max_connections"
        found.measure("connections", percent, limits.connections_percent, "%", text, todo)
        _wraparound(int(age), found, limits)
        with found.looking("longest-transaction", Status.DEGRADED):
            await _transactions(opened, bool(sees_all), found, limits)
    await _slots(opened, found)
    databases: set[str] = set()
    with found.looking("database-sizes", Status.DEGRADED):
        databases = await _sizes(opened, target, found, limits)
    missing = [f"{database} of {service}" for service, database in target.applications if database not in databases]
    if databases and missing:
        # down: whoever uses it is its casualty, and no restart of theirs helps, or makes an empty one that hides the loss
        todo = "restore it (restore-database), or correct LITELLM_DATABASE and LANGFUSE_DATABASE"
        named = " and no database ".join(missing)
        found.add("databases", Status.DOWN, f"there is no database {named} in Postgres; {todo}")
    elif databases and target.applications:
        found.add("databases", Status.OK, "the applications' databases are there")
    return databases


def _wraparound(age: int, found: Findings, limits: Limits) -> None:
    text = f"{age:,} transactions of Postgres since the oldest freeze, expected at most {limits.xid_age:,.0f}"
    todo = "end long transactions and unused slots, then VACUUM FREEZE the oldest database"
    if age >= _XID_LAST:
        sentence = f"Postgres refuses writes, or will in a moment: {text}; {todo}"
        found.add("wraparound", Status.DOWN, sentence, value=age, limit=limits.xid_age, unit="transactions")
    else:
        found.measure("wraparound", age, limits.xid_age, "transactions", text, todo)


async def _transactions(opened: Session, sees_all: bool, found: Findings, limits: Limits) -> None:
    if not sees_all:
        todo = "GRANT pg_monitor to the role of POSTGRES_BACKUP_URL"
        what = "the transactions of other roles are hidden from the sweep, so nobody looked for long ones"
        found.add("longest-transaction", Status.UNKNOWN, f"{what}; {todo}")
        return
    rows = await opened.rows(_LONGEST, [f"{APPLICATION.split()[0]}%"])
    seconds, state, database = rows[0] if rows else (0, "", "")
    where = f" ({state}, database {database})" if rows else ""
    text = (
        f"the longest transaction in Postgres is {seconds:.0f} s old{where}, expected at most {limits.transaction_seconds:g} s"
    )
    todo = "it stops vacuum and holds locks: find it in pg_stat_activity, end it with pg_terminate_backend"
    found.measure("longest-transaction", round(float(seconds), 1), limits.transaction_seconds, "seconds", text, todo)


async def _slots(opened: Session, found: Findings) -> None:
    with found.looking("replication-slots", Status.DEGRADED):
        rows = await opened.rows(_SLOTS)
        kept = float(sum(int(row[1] or 0) for row in rows))
        text = f"{len(rows)} replication slots of Postgres are not in use, expected none"
        name = f"{rows[0][0]} " if rows else ""
        todo = f"{name}keeps {kept / 1e6:.0f} MB of WAL and more every hour: start its reader, or pg_drop_replication_slot"
        found.measure("replication-slots", len(rows), 0, "slots", text, todo)


async def _sizes(opened: Session, target: Postgres, found: Findings, limits: Limits) -> set[str]:
    rows = await opened.rows(_SIZES)
    total = float(sum(int(size or 0) for _, size in rows))
    try:
        ((wal,),) = await opened.rows(_WAL)
        total += float(wal)
    except psycopg.errors.InsufficientPrivilege:
        pass  # only pg_monitor may know; the databases are most of it
    largest = ", ".join(f"{name} {int(size or 0) / 1e9:.1f} GB" for name, size in rows[:2])
    what = f"Postgres' databases take {total / 1e9:.1f} GB ({largest})"
    limit = target.volume_bytes * limits.volume_percent / 100
    if limit:
        text = f"{what}, expected at most {limit / 1e9:.1f} GB of {target.volume_bytes / 1e9:g} GB"
        todo = "grow the volume now, then shorten the retention of spend logs; a full volume stops Postgres"
        found.measure("database-sizes", total, limit, "bytes", text, todo)
    else:
        found.add("database-sizes", Status.OK, what, value=total, unit="bytes")
    return {str(name) for name, _ in rows}


_NUMBERS = """
SELECT current_setting('max_connections')::int,
  (SELECT coalesce(sum(numbackends), 0)::int FROM pg_catalog.pg_stat_database),
  (SELECT max(pg_catalog.age(datfrozenxid)) FROM pg_catalog.pg_database),
  pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE')
"""
_LONGEST = """
SELECT extract(epoch FROM clock_timestamp() - begun)::float8, state, datname FROM (
  SELECT xact_start AS begun, state, datname FROM pg_catalog.pg_stat_activity
  WHERE backend_type = 'client backend' AND xact_start IS NOT NULL AND pid <> pg_catalog.pg_backend_pid()
    AND application_name NOT LIKE %s
  UNION ALL SELECT prepared, 'prepared', database FROM pg_catalog.pg_prepared_xacts) AS t
ORDER BY begun LIMIT 1
"""
_SLOTS = """
SELECT slot_name, pg_catalog.pg_wal_lsn_diff(
  CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
    ELSE pg_catalog.pg_current_wal_lsn() END, restart_lsn)
FROM pg_catalog.pg_replication_slots WHERE NOT active AND NOT temporary ORDER BY 2 DESC NULLS LAST
"""
_SIZES = """
SELECT datname, CASE WHEN pg_catalog.has_database_privilege(oid, 'CONNECT')
  OR pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE') THEN pg_catalog.pg_database_size(oid) END
FROM pg_catalog.pg_database ORDER BY 2 DESC NULLS LAST
"""
_WAL = "SELECT coalesce(sum(size), 0)::float8 FROM pg_catalog.pg_ls_waldir()"
