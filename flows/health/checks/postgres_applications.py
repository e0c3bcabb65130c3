"""The applications' databases: did a migration break off, would the next be refused, is anything foreign in LiteLLM's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import psycopg
from pydantic import SecretStr

from flows.health.checks.postgres_session import Closed, Crowded, Session, session
from flows.health.checks.sealed_secrets import look_at_sealed
from flows.health.findings import Findings
from flows.health.observation import Status

__all__ = ["NOT_OWNED", "look_into"]

Look = Callable[[Session, str, Findings], Awaitable[None]]


async def look_into(url: str, service: str, database: str, found: Findings, key: SecretStr | None = None) -> None:
    """Look into one database, on a connection of its own, and close it.

    Args:
        url: server URL. service: litellm or langfuse-web. key: that it seals its secrets with, where that is known.
    """
    ledger = _LEDGERS[service]
    with found.looking(ledger, Status.UNKNOWN):
        try:
            async with session(url, database) as opened:
                for look in (_migrations, _owners, *_OTHERS.get(service, ())):
                    await look(opened, ledger, found)
                if key is not None:
                    await look_at_sealed(opened, service, key, found)
        except Closed:
            what = f"the database of {service} takes no connections right now, as in the middle of a restore"
            found.add(
                ledger,
                Status.UNKNOWN,
                f"{what}, so nobody looked into it; if that lasts, ALTER DATABASE ... ALLOW_CONNECTIONS true",
            )
        except Crowded:
            found.add(ledger, Status.UNKNOWN, f"the database of {service} has no connection left, so nobody looked into it")
        except psycopg.errors.LockNotAvailable:
            what = f"tables of {service} are locked, as by a migration that is under way, so nobody looked into them"
            found.add(ledger, Status.UNKNOWN, f"{what}; if that lasts, look at pg_locks")
        except psycopg.errors.InsufficientPrivilege:
            what = f"the role of POSTGRES_BACKUP_URL may not read the database of {service}, so nobody looked into it"
            found.add(ledger, Status.UNKNOWN, f"{what}; GRANT pg_read_all_data to it")


async def _migrations(opened: Session, ledger: str, found: Findings) -> None:
    """A migration that began and neither ended nor was taken back stops the application's next boot (P3009)."""
    if not await _exists(opened, "_prisma_migrations"):
        return
    rows = await opened.rows(_FAILED)
    what = ledger.partition("-")[2].capitalize().replace("Litellm", "LiteLLM")
    text = f"{len(rows)} database migrations of {what} have failed, expected none"
    name = f"{rows[0][0]}; " if rows else ""
    todo = f"{name}see its logs column, mend the schema, then prisma migrate resolve, before the service is restarted"
    found.measure(ledger, len(rows), 0, "migrations", text, todo)


async def _owners(opened: Session, ledger: str, found: Findings) -> None:
    """A migration that alters what its role does not own is refused (42501), and the application ends at every start.

    The application's role is the database's owner: setup makes it so, and where one superuser does everything he is both. What
    another role owns got there by somebody's hand, mostly by a restore as that role.
    """
    aspect = "table-owners"
    if found.status(aspect) is Status.DEGRADED:
        return  # the other database's: one after the other
    rows = await opened.rows(_NOT_OWNED, [ledger == _LEDGERS["litellm"]])
    text = f"{len(rows)} tables, views or sequences do not belong to the owner of the application's database, expected none"
    todo = ""
    if rows:
        _, owner, first, database, expected = rows[0]
        names = ", ".join(str(row[0]) for row in rows[:3])
        all_of_it = "" if first else f", or REASSIGN OWNED BY {owner} TO {expected} in that database"  # which is refused
        how = f"run table-owner, or ALTER TABLE ... OWNER TO {expected}{all_of_it}"
        todo = f"{names} in {database} belong to {owner}, and its next migration ends with `must be owner`: {how}"
    found.measure(aspect, len(rows), 0, "relations", text, todo)


async def _foreign_tables(opened: Session, _ledger: str, found: Findings) -> None:
    """LiteLLM drops what its schema does not know: Langfuse's tables, where both share a database (facts: apps.md 1.7)."""
    rows = await opened.rows(_FOREIGN)
    text = f"{len(rows)} tables in LiteLLM's database are not LiteLLM's, expected none"
    names = ", ".join(str(name) for (name,) in rows[:3])
    what = f"({names}) an upgrade of LiteLLM may drop them"
    todo = f"{what}: give each application a database of its own (split-shared-database), before any upgrade"
    found.measure("foreign-tables", len(rows), 0, "tables", text, todo)


async def _background_migrations(opened: Session, _ledger: str, found: Findings) -> None:
    """They run in Langfuse's worker for hours after an upgrade; the next upgrade waits for them."""
    if not await _exists(opened, "background_migrations"):
        return
    failed, running, waiting, first = (await opened.rows(_BACKGROUND))[0]
    service, aspect = "langfuse-worker", "background-migrations"
    if failed:
        todo = "see failed_reason in background_migrations, then have it go on (background-migration)"
        sentence = f"{failed} background migrations of Langfuse have failed, expected none: {first}; {todo}"
        found.add(aspect, Status.DEGRADED, sentence, service=service, value=failed, limit=0, unit="migrations")
    else:
        sentence = f"background migrations of Langfuse: {running} running, {waiting} waiting, none failed"
        found.add(aspect, Status.OK, sentence, service=service, value=0, limit=0, unit="migrations")


async def _exists(opened: Session, table: str) -> bool:
    return bool(await opened.rows("SELECT 1 FROM pg_catalog.pg_tables WHERE schemaname = 'public' AND tablename = %s", [table]))


_LEDGERS = {"litellm": "migrations-litellm", "langfuse-web": "migrations-langfuse"}
_OTHERS: dict[str, tuple[Look, ...]] = {"litellm": (_foreign_tables,), "langfuse-web": (_background_migrations,)}

_FAILED = """
SELECT migration_name FROM public._prisma_migrations
WHERE finished_at IS NULL AND rolled_back_at IS NULL AND started_at < now() - interval '10 minutes'
UNION SELECT migration_name FROM public._prisma_migrations
WHERE finished_at IS NULL AND rolled_back_at IS NULL AND logs IS NOT NULL
ORDER BY 1
"""
_FOREIGN = """
SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
  AND c.relname !~ '^LiteLLM_' AND c.relname <> '_prisma_migrations'
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY 1
"""
NOT_OWNED = """
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm', 'S') AND NOT pg_catalog.pg_has_role(d.datdba, c.relowner, 'USAGE')
  AND (NOT %s OR c.relkind NOT IN ('r', 'p', 'f') OR c.relname ~ '^LiteLLM_' OR c.relname = '_prisma_migrations')
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend x WHERE x.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
    AND x.objid = c.oid AND (x.deptype = 'e' OR c.relkind = 'S' AND x.deptype IN ('a', 'i')))
"""
"""What an application cannot alter; its parameter: whether the database is LiteLLM's. Whoever has the privileges of a
relation's owner may alter it; a superuser has all. A table that is not LiteLLM's is another look's, an extension's view the
extension's, a column's sequence goes with its table."""
_NOT_OWNED = f"""
SELECT c.relname::text, pg_catalog.pg_get_userbyid(c.relowner)::text, c.relowner = 10, d.datname::text,
  pg_catalog.pg_get_userbyid(d.datdba)::text
{NOT_OWNED} ORDER BY 1
"""
"""Role 10 is the one of initdb."""
_BACKGROUND = """
SELECT count(*) FILTER (WHERE failed)::int, count(*) FILTER (WHERE open AND held)::int,
  count(*) FILTER (WHERE open AND NOT held)::int, min(name) FILTER (WHERE failed)
FROM (SELECT name, failed_at IS NOT NULL AS failed, failed_at IS NULL AND finished_at IS NULL AS open,
  coalesce(locked_at > now() - interval '1 minute', false) AS held FROM public.background_migrations) AS m
"""
