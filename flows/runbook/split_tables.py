"""Whose is what in a Postgres database that LiteLLM and Langfuse share (facts: apps.md 1.7).

LiteLLM's tables are called `LiteLLM_...`; what a view reads says whose it is; everything else is Langfuse's. Prisma's ledger is
both's, and stays whole in both: a migration that is not its own is nothing to `prisma migrate deploy`, as it was before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from psycopg import Connection
from psycopg.rows import TupleRow

from blocks.errors import GuardRefused

__all__ = ["LEDGER", "Content", "Share", "is_shared", "read_content", "shares_of"]

LEDGER = "_prisma_migrations"
_LITELLM = "LiteLLM_"
_LANGFUSE = frozenset({"projects", "organizations", "api_keys"})
"""Without these it is no database of Langfuse."""


@dataclass(frozen=True)
class Content:
    """What is in a database.

    Attributes:
        tables: of the schema `public`, partitions apart. views: also materialised ones, and what each of them reads.
        links: foreign keys, as pairs of tables. elsewhere: tables of other schemas. failed: migrations that broke off.
    """

    tables: Sequence[str]
    views: Mapping[str, Collection[str]]
    links: Sequence[tuple[str, str]] = ()
    elsewhere: Sequence[str] = ()
    failed: Sequence[str] = ()


@dataclass(frozen=True)
class Share:
    """What is one application's: tables without the ledger, and views."""

    tables: tuple[str, ...]
    views: tuple[str, ...]


def is_shared(tables: Collection[str]) -> bool:
    """Say whether both applications have their tables there."""
    return any(one.startswith(_LITELLM) for one in tables) and set(tables) >= _LANGFUSE


def shares_of(content: Content) -> tuple[Share, Share]:
    """Say what is LiteLLM's, and what Langfuse's.

    Raises:
        GuardRefused: something belongs to both, or nobody knows whose it is.
    """
    mine = {one for one in content.tables if one.startswith(_LITELLM)}
    owner = {one: one in mine for one in content.tables if one != LEDGER}
    if content.elsewhere:
        raise _refusal(
            f"{', '.join(sorted(content.elsewhere)[:5])}: tables outside `public`, nobody knows whose; move them away"
        )
    if content.failed:
        raise _refusal(f"the migration {content.failed[0]} has failed, and would stop both; run failed-prisma-migration first")
    for one, other in content.links:
        if one in owner and other in owner and owner[one] != owner[other]:
            raise _refusal(f"{one} refers to {other} by a foreign key, and they belong to different applications; drop it")
    views = {view: _whose(view, content.views, owner, frozenset()) for view in content.views}
    both = [view for view, whose in views.items() if len(whose) > 1]
    if both:
        raise _refusal(f"the view {both[0]} reads tables of both; drop it, and make it anew where it is wanted")

    def share(litellm: bool) -> Share:
        named = tuple(sorted(one for one, is_mine in owner.items() if is_mine is litellm))
        return Share(
            named, tuple(sorted(view for view, whose in views.items() if whose == {litellm} or (not whose and not litellm)))
        )

    return share(True), share(False)


def read_content(connection: Connection[TupleRow]) -> Content:
    """Read it from the catalogue."""
    tables = [str(name) for (name,) in connection.execute(_TABLES)]
    views: dict[str, set[str]] = {str(name): set() for (name,) in connection.execute(_VIEWS)}
    for view, read in connection.execute(_READS):
        views.setdefault(str(view), set()).add(str(read))
    links = [(str(one), str(other)) for one, other in connection.execute(_LINKS)]
    elsewhere = [str(name) for (name,) in connection.execute(_ELSEWHERE)]
    failed = [str(name) for (name,) in connection.execute(_FAILED)] if LEDGER in tables else []
    return Content(tables, views, links, elsewhere, failed)


def _whose(view: str, views: Mapping[str, Collection[str]], owner: Mapping[str, bool], above: frozenset[str]) -> set[bool]:
    """Whose tables a view reads, also through others: of LiteLLM (True), of Langfuse (False)."""
    found: set[bool] = set()
    for one in views[view]:
        if one in owner:
            found.add(owner[one])
        elif one in views and one not in above:
            found |= _whose(one, views, owner, above | {view})
    return found


def _refusal(reason: str) -> GuardRefused:
    return GuardRefused(f"split-shared-database: nothing was changed: {reason}")


_MINE = """
  AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend e
    WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND e.objid = c.oid AND e.deptype = 'e')
"""
_TABLES = f"""
SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f') AND NOT c.relispartition AND n.nspname = 'public' {_MINE} ORDER BY 1
"""
_VIEWS = f"""
SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('v', 'm') AND n.nspname = 'public' {_MINE} ORDER BY 1
"""
_READS = """
SELECT DISTINCT c.relname, t.relname FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace AND n.nspname = 'public'
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
  AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
JOIN pg_catalog.pg_class t ON t.oid = d.refobjid AND t.oid <> c.oid
WHERE c.relkind IN ('v', 'm') ORDER BY 1, 2
"""
_LINKS = """
SELECT DISTINCT f.relname, t.relname FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class f ON f.oid = k.conrelid
JOIN pg_catalog.pg_class t ON t.oid = k.confrelid WHERE k.contype = 'f' ORDER BY 1, 2
"""
_ELSEWHERE = f"""
SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm') AND n.nspname !~ '^pg_'
  AND n.nspname NOT IN ('public', 'information_schema') {_MINE} ORDER BY 1
"""
_FAILED = """
SELECT migration_name FROM public._prisma_migrations WHERE finished_at IS NULL AND rolled_back_at IS NULL ORDER BY 1
"""
